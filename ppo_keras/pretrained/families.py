"""Families of checkpoints: which `Form` of our Transformer each is, and what its weights are called there.

A family is a function of the parsed `config.json` to `Settings`, and a function of a layer's number to names. What a config asks
for and we do not have is refused by name: weights that run in another network give fluent nonsense.
"""

import math
from typing import NamedTuple

import numpy as np

from ppo_keras.errors import InputError, require
from ppo_keras.networks.actor_critic import TransformerActorCritic
from ppo_keras.networks.transformer import Form


class Settings(NamedTuple):
    """Sizes of a checkpoint's network."""

    vocabulary_size: int
    width: int
    layers: int
    heads: int
    most_steps: int  # the longest context for which it is this network
    form: Form


def settings_of(config):
    """The `Settings` of a checkpoint by its `config.json`, a dictionary.

    Raises:
        InputError: another family, a part that is not here, or an entry that lacks or is no number.
    """
    family = config.get("model_type")
    if family not in FAMILIES:
        raise InputError(f"config.json says model_type={family!r}, which is not here. Use a checkpoint of {', '.join(FAMILIES)}.")
    require(
        not config.get("quantization_config"),
        f"the checkpoint is quantised ({_kind_of(config.get('quantization_config'))}). Use the one in float16 or bfloat16, or a GGUF file.",
    )
    try:
        settings = FAMILIES[family].settings(config)
    except KeyError as error:
        raise InputError(f"config.json of the {family} has no {error}. Use the file that belongs to the weights.") from error
    except (TypeError, ZeroDivisionError) as error:
        raise InputError(f"config.json of the {family} has an entry of another kind ({error}). Use the file that belongs to the weights.") from error
    for name, value in settings._asdict().items():
        sound = name == "form" or (isinstance(value, int) and not isinstance(value, bool) and value > 0)
        require(sound, f"config.json of the {family} has {name}={value!r}, which is no size. Use the file that belongs to the weights.")
    return settings


def _kind_of(quantization):
    return quantization.get("quant_method", "of a kind it does not say") if isinstance(quantization, dict) else ""


def _gpt2(config):
    """Radford et al. (2019): layer norms, learned positions, biases everywhere."""
    _refuse_unless(config, activation_function="gelu_new", scale_attn_weights=True, scale_attn_by_inverse_layer_idx=False, add_cross_attention=False)
    width = config["n_embd"]
    form = Form(
        mlp_width=config.get("n_inner"), epsilon=config.get("layer_norm_epsilon", 1e-5), positions="learned", most_positions=config["n_positions"],
        embedding_scale=1.0, tied=config.get("tie_word_embeddings", True),
    )  # fmt: skip
    return Settings(config["vocab_size"], width, config["n_layer"], config["n_head"], config["n_positions"], form)


def _llama(config, **changes):
    """Touvron et al. (2023), and those that came of it: RMS norms, rotary positions, grouped keys, a gated MLP."""
    width, heads, layers = config["hidden_size"], config["num_attention_heads"], config["num_hidden_layers"]
    if "activation" not in changes:
        _refuse_unless(config, hidden_act="silu")
    require(
        not config.get("num_experts") and not config.get("num_local_experts"), "the checkpoint is a mixture of experts, which is not here. Use a dense one."
    )
    biased = bool(config.get("attention_bias", False))
    scaling, base = _rotary(config, config.get("rope_parameters") or {})
    settings = dict(
        key_heads=config.get("num_key_value_heads") or heads, head_size=config.get("head_dim") or width // heads, mlp_width=config["intermediate_size"],
        gated=True, activation="silu", norm="rms", epsilon=config["rms_norm_eps"], query_key_value_bias=biased, output_bias=biased,
        mlp_bias=bool(config.get("mlp_bias", False)), rotary_bases=(base,), rotary_scaling=scaling, embedding_scale=1.0,
        tied=config.get("tie_word_embeddings", False),
    )  # fmt: skip
    return Settings(config["vocab_size"], width, layers, heads, config["max_position_embeddings"], Form(**settings | changes))


def _mistral(config):
    """Jiang et al. (2023). Its window is exact as long as no context is longer."""
    return _within_window(_llama(config), config.get("sliding_window"))


def _qwen2(config):
    """Yang et al. (2024): queries, keys and values have biases."""
    window = config.get("sliding_window") if config.get("use_sliding_window") else None
    return _within_window(_llama(config, query_key_value_bias=True, output_bias=False), window)


def _qwen3(config):
    """Yang et al. (2025): no biases; queries and keys are normed head by head."""
    window = config.get("sliding_window") if config.get("use_sliding_window") else None
    return _within_window(_llama(config, normalize_heads=True), window)


