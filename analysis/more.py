"""`simclr-ablate findings more`: the undecided findings, what would decide each, and what that takes."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
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


@dataclass(frozen=True)
class Need:
    """An undecided finding whose cells all have runs, and what its next look takes.

    sweeps: those that make its runs. next_seeds: the number of seeds at its next look. hours: of the runs that are
    missing then, one after the other. target: the number of seeds that is expected to decide it; before the first look,
    the number of seeds there; None if no look is expected to. target_hours: of the runs that are missing then. configs,
    run_ids: of the runs that get more seeds.
    """

    finding: Finding
    sweeps: tuple[str, ...]
    next_seeds: int
    hours: float
    target: int | None
    target_hours: float
    configs: frozenset[tuple[Any, ...]]
    run_ids: tuple[str, ...]

    @property
    def in_reach(self) -> bool:
        return self.target is not None


def needs(runs: pd.DataFrame, findings: Iterable[Finding]) -> list[Need]:
    """What the undecided ones of `findings` need; those come first whose hours are worth most.

    An hour is worth the findings that are expected to be decided for it: one, and others that rest on no other runs and
    need no more seeds. runs: `analysis.load`, from which the findings were made.
    """
    found = [_need(runs, finding) for finding in findings if finding.verdict == "undecided"]
    there = [need for need in found if need is not None]
    return sorted(there, key=lambda need: _worth(need, there), reverse=True)


def _need(runs: pd.DataFrame, finding: Finding) -> Need | None:
    ahead = next_look(finding.seeds)
    if ahead is None or not finding.run_ids:
        return None
    artefacts = finding.claim.shown_by
    rows = pd.concat([artefact.runs_for(runs) for artefact in artefacts])
    rows = rows[rows["run_id"].isin(finding.run_ids) & rows["evaluation"].notna()]
    # Not those by which hyperparameters were chosen: they need no more seeds.
    rows = rows[rows["seed"].isin(finding.at_seeds)]
    rows = rows.drop_duplicates(["run_id", "evaluation"])
    evaluated = [_config(row, _COUNTED) for row in rows[_COUNTED].to_dict("records")]
    encoders = rows.drop_duplicates("run_id")
    pretrained = [
        _config(row, [name for name in _COUNTED if not name.startswith("evaluation.")])
        for row in encoders[_COUNTED].to_dict("records")
    ]
    costs = [
        _seconds_by_config(pretrained, encoders["pretraining.seconds"]),
        _seconds_by_config(evaluated, rows["evaluation_seconds"]),
    ]
    # A scatter of two seeds tells next to nothing, so before the first look nothing is foretold.
    decides_at = finding.decides_at if finding.seeds >= LOOKS[0] else None
    finding = replace(finding, decides_at=decides_at)
    target = decides_at if finding.seeds >= LOOKS[0] else ahead
    return Need(
        finding=finding,
        sweeps=tuple(artefact.sweep for artefact in artefacts if artefact.sweep),
        next_seeds=ahead,
        hours=_missing(costs, ahead) / HOUR,
        target=target,
        target_hours=math.nan if target is None else _missing(costs, target) / HOUR,
        configs=frozenset(evaluated),
        run_ids=tuple(sorted(set(rows["run_id"]))),
    )


def _config(row: Mapping[Any, Any], names: Sequence[str]) -> tuple[Any, ...]:
    values = (row[name] for name in names)
    # A list, which pandas would take apart, is never missing.
    return tuple(
        None if pd.api.types.is_scalar(value) and pd.isna(value) else value for value in values
    )


def _seconds_by_config(
    configs: Sequence[tuple[Any, ...]], seconds: pd.Series
) -> dict[tuple[Any, ...], list[float]]:
    by_config: dict[tuple[Any, ...], list[float]] = {}
    for config, taken in zip(configs, seconds.fillna(0.0), strict=True):
        by_config.setdefault(config, []).append(float(taken))
    return by_config


def _missing(costs: Iterable[Mapping[tuple[Any, ...], list[float]]], seeds: int) -> float:
    """Seconds of what is missing until every config has `seeds` seeds, if each takes as long as those that exist."""
    return math.fsum(
        max(0, seeds - len(taken)) * math.fsum(taken) / len(taken)
        for by_config in costs
        for taken in by_config.values()
    )


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
                "effect": need.finding.effect,
                "low": _number(need.finding.low),
                "high": _number(need.finding.high),
                "seeds": need.finding.seeds,
                "next_seeds": need.next_seeds,
                "decides_at": need.finding.decides_at,
                "hours": need.hours,
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
    commands = dict.fromkeys(command(need, runs) for need in found if need.in_reach)
    for line in commands:
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def command(need: Need, runs: pd.DataFrame) -> str:
    """The command that takes a finding to where it is expected to be decided."""
    store = store_of(runs)
    launches = covering(need.sweeps[0], Store(store).sweeps(), need.run_ids)
    overrides = launches[0].overrides if launches else ()
    given = overrides or (f"sweep={need.sweeps[0]}",)
    until = ("until=decided", f"max_seeds={need.target}")
    return command_line(["-m", *given, *until], store)
