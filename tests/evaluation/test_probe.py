"""Probes for transformations: what is done to images, and what a network can tell of it."""

import pytest
import torch
from torch import Tensor
from torchvision.transforms import functional as vision

from simclr_ablate.augment.filters import sobel
from simclr_ablate.evaluation.features import Features
from simclr_ablate.evaluation.probe import TRANSFORMATIONS, evaluate_probe, transformed
from simclr_ablate.training.distributed import Ranks

N, SIDE = 600, 16


@pytest.fixture
def images() -> Tensor:
    return torch.randint(0, 256, (N, 3, SIDE, SIDE), dtype=torch.uint8)


def batches(images: Tensor, size: int = 250) -> list[tuple[Tensor, Tensor]]:
    return [(part, torch.zeros(len(part))) for part in images.split(size)]


@pytest.mark.parametrize("name", TRANSFORMATIONS)
def test_each_image_is_what_its_label_says(images: Tensor, name: str) -> None:
    parts = list(transformed(batches(images), name, seed=3, split="train"))
    made, labels = (torch.cat(column) for column in zip(*parts, strict=True))
    plain = images.float() / 255
    shares = labels.bincount(minlength=len(TRANSFORMATIONS[name].shares)) / N
    expected = torch.tensor(TRANSFORMATIONS[name].shares)
    assert (shares - expected).abs().max() < 5 * (0.25 / N) ** 0.5
    for image, before, label in zip(made, plain, labels, strict=True):
        match name, int(label):
            case "rotation", turns:
                torch.testing.assert_close(image, torch.rot90(before, turns, (1, 2)))
            case _, 0:
                torch.testing.assert_close(image, before)
            case "color", 1:
                grey = vision.rgb_to_grayscale(before, 3)
                torch.testing.assert_close(image, grey, atol=2e-3, rtol=0)
            case "sobel", 1:
                torch.testing.assert_close(image, sobel(before[None])[0])
            case "noise", 1:
                assert 0.01 < (image - before).std() < 0.2
            case _:
                raise AssertionError(f"{name} has no label {label}")


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
        found = evaluate_probe(*splits, seed=0, device="cpu")
        assert found == evaluate_probe(*splits, seed=0, device="cpu")
        assert abs(found.probe_guess - 25) < 6
        assert found.probe_accuracy > 60 if informative else abs(found.probe_accuracy - 25) < 6
