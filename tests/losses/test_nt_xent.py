import inspect
import math
import re
import textwrap
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from simclr_ablate.losses.nt_xent import ContrastiveLoss, nt_xent

CANDIDATES = {
    "both": lambda anchor, n: [k for k in range(2 * n) if k != anchor],
    "one": lambda anchor, n: list(range(n, 2 * n) if anchor < n else range(n)),
}


def in_plain_loops(z: Tensor, tau: float, normalize: bool, negatives: str) -> float:
    """Algorithm 1 in float64."""
    rows = z.double().tolist()
    n = len(rows) // 2
    if normalize:
        lengths = [math.sqrt(sum(x * x for x in row)) for row in rows]
        rows = [[x / length for x in row] for row, length in zip(rows, lengths, strict=True)]
    loss = 0.0
    for i, anchor in enumerate(rows):
        positive = (i + n) % (2 * n)
        logits = {
            k: sum(x * y for x, y in zip(anchor, rows[k], strict=True)) / tau
            for k in CANDIDATES[negatives](i, n)
        }
        peak = max(logits.values())
        log_sum = peak + math.log(sum(math.exp(s - peak) for s in logits.values()))
        loss += log_sum - logits[positive]
    return loss / (2 * n)


(LINES,) = re.findall(r"never holds:\n\n(.*?)\n\n", inspect.getdoc(nt_xent) or "", re.S)
CODE = compile(textwrap.dedent(LINES), "the docstring of nt_xent", "exec")


def with_the_whole_matrix(z: Tensor, temperature: float, normalize: bool, negatives: str) -> Tensor:
    """What the five lines of its docstring make of z, by autograd through the 2N x 2N matrix."""
    names: dict[str, Any] = {"torch": torch, "F": functional, "math": math, "z": z}
    names |= {"temperature": temperature, "normalize": normalize, "negatives": negatives}
    exec(CODE, names)
    return names["loss"]


def loss_and_gradient(loss: Callable[..., Tensor], z: Tensor, *args: object) -> tuple[Tensor, ...]:
    z = z.detach().requires_grad_()
    value = loss(z, *args)
    return (value.detach(), *torch.autograd.grad(value, z))


def views(n: int, dim: int = 5, noise: float = 0.7, dtype: torch.dtype = torch.float64) -> Tensor:
    """Views whose positives are nearer than most, but not all, negatives."""
    generator = torch.Generator().manual_seed(n * dim)
    images = torch.randn(n, dim, generator=generator, dtype=torch.float64).repeat(2, 1)
    return (images + noise * torch.randn(2 * n, dim, generator=generator).double()).to(dtype)


@pytest.mark.parametrize("negatives", ["both", "one"])
@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("tau", [0.05, 0.5, 10.0])
def test_the_docstrings_lines_are_algorithm_1(tau: float, normalize: bool, negatives: str) -> None:
    z = views(17)
    expected = in_plain_loops(z, tau, normalize, negatives)
    lines = with_the_whole_matrix(z, tau, normalize, negatives).item()
    assert lines == pytest.approx(expected, rel=1e-12, abs=1e-12)
    for block_size in (4, 1000):
        actual = nt_xent(z, tau, normalize, negatives, block_size=block_size).loss.item()
        assert actual == pytest.approx(lines, rel=1e-7, abs=1e-9)


@pytest.mark.parametrize("negatives", ["both", "one"])
@pytest.mark.parametrize("block_size", [1, 3, 7, 10, 64])
def test_equals_autograd_through_the_whole_matrix(block_size: int, negatives: str) -> None:
    for normalize in (True, False):
        arguments = (0.3, normalize, negatives)
        expected = loss_and_gradient(with_the_whole_matrix, views(10), *arguments)
        actual = loss_and_gradient(
            lambda *args: nt_xent(*args, block_size=block_size).loss, views(10), *arguments
        )
        torch.testing.assert_close(actual, expected, rtol=1e-7, atol=1e-10)


