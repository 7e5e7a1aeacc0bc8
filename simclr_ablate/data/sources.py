"""Where the sets that torchvision knows come from, and whether they are there, without reading an image or PyTorch.

A set lies in a folder of its own under `data.root`, as torchvision lays it out. It counts as there if it has as many
images and classes as it should, in every split. If the folder is missing, the set is unpacked from archives in
`data.root`, or downloaded. `check_there` says when a run is planned whether one of these will do.
"""

import functools
import hashlib
import os
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from simclr_ablate.config import MissingDataError

if TYPE_CHECKING:
    from simclr_ablate.data.layouts import Layout

SECONDS = 10.0
"""How long a server may take to answer."""


@dataclass(frozen=True)
class Source:
    """A set's place on disk and on the web.

    folder: what it is in, under the root. archives: files that hold all of it, with their addresses. instead: what to
        do if it can't be downloaded, where that is not to put the archives into the root.
    """

    folder: str
    archives: Mapping[str, str] = field(default_factory=dict)
    instead: str = ""


@dataclass(frozen=True)
class TransferSet(Source):
    """A transfer set as it is if all of it is there (Kornblith et al. 2019, Table 1).

    classes: their number. images: the number of images in each split. The function of its name in `layouts` lists its
    files.
    """

    classes: int = field(kw_only=True)
    images: Mapping[str, int] = field(kw_only=True)

    @property
    def of_training(self) -> int:
        """The number of training images, before any are held out."""
        if "all" in self.images:
            return CALTECH_TRAINING * self.classes
        return self.images["train"]


CALTECH_TRAINING = 30
"""Training images of each class of Caltech-101, which has no official split (App. B.8)."""

_VGG = "https://www.robots.ox.ac.uk/~vgg/data"
_VOC = "https://thor.robots.ox.ac.uk/pascal/VOC/voc2007"
_SUN = "vision.princeton.edu/projects/2010/SUN"
_TORONTO = "https://www.cs.toronto.edu/~kriz"

SOURCES: Mapping[str, Source] = MappingProxyType(
    {
        "cifar10": Source(
            "cifar-10-batches-py",
            {"cifar-10-python.tar.gz": f"{_TORONTO}/cifar-10-python.tar.gz"},
        ),
        "cifar100": Source(
            "cifar-100-python",
            {"cifar-100-python.tar.gz": f"{_TORONTO}/cifar-100-python.tar.gz"},
        ),
        "stl10": Source(
            "stl10_binary",
            {"stl10_binary.tar.gz": "http://ai.stanford.edu/~acoates/stl10/stl10_binary.tar.gz"},
        ),
    }
)
"""The sets that torchvision reads and checks itself."""

TRANSFER: dict[str, TransferSet] = {
    "food101": TransferSet(
        "food-101",
        {"food-101.tar.gz": "http://data.vision.ee.ethz.ch/cvl/food-101.tar.gz"},
        classes=101,
        images={"train": 75_750, "test": 25_250},
    ),
    "sun397": TransferSet(
        "SUN397",
        {
            "SUN397.tar.gz": f"http://{_SUN}/SUN397.tar.gz",
            "Partitions.zip": f"https://{_SUN}/download/Partitions.zip",
        },
        classes=397,
        images={"train": 19_850, "test": 19_850},
    ),
    "stanford_cars": TransferSet(
        "stanford_cars",
        instead="its site is gone; from a copy, put cars_train/*.jpg, cars_test/*.jpg, devkit/cars_meta.mat, "
        "devkit/cars_train_annos.mat and cars_test_annos_withlabels.mat into stanford_cars/ there",
        classes=196,
        images={"train": 8_144, "test": 8_041},
    ),
    "fgvc_aircraft": TransferSet(
        "fgvc-aircraft-2013b",
        {"fgvc-aircraft-2013b.tar.gz": f"{_VGG}/fgvc-aircraft/archives/fgvc-aircraft-2013b.tar.gz"},
        classes=100,
        images={"train": 3_334, "validation": 3_333, "test": 3_333},
    ),
    "voc2007": TransferSet(
        "VOCdevkit/VOC2007",
        {
            "VOCtrainval_06-Nov-2007.tar": f"{_VOC}/VOCtrainval_06-Nov-2007.tar",
            "VOCtest_06-Nov-2007.tar": f"{_VOC}/VOCtest_06-Nov-2007.tar",
        },
        classes=20,
        images={"train": 2_501, "validation": 2_510, "test": 4_952},
    ),
    "dtd": TransferSet(
        "dtd",
        {"dtd-r1.0.1.tar.gz": f"{_VGG}/dtd/download/dtd-r1.0.1.tar.gz"},
        classes=47,
        images={"train": 1_880, "validation": 1_880, "test": 1_880},
    ),
    "oxford_iiit_pet": TransferSet(
        "oxford-iiit-pet",
        {
            "images.tar.gz": f"{_VGG}/pets/data/images.tar.gz",
            "annotations.tar.gz": f"{_VGG}/pets/data/annotations.tar.gz",
        },
        classes=37,
        images={"train": 3_680, "test": 3_669},
    ),
    "caltech101": TransferSet(
        "caltech101",
        {"caltech-101.zip": "https://data.caltech.edu/records/mzrjq-6wc02/files/caltech-101.zip"},
        classes=102,
        images={"all": 9_144},
    ),
    "flowers102": TransferSet(
        "flowers-102",
        {
            "102flowers.tgz": f"{_VGG}/flowers/102/102flowers.tgz",
            "imagelabels.mat": f"{_VGG}/flowers/102/imagelabels.mat",
            "setid.mat": f"{_VGG}/flowers/102/setid.mat",
        },
        classes=102,
        images={"train": 1_020, "validation": 1_020, "test": 6_149},
    ),
}
"""The sets that are files in a layout of their own, by name."""


