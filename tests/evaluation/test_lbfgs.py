import math

import pytest
import torch
from torch import Tensor

from simclr_ablate.evaluation.lbfgs import minimise


def quadratic(curvatures: Tensor, centre: Tensor, offset: float):
    def function(point: Tensor) -> tuple[Tensor, Tensor]:
        away = point - centre
        return (curvatures * away**2).sum() / 2 + offset, curvatures * away

    return function


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_finds_the_minimum_of_a_quadratic(dtype: torch.dtype) -> None:
    centre = torch.randn(40, dtype=dtype)
    curvatures = torch.logspace(-2, 0, 40, dtype=dtype)
    minimum = minimise(quadratic(curvatures, centre, 3.0), torch.zeros_like(centre), 1e-6, unit=1.0)
    assert minimum.converged
    assert minimum.value == pytest.approx(3, rel=1e-6)
    torch.testing.assert_close(minimum.point, centre, rtol=0, atol=1e-2)


def test_gradient_is_within_the_tolerance() -> None:
    def function(point: Tensor) -> tuple[Tensor, Tensor]:
        return torch.cosh(point - 1).sum(), torch.sinh(point - 1)

    minimum = minimise(function, torch.full((5,), -3.0), 1e-3, unit=1.0)
    value, gradient = function(minimum.point)
    assert minimum.converged
    assert gradient.abs().max() <= 1e-3 * value


def test_unit_is_the_scale_of_a_small_value() -> None:
    function = quadratic(torch.logspace(-2, 0, 30), torch.ones(30), 0.0)
    coarse = minimise(function, torch.zeros(30), 1e-3, unit=1.0)
    assert coarse.converged
    assert function(coarse.point)[1].abs().max() <= 1e-3
    fine = minimise(function, torch.zeros(30), 1e-3, unit=1e-4)
    assert fine.evaluations > coarse.evaluations
    assert fine.value < coarse.value


def test_shortens_steps_that_are_too_long() -> None:
    minimum = minimise(
        quadratic(torch.full((3,), 1e4), torch.ones(3), 1.0), torch.zeros(3), 1e-4, unit=1.0
    )
    torch.testing.assert_close(minimum.point, torch.ones(3))


def test_ends_where_rounding_hides_the_descent() -> None:
    minimum = minimise(quadratic(torch.rand(8), torch.randn(8), 1e3), torch.zeros(8), 0.0, unit=1.0)
    assert minimum.converged
    assert minimum.value == pytest.approx(1e3)
    assert minimum.evaluations < 1000


def test_says_when_it_did_not_converge() -> None:
    function = quadratic(torch.logspace(-4, 0, 50), torch.ones(50), 1.0)
    minimum = minimise(function, torch.zeros(50), 1e-9, unit=1.0, most_evaluations=5)
    assert not minimum.converged
    assert minimum.evaluations >= 5


def test_a_value_that_is_no_number_is_not_converged() -> None:
    minimum = minimise(lambda point: (point.sum() * math.nan, point), torch.ones(2), 1.0, unit=1.0)
    assert not minimum.converged
