"""Reads image files with Pillow, and without PyTorch, which would slow down the start of decoding processes.

How an image becomes 8-bit RGB:

- EXIF rotation is ignored, and transparency is dropped, as in torchvision's loader.
- 16-bit integers, grey or colour, are scaled from 0 to 65,535. If a TIFF declares less (12 bits a sample, or a
  MaxSampleValue if it is grey), they are scaled from 0 to that. Otherwise, a file with no value in the upper three
  quarters of the range is rejected, unless it is all black: it may hold 12 bits in 16, and would be nearly black.
- 32-bit integers stay as they are if all are 0 to 255, are taken as 16 bits if all are 0 to 65,535, and are rejected
  otherwise.
- Floating-point numbers are scaled from 0 to 1, and rejected if one is outside that range or not a number.
- Files of more than 178,956,970 pixels are rejected: Pillow's own limit, against files that claim more than they hold.

Decoding takes at most 16 bytes of memory for each pixel of the file, 64 for each pixel of the square that is made, and
the size of the file.
"""

import hashlib
import os
import stat
import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from simclr_ablate.config import ConfigError

_FORMATS = ("JPEG", "PNG", "BMP", "DIB", "GIF", "TIFF", "WEBP", "PPM")
"""Pillow's names for the formats that are opened, whatever a file is called: no documents, no films."""

_LONG = 8

_MAX_SAMPLE_VALUE, _BITS_PER_SAMPLE = 281, 258
"""Tags of TIFF files."""


class UnreadableImageError(Exception):
    """Pillow cannot read a file; the message names it and says why."""


def unreadable_error(reason: str) -> ConfigError:
    """The error for a file that can't be read, which tells the user what to do about it."""
    return ConfigError(
        f"data.root must hold images that can be read, got {reason}; "
        "repair or remove the file, or leave such files out with data.on_error=skip"
    )


def open_image(path: str | os.PathLike[str]) -> Image.Image:
    """The file, opened but not decoded yet. Raises UnreadableImageError."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # opening a pipe would wait for a writer
            raise OSError("not a regular file")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about size: too large an image is an error anyway
            return Image.open(path, formats=_FORMATS)
    except Exception as error:  # Pillow's plugins raise anything
        raise _unreadable(path, error) from error


def read_rgb(image: Image.Image) -> Image.Image:
    """Decodes an opened image to 8-bit RGB, by the module's rules. Raises UnreadableImageError."""
    try:
        # If such an image is in colour, Pillow keeps the upper 8 bits.
        deep = ";16" in str(getattr(image, "tile", ""))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about odd metadata, once per file
            image.load()
        if image.mode == "F":
            return _from_floats(image)
        if image.mode.startswith("I"):
            return _from_integers(image)
        rgb = image.convert("RGB")
        if deep:
            _check_range(257 * max(high for _, high in rgb.getextrema()))  # type: ignore[misc]
        return rgb
    except Exception as error:
        raise _unreadable(getattr(image, "filename", "?"), error) from error


def read_square(path: str | os.PathLike[str], size: int) -> np.ndarray:
    """The centre of the image after its short side is resized to `size` (bicubic, antialiased).

    Returns uint8 (3, size, size). Raises UnreadableImageError.
    """
    return to_array(centre_square(read_rgb(open_image(path)), size, size))


def is_readable(path: str | os.PathLike[str]) -> bool:
    """Whether the file can be decoded now."""
    try:
        read_rgb(open_image(path))
    except UnreadableImageError:
        return False
    return True


def centre_square(image: Image.Image, short_side: int, size: int) -> Image.Image:
    """The centre (size, size) of the image after its short side is resized to `short_side`, as in torchvision.

    If an image is more than _LONG times as long as it is wide, only the part in the centre is resized: a panorama of
    one row would become short_side times as long as it is. Pillow rounds that differently, by a level or two.
    """
    short = min(image.size)
    width, height = (short_side * side // short for side in image.size)
    left, top = round((width - size) / 2), round((height - size) / 2)
    if max(image.size) > _LONG * short:
        across, down = image.width / width, image.height / height
        box = (left * across, top * down, (left + size) * across, (top + size) * down)
        return image.resize((size, size), Image.Resampling.BICUBIC, box)
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BICUBIC)
    return image.crop((left, top, left + size, top + size))


