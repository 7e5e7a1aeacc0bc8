"""A folder of images, decoded once into the cache, where its set is named after what was decoded.

The fingerprint of such a set, which is part of a run's identity, hashes the pixels of every image at its size, each
image's class, the order of the images (by class, then by path), the split they are in and the names of the classes. So
a copy of the folder is the same set, and so are renamed files that keep their order; other pixels under the same names
are another set. Images that data.on_error=skip left out are not part of it.

The cache also remembers the size and times of each file. Only a file with another size, time of modification or time
of change is decoded again.
"""

import dataclasses
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from simclr_ablate.config import ConfigError
from simclr_ablate.cores import available_cores
from simclr_ablate.data.cache import (
    IMAGES,
    LABELS,
    damage,
    drop_rows,
    folder_of,
    is_whole,
    keep,
    lock,
    reserve_array,
    save_labels,
)
from simclr_ablate.data.decode import is_readable, pixel_digest, unreadable_error
from simclr_ablate.data.decoding import decode_files
from simclr_ablate.data.listing import Files, Listing, list_images, tell_once
from simclr_ablate.data.progress import show_progress
from simclr_ablate.data.walk import some
from simclr_ablate.files import read_json, storing, write_json

if TYPE_CHECKING:
    from simclr_ablate.data.in_memory import ImageSet

SPLITS = ("train", "test")

_VERSION = 1
"""To be increased when the same files give other pixels."""


@dataclass(frozen=True)
class _Decoded:
    """What was decoded from a folder at one size."""

    fingerprint: str
    files: dict[str, list[int]]
    """Size, time of modification and time of change (ns) of each file, by its path relative to the folder."""
    unreadable: dict[str, str]
    """Files that could not be read, with the reasons."""

    def rows(self, split: str) -> dict[str, int]:
        """Each file's row in the set's split."""
        names = [name for name in self.files if name.startswith(f"{split}/")]
        return {name: row for row, name in enumerate(n for n in names if n not in self.unreadable)}

    def judge(self, root: Path, on_error: str) -> None:
        """Rejects unreadable files, or logs once how many are left out."""
        if not self.unreadable:
            return
        if on_error == "raise":
            raise unreadable_error(next(iter(self.unreadable.values())))
        reasons = some(list(self.unreadable.values()), 3)
        tell_once(
            root,
            f"left out {len(self.unreadable):,} unreadable images of {len(self.files):,}: {reasons}",
        )


def make_image_folder(
    root: str | Path, size: int, on_error: str, cache: Path, workers: int | None = None
) -> str:
    """Decodes what the cache lacks of `root`, each image to (size, size); returns the set's fingerprint.

    on_error: `raise` rejects a folder with an unreadable file; `skip` leaves such files out and logs their number.
    workers: number of processes that decode; None: one per core.

    Raises ConfigError.
    """
    listing = list_images(root, on_error=on_error)
    key = _key(listing.root, size)
    files = _stamps(listing)
    decoded = _known(cache, key, size, listing, files)
    if decoded is None:
        with lock(cache, key):
            # Another process may have decoded it in the meantime.
            decoded = _known(cache, key, size, listing, files)
            if decoded is None:
                before = _read_table(cache, key)
                if before is not None and not _is_there(cache, size, before, images=True):
                    before = None
                count = available_cores() if workers is None else workers
                decoding = _Decoding(listing, files, size, on_error, cache, count, before)
                decoded = decoding.carry_out(key)
                table = _table(cache, key)
                with storing(table, "cache"):
                    table.parent.mkdir(exist_ok=True)
                write_json(table, dataclasses.asdict(decoded))
    decoded.judge(listing.root, on_error)
    return decoded.fingerprint


def open_image_folder(
    root: str | Path,
    size: int,
    on_error: str,
    cache: Path,
    workers: int | None = None,
    fingerprint: str | None = None,
) -> tuple["ImageSet", "ImageSet"]:
    """Training and test images of the set `fingerprint`, or if that is None, of what `root` holds now.

    If the cache lacks the set, or has it damaged, it is decoded again. Raises ConfigError if that gives other images,
    and whenever `make_image_folder` does.
    """
    from simclr_ablate.data.in_memory import open_set  # here, as planning does without PyTorch

    if fingerprint is None or not is_whole(cache, _name(size, fingerprint)):
        made = make_image_folder(root, size, on_error, cache, workers)
        if fingerprint not in (None, made):
            raise ConfigError(
                f"the images in {root} have changed since the run was planned (data.fingerprint is {fingerprint}, "
                f"theirs {made}), and the cache lacks the old ones: run the command again to use the new ones"
            )
        fingerprint = made
    else:
        folder = Path(root).expanduser()
        table = _read_table(cache, _key(folder, size))
        if table is not None and table.fingerprint == fingerprint:
            table.judge(folder, "skip")  # for the run's log
    train, test = (open_set(folder_of(cache, _name(size, fingerprint)) / split) for split in SPLITS)
    return train, test


def count_image_folder(size: int, fingerprint: str, cache: Path) -> list[int]:
    """Number of training images of each class in a set that `make_image_folder` has made."""
    labels = np.load(folder_of(cache, _name(size, fingerprint)) / "train" / LABELS)
    return np.bincount(labels).tolist()


