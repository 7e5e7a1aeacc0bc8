"""NT-Logistic, a logistic loss of each pair on its own (Table 2), block by block."""

import math

import torch
from torch import Tensor

from simclr_ablate.losses.blockwise import Block, SimilarityBlocks
from simclr_ablate.losses.candidates import OtherView
from simclr_ablate.losses.exact import (
    ContrastiveLoss,
    Terms,
    contrastive_loss,
    gradient_of_negatives,
    pull_to_positives,
)
from simclr_ablate.losses.semi_hard import margin_in_logits, semi_hard_negatives
from simclr_ablate.ranks import SOLO, Ranks


def nt_logistic(
    z: Tensor,
    temperature: float,
    normalize: bool = True,
    negatives: str = "both",
    semi_hard: bool = False,
    margin: float | None = None,
    reduction: str = "sum",
    block_size: int | None = None,
    ranks: Ranks = SOLO,
) -> ContrastiveLoss:
    """NT-Logistic of Table 2: the mean over the 2N anchors u, with positive v+, of
    `-log sigmoid(u.v+ / tau) - sum over negatives v- of log sigmoid(-u.v- / tau)`.

    Table 2 prints one negative, and the paper does not say how several are combined. Their sum is negative sampling
    (Mikolov et al. 2013, Eq. 4), which the paper names as the loss's source. Their mean averages what Table 2 prints
    over an anchor's triplets; the positive then weighs as much as all negatives together.

    z, temperature, normalize, negatives, block_size, ranks: as in `nt_xent`.
    semi_hard: each anchor has only one negative: the nearest of those that are farther than its positive
        (`u.v- < u.v+`). An anchor without one contributes nothing, not even its positive; the mean is still over all 2N
        anchors.
    margin: > 0, semi-hard only: the negative must satisfy `u.v+ - u.v- < margin`, not divided by tau. None: no limit.
        The paper restricts negatives to "within the loss margin", but this loss has no margin, and the paper tunes none
        for it (App. B.10).
    reduction: `sum` or `mean` over an anchor's negatives; no difference with semi_hard, which leaves one negative.

    Accuracy and entropy, memory and the gradient are as in `nt_xent`.

    Raises ValueError if an argument is out of range.
    """
    within = margin_in_logits(semi_hard, margin, temperature)
    if reduction not in ("sum", "mean"):
        raise ValueError(f"loss.reduction must be one of sum, mean, got {reduction!r}")

    def evaluate(blocks: SimilarityBlocks) -> Terms:
        if semi_hard:
            return _of_semi_hard(blocks, within)
        count = (1 if negatives == "one" else 2) * (blocks.n - 1)
        return _of_all(blocks, 1 / count if reduction == "mean" else 1.0)

    return contrastive_loss(z, evaluate, temperature, normalize, negatives, block_size, ranks)


def _of_all(blocks: SimilarityBlocks, weight: float) -> Terms:
    """weight: weight of each negative; the positive's is 1."""
    other_view = OtherView(blocks)
    of_negatives = blocks.v.new_zeros(len(blocks.v))

    def weigh(block: Block) -> Tensor:
        other_view.see(block)
        # A pair's loss is the same for both its anchors.
        losses = _softplus(block.similarities, out=block.spare)
        for anchors, dim in block.sides:
            of_negatives[anchors].add_(losses.sum(dim))
        return _sigmoid(block.similarities, out=block.spare).mul_(2 * weight)

    gradient = gradient_of_negatives(blocks, weigh)
    blocks.ranks.sum_([blocks.positive])
    blocks.ranks.sum_([of_negatives])
    positive = blocks.positive.repeat(2)
    losses = weight * of_negatives + _softplus(-positive)
    pull_to_positives(gradient, blocks.v, _sigmoid(-positive))
    return Terms(losses * math.log(2), gradient, *other_view.accuracy_and_entropy())


def _of_semi_hard(blocks: SimilarityBlocks, margin: float) -> Terms:
    other_view = OtherView(blocks)
    positive = other_view.see_all()
    negative = semi_hard_negatives(blocks, positive, margin)
    logit = positive - negative.beyond
    losses = negative.losses(_softplus(-positive) + _softplus(logit), positive)
    gradient = negative.gradient(blocks.v, _sigmoid(-positive), _sigmoid(logit))
    return Terms(losses * math.log(2), gradient, *other_view.accuracy_and_entropy())


def _softplus(logits: Tensor, out: Tensor | None = None) -> Tensor:
    """`log2(1 + 2**logit)`, which is -log2 of the sigmoid of -logit, for base-2 logits."""
    return torch.logaddexp2(logits, logits.new_zeros(()), out=out)


def _sigmoid(logits: Tensor, out: Tensor | None = None) -> Tensor:
    """The sigmoid of base-2 logits."""
    return torch.mul(logits, math.log(2), out=out).sigmoid_()
