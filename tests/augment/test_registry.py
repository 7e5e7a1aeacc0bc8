"""Names of operations: the schema's, the user's, and those that do not exist."""

from collections.abc import Iterator

import pytest
import torch

from simclr_ablate.augment.operations import Solarize
from simclr_ablate.augment.policies import pair_policy
from simclr_ablate.augment.registry import OPERATIONS, register
from simclr_ablate.schema import OPERATION_NAMES


@pytest.fixture
def invert() -> Iterator[str]:
    register("invert", lambda magnitudes: [Solarize(threshold=0.0)])
    yield "invert"
    del OPERATIONS["invert"]


def test_the_schema_names_the_same_operations() -> None:
    assert tuple(OPERATIONS) == OPERATION_NAMES


def test_a_registered_operation_can_be_paired(invert: str) -> None:
    images = torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    views = pair_policy(8, invert).two_views(images, torch.Generator().manual_seed(1))
    torch.testing.assert_close(views[:6], 1 - views[6:])
    pair_policy(8, "color", invert).two_views(images, torch.Generator().manual_seed(1))


def test_a_name_is_registered_once(invert: str) -> None:
    with pytest.raises(ValueError, match="must be a new one, got 'invert'"):
        register(invert, lambda magnitudes: [])


@pytest.mark.parametrize("names", [("colour",), ("crop", "colour")])
def test_an_unknown_operation_is_named_with_the_accepted_ones(names: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=r"crop, cutout, .*, rotate, got 'colour'"):
        pair_policy(8, *names)
