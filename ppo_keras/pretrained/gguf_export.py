"""A GGUF file (llama.cpp's format) of a policy: what `gguf_weights.py` undoes when it reads one is done here, by the same tables."""

import json
import math

import numpy as np

from ppo_keras.errors import InputError, require
from ppo_keras.pretrained.files import needed
from ppo_keras.pretrained.gguf_weights import ARCHITECTURES, LLAMA3, TRANSPOSED, llama3_factor
from ppo_keras.pretrained.tokenizer_files import gguf_of

HOMES = {"llama": "llama", "mistral": "llama", "qwen2": "qwen2", "qwen3": "qwen3", "gpt2": "gpt2"}  # model_type: GGUF's name of its network
ADVICE = "Export it without --gguf."


def gguf_metadata(config, tokenizer, most_steps):
    """The metadata of a GGUF file: (architecture, {key: value}).

    Args:
        config: a `config.json`, a dict.
        tokenizer: a `PretrainedTokenizer`.
        most_steps: the longest context.

    Raises:
        InputError: a family or a tokenizer that is not written.
    """
    family = config["model_type"]
    require(family in HOMES, f"GGUF files are written of {', '.join(HOMES)}, not of {family}. {ADVICE}")
    require(tokenizer.model[:1] == b"{", f"GGUF files are written with the tokenizer of a checkpoint, not with one of our own. {ADVICE}")
    held = json.loads(tokenizer.model)
    named = gguf_of(held["tokenizer"], held["facts"], tokenizer.begins, tokenizer.end_ids, tokenizer.vocabulary_size)
    if family == "gpt2":
        width = config["n_embd"]
        values = {
            "embedding_length": width, "block_count": config["n_layer"], "feed_forward_length": config.get("n_inner") or 4 * width,
            "attention.head_count": config["n_head"], "attention.layer_norm_epsilon": float(config.get("layer_norm_epsilon", 1e-5)),
        }  # fmt: skip
    else:
        values = _llama_values(config)
    return HOMES[family], {f"{HOMES[family]}.{key}": value for key, value in (values | {"context_length": most_steps}).items()} | named


def write_gguf(path, config, metadata, tensors, dtype):
    """Writes the file.

    Args:
        path: of the file.
        config: a `config.json`, a dict.
        metadata: of `gguf_metadata`.
        tensors: called twice, gives (name in Hugging Face's format, float32 array) one after another: for the header, and for the data behind it.
        dtype: of the matrices; vectors (norms, biases) are float32, as llama.cpp wants them.

    Raises:
        InputError: a weight that is too large for float16.
    """
    gguf = needed("gguf")
    (architecture, values), kinds, slowed = metadata, gguf.LlamaFileType, _slowed(config)
    first = [] if slowed is None else [("rope_freqs.weight", slowed)]

    def written():
        yield from first
        for name, array in tensors():
            ours, array = _renamed(name, array, architecture, config)
            yield ours, in_dtype(name, array, dtype if array.ndim > 1 else "float32")

    writer = gguf.GGUFWriter(str(path), architecture)
    try:
        writer.add_file_type(kinds.ALL_F32 if dtype == "float32" else kinds.MOSTLY_F16)
        for key, value in values.items():
            add = {bool: writer.add_bool, int: writer.add_uint32, float: writer.add_float32, str: writer.add_string, list: writer.add_array}[type(value)]
            add(key, value)
        for name, array in written():
            writer.add_tensor_info(name, array.shape, array.dtype, array.nbytes)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for _, array in written():
            writer.write_tensor_data(array)
    finally:
        writer.close()


def in_dtype(name, array, dtype):
    """A tensor as it is written. Raises `InputError` where a value does not fit."""
    if dtype == "bfloat16":
        import ml_dtypes

        dtype = ml_dtypes.bfloat16
    with np.errstate(over="ignore"):  # said below
        array = np.ascontiguousarray(array.astype(dtype))
    require(np.isfinite(array).all(), f"{name} has values that are not finite as {np.dtype(dtype).name}. Use float32.")
    return array


def _llama_values(config):
    """What the metadata say of the sizes of a Llama, or of one that came of it."""
    width, heads, scaling = config["hidden_size"], config["num_attention_heads"], _scaling(config)
    size, base = config.get("head_dim") or width // heads, scaling.get("rope_theta") or config.get("rope_theta", 10_000.0)
    values = {
        "embedding_length": width, "block_count": config["num_hidden_layers"], "feed_forward_length": config["intermediate_size"],
        "attention.head_count": heads, "attention.head_count_kv": config.get("num_key_value_heads") or heads, "attention.key_length": size,
        "attention.value_length": size, "attention.layer_norm_rms_epsilon": float(config["rms_norm_eps"]), "rope.dimension_count": size,
        "rope.freq_base": float(base),
    }  # fmt: skip
    linear = scaling.get("rope_type", scaling.get("type")) == "linear"
    return values | ({"rope.scaling.type": "linear", "rope.scaling.factor": float(scaling["factor"])} if linear else {})


def _scaling(config):
    """The rotary scaling of a config, a dict, from the older entry or the newer."""
    return config.get("rope_parameters") or config.get("rope_scaling") or {}


def _slowed(config):
    """By how much each pair of a head is slowed in Llama 3, which GGUF keeps as a tensor; None elsewhere."""
    scaling = _scaling(config)
    if scaling.get("rope_type", scaling.get("type")) != "llama3":
        return None
    unlike = {name: scaling.get(name) for name, value in LLAMA3.items() if scaling.get(name) != value}
    require(
        not unlike, f"the rotary scaling of the checkpoint, {unlike}, is not that of Llama 3, the only one of its kind that is read in GGUF files. {ADVICE}"
    )
    base, size = scaling.get("rope_theta") or config["rope_theta"], config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    return np.array([llama3_factor(2 * math.pi * base ** (2 * i / size), scaling) for i in range(size // 2)], np.float32)


def _renamed(name, array, architecture, config):
    """GGUF's name and layout of a tensor in Hugging Face's."""
    _, prefix, outer, inner = ARCHITECTURES[architecture]
    module, _, kind = name.rpartition(".")
    if name.startswith(f"{prefix}."):
        number, _, theirs = module.removeprefix(f"{prefix}.").partition(".")
        layer = next(ours for ours, one in inner.items() if one == theirs)
        place = f"blk.{number}.{layer}"
    else:
        place = layer = next((ours for ours, one in outer.items() if one == module), None)
    if place is None:
        raise InputError(f"{name} has no place in a GGUF file of {architecture}. {ADVICE}")
    if architecture == "gpt2" and layer in TRANSPOSED and kind == "weight":
        array = array.T
    if architecture == "llama" and layer in ("attn_q", "attn_k"):  # the rows of a head become (pair, half)
        heads = config["num_attention_heads"] if layer == "attn_q" else config.get("num_key_value_heads") or config["num_attention_heads"]
        array = array.reshape(heads, 2, len(array) // heads // 2, *array.shape[1:]).swapaxes(1, 2).reshape(array.shape)
    return f"{place}.{kind}", array
