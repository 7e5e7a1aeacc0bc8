"""What each run of a sweep is given on a cluster: `launcher.resources`, rules on the experiment."""

import dataclasses
import operator
import re
from collections.abc import Mapping
from typing import Any

from simclr_ablate.config import ConfigError, flatten, unknown_key
from simclr_ablate.launch.launchers import ResourceRule, Resources, SlurmOptions
from simclr_ablate.schema import Experiment, check_ranks

_COMPARISON = re.compile(r"\s*(>=|<=|>|<)\s*([-+.\deE]+)\s*")
_OPERATORS = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt}
_NAMES = [field.name for field in dataclasses.fields(Resources)]


def resources_of(experiment: Experiment, options: SlurmOptions) -> Resources:
    """What the experiment's run gets: the launcher's own values, changed by every rule that applies, in order.

    Raises ConfigError where a rule makes no sense or nodes, GPUs and `compute.ranks` don't go together.
    """
    values = {name: getattr(options, name) for name in _NAMES}
    config = flatten(experiment.to_config())
    for number, rule in enumerate(options.resources):
        if _applies(rule, config, f"launcher.resources[{number}].when"):
            changes = {name: getattr(rule, name) for name in _NAMES}
            values.update({name: value for name, value in changes.items() if value is not None})
    resources = Resources(**values)
    _check(experiment, resources)
    return resources


def ranks_of(experiment: Experiment, gpus: int = 0) -> int:
    """Processes that share the run: `compute.ranks`, else one for each of `gpus` that it is given, else one."""
    return experiment.compute.ranks or max(1, gpus)


def _check(experiment: Experiment, resources: Resources) -> None:
    ranks = ranks_of(experiment, resources.gpus)
    if resources.gpus and ranks != resources.gpus:
        raise ConfigError(
            f"compute.ranks must be null or the number of GPUs of the run ({resources.gpus}), "
            f"got {ranks}"
        )
    if ranks % resources.nodes:
        raise ConfigError(
            f"launcher.nodes must divide the ranks of a run ({ranks}), got {resources.nodes}"
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
        raise ConfigError(f"{path} compares a number, got {condition!r} for {value!r}")
    return bool(_OPERATORS[sign](value, float(bound)))
