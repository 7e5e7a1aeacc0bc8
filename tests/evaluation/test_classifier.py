"""The trained classifier's own accuracy, counted by hand."""

import pytest
import torch
from torch import nn

from simclr_ablate.evaluation.classifier import evaluate_classifier
from simclr_ablate.evaluation.features import Features


def test_accuracies_are_counted_right() -> None:
    classifier = nn.Linear(6, 8)
    splits = {
        name: Features(torch.randn(50, 6), torch.randint(8, (50,)))
        for name in ("validation", "test")
    }
    metrics = evaluate_classifier(classifier, **splits)
    hits = {}
    for name, (features, labels) in splits.items():
        ranked = (features @ classifier.weight.T + classifier.bias).argsort(1, descending=True)
        for k in (1, 5):
            right = [label in best[:k] for best, label in zip(ranked.tolist(), labels, strict=True)]
            hits[name, k] = 100 * sum(map(bool, right)) / len(right)
    assert metrics == {
        "top1": pytest.approx(hits["test", 1]),
        "top5": pytest.approx(hits["test", 5]),
        "validation_top1": pytest.approx(hits["validation", 1]),
    }
