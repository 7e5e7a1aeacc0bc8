"""`index.html`: what is on it, read by a parser of its own."""

import base64
import dataclasses
import math
import re
from dataclasses import dataclass, field
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from analysis.__main__ import main
from analysis.artefacts import ARTEFACTS
from analysis.claims import CLAIMS, Finding
from analysis.claims.printing import chance
from analysis.page import VERDICTS, compute, duration, scorecard, section
from analysis.report import Report, write
from analysis.typesetting import Table, html_table

VOID = {"meta", "link", "img", "br", "hr"}
NASTY = "<b>&amp; \"x\" 'y' </td> <script>z</script>"


@dataclass
class Node:
    tag: str
    attributes: dict
    parent: "Node | None"
    children: list = field(default_factory=list)

    def all(self, *tags):
        nodes = [child for child in self.children if isinstance(child, Node)]
        return [
            each
            for node in nodes
            for each in ([node] if node.tag in tags else []) + node.all(*tags)
        ]

    @property
    def text(self):
        return "".join(child if isinstance(child, str) else child.text for child in self.children)


class Tree(HTMLParser):
    """Builds the tree, and fails where a tag is not closed by its own."""

    def __init__(self, html):
        super().__init__()
        self.root = self.at = Node("", {}, None)
        self.feed(html)
        self.close()
        assert self.at is self.root, f"{self.at.tag} is not closed"

    def handle_starttag(self, tag, attrs):
        assert len(dict(attrs)) == len(attrs)
        node = Node(tag, dict(attrs), self.at)
        self.at.children.append(node)
        if tag not in VOID:
            self.at = node

    def handle_endtag(self, tag):
        assert tag == self.at.tag, f"{self.at.tag} is closed by {tag}"
        self.at = self.at.parent

    def handle_data(self, data):
        self.at.children.append(data)


def tree(html):
    return Tree(html).root


@pytest.fixture(scope="module")
def document(site):
    return tree((site / "index.html").read_text())


def test_the_page_says_what_it_is(document):
    (html,) = document.all("html")
    assert html.attributes["lang"] == "en"
    (title,) = document.all("title")
    (heading,) = document.all("h1")
    assert title.text == heading.text != ""
    metas = {
        meta.attributes.get("name"): meta.attributes["content"]
        for meta in document.all("meta")
        if "name" in meta.attributes
    }
    assert "width=device-width" in metas["viewport"]


def test_every_artefact_is_there_and_the_scorecard_is_first(document):
    headings = [heading.attributes["id"] for heading in document.all("h2")]
    assert headings == ["scorecard", *ARTEFACTS]
    (nav,) = document.all("nav")
    assert [link.attributes["href"] for link in nav.all("a")] == [f"#{name}" for name in headings]


def test_links_lead_somewhere_and_nothing_comes_from_elsewhere(site, document):
    ids = [
        node.attributes["id"]
        for node in document.all("h1", "h2", "h3", "section", "table")
        if "id" in node.attributes
    ]
    assert len(ids) == len(set(ids))
    for link in document.all("a"):
        target = link.attributes["href"]
        assert target[1:] in ids if target.startswith("#") else (site / target).is_file()
    for node in document.all("img", "link", "script"):
        source = node.attributes.get("src", node.attributes.get("href", "data:"))
        assert source.startswith("data:")


def test_every_report_is_there_with_its_picture_and_its_files(site, document):
    pictures = {path.read_bytes(): path.stem for path in site.glob("*.png")}
    shown = {}
    for image in document.all("img"):
        content = base64.b64decode(image.attributes["src"].removeprefix("data:image/png;base64,"))
        shown[pictures[content]] = image
        width, height = (int(image.attributes[side]) for side in ("width", "height"))
        assert (width, height) == tuple(int.from_bytes(content[k : k + 4], "big") for k in (16, 20))
        assert image.attributes["alt"].strip()
    assert set(shown) == set(pictures.values())
    links = {link.attributes["href"] for link in document.all("a")}
    files = {path.name for path in site.iterdir()} - {"index.html"}
    assert files <= links


