"""Weights in: the tensors of a source as those of an encoder of ours, checked before anything starts."""

import dataclasses
import hashlib
import logging
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from simclr_ablate.config import ConfigError, is_own, one_of
from simclr_ablate.models.encoder import Encoder as Network
from simclr_ablate.models.encoder import build_encoder
from simclr_ablate.paths import absolute
from simclr_ablate.schema import RESNETS, Encoder
from simclr_ablate.weights.matching import OWN, fitting, match, plain_name, shapes_of
from simclr_ablate.weights.sources import Brought, Preprocessing, bring, is_file
from simclr_ablate.weights.tensorflow import SCOPE

log = logging.getLogger(__name__)

_POOLS = ("imagenet", "tensorflow")
"""Stems that differ in nothing that weights show."""

_SIDE = 96
_TOLERANCE = 1e-4


class Imported(NamedTuple):
    """An encoder's weights, and what their source says.

    tensors: the encoder's state dict. ignored: see `Matched`.
    """

    tensors: dict[str, Tensor]
    fingerprint: str
    label: str
    preprocessing: Preprocessing
    ignored: tuple[str, ...]


def read_weights(spec: Encoder, size: int) -> Imported:
    """The weights of `spec.weights` for the encoder that `spec` describes.

    size: side of the images that the encoder has to take. Raises ConfigError if the source cannot be read, or does not
    hold this encoder.
    """
    assert spec.weights is not None  # the schema requires it
    named = f"encoder.weights={spec.weights}"
    brought = bring(spec.weights)
    is_ours = not is_own(spec.architecture)
    if not is_ours and any(name.startswith(SCOPE) for name in brought.tensors):
        raise ConfigError(
            f"encoder.architecture must be {one_of(RESNETS)} for {named}, which is of the paper's released code, "
            f"got {spec.architecture!r}"
        )
    # Weights that are about to be replaced need not be drawn, but other networks may not do without.
    with torch.random.fork_rng(devices=[]), torch.device("meta" if is_ours else "cpu"):
        network = build_encoder(spec.architecture, spec.width, spec.stem, size=size)
    matched = match(
        brought.tensors,
        shapes_of(network),
        named,
        lambda: fitting(brought.tensors, named) if is_ours else "",
    )
    tensors = {name: matched.tensors[plain_name(name)] for name in network.state_dict()}
    for name, tensor in matched.tensors.items():
        if not bool(tensor.isfinite().all()):
            raise ConfigError(f"{named} has values that are not finite, in {name} of the encoder")
    if is_ours:
        _check_stem(spec, brought, matched.of_tensorflow, named)
    network.load_state_dict(tensors, assign=True)
    if brought.model is not None:
        _check_same(network, brought.model, spec, size if not is_ours else _SIDE, named)
    return Imported(
        tensors, fingerprint(tensors), brought.label, brought.preprocessing, matched.ignored
    )


def _check_stem(spec: Encoder, brought: Brought, of_tensorflow: bool, named: str) -> None:
    """Raises ConfigError for a stem with the same weights as the source's, and other features."""
    told = brought.metadata.get("encoder", {}).get("stem")
    if told is None and of_tensorflow and spec.stem in _POOLS:
        told = "tensorflow"
    if told is not None and told != spec.stem:
        raise ConfigError(f"encoder.stem must be {told} for {named}, got {spec.stem!r}")


def _check_same(network: Network, theirs: nn.Module, spec: Encoder, size: int, named: str) -> None:
    """Raises ConfigError if the source's own network has other features.

    Networks with the same names and shapes may still differ, as in strides or where they pool.
    """
    images = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        ours, reference = network.eval()(images), theirs.eval()(images)
    scale = reference.abs().max()
    if ours.shape != reference.shape or (ours - reference).abs().max() > _TOLERANCE * scale:
        raise ConfigError(
            f"{named} is of another network than encoder.architecture={spec.architecture} "
            f"encoder.stem={spec.stem}, though its weights fit: their features differ"
        )


def fingerprint(tensors: Mapping[str, Tensor]) -> str:
    """A hash of an encoder's weights by their names, whatever file they come from.

    Batch norm's counts of batches are left out: they change nothing, and not every format has them.
    """
    digest = hashlib.sha256()
    for name in sorted(tensors):
        if name.endswith("num_batches_tracked"):
            continue
        plain = tensors[name].detach().cpu().float().contiguous()
        digest.update(f"{name.removeprefix(OWN)} {tuple(plain.shape)} ".encode())
        digest.update(plain.numpy().data)
    return digest.hexdigest()[:24]


def complete_weights(spec: Encoder, size: int) -> Encoder:
    """Fills in what identifies the weights, and what their source says of images. Raises ConfigError.

    size: side of the images, in pixels; what the source says of others is logged.
    """
    assert spec.weights is not None
    if is_file(spec.weights):
        spec = dataclasses.replace(spec, weights=absolute(spec.weights, "encoder.weights"))
    imported = read_weights(spec, size)
    told = imported.preprocessing
    mean, std = (told.mean, told.std) if spec.mean is None else (spec.mean, spec.std)
    # Where null would stand for what the source says, no normalisation has to stay written out.
    if told.mean is None and (mean, std) == ((0, 0, 0), (1, 1, 1)):
        mean = std = None
    for line in _remarks(spec, imported, size):
        log.warning("encoder.weights=%s: %s", spec.weights, line)
    return dataclasses.replace(
        spec,
        fingerprint=imported.fingerprint,
        mean=mean,
        std=std,
        label=spec.label or imported.label,
    )


def _remarks(spec: Encoder, imported: Imported, size: int) -> list[str]:
    """What a user should know before anything starts, in lines."""
    told, lines = imported.preprocessing, []
    if not told.is_known and spec.mean is None:
        lines.append(
            "it does not say how images were normalised; without encoder.mean and encoder.std they stay in [0, 1]"
        )
    if told.size is not None and told.size != size:
        how = f", resized by {told.interpolation} interpolation" if told.interpolation else ""
        lines.append(f"made for images of {told.size} pixels{how}; here they have {size}")
    if imported.ignored:
        lines.append(f"left out, as no part of the encoder: {', '.join(imported.ignored)}")
    return lines


def import_weights(spec: Encoder, size: int) -> dict[str, Tensor]:
    """The encoder's state dict. Raises ConfigError if the source has changed since the run was planned."""
    imported = read_weights(spec, size)
    if imported.fingerprint != spec.fingerprint:
        raise ConfigError(
            f"encoder.weights={spec.weights} holds other weights than when the run was planned "
            f"(encoder.fingerprint is {spec.fingerprint}, theirs {imported.fingerprint}): run the command again "
            "to use the new ones"
        )
    return imported.tensors
