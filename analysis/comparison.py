"""Tables whose cells are found by the values of config keys, each beside the paper's.

A module of an artefact says which keys its rows and columns vary (`Axis`) and which numbers the
paper has; from here come the cells over seeds, the test against the random encoder, the agreement
with the paper, tables, bars, heat maps, captions and the CSV.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from analysis.artefacts import ARTEFACTS
from analysis.bars import Bar, Bars
from analysis.drawing import Cell, HeatMap, style
from analysis.report import Report
from analysis.settings import (
    Setting,
    accuracies,
    count,
    plain_values,
    seed_range,
    settings,
)
from analysis.statistics import Accuracies, Correlation, clearly_above, spearman
from analysis.typesetting import MARK, MISSING, Table, number

Label = Hashable
"""Names a row or a column, as the paper's table does: `256`, `Linear`, `("yes", 0.05)`."""
Place = tuple[Label, Label]
"""A cell's row and column."""

PAPER = "The paper: ImageNet, ResNet-50"


@dataclass(frozen=True)
class Axis:
    """The rows or the columns of a table.

    titles: of a label, or of each part of it where labels are tuples. read: from a run's values of
    `keys` to its label; None for a run that has no place in the table. labels: those that are there
    even if no run of them is found. order: sorts labels.
    """

    titles: Sequence[str]
    keys: Sequence[str]
    read: Callable[..., Label | None]
    labels: Sequence[Label] = ()
    order: Callable[[Any], Any] = lambda label: label

    @property
    def title(self) -> str:
        return ", ".join(self.titles)

    def complete(self, found: Iterable[Label]) -> list[Label]:
        """The labels found and those that are always there, in order."""
        return sorted({*found, *self.labels}, key=self.order)


def listed(titles: Sequence[str], keys: Sequence[str], labels: Mapping[Any, Label]) -> Axis:
    """An axis whose labels are known beforehand, in their order: `labels` by the keys' values."""
    order = list(dict.fromkeys(labels.values()))

    def read(*values: Any) -> Label | None:
        return labels.get(values if len(values) > 1 else values[0])

    return Axis(titles, keys, read, order, order.index)


def constant(label: Label, among: Sequence[Label] = ()) -> Axis:
    """An axis that has every run at `label`; the others `among` which it is come from elsewhere."""
    labels = list(among or [label])
    return Axis([""], [], lambda: label, labels, labels.index)


@dataclass(frozen=True)
class Part:
    """One table of an artefact: the runs' cells and the paper's.

    name: tells parts apart; empty where there is one. measure: what cells hold; empty where the
    columns say it. void: places of ours where there is nothing to run. untested, unranked: rows or
    columns that are not compared with the random encoder, and not ranked against the paper's.
    """

    name: str
    rows: Axis
    columns: Axis
    cells: Mapping[Place, Accuracies]
    paper: Mapping[Place, float]
    measure: str = "top-1 (%)"
    void: Callable[[Label, Label], bool] = lambda row, column: False
    untested: Collection[Label] = ()
    unranked: Collection[Label] = ()

    @property
    def row_labels(self) -> list[Label]:
        return self.rows.complete(row for row, _ in self.cells)

    @property
    def column_labels(self) -> list[Label]:
        return self.columns.complete(column for _, column in self.cells)

    @property
    def places(self) -> list[Place]:
        """Where a run belongs, row by row."""
        columns = self.column_labels
        return [(r, c) for r in self.row_labels for c in columns if not self.void(r, c)]

    @property
    def paper_rows(self) -> list[Label]:
        return list(dict.fromkeys(row for row, _ in self.paper))

    @property
    def paper_columns(self) -> list[Label]:
        return list(dict.fromkeys(column for _, column in self.paper))

    def tested(self, place: Place) -> bool:
        return not any(label in self.untested for label in place)

    def ranked(self, place: Place) -> bool:
        return not any(label in self.unranked for label in place)

    def missing(self) -> list[Place]:
        return [place for place in self.places if place not in self.cells]

    def locate(self, place: Place) -> str:
        """A place in words: `batch size 64, epochs 12`."""
        titles = [*self.rows.titles, *self.columns.titles]
        words = [word for label in place for word in spell(label)]
        return ", ".join(
            f"{title[:1].lower()}{title[1:]} {word}".strip()
            for title, word in zip(titles, words, strict=True)
        )

    def only(self, column: Label) -> "Part":
        """The part with one of its columns, whose name says what is measured."""
        return replace(
            self,
            columns=constant(column),
            measure=str(column),
            cells={place: cell for place, cell in self.cells.items() if place[1] == column},
            paper={place: value for place, value in self.paper.items() if place[1] == column},
        )


