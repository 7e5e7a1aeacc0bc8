"""The permutation test of two models against scipy's, McNemar's exact one, and its own false alarms."""

import numpy as np
import pytest
from scipy import stats

from analysis.permutation import LEVEL, exchange_test


def accuracy(right: np.ndarray, classes: np.ndarray | None) -> float:
    if classes is None:
        return right.mean()
    return np.mean([right[classes == each].mean() for each in np.unique(classes)])


def scipys(first: np.ndarray, second: np.ndarray, classes: np.ndarray | None, many: int) -> float:
    """With all exchanges where there are few enough."""

    def difference(one: np.ndarray, other: np.ndarray) -> float:
        return accuracy(one, classes) - accuracy(other, classes)

    done = stats.permutation_test(
        (first.astype(float), second.astype(float)),
        difference,
        permutation_type="samples",
        n_resamples=many,
        alternative="two-sided",
    )
    return done.pvalue


@pytest.mark.parametrize("kinds", [None, 3])
def test_it_is_scipys_on_small_cases(kinds: int | None) -> None:
    rng = np.random.default_rng()
    for _ in range(5):
        first, second = rng.random(12) < 0.8, rng.random(12) < 0.4
        classes = None if kinds is None else rng.integers(kinds, size=12)
        expected = scipys(first, second, classes, 10_000)  # all 4,096
        error = 5 * np.sqrt(expected * (1 - expected) / 100_000) + 1e-4
        assert exchange_test(first, second, classes) == pytest.approx(expected, abs=error)


@pytest.mark.parametrize("kinds", [None, 3])
def test_with_several_seeds_it_is_scipys_of_their_means(kinds: int | None) -> None:
    rng = np.random.default_rng()
    for seeds in ((3, 3), (2, 5)):
        first, second = (
            rng.binomial(n, share, size=11) / n for n, share in zip(seeds, (0.8, 0.5), strict=True)
        )
        classes = None if kinds is None else rng.integers(kinds, size=11)
        expected = scipys(first, second, classes, 10_000)  # all 2,048
        error = 5 * np.sqrt(expected * (1 - expected) / 100_000) + 1e-4
        assert exchange_test(first, second, classes) == pytest.approx(expected, abs=error)


def test_over_all_images_it_is_mcnemars() -> None:
    rng = np.random.default_rng()
    first, second = rng.random(2_000) < 0.72, rng.random(2_000) < 0.69
    gained, lost = (first & ~second).sum(), (second & ~first).sum()
    expected = stats.binomtest(int(gained), int(gained + lost)).pvalue
    error = 5 * np.sqrt(expected * (1 - expected) / 100_000) + 1e-4
    assert exchange_test(first, second) == pytest.approx(expected, abs=error)


def test_no_order_of_models_images_or_classes_matters() -> None:
    rng = np.random.default_rng()
    first, second = rng.random(300) < 0.6, rng.random(300) < 0.5
    classes = rng.integers(7, size=300) % 5  # of two sizes
    p = exchange_test(first, second, classes)
    assert exchange_test(second, first, classes) == p
    order = rng.permutation(300)
    assert exchange_test(first[order], second[order], classes[order]) == p
    assert exchange_test(first, second, 100 * classes) == p


def test_models_that_agree_are_equal_and_opposites_are_not() -> None:
    right = np.arange(40) % 3 > 0
    assert exchange_test(right, right) == 1
    assert exchange_test(np.ones(40), np.zeros(40)) == 1 / 100_001
    with pytest.raises(ValueError, match="got 2, 3 and 2"):
        exchange_test([True, False], [True, False, True])
    with pytest.raises(ValueError, match="got 0, 0 and 0"):
        exchange_test([], [])


@pytest.mark.parametrize("kinds", [None, 20])
def test_equal_models_differ_at_most_one_time_in_twenty(kinds: int | None) -> None:
    rng = np.random.default_rng()
    alarms = 0
    for _ in range(1_000):
        hard = rng.random(500)
        first, second = (rng.random(500) < hard for _ in range(2))
        classes = None if kinds is None else rng.integers(kinds, size=500)
        alarms += exchange_test(first, second, classes, draws=2_000) <= LEVEL
    assert alarms <= stats.binom.ppf(1 - 1e-6, 1_000, LEVEL)
