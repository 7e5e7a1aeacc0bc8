"""The scorecard on a terminal and in files: everything that a finding says is there."""

import io
import itertools
import json
import math
import pickle
import re

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

import analysis
from analysis.__main__ import main
from analysis.claims import CLAIMS, Finding, scorecard
from analysis.claims.printing import chance, counts, numbers, show, write
from analysis.findings import main as findings_main

VERDICTS = ["confirmed", "refuted", "undecided", "not run"]
UNRUN = sum(claim.artefacts == CLAIMS[-1].artefacts for claim in CLAIMS)
"""How many claims, the last ones, rest on the last artefact."""


@pytest.fixture
def findings():
    """One or two settings a claim, of every verdict, some of which hold corrected, and claims that have no runs."""
    generator = np.random.default_rng()
    made = []
    for place, claim in enumerate(CLAIMS[:-UNRUN]):
        for setting in range(1 + place % 2):
            low, effect, high = map(float, np.sort(generator.normal(5, 5, 3)))
            verdict = VERDICTS[(place + setting) % 4]
            holm = verdict in VERDICTS[:2] and place % 3 == 0
            where = f"shapes & more, ResNet-{8 + setting}, 7 epochs, batch size 256"
            unknown = place == 4 or verdict == "not run"
            numeric = (math.nan, math.nan, math.nan) if unknown else (effect, low, high)
            reason = f"strength 1 minus 1/{place}: the interval is there."
            found = (where, "shapes", verdict, *numeric, "points", place, reason, ("a", "b"))
            p = math.nan if unknown else float(generator.uniform(0, 0.5))
            made.append(Finding(claim, *found, p=p, holm=holm))
    nothing = ("", "", "not run", math.nan, math.nan, math.nan, "points", 0)
    reason = "No finished runs. Make them with: x"
    return [*made, *(Finding(claim, *nothing, reason) for claim in CLAIMS[-UNRUN:])]


def shown(findings, **terminal):
    stream = io.StringIO()
    show(findings, Console(file=stream, width=100, **terminal))
    return stream.getvalue()


def marked(finding):
    return finding.verdict + "*" * finding.holm


def test_every_finding_is_on_the_terminal(findings):
    text = shown(findings)
    lines = text.splitlines()
    assert max(map(len, lines)) <= 100
    words = " ".join(text.split())
    for finding in findings[:-UNRUN]:
        assert lines.count(f"  {finding.claim.statement}") == 1
        found = f"{marked(finding)} {' '.join(numbers(finding))}"
        assert found in words
    assert " ".join(chance(findings).split()) in words
    for reason in {finding.reason for finding in findings}:
        assert set(reason.split()) <= set(words.split())
    assert lines[-1] == counts(findings)


def test_claims_without_runs_come_last_and_say_why_once(findings):
    words = " ".join(shown(findings).split())
    _, heading, end = words.partition(f"No runs for {UNRUN} findings:")
    assert heading
    assert UNRUN > 1
    for finding in findings[-UNRUN:]:
        assert end.count(finding.claim.statement) == words.count(finding.claim.statement) == 1
    assert end.count(findings[-1].reason) == words.count(findings[-1].reason) == 1
    assert "No runs for" not in shown(findings[:-UNRUN])
    assert "undecided" not in shown(findings[-UNRUN:]).replace("0 undecided", "")


def test_what_to_expect_by_chance_counts_only_what_was_tested(findings):
    decided = [f for f in findings if f.low == f.low]
    assert 0 < len(decided) < len(findings)
    text = chance(findings)
    assert text.startswith(f"{len(decided)} tests, one for each")
    expected = re.search(r"at most ([\d.]+) false confirmations", text)[1]
    assert float(expected) == pytest.approx(len(decided) / 40, rel=0.05)
    assert chance(findings[-UNRUN:]) == ""


def test_counts_add_up(findings):
    found = dict(reversed(part.split(" ", 1)) for part in counts(findings).split(", "))
    assert list(found) == VERDICTS
    assert sum(map(int, found.values())) == len(findings)


def test_verdicts_have_colours_and_words(findings):
    text = shown(findings, force_terminal=True, color_system="standard")
    for verdict, code in zip(VERDICTS, ("32", "31", "33", "2"), strict=True):
        assert f"\x1b[{code}m{verdict}" in text


