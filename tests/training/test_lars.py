import numpy as np
import pytest
import torch

from simclr_ablate.training.lars import LARS

SHAPES = [(8, 3, 3, 3), (5, 8), (4, 4)]


def transcription(
    w: np.ndarray,
    gradients: list[np.ndarray],
    rates: list[float],
    momentum: float,
    decay: float,
    adapt: bool,
) -> np.ndarray:
    """The update of App. B's optimiser in float64, one number after the other."""
    v = np.zeros_like(w)
    for g, lr in zip(gradients, rates, strict=True):
        g = g + decay * w
        w_norm, g_norm = np.sqrt((w**2).sum()), np.sqrt((g**2).sum())
        ratio = 0.001 * w_norm / g_norm if adapt and w_norm > 0 and g_norm > 0 else 1.0
        v = momentum * v + lr * ratio * g
        w = w - v
    return w


def run(
    start: list[torch.Tensor],
    gradients: list[list[torch.Tensor]],
    rates: list[float],
    **group: object,
) -> list[torch.Tensor]:
    weights = [torch.nn.Parameter(w.clone()) for w in start]
    optimizer = LARS(weights, **group)
    for step, lr in zip(gradients, rates, strict=True):
        for weight, gradient in zip(weights, step, strict=True):
            weight.grad = gradient.clone()
        optimizer.param_groups[0]["lr"] = lr
        optimizer.step()
    return [weight.detach() for weight in weights]


@pytest.mark.parametrize("adapt", [True, False])
@pytest.mark.parametrize("decay", [0.0, 0.05])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_equals_a_transcription_of_the_formula(
    adapt: bool, decay: float, dtype: torch.dtype
) -> None:
    start = [torch.randn(shape).to(dtype) for shape in SHAPES]
    gradients = [[torch.randn(shape).to(dtype) for shape in SHAPES] for _ in range(7)]
    rates = [0.0, 40.0, 80.0, 60.0, 30.0, 10.0, 1.0]
    group = {"momentum": 0.9, "weight_decay": decay, "adapt": adapt}
    actual = run(start, gradients, rates, **group)
    for k, w in enumerate(start):
        steps = [step[k].double().numpy() for step in gradients]
        expected = transcription(w.double().numpy(), steps, rates, 0.9, decay, adapt)
        tolerance = 1e-12 if dtype == torch.float64 else 1e-5
        np.testing.assert_allclose(actual[k].numpy(), expected, rtol=tolerance, atol=tolerance * 10)


def test_ratio_is_1_where_a_norm_is_0() -> None:
    zero, one = torch.zeros(3, 2), torch.ones(3, 2)
    moved, unmoved = run([zero, one], [[one, zero]], [0.5])
    assert torch.equal(moved, zero - 0.5)
    assert torch.equal(unmoved, one)


def test_adapted_steps_do_not_depend_on_the_gradients_scale() -> None:
    start, gradient = torch.randn(6, 6), torch.randn(6, 6)
    small, large = (run([start], [[scale * gradient]], [1.0])[0] for scale in (1e-3, 1e3))
    torch.testing.assert_close(small, large)
    assert (start - small).norm() / start.norm() == pytest.approx(0.001, rel=1e-3)


def test_leaves_gradients_and_parameters_without_one_alone() -> None:
    with_gradient, without = (
        torch.nn.Parameter(torch.randn(3, 2)),
        torch.nn.Parameter(torch.ones(2)),
    )
    gradient = torch.randn(3, 2)
    with_gradient.grad = gradient.clone()
    LARS([with_gradient, without], lr=1.0, weight_decay=0.1).step()
    assert torch.equal(with_gradient.grad, gradient)
    assert torch.equal(without, torch.ones(2))


def test_resumes_exactly_from_its_state() -> None:
    start = [torch.randn(4, 3)]
    gradients = [[torch.randn(4, 3)] for _ in range(6)]
    expected = run(start, gradients, [1.0] * 6, weight_decay=0.1)

    weight = torch.nn.Parameter(start[0].clone())
    optimizer = LARS([weight], lr=1.0, weight_decay=0.1)
    for step, (gradient,) in enumerate(gradients):
        if step == 3:
            state = optimizer.state_dict()
            optimizer = LARS([weight], lr=1.0)
            optimizer.load_state_dict(state)
        weight.grad = gradient
        optimizer.step()
    assert torch.equal(weight, expected[0])
