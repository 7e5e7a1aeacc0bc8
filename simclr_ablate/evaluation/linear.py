"""Linear evaluation by l2-regularised multinomial logistic regression (App. B.8): the protocol `linear`.

The paper does not say what it does about VOC2007, whose images have several labels. Here, each class has a logistic
regression of its own, all with the same l2 strength.
"""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from simclr_ablate.evaluation.features import Features
from simclr_ablate.evaluation.knn import knn_predict, knn_votes
from simclr_ablate.evaluation.lbfgs import minimise
from simclr_ablate.evaluation.metrics import METRICS
from simclr_ablate.evaluation.protocol import Evaluator, Frozen, Result, Subject, classified

TOLERANCE = 3e-4
"""Largest element of the gradient, in the solver's coordinates, as a share of the objective."""
LOW_OBJECTIVE = 0.01
"""Nats; if the objective is lower, the tolerance is a share of this instead."""


@dataclass(frozen=True)
class LinearResult:
    """The accuracy of a linear classifier, in percent, and how its l2 strength was chosen."""

    logits: Tensor
    """Scores of the test images, (N, classes)."""
    validation: float
    """The accuracy of the chosen strength, fitted on the training split alone."""
    strength: float
    """The chosen l2 strength."""
    strengths: list[float]
    """The strengths that were tried, largest first."""
    validations: list[float]
    """One for each of `strengths`."""


class Classifier(NamedTuple):
    """Logits are `features @ weight.T + bias`."""

    weight: Tensor
    """(classes, D)."""
    bias: Tensor
    """(classes,)."""

    def logits(self, features: Tensor) -> Tensor:
        """(N, D) to (N, classes)."""
        return torch.addmm(self.bias, features, self.weight.T)


def evaluate(subject: Subject, frozen: Frozen) -> Result:
    """A linear classifier on the frozen features, and kNN beside it.

    `evaluate_linear` fits the classifier. If supervised training left a classifier for these images, that one is
    measured instead: it was trained on no validation image, and nothing is chosen.
    """
    spec, metric = subject.experiment.evaluation, subject.metric
    brought = subject.experiment.objective == "supervised" and spec.data.name is None
    if brought:
        with torch.no_grad():
            classifier = subject.head.cpu()
            logits, on_validation = (classifier(frozen[k].features) for k in (2, 1))
        validation = METRICS[metric](on_validation, frozen.validation.labels)
        chosen: dict[str, float] = {}
    else:
        strengths = log_spaced(spec.l2_count, spec.l2_min, spec.l2_max)
        fitted = evaluate_linear(*frozen, strengths, metric, subject.device)
        logits, validation, chosen = fitted.logits, fitted.validation, {"l2": fitted.strength}
    metrics, examples = classified(logits, frozen.test.labels, metric)
    more = {f"validation_{metric}": validation, **chosen, **_neighbours(subject, frozen)}
    return Result({**metrics, **more}, examples)


def _neighbours(subject: Subject, frozen: Frozen) -> dict[str, float]:
    """The accuracy of kNN: top-1, or the data set's metric if images have several labels."""
    (train, _, test), k = frozen, subject.experiment.evaluation.knn
    if test.labels.ndim == 2:
        votes = knn_votes(train, test.features, k, subject.classes, device=subject.device)
        return {f"knn_{subject.metric}": METRICS[subject.metric](votes, test.labels)}
    predicted = knn_predict(train, test.features, k, device=subject.device)
    return {"knn_top1": 100 * (predicted == test.labels).double().mean().item()}


PROTOCOL = Evaluator(on_features=evaluate)


def evaluate_linear(
    train: Features,
    validation: Features,
    test: Features,
    strengths: Sequence[float],
    metric: str = "top1",
    device: torch.device | str = "cpu",
) -> LinearResult:
    """Linear evaluation: fits on train, chooses the l2 strength on validation, and fits again on both.

    If strengths tie on validation, the largest is chosen. Features are not standardised, as in the
    paper's transfer experiments.

    strengths: see `fit_path`; each > 0. metric: decides between strengths.

    Raises ValueError for bad strengths, and for features that are not finite.
    """
    if not strengths or not all(strength > 0 for strength in strengths):
        raise ValueError(f"l2 strengths must be > 0, got {list(strengths)}")
    classes = max(map(_classes, (train, validation, test)))
    ordered = sorted(strengths, reverse=True)
    accuracies = [
        METRICS[metric](fitted.logits(validation.features), validation.labels)
        for fitted in fit_path(train, classes, ordered, device)
    ]
    best = max(range(len(ordered)), key=accuracies.__getitem__)
    both = Features(*(torch.cat(pair) for pair in zip(train, validation, strict=True)))
    (chosen,) = fit_path(both, classes, [ordered[best]], device)
    return LinearResult(
        logits=chosen.logits(test.features),
        validation=accuracies[best],
        strength=ordered[best],
        strengths=ordered,
        validations=accuracies,
    )


