"""Tables as Markdown, HTML and LaTeX (booktabs), from the same cells of plain text."""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from .markup import render

if TYPE_CHECKING:
    import pandas as pd

MISSING = "–"
MARK = "○"
"""The mark after a number that is not clearly above the random encoder."""

MANY = 6
"""A table with more columns than this is set narrow on the page."""

_MARKDOWN_SPECIAL = re.compile(r"([\\`*_\[\]<>|#~$&])")
_MARKDOWN_LIST = re.compile(r"^([-+]|\d{1,9}[.)])(?=[\s-]|$)")
_FORMULA = re.compile(r"[=+\-@\t\r]")
"""What a spreadsheet takes for the start of a formula."""
_LATEX = {
    "\\": r"\textbackslash{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "±": r"$\pm$",
    "×": r"$\times$",
    "≤": r"$\le$",
    "≥": r"$\ge$",
    "ρ": r"$\rho$",
    "τ": r"$\tau$",
    "⁺": r"$^{+}$",
    "⁻": r"$^{-}$",
    "ᵀ": r"$^{\top}$",
    "†": r"$^{\dagger}$",
    "′": "$'$",
    "→": r"$\to$",
    "–": "--",
    "\0": "{}",
    "…": r"\ldots{}",
    "’": "'",
    "`": r"\textasciigrave{}",
    # At the start of a row, these would be read as options of the row before.
    "[": "{[}",
    "*": "{*}",
    **{"ß": r"\ss{}", "æ": r"\ae{}", "Æ": r"\AE{}", "œ": r"\oe{}", "Œ": r"\OE{}"},
    **{"ø": r"\o{}", "Ø": r"\O{}", "ł": r"\l{}", "Ł": r"\L{}", "\u00a0": "~"},
    MARK: r"$^{\circ}$",
}
_LATEX_ACCENTS = {
    **{"\u0300": "`", "\u0301": "'", "\u0302": "^", "\u0303": "~", "\u0304": "=", "\u0306": "u"},
    **{"\u0307": ".", "\u0308": '"', "\u030a": "r", "\u030b": "H", "\u030c": "v", "\u0327": "c"},
}
"""By the combining character into which Unicode decomposes a letter."""

_LATEX_DASHES = re.compile("([-–])(?=[-–])")
"""All dashes of a sequence but the last; LaTeX would join them into a longer dash."""

_NOT_WIDER = r"\ifdim\width>\linewidth\linewidth\else\width\fi"
"""The natural width, but at most that of the text."""


class Formula(str):
    """A cell that is a formula in LaTeX, without dollar signs."""


class Bold(str):
    """A cell of plain text that is set in bold."""


@dataclass(frozen=True)
class Table:
    """Cells of plain text, bold text or formulas. The first cell of a row is its name.

    apart: how many of the last columns are set apart.
    """

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    apart: int = 0


@dataclass(frozen=True)
class _Cell:
    """A cell in its parts. half: half the width of the value's interval; empty if it has none."""

    value: str
    half: str = ""
    is_marked: bool = False
    is_bold: bool = False
    is_formula: bool = False

    @classmethod
    def of(cls, text: str) -> "_Cell":
        if isinstance(text, Formula):
            return cls(text, is_formula=True)
        plain = text.removesuffix(f" {MARK}")
        value, _, half = plain.partition(" ± ")
        return cls(value, half, plain != text, isinstance(text, Bold))


def number(value: float, half: float = float("nan"), marked: bool = False) -> str:
    """A percentage: `52.1`, `52.1 ± 0.4`, `52.1 ○`, or a dash if it is missing (NaN)."""
    if value != value:
        return MISSING
    return (
        f"{value:.1f}" + (f" ± {half:.1f}" if half == half else "") + (f" {MARK}" if marked else "")
    )


def conjoined(words: Iterable[str]) -> str:
    """`a, b and c`, each word once."""
    *first, last = dict.fromkeys(words)
    return f"{', '.join(first)} and {last}" if first else last


def uncapitalized(title: str) -> str:
    """A title for the middle of a sentence."""
    return title[:1].lower() + title[1:]


def markdown_table(table: Table) -> str:
    """A pipe table with aligned source."""
    lines = [[_markdown_cell(cell) for cell in row] for row in (table.header, *table.rows)]
    widths = [max(3, *map(len, column)) for column in zip(*lines, strict=True)]
    left = _left_aligned(table)
    rule = [
        "-" * width if at else "-" * (width - 1) + ":"
        for at, width in zip(left, widths, strict=True)
    ]
    first, *others = [
        [
            cell.ljust(width) if at else cell.rjust(width)
            for at, cell, width in zip(left, line, widths, strict=True)
        ]
        for line in lines
    ]
    return "".join(f"| {' | '.join(row)} |\n" for row in (first, rule, *others))


