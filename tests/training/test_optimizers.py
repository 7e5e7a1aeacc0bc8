import pytest
import torch
from torch import nn

from simclr_ablate.models.encoder import build_encoder
from simclr_ablate.models.head import build_head
from simclr_ablate.training.optimizers import OPTIMIZERS, build_optimizer, set_learning_rate


def networks() -> list[nn.Module]:
    encoder = build_encoder("resnet8", 1, "strided")
    return [encoder, build_head("nonlinear", encoder.dim, 16)]


def with_gradients(modules: list[nn.Module]) -> list[nn.Module]:
    for module in modules:
        for parameter in module.parameters():
            parameter.grad = torch.randn_like(parameter)
    return modules


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_norms_and_biases_do_not_decay(name: str) -> None:
    modules = [*networks(), nn.Linear(4, 3)]
    optimizer = build_optimizer(modules, name, weight_decay=0.1)
    decay = {id(p): g["weight_decay"] for g in optimizer.param_groups for p in g["params"]}
    adapt = {id(p): g.get("adapt") for g in optimizer.param_groups for p in g["params"]}
    for module in (layer for m in modules for layer in m.modules()):
        for kind, parameter in module.named_parameters(recurse=False):
            is_weight = kind == "weight" and isinstance(module, nn.Conv2d | nn.Linear)
            assert decay.pop(id(parameter)) == (0.1 if is_weight else 0)
            assert adapt[id(parameter)] == (is_weight if name == "lars" else None)
    assert not decay


def test_sgd_against_the_formula() -> None:
    layer = with_gradients([nn.Linear(4, 3).double()])[0]
    optimizer = build_optimizer([layer], "sgd", weight_decay=0.1, momentum=0.8)
    expected = {}
    for name, parameter in layer.named_parameters():
        w, v = parameter.detach().clone(), torch.zeros_like(parameter)
        for lr in (0.5, 0.2):
            g = parameter.grad + (0.1 if name == "weight" else 0) * w
            v = 0.8 * v + g
            w = w - lr * (g + 0.8 * v)
        expected[name] = w
    for lr in (0.5, 0.2):
        set_learning_rate(optimizer, lr)
        optimizer.step()
    torch.testing.assert_close(dict(layer.named_parameters()), expected)


def test_adamw_against_the_formula() -> None:
    layer = with_gradients([nn.Linear(4, 3).double()])[0]
    optimizer = build_optimizer([layer], "adamw", weight_decay=0.1, momentum=0.8)
    expected = {}
    for name, parameter in layer.named_parameters():
        w, g = parameter.detach().clone(), parameter.grad
        m = s = torch.zeros_like(g)
        for step, lr in enumerate((0.5, 0.2), 1):
            w = w * (1 - lr * (0.1 if name == "weight" else 0))
            m, s = 0.8 * m + 0.2 * g, 0.999 * s + 0.001 * g**2
            w = w - lr * (m / (1 - 0.8**step)) / ((s / (1 - 0.999**step)).sqrt() + 1e-8)
        expected[name] = w
    for lr in (0.5, 0.2):
        set_learning_rate(optimizer, lr)
        optimizer.step()
    torch.testing.assert_close(dict(layer.named_parameters()), expected)


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_nothing_moves_before_a_learning_rate_is_set(name: str, momentum: float) -> None:
    modules = with_gradients(networks())
    before = [p.detach().clone() for module in modules for p in module.parameters()]
    optimizer = build_optimizer(modules, name, weight_decay=0.1, momentum=momentum)
    optimizer.step()
    after = [p.detach() for module in modules for p in module.parameters()]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    set_learning_rate(optimizer, 0.1)
    optimizer.step()
    assert not any(torch.equal(a, b) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "adam"}, r"optimizer\.name must be one of lars, sgd, adamw, got 'adam'"),
        ({"momentum": 1.0}, r"optimizer\.momentum must be >= 0 and < 1, got 1\.0"),
        ({"weight_decay": -1.0}, r"optimizer\.weight_decay must be >= 0, got -1\.0"),
    ],
)
def test_refuses_arguments_out_of_range(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_optimizer([nn.Linear(2, 2)], **{"name": "sgd", **arguments})
