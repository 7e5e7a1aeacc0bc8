"""The loss whose blocks several ranks share, against one process."""

import functools
import itertools
from collections.abc import Callable

import pytest
import torch

from simclr_ablate.losses.nt_xent import nt_xent
from simclr_ablate.ranks import SOLO
from tests.losses.on_ranks import assert_a_bad_number_shows, losses_by_size, noisy_pairs

VARIANTS = [
    functools.partial(
        nt_xent,
        temperature=tau,
        normalize=normalize,
        negatives=negatives,
        block_size=block_size,
    )
    for tau, normalize, negatives, block_size in itertools.product(
        (0.05, 1.0), (True, False), ("both", "one"), (None, 5, 16, 1000)
    )
]


@pytest.mark.parametrize("count", [2, 4])
def test_ranks_get_the_loss_and_gradient_of_one_process(on_ranks: Callable, count: int) -> None:
    small = [noisy_pairs(n, torch.float64) for n in (2, 37)]
    large = [noisy_pairs(300, torch.float32)]
    alone = losses_by_size(SOLO, small, large, VARIANTS)
    everyones = on_ranks(count, losses_by_size, small, large, VARIANTS)
    for expected, *shared in zip(alone, *everyones, strict=True):
        tolerance = 1e-11 if expected.dtype == torch.float64 else 1e-5
        entropy = 2  # a difference of logits, which may be thousands
        for one in shared:
            torch.testing.assert_close(
                one[entropy], expected[entropy], rtol=0, atol=100 * tolerance
            )
            ours, theirs = (torch.cat([r[:entropy], r[entropy + 1 :]]) for r in (one, expected))
            torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)
            assert torch.equal(one, shared[0])


def test_a_bad_number_shows_on_all_ranks(on_ranks: Callable) -> None:
    assert_a_bad_number_shows(on_ranks, VARIANTS)
