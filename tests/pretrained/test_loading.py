"""`ppo_keras.load_pretrained`: a checkpoint as a policy, its tokenizer, and PPO on both."""

import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf

from helpers import assert_close
from ppo_keras import LanguagePPO, PPOConfig, PythonReward, load_pretrained
from ppo_keras.errors import InputError
from ppo_keras.language.generation import pad_prompts
from ppo_keras.masking import episode_starts
from ppo_keras.networks.adapters import adapter_variables
from ppo_keras.pretrained import tensors
from ppo_keras.pretrained.loading import parameters
from ppo_keras.pretrained.sources import smollm2
from ppo_keras.pretrained.weights import SafetensorsWeights
from small_checkpoint import GOLDEN, VOCABULARY, write_checkpoint


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small Llama in Hugging Face's format, with a byte-level tokenizer."""
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint"))


def test_a_folder_becomes_a_policy_and_its_tokenizer(folder):
    """Catches: embeddings without the rows that no piece fills, a critic that begins at random, adapters that nobody asked for or that change something."""
    policy, tokenizer = load_pretrained(folder, lora_rank=2, memory=16)
    whole, _ = load_pretrained(folder, lora_rank=0, memory=16)
    assert tokenizer.vocabulary_size == policy.distribution.count == VOCABULARY
    tokens = np.array([tokenizer.encode("the film was", begin=True)], np.int32)
    logits, values = policy(tokens)
    assert_close(logits, whole(tokens)[0], rtol=0, atol=0)
    assert not values.numpy().any() and np.ptp(logits.numpy()) > 1
    every, trained = parameters(policy)
    assert trained == sum(np.prod(v.shape) for v in adapter_variables(policy)) + 25 and every > 10 * trained
    assert parameters(whole)[0] == parameters(whole)[1] == every - trained + 25


@pytest.mark.parametrize("weights", ["float32", "bfloat16"])
def test_a_weight_is_read_in_rows(folder, weights, monkeypatch):
    """Catches: embeddings that are read as a whole, a fifth of a small model in memory three times; a row left out, or put elsewhere."""
    whole, _ = load_pretrained(folder, lora_rank=0 if weights == "float32" else 2, memory=16, weights=weights)
    monkeypatch.setattr(tensors, "AT_ONCE", 24 * 7)
    read, real = [], SafetensorsWeights.read

    def spy(self, *args, **kwargs):
        read.append(real(self, *args, **kwargs))
        return read[-1]

    monkeypatch.setattr(SafetensorsWeights, "read", spy)
    in_rows, _ = load_pretrained(folder, lora_rank=0 if weights == "float32" else 2, memory=16, weights=weights)
    for one, other in zip(in_rows.encoder.variables, whole.encoder.variables):
        if "lora" not in one.path:
            assert_close(tf.cast(one.value, tf.float32), tf.cast(other.value, tf.float32), rtol=0, atol=0)
    assert max(array.size for array in read) < VOCABULARY * 24 / 2 and len([array for array in read if array.shape == (7, 24)]) == VOCABULARY // 7


def test_weights_are_not_copied_when_they_are_read(folder):
    """Catches: variables that were filled by a scatter, which then give every reader a copy: in graphs, each step of a text copied the whole network."""
    policy, _ = load_pretrained(folder, lora_rank=2, memory=16)
    for variable in policy.encoder.variables:
        one, other = (np.asarray(memoryview(variable.value.read_value())) for _ in range(2))
        assert np.shares_memory(one, other), variable.path


@pytest.mark.parametrize("weights, gap", [pytest.param("float32", 1e-4, marks=pytest.mark.full), ("bfloat16", 0.01)])
def test_ppo_learns_through_the_adapters(folder, weights, gap):
    """Catches: parts that do not fit together: the reward's tokenizer, the ids of end and padding, the reference; a step that rounds what reading keeps."""
    policy, tokenizer = load_pretrained(folder, lora_rank=4, lora_layers="all", memory=16, weights=weights)
    letters = PythonReward(lambda prompt, response: float(response.count("e")), tokenizer)
    agent = LanguagePPO(policy, letters, tokenizer.end_id, tokenizer.pad_id, response_length=6, config=PPOConfig(discount=1.0))
    agent.compile(keras.optimizers.Adam(0.05), jit_compile=False)
    prompts = pad_prompts([tokenizer.encode(text, begin=True)[:8] for text in ("the film was", "a film", "it is", "the") * 8], 8, tokenizer.pad_id)
    history = agent.fit(tf.data.Dataset.from_tensors(prompts).repeat(), steps_per_epoch=1, epochs=15, verbose=0).history
    assert history["policy/first_ratio_gap"][0] < gap
    assert np.mean(history["objective/scores"][-3:]) > np.mean(history["objective/scores"][:3]) + 0.5


