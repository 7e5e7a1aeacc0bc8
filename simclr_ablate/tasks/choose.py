"""Choosing, one task from top to bottom: the best candidate, tried with one seed, on the validation split.

The winner is then run with other seeds and reported. So nothing that a table reports was used to choose: neither its
seeds nor the test split.
"""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from simclr_ablate.config import flatten
from simclr_ablate.identity import identity_config, result_key, run_id, varying_keys
from simclr_ablate.schema import Experiment
from simclr_ablate.store import Store
from simclr_ablate.terminal import count


@dataclass(frozen=True)
class Candidate:
    """A set of values: the experiment that tries it, and those that are run if it wins."""

    experiment: Experiment
    reported: tuple[Experiment, ...]


@dataclass(frozen=True)
class Winner:
    """The best of a group of candidates that differ only in the keys to choose.

    group: in words, the values that set the group apart from other groups.
    values: in words, the winner's values of the keys in which the group differs.
    candidate: the winner, or None if no candidate is complete.
    score: the winner's metric, percent.
    complete, candidates: how many candidates of the group are complete, and how many there are.
    """

    group: str
    values: str
    candidate: Candidate | None
    score: float
    complete: int
    candidates: int

    def describe(self) -> str:
        """The winner in one line."""
        begin = f"{self.group}: " if self.group else ""
        if self.candidate is None:
            one, none = "its only candidate did not complete", "none of its candidates completed"
            return f"{begin}{one if self.candidates == 1 else none}; nothing is chosen"
        failed = self.complete < self.candidates
        among = f"{self.complete} complete of {self.candidates}" if failed else str(self.candidates)
        return f"{begin}{self.values or 'nothing to choose'} ({self.score:.1f} %, best of {among})"


@dataclass(frozen=True)
class Choose:
    """What a sweep chooses from, and how.

    over: the keys to choose; candidates that differ in any other key do not compete.
    metric: the metric that decides.
    """

    sweep: str
    over: tuple[str, ...]
    metric: str
    candidates: tuple[Candidate, ...]

    @property
    def tried(self) -> list[Experiment]:
        """The experiments of the candidates."""
        return [candidate.experiment for candidate in self.candidates]

    @property
    def name(self) -> str:
        """The name of the choice in a store. Another scale or other seeds make another choice."""
        text = json.dumps([self.over, self.metric, list(map(result_key, self.experiments()))])
        return f"{self.sweep}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"

    @property
    def keys(self) -> set[tuple[str, str]]:
        """The run and the evaluation of each candidate, by name."""
        return set(map(result_key, self.tried))

    def experiments(self) -> Iterator[Experiment]:
        """All experiments that may be run: those of the candidates, and those of every possible winner."""
        for candidate in self.candidates:
            yield from (candidate.experiment, *candidate.reported)

    def replaced(self, by: Mapping[Experiment, Experiment]) -> Self:
        """A copy with each experiment replaced, for example by its completed form.

        Candidates with an experiment that `by` does not have are left out.
        """
        candidates = tuple(
            Candidate(by[each.experiment], tuple(by[one] for one in each.reported))
            for each in self.candidates
            if {each.experiment, *each.reported} <= by.keys()
        )
        return type(self)(self.sweep, self.over, self.metric, candidates)

    def to_config(self) -> dict[str, Any]:
        """Plain values, the inverse of `from_config`, with nothing left to compose."""
        candidates = [
            {
                "experiment": each.experiment.to_config(),
                "reported": [one.to_config() for one in each.reported],
            }
            for each in self.candidates
        ]
        plain = {"sweep": self.sweep, "over": list(self.over), "metric": self.metric}
        return {**plain, "candidates": candidates}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        candidates = tuple(
            Candidate(
                # Jobs that were submitted before it was renamed have `trial`.
                Experiment.from_config(each.get("experiment") or each["trial"]),
                tuple(map(Experiment.from_config, each["reported"])),
            )
            for each in config["candidates"]
        )
        return cls(config["sweep"], tuple(config["over"]), config["metric"], candidates)

    def is_ready(self, store: Store) -> bool:
        """Whether all candidates are complete."""
        return all(_is_complete(experiment, store) for experiment in self.tried)

    def decide(self, store: Store) -> "Chosen":
        """The best candidate of each group, among those that are complete now."""
        groups = self._groups()
        shared = varying_keys([group[0].experiment for group in groups])
        return Chosen(self, tuple(self._winner(group, shared, store) for group in groups))

    def outlook(self, store: Store) -> str:
        """What will be run once the candidates are complete, in one line."""
        groups = self._groups()
        shared = self._free(varying_keys([group[0].experiment for group in groups]))
        each = f" for each {', '.join(shared)}" if shared else ""
        tried = [each.experiment for group in groups for each in group]
        done = sum(_is_complete(experiment, store) for experiment in tried)
        more = sum(len(set(map(result_key, group[0].reported))) for group in groups)
        return (
            f"{self.sweep}: {count(more, 'more experiment')} to follow once its {len(tried)} with seed "
            f"{self.tried[0].seed} are done ({done} are): the best on {self.metric}{each}, with "
            f"seed {', '.join(str(one.seed) for one in groups[0][0].reported)}"
        )

    def _groups(self) -> list[list[Candidate]]:
        """Groups of candidates that compete, each listed once even if several experiments have its result."""
        groups: dict[tuple[Any, ...], dict[tuple[str, str], Candidate]] = {}
        for candidate in self.candidates:
            config = identity_config(candidate.experiment)
            shared = tuple((name, repr(config[name])) for name in self._free(list(config)))
            groups.setdefault(shared, {}).setdefault(result_key(candidate.experiment), candidate)
        return [list(group.values()) for group in groups.values()]

    def _free(self, names: Sequence[str]) -> list[str]:
        """The `names` that are not among the keys to choose."""
        return [name for name in names if not within(name, self.over)]

    def _winner(self, group: list[Candidate], shared: Sequence[str], store: Store) -> Winner:
        scores = {each: self._score(each, store) for each in group}
        complete = [each for each in group if not math.isnan(scores[each])]
        best = max(complete, key=scores.__getitem__, default=None)
        varying = varying_keys([each.experiment for each in group])
        chosen = [name for name in varying if within(name, self.over)]
        return Winner(
            group=_in_words(group[0].experiment, self._free(shared)),
            values=_in_words(best.experiment, chosen) if best else "",
            candidate=best,
            score=scores[best] if best else math.nan,
            complete=len(complete),
            candidates=len(group),
        )

    def _score(self, candidate: Candidate, store: Store) -> float:
        """The candidate's metric, or NaN if it is not complete."""
        run, key = result_key(candidate.experiment)
        evaluation = store.run(run, key).evaluation(key)
        metrics = evaluation["metrics"] if evaluation is not None else {}
        return float(metrics.get(self.metric, math.nan))


