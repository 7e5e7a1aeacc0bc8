"""Figure B.7: top-1 on CIFAR-10 by batch size and length of training, averaged over learning rates (App. B.9).

All runs have temperature 0.5. The paper's bars have no printed numbers; its text gives its best accuracy, and that of a
supervised network.
"""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from .. import paper
from ..comparison import Comparison, constant, spell, trained, varied
from ..presentation import bar_report
from ..report import Report
from ..settings import (
    Setting,
    accuracies,
    matching,
    only_setting,
    plain_values,
    random_encoder,
)
from ..spread import spread_bars, spread_parts, spreads
from ..statistics import Accuracies
from ..tuning import tuned
from ..typesetting import number
from . import Artefact
from .figure9 import BATCH_SIZE, EPOCHS

TEMPERATURE = 0.5
LR = "optimizer.lr"
NAMES = {
    "optimizer.batch_size": "batch size",
    "optimizer.epochs": "epochs",
    "loss.temperature": "temperature",
    LR: "learning rate",
}
ENTRY = "appendix_b9_cifar10"


def reports(artefact: Artefact, runs: pd.DataFrame) -> list[Report]:
    """One report for each setting with two or more learning rates."""
    return [
        bar_report(each, [[spread_bars(each, each.parts)]], NOTES)
        for each in comparisons(artefact, runs)
    ]


READING = [
    "The spread is the standard deviation (n - 1) over the runs of one seed, as the paper’s error "
    "bars are over its runs. It says how much the choice of these values matters, not how sure a "
    "mean is.",
    "The best are those with the highest accuracy on the validation split.",
]
NOTES = [*READING, "A cell is missing unless it has every learning rate of the others."]


def comparisons(artefact: Artefact, runs: pd.DataFrame) -> list[Comparison]:
    finished = trained(runs)
    chosen = finished[finished["loss.temperature"] == TEMPERATURE]
    result = []
    for setting in varied(chosen, artefact, [BATCH_SIZE, EPOCHS], also=[LR]):
        found = spreads(setting.runs, BATCH_SIZE, EPOCHS, [LR])
        if not found or setting.runs[LR].nunique() < 2:
            continue
        text = (
            f"Temperature {TEMPERATURE:g}. Means over learning rates ({spelt(setting.runs, LR)}). "
            "Error bars: their standard deviation, not an interval over seeds. "
            f"{best_run(setting.runs, list(NAMES))}"
        )
        result.append(
            Comparison(
                artefact,
                setting,
                spread_parts(found, BATCH_SIZE, EPOCHS, ["learning rate"]),
                random_encoder(runs, setting),
                text,
                references=supervised(runs, setting),
            )
        )
    return result


def spelt(runs: pd.DataFrame, key: str) -> str:
    """The values of a key among the runs, in words: `0.5, 1, 1.5`."""
    return ", ".join(" ".join(spell(value)) for value in sorted(set(runs[key].tolist())))


def best_run(runs: pd.DataFrame, keys: Sequence[str]) -> str:
    """Our best on the validation split, with its values of `keys`, and the paper's best, in words."""
    everywhere = constant("")
    shown, chosen = tuned(runs, everywhere, keys)
    sample = accuracies(shown)
    printed = paper.entries()[ENTRY]["best_linear"]
    theirs = f"The paper’s best on CIFAR-10: {number(printed['top1'])} (batch size {printed['batch']:,})."
    if sample is None:
        return theirs
    (label,) = everywhere.labels
    estimate, values = sample.estimate(), chosen[label].values
    where = ", ".join(f"{NAMES[key]} {' '.join(spell(values[key]))}" for key in keys)
    return (
        f"Best on the validation split: {number(estimate.mean, estimate.half)} ({where}). {theirs}"
    )


def supervised(runs: pd.DataFrame, setting: Setting) -> dict[str, Accuracies]:
    """Supervised training with the setting's data, views and encoder, by its name in the caption, if it was run."""
    trained_so = trained(runs, "supervised")
    config: dict[str, Any] = setting.config
    alike = matching(trained_so, config, ("objective", "optimizer", "seed"))
    sample = accuracies(only_setting(alike))
    if sample is None:
        return {}
    printed = paper.entries()[ENTRY]["supervised_same_arch_batch"]
    sizes = {size for (size,) in plain_values(alike, ["optimizer.batch_size"])}
    at = f" with batch size {sizes.pop():,}"
    return {f"Supervised{at} (the paper’s on CIFAR-10, with 1,024: {number(printed)})": sample}
