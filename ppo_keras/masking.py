"""Statistics over the real steps of ragged sequences: padding enters none of them."""

import tensorflow as tf


def masked_sum(x, mask):
    """Sum of `x` where `mask` is 1. NaN or infinity on padding is not read. Shapes `(B, T)` -> `()`."""
    return tf.reduce_sum(tf.where(mask > 0, x, 0.0))


def masked_mean(x, mask):
    """Mean of `x` where `mask` is 1; 0 where the mask is empty. Shapes `(B, T)` -> `()`."""
    return masked_sum(x, mask) / tf.maximum(tf.reduce_sum(mask), 1.0)


def masked_variance(x, mask, bessel=True):
    """Variance of `x` where `mask` is 1, with Bessel's correction (n - 1) by default, as PyTorch and TRL have it.

    A single element has variance 0. Shapes `(B, T)` -> `()`.
    """
    count = tf.reduce_sum(mask)
    squares = masked_sum(tf.square(x - masked_mean(x, mask)), mask)
    return squares / tf.maximum(count - (1.0 if bessel else 0.0), 1.0)


def whiten(x, mask, shift_mean=True):
    """Scales the real entries to standard deviation 1 (Bessel) and, with `shift_mean`, to mean 0; padding becomes 0.

    `(x - mean) * rsqrt(variance + 1e-8)`, as TRL: zero variance and a single element give the mean (0), not NaN.

    Args:
        x: float32 `(B, T)`.
        mask: float32 `(B, T)`, 1 where real.
        shift_mean: False adds the mean again, as TRL does for rewards; single entries may change their sign.

    Returns:
        float32 `(B, T)`.
    """
    mean = masked_mean(x, mask)
    scaled = (x - mean) * tf.math.rsqrt(masked_variance(x, mask) + 1e-8)
    return tf.where(mask > 0, scaled if shift_mean else scaled + mean, 0.0)


def episode_starts(mask):
    """1 at the first real token of each left-padded sequence: what lies before is another episode. `(B, P)`."""
    return mask - tf.pad(mask[:, :-1], [[0, 0], [1, 0]]) * mask
