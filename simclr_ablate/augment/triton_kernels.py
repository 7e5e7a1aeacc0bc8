"""Colour jitter in one Triton kernel, which CUDA, ROCm and XPU run: a program for each image does all four steps.

The steps and their arithmetic are those of `color.py` and `tensorflow_color.py`. An image is read twice, because
contrast needs a mean of what the steps before it make. Imported only where such a kernel is launched, since Triton may
not be there.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from simclr_ablate.augment.color import LUMA

_GREEN = tl.constexpr(LUMA[1] / LUMA[0])
_BLUE = tl.constexpr(LUMA[2] / LUMA[0])
_TINY = tl.constexpr(torch.finfo(torch.float32).tiny)
_MOST = 1024
"""Pixels that a program changes at a time, at most."""


def color_jitter_(images: Tensor, tones: Tensor, hue: Tensor, before_hue: Tensor) -> None:
    """`color.jitter_kinds_` for images (N, 3, H, W) float32, contiguous, whatever their kinds.

    tones: (N, 3, 3) and before_hue: (N,) of `color.jitter_steps`; hue: (N,), turns.
    """
    _jitter[(len(images),)](images, tones, hue, before_hue, *_pixels(images))


def tensorflow_jitter_(images: Tensor, amounts: Tensor, steps: Tensor) -> None:
    """`tensorflow_color.jitter_kinds_` for images (N, 3, H, W) float32, contiguous, whatever their kinds.

    amounts: (N, 4), of brightness, contrast, saturation and hue. steps: (N, 4), the number of each image's first step,
    second step and so on, counted in that order.
    """
    _tensorflow_jitter[(len(images),)](images, amounts, steps, *_pixels(images))


def _pixels(images: Tensor) -> tuple[int, int]:
    """How many pixels an image has, and how many a program changes at a time."""
    pixels = images.shape[2] * images.shape[3]
    return pixels, min(_MOST, triton.next_power_of_2(pixels))


@triton.jit
def _load(base, start, pixels, block: tl.constexpr):
    places = start + tl.arange(0, block)
    inside = places < pixels
    red = tl.load(base + places, mask=inside, other=0.0)
    green = tl.load(base + pixels + places, mask=inside, other=0.0)
    blue = tl.load(base + 2 * pixels + places, mask=inside, other=0.0)
    return red, green, blue, places, inside


@triton.jit
def _store(base, red, green, blue, places, inside, pixels):
    tl.store(base + places, red, mask=inside)
    tl.store(base + pixels + places, green, mask=inside)
    tl.store(base + 2 * pixels + places, blue, mask=inside)


@triton.jit
def _clip(values):
    return tl.minimum(tl.maximum(values, 0.0), 1.0)


@triton.jit
def _greys(red, green, blue):
    return red + green * _GREEN + blue * _BLUE


@triton.jit
def _turned(red, green, blue, turn):
    """`color.turn_hue_`."""
    high = tl.maximum(tl.maximum(red, green), blue)
    low = tl.minimum(tl.minimum(red, green), blue)
    chroma = high - low
    hue = (green + blue - red - low) * (1 / 6) / tl.maximum(chroma, _TINY) + 1 / 6
    hue = tl.where(green < blue, -hue, hue) + (turn + 1)
    hue = hue - tl.floor(hue)
    six = 6 * chroma
    above = high + chroma
    red = low - chroma + six * _distance(hue, 3 / 6)
    return red, above - six * _distance(hue, 2 / 6), above - six * _distance(hue, 4 / 6)


@triton.jit
def _distance(hue, center):
    """A hue's distance from another, within [1/6, 2/6]."""
    return tl.minimum(tl.maximum(tl.abs(hue - center), 1 / 6), 2 / 6)


