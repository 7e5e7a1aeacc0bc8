"""The transfer sets on disk: which image is in which split, and which class it shows, as their own lists say.

Each function reads one layout, that of torchvision's class, without opening an image or importing PyTorch.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

CALTECH_FOLDER = "caltech101/101_ObjectCategories"

VOC_CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa"),
    *("train", "tvmonitor"),
)


class Listed(NamedTuple):
    """Image files of one split: paths relative to the root, and labels.

    labels: int64 (N,); or (N, classes), if images can show several: 1 for a class that the image shows, 0 for one that
    it does not, -1 where the set leaves it open.
    """

    names: list[str]
    labels: NDArray[np.int64]


class Layout(NamedTuple):
    """A data set's files: the splits `train`, `validation` if there is an official one, and `test`; or `all`."""

    classes: list[str]
    splits: dict[str, Listed]


def food101(root: Path) -> Layout:
    """`food-101/meta/{train,test}.json` list the images of each class."""
    splits, classes = {}, list[str]()
    for split in ("train", "test"):
        listed = json.loads((root / f"food-101/meta/{split}.json").read_text())
        classes = sorted(listed)
        names = [f"food-101/images/{name}.jpg" for label in classes for name in listed[label]]
        counts = [len(listed[label]) for label in classes]
        splits[split] = Listed(names, np.repeat(np.arange(len(classes)), counts))
    return Layout(classes, splits)


def sun397(root: Path) -> Layout:
    """`Training_01.txt` and `Testing_01.txt`, split 1, list 50 images of each class.

    They come in an archive of their own, Partitions.zip, and lie in `SUN397`, in `SUN397/Partitions` or beside it.
    """
    classes = [line[3:] for line in _lines(root / "SUN397/ClassName.txt")]
    splits = {}
    for split, file in (("train", "Training_01.txt"), ("test", "Testing_01.txt")):
        names = _lines(_sun_list(root, file))
        # The class of /a/airport/ticket_counter/sun_1.jpg is airport/ticket_counter.
        labels = [name[3 : name.rindex("/")] for name in names]
        splits[split] = Listed([f"SUN397{name}" for name in names], _numbered(labels, classes))
    return Layout(classes, splits)


def _sun_list(root: Path, file: str) -> Path:
    places = [root / "SUN397" / file, root / "SUN397/Partitions" / file, root / file]
    return next((place for place in places if place.is_file()), places[0])


def stanford_cars(root: Path) -> Layout:
    """MATLAB's files of annotations; classes are numbered from 1."""
    folder = root / "stanford_cars"
    classes = _matlab(folder / "devkit/cars_meta.mat")["class_names"].tolist()
    splits = {}
    for split, file in (
        ("train", "devkit/cars_train_annos.mat"),
        ("test", "cars_test_annos_withlabels.mat"),
    ):
        annotations = _matlab(folder / file)["annotations"]
        names = [f"stanford_cars/cars_{split}/{name}" for name in annotations["fname"]]
        splits[split] = Listed(names, annotations["class"].astype(np.int64) - 1)
    return Layout(classes, splits)


def fgvc_aircraft(root: Path) -> Layout:
    """`images_variant_{train,val,test}.txt`: an image's name and its variant in each line."""
    folder = "fgvc-aircraft-2013b/data"
    classes = _lines(root / folder / "variants.txt")
    splits = {}
    for split, file in (("train", "train"), ("validation", "val"), ("test", "test")):
        lines = [
            line.split(" ", 1) for line in _lines(root / folder / f"images_variant_{file}.txt")
        ]
        names = [f"{folder}/images/{name}.jpg" for name, _ in lines]
        splits[split] = Listed(names, _numbered([label for _, label in lines], classes))
    return Layout(classes, splits)


