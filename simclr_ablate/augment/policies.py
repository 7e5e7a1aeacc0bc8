"""Policies: how two views of each image of a batch are made.

Parameters are drawn for the whole batch first. Then the views pass through all operations in place,
a chunk at a time; those that go through the same steps are side by side.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Self

import torch
from torch import Generator, Tensor

from simclr_ablate import own
from simclr_ablate.augment.auto_augment import AutoAugment
from simclr_ablate.augment.batching import take
from simclr_ablate.augment.libraries import two_views
from simclr_ablate.augment.noise import Normals
from simclr_ablate.augment.operations import (
    GaussianBlur,
    Operation,
    Params,
    Prepared,
    RandomApply,
    RandomResizedCrop,
    Resize,
)
from simclr_ablate.augment.registry import BROADER, OPERATIONS, Magnitudes, make_operations
from simclr_ablate.config import ConfigError
from simclr_ablate.device import is_accelerator, send

__all__ = [
    "OPERATIONS",
    "DrawnViews",
    "Policy",
    "Views",
    "autoaugment_policy",
    "crop_policy",
    "library_policy",
    "no_policy",
    "own_policy",
    "pair_policy",
    "simclr_policy",
]

CPU_CHUNK_BYTES, DEVICE_CHUNK_BYTES = 2**23, 2**30
"""Size of the views made at a time, in bytes of float32. On a CPU, a chunk should have so many views of a kind that
calls cost little; on an accelerator, it should fit in memory."""
_FLOAT_BYTES = 4


class Views(NamedTuple):
    """Views in the order in which they were made."""

    images: Tensor
    """(M, 3, S, S) float32 in [0, 1]."""
    positions: Tensor
    """(M,): `images[positions]` has the views in the order of their images."""

    def in_order(self) -> Tensor:
        """The views in the order of their images, contiguous."""
        return self.images.contiguous().index_select(0, self.positions)


class Drawn(NamedTuple):
    """Operations with the parameters drawn for some views."""

    operations: Sequence[Operation]
    params: list[Params]
    n: int
    """How many views."""

    @classmethod
    def draw(
        cls, operations: Sequence[Operation], n: int, size: Sequence[int], generator: Generator
    ) -> Self:
        """Draws for `n` images of `size` (H, W)."""
        sizes = [_size_after(operations[:k], *size) for k in range(len(operations))]
        params = [o.draw(n, *at, generator) for o, at in zip(operations, sizes, strict=True)]
        return cls(operations, params, n)

    def of(self, rows: Tensor) -> Self:
        """The operations and parameters of some views."""
        params = [take(drawn, rows) for drawn in self.params]
        return type(self)(self.operations, params, len(rows))

    def complete(self) -> Self:
        """The same with all numbers that were left to be drawn later."""
        params = [
            {name: v.draw() if isinstance(v, Normals) else v for name, v in each.items()}
            for each in self.params
        ]
        return type(self)(self.operations, params, self.n)

    def alike_together(self) -> Tensor:
        """An order of the views in which those that go through the same steps are neighbours."""
        key = torch.zeros(self.n, dtype=torch.long)
        for operation, params in zip(self.operations, self.params, strict=True):
            kinds = operation.kinds(params)
            if kinds is not None and self.n:
                last = int(kinds.max())
                # Up and down in turn, as in a Gray code: runs of a kind meet at the borders of others.
                key = key * (last + 1) + torch.where(key % 2 == 1, last - kinds, kinds)
        return key.argsort(stable=True)


class DrawnViews:
    """The views of a batch's n images, drawn but not made yet.

    Making them all at once, or those of some images at a time, gives the same views. All parameters reach the images'
    device in one transfer.

    images, rows: `images[rows]` is the image of each pair, or of each view. rows: on the CPU.
    shared, branches: what is drawn for each pair; or one branch, drawn for each view.
    """

    def __init__(
        self,
        images: Tensor,
        rows: Tensor,
        shared: Drawn,
        branches: list[Drawn],
        n: int,
        chunk_bytes: int | None,
    ) -> None:
        self.images, self.rows = images, rows
        self.shared, self.branches, self.n = shared, branches, n
        self.chunk_bytes = chunk_bytes

    def of(self, images: slice) -> "DrawnViews":
        """The views of some of the batch's images."""
        rows = torch.arange(self.n)[images]
        both = torch.cat([rows, rows + self.n])

        def few(count: int) -> Tensor:
            return rows if count == self.n else both

        return DrawnViews(
            self.images,
            self.rows[few(len(self.rows))],
            self.shared.of(few(self.shared.n)),
            [branch.of(few(branch.n)) for branch in self.branches],
            len(rows),
            self.chunk_bytes,
        )

    def make(self, layout: torch.memory_format = torch.contiguous_format) -> Views:
        """The views in the order in which they are made; any other order costs a copy."""
        images, rows, device = self.images, self.rows, self.images.device
        stages = []
        size = images.shape[-2:]
        if self.shared.operations:
            stages.append(_Stage.of(self.shared, rows, size, self.chunk_bytes, device))
            rows, size = stages[0].order.argsort(), torch.Size(stages[0].size)
        branches = [_Stage.of(b, rows, size, self.chunk_bytes, device) for b in self.branches]
        stages += branches
        positions = torch.cat([b.order.argsort() + k * self.n for k, b in enumerate(branches)])
        prepared: Sequence[Iterable[_Chunk]] = [stage.prepared(device) for stage in stages]
        if is_accelerator(device):
            prepared, positions = send((list(map(list, prepared)), positions), device)
        chunks = iter(prepared)
        if self.shared.operations:
            images = stages[0].make(images, next(chunks), torch.contiguous_format)
        made = [
            branch.make(images, of, layout) for branch, of in zip(branches, chunks, strict=True)
        ]
        return Views(made[0] if len(made) == 1 else torch.cat(made), positions)


