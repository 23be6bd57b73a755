"""`ppo_keras.cluster`: which processes train a run together, and what becomes of all when one of them is gone."""

import csv
import json
import os
import signal
import socket
import subprocess
import sys
import time
import types

import numpy as np
import pytest
import tensorflow as tf

from helpers import tiny_policy
from ppo_keras import LanguagePPO, Prompts, PythonReward, cluster
from ppo_keras.cluster import Cluster, find_cluster
from ppo_keras.commands.parser import parse
from ppo_keras.config import DeviceConfig
from ppo_keras.devices import WHOLE
from ppo_keras.environments.config import EnvironmentConfig
from ppo_keras.errors import InputError
from ppo_keras.language import ppo as language_ppo
from ppo_keras.runs import callbacks
from ppo_keras.tasks.environment import train

TRAINING = ["train", "cartpole", "--run", "shared", "--environment-steps", "6144", "--iterations-per-call", "1", "--checkpoint-every", "2"]
TRAINING += ["--evaluation-episodes", "2", "--no-jit"]


def tf_config(jobs, kind="worker", index=0):
    return json.dumps({"cluster": jobs, "task": {"type": kind, "index": index}})


@pytest.fixture(autouse=True)
def no_cluster(monkeypatch):
    """Whatever surrounds the tests is no cluster."""
    for name in ("TF_CONFIG", "SLURM_STEP_NUM_TASKS"):
        monkeypatch.delenv(name, raising=False)


def test_one_process_is_no_cluster(monkeypatch):
    """Catches: a run that waits for others that nobody named."""
    assert find_cluster(DeviceConfig()) == Cluster() and not Cluster().several and Cluster().share is WHOLE
    monkeypatch.setenv("TF_CONFIG", "{}")
    assert find_cluster(DeviceConfig()) == Cluster()
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "1")
    monkeypatch.delenv("TF_CONFIG")
    assert find_cluster(DeviceConfig()) == Cluster()


def test_workers_by_every_way(monkeypatch):
    """Catches: a chief that is counted among the workers, an index that counts within its kind, Slurm's variables unread."""
    expected = Cluster(("a:1", "b:2", "c:3"), 2)
    assert find_cluster(DeviceConfig(workers="a:1, b:2,c:3", worker_index=2)) == expected
    monkeypatch.setenv("TF_CONFIG", tf_config({"worker": ["a:1", "b:2", "c:3"]}, index=2))
    assert find_cluster(DeviceConfig()) == expected
    monkeypatch.setenv("TF_CONFIG", tf_config({"chief": ["a:1"], "worker": ["b:2", "c:3"]}, index=1))
    assert find_cluster(DeviceConfig()) == expected
    monkeypatch.setenv("TF_CONFIG", tf_config({"chief": ["a:1"], "worker": ["b:2", "c:3"]}, "chief"))
    assert find_cluster(DeviceConfig()).is_chief
    monkeypatch.delenv("TF_CONFIG")
    for name, value in (("STEP_NUM_TASKS", "3"), ("PROCID", "2"), ("STEP_NODELIST", "n[1-2]"), ("STEP_TASKS_PER_NODE", "2,1")):
        monkeypatch.setenv(f"SLURM_{name}", value)
    assert find_cluster(DeviceConfig()) == Cluster(("n1:8888", "n1:8889", "n2:8888"), 2)


