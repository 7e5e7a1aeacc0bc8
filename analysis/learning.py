"""Learning curves of a report's runs: small multiples, a row for each metric, a column for each row of cells."""

import csv
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure

from simclr_ablate.files import report_damage
from simclr_ablate.store import Run
from simclr_ablate.terminal import count

from . import drawing
from .drawing import COLORS, FAINT, SMALL, add_axes, page, shortened
from .report import Report
from .typesetting import conjoined

METRICS = {
    "loss": ("Loss", 1.0),
    "accuracy": ("Accuracy (%)", 100.0),
    "online_top1": ("Online top-1 (%)", 1.0),
}
"""What is drawn: each metric's title, and its factor."""
MOST_COLUMNS = 8
"""With more groups than this, all runs share one panel."""
MOST_RUNS = 200
"""The most runs that are drawn, those of the first seeds."""
POINTS = 60
"""The most points of a curve: each is the mean over its share of the steps."""
PALEST = 0.25
"""Where the scale of colours begins: what is paler cannot be seen as a line."""

SHADES = ListedColormap(colormaps[COLORS](np.linspace(PALEST, 1, 256)))

# Inches.
WIDTH, LEFT, RIGHT, GAP = 9.2, 0.62, 0.1, 0.12
HEIGHT, TOP, BETWEEN, BELOW = 1.25, 0.35, 0.16, 0.4
SCALE, SCALE_ROOM = 0.09, 0.62
CHARACTERS_PER_INCH = 14.0


@dataclass(frozen=True)
class Learning:
    """How one run learned.

    group: the row of cells that it belongs to. top1: that of its evaluation, percent (NaN: it has none). epochs,
    metrics: for each metric, its values and when each was measured.
    """

    run_id: str
    group: str
    top1: float
    epochs: Mapping[str, Sequence[float]]
    metrics: Mapping[str, Sequence[float]]


def learning_curves(report: Report, runs: pd.DataFrame) -> Figure | None:
    """The picture for the runs of `report`, or None if none of them was trained. runs: `analysis.load`."""
    if not report.run_ids:
        return None
    groups = _groups_of(report)
    # Those of the first seeds come first.
    known = runs[runs["run_id"].isin(report.run_ids)].sort_values(["seed", "run_id"], kind="stable")
    trained = known[known["optimizer.epochs"].notna()].groupby("run_id", sort=False).first()
    curves = list(islice(_read(trained, groups), MOST_RUNS))
    if not curves:
        return None
    measured = len(trained) if len(curves) == MOST_RUNS else len(curves)
    order = list(dict.fromkeys(groups.values()))
    with drawing.style():
        return draw(curves, order, measured, len(report.run_ids))


def _groups_of(report: Report) -> dict[str, str]:
    """For each run, the row of the first cell that it belongs to, in the order of these."""
    groups: dict[str, str] = {}
    if {"row", "run_ids"} <= set(report.data):
        for row, run_ids in zip(report.data["row"], report.data["run_ids"], strict=True):
            groups |= {each: str(row) for each in str(run_ids).split() if each not in groups}
    return groups


def _read(trained: pd.DataFrame, groups: Mapping[str, str]) -> Iterator[Learning]:
    """How these runs learned, as far as the store says. trained: by run id. groups: the row of each."""
    columns = (trained[name] for name in ("path", "optimizer.epochs", "top1"))
    for run_id, path, epochs, top1 in zip(trained.index, *columns, strict=True):
        found = _metrics(Run(Path(path)), float(epochs))
        if found:
            times, values = ({name: each[k] for name, each in found.items()} for k in (0, 1))
            yield Learning(run_id, groups.get(run_id, ""), float(top1), times, values)


def _metrics(run: Run, epochs: float) -> dict[str, tuple[list[float], list[float]]]:
    """For each metric, when it was measured, in epochs, and its values: of steps, or else of whole epochs."""
    lines = run.metrics.read()
    times = [line["step"] for line in lines]
    if lines:
        # The last step's line is always there.
        times = [step * epochs / times[-1] for step in times]
    else:
        lines = list(_history(run.history_path))
        times = [line.get("epoch", math.nan) for line in lines]
    found = {}
    for name, (_, factor) in METRICS.items():
        pairs = [
            (t, factor * line[name]) for t, line in zip(times, lines, strict=True) if name in line
        ]
        if pairs:
            found[name] = _thinned(*zip(*pairs, strict=True))
    return found


