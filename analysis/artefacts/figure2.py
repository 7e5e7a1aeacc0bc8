"""Figure 2: the framework, from an image to the agreement of its two views, with the code that carries it out.

It needs no runs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from simclr_ablate.schema import KEYS

from ..cache import Arrays
from ..drawing import COLORS, FAINT, INK, add_axes, page, style
from ..images import embedded, kept_of_images
from ..panels import PAGE
from ..pictures import show_image
from ..report import Report
from ..typesetting import Table
from ..views import two_views
from . import Artefact

PACKAGE = "simclr_ablate."

Point = tuple[float, float]


@dataclass(frozen=True)
class Part:
    """A part of the framework. maker: the function that makes it, without PACKAGE. key: the one that chooses it."""

    title: str
    role: str
    maker: str
    key: str

    @property
    def choices(self) -> str:
        """The values of its key, and `package.module:function` if it can be a user's own."""
        (info,) = (key for key in KEYS if key.name == self.key)
        return info.accepted.removeprefix("one of ")


PARTS = [
    Part(
        "Views t, t′ ~ T",
        "two random views of each image x, by t and by t′",
        "augment.build.build_policy",
        "views.policy",
    ),
    Part(
        "Encoder f",
        "h = f(view), the representation",
        "models.encoder.build_encoder",
        "encoder.architecture",
    ),
    Part(
        "Projection head g",
        "z = g(h), for pretraining alone",
        "models.head.build_head",
        "head.kind",
    ),
    Part(
        "Loss",
        "maximises the agreement of an image’s two z",
        "losses.registry.build_loss",
        "loss.name",
    ),
    Part(
        "Evaluation",
        "how much h is worth for other tasks",
        "evaluation.protocol.find_protocol",
        "evaluation.protocol",
    ),
]

CAPTION = (
    "The framework for contrastive learning of visual representations. Two operations t and t′ are drawn from the same "
    "family T and applied to each image, which gives two correlated views. The encoder f and the projection head g are "
    "trained to maximise the agreement of z by a contrastive loss. After training, g is thrown away, and f and h are "
    "used for other tasks. The views are real ones, by SimCLR’s policy on an embedded image; below each title is the "
    f"function of {PACKAGE.rstrip('.')} that makes the part."
)
ALT = (
    "A diagram from left to right: an image x; its two views, by t and t′; h of each, by the encoder f; z of each, by "
    "the projection head g; and the agreement of the two z, which training maximises. After training, h alone is used."
)


def reports(artefact: Artefact, runs: pd.DataFrame) -> list[Report]:
    """The only report, whatever the runs."""
    views = kept_of_images(embedded(artefact), two_views)
    with style():
        figure = draw(views, CAPTION)
    rows = [
        [part.title, part.role, f"{PACKAGE}{part.maker}", part.key, part.choices] for part in PARTS
    ]
    header = ["Part", "What it does", "Made by", "Key", "Choices"]
    return [
        Report(
            name=artefact.name,
            title=artefact.label,
            caption=CAPTION,
            notes=["h is what evaluations use, unless evaluation.features=z asks for z."],
            alt=ALT,
            figure=figure,
            tables=[Table("The framework’s parts here", header, rows)],
            data=pd.DataFrame(rows, columns=["part", "role", "made_by", "key", "choices"]),
            summary=["The framework and the code of its parts; it needs no runs."],
        )
    ]


# Inches.
HEADER, SIDE, APART, CELL = 0.62, 1.15, 0.42, 0.12
X, VIEW, H, Z = 0.15, 2.45, 5.15, 7.25
H_CELLS, Z_CELLS = 9, 5


