"""Points and lines, as the paper draws Figures 7 and B.3: panels on a page, above a caption."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import LogFormatter, LogLocator, MaxNLocator, NullFormatter
from matplotlib.transforms import Bbox

from .drawing import FAINT, INK, SMALL, set_title
from .panels import LEGEND_LINE, TITLES, panel_page
from .typesetting import conjoined, uncapitalized

HEIGHT = 2.7
"""The height of a panel, inches."""
LOOKS: Sequence[dict[str, Any]] = (
    {"color": "#1f6fb4", "marker": "o"},
    {"color": "#c4361c", "marker": "*", "markersize": 9.5},
    {"color": "#2b8a3e", "marker": "X", "markersize": 6.5},
    {"color": "#7b4fa3", "marker": "s"},
    {"color": "#b8860b", "marker": "D"},
)
"""The looks of curves, in order: they differ in shape as well as in colour."""
MARKER: dict[str, Any] = {"markersize": 5.5, "markeredgecolor": "white", "markeredgewidth": 0.5}
SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
LABEL_SIZE = 6.5
CHARACTER = 4.0
"""The width of a character of a label; both this and LABEL_SIZE are in points."""
LABEL: dict[str, Any] = {
    "textcoords": "offset points",
    "fontsize": LABEL_SIZE,
    "color": FAINT,
    "path_effects": [withStroke(linewidth=2, foreground="white")],
}


@dataclass(frozen=True)
class Curve:
    """One series. half: half the width of each point's interval (NaN: none); empty if no point has one."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    half: Sequence[float] = ()


@dataclass(frozen=True)
class Curves:
    """What one panel shows.

    labels: texts at places (x, y). joined: whether lines are drawn instead of points. pointed: whether
    lines have their points. log_x, log_y: whether the axis is
    logarithmic.
    """

    title: str
    x_title: str
    y_title: str
    curves: Sequence[Curve]
    labels: Sequence[tuple[float, float, str]] = ()
    joined: bool = False
    pointed: bool = False
    log_x: bool = False
    log_y: bool = False


def curve_page(panels: Sequence[Sequence[Curves]], caption: str) -> Figure:
    """Rows of equally wide panels, to be shown about 900 pixels wide."""
    drawn = [panel for row in panels for panel in row]
    return panel_page(panels, HEIGHT, _room_below, partial(draw_curves, page=drawn), caption)


def describe_curves(panels: Sequence[Curves]) -> str:
    """What is drawn, in words: `Points of top-1 (%) against parameters on a logarithmic axis (A; B)`."""
    kind = "Lines" if any(panel.joined for panel in panels) else "Points"
    measured = conjoined(uncapitalized(panel.y_title) for panel in panels)
    measured += _describe_scales({panel.log_y for panel in panels})
    against = conjoined(uncapitalized(panel.x_title) for panel in panels)
    against += _describe_scales({panel.log_x for panel in panels})
    names = dict.fromkeys(curve.name for panel in panels for curve in panel.curves)
    return f"{kind} of {measured} against {against} ({'; '.join(names)})"


def _describe_scales(logarithmic: set[bool]) -> str:
    """An axis's scale in words; empty if it is linear in all panels."""
    if logarithmic == {False}:
        return ""
    return (
        " on a logarithmic axis" if False not in logarithmic else " on linear and logarithmic axes"
    )


