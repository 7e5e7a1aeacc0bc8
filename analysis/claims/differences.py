"""The differences that claims rest on, from the tables of one comparison.

All functions raise MissingCellsError if a cell is missing, or if the ends of a range are too near each other.
The choice of cells never depends on the accuracies in them. If the paper says "the best", there is a difference for
each one that could be the best; the claim says which of them counts.
"""

import math
from collections.abc import Iterable, Sequence
from fractions import Fraction
from itertools import combinations
from typing import Any

from ..artefacts import (
    appendixa,
    figure5,
    figure7,
    figure8,
    figureb5,
    figureb8,
    table1,
    table3,
    table4,
    table5,
    table7,
    table8,
    tableb2,
    tableb3,
)
from ..comparison import Label, Part, spell
from ..encoders import shape
from .effects import Differences, Measured, MissingCellsError, average, require

CROP_COLOR = (figure5.NAMES["crop"], figure5.NAMES["color"])
OPERATIONS = list(figure5.NAMES.values())
FREE_HEADS = (figure8.KINDS["linear"], figure8.KINDS["nonlinear"])
"""Heads whose output dimension can be chosen."""
OTHER_LOSSES = ("Margin", "NT-Logi.", "Margin (sh)", "NT-Logi.(sh)")
BATCH_SIZES_APART, LENGTHS_APART, STRENGTHS_APART = 16, 4, 8
DIMENSIONS_APART, WIDTHS_APART, DEPTHS_APART = 16, 4, 2
SUPERVISED_WIDTHS_APART = 2
"""The factor between the largest and the smallest value that a claim about a range needs; all scales' sweeps have it.

Two neighbouring values of the paper's range would say little about it, and hardly differ, which would favour a claim
that nothing does.
"""
SETS_NEEDED = 3
"""How many data sets a claim about most of them needs."""
STEP = 4
"""The factor of the last step of a range, on which it is judged whether going on still helps: the paper's from 8,192 to
32K images."""
LOW_TEMPERATURE, BEST_TEMPERATURE = 0.1, 0.5
"""Temperatures of App. B.9."""
FORGOTTEN = ("Rotation", "Orig. vs corrupted", "Orig. vs Sobel filtered")
"""Rows of Table 3 that the paper says g(h) loses."""


def crop_and_color(parts: Sequence[Part]) -> list[Measured]:
    """The lead of crop + color over each of the 20 other pairs."""
    pairs = _pairs(parts[0])
    best = pairs.pop(CROP_COLOR)
    return [best - other for other in pairs.values()]


def pair_over_singles(parts: Sequence[Part]) -> Differences:
    """All pairs minus each single operation, one group per operation.

    The paper's pair has half of the error to itself, which lets few seeds decide.
    """
    grid, *_ = parts
    pairs = _pairs(grid)
    best = pairs.pop(CROP_COLOR)
    require(grid, [(name, name) for name in OPERATIONS])
    singles = [average(grid, [(name, name)], f"{name.lower()} alone") for name in OPERATIONS]
    return [[best - single, [pair - single for pair in pairs.values()]] for single in singles]


def harder_task(parts: Sequence[Part]) -> Measured:
    """Contrastive accuracy: the mean over single operations minus that over pairs."""
    *_, task = parts
    require(task, [(a, b) for a in OPERATIONS for b in OPERATIONS])
    singles = average(task, [(name, name) for name in OPERATIONS], "single operations")
    pairs = [(a, b) for a in OPERATIONS for b in OPERATIONS if a != b]
    return singles - average(task, pairs, "pairs")


def _pairs(grid: Part) -> dict[tuple[str, str], Measured]:
    """The pairs of different operations, each the mean of its two orders."""
    require(grid, [(a, b) for a in OPERATIONS for b in OPERATIONS if a != b])
    return {
        (a, b): average(grid, [(a, b), (b, a)], f"{a} + {b}".lower())
        for a, b in combinations(OPERATIONS, 2)
    }


def stronger_color(training: str, parts: Sequence[Part]) -> Measured:
    strengths = _strengths(parts[0], training)
    ends = _ends(strengths, f"{training} at two strengths", STRENGTHS_APART)
    return _strengthening(parts[0], training, *ends)