def test_blocks_that_are_not_kept_between_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    z = views(12)
    kept = loss_and_gradient(lambda z: nt_xent(z, 0.2, block_size=5).loss, z)
    monkeypatch.setattr("simclr_ablate.losses.blockwise._KEPT_ELEMENTS", 0)
    recomputed = loss_and_gradient(lambda z: nt_xent(z, 0.2, block_size=5).loss, z)
    torch.testing.assert_close(recomputed, kept, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("negatives", ["both", "one"])
@pytest.mark.parametrize("normalize", [True, False])
def test_gradcheck(normalize: bool, negatives: str) -> None:
    def loss(z: Tensor) -> Tensor:
        return nt_xent(z, 0.4, normalize, negatives, block_size=3).loss

    assert torch.autograd.gradcheck(loss, views(5, dim=3).requires_grad_())


@pytest.mark.parametrize("tau", [0.01, 100.0])
@pytest.mark.parametrize("normalize", [True, False])
def test_extreme_temperatures_in_float32(tau: float, normalize: bool) -> None:
    z = views(30, dim=16, dtype=torch.float32)
    if not normalize:
        z *= 3  # logits beyond what float32's exponential can represent
    arguments = (tau, normalize, "both")
    expected = loss_and_gradient(with_the_whole_matrix, z.double(), *arguments)
    actual = loss_and_gradient(lambda *args: nt_xent(*args).loss, z, *arguments)
    torch.testing.assert_close(actual[0].double(), expected[0], rtol=1e-4, atol=1e-4)
    scale = expected[1].abs().max().item()
    torch.testing.assert_close(actual[1].double(), expected[1], rtol=2e-2, atol=1e-3 * scale)


def test_a_loss_far_below_the_rounding_of_its_logits() -> None:
    z = torch.eye(8).repeat(2, 1)
    arguments = (1 / 30, True, "both")
    expected = loss_and_gradient(with_the_whole_matrix, z.double(), *arguments)[0]
    assert nt_xent(z, *arguments).loss.item() == pytest.approx(expected.item(), rel=1e-4)
    assert 0 < expected < 1e-11


def test_scaling_the_loss_scales_the_gradient() -> None:
    z = views(6)
    once = loss_and_gradient(lambda z: nt_xent(z, 0.5).loss, z)[1]
    thrice = loss_and_gradient(lambda z: 3 * nt_xent(z, 0.5).loss, z)[1]
    torch.testing.assert_close(thrice, 3 * once)


def test_only_the_loss_is_differentiable() -> None:
    result = nt_xent(views(6).requires_grad_(), 0.5)
    assert isinstance(result, ContrastiveLoss)
    assert [value.requires_grad for value in result] == [True, False, False]
    with torch.no_grad():
        assert torch.equal(nt_xent(views(6), 0.5).loss, result.loss)


def test_collapsed_views_are_chance() -> None:
    result = nt_xent(torch.ones(20, 4), 0.1)
    assert result.loss.item() == pytest.approx(math.log(19))
    assert result.entropy.item() == pytest.approx(math.log(10), rel=1e-5)
    assert result.accuracy == 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_float32_inside_for_half_precision_and_under_autocast(dtype: torch.dtype) -> None:
    z = views(8, dtype=dtype)
    expected = loss_and_gradient(lambda z: nt_xent(z, 0.05).loss, z.float())
    with torch.autocast("cpu", torch.bfloat16):
        actual = loss_and_gradient(lambda z: nt_xent(z, 0.05).loss, z)
    assert (actual[0].dtype, actual[1].dtype) == (torch.float32, dtype)
    assert torch.equal(actual[0], expected[0])
    assert torch.equal(actual[1], expected[1].to(dtype))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_bad_number_shows_in_the_loss(bad: float) -> None:
    z = views(6)
    z[2, 1] = bad
    assert not nt_xent(z, 0.5).loss.isfinite()
    assert not nt_xent(z, 0.5, normalize=False).loss.isfinite()


def test_memory_grows_with_the_batch_not_with_its_square() -> None:
    def peak(n: int) -> int:
        z = torch.randn(2 * n, 8, requires_grad=True)
        with torch.profiler.profile(profile_memory=True, record_shapes=False) as profile:
            nt_xent(z, 0.1, block_size=256).loss.backward()
        held = most = 0
        for event in profile.profiler.kineto_results.events():
            if event.name() == "[memory]":
                held += event.nbytes()
                most = max(most, held)
        return most

    # The matrix would take 64 MiB.
    assert peak(2048) < 4 * 2**20


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"temperature": -0.1}, r"loss\.temperature must be > 0, got -0\.1"),
        ({"temperature": math.nan}, r"loss\.temperature must be > 0, got nan"),
        ({"negatives": "none"}, r"loss\.negatives must be one of both, one, got 'none'"),
        ({"block_size": 0}, r"block_size must be >= 1, got 0"),
        ({"z": torch.ones(5, 3)}, r"z must have shape \(2N, D\) with N >= 2, got \(5, 3\)"),
        ({"z": torch.ones(2, 3)}, r"z must have shape \(2N, D\) with N >= 2, got \(2, 3\)"),
    ],
)
def test_refuses_arguments_out_of_range(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        nt_xent(**{"z": torch.ones(6, 3), "temperature": 0.5, **arguments})
