"""The linear classifier of supervised training (App. B.2)."""

from torch import nn


def build_classifier(in_dim: int, classes: int) -> nn.Linear:
    """A linear map from h, (N, in_dim), to logits, (N, classes).

    As in the paper's code, weights are drawn from N(0, .01^2), with torch's global generator, and biases are 0.
    """
    classifier = nn.Linear(in_dim, classes)
    nn.init.normal_(classifier.weight, std=0.01)
    nn.init.zeros_(classifier.bias)
    return classifier
