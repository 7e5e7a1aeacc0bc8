"""CIFAR-10, CIFAR-100 and STL-10 through torchvision, which downloads them."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from simclr_ablate.config import ConfigError
from simclr_ablate.data.cache import build_once, save_set
from simclr_ablate.data.decode import centre_square, to_array
from simclr_ablate.data.in_memory import ImageSet, open_set

SPLITS = {
    "cifar10": ("train", "test"),
    "cifar100": ("train", "test"),
    "stl10": ("train", "test", "unlabeled"),
}

_ARCHIVES = {
    "cifar10": ("cifar-10-python.tar.gz", "https://www.cs.toronto.edu/~kriz/cifar.html"),
    "cifar100": ("cifar-100-python.tar.gz", "https://www.cs.toronto.edu/~kriz/cifar.html"),
    "stl10": ("stl10_binary.tar.gz", "https://cs.stanford.edu/~acoates/stl10/"),
}


def open_torchvision(name: str, root: str | Path, size: int, cache: Path) -> list[ImageSet]:
    """The splits of `SPLITS[name]` at (size, size), downloaded into `root` if they are missing.

    Unlabelled images have the label -1. Raises ConfigError if the data are not there and cannot be downloaded.
    """
    root = Path(root).expanduser().resolve()
    of_root = hashlib.sha256(str(root).encode()).hexdigest()[:8]

    def open_split(split: str) -> ImageSet:
        def build(folder: Path) -> None:
            images, labels, classes = _load(name, root, split)
            save_set(folder, _resize(images, size), labels, classes)

        return open_set(build_once(cache, f"{name}-{split}-{size}px-{of_root}", build))

    return [open_split(split) for split in SPLITS[name]]


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
        archive, address = _ARCHIVES[name]
        raise ConfigError(
            f"data={name} was not found in {root} and could not be downloaded ({error}): "
            f"put {archive} from {address} there, set data.root to the folder that holds it, "
            "or use your own images with data=image_folder data.root=DIR"
        ) from error
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
