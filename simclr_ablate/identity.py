"""Experiment -> run id: a readable slug and a hash of everything that can change the result.

Dora hashes the difference from the defaults, so that an edited default silently changes what an old signature means;
here the whole resolved config is hashed, less the keys that the schema marks with `identity=False`.
"""

import dataclasses
import hashlib
import json
import re
from typing import Any

from simclr_ablate.schema import SCHEMA_VERSION, Experiment

LONGEST_LABEL = 100
"""Characters of a data set's label in a run id, which is the name of a folder."""


def run_id(experiment: Experiment) -> str:
    """The name of the experiment's run, e.g. `shapes-resnet8-pair-crop-color-s0-1f0c9a27b3`.

    Evaluations are not part of it: they are kept under keys of their own beside the pretrained encoder.
    """
    config = {
        name: value for name, value in identity_config(experiment).items() if name != "evaluation"
    }
    return f"{_slug(experiment)}-{_digest(config)}"


def evaluation_key(experiment: Experiment) -> str:
    """The name of the experiment's evaluation inside its run, e.g. `h-5ac1b0e2`."""
    evaluation = experiment.evaluation
    kind = f"{evaluation.features}-{evaluation.probe}" if evaluation.probe else evaluation.features
    return f"{kind}-{_digest(_identity_fields(evaluation))[:8]}"


def identity_config(experiment: Experiment) -> dict[str, Any]:
    """The nested config that counts: every key but those marked with `identity=False`.

    Supervised training has neither g nor a contrastive loss, so their keys count for nothing there.
    """
    fields = _identity_fields(experiment)
    unused = ("head", "loss") if experiment.objective == "supervised" else ()
    return {name: value for name, value in fields.items() if name not in unused}


def _identity_fields(node: Any) -> dict[str, Any]:
    fields = {}
    for field in dataclasses.fields(node):
        value = getattr(node, field.name)
        if dataclasses.is_dataclass(value):
            fields[field.name] = _identity_fields(value)
        elif field.metadata["identity"]:
            fields[field.name] = value
    return {name: value for name, value in fields.items() if value != {}}


def _digest(config: dict[str, Any]) -> str:
    text = json.dumps({"version": SCHEMA_VERSION, "config": config}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def _slug(experiment: Experiment) -> str:
    data, views, encoder = experiment.data, experiment.views, experiment.encoder
    policy = f"pair-{views.first}-{views.second}" if views.policy == "pair" else views.policy
    parts = [
        (data.label or data.name)[:LONGEST_LABEL],
        encoder.architecture + (f"x{encoder.width}" if encoder.width > 1 else ""),
        {"none": "random", "supervised": f"supervised-{policy}"}.get(experiment.objective, policy),
        f"s{experiment.seed}",
    ]
    return re.sub(r"[^a-z0-9-]+", "-", "-".join(parts).lower()).strip("-")