def check_there(name: str, root: Path, cache: Path, size: int) -> None:
    """Raises MissingDataError unless the set is in the cache, under `root`, or can be had; reads no image.

    root: the folder that `root_of` gives. size: the side of the images in pixels.
    """
    from simclr_ablate.data.cache import folder_of  # it loads numpy

    if all(folder_of(cache, each).is_dir() for each in cached_names(name, root, size)):
        return
    source = _sources()[name]
    if (root / source.folder).exists():
        if isinstance(source, TransferSet):
            read_whole(name, root)
        return
    absent = [file for file in source.archives if not (root / file).is_file()]
    reasons = [why_unreachable(source.archives[file]) for file in absent]
    reason = next((reason for reason in reasons if reason), None)
    if reason is not None or not source.archives:
        raise not_found(name, root, reason)


def read_whole(name: str, root: Path) -> "Layout":
    """The layout of a transfer set. Raises MissingDataError if files are missing or cannot be read."""
    from simclr_ablate.data import layouts  # it loads numpy

    source = TRANSFER[name]
    where = root / source.folder
    try:
        layout: Layout = getattr(layouts, name)(root)
    except Exception as error:  # its lists may hold anything
        kind = type(error).__name__
        what = _reason(error) if isinstance(error, OSError) else f"its lists: {kind}: {error}"
        raise MissingDataError(
            f"data={name} in {where} is not whole ({what}): {_remedy(source, root)}"
        ) from error
    expected = {**source.images, "classes": source.classes}
    found = {split: _count(root, listed.names) for split, listed in layout.splits.items()}
    found["classes"] = len(layout.classes)
    if found != expected:
        told = [
            ", ".join(f"{each[k]:,} {_unit(k)}" for k in expected) for each in (expected, found)
        ]
        raise MissingDataError(
            f"data={name} must have {told[0]}, got {told[1]} in {where}: {_remedy(source, root)}"
        )
    return layout


def not_found(name: str, root: Path, reason: str | None = None) -> MissingDataError:
    """The error for a set that is not in `root` and cannot be downloaded, for this reason."""
    source = _sources()[name]
    failed = f" and could not be downloaded ({reason})" if reason else ""
    return MissingDataError(
        f"data={name} was not found in {root}{failed}: {_sought(source)}, set data.root to the folder that holds it, "
        "or use your own images with data=image_folder data.root=DIR"
    )


def cached_names(name: str, root: Path, size: int) -> list[str]:
    """The folders of the cache that hold the decoded set, one for each of its parts."""
    of_root = hashlib.sha256(str(root).encode()).hexdigest()[:8]
    return [f"{name}-{part}-{size}px-{of_root}" for part in parts_of(name)]


def parts_of(name: str) -> tuple[str, ...]:
    """The parts in which the cache keeps a set."""
    if name not in TRANSFER:
        return TORCHVISION_SPLITS[name]
    return ("all",) if "all" in TRANSFER[name].images else ("training", "test")


TORCHVISION_SPLITS = {
    "cifar10": ("train", "test"),
    "cifar100": ("train", "test"),
    "stl10": ("train", "test", "unlabeled"),
}
"""Torchvision's names for the splits of the sets that it reads itself."""


def root_of(root: str | None, cache: Path) -> Path:
    """The folder under which a set lies: `data.root`, or one in the cache."""
    return Path(cache / "downloads" if root is None else root).expanduser().resolve()


@functools.cache
def why_unreachable(address: str) -> str | None:
    """Why the file at a web address cannot be had, or None; asked once per process."""
    request = urllib.request.Request(address, method="HEAD")
    try:
        with urllib.request.urlopen(request, timeout=SECONDS):
            return None
    except urllib.error.HTTPError as error:
        # Any other answer may just mean that the server doesn't like the question.
        return f"{address}: {error}" if error.code in (404, 410) else None
    except (OSError, ValueError) as error:
        return f"{address}: {_reason(error)}"


def _sources() -> dict[str, Source]:
    return {**SOURCES, **TRANSFER}


def _sought(source: Source) -> str:
    if source.instead:
        return source.instead
    return "put " + " and ".join(f"{f} from {a}" for f, a in source.archives.items()) + " there"


def _remedy(source: Source, root: Path) -> str:
    """What to do about a set that is there in part."""
    if source.instead:
        return f"{source.instead}, with {root} for there"
    return f"remove {root / source.folder}, so that it is unpacked or downloaded again ({_sought(source)})"


def _count(root: Path, names: list[str]) -> int:
    """How many of the files are there. Each folder is listed once, which is faster than asking for each file."""
    by_folder: dict[str, set[str]] = {}
    for name in names:
        folder, _, file = name.rpartition("/")
        by_folder.setdefault(folder, set()).add(file)
    total = 0
    for folder, files in by_folder.items():
        try:
            total += len(files.intersection(os.listdir(root / folder)))
        except OSError:
            continue
    return total


def _unit(what: str) -> str:
    named = {"classes": "classes", "all": "images", "train": "training images"}
    return named.get(what, f"{what} images")


def _reason(error: Exception) -> str:
    inner = getattr(error, "reason", None)
    if isinstance(inner, Exception):
        return _reason(inner)
    return " ".join(str(error).split()) or type(error).__name__
