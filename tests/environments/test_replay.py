"""`ppo_keras.environments.replay`: what only `--resume` needs must disturb no environment."""

import random

import numpy as np
import pytest

gymnasium = pytest.importorskip("gymnasium")

from ppo_keras.checkpoints import from_json, of_json
from ppo_keras.environments.replay import Replayable


class Dice(gymnasium.Env):
    """Shows draws from `np_random`, of whatever kind `make` gives."""

    observation_space, action_space = gymnasium.spaces.Box(0, 1, (1,), np.float64), gymnasium.spaces.Discrete(2)
    make = staticmethod(np.random.default_rng)

    def __init__(self):
        self._np_random = self.make(5)

    @property
    def np_random(self):
        return self._np_random

    def draw(self):
        return np.array([self.np_random.random()])

    def reset(self, seed=None, options=None):
        self._np_random = self._np_random if seed is None else self.make(seed)
        return self.draw(), {}

    def step(self, action):
        return self.draw(), 0.0, False, False, {}


class Bare(Dice):
    """An environment from the days before `np_random`."""

    np_random = None

    def draw(self):
        return np.array([random.random()])


class Absent(Bare):
    @property
    def np_random(self):
        raise AttributeError("no np_random")


class Custom(Bare):
    """Its `np_random` looks like a generator of NumPy and has a state that cannot be written down."""

    np_random = type("Odd", (), {"bit_generator": type("Bits", (), {"state": {"key": object()}})})


class OldStyle(Dice):
    make = staticmethod(np.random.RandomState)


class Python(Dice):
    make = staticmethod(random.Random)


def stopped_in_the_second_episode(kind):
    """The environment, and where it stood after a reset without a seed and three steps, by way of a checkpoint."""
    env = Replayable(kind())
    env.reset(seed=1)
    env.step(0)
    env.reset()
    shown = [env.step(1)[0] for _ in range(3)][-1]
    return from_json(of_json(env.state())), shown


@pytest.mark.parametrize("kind", [OldStyle, Bare, Absent, Custom, Python])
def test_an_old_random_state_breaks_nothing(kind):
    """Catches: `AttributeError` at the end of the first episode of an environment whose `np_random` is of another kind; such an episode
    played "again" from another state and taken for the one that was stopped."""
    state, _ = stopped_in_the_second_episode(kind)
    assert state["began"] == {"random": None}
    with pytest.raises(RuntimeError, match="np_random"):
        Replayable(kind()).replay(state)


@pytest.mark.parametrize("bits", [np.random.PCG64, np.random.MT19937, np.random.Philox, np.random.SFC64])
def test_every_generator_of_numpy_is_brought_back(bits):
    """Catches: a state with arrays that JSON does not hold, or that is not taken as lists."""
    kind = type("Drawn", (Dice,), {"make": staticmethod(lambda seed: np.random.Generator(bits(seed)))})
    state, shown = stopped_in_the_second_episode(kind)
    np.testing.assert_array_equal(Replayable(kind()).replay(state)[0], shown)
