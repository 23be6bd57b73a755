"""`ppo_keras.pretrained.families`: each family gives the logits that transformers gives; what is not here is refused by name."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from safetensors.numpy import load_file, save_file

from helpers import assert_close
from ppo_keras.errors import InputError
from ppo_keras.masking import episode_starts
from ppo_keras.networks.transformer import rotary_frequencies
from ppo_keras.pretrained.families import new_policy, settings_of
from ppo_keras.pretrained.tensors import read_into
from ppo_keras.pretrained.weights import open_weights

GOLDEN = Path(__file__).parent / "golden"
NAMES = ["gpt2", "llama", "llama3", "mistral", "qwen2", "qwen3", "gemma3", "gpt_neox"]
every_family = pytest.mark.parametrize("name", NAMES)
MADE = {}


def policy_of(name):
    """The policy of a small checkpoint, made once."""
    if name not in MADE:
        weights = open_weights(GOLDEN / name)
        MADE[name] = new_policy(settings_of(weights.config), memory=16)
        read_into(MADE[name].encoder, weights)
    return MADE[name]


def golden(name):
    """Tokens int32 and mask float32 `(3, 9)`, padded on the left; logits of transformers `(3, 9, V)`, 0 on padding."""
    with np.load(GOLDEN / name / "logits.npz") as file:
        return file["tokens"], file["mask"], file["logits"]


@every_family
def test_logits_are_those_of_transformers(name):
    """Catches: another norm, base, scale or order of heads; a bias left out; a kernel turned; positions counted from the padding."""
    tokens, mask, expected = golden(name)
    logits, _ = policy_of(name)(tokens, starts=episode_starts(mask))
    assert np.abs(expected).max() > 1
    assert_close(np.where(mask[:, :, np.newaxis] > 0, logits, 0.0), expected, rtol=1e-4, atol=1e-4)


@every_family
def test_step_equals_call(name):
    """Catches: a memory of all heads instead of those of keys, learned positions of padding, or a turn that the ring forgets."""
    tokens, mask, expected = golden(name)
    policy, starts = policy_of(name), episode_starts(mask).numpy()
    step, state, found = tf.function(policy.step), policy.initial_state(3), []
    for t in range(tokens.shape[1]):
        logits, _, state = step(tf.constant(tokens[:, t]), state, tf.constant(starts[:, t]))
        found.append(logits.numpy())
    assert_close(np.where(mask[:, :, np.newaxis] > 0, np.stack(found, axis=1), 0.0), expected, rtol=1e-4, atol=1e-4)


@every_family
def test_weights_of_16_bits_say_nearly_the_same(name):
    """Catches: a family whose positions, norms or biases cannot be read beside activations of another dtype; a `step` of bfloat16 unlike `call`."""
    tokens, mask, expected = golden(name)
    weights = open_weights(GOLDEN / name)
    policy = new_policy(settings_of(weights.config), memory=16, weights="bfloat16")
    read_into(policy.encoder, weights)
    starts = episode_starts(mask)
    logits, _ = policy(tokens, starts=starts)
    assert np.abs(np.where(mask[:, :, np.newaxis] > 0, logits - expected, 0.0)).max() < 0.05 * np.abs(expected).max()
    stepped, _, _ = policy.step(tf.constant(tokens[:, -1]), policy.read(tokens[:, :-1], starts=starts[:, :-1]), starts[:, -1])
    assert np.abs(stepped - logits[:, -1]).max() < 0.02 * np.abs(expected).max()


@every_family
def test_a_memory_and_a_reset_in_it_change_nothing(name):
    """Catches: positions or keys of the episode before, in the middle of a batch or in what an earlier segment left."""
    tokens, _, _ = golden(name)
    policy = policy_of(name)
    row = tf.constant(tokens[:1])
    alone = policy(row[:, 4:])[0]
    starts = tf.one_hot([4], 9)
    whole = policy(row, starts=starts)[0][:, 4:]
    state = policy.read(row[:, :6], starts=starts[:, :6])
    later = policy(row[:, 6:], initial_state=state)[0]
    assert_close(whole, alone, atol=1e-4)
    assert_close(later, alone[:, 2:], atol=1e-4)


def config_of(name, **changes):
    return json.loads((GOLDEN / name / "config.json").read_text()) | changes


@pytest.mark.parametrize(
    "name, changes, words",
    [
        ("llama", {"model_type": "mamba"}, "model_type='mamba', which is not here. Use a checkpoint of gpt2, llama"),
        ("llama", {"rope_parameters": {"rope_type": "yarn", "factor": 2.0}}, "rotary scaling 'yarn'"),
        ("llama", {"hidden_act": "relu"}, "hidden_act='relu'"),
        ("qwen3", {"num_experts": 8}, "mixture of experts"),
        ("gpt2", {"activation_function": "relu"}, "activation_function='relu'"),
        ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx=True"),
        ("gemma3", {"final_logit_softcapping": 30.0}, "final_logit_softcapping=30.0"),
        ("gemma3", {"layer_types": ["full_attention"]}, "1 layer_types"),
        ("gpt_neox", {"use_parallel_residual": True}, "use_parallel_residual=True"),
        ("gpt_neox", {"rope_parameters": None}, "rotary_pct=0.25, but only 1.0 is here"),
        ("gpt_neox", {"hidden_act": "gelu"}, "hidden_act='gelu'"),
        ("gpt_neox", {"attention_bias": False}, "attention_bias=False"),
        ("llama", {"quantization_config": {"quant_method": "bitsandbytes"}}, "quantised (bitsandbytes)"),
        ("llama", {"rope_theta": [1], "rope_parameters": None}, "entry of another kind"),
        ("llama", {"hidden_size": "wide", "head_dim": 6}, "width='wide', which is no size"),
    ],
)
def test_what_is_not_here_is_refused_by_name(name, changes, words):
    """Catches: an entry of a config that is ignored, so that the network is another one."""
    with pytest.raises(InputError) as error:
        settings_of(config_of(name, **changes))
    assert words in str(error.value) and "\n" not in str(error.value)


def test_what_a_gpt_neox_does_not_say_is_as_in_pythia():
    """Catches: a checkpoint whose config leaves out that attention and MLP are parallel, read as if they were not."""
    config = config_of("gpt_neox")
    del config["use_parallel_residual"]
    with pytest.raises(InputError, match="use_parallel_residual=True"):
        settings_of(config)


def test_an_entry_that_lacks_is_named():
    """Catches: a KeyError, or a default in place of a size."""
    config = config_of("llama")
    del config["intermediate_size"]
    with pytest.raises(InputError, match="has no 'intermediate_size'"):
        settings_of(config)


@pytest.mark.parametrize(
    "name, changes, steps", [("mistral", {"sliding_window": 12}, 12), ("gemma3", {}, 32), ("qwen2", {"sliding_window": 12}, 128), ("gpt2", {}, 32)]
)
def test_contexts_end_where_a_window_would_show(name, changes, steps):
    """Catches: a sliding window that is ignored beyond its size, or one that is switched off taken for one."""
    assert settings_of(config_of(name, **changes)).most_steps == steps


def test_llama_3_scales_slow_pairs_only():
    """Catches: a scaling of all pairs, or of the fast ones (turns in 16 steps: above 4 as they are, below 1 a quarter, between in between)."""
    plain, scaled = np.array(rotary_frequencies(8, 10_000.0)), np.array(rotary_frequencies(8, 10_000.0, (4.0, 0.1, 1.0, 16.0)))
    turns = 16 * plain / (2 * np.pi)
    assert_close(scaled[turns >= 1], plain[turns >= 1])
    assert_close(scaled[turns <= 0.1], plain[turns <= 0.1] / 4)
    between = (turns > 0.1) & (turns < 1)
    kept = (turns[between] - 0.1) / 0.9
    assert between.any() and (turns >= 1).any() and (turns <= 0.1).any()
    assert_close(scaled[between], plain[between] * (kept + (1 - kept) / 4))
    assert_close(rotary_frequencies(8, 10_000.0, (2.0,)), plain / 2)


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda t: t.pop("model.norm.weight"), "has no tensor model.norm.weight"),
        (lambda t: t.update({"model.layers.0.self_attn.sinks": np.zeros(4, np.float32)}), "has the tensor model.layers.0.self_attn.sinks"),
        (lambda t: t.update({"model.norm.weight": np.zeros(7, np.float32)}), r"shapes \(7,\), but by config.json they make \(24,\)"),
        (lambda t: t.update({"model.norm.weight": np.full(24, np.nan, np.float32)}), "model.norm.weight has values that are not finite"),
    ],
    ids=["lacks", "strange", "shape", "nan"],
)
def test_weights_that_do_not_fit_are_named(tmp_path, change, words):
    """Catches: random weights where a tensor lacks, a tensor that nobody reads, one that is broadcast, or NaN."""
    shutil.copytree(GOLDEN / "llama", tmp_path / "one")
    tensors = load_file(tmp_path / "one" / "model.safetensors")
    change(tensors)
    save_file(tensors, tmp_path / "one" / "model.safetensors")
    weights = open_weights(tmp_path / "one")
    with pytest.raises(InputError, match=words):
        read_into(new_policy(settings_of(weights.config), memory=16).encoder, weights)
