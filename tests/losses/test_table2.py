"""Losses against what Table 2 prints of them, one anchor and one negative at a time."""

import itertools
import math
from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, normalize

from simclr_ablate.losses.exact import ContrastiveLoss
from simclr_ablate.losses.margin_triplet import margin_triplet
from simclr_ablate.losses.nt_logistic import nt_logistic
from simclr_ablate.losses.nt_xent import nt_xent

LOSSES = {"nt_logistic": nt_logistic, "margin_triplet": margin_triplet, "nt_xent": nt_xent}


class Case(NamedTuple):
    """A loss and its arguments. Margins of NT-Logistic and NT-Xent count with semi-hard negatives only."""

    name: str
    temperature: float
    margin: float | None
    normalize: bool
    negatives: str
    semi_hard: bool
    reduction: str = "sum"

    def __call__(self, z: Tensor, **settings: object) -> ContrastiveLoss:
        arguments = self._asdict()
        loss = LOSSES[arguments.pop("name")]
        if loss is not nt_logistic:
            del arguments["reduction"]
        return loss(z, **arguments, **settings)


CASES = [
    Case(name, temperature, margin, normalized, negatives, semi_hard)
    for name, normalized, negatives, semi_hard in itertools.product(
        ("nt_logistic", "margin_triplet"), (True, False), ("both", "one"), (False, True)
    )
    for temperature, margin in (
        itertools.product((0.1, 1.0), (None, 0.3) if semi_hard else (None,))
        if name == "nt_logistic"
        else ((0.5, 0.4), (2.0, 1.6 if semi_hard else 0.0))
    )
]
CASES += [
    case._replace(reduction="mean")
    for case in CASES
    if case.name == "nt_logistic" and not case.semi_hard
]
CASES += [
    case._replace(name="nt_xent")
    for case in CASES
    if case.name != "margin_triplet" and case.semi_hard
]
"""With all negatives it has tests of its own: test_nt_xent.py."""
EVERY_CASE = pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case)))


def views(n: int, dim: int = 5, dtype: torch.dtype = torch.float64) -> Tensor:
    """Views whose positives are nearer than most, but not all, negatives."""
    images = torch.randn(n, dim, dtype=torch.float64).repeat(2, 1)
    return (images + 0.7 * torch.randn(2 * n, dim, dtype=torch.float64)).to(dtype)


def negatives_of(anchor: int, n: int, negatives: str) -> list[int]:
    others = range(2 * n) if negatives == "both" else range(n, 2 * n) if anchor < n else range(n)
    return [k for k in others if k % n != anchor % n]


def chosen(case: Case, u: Tensor, positive: Tensor, others: list[Tensor]) -> list[Tensor]:
    """The negatives whose terms Table 2's formula is taken of."""
    if not case.semi_hard:
        return others
    margin = math.inf if case.margin is None else case.margin
    near = u @ positive
    within = [v for v in others if u @ v < near and near - u @ v < margin]
    return [max(within, key=lambda v: (u @ v).item())] if within else []


def as_table_2_has_it(z: Tensor, case: Case) -> Tensor:
    """The loss: the mean over anchors of less Table 2's objective, of all an anchor's negatives."""
    n = len(z) // 2
    z = normalize(z) if case.normalize else z
    losses = [0 * z.sum()]  # of batches in which no anchor has a semi-hard negative
    for anchor, u in enumerate(z):
        positive = z[(anchor + n) % (2 * n)]
        near = u @ positive
        terms = [
            u @ v
            for v in chosen(
                case, u, positive, [z[k] for k in negatives_of(anchor, n, case.negatives)]
            )
        ]
        if case.name == "margin_triplet":
            losses.append(sum((far - near + case.margin).clamp(min=0) for far in terms))
        elif terms and case.name == "nt_xent":
            everything = torch.stack([near, *terms]) / case.temperature
            losses.append(everything.logsumexp(0) - near / case.temperature)
        elif terms:
            losses.append(
                -logsigmoid(near / case.temperature)
                - sum(logsigmoid(-far / case.temperature) for far in terms)
                / (len(terms) if case.reduction == "mean" else 1)
            )
    return torch.stack([torch.as_tensor(loss, dtype=z.dtype) for loss in losses]).sum() / (2 * n)


def printed_gradient(case: Case, u: Tensor, positive: Tensor, others: list[Tensor]) -> dict:
    """Table 2's "gradient w.r.t. u", as the weight of each vector in it."""
    if not others:
        return {}
    weights = {id(v): 0.0 for v in [positive, *others]}
    near, tau = float(u @ positive), case.temperature
    if case.name == "nt_xent":
        shares = {id(v): math.exp(float(u @ v) / tau) for v in [positive, *others]}
        for name, share in shares.items():
            weights[name] = ((name == id(positive)) - share / sum(shares.values())) / tau
        return weights
    for v in others:
        far = float(u @ v)
        if case.name == "margin_triplet":
            inside = near - far < case.margin
            weights[id(positive)] += inside
            weights[id(v)] -= inside
        else:
            share = len(others) if case.reduction == "mean" else 1
            weights[id(v)] -= 1 / (1 + math.exp(-far / tau)) / tau / share
    if case.name == "nt_logistic":
        weights[id(positive)] += 1 / (1 + math.exp(near / tau)) / tau
    return weights


