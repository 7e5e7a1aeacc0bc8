"""Tiny copies of the transfer sets, of random images in the layout that each set really has."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from simclr_ablate.data import sources
from simclr_ablate.data.layouts import VOC_CLASSES


@dataclass
class Writer:
    """Writes a set under `root`. classes: how many. images: how many in each split."""

    root: Path
    classes: int
    images: dict[str, int]
    seed: int = 0

    def __post_init__(self) -> None:
        self.draw = np.random.default_rng(self.seed)

    def jpeg(self, path: str) -> None:
        """An image of random size and smooth random colours."""
        height, width = self.draw.integers(24, 60, 2)
        small = self.draw.integers(0, 256, (6, 6, 3), dtype=np.uint8)
        place = self.root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(small).resize((int(width), int(height))).save(place, quality=95)

    def text(self, path: str, lines: Sequence[str]) -> None:
        place = self.root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text("".join(f"{line}\n" for line in lines))

    def labels(self, split: str) -> list[int]:
        """Every class in turn, in random order, so that order and class are not the same."""
        labels = np.arange(self.images[split]) % self.classes
        return self.draw.permutation(labels).tolist()


def food101(w: Writer) -> None:
    names = [f"dish_{k}" for k in range(w.classes)]
    for split in ("train", "test"):
        listed: dict[str, list[str]] = {name: [] for name in reversed(names)}
        for n, label in enumerate(w.labels(split)):
            listed[names[label]].append(f"{names[label]}/{split}{n}")
            w.jpeg(f"food-101/images/{names[label]}/{split}{n}.jpg")
        w.text(f"food-101/meta/{split}.json", [json.dumps(listed)])


def sun397(w: Writer) -> None:
    paths = ["/a/abbey", "/a/airport/ticket_counter", "/b/bar", "/z/zoo"][: w.classes]
    w.text("SUN397/ClassName.txt", paths)
    for split, file in (("train", "Training_01"), ("test", "Testing_01")):
        lines = [f"{paths[label]}/sun_{split}{n}.jpg" for n, label in enumerate(w.labels(split))]
        for line in lines:
            w.jpeg(f"SUN397{line}")
        w.text(f"SUN397/{file}.txt", lines)
    w.jpeg("SUN397/b/bar/sun_unused.jpg")  # most of the set's images are in neither list


def stanford_cars(w: Writer) -> None:
    kind = [(name, "O") for name in ("bbox_x1", "class", "fname")]
    for split, file in (
        ("train", "devkit/cars_train_annos"),
        ("test", "cars_test_annos_withlabels"),
    ):
        rows = np.empty(w.images[split], dtype=kind)
        for n, label in enumerate(w.labels(split)):
            rows[n] = (n, label + 1, f"{n + 1:05d}.jpg")
            w.jpeg(f"stanford_cars/cars_{split}/{n + 1:05d}.jpg")
        place = w.root / f"stanford_cars/{file}.mat"
        place.parent.mkdir(parents=True, exist_ok=True)
        savemat(place, {"annotations": rows})
    names = np.array([f"Car {k}" for k in range(w.classes)], dtype=object)
    savemat(w.root / "stanford_cars/devkit/cars_meta.mat", {"class_names": names})


def fgvc_aircraft(w: Writer) -> None:
    folder = "fgvc-aircraft-2013b/data"
    names = [f"Boeing 7{k}7-200" for k in range(w.classes)]
    w.text(f"{folder}/variants.txt", names)
    count, both = 0, list[str]()
    for split, file in (("train", "train"), ("validation", "val"), ("test", "test")):
        lines: list[str] = []
        for label in w.labels(split):
            lines.append(f"{count:07d} {names[label]}")
            w.jpeg(f"{folder}/images/{count:07d}.jpg")
            count += 1
        w.text(f"{folder}/images_variant_{file}.txt", lines)
        both += lines if split != "test" else []
    w.text(f"{folder}/images_variant_trainval.txt", both)


def voc2007(w: Writer) -> None:
    folder, count, both = "VOCdevkit/VOC2007", 0, list[str]()
    for split, file in (("train", "train"), ("validation", "val"), ("test", "test")):
        names = [f"{count + n:06d}" for n in range(w.images[split])]
        count += len(names)
        # For each object: whether it is there at all, and whether it is difficult.
        there = w.draw.random((len(names), len(VOC_CLASSES))) < 0.2
        hard = w.draw.random(there.shape) < 0.3
        there[np.arange(len(names)), np.arange(len(names)) % len(VOC_CLASSES)] = True
        hard[np.arange(len(names)), np.arange(len(names)) % len(VOC_CLASSES)] = False
        w.text(f"{folder}/ImageSets/Main/{file}.txt", names)
        both += names if split != "test" else []
        for column, label in enumerate(VOC_CLASSES):
            told = np.where(there[:, column], np.where(hard[:, column], 0, 1), -1)
            lines = [f"{name} {value:2d}" for name, value in zip(names, told, strict=True)]
            w.text(f"{folder}/ImageSets/Main/{label}_{file}.txt", lines)
        for row, name in enumerate(names):
            w.jpeg(f"{folder}/JPEGImages/{name}.jpg")
            objects = "".join(
                f"<object><name>{VOC_CLASSES[k]}</name><difficult>{int(hard[row, k])}</difficult></object>"
                for k in there[row].nonzero()[0]
            )
            xml = f"<annotation><filename>{name}.jpg</filename>{objects}</annotation>"
            w.text(f"{folder}/Annotations/{name}.xml", [xml])
    w.text(f"{folder}/ImageSets/Main/trainval.txt", both)


def dtd(w: Writer) -> None:
    names = [f"texture{k}" for k in range(w.classes)]
    for split, file in (("train", "train1"), ("validation", "val1"), ("test", "test1")):
        lines = [
            f"{names[label]}/{names[label]}_{split}{n}.jpg"
            for n, label in enumerate(w.labels(split))
        ]
        for line in lines:
            w.jpeg(f"dtd/dtd/images/{line}")
        w.text(f"dtd/dtd/labels/{file}.txt", lines)


def oxford_iiit_pet(w: Writer) -> None:
    # The real set has Egyptian_Mau and great_pyrenees: cats in capitals, and names of several words.
    names = ["Abyssinian", "american_bulldog", "Egyptian_Mau", "great_pyrenees"][: w.classes]
    for split, file in (("train", "trainval"), ("test", "test")):
        lines = []
        for n, label in enumerate(w.labels(split)):
            image = f"{names[label]}_{n + 1 + 500 * (split == 'test')}"
            lines.append(f"{image} {label + 1} {1 + label % 2} {label // 2 + 1}")
            w.jpeg(f"oxford-iiit-pet/images/{image}.jpg")
        w.text(f"oxford-iiit-pet/annotations/{file}.txt", lines)


def caltech101(w: Writer) -> None:
    names = ["BACKGROUND_Google", "Faces", "Motorbikes", "accordion", "yin_yang"][: w.classes]
    for label, count in enumerate(np.bincount(w.labels("all"), minlength=w.classes)):
        for n in range(int(count)):
            w.jpeg(f"caltech101/101_ObjectCategories/{names[label]}/image_{n + 1:04d}.jpg")
    w.text("caltech101/101_ObjectCategories/BACKGROUND_Google/tmp", ["as in the real set"])


def flowers102(w: Writer) -> None:
    total = sum(w.images.values())
    order = w.draw.permutation(total) + 1
    labels = np.arange(total) % w.classes + 1
    ids, start = {}, 0
    for split, key in (("train", "trnid"), ("validation", "valid"), ("test", "tstid")):
        ids[key] = order[start : start + w.images[split]]
        start += w.images[split]
    for number in range(1, total + 1):
        w.jpeg(f"flowers-102/jpg/image_{number:05d}.jpg")
    savemat(w.root / "flowers-102/setid.mat", ids)
    savemat(w.root / "flowers-102/imagelabels.mat", {"labels": labels})


WRITERS: dict[str, Callable[[Writer], None]] = {
    each.__name__: each
    for each in (
        *(food101, sun397, stanford_cars, fgvc_aircraft, voc2007),
        *(dtd, oxford_iiit_pet, caltech101, flowers102),
    )
}

CLASSES = {"voc2007": 20, "caltech101": 5}
"""Of the copies; the others have four."""


def images_of(name: str, each: int = 10) -> dict[str, int]:
    """The number of images in each split of a copy."""
    if name == "caltech101":
        return {"all": 5 * 36}
    return {
        split: 4 * each + 4 * number for number, split in enumerate(sources.TRANSFER[name].images)
    }


def write(name: str, root: Path, monkeypatch: pytest.MonkeyPatch, each: int = 10) -> Writer:
    """Writes a copy of the set, and has the table expect what was written."""
    classes, images = CLASSES.get(name, 4), images_of(name, each)
    writer = Writer(root, classes, images)
    WRITERS[name](writer)
    expect(name, monkeypatch, classes, images)
    return writer


def expect(
    name: str, monkeypatch: pytest.MonkeyPatch, classes: int, images: dict[str, int]
) -> None:
    """Has the table of the sets' sizes say these."""
    changed = replace(sources.TRANSFER[name], classes=classes, images=images)
    monkeypatch.setitem(sources.TRANSFER, name, changed)
