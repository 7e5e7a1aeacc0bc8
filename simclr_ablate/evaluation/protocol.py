"""What a protocol is: a way of measuring an encoder that pretraining has left.

A protocol is a function, ours in the module of its name, or a user's own, that is given a `Subject` and returns a
`Result`. What it needs is either features of the frozen encoder, which are computed once and kept for all protocols
that need the same, or the networks and the images themselves, to train on.
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
    """What an evaluation comes to."""

    metrics: dict[str, float]
    """By name; accuracies in percent. The first is the one that the evaluation is known by."""
    examples: dict[str, Tensor]
    """By name, a row for each test image: what a test of significance takes. Kept compressed beside the metrics."""


class Frozen(NamedTuple):
    """Features of the frozen encoder, of each split."""

    train: Features
    validation: Features
    test: Features


@dataclass(frozen=True)
class Subject:
    """What is measured, and with what.

    encoder, head: as pretraining has left them, on `device`; the head is a classifier where objective=supervised.
    data: the images to evaluate on. train: `Trainer.train`, for protocols that train. ranks: processes that share the
        evaluation; of a protocol on features, the first alone is called.
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
        """The accuracy that evaluations on these images go by: one of `schema.METRICS`."""
        return self.experiment.evaluated_data.metric


@dataclass(frozen=True)
class Evaluator:
    """A protocol's function, and what it needs.

    Exactly one is there. on_features is called with the subject and the features of its images, on_network with the
    subject.
    """

    on_features: Callable[[Subject, Frozen], Result] | None = None
    on_network: Callable[[Subject], Result] | None = None


def find_protocol(name: str) -> Evaluator:
    """The protocol of that name: of `schema.PROTOCOLS`, or a function of the user's own on features.

    A function of one's own that is to train the network itself has the attribute `needs = "network"`.
    Raises ConfigError where there is none.
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
    """Accuracies of scores (N, classes), such as logits, and what is kept of each example.

    `prediction`: (N,), the class of the largest score; `score`: (N,) float32, the probability of the true class by the
    softmax of the scores; for metric=map11 all `scores`, (N, classes) float32.
    """
    examples = {
        "label": labels,
        "prediction": scores.argmax(1),
        "score": scores.float().softmax(1).gather(1, labels.unsqueeze(1))[:, 0],
    }
    if metric == "map11":
        examples["scores"] = scores.float()
    return accuracies(scores, labels, metric), examples
