"""Histograms of the intensities of crops, and how well they tell which crops are of one image (Figure 6).

It is a module of its own, since results are computed again if it changes (`images.report_on_images`).
"""

import numpy as np
from numpy.typing import NDArray

from .cache import Arrays
from .images import Source, to_bytes

IMAGES, CROPS = 2, 4
"""The images in the picture, and the crops of each."""
BATCHES, BATCH = 16, 128
"""The most batches of pairs that are measured, and the most images of each."""
BINS = 32
LEAST = 4
"""The fewest test images: two batches of two."""


def histograms(source: Source) -> Arrays:
    """The crops of the picture with their histograms, and the measurements on batches of pairs.

    images: (IMAGES, 3, S, S) uint8. windows: (IMAGES, CROPS, 4), top, left, height and width in pixels. In the others,
    the first axis is without and with colour distortion, of the same crops. crops: (2, IMAGES, CROPS, 3, S, S) uint8.
    counts: (2, IMAGES, CROPS, BINS). found, same, other: (2, batches), see `recognised`. batch: (), images of a batch.
    Raises ValueError if there are too few images.
    """
    from simclr_ablate.augment.policies import Policy
    from simclr_ablate.augment.registry import Magnitudes, make_operations
    from simclr_ablate.randomness import generator

    images = source.images(BATCHES * BATCH)
    batches, batch = layout(len(images))
    magnitudes = Magnitudes(source.size)
    crop, color = (make_operations(name, magnitudes) for name in ("crop", "color"))
    # All draws of the crop come first, so the same generator gives the same crops.
    policies = [Policy(first=chain, second=chain) for chain in (crop, crop + color)]

    repeated = images[:IMAGES].repeat_interleave(CROPS, 0)
    shown = [to_bytes(p.one_view(repeated, generator(source.seed, "figure6"))) for p in policies]
    side = source.size
    drawn = crop[0].draw(len(repeated), side, side, generator(source.seed, "figure6"))
    windows = np.stack([drawn[name].numpy() for name in ("top", "left", "height", "width")], 1)
    measured = [
        [
            recognised(
                counts(to_bytes(policy.two_views(part, generator(source.seed, "figure6", number))))
            )
            for number, part in enumerate(images[: batches * batch].split(batch))
        ]
        for policy in policies
    ]
    found, same, other = np.array(measured).transpose(2, 0, 1)
    return {
        "images": images[:IMAGES].numpy(),
        "windows": windows.reshape(IMAGES, CROPS, 4),
        "crops": np.stack([crops.reshape(IMAGES, CROPS, *crops.shape[1:]) for crops in shown]),
        "counts": np.stack([counts(crops).reshape(IMAGES, CROPS, BINS) for crops in shown]),
        "found": found,
        "same": same,
        "other": other,
        "batch": np.array(batch),
    }


def layout(images: int) -> tuple[int, int]:
    """Into how many batches so many images are divided, at least two, and the images of each.

    Raises ValueError if there are fewer than LEAST.
    """
    if images < LEAST:
        raise ValueError(f"histograms of pairs need at least {LEAST} test images, got {images}")
    batch = min(BATCH, images // 2)
    return min(BATCHES, images // batch), batch


def counts(views: NDArray[np.uint8]) -> NDArray[np.int64]:
    """How many values of each view, over all channels, are in each of BINS equal bins. views: (N, 3, S, S)."""
    bins = views.reshape(len(views), -1).astype(np.int64) * BINS // 256
    bins += BINS * np.arange(len(views))[:, None]
    return np.bincount(bins.ravel(), minlength=BINS * len(views)).reshape(-1, BINS)


def recognised(of_views: NDArray[np.int64]) -> tuple[float, float, float]:
    """How well histograms pair the views of a batch; rows i and i + N are of image i. of_views: (2N, BINS).

    Returns, in percent: the views whose partner is nearer than every other view, the mean distance to the partner, and
    the mean distance to the others. The distance is the share of one view's values that would have to change bins to
    give the other's histogram: half of the L1 distance of the two.
    """
    from scipy.spatial.distance import cdist  # slow to import

    views = len(of_views)
    distances = cdist(of_views, of_views, "cityblock")  # of whole numbers, so exact
    rows = np.arange(views)
    partners = (rows + views // 2) % views
    partner = distances[rows, partners]
    others = np.ones((views, views), bool)
    others[rows, rows] = others[rows, partners] = False
    nearest = np.where(others, distances, np.inf).min(1)
    percent = 100 / (2 * of_views[0].sum())
    found = 100 * (partner < nearest).mean()
    return float(found), float(percent * partner.mean()), float(percent * distances[others].mean())
