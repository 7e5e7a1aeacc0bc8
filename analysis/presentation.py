"""A comparison as a report: tables, bars, heat maps, the caption and the CSV."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from simclr_ablate.terminal import count

from .bars import Bar, Bars, bar_page, describe_bars
from .comparison import AVERAGE, Comparison, Label, Part, Place, spell
from .drawing import Cell, HeatMap, describe_heat_maps, heat_maps, style
from .report import TUNING, Report
from .settings import seed_range
from .statistics import Accuracies, Correlation, Estimate
from .typesetting import MARK, MISSING, Bold, Table, number


def bar_report(
    comparison: Comparison, panels: Sequence[Sequence[Bars]], notes: Sequence[str] = ()
) -> Report:
    """The report of a comparison that is drawn as bars."""
    return report(comparison, describe_bars(panels), partial(bar_page, panels), notes)


def map_report(comparison: Comparison, notes: Sequence[str] = ()) -> Report:
    """The report of a comparison that is drawn as heat maps."""
    drawn = maps(comparison)
    words = describe_heat_maps(drawn, comparison.quantity)
    return report(comparison, words, partial(heat_maps, drawn), notes)


def report(
    comparison: Comparison,
    drawn: str,
    draw: Callable[[str], Figure],
    notes: Sequence[str] = (),
) -> Report:
    """The report of a comparison.

    drawn: what its picture shows, in words. draw: draws the picture above a caption.
    """
    text = caption(comparison)
    with style():
        figure = draw(text)
    return Report.of_setting(
        comparison.artefact,
        comparison.setting,
        caption=text,
        notes=[*reading(comparison), *notes],
        alt=alt(comparison, drawn),
        figure=figure,
        tables=[table for part in comparison.parts for table in tables(comparison, part)],
        data=data(comparison),
        summary=[
            *filter(None, [agreement(comparison)]),
            *gaps(comparison),
            f"Highest: {'; '.join(highest(comparison.parts, is_ranked(comparison), comparison.theirs))}.",
            *references(comparison),
        ],
    )


def reading(comparison: Comparison) -> list[str]:
    """How to read the tables, in words."""
    marked = [MARKED] if comparison.artefact.of_paper or comparison.tests() else []
    if not comparison.published:
        return [*marked, f"{MISSING}: no finished run. Empty: nothing to run."]
    missing = f"{MISSING}: no finished run, or not published. Empty: nothing to run."
    return [*marked, missing, RANKED.format(theirs=comparison.theirs)]


MARKED = (
    f"{MARK}: not clearly above the random encoder. The difference of the means does not exceed "
    "its 95% margin (Welch’s t test over seeds). If a side has a single seed, the binomial error "
    "of its accuracy on the test images stands in for the scatter; this ignores how much seeds "
    "differ. There is no correction for the number of cells."
)
RANKED = (
    "Spearman’s ρ compares the ranks of the cells that we and {theirs} both have. Its interval "
    "comes from 10,000 resamples of these cells."
)


def bars(
    comparison: Comparison,
    part: Part,
    series: str = "columns",
    reach: Callable[[Place], float] | None = None,
) -> list[Bars]:
    """Ours and, if it is published, the paper's as grouped bars.

    series: "rows" or "columns", whichever are the series. reach: how far the error bar of a cell of ours reaches above
    and below it, if it is not the interval. A part without tested cells has no reference line and no marks.
    """

    def ours(place: Place) -> Bar | None:
        if part.void(*place):
            return None
        estimate = part.estimate(place)
        if estimate is None:
            return Bar(math.nan)
        marked = comparison.above_random(part, place) is False
        return Bar(estimate.mean, reach(place) if reach else estimate.half, marked)

    def theirs(place: Place) -> Bar | None:
        return Bar(part.paper[place]) if place in part.paper else None

    reference = None
    if comparison.random is not None and any(map(part.tested, part.cells)):
        mean = comparison.random.estimate().mean
        reference = (f"random encoder ({number(mean)})", mean)
    title = _titled(f"Ours: {comparison.setting.label}", part.name)
    drawn = [_bars(part, title, series, part.row_labels, part.column_labels, ours, reference)]
    if part.published:
        title, axes = (
            _titled(comparison.printed_on, part.name),
            (part.paper_rows, part.paper_columns),
        )
        drawn.append(_bars(part, title, series, *axes, theirs))
    return drawn


def _bars(
    part: Part,
    title: str,
    series: str,
    rows: Sequence[Label],
    columns: Sequence[Label],
    bar: Callable[[Place], Bar | None],
    reference: tuple[str, float] | None = None,
) -> Bars:
    by_row = [[bar((row, column)) for column in columns] for row in rows]
    across = series == "rows"
    groups, inner = (part.columns, part.rows) if across else (part.rows, part.columns)
    return Bars(
        title=title,
        value_title=part.quantity[:1].upper() + part.quantity[1:],
        group_title=groups.title,
        series_title=inner.title,
        groups=[_on_lines(label) for label in (columns if across else rows)],
        series=[" ".join(spell(label)) for label in (rows if across else columns)],
        bars=by_row if across else [list(column) for column in zip(*by_row, strict=True)],
        reference=reference,
    )


def _on_lines(label: Label) -> str:
    """A label for the narrow space under a group of bars: each part on its own line, and so is what is in brackets."""
    return "\n".join(spell(label)).replace(" (", "\n(")


def maps(comparison: Comparison) -> list[HeatMap]:
    """Our heat map of each part, the paper's of each part that it publishes, then ours in other settings.

    Ours share one colour scale, and so do the paper's.
    """

    def ours(part: Part, place: Place) -> Cell:
        estimate = part.estimate(place)
        if estimate is None:
            return Cell(math.nan)
        interval = f"±{estimate.half:.1f}"
        note = count(estimate.seeds, "seed") if math.isnan(estimate.half) else interval
        marked = comparison.above_random(part, place) is False
        return Cell(estimate.mean, note if comparison.several else "", marked)

    def theirs(part: Part, place: Place) -> Cell:
        value = part.printed(place)
        return Cell(math.nan if value is None else value)

    random = comparison.random
    reference = ("random encoder", random.estimate().mean) if random else None
    parts = comparison.parts
    shown = [cell.estimate().mean for part in parts for cell in part.cells.values()]
    printed = [value for part in parts for value in part.paper.values()]
    result = []
    for part in parts:
        title = f"Ours, {part.name}" if part.name else f"Ours: {comparison.setting.label}"
        axes = part.row_labels, part.column_labels
        result.append(_map(part, title, *axes, partial(ours, part), reference, shown))
    for part in filter(lambda part: part.published, parts):
        title = f"The paper, {part.name}" if part.name else comparison.printed_on
        axes = part.paper_rows, part.paper_columns
        result.append(_map(part, title, *axes, partial(theirs, part), None, printed))
    for name, values in comparison.elsewhere.items():
        (part,) = parts
        means = _with_means(part, values)
        axes, cell = _axes_of(part, values), partial(_measured, means)
        result.append(_map(part, f"Ours: {name}", *axes, cell, None, []))
    return result


def _measured(means: Mapping[Place, float], place: Place) -> Cell:
    return Cell(means[place])


def _with_means(part: Part, values: Mapping[Place, float]) -> dict[Place, float]:
    """Cells of another setting, NaN where there is none, with the means of their rows in the column AVERAGE."""
    places = [(row, column) for row in part.row_labels for column in part.column_labels]
    means = {place: values.get(place, math.nan) for place in places}
    for row in part.row_labels:
        of_row = [means[row, column] for column in part.averaged or part.column_labels]
        means[row, AVERAGE] = sum(of_row) / len(of_row)
    return means


def _axes_of(part: Part, values: Mapping[Place, float]) -> tuple[list[Label], list[Label]]:
    """The rows and columns of a part that cells of another setting have."""
    rows, columns = {row for row, _ in values}, {column for _, column in values}
    return (
        [row for row in part.row_labels if row in rows],
        [column for column in part.column_labels if column in columns],
    )


def _map(
    part: Part,
    title: str,
    rows: Sequence[Label],
    columns: Sequence[Label],
    cell: Callable[[Place], Cell],
    reference: tuple[str, float] | None,
    beside: Sequence[float],
) -> HeatMap:
    shown = _with_averages(part, columns)
    return HeatMap(
        title=title,
        row_title=part.rows.title,
        column_title=part.columns.title,
        rows=[" ".join(spell(label)) for label in rows],
        columns=[" ".join(spell(label)) for label in shown],
        cells=[[cell((row, column)) for column in shown] for row in rows],
        apart=len(shown) - len(columns),
        reference=reference,
        beside=beside,
    )


def _with_averages(part: Part, columns: Sequence[Label]) -> list[Label]:
    return [*columns, AVERAGE] if part.averages else list(columns)


def tables(comparison: Comparison, part: Part) -> list[Table]:
    """Our table, the paper's if it is published, and ours in other settings."""
    theirs = [paper_table(comparison, part)] if part.published else []
    elsewhere = [_other_table(part, name, values) for name, values in comparison.elsewhere.items()]
    return [our_table(comparison, part), *theirs, *elsewhere]


