"""`ppo_keras.advantages` against numbers of CleanRL and Stable-Baselines3, and a plain loop in float64."""

import numpy as np
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import assert_close
from ppo_keras.advantages import generalized_advantages

REWARDS = np.array([[1, 0, 2, -1, 0.5]], np.float32)
VALUES = np.array([[0.5, 0.4, 0.3, 0.2, 0.1]], np.float32)
ENDED = np.array([[0, 1, 0, 0, 0]], np.float32)
TERMINATED = np.array([[0.4, 0.0, 0.2, 0.1, 0.7]], np.float32)  # V(s_{t+1}), 0 behind the end
TRUNCATED = np.array([[0.4, 0.6, 0.2, 0.1, 0.7]], np.float32)  # V(final observation) behind the end
ONES = np.ones_like(REWARDS)


def plain_advantages(rewards, values, next_values, ended, mask, discount, gae_lambda):
    """GAE as a loop in float64; padding is 0, and nothing is carried across it."""
    rewards, values, next_values = (np.asarray(x, np.float64) for x in (rewards, values, next_values))
    advantages = np.zeros_like(rewards)
    for b in range(rewards.shape[0]):
        following = 0.0
        for t in reversed(range(rewards.shape[1])):
            if mask[b, t] == 0:
                following = 0.0
                continue
            delta = rewards[b, t] + discount * next_values[b, t] - values[b, t]
            following = delta + discount * gae_lambda * (0.0 if ended[b, t] else following)
            advantages[b, t] = following
    return advantages, np.where(mask > 0, advantages + values, 0.0)


def test_golden_terminated():
    """Catches: a bootstrap or a carry across a terminal step, or a decay that is not gamma * lambda."""
    advantages, returns = generalized_advantages(REWARDS, VALUES, TERMINATED, ENDED, ONES, 0.99, 0.95)
    assert_close(advantages, [[0.5198, -0.4, 1.829312, -0.073033, 1.093]], atol=1e-6)
    assert_close(returns, [[1.0198, 0, 2.129312, 0.126967, 1.193]], atol=1e-6)


def test_golden_truncated():
    """Catches: truncation treated as termination (no bootstrap), or as no end (advantage carried over it)."""
    advantages, returns = generalized_advantages(REWARDS, VALUES, TRUNCATED, ENDED, ONES, 0.99, 0.95)
    assert_close(advantages, [[1.078457, 0.194, 1.829312, -0.073033, 1.093]], atol=1e-6)
    assert_close(returns, advantages + VALUES)


def test_lambda_zero_and_one_by_hand():
    """Catches: lambda and gamma confused (lambda 0 is the one-step error, lambda 1 with gamma 1 the sum of rewards less V)."""
    one_step, _ = generalized_advantages(REWARDS, VALUES, TRUNCATED, ENDED, ONES, 0.9, 0.0)
    assert_close(one_step, REWARDS + 0.9 * TRUNCATED - VALUES)
    _, returns = generalized_advantages(REWARDS, VALUES, TERMINATED, ENDED, ONES, 1.0, 1.0)
    assert_close(returns, [[1.0, 0.0, 2.2, 0.2, 1.2]])


def test_padding_is_zero_and_leaks_nothing():
    """Text 17. Catches: garbage on padding (NaN too) that reaches real steps or is returned."""
    mask = np.array([[1, 1, 1, 0, 0], [1, 0, 0, 0, 0]], np.float32)
    clean = [np.where(mask > 0, np.tile(x, [2, 1]), 0).astype(np.float32) for x in (REWARDS, VALUES, TRUNCATED)]
    dirty = [np.where(mask > 0, x, np.nan).astype(np.float32) for x in clean]
    for result, expected in zip(generalized_advantages(*dirty, 0 * mask, mask, 0.99, 0.95), generalized_advantages(*clean, 0 * mask, mask, 0.99, 0.95)):
        assert_close(result, expected, rtol=0, atol=0)
        assert not np.any(np.asarray(result)[mask == 0])


def test_episodes_do_not_leak():
    """Text 17. Catches: rewards of the next episode counted in the one before its end."""
    later = REWARDS + np.array([[0, 0, 50, 50, 50]], np.float32)
    before, _ = generalized_advantages(REWARDS, VALUES, TERMINATED, ENDED, ONES, 0.99, 0.95)
    after, _ = generalized_advantages(later, VALUES, TERMINATED, ENDED, ONES, 0.99, 0.95)
    assert_close(before[:, :2], after[:, :2], rtol=0, atol=0)
    assert np.all(after[:, 2:] - before[:, 2:] > 40)


def test_no_gradient_flows():
    """Catches: advantages or returns that carry a gradient into the critic."""
    values = tf.constant(VALUES)
    with tf.GradientTape() as tape:
        tape.watch(values)
        total = tf.add_n([tf.reduce_sum(x) for x in generalized_advantages(REWARDS, values, TERMINATED, ENDED, ONES, 0.99, 0.95)])
    assert tape.gradient(total, values) is None


@settings(derandomize=True, deadline=None, max_examples=50)
@given(st.integers(0, 2**31), st.integers(1, 5), st.integers(1, 8), st.floats(0, 1), st.floats(0, 1))
def test_equals_a_plain_loop(seed, batch, steps, discount, gae_lambda):
    """Catches: any difference from the loop in float64, for ragged masks with holes and ends anywhere, (B, T) not confused."""
    random = np.random.default_rng(seed)
    rewards, values, next_values = random.normal(0, 1, [3, batch, steps]).astype(np.float32)
    ended, mask = (random.random([2, batch, steps]) < [[[0.3]], [[0.8]]]).astype(np.float32)
    inputs = rewards, values, next_values, ended, mask, discount, gae_lambda
    assert_close(list(generalized_advantages(*inputs)), list(plain_advantages(*inputs)), atol=5e-6)