def test_words_for_a_picture_say_more_than_its_headings(document):
    headings = " ".join(heading.text for heading in document.all("h2", "h3"))
    texts = [image.attributes["alt"] for image in document.all("img")]
    for text in texts:
        assert text not in headings
        assert re.search(r"Highest|Effective rank|kNN|\balone\b|global to local", text), text


def markdown_tables(text):
    """The cells of every pipe table, as plain text."""
    tables = []
    for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        rows = [re.split(r"(?<!\\)\|", line.strip()[1:-1]) for line in block.splitlines()]
        plain = [
            [re.sub(r"\\([\\`*_\[\]<>|#~$&])", r"\1", cell.strip()) for cell in row] for row in rows
        ]
        tables.append([plain[0], *plain[2:]])
    return tables


def sorted_parts(cell):
    """A cell's words, whichever way round the interval and the mark are, without the signs of bold and of formulas."""
    return sorted(cell.removeprefix("**").removesuffix("**").strip("$").split())


def test_tables_hold_what_the_markdown_holds(site, document):
    expected = []
    for path in site.glob("[!c]*.md"):
        expected += markdown_tables(path.read_text())
    found = [
        [[cell.text for cell in row.all("th", "td")] for row in table.all("tr")]
        for table in document.all("table")
        if table.attributes.get("class") != "scorecard"
    ]

    def comparable(tables):
        return sorted([[sorted_parts(cell) for cell in row] for row in table] for table in tables)

    # LaTeX of formulas is no plain text: Markdown does not escape it.
    plain = [table for table in expected if not any("\\" in cell for row in table for cell in row)]
    assert len(plain) > 15
    assert comparable(plain) == comparable(
        [table for table in found if not any("\\" in cell for row in table for cell in row)]
    )


def test_rows_and_columns_are_named_to_a_screen_reader(document):
    for table in document.all("table"):
        (caption,) = table.all("caption")
        assert caption.text
        (head,) = table.all("thead")
        assert {cell.attributes["scope"] for cell in head.all("th")} == {"col"}
        if table.attributes.get("class") != "scorecard":
            rows = table.all("tbody")[0].all("tr")
            assert all(row.all("th", "td")[0].attributes["scope"] == "row" for row in rows)


def test_commands_seeds_and_runs_are_told(site, document):
    text = " ".join(document.text.split())
    for artefact in ARTEFACTS.values():
        if artefact.sweep:
            assert f"simclr-ablate -m sweep={artefact.sweep}" in text
    listed = {
        item.text
        for each in document.all("details")
        if each.attributes.get("class") == "runs"
        for item in each.all("li")
    }
    told = {
        run
        for path in site.glob("[!c]*.csv")
        for run in pd.read_csv(path)
        .get("run_ids", pd.Series(dtype=str))
        .dropna()
        .str.cat(sep=" ")
        .split()
    }
    assert listed == told != set()


def test_all_claims_have_a_verdict(document):
    (table,) = [t for t in document.all("table") if t.attributes.get("class") == "scorecard"]
    rows = table.all("tbody")[0].all("tr")
    assert len(rows) >= len(CLAIMS)
    text = table.text
    for claim in CLAIMS:
        assert claim.statement in text
        assert claim.test in text
    verdicts = [row.all("td")[0].all("span")[0].text.split(" ", 1)[1] for row in rows]
    assert set(verdicts) <= set(VERDICTS)
    assert "not run" not in verdicts[: -verdicts.count("not run")]
    (tally,) = [each for each in document.all("ul") if each.attributes.get("class") == "tally"]
    told = [item.text.split(" ", 1)[1].split(": ") for item in tally.all("li")]
    assert [(verdict, int(count)) for verdict, count in told] == [
        (verdict, verdicts.count(verdict)) for verdict in VERDICTS
    ]
    (part,) = [
        each
        for each in document.all("section")
        if each.attributes.get("aria-labelledby") == "scorecard"
    ]
    tested = sum("(" in row.all("td")[3].text for row in rows)
    assert any(each.text.startswith(f"{tested} tests, ") for each in part.all("p"))