def loss_and_gradient(loss: Callable[[Tensor], Tensor], z: Tensor) -> tuple[Tensor, Tensor]:
    z = z.detach().requires_grad_()
    value = loss(z)
    return value.detach(), torch.autograd.grad(value, z)[0]


@EVERY_CASE
def test_equals_table_2_in_plain_loops(case: Case) -> None:
    z = views(9)
    expected = loss_and_gradient(lambda z: as_table_2_has_it(z, case), z)
    for block_size in (1, 4, 9, 1000):
        actual = loss_and_gradient(lambda z, size=block_size: case(z, block_size=size).loss, z)
        torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-11)


@EVERY_CASE
def test_gradient_is_the_one_that_table_2_prints(case: Case) -> None:
    case = case._replace(normalize=False)
    z = normalize(views(8))
    rows, n = list(z), len(z) // 2
    places = {id(row): k for k, row in enumerate(rows)}
    weights = torch.zeros(2 * n, 2 * n, dtype=z.dtype)
    for anchor, u in enumerate(rows):
        positive = rows[(anchor + n) % (2 * n)]
        others = [rows[k] for k in negatives_of(anchor, n, case.negatives)]
        others = chosen(case, u, positive, others)
        for vector, weight in printed_gradient(case, u, positive, others).items():
            weights[anchor, places[vector]] = weight
    # Each vector is an anchor, and a candidate of others, whose objectives it changes as much as they do.
    expected = -(weights + weights.T) @ z / (2 * n)
    actual = loss_and_gradient(lambda z: case(z).loss, z)[1]
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("negatives", ["both", "one"])
@pytest.mark.parametrize("tau", [0.1, 1.0])
def test_nt_xents_gradient_is_the_one_that_table_2_prints(tau: float, negatives: str) -> None:
    z = normalize(views(8))
    n = len(z) // 2
    weights = torch.zeros(2 * n, 2 * n, dtype=z.dtype)
    for anchor, u in enumerate(z):
        positive = (anchor + n) % (2 * n)
        candidates = [positive, *negatives_of(anchor, n, negatives)]
        scores = [math.exp(float(u @ z[k]) / tau) for k in candidates]
        for k, score in zip(candidates, scores, strict=True):
            share = score / sum(scores)
            weights[anchor, k] = (1 - share) / tau if k == positive else -share / tau
    # Each vector is an anchor, and a candidate of others.
    expected = -(weights + weights.T) @ z / (2 * n)
    actual = loss_and_gradient(lambda z: nt_xent(z, tau, False, negatives).loss, z)[1]
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-11)


@EVERY_CASE
def test_only_the_loss_is_differentiable(case: Case) -> None:
    z = views(40)
    assert [value.requires_grad for value in case(z.requires_grad_())] == [True, False, False]


@EVERY_CASE
def test_gradcheck(case: Case) -> None:
    generator = torch.Generator().manual_seed(7)  # no pair within 1e-6 of a kink
    z = torch.randn(10, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda z: case(z, block_size=3).loss, z)


