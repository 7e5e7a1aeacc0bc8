"""The text of Appendix A: top-1 with and without the horizontal flip."""

import pandas as pd

from .. import paper
from ..comparison import Comparison, Part, Place, cells, constant, listed, trained, varied
from ..presentation import bar_report, bars
from ..report import Report
from ..settings import random_encoder
from . import Artefact

WITH, WITHOUT = "with", "without"
TOP1 = "Top-1 (%)"
ROWS = listed(["Flip"], ["views.flip"], {True: WITH, False: WITHOUT})
COLUMNS = constant(TOP1)


def reports(artefact: Artefact, runs: pd.DataFrame) -> list[Report]:
    """One report for each setting with and without the flip."""
    return [bar_report(each, [bars(each, each.parts[0])]) for each in comparisons(artefact, runs)]


def comparisons(artefact: Artefact, runs: pd.DataFrame) -> list[Comparison]:
    result = []
    for setting in varied(trained(runs), artefact, [ROWS]):
        measured = cells(setting.runs, ROWS, COLUMNS)
        part = Part("", ROWS, COLUMNS, measured, published())
        result.append(Comparison(artefact, setting, [part], random_encoder(runs, setting)))
    return result


def published() -> dict[Place, float]:
    printed = paper.entries()["appendixA_augmentations"]["flip_ablation_top1"]
    return {(label, TOP1): float(printed[label]) for label in (WITH, WITHOUT)}
