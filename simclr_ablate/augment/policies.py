"""Policies: how two views are made of each image of a batch.

Parameters are drawn for the whole batch at first; then the views pass through all operations, in
place, a chunk at a time, those that go through the same steps side by side.
"""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from simclr_ablate.augment.batching import take
from simclr_ablate.augment.operations import (
    GaussianBlur,
    Operation,
    Params,
    RandomApply,
    RandomResizedCrop,
    Resize,
)
from simclr_ablate.augment.registry import OPERATIONS, Magnitudes, make_operations

__all__ = ["OPERATIONS", "Policy", "Views", "no_policy", "pair_policy", "simclr_policy"]

CHUNK_BYTES = {"cpu": 2**23, "cuda": 2**28}
"""Views worked on at a time, bytes of float32. On a CPU those of a kind, a part of a chunk, should fit
its second cache, and be many enough that calls cost little; on a GPU they should fit its memory."""


class Views(NamedTuple):
    """Views in the order in which they were made."""

    images: Tensor
    """(M, 3, S, S) float32 in [0, 1]."""
    places: Tensor
    """(M,): `images[places]` is in the order of the images that the views are of."""

    def in_order(self) -> Tensor:
        """The views in the order of their images, contiguous."""
        return self.images.contiguous().index_select(0, self.places)


