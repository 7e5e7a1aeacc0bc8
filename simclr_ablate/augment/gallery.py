"""A picture of every operation and policy: `python -m simclr_ablate.augment.gallery --out views.png`."""

import argparse
from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from PIL import Image, ImageOps
from torch import Tensor

from simclr_ablate.augment.operations import (
    ColorJitter,
    Equalize,
    Grayscale,
    MotionBlur,
    Operation,
    Solarize,
)
from simclr_ablate.augment.policies import (
    Policy,
    autoaugment_policy,
    no_policy,
    pair_policy,
    simclr_policy,
)
from simclr_ablate.augment.registry import OPERATIONS, Magnitudes, make_operations
from simclr_ablate.data.shapes import make_shapes
from simclr_ablate.randomness import generator

SAMPLES = 4
_DRAWS = 5
_TEXT = {
    "crop": "crop\narea from 8%, flip",
    "cutout": "cutout\nhalf of the side",
    "color": "color\njitter p 0.8, grey p 0.2",
    "sobel": "sobel",
    "noise": "noise\nstd 0.05 to 0.15",
    "blur": "blur\nsigma 0.1 to 2",
    "rotate": "rotate\n90, 180 or 270 degrees",
}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m simclr_ablate.augment.gallery",
        description="Draws every operation and policy on sample images.",
    )
    parser.add_argument("--out", type=Path, required=True, help="the picture to write (.png, .pdf)")
    parser.add_argument("--images", type=Path, help="folder of images (default: embedded shapes)")
    parser.add_argument("--size", type=int, default=32, help="side of the views, pixels")
    parser.add_argument("--seed", type=int, default=0, help="seed of all draws")
    args = parser.parse_args()
    images = sample_shapes(args.seed) if args.images is None else load(args.images, args.size)
    draw_gallery(images, args.size, args.seed, args.out)


def sample_shapes(seed: int) -> Tensor:
    """Images of SAMPLES classes of `shapes`: uint8 (SAMPLES, 3, 32, 32)."""
    images, labels = make_shapes(100, seed)
    return torch.stack([images[labels == label][0] for label in (1, 9, 4, 6)])


def load(folder: Path, size: int) -> Tensor:
    """The first SAMPLES images of `folder` by name, their central squares resized: uint8 (SAMPLES, 3, S, S)."""
    known = set(Image.registered_extensions())
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in known)[:SAMPLES]
    if len(paths) < SAMPLES:
        raise SystemExit(f"--images must hold at least {SAMPLES} images, got {folder}")
    squares = [ImageOps.fit(Image.open(path).convert("RGB"), (size, size)) for path in paths]
    return torch.from_numpy(np.stack([np.array(square) for square in squares])).permute(0, 3, 1, 2)


def draw_gallery(images: Tensor, size: int, seed: int, path: Path) -> None:
    """Writes the picture. images: uint8 (SAMPLES, 3, H, W)."""
    operations, policies = operation_rows(size), policy_rows(size)
    heights = [len(operations), len(policies)]
    figure, (upper, lower) = plt.subplots(
        2, 1, figsize=(11.6, 0.82 * sum(heights) + 1.6), height_ratios=heights, layout="constrained"
    )
    tiles = [draws(chain, images, size, seed) for _, chain in operations]
    columns = (["image", *["draw"] * _DRAWS]) * 2
    show(upper, tiles, [name for name, _ in operations], columns, 1 + _DRAWS)
    upper.set_title("Operations: always applied, drawn anew for every image", pad=14, weight="bold")
    tiles = [pairs(policy, images, size, seed) for _, policy in policies]
    show(lower, tiles, [name for name, _ in policies], ["image", "view 1", "view 2"] * SAMPLES, 3)
    lower.set_title("Policies: the two views of an image", pad=14, weight="bold")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, bbox_inches="tight")
    plt.close(figure)


def operation_rows(size: int) -> list[tuple[str, list[Operation]]]:
    """Names and operations: Figure 5's, the parts of color, and the rest."""
    magnitudes = Magnitudes(size)
    named = [(_TEXT.get(name, name), make_operations(name, magnitudes)) for name in OPERATIONS]
    return [
        *named,
        ("jitter\nstrength 1/4", [ColorJitter(0.25)]),
        ("jitter\nstrength 1", [ColorJitter()]),
        ("grayscale", [Grayscale()]),
        ("solarize\nthreshold 0.5", [Solarize()]),
        ("equalize", [Equalize()]),
        ("motion blur\nup to a fifth", [MotionBlur()]),
    ]


def policy_rows(size: int) -> list[tuple[str, Policy]]:
    """Names and policies."""
    return [
        ("simclr\nstrength 1, blur", simclr_policy(size)),
        ("simclr\nstrength 1/2, no blur", simclr_policy(size, 0.5, blur=False)),
        ("simclr\nbroader", simclr_policy(size, extra="broader")),
        ("autoaugment", autoaugment_policy(size)),
        ("pair\ncolor", pair_policy(size, "color")),
        ("pair\ncrop, then color", pair_policy(size, "crop", "color")),
        ("pair\nnoise, then rotate", pair_policy(size, "noise", "rotate")),
        ("none", no_policy(size)),
    ]


def draws(chain: Sequence[Operation], images: Tensor, size: int, seed: int) -> Tensor:
    """Two images, each followed by what `chain` makes of it: (2 * (1 + _DRAWS), 3, S, S)."""
    plain = no_policy(size).one_view(images[:2], generator(seed, "gallery"))
    repeated = plain.repeat_interleave(_DRAWS, 0)
    changed = Policy(first=chain).one_view(repeated, generator(seed, "gallery"))
    return torch.cat([plain[:, None], changed.view(2, _DRAWS, *plain.shape[1:])], 1).flatten(0, 1)


def pairs(policy: Policy, images: Tensor, size: int, seed: int) -> Tensor:
    """Each image followed by its two views: (3 * SAMPLES, 3, S, S)."""
    plain = no_policy(size).one_view(images, generator(seed, "gallery"))
    views = policy.two_views(images, generator(seed, "gallery"))
    return torch.stack([plain, *views.chunk(2)], 1).flatten(0, 1)


def show(axes: Axes, rows: list[Tensor], names: list[str], columns: list[str], group: int) -> None:
    """Shows rows of tiles as one image with labels, with a wider gap after every `group` columns."""
    side = rows[0].shape[-1]
    gap = max(1, side // 16)
    step = side + gap
    # Rows are equally wide, however many groups they have, so all tiles have the same scale.
    between = 9 * gap // (len(columns) // group - 1)
    offsets = [i * step + i // group * between for i in range(len(columns))]
    canvas = torch.ones(3, len(rows) * step - gap, offsets[-1] + side)
    for i, row in enumerate(rows):
        for offset, tile in zip(offsets, row, strict=True):
            canvas[:, i * step : i * step + side, offset : offset + side] = tile
    axes.imshow(canvas.permute(1, 2, 0).numpy(), interpolation="nearest")
    axes.set_yticks([i * step + side / 2 for i in range(len(rows))], names, fontsize=10)
    axes.set_xticks([offset + side / 2 for offset in offsets], columns, fontsize=9)
    axes.tick_params(length=0, top=False, labeltop=True, labelbottom=False)
    axes.spines[:].set_visible(False)


if __name__ == "__main__":
    main()
