"""Figure B.5: training on few labels against linear evaluation, over lengths of pretraining.

The paper gives no numbers; it says that the two are almost linearly correlated. Figure B.6 is the same over encoders.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pandas as pd

from simclr_ablate.terminal import count

from ..comparison import (
    Axis,
    Comparison,
    Label,
    Part,
    cells,
    free_keys,
    placed,
    spell,
    trained,
)
from ..curves import Curve, Curves, curve_page, describe_curves
from ..presentation import report
from ..report import Report
from ..settings import pairs, settings
from ..statistics import Correlation, pearson, spearman
from . import Artefact
from .table7 import ALSO, SHARES

LINEAR = "linear"
EPOCHS = Axis(["Epochs"], ["optimizer.epochs"], lambda epochs: epochs)
LEAST = 3
"""With fewer points, there is nothing to correlate."""


def _column(protocol: str, labels: float | None) -> str | None:
    return LINEAR if protocol == "linear_sgd" else SHARES.get(labels) if labels else None


COLUMNS = Axis(
    ["Evaluation"],
    ["evaluation.protocol", "evaluation.labels"],
    _column,
    [LINEAR, *SHARES.values()],
    [LINEAR, *SHARES.values()].index,
)

NOTES = [
    "linear: linear evaluation by SGD. 1%, 10%: training of the encoder and a linear classifier on this share of the "
    "labels.",
    "Correlations are over the points, each the mean of its seeds. Their intervals come from 10,000 resamples of the "
    "points, which counts points as independent and leaves out the scatter of seeds. The paper gives no numbers.",
]


def reports(artefact: Artefact, runs: pd.DataFrame) -> list[Report]:
    """One report for each setting with three or more lengths of pretraining."""
    return [correlation_report(each) for each in comparisons(artefact, runs)]


def comparisons(artefact: Artefact, runs: pd.DataFrame) -> list[Comparison]:
    return correlated(artefact, runs, EPOCHS)


def correlated(artefact: Artefact, runs: pd.DataFrame, rows: Axis) -> list[Comparison]:
    """The table of linear evaluation and of few labels over `rows` in each setting."""
    usable = placed(trained(runs), rows, COLUMNS)
    linear, few = (
        settings(usable[usable["evaluation.protocol"] == protocol], artefact.name, free)
        for protocol, free in (
            ("linear_sgd", free_keys([rows])),
            ("few_labels", free_keys([rows], ["evaluation.labels", *ALSO])),
        )
    )
    result = []
    for setting in pairs(
        artefact.name, linear, few, free_keys([rows], ["evaluation"]), "few labels"
    ):
        measured = cells(setting.runs, rows, COLUMNS)
        part = Part("", rows, COLUMNS, measured, {}, untested=COLUMNS.labels)
        if max(len(points(part, share)) for share in SHARES.values()) >= LEAST:
            method = (
                "of a linear classifier by SGD on frozen h, and of encoders trained on few labels"
            )
            result.append(Comparison(artefact, setting, [part], method=method))
    return [replace(each, remark=_remark(each)) for each in result]


def points(part: Part, share: Label) -> list[Label]:
    """The rows with linear evaluation and this share of labels."""
    return [
        row for row in part.row_labels if (row, LINEAR) in part.cells and (row, share) in part.cells
    ]


def correlations(part: Part, share: Label) -> tuple[Correlation, Correlation]:
    """Pearson's and Spearman's of linear evaluation with training on this share of labels."""
    means = [
        [part.cells[row, column].estimate().mean for row in points(part, share)]
        for column in (LINEAR, share)
    ]
    return pearson(*means), spearman(*means)


def _remark(comparison: Comparison) -> str:
    (part,) = comparison.parts
    lines = []
    for share in SHARES.values():
        there = points(part, share)
        if len(there) >= LEAST:
            r, rho = correlations(part, share)
            lines.append(
                f"{share} of the labels against linear evaluation, over {count(len(there), 'point')}: Pearson’s r "
                f"{_spelt(r)}; Spearman’s ρ {_spelt(rho)}."
            )
    return "\n".join(lines)


def _spelt(correlation: Correlation) -> str:
    if math.isnan(correlation.rho):
        return "not defined"
    if math.isnan(correlation.low):
        return f"{correlation.rho:.2f} (too few points for an interval)"
    return f"{correlation.rho:.2f} ({correlation.low:.2f} to {correlation.high:.2f})"


def correlation_report(comparison: Comparison) -> Report:
    """The report: a panel for each share of labels."""
    (part,) = comparison.parts
    drawn = [panel(part, share) for share in SHARES.values() if points(part, share)]
    made = report(comparison, describe_curves(drawn), partial(curve_page, [drawn]), NOTES)
    data = pd.concat([made.data, pd.DataFrame(_rows(part))])
    return replace(made, data=data)


def panel(part: Part, share: Label) -> Curves:
    there = points(part, share)
    x, y = ([part.cells[row, column].estimate() for row in there] for column in (LINEAR, share))
    curve = Curve(
        part.rows.title,
        [each.mean for each in x],
        [each.mean for each in y],
        [each.half for each in y],
    )
    labels = [
        (one.mean, other.mean if math.isnan(other.half) else other.mean - other.half, _name(row))
        for one, other, row in zip(x, y, there, strict=True)
    ]
    return Curves(
        f"{share} of the labels",
        "Linear evaluation, top-1 (%)",
        "Few labels, top-1 (%)",
        [curve],
        labels,
    )


def _name(row: Label) -> str:
    return " ".join(spell(row)).replace("esNet-", "")


def _rows(part: Part) -> Sequence[dict[str, Any]]:
    """The correlations, for the data."""
    rows = []
    for share in SHARES.values():
        if len(points(part, share)) >= LEAST:
            for kind, found in zip(("pearson", "spearman"), correlations(part, share), strict=True):
                numbers = {"mean": found.rho, "low": found.low, "high": found.high}
                rows.append({"kind": kind, "column": share, **numbers, "run_ids": ""})
    return rows
