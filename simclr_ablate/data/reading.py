"""A worker's part in a streamed data set: it decodes files, as little of them as the crop allows."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset, get_worker_info

from simclr_ablate.augment.operations import Params, RandomResizedCrop, Resize
from simclr_ablate.data.decode import (
    UnreadableImageError,
    centre_square,
    open_image,
    read_rgb,
    to_array,
)
from simclr_ablate.data.processes import naming_shared_memory
from simclr_ablate.files import StorageError
from simclr_ablate.randomness import generator

try:
    from torchvision.io import ImageReadMode, decode_jpeg
except ImportError:  # torchvision 0.29 announced that these will go
    decode_jpeg = None

_SCALES = (8, 4, 2)
"""Divisors by which a JPEG can be decoded at a smaller size."""

_FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


Box = tuple[int, int, int, int, bool]
"""Top, left, height and width in pixels, and whether the window is mirrored."""

Found = np.ndarray | UnreadableImageError
"""What was read of an image, or why it can't be read."""


@dataclass(frozen=True)
class CropRead:
    """Reads `crops` random windows of an image, drawn per (seed, epoch, image)."""

    crop: RandomResizedCrop | Resize
    crops: int
    seed: int
    epoch: int
    replace: bool
    """Whether another image replaces one that can't be read, which keeps batches full."""
    exact: bool = True
    """Whether pixels are exactly those of Pillow's resize; see `read_windows`."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of what is read of an image."""
        return self.crops, 3, self.crop.size, self.crop.size

    def __call__(self, paths: Sequence[Path], numbers: Sequence[int]) -> Iterator[Found]:
        """uint8 (crops, 3, S, S) of each image. numbers: the images' own.

        All are opened before the first is decoded, since windows are drawn faster for many images at once.
        """
        opened = [_opened(path) for path in paths]
        there = [
            (image, number)
            for image, number in zip(opened, numbers, strict=True)
            if not isinstance(image, UnreadableImageError)
        ]
        windows = iter(self._boxes(there) if there else [])
        for image in opened:
            if isinstance(image, UnreadableImageError):
                yield image
                continue
            boxes, crop = next(windows), self.crop
            try:
                yield _read_boxes(image, boxes, crop.size, crop.interpolation, self.exact)
            except UnreadableImageError as error:
                yield error

    def _boxes(self, images: Sequence[tuple[Image.Image, int]]) -> Iterator[list[Box]]:
        """The windows of each image."""
        sizes = [(image.height, image.width) for image, _ in images]
        draws = [generator(self.seed, "crops", self.epoch, number) for _, number in images]
        windows = self.crop.draw_each(self.crops, sizes, draws)
        for row in range(len(images)):
            yield _boxes({name: values[row] for name, values in windows.items()})


@dataclass(frozen=True)
class CentreRead:
    """Reads the centre (size, size) of an image after its short side is resized to `short_side`."""

    short_side: int
    size: int
    replace: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        """Of what is read of an image."""
        return 3, self.size, self.size

    def __call__(self, paths: Sequence[Path], numbers: Sequence[int]) -> Iterator[Found]:
        """uint8 (3, size, size) of each image. numbers: the images' own, on which nothing depends."""
        for path in paths:
            try:
                yield self._read(path)
            except UnreadableImageError as error:
                yield error

    def _read(self, path: Path) -> np.ndarray:
        image = open_image(path)
        # At twice the size that is needed, the result is that of resizing the whole image.
        _reduce(image, min(image.size) / (2 * self.short_side))
        return to_array(centre_square(read_rgb(image), self.short_side, self.size))


Read = CropRead | CentreRead


class Part(NamedTuple):
    """Some images of a batch: how to read them, their files, their own numbers, and their indices in the set."""

    read: Read
    names: list[str]
    numbers: list[int]
    indices: list[int]
    positions: list[int]
    """Which of them to read; the others may replace one that can't be read."""


