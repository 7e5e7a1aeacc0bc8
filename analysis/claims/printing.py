"""The scorecard on a terminal, and as CSV, Markdown and LaTeX."""

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import get_args

import pandas as pd
from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.table import Table as Grid
from rich.text import Text

from simclr_ablate.files import storing, write_text
from simclr_ablate.looks import LOOKS
from simclr_ablate.terminal import count

from ..typesetting import (
    MISSING,
    Table,
    csv_text,
    escape_latex,
    escape_markdown,
    markdown_table,
)
from .claim import TAIL, Claim, Finding, Verdict
from .multiplicity import by_chance, number_tested

NAME = "claims"
PAPERS, YOURS = "The paper’s findings", "Your findings"
COLORS = {"confirmed": "green", "refuted": "red", "undecided": "yellow", "not run": "dim"}
HOLM = "*"
"""The mark of a verdict that holds with Holm's correction."""
HEADER = ["Verdict", "Effect", "95% interval", "Seeds", "Setting"]
CAPTION = (
    "The paper’s findings in these runs. Effects are in points. Intervals are over seeds "
    "(Student’s t, paired by seed), and joint if a finding is about several differences. A finding is "
    "confirmed or refuted if its whole interval is on one side of 0, or of the margin that its "
    "test names; otherwise it is undecided. It is not run if runs that its test needs are not there. If results said "
    "how many seeds there should be (until=decided), the interval is what those of all looks have in common, each at "
    f"{100 - 200 * TAIL / len(LOOKS):g}%."
)
SHORTLY = "Effects in points, with 95% intervals over seeds. Decided if the whole interval is on one side."


def show(findings: Sequence[Finding], console: Console) -> None:
    """Prints the scorecard, grouped by table and figure: claims with runs first, the counts at the end.

    Findings of the user's own come after those of the paper.
    """
    console.print(Text(SHORTLY, style="dim"))
    for title, part in parted(findings):
        if title:
            console.print(Text(title, style="bold reverse"))
        for heading, group in _by_artefact([finding for finding in part if finding.setting]):
            console.print(Text(heading, style="bold underline"))
            for claim, settings in _by_claim(group):
                console.print(Text(f"  {claim.statement}", style="bold"))
                console.print(_grid(settings))
        unrun = [finding for finding in part if not finding.setting]
        if unrun:
            _show_unrun(unrun, console)
    if expected := chance(findings):
        console.print(Text(expected, style="dim"))
    for line in tallies(findings):
        console.print(line, highlight=False)


def _show_unrun(findings: Sequence[Finding], console: Console) -> None:
    """Prints the claims that have no setting, and why, once for each table and figure."""
    console.print(Text(f"No runs for {count(len(findings), 'finding')}:", style="bold"))
    for heading, group in _by_artefact(findings):
        console.print(Text(f"  {heading}", style="underline"))
        lines = [Text(finding.claim.statement) for finding in group]
        lines += [Text(why, "dim") for why in dict.fromkeys(finding.reason for finding in group)]
        for line in lines:
            console.print(Padding(line, (0, 0, 0, 4), expand=False))


def parted(findings: Sequence[Finding]) -> list[tuple[str, list[Finding]]]:
    """The paper's findings, then the user's own, each after its title; without any of the user's, there is no title."""
    papers = [finding for finding in findings if finding.claim.of_paper]
    own = [finding for finding in findings if not finding.claim.of_paper]
    return [(PAPERS, papers), (YOURS, own)] if own else [("", papers)]


def tallies(findings: Sequence[Finding]) -> list[str]:
    """The counts of the paper's findings and those of the user's own, each in a line."""
    return [
        f"{title}: {counts(part)}" if title else counts(part) for title, part in parted(findings)
    ]


def counts(findings: Sequence[Finding]) -> str:
    """`3 confirmed, 1 refuted, 7 undecided, 12 not run`."""
    number = Counter(finding.verdict for finding in findings)
    return ", ".join(f"{number[verdict]} {verdict}" for verdict in get_args(Verdict))


