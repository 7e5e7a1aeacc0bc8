"""Features of a frozen network: h = f(x), or z = g(h)."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import zip_longest
from typing import NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from simclr_ablate.ranks import SOLO, Ranks

FEATURE_BATCH = 512
"""Images per forward pass of a frozen network."""


class Features(NamedTuple):
    """The outputs of a network for a set of images, on the CPU."""

    features: Tensor
    """(N, D) float32."""
    labels: Tensor
    """(N,) int64; or (N, classes), if images may have several labels: see `images.Images`."""

    @classmethod
    def none(cls) -> Self:
        """Features of no images, which all ranks but the first get."""
        return cls(torch.empty(0, 0), torch.empty(0, dtype=torch.long))


Batches = Iterable[tuple[Tensor, Tensor]]
"""Batches of images (B, 3, H, W), uint8 or float in [0, 1], with their labels, (B,) or (B, classes)."""


def extract(
    encoder: nn.Module,
    batches: Batches,
    device: torch.device | str = "cpu",
    head: nn.Module | None = None,
    ranks: Ranks = SOLO,
) -> Features:
    """Features of all images, in eval mode: batch norm uses its running statistics (App. B.6).

    encoder, head: on `device`; left as they were, modes included. head=None gives h, otherwise z = head(h).
    batches: with several ranks, each passes every `count`-th batch; the first gets all features, the others none.

    Raises ValueError if there are no images.
    """
    network = encoder if head is None else nn.Sequential(encoder, head)
    features, labels = [], []
    with torch.no_grad(), _mode(network, training=False):
        for images, targets in batches:
            features.append(network(_as_floats(images, device)).float().cpu())
            labels.append(targets.cpu())
    features, labels = _in_turn(ranks.collect(features)), _in_turn(ranks.collect(labels))
    if not ranks.is_first:
        return Features.none()
    if not features:
        raise ValueError("features need at least one image, got none")
    return Features(torch.cat(features), torch.cat(labels))


def reset_batchnorm(
    network: nn.Module,
    batches: Batches,
    device: torch.device | str = "cpu",
    ranks: Ranks = SOLO,
) -> None:
    """Sets the running statistics of batch norm to their averages over one pass of the images.

    An untrained network needs this to be a fair reference: otherwise it keeps the running statistics
    that it was created with. Every batch has the same weight in the averages, so batches should be of
    one size. Weights and modes are left as they were. With several ranks, each passes every `count`-th
    batch, and each batch is normalised by itself.

    Raises ValueError if there are no images.
    """
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # torch's name for the cumulative average
    try:
        with torch.no_grad(), _mode(network, training=True):
            for images, _ in batches:
                network(_as_floats(images, device))
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
    _average_statistics(norms, ranks)


def _average_statistics(norms: Sequence[_BatchNorm], ranks: Ranks) -> None:
    """Joins the ranks' running statistics, averages over their own batches, to averages over all batches."""
    for norm in norms:
        assert norm.running_mean is not None
        assert norm.running_var is not None
        assert norm.num_batches_tracked is not None
        batches = norm.num_batches_tracked.expand(1).to(norm.running_mean.dtype)
        own = torch.cat([norm.running_mean, norm.running_var, batches])
        # In float64, a single process gets back exactly the numbers that it has; not every device knows it.
        averages, counts = torch.stack(ranks.gather(own)).cpu().double().tensor_split([-1], dim=1)
        total = counts.sum()
        if not total:
            raise ValueError("batch norm needs at least one image, got none")
        mean, variance = ((averages * counts).sum(0) / total).chunk(2)
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance)
        norm.num_batches_tracked.copy_(total)


def _in_turn(everyones: list[list[Tensor]]) -> list[Tensor]:
    """The batches in their order; the ranks got them in turn."""
    return [batch for turn in zip_longest(*everyones) for batch in turn if batch is not None]


def _as_floats(images: Tensor, device: torch.device | str) -> Tensor:
    images = images.to(device, non_blocking=True)
    return images.float() / 255 if images.dtype == torch.uint8 else images.float()


@contextmanager
def _mode(network: nn.Module, training: bool) -> Iterator[None]:
    modes = [(module, module.training) for module in network.modules()]
    network.train(training)
    try:
        yield
    finally:
        for module, was_training in modes:
            module.training = was_training