def test_verdicts_that_hold_when_corrected_are_marked():
    findings = [
        finding(verdict="confirmed", effect=2.0, low=1.0, high=3.0, p=0.0001, holm=True),
        finding(verdict="refuted", effect=-2.0, low=-3.0, high=-1.0, p=0.02),
        finding(verdict="not run"),
    ]
    card = tree(scorecard(findings, []))
    rows = card.all("tbody")[0].all("tr")
    assert [row.all("td")[0].text for row in rows] == ["✓ confirmed*", "✗ refuted", "– not run"]
    assert chance(findings) in [each.text for each in card.all("p")]
    assert len(tree(scorecard(findings[2:], [])).all("p")) == len(card.all("p")) - 1


def finding(**changes):
    values = {
        "claim": CLAIMS[0],
        "setting": "s",
        "label": "l",
        "verdict": "undecided",
        "effect": math.nan,
        "low": math.nan,
        "high": math.nan,
        "unit": "points",
        "seeds": 0,
        "reason": "r",
    }
    return Finding(**(values | changes))


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({}, "–"),
        ({"effect": 1.26}, "+1.3 points"),
        ({"effect": -1.26, "low": -3.02, "high": 0.5}, "−1.3 points (−3.0 to 0.5)"),
    ],
)
def test_an_effect_is_shown_with_what_is_known_of_it(changes, shown):
    (row,) = tree(scorecard([finding(**changes)], [])).all("tbody")[0].all("tr")
    assert row.all("td")[3].text == shown


def report_of(data, text="t", **more):
    """A report with `text` wherever there is any."""
    told = {"title": text, "caption": text, "notes": [text], "alt": text}
    figure = Figure((1, 1))
    return Report(name="n", **told, figure=figure, tables=[], data=data, summary=[], **more)


@pytest.mark.parametrize(
    ("data", "intervals", "shown"),
    [
        ({"seeds": [0, 3, 3]}, "", "3 seeds; ±: 95% interval over seeds (Student’s t)"),
        ({"seeds": [2, 3]}, "", "2 to 3 seeds per cell; ±: 95% interval over seeds (Student’s t)"),
        ({"seeds": [1, 1]}, "", "1 seed; no intervals"),
        ({"seed": [0, 0, 4]}, "", "2 seeds; ±: 95% interval over seeds (Student’s t)"),
        ({"seed": [4, 4]}, "", "1 seed; no intervals"),
        ({"seed": [4, 4]}, "test images", "1 seed; ±: 95% interval over test images"),
    ],
)
def test_seeds_are_told_with_what_intervals_are_over(tmp_path, data, intervals, shown):
    report = report_of(pd.DataFrame(data), intervals=intervals)
    files = write(report, tmp_path)
    document = tree(section(ARTEFACTS["figureB3"], report, files, pd.DataFrame(), []).html)
    facts = zip(document.all("dt"), document.all("dd"), strict=True)
    assert {name.text: fact.text for name, fact in facts}["Seeds"] == shown


def test_what_others_wrote_is_shown_as_it_is(tmp_path):
    claim = dataclasses.replace(CLAIMS[0], statement=NASTY, source=NASTY, estimate=NASTY)
    card = scorecard(
        [finding(claim=claim, setting=NASTY, label=NASTY, reason=NASTY, unit=NASTY, effect=1.0)],
        [],
    )
    assert not tree(card).all("b", "script")
    assert tree(card).text.count(NASTY) == 6
    table = tree(html_table(Table(NASTY, [NASTY, "a"], [[NASTY, NASTY]])))
    assert table.text.count(NASTY) == 4
    report = report_of(pd.DataFrame(), NASTY)
    files = write(report, tmp_path)
    shown = tree(section(ARTEFACTS["figure5"], report, files, pd.DataFrame(), [NASTY]).html)
    assert shown.text.count(NASTY) == 4
    assert shown.all("img")[0].attributes["alt"] == NASTY


