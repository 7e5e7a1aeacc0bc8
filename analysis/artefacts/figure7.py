"""Figure 7: top-1 against the number of parameters, by depth and width of the encoder.

It shows short and long training with SimCLR, and supervised training. Our parameters are counted.
"""

import math
from collections import Counter
from dataclasses import replace
from functools import partial
from typing import Any

import pandas as pd

from .. import paper
from ..comparison import (
    Axis,
    Comparison,
    Part,
    Place,
    cells,
    free_keys,
    read_labels,
    trained,
)
from ..curves import Curve, Curves, curve_page, describe_curves
from ..encoders import ENCODERS, IMAGENET, baseline, difference, millions_of, shape, sized
from ..presentation import report
from ..report import Report
from ..settings import Setting, encoder_name, named, settings
from . import Artefact

KEY = "fig7_depth_width"
SHORT, LONG, SUPERVISED = "SimCLR, short", "SimCLR, long", "Supervised"
PRINTED = {
    "simclr_100_epochs": SHORT,
    "simclr_1000_epochs": LONG,
    "supervised_90_epochs": SUPERVISED,
}
TRAININGS = list(PRINTED.values())


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
        beside = [] if supervised is None else [supervised.runs]
        whole = replace(setting, runs=pd.concat([setting.runs, *beside]))
        part = by_size(whole.runs, short, long)
        text = remark(setting, short, long, supervised)
        result.append(Comparison(artefact, whole, [part], remark=text, printed_on=IMAGENET))
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


def remark(setting: Setting, short: int, long: int | None, supervised: Setting | None) -> str:
    """How long each of the three was trained, and how supervised training differs, in words."""
    text = f"SimCLR: {short:,} epochs" + (f" and {long:,} epochs." if long else ".")
    return text if supervised is None else f"{text} {difference(setting, supervised)}"


def panels(comparison: Comparison) -> list[Curves]:
    """Ours beside the paper's."""
    (part,) = comparison.parts
    sizes = millions_of(comparison.setting.runs, ENCODERS)
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
    sizes = millions_of(comparison.setting.runs, ENCODERS)
    printed = {str(name): size for (name, _), size in reversed(published(1).items())}
    data = made.data.assign(
        parameters_millions=made.data["row"].map(sizes),
        paper_parameters_millions=made.data["row"].map(printed),
    )
    return replace(
        made, tables=[sized(ours, _by_row(sizes)), sized(theirs, _by_row(printed))], data=data
    )


def _by_row(sizes: dict[str, float]) -> dict[tuple[str, ...], float]:
    """The sizes by the names of a row of a table."""
    return {(name,): size for name, size in sizes.items()}
