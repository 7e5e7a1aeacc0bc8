"""Run ids: a readable slug and a hash of everything that can change the result.

Dora hashes the difference from the defaults, so an edited default silently changes what an old signature means. Here
the whole resolved config is hashed, except for keys that do not count: those that the schema marks with
`identity=False`, and those with a condition (`when`) that does not hold.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from simclr_ablate.calls import without_arguments
from simclr_ablate.config import UNSET, flatten
from simclr_ablate.schema import KEYS, SCHEMA_VERSION, Experiment, counting_keys, pretraining_keys

LONGEST_LABEL = 100
"""Most characters that a run id, which names a folder, takes from the label of its data set."""


def run_id(experiment: Experiment) -> str:
    """The name of the experiment's run, e.g. `shapes-resnet8-pair-crop-color-s0-1f0c9a27b3`.

    Evaluations are not part of it: they have keys of their own beside the pretrained encoder.
    """
    return run_id_of(experiment.to_config())


def run_id_of(config: Mapping[str, Any]) -> str:
    """`run_id` of a config as nested dictionaries, as runs keep it. Raises ValueError if the config is incomplete.

    It does not build the experiment, which would take most of the time of analysing a large store.
    """
    hashed = _hashed(values_of(config), evaluation=False)
    return f"{_readable(config)}-{digest(hashed)}"


def slug(run_id: str) -> str:
    """A run id without its hash."""
    return run_id.rpartition("-")[0]


def evaluation_key(experiment: Experiment) -> str:
    """The name of the experiment's evaluation inside its run, e.g. `h-5ac1b0e2`."""
    return evaluation_key_of(experiment.to_config())


def evaluation_key_of(
    config: Mapping[str, Any], beside: Mapping[str, Any] = MappingProxyType({})
) -> str:
    """`evaluation_key` of a config as nested dictionaries. Raises ValueError if the config is incomplete.

    beside: values by full name that replace those of the config in the evaluation: see `evaluated_beside`.
    """
    values = {**values_of(config), **beside}
    hashed = digest(_hashed(values, evaluation=True))[:8]
    protocol, features = values["evaluation.protocol"], values["evaluation.features"]
    if protocol == "linear":
        return f"{features}-{hashed}"
    if protocol == "probe":
        return f"{features}-{values['evaluation.probe']}-{hashed}"
    return f"{_plain(str(protocol))}-{hashed}"


def result_key(experiment: Experiment) -> tuple[str, str]:
    """The names of the experiment's run and evaluation: equal for experiments that differ only in what changes no
    result."""
    return run_id(experiment), evaluation_key(experiment)


def evaluated_beside(experiment: Experiment) -> dict[str, Any]:
    """The values of keys outside `evaluation` that count only in the evaluation: the head of a random encoder's z."""
    values = values_of(experiment.to_config())
    names = _names(values, evaluation=True)
    return {
        name: values[name]
        for name in names
        if not name.startswith("evaluation.") and not _is_as_before(name, values)
    }


def identity_config(experiment: Experiment) -> dict[str, Any]:
    """The values of the keys that count in the experiment, by full name."""
    values = values_of(experiment.to_config())
    counted = counting_keys(values)
    return {name: values[name] for name in _IDENTITY if name in counted}


def varying_keys(experiments: Sequence[Experiment]) -> list[str]:
    """The dotted keys that differ between the experiments: the columns worth a reader's time."""
    flat = [flatten(experiment.to_config()) for experiment in experiments]
    return [name for name in flat[0] if len({repr(row[name]) for row in flat}) > 1] if flat else []


def values_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Values by full name of a config as nested dictionaries. Keys that it predates have their value from `before`.

    Raises ValueError if the config is incomplete.
    """
    values = flatten(config) if isinstance(config, Mapping) else {}
    return values if values.keys() == _BEFORE.keys() else {**_added(values), **values}


def _hashed(values: Mapping[str, Any], evaluation: bool) -> dict[str, Any]:
    names = _names(values, evaluation)
    return {name: values[name] for name in names if not _is_as_before(name, values)}


def _names(values: Mapping[str, Any], evaluation: bool) -> list[str]:
    """The keys that count in pretraining, or the rest of those that count, which belong to the evaluation."""
    names = pretraining_keys(values)
    if evaluation:
        names = counting_keys(values) - names
    return [name for name in _IDENTITY if name in names]


_BEFORE = {info.name: info.before for info in KEYS}
_IDENTITY = tuple(info.name for info in KEYS if info.identity)


def _added(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values of the keys that did not exist when the config was written.

    Raises ValueError if the config lacks other keys, or has unknown ones.
    """
    missing = _BEFORE.keys() - values.keys()
    wrong = {name for name in missing if _BEFORE[name] is UNSET} | (values.keys() - _BEFORE.keys())
    if wrong:
        raise ValueError(f"it does not have the keys of the schema: {', '.join(sorted(wrong))}")
    return {name: _before(name, values) for name in missing}


def _before(name: str, values: Mapping[str, Any]) -> Any:
    """The value that stands for the key from before it existed."""
    before = _BEFORE[name]
    return before(values) if callable(before) else before


def _is_as_before(name: str, values: Mapping[str, Any]) -> bool:
    if _BEFORE[name] is UNSET:
        return False
    value, before = values[name], _before(name, values)
    return type(value) is type(before) and bool(value == before)


_encode = json.JSONEncoder(sort_keys=True).encode


def digest(counted: Mapping[str, Any], version: int = SCHEMA_VERSION) -> str:
    """A hash of the values that count in schema `version`."""
    text = _encode({"version": version, "config": counted})
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def _readable(config: Mapping[str, Any]) -> str:
    data, views, encoder = config["data"], config["views"], config["encoder"]
    names = (
        ["pair", views["first"], views["second"]]
        if views["policy"] == "pair"
        else [views["policy"]]
    )
    # Arguments can be long; the hash tells them apart.
    policy = "-".join(without_arguments(str(name)) for name in names)
    width = "" if encoder["width"] == 1 else f"x{encoder['width']}"
    objective = config["objective"]
    kind = {
        "none": "random",
        "supervised": f"supervised-{policy}",
        "imported": f"imported-{(encoder.get('fingerprint') or '')[:6]}",
    }
    parts = [
        (data["label"] or data["name"])[:LONGEST_LABEL],
        f"{without_arguments(str(encoder['architecture']))}{width}",
        kind.get(objective, policy),
        f"s{config['seed']}",
    ]
    return _plain("-".join(map(str, parts)))


def _plain(text: str) -> str:
    """`text` in lower case, with only letters, digits and hyphens."""
    return re.sub(r"[^a-z0-9-]+", "-", text.lower()).strip("-")
