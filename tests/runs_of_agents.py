"""Runs of agents through the command line, as small as they get, and what their folders hold; nothing here is a test."""

import contextlib
import csv
import io
import logging
import types
import warnings

import gymnasium
import numpy as np
import tensorflow as tf

from ppo_keras.commands.main import main
from ppo_keras.runs.folder import Run
from ppo_keras.runs.models import load_policy

TINY = "--environments 4 --steps 32 --no-jit --evaluation-episodes 12 --seed 4".split()
HOOKED = "gym:Hooked-v0 --environments 2 --steps 8 --environment-steps 64 --minibatches 2 --epochs 1 --width 8 --evaluation-episodes 2 --no-jit".split()
FIRST = 2 * 8  # steps of the first call, which compiles and whose learning is forgotten
OF_TIME = ("time/iteration_seconds", "time/steps_per_second")
MAP = "S..G\n.#X.\n"  # cells by columns, from below: 0 (.), 1 (S), 2 (.), 3 (X), 4 (.), 5 (.), 6 (G)


class Hooked(gymnasium.Env):
    """Episodes of 5 steps, in which nothing can be done. `hook(n)` is called at step `n` of all copies together, from 1."""

    observation_space, action_space = gymnasium.spaces.Box(-1, 1, (2,)), gymnasium.spaces.Discrete(2)
    hook, steps = staticmethod(lambda n: None), 0

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        return self.np_random.uniform(-1, 1, 2).astype(np.float32), {}

    def step(self, action):
        Hooked.steps += 1
        answer = Hooked.hook(Hooked.steps) or {}
        observation = self.np_random.uniform(-1, 1, 2).astype(np.float32)
        return answer.get("observation", observation), answer.get("reward", float(action)), False, False, {}


gymnasium.register("Hooked-v0", Hooked, max_episode_steps=5, disable_env_checker=True)


def command(*arguments):
    """Runs a command: exit code, what it printed, what went to stderr, and the warnings that a user would see."""
    logger, shown = tf.get_logger(), []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: shown.append(record.getMessage())
    handlers, level, logger.handlers = logger.handlers, logger.level, [handler]
    logger.setLevel(logging.WARNING)
    try:
        with (
            contextlib.redirect_stdout(io.StringIO()) as out,
            contextlib.redirect_stderr(io.StringIO()) as err,
            warnings.catch_warnings(record=True) as caught,
        ):
            warnings.simplefilter("default")
            code = main(list(arguments))
    finally:
        logger.handlers = handlers
        logger.setLevel(level)
    shown += [str(warning.message) for warning in caught if issubclass(warning.category, (UserWarning, RuntimeWarning))]
    return types.SimpleNamespace(code=code, out=out.getvalue(), err=err.getvalue(), warnings=shown)


def trained(folder, name, *options):
    """A finished run, with what it printed."""
    options = [*options, "--runs-folder", str(folder), "--run", name]
    done = command("train", *options)
    assert done.code == 0, done.err
    done.run, done.options = Run(folder / name), options
    return done


def error_line(done):
    """The one line of an error that ends a run; a progress bar is on stderr too, and the line is not glued to it."""
    assert done.code == 2 and "Traceback" not in done.err
    (line,) = [line for line in done.err.split("\n") if "ppo-keras: error: " in line]
    assert line.startswith("ppo-keras: error: ") and done.err.endswith(line + "\n")
    return line


def metrics_of(run):
    with open(run.folder / "metrics.csv", newline="", encoding="utf-8") as file:
        return [{name: float(value) if value else None for name, value in row.items()} for row in csv.DictReader(file)]


def timeless(run):
    return [{name: value for name, value in row.items() if name not in OF_TIME} for row in metrics_of(run)]


def weights_in(run):
    return load_policy(run, "policy").get_weights()


def equal(one, other):
    return len(one) == len(other) and all(np.array_equal(a, b) for a, b in zip(one, other))


def contents(folder):
    """The bytes of every file below a folder, hidden ones too."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def old_run(runs_folder, name):
    """A run of an earlier day. Returns what its files hold."""
    old = Run.create(runs_folder, name)
    old.save_json("config.json", {"seed": 1})
    old.append_metrics({"iteration": 99})
    (old.folder / "checkpoints" / "policy.keras").write_bytes(b"weights")
    return contents(runs_folder)
