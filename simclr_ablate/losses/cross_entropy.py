"""Cross entropy of a classifier: the supervised baseline's loss (App. B.2), also for images with several labels."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


class ClassificationLoss(NamedTuple):
    """The contribution of some images of a batch to its means."""

    loss: Tensor
    """Scalar, differentiable: sum of their losses over the batch size, nats."""
    accuracy: Tensor
    """Scalar in [0, 1], detached: how many of them have the largest logit at a label of theirs, over the batch size."""


def cross_entropy(logits: Tensor, labels: Tensor, batch_size: int) -> ClassificationLoss:
    """Cross entropy of some or all images of a batch, as their contribution to its mean.

    logits: (n, classes). The arithmetic is float32, or float64 for float64 logits, even under autocast.
    labels: (n,) int64, in [0, classes).
    batch_size: images in the whole batch. The contributions of a batch's parts add up to its means.
    """
    with torch.autocast(logits.device.type, enabled=False):
        logits = logits if logits.dtype == torch.float64 else logits.float()
        loss = F.cross_entropy(logits, labels, reduction="sum") / batch_size
        right = (logits.argmax(1) == labels).to(logits.dtype).sum() / batch_size
    return ClassificationLoss(loss, right)


def binary_cross_entropy(logits: Tensor, labels: Tensor, batch_size: int) -> ClassificationLoss:
    """As `cross_entropy`, for images with several labels: one logistic regression for each class, summed over classes.

    The paper says only that it minimises softmax cross entropy, which needs one label. With several, mean average
    precision ranks all images by their scores for a class, and only scores that do not depend on those for other
    classes can be compared between images.

    labels: (n, classes) int64: 1, 0, or -1 for a class that is left out for the image.
    """
    with torch.autocast(logits.device.type, enabled=False):
        logits = logits if logits.dtype == torch.float64 else logits.float()
        targets, known = labels.clamp(min=0).to(logits.dtype), (labels >= 0).to(logits.dtype)
        terms = F.binary_cross_entropy_with_logits(logits, targets, known, reduction="sum")
        named = labels.gather(1, logits.argmax(1, keepdim=True)) == 1
        right = named.to(logits.dtype).sum() / batch_size
    return ClassificationLoss(terms / batch_size, right)
