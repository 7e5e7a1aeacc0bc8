"""Data sets on disk: built once, by one process, whole or not at all; memory-mapped afterwards."""

import contextlib
import fcntl
import logging
import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from simclr_ablate.data.in_memory import ImageSet
from simclr_ablate.files import read_json, write_json

log = logging.getLogger(__name__)


def build_once(cache: Path, name: str, build: Callable[[Path], None]) -> Path:
    """The folder `cache/name`, filled by `build(folder)` where it does not exist yet.

    Two processes that ask at once build it once. It is built under another name and renamed, so
    that a build that fails or is killed leaves nothing that could be taken for a whole one.
    """
    final = cache / name
    if final.is_dir():
        return final
    cache.mkdir(parents=True, exist_ok=True)
    with _lock(cache / f".{name}.lock") as locked:
        if final.is_dir():
            return final
        if locked:
            for abandoned in cache.glob(f".{name}.*.tmp"):
                shutil.rmtree(abandoned, ignore_errors=True)
        temporary = cache / f".{name}.{uuid.uuid4().hex}.tmp"
        temporary.mkdir()
        try:
            build(temporary)
            _flush(temporary)
            _publish(temporary, final)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return final


def save_set(
    folder: Path,
    images: np.ndarray,
    labels: np.ndarray,
    classes: Sequence[str],
) -> None:
    """Writes images (N, 3, H, W) uint8 and labels (N,) into `folder`, for `open_set`."""
    np.save(folder / "images.npy", images)
    save_labels(folder, labels, classes, [])


def save_labels(
    folder: Path, labels: np.ndarray, classes: Sequence[str], unreadable: Sequence[str]
) -> None:
    """Writes all of a set but its images. Rows whose image could not be read have the label -2."""
    np.save(folder / "labels.npy", labels.astype(np.int64))
    write_json(folder / "set.json", {"classes": list(classes), "unreadable": list(unreadable)})


UNREADABLE = -2
"""Label of a row that holds no image."""


def open_set(folder: Path) -> ImageSet:
    """The set in `folder`, its images memory-mapped: processes that open it share one copy."""
    # Copy-on-write: PyTorch has no read-only tensors, and nobody may change the file.
    images = torch.from_numpy(np.load(folder / "images.npy", mmap_mode="c"))
    labels = torch.from_numpy(np.load(folder / "labels.npy"))
    description = read_json(folder / "set.json")
    assert description is not None
    if not description["unreadable"]:
        return ImageSet(images, labels, description["classes"])
    rows = (labels != UNREADABLE).nonzero()[:, 0]
    return ImageSet(images, labels[rows], description["classes"], rows)


def unreadable_files(folder: Path) -> list[str]:
    """The files, each with its reason, that the set in `folder` was built without."""
    description = read_json(folder / "set.json")
    assert description is not None
    return description["unreadable"]


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[bool]:
    """Holds an exclusive lock, which the system takes back from a killed process.

    Yields False where the file system has no locks: then two may build side by side, and the first
    to finish wins.
    """
    with open(path, "a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            locked = True
        except BlockingIOError:
            log.info("waiting for another process to finish %s", path.name[1:-5])
            fcntl.flock(file, fcntl.LOCK_EX)
            locked = True
        except OSError:
            locked = False
        yield locked


def _flush(folder: Path) -> None:
    """Sends the files of `folder` to the disk, before a name says that they are whole."""
    for path in folder.rglob("*"):
        if path.is_file():
            with open(path, "rb") as file:
                os.fsync(file.fileno())


def _publish(temporary: Path, final: Path) -> None:
    try:
        os.rename(temporary, final)
    except OSError:
        if not final.is_dir():
            raise
