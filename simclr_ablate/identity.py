"""Experiment -> run id: a readable slug and a hash of everything that can change the result.

Dora hashes the difference from the defaults, so that an edited default silently changes what an old signature means;
here the whole resolved config is hashed, minus the keys that do not count in it: those that the schema marks with
`identity=False`, and those whose condition (`when`) does not hold.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from simclr_ablate.config import UNSET, flatten
from simclr_ablate.schema import KEYS, SCHEMA_VERSION, Experiment, counting_keys, pretraining_keys

LONGEST_LABEL = 100
"""Characters of a data set's label in a run id, which is the name of a folder."""


def run_id(experiment: Experiment) -> str:
    """The name of the experiment's run, e.g. `shapes-resnet8-pair-crop-color-s0-1f0c9a27b3`.

    Evaluations are not part of it: they are kept under keys of their own beside the pretrained encoder.
    """
    return run_id_of(experiment.to_config())


def run_id_of(config: Mapping[str, Any]) -> str:
    """The same of a config as nested dictionaries, such as a run keeps it. Raises ValueError where it is no whole one.

    Without building the experiment, which would take most of the analysis of a large store.
    """
    digest = _digest(_counted(config, evaluation=False))
    return f"{_slug(config)}-{digest}"


def evaluation_key(experiment: Experiment) -> str:
    """The name of the experiment's evaluation inside its run, e.g. `h-5ac1b0e2`."""
    return evaluation_key_of(experiment.to_config())


def evaluation_key_of(config: Mapping[str, Any]) -> str:
    """The same of a config as nested dictionaries. Raises ValueError where it is no whole one."""
    digest = _digest(_counted(config, evaluation=True))
    features, probe = config["evaluation"]["features"], config["evaluation"]["probe"]
    return f"{features}-{probe}-{digest[:8]}" if probe else f"{features}-{digest[:8]}"


def evaluated_beside(experiment: Experiment) -> dict[str, Any]:
    """The keys of other sections that count in the evaluation alone, by full name: the head of a random encoder's z."""
    counted = _counted(experiment.to_config(), evaluation=True)
    return {name: value for name, value in counted.items() if not name.startswith("evaluation.")}


def identity_config(experiment: Experiment) -> dict[str, Any]:
    """The keys that count in the experiment, by full name, with their values."""
    return counting(experiment.to_config())


def counting(config: Mapping[str, Any]) -> dict[str, Any]:
    """The keys that count in a config, with their values. Raises ValueError where it is no whole config."""
    values = _values(config)
    counted = counting_keys(values)
    return {name: values[name] for name in _IDENTITY if name in counted}


def _counted(config: Mapping[str, Any], evaluation: bool) -> dict[str, Any]:
    """What is hashed: of pretraining, or of the evaluation, to which all else belongs that counts."""
    values = _values(config)
    names = pretraining_keys(values)
    if evaluation:
        names = counting_keys(values) - names
    return {
        name: values[name]
        for name in _IDENTITY
        if name in names and not _is_as_before(name, values[name])
    }


def _values(config: Mapping[str, Any]) -> dict[str, Any]:
    values = flatten(config) if isinstance(config, Mapping) else {}
    return values if values.keys() == _BEFORE.keys() else {**_added(values), **values}


_BEFORE = {info.name: info.before for info in KEYS}
_IDENTITY = tuple(info.name for info in KEYS if info.identity)


def _added(values: Mapping[str, Any]) -> dict[str, Any]:
    """The keys that did not exist yet when the config was written. Raises ValueError where that explains not all."""
    missing = _BEFORE.keys() - values.keys()
    wrong = {name for name in missing if _BEFORE[name] is UNSET} | (values.keys() - _BEFORE.keys())
    if wrong:
        raise ValueError(f"it does not have the keys of the schema: {', '.join(sorted(wrong))}")
    return {name: _BEFORE[name] for name in missing}


def _is_as_before(name: str, value: Any) -> bool:
    before = _BEFORE[name]
    return before is not UNSET and type(value) is type(before) and bool(value == before)


_encode = json.JSONEncoder(sort_keys=True).encode


def _digest(config: dict[str, Any]) -> str:
    text = _encode({"version": SCHEMA_VERSION, "config": config})
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def _slug(config: Mapping[str, Any]) -> str:
    data, views, encoder = config["data"], config["views"], config["encoder"]
    policy = (
        f"pair-{views['first']}-{views['second']}" if views["policy"] == "pair" else views["policy"]
    )
    width = "" if encoder["width"] == 1 else f"x{encoder['width']}"
    objective = config["objective"]
    trained = f"supervised-{policy}" if objective == "supervised" else policy
    parts = [
        (data["label"] or data["name"])[:LONGEST_LABEL],
        f"{encoder['architecture']}{width}",
        "random" if objective == "none" else trained,
        f"s{config['seed']}",
    ]
    return re.sub(r"[^a-z0-9-]+", "-", "-".join(map(str, parts)).lower()).strip("-")
