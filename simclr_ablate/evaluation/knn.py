"""The weighted k-nearest-neighbour classifier of Wu et al. 2018 (Section 3.4)."""

import torch
from torch import Tensor
from torch.nn import functional as F

from simclr_ablate.evaluation.features import Features

_BLOCK_ELEMENTS = 2**23


def knn_top1(train: Features, test: Features, k: int, temperature: float = 0.07) -> float:
    """Top-1 accuracy on `test` in percent: see `knn_predict`."""
    predictions = knn_predict(train, test.features, k, temperature)
    return 100 * (predictions == test.labels).double().mean().item()


def knn_predict(train: Features, queries: Tensor, k: int, temperature: float = 0.07) -> Tensor:
    """(N,) int64, the class of each query: its k nearest neighbours in `train` vote.

    Near is similar in cosine s; a vote weighs exp(s / temperature). Wu et al. take k = 200 and a
    temperature of .07. Similarities are held a block of queries at a time.

    Raises ValueError for a k that is not of 1..len(train), or a temperature <= 0.
    """
    if not 1 <= k <= len(train.labels):
        raise ValueError(f"evaluation.knn must be >= 1 and <= {len(train.labels)}, got {k}")
    if not temperature > 0:
        raise ValueError(f"temperature must be > 0, got {temperature}")
    keys = F.normalize(train.features.float())
    classes = int(train.labels.max()) + 1
    rows = max(1, _BLOCK_ELEMENTS // len(keys))
    predictions = []
    for block in F.normalize(queries.float()).split(rows):
        similarities, neighbours = (block @ keys.T).topk(k, sorted=False)
        # Relative to the nearest, so that no temperature overflows.
        nearest = similarities.amax(1, keepdim=True)
        votes = similarities.sub_(nearest).div_(temperature).exp_()
        tally = votes.new_zeros(len(block), classes)
        tally.scatter_add_(1, train.labels[neighbours], votes)
        predictions.append(tally.argmax(1))
    return torch.cat(predictions)