def stronger_color_for_simclr_more(parts: Sequence[Part]) -> Measured:
    trainings = (table1.SIMCLR, table1.SUPERVISED)
    common = set.intersection(*(set(_strengths(parts[0], training)) for training in trainings))
    ends = _ends(common, f"{' and '.join(trainings)} at two strengths", STRENGTHS_APART)
    simclr, supervised = (_strengthening(parts[0], training, *ends) for training in trainings)
    return simclr - supervised


def color_over_crop(parts: Sequence[Part]) -> list[Measured]:
    """SimCLR with each strength of colour distortion minus crops alone, since any one strength may be the best."""
    (table,) = parts
    strengths = sorted(_strengths(table, table1.SIMCLR))
    _ends(strengths, "SimCLR at two strengths", STRENGTHS_APART)
    crop = average(table, [(table1.SIMCLR, table1.CROP)], "crops alone")
    return [
        average(table, [(table1.SIMCLR, str(strength))], f"strength {strength}") - crop
        for strength in strengths
    ]


def autoaugment_over_color(parts: Sequence[Part]) -> Measured:
    (table,) = parts
    strengths = _strengths(table, table1.SIMCLR)
    _, strongest = _ends(strengths, "SimCLR at two strengths", STRENGTHS_APART)
    auto = average(table, [(table1.SIMCLR, table1.AUTOAUGMENT)], table1.AUTOAUGMENT)
    return auto - average(table, [(table1.SIMCLR, str(strongest))], f"strength {strongest}")


def _strengths(table: Part, training: str) -> list[Fraction]:
    """The strengths above 0 that were run, without blur, which would change more than colour."""
    columns = [str(column) for row, column in table.cells if row == training]
    others = (*table1.OURS, table1.AUTOAUGMENT, table1.BLUR)
    return [Fraction(column) for column in columns if not column.endswith(others)]


def _strengthening(table: Part, training: str, weakest: Label, strongest: Label) -> Measured:
    strong, weak = (
        average(table, [(training, str(strength))], f"{training} {strength}")
        for strength in (strongest, weakest)
    )
    return strong - weak


def wider(parts: Sequence[Part]) -> Measured:
    return _growth(parts[0], [figure7.SHORT], "depth")[0]


def deeper(parts: Sequence[Part]) -> Measured:
    return _growth(parts[0], [figure7.SHORT], "width")[0]


def wider_for_simclr_more(parts: Sequence[Part]) -> Measured:
    simclr, supervised = _growth(parts[0], [figure7.LONG, figure7.SUPERVISED], "depth")
    return simclr - supervised


def _growth(table: Part, trainings: Sequence[str], same: str) -> list[Measured]:
    """For each training, the largest minus the smallest encoder of a depth or width, averaged over depths or widths.

    same: "depth" or "width".
    """
    families = _families(table, trainings, same)
    largest, smallest = ("widest", "narrowest") if same == "depth" else ("deepest", "shallowest")
    return [
        average(table, [(family[-1], training) for family in families], f"{training}, {largest}")
        - average(table, [(family[0], training) for family in families], smallest)
        for training in trainings
    ]


def _families(table: Part, trainings: Sequence[str], same: str) -> list[list[str]]:
    """The encoders that have all the trainings, grouped by depth or width, each group sorted by size."""
    whole = [
        str(row)
        for row, _ in table.cells
        if all((row, training) in table.cells for training in trainings)
    ]
    several = [family for family in _grouped(whole, same) if len(family) > 1]
    apart = WIDTHS_APART if same == "depth" else DEPTHS_APART
    if not any(_size(family[-1], same) >= apart * _size(family[0], same) for family in several):
        encoders = f"two encoders of the same {same}, one at least {apart} times the other"
        raise MissingCellsError([f"{' and '.join(trainings)} of {encoders}"])
    return several


def _grouped(names: Iterable[str], same: str) -> list[list[str]]:
    """Encoders by depth or width, each group sorted by size."""
    families: dict[int, list[str]] = {}
    for name in sorted(set(names), key=shape):
        depth, width = shape(name)
        families.setdefault(depth if same == "depth" else width, []).append(name)
    return list(families.values())


