"""Figure 4: the operations that the paper studies, each on the same image. It needs no runs."""

from functools import partial
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from ..cache import Arrays
from ..drawing import SMALL, add_axes, page
from ..images import Source, illustrated, report_on_images
from ..panels import PAGE
from ..pictures import show_image
from ..report import LeftOut, Report
from ..typesetting import MISSING, Table
from ..views import OPERATORS, operators
from . import Artefact

DRAWN = {
    "original": MISSING,
    "crop": "area from 8% to 100%, aspect ratio from 3/4 to 4/3",
    "flip": "the same, with probability 0.5",
    "drop": "with probability 0.2",
    "jitter": "brightness, contrast and saturation by up to 80%, hue by up to 0.2 turns; with probability 0.8",
    "rotate": "90, 180 or 270 degrees",
    "cutout": "the centre of a square half as wide as the image",
    "noise": "standard deviation from 0.05 to 0.15",
    "blur": "standard deviation from 0.1 to 2 pixels",
    "sobel": "nothing",
}
"""What is random in each operation."""

POLICY = (
    "SimCLR’s policy consists of crop (with flip and resize), colour distortion and blur alone. The paper studies the "
    "other operations, but does not train its models with them."
)


def reports(artefact: Artefact, runs: pd.DataFrame) -> list[Report | LeftOut]:
    """One report for each data set among the runs, or one on the embedded images."""

    def report(source: Source, measured: Arrays) -> Report:
        return illustrated(
            artefact,
            source,
            f"{source.label}. The operations of the paper, each on the same test image, as ours are drawn. {POLICY}",
            partial(draw, measured),
            notes=NOTES,
            alt=f"An image of {source.label} ten times: {'; '.join(OPERATORS.values())}. {POLICY}",
            tables=[table(measured)],
            data=data(measured),
            summary=["The operations on one of the data set’s test images."],
        )

    return report_on_images(artefact, runs, operators, report)


NOTES = [
    "Each operation is drawn with the data’s seed; the crop until one without a flip and one with a flip are there. "
    "Colour distortion is jitter, with strength 1, and then drop.",
    "The paper does not publish the magnitudes of cutout and noise.",
]


def table(measured: Arrays) -> Table:
    rows = [[name, DRAWN[key], in_picture(key, measured)] for key, name in OPERATORS.items()]
    return Table("Ours", ["Operation", "What is random", "In the picture"], rows)


def in_picture(name: str, measured: Arrays) -> str:
    """What was drawn for the picture, in words."""
    drawn = parameters(name, measured)
    if name in ("crop", "flip"):
        return f"{drawn['height']} × {drawn['width']} pixels at row {drawn['top']}, column {drawn['left']}"
    if name == "rotate":
        return f"{90 * drawn['quarters']} degrees"
    words = {
        "jitter": "hue by {hue:+.2f} turns",
        "cutout": "{side} × {side} pixels at row {top}, column {left}",
        "noise": "{std:.2f}",
        "blur": "{sigma:.1f}",
    }
    return words.get(name, MISSING).format(**drawn)


def parameters(name: str, measured: Arrays) -> dict[str, Any]:
    """The numbers drawn for an operation in the picture."""
    return {
        key.removeprefix(f"{name}."): value.item()
        for key, value in measured.items()
        if key.startswith(f"{name}.")
    }


def data(measured: Arrays) -> pd.DataFrame:
    """One row for each number drawn."""
    return pd.DataFrame(
        [
            {"operation": name, "parameter": key, "value": float(value)}
            for name in OPERATORS
            for key, value in parameters(name, measured).items()
        ]
    )


# Inches.
COLUMNS, EDGE, GAP, LABEL, TOP = 5, 0.15, 0.16, 0.3, 0.12


def draw(measured: Arrays, text: str) -> Figure:
    """The panels in rows of five, with their names below."""
    side = (PAGE - 2 * EDGE - (COLUMNS - 1) * GAP) / COLUMNS
    rows = -(-len(OPERATORS) // COLUMNS)
    body = TOP + rows * (side + LABEL) + 0.1
    figure, bottom = page(PAGE, body, text)
    height = figure.get_size_inches()[1]
    for place, (name, words) in enumerate(OPERATORS.items()):
        row, column = divmod(place, COLUMNS)
        left = EDGE + column * (side + GAP)
        under = bottom + body - TOP - side - row * (side + LABEL)
        show_image(add_axes(figure, left, under, side, side), measured[name])
        label = f"({'abcdefghij'[place]}) {words}"
        at = (left + side / 2) / PAGE, (under - 0.06) / height
        figure.text(*at, label, ha="center", va="top", fontsize=SMALL)
    return figure
