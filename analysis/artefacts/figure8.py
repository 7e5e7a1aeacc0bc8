"""Figure 8: top-1 on h with no, a linear or a nonlinear head, by output dimension; and h against z.

The paper compares h with z = g(h) only in words (Section 4.2): h is more than 10 points better.
"""

import math
from dataclasses import replace

import pandas as pd

from .. import paper
from ..bars import Bars
from ..comparison import Axis, Comparison, Label, Part, Place, cells, listed, trained, varied
from ..presentation import bar_report, bars
from ..report import Report
from ..settings import Setting, random_encoder
from ..statistics import Accuracies, mean_interval
from ..typesetting import number
from . import Artefact

KEY = "fig8_projection_head"
WIDTHS = {"resnet8": 128, "resnet18": 512, "resnet34": 512}
"""The width of h by architecture, at encoder width 1; 2048 for all others."""

KINDS = {"linear": "Linear", "nonlinear": "Non-linear", "none": "None"}
DIFFERENCE = "h - z"


def dimension(kind: str, dim: int, architecture: str, width: int) -> int:
    """The width of z; without a head, that is the width of h."""
    return dim if kind != "none" else width * WIDTHS.get(architecture, 2048)


HEADS = listed(["Projection"], ["head.kind"], KINDS)
DIMENSIONS = Axis(
    ["Output dimension"],
    ["head.kind", "head.dim"],
    dimension,
    given=["encoder.architecture", "encoder.width"],
)
FEATURES = listed(["Representation"], ["evaluation.features"], {"h": "h", "z": "z"})


def reports(artefact: Artefact, runs: pd.DataFrame) -> list[Report]:
    """One report for each setting in which the head, its dimension or the representation varies."""
    return [bar_report(each, panels(each), NOTES) for each in comparisons(artefact, runs)]


NOTES = [
    "The paper compares h with z only in words: with a nonlinear head, h is more than 10 points "
    "better.",
    f"{DIFFERENCE}: the difference within each seed, averaged over seeds.",
]


def comparisons(artefact: Artefact, runs: pd.DataFrame) -> list[Comparison]:
    result = []
    for setting in varied(trained(runs), artefact, [HEADS, DIMENSIONS, FEATURES]):
        of_h, of_both = heads(setting), representations(setting.runs)
        text = remark(of_h, of_both)
        random = random_encoder(runs, setting)
        result.append(Comparison(artefact, setting, [of_h, of_both], random, text))
    return result


def heads(setting: Setting) -> Part:
    """Figure 8 itself. Without a head, there is a single output dimension."""
    runs, config = setting.runs, setting.config
    on_h = cells(runs[runs["evaluation.features"] == "h"], HEADS, DIMENSIONS)
    without = dimension("none", 0, config["encoder.architecture"], config["encoder.width"])
    return Part(
        name="",
        rows=HEADS,
        columns=replace(DIMENSIONS, labels=[without]),
        cells=on_h,
        paper={place: value for place, value in paper.cells(KEY).items() if value == value},
        void=lambda row, column: row == KINDS["none"] and column != without,
    )


def representations(runs: pd.DataFrame) -> Part:
    """h against z with the nonlinear head. h is tested and ranked only in the first part."""
    both = cells(runs[runs["head.kind"] == "nonlinear"], FEATURES, DIMENSIONS)
    for column in {column for _, column in both}:
        if ("h", column) in both and ("z", column) in both:
            difference = within_seeds(both["h", column], both["z", column])
            both |= {(DIFFERENCE, column): difference} if difference.by_seed else {}
    printed: dict[Place, float] = {}
    for (row, column), value in paper.cells(KEY).items():
        if row == KINDS["nonlinear"]:
            printed |= {("h", column): value, ("z", column): math.nan}
    rows = [*FEATURES.labels, DIFFERENCE]
    return Part(
        name="nonlinear head",
        rows=replace(FEATURES, labels=rows, order=rows.index),
        columns=DIMENSIONS,
        cells=both,
        paper=printed,
        void=lambda row, column: row == DIFFERENCE and (row, column) not in both,
        untested=rows,
        unranked=rows,
    )


def within_seeds(sample: Accuracies, other: Accuracies) -> Accuracies:
    """The difference of two accuracies at each seed that both have."""
    common = sorted(set(sample.by_seed) & set(other.by_seed))
    differences = {seed: sample.by_seed[seed] - other.by_seed[seed] for seed in common}
    return Accuracies(differences, math.nan, (*sample.run_ids, *other.run_ids))


def panels(comparison: Comparison) -> list[list[Bars]]:
    """Heads above representations. The differences of representations are only in the table."""
    of_h, of_both = comparison.parts
    shown = {place: cell for place, cell in of_both.cells.items() if place[0] != DIFFERENCE}
    return [
        bars(comparison, of_h, "rows"),
        bars(comparison, replace(of_both, rows=FEATURES, cells=shown), "rows"),
    ]


def remark(of_h: Part, of_both: Part) -> str:
    """The three differences that the paper gives in its text, in words."""
    linear, nonlinear, none = (_row(of_h, name) for name in KINDS.values())
    without = dict.fromkeys(nonlinear, next(iter(none.values()))) if none else {}
    differences = [
        ("nonlinear over linear", lead(nonlinear, linear), "about 3"),
        ("nonlinear over none", lead(nonlinear, without), "more than 10"),
        ("h over z", lead(_row(of_both, "h"), _row(of_both, "z")), "more than 10"),
    ]
    words = [f"{name} {text} (paper: {claim})" for name, text, claim in differences if text]
    return f"Means over output dimensions, in points: {'; '.join(words)}." if words else ""


def lead(above: dict[Label, Accuracies], below: dict[Label, Accuracies]) -> str:
    """The difference within seeds, averaged over output dimensions; empty if there is none."""
    columns = [column for column in above if column in below]
    leads = [within_seeds(above[column], below[column]).by_seed for column in columns]
    common = set.intersection(*map(set, leads)) if leads else set()
    if not common:
        return ""
    by_seed = [sum(each[seed] for each in leads) / len(leads) for seed in common]
    estimate = mean_interval(by_seed)
    return number(estimate.mean, estimate.half)


def _row(part: Part, row: Label) -> dict[Label, Accuracies]:
    return {column: cell for (name, column), cell in part.cells.items() if name == row}
