"""Pictures: one style, heat maps, and files whose bytes depend only on the numbers.

Figures are made without pyplot, which leaves everything global alone: no backend is chosen, and no rcParams change.
"""

import contextlib
import functools
import math
import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.style
from fontTools import subset
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.legend import Legend
from matplotlib.patches import Rectangle
from matplotlib.text import Text

from simclr_ablate.files import write_atomically

from .typesetting import MISSING, conjoined, number, uncapitalized

DPI = 200
COLORS = "YlGnBu"
"""Pale to dark, which shows the order of values to any colour vision, and in greyscale."""
SMALL = 7.8
"""The font size of labels and captions, points."""

# Inches.
CELL_WIDTH, CELL_HEIGHT = 0.455, 0.42
LEFT, RIGHT, TOP, BELOW = 0.82, 0.13, 0.38, 1.0
LEAST = 2.6
"""The least room for a heat map's title."""
NARROWEST = 9.2
"""The least width of a page of heat maps: the page shows all pictures as wide."""
LONGEST_NAME = 26
"""The most characters of the name of a row or column."""
NAME_CHARACTER = 0.064
"""The width of a character of such a name."""
SLANT = 40
"""The angle of names of columns that are too long to stand side by side, degrees."""
LINE_HEIGHT = 0.165
CHARACTERS_PER_INCH = 17
WIDEST = 2 * (LEFT + CELL_WIDTH * 8.25 + RIGHT) + 0.01
"""The widest row of heat maps: two of seven columns and an average, which is a gap of a quarter of a cell away."""

INK = "#222222"
FAINT = "#666666"
STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 8.5,
    "text.color": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "hatch.linewidth": 0.6,
    "pdf.fonttype": 42,
    # A user may call something `$5_to_$10`. Formulas turn parsing on for themselves.
    "text.parse_math": False,
}
TITLE_CHARACTERS_PER_INCH = 13.5
"""For a title at its font size, which may be a little wider than its axes."""
GAP = 0.25
"""The gap between a heat map and the columns set apart from it, in cells."""


@dataclass(frozen=True)
class Cell:
    """A percentage (NaN: missing), a small line below it, and whether its corner is marked."""

    value: float
    note: str = ""
    marked: bool = False


@dataclass(frozen=True)
class HeatMap:
    """What one heat map shows.

    apart: how many of the last columns are set a little apart. reference: a named value that is marked on the colour
    scale. beside: the values of other maps that share the colour scale.
    """

    title: str
    row_title: str
    column_title: str
    rows: Sequence[str]
    columns: Sequence[str]
    cells: Sequence[Sequence[Cell]]
    apart: int = 0
    reference: tuple[str, float] | None = None
    beside: Sequence[float] = ()

    @property
    def row_names(self) -> list[str]:
        return [shortened(name, LONGEST_NAME) for name in self.rows]

    @property
    def column_names(self) -> list[str]:
        return [shortened(name, LONGEST_NAME) for name in self.columns]

    @property
    def left(self) -> float:
        """The room for the names of rows and their title, inches."""
        return max(LEFT, 0.34 + NAME_CHARACTER * max(map(len, self.row_names), default=0))

    @property
    def slanted(self) -> bool:
        """Whether the names of columns are too long to stand side by side."""
        return any(NAME_CHARACTER * len(name) > 1.05 * CELL_WIDTH for name in self.column_names)

    @property
    def below(self) -> float:
        """The room for the names of columns, their title and the colour scale, inches."""
        longest = max(map(len, self.column_names), default=0)
        slope = math.sin(math.radians(SLANT))
        return BELOW + (slope * NAME_CHARACTER * longest if self.slanted else 0)

    @property
    def whole_width(self) -> float:
        """The width with all that is beside it, inches; ample for a short title above few columns."""
        return self.left + max(CELL_WIDTH * self.width, LEAST) + RIGHT

    def left_edge(self, column: int) -> float:
        return column + (GAP if column >= len(self.columns) - self.apart else 0)

    @property
    def width(self) -> float:
        return self.left_edge(len(self.columns) - 1) + 1

    def limits(self) -> tuple[float, float]:
        """The smallest and the largest value shown; they always differ."""
        values = [*self.beside, *(cell.value for row in self.cells for cell in row)]
        values = [value for value in values if not math.isnan(value)]
        if self.reference is not None:
            values.append(self.reference[1])
        low, high = min(values, default=0.0), max(values, default=100.0)
        return low, high if high > low else low + 1

    def position(self, value: float) -> float:
        """Where `value` lies between the limits, from 0 to 1."""
        low, high = self.limits()
        return (value - low) / (high - low)


@contextlib.contextmanager
def style() -> Iterator[None]:
    """The project's look within the context, whatever the user's matplotlibrc says."""
    with matplotlib.style.context(STYLE, after_reset=True):
        yield


