"""The weighted k-nearest-neighbour classifier of Wu et al. 2018 (Section 3.4): the protocol `knn`."""

import torch
from torch import Tensor
from torch.nn import functional as F

from simclr_ablate.evaluation.features import Features
from simclr_ablate.evaluation.metrics import METRICS
from simclr_ablate.evaluation.protocol import Evaluator, Frozen, Result, Subject, classified

_BLOCK_ELEMENTS = 2**23


def evaluate(subject: Subject, frozen: Frozen) -> Result:
    """kNN on the frozen features. The scores of an example are the shares of its neighbours' votes."""
    k, device = subject.experiment.evaluation.knn, subject.device
    votes, on_validation = (
        knn_votes(frozen.train, split.features, k, subject.classes, device=device)
        for split in (frozen.test, frozen.validation)
    )
    # Logits whose softmax gives the shares.
    metrics, examples = classified(votes.log(), frozen.test.labels, subject.metric)
    validation = METRICS[subject.metric](on_validation, frozen.validation.labels)
    return Result({**metrics, f"validation_{subject.metric}": validation}, examples)


PROTOCOL = Evaluator(on_features=evaluate)


def knn_predict(
    train: Features,
    queries: Tensor,
    k: int,
    temperature: float = 0.07,
    device: torch.device | str = "cpu",
) -> Tensor:
    """The class of each query with the most of `knn_votes`, (N,) int64."""
    classes = int(train.labels.max()) + 1
    return knn_votes(train, queries, k, classes, temperature, device).argmax(1)


def knn_votes(
    train: Features,
    queries: Tensor,
    k: int,
    classes: int,
    temperature: float = 0.07,
    device: torch.device | str = "cpu",
) -> Tensor:
    """The votes of each query's k nearest neighbours in `train`, (N, classes), on the CPU.

    Neighbours are compared by cosine similarity s, and a vote weighs exp(s / temperature). Wu et al.
    use k = 200 and a temperature of 0.07. If images have several labels, a neighbour votes for each of its own, and the
    weights of a query's votes are divided by their sum, which makes queries comparable. Similarities are computed for a
    block of queries at a time, on `device`.

    Raises ValueError if k is not in 1..len(train), or temperature <= 0.
    """
    if not 1 <= k <= len(train.labels):
        raise ValueError(f"evaluation.knn must be >= 1 and <= {len(train.labels)}, got {k}")
    if not temperature > 0:
        raise ValueError(f"temperature must be > 0, got {temperature}")
    keys = F.normalize(train.features.float().to(device))
    labels = train.labels.to(device)
    width = max(len(keys), k * classes if labels.ndim == 2 else 0)
    rows = max(1, _BLOCK_ELEMENTS // width)
    tallies = []
    for block in queries.split(rows):
        similarities, neighbours = (F.normalize(block.float().to(device)) @ keys.T).topk(
            k, sorted=False
        )
        # Relative to the nearest, so that no temperature overflows.
        nearest = similarities.amax(1, keepdim=True)
        votes = similarities.sub_(nearest).div_(temperature).exp_()
        if labels.ndim == 2:
            shares = votes / votes.sum(1, keepdim=True)
            tally = torch.einsum("qk,qkc->qc", shares, (labels[neighbours] == 1).to(votes.dtype))
        else:
            tally = votes.new_zeros(len(block), classes)
            tally.scatter_add_(1, labels[neighbours], votes)
        tallies.append(tally.cpu())
    return torch.cat(tallies)
