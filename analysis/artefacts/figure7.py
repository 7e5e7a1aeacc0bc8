"""Figure 7: top-1 against the number of parameters, by depth and width of the encoder.

It shows short and long training with SimCLR, and supervised training. Our parameters are counted.
"""

import math
import re
from collections import Counter
from dataclasses import replace
from functools import partial
from typing import Any

import pandas as pd

from analysis import paper
from analysis.artefacts import Artefact
from analysis.comparison import (
    Axis,
    Comparison,
    Part,
    Place,
    cells,
    free_keys,
    read_labels,
    trained,
)
from analysis.curves import Curve, Curves, curve_page, describe_curves
from analysis.parameters import parameters
from analysis.presentation import PAPER, report
from analysis.report import Report
from analysis.settings import UNUSED, Setting, encoder_name, matching, named, settings
from analysis.typesetting import Table

KEY = "fig7_depth_width"
SHORT, LONG, SUPERVISED = "SimCLR, short", "SimCLR, long", "Supervised"
PRINTED = {
    "simclr_100_epochs": SHORT,
    "simclr_1000_epochs": LONG,
    "supervised_90_epochs": SUPERVISED,
}
TRAININGS = list(PRINTED.values())
IMAGENET = "The paper: ImageNet"

# A supervised run has neither.
SUPERVISED_FREE = ("head", "loss")

NAME = re.compile(r"R(?:esNet-)?(\d+)(?: ?\((\d+)x\))?")
"""An encoder's name, in our tables and in the paper's figure."""


def shape(name: str) -> tuple[int, int]:
    """Depth and width of an encoder: (50, 4) for `ResNet-50 (4x)` and for `R50(4x)`."""
    depth, width = NAME.fullmatch(name).groups()  # type: ignore[union-attr]
    return int(depth), int(width or 1)


ENCODERS = Axis(["Encoder"], ["encoder.architecture", "encoder.width"], encoder_name, order=shape)


def reports(artefact: Artefact, runs: pd.DataFrame) -> list[Report]:
    """One report for each setting in which SimCLR trained two or more encoders."""
    return [_report(each) for each in comparisons(artefact, runs)]


NOTES = [
    "Parameters are those of the encoder f, without heads and classifiers. Ours are counted. The "
    "paper’s are read off its figure: they include batch norm’s running statistics, and the "
    "supervised ResNet-50 is at 26 million.",
    "The paper trained SimCLR for 100 and for 1000 epochs, and its supervised encoders for 90.",
]


def comparisons(artefact: Artefact, runs: pd.DataFrame) -> list[Comparison]:
    free = free_keys([ENCODERS], ["optimizer.epochs"])
    several = [
        setting
        for setting in settings(trained(runs), artefact.name, free)
        if len(set(read_labels(setting.runs, ENCODERS))) > 1
    ]
    result = []
    # Named again, since names need no longer differ from those left out.
    for setting in named(artefact.name, [s.config for s in several], [s.runs for s in several]):
        short, long = lengths(setting.runs)
        supervised = baseline(artefact, trained(runs, "supervised"), setting, short)
        together = [setting.runs] if supervised is None else [setting.runs, supervised.runs]
        part = by_size(pd.concat(together), short, long)
        text = remark(setting, short, long, supervised)
        result.append(Comparison(artefact, setting, [part], remark=text))
    return result


def lengths(runs: pd.DataFrame) -> tuple[int, int | None]:
    """The epochs of short and of long training: the two lengths with the most encoders.

    Sweeps on the length of training add lengths, but only for one encoder. Ties go to the shortest for short training,
    and to the longest for long training, if there is any.
    """
    encoders = runs.drop_duplicates(subset=[*ENCODERS.keys, "optimizer.epochs"])
    count = Counter(map(int, encoders["optimizer.epochs"]))
    short = min(count, key=lambda epochs: (-count[epochs], epochs))
    longer = [epochs for epochs in count if epochs > short]
    long = max(longer, key=lambda epochs: (count[epochs], epochs), default=None)
    return short, long


def baseline(
    artefact: Artefact, supervised: pd.DataFrame, setting: Setting, short: int
) -> Setting | None:
    """The supervised runs beside a setting's, all trained in one way.

    They are equal to the setting in data, precision, stem and evaluation. If there are several ways, the one with the
    most encoders is taken. Ties go to crops alone, as in the paper, then to the length nearest to short training.
    """
    free = free_keys([ENCODERS], SUPERVISED_FREE)
    alike = matching(supervised, setting.config, (*free, "objective", "views", "optimizer"))

    def preference(way: Setting) -> tuple[int, bool, int]:
        encoders = len(set(read_labels(way.runs, ENCODERS)))
        plain = way.config["views.policy"] == "crop"
        return encoders, plain, -abs(way.config["optimizer.epochs"] - short)

    return max(settings(alike, artefact.name, free), key=preference, default=None)


