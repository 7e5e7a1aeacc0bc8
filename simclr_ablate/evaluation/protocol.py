"""What a protocol is: a way of measuring a pretrained encoder.

A protocol is a function that takes a `Subject` and returns a `Result`: one of ours, in the module of its name, or a
user's own. It needs either features of the frozen encoder, which are computed once for all protocols that need the same
ones, or the networks and the images, to train on.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from simclr_ablate import own
from simclr_ablate.config import is_own
from simclr_ablate.data.splits import Splits
from simclr_ablate.evaluation.features import Features
from simclr_ablate.evaluation.metrics import accuracies
from simclr_ablate.models.encoder import Encoder
from simclr_ablate.ranks import SOLO, Ranks
from simclr_ablate.schema import PROTOCOLS, Experiment


class Result(NamedTuple):
    """The result of an evaluation."""

    metrics: dict[str, float]
    """Metrics by name; accuracies in percent. The first is the evaluation's main one."""
    examples: dict[str, Tensor]
    """Arrays by name with a row for each test image, for tests of significance. Kept compressed beside the metrics."""


class Frozen(NamedTuple):
    """The frozen encoder's features of each split."""

    train: Features
    validation: Features
    test: Features


@dataclass(frozen=True)
class Subject:
    """What an evaluation measures, and what it may use.

    encoder, head: as pretrained, on `device`; with objective=supervised, the head is a classifier. data: the images to
        evaluate on. train: `Trainer.train`, for protocols that train. ranks: the processes that share the evaluation;
        a protocol on features is called only on the first.
    """

    experiment: Experiment
    data: Splits
    encoder: Encoder
    head: nn.Module
    device: torch.device
    train: Callable[..., dict[str, float]]
    ranks: Ranks = SOLO

    @property
    def classes(self) -> int:
        """The number of classes of the images."""
        return len(self.data.train.classes)

    @property
    def metric(self) -> str:
        """The accuracy that evaluations on these images report: one of `schema.METRICS`."""
        return self.experiment.evaluated_data.metric


@dataclass(frozen=True)
class Evaluator:
    """A protocol's function, and what it needs.

    Exactly one is given. on_features takes the subject and the features of its images, on_network the subject alone.
    """

    on_features: Callable[[Subject, Frozen], Result] | None = None
    on_network: Callable[[Subject], Result] | None = None


def find_protocol(name: str) -> Evaluator:
    """The protocol of that name: one of `schema.PROTOCOLS`, or a user's function, by default on features.

    A user's function that trains the network itself has the attribute `needs = "network"`. Raises ConfigError if there
    is no such protocol.
    """
    if not is_own(name):
        assert name in PROTOCOLS  # the schema requires it
        evaluator: Evaluator = importlib.import_module(f"simclr_ablate.evaluation.{name}").PROTOCOL
        return evaluator
    function = own.find("evaluation.protocol", name, PROTOCOLS)
    if getattr(function, "needs", "features") == "network":
        return Evaluator(on_network=function)
    return Evaluator(on_features=function)


def classified(
    scores: Tensor, labels: Tensor, metric: str
) -> tuple[dict[str, float], dict[str, Tensor]]:
    """The accuracies of scores (N, classes), such as logits, and the per-example results.

    `label`: (N,); `prediction`: (N,), the class of the largest score; `score`: (N,) float32, the true class's
    probability by the softmax of the scores. With metric=map11, also all `scores`, (N, classes) float32. If images may
    have several labels: `labels`, (N, classes) int8, `prediction` and `scores`, from which all accuracies follow.
    """
    examples = {"prediction": scores.argmax(1)}
    if labels.ndim == 2:
        examples |= {"labels": labels.to(torch.int8), "scores": scores.float()}
        return accuracies(scores, labels, metric), examples
    examples["label"] = labels
    examples["score"] = scores.float().softmax(1).gather(1, labels.unsqueeze(1))[:, 0]
    if metric == "map11":
        examples["scores"] = scores.float()
    return accuracies(scores, labels, metric), examples
