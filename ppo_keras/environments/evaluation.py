"""Playing whole episodes without learning: greedy or sampled, each from an empty memory."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from ppo_keras import randomness
from ppo_keras.distributions import acting
from ppo_keras.environments.environment import where_each

EVALUATION = 1000  # the first purpose of evaluation's draws; a learner of the same seed uses 0, 1 and 2


class Episodes(NamedTuple):
    """What was earned in each episode, float32 `(N,)`, and how many steps it took."""

    returns: np.ndarray
    lengths: np.ndarray


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
    """
    return Player(policy, environment, temperature, jit_compile, min(episodes, at_once))(episodes, greedy, seed)


class Player:
    """`play`, compiled once for many calls: for greedy and drawn actions, and for whatever the policy has become.

    Args:
        policy, environment, temperature, jit_compile: see `play`.
        batch: episodes side by side.
    """

    def __init__(self, policy, environment, temperature, jit_compile, batch):
        self.policy, self.environment, self.temperature, self.batch = policy, environment, temperature, batch
        self.limit = environment.time_limit or 10_000
        function = self._compiled_round if environment.compiles else self._choose
        self.function = tf.function(function, jit_compile=jit_compile, autograph=False)

    def __call__(self, episodes, greedy, seed):
        """Plays `episodes` episodes; see `play`."""
        seeds = [tf.constant([seed, EVALUATION + i], tf.int32) for i in range(-(-episodes // self.batch))]
        greedy = tf.constant(greedy)
        if self.environment.compiles:
            rounds = [self.function(seed, greedy) for seed in seeds]
        else:
            environment = self.environment.copy()  # the episodes under way in a learner's own go on undisturbed
            rounds = [self._python_round(environment, seed, greedy) for seed in seeds]
            environment.close()
        return Episodes(*[np.concatenate([np.asarray(x) for x in part])[:episodes] for part in zip(*rounds)])

    def _choose(self, observation, memory, starts, action_masks, seed, t, greedy):
        """One action in each copy, and the memory after it."""
        distribution = self.policy.distribution
        logits, _, memory = self.policy.step(observation, memory, starts)
        logits = acting(distribution, logits, self.temperature, action_masks)
        drawn = distribution.sample(logits, distribution.noise([self.batch], randomness.fold_in(seed, 2 * t + 1)))
        return tf.where(greedy, distribution.mode(logits), drawn), memory

    def _compiled_round(self, seed, greedy):
        """One episode in each copy: returns and lengths `(B,)`."""
        environment = self.environment
        state, observation = environment.reset(self.batch, randomness.fold_in(seed, 0))
        zeros = tf.zeros([self.batch])

        def act(t, state, observation, memory, done, returns, lengths):
            starts = tf.cast(tf.fill([self.batch], tf.equal(t, 0)), tf.float32)
            actions, memory = self._choose(observation, memory, starts, environment.action_masks(state), seed, t, greedy)
            step = environment.step(state, actions, randomness.fold_in(seed, 2 * t + 2))
            counts = tf.cast(~done, tf.float32)
            done_now = done | step.terminated | step.truncated
            # an episode that is over stands still, so that no number of it can run away
            state, observation = where_each(done_now, (state, observation), (step.state, step.observation))
            return t + 1, state, observation, memory, done_now, returns + counts * step.reward, lengths + counts

        memory, done = self.policy.initial_state(self.batch), tf.zeros([self.batch], tf.bool)
        *_, returns, lengths = tf.while_loop(
            lambda t, state, observation, memory, done, *_: (t < self.limit) & ~tf.reduce_all(done),
            act,
            (tf.constant(0), state, observation, memory, done, zeros, zeros),
        )
        return returns, lengths

    def _python_round(self, environment, seed, greedy):
        """The same around an environment in Python."""
        state, observation = environment.reset(self.batch, seed)
        memory, starts = self.policy.initial_state(self.batch), np.ones([self.batch], np.float32)
        done, t = np.zeros([self.batch], bool), 0
        returns, lengths = np.zeros([2, self.batch], np.float32)
        while not done.all() and t < self.limit:
            masks = environment.action_masks(state)
            actions, memory = self.function(observation, memory, starts, masks, seed, tf.constant(t), greedy)
            step, observation = environment.step(actions.numpy())
            returns += np.where(done, 0.0, step.reward)
            lengths += ~done
            starts = (step.terminated | step.truncated).astype(np.float32)
            done, t = done | (starts > 0), t + 1
        return returns, lengths
