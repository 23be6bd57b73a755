"""`ppo_keras.commands`: every setting arrives, every mistake is said in one line. Trainings are in tests/tasks/."""

import contextlib
import dataclasses
import io
import re
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import pytest

from helpers import assert_close, tiny_policy
from ppo_keras.commands import generate
from ppo_keras.commands import main as command_line
from ppo_keras.commands.main import main
from ppo_keras.commands.train import resumed
from ppo_keras.datasets.loader import load_texts
from ppo_keras.errors import InputError
from ppo_keras.language.tokenizer import Tokenizer
from ppo_keras.reports import tables
from ppo_keras.runs.folder import Run
from ppo_keras.runs.models import load_policy
from ppo_keras.tasks.config import TASKS, GenerationConfig

TEXTS = [
    f"{first} {second} film is {third}."
    for first in ("This", "That", "His")
    for second in ("long", "old", "new", "last")
    for third in ("fine", "dull", "warm", "loud")
]
CHOICES = {
    "profile": "5:8", "critic_warmup": 3,
    "model": "lstm", "language": "zh", "data": "texts.txt", "dataset": "imdb_reviews", "text_column": "review", "label_column": "stars",
    "reward": "rewards:short", "run": "second", "runs_folder": "elsewhere", "reward_network": "lstm", "kl_estimator": "k3",
    "schedule": "cosine", "seed": 7, "shuffle_seed": 7, "entropy_coefficient": 0.25, "dual_clip": 3.0, "target_kl": 0.5, "response_length": 7,
    "validation_data": "b.tsv", "test_data": "c.tsv", "costs": "0 1; 5 0", "text_length": 9, "questions": "all", "question_column": "q",
    "answer_column": "a", "source_column": "s", "target_column": "t", "partial_credit": 0.5, "prompt_length": 9, "positive_label": "bad",
    "devices": "cpu:2",
    "reward_epochs": 7, "reward_learning_rate": 0.5, "reward_weights": "right=2", "reward_processes": 2, "reward_timeout": 1.5,
}  # fmt: skip
FIELDS = [f.name for f in dataclasses.fields(GenerationConfig) if not dataclasses.is_dataclass(f.default)]
NESTED = [(f.name, g.name) for f in dataclasses.fields(GenerationConfig) if dataclasses.is_dataclass(f.default) for g in dataclasses.fields(f.default)]
PARTNERS = {"validation_data": {"data": "a.tsv"}, "test_data": {"data": "a.tsv"}}  # settings that are refused alone
PARTNERS |= {name: {"reward": "a:b"} for name in ("reward_weights", "reward_processes", "reward_timeout")}
SETTINGS = [("generation", None, name) for name in FIELDS if name not in ("chosen_column", "rejected_column", "prompt_widths")]
SETTINGS += [("translation", None, "prompt_widths")]
# those of a checkpoint: test_pretrained_tasks.py; of workers: test_cluster.py
SETTINGS += [("generation", *pair) for pair in NESTED if pair[0] != "checkpoint" and "worker" not in pair[1]]
for task, (settings, _) in TASKS.items():  # of the other tasks, what generation does not have
    SETTINGS += [(task, None, f.name) for f in dataclasses.fields(settings) if not dataclasses.is_dataclass(f.default) and f.name not in FIELDS]


def parse(*options, task="generation"):
    return command_line.parse(["train", task, *options]).config


def error_line(capsys, *arguments):
    """The one line of an error: exit code 2, nothing else on stderr."""
    capsys.readouterr()
    assert main(list(arguments)) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("ppo-keras: error: ") and len(lines[0]) < 600, lines
    return lines[0]


# Settings.


