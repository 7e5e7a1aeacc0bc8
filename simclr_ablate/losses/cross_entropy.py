"""Cross entropy of a classifier: the supervised baseline's loss (App. B.2)."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


class ClassificationLoss(NamedTuple):
    """What some images of a batch add to its means."""

    loss: Tensor
    """Scalar, differentiable: their part of the mean over the batch, nats."""
    accuracy: Tensor
    """Scalar in [0, 1], detached: their part of the share of images whose label has the largest logit."""


def cross_entropy(logits: Tensor, labels: Tensor, batch_size: int) -> ClassificationLoss:
    """Cross entropy of some or all images of a batch, as parts of its means.

    logits: (n, classes). The arithmetic is float32, or float64 for float64 logits, under autocast too.
    labels: (n,) int64, in [0, classes). batch_size: images in the whole batch: the means of a batch are the sums over
        its parts.
    """
    with torch.autocast(logits.device.type, enabled=False):
        logits = logits if logits.dtype == torch.float64 else logits.float()
        loss = F.cross_entropy(logits, labels, reduction="sum") / batch_size
        right = (logits.argmax(1) == labels).to(logits.dtype).sum() / batch_size
    return ClassificationLoss(loss, right)