def _gemma3(config):
    """Gemma team (2025), text only: norms before and behind, another rotary base in the layers with a window."""
    activation = config.get("hidden_activation") or config.get("hidden_act", "gelu_pytorch_tanh")
    require(activation == "gelu_pytorch_tanh", f"config.json says hidden_activation={activation!r}, but only 'gelu_pytorch_tanh' is here.")
    _refuse_unless(config, attn_logit_softcapping=None, final_logit_softcapping=None, use_bidirectional_attention=False)
    layers = config["num_hidden_layers"]
    every = config.get("sliding_window_pattern") or config.get("_sliding_window_pattern") or 6
    kinds = config.get("layer_types") or ["full_attention" if (i + 1) % every == 0 else "sliding_attention" for i in range(layers)]
    require(
        len(kinds) == layers and set(kinds) <= {"full_attention", "sliding_attention"},
        f"config.json names {len(kinds)} layer_types ({', '.join(sorted(set(map(str, kinds))))}) for {layers} layers. Use the file of the weights.",
    )
    parameters = config.get("rope_parameters") or {}
    scaling, base = _rotary(config, parameters.get("full_attention", {}), default=1_000_000.0)
    local = parameters.get("sliding_attention", {}).get("rope_theta", config.get("rope_local_base_freq", 10_000.0))
    require(
        not scaling, f"config.json asks for a rotary scaling of {scaling} in some layers only, which is not here. Use a checkpoint without, such as gemma-3-1b."
    )
    settings = _llama(
        {**config, "rope_parameters": None, "rope_scaling": None}, activation="gelu", sandwich=True, normalize_heads=True,
        rotary_bases=tuple(float(base if kind == "full_attention" else local) for kind in kinds), query_scale=config["query_pre_attn_scalar"] ** -0.5,
        embedding_scale=float(config["hidden_size"]) ** 0.5, tied=config.get("tie_word_embeddings", True),
    )  # fmt: skip
    return _within_window(settings, config.get("sliding_window"))


def _rotary(config, parameters, default=10_000.0):
    """(rotary_scaling, base) of a `Form`, from the older entries of a config or from `rope_parameters`."""
    scaling = parameters or config.get("rope_scaling") or {}
    base = float(parameters.get("rope_theta") or config.get("rope_theta", default))
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    if kind in ("default", None):
        return (), base
    if kind == "linear":
        return (float(scaling["factor"]),), base
    if kind == "llama3":
        names = ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")
        return tuple(float(scaling[name]) for name in names), base
    raise InputError(f"config.json asks for the rotary scaling {kind!r}, which is not here. Use a checkpoint with default, linear or llama3 positions.")


def _refuse_unless(config, **expected):
    """Raises `InputError` where the config has an entry with another value than the one that is here."""
    for name, value in expected.items():
        if config.get(name, value) != value:
            raise InputError(f"config.json says {name}={config[name]!r}, but only {value!r} is here. Use another checkpoint.")


def _within_window(settings, window):
    """The settings for contexts that a sliding window cannot be told from full attention."""
    return settings if not window else settings._replace(most_steps=min(settings.most_steps, int(window)))


class Family(NamedTuple):
    """How to read the checkpoints of one `model_type`."""

    settings: callable
    names: callable  # of a form: {our weight: Source}, with {} for the number of a layer
    leftover: tuple  # ends of names that are no weights, or weights that are there twice


class Source(NamedTuple):
    """Where one of our weights comes from: tensors of the checkpoint, joined along their first axis, then turned.

    PyTorch's linear layers keep `(outputs, inputs)`, Keras's `(inputs, outputs)`.
    """

    names: tuple
    turned: bool = False
    added: float = 0.0  # Gemma's norms multiply by 1 + w


def _gpt2_names(form):
    layer = "h.{}."
    found = {"embedding/embeddings": Source(("wte.weight",)), "trunk/positions/embeddings": Source(("wpe.weight",))}
    for ours, theirs in (("attention_norm", "ln_1"), ("mlp_norm", "ln_2")):
        found |= {
            f"trunk/block_{{}}/{ours}/gamma": Source((f"{layer}{theirs}.weight",)),
            f"trunk/block_{{}}/{ours}/beta": Source((f"{layer}{theirs}.bias",)),
        }
    linear = {"query_key_value": "attn.c_attn", "output_projection": "attn.c_proj", "expand": "mlp.c_fc", "contract": "mlp.c_proj"}
    for ours, theirs in linear.items():  # its Conv1D keeps (inputs, outputs), as Keras does
        found |= {
            f"trunk/block_{{}}/{ours}/kernel": Source((f"{layer}{theirs}.weight",)),
            f"trunk/block_{{}}/{ours}/bias": Source((f"{layer}{theirs}.bias",)),
        }
    found |= {"trunk/norm/gamma": Source(("ln_f.weight",)), "trunk/norm/beta": Source(("ln_f.bias",))}
    return found | _head(form, "lm_head.weight")


