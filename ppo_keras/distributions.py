"""Distributions over actions: what a policy's numbers mean. One way to sample, score and average each kind of action.

A policy puts out the *parameters* of its distribution: logits, or means and log standard deviations.
"""

import math
from numbers import Integral

import keras
import tensorflow as tf

from ppo_keras import randomness
from ppo_keras.errors import InputError
from ppo_keras.losses import entropy, log_probability


@keras.saving.register_keras_serializable("ppo_keras")
class Categorical:
    """One choice out of `count`; the parameters are its logits `(..., A)`, the actions int32 `(...)`."""

    action_shape, action_type, free = (), tf.int32, 0

    def __init__(self, count):
        self.count = self.size = count

    def noise(self, shape, seed):
        """The random numbers of a whole rollout at once: `shape` plus what one action needs."""
        return randomness.uniform(shape, seed)

    def sample(self, parameters, noise):
        """Actions by `noise`: the same noise gives the same actions eager, in a graph and under XLA."""
        return randomness.invert_cumulative(parameters, noise)

    def mode(self, parameters):
        """The most probable action."""
        return tf.argmax(parameters, axis=-1, output_type=tf.int32)

    def log_probability(self, parameters, actions):
        """log pi(a | s), float32 `(...)`."""
        return log_probability(parameters, actions)

    def entropy(self, parameters):
        """In nats, float32 `(...)`."""
        return entropy(parameters)

    def temper(self, parameters, temperature):
        """The distribution p^(1/temperature), normalised."""
        return parameters / temperature

    def leaves(self, allowed):
        """bool `(...)`: whether `allowed` (bool `(..., A)`) leaves an action."""
        return tf.reduce_any(allowed, axis=-1)

    def mask(self, parameters, allowed):
        """The distribution without the actions where `allowed` (bool `(..., A)`) is False.

        Where it leaves none, nothing is masked: a distribution over nothing would be NaN, and the collector says what is wrong.
        """
        nothing = ~self.leaves(allowed)[..., tf.newaxis]
        return tf.where(allowed | nothing, parameters, float("-inf"))

    def get_config(self):
        return {"count": self.count}

    @classmethod
    def from_config(cls, config):
        return cls(**config)


@keras.saving.register_keras_serializable("ppo_keras")
class MultiCategorical:
    """Several independent choices at once, out of `counts`; the parameters are all logits side by side, the actions int32 `(..., K)`."""

    action_type, free = tf.int32, 0

    def __init__(self, counts):
        self.counts, self.size, self.action_shape = list(counts), sum(counts), (len(counts),)

    def noise(self, shape, seed):
        """See `Categorical.noise`; one number for each choice."""
        return randomness.uniform([*shape, len(self.counts)], seed)

    def _each(self, parameters):
        return tf.split(parameters, self.counts, axis=-1)

    def sample(self, parameters, noise):
        """Actions by `noise` `(..., K)`."""
        pairs = zip(self._each(parameters), tf.unstack(noise, axis=-1))
        return tf.stack([randomness.invert_cumulative(logits, u) for logits, u in pairs], axis=-1)

    def mode(self, parameters):
        """The most probable action."""
        return tf.stack([tf.argmax(logits, axis=-1, output_type=tf.int32) for logits in self._each(parameters)], axis=-1)

    def log_probability(self, parameters, actions):
        """The sum over the choices, which are independent."""
        pairs = zip(self._each(parameters), tf.unstack(actions, axis=-1))
        return tf.add_n([log_probability(logits, action) for logits, action in pairs])

    def entropy(self, parameters):
        """The sum over the choices, in nats."""
        return tf.add_n([entropy(logits) for logits in self._each(parameters)])

    def leaves(self, allowed):
        """bool `(...)`: whether `allowed`, the masks of all choices side by side, leaves something of each."""
        return tf.reduce_all(tf.stack([tf.reduce_any(part, axis=-1) for part in self._each(allowed)]), axis=0)

    temper, mask = Categorical.temper, Categorical.mask

    def get_config(self):
        return {"counts": self.counts}

    from_config = classmethod(Categorical.from_config.__func__)


@keras.saving.register_keras_serializable("ppo_keras")
class DiagonalGaussian:
    """`dimensions` real numbers, independent and normal, actions float32 `(..., K)`.

    The parameters are the means, which the network puts out, and then the log standard deviations, `free` numbers
    that are learned but do not depend on the state (as in OpenAI's baselines, CleanRL and Stable-Baselines3).
    """

    action_type = tf.float32

    def __init__(self, dimensions):
        self.dimensions = self.size = self.free = dimensions
        self.action_shape = (dimensions,)

    def noise(self, shape, seed):
        """Standard normal numbers `(*shape, K)`: the inverse of the normal cumulative distribution at uniform ones."""
        return tf.math.ndtri(randomness.uniform([*shape, self.dimensions], seed))

    def sample(self, parameters, noise):
        """mean + standard deviation * noise."""
        mean, log_std = tf.split(parameters, 2, axis=-1)
        return mean + tf.exp(log_std) * noise

    def mode(self, parameters):
        """The mean."""
        return parameters[..., : self.dimensions]

    def log_probability(self, parameters, actions):
        """-sum_k ((a - mu)^2 / (2 sigma^2) + log sigma + log(2 pi) / 2)."""
        mean, log_std = tf.split(parameters, 2, axis=-1)
        squares = tf.square((actions - mean) * tf.exp(-log_std))
        return -tf.reduce_sum(0.5 * squares + log_std + 0.5 * math.log(2 * math.pi), axis=-1)

    def entropy(self, parameters):
        """sum_k (log sigma + (1 + log(2 pi)) / 2), in nats."""
        return tf.reduce_sum(parameters[..., self.dimensions :] + 0.5 * (1.0 + math.log(2 * math.pi)), axis=-1)

    def temper(self, parameters, temperature):
        """p^(1/temperature): the variance is multiplied by the temperature."""
        mean, log_std = tf.split(parameters, 2, axis=-1)
        return tf.concat([mean, log_std + 0.5 * math.log(temperature)], axis=-1)

    def mask(self, parameters, allowed):
        """Real-valued actions have no masks."""
        raise InputError("real-valued actions cannot be masked. Leave action_masks out.")

    def get_config(self):
        return {"dimensions": self.dimensions}

    from_config = classmethod(Categorical.from_config.__func__)


def acting(distribution, logits, temperature, action_masks=()):
    """The parameters of the distribution that acts: at a temperature, without the actions that are not allowed."""
    logits = distribution.temper(logits, temperature)
    return logits if isinstance(action_masks, tuple) else distribution.mask(logits, action_masks)


def distribution_of(actions):
    """The distribution for an action space: a count, a list of counts, or a distribution."""
    if isinstance(actions, Integral):
        return Categorical(int(actions))
    if isinstance(actions, (Categorical, MultiCategorical, DiagonalGaussian)):
        return actions
    return MultiCategorical([int(count) for count in actions])
