"""Reading windows of image files: as torchvision crops them, also where a JPEG is decoded smaller."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.v2 import functional as oracle

from simclr_ablate.augment.operations import RandomResizedCrop, Resize
from simclr_ablate.data import reading
from simclr_ablate.data.decode import UnreadableImageError, open_image, read_rgb
from simclr_ablate.data.reading import CentreRead, CropRead, Read, read_windows
from simclr_ablate.randomness import generator

MODES = {
    "bicubic": oracle.InterpolationMode.BICUBIC,
    "bilinear": oracle.InterpolationMode.BILINEAR,
}


def _smooth(height: int, width: int, seed: int = 0) -> Image.Image:
    """An image without details that a reduced decoding would lose."""
    coarse = np.random.default_rng(seed).integers(0, 256, (7, 9, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def _windows(height: int, width: int, n: int) -> dict[str, torch.Tensor]:
    return RandomResizedCrop(24).draw(n, height, width, generator(0, "windows"))


def read_one(read: Read, path: Path, number: int = 0) -> np.ndarray:
    (found,) = read([path], [number])
    if isinstance(found, UnreadableImageError):
        raise found
    return found


def _expected(image: Image.Image, windows: dict, size: int, interpolation: str) -> np.ndarray:
    crops = []
    for row in range(len(windows["top"])):
        box = [int(windows[name][row]) for name in ("top", "left", "height", "width")]
        crop = oracle.resized_crop(image, *box, [size, size], MODES[interpolation])
        crop = oracle.horizontal_flip(crop) if windows["flip"][row] else crop
        crops.append(np.asarray(crop).transpose(2, 0, 1))
    return np.stack(crops)


@pytest.mark.parametrize("interpolation", MODES)
def test_windows_equal_torchvisions(tmp_path: Path, interpolation: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (61, 83, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    windows = _windows(61, 83, 20)
    result = read_windows(open_image(tmp_path / "image.png"), windows, 24, interpolation)
    expected = _expected(Image.fromarray(pixels), windows, 24, interpolation)
    assert np.array_equal(result, expected)


@pytest.mark.parametrize("interpolation", MODES)
@pytest.mark.parametrize("name", ["image.png", "image.jpg", "grey.jpg", "cmyk.jpg", "palette.gif"])
def test_fast_windows_are_torchs_of_the_same_pixels(
    tmp_path: Path, name: str, interpolation: str
) -> None:
    pixels = Image.fromarray(np.random.default_rng(0).integers(0, 256, (61, 83, 3), dtype=np.uint8))
    modes = {"grey.jpg": "L", "cmyk.jpg": "CMYK", "palette.gif": "P"}
    pixels.convert(modes.get(name, "RGB")).save(tmp_path / name)
    decoded = read_rgb(open_image(tmp_path / name))
    windows = _windows(61, 83, 20)
    result = read_windows(open_image(tmp_path / name), windows, 24, interpolation, exact=False)
    as_tensor = torch.from_numpy(np.array(decoded)).permute(2, 0, 1)
    for row, crop in enumerate(torch.from_numpy(result)):
        box = [int(windows[side][row]) for side in ("top", "left", "height", "width")]
        expected = oracle.resized_crop(as_tensor, *box, [24, 24], MODES[interpolation])
        if windows["flip"][row]:
            expected = oracle.horizontal_flip(expected)
        assert torch.equal(crop, expected)
    exact = read_windows(open_image(tmp_path / name), windows, 24, interpolation)
    difference = np.abs(result.astype(int) - exact)
    assert difference.max() <= 2
    assert (difference > 0).mean() < 0.1


def test_without_torchvisions_decoder_pixels_are_the_same(tmp_path: Path, monkeypatch) -> None:
    _smooth(61, 83).save(tmp_path / "image.jpg")
    windows = _windows(61, 83, 5)

    def read() -> np.ndarray:
        return read_windows(open_image(tmp_path / "image.jpg"), windows, 24, "bicubic", exact=False)

    expected = read()
    monkeypatch.setattr(reading, "decode_jpeg", None)
    assert np.array_equal(read(), expected)


def test_a_broken_jpeg_is_told_by_pillow(tmp_path: Path) -> None:
    _smooth(80, 80).save(tmp_path / "image.jpg")
    content = (tmp_path / "image.jpg").read_bytes()
    (tmp_path / "image.jpg").write_bytes(content[: len(content) // 2])
    for exact in (False, True):
        read = CropRead(RandomResizedCrop(16), 2, 0, 0, False, exact)
        with pytest.raises(UnreadableImageError, match=r"image\.jpg: .*truncated"):
            read_one(read, tmp_path / "image.jpg")


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("size", [(401, 603), (1024, 768), (130, 130)])
def test_jpegs_decoded_smaller_show_the_same(
    tmp_path: Path, size: tuple[int, int], exact: bool
) -> None:
    _smooth(*size).save(tmp_path / "image.jpg", quality=98)
    for seed in range(5):
        crop = RandomResizedCrop(24)
        windows = crop.draw(2, *size, generator(seed, "windows"))
        result = read_windows(open_image(tmp_path / "image.jpg"), windows, 24, "bicubic", exact)
        whole = read_rgb(open_image(tmp_path / "image.jpg"))
        expected = _expected(whole, windows, 24, "bicubic")
        difference = np.abs(result.astype(int) - expected)
        assert difference.mean() < 1
        assert difference.max() < 12


def test_a_large_jpeg_is_not_decoded_whole(tmp_path: Path) -> None:
    _smooth(800, 800).save(tmp_path / "image.jpg")
    image = open_image(tmp_path / "image.jpg")
    whole = torch.tensor([800])
    windows = {"top": whole * 0, "left": whole * 0, "height": whole, "width": whole}
    read_windows(image, windows, 24, "bicubic")
    assert image.size == (100, 100)


def test_windows_depend_on_seed_epoch_and_image(tmp_path: Path) -> None:
    _smooth(90, 120).save(tmp_path / "image.png")

    def read(seed: int, epoch: int, number: int) -> bytes:
        crop = CropRead(RandomResizedCrop(16), 2, seed, epoch, replace=False)
        return read_one(crop, tmp_path / "image.png", number).tobytes()

    assert read(0, 0, 0) == read(0, 0, 0)
    assert len({read(0, 0, 0), read(1, 0, 0), read(0, 1, 0), read(0, 0, 1)}) == 4


def test_images_read_together_are_those_read_alone(tmp_path: Path) -> None:
    """Whatever their sizes, and also beside one that can't be read."""
    sizes = [(90, 120), (31, 200), (64, 64), (300, 20)]
    for number, size in enumerate(sizes):
        _smooth(*size).save(tmp_path / f"{number}.png")
    (tmp_path / "9.png").write_bytes(b"none")
    paths = [tmp_path / f"{name}.png" for name in (0, 1, 9, 2, 3)]
    for crop in (RandomResizedCrop(16), Resize(16)):
        read = CropRead(crop, 2, 5, 1, replace=False)
        together = list(read(paths, [4, 8, 0, 15, 16]))
        assert isinstance(together.pop(2), UnreadableImageError)
        for number, (path, own) in enumerate(
            zip([*paths[:2], *paths[3:]], [4, 8, 15, 16], strict=True)
        ):
            height, width = sizes[number]
            windows = crop.draw(2, height, width, generator(5, "crops", 1, own))
            assert np.array_equal(together[number], read_one(read, path, own))
            assert np.array_equal(
                together[number], read_windows(open_image(path), windows, 16, "bicubic")
            )