@pytest.mark.parametrize("task, group, name", SETTINGS)
def test_every_setting_has_an_option_that_reaches_it(task, group, name):
    """Catches: a field that the command line does not offer, or that another option of the same name takes."""
    get = lambda config: getattr(getattr(config, group) if group else config, name)
    expected, partners = TASKS[task][0](), PARTNERS.get(name, {})
    default = get(expected)
    flag = "--" + name.replace("_", "-")
    if isinstance(default, bool):
        value, options = not default, [flag if not default else f"--no-{flag[2:]}"]
    else:
        value = CHOICES.get(name, default * 2 if isinstance(default, int) else default / 2 if isinstance(default, float) else None)
        options = [flag, str(value)]
    assert value is not None and value != default
    config = parse(*(word for partner, given in partners.items() for word in (f"--{partner}", given)), *options, task=task)
    assert get(config) == value and type(get(config)) is type(value)
    owner = getattr(config, group) if group else config
    restored = dataclasses.replace(owner, **{name: default})
    expected = dataclasses.replace(expected, **partners)
    assert (dataclasses.replace(config, **{group: restored}) if group else restored) == expected  # and nothing else changed


@pytest.mark.parametrize("task", TASKS)
def test_every_task_has_help_with_an_example(task, capsys):
    """Catches: a task whose help fails, or that names another task's settings."""
    with pytest.raises(SystemExit) as stop:
        main(["train", task, "--help"])
    text = capsys.readouterr().out
    assert stop.value.code == 0 and f"ppo-keras train {task} --model lstm" in text
    assert all(f"--{f.name.replace('_', '-')}" in text for f in dataclasses.fields(TASKS[task][0]) if not dataclasses.is_dataclass(f.default))


def test_settings_left_out_are_those_of_the_config():
    """Catches: the defaults of a nested config in place of those that the task chose (discount 1, temperature 0.8)."""
    assert parse() == GenerationConfig()
    assert parse("--epochs", "2").ppo == dataclasses.replace(GenerationConfig().ppo, epochs=2)


def test_preference_columns_come_in_pairs(capsys):
    """Catches: one column of a pair read as labelled texts."""
    config = parse("--chosen-column", "good", "--rejected-column", "bad")
    assert (config.chosen_column, config.rejected_column) == ("good", "bad")
    for option in ("--chosen-column", "--rejected-column"):
        assert "both --chosen-column and --rejected-column" in error_line(capsys, "train", "generation", option, "x")


@pytest.mark.parametrize("name", ["value_clip", "max_gradient_norm", "kl_target", "dual_clip", "target_kl"])
def test_none_switches_off(name):
    """Catches: an option that can be set but not switched off."""
    config = parse("--" + name.replace("_", "-"), "none")
    assert getattr(config.kl if name == "kl_target" else config.ppo, name) is None


def test_help_names_every_setting_with_its_meaning(capsys):
    """Catches: an option without a word about it."""
    with pytest.raises(SystemExit) as stop:
        main(["train", "generation", "--help"])
    text = capsys.readouterr().out
    assert stop.value.code == 0
    for name in FIELDS + [name for _, name in NESTED]:
        assert re.search(rf"--{name.replace('_', '-')}[ ,\n]", text), name
    for meaning in ("PPO iterations", "nats a response", "of the bundled film reviews", "passes over the collected experience", "most tokens of a prompt"):
        assert meaning in " ".join(text.split()), meaning


def test_help_needs_no_tensorflow():
    """Catches: an import that makes `python -m ppo_keras --help` take seconds, or a broken `__main__`."""
    code = "import atexit, runpy, sys; sys.argv = ['ppo_keras', '--help']; "
    code += "atexit.register(lambda: print('LOADED', [m for m in ('tensorflow', 'keras') if m in sys.modules])); "
    code += "runpy.run_module('ppo_keras', run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == ""
    assert "ppo-keras train generation" in done.stdout and "LOADED []" in done.stdout


