"""Agents whose training cannot begin, or is stopped: bad input, environments that fail, Ctrl-C, full disks."""

import contextlib
import signal
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import tensorflow as tf

gymnasium = pytest.importorskip("gymnasium")

from ppo_keras.commands.main import main
from ppo_keras.ppo import PPO
from ppo_keras.runs import callbacks
from ppo_keras.runs.folder import Run
from runs_of_agents import (
    FIRST,
    HOOKED,
    MAP,
    TINY,
    Hooked,
    command,
    contents,
    equal,
    error_line,
    metrics_of,
    old_run,
    weights_in,
)


class Unreadable(gymnasium.Env):
    """Observations of a kind that no policy reads, or actions of a kind that none takes."""

    def __init__(self, what):
        self.observation_space, self.action_space = Hooked.observation_space, Hooked.action_space
        setattr(self, f"{what}_space", gymnasium.spaces.Dict({"a": gymnasium.spaces.Discrete(2)}))


class Unborn(Hooked):
    """An environment that cannot begin."""

    def reset(self, seed=None, options=None):
        raise RuntimeError("the simulator is not running")


def bodiless():
    raise gymnasium.error.DependencyNotInstalled('Bodies are not installed, run `pip install "gymnasium[bodies]"`')


def partless():
    raise ModuleNotFoundError("No module named 'parts_of_a_test'")


gymnasium.register("Unborn-v0", Unborn, disable_env_checker=True)
gymnasium.register("Bodiless-v0", bodiless)
gymnasium.register("Partless-v0", partless)
for space in ("observation", "action"):
    gymnasium.register(f"Unreadable-{space}-v0", Unreadable, kwargs={"what": space}, disable_env_checker=True)


# Bad input, found before any work.


@pytest.fixture
def refused(tmp_path, monkeypatch, capsys):
    """A function: runs `train` in a folder of maps, expects one line on stderr and nothing in the runs folder, and returns the line."""
    monkeypatch.chdir(tmp_path)
    for name, text in {"no-goal": "S..\n...", "no-way": "S#G\n.#.", "uneven": "S.G\n..", "good": MAP, "strange": "S.G\n.?."}.items():
        (tmp_path / f"{name}.txt").write_text(text)
    before = contents(tmp_path)

    def run(*arguments):
        capsys.readouterr()
        assert main(["train", *arguments]) == 2
        shown = capsys.readouterr()
        (line,) = shown.err.splitlines()
        assert line.startswith("ppo-keras: error: ") and len(line) < 600 and shown.out == ""
        assert contents(tmp_path) == before and not (tmp_path / "runs").exists(), "something was written"
        return line

    return run


