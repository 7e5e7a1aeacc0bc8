"""Table 1: top-1 by strength of colour distortion, for SimCLR and for supervised training."""

import math
from fractions import Fraction

import pandas as pd

from .. import paper
from ..comparison import (
    Axis,
    Comparison,
    Part,
    Place,
    cells,
    free_keys,
    listed,
    trained,
    varied,
)
from ..presentation import bar_report, bars
from ..report import Report
from ..settings import Setting, pairs, random_encoder
from . import Artefact

SIMCLR, SUPERVISED = "SimCLR", "Supervised"
AUTOAUGMENT = "AutoAug"
BLUR = " (+Blur)"
CROP, NO_JITTER = OURS = ("Crop (ours)", "0 (ours)")
"""Columns that the paper does not have: what its strengths start from."""

# A supervised run has no head and no loss, and may be trained in another way.
SUPERVISED_FREE = ("objective", "head", "loss", "optimizer")


def beside() -> dict[Place, float]:
    """The paper's numbers at all our columns; NaN in those that the paper does not have."""
    numbers = published()
    rows = dict.fromkeys(row for row, _ in numbers)
    return {(row, column): math.nan for row in rows for column in OURS} | numbers


def published() -> dict[Place, float]:
    return {
        (SIMCLR if row.startswith(SIMCLR) else row, column): value
        for (row, column), value in paper.cells("table1_color_strength").items()
    }


def _name(policy: str, strength: float, blur: bool) -> str | None:
    if policy == "autoaugment":
        return AUTOAUGMENT
    if policy == "crop":
        return CROP
    if policy != "simclr":
        return None
    if strength == 0 and not blur:
        return NO_JITTER
    return str(Fraction(strength).limit_denominator(64)) + (BLUR if blur else "")


def _order(column: str) -> tuple[int, bool, Fraction]:
    if column in OURS:
        return -1, False, Fraction(OURS.index(column))
    if column == AUTOAUGMENT:
        return 1, False, Fraction(0)
    return 0, column.endswith(BLUR), Fraction(column.removesuffix(BLUR))


ROWS = listed(["Training"], ["objective"], {"contrastive": SIMCLR, "supervised": SUPERVISED})
COLUMNS = Axis(
    ["Colour distortion"],
    ["views.policy", "views.strength", "views.blur"],
    _name,
    list(dict.fromkeys(column for _, column in beside())),
    _order,
)


def reports(artefact: Artefact, runs: pd.DataFrame) -> list[Report]:
    """One report for each setting in which SimCLR or supervised training has two or more columns."""
    return [
        bar_report(each, [bars(each, each.parts[0], "rows")], NOTES)
        for each in comparisons(artefact, runs)
    ]


NOTES = [
    "The paper trained SimCLR for 100 epochs, and its supervised encoders for 90.",
    "AutoAug: AutoAugment’s policy in place of colour distortion and blur.",
    "(ours): not in the paper, so not compared with it. Crop is random crop and flip alone; strength 0 adds grayscale "
    "(p 0.2).",
]


def comparisons(artefact: Artefact, runs: pd.DataFrame) -> list[Comparison]:
    simclr, supervised = (
        varied(trained(runs, objective), artefact, [COLUMNS])
        for objective in ("contrastive", "supervised")
    )
    free = free_keys([COLUMNS], SUPERVISED_FREE)
    result = []
    for setting in pairs(artefact.name, simclr, supervised, free, "supervised", alone=True):
        part = Part(
            name="",
            rows=ROWS,
            columns=COLUMNS,
            cells=cells(setting.runs, ROWS, COLUMNS),
            paper=beside(),
            untested=[SUPERVISED],
            unranked=[SUPERVISED, *OURS],
        )
        random = random_encoder(runs, setting)
        result.append(Comparison(artefact, setting, [part], random, remark(setting)))
    return result


def remark(setting: Setting) -> str:
    """How the two rows differ, in words."""
    text = "Only SimCLR’s row is tested and ranked."
    if "supervised" in set(setting.runs["objective"]):
        differing = ", ".join(
            f"{key.rpartition('.')[2]} {value}"
            for key, value in setting.config.items()
            if key.startswith("supervised optimizer.")
        )
        text += " Supervised: top-1 of the classifier trained with the encoder"
        text += f"; {differing}." if differing else "."
    return text
