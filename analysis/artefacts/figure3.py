"""Figure 3: random crops as prediction tasks, from global to local views and between adjacent views.

It needs no runs. The paper shows the geometry alone. Here are crops as they are drawn, and how often each kind is.
"""

import math
from functools import partial
from typing import Any

import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..cache import Arrays
from ..crops import ADJACENT, AREAS, GLOBAL_TO_LOCAL, KINDS, PAIRS, pairs_of_crops
from ..drawing import COLORS, INK, SMALL, add_axes, ink_on, page
from ..images import Source, illustrated, report_on_images
from ..panels import PAGE
from ..pictures import outline, show_image
from ..report import LeftOut, Report
from ..typesetting import Table, conjoined, number
from . import Artefact

NOT_PUBLISHED = "not published"
NAMES = (("A", "B"), ("C", "D"))
TASKS = ("Global and local views: B → A", "Adjacent views: D → C")


def reports(artefact: Artefact, runs: pd.DataFrame) -> list[Report | LeftOut]:
    """One report for each data set among the runs, or one on the embedded images."""

    def report(source: Source, measured: Arrays) -> Report:
        text = caption(source, measured)
        return illustrated(
            artefact,
            source,
            text,
            partial(draw, measured),
            notes=notes(source),
            alt=alt(source, measured),
            tables=[table(source, measured)],
            data=data(measured),
            summary=text.splitlines()[1:],
        )

    return report_on_images(artefact, runs, pairs_of_crops, report)


def notes(source: Source) -> list[str]:
    """What the kinds of pairs are, and how the numbers are made."""
    side = f"{source.size} × {source.size}"
    return [
        "Global to local: one crop lies within the other. Adjacent: the two share no pixel. Overlapping: all other "
        "pairs; each crop has pixels of the other, and pixels that the other lacks.",
        f"Shares of {PAIRS:,} pairs of independent crops for each least area (views.crop_area), in whole pixels of an "
        f"image of {side}. ±: 95% interval of a share. All draws depend on the data’s seed.",
        f"In the picture are the first pairs drawn, with areas from {percent(AREAS[0])} of the image and without a "
        "flip, in which A covers at least half of the image and B at most a quarter, and C and D cover at most a "
        "quarter each.",
    ]


def caption(source: Source, measured: Arrays) -> str:
    return "\n".join(
        [
            f"{source.label}. Solid rectangles are images, dashed rectangles are random crops. The contrastive "
            "prediction tasks include global to local views (B → A) and adjacent views (D → C).",
            f"{drawn_shares(measured)}.",
            "The paper publishes no shares.",
        ]
    )


def alt(source: Source, measured: Arrays) -> str:
    """The alt text of the picture: what is drawn, and how often each kind of pair is."""
    return (
        f"Two images of {source.label} with two random crops each: B within A, and C and D apart. Below, bars with the "
        f"share of each kind of pair by least area of a crop. {drawn_shares(measured)}."
    )


def drawn_shares(measured: Arrays) -> str:
    """How often each kind of pair is drawn with the paper's crops, in words."""
    words = [
        f"{number(share(measured, 0, kind), half(measured, 0, kind))}% are {name}"
        for kind, name in enumerate(KINDS)
    ]
    none = [
        area
        for area, of_area in zip(AREAS, measured["counts"], strict=True)
        if not of_area[ADJACENT]
    ]
    without = (
        f"; with areas from {percent(none[0])}, none of {PAIRS:,} pairs is adjacent" if none else ""
    )
    return f"Among pairs of crops with areas from {percent(AREAS[0])} of the image, {conjoined(words)}{without}"


def percent(area: float) -> str:
    return f"{100 * area:.0f}%"


def share(measured: Arrays, area: int, kind: int) -> float:
    """The percentage of pairs of a kind. area: an index into AREAS."""
    return float(100 * measured["counts"][area, kind] / PAIRS)


def half(measured: Arrays, area: int, kind: int) -> float:
    """Half the width of the 95% interval of a share, in points."""
    p = share(measured, area, kind) / 100
    return 100 * 1.96 * math.sqrt(p * (1 - p) / PAIRS)


def table(source: Source, measured: Arrays) -> Table:
    header = ["Least area of a crop", *(f"{kind.capitalize()} (%)" for kind in KINDS), "Paper"]
    rows = [
        [
            percent(area),
            *(
                number(share(measured, row, kind), half(measured, row, kind))
                for kind in range(len(KINDS))
            ),
            NOT_PUBLISHED,
        ]
        for row, area in enumerate(AREAS)
    ]
    return Table(
        f"Ours: pairs of crops of images of {source.size} × {source.size} pixels", header, rows
    )