def _size(name: str, same: str) -> int:
    """The width of an encoder if the depth is the same, or its depth if the width is."""
    depth, width = shape(name)
    return width if same == "depth" else depth


def nonlinear_over_linear(parts: Sequence[Part]) -> Measured:
    linear, nonlinear = FREE_HEADS
    common = _columns(parts[0], linear, nonlinear)
    return _over_columns(parts[0], nonlinear, common) - _over_columns(parts[0], linear, common)


def head_over_none(kind: str, parts: Sequence[Part]) -> Measured:
    """A head as wide as h minus none: z has as many dimensions with either.

    Without a head there is only that one cell. Against the mean of several, which scatters less, skewed scatter of its
    seeds would decide more often than it may.
    """
    table, none = parts[0], figure8.KINDS["none"]
    (width,) = _columns(table, none)
    words = f"{kind} at output dimension {' '.join(spell(width))}"
    return average(table, [(kind, width)], words) - average(table, [(none, width)], none)


def h_over_z(parts: Sequence[Part]) -> list[Measured]:
    """h minus z at each output dimension, since the paper claims it regardless of the dimension."""
    (_, table), h, z = parts, "h", "z"
    columns = _columns(table, h, z)
    _ends(columns, "h and z of two output dimensions", DIMENSIONS_APART)
    return [
        average(table, [(h, column)], f"h at output dimension {' '.join(spell(column))}")
        - average(table, [(z, column)], z)
        for column in columns
    ]


def dimension(parts: Sequence[Part]) -> list[Measured]:
    """The distance of each output dimension from the mean over dimensions, in either direction."""
    (table, _), apart = parts, []
    for head in FREE_HEADS:
        columns = _columns(table, head)
        _ends(columns, f"{head} head with two output dimensions", DIMENSIONS_APART)
        mean = average(table, [(head, column) for column in columns], "the mean over dimensions")
        for column in columns:
            one = average(table, [(head, column)], f"{head} of {' '.join(spell(column))}")
            apart += [one - mean, mean - one]
    return apart


def _columns(table: Part, *rows: Label) -> list[Label]:
    """The columns that all of `rows` have."""
    common = [c for c in table.column_labels if all((row, c) in table.cells for row in rows)]
    if not common:
        words = " and ".join(" ".join(spell(row)) for row in rows)
        raise MissingCellsError([f"{words} at one {table.columns.title.lower()}"])
    return common


def _over_columns(table: Part, row: Label, columns: Sequence[Label]) -> Measured:
    return average(table, [(row, column) for column in columns], str(row))


def h_remembers(parts: Sequence[Part]) -> list[Measured]:
    (table,) = parts
    require(table, [(row, column) for row in FORGOTTEN for column in (table3.H, table3.Z)])
    return [
        average(table, [(row, table3.H)], f"{row}, {table3.H}")
        - average(table, [(row, table3.Z)], table3.Z)
        for row in FORGOTTEN
    ]


def nt_xent_over_others(parts: Sequence[Part]) -> list[Measured]:
    *others, best = _losses(parts[0], [*OTHER_LOSSES, "NT-Xent"])
    return [best - other for other in others]


def semi_hard(parts: Sequence[Part]) -> list[Measured]:
    margin, logistic, margin_semi_hard, logistic_semi_hard = _losses(parts[0], OTHER_LOSSES)
    return [margin_semi_hard - margin, logistic_semi_hard - logistic]


def _losses(table: Part, names: Sequence[str]) -> list[Measured]:
    (row,) = table4.TOP1.labels
    require(table, [(row, name) for name in names])
    return [average(table, [(row, name)], name) for name in names]


def norm_over_none(parts: Sequence[Part]) -> list[list[Measured]]:
    """Top-1 at each temperature with norm minus that without, one group for each temperature without norm."""
    normalised, others = _norms(parts[0])
    top1 = {row: _measured(parts[0], row, table5.TOP1) for row in (*normalised, *others)}
    return [[top1[row] - top1[other] for row in normalised] for other in others]


