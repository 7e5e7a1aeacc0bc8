"""Accuracies, against scikit-learn's and PASCAL VOC's definitions in plain loops."""

import pytest
import torch
from sklearn.metrics import balanced_accuracy_score, top_k_accuracy_score
from torch import Tensor

from simclr_ablate.evaluation.metrics import accuracies, map11, mean_per_class, top_accuracy

N, CLASSES = 300, 7


@pytest.fixture
def scores() -> Tensor:
    return torch.randn(N, CLASSES)


@pytest.fixture
def labels(scores: Tensor) -> Tensor:
    """Better than chance, and of unequal shares; no image is of the last class."""
    drawn = (torch.rand(N) ** 2 * (CLASSES - 1)).long()
    return torch.where(torch.rand(N) < 0.4, scores[:, :-1].argmax(1), drawn)


def test_top_accuracies_are_those_of_scikit_learn(scores: Tensor, labels: Tensor) -> None:
    for k in (1, 3, 5):
        expected = top_k_accuracy_score(labels, scores, k=k, labels=range(CLASSES))
        assert top_accuracy(k, scores, labels) == pytest.approx(100 * expected)
    assert top_accuracy(9, scores, labels) == 100


def test_the_mean_per_class_is_the_balanced_accuracy(scores: Tensor, labels: Tensor) -> None:
    predicted = scores[:, :-1].argmax(1)
    expected = balanced_accuracy_score(labels, predicted)
    assert mean_per_class(scores[:, :-1], labels) == pytest.approx(100 * expected)


def by_the_devkit(scores: list[float], is_there: list[bool]) -> float:
    """One class's average precision, as VOCevaldet of the 2007 development kit computes it."""
    ranked = [found for _, found in sorted(zip(scores, is_there, strict=True), reverse=True)]
    hits, recalls, precisions = 0, [], []
    for rank, found in enumerate(ranked, 1):
        hits += found
        recalls.append(hits / sum(is_there))
        precisions.append(hits / rank)
    total = 0.0
    for step in range(11):
        # As fractions of whole numbers, lest 0.1 * 3 is more than 0.3.
        enough = [
            precision
            for recall, precision in zip(recalls, precisions, strict=True)
            if round(recall * sum(is_there)) * 10 >= step * sum(is_there)
        ]
        total += max(enough, default=0.0) / 11
    return total


@pytest.mark.parametrize("several", [False, True])
def test_the_mean_average_precision_is_that_of_voc_2007(
    scores: Tensor, labels: Tensor, several: bool
) -> None:
    targets = torch.nn.functional.one_hot(labels, CLASSES).bool()
    if several:
        targets |= torch.rand(N, CLASSES) < 0.2
        targets[:, -1] = False
    each = [
        by_the_devkit(scores[:, k].tolist(), targets[:, k].tolist())
        for k in range(CLASSES)
        if targets[:, k].any()
    ]
    assert len(each) == CLASSES - 1
    expected = 100 * sum(each) / len(each)
    assert map11(scores, targets if several else labels) == pytest.approx(expected)


def test_perfect_scores_are_worth_a_hundred() -> None:
    labels = torch.arange(CLASSES).repeat(5)
    scores = torch.nn.functional.one_hot(labels, CLASSES).float()
    for metric in ("top1", "mean_per_class", "map11"):
        assert accuracies(scores, labels, metric)[metric] == 100


def test_what_a_data_set_goes_by_is_there_beside_the_usual(scores: Tensor, labels: Tensor) -> None:
    assert list(accuracies(scores, labels, "top1")) == ["top1", "top5"]
    assert list(accuracies(scores, labels, "map11")) == ["map11", "top1", "top5"]
