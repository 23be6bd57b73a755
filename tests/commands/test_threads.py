"""`ppo_keras.commands.quiet`: agents of the command line learn on one thread where that suits them, unless somebody chose otherwise."""

import os
import subprocess
import sys

import pytest
import tensorflow as tf

from ppo_keras.commands import bench, measuring
from ppo_keras.commands.main import main
from ppo_keras.commands.quiet import quiet_start
from ppo_keras.environments.config import AgentConfig, EnvironmentConfig, suits_one_thread
from ppo_keras.tasks import environment, generation


@pytest.fixture
def told(monkeypatch):
    """The numbers of threads that TensorFlow was told; it still can be told."""
    numbers = []
    monkeypatch.delenv("TF_NUM_INTRAOP_THREADS", raising=False)
    monkeypatch.setattr(tf.config.threading, "set_intra_op_parallelism_threads", numbers.append)
    return numbers


@pytest.mark.parametrize("words", ["train cartpole", "train gym:CartPole-v1", "bench cartpole", "bench cartpole --environments 16"])
def test_small_agents_get_one_thread(told, monkeypatch, words):
    """Catches: a loop of kernels that wait for threads longer than they compute."""
    monkeypatch.setattr(environment, "train", lambda *_: told.append("train"))
    monkeypatch.setattr(bench, "bench_cartpole", lambda *_: told.append("train"))
    assert main(words.split()) == 0
    assert told == [1, "train"]  # before anything is computed


@pytest.mark.parametrize("words", ["train cartpole --environments 256", "train cartpole --width 1024", "bench cartpole --environments 256", "train generation"])
def test_large_ones_get_every_core(told, monkeypatch, words):
    """Catches: one thread for products that two compute faster."""
    for owner, name in ((environment, "train"), (generation, "train"), (bench, "bench_cartpole")):
        monkeypatch.setattr(owner, name, lambda *_: None)
    assert main(words.split()) == 0 and told == []


def test_what_the_user_chose_stays(told, monkeypatch):
    """Catches: TF_NUM_INTRAOP_THREADS overruled."""
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", "2")
    with quiet_start() as started:
        started.one_thread = True
    assert told == []


@pytest.mark.parametrize("told_by, variable, expected", [(0, "", 8), (0, "2", 2), (0, "x", 8), (1, "2", 1)])
def test_threads_are_counted(monkeypatch, told_by, variable, expected):
    """Catches: every core said to compute where TensorFlow's variable forbids it, a traceback for one that is no number."""
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", variable)
    monkeypatch.setattr(tf.config.threading, "get_intra_op_parallelism_threads", lambda: told_by)
    monkeypatch.setattr(measuring.os, "cpu_count", lambda: 8)
    assert measuring.threads() == expected


def test_a_tensorflow_that_has_begun_keeps_its_threads(monkeypatch):
    """Catches: a traceback in the second command of one process."""
    monkeypatch.delenv("TF_NUM_INTRAOP_THREADS", raising=False)
    tf.zeros([])
    with quiet_start() as started:
        started.one_thread = True
    assert tf.config.threading.get_intra_op_parallelism_threads() == 0


@pytest.mark.parametrize(
    "model, network, most",
    [
        ("mlp", AgentConfig(width=100, layers=2, shared_trunk=True), 500),
        ("mlp", AgentConfig(width=100, layers=2), 250),
        ("lstm", AgentConfig(width=50, layers=1), 250),
        ("transformer", AgentConfig(width=100, layers=1, memory=150, shared_trunk=True), 67),
    ],
)
def test_multiplications_by_hand(model, network, most):
    """Catches: a network or a layer left out of the count, a cell counted as one matrix. `most` steps make ten million, or nearly."""
    assert suits_one_thread(model, most - 1, network) and not suits_one_thread(model, most, network)


@pytest.mark.parametrize("task, shape", [("cartpole", ()), ("gridworld", ()), ("gym:Pendulum-v1", (3,)), ("gym:Taxi-v4", ())])
def test_what_an_observation_has(task, shape):
    """Catches: an environment of images taken for one of a few numbers, states counted as numbers."""
    pytest.importorskip("gymnasium")
    assert environment.shape_of_observations(task) == shape


def test_large_observations_count():
    """Catches: the layer that reads an image left out: 128 steps of 27,648 numbers into two networks of 64."""
    assert EnvironmentConfig().one_thread((4,)) and not EnvironmentConfig().one_thread((96, 96, 3))
    assert not suits_one_thread("mlp", 500, AgentConfig(width=100, shared_trunk=True), (10, 10)) and suits_one_thread(
        "mlp", 499, AgentConfig(width=100, shared_trunk=True), (10, 10)
    )


def test_a_process_really_has_one_thread(tmp_path):
    """Catches: threads that are set after TensorFlow has begun, when it keeps those that it has and nobody hears of it."""
    code = (
        "import sys; from ppo_keras.commands.main import main; "
        "code = main('train cartpole --environment-steps 512 --evaluation-episodes 1 --no-jit --log-every 0'.split()); "
        "import tensorflow as tf; print('exit code', code, 'threads', tf.config.threading.get_intra_op_parallelism_threads())"
    )
    environment = {name: value for name, value in os.environ.items() if name != "TF_NUM_INTRAOP_THREADS"}
    paths = os.pathsep.join(filter(None, sys.path))
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment | {"PYTHONPATH": paths}, capture_output=True, text=True)
    assert done.stdout.endswith("exit code 0 threads 1\n")


def test_the_steps_are_those_of_a_minibatch():
    """Catches: a whole rollout counted, of which each update computes a part only."""
    ppo = EnvironmentConfig().ppo
    assert EnvironmentConfig(environments=4 * ppo.minibatches, steps=300).one_thread()  # 1,200 steps of 8,192 multiplications
    assert not EnvironmentConfig(environments=5 * ppo.minibatches, steps=300).one_thread()