@dataclass(frozen=True)
class Comparison:
    """An artefact (a name in ARTEFACTS) in one setting.

    remark, measure, measured: for the caption, on what else there is to know, on what is measured
    if not top-1, and on what it is of if not of a linear classifier on frozen features.
    """

    artefact: str
    setting: Setting
    parts: Sequence[Part]
    random: Accuracies | None = None
    remark: str = ""
    measure: str = "Top-1 (%)"
    measured: str = ""

    def above_random(self, part: Part, place: Place) -> bool | None:
        """Whether a cell is clearly above the random encoder; None where it is not tested."""
        if self.random is None or place not in part.cells or not part.tested(place):
            return None
        return clearly_above(part.cells[place], self.random)

    def tests(self) -> list[bool | None]:
        """The above of all cells that are meant to be tested."""
        return [
            self.above_random(part, place)
            for part in self.parts
            for place in part.cells
            if part.tested(place)
        ]

    def correlation(self) -> Correlation:
        """Spearman's rank correlation with the paper, over the cells that both have."""
        common = [
            (part.cells[place].estimate().mean, part.paper[place])
            for part in self.parts
            for place in part.cells
            if part.ranked(place) and place in part.paper
        ]
        return spearman(*zip(*common, strict=True)) if common else spearman([], [])

    @property
    def several(self) -> bool:
        """Whether any cell has more than one seed."""
        return any(len(cell.values) > 1 for part in self.parts for cell in part.cells.values())


def trained(runs: pd.DataFrame, objective: str = "contrastive") -> pd.DataFrame:
    """The finished runs of an objective."""
    return runs[(runs["objective"] == objective) & runs["top1"].notna()]


def placed(runs: pd.DataFrame, *axes: Axis) -> pd.DataFrame:
    """The runs that have a label on all of `axes`."""
    for axis in axes:
        labels = read_labels(runs, axis)
        runs = runs.iloc[[place for place, label in enumerate(labels) if label is not None]]
    return runs


def read_labels(runs: pd.DataFrame, axis: Axis) -> list[Label | None]:
    """Each run's label. A key that the runs do not have reads as None."""
    return [axis.read(*values) for values in plain_values(runs, axis.keys)]


def cells(
    runs: pd.DataFrame, rows: Axis, columns: Axis, metric: str = "top1", factor: float = 1.0
) -> dict[Place, Accuracies]:
    """What is found at each row and column, by seed."""
    found = defaultdict(list)
    labels = zip(read_labels(runs, rows), read_labels(runs, columns), strict=True)
    for run, (row, column) in enumerate(labels):
        if row is not None and column is not None:
            found[row, column].append(run)
    # Taking rows of all columns is what would take time.
    needed = runs[list(dict.fromkeys([metric, "seed", "run_id", "test_images"]))]
    measured = {at: accuracies(needed.iloc[chosen], metric, factor) for at, chosen in found.items()}
    return {place: cell for place, cell in measured.items() if cell is not None}


def varied(
    runs: pd.DataFrame, artefact: str, axes: Sequence[Axis], free: Iterable[str]
) -> list[Setting]:
    """The settings in which runs with a place on `axes` take two values or more of what is free.

    A run that stands alone is no table; it may well be part of another one.
    """
    return settings(placed(runs, *axes), artefact, free, least=2)


@dataclass(frozen=True)
class Tuned:
    """A label's best values of the keys that were tuned, and what that rests on.

    candidates: how many sets of values were compared, on the seeds `chosen_on`; left_out: how many
    were not, for want of these seeds. reported: the seeds of the best that a table shows.
    """

    values: Mapping[str, Any]
    candidates: int
    left_out: int
    chosen_on: tuple[int, ...]
    reported: tuple[int, ...]


