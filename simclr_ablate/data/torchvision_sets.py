"""CIFAR-10, CIFAR-100 and STL-10 through torchvision, which downloads them."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from simclr_ablate.data.cache import build_once, save_set
from simclr_ablate.data.decode import centre_square, to_array
from simclr_ablate.data.in_memory import ImageSet, open_set
from simclr_ablate.data.sources import cached_names, not_found, parts_of


def open_torchvision(name: str, root: str | Path, size: int, cache: Path) -> list[ImageSet]:
    """The splits of `TORCHVISION_SPLITS[name]` at (size, size), downloaded into `root` if they are missing.

    Unlabelled images have the label -1. Raises MissingDataError if the data are not there and cannot be downloaded.
    """
    root = Path(root).expanduser().resolve()

    def open_split(split: str, cached: str) -> ImageSet:
        def build(folder: Path) -> None:
            images, labels, classes = _load(name, root, split)
            save_set(folder, _resize(images, size), labels, classes)

        return open_set(build_once(cache, cached, build))

    return list(map(open_split, parts_of(name), cached_names(name, root, size)))


def _load(name: str, root: Path, split: str) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Images (N, 3, H, W) uint8, labels (N,) and class names, as torchvision reads them."""
    # Here, because its import takes longer than everything that the other data sets need.
    from torchvision import datasets

    def make() -> Any:
        if name == "stl10":
            return datasets.STL10(str(root), split=split, download=True)
        maker = datasets.CIFAR10 if name == "cifar10" else datasets.CIFAR100
        return maker(str(root), train=split == "train", download=True)

    try:
        root.mkdir(parents=True, exist_ok=True)
        loaded = make()
    except (OSError, RuntimeError) as error:
        raise not_found(name, root, " ".join(str(error).split())) from error
    if name == "stl10":
        return loaded.data, np.asarray(loaded.labels), list(loaded.classes)
    return loaded.data.transpose(0, 3, 1, 2), np.asarray(loaded.targets), list(loaded.classes)


def _resize(images: np.ndarray, size: int) -> np.ndarray:
    """Square images (N, 3, H, H) resized to (size, size), as images from files are."""
    if images.shape[-1] == size:
        return np.ascontiguousarray(images)
    resized = np.empty((len(images), 3, size, size), np.uint8)
    for row, image in enumerate(images):
        whole = Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0)))
        resized[row] = to_array(centre_square(whole, size, size))
    return resized
