"""Bounds of effects against SciPy, and the coverage of nested ones against simulated truth."""

import numpy as np
import pytest
from scipy import stats

from analysis.claims.effects import (
    FiveInSix,
    Greatest,
    Least,
    Measured,
    combined,
    decision,
    p_value,
)
from analysis.claims.looks import Looked

TAIL = 0.025


def measured(values):
    return Measured("x", dict(enumerate(map(float, values))))


def bounds(values, tail):
    """SciPy's, at each side's tail."""
    interval = stats.ttest_1samp(values, 0).confidence_interval(1 - 2 * tail)
    return interval.low, interval.high


@pytest.mark.parametrize("seeds", [2, 3, 8])
@pytest.mark.parametrize("tail", [0.025, 0.004, 0.0003])
def test_bounds_are_students(seeds, tail):
    values = np.random.default_rng().normal(3, 2, seeds)
    effect = measured(values)
    assert (effect.low(tail), effect.high(tail)) == pytest.approx(bounds(values, tail))
    assert effect.mean == pytest.approx(values.mean())
    assert effect.scatters


def test_differences_are_paired_at_the_seeds_that_both_have():
    one, other = Measured("a", {0: 5.0, 1: 7.0, 2: 1.0}), Measured("b", {2: 4.0, 1: 5.0, 9: 0.0})
    difference = one - other
    assert difference.by_seed == {1: 2.0, 2: -3.0}
    assert difference.words == "a minus b"


def test_paired_bounds_are_those_of_the_paired_test():
    one, other = np.random.default_rng().normal([[50], [48]], 1, (2, 5)) + np.arange(5) * 10
    effect = measured(one) - measured(other)
    expected = stats.ttest_rel(one, other).confidence_interval(0.95)
    assert (effect.low(TAIL), effect.high(TAIL)) == pytest.approx((expected.low, expected.high))


@pytest.mark.parametrize("values", [[4.0], [1.1, 1.1, 1.1], [0.3 - 0.2, 0.1]])
def test_one_seed_or_equal_differences_tell_no_scatter(values):
    assert not measured(values).scatters


def test_least_and_greatest_share_the_error_where_one_is_enough():
    values = np.random.default_rng().normal(0, 1, (4, 3))
    effects = [measured(row) for row in values]
    lows, highs = zip(*(bounds(row, TAIL) for row in values), strict=True)
    shared = [bounds(row, TAIL / 4) for row in values]
    least, greatest = Least(effects), Greatest(effects)
    assert least.low(TAIL) == pytest.approx(min(lows))
    assert least.high(TAIL) == pytest.approx(min(high for _, high in shared))
    assert greatest.low(TAIL) == pytest.approx(max(low for low, _ in shared))
    assert greatest.high(TAIL) == pytest.approx(max(highs))
    assert (least.mean, greatest.mean) == pytest.approx(
        (values.mean(axis=1).min(), values.mean(axis=1).max())
    )
    assert least.decisive is effects[int(values.mean(axis=1).argmin())]


@pytest.mark.parametrize("spread", [0.0, 0.5, 5.0])
def test_nested_intervals_hold_the_truth_often_enough(spread):
    """The best of three minus the best of four: each bound fails in at most 2.5% of samples."""
    generator = np.random.default_rng(0)
    missed = np.zeros(2)
    for _ in range(1_000):
        truth = generator.normal(0, spread, 7)
        cells = [measured(generator.normal(mean, 1, 4)) for mean in truth]
        ours, others = cells[:3], cells[3:]
        effect = Least([Greatest([one - other for one in ours]) for other in others])
        best = truth[:3].max() - truth[3:].max()
        missed += effect.low(TAIL) > best, effect.high(TAIL) < best
    # 2.5% and three standard errors.
    assert (missed / 1_000 < 0.025 + 3 * np.sqrt(0.025 * 0.975 / 1_000)).all()


@pytest.mark.parametrize("count", [3, 6, 7, 12])
def test_five_in_six_bounds_hold_the_truth_often_enough(count):
    generator = np.random.default_rng(count)
    missed = np.zeros(2)
    for _ in range(500):
        truth = generator.normal(0, 1, count)
        effect = FiveInSix([measured(generator.normal(mean, 1, 4)) for mean in truth])
        # The least number that at least five in six of the true values do not exceed.
        reached = min(value for value in truth if 6 * (truth <= value).sum() >= 5 * count)
        missed += effect.low(TAIL) > reached, effect.high(TAIL) < reached
    assert (missed / 500 < 0.025 + 3 * np.sqrt(0.025 * 0.975 / 500)).all()