def tuned(
    runs: pd.DataFrame, axis: Axis, keys: Sequence[str]
) -> tuple[pd.DataFrame, dict[Label, Tuned]]:
    """Of each label's runs, those with the values of `keys` that are best on the validation split.

    Best in the mean over the seeds that all of them have. Only the runs with its other seeds are kept, since those took
    no part in the choice; where it has no others, those that did.
    """
    candidates: dict[Label, dict[tuple[Any, ...], list[int]]] = defaultdict(dict)
    values = plain_values(runs, keys)
    for run, (label, tried) in enumerate(zip(read_labels(runs, axis), values, strict=True)):
        if label is not None:
            candidates[label].setdefault(tried, []).append(run)
    kept: list[int] = []
    best = {}
    for label, by_values in candidates.items():
        scores = {
            tried: runs.iloc[places].groupby("seed")["validation_top1"].mean().to_dict()
            for tried, places in by_values.items()
        }
        winner, best[label] = _choose(scores, keys)
        kept += [run for run in by_values[winner] if runs["seed"].iloc[run] in best[label].reported]
    return runs.iloc[sorted(kept)], best


def _choose(
    scores: Mapping[tuple[Any, ...], Mapping[int, float]], keys: Sequence[str]
) -> tuple[tuple[Any, ...], Tuned]:
    """The best candidate by its scores by seed, and what is told of it."""
    seeds = _common_seeds(list(scores.values()))
    compared = {tried: found for tried, found in scores.items() if seeds <= found.keys()}

    def merit(tried: tuple[Any, ...]) -> tuple[bool, float, int]:
        score = sum(compared[tried][seed] for seed in seeds) / len(seeds)
        # Of equals, the one that was run on.
        return not math.isnan(score), score, len(compared[tried])

    winner = max(compared, key=merit)
    others = set(scores[winner]) - seeds
    return winner, Tuned(
        values=dict(zip(keys, winner, strict=True)),
        candidates=len(compared),
        left_out=len(scores) - len(compared),
        chosen_on=tuple(sorted(seeds)),
        reported=tuple(sorted(others or seeds)),
    )


def _common_seeds(scores: Sequence[Mapping[int, float]]) -> set[int]:
    """The seeds that all candidates have; where they share none, those of all that have the commonest seed."""
    counts = Counter(seed for by_seed in scores for seed in by_seed)
    commonest = max(counts, key=lambda seed: (counts[seed], -seed))
    having = [set(by_seed) for by_seed in scores if commonest in by_seed]
    return set.intersection(*having)


def report(
    comparison: Comparison, draw: Callable[[str], Figure], notes: Sequence[str] = ()
) -> Report:
    """Everything about one comparison. `draw` makes its picture above a caption."""
    artefact, setting = ARTEFACTS[comparison.artefact], comparison.setting
    text = caption(comparison)
    with style():
        figure = draw(text)
    return Report.of_setting(
        artefact,
        setting,
        caption=text,
        notes=[*NOTES, *notes],
        alt=f"{artefact.label}, {artefact.title}: {setting.label} and the paper",
        figure=figure,
        tables=[
            table
            for part in comparison.parts
            for table in (our_table(comparison, part), paper_table(part))
        ],
        data=data(comparison),
        summary=[
            agreement(comparison),
            *gaps(comparison),
            *references(comparison),
        ],
    )


NOTES = [
    f"{MARK}: not clearly above the random encoder. The difference of the means lies within its "
    "95% margin, by Welch’s t test over seeds; where a side has one seed, the binomial error of "
    "its accuracy on the test images takes the place of the scatter, which leaves out how much "
    "seeds differ. Not corrected for the number of cells.",
    f"{MISSING}: no finished run, or not published. Empty: there is nothing to run.",
    "Spearman’s ρ compares the ranks of the cells that both have. Its interval resamples the cells "
    "10,000 times.",
]


