"""Random numbers from an explicit seed that are the same eager, in a graph and under XLA.

Floats of `keras.random` and of `tf.random.stateless_uniform` differ between XLA and the other modes; the raw Philox
bits do not. Every draw therefore starts from bits.
"""

import tensorflow as tf


def fold_in(seed, number):
    """A new seed from a seed (int32 `(2,)`) and a counter; chains of it name every draw of a run."""
    return tf.random.experimental.stateless_fold_in(seed, tf.cast(number, tf.int32), alg="philox")


def uniform(shape, seed):
    """float32 in the open interval (0, 1), of 24 random bits each: never 0 or 1, so logarithms are finite."""
    bits = tf.random.stateless_uniform(shape, seed, minval=None, maxval=None, dtype=tf.uint32, alg="philox")
    bits = tf.cast(tf.bitwise.right_shift(bits, tf.constant(8, tf.uint32)), tf.int32)
    return (tf.cast(bits, tf.float32) + 0.5) * 2.0**-24


def categorical(logits, seed):
    """Samples an index from each row by the Gumbel-max method: argmax(logits + G), G = -log(-log(U)).

    Args:
        logits: float32 `(..., A)`, unnormalised; -inf is never drawn.
        seed: int32 `(2,)`.

    Returns:
        int32 `(...)`.
    """
    gumbel = -tf.math.log(-tf.math.log(uniform(tf.shape(logits), seed)))
    return tf.argmax(logits + gumbel, axis=-1, output_type=tf.int32)


def permutation(size, seed):
    """A random order of `range(size)`, int32 `(size,)`."""
    return tf.argsort(uniform([size], seed), stable=True)
