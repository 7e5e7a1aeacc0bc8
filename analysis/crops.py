"""Pairs of random crops of an image as prediction tasks: which kinds there are, and how often each is drawn (Figure 3).

It is a module of its own, since results are computed again if it changes (`images.report_on_images`).
"""

import numpy as np
from numpy.typing import NDArray

from .cache import Arrays
from .images import Source, to_bytes

KINDS = ("global to local", "overlapping", "adjacent")
"""One crop lies within the other; each has pixels that the other has and pixels that it lacks; they share no pixel."""
GLOBAL_TO_LOCAL, OVERLAPPING, ADJACENT = range(3)

AREAS = (0.08, 0.2, 0.3, 0.5)
"""The least areas of crops, as shares of the image: the paper's first."""
PAIRS = 100_000
SIDES = ("top", "left", "height", "width")
GLOBAL, LOCAL = 0.5, 0.25
"""In the picture, A covers at least a half of the image, and B, C and D cover at most a quarter."""


def pairs_of_crops(source: Source) -> Arrays:
    """How often each kind of pair is drawn, and the crops of the picture.

    counts: (areas, kinds), of PAIRS pairs each. images: (2, 3, S, S) uint8. windows: (2, 2, 4), a pair in each image,
    top, left, height and width in pixels: A and B, which lies within A; C and D, which are adjacent. crops:
    (2, 2, 3, S, S) uint8. Raises ValueError if there are too few images, or the pairs that the picture needs are not
    among those drawn.
    """
    import torch

    from simclr_ablate.augment.operations import RandomResizedCrop
    from simclr_ablate.augment.policies import to_float

    images = source.images(2)
    if len(images) < 2:
        raise ValueError(f"a picture of crops needs 2 test images, got {len(images)}")
    counts = [
        np.bincount(kinds(*draw_pairs(source, area)[:2]), minlength=len(KINDS)) for area in AREAS
    ]
    first, second, upright = draw_pairs(source, AREAS[0])
    windows = picture_pairs(first[upright], second[upright], source.size**2)
    rows = torch.from_numpy(windows.reshape(4, 4))
    params = {side: rows[:, number] for number, side in enumerate(SIDES)}
    params["flip"] = torch.zeros(4, dtype=torch.bool)
    crop = RandomResizedCrop(source.size, AREAS[0])
    crops = crop(to_float(images.repeat_interleave(2, 0)), params)
    return {
        "counts": np.stack(counts),
        "images": images.numpy(),
        "windows": windows,
        "crops": to_bytes(crops.view(2, 2, *crops.shape[1:])),
    }


def draw_pairs(
    source: Source, area: float
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """The windows of the first and the second crop of each of PAIRS pairs, (N, 4) each, and whether neither is flipped.

    area: the least of a crop, as a share of the image.
    """
    from simclr_ablate.augment.operations import RandomResizedCrop
    from simclr_ablate.randomness import generator

    crop = RandomResizedCrop(source.size, area)
    drawn = [
        crop.draw(PAIRS, source.size, source.size, generator(source.seed, "figure3", view))
        for view in range(2)
    ]
    first, second = (np.stack([view[side].numpy() for side in SIDES], 1) for view in drawn)
    return first, second, ~(drawn[0]["flip"] | drawn[1]["flip"]).numpy()


def kinds(first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.int64]:
    """The kind of each pair, an index into KINDS. first, second: (N, 4), windows of whole pixels."""
    shared = overlap(first, second)
    smaller = np.minimum(pixels(first), pixels(second))
    result = np.full(len(first), OVERLAPPING)
    result[shared == smaller] = GLOBAL_TO_LOCAL
    result[shared == 0] = ADJACENT
    return result


def overlap(first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many pixels the windows of each pair share."""
    begin = np.maximum(first[:, :2], second[:, :2])
    end = np.minimum(first[:, :2] + first[:, 2:], second[:, :2] + second[:, 2:])
    return np.maximum(end - begin, 0).prod(1)


def pixels(windows: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many pixels each window has."""
    return windows[:, 2:].prod(1)


def picture_pairs(
    first: NDArray[np.int64], second: NDArray[np.int64], image: int
) -> NDArray[np.int64]:
    """The first two pairs that show well what the kinds are, A and B, C and D: (2, 2, 4). image: pixels of an image.

    Raises ValueError if there are none.
    """
    of_pair = kinds(first, second)
    larger = np.maximum(pixels(first), pixels(second)) / image
    smaller = np.minimum(pixels(first), pixels(second)) / image
    good = [
        (of_pair == GLOBAL_TO_LOCAL) & (larger >= GLOBAL) & (smaller <= LOCAL),
        (of_pair == ADJACENT) & (larger <= LOCAL),
    ]
    if not all(each.any() for each in good):
        raise ValueError(f"{len(first):,} pairs of crops have none that the picture can show")
    chosen = [each.argmax() for each in good]
    pairs = np.stack([first[chosen], second[chosen]], 1)
    if pixels(pairs[0])[0] < pixels(pairs[0])[1]:
        pairs[0] = pairs[0, ::-1]
    return pairs