def _name(size: int, fingerprint: str) -> str:
    return f"images-{size}px-{fingerprint}"


def _table(cache: Path, key: str) -> Path:
    return cache / "folders" / f"{key}.json"


def _key(root: Path, size: int) -> str:
    """The name of a folder's table."""
    text = f"{_VERSION}\n{root.resolve()}\n{size}\n"
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _stamps(listing: Listing) -> dict[str, list[int]]:
    """As _Decoded.files; all 0 for a file that is gone, which decoding will report."""
    stamps, root = {}, str(listing.root)
    for name in (*listing.train.names, *listing.test.names):
        try:
            stat = os.stat(f"{root}/{name}")
            stamps[name] = [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]
        except OSError:
            stamps[name] = [0, 0, 0]
    return stamps


def _read_table(cache: Path, key: str) -> _Decoded | None:
    content = read_json(_table(cache, key))
    names = {field.name for field in dataclasses.fields(_Decoded)}
    return _Decoded(**content) if isinstance(content, dict) and set(content) == names else None


def _known(
    cache: Path, key: str, size: int, listing: Listing, files: dict[str, list[int]]
) -> _Decoded | None:
    """What the cache has of the folder, if its files are these, and none that was unreadable can be read now."""
    decoded = _read_table(cache, key)
    if decoded is None or decoded.files != files:
        return None
    if not _is_there(cache, size, decoded, images=False):
        return None
    return None if any(is_readable(listing.root / name) for name in decoded.unreadable) else decoded


def _is_there(cache: Path, size: int, decoded: _Decoded, images: bool) -> bool:
    """Whether the cache has the set undamaged. images: see `damage`."""
    folder = folder_of(cache, _name(size, decoded.fingerprint))
    return folder.is_dir() and damage(folder, images) is None


@dataclass
class _Decoding:
    """Decodes what a folder holds now; what was decoded before is copied."""

    listing: Listing
    files: dict[str, list[int]]
    size: int
    on_error: str
    cache: Path
    workers: int
    before: _Decoded | None
    unreadable: dict[str, str] = field(default_factory=dict)

    def carry_out(self, key: str) -> _Decoded:
        """Decodes the set and keeps it in the cache under its fingerprint. key: see `keep`."""
        digest = hashlib.sha256(json.dumps([self.size, self.listing.classes]).encode())
        shapes = {
            split: (len(files.names), 3, self.size, self.size) for split, files in self._splits()
        }

        def build(folder: Path) -> None:
            begins = {}
            for split, shape in shapes.items():
                (folder / split).mkdir()
                begins[split] = reserve_array(folder / split / IMAGES, shape)
            with show_progress(f"decoding {self.listing.root.name}", len(self.files)) as advance:
                for split, files in self._splits():
                    target = folder / split / IMAGES
                    digests = self._decode(split, files, target, begins[split], advance)
                    lost = [row for row, pixels in enumerate(digests) if pixels is None]
                    if len(lost) == len(digests):
                        raise unreadable_error(self.unreadable[files.names[0]])
                    if lost:
                        drop_rows(target, shapes[split], lost)
                    labels = np.delete(np.array(files.labels, dtype=np.int64), lost)
                    save_labels(folder / split, labels, self.listing.classes)
                    digest.update(f"{split} {len(labels)}\n".encode() + labels.tobytes())
                    digest.update(b"".join(pixels for pixels in digests if pixels is not None))

        keep(self.cache, key, build, lambda: _name(self.size, digest.hexdigest()[:16]))
        return _Decoded(digest.hexdigest()[:16], self.files, self.unreadable)

    def _splits(self) -> Iterator[tuple[str, Files]]:
        return zip(SPLITS, (self.listing.train, self.listing.test), strict=True)

    def _decode(
        self, split: str, files: Files, target: Path, begin: int, advance: Callable[[int], None]
    ) -> list[bytes | None]:
        """Fills a split's array; returns each image's digest, or None if it cannot be read."""
        digests = self._copy(split, files, target, begin)
        rows = [row for row, pixels in enumerate(digests) if pixels is None]
        advance(len(digests) - len(rows))
        root, names = self.listing.root, files.names
        for decoded in decode_files(root, names, rows, self.size, target, begin, self.workers):
            advance(len(decoded))
            for row, pixels, wrong in decoded:
                if wrong is None:
                    digests[row] = pixels
                elif self.on_error == "raise":
                    raise unreadable_error(wrong)
                else:
                    self.unreadable[files.names[row]] = wrong
        return digests

    def _copy(self, split: str, files: Files, target: Path, begin: int) -> list[bytes | None]:
        """Copies the images of unchanged files; returns their digests, and None for the others."""
        digests: list[bytes | None] = [None] * len(files.names)
        if self.before is None:
            return digests
        rows = self.before.rows(split)
        folder = folder_of(self.cache, _name(self.size, self.before.fingerprint))
        images = np.load(folder / split / IMAGES, mmap_mode="r")
        with open(target, "r+b") as file:
            for row, name in enumerate(files.names):
                if name in rows and self.before.files[name] == self.files[name]:
                    pixels = images[rows[name]].tobytes()
                    file.seek(begin + row * len(pixels))
                    file.write(pixels)
                    digests[row] = pixel_digest(pixels)
        return digests