def accuracy_misleads(parts: Sequence[Part]) -> list[list[Measured]]:
    """The groups of `norm_over_none`, and a group of contrastive accuracies for each temperature with norm."""
    (table,) = parts
    normalised, others = _norms(table)
    task = {row: _measured(table, row, table5.CONTRASTIVE) for row in (*normalised, *others)}
    higher = [[task[other] - task[row] for other in others] for row in normalised]
    return [*norm_over_none(parts), *higher]


def _norms(table: Part) -> tuple[list[Any], list[Any]]:
    """The rows with and without l2 norm, as many of either, so that neither side has more tries at being the best.

    The side that has more temperatures gives its middle ones, the lower of two that are equally so.
    """
    rows: list[Any] = sorted({row for row, _ in table.cells})
    normalised, others = ([row for row in rows if row[0] == norm] for norm in ("yes", "no"))
    for side, word in ((normalised, "with"), (others, "without")):
        if len(side) < 2:
            raise MissingCellsError([f"two temperatures {word} l2 norm"])
    fewest = min(len(normalised), len(others))
    return _middle(normalised, fewest), _middle(others, fewest)


def _middle(ordered: Sequence[Any], number: int) -> list[Any]:
    begin = (len(ordered) - number) // 2
    return list(ordered[begin : begin + number])


def _measured(table: Part, row: Any, metric: str) -> Measured:
    norm, temperature = row
    kind = "with" if norm == "yes" else "without"
    return average(
        table, [(row, metric)], f"{metric.rpartition(' ')[0]} {kind} norm at {temperature:g}"
    )


def larger_batch(parts: Sequence[Part]) -> Measured:
    """The largest batch size minus the smallest at the fewest epochs, which are few only if others are many."""
    few, _ = _lengths(parts[0])
    return _enlarging(parts[0], few, _sizes(parts[0], few))


def shrinking_gap(parts: Sequence[Part]) -> list[Measured]:
    """The lead of large batches at few epochs minus the lead of either side at many epochs.

    Both directions count, since a lead that turns into an equal lag is not a smaller gap.
    """
    few, many = _lengths(parts[0])
    small, large = _sizes(parts[0], few, many)
    lead = _enlarging(parts[0], few, (small, large))
    return [lead - _enlarging(parts[0], many, gap) for gap in ((small, large), (large, small))]


def longer(parts: Sequence[Part]) -> Measured:
    (table,) = parts
    return _lengthening(table, *_lengths(table))


def _lengthening(table: Part, few: Label, many: Label) -> Measured:
    """The second of two lengths of training minus the first, averaged over the batch sizes that have both."""
    sizes = [row for row in table.row_labels if {(row, few), (row, many)} <= set(table.cells)]
    if not sizes:
        raise MissingCellsError([f"one batch size at {few} and at {many} epochs"])
    short, long = (
        average(table, [(size, length) for size in sizes], f"{length:,} epochs")
        for length in (few, many)
    )
    return long - short


def square_root(parts: Sequence[Part]) -> Measured:
    """Square root minus linear at the smallest batch size and the fewest epochs that both rules have."""
    linear, sqrt = parts
    common = set(linear.cells) & set(sqrt.cells)
    few, _ = _ends([n for _, n in common], "two lengths with both rules", LENGTHS_APART)
    sizes = [size for size, epochs in common if epochs == few]
    small, _ = _ends(sizes, "two batch sizes with both rules", BATCH_SIZES_APART)
    words = f"batch size {small:,}, {few:,} epochs, square root"
    return average(sqrt, [(small, few)], words) - average(linear, [(small, few)], "linear")


def _lengths(table: Part) -> tuple[Any, Any]:
    return _ends([epochs for _, epochs in table.cells], "two lengths of training", LENGTHS_APART)


def _sizes(table: Part, *lengths: Label) -> tuple[Any, Any]:
    """The smallest and the largest batch size that have these lengths."""
    rows = [row for row in table.row_labels if all((row, n) in table.cells for n in lengths)]
    epochs = " and ".join(f"{length:,}" for length in lengths)
    return _ends(rows, f"two batch sizes at {epochs} epochs", BATCH_SIZES_APART)