@pytest.mark.parametrize(
    "settings, variable, said",
    [
        (dict(workers="a:1,b:2"), None, "--workers was given without --worker-index"),
        (dict(workers="a:1,b:2", worker_index=2), None, "names 2 workers, but this is to be number 2. Count from 0 to 1"),
        (dict(workers="a:1,b:2", worker_index=-1), None, "this is to be number -1"),
        (dict(workers="a:1,a:1", worker_index=0), None, "names a:1 twice"),
        (dict(workers="a:1,b", worker_index=0), None, "names 'b', which is no address"),
        (dict(workers="a:1,b:99999", worker_index=0), None, "which is no address"),
        (dict(workers="", worker_index=0), None, "names '', which is no address"),
        ({}, "{", "TF_CONFIG cannot be read"),
        ({}, '{"cluster": {"worker": ["a:1", "b:2"]}}', "TF_CONFIG cannot be read"),
        ({}, tf_config({"chief": ["a:1", "b:2"], "worker": ["c:3"]}), "names 2 chiefs, but one process writes the run"),
        ({}, tf_config({"ps": ["a:1"], "worker": ["c:3"]}), "tasks of the kind ps"),
        ({}, tf_config({"worker": ["a:1", "b:2"]}, "chief"), "is of the kind 'chief', of which it names none"),
        ({}, tf_config({"chief": ["a:1"], "worker": ["b:2"]}, index=-1), "names 1 of the kind 'worker', but this is to be number -1"),
        ({}, tf_config({"chief": ["a:1"], "worker": ["b:2"]}, "chief", 1), "names 1 of the kind 'chief', but this is to be number 1"),
        ({}, tf_config({"worker": [1, 2]}), "names '1', which is no address"),
        ({}, tf_config({"worker": ["a:1", "b:2"]}, index=5), "this is to be number 5"),
    ],
)
def test_what_is_no_cluster_is_named(monkeypatch, settings, variable, said):
    """Catches: a process that takes another's place, or waits for one that is not there."""
    if variable is not None:
        monkeypatch.setenv("TF_CONFIG", variable)
    with pytest.raises(InputError, match=said):
        find_cluster(DeviceConfig(**settings))


@pytest.mark.parametrize(
    "settings, said",
    [
        (dict(devices="two"), "devices='two' names no devices"),
        (dict(devices="cpu:0"), "devices='cpu:0' names no devices"),
        (dict(devices="0"), "devices='0' names no devices"),
        (dict(worker_index=1), "worker_index=1 goes with --workers"),
        (dict(worker_timeout=0.0), "worker_timeout=0.0 is outside"),
        (dict(worker_timeout=float("inf")), "worker_timeout=inf is outside"),
    ],
)
def test_settings_that_name_no_devices(settings, said):
    """Catches: a setting that is found wrong only when others wait."""
    with pytest.raises(InputError, match=said):
        DeviceConfig(**settings)


@pytest.mark.parametrize("task", ["generation", "classification", "cartpole", "gridworld"])
def test_options_reach_the_settings(task):
    """Catches: a task that cannot be shared."""
    options = ["--devices", "auto", "--workers", "a:1,b:2", "--worker-index", "1", "--worker-timeout", "7"]
    assert parse(["train", task, *options]).config.sharing == DeviceConfig("auto", "a:1,b:2", 1, 7.0)


def test_devices_that_are_not_here():
    """Catches: fewer devices than were asked for, without a word; parts of a processor that TensorFlow has begun to use whole."""
    with pytest.raises(InputError, match=r"devices=7, but TensorFlow finds .* Use .*, or cpu:7"):
        cluster.start(DeviceConfig(devices="7"))
    tf.zeros([])
    with pytest.raises(InputError, match="TensorFlow has begun to compute, so its devices can no longer be chosen"):
        cluster.start(DeviceConfig(devices="cpu:2"))
    assert cluster.start(DeviceConfig(devices="auto")) is None or cluster.start(DeviceConfig(devices="auto")).num_replicas_in_sync > 1


def two_free_ports():
    sockets = [socket.socket() for _ in range(2)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def begin(folder, number, ports, *arguments, **settings):
    """A worker of a run in a process of its own."""
    workers = ",".join(f"127.0.0.1:{port}" for port in ports)
    command = [sys.executable, "-m", "ppo_keras", *TRAINING, *arguments, "--workers", workers, "--worker-index", str(number)]
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "TMPDIR": str(folder.parent)} | settings  # who is killed leaves his own place behind
    return subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def both(folder, *arguments):
    """Both workers of a run to their ends: [(exit code, standard output, standard error)]."""
    ports = two_free_ports()
    workers = [begin(folder, number, ports, *arguments) for number in range(2)]
    return [(worker.wait(timeout=200), *worker.communicate()) for worker in workers]