@dataclass(frozen=True)
class Chosen:
    """The outcome of a choice, from one look at the store: a candidate that finishes later does not change it."""

    choose: Choose
    winners: tuple[Winner, ...]

    def experiments(self) -> list[Experiment]:
        """The experiments to run: those of the winners."""
        candidates = (winner.candidate for winner in self.winners)
        return [one for each in candidates if each is not None for one in each.reported]

    def describe(self) -> str:
        """The choice in words: a heading and a line for each winner."""
        sweep, metric = self.choose.sweep, self.choose.metric
        heading = f"{sweep}: chosen on {metric} with seed {self.choose.tried[0].seed}"
        return "\n  ".join([heading, *map(Winner.describe, self.winners)])

    def note(self, store: Store, records: Mapping[str, str]) -> None:
        """Records the chosen runs, and adds them to the launched sweeps with these records.

        They are also added to the sweeps that a cluster's job was to choose for. records: by sweep.
        """
        folder = store.choice(self.choose.name)
        waiting = folder.sweeps if folder.submission() is not None else {}
        members = [run_id(experiment) for experiment in self.experiments()]
        for record in {**waiting, **records}.values():
            store.extend_sweep(record, members)
        if folder.exists():
            folder.write_choice(members)
            folder.withdraw_submission()


def within(name: str, others: Sequence[str]) -> bool:
    """Whether the key `name` is one of `others`, or in a section that is."""
    return any(name == other or name.startswith(f"{other}.") for other in others)


def _is_complete(experiment: Experiment, store: Store) -> bool:
    run, key = result_key(experiment)
    return store.run(run, key).state(key) == "complete"


def _in_words(experiment: Experiment, names: Sequence[str]) -> str:
    values = flatten(experiment.to_config())
    return " ".join(f"{name}={values[name]}" for name in names)
