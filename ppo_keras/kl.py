"""Divergence from the reference policy: estimators from samples, and the control of its price."""

import tensorflow as tf


def estimate_kl(log_probs, reference_log_probs, estimator="k1"):
    """KL(policy || reference) of each step, estimated from an action that the policy sampled.

    With log r = log p_ref - log p (Schulman 2020, "Approximating KL divergence"):

    | estimator | formula | on samples |
    |---|---|---|
    | k1 | -log r | unbiased, high variance, may be negative |
    | k2 | (log r)^2 / 2 | biased, low variance |
    | k3 | r - 1 - log r | unbiased, never negative |

    They are estimates of a number, for rewards and metrics. As a differentiable loss k1 and k3 have the wrong
    expected gradient, therefore the result carries none.

    Args:
        log_probs, reference_log_probs: float32, one shape, of the actions that the policy sampled.
        estimator: "k1", "k2" or "k3".

    Returns:
        float32, same shape, in nats.

    Raises:
        ValueError: another estimator.
    """
    log_ratio = tf.stop_gradient(reference_log_probs - log_probs)
    if estimator == "k1":
        return -log_ratio
    if estimator == "k2":
        return 0.5 * tf.square(log_ratio)
    if estimator == "k3":
        return tf.math.expm1(log_ratio) - log_ratio
    raise ValueError(f"estimator={estimator!r} is unknown. Use k1, k2 or k3.")


class FixedKLController:
    """A constant coefficient beta."""

    def __init__(self, coefficient):
        self.initial = coefficient

    def update(self, coefficient, kl, responses):
        """The coefficient for the next iteration: the same."""
        return coefficient


class AdaptiveKLController:
    """A coefficient beta that steers the KL to a target (Ziegler et al. 2019, "Fine-tuning language models from human
    preferences", section 2.2):

        e = clip(KL / target - 1, -0.2, 0.2),   beta <- beta * (1 + e * n / horizon), at least half of beta

    Args:
        coefficient: beta of the first iteration.
        target: nats a response.
        horizon: responses over which beta moves; n of them are seen in an iteration.
    """

    def __init__(self, coefficient, target, horizon):
        self.initial, self.target, self.horizon = coefficient, target, horizon

    def update(self, coefficient, kl, responses):
        """beta for the next iteration, given the mean `kl` (nats) of this iteration's `responses`."""
        error = tf.clip_by_value(kl / self.target - 1.0, -0.2, 0.2)
        return coefficient * tf.maximum(1.0 + error * responses / self.horizon, 0.5)  # a short horizon must not turn the sign


def kl_controller(config):
    """The controller that a `KLConfig` describes: adaptive where it has a target."""
    if config.kl_target is None:
        return FixedKLController(config.kl_coefficient)
    return AdaptiveKLController(config.kl_coefficient, config.kl_target, config.kl_horizon)
