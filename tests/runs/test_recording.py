"""`ppo_keras.runs.recording`: what is recorded is what the model returned."""

import csv
import types

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from helpers import ITERATION_METRICS, fit_iterations, tiny_learner
from ppo_keras.runs import recording
from ppo_keras.runs.folder import Run


class Seen(keras.callbacks.Callback):
    """Keeps the logs of every iteration."""

    def on_train_begin(self, logs=None):
        self.logs = []

    def on_train_batch_end(self, batch, logs=None):
        self.logs.append({name: float(value) for name, value in logs.items()})


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
    fit_iterations(tiny_learner(), 3, [seen, recording.Recorder(run, episodes_per_iteration=4)])
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
        fit_iterations(learner, 2, [recording.Recorder(run, 4)])
    assert [row["iteration"] for row in rows_of(run)] == [1, 2, 3, 4]
    assert [step for step, _ in scalars_of(run)["objective/kl"]] == [1, 2, 3, 4]


def acting(iteration=0):
    """What an `EnvironmentRecorder` reads of its model: 4 environments x 8 steps."""
    return types.SimpleNamespace(environments=4, steps=8, iteration=tf.Variable(iteration))


def test_the_pace_of_an_agent_by_hand(tmp_path, monkeypatch):
    """Catches: the seconds of a call given as those of an iteration, steps of one environment or of one iteration, the pace since the beginning."""
    run, recorder, clock = Run.create(tmp_path, "run"), recording.EnvironmentRecorder(Run(tmp_path / "run")), iter([10.0, 12.0, 20.0, 24.0])
    monkeypatch.setattr(recording, "time", types.SimpleNamespace(perf_counter=lambda: next(clock)))
    recorder.set_model(acting())
    recorder.on_train_begin()
    episodes = [
        {"episode/return": 1.5, "episode/length": 7.0, "episode/count": 3.0},
        {"episode/return": 2.5, "episode/length": 9.0, "episode/count": 0.0},
    ]  # the last known
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
    recorder = recording.EnvironmentRecorder(run)
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
    recorder = recording.EnvironmentRecorder(Run.create(tmp_path, "run"))
    recorder.set_model(acting(iteration=10))
    recorder.on_train_begin()
    pace = recorder.pace(12, {"episode/return": 0.0, "episode/length": 0.0, "episode/count": 0.0}, 4.0)
    recorder.on_train_end()
    assert pace == {"time/environment_steps": 12 * 32.0, "time/iteration_seconds": 2.0, "time/steps_per_second": 16.0}


def test_supervised_epochs_are_recorded_by_stage(tmp_path):
    """Catches: two stages under one tag, an epoch counted from 0, validation under Keras's own name, tags that no glossary explains."""
    run = Run.create(tmp_path, "run")
    recorder = recording.SupervisedRecorder(run, "judge")
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
