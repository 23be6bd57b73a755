"""`ppo_keras.export_pretrained`: what is written is the policy, for us and (`check_export.py`) for other libraries."""

import json
import os

import keras
import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf
from safetensors.numpy import load_file, save_file

from helpers import assert_close, tiny_policy, tiny_reader
from ppo_keras import LSTMActorCritic, Tokenizer, TransformerActorCritic, export_pretrained, load_pretrained
from ppo_keras.errors import InputError
from ppo_keras.networks.adapters import adapter_variables
from ppo_keras.networks.transformer import Form
from ppo_keras.pretrained import export
from ppo_keras.pretrained.families import FAMILIES, Settings, config_for, settings_of
from ppo_keras.pretrained.loading import Checkpoint
from ppo_keras.pretrained.tokenizer import PretrainedTokenizer
from small_checkpoint import write_checkpoint

FAMILY_NAMES = ["gpt2", "llama", "llama3", "mistral", "qwen2", "qwen3", "gemma3", "gpt_neox"]
TOKENS = np.random.default_rng(0).integers(0, 500, [2, 7]).astype(np.int32)
TEXTS = ["A fine film, and a dull one.", "The  ending was  good", " In 2024 it cost 350.", "电影很好", "", "x" * 30, "naïve <s> café\n"]


def moved(policy, spread=0.3):
    """The policy with other adapters, and values other than 0."""
    for i, variable in enumerate((*adapter_variables(policy), *policy.value_head.trainable_variables)):
        variable.assign(spread * tf.random.stateless_normal(variable.shape, [i, 7]))
    return policy


@pytest.fixture(scope="module")
def own_tokenizer():
    """One of ours, with a control code."""
    return Tokenizer.train(["a fine film and a good story", "the ending was dull in 1999"] * 40, 330, ["positive:", "very bad:"])


def own_policy(vocabulary_size, **settings):
    """A network from nothing, whose every weight is spread."""
    return tiny_policy("transformer", layers=2, vocabulary_size=vocabulary_size, **settings)


@pytest.mark.parametrize("name", FAMILY_NAMES)
def test_every_family_is_written_as_it_is_read(tmp_path, name):
    """Catches: an adapter that is left out or scaled otherwise, a tensor turned, split elsewhere or called otherwise, norms of Gemma one too large; tokens,
    templates or ids of the end lost."""
    (tmp_path / "checkpoint").mkdir()
    place = write_checkpoint(tmp_path / "checkpoint", name)
    policy, tokenizer = load_pretrained(place, lora_rank=3, lora_alpha=5.0, lora_layers="all", memory=16)
    moved(policy)
    done = export_pretrained(policy, tokenizer, tmp_path / "new" / "exported", checkpoint=place)
    assert done.dtype == "float32" and sorted(os.listdir(tmp_path / "new")) == ["exported"]
    again, its = load_pretrained(done.folder, lora_rank=0, memory=16)
    assert_close(again(TOKENS)[0], policy(TOKENS)[0], rtol=1e-5, atol=1e-4)
    held, written = (json.loads((folder / "config.json").read_text()) for folder in (place, done.folder))
    assert written == held and set(load_file(done.folder / "model.safetensors")) == set(load_file(place / "model.safetensors"))
    for file in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        assert (done.folder / file).read_bytes() == (place / file).read_bytes()
    assert its.end_ids == tokenizer.end_ids


def test_gpt2_without_its_prefix_is_written_with_it(tmp_path):
    """Catches: names that GPT-2 itself was published with, which transformers' language model does not have; or that cannot be read."""
    (tmp_path / "checkpoint").mkdir()
    place = write_checkpoint(tmp_path / "checkpoint", "gpt2")
    tensors = load_file(place / "model.safetensors")
    save_file({name.removeprefix("transformer."): tensor for name, tensor in tensors.items()}, place / "model.safetensors")
    policy, tokenizer = load_pretrained(place, lora_rank=2, memory=16)
    written = load_file(export_pretrained(policy, tokenizer, tmp_path / "exported", checkpoint=place).folder / "model.safetensors")
    assert written.keys() == tensors.keys() and all(np.array_equal(written[name], tensors[name]) for name in tensors)
    adapters = export_pretrained(moved(policy), tokenizer, tmp_path / "adapters", checkpoint=place, layout="adapters").folder
    assert_close(load_pretrained(place, adapters=adapters, memory=16)[0](TOKENS)[0], policy(TOKENS)[0], rtol=0, atol=0)


