"""The networks of an experiment: made from its seed, or loaded from its run."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from simclr_ablate.models.classifier import build_classifier
from simclr_ablate.models.encoder import Encoder, build_encoder, memory_format
from simclr_ablate.models.head import build_head
from simclr_ablate.randomness import seeded_init
from simclr_ablate.schema import TRAINED, Experiment
from simclr_ablate.schema import Encoder as EncoderSpec
from simclr_ablate.store import Run
from simclr_ablate.store.tensors import DamagedError


def build_models(
    experiment: Experiment, device: torch.device, classes: int = 0
) -> tuple[Encoder, nn.Module]:
    """The encoder f and the projection head g, initialised from the experiment's seed.

    With objective=supervised, a linear classifier of `classes` classes takes the place of g. With objective=imported,
    g is the identity.
    """
    head: nn.Module
    with seeded_init(experiment.seed, "weights"):
        encoder = encoder_of(experiment.encoder, experiment.evaluated_data.size)
        if experiment.objective == "supervised":
            head = build_classifier(encoder.dim, classes)
        elif experiment.objective == "imported":
            head = build_head("none", encoder.dim)
        else:
            head = build_head(experiment.head.kind, encoder.dim, experiment.head.dim)
    layout = memory_format(experiment.compute)
    return encoder.to(device).to(memory_format=layout), head.to(device)


def encoder_of(spec: EncoderSpec, size: int) -> Encoder:
    """The encoder that the config describes, with weights from torch's global generator. size: see `build_encoder`."""
    return build_encoder(spec.architecture, spec.width, spec.stem, spec.mean, spec.std, size)


def products(experiment: Experiment, encoder: nn.Module, head: nn.Module) -> dict[str, nn.Module]:
    """The networks that pretraining yields, by name.

    Without training there is no head: the z of a random encoder comes from an untrained head that the evaluation adds.
    """
    if experiment.objective not in TRAINED:
        return {"encoder": encoder}
    return {"encoder": encoder, "head": head}


def load_networks(
    experiment: Experiment, run: Run, device: torch.device
) -> tuple[Encoder, nn.Module]:
    """The encoder and the head, or classifier, with the run's final weights. Raises DamagedError, StorageError."""
    weights = run.weights()
    head_weights = weights.get("head")
    classes = len(head_weights.get("weight", ())) if isinstance(head_weights, dict) else 0
    encoder, head = build_models(experiment, device, classes)
    load_models(run, products(experiment, encoder, head), weights)
    return encoder, head


def load_models(
    run: Run,
    networks: Mapping[str, nn.Module],
    weights: Mapping[str, Mapping[str, Any]] | None = None,
) -> None:
    """Loads the run's final weights into all of `networks` or none. Raises DamagedError, StorageError.

    weights: the weights, if they have been read already.
    """
    weights = run.weights() if weights is None else weights
    for name, network in networks.items():
        if _shapes(weights.get(name)) != _shapes(network.state_dict()):
            raise DamagedError(run.encoder_path, f"its {name} does not fit this experiment")
    for name, network in networks.items():
        network.load_state_dict(weights[name])


def _shapes(state: Any) -> dict[str, object]:
    if not isinstance(state, dict):
        return {}
    return {name: getattr(tensor, "shape", None) for name, tensor in state.items()}
