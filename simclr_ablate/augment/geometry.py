"""Crop with resize and flip, cutout, rotation.

Images are (N, C, H, W), float; parameters are (N,), one per image.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from simclr_ablate.augment.batching import Kinds, change_kinds
from simclr_ablate.augment.resampling import interpolation_matrix, resample, windows_of
from simclr_ablate.device import is_accelerator, send


def resized_crop(
    images: Tensor,
    top: Tensor,
    left: Tensor,
    height: Tensor,
    width: Tensor,
    flip: Tensor,
    size: int,
    interpolation: str = "bicubic",
    out: Tensor | None = None,
) -> Tensor:
    """Each image's own window, resized to (size, size) and mirrored if `flip` is set.

    Equals torchvision's antialiased `resized_crop`, then `horizontal_flip`. As there, bicubic
    weights can take float images slightly out of [0, 1]; nothing is clipped.

    top, left, height, width: whole pixels; flip: bool. out: for the result; may be the images.
    """
    windows = crop_windows(top, left, height, width, flip, images.shape[2:], size)
    there = send(windows, images.device)
    return resample_windows(images, **there, size=size, interpolation=interpolation, out=out)


def crop_windows(
    top: Tensor,
    left: Tensor,
    height: Tensor,
    width: Tensor,
    flip: Tensor,
    image_size: Sequence[int],
    size: int,
) -> dict[str, Tensor]:
    """Each window of images of `image_size` (H, W) as `resample_windows` takes it, on the CPU."""
    upright = torch.zeros_like(flip)
    return {
        "rows": windows_of(top, height, upright, image_size[0], size),
        "columns": windows_of(left, width, flip, image_size[1], size),
    }


def resample_windows(
    images: Tensor,
    rows: Tensor,
    columns: Tensor,
    size: int,
    interpolation: str,
    out: Tensor | None = None,
) -> Tensor:
    """`resized_crop` of windows that `crop_windows` made, on the images' device."""
    height, width = images.shape[2:]
    if is_accelerator(images.device) and height == width:  # half the launches
        both = interpolation_matrix(torch.cat([rows, columns], -1), height, size, interpolation)
        of_rows, of_columns = both.chunk(2)
        return resample(images, of_rows, of_columns, out)
    heights = interpolation_matrix(rows, height, size, interpolation)
    widths = interpolation_matrix(columns, width, size, interpolation)
    return resample(images, heights, widths, out)


def cutout(images: Tensor, top: Tensor, left: Tensor, side: Tensor, fill: float = 0.5) -> Tensor:
    """Covers a square of `side` pixels, which may overlap the image's border, with `fill`.

    top, left (may be negative), side: whole pixels.
    """
    rows = _inside(images.shape[2], top, side, images.device).unsqueeze(2)
    columns = _inside(images.shape[3], left, side, images.device).unsqueeze(1)
    hole = (rows & columns).unsqueeze(1).to(images.dtype)
    return (images * (1 - hole)).add_(hole * fill)


def rotate_quarters(images: Tensor, quarters: Tensor) -> Tensor:
    """Turns each image counter-clockwise by its number of quarter turns, 0 to 3.

    Raises ValueError if the images are not square.
    """
    if images.shape[2] != images.shape[3]:
        raise ValueError(f"rotation needs square images, got {tuple(images.shape[2:])}")
    return rotate_kinds(images, send(Kinds.of(quarters.cpu(), images.device), images.device))


def rotate_kinds(images: Tensor, quarters: Kinds) -> Tensor:
    """`rotate_quarters` of images that are arranged already; `quarters` is on their device."""
    return change_kinds(
        images.clone(), quarters, lambda _, part, run: torch.rot90(part, run.kind, (2, 3))
    )


def _inside(extent: int, start: Tensor, length: Tensor, device: torch.device) -> Tensor:
    """Which of `extent` pixels lie in [start, start + length): (N, extent) bool."""
    pixels = torch.arange(extent, device=device)
    start, length = start.to(device).view(-1, 1), length.to(device).view(-1, 1)
    return (pixels >= start) & (pixels < start + length)
