"""`ppo_keras.pretrained.memory`: bytes worked out by hand for a Transformer of two small blocks, and numbers of weights counted in real ones."""

import json
import math
from dataclasses import replace

import pytest

from ppo_keras.networks.adapters import adapter_variables, add_adapters
from ppo_keras.networks.transformer import Form
from ppo_keras.pretrained import memory
from ppo_keras.pretrained.families import Settings, new_policy, settings_of
from ppo_keras.pretrained.memory import Work, activations_of_block, count_adapters, count_weights, estimate, largest_batch, logits_at_once
from small_checkpoint import GOLDEN

# A block: 8 -> 16 (two heads of queries, one of keys and one of values, of 4 each), 8 -> 8, 8 -> 2 x 6, 6 -> 8, and two norms.
FORM = Form(key_heads=1, mlp_width=6, gated=True, activation="silu", norm="rms", query_key_value_bias=False, output_bias=False, mlp_bias=False)
SMALL = Settings(vocabulary_size=10, width=8, layers=2, heads=2, most_steps=32, form=FORM)
BLOCK = 8 * 16 + 8 * 8 + 8 * 12 + 6 * 8 + 2 * 8
WEIGHTS = 10 * 8 + 2 * BLOCK + 8
WORK = Work(batch=4, prompt=3, response=2, minibatches=2, lora_rank=3)  # two sequences at once, of which 4 tokens are read


def numbers(variables):
    return sum(math.prod(variable.shape) for variable in variables)


@pytest.mark.parametrize("family", ["gpt2", "llama", "qwen2", "qwen3", "gemma3", "gpt_neox"])
def test_weights_and_adapters_are_counted(family):
    """Catches: a bias, a norm, learned positions or a head that is not tied left out, adapters of a layer that has none."""
    settings = settings_of(json.loads((GOLDEN / family / "config.json").read_text()))
    policy = new_policy(settings, memory=8)
    assert count_weights(settings) == numbers(policy.encoder.variables)
    add_adapters(policy, 3, layers=(layers := {"query_key_value": 3, "contract": 2}))
    assert count_adapters(settings, 3, layers) == numbers(adapter_variables(policy))


def test_numbers_by_hand():
    """Catches: keys counted as many as queries, a gated layer once, a rank that is not multiplied, adapters of rank 0."""
    assert count_weights(SMALL) == WEIGHTS == 792
    assert [count_adapters(SMALL, rank, layers) for rank, layers in ((3, "attention"), (3, "all"), (0, "all"))] == [2 * 3 * 24, 2 * 3 * (24 + 16 + 20 + 14), 0]


def test_what_a_block_keeps_by_hand():
    """Catches: a term left out or in the wrong dtype: the residual stream twice, the normed, queries, softmax, MLP; keys and values of all steps."""
    kept = lambda work, card=True, steps=4: activations_of_block(SMALL, work, card, 2, steps, 4)
    plain = 4 * (2 * 8 + 8 + 8 + 2 * 4 + 4 * 6)  # of a step
    keys = 4 * 4 * 2 * 4  # of four steps
    assert kept(WORK) == kept(WORK, card=False) == 2 * (4 * plain + keys)
    assert kept(WORK, steps=2) == 2 * (2 * plain + keys)  # of the last block only what is behind the prompt
    assert kept(replace(WORK, lora_rank=0)) == 2 * (4 * (plain + 4 * (8 + 8 + 6)) + keys)
    assert kept(replace(WORK, lora_layers="all")) == 2 * (4 * (plain + 4 * (8 + 8 + 3 * 6)) + keys)
    small = replace(WORK, weights="bfloat16")
    assert kept(small) == 2 * (4 * (2 * (8 + 4 * 6) + 4 * (2 * 8 + 8) + 2 * 4 * (4 + 2)) + keys / 2)  # in float32 the residuals, the normed, and the softmax
    assert kept(small, card=False) == 2 * (4 * (4 * (2 * 8 + 8 + 8) + 2 * 4 * (4 + 2) + 2 * (4 + 2) * 6) + keys)
    own = SMALL._replace(form=Form(mlp_width=6))  # two heads of keys, and no gate
    assert activations_of_block(own, WORK, True, 2, 4, 4) == 2 * (4 * 4 * (2 * 8 + 8 + 8 + 2 * 4 + 2 * 6) + 2 * keys)


