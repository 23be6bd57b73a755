"""`ppo_keras.tasks.training.fit_and_save`: what a run leaves behind, at once or in parts, with a learner that only counts."""

import csv

import keras
import numpy as np
import pytest
import tensorflow as tf

from helpers import TablePolicy
from ppo_keras import PPO
from ppo_keras.errors import NonFiniteError
from ppo_keras.runs.callbacks import Interrupt, KeepBest
from ppo_keras.runs.folder import Run
from ppo_keras.runs.recording import Recorder
from ppo_keras.tasks.training import fit_and_save


class Counting(PPO):
    """Its policy's weights are the number of iterations done; each iteration is paid what a list says."""

    def __init__(self, scores):
        super().__init__(TablePolicy(name="policy"))
        self.scores = scores
        self.compile(keras.optimizers.SGD(), run_eagerly=True)

    def train_step(self, data):
        score = self.scores[int(self.iteration)]
        self.iteration.assign_add(1)
        self.policy.set_weights([w + 1 for w in self.policy.get_weights()])
        return {"objective/scores": tf.constant(score), "response/length": tf.constant(3.0)}


class Stop(keras.callbacks.Callback):
    """Stops within an iteration, by Ctrl-C (which ends it in order) or by an error (which does not)."""

    def __init__(self, at, error=None):
        super().__init__()
        self.at, self.error = at, error

    def on_train_batch_end(self, batch, logs=None):
        if int(self.model.iteration) == self.at:
            if self.error:
                raise self.error
            self.model.stop_training = True


def train(run, scores, every=2, stop=None, **settings):
    """One process of a run. Returns its learner."""
    learner = Counting(scores)
    further = settings.pop("further", lambda learner: {})(learner) | ({"stop": stop} if stop else {})
    data = lambda done: tf.data.Dataset.from_tensors(0).repeat()
    score = lambda metrics: metrics["objective/scores"]
    finish = settings.pop("finish", lambda learner, further: None)
    fit_and_save(
        learner, run, "after", Interrupt(), Recorder(run, 4), {}, every, len(scores), data, further, score, lambda: finish(learner, further)
    )  # fmt: skip
    return learner


def iterations_of(run):
    """The first column of `metrics.csv`, and the scores."""
    with open(run.folder / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    return [int(row["iteration"]) for row in rows], [float(row["objective/scores"]) for row in rows]


def saved(run, name):
    """The weight of a saved policy: how many iterations it had done."""
    (number,) = np.unique(np.concatenate([w.ravel() for w in keras.models.load_model(run.checkpoint(name), compile=False).get_weights()]))
    return int(number)


SCORES = [1.0, 5.0, 9.0, 4.0, 2.0, 3.0]  # those of the weights after 0, 1, ... iterations


@pytest.fixture
def run(tmp_path):
    return Run.create(tmp_path, "run")


@pytest.mark.parametrize("stop", [None, Stop(3), Stop(5), Stop(4, OSError("the disk is full")), Stop(1, RuntimeError("killed"))])
def test_a_run_in_parts_leaves_what_a_whole_one_does(run, stop):
    """Catches: lines of `metrics.csv` twice, lost or out of order where a run goes on; the last policy under the name of the best, or vice versa."""
    if stop is not None and stop.error:
        with pytest.raises(type(stop.error)):
            train(run, SCORES, stop=stop)
        assert iterations_of(run)[0] == list(range(1, stop.at + 1))  # the last lines are of iterations that no state knows
    elif stop is not None:
        assert int(train(run, SCORES, stop=stop).iteration) == saved(run, "after") == stop.at
    learner = train(run, SCORES)
    assert iterations_of(run) == ([1, 2, 3, 4, 5, 6], SCORES)
    assert (saved(run, "after"), saved(run, "best")) == (6, 2)  # weights after 2 iterations earned 9
    assert np.all(learner.policy.get_weights()[0] == 6)  # what goes on is the last policy


def test_the_last_good_state_is_what_a_broken_run_leaves(run):
    """Catches: weights of the iteration that broke, a best by a score that is not a number, a state from which nothing goes on."""
    with pytest.raises(NonFiniteError, match="objective/scores became nan in step 4"):
        train(run, [1.0, 5.0, 9.0, float("nan"), 2.0])
    assert (saved(run, "after"), saved(run, "best")) == (2, 0)  # those after 2 and 3 iterations had no score in any state


def test_what_measured_best_is_put_back_before_it_is_saved(run):
    """Catches: `finish` left out, or called once the last policy is saved under the name of the one that was kept; a best forgotten by stopping."""
    measure = lambda learner: lambda: -abs(float(learner.policy.get_weights()[0][0, 0]) - 3)  # after 3 iterations it is best
    settings = dict(further=lambda learner: {"keep": KeepBest(learner.policy, measure(learner), 1)}, finish=lambda learner, further: further["keep"].put_back())
    train(run, SCORES, stop=Stop(4), **settings)
    assert saved(run, "after") == 3
    learner = train(run, SCORES, **settings)
    assert saved(run, "after") == 3 and np.all(learner.policy.get_weights()[0] == 3) and iterations_of(run)[0] == [1, 2, 3, 4, 5, 6]
