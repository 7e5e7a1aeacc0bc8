"""AutoAugment (Cubuk et al. 2019): each image gets one of 25 learned pairs of operations.

AutoAugment works on bytes, and their rounding is part of it. Here, an image's levels are whole numbers from 0 to 255,
in float32. An operation takes all images that drew it at once, each with its own magnitude. Results are those of
torchvision's operations on uint8 tensors, except for products that end on the border of two levels or pixels. Its
defaults apply: nearest pixels, and black outside the image.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.nn import functional as F
from torchvision.transforms import AutoAugment as TorchvisionAutoAugment
from torchvision.transforms import AutoAugmentPolicy

from simclr_ablate.augment.batching import change_kinds, per_image
from simclr_ablate.augment.color import LUMA, equalize_levels
from simclr_ablate.augment.operations import Operation, Params

TABLES = ("imagenet", "cifar10")
"""Tables of pairs, named after the data set that they were learned on."""

NAMES = (
    *(
        "Identity",
        "ShearX",
        "ShearY",
        "TranslateX",
        "TranslateY",
        "Rotate",
        "Brightness",
        "Color",
        "Contrast",
    ),
    *("Sharpness", "Posterize", "Solarize", "AutoContrast", "Equalize", "Invert"),
)
"""The operations by number; 0 leaves an image as it is."""

_SIGNED = NAMES[1:10]
_STEPS = 9  # magnitudes have levels of 0 to 9


@dataclass(frozen=True)
class AutoAugment(Operation):
    """One pair of `table` for each image; each of the two operations has its own probability and a random sign."""

    table: str

    def __post_init__(self) -> None:
        if self.table not in TABLES:
            raise ValueError(f"table must be one of {', '.join(TABLES)}, got {self.table!r}")

    def draw(self, n: int, height: int, width: int, generator: Generator) -> Params:
        names, probabilities, magnitudes = pairs(self.table, height, width)
        chosen = torch.randint(len(names), (n,), generator=generator)
        applied = torch.rand(n, 2, generator=generator) < probabilities[chosen]
        negative = torch.randint(2, (n, 2), generator=generator) == 0
        signed = torch.tensor([name in _SIGNED for name in NAMES])
        operation = torch.where(applied, names[chosen], 0)
        magnitude = magnitudes[chosen]
        magnitude = torch.where(negative & signed[operation], -magnitude, magnitude)
        return {"operation": operation, "magnitude": magnitude}

    def apply(self, images: Tensor, params: Params) -> Tensor:
        return self.apply_(images.clone(), params)

    def apply_(self, images: Tensor, params: Params) -> Tensor:
        levels = images.mul_(255).round_()
        steps = zip(params["operation"].unbind(1), params["magnitude"].unbind(1), strict=True)
        for operation, magnitude in steps:
            change_kinds(levels, operation, functools.partial(_change, magnitude=magnitude))
        return levels.div_(255)

    def kinds(self, params: Params) -> Tensor:
        first, second = params["operation"].unbind(1)
        return first * len(NAMES) + second


@functools.cache
def pairs(table: str, height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """The pairs of `table` for images of (height, width): operations, probabilities, magnitudes, (25, 2) each."""
    rows = TorchvisionAutoAugment(AutoAugmentPolicy(table)).policies
    flat = [entry for row in rows for entry in row]
    operations = torch.tensor([NAMES.index(name) for name, _, _ in flat])
    probabilities = torch.tensor([probability for _, probability, _ in flat])
    magnitudes = torch.tensor(
        [_magnitude(name, level, height, width) for name, _, level in flat], dtype=torch.float64
    )
    return operations.view(-1, 2), probabilities.view(-1, 2), magnitudes.view(-1, 2)


def _magnitude(name: str, level: int | None, height: int, width: int) -> float:
    """The magnitude of an operation at a level of 0 to 9."""
    if level is None:
        return 0.0
    share = level / _STEPS
    if name.startswith("Shear"):
        return 0.3 * share
    if name.startswith("Translate"):
        # Whole pixels; at most 150 of 331, the side of AutoAugment's ImageNet images.
        return math.trunc(150 / 331 * (width if name == "TranslateX" else height) * share)
    if name == "Rotate":  # degrees
        return 30 * share
    if name == "Posterize":  # bits that are kept
        return 8 - round(4 * share)
    if name == "Solarize":  # the lowest level that is inverted
        return 255 * (1 - share)
    return 0.9 * share


def _change(kind: int, levels: Tensor, rows: Tensor | slice, magnitude: Tensor) -> Tensor:
    """Applies operation number `kind` to images, with the magnitudes in `rows`."""
    return _OPERATIONS[NAMES[kind]](levels, magnitude[rows])


def _shear_x(levels: Tensor, slope: Tensor) -> Tensor:
    # About the upper left corner, as in torchvision.
    return _warp(levels, xy=slope, x=slope * levels.shape[2] / 2)


def _shear_y(levels: Tensor, slope: Tensor) -> Tensor:
    return _warp(levels, yx=slope, y=slope * levels.shape[3] / 2)


def _translate_x(levels: Tensor, pixels: Tensor) -> Tensor:
    return _warp(levels, x=-pixels)


def _translate_y(levels: Tensor, pixels: Tensor) -> Tensor:
    return _warp(levels, y=-pixels)


def _rotate(levels: Tensor, degrees: Tensor) -> Tensor:
    angle = degrees.deg2rad()
    return _warp(levels, xx=angle.cos(), xy=-angle.sin(), yx=angle.sin(), yy=angle.cos())


def _warp(
    levels: Tensor,
    xx: Tensor | float = 1.0,
    xy: Tensor | float = 0.0,
    x: Tensor | float = 0.0,
    yx: Tensor | float = 0.0,
    yy: Tensor | float = 1.0,
    y: Tensor | float = 0.0,
) -> Tensor:
    """Takes pixel (i, j) from the one nearest to (xx i + xy j + x, yx i + yy j + y), counted from the middle."""
    n, _, height, width = levels.shape
    rows = ((xx, xy, x), (yx, yy, y))
    matrix = torch.stack(
        [torch.as_tensor(e, dtype=torch.float64).expand(n) for row in rows for e in row], dim=1
    ).view(n, 2, 3)
    # In halves of the image's side, the units of `grid_sample`.
    matrix = (matrix.float() / torch.tensor([[width / 2], [height / 2]])).to(levels.device)
    columns = torch.arange(width, device=levels.device) - (width - 1) / 2
    lines = torch.arange(height, device=levels.device) - (height - 1) / 2
    across = matrix[:, None, :, 0] * columns[:, None]  # (N, W, 2)
    down = matrix[:, None, :, 1] * lines[:, None] + matrix[:, None, :, 2]  # (N, H, 2)
    grid = across.unsqueeze(1) + down.unsqueeze(2)
    return F.grid_sample(levels, grid, mode="nearest", padding_mode="zeros", align_corners=False)


def _brightness(levels: Tensor, amount: Tensor) -> Tensor:
    return _away_from(torch.zeros((), device=levels.device), levels, amount)


def _color(levels: Tensor, amount: Tensor) -> Tensor:
    return _away_from(_grey(levels), levels, amount)


def _contrast(levels: Tensor, amount: Tensor) -> Tensor:
    return _away_from(_grey(levels).mean((1, 2, 3), keepdim=True), levels, amount)


def _sharpness(levels: Tensor, amount: Tensor) -> Tensor:
    if min(levels.shape[2:]) <= 2:
        return levels
    lines = levels[..., :-2, :] + levels[..., 1:-1, :] + levels[..., 2:, :]
    squares = lines[..., :-2] + lines[..., 1:-1] + lines[..., 2:]
    blurred = levels.clone()  # the border stays as it is
    inside = blurred[..., 1:-1, 1:-1]
    # A kernel of ones with 5 in its middle. Sums of whole numbers are exact, and no thirteenth lies on a half.
    inside.mul_(4).add_(squares).div_(13).round_()
    return _away_from(blurred, levels, amount)


def _away_from(other: Tensor, levels: Tensor, amount: Tensor) -> Tensor:
    """Moves levels away from `other` by the share `amount`, or towards it if `amount` < 0."""
    factor, share = per_image(1 + amount, levels), per_image(-amount, levels)
    return (levels * factor).add_(other * share).clamp_(0, 255).floor_()


def _grey(levels: Tensor) -> Tensor:
    """The grey levels, (N, 1, H, W)."""
    red, green, blue = levels.split(1, dim=1)
    return (LUMA[0] * red).add_(LUMA[1] * green).add_(LUMA[2] * blue).floor_()


def _posterize(levels: Tensor, bits: Tensor) -> Tensor:
    step = per_image(2 ** (8 - bits), levels)
    return (levels / step).floor_().mul_(step)


def _solarize(levels: Tensor, threshold: Tensor) -> Tensor:
    return torch.where(levels >= per_image(threshold, levels), 255 - levels, levels)


def _autocontrast(levels: Tensor, _: Tensor) -> Tensor:
    low, high = levels.amin((2, 3), keepdim=True), levels.amax((2, 3), keepdim=True)
    stretched = ((levels - low) * (255 / (high - low))).clamp_(0, 255).floor_()
    return torch.where(high > low, stretched, levels)


def _equalize(levels: Tensor, _: Tensor) -> Tensor:
    return equalize_levels(levels.long()).to(levels.dtype)


def _invert(levels: Tensor, _: Tensor) -> Tensor:
    return 255 - levels


_OPERATIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "Identity": lambda levels, _: levels,
    "ShearX": _shear_x,
    "ShearY": _shear_y,
    "TranslateX": _translate_x,
    "TranslateY": _translate_y,
    "Rotate": _rotate,
    "Brightness": _brightness,
    "Color": _color,
    "Contrast": _contrast,
    "Sharpness": _sharpness,
    "Posterize": _posterize,
    "Solarize": _solarize,
    "AutoContrast": _autocontrast,
    "Equalize": _equalize,
    "Invert": _invert,
}
