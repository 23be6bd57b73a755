"""One environment of Gymnasium whose answers are checked and copied, and which gets copies: nobody writes into another's memory."""

import weakref

import gymnasium
import numpy as np

from ppo_keras.errors import EnvironmentFault, InputError

MASK = "action_mask"
_guards = weakref.WeakValueDictionary()  # by the id of the environment that they guard


class Guarded(gymnasium.Wrapper):
    """The border of one copy. Of `info` only `action_mask` crosses it, as a flat bool array.

    Many environments write every observation into the same array: the last observation of an episode would become the first
    one of the next before V could be read there.

    Args:
        env: the environment.
        called: its name in errors.
        number: which copy this is.
        counts: of the actions of each choice; () for real numbers.

    Raises:
        InputError: somebody else plays in this very environment.
    """

    def __init__(self, env, called, number, counts):
        super().__init__(env)
        if id(env.unwrapped) in _guards:
            raise InputError(
                f"the function that makes {called} returned an environment that is in use already, so that two would play one episode. "
                "Make a new one in each call, such as lambda: gymnasium.make('CartPole-v1')."
            )
        _guards[id(env.unwrapped)] = self
        self.called, self.number, self.counts, self.steps = called, number, counts, 0
        self.space, self.shape = env.observation_space, env.observation_space.shape  # asked for at every step, through every wrapper below

    def reset(self, *, seed=None, options=None):
        self.steps = 0
        found = self.env.reset(seed=seed, options=options)
        if not isinstance(found, (tuple, list)) or len(found) != 2:
            raise self._fault(f"returned {_kind(found)} from reset", "Return observation, info.")
        observation, info = found
        return self._observation(observation), self._info(info, over=False)

    def step(self, action):
        self.steps += 1
        found = self.env.step(action.copy() if isinstance(action, np.ndarray) else action)
        if not isinstance(found, (tuple, list)) or len(found) != 5:
            raise self._fault(f"returned {_kind(found)} from step", "Return observation, reward, terminated, truncated, info.")
        observation, reward, terminated, truncated, info = found
        if not isinstance(reward, float):
            if np.size(reward) != 1 or np.asarray(reward).dtype.kind not in "fiub":
                raise self._fault(f"returned {reward!r} as reward", "Return one number.")
            reward = float(np.asarray(reward).item())
        ends = [self._flag("terminated", terminated), self._flag("truncated", truncated)]
        return self._observation(observation), reward, *ends, self._info(info, over=any(ends))

    def close(self):
        _guards.pop(id(self.unwrapped), None)
        super().close()

    def _observation(self, observation):
        copied, dtype = np.array(observation), self.space.dtype
        if copied.shape != self.shape or (copied.dtype != dtype and not np.can_cast(copied.dtype, dtype, "same_kind")):
            kind, shape = copied.dtype.name, copied.shape
            raise self._fault(f"returned an observation of shape {shape} and type {kind}", f"Its space says shape {self.shape} and type {dtype.name}.")
        return copied

    def _flag(self, what, value):
        if isinstance(value, (bool, np.bool_)):
            return bool(value)
        if np.size(value) == 1 and np.asarray(value).dtype.kind in "iub" and np.asarray(value).item() in (0, 1):
            return bool(np.asarray(value).item())
        raise self._fault(f"returned {value!r} as {what}", "Return True or False.")

    def _info(self, info, over):
        """What is read of `info`. At the end of an episode nothing needs to be allowed."""
        if MASK not in info:
            return {}
        if not self.counts:
            raise InputError(f"the environment {self.called} gives {MASK}, but its actions are real numbers, which cannot be masked. Leave {MASK} out.")
        parts = choices(info[MASK], self.counts)
        if parts is None:
            expected = f"{self.counts[0]} numbers" if len(self.counts) == 1 else f"a tuple of arrays of {', '.join(map(str, self.counts))} numbers"
            raise self._fault(f"returned {MASK}={info[MASK]!r}", f"Give {expected}, int8 or bool: 1 where an action is allowed, else 0.")
        if not over and not all(part.any() for part in parts):
            raise self._fault("allows no action", "A state that is not the end of an episode must allow at least one (of each choice).")
        return {MASK: np.concatenate(parts)}

    def _fault(self, did, advice):
        where = f"in copy {self.number}, after {self.steps} steps of its episode"
        return EnvironmentFault(f"the environment {self.called} {' '.join(did.split())} {where}. {advice}")


def choices(mask, counts):
    """A mask as a list of bool arrays, one of each choice; None where it is none.

    Args:
        mask: of one choice an array; of several a tuple of arrays, as Gymnasium's `MultiDiscrete.sample` takes it, or all side by side.
        counts: how many actions each choice has.
    """
    try:
        flat = len(counts) == 1 or all(np.ndim(part) == 0 for part in mask)
        parts = np.split(np.asarray(mask), np.cumsum(counts)[:-1]) if flat else [np.asarray(part) for part in mask]
    except (TypeError, ValueError, IndexError):
        return None
    good = [part.shape for part in parts] == [(count,) for count in counts]
    good = good and all(part.dtype.kind in "biu" and np.isin(part, (0, 1)).all() for part in parts)
    return [part.astype(bool) for part in parts] if good else None


def _kind(found):
    return f"{len(found)} values" if isinstance(found, (tuple, list)) else type(found).__name__
