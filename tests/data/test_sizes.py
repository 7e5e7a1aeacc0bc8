"""Counting images before any is read."""

import subprocess
import sys
from pathlib import Path

import pytest

from simclr_ablate.config import ConfigError
from simclr_ablate.data.sizes import data_sizes
from simclr_ablate.schema import Data


def make_data(name: str, **changed: object) -> Data:
    values = {
        "name": name,
        "root": None,
        "size": 32,
        "limit": None,
        "validation": 10,
        "on_error": "raise",
        "seed": 0,
        "label": None,
        "fingerprint": None,
    }
    return Data(**{**values, **changed})  # type: ignore[arg-type]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for split, label, count in (("train", "a", 9), ("train", "b", 4), ("test", "a", 5)):
        (tmp_path / split / label).mkdir(parents=True)
        for number in range(count):
            (tmp_path / split / label / f"{number}.jpg").write_bytes(b"never opened")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "changed", "expected"),
    [
        ("shapes", {"validation": 1_000}, 11_000),
        ("cifar10", {"validation": 5_000}, 45_000),
        ("cifar100", {"validation": 5_000, "limit": 1_000}, 1_000),
        ("stl10", {}, 100_000),
        ("stl10", {"limit": 60_000}, 60_000),
    ],
)
def test_known_sets(name: str, changed: dict[str, int], expected: int) -> None:
    assert data_sizes(make_data(name, **changed)).pretraining == expected


def test_images_with_labels() -> None:
    assert data_sizes(make_data("stl10", validation=1_000)).labelled == 4_000
    assert data_sizes(make_data("stl10", limit=60_000)).labelled == 4_990
    assert data_sizes(make_data("stl10", limit=500)).labelled == 500
    assert data_sizes(make_data("shapes", validation=1_000)).labelled == 11_000


@pytest.mark.parametrize("name", ["image_folder", "imagenet"])
def test_folders_are_counted(root: Path, name: str) -> None:
    assert data_sizes(make_data(name, root=str(root), validation=6)).pretraining == 7
    assert data_sizes(make_data(name, root=str(root), validation=6, limit=3)).pretraining == 3


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"validation": 7}, r"data\.validation must be <= 6, half of .*, got 7"),
        ({"validation": 2, "limit": 12}, r"data\.limit must be <= 11, .*, got 12"),
        (
            {"validation": 2, "limit": 1},
            r"data\.limit must be >= 2, one image of each class .* got 1",
        ),
        ({"root": "/nowhere"}, r"data\.root must be a folder .*, got '/nowhere'"),
    ],
)
def test_what_does_not_fit_is_refused(root: Path, changed: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        data_sizes(make_data("image_folder", **{"root": str(root), **changed}))


def test_counting_needs_no_torch() -> None:
    code = "import simclr_ablate.data.sizes, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_class_of_one_image_cannot_be_split(tmp_path: Path) -> None:
    for split, label in (("train", "a"), ("train", "b"), ("test", "a")):
        (tmp_path / split / label).mkdir(parents=True)
        (tmp_path / split / label / "0.jpg").write_bytes(b"never opened")
    message = "must have two training images of a class, .* got at most 1 of each"
    with pytest.raises(ConfigError, match=message):
        data_sizes(make_data("image_folder", root=str(tmp_path), validation=1))
