"""LARS, layer-wise adaptive rate scaling (You et al. 2017), as in SimCLR's released code."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

TRUST = 0.001
"""The norm of a layer's step relative to the norm of its weights, at a learning rate of 1."""

_Tensors = tuple[Tensor, ...]


class LARS(Optimizer):
    """For each parameter w with gradient g and velocity v, of norms |w| and |g|:

        g <- g + weight_decay * w
        ratio <- TRUST * |w| / |g|, or 1 if either norm is 0
        v <- momentum * v + lr * ratio * g
        w <- w - v

    The learning rate is inside the velocity, so changing it does not rescale past gradients, and
    there is no Nesterov step. Groups with `adapt=False` have ratio 1; biases and the parameters of
    batch norm belong there, without weight decay. Common copies of LARS keep the learning rate out
    of the velocity or add the decay to the ratio's denominator: other optimisers.

    Multiplying the loss by a constant changes no step with `adapt=True` (except for the weight decay), and with
    `adapt=False` multiplies the step by it. The released code's loss is twice Eq. 1, which is used here, so parameters
    of batch norm move half as far per step as in the released code.

    lr: learning rate; a schedule sets it before each step.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 0.0,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        adapt: bool = True,
    ) -> None:
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "adapt": adapt}
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One update of every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            pairs = [(w, w.grad) for w in group["params"] if w.grad is not None]
            if pairs:
                weights, gradients = zip(*pairs, strict=True)
                self._update(weights, gradients, group)
        return loss

    def _update(self, weights: _Tensors, gradients: _Tensors, group: dict[str, Any]) -> None:
        if group["weight_decay"]:
            gradients = torch._foreach_add(gradients, weights, alpha=group["weight_decay"])
        if group["adapt"]:
            gradients = torch._foreach_mul(gradients, _trust_ratios(weights, gradients))
        velocities = [self._velocity(weight) for weight in weights]
        torch._foreach_mul_(velocities, group["momentum"])
        torch._foreach_add_(velocities, gradients, alpha=group["lr"])
        torch._foreach_sub_(weights, velocities)

    def _velocity(self, weight: Tensor) -> Tensor:
        state = self.state[weight]
        if not state:
            state["velocity"] = torch.zeros_like(weight)
        return state["velocity"]


def _trust_ratios(weights: _Tensors, gradients: _Tensors) -> _Tensors:
    weight_norms = torch.stack(torch._foreach_norm(weights))
    gradient_norms = torch.stack(torch._foreach_norm(gradients))
    adapted = (weight_norms > 0) & (gradient_norms > 0)
    return torch.where(adapted, TRUST * weight_norms / gradient_norms, 1.0).unbind()
