"""The optimisers: LARS (Section 2.2), SGD with Nesterov momentum (App. B.6) and AdamW."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from simclr_ablate.device import has_fused_optimizers
from simclr_ablate.training.lars import LARS

OPTIMIZERS = ("lars", "sgd", "adamw")
_SECOND_BETA = 0.999


def build_optimizer(
    modules: Iterable[nn.Module], name: str, weight_decay: float = 1e-6, momentum: float = 0.9
) -> Optimizer:
    """The optimiser of all parameters of `modules`, with a learning rate of 0.

    `set_learning_rate` gives it the schedule's value before each step.

    name: `lars`, the paper's; `sgd`, with Nesterov momentum and the decay inside the gradient; or
        `adamw`, for short runs, with the decay outside the gradient and times the learning rate.
    weight_decay: for weights only. Biases and the parameters of batch norm have none, and with LARS
        no adaptation either, as in the paper's code.
    momentum: in [0, 1); for AdamW, the first beta (the second is 0.999).

    Raises ValueError for an argument out of its range.
    """
    if name not in OPTIMIZERS:
        raise ValueError(f"optimizer.name must be one of {', '.join(OPTIMIZERS)}, got {name!r}")
    if not 0 <= momentum < 1:
        raise ValueError(f"optimizer.momentum must be >= 0 and < 1, got {momentum}")
    if not weight_decay >= 0:
        raise ValueError(f"optimizer.weight_decay must be >= 0, got {weight_decay}")
    weights, others = _split(modules)
    groups: list[dict[str, Any]] = [
        {"params": weights, "weight_decay": weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if name == "lars":
        for group in groups:
            group["adapt"] = group["params"] is weights
        return LARS(groups, momentum=momentum)
    fused = all(has_fused_optimizers(p.device) for p in (*weights, *others))
    if name == "sgd":
        return torch.optim.SGD(
            groups, lr=0.0, momentum=momentum, nesterov=momentum > 0, fused=fused
        )
    return torch.optim.AdamW(groups, lr=0.0, betas=(momentum, _SECOND_BETA), fused=fused)


def set_learning_rate(optimizer: Optimizer, lr: float) -> None:
    """Sets the learning rate of the next steps."""
    for group in optimizer.param_groups:
        group["lr"] = lr


def _split(modules: Iterable[nn.Module]) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """The weights of convolutions and dense layers, which have two dimensions or more, and all other parameters."""
    parameters = [p for module in modules for p in module.parameters() if p.requires_grad]
    return [p for p in parameters if p.ndim > 1], [p for p in parameters if p.ndim <= 1]
