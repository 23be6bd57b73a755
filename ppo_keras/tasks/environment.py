"""The tasks of agents: `ppo-keras train cartpole` and its kin."""

import time

import keras
import numpy as np
import tensorflow as tf

from ppo_keras import callbacks
from ppo_keras.environments.gridworld import GridWorld
from ppo_keras.environments.ppo import EnvironmentPPO
from ppo_keras.networks.actor_critic import new_policy
from ppo_keras.report import print_agent
from ppo_keras.tasks.play import make_environment, play_episodes
from ppo_keras.tasks.training import fit_and_save, run_job


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
    return run_job(config, lambda: AgentJob(task, config))


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

    def prepare(self, run, interrupt):
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

    def improve(self, run, interrupt):
        """Trains all seeds. Returns the summary."""
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
