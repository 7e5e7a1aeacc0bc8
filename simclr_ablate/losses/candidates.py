"""An anchor's candidates: the softmax over all of them, and what Table 5 tells of those of the other view."""

import functools
import math

import torch
from torch import Tensor

from simclr_ablate.losses.blockwise import Block, SimilarityBlocks

_REACH = 64
"""Differences of logits in base 2 whose powers float32 tells from 0 with room to spare."""


class OtherView:
    """How well the first views find their positives among the N second views: Table 5's two numbers.

    As in the released code, anchors are the first views alone, and candidates the views of the other side, whatever the
    loss takes for negatives. Each block is shown once, to `see` or to `take`.
    """

    def __init__(self, blocks: SimilarityBlocks) -> None:
        self._blocks = blocks
        smallest = torch.finfo(blocks.v.dtype).min
        # Of the negatives: the largest logit, and relative to a reference the sums of 2**logit and of 2**logit logit.
        self._largest, self._reference = blocks.v.new_full((2, blocks.n), smallest)
        self._total, self._expected = blocks.v.new_zeros(2, blocks.n)

    def see(self, block: Block) -> None:
        """Adds a block, whose similarities are logits in base 2. Overwrites its spare memory only."""
        part = self._blocks.between_views(block)
        if part is not None:
            largest = torch.maximum(self._largest[part.rows], part.similarities.amax(1))
            torch.sub(part.similarities, largest.unsqueeze(1), out=part.spare).exp2_()
            self._add(part, largest, largest)

    def take(self, block: Block, reference: Tensor) -> None:
        """Adds a block whose spare memory has its 2**logit, relative to a `reference` for each row. Overwrites it.

        A row's reference never falls. Where it exceeds all of the row's logits by more than exponents reach, the row
        is lost.
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
        """A pass over the blocks for this alone; returns the logits of the positives, (2N,)."""
        for block in self._blocks:
            self.see(block)
        self._blocks.ranks.sum_([self._blocks.positive])
        return self._blocks.positive.repeat(2)

    def accuracy_and_entropy(self) -> tuple[Tensor, Tensor]:
        """Two scalars, as in ContrastiveLoss. All ranks call it, once they have the positives of all."""
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
    """What a first pass over the blocks, whose similarities are logits in base 2, says of every anchor.

    negative: (2N,), log2 of the sum of 2**logit over its negatives.
    positive: (2N,), the logit of its positive.
    log_sum: (2N,), log2 of the sum of 2**logit over all its candidates.
    other_view: has seen all blocks.
    """

    def __init__(self, blocks: SimilarityBlocks) -> None:
        self.other_view = OtherView(blocks)
        self.negative = _log_sums_of_negatives(blocks, self.other_view)
        blocks.ranks.sum_([blocks.positive])
        self.positive = blocks.positive.repeat(2)
        self.log_sum = torch.logaddexp2(self.negative, self.positive)


def _log_sums_of_negatives(blocks: SimilarityBlocks, other_view: OtherView) -> Tensor:
    """Log2 of the sum of 2**logit over all negatives of every anchor. Shows each block to `other_view`.

    The largest so far is what the sums so far are relative to, so that no temperature is too low.
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
