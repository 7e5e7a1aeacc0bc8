"""Panels on a page, in rows above a caption. All sizes are in inches."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .drawing import add_axes, page

PAGE, LEFT, RIGHT, TOP = 9.4, 0.62, 0.13, 0.38
TITLES, LEGEND_LINE = 0.62, 0.19
"""The room below a panel for tick labels and their title, and for each line of the legend."""

Panel = TypeVar("Panel")


def panel_page(
    panels: Sequence[Sequence[Panel]],
    height: float,
    room: Callable[[Panel, float], float],
    draw: Callable[[Axes, Panel, float], None],
    caption: str,
) -> Figure:
    """Rows of equally wide panels, to be shown about 900 pixels wide.

    height: that of a panel's axes. room: the room that a panel of a given width needs below its axes. draw: draws a
    panel of a given width into its axes.
    """
    widths = [PAGE / len(row) - LEFT - RIGHT for row in panels]
    below = [
        max(room(panel, width) for panel in row) for row, width in zip(panels, widths, strict=True)
    ]
    body = sum(TOP + height + under for under in below)
    figure, bottom = page(PAGE, body, caption)
    top = bottom + body
    for row, width, under in zip(panels, widths, below, strict=True):
        for number, panel in enumerate(row):
            left = PAGE / len(row) * number + LEFT
            draw(add_axes(figure, left, top - TOP - height, width, height), panel, width)
        top -= TOP + height + under
    return figure
