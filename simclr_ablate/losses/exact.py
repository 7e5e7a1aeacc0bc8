"""What the contrastive losses share: arguments, result, and a gradient computed in the forward pass."""

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

    The contrastive prediction is to find an image's second view among the second views of all N images, given its
    first view. As in the released code, only first views are anchors; the candidates are these N, whatever the loss
    compares.
    """

    loss: Tensor
    """Scalar, differentiable: the mean over the anchors, in nats if the loss is made of logarithms."""
    accuracy: Tensor
    """Scalar in [0, 1], detached: share of first views that are nearer to their own second view than to any other."""
    entropy: Tensor
    """Scalar, detached: entropy of the softmax over the N second views, nats, at most ln N; mean over first views."""


class Terms(NamedTuple):
    """A loss and its gradient, computed from blocks of base-2 logits."""

    losses: Tensor
    """(2N,): every anchor's loss."""
    gradient: Tensor
    """(2N, D): gradient of `losses.sum() / ln 2` with respect to the blocks' v."""
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
    """The loss that `evaluate` computes from similarities, as a mean over the 2N anchors of z.

    evaluate: takes blocks of base-2 logits, `u.v / (temperature ln 2)`. Their exp2 is `exp(u.v / temperature)`, in half
        the time that exp takes on CPUs.

    The other arguments are as in `nt_xent`. Raises ValueError if an argument is out of range.
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
    """A side small enough for several ranks to have about equal work, and large enough to be worth a call."""
    smallest, largest = (128, 512) if device.type == "cpu" else (512, 4096)
    if ranks.count == 1:
        return largest
    # k blocks along each view make at least k * k, here 4 per rank: with so many, one more is a small imbalance.
    along_a_view = math.ceil(math.sqrt(4 * ranks.count))
    return min(largest, max(smallest, -(-n // along_a_view)))


class _Exact(torch.autograd.Function):
    """The loss of z; the forward pass computes its gradient too."""

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

    weigh: block -> w of its pairs. A pair's w is the derivative of the losses of both its views with respect to its
        logit. The result may be in the block's own memory.
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
    """The weights of a block's pairs: for each pair, the sum over both its anchors. Overwrites the block.

    weigh: (memory, anchors, dim) -> what these anchors, with their negatives along `dim`, give to their pairs. It
        writes the result into `memory`, which may be that of the similarities.
    """
    weights = weigh(block.spare, block.rows, 1)
    if block.is_symmetric:
        return torch.add(weights, weights.T, out=block.similarities)
    return weights.add_(weigh(block.similarities, block.columns, 0))


def pull_to_positives(gradient: Tensor, v: Tensor, pull: Tensor) -> None:
    """Adds the positive pairs' part to the gradient, in place.

    pull: (2N,), >= 0: minus the derivative of every anchor's loss with respect to the logit of its positive.
    """
    of_the_pair = pull.unflatten(0, (2, -1)).sum(0).unsqueeze(1)
    for ours, theirs in zip(gradient.chunk(2), reversed(v.chunk(2)), strict=True):
        ours.addcmul_(of_the_pair, theirs, value=-1)
