"""A folder of images through its cache: right, decoded once, honest about what can't be read."""

import logging
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from simclr_ablate.config import ConfigError
from simclr_ablate.data.decode import read_square
from simclr_ablate.data.image_folder import open_image_folder

CLASSES = ["ant", "bee", "cat"]


def write_images(root: Path, per_class: int, ending: str = "png", seed: int = 0) -> None:
    draw = np.random.default_rng(seed)
    for split in ("train", "test"):
        for name in CLASSES:
            (root / split / name).mkdir(parents=True)
            for number in range(per_class):
                height, width = draw.integers(9, 30, 2)
                pixels = draw.integers(0, 256, (height, width, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / split / name / f"{number}.{ending}")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_images(tmp_path / "images", 4)
    return tmp_path / "images"


def test_the_images_are_those_of_the_files(root: Path, tmp_path: Path) -> None:
    train, test = open_image_folder(root, 12, "raise", tmp_path / "cache", 0)
    assert train.classes == test.classes == CLASSES
    assert train.labels.tolist() == test.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    for images, split in ((train, "train"), (test, "test")):
        expected = [read_square(path, 12) for path in sorted((root / split).glob("*/*"))]
        assert np.array_equal(images.images.numpy(), np.stack(expected))


def test_several_processes_decode_the_same(root: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("simclr_ablate.data.image_folder._FILES_PER_TASK", 3)
    one, _ = open_image_folder(root, 12, "raise", tmp_path / "one", 0)
    two, _ = open_image_folder(root, 12, "raise", tmp_path / "two", 2)
    assert torch.equal(one.images, two.images)


def test_a_changed_file_is_decoded_again_and_no_other(root: Path, tmp_path: Path) -> None:
    cache, path = tmp_path / "cache", root / "train/ant/0.png"
    before, _ = open_image_folder(root, 12, "raise", cache, 0)
    entries = set(cache.glob("images-*"))
    open_image_folder(root, 12, "raise", cache, 0)
    assert set(cache.glob("images-*")) == entries
    stamp = path.stat().st_mtime_ns
    pixels = np.asarray(Image.open(path))
    Image.fromarray(255 - pixels).save(path)
    os.utime(path, ns=(stamp + 1, stamp + 1))
    after, _ = open_image_folder(root, 12, "raise", cache, 0)
    assert not torch.equal(after.images[0], before.images[0])
    assert torch.equal(after.images[1:], before.images[1:])
    assert len(set(cache.glob("images-*")) - entries) == 1
    smaller, _ = open_image_folder(root, 8, "raise", cache, 0)
    assert smaller.images.shape[-2:] == (8, 8)


def test_an_unreadable_file_stops_with_its_path(root: Path, tmp_path: Path) -> None:
    (root / "train/bee/2.png").write_bytes(b"not an image")
    with pytest.raises(ConfigError, match=r"data\.root must .*train/bee/2\.png: .*on_error=skip"):
        open_image_folder(root, 12, "raise", tmp_path / "cache", 0)


def test_an_unreadable_file_is_skipped_and_counted(root: Path, tmp_path: Path, caplog) -> None:
    whole, _ = open_image_folder(root, 12, "raise", tmp_path / "whole", 0)
    (root / "train/bee/2.png").write_bytes(b"not an image")
    for _ in range(2):  # decoded, then from the cache
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            train, test = open_image_folder(root, 12, "skip", tmp_path / "cache", 0)
        assert "left out 1 unreadable images of 12" in caplog.text
        kept = [row for row in range(12) if row != 6]
        assert torch.equal(train.images, whole.images[kept])
        assert torch.equal(train.labels, whole.labels[kept])
        assert len(test) == 12
    with pytest.raises(ConfigError, match=r"train/bee/2\.png"):
        open_image_folder(root, 12, "raise", tmp_path / "cache", 0)


def test_a_folder_of_unreadable_files_is_refused(root: Path, tmp_path: Path) -> None:
    for path in root.glob("test/*/*"):
        path.write_bytes(b"")
    with pytest.raises(ConfigError, match=r"data\.root must hold images that can be read"):
        open_image_folder(root, 12, "skip", tmp_path / "cache", 0)


def test_decoding_killed_halfway_ends_its_workers_and_is_done_again(
    root: Path, tmp_path: Path, kill_session
) -> None:
    endless, cache = root / "train/bee/endless.png", tmp_path / "cache"
    os.mkfifo(endless)  # whoever reads it waits
    script = tmp_path / "open.py"
    script.write_text(
        "import simclr_ablate.data.image_folder as folder\n"
        "folder._FILES_PER_TASK = 4\n"
        "if __name__ == '__main__':\n"
        f"    folder.open_image_folder({str(root)!r}, 12, 'raise', folder.Path({str(cache)!r}), 2)"
    )
    process = subprocess.Popen([sys.executable, str(script)], start_new_session=True)
    kill_session(process, members=3)
    endless.unlink()
    assert list(cache.glob("images-*")) == []
    train, _ = open_image_folder(root, 12, "raise", cache, 0)
    assert len(train) == 12


@pytest.mark.parametrize("name", ["pets3", "dtd10", "flowers12"])
def test_real_images_are_read(name: str, tmp_path: Path) -> None:
    folder = os.environ.get("SIMCLR_ABLATE_TEST_DATA")
    if folder is None:
        pytest.skip("SIMCLR_ABLATE_TEST_DATA, a folder of extracted data sets, is not set")
    root = Path(folder) / name
    if not root.is_dir():
        pytest.skip(f"SIMCLR_ABLATE_TEST_DATA holds no {name}")
    train, test = open_image_folder(root, 24, "raise", tmp_path, 0)
    files = sorted((root / "train").glob("*/*"))
    assert len(train) == len(files)
    for index in (0, len(files) // 2, len(files) - 1):
        assert np.array_equal(train.images[index].numpy(), read_square(files[index], 24))
        assert train.classes[train.labels[index]] == files[index].parent.name
    assert test.labels.bincount(minlength=len(test.classes)).min() > 0
