"""`ppo_keras.callbacks`: what is recorded is what the model returned; what is saved comes back; stopping stops in time."""

import csv
import signal
import types

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import END, ITERATION_METRICS, PAD, ragged_prompts, random_table, weights_of
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ppo_keras import KLConfig, LanguagePPO, PPOConfig
from ppo_keras import callbacks as package
from ppo_keras.errors import NonFiniteError
from ppo_keras.runs import Run


def tiny_learner():
    """A learner that changes everything it can: policy, reference apart; adaptive KL coefficient; Adam with a schedule."""
    reward = lambda prompts, responses: tf.reduce_sum(responses.mask, axis=1)
    config = PPOConfig(discount=1.0, epochs=1, minibatches=2)
    kl = KLConfig(kl_coefficient=0.1, kl_target=0.01, kl_horizon=20)
    learner = LanguagePPO(random_table(), reward, END, PAD, 4, config, kl, name="learner")
    learner.compile(keras.optimizers.Adam(keras.optimizers.schedules.PolynomialDecay(0.05, 40)), jit_compile=False)
    return learner


def fit(learner, iterations, callbacks=()):
    data = tf.data.Dataset.from_tensors(ragged_prompts((2, 1, 2, 1), 2, vocabulary_size=6)).repeat()
    learner.fit(data, steps_per_epoch=iterations, callbacks=list(callbacks), shuffle=False, verbose=0)


class Seen(keras.callbacks.Callback):
    """Keeps the logs, and the state, of every iteration."""

    def on_train_begin(self, logs=None):
        self.logs, self.states = [], [state_of(self.model)]

    def on_train_batch_end(self, batch, logs=None):
        self.logs.append({name: float(value) for name, value in logs.items()})
        self.states.append(state_of(self.model))


def state_of(learner):
    """Everything that a learner must find again, by name."""
    optimizer = {f"optimizer {i}": np.array(v) for i, v in enumerate(learner.optimizer.variables)}
    policy = {f"policy {i}": w for i, w in enumerate(weights_of(learner.policy))}
    return optimizer | policy | {"kl_coefficient": np.array(learner.kl_coefficient), "iteration": np.array(learner.iteration)}


def changed(one, other):
    """Names of what differs by a single bit."""
    assert one.keys() == other.keys()
    return [name for name in one if one[name].tobytes() != other[name].tobytes()]


def rows_of(run):
    with open(run.folder / "metrics.csv", newline="", encoding="utf-8") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def scalars_of(run):
    """{tag: [(step, value), ...]} of all TensorBoard files of a run."""
    events = EventAccumulator(str(run.folder), size_guidance={"tensors": 0})
    events.Reload()
    return {tag: [(e.step, float(tf.make_ndarray(e.tensor_proto))) for e in events.Tensors(tag)] for tag in events.Tags()["tensors"]}


def test_the_record_is_what_the_model_returned(tmp_path):
    """Catches: a metric of another iteration, rounded, renamed or left out, in the CSV file or in TensorBoard."""
    run, seen = Run.create(tmp_path, "run"), Seen()
    fit(tiny_learner(), 3, [seen, package.Recorder(run, episodes_per_iteration=4)])
    rows, scalars = rows_of(run), scalars_of(run)
    assert [row["iteration"] for row in rows] == [1, 2, 3]
    assert set(rows[0]) == set(scalars) | {"iteration"} == {"iteration", *ITERATION_METRICS}
    assert len({row["loss/total"] for row in rows}) == 3
    for i, (row, logs) in enumerate(zip(rows, seen.logs)):
        assert {name: row[name] for name in logs} == logs
        assert row["time/episodes"] == 4 * (i + 1) and row["time/iteration_seconds"] > 0
        tokens = row["response/length"] * 4
        assert row["time/tokens_per_second"] == pytest.approx(tokens / row["time/iteration_seconds"])
        assert all(scalars[name][i] == (i + 1, pytest.approx(row[name], rel=1e-6)) for name in scalars)


def test_iterations_count_on_where_a_learner_went_before(tmp_path):
    """Catches: an iteration counted from the beginning of each `fit`, so that TensorBoard draws one over the other."""
    run, learner = Run.create(tmp_path, "run"), tiny_learner()
    for _ in range(2):
        fit(learner, 2, [package.Recorder(run, 4)])
    assert [row["iteration"] for row in rows_of(run)] == [1, 2, 3, 4]
    assert [step for step, _ in scalars_of(run)["objective/kl"]] == [1, 2, 3, 4]


def acting(iteration=0):
    """What an `EnvironmentRecorder` reads of its model: 4 environments x 8 steps."""
    return types.SimpleNamespace(environments=4, steps=8, iteration=tf.Variable(iteration))


