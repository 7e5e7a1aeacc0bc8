"""Listing a folder of images: what counts as one, in what order, and what is refused."""

import os
import shutil
from pathlib import Path

import pytest

from simclr_ablate.config import ConfigError
from simclr_ablate.data.listing import fingerprint, list_images


def _touch(root: Path, *names: str) -> None:
    for number, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x" * (number + 1))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    _touch(tmp_path, "train/cat/b.png", "train/cat/a.JPEG", "train/ant/deep/c.webp")
    _touch(tmp_path, "test/cat/d.gif", "test/ant/e.bmp")
    return tmp_path


def test_images_are_listed_by_class_and_name(root: Path) -> None:
    _touch(root, "train/cat/notes.txt", "train/cat/.hidden.png", "train/.git/x.png")
    (root / "train" / "empty").mkdir()
    listing = list_images(root)
    assert listing.classes == ["ant", "cat"]
    assert listing.train.names == ["train/ant/deep/c.webp", "train/cat/a.JPEG", "train/cat/b.png"]
    assert listing.train.labels == [0, 1, 1]
    assert listing.test == (["test/ant/e.bmp", "test/cat/d.gif"], [0, 1])


def test_a_class_without_test_images_keeps_its_label(root: Path) -> None:
    shutil.rmtree(root / "test" / "ant")
    assert list_images(root).test == (["test/cat/d.gif"], [1])


def test_imagenet_may_call_its_test_images_val(root: Path) -> None:
    (root / "test").rename(root / "val")
    assert list_images(root, "imagenet").test.names == ["val/ant/e.bmp", "val/cat/d.gif"]
    with pytest.raises(ConfigError, match="has no folder test/"):
        list_images(root)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (shutil.rmtree, r"data\.root must be a folder that holds train/<class>/\* .*, got '.*'"),
        (lambda root: shutil.rmtree(root / "train"), "which has no folder train/"),
        (lambda root: shutil.rmtree(root / "test"), "which has no folder test/"),
        (lambda root: shutil.rmtree(root / "train" / "ant"), "train/ has no images of ant"),
        (
            lambda root: [path.unlink() for path in root.glob("test/*/*")],
            "test/ holds no images",
        ),
    ],
)
def test_a_folder_that_lacks_something_is_refused(root: Path, spoil, message: str) -> None:
    spoil(root)
    with pytest.raises(ConfigError, match=message) as caught:
        list_images(root)
    assert str(root) in str(caught.value)


def test_the_fingerprint_is_of_names_and_sizes_alone(root: Path, tmp_path_factory) -> None:
    before = fingerprint(root)
    copy = tmp_path_factory.mktemp("elsewhere") / "copy"
    shutil.copytree(root, copy)
    os.utime(copy / "train/cat/b.png", (1, 1))
    assert fingerprint(copy) == before
    (copy / "train/cat/b.png").write_bytes(b"longer")
    resized = fingerprint(copy)
    (copy / "train/cat/b.png").rename(copy / "train/cat/z.png")
    renamed = fingerprint(copy)
    (copy / "test/ant/e.bmp").unlink()
    assert len({before, resized, renamed, fingerprint(copy)}) == 4


def test_the_fingerprint_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.root must be a folder"):
        fingerprint(tmp_path / "missing")
