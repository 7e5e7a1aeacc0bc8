"""Probes for transformations: what is done to images, and what a network can tell of it."""

import numpy as np
import pytest
import torch
from scipy import ndimage, stats
from torch import Tensor
from torchvision.transforms import functional as vision

from simclr_ablate.augment.operations import GaussianNoise
from simclr_ablate.evaluation.features import Features
from simclr_ablate.evaluation.metrics import top_accuracy
from simclr_ablate.evaluation.probe import TRANSFORMATIONS, evaluate_probe, transformed
from simclr_ablate.ranks import Ranks

N, SIDE = 600, 16


@pytest.fixture
def images() -> Tensor:
    return torch.randint(0, 256, (N, 3, SIDE, SIDE), dtype=torch.uint8)


def batches(images: Tensor, size: int = 250) -> list[tuple[Tensor, Tensor]]:
    return [(part, torch.zeros(len(part))) for part in images.split(size)]


def made(images: Tensor, name: str) -> tuple[Tensor, Tensor]:
    """All images as the probe has them, and their labels."""
    parts = list(transformed(batches(images), name, seed=3, split="train"))
    return torch.cat([part for part, _ in parts]), torch.cat([labels for _, labels in parts])


@pytest.mark.parametrize("name", TRANSFORMATIONS)
def test_labels_have_their_shares(images: Tensor, name: str) -> None:
    _, labels = made(images, name)
    shares = labels.bincount(minlength=len(TRANSFORMATIONS[name].shares)) / N
    expected = torch.tensor(TRANSFORMATIONS[name].shares)
    assert (shares - expected).abs().max() < 5 * (0.25 / N) ** 0.5


def sobel_by_scipy(image: Tensor) -> Tensor:
    """(3, H, W) -> the length of the gradient of each channel, at most 1; half a step has length 1."""
    lengths = [
        np.hypot(*(ndimage.sobel(channel, axis, mode="mirror") for axis in (0, 1)))
        for channel in image.double().numpy()
    ]
    return torch.from_numpy(np.minimum(np.stack(lengths) / 2, 1)).float()


@pytest.mark.parametrize("name", [name for name in TRANSFORMATIONS if name != "noise"])
def test_each_image_is_what_its_label_says(images: Tensor, name: str) -> None:
    plain = images.float() / 255
    for image, label, before in zip(*made(images, name), plain, strict=True):
        match name, int(label):
            case "rotation", turns:
                torch.testing.assert_close(image, torch.rot90(before, turns, (1, 2)))
            case _, 0:
                torch.testing.assert_close(image, before)
            case "color", 1:
                grey = vision.rgb_to_grayscale(before, 3)
                torch.testing.assert_close(image, grey, atol=2e-3, rtol=0)
            case "sobel", 1:
                torch.testing.assert_close(image, sobel_by_scipy(before), atol=1e-5, rtol=0)
            case _:
                raise AssertionError(f"{name} has no label {label}")


def test_noise_is_gaussian_and_as_strong_as_configured() -> None:
    # More than three standard deviations from being clipped.
    grey = torch.full((N, 3, SIDE, SIDE), 0.5)
    noisy, labels = made(grey, "noise")
    assert torch.equal(noisy[labels == 0], grey[labels == 0])
    noise = (noisy - grey)[labels == 1].flatten(1).double().numpy()
    low, high = GaussianNoise().std
    std = noise.std(axis=1, ddof=1)
    # The standard deviation of n normal draws is known to one part in sqrt(2 n).
    known = 5 / np.sqrt(2 * noise.shape[1])
    assert low * (1 - known) < std.min() < std.max() < high * (1 + known)
    assert stats.kstest(std, stats.uniform(low, high - low).cdf).pvalue > 1e-3
    assert stats.kstest((noise / std[:, None]).ravel(), stats.norm.cdf).pvalue > 1e-3


def test_what_is_done_depends_on_seed_and_split_alone(images: Tensor) -> None:
    def labels(**changes: object) -> Tensor:
        settings = {"name": "rotation", "seed": 0, "split": "train", **changes}
        return torch.cat([y for _, y in transformed(batches(images), **settings)])

    assert torch.equal(labels(), labels())
    for changes in ({"seed": 1}, {"split": "test"}, {"name": "noise"}):
        assert not torch.equal(labels(), labels(**changes))
    whole = [y for _, y in transformed(batches(images, 100), "rotation", 0, "train")]
    for index in range(2):
        ranks = Ranks.__new__(
            Ranks
        )  # of two, without a process group: nothing is said between them
        ranks.index, ranks.count = index, 2
        own = transformed(batches(images, 100)[index::2], "rotation", 0, "train", ranks)
        for y, expected in zip((y for _, y in own), whole[index::2], strict=True):
            assert torch.equal(y, expected)


def features(n: int, informative: bool) -> Features:
    """Labels that say how large two of the features are, which no linear classifier can tell, or nothing at all."""
    x = torch.randn(n, 32)
    large = (x[:, :2].abs() > 0.67).long()  # half of them
    labels = 2 * large[:, 0] + large[:, 1] if informative else torch.randint(0, 4, (n,))
    return Features(100 * x + 7, labels)  # of no particular scale


def test_a_probe_learns_what_is_there_and_no_more() -> None:
    for informative in (True, False):
        splits = [features(n, informative) for n in (8000, 1000, 1000)]
        found, again = (evaluate_probe(*splits, seed=0, device="cpu", patience=5) for _ in "ab")
        assert torch.equal(found.scores, again.scores)
        assert found[1:] == again[1:]
        assert abs(found.guess - 25) < 6
        accuracy = top_accuracy(1, found.scores, splits[2].labels)
        assert accuracy > 80 if informative else abs(accuracy - 25) < 6
