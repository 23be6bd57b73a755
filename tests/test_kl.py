"""`ppo_keras.kl`: estimators and controllers by hand."""

import numpy as np
import pytest
import tensorflow as tf

from helpers import assert_close
from ppo_keras import KLConfig
from ppo_keras.kl import AdaptiveKLController, FixedKLController, estimate_kl, kl_controller

LOG_PROBS = tf.constant([[-1.0, -2.0, -0.5]])
REFERENCE = tf.constant([[-1.5, -1.0, -0.5]])  # log r = -0.5, +1, 0


@pytest.mark.parametrize(
    "estimator, expected",
    [("k1", [[0.5, -1.0, 0.0]]), ("k2", [[0.125, 0.5, 0.0]]), ("k3", [[np.exp(-0.5) - 0.5, np.e - 2.0, 0.0]])],
)
def test_estimators_by_hand(estimator, expected):
    """Text 16. Catches: the KL with the wrong sign or direction, and k1 made positive by an absolute value or a clip."""
    assert_close(estimate_kl(LOG_PROBS, REFERENCE, estimator), np.array(expected))


def test_estimators_average_to_the_divergence():
    """Catches: k1 or k3 of KL(reference || policy): over the policy's own probabilities both sum to KL(policy || reference)."""
    p, q = np.array([0.5, 0.3, 0.2]), np.array([0.2, 0.2, 0.6])
    exact = np.sum(p * np.log(p / q))
    logs = tf.constant(np.log(p), tf.float32), tf.constant(np.log(q), tf.float32)
    assert_close(np.sum(p * estimate_kl(*logs, "k1").numpy()), exact)
    assert_close(np.sum(p * estimate_kl(*logs, "k3").numpy()), exact)
    assert_close(np.sum(p * estimate_kl(*logs, "k2").numpy()), np.sum(p * np.log(p / q) ** 2 / 2))


def test_k3_is_exact_for_small_differences():
    """Catches: exp(x) - 1 - x in float32, which is rounding noise (and negative) where the policies are near."""
    small = np.float32(1e-3)
    assert_close(estimate_kl(tf.zeros([1]), tf.fill([1], small), "k3"), [np.expm1(np.float64(small)) - small], rtol=2e-3, atol=0)  # x - x cancels 3 digits


@pytest.mark.parametrize("estimator", ["k1", "k2", "k3"])
def test_estimates_carry_no_gradient(estimator):
    """Text 16. Catches: a KL estimate used as a differentiable loss by accident."""
    with tf.GradientTape() as tape:
        tape.watch(LOG_PROBS)
        kl = estimate_kl(LOG_PROBS, REFERENCE, estimator)
    assert tape.gradient(kl, LOG_PROBS) is None


def test_an_unknown_estimator_is_an_error():
    """Catches: a misspelt estimator that silently becomes another."""
    with pytest.raises(ValueError, match="k4"):
        estimate_kl(LOG_PROBS, REFERENCE, "k4")


def test_the_fixed_controller_never_moves():
    """Catches: a coefficient that adapts without a target."""
    assert FixedKLController(0.07).update(0.07, 100.0, 64) == 0.07


@pytest.mark.parametrize("kl, factor", [(6.6, 1.0064), (6.0, 1.0), (5.4, 0.9936), (60.0, 1.0128), (0.0, 0.9872), (-3.0, 0.9872)])
def test_the_adaptive_controller_by_hand(kl, factor):
    """Catches: the wrong direction, an unclipped error, or n and horizon exchanged: e = clip(kl / 6 - 1, +-.2), n = 64, horizon = 1000."""
    controller = AdaptiveKLController(0.05, target=6.0, horizon=1000)
    assert_close(controller.update(tf.constant(0.05), tf.constant(kl), 64.0), 0.05 * factor)


@pytest.mark.parametrize("kl, responses, factor", [(0.0, 1000.0, 0.8), (0.0, 2500.0, 0.5), (0.0, 2600.0, 0.5), (0.0, 1e6, 0.5), (60.0, 1e4, 3.0)])
def test_many_responses_at_most_halve_the_coefficient(kl, responses, factor):
    """Catches: a floor of 0 or none: with more responses than the horizon the coefficient would be 0 for ever, or reward the KL. It may grow further."""
    assert_close(AdaptiveKLController(0.05, target=6.0, horizon=1000).update(tf.constant(0.05), tf.constant(kl), responses), 0.05 * factor)


def test_the_settings_choose_the_controller():
    """Catches: target, horizon or first coefficient that is not handed on."""
    fixed, adaptive = kl_controller(KLConfig(kl_coefficient=0.3)), kl_controller(KLConfig(0.1, kl_target=4.0, kl_horizon=50))
    assert type(fixed) is FixedKLController and fixed.initial == 0.3
    assert type(adaptive) is AdaptiveKLController
    assert (adaptive.initial, adaptive.target, adaptive.horizon) == (0.1, 4.0, 50)
