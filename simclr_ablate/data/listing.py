"""What lies in a folder of images, without opening any of them."""

import functools
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from simclr_ablate.config import ConfigError

LAYOUT = "train/<class>/* and test/<class>/*"

TEST_NAMES = {"image_folder": ("test",), "imagenet": ("val", "test")}
"""What the folder of test images may be called, by kind of data set; the first that is there."""


class Files(NamedTuple):
    """Image files of one split: paths relative to the root, sorted, and their classes."""

    names: list[str]
    labels: list[int]


class Listing(NamedTuple):
    """The image files under `root`; labels are places in `classes`, train/'s folders sorted."""

    root: Path
    classes: list[str]
    train: Files
    test: Files


def list_images(root: str | Path, kind: str = "image_folder") -> Listing:
    """The files of every format that Pillow reads; others, and hidden ones, are not images.

    Raises ConfigError for a folder that does not hold both splits.
    """
    folder = _existing(root)
    test_names = TEST_NAMES[kind]
    test_name = next((name for name in test_names if (folder / name).is_dir()), test_names[0])
    train, test = (_by_class(folder, split) for split in ("train", test_name))
    classes = sorted(train)
    unknown = sorted(set(test) - set(train))
    if unknown:
        raise ConfigError(
            f"data.root must hold the same classes in train/ and {test_name}/, got {str(root)!r}, "
            f"where train/ has no images of {', '.join(unknown[:5])}"
            f"{f' and {len(unknown) - 5} more' if len(unknown) > 5 else ''}"
        )
    return Listing(folder, classes, _files(train, classes), _files(test, classes))


def fingerprint(root: str | Path) -> str:
    """A hash of the images' relative names and sizes, the same wherever the folder lies.

    Times don't count: a copy of the folder is the same data. Raises ConfigError for no folder.
    """
    folder = _existing(root)
    splits = sorted({name for names in TEST_NAMES.values() for name in names} | {"train"})
    digest = hashlib.sha256()
    for name in sorted(
        n for split in splits if (folder / split).is_dir() for n in _walk(folder, split)
    ):
        size = os.stat(folder / name).st_size
        digest.update(f"{name}\0{size}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:16]


def _existing(root: str | Path) -> Path:
    folder = Path(root).expanduser()
    if not folder.is_dir():
        raise ConfigError(f"data.root must be a folder that holds {LAYOUT}, got {str(root)!r}")
    return folder


def _by_class(root: Path, split: str) -> dict[str, list[str]]:
    """Relative paths of the images in each folder of `root/split` that has some, sorted."""
    if not (root / split).is_dir():
        raise ConfigError(
            f"data.root must be a folder that holds {LAYOUT}, got {str(root)!r}, "
            f"which has no folder {split}/"
        )
    with os.scandir(root / split) as entries:
        folders = sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))
    found = {name: sorted(_walk(root, f"{split}/{name}")) for name in folders}
    found = {name: files for name, files in found.items() if files}
    if not found:
        raise ConfigError(
            f"data.root must be a folder that holds {LAYOUT}, got {str(root)!r}, "
            f"where {split}/ holds no images in folders named after their class"
        )
    return found


def _walk(root: Path, folder: str) -> Iterator[str]:
    with os.scandir(root / folder) as entries:
        for entry in entries:
            name = f"{folder}/{entry.name}"
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                yield from _walk(root, name)
            elif os.path.splitext(entry.name)[1].lower() in _suffixes():
                yield name


def _files(by_class: dict[str, list[str]], classes: list[str]) -> Files:
    names = [name for label in classes for name in by_class.get(label, [])]
    labels = [
        number for number, label in enumerate(classes) for _ in range(len(by_class.get(label, [])))
    ]
    return Files(names, labels)


@functools.cache
def _suffixes() -> frozenset[str]:
    """Endings of the formats that Pillow can open, such as `.jpg`."""
    suffixes = Image.registered_extensions()
    return frozenset(suffix for suffix, name in suffixes.items() if name in Image.OPEN)
