"""Accuracies of a classifier on a set of images, in percent."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F


def accuracies(scores: Tensor, labels: Tensor, metric: str) -> dict[str, float]:
    """`top1`, `top5` and `metric`, if that is another; of images with several labels, only `metric`.

    scores: (N, classes), higher for more likely classes. labels: (N,) int64, or (N, classes) if images may have
    several. metric: see METRICS.
    """
    if labels.ndim == 2:
        return {metric: METRICS[metric](scores, labels)}
    usual = {"top1": top_accuracy(1, scores, labels), "top5": top_accuracy(5, scores, labels)}
    return usual if metric in usual else {metric: METRICS[metric](scores, labels), **usual}


def top_accuracy(k: int, scores: Tensor, labels: Tensor) -> float:
    """The share of images, in percent, whose label is among their k largest scores, (N, classes)."""
    best = scores.topk(min(k, scores.shape[1])).indices
    return 100 * (best == labels.unsqueeze(1)).any(1).double().mean().item()


def mean_per_class(scores: Tensor, labels: Tensor) -> float:
    """The mean over classes of top-1 accuracy, in percent; classes without images are left out."""
    classes = scores.shape[1]
    right = (scores.argmax(1) == labels).double()
    count = labels.bincount(minlength=classes)
    hits = torch.zeros(classes, dtype=torch.float64, device=labels.device)
    hits.scatter_add_(0, labels, right)
    there = count > 0
    return 100 * (hits[there] / count[there]).mean().item()


def map11(scores: Tensor, targets: Tensor) -> float:
    """11-point mean average precision, in percent, as PASCAL VOC 2007 defines it.

    For each class, the images are ranked by their score for it; its average precision is the mean, over recalls of
    0, .1, ..., 1, of the largest precision at that recall or more (Everingham et al. 2010, Section 4.2).

    targets: (N,) int64, the class of each image; or (N, classes), if images may have several: 1 for a class that the
    image has, 0 for one that it does not have, -1 to leave the image out of the class (VOC's difficult objects).
    Classes without images are left out.
    """
    if targets.ndim == 1:
        targets = F.one_hot(targets, scores.shape[1])
    order = scores.argsort(dim=0, descending=True, stable=True)
    ranked = targets.long().gather(0, order)
    hits = (ranked == 1).double().cumsum(0)
    total = hits[-1]
    there = total > 0
    hits, total = hits[:, there], total[there]
    counted = (ranked[:, there] >= 0).double().cumsum(0).clamp(min=1)
    # Backwards, so that each rank gets the largest precision at its recall or more.
    best = (hits / counted).flip(0).cummax(0).values.flip(0)
    # The first rank with a recall of k / 10 or more, in whole numbers, which are not rounded.
    points = torch.arange(11, dtype=torch.float64, device=hits.device)
    first = torch.stack([(10 * hits < point * total).sum(0) for point in points])
    return 100 * best.gather(0, first).mean().item()


METRICS: dict[str, Callable[[Tensor, Tensor], float]] = {
    "top1": lambda scores, labels: top_accuracy(1, scores, labels),
    "mean_per_class": mean_per_class,
    "map11": map11,
}
"""The accuracies that an evaluation can report: `data.metric`."""