def test_phases_by_hand():
    """Catches: a part of the wrong phase, one cache where two are, the whole batch where a minibatch is differentiated, Adam's moments once."""
    phases = estimate(SMALL, WORK).phases
    trained = 9 + 2 * 3 * 24  # the value head, and adapters
    always = {
        "TensorFlow": memory.RUNTIME, "weights": 4 * 792, "adapters and heads": 4 * trained, "compiled programs": memory.PROGRAM + 2 * memory.ADAPTED_BLOCK,
        "reference": 4 * 9, "reward model": 0, "optimizer": 8 * trained,
    }  # fmt: skip
    cache = 2 * 2 * 4 * 5 * 4 * 4  # keys and values of two blocks, of four responses, of five steps
    step = lambda keys: 4 * (2 * 8 + 8 + 8 + 2 * keys + 4 * 6)
    trajectory, kept = {"trajectory": 4 * 4 * (2 * 4 + 10 * 2)}, 2 * (4 * step(4) + 4 * 32) + 2 * (2 * step(4) + 4 * 32)
    assert phases == {
        "loading": {name: always[name] for name in ("TensorFlow", "weights", "adapters and heads")} | {"reading": 3 * 4 * 128},
        "rollout": always | {"cache": 2 * cache, "activations": 4 * (3 * step(3) + 3 * 32) - cache, "logits": 3 * 4 * 4 * 10},
        "scoring": always | trajectory | {"activations": 4 * (4 * step(4) + 4 * 32), "logits": 2 * 4 * 8 * 10},
        "update": always | trajectory | {"activations": kept, "logits": 4 * 4 * 4 * 10, "gradients": 0},
        "step": always | trajectory | {"gradients": 4 * trained},
    }


def test_what_settings_change_by_hand():
    """Catches: adapters that are paid for with a second copy of the weights, weights that are trained whole without one, a setting that nothing reads."""
    phases = lambda card=False, **changes: estimate(SMALL, replace(WORK, **changes), card).phases
    whole = phases(lora_rank=0)
    assert (whole["step"]["reference"], whole["step"]["optimizer"], whole["step"]["gradients"]) == (4 * 801, 8 * 801, 4 * 801)
    assert whole["update"]["gradients"] == 4 * 80 and whole["update"]["compiled programs"] == memory.PROGRAM + 2 * memory.TRAINED_BLOCK
    network, adapters = phases(lora_rank=0, critic="network"), phases(critic="adapters")
    assert network["update"]["weights"] == 2 * 4 * 792 and adapters["update"]["weights"] == 4 * 792
    assert network["rollout"]["cache"] == adapters["rollout"]["cache"] == 2 * phases()["rollout"]["cache"]
    assert adapters["update"]["activations"] == 2 * phases()["update"]["activations"] and adapters["step"]["optimizer"] == 8 * (9 + 2 * 144)
    assert adapters["step"]["reference"] == 4 * (9 + 144) and phases()["step"]["reference"] == 4 * 9  # whose own adapters are off
    assert [phases(reward=reward)["scoring"]["reward model"] for reward in (None, "head", SMALL)] == [0, 4 * 9, 4 * 801]
    small = phases(weights="bfloat16", reward=SMALL)
    assert small["rollout"]["weights"] == 2 * 792 and small["rollout"]["reward model"] == 2 * 792 + 4 * 9
    assert [small[phase].get("copies of weights") for phase in ("rollout", "scoring", "update", "step")] == [4 * 80, 4 * 80, 6 * 80 + 2 * 2 * BLOCK, None]
    on_card = phases(card=True, weights="bfloat16")["rollout"]
    assert "copies of weights" not in on_card and on_card["TensorFlow"] == memory.CONTEXT and on_card["compiled programs"] == 0
    block = activations_of_block(SMALL, WORK, False, 2, 4, 4)
    halved = phases(recompute=True, weights="bfloat16", card=True)["update"]["activations"]
    assert halved == 4 * 2 * 2 * 4 * 8 + activations_of_block(SMALL, replace(WORK, weights="bfloat16"), True, 2, 4, 4)  # residuals are float32
    assert phases(recompute=True)["update"]["activations"] == 4 * 2 * 2 * 4 * 8 + block < phases()["update"]["activations"] + block
    assert phases(accumulation_steps=2)["update"]["activations"] == phases()["update"]["activations"] / 2 == phases(minibatches=4)["update"]["activations"]


