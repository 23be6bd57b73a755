"""Families of checkpoints: which `Form` of our Transformer each is, by its `config.json`; what their weights are called says `names.py`.

A family is a function of the parsed `config.json` to `Settings`, and of a form to names; `config_for` is the way back, for networks of our own. What a config
asks for and we do not have is refused by name: weights that run in another network give fluent nonsense.
"""

from dataclasses import replace
from typing import NamedTuple

from ppo_keras.errors import InputError, require
from ppo_keras.networks.actor_critic import TransformerActorCritic
from ppo_keras.networks.transformer import Form
from ppo_keras.pretrained import names

TANH_GELU = ("gelu_new", "gelu_pytorch_tanh", "gelu_fast")  # three names of one approximation


class Settings(NamedTuple):
    """Sizes of a checkpoint's network."""

    vocabulary_size: int
    width: int
    layers: int
    heads: int
    most_steps: int  # the longest context for which it is this network
    form: Form

    def plain(self):
        """The same network with nothing left to defaults, so that two ways to write it are equal; `most_steps` is left out."""
        form, positions = self.form, {}
        if form.positions == "learned":
            positions = dict(rotary_bases=(), rotary_scaling=())
        elif len(form.rotary_bases) == 1:
            positions = dict(rotary_bases=form.rotary_bases * self.layers)
        size = form.head_size or self.width // self.heads
        form = replace(
            form, key_heads=form.key_heads or self.heads, head_size=size, mlp_width=form.mlp_width or 4 * self.width,
            query_scale=size**-0.5 if form.query_scale is None else form.query_scale,
            embedding_scale=self.width**0.5 if form.embedding_scale is None else form.embedding_scale, **positions,
        )  # fmt: skip
        return self._replace(form=form, most_steps=0)

    @classmethod
    def of(cls, policy):
        """Those of a `TransformerActorCritic` that is a language model."""
        config = policy.encoder.config
        return cls(config["vocabulary_size"], config["width"], config["layers"], config["heads"], config["memory"], policy.encoder.form)


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


def _gpt_neox(config):
    """Black et al. (2022), of which a network of our own is one: layer norms, rotary positions, biases. Pythia adds attention and MLP in parallel instead."""
    config = {"use_parallel_residual": True, "attention_bias": True, "hidden_act": "gelu"} | config  # what is so where nothing is said
    _refuse_unless(config, use_parallel_residual=False, attention_bias=True)
    activation, parameters = config["hidden_act"], config.get("rope_parameters") or {}
    require(activation in TANH_GELU, f"config.json says hidden_act={activation!r}, but only {' and '.join(map(repr, TANH_GELU))} are here.")
    share = parameters.get("partial_rotary_factor", config.get("rotary_pct", 0.25))
    require(share == 1.0, f"config.json says rotary_pct={share}, but only 1.0 is here: all of a head turns. Use another checkpoint.")
    scaling, base = _rotary(config, parameters, default=config.get("rotary_emb_base", 10_000.0))
    form = Form(
        mlp_width=config["intermediate_size"], epsilon=config.get("layer_norm_eps", 1e-5), rotary_bases=(base,), rotary_scaling=scaling, embedding_scale=1.0,
        tied=config.get("tie_word_embeddings", False),
    )  # fmt: skip
    return Settings(
        config["vocab_size"], config["hidden_size"], config["num_hidden_layers"], config["num_attention_heads"], config["max_position_embeddings"], form
    )


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


def config_for(settings):
    """The `config.json`, a dictionary, of a network of our own: of the first family whose network it is exactly.

    Raises:
        InputError: there is none.
    """
    form = settings.form
    config = {"vocab_size": settings.vocabulary_size, "tie_word_embeddings": form.tied}
    sizes = {
        "hidden_size": settings.width, "intermediate_size": form.mlp_width or 4 * settings.width, "num_hidden_layers": settings.layers,
        "num_attention_heads": settings.heads, "max_position_embeddings": settings.most_steps,
    }  # fmt: skip
    theta = form.rotary_bases[0]
    tried = [
        {"model_type": "gpt_neox", "architectures": ["GPTNeoXForCausalLM"], **sizes, "hidden_act": "gelu_new", "layer_norm_eps": form.epsilon, "rotary_pct": 1.0,
         "rotary_emb_base": theta, "use_parallel_residual": False, "attention_bias": True},
        {"model_type": "llama", "architectures": ["LlamaForCausalLM"], **sizes, "hidden_act": "silu", "rms_norm_eps": form.epsilon, "rope_theta": theta,
         "num_key_value_heads": form.key_heads or settings.heads, "head_dim": form.head_size or settings.width // settings.heads,
         "attention_bias": form.query_key_value_bias, "mlp_bias": form.mlp_bias},
        {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "n_embd": settings.width, "n_layer": settings.layers, "n_head": settings.heads,
         "n_positions": form.most_positions, "n_inner": form.mlp_width, "layer_norm_epsilon": form.epsilon, "activation_function": "gelu_new"},
    ]  # fmt: skip
    for one in tried:
        if (one["model_type"] == "gpt2") == (form.positions == "learned") and settings_of(one | config).plain() == settings.plain():
            return one | config
    raise InputError(
        f"no architecture of Hugging Face's that is written here ({', '.join(one['model_type'] for one in tried)}) is this Transformer exactly "
        f"({', '.join(f'{name}={value!r}' for name, value in form.settings().items())}). Keep it as a run, or train a checkpoint with --pretrained."
    )


class Family(NamedTuple):
    """How to read and write the checkpoints of one `model_type`."""

    settings: callable
    names: callable  # of a form: {our weight: `names.Source`}, with {} for the number of a layer
    leftover: tuple  # ends of names that are no weights, or weights that are there twice


FAMILIES = {
    "gpt2": Family(_gpt2, names.gpt2_names, (".attn.bias", ".attn.masked_bias")),
    "llama": Family(_llama, names.llama_names, (".rotary_emb.inv_freq",)),
    "mistral": Family(_mistral, names.llama_names, (".rotary_emb.inv_freq",)),
    "qwen2": Family(_qwen2, names.llama_names, (".rotary_emb.inv_freq",)),
    "qwen3": Family(_qwen3, names.llama_names, ()),
    "gemma3_text": Family(_gemma3, lambda form: names.llama_names(form, added=1.0), ()),
    "gpt_neox": Family(_gpt_neox, names.gpt_neox_names, (".attention.bias", ".attention.masked_bias", ".rotary_emb.inv_freq")),
}


def new_policy(settings, memory, weights="float32", labels=None, detached=False):
    """An untrained actor-critic of a checkpoint's `Settings`: a language model, or one that reads texts of `memory` tokens and chooses a label."""
    read = dict(inputs=settings.vocabulary_size) if labels is None else dict(inputs=(memory,), actions=labels, vocabulary_size=settings.vocabulary_size)
    return TransformerActorCritic(
        **read, width=settings.width, layers=settings.layers, heads=settings.heads, memory=memory, form=settings.form, dtype=weights, detached=detached,
        name="policy",
    )  # fmt: skip