def bars(comparison: Comparison, part: Part, series: str = "columns") -> tuple[Bars, Bars]:
    """Ours and the paper's as grouped bars; `series` says whether rows or columns are the series.

    Reference line and marks are there where the part has cells that are tested.
    """

    def ours(place: Place) -> Bar | None:
        if part.void(*place):
            return None
        if place not in part.cells:
            return Bar(math.nan)
        estimate = part.cells[place].estimate()
        marked = comparison.above_random(part, place) is False
        return Bar(estimate.mean, estimate.half, marked)

    def theirs(place: Place) -> Bar | None:
        return Bar(part.paper[place]) if place in part.paper else None

    reference = None
    if comparison.random is not None and any(map(part.tested, part.cells)):
        mean = comparison.random.estimate().mean
        reference = (f"random encoder ({number(mean)})", mean)
    title = _titled(f"Ours: {comparison.setting.label}", part.name)
    return (
        _bars(part, title, series, part.row_labels, part.column_labels, ours, reference),
        _bars(part, _titled(PAPER, part.name), series, part.paper_rows, part.paper_columns, theirs),
    )


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
        value_title=part.measure[:1].upper() + part.measure[1:],
        group_title=groups.title,
        series_title=inner.title,
        groups=["\n".join(spell(label)) for label in (columns if across else rows)],
        series=[" ".join(spell(label)) for label in (rows if across else columns)],
        bars=by_row if across else [list(column) for column in zip(*by_row, strict=True)],
        reference=reference,
    )


def maps(comparison: Comparison, parts: Sequence[Part]) -> list[HeatMap]:
    """Heat maps: ours of each part, then the paper's; each of the two on one colour scale."""

    def ours(part: Part, place: Place) -> Cell:
        if place not in part.cells:
            return Cell(math.nan)
        estimate = part.cells[place].estimate()
        interval = f"±{estimate.half:.1f}"
        note = count(estimate.seeds, "seed") if math.isnan(estimate.half) else interval
        marked = comparison.above_random(part, place) is False
        return Cell(estimate.mean, note if comparison.several else "", marked)

    random = comparison.random
    reference = ("random encoder", random.estimate().mean) if random else None
    shown = [cell.estimate().mean for part in parts for cell in part.cells.values()]
    printed = [value for part in parts for value in part.paper.values()]
    result = []
    for part in parts:
        rows, columns = part.row_labels, part.column_labels
        values = [[ours(part, (row, column)) for column in columns] for row in rows]
        title = _titled("Ours", part.name)
        result.append(_map(part, title, rows, columns, values, reference, shown))
    for part in parts:
        rows, columns = part.paper_rows, part.paper_columns
        values = [[Cell(part.paper.get((row, c), math.nan)) for c in columns] for row in rows]
        result.append(
            _map(part, _titled("The paper", part.name), rows, columns, values, None, printed)
        )
    return result


def _map(
    part: Part,
    title: str,
    rows: Sequence[Label],
    columns: Sequence[Label],
    values: Sequence[Sequence[Cell]],
    reference: tuple[str, float] | None,
    beside: Sequence[float],
) -> HeatMap:
    return HeatMap(
        title=title,
        row_title=part.rows.title,
        column_title=part.columns.title,
        rows=[" ".join(spell(label)) for label in rows],
        columns=[" ".join(spell(label)) for label in columns],
        cells=values,
        reference=reference,
        beside=beside,
    )


def our_table(comparison: Comparison, part: Part) -> Table:
    def text(place: Place) -> str:
        if part.void(*place):
            return ""
        if place not in part.cells:
            return MISSING
        estimate = part.cells[place].estimate()
        return number(estimate.mean, estimate.half, comparison.above_random(part, place) is False)

    title = _titled(f"Ours: {comparison.setting.label}", part.name, part.measure)
    return _table(part, title, part.row_labels, part.column_labels, text)


def paper_table(part: Part) -> Table:
    def text(place: Place) -> str:
        return number(part.paper.get(place, math.nan))

    title = _titled(PAPER, part.name, part.measure)
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
        names = [f"{names[0]} / {part.columns.title}"]
    header = [*names, *(" ".join(spell(column)) for column in columns)]
    body = [[*spell(row), *(text((row, column)) for column in columns)] for row in rows]
    return Table(title, header, body)


def data(comparison: Comparison) -> pd.DataFrame:
    """The numbers at full precision: a row per cell, ours or the paper's, and the reference."""
    result = []
    for part in comparison.parts:
        places = dict.fromkeys(part.places) | dict.fromkeys(part.paper)
        for row, column in places:
            cell = part.cells.get((row, column))
            values = {
                "kind": "cell",
                "part": part.name,
                "row": " ".join(spell(row, "{}")),
                "column": " ".join(spell(column, "{}")),
            }
            paper = part.paper.get((row, column), math.nan)
            result.append(
                values | _numbers(cell, paper, comparison.above_random(part, (row, column)))
            )
    if comparison.random is not None:
        result.append({"kind": "random encoder", **_numbers(comparison.random)})
    return pd.DataFrame(result)


