"""ILSVRC2012's validation images in one folder: their classes come from the devkit, as torchvision reads it."""

import os
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from simclr_ablate.config import ConfigError, MissingDataError
from simclr_ablate.data import stamps
from simclr_ablate.data.hashing import hash_files
from simclr_ablate.data.ilsvrc import ARCHIVE, DEVKIT, LABELS, SYNSETS
from simclr_ablate.data.kept_listing import fingerprint_streamed, list_streamed
from simclr_ablate.data.listing import list_images
from simclr_ablate.data.streamed import open_streamed

WNIDS = ["n03", "n01", "n02"]
"""The classes in the order of their ILSVRC2012_ID, from 1 on."""

IDS = [2, 3, 1, 1, 3, 2, 2]
"""The ILSVRC2012_ID of each validation image."""

FIELDS = ("ILSVRC2012_ID", "WNID", "words", "gloss", "num_children", "children")


def _write_devkit(folder: Path, ids: list[int] = IDS) -> None:
    """As the devkit is: classes first, then what they are kinds of, which have IDs too."""
    rows = [
        (number, wnid, f"word {wnid}", "a gloss", 0, []) for number, wnid in enumerate(WNIDS, 1)
    ]
    rows.append((4, "n00", "entity", "all there is", 3, [1, 2, 3]))
    synsets = np.zeros((len(rows), 1), dtype=[(field, object) for field in FIELDS])
    for row, values in zip(synsets, rows, strict=True):
        row[0] = values
    (folder / "data").mkdir(parents=True)
    savemat(folder / SYNSETS, {"synsets": synsets}, do_compression=True)
    (folder / LABELS).write_text("".join(f"{number}\n" for number in ids))


def _image(number: int) -> str:
    return f"ILSVRC2012_val_{number:08}.JPEG"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "imagenet"
    for number, name in enumerate(
        [f"train/{wnid}/{wnid}_1.JPEG" for wnid in WNIDS]
        + [f"val/{_image(number)}" for number in range(1, len(IDS) + 1)]
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8 + number, 9), 20 * number).save(root / name, "JPEG")
    _write_devkit(root / DEVKIT)
    return root


def _pack(root: Path) -> None:
    with tarfile.open(root / ARCHIVE, "w:gz") as archive:
        archive.add(root / DEVKIT, DEVKIT)
    shutil.rmtree(root / DEVKIT)


def _numbers(root: Path) -> dict[str, list[int]]:
    """The numbers of each class's validation images, as listed."""
    listing = list_images(root, "imagenet")
    of_class: dict[str, list[int]] = {}
    for name, label in zip(*listing.test, strict=True):
        of_class.setdefault(listing.classes[label], []).append(int(name[-13:-5]))
    return of_class


@pytest.mark.parametrize("packed", [False, True])
def test_labels_come_from_the_devkit(root: Path, packed: bool) -> None:
    if packed:
        _pack(root)
    assert _numbers(root) == {"n01": [1, 6, 7], "n02": [2, 5], "n03": [3, 4]}
    _, test = open_streamed(root, 8, "raise", 0)
    assert test.labels.tolist() == [0, 0, 0, 1, 1, 2, 2]
    assert test.classes == ["n01", "n02", "n03"]
    assert len(next(test.batches(7))[0]) == 7


def test_labels_are_torchvisions(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision.datasets import imagenet

    _pack(root)
    monkeypatch.setattr(imagenet, "_verify_archive", lambda *_: None)  # ours is not the real one
    imagenet.parse_devkit_archive(root)
    _, theirs = imagenet.load_meta_file(root)
    ours = {number: wnid for wnid, numbers in _numbers(root).items() for number in numbers}
    assert [ours[number] for number in sorted(ours)] == theirs


def test_it_is_the_same_data_as_in_folders(root: Path) -> None:
    flat = list_images(root, "imagenet")
    before = hash_files(flat).fingerprint
    for number, label in enumerate(IDS, 1):
        folder = root / "val" / WNIDS[label - 1]
        folder.mkdir(exist_ok=True)
        (root / "val" / _image(number)).rename(folder / _image(number))
    moved = list_images(root, "imagenet")
    assert moved.test.labels == flat.test.labels
    assert hash_files(moved).fingerprint == before
    shutil.rmtree(root / DEVKIT)
    assert list_images(root, "imagenet") == moved


def _remove(*numbers: int):
    return lambda root: [(root / "val" / _image(number)).unlink() for number in numbers]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda root: shutil.rmtree(root / DEVKIT), rf"put {ARCHIVE} .*, or the folder {DEVKIT}"),
        (_remove(3), r"the 7 .*, got 6 in '.*/val', without number 3: unpack"),
        (_remove(3, 6, 7), r"the 7 .*, got 4 in '.*/val', without number 3 and 2 more: unpack"),
        (
            lambda root: shutil.copy(root / "val" / _image(1), root / "val" / _image(8)),
            r"the 7 validation images .*, got 8 in",
        ),
        (lambda root: (root / DEVKIT / LABELS).write_text("1\n2\n"), r"the 2 .*, got 7 in"),
        (
            lambda root: (root / DEVKIT / LABELS).write_text("1\n4\n"),
            r"cannot be read \(KeyError: 4",
        ),
        (lambda root: (root / DEVKIT / LABELS).unlink(), r"cannot be read \(FileNotFoundError"),
        (
            lambda root: (root / DEVKIT / SYNSETS).write_bytes(b"x" * 200),
            r"meta\.mat.*cannot be read",
        ),
        (
            lambda root: [_pack(root), (root / ARCHIVE).write_bytes(b"x")],
            "tar.gz', which cannot be",
        ),
        (
            lambda root: shutil.rmtree(root / "train" / "n02"),
            r"same classes in train/ and val/, .* has no images of n02",
        ),
    ],
)
@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_what_lacks_something_is_refused(root: Path, spoil, message: str, on_error: str) -> None:
    spoil(root)
    with pytest.raises(ConfigError, match=message) as caught:
        list_images(root, "imagenet", on_error)
    assert str(root) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, MissingDataError) or "same classes" in message


def test_other_files_in_one_folder_are_no_images(root: Path) -> None:
    before = list_images(root, "imagenet")
    (root / "val" / "readme.txt").write_text("text")
    assert list_images(root, "imagenet") == before
    with pytest.raises(ConfigError, match="has no folder test/"):
        list_images(root)
    (root / "val").rename(root / "test")
    with pytest.raises(ConfigError, match="test/ holds no images in folders named after"):
        list_images(root)


@pytest.mark.parametrize("packed", [False, True])
def test_another_devkit_is_noticed(
    root: Path, tmp_path: Path, packed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stamps, "SETTLED_SECONDS", -1)
    seen = []
    for ids in (IDS, IDS[::-1]):
        shutil.rmtree(root / DEVKIT, ignore_errors=True)
        _write_devkit(tmp_path / DEVKIT, ids)
        if packed:
            _pack(tmp_path)
            os.replace(tmp_path / ARCHIVE, root / ARCHIVE)
        else:
            (tmp_path / DEVKIT).rename(root / DEVKIT)
        listing = list_streamed(root, "raise", tmp_path / "cache")
        assert listing.unpacked() == list_images(root, "imagenet")
        assert listing.state
        assert list_streamed(root, "raise", tmp_path / "cache").unpacked() == listing.unpacked()
        seen.append(fingerprint_streamed(root, "raise", tmp_path / "cache"))
    assert seen[0] != seen[1]
    (root / "val" / _image(1)).unlink()
    with pytest.raises(MissingDataError, match="without number 1"):
        list_streamed(root, "raise", tmp_path / "cache")
