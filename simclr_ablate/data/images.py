"""The interface of all sets of images, in memory or streamed: length, subsets, images in order, and views."""

from collections.abc import Iterator, Sequence
from typing import Protocol, Self

import torch
from torch import Tensor

from simclr_ablate.augment.policies import DrawnViews, Policy
from simclr_ablate.ranks import SOLO, Ranks


class Images(Protocol):
    """A set of N images with labels: an `in_memory.ImageSet` or a `streamed.StreamedSet`."""

    @property
    def labels(self) -> Tensor:
        """(N,) int64; -1 for images without a label.

        If images may have several labels, (N, classes) int64: 1 for a class that the image shows, 0 for one that it
        does not, -1 where the set leaves it open.
        """
        ...

    @property
    def classes(self) -> list[str]: ...

    def __len__(self) -> int: ...

    def subset(self, indices: Tensor | Sequence[int]) -> Self:
        """The images at `indices`, in that order; no image is copied."""
        ...

    def joined(self, other: Self) -> Self:
        """This set and `other`, both parts of one set, as one."""
        ...

    def to(self, device: torch.device | str) -> Self:
        """The set with its images on `device`, if it has any in memory."""
        ...

    def batches(self, batch_size: int, ranks: Ranks = SOLO) -> Iterator[tuple[Tensor, Tensor]]:
        """All images in order, without views: uint8 (B, 3, H, W) and labels (B,).

        ranks: each rank reads every `count`-th batch.
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
        """The views of each batch from step `first` on, drawn but not made yet, and labels (N,).

        order: (steps, N), the images of each step.
        positions: which images of a batch this process makes views of, in rising order; None for all.
        views: views of each image: 2, or 1, which is the first branch's.
        """
        ...
