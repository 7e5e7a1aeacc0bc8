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

from simclr_ablate.augment.batching import Kinds, Run, change_kinds
from simclr_ablate.augment.color import LUMA, equalize_levels
from simclr_ablate.augment.operations import Operation, Params, Prepared

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

    def prepare(self, params: Params, height: int, width: int, device: torch.device) -> Prepared:
        steps = []
        for operation, magnitude in zip(
            params["operation"].unbind(1), params["magnitude"].unbind(1), strict=True
        ):
            kinds = Kinds.of(operation, device)
            magnitudes = kinds.take({"magnitude": magnitude})["magnitude"]
            of_runs = [
                _PREPARED.get(NAMES[run.kind], _none)(magnitudes[run.rows], height, width)
                for run in kinds.runs
            ]
            steps.append((kinds, of_runs))
        return {"steps": steps}

    def apply(self, images: Tensor, params: Prepared) -> Tensor:
        return self.apply_(images.clone(), params)

    def apply_(self, images: Tensor, params: Prepared) -> Tensor:
        levels = images.mul_(255).round_()
        for kinds, of_runs in params["steps"]:
            change_kinds(levels, kinds, functools.partial(_change, of_runs=of_runs))
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


def _change(number: int, levels: Tensor, run: Run, of_runs: list[tuple[Tensor, ...]]) -> Tensor:
    """Applies the operation of the run with this number to its images."""
    return _OPERATIONS[NAMES[run.kind]](levels, *of_runs[number])


def _none(magnitude: Tensor, height: int, width: int) -> tuple[Tensor, ...]:
    return ()


def _shear_x(slope: Tensor, height: int, width: int) -> tuple[Tensor]:
    # About the upper left corner, as in torchvision.
    return _matrix(height, width, xy=slope, x=slope * height / 2)


def _shear_y(slope: Tensor, height: int, width: int) -> tuple[Tensor]:
    return _matrix(height, width, yx=slope, y=slope * width / 2)


def _translate_x(pixels: Tensor, height: int, width: int) -> tuple[Tensor]:
    return _matrix(height, width, x=-pixels)


def _translate_y(pixels: Tensor, height: int, width: int) -> tuple[Tensor]:
    return _matrix(height, width, y=-pixels)


def _rotate(degrees: Tensor, height: int, width: int) -> tuple[Tensor]:
    angle = degrees.deg2rad()
    return _matrix(height, width, xx=angle.cos(), xy=-angle.sin(), yx=angle.sin(), yy=angle.cos())


def _matrix(
    height: int,
    width: int,
    xx: Tensor | float = 1.0,
    xy: Tensor | float = 0.0,
    x: Tensor | float = 0.0,
    yx: Tensor | float = 0.0,
    yy: Tensor | float = 1.0,
    y: Tensor | float = 0.0,
) -> tuple[Tensor]:
    """(N, 2, 3) for `_warp`: pixel (i, j) comes from (xx i + xy j + x, yx i + yy j + y), counted from the middle."""
    entries = (xx, xy, x, yx, yy, y)
    (n,) = {len(entry) for entry in entries if isinstance(entry, Tensor)}
    matrix = torch.stack(
        [torch.as_tensor(e, dtype=torch.float64).expand(n) for e in entries], dim=1
    ).view(n, 2, 3)
    # In halves of the image's side, the units of `grid_sample`.
    return (matrix.float() / torch.tensor([[width / 2], [height / 2]]),)


def _warp(levels: Tensor, matrix: Tensor) -> Tensor:
    """Takes each pixel from the one nearest to where `matrix` says."""
    height, width = levels.shape[2:]
    columns = torch.arange(width, device=levels.device) - (width - 1) / 2
    lines = torch.arange(height, device=levels.device) - (height - 1) / 2
    across = matrix[:, None, :, 0] * columns[:, None]  # (N, W, 2)
    down = matrix[:, None, :, 1] * lines[:, None] + matrix[:, None, :, 2]  # (N, H, 2)
    grid = across.unsqueeze(1) + down.unsqueeze(2)
    return F.grid_sample(levels, grid, mode="nearest", padding_mode="zeros", align_corners=False)


