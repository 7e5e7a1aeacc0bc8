"""Walks through a folder of images, and meets whatever else is there."""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from simclr_ablate.config import ConfigError
from simclr_ablate.data import ilsvrc
from simclr_ablate.data.decode import unreadable_error
from simclr_ablate.data.stamps import Stamp, stamp_of
from simclr_ablate.files import storing

LAYOUT = "train/<class>/* and test/<class>/*"

ENDINGS = (
    ".jpg",
    ".jpeg",
    ".png",
    ".bmp",
    ".gif",
    ".tif",
    ".tiff",
    ".webp",
    ".ppm",
    ".pgm",
    ".pbm",
    ".pnm",
)
"""Endings of files that count as images, in lower case. Whatever the ending, `decode` only opens these kinds."""

SYSTEM_NAMES = (
    "@eadir",
    "#recycle",
    "__macosx",
    "lost+found",
    "$recycle.bin",
    "system volume information",
    "thumbs.db",
    "ehthumbs.db",
    "desktop.ini",
)
"""What cameras, servers and desktops leave in folders, in lower case. Names that begin with a dot are ignored too."""


@dataclass
class Walk:
    """A walk through the folders under `root`, and what it meets besides images."""

    root: Path
    others: Counter[str] = field(default_factory=Counter)
    """Number of files by ending, for endings that no image has."""
    loose: list[str] = field(default_factory=list)
    """Files in no class's folder."""
    problems: list[str] = field(default_factory=list)
    """Entries that cannot be used, each with the reason."""
    imageless: dict[str, Counter[str]] = field(default_factory=dict)
    """Class folders without images, and the endings of the files in them."""
    stamps: dict[str, Stamp] = field(default_factory=dict)
    """See `listing.Walked`."""

    def by_class(self, split: str) -> dict[str, list[str]]:
        """Sorted relative paths of the images in each folder of `root/split` that has some."""
        if not (self.root / split).is_dir():
            raise ConfigError(
                f"data.root must be a folder that holds {LAYOUT}, got {str(self.root)!r}, "
                f"which has no folder {split}/"
            )
        with storing(self.root / split, "data.root"):
            self._stamp(".")
            self._stamp(split)
        with storing(self.root / split, "data.root"), os.scandir(self.root / split) as entries:
            within = (os.path.realpath(self.root / split),)
            classes = {
                entry.name: self._class(f"{split}/{entry.name}", entry, within)
                for entry in sorted(entries, key=lambda entry: entry.name)
                if _counts(entry.name)
            }
        return {name: files for name, files in classes.items() if files}

    def flat(self, split: str) -> dict[str, list[str]]:
        """Sorted relative paths of ILSVRC2012's validation images in `root/split` itself, by class, if there are any.

        Raises MissingDataError if there are only some of them, or no labels.
        """
        names = [
            name
            for name in self.loose
            if name.startswith(f"{split}/") and ilsvrc.is_validation_image(name)
        ]
        if not names:
            return {}
        self.loose = sorted(set(self.loose).difference(names))
        files = ilsvrc.devkit_files(self.root)
        classes = ilsvrc.read_classes(self.root, files)
        with storing(self.root / files[0], "data.root"):
            for name in files:
                self._stamp(name)
        return ilsvrc.by_class(names, classes, self.root)

    def judge(self, on_error: str) -> None:
        """Rejects what `on_error` does not allow."""
        if on_error == "raise":
            if self.problems:
                raise unreadable_error(self.problems[0])
            for folder, endings in self.imageless.items():
                if endings:
                    raise ConfigError(
                        f"data.root must hold images ({', '.join(ENDINGS)}) of every class, got "
                        f"{self.root / folder}, which has {_listed(endings)}; convert or remove them, "
                        "or leave such a class out with data.on_error=skip"
                    )

    def notes(self) -> Iterator[str]:
        """What is left out, for the log."""
        if self.others:
            yield f"left out {_listed(self.others)}"
        if self.loose:
            yield f"left out {_number(len(self.loose), 'file')} in no class's folder"
        if self.imageless:
            yield f"left out folders without images: {some(list(self.imageless))}"
        if self.problems:
            entries = f"{_number(len(self.problems), 'item')} that cannot be read"
            yield f"left out {entries}: {some(self.problems, 3)}"

    def _class(self, name: str, entry: os.DirEntry, within: tuple[str, ...]) -> list[str]:
        kind = _kind(entry)
        if kind != "folder":
            if kind == "file":
                self.loose.append(name)
                self._stamp_link(name, entry)
            else:
                self._problem(name, kind)
            return []
        before = self.others.copy()
        problems = len(self.problems)
        files = sorted(self._folder(name, entry, within))
        if not files and len(self.problems) == problems:
            self.imageless[name] = self.others - before
        return files

    def _folder(self, name: str, entry: os.DirEntry, within: tuple[str, ...]) -> Iterator[str]:
        """The images under the folder `entry`.

        within: real paths of the folders from which links were followed to get here, and of the folder with `entry`.
        """
        here = f"{within[-1]}/{entry.name}"
        if entry.is_symlink():
            here = os.path.realpath(entry.path)
            if any(_holds(here, folder) for folder in within):
                self._problem(name, "a link to a folder that holds it")
                return
            within = (*within, "")
        within = (*within[:-1], here)
        try:
            self._stamp(name)
            with os.scandir(self.root / name) as entries:
                for inner in entries:
                    if _counts(inner.name):
                        yield from self._entry(f"{name}/{inner.name}", inner, within)
        except OSError as error:
            self._problem(name, error.strerror or str(error))

    def _entry(self, name: str, entry: os.DirEntry, within: tuple[str, ...]) -> Iterator[str]:
        kind = _kind(entry)
        if kind == "folder":
            yield from self._folder(name, entry, within)
            return
        if kind != "file":
            self._problem(name, kind)
            return
        self._stamp_link(name, entry)
        if _ending(entry.name) in ENDINGS:
            yield name
        else:
            self.others[_ending(entry.name)] += 1

    def _stamp(self, name: str) -> None:
        self.stamps[name] = stamp_of(f"{self.root}/{name}")

    def _stamp_link(self, name: str, entry: os.DirEntry) -> None:
        """Stamps what a link to a file leads to, which may go or become a folder without changing the link's folder."""
        if entry.is_symlink():
            try:
                self._stamp(name)
            except OSError as error:
                self._problem(name, error.strerror or str(error))

    def _problem(self, name: str, reason: str) -> None:
        self.problems.append(f"{self.root / name}: {reason}")


