"""An anchor's candidates: the softmax over all of them, and Table 5's numbers for those of the other view."""

import functools
import math

import torch
from torch import Tensor

from simclr_ablate.losses.blockwise import Block, SimilarityBlocks

_REACH = 64
"""Difference of base-2 logits up to which float32 tells their powers from 0, with room to spare."""


class OtherView:
    """How well the first views find their positives among the N second views: Table 5's two numbers.

    As in the released code, only first views are anchors and only second views are candidates, whichever negatives the
    loss uses. Pass each block once, to `see` or to `take`.
    """

    def __init__(self, blocks: SimilarityBlocks) -> None:
        self._blocks = blocks
        smallest = torch.finfo(blocks.v.dtype).min
        # Over each anchor's negatives: the largest logit, and the sums of 2**logit and of 2**logit * logit, both
        # divided by 2**reference.
        self._largest, self._reference = blocks.v.new_full((2, blocks.n), smallest)
        self._total, self._expected = blocks.v.new_zeros(2, blocks.n)

    def see(self, block: Block) -> None:
        """Adds a block of base-2 logits. Overwrites only its spare memory."""
        part = self._blocks.between_views(block)
        if part is not None:
            largest = torch.maximum(self._largest[part.rows], part.similarities.amax(1))
            torch.sub(part.similarities, largest.unsqueeze(1), out=part.spare).exp2_()
            self._add(part, largest, largest)

    def take(self, block: Block, reference: Tensor) -> None:
        """Adds a block with 2**(logit - reference) in its spare memory, and overwrites that memory.

        reference: one number per row, which never falls from block to block. If it exceeds all logits of a row by more
            than an exponent can express, the row is lost.
        """
        part = self._blocks.between_views(block)
        if part is not None:
            largest = torch.maximum(self._largest[part.rows], part.similarities.amax(1))
            self._add(part, largest, reference[: len(largest)])

    def _add(self, part: Block, largest: Tensor, reference: Tensor) -> None:
        shrunk = (self._reference[part.rows] - reference).exp2_()
        self._largest[part.rows], self._reference[part.rows] = largest, reference
        self._total[part.rows].mul_(shrunk).add_(part.spare.sum(1))
        part.spare.mul_(part.similarities)
        self._blocks.leave_out(part, part.spare, 0)  # 0 * -inf
        self._expected[part.rows].mul_(shrunk).add_(part.spare.sum(1))

    def see_all(self) -> Tensor:
        """Makes a pass over the blocks for these numbers alone; returns the logits of the positives, (2N,)."""
        for block in self._blocks:
            self.see(block)
        self._blocks.ranks.sum_([self._blocks.positive])
        return self._blocks.positive.repeat(2)

    def accuracy_and_entropy(self) -> tuple[Tensor, Tensor]:
        """Two scalars, as in ContrastiveLoss. All ranks call it, once each has all positives."""
        positive = self._blocks.positive
        seen = torch.stack([self._largest, self._reference, self._total, self._expected])
        everyones = self._blocks.ranks.gather(seen)
        largest, reference = functools.reduce(torch.maximum, [each[:2] for each in everyones])
        total, expected = sum(each[2:] * (each[1] - reference).exp2() for each in everyones)
        log_sum = torch.logaddexp2(reference + total.log2(), positive)
        mean_logit = expected * (reference - log_sum).exp2()
        mean_logit += positive * (positive - log_sum).exp2()
        entropy = ((log_sum - mean_logit).mean() * math.log(2)).clamp(min=0)
        return (positive > largest).to(positive.dtype).mean(), entropy


class Candidates:
    """Every anchor's logits, summed up in a first pass over blocks of base-2 logits.

    negative: (2N,), log2 of the sum of 2**logit over the anchor's negatives.
    positive: (2N,), the logit of its positive.
    log_sum: (2N,), log2 of the sum of 2**logit over all its candidates.
    other_view: the OtherView of all blocks.
    """

    def __init__(self, blocks: SimilarityBlocks) -> None:
        self.other_view = OtherView(blocks)
        self.negative = _log_sums_of_negatives(blocks, self.other_view)
        blocks.ranks.sum_([blocks.positive])
        self.positive = blocks.positive.repeat(2)
        self.log_sum = torch.logaddexp2(self.negative, self.positive)


def _log_sums_of_negatives(blocks: SimilarityBlocks, other_view: OtherView) -> Tensor:
    """Log2 of the sum of 2**logit over all negatives of every anchor. Passes each block to `other_view` too.

    Sums are kept relative to the largest logit so far, so no temperature is too low.
    """
    v = blocks.v
    powers_serve_both = blocks.spread < _REACH
    largest = v.new_full((len(v),), torch.finfo(v.dtype).min)
    total = v.new_zeros(len(v))
    for block in blocks:
        if not powers_serve_both:
            other_view.see(block)
        for anchors, dim in block.sides:
            seen = largest[anchors]
            larger = torch.maximum(seen, block.similarities.amax(dim))
            relative = torch.sub(block.similarities, larger.unsqueeze(dim), out=block.spare)
            total[anchors].mul_(seen.sub_(larger).exp2_()).add_(relative.exp2_().sum(dim))
            seen.copy_(larger)
            if powers_serve_both and dim == 1:
                other_view.take(block, larger)
    everyones = blocks.ranks.gather(largest + total.log2_())
    return functools.reduce(torch.logaddexp2, everyones)
