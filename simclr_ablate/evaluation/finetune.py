"""Fine-tuning on another data set (App. B.8): the protocol `finetune`.

The encoder and a new linear classifier on h are trained with Nesterov momentum on random crops and flips, in the paper
for 20,000 steps of 256 images. Batch norm's momentum is max(1 - 10 / s, 0.9), with s steps per epoch. Seven learning
rates from 1e-4 to 0.1 are tried, each without weight decay and with seven decays from 1e-6 to 1e-3, divided by the
learning rate. They are trained on the training split and compared on the validation split. The best is trained again on
both splits, and tested. Random weights, the baseline, get 40,000 steps, other learning rates and other decays, all
above 0.
"""

import copy
import math
from dataclasses import dataclass

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from simclr_ablate.data.images import Images
from simclr_ablate.evaluation.linear import log_spaced
from simclr_ablate.evaluation.metrics import METRICS
from simclr_ablate.evaluation.protocol import Evaluator, Result, Subject, classified
from simclr_ablate.evaluation.training import build_loop, scores_of
from simclr_ablate.training.loop import Loop, NonFiniteLossError


@dataclass(frozen=True)
class Rates:
    """The hyperparameters that are chosen on the validation split."""

    lr: float
    decay: float
    """Weight decay times learning rate."""


def evaluate(subject: Subject) -> Result:
    """The best rates, and the accuracies that they give."""
    metric, data = subject.metric, subject.data
    result = Result({}, {})

    def validate(loop: Loop) -> dict[str, float]:
        scores, labels = scores_of(loop, data.validation)
        return {"validation": METRICS[metric](scores, labels)} if subject.ranks.is_first else {}

    def test(loop: Loop) -> dict[str, float]:
        nonlocal result
        scores, labels = scores_of(loop, data.test)
        if subject.ranks.is_first:
            result = Result(*classified(scores, labels, metric))
        return {}

    tried = {
        rates: subject.train(
            lambda rates=rates: loop_of(subject, data.train, rates),
            validate,
            diverged={"validation": -math.inf},
        )["validation"]
        for rates in rates_of(subject)
    }
    best = max(tried, key=tried.__getitem__)
    if tried[best] == -math.inf:
        raise NonFiniteLossError(
            f"the loss became infinite with each of {len(tried)} learning rates and weight decays"
        )
    subject.train(lambda: loop_of(subject, data.train.joined(data.validation), best), test)
    chosen = {f"validation_{metric}": tried[best], "lr": best.lr, "decay": best.decay}
    return result._replace(metrics={**result.metrics, **chosen})


PROTOCOL = Evaluator(on_network=evaluate)


def rates_of(subject: Subject) -> list[Rates]:
    """Every learning rate with every decay; if rates tie, the first wins."""
    spec = subject.experiment.evaluation
    decays = log_spaced(spec.decay_count, spec.decay_min, spec.decay_max)
    return [
        Rates(lr, decay)
        for lr in log_spaced(spec.lr_count, spec.lr_min, spec.lr_max)
        for decay in ([0.0] if spec.no_decay else []) + decays
    ]


def loop_of(subject: Subject, images: Images, rates: Rates) -> Loop:
    """A loop with these rates that starts from the pretrained weights."""
    encoder = copy.deepcopy(subject.encoder)
    steps = subject.experiment.evaluation.steps
    decay = rates.decay / rates.lr
    loop = build_loop(subject, encoder, encoder.dim, images, rates.lr, decay, steps)
    set_batchnorm_momentum(encoder, loop.steps_per_epoch)
    return loop


def set_batchnorm_momentum(encoder: nn.Module, steps_per_epoch: int) -> None:
    """Running statistics keep a share of max(1 - 10 / s, 0.9) at each step; torch's momentum is the rest."""
    for module in encoder.modules():
        if isinstance(module, _BatchNorm):
            module.momentum = min(10 / steps_per_epoch, 0.1)