def _kind(entry: os.DirEntry) -> str:
    """`file`, `folder`, or a description of anything else."""
    try:
        if entry.is_dir():
            return "folder"
        if entry.is_file():
            return "file"
    except OSError as error:  # a circular link, or one to where we may not look
        return error.strerror or str(error)
    return "a link that leads nowhere" if entry.is_symlink() else "not a regular file"


def _ending(name: str) -> str:
    return os.path.splitext(name)[1].lower()


def _counts(name: str) -> bool:
    return not name.startswith(".") and name.lower() not in SYSTEM_NAMES


def _holds(folder: str, inner: str) -> bool:
    return inner == folder or inner.startswith(folder.rstrip("/") + "/")


def _listed(endings: Counter[str]) -> str:
    """`60 files of other kinds: 40 .heic, 20 without an ending`."""
    kinds = [f"{n:,} {ending or 'without an ending'}" for ending, n in endings.most_common()]
    return f"{_number(endings.total(), 'file')} of other kinds: {some(kinds)}"


def _number(n: int, what: str) -> str:
    return f"{n:,} {what}{'' if n == 1 else 's'}"


def some(items: list[str], most: int = 10) -> str:
    """The first `most` items, and how many more there are."""
    more = f" and {len(items) - most:,} more" if len(items) > most else ""
    return f"{', '.join(items[:most])}{more}"
