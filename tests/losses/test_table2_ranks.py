"""NT-Logistic and margin triplet whose blocks several ranks share, against one process."""

import functools
import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from simclr_ablate.losses.margin_triplet import margin_triplet
from simclr_ablate.losses.nt_logistic import nt_logistic
from simclr_ablate.training.distributed import SOLO, Ranks

VARIANTS = [
    functools.partial(loss, normalize=normalize, negatives=negatives, block_size=block_size)
    for loss, normalize, negatives, block_size in itertools.product(
        (
            functools.partial(nt_logistic, temperature=0.2),
            functools.partial(nt_logistic, temperature=0.2, semi_hard=True),
            functools.partial(nt_logistic, temperature=0.2, semi_hard=True, margin=0.3),
            functools.partial(margin_triplet, margin=0.4),
            functools.partial(margin_triplet, margin=0.4, semi_hard=True),
        ),
        (True, False),
        ("both", "one"),
        (None, 5, 64),
    )
]


def losses(ranks: Ranks, batches: list[Tensor]) -> list[Tensor]:
    """For each batch and variant: loss, accuracy, entropy, and the gradient."""
    results = []
    for z in batches:
        for variant in VARIANTS:
            ours = z.clone().requires_grad_()
            result = variant(ours, ranks=ranks)
            result.loss.backward()
            assert ours.grad is not None
            results.append(torch.cat([torch.stack([*result]).detach(), ours.grad.flatten()]))
    return results


@pytest.mark.parametrize("count", [2, 4])
def test_ranks_get_the_loss_and_gradient_of_one_process(on_ranks: Callable, count: int) -> None:
    # Float64: blocks of other sizes round otherwise, and a pair at a kink then jumps.
    batches = []
    for n in (2, 37, 140):
        images = torch.randn(n, 6, dtype=torch.float64).repeat(2, 1)
        batches.append(images + 0.5 * torch.randn(2 * n, 6, dtype=torch.float64))
    alone = losses(SOLO, batches)
    everyones = on_ranks(count, losses, batches)
    for expected, *shared in zip(alone, *everyones, strict=True):
        for one in shared:
            torch.testing.assert_close(one, expected, rtol=1e-10, atol=1e-10)
            assert torch.equal(one, shared[0])


def test_a_bad_number_shows_on_all_ranks(on_ranks: Callable) -> None:
    z = torch.randn(40, 4)
    z[3, 1] = torch.nan
    for results in on_ranks(2, losses, [z]):
        assert not any(result[0].isfinite() for result in results)