def test_the_two_windows_of_an_image_differ(tmp_path: Path) -> None:
    _smooth(90, 120).save(tmp_path / "image.png")
    crop = CropRead(RandomResizedCrop(16), 2, 0, 0, False)
    first, second = read_one(crop, tmp_path / "image.png", 3)
    assert not np.array_equal(first, second)


def test_a_resize_reads_the_whole_image(tmp_path: Path) -> None:
    image = _smooth(40, 60)
    image.save(tmp_path / "image.png")
    (result,) = read_one(CropRead(Resize(16), 1, 0, 0, False), tmp_path / "image.png")
    assert np.array_equal(result.transpose(1, 2, 0), np.asarray(image.resize((16, 16), 3)))


@pytest.mark.parametrize("ending", ["png", "jpg"])
def test_evaluation_reads_the_centre(tmp_path: Path, ending: str) -> None:
    _smooth(300, 427).save(tmp_path / f"image.{ending}", quality=98)
    result = read_one(CentreRead(37, 32), tmp_path / f"image.{ending}")
    whole = read_rgb(open_image(tmp_path / f"image.{ending}"))
    resized = oracle.resize(whole, [37], MODES["bicubic"])
    expected = np.asarray(oracle.center_crop(resized, [32, 32])).transpose(2, 0, 1)
    difference = np.abs(result.astype(int) - expected)
    assert difference.max() == 0 if ending == "png" else difference.mean() < 1.5
