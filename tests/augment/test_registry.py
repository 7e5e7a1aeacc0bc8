"""Names of operations and policies: the schema's, the user's, and those that do not exist."""

from collections.abc import Callable

import pytest
import torch
from torch import Generator

from simclr_ablate.augment.policies import own_policy, pair_policy, simclr_policy
from simclr_ablate.augment.registry import OPERATIONS, Magnitudes
from simclr_ablate.schema import OPERATION_NAMES

OWN = """
from simclr_ablate.augment.operations import RandomResizedCrop, Solarize
from simclr_ablate.augment.policies import Policy

def invert(magnitudes):
    return [Solarize(threshold=0.0)]

def crop_inverted(magnitudes):
    crop = RandomResizedCrop(magnitudes.size, magnitudes.crop_area)
    return Policy(shared=[crop], second=invert(magnitudes))

def one(magnitudes):
    return Solarize(threshold=0.0)

def broken(magnitudes):
    return [Solarize(magnitudes.threshold)]
"""


@pytest.fixture
def mine(own_module: Callable[[str], str]) -> str:
    return own_module(OWN)


def test_the_schema_names_the_same_operations() -> None:
    assert tuple(OPERATIONS) == OPERATION_NAMES


def test_an_operation_of_the_users_own_can_be_paired(mine: str) -> None:
    images = torch.rand(6, 3, 8, 8)
    views = pair_policy(8, f"{mine}:invert").two_views(images, Generator().manual_seed(1))
    torch.testing.assert_close(views[:6], 1 - views[6:])
    twice = pair_policy(8, f"{mine}:invert", "sobel").two_views(images, Generator().manual_seed(1))
    once = pair_policy(8, "sobel").two_views(1 - images, Generator().manual_seed(1))
    torch.testing.assert_close(twice[:6], once[:6])


def test_an_operation_of_the_users_own_can_be_simclrs_extra_one(mine: str) -> None:
    images = torch.rand(40, 3, 8, 8)
    plain, extra = (
        simclr_policy(8, extra=name).two_views(images, Generator().manual_seed(1))
        for name in (None, f"{mine}:invert")
    )
    inverted = ((extra - (1 - plain)).abs().amax((1, 2, 3)) < 1e-5).float()
    same = ((extra - plain).abs().amax((1, 2, 3)) < 1e-5).float()
    assert torch.equal(inverted + same, torch.ones(80))
    assert 0.25 < inverted.mean() < 0.75


def test_a_policy_of_the_users_own(mine: str) -> None:
    policy = own_policy(f"{mine}:crop_inverted", Magnitudes(8, crop_area=0.5))
    assert policy.shared[0].min_area == 0.5
    views = policy.two_views(torch.rand(6, 3, 12, 10), Generator().manual_seed(1))
    torch.testing.assert_close(views[:6], 1 - views[6:])


@pytest.mark.parametrize("names", [("colour",), ("crop", "colour")])
def test_an_unknown_operation_is_named_with_the_accepted_ones(names: tuple[str, ...]) -> None:
    key = "first" if len(names) == 1 else "second"
    message = rf"views\.{key} must be .*crop, cutout, .*, rotate, or package.*, got 'colour'"
    with pytest.raises(ValueError, match=message):
        pair_policy(8, *names)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("one", r"views\.first=.*:one must make a list of Operations, got Solarize"),
        ("crop_inverted", r"must make a list of Operations, got <.*Policy"),
        ("broken", r"failed: AttributeError: 'Magnitudes' .*'threshold' \(mine_.*\.py, line 16\)"),
    ],
)
def test_what_is_no_operation_is_named(mine: str, function: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pair_policy(8, f"{mine}:{function}")


def test_what_is_no_policy_is_named(mine: str) -> None:
    with pytest.raises(ValueError, match=r"views\.policy=.*:invert must make a Policy, got list"):
        own_policy(f"{mine}:invert", Magnitudes(8))
