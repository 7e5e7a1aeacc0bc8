"""Decoding: every mode of image becomes RGB, resized as torchvision does it."""

import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from simclr_ablate.data.decode import UnreadableImageError, open_image, read_rgb, read_square


def _noise(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("size", [(32, 32), (50, 41), (29, 64), (16, 90)])
def test_the_centre_square_equals_torchvisions(tmp_path: Path, size: tuple[int, int]) -> None:
    image = Image.fromarray(_noise((size[1], size[0], 3)))
    image.save(tmp_path / "image.png")
    expected = v2.Compose([v2.Resize(32, v2.InterpolationMode.BICUBIC), v2.CenterCrop(32)])(image)
    result = read_square(tmp_path / "image.png", 32)
    assert result.shape == (3, 32, 32)
    assert np.array_equal(result.transpose(1, 2, 0), np.asarray(expected))


@pytest.mark.parametrize(
    ("mode", "ending"),
    [("L", "png"), ("RGBA", "png"), ("LA", "png"), ("P", "gif"), ("1", "bmp"), ("CMYK", "jpg")],
)
def test_every_mode_becomes_rgb(tmp_path: Path, mode: str, ending: str) -> None:
    colours = Image.fromarray(_noise((8, 8, 3)).repeat(8, 0).repeat(8, 1))
    path = tmp_path / f"image.{ending}"
    colours.convert(mode).save(path)
    result = read_rgb(open_image(path))
    assert result.mode == "RGB"
    with Image.open(path) as again:
        assert np.array_equal(np.asarray(result), np.asarray(again.convert("RGB")))


def _write_png(path: Path, pixels: np.ndarray) -> None:
    """A PNG of 16 bits, (H, W, 2 or 3): Pillow writes none."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        body = kind + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    height, width, channels = pixels.shape
    colour = {2: 4, 3: 2}[channels]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def _levels(top: float, kind: type) -> np.ndarray:
    """Random values (6, 7) from 0 to `top`, both of which are there."""
    values = np.random.default_rng().uniform(0, top, (6, 7))
    values[0, 0], values[5, 6] = 0, top
    return values.astype(kind)


def _read(path: Path) -> np.ndarray:
    """An image of greys, decoded: int (H, W)."""
    rgb = np.asarray(read_rgb(open_image(path))).astype(int)
    assert (rgb == rgb[..., :1]).all()
    return rgb[..., 0]


@pytest.mark.parametrize(
    ("ending", "kind", "top"),
    [
        ("tif", np.float32, 1.0),
        ("tif", np.uint16, 65535),
        ("png", np.uint16, 65535),
        ("png", np.uint16, 16384),
        ("tif", np.int32, 65535),
        ("tif", np.int32, 255),
        ("tif", np.int32, 9),
        ("png", np.uint16, 0),
    ],
)
def test_other_ranges_are_scaled(tmp_path: Path, ending: str, kind: type, top: float) -> None:
    values = _levels(top, kind)
    Image.fromarray(values).save(tmp_path / f"image.{ending}")
    full = {1.0: 1.0, 255: 255, 9: 255}.get(top, 65535)
    expected = values.astype(float) / full * 255
    assert np.abs(_read(tmp_path / f"image.{ending}") - expected).max() <= 0.5 + 1e-4


def test_declared_ranges_are_scaled_by_them(tmp_path: Path) -> None:
    for top in (4095, 700):  # also where the image is dark
        values = _levels(top, np.uint16)
        Image.fromarray(values).save(tmp_path / "image.tif", tiffinfo={281: 4095})
        assert np.abs(_read(tmp_path / "image.tif") - values / 4095 * 255).max() <= 0.5
        header = b"P5 7 6 4095\n"
        (tmp_path / "image.pgm").write_bytes(header + values.astype(">u2").tobytes())
        assert np.abs(_read(tmp_path / "image.pgm") - values / 4095 * 255).max() <= 0.51


@pytest.mark.parametrize(
    ("ending", "values", "message"),
    [
        ("tif", _levels(1.01, np.float32), "floating-point values from 0 to 1.01"),
        ("tif", _levels(255, np.float32), "floating-point values from 0 to 255"),
        ("tif", _levels(1, np.float32) - 0.1, "floating-point values from -0.1"),
        ("tif", np.full((4, 4), np.nan, np.float32), "floating-point values from nan"),
        ("tif", np.full((4, 4), np.inf, np.float32), "floating-point values from inf"),
        ("png", _levels(4095, np.uint16), "the highest is 4095 of 65535"),
        ("tif", _levels(16383, np.uint16), "the highest is 16383 of 65535"),
        ("tif", _levels(5000, np.int32), "the highest is 5000 of 65535"),
        ("tif", _levels(70000, np.int32), "integers from 0 to 70000"),
        ("tif", _levels(9, np.int32) - 1, "integers from -1 to 8"),
    ],
)
def test_what_cannot_be_scaled_is_refused_by_name(
    tmp_path: Path, ending: str, values: np.ndarray, message: str
) -> None:
    Image.fromarray(values).save(tmp_path / f"image.{ending}")
    with pytest.raises(UnreadableImageError, match=rf"image\.{ending}: .*{message}"):
        read_square(tmp_path / f"image.{ending}", 8)


@pytest.mark.parametrize("channels", [2, 3])
def test_12_bits_in_16_of_colour_are_refused(tmp_path: Path, channels: int) -> None:
    values = np.random.default_rng().integers(0, 65536, (9, 7, channels))
    values[0, 0] = 65535
    _write_png(tmp_path / "whole.png", values)
    rgb = np.asarray(read_rgb(open_image(tmp_path / "whole.png"))).astype(int)
    colours = values[..., :1] if channels == 2 else values
    assert np.abs(rgb - colours / 257).max() <= 1
    _write_png(tmp_path / "part.png", values // 16)
    with pytest.raises(
        UnreadableImageError, match=r"part\.png: 16-bit integers with none in the upper"
    ):
        read_rgb(open_image(tmp_path / "part.png"))


def test_exif_rotation_is_ignored(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(_noise((9, 17, 3))).save(tmp_path / "image.jpg", exif=exif)
    assert read_rgb(open_image(tmp_path / "image.jpg")).size == (17, 9)


def test_a_pipe_is_never_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(UnreadableImageError, match=r"pipe\.png: not a regular file"):
        read_square(tmp_path / "pipe.png", 8)


def test_a_document_that_is_called_an_image_is_none(tmp_path: Path) -> None:
    Image.fromarray(_noise((8, 8, 3))).save(tmp_path / "page.pdf")
    (tmp_path / "page.pdf").rename(tmp_path / "page.png")
    Image.fromarray(_noise((8, 8, 3))).save(tmp_path / "page.eps")
    (tmp_path / "page.eps").rename(tmp_path / "page.jpg")
    for name in ("page.png", "page.jpg"):
        with pytest.raises(UnreadableImageError, match=rf"{name}: cannot identify"):
            read_square(tmp_path / name, 8)


@pytest.mark.parametrize("size", [(1, 3000), (3000, 1), (11, 2000), (2000, 11)])
def test_long_images_equal_torchvisions(tmp_path: Path, size: tuple[int, int]) -> None:
    """Of smooth images: the order of the two passes of resizing shows where noise is clipped."""
    coarse = Image.fromarray(_noise((3, 40, 3))).resize(size, Image.Resampling.BICUBIC)
    coarse.save(tmp_path / "image.png")
    expected = v2.Compose([v2.Resize(24, v2.InterpolationMode.BICUBIC), v2.CenterCrop(24)])(coarse)
    result = read_square(tmp_path / "image.png", 24).transpose(1, 2, 0).astype(int)
    assert np.abs(result - np.asarray(expected)).max() <= 2


MEASURE = """
import resource, sys
from simclr_ablate.data.decode import read_square
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
read_square(sys.argv[1], int(sys.argv[2]))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "mode", "ending"),
    [
        ((60_000, 1), "RGB", "png"),
        ((1, 60_000), "RGB", "png"),
        ((20_000, 150), "L", "png"),
        ((3000, 2500), "RGBA", "png"),
        ((3000, 2500), "RGB", "webp"),
        ((3000, 2500), "CMYK", "jpg"),
        ((3000, 2500), "I;16", "png"),
        ((3000, 2500), "I", "tif"),
        ((3000, 2500), "F", "tif"),
    ],
)
def test_decoding_takes_little_more_memory_than_the_image(
    tmp_path: Path, size: tuple[int, int], mode: str, ending: str
) -> None:
    side, path = 224, tmp_path / f"image.{ending}"
    values = {"I;16": np.uint16(50_000), "I": np.int32(50_000), "F": np.float32(0.5)}
    if mode in values:
        image = Image.fromarray(np.full(size[::-1], values[mode]))
    else:
        image = Image.fromarray(_noise((*size[::-1], 3))).convert(mode)
    image.save(path)
    command = [sys.executable, "-c", MEASURE, str(path), str(side)]
    measured = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    stated = 16 * size[0] * size[1] + 64 * side**2 + path.stat().st_size
    assert measured * 1024 <= stated + 5 * 2**20  # Pillow's plugins


@pytest.mark.parametrize("content", [b"", b"not an image", b"\x89PNG\r\n\x1a\n\x00"])
def test_a_file_that_is_no_image_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.png").write_bytes(content)
    with pytest.raises(UnreadableImageError, match=r"bad\.png: "):
        read_square(tmp_path / "bad.png", 8)


def test_a_truncated_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "cut.jpg"
    Image.fromarray(_noise((64, 64, 3))).save(path)
    path.write_bytes(path.read_bytes()[:-900])
    with pytest.raises(UnreadableImageError, match=r"cut\.jpg: .*truncated"):
        read_square(path, 32)


def test_decoding_needs_no_torch() -> None:
    code = "import simclr_ablate.data.decode, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_pixels_keep_their_place(tmp_path: Path) -> None:
    pixels = _noise((10, 10, 3))
    Image.fromarray(pixels).save(tmp_path / "image.png")
    result = torch.from_numpy(read_square(tmp_path / "image.png", 10).copy())
    assert torch.equal(result, torch.from_numpy(pixels).permute(2, 0, 1))
