"""Runs that are killed and go on: `kill -9` at random moments, and the end compared bit by bit with a run that was left alone."""

import csv
import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import traceback

import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ppo_keras.checkpoints import StateFiles
from ppo_keras.commands.main import main
from ppo_keras.runs import callbacks
from ppo_keras.runs.folder import Run
from ppo_keras.runs.models import load_policy
from small_checkpoint import write_checkpoint

NOT_REPEATED = ("time/iteration_seconds", "time/steps_per_second", "time/tokens_per_second", "seconds", "steps_per_second")
TEXT = "--no-jit --layers 1 --width 16 --heads 2 --vocabulary-size 300 --supervised-epochs 3 --checkpoint-every 2 --epochs 1 --minibatches 2".split()
FEW = "--data few.csv --supervised-batch-size 8 --iterations 5 --batch-size 8".split()
AGENT = "--no-jit --environments 4 --steps 16 --environment-steps 384 --epochs 1 --minibatches 2 --width 8 --evaluation-episodes 2 --checkpoint-every 2".split()
CHECKPOINT = (
    "--no-jit --pretrained checkpoint --lora-rank 2 --supervised-epochs 2 --reward-epochs 2 --checkpoint-every 2 --epochs 1 --minibatches 2 "
    "--prompt-length 4 --response-length 6 --evaluation-samples 8"
).split()
TASKS = {  # what each keeps: dropout, adaptive KL, a reward model and a judge; adapters, those of the reference too; answers; the best policy, two seeds; carry, statistics, two seeds; a memory
    "generation": (6, ["generation", *TEXT, *FEW, "--model", "lstm", "--prompt-length", "4", "--response-length", "6", "--evaluation-samples", "8"]),
    "adapters": (4, ["generation", *FEW, *CHECKPOINT]),
    "answers": (4, ["question-answering", *TEXT, *FEW, "--question-column", "text", "--answer-column", "label", "--supervised-share", "0.5", "--responses-per-prompt", "2"]),
    "labels": (3, ["classification", *TEXT, *FEW, "--validate-every", "1", "--costs", "0 1; 5 0", "--seeds", "2"]),
    "gym": (4, ["gym:Pendulum-v1", *AGENT, "--seeds", "2", "--normalize-observations", "--normalize-rewards"]),
    "memory": (3, ["cartpole-no-velocity", *AGENT, "--model", "transformer", "--heads", "2", "--memory", "6"]),
}  # fmt: skip
WORDS = [
    f"{who} {what} {how}."
    for who in ("The cat", "A dog", "My bird", "One fish")
    for what in ("sleeps", "eats", "runs")
    for how in ("well", "today", "badly", "again", "at home")
]


class Ticks:
    """Counts the moments of a run at which something is trained or written, and kills the process at one of them."""

    def __init__(self, last):
        self.count, self.last = 0, last

    def __call__(self):
        self.count += 1
        if self.count == self.last:
            os.kill(os.getpid(), signal.SIGKILL)

    def around(self, owner, name):
        """A tick before and after each call."""
        function = getattr(owner, name)

        def called(*args, **kwargs):
            self()
            result = function(*args, **kwargs)
            self()
            return result

        setattr(owner, name, called)