@pytest.mark.parametrize(
    ("name", "low", "effect", "high", "expected"),
    [
        ("nt-xent", 1.26, 2.0, 3.04, ("+2.0", "1.3 to 3.0")),
        ("nt-xent", 0.02, 2.0, 3.0, ("+2.00", "0.02 to 3.00")),
        ("nt-xent", -3.0, -2.0, -0.04, ("-2.00", "-3.00 to -0.04")),
        ("supervised-length", -1.0, 0.1, 0.46, ("+0.10", "-1.00 to 0.46")),
        ("nonlinear-head-over-none", 10.04, 11.0, 13.0, ("+11.00", "10.04 to 13.00")),
        ("nt-xent", math.nan, 1.0, math.nan, ("+1.0", "–")),
        ("nt-xent", math.nan, math.nan, math.nan, ("–", "–")),
    ],
)
def test_an_interval_never_seems_to_end_at_the_limit(name, low, effect, high, expected):
    (claim,) = [claim for claim in CLAIMS if claim.name == name]
    finding = Finding(claim, "", "", "undecided", effect, low, high, "points", 3, "")
    assert numbers(finding) == expected


def test_files_hold_every_finding(tmp_path, findings):
    paths = {path.suffix: path for path in write(findings, tmp_path / "out")}
    assert {path.name for path in paths.values()} == {"claims.csv", "claims.md", "claims.tex"}
    csv = pd.read_csv(paths[".csv"], keep_default_na=False, na_values={"effect": "", "low": ""})
    assert csv["claim"].tolist() == [f.claim.name for f in findings]
    assert csv["effect"].to_numpy() == pytest.approx([f.effect for f in findings], nan_ok=True)
    assert csv["reason"].tolist() == [f.reason for f in findings]
    assert csv["verdict"].tolist() == [f.verdict for f in findings]
    assert csv["holm"].tolist() == [f.holm for f in findings]
    p = pd.to_numeric(csv["p"], errors="coerce").to_numpy()
    assert p == pytest.approx([f.p for f in findings], nan_ok=True)
    markdown, latex = paths[".md"].read_text(), paths[".tex"].read_text()
    state = re.compile(r"\| +(confirmed|refuted|undecided|not run)(\\\*)? +\|")
    rows = [found for line in markdown.splitlines() if (found := state.search(line))]
    assert [(row[1], bool(row[2])) for row in rows] == [(f.verdict, f.holm) for f in findings]
    assert latex.count(r"\tabularnewline") == len(findings)
    assert latex.count("ed{*} & ") == sum(f.holm for f in findings)
    for text in (markdown.replace("\\", ""), latex.replace("\\", "").replace("{*}", "*")):
        assert chance(findings).replace("’", "'") in text.replace("’", "'")
    for claim in CLAIMS:
        for text in (claim.statement, claim.test):
            assert re.sub(r"([<>~#])", r"\\\1", text) in markdown


@pytest.mark.slow
def test_latex_compiles(compile_latex, tmp_path, findings):
    write(findings, tmp_path)
    compile_latex(tmp_path, "booktabs", "\\input{claims}")


def test_findings_travel_between_processes(findings):
    assert pickle.loads(pickle.dumps(findings[0])) == findings[0]


def test_the_command_prints_the_scorecard_and_draws_nothing(tmp_path, make, capsys):
    for seed in range(3):
        for epochs in (3, 12):
            changes = {"optimizer.epochs": epochs, "optimizer.lr_rule": "linear", "seed": seed}
            make.put(tmp_path / "runs", make.experiment(**changes), 40 + epochs * (1 + 0.1 * seed))
    arguments = ["claims", f"store={tmp_path / 'runs'}", f"out={tmp_path / 'out'}"]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    # However the terminal breaks lines.
    assert "12 epochs minus 3 epochs: the interval is above 0" in " ".join(printed.split())
    assert (
        printed.splitlines()[-1]
        == f"1 confirmed, 0 refuted, 0 undecided, {len(CLAIMS) - 1} not run"
    )
    assert not (tmp_path / "out").exists()


def test_the_scorecard_for_scripts(tmp_path, make, capsys):
    for seed, epochs in itertools.product(range(3), (3, 12)):
        changes = {"optimizer.epochs": epochs, "optimizer.lr_rule": "linear", "seed": seed}
        make.put(tmp_path / "runs", make.experiment(**changes), 40 + epochs * (1 + 0.1 * seed))
    assert findings_main(["--json", f"store={tmp_path / 'runs'}"]) == 0
    told = json.loads(capsys.readouterr().out)
    expected = scorecard(analysis.load(tmp_path / "runs"))
    assert [row["finding"] for row in told] == [finding.claim.name for finding in expected]
    assert [row["run_ids"] for row in told] == [list(finding.run_ids) for finding in expected]
    lows = [None if math.isnan(finding.low) else finding.low for finding in expected]
    assert [row["low"] for row in told] == lows


def test_the_scorecard_stands_alone(tmp_path, capsys):
    assert main(["claims", "figure5", f"store={tmp_path}"]) == 2
    assert "claims must be given alone, got claims figure5" in capsys.readouterr().err


def test_without_a_store_there_is_no_scorecard(tmp_path, capsys):
    assert main(["claims", f"store={tmp_path / 'nowhere'}"]) == 2
    assert "does not exist" in capsys.readouterr().err
