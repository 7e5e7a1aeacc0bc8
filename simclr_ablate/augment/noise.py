"""Normal numbers that are drawn when they are needed: those of some images, and no others."""

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Generator, Tensor

from simclr_ablate.mersenne import skip

LAZY_BYTES = 2**26
"""Noise of less than this is drawn at once, which is faster than skipping."""
_BLOCK = 16
"""torch.randn makes as many numbers of as many at a time."""
_GAP = 8
"""Rows between two that are wanted that are drawn too, since skipping takes longer."""


class Normals:
    """Numbers as torch.randn(n, *shape, generator=...) draws them, of which `rows` are wanted.

    Indexing takes some of the rows, as of a tensor, and draws nothing.
    """

    def __init__(self, state: Tensor, shape: Sequence[int], rows: Tensor) -> None:
        """state: that of a generator on the CPU before it draws."""
        self.state, self.shape, self.rows = state, tuple(shape), rows

    def __getitem__(self, rows: Tensor | slice) -> "Normals":
        return Normals(self.state, self.shape, self.rows[rows])

    def __len__(self) -> int:
        return len(self.rows)

    def draw(self) -> Tensor:
        """(len(rows), *shape)."""
        each = math.prod(self.shape)
        drawn = torch.empty(len(self.rows), *self.shape)
        order = self.rows.argsort()
        for places in _neighbours(self.rows[order]):
            wanted = self.rows[order[places]]
            first, last = int(wanted[0]), int(wanted[-1])
            generator = Generator()
            generator.set_state(self.state)
            skip(generator, first * each)
            stretch = torch.randn(last - first + 1, *self.shape, generator=generator)
            drawn[order[places]] = stretch[wanted - first]
        return drawn


def normals(n: int, shape: Sequence[int], generator: Generator) -> Tensor | Normals:
    """`torch.randn(n, *shape, generator=generator)`, drawn later if it is large."""
    each = math.prod(shape)
    if 4 * n * each < LAZY_BYTES or each % _BLOCK:
        return torch.randn(n, *shape, generator=generator)
    later = Normals(generator.get_state(), shape, torch.arange(n))
    skip(generator, n * each)
    return later


def _neighbours(rows: Tensor) -> Iterator[slice]:
    """Stretches of rising rows without large gaps."""
    edges = (rows.diff() > _GAP).nonzero().flatten() + 1
    starts = [0, *edges.tolist()] if len(rows) else []
    yield from map(slice, starts, [*starts[1:], len(rows)])
