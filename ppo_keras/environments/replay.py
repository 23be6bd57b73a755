"""Where an episode of a Gymnasium environment stands, as plain data: how it began and what was done since."""

import hashlib
import json

import gymnasium
import numpy as np


class Replayable(gymnasium.Wrapper):
    """Remembers the random state before the last reset and the actions since, from which the episode can be played again.

    Gymnasium has no way to save an environment, and copies of Python objects would have to be unpickled. An environment
    whose chance all comes from its own `np_random`, as Gymnasium asks, comes back exactly; a digest of all that it showed
    says whether it did.
    """

    def __init__(self, env):
        super().__init__(env)
        self.began, self.actions, self.shown = None, [], hashlib.sha256()

    def reset(self, *, seed=None, options=None):
        self.began = {"seed": seed} if seed is not None else {"random": self._random_state()}
        self.actions, self.shown = [], hashlib.sha256()
        observation, info = self.env.reset(seed=seed, options=options)
        self._remember(observation)
        return observation, info

    def step(self, action):
        self.actions.append(action)
        observation, *rest, info = self.env.step(action)  # rest: reward, terminated, truncated
        self._remember(observation, *rest)
        return observation, *rest, info

    def _remember(self, *shown):
        for one in shown:
            self.shown.update(np.asarray(one).tobytes())

    def _random_state(self):
        """The state of its `np_random`, as plain data; None where it is no generator of NumPy: older environments have others, or none."""
        try:
            state = _plain(self.unwrapped.np_random.bit_generator.state)
            json.dumps(state)
        except Exception:  # somebody else's code may raise anything, and only `--resume` needs it
            return None
        return state

    def state(self):
        """Plain data that JSON can hold."""
        actions = [np.asarray(action).tolist() for action in self.actions]
        return {"began": self.began, "actions": actions, "shown": self.shown.hexdigest()}

    def replay(self, state):
        """Plays the episode of a `state` up to where it stood. Returns the last observation and `info`.

        Raises:
            RuntimeError: it shows something else than it did, or its random state could not be read.
        """
        if "seed" in state["began"]:
            observation, info = self.reset(seed=state["began"]["seed"])
        elif state["began"]["random"] is None:
            raise RuntimeError("its np_random is not a generator whose state can be read")
        else:
            self.unwrapped.np_random.bit_generator.state = state["began"]["random"]
            observation, info = self.reset()
        for action in state["actions"]:
            observation, _, _, _, info = self.step(np.asarray(action, self.action_space.dtype)[()])
        if self.shown.hexdigest() != state["shown"]:
            raise RuntimeError("the episode was not the same again")
        return observation, info


def _plain(state):
    """A NumPy random state without arrays."""
    if isinstance(state, dict):
        return {name: _plain(value) for name, value in state.items()}
    return state.tolist() if isinstance(state, (np.ndarray, np.generic)) else state
