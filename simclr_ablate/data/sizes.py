"""How many images a data set has, without reading any or importing PyTorch."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from simclr_ablate.config import ConfigError, is_own
from simclr_ablate.data.listing import list_images
from simclr_ablate.data.sources import TRANSFER
from simclr_ablate.paths import default_cache
from simclr_ablate.schema import Data

SHAPES_TRAIN, SHAPES_TEST = 12_000, 4_000

UNLABELLED = {"stl10": 100_000}
"""Numbers of images without labels, which pretraining uses instead of the training images."""

_TRAINING = {"shapes": (SHAPES_TRAIN, 10), "cifar10": (50_000, 10), "cifar100": (50_000, 100)}
_TRAINING |= {"stl10": (5_000, 10)}


class Sizes(NamedTuple):
    """Numbers of images that a run can use after `validation` and `limit`, and of classes."""

    labelled: int
    """Images of the training split."""
    pretraining: int
    """The same, or the number of unlabelled images if the data set has any."""
    classes: int


def data_sizes(data: Data, cache: str | None = None) -> Sizes:
    """The sizes of `data`; opens no files but those of the cache, and ILSVRC2012's devkit.

    cache: where a user's own data set, or a list of files, is kept; None: the default.

    Raises ConfigError if `root`, `validation` or `limit` doesn't fit the data.
    """
    counts, unlabelled = _counts(data, Path(cache or default_cache()))
    check_splits(data, counts, unlabelled)
    labelled = sum(counts) - (data.validation or 0)
    available = (labelled, unlabelled or labelled)
    if data.limit is not None:
        available = (min(available[0], data.limit), min(available[1], data.limit))
    return Sizes(*available, sum(count > 0 for count in counts))


def check_splits(data: Data, counts: Sequence[int], unlabelled: int = 0) -> None:
    """Raises ConfigError if `validation` or `limit` doesn't fit the data.

    counts: training images of each class. unlabelled: number of unlabelled images.
    """
    most, classes = sum(capacity(counts)), sum(count > 0 for count in counts)
    held = data.validation or 0  # an official split takes none of these
    if data.validation is not None and not most:
        raise ConfigError(
            f"data={data.name} must have two training images of a class, one to hold out for "
            f"validation, got at most {max(counts, default=0)} of each"
        )
    if held > most:
        raise ConfigError(
            f"data.validation must be <= {most}, half of each class's training images in "
            f"data={data.name}, got {held}"
        )
    available = max(sum(counts) - held, unlabelled)
    if data.limit is not None and not classes <= data.limit <= available:
        bound = (
            f"<= {available}, the training images of data={data.name} that validation leaves"
            if data.limit > available
            else f">= {classes}, one image of each class of data={data.name}"
        )
        raise ConfigError(f"data.limit must be {bound}, got {data.limit}")


def capacity(counts: Sequence[int]) -> list[int]:
    """Number of images of each class that validation may take: half, so training never loses a class."""
    return [count // 2 for count in counts]


def _counts(data: Data, cache: Path) -> tuple[list[int], int]:
    """Numbers of training images of each class, and of unlabelled images."""
    if data.name in _TRAINING:
        total, classes = _TRAINING[data.name]
        return [total // classes] * classes, UNLABELLED.get(data.name, 0)
    if data.name in TRANSFER:
        return _evenly(TRANSFER[data.name].of_training, TRANSFER[data.name].classes), 0
    if is_own(data.name):
        from simclr_ablate.data.own_sets import count_own

        return count_own(data, cache)
    if data.name == "image_folder" and data.fingerprint is not None:
        from simclr_ablate.data.image_folder import count_image_folder

        return count_image_folder(data.size, data.fingerprint, cache), 0
    assert data.root is not None  # the schema requires it
    if data.is_streamed:
        from simclr_ablate.data.kept_listing import list_streamed

        return list_streamed(data.root, data.on_error, cache).train.counts.tolist(), 0
    labels = Counter(list_images(data.root, data.name, data.on_error).train.labels)
    return list(labels.values()), 0


def _evenly(total: int, classes: int) -> list[int]:
    """`total` images, as evenly over classes as they go; the files themselves are counted when they are decoded."""
    return [total // classes + (label < total % classes) for label in range(classes)]