def test_the_pace_of_an_agent_by_hand(tmp_path, monkeypatch):
    """Catches: the seconds of a call given as those of an iteration, steps of one environment or of one iteration, the pace since the beginning."""
    run, recorder, clock = Run.create(tmp_path, "run"), package.EnvironmentRecorder(Run(tmp_path / "run")), iter([10.0, 12.0, 20.0, 24.0])
    monkeypatch.setattr(package, "time", types.SimpleNamespace(perf_counter=lambda: next(clock)))
    recorder.set_model(acting())
    recorder.on_train_begin()
    episodes = [{"episode/return": 1.5, "episode/length": 7.0, "episode/count": 3.0}, {"episode/return": 2.5, "episode/length": 9.0, "episode/count": 0.0}]  # the last known
    for call, (iterations, logs) in enumerate(zip((5, 2), episodes)):  # iterations in one call
        recorder.on_train_batch_begin(call)
        recorder.model.iteration.assign_add(iterations)
        recorder.on_train_batch_end(call, {name: np.float32(value) for name, value in logs.items()})
    recorder.on_train_end()
    pace = [
        {"time/environment_steps": 160.0, "time/iteration_seconds": 2 / 5, "time/steps_per_second": 5 * 32 / 2},
        {"time/environment_steps": 224.0, "time/iteration_seconds": 4 / 2, "time/steps_per_second": 2 * 32 / 4},
    ]
    rows = [{"iteration": iteration} | logs | figures for iteration, logs, figures in zip((5, 7), episodes, pace)]
    assert rows_of(run) == [pytest.approx(row) for row in rows]
    assert recorder.curve == [(160, 1.5, 7.0, 3.0), (224, 2.5, 9.0, 0.0)] and recorder.seconds == [2.0, 4.0]
    assert scalars_of(run) == {name: [(steps, pytest.approx(row[name])) for steps, row in zip((160, 224), rows)] for name in rows[0] if name != "iteration"}


def test_episodes_are_recorded_from_the_first_end_on(tmp_path):
    """Catches: a return of 0 in the curve before any episode has ended, or none in a call in which by chance none ended."""
    run = Run.create(tmp_path, "run")
    recorder = package.EnvironmentRecorder(run)
    recorder.set_model(acting())
    recorder.on_train_begin()
    for call, count in enumerate((0.0, 2.0, 0.0)):
        recorder.on_train_batch_begin(call)
        recorder.model.iteration.assign_add(1)
        recorder.on_train_batch_end(call, {"episode/return": -5.0 * (call > 0), "episode/length": 3.0 * (call > 0), "episode/count": count})
    recorder.on_train_end()
    with open(run.folder / "metrics.csv", newline="", encoding="utf-8") as file:
        rows = [(row["episode/return"], row["episode/length"], row["episode/count"]) for row in csv.DictReader(file)]
    assert rows == [("", "", "0.0"), ("-5.0", "3.0", "2.0"), ("-5.0", "3.0", "0.0")]
    assert scalars_of(run)["episode/return"] == [(64, -5.0), (96, -5.0)] and len(scalars_of(run)["episode/count"]) == 3


def test_the_pace_of_an_agent_that_went_on_before(tmp_path):
    """Catches: iterations of an earlier `fit` counted into the first call of this one, which then looks many times as fast."""
    recorder = package.EnvironmentRecorder(Run.create(tmp_path, "run"))
    recorder.set_model(acting(iteration=10))
    recorder.on_train_begin()
    pace = recorder.pace(12, {"episode/return": 0.0, "episode/length": 0.0, "episode/count": 0.0}, 4.0)
    recorder.on_train_end()
    assert pace == {"time/environment_steps": 12 * 32.0, "time/iteration_seconds": 2.0, "time/steps_per_second": 16.0}


