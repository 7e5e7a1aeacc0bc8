"""ILSVRC2012's validation images as their archive unpacks: in one folder, with their labels in the devkit."""

import io
import re
import tarfile
from collections.abc import Sequence
from pathlib import Path

from simclr_ablate.config import MissingDataError

DEVKIT = "ILSVRC2012_devkit_t12"
ARCHIVE = f"{DEVKIT}.tar.gz"

LABELS, SYNSETS = "data/ILSVRC2012_validation_ground_truth.txt", "data/meta.mat"
"""The devkit's files: an ILSVRC2012_ID in each line, by the images' numbers; and the WNID of each ILSVRC2012_ID."""

_IMAGE = re.compile(r"ILSVRC2012_val_(\d{8})\.jpe?g", re.IGNORECASE)


def is_validation_image(name: str) -> bool:
    """Whether a file has the name of a validation image; `name` may be a path."""
    return _IMAGE.fullmatch(name.rpartition("/")[2]) is not None


def devkit_files(root: Path) -> list[str]:
    """The devkit's files that are in `root`, as relative paths: the folder's two, or the archive.

    Raises MissingDataError if there is neither.
    """
    if (root / DEVKIT).is_dir():
        return [f"{DEVKIT}/{LABELS}", f"{DEVKIT}/{SYNSETS}"]
    if (root / ARCHIVE).is_file():
        return [ARCHIVE]
    raise MissingDataError(
        "data.root must hold the labels of validation images that are not in folders named after their class, "
        f"got {str(root)!r}: put {ARCHIVE} from image-net.org, or the folder {DEVKIT} that is in it, there"
    )


def read_classes(root: Path, files: Sequence[str]) -> list[str]:
    """The class, a WNID, of each validation image, in the order of their numbers.

    files: what `devkit_files` returns. Raises MissingDataError if they cannot be read.
    """
    try:
        if list(files) == [ARCHIVE]:
            with tarfile.open(root / ARCHIVE) as archive:
                labels, synsets = (_member(archive, name) for name in (LABELS, SYNSETS))
        else:
            labels, synsets = ((root / name).read_bytes() for name in files)
        return _parse(labels, synsets)
    except Exception as error:  # what is in damaged files may raise anything
        place = root / (ARCHIVE if list(files) == [ARCHIVE] else DEVKIT)
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise MissingDataError(
            f"data.root must hold a devkit with {LABELS} and {SYNSETS}, got {str(place)!r}, which cannot be read "
            f"({reason}): remove it, and put {ARCHIVE} from image-net.org there"
        ) from error


def by_class(names: Sequence[str], classes: Sequence[str], root: Path) -> dict[str, list[str]]:
    """The images of each class, sorted. Raises MissingDataError unless every image is there and has a class.

    names: paths of validation images relative to `root`. classes: what `read_classes` returns.
    """
    by_number = {_number(name): name for name in sorted(names)}
    expected = range(1, len(classes) + 1)
    absent = [number for number in expected if number not in by_number]
    if absent or len(names) != len(classes):
        without = f", without number {absent[0]}" if absent else ""
        more = f" and {len(absent) - 1:,} more" if len(absent) > 1 else ""
        raise MissingDataError(
            f"data.root must hold the {len(classes):,} validation images that have labels in {DEVKIT}, "
            f"got {len(names):,} in {str((root / names[0]).parent)!r}{without}{more}: "
            "unpack ILSVRC2012_img_val.tar there again"
        )
    of_class: dict[str, list[str]] = {}
    for number in expected:
        of_class.setdefault(classes[number - 1], []).append(by_number[number])
    return of_class


def _number(name: str) -> int:
    match = _IMAGE.fullmatch(name.rpartition("/")[2])
    assert match is not None
    return int(match[1])


def _member(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(f"{DEVKIT}/{name}")
    if file is None:
        raise ValueError(f"{name} is not a file")
    return file.read()


def _parse(labels: bytes, synsets: bytes) -> list[str]:
    """The WNID of each label. Only synsets without children are classes; the others are what they are kinds of."""
    import numpy as np
    from scipy.io import loadmat  # slow to import

    rows = np.atleast_1d(loadmat(io.BytesIO(synsets), squeeze_me=True)["synsets"])
    wnids = {int(row["ILSVRC2012_ID"]): str(row["WNID"]) for row in rows if not row["num_children"]}
    return [wnids[int(label)] for label in labels.split()]
