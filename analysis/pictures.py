"""Images in pictures, and the windows of crops on them."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from .drawing import INK

HALO = [withStroke(linewidth=2.2, foreground=INK)]
"""A dark outline that keeps white lines and letters visible on any image."""


def show_image(axes: Axes, image: NDArray[np.uint8]) -> None:
    """Shows an image, (3, S, S), pixel by pixel."""
    axes.imshow(image.transpose(1, 2, 0), interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set(color=INK, linewidth=0.8)


def outline(axes: Axes, window: NDArray[np.int64], name: str = "") -> None:
    """Draws the dashed window of a crop, (top, left, height, width) in pixels, with its name in a corner."""
    top, left, height, width = (int(side) for side in window)
    corner = left - 0.5, top - 0.5
    dashed: dict[str, Any] = {"linewidth": 1, "linestyle": (0, (4, 2)), "path_effects": HALO}
    axes.add_patch(Rectangle(corner, width, height, fill=False, edgecolor="white", **dashed))
    look: dict[str, Any] = {"color": "white", "fontsize": 11, "fontweight": "bold", "va": "top"}
    place: dict[str, Any] = {"xytext": (4, -4), "textcoords": "offset points"}
    axes.annotate(name, corner, path_effects=HALO, **look, **place)
