"""Figure B.1: top-5 by batch size and length of training, from the runs of Figure 9.

The paper's bars have no printed numbers.
"""

import pandas as pd

from .. import paper
from ..comparison import Comparison, Part, cells, trained, varied
from ..presentation import bar_report, bars
from ..report import Report
from ..settings import random_encoder
from . import Artefact
from .figure9 import BATCH_SIZE, EPOCHS

METRIC = "top5"


def reports(artefact: Artefact, runs: pd.DataFrame) -> list[Report]:
    """One report for each setting in which the batch size or the length of training varies."""
    return [bar_report(each, [bars(each, each.parts[0])]) for each in comparisons(artefact, runs)]


def comparisons(artefact: Artefact, runs: pd.DataFrame) -> list[Comparison]:
    finished = trained(runs)
    linear = finished[(finished["optimizer.lr_rule"] == "linear") & finished[METRIC].notna()]
    return [
        Comparison(
            artefact,
            setting,
            [part(setting.runs)],
            random_encoder(runs, setting, METRIC),
            quantity="Top-5 (%)",
        )
        for setting in varied(linear, artefact, [BATCH_SIZE, EPOCHS])
    ]


def part(runs: pd.DataFrame) -> Part:
    measured = cells(runs, BATCH_SIZE, EPOCHS, METRIC)
    printed = paper.cells("figB1_top5_batch_epochs")
    return Part("", BATCH_SIZE, EPOCHS, measured, printed, "top-5 (%)")
