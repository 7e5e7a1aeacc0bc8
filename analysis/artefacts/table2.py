"""Table 2: the three losses as the paper prints them, with their gradients with respect to u.

It needs no runs. `tests/losses/test_table2.py` compares the gradients of our losses with these.
"""

from collections.abc import Sequence
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.artefacts import Artefact
from analysis.drawing import INK, page, style
from analysis.panels import PAGE
from analysis.report import Report
from analysis.typesetting import Formula, Table, conjoined

HEADER = ["Name", "Negative loss function", "Gradient w.r.t. u"]

U, V, POSITIVE, NEGATIVE = r"\mathbf{u}", r"\mathbf{v}", r"\mathbf{v}^{+}", r"\mathbf{v}^{-}"
NEAR, FAR, ANY = (rf"{U}^{{\top}}{vector}" for vector in (POSITIVE, NEGATIVE, V))
CANDIDATES = rf"{V}\in\lbrace{POSITIVE},{NEGATIVE}\rbrace"

FORMULAS = {
    "NT-Xent": (
        rf"{NEAR}/\tau-\log\sum_{{{CANDIDATES}}}\exp({ANY}/\tau)",
        rf"(1-\frac{{\exp({NEAR}/\tau)}}{{Z({U})}})/\tau\ {POSITIVE}"
        rf"-\sum_{{{NEGATIVE}}}\frac{{\exp({FAR}/\tau)}}{{Z({U})}}/\tau\ {NEGATIVE}",
    ),
    "NT-Logistic": (
        rf"\log\sigma({NEAR}/\tau)+\log\sigma(-{FAR}/\tau)",
        rf"\sigma(-{NEAR}/\tau)/\tau\ {POSITIVE}-\sigma({FAR}/\tau)/\tau\ {NEGATIVE}",
    ),
    "Margin Triplet": (
        rf"-\max({FAR}-{NEAR}+m,0)",
        rf"{POSITIVE}-{NEGATIVE}\ \mathrm{{if}}\ {NEAR}-{FAR}<m\ \mathrm{{else}}\ \mathbf{{0}}",
    ),
}
"""The function that each loss maximises, and its gradient, in LaTeX."""

CAPTION = (
    "The losses and their gradients as the paper prints them: functions to be maximised, of an "
    "anchor u, its positive v⁺ and its negatives v⁻, all l2-normalised. τ is the temperature, m the "
    "margin, and Z(u) the sum of exp(uᵀv / τ) over v⁺ and v⁻."
)
ALT = (
    f"A typeset table of {conjoined(FORMULAS)}: the function of each, and its gradient with respect "
    "to u. NT-Xent alone weighs each negative against the others, through Z(u)."
)
NOTES = [
    "tests/losses/test_table2.py compares autograd’s gradients of our losses with these, in float64 "
    "on random inputs. There, each view is an anchor and also a candidate of the other anchors, and "
    "the two losses that have a single negative here are taken over all negatives of an anchor.",
    "The paper does not define Z(u); its gradient of NT-Xent allows no other definition.",
]


def reports(artefact: Artefact, runs: pd.DataFrame) -> list[Report]:
    """The only report, whatever the runs."""
    rows = [[name, *map(Formula, formulas)] for name, formulas in FORMULAS.items()]
    with style():
        figure = draw(rows, CAPTION)
    return [
        Report(
            name=artefact.name,
            title=artefact.label,
            caption=CAPTION,
            notes=NOTES,
            alt=ALT,
            figure=figure,
            tables=[Table("Losses and gradients", HEADER, rows)],
            data=pd.DataFrame(rows, columns=["name", "negative_loss_function", "gradient_wrt_u"]),
            summary=["As the paper prints it; it needs no runs."],
        )
    ]


# Inches.
EDGES = 0.15, 1.45, 5.05
HEAD, ROW = 0.35, 0.62


def draw(rows: Sequence[Sequence[str]], caption: str) -> Figure:
    """The table as a picture, with its formulas typeset."""
    body = HEAD + ROW * len(rows) + 0.25
    figure, bottom = page(PAGE, body, caption)
    height = bottom + body

    def write(left: float, y: float, cell: str, size: float, weight: str = "normal") -> None:
        formula = isinstance(cell, Formula)
        # mathtext sets fractions as small as TeX does within a line of text.
        text = f"${cell.replace('frac', 'dfrac')}$" if formula else cell
        look: dict[str, Any] = {"fontsize": size, "fontweight": weight, "parse_math": formula}
        figure.text(left / PAGE, y / height, text, va="center", **look)

    def rule(y: float, width: float) -> None:
        ends = [EDGES[0] / PAGE, 1 - EDGES[0] / PAGE], [y / height, y / height]
        figure.add_artist(Line2D(*ends, color=INK, linewidth=width))

    top = height - 0.1
    for left, title in zip(EDGES, HEADER, strict=True):
        write(left, top - HEAD / 2, title, 9, "bold")
    for number, cells in enumerate(rows):
        middle = top - HEAD - ROW * (number + 0.5)
        for left, cell in zip(EDGES, cells, strict=True):
            write(left, middle, cell, 10.5 if isinstance(cell, Formula) else 9)
    rule(top, 1.0)
    rule(top - HEAD, 0.6)
    rule(top - HEAD - ROW * len(rows), 1.0)
    return figure