def _llama_names(form, added=0.0):
    layer, block = "model.layers.{}.", "trunk/block_{}/"
    found = {"embedding/embeddings": Source(("model.embed_tokens.weight",)), "trunk/norm/scale": Source(("model.norm.weight",), added=added)}
    norms = {"attention_norm": "input_layernorm", "mlp_norm": "post_attention_layernorm"}
    if form.sandwich:
        norms |= {"attended_norm": "post_attention_layernorm", "mlp_norm": "pre_feedforward_layernorm", "contracted_norm": "post_feedforward_layernorm"}
    if form.normalize_heads:
        norms |= {"query_norm": "self_attn.q_norm", "key_norm": "self_attn.k_norm"}
    found |= {f"{block}{ours}/scale": Source((f"{layer}{theirs}.weight",), added=added) for ours, theirs in norms.items()}
    linear = {
        "query_key_value": (("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"), form.query_key_value_bias),
        "output_projection": (("self_attn.o_proj",), form.output_bias),
        "expand": (("mlp.up_proj", "mlp.gate_proj"), form.mlp_bias),
        "contract": (("mlp.down_proj",), form.mlp_bias),
    }
    for ours, (theirs, biased) in linear.items():
        found[f"{block}{ours}/kernel"] = Source(tuple(f"{layer}{name}.weight" for name in theirs), turned=True)
        if biased:
            found[f"{block}{ours}/bias"] = Source(tuple(f"{layer}{name}.bias" for name in theirs))
    return found | _head(form, "lm_head.weight")


def _head(form, name):
    return {} if form.tied else {"embedding/reverse_embeddings": Source((name,), turned=True)}


FAMILIES = {
    "gpt2": Family(_gpt2, _gpt2_names, (".attn.bias", ".attn.masked_bias")),
    "llama": Family(_llama, _llama_names, (".rotary_emb.inv_freq",)),
    "mistral": Family(_mistral, _llama_names, (".rotary_emb.inv_freq",)),
    "qwen2": Family(_qwen2, _llama_names, (".rotary_emb.inv_freq",)),
    "qwen3": Family(_qwen3, _llama_names, ()),
    "gemma3_text": Family(_gemma3, lambda form: _llama_names(form, added=1.0), ()),
}


def new_policy(settings, memory, weights="float32", labels=None):
    """An untrained actor-critic of a checkpoint's `Settings`: a language model, or one that reads texts of `memory` tokens and chooses a label."""
    read = dict(inputs=settings.vocabulary_size) if labels is None else dict(inputs=(memory,), actions=labels, vocabulary_size=settings.vocabulary_size)
    return TransformerActorCritic(
        **read, width=settings.width, layers=settings.layers, heads=settings.heads, memory=memory, form=settings.form, dtype=weights, name="policy",
    )  # fmt: skip


def read_into(encoder, weights, report=lambda done, total: None):
    """Fills a `TokenEncoder` with the weights of a checkpoint, tensor by tensor.

    Args:
        encoder: of the checkpoint's `Settings`.
        weights: of `open_weights`: `config`, `names()`, `shape(name)`, `read(name)`.
        report: called with the number of values that are read, and of all.

    Raises:
        InputError: a tensor that lacks, has another shape than the config says, or is not understood.
    """
    family, layers = FAMILIES[weights.config["model_type"]], encoder.config["layers"]
    known, prefix = set(weights.names()), ""
    if weights.config["model_type"] == "gpt2" and "wte.weight" not in known:
        prefix = "transformer."
    sources = {}
    for ours, source in family.names(encoder.form).items():
        for i in range(layers) if "{}" in ours else (0,):
            sources[ours.format(i)] = source._replace(names=tuple(_prefixed(prefix, name.format(i)) for name in source.names))
    variables = {variable.path.partition("/")[2]: variable for variable in encoder.variables}
    used = {name for source in sources.values() for name in source.names}
    missing = sorted(used - known)
    require(
        not missing, f"the checkpoint has no tensor {', '.join(missing[:3])} ({len(missing)} lack). Download it again, or look whether config.json is its own."
    )
    strange = sorted(name for name in known - used if not name.endswith(family.leftover) and not (encoder.form.tied and name == "lm_head.weight"))
    require(
        not strange,
        f"the checkpoint has the tensor {', '.join(strange[:3])} ({len(strange)} in all), which a {weights.config['model_type']} of this config.json does not. "
        "Use the config.json of these weights.",
    )
    done, total = 0, sum(math.prod(variable.shape) for path, variable in variables.items() if path in sources)
    for path, source in sources.items():
        variable = variables[path]
        shapes = [tuple(weights.shape(name)) for name in source.names]
        joined = (sum(shape[0] for shape in shapes), *shapes[0][1:])
        expected = tuple(variable.shape)
        if len({shape[1:] for shape in shapes}) != 1 or (joined[::-1] if source.turned else joined) != expected:
            raise InputError(
                f"{' and '.join(source.names)} of the checkpoint have the shapes {', '.join(map(str, shapes))}, but by config.json they make "
                f"{expected[::-1] if source.turned else expected}. Use the config.json of these weights."
            )
        parts = [weights.read(name) for name in source.names]
        value = parts[0] if len(parts) == 1 else np.concatenate(parts)
        if source.added:
            value = value + np.asarray(source.added, value.dtype)
        variable.assign(value.T if source.turned else value)
        done += value.size
        report(done, total)


def _prefixed(prefix, name):
    return name if name == "lm_head.weight" else prefix + name
