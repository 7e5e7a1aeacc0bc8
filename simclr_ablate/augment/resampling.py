"""Linear maps along rows and columns: what a resize and a separable filter have in common.

Each image has its own matrices. On small images, two batched matrix products are far faster than
gathers or a grouped convolution.
"""

from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor

TABLE_BYTES = 8 * 1024 * 1024
"""Size up to which the weights of all windows are kept; images of 32 pixels need 4 MiB."""


def resample(images: Tensor, rows: Tensor, columns: Tensor, out: Tensor | None = None) -> Tensor:
    """`rows @ image @ columns.T` for every channel of every image, in float32 even under autocast.

    images: (N, C, H, W); rows: (N, S, H); columns: (N, T, W). Returns (N, C, S, T), in `out` if
    given, which may be the images.
    """
    n, channels, height, width = images.shape
    with torch.autocast(images.device.type, enabled=False):
        lines = images.reshape(n, channels * height, width)
        narrowed = torch.bmm(lines, columns.transpose(1, 2)).view(n, channels, height, -1)
        return torch.matmul(rows[:, None], narrowed, out=out)


def windows_of(start: Tensor, length: Tensor, flip: Tensor, extent: int, size: int) -> Tensor:
    """Windows [start, start + length) of a line of pixels, as `interpolation_matrix` takes them.

    (N,), an index into the table of all windows; or if that would be too large, (5, N) float32 for `_weights`.

    start, length: (N,) whole pixels; flip: (N,) bool; extent: length of the line; size: length of the result.
    """
    windows = extent * (extent + 1) // 2
    if 2 * windows * size * extent * 4 > TABLE_BYTES:
        return _measures(start, length, flip, size)
    return start * (2 * extent - start + 1) // 2 + (length - 1) + flip * windows


def interpolation_matrix(windows: Tensor, extent: int, size: int, interpolation: str) -> Tensor:
    """The weights that resize windows of a line of pixels.

    Antialiased as in torchvision: if the window shrinks, the kernel is stretched; only pixels of the
    window count, and their weights sum to 1. If `flip` is set, the outputs run backwards.

    windows: of `windows_of`. Returns (N, size, extent) float32 on their device.
    """
    if interpolation not in KERNELS:
        raise ValueError(
            f"interpolation must be one of {', '.join(KERNELS)}, got {interpolation!r}"
        )
    if windows.ndim == 2:
        return _weights(windows, extent, size, interpolation)
    return _table(extent, size, interpolation, windows.device).index_select(0, windows)


@lru_cache(maxsize=8)
def _table(extent: int, size: int, interpolation: str, device: torch.device) -> Tensor:
    """The weights of every window, by start, then by length; then those of the flipped windows."""
    windows = [
        (start, length) for start in range(extent) for length in range(1, extent - start + 1)
    ]
    start, length = torch.tensor(windows).repeat(2, 1).T
    flip = torch.arange(len(start)) >= len(windows)
    measures = _measures(start, length, flip, size)
    return _weights(measures, extent, size, interpolation).to(device)


def _measures(start: Tensor, length: Tensor, flip: Tensor, size: int) -> Tensor:
    """What `_weights` needs of windows, (5, N) float32.

    Their first and last edge, the edge where the outputs begin, how far the next output is, and minus the stretch of
    the kernel.
    """
    start, length = start.float(), length.float()
    scale = length / size
    origin = torch.where(flip, start + length, start)
    step = torch.where(flip, -scale, scale)
    return torch.stack([start, start + length, origin, step, -scale.clamp(min=1)])


def _weights(measures: Tensor, extent: int, size: int, interpolation: str) -> Tensor:
    kernel, radius = KERNELS[interpolation]
    start, stop, origin, step, stretch = measures.view(5, -1, 1, 1)
    position = torch.arange(0.5, size, device=measures.device).view(-1, 1)
    center = origin + step * position  # (N, size, 1)
    pixel = torch.arange(0.5, extent, device=measures.device)
    inside = ((pixel > start) & (pixel < stop)).float()
    nearness = (pixel - center).abs_().div_(stretch).add_(radius).clamp_(min=0)
    weights = kernel(nearness).mul_(inside)
    return weights.div_(weights.sum(2, keepdim=True))


def _bilinear(nearness: Tensor) -> Tensor:
    return nearness


def _bicubic(nearness: Tensor) -> Tensor:
    """Keys' kernel with a = -0.5, as in Pillow and in torchvision's antialiased resize."""
    # The outer piece, p^2 (p - 1) / 2, applies everywhere; the inner piece adds q^2 (1 - 2 q), with
    # q = max(p - 1, 0).
    lower = nearness - 1
    inner = lower.clamp(min=0)
    squared = inner * inner
    weights = torch.addcmul(squared, squared, inner, value=-2)
    return weights.addcmul_(nearness.square_(), lower, value=0.5)


KERNELS: dict[str, tuple[Callable[[Tensor], Tensor], int]] = {
    "bicubic": (_bicubic, 2),
    "bilinear": (_bilinear, 1),
}
"""The interpolations: a function that gives the weights, and the kernel's reach in pixels.

The function takes reach minus distance of each pixel, and overwrites it.
"""
