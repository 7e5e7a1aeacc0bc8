"""`simclr-ablate findings more`: the undecided findings, what would decide each, and what that takes."""

import json
import math
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from simclr_ablate.looks import LOOKS, next_look
from simclr_ablate.schema import KEYS
from simclr_ablate.store import Store

from .claims.claim import Finding
from .command_line import command_line, covering, store_of

HOUR = 3600.0
_COUNTED = [key.name for key in KEYS if key.identity and key.name != "seed"]
"""The keys that make a config, whatever its seed."""
_OF_ENCODERS = [k for k, name in enumerate(_COUNTED) if not name.startswith("evaluation.")]
"""Which of them make an encoder."""

_SWEEPS_AND_SEEDS = ("sweep=", "seed=", "scale.seeds=")

Config = tuple[Any, ...]


@dataclass(frozen=True)
class Need:
    """An undecided finding whose cells all have runs, and what its next look takes.

    sweeps: those that make its runs. next_seeds: the number of seeds at its next look. missing: how many results are
    missing then. hours, longest: of their runs, one after the other, and of the longest. target: the number of seeds
    that is expected to decide it; before the first look, the number of seeds there; None if no look is expected to.
    target_hours: of the runs that are missing then. configs, run_ids: of the runs that get more seeds.
    """

    finding: Finding
    sweeps: tuple[str, ...]
    next_seeds: int
    missing: int
    hours: float
    longest: float
    target: int | None
    target_hours: float
    configs: frozenset[Config]
    run_ids: tuple[str, ...]

    @property
    def in_reach(self) -> bool:
        return self.target is not None


def needs(runs: pd.DataFrame, findings: Iterable[Finding]) -> list[Need]:
    """What the undecided ones of `findings` need; those come first whose hours are worth most.

    An hour is worth the findings that are expected to be decided for it: one, and others that rest on no other runs and
    need no more seeds. runs: `analysis.load`, from which the findings were made.
    """
    costs = _Costs.of(runs)
    found = [_need(runs, costs, finding) for finding in findings if finding.verdict == "undecided"]
    there = [need for need in found if need is not None]
    return sorted(there, key=lambda need: _worth(need, there), reverse=True)


def _need(runs: pd.DataFrame, costs: "_Costs", finding: Finding) -> Need | None:
    ahead = next_look(finding.seeds)
    if ahead is None or not finding.run_ids:
        return None
    artefacts = finding.claim.shown_by
    rows = pd.concat([artefact.runs_for(runs) for artefact in artefacts])
    rows = rows[rows["run_id"].isin(finding.run_ids) & rows["evaluation"].notna()]
    # Not those by which hyperparameters were chosen: they need no more seeds.
    if finding.at_seeds:
        rows = rows[rows["seed"].isin(finding.at_seeds)]
    configs = frozenset(map(costs.config_of.__getitem__, _keys(rows)))
    # A scatter of two seeds tells next to nothing, so before the first look nothing is foretold.
    decides_at = finding.decides_at if finding.seeds >= LOOKS[0] else None
    finding = replace(finding, decides_at=decides_at)
    target = decides_at if finding.seeds >= LOOKS[0] else ahead
    return Need(
        finding=finding,
        sweeps=tuple(artefact.sweep for artefact in artefacts if artefact.sweep),
        next_seeds=ahead,
        missing=costs.missing(configs, ahead),
        hours=costs.seconds(configs, ahead) / HOUR,
        longest=costs.longest(configs, ahead) / HOUR,
        target=target,
        target_hours=math.nan if target is None else costs.seconds(configs, target) / HOUR,
        configs=configs,
        run_ids=tuple(sorted(set(rows["run_id"]))),
    )


@dataclass
class _Costs:
    """The seconds of all results and encoders that a store has, by config.

    config_of: the config of each result, by its run and its evaluation. results, encoders: the seconds of those with
    the config of a result, or of an encoder, which is the former's without the evaluation; one for each seed.
    """

    config_of: dict[tuple[str, str], Config]
    results: dict[Config, list[float]]
    encoders: dict[Config, list[float]]

    @classmethod
    def of(cls, runs: pd.DataFrame) -> "_Costs":
        done = runs[runs["evaluation"].notna()]
        made = cls({}, {}, {})
        for key, config, seconds in zip(
            _keys(done), _configs(done), done["evaluation_seconds"], strict=True
        ):
            made.config_of[key] = config
            made.results.setdefault(config, []).append(_known(seconds))
        pretrained = runs[runs["state"].eq("complete") | runs["pretraining.seconds"].notna()]
        pretrained = pretrained.drop_duplicates("run_id")
        for config, seconds in zip(
            _configs(pretrained), pretrained["pretraining.seconds"], strict=True
        ):
            made.encoders.setdefault(_of_encoder(config), []).append(_known(seconds))
        return made

    def missing(self, configs: Iterable[Config], seeds: int) -> int:
        """How many results are missing until every config has as many seeds."""
        return sum(max(0, seeds - len(self.results[config])) for config in configs)

    def seconds(self, configs: Collection[Config], seeds: int) -> float:
        """Seconds of what is missing then, if each takes as long as those that exist."""
        parts = [self.results[config] for config in configs]
        parts += [self.encoders[config] for config in {*map(_of_encoder, configs)}]
        return math.fsum(max(0, seeds - len(taken)) * _mean(taken) for taken in parts)

    def longest(self, configs: Iterable[Config], seeds: int) -> float:
        """The most seconds that an encoder and a result, of those that are missing then, take one after the other."""
        return max(
            (
                _mean(self.results[config]) + _mean(self.encoders[_of_encoder(config)])
                for config in configs
                if len(self.results[config]) < seeds
            ),
            default=0.0,
        )


