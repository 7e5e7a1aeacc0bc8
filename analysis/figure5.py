"""Figure 5: top-1 for single (diagonal) and paired augmentations on one branch, beside the paper's.

A cell is marked where it is not clearly above the random encoder: where its mean exceeds the random
encoder's by no more than `statistics.margin`, the 95% margin of a difference (Welch's t over seeds;
the binomial error on the test split stands in for a side with one seed). The 49 tests are not
corrected for their number: of cells that are level with the random encoder, about one in forty goes
unmarked.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from analysis import paper
from analysis.artefacts import ARTEFACTS
from analysis.comparison import Comparison, Part, Place, listed
from analysis.drawing import Cell, HeatMap, describe_heat_maps, heat_maps, style
from analysis.presentation import against_random, alt, rank_agreement
from analysis.report import Report
from analysis.settings import (
    Setting,
    accuracies,
    count,
    matching,
    only_setting,
    random_encoder,
    seed_range,
    settings,
)
from analysis.statistics import (
    Accuracies,
    Correlation,
    Estimate,
    clearly_above,
    mean_interval,
    spearman,
)
from analysis.typesetting import MARK, MISSING, Table, number
from simclr_ablate.schema import OPERATION_NAMES

KEY = "fig5_augmentation_grid"
ROW_TITLE, COLUMN_TITLE = "1st transformation", "2nd transformation"
NAMES = {name: name.capitalize() for name in OPERATION_NAMES}

FREE = ("views.first", "views.second", "seed")
SIMCLR_FREE = ("views.policy", *FREE)

Pair = tuple[str, str]
PAIRS: list[Pair] = [(first, second) for first in OPERATION_NAMES for second in OPERATION_NAMES]


@dataclass(frozen=True)
class Grid:
    """The accuracies behind one heat map; a pair with no finished run is not in `cells`."""

    setting: Setting
    cells: dict[Pair, Accuracies]
    random: Accuracies | None
    simclr: Accuracies | None

    def estimate(self, pair: Pair) -> Estimate | None:
        return self.cells[pair].estimate() if pair in self.cells else None

    def average(self, first: str) -> Estimate | None:
        """The mean of a row's cells, None where one is missing.

        Its interval is over the seeds that all of the row's cells have.
        """
        cells = [self.cells[first, b] for b in OPERATION_NAMES if (first, b) in self.cells]
        if len(cells) < len(OPERATION_NAMES):
            return None
        mean = sum(cell.estimate().mean for cell in cells) / len(cells)
        common = sorted(set(cells[0].by_seed).intersection(*(cell.by_seed for cell in cells)))
        by_seed = [sum(cell.by_seed[seed] for cell in cells) / len(cells) for seed in common]
        half = mean_interval(by_seed).half if by_seed else math.nan
        return Estimate(mean, half, len(common))

    def above_random(self, pair: Pair) -> bool | None:
        """Whether the cell is clearly above the random encoder; None where it cannot be tested."""
        cell = self.cells.get(pair)
        return clearly_above(cell, self.random) if cell and self.random else None

    def not_above(self) -> list[Pair]:
        return [pair for pair in PAIRS if self.above_random(pair) is False]

    def averages(self) -> dict[str, Estimate | None]:
        """The last column, by the first operation."""
        return {first: self.average(first) for first in OPERATION_NAMES}

    def missing(self) -> list[Pair]:
        return [pair for pair in PAIRS if pair not in self.cells]

    @cached_property
    def correlation(self) -> Correlation:
        """Spearman's rank correlation with the paper's cells."""
        ours = [
            self.cells[pair].estimate().mean if pair in self.cells else math.nan for pair in PAIRS
        ]
        return spearman(ours, [published(*pair) for pair in PAIRS])


def reports(runs: pd.DataFrame) -> list[Report]:
    """One report for each setting that has a finished run of a pair."""
    return [report(grid) for grid in grids(runs)]


def grids(runs: pd.DataFrame) -> list[Grid]:
    """The grids of pairs among `runs` (see `analysis.load`), one per setting."""
    finished = runs[runs["top1"].notna()]
    trained = finished["objective"] == "contrastive"
    # A pair with an operation of the user's own has no place in the figure.
    named = finished[["views.first", "views.second"]].isin(OPERATION_NAMES).all(axis=1)
    pairs = finished[trained & (finished["views.policy"] == "pair") & named]
    simclr = finished[trained & (finished["views.policy"] == "simclr")]
    result = []
    for setting in settings(pairs, "figure5", FREE):
        by_pair = setting.runs.groupby(["views.first", "views.second"])
        found = {pair: accuracies(group) for pair, group in by_pair}
        cells = {pair: cell for pair, cell in found.items() if cell is not None}
        random = random_encoder(finished, setting)
        result.append(Grid(setting, cells, random, reference(simclr, setting)))
    return result


def reference(simclr: pd.DataFrame, setting: Setting) -> Accuracies | None:
    """SimCLR's own views on a setting's data, if they were run: without blur, where there are both."""
    found = matching(simclr[simclr["views.extra"].isna()], setting.config, SIMCLR_FREE)
    blurred = found["views.blur"].astype(bool)
    return accuracies(only_setting(found[~blurred] if (~blurred).any() else found))


def comparisons(runs: pd.DataFrame) -> list[Comparison]:
    """The grids as tables like other artefacts', without averages."""
    return [comparison(grid) for grid in grids(runs)]


