"""Streaming JPEGs of 500 x 375 pixels as two crops of 224: a worker of ours beside one of torchvision's ImageFolder.

Both have one core, the waiting process included. torchvision's makes float tensors, as its users do, or stays at bytes.
"""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

from benchmarks.measure import best_seconds, print_table
from simclr_ablate.augment.operations import RandomResizedCrop
from simclr_ablate.data.streamed import open_streamed

IMAGES, BATCH, SIZE = 256, 64, 224


class TwoCrops:
    """Two random crops of an image, as contrastive learning wants them."""

    def __init__(self, to_tensor: Callable[[Image.Image], torch.Tensor]) -> None:
        bicubic = transforms.InterpolationMode.BICUBIC
        crop = transforms.RandomResizedCrop(SIZE, interpolation=bicubic)
        self.crop = transforms.Compose([crop, transforms.RandomHorizontalFlip(), to_tensor])

    def __call__(self, image: Image.Image) -> list[torch.Tensor]:
        return [self.crop(image), self.crop(image)]


def main() -> None:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        size = write_images(root)
        work = {
            "torchvision, floats": torchvision_epoch(root, transforms.ToTensor()),
            "torchvision, bytes": torchvision_epoch(root, transforms.PILToTensor()),
            "ours, exact": epoch(root, exact=True),
            "ours": epoch(root, exact=False),
        }
        best = best_seconds(work, rounds=5)
    rows = [
        [name, f"{1e3 * seconds / IMAGES:.2f}", f"{seconds / best['ours']:.2f}x"]
        for name, seconds in best.items()
    ]
    print_table([f"JPEGs of {size / 1e3:.0f} kB", "ms an image", "of ours"], rows)


def write_images(root: Path) -> float:
    """Writes images with as much detail at every scale as photographs have; returns their mean size in bytes."""
    draw = np.random.default_rng(0)
    paths = []
    for split in ("train", "val"):
        for number in range(IMAGES if split == "train" else 2):
            pixels = np.zeros((375, 500, 3))
            for octave in range(8):
                shape = (3 * 2**octave, 4 * 2**octave, 3)
                coarse = draw.integers(0, 256, shape, dtype=np.uint8)
                layer = Image.fromarray(coarse).resize((500, 375), Image.Resampling.BICUBIC)
                pixels += (np.asarray(layer) - 127.5) / 1.8**octave
            path = root / split / f"class{number % 2}" / f"{number}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            levels = (127.5 + pixels).clip(0, 255).astype(np.uint8)
            Image.fromarray(levels).save(path, quality=90)
            paths.append(path)
    return sum(path.stat().st_size for path in paths) / len(paths)


def torchvision_epoch(
    root: Path, to_tensor: Callable[[Image.Image], torch.Tensor]
) -> Callable[[], None]:
    folder = ImageFolder(str(root / "train"), TwoCrops(to_tensor))

    def run() -> None:
        loader = DataLoader(
            folder, BATCH, shuffle=True, num_workers=1, multiprocessing_context="fork"
        )
        for _ in loader:
            pass

    return run


def epoch(root: Path, exact: bool) -> Callable[[], None]:
    images, _ = open_streamed(root, SIZE, "raise", 1, exact)
    crop = RandomResizedCrop(SIZE)

    def run() -> None:
        order = torch.randperm(IMAGES).view(-1, BATCH)
        for _ in images.epoch(order, crop, 2, seed=0, epoch=0):
            pass

    return run


if __name__ == "__main__":
    main()
