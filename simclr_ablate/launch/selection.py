"""Sweeps of two stages: what is tried with one seed, and the best of it on the validation split, run with other seeds.

So what a table reports was not selected on: neither its seeds nor, in the first stage, the test split.
"""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from simclr_ablate.config import ConfigError, build, flatten, key, keys, nearest, unknown_key
from simclr_ablate.identity import evaluation_key, identity_config, run_id
from simclr_ablate.launch.grid import Composer, Grids, Values, multiplied, read_grids
from simclr_ablate.launch.plan import place, varying_keys
from simclr_ablate.launch.waiting import Waiting
from simclr_ablate.schema import Experiment
from simclr_ablate.store import Store
from simclr_ablate.terminal import count

METRICS = ("validation_top1",)
"""What may decide: measured on images that no table reports."""


@dataclass(frozen=True)
class Rule:
    """`select` of a sweep's YAML."""

    seed: int = key("seed of the first stage, none of those that are reported", at_least=0)
    over: tuple[str, ...] = key("keys whose values are chosen; what else differs has a winner each")
    metric: str = key("what decides, on the validation split", choices=METRICS)
    grids: tuple[dict[str, Any], ...] = key("as the sweep's own: what is tried")

    @classmethod
    def from_config(cls, sweep: Mapping[str, Any] | None) -> Self | None:
        """The `select` of a sweep, if it has one. Raises ConfigError."""
        if sweep is None or "select" not in sweep:
            return None
        rule = build(cls, sweep["select"], "sweep.select")
        known = [info.name for info in keys(Experiment)]
        sections = {name.rpartition(".")[0] for name in known} - {""}
        for name in rule.over:
            if name not in known and name not in sections:
                raise ConfigError(f"sweep.select.over: {unknown_key(name, known)}")
        if not rule.over or "seed" in rule.over:
            raise ConfigError(
                f"sweep.select.over must name the keys to choose, seed aside, got {list(rule.over)}"
            )
        if not rule.grids:
            raise ConfigError("sweep.select.grids must have at least one grid, got []")
        if any("seed" in grid for grid in rule.read()):
            raise ConfigError(
                "sweep.select.grids must not name seed: its runs have sweep.select.seed "
                f"({rule.seed}), and the best then those of sweep.seeds"
            )
        return rule

    def read(self) -> list[dict[str, list[Any]]]:
        """Its grids with a list for each key. Raises ConfigError."""
        return read_grids(list(self.grids), "sweep.select.grids")


@dataclass(frozen=True)
class Candidate:
    """One set of values: the experiment that tries it, and those that are run if it wins."""

    trial: Experiment
    reported: tuple[Experiment, ...]


@dataclass(frozen=True)
class Choice:
    """What became of the candidates that differ in nothing but what is chosen.

    group, values: in words, what they share that others don't, and what the winner has that they don't share.
    winner: None where none is complete; score: its metric, percent.
    """

    group: str
    values: str
    winner: Candidate | None
    score: float
    complete: int
    tried: int

    def describe(self) -> str:
        """One line for a person."""
        begin = f"{self.group}: " if self.group else ""
        if self.winner is None:
            return f"{begin}none of {self.tried} is complete, so that nothing of it is run"
        failed = self.complete < self.tried
        among = f"{self.complete} complete of {self.tried}" if failed else str(self.tried)
        return f"{begin}{self.values or 'nothing to choose'} ({self.score:.1f} %, best of {among})"


