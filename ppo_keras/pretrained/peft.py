"""Adapters in PEFT's format, `adapter_config.json` and `adapter_model.safetensors`: written, and read to be trained further.

Ours are of fused layers: queries, keys and values share one A. Written, each module gets that A and its rows of B. Read, modules that have an A each are
stacked: the rank of the fused layer is the sum of theirs, and B is block by block. Both are exact.
"""

import hashlib
import re
import warnings
from pathlib import Path

import numpy as np

from ppo_keras.errors import DataWarning, InputError, check_count, line_of, require, shown
from ppo_keras.networks.adapter_settings import LAYERS, check_adapters
from ppo_keras.networks.adapters import adapted, adapter_settings
from ppo_keras.pretrained.families import FAMILIES, Settings
from ppo_keras.pretrained.files import advice_on_other_weights, needed, read_json
from ppo_keras.pretrained.tensors import numbers, rows_of, sources_of

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
UNKNOWN = (  # entries of adapter_config.json that make the adapters something else, where they are set
    "use_dora", "use_rslora", "lora_bias", "modules_to_save", "layers_to_transform", "layer_replication", "trainable_token_indices", "target_parameters",
    "use_qalora", "alora_invocation_tokens", "arrow_config", "megatron_config", "use_bdlora",
)  # fmt: skip
OTHER_BASE = ("pissa", "olora", "loftq", "corda")  # ways to begin that change the frozen weights, too


def peft_tensors(policy, model_type):
    """The adapters of a policy by PEFT's names: yields (name, float32 array)."""
    encoder, settings = policy.encoder, Settings.of(policy).plain()
    layers = {layer._kernel.path.partition("/")[2]: layer for layer in adapted(policy)}
    for path, source in sources_of(encoder, model_type).items():
        if path in layers:
            a, b = numbers(layers[path].lora_kernel_a).T, numbers(layers[path].lora_kernel_b).T  # (r, inputs), (outputs, r)
            for name, part in zip(source.names, source.theirs(b, settings.heads, rows_of(source, len(b), settings))):
                module = f"base_model.model.{name.removesuffix('.weight')}"
                yield f"{module}.lora_A.weight", a
                yield f"{module}.lora_B.weight", part


def peft_config(policy, model_type, base):
    """The `adapter_config.json` of a policy's adapters; `base` names the model that they are of."""
    given, sources = adapter_settings(policy), kernels_of(model_type, policy.encoder.form)
    ranks = given["layers"] if isinstance(given["layers"], dict) else dict.fromkeys(LAYERS[given["layers"]], given["rank"])
    others = lambda rank: [module for layer, source in sources.items() if ranks.get(layer) != rank for module in modules_of(source)]
    names = {layer: [_short(module, others(rank)) for module in modules_of(sources[layer])] for layer, rank in ranks.items()}
    apart = {name: rank for layer, rank in ranks.items() if rank != given["rank"] for name in names[layer]}
    alpha = given["alpha"]
    return {
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": base, "inference_mode": True, "r": given["rank"],
        "lora_alpha": int(alpha) if alpha == int(alpha) else alpha, "lora_dropout": 0.0, "target_modules": sorted({name for some in names.values() for name in some}), "bias": "none",
        "fan_in_fan_out": not sources["query_key_value"].turned, "rank_pattern": apart,
        "alpha_pattern": {name: alpha / given["rank"] * rank for name, rank in apart.items()}, "modules_to_save": None, "use_rslora": False, "use_dora": False,
    }  # fmt: skip


