"""The gallery draws from what is registered, on shapes or on a user's images."""

import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
import torch
from PIL import Image

from simclr_ablate.augment import gallery

mpl.use("agg")


def pixels(path: Path) -> np.ndarray:
    return np.array(Image.open(path).convert("RGB"))


@pytest.mark.slow
def test_the_command_writes_the_same_picture_for_a_seed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        out = str(tmp_path / "new" / f"{name}.png")
        monkeypatch.setattr(sys, "argv", ["gallery", "--out", out, "--seed", seed])
        gallery.main()
    first, again, other = (pixels(tmp_path / "new" / f"{name}.png") for name in "abc")
    assert np.array_equal(first, again)
    assert first.shape != other.shape or not np.array_equal(first, other)


def test_images_of_a_folder_are_cut_to_squares(tmp_path: Path) -> None:
    for i, color in enumerate(["red", "lime", "blue", "white", "black"]):
        folder = tmp_path / str(i)
        folder.mkdir()
        Image.new("RGB", (50 + i, 40), color).save(folder / "image.png")
    (tmp_path / "0" / "notes.txt").write_text("no image")
    images = gallery.load(tmp_path, 24)
    assert images.shape == (4, 3, 24, 24)
    assert images.dtype == torch.uint8
    expected = [[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]]
    assert images[:, :, 12, 12].tolist() == expected


def test_too_few_images_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="at least 4 images"):
        gallery.load(tmp_path, 24)


def test_draws_start_with_the_image_and_change_it() -> None:
    images = gallery.sample_shapes(0)
    for name, chain in gallery.operation_rows(32):
        tiles = gallery.draws(chain, images, 32, 0)
        assert torch.equal(tiles[0], images[0].float() / 255), name
        assert not torch.equal(tiles[1:6], tiles[:1].expand(5, -1, -1, -1)), name
