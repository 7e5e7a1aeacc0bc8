"""A loss and a protocol that take their time: they can be disturbed, and cost the machine little meanwhile."""

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from simclr_ablate.evaluation.protocol import Frozen, Result, Subject, classified
from simclr_ablate.losses.registry import build_loss

SLOW = "loss.name=tests.slowly:nt_xent"
"""Ten steps a second at most."""


def nt_xent(spec: Any, ranks: Any) -> Callable[[Tensor], Any]:
    """NT-Xent, a tenth of a second late."""
    loss = build_loss(dataclasses.replace(spec, name="nt_xent"), ranks)

    def late(z: Tensor) -> Any:
        time.sleep(0.1)
        return loss(z)

    return late


PROTOCOL = "evaluation.protocol=tests.slowly:by_one_feature"
"""It takes `evaluation.lr` seconds; `evaluation.knn` tells one evaluation from another, and 13 fails but in a trial."""


def by_one_feature(subject: Subject, frozen: Frozen) -> Result:
    """Classes are read off one of the features, badly."""
    spec = subject.experiment.evaluation
    time.sleep(spec.lr)
    if spec.knn == 13 and len(frozen.test.labels) > 16:
        raise ValueError("13 brings bad luck")
    feature = frozen.test.features[:, spec.knn : spec.knn + 1]
    scores = feature * torch.arange(subject.classes)
    return Result(*classified(scores, frozen.test.labels, subject.metric))
