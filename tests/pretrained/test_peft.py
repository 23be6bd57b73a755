"""`ppo_keras.pretrained.peft`: adapters written for PEFT, and PEFT's loaded to be trained further. `check_export.py` asks PEFT itself."""

import json
import shutil

import numpy as np
import pytest
import tensorflow as tf
from safetensors.numpy import load_file, save_file
from test_export import FAMILY_NAMES, TOKENS, moved

from helpers import assert_close
from ppo_keras import export_pretrained, load_pretrained
from ppo_keras.errors import DataWarning, InputError
from ppo_keras.networks.adapter_settings import LAYERS
from ppo_keras.networks.adapters import adapter_settings, adapter_variables, add_adapters
from ppo_keras.pretrained.tensors import tensors_of
from small_checkpoint import write_checkpoint

WIDTH, SIZES = 24, {"q_proj": 24, "k_proj": 12, "v_proj": 12, "o_proj": 24, "gate_proj": 40, "up_proj": 40, "down_proj": 24}  # outputs in the golden Llama


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint"))


def ranks_of(policy):
    """{layer of a block: its rank}."""
    return {name: rank for name in LAYERS["all"] if (rank := getattr(policy.encoder.trunk.blocks[1], name).lora_rank)}


def module_of(name, layer):
    return f"model.layers.{layer}.{'self_attn' if name in ('q_proj', 'k_proj', 'v_proj', 'o_proj') else 'mlp'}.{name}"


def write_adapters(folder, targets, rank=2, alpha=3, ranks=None, change=None, **entries):
    """Adapters of a Llama as PEFT trains them: an A for each module. Returns the folder and {(module, layer): alpha / rank * B A}."""
    folder.mkdir(exist_ok=True)
    random, tensors, products = np.random.default_rng(0), {}, {}
    for name in targets:
        own = (ranks or {}).get(name, rank)
        for layer in range(2):
            a = random.normal(0, 0.3, [own, 40 if name == "down_proj" else WIDTH]).astype(np.float32)
            b = random.normal(0, 0.3, [SIZES[name], own]).astype(np.float32)
            tensors |= {f"base_model.model.{module_of(name, layer)}.lora_{kind}.weight": part for kind, part in (("A", a), ("B", b))}
            products[name, layer] = entries.get("alpha_pattern", {}).get(name, alpha) / own * b.astype(np.float64) @ a
    if change:
        change(tensors)
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": alpha, "bias": "none", "target_modules": list(targets), "rank_pattern": ranks or {}}
    (folder / "adapter_config.json").write_text(json.dumps(config | {"lora_dropout": 0.1} | entries))
    return folder, products


@pytest.mark.parametrize("name", FAMILY_NAMES)
@pytest.mark.parametrize("layers", ["attention", "all"])
def test_what_is_written_is_read_again(tmp_path, name, layers):
    """Catches: rows of B that another module gets, A and B exchanged or turned, a factor lost, a rank that is the sum although A is shared."""
    (tmp_path / "checkpoint").mkdir()
    place = write_checkpoint(tmp_path / "checkpoint", name)
    policy, tokenizer = load_pretrained(place, lora_rank=3, lora_alpha=5.0, lora_layers=layers, memory=16)
    folder = export_pretrained(moved(policy), tokenizer, tmp_path / "adapters", checkpoint=place, layout="adapters").folder
    again, _ = load_pretrained(place, adapters=folder, memory=16)
    assert adapter_settings(again) == adapter_settings(policy) == dict(rank=3, alpha=5.0, layers=layers)
    for one, other in zip(adapter_variables(again), adapter_variables(policy)):
        np.testing.assert_array_equal(one, other)
    assert_close(again(TOKENS)[0], policy(TOKENS)[0], rtol=0, atol=0)
    assert len(again.trainable_variables) == len(policy.trainable_variables)