def _keys(rows: pd.DataFrame) -> Iterator[tuple[str, str]]:
    return zip(rows["run_id"], rows["evaluation"], strict=True)


def _configs(rows: pd.DataFrame) -> Iterator[Config]:
    counted = rows[_COUNTED].astype(object)
    return counted.where(counted.notna(), None).itertuples(index=False, name=None)


def _of_encoder(config: Config) -> Config:
    """A result's config without its evaluation."""
    return tuple(config[k] for k in _OF_ENCODERS)


def _known(seconds: float) -> float:
    return 0.0 if math.isnan(seconds) else float(seconds)


def _mean(seconds: Sequence[float]) -> float:
    return math.fsum(seconds) / len(seconds)


def _worth(need: Need, among: Sequence[Need]) -> float:
    """Findings decided in an hour; negative if none is expected to be."""
    if need.target is None:
        return -1.0
    decided = sum(
        other.target is not None and other.target <= need.target and other.configs <= need.configs
        for other in among
    )
    return decided / max(need.target_hours, 1 / HOUR)


def as_json(found: Sequence[Need]) -> str:
    """The needs as a list, for `until=decided` and other programs."""
    return json.dumps(
        [
            {
                "finding": need.finding.claim.name,
                "label": need.finding.label,
                "setting": need.finding.setting,
                "effect": _number(need.finding.effect),
                "low": _number(need.finding.low),
                "high": _number(need.finding.high),
                "seeds": need.finding.seeds,
                "next_seeds": need.next_seeds,
                "decides_at": need.finding.decides_at,
                "missing": need.missing,
                "hours": need.hours,
                "longest": need.longest,
                "hours_to_decide": _number(need.target_hours),
                "sweeps": need.sweeps,
                "run_ids": need.run_ids,
            }
            for need in found
        ],
        indent=1,
    )


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value


def show(found: Sequence[Need], runs: pd.DataFrame, console: Any) -> None:
    """Prints the needs as a table, and a command for each that is within reach."""
    from rich.table import Table

    if not found:
        console.print("no finding is undecided for want of seeds", highlight=False)
        return
    table = Table("finding", "data", "effect, points", "seeds", "needs", "hours")
    for need in found:
        finding = need.finding
        interval = (
            "" if math.isnan(finding.low) else f" ({finding.low:+.1f} to {finding.high:+.1f})"
        )
        hours = "" if need.target is None else f"{need.target_hours:.2f}"
        needed = "out of reach" if need.target is None else f"{need.target} seeds"
        effect = f"{finding.effect:+.1f}{interval}"
        table.add_row(finding.claim.name, finding.label, effect, str(finding.seeds), needed, hours)
    console.print(table)
    lines = dict.fromkeys(command(need, runs) for need in found if need.in_reach)
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def command(need: Need, runs: pd.DataFrame) -> str:
    """The command that takes a finding to where it is expected to be decided; or, in words, why no single one does."""
    store = store_of(runs)
    launches = covering(need.sweeps[0], Store(store).sweeps(), need.run_ids)
    given = [launch.overrides or (f"sweep={launch.name}",) for launch in launches]
    given = given or [(f"sweep={need.sweeps[0]}",)]
    if len({tuple(o for o in each if not o.startswith(_SWEEPS_AND_SEEDS)) for each in given}) > 1:
        return (
            f"# {need.finding.claim.name} rests on runs of {len(given)} commands with different keys, which no command "
            "can take further together"
        )
    sweeps = [o.removeprefix("sweep=") for each in given for o in each if o.startswith("sweep=")]
    others = [o for o in given[0] if not o.startswith("sweep=")]
    united = f"sweep={','.join(dict.fromkeys(sweeps))}"
    until = ("until=decided", f"max_seeds={need.target}")
    return command_line(["-m", united, *others, *until], store)