def draw_curves(axes: Axes, panel: Curves, width: float, page: Sequence[Curves]) -> None:
    """Draws the points or lines, intervals, labels, axes and legend of one panel of a page."""
    for curve, look in zip(panel.curves, looks(panel, page), strict=True):
        if panel.joined:
            line = look if panel.pointed else {"color": look["color"]}
            axes.plot(curve.x, curve.y, linewidth=1.1, label=curve.name, **line)
        else:
            axes.plot(curve.x, curve.y, linestyle="none", label=curve.name, zorder=3, **look)
        reach = [0.0 if math.isnan(half) else half for half in curve.half]
        if any(reach):
            lines: dict[str, Any] = {"ecolor": look["color"], "elinewidth": 0.9, "capsize": 2}
            axes.errorbar(curve.x, curve.y, reach, fmt="none", **lines)
    if panel.log_x:
        axes.set_xscale("log")
        _mark_numbers(axes)
    if panel.log_y:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(PowersOfTen())
        axes.yaxis.set_minor_formatter(PowersOfTen())
    else:
        axes.yaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 2.5, 5, 10]))
    # Leave room for labels at the edges.
    axes.margins(x=0.1 if panel.labels else 0.02, y=0.12 if panel.labels else 0.05)
    _draw_labels(axes, panel)
    axes.tick_params(length=2, width=0.5, pad=2, labelsize=7, colors=FAINT)
    axes.grid(color="#dddddd", linewidth=0.5)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set(color=FAINT, linewidth=0.6)
    axes.set_xlabel(panel.x_title, labelpad=3, color=INK)
    axes.set_ylabel(panel.y_title, labelpad=4, color=INK)
    set_title(axes, panel.title)
    _draw_legend(axes, panel, width)


def looks(panel: Curves, page: Sequence[Curves]) -> list[dict[str, Any]]:
    """A look for each curve: the same on the whole page, if the page has no more names than there are looks."""
    names = list(dict.fromkeys(curve.name for each in page for curve in each.curves))
    if len(names) > len(LOOKS):
        names = [curve.name for curve in panel.curves]
    return [MARKER | LOOKS[names.index(curve.name) % len(LOOKS)] for curve in panel.curves]


def _draw_labels(axes: Axes, panel: Curves) -> None:
    """Draws each label below its place, or above or beside it if another one is in the way."""
    axes.autoscale_view()
    points = 72 / axes.figure.dpi
    taken: list[Bbox] = []
    for x, y, text in sorted(panel.labels):
        across, up = (float(pixels) * points for pixels in axes.transData.transform((x, y)))
        width = CHARACTER * len(text)
        boxes = {
            (0, -6, "center", "top"): (across - width / 2, up - 6 - LABEL_SIZE),
            (0, 6, "center", "bottom"): (across - width / 2, up + 6),
            (6, 0, "left", "center"): (across + 6, up - LABEL_SIZE / 2),
            (-6, 0, "right", "center"): (across - 6 - width, up - LABEL_SIZE / 2),
        }
        placed = {
            side: Bbox.from_bounds(*corner, width, LABEL_SIZE) for side, corner in boxes.items()
        }
        below = next(iter(placed))
        free = (side for side, box in placed.items() if not box.count_overlaps(taken))
        side = next(free, below)
        taken.append(placed[side])
        right, higher, align, edge = side
        axes.annotate(text, (x, y), (right, higher), va=edge, ha=align, **LABEL)


def _mark_numbers(axes: Axes) -> None:
    """Marks 1, 2 and 5 times each power of ten, as plain numbers."""
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())


class PowersOfTen(LogFormatter):
    """`10⁻³`, `2×10⁻³` as plain text, on the ticks that matplotlib would label."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        return power_of_ten(x) if super().__call__(x, pos) else ""


def power_of_ten(x: float) -> str:
    """`10⁻³`, `2×10⁻³`. x: above 0."""
    exponent = math.floor(math.log10(x) + 1e-9)
    times = f"{x / 10**exponent:.3g}×"
    return ("" if times == "1×" else times) + "10" + str(exponent).translate(SUPERSCRIPT)


def _room_below(panel: Curves, width: float) -> float:
    return TITLES + LEGEND_LINE * math.ceil(len(panel.curves) / _legend_columns(panel, width))


def _legend_columns(panel: Curves, width: float) -> int:
    longest = max(len(curve.name) for curve in panel.curves)
    return max(1, int(width / (0.45 + 0.061 * longest)))


def _draw_legend(axes: Axes, panel: Curves, width: float) -> None:
    axes.legend(
        loc="upper left",
        bbox_to_anchor=(-0.02, -(TITLES - 0.15) / HEIGHT),
        ncols=_legend_columns(panel, width),
        fontsize=SMALL,
        frameon=False,
        handlelength=1.5,
        handletextpad=0.4,
        columnspacing=1.2,
        borderaxespad=0,
        borderpad=0.1,
    )