def _classes(split: Features) -> int:
    return split.labels.shape[1] if split.labels.ndim == 2 else 1 + int(split.labels.max())


def log_spaced(count: int, smallest: float, largest: float) -> list[float]:
    """`count` log-spaced l2 strengths, both ends included; the paper has 45 from 1e-6 to 1e5."""
    return torch.logspace(
        math.log10(smallest), math.log10(largest), count, dtype=torch.float64
    ).tolist()


def fit_path(
    data: Features,
    classes: int,
    strengths: Sequence[float],
    device: torch.device | str = "cpu",
) -> list[Classifier]:
    """The classifier for each l2 strength, on the CPU. Each fit starts from the one before, so sort the strengths.

    Minimises `mean cross entropy + strength / 2 * |weight|^2`; the bias is free. (scikit-learn's C
    is 1 / (N * strength).) If images have several labels, the cross entropy is the sum over classes of
    `losses.cross_entropy.binary_cross_entropy`. The search ends when no element of the gradient, in the
    solver's coordinates, exceeds TOLERANCE times the objective (or LOW_OBJECTIVE), or when float32 allows
    no further descent; it warns if it reaches neither.

    device: the device that fits.

    Raises ValueError for features that are not finite.
    """
    problem = _Problem(data, classes, device)
    weights = torch.zeros(classes, problem.inputs.shape[1], device=device)
    path = []
    for strength in strengths:
        weights = problem.solve(weights, strength)
        path.append(problem.classifier(weights))
    return path


class _Problem:
    """The regression in the coordinates of the features' principal components.

    In them the Hessian is close to diagonal, and dividing by its root makes the problem well
    conditioned whatever the features' scales. The optimum is the same: a rotation keeps |weight|,
    and the bias absorbs the subtracted mean.
    """

    def __init__(self, data: Features, classes: int, device: torch.device | str) -> None:
        features = data.features.float().to(device)
        if not features.isfinite().all():
            raise ValueError("features must be finite, got NaN or infinity")
        self.mean = features.mean(0)
        centred = features - self.mean
        # On the CPU: the matrix is small, and not every device has float64.
        variances, axes = torch.linalg.eigh((centred.T @ centred / len(centred)).cpu().double())
        self.axes = axes.float().to(device)
        rotated = centred @ self.axes
        del features, centred  # large data sets have room for only a few of them at a time
        ones = rotated.new_ones(len(rotated), 1)
        self.inputs = torch.cat([rotated, ones], dim=1)
        # The Hessian of the cross entropy if all classes are equally likely, as at the start.
        several = data.labels.ndim == 2
        curvature = torch.cat([variances.clamp(min=0).float(), torch.ones(1)])
        self.curvature = (curvature / (4 if several else classes)).to(device)
        self.labels = data.labels.to(device)
        if several:  # (classes, N), as in `_cross_entropy`
            self.targets = self.labels.clamp(min=0).float().T.contiguous()
            self.known = (self.labels >= 0).float().T.contiguous()

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
        # (classes, N), as everywhere in the solver: products of that shape are faster.
        cross_entropy, error = self._cross_entropy(weights @ self.inputs.T)
        decayed = decay * weights
        value = cross_entropy + weights.flatten() @ decayed.flatten() / 2
        return value, torch.addmm(decayed, error, self.inputs, alpha=1 / len(self.inputs))

    def _cross_entropy(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """The mean over images, and its gradient with respect to `logits`, (classes, N), times N."""
        if self.labels.ndim == 2:
            terms = F.binary_cross_entropy_with_logits(
                logits, self.targets, self.known, reduction="sum"
            )
            error = logits.sigmoid_().sub_(self.targets).mul_(self.known)
            return terms / len(self.inputs), error
        log_p = logits.log_softmax(0)
        own = self.labels.unsqueeze(0)
        cross_entropy = -log_p.gather(0, own).mean()
        error = log_p.exp_()
        error.scatter_add_(0, own, error.new_full(own.shape, -1.0))
        return cross_entropy, error

    def classifier(self, weights: Tensor) -> Classifier:
        """`weights` in the coordinates of the features."""
        weight = weights[:, :-1] @ self.axes.T
        return Classifier(weight.cpu(), (weights[:, -1] - weight @ self.mean).cpu())
