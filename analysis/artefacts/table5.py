"""Table 5: entropy and contrastive accuracy of the last epoch, and top-1, by l2 norm of z and temperature."""

from dataclasses import replace
from typing import Any

import pandas as pd

from .. import paper
from ..bars import Bars
from ..comparison import Axis, Comparison, Part, Place, cells, constant, trained, varied
from ..presentation import bar_report, bars
from ..report import Report
from ..settings import random_encoder
from ..statistics import Accuracies
from . import Artefact

ENTROPY, CONTRASTIVE, TOP1 = "Entropy (nats)", "Contrastive acc. (%)", "Top-1 (%)"
METRICS = {
    ENTROPY: ("pretraining.entropy", 1.0),
    CONTRASTIVE: ("pretraining.accuracy", 100.0),
    TOP1: ("top1", 1.0),
}


def published() -> dict[Place, float]:
    return {
        ((norm, float(temperature)), metric): value
        for norm, temperature, *values in paper.entries()["table5_norm_temperature"]["values"]
        for metric, value in zip(METRICS, values, strict=True)
    }


def _norm_first(label: Any) -> tuple[bool, float]:
    norm, temperature = label
    return norm == "no", temperature


ROWS = Axis(
    ("l2 norm", "temperature"),
    ("loss.normalize", "loss.temperature"),
    lambda normalize, temperature: ("yes" if normalize else "no", temperature),
    list(dict.fromkeys(row for row, _ in published())),
    _norm_first,
)


NOTES = [
    "Entropy and contrastive accuracy follow the released code: each first view looks for its partner among the N "
    "second views of the batch, whatever the loss compares. So they depend on the batch size N: the entropy is at most "
    "ln N, which is 8.3 for the paper’s 4096.",
]


def reports(artefact: Artefact, runs: pd.DataFrame) -> list[Report]:
    """One report for each setting in which the norm or the temperature varies."""
    return [bar_report(each, panels(each), NOTES) for each in comparisons(artefact, runs)]


def comparisons(artefact: Artefact, runs: pd.DataFrame) -> list[Comparison]:
    finished = trained(runs)
    return [
        Comparison(
            artefact,
            setting,
            [part(setting.runs)],
            random_encoder(runs, setting),
            "Entropy and contrastive accuracy: means over the last epoch of pretraining.",
        )
        for setting in varied(finished[finished["loss.name"] == "nt_xent"], artefact, [ROWS])
    ]


def part(runs: pd.DataFrame) -> Part:
    measured: dict[Place, Accuracies] = {}
    for name, (metric, factor) in METRICS.items():
        measured |= cells(runs, ROWS, constant(name), metric, factor)
    columns = constant(TOP1, list(METRICS))
    return Part(
        name="",
        rows=ROWS,
        columns=columns,
        cells=measured,
        paper=published(),
        quantity="",
        untested=(ENTROPY, CONTRASTIVE),
        unranked=(ENTROPY, CONTRASTIVE),
    )


def panels(comparison: Comparison) -> list[list[Bars]]:
    """Ours above the paper's, with a panel for each column."""
    (whole,) = comparison.parts
    pairs = [bars(comparison, whole.only(name)) for name in METRICS]
    return [
        [
            replace(panel, title=panel.title if number == 0 else "")
            for number, panel in enumerate(row)
        ]
        for row in zip(*pairs, strict=True)
    ]