@pytest.mark.parametrize(
    "arguments, word, command",
    [
        (["train", "generation", "--itertions", "3"], "--itertions", ""),
        (["train", "generation", "--layers", "x"], "--layers", " train generation"),
        (["train", "generation", "--layers"], "--layers", " train generation"),
        (["train"], "TASK", " train"),
        (["genrate"], "genrate", ""),
        (["generate", "first"], "--prompt", " generate"),
        (["bench", "text", "--model", "gpt"], "gpt", " bench text"),
        ([], "COMMAND", ""),
    ],
    ids=" ".join,
)
def test_a_command_that_cannot_be_parsed(capsys, arguments, word, command):
    """Catches: a traceback, a usage of fifty options around the one line, the help of another command named, a misspelt option that is ignored."""
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    shown = capsys.readouterr()
    (line,) = shown.err.splitlines()
    assert stop.value.code == 2 and shown.out == ""
    assert line.startswith("ppo-keras: error: ") and word in line
    assert line.endswith(f". See ppo-keras{command} --help.")


def test_exit_codes_of_what_goes_wrong_in_a_command(monkeypatch, capsys):
    """Catches: a full disk or Ctrl-C shown as a traceback; an error of several lines printed as such."""
    failures = iter([OSError(28, "No space left on device", "runs/x"), ValueError("a bug"), KeyboardInterrupt()])

    def fail(task, parsed, arguments):
        raise next(failures)

    monkeypatch.setattr("ppo_keras.commands.parser.train", fail)
    line = error_line(capsys, "train", "generation")
    assert "No space left on device (runs/x)" in line
    with pytest.raises(ValueError, match="a bug"):  # a mistake of ours must not be blamed on the user
        main(["train", "generation"])
    assert main(["train", "generation"]) == 130
    assert capsys.readouterr().err == "Stopped.\n"
    assert command_line._fail("two\n  lines") == 2
    assert capsys.readouterr().err == "ppo-keras: error: two lines\n"


# Bad input, found before any work.


