"""The choice of hyperparameters on the validation split (Table 4), and what it rests on."""

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from .comparison import Axis, Label, read_labels
from .settings import plain_values


@dataclass(frozen=True)
class Tuned:
    """A label's best values of the tuned keys, and what the choice rests on.

    candidates: how many sets of values were compared, on the seeds `chosen_on`. left_out: how many were not, for lack
    of these seeds. reported: the seeds of the best candidate that a table shows. run_ids: the candidates' runs on the
    seeds `chosen_on`, without those that are reported.
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
    """Each label's runs with the values of `keys` that are best on the validation split, and what was chosen.

    The best candidate has the highest mean over the seeds that all candidates have. Only its runs with other seeds are
    kept, since they took no part in the choice; if it has no other seeds, all are kept.
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
    """The best candidate, and what the choice rests on. scores: by candidate, then by seed."""
    seeds = _common_seeds(list(scores.values()))
    compared = {tried: by_seed for tried, by_seed in scores.items() if seeds <= by_seed.keys()}

    def merit(tried: tuple[Any, ...]) -> tuple[bool, float, int]:
        score = sum(compared[tried][seed] for seed in seeds) / len(seeds)
        # Ties go to the candidate with the most seeds.
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
    """The seeds that all candidates have. If there are none, those shared by all that have the most common seed."""
    counts = Counter(seed for by_seed in scores for seed in by_seed)
    commonest = max(counts, key=lambda seed: (counts[seed], -seed))
    having = [set(by_seed) for by_seed in scores if commonest in by_seed]
    return set.intersection(*having)
