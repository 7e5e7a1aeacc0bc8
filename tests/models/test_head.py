from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from simclr_ablate.evaluation.features import extract
from simclr_ablate.models.batch_norm import share_statistics
from simclr_ablate.models.head import build_head
from simclr_ablate.ranks import Ranks
from simclr_ablate.schema import Experiment
from simclr_ablate.tasks.networks import build_models

EPSILON = 1e-5
CPU = torch.device("cpu")

OWN = """
from torch import nn

def deep(in_dim, dim):
    return nn.Sequential(nn.Linear(in_dim, 5), nn.Tanh(), nn.Linear(5, 2 * dim))

def late(in_dim, dim):
    return nn.Sequential(nn.LazyLinear(dim), nn.BatchNorm1d(dim))

def norm(in_dim, dim):
    return nn.BatchNorm1d(in_dim)

def number(in_dim, dim):
    return dim

def pair(in_dim, dim):
    class Pair(nn.Linear):
        def forward(self, h):
            return h, super().forward(h)
    return Pair(in_dim, dim)

def flat(in_dim, dim):
    return nn.Flatten(0)

def narrow(in_dim, dim):
    return nn.Linear(in_dim - 1, dim)
"""


@pytest.fixture
def mine(own_module: Callable[[str], str]) -> str:
    return own_module(OWN)


def standardised(x: torch.Tensor) -> torch.Tensor:
    return (x - x.mean(0)) / torch.sqrt(x.var(0, unbiased=False) + EPSILON)


def shapes(kind: str) -> dict[str, tuple[int, ...]]:
    return {name: tuple(p.shape) for name, p in build_head(kind, 24, 10).named_parameters()}


def test_parameters_are_those_of_the_released_code() -> None:
    output = {"output.weight": (10, 24), "output_norm.weight": (10,)}
    hidden = {"hidden.weight": (24, 24), "hidden_norm.weight": (24,), "hidden_norm.bias": (24,)}
    assert shapes("none") == {}
    assert shapes("linear") == output
    assert shapes("nonlinear") == hidden | output


@pytest.mark.parametrize(("kind", "dim"), [("none", 24), ("linear", 128), ("nonlinear", 128)])
def test_width_of_z(kind: str, dim: int) -> None:
    head = build_head(kind, 24)
    assert head.dim == dim
    assert head(torch.randn(6, 24)).shape == (6, dim)


def test_no_head_leaves_h_as_it_is() -> None:
    h = torch.randn(5, 24)
    assert torch.equal(build_head("none", 24, 10)(h), h)


def test_linear_head_scales_and_does_not_shift() -> None:
    head = build_head("linear", 24, 10).double()
    scale = torch.rand(10).double()
    head.output_norm.weight.data = scale
    h = torch.randn(40, 24).double()
    torch.testing.assert_close(head(h), scale * standardised(h @ head.output.weight.T))


def test_nonlinear_head_against_the_formula() -> None:
    head = build_head("nonlinear", 24, 10).double()
    scale, shift = torch.rand(2, 24).double()
    head.hidden_norm.weight.data, head.hidden_norm.bias.data = scale, shift
    h = torch.randn(40, 24).double()
    hidden = (scale * standardised(h @ head.hidden.weight.T) + shift).relu()
    torch.testing.assert_close(head(h), standardised(hidden @ head.output.weight.T))


def test_refuses_an_unknown_kind_and_no_width() -> None:
    with pytest.raises(ValueError, match=r"head\.kind must be one of .*, got 'mlp'"):
        build_head("mlp", 24)
    with pytest.raises(ValueError, match=r"head\.dim must be >= 1, got 0"):
        build_head("linear", 24, 0)


def test_a_head_of_the_users_own_is_seeded_and_evaluated_as_ours(
    mine: str, make_experiment: Callable[..., Experiment]
) -> None:
    experiment = make_experiment(f"head.kind={mine}:deep", "head.dim=9")
    (encoder, head), (_, again) = build_models(experiment, CPU), build_models(experiment, CPU)
    _, other = build_models(make_experiment(f"head.kind={mine}:deep", "seed=1"), CPU)
    (first, _, last) = layers = head.own
    assert torch.equal(first.weight, again.own[0].weight)
    assert not torch.equal(first.weight, other.own[0].weight)
    images, labels = torch.rand(6, 3, 32, 32), torch.arange(6)
    h, z = (extract(encoder, [(images, labels)], head=part).features for part in (None, head))
    assert isinstance(layers, nn.Sequential)
    torch.testing.assert_close(
        z, (h @ first.weight.T + first.bias).tanh() @ last.weight.T + last.bias
    )
    assert z.shape == (6, head.dim) == (6, 18)


def test_a_head_of_the_users_own_may_learn_the_width_of_h_by_itself(mine: str) -> None:
    head = build_head(f"{mine}:late", 24, 10)
    assert head.own[0].weight.shape == (10, 24)
    assert torch.equal(head.own[1].running_mean, torch.zeros(10)), "measuring z moved statistics"
    assert all(module.training for module in head.modules())


def on_a_share(ranks: Ranks, kind: str, h: Tensor) -> Tensor:
    head = build_head(kind, h.shape[1])
    share_statistics(head, ranks, CPU)
    return head(h[ranks.share(slice(0, len(h)))]).detach()


def test_ranks_share_the_statistics_of_a_head_of_the_users_own(
    mine: str, on_ranks: Callable
) -> None:
    h = torch.randn(12, 7) * 3 + 1
    everyones = on_ranks(2, on_a_share, f"{mine}:norm", h)
    torch.testing.assert_close(torch.cat(everyones), standardised(h), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("number", r"head\.kind=mine_.*:number must make a torch\.nn\.Module, got int"),
        ("pair", r"must map h, \(3, 24\), to z, \(3, D\), got tuple"),
        ("flat", r"must map h, \(3, 24\), to z, \(3, D\), got \(72,\)"),
        ("narrow", r"must take h, \(3, 24\), and failed: RuntimeError: mat1 and mat2"),
    ],
)
def test_what_is_no_head_is_named(mine: str, function: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_head(f"{mine}:{function}", 24, 10)
