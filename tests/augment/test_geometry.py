"""Geometry against torchvision's functional operations, image by image."""

import pytest
import torch
import torchvision.transforms.v2.functional as tv
from torch import Tensor
from torchvision.transforms import InterpolationMode

from simclr_ablate.augment.geometry import cutout, resized_crop, rotate_quarters
from simclr_ablate.augment.resampling import resample


def random_windows(
    n: int, height: int, width: int, rng: torch.Generator
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Windows of any size and place; the first is the whole image, the second one pixel."""
    rows = torch.randint(1, height + 1, (n,), generator=rng)
    columns = torch.randint(1, width + 1, (n,), generator=rng)
    rows[0], columns[0], rows[1], columns[1] = height, width, 1, 1
    top = (torch.rand(n, generator=rng) * (height - rows + 1)).long()
    left = (torch.rand(n, generator=rng) * (width - columns + 1)).long()
    return top, left, rows, columns


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize(
    ("height", "width", "size"),
    [(32, 32, 32), (24, 40, 32), (97, 61, 32), (96, 96, 17), (13, 50, 96)],
)
def test_resized_crop_equals_torchvision(
    interpolation: str, height: int, width: int, size: int
) -> None:
    rng = torch.Generator().manual_seed(height * width + size)
    n = 12
    images = torch.rand(n, 3, height, width, generator=rng)
    windows = random_windows(n, height, width, rng)
    flip = torch.arange(n) % 2 == 1
    crops = resized_crop(images, *windows, flip, size, interpolation)
    for i, (top, left, rows, columns) in enumerate(
        zip(*(w.tolist() for w in windows), strict=True)
    ):
        expected = tv.resized_crop(
            images[i],
            top,
            left,
            rows,
            columns,
            [size, size],
            interpolation=InterpolationMode(interpolation),
            antialias=True,
        )
        expected = tv.horizontal_flip(expected) if flip[i] else expected
        torch.testing.assert_close(crops[i], expected, atol=1e-5, rtol=0)


def test_whole_window_of_the_same_size_is_the_image_and_flip_is_torchvisions() -> None:
    images = torch.rand(6, 3, 20, 20, generator=torch.Generator().manual_seed(0))
    zero, whole = torch.zeros(6, dtype=torch.long), torch.full((6,), 20)
    flip = torch.tensor([True, False] * 3)
    crops = resized_crop(images, zero, zero, whole, whole, flip, 20)
    torch.testing.assert_close(crops[1::2], images[1::2], atol=1e-6, rtol=0)
    torch.testing.assert_close(crops[::2], tv.horizontal_flip(images[::2]), atol=1e-6, rtol=0)


def test_crop_of_a_channels_last_batch_is_the_same() -> None:
    rng = torch.Generator().manual_seed(1)
    images = torch.rand(5, 3, 30, 22, generator=rng)
    args = (*random_windows(5, 30, 22, rng), torch.zeros(5, dtype=torch.bool), 16)
    expected = resized_crop(images, *args)
    torch.testing.assert_close(
        resized_crop(images.contiguous(memory_format=torch.channels_last), *args), expected
    )


def test_crop_keeps_float32_under_autocast() -> None:
    rng = torch.Generator().manual_seed(2)
    images = torch.rand(5, 3, 30, 22, generator=rng)
    args = (*random_windows(5, 30, 22, rng), torch.zeros(5, dtype=torch.bool), 16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        crops = resized_crop(images, *args)
    assert torch.equal(crops, resized_crop(images, *args))


def test_unknown_interpolation_is_named() -> None:
    zero = torch.zeros(1, dtype=torch.long)
    with pytest.raises(ValueError, match="bicubic, bilinear, got 'lanczos'"):
        resized_crop(torch.rand(1, 3, 8, 8), zero, zero, zero + 8, zero + 8, zero > 0, 8, "lanczos")


def test_resample_is_the_matrix_product_of_every_channel() -> None:
    rng = torch.Generator().manual_seed(3)
    images = torch.rand(4, 3, 7, 5, generator=rng)
    rows, columns = torch.rand(4, 6, 7, generator=rng), torch.rand(4, 9, 5, generator=rng)
    result = resample(images, rows, columns)
    assert result.shape == (4, 3, 6, 9)
    for i in range(4):
        for channel in range(3):
            expected = rows[i].double() @ images[i, channel].double() @ columns[i].double().T
            torch.testing.assert_close(result[i, channel].double(), expected, atol=1e-5, rtol=0)


def test_cutout_equals_a_plain_loop() -> None:
    rng = torch.Generator().manual_seed(4)
    images = torch.rand(8, 3, 11, 14, generator=rng)
    top = torch.tensor([-3, 0, 2, 9, 10, 5, -1, 4])
    left = torch.tensor([5, -2, 13, 0, 12, 3, -1, 4])
    side = torch.tensor([5, 4, 6, 3, 1, 14, 20, 0])
    expected = images.clone()
    for i in range(8):
        for y in range(11):
            for x in range(14):
                if top[i] <= y < top[i] + side[i] and left[i] <= x < left[i] + side[i]:
                    expected[i, :, y, x] = 0.25
    assert torch.equal(cutout(images, top, left, side, fill=0.25), expected)


@pytest.mark.parametrize("quarters", [[0, 1, 2, 3, 3, 1, 0, 2], [0, 0, 1, 2, 2, 2, 3, 3]])
def test_rotate_equals_rot90(quarters: list[int]) -> None:
    images = torch.rand(8, 3, 9, 9, generator=torch.Generator().manual_seed(5))
    rotated = rotate_quarters(images, torch.tensor(quarters))
    for i, k in enumerate(quarters):
        assert torch.equal(rotated[i], torch.rot90(images[i], k, (1, 2)))


def test_rotate_refuses_images_that_are_not_square() -> None:
    with pytest.raises(ValueError, match=r"square images, got \(8, 9\)"):
        rotate_quarters(torch.rand(2, 3, 8, 9), torch.tensor([1, 2]))