def chance(findings: Sequence[Finding]) -> str:
    """How many false verdicts to expect among so many, and what the mark HOLM means; empty if nothing was tested."""
    number = number_tested(findings)
    if not number:
        return ""
    risk = f"{100 * TAIL:g}%"
    return (
        f"{count(number, 'test')}, one for each finding in each setting that has an interval. If seeds scatter about "
        f"normally, each has a risk of at most {risk} of confirming what is not so: expect at most "
        f"{by_chance(findings):.2g} false confirmations among them, and as many false refutations. {HOLM} marks "
        f"verdicts that also hold with Holm’s correction for so many tests: then the risk of even one false "
        f"confirmation is at most {risk}, and so is that of a false refutation."
    )


def marked(finding: Finding) -> str:
    """The verdict, with the mark HOLM if it holds with that correction."""
    return f"{finding.verdict}{HOLM}" if finding.holm else finding.verdict


def _by_artefact(findings: Sequence[Finding]) -> Iterator[tuple[str, list[Finding]]]:
    for _, group in groupby(findings, key=lambda finding: finding.claim.artefacts):
        of_artefact = list(group)
        yield "; ".join(each.heading for each in of_artefact[0].claim.shown_by), of_artefact


def _by_claim(findings: Sequence[Finding]) -> Iterator[tuple[Claim, list[Finding]]]:
    for _, group in groupby(findings, key=lambda finding: finding.claim.name):
        settings = list(group)
        yield settings[0].claim, settings


def _grid(findings: Sequence[Finding]) -> RenderableType:
    grid = Grid.grid(padding=(0, 2, 0, 0))
    for width in (4, 10, 7, 17, 7):
        grid.add_column(min_width=width, max_width=width, no_wrap=True)
    grid.add_column(ratio=1, overflow="fold")
    for finding in findings:
        verdict = Text(marked(finding), style=COLORS[finding.verdict])
        effect, interval = numbers(finding)
        seeds = count(finding.seeds, "seed") if finding.seeds else MISSING
        where = Text(f"{finding.setting}\n" if finding.setting else "")
        grid.add_row("", verdict, effect, interval, seeds, where.append(finding.reason, "dim"))
    return grid


def numbers(finding: Finding) -> tuple[str, str]:
    """Effect and interval as text: `+9.9` and `8.1 to 11.2`.

    They have a second digit if an end of the interval would otherwise round to the limit that decides.
    """
    ends = (finding.low, finding.high)
    if math.isnan(finding.low):
        effect = MISSING if math.isnan(finding.effect) else f"{finding.effect:+.1f}"
        return effect, MISSING
    digits = 2 if any(round(end, 1) == finding.claim.limit for end in ends) else 1
    return f"{finding.effect:+.{digits}f}", " to ".join(f"{end:.{digits}f}" for end in ends)


def write(findings: Sequence[Finding], out: Path) -> list[Path]:
    """Writes the scorecard as CSV, Markdown and LaTeX into `out`. Returns the files."""
    with storing(out, "out"):
        out.mkdir(parents=True, exist_ok=True)
    texts = {
        "csv": csv_text(data(findings)),
        "md": markdown(findings),
        "tex": latex(findings),
    }
    paths = {out / f"{NAME}.{ending}": text for ending, text in texts.items()}
    for path, text in paths.items():
        write_text(path, text)
    return list(paths)


def data(findings: Sequence[Finding]) -> pd.DataFrame:
    """The findings at full precision, one row each."""
    return pd.DataFrame(
        {
            "claim": finding.claim.name,
            "statement": finding.claim.statement,
            "source": finding.claim.source,
            "label": finding.label,
            "setting": finding.setting,
            "verdict": finding.verdict,
            "effect": finding.effect,
            "low": finding.low,
            "high": finding.high,
            "unit": finding.unit,
            "limit": finding.claim.limit,
            "seeds": finding.seeds,
            "looks": finding.looks,
            "decides_at": finding.decides_at,
            "p": finding.p,
            "holm": finding.holm,
            "reason": finding.reason,
            "run_ids": " ".join(finding.run_ids),
        }
        for finding in findings
    )


