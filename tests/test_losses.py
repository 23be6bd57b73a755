"""`ppo_keras.losses` against numbers worked out by hand and plain loops in float64."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import assert_close
from ppo_keras.losses import clipped_policy_loss, clipped_value_loss, entropy, log_probability


@pytest.mark.parametrize("ratio, advantage, loss", [(1.3, 1, -1.2), (0.7, 1, -0.7), (1.3, -1, 1.3), (0.7, -1, 0.8)])
def test_golden_policy_loss(ratio, advantage, loss):
    """Catches: minimum and maximum exchanged, a lost sign, or clipping alone without the pessimistic bound."""
    assert_close(clipped_policy_loss(tf.constant([ratio]), tf.constant([float(advantage)]), 0.2), [loss])


@pytest.mark.parametrize("ratio, advantage, loss", [(5, -1, 3), (5, -2, 6), (2, -1, 2), (0.5, -1, 0.8), (5, 1, -1.2), (0.5, 1, -0.5)])
def test_dual_clip_by_hand(ratio, advantage, loss):
    """Catches: a dual clip (c = 3) on positive advantages too, or one that bounds the loss from below."""
    assert_close(clipped_policy_loss(tf.constant([float(ratio)]), tf.constant([float(advantage)]), 0.2, dual_clip=3.0), [float(loss)])


@pytest.mark.parametrize("target, clipped, plain", [(2.0, 0.845, 0.5), (0.6, 0.08, 0.08)])
def test_golden_value_loss(target, clipped, plain):
    """Catches: the missing half, minimum for maximum, or clipping around the return instead of the old value."""
    values, old, returns = (tf.constant([x]) for x in (1.0, 0.5, target))
    assert_close(clipped_value_loss(values, old, returns, 0.2), [clipped])
    assert_close(clipped_value_loss(values, old, returns), [plain])


@pytest.mark.parametrize("ratio, advantage, slope", [(1.3, 2.0, 0.0), (0.7, 2.0, -2.0), (1.0, 2.0, -2.0), (1.3, -2.0, 2.0), (0.7, -2.0, 0.0)])
def test_the_clip_cuts_the_gradient_only_where_the_move_went_too_far(ratio, advantage, slope):
    """Catches: a gradient beyond the clip, or none where the move went the wrong way."""
    ratio = tf.constant([ratio])
    with tf.GradientTape() as tape:
        tape.watch(ratio)
        loss = clipped_policy_loss(ratio, tf.constant([advantage]), 0.2)
    assert_close(tape.gradient(loss, ratio), [slope])


def test_targets_carry_no_gradient():
    """Catches: a gradient into advantages, old values or returns."""
    x = tf.constant([0.3, 1.9])
    with tf.GradientTape() as tape:
        tape.watch(x)
        losses = clipped_policy_loss(tf.constant([1.1, 0.9]), x, 0.2) + clipped_value_loss(tf.constant([1.0, 2.0]), x, 2 * x, 0.2)
    assert tape.gradient(losses, x) is None


@pytest.mark.parametrize("probabilities, nats", [([0.25] * 4, np.log(4)), ([0.5, 0.25, 0.25], 1.5 * np.log(2)), ([1.0, 0.0], 0.0)])
def test_entropy_by_hand(probabilities, nats):
    """Text 10. Catches: a negative entropy (lost sign), bits for nats, and NaN from 0 * log 0."""
    logits = tf.math.log(tf.constant([probabilities], tf.float32)) + 5.0
    assert_close(entropy(logits), [nats])


def test_the_entropy_of_impossible_actions_has_a_finite_gradient():
    """Catches: NaN gradients where an action has probability 0 by a huge negative logit."""
    logits = tf.constant([[1.0, 0.0, -1e9]])
    with tf.GradientTape() as tape:
        tape.watch(logits)
        value = entropy(logits)
    assert np.all(np.isfinite(tape.gradient(value, logits)))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_log_probability_and_entropy_are_float32(dtype):
    """Catches: log-softmax in half precision, or an unnormalised logit taken for a log-probability."""
    logits = tf.cast(np.array([[[2.0, -1.0, 0.5], [10.0, 9.0, 8.0]]]), dtype)
    actions = tf.constant([[2, 0]])
    exact = np.asarray(tf.cast(logits, tf.float64))
    log_probs = exact - np.log(np.exp(exact).sum(-1, keepdims=True))
    assert_close(log_probability(logits, actions), [[log_probs[0, 0, 2], log_probs[0, 1, 0]]])
    assert_close(entropy(logits), -np.sum(np.exp(log_probs) * log_probs, -1))
    assert log_probability(logits, actions).dtype == entropy(logits).dtype == tf.float32


@settings(derandomize=True, deadline=None, max_examples=50)
@given(st.integers(0, 2**31), st.floats(0.05, 0.9), st.one_of(st.none(), st.floats(1.1, 4)))
def test_policy_loss_equals_a_plain_loop(seed, clip_ratio, dual_clip):
    """Catches: any difference from the objective of the papers, taken branch by branch in float64."""
    random = np.random.default_rng(seed)
    ratio, advantages = np.exp(random.normal(0, 1, 30)).astype(np.float32), random.normal(0, 2, 30).astype(np.float32)

    def objective(r, a):
        value = min(r * a, min(max(r, 1 - clip_ratio), 1 + clip_ratio) * a)
        return max(value, dual_clip * a) if dual_clip is not None and a < 0 else value

    expected = [-objective(float(r), float(a)) for r, a in zip(ratio, advantages)]
    assert_close(clipped_policy_loss(ratio, advantages, clip_ratio, dual_clip), np.array(expected))


@settings(derandomize=True, deadline=None, max_examples=50)
@given(st.integers(0, 2**31), st.one_of(st.none(), st.floats(0.05, 2)))
def test_value_loss_equals_a_plain_loop(seed, value_clip):
    """Catches: any difference from the clipped squared error, taken one by one in float64."""
    random = np.random.default_rng(seed)
    values, old, returns = random.normal(0, 1, [3, 30]).astype(np.float32)

    def loss(v, o, r):
        near = v if value_clip is None else o + min(max(v - o, -value_clip), value_clip)
        return 0.5 * max((v - r) ** 2, (near - r) ** 2)

    expected = [loss(*map(float, triple)) for triple in zip(values, old, returns)]
    assert_close(clipped_value_loss(values, old, returns, value_clip), np.array(expected), atol=2e-6)