@EVERY_CASE
def test_blocks_that_are_not_kept_between_passes(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    z = views(12)
    kept = loss_and_gradient(lambda z: case(z, block_size=5).loss, z)
    monkeypatch.setattr("simclr_ablate.losses.blockwise._KEPT_ELEMENTS", 0)
    recomputed = loss_and_gradient(lambda z: case(z, block_size=5).loss, z)
    torch.testing.assert_close(recomputed, kept, rtol=1e-12, atol=1e-12)


@EVERY_CASE
def test_scaling_the_loss_scales_the_gradient(case: Case) -> None:
    z = views(6)
    once = loss_and_gradient(lambda z: case(z).loss, z)[1]
    thrice = loss_and_gradient(lambda z: 3 * case(z).loss, z)[1]
    torch.testing.assert_close(thrice, 3 * once)


@pytest.mark.parametrize("tau", [0.01, 100.0])
@pytest.mark.parametrize("normalized", [True, False])
def test_extreme_temperatures_in_float32(tau: float, normalized: bool) -> None:
    z = 3 * views(30, dim=16, dtype=torch.float32)
    exact, rough = (
        loss_and_gradient(lambda z: nt_logistic(z, tau, normalized).loss, z)
        for z in (z.double(), z)
    )
    torch.testing.assert_close(rough[0].double(), exact[0], rtol=1e-5, atol=1e-5)
    scale = exact[1].abs().max().item()
    torch.testing.assert_close(rough[1].double(), exact[1], rtol=0, atol=1e-3 * scale)


@pytest.mark.parametrize("semi_hard", [True, False])
def test_temperature_leaves_the_triplet_loss_alone(semi_hard: bool) -> None:
    z = views(20)
    cold, hot = (
        loss_and_gradient(lambda z, t=tau: margin_triplet(z, 0.4, t, semi_hard=semi_hard).loss, z)
        for tau in (0.05, 20.0)
    )
    torch.testing.assert_close(cold, hot, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    "loss",
    [
        lambda z: nt_logistic(z, 0.5, semi_hard=True),
        lambda z: nt_logistic(z, 0.5, semi_hard=True, margin=0.1),
        lambda z: margin_triplet(z, 0.1, semi_hard=True),
        lambda z: nt_xent(z, 0.5, semi_hard=True),
    ],
)
def test_anchors_without_a_semi_hard_negative_contribute_nothing(
    loss: Callable[[Tensor], ContrastiveLoss],
) -> None:
    # All alike: no negative is farther than the positive.
    value, gradient = loss_and_gradient(lambda z: loss(z).loss, torch.ones(20, 4))
    assert value == 0
    assert not gradient.any()


def test_a_margin_that_no_difference_reaches_is_no_margin() -> None:
    z = views(20)
    wide = nt_logistic(z, 0.5, semi_hard=True, margin=2.1).loss
    assert torch.equal(wide, nt_logistic(z, 0.5, semi_hard=True).loss)
    # Semi-hard negatives are farther than the positive by less than the margin: their hinge never rests.
    assert not margin_triplet(z, 0.2).loss < margin_triplet(z, 0.2, semi_hard=True).loss


@EVERY_CASE
def test_float32_inside_for_half_precision_and_under_autocast(case: Case) -> None:
    z = views(8, dtype=torch.bfloat16)
    expected = loss_and_gradient(lambda z: case(z).loss, z.float())
    with torch.autocast("cpu", torch.bfloat16):
        actual = loss_and_gradient(lambda z: case(z).loss, z)
    assert (actual[0].dtype, actual[1].dtype) == (torch.float32, torch.bfloat16)
    assert torch.equal(actual[0], expected[0])
    assert torch.equal(actual[1], expected[1].to(torch.bfloat16))


@EVERY_CASE
def test_a_bad_number_shows_in_the_loss(case: Case) -> None:
    z = views(6)
    z[2, 1] = math.nan
    assert not case(z).loss.isfinite()
    z = views(6).abs()  # so that no pair's infinity has the sign that a loss forgives
    z[2, 1] = math.inf
    assert not case(z).loss.isfinite()


@pytest.mark.slow
@EVERY_CASE
def test_memory_grows_with_the_batch_not_with_its_square(case: Case) -> None:
    n = 3072  # so many that no blocks are kept between passes
    z = torch.randn(2 * n, 8, requires_grad=True)
    with torch.profiler.profile(profile_memory=True, record_shapes=False) as profile:
        case(z, block_size=256).loss.backward()
    held = most = 0
    for event in profile.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            most = max(most, held)
    # The matrix would take 144 MiB.
    assert most < 4 * 2**20


@pytest.mark.parametrize(
    ("loss", "arguments", "message"),
    [
        (nt_logistic, {"temperature": 0.0}, r"loss\.temperature must be > 0, got 0"),
        (nt_logistic, {"negatives": "none"}, r"loss\.negatives must be one of both, one"),
        (nt_logistic, {"reduction": "max"}, r"loss\.reduction must be one of sum, mean, got 'max'"),
        (nt_xent, {"margin": 0.4}, r"loss\.margin must be null with loss\.semi_hard=false"),
        (nt_xent, {"margin": -1.0, "semi_hard": True}, r"loss\.margin must be > 0 with loss"),
        (nt_logistic, {"margin": 0.4}, r"loss\.margin must be null with loss\.semi_hard=false"),
        (
            nt_logistic,
            {"margin": 0.0, "semi_hard": True},
            r"loss\.margin must be > 0 with loss\.semi_hard=true, got 0",
        ),
        (margin_triplet, {"margin": -0.1}, r"loss\.margin must be >= 0, got -0\.1"),
        (margin_triplet, {"margin": math.nan}, r"loss\.margin must be >= 0, got nan"),
        (
            margin_triplet,
            {"margin": 0.0, "semi_hard": True},
            r"loss\.margin must be > 0 with loss\.semi_hard=true, got 0",
        ),
        (margin_triplet, {"margin": 1.0, "temperature": -1.0}, r"loss\.temperature must be > 0"),
    ],
)
def test_refuses_arguments_out_of_range(
    loss: Callable[..., ContrastiveLoss], arguments: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        loss(**{"z": torch.ones(6, 3), "temperature": 0.5, **arguments})
