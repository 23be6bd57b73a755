"""The tasks of agents: `ppo-keras train cartpole` and its kin."""

import time
from dataclasses import replace

import keras
import numpy as np
import tensorflow as tf

from ppo_keras.cluster import start
from ppo_keras.devices import Devices
from ppo_keras.environments.gridworld import GridWorld
from ppo_keras.environments.ppo import EnvironmentPPO
from ppo_keras.errors import InputError
from ppo_keras.networks.actor_critic import new_policy
from ppo_keras.ppo import raw_advantages
from ppo_keras.reports.measures import Sample
from ppo_keras.reports.tables import print_agent
from ppo_keras.runs import tensorboard, tracing
from ppo_keras.runs.health import Health
from ppo_keras.runs.models import load_policy
from ppo_keras.runs.recording import Board, Cadence, EnvironmentRecorder
from ppo_keras.runs.views import BatchHistograms, GridPicture, RolloutAttention
from ppo_keras.tasks.play import make_environment, new_player
from ppo_keras.tasks.seeds import spread
from ppo_keras.tasks.training import fit_and_save, plain_errors, run_job, settings_of_every_task


def train(task, config, resume=False):
    """Trains an agent, once for each seed.

    Args:
        task: a key of `TASKS`, or "gym:ID".
        config: its `EnvironmentConfig`.
        resume: go on with the run of this name, which was stopped.

    Returns:
        The summary, a dict, as in `summary.json`.

    Raises:
        InputError: a setting, a map or an environment cannot be used. Found before work begins, nothing is written;
            found in mid-run (an environment that raises), the policy is saved as far as it came.
        NonFiniteError: a metric became NaN; the last good policy is saved.
        KeyboardInterrupt: Ctrl-C; the policy is saved as it then is. A run that has no state to go on from is removed.
    """
    return run_job(config, lambda: AgentJob(task, config), resume)


def shape_of_observations(task):
    """Of an environment of Gymnasium the shape of an observation; () for ours, which show a few numbers, and for states. Computes nothing."""
    observation = make_environment(task, None).observation if task.startswith("gym:") else ()
    return () if isinstance(observation, int) else observation