@pytest.mark.parametrize(
    "arguments, words",
    [
        ("cartpol", ["'cartpol'", "nearest is cartpole.", "gridworld", "cartpole-no-velocity", "acrobot", "repeat-first", "t-maze", "generation", "gym:ID"]),
        ("gym:CartPol-v1", ["'CartPol-v1'", "Did you mean CartPole-v1"]),
        ("gym:CartPole-v7", ["'CartPole-v7'", "CartPole-v1"]),
        ("gym:no_such_module:World-v0", ["no_such_module", "ModuleNotFoundError", "Is no_such_module.py in this folder"]),
        ("gym:", ["gym:Acrobot-v1"]),
        ("gym:my_envs:", ["gym:my_envs: is neither gym:ID nor gym:module:ID"]),
        ("gym:a:b:World-v0", ["is neither gym:ID nor gym:module:ID"]),
        ("gym:json:World-v0", ["'World-v0'", "The module json registers nothing", "gymnasium.register('World-v0'"]),
        ("gym:ALE/Breakout-v5", ["'ALE/Breakout-v5'", "pip install ale-py", "gym:ale_py:ALE/Breakout-v5"]),
        ("gym:ale_py:ALE/Breakout-v5", ["pip install ale-py"]),
        ("gym:Bodiless-v0", ["gym:Bodiless-v0 needs a further package", "pip install \"gymnasium[bodies]\""]),
        ("gym:Partless-v0", ["gym:Partless-v0 needs a further package", "'parts_of_a_test'"]),
        ("gym:Blackjack-v1", ["gym:Blackjack-v1", "observations", "Tuple", "Box and Discrete"]),
        ("gym:Unreadable-observation-v0", ["observations of kind Dict"]),
        ("gym:Unreadable-action-v0", ["actions of kind Dict", "MultiDiscrete"]),
        ("gym:Unborn-v0", ["gym:Unborn-v0", "RuntimeError: the simulator is not running"]),
        ("gridworld --map no-goal.txt", ["no-goal.txt", "no goal", "G"]),
        ("gridworld --map no-way.txt", ["no-way.txt", "no goal can be reached from row 1, column 1"]),
        ("gridworld --map uneven.txt", ["uneven.txt", "row 2", "2 cells", "row 1 has 3"]),
        ("gridworld --map strange.txt", ["strange.txt", "row 2", "'?'"]),
        ("gridworld --map missing.txt", ["missing.txt", "No such file"]),
        ("gridworld --map good.txt --article-numbers", ["--map", "--article-numbers"]),
        ("gridworld --discount 1", ["discount=1", "0.99"]),
        ("t-maze --length 1", ["length=1"]),
        ("cartpole --model gpt", ["'gpt'", "mlp, lstm or transformer"]),
        ("cartpole --minibatches 5", ["minibatches=5", "environments * steps=512", "2, 4, 8"]),
        ("cartpole --model lstm --environments 4 --minibatches 3", ["minibatches=3", "environments=4"]),
        ("cartpole --model transformer --width 30", ["width=30", "heads"]),
        ("cartpole --run a/b", ["'a/b'"]),
        ("cartpole --runs-folder good.txt/runs", ["good.txt"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_what_cannot_be_used_is_one_line(refused, arguments, words):
    """Catches: a traceback, a message that does not say what is wrong or what there is, a run folder left behind."""
    line = refused(*arguments.split())
    assert all(word in line for word in words), line


def test_a_missing_gymnasium_names_the_extra(refused, monkeypatch):
    """Catches: `ModuleNotFoundError` shown to a user who needs one command."""
    monkeypatch.setitem(sys.modules, "gymnasium", None)
    assert "pip install 'ppo_keras[gym]'" in refused("gym:CartPole-v1")


def test_an_existing_run_is_left_alone(tmp_path, monkeypatch):
    """Catches: a run replaced without `--overwrite`, or one lost to a run that cannot begin (a map, a full disk)."""
    monkeypatch.chdir(tmp_path)
    before = old_run(tmp_path / "runs", "gridworld")
    assert "--overwrite" in error_line(command("train", "gridworld", *TINY))
    assert "missing.txt" in error_line(command("train", "gridworld", *TINY, "--overwrite", "--map", "missing.txt"))
    assert contents(tmp_path / "runs") == before

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Run, "save_config", full)
    assert "No space left" in error_line(command("train", "gridworld", *TINY, "--overwrite"))
    assert contents(tmp_path / "runs") == before and [path.name for path in (tmp_path / "runs").iterdir()] == ["gridworld"]


# What happens in mid-run.


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An empty current folder; `Hooked` is as it was before."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Hooked, "steps", 0)
    monkeypatch.setattr(Hooked, "hook", Hooked.hook)
    return tmp_path


@pytest.fixture
def good(monkeypatch):
    """The weights of the policy after each call that ended well."""
    kept = []

    class Keep(callbacks.Checkpoint):
        def on_train_batch_end(self, batch, logs=None):
            kept.append([np.array(w) for w in self.model.policy.get_weights()])
            super().on_train_batch_end(batch, logs)

    monkeypatch.setattr(callbacks, "Checkpoint", Keep)
    return kept


def raising(n):
    raise KeyError("joint 3")


@pytest.mark.parametrize(
    "answer, words",
    [
        pytest.param(raising, "the environment gym:Hooked-v0 raised KeyError: 'joint 3'", id="raises"),
        pytest.param(
            lambda n: {"observation": np.array([0, np.nan], np.float32)},
            "the environment gym:Hooked-v0 returned nan as observation",
            id="observes NaN",
            marks=pytest.mark.full,
        ),
        pytest.param(lambda n: {"reward": float("-inf")}, "the environment gym:Hooked-v0 returned -inf as reward", id="pays infinity", marks=pytest.mark.full),
    ],
)
def test_an_environment_that_fails_in_mid_run_saves_the_policy(place, good, monkeypatch, answer, words):
    """Catches: a traceback, an environment that is not named, hours of training lost: here it fails in the third of four rollouts."""
    monkeypatch.setattr(Hooked, "hook", lambda n: answer(n) if n == FIRST + 2 * 16 + 5 else None)
    assert words in error_line(command("train", *HOOKED, "--run", "fails"))
    run = Run("runs/fails")
    assert [row["iteration"] for row in metrics_of(run)] == [1, 2] and len(good) == 2
    assert equal(weights_in(run), good[1]) and not equal(good[0], good[1])
    assert not (run.folder / "summary.json").exists() and not list(run.folder.rglob("*.part*"))


def test_a_metric_that_becomes_nan_stops_with_the_last_good_policy(place, good, monkeypatch):
    """Catches: NaN weights saved, a run that goes on, an unnamed metric, records lost (the third iteration breaks)."""
    improve = PPO.improve

    def poisoned(self, trajectory):
        metrics = improve(self, trajectory)
        bad = tf.where(tf.convert_to_tensor(self.iteration) >= 2, float("nan"), 0.0)
        for variable in self.policy.trainable_variables:
            variable.assign_add(tf.zeros_like(variable) + bad)
        return metrics | {"loss/value": metrics["loss/value"] + bad}

    monkeypatch.setattr(PPO, "improve", poisoned)
    line = error_line(command("train", "gridworld", *TINY, "--environment-steps", "512", "--width", "8", "--checkpoint-every", "1"))
    assert "loss/value became nan in step 3. The last good state is saved. Try a smaller --learning-rate or --max-gradient-norm." in line
    run = Run("runs/gridworld")
    assert len(good) == 2 and equal(weights_in(run), good[1])
    assert [row["iteration"] for row in metrics_of(run)] == [1, 2] and not (run.folder / "summary.json").exists()


def test_one_ctrl_c_saves_the_policy_at_the_end_of_the_iteration(place, good, monkeypatch):
    """Catches: an iteration cut in two, iterations after it, a policy that is lost, another seed begun, the exit code of success."""
    monkeypatch.setattr(Hooked, "hook", lambda n: signal.raise_signal(signal.SIGINT) if n == FIRST + 16 + 3 else None)
    handler = signal.getsignal(signal.SIGINT)
    done = command("train", *HOOKED, "--run", "stopped", "--seeds", "2")
    assert done.code == 130 and "Traceback" not in done.err and signal.getsignal(signal.SIGINT) is handler
    run = Run("runs/stopped/seed-0")
    assert [row["iteration"] for row in metrics_of(run)] == [1, 2]
    assert len(good) == 2 and equal(weights_in(run), good[1])
    assert not list(Run("runs/stopped").folder.rglob("summary.json")) and not (Run("runs/stopped").folder / "seed-1").exists()
    assert command("evaluate", "stopped/seed-0", "--episodes", "2").code == 0


def test_ctrl_c_in_the_evaluation_is_not_success(place, good, monkeypatch):
    """Catches: "Stopping" said and the next seed trained, or the run finished as if nothing had been pressed."""
    monkeypatch.setattr(Hooked, "hook", lambda n: signal.raise_signal(signal.SIGINT) if n == FIRST + 64 + 1 else None)
    assert command("train", *HOOKED, "--run", "stopped", "--seeds", "2").code == 130
    run = Run("runs/stopped/seed-0")
    assert len(metrics_of(run)) == len(good) == 4 and equal(weights_in(run), good[3])
    assert not (Run("runs/stopped").folder / "seed-1").exists() and not list(Run("runs/stopped").folder.rglob("summary.json"))


@pytest.mark.parametrize("hook, code", [(lambda n: signal.raise_signal(signal.SIGINT) if n == 3 else None, 130), (raising, 2)], ids=["Ctrl-C", "raises"])
def test_what_stops_the_first_call_leaves_what_was_there(place, monkeypatch, hook, code):
    """Catches: a folder without a policy, or an old run lost to one that never began."""
    before = old_run(place / "runs", "hooked-v0")
    monkeypatch.setattr(Hooked, "hook", hook)
    assert command("train", *HOOKED, "--overwrite").code == code
    assert contents(place / "runs") == before and [path.name for path in (place / "runs").iterdir()] == ["hooked-v0"]


@pytest.fixture
def disk(place):
    """A function: mounts a disk of 3 MB, or skips the test where that is not allowed."""
    mounted = []

    def mount(options="size=3m"):
        folder = place / f"disk-{len(mounted)}"
        folder.mkdir()
        if subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True).returncode:
            pytest.skip("a full or read-only disk needs the right to mount a small one")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", "-l", folder], check=True)


def fill(folder):
    """Writes until nothing more can be written."""
    with contextlib.suppress(OSError), open(folder / "filler", "ab", 0) as file:
        while file.write(bytes(4096)):
            pass


def test_a_read_only_place_is_one_line(disk):
    """Catches: minutes of work before it is noticed that nothing can be kept."""
    folder = disk("ro")
    line = error_line(command("train", "gridworld", *TINY, "--runs-folder", str(folder / "runs")))
    assert f"cannot write to {folder}" in line and "--runs-folder" in line and not list(folder.iterdir())


@pytest.mark.parametrize(
    "step",
    [
        pytest.param(0, id="at the start"),
        pytest.param(FIRST + 16 + 3, id="in an iteration"),
        pytest.param(FIRST + 64 + 1, id="in the evaluation", marks=pytest.mark.full),
    ],
)
def test_a_full_disk_is_one_line(disk, monkeypatch, step):
    """Catches: a traceback of TensorFlow or zipfile, half a file that looks like a whole one, an old run lost before training began."""
    folder = disk()
    before = old_run(folder, "hooked")
    monkeypatch.setattr(Hooked, "hook", lambda n: fill(folder) if n == step else None)
    if step == 0:
        fill(folder)
    line = error_line(command("train", *HOOKED, "--runs-folder", str(folder), "--run", "hooked", "--overwrite", "--checkpoint-every", "1"))
    assert "disk" in line or "space" in line
    (folder / "filler").unlink()
    assert [path.name for path in folder.iterdir()] == ["hooked"]
    run = Run(folder / "hooked")
    if step == 0:
        assert contents(folder) == before
    else:
        assert run.load_json("config.json")["task"] == "gym:Hooked-v0"
        assert run.has("policy") == (step > FIRST + 64) and (not run.has("policy") or zipfile.is_zipfile(run.checkpoint("policy")))
    assert not (run.folder / "summary.json").exists() and not list(run.folder.rglob("*.part*"))
    if step > 0:  # once there is room
        monkeypatch.setattr(Hooked, "hook", lambda n: None)
        done = command("train", "gym:Hooked-v0", "--runs-folder", str(folder), "--resume", "hooked")
        assert done.code == 0 and [row["iteration"] for row in metrics_of(run)] == [1, 2, 3, 4], done.err


def test_half_a_json_file_is_not_kept(disk):
    """Catches: half a file that stays where the disk is full."""
    folder = disk("size=64k")
    run = Run.create(folder, "run")
    fill(folder)
    with pytest.raises(OSError):
        run.save_json("summary.json", {"seeds": list(range(10_000))})
    assert list(contents(folder)) == ["filler"]


def test_half_a_picture_is_not_kept(disk):
    """Catches: a PNG cut off by a full disk, which opens as half a picture or not at all."""
    folder = disk("size=256k")
    run = Run.create(folder, "run")
    picture = np.random.default_rng(0).integers(0, 255, [200, 200, 3], np.uint8)  # of 120 kB
    fill(folder)
    with open(folder / "filler", "r+b") as file:
        file.truncate(256 * 1024 - 80 * 1024)
    with pytest.raises((OSError, tf.errors.OpError)):
        run.save_pictures({"grid": tf.io.encode_png(picture).numpy()}, step=1)
    assert not (run.folder / "grid.png").exists()
