"""`ppo_keras.tasks.generation`: whole trainings, as small as they get, through the command line."""

import contextlib
import csv
import dataclasses
import io
import json
import math
import re
import shutil
import signal
import subprocess
import sys
import types
import warnings
import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from helpers import ITERATION_METRICS, TEXT_METRICS, tags_of
from ppo_keras.commands.main import main
from ppo_keras.commands.parser import parse
from ppo_keras.datasets.loader import Split, load_texts
from ppo_keras.datasets.subsets import halves
from ppo_keras.errors import DataWarning, InputError
from ppo_keras.language.early_stopping import EarlyStopping
from ppo_keras.language.evaluation import Evaluation
from ppo_keras.language.tokenizer import BEGIN, Tokenizer
from ppo_keras.ppo import PPO
from ppo_keras.reports import tables
from ppo_keras.runs import callbacks, recording, tensorboard
from ppo_keras.runs.folder import Run
from ppo_keras.tasks import generation

TINY = (
    "--layers 1 --width 16 --heads 2 --vocabulary-size 400 --supervised-epochs 1 --supervised-batch-size 64 --iterations 3 --batch-size 16 "
    "--evaluation-samples 20 --response-length 12 --seed 3"
).split()
SMALL = (  # on SENTENCES: seconds a run
    "--model lstm --no-jit --layers 1 --width 16 --heads 2 --vocabulary-size 300 --prompt-length 4 --response-length 6 "
    "--supervised-epochs 1 --supervised-batch-size 8 --iterations 3 --batch-size 8 --epochs 1 --minibatches 2 --evaluation-samples 8 "
    "--learning-rate 0.01 --log-every 0 --data sentences.txt --runs-folder runs --run small"
).split()
CALLS_BEFORE_PPO, CALLS_AN_ITERATION = 1 + 8, 8  # of the reward, with SMALL: one try, the evaluation before, and then
SENTENCES = [
    f"{who} {what} {how}."
    for who in ("The cat", "A dog", "My bird", "One fish")
    for what in ("sleeps", "eats", "runs", "looks")
    for how in ("well", "today", "at home", "again")
]
KEYS = (
    "task model seed reward_before reward_after positive_before positive_after kl distinct_2_before distinct_2_after length_before "
    "length_after perplexity_before perplexity_after seconds"
).split()


def train(*options):
    """Runs `train generation`: exit code, what it printed, what went to stderr, and the warnings that a user would see."""
    tf.get_logger().setLevel("ERROR")  # several runs in one process trace each function anew, which TensorFlow remarks on
    with (
        contextlib.redirect_stdout(io.StringIO()) as out,
        contextlib.redirect_stderr(io.StringIO()) as err,
        warnings.catch_warnings(record=True) as shown,
    ):
        warnings.simplefilter("default")
        code = main(["train", "generation", *options])
    shown = [str(warning.message) for warning in shown if issubclass(warning.category, (UserWarning, RuntimeWarning))]
    return types.SimpleNamespace(code=code, out=out.getvalue(), err=err.getvalue(), warnings=shown)


def trained(folder, name, *options):
    """A finished run, with what it printed."""
    done = train("--runs-folder", str(folder), "--run", name, *options)
    assert done.code == 0, done.err
    done.run = Run(folder / name)
    done.options = options
    return done


def error_line(done):
    """The one line of an error that ends a run; progress bars are on stderr too."""
    assert done.code == 2 and "Traceback" not in done.err
    (line,) = re.findall(r"ppo-keras: error: [^\n]*", done.err)
    return line


def samples_of(run):
    return [json.loads(line) for line in (run.folder / "samples.jsonl").read_text(encoding="utf-8").splitlines()]


def metrics_of(run):
    with open(run.folder / "metrics.csv", newline="", encoding="utf-8") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def weights_in(run, name):
    return keras.models.load_model(run.checkpoint(name), compile=False).get_weights()


def equal(one, other):
    return len(one) == len(other) and all(np.array_equal(a, b) for a, b in zip(one, other))


# Whole runs.


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="session")
def transformer(folder):
    return trained(folder, "transformer", *TINY)


@pytest.fixture(scope="session")
def lstm(folder):
    return trained(folder, "lstm", *TINY, "--model", "lstm", "--no-jit")


@pytest.fixture(params=["lstm", pytest.param("transformer", marks=pytest.mark.full)])
def done(request):
    return request.getfixturevalue(request.param)