class PeftAdapters:
    """The adapters in a folder in PEFT's format, for a checkpoint; checked when it is made.

    | attribute | meaning |
    |---|---|
    | `settings` | what `add_adapters` needs: a dict of `rank`, `alpha` and `layers` |

    Args:
        folder: with `adapter_config.json` and `adapter_model.safetensors`.
        weights: `Weights` of the checkpoint.
        settings: its `Settings`.
        name: of the checkpoint, for messages.

    Raises:
        InputError: there are none, they are of another model, or of a kind that is not here.
    """

    def __init__(self, folder, weights, settings, name):
        self.folder, self.model_type, self.checkpoint = Path(folder).expanduser(), weights.config["model_type"], settings.plain()
        require(self.folder.is_dir(), f"there is no folder {shown(str(folder))} with adapters. Give one that holds {CONFIG} and {WEIGHTS}.")
        config = read_json(self.folder / CONFIG)
        self._check(config)
        rank, alpha = config.get("r"), config.get("lora_alpha")
        check_count(f"{self.folder / CONFIG}: r", rank, example=16)
        check_adapters(rank, alpha if alpha is not None else "none")
        self.scale, self.given = alpha / rank, self._read()
        self._check_shapes(weights, config, name)
        self.shared = {layer for layer in LAYERS["all"] if self._shares(layer)}
        self.ranks = {layer: own for layer in LAYERS["all"] if (own := self._rank(layer))}
        kind = next((kind for kind, layers in LAYERS.items() if self.ranks == dict.fromkeys(layers, rank)), self.ranks)
        self.settings = dict(rank=rank, alpha=alpha, layers=kind)
        base = str(config.get("base_model_name_or_path") or name)
        if Path(base).name != Path(str(name)).name:
            warnings.warn(
                DataWarning(f"the adapters in {self.folder} were trained on {shown(base)}, and go on {name} here: their shapes fit it."), stacklevel=2
            )

    @property
    def checksum(self):
        """The sha256 of their weights."""
        return hashlib.sha256((self.folder / WEIGHTS).read_bytes()).hexdigest()

    def fill(self, policy):
        """Gives a policy that has adapters of these `settings` their values."""
        for layer in self.ranks:
            for i, block in enumerate(policy.encoder.trunk.blocks):
                a, b = self._joined(layer, i)
                getattr(block, layer).lora_kernel_a.assign(a)
                getattr(block, layer).lora_kernel_b.assign(b)

    def _check(self, config):
        """Raises `InputError` for a kind of adapter that is not here."""
        place, advice = self.folder / CONFIG, "Use adapters of plain LoRA, or merge them with PEFT and give the merged folder as the checkpoint."
        require(config.get("peft_type") == "LORA", f"{place} says peft_type={shown(config.get('peft_type'))}, but only 'LORA' is here. {advice}")
        for name in UNKNOWN:
            require(not config.get(name), f"{place} says {name}={shown(config.get(name), 60)}, which is not here. {advice}")
        require(config.get("bias", "none") == "none", f"{place} says bias={shown(config.get('bias'))}, but biases are frozen here. {advice}")
        for name in ("rank_pattern", "alpha_pattern"):
            pattern = config.get(name) or {}
            plain = isinstance(pattern, dict) and all(re.fullmatch(r"[\w.]+", key) for key in pattern)
            require(plain, f"{place} says {name}={shown(pattern, 60)}, expected names of modules. {advice}")
        begun = str(config.get("init_lora_weights", "")).lower()
        require(not begun.startswith(OTHER_BASE), f"{place} says init_lora_weights={begun!r}, which changes the frozen weights, too. {advice}")

    def _read(self):
        """{module: {"A": (r, inputs), "B": (outputs, r)}}, float32."""
        path = self.folder / WEIGHTS
        held = sorted(one.name for one in self.folder.iterdir())
        require(
            path.is_file(), f"{self.folder} holds no {WEIGHTS}. {advice_on_other_weights(held) or 'Save the adapters again, with safe_serialization=True.'}"
        )
        try:
            tensors = needed("safetensors.numpy").load_file(path)
        except InputError:
            raise
        except Exception as error:  # a damaged file fails in many ways
            raise InputError(f"{path} is no whole safetensors file ({line_of(error)}). Save the adapters again.") from error
        given = {}
        for name, tensor in tensors.items():
            found = re.fullmatch(r"base_model\.model\.(.+)\.lora_([AB])\.weight", name)
            require(found and tensor.ndim == 2, f"{path} holds {name} of shape {tensor.shape}, which is no part of a plain LoRA adapter. Use one without it.")
            require(np.isfinite(tensor.astype(np.float32)).all(), f"{path}: {name} has values that are not finite. Use other adapters.")
            given.setdefault(found[1], {})[found[2]] = tensor.astype(np.float32)
        require(given, f"{path} holds no adapters. Use another folder.")
        return given

    def _check_shapes(self, weights, config, name):
        """Raises `InputError` unless each adapter is of a layer that is here and fits the checkpoint; brings all to one scale."""
        path, self.kernels = self.folder / WEIGHTS, kernels_of(self.model_type, self.checkpoint.form)
        known = {one.format(i): (layer, i) for layer, source in self.kernels.items() for one in modules_of(source) for i in range(self.checkpoint.layers)}
        another = f"They are of another model than {name}, a {self.model_type} of {self.checkpoint.layers} layers and width {self.checkpoint.width}."
        for module, parts in self.given.items():
            require(module in known, f"{path} has an adapter of {module}, which is no linear layer that can have one here. {another}")
            require(set(parts) == {"A", "B"}, f"{path} has only the lora_{''.join(parts)} of {module}. Save the adapters again.")
            shape = weights.shape(f"{module}.weight" if f"{module}.weight" in weights else f"{module.removeprefix('transformer.')}.weight")
            outputs, inputs = shape if self.kernels[known[module][0]].turned else shape[::-1]
            rank, expected = len(parts["A"]), config["r"] if (own := _pattern(config, "rank_pattern", module)) is None else own
            found = (parts["A"].shape, parts["B"].shape)
            require(rank == expected, f"{path} has an adapter of rank {rank} for {module}, but {CONFIG} says {expected}. Save the adapters again.")
            require(
                found == ((rank, inputs), (outputs, rank)),
                f"{path} has for {module} the shapes {found[0]} and {found[1]}, and it is {outputs, inputs}. {another}",
            )
            alpha = config["lora_alpha"] if (own := _pattern(config, "alpha_pattern", module)) is None else own
            check_adapters(rank, alpha)
            if alpha / rank != self.scale:
                parts["B"] = parts["B"] * np.float32(alpha / rank / self.scale)
        for layer, source in self.kernels.items():
            for one in modules_of(source):
                count = sum(one.format(i) in self.given for i in range(self.checkpoint.layers))
                require(
                    count in (0, self.checkpoint.layers),
                    f"{path} has adapters of {one.rpartition('.')[2]} in {count} of the {self.checkpoint.layers} layers. Use adapters of all layers.",
                )

    def _modules(self, layer, i):
        """What the adapters of our layer of a block are made of: a list with None where there is none."""
        return [self.given.get(module.format(i)) for module in modules_of(self.kernels[layer])]

    def _shares(self, layer):
        """Whether all modules of a layer have the same A, as ours are written."""
        alike = lambda there: all(np.array_equal(one["A"], there[0]["A"]) for one in there)
        return all(alike([one for one in self._modules(layer, i) if one]) for i in range(self.checkpoint.layers))

    def _rank(self, layer):
        """The rank of the fused layer: 0 without adapters."""
        ranks = {tuple(len(one["A"]) for one in self._modules(layer, i) if one) for i in range(self.checkpoint.layers)}
        require(len(ranks) == 1, f"{self.folder / WEIGHTS} has other ranks in some layers than in others. Use adapters of one rank for a module.")
        (each,) = ranks
        return each[0] if each and layer in self.shared else sum(each)

    def _joined(self, layer, i):
        """A `(inputs, R)` and B `(R, outputs)` of our fused layer."""
        modules, source, checkpoint = self._modules(layer, i), self.kernels[layer], self.checkpoint
        outputs = {"query_key_value": (checkpoint.heads + 2 * checkpoint.form.key_heads) * checkpoint.form.head_size}
        outputs |= {"expand": checkpoint.form.mlp_width * (1 + checkpoint.form.gated)}
        rows, rank = rows_of(source, outputs.get(layer, checkpoint.width), checkpoint), self.ranks[layer]
        shared, begin, parts = layer in self.shared, 0, []
        for one, count in zip(modules, rows):
            part = np.zeros([count, rank], np.float32)
            if one:
                width = len(one["A"])
                part[:, begin : begin + width] = one["B"]
                begin += 0 if shared else width
            parts.append(part)
        there = [one["A"] for one in modules if one]
        a = there[0] if shared else np.concatenate(there)
        b = source._replace(turned=True).ours(parts, checkpoint.heads)
        return a.T, b


def kernels_of(model_type, form):
    """{linear layer of our block: its `Source`, with {} for the number of the layer} of a family."""
    ends = {f"trunk/block_{{}}/{layer}/kernel": layer for layer in LAYERS["all"]}
    return {ends[path]: source for path, source in FAMILIES[model_type].names(form).items() if path in ends}


def modules_of(source):
    """The names of the modules whose weights a `Source` is."""
    return [name.removesuffix(".weight") for name in source.names]


def _short(module, others):
    """The end of a module's name that is none of the others': q_proj, but attn.c_proj where mlp.c_proj has no adapter."""
    parts = module.split(".")
    return next(short for short in (parts[-1], ".".join(parts[-2:])) if not any(other.endswith(f".{short}") for other in others))


def _pattern(config, name, module):
    """What a pattern of `adapter_config.json` says of a module; None where it says nothing. Its keys are ends of names; regular expressions are not read."""
    found = [value for key, value in (config.get(name) or {}).items() if module == key or module.endswith(f".{key}")]
    return found[0] if found else None
