"""NT-Logistic, margin triplet and semi-hard NT-Xent whose blocks several ranks share, against one process."""

import functools
import itertools
from collections.abc import Callable

import pytest
import torch

from simclr_ablate.losses.margin_triplet import margin_triplet
from simclr_ablate.losses.nt_logistic import nt_logistic
from simclr_ablate.losses.nt_xent import nt_xent
from simclr_ablate.ranks import SOLO
from tests.losses.on_ranks import assert_a_bad_number_shows, losses_by_size, noisy_pairs

VARIANTS = [
    functools.partial(loss, normalize=normalize, negatives=negatives, block_size=block_size)
    for loss, normalize, negatives, block_size in itertools.product(
        (
            functools.partial(nt_logistic, temperature=0.2),
            functools.partial(nt_logistic, temperature=0.2, reduction="mean"),
            functools.partial(nt_logistic, temperature=0.2, semi_hard=True),
            functools.partial(nt_logistic, temperature=0.2, semi_hard=True, margin=0.3),
            functools.partial(nt_xent, temperature=0.2, semi_hard=True, margin=0.3),
            functools.partial(margin_triplet, margin=0.4),
            functools.partial(margin_triplet, margin=0.4, semi_hard=True),
        ),
        (True, False),
        ("both", "one"),
        (None, 5, 64),
    )
]


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 4])
def test_ranks_get_the_loss_and_gradient_of_one_process(on_ranks: Callable, count: int) -> None:
    # Float64: blocks of other sizes round otherwise, and a pair at a kink then jumps.
    small = [noisy_pairs(n, torch.float64) for n in (2, 37)]
    large = [noisy_pairs(140, torch.float64)]
    alone = losses_by_size(SOLO, small, large, VARIANTS)
    everyones = on_ranks(count, losses_by_size, small, large, VARIANTS)
    for expected, *shared in zip(alone, *everyones, strict=True):
        for one in shared:
            torch.testing.assert_close(one, expected, rtol=1e-10, atol=1e-10)
            assert torch.equal(one, shared[0])


def test_a_bad_number_shows_on_all_ranks(on_ranks: Callable) -> None:
    assert_a_bad_number_shows(on_ranks, VARIANTS)