def test_a_run_leaves_every_file_of_the_table(done):
    """Catches: a file that `Run` promises and no step writes, and temporary files that stay."""
    files = {path.relative_to(done.run.folder).as_posix() for path in done.run.folder.rglob("*") if path.is_file()}
    events = {name for name in files if name.startswith("events.out.tfevents.")}
    states = {name for name in files if name.endswith(".npz")}
    assert events and states == {f"checkpoints/{name}.npz" for name in ("writer-1", "reward-1", "judge-1", "training-0", "training-3")}
    assert files - events - states == {
        "config.json", "tokenizer.model", "metrics.csv", "samples.jsonl", "summary.json",
        "checkpoints/before.keras", "checkpoints/after.keras", "checkpoints/best.keras", "checkpoints/reward.keras", "checkpoints/judge.keras",
    }  # fmt: skip


def test_the_summary_holds_every_key(done):
    """Catches: a key of the issue left out, a value that is missing or no number, the settings of another run."""
    summary = done.run.load_json("summary.json")
    assert set(KEYS) <= set(summary)
    assert (summary["task"], summary["model"], summary["seed"]) == ("generation", done.run.folder.name, 3)
    assert summary["positive_label"] == "positive" and "The reward is the probability of the label 'positive' (and not 'negative').\n" in done.out
    assert all(math.isfinite(value) for name, value in summary.items() if name not in ("task", "model", "corpus", "positive_label"))
    for name in ("positive", "distinct_1", "distinct_2", "ended"):
        assert 0 <= summary[f"{name}_before"] <= 1 and 0 <= summary[f"{name}_after"] <= 1
    assert summary["perplexity_before"] > 1 and 1 <= summary["length_after"] <= 12 and summary["seconds"] > 1


def test_samples_are_those_of_the_summary(done):
    """Catches: stages exchanged, prompts of one stage beside responses of another, samples left out."""
    samples, summary = samples_of(done.run), done.run.load_json("summary.json")
    assert all(list(sample) == ["stage", "prompt", "response", "score"] for sample in samples)
    before, after = ([s for s in samples if s["stage"] == stage] for stage in ("before", "after"))
    assert len(before) == len(after) == 20 and len(samples) == 40
    assert [s["prompt"] for s in before] == [s["prompt"] for s in after]
    for stage, rows in (("before", before), ("after", after)):
        assert np.mean([row["score"] for row in rows]) == pytest.approx(summary[f"reward_{stage}"], rel=1e-5)
        assert all(0 < row["score"] < 1 for row in rows)  # a probability


def test_prompts_are_beginnings_of_texts_held_out(done):
    """Catches: a measurement on texts that the writer or the reward model was trained on."""
    test = load_texts().test.texts
    prompts = [sample["prompt"] for sample in samples_of(done.run)[:20]]
    assert all(text.startswith(prompt) for text, prompt in zip(test, prompts))
    assert len({len(prompt) for prompt in prompts}) > 2


def test_metrics_have_a_row_an_iteration_and_the_names_of_the_glossary(done):
    """Catches: a metric that is not in the glossary, an entry that nothing writes, an iteration left out."""
    rows = metrics_of(done.run)
    assert [row["iteration"] for row in rows] == [1, 2, 3]
    assert sorted(rows[0]) == sorted(["iteration", *ITERATION_METRICS])
    assert all(math.isfinite(value) for row in rows for value in row.values())


def test_metrics_tell_what_the_options_asked_for(done):
    """Catches: an option that does not reach the learner (rate 5e-4 down to 0 in 48 steps, beta 0.1, 16 responses)."""
    rows = metrics_of(done.run)
    assert [row["optimizer/learning_rate"] for row in rows] == pytest.approx([5e-4, 5e-4 * 2 / 3, 5e-4 / 3], rel=1e-4)
    assert [row["optimizer/steps"] for row in rows] == [16] * 3 and [row["time/episodes"] for row in rows] == [16, 32, 48]
    assert rows[0]["objective/kl"] == pytest.approx(0, abs=1e-4) and rows[0]["objective/kl_coefficient"] == pytest.approx(0.1)
    assert rows[2]["objective/kl_coefficient"] < 0.1  # the target of 8 nats is far
    assert all(1 <= row["response/length"] <= 12 for row in rows)


def test_tensorboard_shows_the_same_scalars(done):
    """Catches: a tag that TensorBoard lacks or names differently, a stage without its curve."""
    events = EventAccumulator(str(done.run.folder), size_guidance={"tensors": 0})
    events.Reload()
    tags = {tag for tag in tags_of(events, "scalars") if not tag.startswith(("final/", tensorboard.OVERVIEW))}
    assert tags == set(TEXT_METRICS) - {"writer/validation_accuracy"}  # that is a classifier's
    values = {tag: [(event.step, float(tf.make_ndarray(event.tensor_proto))) for event in events.Tensors(tag)] for tag in tags}
    for name in ITERATION_METRICS:
        assert values[name] == [(row["iteration"], pytest.approx(row[name], rel=1e-5)) for row in metrics_of(done.run)]
    summary = done.run.load_json("summary.json")
    for name in ("writer/validation_cross_entropy", "reward/validation_accuracy", "judge/validation_accuracy"):
        assert values[name] == [(1, pytest.approx(summary[name.replace("/", "_")], rel=1e-5))]  # one epoch


