"""The environments of the tasks by name, and the command `evaluate`: the agent of a run plays episodes."""

import json

from ppo_keras.config import require
from ppo_keras.environments.acrobot import Acrobot
from ppo_keras.environments.bridge import GymnasiumEnvironment
from ppo_keras.environments.cartpole import CartPole, CartPoleNoVelocity
from ppo_keras.environments.config import TASKS, kind_of
from ppo_keras.environments.evaluation import Player
from ppo_keras.environments.gridworld import GridWorld
from ppo_keras.environments.memory import RepeatFirst, TMaze
from ppo_keras.errors import InputError
from ppo_keras.report import print_episodes
from ppo_keras.runs import Run, load_policy
from ppo_keras.tasks.training import plain_errors


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


def new_player(policy, environment, config, episodes):
    """A `Player` with the settings of a run."""
    return Player(policy, environment, config.ppo.temperature, config.jit, min(episodes, 128 if environment.compiles else 16))


def evaluate(options):
    """Plays episodes with the policy of a run, greedy and sampled; the last line is JSON.

    Args:
        options: a namespace with the options of `ppo-keras evaluate`.

    Raises:
        InputError: no such run, a run without a policy, or a setting out of range.
    """
    require(options.episodes >= 1, f"--episodes {options.episodes} is less than 1. Use a number such as 100.")
    require(0 <= options.seed < 2**31, f"--seed {options.seed} is outside [0, 2^31). Use a number such as 1.")
    run = Run.open(options.run, options.runs_folder)
    settings = run.load_json("config.json")
    task = settings.get("task", "")
    if task not in TASKS and not task.startswith("gym:"):
        raise InputError(
            f"{run.folder} is a run of the task {task!r}, which has no episodes to play. Use ppo-keras generate for it."
        )
    run.check_one_seed()
    config = run.load_settings(kind_of(task))
    environment = make_environment(task, config, settings.get("rows"))
    policy = load_policy(run, "policy")
    result = {"task": task, "model": config.model, "episodes": options.episodes}
    with plain_errors():
        player = new_player(policy, environment, config, options.episodes)
        for name, greedy in (("greedy", True), ("sampled", False)):
            played = player(options.episodes, greedy, options.seed)
            result[name] = {
                "return": float(played.returns.mean()),
                "return_std": float(played.returns.std()),
                "return_min": float(played.returns.min()),
                "return_max": float(played.returns.max()),
                "length": float(played.lengths.mean()),
            }
    print_episodes(result)
    print(json.dumps(result))
    return result
