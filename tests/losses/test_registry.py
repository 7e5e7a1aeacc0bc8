"""The loss that a config names is the function of that name with the config's arguments."""

import dataclasses
import functools
from collections.abc import Callable

import pytest
import torch

from simclr_ablate.losses.margin_triplet import margin_triplet
from simclr_ablate.losses.nt_logistic import nt_logistic
from simclr_ablate.losses.nt_xent import nt_xent
from simclr_ablate.losses.registry import LOSSES, build_loss
from simclr_ablate.schema import LOSS_NAMES, Experiment, Loss

OWN = """
from simclr_ablate.losses.exact import ContrastiveLoss

def alignment(spec, ranks):
    def loss(z):
        first, second = z.chunk(2)
        distance = (first - second).square().sum(1).mean() / spec.temperature
        return ContrastiveLoss(distance, distance.new_zeros(()), distance.new_zeros(()))

    return loss
"""


@pytest.mark.parametrize(
    ("overrides", "loss"),
    [
        (["loss.temperature=0.3"], functools.partial(nt_xent, temperature=0.3)),
        (
            ["loss.negatives=one", "loss.normalize=false"],
            functools.partial(nt_xent, temperature=0.2, normalize=False, negatives="one"),
        ),
        (
            ["loss.semi_hard=true", "loss.margin=0.3"],
            functools.partial(nt_xent, temperature=0.2, semi_hard=True, margin=0.3),
        ),
        (
            ["loss=nt_logistic", "loss.negatives=one", "loss.normalize=false"],
            functools.partial(nt_logistic, temperature=0.2, normalize=False, negatives="one"),
        ),
        (
            ["loss=nt_logistic", "loss.reduction=mean"],
            functools.partial(nt_logistic, temperature=0.2, reduction="mean"),
        ),
        (
            ["loss=nt_logistic", "loss.semi_hard=true", "loss.margin=0.3"],
            functools.partial(nt_logistic, temperature=0.2, semi_hard=True, margin=0.3),
        ),
        (
            ["loss=margin_triplet", "loss.negatives=one", "loss.normalize=false"],
            functools.partial(
                margin_triplet, margin=0.4, temperature=0.2, normalize=False, negatives="one"
            ),
        ),
        (
            ["loss=margin_triplet", "loss.semi_hard=true", "loss.margin=0.8"],
            functools.partial(margin_triplet, margin=0.8, temperature=0.2, semi_hard=True),
        ),
    ],
)
def test_config_and_function_agree(
    overrides: list[str], loss: Callable, make_experiment: Callable[..., Experiment]
) -> None:
    z = torch.randn(8, 3).repeat(2, 1) + 0.5 * torch.randn(16, 3)
    found = build_loss(make_experiment(*overrides).loss)(z)
    assert all(torch.equal(*pair) for pair in zip(found, loss(z), strict=True))


def test_every_name_that_the_schema_takes_is_a_loss() -> None:
    assert tuple(LOSSES) == LOSS_NAMES


def test_a_loss_of_the_users_own(
    own_module: Callable[[str], str], make_experiment: Callable[..., Experiment]
) -> None:
    mine = own_module(OWN)
    spec = make_experiment(f"loss.name={mine}:alignment", "loss.temperature=0.5").loss
    z = torch.randn(12, 3)
    expected = 2 * (z[:6] - z[6:]).square().sum(1).mean()
    torch.testing.assert_close(build_loss(spec)(z).loss, expected)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("hinge", "must be one of nt_xent, nt_logistic, margin_triplet, or package"),
        ("no_such_module:hinge", "got 'no_such_module:hinge': No module named 'no_such_module'"),
        ("math:hinge", "got 'math:hinge': module 'math' has no 'hinge'"),
    ],
)
def test_what_is_no_loss_is_named(
    name: str, message: str, make_experiment: Callable[..., Experiment]
) -> None:
    spec: Loss = dataclasses.replace(make_experiment().loss, name=name)
    with pytest.raises(ValueError, match=message):
        build_loss(spec)