def child(arguments, last, told):
    """A process of its own: the command line, killed at tick `last`. Tells its exit code and its ticks."""
    ticks, savez = Ticks(last), np.savez

    def half_first(file, **arrays):
        file.write(b"half")
        file.flush()
        ticks()
        file.seek(0)
        savez(file, **arrays)

    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})  # as in conftest.py
    np.savez = half_first
    for owner, name in ((StateFiles, "write"), (Run, "save_bytes"), (Run, "append_metrics"), (Run, "save_model"), (callbacks.Progress, "on_train_batch_end")):
        ticks.around(owner, name)
    try:
        told.send((main(arguments), ticks.count))
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    os._exit(0)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A function: runs a command in a new process, in a folder with data. Returns (exit code, ticks), or None where it was killed."""
    folder, before = tmp_path_factory.mktemp("resume"), os.getcwd()
    os.chdir(folder)
    with open("few.csv", "w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *((text, "bad" if "badly" in text or "again" in text else "good") for text in WORDS)])
    (folder / "checkpoint").mkdir()
    write_checkpoint(folder / "checkpoint", blocks=1)
    processes = multiprocessing.get_context("forkserver")  # which imports TensorFlow once
    processes.set_forkserver_preload(["ppo_keras.tasks.generation", "ppo_keras.tasks.environment", "ppo_keras.tasks.classification", "test_resume"])

    def start(arguments, last=0):
        told, tell = processes.Pipe(duplex=False)
        process = processes.Process(target=child, args=(arguments, last, tell))
        process.start()
        tell.close()
        process.join(120)
        return told.recv() if process.exitcode == 0 else None

    yield start
    os.chdir(before)


def ending(folder):
    """All that must be the same at the end of a run: weights, metrics, samples, tokenizer, results, steps of curves; no seconds."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.name in ("samples.jsonl", "tokenizer.model"):
            found[name] = path.read_bytes()
        elif path.suffix == ".safetensors":
            found[name] = path.read_bytes()
        elif path.suffix == ".keras" and path.stem in ("before", "after", "best", "policy"):
            weights = load_policy(Run(path.parent.parent), path.stem).get_weights()
            found |= {f"{name} {i}": weight.tobytes() for i, weight in enumerate(weights)}
        elif path.name.startswith("events.out"):
            shown = EventAccumulator(str(path.parent), size_guidance={"scalars": 0, "tensors": 0}).Reload()
            tags = [tag for tag in shown.Tags()["tensors"] if shown.SummaryMetadata(tag).plugin_data.plugin_name == "scalars"]
            found |= {f"{path.parent.relative_to(folder)} {tag}": [event.step for event in shown.Tensors(tag)] for tag in tags}
        elif path.name == "metrics.csv":
            with open(path, newline="") as file:
                found[name] = [{key: value for key, value in row.items() if key not in NOT_REPEATED} for row in csv.DictReader(file)]
        elif path.name == "summary.json":
            timeless = lambda summary: {k: v for k, v in summary.items() if not k.startswith(NOT_REPEATED)}
            found[name] = json.loads(path.read_text(), object_hook=timeless)
    return found


@pytest.mark.parametrize("often", [False, pytest.param(True, marks=pytest.mark.full)], ids=["", "often"])
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.full) if name in ("generation", "answers", "labels", "memory") else name for name in TASKS]
)
def test_a_killed_run_ends_as_if_it_had_not_been_killed(run, name, often):
    """21. Catches: anything that a state leaves out: random counters, moments, schedules, statistics, episodes, the best so far, lines written twice.
    Cheaper tests of what a stopped run writes twice or forgets are in test_fit_and_save.py and test_early_stopping.py."""
    most_kills, task = TASKS[name]
    kills = most_kills if often else 2 if name == "generation" else 1
    runs, draw = Run("runs").folder, random.Random(name)
    code, ticks = run(["train", *task, "--run", f"{name}-whole", "--overwrite"])
    assert code == 0
    killed = runs / name
    shutil.rmtree(killed, ignore_errors=True)
    for left in range(kills, 0, -1):
        begun = (killed / "config.json").exists()
        command = ["train", task[0], "--resume", name] if begun else ["train", *task, "--run", name, "--overwrite"]
        done = sum(len(list(csv.reader(open(path)))) for path in killed.rglob("metrics.csv"))
        most = max(2, ticks * (1 if left == kills else 2) // (left + 1) - done)
        if run(command, last=draw.randint(1, most)) is not None:
            break  # it came to its end before that moment
    if not (killed / "summary.json").exists():
        begun = (killed / "config.json").exists()
        assert run(["train", task[0], "--resume", name] if begun else ["train", *task, "--run", name, "--overwrite"])[0] == 0
    whole, resumed = ending(runs / f"{name}-whole"), ending(killed)
    assert whole and [key for key in whole if whole[key] != resumed.get(key)] == [] and whole.keys() == resumed.keys()
    assert not list(killed.rglob("*.part*"))
