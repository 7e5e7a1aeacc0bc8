"""Whether models were right about each test image, and which of them differ: the marks of Tables 8 and B.5."""

import functools
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from simclr_ablate.store import Run

from .permutation import LEVEL, exchange_test

Name = TypeVar("Name", bound=Hashable)


@dataclass(frozen=True)
class Rights:
    """How often a model was right about each test image.

    share: (N,), the share of seeds at which it was. labels: (N,), the images' classes; or (N, classes), 1 for each of
    an image's classes, if it may have several. Then a model is right if its first choice is one of them.
    """

    share: NDArray[np.float64]
    labels: NDArray[Any]


def rights(runs: pd.DataFrame) -> Rights | None:
    """Those of evaluations on the same test images, one for each seed.

    None if the results of an evaluation are missing or damaged, which is reported, or if they are of other images.
    """
    found = []
    for path, key in zip(runs["path"], runs["evaluation"], strict=True):
        arrays = Run(Path(path)).evaluating(key).examples()
        if arrays is None:
            return None
        found.append(arrays)
    known = [each["labels"] if "labels" in each else each["label"] for each in found]
    if not found or any(not np.array_equal(labels, known[0]) for labels in known):
        return None
    right = [
        _is_right(each["prediction"], labels) for each, labels in zip(found, known, strict=True)
    ]
    return Rights(np.mean(right, axis=0), known[0])


def _is_right(predicted: NDArray[Any], labels: NDArray[Any]) -> NDArray[np.bool_]:
    if labels.ndim == 1:
        right: NDArray[np.bool_] = predicted == labels
        return right
    return labels[np.arange(len(labels)), predicted] == 1


def not_worse_than_best(
    values: Mapping[Name, float], models: Mapping[Name, Rights | None], per_class: bool
) -> set[Name]:
    """The model with the highest value, and those that the permutation test does not tell from it (p > LEVEL).

    None of them if a model's results are missing, as nothing can be said then. per_class: whether the value is the mean
    accuracy over classes; of 11-point mAP, the accuracy is tested, as in the paper.
    """
    if not values or any(models.get(name) is None for name in values):
        return set()
    best = max(values, key=values.__getitem__)
    return {best} | {
        name
        for name in values
        if name != best and p_value(models[best], models[name], per_class) > LEVEL
    }


def p_value(one: Rights | None, other: Rights | None, per_class: bool) -> float:
    """The permutation test's p value; NaN if one side is missing, or if they are of other images."""
    if one is None or other is None:
        return float("nan")
    if not np.array_equal(one.labels, other.labels):
        return float("nan")
    classes = one.labels.astype(np.int64).tobytes() if per_class else None
    return _exchanged(one.share.tobytes(), other.share.tobytes(), classes)


@functools.lru_cache(maxsize=256)
def _exchanged(one: bytes, other: bytes, classes: bytes | None) -> float:
    """The test of two models' shares. A table asks it of the same two for its bold marks, its counts and its claims."""
    groups = None if classes is None else np.frombuffer(classes, np.int64)
    return exchange_test(np.frombuffer(one), np.frombuffer(other), groups)
