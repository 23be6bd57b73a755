"""`ppo_keras.commands.quiet`: agents of the command line learn on one thread where that suits them, unless somebody chose otherwise."""

import pytest
import tensorflow as tf

from ppo_keras.commands import bench
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


@pytest.mark.parametrize("words", ["train cartpole", "train gym:CartPole-v1", "bench cartpole"])
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
    with quiet_start(one_thread=True):
        pass
    assert told == []


def test_a_tensorflow_that_has_begun_keeps_its_threads(monkeypatch):
    """Catches: a traceback in the second command of one process."""
    monkeypatch.delenv("TF_NUM_INTRAOP_THREADS", raising=False)
    tf.zeros([])
    with quiet_start(one_thread=True):
        pass
    assert tf.config.threading.get_intra_op_parallelism_threads() == 0


@pytest.mark.parametrize(
    "model, network, most",
    [
        ("mlp", AgentConfig(width=100, layers=2, shared_trunk=True), 500),
        ("mlp", AgentConfig(width=100, layers=2), 250),
        ("lstm", AgentConfig(width=50, layers=1), 250),
        ("transformer", AgentConfig(width=100, layers=1, shared_trunk=True), 84),
    ],
)
def test_multiplications_by_hand(model, network, most):
    """Catches: a network or a layer left out of the count, a cell counted as one matrix. `most` steps make ten million, or nearly."""
    assert suits_one_thread(model, most - 1, network) and not suits_one_thread(model, most, network)


def test_the_steps_are_those_of_a_minibatch():
    """Catches: a whole rollout counted, of which each update computes a part only."""
    ppo = EnvironmentConfig().ppo
    assert EnvironmentConfig(environments=4 * ppo.minibatches, steps=300).one_thread  # 1,200 steps of 8,192 multiplications
    assert not EnvironmentConfig(environments=5 * ppo.minibatches, steps=300).one_thread
