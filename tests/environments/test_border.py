"""`ppo_keras.environments.border`: environments that hand over something else than they declare, or go on writing into it."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from test_environment_ppo import Scripted, collect, fit, learner

from helpers import assert_all_close, tiny_agent, weights_of
from ppo_keras import PPOConfig
from ppo_keras.distributions import DiagonalGaussian
from ppo_keras.environments import border
from ppo_keras.environments.environment import Environment, Step
from ppo_keras.environments.evaluation import play
from ppo_keras.errors import EnvironmentFault

SEED = tf.constant([3, 4])
ZEROS = tf.zeros([3], tf.int32)


class Declared(Environment):
    """Answers as it declares, but for the parts of a `Step` (and of a reset, and the masks) that it is told to exchange."""

    name, observation, actions = "declared", (2,), 4

    def __init__(self, begin=None, masks=(), **parts):
        self.begin, self.masks, self.parts = begin, masks, parts

    def reset(self, batch, seed):
        return ((tf.zeros([batch]), tf.zeros([batch, 2])), tf.zeros([batch, 2])) if self.begin is None else self.begin

    def step(self, state, actions, seed):
        no = tf.zeros(actions.shape, tf.bool)
        return Step(state, tf.zeros([*actions.shape, 2]), tf.zeros(actions.shape), no, no)._replace(**self.parts)

    def action_masks(self, state):
        return self.masks


STATE = tf.zeros([3]), tf.zeros([3, 2])
WRONG_STEPS = [
    (dict(reward=tf.zeros([3], tf.float64)), r"returned reward as float64 of shape \(3,\), expected float32 of shape \(3,\)"),
    (dict(reward=tf.zeros([3, 1])), r"returned reward as float32 of shape \(3, 1\), expected float32 of shape \(3,\)"),
    (dict(reward=1.0), r"reward as float32 of shape \(\)"),
    (dict(reward=None), "NoneType as reward"),
    (dict(terminated=ZEROS), "returned terminated as int32 .*expected bool"),
    (dict(truncated=tf.zeros([3])), "returned truncated as float32"),
    (dict(terminated=tf.zeros([2], tf.bool)), r"terminated as bool of shape \(2,\), expected bool of shape \(3,\)"),
    (dict(observation=tf.zeros([3, 2], tf.int32)), r"returned observation as int32 of shape \(3, 2\), expected float32"),
    (dict(observation=tf.zeros([3, 3])), r"observation as float32 of shape \(3, 3\), expected float32 of shape \(3, 2\)"),
    (dict(observation=tf.zeros([2])), r"observation as float32 of shape \(2,\)"),
    (dict(state=(tf.zeros([3]),)), "a state of another structure from step than from reset"),
    (dict(state=(tf.zeros([3]), tf.zeros([3, 2], tf.int32))), "a part of its state as int32"),
    (dict(state=(tf.zeros([3]), tf.zeros([3, 3]))), r"a part of its state as float32 of shape \(3, 3\), expected float32 of shape \(3, 2\)"),
]


@pytest.mark.parametrize("parts, message", WRONG_STEPS)
def test_a_step_of_another_kind_is_named(parts, message):
    """Catches: rewards that are broadcast to (B, B), flags that are added or inverted as numbers, or an error of TensorFlow's that
    names a loop variable in place of what the environment returned."""
    with pytest.raises(EnvironmentFault, match=f"^the environment declared .*{message}") as error:
        border.step(Declared(**parts), STATE, ZEROS, SEED)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "begin, message",
    [
        (((), tf.zeros([2, 2])), r"observation as float32 of shape \(2, 2\), expected float32 of shape \(3, 2\)"),
        (((), np.zeros([3, 2])), "observation as float64"),
        ((tf.constant(0), tf.zeros([3, 2])), r"a part of its state as int32 of shape \(\), expected int32 of shape \(3,\)"),
        (tf.zeros([3, 2]), "from reset. Return a pair: state, observation"),
    ],
)
def test_a_reset_of_another_kind_is_named(begin, message):
    """Catches: the same where episodes begin; a state without a place for each copy, which no reset of one copy can change."""
    with pytest.raises(EnvironmentFault, match=message):
        border.reset(Declared(begin=begin), 3, SEED)


@pytest.mark.parametrize(
    "masks, message",
    [
        (tf.ones([3, 3], tf.bool), r"action_masks as bool of shape \(3, 3\), expected bool of shape \(3, 4\)"),
        (tf.ones([4], tf.bool), r"action_masks as bool of shape \(4,\)"),
        (tf.ones([3, 4]), "action_masks as float32"),
        (tf.ones([3, 4], tf.int32), "action_masks as int32"),
    ],
)
def test_masks_of_another_kind_are_named(masks, message):
    """Catches: a mask that is broadcast over copies or actions."""
    with pytest.raises(EnvironmentFault, match=message):
        border.action_masks(Declared(masks=masks), (), 3)


def test_masks_of_real_numbers_are_refused():
    """Catches: an error of the distribution that does not name the environment."""
    environment = Declared(masks=tf.ones([3, 2], tf.bool))
    environment.actions = DiagonalGaussian(2)
    with pytest.raises(EnvironmentFault, match="the environment declared gives action masks, but its actions are real numbers"):
        border.action_masks(environment, (), 3)


def test_a_step_is_checked_where_it_is_traced():
    """Catches: a rollout, or a player, that does not look at what it gets."""
    environment = Declared(reward=tf.zeros([3, 1]))
    for use in (lambda: fit(learner("mlp", environment)), lambda: play(tiny_agent("mlp", (2,), 4), environment, 3, jit_compile=False)):
        with pytest.raises(EnvironmentFault, match=r"returned reward as float32 of shape \(3, 1\)"):
            use()


# A state that allows no action


class DeadEnd(Environment):
    """Copy 1 cannot go on after three steps; all others go on for ever, but for one action that is never allowed. Copy 0 ends where it is stuck."""

    name, observation, actions, time_limit = "dead-end", 9, [2, 3], 8

    def reset(self, batch, seed):
        return (tf.range(batch), tf.zeros([batch], tf.int32)), tf.zeros([batch], tf.int32)

    def step(self, state, actions, seed):
        copy, t = state[0], state[1] + 1
        return Step((copy, t), t % 9, tf.cast(t, tf.float32), (copy == 0) & (t == 3), t < 0)

    def action_masks(self, state):
        stuck = (state[0] < 2) & (state[1] == 3)
        return tf.where(stuck[:, tf.newaxis], [[True, True, False, False, False]], [[True, True, True, False, True]])


def test_a_dead_end_is_named():
    """Catches: a state without an action that trains to NaN, and blames the learning rate; one that is forgotten because a later
    iteration of the same call met none."""
    ppo = learner("mlp", DeadEnd(), "graph", steps=5, layers=1, iterations_per_call=2, config=PPOConfig(minibatches=1, epochs=1))
    for _ in range(2):  # it is asked anew each time
        with pytest.raises(EnvironmentFault, match="^the environment dead-end allows no action in copy 1, in step 4 of a rollout. A state that is not"):
            fit(ppo)
        assert all(np.isfinite(w).all() for w in weights_of(ppo.policy))
        ppo.restart(0)


def test_a_dead_end_is_named_in_a_game():
    """Catches: actions that are played though none is allowed; an error for the end of an episode (copy 0), where nothing needs to be."""
    policy = tiny_agent("mlp", 9, [2, 3])
    with pytest.raises(EnvironmentFault, match="allows no action in copy 1, in step 4 of an episode"):
        play(policy, DeadEnd(), 3, jit_compile=False)
    np.testing.assert_array_equal(play(policy, DeadEnd(), 1, jit_compile=False).lengths, [3])


# Environments in Python


class InPython:
    """`Scripted` in Python: every array that it hands over is written anew in the next step, and so are the actions that it is given."""

    compiles, name, observation, actions, time_limit = False, "in-python", (3,), 3, 5

    def __init__(self, change=lambda step, following: (step, following)):
        self.change = change
        self.inner = Scripted()
        self.last, self.now, self.reward = np.zeros([3, 3]), np.zeros([3, 3]), np.zeros([3])
        self.flags, self.masks = np.zeros([2, 3], bool), np.zeros([3, 3], bool)

    copy = lambda self: InPython(self.change)
    close = lambda self: None

    def reset(self, batch, seed):
        self.state, observation = self.inner.reset(batch, seed)
        self.now[:] = observation
        return (), self.now

    def action_masks(self, state):
        self.masks[:] = np.arange(3) != (np.asarray(self.state[1]) % 3)[:, np.newaxis]
        return self.masks

    def step(self, actions):
        step = self.inner.step(self.state, tf.constant(actions), None)
        actions[:] = 0
        ended = (step.terminated | step.truncated).numpy()
        self.last[:], self.reward[:], self.flags[:] = step.observation, step.reward, [step.terminated, step.truncated]
        begun = self.inner.reset(3, None)
        self.state = tuple(tf.where(ended, new, old) for new, old in zip(begun[0], step.state))
        self.now[:] = self.inner.observe(self.state)
        return self.change(Step((), self.last, self.reward, *self.flags), self.now)


class WithMasks(Scripted):
    """The same in TensorFlow."""

    def action_masks(self, state):
        return tf.range(3) != (state[1] % 3)[:, tf.newaxis]


def test_arrays_that_are_used_again_change_nothing():
    """Catches: observations, rewards, flags or masks of Python that are kept instead of copied: all steps then show the last one."""
    compiled = learner("lstm", WithMasks(), layers=1)
    python = learner("lstm", InPython(), policy=compiled.policy)
    fresh = InPython(lambda step, now: (Step(*map(np.array, step)), now.copy()))
    returns = [play(compiled.policy, environment, 6, at_once=3, jit_compile=False).returns for environment in (fresh, InPython())]
    np.testing.assert_array_equal(*returns)
    noise = compiled.policy.distribution.noise([6, 3], SEED)
    compiled.policy.distribution.noise, python._noise = (lambda shape, seed: noise), (lambda: noise)
    (expected, _), (found, _) = collect(compiled, 2), collect(python, 2)
    assert_all_close(found, expected, atol=1e-5)


@pytest.mark.parametrize(
    "change, message",
    [
        (
            lambda step, now: (step._replace(reward=step.reward[:, np.newaxis]), now),
            r"returned reward as float64 of shape \(3, 1\), expected float32 of shape \(3,\)",
        ),
        (lambda step, now: (step._replace(terminated=step.terminated.astype(int)), now), "returned terminated as int64 of shape"),
        (lambda step, now: (step._replace(truncated=step.truncated[:2]), now), r"truncated as bool of shape \(2,\)"),
        (lambda step, now: (step._replace(observation=step.observation[:, :2]), now), r"observation as float64 of shape \(3, 2\)"),
        (lambda step, now: (step, now.astype(complex)), "observation as complex128"),
        (lambda step, now: (step._replace(reward=step.reward + [0, np.nan, 0]), now), "returned nan as reward in copy 1"),
        (lambda step, now: (step, now + np.array([[0], [0], [np.inf]])), "returned inf as observation in copy 2"),
        (lambda step, now: step, "returned Step from step. Return a pair"),
        (lambda step, now: (tuple(step)[:4], now), "returned tuple from step. Return a Step"),
        (lambda step, now: (step._replace(reward=[[1], [1, 2], [3]]), now), "returned reward that is no array"),
    ],
)
def test_a_python_step_of_another_kind_is_named(change, message):
    """Catches: arrays that are broadcast, flags that `~` turns into -2, NaN that reaches the weights."""
    environment = InPython(change)
    border.reset(environment, 3, SEED)
    with pytest.raises(EnvironmentFault, match=f"^the environment in-python .*{message}"):
        border.python_step(environment, np.zeros([3], np.int32))


@pytest.mark.parametrize("masks, message", [(np.ones([3, 2], bool), r"action_masks as bool of shape \(3, 2\)"), (np.ones([3, 3]), "action_masks as float64")])
def test_python_masks_of_another_kind_are_named(masks, message):
    """Catches: the same for masks, and a copy that may do nothing."""
    environment = InPython()
    environment.action_masks = lambda state: masks
    with pytest.raises(EnvironmentFault, match=message):
        border.action_masks(environment, (), 3)
    environment.action_masks = lambda state: np.arange(3)[:, np.newaxis] != np.array([1, 1, 1])
    with pytest.raises(EnvironmentFault, match="allows no action in copy 1"):
        border.action_masks(environment, (), 3)


@pytest.mark.parametrize("state", [-1, 4])
def test_a_state_that_does_not_exist_is_named(state):
    """Catches: a state beyond those declared, whose one-hot code is nothing but zeros."""
    environment = InPython()
    environment.observation, environment.reset = 4, lambda batch, seed: ((), np.array([0, 3, state]))
    with pytest.raises(EnvironmentFault, match=f"shows state {state} in copy 2. It declares 4 states"):
        border.reset(environment, 3, SEED)


def test_the_policy_of_a_dead_end_stays_a_number():
    """Catches: -inf for every action, whose probabilities are NaN."""
    distribution = tiny_agent("mlp", (2,), [2, 3]).distribution
    allowed = tf.constant([[True, False, False, True, True], [True, True, False, False, False]])
    np.testing.assert_array_equal(distribution.leaves(allowed), [True, False])
    np.testing.assert_array_equal(border.leaves(allowed.numpy(), [2, 3]), [True, False])
    masked = distribution.mask(tf.zeros([2, 5]), allowed).numpy()
    np.testing.assert_array_equal(masked, [[0, -np.inf, -np.inf, 0, 0], [0, 0, 0, 0, 0]])
    assert keras.ops.all(keras.ops.isfinite(distribution.entropy(tf.constant(masked))))
