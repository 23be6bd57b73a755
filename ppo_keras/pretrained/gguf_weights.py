"""The weights of a GGUF file (llama.cpp's format), dequantised, under Hugging Face's names and in its layouts; its metadata as a config.

llama.cpp's converter renames tensors, permutes queries and keys of Llama, adds 1 to the norms of Gemma and transposes GPT-2's layers:
here each of these is undone, so that one table of names serves both formats.
"""

import math
from pathlib import Path

import numpy as np

from ppo_keras.errors import InputError, require, shown
from ppo_keras.pretrained.files import AGAIN
from ppo_keras.pretrained.gguf_file import read_gguf
from ppo_keras.pretrained.weights import Weights

OUTER = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
INNER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
GEMMA = {"post_attention_norm": "post_attention_layernorm", "ffn_norm": "pre_feedforward_layernorm", "post_ffw_norm": "post_feedforward_layernorm"}
GPT2_OUTER = {"token_embd": "transformer.wte", "position_embd": "transformer.wpe", "output_norm": "transformer.ln_f", "output": "lm_head"}
GPT2_INNER = {
    "attn_norm": "ln_1",
    "attn_qkv": "attn.c_attn",
    "attn_output": "attn.c_proj",
    "ffn_norm": "ln_2",
    "ffn_up": "mlp.c_fc",
    "ffn_down": "mlp.c_proj",
}
TRANSPOSED = ("attn_qkv", "attn_output", "ffn_up", "ffn_down")  # of GPT-2, whose layers in Hugging Face's format are (in, out)
# of GGUF: (model_type, prefix of the blocks, names outside of them, names in them)
ARCHITECTURES = {
    "llama": ("llama", "model.layers", OUTER, INNER),
    "qwen2": ("qwen2", "model.layers", OUTER, INNER),
    "qwen3": ("qwen3", "model.layers", OUTER, INNER),
    "gemma3": ("gemma3_text", "model.layers", OUTER, INNER | GEMMA),
    "gpt2": ("gpt2", "transformer.h", GPT2_OUTER, GPT2_INNER),
}
LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}


