"""Colour against torchvision's functional operations, image by image."""

from collections.abc import Callable

import pytest
import torch
import torchvision.transforms.v2.functional as tv
from torch import Tensor

from simclr_ablate.augment.color import (
    JITTER_ORDERS,
    adjust_brightness,
    adjust_contrast,
    adjust_hue,
    adjust_saturation,
    color_jitter,
    equalize,
    solarize,
    to_grayscale,
)


def tricky_images(n: int, seed: int, height: int = 15, width: int = 18) -> Tensor:
    """Random images; among the first are grey, black, white, primaries and equal channels."""
    images = torch.rand(n, 3, height, width, generator=torch.Generator().manual_seed(seed))
    images[0] = images[0, :1]
    images[1], images[2] = 0, 1
    images[3] = (images[3] > 0.5).float()
    images[4, 0], images[5, 1], images[6, 2] = images[4, 1], images[5, 2], images[6, 0]
    images[7] = (images[7] * 255).round() / 255
    return images


def each(function: Callable[[Tensor, float], Tensor], images: Tensor, amounts: Tensor) -> Tensor:
    pairs = zip(images, amounts.tolist(), strict=True)
    return torch.stack([function(image, amount) for image, amount in pairs])


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (adjust_brightness, tv.adjust_brightness),
        (adjust_contrast, tv.adjust_contrast),
        (adjust_saturation, tv.adjust_saturation),
    ],
)
def test_factor_equals_torchvision(
    ours: Callable[[Tensor, Tensor], Tensor], theirs: Callable[[Tensor, float], Tensor]
) -> None:
    images = tricky_images(16, seed=0)
    factor = torch.linspace(0, 2.5, 16)
    expected = each(theirs, images, factor)
    torch.testing.assert_close(ours(images, factor), expected, atol=1e-5, rtol=0)


def test_hue_equals_torchvision() -> None:
    images = tricky_images(33, seed=1)
    turns = torch.linspace(-0.5, 0.5, 33)
    expected = each(tv.adjust_hue, images, turns)
    torch.testing.assert_close(adjust_hue(images, turns), expected, atol=1e-5, rtol=0)


def test_hue_keeps_value_and_chroma() -> None:
    images = tricky_images(20, seed=2)
    turned = adjust_hue(images, torch.linspace(-0.4, 0.5, 20))
    torch.testing.assert_close(turned.amax(1), images.amax(1), atol=1e-6, rtol=0)
    torch.testing.assert_close(turned.amin(1), images.amin(1), atol=1e-6, rtol=0)


def test_grayscale_equals_torchvision() -> None:
    images = tricky_images(8, seed=4)
    expected = tv.rgb_to_grayscale(images, num_output_channels=3)
    torch.testing.assert_close(to_grayscale(images), expected, atol=1e-6, rtol=0)


def test_solarize_equals_torchvision() -> None:
    images = tricky_images(12, seed=5)
    threshold = torch.linspace(0, 1, 12)
    assert torch.equal(solarize(images, threshold), each(tv.solarize, images, threshold))


def test_equalize_equals_torchvision() -> None:
    images = tricky_images(12, seed=6, height=40, width=33)
    images[8:] = images[8:] * 0.2 + 0.3
    images[11, :, :20] = 0.4
    torch.testing.assert_close(equalize(images), tv.equalize(images), atol=1e-6, rtol=0)


def test_jitter_is_the_four_steps_in_each_images_order() -> None:
    rng = torch.Generator().manual_seed(7)
    n = 2 * len(JITTER_ORDERS)
    images = tricky_images(n, seed=8)
    order = torch.arange(n)[torch.randperm(n, generator=rng)] % len(JITTER_ORDERS)
    brightness, contrast, saturation = torch.rand(3, n, generator=rng) * 1.8
    amounts = {
        "brightness": brightness,
        "contrast": contrast,
        "saturation": saturation,
        "hue": torch.rand(n, generator=rng) - 0.5,
    }
    steps = {
        "brightness": tv.adjust_brightness,
        "contrast": tv.adjust_contrast,
        "saturation": tv.adjust_saturation,
        "hue": tv.adjust_hue,
    }
    jittered = color_jitter(images, **amounts, order=order)
    for i in range(n):
        expected = images[i].double()
        for name in JITTER_ORDERS[order[i]]:
            expected = steps[name](expected, amounts[name][i].item())
        torch.testing.assert_close(jittered[i].double(), expected, atol=1e-5, rtol=0)
    assert jittered.min() >= 0
    assert jittered.max() <= 1


def test_functions_leave_their_input_alone() -> None:
    images = tricky_images(24, seed=9)
    before = images.clone()
    half = torch.full((24,), 0.5)
    one_argument = (
        adjust_brightness,
        adjust_contrast,
        adjust_saturation,
        adjust_hue,
        solarize,
    )
    for function in one_argument:
        function(images, half)
    color_jitter(images, half, half, half, half, torch.arange(24))
    to_grayscale(images)
    equalize(images)
    assert torch.equal(images, before)
