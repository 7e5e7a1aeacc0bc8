"""Means over seeds, differences and rank correlations, each with its 95% interval."""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

CONFIDENCE = 0.95
RESAMPLES = 10_000


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds. half: half the width of its 95% interval, NaN with one seed."""

    mean: float
    half: float
    seeds: int


@dataclass(frozen=True)
class Correlation:
    """A correlation over `pairs` pairs, with its 95% interval; NaN if undefined."""

    rho: float
    low: float
    high: float
    pairs: int


@dataclass(frozen=True)
class Accuracies:
    """One accuracy per seed, percent.

    images: how many test images they are measured on (NaN: unknown), the same for all. run_ids: the runs that they
    come from.
    """

    by_seed: Mapping[int, float]
    images: float
    run_ids: tuple[str, ...] = ()

    @property
    def values(self) -> list[float]:
        return list(self.by_seed.values())

    def estimate(self) -> Estimate:
        return mean_interval(self.values)

    def error(self) -> tuple[float, float]:
        """The variance of the mean and its degrees of freedom.

        With several seeds, they come from the scatter. With one, the variance is p (1 - p) / n, that of an accuracy on
        n images, which ignores how much another seed would differ.
        """
        count = len(self.values)
        if count > 1:
            return float(np.var(self.values, ddof=1)) / count, count - 1
        (accuracy,) = self.values
        return accuracy * (100 - accuracy) / self.images, math.inf


def mean_interval(values: ArrayLike) -> Estimate:
    """The mean and its 95% interval, by Student's t over independent seeds."""
    sample = np.asarray(values, dtype=float)
    if len(sample) < 2:
        return Estimate(float(sample.mean()), math.nan, len(sample))
    error = float(sample.std(ddof=1)) / math.sqrt(len(sample))
    half = t_quantile(0.5 + CONFIDENCE / 2, len(sample) - 1) * error
    return Estimate(float(sample.mean()), half, len(sample))


def mean_of_means(samples: Sequence[Accuracies]) -> Estimate:
    """The mean of the samples' means, with an interval over the seeds that all samples have."""
    mean = math.fsum(sample.estimate().mean for sample in samples) / len(samples)
    seeds = set(samples[0].by_seed).intersection(*(sample.by_seed for sample in samples))
    by_seed = [math.fsum(s.by_seed[seed] for s in samples) / len(samples) for seed in seeds]
    half = mean_interval(by_seed).half if by_seed else math.nan
    return Estimate(mean, half, len(seeds))


def margin(sample: Accuracies, reference: Accuracies) -> float:
    """The distance at which two means differ at the 95% level, by Welch's two-sided t test.

    Each side has the variance and degrees of freedom of `Accuracies.error`. With one seed each, this is the normal test
    of two proportions. The two count as independent; for encoders that are tested on the same images, this makes the
    margin too large rather than too small. NaN if a side has one seed and an unknown number of images.
    """
    variance, freedom = sample.error()
    reference_variance, reference_freedom = reference.error()
    total = variance + reference_variance
    if total == 0 or math.isnan(total):
        return total
    spread = variance**2 / freedom + reference_variance**2 / reference_freedom
    welch = total**2 / spread if spread else math.inf
    return t_quantile(0.5 + CONFIDENCE / 2, welch) * math.sqrt(total)


def clearly_above(sample: Accuracies, reference: Accuracies) -> bool | None:
    """Whether the mean exceeds the reference's by more than `margin`; None if the margin is unknown."""
    needed = margin(sample, reference)
    if math.isnan(needed):
        return None
    return sample.estimate().mean - reference.estimate().mean > needed


@functools.cache
def t_quantile(probability: float, freedom: float) -> float:
    """The quantile of Student's t for `probability` in (0, 1) and `freedom` > 0; the normal one for infinite freedom.

    Raises ValueError for other values.
    """
    if not 0 < probability < 1 or not freedom > 0:
        raise ValueError(
            f"probability must be in (0, 1) and freedom > 0, got {probability} and {freedom}"
        )
    if math.isinf(freedom):
        return NormalDist().inv_cdf(probability)
    from scipy.special import stdtrit  # slow to import

    return float(stdtrit(freedom, probability))