class GGUFWeights(Weights):
    """Those of a .gguf file. `dtype` names its quantisation; `read` undoes it."""

    def __init__(self, path):
        metadata, tensors = read_gguf(Path(path))
        require(tensors, f"{path} holds no tensors: it is a vocabulary only. Use the file with the weights.")
        super().__init__(path, [path], {}, metadata)
        self.architecture = metadata.get("general.architecture")
        known = isinstance(self.architecture, str) and self.architecture in ARCHITECTURES
        require(known, f"{path} holds the architecture {shown(self.architecture, 40)}, which is not known. Known are: {', '.join(ARCHITECTURES)}.")
        parts = metadata.get("split.count", 0)
        require(parts in (0, 1), f"{path} is one of {shown(parts, 40)} parts. Join them with llama-gguf-split --merge, and give the whole file.")
        factors = tensors.pop("rope_freqs.weight", None)
        if self.architecture == "gpt2" and _same(tensors.get("output.weight"), tensors.get("token_embd.weight")):
            del tensors["output.weight"]  # tied, and written twice by older converters
        self._tensors = {self._translate(name): tensor for name, tensor in tensors.items()}
        for name, tensor in self._tensors.items():
            self._shapes[name] = tensor.shape[::-1] if self._is_transposed(tensor.name) else tensor.shape
        self.config = config_of(self, factors)

    def dtype(self, name):
        self._check(name)
        return self._tensors[name].kind.name

    def value(self, key, default=None, kind=int):
        """What the metadata says under `{architecture}.{key}`: one value of a kind, the same for each layer."""
        value = self.metadata.get(f"{self.architecture}.{key}", default)
        require(value is not None, f"{self.path} says nothing of {self.architecture}.{key}. {AGAIN}")
        if isinstance(value, list):
            same = value and all(other == value[0] for other in value)
            require(same, f"{self.path}: {self.architecture}.{key} differs from layer to layer, which no network here can. Use another model.")
            value = value[0]
        good = isinstance(value, kind) and not isinstance(value, bool) and (value is default or isinstance(value, str) or 0 < value < 2**31)
        require(good, f"{self.path}: {self.architecture}.{key} is {shown(value, 40)}, which cannot be. {AGAIN}")
        return float(str(np.float32(value))) if isinstance(value, float) else value  # 1e-5, as it was written, not 9.99999975e-06

    def _read(self, name, rows):
        tensor = self._tensors[name]
        permuted, turned = self._is_permuted(tensor.name), self._is_transposed(tensor.name)
        by_row = len(tensor.shape) == 2 and not (permuted or turned)
        try:
            array = tensor.values(rows if by_row else slice(None))
        except NotImplementedError as error:
            raise InputError(f"{self.path}: {name} is quantised as {self.dtype(name)}, which is not known. Use a file in Q8_0, Q4_K_M or F16.") from error
        if permuted:
            # The rows of a head are (pair, half) there and (half, pair) here; keys have heads of their own number.
            heads = self.config["num_attention_heads" if "attn_q" in tensor.name else "num_key_value_heads"]
            size = len(array) // heads
            require(
                len(array) == size * heads and size % 2 == 0,
                f"{self.path}: {name} of shape {array.shape} does not divide into {heads} heads. {AGAIN}",
            )
            array = array.reshape(heads, size // 2, 2, *array.shape[1:]).swapaxes(1, 2).reshape(array.shape)  # (H * d, D)
        if self.architecture == "gemma3" and name.endswith("norm.weight"):
            array = array - 1.0
        array = np.ascontiguousarray(array.T) if turned else array
        return array if by_row else array[rows]

    def _is_permuted(self, gguf_name):
        return self.architecture == "llama" and gguf_name.split(".")[-2] in ("attn_q", "attn_k")

    def _is_transposed(self, gguf_name):
        return self.architecture == "gpt2" and gguf_name.split(".")[-2] in TRANSPOSED and gguf_name.endswith(".weight")

    def _translate(self, name):
        """Hugging Face's name of a tensor: `blk.0.attn_q.weight` is `model.layers.0.self_attn.q_proj.weight`."""
        _, prefix, outer, inner = ARCHITECTURES[self.architecture]
        parts = name.split(".")
        if len(parts) == 2 and parts[0] in outer:
            return f"{outer[parts[0]]}.{parts[1]}"
        if len(parts) == 4 and parts[0] == "blk" and parts[1].isdigit() and parts[2] in inner:
            return f"{prefix}.{parts[1]}.{inner[parts[2]]}.{parts[3]}"
        raise InputError(
            f"{self.path} holds the tensor {name!r}, which no {self.architecture} here has (a mixture of experts, a vision part?). Use another model."
        )


def config_of(weights, factors=None):
    """What `config.json` would say of a GGUF file.

    Args:
        weights: `GGUFWeights`, its tensors translated.
        factors: its tensor `rope_freqs.weight`, or None: by how much each frequency of Llama 3 is slowed.

    Returns:
        A dict with Hugging Face's keys.

    Raises:
        InputError: the file does not say what is needed.
    """
    architecture, value = weights.architecture, weights.value
    model_type, prefix, outer, _ = ARCHITECTURES[architecture]
    embedding = f"{outer['token_embd']}.weight"
    require(embedding in weights, f"{weights.path} holds no token_embd.weight. {AGAIN}")
    ids = {"bos_token_id": "bos_token_id", "eos_token_id": "eos_token_id", "pad_token_id": "padding_token_id"}
    config = {name: weights.metadata.get(f"tokenizer.ggml.{key}") for name, key in ids.items()}
    config |= {"model_type": model_type, "vocab_size": weights.shape(embedding)[0], "tie_word_embeddings": "lm_head.weight" not in weights}
    width, heads, layers = value("embedding_length"), value("attention.head_count"), value("block_count")
    held = {int(name.removeprefix(prefix).split(".")[1]) for name in weights.names() if name.startswith(f"{prefix}.")}
    require(held == set(range(min(layers, 10_000))), f"{weights.path} says that it has {layers} layers and holds {len(held)}. {AGAIN}")
    if architecture == "gpt2":
        epsilon = value("attention.layer_norm_epsilon", kind=float)
        return config | {
            "n_embd": width,
            "n_layer": layers,
            "n_head": heads,
            "n_inner": value("feed_forward_length"),
            "n_positions": value("context_length"),
            "layer_norm_epsilon": epsilon,
            "activation_function": "gelu_new",
        }
    head_size = value("attention.key_length", width // heads)
    turned = value("rope.dimension_count", head_size)
    require(
        value("attention.value_length", head_size) == head_size == turned,
        f"{weights.path}: heads of {head_size} whose values differ in size, or of which only {turned} turn, are not known. Use another model.",
    )
    config |= {
        "hidden_size": width,
        "intermediate_size": value("feed_forward_length"),
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": value("attention.head_count_kv", heads),
        "head_dim": head_size,
        "max_position_embeddings": value("context_length"),
        "rms_norm_eps": value("attention.layer_norm_rms_epsilon", kind=float),
        "rope_theta": value("rope.freq_base", 10_000.0, float),
        "rope_scaling": _rope_scaling(weights, head_size, factors),
    }
    if architecture == "gemma3":
        return config | _gemma(weights, width, heads, layers, head_size)
    config["hidden_act"] = "silu"
    if architecture == "llama":
        config |= {"attention_bias": f"{prefix}.0.self_attn.q_proj.bias" in weights, "mlp_bias": f"{prefix}.0.mlp.up_proj.bias" in weights}
    if window := value("attention.sliding_window", 0):
        config |= {"sliding_window": window, "use_sliding_window": True}
    return config


def _gemma(weights, width, heads, layers, head_size):
    """What a GGUF file takes for granted of Gemma 3: each sixth layer sees all, its queries are scaled by the head size (27B: by width / heads)."""
    return {
        "hidden_activation": "gelu_pytorch_tanh",
        "query_pre_attn_scalar": width // heads if layers == 62 else head_size,
        "rope_local_base_freq": weights.value("rope.freq_base_swa", 10_000.0, float),
        "sliding_window": weights.value("attention.sliding_window"),
        "sliding_window_pattern": 6,
        "layer_types": ["full_attention" if (i + 1) % 6 == 0 else "sliding_attention" for i in range(layers)],
        "attention_bias": False,
        "attn_logit_softcapping": None,
        "final_logit_softcapping": weights.metadata.get("gemma3.final_logit_softcapping"),
    }


def _rope_scaling(weights, head_size, factors):
    """The `rope_scaling` of the config: None, that which the metadata name, or Llama 3's, of which the file holds the result only."""
    kind = weights.value("rope.scaling.type", "none", str)
    if kind != "none":
        require(factors is None, f"{weights.path} slows its frequencies twice, by rope.scaling and by rope_freqs.weight. Use another model.")
        return {"rope_type": kind, "factor": weights.value("rope.scaling.factor", 1.0, float)}
    if factors is None:
        return None
    unlike = f"{weights.path}: rope_freqs.weight is not the scaling of Llama 3, and no other is known. Use another model."
    require(factors.kind.name == "F32" and factors.shape == (head_size // 2,), unlike)
    given, base = factors.values().astype(np.float64), weights.value("rope.freq_base", 10_000.0, float)
    if np.all(given == 1.0):
        return None
    require(np.all(given >= 1.0), unlike)
    scaling = {"rope_type": "llama3", "factor": float(given.max())} | LLAMA3
    expected = [llama3_factor(2 * math.pi * base ** (2 * i / head_size), scaling) for i in range(head_size // 2)]
    require(np.allclose(given, expected, rtol=1e-3), unlike)
    return scaling


def llama3_factor(wavelength, scaling):
    """By how much a frequency is slowed: 1 where it turns often in the original context, `factor` where not once, between them smoothly."""
    low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
    turns = scaling["original_max_position_embeddings"] / wavelength
    kept = min(1.0, max(0.0, (turns - low) / (high - low)))
    return 1 / (kept + (1 - kept) / scaling["factor"])


def _same(first, second):
    """Whether two tensors of a GGUF file are there and hold the same bytes."""
    return first is not None and second is not None and first.kind == second.kind and np.array_equal(first.values(), second.values())
