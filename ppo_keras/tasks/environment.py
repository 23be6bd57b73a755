"""The tasks of agents: `ppo-keras train cartpole` and its kin, and `ppo-keras evaluate`."""

import json
import time
from dataclasses import fields

import keras
import numpy as np
import tensorflow as tf
from simple_parsing.helpers.serialization import from_dict

from ppo_keras import callbacks
from ppo_keras.config import require
from ppo_keras.environments.acrobot import Acrobot
from ppo_keras.environments.bridge import GymnasiumEnvironment
from ppo_keras.environments.cartpole import CartPole, CartPoleNoVelocity
from ppo_keras.environments.config import TASKS, EnvironmentConfig
from ppo_keras.environments.evaluation import play
from ppo_keras.environments.gridworld import GridWorld
from ppo_keras.environments.memory import RepeatFirst, TMaze
from ppo_keras.environments.ppo import EnvironmentPPO
from ppo_keras.errors import InputError
from ppo_keras.networks.actor_critic import new_policy
from ppo_keras.report import print_agent, print_episodes
from ppo_keras.runs import Run, load_policy
from ppo_keras.tasks.training import fit_and_save, plain_errors


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


def train(task, config):
    """Trains an agent, once for each seed.

    Args:
        task: a key of `TASKS`, or "gym:ID".
        config: its `EnvironmentConfig`.

    Returns:
        The summary, a dict, as in `summary.json`.

    Raises:
        InputError: a setting, a map or an environment cannot be used. Found before work begins, nothing is written;
            found in mid-run (an environment that raises), the policy is saved as far as it came.
        NonFiniteError: a metric became NaN; the last good policy is saved.
        KeyboardInterrupt: Ctrl-C; the policy is saved.
    """
    Run.check_new(config.runs_folder, config.run, config.overwrite)
    with plain_errors(), callbacks.interruptible() as interrupt:
        job = AgentJob(task, config)
        run = Run.create(config.runs_folder, config.run, config.overwrite)
        try:
            job.prepare(run)
            run.keep()
        except BaseException:
            run.discard()  # nothing in it is of use yet
            raise
        return job.train(run, interrupt)


