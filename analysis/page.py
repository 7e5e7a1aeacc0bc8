"""`index.html`: the scorecard and every artefact on one page that needs no other file."""

import base64
import re
import struct
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from markupsafe import Markup

from simclr_ablate import provenance
from simclr_ablate.commands import PROGRAM
from simclr_ablate.store import Run
from simclr_ablate.terminal import count, printable

from .artefacts import ARTEFACTS, Artefact
from .claims import Claim, Finding, printing
from .markup import render, verbatim
from .settings import seed_range
from .typesetting import MISSING, html_table

if TYPE_CHECKING:
    from .report import Report

TITLE = "The ablation study of SimCLR, re-run"
COMMAND = f"{PROGRAM} "
LEARNING = "Learning curves: metrics of pretraining against epochs, a line for each run."
VERDICTS = {"confirmed": "✓", "refuted": "✗", "undecided": "?", "not run": "–"}


@dataclass(frozen=True)
class Section:
    """One report on the page: its anchor, heading, runs, tuning runs and HTML."""

    anchor: str
    title: str
    run_ids: frozenset[str]
    tuning_ids: frozenset[str]
    html: Markup


def page(
    sections: Mapping[str, Sequence[Section]],
    without: Mapping[str, str],
    findings: Sequence[Finding],
    files: Sequence[Path],
    runs: pd.DataFrame,
    artefacts: Collection[Artefact] = tuple(ARTEFACTS.values()),
) -> str:
    """The page with all `artefacts`.

    sections: by artefact. without: by artefact, why it has no section. files: those of the scorecard of `findings`.
    runs: `analysis.load`.
    """
    shown = [section for group in sections.values() for section in group]
    run_ids = frozenset[str]().union(*(each.run_ids for each in shown))
    tuning_ids = frozenset[str]().union(*(each.tuning_ids for each in shown))
    return render(
        "page.html",
        title=TITLE,
        style=verbatim("page.css"),
        script=verbatim("page.js"),
        summary=(
            "The tables and figures of Chen et al. (ICML 2020), rebuilt from our own runs, beside the paper’s numbers, "
            f"which come from other data and larger networks. {compute(runs, run_ids, tuning_ids)}"
        ),
        scorecard=scorecard(findings, files),
        artefacts=artefacts,
        sections=sections,
        without={name: _with_command(text) for name, text in without.items()},
    )


def section(
    artefact: Artefact,
    report: "Report",
    files: Sequence[Path],
    runs: pd.DataFrame,
    commands: Sequence[str],
    curves: Path | None = None,
) -> Section:
    """The section of a report.

    files: its files, the picture among them. commands: those that make it. curves: the picture of its learning curves.
    """
    (picture,) = (path for path in files if path.suffix == ".png")
    (data,) = (path for path in files if path.suffix == ".csv")
    anchor = f"report-{report.name}"
    html = render(
        "section.html",
        anchor=anchor,
        artefact=artefact,
        report=report,
        picture=_Picture.of(picture, report.alt),
        tables=[html_table(table) for table in report.tables],
        facts=_facts(report, runs, commands),
        files=files,
        data=data,
        runs_on_paper=count(len(report.run_ids), "run") if report.run_ids else "",
        curves=curves and _Picture.of(curves, LEARNING),
    )
    run_ids, tuning_ids = frozenset(report.run_ids), frozenset(report.tuning_ids)
    return Section(anchor, report.title, run_ids, tuning_ids, html)


def compute(runs: pd.DataFrame, run_ids: Iterable[str], tuning_ids: Iterable[str] = ()) -> str:
    """How long training, tuning and all evaluations of these runs took, in words, each run counted once.

    tuning_ids: the runs by which hyperparameters were chosen; those that are also in `run_ids` count as training.
    """
    shown = set(run_ids)
    chosen = runs[runs["run_id"].isin(shown.union(tuning_ids))]
    training = chosen.drop_duplicates("run_id").set_index("run_id")["pretraining.seconds"]
    seconds = training.dropna()
    reported = seconds[seconds.index.isin(shown)]
    tuning = seconds[~seconds.index.isin(shown)]
    parts = [f"Training took {duration(reported.sum())} over {count(len(reported), 'run')}"]
    if len(tuning):
        parts.append(f"tuning took {duration(tuning.sum())} over {count(len(tuning), 'run')}")
    if untrained := len(training) - len(seconds):
        parts.append(f"{untrained:,} more {'was' if untrained == 1 else 'were'} not trained")
    return f"{'; '.join(parts)}. {_evaluation(chosen)}"


def _evaluation(runs: pd.DataFrame) -> str:
    """How long all evaluations of these runs took, as far as known, in words."""
    seconds = runs[runs["evaluation"].notna()].drop_duplicates(["run_id", "evaluation"])
    known = seconds["evaluation_seconds"].dropna()
    if known.empty:
        return "How long evaluation took was not recorded."
    text = f"Evaluation took {duration(known.sum())} over {count(len(known), 'evaluation')}"
    unknown = len(seconds) - len(known)
    return text + (f"; for {unknown:,} more it was not recorded." if unknown else ".")


