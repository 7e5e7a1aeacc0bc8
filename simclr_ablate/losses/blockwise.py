"""Similarities of a batch's views, one block at a time; the 2N x 2N matrix is never held."""

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from simclr_ablate.ranks import SOLO, Ranks

_KEPT_ELEMENTS = 2**23


class Block(NamedTuple):
    """Similarities of some views (rows) with others (columns)."""

    rows: slice
    columns: slice
    similarities: Tensor
    """Similarity of each row with each column; -inf for a view with itself and for a positive pair."""
    spare: Tensor
    """Scratch memory of the same shape, shared by all blocks."""

    @property
    def is_symmetric(self) -> bool:
        """Whether rows and columns are the same views; the block then holds each pair twice."""
        return self.rows == self.columns

    @property
    def sides(self) -> list[tuple[slice, int]]:
        """The block's anchors, with the dimension along which their negatives lie; covers each pair once per anchor."""
        ours = (self.rows, 1)
        return [ours] if self.is_symmetric else [ours, (self.columns, 0)]


class SimilarityBlocks:
    """The blocks of `v @ v.T` on and above its diagonal, which hold every negative pair once.

    A block with the same rows and columns is symmetric and holds its pairs twice.

    v: (2N, D), rows i and i+N are the two views of image i.
    within: whether to include pairs within one view, not only pairs of one view with the other.
    block_size: largest side of a block.
    ranks: processes that have the same v and share the blocks; if there is only one block, every rank computes it.
    spread: upper bound on the difference of any two similarities.

    Each iteration is a pass over this rank's blocks. After the first pass, `positive`, (N,), holds the similarities of
    the positive pairs, with 0 for those in other ranks' blocks. Memory is two blocks. Only the last pass may overwrite
    a block: if all of them together are small, they are kept for the next pass.
    """

    def __init__(
        self,
        v: Tensor,
        within: bool,
        block_size: int,
        ranks: Ranks = SOLO,
        spread: float = math.inf,
    ) -> None:
        self.v = v
        self.spread = spread
        self.n = len(v) // 2
        self.positive = v.new_zeros(self.n)
        self.ranks = ranks
        if within and len(v) <= block_size:
            whole = slice(0, len(v))
            self._lay_out([(whole, whole)], len(v) ** 2)
            return
        # Both views are cut alike, and no block straddles them.
        count = -(-self.n // block_size)
        edges = [self.n * k // count for k in range(count + 1)]
        first = [slice(start, stop) for start, stop in pairwise(edges)]
        second = [slice(start + self.n, stop + self.n) for start, stop in pairwise(edges)]
        if within:
            both = first + second
            bounds = [(rows, columns) for k, rows in enumerate(both) for columns in both[k:]]
        else:
            bounds = [(rows, columns) for rows in first for columns in second]
        self._lay_out(bounds, (-(-self.n // count)) ** 2)

    def _lay_out(self, bounds: list[tuple[slice, slice]], area: int) -> None:
        """Picks this rank's blocks of `bounds` (rows and columns of each). area: elements of the largest block."""
        if len(bounds) == 1:
            self.ranks = SOLO
        self.bounds = bounds = bounds[self.ranks.index :: self.ranks.count]
        self._keep = area * len(bounds) <= _KEPT_ELEMENTS
        self._kept: list[Block] = []
        self._memory = self.v.new_empty(1 if self._keep else 2, area)

    def __iter__(self) -> Iterator[Block]:
        if self._kept:
            yield from self._kept
            return
        for rows, columns in self.bounds:
            block = self._compute(rows, columns)
            if self._keep:
                self._kept.append(block)
            yield block

    def _compute(self, rows: slice, columns: slice) -> Block:
        height, width = rows.stop - rows.start, columns.stop - columns.start
        spare = self._memory[0, : height * width].view(height, width)
        if self._keep:
            similarities = self.v[rows] @ self.v[columns].T
        else:
            similarities = self._memory[1, : height * width].view(height, width)
            torch.mm(self.v[rows], self.v[columns].T, out=similarities)
        self._mask(rows.start, columns.start, similarities)
        return Block(rows, columns, similarities, spare)

    def between_views(self, block: Block) -> Block | None:
        """The part of a block with first views as rows and second views as columns, in the same memory, if any."""
        rows = slice(block.rows.start, min(block.rows.stop, self.n))
        columns = slice(max(block.columns.start, self.n), block.columns.stop)
        height, width = rows.stop - rows.start, columns.stop - columns.start
        if height <= 0 or width <= 0:
            return None
        similarities, spare = block.similarities[:height, -width:], block.spare[:height, -width:]
        return Block(rows, columns, similarities, spare)

    def leave_out(self, block: Block, of: Tensor, value: float) -> None:
        """Sets `of`, a tensor shaped like `block`, to `value` wherever the block holds no negative pair."""
        for _, _, diagonal in self._no_negatives(block.rows.start, block.columns.start, of):
            diagonal.fill_(value)

    def _mask(self, row: int, column: int, similarities: Tensor) -> None:
        """Masks self-pairs and positive pairs of the block at (row, column), after noting the positives."""
        for distance, first, diagonal in self._no_negatives(row, column, similarities):
            if distance == self.n:
                self.positive[first : first + len(diagonal)] = diagonal
            diagonal.fill_(-math.inf)

    def _no_negatives(
        self, row: int, column: int, block: Tensor
    ) -> Iterator[tuple[int, int, Tensor]]:
        """Diagonals of the block at (row, column) without negatives: distance from row to column, first row, values."""
        height, width = block.shape
        for distance in (0, self.n, -self.n):
            offset = distance - (column - row)
            if -height < offset < width:
                yield distance, row, block.diagonal(offset)
