"""Table 2: the three losses as the paper prints them, with their gradients with respect to u.

It needs no runs. `tests/losses/test_table2.py` compares the gradients of our losses with these.
"""

import pandas as pd

from ..drawing import style
from ..printed import printed_table
from ..report import Report
from ..typesetting import Formula, Table, conjoined
from . import Artefact

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

EDGES, ROW = (0.15, 1.45, 5.05), 0.62
"""Where the columns begin, and the height of a row, in inches."""

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
        figure = printed_table(HEADER, rows, EDGES, ROW, CAPTION)
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
