"""The pieces of the PPO objective, each for every step: the learner takes their masked mean."""

import tensorflow as tf


def log_probability(logits, actions):
    """log pi(a | s) of the chosen actions. Shapes `(..., A)`, int32 `(...)` -> float32 `(...)`."""
    return -tf.nn.sparse_softmax_cross_entropy_with_logits(labels=actions, logits=tf.cast(logits, tf.float32))


def entropy(logits):
    """-sum_a pi(a | s) log pi(a | s), in nats. Shape `(..., A)` -> float32 `(...)`."""
    log_probs = tf.nn.log_softmax(tf.cast(logits, tf.float32))
    probs = tf.exp(log_probs)
    # an action that is masked has log-probability -inf: selected away, neither value nor gradient is NaN
    return -tf.reduce_sum(probs * tf.where(probs > 0, log_probs, 0.0), axis=-1)


def clipped_policy_loss(ratio, advantages, clip_ratio, dual_clip=None):
    """The clipped surrogate, as a loss: -L^CLIP (Schulman et al. 2017, eq. 7).

        L^CLIP = min(r A, clip(r, 1 - epsilon, 1 + epsilon) A),   r = pi(a|s) / pi_old(a|s)

    The minimum makes it pessimistic: a move that already went too far in the direction that the advantage asks for
    gets no gradient, one that went the wrong way keeps it. With `dual_clip` = c > 1 the objective is also at least
    c A where A < 0 (Ye et al. 2020, "Mastering complex control in MOBA games", eq. 4).

    Args:
        ratio: float32, any shape.
        advantages: float32, same shape.
        clip_ratio: epsilon.
        dual_clip: c, or None.

    Returns:
        float32, same shape, to be minimised.
    """
    advantages = tf.stop_gradient(advantages)
    clipped = tf.clip_by_value(ratio, 1.0 - clip_ratio, 1.0 + clip_ratio)
    loss = tf.maximum(-ratio * advantages, -clipped * advantages)
    if dual_clip is None:
        return loss
    return tf.where(advantages < 0, tf.minimum(loss, -dual_clip * advantages), loss)


def clipped_value_loss(values, old_values, returns, value_clip=None):
    """Half the squared error; with `value_clip`, the larger of that and the one of the value kept near its old value.

        L^V = 1/2 max((V - R)^2, (clip(V, V_old - epsilon, V_old + epsilon) - R)^2)

    The half and the maximum are those of OpenAI's baselines, CleanRL and TRL.

    Args:
        values, old_values, returns: float32, one shape.
        value_clip: epsilon, or None for the plain squared error.

    Returns:
        float32, same shape, to be minimised.
    """
    old_values, returns = tf.stop_gradient(old_values), tf.stop_gradient(returns)
    squares = tf.square(values - returns)
    if value_clip is not None:
        kept_near = old_values + tf.clip_by_value(values - old_values, -value_clip, value_clip)
        squares = tf.maximum(squares, tf.square(kept_near - returns))
    return 0.5 * squares
