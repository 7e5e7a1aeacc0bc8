"""The embedded images stand for photographs: simple classifiers make as much of them as of CIFAR-10."""

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks.image_statistics import (
    CIFAR10,
    STATISTICS,
    embedded,
    histograms,
    linear_accuracy,
    of_crops,
)

pytestmark = pytest.mark.slow

Labelled = tuple[Tensor, Tensor]

CLOSE = 3.0
"""Points."""


@pytest.fixture(scope="module")
def images() -> tuple[Labelled, Labelled]:
    return embedded()


@pytest.mark.parametrize("name", STATISTICS)
def test_the_embedded_images_are_like_photographs(
    name: str, images: tuple[Labelled, Labelled]
) -> None:
    assert STATISTICS[name](*images) == pytest.approx(CIFAR10[name], abs=CLOSE)


def test_histograms_count_colors() -> None:
    drawn = np.random.default_rng().integers(0, 256, (3, 5, 4, 3), dtype=np.uint8)
    ours = histograms(torch.from_numpy(drawn).permute(0, 3, 1, 2), bins=4)
    for image, counted in zip(drawn, ours, strict=True):
        edges = [np.arange(0, 257, 64)] * 3
        expected = np.histogramdd(image.reshape(-1, 3), bins=edges)[0] / 20
        np.testing.assert_allclose(counted.reshape(4, 4, 4), expected, atol=1e-6)


def test_the_linear_classifier_finds_a_linear_rule_and_nothing_else() -> None:
    features = torch.randn(7_000, 20)
    ruled = (features @ torch.randn(20, 10)).argmax(1)
    tossed = torch.randint(10, (7_000,))
    for labels, least, most in ((ruled, 75, 100), (tossed, 7, 13)):
        train, test = (
            (features[rows], labels[rows]) for rows in (slice(5_000), slice(5_000, None))
        )
        assert least < linear_accuracy(train, test) < most


def test_crops_of_one_color_find_each_other_and_crops_of_noise_do_not() -> None:
    """Of 1,000 plain images in colours of their own, and of 1,000 from one distribution of colours."""
    levels = torch.cartesian_prod(*[torch.arange(10) * 25 + 12] * 3).to(torch.uint8)
    plain = levels[..., None, None].expand(-1, -1, 32, 32)
    noise = torch.randint(0, 256, (1_000, 3, 32, 32), dtype=torch.uint8)
    labels = torch.zeros(1_000, dtype=torch.int64)
    # A histogram has eight bins for each channel. Of the ten levels here, two pairs share a bin.
    assert of_crops((plain, labels), (plain, labels)) == pytest.approx(100 * 0.8**3, abs=0.1)
    assert of_crops((noise, labels), (noise, labels)) < 20
