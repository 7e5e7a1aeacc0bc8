"""The loss whose blocks several ranks share, against one process."""

import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from simclr_ablate.losses.nt_xent import nt_xent
from simclr_ablate.training.distributed import SOLO, Ranks

VARIANTS = [
    (tau, normalize, negatives, block_size)
    for tau, normalize, negatives, block_size in itertools.product(
        (0.05, 1.0), (True, False), ("both", "one"), (None, 5, 16, 1000)
    )
]


def losses(ranks: Ranks, batches: list[Tensor]) -> list[Tensor]:
    """For each batch and variant: loss, accuracy, entropy, and the gradient."""
    results = []
    for z in batches:
        for variant in VARIANTS:
            ours = z.clone().requires_grad_()
            result = nt_xent(ours, *variant, ranks=ranks)
            result.loss.backward()
            assert ours.grad is not None
            results.append(torch.cat([torch.stack([*result]).detach(), ours.grad.flatten()]))
    return results


@pytest.mark.parametrize("count", [2, 4])
def test_ranks_get_the_loss_and_gradient_of_one_process(on_ranks: Callable, count: int) -> None:
    batches = []
    for n, dtype in ((2, torch.float64), (37, torch.float64), (300, torch.float32)):
        images = torch.randn(n, 6, dtype=dtype).repeat(2, 1)
        batches.append(images + 0.5 * torch.randn(2 * n, 6, dtype=dtype))
    alone = losses(SOLO, batches)
    everyones = on_ranks(count, losses, batches)
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
    z = torch.randn(40, 4)
    z[3, 1] = torch.nan
    for results in on_ranks(2, losses, [z]):
        assert not any(result[0].isfinite() for result in results)