def metrics(folder):
    with open(folder / "runs" / "shared" / "metrics.csv", newline="") as file:
        return [{name: value for name, value in row.items() if not name.startswith("time/")} for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a run that two processes trained, and how they ended."""
    folder = tmp_path_factory.mktemp("trained")
    return folder, both(folder)


def test_two_processes_train_one_run(trained, tmp_path):
    """Catches: two runs in place of one, a worker that writes into the run folder or prints what the chief prints, other numbers than one process has."""
    folder, (chief, worker) = trained
    assert chief[0] == worker[0] == 0, chief[2] + worker[2]
    assert [path.name for path in folder.iterdir()] == ["runs"] and [path.name for path in (folder / "runs").iterdir()] == ["shared"]
    assert "Run folder: runs/shared" in chief[1]
    assert [line.split("127.0.0.1")[0] for line in worker[1].splitlines()] == ["[worker 1] begins with worker 0 (the chief) at ", "[worker 1] has ended"]
    alone = subprocess.run([sys.executable, "-m", "ppo_keras", *TRAINING], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=200)
    assert alone.returncode == 0, alone.stderr
    ours, expected = metrics(folder), metrics(tmp_path)
    assert len(ours) == len(expected) == 12
    for one, other in zip(ours, expected):
        assert {name: float(value) for name, value in one.items() if value} == pytest.approx({n: float(v) for n, v in other.items() if v}, rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("killed", [0, 1])
def test_a_worker_that_is_killed_ends_the_others_and_the_run_goes_on(trained, tmp_path, killed):
    """Catches: a process that waits for ever for one that is gone, a state that is lost, a run that goes on otherwise."""
    ports = two_free_ports()
    workers = [begin(tmp_path, number, ports) for number in range(2)]
    while not list((tmp_path / "runs").glob("shared/checkpoints/training-4.npz")):
        time.sleep(0.02)
        assert workers[0].poll() is None
    workers[killed].send_signal(signal.SIGKILL)
    began, other = time.monotonic(), workers[1 - killed]
    assert other.wait(timeout=60) == 2
    said = other.communicate()[1]
    workers[killed].communicate()
    assert f"ppo-keras: error: worker {killed}{' (the chief)' * (killed == 0)} at 127.0.0.1:{ports[killed]} is gone" in said.splitlines()[-1], said
    assert time.monotonic() - began < 60
    # another number of processes goes on too
    resumed = [sys.executable, "-m", "ppo_keras", *TRAINING[:2], "--resume", "shared", "--runs-folder", str(tmp_path / "runs")]
    if killed:
        done = subprocess.run(resumed, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=200)
        assert done.returncode == 0, done.stderr
    else:
        ends = both(tmp_path, "--resume", "shared")
        assert [end[0] for end in ends] == [0, 0], ends
    for one, other in zip(metrics(tmp_path), metrics(trained[0]), strict=True):
        assert {name: float(value) for name, value in one.items() if value} == pytest.approx({n: float(v) for n, v in other.items() if v}, rel=1e-5, abs=1e-5)


def test_all_stop_when_one_is_told_to(tmp_path):
    """Catches: a worker that stops alone, so that the others lose what they did since the last state; one that goes on."""
    ports = two_free_ports()
    workers = [begin(tmp_path, number, ports) for number in range(2)]
    while not list((tmp_path / "runs").glob("shared/checkpoints/training-2.npz")):
        time.sleep(0.02)
        assert workers[0].poll() is None
    workers[1].send_signal(signal.SIGTERM)
    ends = [(worker.wait(timeout=60), worker.communicate()[1]) for worker in workers]
    assert [code for code, _ in ends] == [130, 130], ends
    assert "The run can go on: --resume runs/shared" in ends[0][1]
    newest = max(int(path.stem.rpartition("-")[2]) for path in (tmp_path / "runs").glob("shared/checkpoints/training-*.npz"))
    assert newest == len(metrics(tmp_path))  # nothing is lost


class Interrupt:
    pressed = False


def test_a_signal_while_all_agree_is_not_lost(monkeypatch):
    """Catches: a flag that is written back as it was before the others answered."""
    interrupt = Interrupt()
    stop = callbacks.StopOnInterrupt(interrupt)
    stop.set_model(types.SimpleNamespace(stop_training=False))
    monkeypatch.setattr(callbacks, "any_process", lambda flag: vars(interrupt).update(pressed=True) or flag)
    stop.on_train_batch_end(0)
    assert interrupt.pressed and not stop.model.stop_training
    stop.on_train_batch_end(1)
    assert stop.model.stop_training


@pytest.fixture
def three(monkeypatch):
    """This process is the second of three; what the others say is in the list."""
    others = []
    monkeypatch.setattr(cluster, "this_cluster", lambda: Cluster(("a:1", "b:2", "c:3"), 1))
    monkeypatch.setattr(cluster, "exchange", lambda values: np.stack([others[0](values), values, others[1](values)]))
    return others


def test_the_fact_and_the_worker_that_differ_are_named(three):
    """Catches: a fact that is not compared, another worker or another fact that is named."""
    same, other = lambda values: values, lambda values: np.concatenate([values[:8], values[8:] + 1])
    three[:] = [same, same]
    cluster.check_alike({"one": 1, "two": [2.5, "x"]})
    three[:] = [same, other]
    with pytest.raises(InputError, match="worker 2 at c:3 differs from the chief in two. Start all"):
        cluster.check_alike({"one": 1, "two": [2.5, "x"]})
    three[:] = [other, other]
    with pytest.raises(InputError, match="worker 1 at b:2 differs from the chief in two"):
        cluster.check_alike({"one": 1, "two": [2.5, "x"]})


@pytest.mark.parametrize(
    "change, said",
    [
        (lambda patch: patch.setattr("ppo_keras.__version__", "0"), "the version of ppo_keras"),
        (lambda patch: patch.setattr("ppo_keras.tasks.environment.AgentJob.data", ["another"]), "the data or the environment"),
        (lambda patch: None, None),
    ],
)
def test_versions_and_data_are_compared(monkeypatch, tmp_path, change, said):
    """Catches: workers of two versions, or on other data, that train one run."""
    seen, settings = [], EnvironmentConfig(runs_folder=str(tmp_path), environment_steps=512)

    def note(facts):
        seen.append(facts)
        if len(seen) % 2 == 0:
            raise KeyboardInterrupt

    monkeypatch.setattr(cluster, "check_alike", note)
    for step in (lambda patch: None, change):
        step(monkeypatch)
        with pytest.raises(KeyboardInterrupt):
            train("cartpole", settings)
    one, other = seen[0] | seen[1], seen[2] | seen[3]
    assert [name for name in one if one[name] != other[name]] == ([said] if said else [])
    assert {"discount", "width", "learning_rate", "the version of tensorflow", "the task"} <= one.keys() and not {"devices", "run"} & one.keys()


def test_each_process_calls_a_python_reward_for_its_share(monkeypatch):
    """Catches: every process that scores everything, scores in another order, parts that are the mean of one process."""
    calls = []

    def reward(prompt, response):
        calls.append(prompt)
        return {"number": float(prompt), "one": 1.0}

    class Words:
        def decode_pairs(self, prompts, responses):
            return [str(row[0]) for row in prompts.tokens.numpy()], ["x"] * len(prompts.tokens)

    prompts = Prompts(tf.constant([[5], [6], [7], [8]]), tf.ones([4, 1]))
    learner = LanguagePPO(tiny_policy(), PythonReward(reward, Words()), 3, 0, 4)
    monkeypatch.setattr(language_ppo, "this_cluster", lambda: Cluster(("a:1", "b:2"), 1))
    chief = np.array([6.0, 7.0, 5.5, 1.0], np.float32).view(np.int32)
    monkeypatch.setattr(language_ppo, "exchange", lambda values: np.stack([chief, values]))
    scores = learner.score_on_processes(prompts, prompts)
    assert calls == ["7", "8"] and scores.numpy().tolist() == [6.0, 7.0, 8.0, 9.0]
    assert learner.reward.parts == {"reward/number": 6.5, "reward/one": 1.0}


def test_workers_that_differ_are_told_at_the_beginning(tmp_path):
    """Catches: two halves of different runs that are added up."""
    ports = two_free_ports()
    workers = [begin(tmp_path, number, ports, "--discount", value) for number, value in enumerate(("0.9", "0.8"))]
    ends = [(worker.wait(timeout=100), worker.communicate()[1]) for worker in workers]
    for code, said in ends:
        assert code == 2 and said.splitlines()[-1].endswith(
            f"worker 1 at 127.0.0.1:{ports[1]} differs from the chief in discount. Start all workers with the same."
        )
    assert not (tmp_path / "runs").exists()


def test_a_worker_that_never_comes_is_named(tmp_path):
    """Catches: a process that waits for an hour, deaf to Ctrl-C."""
    ports, began = two_free_ports(), time.monotonic()
    alone = begin(tmp_path, 1, ports, "--worker-timeout", "6")
    code, said = alone.wait(timeout=60), alone.communicate()[1]
    assert code == 2 and f"worker 0 (the chief) at 127.0.0.1:{ports[0]} did not come within" in said.splitlines()[-1]
    assert any(line.startswith("[worker 1] waiting for worker 0 (the chief)") for line in said.splitlines())
    assert time.monotonic() - began < 50 and not (tmp_path / "runs").exists()