class AgentJob:
    """The parts of one run: checked when it is made, trained seed by seed, evaluated and drawn."""

    def __init__(self, task, config):
        self.task, self.config, self.began = task, config, time.perf_counter()
        keras.utils.set_random_seed(config.seed)
        self.environment = make_environment(task, config)
        network, of_numbers = config.network, not isinstance(self.environment.observation, int)
        self.policy = new_policy(
            config.model, self.environment.observation, self.environment.actions, width=network.width, layers=network.layers,
            heads=network.heads, memory=network.memory, shared=network.shared_trunk, normalize=config.normalize_observations and of_numbers,
        )  # fmt: skip
        per_call = config.iterations_per_call or max(1, config.iterations // 40)
        self.learner = EnvironmentPPO(
            self.policy, self.environment, config.ppo, config.environments, config.steps, min(per_call, config.iterations),
            config.normalize_rewards, config.seed, name="learner",
        )  # fmt: skip
        self.calls = -(-config.iterations // self.learner.iterations_per_call)
        updates = self.calls * self.learner.iterations_per_call * config.ppo.epochs * config.ppo.minibatches
        self.learner.compile(config.optimizer.build(updates), jit_compile=config.jit)

    @property
    def grid(self):
        """The grid world, or None."""
        return self.environment if isinstance(self.environment, GridWorld) else None

    def prepare(self, run):
        """Writes the settings, once for the run and once for each of several seeds."""
        self.runs = [run]
        if self.config.seeds > 1:
            self.runs = [run.part(f"seed-{self.config.seed + i}") for i in range(self.config.seeds)]
        rows = {"rows": self.grid.rows} if self.grid else {}
        for one in {run, *self.runs}:
            one.save_config(self.config, task=self.task, **rows)
        print(
            f"{self.environment.name}: {self.config.environments} environments x {self.config.steps} steps, "
            f"{self.calls * self.learner.iterations_per_call} iterations, {self.policy.count_params():,} parameters. "
            f"Run folder: {run.folder}"
        )

    def train(self, run, interrupt):
        """All seeds. Returns the summary."""
        results = [self.train_seed(self.config.seed + i, one, interrupt) for i, one in enumerate(self.runs)]
        curves = [curve for _, curve in results]
        summaries = [summary for summary, _ in results]
        summary = summaries[0] if len(summaries) == 1 else self.together(summaries)
        summary["seconds"] = time.perf_counter() - self.began
        self.draw(run, curves)
        run.save_json("summary.json", summary)
        print_agent(summary, run.folder)
        return summary

    def train_seed(self, seed, run, interrupt):
        """One seed. Returns its summary and its learning curve, `(N, 4)`: steps, return, length, count."""
        config, learner, began = self.config, self.learner, time.perf_counter()
        learner.restart(seed)
        recorder = callbacks.EnvironmentRecorder(run)
        shown = {"episode/return": "return", "episode/length": "length", "policy/entropy": "entropy"}
        every = max(1, config.checkpoint_every // learner.iterations_per_call) * learner.iterations_per_call
        fit_and_save(learner, run, "policy", interrupt, recorder, shown, every, steps_per_epoch=self.calls)
        curve = np.array(recorder.curve)
        played = self.evaluate(seed)
        last = curve[-max(1, len(curve) // 10) :]
        count = max(last[:, 3].sum(), 1.0)
        late = (last[:, 1:3] * last[:, 3:]).sum(axis=0) / count if last[:, 3].any() else last[-1, 1:3]
        summary = {
            "task": self.task,
            "model": config.model,
            "seed": seed,
            "environment_steps": int(curve[-1, 0]),
            "episode_return": float(late[0]),
            "episode_length": float(late[1]),
            "evaluation_return": float(played[True].returns.mean()),
            "evaluation_return_sampled": float(played[False].returns.mean()),
            "steps_per_second": config.environments
            * config.steps
            * learner.iterations_per_call
            / float(np.median(recorder.seconds)),
        }
        if self.grid:
            summary |= self.against_the_best()
        summary["seconds"] = time.perf_counter() - began
        run.save_json("summary.json", summary)
        if len(self.runs) > 1:
            self.draw(run, [curve])
        return summary, curve

    def evaluate(self, seed):
        """Greedy (True) and sampled (False) episodes with the policy as it is now."""
        config, episodes = self.config, self.config.evaluation_episodes
        environment = self.environment if self.environment.compiles else make_environment(self.task, config)
        return {greedy: play_episodes(self.policy, environment, config, episodes, greedy, seed) for greedy in (True, False)}

    def against_the_best(self):
        """How the policy on the grid compares with the exact solution."""
        solution = self.grid.solve(self.config.ppo.discount)
        _, greedy = self.on_the_grid()
        return {
            "optimal_return": float(self.grid.optimal_return(self.config.ppo.discount)),
            "optimal_policy": bool(solution.optimal_actions[np.arange(len(greedy)), greedy.argmax(-1)].all()),
            "largest_value_error": float(np.abs(self.values - solution.values)[~self.grid.terminal].max()),
        }

    def on_the_grid(self):
        """Values `(cells,)` and action probabilities `(cells, 4)`, each cell read as the first of an episode."""
        cells = tf.range(self.grid.observation)
        logits, values, _ = self.policy.step(cells, self.policy.initial_state(len(cells)), tf.ones([len(cells)]))
        logits = self.learner.behaviour(logits, self.grid.action_masks((cells, tf.zeros_like(cells))))
        self.values = values.numpy()
        return self.values, tf.nn.softmax(logits).numpy()

    def together(self, summaries):
        """One summary of several seeds: means, spreads, and the summaries themselves."""
        summary = {key: summaries[0][key] for key in ("task", "model", "seed", "environment_steps")}
        for key in ("episode_return", "episode_length", "evaluation_return", "evaluation_return_sampled", "steps_per_second"):
            values = [one[key] for one in summaries]
            summary |= {key: float(np.mean(values)), f"{key}_std": float(np.std(values, ddof=1)), f"{key}_min": min(values)}
        if self.grid:
            summary["optimal_return"] = summaries[0]["optimal_return"]
            summary["optimal_policy"] = all(one["optimal_policy"] for one in summaries)
            summary["largest_value_error"] = max(one["largest_value_error"] for one in summaries)
        return summary | {"seeds": summaries}

    def draw(self, run, curves):
        """The pictures of a run, as PNG files and in TensorBoard."""
        from ppo_keras import pictures  # matplotlib takes a second to load

        best = (self.grid.optimal_return(self.config.ppo.discount), "optimal policy") if self.grid else None
        title = f"{self.environment.name}, {self.config.model}" + (f", {len(curves)} seeds" if len(curves) > 1 else "")
        figures = {"learning_curve": pictures.learning_curve([curve[:, :2] for curve in curves], title, best)}
        if self.grid and len(curves) == 1:
            figures["grid"] = pictures.grid_values(self.grid, *self.on_the_grid())
        run.save_pictures({name: pictures.png(figure) for name, figure in figures.items()}, step=int(curves[0][-1, 0]))


def play_episodes(policy, environment, config, episodes, greedy, seed):
    """`play` with the settings of a run."""
    at_once = 128 if environment.compiles else 16
    return play(policy, environment, episodes, greedy, seed, config.ppo.temperature, config.jit, at_once)


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
    if settings.get("seeds", 1) > 1 and not run.has("policy"):
        raise InputError(f"{run.folder} holds several seeds. Name one of them, such as {run.folder}/seed-{settings['seed']}.")
    kind = TASKS.get(task, (EnvironmentConfig,))[0]
    config = from_dict(kind, {field.name: settings[field.name] for field in fields(kind) if field.name in settings})
    environment = make_environment(task, config, settings.get("rows"))
    policy = load_policy(run, "policy")
    result = {"task": task, "model": config.model, "episodes": options.episodes}
    with plain_errors():
        for name, greedy in (("greedy", True), ("sampled", False)):
            played = play_episodes(policy, environment, config, options.episodes, greedy, options.seed)
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
