"""Encoders by depth and width, with their parameters, and the supervised encoders beside them."""

import math
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from simclr_ablate.config import is_own
from simclr_ablate.models.sizes import parameters
from simclr_ablate.store import Run
from simclr_ablate.terminal import count

from .artefacts import Artefact
from .comparison import Axis, Label, free_keys, read_labels
from .parameters import of_weights
from .settings import (
    UNUSED,
    Setting,
    encoder_name,
    matching,
    pairs,
    plain_values,
    settings,
    shown,
)
from .typesetting import MISSING, Table
from .weights import kept

IMAGENET = "The paper: ImageNet"
"""The title of the paper's numbers of several encoders."""

NAME = re.compile(r"R(?:esNet-)?(\d+)(?: ?\((\d+)x\))?")
"""An encoder's name, in our tables and in the paper's figures."""

OF_TRAINING = ("objective", "views", "optimizer", "head", "loss")
"""Keys in which encoders differ that were not trained in one way."""
# A supervised run has neither.
SUPERVISED_FREE = ("head", "loss")


def shape(name: str) -> tuple[int, int]:
    """Depth and width of an encoder: (50, 4) for `ResNet-50 (4x)` and for `R50(4x)`.

    Networks that are not ours have neither, and come last.
    """
    known = NAME.fullmatch(name)
    return (int(known[1]), int(known[2] or 1)) if known else (sys.maxsize, 0)


ENCODERS = Axis(["Encoder"], ["encoder.architecture", "encoder.width"], encoder_name, order=shape)


def label_of(architecture: str, width: int) -> str:
    """`ResNet-50 (4x)`; the name in the config for a network that is not ours."""
    return shown(architecture) if is_own(architecture) else encoder_name(architecture, width)


def size_order(name: str) -> tuple[int, int]:
    """The sort key of an encoder's name; networks that are not ours come last."""
    return shape(name) if NAME.fullmatch(name) else (sys.maxsize, 0)


def method_name(methods: Mapping[str, str], objective: str, label: str | None) -> str:
    """The name of an encoder's method, by its objective; an imported encoder's label."""
    return methods.get(objective) or shown(label or "imported")


def pretrained_for(setting: Setting) -> str:
    """`SimCLR: 100 epochs`; empty if none of the setting's encoders is SimCLR's."""
    length = setting.config.get("optimizer.epochs")
    return f"SimCLR: {count(length, 'epoch')}" if isinstance(length, int) else ""


def with_imported(
    artefact: Artefact, simclr: Sequence[Setting], imported: pd.DataFrame, free: Iterable[str]
) -> list[Setting]:
    """The settings of SimCLR's encoders, with the runs of imported ones on the same data, evaluated in the same way.

    Imported encoders without any of SimCLR's beside them have settings of their own. free: see `settings`.
    """
    free = (*free, "encoder")
    others = settings(apart(imported), artefact.name, free)
    return pairs(artefact.name, simclr, others, (*free, *OF_TRAINING), "imported", alone=True)


def apart(imported: pd.DataFrame) -> pd.DataFrame:
    """The runs, with a part of the hash of their weights in labels that several encoders have."""
    keys = ["encoder.label", "encoder.fingerprint"]
    known = set(plain_values(imported, keys))
    labels = [
        f"{label} ({str(fingerprint)[:6]})"
        if sum(other == label for other, _ in known) > 1
        else label
        for label, fingerprint in plain_values(imported, keys)
    ]
    return imported.assign(**{"encoder.label": labels})


def millions_of(runs: pd.DataFrame, rows: Axis) -> dict[Any, float]:
    """The parameters of the runs' encoders, in millions, by their labels on `rows`; NaN if they are not known."""
    keys = ["encoder.architecture", "encoder.width", "encoder.stem", "path"]
    result: dict[Any, float] = {}
    for label, (architecture, width, stem, path) in zip(
        read_labels(runs, rows), plain_values(runs, keys), strict=True
    ):
        if label is None or label in result:
            continue
        own = is_own(architecture)
        number = _of_own(Run(Path(path))) if own else parameters(architecture, width, stem)
        result[label] = number / 1e6
    return result


def _of_own(run: Run) -> float:
    """The number of parameters of a run's encoder that is not ours; NaN without its weights."""
    try:
        return float(kept(run, "parameters", of_weights)["parameters"])
    except (OSError, ValueError):
        return math.nan


def sized(table: Table, sizes: Mapping[tuple[str, ...], float], digits: int = 2) -> Table:
    """The table with the parameters of its encoders, in millions, after the names of its rows.

    sizes: by the names of a row.
    """
    names = len(next(iter(sizes)))
    header, rows = table.header, table.rows
    return replace(
        table,
        header=[*header[:names], "Parameters (M)", *header[names:]],
        rows=[
            [*row[:names], _size(sizes[tuple(row[:names])], digits), *row[names:]] for row in rows
        ],
    )


def _size(millions: float, digits: int) -> str:
    return MISSING if math.isnan(millions) else f"{millions:.{digits}f}"


def baseline(
    artefact: Artefact,
    supervised: pd.DataFrame,
    setting: Setting,
    length: int,
    also: Sequence[str] = (),
) -> Setting | None:
    """The supervised runs beside a setting's, all trained in one way.

    They are equal to the setting in data, precision, stem and evaluation, except in the keys in `also`. If there are
    several ways, the one with the most encoders is taken. Ties go to crops alone, as in the paper, then to the length
    nearest to `length`, in epochs.
    """
    free = free_keys([ENCODERS], (*SUPERVISED_FREE, *also))
    alike = matching(supervised, setting.config, (*free, "objective", "views", "optimizer"))

    def preference(way: Setting) -> tuple[int, bool, int]:
        encoders: set[Label] = set(read_labels(way.runs, ENCODERS))
        plain = way.config["views.policy"] == "crop"
        return len(encoders), plain, -abs(way.config["optimizer.epochs"] - length)

    return max(settings(alike, artefact.name, free), key=preference, default=None)


def difference(setting: Setting, supervised: Setting) -> str:
    """How a setting's supervised training differs from its SimCLR runs, in words."""
    keys = [key for key in supervised.config if key.startswith(("views.", "optimizer."))]
    differing = ", ".join(
        f"{key.rpartition('.')[2]} {supervised.config[key]}"
        for key in keys
        if supervised.config[key] is not UNUSED
        and (key == "optimizer.epochs" or supervised.config[key] != setting.config.get(key))
    )
    return f"Supervised: top-1 of the classifier trained with the encoder; {differing}."
