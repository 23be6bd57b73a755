"""Keras callbacks for `PPO.fit` and for supervised training: progress, checkpoints, stopping."""

import contextlib
import math
import random
import signal
import threading

import keras
import numpy as np
from tqdm import tqdm

from ppo_keras.checkpoints import (
    from_json,
    learned_weights,
    of_json,
    pack,
    readable,
    set_learned_weights,
    unpack,
)
from ppo_keras.cluster import any_process
from ppo_keras.errors import NonFiniteError


class Progress(keras.callbacks.Callback):
    """One progress bar for a whole stage. As a context manager it is closed also where `fit` raises.

    Args:
        title: of the stage.
        shown: names of metrics written behind the bar, each with a short label.
        done: steps that were made before `fit` began.
    """

    def __init__(self, title, shown, done=0):
        super().__init__()
        self.title, self.shown, self.done, self.logs, self.bar = title, shown, done, {}, None

    def __enter__(self):
        return self

    def __exit__(self, *error):
        if self.bar is not None:
            self.bar.refresh()
            self.bar.close()

    def on_train_begin(self, logs=None):
        total = (self.params["steps"] or 0) * self.params["epochs"]
        total = self.done + total if total else None
        self.bar = tqdm(total=total, initial=self.done, desc=self.title, unit="step", dynamic_ncols=True)

    def on_epoch_begin(self, epoch, logs=None):
        if self.bar.n == 0 and epoch > 0:  # a supervised stage that goes on
            self.bar.initial = epoch * self.params["steps"]
            self.bar.update(self.bar.initial)

    def on_train_batch_end(self, batch, logs=None):
        self._show(logs)
        self.bar.update(1)

    def on_epoch_end(self, epoch, logs=None):
        self._show(logs)

    def on_train_end(self, logs=None):
        self.__exit__()

    def _show(self, logs):
        self.logs.update(logs or {})
        self.bar.set_postfix({label: f"{self.logs[name]:.3g}" for name, label in self.shown.items() if name in self.logs}, refresh=False)


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
    """Saves states of the learner, from which a stopped training goes on exactly, the best weights so far among them.

    It saves before the first iteration, every few iterations, after the last one, and where training is told to stop.
    Put it behind the callbacks whose state it saves, and behind `StopOnInterrupt`.

    An iteration acts first and learns then, so what it was rewarded with says how good the weights were *before* it. Weights
    that may be the best therefore wait for the next score: those of the start, of every few iterations, and of the last but
    one. The weights after the last iteration are scored by nobody, and are never the best. An iteration is a step of `fit`:
    one of several iterations (`iterations_per_call`) scores the weights with which it began together with its own.

    Args:
        files: a `StateFiles`.
        every: iterations between two.
        parts: {name: object with `state() -> {name: array}` and `restore(state)`}, saved beside "learner", "score" and the weights.
        score: a function of the metrics of an iteration that says how well it acted, more is better; its value is None where that
            is not known: the weights then go on waiting. Without it no weights are the best.

    Attributes:
        best_weights: of the policy, those with the highest `score` among those that waited for one; empty where none was known.
    """

    def __init__(self, files, every, parts=None, score=None):
        super().__init__()
        self.files, self.every, self.parts, self.score = files, every, parts or {}, score
        self.best, self.best_weights, self.saved = -math.inf, [], None
        self.waiting, self.since = [], None  # weights that have no score yet, and the iteration after which they were so

    @property
    def iteration(self):
        """Of the learner."""
        return int(self.model.iteration.numpy())

    def on_train_begin(self, logs=None):
        if self.saved != self.iteration:
            self.wait()
            self.save()

    def on_train_batch_end(self, batch, logs=None):
        self.judge(logs)
        left, due = (self.params["steps"] or math.inf) - batch - 1, self.iteration % self.every == 0
        if due or left < 2:
            self.wait()
        if due or left == 0 or self.model.stop_training:
            self.save()

    def judge(self, logs):
        """Scores the weights that wait by what the iteration after them was rewarded with."""
        score = self.score(logs) if self.waiting else None
        if score is None:
            return
        if float(score) > self.best:
            self.best, self.best_weights = float(score), self.waiting
        self.waiting = []

    def wait(self):
        """Keeps the weights as they are now until they can be scored."""
        if self.score is not None:
            self.waiting, self.since = learned_weights(self.model.policy), self.iteration

    def save(self):
        """Writes a state now."""
        waiting = [] if self.since == self.iteration else self.waiting  # else they are the learner's
        weights = {"best_weights": dict(enumerate(self.best_weights)), "waiting_weights": dict(enumerate(waiting))}
        since = self.since if self.waiting else -1
        parts = {"learner": self.model.state(), "score": {"best": self.best, "since": since}} | weights
        parts |= {name: part.state() for name, part in self.parts.items()}
        self.files.write(self.iteration, pack(parts) | {"random": of_json(_random_states())})
        self.saved = self.iteration

    def restore_last(self, learner):
        """Puts everything back to the newest state that is whole. Returns its iteration, or None where there is none."""
        state = self.files.read()
        if state is None:
            return None
        with readable(self.files, state.number):
            learner.restore(unpack(state.arrays, "learner"))
            in_order = lambda weights: [weights[str(i)] for i in range(len(weights))]
            self.best, self.best_weights = float(state.arrays["score/best"]), in_order(unpack(state.arrays, "best_weights"))
            self.since = int(state.arrays["score/since"])
            waiting = in_order(unpack(state.arrays, "waiting_weights"))
            self.waiting = learned_weights(learner.policy) if self.since == state.number else waiting
            for name, part in self.parts.items():
                part.restore(unpack(state.arrays, name))
            _set_random_states(from_json(state.arrays["random"]))
        self.saved = state.number
        return state.number


