"""Data sets on disk: built once, by one process, whole or not at all, and read only if they are undamaged.

Every folder of the cache lists its files with their checksums. A run checks all of them before it uses an image, at
half a second a gigabyte; planning checks all but the images. A folder that is damaged, or half deleted by a cleaner,
is made again, and the log says so.
"""

import contextlib
import errno
import fcntl
import logging
import os
import shutil
import uuid
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simclr_ablate.files import flush_folder, read_json, storing, write_json

log = logging.getLogger(__name__)

IMAGES, LABELS, DESCRIPTION = "images.npy", "labels.npy", "set.json"
"""The files of a set: uint8 (N, 3, H, W), int64 (N,), and the names of its classes."""

_CHECKSUMS = "checksums.json"
"""Lists the size of each other file, and the CRC-32 of every _PIECE of it, which detects any single changed bit."""
_PIECE = 2**20


def build_once(cache: Path, name: str, build: Callable[[Path], None]) -> Path:
    """The folder `name` of the cache, filled by `build(folder)` if it is missing or damaged.

    Two processes that ask at the same time build it once. Raises StorageError.
    """
    final = folder_of(cache, name)
    if final.is_dir() and damage(final) is None:
        return final
    with lock(cache, name):
        if not _discard_damaged(final):
            keep(cache, name, build, lambda: name)
    return final


def is_whole(cache: Path, name: str) -> bool:
    """Whether the cache has the folder `name`, every byte of it; removes a damaged one. Raises StorageError."""
    folder = folder_of(cache, name)
    if not folder.is_dir() or damage(folder) is None:
        return folder.is_dir()
    with lock(cache, name):  # another process may be building it
        return _discard_damaged(folder)


def folder_of(cache: Path, name: str) -> Path:
    """Where the folder `name` of the cache is, if it exists."""
    return cache / "sets" / name


@contextlib.contextmanager
def lock(cache: Path, key: str) -> Iterator[None]:
    """Makes this the only process that builds what `key` stands for; the system releases a killed process's lock.

    On a file system without locks, two processes may build at once; the first to finish wins. Raises StorageError.
    """
    sets = folder_of(cache, "")
    with storing(sets, "cache"):
        sets.mkdir(parents=True, exist_ok=True)
        file = open(sets / f".{key}.lock", "a")  # noqa: SIM115
    with file:
        if _wait_for_lock(file.fileno(), sets / key):
            for abandoned in sets.glob(f".{key}.*.tmp"):
                shutil.rmtree(abandoned, ignore_errors=True)
        yield


def keep(cache: Path, key: str, build: Callable[[Path], None], name: Callable[[], str]) -> Path:
    """Fills a folder with `build`, and keeps it under what `name` returns after that; returns the folder.

    The folder gets its name once it is all on the disk: a build that fails or is killed leaves nothing that looks
    whole. An undamaged folder of that name stays. Raises StorageError.

    key: the caller holds its lock.
    """
    sets = folder_of(cache, "")
    temporary = sets / f".{key}.{uuid.uuid4().hex}.tmp"
    try:
        with storing(sets, "cache"):
            temporary.mkdir()
            build(temporary)
            write_json(
                temporary / _CHECKSUMS,
                {each: _sums(temporary / each) for each in _files(temporary)},
            )
            _flush(temporary)
        final = folder_of(cache, name())
        if not _discard_damaged(final):
            _publish(temporary, final)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return final


def damage(folder: Path, images: bool = True) -> str | None:
    """What is wrong with a folder of the cache, or None. images: whether to verify their checksums too."""
    checksums = read_json(folder / _CHECKSUMS)
    if not isinstance(checksums, dict):
        return f"{_CHECKSUMS} is missing or cannot be read"
    for name, expected in checksums.items():
        path = folder / name
        try:
            if not isinstance(expected, dict) or path.stat().st_size != expected.get("bytes"):
                return f"{name} has the wrong size"
            if (images or path.name != IMAGES) and _sums(path) != expected:
                return f"{name} has changed"
        except OSError as error:
            return f"{name}: {error.strerror or error}"
    return None


def _discard_damaged(folder: Path) -> bool:
    """Whether `folder` exists and is whole; removes a damaged one and logs it. Raises StorageError."""
    if not folder.is_dir():
        return False
    wrong = damage(folder)
    if wrong is None:
        return True
    log.warning("%s is damaged and is made again: %s", folder, wrong)
    discard(folder)
    return False