def test_a_table_and_a_bar_for_each_stage_are_shown(done):
    """Catches: a measure that the table lacks, a stage without a progress bar."""
    for words in ("judged positive", "KL from the reference", "distinct-1", "distinct-2", "length", "perplexity", "before", "after", "prompt", "tensorboard"):
        assert words in done.out, words
    assert all(f"{stage}:" in done.err for stage in ("writer", "reward model", "judge", "PPO"))
    assert "kl=" in done.err and "score=" in done.err


def test_no_warning_is_shown(done):
    """Catches: a warning between the progress bars that the user can do nothing about."""
    assert done.warnings == []


def test_the_config_file_holds_the_options(done):
    """Catches: a run that cannot be repeated from its folder."""
    options = ["train", "generation", "--runs-folder", str(done.run.folder.parent), "--run", done.run.folder.name, *done.options]
    config = json.loads(json.dumps(dataclasses.asdict(parse(options).config)))
    saved = done.run.load_json("config.json")
    assert {name: saved[name] for name in config} == config
    assert saved["context"] == 5 + 12 and saved["corpus"] == "film_reviews/en"


def test_the_writers_before_and_after_are_what_they_say(done):
    """Catches: `before.keras` saved after PPO or not the reference, `after.keras` not the policy at the end."""
    before, after = weights_in(done.run, "before"), weights_in(done.run, "after")
    assert not equal(before, after) and [w.shape for w in before] == [w.shape for w in after]
    first, *_, last = sorted(done.run.states("training").numbers())
    for number, weights in ((first, before), (last, after)):
        with np.load(done.run.states("training").path(number)) as file:
            stored = {file[name].tobytes() for name in file.files}
        assert all(w.tobytes() in stored for w in weights if w.dtype == np.float32)


def test_generate_continues_with_a_trained_writer(done, capsys):
    """Catches: a run that `generate` cannot read back."""
    arguments = ["generate", str(done.run.folder), "--prompt", "The film"]
    outputs = []
    for options in ([], ["--greedy"], ["--greedy"], ["--stage", "before", "--count", "2", "--top-k", "5"]):
        assert main([*arguments, *options]) == 0
        outputs.append(capsys.readouterr().out)
    assert all(output.startswith("The film") and len(output) > len("The film\n") for output in outputs)
    assert outputs[1] == outputs[2]
    assert outputs[3].count("The film") == 2


@pytest.mark.full  # test_resume compares two runs of the same seed too
def test_the_same_seed_writes_the_same_samples(lstm, folder):
    """Catches: a draw that no seed decides (weights, dropout, order of texts, prompts, samples)."""
    again = trained(folder, "again", *TINY, "--model", "lstm", "--no-jit")
    assert (again.run.folder / "samples.jsonl").read_bytes() == (lstm.run.folder / "samples.jsonl").read_bytes()
    timeless = lambda rows: [{name: value for name, value in row.items() if name not in ("time/iteration_seconds", "time/tokens_per_second")} for row in rows]
    assert timeless(metrics_of(again.run)) == timeless(metrics_of(lstm.run))


@pytest.mark.full  # test_tokenizer and test_datasets read Chinese; this is a whole run of it
def test_chinese_round_trips(folder, capsys):
    """Catches: Chinese text changed by the tokenizer, escaped in the samples, or spaced out by `generate`."""
    done = trained(folder, "chinese", *TINY, "--language", "zh", "--vocabulary-size", "1500", "--iterations", "1", "--model", "lstm", "--no-jit")
    tokenizer, corpus = Tokenizer.load(done.run.path("tokenizer.model")), load_texts(language="zh")
    assert all(tokenizer.decode(tokenizer.encode(text)) == text for text in corpus.train.texts + corpus.test.texts)
    prompts = [sample["prompt"] for sample in samples_of(done.run)[:20]]
    whole = [prompt for text, prompt in zip(corpus.test.texts, prompts) if text.startswith(prompt)]
    assert len(whole) > 5  # others end within a character, which three bytes spell
    assert any(prompt in (done.run.folder / "samples.jsonl").read_text(encoding="utf-8") for prompt in whole)
    capsys.readouterr()
    assert main(["generate", str(done.run.folder), "--prompt", "这部电影", "--greedy"]) == 0
    assert capsys.readouterr().out.startswith("这部电影")