def _other_table(part: Part, name: str, values: Mapping[Place, float]) -> Table:
    """Our table in another setting."""
    means = _with_means(part, values)
    title = _titled(f"Ours: {name}", part.name, part.quantity)
    return _table(part, title, *_axes_of(part, values), lambda place: number(means[place]))


def our_table(comparison: Comparison, part: Part) -> Table:
    def text(place: Place) -> str:
        if part.void(*place):
            return ""
        estimate = part.estimate(place)
        if estimate is None:
            return MISSING
        text = number(estimate.mean, estimate.half, comparison.above_random(part, place) is False)
        return Bold(text) if place in part.bold else text

    title = _titled(f"Ours: {comparison.setting.label}", part.name, part.quantity)
    return _table(part, title, part.row_labels, part.column_labels, text)


def paper_table(comparison: Comparison, part: Part) -> Table:
    def text(place: Place) -> str:
        value = part.printed(place)
        text = number(math.nan if value is None else value)
        return Bold(text) if place in part.paper_bold else text

    title = _titled(comparison.printed_on, part.name, part.quantity)
    return _table(part, title, part.paper_rows, part.paper_columns, text)


def _table(
    part: Part,
    title: str,
    rows: Sequence[Label],
    columns: Sequence[Label],
    text: Callable[[Place], str],
) -> Table:
    names = list(part.rows.titles)
    if len(names) == 1 and part.columns.title:
        names = [_both(names[0], part.columns.title)]
    shown = _with_averages(part, columns)
    header = [*names, *(" ".join(spell(column)) for column in shown)]
    body = [[*spell(row), *(text((row, column)) for column in shown)] for row in rows]
    return Table(title, header, body, apart=len(shown) - len(columns))


