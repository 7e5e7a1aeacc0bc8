"""Figure 1: top-1 of linear evaluation against the number of parameters, of SimCLR and of supervised training.

The runs are those of Table 6. Other methods' points are the paper's.
"""

import math
from dataclasses import replace
from functools import partial
from typing import Any

import pandas as pd

from .. import paper
from ..comparison import Comparison, Place
from ..curves import Curve, Curves, curve_page, describe_curves
from ..encoders import IMAGENET, millions_of
from ..presentation import report
from ..report import Report
from . import Artefact
from .table6 import NOTES as TABLE6_NOTES
from .table6 import ROWS, SIMCLR, SUPERVISED, TOP1
from .table6 import comparisons as of_table6

KEY = "fig1_sota_scatter"
OTHERS = "Other methods"
NOTES = [
    TABLE6_NOTES[1],
    "The paper’s points are read off its figure. Numbers of other methods are theirs: nothing of them was run here.",
]


def reports(artefact: Artefact, runs: pd.DataFrame) -> list[Report]:
    """One report for each setting that Table 6 has."""
    return [_report(each) for each in comparisons(artefact, runs)]


def comparisons(artefact: Artefact, runs: pd.DataFrame) -> list[Comparison]:
    """Table 6's, with top-1 alone and the figure's points beside it."""
    result = []
    for comparison in of_table6(artefact, runs):
        (part,) = comparison.parts
        only = replace(part.only(TOP1), paper=published(), quantity="top-1 (%)")
        result.append(replace(comparison, parts=[only]))
    return result


def published() -> dict[Place, float]:
    return {((method, name), TOP1): y for method, name, _, y in points()}


def points() -> list[tuple[str, str, float, float]]:
    """Method, name of the encoder, parameters in millions and top-1 of each of the paper's points."""
    result = []
    for name, size, top1, _ in paper.entries()[KEY]["values"]:
        method, _, width = name.partition(" (")
        if method in (SIMCLR, SUPERVISED):
            encoder = f"ResNet-50 ({width}" if width else "ResNet-50"
            result.append((method, encoder, float(size), float(top1)))
        else:
            result.append((OTHERS, name, float(size), float(top1)))
    return result


def panels(comparison: Comparison) -> list[Curves]:
    """Ours beside the paper's."""
    (part,) = comparison.parts
    rows: list[Any] = [row for row, _ in part.cells]
    sizes = millions_of(comparison.setting.runs, ROWS)
    ours = []
    for (method, encoder), cell in zip(rows, part.cells.values(), strict=True):
        estimate, size = cell.estimate(), sizes[method, encoder]
        if not math.isnan(size):
            ours.append((method, encoder, size, estimate.mean, estimate.half))
    theirs = [(*point, math.nan) for point in points()]
    return [_panel(f"Ours: {comparison.setting.label}", ours), _panel(IMAGENET, theirs)]


def _panel(title: str, drawn: list[tuple[str, str, float, float, float]]) -> Curves:
    curves = []
    for method in dict.fromkeys([SIMCLR, SUPERVISED, *(point[0] for point in drawn)]):
        of_it = [(x, y, half) for name, _, x, y, half in drawn if name == method]
        if of_it:
            curves.append(Curve(method, *zip(*of_it, strict=True)))
    labels = [
        (x, y if math.isnan(half) else y - half, encoder.replace("esNet-", ""))
        for _, encoder, x, y, half in drawn
    ]
    return Curves(title, "Parameters (millions)", "Top-1 (%)", curves, labels, log_x=True)


def _report(comparison: Comparison) -> Report:
    drawn = panels(comparison)
    return report(comparison, describe_curves(drawn), partial(curve_page, [drawn]), NOTES)