class AgentJob:
    """The parts of one run: checked when it is made, trained seed by seed, evaluated and drawn."""

    earned, units = "return", "episodes"

    def __init__(self, task, config, run=None):
        self.task_name, self.config, self.run, self.began = task, tracing.without_jit(config), run, time.perf_counter()
        keras.utils.set_random_seed(config.seed)
        self.devices = Devices(None if run else start(config.sharing))
        self.environment = make_environment(task, self.config, run and run.load_json("config.json").get("rows"))
        if run is None:
            with self.devices.scope():
                self.make_learner()

    @property
    def data(self):
        """What names the environment."""
        return [self.environment.name, self.grid.rows if self.grid else None]

    def close(self):
        """See `TextJob`."""

    def make_learner(self):
        """The policy, its `EnvironmentPPO`, compiled, and the player of its episodes."""
        config = self.config
        network, of_numbers = config.network, not isinstance(self.environment.observation, int)
        self.policy = new_policy(
            config.model, self.environment.observation, self.environment.actions, width=network.width, layers=network.layers,
            heads=network.heads, memory=network.memory, shared=network.shared_trunk, normalize=config.normalize_observations and of_numbers,
        )  # fmt: skip
        self.calls, per_call = config.calls(self.environment.compiles)
        self.learner = EnvironmentPPO(
            self.policy, self.environment, config.ppo, config.environments, config.steps, per_call, config.normalize_rewards,
            config.seed, name="learner",
        )  # fmt: skip
        updates = self.calls * per_call * config.ppo.epochs * config.ppo.minibatches
        self.learner.compile(config.optimizer.build(updates), jit_compile=config.jit)
        self.player = new_player(self.policy, self.environment, config, config.evaluation_episodes)

    def open(self, stage):
        """Takes the policy of the run, of a stage: "after" or "best"."""
        if stage == "before":
            raise InputError(f"{self.run.folder} is an agent's run, which has no stage before PPO. Use after or best.")
        self.policy = load_policy(self.run, "policy" if stage == "after" else stage)

    def play(self, count, seed, ways):
        """`Episodes` of the policy that was opened, with their `Steps`, for each way: greedy (True) or sampled (False).

        Args:
            count: of episodes; None: as many as after training.
            seed, ways: int, list of bools.
        """
        count = count or self.config.evaluation_episodes
        with plain_errors():
            player = new_player(self.policy, self.environment, self.config, count, record=True)
            return [player(count, greedy, seed) for greedy in ways]

    def sample(self, count, seed):
        """The `Sample` of `evaluate`."""
        drawn, greedy = self.play(count, seed, [False, True])
        known = not self.config.normalize_rewards  # else the critic counts in units that are not saved with the policy
        advantages = raw_advantages(drawn.steps, self.config.ppo)[0].numpy() if known else None
        return Sample(drawn.returns, greedy.returns, advantages, drawn.steps.entropies, drawn.steps.mask, None)

    def answer(self, other, count, seed, greedy):
        """Names, lengths and returns of episodes that begin alike in every run of the same environment."""
        (played,) = self.play(count, seed, [greedy])
        names = [f"episode {i + 1}" for i in range(len(played.returns))]
        return names, [f"length {length:.0f}" for length in played.lengths], played.returns

    @property
    def grid(self):
        """The grid world, or None."""
        return self.environment if isinstance(self.environment, GridWorld) else None

    def prepare(self, run, interrupt):
        """Writes the settings and makes a first call, which compiles and whose learning is then forgotten."""
        self.save_config(run, self.config)
        print(
            f"{self.environment.name}: {self.config.environments} environments x {self.config.steps} steps, "
            f"{self.calls * self.learner.iterations_per_call} iterations, {self.policy.count_params():,} parameters. "
            f"Run folder: {run.folder}"
        )
        print("Compiling ...", flush=True)
        self.learner.fit(verbose=0)
        interrupt.check()

    def save_config(self, run, config):
        """Writes `config.json`, with the map of a grid."""
        run.save_config(config, task=self.task_name, **({"rows": self.grid.rows} if self.grid else {}))

    def improve(self, run, interrupt):
        """Trains all seeds. Returns the summary."""
        config, summaries, curves = self.config, [], []
        for seed in range(config.seed, config.seed + config.seeds):
            part = run
            if config.seeds > 1:
                part = run.part(f"seed-{seed}")
                if not part.ended:  # else TensorBoard would forget how it ended
                    self.save_config(part, replace(config, seeds=1, seed=seed))
            curves.append(self.train_seed(seed, part, interrupt))
            ended = part.ended  # before the run was stopped
            summaries.append(part.load_json("summary.json") if ended else self.summarise(seed, curves[-1]))
            if not ended:
                tensorboard.write_final(part, summaries[-1], summaries[-1]["environment_steps"])
            interrupt.check()
            if config.seeds > 1 and not ended:
                self.draw(part, curves[-1:])
                part.save_json("summary.json", summaries[-1])
        summary = summaries[0] if config.seeds == 1 else self.together(summaries)
        summary["seconds"] = time.perf_counter() - self.began
        self.draw(run, curves)
        run.save_json("summary.json", summary)
        print_agent(summary, run.folder)
        return summary

    def train_seed(self, seed, run, interrupt):
        """One seed. Returns its learning curve, `(N, 4)`: steps, return, length and number of the episodes that ended."""
        config, learner, self.seed_began = self.config, self.learner, time.perf_counter()
        learner.restart(seed)
        recorder = EnvironmentRecorder(run, self.board(replace(config, seeds=1, seed=seed)))
        shown = {"episode/return": "return", "episode/length": "length", "policy/entropy": "entropy"}
        every = max(1, config.checkpoint_every // learner.iterations_per_call) * learner.iterations_per_call
        further = {"health": Health("episode/return")} | tracing.observers(config.logging, run)
        score = lambda metrics: metrics["episode/return"] if metrics["episode/count"] > 0 else None  # that of earlier episodes says nothing of these weights
        fit_and_save(learner, run, "policy", interrupt, recorder, shown, every, self.calls, further=further, score=score)
        self.pace = config.environments * config.steps * learner.iterations_per_call / float(np.median(recorder.seconds))
        return np.array(recorder.curve)

    def board(self, config):
        """What TensorBoard shows of one seed."""
        logging = config.logging
        views = [BatchHistograms(logging.weight_histograms)]
        views += [GridPicture(self.grid, self.on_the_grid)] if self.grid else []
        views += [RolloutAttention()] if logging.attention_maps else []
        opening = (tracing.Graph(tf.TensorSpec([], tf.int32)),) if logging.graph else ()
        last = self.calls * self.learner.iterations_per_call
        return Board(self.task_name, config, Cadence(logging.log_every, last), tuple(views), opening, settings_of_every_task())

    def summarise(self, seed, curve):
        """What `summary.json` says of one seed. Where no episode ended in training, its return and length are None."""
        ended = curve[curve[:, 3] > 0]
        last = ended[ended[:, 0] > 0.9 * curve[-1, 0]] if len(ended) else ended
        last = ended[-1:] if not len(last) else last
        late = np.average(last[:, 1:3], axis=0, weights=last[:, 3]).tolist() if len(last) else [None, None]
        greedy, sampled = (self.evaluate(seed, greedy=greedy).returns for greedy in (True, False))
        summary = {
            "task": self.task_name,
            "model": self.config.model,
            "seed": seed,
            "environment_steps": int(curve[-1, 0]),
            "episode_return": late[0],
            "episode_length": late[1],
            "evaluation_return": float(greedy.mean()),
            "evaluation_return_sampled": float(sampled.mean()),
            "steps_per_second": self.pace,
        }
        if self.grid:
            summary |= self.against_the_best()
        return summary | {"seconds": time.perf_counter() - self.seed_began}

    def evaluate(self, seed, greedy):
        """`Episodes` with the policy as it is now."""
        return self.player(self.config.evaluation_episodes, greedy, seed)

    def against_the_best(self):
        """How the policy compares with the exact solution, in every state that an episode can come to."""
        grid, discount = self.grid, self.config.ppo.discount
        solution, reachable = grid.solve(discount), grid.reachable
        values, probabilities = self.on_the_grid()
        optimal = solution.optimal_actions[np.arange(len(values)), probabilities.argmax(-1)]
        summary = {"optimal_return": float(grid.optimal_return(discount)), "optimal_policy": bool(optimal[reachable].all())}
        if self.config.normalize_rewards or self.config.ppo.whiten_rewards:
            return summary  # the critic counts in other units
        return summary | {"largest_value_error": float(np.abs(values - solution.values)[reachable].max())}

    def on_the_grid(self):
        """Values `(cells,)` and action probabilities `(cells, 4)`, each cell read as the first of an episode."""
        cells = tf.range(self.grid.observation)
        logits, values, _ = self.policy.step(cells, self.policy.initial_state(len(cells)), tf.ones([len(cells)]))
        logits = self.learner.behaviour(logits, self.grid.action_masks((cells, tf.zeros_like(cells))))
        return values.numpy(), tf.nn.softmax(logits).numpy()

    def together(self, summaries):
        """One summary of several seeds: means, spreads, and the summaries themselves."""
        summary = {key: summaries[0][key] for key in ("task", "model", "seed", "environment_steps")}
        summary |= spread(summaries, ("episode_return", "episode_length", "evaluation_return", "evaluation_return_sampled", "steps_per_second"))
        if self.grid:
            summary["optimal_return"] = summaries[0]["optimal_return"]
            summary["optimal_policy"] = all(one["optimal_policy"] for one in summaries)
            if "largest_value_error" in summaries[0]:
                summary["largest_value_error"] = max(one["largest_value_error"] for one in summaries)
        return summary | {"seeds": summaries}

    def draw(self, run, curves):
        """The pictures of a run, as PNG files and in TensorBoard."""
        from ppo_keras.reports import pictures  # matplotlib takes a second to load

        best = (self.grid.optimal_return(self.config.ppo.discount), "optimal policy") if self.grid else None
        title = f"{self.environment.name}, {self.config.model}" + (f", {len(curves)} seeds" if len(curves) > 1 else "")
        figures = {"learning_curve": pictures.learning_curve([known_returns(curve) for curve in curves], title, best)}
        if self.grid and len(curves) == 1:
            figures["grid"] = pictures.grid_values(self.grid, *self.on_the_grid())
        run.save_pictures({name: pictures.png(figure) for name, figure in figures.items()}, step=int(curves[0][-1, 0]))


def known_returns(curve):
    """Steps and returns of a learning curve, NaN before the first episode has ended. `(N, 4)` -> `(N, 2)`."""
    known = np.cumsum(curve[:, 3]) > 0
    return np.column_stack([curve[:, 0], np.where(known, curve[:, 1], np.nan)])
