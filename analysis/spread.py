"""Cells that average runs over some keys, such as the learning rate, with their spread and the best of them."""

import math
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from .bars import Bars
from .comparison import Axis, Comparison, Part, Place, read_labels
from .presentation import bars
from .settings import Values, accuracies, plain_values
from .statistics import Accuracies

TOP1, CHOICE = "top1", "validation_top1"


@dataclass(frozen=True)
class Spread:
    """Top-1 of a cell's runs, which differ in the values of some keys.

    mean: over the values, by seed. deviation: the standard deviation over the values, by seed, with n - 1 degrees of
    freedom; None for a single value. best: the value that is best on the validation split; None if that is unknown.
    """

    mean: Accuracies
    deviation: Accuracies | None
    best: Accuracies | None


def spreads(
    runs: pd.DataFrame, rows: Axis, columns: Axis, keys: Sequence[str]
) -> dict[Place, Spread]:
    """The cells, over all values of `keys` that `runs` have.

    A cell that lacks a value is left out, since a mean over fewer says something else; so is a seed that lacks one.
    """
    members: dict[Place, dict[Values, list[int]]] = defaultdict(lambda: defaultdict(list))
    every = plain_values(runs, keys)
    labels = zip(read_labels(runs, rows), read_labels(runs, columns), strict=True)
    for run, (row, column) in enumerate(labels):
        if row is not None and column is not None:
            members[row, column][every[run]].append(run)
    # Taking rows is slow with all columns.
    needed = runs[[TOP1, CHOICE, "seed", "run_id", "test_images"]]
    whole = {place: each for place, each in members.items() if each.keys() == set(every)}
    found = {
        place: spread([needed.iloc[chosen] for chosen in by_value.values()])
        for place, by_value in whole.items()
    }
    return {place: each for place, each in found.items() if each is not None}


def spread(groups: Sequence[pd.DataFrame]) -> Spread | None:
    """The spread over groups of runs, one for each value; None if they have no seed in common."""
    measured = [accuracies(group, TOP1) for group in groups]
    samples = [sample for sample in measured if sample is not None]
    seeds = set.intersection(*(set(sample.by_seed) for sample in samples)) if samples else set()
    if len(samples) < len(groups) or not seeds:
        return None
    by_seed = {seed: [sample.by_seed[seed] for sample in samples] for seed in sorted(seeds)}
    run_ids = tuple(run_id for sample in samples for run_id in sample.run_ids)
    images = samples[0].images
    mean = {seed: math.fsum(values) / len(values) for seed, values in by_seed.items()}
    deviation = None
    if len(samples) > 1:
        within = {seed: statistics.stdev(values) for seed, values in by_seed.items()}
        deviation = Accuracies(within, math.nan, run_ids)
    return Spread(Accuracies(mean, images, run_ids), deviation, best(groups, seeds))


def best(groups: Sequence[pd.DataFrame], seeds: set[int]) -> Accuracies | None:
    """The group that is best on the validation split over these seeds; None if one has no validation accuracy."""
    within = [group[group["seed"].isin(seeds)] for group in groups]
    scores = [accuracies(group, CHOICE) for group in within]
    known = [score.estimate().mean for score in scores if score is not None]
    if len(known) < len(groups):
        return None
    return accuracies(within[known.index(max(known))], TOP1)


def spread_parts(
    found: Mapping[Place, Spread], rows: Axis, columns: Axis, over: Sequence[str], name: str = ""
) -> list[Part]:
    """Three tables of these cells: the mean, the standard deviation, and the best.

    over: what they are over, in words: `["learning rate"]`. name: tells these tables from others, if there are any.
    Only the means are drawn, so only they count as the highest.
    """
    within = f"{name}, " if name else ""
    over_all, of_all = " and ".join(f"{word}s" for word in over), " and ".join(over)
    means = {place: each.mean for place, each in found.items()}
    deviations = {place: each.deviation for place, each in found.items() if each.deviation}
    bests = {place: each.best for place, each in found.items() if each.best}
    every = [label for label, _ in found]
    deviation = Part(
        f"{within}spread over {over_all}",
        rows,
        columns,
        deviations,
        {},
        "standard deviation (points)",
        untested=every,
        unranked=every,
    )
    return [
        Part(f"{within}mean over {over_all}", rows, columns, means, {}),
        deviation,
        Part(f"{within}best {of_all}", rows, columns, bests, {}, unranked=every),
    ]


def spread_bars(comparison: Comparison, parts: Sequence[Part], name: str = "") -> Bars:
    """The means as bars, with the standard deviation as error bars. parts: `spread_parts`. name: the panel's."""
    mean, deviation, _ = parts

    def reach(place: Place) -> float:
        estimate = deviation.estimate(place)
        return math.nan if estimate is None else estimate.mean

    (drawn,) = bars(comparison, replace(mean, name=name), reach=reach)
    return drawn
