"""Table B.3: supervised top-1 by augmentation, for longer training and a wider encoder."""

import pandas as pd

from .. import paper
from ..comparison import Axis, Comparison, Part, cells, listed, trained, varied
from ..presentation import bar_report, bars
from ..report import Report
from ..settings import encoder_name
from . import Artefact

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


def reports(artefact: Artefact, runs: pd.DataFrame) -> list[Report]:
    """One report for each setting in which the augmentation, the length or the encoder varies."""
    return [
        bar_report(each, [bars(each, each.parts[0], "rows")])
        for each in comparisons(artefact, runs)
    ]


def comparisons(artefact: Artefact, runs: pd.DataFrame) -> list[Comparison]:
    printed = paper.cells("tableB3_supervised_longer")
    method = "of the classifier trained with the encoder"
    result = []
    for setting in varied(trained(runs, "supervised"), artefact, [ROWS, COLUMNS]):
        measured = cells(setting.runs, ROWS, COLUMNS)
        part = Part("", ROWS, COLUMNS, measured, printed, untested=COLUMNS.labels)
        result.append(Comparison(artefact, setting, [part], method=method))
    return result
