"""An anchor's candidates, its positive and its negatives, and the softmax over them."""

import functools
import math

import torch
from torch import Tensor

from simclr_ablate.losses.blockwise import Block, SimilarityBlocks


class Candidates:
    """What a first pass over the blocks, whose similarities are logits in base 2, says of every anchor.

    hardest: (2N,), the largest logit of its negatives.
    negative: (2N,), log2 of the sum of 2**logit over its negatives.
    positive: (2N,), the logit of its positive.
    log_sum: (2N,), log2 of the sum of 2**logit over all its candidates.
    """

    def __init__(self, blocks: SimilarityBlocks) -> None:
        self.hardest, self.negative = _log_sums_of_negatives(blocks)
        blocks.ranks.sum_([blocks.positive])
        self.positive = blocks.positive.repeat(2)
        self.log_sum = torch.logaddexp2(self.negative, self.positive)

    @property
    def hits(self) -> Tensor:
        """(2N,) bool: whether the anchor is nearer to its positive than to any negative."""
        return self.positive > self.hardest


class Entropy:
    """The mean entropy of the anchors' softmax, added up in a second pass over the blocks."""

    def __init__(self, blocks: SimilarityBlocks, candidates: Candidates) -> None:
        self._blocks, self._log_sum = blocks, candidates.log_sum
        of_positives = torch.exp2(candidates.positive - candidates.log_sum) * candidates.positive
        self._of_positives = of_positives
        self._of_negatives = torch.zeros_like(of_positives)

    def see(self, block: Block) -> None:
        """Adds a block. Overwrites its spare memory only."""
        for anchors, dim in block.sides:
            log_sum = self._log_sum[anchors].unsqueeze(dim)
            p = torch.sub(block.similarities, log_sum, out=block.spare).exp2_()
            expected = p.mul_(block.similarities)
            self._blocks.leave_out(block, expected, 0)  # 0 * -inf
            self._of_negatives[anchors].add_(expected.sum(dim))

    def mean(self) -> Tensor:
        """Scalar, nats. All ranks call it, after the pass."""
        self._blocks.ranks.sum_([self._of_negatives])
        expected = self._of_positives + self._of_negatives
        return ((self._log_sum - expected).mean() * math.log(2)).clamp(min=0)


def _log_sums_of_negatives(blocks: SimilarityBlocks) -> tuple[Tensor, Tensor]:
    """Of every anchor: its largest negative logit, and log2 of the sum of 2**logit over them all.

    The largest so far is what the sums so far are relative to, so that no temperature is too low.
    """
    v = blocks.v
    largest = v.new_full((len(v),), torch.finfo(v.dtype).min)
    total = v.new_zeros(len(v))
    for block in blocks:
        for anchors, dim in block.sides:
            seen = largest[anchors]
            larger = torch.maximum(seen, block.similarities.amax(dim))
            relative = torch.sub(block.similarities, larger.unsqueeze(dim), out=block.spare)
            total[anchors].mul_(seen.sub_(larger).exp2_()).add_(relative.exp2_().sum(dim))
            seen.copy_(larger)
    everyones = blocks.ranks.gather(torch.stack([largest, largest + total.log2_()]))
    largest = functools.reduce(torch.maximum, [each[0] for each in everyones])
    return largest, functools.reduce(torch.logaddexp2, [each[1] for each in everyones])