def comparison(grid: Grid) -> Comparison:
    operations = {name: name for name in OPERATION_NAMES}
    rows = listed([ROW_TITLE], ["views.first"], operations)
    columns = listed([COLUMN_TITLE], ["views.second"], operations)
    printed: dict[Place, float] = {pair: published(*pair) for pair in PAIRS}
    part = Part("", rows, columns, dict(grid.cells.items()), printed)
    return Comparison("figure5", grid.setting, [part], grid.random)


def published(first: str, second: str) -> float:
    """The paper's number in one cell, or in a row's `average`."""
    column = NAMES.get(second, second.capitalize())
    return float(paper.table(KEY).at[NAMES[first], column])


def report(grid: Grid) -> Report:
    """Everything about one grid."""
    maps = [our_map(grid), paper_map()]
    compared = comparison(grid)
    with style():
        figure = heat_maps(maps, caption(grid))
    return Report.of_setting(
        ARTEFACTS["figure5"],
        grid.setting,
        caption=caption(grid),
        notes=notes(),
        alt=alt(compared, describe_heat_maps(maps, compared.measure)),
        figure=figure,
        tables=[our_table(grid), paper_table()],
        data=data(grid),
        summary=summary(grid),
        beside=grid.simclr.run_ids if grid.simclr else (),
    )


def our_map(grid: Grid) -> HeatMap:
    several = any(len(cell.values) > 1 for cell in grid.cells.values())
    marked = set(grid.not_above())

    def cell(estimate: Estimate | None, mark: bool = False) -> Cell:
        if estimate is None:
            return Cell(math.nan)
        interval = f"±{estimate.half:.1f}"
        note = count(estimate.seeds, "seed") if math.isnan(estimate.half) else interval
        return Cell(estimate.mean, note if several else "", mark)

    cells = [
        [*(cell(grid.estimate((a, b)), (a, b) in marked) for b in OPERATION_NAMES), cell(average)]
        for a, average in grid.averages().items()
    ]
    reference = ("random encoder", grid.random.estimate().mean) if grid.random else None
    return _map(f"Ours: {grid.setting.label}", cells, reference)


def paper_map() -> HeatMap:
    cells = [[Cell(value) for value in row] for row in paper.table(KEY).to_numpy()]
    return _map("The paper: ImageNet, ResNet-50", cells)


def _map(
    title: str, cells: list[list[Cell]], reference: tuple[str, float] | None = None
) -> HeatMap:
    names = list(NAMES.values())
    columns = [*names, "Average"]
    return HeatMap(title, ROW_TITLE, COLUMN_TITLE, names, columns, cells, 1, reference)


def our_table(grid: Grid) -> Table:
    marked = set(grid.not_above())

    def text(estimate: Estimate | None, mark: bool = False) -> str:
        return number(estimate.mean, estimate.half, mark) if estimate else MISSING

    rows = [
        [
            NAMES[a],
            *(text(grid.estimate((a, b)), (a, b) in marked) for b in OPERATION_NAMES),
            text(average),
        ]
        for a, average in grid.averages().items()
    ]
    return _table(f"Ours: {grid.setting.label}, top-1 (%)", rows)


def paper_table() -> Table:
    rows = [[name, *map(number, row)] for name, row in paper.table(KEY).iterrows()]
    return _table("The paper: ImageNet, ResNet-50, top-1 (%)", rows)


def _table(title: str, rows: list[list[str]]) -> Table:
    return Table(title, ["1st / 2nd", *NAMES.values(), "Average"], rows, apart=1)


