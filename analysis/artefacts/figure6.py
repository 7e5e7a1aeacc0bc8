"""Figure 6: histograms of the intensities of crops of two images, without and with colour distortion.

It needs no runs. The paper shows only pictures, and argues that colour histograms alone suffice to tell images apart
(Section 3.1).
"""

from functools import partial

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ..cache import Arrays
from ..drawing import COLORS, FAINT, add_axes, page
from ..histograms import BINS, CROPS, IMAGES, histograms
from ..images import Source, illustrated, report_on_images
from ..panels import PAGE
from ..pictures import outline, show_image
from ..report import LeftOut, Report
from ..statistics import Estimate, mean_interval
from ..typesetting import Table, number
from . import Artefact

CONDITIONS = ("without colour distortion", "with colour distortion")


def reports(artefact: Artefact, runs: pd.DataFrame) -> list[Report | LeftOut]:
    """One report for each data set among the runs, or one on the embedded images."""

    def report(source: Source, measured: Arrays) -> Report:
        text = caption(source, measured)
        return illustrated(
            artefact,
            source,
            text,
            partial(draw, measured),
            notes=notes(measured),
            alt=alt(source, measured),
            tables=[table(source, measured)],
            data=data(measured),
            summary=text.splitlines()[1:],
        )

    return report_on_images(artefact, runs, histograms, report)


def notes(measured: Arrays) -> list[str]:
    """How the picture and the numbers are made."""
    batches, batch = measured["found"].shape[1], int(measured["batch"])
    return [
        "Crops have areas from 8% of the image and are resized to its size. Colour distortion is App. A’s with "
        "strength 1: jitter for 80% of the crops, grey for 20%. It works on the same crops, and is drawn for each of "
        "them, so the two crops of an image are changed differently. All draws depend on the data’s seed.",
        f"A histogram has {BINS} equal bins for the values of all channels. The distance of two histograms is the "
        "share of values that would have to change bins: half of the L1 distance. A bar that is cut off has its "
        "number above it.",
        f"Measured on {batches} batches of {batch} test images, with two crops of each. A crop finds its partner, the "
        "other crop of its image, if that is nearer than every other crop of the batch. ±: 95% interval over batches "
        "(Student’s t).",
    ]


def caption(source: Source, measured: Arrays) -> str:
    return "\n".join(
        [
            f"{source.label}. Histograms of pixel intensities (over all channels) of {CROPS} crops of each of two test "
            "images, without and with colour distortion. All axes have the same range.",
            f"{told_apart(measured)}.",
            "The paper: crops of an image share their colours, which colour distortion hides. It gives no numbers.",
        ]
    )


def alt(source: Source, measured: Arrays) -> str:
    """The alt text of the picture: what is drawn, and what was measured."""
    return (
        f"Two rows, each with an image of {source.label}, {CROPS} of its crops above their histograms, and the same "
        f"crops with colour distortion above theirs. {told_apart(measured)}."
    )


def told_apart(measured: Arrays) -> str:
    """How many crops find the other crop of their image by histograms, and what colour distortion changes, in words."""
    without, distorted = shares(measured)
    change = difference(measured)
    hides = "hides" if change.mean > 0 else "does not hide"
    verdict = f"colour distortion {hides} which crops are of one image"
    if abs(change.mean) <= change.half:
        verdict = "undecided whether colour distortion hides which crops are of one image"
    return (
        f"By histograms alone, {number(without.mean, without.half)}% of crops find the other crop of their image among "
        f"{candidates(measured):,} without colour distortion, and {number(distorted.mean, distorted.half)}% with it "
        f"(chance: {chance(measured):.1f}%): {verdict}"
    )


def shares(measured: Arrays) -> list[Estimate]:
    """The percentages of crops that find their partner, without and with colour distortion."""
    return [mean_interval(of_batches) for of_batches in measured["found"]]


def difference(measured: Arrays) -> Estimate:
    """By how many points colour distortion lowers the percentage, paired by batch."""
    without, distorted = measured["found"]
    return mean_interval(without - distorted)


def candidates(measured: Arrays) -> int:
    """The other crops of a batch."""
    return 2 * int(measured["batch"]) - 1


def chance(measured: Arrays) -> float:
    """The percentage of crops that would find their partner by guessing."""
    return 100 / candidates(measured)