def data(measured: Arrays) -> pd.DataFrame:
    """One row for each least area and kind, then one for each crop in the picture."""
    kinds = [
        {
            "crop_area": area,
            "kind_of_pair": name,
            "pairs": PAIRS,
            "drawn": int(measured["counts"][row, kind]),
        }
        | {"share": share(measured, row, kind), "half": half(measured, row, kind)}
        for row, area in enumerate(AREAS)
        for kind, name in enumerate(KINDS)
    ]
    crops = [
        {"crop_area": AREAS[0], "kind_of_pair": KINDS[kind], "crop": NAMES[pair][place]}
        | dict(
            zip(
                ("top", "left", "height", "width"),
                measured["windows"][pair, place].tolist(),
                strict=True,
            )
        )
        for pair, kind in enumerate((GLOBAL_TO_LOCAL, ADJACENT))
        for place in range(2)
    ]
    whole = dict.fromkeys(("pairs", "drawn", "top", "left", "height", "width"), "Int64")
    return pd.DataFrame(kinds + crops).astype(whole)


# Inches.
EDGE, IMAGE, CROP, GAP, TITLE = 0.15, 2.7, 1.25, 0.2, 0.34
BAR, LABEL, RIGHT, BELOW = 0.26, 0.75, 1.05, 0.55


def draw(measured: Arrays, text: str) -> Figure:
    """The two pairs side by side, and below them the shares of kinds by least area."""
    bars = BAR * len(AREAS)
    body = TITLE + IMAGE + BELOW + bars + 0.2
    figure, bottom = page(PAGE, body, text)
    height = figure.get_size_inches()[1]
    for pair, task in enumerate(TASKS):
        left = EDGE + pair * PAGE / 2
        under = bottom + body - TITLE - IMAGE
        figure.text(
            left / PAGE, (under + IMAGE + 0.1) / height, task, fontsize=10, fontweight="bold"
        )
        whole = add_axes(figure, left, under, IMAGE, IMAGE)
        show_image(whole, measured["images"][pair])
        for place, name in enumerate(NAMES[pair]):
            outline(whole, measured["windows"][pair, place], name)
            x = left + IMAGE + GAP
            y = under + (1 - place) * (IMAGE - CROP)
            tile = add_axes(figure, x, y, CROP, CROP)
            show_image(tile, measured["crops"][pair, place])
            tile.spines[:].set_linestyle((0, (4, 2)))
            look: dict[str, Any] = {"fontsize": 11, "fontweight": "bold", "va": "center"}
            figure.text((x + CROP + 0.06) / PAGE, (y + CROP / 2) / height, name, **look)
        arrow = {"arrowstyle": "-|>", "color": INK, "linewidth": 1.2, "shrinkA": 0, "shrinkB": 0}
        ends = (0.5, (IMAGE - CROP) / CROP - 0.02), (0.5, 1.02)
        tile.annotate("", *ends, xycoords="axes fraction", arrowprops=arrow, annotation_clip=False)
    axes = add_axes(figure, EDGE + LABEL, bottom + 0.2, PAGE - EDGE - LABEL - RIGHT, bars)
    draw_shares(axes, measured)
    return figure


def draw_shares(axes: Axes, measured: Arrays) -> None:
    """A bar of 100% for each least area, divided into the kinds."""
    colors = [colormaps[COLORS](at) for at in (0.2, 0.5, 0.85)]
    for row in range(len(AREAS)):
        begin = 0.0
        for kind, name in enumerate(KINDS):
            width = share(measured, row, kind)
            axes.barh(row, width, 0.8, begin, color=[colors[kind]], edgecolor=INK, linewidth=0.4)
            words = f"{name} {number(width)}%"
            look: dict[str, Any] = {"va": "center_baseline", "fontsize": SMALL}
            if kind == ADJACENT:
                axes.text(101, row, words, **look)
            else:
                look |= {"ha": "center", "color": ink_on(colors[kind])}
                axes.text(begin + width / 2, row, words, **look)
            begin += width
    axes.set(xlim=(0, 100), ylim=(len(AREAS) - 0.5, -0.5))
    axes.set_yticks(range(len(AREAS)), [f"from {percent(area)}" for area in AREAS], fontsize=SMALL)
    axes.set_xticks([])
    axes.tick_params(length=0, pad=4)
    axes.spines[:].set_visible(False)
    axes.set_title(
        "Pairs of crops by kind and least area",
        loc="left",
        x=0,
        pad=6,
        fontsize=10,
        fontweight="bold",
    )
