"""What `python -m analysis` does with one table of runs: every report's files, and the page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from analysis.artefacts import Artefact
from analysis.claims import Finding, printing
from analysis.commands import commands
from analysis.page import Section, page, section
from analysis.report import write
from simclr_ablate.files import write_text


@dataclass(frozen=True)
class Written:
    """A report that was written: what there is to print of it, and its section of the page."""

    lines: Sequence[str]
    section: Section


def write_artefact(artefact: Artefact, out: Path, runs: pd.DataFrame) -> list[Written]:
    """Writes every report of `artefact` under `out`; none where no run belongs to it."""
    result = []
    for report in artefact.module().reports(artefact.runs_for(runs)):
        told = commands(artefact, report, runs)
        files = write(report, out, told)
        heading = [report.title, *(f"  {line}" for line in report.summary)]
        part = section(artefact, report, files, runs, told)
        result.append(Written([*heading, *map(str, files)], part))
    return result


def write_scorecard_and_page(
    written: Mapping[str, Sequence[Written]],
    findings: Sequence[Finding],
    runs: pd.DataFrame,
    out: Path,
) -> list[str]:
    """Writes the scorecard of `findings`, and `index.html` with it and the reports by artefact.

    Returns what there is to print of them.
    """
    scorecard = printing.write(findings, out)
    sections = {name: [each.section for each in reports] for name, reports in written.items()}
    path = out / "index.html"
    write_text(path, page(sections, findings, scorecard, runs))
    return [f"Claims: {printing.counts(findings)}", *map(str, scorecard), str(path)]
