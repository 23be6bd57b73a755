"""Keras callbacks that write down what a run measures: TensorBoard and `metrics.csv`."""

import time
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from ppo_keras.runs import tensorboard
from ppo_keras.runs.glossary import METRIC_NAMES


class Cadence(NamedTuple):
    """When something is shown: after every `every` iterations (0: never) and after the `last` one.

    It counts iterations of the learner, so that a run that was stopped and resumed shows the same.
    """

    every: int
    last: int

    def due(self, before, now):
        """Whether such an iteration is among those after `before`, up to `now` (a call may be several)."""
        return self.every > 0 and (now // self.every > before // self.every or before < self.last <= now)


class Board(NamedTuple):
    """What a run shows in TensorBoard beside its scalars. Nothing of it changes the learner.

    | field | meaning |
    |---|---|
    | `task`, `config` | name and settings of the run: a row of the HParams table |
    | `cadence` | when the views are shown |
    | `views` | functions of the learner that write summaries at the default writer and step |
    | `opening` | such functions, called once, after the first iteration |
    | `kinds` | classes of the settings of all tasks: the columns of the HParams table |
    """

    task: str
    config: object
    cadence: Cadence
    views: tuple = ()
    opening: tuple = ()
    kinds: tuple = ()


class Recorder(keras.callbacks.Callback):
    """Writes the metrics of every PPO iteration to TensorBoard and to `metrics.csv`, outside the compiled step.

    Args:
        run: a `Run`.
        episodes_per_iteration: responses in an iteration.
        board: a `Board`; None for scalars only.
    """

    def __init__(self, run, episodes_per_iteration, board=None):
        super().__init__()
        self.run, self.episodes, self.board = run, episodes_per_iteration, board

    def on_train_begin(self, logs=None):
        self.writer = tf.summary.create_file_writer(str(self.run.folder))
        if self.board:
            with self.writer.as_default(step=0):
                tensorboard.write_layout()
                tensorboard.write_hparams(self.run, self.board.task, self.board.config, self.board.kinds)

    def on_train_batch_begin(self, batch, logs=None):
        self.before = int(self.model.iteration.numpy())
        self.began = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        seconds = time.perf_counter() - self.began
        iteration = int(self.model.iteration.numpy())
        metrics = {name: float(value) for name, value in logs.items()}
        metrics |= self.pace(iteration, metrics, seconds)
        with self.writer.as_default(step=self.axis(iteration)):
            tensorboard.write_scalars(metrics, overview=self.board is not None)
            if self.board:
                self.show(iteration)
        self.writer.flush()  # what a checkpoint counts as done is then on the disk
        self.run.append_metrics({"iteration": iteration, **metrics})

    def show(self, iteration):
        """Shows the views that are due."""
        if self.before == 0:
            for view in self.board.opening:
                view(self.model)
        if self.board.cadence.due(self.before, iteration):
            for view in self.board.views:
                view(self.model)

    def axis(self, iteration):
        """The step of TensorBoard's curves: the iteration."""
        return iteration

    def pace(self, iteration, metrics, seconds):
        """How much was done, and how fast."""
        return {
            "time/episodes": float(iteration * self.episodes),
            "time/iteration_seconds": seconds,
            "time/tokens_per_second": metrics["response/length"] * self.episodes / seconds,
        }

    def on_train_end(self, logs=None):
        self.writer.close()


class EnvironmentRecorder(Recorder):
    """The same for an agent; remembers the learning curve too. A line of `metrics.csv` is one compiled call.

    Args:
        run: a `Run`.
        board: a `Board`; None for scalars only.
    """

    def __init__(self, run, board=None):
        super().__init__(run, 0, board)
        self.curve, self.seconds = [], []  # (environment steps, return, length, count), and seconds, of each call

    def on_train_begin(self, logs=None):
        super().on_train_begin(logs)
        self.done = int(self.model.iteration.numpy())

    @property
    def last_return(self):
        """Mean return of the last episodes that ended; None before one has."""
        return self.curve[-1][1] if any(count for *_, count in self.curve) else None

    def state(self):
        """See `callbacks.Checkpoint`."""
        return {"curve": np.reshape(self.curve, [-1, 4]), "seconds": np.array(self.seconds)}

    def restore(self, state):
        """See `callbacks.Checkpoint`."""
        self.curve, self.seconds = [tuple(row) for row in state["curve"].tolist()], state["seconds"].tolist()

    def axis(self, iteration):
        """The step of TensorBoard's curves: environment steps, as in CleanRL and Stable-Baselines3."""
        return iteration * self.model.environments * self.model.steps

    def pace(self, iteration, metrics, seconds):
        """See `Recorder.pace`."""
        steps, before, self.done = self.axis(iteration), self.axis(self.done), iteration
        names = ("episode/return", "episode/length", "episode/count")
        self.curve.append((steps, *[metrics[name] for name in names]))
        if self.last_return is None:  # there is nothing to report
            metrics.update({"episode/return": None, "episode/length": None})
        self.seconds.append(seconds)
        return {
            "time/environment_steps": float(steps),
            "time/iteration_seconds": seconds * self.model.environments * self.model.steps / (steps - before),
            "time/steps_per_second": (steps - before) / seconds,
        }


class SupervisedRecorder(keras.callbacks.Callback):
    """Writes the epochs of a supervised stage to TensorBoard: `<stage>/loss`, `<stage>/validation_accuracy`, ..."""

    def __init__(self, run, stage):
        super().__init__()
        self.run, self.stage = run, stage

    def on_train_begin(self, logs=None):
        self.writer = tf.summary.create_file_writer(str(self.run.folder))

    def on_epoch_end(self, epoch, logs=None):
        with self.writer.as_default(step=epoch + 1):
            tags = {f"{self.stage}/{name.replace('val_', 'validation_')}": value for name, value in logs.items()}
            tensorboard.write_scalars({tag: value for tag, value in tags.items() if tag in METRIC_NAMES})
        self.writer.flush()

    def on_train_end(self, logs=None):
        self.writer.close()
