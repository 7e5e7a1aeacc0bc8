"""Gradients in parts against autograd with the graphs of all parts at once."""

import functools

import pytest
import torch
from torch import Tensor, nn

from simclr_ablate.losses.nt_xent import nt_xent
from simclr_ablate.ranks import Ranks
from simclr_ablate.training.micro_batches import backward_in_parts

N, DIM = 24, 6


def network() -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(10, 16), nn.BatchNorm1d(16), nn.Tanh(), nn.Linear(16, DIM)
    ).double()


def parts_of(size: int) -> list[slice]:
    return [slice(k, k + size) for k in range(0, N, size)]


@pytest.fixture
def inputs() -> Tensor:
    return torch.randn(2, N, 10, dtype=torch.float64)


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("negatives", ["both", "one"])
@pytest.mark.parametrize("size", [2, 8, 24])
def test_gradients_are_those_of_the_whole_batch(
    inputs: Tensor, size: int, negatives: str, normalize: bool
) -> None:
    loss = functools.partial(nt_xent, temperature=0.4, normalize=normalize, negatives=negatives)
    model = network()
    model(inputs.flatten(0, 1))  # statistics that are not those of the start
    model.eval()
    whole = loss(model(inputs.flatten(0, 1)))
    whole.loss.backward()
    expected = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    result = backward_in_parts(
        lambda part: model(inputs[:, part].flatten(0, 1)), parts_of(size), loss, [model]
    )
    for p, gradient in zip(model.parameters(), expected, strict=True):
        torch.testing.assert_close(p.grad, gradient, rtol=1e-10, atol=1e-13)
    torch.testing.assert_close(torch.stack([*result]), torch.stack([*whole]).detach())
    assert not result.loss.requires_grad


def test_batch_norm_in_training_sees_each_part_once(inputs: Tensor) -> None:
    loss = functools.partial(nt_xent, temperature=0.4)
    ours, theirs = network(), network()
    theirs.load_state_dict(ours.state_dict())
    parts = parts_of(8)
    embedded = [theirs(inputs[:, part].flatten(0, 1)).chunk(2) for part in parts]
    loss(torch.cat([half for view in zip(*embedded, strict=True) for half in view])).loss.backward()
    backward_in_parts(lambda part: ours(inputs[:, part].flatten(0, 1)), parts, loss, [ours])
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-10, atol=1e-13)
    for (name, buffer), other in zip(ours.named_buffers(), theirs.buffers(), strict=True):
        torch.testing.assert_close(buffer, other, msg=name)
    assert ours[1].track_running_stats


def test_statistics_are_tracked_again_after_an_error(inputs: Tensor) -> None:
    model = network()

    def fails(part: slice) -> Tensor:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        backward_in_parts(fails, parts_of(8), functools.partial(nt_xent, temperature=1), [model])
    assert model[1].track_running_stats


def test_parts_that_ranks_cannot_share_evenly_are_refused(inputs: Tensor) -> None:
    """Since z of all ranks is gathered."""
    ranks = Ranks.__new__(Ranks)
    ranks.index, ranks.count = 0, 5
    with pytest.raises(ValueError, match="8 images cannot be shared evenly by 5 ranks"):
        backward_in_parts(lambda part: inputs[:, part], parts_of(8), nt_xent, [], ranks)
