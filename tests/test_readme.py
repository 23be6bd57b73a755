"""README.md says what is true: its Python runs, its commands are accepted."""

import re
import shlex
from pathlib import Path

import pytest

from ppo_keras.commands.parser import parse
from ppo_keras.config import SupervisedConfig
from ppo_keras.networks.transformer import Form
from ppo_keras.pretrained.families import Settings
from ppo_keras.pretrained.loading import load_pretrained
from ppo_keras.pretrained.memory import Work, estimate
from small_checkpoint import write_checkpoint

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
COMMANDS = sorted(set(re.findall(r"(?:^|`|&& )(ppo-keras [^`\n]*)", README, re.MULTILINE)))


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


@pytest.mark.parametrize("command", [c for c in COMMANDS if "--help" not in c])
def test_commands_are_accepted(command):
    """Catches: a command in the README whose option was renamed or never existed."""
    parse(shlex.split(command)[1:])


def test_the_python_use_runs():
    """Catches: an example that drifted from the package; it trains two iterations here."""
    (example,) = [block for block in blocks("python") if "TransformerActorCritic" in block]
    assert "steps_per_epoch=20, epochs=2" in example
    names = {}
    small = example.replace("steps_per_epoch=20, epochs=2", "steps_per_epoch=2, epochs=1, verbose=0").replace("jit_compile=True", "jit_compile=False")
    exec(small, names)
    assert int(names["agent"].iteration) == 2


def test_the_pretrained_use_runs(tmp_path):
    """Catches: an example that drifted from the package; a small checkpoint stands in for the large one."""
    (example,) = [block for block in blocks("python") if "load_pretrained" in block]
    small = (
        example.replace('"smollm2"', "place")
        .replace("jit_compile=True", "jit_compile=False")
        .replace("steps_per_epoch=10, epochs=2", "steps_per_epoch=1, verbose=0")
    )
    assert small.count("place") == 1
    names = {"place": write_checkpoint(tmp_path, blocks=1)}
    exec(small, names)
    assert int(names["agent"].iteration) == 1


def test_one_trunk_for_all_roles_as_in_the_readme(tmp_path):
    """Catches: an example that drifted from the package; a small checkpoint and four texts."""
    (example,) = [block for block in blocks("python") if "start_value_from_reward" in block]
    policy, tokenizer = load_pretrained(write_checkpoint(tmp_path, blocks=1), lora_rank=2, memory=48, report=lambda *_: None)
    texts = [tokenizer.encode(text) for text in ("a fine film", "a bad film", "fine", "bad")], [1, 0, 1, 0]
    names = {"policy": policy, "tokenizer": tokenizer, "train": texts, "validation": texts, "length": 8}
    imports = "from ppo_keras import LanguagePPO, RewardModel\nfrom ppo_keras.language.supervised import train_classifier\n"
    exec(imports + "from ppo_keras.networks.adapters import reference_of\n" + example.replace("pad_id)  #", "pad_id, jit_compile=False)  #"), names)
    assert names["agent"].reference is names["reward"].trunk is names["reference"]


def test_the_memory_is_that_of_the_table():
    """Catches: a table that drifted from the estimate. SmolLM2 by its sizes, so that nothing is fetched."""
    form = Form(key_heads=3, mlp_width=1536, gated=True, activation="silu", norm="rms", query_key_value_bias=False, output_bias=False, mlp_bias=False)
    found = estimate(Settings(49152, 576, 30, 9, 8192, form), Work(64, 32, 128, lora_rank=8, reward="head"))
    table = README.split("Memory of an iteration, in GB")[1].split("```")[0]
    rows = {cells[0]: cells[1:] for line in table.splitlines() if line.startswith("│") for cells in [[cell.strip() for cell in line.split("│")[1:-1]]]}
    shown = lambda count: f"{count / 1e9:.3f}" if count else ""
    assert rows.pop("together") == [shown(total) for total in found.totals.values()]
    assert rows == {part: [shown(parts.get(part, 0)) for parts in found.phases.values()] for part in rows}


def test_the_agent_of_the_python_use_learns():
    """Catches: an example that drifted from the package, or an agent that learns nothing."""
    (example,) = [block for block in blocks("python") if "EnvironmentPPO" in block and "strategy" not in block]
    small = example.replace("epochs=3)", "epochs=1, verbose=0)").replace("width=64", "width=32").replace("jit_compile=True", "jit_compile=False")
    assert sum(a != b for a, b in zip(example.splitlines(), small.splitlines())) == 3
    names = {}
    exec(small.replace("episodes=100", "episodes=10"), names)
    assert names["play"](names["policy"], names["world"], episodes=10).returns.mean() > 0.5


def test_the_own_task_runs(tmp_path, monkeypatch):
    """Catches: a page of advice whose code does not run."""
    (example,) = [block for block in blocks("python") if "class Reverse" in block]
    monkeypatch.chdir(tmp_path)
    sizes = "iterations=1, jit=False, network=NetworkConfig(width=16, layers=1), supervised=SupervisedConfig(supervised_epochs=1)"
    small = example.replace("iterations=60, network=NetworkConfig(width=64)", sizes)
    assert small != example
    names = {"SupervisedConfig": SupervisedConfig}
    exec(small, names)
    assert names["Reverse"]().reward("red gold blue", ["red blue gold"]) == pytest.approx(1 / 3)
    assert 0 <= names["summary"]["words_right_sampled_after"] <= 1 and (tmp_path / "runs" / "reverse" / "summary.json").exists()


def test_the_example_reward_rewards():
    """Catches: an example reward that is constant."""
    (example,) = [block for block in blocks("python") if "mentions_an_animal" in block]
    names = {}
    exec(example, names)
    assert names["mentions_an_animal"]("The", " Wolf runs.") == 1.0
    assert names["mentions_an_animal"]("The wolf", " runs.") == 0.0


def test_the_reward_of_columns_rewards():
    """Catches: an example that reads another column than it says, or whose parts are constant."""
    (example,) = [block for block in blocks("python") if "right_and_brief" in block]
    names = {}
    exec(example, names)
    assert names["right_and_brief"]("2 + 2", "It is 4.", answer="4") == {"right": 1.0, "brief": 1.0}
    assert names["right_and_brief"]("2 + 2", "It is 5.", answer="4", most_words="2") == {"right": 0.0, "brief": 0.0}


def test_the_python_use_of_several_devices_runs():
    """Catches: an example that drifted from the package."""
    (example,) = [block for block in blocks("python") if "strategy.scope()" in block]
    names = {}
    exec(example.replace("steps_per_epoch=100", "steps_per_epoch=2, verbose=0"), names)
    assert int(names["agent"].iteration.numpy()) == 2


def test_the_test_command_is_the_one_that_ci_runs():
    """Catches: CI that passes with a command which the README does not name."""
    lines = [line for block in blocks("bash") for line in block.splitlines() if line.startswith("pip install -e") and "pytest" in line]
    assert lines == ['pip install -e ".[test]" && python -m pytest -n 2 --dist loadfile']
