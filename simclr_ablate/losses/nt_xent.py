"""NT-Xent, the normalised temperature-scaled cross entropy loss (Eq. 1), block by block."""

import functools
import math
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from simclr_ablate.losses.blockwise import SimilarityBlocks
from simclr_ablate.training.distributed import SOLO, Ranks

_SMALLEST_NORM = 1e-12


class ContrastiveLoss(NamedTuple):
    """A contrastive loss over the 2N anchors of a batch, and what it says of them (Table 5)."""

    loss: Tensor
    """Scalar, differentiable: the mean over the anchors, nats."""
    accuracy: Tensor
    """Scalar in [0, 1], detached: share of anchors nearer to their positive than any negative."""
    entropy: Tensor
    """Scalar, detached: mean entropy of the softmax over an anchor's candidates, nats."""


def nt_xent(
    z: Tensor,
    temperature: float,
    normalize: bool = True,
    negatives: str = "both",
    block_size: int | None = None,
    ranks: Ranks = SOLO,
) -> ContrastiveLoss:
    """NT-Xent, Eq. 1 and Algorithm 1 of SimCLR: the mean over the 2N anchors of `-log p(positive)`.

    The released code adds the means of the two views, and so returns twice this value.

    z: (2N, D), rows i and i+N are the two views of image i. The arithmetic is float32, or float64
        for a float64 z, under autocast too.
    temperature: tau, > 0.
    normalize: l2-normalise z first, so that similarities are cosines; without it they are dot
        products (Table 5).
    negatives: the views that an anchor is told from.
        `both`: all views of other images, 2N-2 negatives (Eq. 1).
        `one`: N-1 negatives. For Table 4 the paper takes "negatives from one augmentation view"
        and does not say which. Here it is the view that holds the anchor's positive, so that an
        anchor has one candidate for each image; both views take their turn as anchors.
    block_size: side of the blocks of similarities held at a time; None: what suits the device. It
        changes memory, time and rounding only.
    ranks: processes that share the work. All have the same z, that of the whole batch, and get the
        same loss and the gradient of all of z.

    Memory grows with N, not with its square: the similarities are computed twice, first for the
    softmax's denominators, then for the exact gradient, which is done when the forward pass ends.
    There is no second derivative.

    Raises ValueError for an argument out of its range.
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
            *_NTXent.apply(z, temperature, normalize, negatives == "both", block_size, ranks)
        )


def _suitable_block_size(n: int, device: torch.device, ranks: Ranks) -> int:
    """Small enough for several ranks to have about equal work, large enough to be worth a call."""
    smallest, largest = (128, 512) if device.type == "cpu" else (512, 4096)
    if ranks.count == 1:
        return largest
    # k blocks along each view are k * k at least, here 4 a rank: of so many, one more is little.
    along_a_view = math.ceil(math.sqrt(4 * ranks.count))
    return min(largest, max(smallest, -(-n // along_a_view)))


class _NTXent(torch.autograd.Function):
    """The loss of z, with the gradient computed along with it."""

    @staticmethod
    def forward(
        ctx: Any,
        z: Tensor,
        temperature: float,
        normalize: bool,
        within: bool,
        block_size: int,
        ranks: Ranks,
    ) -> tuple[Tensor, Tensor, Tensor]:
        # Logits are v . v', in base 2: exp2 takes half the time of exp on CPUs.
        scale = math.sqrt(math.log2(math.e) / temperature)
        norm = torch.linalg.vector_norm(z, dim=1, keepdim=True).clamp_(min=_SMALLEST_NORM)
        unit = z / norm if normalize else z
        v = unit * scale
        blocks = SimilarityBlocks(v, within, block_size, ranks)
        hardest, negative = _log_sums_of_negatives(blocks)
        blocks.ranks.sum_([blocks.positive])
        positive = blocks.positive.repeat(2)
        log_sum = torch.logaddexp2(negative, positive)
        gradient = _gradient_of_negatives(blocks, log_sum)
        # Half: every pair is in the gradients of both its views, and so twice in the product.
        sum_of_logits = v.flatten() @ gradient.flatten() / 2
        sum_of_logits += positive @ torch.exp2(positive - log_sum)

        # 1 - p(positive), precise where p(positive) rounds to 1.
        missed = torch.exp2(negative - log_sum).unflatten(0, (2, -1)).sum(0).unsqueeze(1)
        for ours, theirs in zip(gradient.chunk(2), reversed(v.chunk(2)), strict=True):
            ours.addcmul_(missed, theirs, value=-1)
        gradient *= scale * math.log(2) / len(v)
        if normalize:
            along = torch.linalg.vecdot(unit, gradient).unsqueeze(1)
            gradient = gradient.addcmul_(unit, along, value=-1).div_(norm)
        ctx.save_for_backward(gradient)

        loss = F.softplus((negative - positive) * math.log(2)).mean()
        accuracy = (positive > hardest).to(z.dtype).mean()
        entropy = ((log_sum.mean() - sum_of_logits / len(v)) * math.log(2)).clamp(min=0)
        ctx.mark_non_differentiable(accuracy, entropy)
        return loss, accuracy, entropy

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, loss: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return gradient * loss, None, None, None, None, None


def _log_sums_of_negatives(blocks: SimilarityBlocks) -> tuple[Tensor, Tensor]:
    """Of every anchor: its largest negative logit, and log2 of the sum of 2**logit over them all.

    The largest so far is what the sums so far are relative to, so that no temperature is too low.
    """
    v = blocks.v
    largest = v.new_full((len(v),), torch.finfo(v.dtype).min)
    total = v.new_zeros(len(v))
    for rows, columns, logits, spare in blocks:
        for anchors, dim in [(rows, 1)] if rows == columns else [(rows, 1), (columns, 0)]:
            seen = largest[anchors]
            larger = torch.maximum(seen, logits.amax(dim))
            terms = torch.sub(logits, larger.unsqueeze(dim), out=spare).exp2_()
            total[anchors].mul_(seen.sub_(larger).exp2_()).add_(terms.sum(dim))
            seen.copy_(larger)
    everyones = blocks.ranks.gather(torch.stack([largest, largest + total.log2_()]))
    largest = functools.reduce(torch.maximum, [each[0] for each in everyones])
    return largest, functools.reduce(torch.logaddexp2, [each[1] for each in everyones])


def _gradient_of_negatives(blocks: SimilarityBlocks, log_sum: Tensor) -> Tensor:
    """(2N, D): sum over negatives j of (p_ij + p_ji) v_j. Overwrites the blocks."""
    v = blocks.v
    gradient = torch.zeros_like(v)
    for rows, columns, logits, spare in blocks:
        p = torch.sub(logits, log_sum[rows].unsqueeze(1), out=spare).exp2_()
        if rows == columns:
            gradient[rows].addmm_(torch.add(p, p.T, out=logits), v[columns])
        else:
            p += logits.sub_(log_sum[columns]).exp2_()
            gradient[rows].addmm_(p, v[columns])
            gradient[columns].addmm_(p.T, v[rows])
    blocks.ranks.sum_([gradient])
    return gradient
