"""Figure 5: top-1 for single (diagonal) and paired augmentations on one branch, beside the paper's.

The 49 tests against the random encoder are not corrected for their number: of the cells that are really level with it,
about one in forty goes unmarked.
"""

import json
from pathlib import Path

import pandas as pd

from simclr_ablate.schema import OPERATION_NAMES, SHAPES_VERSION
from simclr_ablate.terminal import count

from .. import paper
from ..comparison import AVERAGE, Axis, Comparison, Part, Place, cells, free_keys, listed, trained
from ..presentation import map_report
from ..report import Report
from ..settings import (
    Setting,
    accuracies,
    matching,
    only_setting,
    plain_values,
    random_encoder,
    settings,
    shown,
)
from ..statistics import Accuracies
from ..typesetting import number
from . import Artefact

KEY = "fig5_augmentation_grid"
NAMES = {name: name.capitalize() for name in OPERATION_NAMES}
FIRST = listed(["1st transformation"], ["views.first"], NAMES)
SECOND = listed(["2nd transformation"], ["views.second"], NAMES)
MEASURED = Path(__file__).parents[1] / "measured.json"
SIMCLR = "SimCLR’s views on both branches"
TASK = "contrastive task"


def reports(artefact: Artefact, runs: pd.DataFrame) -> list[Report]:
    """One report for each setting with a finished run of a pair."""
    return [
        map_report(each, notes(more=len(each.parts[0].row_labels) > len(NAMES)))
        for each in comparisons(artefact, runs)
    ]


def comparisons(artefact: Artefact, runs: pd.DataFrame) -> list[Comparison]:
    finished = trained(runs)
    pairs = finished[finished["views.policy"] == "pair"]
    result = []
    for setting in settings(pairs, artefact.name, free_keys([FIRST, SECOND])):
        random, simclr = random_encoder(runs, setting), reference(finished, setting)
        references = {SIMCLR: simclr} if simclr else {}
        shown, behind = [part(setting.runs)], [task(setting.runs)]
        result.append(
            Comparison(
                *(artefact, setting, shown, random),
                references=references,
                behind=behind,
                elsewhere=elsewhere(setting),
            )
        )
    return result


def elsewhere(setting: Setting) -> dict[str, dict[Place, float]]:
    """Our grid on CIFAR-10, beside that of the embedded images, which stand for photographs (docs/data.md)."""
    data = setting.config
    if (data["data.name"], data["data.version"]) != ("shapes", SHAPES_VERSION):
        return {}
    measured = json.loads(MEASURED.read_text(encoding="utf-8"))
    return {
        f"{measured['name']}, {count(measured['seeds'], 'seed')}": {
            (NAMES[first], NAMES[second]): top1
            for first, of_row in measured["top1"].items()
            for second, top1 in of_row.items()
        }
    }


def part(runs: pd.DataFrame) -> Part:
    """The grid, with the means of its rows over the paper's operations. Others come after these."""
    printed = paper.cells(KEY)
    averages = {row: value for (row, column), value in printed.items() if column == AVERAGE}
    first, second = axes(runs)
    return Part(
        *("", first, second, cells(runs, first, second), published()),
        averages=averages,
        averaged=list(NAMES.values()),
    )


def published() -> dict[Place, float]:
    """The paper's grid, without the means of its rows."""
    return {place: top1 for place, top1 in paper.cells(KEY).items() if place[1] != AVERAGE}


def axes(runs: pd.DataFrame) -> tuple[Axis, Axis]:
    """The paper's operations, then others that the runs have, which go by the names that configs have for them."""
    pairs = plain_values(runs, ["views.first", "views.second"])
    others = sorted({name for pair in pairs for name in pair} - NAMES.keys())
    names = NAMES | {name: shown(name) for name in others}
    if len(set(names.values())) < len(names):  # long names that differ only in the middle
        names |= {name: f"{shown(name)} ({k})" for k, name in enumerate(others, 1)}
    first, second = (listed(axis.titles, axis.keys, names) for axis in (FIRST, SECOND))
    return first, second


def task(runs: pd.DataFrame) -> Part:
    """How often the contrastive task was solved in the last epoch of pretraining, percent."""
    first, second = axes(runs)
    solved = cells(runs, first, second, "pretraining.accuracy", 100.0)
    return Part(TASK, first, second, solved, {}, quantity="contrastive accuracy (%)")


def reference(runs: pd.DataFrame, setting: Setting) -> Accuracies | None:
    """SimCLR's own views on a setting's data, if they were run; without blur rather than with it."""
    simclr = runs[(runs["views.policy"] == "simclr") & runs["views.extra"].isna()]
    alike = matching(simclr, setting.config, free_keys([FIRST, SECOND], ["views.policy"]))
    blurred = alike["views.blur"].astype(bool)
    return accuracies(only_setting(alike[~blurred] if (~blurred).any() else alike))


def notes(more: bool = False) -> list[str]:
    """more: whether the grid has operations that the paper has not."""
    lines = ["An average is the mean of its row’s cells; it is missing if one of them is."]
    if more:
        lines = [
            "An average is the mean of its row’s cells with the paper’s operations; it is missing if one of them is."
        ]
    for row, printed, mean in rounded_averages():
        lines.append(
            f"The paper prints {printed:.1f} as the average of {row}; the mean of its printed "
            f"cells is {mean:.3f}. Both are rounded to 0.1, which explains the difference."
        )
    return lines


def rounded_averages() -> list[tuple[str, float, float]]:
    """The name, printed average and mean of the rows in which the two differ when rounded to 0.1.

    The paper's cells and averages are each within 0.05 of what was measured, so the two may be 0.1 apart.
    """
    table = paper.table(KEY)
    means = table[list(NAMES.values())].mean(axis=1)
    return [
        (str(name), printed, mean)
        for name, printed, mean in zip(table.index, table[AVERAGE], means, strict=True)
        if number(mean) != number(printed)
    ]