def test_names_and_config_are_those_of_peft(tmp_path, checkpoint):
    """Catches: modules that PEFT does not find, and so leaves as they are without a word; another alpha; a folder that it takes for one to train."""
    policy, tokenizer = load_pretrained(checkpoint, lora_rank=3, lora_alpha=6.0, memory=16)
    folder = export_pretrained(moved(policy), tokenizer, tmp_path / "adapters", checkpoint=checkpoint, layout="adapters").folder
    tensors, config = load_file(folder / "adapter_model.safetensors"), json.loads((folder / "adapter_config.json").read_text())
    shapes = {
        f"base_model.model.{module_of(name, layer)}.lora_{kind}.weight": ([3, WIDTH] if kind == "A" else [SIZES[name], 3])
        for name in ("q_proj", "k_proj", "v_proj") for layer in (0, 1) for kind in "AB"
    }  # fmt: skip
    assert {name: list(tensor.shape) for name, tensor in tensors.items()} == shapes and {tensor.dtype.name for tensor in tensors.values()} == {"float32"}
    expected = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 3, "lora_alpha": 6, "bias": "none", "fan_in_fan_out": False, "rank_pattern": {}}
    assert {name: config[name] for name in expected} == expected and config["target_modules"] == ["k_proj", "q_proj", "v_proj"]
    assert config["base_model_name_or_path"] == str(checkpoint) and sorted(path.name for path in folder.iterdir()) == sorted(
        ["adapter_config.json", "adapter_model.safetensors"]
    )


def test_a_name_that_two_modules_end_with_is_written_longer(tmp_path):
    """Catches: c_proj of the attention and of the MLP, of which only one has an adapter, both targeted."""
    (tmp_path / "checkpoint").mkdir()
    place = write_checkpoint(tmp_path / "checkpoint", "gpt2")
    policy, tokenizer = load_pretrained(place, lora_rank=0, memory=16)
    add_adapters(policy, 2, layers={"query_key_value": 2, "contract": 2})
    folder = export_pretrained(policy, tokenizer, tmp_path / "adapters", checkpoint=place, layout="adapters").folder
    config = json.loads((folder / "adapter_config.json").read_text())
    assert config["target_modules"] == ["c_attn", "mlp.c_proj"] and config["fan_in_fan_out"] is True


def test_ranks_of_two_modules_that_end_alike(tmp_path):
    """Catches: the rank of the MLP's c_proj taken for that of the attention's; a name that is written twice."""
    (tmp_path / "checkpoint").mkdir()
    place = write_checkpoint(tmp_path / "checkpoint", "gpt2")
    policy, tokenizer = load_pretrained(place, lora_rank=0, memory=16)
    add_adapters(policy, 2, layers={"query_key_value": 2, "output_projection": 2, "contract": 3})
    folder = export_pretrained(policy, tokenizer, tmp_path / "adapters", checkpoint=place, layout="adapters").folder
    config = json.loads((folder / "adapter_config.json").read_text())
    assert config["target_modules"] == ["attn.c_proj", "c_attn", "mlp.c_proj"] and config["rank_pattern"] == {"mlp.c_proj": 3}
    assert ranks_of(load_pretrained(place, adapters=folder, memory=16)[0]) == ranks_of(policy)


