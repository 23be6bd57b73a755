"""Two tasks that cannot be solved by looking at the present alone: the policy must remember what it saw first."""

import tensorflow as tf

from ppo_keras import randomness
from ppo_keras.environments.environment import Environment, Step
from ppo_keras.errors import require

CUE_LEFT, CUE_RIGHT, CORRIDOR, JUNCTION = range(4)  # what is seen in the T-maze
FORWARD, TURN_LEFT, TURN_RIGHT = range(3)  # what is done there


class RepeatFirst(Environment):
    """Name the symbol that was shown first, again and again, while others are shown (after POPGym, Morad et al. 2023).

    The observation is a random symbol, plus `symbols` at the first step of an episode: int32 below `2 * symbols`. Each step
    after the first pays 1 / (length - 1) if the action is the first symbol. A policy that remembers it earns 1, one
    without memory 1 / symbols on average.

    Args:
        length: steps of an episode, at least 2.
        symbols: how many there are, at least 2.
    """

    name = "repeat-first"

    def __init__(self, length=10, symbols=4):
        require(length >= 2, f"length={length} is less than 2, so nothing needs to be remembered. Use a number of steps such as 10.")
        require(symbols >= 2, f"symbols={symbols} is less than 2, so there is nothing to tell apart. Use a number such as 4.")
        self.time_limit, self.actions, self.observation = length, symbols, 2 * symbols

    def draw(self, batch, seed):
        """A random symbol for each copy, int32 `(B,)`."""
        return tf.cast(randomness.uniform([batch], seed) * float(self.actions), tf.int32)

    def reset(self, batch, seed):
        """See `Environment.reset`. The state is the first symbol and the number of steps taken."""
        first = self.draw(batch, seed)
        return (first, tf.zeros([batch], tf.int32)), first + self.actions

    def step(self, state, actions, seed):
        """See `Environment.step`. An episode ends by its own rules, never by the time limit."""
        first, elapsed = state
        earned = (actions == first) & (elapsed > 0)
        reward = tf.cast(earned, tf.float32) / (self.time_limit - 1)
        elapsed += 1
        terminated = elapsed >= self.time_limit
        observation = self.draw(tf.shape(first)[0], seed)
        return Step((first, elapsed), observation, reward, terminated, tf.zeros_like(terminated))


class TMaze(Environment):
    """Walk down a corridor and turn to the side that was shown at its beginning (after Bakker 2001).

    The observation is 0 or 1 in the first cell (the cue: left or right), 2 in the rest of the corridor and 3 at the junction
    behind it. The actions are forward (0), turn left (1) and turn right (2). Turning does nothing in the corridor; at the
    junction it ends the episode and pays 1 on the side of the cue, else 0. Forward does nothing there.

    Args:
        length: cells of the corridor, at least 2. An episode is cut off after five times as many steps.
    """

    name, observation, actions = "t-maze", 4, 3

    def __init__(self, length=10):
        require(length >= 2, f"length={length} is less than 2, so nothing needs to be remembered. Use a number of cells such as 10.")
        self.length, self.time_limit = length, 5 * length

    def reset(self, batch, seed):
        """See `Environment.reset`. The state is the cue, the cell, and the number of steps taken."""
        cue = tf.cast(randomness.uniform([batch], seed) * 2.0, tf.int32)  # CUE_LEFT or CUE_RIGHT
        zeros = tf.zeros([batch], tf.int32)
        return (cue, zeros, zeros), cue

    def step(self, state, actions, seed):
        """See `Environment.step`. The seed is not used."""
        cue, cell, elapsed = state
        terminated = (cell == self.length) & (actions != FORWARD)
        reward = tf.cast(terminated & (actions == cue + TURN_LEFT), tf.float32)  # TURN_LEFT answers CUE_LEFT
        cell, elapsed = tf.minimum(cell + tf.cast(actions == FORWARD, tf.int32), self.length), elapsed + 1
        observation = tf.where(cell == 0, cue, tf.where(cell == self.length, JUNCTION, CORRIDOR))
        return Step((cue, cell, elapsed), observation, reward, terminated, elapsed >= self.time_limit)
