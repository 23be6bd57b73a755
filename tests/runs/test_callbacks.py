"""`ppo_keras.runs.callbacks`: what is saved comes back; stopping stops in time; bars show what goes on."""

import signal
import threading

import keras
import numpy as np
import pytest
import tensorflow as tf

from helpers import fit_iterations, state_of, tiny_learner
from ppo_keras.checkpoints import StateFiles
from ppo_keras.errors import NonFiniteError
from ppo_keras.runs import callbacks as package


class Seen(keras.callbacks.Callback):
    """Keeps the logs, and the state, of every iteration."""

    def on_train_begin(self, logs=None):
        self.logs, self.states = [], [state_of(self.model)]

    def on_train_batch_end(self, batch, logs=None):
        self.logs.append({name: float(value) for name, value in logs.items()})
        self.states.append(state_of(self.model))


def changed(one, other):
    """Names of what differs by a single bit."""
    assert one.keys() == other.keys()
    return [name for name in one if one[name].tobytes() != other[name].tobytes()]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), np.float32("nan")])
def test_a_value_that_is_not_finite_is_named(value):
    """Catches: an infinite loss let through, the wrong metric or step named, advice that is not the stage's own."""
    stop = package.StopOnNonFinite("Try less.")
    with pytest.raises(NonFiniteError, match=r"^loss/value became -?(nan|inf) in step 7\. Try less\.$"):
        stop.on_train_batch_end(6, {"loss/policy": 1e30, "loss/value": value, "value/mean": value})
    stop.on_train_batch_end(6, {"loss/policy": 1e30, "value/mean": -0.0})


@pytest.fixture
def files(tmp_path):
    return StateFiles(tmp_path, "training")


