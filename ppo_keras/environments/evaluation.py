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
    batch, limit = min(episodes, at_once), environment.time_limit or 10_000
    distribution = policy.distribution

    def choose(observation, memory, starts, action_masks, seed):
        logits, _, memory = policy.step(observation, memory, starts)
        logits = acting(distribution, logits, temperature, action_masks)
        actions = distribution.mode(logits) if greedy else distribution.sample(logits, distribution.noise([batch], seed))
        return actions, memory

    if environment.compiles:
        one_round = tf.function(
            lambda seed: _play_compiled(policy, environment, choose, batch, limit, seed), jit_compile=jit_compile
        )
    else:
        choose = tf.function(choose, jit_compile=jit_compile)
        environment = environment.copy()  # the episodes under way in a learner's own copies go on undisturbed
        one_round = lambda seed: _play_in_python(policy, environment, choose, batch, limit, seed)
    seeds = [tf.constant([seed, EVALUATION + i], tf.int32) for i in range(-(-episodes // batch))]
    rounds = [one_round(seed) for seed in seeds]
    if not environment.compiles:
        environment.close()
    return Episodes(*[np.concatenate([np.asarray(x) for x in part])[:episodes] for part in zip(*rounds)])


def _play_compiled(policy, environment, choose, batch, limit, seed):
    """One episode in each of `batch` copies: returns and lengths `(B,)`."""
    state, observation = environment.reset(batch, randomness.fold_in(seed, 0))
    zeros = tf.zeros([batch])

    def act(t, state, observation, memory, done, returns, lengths):
        starts = tf.cast(tf.fill([batch], tf.equal(t, 0)), tf.float32)
        draws = randomness.fold_in(seed, 2 * t + 1), randomness.fold_in(seed, 2 * t + 2)
        actions, memory = choose(observation, memory, starts, environment.action_masks(state), draws[0])
        step = environment.step(state, actions, draws[1])
        counts = tf.cast(~done, tf.float32)
        done_now = done | step.terminated | step.truncated
        # an episode that is over stands still, so that no number of it can run away
        state, observation = where_each(done_now, (state, observation), (step.state, step.observation))
        return t + 1, state, observation, memory, done_now, returns + counts * step.reward, lengths + counts

    first = (tf.constant(0), state, observation, policy.initial_state(batch), tf.zeros([batch], tf.bool), zeros, zeros)
    *_, returns, lengths = tf.while_loop(lambda t, s, o, m, done, *_: (t < limit) & ~tf.reduce_all(done), act, first)
    return returns, lengths


def _play_in_python(policy, environment, choose, batch, limit, seed):
    """The same around an environment in Python."""
    state, observation = environment.reset(batch, seed)
    memory, starts = policy.initial_state(batch), np.ones([batch], np.float32)
    done, returns, lengths, t = np.zeros([batch], bool), np.zeros([batch], np.float32), np.zeros([batch], np.float32), 0
    while not done.all() and t < limit:
        actions, memory = choose(observation, memory, starts, environment.action_masks(state), randomness.fold_in(seed, t))
        step, observation = environment.step(actions.numpy())
        returns += np.where(done, 0.0, step.reward)
        lengths += ~done
        starts = (step.terminated | step.truncated).astype(np.float32)
        done, t = done | (starts > 0), t + 1
    return returns, lengths
