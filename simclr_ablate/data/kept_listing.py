"""The list of a streamed data set's files and its fingerprint, kept in the cache for as long as the folder is the same.

ImageNet has 1.3 million files. A command that finds both in the cache only looks at the stamps of the folders, of links
to files, and of the files whose contents the fingerprint has read. If one has changed, it lists and hashes all again.
"""

import hashlib
import uuid
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simclr_ablate.data.entry import Entry, Kept
from simclr_ablate.data.hashing import hash_files
from simclr_ablate.data.listing import (
    Files,
    Listing,
    existing,
    split_of_tests,
    tell_notes,
    walk_images,
)

_VERSION = 1
"""To be increased when the same folder gives another list or fingerprint, or when entries have another form."""

_KIND = "imagenet"


class FileArray(NamedTuple):
    """Image files of one split, by class. For ImageNet it takes 60 MB, and no object for each file.

    names: (N,) bytes, paths relative to the root. counts: (classes,) int64, how many files each class has.
    """

    names: NDArray[np.bytes_]
    counts: NDArray[np.int64]

    @property
    def labels(self) -> NDArray[np.int64]:
        """(N,), indices into the classes."""
        return np.repeat(np.arange(len(self.counts)), self.counts)


@dataclass(frozen=True)
class StreamedListing:
    """As `Listing`, in arrays.

    state: a name for the folder's state when the cache's list was made; "" if the list is not in the cache.
    """

    root: Path
    classes: list[str]
    train: FileArray
    test: FileArray
    flat: bool
    state: str = ""

    def unpacked(self) -> Listing:
        """The same with strings."""
        train, test = (_unpacked(files) for files in (self.train, self.test))
        return Listing(self.root, self.classes, train, test, self.flat)


def list_streamed(root: str | Path, on_error: str, cache: Path | None = None) -> StreamedListing:
    """The files of data=imagenet, from the cache if their folder has not changed. Raises as `list_images` does.

    cache: None: neither read nor written.
    """
    folder = existing(root)
    if cache is None:
        return _list(folder, on_error, None)
    entry = _entry(cache, folder, on_error, "files")
    kept = entry.read()
    if kept is None:
        return _list(folder, on_error, entry)
    tell_notes(folder, kept.about["notes"])
    return _restored(folder, kept)


def fingerprint_streamed(root: str | Path, on_error: str, cache: Path | None = None) -> str:
    """The fingerprint of data=imagenet, from the cache if neither the folder nor a sampled file has changed.

    Raises as `list_images` and `hash_files` do. cache: None: neither read nor written.
    """
    listing = list_streamed(root, on_error, cache)
    if cache is None or not listing.state:
        return hash_files(listing.unpacked(), on_error).fingerprint
    entry = _entry(cache, listing.root, on_error, "fingerprint")
    kept = entry.read()
    if kept is not None and kept.about["state"] == listing.state:
        return str(kept.about["fingerprint"])
    begun = entry.begin()
    hashed = hash_files(listing.unpacked(), on_error)
    about = {"state": listing.state, "fingerprint": hashed.fingerprint}
    entry.write(begun, hashed.sampled, about)
    return hashed.fingerprint


def _list(folder: Path, on_error: str, entry: Entry | None) -> StreamedListing:
    """Lists the files, and keeps the list in `entry` if that is possible."""
    begun = None if entry is None else entry.begin()
    listing, notes, stamps = walk_images(folder, _KIND, on_error)
    tell_notes(folder, notes)
    train, test = (_packed(files, len(listing.classes)) for files in (listing.train, listing.test))
    packed = StreamedListing(folder, listing.classes, train, test, listing.flat)
    if entry is None:
        return packed
    state = uuid.uuid4().hex
    about = {"state": state, "classes": packed.classes, "flat": packed.flat, "notes": notes}
    is_kept = entry.write(begun, stamps, about, (*train, *test))
    return replace(packed, state=state) if is_kept else packed


def _entry(cache: Path, folder: Path, on_error: str, what: str) -> Entry:
    """Where `what` is kept: apart for each folder of test images, which may come to exist behind a link."""
    tests = split_of_tests(folder, _KIND)
    text = f"{_VERSION}\n{folder.resolve()}\n{tests}\n{on_error}\n"
    key = hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]
    return Entry(cache / "listings" / f"{key}.{what}", folder)


def _restored(folder: Path, kept: Kept) -> StreamedListing:
    train, test = FileArray(*kept.arrays[:2]), FileArray(*kept.arrays[2:])
    about = kept.about
    return StreamedListing(folder, about["classes"], train, test, about["flat"], about["state"])


def _packed(files: Files, classes: int) -> FileArray:
    names = np.array([name.encode("utf-8", "surrogateescape") for name in files.names])
    return FileArray(names, np.bincount(files.labels, minlength=classes))


def _unpacked(files: FileArray) -> Files:
    names = [name.decode("utf-8", "surrogateescape") for name in files.names.tolist()]
    return Files(names, files.labels.tolist())
