"""What every set of images can do, in memory or streamed: be counted, cut, read in order, and made into views."""

from collections.abc import Iterator, Sequence
from typing import Protocol, Self

import torch
from torch import Tensor

from simclr_ablate.augment.policies import DrawnViews, Policy
from simclr_ablate.ranks import SOLO, Ranks


class Images(Protocol):
    """A set of N images with labels; `in_memory.ImageSet` and `streamed.StreamedSet` are such."""

    @property
    def labels(self) -> Tensor:
        """(N,) int64; -1 for none."""
        ...

    @property
    def classes(self) -> list[str]: ...

    def __len__(self) -> int: ...

    def subset(self, indices: Tensor | Sequence[int]) -> Self:
        """The images at `indices`, in that order; no image is copied."""
        ...

    def joined(self, other: Self) -> Self:
        """Both sets, which are parts of one, as one set."""
        ...

    def to(self, device: torch.device | str) -> Self:
        """The set with its images on `device`, where it has any in memory."""
        ...

    def batches(self, batch_size: int, ranks: Ranks = SOLO) -> Iterator[tuple[Tensor, Tensor]]:
        """All images in their order, without views: uint8 (B, 3, H, W) and labels (B,).

        ranks: each reads every `count`-th batch.
        """
        ...

    def view_batches(
        self,
        policy: Policy,
        order: Tensor,
        seed: int,
        epoch: int,
        first: int = 0,
        device: torch.device | str = "cpu",
        positions: Tensor | None = None,
        views: int = 2,
    ) -> Iterator[tuple[DrawnViews, Tensor]]:
        """The views of all images of each batch from `first` on, drawn and yet to be made, and labels (N,).

        order: (steps, N), the images of each step. positions: which images of a batch this process makes views of,
        rising; None for all. views: two of each image, or one, which is the first branch's.
        """
        ...