class PartReader(Dataset):
    """Reads a part: the images, the index of each in the set, and the reasons for those that couldn't be read.

    A worker reads into memory that the waiting process shares. If there is not enough of it, a StorageError comes
    instead.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def __getitem__(self, part: Part) -> tuple[Tensor, Tensor, list[str]] | StorageError:
        try:
            images = _shared(torch.empty(len(part.positions), *part.read.shape, dtype=torch.uint8))
            used, problems = self._read(part, images)
            return images[: len(used)], _shared(torch.tensor(used, dtype=torch.long)), problems
        except StorageError as error:
            return error

    def _read(self, part: Part, images: Tensor) -> tuple[list[int], list[str]]:
        """Reads into `images`; returns the index of each image that was read, and the reasons for the others."""
        used: list[int] = []
        problems: list[str] = []
        numbers = [part.numbers[position] for position in part.positions]
        found = part.read([self.root / part.names[p] for p in part.positions], numbers)
        for position, number, image in zip(part.positions, numbers, found, strict=True):
            chosen = position
            if isinstance(image, UnreadableImageError):
                problems.append(str(image))
                others = (*range(position + 1, len(part.names)), *range(position))
                for chosen in others if part.read.replace else ():
                    (image,) = part.read([self.root / part.names[chosen]], [number])
                    if not isinstance(image, UnreadableImageError):
                        break
            if not isinstance(image, UnreadableImageError):
                images[len(used)].numpy()[:] = image
                used.append(part.indices[chosen])
        return used, problems


def _shared(tensor: Tensor) -> Tensor:
    """The tensor, in memory that the waiting process shares if this is a worker. Raises StorageError.

    Otherwise the worker's queue would move it there, and would only print an error: the images would never arrive.
    """
    if get_worker_info() is None:
        return tensor
    with naming_shared_memory("set compute.workers=0"):
        return tensor.share_memory_()


def _opened(path: Path) -> Image.Image | UnreadableImageError:
    try:
        return open_image(path)
    except UnreadableImageError as error:
        return error


def read_windows(
    image: Image.Image, windows: Params, size: int, interpolation: str, exact: bool = True
) -> np.ndarray:
    """Windows (top, left, height, width in pixels, flip) of an image, as uint8 (N, 3, size, size).

    The image is decoded once for all windows, at the smallest scale that leaves each `size` pixels.

    exact: whether Pillow resizes it. Otherwise, torch does, unless a JPEG is decoded smaller: that takes half of the
        time, and rounds differently, by a level or two in a few values of a hundred.
    """
    return _read_boxes(image, _boxes(windows), size, interpolation, exact)


def _read_boxes(
    image: Image.Image, boxes: Sequence[Box], size: int, interpolation: str, exact: bool
) -> np.ndarray:
    scale = _reduce(image, min(min(height, width) for _, _, height, width, _ in boxes) / size)
    if scale == 1 and not exact:
        return _resized_by_torch(_decoded(image), boxes, size, interpolation)
    rgb = read_rgb(image)
    views = []
    for top, left, height, width, flip in boxes:
        box = (left / scale, top / scale, (left + width) / scale, (top + height) / scale)
        view = _resized(rgb, box, size, _FILTERS[interpolation])
        views.append(to_array(view.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if flip else view))
    return np.stack(views)


def _resized_by_torch(
    pixels: Tensor, boxes: Sequence[Box], size: int, interpolation: str
) -> np.ndarray:
    views = torch.empty(len(boxes), 3, size, size, dtype=torch.uint8)
    for view, (top, left, height, width, flip) in zip(views, boxes, strict=True):
        window = pixels[None, :, top : top + height, left : left + width]
        resized = F.interpolate(window, (size, size), mode=interpolation, antialias=True)[0]
        view.copy_(resized.flip(2) if flip else resized)
    return views.numpy()


def _decoded(image: Image.Image) -> Tensor:
    """The image as uint8 (3, H, W), by libjpeg without Pillow where that is possible: the same pixels, faster.

    Raises UnreadableImageError.
    """
    if decode_jpeg is not None and image.format == "JPEG" and image.mode in ("RGB", "L"):
        with suppress(RuntimeError, OSError):  # Pillow then says what is wrong, if something is
            content = bytearray(Path(image.filename).read_bytes())  # type: ignore[attr-defined]
            encoded = torch.frombuffer(content, dtype=torch.uint8)
            return decode_jpeg(encoded, mode=ImageReadMode.RGB)
    # Channels last in memory, which torch resizes faster.
    return torch.from_numpy(np.array(read_rgb(image))).permute(2, 0, 1)


def _boxes(windows: Params) -> list[Box]:
    sides = [windows[name].tolist() for name in ("top", "left", "height", "width")]
    flips = windows["flip"].tolist() if "flip" in windows else [False] * len(sides[0])
    return list(zip(*sides, flips, strict=True))


def _resized(
    image: Image.Image,
    box: tuple[float, float, float, float],
    size: int,
    resample: Image.Resampling,
) -> Image.Image:
    """The box (left, top, right, bottom) at (size, size), from its own pixels alone if its edges are whole."""
    if all(edge.is_integer() for edge in box):
        left, top, right, bottom = (int(edge) for edge in box)
        return image.crop((left, top, right, bottom)).resize((size, size), resample)
    return image.resize((size, size), resample, box)


def _reduce(image: Image.Image, most: float) -> int:
    """Makes a JPEG decode `scale` <= `most` times smaller, which is faster; returns `scale`."""
    scale = next((scale for scale in _SCALES if scale <= most), 1)
    if scale == 1 or image.format != "JPEG":
        return 1
    image.draft("RGB", (image.width // scale, image.height // scale))
    return scale
