"""Lists a folder of images without opening any of them."""

import functools
import hashlib
import logging
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from simclr_ablate.config import ConfigError, MissingDataError
from simclr_ablate.data.decode import unreadable_error
from simclr_ablate.files import storing

log = logging.getLogger(__name__)

LAYOUT = "train/<class>/* and test/<class>/*"

TEST_NAMES = {"image_folder": ("test",), "imagenet": ("val", "test")}
"""Names of the folder of test images, by kind of data set; the first that exists is used."""

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

SAMPLED_FILES, SAMPLED_BYTES = 1000, 2**20
"""How many files' contents `fingerprint` reads, and how much of each."""


class Files(NamedTuple):
    """Image files of one split: paths relative to the root, sorted, and their classes."""

    names: list[str]
    labels: list[int]


class Listing(NamedTuple):
    """The image files under `root`. Labels are indices into `classes`, the sorted folders of train/."""

    root: Path
    classes: list[str]
    train: Files
    test: Files


def list_images(root: str | Path, kind: str = "image_folder", on_error: str = "raise") -> Listing:
    """Lists the files with one of ENDINGS; logs once what else there is, except hidden files and SYSTEM_NAMES.

    on_error: `raise` rejects what is neither file nor folder, a folder that cannot be opened, a link back to a folder
        that holds it, and a class with files but no image. `skip` leaves them out and logs them.

    Raises ConfigError for these, if there is no train/ or test/, and if the two do not hold the same classes.
    """
    folder = _existing(root)
    test_names = TEST_NAMES[kind]
    test_name = next((name for name in test_names if (folder / name).is_dir()), test_names[0])
    walk = _Walk(folder)
    train, test = (walk.by_class(split) for split in ("train", test_name))
    walk.judge(on_error)
    for split, by_class in (("train", train), (test_name, test)):
        if not by_class:
            raise ConfigError(
                f"data.root must be a folder that holds {LAYOUT}, got {str(root)!r}, "
                f"in which {split}/ holds no images in folders named after their class"
            )
    classes = sorted(train)
    unknown = sorted(set(test) - set(train))
    if unknown:
        raise ConfigError(
            f"data.root must hold the same classes in train/ and {test_name}/, got {str(root)!r}, "
            f"in which train/ has no images of {', '.join(unknown[:5])}"
            f"{f' and {len(unknown) - 5} more' if len(unknown) > 5 else ''}"
        )
    return Listing(folder, classes, _files(train, classes), _files(test, classes))


def fingerprint(listing: Listing, on_error: str = "raise") -> str:
    """A hash of the images' relative names and sizes, and of the contents of some, wherever the folder is.

    Contents are the first SAMPLED_BYTES of SAMPLED_FILES files, spaced evenly along the list. Times don't count: a copy
    of the folder is the same data.

    on_error: `raise` raises ConfigError for a file that cannot be read here.
    """
    digest = hashlib.sha256()
    names = [*listing.train.names, *listing.test.names]
    count = min(len(names), SAMPLED_FILES)
    sampled = {number * len(names) // count for number in range(count)}
    for number, name in enumerate(names):
        path = listing.root / name
        try:
            size = os.stat(path).st_size
            digest.update(f"{name}\0{size}\n".encode("utf-8", "surrogateescape"))
            if number in sampled:
                with open(path, "rb") as file:
                    digest.update(file.read(SAMPLED_BYTES))
        except OSError as error:
            if on_error == "raise":
                raise unreadable_error(f"{path}: {error.strerror}") from error
    return digest.hexdigest()[:16]


@dataclass
class _Walk:
    """A walk through the folders under `root`, and what it meets besides images."""

    root: Path
    others: Counter[str] = field(default_factory=Counter)
    """Number of files by ending, for endings that no image has."""
    loose: int = 0
    """Number of files in no class's folder."""
    problems: list[str] = field(default_factory=list)
    """Entries that cannot be used, each with the reason."""
    imageless: dict[str, Counter[str]] = field(default_factory=dict)
    """Class folders without images, and the endings of the files in them."""

    def by_class(self, split: str) -> dict[str, list[str]]:
        """Sorted relative paths of the images in each folder of `root/split` that has some."""
        if not (self.root / split).is_dir():
            raise ConfigError(
                f"data.root must be a folder that holds {LAYOUT}, got {str(self.root)!r}, "
                f"which has no folder {split}/"
            )
        with storing(self.root / split, "data.root"), os.scandir(self.root / split) as entries:
            within = (os.path.realpath(self.root / split),)
            classes = {
                entry.name: self._class(f"{split}/{entry.name}", entry, within)
                for entry in sorted(entries, key=lambda entry: entry.name)
                if _counts(entry.name)
            }
        return {name: files for name, files in classes.items() if files}

    def judge(self, on_error: str) -> None:
        """Rejects what `on_error` does not allow, and logs what is left out."""
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
        if self.others:
            tell_once(self.root, f"left out {_listed(self.others)}")
        if self.loose:
            tell_once(self.root, f"left out {_number(self.loose, 'file')} in no class's folder")
        if self.imageless:
            tell_once(self.root, f"left out folders without images: {some(list(self.imageless))}")
        if self.problems:
            entries = f"{_number(len(self.problems), 'item')} that cannot be read"
            tell_once(self.root, f"left out {entries}: {some(self.problems, 3)}")

    def _class(self, name: str, entry: os.DirEntry, within: tuple[str, ...]) -> list[str]:
        kind = _kind(entry)
        if kind != "folder":
            if kind == "file":
                self.loose += 1
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
        elif kind != "file":
            self._problem(name, kind)
        elif _ending(entry.name) in ENDINGS:
            yield name
        else:
            self.others[_ending(entry.name)] += 1

    def _problem(self, name: str, reason: str) -> None:
        self.problems.append(f"{self.root / name}: {reason}")


def _existing(root: str | Path) -> Path:
    folder = Path(root).expanduser()
    if not folder.is_dir():
        raise MissingDataError(f"data.root must be a folder that holds {LAYOUT}, got {str(root)!r}")
    return folder


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


def _files(by_class: dict[str, list[str]], classes: list[str]) -> Files:
    names = [name for label in classes for name in by_class.get(label, [])]
    labels = [
        number for number, label in enumerate(classes) for _ in range(len(by_class.get(label, [])))
    ]
    return Files(names, labels)


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


@functools.cache
def tell_once(root: Path, what: str) -> None:
    """Logs `what` about a folder, once per process: several experiments have the same folder."""
    text = f"{root}: {what}"
    log.warning("%s", "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text))