def voc2007(root: Path) -> Layout:
    """`ImageSets/Main/CLASS_{train,val,test}.txt`: an image's name and 1, -1 or 0 in each line.

    A 0 says that all objects of the class are marked difficult. VOC's own evaluation leaves such an image out of the
    class (Everingham et al. 2010).
    """
    folder = "VOCdevkit/VOC2007"
    splits = {}
    for split, file in (("train", "train"), ("validation", "val"), ("test", "test")):
        names = [line.split()[0] for line in _lines(root / folder / f"ImageSets/Main/{file}.txt")]
        labels = np.empty((len(names), len(VOC_CLASSES)), np.int64)
        for column, label in enumerate(VOC_CLASSES):
            lines = _lines(root / folder / f"ImageSets/Main/{label}_{file}.txt")
            told = {name: int(value) for name, value in map(str.split, lines)}
            labels[:, column] = [_VOC_LABELS[told[name]] for name in names]
        splits[split] = Listed([f"{folder}/JPEGImages/{name}.jpg" for name in names], labels)
    return Layout(list(VOC_CLASSES), splits)


_VOC_LABELS = {1: 1, -1: 0, 0: -1}
"""Our labels by VOC's."""


def dtd(root: Path) -> Layout:
    """`labels/{train,val,test}1.txt`, split 1: an image's path, which begins with its class, in each line."""
    splits, classes = {}, list[str]()
    for split, file in (("train", "train1"), ("validation", "val1"), ("test", "test1")):
        lines = _lines(root / f"dtd/dtd/labels/{file}.txt")
        labels = [line.split("/")[0] for line in lines]
        classes = classes or sorted(set(labels))
        splits[split] = Listed(
            [f"dtd/dtd/images/{line}" for line in lines], _numbered(labels, classes)
        )
    return Layout(classes, splits)


def oxford_iiit_pet(root: Path) -> Layout:
    """`annotations/{trainval,test}.txt`: an image's name, which begins with its breed, and the breed's number."""
    splits, classes = {}, dict[int, str]()
    for split, file in (("train", "trainval"), ("test", "test")):
        lines = [line.split() for line in _lines(root / f"oxford-iiit-pet/annotations/{file}.txt")]
        labels = [int(line[1]) - 1 for line in lines]
        for line, label in zip(lines, labels, strict=True):
            classes.setdefault(label, line[0].rpartition("_")[0].replace("_", " "))
        names = [f"oxford-iiit-pet/images/{line[0]}.jpg" for line in lines]
        splits[split] = Listed(names, np.array(labels, np.int64))
    return Layout([classes[label] for label in sorted(classes)], splits)


def caltech101(root: Path) -> Layout:
    """A folder for each class, with clutter from the web as one of the 102 classes, and no split."""
    classes = sorted(entry.name for entry in (root / CALTECH_FOLDER).iterdir() if entry.is_dir())
    of_class = [
        sorted(path.name for path in (root / CALTECH_FOLDER / label).glob("image_*.jpg"))
        for label in classes
    ]
    names = [
        f"{CALTECH_FOLDER}/{label}/{name}"
        for label, names in zip(classes, of_class, strict=True)
        for name in names
    ]
    labels = np.repeat(np.arange(len(classes)), [len(names) for names in of_class])
    return Layout(classes, {"all": Listed(names, labels)})


def flowers102(root: Path) -> Layout:
    """MATLAB's files of the splits and of all images' labels; images and classes are numbered from 1."""
    folder = root / "flowers-102"
    ids = _matlab(folder / "setid.mat")
    labels = _matlab(folder / "imagelabels.mat")["labels"].astype(np.int64) - 1
    splits = {}
    for split, key in (("train", "trnid"), ("validation", "valid"), ("test", "tstid")):
        numbers = np.atleast_1d(ids[key]).astype(np.int64)
        names = [f"flowers-102/jpg/image_{number:05d}.jpg" for number in numbers]
        splits[split] = Listed(names, labels[numbers - 1])
    return Layout([f"flower {number}" for number in range(1, labels.max() + 2)], splits)


def _matlab(path: Path) -> dict[str, Any]:
    from scipy.io import loadmat  # slow to import

    with open(path, "rb") as file:  # a missing file is an error that says so
        content: dict[str, Any] = loadmat(file, squeeze_me=True)
    return content


def _lines(path: Path) -> list[str]:
    """The file's lines that are not empty, without white space around them."""
    lines = (line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines())
    return [line for line in lines if line]


def _numbered(labels: Sequence[str], classes: Sequence[str]) -> NDArray[np.int64]:
    """Each label's place among the classes. Raises KeyError for one that is not among them."""
    place = {label: number for number, label in enumerate(classes)}
    return np.array([place[label] for label in labels], np.int64)
