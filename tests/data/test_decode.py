"""Decoding: every mode of image becomes RGB, resized as torchvision does it."""

import subprocess
import sys
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


def test_16_bit_greys_keep_their_range(tmp_path: Path) -> None:
    greys = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)
    Image.fromarray(greys).save(tmp_path / "grey.png")
    result = read_square(tmp_path / "grey.png", 64)
    assert np.abs(result.astype(int) - np.rint(greys / 257)).max() <= 1


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
