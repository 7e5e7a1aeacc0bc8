"""How well h and z separate classes: t-SNE's map of some test images, and what their neighbours say (Figure B.4).

Apart from what shows it, so that what is computed is computed anew only where this changes.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from analysis.settings import shown
from analysis.weights import Arrays, load_weights
from simclr_ablate.store import Run
from simclr_ablate.terminal import count

if TYPE_CHECKING:
    from simclr_ablate.schema import Data

CLASSES, IMAGES = 10, 100
"""How many classes are shown at most, and of each how many test images at most."""
LEAST = 4
"""Images on a map."""
NEIGHBOURS, PERPLEXITY = 10, 30.0
"""At most; fewer where there are few images."""


def separation(run: Run) -> Arrays:
    """The picture and what is measured, on test images that the data's seed chooses.

    labels: (N,), which of `classes`. For h and z: map_, (N, 2), t-SNE's; right_, (N,), whether the
    image's neighbours name its class; silhouette_, (1,). Near is similar in cosine. Raises ValueError where there is
    too little to map or to measure.
    """
    # Here, so that nothing else waits for it.
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
    """Raises ValueError where neighbours or silhouettes of classes would mean nothing."""
    images, classes = len(labels), len(np.unique(labels))
    if classes < 2 or images < max(LEAST, classes + 1):
        raise ValueError(
            f"a map of classes takes two of them, two images of one, and {LEAST} images at least; the test split "
            f"has {count(images, 'image')} of {'1 class' if classes == 1 else f'{classes} classes'}"
        )
    for name, x in features.items():
        if not np.isfinite(x).all():
            raise ValueError(f"{name} is not finite")


def flat_map(x: NDArray[np.float64]) -> NDArray[np.float32]:
    """t-SNE's map of x, (N, D), from its principal components where it has two: (N, 2)."""
    from sklearn.manifold import TSNE

    varies = x.shape[1] > 1 and bool(np.ptp(x, axis=0).any())
    start = "pca" if varies else "random"
    near = perplexity(len(x))
    points: NDArray[np.float32] = TSNE(
        metric="cosine", init=start, perplexity=near, random_state=0
    ).fit_transform(x)
    return points


def perplexity(images: int) -> float:
    """t-SNE's, which looks at three times as many neighbours: fewer than there are other images."""
    return min(PERPLEXITY, (images - 1) / 3)


def embed(run: Run) -> tuple[dict[str, NDArray[np.float64]], NDArray[np.int64], list[str]]:
    """h and z, (N, D) each, of some test images; their labels (N,); the labels' classes."""
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


def check_images(data: "Data") -> None:
    """Raises ValueError where the images cannot be those that the run had."""
    from simclr_ablate.config import is_own
    from simclr_ablate.data.listing import fingerprint, list_images

    if is_own(data.name):
        raise ValueError(f"images of {data.name} are made by code that the analysis does not call")
    if (
        data.name == "imagenet" and data.root is not None
    ):  # other folders are opened by their fingerprint
        images = fingerprint(list_images(data.root, data.name, data.on_error), data.on_error)
        if data.fingerprint not in (None, images):
            raise ValueError(f"the images in {data.root} have changed since")


def choose(labels: NDArray[np.int64], seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """At most CLASSES of the labels, in their order, and at most IMAGES rows of each."""
    rng = np.random.default_rng(seed)
    known = np.unique(labels)
    shown = np.sort(rng.permutation(known)[:CLASSES])
    rows = [rng.permutation(np.flatnonzero(labels == label))[:IMAGES] for label in shown]
    return shown, np.sort(np.concatenate(rows))


def neighbours_agree(x: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether the commonest class of each row's nearest other rows is its own; ties: the lowest.

    x: (N, D). Near is similar in cosine.
    """
    # A row of zeros is as far from all others.
    x = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), np.finfo(float).tiny)
    similarity = x @ x.T
    np.fill_diagonal(similarity, -np.inf)
    near = neighbours(len(x))
    nearest = np.argpartition(-similarity, near - 1, axis=1)[:, :near]
    votes = np.eye(labels.max() + 1)[labels[nearest]].sum(1)
    return votes.argmax(1) == labels


def neighbours(images: int) -> int:
    """How many of the others name an image's class."""
    return min(NEIGHBOURS, images - 1)
