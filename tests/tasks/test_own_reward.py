"""`train generation` with a reward that reads columns of the data, returns parts and runs in processes of its own."""

import contextlib
import csv
import io
import json
import os
import shutil
import sys
from dataclasses import replace

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ppo_keras.commands.parser import parse
from ppo_keras.errors import InputError
from ppo_keras.runs.folder import Run
from ppo_keras.runs.glossary import PARTS
from ppo_keras.tasks import generation
from ppo_keras.tasks.config import GenerationConfig
from ppo_keras.tasks.opening import open_job
from ppo_keras.tasks.seeds import SeveralSeeds
from runs_of_texts import run

SMALL = (
    "--model lstm --no-jit --layers 1 --width 16 --heads 2 --vocabulary-size 300 --prompt-length 4 --response-length 6 --supervised-epochs 1 "
    "--supervised-batch-size 8 --iterations 3 --batch-size 8 --epochs 1 --minibatches 2 --evaluation-samples 8 --learning-rate 0.01 --log-every 2 "
    "--data sums.jsonl --reward parts_of_a_test:parts --reward-weights right=2,long=0.5"
).split()
REWARD = """
import os
calls = 0

def parts(prompt, response, answer, numbers, **columns):
    global calls
    calls += 1
    if os.path.exists("dies") and calls == 22:  # in the second iteration
        os._exit(3)
    return {"right": float(str(sum(numbers)) == answer), "long": float(len(response)), "other": float(len(columns["text"]))}
"""
LINES = [{"text": f"{i} plus {i + 1} is {2 * i + 1}.", "answer": f"{2 * i + 1}" if i % 3 else "wrong", "numbers": [i, i + 1]} for i in range(60)]


