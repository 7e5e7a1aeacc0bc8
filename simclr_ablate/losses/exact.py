"""What the contrastive losses share: their arguments, their result, and a gradient made in the forward pass."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from simclr_ablate.losses.blockwise import Block, SimilarityBlocks
from simclr_ablate.ranks import SOLO, Ranks

_SMALLEST_NORM = 1e-12


class ContrastiveLoss(NamedTuple):
    """A contrastive loss over the 2N anchors of a batch, and the contrastive prediction of Table 5.

    That is to find an image's second view among those of all N images, given its first view: the released code takes
    no others as anchors. Its candidates are these N, whatever the loss compares.
    """

    loss: Tensor
    """Scalar, differentiable: the mean over the anchors; nats, for a loss made of logarithms."""
    accuracy: Tensor
    """Scalar in [0, 1], detached: share of first views whose own second view is the nearest of all."""
    entropy: Tensor
    """Scalar, detached: mean over the first views of the entropy of the softmax over the N second views, nats; at most
    ln N."""


class Terms(NamedTuple):
    """What a loss is, of blocks whose similarities are logits in base 2."""

    losses: Tensor
    """(2N,): every anchor's loss."""
    gradient: Tensor
    """(2N, D): of `losses.sum() / ln 2` with respect to the blocks' v."""
    accuracy: Tensor
    """Scalar: as in ContrastiveLoss."""
    entropy: Tensor
    """Scalar: as in ContrastiveLoss."""


def contrastive_loss(
    z: Tensor,
    evaluate: Callable[[SimilarityBlocks], Terms],
    temperature: float,
    normalize: bool = True,
    negatives: str = "both",
    block_size: int | None = None,
    ranks: Ranks = SOLO,
) -> ContrastiveLoss:
    """The mean over the 2N anchors of z of the loss that `evaluate` makes of their similarities.

    evaluate: given blocks whose similarities are `u.v / (temperature ln 2)`, so that exp2 of them is
        `exp(u.v / temperature)`: exp2 takes half the time of exp on CPUs.

    All else is as in `nt_xent`. Raises ValueError for an argument out of its range.
    """
    if not temperature > 0:
        raise ValueError(f"loss.temperature must be > 0, got {temperature}")
    if negatives not in ("both", "one"):
        raise ValueError(f"loss.negatives must be one of both, one, got {negatives!r}")
    if z.ndim != 2 or len(z) % 2 or len(z) < 4:
        raise ValueError(f"z must have shape (2N, D) with N >= 2, got {tuple(z.shape)}")
    if block_size is None:
        block_size = _suitable_block_size(len(z) // 2, z.device, ranks)
    if block_size < 1:
        raise ValueError(f"block_size must be >= 1, got {block_size}")
    with torch.autocast(z.device.type, enabled=False):
        z = z if z.dtype == torch.float64 else z.float()
        return ContrastiveLoss(
            *_Exact.apply(
                z, evaluate, temperature, normalize, negatives == "both", block_size, ranks
            )
        )


def _suitable_block_size(n: int, device: torch.device, ranks: Ranks) -> int:
    """Small enough for several ranks to have about equal work, large enough to be worth a call."""
    smallest, largest = (128, 512) if device.type == "cpu" else (512, 4096)
    if ranks.count == 1:
        return largest
    # k blocks along each view are k * k at least, here 4 a rank: of so many, one more is little.
    along_a_view = math.ceil(math.sqrt(4 * ranks.count))
    return min(largest, max(smallest, -(-n // along_a_view)))


class _Exact(torch.autograd.Function):
    """The loss of z, with the gradient computed along with it."""

    @staticmethod
    def forward(
        ctx: Any,
        z: Tensor,
        evaluate: Callable[[SimilarityBlocks], Terms],
        temperature: float,
        normalize: bool,
        within: bool,
        block_size: int,
        ranks: Ranks,
    ) -> tuple[Tensor, Tensor, Tensor]:
        scale = math.sqrt(math.log2(math.e) / temperature)
        norm = torch.linalg.vector_norm(z, dim=1, keepdim=True).clamp_(min=_SMALLEST_NORM)
        unit = z / norm if normalize else z
        spread = 2 * scale**2 if normalize else math.inf
        terms = evaluate(SimilarityBlocks(unit * scale, within, block_size, ranks, spread))
        gradient = terms.gradient
        gradient *= scale * math.log(2) / len(z)
        if normalize:
            along = torch.linalg.vecdot(unit, gradient).unsqueeze(1)
            gradient = gradient.addcmul_(unit, along, value=-1).div_(norm)
        ctx.save_for_backward(gradient)

        ctx.mark_non_differentiable(terms.accuracy, terms.entropy)
        return terms.losses.mean(), terms.accuracy, terms.entropy

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, loss: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return gradient * loss, None, None, None, None, None, None


def gradient_of_negatives(blocks: SimilarityBlocks, weigh: Callable[[Block], Tensor]) -> Tensor:
    """(2N, D): sum over negatives j of w_ij v_j. Overwrites the blocks.

    weigh: a block -> w of its pairs: the derivative with respect to a pair's logit, of the losses of
        both its views. It may return the block's own memory.
    """
    v = blocks.v
    gradient = torch.zeros_like(v)
    for block in blocks:
        weights = weigh(block)
        gradient[block.rows].addmm_(weights, v[block.columns])
        if not block.is_symmetric:
            gradient[block.columns].addmm_(weights.T, v[block.rows])
    blocks.ranks.sum_([gradient])
    return gradient


def for_both_anchors(block: Block, weigh: Callable[[Tensor, slice, int], Tensor]) -> Tensor:
    """The weights of a block's pairs, of those that each of their anchors gives them. Overwrites the block.

    weigh: (memory, anchors, dim) -> w of the pairs of those anchors, whose negatives lie along
        `dim`; it writes them into `memory`, which may be that of the similarities.
    """
    weights = weigh(block.spare, block.rows, 1)
    if block.is_symmetric:
        return torch.add(weights, weights.T, out=block.similarities)
    return weights.add_(weigh(block.similarities, block.columns, 0))


def pull_to_positives(gradient: Tensor, v: Tensor, pull: Tensor) -> None:
    """Adds to the gradient what positive pairs do to it.

    pull: (2N,), >= 0: less the derivative of every anchor's loss with respect to the logit of its positive.
    """
    of_the_pair = pull.unflatten(0, (2, -1)).sum(0).unsqueeze(1)
    for ours, theirs in zip(gradient.chunk(2), reversed(v.chunk(2)), strict=True):
        ours.addcmul_(of_the_pair, theirs, value=-1)