def markdown(findings: Sequence[Finding]) -> str:
    """One table for each table or figure, followed by the tests of its claims; the user's own findings come last."""
    (_, papers), *yours = parted(findings)
    blocks = [f"# {PAPERS}\n", f"{CAPTION}\n", f"{counts(papers)}.\n"]
    if expected := chance(findings):
        blocks.append(f"{escape_markdown(expected)}\n")
    blocks += _markdown_tables(papers)
    for title, own in yours:
        blocks += [f"# {title}\n", f"{counts(own)}.\n", *_markdown_tables(own)]
    blocks.append("Made by `simclr-ablate analyse`.\n")
    return "\n".join(blocks)


def _markdown_tables(findings: Sequence[Finding]) -> list[str]:
    blocks = []
    for heading, group in _by_artefact(findings):
        rows = [
            [claim.statement if number == 0 else "", *_cells(finding), finding.reason]
            for claim, settings in _by_claim(group)
            for number, finding in enumerate(settings)
        ]
        table = Table(heading, ["Claim", *HEADER, "Reason"], rows)
        tests = "".join(
            f"- {escape_markdown(f'{claim.statement} ({claim.source}) Test: {claim.test}')}\n"
            for claim, _ in _by_claim(group)
        )
        blocks += [f"## {escape_markdown(heading)}\n", markdown_table(table), tests]
    return blocks


def latex(findings: Sequence[Finding]) -> str:
    """One `table` float for each table or figure. Needs `\\usepackage{booktabs}`."""
    floats, caption = [], f"{CAPTION} {chance(findings)}".rstrip()
    for heading, group in _by_artefact(findings):
        label = f"tab:{NAME}-{'-'.join(each.anchor for each in group[0].claim.shown_by)}"
        floats.append(
            "\\begin{table}\n\\centering\n\\footnotesize\n\\setlength{\\tabcolsep}{3pt}\n"
            f"{_latex_tabular(group)}\n"
            f"\\caption{{{escape_latex(f'{heading}. {caption}')}}}\n\\label{{{label}}}\n"
            "\\end{table}\n"
        )
        caption = ""
    return "% Needs \\usepackage{booktabs}.\n" + "\n".join(floats)


def _latex_tabular(findings: Sequence[Finding]) -> str:
    header = " & ".join(map(escape_latex, ["Claim", *HEADER]))
    rows = [
        _latex_row(claim.statement if number == 0 else "", finding)
        for claim, settings in _by_claim(findings)
        for number, finding in enumerate(settings)
    ]
    columns = "@{}p{0.3\\linewidth}lrrrp{0.18\\linewidth}@{}"
    body = "\n\\addlinespace\n".join(rows)
    return (
        f"\\begin{{tabular}}{{{columns}}}\n\\toprule\n{header} \\\\\n\\midrule\n"
        f"{body}\n\\bottomrule\n\\end{{tabular}}"
    )


def _latex_row(statement: str, finding: Finding) -> str:
    """A row, in which texts that wrap are set ragged right."""
    verdict, *numeric, setting = map(escape_latex, _cells(finding))
    wrapped = [f"\\raggedright {text}" for text in (escape_latex(statement), setting)]
    signed = [re.sub(r"-(?=\d)", "$-$", text) for text in numeric]
    return " & ".join([wrapped[0], verdict, *signed, wrapped[1]]) + r" \tabularnewline"


def _cells(finding: Finding) -> list[str]:
    return [marked(finding), *numbers(finding), str(finding.seeds), finding.setting]
