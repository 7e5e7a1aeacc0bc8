"""How many images a data set has, known without reading any, nor importing PyTorch."""

from collections import Counter
from collections.abc import Sequence

from simclr_ablate.data.listing import list_images
from simclr_ablate.schema import ConfigError, Data

SHAPES_VERSION = 1
"""Part of the cache's key. Raised when the same arguments give other images."""

SHAPES_TRAIN, SHAPES_TEST = 12_000, 4_000

UNLABELLED = {"stl10": 100_000}
"""Images without labels, which pretraining uses in place of the training images."""

_TRAINING = {"shapes": (SHAPES_TRAIN, 10), "cifar10": (50_000, 10), "cifar100": (50_000, 100)}
_TRAINING |= {"stl10": (5_000, 10)}


def data_size(data: Data, labelled: bool = False) -> int:
    """Images that pretraining can use after `validation` and `limit`; no file is opened.

    labelled: only those with labels.

    Raises ConfigError where `root`, `validation` or `limit` don't fit the data.
    """
    counts = _class_counts(data)
    check_splits(data, counts)
    available = sum(counts) - data.validation
    if not labelled:
        available = UNLABELLED.get(data.name, available)
    return available if data.limit is None else min(available, data.limit)


def check_splits(data: Data, counts: Sequence[int]) -> None:
    """Raises ConfigError where `validation` or `limit` is more than the images per class allow."""
    most = sum(capacity(counts))
    if data.validation > most:
        raise ConfigError(
            f"data.validation must be <= {most}, half of each class's training images in "
            f"data={data.name}, got {data.validation}"
        )
    available = max(sum(counts) - data.validation, UNLABELLED.get(data.name, 0))
    if data.limit is not None and data.limit > available:
        raise ConfigError(
            f"data.limit must be <= {available}, the training images of data={data.name} "
            f"that validation leaves, got {data.limit}"
        )


def capacity(counts: Sequence[int]) -> list[int]:
    """Images of each class that validation may take: half, so that training never loses a class."""
    return [count // 2 for count in counts]


def _class_counts(data: Data) -> list[int]:
    """Training images of each class."""
    if data.name in _TRAINING:
        total, classes = _TRAINING[data.name]
        return [total // classes] * classes
    assert data.root is not None  # the schema has seen to it
    labels = Counter(list_images(data.root, data.name).train.labels)
    return list(labels.values())