def made_with(runs: pd.DataFrame, run_ids: Iterable[str]) -> str:
    """The code, versions and machines that made these runs, as far as they are known; else empty."""
    paths = runs[runs["run_id"].isin(set(run_ids))].drop_duplicates("run_id")["path"]
    made = [Run(Path(path)).attempts()[-1:] for path in paths]
    known = [attempt for last in made for attempt in last]
    if not known:
        return ""
    unknown = len(made) - len(known)
    lacking = f"; for {count(unknown, 'run')} it was not recorded" if unknown else ""
    return f"{printable(provenance.told(known))}{lacking}."


def duration(seconds: float) -> str:
    """`40 s`, `12 min`, `3.4 h`: in the largest unit of which it is at least 1.5."""
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= 1.5 * size:
            digits = 1 if seconds < 10 * size else 0
            return f"{seconds / size:,.{digits}f} {unit}"
    return f"{seconds:.0f} s"


def scorecard(findings: Sequence[Finding], files: Sequence[Path]) -> Markup:
    """The verdict on each claim in each setting, with its effect, its test and the reason; last, what was not run.

    files: the files with the same content.
    """
    (title, papers), *yours = printing.parted(findings)
    return render(
        "scorecard.html",
        papers=_part(title, papers),
        yours=[_part(title, part) for title, part in yours],
        texts=list(filter(None, (printing.CAPTION, printing.chance(findings)))),
        files=files,
        verdicts=VERDICTS,
        holm=printing.HOLM,
        missing=MISSING,
    )


def _part(title: str, findings: Sequence[Finding]) -> dict[str, object]:
    """The findings of the paper or those of the user, those that were not run last."""
    name, whose = (
        ("Finding of the paper", "The paper’s findings")
        if findings[0].claim.of_paper
        else ("Finding", "Your findings")
    )
    return {
        "title": title,
        "name": name,
        "caption": f"{whose} in these runs",
        "number": Counter(str(finding.verdict) for finding in findings),
        "rows": [
            _row(each) for each in sorted(findings, key=lambda each: each.verdict == "not run")
        ],
    }


def _row(finding: Finding) -> dict[str, object]:
    effect, interval = (text.replace("-", "−") for text in printing.numbers(finding))
    is_known = effect != MISSING
    return {
        "verdict": str(finding.verdict),
        "holm": finding.holm,
        "statement": finding.claim.statement,
        "source": _source(finding.claim),
        "test": finding.claim.test,
        "label": finding.label,
        "setting": finding.setting,
        "effect": f"{effect} {finding.unit}" if is_known else effect,
        "interval": interval if is_known and interval != MISSING else "",
        "seeds": finding.seeds,
        "reason": finding.reason,
    }


def _source(claim: Claim) -> list[tuple[str, str]]:
    """Where the paper says it, in pieces, each with the anchor of the artefact that it names, or an empty one."""
    anchors = {artefact.label: artefact.anchor for artefact in claim.shown_by}
    text = "; ".join([claim.source, *(label for label in anchors if label not in claim.source)])
    labels = "|".join(map(re.escape, sorted(anchors, key=len, reverse=True)))
    pieces = re.split(f"({labels})", text) if labels else [text]
    return [(piece, anchors.get(piece, "")) for piece in pieces if piece]


def _with_command(text: str) -> tuple[str, str]:
    """A text in two: its words, and the command with which it ends, or nothing."""
    words, begin, command = text.partition(COMMAND)
    return words, begin + command


@dataclass(frozen=True)
class _Picture:
    """A PNG. width, height: in pixels. content: in base64."""

    alt: str
    width: int
    height: int
    content: str

    @classmethod
    def of(cls, path: Path, alt: str) -> "_Picture":
        content = path.read_bytes()
        width, height = struct.unpack(">II", content[16:24])  # of the header
        return cls(alt, width, height, base64.b64encode(content).decode())


def _facts(
    report: "Report", runs: pd.DataFrame, commands: Sequence[str]
) -> dict[str, str | Sequence[str]]:
    """What a report tells of its runs, by name; empty where nothing is known."""
    facts: dict[str, str | Sequence[str]] = {"Seeds": _seeds(report), "Command": commands}
    if report.run_ids:
        facts["Compute"] = compute(runs, report.run_ids, report.tuning_ids)
        facts["Made with"] = made_with(runs, report.run_ids)
    return facts


def _seeds(report: "Report") -> str:
    """How many seeds the numbers have, and what their intervals are over."""
    data = report.data
    if "seed" in data:
        seeds = [data["seed"].nunique()]
    else:
        seeds = [int(number) for number in data.get("seeds", ()) if number > 0]
    if not seeds:
        return ""
    over = report.intervals or ("seeds (Student’s t)" if max(seeds) > 1 else "")
    return seed_range(seeds) + (f"; ±: 95% interval over {over}" if over else "; no intervals")