def _both(first: str, second: str) -> str:
    """`Batch size / Epochs`; a last word that both share appears once: `1st / 2nd transformation`."""
    (begin, _, last), (other, _, word) = first.rpartition(" "), second.rpartition(" ")
    return f"{begin} / {other}" if begin and last == word else f"{first} / {second}"


def data(comparison: Comparison) -> pd.DataFrame:
    """The numbers at full precision.

    One row for each cell, ours or the paper's, for each average, for each reference, and for the runs by which
    hyperparameters were chosen.
    """
    rows: list[dict[str, Any]] = []
    for part in comparison.parts:
        places = dict.fromkeys(part.places) | dict.fromkeys(part.paper)
        averages = [(row, AVERAGE) for row in part.averages]
        elsewhere = {
            name: _with_means(part, values) for name, values in comparison.elsewhere.items()
        }
        for kind, of_kind in (("cell", places), ("average", averages)):
            rows += [_cell_data(kind, comparison, part, place, elsewhere) for place in of_kind]
    for kind, runs in {"random encoder": comparison.random, **comparison.references}.items():
        if runs is None:
            continue
        rows.append({"kind": kind, **_numbers(runs.estimate()), "run_ids": " ".join(runs.run_ids)})
    if comparison.tuning:
        rows.append({"kind": TUNING, **_numbers(None), "run_ids": " ".join(comparison.tuning)})
    return pd.DataFrame(rows)