def test_five_in_six_is_the_tenth_of_twelve():
    values = np.random.default_rng().permutation(12.0 + np.arange(12))
    effects = [measured(value + np.array([0.001, 0.0, -0.001])) for value in values]
    effect = FiveInSix(effects)
    assert effect.mean == pytest.approx(12 + 9)
    assert effect.low(TAIL) < 21 < effect.high(TAIL)
    sentence = decision((FiveInSix,), 1.5, below=True)
    assert "five in six differences must be clearly below 1.5 points" in sentence


@pytest.mark.parametrize("seeds", [2, 3, 8])
def test_p_of_one_number_is_that_of_the_one_sided_t_test(seeds):
    values = np.random.default_rng().normal(0.5, 1, seeds)
    limit = float(np.random.default_rng().normal())
    side = "greater" if values.mean() > limit else "less"
    expected = stats.ttest_1samp(values, limit, alternative=side).pvalue
    assert p_value(measured(values), limit) == pytest.approx(expected, rel=1e-5)


def test_p_is_never_zero():
    assert 0 < p_value(measured(1e9 + np.array([-1e-6, 0, 1e-6])), 0.0) < 1e-11


@pytest.mark.parametrize("above", [True, False])
def test_p_of_several_is_the_worst_or_the_best_times_their_number(above):
    generator = np.random.default_rng()
    values = generator.normal(0, 1, (4, 3))
    values += (1 if above else -1) * generator.uniform(0.5, 3, (4, 1)) - values.mean(1)[:, None]
    side = "greater" if above else "less"
    single = stats.ttest_1samp(values, 0, axis=1, alternative=side).pvalue
    effects = [measured(row) for row in values]
    of_all, of_one = (Least, Greatest) if above else (Greatest, Least)
    assert p_value(of_all(effects), 0) == pytest.approx(single.max(), rel=1e-5)
    assert p_value(of_one(effects), 0) == pytest.approx(min(1, 4 * single.min()), rel=1e-5)


def bisected(effect, limit):
    """The tail at which the bound on the side of the estimate reaches the limit, from the bounds alone."""
    above = effect.mean > limit
    out, within = 0.0, np.log(1e-12)
    for _ in range(40):
        middle = (out + within) / 2
        clear = effect.low(np.exp(middle)) > limit if above else effect.high(np.exp(middle)) < limit
        out, within = (middle, within) if clear else (out, middle)
    return np.exp(out)


@pytest.mark.parametrize("shift", [-2.0, -0.5, 0.5, 2.0])
def test_p_is_where_the_bound_reaches_the_limit(shift):
    """Also for nested groups, for five in six, and for an effect that was looked at."""
    values = np.random.default_rng().normal(shift, 1, (6, 2, 4))
    groups = [[measured(row) for row in group] for group in values]
    first = [group[0] for group in groups]
    for effect in (
        Least([Greatest(group) for group in groups]),
        Greatest([Least(group) for group in groups]),
        FiveInSix(first),
        Least(first),
        Looked(Greatest(first)),
    ):
        for limit in (0.0, 0.3):
            assert p_value(effect, limit) == pytest.approx(bisected(effect, limit), rel=1e-4)


@pytest.mark.parametrize("limit", [0.0, 1.5])
@pytest.mark.parametrize("under", [False, True])
@pytest.mark.parametrize("kind", [Least, Greatest])
def test_the_sentence_says_how_many_differences_decide(kind, under, limit):
    """One of three on the other side prevents the claim where every one has to be clear, and only there."""
    sign = -1 if under else 1
    good, bad = (measured(limit + sign * side * 5 + np.array([0.1, 0.0, -0.1])) for side in (1, -1))
    effect = combined((kind,), [good, good, bad])
    assert effect.low(TAIL) > limit or effect.high(TAIL) < limit
    confirmed = (effect.low(TAIL) > limit) != under
    confirm, refute = decision((kind,), limit, under).split("; ")
    assert ("every difference" in refute) == confirmed
    assert ("every difference" in confirm) == (not confirmed)
    side, other = ("below", "above") if under else ("above", "below")
    assert f"clearly {side} {limit:g}" in confirm
    assert f"clearly {other} {limit:g}" in refute


def test_groups_are_decided_as_their_sentence_says():
    good, bad = (measured(side * 5 + np.array([0.1, 0.0, -0.1])) for side in (1, -1))
    kinds = (Least, Greatest)
    assert combined(kinds, [[good, bad], [bad, good]]).low(TAIL) > 0
    assert combined(kinds, [[good, good], [bad, bad]]).high(TAIL) < 0
    sentence = decision(kinds)
    assert "every group must have a difference that is clearly above 0" in sentence
    assert "all of one group must be clearly below 0" in sentence
    # An extreme of extremes of one kind is one of all of them; a single number needs no rule.
    assert decision((Least, Greatest, Greatest)) == sentence
    assert decision(()) == ""
