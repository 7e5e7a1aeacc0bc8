"""Encoders by depth and width, with their parameters, and the supervised encoders beside them."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pandas as pd

from analysis.artefacts import Artefact
from analysis.comparison import Axis, Label, free_keys, read_labels
from analysis.parameters import parameters
from analysis.settings import UNUSED, Setting, encoder_name, matching, settings
from analysis.typesetting import Table

IMAGENET = "The paper: ImageNet"
"""The title of the paper's numbers of several encoders."""

NAME = re.compile(r"R(?:esNet-)?(\d+)(?: ?\((\d+)x\))?")
"""An encoder's name, in our tables and in the paper's figures."""

# A supervised run has neither.
SUPERVISED_FREE = ("head", "loss")


def shape(name: str) -> tuple[int, int]:
    """Depth and width of an encoder: (50, 4) for `ResNet-50 (4x)` and for `R50(4x)`."""
    depth, width = NAME.fullmatch(name).groups()  # type: ignore[union-attr]
    return int(depth), int(width or 1)


ENCODERS = Axis(["Encoder"], ["encoder.architecture", "encoder.width"], encoder_name, order=shape)


def millions(setting: Setting, names: Sequence[str]) -> dict[str, float]:
    """The parameters of these encoders, in millions, counted with the setting's stem."""
    stem = setting.config["encoder.stem"]
    shapes = {name: shape(name) for name in names}
    return {
        name: parameters(f"resnet{depth}", width, stem) / 1e6
        for name, (depth, width) in shapes.items()
    }


def sized(table: Table, sizes: Mapping[tuple[str, ...], float], digits: int = 2) -> Table:
    """The table with the parameters of its encoders, in millions, after the names of its rows.

    sizes: by the names of a row, all of which are of one length.
    """
    names = len(next(iter(sizes)))
    header, rows = table.header, table.rows
    return replace(
        table,
        header=[*header[:names], "Parameters (M)", *header[names:]],
        rows=[
            [*row[:names], f"{sizes[tuple(row[:names])]:.{digits}f}", *row[names:]] for row in rows
        ],
    )


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
