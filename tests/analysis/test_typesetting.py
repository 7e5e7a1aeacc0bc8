"""Tables come back out of Markdown and LaTeX as they went in."""

import math
import re

import pytest

from analysis.typesetting import (
    Table,
    conjoined,
    escape_latex,
    escape_markdown,
    latex_tables,
    markdown_table,
    number,
)

NASTY = r"50% of $x_1$ & #2 ~ {a}^b \ <c> | *d* `e` [f] ρ ± ○ – ’"
TABLE = Table(
    title="100% & more",
    header=["1st / 2nd", "a|b", "c_d", "Average"],
    rows=[["x*y", "52.1 ± 0.4 ○", "–", "30.0"], [r"\z", "7.5 ○", "8.0", "–"]],
    apart=1,
)


def cells_of(markdown_line):
    inner = markdown_line.strip().removeprefix("|").removesuffix("|")
    cells = re.split(r"(?<!\\)\|", inner)
    return [re.sub(r"\\([\\`*_\[\]<>|#~$&])", r"\1", cell.strip()) for cell in cells]


def test_number():
    assert number(52.14) == "52.1"
    assert number(52.14, 0.36) == "52.1 ± 0.4"
    assert number(52.14, marked=True) == "52.1 ○"
    assert number(math.nan) == "–"
    assert number(0.0) == "0.0"


def test_words_are_joined_as_one_says_them():
    assert [conjoined("a"), conjoined("ab"), conjoined("abca")] == ["a", "a and b", "a, b and c"]


def test_markdown_table_holds_the_cells():
    header, rule, *rows = markdown_table(TABLE).splitlines()
    assert [cells_of(line) for line in (header, *rows)] == [TABLE.header, *TABLE.rows]
    assert re.fullmatch(r"\| -+ (\| -+: )+\|", rule)
    assert len({len(line) for line in (header, rule, *rows)}) == 1


def test_markdown_escapes_its_own_signs():
    assert cells_of(f"| {escape_markdown(NASTY)} |") == [NASTY]


def test_latex_escapes_its_own_signs():
    escaped = escape_latex(NASTY)
    assert not re.search(r"(?<!\\)[%#&_]", escaped)
    known = r"\\text[a-z]+\{\}|\\[{}]|\$\^\{\\circ\}\$|\{[\[*]\}"
    assert re.sub(known, "", escaped).count("{") == 0
    assert escaped.isascii()


def test_latex_table_has_booktabs_rules_and_every_cell():
    text = latex_tables([TABLE, TABLE], "A caption & more", "tab-1")
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == 2
    for rule in ("toprule", "midrule", "bottomrule"):
        assert text.count(f"\\{rule}") == 2
    rows = [line for line in text.splitlines() if " & " in line and line.endswith(r"\\")]
    assert len(rows) == 6
    assert all(len(re.findall(r"(?<!\\)&", row)) == 3 for row in rows)
    assert r"52.1\,{\tiny$\pm$0.4}\rlap{$^{\circ}$} & -- & 30.0" in rows[1]
    assert r"\caption{A caption \& more}" in text


def check_latex(text):
    """Fails where groups or environments do not match, a row has not its cells, or a sign is not TeX's."""
    body = re.sub(r"(?<!\\)%.*", "", text)
    assert body.isascii()
    depth = 0
    for sign in re.findall(r"\\.|[{}]", body):
        depth += {"{": 1, "}": -1}.get(sign, 0)
        assert depth >= 0
    assert depth == 0
    open_environments = []
    for kind, name in re.findall(r"\\(begin|end)\{(\w+)\}", body):
        if kind == "begin":
            open_environments.append(name)
        else:
            assert open_environments.pop() == name
    assert not open_environments
    math_mode = re.split(r"(?<!\\)\$", body)
    assert len(math_mode) % 2 == 1
    assert not any(re.search(r"(?<!\\)[_^#~]", outside) for outside in math_mode[::2])
    tables = re.findall(r"\\begin\{tabular\}\{([^\n]*)\}\n(.*?)\\end\{tabular\}", body, re.DOTALL)
    for columns, content in tables:
        places = re.sub(r"@\{(?:[^{}]|\{[^{}]*\})*\}", "", columns)
        assert re.fullmatch("l[lr]*", places)
        rules = [line for line in content.splitlines() if line.endswith("rule")]
        assert rules == ["\\toprule", "\\midrule", "\\bottomrule"]
        rows = [line for line in content.splitlines() if line.endswith(r"\\")]
        assert rows
        assert len(rows) + len(rules) == len(content.splitlines())
        for row in rows:
            assert len(re.findall(r"(?<!\\)&", row)) == len(places) - 1
    return len(tables)


def test_latex_of_every_artefact_has_a_sound_structure(site):
    assert check_latex(latex_tables([TABLE, TABLE], NASTY.replace("’", "'"), "tab-1")) == 2
    files = sorted(site.glob("[!c]*.tex"))
    assert len(files) > 10
    for path in files:
        assert check_latex(path.read_text()) >= 1, path.name


@pytest.mark.parametrize(
    "broken",
    [
        (r" & ", r" "),
        (r"\midrule", ""),
        (r"}\\[0.5ex]", r"\\[0.5ex]"),
        (r"\end{tabular}", ""),
        ("52.1", "52_1"),
        ("100", "$100"),
        ("30.0", "30 °"),
    ],
)
def test_the_check_of_structure_can_fail(broken):
    text = latex_tables([TABLE], "A caption", "tab-1")
    old, new = broken
    assert old in text
    with pytest.raises((AssertionError, IndexError)):
        check_latex(text.replace(old, new, 1))


@pytest.mark.slow
def test_latex_compiles(compile_latex, tmp_path, site):
    tables = [latex_tables([TABLE, TABLE], NASTY, "tab-1")]
    tables += [path.read_text() for path in sorted(site.glob("[!c]*.tex"))]
    compile_latex(tmp_path, "booktabs,graphicx", "\\clearpage\n".join(tables))
