"""`ppo-keras export`, of runs from nothing; those of a checkpoint are in tests/tasks/test_pretrained_tasks.py."""

import os
import re

import numpy as np
import pytest

from helpers import assert_close, tiny_agent, tiny_policy
from ppo_keras import Tokenizer, load_pretrained
from ppo_keras.runs.folder import Run
from runs_of_texts import run


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with runs that look as a training leaves them."""
    folder = tmp_path_factory.mktemp("runs")
    tokenizer = Tokenizer.train(["a fine film and a good story"] * 40, 300)
    for name, network in (("writer", "transformer"), ("lstm", "lstm")):
        one = Run.create(folder, name)
        one.save_json("config.json", {"task": "generation", "model": network})
        one.save_tokenizer(tokenizer)
        for seed, stage in enumerate(("before", "after", "best")):
            one.save_model(tiny_policy(network, vocabulary_size=tokenizer.vocabulary_size, seed=seed), stage)
    answers = Run.create(folder, "answers")
    answers.save_json("config.json", {"task": "question-answering", "model": "transformer", "answers": True})
    answers.save_tokenizer(tokenizer)
    answers.save_model(tiny_policy(vocabulary_size=tokenizer.vocabulary_size), "after")
    agent = Run.create(folder, "agent")
    agent.save_json("config.json", {"task": "cartpole", "model": "mlp"})
    agent.save_model(tiny_agent(), "policy")
    return folder


@pytest.fixture
def there(place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: run("export", *arguments, "--runs-folder", str(place))


@pytest.mark.parametrize("stage", ["before", "after", "best"])
def test_a_writer_from_nothing_is_a_gpt_neox(place, there, stage):
    """Catches: weights of another stage, a line that does not say what was written."""
    done = there("writer", "exported", *(["--stage", stage] if stage != "after" else []))
    assert done.code == 0 and done.out.startswith("exported holds a gpt_neox: 0.1 MB in float32. The value head is left out."), done.err
    seed, tokens = ("before", "after", "best").index(stage), np.array([[2, 9, 100, 7]], np.int32)
    expected = tiny_policy(vocabulary_size=300, seed=seed)(tokens)[0]
    assert_close(load_pretrained("exported", lora_rank=0, memory=16)[0](tokens)[0], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name, marks", [("writer", 1), ("answers", 2)])
def test_what_is_written_around_a_prompt_is_told(there, name, marks):
    """Catches: a model that answers nothing elsewhere, because nobody knows how its prompts ended."""
    said = there(name, "exported").out
    ids = [int(number) for number in re.search(r"The prompt 'film' was given to it as .* \(\[([\d, ]+)\]\): write the same", said)[1].split(",")]
    assert ids.count(2) == marks and ids[0] == 2 and (ids[-1] == 2) == (name == "answers")


def test_a_folder_at_home(there, tmp_path, monkeypatch):
    """Catches: a model that is written, and then looked for in a folder called ~."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    done = there("writer", os.path.join("~", "exported"))
    assert done.code == 0 and done.out.startswith(f"{tmp_path / 'exported'} holds"), done.err


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["writer", "used"], "used is not empty, and nothing is written over. Name a new folder."),
        (["writer", "x", "--dtype", "int8"], "dtype='int8' is unknown. Use float32, bfloat16, float16."),
        (["writer", "x", "--gguf", "--dtype", "bfloat16"], "a GGUF file is written in float16 or float32"),
        (["writer", "x", "--gguf"], "not of gpt_neox"),
        (["writer", "x", "--adapters-only"], "has no adapters"),
        (["writer", "used/mine.txt/x"], "used/mine.txt is a file, so no folder x can be in it"),
        (["lstm", "x"], "no architecture of Hugging Face's is this lstm"),
        (["agent", "x"], "a run of the task 'cartpole', whose policy writes no text"),
        (["nothing", "x"], "there is no run 'nothing'"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_is_one_line(there, arguments, words):
    """Catches: a traceback, a folder that is left behind or written over, a run that is loaded before the folder is looked at."""
    os.mkdir("used")
    open("used/mine.txt", "w").close()
    done = there(*arguments)
    assert done.code == 2 and len(done.err.splitlines()) == 1 and words in done.err, done.err
    assert os.listdir() == ["used"] and os.listdir("used") == ["mine.txt"]
