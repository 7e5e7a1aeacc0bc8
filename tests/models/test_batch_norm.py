"""Batch norm shared by ranks against torch's own on the whole batch in one process."""

import copy
from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from simclr_ablate.config import ConfigError
from simclr_ablate.models.batch_norm import SharedBatchNorm, share_statistics
from simclr_ablate.ranks import SOLO, Ranks

CPU = torch.device("cpu")


class Case(NamedTuple):
    shape: tuple[int, ...]
    dtype: torch.dtype = torch.float64
    layout: torch.memory_format = torch.contiguous_format
    momentum: float | None = 0.1
    bias: bool = True
    offset: float = 0.0
    """Of the inputs, in standard deviations: sums of squares would cancel."""

    def norm(self) -> nn.Module:
        kind = nn.BatchNorm1d if len(self.shape) == 2 else nn.BatchNorm2d
        norm = kind(self.shape[1], momentum=self.momentum, dtype=self.dtype)
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.uniform_(norm.bias)
        if not self.bias:
            norm.register_parameter("bias", None)
        return norm


CASES = [
    Case((24, 5)),
    Case((24, 5), bias=False),
    Case((12, 7, 4, 3)),
    Case((12, 7, 4, 3), layout=torch.channels_last, momentum=None),
    Case((24, 5), torch.float32, bias=False, offset=30),
    Case((12, 7, 4, 3), torch.float32),
    Case((12, 32, 8, 8), torch.float32, torch.channels_last, offset=30),
]


class Passed(NamedTuple):
    """What two passes come to: outputs and input gradients of the second, the gradients of parameters, buffers."""

    output: Tensor
    gradient: Tensor
    parameters: list[Tensor]
    state: dict[str, Tensor]


def twice(norm: nn.Module, inputs: Tensor, upstream: Tensor, layout: torch.memory_format) -> Passed:
    for x, dy in zip(inputs, upstream, strict=True):
        if x.ndim == 4:
            x, dy = x.contiguous(memory_format=layout), dy.contiguous(memory_format=layout)
        x = x.requires_grad_()
        norm.zero_grad()
        output = norm(x)
        output.backward(dy)
    if x.ndim == 4:
        assert output.is_contiguous(memory_format=layout)
    assert x.grad is not None
    gradients = [p.grad for p in norm.parameters() if p.grad is not None]
    return Passed(output.detach(), x.grad, gradients, norm.state_dict())


def on_a_share(ranks: Ranks, work: list[tuple]) -> list[Passed]:
    results = []
    for norm, inputs, upstream, layout in work:
        network = nn.Sequential(
            copy.deepcopy(norm)
        )  # processes share the memory of what they are sent
        share_statistics(network, ranks, CPU)
        assert isinstance(network[0], SharedBatchNorm)
        rows = ranks.share(slice(0, inputs.shape[1]))
        results.append(twice(network[0], inputs[:, rows], upstream[:, rows], layout))
        # In eval mode nobody needs the others.
        if ranks.is_first:
            network.eval()(inputs[0])
    return results


@pytest.mark.parametrize("count", [2, 4])
def test_it_is_batch_norm_of_the_whole_batch(on_ranks: Callable, count: int) -> None:
    work, expected = [], []
    for case in CASES:
        norm = case.norm()
        inputs = torch.randn(2, *case.shape, dtype=case.dtype) + case.offset
        upstream = torch.randn_like(inputs)
        work.append((norm, inputs, upstream, case.layout))
        alone = case.norm()
        alone.load_state_dict(norm.state_dict())
        expected.append(twice(alone, inputs, upstream, case.layout))
    everyones = on_ranks(count, on_a_share, work)
    for case, alone, *shared in zip(CASES, expected, *everyones, strict=True):
        # An offset costs digits, in one process and in many.
        tolerance = 1e-12 if case.dtype == torch.float64 else 1e-5 * max(1, case.offset / 3)
        close = {"rtol": tolerance, "atol": tolerance}
        output = torch.cat([one.output for one in shared])
        torch.testing.assert_close(output, alone.output, **close)
        gradient = torch.cat([one.gradient for one in shared])
        torch.testing.assert_close(gradient, alone.gradient, **close)
        summed = [sum(parts) for parts in zip(*(one.parameters for one in shared), strict=True)]
        # Sums over all images and pixels of what has an error of `tolerance` each.
        torch.testing.assert_close(summed, alone.parameters, rtol=tolerance, atol=50 * tolerance)
        for one in shared:
            assert list(one.state) == list(alone.state)
            torch.testing.assert_close(one.state, alone.state, **close)


def in_bfloat16(ranks: Ranks, norm: nn.Module, x: Tensor, dy: Tensor) -> tuple[Tensor, Tensor]:
    network = nn.Sequential(copy.deepcopy(norm))
    share_statistics(network, ranks, CPU)
    rows = ranks.share(slice(0, len(x)))
    x = x[rows].requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        output = network(x)
    output.backward(dy[rows])
    assert x.grad is not None
    return output.detach(), x.grad


def unmoved_and_odd(ranks: Ranks, norm: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """Ranks with unequal shares, statistics not tracked."""
    network = nn.Sequential(copy.deepcopy(norm))
    share_statistics(network, ranks, CPU)
    network[0].track_running_stats = False
    before = network[0].running_mean.clone()
    output = network(x[:3] if ranks.is_first else x[3:])
    assert torch.equal(network[0].running_mean, before)
    return output.detach(), network[0].num_batches_tracked


def everything_else(ranks: Ranks, half: tuple, odd: tuple) -> list[tuple[Tensor, Tensor]]:
    return [in_bfloat16(ranks, *half), unmoved_and_odd(ranks, *odd)]


def test_half_precision_and_statistics_that_stay(on_ranks: Callable) -> None:
    norm = Case((12, 7, 4, 3), torch.float32).norm()
    x, dy = torch.randn(2, 12, 7, 4, 3).bfloat16()
    odd, rows = Case((10, 5)).norm(), torch.randn(10, 5, dtype=torch.float64)
    shared = on_ranks(2, everything_else, (norm, x, dy), (odd, rows))
    output, gradient = (torch.cat([one[0][k] for one in shared]) for k in (0, 1))
    assert output.dtype == gradient.dtype == torch.bfloat16
    exact = x.float().requires_grad_()
    expected = norm(exact)
    expected.backward(dy.float())
    torch.testing.assert_close(output.float(), expected.detach(), rtol=1e-2, atol=1e-2)
    torch.testing.assert_close(gradient.float(), exact.grad, rtol=2e-2, atol=2e-2)
    torch.testing.assert_close(torch.cat([one[1][0] for one in shared]), odd(rows).detach())
    assert all(one[1][1] == 0 for one in shared)


def test_a_process_that_is_alone_keeps_torchs_own() -> None:
    network = nn.Sequential(nn.BatchNorm1d(3), nn.Sequential(nn.BatchNorm2d(3)))
    before = list(network.modules())
    share_statistics(network, SOLO, CPU)
    assert list(network.modules()) == before


class NormAndReLU(nn.BatchNorm2d):
    """As timm has it."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input).relu()


def refused(ranks: Ranks) -> str:
    try:
        share_statistics(nn.Sequential(NormAndReLU(3)), ranks, CPU)
    except ConfigError as error:
        return str(error)
    return ""


def test_batch_norms_that_do_more_are_not_shared(on_ranks: Callable) -> None:
    said = "compute.ranks must be 1 for an encoder with NormAndReLU, got 2"
    assert on_ranks(2, refused) == [said, said]
