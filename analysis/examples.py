"""Whether models were right about each test image, and which of them differ: the marks of Tables 8 and B.5."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.permutation import LEVEL, exchange_test
from simclr_ablate.store import Run

Name = TypeVar("Name", bound=Hashable)


@dataclass(frozen=True)
class Rights:
    """How often a model was right about each test image.

    share: (N,), the share of seeds at which it was. labels: (N,), the images' classes.
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
    if not found or any(not np.array_equal(each["label"], found[0]["label"]) for each in found):
        return None
    right = [each["prediction"] == each["label"] for each in found]
    return Rights(np.mean(right, axis=0), found[0]["label"])


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
        if name != best and _p_value(models[best], models[name], per_class) > LEVEL
    }


def _p_value(one: Rights | None, other: Rights | None, per_class: bool) -> float:
    assert one is not None
    assert other is not None
    if not np.array_equal(one.labels, other.labels):
        return float("nan")  # of other images: nothing can be said
    return exchange_test(one.share, other.share, one.labels if per_class else None)
