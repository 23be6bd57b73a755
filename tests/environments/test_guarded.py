"""`ppo_keras.environments.guarded`: environments of Gymnasium that write into memory of others, mask actions, or answer otherwise than agreed."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

gymnasium = pytest.importorskip("gymnasium")

from test_bridge import SEED, Masked, ScriptedGym, Told, collect, learner, scripted
from test_environment_ppo import fit, replay

from helpers import assert_all_close, assert_close, weights_of
from ppo_keras.environments.bridge import GymnasiumEnvironment
from ppo_keras.environments.evaluation import play
from ppo_keras.environments.guarded import choices
from ppo_keras.errors import EnvironmentFault, InputError

spaces = gymnasium.spaces


# Memory


class Reusing(ScriptedGym):
    """Writes every observation of every copy into the same array."""

    shown = np.zeros([3], np.float32)

    def observe(self):
        self.shown[:] = super().observe()
        return self.shown


def test_an_array_that_is_used_again_changes_nothing():
    """Catches: an observation that is kept instead of copied: V(final observation) at a time limit reads the first one of the next
    episode, or a copy shows what another one saw."""
    plain = learner(scripted(), "lstm", "eager", layers=1)
    reusing = learner(scripted(Reusing), "lstm", "eager", policy=plain.policy)
    (expected, _), (found, _) = collect(plain, 2), collect(reusing, 2)
    assert_all_close(found, expected, rtol=0, atol=0)


class Spoiling(Told):
    """Shows the action that it was given, and then changes it in place."""

    def __init__(self):
        super().__init__(spaces.Box(-1, 1, (2,)))
        self.now = np.zeros(2, np.float32)

    def step(self, action):
        self.now = action.copy()
        action *= 0
        return self.now, 1.0, False, False, {}


def test_an_action_that_is_changed_in_place_spoils_no_replay():
    """Catches: actions that are remembered as the environment left them (zeros): played again, the episode is another one."""
    environment = GymnasiumEnvironment(Spoiling)
    environment.reset(2, SEED)
    actions = np.array([[0.5, -0.25], [0.75, 1.0]], np.float32)
    environment.step(actions)
    state = environment.state()
    assert_close([one["actions"][0] for one in state], actions)
    np.testing.assert_array_equal(environment.copy().replay(state), actions)


class Telling(Told):
    """Gives a mask that it changes later, and other things in `info` that no vector of environments could hold together."""

    mask, counter = np.ones(2, np.int8), itertools.count()

    def step(self, action):
        *result, _ = super().step(action)
        self.mask[:] = len(self.given) % 2, 1
        return *result, {"action_mask": self.mask, "path": np.zeros(next(self.counter)), "other": object()}

    def reset(self, seed=None, options=None):
        self.mask[:] = 1
        return super().reset(seed)[0], {"action_mask": self.mask}


def test_masks_are_copied_and_nothing_else_of_info_is_kept():
    """Catches: the mask of a later step in the record of an earlier one; an array in `info` whose length changes, which Gymnasium's
    vector cannot stack, and which nobody reads."""
    environment = GymnasiumEnvironment(Telling)
    environment.reset(2, SEED)
    masks = [environment.action_masks(())] + [environment.step(np.array([1, 1])) and environment.action_masks(()) for _ in range(2)]
    np.testing.assert_array_equal(masks, [[[1, 1], [1, 1]], [[1, 1], [1, 1]], [[0, 1], [0, 1]]])


# Masks


class SeveralMasked(gymnasium.Env):
    """Two choices of eight, of each of which every other one is forbidden, even or odd ones in turn; says so in a tuple, or side by side."""

    observation_space, action_space = spaces.Box(0, 1, (1,)), spaces.MultiDiscrete([8, 4], start=[1, 0])

    def __init__(self, flat):
        self.flat = flat

    def info(self):
        masks = tuple((np.arange(count) % 2 == (self.steps + k) % 2).astype(np.int8) for k, count in enumerate((8, 4)))
        return {"action_mask": np.concatenate(masks) if self.flat else masks}

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return np.zeros(1, np.float32), self.info()

    def step(self, action):
        assert (action[0] - 1) % 2 == self.steps % 2 and action[1] % 2 == (self.steps + 1) % 2, "a forbidden action"
        self.steps += 1
        return np.zeros(1, np.float32), 1.0, False, self.steps == 5, self.info()


@pytest.mark.parametrize("flat", [False, True])
def test_several_choices_are_masked(flat):
    """Catches: forbidden actions of a MultiDiscrete that are drawn (three in four), in acting, in play or in the update (a ratio that is not 1)."""
    environment = GymnasiumEnvironment(lambda: SeveralMasked(flat))
    ppo = learner(environment, "mlp", "eager", steps=8, layers=1)
    history = fit(ppo, 2)
    assert_close([history["policy/ratio"], history["policy/approx_kl"]], [[1, 1], [0, 0]])
    trajectories, _ = collect(ppo)
    assert trajectories[0].action_masks.shape == (3, 8, 12)
    np.testing.assert_array_equal(trajectories[0].action_masks.numpy().sum(axis=-1), 6)
    np.testing.assert_array_equal(play(ppo.policy, environment, 3, greedy=False, jit_compile=False).returns, [5, 5, 5])


MULTI = spaces.MultiDiscrete([3, 2])


@pytest.mark.parametrize(
    "mask, counts, expected",
    [
        (np.array([1, 0, 1], np.int8), [3], [[1, 0, 1]]),
        ([True, False, True], [3], [[1, 0, 1]]),
        ((np.array([1, 0, 1], np.int8), np.array([0, 1], np.int8)), [3, 2], [[1, 0, 1], [0, 1]]),
        (np.array([1, 0, 1, 0, 1], np.int8), [3, 2], [[1, 0, 1], [0, 1]]),
        (np.array([[1, 0], [0, 1]], bool), [2, 2], [[1, 0], [0, 1]]),
        (np.array([1, 0], np.int8), [3], None),
        (np.array([[1, 0, 1]], np.int8), [3], None),
        (np.array([1.0, 0.0, 1.0]), [3], None),
        (np.array([0, -9, 0]), [3], None),
        ((np.ones(2, np.int8), np.ones(3, np.int8)), [3, 2], None),
        ((np.ones(3, np.int8),), [3, 2], None),
        (np.ones(6, np.int8), [3, 2], None),
        (None, [3], None),
        ("110", [3], None),
    ],
)
def test_what_is_a_mask(mask, counts, expected):
    """Catches: a mask of another length that is cut, broadcast or shifted to the next choice; log-probabilities taken for a mask."""
    parts = choices(mask, counts)
    assert (parts is None) == (expected is None)
    for part, wanted in zip(parts or [], expected or []):
        assert part.dtype == bool
        np.testing.assert_array_equal(part, wanted)


class Wrong(Told):
    """Gives this `info` after every reset and after every step, in the third of which it may end."""

    def __init__(self, action_space, infos, ends=False):
        super().__init__(action_space)
        self.infos, self.ends = infos, ends

    def reset(self, seed=None, options=None):
        self.given.clear()
        return super().reset(seed)[0], self.infos[0]

    def step(self, action):
        observation, reward, *_ = super().step(action)
        return observation, reward, self.ends and len(self.given) == 3, False, self.infos[min(len(self.given), len(self.infos) - 1)]


ALLOWED, NOTHING = {"action_mask": np.ones(2, np.int8)}, {"action_mask": np.zeros(2, np.int8)}


@pytest.mark.parametrize(
    "space, infos, message",
    [
        (spaces.Discrete(2), [{"action_mask": np.ones(3, np.int8)}], "returned action_mask=.* in copy 0, after 0 steps of its episode. Give 2 numbers"),
        (spaces.Discrete(2), [ALLOWED, ALLOWED, {"action_mask": np.ones(2)}], "returned action_mask=.*after 2 steps.*int8 or bool"),
        (MULTI, [ALLOWED], "Give a tuple of arrays of 3, 2 numbers"),
        (spaces.Box(-1, 1, (2,)), [ALLOWED], "gives action_mask, but its actions are real numbers"),
        (spaces.Discrete(2), [ALLOWED, ALLOWED, ALLOWED, NOTHING], "allows no action in copy 0, after 3 steps of its episode"),
        (MULTI, [{"action_mask": (np.ones(3, np.int8), np.zeros(2, np.int8))}], "allows no action in copy 0, after 0 steps"),
        (spaces.Discrete(2), [{}, ALLOWED], r"gave action_mask, which was left out before \(copy 0\)"),
        (spaces.Discrete(2), [ALLOWED, {}], r"left out action_mask, which was given before \(copy 0\)"),
    ],
)
def test_masks_that_cannot_be_kept_to_are_named(space, infos, message):
    """Catches: a mask of another length, shape or type; of real numbers; a state without an action, which trains to NaN and blames the
    learning rate; masks that begin or end in mid-run and are not looked at."""
    with pytest.raises(InputError, match=message):
        environment = GymnasiumEnvironment(lambda: Wrong(space, infos))
        ppo = learner(environment, "mlp", "eager", steps=6, layers=1)
        weights = weights_of(ppo.policy)
        try:
            fit(ppo)
        finally:
            assert_all_close(weights_of(ppo.policy), weights, rtol=0, atol=0)


def test_the_copy_that_is_stuck_is_named():
    """Catches: an error that does not say where: here the second copy, and the masks of one copy that the other lacks."""
    for last, said in ((NOTHING, "allows no action in copy 1, after 2 steps"), ({}, r"left out action_mask, which was given before \(copy 1\)")):
        makers = itertools.chain([[ALLOWED]], [[ALLOWED]], [[ALLOWED, ALLOWED, last]])
        environment = GymnasiumEnvironment(lambda makers=makers: Wrong(spaces.Discrete(2), next(makers)))
        with pytest.raises(EnvironmentFault, match=said):
            fit(learner(environment, "mlp", "eager", environments=2, steps=6))


def test_the_end_of_an_episode_may_allow_nothing():
    """Catches: an episode refused because nothing can be done when it is over."""
    environment = GymnasiumEnvironment(lambda: Wrong(spaces.Discrete(2), [ALLOWED, ALLOWED, ALLOWED, NOTHING], ends=True))
    history = fit(learner(environment, "mlp", "eager", steps=6, layers=1))
    assert history["episode/count"] == [6]


# Answers


class Answering(Told):
    """Answers a step with these values in place of the right ones."""

    def __init__(self, **answer):
        super().__init__()
        self.answer = answer

    def step(self, action):
        right = dict(zip(("observation", "reward", "terminated", "truncated", "info"), super().step(action)))
        return tuple((right | self.answer).values())


@pytest.mark.parametrize(
    "answer, message",
    [
        (
            dict(observation=np.zeros(3, np.float32)),
            r"an observation of shape \(3,\) and type float32 in copy 0, after 1 steps of its episode. Its space says shape \(2,\)",
        ),
        (dict(observation=np.zeros(2, complex)), "type complex128"),
        (dict(observation=None), r"shape \(\) and type object"),
        (dict(reward=np.ones(2)), r"returned array\(\[1., 1.\]\) as reward in copy 0, after 1 steps of its episode. Return one number"),
        (dict(reward=None), "returned None as reward"),
        (dict(terminated=2), "returned 2 as terminated.*True or False"),
        (dict(truncated=None), "returned None as truncated"),
        (dict(more=1), "returned 6 values from step"),
    ],
)
def test_an_answer_of_another_kind_is_named(answer, message):
    """Catches: an answer that is broadcast, cut off or counted as false, or an error of NumPy that does not say whose fault it is."""
    environment = GymnasiumEnvironment(lambda: Answering(**answer))
    environment.reset(1, SEED)
    with pytest.raises(EnvironmentFault, match=f"^the environment gym .*{message}"):
        environment.step(np.array([0]))


def test_what_means_the_same_is_taken():
    """Catches: an environment refused for a reward in an array of one, or flags 0 and 1, which mean one thing only."""
    environment = GymnasiumEnvironment(lambda: Answering(reward=np.array([2.5]), terminated=np.int64(0), truncated=np.array(True)))
    environment.reset(2, SEED)
    step, _ = environment.step(np.array([0, 1]))
    assert [list(part) for part in step[2:]] == [[2.5, 2.5], [False, False], [True, True]]


# One environment, two players


def test_two_learners_play_episodes_of_their_own():
    """Catches: one environment behind two agents, each of which then sees every other step of both, and learns from what it did not do."""
    environment = scripted()
    learners = [learner(environment, "mlp", "eager", steps=4, seed=seed) for seed in (0, 1)]
    halves = [[trajectory for ppo in learners for trajectory in next(collect(ppo))] for _ in range(2)]  # in turn
    for one, other in zip(*halves):
        happened = replay(np.concatenate([one.actions, other.actions], axis=1))
        np.testing.assert_array_equal(np.concatenate([one.inputs, other.inputs], axis=1), happened.observations)


def in_turn(*environments):
    """A function that hands out the same environments again and again."""
    turns = itertools.cycle(environments)
    return GymnasiumEnvironment(lambda: next(turns))  # the first one is looked at


def test_an_environment_in_which_somebody_plays_is_refused():
    """Catches: a function that returns an environment again: copies of one agent, or two agents, that play one episode in turn."""
    environment = in_turn(Told(), Told(), Told())
    learners = [learner(environment, "mlp", environments=count) for count in (1, 2)]
    with pytest.raises(InputError, match="returned an environment that is in use already.*Make a new one in each call"):
        learner(environment, "mlp", environments=1)
    for ppo in learners:
        ppo.environment.close()
    learner(environment, "mlp", environments=2)
    with pytest.raises(InputError, match="in use already"):
        learner(in_turn(Told(), Told()), "mlp", environments=3)


def test_masks_of_the_end_are_those_of_the_next_episode():
    """Catches: the mask of the last state of an episode used for the first one of the next."""
    ppo = learner(scripted(Masked), "mlp", "eager", steps=6)
    trajectories, _ = collect(ppo)
    first = trajectories[0].starts.numpy() > 0
    np.testing.assert_array_equal(trajectories[0].action_masks.numpy()[first], [[False, True, True]] * int(first.sum()))
    assert tf.reduce_sum(trajectories[0].starts) > 3