@pytest.fixture
def refused(tmp_path, monkeypatch, capsys):
    """A function: runs `train generation` in an empty folder, expects one line and no run folder, and returns the line."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS), encoding="utf-8")
    before = {path.name for path in tmp_path.iterdir()}

    def run(*options, small=True):
        sizes = ["--batch-size", "16", "--supervised-batch-size", "16", "--vocabulary-size", "300"] if small else []
        line = error_line(capsys, "train", "generation", *sizes, *options)
        new = {path.name for path in tmp_path.iterdir()} - before - {"__pycache__"}
        assert "runs" not in new, "a run folder was left behind"
        return line

    return run


def labelled(texts=TEXTS, header="text\tlabel"):
    return header + "\n" + "".join(f"{text}\t{i % 2}\n" for i, text in enumerate(texts))


@pytest.mark.parametrize(
    "name, content, options, words",
    [
        ("x.tsv", None, [], ["x.tsv", "no file"]),
        ("x.tsv", labelled(), ["--text-column", "txet"], ["'txet'", "Did you mean 'text'"]),
        ("x.tsv", labelled(), ["--label-column", "lable"], ["'lable'", "Did you mean 'label'"]),
        ("x.tsv", labelled(header="review\tlabel"), [], ["'text'", "review"]),
        ("x.tsv", "", [], ["x.tsv is empty"]),
        ("x.txt", "\n\n  \n", [], ["only empty lines"]),
        ("x.tsv", "text\tlabel\n", [], ["no rows"]),
        ("x.tsv", labelled().encode() + b"caf\xe9\t1\n", [], ["UTF-8"]),
        ("x.tsv", labelled().replace("\t1", "\t0"), [], ["every label", "'0'"]),
        ("x.tsv", labelled().replace("\t1", "\t"), [], ["line 3", "empty"]),
        ("x.tsv", labelled(TEXTS[:12]), [], ["different training texts", "16"]),
        ("x.txt", "\n".join(TEXTS), [], ["no labels", "--label-column", "--reward"]),
        ("x.tsv", labelled(header="text\tstars"), [], ["no labels", "--label-column"]),
        ("x.docx", "text", [], [".txt", ".csv"]),
        ("x.jsonl", '{"chosen": "a"\n', ["--chosen-column", "chosen", "--rejected-column", "rejected"], ["line 1"]),
    ],
    ids=["missing file", "text column", "label column", "no text column", "empty", "empty lines", "header only", "not UTF-8", "one class", "label missing",
         "few texts", "txt without reward", "no label column", "unknown kind", "broken JSON"],
)  # fmt: skip
def test_data_that_cannot_be_used(refused, tmp_path, name, content, options, words):
    """Catches: a traceback, a message that does not say what is wrong where, or a run folder left behind."""
    if content is not None:
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    line = refused("--data", name, *options)
    assert all(word in line for word in words), line


def test_an_unknown_dataset(refused):
    """Catches: a long traceback of TFDS, or a search that waits for the network."""
    line = refused("--dataset", "film_reveiws/en")
    assert "film_reveiws" in line


@pytest.mark.parametrize(
    "options, words",
    [
        (["--minibatches", "5"], ["minibatches=5", "batch_size=64", "2, 4, 8"]),
        (["--batch-size", "10"], ["minibatches=4", "batch_size=10"]),
        (["--data", "a.txt", "--dataset", "b"], ["--data", "--dataset"]),
        (["--language", "de"], ["'de'", "--data"]),
        (["--model", "gpt"], ["'gpt'", "transformer or lstm"]),
        (["--vocabulary-size", "100"], ["vocabulary_size=100", "300"]),
        (["--prompt-length", "1"], ["prompt_length=1"]),
        (["--run", "a/b"], ["'a/b'"]),
        (["--run", "..", "--overwrite"], ["--run '..'"]),
        (["--learning-rate", "-1"], ["learning_rate=-1"]),
        (["--seed", "2147483647", "--seeds", "2"], ["seeds=2", "seed=2147483647", "go beyond 2^31"]),
        (["--width", "30"], ["width=30", "heads"]),
    ],
    ids=lambda value: value[0] if isinstance(value, list) and value[0].startswith("--") else "",
)
def test_settings_that_cannot_be_used(refused, options, words):
    """Catches: a setting that fails after the supervised training, or a message that names another one."""
    line = refused(*options, small=False)
    assert all(word in line for word in words), line


@pytest.mark.parametrize(
    "reward, source, words",
    [
        ("short", None, ["module:function"]),
        ("no_such_module_here:short", None, ["no_such_module_here", "ModuleNotFoundError"]),
        ("broken_one:short", "def short(:", ["broken_one", "SyntaxError"]),
        ("other_name:shrt", "def short(prompt, response): return 0.0", ["'shrt'", "short"]),
        ("raises:f", "def f(prompt, response): raise KeyError('stars')", ["raises:f", "KeyError", "prompt '"]),
        ("not_a_number:f", "def f(prompt, response): return float('nan')", ["not_a_number:f", "nan", "prompt '"]),
        ("a_string:f", "def f(prompt, response): return 'good'", ["a_string:f", "'good'", "prompt '"]),
        ("a_list:f", "def f(prompt, response): return [1.0, 2.0]", ["a_list:f", "[1.0, 2.0]", "prompt '"]),
        ("nothing:f", "def f(prompt, response): pass", ["nothing:f", "None", "prompt '"]),
        ("one_argument:f", "def f(response): return 1.0", ["one_argument:f", "TypeError"]),
        ("a_column:f", "def f(prompt, response, label): return 1.0", ["a_column:f", "'label'", "texts.txt", "It has: text."]),
        ("by_position:f", "def f(prompt, response, label, /): return 1.0", ["by_position:f", "'label'", "by name"]),
        ("one_for_all:f", "def f(prompts, responses): return [1.0]", ["one_for_all:f", "1 value for 2 responses"]),
        ("no_list:f", "def f(prompts, responses): return 1.0", ["no_list:f", "1.0 for 2 responses"]),
        ("unlike_parts:f", "def f(prompts, responses): return [{'a': 1.0}, {'b': 1.0}]", ["unlike_parts:f", "the parts b", "the parts a before"]),
    ],
    ids=lambda value: value.split(":")[0] if isinstance(value, str) else "",
)
def test_a_reward_that_cannot_be_used(refused, tmp_path, reward, source, words):
    """Catches: a mistake in the user's function that shows after minutes of supervised training, or without its prompt."""
    if source is not None:
        (tmp_path / f"{reward.split(':')[0]}.py").write_text(source)
    line = refused("--data", "texts.txt", "--reward", reward)
    assert all(word in line for word in words), line