def data(grid: Grid) -> pd.DataFrame:
    """The numbers behind the picture: a row per cell, per average, and for the reference runs."""
    rows = [
        _row("pair", *pair, grid.estimate(pair), grid.cells.get(pair), grid.above_random(pair))
        for pair in PAIRS
    ]
    rows += [_row("average", a, "average", mean) for a, mean in grid.averages().items()]
    for kind, runs in (("random encoder", grid.random), ("simclr", grid.simclr)):
        if runs is not None:
            rows.append(_row(kind, "", "", runs.estimate(), runs))
    return pd.DataFrame(rows)


def _row(
    kind: str,
    first: str,
    second: str,
    estimate: Estimate | None,
    runs: Accuracies | None = None,
    above: bool | None = None,
) -> dict[str, Any]:
    return {
        "kind": kind,
        "first": first,
        "second": second,
        "top1": estimate.mean if estimate else math.nan,
        "half_interval": estimate.half if estimate else math.nan,
        "seeds": estimate.seeds if estimate else 0,
        "paper": published(first, second) if first else math.nan,
        "above_random": above,
        "run_ids": " ".join(runs.run_ids) if runs else "",
    }


def caption(grid: Grid) -> str:
    """A line each for what was run and measured, for the reference runs, and for the agreement."""
    features = grid.setting.config["evaluation.features"]
    cells = list(grid.cells.values())
    seeds = seed_range(len(cell.values) for cell in cells)
    images = "" if math.isnan(cells[0].images) else f" on {cells[0].images:,.0f} test images"
    setting = (
        f"{grid.setting.description}, {seeds}. "
        f"Top-1 (%){images} of a linear classifier on the frozen {features}."
    )
    if any(len(cell.values) > 1 for cell in cells):
        setting += " ±: 95% t interval over seeds."
    return "\n".join([setting, references(grid), agreement(grid)])


def references(grid: Grid) -> str:
    """The random encoder, how many cells are not clearly above it, and SimCLR's own views."""
    sentences = against_random(grid.random, [grid.above_random(pair) for pair in grid.cells])
    if grid.simclr is not None:
        simclr = grid.simclr.estimate()
        sentences += f" SimCLR’s views on both branches: {number(simclr.mean, simclr.half)}."
    return sentences


def agreement(grid: Grid) -> str:
    return rank_agreement(grid.correlation, len(PAIRS))


def notes() -> list[str]:
    """How the numbers are made, for the page below the tables."""
    lines = [
        f"{MARK}: not clearly above the random encoder. The difference of the means lies within "
        "its 95% margin, by Welch’s t test over seeds; where a side has one seed, the binomial "
        "error of its accuracy on the test images takes the place of the scatter, which leaves out "
        "how much seeds differ. Not corrected for testing 49 cells.",
        f"{MISSING}: no finished run. An average is the mean of its row’s cells, and missing where "
        "one of them is.",
        "Spearman’s ρ compares the ranks of the cells, averages left out. Its interval resamples "
        "the cells 10,000 times.",
    ]
    for row, printed, mean in rounded_averages():
        lines.append(
            f"The paper prints {printed:.1f} as the average of {row}; the mean of its printed "
            f"cells is {mean:.3f}. Both are rounded to 0.1, which accounts for the difference."
        )
    return lines


def rounded_averages() -> list[tuple[str, float, float]]:
    """Rows of the paper whose average is not the mean of the printed cells to 0.1.

    Name, printed average, mean. Cells and averages are each within 0.05 of what was measured, so
    the two may be 0.1 apart.
    """
    table = paper.table(KEY)
    means = table[list(NAMES.values())].mean(axis=1)
    return [
        (str(name), printed, mean)
        for name, printed, mean in zip(table.index, table["Average"], means, strict=True)
        if number(mean) != number(printed)
    ]


def summary(grid: Grid) -> list[str]:
    """What is printed: agreement with the paper, gaps, the best cells, the reference."""
    means = {pair: cell.estimate().mean for pair, cell in grid.cells.items()}
    best = sorted(means, key=lambda pair: -means[pair])[:3]
    missing = grid.missing()
    gaps = f"{len(missing)} of {len(PAIRS)}"
    if missing:
        gaps += ": " + ", ".join(map(_spell, missing[:6])) + (", ..." if len(missing) > 6 else "")
    return [
        agreement(grid),
        f"Missing cells: {gaps}.",
        f"Best cells: {', '.join(f'{_spell(pair)} {means[pair]:.1f}' for pair in best)}.",
        references(grid),
    ]


def _spell(pair: Pair) -> str:
    return pair[0] if pair[0] == pair[1] else " + ".join(pair)
