"""The environments of the tasks by name, and what plays in them."""

from ppo_keras.environments.acrobot import Acrobot
from ppo_keras.environments.bridge import GymnasiumEnvironment
from ppo_keras.environments.cartpole import CartPole, CartPoleNoVelocity
from ppo_keras.environments.evaluation import Player
from ppo_keras.environments.gridworld import GridWorld
from ppo_keras.environments.memory import RepeatFirst, TMaze


def make_environment(task, config, rows=None):
    """The environment of a task.

    Args:
        task: a key of `TASKS`, or "gym:ID".
        config: its settings.
        rows: the map of a grid that a run has stored; None reads `config.map`.
    """
    if task.startswith("gym:"):
        return GymnasiumEnvironment(task.removeprefix("gym:"))
    if task == "gridworld":
        grid = dict(step_reward=config.step_reward, mask_walls=config.mask_walls)
        if rows is not None and config.map is not None:
            return GridWorld(rows, **grid)
        return GridWorld.load(config.map, **grid) if config.map else GridWorld.article(config.article_numbers, **grid)
    if task in ("repeat-first", "t-maze"):
        return (RepeatFirst if task == "repeat-first" else TMaze)(config.length)
    return {"cartpole": CartPole, "cartpole-no-velocity": CartPoleNoVelocity, "acrobot": Acrobot}[task]()


def new_player(policy, environment, config, episodes, record=False):
    """A `Player` with the settings of a run."""
    return Player(policy, environment, config.ppo.temperature, config.jit, min(episodes, 128 if environment.compiles else 16), record)
