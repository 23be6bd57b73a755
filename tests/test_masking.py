"""`ppo_keras.masking` against NumPy in float64."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import assert_close, mask_of
from ppo_keras.masking import masked_mean, masked_sum, masked_variance, whiten

X = np.array([[1.0, -2.0, 4.0, 100.0], [3.0, 100.0, 100.0, 100.0]], np.float32)
MASK = mask_of([3, 1], 4)
REAL = np.array([1.0, -2.0, 4.0, 3.0])


def test_masked_sum_and_mean_by_hand():
    """Catches: padding summed, or the mean divided by the size instead of the count of real entries."""
    assert_close(masked_sum(X, MASK), 6.0)
    assert_close(masked_mean(X, MASK), 1.5)


@pytest.mark.parametrize("garbage", [np.nan, np.inf, -np.inf])
def test_garbage_on_padding_is_not_read(garbage):
    """Catches: `x * mask` instead of `tf.where`, by which NaN or infinity on padding spoils every statistic."""
    x = np.where(MASK > 0, X, garbage).astype(np.float32)
    for statistic in (masked_sum, masked_mean, masked_variance, whiten):
        assert_close(statistic(x, MASK), statistic(X, MASK), rtol=0, atol=0)


def test_an_empty_mask_gives_zero():
    """Catches: 0 / 0 where no entry is real."""
    nothing = np.zeros_like(MASK)
    for statistic in (masked_sum, masked_mean, masked_variance, whiten):
        assert not np.any(statistic(X, nothing))


def test_variance_with_and_without_bessel():
    """Catches: n for n - 1, or an unmasked mean inside the squares."""
    assert_close(masked_variance(X, MASK), np.var(REAL, ddof=1))
    assert_close(masked_variance(X, MASK, bessel=False), np.var(REAL))


def test_golden_standard_deviations():
    """Catches: a variance that is not PyTorch's (.896308 with Bessel, .801682 of the population)."""
    golden = np.array([[0.5198, -0.4, 1.829312, -0.073033, 1.093]], np.float32)
    ones = np.ones_like(golden)
    assert_close(tf.sqrt(masked_variance(golden, ones)), 0.896308)
    assert_close(tf.sqrt(masked_variance(golden, ones, bessel=False)), 0.801682)
    assert_close(np.std(whiten(golden, ones), ddof=1), 1.0)


def test_whiten_by_hand():
    """Catches: whitening that counts padding, or writes anything but 0 on it."""
    expected = np.zeros_like(X)
    expected[MASK > 0] = (REAL - REAL.mean()) / np.sqrt(np.var(REAL, ddof=1) + 1e-8)
    assert_close(whiten(X, MASK), expected)
    small = np.float64(1e-4)  # a variance no larger than the 1e-8 of the formula
    expected[MASK > 0] = small * (REAL - REAL.mean()) / np.sqrt(small**2 * np.var(REAL, ddof=1) + 1e-8)
    assert_close(whiten(X * np.float32(small), MASK), expected)


def test_whiten_can_keep_the_mean():
    """Catches: `shift_mean=False` that still moves the mean (a reward would change its sign)."""
    expected = np.zeros_like(X)
    expected[MASK > 0] = (REAL - REAL.mean()) / np.std(REAL, ddof=1) + REAL.mean()
    assert_close(whiten(X, MASK, shift_mean=False), expected)


@pytest.mark.parametrize("mask", [mask_of([1, 0], 4), mask_of([3, 0], 4)], ids=["one element", "zero variance"])
def test_whiten_is_safe_for_one_element_and_for_zero_variance(mask):
    """Text 11. Catches: division by n - 1 = 0 or by a standard deviation of 0 (NaN advantages)."""
    constant = np.full_like(X, 7.0)
    assert_close(whiten(constant, mask), np.zeros_like(X), rtol=0, atol=0)
    assert_close(whiten(constant, mask, shift_mean=False), 7.0 * mask)


@settings(derandomize=True, deadline=None, max_examples=50)
@given(st.integers(0, 2**31), st.integers(1, 6), st.integers(1, 7))
def test_statistics_equal_numpy_over_the_real_entries(seed, batch, steps):
    """Catches: any statistic that differs from NumPy's over the flat list of real entries."""
    random = np.random.default_rng(seed)
    x = random.normal(1, 2, [batch, steps]).astype(np.float32)
    mask = (random.random([batch, steps]) < 0.7).astype(np.float32)
    mask[0, 0] = 1
    real = x[mask > 0].astype(np.float64)
    assert_close(masked_mean(x, mask), real.mean())
    assert_close(masked_variance(x, mask, bessel=False), real.var())
    if len(real) > 1:
        assert_close(masked_variance(x, mask), real.var(ddof=1))
        whitened = (real - real.mean()) / np.sqrt(real.var(ddof=1) + 1e-8)
        assert_close(np.asarray(whiten(x, mask))[mask > 0], whitened, rtol=1e-4, atol=1e-4)  # the mean of near-equal numbers cancels
