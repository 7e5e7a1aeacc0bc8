"""Table C.1: what the contrastive methods of the time chose, as the paper prints it. It needs no runs."""

import re
from collections.abc import Sequence

import pandas as pd

from .. import paper
from ..drawing import style
from ..printed import printed_table
from ..report import Report
from ..typesetting import Table, conjoined
from . import Artefact

HEADER = {
    "model": "Model",
    "augmentation": "Data augm.",
    "encoder": "Base encoder",
    "head": "Projection head",
    "loss": "Loss",
    "batch": "Batch size",
    "epochs": "Train epochs",
}
MARKS = {"#": "†", "*": "*"}
"""The paper’s marks of batch sizes, by the letter that stands for them in its numbers."""

EDGES, ROW = (0.15, 1.0, 2.5, 4.35, 5.75, 7.25, 8.3), 0.26
"""Where the columns begin, and the height of a row, in inches."""

CAPTION = (
    "The design choices and training settings behind the best result of each method, as the paper "
    "prints them. † Each example is split into several patches, which enlarges the batch. * A memory "
    "bank is used."
)
NOTES = [
    "The paper adds that these descriptions are general: even where two methods match, their formulations and "
    "implementations may differ.",
]


def reports(artefact: Artefact, runs: pd.DataFrame) -> list[Report]:
    """The only report, whatever the runs."""
    entry = paper.entries()["tableC1_design_choices"]
    rows = [[_marked(cell) for cell in row] for row in entry["values"]]
    header = [HEADER[name] for name in entry["columns"]]
    with style():
        figure = printed_table(header, rows, EDGES, ROW, CAPTION)
    return [
        Report(
            name=artefact.name.lower(),
            title=artefact.label,
            caption=CAPTION,
            notes=NOTES,
            alt=alt(rows),
            figure=figure,
            tables=[Table("Design choices", header, rows)],
            data=pd.DataFrame(entry["values"], columns=entry["columns"]),
            summary=["As the paper prints it; it needs no runs."],
        )
    ]


def alt(rows: Sequence[Sequence[str]]) -> str:
    """What is drawn, and which methods do without the tricks that the marks stand for, in words."""
    batch = list(HEADER).index("batch")
    plain = conjoined(row[0] for row in rows if row[batch][-1] not in MARKS.values())
    return (
        f"A typeset table of {conjoined(row[0] for row in rows)}: the augmentation, encoder, projection head, loss, "
        f"batch size and epochs of each. {plain} alone uses neither patches nor a memory bank."
    )


def _marked(cell: str) -> str:
    if cell[-1] in MARKS:
        return f"{cell[:-1]}{MARKS[cell[-1]]}"
    return re.sub(",(?! )", ", ", cell).replace("tau", "τ")