def by_hand(line, response):
    return 2.0 * (line["answer"] != "wrong") + 0.5 * len(response) + len(line["text"])


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with data and a reward, and the run that was trained there."""
    place, before, path = tmp_path_factory.mktemp("own"), os.getcwd(), list(sys.path)
    (place / "sums.jsonl").write_text("".join(json.dumps(line) + "\n" for line in LINES))
    (place / "parts_of_a_test.py").write_text(REWARD)
    os.chdir(place)
    yield place
    os.chdir(before)
    sys.path[:] = path
    sys.modules.pop("parts_of_a_test", None)


@pytest.fixture(scope="module")
def done(place):
    done = run("train", "generation", *SMALL, "--run", "whole", "--reward-processes", "2")
    assert done.code == 0, done.err
    return done


def metrics_of(name):
    with open(f"runs/{name}/metrics.csv", newline="") as file:
        return [{key: float(value) for key, value in row.items() if not key.startswith("time/")} for row in csv.DictReader(file)]


def test_prompts_lead_to_their_rows(place):
    """Catches: prompts of test or validation with the rows of train, more prompts than texts that run out of rows."""
    job = generation.GenerationJob(parse(["train", "generation", *SMALL]).config)
    for name in ("train", "validation", "test"):
        texts = getattr(job.corpus, name).texts
        prompts = job.make_prompts(name, 2 * len(texts), seed=1)
        rows = [job.rows[row] for row in prompts.rows]
        assert [row["text"] for row in rows] == texts * 2
        assert all(row["text"].startswith(text) for row, text in zip(rows, job.tokenizer.decode_batch(prompts.tokens, prompts.mask)))
    assert job.own_reward.needs_rows and job.own_reward.run.__name__ == "<lambda>"  # called in this process


def test_a_learned_reward_has_plain_prompts(place):
    """Catches: rows that a reward model has no use for, and a program of other inputs than before."""
    options = [*"--batch-size 8 --supervised-batch-size 8 --vocabulary-size 300 --evaluation-samples 8".split()]
    (place / "films.tsv").write_text("text\tlabel\n" + "".join(f"film {i} is told\t{i % 2}\n" for i in range(60)))
    job = generation.GenerationJob(parse(["train", "generation", "--data", "films.tsv", *options]).config)
    assert len(job.prompts) == 2 and job.corpus.train.rows is None and job.corpus.column_fingerprints == []


def test_parts_are_metrics_and_their_weighted_sum_the_score(done):
    """Catches: a part without a curve or a word about it, weights that are not used, a score of another row, processes left behind."""
    folder = Run("runs/whole")
    rows = metrics_of("whole")
    assert len(rows) == 3
    for row in rows:
        assert row["objective/scores"] == pytest.approx(2 * row["reward/right"] + 0.5 * row["reward/long"] + row["reward/other"], rel=1e-5)
    lines = {line["text"]: line for line in LINES}
    job = generation.GenerationJob(parse(["train", "generation", *SMALL]).config)
    samples = [json.loads(line) for line in (folder.folder / "samples.jsonl").read_text().splitlines()]
    for stage in ("before", "after"):
        some = [sample for sample in samples if sample["stage"] == stage]
        texts = [job.corpus.test.texts[i % len(job.corpus.test.texts)] for i in range(8)]
        assert [sample["score"] for sample in some] == [by_hand(lines[text], sample["response"]) for text, sample in zip(texts, some)]
    events = EventAccumulator(str(folder.folder)).Reload()
    assert events.SummaryMetadata("reward/right").summary_description.startswith(PARTS.meaning)
    assert len(events.Tensors("reward/long")) == 3
    config = folder.load_json("config.json")
    assert [name for name, _ in config["columns"]] == ["answer", "numbers", "text"]
    assert config["reward_is"] == "that of parts_of_a_test:parts with the weights right=2,long=0.5"
    assert (config["reward_weights"], config["reward_processes"], config["reward_timeout"]) == ("right=2,long=0.5", 2, None)
    assert not os.path.exists("/proc") or not [path for path in os.listdir("/proc") if path.isdecimal() and serves(path)]


def serves(pid):
    """Whether a process is one of a reward, and a child of this one."""
    try:
        with open(f"/proc/{pid}/cmdline") as command, open(f"/proc/{pid}/stat") as stat:
            return "parts_of_a_test" in command.read() and int(stat.read().rpartition(")")[2].split()[1]) == os.getpid()
    except OSError:
        return False


@pytest.mark.parametrize("options", ["--reward-network lstm", "--reward-epochs 3", "--reward-learning-rate 0.1"])
def test_settings_of_models_that_are_not_there_are_refused(place, options):
    """Catches: an option that changes nothing, without a word: the reward is a function, and texts without labels have no judge."""
    done = run("train", "generation", *SMALL, *options.split(), "--run", "refused")
    name = options.split()[0].removeprefix("--").replace("-", "_")
    assert done.code == 2 and f"{name}=" in done.err and "is of the reward model and the judge, but the reward is a function" in done.err
    assert len(done.err.splitlines()) == 1 and not os.path.exists("runs/refused")


def test_a_run_that_had_them_is_still_opened(place, done):
    """Catches: a run of an earlier version, which took such an option and did nothing with it, that nobody can measure any more."""
    opened = Run("runs/whole")
    generation.GenerationJob(replace(parse(["train", "generation", *SMALL]).config, reward_epochs=3), opened).close()


def test_a_run_that_cannot_begin_leaves_no_process(place):
    """Catches: the processes of a reward whose weights name no part of it, in a Python that goes on."""
    with pytest.raises(InputError, match="there is a weight of wrong") as caught:
        generation.GenerationJob(parse(["train", "generation", *SMALL, "--reward-processes", "1", "--reward-weights", "wrong=1"]).config)
    job = next(frame.frame.f_locals["self"] for frame in caught.traceback if frame.name == "try_reward")
    assert not job.own_reward.run.running


def test_a_reward_that_dies_keeps_the_run_and_it_goes_on(place, done):
    """Catches: an iteration lost or made twice, other scores in one process than in two, a state that knows no weights of parts."""
    (place / "dies").touch()
    died = run("train", "generation", *SMALL, "--run", "died", "--reward-processes", "1", "--checkpoint-every", "1")
    (place / "dies").unlink()
    assert died.code == 2 and "Traceback" not in died.err
    last = died.err.rstrip("\n").split("\n")[-1]
    assert last.startswith("ppo-keras: error: reward parts_of_a_test:parts ended its process with exit code 3 (prompt '")
    assert "--resume runs/died" in died.err and len(metrics_of("died")) == 1
    on = run("train", "generation", "--resume", "died")
    assert on.code == 0 and metrics_of("died") == metrics_of("whole")
    samples = [(place / "runs" / name / "samples.jsonl").read_text() for name in ("died", "whole")]
    assert samples[0] == samples[1]


def test_a_run_is_opened_elsewhere(place, done, tmp_path, monkeypatch):
    """Catches: a reward, its columns or its weights that `evaluate`, `compare`, `chat` and `generate` do not find; a typed prompt scored by somebody's row."""
    monkeypatch.chdir(tmp_path)
    job = open_job(Run(place / "runs" / "whole"), "after")
    assert not getattr(job.own_reward.run, "running", ())  # no process before something is scored
    prompts, responses, scores = job.answer(job, 4, 0, True)
    texts = [job.corpus.test.texts[i % len(job.corpus.test.texts)] for i in range(4)]
    lines = {line["text"]: line for line in LINES}
    assert scores.tolist() == [by_hand(lines[text], response) for text, response in zip(texts, responses)]
    assert np.isfinite(job.sample(4, 0).rewards).all() and job.learner.reads_rows
    job.close()
    assert run("generate", str(place / "runs" / "whole"), "--prompt", "1 plus").code == 0
    assert run("compare", f"{place / 'runs' / 'whole'}:before", str(place / "runs" / "whole"), "--samples", "4").code == 0
    monkeypatch.setattr("sys.stdin", io.StringIO("1 plus\n"))
    said = run("chat", str(place / "runs" / "whole"), "--greedy")
    assert said.code == 0 and "score" not in said.out and "error" not in said.err


