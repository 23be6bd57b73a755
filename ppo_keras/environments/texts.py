"""Texts to be labelled, as an environment: an episode is one text, one action (its label) and one reward."""

import numpy as np
import tensorflow as tf

from ppo_keras import randomness
from ppo_keras.environments.environment import Environment, Step
from ppo_keras.errors import InputError


class TextClassification(Environment):
    """Label a text: a one-step episode, also called a contextual bandit. The agent learns what its label cost, not the right one.

    Args:
        tokens: int32 `(N, L)`, a text a row, filled up with `NO_TOKEN`.
        labels: int32 `(N,)`.
        costs: float `(K, K)`: `costs[label, chosen]` is what it costs to choose `chosen` for a text of
            this label. The reward is its negative.

    Raises:
        InputError: the table is not square, not finite, or too small for the labels.

    Example:
        >>> TextClassification(np.array([[5, 6], [7, -1]]), [0, 1], [[0, 1], [5, 0]]).step(tf.constant([1]), tf.constant([0]), None).reward.numpy()
        array([-5.], dtype=float32)
    """

    name, time_limit = "text-classification", 1

    def __init__(self, tokens, labels, costs):
        self.tokens, self.labels = tf.constant(tokens, tf.int32), tf.constant(labels, tf.int32)
        self.costs = check_costs(costs, range(max(len(costs), int(np.max(labels)) + 1)))
        self.observation, self.actions = (self.tokens.shape[1],), len(self.costs)
        self.vocabulary_size = int(np.max(tokens)) + 1

    def reset(self, batch, seed):
        """See `Environment.reset`. Texts are drawn with replacement; the state is the row."""
        count = self.tokens.shape[0]
        rows = tf.minimum(tf.cast(randomness.uniform([batch], seed) * float(count), tf.int32), count - 1)
        return rows, tf.gather(self.tokens, rows)

    def step(self, state, actions, seed):
        """See `Environment.step`."""
        right = tf.gather(self.labels, state)
        reward = -tf.gather_nd(tf.constant(self.costs), tf.stack([right, actions], axis=1))
        over = tf.ones_like(state, tf.bool)
        return Step(state, tf.gather(self.tokens, state), reward, over, ~over)


def check_costs(costs, names):
    """The table as float32 `(K, K)`; raises `InputError` unless it is square, finite and has a row for each of `names`."""
    rows = [list(row) for row in costs]
    if len(rows) != len(names) or any(len(row) != len(rows) for row in rows):
        shape = f"{len(rows)} x {' or '.join(str(n) for n in sorted({len(row) for row in rows}))}"
        raise InputError(
            f"the table of costs is {shape}, but there are {len(names)} labels ({', '.join(map(str, names))}). "
            f"Give {len(names)} rows of {len(names)} numbers: a row a true label, a column a chosen one."
        )
    table = np.asarray(rows, np.float32)
    if not np.isfinite(table).all():
        raise InputError(f"the table of costs holds {table[~np.isfinite(table)][0]}. Every cost must be a finite number.")
    return table
