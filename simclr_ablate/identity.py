"""Experiment -> run id: a readable slug and a hash of everything that can change the result.

Dora hashes the difference from the defaults, so that an edited default silently changes what an old signature means;
here the whole resolved config is hashed, less the keys that the schema marks with `identity=False`.
"""

import dataclasses
import functools
import hashlib
import json
import re
import typing
from collections.abc import Mapping, Set
from typing import Any

from simclr_ablate.schema import SCHEMA_VERSION, Evaluation, Experiment

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
    counted = {name: value for name, value in _counted(config).items() if name != "evaluation"}
    return f"{_slug(config)}-{_digest(counted)}"


def evaluation_key(experiment: Experiment) -> str:
    """The name of the experiment's evaluation inside its run, e.g. `h-5ac1b0e2`."""
    evaluation = experiment.evaluation
    kind = f"{evaluation.features}-{evaluation.probe}" if evaluation.probe else evaluation.features
    counted = _identity_fields(Evaluation, dataclasses.asdict(evaluation))
    return f"{kind}-{_digest(counted)[:8]}"


def identity_config(experiment: Experiment) -> dict[str, Any]:
    """The nested config that counts: every key but those marked with `identity=False`.

    Supervised training has neither g nor a contrastive loss, so their keys count for nothing there.
    """
    return _counted(experiment.to_config())


def _counted(config: Mapping[str, Any]) -> dict[str, Any]:
    fields = _identity_fields(Experiment, config)
    unused = ("head", "loss") if config["objective"] == "supervised" else ()
    return {name: value for name, value in fields.items() if name not in unused}


def _identity_fields(cls: type, config: Any) -> dict[str, Any]:
    known, sections, counting = _fields(cls)
    if not isinstance(config, Mapping) or config.keys() != known:
        raise ValueError(f"it does not have the keys of {cls.__name__} in the schema")
    fields = {name: config[name] for name in counting}
    for name, section in sections.items():
        inner = _identity_fields(section, config[name])
        if inner:
            fields[name] = inner
    return fields


@functools.cache
def _fields(cls: type) -> tuple[Set[str], dict[str, type], list[str]]:
    """All keys of a dataclass, those that are sections, and those of the others that count."""
    hints = typing.get_type_hints(cls)
    fields = dataclasses.fields(cls)
    sections = {f.name: hints[f.name] for f in fields if dataclasses.is_dataclass(hints[f.name])}
    counting = [f.name for f in fields if f.name not in sections and f.metadata["identity"]]
    return {field.name for field in fields}, sections, counting


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
