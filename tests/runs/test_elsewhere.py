"""`ppo_keras.runs.elsewhere`: runs opened from another folder than the one where they began."""

import dataclasses
import sys

import pytest

from ppo_keras.environments.config import GridConfig
from ppo_keras.errors import InputError
from ppo_keras.language.reward_function import load_function
from ppo_keras.runs.elsewhere import find_files
from ppo_keras.runs.folder import Run
from ppo_keras.tasks.config import GenerationConfig


def test_files_are_found_from_another_folder(tmp_path, monkeypatch):
    """Catches: `evaluate` or `--resume` that looks for data, a map or a reward only where it was started; a file that is here left for another."""
    began, here = tmp_path / "began", tmp_path / "here"
    for folder in (began, here):
        folder.mkdir()
    for name in ("texts.csv", "held_out.csv", "test.csv", "map.txt"):
        (began / name).write_text("x")
    (began / "found_reward.py").write_text("def score(prompt, response): return 1.0")
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(began)
    text = GenerationConfig(data="texts.csv", validation_data="held_out.csv", test_data="test.csv")
    runs = Run.create("runs", "text"), Run.create("runs", "grid")
    for run, config in zip(runs, (text, GridConfig(map="map.txt"))):
        run.save_config(config)
    assert find_files(Run("runs/text"), text) == text
    monkeypatch.chdir(here)
    (here / "test.csv").write_text("x")
    (here / "texts.csv.bak").write_text("x")
    text_run, grid_run = (Run(began / "runs" / name) for name in ("text", "grid"))
    found = find_files(text_run, text_run.load_settings(GenerationConfig))
    assert (found.data, found.validation_data, found.test_data) == (str(began / "texts.csv"), str(began / "held_out.csv"), "test.csv")
    assert find_files(grid_run, grid_run.load_settings(GridConfig)).map == str(began / "map.txt")
    assert load_function("found_reward:score")("", "") == 1.0
    gone = dataclasses.replace(text, data="gone.csv")
    assert find_files(text_run, gone).data == "gone.csv"  # as it was named
    monkeypatch.delitem(sys.modules, "found_reward")


@pytest.mark.parametrize("folder", ["runs/first", "runs/first/checkpoints", "relative", 7, None])
def test_a_run_brings_no_code_of_its_own(tmp_path, monkeypatch, folder):
    """Catches: a run folder from somewhere else whose `config.json` has Python modules imported out of it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    run, before = Run.create("runs", "first"), list(sys.path)
    named = str(tmp_path / folder) if str(folder).startswith("runs") else folder
    run.save_json("config.json", {"working_folder": named} if folder else {})
    assert find_files(run, GenerationConfig(data="gone.csv")) == GenerationConfig(data="gone.csv") and sys.path == before


def test_a_seed_brings_no_code_of_its_run(tmp_path, monkeypatch):
    """Catches: a seed whose working folder is the run around it, from which modules are then imported."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    run, before = Run.create(tmp_path, "first"), list(sys.path)
    run.save_json("config.json", {})
    seed = run.part("seed-0")
    seed.save_json("config.json", {"working_folder": str(run.folder)})
    assert find_files(seed, GenerationConfig()) == GenerationConfig() and sys.path == before


def test_two_modules_of_one_name_are_refused(tmp_path, monkeypatch):
    """Catches: the second run of one command measured, without a word, with the reward of the first."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    config = GenerationConfig(reward="same_name:score")
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "same_name.py").write_text(f"def score(prompt, response): return {int(name == 'b')}.0")
        monkeypatch.chdir(tmp_path / name)
        Run.create("runs", "first").save_config(config)
    monkeypatch.chdir(tmp_path)
    first, second = (Run(tmp_path / name / "runs" / "first") for name in ("a", "b"))
    find_files(first, config)
    assert load_function("same_name:score")("", "") == 0.0
    find_files(first, config)
    with pytest.raises(InputError, match=r"b/same_name\.py, but .*a/same_name\.py is imported.*a command each"):
        find_files(second, config)
    monkeypatch.delitem(sys.modules, "same_name")
