"""`ppo_keras.bench`: what `ppo-keras bench text` prints. Times are printed, not tested."""

import json

import pytest

from ppo_keras import bench
from ppo_keras.cli import main
from ppo_keras.networks.actor_critic import new_policy

KEYS = [
    "iteration_seconds", "generation_tokens_per_second", "score_tokens_per_second", "update_tokens_per_second",
    "compile_seconds", "peak_share",
]  # fmt: skip


@pytest.fixture
def tiny(monkeypatch):
    """The benchmark at a size that takes seconds."""
    for name, value in dict(VOCABULARY=16, BATCH=8, PROMPT=3, RESPONSE=4).items():
        monkeypatch.setattr(bench, name, value)
    smaller = lambda *args, **sizes: new_policy(*args, **sizes | dict(width=16, layers=1, heads=2))
    monkeypatch.setattr(bench, "new_policy", smaller)
    monkeypatch.setattr(bench, "_peak_flops", lambda jit_compile: 1e9)


def test_the_last_line_is_json_with_the_six_figures(tiny, capsys):
    """Catches: a figure left out or renamed, text after the JSON, a time of 0."""
    assert main(["bench", "text", "--iterations", "1", "--no-jit", "--model", "lstm", "--no-shared-trunk"]) == 0
    *table, last = capsys.readouterr().out.rstrip("\n").split("\n")
    result = json.loads(last)
    assert list(result) == KEYS
    assert all(result[name] > 0 for name in KEYS[:5]) and result["peak_share"] >= 0
    for part in ("generation", "score", "update", "iteration", "compilation", "peak"):
        assert any(part in line for line in table), part


def test_the_share_of_the_peak_by_hand(monkeypatch):
    """Catches: a backward pass, an epoch, a second trunk or the reward model not counted, or embeddings counted as products."""
    for name, value in dict(BATCH=2, PROMPT=3, RESPONSE=4).items():
        monkeypatch.setattr(bench, name, value)
    make = lambda shared: new_policy("lstm", 10, width=8, layers=1, heads=2, memory=7, shared=shared)
    trunk, head = 2 * 8 * (4 * 8), 10 * 8  # two kernels of four gates; the embedding that gives the logits
    inputs, responses = 2 * (3 + 4 - 1), 2 * 4
    for trunks in (1, 2):
        policy, reward = make(shared=trunks == 1), bench.RewardModel(make(True).new_encoder())
        acting = 2 * (trunks * trunk * inputs + head * responses)
        reference, scoring = 2 * (trunk * inputs + head * responses), 2 * trunk * 2 * 7
        assert bench._iteration_flops(policy, reward, epochs=5) == acting * (1 + 3 * 5) + reference + scoring


def test_no_iterations_is_refused(tiny, capsys):
    """Catches: a traceback (or a NaN) for `--iterations 0`."""
    assert main(["bench", "text", "--iterations", "0", "--no-jit"]) == 2
    assert capsys.readouterr().err == "ppo-keras: error: --iterations 0 is less than 1. Use a number such as 10.\n"