def test_logits_of_a_block_of_positions(monkeypatch):
    """Catches: all logits of a large vocabulary, or a block that is larger than those that are computed."""
    monkeypatch.setattr(memory, "NUMBERS", 60)
    assert [logits_at_once(SMALL, positions) for positions in (6, 7, 13)] == [60, 40, 50]  # 13 in three blocks of 5


def test_what_would_take_less():
    """Catches: an option advised that is in use already, that the work does not have, or that stands for another change."""
    every = {"--weights bfloat16": dict(weights="bfloat16"), "--accumulation-steps 2": dict(accumulation_steps=2), "--recompute": dict(recompute=True)}
    assert WORK.savings == {option: replace(WORK, **change) for option, change in every.items()}
    for change, gone in (
        (dict(weights="bfloat16"), 0),
        (dict(lora_rank=0), 0),
        (dict(accumulation_steps=2), 1),
        (dict(minibatches=4), 1),
        (dict(recompute=True), 2),
    ):
        assert list(replace(WORK, **change).savings) == [option for i, option in enumerate(every) if i != gone]


def test_the_largest_batch():
    """Catches: a batch that does not fit, one more that would have, a large one cut off, one that cannot be divided, also by the responses to a prompt; an end that is never found."""
    for batch in (0, 2, 12, 38):
        available = estimate(SMALL, replace(WORK, batch=batch)).peak if batch else 1e6
        assert largest_batch(SMALL, WORK, available) == batch
        assert not batch or largest_batch(SMALL, WORK, available - 1) == batch - 2
        assert largest_batch(SMALL, WORK, available, multiple=3) == batch // 6 * 6
    assert 2**20 < largest_batch(SMALL, WORK, 1e13) < 2**40
    assert estimate(SMALL, WORK).peak_phase in estimate(SMALL, WORK).totals


def test_a_known_model():
    """Catches: a term that is wrong by a power of ten. Llama 3.2 1B has 1.24 billion weights, and on a card with bfloat16 they and the logits are most of it."""
    form = Form(key_heads=8, mlp_width=8192, gated=True, activation="silu", norm="rms", query_key_value_bias=False, output_bias=False, mlp_bias=False)
    llama = Settings(128256, 2048, 16, 32, 131072, form)
    assert count_weights(llama) == 1_235_814_400
    found = estimate(llama, Work(4, 64, 64, lora_rank=8, weights="bfloat16"), card=True)
    assert 3.2e9 < found.peak < 3.8e9 and found.peak_phase == "update"


def test_devices_share_the_batch_and_hold_all_weights():
    """Catches: weights that are divided, a batch that is not, the vectors forgotten in which gradients are exchanged, a largest batch for one device."""
    one, four = estimate(SMALL, WORK, True).phases, estimate(SMALL, replace(WORK, batch=16, devices=4), True).phases
    gradients = one["step"]["gradients"]
    assert four == one | {"step": one["step"] | {"gradients": 3 * gradients}} and gradients == 4 * (2 * 3 * 24 + 9)
    available = estimate(SMALL, replace(WORK, batch=16, devices=4), True).peak
    assert largest_batch(SMALL, replace(WORK, devices=4), available, True) == 16