def draw(views: Arrays, text: str) -> Figure:
    """The image and its views as images, h and z as strips of cells, and arrows between them."""
    body = HEADER + 2 * SIDE + APART + 0.2
    figure, bottom = page(PAGE, body, text)
    axes = add_axes(figure, 0, bottom, PAGE, body)
    axes.set(xlim=(0, PAGE), ylim=(0, body))
    axes.axis("off")
    rows = [0.15 + SIDE / 2 + APART + SIDE, 0.15 + SIDE / 2]
    middle = sum(rows) / 2

    def image(left: float, y: float, pixels: Any, name: str) -> None:
        show_image(add_axes(figure, left, bottom + y - SIDE / 2, SIDE, SIDE), pixels)
        write(axes, left + SIDE / 2, y + SIDE / 2 + 0.1, name)

    image(X, middle, views["image"], r"$x$")
    for y, index, prime, pixels in zip(rows, "ij", ("", "′"), views["views"], strict=True):
        image(VIEW, y, pixels, rf"$\tilde{{x}}_{index}$")
        strip(axes, H, y, H_CELLS)
        strip(axes, Z, y, Z_CELLS)
        write(axes, H + CELL + 0.14, y, rf"$h_{index}$")
        write(axes, Z + CELL + 0.14, y, rf"$z_{index}$")
        arrow(axes, (X + SIDE + 0.05, middle), (VIEW - 0.05, y))
        arrow(axes, (VIEW + SIDE + 0.05, y), (H - 0.06, y))
        arrow(axes, (H + CELL + 0.32, y), (Z - 0.06, y))
        up = 0.16 if y > middle else -0.16
        write(
            axes,
            (X + SIDE + VIEW) / 2 - 0.05,
            (middle + y) / 2 + 1.6 * up,
            rf"$t${prime}$\sim T$",
        )
        write(axes, (VIEW + SIDE + H) / 2, y + 0.16, r"$f(\cdot)$")
        write(axes, (H + CELL + 0.32 + Z) / 2, y + 0.16, r"$g(\cdot)$")
    between(axes, H + CELL / 2, rows, H_CELLS)
    write(axes, H + CELL / 2 + 0.1, middle, "representation", 9, ha="left")
    between(axes, Z + CELL / 2, rows, Z_CELLS)
    write(axes, Z + CELL / 2 + 0.1, middle, "maximise agreement", 9, ha="left")
    titles = (X + SIDE + VIEW) / 2, (VIEW + SIDE + H) / 2, (H + Z) / 2 + 0.1, Z + 0.95
    for part, x in zip(PARTS, titles, strict=False):  # evaluation comes after training
        write(axes, x, body - 0.16, part.title, 10, fontweight="bold")
        write(axes, x, body - 0.36, part.maker, 7, color=FAINT)
    return figure


def write(axes: Axes, x: float, y: float, text: str, size: float = 12, **look: Any) -> None:
    """Writes `text`, centred; it is a formula if it begins with a dollar sign."""
    usual: dict[str, Any] = {"ha": "center", "va": "center", "parse_math": text[0] == "$"}
    axes.text(x, y, text, fontsize=size, **(usual | look))


def strip(axes: Axes, x: float, y: float, cells: int) -> None:
    """A vector as a column of cells of different shades, with its middle at y."""
    for number in range(cells):
        shade = colormaps[COLORS](0.15 + 0.7 * ((2 * number + 1) % cells) / cells)
        corner = x, y + CELL * (number - cells / 2)
        axes.add_patch(Rectangle(corner, CELL, CELL, facecolor=shade, edgecolor=INK, linewidth=0.5))


def arrow(axes: Axes, begin: Point, end: Point, kind: str = "-|>") -> None:
    """An arrow from `begin` to `end`, both (x, y)."""
    look = {"arrowstyle": kind, "color": INK, "linewidth": 1.1, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", end, begin, arrowprops=look)


def between(axes: Axes, x: float, rows: Sequence[float], cells: int) -> None:
    """A double arrow between the two vectors at x."""
    upper, lower = rows
    reach = CELL * cells / 2 + 0.05
    arrow(axes, (x, lower + reach), (x, upper - reach), "<|-|>")