def _history(path: Path) -> Iterator[dict[str, float]]:
    """The lines of a history; none if there is no such file, or it is damaged."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            yield from (
                {name: float(text) for name, text in line.items()} for line in csv.DictReader(file)
            )
    except (FileNotFoundError, NotADirectoryError):
        return
    except (OSError, ValueError, TypeError) as error:
        report_damage(path, str(error))


def _thinned(times: Iterable[float], values: Iterable[float]) -> tuple[list[float], list[float]]:
    """At most POINTS points, each the mean over its share of the measurements."""
    x, y = np.array(list(times)), np.array(list(values))
    shares = min(POINTS, len(x))
    means = ([float(part.mean()) for part in np.array_split(numbers, shares)] for numbers in (x, y))
    return next(means), next(means)


def draw(shown: Sequence[Learning], order: Sequence[str], measured: int, of: int) -> Figure:
    """The picture. order: of the groups. measured: how many runs learned. of: how many the report has."""
    names = [name for name in METRICS if any(name in each.metrics for each in shown)]
    groups = _grouped(shown, order)
    results = [each.top1 for each in shown if not math.isnan(each.top1)]
    low, high = (min(results), max(results)) if results else (0.0, 100.0)
    scale = Normalize(low, high if high > low else low + 1)
    room = SCALE_ROOM if results else 0.0
    body = TOP + len(names) * HEIGHT + (len(names) - 1) * BETWEEN + BELOW + room
    figure, bottom = page(WIDTH, body, _caption(names, len(shown), measured, of, bool(results)))
    width = (WIDTH - LEFT - RIGHT - GAP * (len(groups) - 1)) / len(groups)
    for row, name in enumerate(names):
        limits = _limits(each.metrics[name] for each in shown if name in each.metrics)
        top = bottom + body - TOP - row * (HEIGHT + BETWEEN)
        for column, (title, members) in enumerate(groups.items()):
            left = LEFT + column * (width + GAP)
            axes = add_axes(figure, left, top - HEIGHT, width, HEIGHT)
            _draw_panel(axes, name, members, scale)
            axes.set_ylim(limits)
            axes.tick_params(labelleft=not column, labelbottom=row == len(names) - 1)
            if not row and title:
                axes.set_title(
                    shortened(title, round(CHARACTERS_PER_INCH * width)),
                    loc="left",
                    fontsize=SMALL,
                    fontweight="bold",
                )
            if not column:
                axes.set_ylabel(METRICS[name][0], fontsize=SMALL)
            if row == len(names) - 1 and not column:
                axes.set_xlabel("Epochs", fontsize=SMALL, loc="left", labelpad=1)
    if results:
        _draw_scale(add_axes(figure, LEFT, bottom + room - 0.24, 2.6, SCALE), scale)
    return figure


def _grouped(curves: Sequence[Learning], order: Sequence[str]) -> dict[str, list[Learning]]:
    """The curves by group, or all together if there are too many groups."""
    found = {each.group for each in curves}
    if len(found) > MOST_COLUMNS:
        return {"": list(curves)}
    groups = [group for group in (*order, "") if group in found]
    return {group: [each for each in curves if each.group == group] for group in groups}


def _draw_panel(axes: Axes, name: str, members: Sequence[Learning], scale: Normalize) -> None:
    for each in members:
        if name not in each.metrics:
            continue
        axes.plot(
            *(each.epochs[name], each.metrics[name]),
            color=FAINT if math.isnan(each.top1) else SHADES(scale(each.top1)),
            linewidth=0.9,
            marker="o" if len(each.epochs[name]) == 1 else "",
            markersize=2,
        )
    axes.set_xlim(left=0)
    axes.grid(color="#e4e4e4", linewidth=0.5)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set(color="#bbbbbb", linewidth=0.6)
    axes.tick_params(length=2, width=0.5, pad=2, labelsize=6.5, colors=FAINT)
    axes.locator_params(axis="x", nbins=4, integer=True)
    axes.locator_params(axis="y", nbins=4)


def _draw_scale(axes: Axes, scale: Normalize) -> None:
    """Draws which colour stands for which top-1."""
    bar = axes.figure.colorbar(ScalarMappable(scale, SHADES), cax=axes, orientation="horizontal")
    bar.outline.set_visible(False)
    axes.tick_params(length=2, width=0.5, pad=2, labelsize=7, colors=FAINT)
    axes.locator_params(axis="x", nbins=5)
    axes.set_title("Top-1 of the run (%)", loc="left", fontsize=7, color=FAINT, pad=3)


def _limits(curves: Iterable[Sequence[float]]) -> tuple[float, float]:
    """What all panels of a metric show, with a little room."""
    values = [value for curve in curves for value in curve if math.isfinite(value)]
    low, high = min(values, default=0.0), max(values, default=1.0)
    room = 0.05 * (high - low or 1.0)
    return low - room, high + room


def _caption(names: Sequence[str], shown: int, trained: int, of: int, colored: bool) -> str:
    metrics = conjoined(METRICS[name][0].partition(" (")[0].lower() for name in names)
    parts = [f"{metrics.capitalize()} in pretraining: a line for each run."]
    if colored:
        parts.append("Darker lines ended with a higher top-1.")
    if shown < trained:
        parts.append(f"Shown are {shown} of {trained} trained runs, those of the first seeds.")
    if trained < of:
        parts.append(f"{of - trained} of {count(of, 'run')} kept no metrics, or were not trained.")
    return " ".join(parts)
