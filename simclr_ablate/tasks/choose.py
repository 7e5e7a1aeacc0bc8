"""Choosing, one task from top to bottom: of what was tried with one seed, the best on the validation split.

What wins is then run with other seeds, and reported. So what a table reports was not selected on: neither its seeds
nor, of what was tried, the test split.
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
    """One set of values: the experiment that tries it, and those that are run if it wins."""

    experiment: Experiment
    reported: tuple[Experiment, ...]


@dataclass(frozen=True)
class Winner:
    """The best of the candidates that differ in nothing but what is chosen.

    group, values: in words, what they share that others don't, and what the winner has that they don't share.
    candidate: None where none is complete; score: its metric, percent.
    """

    group: str
    values: str
    candidate: Candidate | None
    score: float
    complete: int
    candidates: int

    def describe(self) -> str:
        """One line for a person."""
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

    over: the keys that are chosen; candidates that differ in anything else do not compete. metric: what decides.
    """

    sweep: str
    over: tuple[str, ...]
    metric: str
    candidates: tuple[Candidate, ...]

    @property
    def tried(self) -> list[Experiment]:
        """What is tried."""
        return [candidate.experiment for candidate in self.candidates]

    @property
    def name(self) -> str:
        """Names it in a store: another scale, or other seeds, is another one."""
        text = json.dumps([self.over, self.metric, list(map(result_key, self.experiments()))])
        return f"{self.sweep}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"

    @property
    def keys(self) -> set[tuple[str, str]]:
        """Where the results of what is tried lie: runs, and keys of evaluations."""
        return set(map(result_key, self.tried))

    def experiments(self) -> Iterator[Experiment]:
        """All that it may take: what is tried, and whatever may be chosen."""
        for candidate in self.candidates:
            yield from (candidate.experiment, *candidate.reported)

    def replaced(self, by: Mapping[Experiment, Experiment]) -> Self:
        """The same with other experiments, such as completed ones."""
        candidates = tuple(
            Candidate(by[each.experiment], tuple(by[one] for one in each.reported))
            for each in self.candidates
        )
        return type(self)(self.sweep, self.over, self.metric, candidates)

    def to_config(self) -> dict[str, Any]:
        """Plain values that `from_config` takes back: frozen, with nothing left to compose."""
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
                # `trial` in jobs that were submitted before it was renamed.
                Experiment.from_config(each.get("experiment") or each["trial"]),
                tuple(map(Experiment.from_config, each["reported"])),
            )
            for each in config["candidates"]
        )
        return cls(config["sweep"], tuple(config["over"]), config["metric"], candidates)

    def is_ready(self, store: Store) -> bool:
        """Whether all that is tried is complete."""
        return all(_is_complete(experiment, store) for experiment in self.tried)

    def decide(self, store: Store) -> "Chosen":
        """The best of each group, of what is complete now."""
        groups = self._groups()
        shared = varying_keys([group[0].experiment for group in groups])
        return Chosen(self, tuple(self._winner(group, shared, store) for group in groups))

    def outlook(self, store: Store) -> str:
        """One line: what will be run, while what is tried is not complete."""
        groups = self._groups()
        shared = self._free(varying_keys([group[0].experiment for group in groups]))
        each = f" for each {', '.join(shared)}" if shared else ""
        tried = [each.experiment for group in groups for each in group]
        done = sum(_is_complete(experiment, store) for experiment in tried)
        more = sum(len(set(map(result_key, group[0].reported))) for group in groups)
        return (
            f"{self.sweep}: {count(more, 'more experiment')} to come when its {len(tried)} with seed "
            f"{self.tried[0].seed} are done ({done} are): the best on {self.metric}{each}, with "
            f"seed {', '.join(str(one.seed) for one in groups[0][0].reported)}"
        )

    def _groups(self) -> list[list[Candidate]]:
        """Candidates that compete, each once, also where it is to be worked on in several ways."""
        groups: dict[tuple[Any, ...], dict[tuple[str, str], Candidate]] = {}
        for candidate in self.candidates:
            config = identity_config(candidate.experiment)
            shared = tuple((name, repr(config[name])) for name in self._free(list(config)))
            groups.setdefault(shared, {}).setdefault(result_key(candidate.experiment), candidate)
        return [list(group.values()) for group in groups.values()]

    def _free(self, names: Sequence[str]) -> list[str]:
        """Those of `names` that are not chosen."""
        return [name for name in names if not within(name, self.over)]

    def _winner(self, group: list[Candidate], shared: Sequence[str], store: Store) -> Winner:
        scores = {each: self._score(each, store) for each in group}
        complete = [each for each in group if not math.isnan(scores[each])]
        best = max(complete, key=scores.__getitem__, default=None)
        varying = varying_keys([each.experiment for each in group])
        chosen = [name for name in varying if within(name, self.over)]
        return Winner(
            group=_told(group[0].experiment, self._free(shared)),
            values=_told(best.experiment, chosen) if best else "",
            candidate=best,
            score=scores[best] if best else math.nan,
            complete=len(complete),
            candidates=len(group),
        )

    def _score(self, candidate: Candidate, store: Store) -> float:
        """NaN where what tries it is not complete."""
        run, key = result_key(candidate.experiment)
        evaluation = store.run(run).evaluation(key)
        metrics = evaluation["metrics"] if evaluation is not None else {}
        return float(metrics.get(self.metric, math.nan))


@dataclass(frozen=True)
class Chosen:
    """What a choice has come to at one look at the store: a candidate that ends later changes nothing in it."""

    choose: Choose
    winners: tuple[Winner, ...]

    def experiments(self) -> list[Experiment]:
        """What is to be run."""
        candidates = (winner.candidate for winner in self.winners)
        return [one for each in candidates if each is not None for one in each.reported]

    def describe(self) -> str:
        """A line for a person, and one for each of the winners."""
        sweep, metric = self.choose.sweep, self.choose.metric
        heading = f"{sweep}: chosen on {metric} with seed {self.choose.tried[0].seed}"
        return "\n  ".join([heading, *map(Winner.describe, self.winners)])

    def note(self, store: Store, records: Mapping[str, str]) -> None:
        """Records what was chosen, and makes it part of the launched sweeps with these records.

        So it is of those that a job of a cluster was to choose for. records: by sweep.
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
    """Whether a key is one of `others` or in a section that is."""
    return any(name == other or name.startswith(f"{other}.") for other in others)


def _is_complete(experiment: Experiment, store: Store) -> bool:
    run, key = result_key(experiment)
    return store.run(run).state(key) == "complete"


def _told(experiment: Experiment, names: Sequence[str]) -> str:
    values = flatten(experiment.to_config())
    return " ".join(f"{name}={values[name]}" for name in names)
