"""Table B.4: top-1 after training on 1% and 10% of the labels; Table 7 has the top-5."""

import pandas as pd

from .. import paper
from ..comparison import Comparison, Place
from ..presentation import bar_report, bars
from ..report import Report
from . import Artefact
from .table7 import NOTES, by_share, few_labels


def reports(artefact: Artefact, runs: pd.DataFrame) -> list[Report]:
    """One report for each setting that Table 7 has."""
    return [
        bar_report(each, [[panel] for panel in bars(each, each.parts[0])], NOTES)
        for each in comparisons(artefact, runs)
    ]


def comparisons(artefact: Artefact, runs: pd.DataFrame) -> list[Comparison]:
    return few_labels(artefact, runs, "top1", "top-1 (%)", published())


def published() -> dict[Place, float]:
    return by_share(paper.entries()["tableB4_few_labels_top1"]["values"])
