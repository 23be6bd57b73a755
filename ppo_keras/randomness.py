"""Random numbers from an explicit seed that are the same eager, in a graph and under XLA.

Floats of `keras.random` and of `tf.random.stateless_uniform` differ between XLA and the other modes; the raw Philox
bits do not. Every draw therefore starts from bits.
"""

import contextlib
import threading

import keras
import tensorflow as tf

_here = threading.local()  # each device of a `tf.distribute` strategy is traced in a thread of its own


def fold_in(seed, number):
    """A new seed from a seed (int32 `(2,)`) and a counter; chains of it name every draw of a run."""
    return tf.stack([philox([], seed, tf.int32), tf.cast(number, tf.int32)])


def philox(shape, seed, dtype, blocks=None):
    """Random integers over the whole range of their type (Salmon et al. 2011): what `tf.random.stateless_uniform` draws with `alg="philox"`.

    TensorFlow turns a seed into a key and a counter in many operations, written in Python; this takes a third of them, and the bits are the same.
    The first `blocks` of 128 bits of the sequence, an int32 scalar, may be left out.
    """
    scrambled = philox_integers([2], tf.constant([0x02461E293EC8F720], tf.uint64), tf.cast(seed, tf.uint64), tf.uint64)
    counter = scrambled * tf.constant([0, 1], tf.uint64)
    if blocks is not None:
        counter += tf.stack([tf.cast(blocks, tf.uint64), tf.constant(0, tf.uint64)])
    return philox_integers(shape, scrambled[:1], counter, dtype)


def philox_share(shape, seed, share, axis):
    """uint32 of the static `shape`: what would be drawn for a whole batch, which lies along an axis, for the rows of a share (a `devices.Share`)."""
    count, size = tf.TensorShape(shape).num_elements(), shape[axis]
    if axis == 0 and count % 4 == 0:  # they lie together, and begin with a block
        return philox(shape, seed, tf.uint32, share.index * (count // 4))
    whole = philox([*shape[:axis], size * share.count, *shape[axis + 1 :]], seed, tf.uint32)
    return tf.gather(whole, share.index * size + tf.range(size), axis=axis)


@contextlib.contextmanager
def drawing_for(share):
    """Within it, `Dropout` drops of the rows of a share what it would drop of them in the whole batch."""
    _here.share = share
    try:
        yield
    finally:
        del _here.share


def philox_integers(shape, key, counter, dtype):
    """TensorFlow's operation: uint64 `(1,)`, uint64 `(2,)` -> integers."""
    return tf.raw_ops.StatelessRandomUniformFullIntV2(shape=shape, key=key, counter=counter, dtype=dtype, alg=tf.random.Algorithm.PHILOX.value)


def uniform(shape, seed):
    """float32 in the open interval (0, 1), of 23 random bits each: never 0 or 1, so logarithms are finite."""
    bits = philox(shape, seed, tf.uint32)
    bits = tf.cast(tf.bitwise.right_shift(bits, tf.constant(9, tf.uint32)), tf.int32)
    return (tf.cast(bits, tf.float32) + 0.5) * 2.0**-23


def categorical(logits, seed):
    """Samples an index from each row by inverting its cumulative distribution: one uniform number a row.

    The Gumbel-max method would need one for each entry, and an argmax, which XLA does not vectorise on CPUs.

    Args:
        logits: float32 `(B, A)`, unnormalised; -inf is never drawn.
        seed: int32 `(2,)`.

    Returns:
        int32 `(B,)`.
    """
    return invert_cumulative(logits, uniform([tf.shape(logits)[0]], seed))


def invert_cumulative(logits, uniforms):
    """The index at which the cumulative distribution passes a number in (0, 1). Shapes `(..., A)`, `(...)` -> int32 `(...)`.

    XLA adds in blocks, so that its sums may rise a little even where a weight is 0: only possible indices are looked at.
    """
    weights = tf.exp(logits - tf.reduce_max(logits, axis=-1, keepdims=True))
    cumulative = tf.where(weights > 0, tf.cumsum(weights, axis=-1), 0.0)  # (..., A)
    threshold = uniforms[..., tf.newaxis] * tf.reduce_max(cumulative, axis=-1, keepdims=True)
    last = logits.shape[-1] - 1
    return tf.reduce_min(tf.where(cumulative >= threshold, tf.range(last + 1), last), axis=-1)


def permutation(size, seed):
    """A random order of `range(size)`, int32 `(size,)`."""
    return tf.argsort(uniform([size], seed), stable=True)


@keras.saving.register_keras_serializable("ppo_keras")
class Dropout(keras.layers.Dropout):
    """Keras's `Dropout`, drawing from Philox bits: equal in every mode, and on CPUs far faster under XLA than Keras's draws.

    The rate is rounded to a multiple of 2^-16. The last axis must have a known size.
    """

    def draw_seed(self):
        """The seed of one call, int32 `(2,)`, for those that must drop the same numbers twice."""
        return tf.bitcast(tf.cast(self.seed_generator.next(), tf.uint32), tf.int32)

    def call(self, inputs, training=False, seed=None, batch_axis=0):
        if not training or self.rate == 0:
            return inputs
        seed = self.draw_seed() if seed is None else seed
        if inputs.shape.rank in (None, 0) or inputs.shape[-1] is None:
            raise ValueError(f"{self.name} was given inputs of shape {inputs.shape}. Let the size of their last axis be known.")
        size, dropped = inputs.shape[-1], min(round(self.rate * 2**16), 2**16 - 1)  # the rate, in parts of 2^16
        half, share = -(-size // 2), getattr(_here, "share", None)
        if share is None:
            bits = philox(tf.concat([tf.shape(inputs)[:-1], [half]], axis=0), seed, tf.uint32)
        else:
            bits = philox_share([*inputs.shape[:-1], half], seed, share, batch_axis)
        limit = tf.constant(dropped << 16, tf.uint32)
        # 16 bits are enough to decide: the upper half of a draw for one number, its lower half for another
        kept = tf.concat([bits >= limit, tf.bitwise.left_shift(bits, tf.constant(16, tf.uint32)) >= limit], axis=-1)
        return tf.where(kept if size % 2 == 0 else kept[..., :size], inputs * (1.0 / (1.0 - dropped / 2**16)), 0.0)