@pytest.mark.parametrize("dtype, expected", [(None, "bfloat16"), ("float16", "float16"), ("float32", "float32")])
def test_the_kind_of_numbers_is_the_checkpoints_unless_named(tmp_path, dtype, expected):
    """Catches: a file of twice the size, a config that says otherwise, weights that were rounded before they were merged."""
    (tmp_path / "checkpoint").mkdir()
    place = write_checkpoint(tmp_path / "checkpoint", dtype=ml_dtypes.bfloat16)
    policy, tokenizer = load_pretrained(place, lora_rank=2, memory=16, weights="bfloat16")
    kernel = moved(policy).encoder.trunk.blocks[1].query_key_value
    done = export_pretrained(policy, tokenizer, tmp_path / "exported", checkpoint=place, dtype=dtype)
    tensors = load_file(done.folder / "model.safetensors")
    assert {tensor.dtype.name for tensor in tensors.values()} == {expected} and json.loads((done.folder / "config.json").read_text())["dtype"] == expected
    found = np.concatenate([tensors[f"model.layers.1.self_attn.{name}_proj.weight"] for name in "qkv"]).astype(np.float64)
    a, b, base = (np.asarray(keras.ops.convert_to_numpy(one)).astype(np.float64) for one in (kernel.lora_kernel_a, kernel.lora_kernel_b, kernel._kernel))
    exact = (base + 4.0 / 2.0 * a @ b).T
    assert_close(found, exact, rtol={"bfloat16": 2**-8, "float16": 2**-11, "float32": 1e-6}[expected], atol=1e-6)


def test_large_weights_are_several_files(tmp_path):
    """Catches: a file beyond what the hub takes, an index that names another file, a last tensor that is lost."""
    tensors = {f"t{i}": np.full([5, 5], i, np.float32) for i in range(5)}
    export.write_safetensors(tmp_path, iter(tensors.items()), most=250)
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    names = [f"model-0000{i}-of-00003.safetensors" for i in (1, 2, 3)]
    assert sorted(os.listdir(tmp_path)) == [*names, "model.safetensors.index.json"] and index["metadata"] == {"total_size": 500}
    assert index["weight_map"] == {"t0": names[0], "t1": names[0], "t2": names[1], "t3": names[1], "t4": names[2]}
    assert len({path.stat().st_mode for path in tmp_path.iterdir()}) == 1  # readable for whom the index is
    for name, home in index["weight_map"].items():
        np.testing.assert_array_equal(load_file(tmp_path / home)[name], tensors[name])


# Networks and tokenizers of our own.


@pytest.mark.parametrize("shared", [True, False])
def test_a_network_of_our_own_is_a_gpt_neox(tmp_path, own_tokenizer, shared):
    """Catches: queries, keys and values that are not laid head by head, a scale of the embeddings that also reaches the head or neither, the critic's encoder
    in the place of the policy's, positions that overlap."""
    policy = own_policy(own_tokenizer.vocabulary_size, shared=shared)
    done = export_pretrained(policy, own_tokenizer, tmp_path / "exported")
    assert done.model_type == "gpt_neox"
    again, its = load_pretrained(done.folder, lora_rank=0, memory=16)
    tokens = TOKENS % own_tokenizer.vocabulary_size
    assert_close(again(tokens)[0], policy(tokens)[0], rtol=1e-5, atol=1e-5)
    assert its.end_ids == (own_tokenizer.end_id,) and its.begin_id == own_tokenizer.begin_id and its.pad_id == own_tokenizer.pad_id
    query = load_file(done.folder / "model.safetensors")["gpt_neox.layers.1.attention.query_key_value.bias"]
    ours = policy.encoder.trunk.blocks[1].query_key_value.bias.numpy()  # two heads of 8: q0 q1 k0 k1 v0 v1
    np.testing.assert_array_equal(query, np.concatenate([ours[8 * i : 8 * i + 8] for i in (0, 2, 4, 1, 3, 5)]))


