"""Acting for `T` steps in `B` copies of an environment: compiled with the environment, or around one written in Python."""

from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from ppo_keras import randomness
from ppo_keras.devices import WHOLE
from ppo_keras.environments import border
from ppo_keras.environments.environment import where_each


class Carry(NamedTuple):
    """Where a rollout stopped: the next one goes on from here.

    | field | shape | meaning |
    |---|---|---|
    | `state`, `observation` | `(B, ...)` | of the environment, after a reset where the episode ended |
    | `memory` | nest | of the policy, before that reset |
    | `starts` | float32 `(B,)` | 1 where the observation begins an episode |
    | `episode_return`, `episode_length` | float32 `(B,)` | of the episode under way |
    | `discounted_return` | float32 `(B,)` | of the episode under way, R = gamma R + r, to normalise rewards |
    """

    state: Any
    observation: tf.Tensor
    memory: Any
    starts: tf.Tensor
    episode_return: tf.Tensor
    episode_length: tf.Tensor
    discounted_return: tf.Tensor


class Record(NamedTuple):
    """What a rollout writes down at every step, `(T, B, ...)`; see `Trajectory` for what becomes of it."""

    observation: tf.Tensor
    starts: tf.Tensor
    action: tf.Tensor
    logits: tf.Tensor
    value: tf.Tensor
    action_masks: Any
    reward: tf.Tensor
    terminated: tf.Tensor
    truncated: tf.Tensor
    final_value: tf.Tensor
    episode_return: tf.Tensor
    episode_length: tf.Tensor
    discounted_return: tf.Tensor


def begin(environment, policy, batch, seed):
    """The `Carry` at the very start: new episodes, empty memory."""
    state, observation = border.reset(environment, batch, seed)
    zeros = tf.zeros([batch])
    return Carry(state, observation, policy.initial_state(batch), zeros + 1.0, zeros, zeros, zeros)


def rollout(environment, policy, behaviour, discount, carry, steps, seed, share=WHOLE):
    """`steps` steps in an environment in TensorFlow.

    Args:
        environment: an `Environment`.
        policy: an actor-critic.
        behaviour: a function of (logits, action masks): the parameters of the distribution that acts.
        discount: gamma, for the discounted return.
        carry: a `Carry`.
        steps: `T`.
        seed: int32 `(2,)`.
        share: a `devices.Share`: the carry is of these copies of more, which all draw as if they were together. Only what an environment
            itself draws in a step is another draw for each share.

    Returns:
        The `Carry` after the last step and a `Record`.
    """
    batch = carry.starts.shape[0]
    every = batch * share.count
    noise = policy.distribution.noise([steps, every], randomness.fold_in(seed, 0))

    def act(t, carry):
        logits, values, memory = policy.step(carry.observation, carry.memory, carry.starts)
        action_masks = border.action_masks(environment, carry.state, batch)
        logits = behaviour(logits, action_masks)
        actions = policy.distribution.sample(logits, share.of(noise[t]))
        chance, resets = randomness.fold_in(seed, 2 * t + 1), randomness.fold_in(seed, 2 * t + 2)
        if share.count > 1:
            chance = randomness.fold_in(chance, share.index)
        step = border.step(environment, carry.state, actions, chance)
        ended, truncated = step.terminated | step.truncated, step.truncated & ~step.terminated
        final_values = tf.cond(  # V(final observation), read with the memory before the reset; few steps need it
            tf.reduce_any(truncated),
            lambda: policy.step(step.observation, memory, tf.zeros([batch]))[1],
            lambda: tf.zeros([batch]),
        )
        state, observation = tf.cond(  # most steps end nothing: they need no draw
            tf.reduce_any(ended),
            lambda: where_each(ended, share.of(border.reset(environment, every, resets)), (step.state, step.observation)),
            lambda: (step.state, step.observation),
        )
        totals = add_up(carry, step.reward, discount)
        acted = carry.observation, carry.starts, actions, logits, values, action_masks
        record = Record(*acted, step.reward, step.terminated, truncated, final_values, *totals)
        return Carry(state, observation, memory, tf.cast(ended, tf.float32), *totals), record

    return scan(act, carry, steps)


