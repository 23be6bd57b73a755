"""`ppo_keras.reports.statistics`: bootstrap intervals against hand-made cases, and how often they hold the truth."""

import itertools

import numpy as np
import pytest

from ppo_keras.reports import statistics
from ppo_keras.reports.statistics import bootstrap, mean, ratio, standard_deviation


def test_two_observations_by_hand():
    """Catches: draws without replacement, another confidence: of 0 and 10 the means are 0, 5, 10 with 1/4, 1/2, 1/4."""
    assert mean([0.0, 10.0]) == (5.0, 0.0, 10.0)


def test_the_interval_is_the_middle_95_of_100():
    """Catches: quantiles of 5 and 95, or of one side: the mean of 60 zeros and ones is binomial."""
    values = np.array([0.0] * 40 + [1.0] * 20)
    exact = np.random.default_rng(9).binomial(60, 1 / 3, size=1_000_000) / 60
    interval = mean(values)
    assert interval.estimate == pytest.approx(1 / 3)
    assert (interval.low, interval.high) == pytest.approx(tuple(np.quantile(exact, [0.025, 0.975])), abs=1.01 / 60)
    assert abs(interval.low - np.quantile(exact, 0.05)) > 0.5 / 60


def test_every_resample_of_three(monkeypatch):
    """Catches: units that are drawn apart from each other (numerator and denominator), sums in place of the ratio."""
    top, bottom = np.array([1.0, 4.0, 9.0]), np.array([1.0, 2.0, 10.0])
    possible = {round(top[list(rows)].sum() / bottom[list(rows)].sum(), 9) for rows in itertools.product(range(3), repeat=3)}
    interval = ratio(top, bottom)
    assert interval.estimate == pytest.approx(14 / 13)
    monkeypatch.setattr(statistics, "CONFIDENCE", 1.0)
    widest = ratio(top, bottom)
    assert (widest.low, widest.high) == pytest.approx((min(possible), max(possible)))


def test_the_truth_is_inside_about_95_times_in_100():
    """Catches: intervals that are too narrow or too wide by a factor (a standard deviation for a standard error)."""
    random = np.random.default_rng(0)
    inside = 0
    for _ in range(300):
        interval = mean(random.exponential(2.0, size=60))
        inside += interval.low <= 2.0 <= interval.high
    assert 0.89 <= inside / 300 <= 0.98


def test_long_units_count_for_more_in_a_ratio():
    """Catches: a mean of ratios in place of a ratio of sums: 2 nats in 1 token, 2 nats in 4 tokens."""
    assert ratio([2.0, 2.0], [1.0, 4.0]) == pytest.approx((0.8, 0.5, 2.0))


def test_a_standard_deviation_against_numpy():
    """Catches: padding that counts, N in place of N - 1, digits lost to a large mean, episodes cut up by the draws."""
    random = np.random.default_rng(3)
    lengths = [5, 1, 3, 4]
    mask = (np.arange(5) < np.array(lengths)[:, np.newaxis]).astype(float)
    values = np.where(mask > 0, 1e6 + random.normal(size=[4, 5]), np.nan)
    interval = standard_deviation(values, mask)
    assert interval.estimate == pytest.approx(np.std(values[mask > 0], ddof=1), rel=1e-6)
    drawn = np.random.default_rng(0).multinomial(4, [0.25] * 4, size=2000)
    each = [np.std(np.concatenate([np.tile(values[i, : lengths[i]], k) for i, k in enumerate(row)]), ddof=1 if row[1] < 4 else 0) for row in drawn]
    assert (interval.low, interval.high) == pytest.approx(tuple(np.quantile(each, [0.025, 0.975])), rel=1e-5)


def test_one_unit_has_no_interval_and_none_is_a_mistake():
    """Catches: an interval of width 0 that looks certain; a NaN."""
    assert mean([3.0]) == (3.0, None, None)
    with pytest.raises(ValueError, match="no rows"):
        bootstrap(np.zeros([0, 2]), lambda sums: sums[..., 0])


def test_the_draws_are_the_same_every_time():
    """Catches: intervals that differ between two calls on the same numbers; a seed that is not read."""
    values, total = np.arange(20.0) ** 2, lambda sums: sums[..., 0] / 20
    assert bootstrap(values, total) == bootstrap(values, total) != bootstrap(values, total, seed=1)
