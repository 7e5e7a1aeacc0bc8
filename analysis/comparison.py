"""Tables whose cells are runs with certain values of config keys, beside the paper's.

An artefact's module says which keys its rows and columns vary (`Axis`), and which numbers the paper has. This module
makes the cells over seeds, tests them against the random encoder and ranks them against the paper. `presentation.py`
shows them.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import pandas as pd

from .artefacts import Artefact
from .settings import Setting, accuracies, plain_values, settings
from .statistics import (
    Accuracies,
    Correlation,
    Estimate,
    clearly_above,
    mean_of_means,
    spearman,
)
from .typesetting import uncapitalized

Label = Hashable
"""The name of a row or a column, as in the paper's table: `256`, `Linear`, `("yes", 0.05)`."""
Place = tuple[Label, Label]
"""A cell's row and column."""
AVERAGE: Label = "Average"
"""The label of a last column with the mean of each row."""


@dataclass(frozen=True)
class Axis:
    """The rows or the columns of a table.

    titles: the title of a label, or of each of its parts if labels are tuples. keys: the keys that the axis varies.
    read: maps a run's values of `keys`, then of `given`, to its label, or to None if it has no place in the table.
    labels: those that are there even without runs. order: the sort key of labels. given: further keys that labels
    depend on, constant within a table.
    """

    titles: Sequence[str]
    keys: Sequence[str]
    read: Callable[..., Label | None]
    labels: Sequence[Label] = ()
    order: Callable[[Any], Any] = lambda label: label
    given: Sequence[str] = ()

    @property
    def title(self) -> str:
        return ", ".join(self.titles)

    def complete(self, labels: Iterable[Label]) -> list[Label]:
        """`labels` and those that are always there, sorted."""
        return sorted({*labels, *self.labels}, key=self.order)


def listed(titles: Sequence[str], keys: Sequence[str], labels: Mapping[Any, Label]) -> Axis:
    """An axis with known labels, in their order. labels: by the keys' values."""
    order = list(dict.fromkeys(labels.values()))

    def read(*values: Any) -> Label | None:
        return labels.get(values if len(values) > 1 else values[0])

    return Axis(titles, keys, read, order, order.index)


def constant(label: Label, among: Sequence[Label] = ()) -> Axis:
    """An axis with every run at `label`. among: all its labels, if other cells are added later."""
    labels = list(among or [label])
    return Axis([""], [], lambda: label, labels, labels.index)


@dataclass(frozen=True)
class Part:
    """One table of an artefact: the runs' cells and the paper's.

    name: tells parts apart; empty if there is only one. quantity: what the cells hold; empty if the columns say so.
    void: whether there is nothing to run at a place of ours. untested, unranked: rows or columns that are not compared
    with the random encoder, or not ranked against the paper's. averages: the paper's mean of each row; if given, a last
    column shows them and ours. averaged: the columns that averages are over; (): all. bold, paper_bold: the places that
    are set in bold, in our table and in the paper's.
    """

    name: str
    rows: Axis
    columns: Axis
    cells: Mapping[Place, Accuracies]
    paper: Mapping[Place, float]
    quantity: str = "top-1 (%)"
    void: Callable[[Label, Label], bool] = lambda row, column: False
    untested: Collection[Label] = ()
    unranked: Collection[Label] = ()
    averages: Mapping[Label, float] = field(default_factory=dict)
    averaged: Sequence[Label] = ()
    bold: Collection[Place] = ()
    paper_bold: Collection[Place] = ()

    @property
    def published(self) -> bool:
        """Whether the paper has a number for any cell."""
        return any(not math.isnan(value) for value in self.paper.values())

    @property
    def row_labels(self) -> list[Label]:
        return self.rows.complete(row for row, _ in self.cells)

    @property
    def column_labels(self) -> list[Label]:
        return self.columns.complete(column for _, column in self.cells)

    @property
    def places(self) -> list[Place]:
        """The places that are not void, row by row."""
        columns = self.column_labels
        return [(r, c) for r in self.row_labels for c in columns if not self.void(r, c)]

    @property
    def paper_rows(self) -> list[Label]:
        return list(dict.fromkeys(row for row, _ in self.paper))

    @property
    def paper_columns(self) -> list[Label]:
        return list(dict.fromkeys(column for _, column in self.paper))

    def estimate(self, place: Place) -> Estimate | None:
        """The cell's estimate, or in the column AVERAGE its row's; None if a cell is missing."""
        row, column = place
        if column != AVERAGE:
            return self.cells[place].estimate() if place in self.cells else None
        of_row = [self.cells.get((row, each)) for each in self.averaged or self.column_labels]
        return mean_of_means([cell for cell in of_row if cell]) if all(of_row) else None

    def printed(self, place: Place) -> float | None:
        """The paper's number, or in the column AVERAGE its mean of the row; None if it has no such cell."""
        row, column = place
        return self.averages.get(row) if column == AVERAGE else self.paper.get(place)

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
        """The same with the part's name, without constant labels, which only say what is measured."""
        words = [f"{title} {word}" for title, word in self._titled(place) if title]
        return ", ".join([*words, self.name] if self.name else words)

    def _titled(self, place: Place) -> list[tuple[str, str]]:
        """The parts of a place's labels, each after its title."""
        titles = map(uncapitalized, [*self.rows.titles, *self.columns.titles])
        words = [word for label in place for word in spell(label)]
        return list(zip(titles, words, strict=True))

    def only(self, column: Label) -> "Part":
        """The part with a single column, whose label becomes the quantity."""
        return replace(
            self,
            columns=constant(column),
            quantity=str(column),
            cells={place: cell for place, cell in self.cells.items() if place[1] == column},
            paper={place: value for place, value in self.paper.items() if place[1] == column},
        )