@triton.jit
def _tone_and_hue(red, green, blue, tones, turn, before, mean):
    """All four steps; also the greys before contrast, whose mean over the image it needs."""
    seen = tl.zeros_like(red)
    for step in tl.static_range(4):
        if step == before:
            red, green, blue = _turned(red, green, blue, turn)
        else:
            number = step - (step > before).to(tl.int32)
            scale = tl.load(tones + 3 * number)
            grey_share = tl.load(tones + 3 * number + 1)
            mean_share = tl.load(tones + 3 * number + 2)
            greys = _greys(red, green, blue)
            seen = tl.where(mean_share != 0, greys, seen)
            offset = greys * grey_share + mean * mean_share
            red = _clip(red * scale + offset)
            green = _clip(green * scale + offset)
            blue = _clip(blue * scale + offset)
    return _clip(red), _clip(green), _clip(blue), seen


@triton.jit
def _jitter(images, tones, hue, before_hue, pixels, block: tl.constexpr):
    image = tl.program_id(0).to(tl.int64)
    base = images + image * 3 * pixels
    tones = tones + image * 9
    turn = tl.load(hue + image)
    before = tl.load(before_hue + image).to(tl.int32)
    total = tl.zeros((block,), tl.float32)
    for start in range(0, pixels, block):
        red, green, blue, places, inside = _load(base, start, pixels, block)
        _, _, _, seen = _tone_and_hue(red, green, blue, tones, turn, before, 0.0)
        total += tl.where(inside, seen, 0.0)
    mean = tl.sum(total) / pixels
    for start in range(0, pixels, block):
        red, green, blue, places, inside = _load(base, start, pixels, block)
        red, green, blue, _ = _tone_and_hue(red, green, blue, tones, turn, before, mean)
        _store(base, red, green, blue, places, inside, pixels)


@triton.jit
def _tensorflow_steps(
    red,
    green,
    blue,
    amounts,
    steps,
    red_mean,
    green_mean,
    blue_mean,
):
    """All four steps; also the channels before contrast, whose means over the image it needs."""
    seen_red, seen_green, seen_blue = red, green, blue
    for place in tl.static_range(4):
        step = tl.load(steps + place).to(tl.int32)
        amount = tl.load(amounts + step)
        if step == 0:
            red, green, blue = red + amount, green + amount, blue + amount
        elif step == 1:
            seen_red, seen_green, seen_blue = red, green, blue
            red = red * amount + red_mean * (1 - amount)
            green = green * amount + green_mean * (1 - amount)
            blue = blue * amount + blue_mean * (1 - amount)
        elif step == 2:
            high = tl.maximum(tl.maximum(red, green), blue)
            low = tl.minimum(tl.minimum(red, green), blue)
            ratio = tl.minimum(high / tl.maximum(high - low, _TINY), amount)
            red = (red - high) * ratio + high
            green = (green - high) * ratio + high
            blue = (blue - high) * ratio + high
        else:
            red, green, blue = _turned(red, green, blue, amount)
        red, green, blue = _clip(red), _clip(green), _clip(blue)
    return red, green, blue, seen_red, seen_green, seen_blue


@triton.jit
def _tensorflow_jitter(images, amounts, steps, pixels, block: tl.constexpr):
    image = tl.program_id(0).to(tl.int64)
    base = images + image * 3 * pixels
    amounts, steps = amounts + image * 4, steps + image * 4
    red_total = tl.zeros((block,), tl.float32)
    green_total = tl.zeros((block,), tl.float32)
    blue_total = tl.zeros((block,), tl.float32)
    for start in range(0, pixels, block):
        red, green, blue, places, inside = _load(base, start, pixels, block)
        _, _, _, red, green, blue = _tensorflow_steps(
            red, green, blue, amounts, steps, 0.0, 0.0, 0.0
        )
        red_total += tl.where(inside, red, 0.0)
        green_total += tl.where(inside, green, 0.0)
        blue_total += tl.where(inside, blue, 0.0)
    red_mean = tl.sum(red_total) / pixels
    green_mean = tl.sum(green_total) / pixels
    blue_mean = tl.sum(blue_total) / pixels
    for start in range(0, pixels, block):
        red, green, blue, places, inside = _load(base, start, pixels, block)
        red, green, blue, _, _, _ = _tensorflow_steps(
            red, green, blue, amounts, steps, red_mean, green_mean, blue_mean
        )
        _store(base, red, green, blue, places, inside, pixels)
