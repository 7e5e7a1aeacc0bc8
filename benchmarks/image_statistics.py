"""What simple classifiers can tell about a set of 32 x 32 images: the statistics by which `data=shapes` stands for
photographs.

Each is a percentage, measured on 10,000 training and 4,000 test images. `python -m benchmarks.image_statistics [DIR]`
prints those of the embedded images beside CIFAR-10's, and of DIR/{train,test}/<class>/*.
"""

import math
import sys
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.measure import print_table
from simclr_ablate.augment.color import to_grayscale
from simclr_ablate.augment.filters import sobel
from simclr_ablate.augment.operations import RandomResizedCrop
from simclr_ablate.cores import available_cores
from simclr_ablate.data.image_folder import open_image_folder
from simclr_ablate.data.shapes import SIDE, make_shapes
from simclr_ablate.data.splits import take_balanced
from simclr_ablate.models.encoder import build_encoder
from simclr_ablate.paths import default_cache
from simclr_ablate.randomness import generator, seeded_init

TRAIN, TEST = 10_000, 4_000
"""Numbers of images."""

HELD_OUT = 2_000
"""Training images on which a linear classifier's l2 strength is chosen."""
BINS = 8
"""Levels of each channel that a colour histogram tells apart."""
CROPS = 1_000
"""Images among which crops look for each other."""
RANDOM_ENCODERS = 3
EPOCHS, BATCH_SIZE, LEARNING_RATE = 8, 100, 6e-3
"""Of the supervised networks."""

Labelled = tuple[Tensor, Tensor]
"""Images, uint8 (N, 3, H, W), and labels, int64 (N,)."""


def main() -> None:
    named = {"embedded images": embedded()}
    named |= {Path(root).name: of_folder(root) for root in sys.argv[1:]}
    rows = [
        [name, f"{CIFAR10[name]:.1f}", *(f"{measure(*sets):.1f}" for sets in named.values())]
        for name, measure in STATISTICS.items()
    ]
    print_table(["statistic, %", "CIFAR-10", *named], rows)


def embedded(seed: int = 0) -> tuple[Labelled, Labelled]:
    """Training and test images of `data=shapes`."""
    return make_shapes(TRAIN, seed), make_shapes(TEST, seed, "test")


def of_folder(root: str) -> tuple[Labelled, Labelled]:
    """Training and test images of a folder, balanced over classes."""

    opened = open_image_folder(root, SIDE, "raise", Path(default_cache()), available_cores())

    def some(split: int, total: int) -> Labelled:
        images = opened[split]
        counts = images.labels.bincount().tolist()
        rows = take_balanced(images.labels, total, counts, 0, f"statistics/{split}")
        # Sorted by class, the last ones would all be of one class.
        rows = rows[torch.randperm(len(rows), generator=generator(0, "statistics/order", split))]
        chosen = images.subset(rows)
        return chosen.images, chosen.labels

    return some(0, TRAIN), some(1, TEST)


def of_colours(train: Labelled, test: Labelled) -> float:
    """A linear classifier on colour histograms, whose counts are square-rooted."""
    return _linear(train, test, lambda images: histograms(images).sqrt())


def of_pixels(train: Labelled, test: Labelled) -> float:
    """A linear classifier on the pixels as they are."""
    return _linear(train, test, _unit)


def of_edges(train: Labelled, test: Labelled) -> float:
    """A linear classifier on Sobel responses, the operation of Figure 5."""
    return _linear(train, test, lambda images: sobel(_unit(images))[:, :1])


def of_random_features(train: Labelled, test: Labelled) -> float:
    """A linear classifier on h of a random ResNet-8, the mean over three."""

    def accuracy(seed: int) -> float:
        with seeded_init(seed, "statistics/random"):
            encoder = build_encoder("resnet8", 1, "imagenet").eval()
        return _linear(train, test, lambda images: _in_batches(encoder, _unit(images)))

    return sum(map(accuracy, range(RANDOM_ENCODERS))) / RANDOM_ENCODERS


def of_supervised(train: Labelled, test: Labelled) -> float:
    """A ResNet-8 trained with labels."""
    return _supervised(train, test, lambda images: images)


def of_supervised_gray(train: Labelled, test: Labelled) -> float:
    """A ResNet-8 trained with labels on gray images."""
    return _supervised(train, test, lambda images: to_grayscale(images).expand(-1, 3, -1, -1))


def of_supervised_edges(train: Labelled, test: Labelled) -> float:
    """A ResNet-8 trained with labels on Sobel responses."""
    return _supervised(train, test, sobel)


def of_crops(train: Labelled, test: Labelled) -> float:
    """How often a crop of a test image is nearest to another crop of it, among those of 1,000 images, by histogram."""
    first, second = (histograms(_crops(test[0], number)).sqrt() for number in range(2))
    found = [
        torch.cdist(one, other).argmin(1) == torch.arange(len(one))
        for one, other in zip(first.split(CROPS), second.split(CROPS), strict=True)
    ]
    return _percent(torch.cat(found))