def test_preference_pairs_and_separate_networks(folder, tmp_path):
    """Catches: a reward model that ranks the rejected text first, no judge for pairs, `--no-shared-trunk` that shares."""
    pairs = [{"good": text.replace(".", ", happy happy happy."), "bad": text.replace(".", ", gloomy gloomy gloomy.")} for text in SENTENCES]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs), encoding="utf-8")
    options = (
        "--supervised-epochs 8 --iterations 1 --supervised-learning-rate 0.05 --dropout 0 --no-shared-trunk --chosen-column good --rejected-column bad".split()
    )
    done = trained(folder, "pairs", *SMALL[:-4], *options, "--data", str(tmp_path / "pairs.jsonl"))
    summary, tokenizer = done.run.load_json("summary.json"), Tokenizer.load(done.run.path("tokenizer.model"))
    assert summary["reward_validation_accuracy"] == summary["judge_validation_accuracy"] == 1.0
    for name in ("reward", "judge"):
        model = keras.models.load_model(done.run.checkpoint(name), compile=False)
        score = lambda text: float(model((tf.constant([tokenizer.encode(text, True, True)]), tf.ones([1, len(tokenizer.encode(text, True, True))])))[0])
        assert score("The cat sleeps, happy happy happy.") > score("The cat sleeps, gloomy gloomy gloomy."), name
    assert summary["positive_before"] is not None
    writer = keras.models.load_model(done.run.checkpoint("after"), compile=False)
    assert not writer.shared and not equal(writer.encoder.get_weights(), writer.value_encoder.get_weights())


# With a reward of one's own; a small file of sentences.


@contextlib.contextmanager
def current(folder):
    """A current folder with `sentences.txt`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "path", [*sys.path])
        (folder / "sentences.txt").write_text("\n".join(SENTENCES), encoding="utf-8")
        yield folder
        sys.modules.pop("counted_reward", None)


@pytest.fixture
def place(tmp_path):
    """A current folder of one test."""
    with current(tmp_path):
        yield tmp_path


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that took the place of an old one and came to its end, with its folder."""
    with current(tmp_path_factory.mktemp("whole")) as folder:
        old_run(folder / "runs")
        done = train(*SMALL, *counted(folder, 0, "pass"), "--overwrite")
    assert done.code == 0, done.err
    done.folder, done.run = folder, Run(folder / "runs" / "small")
    return done


@pytest.fixture(scope="module")
def broken(tmp_path_factory):
    """A run whose reward failed in the second iteration, with its folder; checkpoints would come every 20 iterations."""
    with current(tmp_path_factory.mktemp("broken")) as folder:
        done = train(*SMALL, *counted(folder, CALLS_BEFORE_PPO + CALLS_AN_ITERATION + 3, "raise RuntimeError('odd response')"))
    done.folder, done.run = folder, Run(folder / "runs" / "small")
    return done


def counted(place, call, action):
    """A reward module: the number of letters e, and `action` in its call number `call`."""
    body = f"import signal\ncalls = 0\ndef score(prompt, response):\n    global calls\n    calls += 1\n    if calls == {call}:\n        {action}\n    return response.count('e')\n"
    (place / "counted_reward.py").write_text(body)
    return ["--reward", "counted_reward:score"]


def old_run(runs_folder):
    """A run named small, of an earlier day. Returns what its files hold."""
    old = Run.create(runs_folder, "small")
    old.save_json("config.json", {"seed": 1})
    old.append_metrics({"iteration": 99})
    (old.folder / "checkpoints" / "after.keras").write_bytes(b"weights")
    return contents(runs_folder)


def contents(folder):
    """The bytes of every file below a folder, hidden ones too."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_own_texts_and_own_reward_replace_an_old_run(whole):
    """Catches: a reward that is not the function's, a judge without labels, files of the old run that stay."""
    assert [path.name for path in (whole.folder / "runs").iterdir()] == ["small"]
    run, samples = whole.run, samples_of(whole.run)
    assert [row["iteration"] for row in metrics_of(run)] == [1, 2, 3]
    assert all(sample["score"] == sample["response"].count("e") for sample in samples)
    summary = run.load_json("summary.json")
    assert summary["positive_before"] is summary["positive_after"] is None and "judged positive" not in whole.out
    assert not (run.folder / "checkpoints" / "judge.keras").exists() and not (run.folder / "checkpoints" / "reward.keras").exists()


