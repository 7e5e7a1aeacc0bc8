"""How well h and z separate classes: t-SNE's maps of some test images, kNN and silhouettes (Figure B.4).

It is a module of its own, since results are computed again if it changes (`weights.kept`).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simclr_ablate.store import Run
from simclr_ablate.terminal import count

from .cache import Arrays
from .images import check_images
from .settings import shown
from .weights import load_weights

CLASSES, IMAGES = 10, 100
"""The most classes that are shown, and the most test images of each."""
LEAST = 4
"""The fewest images on a map."""
NEIGHBOURS, PERPLEXITY = 10, 30.0
"""Upper limits; both are lower with few images."""


def separation(run: Run) -> Arrays:
    """The maps and the measurements, on test images that are chosen with the data's seed.

    classes: the names of the classes. labels: (N,), indices into `classes`. For each of h and z: map_*: (N, 2), t-SNE's
    map; right_*: (N,), whether an image's neighbours name its class; silhouette_*: (1,). Distances are cosine
    distances. Raises ValueError if there are too few images, or features that are not finite.
    """
    # Imported here to keep everything else from waiting for it.
    from sklearn.metrics import silhouette_score

    features, labels, classes = embed(run)
    check_features(features, labels)
    result: dict[str, NDArray[Any]] = {"labels": labels, "classes": np.array(classes)}
    for name, x in features.items():
        result[f"map_{name}"] = flat_map(x)
        result[f"right_{name}"] = neighbours_agree(x, labels)
        result[f"silhouette_{name}"] = np.array([silhouette_score(x, labels, metric="cosine")])
    return result


def check_features(features: Mapping[str, NDArray[np.float64]], labels: NDArray[np.int64]) -> None:
    """Raises ValueError if the neighbours or silhouettes of classes would be meaningless.

    features: (N, D) each. labels: (N,).
    """
    images, classes = len(labels), len(np.unique(labels))
    if classes < 2 or images < max(LEAST, classes + 1):
        raise ValueError(
            f"a map needs at least 2 classes, {LEAST} images, and more images than classes; the test split has "
            f"{count(images, 'image')} of {'1 class' if classes == 1 else f'{classes} classes'}"
        )
    for name, x in features.items():
        if not np.isfinite(x).all():
            raise ValueError(f"{name} must be finite")


def flat_map(x: NDArray[np.float64]) -> NDArray[np.float32]:
    """t-SNE's map of x, (N, D), started from its principal components if it has two: (N, 2)."""
    from sklearn.manifold import TSNE

    varies = x.shape[1] > 1 and bool(np.ptp(x, axis=0).any())
    start = "pca" if varies else "random"
    near = perplexity(len(x))
    points: NDArray[np.float32] = TSNE(
        metric="cosine", init=start, perplexity=near, random_state=0
    ).fit_transform(x)
    return points


def perplexity(images: int) -> float:
    """t-SNE's perplexity. It uses three times as many neighbours, which must not exceed the number of other images."""
    return min(PERPLEXITY, (images - 1) / 3)


def embed(run: Run) -> tuple[dict[str, NDArray[np.float64]], NDArray[np.int64], list[str]]:
    """h and z of some test images, (N, D) each, their labels (N,), and the names of the classes."""
    import torch

    from simclr_ablate.cores import available_cores
    from simclr_ablate.data.splits import open_data
    from simclr_ablate.evaluation.features import FEATURE_BATCH, extract
    from simclr_ablate.paths import default_cache
    from simclr_ablate.schema import Experiment
    from simclr_ablate.tasks.networks import build_models

    experiment = Experiment.from_config(run.config())
    check_images(experiment.data)
    encoder, head = build_models(experiment, torch.device("cpu"))
    weights = load_weights(run)
    encoder.load_state_dict(weights["encoder"])
    head.load_state_dict(weights["head"])
    cache = Path(default_cache()).expanduser()
    test = open_data(experiment.data, cache, available_cores()).test
    picked, rows = choose(test.labels.numpy(), experiment.data.seed)
    few = test.subset(torch.from_numpy(rows))
    h, z = (extract(encoder, few.batches(FEATURE_BATCH), head=used) for used in (None, head))
    labels = np.searchsorted(picked, h.labels.numpy())
    features = {"h": h.features.double().numpy(), "z": z.features.double().numpy()}
    return features, labels, [shown(str(test.classes[label])) for label in picked]


def choose(labels: NDArray[np.int64], seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """At most CLASSES of the labels, sorted, and at most IMAGES rows of each, sorted."""
    rng = np.random.default_rng(seed)
    known = np.unique(labels)
    shown = np.sort(rng.permutation(known)[:CLASSES])
    rows = [rng.permutation(np.flatnonzero(labels == label))[:IMAGES] for label in shown]
    return shown, np.sort(np.concatenate(rows))


def neighbours_agree(x: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether the most common class among each row's nearest other rows is its own. Ties go to the lowest label.

    x: (N, D). labels: (N,). The nearest rows have the greatest cosine similarity.
    """
    # A row of zeros is equally far from all others.
    x = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), np.finfo(float).tiny)
    similarity = x @ x.T
    np.fill_diagonal(similarity, -np.inf)
    near = neighbours(len(x))
    nearest = np.argpartition(-similarity, near - 1, axis=1)[:, :near]
    votes = np.eye(labels.max() + 1)[labels[nearest]].sum(1)
    return votes.argmax(1) == labels


def neighbours(images: int) -> int:
    """How many nearest other images vote on an image's class."""
    return min(NEIGHBOURS, images - 1)