@pytest.mark.parametrize(
    "form, family",
    [
        (dict(norm="rms", gated=True, activation="silu", query_key_value_bias=False, output_bias=False, mlp_bias=False, key_heads=1), "llama"),
        (dict(positions="learned", most_positions=16, mlp_width=40), "gpt2"),
        (dict(epsilon=1e-6, mlp_width=40, rotary_bases=(500.0,)), "gpt_neox"),
    ],
)
def test_another_form_is_another_family(tmp_path, own_tokenizer, form, family):
    """Catches: a family whose network differs in what a config can say: epsilon, base, width of the MLP, heads of keys."""
    policy = TransformerActorCritic(own_tokenizer.vocabulary_size, width=16, layers=2, heads=2, memory=16, form=form)
    random = np.random.default_rng(1)
    policy.set_weights([random.normal(0, 0.3, w.shape) for w in policy.weights])
    done = export_pretrained(policy, own_tokenizer, tmp_path / "exported")
    tokens = TOKENS % own_tokenizer.vocabulary_size
    assert done.model_type == family
    assert_close(load_pretrained(done.folder, lora_rank=0, memory=16)[0](tokens)[0], policy(tokens)[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "form",
    [
        dict(norm="rms"),
        dict(query_scale=0.1),
        dict(sandwich=True, norm="rms", gated=True, activation="silu"),
        dict(rotary_scaling=(2.0,)),
        dict(mlp_bias=False),
    ],
)
def test_a_form_that_no_family_has_is_refused(own_tokenizer, tmp_path, form):
    """Catches: a network written as one that it is almost."""
    policy = TransformerActorCritic(own_tokenizer.vocabulary_size, width=16, layers=1, heads=2, memory=16, form=form)
    with pytest.raises(InputError, match="is this Transformer exactly") as error:
        export_pretrained(policy, own_tokenizer, tmp_path / "exported")
    assert "\n" not in str(error.value) and not os.listdir(tmp_path)


def test_our_tokenizer_is_written_piece_by_piece(tmp_path, own_tokenizer):
    """Catches: merges in another order, spaces at the beginning lost or doubled, control codes that are spelled, characters that are unknown instead of bytes,
    no begin token before a text."""
    own = Tokenizer.train([f"film {i} {word}" for i, word in enumerate("fine good dull 电影 long story ending café".split() * 20)], 420)
    for tokenizer in (own, own_tokenizer):
        policy = own_policy(tokenizer.vocabulary_size)
        folder = export_pretrained(policy, tokenizer, tmp_path / str(tokenizer.vocabulary_size)).folder
        theirs, plain = PretrainedTokenizer.from_folder(folder), [text for text in TEXTS if "<s>" not in text]
        codes = ["positive: A fine film", "very bad: it", "A positive: film", "positive:", "positive:very bad:"]
        for text in plain + codes:
            assert theirs.encode(text) == tokenizer.encode(text), text
            assert theirs.decode(tokenizer.encode(text)) == tokenizer.decode(tokenizer.encode(text)), text
        assert theirs.encode("a film", begin=True) == tokenizer.encode("a film", begin=True)
        random = np.random.default_rng(0)
        for _ in range(300):
            text = "".join(random.choice(list("aefilmngd ositv:  0129é影"), random.integers(1, 20)))
            assert theirs.encode(text) == tokenizer.encode(text), text


def test_the_configs_of_both_ways_are_one_table():
    """Catches: a family that can be written and not read."""
    for form in (Form(embedding_scale=1.0, tied=False), Form(embedding_scale=1.0, positions="learned", most_positions=9)):
        settings = Settings(50, 16, 2, 2, 9, form)
        config = config_for(settings)
        assert settings_of(config).plain() == settings.plain() and settings_of(config).most_steps == 9 and config["model_type"] in FAMILIES


# What cannot be.


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint"))


def test_a_folder_is_whole_or_not_there(tmp_path, own_tokenizer, monkeypatch):
    """Catches: half of a model where the disk is full, a folder of another's files that is written over, a parent that nobody asked for."""
    policy = own_policy(own_tokenizer.vocabulary_size)
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "mine.txt").write_text("mine")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="used is not empty, and nothing is written over"):
        export_pretrained(policy, own_tokenizer, tmp_path / "used")
    with pytest.raises(InputError, match="mine.txt is a file"):
        export_pretrained(policy, own_tokenizer, tmp_path / "used" / "mine.txt")
    monkeypatch.setattr(export, "_save", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    for folder in ("empty", "a/b"):
        with pytest.raises(OSError, match="No space"):
            export_pretrained(policy, own_tokenizer, tmp_path / folder)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["empty", "mine.txt", "used"]
    monkeypatch.undo()
    export_pretrained(policy, own_tokenizer, tmp_path / "empty")
    assert (tmp_path / "empty" / "model.safetensors").exists() and sorted(os.listdir(tmp_path)) == ["empty", "used"]


def test_what_is_no_writer_is_refused(tmp_path, own_tokenizer, checkpoint):
    """Catches: an LSTM, a classifier or another's checkpoint written as something that it is not."""
    size = own_tokenizer.vocabulary_size
    refused = [
        (LSTMActorCritic(size, width=8), {}, "this lstm"),
        (tiny_reader(), {}, "chooses among 3 actions and writes no text"),
        (object(), {}, "expected a TransformerActorCritic"),
        (own_policy(size - 1), {}, f"the tokenizer has {size} tokens, and the policy {size - 1}"),
        (own_policy(size), dict(checkpoint=checkpoint), "differ in vocabulary_size, width, heads, form. Name its own checkpoint"),
        (own_policy(size), dict(layout="adapters"), "has no adapters: all of its weights were trained"),
        (own_policy(size), dict(layout="gguf"), "GGUF files are written of llama, mistral, qwen2, qwen3, gpt2, not of gpt_neox"),
        (own_policy(size), dict(layout="gguf", dtype="bfloat16"), "written in float16 or float32, not in bfloat16"),
        (own_policy(size), dict(layout="onnx"), "layout='onnx' is unknown"),
        (own_policy(size), dict(dtype="int8"), "dtype='int8' is unknown"),
    ]
    for policy, options, words in refused:
        with pytest.raises(InputError) as error:
            export_pretrained(policy, own_tokenizer, tmp_path / "exported", **options)
        assert words in str(error.value) and "\n" not in str(error.value)
    assert not os.listdir(tmp_path)


def test_weights_that_float16_cannot_hold_are_named(tmp_path, checkpoint):
    """Catches: infinities in a file."""
    policy, tokenizer = load_pretrained(checkpoint, lora_rank=0, memory=16)
    scale = policy.encoder.trunk.norm.scale
    scale.assign(scale + 1e5)
    with pytest.raises(InputError, match="model.norm.weight has values that are not finite as float16. Use float32"):
        export_pretrained(policy, tokenizer, tmp_path / "exported", checkpoint=Checkpoint(checkpoint), dtype="float16")
    assert not os.listdir(tmp_path)