def _cell_data(
    kind: str,
    comparison: Comparison,
    part: Part,
    place: Place,
    elsewhere: Mapping[str, Mapping[Place, float]],
) -> dict[str, Any]:
    (row, column), runs, printed = place, part.cells.get(place), part.printed(place)
    marks = part.bold or part.paper_bold
    return {
        "kind": kind,
        "part": part.name,
        "row": " ".join(spell(row, "{}")),
        "column": " ".join(spell(column, "{}")),
        **_numbers(part.estimate(place)),
        comparison.theirs.removeprefix("the "): math.nan if printed is None else printed,
        **{name: means.get(place, math.nan) for name, means in elsewhere.items()},
        "above_random": comparison.above_random(part, place),
        **({"bold": place in part.bold, "paper_bold": place in part.paper_bold} if marks else {}),
        "run_ids": " ".join(runs.run_ids) if runs else "",
    }


def _numbers(estimate: Estimate | None) -> dict[str, Any]:
    return {
        "mean": estimate.mean if estimate else math.nan,
        "half_interval": estimate.half if estimate else math.nan,
        "seeds": estimate.seeds if estimate else 0,
    }


def caption(comparison: Comparison) -> str:
    """A line for what was run and measured, one for the random encoder, and one for the agreement."""
    cells = [cell for part in comparison.parts for cell in part.cells.values()]
    images = {cell.images for cell in cells if not math.isnan(cell.images)}
    on = f" on {images.pop():,.0f} test images" if len(images) == 1 else ""
    features = comparison.setting.config.get("evaluation.features", "h or z")
    seeds = seed_range(len(cell.values) for cell in cells)
    method = comparison.method or f"of a linear classifier on the frozen {features}"
    text = f"{comparison.setting.description}, {seeds}. {comparison.quantity}{on} {method}."
    if comparison.several:
        text += " Intervals (±): 95%, Student’s t over seeds."
    if comparison.remark:
        text += f"\n{comparison.remark}"
    return "\n".join(filter(None, [text, *references(comparison), agreement(comparison)]))


def alt(comparison: Comparison, drawn: str) -> str:
    """The alt text of the picture: what is `drawn`, its highest cells, and the agreement."""
    ranked = is_ranked(comparison)
    among = "Highest of the ranked cells" if ranked and comparison.published else "Highest"
    words = highest(comparison.parts, ranked, comparison.theirs)
    rho = comparison.correlation.rho
    if not math.isnan(rho):
        words.append(f"Spearman’s ρ with {comparison.theirs} {rho:.2f}")
    beside = f" beside {comparison.theirs}’s" if comparison.published else ""
    return f"{drawn}, ours on {comparison.setting.label}{beside}. {among}: {'; '.join(words)}."


def is_ranked(comparison: Comparison) -> bool:
    """Whether some cells are ranked and others are not."""
    ranked = [part.ranked(place) for part in comparison.parts for place in part.cells]
    return any(part.unranked for part in comparison.parts) and any(ranked)