@dataclass(frozen=True)
class Selection:
    """What a sweep chooses from, and how: see `Rule`."""

    sweep: str
    over: tuple[str, ...]
    metric: str
    candidates: tuple[Candidate, ...]

    @property
    def trials(self) -> list[Experiment]:
        """The first stage."""
        return [candidate.trial for candidate in self.candidates]

    @property
    def stage_name(self) -> str:
        """Names its second stage in a store: another scale, or other seeds, is another one."""
        runs = [_results(one) for one in self.experiments()]
        text = json.dumps([self.over, self.metric, runs])
        return f"{self.sweep}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"

    def experiments(self) -> Iterator[Experiment]:
        """All that either stage may run."""
        for candidate in self.candidates:
            yield from (candidate.trial, *candidate.reported)

    def replaced(self, by: Mapping[Experiment, Experiment]) -> "Selection":
        """The same with other experiments, such as completed ones."""
        candidates = tuple(
            Candidate(by[each.trial], tuple(by[one] for one in each.reported))
            for each in self.candidates
        )
        return Selection(self.sweep, self.over, self.metric, candidates)

    def to_config(self) -> dict[str, Any]:
        """Plain values that `from_config` takes back: frozen, with nothing left to compose."""
        candidates = [
            {
                "trial": each.trial.to_config(),
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
                Experiment.from_config(each["trial"]),
                tuple(map(Experiment.from_config, each["reported"])),
            )
            for each in config["candidates"]
        )
        return cls(config["sweep"], tuple(config["over"]), config["metric"], candidates)

    def is_ready(self, store: Store) -> bool:
        """Whether the first stage is complete."""
        return all(place(trial, store).state() == "complete" for trial in self.trials)

    def decide(self, store: Store) -> "Decision":
        """The winner of each group, among its candidates that are complete now."""
        groups = self._groups()
        shared = varying_keys([group[0].trial for group in groups])
        return Decision(self, tuple(self._choice(group, shared, store) for group in groups))

    def outlook(self, store: Store) -> str:
        """One line: what the second stage will be, while the first is not complete."""
        groups = self._groups()
        shared = self._free(varying_keys([group[0].trial for group in groups]))
        each = f" for each {', '.join(shared)}" if shared else ""
        trials = [each.trial for group in groups for each in group]
        done = sum(place(trial, store).state() == "complete" for trial in trials)
        more = sum(len(set(map(_results, group[0].reported))) for group in groups)
        return (
            f"{self.sweep}: {count(more, 'more experiment')} to come when its {len(trials)} with seed "
            f"{self.trials[0].seed} are done ({done} are): the best on {self.metric}{each}, with "
            f"seed {', '.join(str(one.seed) for one in groups[0][0].reported)}"
        )

    def _groups(self) -> list[list[Candidate]]:
        """Candidates that compete, each once, also where it is to be worked on in several ways."""
        groups: dict[tuple[Any, ...], dict[tuple[str, str], Candidate]] = {}
        for candidate in self.candidates:
            config = identity_config(candidate.trial)
            shared = tuple((name, repr(config[name])) for name in self._free(list(config)))
            groups.setdefault(shared, {}).setdefault(_results(candidate.trial), candidate)
        return [list(group.values()) for group in groups.values()]

    def _free(self, names: Sequence[str]) -> list[str]:
        """Those of `names` that are not chosen."""
        return [name for name in names if not _within(name, self.over)]

    def _choice(self, group: list[Candidate], shared: Sequence[str], store: Store) -> Choice:
        scores = {each: self._score(each, store) for each in group}
        complete = [each for each in group if not math.isnan(scores[each])]
        winner = max(complete, key=scores.__getitem__, default=None)
        chosen = [
            name
            for name in varying_keys([each.trial for each in group])
            if _within(name, self.over)
        ]
        return Choice(
            group=_told(group[0].trial, self._free(shared)),
            values=_told(winner.trial, chosen) if winner else "",
            winner=winner,
            score=scores[winner] if winner else math.nan,
            complete=len(complete),
            tried=len(group),
        )

    def _score(self, candidate: Candidate, store: Store) -> float:
        """NaN where the trial is not complete."""
        planned = place(candidate.trial, store)
        evaluation = planned.run.evaluation(planned.evaluation_key)
        metrics = evaluation["metrics"] if evaluation is not None else {}
        return float(metrics.get(self.metric, math.nan))


