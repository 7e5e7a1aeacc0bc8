"""Table 2: each printed gradient is that of the printed loss, as the paper's text has both."""

import re

import pandas as pd
import pytest
import torch
from matplotlib.mathtext import MathTextParser

from analysis import paper
from analysis.artefacts import ARTEFACTS, table2
from analysis.report import write
from simclr_ablate.schema import LOSS_NAMES

TAU, MARGIN = 0.3, 0.4
PRINTED = {name: texts for name, *texts in paper.entries()["table2_losses"]["values"]}

LATEX = [
    (r"\\ ?mathrm\{if\}(.*)\\mathrm\{else\}(.*)", r"*(1.0 if \1 else 0.0)"),
    (r"\\mathbf\{u\}\^\{\\top\}\\mathbf\{v\}\^\{\+\}", "(u@p)"),
    (r"\\mathbf\{u\}\^\{\\top\}\\mathbf\{v\}\^\{-\}", "(u@n)"),
    (r"\\mathbf\{u\}\^\{\\top\}\\mathbf\{v\}", "(u@v)"),
    (r"\\sum_\{\\mathbf\{v\}\\in\\lbrace.*?\\rbrace\}(.*)", r"sum(\1 for v in (p, n))"),
    (r"\\sum_\{\\mathbf\{v\}\^\{-\}\}", ""),
    (r"\\frac\{(.*?)\}\{Z\(\\mathbf\{u\}\)\}", r"(\1/Z)"),
    (r"\\ \\mathbf\{v\}\^\{\+\}", "*p"),
    (r"\\ \\mathbf\{v\}\^\{-\}", "*n"),
    (r"\\mathbf\{v\}\^\{\+\}-\\mathbf\{v\}\^\{-\}", "(p-n)"),
    (r"\\(log|exp|max|sigma|tau)", r"\1"),
    (r"\\ ", ""),
]
TEXT = [
    (r"(.*) if (.*) else 0", r"(\1)*(1.0 if \2 else 0.0)"),
    (r"u\^T v\+", "(u@p)"),
    (r"u\^T v-", "(u@n)"),
    (r"u\^T v", "(u@v)"),
    (r"sum_\{v in \{v\+, v-\}\} (.*)", r"sum(\1 for v in (p, n))"),
    (r"sum_\{v-\}", ""),
    (r"Z\(u\)", "Z"),
    (r"\[(.*?)\]", r"(\1)"),
    (r"\bv\+", "p"),
    (r"\bv-", "n"),
    (r"\bsigmoid\(", "sigma("),
    (r"log sigma\((.*?tau)\)", r"log(sigma(\1))"),
]


def evaluate(formula, rules, u, p, n):
    """The value of a formula for one anchor, positive and negative."""
    for pattern, replacement in rules:
        formula = re.sub(pattern, replacement, formula)
    formula = re.sub(r"\blogsigma(\([^/]*/tau\))", r"log(sigma\1)", formula)
    formula = re.sub(r"\b(log) ?(sum\(.*\))$", r"\1(\2)", formula)
    names = {"u": u, "p": p, "n": n, "tau": TAU, "m": MARGIN, "sigma": torch.sigmoid}
    names |= {"log": torch.log, "exp": torch.exp, "max": lambda x, low: x.clamp(min=low)}
    names["Z"] = ((u @ p) / TAU).exp() + ((u @ n) / TAU).exp()
    return eval(formula, names)


def draw():
    return torch.nn.functional.normalize(torch.randn(3, 4, dtype=torch.float64))


@pytest.mark.parametrize("name", PRINTED)
def test_each_gradient_is_that_of_its_loss_and_both_are_the_papers(name):
    for _ in range(20):
        u, p, n = draw()
        u.requires_grad_()
        loss, gradient = (evaluate(f, LATEX, u, p, n) for f in table2.FORMULAS[name])
        (expected,) = torch.autograd.grad(loss, u, allow_unused=True)
        torch.testing.assert_close(gradient, expected)
        printed = [evaluate(text, TEXT, u, p, n) for text in PRINTED[name]]
        torch.testing.assert_close([loss, gradient], printed)


def test_the_papers_losses_are_ours():
    names = [name.lower().replace("-", "_").replace(" ", "_") for name in table2.FORMULAS]
    assert names == list(LOSS_NAMES)
    assert list(PRINTED) == list(table2.FORMULAS)


def test_it_is_written_in_every_form(tmp_path):
    (report,) = ARTEFACTS["table2"].reports(pd.DataFrame())
    assert len(write(report, tmp_path, ["simclr-ablate analyse"])) == 5
    parser = MathTextParser("path")
    latex, markdown = ((tmp_path / f"table2.{end}").read_text() for end in ("tex", "md"))
    for formula in (formula for pair in table2.FORMULAS.values() for formula in pair):
        parser.parse(f"${formula}$")
        assert f"${formula}$" in latex
        assert f"${formula}$" in markdown
    assert r"\begin{tabular}{@{}lll@{}}" in latex
    assert "sweep" not in markdown
    assert "Made by `simclr-ablate analyse`." in markdown