def discard(folder: Path) -> None:
    """Removes a folder from the cache; processes that have its files mapped can read on. Raises StorageError."""
    away = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}.tmp")
    with storing(folder, "cache"), contextlib.suppress(FileNotFoundError):  # another was faster
        os.rename(folder, away)
    shutil.rmtree(away, ignore_errors=True)


def save_set(
    folder: Path, images: NDArray[np.uint8], labels: NDArray[Any], classes: Sequence[str]
) -> None:
    """Writes images (N, 3, H, W) uint8 and labels (N,) into `folder`, for `in_memory.open_set`. Raises OSError."""
    save_array(folder / IMAGES, images)
    save_labels(folder, labels, classes)


def save_labels(folder: Path, labels: NDArray[Any], classes: Sequence[str]) -> None:
    """Writes everything of a set except its images. Raises OSError."""
    save_array(folder / LABELS, labels.astype(np.int64))
    write_json(folder / DESCRIPTION, {"classes": list(classes)})


def save_array(path: Path, array: NDArray[Any]) -> None:
    """Writes what np.save writes. Unlike np.save, gives the system's reason if the disk is full. Raises OSError."""
    array = np.ascontiguousarray(array)
    with open(path, "wb") as file:
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array))
        file.write(array.reshape(-1).data)


def reserve_array(path: Path, shape: tuple[int, ...]) -> int:
    """Makes the file of a uint8 array to be filled later, and reserves its space; returns where its content begins.

    If the disk is full, raises OSError now rather than killing whoever maps the file later.
    """
    with open(path, "wb") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        begin, size = file.tell(), int(np.prod(shape, dtype=np.int64))
        file.flush()
        try:
            os.posix_fallocate(file.fileno(), 0, begin + size)
        except (AttributeError, OSError) as error:  # not every system and file system can
            if getattr(error, "errno", None) not in _CANNOT_RESERVE:
                raise
            for done in range(0, size, _PIECE):
                file.write(bytes(min(_PIECE, size - done)))
    return begin


_CANNOT_RESERVE = (None, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)


def drop_rows(path: Path, shape: tuple[int, ...], rows: Sequence[int]) -> None:
    """Removes rows, in rising order, from the uint8 array (N, ...) of `shape` in a file. Raises OSError."""
    length, dropped = int(np.prod(shape[1:])), set(rows)
    kept = [row for row in range(shape[0]) if row not in dropped]
    with open(path, "r+b") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": (len(kept), *shape[1:])}
        # numpy leaves room in the header for any number of rows.
        np.lib.format.write_array_header_1_0(file, header)
        begin = file.tell()
        for new, old in enumerate(kept):
            if new != old:
                file.seek(begin + old * length)
                row = file.read(length)
                file.seek(begin + new * length)
                file.write(row)
        file.truncate(begin + len(kept) * length)


def _wait_for_lock(file: int, what: Path) -> bool:
    """Waits for the lock of an open file; False if the file system has no locks."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        log.warning("waiting for another process to finish %s", what)
        fcntl.flock(file, fcntl.LOCK_EX)
    except OSError:
        return False
    return True


def _files(folder: Path) -> list[str]:
    return [str(path.relative_to(folder)) for path in sorted(folder.rglob("*")) if path.is_file()]


def _sums(path: Path) -> dict[str, Any]:
    """A file's entry in the checksums."""
    sums, size = [], 0
    with open(path, "rb") as file:
        while content := file.read(_PIECE):
            sums.append(zlib.crc32(content))
            size += len(content)
    return {"bytes": size, "crc32": sums}


def _flush(folder: Path) -> None:
    """Sends what is in `folder` to the disk, before its name says that it is whole."""
    for path in folder.rglob("*"):
        if path.is_file():
            with open(path, "rb") as file:
                os.fsync(file.fileno())
        else:
            flush_folder(path)
    flush_folder(folder)


def _publish(temporary: Path, final: Path) -> None:
    with storing(final, "cache"):
        try:
            os.rename(temporary, final)
        except OSError:
            if not final.is_dir():
                raise
        flush_folder(final.parent)
