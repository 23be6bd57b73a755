"""What `ppo-keras train cartpole` and its kin can be told, and the settings that suit each task (no TensorFlow here)."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Optional

from ppo_keras.config import (
    DeviceConfig,
    LoggingConfig,
    OptimizerConfig,
    PPOConfig,
    check_heads,
    check_seeds,
    require,
    switch,
)


@dataclass(frozen=True)
class AgentConfig:
    """Size of the agent's network."""

    layers: int = 1  # depth of the trunk, after a first layer that reads the observation
    width: int = 64  # size of hidden states
    heads: int = 4  # attention heads (transformer)
    memory: int = 32  # steps that a transformer's attention reaches back, across the ends of rollouts too
    shared_trunk: bool = switch(False)  # one trunk for policy and value, or a network each

    def __post_init__(self):
        for name in ("layers", "width", "heads", "memory"):
            require(getattr(self, name) >= 1, f"{name}={getattr(self, name)} is less than 1. Use a whole number of 1 or more.")


@dataclass(frozen=True)
class EnvironmentConfig:
    """Everything that training an agent can be told."""

    model: str = "mlp"  # mlp (no memory), lstm or transformer
    run: str = "agent"  # name of the run; its folder is runs/NAME
    runs_folder: str = "runs"  # where the run folders are
    overwrite: bool = switch(False)  # replace a run of this name
    seed: int = 0  # of all randomness
    seeds: int = 1  # train this many times, with seed, seed + 1, ..., and report the spread
    jit: bool = switch(True)  # compile with XLA
    environment_steps: int = 100_000  # steps to learn from, all environments together
    environments: int = 4  # copies that are acted in side by side
    steps: int = 128  # steps in each copy between two updates
    iterations_per_call: Optional[int] = None  # iterations in one compiled call: by default a run has about 40 calls; 1 in gym
    normalize_observations: bool = switch(False)  # float ones, by running mean and variance, saved with the policy
    normalize_rewards: bool = switch(False)  # by the running standard deviation of the discounted return
    evaluation_episodes: int = 100  # episodes played at the end, greedy and sampled
    checkpoint_every: int = 50  # iterations between two checkpoints
    network: AgentConfig = AgentConfig()
    ppo: PPOConfig = PPOConfig(entropy_coefficient=0.01)
    optimizer: OptimizerConfig = OptimizerConfig(learning_rate=2.5e-4)
    logging: LoggingConfig = LoggingConfig()
    sharing: DeviceConfig = DeviceConfig()

    def __post_init__(self):
        require(self.model in ("mlp", "lstm", "transformer"), f"model={self.model!r} is unknown. Use mlp, lstm or transformer.")
        check_seeds(self.seed, self.seeds)
        for name in ("environment_steps", "environments", "steps", "evaluation_episodes", "checkpoint_every"):
            require(getattr(self, name) >= 1, f"{name}={getattr(self, name)} is less than 1. Use a whole number of 1 or more.")
        require(
            self.iterations_per_call is None or self.iterations_per_call >= 1,
            f"iterations_per_call={self.iterations_per_call} is less than 1. Use a number such as 10.",
        )
        self.ppo.check_warmup(self.iterations)
        self.logging.check(self.model)
        if self.model == "transformer":
            check_heads(self.network.width, self.network.heads)
        if self.model == "mlp":
            self.ppo.check_batch(self.environments * self.steps, "environments * steps")
        else:
            self.ppo.check_batch(self.environments, "environments")

    @property
    def iterations(self):
        """How many times the agent acts and learns."""
        return -(-self.environment_steps // (self.environments * self.steps))

    def one_thread(self, observation=()):
        """See `suits_one_thread`; `observation` is its shape."""
        return suits_one_thread(self.model, self.environments * self.steps // self.ppo.minibatches, self.network, observation)

    def calls(self, compiles):
        """How many calls train the agent, and how many iterations each has: 1 where the environment does not compile."""
        per_call = self.iterations_per_call or max(1, self.iterations // 40)
        return split(self.iterations, per_call if compiles else 1)


@dataclass(frozen=True)
class GridConfig(EnvironmentConfig):
    """A grid world."""

    map: Optional[str] = None  # file of the grid: # wall, . free, S start, G goal, X pit; by default four states
    step_reward: float = 0.0  # paid at every step; negative makes haste
    mask_walls: bool = switch(False)  # moves against a wall are not allowed, instead of useless
    article_numbers: bool = switch(False)  # the four states as the article pays them: 1 also for its first step

    def __post_init__(self):
        super().__post_init__()
        require(
            self.ppo.discount < 1,
            f"discount={self.ppo.discount} leaves the exact values of a grid undefined. Use a value below 1 such as 0.99.",
        )
        require(self.map is None or not self.article_numbers, "--map and --article-numbers were both given. Give one of them.")


@dataclass(frozen=True)
class MemoryConfig(EnvironmentConfig):
    """A task that needs remembering."""

    length: int = 10  # steps of an episode (repeat-first), cells of the corridor (t-maze)


TASKS = {  # name: its settings, and what it is
    "gridworld": (GridConfig, "a walk to the goal of a grid"),
    "cartpole": (EnvironmentConfig, "a pole balanced on a cart (CartPole-v1)"),
    "cartpole-no-velocity": (EnvironmentConfig, "CartPole with the velocities hidden: it needs a memory"),
    "acrobot": (EnvironmentConfig, "two links that swing up (Acrobot-v1)"),
    "repeat-first": (MemoryConfig, "the first symbol of a sequence, repeated at every later step"),
    "t-maze": (MemoryConfig, "a corridor at whose end the cue of its beginning counts"),
}


def settings_for(task, model="mlp"):
    """The settings of a task, before the user changes any; `task` is a key of `TASKS` or "gym:ID"."""
    kind, run = kind_of(task), task.removeprefix("gym:").replace("/", "-").replace(":", "-").lower()
    settings = _SETTINGS["gym" if task.startswith("gym:") else task] | dict(run=run)
    if model not in ("lstm", "transformer"):
        return kind(**settings)
    # the minibatches of a policy with memory are whole environments: more of them, shorter rollouts
    ppo = replace(settings["ppo"], epochs=4, minibatches=4)
    return kind(**settings | dict(model=model, environments=16, steps=64, ppo=ppo) | _WITH_MEMORY.get((task, model), {}))


def suits_one_thread(model, steps, network, observation=()):
    """Whether an agent learns at least as fast on one thread: its kernels then take less time than threads take to wake up.

    So it was, on two cores, below ten million multiplications in a forward pass of a minibatch. They are counted without the heads.

    Args:
        model: "mlp", "lstm" or "transformer".
        steps: of a minibatch.
        network: an `AgentConfig`.
        observation: the shape of one; () for a few numbers, or a state, which is looked up.
    """
    width = network.width
    of_a_layer = {"mlp": width, "lstm": 8 * width, "transformer": 12 * width + 2 * network.memory}[model] * width
    of_a_step = of_a_layer * network.layers + (math.prod(observation) * width if observation else 0)
    return steps * of_a_step * (1 if network.shared_trunk else 2) < 10_000_000


def split(iterations, per_call):
    """Calls, and iterations in each, at most `per_call`: together as many as asked for, or less than one a call more."""
    calls = -(-iterations // per_call)
    return calls, -(-iterations // calls)


def kind_of(task):
    """The class of a task's settings; `task` is a key of `TASKS` or "gym:ID"."""
    return TASKS[task][0] if task in TASKS else EnvironmentConfig


_FAST = dict(ppo=PPOConfig(entropy_coefficient=0.01, value_clip=None), optimizer=OptimizerConfig(2e-3))
_SETTINGS = {
    # the default grid is learned in less time than XLA takes to compile
    "gridworld": dict(environment_steps=12_000, checkpoint_every=10, jit=False, logging=LoggingConfig(log_every=4)) | _FAST,
    # CleanRL's but for a higher learning rate and no value clipping: it learns in 100,000 steps, not in 500,000
    "cartpole": _FAST,
    "cartpole-no-velocity": _FAST,
    "acrobot": dict(environment_steps=500_000, environments=16) | _FAST,
    "repeat-first": _FAST,
    "t-maze": dict(environment_steps=200_000) | _FAST,
    "gym": dict(
        environment_steps=400_000,
        environments=8,
        steps=256,
        normalize_observations=True,
        normalize_rewards=True,
        ppo=PPOConfig(epochs=10, minibatches=16, value_clip=None),
        optimizer=OptimizerConfig(1e-3),
    ),
}
_NO_VELOCITY = PPOConfig(discount=0.98, gae_lambda=0.9, entropy_coefficient=0.003, value_clip=None)
_WITH_MEMORY = {
    ("cartpole-no-velocity", "lstm"): dict(ppo=_NO_VELOCITY),
    # velocities show in the last few steps: a long memory is only more to ignore
    ("cartpole-no-velocity", "transformer"): dict(ppo=_NO_VELOCITY, network=AgentConfig(memory=16)),
}
