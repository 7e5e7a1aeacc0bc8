"""Table 5's accuracy and entropy, which every loss reports alike, against the released code."""

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from simclr_ablate.losses.candidates import OtherView
from simclr_ablate.losses.exact import ContrastiveLoss
from simclr_ablate.losses.margin_triplet import margin_triplet
from simclr_ablate.losses.nt_logistic import nt_logistic
from simclr_ablate.losses.nt_xent import nt_xent

LOSSES: dict[str, Callable[..., ContrastiveLoss]] = {
    "nt_xent": nt_xent,
    "nt_xent semi-hard": lambda z, tau, *rest, **more: nt_xent(z, tau, *rest, True, **more),
    "nt_logistic": nt_logistic,
    "nt_logistic semi-hard": lambda z, tau, *rest, **more: nt_logistic(z, tau, *rest, True, **more),
    "margin_triplet": lambda z, tau, *rest, **more: margin_triplet(z, 0.4, tau, *rest, **more),
    "margin_triplet semi-hard": lambda z, tau, *rest, **more: margin_triplet(
        z, 0.4, tau, *rest, True, **more
    ),
}
"""By (z, temperature, normalize, negatives)."""
EVERY_LOSS = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES.keys())


def as_released(z: Tensor, tau: float, normalize: bool) -> list[float]:
    """What google-research/simclr sums up as `contrast_acc` and `contrast_entropy`: of logits_ab alone."""
    hidden = z.double()
    if normalize:
        hidden = hidden / hidden.pow(2).sum(1, keepdim=True).sqrt()
    hidden1, hidden2 = hidden.chunk(2)
    logits_ab = hidden1 @ hidden2.T / tau
    prob = logits_ab.softmax(1)
    entropy = -(prob * (prob + 1e-8).log()).sum(1).mean()
    accuracy = (logits_ab.argmax(1) == torch.arange(len(hidden1))).double().mean()
    return [accuracy.item(), entropy.item()]


def views(n: int, dim: int = 5) -> Tensor:
    """Views whose positives are nearer than most, but not all, negatives."""
    images = torch.randn(n, dim, dtype=torch.float64).repeat(2, 1)
    return images + 0.7 * torch.randn(2 * n, dim, dtype=torch.float64)


@pytest.mark.slow
@EVERY_LOSS
def test_equals_the_released_code_whatever_the_negatives(loss: Callable) -> None:
    z = views(17)
    for tau, normalize, negatives in itertools.product(
        (0.05, 0.5, 1.0, 10.0), (True, False), ("both", "one")
    ):
        expected = as_released(z, tau, normalize)
        for block_size in (1, 5, None):
            found = loss(z, tau, normalize, negatives, block_size=block_size)
            assert [found.accuracy.item(), found.entropy.item()] == pytest.approx(
                expected, abs=1e-6
            )
    assert 0 < expected[0] < 1


@EVERY_LOSS
@pytest.mark.parametrize(("normalize", "tau"), [(True, 0.01), (False, 1.0)])
def test_views_whose_like_are_in_their_own_view(
    loss: Callable, normalize: bool, tau: float
) -> None:
    """Logits of pairs within a view are larger by more than float32's exponents reach."""
    z = torch.randn(60, 16) / 10
    z += torch.tensor([4.0, -4.0]).repeat_interleave(30).unsqueeze(1)
    accuracy, entropy = as_released(z, tau, normalize)
    found = loss(z, tau, normalize, "both", block_size=16)
    assert found.accuracy.item() == pytest.approx(accuracy, abs=1e-6)
    assert found.entropy.item() == pytest.approx(entropy, abs=1e-2)
    assert entropy > 0.1


def test_the_papers_first_row_is_within_reach() -> None:
    """Table 5, temperature 1: 8.3 of at most ln 4096 = 8.318. Over all 8,191 views nothing under 8.5 comes out."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(4096, 128, generator=generator).repeat(2, 1)
    z = images + 0.3 * torch.randn(8192, 128, generator=generator)
    entropy = nt_xent(z, 1.0).entropy.item()
    assert round(entropy, 1) == 8.3
    assert entropy < math.log(4096)


@EVERY_LOSS
@pytest.mark.parametrize("block_size", [None, 9])
def test_it_changes_no_bit_of_the_loss_and_its_gradient(
    loss: Callable, block_size: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def both(z: Tensor) -> tuple[Tensor, Tensor]:
        z = z.clone().requires_grad_()
        value = loss(z, 0.2, True, "both", block_size=block_size).loss
        return value.detach(), torch.autograd.grad(value, z)[0]

    z = views(30).float()
    told = both(z)
    monkeypatch.setattr(OtherView, "see", lambda self, block: None)
    assert all(map(torch.equal, told, both(z)))