def html_table(table: Table) -> Markup:
    """A table with row and column headers for screen readers, in a box that may scroll."""
    first_apart = len(table.header) - table.apart
    left = _left_aligned(table)
    kinds = [
        "apart" if at == first_apart else "left" if left[at] else "" for at in range(len(left))
    ]
    return render(
        "table.html",
        title=table.title,
        is_wide=len(table.header) > MANY,
        kinds=kinds,
        header=[_Cell.of(text) for text in table.header],
        rows=[[_Cell.of(text) for text in row] for row in table.rows],
        mark=MARK,
    )


def latex_tables(tables: Sequence[Table], caption: str, label: str) -> str:
    """A `table` float with `tables` one below the other. Needs booktabs and graphicx."""
    blocks = "\n\n\\bigskip\n".join(_latex_tabular(table) for table in tables)
    return (
        "% Needs \\usepackage{booktabs,graphicx}.\n"
        "\\begin{table}\n\\centering\n\\footnotesize\n\\setlength{\\tabcolsep}{3pt}\n"
        f"{blocks}\n"
        f"\\caption{{{escape_latex(caption)}}}\n\\label{{tab:{label}}}\n"
        "\\end{table}\n"
    )


def escape_markdown(text: str) -> str:
    """`text` escaped for Markdown, on one line, also for the start of a line."""
    text = _MARKDOWN_SPECIAL.sub(r"\\\1", " ".join(text.splitlines()).strip())
    return _MARKDOWN_LIST.sub(lambda item: f"{item[1][:-1]}\\{item[1][-1]}", text)


def markdown_code(text: str) -> str:
    """`text` as inline code, whatever backticks it has."""
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence = "`" * (longest + 1)
    return f"{fence} {text} {fence}" if longest else f"{fence}{text}{fence}"


def escape_latex(text: str) -> str:
    """`text` escaped for pdfLaTeX. Characters that it does not know become Python's escapes: `\\u732b`."""
    return "".join(map(_latex_character, _LATEX_DASHES.sub("\\1\0", text)))


def csv_text(data: "pd.DataFrame") -> str:
    """A table as CSV. Text that a spreadsheet would run as a formula is prefixed with an apostrophe."""
    texts = [name for name in data if data[name].dtype.kind not in "biuf"]
    inert = data.assign(**{name: data[name].map(_inert) for name in texts})
    return inert.to_csv(index=False, lineterminator="\n")


def _inert(cell: Any) -> Any:
    formula = isinstance(cell, str) and _FORMULA.match(cell) and not _is_number(cell)
    return f"'{cell}" if formula else cell


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _latex_character(character: str) -> str:
    if character in _LATEX or character.isascii():
        return _LATEX.get(character, character)
    apart = unicodedata.normalize("NFD", character)
    letter, accent = apart[0], _LATEX_ACCENTS.get(apart[1:])
    if letter.isascii() and accent:
        return f"\\{accent}{{{letter}}}"
    return escape_latex(character.encode("unicode_escape").decode())


def _left_aligned(table: Table) -> list[bool]:
    """Whether each column is left-aligned: the names are, and so are formulas and words, but no numbers."""
    return [
        column == 0 or any(_is_word(row[column]) for row in table.rows)
        for column in range(len(table.header))
    ]


def _is_word(text: str) -> bool:
    return isinstance(text, Formula) or text[:1].isalpha()


def _markdown_cell(text: str) -> str:
    if isinstance(text, Formula):
        return f"${text}$"
    return f"**{escape_markdown(text)}**" if isinstance(text, Bold) else escape_markdown(text)


def _latex_cell(text: str) -> str:
    """A cell in LaTeX. Intervals are small to fit a page, and marks have no width, which keeps numbers aligned."""
    cell = _Cell.of(text)
    if cell.is_formula:
        return f"${cell.value}$"
    interval = f"\\,{{\\tiny{_LATEX['±']}{escape_latex(cell.half)}}}" if cell.half else ""
    mark = f"\\rlap{{{_LATEX[MARK]}}}" if cell.is_marked else ""
    shown = escape_latex(cell.value)
    return (f"\\textbf{{{shown}}}" if cell.is_bold else shown) + interval + mark


def _latex_tabular(table: Table) -> str:
    alignment = "".join("l" if left else "r" for left in _left_aligned(table))
    apart = len(alignment) - table.apart
    gap = "@{\\hskip 1.2em}" if table.apart else ""
    columns = "@{}" + alignment[:apart] + gap + alignment[apart:] + "@{}"
    header, *rows = [
        " & ".join(map(_latex_cell, row)) + " \\\\" for row in (table.header, *table.rows)
    ]
    tabular = "\n".join(
        [
            f"\\begin{{tabular}}{{{columns}}}",
            *("\\toprule", header, "\\midrule", *rows, "\\bottomrule"),
            "\\end{tabular}",
        ]
    )
    return (
        f"\\textbf{{{escape_latex(table.title)}}}\\\\[0.5ex]\n"
        f"\\resizebox{{{_NOT_WIDER}}}{{!}}{{%\n{tabular}}}"
    )
