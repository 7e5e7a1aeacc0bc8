"""Figure 9: top-1 by batch size and length of training, linear scaling of the learning rate."""

import pandas as pd

from analysis import paper
from analysis.comparison import Axis, Comparison, Part, cells, trained, varied
from analysis.presentation import bar_report, bars
from analysis.report import Report
from analysis.settings import random_encoder

BATCH_SIZE = Axis(["Batch size"], ["optimizer.batch_size"], lambda size: size)
EPOCHS = Axis(["Epochs"], ["optimizer.epochs"], lambda epochs: epochs)
FREE = (*BATCH_SIZE.keys, *EPOCHS.keys, "seed")


def reports(runs: pd.DataFrame) -> list[Report]:
    """One report for each setting with two or more of batch size and length."""
    return [bar_report(found, [bars(found, found.parts[0])]) for found in comparisons(runs)]


def comparisons(runs: pd.DataFrame) -> list[Comparison]:
    found = trained(runs)
    linear = found[found["optimizer.lr_rule"] == "linear"]
    return [
        Comparison("figure9", setting, [part(setting.runs)], random_encoder(runs, setting))
        for setting in varied(linear, "figure9", [BATCH_SIZE, EPOCHS], FREE)
    ]


def part(runs: pd.DataFrame) -> Part:
    found = cells(runs, BATCH_SIZE, EPOCHS)
    return Part("", BATCH_SIZE, EPOCHS, found, paper.cells("fig9_batch_size_epochs"))
