"""`select` in a sweep's YAML: the candidates that the sweep chooses from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from simclr_ablate import schema
from simclr_ablate.config import ConfigError, build, key, keys, nearest, unknown_key
from simclr_ablate.plan.grid import Composer, Grids, Values, multiplied, read_grids
from simclr_ablate.schema import Experiment
from simclr_ablate.tasks.choose import Candidate, Choose, within

METRICS = tuple(f"validation_{metric}" for metric in schema.METRICS)
"""Metrics that may decide: those measured on images that no table reports."""


@dataclass(frozen=True)
class Rule:
    """`select` in a sweep's YAML."""

    seed: int = key("seed of the first stage, which must not be a reported one", at_least=0)
    over: tuple[str, ...] = key(
        "keys to choose; candidates that differ in any other key do not compete"
    )
    metric: str = key("metric that decides, on the validation split", choices=METRICS)
    grids: tuple[dict[str, Any], ...] = key("grids of candidates, written like the sweep's own")

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
                f"sweep.select.over must name the keys to choose, without seed, got {list(rule.over)}"
            )
        if not rule.grids:
            raise ConfigError("sweep.select.grids must have at least one grid, got []")
        if any("seed" in grid for grid in rule.read()):
            raise ConfigError(
                "sweep.select.grids must not vary seed: candidates have sweep.select.seed "
                f"({rule.seed}), and winners have sweep.seeds"
            )
        return rule

    def read(self) -> list[dict[str, list[Any]]]:
        """The rule's grids, with a list for each key. Raises ConfigError."""
        return read_grids(list(self.grids), "sweep.select.grids")


def select(
    composer: Composer,
    sweep: str,
    rule: Rule,
    seeds: Sequence[int] | None,
    swept: Mapping[str, list[Any]],
    fixed: Sequence[str],
) -> Choose:
    """The candidates that the named sweep chooses from. Raises ConfigError.

    seeds: the reported ones, unless the command line gives others. swept, fixed: see `multiplied`.
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
    return Choose(sweep, rule.over, rule.metric, tuple(candidates))


def _seeds(
    seeds: Sequence[int] | None, swept: Mapping[str, list[Any]], fixed: Sequence[str]
) -> list[Values]:
    """The reported seeds, as values of a point: only one, without values, if the composed config has the seed."""
    listed = swept.get("seed") or (None if "seed" in fixed else seeds)
    return [{}] if listed is None else [{"seed": seed} for seed in listed]


def _check_varied(rule: Rule, named: Sequence[str]) -> None:
    for name in rule.over:
        if not any(within(name, [one]) or within(one, [name]) for one in named):
            raise ConfigError(
                f"sweep.select.over must name keys that sweep.select.grids vary, got {name!r}"
                f"{nearest(name, named)}"
            )


def _check(candidate: Candidate, rule: Rule) -> None:
    reported = [one.seed for one in candidate.reported]
    if rule.seed in reported:
        raise ConfigError(
            f"sweep.select.seed must not be one of the reported seeds ({reported}), got {rule.seed}"
        )
    protocol = candidate.experiment.evaluation.protocol
    if protocol == "probe":
        raise ConfigError(
            f"sweep.select: {rule.metric} is not measured with evaluation.protocol={protocol}"
        )
    data = candidate.experiment.evaluated_data
    if rule.metric != f"validation_{data.metric}":
        raise ConfigError(
            f"sweep.select.metric must be validation_{data.metric} for data={data.name}, got {rule.metric}"
        )