@pytest.mark.parametrize(
    "targets, options, ranks",
    [
        (["q_proj", "v_proj"], {}, {"query_key_value": 4}),
        (["k_proj"], {}, {"query_key_value": 2}),
        (list(SIZES), {}, {"query_key_value": 6, "output_projection": 2, "expand": 4, "contract": 2}),
        (["gate_proj", "o_proj"], {}, {"output_projection": 2, "expand": 2}),
        (["q_proj", "k_proj", "o_proj"], dict(ranks={"k_proj": 5}, alpha_pattern={"k_proj": 1.5}), {"query_key_value": 7, "output_projection": 2}),
    ],
    ids=["q v", "k", "all", "gate o", "ranks of their own"],
)
def test_modules_with_an_a_each_are_stacked(tmp_path, checkpoint, targets, options, ranks):
    """Catches: an A that serves a module it was not trained for, rows of B in another module's place, a factor divided by the rank of the stack."""
    folder, products = write_adapters(tmp_path / "adapters", targets, **options)
    (base, _), (policy, tokenizer) = load_pretrained(checkpoint, lora_rank=0, memory=16), load_pretrained(checkpoint, adapters=folder, memory=16)
    assert ranks_of(policy) == ranks
    plain, merged = dict(tensors_of(base, "llama")), dict(tensors_of(policy, "llama"))
    for name in SIZES:
        for layer in range(2):
            key = f"{module_of(name, layer)}.weight"
            assert_close(merged[key], plain[key] + products.get((name, layer), 0.0), rtol=1e-5, atol=1e-5)
    by_hand = load_pretrained(export_pretrained(policy, tokenizer, tmp_path / "merged", checkpoint=checkpoint).folder, lora_rank=0, memory=16)[0]
    assert_close(policy(TOKENS)[0], by_hand(TOKENS)[0], rtol=1e-5, atol=1e-4)
    again = export_pretrained(policy, tokenizer, tmp_path / "again", checkpoint=checkpoint, layout="adapters").folder  # of several ranks
    back = load_pretrained(checkpoint, adapters=again, memory=16)[0]
    assert ranks_of(back) == ranks
    assert_close(back(TOKENS)[0], policy(TOKENS)[0], rtol=1e-5, atol=1e-5)


def test_they_are_trained_further(tmp_path, checkpoint):
    """Catches: loaded adapters that are frozen, or zero where no gradient leads away."""
    folder, _ = write_adapters(tmp_path / "adapters", ["q_proj", "v_proj"])
    policy, _ = load_pretrained(checkpoint, adapters=folder, memory=16)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.square(policy(TOKENS)[0]))
    variables = adapter_variables(policy)
    assert all(np.abs(gradient).max() > 0 for gradient in tape.gradient(loss, [variable.value for variable in variables]))
    twin = type(policy).from_config(policy.get_config())  # as a copy or a file is made
    assert adapter_settings(twin) == adapter_settings(policy)


def test_adapters_of_another_model_are_a_warning_where_they_fit(tmp_path, checkpoint):
    """Catches: a name that is a reason to refuse, or that is not even said."""
    folder, _ = write_adapters(tmp_path / "adapters", ["q_proj"], base_model_name_or_path="someone/another")
    with pytest.warns(DataWarning, match="were trained on 'someone/another', and go on"):
        load_pretrained(checkpoint, adapters=folder, memory=16)