def ink_on(color: Sequence[float]) -> str:
    """Black or white, whichever has more contrast with `color` (RGB): at least 4.5:1 (WCAG AA)."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in color[:3]]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "#000000" if (luminance + 0.05) / 0.05 >= 1.05 / (luminance + 0.05) else "#ffffff"


def heat_maps(maps: Sequence[HeatMap], caption: str) -> Figure:
    """Heat maps in rows, each above its colour scale, with a caption of a few lines at the bottom.

    A row holds as many maps as fit into WIDEST: it is meant to be shown about 900 pixels wide.
    """
    lines: list[list[HeatMap]] = [[]]
    for heat_map in maps:
        if lines[-1] and sum(each.whole_width for each in [*lines[-1], heat_map]) > WIDEST:
            lines.append([])
        lines[-1].append(heat_map)
    heights = [
        TOP + CELL_HEIGHT * max(len(each.rows) for each in line) + max(each.below for each in line)
        for line in lines
    ]
    widths = [sum(each.whole_width for each in line) for line in lines]
    figure, bottom = page(max(*widths, NARROWEST), sum(heights), caption)
    top = bottom + sum(heights)
    for line, height in zip(lines, heights, strict=True):
        left = 0.0
        for heat_map in line:
            left += heat_map.left
            size = CELL_WIDTH * heat_map.width, CELL_HEIGHT * len(heat_map.rows)
            low = top - TOP - size[1]
            draw_heat_map(add_axes(figure, left, low, *size), heat_map)
            scale_width = CELL_WIDTH * (len(heat_map.columns) - heat_map.apart)
            scale = low - 0.66 - (heat_map.below - BELOW)
            draw_scale(add_axes(figure, left, scale, scale_width, 0.09), heat_map)
            left += heat_map.whole_width - heat_map.left
        top -= height
    return figure


def describe_heat_maps(maps: Sequence[HeatMap], measure: str) -> str:
    """What is drawn, in words: `Heat maps of top-1 (%), rows: batch size, columns: epochs`."""
    rows, columns = (
        conjoined(uncapitalized(title) for title in titles)
        for titles in zip(*((each.row_title, each.column_title) for each in maps), strict=True)
    )
    return f"Heat maps of {uncapitalized(measure)}, rows: {rows}, columns: {columns}"


def page(width: float, body: float, caption: str) -> tuple[Figure, float]:
    """A figure with `caption` below an empty body of this width and height, and the body's bottom, all in inches."""
    characters = round(CHARACTERS_PER_INCH * width)
    # Words this long are broken, since they may consist of wide letters only.
    parts = re.sub(rf"(\S{{{characters // 2}}})(?=\S)", r"\1 ", caption).splitlines()
    lines = [line for part in parts for line in textwrap.wrap(part, characters)]
    caption_height = LINE_HEIGHT * len(lines) + 0.1
    height = body + caption_height
    figure = Figure((width, height), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    text = "\n".join(lines)
    figure.text(
        *(0.15 / width, caption_height / height, text),
        va="top",
        fontsize=SMALL,
        linespacing=1.45,
    )
    return figure, caption_height


def add_axes(figure: Figure, left: float, bottom: float, width: float, height: float) -> Axes:
    """Axes at a place given in inches."""
    total_width, total_height = figure.get_size_inches()
    return figure.add_axes(
        (left / total_width, bottom / total_height, width / total_width, height / total_height)
    )


def set_title(axes: Axes, title: str, least: float = 0.0) -> None:
    """Sets the title of one panel above its left edge, without its middle if it would be wider than the axes.

    least: the width that it may have in any case, inches.
    """
    width = max(axes.get_window_extent().width / DPI, least)
    text = shortened(title, round(TITLE_CHARACTERS_PER_INCH * width))
    axes.set_title(text, loc="left", pad=7, fontsize=10, fontweight="bold")


def shortened(text: str, most: int) -> str:
    """`text`, without its middle if it has more than `most` characters."""
    if len(text) <= most:
        return text
    tail = (most - 1) // 3
    return f"{text[: most - 1 - tail]}…{text[len(text) - tail :]}"


def name_entries(legend: Legend, names: Sequence[str]) -> None:
    """Names the entries of a legend. As labels, names that begin with an underscore would be special to matplotlib."""
    for entry, name in zip(legend.get_texts(), names, strict=True):
        entry.set_text(name)


def draw_heat_map(axes: Axes, heat_map: HeatMap) -> None:
    """Draws the cells, labels and title of one heat map."""
    for y, row in enumerate(heat_map.cells):
        for column, cell in enumerate(row):
            corner = heat_map.left_edge(column), y
            if math.isnan(cell.value):
                _draw_missing(axes, *corner)
            else:
                _draw_cell(axes, *corner, cell, colormaps[COLORS](heat_map.position(cell.value)))
    axes.set(xlim=(0, heat_map.width), ylim=(len(heat_map.rows), 0))
    centres = [heat_map.left_edge(column) + 0.5 for column in range(len(heat_map.columns))]
    turned: dict[str, Any] = {"rotation": SLANT, "ha": "right", "rotation_mode": "anchor"}
    look = {"fontsize": SMALL, **(turned if heat_map.slanted else {})}
    axes.set_xticks(centres, heat_map.column_names, **look)
    middles = [y + 0.5 for y in range(len(heat_map.rows))]
    axes.set_yticks(middles, heat_map.row_names, fontsize=SMALL)
    axes.tick_params(length=0, pad=3)
    axes.spines[:].set_visible(False)
    axes.set_ylabel(heat_map.row_title, labelpad=4)
    middle = (len(heat_map.columns) - heat_map.apart) / 2
    axes.set_xlabel(heat_map.column_title, x=middle / heat_map.width, labelpad=3)
    set_title(axes, heat_map.title, LEAST)


def draw_scale(axes: Axes, heat_map: HeatMap) -> None:
    """Draws the colour scale of one heat map, with its reference."""
    colors = ScalarMappable(Normalize(*heat_map.limits()), COLORS)
    bar = axes.figure.colorbar(colors, cax=axes, orientation="horizontal", drawedges=False)
    bar.outline.set_visible(False)
    axes.tick_params(length=2, width=0.5, pad=2, labelsize=7, colors=FAINT)
    axes.locator_params(axis="x", nbins=6, integer=True)
    if heat_map.reference is not None:
        name, value = heat_map.reference
        axes.axvline(value, -0.4, 1.4, color=INK, linewidth=1.4, clip_on=False)
        side = "left" if heat_map.position(value) < 0.5 else "right"
        look: dict[str, Any] = {"fontsize": 7, "color": FAINT, "ha": side}
        axes.text(value, 1.7, name, transform=axes.get_xaxis_transform(), **look)


def save(figure: Figure, path: Path) -> list[Path]:
    """Writes `path`.png and `path`.pdf, without dates, which would make equal pictures differ."""
    png, pdf = path.with_name(f"{path.name}.png"), path.with_name(f"{path.name}.pdf")
    for text in figure.findobj(Text):
        text.set_text(drawable(text.get_text()))
    with style():
        write_atomically(
            png, lambda file: figure.savefig(file, format="png", metadata={"Software": None})
        )
        undated = {"CreationDate": None, "Creator": None, "Producer": None}
        with _lean_fonts():
            write_atomically(pdf, lambda file: figure.savefig(file, format="pdf", metadata=undated))
    return [png, pdf]


def drawable(text: str) -> str:
    """`text` with Python's escapes (`\\u732b`) for characters without a glyph, which would all be the same box."""
    known = _glyphs()
    return "".join(
        character
        if ord(character) in known or character == "\n"
        else character.encode("unicode_escape").decode()
        for character in text
    )


@functools.cache
def _glyphs() -> frozenset[int]:
    """The code points for which our font has a glyph, both normal and bold."""
    faces = (
        FontProperties(family=STYLE["font.family"], weight=weight) for weight in ("normal", "bold")
    )
    return frozenset.intersection(*(frozenset(get_font(findfont(f)).get_charmap()) for f in faces))


@contextlib.contextmanager
def _lean_fonts() -> Iterator[None]:
    """Embeds fonts without their layout tables, since the text of a PDF is laid out already.

    Subsetting these tables took most of a PDF's time. Which tables are dropped is an option of fontTools that
    matplotlib does not set, so its default is changed.
    """
    kept = subset.Options._drop_tables_default
    subset.Options._drop_tables_default = [*kept, "GDEF", "GPOS", "GSUB"]
    try:
        yield
    finally:
        subset.Options._drop_tables_default = kept


def _draw_cell(axes: Axes, x: float, y: float, cell: Cell, color: Sequence[float]) -> None:
    axes.add_patch(Rectangle((x, y), 1, 1, facecolor=color, edgecolor="white", linewidth=1))
    look: dict[str, Any] = {"ha": "center", "va": "center", "color": ink_on(color)}
    middle = y + (0.42 if cell.note else 0.52)
    axes.text(x + 0.5, middle, number(cell.value), fontsize=9, **look)
    if cell.note:
        axes.text(x + 0.5, y + 0.77, cell.note, fontsize=6.5, **look)
    if cell.marked:
        axes.plot(x + 0.89, y + 0.13, "o", ms=3.2, mfc="none", mec=ink_on(color), mew=0.7)


def _draw_missing(axes: Axes, x: float, y: float) -> None:
    axes.add_patch(Rectangle((x, y), 1, 1, facecolor="#f4f4f4", edgecolor="white", linewidth=1))
    hatched = Rectangle((x + 0.02, y + 0.02), 0.96, 0.96, fill=False, edgecolor="#c8c8c8")
    hatched.set(hatch="/////", linewidth=0)
    axes.add_patch(hatched)
    axes.text(x + 0.5, y + 0.5, MISSING, ha="center", va="center", color=FAINT)
