"""Filters and noise. Images are (N, C, H, W), float in [0, 1]; parameters (N,), one per image."""

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from simclr_ablate.augment.batching import per_image
from simclr_ablate.augment.resampling import resample


def blur_kernel_size(height: int, width: int) -> int:
    """A tenth of the shorter side, made odd as in the paper's code (22 becomes 23), at least 3."""
    return max(3, min(height, width) // 10 // 2 * 2 + 1)


def gaussian_blur(
    images: Tensor, sigma: Tensor, kernel_size: int, out: Tensor | None = None
) -> Tensor:
    """Gaussian blur with each image's own `sigma` (pixels) and reflected borders, as in torchvision.

    kernel_size: odd, at most twice the shorter side minus 1. out: for the result; may be the images.
    """
    radius = kernel_size // 2
    taps = torch.arange(-radius, radius + 1, device=images.device, dtype=torch.float32)
    weights = (-0.5 * (taps / sigma.to(images.device).view(-1, 1)).square()).exp()
    weights /= weights.sum(1, keepdim=True)
    rows = _band(weights, images.shape[2])
    same = images.shape[2] == images.shape[3]
    return resample(images, rows, rows if same else _band(weights, images.shape[3]), out)


def sobel(images: Tensor) -> Tensor:
    """The strength of the edges in each channel: the length of Sobel's gradient, clipped.

    A step of 0.5 between two flat halves gives 1. Borders are reflected.
    """
    padded = F.pad(images, (1, 1, 1, 1), mode="reflect")
    smooth_rows = (padded[:, :, :-2] + padded[:, :, 2:]).add_(padded[:, :, 1:-1], alpha=2)
    horizontal = smooth_rows[..., 2:] - smooth_rows[..., :-2]
    slope_rows = padded[:, :, 2:] - padded[:, :, :-2]
    vertical = (slope_rows[..., :-2] + slope_rows[..., 2:]).add_(slope_rows[..., 1:-1], alpha=2)
    return torch.hypot(horizontal, vertical).mul_(0.5).clamp_(max=1)


def motion_blur(images: Tensor, length: Tensor, angle: Tensor, taps: int) -> Tensor:
    """The mean of `taps` copies of each image, moved evenly along a line of its own `length` and `angle`.

    The copies are read between pixels linearly, and borders are reflected.

    length: pixels, at most twice the shorter side minus 2; angle: radians, counter-clockwise from the horizontal.
    """
    height, width = images.shape[-2:]
    rows, columns = (
        torch.arange(extent, device=images.device, dtype=torch.float32)
        for extent in (height, width)
    )
    length, angle = (v.to(images.device, torch.float32).view(-1, 1) for v in (length, angle))
    blurred = torch.zeros_like(images)
    with torch.autocast(images.device.type, enabled=False):
        for share in torch.linspace(-0.5, 0.5, taps).tolist():
            y = (rows - share * length * angle.sin()).unsqueeze(2).expand(-1, height, width)
            x = (columns + share * length * angle.cos()).unsqueeze(1).expand(-1, height, width)
            # grid_sample's coordinates go from -1 to 1 between the centres of the first and the last pixel.
            grid = torch.stack([2 * x / (width - 1) - 1, 2 * y / (height - 1) - 1], 3)
            blurred += F.grid_sample(images, grid, padding_mode="reflection", align_corners=True)
    return blurred.div_(taps)


def add_noise(images: Tensor, noise: Tensor, std: Tensor) -> Tensor:
    """`images + std * noise`, clipped. noise: like the images, standard normal; std: (N,)."""
    return (noise.to(images.device) * per_image(std, images)).add_(images).clamp_(0, 1)


def _band(weights: Tensor, extent: int) -> Tensor:
    """The filters `weights` (N, K) as matrices (N, extent, extent) for a line with reflected ends."""
    with torch.autocast(weights.device.type, enabled=False):
        shifts = _shifts(weights.shape[1], extent, weights.device)
        return (weights @ shifts).view(-1, extent, extent)


@lru_cache(maxsize=8)
def _shifts(taps: int, extent: int, device: torch.device) -> Tensor:
    """(K, extent * extent), 0 or 1: which pixel each of the K taps reads for each output."""
    reach = torch.arange(-(taps // 2), taps // 2 + 1).view(-1, 1)
    pixels = torch.arange(extent)
    source = extent - 1 - (extent - 1 - (pixels + reach).abs()).abs()
    return F.one_hot(source, extent).float().flatten(1).to(device)