def test_bfloat16_is_in_the_trunk_and_only_there(folder):
    """Catches: adapters or heads that bfloat16 rounds away; a memory or keys in float32, of twice the size; logits, statistics or hidden states that are rounded."""
    policy, tokenizer = load_pretrained(folder, lora_rank=2, lora_layers="all", memory=16, weights="bfloat16")
    rounded, _ = load_pretrained(folder, lora_rank=0, memory=16)
    assert {v.dtype for v in adapter_variables(policy)} == {"float32"} == {v.dtype for v in policy.trainable_variables}  # the value head too
    kinds = {path: variable.dtype for path, variable in tensors.variables_of(policy.encoder).items() if "lora" not in path}
    assert {path for path, kind in kinds.items() if kind == "float32"} == {path for path in kinds if "norm" in path}
    for one, other in zip([v for v in policy.encoder.variables if "lora" not in v.path], rounded.encoder.variables):
        other.assign(tf.cast(one.value, tf.float32))  # the twin computes in float32, with the same weights
    tokens = np.array([tokenizer.encode("the film was", begin=True)], np.int32)
    (hidden, values), (logits, expected) = policy.hidden(tokens), (policy(tokens)[0], rounded(tokens)[0])
    state = policy.read(tokens)
    _, _, stepped = policy.step(tokens[:, 0], policy.initial_state(1))
    assert hidden.dtype == logits.dtype == values.dtype == tf.float32
    assert {x.dtype for x in tf.nest.flatten([state, stepped]) if x.dtype.is_floating} == {tf.bfloat16}
    spread = np.std(expected)
    assert 1e-4 * spread < np.std(logits - expected) < 0.02 * spread  # 8 bits, 60 roundings


def test_reading_tells_how_far_it_is(folder):
    """Catches: minutes without a word."""
    told = []
    load_pretrained(folder, memory=16, report=lambda done, total: told.append((done, total)))
    assert [done for done, _ in told] == sorted(done for done, _ in told) and told[-1][0] == told[-1][1] and len(told) > 5


@pytest.mark.parametrize(
    "settings, words",
    [
        (dict(memory=200), "memory=200 is longer than the context of 128"),
        (dict(lora_rank=-1), "lora_rank=-1"),
        (dict(weights="int8"), "weights='int8' is unknown. Use float32 or bfloat16"),
        (dict(weights="bfloat16", lora_rank=0), "cannot be trained whole"),
        (dict(lora_layers="heads"), "lora_layers='heads' is unknown"),
        (dict(lora_alpha="x"), "lora_alpha='x' is not positive"),
        (dict(lora_alpha=3.0, lora_rank=0), "lora_alpha=3.0 is of adapters, but lora_rank=0"),
        (dict(lora_layers="all", lora_rank=0), "lora_layers='all' is of adapters, but lora_rank=0"),
        (dict(revision="main"), "revision='main'"),
    ],
)
def test_arguments_that_do_not_fit(folder, settings, words):
    """Catches: a context beyond what the checkpoint knows, weights of a kind that is not here, a revision of a folder."""
    with pytest.raises(InputError) as error:
        load_pretrained(folder, **{"memory": 16} | settings)
    assert words in str(error.value) and "\n" not in str(error.value)


def test_a_folder_without_a_tokenizer_is_refused_before_its_weights_are_read(folder, tmp_path, monkeypatch):
    """Catches: minutes of loading before it is seen that nothing can be read or written."""
    shutil.copytree(folder, tmp_path / "one")
    (tmp_path / "one" / "tokenizer.json").unlink()
    monkeypatch.setattr("ppo_keras.pretrained.loading.read_into", lambda *_: pytest.fail("weights were read"))
    with pytest.raises(InputError, match="no tokenizer.json in"):
        load_pretrained(tmp_path / "one", memory=16)


@pytest.mark.pretrained
def test_smollm2_is_that_of_transformers():
    """Catches: rows of queries and keys in the order of GGUF, another epsilon or rotary base, quantised blocks read askew."""
    try:
        smollm2()
    except InputError as error:
        pytest.skip(str(error))
    policy, tokenizer = load_pretrained("smollm2", lora_rank=8, memory=16)
    assert tokenizer.encode("The film was") == [504, 4771, 436] and tokenizer.end_id == 2
    with np.load(GOLDEN / "smollm2.npz") as file:
        tokens, mask, expected = file["tokens"], file["mask"], file["logits"]
    logits = policy(tokens, starts=episode_starts(mask))[0].numpy()[:, :, ::97]
    assert_close(logits[mask > 0], expected[mask > 0], rtol=0, atol=1e-3)
    assert parameters(policy) == (134_884_225, 369_217)
