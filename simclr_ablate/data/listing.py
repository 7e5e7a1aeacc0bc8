"""Lists a folder of images without opening any of them."""

import functools
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from simclr_ablate.config import ConfigError, MissingDataError
from simclr_ablate.data.stamps import Stamp
from simclr_ablate.data.walk import LAYOUT, Walk

log = logging.getLogger(__name__)

TEST_NAMES = {"image_folder": ("test",), "imagenet": ("val", "test")}
"""Names of the folder of test images, by kind of data set; the first that exists is used."""


class Files(NamedTuple):
    """Image files of one split: paths relative to the root, sorted, and their classes."""

    names: list[str]
    labels: list[int]


class Listing(NamedTuple):
    """The image files under `root`. Labels are indices into `classes`, the sorted folders of train/.

    flat: whether the test images are in one folder, not in folders named after their class.
    """

    root: Path
    classes: list[str]
    train: Files
    test: Files
    flat: bool = False


class Walked(NamedTuple):
    """A listing and what it rests on.

    notes: what was left out, for the log. stamps: of every folder, every link to a file and every other file that the
    listing depends on, by path relative to its root; None if something could not be read, which may change without
    changing a stamp.
    """

    listing: Listing
    notes: list[str]
    stamps: dict[str, Stamp] | None


def list_images(root: str | Path, kind: str = "image_folder", on_error: str = "raise") -> Listing:
    """Lists the files with one of ENDINGS; logs once what else there is, except hidden files and SYSTEM_NAMES.

    kind: `imagenet` also takes ILSVRC2012's validation images as they are unpacked, with the devkit's labels.
    on_error: `raise` rejects what is neither file nor folder, a folder that cannot be opened, a link back to a folder
        that holds it, and a class with files but no image. `skip` leaves them out and logs them.

    Raises ConfigError for these, if there is no train/ or test/, and if the two do not hold the same classes.
    """
    walked = walk_images(existing(root), kind, on_error)
    tell_notes(walked.listing.root, walked.notes)
    return walked.listing


def walk_images(folder: Path, kind: str, on_error: str) -> Walked:
    """As `list_images`, of a folder that exists; leaves it to the caller to log the notes."""
    walk = Walk(folder)
    test_name = split_of_tests(folder, kind)
    train, test = (walk.by_class(split) for split in ("train", test_name))
    walk.judge(on_error)
    flat = kind == "imagenet" and not test
    if flat:
        test = walk.flat(test_name)
    for split, by_class in (("train", train), (test_name, test)):
        if not by_class:
            raise ConfigError(
                f"data.root must be a folder that holds {LAYOUT}, got {str(folder)!r}, "
                f"in which {split}/ holds no images in folders named after their class"
            )
    classes = sorted(train)
    unknown = sorted(set(test) - set(train))
    if unknown:
        raise ConfigError(
            f"data.root must hold the same classes in train/ and {test_name}/, got {str(folder)!r}, "
            f"in which train/ has no images of {', '.join(unknown[:5])}"
            f"{f' and {len(unknown) - 5} more' if len(unknown) > 5 else ''}"
        )
    listing = Listing(folder, classes, _files(train, classes), _files(test, classes), flat)
    return Walked(listing, list(walk.notes()), None if walk.problems else walk.stamps)


def existing(root: str | Path) -> Path:
    """The folder `root`. Raises MissingDataError if there is none."""
    folder = Path(root).expanduser()
    if not folder.is_dir():
        raise MissingDataError(f"data.root must be a folder that holds {LAYOUT}, got {str(root)!r}")
    return folder


def split_of_tests(root: Path, kind: str) -> str:
    """The name of the folder of test images: the first of TEST_NAMES that exists."""
    names = TEST_NAMES[kind]
    return next((name for name in names if (root / name).is_dir()), names[0])


def _files(by_class: dict[str, list[str]], classes: list[str]) -> Files:
    names = [name for label in classes for name in by_class.get(label, [])]
    labels = [
        number for number, label in enumerate(classes) for _ in range(len(by_class.get(label, [])))
    ]
    return Files(names, labels)


def tell_notes(root: Path, notes: Iterable[str]) -> None:
    """Logs each note about a folder, once per process."""
    for note in notes:
        tell_once(root, note)


@functools.cache
def tell_once(root: Path, what: str) -> None:
    """Logs `what` about a folder, once per process: several experiments have the same folder."""
    text = f"{root}: {what}"
    log.warning("%s", "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text))
