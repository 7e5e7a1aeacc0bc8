"""Trials of the user's own code on a few random numbers, before any run starts.

Nobody should have to start a hundred jobs to learn that a head returns a tuple.
"""

import copy
import functools
import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from simclr_ablate import own
from simclr_ablate.augment.build import build_policy
from simclr_ablate.augment.libraries import check_range, origins, slow_ones
from simclr_ablate.augment.policies import Policy, to_float
from simclr_ablate.config import ConfigError, is_own, own_values
from simclr_ablate.data.in_memory import ImageSet
from simclr_ablate.data.splits import Splits
from simclr_ablate.data.streamed import split_crop
from simclr_ablate.evaluation.features import FEATURE_BATCH, extract
from simclr_ablate.evaluation.protocol import Frozen, Result, Subject, find_protocol
from simclr_ablate.losses.exact import ContrastiveLoss
from simclr_ablate.losses.registry import build_loss
from simclr_ablate.models.batch_norm import check_shareable
from simclr_ablate.models.encoder import Encoder as Network
from simclr_ablate.models.head import build_head
from simclr_ablate.schema import (
    COLUMNS,
    KEYS,
    TRAINED,
    Data,
    Encoder,
    Experiment,
    Head,
    Loss,
    Views,
)
from simclr_ablate.tasks.networks import build_models, encoder_of
from simclr_ablate.training.loop import Loop
from simclr_ablate.training.micro_batches import unmoved_statistics

log = logging.getLogger(__name__)

_IMAGES = 4
_IMAGES_OF_LIBRARIES = 32
"""More of them, since many transforms leave most images as they are."""
_TOLERANCE = 1e-4


def try_own(experiment: Experiment) -> None:
    """Builds the user's own pieces of the experiment and tries each of them. Raises ConfigError.

    A piece is tried once, however many experiments have it. A data set's function is only looked up here: it is called
    when its images are made.
    """
    own_by_key = own_values(experiment)
    with torch.random.fork_rng(devices=[]):
        for name in ("data.name", "evaluation.data.name"):
            if name in own_by_key:
                own.find(name, own_by_key[name])
        if own_values(experiment.views):
            _try_views(experiment.views, experiment.data)
        if "encoder.architecture" in own_by_key and experiment.objective != "imported":
            _try_encoder(
                experiment.encoder,
                experiment.data.size,
                experiment.evaluated_data.size,
                experiment.objective in TRAINED,
            )
            if experiment.compute.ranks is not None:
                check_shareable(
                    _encoder(experiment.encoder, experiment.data.size), experiment.compute.ranks
                )
        if "head.kind" in own_by_key and experiment.objective in ("contrastive", "none"):
            _try_head(experiment.head, experiment.encoder, experiment.data.size)
        if "loss.name" in own_by_key and experiment.objective == "contrastive":
            _try_loss(experiment.loss)
        if "evaluation.protocol" in own_by_key:
            _try_protocol(experiment)


@functools.cache
def _try_views(views: Views, data: Data) -> None:
    named = ", ".join(f"{key}={name}" for key, name in own_values(views, "views").items())
    policy = build_policy(views, data)
    n = _IMAGES_OF_LIBRARIES if origins(policy.operations) else _IMAGES
    images = torch.randint(256, (n, 3, data.size, data.size), dtype=torch.uint8)
    for operation in policy.operations:
        check_range(operation, to_float(images))
    made = _make_views(named, policy, images)
    shape = (2 * n, 3, data.size, data.size)
    if tuple(made.shape) != shape:
        raise ConfigError(f"{named}: views must be {shape}, got {tuple(made.shape)}")
    if not (made.min() >= 0 and made.max() <= 1):  # also catches NaN
        raise ConfigError(
            f"{named}: views must be in [0, 1], got {made.min():.7g} to {made.max():.7g}"
        )
    if data.is_streamed:
        with own.blamed(named, "suit streamed images"):
            split_crop(policy)
    policy.chunk_bytes = 1
    again = _make_views(named, policy, images)
    if not torch.allclose(made, again, atol=_TOLERANCE):
        raise ConfigError(
            f"{named}: an operation must draw only from its generator, in `draw`, and treat each image by "
            "itself, but the same draw gave other views when images were processed one by one"
        )
    for slow in slow_ones(policy.operations):
        _tell_slow(slow)


