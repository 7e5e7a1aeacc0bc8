"""The margin triplet loss (Table 2), block by block."""

import math

import torch
from torch import Tensor

from simclr_ablate.losses.blockwise import Block, SimilarityBlocks
from simclr_ablate.losses.candidates import OtherView
from simclr_ablate.losses.exact import (
    ContrastiveLoss,
    Terms,
    contrastive_loss,
    for_both_anchors,
    gradient_of_negatives,
    pull_to_positives,
)
from simclr_ablate.losses.semi_hard import semi_hard_negatives
from simclr_ablate.ranks import SOLO, Ranks


def margin_triplet(
    z: Tensor,
    margin: float,
    temperature: float = 1.0,
    normalize: bool = True,
    negatives: str = "both",
    semi_hard: bool = False,
    block_size: int | None = None,
    ranks: Ranks = SOLO,
) -> ContrastiveLoss:
    """The margin triplet loss of Table 2: the mean over the 2N anchors u, with positive v+, of
    `sum over negatives v- of max(u.v- - u.v+ + margin, 0)`.

    Table 2 prints one negative. Here all negatives are summed, as the loss's source sums all triplets (Schroff et al.
    2015).

    z, normalize, negatives, block_size, ranks: as in `nt_xent`.
    margin: m, >= 0, in units of similarity.
    temperature: > 0; used only in the softmax behind the reported entropy, which makes it comparable with other
        losses'. Neither the loss nor its gradient depends on it.
    semi_hard: each anchor has only one negative: the nearest of those that are farther than its positive by less than
        the margin (`0 < u.v+ - u.v- < margin`), which must be > 0. An anchor without one contributes nothing; the mean
        is still over all 2N anchors.

    Accuracy and entropy, memory and the gradient are as in `nt_xent`. The hinge's derivative at its kink is 0.

    Raises ValueError if an argument is out of range.
    """
    if not margin >= 0:
        raise ValueError(f"loss.margin must be >= 0, got {margin}")
    if semi_hard and not margin > 0:
        raise ValueError(f"loss.margin must be > 0 with loss.semi_hard=true, got {margin}")

    def evaluate(blocks: SimilarityBlocks) -> Terms:
        in_logits = margin * math.log2(math.e) / temperature
        terms = (_of_semi_hard if semi_hard else _of_all)(blocks, in_logits)
        # From units of logits to units of similarity.
        losses = terms.losses * (temperature * math.log(2))
        return terms._replace(losses=losses, gradient=terms.gradient.mul_(temperature))

    return contrastive_loss(z, evaluate, temperature, normalize, negatives, block_size, ranks)


def _of_all(blocks: SimilarityBlocks, margin: float) -> Terms:
    other_view = OtherView(blocks)
    bar = other_view.see_all() - margin
    losses, active = torch.zeros_like(bar), torch.zeros_like(bar)

    def weigh(block: Block) -> Tensor:
        def violates(memory: Tensor, anchors: slice, dim: int) -> Tensor:
            bars = bar[anchors].unsqueeze(dim)
            excess = torch.sub(block.similarities, bars, out=memory).clamp_(min=0)
            losses[anchors].add_(excess.sum(dim))
            active[anchors].add_(excess.sign_().sum(dim))
            return excess

        return for_both_anchors(block, violates)

    gradient = gradient_of_negatives(blocks, weigh)
    blocks.ranks.sum_([losses, active])
    pull_to_positives(gradient, blocks.v, active)
    return Terms(losses, gradient, *other_view.accuracy_and_entropy())


def _of_semi_hard(blocks: SimilarityBlocks, margin: float) -> Terms:
    other_view = OtherView(blocks)
    positive = other_view.see_all()
    negative = semi_hard_negatives(blocks, positive, margin)
    losses = negative.losses(margin - negative.beyond, positive)
    one = torch.ones_like(positive)
    gradient = negative.gradient(blocks.v, one, one)
    return Terms(losses, gradient, *other_view.accuracy_and_entropy())
