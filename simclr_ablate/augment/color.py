"""Operations on colour, equal to torchvision's if it has them (App. A, the first listing).

Images are (N, 3, H, W), float in [0, 1]; parameters are (N,), one per image. The paper's code calls TensorFlow's colour
operations, which are different: see `tensorflow_color.py`.
"""

import functools
import itertools
from collections.abc import Iterator

import torch
from torch import Tensor

from simclr_ablate.augment.batching import Kinds, Run, change_kinds, per_image
from simclr_ablate.device import is_accelerator, send

LUMA = (0.2989, 0.587, 0.114)
"""Shares of red, green and blue in the grey of a pixel, as in torchvision."""

JITTER_ORDERS = tuple(itertools.permutations(("brightness", "contrast", "saturation", "hue")))
"""The 24 orders of the four parts of colour jitter; the parameter `order` is an index into it."""

_TONES = ("brightness", "contrast", "saturation")
# For each order: how many parts come before hue, (24,), and all parts but hue, as indices into _TONES, (24, 3).
_BEFORE_HUE = torch.tensor([order.index("hue") for order in JITTER_ORDERS])
_TONE_ORDERS = torch.tensor(
    [[_TONES.index(part) for part in order if part != "hue"] for order in JITTER_ORDERS]
)

# Brightness, contrast and saturation by a factor f are all a x + b grey(x) + c mean(grey(x)),
# clipped. These are the constant parts of (a, b, c) for each of _TONES, then the multiples of f.
# b and c are scaled to apply to `_greys` instead of the grey.
_COEFFICIENTS = torch.tensor(
    [
        [[0, 0, 0], [0, 0, 1], [0, 1, 0]],
        [[1, 0, 0], [1, 0, -1], [1, -1, 0]],
    ],
    dtype=torch.float32,
)
_COEFFICIENTS *= torch.tensor([1, LUMA[0], LUMA[0]])

_TINY = torch.finfo(torch.float32).tiny

_PIECE_BYTES = 5 * 2**17
"""Size of the images that colour jitter changes at a time on a CPU: with scratch memory, they fit its L2 cache."""


def adjust_brightness(images: Tensor, factor: Tensor) -> Tensor:
    """`images * factor`, clipped."""
    return (images * per_image(factor, images)).clamp_(0, 1)


def adjust_contrast(images: Tensor, factor: Tensor) -> Tensor:
    """Moves values away from (factor > 1) or towards (< 1) the image's mean grey, clipped."""
    factor = per_image(factor, images)
    mean = _grey(images).mean((1, 2)).view(-1, 1, 1, 1)
    return (images * factor).add_(mean * (1 - factor)).clamp_(0, 1)


def adjust_saturation(images: Tensor, factor: Tensor) -> Tensor:
    """Moves values away from (factor > 1) or towards (< 1) the grey image, clipped."""
    return torch.lerp(_grey(images).unsqueeze(1), images, per_image(factor, images)).clamp_(0, 1)


def to_grayscale(images: Tensor, out: Tensor | None = None) -> Tensor:
    """The grey image in three equal channels, written to `out` if given (may be the images)."""
    out = torch.empty_like(images) if out is None else out
    return out.copy_(_grey(images).unsqueeze(1))


def adjust_hue(images: Tensor, turns: Tensor) -> Tensor:
    """Turns the hue by `turns`, in [-0.5, 0.5] of the colour circle; value and saturation stay."""
    return turn_hue_(images.clone(), turns).clamp_(0, 1)  # clips rounding errors only


def color_jitter(
    images: Tensor,
    brightness: Tensor,
    contrast: Tensor,
    saturation: Tensor,
    hue: Tensor,
    order: Tensor,
) -> Tensor:
    """Brightness, contrast, saturation and hue in each image's own order, clipped after each.

    order: (N,) indices into JITTER_ORDERS.
    """
    tones, before_hue = jitter_steps(brightness, contrast, saturation, order)
    kinds = Kinds.of(before_hue.cpu(), images.device)
    params = kinds.take({"tones": tones, "hue": hue})
    kinds, params = send((kinds, params), images.device)
    return jitter_kinds_(images.clone(), kinds, **params)


def jitter_steps(
    brightness: Tensor, contrast: Tensor, saturation: Tensor, order: Tensor
) -> tuple[Tensor, Tensor]:
    """Prepares colour jitter for `jitter_kinds_`.

    Returns the coefficients of the three steps other than hue, in order, (N, 3, 3), and how many of
    them come before hue, (N,).
    """
    tones = _TONE_ORDERS.to(order.device)[order]  # (N, 3)
    amounts = torch.stack([brightness, contrast, saturation], 1).gather(1, tones).unsqueeze(2)
    base, slope = _COEFFICIENTS.to(order.device)
    return base[tones] + slope[tones] * amounts, _BEFORE_HUE.to(order.device)[order]


def jitter_kinds_(images: Tensor, kinds: Kinds, tones: Tensor, hue: Tensor) -> Tensor:
    """Applies colour jitter that `jitter_steps` prepared, in place; returns `images`.

    kinds: the numbers of tones before hue. tones, hue: in the order of its runs, on the images' device.
    """

    def jitter(_: int, part: Tensor, run: Run) -> Tensor:
        for piece in in_pieces(part, tones[run.rows], hue[run.rows]):
            _jitter_(run.kind, *piece)
        return part

    return change_kinds(images, kinds, jitter)


