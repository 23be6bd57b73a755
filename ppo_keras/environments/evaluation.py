"""Playing whole episodes without learning: greedy or sampled, each from an empty memory."""

from numbers import Real
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from ppo_keras import randomness
from ppo_keras.distributions import acting
from ppo_keras.environments import border
from ppo_keras.environments.environment import check_agent, where_each
from ppo_keras.environments.matching import check_match
from ppo_keras.errors import check_count, check_seed, require, shown

EVALUATION = 1000  # the first purpose of evaluation's draws; a learner of the same seed uses 0, 1 and 2


class Steps(NamedTuple):
    """Every step of `N` episodes, float32 `(N, T)`; 0 behind an episode's end. For `raw_advantages`, see `Trajectory`."""

    rewards: np.ndarray
    values: np.ndarray
    next_values: np.ndarray
    entropies: np.ndarray  # of the distribution that acted, nats
    ended: np.ndarray
    mask: np.ndarray


class Rows(NamedTuple):
    """One step of `B` episodes side by side as a `Player` writes it down, float32 `(B,)`; stacked `(T, B)`."""

    rewards: np.ndarray
    values: np.ndarray  # of the state before the step
    cut_values: np.ndarray  # V(final observation) where the time limit ends the episode at this step; else 0
    entropies: np.ndarray


class Episodes(NamedTuple):
    """What was earned in each episode, float32 `(N,)`, and how many steps it took; where they are recorded, its `Steps`."""

    returns: np.ndarray
    lengths: np.ndarray
    steps: Steps | None = None


def play(policy, environment, episodes, greedy=True, seed=0, temperature=1.0, jit_compile=True, at_once=128):
    """Plays `episodes` episodes, some side by side, each exactly once: short ones count no more often than long ones.

    Args:
        policy: an actor-critic.
        environment: an `Environment` or a `GymnasiumEnvironment`.
        episodes: how many.
        greedy: always the most probable action; else actions are drawn.
        seed: of the environment and of the draws.
        temperature: with which actions are drawn.
        jit_compile: compile with XLA.
        at_once: most episodes side by side. One that knows no time limit is cut off after 10,000 steps.

    Returns:
        `Episodes`.

    Raises:
        InputError: an argument is of another kind, or out of range.
    """
    check_agent(policy, environment)
    check_count("episodes", episodes)
    check_count("at_once", at_once, example=128)
    require(isinstance(temperature, Real) and temperature > 0, f"temperature={shown(temperature)} is not positive. Use greedy=True for no randomness.")
    check_seed(seed)
    return Player(policy, environment, temperature, jit_compile, min(episodes, at_once))(episodes, greedy, seed)


