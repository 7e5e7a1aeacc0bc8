"""What the file system says of a file or folder, from which a later command sees that it has not changed."""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from simclr_ablate.files import clock_of

SETTLED_SECONDS = 2
"""How old a stamp must be to be relied on: no file system's time is coarser."""

SETTLED_SECONDS_ELSEWHERE = 60
"""The same on file systems whose clock is not the cache's, and may be behind it by this much."""


class Stamp(NamedTuple):
    """Size in bytes and times in ns of a file or folder.

    Adding, removing or renaming an entry of a folder changes both times of the folder. Unlike the time of modification,
    the time of change can't be set, so unpacking with the archive's times changes it too.
    """

    device: int
    inode: int
    size: int
    modified: int
    changed: int

    def kept(self) -> list[int]:
        """What must stay the same. Not the device: a network file system has another number on each machine."""
        return [self.inode, self.size, self.modified, self.changed]


class Moment(NamedTuple):
    """A time in ns on the clock of a file system, the one on `device`."""

    device: int
    time: int

    def follows(self, stamps: Iterable[Stamp]) -> bool:
        """Whether any change from this moment on would show in the stamps.

        A change in the same tick of the clock as the one before it leaves no trace, so recent stamps prove nothing.
        Stamps may be taken before or after what they stand for is read: a change in between makes them recent.
        """
        return all(max(stamp.modified, stamp.changed) < self._limit(stamp) for stamp in stamps)

    def _limit(self, stamp: Stamp) -> int:
        here = stamp.device == self.device
        return self.time - 10**9 * (SETTLED_SECONDS if here else SETTLED_SECONDS_ELSEWHERE)


def stamp_of(path: str | Path) -> Stamp:
    """The stamp of what `path` leads to. Raises OSError."""
    stat = os.stat(path)
    return Stamp(stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)


def moment_of(folder: Path) -> Moment:
    """Now, on the clock of the file system of `folder`. Raises StorageError."""
    time = clock_of(folder)
    return Moment(os.stat(folder).st_dev, int(time * 10**9))


def unchanged(root: Path, kept: Mapping[str, Sequence[int]]) -> bool:
    """Whether the stamps of all files and folders are still the kept ones, by path relative to `root`."""
    try:
        return all(stamp_of(f"{root}/{name}").kept() == stamp for name, stamp in kept.items())
    except OSError:
        return False