def _enlarging(table: Part, length: int, sizes: tuple[int, int]) -> Measured:
    """The second of two batch sizes minus the first."""
    first, second = sizes
    words = f"batch size {second:,} at {length:,} epochs"
    return average(table, [(second, length)], words) - average(
        table, [(first, length)], f"{first:,}"
    )


def larger_still(parts: Sequence[Part]) -> Measured:
    """The largest batch size minus one of at most a quarter, averaged over the lengths that both have."""
    (table,) = parts
    _ends([size for size, _ in table.cells], "two batch sizes", BATCH_SIZES_APART)
    middle, large = _last_step([size for size, _ in table.cells], "two batch sizes")
    common = [n for n in table.column_labels if {(middle, n), (large, n)} <= set(table.cells)]
    if not common:
        raise MissingCellsError([f"batch sizes {middle:,} and {large:,} at one length"])
    return average(table, [(large, n) for n in common], f"batch size {large:,}") - average(
        table, [(middle, n) for n in common], f"{middle:,}"
    )


def longer_still(parts: Sequence[Part]) -> Measured:
    """The most epochs minus at most a quarter of them, averaged over the batch sizes that have both."""
    (table,) = parts
    middle, most = _last_step([epochs for _, epochs in table.cells], "two lengths of training")
    return _lengthening(table, middle, most)


def longer_supervised(parts: Sequence[Part]) -> list[Measured]:
    """For each encoder, the longest supervised training minus the shortest, over the augmentations that both have."""
    (table,) = parts
    several = {model: own for model, own in _supervised(table).items() if len(own) > 1}
    if not several:
        raise MissingCellsError(["one encoder at two lengths of training"])
    differences = []
    for model, own in several.items():
        few, many = _ends(own, f"{model} at two lengths of training", LENGTHS_APART)
        columns = _columns(table, (model, few), (model, many))
        short, long = (
            average(table, [((model, epochs), column) for column in columns], words)
            for epochs, words in ((few, f"{few:,} epochs"), (many, f"{model}, {many:,} epochs"))
        )
        differences.append(long - short)
    return differences


def longer_if_strong(parts: Sequence[Part]) -> Measured:
    """With all augmentations, the longest minus the shortest supervised training of the narrowest encoder."""
    (table,) = parts
    *_, strong = tableb3.COLUMNS.labels
    lengths = _supervised(table)
    model = min(lengths, key=_width_first)
    few, many = _ends(
        [epochs for epochs in lengths[model] if ((model, epochs), strong) in table.cells],
        f"{model} {strong} at two lengths of training",
        LENGTHS_APART,
    )
    long = average(table, [((model, many), strong)], f"{model} {strong}, {many:,} epochs")
    return long - average(table, [((model, few), strong)], f"{few:,} epochs")


def strong_if_wide(parts: Sequence[Part]) -> Measured:
    """All augmentations minus crops alone, averaged over the lengths that the widest encoder has with both."""
    (table,) = parts
    crop, *_, strong = tableb3.COLUMNS.labels
    lengths = _supervised(table)
    needed = "supervised encoders of two widths"
    _ends([shape(model)[1] for model in lengths], needed, SUPERVISED_WIDTHS_APART)
    model = max(lengths, key=_width_first)
    rows = [(model, epochs) for epochs in lengths[model]]
    both = [row for row in rows if {(row, crop), (row, strong)} <= set(table.cells)]
    if not both:
        raise MissingCellsError([f"{model} {crop} and {strong} at one length of training"])
    return average(table, [(row, strong) for row in both], f"{model} {strong}") - average(
        table, [(row, crop) for row in both], str(crop)
    )


def _supervised(table: Part) -> dict[str, list[int]]:
    """The lengths of training of each encoder of Table B.3."""
    rows: list[Any] = table.row_labels
    return {model: [n for name, n in rows if name == model] for model, _ in rows}


def _width_first(name: str) -> tuple[int, int]:
    depth, width = shape(name)
    return width, depth


def flip(parts: Sequence[Part]) -> Measured:
    (table,) = parts
    return average(table, [(appendixa.WITH, appendixa.TOP1)], "with the flip") - average(
        table, [(appendixa.WITHOUT, appendixa.TOP1)], "without"
    )


