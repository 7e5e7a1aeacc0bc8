"""Figure B.2: top-1 by batch size and length of training, with square-root learning rate scaling.

Its batches are larger and its trainings longer than those of Table B.1, whose numbers are all that the paper prints.
"""

import pandas as pd

from .. import paper
from ..comparison import Comparison, Part, cells, trained, varied
from ..presentation import bar_report, bars
from ..report import Report
from ..settings import random_encoder
from . import Artefact
from .figure9 import BATCH_SIZE, EPOCHS


def reports(artefact: Artefact, runs: pd.DataFrame) -> list[Report]:
    """One report for each setting in which the batch size or the length of training varies."""
    return [
        # One above the other, since both axes are long.
        bar_report(each, [[panel] for panel in bars(each, each.parts[0])])
        for each in comparisons(artefact, runs)
    ]


REMARK = (
    "The paper’s figure goes up to batches of 32K images and to 3,200 epochs. Its only printed numbers are those of "
    "Table B.1."
)


def comparisons(artefact: Artefact, runs: pd.DataFrame) -> list[Comparison]:
    finished = trained(runs)
    sqrt = finished[finished["optimizer.lr_rule"] == "sqrt"]
    return [
        Comparison(artefact, setting, [part(setting.runs)], random_encoder(runs, setting), REMARK)
        for setting in varied(sqrt, artefact, [BATCH_SIZE, EPOCHS])
    ]


def part(runs: pd.DataFrame) -> Part:
    measured = cells(runs, BATCH_SIZE, EPOCHS)
    return Part("", BATCH_SIZE, EPOCHS, measured, paper.cells("tableB1_lr_scaling", "sqrt"))