def by_size(runs: pd.DataFrame, short: int, long: int | None) -> Part:
    """The table of encoders by training. Depths without any long or supervised run are void in these two columns."""

    def training(objective: str, epochs: int) -> str | None:
        return SUPERVISED if objective == "supervised" else {short: SHORT, long: LONG}.get(epochs)

    keys = ("objective", "optimizer.epochs")
    columns = Axis(["Training"], keys, training, TRAININGS, TRAININGS.index)
    measured = cells(runs, ENCODERS, columns)
    depths = {shape(str(row))[0] for row, column in measured if column != SHORT}

    def void(row: Any, column: Any) -> bool:
        return bool(depths) and column != SHORT and shape(row)[0] not in depths

    return Part("", ENCODERS, columns, measured, published(), void=void, untested=TRAININGS)


def published(field: int = 2) -> dict[Place, float]:
    """The paper's top-1 by encoder and training, or with `field` 1 its parameters, in millions."""
    entry = paper.entries()[KEY]
    return {
        (encoder_name(f"resnet{depth}", width), training): float(point[field])
        for key, training in PRINTED.items()
        for point in entry[key]
        for depth, width in [shape(point[0])]
    }


def millions(comparison: Comparison) -> dict[str, float]:
    """The parameters of the encoders in the comparison's table, by name, in millions."""
    (part,) = comparison.parts
    stem = comparison.setting.config["encoder.stem"]
    shapes = {str(row): shape(str(row)) for row in part.row_labels}
    return {
        name: parameters(f"resnet{depth}", width, stem) / 1e6
        for name, (depth, width) in shapes.items()
    }


def remark(setting: Setting, short: int, long: int | None, supervised: Setting | None) -> str:
    """How long each of the three was trained, and how supervised training differs, in words."""
    text = f"SimCLR: {short:,} epochs" + (f" and {long:,} epochs." if long else ".")
    if supervised is None:
        return text
    keys = [key for key in supervised.config if key.startswith(("views.", "optimizer."))]
    differing = ", ".join(
        f"{key.rpartition('.')[2]} {supervised.config[key]}"
        for key in keys
        if supervised.config[key] is not UNUSED
        and (key == "optimizer.epochs" or supervised.config[key] != setting.config.get(key))
    )
    return f"{text} Supervised: top-1 of the classifier trained with the encoder; {differing}."


def panels(comparison: Comparison) -> list[Curves]:
    """Ours beside the paper's."""
    (part,) = comparison.parts
    sizes = millions(comparison)
    estimates = {place: cell.estimate() for place, cell in part.cells.items()}
    ours = {place: (sizes[str(place[0])], e.mean, e.half) for place, e in estimates.items()}
    printed, at = part.paper, published(1)
    theirs = {place: (at[place], value, math.nan) for place, value in printed.items()}
    title = f"Ours: {comparison.setting.label}"
    return [_panel(title, ours), _panel(IMAGENET, theirs)]


def _panel(title: str, points: dict[Place, tuple[float, float, float]]) -> Curves:
    curves = []
    for training in TRAININGS:
        of_it = [point for (_, column), point in points.items() if column == training]
        if of_it:
            curves.append(Curve(training, *zip(*of_it, strict=True)))
    lowest: dict[Any, tuple[float, float]] = {}
    for (name, _), (x, y, half) in points.items():
        bottom = y if math.isnan(half) else y - half
        if name not in lowest or bottom < lowest[name][1]:
            lowest[name] = x, bottom
    labels = [(*place, str(name).replace("esNet-", "")) for name, place in lowest.items()]
    x_title = "Parameters (millions)"
    return Curves(title, x_title, "Top-1 (%)", curves, labels, log_x=True)


def _report(comparison: Comparison) -> Report:
    """The report, with the parameters in its tables and data."""
    drawn = panels(comparison)
    made = report(comparison, describe_curves(drawn), partial(curve_page, [drawn]), NOTES)
    ours, theirs = made.tables
    sizes = millions(comparison)
    printed = {str(name): size for (name, _), size in reversed(published(1).items())}
    data = made.data.assign(
        parameters_millions=made.data["row"].map(sizes),
        paper_parameters_millions=made.data["row"].map(printed),
    )
    theirs = replace(theirs, title=theirs.title.replace(PAPER, IMAGENET))
    return replace(made, tables=[_sized(ours, sizes), _sized(theirs, printed)], data=data)


def _sized(table: Table, sizes: dict[str, float]) -> Table:
    """The table with a column of the encoders' parameters."""
    header, rows = table.header, table.rows
    return replace(
        table,
        header=[header[0], "Parameters (M)", *header[1:]],
        rows=[[row[0], f"{sizes[row[0]]:.2f}", *row[1:]] for row in rows],
    )
