"""Keras callbacks for `PPO.fit` and for supervised training: progress, checkpoints, stopping."""

import contextlib
import math
import signal

import keras
import tensorflow as tf
from tqdm import tqdm

from ppo_keras.errors import NonFiniteError


class Progress(keras.callbacks.Callback):
    """One progress bar for a whole stage. As a context manager it is closed also where `fit` raises.

    Args:
        title: of the stage.
        shown: names of metrics written behind the bar, each with a short label.
    """

    def __init__(self, title, shown):
        super().__init__()
        self.title, self.shown, self.logs, self.bar = title, shown, {}, None

    def __enter__(self):
        return self

    def __exit__(self, *error):
        if self.bar is not None:
            self.bar.refresh()
            self.bar.close()

    def on_train_begin(self, logs=None):
        total = (self.params["steps"] or 0) * self.params["epochs"]
        self.bar = tqdm(total=total or None, desc=self.title, unit="step", dynamic_ncols=True)

    def on_train_batch_end(self, batch, logs=None):
        self._show(logs)
        self.bar.update(1)

    def on_epoch_end(self, epoch, logs=None):
        self._show(logs)

    def on_train_end(self, logs=None):
        self.__exit__()

    def _show(self, logs):
        self.logs.update(logs or {})
        self.bar.set_postfix(
            {label: f"{self.logs[name]:.3g}" for name, label in self.shown.items() if name in self.logs}, refresh=False
        )


class StopOnNonFinite(keras.callbacks.Callback):
    """Raises `NonFiniteError` with the name of the first metric that is NaN or infinite. Put it before `Checkpoint`.

    Args:
        advice: what the message tells the user to try.
    """

    def __init__(self, advice):
        super().__init__()
        self.advice = advice

    def on_train_batch_end(self, batch, logs=None):
        for name, value in (logs or {}).items():
            if not math.isfinite(float(value)):
                raise NonFiniteError(f"{name} became {float(value)} in step {batch + 1}. {self.advice}")


class Checkpoint(keras.callbacks.Callback):
    """Saves the learner (policy, critic, optimizer, KL coefficient, counters) every few iterations and at the end.

    Args:
        folder: where.
        every: iterations between two.
        keep: how many are kept.
    """

    def __init__(self, folder, every, keep=2):
        super().__init__()
        self.folder, self.every, self.keep = folder, every, keep

    def on_train_begin(self, logs=None):
        self.manager = tf.train.CheckpointManager(
            tf.train.Checkpoint(learner=self.model), self.folder, max_to_keep=self.keep, checkpoint_name="training"
        )
        self.save()

    def on_train_batch_end(self, batch, logs=None):
        if int(self.model.iteration.numpy()) % self.every == 0:
            self.save()

    def on_train_end(self, logs=None):
        self.save()

    def save(self):
        """Writes a checkpoint now."""
        self.manager.save(checkpoint_number=int(self.model.iteration.numpy()))

    def restore_last(self):
        """Puts the learner back to its last checkpoint."""
        self.manager.checkpoint.restore(self.manager.latest_checkpoint).assert_existing_objects_matched()


class KeepBest(keras.callbacks.Callback):
    """Ends `fit` with the weights that measured best on data held out for it, those of the start among them.

    Keras's `EarlyStopping` watches what a step returns; PPO's steps return nothing of data that they do not learn from.

    Args:
        policy: the model that is measured.
        measure: a function without arguments; more is better.
        every: iterations between two measurements.
    """

    def __init__(self, policy, measure, every):
        super().__init__()
        self.policy, self.measure, self.every = policy, measure, every

    def on_train_begin(self, logs=None):
        self.best, self.weights, self.measured = self.measure(), self.policy.get_weights(), True

    def on_train_batch_end(self, batch, logs=None):
        self.measured = (batch + 1) % self.every == 0
        if self.measured:
            self._compare()

    def on_train_end(self, logs=None):
        if not self.measured:
            self._compare()
        self.policy.set_weights(self.weights)

    def _compare(self):
        value = self.measure()
        if value > self.best:
            self.best, self.weights = value, self.policy.get_weights()


class StopOnInterrupt(keras.callbacks.Callback):
    """Ends `fit` after the iteration under way once Ctrl-C was pressed (see `interruptible`)."""

    def __init__(self, interrupt):
        super().__init__()
        self.interrupt = interrupt

    def on_train_batch_end(self, batch, logs=None):
        if self.interrupt.pressed:
            self.model.stop_training = True


class Interrupt:
    """Whether Ctrl-C was pressed."""

    pressed = False

    def check(self):
        """Raises `KeyboardInterrupt` if it was."""
        if self.pressed:
            raise KeyboardInterrupt


@contextlib.contextmanager
def interruptible():
    """Turns the first Ctrl-C into a request to stop at the iteration's end; the second one stops at once.

    Yields:
        An `Interrupt`.
    """
    interrupt = Interrupt()

    def press(signal_number, frame):
        interrupt.pressed = True
        signal.signal(signal.SIGINT, signal.default_int_handler)
        tqdm.write("Stopping after this step; press Ctrl-C again to stop at once.")

    before = signal.signal(signal.SIGINT, press)
    try:
        yield interrupt
    finally:
        signal.signal(signal.SIGINT, before)
