"""The tensors of a checkpoint: read into our encoder, and made of it again, one at a time."""

import math

import keras
import numpy as np
import tensorflow as tf

from ppo_keras.errors import InputError, require
from ppo_keras.networks.adapters import adapted
from ppo_keras.pretrained.families import FAMILIES, Settings

AT_ONCE = 2**20  # numbers that are read into a variable at once


def sources_of(encoder, model_type, form=None):
    """{path of a weight of a `TokenEncoder`: its `Source`} in a checkpoint of a family; `form` where it is written in another than its own."""
    sources = {}
    for ours, source in FAMILIES[model_type].names(form or encoder.form).items():
        for i in range(encoder.config["layers"]) if "{}" in ours else (0,):
            sources[ours.format(i)] = source._replace(names=tuple(name.format(i) for name in source.names))
    return sources


def read_into(encoder, weights, report=lambda done, total: None):
    """Fills a `TokenEncoder` with the weights of a checkpoint, tensor by tensor.

    Args:
        encoder: of the checkpoint's `Settings`.
        weights: of `open_weights`: `config`, `names()`, `shape(name)`, `read(name)`.
        report: called with the number of values that are read, and of all.

    Raises:
        InputError: a tensor that lacks, has another shape than the config says, or is not understood.
    """
    model_type, known = weights.config["model_type"], set(weights.names())
    sources = sources_of(encoder, model_type)
    if model_type == "gpt2" and "wte.weight" in known:  # of the trunk alone, as GPT-2 itself was published
        bare = lambda names: tuple(name.removeprefix("transformer.") for name in names)
        sources = {path: source._replace(names=bare(source.names)) for path, source in sources.items()}
    variables = variables_of(encoder)
    used = {name for source in sources.values() for name in source.names}
    missing = sorted(used - known)
    require(
        not missing, f"the checkpoint has no tensor {', '.join(missing[:3])} ({len(missing)} lack). Download it again, or look whether config.json is its own."
    )
    leftover = FAMILIES[model_type].leftover
    strange = sorted(name for name in known - used if not name.endswith(leftover) and not (encoder.form.tied and name == "lm_head.weight"))
    require(
        not strange,
        f"the checkpoint has the tensor {', '.join(strange[:3])} ({len(strange)} in all), which a {model_type} of this config.json does not. "
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
        _fill(variable, source, weights, encoder.config["heads"])
        done += math.prod(expected)
        report(done, total)


def _fill(variable, source, weights, heads):
    """Reads a weight into a variable some rows at a time: at once it would be there three times, as an array, a tensor and the variable's old value."""
    at_once = max(1, AT_ONCE // math.prod(variable.shape[1:]))
    whole = None if source.plain else source.ours([weights.read(name) for name in source.names], heads)
    for begin in range(0, variable.shape[0], at_once):
        part = slice(begin, begin + at_once)
        rows = (weights.read(source.names[0], rows=part) if whole is None else whole[part]).astype(variable.dtype)
        variable.value.scatter_update(tf.IndexedSlices(rows, tf.range(begin, begin + len(rows))))  # in place, unlike variable[begin:end].assign
    tf.raw_ops.DisableCopyOnRead(resource=variable.value.handle)  # which a scatter begins: each step of a text would copy all weights


def tensors_of(policy, model_type, form=None):
    """The tensors that a checkpoint of a policy holds, its adapters merged: yields (name, float32 array).

    Args:
        policy: a language model, a `TransformerActorCritic`; only its encoder is written.
        model_type: a family whose network it is.
        form: the `Form` in which it is written, where that is not its own: embeddings that have been multiplied by their scale, and a head that is not tied.
    """
    encoder, own, settings = policy.encoder, policy.encoder.form, Settings.of(policy).plain()
    variables, layers = variables_of(encoder), {id(layer._kernel): layer for layer in adapted(policy)}

    def value_of(path):
        if form and path == "embedding/embeddings":
            return numbers(variables[path]) * np.float32(settings.form.embedding_scale)
        if form and own.tied and path == "embedding/reverse_embeddings":
            return numbers(variables["embedding/embeddings"]).T
        value, layer = numbers(variables[path]), layers.get(id(variables[path]))
        if layer is None:
            return value
        a, b = numbers(layer.lora_kernel_a), numbers(layer.lora_kernel_b)
        return value + np.float32(layer.lora_alpha / layer.lora_rank) * (a @ b)

    for path, source in sources_of(encoder, model_type, form).items():
        value = value_of(path)
        value = value.T if source.turned else value
        yield from zip(source.names, source.theirs(value, encoder.config["heads"], rows_of(source, len(value), settings)))


def rows_of(source, outputs, settings):
    """How many of the outputs of one of our weights each tensor of its `Source` has, a list; `settings` are plain ones."""
    count, form = len(source.names), settings.form
    if count == 3:  # queries, keys and values
        return [heads * form.head_size for heads in (settings.heads, form.key_heads, form.key_heads)]
    return [outputs // count] * count


def variables_of(encoder):
    """{path inside an encoder: variable}."""
    return {variable.path.partition("/")[2]: variable for variable in encoder.variables}


def numbers(variable):
    """A variable as a float32 array."""
    return np.asarray(keras.ops.convert_to_numpy(variable), np.float32)
