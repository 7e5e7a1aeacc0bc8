"""Table B.2 and the text of App. B.2: more augmentations in pretraining, by width of the encoder.

The table has top-1 and top-5 after fine-tuning on 1%, 10% and all of the labels; the text has the top-1 of linear
evaluation, and how much of it is due to the added augmentations.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import pandas as pd

from simclr_ablate.terminal import count

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
)
from ..encoders import ENCODERS, IMAGENET, shape
from ..presentation import bar_report, bars
from ..report import Report
from ..settings import Setting, encoder_name, pairs, plain_values, settings
from ..statistics import Accuracies
from . import Artefact
from .table7 import ALSO

LINEAR, TUNED = "linear evaluation", "training on labels"
DEFAULT, BROADER = "SimCLR’s", "broader"
VIEWS = {None: DEFAULT, "broader": BROADER}
ALL = math.inf
SHARES = {0.01: "1%", 0.1: "10%", ALL: "100%"}
METRICS = {"top-1": "top1", "top-5": "top5"}
"""The columns of each share of labels."""


def _order(row: Any) -> tuple[tuple[int, int], bool]:
    encoder, views = row
    return shape(encoder), views == BROADER


ROWS = Axis(
    ["Encoder", "Augmentations"],
    [*ENCODERS.keys, "views.extra"],
    lambda architecture, width, extra: (
        (encoder_name(architecture, width), VIEWS[extra]) if extra in VIEWS else None
    ),
    order=_order,
)


def _share(metric: str, protocol: str, labels: float | None) -> str | None:
    if protocol != "few_labels":
        return None
    share = SHARES.get(ALL if labels is None else labels)
    return f"{share} {metric}" if share else None


def _columns(metric: str) -> Axis:
    names = [f"{share} {metric}" for share in SHARES.values() for metric in METRICS]
    keys = ["evaluation.protocol", "evaluation.labels"]
    return Axis(["Labels"], keys, partial(_share, metric), names, names.index)


LINEAR_COLUMN = listed([""], ["evaluation.protocol"], {"linear_sgd": "Top-1 (%)"})

NOTES = [
    "Broader: equalize, solarize, Sobel and motion blur, after SimCLR’s augmentations. The paper does not say how "
    "often or how strongly; here each of the four is applied to one view in five.",
    "1%, 10%, 100%: the share of labels on which the encoder and a linear classifier were trained.",
    "The paper prints no numbers for its default augmentations in this table, except 80.1 and 95.2 for ResNet-50 "
    "(4x) on all labels. For linear evaluation, its text gives the gain, from which the numbers without are taken.",
]


def reports(artefact: Artefact, runs: pd.DataFrame) -> list[Report]:
    """One report for each setting with the added augmentations."""
    return [
        bar_report(each, [[panel] for part in each.parts for panel in bars(each, part)], NOTES)
        for each in comparisons(artefact, runs)
    ]


def comparisons(artefact: Artefact, runs: pd.DataFrame) -> list[Comparison]:
    finished = trained(runs)
    linear, tuned = (
        settings(finished[finished["evaluation.protocol"] == protocol], artefact.name, free)
        for protocol, free in (
            ("linear_sgd", free_keys([ROWS])),
            ("few_labels", free_keys([ROWS], ["evaluation.labels", *ALSO])),
        )
    )
    free = free_keys([ROWS], ["evaluation"])
    together = pairs(artefact.name, linear, tuned, free, "few labels", alone=True)
    return [
        _comparison(artefact, setting)
        for setting in together
        if ("broader",) in plain_values(setting.runs, ["views.extra"])
    ]


def _comparison(artefact: Artefact, setting: Setting) -> Comparison:
    tuned: dict[Place, Accuracies] = {}
    for metric, column in METRICS.items():
        tuned |= cells(setting.runs, ROWS, _columns(metric), column)
    linear = cells(setting.runs, ROWS, LINEAR_COLUMN)
    parts = [
        Part(LINEAR, ROWS, LINEAR_COLUMN, linear, linear_published()),
        Part(TUNED, ROWS, _columns("top-1"), tuned, published(), quantity="accuracy (%)"),
    ]
    return Comparison(
        artefact,
        setting,
        [replace(part, untested=part.column_labels) for part in parts if part.cells],
        remark=f"SimCLR: {count(setting.config['optimizer.epochs'], 'epoch')}.",
        quantity="Accuracy (%)",
        method="of a linear classifier by SGD on frozen h, and of encoders trained on labels",
        printed_on=IMAGENET,
    )


def linear_published() -> dict[Place, float]:
    """The text's top-1 with the added augmentations, and without: the difference to the gain."""
    printed: Mapping[str, list[float]] = _entry()["linear_top1"]
    (column,) = LINEAR_COLUMN.labels
    result: dict[Place, float] = {}
    for width, (top1, gain) in printed.items():
        encoder = encoder_name("resnet50", int(width.removesuffix("x")))
        result[(encoder, DEFAULT), column] = round(top1 - gain, 1)
        result[(encoder, BROADER), column] = top1
    return result


def published() -> dict[Place, float]:
    table = _entry()["tableB2"]
    columns = [name.replace("top", "top-") for name in table["columns"]]
    result: dict[Place, float] = {
        ((encoder, BROADER), column): float(value)
        for encoder, values in zip(table["rows"], table["values"], strict=True)
        for column, value in zip(columns, values, strict=True)
    }
    widest = encoder_name("resnet50", 4)
    without = zip(METRICS, _entry()["without_broader_augs_100pct_4x"], strict=True)
    for name, value in without:
        result[(widest, DEFAULT), f"100% {name}"] = float(value)
    return dict(sorted(result.items(), key=lambda item: _order(item[0][0])))


def _entry() -> dict[str, Any]:
    entry: dict[str, Any] = paper.entries()["appendix_b2_broader_augmentation"]
    return entry
