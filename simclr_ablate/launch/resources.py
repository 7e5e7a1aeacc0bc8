"""The resources of each run on a cluster, which rules may change by experiment: `launcher.resources`."""

import dataclasses
import operator
import re
from collections.abc import Collection, Mapping
from typing import Any

from simclr_ablate.config import ConfigError, check_condition, flatten, is_numeric, unknown_key
from simclr_ablate.plan.launchers import ResourceRule, Resources, SlurmOptions
from simclr_ablate.schema import Experiment, check_ranks

_COMPARISON = re.compile(r"\s*(>=|<=|>|<)\s*([-+.\deE]+)\s*")
_OPERATORS = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt}
_NAMES = [field.name for field in dataclasses.fields(Resources)]


def resources_of(experiment: Experiment, options: SlurmOptions) -> Resources:
    """The resources of the experiment's run: the launcher's own values, changed by each rule that applies, in order.

    Raises ConfigError if a rule is invalid, or if nodes, GPUs, `compute.ranks` and `launcher.use_srun` do not fit
    together.
    """
    values = {name: getattr(options, name) for name in _NAMES}
    config = flatten(experiment.to_config())
    for number, rule in enumerate(options.resources):
        _check_rule(rule, config.keys(), f"launcher.resources[{number}].when")
    for rule in options.resources:
        if _applies(rule, config):
            changes = {name: getattr(rule, name) for name in _NAMES}
            values.update({name: value for name, value in changes.items() if value is not None})
    resources = Resources(**values)
    _check(experiment, resources, options.use_srun)
    return resources


def ranks_of(experiment: Experiment, gpus: int = 0) -> int:
    """The number of processes that share the run: `compute.ranks` if set, else one per GPU, at least one."""
    return experiment.compute.ranks or max(1, gpus)


def _check(experiment: Experiment, resources: Resources, use_srun: bool) -> None:
    ranks = ranks_of(experiment, resources.gpus)
    if resources.gpus and ranks != resources.gpus:
        raise ConfigError(
            f"compute.ranks must be null or the number of GPUs of the run ({resources.gpus}), "
            f"got {ranks}"
        )
    if ranks % resources.nodes:
        raise ConfigError(
            f"launcher.nodes must divide the number of ranks of a run ({ranks}), got {resources.nodes}"
        )
    if ranks > 1 and not use_srun:
        raise ConfigError(
            f"launcher.use_srun must be true for a run with several ranks ({ranks}), which srun "
            "starts, got false"
        )
    check_ranks(experiment, ranks)


def _check_rule(rule: ResourceRule, names: Collection[str], path: str) -> None:
    """Raises ConfigError if a condition names no key of experiments, or nothing that the key can be."""
    for name, condition in rule.when.items():
        if name not in names:
            raise ConfigError(f"{path}: {unknown_key(str(name), list(names))}")
        try:
            _check_condition(name, condition)
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from None


def _check_condition(name: str, condition: Any) -> None:
    if not (isinstance(condition, str) and condition.strip().startswith(("<", ">", "="))):
        for value in condition if isinstance(condition, list | tuple) else [condition]:
            check_condition(Experiment, name, value)
        return
    if not is_numeric(Experiment, name):
        raise ConfigError(
            f"{name} must be a value or a list of values, because it is not a number, got {condition!r}"
        )
    if _bound(condition) is None:
        raise ConfigError(
            f"{name} must be compared with a number, as in '>= 16' (>=, <=, > or <), got {condition!r}"
        )


def _applies(rule: ResourceRule, config: Mapping[str, Any]) -> bool:
    return all(_holds(config[name], condition) for name, condition in rule.when.items())


def _holds(value: Any, condition: Any) -> bool:
    if isinstance(condition, list | tuple):
        return value in condition
    bound = _bound(condition)
    if bound is None:
        return bool(value == condition)
    sign, number = bound
    # null, such as "no limit", is neither above nor below a number.
    return value is not None and bool(_OPERATORS[sign](value, number))


def _bound(condition: Any) -> tuple[str, float] | None:
    """The sign and the number of a comparison; None if it is none."""
    found = _COMPARISON.fullmatch(condition) if isinstance(condition, str) else None
    if found is None:
        return None
    try:
        return found[1], float(found[2])
    except ValueError:
        return None