@pytest.mark.full  # by the callback that test_environment_failures tries on an agent
def test_a_metric_that_becomes_nan_stops_with_the_last_good_writer(place, monkeypatch):
    """Catches: NaN weights saved, a run that goes on, an unnamed metric, records lost (the second iteration breaks)."""
    improve, good = PPO.improve, []

    def poisoned(self, trajectory):
        metrics = improve(self, trajectory)
        bad = tf.where(tf.convert_to_tensor(self.iteration) >= 1, float("nan"), 0.0)
        for variable in self.policy.trainable_variables:
            variable.assign_add(tf.zeros_like(variable) + bad)
        return metrics | {"loss/value": metrics["loss/value"] + bad}

    class Keep(callbacks.Checkpoint):
        def on_train_batch_end(self, batch, logs=None):
            good.append([np.array(w) for w in self.model.policy.get_weights()])
            super().on_train_batch_end(batch, logs)

    monkeypatch.setattr(PPO, "improve", poisoned)
    monkeypatch.setattr(callbacks, "Checkpoint", Keep)
    line = error_line(train(*SMALL, *counted(place, 0, "pass"), "--checkpoint-every", "1"))
    assert "loss/value became nan in step 2. The last good state is saved. Try a smaller --learning-rate or --max-gradient-norm." in line
    run = Run("runs/small")
    assert len(good) == 1 and equal(weights_in(run, "after"), good[0]) and not equal(good[0], weights_in(run, "before"))
    assert all(np.isfinite(w).all() for w in weights_in(run, "after"))
    assert [row["iteration"] for row in metrics_of(run)] == [1]


@pytest.mark.parametrize("overwrite", [False, True], ids=["new", "overwrite"])
def test_a_writer_that_cannot_be_trained_leaves_what_was_there(place, overwrite):
    """Catches: NaN in supervised training that goes on into PPO, advice about an option that has no part in it, an error glued
    to a progress bar, an old run lost to one that came to nothing."""
    before = old_run(place / "runs") if overwrite else {}
    done = train(*SMALL, *counted(place, 0, "pass"), "--supervised-learning-rate", "1e38", *["--overwrite"] * overwrite)
    line = error_line(done)
    assert "became" in line and "Try a smaller --supervised-learning-rate." in line and "saved" not in line
    assert done.err.rstrip("\n").split("\n")[-1] == line  # and the bar is not drawn once more below it
    assert contents(place / "runs") == before and [path.name for path in (place / "runs").iterdir()] == ["small"] * overwrite


@pytest.mark.full  # by the callback that test_environment_failures tries on an agent
def test_one_ctrl_c_saves_the_run_at_the_end_of_the_iteration(place):
    """Catches: an iteration cut in two, iterations after it, a writer that is lost, the exit code of success."""
    handler = signal.getsignal(signal.SIGINT)
    done = train(*SMALL, *counted(place, CALLS_BEFORE_PPO + CALLS_AN_ITERATION + 3, "signal.raise_signal(signal.SIGINT)"))
    assert done.code == 130 and "Traceback" not in done.err and signal.getsignal(signal.SIGINT) is handler
    run = Run("runs/small")
    assert [row["iteration"] for row in metrics_of(run)] == [1, 2]
    assert not equal(weights_in(run, "after"), weights_in(run, "before"))
    assert run.states("training").numbers()[0] == 2 and "--resume runs/small" in done.err
    assert not (run.folder / "summary.json").exists()
    assert main(["generate", "small", "--prompt", "The", "--greedy"]) == 0


def test_ctrl_c_before_anything_is_saved_leaves_what_was_there(place, monkeypatch):
    """Catches: PPO that begins after a Ctrl-C in supervised training, a folder with nothing in it, an old run lost to it, an epoch
    that was cut short saved as a whole one."""
    monkeypatch.setattr(EarlyStopping, "on_train_batch_end", lambda *_, **__: signal.raise_signal(signal.SIGINT))
    before = old_run(place / "runs")
    assert train(*SMALL, *counted(place, 0, "pass"), "--overwrite").code == 130
    assert contents(place / "runs") == before and [path.name for path in (place / "runs").iterdir()] == ["small"]


def test_ctrl_c_after_an_epoch_keeps_it(place, whole, monkeypatch):
    """Catches: supervised training lost to Ctrl-C, PPO that begins after it, a run that cannot go on, another writer than without it."""
    old_run(place / "runs")
    with monkeypatch.context() as patch:
        patch.setattr(recording.SupervisedRecorder, "on_epoch_end", lambda *_: signal.raise_signal(signal.SIGINT))
        done = train(*SMALL, *counted(place, 0, "pass"), "--overwrite")
    assert done.code == 130 and "--resume runs/small" in done.err
    run = Run("runs/small")
    assert run.states("writer").numbers() == [1] and not run.has("after") and not (place / "runs" / ".small.replaced").exists()
    assert train("--resume", "small").code == 0 and equal(weights_in(run, "after"), weights_in(whole.run, "after"))


