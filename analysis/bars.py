"""Grouped bars, as the paper draws Figures 8 and 9: panels on a page, above a caption.

Series go from pale to dark, in the order of the legend, and can be told apart in greyscale.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator

from .drawing import COLORS, FAINT, INK, LINE_HEIGHT, SMALL, set_title
from .panels import LEGEND_LINE, TITLES, panel_page
from .typesetting import MISSING, conjoined, uncapitalized

HEIGHT = 2.1
"""The height of a panel, inches."""
NARROW = 0.056
"""The width of a character of a group's name, inches."""
CHARACTER = 0.061
SWATCH = 0.34
"""The width of a legend entry: each character, and the rest, inches."""
REFERENCE: dict[str, Any] = {"color": INK, "linewidth": 1.1, "linestyle": (0, (4, 2))}
HALO = [withStroke(linewidth=2.2, foreground="white")]
"""A white outline that keeps lines visible on dark bars."""
GROUP = 0.82
"""The share of a group's width that its bars take."""


@dataclass(frozen=True)
class Bar:
    """A height (NaN: missing), half the width of its interval (NaN: none), and whether it is marked."""

    value: float
    half: float = math.nan
    marked: bool = False

    @property
    def reach(self) -> float:
        """How far its interval reaches above and below it."""
        return 0.0 if math.isnan(self.half) else self.half


@dataclass(frozen=True)
class Bars:
    """What one panel shows.

    bars: by series, then by group; None if no bar belongs there. reference: a named value, drawn as a line across.
    """

    title: str
    value_title: str
    group_title: str
    series_title: str
    groups: Sequence[str]
    series: Sequence[str]
    bars: Sequence[Sequence[Bar | None]]
    reference: tuple[str, float] | None = None

    def limits(self) -> tuple[float, float]:
        """The limits of the vertical axis, from a round number below all that is shown, or from 0 if that is near."""
        shown = [
            bar
            for series in self.bars
            for bar in series
            if bar is not None and not math.isnan(bar.value)
        ]
        values = [bar.value for bar in shown] + ([self.reference[1]] if self.reference else [])
        if not values:
            return 0.0, 100.0
        low = min([*values, *(bar.value - bar.reach for bar in shown)])
        high = max([*values, *(bar.value + bar.reach for bar in shown)])
        # Leave the smallest bar some height.
        low -= 0.12 * (high - low or abs(high) or 1)
        # Keep a small difference from filling the panel.
        low = min(low, 0.85 * high)
        if min(values) >= 0 and low < 0.35 * high:
            low = 0
        ticks = MaxNLocator(nbins=6, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
        lowest = max(tick for tick in ticks if tick <= low + 1e-9)
        return float(lowest), float(high + 0.06 * (high - lowest))


def group_names(panel: Bars, width: float) -> list[str]:
    """The groups' names, broken into lines that fit the room of a group, if words are short enough. width: inches."""
    room = max(1, int(width / (len(panel.groups) + 0.1) / NARROW))
    return [
        "\n".join(part for line in name.split("\n") for part in _broken(line, room))
        for name in panel.groups
    ]


def _broken(line: str, room: int) -> list[str]:
    """The line in parts of up to `room` characters, broken after spaces, plus signs and hyphens between letters."""
    parts = [""]
    for piece in re.split(r"(?<=[\s+])|(?<=-)(?=[A-Za-z])", line):
        if parts[-1] and len((parts[-1] + piece).rstrip()) > room:
            parts.append("")
        parts[-1] += piece
    return [part.rstrip() for part in parts]


def bar_page(panels: Sequence[Sequence[Bars]], caption: str) -> Figure:
    """Rows of equally wide panels, to be shown about 900 pixels wide."""
    drawn = [panel for row in panels for panel in row]
    if any(panel.limits()[0] != 0 for panel in drawn):
        caption += "\nNot every vertical axis starts at 0."
    return panel_page(panels, HEIGHT, _room_below, partial(draw_bars, page=drawn), caption)


def describe_bars(panels: Sequence[Sequence[Bars]]) -> str:
    """What is drawn, in words: `Bars of top-1 (%) by batch size and epochs`."""
    drawn = [panel for row in panels for panel in row]
    measured = conjoined(uncapitalized(panel.value_title) for panel in drawn)
    titles = [title for panel in drawn for title in (panel.group_title, panel.series_title)]
    # A title names each part of its labels; it is empty for a single series.
    parts = [uncapitalized(part) for title in titles for part in title.split(", ") if part]
    return f"Bars of {measured} by {conjoined(parts)}"


def draw_bars(axes: Axes, panel: Bars, width: float, page: Sequence[Bars]) -> None:
    """Bars, intervals, reference line, labels, title and legend of one panel of a page."""
    colors = shades(panel, page)
    low, high = panel.limits()
    of_bar = GROUP / len(panel.series)
    for number, (series, color) in enumerate(zip(panel.bars, colors, strict=True)):
        for group, bar in enumerate(series):
            x = group + (number - (len(panel.series) - 1) / 2) * of_bar
            if bar is not None and math.isnan(bar.value):
                axes.text(x, low, MISSING, ha="center", va="bottom", fontsize=10, color=INK)
            elif bar is not None:
                _draw_bar(axes, x, of_bar, bar, color, (high - low) / HEIGHT)
    if panel.reference is not None:
        axes.axhline(panel.reference[1], color="white", linewidth=2.2)
        axes.axhline(panel.reference[1], **REFERENCE)
    axes.set(xlim=(-0.55, len(panel.groups) - 0.45), ylim=(low, high))
    axes.set_xticks(range(len(panel.groups)), group_names(panel, width), fontsize=SMALL)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 2.5, 5, 10]))
    axes.tick_params(axis="x", length=0, pad=3)
    axes.tick_params(axis="y", length=2, width=0.5, pad=2, labelsize=7, colors=FAINT)
    axes.grid(axis="y", color="#dddddd", linewidth=0.5)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set(color=FAINT, linewidth=0.6)
    axes.set_ylabel(panel.value_title, labelpad=4)
    axes.set_xlabel(panel.group_title, labelpad=3)
    set_title(axes, panel.title)
    _draw_legend(axes, panel, width, colors)


