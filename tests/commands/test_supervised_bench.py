"""`ppo-keras bench supervised`: which work is timed, and what is made of the times. Times are printed, not tested."""

import json
import types

import numpy as np
import pytest

from helpers import assert_close
from ppo_keras.commands import supervised
from ppo_keras.commands.main import main
from ppo_keras.config import SupervisedConfig
from ppo_keras.tasks.config import GenerationConfig, NetworkConfig

KEYS = ["step_seconds", "tokens_per_second", "validation_seconds", "first_epoch_seconds", "peak_share"]


@pytest.fixture
def small(monkeypatch):
    """Texts and networks that take seconds; the machine becomes faster meanwhile."""
    for name, value in dict(TEXTS=64, VALIDATION=16, LENGTH=4).items():
        monkeypatch.setattr(supervised, name, value)
    peaks = iter([1e9, 3e9])
    monkeypatch.setattr(supervised, "peak_flops", lambda jit_compile: next(peaks))
    sizes = dict(vocabulary_size=300, network=NetworkConfig(layers=1, width=16, heads=2), supervised=SupervisedConfig(supervised_batch_size=8), reward_epochs=2)
    monkeypatch.setattr(supervised, "GenerationConfig", lambda **kwargs: GenerationConfig(**kwargs, **sizes, reward_learning_rate=0.5))


@pytest.mark.parametrize("model", ["transformer", "lstm"])
def test_the_last_line_is_json_of_every_stage(small, model, capsys):
    """Catches: a stage or a figure left out, text after the JSON, a time of 0, a share of the peak of what has no matrix products."""
    assert main(["bench", "supervised", "--model", model, "--epochs", "1", "--no-jit"]) == 0
    *table, last = capsys.readouterr().out.rstrip("\n").split("\n")
    result = json.loads(last)
    assert list(result) == ["writer", f"reward ({model})", "reward (bag)", "peak_gigaflops"]
    for name in list(result)[:3]:
        keys = KEYS[:-1] if "bag" in name else KEYS
        assert list(result[name]) == keys and all(result[name][key] > 0 for key in keys)
        (line,) = [line for line in table if line.startswith(name)]
        assert ("of the peak" in line) == ("bag" not in name)
    assert any("graphs, 1 layers x 16, 300 pieces, steps of 8 texts of 4 tokens" in line for line in table)


@pytest.mark.parametrize("model, jit", [("transformer", False), ("lstm", True)])
def test_times_by_hand(small, monkeypatch, model, jit):
    """Catches: the compiling epoch or the validation counted as steps, an epoch counted as one step, the operations, the data, the
    settings or the network of something else, a peak that was measured once only."""
    now, seen = [0.0], []
    monkeypatch.setattr(supervised, "time", types.SimpleNamespace(perf_counter=lambda: now[0]))

    def fit(network, train, validation, length, pad_id, config, callbacks, jit_compile):
        if not hasattr(network, "encoder") or not network.encoder.built:
            network.build()
        seen.append((network, train, validation, length, config, jit_compile))
        (times,) = callbacks
        times.set_model(types.SimpleNamespace(optimizer=types.SimpleNamespace(iterations=np.zeros(1).view(Read))))
        for epoch, (steps, measuring) in enumerate([(50.0, 7.0), (4.0, 1.0), (6.0, 3.0), (5.0, 2.0)]):
            times.on_epoch_begin(epoch)
            now[0] += steps
            times.on_test_begin()
            now[0] += measuring
            times.on_epoch_end(epoch)

    monkeypatch.setattr(supervised, "train_language_model", fit)
    monkeypatch.setattr(supervised, "train_classifier", fit)
    result = supervised.bench_supervised(model, epochs=3, jit_compile=jit)
    matrices = lambda layer: sum(v.shape[0] * v.shape[1] for v in layer.variables if len(v.shape) == 2)
    (policy, train, validation, *_), (reader, *_), (bag, *_) = seen
    for name, weights, steps, length in (
        ("writer", matrices(policy.encoder), 8, 3),  # the embedding counts: the logits are products with it
        (f"reward ({model})", matrices(reader.encoder) - 300 * 16, 4, 4),
        ("reward (bag)", 0, 4, 4),
    ):
        found = result[name]
        assert_close([found["step_seconds"], found["validation_seconds"], found["first_epoch_seconds"]], [5.0 / steps, 2.0, 57.0])
        assert_close([found["tokens_per_second"], found.get("peak_share", 0)], [8 * length * steps / 5, 6 * weights * 8 * length * steps / 5 / 2e9])
    assert [(config.supervised_epochs, config.patience, config.supervised_learning_rate) for *_, config, _ in seen] == [(4, 4, 2e-3), (4, 4, 0.5), (4, 4, 0.5)]
    assert [one[3] for one in seen] == [3, 4, 4] and [one[5] for one in seen] == [jit] * 3
    assert [len(texts) for texts in (train, validation)] == [64, 16] and {len(text) for text in train + validation} == {4} and train[:16] != validation
    for network, (texts, labels), (held_out, _), *_ in seen[1:]:
        assert (len(texts), len(labels), len(held_out)) == (32, 32, 8) and set(labels) == {0, 1}
        assert network.dropout.rate == network.encoder.config["dropout"] == 0.3
    assert policy.encoder.config["network"] == reader.encoder.config["network"] == model and bag.encoder.config["network"] == "bag"
    assert policy.encoder.config["dropout"] == 0.3
    if model == "transformer":
        assert policy.encoder.config["memory"] == reader.encoder.config["memory"] == 4


class Read(np.ndarray):
    """A variable that can be read."""

    def numpy(self):
        return self


def test_no_epoch_is_refused(capsys):
    """Catches: a traceback (the median of nothing)."""
    assert main(["bench", "supervised", "--epochs", "0"]) == 2
    assert "--epochs 0 is less than 1. Use a number such as 5." in capsys.readouterr().err
