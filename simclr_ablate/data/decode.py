"""Reading image files with Pillow; without PyTorch, so that processes that decode start quickly."""

import os
import warnings
from pathlib import Path

import numpy as np
from PIL import Image

from simclr_ablate.config import ConfigError


class UnreadableImageError(Exception):
    """A file that Pillow cannot read: the message names it and says why."""


def unreadable_error(reason: str) -> ConfigError:
    """What the user is told of a file that can't be read, and what to do about it."""
    return ConfigError(
        f"data.root must hold images that can be read, got {reason}; "
        "repair or remove the file, or leave such files out by data.on_error=skip"
    )


def open_image(path: str | os.PathLike[str]) -> Image.Image:
    """The file, opened but not decoded yet. Raises UnreadableImageError."""
    try:
        return Image.open(path)
    except Exception as error:  # Pillow's plugins raise whatever comes their way
        raise _unreadable(path, error) from error


def read_rgb(image: Image.Image) -> Image.Image:
    """Decodes an opened image and makes it 8-bit RGB; transparency is dropped, as in torchvision.

    Raises UnreadableImageError.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd metadata, once per file
            image.load()
            return _from_16_bits(image) if image.mode.startswith("I") else image.convert("RGB")
    except Exception as error:
        raise _unreadable(getattr(image, "filename", "?"), error) from error


def read_square(path: str | os.PathLike[str], size: int) -> np.ndarray:
    """The image with its short side resized to `size` (bicubic, antialiased), its centre cut out.

    Returns uint8 (3, size, size). Raises UnreadableImageError.
    """
    return to_array(centre_square(read_rgb(open_image(path)), size, size))


def centre_square(image: Image.Image, short_side: int, size: int) -> Image.Image:
    """The centre (size, size) of the image once its short side is `short_side`, as in torchvision."""
    short = min(image.size)
    width, height = (short_side * side // short for side in image.size)
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BICUBIC)
    left, top = round((width - size) / 2), round((height - size) / 2)
    return image.crop((left, top, left + size, top + size))


def to_array(image: Image.Image) -> np.ndarray:
    """An RGB image as uint8 (3, H, W)."""
    return np.asarray(image).transpose(2, 0, 1)


def decode_rows(
    root: Path, names: list[str], size: int, target: Path, first: int
) -> tuple[int, list[tuple[int, str]]]:
    """Decodes files into rows `first` on of the array in `target`, uint8 (N, 3, size, size).

    Returns the number of files and, of each that cannot be read, its row and what is wrong.
    """
    rows = np.load(target, mmap_mode="r+")
    unreadable = []
    for row, name in enumerate(names, first):
        try:
            rows[row] = read_square(root / name, size)
        except UnreadableImageError as error:
            unreadable.append((row, str(error)))
    return len(names), unreadable


def _from_16_bits(image: Image.Image) -> Image.Image:
    """Greys of 16 bits scaled to 8, which Pillow's own conversion clips."""
    greys = np.clip(np.asarray(image).astype(np.int64), 0, 65535) // 257
    return Image.fromarray(greys.astype(np.uint8)).convert("RGB")


def _unreadable(path: str | os.PathLike[str], error: Exception) -> UnreadableImageError:
    return UnreadableImageError(f"{os.fspath(path)}: {error or type(error).__name__}")
