"""Figure 9: top-1 by batch size and length of training, with linear scaling of the learning rate."""

import pandas as pd

from .. import paper
from ..comparison import Axis, Comparison, Part, cells, trained, varied
from ..presentation import bar_report, bars
from ..report import Report
from ..settings import random_encoder
from . import Artefact

BATCH_SIZE = Axis(["Batch size"], ["optimizer.batch_size"], lambda size: size)
EPOCHS = Axis(["Epochs"], ["optimizer.epochs"], lambda epochs: epochs)


def reports(artefact: Artefact, runs: pd.DataFrame) -> list[Report]:
    """One report for each setting in which the batch size or the length of training varies."""
    return [bar_report(each, [bars(each, each.parts[0])]) for each in comparisons(artefact, runs)]


def comparisons(artefact: Artefact, runs: pd.DataFrame) -> list[Comparison]:
    finished = trained(runs)
    linear = finished[finished["optimizer.lr_rule"] == "linear"]
    return [
        Comparison(artefact, setting, [part(setting.runs)], random_encoder(runs, setting))
        for setting in varied(linear, artefact, [BATCH_SIZE, EPOCHS])
    ]


def part(runs: pd.DataFrame) -> Part:
    measured = cells(runs, BATCH_SIZE, EPOCHS)
    return Part("", BATCH_SIZE, EPOCHS, measured, paper.cells("fig9_batch_size_epochs"))
