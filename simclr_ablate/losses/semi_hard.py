"""Semi-hard negatives (Schroff et al. 2015), one per anchor, as in Section 5.1 of SimCLR."""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from simclr_ablate.losses.blockwise import SimilarityBlocks
from simclr_ablate.losses.exact import pull_to_positives


class SemiHard(NamedTuple):
    """Every anchor's semi-hard negative: the nearest of those that are farther than its positive by less than a margin.

    Each tensor is (2N,).
    """

    exists: Tensor
    """Whether the anchor has one."""
    beyond: Tensor
    """How much smaller its logit is than the positive's; infinite if no negative is farther than the positive."""
    row: Tensor
    """Its row of v, if it exists."""

    def losses(self, losses: Tensor, positive: Tensor) -> Tensor:
        """(2N,): `losses` of the anchors that have a semi-hard negative, 0 for others."""
        # NaN if the positive is NaN or infinite: comparisons with it find no negative.
        return torch.where(self.exists, losses, positive * 0)

    def gradient(self, v: Tensor, pull: Tensor, push: Tensor) -> Tensor:
        """(2N, D): the gradient with respect to v; each anchor's two pairs contribute to both their views.

        pull, push: (2N,), >= 0: derivatives of every anchor's loss with respect to minus the logit of its positive, and
            to the logit of its negative. Those of anchors without a negative are ignored.
        """
        push = (push * self.exists).unsqueeze(1)
        gradient = push * v[self.row]
        gradient.index_add_(0, self.row, push * v)
        pull_to_positives(gradient, v, pull * self.exists)
        return gradient


def margin_in_logits(semi_hard: bool, margin: float | None, temperature: float) -> float:
    """The margin for `semi_hard_negatives`, for a loss without a margin of its own; infinite for None.

    Raises ValueError if `margin` is not > 0, or is given without `semi_hard`.
    """
    if margin is None:
        return math.inf
    if not semi_hard:
        raise ValueError(f"loss.margin must be null with loss.semi_hard=false, got {margin}")
    if not margin > 0:
        raise ValueError(f"loss.margin must be > 0 with loss.semi_hard=true, got {margin}")
    return margin * math.log2(math.e) / temperature


def semi_hard_negatives(blocks: SimilarityBlocks, positive: Tensor, margin: float) -> SemiHard:
    """The semi-hard negatives, in one pass over the blocks.

    positive: (2N,), the logits of the positives. margin: in units of the logits.
    """
    beyond = torch.full_like(positive, math.inf)
    row = torch.zeros(len(positive), dtype=torch.int64, device=positive.device)
    for block in blocks:
        for anchors, dim in block.sides:
            distance = torch.sub(
                positive[anchors].unsqueeze(dim), block.similarities, out=block.spare
            )
            nearest, index = F.threshold(distance, 0, math.inf, inplace=True).min(dim)
            start = (block.columns if dim == 1 else block.rows).start
            _keep_nearest(beyond[anchors], row[anchors], nearest, index + start)
    everyones = zip(blocks.ranks.gather(beyond), blocks.ranks.gather(row), strict=True)
    (beyond, row), *others = everyones
    for other in others:
        _keep_nearest(beyond, row, *other)
    return SemiHard(beyond < margin, beyond, row)


def _keep_nearest(beyond: Tensor, row: Tensor, other: Tensor, other_row: Tensor) -> None:
    """Replaces negatives by others that are nearer, in place."""
    nearer = other < beyond
    row.copy_(torch.where(nearer, other_row, row))
    beyond.copy_(torch.where(nearer, other, beyond))