class KeepBest(keras.callbacks.Callback):
    """Remembers the weights that measured best on data held out for it, those of the start among them.

    Keras's `EarlyStopping` watches what a step returns; PPO's steps return nothing of data that they do not learn from.

    Args:
        policy: the model that is measured.
        measure: a function without arguments; more is better.
        every: iterations between two measurements; the last iteration is measured too.
    """

    def __init__(self, policy, measure, every):
        super().__init__()
        self.policy, self.measure, self.every, self.best = policy, measure, every, None

    def on_train_begin(self, logs=None):
        if self.best is None:
            self.best, self.weights = self.measure(), learned_weights(self.policy)

    def on_train_batch_end(self, batch, logs=None):
        if int(self.model.iteration.numpy()) % self.every and batch + 1 < self.params["steps"]:
            return
        value = self.measure()
        if value > self.best:
            self.best, self.weights = value, learned_weights(self.policy)

    def put_back(self):
        """Gives the policy the best weights, after `fit` (as far as it came)."""
        if self.best is not None:
            set_learned_weights(self.policy, self.weights)

    def state(self):
        """See `Checkpoint`."""
        return {"score": self.best} | {str(i): weight for i, weight in enumerate(self.weights)}

    def restore(self, state):
        """See `Checkpoint`."""
        self.best, self.weights = float(state["score"]), [state[str(i)] for i in range(len(state) - 1)]


def _random_states():
    """Where Python's and NumPy's own random numbers stand, as plain data: a reward or an environment in Python may draw some."""
    version, words, gauss = random.getstate()
    kind, keys, *rest = np.random.get_state()
    return {"python": [version, list(words), gauss], "numpy": [kind, keys.tolist(), *rest]}


def _set_random_states(states):
    version, words, gauss = states["python"]
    random.setstate((version, tuple(words), gauss))
    np.random.set_state(tuple(states["numpy"]))


class StopOnInterrupt(keras.callbacks.Callback):
    """Ends `fit` after the iteration under way once Ctrl-C was pressed (see `interruptible`)."""

    def __init__(self, interrupt):
        super().__init__()
        self.interrupt = interrupt

    def on_train_batch_end(self, batch, logs=None):
        if any_process(self.interrupt.pressed):  # all stop after the same step; one that is pressed while they agree counts at the next
            self.interrupt.pressed = self.model.stop_training = True


AT_ONCE = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}  # what each does without `interruptible`
if hasattr(signal, "SIGHUP"):  # not on Windows
    AT_ONCE[signal.SIGHUP] = signal.SIG_DFL


class Interrupt:
    """Whether Ctrl-C was pressed."""

    pressed = False

    def check(self):
        """Raises `KeyboardInterrupt` if it was."""
        if self.pressed:
            raise KeyboardInterrupt


@contextlib.contextmanager
def interruptible():
    """Turns the first Ctrl-C, SIGTERM or closed terminal into a request to stop at the iteration's end; the second one stops at once.

    A signal that whoever started the process told it to ignore (`nohup`, a job in the background of a script) stays ignored.
    Python hands signals to the main thread alone: in another one nothing is turned, and training goes on to its end.

    Yields:
        An `Interrupt`.
    """
    interrupt = Interrupt()
    if threading.current_thread() is not threading.main_thread():
        yield interrupt
        return

    def press(number, frame):
        interrupt.pressed = True
        signal.signal(number, AT_ONCE[number])
        again = "press Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
        with contextlib.suppress(OSError, RuntimeError):  # a stream that is gone, or in the middle of another line
            tqdm.write(f"Stopping after this step; {again} again to stop at once.")

    before = {number: signal.signal(number, press) for number in AT_ONCE if signal.getsignal(number) != signal.SIG_IGN}
    try:
        yield interrupt
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
