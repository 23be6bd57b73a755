"""`ppo-keras bench supervised`: which work is timed, and what is made of the times. Times are printed, not tested."""

import json
import types

import pytest

from helpers import assert_close
from ppo_keras.commands import supervised
from ppo_keras.commands.main import main
from ppo_keras.networks.actor_critic import new_policy
from ppo_keras.networks.encoder import TokenEncoder
from ppo_keras.tasks.config import GenerationConfig, NetworkConfig

KEYS = ["step_seconds", "tokens_per_second", "validation_seconds", "first_epoch_seconds", "peak_share"]


@pytest.fixture
def small(monkeypatch):
    """Texts and networks that take seconds."""
    monkeypatch.setattr(supervised, "TEXTS", 64)
    monkeypatch.setattr(supervised, "LENGTH", 4)
    monkeypatch.setattr(supervised, "peak_flops", lambda jit_compile: 1e9)
    monkeypatch.setattr(
        supervised, "GenerationConfig", lambda **k: GenerationConfig(**k, vocabulary_size=300, network=NetworkConfig(layers=1, width=16, heads=2))
    )


@pytest.mark.parametrize("model", ["transformer", "lstm"])
def test_the_last_line_is_json_of_every_stage(small, model, capsys):
    """Catches: a stage or a figure left out, the other network trained, text after the JSON, a time of 0."""
    assert main(["bench", "supervised", "--model", model, "--epochs", "1", "--no-jit"]) == 0
    *table, last = capsys.readouterr().out.rstrip("\n").split("\n")
    result = json.loads(last)
    assert list(result) == ["writer", f"reward ({model})", "reward (bag)", "peak_gigaflops"]
    for name in list(result)[:3]:
        assert list(result[name]) == KEYS and all(result[name][key] > 0 for key in KEYS[:4])
        assert any(line.startswith(name) for line in table)
    assert any("graphs, 1 layers x 16, 300 pieces, steps of 32 texts of 4 tokens" in line for line in table)


def test_times_by_hand(small, monkeypatch):
    """Catches: the compiling epoch or the validation counted as steps, an epoch counted as one step, the operations of another network."""
    now, settings = [0.0], []
    monkeypatch.setattr(supervised, "time", types.SimpleNamespace(perf_counter=lambda: now[0]))

    def fit(*args, config, callbacks, jit_compile):
        settings.append(config)
        (seen,) = callbacks
        for epoch, (steps, validation) in enumerate([(50.0, 7.0), (4.0, 1.0), (6.0, 3.0), (5.0, 2.0)]):
            seen.on_epoch_begin(epoch)
            now[0] += steps
            seen.on_test_begin()
            now[0] += validation
            seen.on_epoch_end(epoch)

    monkeypatch.setattr(supervised, "train_language_model", fit)
    monkeypatch.setattr(supervised, "train_classifier", fit)
    result = supervised.bench_supervised("transformer", epochs=3, jit_compile=False)
    matrices = lambda layer: sum(v.shape[0] * v.shape[1] for v in layer.variables if len(v.shape) == 2)
    policy = new_policy("transformer", 300, width=16, layers=1, heads=2, memory=4)
    reader, bag = (TokenEncoder(300, kind, 16, 1, heads=2) for kind in ("transformer", "bag"))
    reader.build()
    bag.build()
    for name, weights, length in (
        ("writer", matrices(policy.encoder), 3),  # the embedding counts: the logits are products with it
        ("reward (transformer)", matrices(reader) - 300 * 16, 4),
        ("reward (bag)", matrices(bag) - 300 * 16, 4),
    ):
        found = result[name]
        assert_close([found["step_seconds"], found["validation_seconds"], found["first_epoch_seconds"]], [5.0 / 2, 2.0, 57.0])  # 64 texts are 2 steps
        assert_close([found["tokens_per_second"], found["peak_share"]], [32 * length / 2.5, 6 * weights * 32 * length / 2.5 / 1e9])
    assert [(one.supervised_epochs, one.patience) for one in settings] == [(4, 4)] * 3  # none ends early


def test_no_epoch_is_refused(capsys):
    """Catches: a traceback (the median of nothing)."""
    assert main(["bench", "supervised", "--epochs", "0"]) == 2
    assert "--epochs 0 is less than 1. Use a number such as 5." in capsys.readouterr().err