@functools.cache
def _tell_slow(named: str) -> None:
    log.warning(
        "%s works on one image at a time, on the CPU: slower than operations of ours", named
    )


def _make_views(named: str, policy: Policy, images: Tensor) -> Tensor:
    with own.blamed(named, f"make views of images {tuple(images.shape)}"):
        return policy.two_views(images, torch.Generator().manual_seed(0))


@functools.lru_cache(maxsize=1)
def _encoder(spec: Encoder, size: int) -> Network:
    """The untrained encoder; one of ours has no weights."""
    with torch.device("cpu" if is_own(spec.architecture) else "meta"):
        return encoder_of(spec, size)


@functools.cache
def _try_encoder(spec: Encoder, size: int, evaluated_size: int, is_trained: bool) -> None:
    """Tries a network that is not ours on random images. size, evaluated_size: their sides in pretraining and after."""
    named = f"encoder.architecture={spec.architecture}"
    encoder = _encoder(spec, size)
    if is_trained and not _trainable(encoder):
        raise ConfigError(f"{named} must have parameters to train, got none")
    _try_training(encoder, torch.rand(_IMAGES, 3, size, size), named)
    for side in {size, evaluated_size}:
        images = torch.rand(_IMAGES, 3, side, side)
        task = f"take images {tuple(images.shape)} in eval mode"
        with torch.no_grad(), own.blamed(named, task):
            evaluated = copy.deepcopy(encoder).eval()
            h = evaluated(images)
            one_by_one = torch.cat([evaluated(image.unsqueeze(0)) for image in images])
        if h.shape != (_IMAGES, encoder.dim):
            raise ConfigError(
                f"{named} must map images of {size} pixels, on which it is trained, and of {side} to h of one width, "
                f"got {(_IMAGES, encoder.dim)} and {tuple(h.shape)}"
            )
        if not torch.allclose(h, one_by_one, atol=_TOLERANCE * float(h.abs().max())):
            raise ConfigError(
                f"{named} must treat each image by itself in eval mode, but images one by one have other h"
            )


def _try_training(encoder: Network, images: Tensor, named: str) -> None:
    """A step on the images, (N, 3, S, S), in training mode."""
    outputs = []
    for seed in range(2):
        torch.manual_seed(seed)
        trained = copy.deepcopy(encoder).train()
        before = {name: buffer.clone() for name, buffer in trained.named_buffers()}
        with (
            own.blamed(named, f"take images {tuple(images.shape)} in training"),
            unmoved_statistics([trained]),
        ):
            outputs.append(trained(images))
            if _trainable(trained):
                outputs[-1].square().sum().backward()
        for name, buffer in trained.named_buffers():
            if name not in before or not torch.equal(before[name], buffer):
                raise ConfigError(
                    f"{named} must keep nothing of a batch but the statistics of torch's batch norm, but changes {name}"
                )
    if not torch.equal(*outputs):
        raise ConfigError(
            f"{named} must not be random once it is made, as dropout is, but made two different h from one image"
        )
    gradients = [p.grad for p in trained.parameters() if p.grad is not None]
    if not all(bool(gradient.isfinite().all()) for gradient in gradients):
        raise ConfigError(f"{named} must have finite gradients")


def _trainable(network: nn.Module) -> bool:
    return any(p.requires_grad for p in network.parameters())


@functools.cache
def _try_head(head: Head, encoder: Encoder, size: int) -> None:
    in_dim = _encoder(encoder, size).dim
    made = build_head(head.kind, in_dim, head.dim)
    h = torch.randn(_IMAGES, in_dim)
    outputs = []
    for seed in range(2):
        torch.manual_seed(seed)
        with own.blamed(f"head.kind={head.kind}", f"take h, {tuple(h.shape)}, in training"):
            outputs.append(copy.deepcopy(made).train()(h))
    if not torch.equal(*outputs):
        raise ConfigError(
            f"head.kind={head.kind} must not be random once it is made, as dropout is, "
            "but made two different z from one h"
        )


_TAKEN = {*COLUMNS, *(key.name for key in KEYS), "evaluation_seconds"}

_tried: dict[tuple[Any, ...], tuple[str, ...]] = {}
"""The names of the metrics of each protocol that was tried, by all that a trial depends on."""


def metrics_of_own(experiment: Experiment) -> tuple[str, ...]:
    """The names of the metrics of the user's own protocol, as its trial had them. Raises ConfigError."""
    with torch.random.fork_rng(devices=[]):
        _try_protocol(experiment)
    return _tried[_tried_by(experiment)]


