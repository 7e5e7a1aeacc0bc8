"""A folder of images, decoded once into a cache that is memory-mapped afterwards."""

import concurrent.futures
import hashlib
import itertools
import logging
import multiprocessing
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from simclr_ablate.data.cache import (
    UNREADABLE,
    build_once,
    open_set,
    save_labels,
    unreadable_files,
)
from simclr_ablate.data.decode import decode_rows, unreadable_error
from simclr_ablate.data.in_memory import ImageSet
from simclr_ablate.data.listing import Files, Listing, list_images
from simclr_ablate.data.processes import serve_parent
from simclr_ablate.data.progress import show_progress

log = logging.getLogger(__name__)

_FILES_PER_TASK = 256

_CACHE_VERSION = 1
"""Raised when the same files give other pixels."""


def open_image_folder(
    root: str | Path, size: int, on_error: str, cache: Path, workers: int
) -> tuple[ImageSet, ImageSet]:
    """Training and test images of `root`, each (size, size), through the cache.

    on_error: `raise` refuses a folder with an unreadable file, `skip` leaves the file out and logs
    how many there were. workers: processes that decode. Raises ConfigError.
    """
    listing = list_images(root)
    train, test = (
        _open_files(listing, split, size, on_error, cache, workers)
        for split in (listing.train, listing.test)
    )
    return train, test


def _open_files(
    listing: Listing, files: Files, size: int, on_error: str, cache: Path, workers: int
) -> ImageSet:
    def build(folder: Path) -> None:
        _decode(listing, files, size, on_error, folder, workers)

    folder = build_once(cache, f"images-{size}px-{_key(listing, files, size)}", build)
    unreadable = unreadable_files(folder)
    if unreadable and (on_error == "raise" or len(unreadable) == len(files.names)):
        raise unreadable_error(unreadable[0])
    if unreadable:
        log.warning("left out %d unreadable images of %d", len(unreadable), len(files.names))
    return open_set(folder)


def _decode(
    listing: Listing, files: Files, size: int, on_error: str, folder: Path, workers: int
) -> None:
    """Fills `folder` with the decoded files, whichever can be read."""
    target = folder / "images.npy"
    shape = (len(files.names), 3, size, size)
    np.lib.format.open_memmap(target, mode="w+", dtype=np.uint8, shape=shape).flush()
    tasks = [
        (listing.root, files.names[start : start + _FILES_PER_TASK], size, target, start)
        for start in range(0, len(files.names), _FILES_PER_TASK)
    ]
    unreadable = []
    with show_progress(f"decoding {listing.root.name}", len(files.names)) as advance:
        for count, failed in _carry_out(tasks, workers):
            advance(count)
            unreadable += failed
            if unreadable and on_error == "raise":
                raise unreadable_error(unreadable[0][1])
    labels = np.array(files.labels, dtype=np.int64)
    labels[[row for row, _ in unreadable]] = UNREADABLE
    save_labels(folder, labels, listing.classes, [reason for _, reason in sorted(unreadable)])


def _carry_out(
    tasks: list[tuple[Path, list[str], int, Path, int]], workers: int
) -> Iterator[tuple[int, list[tuple[int, str]]]]:
    """`decode_rows` of every task, in whatever order they end."""
    if workers < 2 or len(tasks) < 2:
        yield from itertools.starmap(decode_rows, tasks)
        return
    # Spawned: a fork would copy this process's locks in whatever state its threads have them.
    pool = concurrent.futures.ProcessPoolExecutor(
        min(workers, len(tasks)), multiprocessing.get_context("spawn"), serve_parent
    )
    try:
        futures = [pool.submit(decode_rows, *task) for task in tasks]
        for future in concurrent.futures.as_completed(futures):
            yield future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _key(listing: Listing, files: Files, size: int) -> str:
    """A hash of what decoded images depend on: the files' places, sizes and times, and the side."""
    digest = hashlib.sha256(f"{_CACHE_VERSION}\n{listing.root.resolve()}\n{size}\n".encode())
    for name in files.names:
        stat = os.stat(listing.root / name)
        line = f"{name}\0{stat.st_size}\0{stat.st_mtime_ns}\n"
        digest.update(line.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:16]