def broader(parts: Sequence[Part]) -> Measured:
    """Top-1 of linear evaluation with the added augmentations minus that without, averaged over encoders."""
    linear = [part for part in parts if part.name == tableb2.LINEAR]
    if not linear:
        raise MissingCellsError(["linear evaluation with and without the added augmentations"])
    (table,) = linear
    (column,) = table.columns.labels
    rows: list[Any] = list(dict.fromkeys(row for row, _ in table.cells))
    encoders = [e for e in dict.fromkeys(e for e, _ in rows) if (e, tableb2.BROADER) in rows]
    with_, without = (
        average(table, [((encoder, views), column) for encoder in encoders], views)
        for views in (tableb2.BROADER, tableb2.DEFAULT)
    )
    return with_ - without


def over_the_baseline(parts: Sequence[Part]) -> list[Measured]:
    """With each share of labels, every encoder minus the same from random weights, at each of its learning rates."""
    (table,) = parts
    rows: list[Any] = list(dict.fromkeys(row for row, _ in table.cells))
    encoders = [encoder for method, encoder in rows if method == table7.SIMCLR]
    baselines = [row for row in rows if table7.is_baseline(row[0]) and row[1] in encoders]
    if not baselines:
        raise MissingCellsError([f"the {table7.BASELINE.lower()} of one encoder"])
    return [
        average(table, [((table7.SIMCLR, encoder), share)], f"SimCLR, {encoder}, {share} of labels")
        - average(table, [((method, encoder), share)], method)
        for share in table7.SHARES.values()
        for method, encoder in baselines
    ]


def alike_in_order(parts: Sequence[Part]) -> list[Measured]:
    """With each share of labels, the lead of whichever of two rows is better by linear evaluation, at each seed.

    It is averaged over all pairs of rows; 0 if linear evaluation says nothing about training on labels.
    """
    (table,) = parts
    shares = [c for c in table.column_labels if c != figureb5.LINEAR and figureb5.points(table, c)]
    leads = []
    for share in shares or list(table7.SHARES.values()):
        rows = figureb5.points(table, share)
        if len(rows) < figureb5.LEAST:
            needed = f"{figureb5.LEAST} of {table.rows.title.lower()}, by linear evaluation and on {share} of labels"
            raise MissingCellsError([needed])
        linear, few = (
            [average(table, [(row, column)], "") for row in rows]
            for column in (figureb5.LINEAR, share)
        )
        seeds = set.intersection(*(set(each.by_seed) for each in (*linear, *few)))
        by_seed = {
            seed: math.fsum(
                math.copysign(1.0, linear[i].by_seed[seed] - linear[j].by_seed[seed])
                * (few[i].by_seed[seed] - few[j].by_seed[seed])
                for i, j in combinations(range(len(rows)), 2)
                if linear[i].by_seed[seed] != linear[j].by_seed[seed]
            )
            / math.comb(len(rows), 2)
            for seed in sorted(seeds)
        }
        run_ids = frozenset().union(*(each.run_ids for each in (*linear, *few)))
        words = f"lead on {share} of labels of the better by linear evaluation"
        leads.append(Measured(words, by_seed, run_ids))
    return leads


def supervised_over_simclr(parts: Sequence[Part]) -> list[Measured]:
    """Supervised training minus SimCLR, fine-tuned on each data set that has both."""
    tuned = [part for part in parts if part.name == table8.FINETUNED]
    methods = (table8.SUPERVISED, table8.SIMCLR)
    both = [
        (part, column)
        for part in tuned
        for column in part.column_labels
        if all((method, column) in part.cells for method in methods)
    ]
    if len(both) < SETS_NEEDED:
        needed = f"{' and '.join(methods)}, fine-tuned on {SETS_NEEDED} data sets"
        raise MissingCellsError([needed])
    return [
        average(part, [(table8.SUPERVISED, column)], f"{table8.SUPERVISED} on {column}")
        - average(part, [(table8.SIMCLR, column)], table8.SIMCLR)
        for part, column in both
    ]


