"""L-BFGS for smooth convex functions whose coordinates have the same scale."""

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

_MEMORY = 10
_SUFFICIENT_DECREASE = 1e-4
_HALVINGS = 30
_STALL = 10
_STALL_DECREASE = 1e-6


class Minimum(NamedTuple):
    """Where the descent ended."""

    point: Tensor
    value: float
    converged: bool
    """Whether the gradient is within the tolerance, or rounding hides any further descent."""
    evaluations: int


class _Pair(NamedTuple):
    step: Tensor
    change: Tensor
    """The change of the gradient over the step."""
    product: Tensor
    """step . change."""


def minimise(
    function: Callable[[Tensor], tuple[Tensor, Tensor]],
    start: Tensor,
    tolerance: float,
    unit: float,
    most_evaluations: int = 5000,
) -> Minimum:
    """L-BFGS (Nocedal and Wright 2006, Alg. 7.5) with backtracking from a step of 1.

    function: point (K,) to value, a scalar, and gradient, (K,).
    tolerance, unit: the search ends when no element of the gradient exceeds
        tolerance * max(|value|, unit), or when 10 iterations together have lowered the value by less
        than a millionth of that maximum.
    most_evaluations: the search ends without convergence soon after this many evaluations.

    If the function is scaled so that its curvature is at most about 1, nearly every first step is
    accepted and an iteration costs one evaluation; a search for Wolfe's conditions would cost more.
    """
    point, pairs = start, deque[_Pair](maxlen=_MEMORY)
    value, gradient = function(point)
    evaluations = 1
    recent = deque([value], maxlen=_STALL + 1)
    while gradient.abs().max() > tolerance * (size := value.abs().clamp(min=unit)):
        if len(recent) > _STALL and recent[0] - value <= _STALL_DECREASE * size:
            break
        if evaluations >= most_evaluations:
            return Minimum(point, value.item(), False, evaluations)
        direction = _direction(gradient, pairs)
        slope = direction @ gradient
        length = 1.0
        for _ in range(_HALVINGS):
            new_point = point + length * direction
            new_value, new_gradient = function(new_point)
            evaluations += 1
            if new_value <= value + _SUFFICIENT_DECREASE * length * slope:
                break
            length /= 2
        else:
            break
        step, change = new_point - point, new_gradient - gradient
        product = step @ change
        if product > 0:
            pairs.append(_Pair(step, change, product))
        point, value, gradient = new_point, new_value, new_gradient
        recent.append(value)
    return Minimum(point, value.item(), bool(value.isfinite()), evaluations)


def _direction(gradient: Tensor, pairs: deque[_Pair]) -> Tensor:
    """Minus the inverse Hessian that the pairs suggest, times the gradient (Alg. 7.4)."""
    direction = -gradient
    shares = []
    for pair in reversed(pairs):
        share = (pair.step @ direction) / pair.product
        direction = direction - share * pair.change
        shares.append(share)
    if pairs:
        last = pairs[-1]
        direction = direction * (last.product / (last.change @ last.change))
    for pair, share in zip(pairs, reversed(shares), strict=True):
        direction = direction + (share - (pair.change @ direction) / pair.product) * pair.step
    return direction
