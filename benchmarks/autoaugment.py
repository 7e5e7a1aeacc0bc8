"""AutoAugment at 32 and 224 px on one core, beside SimCLR's policy and torchvision's AutoAugment, image by image."""

from collections.abc import Callable

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms import AutoAugmentPolicy, InterpolationMode, v2

from benchmarks.measure import best_seconds, print_table
from simclr_ablate.augment.policies import Policy, autoaugment_policy, crop_policy, simclr_policy
from simclr_ablate.freed_memory import keep_freed_memory
from simclr_ablate.randomness import generator

SIZES = {32: (256, AutoAugmentPolicy.CIFAR10), 224: (32, AutoAugmentPolicy.IMAGENET)}
"""The number of images and torchvision's policy, by the side of the images."""


def main() -> None:
    torch.set_num_threads(1)
    keep_freed_memory()
    for size, (count, table) in SIZES.items():
        coarse = torch.rand(count, 3, size // 4, size // 4)
        images = (F.interpolate(coarse, size=size, mode="bilinear") * 255).to(torch.uint8)
        candidates = {
            "crop and flip": ours(crop_policy(size), images),
            "SimCLR's policy with blur": ours(simclr_policy(size), images),
            "AutoAugment": ours(autoaugment_policy(size), images),
            "torchvision's AutoAugment, PIL": torchvisions(size, table, images),
        }
        best = best_seconds(candidates, rounds=6)
        reference = best["AutoAugment"]
        rows = [
            [name, f"{seconds / count * 1e6:.0f}", f"{seconds / reference:.1f}x"]
            for name, seconds in best.items()
        ]
        print_table(
            [f"one view of each of {count} images, {size} px", "µs per image", "time"], rows
        )


def ours(policy: Policy, images: Tensor) -> Callable[[], Tensor]:
    return lambda: policy.one_view(images, generator(0, "views"))


def torchvisions(size: int, table: AutoAugmentPolicy, images: Tensor) -> Callable[[], Tensor]:
    """torchvision's AutoAugment on one PIL image at a time, which is quicker than on one tensor at a time."""
    transform = v2.Compose(
        [
            v2.RandomResizedCrop(size, interpolation=InterpolationMode.BICUBIC),
            v2.RandomHorizontalFlip(),
            v2.AutoAugment(table),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
        ]
    )
    pictures = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in images]
    return lambda: torch.stack([transform(picture) for picture in pictures])


if __name__ == "__main__":
    main()