def highest(parts: Sequence[Part], ranked: bool, whose_else: str = "the paper") -> list[str]:
    """Our highest cell and the paper's, with their places.

    ranked: whether only ranked cells count. whose_else: whose numbers are beside ours.
    """

    def counts(part: Part, place: Place) -> bool:
        return part.ranked(place) or not ranked

    ours = [
        (cell.estimate(), part.describe_place(place))
        for part in parts
        for place, cell in part.cells.items()
        if counts(part, place)
    ]
    theirs = [
        (Estimate(value, math.nan, 1), part.describe_place(place))
        for part in parts
        for place, value in part.paper.items()
        if counts(part, place) and not math.isnan(value)
    ]
    words = []
    for whose, cells in (("ours", ours), (f"{whose_else}’s", theirs)):
        if cells:
            best, where = max(cells, key=lambda cell: cell[0].mean)
            words.append(f"{whose} {number(best.mean, best.half)} ({where})")
    return words


def references(comparison: Comparison) -> list[str]:
    """The references in words, on one line; the random encoder only if cells are meant to be tested against it."""
    tests = comparison.tests()
    sentences = [against_random(comparison.random, tests)] if tests else []
    for name, runs in comparison.references.items():
        estimate = runs.estimate()
        sentences.append(f"{name}: {number(estimate.mean, estimate.half)}.")
    return [" ".join(sentences)] if sentences else []


def against_random(random: Accuracies | None, tests: Sequence[bool | None]) -> str:
    """The random encoder in words, and how many cells are clearly above it. tests: each cell's result."""
    if random is None:
        return "No random encoder was evaluated in this setting, so no cell is tested against it."
    estimate = random.estimate()
    text = f"Random encoder: {number(estimate.mean, estimate.half)}."
    if None in tests:
        return f"{text} No cell is tested against it: the number of test images is unknown."
    if False not in tests:
        return f"{text} Every cell is clearly above it (95% margin)."
    marked = f"{tests.count(False)} of {len(tests)} cells"
    return f"{text} Not clearly above it ({MARK}, 95% margin): {marked}."


def agreement(comparison: Comparison) -> str:
    """Spearman's ρ with the paper, or with what is beside ours in its place, in words; empty if nothing should be."""
    if not comparison.published:
        expected = comparison.artefact.of_paper
        return (
            f"The paper publishes no numbers for {comparison.artefact.label}." if expected else ""
        )
    printed, theirs = _ranked_cells(comparison), comparison.theirs
    if not comparison.correlation.pairs:
        return f"No cell can be ranked against {theirs}’s."
    words = [f"Spearman’s ρ with {theirs}: {ranks(comparison.correlation, printed)}."]
    for name, values in comparison.elsewhere.items():
        words.append(f"With {name}: {ranks(comparison.correlation_with(values), len(values))}.")
    return " ".join(words)


def _ranked_cells(comparison: Comparison) -> int:
    """How many cells of the paper's are ranked."""
    return sum(
        part.ranked(place) and not math.isnan(value)
        for part in comparison.parts
        for place, value in part.paper.items()
    )


def ranks(correlation: Correlation, cells: int) -> str:
    """A rank correlation with its interval. cells: how many could be ranked."""
    among = f"{correlation.pairs} of {cells} cells"
    if math.isnan(correlation.rho):
        return f"not defined ({among})"
    interval = f"95% bootstrap interval {correlation.low:.2f} to {correlation.high:.2f}"
    if math.isnan(correlation.low):
        interval = "too few cells for an interval"
    return f"{correlation.rho:.2f} ({interval}; {among})"


def gaps(comparison: Comparison) -> list[str]:
    """The missing cells in words, one line for each part."""
    lines = []
    for part in comparison.parts:
        missing = [part.locate(place) for place in part.missing()]
        text = f"{len(missing)} of {len(part.places)}"
        if missing:
            text += ": " + "; ".join(missing[:6]) + ("; ..." if len(missing) > 6 else "")
        lines.append(f"Missing cells{f' ({part.name})' if part.name else ''}: {text}.")
    return lines


def _titled(*words: str) -> str:
    return ", ".join(word for word in words if word)