@dataclass(frozen=True)
class Comparison:
    """An artefact in one setting.

    random: the random encoder. remark: what else the caption says. quantity: what is measured. method: how it is
    measured, if not by a linear classifier on frozen features. tuning: the ids of the runs by which the cells'
    hyperparameters were chosen. references: other runs to compare cells with by eye, by name. printed_on: the title of
    the paper's numbers. theirs: what these numbers are called, if others take their place. behind: tables that are not
    shown, on which claims rest. elsewhere: the same cells as we measured them in other settings, by their names; only a
    comparison of one part has them.
    """

    artefact: Artefact
    setting: Setting
    parts: Sequence[Part]
    random: Accuracies | None = None
    remark: str = ""
    quantity: str = "Top-1 (%)"
    method: str = ""
    tuning: Sequence[str] = ()
    references: Mapping[str, Accuracies] = field(default_factory=dict)
    printed_on: str = "The paper: ImageNet, ResNet-50"
    theirs: str = "the paper"
    behind: Sequence[Part] = ()
    elsewhere: Mapping[str, Mapping[Place, float]] = field(default_factory=dict)

    def above_random(self, part: Part, place: Place) -> bool | None:
        """Whether a cell is clearly above the random encoder; None if it is not tested."""
        if self.random is None or place not in part.cells or not part.tested(place):
            return None
        return clearly_above(part.cells[place], self.random)

    def tests(self) -> list[bool | None]:
        """`above_random` of all cells that are meant to be tested."""
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
        return _spearman_of(common)

    def correlation_with(self, elsewhere: Mapping[Place, float]) -> Correlation:
        """Spearman's rank correlation with the same cells in another setting, over those that both have."""
        common = [
            (cell.estimate().mean, elsewhere[place])
            for place, cell in self.parts[0].cells.items()
            if place in elsewhere
        ]
        return _spearman_of(common)

    @property
    def published(self) -> bool:
        """Whether the paper has a number for any cell."""
        return any(part.published for part in self.parts)

    @property
    def several(self) -> bool:
        """Whether any cell has more than one seed."""
        return any(len(cell.values) > 1 for part in self.parts for cell in part.cells.values())


def _spearman_of(pairs: Sequence[tuple[float, float]]) -> Correlation:
    """Spearman's rank correlation of pairs, of which there may be none."""
    return spearman(*zip(*pairs, strict=True)) if pairs else spearman([], [])


def trained(runs: pd.DataFrame, objective: str = "contrastive") -> pd.DataFrame:
    """The finished runs of an objective."""
    return runs[(runs["objective"] == objective) & runs["top1"].notna()]


def placed(runs: pd.DataFrame, *axes: Axis) -> pd.DataFrame:
    """The runs that have a label on all of `axes`."""
    for axis in axes:
        labels = read_labels(runs, axis)
        runs = runs.iloc[[row for row, label in enumerate(labels) if label is not None]]
    return runs


def read_labels(runs: pd.DataFrame, axis: Axis) -> list[Label | None]:
    """The label of each run. A key that the runs do not have reads as None."""
    return [axis.read(*values) for values in plain_values(runs, [*axis.keys, *axis.given])]


def cells(
    runs: pd.DataFrame, rows: Axis, columns: Axis, metric: str = "top1", factor: float = 1.0
) -> dict[Place, Accuracies]:
    """`metric` times `factor` at each row and column, by seed."""
    members = defaultdict(list)
    labels = zip(read_labels(runs, rows), read_labels(runs, columns), strict=True)
    for run, (row, column) in enumerate(labels):
        if row is not None and column is not None:
            members[row, column].append(run)
    # Taking rows is slow with all columns.
    needed = runs[list(dict.fromkeys([metric, "seed", "run_id", "test_images"]))]
    measured = {at: accuracies(needed.iloc[runs], metric, factor) for at, runs in members.items()}
    return {place: cell for place, cell in measured.items() if cell is not None}


def free_keys(axes: Sequence[Axis], also: Sequence[str] = ()) -> tuple[str, ...]:
    """The keys in which the runs of a setting may differ: those of the axes, those of `also`, and the seed."""
    return (*(key for axis in axes for key in axis.keys), *also, "seed")


def varied(
    runs: pd.DataFrame,
    artefact: Artefact,
    axes: Sequence[Axis],
    also: Sequence[str] = (),
    least: int = 2,
) -> list[Setting]:
    """The settings in which the runs with a place on `axes` have at least `least` different values of the free keys.

    also: see `free_keys`. By default, a single run does not make a table, though it may be part of another one.
    """
    return settings(placed(runs, *axes), artefact.name, free_keys(axes, also), least)


def spell(label: Label, whole: str = "{:,}") -> tuple[str, ...]:
    """The parts of a label as text. whole: the format of integers."""
    parts = label if isinstance(label, tuple) else (label,)
    return tuple(
        whole.format(part)
        if isinstance(part, int)
        else f"{part:g}"
        if isinstance(part, float)
        else str(part)
        for part in parts
    )
