"""How sure a measured number is: bootstrap confidence intervals (Efron & Tibshirani 1993, "An Introduction to the Bootstrap")."""

from typing import NamedTuple

import numpy as np

CONFIDENCE, RESAMPLES = 0.95, 2000


class Interval(NamedTuple):
    """A number, and the ends of its confidence interval; they are None where one observation alone says nothing of them."""

    estimate: float
    low: float | None
    high: float | None


def bootstrap(columns, statistic, seed=0):
    """A statistic with its percentile interval (Efron & Tibshirani 1993, section 13.3).

    Units that are independent (episodes, prompts, seeds) are drawn again with replacement, as many as there are, 2,000
    times; of the statistics, the middle 95 in 100 are the interval. A statistic is a function of sums over the units, so
    that all resamples are one matrix product.

    Args:
        columns: float `(N, K)`: K numbers of each unit; or `(N,)`.
        statistic: a function of their sums, `(..., K) -> (...)`.
        seed: of the draws.

    Returns:
        An `Interval`. With N = 1 it has no ends.

    Raises:
        ValueError: there are no units.

    Example:
        >>> bootstrap([2.0, 2.0, 2.0], lambda sums: sums[..., 0] / 3)
        Interval(estimate=2.0, low=2.0, high=2.0)
    """
    columns = np.asarray(columns, np.float64)
    count = len(columns)
    if not count:
        raise ValueError("columns has no rows. Give at least one unit.")
    columns = columns.reshape(count, -1)  # (N, K)
    estimate = float(statistic(columns.sum(axis=0)))
    if count == 1:
        return Interval(estimate, None, None)
    drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1.0 / count), size=RESAMPLES)  # (R, N): how often
    tail = (1.0 - CONFIDENCE) / 2.0
    low, high = np.quantile(statistic(drawn @ columns), [tail, 1.0 - tail])
    return Interval(estimate, float(low), float(high))


def mean(values):
    """The mean of float `(N,)`, an `Interval`."""
    return ratio(values, np.ones(len(values)))


def ratio(numerators, denominators):
    """The sum of float `(N,)` over that of others, such as nats over tokens: long units count for more. An `Interval`."""
    return bootstrap(np.stack([numerators, denominators], axis=1), lambda sums: sums[..., 0] / sums[..., 1])


def standard_deviation(values, mask):
    """Standard deviation (Bessel) over all entries of all units, each unit drawn whole.

    Args:
        values: float `(N, T)`.
        mask: float `(N, T)`, 1 where an entry counts, 0 on padding.

    Returns:
        An `Interval`.
    """
    values = np.asarray(values, np.float64)
    centre = values[mask > 0].mean()  # near the mean, small squares lose no digits
    powers = [np.sum(np.where(mask > 0, (values - centre) ** k, 0.0), axis=1) for k in range(3)]

    def deviation(sums):
        count, first, second = np.moveaxis(sums, -1, 0)
        return np.sqrt(np.maximum(second - first**2 / count, 0.0) / np.maximum(count - 1.0, 1.0))

    return bootstrap(np.stack(powers, axis=1), deviation)
