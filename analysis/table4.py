"""Table 4: top-1 by loss, each with its own hyperparameters; negatives from one view only.

The paper tunes each loss (App. B.10) and does not print which values won. Here, of the values that
were run, those that are best on the validation split stand for their loss.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import pandas as pd

from analysis import paper
from analysis.bars import bar_page
from analysis.comparison import (
    Comparison,
    Label,
    Part,
    bars,
    cells,
    constant,
    listed,
    report,
    spell,
    trained,
    tuned,
    varied,
)
from analysis.report import Report
from analysis.settings import plain_values, random_encoder

LOSSES = listed(
    ["Loss"],
    ["loss.name", "loss.semi_hard"],
    {
        ("margin_triplet", False): "Margin",
        ("nt_logistic", False): "NT-Logi.",
        ("margin_triplet", True): "Margin (sh)",
        ("nt_logistic", True): "NT-Logi.(sh)",
        ("nt_xent", False): "NT-Xent",
        ("nt_xent", None): "NT-Xent",
    },
)
TUNED = ("loss.temperature", "loss.margin", "loss.reduction", "optimizer.lr")
FREE = (*LOSSES.keys, *TUNED, "seed")
TOP1 = constant("Top-1 (%)")


def reports(runs: pd.DataFrame) -> list[Report]:
    """One report for each setting with two losses or more."""
    return [
        report(found, partial(bar_page, [bars(found, found.parts[0], "rows")]), NOTES)
        for found in comparisons(runs)
    ]


NOTES = ["(sh): semi-hard negatives. All losses: z is l2-normalised, negatives are of one view."]


def comparisons(runs: pd.DataFrame) -> list[Comparison]:
    found = trained(runs)
    found = found[(found["loss.negatives"] == "one") & found["loss.normalize"].astype(bool)]
    result = []
    for setting in varied(found, "table4", [LOSSES], FREE):
        chosen, best = tuned(setting.runs, LOSSES, TUNED)
        if len(best) > 1:
            part = Part("", TOP1, LOSSES, cells(chosen, TOP1, LOSSES), published(), "")
            random = random_encoder(runs, setting)
            result.append(Comparison("table4", setting, [part], random, remark(setting.runs, best)))
    return result


def published() -> dict[tuple[Label, Label], float]:
    entry = paper.entries()["table4_loss_comparison"]
    (row,) = TOP1.labels
    return {
        (row, name): value for name, value in zip(entry["columns"], entry["values"], strict=True)
    }


def remark(runs: pd.DataFrame, best: Mapping[Label, Mapping[str, Any]]) -> str:
    """Which hyperparameters each loss has, of those that the runs vary."""
    varied_keys = [key for key in TUNED if len(set(plain_values(runs, [key]))) > 1]
    told = []
    for label in LOSSES.complete(best):
        values = {key: best.get(label, {}).get(key) for key in varied_keys}
        words = [
            f"{key.rpartition('.')[2]} {' '.join(spell(value))}"
            for key, value in values.items()
            if value is not None
        ]
        if words:
            told.append(f"{label}: {', '.join(words)}")
    return f"Best on the validation split of what was run: {'; '.join(told)}." if told else ""