def test_supervised_epochs_are_recorded_by_stage(tmp_path):
    """Catches: two stages under one tag, an epoch counted from 0, validation under Keras's own name, tags that no glossary explains."""
    run = Run.create(tmp_path, "run")
    recorder = package.SupervisedRecorder(run, "judge")
    recorder.on_train_begin()
    unexplained = {"accuracy": 0.9, "cross_entropy": 0.9, "val_loss": 0.9}  # of training batches; Keras's mean of batch means
    recorder.on_epoch_end(0, {"loss": 0.5, "val_cross_entropy": 0.75, "val_accuracy": 0.25, **unexplained})
    recorder.on_epoch_end(1, {"loss": 0.25, "val_cross_entropy": 0.5, "val_accuracy": 0.5, **unexplained})
    recorder.on_train_end()
    assert scalars_of(run) == {
        "judge/loss": [(1, 0.5), (2, 0.25)],
        "judge/validation_cross_entropy": [(1, 0.75), (2, 0.5)],
        "judge/validation_accuracy": [(1, 0.25), (2, 0.5)],
    }


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), np.float32("nan")])
def test_a_value_that_is_not_finite_is_named(value):
    """Catches: an infinite loss let through, the wrong metric or step named, advice that is not the stage's own."""
    stop = package.StopOnNonFinite("Try less.")
    with pytest.raises(NonFiniteError, match=r"^loss/value became -?(nan|inf) in step 7\. Try less\.$"):
        stop.on_train_batch_end(6, {"loss/policy": 1e30, "loss/value": value, "value/mean": value})
    stop.on_train_batch_end(6, {"loss/policy": 1e30, "value/mean": -0.0})


def test_a_bad_state_is_never_saved(tmp_path):
    """Catches: a checkpoint of the iteration that broke, and a recovery that does not go back to the one before."""
    learner, seen, checkpoint = tiny_learner(), Seen(), package.Checkpoint(str(tmp_path), every=1)

    class Break(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 2:
                self.model.policy.table.assign(np.full([6, 6], np.nan))
                logs["loss/total"] = float("nan")

    with pytest.raises(NonFiniteError, match="loss/total became nan in step 3"):
        fit(learner, 5, [seen, Break(), package.StopOnNonFinite("Try less."), checkpoint])
    assert checkpoint.manager.latest_checkpoint.endswith("training-2")
    checkpoint.restore_last()
    assert changed(state_of(learner), seen.states[2]) == []


def test_two_checkpoints_are_kept(tmp_path):
    """Catches: a disk that fills with checkpoints, a state at the end that is not saved, a number that is no iteration."""
    fit(tiny_learner(), 5, [package.Checkpoint(str(tmp_path), every=2)])
    assert {path.name.split(".")[0] for path in tmp_path.glob("training-*")} == {"training-4", "training-5"}


def test_restoring_brings_back_every_bit(tmp_path):
    """Catches: Adam's moments, its step, the KL coefficient or the iteration left out of a checkpoint."""
    learner, seen, checkpoint = tiny_learner(), Seen(), package.Checkpoint(str(tmp_path), every=10)
    fit(learner, 3, [seen, checkpoint])
    untouched = {"optimizer 1"}  # the learning rate, where it is a variable
    assert {name for name in seen.states[0] if name not in changed(seen.states[0], seen.states[3])} <= untouched
    fit(learner, 2)
    later = state_of(learner)
    assert changed(later, seen.states[3])
    checkpoint.restore_last()
    assert changed(state_of(learner), seen.states[3]) == []
    fit(learner, 2)
    assert changed(state_of(learner), later) == []  # the same draws, the same updates


def test_a_fresh_learner_continues_from_the_file(tmp_path):
    """Catches: a checkpoint that only the process that wrote it can read."""
    seen = Seen()
    fit(tiny_learner(), 2, [seen, package.Checkpoint(str(tmp_path), every=10)])
    fresh = tiny_learner()
    fresh.policy.table.assign_add(tf.ones([6, 6]))
    tf.train.Checkpoint(learner=fresh).restore(tf.train.latest_checkpoint(str(tmp_path))).assert_existing_objects_matched()
    assert changed(state_of(fresh), seen.states[2]) == []


def test_one_ctrl_c_ends_fit_after_the_iteration():
    """Catches: an iteration cut in two, or iterations after the one under way."""
    seen, handler = Seen(), signal.getsignal(signal.SIGINT)

    class Press(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            if batch == 1:
                signal.raise_signal(signal.SIGINT)

    with package.interruptible() as interrupt:
        interrupt.check()
        fit(tiny_learner(), 5, [seen, Press(), package.StopOnInterrupt(interrupt)])
        assert interrupt.pressed and len(seen.logs) == 2
        with pytest.raises(KeyboardInterrupt):
            interrupt.check()
    assert signal.getsignal(signal.SIGINT) is handler


def test_the_second_ctrl_c_stops_at_once():
    """Catches: a training that hangs and cannot be stopped, and a handler that stays after it."""
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), package.interruptible():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        pytest.fail("the second Ctrl-C did nothing")
    assert signal.getsignal(signal.SIGINT) is handler


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
    keeper.on_train_begin()
    for batch in range(2):
        model.set_weights([np.full([1, 1], batch + 1.0)])
        keeper.on_train_batch_end(batch)
    keeper.on_train_end()
    assert model.get_weights()[0].item() == kept