def shades(panel: Bars, page: Sequence[Bars] = ()) -> list[Any]:
    """A colour for each series; a single series gets a medium one.

    If another panel of the page has these series and more, they have the colours that they have there.
    """
    wider = [
        other
        for other in page
        if other.series_title == panel.series_title and set(panel.series) <= set(other.series)
    ]
    series = max([panel, *wider], key=lambda each: len(each.series)).series
    shares = np.linspace(0.15, 0.95, len(series)) if len(series) > 1 else [0.6]
    colors = {name: colormaps[COLORS](share) for name, share in zip(series, shares, strict=True)}
    return [colors[name] for name in panel.series]


def _draw_bar(
    axes: Axes, x: float, width: float, bar: Bar, color: Sequence[float], inch: float
) -> None:
    """Draws a bar, its interval and its mark. inch: how much of the vertical axis one inch is."""
    axes.bar(x, bar.value, width, color=[color], edgecolor=INK, linewidth=0.4)
    if bar.reach:
        look: dict[str, Any] = {"ecolor": INK, "elinewidth": 0.8, "capsize": min(2.5, 18 * width)}
        _, caps, lines = axes.errorbar(x, bar.value, bar.reach, fmt="none", **look)
        for line in (*caps, *lines):
            line.set_path_effects(HALO)
    if bar.marked:
        y = bar.value + bar.reach + 0.06 * inch
        axes.plot(x, y, "o", ms=3.2, mfc="white", mec=INK, mew=0.7, clip_on=False, zorder=3)


def _room_below(panel: Bars, width: float) -> float:
    return _titles(panel, width) + LEGEND_LINE * _legend_lines(panel, width)


def _titles(panel: Bars, width: float) -> float:
    """The room for tick labels and their title, inches."""
    return TITLES + LINE_HEIGHT * max(name.count("\n") for name in group_names(panel, width))


def _legend_lines(panel: Bars, width: float) -> int:
    several = len(panel.series) > 1
    lines = math.ceil(len(panel.series) / _legend_columns(panel, width)) if several else 0
    return lines + (panel.reference is not None)


def _legend_columns(panel: Bars, width: float) -> int:
    return max(1, int((width - _heading_width(panel)) / _entry_width(panel)))


def _entry_width(panel: Bars) -> float:
    return SWATCH + CHARACTER * max(map(len, panel.series))


def _heading_width(panel: Bars) -> float:
    return CHARACTER * (len(panel.series_title) + 2)


def _draw_legend(axes: Axes, panel: Bars, width: float, colors: Sequence[Any]) -> None:
    """Draws the legend below the panel: the series, line by line, then the reference on a line of its own."""
    top = _titles(panel, width) - 0.1
    if len(panel.series) > 1:
        _label(axes, 0, top, f"{panel.series_title}:", width)
        columns = _legend_columns(panel, width)
        for number, (name, color) in enumerate(zip(panel.series, colors, strict=True)):
            line, column = divmod(number, columns)
            x = _heading_width(panel) + _entry_width(panel) * column
            y = top + LEGEND_LINE * line
            corner = x / width, -(y + 0.1) / HEIGHT
            swatch = Rectangle(corner, 0.16 / width, 0.1 / HEIGHT, transform=axes.transAxes)
            swatch.set(facecolor=color, edgecolor=INK, linewidth=0.4, clip_on=False)
            axes.add_patch(swatch)
            _label(axes, x + 0.22, y, name, width)
    if panel.reference is not None:
        y = top + LEGEND_LINE * (_legend_lines(panel, width) - 1)
        height = -(y + 0.05) / HEIGHT
        ends = [0, 0.3 / width], [height, height]
        sample = Line2D(*ends, transform=axes.transAxes, clip_on=False, **REFERENCE)
        axes.add_artist(sample)
        _label(axes, 0.37, y, panel.reference[0], width)


def _label(axes: Axes, x: float, y: float, text: str, width: float) -> None:
    """Writes `text` with its middle 0.05 below `y`. x, y: inches right of and down from the origin."""
    look: dict[str, Any] = {"va": "center_baseline", "fontsize": SMALL}
    axes.text(x / width, -(y + 0.05) / HEIGHT, text, transform=axes.transAxes, **look)