def in_pieces(images: Tensor, *amounts: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """A few images at a time with their amounts: on a CPU, pieces of about equal length, each within _PIECE_BYTES."""
    pieces = 1 if is_accelerator(images.device) else -(-images.nbytes // _PIECE_BYTES)
    length = max(1, -(-len(images) // max(1, pieces)))
    return zip(*(values.split(length) for values in (images, *amounts)), strict=True)


def _jitter_(before_hue: int, images: Tensor, tones: Tensor, turns: Tensor) -> None:
    """Applies all four steps in place: `before_hue` of `tones` (N, 3, 3), hue, then the other tones."""
    steps = tones.unbind(1)
    for step in steps[:before_hue]:
        _tone_(images, step)
    turn_hue_(images, turns)
    for step in steps[before_hue:]:
        _tone_(images, step)
    if before_hue == len(steps):
        images.clamp_(0, 1)  # clips rounding errors only; a tone after hue has done so already


@functools.cache
def _hue_centers(device: torch.device, dtype: torch.dtype) -> Tensor:
    return torch.tensor((3 / 6, 2 / 6, 4 / 6), dtype=dtype).view(3, 1, 1).to(device)


def solarize(images: Tensor, threshold: Tensor) -> Tensor:
    """Inverts values at or above `threshold`."""
    return torch.where(images >= per_image(threshold, images), 1 - images, images)


def equalize(images: Tensor) -> Tensor:
    """Flattens each channel's histogram of 256 levels, as Pillow and torchvision do."""
    levels = (images * (256 - 1e-3)).to(torch.uint8).to(torch.int64)
    return equalize_levels(levels).to(images.dtype).div_(255)


def equalize_levels(levels: Tensor) -> Tensor:
    """`equalize` for levels, int64 (N, 3, H, W) in 0..255; so is the result."""
    flat = levels.flatten(2)
    pixels = flat.shape[2]
    counts = torch.zeros(*flat.shape[:2], 256, dtype=torch.int64, device=levels.device)
    counts.scatter_add_(2, flat, torch.ones_like(flat))
    brightest = counts.gather(2, flat.amax(2, keepdim=True))
    step = (pixels - brightest) // 255
    before = counts.cumsum(2) - counts
    table = ((before + step // 2) // step.clamp(min=1)).clamp_(0, 255)
    table = torch.where(step > 0, table, torch.arange(256, device=levels.device))
    return table.gather(2, flat).view(levels.shape)


def _grey(images: Tensor) -> Tensor:
    """The grey image, (N, H, W)."""
    return _greys(images).mul_(LUMA[0])


def _greys(images: Tensor) -> Tensor:
    """The grey image divided by red's share, (N, H, W), which saves an operation."""
    red, green, blue = images.unbind(1)
    grey = torch.add(red, green, alpha=LUMA[1] / LUMA[0])
    return grey.add_(blue, alpha=LUMA[2] / LUMA[0])


def _tone_(images: Tensor, coefficients: Tensor) -> None:
    """Computes a * image + b * greys + c * mean of greys, clipped, in place.

    coefficients: (N, 3), the a, b and c of each image.
    """
    scale, grey_share, mean_share = coefficients[..., None, None].unbind(1)
    greys = _greys(images)
    offset = greys.mean((1, 2), keepdim=True).mul_(mean_share)
    # In two operations: if two operands are broadcast, CPUs work on one number at a time.
    greys.mul_(grey_share).add_(offset)
    torch.addcmul(greys.unsqueeze(1), images, scale.unsqueeze(1), out=images).clamp_(0, 1)


def turn_hue_(images: Tensor, turns: Tensor) -> Tensor:
    """`adjust_hue` in place and without clipping; returns `images`.

    HSV's value is a pixel's greatest channel, and its saturation follows from that and the
    channels' spread (chroma). Both stay, so the new channels lie between the old minimum and
    maximum, and the new hue alone decides where.
    """
    red, green, blue = images.unbind(1)
    high, low = images.amax(1), images.amin(1)
    chroma = high - low
    # In sixths of a turn, |hue| is 1 + (green + blue - red - low) / chroma; its sign is that of
    # green - blue.
    hue = (green + blue).sub_(red).sub_(low)
    sixth = hue.new_full((), 1 / 6)
    torch.addcdiv(sixth, hue, chroma.clamp(min=_TINY), value=1 / 6, out=hue)
    hue.copysign_(green - blue).add_(turns.to(hue).view(-1, 1, 1) + 1).frac_()
    # A channel's height above the minimum is a trapezoid of the hue's distance from 1/2 (red),
    # 1/3 (green) or 2/3 (blue).
    torch.sub(hue.unsqueeze(1), _hue_centers(images.device, images.dtype), out=images)
    red, green, blue = images.abs_().clamp_(1 / 6, 2 / 6).unbind(1)
    # Red is 6 chroma (distance - 1/6) above the minimum, the others 6 chroma (2/6 - distance).
    torch.addcmul(low.sub_(chroma), chroma, red, value=6, out=red)
    high.add_(chroma)
    for channel in (green, blue):
        torch.addcmul(high, chroma, channel, value=-6, out=channel)
    return images
