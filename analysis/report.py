"""An artefact in one setting, and its files."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import pandas as pd
from matplotlib.figure import Figure

from simclr_ablate.files import storing, write_text

from . import drawing
from .artefacts import Artefact
from .settings import Setting
from .typesetting import (
    Table,
    csv_text,
    escape_markdown,
    latex_tables,
    markdown_code,
    markdown_table,
)

TUNING = "tuning"
"""`kind` of the row of `Report.data` that lists the runs by which hyperparameters were chosen."""


@dataclass(frozen=True)
class LeftOut:
    """A setting that has no report, and the reason."""

    setting: str
    reason: str


@dataclass(frozen=True)
class Report:
    """One artefact in one setting.

    name: the name of its files, without ending. caption, notes, alt: plain text. data: the numbers
    at full precision. summary: the lines that are printed. setting: None if it needs no runs.
    intervals: what the intervals are over, if not seeds.
    """

    name: str
    title: str
    caption: str
    notes: Sequence[str]
    alt: str
    figure: Figure
    tables: Sequence[Table]
    data: pd.DataFrame
    summary: Sequence[str]
    setting: Setting | None = None
    intervals: str = ""

    @classmethod
    def of_setting(cls, artefact: Artefact, setting: Setting, **rest: Any) -> Self:
        """The report of an artefact in a setting, which give it name and title. rest: the other fields."""
        title = f"{artefact.label} on {setting.description}"
        return cls(name=setting.name, title=title, setting=setting, **rest)

    @property
    def run_ids(self) -> list[str]:
        """The ids of the runs behind the numbers, each once."""
        return self._listed(tuning=False)

    @property
    def tuning_ids(self) -> list[str]:
        """The ids of the runs by which the hyperparameters of these were chosen."""
        return self._listed(tuning=True)

    def _listed(self, tuning: bool) -> list[str]:
        kinds = self.data.get("kind", pd.Series("", index=self.data.index))
        rows = self.data[(kinds == TUNING) == tuning]
        columns = [rows[name] for name in ("run_ids", "run_id") if name in rows]
        return sorted({run for cells in columns for cell in cells for run in cell.split()})


def write(report: Report, out: Path, commands: Sequence[str] = ()) -> list[Path]:
    """Writes the report as PNG, PDF, CSV, Markdown and LaTeX into `out`. Returns the files.

    commands: the commands that make it, for the Markdown file.
    """
    with storing(out, "out"):
        out.mkdir(parents=True, exist_ok=True)
    texts = {
        "csv": csv_text(report.data),
        "md": _markdown(report, commands),
        "tex": latex_tables(report.tables, report.caption, report.name),
    }
    paths = drawing.save(report.figure, out / report.name)
    for ending, text in texts.items():
        path = out / f"{report.name}.{ending}"
        write_text(path, text)
        paths.append(path)
    return paths


def _markdown(report: Report, commands: Sequence[str]) -> str:
    blocks = [
        f"# {escape_markdown(report.title)}\n",
        f"![{escape_markdown(report.alt)}]({report.name}.png)\n",
        f"{escape_markdown(report.caption)}\n",
        *(f"## {escape_markdown(t.title)}\n\n{markdown_table(t)}" for t in report.tables),
    ]
    if report.notes:
        blocks.append("".join(f"- {escape_markdown(note)}\n" for note in report.notes))
    if commands:
        blocks.append(f"Made by {' and '.join(map(markdown_code, commands))}.\n")
    return "\n".join(blocks)