class _Chunk(NamedTuple):
    """A chunk of views: their places among all, the rows of their images, and what each operation needs."""

    places: slice
    rows: Tensor
    prepared: list[Prepared]


class _Stage(NamedTuple):
    """Operations that take images to views, in the order in which the views are made."""

    drawn: Drawn
    order: Tensor
    """That order, which `drawn` is in, of the views as they were drawn."""
    rows: Tensor
    """The rows of the views' images, on the CPU."""
    size_in: tuple[int, int]
    size: tuple[int, int]
    length: int
    """Views made at a time."""

    @classmethod
    def of(
        cls,
        drawn: Drawn,
        rows: Tensor,
        size_in: Sequence[int],
        chunk_bytes: int | None,
        device: torch.device,
    ) -> Self:
        """A view, or two if they were drawn for twice as many, of each of the images in `rows`."""
        order = drawn.alike_together()
        height, width = size_in
        size = _size_after(drawn.operations, height, width)
        usual = DEVICE_CHUNK_BYTES if is_accelerator(device) else CPU_CHUNK_BYTES
        length = max(1, (chunk_bytes or usual) // (3 * math.prod(size) * _FLOAT_BYTES))
        chosen = rows[order % max(1, len(rows))]
        # Before they are put in order: rows that are neighbours are drawn together.
        in_order = drawn.complete().of(order)
        return cls(in_order, order, chosen, (height, width), size, length)

    def prepared(self, device: torch.device) -> Iterator[_Chunk]:
        """What is needed on `device`, chunk by chunk; on the CPU still."""
        for start in range(0, self.drawn.n, self.length):
            places = slice(start, start + self.length)
            prepared, size = [], self.size_in
            for operation, params in zip(self.drawn.operations, self.drawn.params, strict=True):
                prepared.append(operation.prepare(take(params, places), *size, device))
                size = operation.size_after(*size)
            yield _Chunk(places, self.rows[places], prepared)

    def make(self, images: Tensor, chunks: Iterable[_Chunk], layout: torch.memory_format) -> Tensor:
        """The views, (n, 3, H, W) float32. chunks: of `prepared`, on the images' device."""
        views = torch.empty(self.drawn.n, 3, *self.size, device=images.device, memory_format=layout)
        self._fill(views, images, chunks)
        return views

    # Without autograd's bookkeeping, operations on few images are up to a fifth faster.
    @torch.inference_mode()
    def _fill(self, views: Tensor, images: Tensor, chunks: Iterable[_Chunk]) -> None:
        for places, rows, prepared in chunks:
            made = to_float(images.index_select(0, rows))
            for operation, params in zip(self.drawn.operations, prepared, strict=True):
                made = operation.apply_(made, params)
            views[places] = made


class Policy:
    """Two views of every image: `shared` operations drawn once for both, then each branch's own.

    If both branches have the same operations, every view still draws its own parameters.
    `chunk_bytes` replaces the usual size of a chunk and changes no result.
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

    @property
    def operations(self) -> list[Operation]:
        """All operations, shared ones first."""
        return [*self.shared, *self.first, *self.second]

    def two_views(self, images: Tensor, generator: Generator) -> Tensor:
        """(2N, 3, S, S) float32 in [0, 1]; rows i and i + N are the two views of image i.

        images: (N, 3, H, W), uint8 or float in [0, 1], on any device. The result depends only on
            them and on `generator`.

        Raises ValueError if `images` is not a batch of images.
        """
        return self.draw_two(images, generator).make().in_order()

    def one_view(self, images: Tensor, generator: Generator) -> Tensor:
        """(N, 3, S, S) float32 in [0, 1]: the first branch's view alone."""
        return self.draw_one(images, generator).make().in_order()

    def draw_two(
        self, images: Tensor, generator: Generator, rows: Tensor | None = None
    ) -> "DrawnViews":
        """The views of `two_views`, drawn but not made yet.

        rows: (N,) on the CPU, which of the images are the batch; None for all of them.
        """
        check_images(images)
        rows = torch.arange(len(images)) if rows is None else rows
        n, size = len(rows), images.shape[-2:]
        shared = Drawn.draw(self.shared, n, size, generator)
        size_in = _size_after(self.shared, *size)
        if self.first == self.second:
            branches = [Drawn.draw(self.first, 2 * n, size_in, generator)]
        else:
            branches = [Drawn.draw(b, n, size_in, generator) for b in (self.first, self.second)]
        return DrawnViews(images, rows, shared, branches, n, self.chunk_bytes)

    def draw_one(
        self,
        images: Tensor,
        generator: Generator,
        in_pairs: bool = False,
        rows: Tensor | None = None,
    ) -> "DrawnViews":
        """The views of `one_view`, drawn but not made yet.

        in_pairs: rows i and i + N of the batch are two crops of one image, and their views a pair.
        rows: which of the images are the batch; None for all of them.
        """
        check_images(images)
        rows = torch.arange(len(images)) if rows is None else rows
        size, n = images.shape[-2:], len(rows) // 2 if in_pairs else len(rows)
        branch = Drawn.draw(self.shared + self.first, len(rows), size, generator)
        return DrawnViews(images, rows, Drawn([], [], n), [branch], n, self.chunk_bytes)


def simclr_policy(
    size: int,
    strength: float = 1.0,
    blur: bool = True,
    *,
    color: str = "pytorch",
    crop_area: float = 0.08,
    interpolation: str = "bicubic",
    flip: bool = True,
    extra: str | None = None,
) -> Policy:
    """The policy of Section 3, on both branches.

    In order: random resized crop, flip (p 0.5), colour jitter (p 0.8), grayscale (p 0.2), Gaussian
    blur (p 0.5).

    flip: whether crops are mirrored with probability 0.5 (App. A).
    extra: what is applied last. One of OPERATIONS, as rows of Table 3 add it, or a user's own; or `broader` for
        BROADER (App. B.2). The paper does not say how often. Here it is applied to half of the images, but `rotate` to
        three in four, which makes the four orientations equally likely, and each of BROADER to one in five.
    """
    magnitudes = Magnitudes(size, strength, color, crop_area, interpolation, flip)
    operations = make_operations("crop", magnitudes) + make_operations("color", magnitudes)
    if blur:
        operations.append(RandomApply(GaussianBlur(), 0.5))
    if extra == "broader":
        operations += [RandomApply(operation, 0.2) for operation in BROADER]
    elif extra is not None:
        share = 0.75 if extra == "rotate" else 0.5
        added = make_operations(extra, magnitudes, "views.extra")
        operations += [RandomApply(operation, share) for operation in added]
    return Policy(first=operations, second=operations)


def pair_policy(
    size: int,
    first: str,
    second: str | None = None,
    *,
    strength: float = 1.0,
    color: str = "pytorch",
    crop_area: float = 0.08,
    interpolation: str = "bicubic",
    flip: bool = True,
) -> Policy:
    """Figure 5's asymmetric setting: both branches share one crop, and one of them changes it.

    The crop includes the flip, unless `flip` is False. The first branch applies `first`, then `second`, to every
    image, with the magnitudes of OPERATIONS; the second branch is the crop as it is. If `second` is None or the same
    as `first`, the operation is applied once: the figure's diagonal.

    Raises ConfigError for an unknown name.
    """
    magnitudes = Magnitudes(size, strength, color, crop_area, interpolation, flip)
    operations = make_operations(first, magnitudes, "views.first")
    if second is not None and second != first:
        operations += make_operations(second, magnitudes, "views.second")
    return Policy(shared=[magnitudes.crop()], first=operations)


def crop_policy(
    size: int,
    *,
    crop_area: float = 0.08,
    interpolation: str = "bicubic",
    flip: bool = True,
) -> Policy:
    """Random resized crop and, unless `flip` is False, flip, on both branches: Table B.3's first column."""
    crop = [RandomResizedCrop(size, crop_area, interpolation, flip)]
    return Policy(first=crop, second=crop)


def autoaugment_policy(
    size: int,
    *,
    crop_area: float = 0.08,
    interpolation: str = "bicubic",
    flip: bool = True,
) -> Policy:
    """Random resized crop and, unless `flip` is False, flip, then AutoAugment, on both branches (Table 1).

    Views of more than 64 pixels use AutoAugment's ImageNet table, which was learned on large images;
    others use its CIFAR-10 table.
    """
    crop = RandomResizedCrop(size, crop_area, interpolation, flip)
    operations = [crop, AutoAugment("imagenet" if size > 64 else "cifar10")]
    return Policy(first=operations, second=operations)


def no_policy(size: int, *, interpolation: str = "bicubic") -> Policy:
    """Both views are the image itself, resized if it has another size."""
    return Policy(shared=[Resize(size, interpolation)])


def library_policy(name: str, size: int) -> Policy:
    """The policy that a whole transform of lightly makes, `lightly:NAME(ARGUMENT=VALUE, ...)`. Raises ConfigError."""
    first, second = two_views(name, size)
    return Policy(first=[first], second=[second])


def own_policy(name: str, magnitudes: Magnitudes) -> Policy:
    """The policy that a user's own function `name`, package.module:function, makes from the magnitudes.

    Raises ConfigError if there is no such function, or if it fails or makes something else.
    """
    maker = own.find("views.policy", name)
    with own.blamed(f"views.policy={name}", "make a policy from the magnitudes"):
        policy = maker(magnitudes)
    if not isinstance(policy, Policy):
        raise ConfigError(f"views.policy={name} must make a Policy, got {type(policy).__name__}")
    return policy


def to_float(images: Tensor) -> Tensor:
    """uint8 or float images as float32 in [0, 1]."""
    return images.float().div_(255) if images.dtype == torch.uint8 else images.float()


def check_images(images: Tensor) -> None:
    """Raises ValueError if `images` is not a batch of images."""
    if images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(f"images must be (N, 3, H, W), got {tuple(images.shape)}")
    if images.dtype != torch.uint8 and not images.is_floating_point():
        raise ValueError(f"images must be uint8 or float, got {images.dtype}")


def _size_after(operations: Sequence[Operation], height: int, width: int) -> tuple[int, int]:
    """Height and width of images of (height, width) after all operations."""
    for operation in operations:
        height, width = operation.size_after(height, width)
    return height, width
