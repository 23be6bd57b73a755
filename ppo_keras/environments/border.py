"""What crosses the border between collector and environment: checked against what the environment declares, and nobody's but the receiver's.

Tensors of an environment in TensorFlow are checked where they are traced, which costs nothing later. Arrays of one in Python are
checked and copied at every step: it may write the next step into the array that it handed over for this one.
"""

from numbers import Integral

import numpy as np
import tensorflow as tf

from ppo_keras.distributions import DiagonalGaussian, distribution_of
from ppo_keras.environments.environment import Step
from ppo_keras.errors import EnvironmentFault

NUMBERS, WHOLE, FLAGS = "fiub", "iu", "b"  # kinds of NumPy's types


def reset(environment, batch, seed):
    """`environment.reset`: state and observations of `batch` new episodes."""
    found = environment.reset(batch, seed)
    if not isinstance(found, (tuple, list)) or len(found) != 2:
        raise fault(environment, f"returned {type(found).__name__} from reset", "Return a pair: state, observation.")
    state, observation = found
    if environment.compiles:
        _check_state(environment, state, state, batch)
    return state, _observation(environment, observation, batch)


def step(environment, state, actions, seed):
    """`environment.step` of one in TensorFlow: a `Step`."""
    batch = actions.shape[0]
    found = _step(environment, environment.step(state, actions, seed))
    _check_state(environment, state, found.state, batch)
    tensor = lambda what, dtype: _tensor(environment, what, getattr(found, what), (batch,), dtype)
    observation = _observation(environment, found.observation, batch)
    return Step(found.state, observation, tensor("reward", tf.float32), tensor("terminated", tf.bool), tensor("truncated", tf.bool))


def python_step(environment, actions):
    """`environment.step` of one in Python: a `Step` of arrays, and the observations with which to go on."""
    found = environment.step(np.array(actions))
    if not isinstance(found, (tuple, list)) or len(found) != 2:
        raise fault(environment, f"returned {type(found).__name__} from step", "Return a pair: a Step, and the observations after resets.")
    found, following = _step(environment, found[0]), found[1]
    array = lambda what, kinds, dtype: _array(environment, what, getattr(found, what), (len(actions),), kinds, dtype)
    reward, flags = array("reward", NUMBERS, np.float32), [array(what, FLAGS, bool) for what in ("terminated", "truncated")]
    observation = _observation(environment, found.observation, len(actions))
    following = observation if following is found.observation else _observation(environment, following, len(actions))
    return Step(found.state, observation, reward, *flags), following


def action_masks(environment, state, batch):
    """`environment.action_masks`: bool `(B, A)`, or ()."""
    masks = environment.action_masks(state)
    if isinstance(masks, tuple) and not masks:
        return ()
    distribution = distribution_of(environment.actions)
    if isinstance(distribution, DiagonalGaussian):
        raise fault(environment, "gives action masks, but its actions are real numbers", "Leave action_masks out: only choices can be masked.")
    if environment.compiles:
        return _tensor(environment, "action_masks", masks, (batch, distribution.size), tf.bool)
    masks = _array(environment, "action_masks", masks, (batch, distribution.size), FLAGS, bool)
    stuck = np.flatnonzero(~leaves(masks, getattr(distribution, "counts", [distribution.size])))
    if stuck.size:
        raise nothing_allowed(environment, f"copy {stuck[0]}")
    return masks


class Stuck:
    """Where a compiled rollout came to a state that allows no action: inside XLA nothing can be raised, so it is written down.

    The policy then acts as if all were allowed, so that no number becomes NaN before somebody asks.
    """

    def __init__(self):
        self.first = tf.Variable([-1, -1], trainable=False)  # copy and step; as an attribute of this object no part of a learner's state

    def note(self, distribution, masks):
        """Looks at the masks of a rollout, bool `(B, T, A)`."""
        self.first.assign(first_stuck(tf.convert_to_tensor(self.first), ~distribution.leaves(masks)))

    def check(self, environment):
        """Raises `EnvironmentFault` where there was such a state."""
        copy, t = self.first.numpy()
        if copy >= 0:
            self.first.assign([-1, -1])
            raise nothing_allowed(environment, f"copy {copy}, in step {t + 1} of a rollout")


