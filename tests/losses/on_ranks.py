"""Losses whose blocks several ranks share: what each rank gets."""

import functools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from simclr_ablate.losses.exact import ContrastiveLoss
from simclr_ablate.ranks import Ranks

Variant = functools.partial[ContrastiveLoss]
"""A loss of z, with `ranks`."""


def losses(ranks: Ranks, batches: Sequence[Tensor], variants: Sequence[Variant]) -> list[Tensor]:
    """For each batch and variant: loss, accuracy, entropy, and the gradient."""
    results = []
    for z in batches:
        for variant in variants:
            ours = z.clone().requires_grad_()
            result = variant(ours, ranks=ranks)
            result.loss.backward()
            assert ours.grad is not None
            results.append(torch.cat([torch.stack([*result]).detach(), ours.grad.flatten()]))
    return results


def losses_by_size(
    ranks: Ranks, small: Sequence[Tensor], large: Sequence[Tensor], variants: Sequence[Variant]
) -> list[Tensor]:
    """The same of small batches and of large ones, which have too many blocks of five to take."""
    without_fives = [variant for variant in variants if variant.keywords["block_size"] != 5]
    return losses(ranks, small, variants) + losses(ranks, large, without_fives)


def noisy_pairs(n: int, dtype: torch.dtype) -> Tensor:
    """z, (2n, 6), of which rows i and i+n resemble each other."""
    images = torch.randn(n, 6, dtype=dtype).repeat(2, 1)
    return images + 0.5 * torch.randn(2 * n, 6, dtype=dtype)


def assert_a_bad_number_shows(on_ranks: Callable, variants: Sequence[Variant]) -> None:
    """A NaN in z makes every loss not finite, on all ranks."""
    z = torch.randn(40, 4)
    z[3, 1] = torch.nan
    for results in on_ranks(2, losses, [z], variants):
        assert not any(result[0].isfinite() for result in results)