def t_probability(value: float, freedom: float) -> float:
    """The probability that Student's t is at most `value`."""
    from scipy.special import stdtr  # slow to import

    return float(stdtr(freedom, value))


def spearman(first: ArrayLike, second: ArrayLike) -> Correlation:
    """Spearman's rank correlation, with a bootstrap interval: see `correlation`. Ties share their mean rank."""
    return correlation(first, second, weighted_spearman)


def pearson(first: ArrayLike, second: ArrayLike) -> Correlation:
    """Pearson's correlation, with a bootstrap interval: see `correlation`."""
    return correlation(first, second, weighted_pearson)


def correlation(
    first: ArrayLike, second: ArrayLike, weighted: Callable[..., NDArray[np.float64]]
) -> Correlation:
    """A correlation with its interval. weighted: that of resamples, such as `weighted_spearman`.

    Pairs with a missing side are left out. The interval holds the middle 95% of the correlations of 10,000 resamples of
    the pairs, drawn with a fixed seed. It treats the pairs as independent.
    """
    x, y = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    there = ~(np.isnan(x) | np.isnan(y))
    x, y = x[there], y[there]
    pairs = len(x)
    if pairs < 2:
        return Correlation(math.nan, math.nan, math.nan, pairs)
    rho = float(weighted(x, y, np.ones((1, pairs)))[0])
    counts = np.random.default_rng(0).multinomial(pairs, np.full(pairs, 1 / pairs), RESAMPLES)
    resampled = weighted(x, y, counts)
    resampled = resampled[~np.isnan(resampled)]
    if pairs < 4 or not len(resampled):
        return Correlation(rho, math.nan, math.nan, pairs)
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(resampled, [tail, 100 - tail])
    return Correlation(rho, float(low), float(high), pairs)


def weighted_spearman(x: ArrayLike, y: ArrayLike, counts: ArrayLike) -> NDArray[np.float64]:
    """Spearman's correlation of each of R samples, in which pair i occurs `counts[r, i]` times.

    x, y: (n,); counts: (R, n). Returns (R,), NaN where x or y is constant in the sample.
    """
    weights = np.asarray(counts, dtype=float)
    return _weighted(_ranks(np.asarray(x), weights), _ranks(np.asarray(y), weights), weights)


def weighted_pearson(x: ArrayLike, y: ArrayLike, counts: ArrayLike) -> NDArray[np.float64]:
    """Pearson's correlation of each of R samples; see `weighted_spearman`."""
    weights = np.asarray(counts, dtype=float)
    total = weights.sum(1, keepdims=True)
    # The plain mean goes first, so that numbers far from 0 lose no digits.
    centred = [np.asarray(values, dtype=float) - np.mean(np.asarray(values)) for values in (x, y)]
    first, second = (values - (weights @ values)[:, None] / total for values in centred)
    return _weighted(first, second, weights)


def _weighted(
    x: NDArray[np.float64], y: NDArray[np.float64], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The correlation of values whose weighted means are 0: (R, n) each; NaN where one side is constant."""
    covariance = (weights * x * y).sum(1)
    scale = np.sqrt((weights * x**2).sum(1) * (weights * y**2).sum(1))
    undefined = np.full(len(weights), np.nan)
    rho = np.divide(covariance, scale, out=undefined, where=scale > 1e-12)
    return np.clip(rho, -1, 1)


def _ranks(values: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Each value's mean rank in each sample, minus the mean of all ranks, (n + 1) / 2."""
    below = values[:, None] < values[None, :]
    tied = values[:, None] == values[None, :]
    ranks = weights @ (below + tied / 2) + 0.5
    return ranks - (weights.sum(1, keepdims=True) + 1) / 2