def effective_rank(parts: Sequence[Part]) -> Measured:
    (table,) = parts
    return average(table, list(table.cells), "effective rank, percent of the outputs")


def fewer_labels_if_wider(parts: Sequence[Part]) -> Measured:
    """The gain from the narrowest to the widest encoder of a depth with few labels, minus that with many."""
    (table,) = parts
    rows: list[Any] = [row for row, _ in table.cells]
    names = [encoder for method, encoder in rows if method == table7.SIMCLR]
    few, many = table7.SHARES.values()
    families = _by_depth(names)
    gains = []
    for share in (few, many):
        widest, narrowest = (
            average(table, [((table7.SIMCLR, family[at]), share) for family in families], words)
            for at, words in ((-1, f"widest, {share} of labels"), (0, "narrowest"))
        )
        gains.append(widest - narrowest)
    return gains[0] - gains[1]


def _by_depth(names: Iterable[str]) -> list[list[str]]:
    """Encoders of two widths or more, WIDTHS_APART or more apart, by depth, each group sorted by width."""
    apart = [
        family
        for family in _grouped(names, "depth")
        if _size(family[-1], "depth") >= WIDTHS_APART * _size(family[0], "depth")
    ]
    if not apart:
        raise MissingCellsError(
            [f"two encoders of the same depth, one at least {WIDTHS_APART} times as wide"]
        )
    return apart


def best_temperature(parts: Sequence[Part]) -> list[Measured]:
    """The best temperature minus each lower and higher one, after long training, at every batch size."""
    means = _means(parts)
    if figureb8.LONG not in means:
        raise MissingCellsError([f"training for {figureb8.LONG}"])
    table = means[figureb8.LONG]
    _ends(table.row_labels, f"two batch sizes at {figureb8.LONG}", BATCH_SIZES_APART)
    temperatures: list[Any] = list(table.column_labels)
    if not min(temperatures) < BEST_TEMPERATURE < max(temperatures):
        raise MissingCellsError([f"temperatures below and above {BEST_TEMPERATURE:g}"])
    return [
        average(
            table,
            [(size, BEST_TEMPERATURE)],
            f"batch size {' '.join(spell(size))}, temperature {BEST_TEMPERATURE:g}",
        )
        - average(table, [(size, other)], f"{other:g}")
        for size in table.row_labels
        for other in temperatures
        if other != BEST_TEMPERATURE
    ]


def low_temperature_gains(parts: Sequence[Part]) -> list[Measured]:
    """The largest batch size minus the smallest at the low temperature, for short and for long training if run."""
    gains = []
    for name, table in _means(parts).items():
        rows = [row for row in table.row_labels if (row, LOW_TEMPERATURE) in table.cells]
        needed = f"two batch sizes with temperature {LOW_TEMPERATURE:g} at {name}"
        small, large = _ends(rows, needed, BATCH_SIZES_APART)
        words = f"{name}, temperature {LOW_TEMPERATURE:g}, batch size {large:,}"
        gains.append(
            average(table, [(large, LOW_TEMPERATURE)], words)
            - average(table, [(small, LOW_TEMPERATURE)], f"{small:,}")
        )
    return gains


def _means(parts: Sequence[Part]) -> dict[str, Part]:
    """The tables of means of Figure B.8, by panel."""
    return {name: tables[0] for name, tables in figureb8.panels(parts).items()}


def _last_step(values: Iterable[Any], needed: str) -> tuple[Any, Any]:
    """The greatest value, after the next that is at most a `STEP`th of it. Raises MissingCellsError."""
    different = sorted(set(values))
    below = [value for value in different if STEP * value <= different[-1]]
    if not below:
        raise MissingCellsError([f"{needed}, at least {STEP} times apart"])
    return below[-1], different[-1]


def _ends(values: Iterable[Any], needed: str, apart: int) -> tuple[Any, Any]:
    """The least and the greatest of two or more values.

    Raises MissingCellsError, which says what is `needed`, unless the greatest is at least `apart` times the least.
    """
    different = sorted(set(values))
    if len(different) < 2 or different[-1] < apart * different[0]:
        raise MissingCellsError([f"{needed}, at least {apart} times apart"])
    return different[0], different[-1]
