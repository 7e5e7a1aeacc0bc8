"""Filters against torchvision, scipy and plain loops."""

import math

import numpy as np
import pytest
import torch
import torchvision.transforms.v2.functional as tv
from scipy.ndimage import map_coordinates
from torch import Tensor

from simclr_ablate.augment.filters import (
    add_noise,
    blur_kernel_size,
    gaussian_blur,
    motion_blur,
    sobel,
)


@pytest.mark.parametrize(
    ("height", "width", "kernel"), [(32, 32, 3), (20, 33, 5), (33, 20, 9), (50, 50, 23), (5, 5, 9)]
)
def test_blur_equals_torchvision(height: int, width: int, kernel: int) -> None:
    images = torch.rand(7, 3, height, width, generator=torch.Generator().manual_seed(kernel))
    sigma = torch.linspace(0.1, 2, 7)
    blurred = gaussian_blur(images, sigma, kernel)
    for i, s in enumerate(sigma.tolist()):
        expected = tv.gaussian_blur(images[i], [kernel, kernel], [s, s])
        torch.testing.assert_close(blurred[i], expected, atol=1e-5, rtol=0)


def test_blur_keeps_float32_under_autocast() -> None:
    images = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    sigma = torch.ones(4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        blurred = gaussian_blur(images, sigma, 3)
    assert torch.equal(blurred, gaussian_blur(images, sigma, 3))


def test_kernel_is_a_tenth_of_the_side_made_odd_and_at_least_three() -> None:
    sizes = [8, 32, 48, 50, 64, 96, 224]
    assert [blur_kernel_size(size, size + 1) for size in sizes] == [3, 3, 5, 5, 7, 9, 23]


@pytest.mark.parametrize(("height", "width", "taps"), [(16, 16, 7), (9, 21, 5), (32, 24, 9)])
def test_motion_blur_is_scipys_mean_along_the_line(height: int, width: int, taps: int) -> None:
    rng = np.random.default_rng()
    images = torch.from_numpy(rng.random((6, 3, height, width), dtype=np.float32))
    length, angle = rng.uniform(1, taps, 6), rng.uniform(0, math.pi, 6)
    blurred = motion_blur(images, torch.from_numpy(length), torch.from_numpy(angle), taps)
    rows, columns = np.mgrid[:height, :width]
    for i in range(6):
        for channel in range(3):
            moved = [
                map_coordinates(
                    images[i, channel].double().numpy(),
                    [rows - t * math.sin(angle[i]), columns + t * math.cos(angle[i])],
                    order=1,
                    mode="mirror",
                )
                for t in np.linspace(-length[i] / 2, length[i] / 2, taps)
            ]
            expected = torch.from_numpy(np.mean(moved, axis=0)).float()
            torch.testing.assert_close(blurred[i, channel], expected, atol=2e-5, rtol=0)


def test_motion_blur_spreads_a_point_along_its_direction() -> None:
    point = torch.zeros(2, 3, 15, 15)
    point[:, :, 7, 7] = 1
    across, up = motion_blur(point, torch.tensor([4.0, 4.0]), torch.tensor([0, math.pi / 2]), 5)
    row = torch.zeros(15)
    row[5:10] = 0.2
    torch.testing.assert_close(across[0, 7], row, atol=1e-5, rtol=0)
    torch.testing.assert_close(up[0, :, 7], row, atol=1e-5, rtol=0)
    assert across[0].sum() == pytest.approx(1, abs=1e-4)


def test_motion_blur_keeps_float32_under_autocast() -> None:
    images = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    drawn = torch.full((4,), 3.3), torch.ones(4), 5
    with torch.autocast("cpu", dtype=torch.bfloat16):
        blurred = motion_blur(images, *drawn)
    assert torch.equal(blurred, motion_blur(images, *drawn))


def sobel_by_loop(image: Tensor) -> Tensor:
    """One channel, in float64."""
    height, width = image.shape
    across = [[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]

    def reflect(i: int, extent: int) -> int:
        return extent - 1 - abs(extent - 1 - abs(i))

    result = torch.zeros(height, width, dtype=torch.float64)
    for y in range(height):
        for x in range(width):
            gx = gy = 0.0
            for dy in range(3):
                for dx in range(3):
                    pixel = image[reflect(y + dy - 1, height), reflect(x + dx - 1, width)].item()
                    gx += across[dy][dx] * pixel
                    gy += across[dx][dy] * pixel
            result[y, x] = min((gx * gx + gy * gy) ** 0.5 / 2, 1.0)
    return result


def test_sobel_equals_a_plain_loop() -> None:
    images = torch.rand(2, 3, 6, 9, generator=torch.Generator().manual_seed(1))
    images[1] = (images[1] > 0.5).float()
    edges = sobel(images)
    for i in range(2):
        for channel in range(3):
            expected = sobel_by_loop(images[i, channel]).float()
            torch.testing.assert_close(edges[i, channel], expected, atol=1e-5, rtol=0)


def test_sobel_of_half_a_step_is_one() -> None:
    images = torch.zeros(1, 3, 8, 8)
    images[..., 4:] = 0.5
    columns = sobel(images)[0, 0].unique(dim=0)
    assert columns.tolist() == [[0, 0, 0, 1, 1, 0, 0, 0]]


def test_noise_is_added_by_each_images_strength_and_clipped() -> None:
    rng = torch.Generator().manual_seed(2)
    images = torch.rand(5, 3, 6, 7, generator=rng)
    noise = torch.randn(5, 3, 6, 7, generator=rng)
    std = torch.tensor([0, 0.1, 0.2, 0.5, 2])
    noisy = add_noise(images, noise, std)
    for i in range(5):
        expected = (images[i].double() + std[i].item() * noise[i].double()).clamp(0, 1).float()
        torch.testing.assert_close(noisy[i], expected, atol=1e-6, rtol=0)
