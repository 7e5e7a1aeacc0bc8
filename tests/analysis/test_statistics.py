"""Intervals, margins and correlations against SciPy, plain computations and simulations."""

import math

import numpy as np
import pytest
from scipy import stats

from analysis.statistics import (
    Accuracies,
    margin,
    mean_interval,
    pearson,
    spearman,
    t_quantile,
    weighted_pearson,
    weighted_spearman,
)


@pytest.mark.parametrize("freedom", [1, 1.3, 2, 2.7, 3, 5, 10, 49.5, 10_001, math.inf])
@pytest.mark.parametrize("probability", [0.01, 0.5, 0.75, 0.95, 0.975, 0.9995])
def test_t_quantile(probability, freedom):
    expected = stats.t.ppf(probability, freedom)
    assert t_quantile(probability, freedom) == pytest.approx(expected, rel=1e-9, abs=1e-11)


def test_t_quantile_takes_fractions_of_freedom():
    assert t_quantile(0.975, 2.7) == pytest.approx(3.39, abs=0.005)


def test_t_quantile_refuses_what_has_none():
    with pytest.raises(ValueError, match=r"probability must be in \(0, 1\)"):
        t_quantile(1.0, 5)
    with pytest.raises(ValueError, match="freedom > 0"):
        t_quantile(0.9, 0.0)


@pytest.mark.parametrize("seeds", [2, 3, 5, 20])
def test_mean_interval_is_students(seeds):
    values = np.random.default_rng(seeds).normal(40, 2, seeds)
    found = mean_interval(values)
    low, high = stats.t.interval(0.95, seeds - 1, values.mean(), stats.sem(values))
    assert (found.mean - found.half, found.mean + found.half) == pytest.approx((low, high))
    assert found.seeds == seeds


def test_one_seed_has_no_interval():
    found = mean_interval([41.5])
    assert found.mean == 41.5
    assert math.isnan(found.half)


def sample(values, images=10_000.0):
    return Accuracies(dict(enumerate(map(float, values))), images)


def test_margin_over_seeds_is_welchs_test():
    generator = np.random.default_rng(4)
    for _ in range(50):
        cell = generator.normal(40, generator.uniform(0.2, 2), generator.integers(2, 8))
        reference = generator.normal(39, generator.uniform(0.2, 2), generator.integers(2, 8))
        needed = margin(sample(cell), sample(reference))
        differ = abs(cell.mean() - reference.mean()) > needed
        welch = stats.ttest_ind(cell, reference, equal_var=False)
        low, high = welch.confidence_interval(0.95)
        assert needed == pytest.approx((high - low) / 2, rel=1e-9)
        assert differ == (welch.pvalue < 0.05)


def test_margin_of_single_seeds_is_the_test_of_two_proportions():
    cell, reference, images = 0.42, 0.39, 2_000
    error = math.sqrt(cell * (1 - cell) / images + reference * (1 - reference) / images)
    needed = margin(sample([42], images), sample([39], images))
    assert needed == pytest.approx(100 * stats.norm.ppf(0.975) * error)


def test_margin_with_seeds_on_one_side_only_uses_both_kinds_of_error():
    cell = [40.0, 41.0, 43.0]
    needed = margin(sample(cell), sample([36.0], 2_000))
    seeds, images = np.var(cell, ddof=1) / 3, 36 * 64 / 2_000
    freedom = (seeds + images) ** 2 / (seeds**2 / 2)
    expected = stats.t.ppf(0.975, freedom) * math.sqrt(seeds + images)
    assert needed == pytest.approx(expected)


def test_an_encoder_no_better_than_the_reference_is_rarely_above_it():
    generator = np.random.default_rng(5)
    images, trials = 2_000, 4_000
    drawn = generator.binomial(images, 0.35, (trials, 2)) * 100 / images
    above = [a - b > margin(sample([a], images), sample([b], images)) for a, b in drawn]
    assert 0.015 < np.mean(above) < 0.035


def test_margin_is_unknown_with_one_seed_and_unknown_images():
    assert math.isnan(margin(sample([42], math.nan), sample([39], math.nan)))


@pytest.mark.parametrize("decimals", [0, 1, 6])
def test_spearman_with_ties(decimals):
    generator = np.random.default_rng(decimals)
    x = generator.normal(0, 2, 49).round(decimals)
    y = (x + generator.normal(0, 3, 49)).round(decimals)
    assert spearman(x, y).rho == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-12)


def test_spearman_of_resamples_is_that_of_the_repeated_pairs():
    generator = np.random.default_rng(6)
    x, y = generator.normal(0, 2, (2, 12)).round(0)
    counts = generator.multinomial(12, np.full(12, 1 / 12), 200)
    found = weighted_spearman(x, y, counts)
    for rho, count in zip(found, counts, strict=True):
        again = stats.spearmanr(np.repeat(x, count), np.repeat(y, count)).statistic
        assert rho == pytest.approx(again, abs=1e-12, nan_ok=True)


def test_bootstrap_interval_is_scipys():
    generator = np.random.default_rng(7)
    x = generator.normal(0, 1, 49).round(1)
    y = (x + generator.normal(0, 1, 49)).round(1)
    found = spearman(x, y)
    expected = stats.bootstrap(
        (x, y),
        lambda a, b: stats.spearmanr(a, b).statistic,
        paired=True,
        vectorized=False,
        method="percentile",
        n_resamples=3_000,
        rng=np.random.default_rng(8),
    ).confidence_interval
    assert (found.low, found.high) == pytest.approx(tuple(expected), abs=0.02)
    assert found == spearman(x, y)


def test_missing_pairs_are_left_out():
    generator = np.random.default_rng(9)
    x, y = generator.normal(0, 1, (2, 49))
    there = np.arange(49) % 5 != 0
    found = spearman(np.where(there, x, np.nan), y)
    assert found == spearman(x[there], y[there])
    assert found.pairs == there.sum()


def test_correlation_that_is_not_defined():
    assert math.isnan(spearman([1.0, 1.0, 1.0, 1.0], [1, 2, 3, 4]).rho)
    assert math.isnan(spearman([1.0], [2.0]).rho)
    assert math.isnan(spearman([1.0, 2.0, 3.0], [1.0, 2.0, 3.0]).low)


def test_pearson_is_scipys_with_its_bootstrap_interval():
    rng = np.random.default_rng()
    x = 50 + rng.normal(0, 1e-3, 12)
    y = 3 * x + rng.normal(0, 2e-3, 12)
    found = pearson(x, y)
    assert found.rho == pytest.approx(stats.pearsonr(x, y).statistic)
    expected = stats.bootstrap(
        (x, y),
        lambda a, b: stats.pearsonr(a, b).statistic,
        paired=True,
        vectorized=False,
        n_resamples=4_000,
        method="percentile",
    ).confidence_interval
    assert [found.low, found.high] == pytest.approx([expected.low, expected.high], abs=0.06)
    assert math.isnan(pearson([1, 1, 1, 1], [1, 2, 3, 4]).rho)
    assert math.isnan(pearson([1, 2, 3], [1, 2, 4]).low)


def test_pearson_of_resamples_is_that_of_the_repeated_pairs():
    rng = np.random.default_rng()
    x, y = rng.normal(size=(2, 9))
    counts = rng.multinomial(9, np.full(9, 1 / 9), 20)
    expected = [
        stats.pearsonr(np.repeat(x, count), np.repeat(y, count)).statistic for count in counts
    ]
    assert weighted_pearson(x, y, counts) == pytest.approx(expected)
