"""Linear evaluation by l2-regularised multinomial logistic regression (App. B.8)."""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from simclr_ablate.evaluation.features import Features
from simclr_ablate.evaluation.lbfgs import minimise

TOLERANCE = 3e-4
"""Largest element of the gradient, in the solver's coordinates, as a share of the objective."""
LOW_OBJECTIVE = 0.01
"""Nats; where the objective is below it, the tolerance is a share of this instead."""


@dataclass(frozen=True)
class LinearResult:
    """A linear classifier's accuracies in percent, and how its l2 strength was chosen."""

    top1: float
    """On the test split."""
    top5: float
    """On the test split; 100 where there are five classes or fewer."""
    validation_top1: float
    """Of the chosen strength, fitted on the training split alone."""
    strength: float
    """The chosen l2 strength."""
    strengths: list[float]
    """All that were tried, largest first."""
    validation_top1s: list[float]
    """One for each of `strengths`."""
    predictions: Tensor
    """(N,) int64: the class predicted for each test image."""


class Classifier(NamedTuple):
    """Logits are `features @ weight.T + bias`."""

    weight: Tensor
    """(classes, D)."""
    bias: Tensor
    """(classes,)."""

    def logits(self, features: Tensor) -> Tensor:
        """(N, D) to (N, classes)."""
        return torch.addmm(self.bias, features, self.weight.T)


def evaluate_linear(
    train: Features, validation: Features, test: Features, strengths: Sequence[float]
) -> LinearResult:
    """Linear evaluation: fitted on train, l2 strength chosen on validation, refitted on both.

    Where strengths tie on validation the largest is chosen. Features are not standardised, as in
    the paper's transfer experiments.

    strengths: of the objective of `fit_path`, each > 0.

    Raises ValueError for bad strengths and features that are not finite.
    """
    if not strengths or not all(strength > 0 for strength in strengths):
        raise ValueError(f"l2 strengths must be > 0, got {list(strengths)}")
    classes = 1 + max(int(split.labels.max()) for split in (train, validation, test))
    ordered = sorted(strengths, reverse=True)
    path = fit_path(train, classes, ordered)
    accuracies = [
        top_accuracy(1, fitted.logits(validation.features), validation.labels) for fitted in path
    ]
    best = max(range(len(ordered)), key=accuracies.__getitem__)
    both = Features(*(torch.cat(pair) for pair in zip(train, validation, strict=True)))
    logits = fit_path(both, classes, [ordered[best]])[0].logits(test.features)
    return LinearResult(
        top1=top_accuracy(1, logits, test.labels),
        top5=top_accuracy(5, logits, test.labels),
        validation_top1=accuracies[best],
        strength=ordered[best],
        strengths=ordered,
        validation_top1s=accuracies,
        predictions=logits.argmax(1),
    )


def log_spaced(count: int, smallest: float, largest: float) -> list[float]:
    """`count` l2 strengths of equal ratios, ends included; the paper has 45 from 1e-6 to 1e5."""
    return torch.logspace(
        math.log10(smallest), math.log10(largest), count, dtype=torch.float64
    ).tolist()


def fit_path(data: Features, classes: int, strengths: Sequence[float]) -> list[Classifier]:
    """The classifier of each l2 strength; each starts from the one before, so order them.

    Minimises `mean cross entropy + strength / 2 * |weight|^2`; the bias is free. (scikit-learn's C
    is 1 / (N * strength).) The search ends where no element of the gradient, in the solver's
    coordinates, exceeds TOLERANCE times the objective (or LOW_OBJECTIVE), or where float32 takes it
    no further; it warns where it comes to neither.

    Raises ValueError for features that are not finite.
    """
    problem = _Problem(data, classes)
    weights = torch.zeros(classes, problem.inputs.shape[1])
    path = []
    for strength in strengths:
        weights = problem.solve(weights, strength)
        path.append(problem.classifier(weights))
    return path


class _Problem:
    """The regression in the coordinates of the features' principal components.

    There the Hessian is close to diagonal, and dividing by its root makes the problem well
    conditioned whatever the features' scales. The optimum is the same: a rotation keeps |weight|,
    and the mean that is subtracted belongs to the bias.
    """

    def __init__(self, data: Features, classes: int) -> None:
        features = data.features.float()
        if not features.isfinite().all():
            raise ValueError("features must be finite, got NaN or infinity")
        self.mean = features.mean(0)
        centred = features - self.mean
        variances, axes = torch.linalg.eigh((centred.T @ centred / len(centred)).double())
        self.axes = axes.float()
        ones = torch.ones(len(centred), 1)
        self.inputs = torch.cat([centred @ self.axes, ones], dim=1)
        # The Hessian of the cross entropy where all classes are as likely, as at the start.
        self.curvature = torch.cat([variances.clamp(min=0).float(), torch.ones(1)]) / classes
        # (classes, N), as is all of the solver: products of that shape are the faster ones.
        self.targets = F.one_hot(data.labels, classes).T.float().contiguous()

    def solve(self, weights: Tensor, strength: float) -> Tensor:
        """(classes, D + 1), the last column the bias; `weights` is where the search starts."""
        decay = torch.full_like(self.curvature, strength)
        decay[-1] = 0
        scale = (self.curvature + decay).rsqrt()

        def objective(point: Tensor) -> tuple[Tensor, Tensor]:
            value, gradient = self._objective(point.view_as(weights) * scale, decay)
            return value, (gradient * scale).flatten()

        minimum = minimise(objective, (weights / scale).flatten(), TOLERANCE, LOW_OBJECTIVE)
        if not minimum.converged:
            warnings.warn(
                f"logistic regression of l2 strength {strength:g} stopped after "
                f"{minimum.evaluations} evaluations, at an objective of {minimum.value:g}",
                RuntimeWarning,
                stacklevel=2,
            )
        return minimum.point.view_as(weights) * scale

    def _objective(self, weights: Tensor, decay: Tensor) -> tuple[Tensor, Tensor]:
        log_p = (weights @ self.inputs.T).log_softmax(0)
        decayed = decay * weights
        cross_entropy = -(self.targets.flatten() @ log_p.flatten()) / len(self.inputs)
        value = cross_entropy + weights.flatten() @ decayed.flatten() / 2
        error = log_p.exp_().sub_(self.targets)
        return value, torch.addmm(decayed, error, self.inputs, alpha=1 / len(self.inputs))

    def classifier(self, weights: Tensor) -> Classifier:
        """`weights` in the coordinates of the features."""
        weight = weights[:, :-1] @ self.axes.T
        return Classifier(weight, weights[:, -1] - weight @ self.mean)


def top_accuracy(k: int, logits: Tensor, labels: Tensor) -> float:
    """Share of images, in percent, whose label is among the k largest of their logits (N, classes)."""
    best = logits.topk(min(k, logits.shape[1])).indices
    return 100 * (best == labels.unsqueeze(1)).any(1).double().mean().item()
