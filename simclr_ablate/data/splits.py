"""The splits of a data set: training, validation held out of it, test for reporting alone."""

from pathlib import Path
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from simclr_ablate.config import ConfigError, is_own
from simclr_ablate.data.image_folder import open_image_folder
from simclr_ablate.data.in_memory import ImageSet
from simclr_ablate.data.own_sets import open_own
from simclr_ablate.data.shapes import SIDE, open_shapes
from simclr_ablate.data.sizes import capacity, check_splits
from simclr_ablate.data.streamed import StreamedSet, open_streamed
from simclr_ablate.data.torchvision_sets import open_torchvision
from simclr_ablate.randomness import generator
from simclr_ablate.schema import Data

Images = TypeVar("Images", ImageSet, StreamedSet)


class Splits(NamedTuple):
    """What a run works with. `unlabelled` is there where pretraining has images beyond `train`."""

    train: ImageSet
    validation: ImageSet
    test: ImageSet
    unlabelled: ImageSet | None = None


class StreamedSplits(NamedTuple):
    """The same of a data set that doesn't fit memory."""

    train: StreamedSet
    validation: StreamedSet
    test: StreamedSet


def open_data(data: Data, cache: Path, workers: int) -> Splits:
    """The splits of any data set but `imagenet`, in memory.

    Which images validation and `limit` take depends on `data.seed` alone. Raises ConfigError.
    """
    train, test, *unlabelled = _open(data, cache, workers)
    train, validation = split_training(data, train, sum(map(len, unlabelled)))
    if not unlabelled:
        return Splits(train, validation, test)
    return Splits(train, validation, test, _limit(data, unlabelled[0], "unlabelled"))


def stream_data(data: Data, workers: int) -> StreamedSplits:
    """The splits of `data=imagenet`, read from their files when needed. Raises ConfigError."""
    assert data.root is not None  # the schema has seen to it
    train, test = open_streamed(data.root, data.size, data.on_error, workers)
    return StreamedSplits(*split_training(data, train), test)


def split_training(data: Data, images: Images, unlabelled: int = 0) -> tuple[Images, Images]:
    """The training images kept and those held out for validation, each balanced over classes.

    unlabelled: images that the data set has beside them.
    """
    counts = images.labels.bincount(minlength=len(images.classes)).tolist()
    check_splits(data, counts, unlabelled)
    held = take_balanced(
        images.labels, data.validation, capacity(counts), data.seed, "validation split"
    )
    kept = torch.ones(len(images), dtype=torch.bool)
    kept[held] = False
    return _limit(data, images.subset(kept.nonzero()[:, 0]), "limit"), images.subset(held)


def take_balanced(labels: Tensor, total: int, most: list[int], seed: int, purpose: str) -> Tensor:
    """Indices (total,) of images, sorted: as many of each class as `most`, its limit, allows.

    A larger `total` takes the same images and more.
    """
    rng = generator(seed, purpose)
    classes = torch.randperm(len(most), generator=rng).tolist()
    shuffled = torch.randperm(len(labels), generator=rng)
    taken, left = [], total
    # From the scarcest class on, so that the others can make up for what it lacks.
    for done, label in enumerate(sorted(classes, key=lambda label: most[label])):
        share = min(most[label], left // (len(classes) - done))
        taken.append(shuffled[labels[shuffled] == label][:share])
        left -= share
    return torch.cat(taken).sort().values


def _limit(data: Data, images: Images, purpose: str) -> Images:
    """At most `data.limit` of the images, balanced over classes where they have some."""
    if data.limit is None or data.limit >= len(images):
        return images
    labels = images.labels.clamp(min=0)
    most = labels.bincount().tolist()
    return images.subset(take_balanced(labels, data.limit, most, data.seed, purpose))


def _open(data: Data, cache: Path, workers: int) -> list[ImageSet]:
    """Training, test and, where there are some, unlabelled images."""
    if data.name == "shapes":
        if data.size != SIDE:
            raise ConfigError(f"data.size must be {SIDE} for data=shapes, got {data.size}")
        return list(open_shapes(cache, data.seed))
    if data.name == "image_folder":
        assert data.root is not None  # the schema has seen to it
        return list(
            open_image_folder(data.root, data.size, data.on_error, cache, workers, data.fingerprint)
        )
    if is_own(data.name):
        return open_own(data, cache)
    if data.name == "imagenet":
        raise ConfigError("data=imagenet does not fit memory and is streamed: use stream_data")
    root = cache / "downloads" if data.root is None else Path(data.root)
    return open_torchvision(data.name, root, data.size, cache)