def test_a_bad_state_is_never_saved(files):
    """Catches: a state of the iteration that broke, and a recovery that does not go back to the one before."""
    learner, seen, checkpoint = tiny_learner(), Seen(), package.Checkpoint(files, every=1)

    class Break(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 2:
                self.model.policy.table.assign(np.full([6, 6], np.nan))
                logs["loss/total"] = float("nan")

    with pytest.raises(NonFiniteError, match="loss/total became nan in step 3"):
        fit_iterations(learner, 5, [seen, Break(), package.StopOnNonFinite("Try less."), checkpoint])
    assert files.numbers()[0] == 2 and checkpoint.restore_last(learner) == 2
    assert changed(state_of(learner), seen.states[2]) == []


def test_where_training_is_told_to_stop_a_state_is_saved(files):
    """Catches: the iterations since the last state lost to Ctrl-C, and weights taken for the best at an iteration that by chance was the last."""

    class Stop(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            self.model.stop_training = batch == 2

    checkpoint = package.Checkpoint(files, 2, score=lambda logs: 1.0)
    fit_iterations(tiny_learner(), 8, [Stop(), checkpoint])
    assert files.numbers() == [3, 2] and checkpoint.waiting == []


def test_the_best_weights_are_kept(files):
    """Catches: weights of the iteration after, whose score is not theirs, of a score not known or only as good; a best forgotten by resuming."""
    scores, seen, learner = iter([None, 2.0, 1.0, 2.0]), Seen(), tiny_learner()
    first, again = package.Checkpoint(files, 1, score=lambda logs: next(scores)), package.Checkpoint(files, 1)
    fit_iterations(learner, 4, [seen, first])
    again.restore_last(learner)
    for checkpoint in (first, again):  # iteration 2 acted with the weights after iteration 1; those after the last wait
        assert checkpoint.best == 2.0 and np.array_equal(checkpoint.best_weights[0], seen.states[1]["policy 0"])
        assert np.array_equal(checkpoint.waiting[0], seen.states[4]["policy 0"])


class Counting:
    """In place of a learner: its policy's only weight is the number of iterations done."""

    stop_training = False

    def __init__(self):
        self.iteration, self.policy = tf.Variable(0), self

    @property
    def weights(self):
        return [self.iteration]

    def state(self):
        return {"iteration": self.iteration.numpy()}

    def restore(self, state):
        self.iteration.assign(state["iteration"])


def iterate(files, every, scores, parts=(), steps=None):
    """A `Checkpoint` through iterations with these scores; stopped by hand after each of the `parts`, and then gone on with by another process."""
    steps = steps or len(scores)
    for stop in (*parts, steps):
        model = Counting()
        checkpoint = package.Checkpoint(files, every, score=lambda logs: logs["score"])
        checkpoint.set_model(model)
        done = checkpoint.restore_last(model) or 0
        checkpoint.set_params({"steps": steps - done})
        checkpoint.on_train_begin()
        for batch in range(stop - done):
            model.iteration.assign_add(1)
            model.stop_training = done + batch + 1 == stop < steps
            checkpoint.on_train_batch_end(batch, {"score": scores[done + batch]})
    return checkpoint


@pytest.mark.parametrize("iterations, parts, numbers", [(5, [], [5, 4]), (5, [3], [5, 4]), (5, [1, 3, 4], [5, 4]), (4, [], [4, 2]), (1, [], [1, 0])])
def test_states_are_of_every_few_iterations_and_of_the_last(files, iterations, parts, numbers):
    """Catches: the state before training, or after it, left out; a rhythm that counts the steps of one `fit`."""
    iterate(files, 2, [None] * iterations, parts)
    assert files.numbers() == numbers


@pytest.mark.parametrize("scores, every, best", [
    ([1.0, 3.0, 3.0, 0.0], 1, 1),  # the score of iteration 2 is that of the weights after iteration 1
    ([5.0, 3.0, 2.0, 0.0], 1, 0),  # the start was best
    ([1.0, 2.0, 3.0, 9.0], 1, 3),  # the last but one; those after the last are scored by nobody
    ([1.0, 9.0, 9.0, 3.0, 2.0, 2.0], 3, 3),  # of those that no state holds nothing is kept
    ([1.0, 0.0, 0.0, 0.0, 2.0], 9, 4),  # a short run: the last but one
    ([1.0, None, None, None, 7.0, 2.0, 8.0, 5.0], 3, 6),
    ([1.0, None, None, None, 9.0, 2.0, 8.0, 5.0], 3, 3),  # the first score afterwards
    ([None, None, None], 1, None),
])  # fmt: skip
def test_weights_are_paired_with_what_they_earned(tmp_path, scores, every, best):
    """Catches: a score given to the weights that it made, a score twice, and a best that depends on where a run was stopped (weights that wait are lost)."""
    expected = [] if best is None else [best]
    assert iterate(StateFiles(tmp_path, "whole"), every, scores).best_weights == expected
    for stop in range(1, len(scores)):
        assert iterate(StateFiles(tmp_path, f"stopped-{stop}"), every, scores, parts=[stop]).best_weights == expected
    assert iterate(StateFiles(tmp_path, "often"), every, scores, parts=range(1, len(scores))).best_weights == expected


def test_without_a_score_no_weights_are_copied(files):
    """Catches: a copy of the policy with every state of a task that has no best, and an error where the number of steps is not known."""
    checkpoint = package.Checkpoint(files, 1)
    checkpoint.set_model(Counting())
    checkpoint.set_params({"steps": None})
    checkpoint.on_train_begin()
    checkpoint.on_train_batch_end(0, {})
    assert checkpoint.waiting == [] and not [name for name in files.read().arrays if "weights" in name]


def test_training_goes_on_bit_by_bit(files):
    """Catches: Adam's moments or its step, the KL coefficient, the iteration or a part left out of a state: the end would differ."""

    class Counter(keras.callbacks.Callback):
        count = 0

        def on_train_batch_end(self, batch, logs=None):
            self.count += 1

        def state(self):
            return {"count": self.count}

        def restore(self, state):
            self.count = int(state["count"])

    learner, seen, counter = tiny_learner(), Seen(), Counter()
    fit_iterations(learner, 3, [seen, counter, package.Checkpoint(files, 10, {"counter": counter})])
    untouched = {"optimizer 1"}  # the learning rate, where it is a variable
    assert {name for name in seen.states[0] if name not in changed(seen.states[0], seen.states[3])} <= untouched
    fit_iterations(learner, 2)
    other, again = tiny_learner(), Counter()
    other.policy.table.assign_add(tf.ones([6, 6]))
    checkpoint = package.Checkpoint(files, 10, {"counter": again})
    assert checkpoint.restore_last(other) == 3 and again.count == 3
    assert changed(state_of(other), seen.states[3]) == []
    fit_iterations(other, 2)
    assert changed(state_of(other), state_of(learner)) == []


def test_nothing_saved_changes_nothing(files):
    """Catches: an error where a run begins."""
    learner = tiny_learner()
    before = state_of(learner)
    assert package.Checkpoint(files, 1).restore_last(learner) is None and changed(state_of(learner), before) == []


def test_nothing_measured_puts_nothing_back():
    """Catches: an error of its own that hides the one for which `fit` never began."""
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    package.KeepBest(model, lambda: 1.0, 1).put_back()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_one_ctrl_c_ends_fit_after_the_iteration(number):
    """Catches: an iteration cut in two, or iterations after the one under way; a kill by a job queue that is not heeded."""
    seen, handler = Seen(), signal.getsignal(number)

    class Press(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            if batch == 1:
                signal.raise_signal(number)

    with package.interruptible() as interrupt:
        interrupt.check()
        fit_iterations(tiny_learner(), 5, [seen, Press(), package.StopOnInterrupt(interrupt)])
        assert interrupt.pressed and len(seen.logs) == 2
        with pytest.raises(KeyboardInterrupt):
            interrupt.check()
    assert signal.getsignal(number) is handler


def test_the_second_ctrl_c_stops_at_once():
    """Catches: a training that hangs and cannot be stopped, and a handler that stays after it."""
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), package.interruptible():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        pytest.fail("the second Ctrl-C did nothing")
    assert signal.getsignal(signal.SIGINT) is handler


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="Windows has no SIGHUP")
def test_a_terminal_that_closes_is_heeded():
    """Catches: hours since the last state lost to a connection that broke."""
    handler = signal.getsignal(signal.SIGHUP)
    with package.interruptible() as interrupt:
        signal.raise_signal(signal.SIGHUP)
        assert interrupt.pressed and signal.getsignal(signal.SIGHUP) == signal.SIG_DFL  # the second one stops at once
    assert signal.getsignal(signal.SIGHUP) is handler


@pytest.mark.parametrize("number", list(package.AT_ONCE))
def test_a_signal_that_is_ignored_stays_ignored(number):
    """Catches: `nohup`, or a job in the background of a script, that is stopped by what it was told not to hear."""
    handler = signal.signal(number, signal.SIG_IGN)
    try:
        with package.interruptible() as interrupt:
            signal.raise_signal(number)
            assert not interrupt.pressed
        assert signal.getsignal(number) == signal.SIG_IGN
    finally:
        signal.signal(number, handler)


def test_outside_the_main_thread_nothing_is_turned():
    """Catches: "signal only works in main thread of the main interpreter" where a server or a GUI trains."""
    found, handler = [], signal.getsignal(signal.SIGINT)

    def work():
        with package.interruptible() as interrupt:
            interrupt.check()
            found.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [handler]


@pytest.mark.parametrize("error", [BrokenPipeError(), RuntimeError("reentrant call inside <_io.BufferedWriter name='<stdout>'>")])
def test_a_note_that_cannot_be_shown_stops_nothing(monkeypatch, error):
    """Catches: a Ctrl-C in the middle of a line, or behind a pipe that ended, that breaks the iteration instead of ending after it."""

    def fail(*_, **__):
        raise error

    monkeypatch.setattr(package.tqdm, "write", fail)
    with package.interruptible() as interrupt:
        signal.raise_signal(signal.SIGINT)
        assert interrupt.pressed


def test_the_bar_counts_steps_and_shows_metrics(capsys):
    """Catches: a bar that begins anew every epoch, a label without its number, a bar that stays open."""
    progress = package.Progress("writer", {"loss": "loss", "val_cross_entropy": "validation", "absent": "absent"})
    progress.set_params({"steps": 3, "epochs": 2})
    progress.on_train_begin()
    for epoch in range(2):
        for step in range(3):
            progress.on_train_batch_end(step, {"loss": 0.12345})
        progress.on_epoch_end(epoch, {"loss": 0.12345, "val_cross_entropy": 2.0})
    assert (progress.bar.n, progress.bar.total) == (6, 6)
    progress.on_train_end()
    shown = capsys.readouterr().err
    assert "writer" in shown and "loss=0.123" in shown and "validation=2" in shown and "absent" not in shown
    assert shown.endswith("\n")


def test_a_bar_ends_its_line_once_where_training_raises(capsys):
    """Catches: an error message glued to a bar that was never closed, or a bar drawn again by its second closing."""
    with pytest.raises(NonFiniteError), package.Progress("writer", {}) as progress:
        progress.set_params({"steps": 3, "epochs": 1})
        progress.on_train_begin()
        progress.on_train_batch_end(0, {})
        raise NonFiniteError
    shown = capsys.readouterr().err
    assert shown.endswith("\n") and shown.count("\n") == 1
    progress.on_train_end()
    assert capsys.readouterr().err == ""
    with pytest.raises(KeyboardInterrupt), package.Progress("writer", {}):  # before there is a bar
        raise KeyboardInterrupt
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("values, every, kept", [
    ([1.0, 3.0, 2.0], 1, 1),  # the best in the middle
    ([5.0, 3.0, 2.0], 1, 0),  # the start was best
    ([1.0, 3.0], 3, 2),  # measured at the start, and once more at the end
    ([1.0, 1.0, 1.0], 1, 0),  # no better is no reason to change
])  # fmt: skip
def test_the_best_measured_weights_are_kept(values, every, kept):
    """Catches: the last weights, weights that were never measured, the least for the most, an end that is not looked at."""
    model = keras.Sequential([keras.layers.Input((1,)), keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")])
    answers = iter(values)
    keeper = package.KeepBest(model, lambda: next(answers), every)
    model.iteration = tf.Variable(0)
    keeper.set_model(model)
    keeper.set_params({"steps": 2})
    keeper.on_train_begin()
    for batch in range(2):
        model.set_weights([np.full([1, 1], batch + 1.0)])
        model.iteration.assign_add(1)
        keeper.on_train_batch_end(batch)
        resumed = package.KeepBest(model, lambda: next(answers), every)
        resumed.set_model(model)
        resumed.set_params({"steps": 2})
        resumed.restore({name: np.array(value) for name, value in keeper.state().items()})
        resumed.on_train_begin()  # measures nothing: what it measured before counts
        keeper = resumed
    keeper.put_back()
    assert model.get_weights()[0].item() == kept
