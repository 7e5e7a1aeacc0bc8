"""Tables whose cells are found by the values of config keys, each beside the paper's.

A module of an artefact says which keys its rows and columns vary (`Axis`) and which numbers the
paper has; from here come the cells over seeds, the test against the random encoder and the agreement
with the paper. `presentation.py` shows them.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import pandas as pd

from analysis.settings import Setting, accuracies, plain_values, settings
from analysis.statistics import Accuracies, Correlation, clearly_above, spearman
from analysis.typesetting import uncapitalized

Label = Hashable
"""Names a row or a column, as the paper's table does: `256`, `Linear`, `("yes", 0.05)`."""
Place = tuple[Label, Label]
"""A cell's row and column."""


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
        return ", ".join(f"{title} {word}".strip() for title, word in self._titled(place))

    def describe_place(self, place: Place) -> str:
        """The same with the part's name, and without constant labels: they say what is measured."""
        words = [f"{title} {word}" for title, word in self._titled(place) if title]
        return ", ".join([*words, self.name] if self.name else words)

    def _titled(self, place: Place) -> list[tuple[str, str]]:
        """The parts of a place's labels, each with its title."""
        titles = map(uncapitalized, [*self.rows.titles, *self.columns.titles])
        words = [word for label in place for word in spell(label)]
        return list(zip(titles, words, strict=True))

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
    if not top-1, and on what it is of if not of a linear classifier on frozen features. tuning: the
    ids of the runs that a choice of the cells' hyperparameters rests on.
    """

    artefact: str
    setting: Setting
    parts: Sequence[Part]
    random: Accuracies | None = None
    remark: str = ""
    measure: str = "Top-1 (%)"
    measured: str = ""
    tuning: Sequence[str] = ()

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

    @cached_property
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