def test_each_run_is_counted_once_in_the_time():
    draw = np.random.default_rng()
    seconds = draw.uniform(100, 900, 12)
    rows = [{"run_id": f"r{k}", "pretraining.seconds": s} for k, s in enumerate(seconds)]
    rows.append({"run_id": "random", "pretraining.seconds": math.nan})
    evaluated = draw.uniform(1, 9, (2, 13))
    runs = pd.concat(
        pd.DataFrame(rows).assign(evaluation=key, evaluation_seconds=taken)
        for key, taken in zip(("h", "z"), evaluated, strict=True)
    )
    chosen = ["r3", "r7", "r7", "random"]
    training, evaluation = duration(seconds[[3, 7]].sum()), evaluated[:, [3, 7, 12]].sum()
    evaluating = f"Evaluation took {duration(evaluation)} over 6 evaluations."
    assert (
        compute(runs, chosen)
        == f"Training took {training} over 2 runs; 1 more was not trained. {evaluating}"
    )
    assert (
        compute(runs, chosen, ["r1", "r3"])
        .partition(". Eval")[0]
        .endswith(
            f"over 2 runs; tuning took {duration(seconds[1])} over 1 run; 1 more was not trained"
        )
    )
    unknown = runs.assign(
        evaluation_seconds=runs["evaluation_seconds"].where(runs["evaluation"] == "h")
    )
    assert compute(unknown, chosen).endswith("3 evaluations; for 3 more it was not recorded.")
    nothing = runs.assign(evaluation_seconds=math.nan)
    assert compute(nothing, chosen).endswith("How long evaluation took was not recorded.")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (89, "89 s"),
        (90, "1.5 min"),
        (720, "12 min"),
        (5399, "90 min"),
        (5400, "1.5 h"),
        (1e7, "2,778 h"),
    ],
)
def test_durations_are_in_a_fitting_unit(seconds, text):
    assert duration(seconds) == text


@pytest.mark.slow
def test_an_artefact_without_runs_has_its_command(tmp_path, make):
    make.put(tmp_path / "runs", make.pair("crop", "color"), 50.0)
    make.put(tmp_path / "runs", make.pair("crop", "crop"), 40.0)
    assert main([f"store={tmp_path / 'runs'}", f"out={tmp_path}"]) == 0
    document = tree((tmp_path / "index.html").read_text())
    assert (
        len(document.all("img")) == sum(not artefact.sweep for artefact in ARTEFACTS.values()) + 1
    )
    for part in document.all("section"):
        name = part.attributes["aria-labelledby"]
        if name in ARTEFACTS and ARTEFACTS[name].sweep and name != "figure5":
            assert f"The store holds 2 runs, but none of sweep={ARTEFACTS[name].sweep}" in part.text
            (command,) = part.all("code")
            assert command.text.startswith(f"simclr-ablate -m sweep={ARTEFACTS[name].sweep}")
            assert command.text.endswith(f" store={tmp_path / 'runs'}")


def test_a_part_of_the_artefacts_leaves_the_page_alone(tmp_path, make, capsys):
    make.put(tmp_path / "runs", make.pair("crop", "color"), 50.0)
    (tmp_path / "index.html").write_text("whole")
    assert main(["figure5", f"store={tmp_path / 'runs'}", f"out={tmp_path}"]) == 0
    assert (tmp_path / "index.html").read_text() == "whole"
    assert "index.html" not in capsys.readouterr().out