def leaves(masks, counts):
    """bool `(...)`: whether masks `(..., A)` of choices out of `counts`, side by side, leave something of each; arrays, see `Categorical.leaves`."""
    begin = np.cumsum([0, *counts[:-1]])
    return np.logical_or.reduceat(masks, begin, axis=-1).all(axis=-1)


def first_stuck(known, stuck, t=0):
    """int32 `(2,)`, copy and step of the first True of `stuck` `(B, T)`, whose first step is `t`; what is `known` already stays, or [-1, -1]."""
    place = tf.argmax(tf.reshape(tf.cast(stuck, tf.int32), [-1]), output_type=tf.int32)
    here = tf.stack([place // stuck.shape[1], t + place % stuck.shape[1]])
    return tf.where((known[0] < 0) & tf.reduce_any(stuck), here, known)


def nothing_allowed(environment, where):
    """The error of a state without an action."""
    return fault(environment, f"allows no action in {where}", "A state that is not the end of an episode must allow at least one.")


def fault(environment, did, advice):
    """An `EnvironmentFault`: who did what, and what to do."""
    return EnvironmentFault(f"the environment {environment.name} {did}. {advice}")


def _step(environment, found):
    if not isinstance(found, (tuple, list)) or len(found) != len(Step._fields):
        raise fault(environment, f"returned {type(found).__name__} from step", f"Return a Step({', '.join(Step._fields)}).")
    return Step(*found)


def _observation(environment, observation, batch):
    """Checked: float32 `(B, ...)`; int32 `(B,)` for states, `(B, L)` for texts."""
    states = environment.observation if isinstance(environment.observation, Integral) else None
    shape = (batch,) if states is not None else (batch, *environment.observation)
    whole = states is not None or getattr(environment, "vocabulary_size", None) is not None
    if environment.compiles:
        return _tensor(environment, "observation", observation, shape, tf.int32 if whole else tf.float32)
    observation = _array(environment, "observation", observation, shape, WHOLE if whole else NUMBERS, np.int32 if whole else np.float32)
    if states is not None and not ((observation >= 0) & (observation < states)).all():
        copy = np.flatnonzero((observation < 0) | (observation >= states))[0]
        raise fault(environment, f"shows state {observation[copy]} in copy {copy}", f"It declares {states} states, counted from 0.")
    return observation


def _tensor(environment, what, x, shape, dtype):
    try:
        x = tf.convert_to_tensor(x)
    except (TypeError, ValueError) as error:
        raise fault(environment, f"returned {type(x).__name__} as {what}", f"Return a tensor, {dtype.name} of shape {shape}.") from error
    if x.dtype != dtype or not x.shape.is_compatible_with(shape):
        raise _other(environment, what, x.shape, x.dtype.name, shape, dtype.name)
    return x


def _array(environment, what, x, shape, kinds, dtype):
    try:
        x = np.array(x)  # a copy in any case
    except ValueError as error:
        raise fault(environment, f"returned {what} that is no array: {error}", f"Return an array of shape {shape}.") from error
    if x.shape != shape or x.dtype.kind not in kinds:
        raise _other(environment, what, x.shape, x.dtype.name, shape, np.dtype(dtype).name)
    x = x.astype(dtype, copy=False)
    if dtype is np.float32 and not np.isfinite(x).all():
        copy = np.argwhere(~np.isfinite(x))[0]
        raise fault(environment, f"returned {x[tuple(copy)]} as {what} in copy {copy[0]}", "Every number must be finite.")
    return x


def _other(environment, what, shape, dtype, expected_shape, expected_dtype):
    found, expected = (f"{name} of shape {tuple(size)}" for name, size in ((dtype, shape), (expected_dtype, expected_shape)))
    return fault(environment, f"returned {what} as {found}, expected {expected}", "The first size counts the copies.")


def _check_state(environment, before, after, batch):
    """A step must return the kind of state that it was given: each tensor with the copies first, of the same type and shape."""
    try:
        tf.nest.assert_same_structure(before, after)
    except (ValueError, TypeError) as error:
        raise fault(environment, "returned a state of another structure from step than from reset", "Return the same nest of tensors.") from error
    for old, new in zip(tf.nest.flatten(before), tf.nest.flatten(after)):
        old, new = tf.convert_to_tensor(old), tf.convert_to_tensor(new)
        _tensor(environment, "a part of its state", new, (batch, *old.shape[1:]), old.dtype)