@dataclass(frozen=True)
class Decision:
    """What a selection has come to at one look at the store: a trial that ends later changes nothing in it."""

    selection: Selection
    choices: tuple[Choice, ...]

    def experiments(self) -> list[Experiment]:
        """The second stage."""
        winners = (choice.winner for choice in self.choices)
        return [one for winner in winners if winner is not None for one in winner.reported]

    def describe(self) -> str:
        """A line for a person, and one for each choice."""
        sweep, metric = self.selection.sweep, self.selection.metric
        heading = f"{sweep}: chosen on {metric} with seed {self.selection.trials[0].seed}"
        return "\n  ".join([heading, *map(Choice.describe, self.choices)])

    def close(self, store: Store, records: Mapping[str, str]) -> None:
        """Notes that the second stage is seen to, and part of the launched sweeps with these records.

        So it is of those that a waiting job was to submit it for. records: by sweep.
        """
        stage = Waiting.read(store, self.selection.stage_name)
        waiting = stage.sweeps if stage is not None and stage.is_open else {}
        members = [run_id(experiment) for experiment in self.experiments()]
        for record in {**waiting, **records}.values():
            store.extend_sweep(record, members)
        store.close_stage(self.selection.stage_name)


def _results(experiment: Experiment) -> tuple[str, str]:
    """Where its results lie: the same for experiments that differ in what changes none."""
    return run_id(experiment), evaluation_key(experiment)


def select(
    composer: Composer,
    sweep: str,
    rule: Rule,
    seeds: Sequence[int] | None,
    swept: Mapping[str, list[Any]],
    fixed: Sequence[str],
) -> Selection:
    """What the sweep of that name chooses from. Raises ConfigError.

    seeds: those that are reported, where the command line does not say. swept, fixed: see `multiplied`.
    """
    grids = rule.read()
    _check_varied(rule, [*swept, *fixed, *(name for grid in grids for name in grid)])
    reported = _seeds(seeds, swept, fixed)
    values = {name: listed for name, listed in swept.items() if name != "seed"}
    points = multiplied(Grids(grids), values, [name for name in fixed if name != "seed"])
    candidates = dict.fromkeys(
        Candidate(
            composer.experiment({**point, "seed": rule.seed}),
            tuple(dict.fromkeys(composer.experiment({**point, **seed}) for seed in reported)),
        )
        for point in points
    )
    for candidate in candidates:
        _check(candidate, rule)
    return Selection(sweep, rule.over, rule.metric, tuple(candidates))


def _seeds(
    seeds: Sequence[int] | None, swept: Mapping[str, list[Any]], fixed: Sequence[str]
) -> list[Values]:
    """Those that are reported, as values of a point: one that says nothing where the composed config has the seed."""
    listed = swept.get("seed") or (None if "seed" in fixed else seeds)
    return [{}] if listed is None else [{"seed": seed} for seed in listed]


def _check_varied(rule: Rule, named: Sequence[str]) -> None:
    for name in rule.over:
        if not any(_within(name, [one]) or _within(one, [name]) for one in named):
            raise ConfigError(
                f"sweep.select.over names what sweep.select.grids vary, got {name!r}"
                f"{nearest(name, named)}"
            )


def _check(candidate: Candidate, rule: Rule) -> None:
    reported = [one.seed for one in candidate.reported]
    if rule.seed in reported:
        raise ConfigError(
            f"sweep.select.seed must be none of the seeds that are reported ({reported}), "
            f"got {rule.seed}"
        )
    protocol = candidate.trial.evaluation.protocol
    if protocol == "probe":
        raise ConfigError(
            f"sweep.select: {rule.metric} is not measured with evaluation.protocol={protocol}"
        )


def _within(name: str, others: Sequence[str]) -> bool:
    """Whether a key is one of `others` or in a section that is."""
    return any(name == other or name.startswith(f"{other}.") for other in others)


def _told(experiment: Experiment, names: Sequence[str]) -> str:
    values = flatten(experiment.to_config())
    return " ".join(f"{name}={values[name]}" for name in names)
