"""The fingerprint of a data set too large to decode when a run is planned."""

import hashlib
from collections.abc import Iterator
from typing import NamedTuple

from simclr_ablate.data.decode import unreadable_error
from simclr_ablate.data.listing import Files, Listing
from simclr_ablate.data.stamps import Stamp, stamp_of

SAMPLED_FILES, SAMPLED_BYTES = 1000, 2**20
"""How many files' contents `hash_files` reads, and how much of each."""


class Hashed(NamedTuple):
    """A fingerprint and what it rests on besides names and sizes.

    sampled: the stamps of the files whose contents were read, by path relative to the root; None if some file could
    not be read.
    """

    fingerprint: str
    sampled: dict[str, Stamp] | None


def hash_files(listing: Listing, on_error: str = "raise") -> Hashed:
    """A hash of the images' relative names and sizes, and of the contents of some, wherever the folder is.

    Contents are the first SAMPLED_BYTES of SAMPLED_FILES files, spaced evenly along the list. Times don't count: a copy
    of the folder is the same data. So is one in which the test images were moved into folders named after their class.

    on_error: `raise` raises ConfigError for a file that cannot be read here.
    """
    digest = hashlib.sha256()
    total = len(listing.train.names) + len(listing.test.names)
    count = min(total, SAMPLED_FILES)
    numbers = {number * total // count for number in range(count)}
    sampled, whole = dict[str, Stamp](), True
    for number, (name, by_class) in enumerate(_names(listing)):
        path = f"{listing.root}/{name}"
        try:
            stamp = stamp_of(path)
            digest.update(f"{by_class}\0{stamp.size}\n".encode("utf-8", "surrogateescape"))
            if number in numbers:
                sampled[name] = stamp
                with open(path, "rb") as file:
                    digest.update(file.read(SAMPLED_BYTES))
        except OSError as error:
            whole = False
            if on_error == "raise":
                raise unreadable_error(f"{path}: {error.strerror}") from error
    return Hashed(digest.hexdigest()[:16], sampled if whole else None)


def _names(listing: Listing) -> Iterator[tuple[str, str]]:
    """Each image's path, and what its path is where images are in folders named after their class."""
    yield from ((name, name) for name in listing.train.names)
    if not listing.flat:
        yield from ((name, name) for name in listing.test.names)
        return
    yield from _moved(listing.test, listing.classes)


def _moved(files: Files, classes: list[str]) -> Iterator[tuple[str, str]]:
    for name, label in zip(files.names, files.labels, strict=True):
        split, _, file = name.partition("/")
        yield name, f"{split}/{classes[label]}/{file}"