def _numbers(
    cell: Accuracies | None, paper: float = math.nan, above: bool | None = None
) -> dict[str, Any]:
    estimate = cell.estimate() if cell else None
    return {
        "mean": estimate.mean if estimate else math.nan,
        "half_interval": estimate.half if estimate else math.nan,
        "seeds": estimate.seeds if estimate else 0,
        "paper": paper,
        "above_random": above,
        "run_ids": " ".join(cell.run_ids) if cell else "",
    }


def caption(comparison: Comparison) -> str:
    """A line each for what was run and measured, for the random encoder, and for the agreement."""
    found = [cell for part in comparison.parts for cell in part.cells.values()]
    images = next((cell.images for cell in found if not math.isnan(cell.images)), math.nan)
    on = "" if math.isnan(images) else f" on {images:,.0f} test images"
    features = comparison.setting.config.get("evaluation.features", "h or z")
    seeds = seed_range(len(cell.values) for cell in found)
    measured = comparison.measured or f"of a linear classifier on the frozen {features}"
    text = f"{comparison.setting.description}, {seeds}. {comparison.measure}{on} {measured}."
    if comparison.several:
        text += " Intervals (±): 95%, t over seeds."
    if comparison.remark:
        text += f"\n{comparison.remark}"
    return "\n".join([text, *references(comparison), agreement(comparison)])


def references(comparison: Comparison) -> list[str]:
    """The random encoder in words, where cells are meant to be tested against it."""
    tests = comparison.tests()
    return [against_random(comparison.random, tests)] if tests else []


def against_random(random: Accuracies | None, tests: Sequence[bool | None]) -> str:
    """The random encoder, and how many of the cells' `tests` say that they are clearly above it."""
    if random is None:
        return "No random encoder was evaluated, so no cell is tested against it."
    estimate = random.estimate()
    text = f"Random encoder: {number(estimate.mean, estimate.half)}."
    if None in tests:
        return f"{text} No cell is tested against it: the number of test images is unknown."
    if False not in tests:
        return f"{text} Every cell is clearly above it (95% margin)."
    marked = f"{tests.count(False)} of {len(tests)} cells"
    return f"{text} {MARK}: not clearly above it (95% margin), {marked}."


def agreement(comparison: Comparison) -> str:
    """Spearman's ρ with the paper, in words."""
    printed = sum(
        part.ranked(place) and not math.isnan(value)
        for part in comparison.parts
        for place, value in part.paper.items()
    )
    found = comparison.correlation()
    if not found.pairs:
        return "No cell of the paper’s has its like here, so none is ranked against it."
    return rank_agreement(found, printed)


def rank_agreement(found: Correlation, printed: int) -> str:
    """A correlation with `printed` cells of the paper, in words."""
    among = f"{found.pairs} of {printed} cells"
    if math.isnan(found.rho):
        return f"Spearman’s ρ with the paper: not defined ({among})."
    interval = f"95% bootstrap interval {found.low:.2f} to {found.high:.2f}"
    if math.isnan(found.low):
        interval = "too few cells for an interval"
    return f"Spearman’s ρ with the paper: {found.rho:.2f} ({interval}; {among})."


def gaps(comparison: Comparison) -> list[str]:
    """Which cells are missing, a line a part."""
    lines = []
    for part in comparison.parts:
        missing = [part.locate(place) for place in part.missing()]
        text = f"{len(missing)} of {len(part.places)}"
        if missing:
            text += ": " + "; ".join(missing[:6]) + ("; ..." if len(missing) > 6 else "")
        lines.append(f"Missing cells{f' ({part.name})' if part.name else ''}: {text}.")
    return lines


def spell(label: Label, whole: str = "{:,}") -> tuple[str, ...]:
    """The parts of a label as text; `whole` formats whole numbers."""
    parts = label if isinstance(label, tuple) else (label,)
    return tuple(
        whole.format(part)
        if isinstance(part, int)
        else f"{part:g}"
        if isinstance(part, float)
        else str(part)
        for part in parts
    )


def _titled(*words: str) -> str:
    return ", ".join(word for word in words if word)