@pytest.mark.parametrize(
    "source, options, words",
    [
        ("def f(prompt, response): return {'right': 1.0}", ["--reward-weights", "rigth=2"], ["rigth", "the parts right", "Did you mean 'right'"]),
        ("def f(prompt, response): return 1.0", ["--reward-weights", "right=2"], ["returns one number, without parts"]),
        ("def f(prompt, response): return 1.0", ["--reward-weights", "right"], ["no list of parts and numbers", "correct=1,format=0.5"]),
        ("def f(prompt, response): return 1.0", ["--reward-weights", "a=1,a=2"], ["no list of parts and numbers"]),
        ("def f(prompt, response): return 1.0", ["--reward-weights", "a=nan"], ["no list of parts and numbers"]),
        ("def f(prompt, response): return 1.0", ["--reward-processes", "-1"], ["reward_processes=-1"]),
        ("def f(prompt, response): return 1.0", ["--reward-timeout", "0"], ["reward_timeout=0.0 is not positive"]),
        ("import time\ndef f(prompt, response): time.sleep(600)", ["--reward-timeout", "0.5"], ["took longer than 0.5 seconds", "prompt '"]),
        ("import os\ndef f(prompt, response): os._exit(3)", ["--reward-processes", "1"], ["ended its process with exit code 3", "prompt '"]),
        ("def f(prompt, response): 1 / 0", ["--reward-processes", "2"], ["raised ZeroDivisionError", "prompt '"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) and value[0].startswith("--") else "",
)  # fmt: skip
def test_settings_of_a_reward_that_cannot_be_used(refused, tmp_path, monkeypatch, source, options, words):
    """Catches: a weight that changes nothing, a reward that hangs or dies after minutes of supervised training, or for ever."""
    (tmp_path / "one_reward_of_a_test.py").write_text(source)
    monkeypatch.delitem(sys.modules, "one_reward_of_a_test", raising=False)
    line = refused("--data", "texts.txt", "--reward", "one_reward_of_a_test:f", *options)
    assert all(word in line for word in words), line
    monkeypatch.delitem(sys.modules, "one_reward_of_a_test", raising=False)


@pytest.mark.parametrize("option", [["--reward-weights", "a=1"], ["--reward-processes", "2"], ["--reward-timeout", "1"]], ids=lambda option: option[0])
def test_settings_of_a_reward_that_is_not_there(refused, option):
    """Catches: a setting without effect, where the reward is learned."""
    assert f"{option[0]} is of a function of yours, but there is none" in refused("--data", "texts.txt", *option)


def test_an_existing_run_is_left_alone(tmp_path, monkeypatch, capsys):
    """Catches: a run replaced without `--overwrite`, or found out after the work."""
    monkeypatch.chdir(tmp_path)
    Run.create("runs", "generation").save_json("summary.json", {"kl": 1})
    assert "--overwrite" in error_line(capsys, "train", "generation")
    assert Run("runs/generation").load_json("summary.json") == {"kl": 1}


def test_bad_input_does_not_cost_the_old_run(tmp_path, monkeypatch, capsys):
    """Catches: `--overwrite` that deletes the old run before it knows that the new one can begin."""
    monkeypatch.chdir(tmp_path)
    Run.create("runs", "generation").save_json("config.json", {"seed": 1})
    assert "missing.txt" in error_line(capsys, "train", "generation", "--overwrite", "--data", "missing.txt")
    assert Run("runs/generation").load_json("config.json") == {"seed": 1} and [path.name for path in Path("runs").iterdir()] == ["generation"]


def test_a_run_is_resumed_from_another_folder(tmp_path, monkeypatch):
    """Catches: `--resume` that does not find the data, the map or the reward of a run that was begun elsewhere."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "began").mkdir()
    (tmp_path / "began" / "texts.txt").write_text("x")
    monkeypatch.chdir(tmp_path / "began")
    Run.create("runs", "first").save_config(parse("--data", "texts.txt", "--run", "first"), task="generation")
    monkeypatch.chdir(tmp_path)
    arguments = ["train", "generation", "--resume", "began/runs/first"]
    config, resume = resumed(command_line.parse(arguments), arguments)
    assert resume and config.data == str(tmp_path / "began" / "texts.txt") and str(tmp_path / "began") in sys.path
    assert (config.run, config.runs_folder) == ("first", "began/runs")


def test_a_folder_that_is_no_run_is_not_replaced(tmp_path, monkeypatch, capsys):
    """Catches: `--overwrite` that deletes a folder of something else."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "notes").mkdir(parents=True)
    (tmp_path / "runs" / "notes" / "ideas.txt").write_text("x")
    assert "not the folder of a run" in error_line(capsys, "train", "generation", "--overwrite", "--run", "notes")
    assert (tmp_path / "runs" / "notes" / "ideas.txt").read_text() == "x"


def test_a_vocabulary_too_small_for_the_characters(refused):
    """Catches: SentencePiece's own message, or a least size that is not enough: the one that is named must do, one less must not."""
    line = refused("--language", "zh", "--vocabulary-size", "400", small=False)
    least = int(re.search(r"vocabulary_size=400 is too small for the characters of these texts\. Use (\d+) or more\.$", line)[1])
    texts = load_texts(language="zh").train.texts
    assert Tokenizer.train(texts, least).vocabulary_size == least
    with pytest.raises(InputError, match=f"Use {least} or more"):
        Tokenizer.train(texts, least - 1)


def test_a_runs_folder_that_cannot_be_made(refused, tmp_path):
    """Catches: a traceback where a part of the path is a file (root may write into any folder)."""
    (tmp_path / "rewards_for_a_file.py").write_text("def f(prompt, response): return 1.0")
    line = refused("--data", "texts.txt", "--reward", "rewards_for_a_file:f", "--runs-folder", "texts.txt/runs")
    assert "texts.txt" in line
    assert (tmp_path / "texts.txt").read_text(encoding="utf-8") == "\n".join(TEXTS)


# The command `generate`, on a run made by hand.


@pytest.fixture(scope="module")
def hand_made(tmp_path_factory):
    """A run folder whose writers before and after differ; the context holds 12 tokens."""
    run = Run.create(tmp_path_factory.mktemp("runs"), "hand-made")
    tokenizer = Tokenizer.train(TEXTS, 300)
    tokenizer.save(run.path("tokenizer.model"))
    run.save_json("config.json", {"context": 12, "response_tokens": 8, "ppo": {"temperature": 0.5}})
    for seed, stage in enumerate(("before", "after")):
        tiny_policy("transformer", vocabulary_size=tokenizer.vocabulary_size, memory=12, seed=seed).save(run.checkpoint(stage))
    return run


@pytest.fixture
def say(hand_made, capsys):
    """A function: the lines that `generate` prints."""

    def run(*options, run=hand_made):
        capsys.readouterr()
        assert main(["generate", str(run.folder), *options]) == 0
        return capsys.readouterr().out.rstrip("\n").split("\n")

    return run


def test_a_prompt_is_continued(say, hand_made):
    """Catches: the prompt left out, or printed without a continuation; a run found by folder only."""
    (line,) = say("--prompt", "This film", "--greedy")
    assert line.startswith("This film") and len(line) > len("This film")
    by_name = say("--prompt", "This film", "--greedy", "--runs-folder", str(hand_made.folder.parent), run=Run("hand-made"))
    assert by_name == [line]


def test_a_prompt_is_cleaned_as_training_texts_are(say):
    """Catches: a blank at the end, or a mark that cannot be seen, which the model never read in training."""
    lines = say("--prompt", "This film", "--prompt", "This film ", "--prompt", "\ufeff This\u200b\tfilm\n", "--greedy")
    assert len(lines) == 3 and len(set(lines)) == 1


def test_an_argument_that_is_no_text_is_one_line(hand_made, capsys):
    """Catches: bytes that are not UTF-8 in a prompt, a name or a file, and half of a character: a traceback in the tokenizer or at the first print."""
    name = str(hand_made.folder)
    assert "holds the byte 0xff, not UTF-8, which is no text" in error_line(capsys, "generate", name, "--prompt", "This \udcff film")
    assert "holds U+D83D, half of a character" in error_line(capsys, "generate", name, "--prompt", "\ud83d")
    assert "holds the byte 0xe9" in error_line(capsys, "train", "generation", "--data", "caf\udce9.csv")
    assert "holds the byte 0xe9" in error_line(capsys, "evaluate", "caf\udce9")


def test_each_prompt_gets_its_count(say):
    """Catches: one line too few, the same sample N times, prompts left out."""
    lines = say("--prompt", "This", "--prompt", "His old film", "--count", "3", "--top-k", "8")
    assert sorted(line.split(" ")[0][:3] for line in lines) == ["His"] * 3 + ["Thi"] * 3
    assert len(set(lines)) > 2


def test_greedy_needs_no_seed_and_samples_do(say):
    """Catches: `--greedy` that samples, a seed that is not used, an unseeded sample."""
    assert say("--prompt", "This", "--greedy", "--seed", "1") == say("--prompt", "This", "--greedy", "--seed", "2")
    one, again, other = (say("--prompt", "This", "--count", "4", "--top-k", "20", "--seed", seed) for seed in "112")
    assert one == again != other
    assert say("--prompt", "This", "--top-k", "1") == say("--prompt", "This", "--greedy")


def test_the_stage_chooses_the_weights(say, hand_made, tmp_path, capsys):
    """Catches: `--stage before` that reads `after.keras`, or the other way round."""
    answers = {stage: say("--prompt", "This", "--greedy", "--stage", stage) for stage in ("before", "after")}
    assert answers["before"] != answers["after"] == say("--prompt", "This", "--greedy")
    for stage, other in (("before", "after"), ("after", "before")):
        run = Run(tmp_path / stage)
        shutil.copytree(hand_made.folder, run.folder)
        (run.folder / "checkpoints" / f"{other}.keras").unlink()
        assert say("--prompt", "This", "--greedy", "--stage", stage, run=run) == answers[stage]
        assert f"{other}.keras" in error_line(capsys, "generate", str(run.folder), "--prompt", "This", "--stage", other)


def test_options_reach_the_sampler(say, monkeypatch):
    """Catches: an option that is parsed and dropped, a default temperature other than the run's, or only the first of the tokenizer's end tokens."""
    calls = []
    real = generate.generation.generate

    def spy(policy, prompts, length, end_id, pad_id, seed, temperature, greedy, top_k, top_p):
        assert end_id == (3, 7)
        calls.append((prompts.tokens.shape, length, temperature, greedy, top_k, top_p, seed.numpy().tolist()))
        return real(policy, prompts, length, end_id, pad_id, seed, temperature, greedy, top_k, top_p)

    monkeypatch.setattr(generate.generation, "generate", spy)
    monkeypatch.setattr(Tokenizer, "end_ids", (3, 7))
    say("--prompt", "This")
    say("--prompt", "This", "--count", "2", "--length", "3", "--temperature", "0.9", "--top-k", "5", "--top-p", "0.75", "--seed", "4")
    say("--prompt", "This old film is")
    (shape, *default), (shape_2, *chosen), (shape_3, *less_room) = calls
    assert default == [8, 0.5, False, None, None, [0, 0]] and shape[0] == 1 and shape[1] <= 4
    assert less_room == [12 - shape_3[1], *default[1:]] and shape_3[1] > 4
    assert chosen == [3, 0.9, False, 5, 0.75, [4, 0]] and shape_2 == (2, shape[1])


def test_every_language_survives(say):
    """Catches: a prompt that the tokenizer changes (its bytes were never trained)."""
    (line,) = say("--prompt", "好", "--greedy")
    assert line.startswith("好")


@pytest.mark.parametrize(
    "options, words",
    [
        (["--prompt", "x " * 30], ["prompt has", "tokens", "Shorten"]),
        (["--prompt", "x", "--count", "0"], ["--count 0"]),
        (["--prompt", "x", "--length", "0"], ["--length 0"]),
        (["--prompt", "This", "--length", "12"], ["--length 12 is too long", "tokens"]),
        (["--prompt", "x", "--seed", "-1"], ["--seed=-1"]),
        (["--prompt", "x", "--temperature", "0"], ["--temperature 0", "--greedy"]),
        (["--prompt", "x", "--top-k", "0"], ["--top-k 0"]),
        (["--prompt", "x", "--top-p", "1.5"], ["--top-p 1.5"]),
    ],
    ids=["long prompt", "count", "length", "long length", "seed", "temperature", "top-k", "top-p"],
)
def test_generate_refuses_in_one_line(hand_made, capsys, options, words):
    """Catches: a traceback, a prompt cut without a word, a temperature of 0 taken as "not given"."""
    line = error_line(capsys, "generate", str(hand_made.folder), *options)
    assert all(word in line for word in words), line


def test_the_longest_prompt_that_fits(hand_made, capsys):
    """Catches: an error that comes one token too early or late (the context holds begin token, prompt and one new token)."""
    tokenizer = Tokenizer.load(hand_made.path("tokenizer.model"))
    prompt = "qz" * 7
    while len(tokenizer.encode(prompt, begin=True)) > 11:
        prompt = prompt[:-1]
    assert len(tokenizer.encode(prompt, begin=True)) == 11
    assert main(["generate", str(hand_made.folder), "--prompt", prompt, "--greedy"]) == 0
    error_line(capsys, "generate", str(hand_made.folder), "--prompt", prompt + "q")


def test_generate_without_a_run(hand_made, tmp_path, capsys):
    """Catches: a traceback for a misspelt run, one without a tokenizer, or one whose writer is no Keras file."""
    assert "hand-made" in error_line(capsys, "generate", "handmade", "--prompt", "x", "--runs-folder", str(hand_made.folder.parent))
    run = Run(tmp_path / "copy")
    shutil.copytree(hand_made.folder, run.folder)
    (run.folder / "checkpoints" / "after.keras").write_bytes(b"half a file")
    assert "after.keras" in error_line(capsys, "generate", str(run.folder), "--prompt", "x")
    (run.folder / "tokenizer.model").unlink()
    assert "tokenizer.model" in error_line(capsys, "generate", str(run.folder), "--prompt", "x")


def test_a_loaded_writer_is_the_saved_one(hand_made):
    """Catches: weights that a file does not hold."""
    loaded = load_policy(hand_made, "after")
    assert isinstance(loaded, keras.Model)
    for one, other in zip(
        loaded.get_weights(), tiny_policy("transformer", vocabulary_size=loaded.encoder.embedding.input_dim, memory=12, seed=1).get_weights()
    ):
        assert_close(one, other, rtol=0, atol=0)


def test_options_are_not_shortened(capsys):
    """Catches: a shortened option that changes a setting, which a run that goes on would not notice."""
    with pytest.raises(SystemExit):
        command_line.parse(["train", "cartpole", "--environment-st", "9999"])
    assert "--environment-st" in capsys.readouterr().err


def test_tables_in_a_notebook_obey_a_redirected_stdout(monkeypatch):
    """Catches: a training in a notebook that shows its tables, with the folders of its machine, although it was told to be quiet."""
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    with contextlib.redirect_stdout(io.StringIO()) as out:
        tables.new_console().print("a table")
    assert out.getvalue() == "a table\n"