STATISTICS: dict[str, Callable[[Labelled, Labelled], float]] = {
    "linear classifier on colour histograms": of_colours,
    "linear classifier on raw pixels": of_pixels,
    "linear classifier on Sobel responses": of_edges,
    "linear classifier on random features": of_random_features,
    "supervised ResNet-8": of_supervised,
    "supervised ResNet-8, gray": of_supervised_gray,
    "supervised ResNet-8, Sobel": of_supervised_edges,
    "crops that find each other by colours": of_crops,
}


CIFAR10 = {
    "linear classifier on colour histograms": 32.7,
    "linear classifier on raw pixels": 38.0,
    "linear classifier on Sobel responses": 30.6,
    "linear classifier on random features": 30.9,
    "supervised ResNet-8": 62.6,
    "supervised ResNet-8, gray": 58.1,
    "supervised ResNet-8, Sobel": 55.2,
    "crops that find each other by colours": 75.2,
}
"""Those of CIFAR-10, from the folder of JPEG files that docs/data.md names."""


def histograms(images: Tensor, bins: int = BINS) -> Tensor:
    """Joint RGB histograms of uint8 images (N, 3, H, W): (N, bins^3), each summing to 1."""
    level = images.flatten(2).long() * bins // 256
    cell = (level[:, 0] * bins + level[:, 1]) * bins + level[:, 2]
    counts = torch.zeros(len(images), bins**3).scatter_add_(1, cell, torch.ones(cell.shape))
    return counts / cell.shape[1]


def linear_accuracy(train: Labelled, test: Labelled) -> float:
    """Test accuracy of the linear classifier of least squares on standardised features (N, D), in percent.

    Its l2 strength is the best on HELD_OUT training images. It is solved in closed form, so it is the same on every
    machine, as no descent would be.
    """
    mean, std = train[0].mean(0), train[0].std(0) + 1e-6
    features, tested = ((x - mean) / std for x in (train[0], test[0]))
    wanted = F.one_hot(train[1]).to(features.dtype) - 0.1
    kept = len(features) - HELD_OUT
    held = features[kept:].double()
    solve = _least_squares(features[:kept], wanted[:kept])

    def right(strength: float) -> float:
        return _percent((held @ solve(strength)).argmax(1) == train[1][kept:])

    strength = max((kept * 10.0**power for power in range(1, -5, -1)), key=right)
    weights = _least_squares(features, wanted)(strength)
    return _percent((tested.double() @ weights).argmax(1) == test[1])


def _least_squares(features: Tensor, wanted: Tensor) -> Callable[[float], Tensor]:
    """A function of the l2 strength: the weights (D, classes)."""
    products, targets = features.T @ features, features.T @ wanted

    def solve(strength: float) -> Tensor:
        shifted = products.double()
        shifted.diagonal().add_(strength)
        return torch.cholesky_solve(targets.double(), torch.linalg.cholesky(shifted))

    return solve


def _linear(train: Labelled, test: Labelled, features: Callable[[Tensor], Tensor]) -> float:
    return linear_accuracy(*((features(images).flatten(1), y) for images, y in (train, test)))


def _supervised(train: Labelled, test: Labelled, change: Callable[[Tensor], Tensor]) -> float:
    """Test accuracy of a ResNet-8 trained with flips and shifted crops, in percent."""
    inputs = [change(_unit(images)) for images, _ in (train, test)]
    mean, std = (f(inputs[0], dim=(0, 2, 3), keepdim=True) for f in (torch.mean, torch.std))
    images, tested = ((x - mean) / std for x in inputs)
    side = images.shape[-1]
    with seeded_init(0, "statistics/supervised"):
        encoder = build_encoder("resnet8", 1, "imagenet")
        network = nn.Sequential(encoder, nn.Linear(encoder.dim, 10))
    network = network.to(memory_format=torch.channels_last)
    steps = EPOCHS * math.ceil(len(images) / BATCH_SIZE)
    optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps)
    for epoch in range(EPOCHS):
        draw = generator(0, "statistics/supervised", epoch)
        for batch in torch.randperm(len(images), generator=draw).split(BATCH_SIZE):
            x = F.pad(images[batch], (3, 3, 3, 3), mode="reflect")
            top, left = torch.randint(0, 7, (2,), generator=draw).tolist()
            x = x[:, :, top : top + side, left : left + side]
            x = x.flip(3) if torch.rand((), generator=draw) < 0.5 else x
            x = x.contiguous(memory_format=torch.channels_last)
            optimizer.zero_grad()
            F.cross_entropy(network(x), train[1][batch]).backward()
            optimizer.step()
            schedule.step()
    return _percent(_in_batches(network.eval(), tested).argmax(1) == test[1])


def _crops(images: Tensor, number: int) -> Tensor:
    """A random crop (App. A) of each image, with the area and the filter of the views, uint8."""
    n, side = len(images), images.shape[-1]
    crop = RandomResizedCrop(side)
    params = crop.draw(n, side, side, generator(0, "statistics/crops", number))
    return (crop(_unit(images), params) * 255).round().to(torch.uint8)


@torch.no_grad()
def _in_batches(network: nn.Module, images: Tensor) -> Tensor:
    return torch.cat([network(batch) for batch in images.split(500)])


def _unit(images: Tensor) -> Tensor:
    """uint8 to float in [0, 1]."""
    return images.float() / 255


def _percent(right: Tensor) -> float:
    return 100 * right.double().mean().item()


if __name__ == "__main__":
    main()
