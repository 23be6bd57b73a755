"""Generalized advantage estimation (Schulman et al. 2016, "High-dimensional continuous control using GAE", eq. 11 to 16)."""

import tensorflow as tf


def generalized_advantages(rewards, values, next_values, ended, mask, discount, gae_lambda):
    """Advantages and value targets of every step.

        delta_t = r_t + gamma * V(s_{t+1}) - V(s_t)
        A_t     = delta_t + gamma * lambda * (1 - ended_t) * A_{t+1}
        return  = A_t + V(s_t)

    `next_values` says what lies behind each step (0 after termination, V(final observation) after truncation), so one
    formula serves every task. Padding has advantage and return 0, and nothing leaks across it or across episodes.

    Args:
        rewards, values, next_values: float32 `(B, T)`.
        ended: float32 `(B, T)`, 1 at the last step of an episode.
        mask: float32 `(B, T)`, 1 where the step is real.
        discount: gamma.
        gae_lambda: lambda.

    Returns:
        `(advantages, returns)`, float32 `(B, T)` each, with no gradient.

    Example:
        >>> one = tf.ones([1, 1])
        >>> generalized_advantages(one, 0 * one, 0 * one, one, one, 0.99, 0.95)[0].numpy()
        array([[1.]], dtype=float32)
    """
    real = mask > 0
    deltas = tf.where(real, rewards + discount * next_values - values, 0.0)
    decay = tf.where(real, discount * gae_lambda * (1.0 - ended), 0.0)

    # A_t = delta_t + decay_t A_{t+1}: after each round, A_t holds the terms of twice as many steps; log2(T) rounds, not T
    advantages, reach = deltas, 1
    while reach < deltas.shape[1]:
        later = lambda x: tf.pad(x[:, reach:], [[0, 0], [0, reach]])
        advantages, decay, reach = advantages + decay * later(advantages), decay * later(decay), 2 * reach
    returns = tf.where(real, advantages + values, 0.0)
    return tf.stop_gradient(advantages), tf.stop_gradient(returns)