def test_what_does_not_fit_a_run_is_named(place, broken, monkeypatch):
    """Catches: a run resumed with another setting, other data, another version or of another task, a run that has ended trained on, a run lost to it."""
    shutil.copytree(broken.folder, place, dirs_exist_ok=True)
    before = contents(place / "runs")
    line = lambda *options: error_line(train("--resume", "small", *options))
    assert "begun with iterations=3, but --iterations now says 4" in line("--iterations", "4")
    assert "begun with model=lstm, but --model now says transformer" in line("--model=transformer")
    assert "there is no run 'smal'" in error_line(train("--resume", "smal"))
    with open("sentences.txt", "a") as file:
        file.write("The cat sings loudly.\n" * 30)
    assert "texts was" in line()
    monkeypatch.setattr("ppo_keras.__version__", "9.9")
    assert "version of ppo_keras was" in line() and "9.9 now" in line()
    assert contents(place / "runs") == before
    with contextlib.redirect_stderr(io.StringIO()) as err:
        assert main(["train", "question-answering", "--resume", "runs/small"]) == 2
    assert "a run of the task 'generation', not of 'question-answering'" in err.getvalue()
    Run("runs/small").save_json("summary.json", {})
    assert "has ended" in line()


def test_a_reward_that_fails_in_mid_run_saves_the_writer(broken):
    """Catches: minutes of training lost for one odd response: that of the first iteration stays, the prompt is named."""
    line, run = error_line(broken), broken.run
    assert "counted_reward:score raised RuntimeError: odd response" in line and "prompt '" in line
    assert [row["iteration"] for row in metrics_of(run)] == [1]
    assert all(np.isfinite(w).all() for w in weights_in(run, "after"))
    assert not equal(weights_in(run, "after"), weights_in(run, "before")), "after.keras is not as far as PPO came"
    assert broken.err.rstrip("\n").split("\n")[-1] == line  # on a line of its own, the progress bar closed before it


@pytest.mark.full  # test_ctrl_c_after_an_epoch_keeps_it stays
def test_a_reward_that_fails_in_the_first_evaluation_loses_no_supervised_training(place):
    """Catches: minutes of supervised training lost to a mistake in the reward, or a run that does not go on once it is mended."""
    done = train(*SMALL, *counted(place, 4, "return float('nan')"), "--iterations", "1")
    assert "returned nan" in error_line(done) and "prompt '" in error_line(done) and "--resume runs/small" in done.err
    run = Run("runs/small")
    assert run.states("writer").numbers() == [1] and not run.has("after")
    counted(place, 0, "pass")
    assert train("--resume", "small").code == 0 and run.has("after")


@pytest.mark.parametrize(
    "call",
    [
        pytest.param(0, id="at the start"),
        pytest.param(4, id="before PPO", marks=pytest.mark.full),
        pytest.param(CALLS_BEFORE_PPO + CALLS_AN_ITERATION + 3, id="in an iteration", marks=pytest.mark.full),
        pytest.param(CALLS_BEFORE_PPO + 3 * CALLS_AN_ITERATION + 3, id="after PPO", marks=pytest.mark.full),
    ],
)
def test_a_full_disk_is_one_line(place, call):
    """Catches: a traceback of TensorFlow or zipfile, half a file that looks like a whole one, an old run lost before PPO began."""
    disk = place / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("a full disk needs the right to mount a small one")
    try:
        fill = f"exec(\"with open({str(disk / 'filler')!r}, 'ab', 0) as f:\\n while f.write(bytes(4096)): pass\")"
        fill = f"\n        try:\n            {fill}\n        except OSError:\n            pass"
        options = [*SMALL, *counted(place, call or -1, fill), "--checkpoint-every", "1", "--runs-folder", str(disk), "--overwrite"]
        before = old_run(disk)
        if call == 0:
            (disk / "filler").write_bytes(bytes(3 * 2**20 - 24 * 1024))
        line = error_line(train(*options))
        assert "disk" in line or "space" in line
        (disk / "filler").unlink()
        assert [path.name for path in disk.iterdir()] == ["small"]
        if call == 0:
            assert contents(disk) == before
        else:
            assert zipfile.is_zipfile(disk / "small" / "checkpoints" / "before.keras")
            after = disk / "small" / "checkpoints" / "after.keras"
            assert not after.exists() or zipfile.is_zipfile(after)
        assert not (disk / "small" / "summary.json").exists()
        if call:  # once there is room
            counted(place, -1, "pass")
            assert train("--resume", "small", "--runs-folder", str(disk)).code == 0 and (disk / "small" / "summary.json").exists()
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


# The parts.


@pytest.fixture(scope="module")
def job():
    """A job on the bundled corpus, checked and not begun."""
    return generation.GenerationJob(parse(["train", "generation", "--vocabulary-size", "400"]).config)


