"""Runs of earlier schemas: their ids, and their configs in today's keys.

| schema | what became of its keys |
|---|---|
| 1 | `views.brightness=multiplicative` is now `views.color=pytorch`; `additive` no longer exists |
| 2 | same keys as now, but all of them were part of an id, even those that did not count |

A run of schema 1 in which `additive` counts cannot be read. The `accuracy` and `entropy` that pretraining reported in
schema 1 were over all views, and are left out.
"""

import copy
from collections.abc import Mapping
from typing import Any

from simclr_ablate.identity import digest, values_of
from simclr_ablate.schema import counting_keys

VERSIONS = (1, 2)

_CHANGED_METRICS = {1: ("accuracy", "entropy")}
"""Metrics of pretraining with another meaning, by schema."""


def is_id(run_id: str, version: int, config: Mapping[str, Any]) -> bool:
    """Whether `run_id` is the id of a run of schema `version` with this config."""
    counted = _identity(config)
    counted.pop("evaluation", None)
    if config.get("objective") == "supervised":
        counted = {name: value for name, value in counted.items() if name not in ("head", "loss")}
    return run_id.rpartition("-")[2] == digest(counted, version)


def upgraded(version: int, config: Mapping[str, Any]) -> dict[str, Any] | None:
    """The config in today's keys; None if they cannot express it.

    version: one of VERSIONS. Raises ValueError if `config` is not a complete config of that version.
    """
    new = copy.deepcopy(dict(config))
    if version == 1:
        views = new["views"] if isinstance(new.get("views"), dict) else {}
        if "brightness" not in views:
            raise ValueError("it lacks keys of its schema: views.brightness")
        brightness = views.pop("brightness")
        views["color"] = "pytorch"
        if brightness != "multiplicative" and "views.color" in counting_keys(values_of(new)):
            return None
    values_of(new)
    return new


def metrics_of_pretraining(version: int, metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The metrics whose meaning has not changed since schema `version`."""
    changed = _CHANGED_METRICS.get(version, ())
    return {name: value for name, value in metrics.items() if name not in changed}


def _identity(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config without what could not change a result in any of these schemas."""
    counted = {name: value for name, value in config.items() if name != "compute"}
    if isinstance(data := counted.get("data"), Mapping):
        counted["data"] = {name: value for name, value in data.items() if name != "root"}
    return counted
