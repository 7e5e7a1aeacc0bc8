"""Table B.3: supervised top-1 by augmentation, for longer training and a wider encoder."""

import pandas as pd

from analysis import paper
from analysis.comparison import Axis, Comparison, Part, cells, listed, trained, varied
from analysis.presentation import bar_report, bars
from analysis.report import Report
from analysis.settings import encoder_name

ROWS = Axis(
    ["Model", "Epochs"],
    ["encoder.architecture", "encoder.width", "optimizer.epochs"],
    lambda architecture, width, epochs: (encoder_name(architecture, width), epochs),
)
COLUMNS = listed(
    ["Augmentation"],
    ["views.policy", "views.blur"],
    {
        ("crop", None): "Crop",
        ("simclr", False): "+Color",
        ("simclr", True): "+Color+Blur",
    },
)
FREE = (*ROWS.keys, *COLUMNS.keys, "seed")


def reports(runs: pd.DataFrame) -> list[Report]:
    """One report for each setting with two or more of augmentation, length and encoder."""
    return [bar_report(found, [bars(found, found.parts[0], "rows")]) for found in comparisons(runs)]


def comparisons(runs: pd.DataFrame) -> list[Comparison]:
    printed = paper.cells("tableB3_supervised_longer")
    result = []
    for setting in varied(trained(runs, "supervised"), "tableB3", [ROWS, COLUMNS], FREE):
        found = cells(setting.runs, ROWS, COLUMNS)
        part = Part("", ROWS, COLUMNS, found, printed, untested=COLUMNS.labels)
        measured = "of the classifier that was trained with the encoder"
        result.append(Comparison("tableB3", setting, [part], measured=measured))
    return result
