"""TensorFlow's colour operations against what their documentation says, a pixel at a time in Python's floats."""

import colorsys
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from simclr_ablate.augment.color import JITTER_ORDERS
from simclr_ablate.augment.operations import ColorJitter
from simclr_ablate.augment.tensorflow_color import (
    add_brightness,
    adjust_contrast,
    adjust_saturation,
)

Image = list[list[tuple[float, float, float]]]
"""Lines of pixels."""


def by_pixel(image: Image, change: Callable[..., tuple[float, ...]]) -> Image:
    return [[change(*pixel) for pixel in line] for line in image]


def brightness(image: Image, delta: float) -> Image:
    """tf.image.adjust_brightness: delta is added to all channels."""
    return by_pixel(image, lambda *pixel: tuple(value + delta for value in pixel))


def contrast(image: Image, factor: float) -> Image:
    """tf.image.adjust_contrast: (x - mean) * factor + mean, with the mean of each channel."""
    pixels = [pixel for line in image for pixel in line]
    means = [sum(values) / len(pixels) for values in zip(*pixels, strict=True)]
    return by_pixel(
        image,
        lambda *pixel: tuple((x - m) * factor + m for x, m in zip(pixel, means, strict=True)),
    )


def saturation(image: Image, factor: float) -> Image:
    """tf.image.adjust_saturation: S of HSV times factor, at most 1."""

    def change(*pixel: float) -> tuple[float, ...]:
        h, s, v = colorsys.rgb_to_hsv(*pixel)
        return colorsys.hsv_to_rgb(h, min(1, s * factor), v)

    return by_pixel(image, change)


def hue(image: Image, delta: float) -> Image:
    """tf.image.adjust_hue: H of HSV plus delta, round the circle."""

    def change(*pixel: float) -> tuple[float, ...]:
        h, s, v = colorsys.rgb_to_hsv(*pixel)
        return colorsys.hsv_to_rgb((h + delta) % 1, s, v)

    return by_pixel(image, change)


PLAIN = {"brightness": brightness, "contrast": contrast, "saturation": saturation, "hue": hue}


def plainly(image: Tensor, steps: list[tuple[str, float]]) -> Tensor:
    """The steps on (3, H, W), values clipped after each as data_util.py does."""
    lines = image.double().permute(1, 2, 0).tolist()
    for name, amount in steps:
        changed = PLAIN[name](lines, amount)
        lines = by_pixel(changed, lambda *pixel: tuple(min(1.0, max(0.0, x)) for x in pixel))
    return torch.tensor(lines, dtype=torch.float64).permute(2, 0, 1)


def tricky_images(n: int) -> Tensor:
    """Random images, and among them grey, black, white, primaries, pale and dark ones."""
    images = torch.rand(n, 3, 7, 6)
    images[0] = images[0, :1]
    images[1], images[2] = 0, 1
    images[3] = (images[3] > 0.5).float()
    images[4, 0] = images[4, 1]
    images[5] = 0.9 + 0.1 * images[5]
    images[6] *= 0.01
    return images


@pytest.mark.parametrize(
    ("ours", "name", "low", "high"),
    [
        (add_brightness, "brightness", -0.8, 0.8),
        (adjust_contrast, "contrast", 0.0, 2.5),
        (adjust_saturation, "saturation", 0.0, 2.5),
    ],
)
def test_operation_equals_its_documentation(
    ours: Callable[[Tensor, Tensor], Tensor], name: str, low: float, high: float
) -> None:
    images, amounts = tricky_images(20), low + (high - low) * torch.rand(20)
    amounts[7], amounts[8] = low, high
    before = images.clone()
    changed = ours(images, amounts)
    assert torch.equal(images, before)
    for image, amount, found in zip(images, amounts.tolist(), changed, strict=True):
        expected = plainly(image, [(name, amount)])
        torch.testing.assert_close(found.double(), expected, atol=1e-5, rtol=0)


def test_jitter_is_the_four_steps_in_each_images_order() -> None:
    n = 2 * len(JITTER_ORDERS)
    images = tricky_images(n)
    order = torch.randperm(n) % len(JITTER_ORDERS)
    amounts = {
        "brightness": torch.rand(n) * 1.6 - 0.8,
        "contrast": torch.rand(n) * 1.8,
        "saturation": torch.rand(n) * 1.8,
        "hue": torch.rand(n) * 0.4 - 0.2,
    }
    jittered = ColorJitter(color="tensorflow")(images, {**amounts, "order": order})
    for i in range(n):
        steps = [(name, amounts[name][i].item()) for name in JITTER_ORDERS[order[i]]]
        expected = plainly(images[i], steps)
        # Where a step before left hardly any colour, its hue is rounding, which a later one may bring out.
        torch.testing.assert_close(jittered[i].double(), expected, atol=2e-5, rtol=0)