@pytest.mark.parametrize(
    "entries, words",
    [
        ({"use_dora": True}, "use_dora=True, which is not here"),
        ({"use_rslora": True}, "use_rslora=True"),
        ({"bias": "lora_only"}, "bias='lora_only'"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save=['lm_head']"),
        ({"layers_to_transform": [1]}, "layers_to_transform=[1]"),
        ({"init_lora_weights": "pissa_niter_4"}, "init_lora_weights='pissa_niter_4', which changes the frozen weights"),
        ({"alpha_pattern": {r"layers\.[01]\..*q_proj": 9}}, "expected names of modules"),
        ({"rank_pattern": ["q_proj"]}, "rank_pattern=['q_proj'], expected names of modules"),
        ({"peft_type": "IA3"}, "peft_type='IA3', but only 'LORA' is here"),
        ({"r": 3}, "of rank 2 for model.layers.0.self_attn.q_proj, but adapter_config.json says 3"),
        ({"r": 0}, "r=0 is no whole number"),
        ({"lora_alpha": "big"}, "lora_alpha='big' is not positive"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_other_kinds_of_adapters_are_refused_by_name(tmp_path, checkpoint, entries, words):
    """Catches: an entry that makes the adapters something else, and is ignored."""
    folder, _ = write_adapters(tmp_path / "adapters", ["q_proj"], **entries)
    with pytest.raises(InputError) as error:
        load_pretrained(checkpoint, adapters=folder, memory=16)
    assert words in str(error.value) and "\n" not in str(error.value)


Q = "base_model.model.model.layers.{}.self_attn.q_proj.lora_{}.weight"


@pytest.mark.parametrize(
    "change, words",
    [
        (
            lambda t: t.update({Q.format(2, "A"): np.ones([2, WIDTH], np.float32)}),
            "model.layers.2.self_attn.q_proj, which is no linear layer that can have one",
        ),
        (
            lambda t: t.update({Q.format(1, "A"): np.ones([2, 23], np.float32)}),
            "the shapes (2, 23) and (24, 2), and it is (24, 24). They are of another model than",
        ),
        (lambda t: t.update({Q.format(1, "B"): np.ones([25, 2], np.float32)}), "(25, 2), and it is (24, 24)"),
        (lambda t: t.pop(Q.format(1, "B")), "has only the lora_A of model.layers.1.self_attn.q_proj"),
        (lambda t: [t.pop(Q.format(1, kind)) for kind in "AB"], "adapters of q_proj in 1 of the 2 layers"),
        (lambda t: t.update({Q.format(1, "A")[:-9] + "magnitude_vector": np.ones(24, np.float32)}), "which is no part of a plain LoRA adapter"),
        (
            lambda t: t.update({"base_model.model.model.embed_tokens.lora_embedding_A": np.ones([2, 9], np.float32)}),
            "embed_tokens.lora_embedding_A of shape (2, 9)",
        ),
        (lambda t: t.update({Q.format(1, "A"): np.full([2, WIDTH], np.nan, np.float32)}), "has values that are not finite"),
        (lambda t: t.clear(), "holds no adapters"),
    ],
    ids=["a layer more", "inputs", "outputs", "half", "some layers", "DoRA", "embedding", "NaN", "empty"],
)
def test_tensors_that_do_not_fit_are_named(tmp_path, checkpoint, change, words):
    """Catches: adapters of a deeper or wider model, or some of them, that are put on the layers that there are."""
    folder, _ = write_adapters(tmp_path / "adapters", ["q_proj"], change=change)
    with pytest.raises(InputError) as error:
        load_pretrained(checkpoint, adapters=folder, memory=16)
    assert words in str(error.value) and "\n" not in str(error.value)


def test_what_is_no_folder_of_adapters(tmp_path, checkpoint):
    """Catches: a traceback, a pickle that is read, sizes that the folder's own replace without a word."""
    folder, _ = write_adapters(tmp_path / "adapters", ["q_proj"])
    refused = [(dict(adapters=tmp_path / "none"), "there is no folder"), (dict(adapters=checkpoint), "holds no adapter_config.json")]
    refused += [(dict(adapters=folder, lora_rank=8), "lora_rank=8 has no use"), (dict(adapters=folder, lora_layers="all"), "lora_layers='all' has no use")]
    shutil.copytree(folder, tmp_path / "pickle")
    (tmp_path / "pickle" / "adapter_model.safetensors").rename(tmp_path / "pickle" / "adapter_model.bin")
    shutil.copytree(folder, tmp_path / "cut")
    (tmp_path / "cut" / "adapter_model.safetensors").write_bytes((folder / "adapter_model.safetensors").read_bytes()[:-9])
    refused += [(dict(adapters=tmp_path / "pickle"), "a pickle, which can execute code"), (dict(adapters=tmp_path / "cut"), "no whole safetensors file")]
    for options, words in refused:
        with pytest.raises(InputError) as error:
            load_pretrained(checkpoint, memory=16, **options)
        assert words in str(error.value) and "\n" not in str(error.value)
