"""Intervals of repeated looks against SciPy's, and how often somebody who goes on until it is decided is fooled."""

import numpy as np
import pytest
from scipy import stats

from analysis.claims.effects import Greatest, Least, Measured, p_value
from analysis.claims.looks import Looked, fewest_seeds, first_seeds, seeds_to_decide
from benchmarks.looks import false_verdicts
from simclr_ablate.looks import LOOKS, next_look

TAIL = 0.025


def measured(values, seeds=None):
    seeds = range(len(values)) if seeds is None else seeds
    return Measured("x", dict(zip(seeds, map(float, values), strict=True)))


def bounds(values):
    """SciPy's, at the level of one look of five."""
    found = stats.ttest_1samp(values, 0).confidence_interval(1 - 0.05 / 5)
    return found.low, found.high


@pytest.mark.parametrize(
    ("seeds", "looks"), [(3, 1), (4, 1), (5, 2), (12, 3), (13, 4), (21, 5), (30, 5)]
)
def test_the_interval_is_what_all_looks_have_in_common(seeds, looks):
    values = np.random.default_rng().normal(1, 2, seeds)
    effect = Looked(measured(values))
    each = [bounds(values[:look]) for look in LOOKS if look <= seeds]
    assert len(each) == len(effect.looks) == looks
    assert effect.low(TAIL) == pytest.approx(max(low for low, _ in each))
    assert effect.high(TAIL) == pytest.approx(min(high for _, high in each))
    assert effect.mean == pytest.approx(values[: LOOKS[looks - 1]].mean())


def test_a_look_at_equal_numbers_says_nothing_and_still_counts():
    assert not Looked(measured([1, 1, 1, 2])).has_interval
    values = [1, 1, 1, 2, 3]
    effect = Looked(measured(values))
    assert (effect.low(TAIL), effect.high(TAIL)) == pytest.approx(bounds(values))
    assert len(effect.looks) == 2


def test_the_p_value_is_the_least_of_the_looks_times_their_number():
    values = np.random.default_rng().normal(2, 1, 8)
    each = [stats.ttest_1samp(values[:look], 0, alternative="greater").pvalue for look in (3, 5, 8)]
    assert p_value(Looked(measured(values)), 0) == pytest.approx(min(1, 5 * min(each)), rel=1e-3)


def test_an_effect_is_looked_at_when_all_its_numbers_have_the_seeds():
    draw = np.random.default_rng()
    many, few = draw.normal(size=9), draw.normal(size=6)
    effect = Least([measured(many), measured(few, seeds=[7, 1, 5, 0, 8, 2])])
    assert fewest_seeds(effect) == 6
    found = Looked(effect)
    assert len(found.looks) == 2
    # The first seeds are those with the smallest numbers: 0, 1 and 2 are few's fourth, second and sixth.
    by_seed = dict(zip([7, 1, 5, 0, 8, 2], few, strict=True))
    first = [by_seed[seed] for seed in sorted(by_seed)]
    low = max(min(bounds(many[:look])[0], bounds(first[:look])[0]) for look in (3, 5))
    assert found.low(TAIL) == pytest.approx(low)


def test_the_first_seeds_of_nested_effects():
    cells = [measured(row) for row in np.random.default_rng().normal(size=(4, 8))]
    nested = Least([Greatest([a - b for a in cells[:2]]) for b in cells[2:]])
    shorter = [measured(list(cell.by_seed.values())[:5]) for cell in cells]
    expected = Least([Greatest([a - b for a in shorter[:2]]) for b in shorter[2:]])
    assert first_seeds(nested, 5).high(0.01) == expected.high(0.01)
    assert first_seeds(nested, 5).measured() == expected.measured()


@pytest.mark.parametrize("seeds", [2, 3, 5, 8])
def test_the_look_that_decides_if_mean_and_scatter_stay(seeds):
    """Against the t test written out, for effects from far too small to large."""
    reached = set()
    for mean in (0.02, 0.7, 0.9, 1.2, 2, 20):
        values = np.random.default_rng(seeds).normal(size=seeds)
        values = mean + (values - values.mean()) / values.std(ddof=1)
        clear = [
            look
            for look in LOOKS
            if look > seeds and mean > stats.t.ppf(1 - TAIL / 5, look - 1) / look**0.5
        ]
        found = seeds_to_decide(measured(values), TAIL, lambda low, high: low > 0 or high < 0)
        assert found == (clear[0] if clear else None)
        reached.add(found)
    assert None in reached
    assert len(reached) > 2


def test_nothing_is_foretold_without_scatter():
    assert seeds_to_decide(measured([2.0]), TAIL, lambda low, high: low > 0) is None
    assert seeds_to_decide(measured([2.0, 2.0]), TAIL, lambda low, high: low > 0) is None


def test_the_next_look():
    assert [next_look(seeds) for seeds in (0, 2, 3, 5, 20, 21)] == [3, 3, 5, 8, 21, None]


@pytest.mark.slow
@pytest.mark.parametrize("effect", ["one difference", "the least of four"])
@pytest.mark.parametrize("scatter", ["normal", "heavy tails (Student's t, 2 degrees of freedom)"])
def test_going_on_until_it_is_decided_fools_nobody_more_often(effect, scatter):
    confirmed, refuted = false_verdicts(effect, scatter, looked=True)
    assert confirmed <= 0.05
    assert refuted <= 0.05


def test_without_paying_for_the_looks_it_would():
    confirmed, refuted = false_verdicts("one difference", "normal", looked=False, repetitions=500)
    assert confirmed + refuted > 0.1
