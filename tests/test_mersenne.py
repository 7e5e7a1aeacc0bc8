"""Numbers that were skipped are those that would have been drawn."""

import pytest
import torch

from simclr_ablate.mersenne import skip


@pytest.mark.parametrize("before", [0, 1, 300, 623, 624, 625])
@pytest.mark.parametrize("skipped", [0, 16, 608, 624, 16_000, 320_000])
def test_a_generator_goes_on_where_it_would_be(before: int, skipped: int) -> None:
    plain, jumping = (torch.Generator().manual_seed(before + 7) for _ in range(2))
    for generator in (plain, jumping):
        torch.rand(before, generator=generator)
    torch.rand(skipped, generator=plain)
    skip(jumping, skipped)
    assert torch.equal(torch.rand(2000, generator=jumping), torch.rand(2000, generator=plain))
    assert torch.equal(torch.randn(1, generator=jumping), torch.randn(1, generator=plain))


def test_far_is_no_further() -> None:
    """Two thousand million numbers, in steps and at once."""
    at_once, in_steps = (torch.Generator().manual_seed(1) for _ in range(2))
    skip(at_once, 2 * 10**9)
    for _ in range(20):
        skip(in_steps, 10**8)
    assert torch.equal(torch.rand(9, generator=at_once), torch.rand(9, generator=in_steps))
