"""The classifier of supervised training."""

import torch

from simclr_ablate.models.classifier import build_classifier


def test_weights_are_drawn_as_in_the_released_code() -> None:
    torch.manual_seed(0)
    classifier = build_classifier(400, 100)
    assert classifier(torch.randn(5, 400)).shape == (5, 100)
    assert abs(classifier.weight.std().item() - 0.01) < 0.001
    assert not classifier.bias.any()
