"""Table 7: top-5 after training on 1% and 10% of the labels, by width of the encoder, and from random weights.

Table B.4 has the same evaluations' top-1.
"""

from dataclasses import replace
from typing import Any

import pandas as pd

from .. import paper
from ..comparison import Axis, Comparison, Part, Place, cells, free_keys, listed, placed
from ..comparison import trained as finished
from ..encoders import (
    ENCODERS,
    IMAGENET,
    label_of,
    method_name,
    pretrained_for,
    size_order,
    with_imported,
)
from ..presentation import bar_report, bars
from ..report import Report
from ..settings import Setting, matching, settings
from . import Artefact

SIMCLR, BASELINE = "SimCLR", "Supervised baseline"
SHARES = {0.01: "1%", 0.1: "10%"}


def _name(
    objective: str, architecture: str, width: int, lr: float, label: str | None
) -> tuple[str, str] | None:
    if objective == "supervised":
        return None
    if objective == "none":
        return f"{BASELINE}, lr {lr:g}", label_of(architecture, width)
    return method_name({"contrastive": SIMCLR}, objective, label), label_of(architecture, width)


def _order(row: Any) -> tuple[int, float, str, tuple[int, int]]:
    """SimCLR first, then imported encoders by name, then the baseline."""
    method, encoder = row
    if method == SIMCLR:
        return 0, 0.0, "", size_order(encoder)
    if is_baseline(method):
        return 2, float(method.rpartition(" ")[2]), "", size_order(encoder)
    return 1, 0.0, method, size_order(encoder)


def is_baseline(method: str) -> bool:
    """Whether a row is of the baseline, at some learning rate."""
    return method.startswith(f"{BASELINE}, lr ")


ROWS = Axis(
    ["Method", "Architecture"],
    ["objective", *ENCODERS.keys, "evaluation.lr", "encoder.label"],
    _name,
    order=_order,
)
COLUMNS = listed(["Labels"], ["evaluation.labels"], SHARES)
# The number of epochs goes with the share of labels: 60 with 1%, 30 with 10% in the paper.
ALSO = ("evaluation.epochs",)

NOTES = [
    "Our supervised baseline is the same training of the same encoder on the same labels, from random weights, with "
    "each of several learning rates. The paper’s baseline is that of Zhai et al. (2019), tuned for these labels.",
    "Other methods’ numbers are published ones, from the paper’s table: nothing of them was run here. Some of them see "
    "the unlabelled images while they train on the labels, or use other augmentations.",
    "Labels: the share of the training images whose labels are used, balanced over classes. All encoders of a seed "
    "see the same ones.",
]


def reports(artefact: Artefact, runs: pd.DataFrame) -> list[Report]:
    """One report for each setting in which SimCLR's encoders were trained on few labels."""
    return [
        # One above the other, since the names of methods are long.
        bar_report(each, [[panel] for panel in bars(each, each.parts[0])], NOTES)
        for each in comparisons(artefact, runs)
    ]


def comparisons(artefact: Artefact, runs: pd.DataFrame) -> list[Comparison]:
    return few_labels(artefact, runs, "top5", "top-5 (%)", published())


def few_labels(
    artefact: Artefact,
    runs: pd.DataFrame,
    metric: str,
    quantity: str,
    printed: dict[Place, float],
) -> list[Comparison]:
    """The table of one metric in each setting."""
    result = []
    for setting in trained_on_few(artefact, runs):
        part = Part(
            name="",
            rows=ROWS,
            columns=COLUMNS,
            cells=cells(setting.runs, ROWS, COLUMNS, metric),
            paper=printed,
            quantity=quantity,
            untested=list(SHARES.values()),
            unranked=[row for row, _ in printed if row[0] not in (SIMCLR, BASELINE)],  # type: ignore[index]
        )
        result.append(
            Comparison(
                artefact,
                setting,
                [part],
                remark=remark(setting),
                quantity=quantity[:1].upper() + quantity[1:],
                method="of the encoder and a linear classifier, trained together on few labels",
                printed_on=IMAGENET,
            )
        )
    return result


def trained_on_few(artefact: Artefact, runs: pd.DataFrame) -> list[Setting]:
    """The settings of SimCLR's and imported encoders on few labels, each with the baseline on the same labels.

    The learning rate is fixed for SimCLR, and free for the baseline.
    """
    usable = placed(runs, COLUMNS)
    free = free_keys([ENCODERS, COLUMNS], ALSO)
    random = usable[usable["objective"] == "none"]
    result = []
    simclr = settings(finished(usable), artefact.name, free)
    for setting in with_imported(artefact, simclr, finished(usable, "imported"), free):
        beside = matching(random, setting.config, (*free, "objective", "evaluation.lr"))
        together = pd.concat([setting.runs, beside])
        result.append(replace(setting, runs=together))
    return result


def remark(setting: Setting) -> str:
    """The lengths of pretraining and of training on labels, in words."""
    lengths = setting.runs.groupby("evaluation.labels")["evaluation.epochs"].unique()
    words = " and ".join(
        f"{'/'.join(str(n) for n in sorted(epochs))} epochs on {SHARES[labels]}"
        for labels, epochs in lengths.items()
    )
    before = pretrained_for(setting)
    return f"{f'{before} of pretraining. Then ' if before else ''}{words} of the labels."


def published() -> dict[Place, float]:
    groups = paper.entries()["table7_few_labels_top5"]["groups"].values()
    return by_share([row for group in groups for row in group])


def by_share(rows: list[list[Any]]) -> dict[Place, float]:
    """The paper's numbers by method and architecture, and by share of labels."""
    return {
        ((method, architecture), share): float("nan" if value is None else value)
        for method, architecture, *values in rows
        for share, value in zip(SHARES.values(), values, strict=True)
    }
