"""Any environment of Gymnasium, as the collector wants it. Needs the extra `gym`."""

import copy
import difflib
import functools
import warnings

import numpy as np

from ppo_keras.distributions import DiagonalGaussian
from ppo_keras.environments.environment import Step
from ppo_keras.errors import EnvironmentFault, InputError
from ppo_keras.own_modules import import_own

FAMILIES = {  # how ids of other packages begin: the package, and its module, whose import registers them
    "ALE/": ("ale-py", "ale_py"),
    "MiniGrid-": ("minigrid", "minigrid"),
    "BabyAI-": ("minigrid", "minigrid"),
    "MiniWorld-": ("miniworld", "miniworld"),
    "highway-": ("highway-env", "highway_env"),
    "Panda": ("panda-gym", "panda_gym"),
    "Fetch": ("gymnasium-robotics", "gymnasium_robotics"),
    "HandManipulate": ("gymnasium-robotics", "gymnasium_robotics"),
    "AntMaze": ("gymnasium-robotics", "gymnasium_robotics"),
    "PointMaze": ("gymnasium-robotics", "gymnasium_robotics"),
}


def import_gymnasium():
    """The package; raises `InputError` naming the extra where it is missing."""
    try:
        import gymnasium
    except ImportError as error:
        raise InputError("environments of Gymnasium need the package gymnasium. Install it with: pip install 'ppo_keras[gym]'.") from error
    if not hasattr(gymnasium.vector, "AutoresetMode"):
        raise InputError(f"gymnasium {gymnasium.__version__} is too old. Install 1.1 or newer with: pip install 'ppo_keras[gym]'.")
    return gymnasium