def test_the_judge_never_saw_the_texts_of_the_reward_model(job, monkeypatch):
    """Catches: a judge that shares a training or validation text with the reward it judges, or a text that neither uses."""
    seen = {}

    def fake(model, train, validation, **settings):
        seen[model.name] = [list(zip(map(tuple, texts), labels)) for texts, labels in (train, validation)]
        return types.SimpleNamespace(history={"val_accuracy": [0.5, 0.75, 0.7], "val_cross_entropy": [0.6, 0.4, 0.5]})

    monkeypatch.setattr(generation, "train_classifier", fake)
    monkeypatch.setattr(job, "text_length", 20, raising=False)
    job.summary = {}
    models = [job.train_scorer(name, half, {}) for half, name in enumerate(("reward", "judge"))]
    for reward, judge, split in zip(seen["reward"], seen["judge"], (job.corpus.train, job.corpus.validation)):
        assert not {ids for ids, _ in reward} & {ids for ids, _ in judge}
        assert sorted(reward + judge) == sorted(zip(map(tuple, job.encode(split.texts)), split.labels))
        assert abs(len(reward) - len(judge)) <= 1 and {label for _, label in reward} == {label for _, label in judge} == {0, 1}
    assert not {id(v) for v in models[0].variables} & {id(v) for v in models[1].variables}
    assert job.summary == {"reward_validation_accuracy": 0.75, "judge_validation_accuracy": 0.75}  # of the epoch that was kept


def write_films(folder, name, label_of, count=96, form="the film {} is told"):
    """A file of texts; `label_of` of their number."""
    rows = "".join(f"{form.format(i)}\t{label_of(i)}\n" for i in range(count))
    (folder / name).write_text("text\tlabel\n" + rows, encoding="utf-8")
    return str(folder / name)


def parsed(*options):
    return parse(["train", "generation", "--batch-size", "16", "--supervised-batch-size", "16", "--vocabulary-size", "300", *options]).config


def test_labels_that_alternate_reach_reward_model_and_judge(tmp_path, monkeypatch):
    """Catches: even and odd rows of a validation file whose labels alternate: each model is measured on one class, and always right."""
    data = write_films(tmp_path, "films.tsv", lambda i: ("rotten", "fresh")[i % 2])
    held_out = write_films(tmp_path, "held_out.tsv", lambda i: ("rotten", "fresh")[i % 2], 20, "a story {} is told")
    one, seen = generation.GenerationJob(parsed("--data", data, "--validation-data", held_out)), []

    def fake(model, train, validation, **settings):
        seen.append([sorted(labels.tolist()) for _, labels in (train, validation)])
        return types.SimpleNamespace(history={"val_accuracy": [1.0], "val_cross_entropy": [0.1]})

    monkeypatch.setattr(generation, "train_classifier", fake)
    one.summary = {}
    for half, name in enumerate(("reward", "judge")):
        one.train_scorer(name, half, {})
    assert [validation for _, validation in seen] == [[0] * 5 + [1] * 5] * 2
    assert all(abs(2 * sum(train) - len(train)) <= 1 for train, _ in seen)


def test_the_seed_deals_the_halves(tmp_path):
    """Catches: halves of one seed in every run, so that several seeds tell nothing of what the choice of texts does."""
    splits = {"data": 96, "validation-data": 20, "test-data": 20}
    options = [part for name, count in splits.items() for part in (f"--{name}", write_films(tmp_path, f"{name}.tsv", lambda i: i % 2, count, f"{name} {{}}"))]
    first, second = (generation.GenerationJob(parsed(*options, "--seed", str(seed))) for seed in (0, 1))
    assert first.corpus.train.texts == second.corpus.train.texts and first.halves["train"][0].texts != second.halves["train"][0].texts
    for seed, one in enumerate((first, second)):
        for name in ("train", "validation"):
            assert [half.texts for half in one.halves[name]] == [half.texts for half in halves(getattr(one.corpus, name), seed)]


def test_the_label_that_is_rewarded_is_named(tmp_path):
    """Catches: a summary, a table or first lines that leave open which label the score is of; one that the alphabet chose against its name."""
    data = write_films(tmp_path, "films.tsv", lambda i: ("rotten", "fresh")[i % 2])
    one = generation.GenerationJob(parsed("--data", data))
    assert one.reward_is == "the probability of the label 'fresh' (and not 'rotten')"
    assert all(int(text.split()[2]) % 2 == label for text, label in zip(one.corpus.train.texts, one.corpus.train.labels))
    one.summary, run = {}, Run.create(tmp_path, "films")
    evaluation = Evaluation(["the"], [" film"], np.array([0.5], np.float32), 0.5, 0.25, *[1.0] * 6)
    with contextlib.redirect_stdout(io.StringIO()) as out:
        one.report(run, evaluation, evaluation)
    assert run.load_json("summary.json")["positive_label"] == "fresh" and "judged fresh" in out.getvalue()
    assert "The reward is the probability of the label 'fresh'" in " ".join(out.getvalue().split())
    assert tables.in_words("positive_after", {"positive_label": "fresh"}) == "judged fresh after" and tables.in_words("kl", {}) == "kl"
    other = generation.GenerationJob(parsed("--data", data, "--positive-label", "Rotten"))
    assert other.reward_is == "the probability of the label 'rotten' (and not 'fresh')"
    assert all(int(text.split()[2]) % 2 != label for text, label in zip(other.corpus.train.texts, other.corpus.train.labels))


