"""Running mean and variance of what an agent observes, kept with its policy."""

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("ppo_keras")
class RunningNormalization(keras.layers.Layer):
    """(x - mean) / standard deviation of all that `update` was shown, limited to +-10 (as in OpenAI's baselines).

    `keras.layers.Normalization` is for statistics that are known before training; these move between iterations and
    stay fixed within one, so that acting and updating see the same inputs.

    Args:
        shape: of one observation.
    """

    def __init__(self, shape, limit=10.0, **kwargs):
        super().__init__(**kwargs | dict(dtype="float32", autocast=False))  # exact also under mixed precision
        self.shape, self.limit = tuple(shape), limit
        keep = dict(trainable=False, dtype="float32", autocast=False)
        self.mean = self.add_weight(self.shape, "zeros", name="mean", **keep)
        self.variance = self.add_weight(self.shape, "ones", name="variance", **keep)
        self.count = self.add_weight((), "zeros", name="count", **keep)
        self.built = True

    def call(self, x):
        """`(..., *shape)` -> the same shape."""
        normal = (x - self.mean) * tf.math.rsqrt(tf.convert_to_tensor(self.variance) + 1e-8)
        return tf.clip_by_value(normal, -self.limit, self.limit)

    def update(self, x, mask):
        """Adds what was observed (Chan et al. 1979, eq. 2.1): `(B, T, *shape)`, real where the mask `(B, T)` is 1."""
        mask = tf.reshape(mask, [*mask.shape, *[1] * len(self.shape)])
        new = tf.reduce_sum(mask)
        mean = tf.reduce_sum(tf.where(mask > 0, x, 0.0), axis=[0, 1]) / tf.maximum(new, 1.0)
        squares = tf.reduce_sum(tf.where(mask > 0, tf.square(x - mean), 0.0), axis=[0, 1])
        old, difference = tf.convert_to_tensor(self.count), mean - self.mean
        total = tf.maximum(old + new, 1.0)
        squares += tf.where(old > 1.0, self.variance * old, 0.0) + tf.square(difference) * old * new / total
        self.mean.assign_add(difference * new / total)
        self.variance.assign(tf.where(old + new > 1.0, squares / total, self.variance))
        self.count.assign(old + new)

    def get_config(self):
        return super().get_config() | {"shape": self.shape, "limit": self.limit}
