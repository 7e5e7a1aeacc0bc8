"""`index.html`: the scorecard and every artefact on one page that needs no other file."""

import base64
import struct
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

import pandas as pd

from simclr_ablate import provenance
from simclr_ablate.commands import PROGRAM
from simclr_ablate.store import Run
from simclr_ablate.terminal import count, printable

from .artefacts import ARTEFACTS, Artefact
from .claims import Claim, Finding, printing
from .settings import seed_range
from .typesetting import MISSING, html_table

if TYPE_CHECKING:
    from .report import Report

WEB = Path(__file__).parent / "web"
TITLE = "The ablation study of SimCLR, re-run"
COMMAND = f"{PROGRAM} "
HOLM = f'<abbr title="Holds with Holm’s correction">{printing.HOLM}</abbr>'
VERDICTS = {"confirmed": "✓", "refuted": "✗", "undecided": "?", "not run": "–"}


@dataclass(frozen=True)
class Section:
    """One report on the page: its anchor, heading, runs, tuning runs and HTML."""

    anchor: str
    title: str
    run_ids: frozenset[str]
    tuning_ids: frozenset[str]
    html: str


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
    return _template("page.html").substitute(
        title=escape(TITLE),
        style=_read("page.css"),
        script=_read("page.js"),
        summary=escape(
            "The tables and figures of Chen et al. (ICML 2020), rebuilt from our own runs, beside the paper’s numbers, "
            f"which come from other data and larger networks. {compute(runs, run_ids, tuning_ids)}"
        ),
        contents=_contents(artefacts),
        scorecard=scorecard(findings, files),
        artefacts="\n".join(
            _artefact(artefact, sections.get(artefact.name, ()), without.get(artefact.name, ""))
            for artefact in artefacts
        ),
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
    anchor = f"report-{report.name}"
    hidden = ' class="hidden"' if report.title == artefact.label else ""
    blocks = [
        f'<section aria-labelledby="{escape(anchor)}">',
        f'<h3{hidden} id="{escape(anchor)}">{escape(report.title)}</h3>',
        _figure(picture, report.alt, report.caption),
        f'<div class="tables">{"".join(map(html_table, report.tables))}</div>',
        _facts(report, files, runs, commands),
        _details("notes", "How to read it", report.notes),
        _learning(curves) if curves is not None else "",
        _details("runs", f"Runs ({len(report.run_ids):,})", report.run_ids, "code"),
        _details("runs", f"Tuning runs ({len(report.tuning_ids):,})", report.tuning_ids, "code"),
        "</section>",
    ]
    html = "\n".join(filter(None, blocks))
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


def scorecard(findings: Sequence[Finding], files: Sequence[Path]) -> str:
    """The verdict on each claim in each setting, with its effect, its test and the reason; last, what was not run.

    files: the files with the same content.
    """
    texts = filter(None, (printing.CAPTION, printing.chance(findings)))
    paragraphs = "\n".join(f"<p>{escape(text)}</p>" for text in texts)
    (_, papers), *yours = printing.parted(findings)
    own = "".join(
        f'<h3 id="your-findings">{escape(title)}</h3>\n{_tally(part)}\n{_table(part, "Finding")}\n'
        for title, part in yours
    )
    return f"""<section class="scorecard-part" aria-labelledby="scorecard">
<h2 id="scorecard">Scorecard</h2>
{_tally(papers)}
{paragraphs}
{_table(papers, "Finding of the paper")}
{own}<p class="files">Files: {_links(files)}</p>
</section>"""


def _tally(findings: Sequence[Finding]) -> str:
    """How many findings have each verdict."""
    number = Counter(str(finding.verdict) for finding in findings)
    tally = "".join(f"<li>{_verdict(verdict)}: {number[verdict]}</li>" for verdict in VERDICTS)
    return f'<ul class="tally">{tally}</ul>'


def _table(findings: Sequence[Finding], name: str) -> str:
    """The findings, those that were not run last. name: what they are."""
    names = ("Verdict", name, "Runs", "Effect (95% interval)", "Seeds", "Why")
    header = "".join(f'<th scope="col">{each}</th>' for each in names)
    rows = "\n".join(map(_finding, sorted(findings, key=lambda each: each.verdict == "not run")))
    whose = "The paper’s findings" if findings[0].claim.of_paper else "Your findings"
    return f"""<div class="table"><table class="scorecard">
<caption>{whose} in these runs</caption>
<thead><tr>{header}</tr></thead>
<tbody>
{rows}
</tbody>
</table></div>"""


def _finding(finding: Finding) -> str:
    """A row. A screen that is too narrow for columns shows the names of its cells."""
    claim = finding.claim
    test = f'<details class="test"><summary>Test</summary>{escape(claim.test)}</details>'
    source = f'<span class="faint">{_source(claim)}</span>'
    setting = f'<span title="{escape(finding.setting)}">{escape(finding.label)}</span>'
    cells = {
        "Verdict": _verdict(finding.verdict) + (HOLM if finding.holm else ""),
        "Finding": f"{escape(claim.statement)} {source}{test}",
        "Runs": setting if finding.label else MISSING,
        "Effect": _effect(finding),
        "Seeds": str(finding.seeds),
        "Why": escape(finding.reason),
    }
    named = (f'<td data-name="{name}">{cell}</td>' for name, cell in cells.items())
    return f"<tr>{''.join(named)}</tr>"


def _source(claim: Claim) -> str:
    """Where the paper says it, with links to the artefacts on this page."""
    text = escape(claim.source)
    for artefact in claim.shown_by:
        label = escape(artefact.label)
        link = f'<a href="#{escape(artefact.anchor)}">{label}</a>'
        text = text.replace(label, link) if label in text else f"{text}; {link}"
    return text


def _effect(finding: Finding) -> str:
    effect, interval = (text.replace("-", "−") for text in printing.numbers(finding))
    if effect == MISSING:
        return effect
    known = f' <span class="interval">({interval})</span>' if interval != MISSING else ""
    return f"{effect} {escape(finding.unit)}{known}"


def _verdict(verdict: str) -> str:
    sign = f'<span aria-hidden="true">{VERDICTS[verdict]}</span>'
    kind = verdict.replace(" ", "-")
    return f'<span class="verdict {kind}">{sign} {verdict}</span>'


def _contents(artefacts: Iterable[Artefact]) -> str:
    links = {"scorecard": "Scorecard"} | {each.anchor: each.label for each in artefacts}
    items = (
        f'<li><a href="#{escape(anchor)}">{escape(text)}</a></li>' for anchor, text in links.items()
    )
    return f"<ul>{''.join(items)}</ul>"


def _artefact(artefact: Artefact, sections: Sequence[Section], without: str) -> str:
    kind = "artefact" if sections else "without-part"
    anchor = escape(artefact.anchor)
    body = "\n".join(each.html for each in sections) or f"<p>{_with_command(without)}</p>"
    return f"""<section class="{kind}" aria-labelledby="{anchor}">
<h2 id="{anchor}">{escape(artefact.heading)}</h2>
{_settings(sections)}{body}
</section>"""


def _with_command(text: str) -> str:
    """A text as HTML; if it ends with a command, that is set as code."""
    words, begin, command = text.partition(COMMAND)
    return escape(words) + (f"<code>{escape(begin + command)}</code>" if begin else "")


def _settings(sections: Sequence[Section]) -> str:
    """Links to the settings of an artefact, if it has several."""
    if len(sections) < 2:
        return ""
    items = (
        f'<li><a href="#{escape(each.anchor)}">{escape(each.title)}</a></li>' for each in sections
    )
    return f'<ul class="settings">{"".join(items)}</ul>\n'


def _learning(picture: Path) -> str:
    """The learning curves, closed at first."""
    alt = "Learning curves: metrics of pretraining against epochs, a line for each run."
    return (
        '<details class="curves"><summary>Learning curves</summary>'
        f"{_figure(picture, alt, '')}</details>"
    )


def _figure(picture: Path, alt: str, caption: str) -> str:
    content = picture.read_bytes()
    width, height = struct.unpack(">II", content[16:24])  # of a PNG's header
    image = (
        f'<img alt="{escape(alt)}" width="{width}" height="{height}" '
        f'src="data:image/png;base64,{base64.b64encode(content).decode()}">'
    )
    below = f'<figcaption class="caption">{escape(caption)}</figcaption>' if caption else ""
    return (
        f'<figure><div class="picture" role="group" aria-label="Picture">{image}</div>'
        f"{below}</figure>"
    )


def _facts(
    report: "Report", files: Sequence[Path], runs: pd.DataFrame, commands: Sequence[str]
) -> str:
    facts = {
        "Seeds": escape(_seeds(report)),
        "Command": ", then ".join(f"<code>{escape(command)}</code>" for command in commands),
    }
    if report.run_ids:
        facts["Compute"] = escape(compute(runs, report.run_ids, report.tuning_ids))
        facts["Made with"] = escape(made_with(runs, report.run_ids))
    rows = "".join(f"<dt>{name}</dt><dd>{fact}</dd>" for name, fact in facts.items() if fact)
    listed = f'<dt class="files">Files</dt><dd class="files">{_links(files)}</dd>'
    return f"<dl>{rows}{listed}{_runs_on_paper(report, files)}</dl>"


def _runs_on_paper(report: "Report", files: Sequence[Path]) -> str:
    """Where a reader on paper finds the run ids, which would fill pages."""
    if not report.run_ids:
        return ""
    (data,) = (path for path in files if path.suffix == ".csv")
    where = f"{count(len(report.run_ids), 'run')}, listed in <code>{escape(data.name)}</code>"
    return f'<dt class="on-paper">Runs</dt><dd class="on-paper">{where}</dd>'


def _links(files: Sequence[Path]) -> str:
    return " ".join(
        f'<a href="{escape(path.name)}">{path.suffix[1:].upper()}</a>' for path in files
    )


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


def _details(kind: str, summary: str, lines: Sequence[str], tag: str = "span") -> str:
    if not lines:
        return ""
    items = "".join(f"<li><{tag}>{escape(line)}</{tag}></li>" for line in lines)
    return f'<details class="{kind}"><summary>{escape(summary)}</summary><ul>{items}</ul></details>'


def _read(name: str) -> str:
    return (WEB / name).read_text(encoding="utf-8")


def _template(name: str) -> Template:
    return Template(_read(name))