class Policy:
    """Two views of every image: `shared` operations drawn once for both, then each branch's own.

    Where both branches have the same operations, every view still draws its own parameters.
    `chunk_bytes` replaces CHUNK_BYTES and changes no result.
    """

    def __init__(
        self,
        shared: Sequence[Operation] = (),
        first: Sequence[Operation] = (),
        second: Sequence[Operation] = (),
        chunk_bytes: int | None = None,
    ) -> None:
        self.shared, self.first, self.second = list(shared), list(first), list(second)
        self.chunk_bytes = chunk_bytes

    def two_views(self, images: Tensor, generator: Generator) -> Tensor:
        """(2N, 3, S, S) float32 in [0, 1]; rows i and i + N are the two views of image i.

        images: (N, 3, H, W), uint8 or float in [0, 1], on any device. The result depends on them
        and on `generator` alone. Raises ValueError for what is no batch of images.
        """
        return self.two_views_as_made(images, generator).in_order()

    def one_view(self, images: Tensor, generator: Generator) -> Tensor:
        """(N, 3, S, S) float32 in [0, 1]: the first branch's view alone."""
        return self.one_view_as_made(images, generator).in_order()

    def two_views_as_made(
        self,
        images: Tensor,
        generator: Generator,
        layout: torch.memory_format = torch.contiguous_format,
    ) -> Views:
        """The views of `two_views` in the order in which they are made, which spares a copy."""
        check_images(images)
        if self.shared:
            images = self._run(self.shared, images, 1, generator).in_order()
        if self.first == self.second:
            return self._run(self.first, images, 2, generator, layout)
        branches = (self.first, self.second)
        first, second = (self._run(branch, images, 1, generator, layout) for branch in branches)
        places = torch.cat([first.places, second.places + len(images)])
        return Views(torch.cat([first.images, second.images]), places)

    def one_view_as_made(
        self,
        images: Tensor,
        generator: Generator,
        layout: torch.memory_format = torch.contiguous_format,
    ) -> Views:
        """The views of `one_view` in the order in which they are made."""
        check_images(images)
        return self._run(self.shared + self.first, images, 1, generator, layout)

    def _run(
        self,
        operations: Sequence[Operation],
        images: Tensor,
        copies: int,
        generator: Generator,
        layout: torch.memory_format = torch.contiguous_format,
    ) -> Views:
        """The operations on `copies` of the batch: (copies * N, 3, S, S) float32."""
        n = copies * len(images)
        size = _size_after(operations, *images.shape[-2:])
        views = Views(
            torch.empty(n, 3, *size, device=images.device, memory_format=layout),
            torch.empty(n, dtype=torch.long, device=images.device),
        )
        self._fill(views, operations, images, generator)
        return views

    # Without autograd's bookkeeping, operations on few images are up to a fifth quicker.
    @torch.inference_mode()
    def _fill(
        self,
        views: Views,
        operations: Sequence[Operation],
        images: Tensor,
        generator: Generator,
    ) -> None:
        rows = torch.arange(len(images)).repeat(len(views.places) // max(1, len(images)))
        drawn = _draw(operations, len(rows), images, generator)
        order = _alike_together(operations, drawn, len(rows))
        drawn = [take(params, order) for params in drawn]
        views.places.copy_(order.argsort())
        rows = rows[order].to(images.device)
        for part in self._chunks(views.images):
            chunk = to_float(images.index_select(0, rows[part]))
            for operation, params in zip(operations, drawn, strict=True):
                chunk = operation.apply_(chunk, take(params, part))
            views.images[part] = chunk

    def _chunks(self, views: Tensor) -> Iterator[slice]:
        per_view = math.prod(views.shape[1:]) * views.element_size()
        length = max(1, (self.chunk_bytes or CHUNK_BYTES[views.device.type]) // per_view)
        for start in range(0, len(views), length):
            yield slice(start, start + length)


def simclr_policy(
    size: int,
    strength: float = 1.0,
    blur: bool = True,
    *,
    brightness: str = "additive",
    crop_area: float = 0.08,
    interpolation: str = "bicubic",
    chunk_bytes: int | None = None,
) -> Policy:
    """Section 3's policy, on both branches.

    In order: random resized crop, flip (p 0.5), colour jitter (p 0.8), grayscale (p 0.2), Gaussian
    blur (p 0.5).
    """
    magnitudes = Magnitudes(size, strength, brightness, crop_area, interpolation)
    operations = make_operations("crop", magnitudes) + make_operations("color", magnitudes)
    if blur:
        operations.append(RandomApply(GaussianBlur(), 0.5))
    return Policy(first=operations, second=operations, chunk_bytes=chunk_bytes)


def pair_policy(
    size: int,
    first: str,
    second: str | None = None,
    *,
    strength: float = 1.0,
    brightness: str = "additive",
    crop_area: float = 0.08,
    interpolation: str = "bicubic",
    chunk_bytes: int | None = None,
) -> Policy:
    """Figure 5's asymmetric setting: both branches share one crop, and one of them changes it.

    The crop includes the flip. The first branch has `first`, then `second` on every image, with the
    magnitudes of OPERATIONS; the second branch is the crop as it is. No `second`, or the same
    again, is the figure's diagonal: that operation once. Raises ValueError for an unknown name.
    """
    magnitudes = Magnitudes(size, strength, brightness, crop_area, interpolation)
    operations = make_operations(first, magnitudes)
    if second is not None and second != first:
        operations += make_operations(second, magnitudes)
    crop = RandomResizedCrop(size, crop_area, interpolation)
    return Policy(shared=[crop], first=operations, chunk_bytes=chunk_bytes)


def no_policy(size: int, *, interpolation: str = "bicubic") -> Policy:
    """Both views are the image itself, resized where it is of another size."""
    return Policy(shared=[Resize(size, interpolation)])


def to_float(images: Tensor) -> Tensor:
    """uint8 or float images as float32 in [0, 1]."""
    return images.float().div_(255) if images.dtype == torch.uint8 else images.float()


def check_images(images: Tensor) -> None:
    """Raises ValueError for what is no batch of images."""
    if images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(f"images must be (N, 3, H, W), got {tuple(images.shape)}")
    if images.dtype != torch.uint8 and not images.is_floating_point():
        raise ValueError(f"images must be uint8 or float, got {images.dtype}")


def _size_after(operations: Sequence[Operation], height: int, width: int) -> tuple[int, int]:
    """Height and width of images of (height, width) after all operations."""
    for operation in operations:
        height, width = operation.size_after(height, width)
    return height, width


def _draw(
    operations: Sequence[Operation], n: int, images: Tensor, generator: Generator
) -> list[Params]:
    """Parameters of every operation for `n` views."""
    sizes = [_size_after(operations[:k], *images.shape[-2:]) for k in range(len(operations))]
    return [o.draw(n, *size, generator) for o, size in zip(operations, sizes, strict=True)]


def _alike_together(operations: Sequence[Operation], drawn: Sequence[Params], n: int) -> Tensor:
    """An order of the `n` views in which those that go through the same steps are neighbours."""
    key = torch.zeros(n, dtype=torch.long)
    for operation, params in zip(operations, drawn, strict=True):
        kinds = operation.kinds(params)
        if kinds is not None and n:
            last = int(kinds.max())
            # To and fro, as in a Gray code, so that runs of a kind meet at the borders of others.
            key = key * (last + 1) + torch.where(key % 2 == 1, last - kinds, kinds)
    return key.argsort(stable=True)
