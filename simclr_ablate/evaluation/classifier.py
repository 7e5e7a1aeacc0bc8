"""The accuracy of a classifier that was trained together with its encoder."""

import torch
from torch import nn

from simclr_ablate.evaluation.features import Features
from simclr_ablate.evaluation.linear import top_accuracy


@torch.no_grad()
def evaluate_classifier(
    classifier: nn.Module, validation: Features, test: Features
) -> dict[str, float]:
    """`top1`, `top5` (on test) and `validation_top1`, in percent, of `classifier` on the encoder's h.

    No image of validation was trained on, and nothing is chosen by it. The classifier is used, and left, on the CPU.
    """
    classifier = classifier.cpu()
    logits = classifier(test.features)
    return {
        "top1": top_accuracy(1, logits, test.labels),
        "top5": top_accuracy(5, logits, test.labels),
        "validation_top1": top_accuracy(1, classifier(validation.features), validation.labels),
    }