class Player:
    """`play`, compiled once for many calls: for greedy and drawn actions, and for whatever the policy has become.

    Args:
        policy, environment, temperature, jit_compile: see `play`.
        batch: episodes side by side.
        record: keep every step.

    Raises:
        InputError: policy and environment do not fit; on a call, an `EnvironmentFault`.
    """

    def __init__(self, policy, environment, temperature, jit_compile, batch, record=False):
        check_match(policy, environment)
        self.policy, self.environment, self.temperature, self.batch = policy, environment, temperature, batch
        self.limit, self.record = environment.time_limit or 10_000, record
        function = self._compiled_round if environment.compiles else self._choose
        self.function, self.value = (tf.function(f, jit_compile=jit_compile, autograph=False) for f in (function, self._value))

    def __call__(self, episodes, greedy, seed):
        """Plays `episodes` episodes; see `play`."""
        seeds = [tf.constant([seed, EVALUATION + i], tf.int32) for i in range(-(-episodes // self.batch))]
        greedy = tf.constant(greedy)
        if self.environment.compiles:
            rounds = [self._checked_round(seed, greedy) for seed in seeds]
        else:
            environment = self.environment.copy()  # the episodes under way in a learner's own go on undisturbed
            try:
                rounds = [self._python_round(environment, seed, greedy) for seed in seeds]
            finally:
                environment.close()
        returns, lengths = (np.concatenate([np.asarray(one[i]) for one in rounds])[:episodes] for i in range(2))
        return Episodes(returns, lengths, together([one[2] for one in rounds], lengths) if self.record else None)

    def _choose(self, observation, memory, starts, action_masks, seed, t, greedy):
        """One action in each copy, the memory after it, and value and entropy before it."""
        distribution = self.policy.distribution
        logits, values, memory = self.policy.step(observation, memory, starts)
        logits = acting(distribution, logits, self.temperature, action_masks)
        drawn = distribution.sample(logits, distribution.noise([self.batch], randomness.fold_in(seed, 2 * t + 1)))
        return tf.where(greedy, distribution.mode(logits), drawn), memory, values, distribution.entropy(logits)

    def _value(self, observation, memory):
        """V of an observation at which an episode was cut off, float32 `(B,)`."""
        return self.policy.step(observation, memory, tf.zeros([self.batch]))[1]

    def _checked_round(self, seed, greedy):
        """One episode in each copy of an environment in TensorFlow: returns and lengths `(B,)`, and its `Rows`, or None."""
        *found, (copy, t) = self.function(seed, greedy)
        if copy >= 0:
            raise border.nothing_allowed(self.environment, f"copy {copy}, in step {t + 1} of an episode")
        return found

    def _compiled_round(self, seed, greedy):
        """The same; and copy and step in which no action was allowed, or [-1, -1]."""
        environment = self.environment
        state, observation = border.reset(environment, self.batch, randomness.fold_in(seed, 0))
        zeros = tf.zeros([self.batch])

        def act(t, state, observation, memory, done, returns, lengths, written, stuck):
            starts = tf.cast(tf.fill([self.batch], tf.equal(t, 0)), tf.float32)
            masks = border.action_masks(environment, state, self.batch)
            if not isinstance(masks, tuple):
                stuck = border.first_stuck(stuck, (~done & ~self.policy.distribution.leaves(masks))[:, tf.newaxis], t)
            actions, memory, values, entropies = self._choose(observation, memory, starts, masks, seed, t, greedy)
            step = border.step(environment, state, actions, randomness.fold_in(seed, 2 * t + 2))
            if self.record:
                cut = ~step.terminated & (step.truncated | tf.equal(t + 1, self.limit))
                beyond = lambda: tf.where(cut, self._value(step.observation, memory), 0.0)
                row = Rows(step.reward, values, tf.cond(tf.reduce_any(cut & ~done), beyond, lambda: zeros), entropies)
                written = Rows(*[array.write(t, x) for array, x in zip(written, row)])
            counts = tf.cast(~done, tf.float32)
            done_now = done | step.terminated | step.truncated
            # an episode that is over stands still, so that no number of it can run away
            state, observation = where_each(done_now, (state, observation), (step.state, step.observation))
            returns, lengths = returns + counts * step.reward, lengths + counts
            return t + 1, state, observation, memory, done_now, returns, lengths, written, stuck

        memory, done = self.policy.initial_state(self.batch), tf.zeros([self.batch], tf.bool)
        empty = lambda: tf.TensorArray(tf.float32, self.limit, element_shape=[self.batch])
        written = Rows(*[empty() for _ in Rows._fields]) if self.record else ()
        *_, returns, lengths, written, stuck = tf.while_loop(
            lambda t, state, observation, memory, done, *_: (t < self.limit) & ~tf.reduce_all(done),
            act,
            (tf.constant(0), state, observation, memory, done, zeros, zeros, written, tf.constant([-1, -1])),
        )
        return returns, lengths, Rows(*[array.stack() for array in written]) if self.record else None, stuck

    def _python_round(self, environment, seed, greedy):
        """The same around an environment in Python."""
        state, observation = border.reset(environment, self.batch, seed)
        memory, starts = self.policy.initial_state(self.batch), np.ones([self.batch], np.float32)
        done, t, nothing, written = np.zeros([self.batch], bool), 0, np.zeros([self.batch], np.float32), []
        returns, lengths = np.zeros([2, self.batch], np.float32)
        while not done.all() and t < self.limit:
            masks = border.action_masks(environment, state, self.batch)
            actions, memory, values, entropies = self.function(observation, memory, starts, masks, seed, tf.constant(t), greedy)
            step, observation = border.python_step(environment, actions.numpy())
            if self.record:
                cut = ~step.terminated & (step.truncated | (t + 1 == self.limit))
                beyond = np.where(cut, self.value(step.observation, memory), 0.0) if (cut & ~done).any() else nothing
                written.append(Rows(step.reward, values, beyond, entropies))
            returns += np.where(done, 0.0, step.reward)
            lengths += ~done
            starts = (step.terminated | step.truncated).astype(np.float32)
            done, t = done | (starts > 0), t + 1
        return returns, lengths, Rows(*map(np.stack, zip(*written))) if self.record else None


def together(rounds, lengths):
    """`Steps` from the `Rows` `(T, B)` of several rounds, which may differ in `T`, and the lengths `(N,)` of the episodes that count."""
    longest = int(lengths.max())
    of_episodes = lambda array: np.pad(np.asarray(array)[:longest], [(0, max(0, longest - len(array))), (0, 0)]).T  # (B, longest)
    columns = [np.concatenate(list(map(of_episodes, part)))[: len(lengths)] for part in zip(*rounds)]
    steps = np.arange(longest)
    mask, ended = (holds.astype(np.float32) for holds in (steps < lengths[:, np.newaxis], steps == lengths[:, np.newaxis] - 1))
    rewards, values, cut_values, entropies = (np.where(mask > 0, column, 0.0).astype(np.float32) for column in columns)
    later = np.pad(values[:, 1:], [(0, 0), (0, 1)])
    return Steps(rewards, values, np.where(ended > 0, cut_values, later), entropies, ended, mask)