def _tried_by(experiment: Experiment) -> tuple[Any, ...]:
    """All that the trial of a protocol depends on."""
    several = experiment.evaluated_data.has_several_labels
    networks = (experiment.encoder, experiment.head, experiment.objective)
    return (experiment.evaluation, several, *networks)


def _try_protocol(experiment: Experiment) -> None:
    """Tries a protocol on a few random images, with one step of each training loop."""
    what = _tried_by(experiment)
    if what in _tried:
        return
    named = f"evaluation.protocol={experiment.evaluation.protocol}"
    protocol = find_protocol(experiment.evaluation.protocol)
    subject = _subject(experiment)
    test = subject.data.test
    head = subject.head if experiment.evaluation.features == "z" else None
    with own.blamed(named, "evaluate an encoder"):
        if protocol.on_network is not None:
            result: object = protocol.on_network(subject)
        else:
            assert protocol.on_features is not None
            frozen = Frozen(
                *(
                    extract(subject.encoder, images.batches(FEATURE_BATCH), head=head)
                    for images in (subject.data.train, subject.data.validation, test)
                )
            )
            result = protocol.on_features(subject, frozen)
    if not isinstance(result, Result):
        raise ConfigError(f"{named} must return a Result, got {type(result).__name__}")
    if not result.metrics:
        raise ConfigError(f"{named} must return at least one metric, got none")
    for metric, value in result.metrics.items():
        if not isinstance(value, int | float):
            raise ConfigError(
                f"{named} must return metrics that are numbers, got {type(value).__name__} "
                f"as {metric}"
            )
        if metric in _TAKEN or metric.startswith("pretraining."):
            raise ConfigError(
                f"{named} must return metrics with names of their own, got {metric}, which is a column of the table of "
                "runs"
            )
    for what_of, rows in result.examples.items():
        if not isinstance(rows, Tensor) or len(rows) != len(test):
            got = len(rows) if isinstance(rows, Tensor) else type(rows).__name__
            raise ConfigError(
                f"{named} must return one row for each test image ({len(test)}), got {got} as {what_of}"
            )
    _tried[what] = tuple(result.metrics)


def _subject(experiment: Experiment) -> Subject:
    """The experiment's untrained networks, and random images of four classes."""
    size, classes = experiment.evaluated_data.size, [str(k) for k in range(4)]
    sizes = (32, 16, 16)
    images = torch.randint(256, (sum(sizes), 3, size, size), dtype=torch.uint8)
    labels = torch.arange(sum(sizes)) % len(classes)
    if experiment.evaluated_data.has_several_labels:
        labels = one_hot(labels, len(classes))
    whole = ImageSet(images, labels, classes)
    parts = torch.arange(sum(sizes)).split(sizes)
    device = torch.device("cpu")
    encoder, head = build_models(experiment, device, len(classes))
    data = Splits(*map(whole.subset, parts))
    return Subject(experiment, data, encoder, head, device, _train_a_step)


def _train_a_step(
    make_loop: Callable[[], Loop], finish: Callable[[Loop], dict[str, float]], **_: Any
) -> dict[str, float]:
    """Takes the place of `Trainer.train`, with a single step."""
    loop = make_loop()
    loop.total_steps = 1
    loop.run(lambda _: None)
    return finish(loop)


@functools.cache
def _try_loss(spec: Loss) -> None:
    z = torch.randn(2 * _IMAGES, 16, requires_grad=True)
    loss = build_loss(spec)
    with own.blamed(f"loss.name={spec.name}", f"take z, {tuple(z.shape)}"):
        result = loss(z)
    named = f"loss.name={spec.name} must return a ContrastiveLoss of three scalar tensors"
    if not isinstance(result, ContrastiveLoss):
        raise ConfigError(f"{named}, got {type(result).__name__}")
    for field, value in result._asdict().items():
        if not isinstance(value, Tensor) or value.ndim:
            got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise ConfigError(f"{named}, got {got} as its {field}")
    with own.blamed(f"loss.name={spec.name}", "have a gradient with respect to z"):
        (gradient,) = torch.autograd.grad(result.loss, z)
    if not bool(gradient.isfinite().all()):
        raise ConfigError(f"loss.name={spec.name} must have a finite gradient with respect to z")
