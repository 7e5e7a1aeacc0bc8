"""Hyperparameters that are chosen on the validation split (Table 4), and what the choice rests on."""

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from analysis.comparison import Axis, Label, read_labels
from analysis.settings import plain_values


@dataclass(frozen=True)
class Tuned:
    """A label's best values of the keys that were tuned, and what that rests on.

    candidates: how many sets of values were compared, on the seeds `chosen_on`; left_out: how many
    were not, for want of these seeds. reported: the seeds of the best that a table shows. run_ids:
    the runs of the candidates on the seeds `chosen_on`, less those that are reported.
    """

    values: Mapping[str, Any]
    candidates: int
    left_out: int
    chosen_on: tuple[int, ...]
    reported: tuple[int, ...]
    run_ids: tuple[str, ...] = ()


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
    seeds, run_ids = runs["seed"].tolist(), runs["run_id"].tolist()
    kept: list[int] = []
    best = {}
    for label, by_values in candidates.items():
        scores = {
            tried: runs.iloc[rows].groupby("seed")["validation_top1"].mean().to_dict()
            for tried, rows in by_values.items()
        }
        winner, choice = _choose(scores, keys)
        shown = [run for run in by_values[winner] if seeds[run] in choice.reported]
        compared = [
            run
            for tried, rows in by_values.items()
            if scores[tried].keys() >= set(choice.chosen_on)
            for run in rows
            if seeds[run] in choice.chosen_on
        ]
        others = {run_ids[run] for run in compared} - {run_ids[run] for run in shown}
        best[label] = replace(choice, run_ids=tuple(sorted(others)))
        kept += shown
    return runs.iloc[sorted(kept)], best


def _choose(
    scores: Mapping[tuple[Any, ...], Mapping[int, float]], keys: Sequence[str]
) -> tuple[tuple[Any, ...], Tuned]:
    """The best candidate by its scores by seed, and what is told of it."""
    seeds = _common_seeds(list(scores.values()))
    compared = {tried: by_seed for tried, by_seed in scores.items() if seeds <= by_seed.keys()}

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
