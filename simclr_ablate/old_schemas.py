"""Runs of earlier schemas: the ids that they have, and what their configs are in this one.

| schema | what became of its keys |
|---|---|
| 1 | `views.brightness=multiplicative` is `views.color=pytorch`; `additive` is nothing that there is now |
| 2 | the keys of now, but all of them were part of an id, even where they don't count |

A run of schema 1 in which `additive` counts cannot be read. What pretraining reported then as `accuracy` and `entropy`
was over all views, and is left out.
"""

import copy
from collections.abc import Mapping
from typing import Any

from simclr_ablate.identity import digest, values_of
from simclr_ablate.schema import counting_keys

VERSIONS = (1, 2)

_CHANGED_METRICS = {1: ("accuracy", "entropy")}
"""Metrics of pretraining that meant something else, by the schema."""


def is_id(run_id: str, version: int, config: Mapping[str, Any]) -> bool:
    """Whether a run of schema `version` with that config has that id."""
    counted = _identity(config)
    counted.pop("evaluation", None)
    if config.get("objective") == "supervised":
        counted = {name: value for name, value in counted.items() if name not in ("head", "loss")}
    return run_id.rpartition("-")[2] == digest(counted, version)


def upgraded(version: int, config: Mapping[str, Any]) -> dict[str, Any] | None:
    """The config in this version's keys; None where it says what no key of this version does.

    version: one of VERSIONS. Raises ValueError where it is no whole config of its version.
    """
    new = copy.deepcopy(dict(config))
    if version == 1:
        views = new["views"] if isinstance(new.get("views"), dict) else {}
        if "brightness" not in views:
            raise ValueError("it does not have the keys of its schema")
        brightness = views.pop("brightness")
        views["color"] = "pytorch"
        if brightness != "multiplicative" and "views.color" in counting_keys(values_of(new)):
            return None
    values_of(new)
    return new


def metrics_of_pretraining(version: int, metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Those that mean the same in this version."""
    changed = _CHANGED_METRICS.get(version, ())
    return {name: value for name, value in metrics.items() if name not in changed}


def _identity(config: Mapping[str, Any]) -> dict[str, Any]:
    """All but what could not change a result in any of these schemas."""
    counted = {name: value for name, value in config.items() if name != "compute"}
    if isinstance(data := counted.get("data"), Mapping):
        counted["data"] = {name: value for name, value in data.items() if name != "root"}
    return counted
