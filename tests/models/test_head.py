import pytest
import torch

from simclr_ablate.models.head import build_head

EPSILON = 1e-5


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
