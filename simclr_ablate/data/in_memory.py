"""A data set in memory: all images in one uint8 tensor."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from simclr_ablate.augment.policies import DrawnViews, Policy
from simclr_ablate.data.cache import DESCRIPTION, IMAGES, LABELS
from simclr_ablate.device import free_bytes, send
from simclr_ablate.files import read_json
from simclr_ablate.randomness import generator
from simclr_ablate.ranks import SOLO, Ranks

DEVICE_SHARE = 0.5
"""The largest part of a device's free memory that images may take; the networks need the rest."""

_MOVED = 4096
"""Images that are moved to a device at a time."""


@dataclass(frozen=True)
class ImageSet:
    """Images with labels, in the memory of one device or memory-mapped from a file.

    stored: uint8 (M, 3, H, W), on any device.
    labels: int64, (N,) or (N, classes), on the CPU: see `images.Images`.
    rows: int64 (N,), on the CPU, the images of `stored` that belong to the set, or None for all of them: a subset
        shares its parent's memory.
    """

    stored: Tensor
    labels: Tensor
    classes: list[str]
    rows: Tensor | None = None

    def __post_init__(self) -> None:
        if self.stored.dtype != torch.uint8 or self.stored.dim() != 4 or self.stored.shape[1] != 3:
            raise ValueError(
                f"images must be uint8 (N, 3, H, W), got {self.stored.dtype} "
                f"{tuple(self.stored.shape)}"
            )
        if len(self.labels) != len(self.stored if self.rows is None else self.rows):
            raise ValueError(
                f"labels must be one per image, got {len(self.labels)} for "
                f"{len(self.stored if self.rows is None else self.rows)} images"
            )

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def images(self) -> Tensor:
        """All images of the set, uint8 (N, 3, H, W); a copy if the set is a subset."""
        return self.stored if self.rows is None else self.stored[self.rows]

    def batch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Images (B, 3, H, W) uint8 on the set's device, and labels (B,), at `indices` (B,)."""
        rows = send(self.rows_of(indices), self.stored.device)
        return self.stored.index_select(0, rows), self.labels[indices]

    def rows_of(self, indices: Tensor) -> Tensor:
        """The rows of `stored` with the images at `indices`."""
        return indices if self.rows is None else self.rows[indices]

    def subset(self, indices: Tensor | Sequence[int]) -> "ImageSet":
        """The images at `indices`, in that order; no image is copied."""
        indices = torch.as_tensor(indices)
        rows = indices if self.rows is None else self.rows[indices]
        return ImageSet(self.stored, self.labels[indices], self.classes, rows)

    def joined(self, other: "ImageSet") -> "ImageSet":
        """This set and `other`, both subsets of one set, as one; no image is copied."""
        if other.stored is not self.stored or self.rows is None or other.rows is None:
            raise ValueError("only subsets of the same images can be joined")
        rows = torch.cat([self.rows, other.rows])
        return ImageSet(self.stored, torch.cat([self.labels, other.labels]), self.classes, rows)

    def to(self, device: torch.device | str) -> "ImageSet":
        """A set on `device` that holds only its own images; itself if both are the CPU, or if they do not fit there."""
        device = torch.device(device)
        if self.stored.device.type == device.type == "cpu":
            return self
        shape = (len(self), *self.stored.shape[1:])
        if math.prod(shape) > DEVICE_SHARE * free_bytes(device):
            return self
        moved = torch.empty(shape, dtype=torch.uint8, device=device)
        for indices in torch.arange(len(self)).split(_MOVED):  # so that memory never holds a copy
            start = int(indices[0])
            moved[start : start + len(indices)].copy_(self.batch(indices)[0])
        return ImageSet(moved, self.labels, self.classes)

    def batches(self, batch_size: int, ranks: Ranks = SOLO) -> Iterator[tuple[Tensor, Tensor]]:
        """All images in order, uint8 (B, 3, H, W), and labels (B,); the last batch may be smaller.

        ranks: each rank reads every `count`-th batch.
        """
        for indices in torch.arange(len(self)).split(batch_size)[ranks.index :: ranks.count]:
            yield self.batch(indices)

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

        See `images.Images`. All parameters depend on `seed`, `epoch` and step. Views are made on `device`, where the
        set itself may not fit: then each batch is copied.
        """
        draw_views = policy.draw_two if views == 2 else policy.draw_one
        for step in range(first, len(order)):
            draw = generator(seed, "views", epoch, step)
            stored, rows = self.stored, self.rows_of(order[step])
            if stored.device.type != torch.device(device).type:
                stored, rows = _gathered(stored, rows, positions, device)
            yield draw_views(stored, draw, rows=rows), self.labels[order[step]]


def _gathered(
    stored: Tensor, rows: Tensor, positions: Tensor | None, device: torch.device | str
) -> tuple[Tensor, Tensor]:
    """The images of a batch that are needed, on `device`, and the place of each image of the batch among them.

    rows: (N,), the batch's images. positions: see `images.Images.view_batches`; the place of an image that is not
    needed is arbitrary.
    """
    positions = torch.arange(len(rows)) if positions is None else positions
    places = torch.zeros(len(rows), dtype=torch.long)
    places[positions] = torch.arange(len(positions))
    images = stored.index_select(0, rows[positions])
    return send(images, torch.device(device)), places


def open_set(folder: Path) -> ImageSet:
    """The set in a folder of the cache. Its images are memory-mapped: processes that open it share one copy."""
    # Copy-on-write: PyTorch has no read-only tensors, and nobody may change the file.
    images = torch.from_numpy(np.load(folder / IMAGES, mmap_mode="c"))
    labels = torch.from_numpy(np.load(folder / LABELS))
    description = read_json(folder / DESCRIPTION)
    assert description is not None  # the cache supplies it
    return ImageSet(images, labels, description["classes"])