class GymnasiumEnvironment:
    """Copies of a Gymnasium environment behind Gymnasium's own vector API, run by Python between the compiled parts.

    The vector resets an environment in the step that ended its episode (`AutoresetMode.SAME_STEP`) and hands over the
    last observation beside the first new one. In the default mode of Gymnasium 1.x (`NEXT_STEP`) every episode is
    followed by a step whose action does nothing: a phantom transition that must not be learned from.

    Actions of a bounded Box are mapped from [-1, 1] to its bounds, and limited to them. Where `info["action_mask"]`
    comes with every reset and step (as in Taxi-v4), forbidden actions are never drawn: an array of 0 and 1, or, of a
    MultiDiscrete, a tuple of arrays as its `sample` takes it (or all of them side by side).

    An agent, and whoever plays, takes a `copy` with episodes of its own.

    Args:
        make: an id such as "Acrobot-v1"; "module:ID" where a module registers it (one of the current folder too); or a
            function that makes a new environment at every call.

    Raises:
        InputError: gymnasium or the package of the id is missing, the id is unknown, `make` is neither or makes none, or a
            space is not supported.
    """

    compiles = False

    def __init__(self, make):
        gymnasium = import_gymnasium()
        if isinstance(make, gymnasium.Env) or not (isinstance(make, str) or callable(make)):
            given = f"an environment ({make})" if isinstance(make, gymnasium.Env) else f"{make!r}"
            raise InputError(
                f"GymnasiumEnvironment was given {given}, expected an id such as 'CartPole-v1', or a function that makes an environment, for several copies "
                "are acted in side by side. Write GymnasiumEnvironment(lambda: gymnasium.make('CartPole-v1'))."
            )
        self.name, self.make, self._made_last = f"gym:{make}" if isinstance(make, str) else "gym", make, None
        env = self._make_one()
        self.single_action_space = env.action_space
        self.observation = self._read_observation_space(gymnasium.spaces, env.observation_space)
        self.actions = self._read_action_space(gymnasium.spaces, env.action_space)
        self.time_limit = env.spec.max_episode_steps if env.spec else None
        env.close()
        self.vector, self.masks = None, ()

    def _make_one(self):
        """A new environment: what Gymnasium has under the id, or what the function makes."""
        gymnasium = import_gymnasium()
        made = self._make_by_id if isinstance(self.make, str) else self.make
        try:
            env = made()
        except InputError:
            raise
        except gymnasium.error.DependencyNotInstalled as error:
            raise InputError(f"{self.name} needs a further package: {error}") from error
        except ModuleNotFoundError as error:
            raise InputError(f"{self.name} needs a further package: {error}. Install the one that has this module.") from error
        except Exception as error:  # somebody else's code may raise anything
            raise EnvironmentFault(f"{self.name} could not be made: {type(error).__name__}: {error}") from error
        if not isinstance(env, gymnasium.Env):
            raise InputError(f"the function that makes {self.name} returned {env!r}, expected a gymnasium.Env. Let it return one, such as gymnasium.make(...).")
        if env.unwrapped is self._made_last:
            raise InputError(
                f"the function that makes {self.name} returned the same environment twice, but each copy has episodes of its own. Let it make a new one at "
                "every call."
            )
        self._made_last = env.unwrapped
        return env

    def _make_by_id(self):
        gymnasium = import_gymnasium()
        module, _, name = self.make.rpartition(":")
        if ":" in self.make and (":" in module or not (module and name)):
            raise InputError(f"{self.name} is neither gym:ID nor gym:module:ID, such as gym:CartPole-v1 or gym:my_envs:MyEnv-v0.")
        if module:
            import_own(module, self.name, {of_family: package for package, of_family in FAMILIES.values()}.get(module))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of an id that is out of date: the error says it in one line
                return gymnasium.make(name)
        except gymnasium.error.DependencyNotInstalled:
            raise
        except gymnasium.error.Error as error:
            raise InputError(f"Gymnasium has no environment {name!r}. {_advice(name, module, gymnasium.registry)}") from error

    def _read_observation_space(self, spaces, space):
        if isinstance(space, spaces.Discrete):
            self.first_state = int(space.start)
            return int(space.n)
        if isinstance(space, spaces.Box):
            return tuple(space.shape)
        raise InputError(
            f"{self.name} has observations of kind {type(space).__name__}. Supported are Box and Discrete; a wrapper of Gymnasium such as FlattenObservation may help."
        )

    def _read_action_space(self, spaces, space):
        if isinstance(space, spaces.Discrete):
            return int(space.n)
        if isinstance(space, spaces.MultiDiscrete) and len(space.shape) == 1:
            return [int(n) for n in space.nvec]
        if isinstance(space, spaces.Box):
            return DiagonalGaussian(int(np.prod(space.shape)))
        raise InputError(f"{self.name} has actions of kind {type(space).__name__}. Supported are Discrete, MultiDiscrete of one dimension, and Box.")

    def _make_vector(self, batch):
        """`batch` copies that can be played again."""
        gymnasium = import_gymnasium()
        mode = gymnasium.vector.AutoresetMode.SAME_STEP
        makers = [functools.partial(self._make_copy, number) for number in range(batch)]
        return self._guarded(lambda: gymnasium.vector.SyncVectorEnv(makers, autoreset_mode=mode))

    def _make_copy(self, number):
        from ppo_keras.environments.guarded import Guarded
        from ppo_keras.environments.replay import Replayable

        counts = () if isinstance(self.actions, DiagonalGaussian) else np.atleast_1d(self.actions).tolist()
        return Replayable(Guarded(self._make_one(), self.name, number, counts))

    def reset(self, batch, seed):
        """Begins `batch` episodes; the same seed begins the same. Returns () and their observations."""
        if self.vector is None or self.vector.num_envs != batch:
            self.close()
            self.vector = self._make_vector(batch)
        words = np.random.SeedSequence([int(word) % 2**32 for word in seed]).generate_state(batch)
        observation, info = self._guarded(lambda: self.vector.reset(seed=[int(word) % 2**31 for word in words]))
        self._read_masks(self._masks_in(info), begin=True)
        return (), self._observed(observation)

    def step(self, actions):
        """Takes an action in each copy. Returns a `Step`, and the observations with which to go on (after resets)."""
        observation, reward, terminated, truncated, info = self._guarded(lambda: self.vector.step(self._translated(actions)))
        self._read_masks(self._masks_in(info))
        now = self._observed(observation)
        last = now
        if "final_obs" in info:
            last = now.copy()
            for i in np.flatnonzero(info["_final_obs"]):
                last[i] = self._observed(np.asarray(info["final_obs"][i])[np.newaxis])[0]
        return Step((), last, reward.astype(np.float32), terminated, truncated), now

    def action_masks(self, state):
        """bool `(B, A)`, from `info["action_mask"]`, of several choices all side by side; () where there is none."""
        return self.masks

    def state(self):
        """Where the episodes stand, as plain data."""
        return [env.state() for env in self.vector.envs]

    def replay(self, states):
        """Plays the episodes of a `state` again. Returns the observations at which they then stand."""
        if self.vector is None or self.vector.num_envs != len(states):
            self.close()
            self.vector = self._make_vector(len(states))
        played = self._guarded(lambda: [env.replay(state) for env, state in zip(self.vector.envs, states)])
        self._read_masks([info.get("action_mask") for _, info in played], begin=True)
        return self._observed(np.stack([observation for observation, _ in played]))

    def copy(self):
        """Another one of the same kind, with episodes of its own."""
        twin = copy.copy(self)
        twin.vector = None
        return twin

    def close(self):
        """Closes the copies."""
        if self.vector is not None:
            self.vector.close()
            self.vector = None

    def _guarded(self, call):
        try:
            return call()
        except InputError:
            raise
        except Exception as error:  # somebody else's code may raise anything
            raise EnvironmentFault(f"the environment {self.name} raised {type(error).__name__}: {error}") from error

    def _observed(self, observation):
        if isinstance(self.observation, int):
            return np.asarray(observation, np.int32) - np.int32(self.first_state)
        return np.asarray(observation, np.float32)

    def _masks_in(self, info):
        """The mask of each copy, or None, from the `info` of the vector."""
        given = info.get("_action_mask", [False] * self.vector.num_envs)
        return [info["action_mask"][number] if there else None for number, there in enumerate(given)]

    def _read_masks(self, masks, begin=False):
        """Takes the masks of all copies; all have one after every reset and step, or none ever has."""
        if begin:
            self.masked = any(mask is not None for mask in masks)
        for number, mask in enumerate(masks):
            if (mask is not None) != self.masked:
                did = "left out action_mask, which was given before" if self.masked else "gave action_mask, which was left out before"
                raise EnvironmentFault(f"the environment {self.name} {did} (copy {number}). Give it with every reset and step, or never.")
        self.masks = np.stack(masks) if self.masked else ()

    def _translated(self, actions):
        """Our actions as Gymnasium's."""
        space = self.single_action_space
        if isinstance(self.actions, DiagonalGaussian):
            actions = actions.reshape(-1, *space.shape)
            bounded = np.isfinite(space.low) & np.isfinite(space.high)
            low, high = np.where(bounded, space.low, -1.0), np.where(bounded, space.high, 1.0)
            actions = np.where(bounded, low + (actions + 1.0) * (high - low) / 2.0, actions)
            actions = np.rint(actions) if np.issubdtype(space.dtype, np.integer) else actions
            return np.clip(actions, space.low, space.high).astype(space.dtype)
        return actions + space.start


def _advice(name, module, registry):
    """What to do about an id that is not in Gymnasium's registry; `module` is the one that was to register it, or ""."""
    if module:
        of_module = lambda entry: (entry if isinstance(entry, str) else getattr(entry, "__module__", "") or "").partition(":")[0]
        own = [one for one, spec in registry.items() if of_module(spec.entry_point).split(".")[0] == module.split(".")[0]]
        return f"The module {module} registers {', '.join(own) or 'nothing'}. Register it there, with gymnasium.register({name!r}, entry_point=...)."
    for beginning, (package, of_family) in FAMILIES.items():
        if name.startswith(beginning):
            return f"It comes with another package. Install it with: pip install {package}, and name its module, too: gym:{of_family}:{name}."
    near = difflib.get_close_matches(name, registry, n=3, cutoff=0.5)
    if near:
        return f"Did you mean {' or '.join(near)}?"
    return "gymnasium.pprint_registry() lists the known ones; one that a module registers is written gym:module:ID."