def python_rollout(environment, act, value, discount, carry, noise):
    """The same in an environment written in Python, around compiled parts.

    Args:
        environment: a `GymnasiumEnvironment`.
        act: a compiled function of (observation, memory, starts, noise, action masks): logits, values, memory, actions.
        value: a compiled function of (observation, memory): V of an observation that goes on with an episode.
        discount: gamma.
        carry: a `Carry`.
        noise: the random numbers of the actions, a tensor `(T, B, ...)`.

    Returns:
        The `Carry` after the last step and a `Record`.
    """
    # NumPy between the compiled calls: an eager TensorFlow operation costs as much as a step of most environments.
    # Tensors into them: a function that is given an array takes four times as long to convert it as `tf.constant`.
    carry = carry._replace(**{name: np.asarray(value) for name, value in zip(carry._fields[3:], carry[3:])})
    tensor = lambda x: x if isinstance(x, tuple) else tf.constant(x)  # () stands for no masks
    records, zeros, noise = [], np.zeros(carry.starts.shape, np.float32), tf.unstack(noise)
    no_starts, masks_of = tf.constant(zeros), lambda state: border.action_masks(environment, state, len(zeros))
    if hasattr(act, "get_concrete_function"):  # called a thousand times with the same shapes: look up its trace once
        act = act.get_concrete_function(tensor(carry.observation), carry.memory, no_starts, noise[0], tensor(masks_of(carry.state)))
    for t in range(len(noise)):
        action_masks = masks_of(carry.state)
        observation, masks = tensor(carry.observation), tensor(action_masks)
        starts = tensor(carry.starts) if carry.starts.any() else no_starts
        logits, values, memory, actions = act(observation, carry.memory, starts, noise[t], masks)
        step, observation = border.python_step(environment, actions.numpy())
        truncated = step.truncated & ~step.terminated
        final_values = value(step.observation, memory) if truncated.any() else zeros
        totals = add_up(carry, step.reward, discount)
        acted = carry.observation, carry.starts, actions, logits, values, action_masks
        records.append(Record(*acted, step.reward, step.terminated, truncated, final_values, *totals))
        carry = Carry(step.state, observation, memory, (step.terminated | step.truncated).astype(np.float32), *totals)
    stack = lambda *steps: tf.constant(np.concatenate([np.asarray(x) for x in steps]).reshape(len(steps), *steps[0].shape))  # cheaper than `np.stack`
    return carry, tf.nest.map_structure(stack, *records)


def batch_first(record):
    """A `Record` of `(T, B, ...)` as `(B, T, ...)`."""
    return tf.nest.map_structure(lambda x: tf.transpose(x, [1, 0, *range(2, x.shape.rank)]), record)


def add_up(carry, reward, discount):
    """Return, length and discounted return of the episodes under way, this step included."""
    goes_on = 1.0 - carry.starts
    return (
        carry.episode_return * goes_on + reward,
        carry.episode_length * goes_on + 1.0,
        carry.discounted_return * (goes_on * discount) + reward,
    )


def scan(step, carry, steps):
    """`carry, record = step(t, carry)` for every `t` in `range(steps)`. Returns the last carry and the records, stacked.

    `tf.scan` would keep every carry (a Transformer's memory once a step); this keeps only the records.
    """
    if tf.executing_eagerly():
        records = []
        for t in range(steps):
            carry, record = step(tf.constant(t), carry)
            records.append(record)
        return carry, tf.nest.map_structure(lambda *each: tf.stack(each), *records)
    step = tf.function(step, autograph=False).get_concrete_function(tf.TensorSpec([], tf.int32), carry)  # whose outputs say what to write down
    _, record = step.structured_outputs
    arrays = tf.nest.map_structure(lambda x: tf.TensorArray(x.dtype, steps, element_shape=x.shape), record)

    def body(t, carry, arrays):
        carry, record = step(t, carry)
        return t + 1, carry, tf.nest.map_structure(lambda array, x: array.write(t, x), arrays, record)

    _, carry, arrays = tf.while_loop(lambda t, *_: t < steps, body, (tf.constant(0), carry, arrays))
    return carry, tf.nest.map_structure(lambda array: array.stack(), arrays)
