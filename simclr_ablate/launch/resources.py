"""The resources of each run on a cluster, which rules may change by experiment: `launcher.resources`."""

import dataclasses
import operator
import re
from collections.abc import Mapping
from typing import Any

from simclr_ablate.config import ConfigError, flatten, unknown_key
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
        if _applies(rule, config, f"launcher.resources[{number}].when"):
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


def _applies(rule: ResourceRule, config: Mapping[str, Any], path: str) -> bool:
    for name, condition in rule.when.items():
        if name not in config:
            raise ConfigError(f"{path}: {unknown_key(str(name), list(config))}")
        if not _holds(config[name], condition, f"{path}.{name}"):
            return False
    return True


def _holds(value: Any, condition: Any, path: str) -> bool:
    if isinstance(condition, list | tuple):
        return value in condition
    comparison = _COMPARISON.fullmatch(condition) if isinstance(condition, str) else None
    if comparison is None:
        return bool(value == condition)
    sign, bound = comparison.groups()
    if not isinstance(value, int | float):
        raise ConfigError(
            f"{path} must be a value or a list of values, because {value!r} is not a number, "
            f"got {condition!r}"
        )
    return bool(_OPERATORS[sign](value, float(bound)))