def test_what_is_rewarded_where_it_is_no_label(tmp_path, place):
    """Catches: a label named as rewarded where prompts ask for theirs, where pairs teach it, or where a function is the reward."""
    data = write_films(tmp_path, "films.tsv", lambda i: ("rotten", "fresh")[i % 2])
    codes = generation.GenerationJob(parsed("--data", data, "--control-codes"))
    assert codes.reward_is == "the probability of the label that the prompt asks for: rotten, fresh" and codes.positive_label is None
    own = generation.GenerationJob(parsed("--data", data, *counted(place, 0, "pass")))
    assert own.reward_is == "that of counted_reward:score; the judge tells 'fresh' from other texts"
    (tmp_path / "pairs.tsv").write_text("a\tb\n" + "".join(f"good {i}\tbad {i}\n" for i in range(60)))
    pairs = generation.GenerationJob(parsed("--data", str(tmp_path / "pairs.tsv"), "--chosen-column", "a", "--rejected-column", "b"))
    assert pairs.reward_is == "between 0 and 1, learned from the preference pairs" and pairs.judged == "like the chosen texts"


def test_lengths_come_from_the_texts(job):
    """Catches: a response length that cuts most texts, or a context that prompt and response do not fit into."""
    lengths = np.array([len(ids) for ids in job.encode(job.corpus.train.texts)])
    assert 0.93 < np.mean(lengths - 1 <= job.response_length) <= 0.98
    assert job.context == 5 + job.response_length <= job.text_length


def test_prompts_have_every_length_and_no_end(job, monkeypatch):
    """Catches: prompts of one length, without a begin token, or whole texts; other prompts for the same seed."""
    prompts = job.make_prompts("train", 200, seed=1)
    lengths = prompts.mask.sum(axis=1)
    assert set(lengths) == {2, 3, 4, 5} and prompts.tokens.shape == (200, 5)
    first = prompts.tokens[np.arange(200), 5 - lengths.astype(int)]
    assert (first == BEGIN).all() and not (prompts.tokens == job.tokenizer.end_id).any()
    assert np.array_equal(job.make_prompts("train", 200, seed=1).tokens, prompts.tokens)
    assert not np.array_equal(job.make_prompts("train", 200, seed=2).tokens, prompts.tokens)
    monkeypatch.setattr(job, "corpus", job.corpus._replace(test=Split(["a"] * 3)))
    assert job.make_prompts("test", 3, seed=0).mask.sum() > 0


def test_pairs_that_are_equal_once_cut_are_told(tmp_path, monkeypatch):
    """Catches: preference pairs that teach nothing because what makes the difference is cut off, without a word."""
    monkeypatch.chdir(tmp_path)
    rows = [f"a good film {i}\ta bad film {i}" for i in range(97)]
    rows += [f"a film {i} {'and on ' * 30}{end}\ta film {i} {'and on ' * 30}" for i, end in enumerate("abc")]
    (tmp_path / "pairs.tsv").write_text("\n".join(["good\tbad", *rows]) + "\n")
    options = "--data pairs.tsv --chosen-column good --rejected-column bad --vocabulary-size 300 --batch-size 16 --response-length 4 --prompt-length 4".split()
    with pytest.warns(
        DataWarning, match=r"^\d pairs of the \w+ split of pairs.tsv are equal once they are cut to \d+ tokens .* left out of the reward. Use --resp"
    ):
        job = generation.GenerationJob(parse(["train", "generation", *options]).config)
    one_half = Split([f"a film {'and on ' * 30}and off"], rejected=[f"a film {'and on ' * 30}"])
    with monkeypatch.context() as patch:
        patch.setitem(job.halves, "validation", (job.halves["validation"][0], one_half))
        with pytest.raises(InputError, match=r"^all 1 pairs of one half of the validation split of pairs.tsv \(the reward model's or the judge's\) are equal"):
            job.check_pairs_differ()
    job.text_length = 2
    with pytest.raises(
        InputError, match=r"^all 80 pairs of the train split of pairs.tsv are equal once they are cut to 2 tokens. Use --response-length \d+ to read"
    ):
        job.check_pairs_differ()
