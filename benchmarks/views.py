"""SimCLR's policy with blur, two views of each image, 32 px, on one core, beside lightly and kornia."""

from collections.abc import Callable

import kornia.augmentation as kornia
import torch
from lightly.transforms.simclr_transform import SimCLRTransform
from PIL import Image
from torch import Tensor

from benchmarks.measure import best_seconds, print_table
from simclr_ablate.augment.policies import simclr_policy
from simclr_ablate.data.shapes import make_shapes
from simclr_ablate.freed_memory import keep_freed_memory
from simclr_ablate.randomness import generator

IMAGES = 256


def main() -> None:
    torch.set_num_threads(1)
    keep_freed_memory()  # for all of them, as in a run
    images, _ = make_shapes(IMAGES, seed=0)
    candidates = {
        "simclr_ablate": ours(images, "pytorch"),
        "simclr_ablate, views.color=tensorflow": ours(images, "tensorflow"),
        "kornia AugmentationSequential": kornias(images),
        "lightly SimCLRTransform": lightlys(images),
    }
    best = best_seconds(candidates, rounds=10)
    reference = best["simclr_ablate"]
    rows = [
        [name, f"{seconds / IMAGES * 1e6:.0f}", f"{seconds / reference:.1f}x"]
        for name, seconds in best.items()
    ]
    print_table(["two views of each of 256 images, 32 px", "µs per image", "time"], rows)


def ours(images: Tensor, color: str) -> Callable[[], Tensor]:
    policy = simclr_policy(32, color=color)
    return lambda: policy.two_views(images, generator(0, "views"))


def lightlys(images: Tensor) -> Callable[[], Tensor]:
    """lightly's transform, which works on one PIL image at a time."""
    transform = SimCLRTransform(input_size=32)
    pictures = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in images]

    def make() -> Tensor:
        views = [transform(picture) for picture in pictures]
        return torch.stack([view[0] for view in views] + [view[1] for view in views])

    return make


def kornias(images: Tensor) -> Callable[[], Tensor]:
    policy = kornia.AugmentationSequential(
        kornia.RandomResizedCrop((32, 32), scale=(0.08, 1.0), resample="bicubic"),
        kornia.RandomHorizontalFlip(),
        kornia.ColorJitter(0.8, 0.8, 0.8, 0.2, p=0.8),
        kornia.RandomGrayscale(p=0.2),
        kornia.RandomGaussianBlur((3, 3), (0.1, 2.0), p=0.5),
    )

    def make() -> Tensor:
        floats = images.float() / 255
        return torch.cat([policy(floats), policy(floats)])

    return make


if __name__ == "__main__":
    main()