def to_array(image: Image.Image) -> np.ndarray:
    """An RGB image as uint8 (3, H, W)."""
    return np.asarray(image).transpose(2, 0, 1)


def decode_rows(
    root: Path, names: list[str], size: int, target: Path, begin: int, rows: list[int]
) -> list[tuple[int, bytes, str | None]]:
    """Decodes files into `rows` of the array in `target`, uint8 (N, 3, size, size) from the byte `begin` on.

    Returns (row, digest of the pixels, None) for each file, or (row, b"", reason) if it cannot be read. Writes to the
    file, not to mapped memory, where a full disk kills the process. Raises OSError.
    """
    decoded: list[tuple[int, bytes, str | None]] = []
    with open(target, "r+b") as file:
        for row, name in zip(rows, names, strict=True):
            try:
                pixels = read_square(root / name, size).tobytes()
            except UnreadableImageError as error:
                decoded.append((row, b"", str(error)))
                continue
            file.seek(begin + row * len(pixels))
            file.write(pixels)
            decoded.append((row, pixel_digest(pixels), None))
    return decoded


def pixel_digest(pixels: bytes) -> bytes:
    """Stands for an image's pixels in the fingerprint of its set."""
    return hashlib.blake2b(pixels, digest_size=16).digest()


def _from_integers(image: Image.Image) -> Image.Image:
    """8-bit RGB from grey of 16 or 32 bits."""
    low, high = (int(value) for value in image.getextrema())  # type: ignore[arg-type]
    most = _declared(image)
    if most is None and image.mode == "I" and image.format == "TIFF" and high <= 255:
        most = 255  # 32-bit integers
    if most is None:
        most = 65535
        _check_range(high)
    if low < 0 or high > most:
        raise ValueError(
            f"integers from {low} to {high}, but only 0 to {most} can be scaled to 8 bits"
        )
    levels = np.rint(np.arange(most + 1) * (255 / most)).astype(np.uint8)
    return _grey(levels[np.asarray(image)])


def _declared(image: Image.Image) -> int | None:
    """The largest value that the file says its samples can have, or None; Pillow scales a PGM's to 65,535."""
    if image.format == "PPM":
        return 65535
    tags = getattr(image, "tag_v2", {})
    if _MAX_SAMPLE_VALUE in tags:
        return min(max(int(np.max(tags[_MAX_SAMPLE_VALUE])), 1), 65535)
    bits = int(np.max(tags.get(_BITS_PER_SAMPLE, 16)))
    return 2**bits - 1 if bits < 16 else None


def _check_range(high: int) -> None:
    """Raises ValueError if integers up to `high` may be 12 bits in 16."""
    if 0 < high < 16384:
        raise ValueError(
            f"16-bit integers with none in the upper three quarters: nearly black, or fewer bits (the highest is "
            f"{high} of 65535); save it with 8 bits, or scaled to all 16"
        )


def _from_floats(image: Image.Image) -> Image.Image:
    values = np.array(image)
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and high <= 1):  # true of NaN too
        raise ValueError(
            f"floating-point values from {low:g} to {high:g}, but only 0 to 1 can be scaled to 8 bits"
        )
    values *= 255
    return _grey(np.rint(values, out=values).astype(np.uint8))


def _grey(levels: NDArray[np.uint8]) -> Image.Image:
    return Image.fromarray(levels).convert("RGB")


def _unreadable(path: str | os.PathLike[str], error: Exception) -> UnreadableImageError:
    reason = " ".join(str(error).split()) or type(error).__name__
    return UnreadableImageError(f"{os.fspath(path)}: {reason}")
