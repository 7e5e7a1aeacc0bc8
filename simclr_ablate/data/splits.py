"""The splits of a data set: training, validation held out of it, and test, for reporting only."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from simclr_ablate.config import ConfigError, is_own
from simclr_ablate.data.image_folder import open_image_folder
from simclr_ablate.data.images import Images
from simclr_ablate.data.own_sets import open_own
from simclr_ablate.data.shapes import SIDE, open_shapes
from simclr_ablate.data.sizes import capacity, check_splits
from simclr_ablate.data.sources import CALTECH_TRAINING, root_of
from simclr_ablate.data.streamed import open_streamed
from simclr_ablate.data.torchvision_sets import open_torchvision
from simclr_ablate.data.transfer_sets import open_transfer
from simclr_ablate.randomness import generator
from simclr_ablate.schema import TRANSFER_SETS, Data

Set = TypeVar("Set", bound=Images)


class Splits(NamedTuple):
    """The images of a run. `unlabelled` is set if pretraining has other images than `train`."""

    train: Images
    validation: Images
    test: Images
    unlabelled: Images | None = None


def open_data(data: Data, cache: Path, workers: int) -> Splits:
    """The splits of any data set: in memory, or for `imagenet`, read from its files when needed.

    Which images validation and `limit` take depends only on `data.seed`.

    workers: number of processes that decode images.

    Raises ConfigError.
    """
    if data.name in TRANSFER_SETS:
        return _open_transfer(data, cache, workers)
    train, test, *unlabelled = _open(data, cache, workers)
    train, validation = split_training(data, train, sum(map(len, unlabelled)))
    if not unlabelled:
        return Splits(train, validation, test)
    return Splits(train, validation, test, _limit(data, unlabelled[0], "unlabelled"))


def split_training(data: Data, images: Set, unlabelled: int = 0) -> tuple[Set, Set]:
    """The training images kept and those held out for validation, each balanced over classes.

    unlabelled: number of unlabelled images that the data set has besides.
    """
    counts = images.labels.bincount(minlength=len(images.classes)).tolist()
    check_splits(data, counts, unlabelled)
    assert data.validation is not None  # the schema requires it
    held = take_balanced(
        images.labels, data.validation, capacity(counts), data.seed, "validation split"
    )
    return _limit(data, images.subset(_others(held, len(images))), "limit"), images.subset(held)


def take_balanced(labels: Tensor, total: int, most: list[int], seed: int, purpose: str) -> Tensor:
    """Sorted indices (total,) of images, balanced over classes as far as `most`, each class's limit, allows.

    A larger `total` takes the same images and more.
    """
    rng = generator(seed, purpose)
    classes = torch.randperm(len(most), generator=rng).tolist()
    shuffled = torch.randperm(len(labels), generator=rng)
    taken, left = [], total
    # The scarcest class comes first: the others can make up for what it lacks.
    for done, label in enumerate(sorted(classes, key=lambda label: most[label])):
        share = min(most[label], left // (len(classes) - done))
        taken.append(shuffled[labels[shuffled] == label][:share])
        left -= share
    return torch.cat(taken).sort().values


def _limit(data: Data, images: Set, purpose: str) -> Set:
    """At most `data.limit` of the images, balanced over classes if each image has one."""
    if data.limit is None or data.limit >= len(images):
        return images
    labels = images.labels.clamp(min=0)
    if labels.ndim == 2:
        labels = labels.new_zeros(len(labels))
    most = labels.bincount().tolist()
    return images.subset(take_balanced(labels, data.limit, most, data.seed, purpose))


def _others(indices: Tensor, n: int) -> Tensor:
    """The indices below `n` that are not among `indices`, in order."""
    other = torch.ones(n, dtype=torch.bool)
    other[indices] = False
    return other.nonzero()[:, 0]


def _open_transfer(data: Data, cache: Path, workers: int) -> Splits:
    """The splits of a transfer set: official ones as far as there are any."""
    opened = open_transfer(data.name, root_of(data.root, cache), data.size, cache, workers)
    if "all" in opened:
        images = opened["all"]
        most = [CALTECH_TRAINING] * len(images.classes)
        taken = take_balanced(images.labels, sum(most), most, data.seed, "training split")
        opened = {
            "train": images.subset(taken),
            "test": images.subset(_others(taken, len(images))),
        }
    train, test = opened["train"], opened["test"]
    if "validation" in opened:
        return Splits(_limit(data, train, "limit"), opened["validation"], test)
    return Splits(*split_training(data, train), test)


def _open(data: Data, cache: Path, workers: int) -> Sequence[Images]:
    """Training, test and, if there are any, unlabelled images."""
    if data.name == "shapes":
        if data.size != SIDE:
            raise ConfigError(f"data.size must be {SIDE} for data=shapes, got {data.size}")
        return list(open_shapes(cache, data.seed))
    if data.name == "image_folder":
        assert data.root is not None  # the schema requires it
        return list(
            open_image_folder(data.root, data.size, data.on_error, cache, workers, data.fingerprint)
        )
    if is_own(data.name):
        return open_own(data, cache)
    if data.is_streamed:
        assert data.root is not None  # the schema requires it
        return open_streamed(data.root, data.size, data.on_error, workers, data.exact, cache)
    return open_torchvision(data.name, root_of(data.root, cache), data.size, cache)
