"""How many images a data set has, known without reading any, nor importing PyTorch."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from simclr_ablate.config import ConfigError, is_own
from simclr_ablate.data.listing import list_images
from simclr_ablate.paths import default_cache
from simclr_ablate.schema import Data

SHAPES_VERSION = 1
"""Part of the cache's key. Raised when the same arguments give other images."""

SHAPES_TRAIN, SHAPES_TEST = 12_000, 4_000

UNLABELLED = {"stl10": 100_000}
"""Images without labels, which pretraining uses in place of the training images."""

_TRAINING = {"shapes": (SHAPES_TRAIN, 10), "cifar10": (50_000, 10), "cifar100": (50_000, 100)}
_TRAINING |= {"stl10": (5_000, 10)}


class Sizes(NamedTuple):
    """Images that a run can use after `validation` and `limit`."""

    labelled: int
    """Of the training split."""
    pretraining: int
    """The same, or more without labels where the data set has them."""
    classes: int


def data_sizes(data: Data, cache: str | None = None) -> Sizes:
    """What there is of `data`; no file is opened but those of the cache.

    cache: where a data set of the user's own is kept; None: the default.

    Raises ConfigError where `root`, `validation` or `limit` don't fit the data.
    """
    counts, unlabelled = _counts(data, Path(cache or default_cache()))
    check_splits(data, counts, unlabelled)
    labelled = sum(counts) - data.validation
    available = (labelled, unlabelled or labelled)
    if data.limit is not None:
        available = (min(available[0], data.limit), min(available[1], data.limit))
    return Sizes(*available, sum(count > 0 for count in counts))


def check_splits(data: Data, counts: Sequence[int], unlabelled: int = 0) -> None:
    """Raises ConfigError where `validation` or `limit` is not what the images allow: of each class, and unlabelled."""
    most, classes = sum(capacity(counts)), sum(count > 0 for count in counts)
    if not most:
        raise ConfigError(
            f"data={data.name} must have two training images of a class, one of them to hold out for "
            f"validation, got at most {max(counts, default=0)} of each"
        )
    if data.validation > most:
        raise ConfigError(
            f"data.validation must be <= {most}, half of each class's training images in "
            f"data={data.name}, got {data.validation}"
        )
    available = max(sum(counts) - data.validation, unlabelled)
    if data.limit is not None and not classes <= data.limit <= available:
        bound = (
            f"<= {available}, the training images of data={data.name} that validation leaves"
            if data.limit > available
            else f">= {classes}, one image of each class of data={data.name}"
        )
        raise ConfigError(f"data.limit must be {bound}, got {data.limit}")


def capacity(counts: Sequence[int]) -> list[int]:
    """Images of each class that validation may take: half, so that training never loses a class."""
    return [count // 2 for count in counts]


def _counts(data: Data, cache: Path) -> tuple[list[int], int]:
    """Training images of each class, and unlabelled images."""
    if data.name in _TRAINING:
        total, classes = _TRAINING[data.name]
        return [total // classes] * classes, UNLABELLED.get(data.name, 0)
    if is_own(data.name):
        from simclr_ablate.data.own_sets import count_own

        return count_own(data, cache)
    if data.name == "image_folder" and data.fingerprint is not None:
        from simclr_ablate.data.image_folder import count_image_folder

        return count_image_folder(data.size, data.fingerprint, cache), 0
    assert data.root is not None  # the schema requires it
    labels = Counter(list_images(data.root, data.name, data.on_error).train.labels)
    return list(labels.values()), 0
