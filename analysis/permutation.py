"""Whether two models that are tested on the same images differ: the permutation test behind Tables 8 and B.5."""

import numpy as np
from numpy.typing import ArrayLike

DRAWS = 100_000
LEVEL = 0.05
"""Above this p value, two models count as equal (App. B.8)."""


def exchange_test(
    first: ArrayLike,
    second: ArrayLike,
    classes: ArrayLike | None = None,
    draws: int = DRAWS,
    seed: int = 0,
) -> float:
    """The two-sided p value of the difference in accuracy between two models, from `draws` exchanges (App. B.8).

    If the models are equally good, each image's two predictions can change places. An exchange swaps every pair with
    probability 1/2, and p is the share of exchanges whose accuracies differ at least as much as the models' own; the
    models' own count as one more. If a model has several seeds, all its predictions for an image change places
    together. The test covers the choice of test images, not that of the seeds.

    first, second: (N,), whether each model is right about each image, or the share of its seeds at which it is.
    classes: (N,) int, each image's class, for the mean per-class accuracy; None for the accuracy over all images, for
    which this is McNemar's exact test up to the draws if each model has one seed. draws: how many exchanges. seed: of
    the exchanges.

    Raises ValueError for arrays of different or no length.
    """
    right, other = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    groups = np.zeros(len(right), dtype=int) if classes is None else np.asarray(classes)
    if not len(right) == len(other) == len(groups) or not len(right):
        raise ValueError(
            "one entry per image is needed on either side, "
            f"got {len(right)}, {len(other)} and {len(groups)}"
        )
    _, group, images = np.unique(groups, return_inverse=True, return_counts=True)
    # Exchanged, an image moves the difference as much as any other on which the models differ as much, in a class of
    # its size; where they do not differ, it never does. So images are counted by how much they move it.
    moves = (right - other) / (images[group] * len(images))
    # Rounded, so that equal moves are equal after other divisions, too.
    sizes, size = np.unique(np.abs(moves).round(15), return_inverse=True)
    gained = np.bincount(size[moves > 0], minlength=len(sizes))
    lost = np.bincount(size[moves < 0], minlength=len(sizes))
    generator = np.random.default_rng(seed)
    differences = np.zeros(draws)
    for move, disputed in zip(sizes, gained + lost, strict=True):
        if disputed:
            differences += move * (2 * generator.binomial(disputed, 0.5, size=draws) - disputed)
    observed = abs(float(sizes @ (gained - lost)))
    least = observed * (1 - 1e-9)  # sums of the same terms in another order are equal
    return (int((np.abs(differences) >= least).sum()) + 1) / (draws + 1)