def table(source: Source, measured: Arrays) -> Table:
    header = [
        "Crops",
        "Find their partner (%)",
        "Chance (%)",
        "Distance to partner (%)",
        "To others (%)",
    ]
    rows = [
        [
            condition,
            number(found.mean, found.half),
            f"{chance(measured):.1f}",
            *(number(float(measured[name][row].mean())) for name in ("same", "other")),
        ]
        for row, (condition, found) in enumerate(zip(CONDITIONS, shares(measured), strict=True))
    ]
    return Table(f"Ours: {source.label}", header, rows)


def data(measured: Arrays) -> pd.DataFrame:
    """One row for each batch, then one for each bin of each crop in the picture."""
    batches = [
        {"colour_distortion": bool(distorted), "batch": batch}
        | {name: measured[name][distorted, batch] for name in ("found", "same", "other")}
        for distorted in range(2)
        for batch in range(measured["found"].shape[1])
    ]
    bins = [
        {"colour_distortion": bool(distorted), "image": image, "crop": crop, "bin": place}
        | {"values": measured["counts"][distorted, image, crop, place]}
        for distorted, image, crop, place in np.ndindex(2, IMAGES, CROPS, BINS)
    ]
    whole = dict.fromkeys(("batch", "image", "crop", "bin", "values"), "Int64")
    return pd.DataFrame(batches + bins).astype(whole)


# Inches.
IMAGE, LEFT, COLUMN, BETWEEN = 1.05, 0.15, 0.92, 0.16
TILE, HEIGHT, GAP, TITLE, BELOW = 0.7, 0.9, 0.15, 0.34, 0.36
AXIS = 0.52


def draw(measured: Arrays, text: str) -> Figure:
    """A row for each image: the image, its crops above their histograms, and the same with colour distortion."""
    row = TILE + HEIGHT + 0.15
    body = TITLE + IMAGES * (row + BELOW) + 0.12
    figure, bottom = page(PAGE, body, text)
    top = bottom + body - TITLE
    height = figure.get_size_inches()[1]
    top_share = limit(measured)
    groups = [LEFT + IMAGE + AXIS + BETWEEN * k + CROPS * COLUMN * k for k in range(2)]
    headings = ["Image", *(each.capitalize() for each in CONDITIONS)]
    for x, heading in zip([LEFT, *groups], headings, strict=True):
        figure.text(x / PAGE, (top + 0.1) / height, heading, fontsize=10, fontweight="bold")
    for image in range(IMAGES):
        under = top - image * (row + BELOW) - row
        whole = add_axes(figure, LEFT, under + (row - IMAGE) / 2, IMAGE, IMAGE)
        show_image(whole, measured["images"][image])
        for window in measured["windows"][image]:
            outline(whole, window)
        for distorted, left in enumerate(groups):
            for crop in range(CROPS):
                x = left + COLUMN * crop
                width = COLUMN - GAP
                tile = add_axes(figure, x + (width - TILE) / 2, under + row - TILE, TILE, TILE)
                show_image(tile, measured["crops"][distorted, image, crop])
                axes = add_axes(figure, x, under, width, HEIGHT)
                draw_histogram(axes, measured["counts"][distorted, image, crop], image, top_share)
                axes.tick_params(labelleft=distorted == crop == 0)
        middle = (groups[0] - 0.34) / PAGE, (under + HEIGHT / 2) / height
        figure.text(
            *middle, "Values (%)", rotation=90, ha="center", va="center", fontsize=7, color=FAINT
        )
    return figure


def limit(measured: Arrays) -> float:
    """The end of all vertical axes, percent: at most a little above twice the highest bar without colour distortion.

    Colour distortion can put most values of a crop into one bin, which would leave nothing to see of the others.
    """
    highest = [100 * each.max() / measured["counts"][0, 0, 0].sum() for each in measured["counts"]]
    return 1.05 * float(min(2 * highest[0], max(highest)))


def draw_histogram(axes: Axes, counts: NDArray[np.int64], image: int, top: float) -> None:
    """Draws one histogram, in percent, in the colour of its image; a bar that is cut off has its number above it.

    counts: (BINS,). top: the end of the vertical axis.
    """
    color = colormaps[COLORS](0.55 + 0.35 * image)
    shares = 100 * counts / counts.sum()
    axes.stairs(shares, np.linspace(0, 1, BINS + 1), fill=True, color=color)
    highest = int(shares.argmax())
    if shares[highest] > top:
        at = (highest + 0.5) / BINS, top
        axes.text(*at, f"{shares[highest]:.0f}", ha="center", va="bottom", fontsize=6.5)
    axes.set(xlim=(0, 1), ylim=(0, top))
    axes.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
    axes.tick_params(length=2, width=0.5, pad=2, labelsize=6.5, colors=FAINT)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set(color=FAINT, linewidth=0.6)