def _shares(amount: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    return (1 + amount).float().view(-1, 1, 1, 1), (-amount).float().view(-1, 1, 1, 1)


def _step(bits: Tensor, height: int, width: int) -> tuple[Tensor]:
    return ((2 ** (8 - bits)).float().view(-1, 1, 1, 1),)


def _threshold(threshold: Tensor, height: int, width: int) -> tuple[Tensor]:
    return (threshold.float().view(-1, 1, 1, 1),)


def _brightness(levels: Tensor, factor: Tensor, share: Tensor) -> Tensor:
    return _away_from(torch.zeros((), device=levels.device), levels, factor, share)


def _color(levels: Tensor, factor: Tensor, share: Tensor) -> Tensor:
    return _away_from(_grey(levels), levels, factor, share)


def _contrast(levels: Tensor, factor: Tensor, share: Tensor) -> Tensor:
    return _away_from(_grey(levels).mean((1, 2, 3), keepdim=True), levels, factor, share)


def _sharpness(levels: Tensor, factor: Tensor, share: Tensor) -> Tensor:
    if min(levels.shape[2:]) <= 2:
        return levels
    lines = levels[..., :-2, :] + levels[..., 1:-1, :] + levels[..., 2:, :]
    squares = lines[..., :-2] + lines[..., 1:-1] + lines[..., 2:]
    blurred = levels.clone()  # the border stays as it is
    inside = blurred[..., 1:-1, 1:-1]
    # A kernel of ones with 5 in its middle. Sums of whole numbers are exact, and no thirteenth lies on a half.
    inside.mul_(4).add_(squares).div_(13).round_()
    return _away_from(blurred, levels, factor, share)


def _away_from(other: Tensor, levels: Tensor, factor: Tensor, share: Tensor) -> Tensor:
    """Moves levels away from `other`, or towards it if `factor` < 1. share: 1 - factor."""
    return (levels * factor).add_(other * share).clamp_(0, 255).floor_()


def _grey(levels: Tensor) -> Tensor:
    """The grey levels, (N, 1, H, W)."""
    red, green, blue = levels.split(1, dim=1)
    return (LUMA[0] * red).add_(LUMA[1] * green).add_(LUMA[2] * blue).floor_()


def _posterize(levels: Tensor, step: Tensor) -> Tensor:
    return (levels / step).floor_().mul_(step)


def _solarize(levels: Tensor, threshold: Tensor) -> Tensor:
    return torch.where(levels >= threshold, 255 - levels, levels)


def _autocontrast(levels: Tensor) -> Tensor:
    low, high = levels.amin((2, 3), keepdim=True), levels.amax((2, 3), keepdim=True)
    stretched = ((levels - low) * (255 / (high - low))).clamp_(0, 255).floor_()
    return torch.where(high > low, stretched, levels)


def _equalize(levels: Tensor) -> Tensor:
    return equalize_levels(levels.long()).to(levels.dtype)


def _invert(levels: Tensor) -> Tensor:
    return 255 - levels


_PREPARED: dict[str, Callable[[Tensor, int, int], tuple[Tensor, ...]]] = {
    "ShearX": _shear_x,
    "ShearY": _shear_y,
    "TranslateX": _translate_x,
    "TranslateY": _translate_y,
    "Rotate": _rotate,
    **dict.fromkeys(("Brightness", "Color", "Contrast", "Sharpness"), _shares),
    "Posterize": _step,
    "Solarize": _threshold,
}
"""What operations need beside the levels, of magnitudes (N,) and the images' height and width; others need nothing."""

_OPERATIONS: dict[str, Callable[..., Tensor]] = {
    "Identity": lambda levels: levels,
    **dict.fromkeys(("ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate"), _warp),
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
