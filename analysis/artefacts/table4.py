"""Table 4: top-1 by loss, each with its own hyperparameters; negatives from one view only.

The paper tunes each loss (App. B.10) and does not print which values won. Here, a loss is reported with the values that
are best on the validation split, of those that were run, on seeds that took no part in the choice.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from .. import paper
from ..bars import Bars
from ..comparison import (
    Comparison,
    Label,
    Part,
    cells,
    constant,
    listed,
    read_labels,
    spell,
    trained,
    varied,
)
from ..presentation import bar_report, bars
from ..report import Report
from ..settings import plain_values, random_encoder
from ..tuning import Tuned, tuned
from . import Artefact

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
TOP1 = constant("Top-1 (%)")


def reports(artefact: Artefact, runs: pd.DataFrame) -> list[Report]:
    """One report for each setting with two or more losses."""
    return [bar_report(each, [panels(each)], NOTES) for each in comparisons(artefact, runs)]


NOTES = ["(sh): semi-hard negatives. All losses: z is l2-normalised, negatives are from one view."]


def comparisons(artefact: Artefact, runs: pd.DataFrame) -> list[Comparison]:
    chosen = trained(runs)
    chosen = chosen[(chosen["loss.negatives"] == "one") & chosen["loss.normalize"].astype(bool)]
    result = []
    for setting in varied(chosen, artefact, [LOSSES], also=TUNED):
        reported, best = tuned(setting.runs, LOSSES, TUNED)
        if len(best) > 1:
            part = Part("", TOP1, LOSSES, cells(reported, TOP1, LOSSES), published(), "")
            random, text = random_encoder(runs, setting), remark(setting.runs, best)
            tuning = [run_id for each in best.values() for run_id in each.run_ids]
            result.append(Comparison(artefact, setting, [part], random, text, tuning=tuning))
    return result


def published() -> dict[tuple[Label, Label], float]:
    entry = paper.entries()["table4_loss_comparison"]
    (row,) = TOP1.labels
    return {
        (row, name): value for name, value in zip(entry["columns"], entry["values"], strict=True)
    }


def panels(comparison: Comparison) -> list[Bars]:
    """Ours and the paper's. In the part, the row's label names the quantity; a picture needs its own."""
    (part,) = comparison.parts
    return bars(comparison, replace(part, quantity="top-1 (%)"), "rows")


def remark(runs: pd.DataFrame, best: Mapping[Label, Tuned]) -> str:
    """The hyperparameters of each loss that its runs vary, and the seeds of the choice, in words."""
    tuned_keys = varied_keys(runs)
    losses = [label for label in LOSSES.labels if label in best]
    chosen = []
    for label in losses:
        values = {key: best[label].values[key] for key in tuned_keys[label]}
        words = [
            f"{key.rpartition('.')[2]} {' '.join(spell(value))}" for key, value in values.items()
        ]
        if words:
            chosen.append(f"{label}: {', '.join(words)}")
    if not chosen:
        return ""
    compared = {label: best[label] for label in losses if best[label].candidates > 1}
    return " ".join(
        [
            f"Best values on the validation split, of those that were run: {'; '.join(chosen)}.",
            *seeds_told(compared),
            *left_out_told(compared),
        ]
    )


def varied_keys(runs: pd.DataFrame) -> dict[Label, list[str]]:
    """The tuned keys that each loss's runs vary; some losses do not use all of them."""
    labels = read_labels(runs, LOSSES)
    tried: dict[Label, set[tuple[Any, ...]]] = defaultdict(set)
    for label, values in zip(labels, plain_values(runs, TUNED), strict=True):
        if label is not None:
            tried[label].add(values)
    return {
        label: [
            key
            for key, column in zip(TUNED, zip(*sets, strict=True), strict=True)
            if len(set(column)) > 1
        ]
        for label, sets in tried.items()
    }


def seeds_told(chosen: Mapping[Label, Tuned]) -> list[str]:
    """The seeds on which the losses' values were chosen, and those on which they are reported."""
    groups: dict[tuple[Any, ...], list[str]] = defaultdict(list)
    for label, best in chosen.items():
        groups[best.chosen_on, best.reported].append(str(label))
    sentences = []
    for (chosen_on, reported), labels in groups.items():
        losses = "" if len(groups) == 1 else f"{', '.join(labels)}: "
        if chosen_on == reported:
            text = f"chosen and reported on {seed_list(reported)}, which may be optimistic"
        else:
            text = f"chosen on {seed_list(chosen_on)}, reported on {seed_list(reported)}"
        sentences.append(f"{losses}{text if losses else text.capitalize()}.")
    return sentences


def left_out_told(chosen: Mapping[Label, Tuned]) -> list[str]:
    """The losses with candidates that could not be compared."""
    words = [
        f"{best.left_out} of {best.left_out + best.candidates} for {label}"
        for label, best in chosen.items()
        if best.left_out
    ]
    return [f"Candidates not compared, lacking these seeds: {', '.join(words)}."] if words else []


def seed_list(seeds: Sequence[int]) -> str:
    """`seed 0`, `seeds 0, 1, 2`."""
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"
