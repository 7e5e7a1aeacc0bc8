"""A table of text and formulas as a picture, typeset as a paper prints it. All sizes are in inches."""

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from .drawing import INK, page
from .panels import PAGE
from .typesetting import Formula

HEAD, MARGIN = 0.35, 0.15


def printed_table(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    edges: Sequence[float],
    row_height: float,
    caption: str,
) -> Figure:
    """The table with rules above, below and under its header. edges: where each column begins."""
    body = HEAD + row_height * len(rows) + 0.25
    figure, bottom = page(PAGE, body, caption)
    height = bottom + body

    def write(left: float, y: float, cell: str, size: float, weight: str = "normal") -> None:
        formula = isinstance(cell, Formula)
        # mathtext sets fractions as small as TeX does within a line of text.
        text = f"${cell.replace('frac', 'dfrac')}$" if formula else cell
        look: dict[str, Any] = {"fontsize": size, "fontweight": weight, "parse_math": formula}
        figure.text(left / PAGE, y / height, text, va="center", **look)

    def rule(y: float, width: float) -> None:
        ends = [MARGIN / PAGE, 1 - MARGIN / PAGE], [y / height, y / height]
        figure.add_artist(Line2D(*ends, color=INK, linewidth=width))

    top = height - 0.1
    for left, title in zip(edges, header, strict=True):
        write(left, top - HEAD / 2, title, 9, "bold")
    for number, cells in enumerate(rows):
        middle = top - HEAD - row_height * (number + 0.5)
        for left, cell in zip(edges, cells, strict=True):
            write(left, middle, cell, 10.5 if isinstance(cell, Formula) else 9)
    rule(top, 1.0)
    rule(top - HEAD, 0.6)
    rule(top - HEAD - row_height * len(rows), 1.0)
    return figure