def test_a_column_that_changed_is_told(place, done, tmp_path, monkeypatch):
    """Catches: a run that is measured, or goes on, by other answers than it was trained on."""
    shutil.copytree(place, tmp_path / "copy", ignore=shutil.ignore_patterns("died"))
    monkeypatch.chdir(tmp_path / "copy")
    changed = [*LINES[:-1], LINES[-1] | {"answer": "another"}]
    (tmp_path / "copy" / "sums.jsonl").write_text("".join(json.dumps(line) + "\n" for line in changed))
    with pytest.raises(InputError, match="the column answer of sums.jsonl is another than when this run was trained"):
        open_job(Run("runs/whole"), "after")
    os.remove("runs/whole/summary.json")
    line = run("train", "generation", "--resume", "whole").err
    assert "columns was [['answer'," in line and "Resume with the version, the settings and the data that began it" in line


def test_each_seed_ends_its_processes(tmp_path):
    """Catches: the processes of every seed, idle until the last one has ended."""
    told = []

    class Job:
        task_name = "generation"
        prepare = lambda self, run, interrupt: None
        improve = lambda self, run, interrupt: told.append(f"improve {self.seed}") or {"task": "generation", "model": "lstm", "score": 1.0, "seconds": 0.0}
        close = lambda self: told.append(f"close {self.seed}")

        def __init__(self, config):
            self.seed = config.seed

    config = GenerationConfig(seeds=2)
    several, folder = SeveralSeeds(config, Job), Run.create(tmp_path, "seeds")
    with contextlib.redirect_stdout(io.StringIO()):
        several.prepare(folder, None)
        several.improve(folder, None)
    assert told == ["improve 0", "close 0", "improve 1", "close 1"]
    several.close()  # there is none left
    assert len(told) == 4
