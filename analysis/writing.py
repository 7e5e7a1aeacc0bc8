"""Writes what `simclr-ablate analyse` makes of a table of runs: each report's files, the scorecard and the page."""

import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from simclr_ablate.files import StorageError, write_text

from . import drawing
from .absence import absence
from .artefacts import Artefact
from .claims import Finding, printing
from .command_line import commands
from .learning import learning_curves
from .page import Section, page, section
from .report import LeftOut, Report, write

PAGE = "index"


@dataclass(frozen=True)
class Written:
    """A report that was written: the lines to print before its files, the files, and its section of the page."""

    heading: Sequence[str]
    files: Sequence[Path]
    section: Section


@dataclass
class Outcome:
    """What came of an artefact.

    written: its reports. left_out: the settings that cannot be shown. problem: the error that stopped it, empty if
    none. unwritten: whether the error was in writing to the folder.
    """

    artefact: Artefact
    written: list[Written] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    problem: str = ""
    unwritten: bool = False


def write_artefact(artefact: Artefact, out: Path, runs: pd.DataFrame) -> Outcome:
    """Writes every report of `artefact` into `out`; there is none if no run belongs to it.

    An error becomes the outcome's `problem`, so other artefacts go on.
    """
    outcome = Outcome(artefact)
    try:
        for report in artefact.reports(runs):
            if isinstance(report, LeftOut):
                outcome.left_out.append(report)
            else:
                outcome.written.append(_write_report(artefact, report, out, runs))
    except StorageError as error:
        outcome.problem, outcome.unwritten = str(error), True
    except Exception:
        outcome.problem = traceback.format_exc()
    return outcome


def _write_report(artefact: Artefact, report: Report, out: Path, runs: pd.DataFrame) -> Written:
    launched = commands(artefact, report, runs)
    files = write(report, out, launched)
    curves = learning_curves(report, runs)
    learned = drawing.save(curves, out / f"{report.name}-learning") if curves is not None else []
    heading = [report.title, *(f"  {line}" for line in report.summary)]
    part = section(artefact, report, files, runs, launched, next(iter(learned), None))
    return Written(heading, [*files, *learned], part)


def why_nothing(outcome: Outcome, runs: pd.DataFrame) -> str:
    """Why an artefact has no report, and which command makes one, in words."""
    if outcome.problem:
        return f"Nothing was written: {outcome.problem.strip().splitlines()[-1]}"
    if outcome.left_out:
        return "Left out: " + "; ".join(
            f"{each.setting}: {each.reason}" for each in outcome.left_out
        )
    return absence(outcome.artefact, runs)


def write_scorecard_and_page(
    outcomes: Mapping[str, Outcome],
    findings: Sequence[Finding],
    runs: pd.DataFrame,
    out: Path,
) -> dict[str, list[Path]]:
    """Writes the scorecard of `findings`, and `index.html` with the scorecard and all reports.

    outcomes: by artefact. Returns the files of each. Raises StorageError.
    """
    scorecard = printing.write(findings, out)
    sections = {name: [one.section for one in each.written] for name, each in outcomes.items()}
    without = {name: why_nothing(each, runs) for name, each in outcomes.items() if not each.written}
    path = out / f"{PAGE}.html"
    artefacts = [each.artefact for each in outcomes.values()]
    write_text(path, page(sections, without, findings, scorecard, runs, artefacts))
    return {printing.NAME: scorecard, PAGE: [path]}
