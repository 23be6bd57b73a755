"""A policy written for other libraries: a folder in Hugging Face's format, its adapters in PEFT's, or a GGUF file. The value head is left out."""

import functools
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ppo_keras.errors import InputError, check_role, line_of, require, shown
from ppo_keras.networks.adapters import adapted
from ppo_keras.pretrained import gguf_export, peft
from ppo_keras.pretrained.export_settings import GGUF_DTYPES, check_export
from ppo_keras.pretrained.families import Settings, config_for, settings_of
from ppo_keras.pretrained.files import INDEX, needed
from ppo_keras.pretrained.gguf_export import in_dtype
from ppo_keras.pretrained.loading import Checkpoint
from ppo_keras.pretrained.tensors import tensors_of
from ppo_keras.pretrained.tokenizer_export import tokenizer_files

SHARD_BYTES = 5_000_000_000  # of one file, as huggingface_hub splits them
KINDS = {  # model_type: the class of transformers that GGUF files do not name
    "llama": "LlamaForCausalLM", "mistral": "MistralForCausalLM", "qwen2": "Qwen2ForCausalLM", "qwen3": "Qwen3ForCausalLM",
    "gemma3_text": "Gemma3ForCausalLM", "gpt2": "GPT2LMHeadModel",
}  # fmt: skip


class Exported(NamedTuple):
    """What was written."""

    folder: Path
    model_type: str  # of Hugging Face
    dtype: str  # of the matrices


def export_pretrained(policy, tokenizer, folder, checkpoint=None, layout="merged", dtype=None):
    """Writes a language model for other libraries; what it was trained with (value head, optimizer) is left out.

    Args:
        policy: a `TransformerActorCritic`; with separate networks its policy is written.
        tokenizer: its tokenizer.
        folder: a new one, or an empty one.
        checkpoint: what it began with, as `load_pretrained` takes it; None for a network of our own, which is written as the family of Hugging Face's that it
            is exactly (GPT-NeoX, with the usual `form`).
        layout: "merged", the whole model with its adapters added to its weights; "adapters", these alone, in PEFT's format; "gguf", a GGUF file.
        dtype: "float32", "bfloat16" or "float16"; None: that of the checkpoint (quantised, or none: float32), in a GGUF file float16, of adapters float32.

    Returns:
        `Exported`. The folder is there when all of it is written, or not at all.

    Raises:
        InputError: a folder that is not empty, a policy that writes no text or that no family is, a checkpoint of other sizes, a layout that is not
            possible.

    Example:
        >>> export_pretrained(writer, tokenizer, "exported", checkpoint="smollm2")  # doctest: +SKIP
    """
    check_export(folder, layout, dtype)
    settings = _settings_of(policy)
    check_role("tokenizer", tokenizer, ("model", "vocabulary_size", "end_ids"), "Give the one that came with the policy.")
    require(
        tokenizer.vocabulary_size == settings.vocabulary_size,
        f"the tokenizer has {tokenizer.vocabulary_size} tokens, and the policy {settings.vocabulary_size}. Give the one that came with the policy.",
    )
    source = checkpoint if checkpoint is None or isinstance(checkpoint, Checkpoint) else Checkpoint(checkpoint)
    config, form = (_config_of(source, settings), None) if source else _own_config(settings)
    model_type = config["model_type"]
    if layout == "adapters":
        require(adapted(policy), "the policy has no adapters: all of its weights were trained. Export it whole, without --adapters-only.")
        require(source, "adapters belong to a checkpoint. Name it: checkpoint=...")
        dtype, write = dtype or "float32", functools.partial(_write_adapters, policy, model_type, str(source.name))
    elif layout == "gguf":
        metadata, tensors = gguf_export.gguf_metadata(config, tokenizer, source.most_steps if source else 0), functools.partial(tensors_of, policy, model_type)
        dtype, write = dtype or GGUF_DTYPES[0], lambda place, kind: gguf_export.write_gguf(place / "model.gguf", config, metadata, tensors, kind)
    else:
        files = tokenizer_files(tokenizer, source.weights.path if source and source.weights.path.is_dir() else None)
        dtype = dtype or (_stored(source.weights) if source else "float32")
        write = functools.partial(_write_folder, policy, config, form, files)
    _whole(folder, lambda place: write(place, dtype))
    return Exported(Path(folder).expanduser(), model_type, dtype)


def _settings_of(policy):
    """The `Settings` of a language model. Raises `InputError` for what is none, or no Transformer."""
    encoder = getattr(policy, "encoder", None)
    what = f"the policy is a {type(policy).__name__}"
    require(hasattr(encoder, "trunk"), f"{what}, expected a TransformerActorCritic that writes text.")
    require(
        getattr(policy, "actions", 0) is None,
        f"{what} that chooses among {shown(policy.actions)} actions and writes no text: no architecture of Hugging Face's has its head. Export a writer.",
    )
    network = encoder.config["network"]
    require(network == "transformer", f"{what}, and no architecture of Hugging Face's is this {network}. Train the run with --model transformer.")
    return Settings.of(policy)


def _config_of(source, settings):
    """The `config.json` of a checkpoint. Raises `InputError` unless the policy has its sizes."""
    held, expected = settings_of(source.weights.config).plain(), settings.plain()
    differing = [name for name, one, other in zip(held._fields, held, expected) if one != other]
    require(not differing, f"{source.name} is not what the policy began with: they differ in {', '.join(differing)}. Name its own checkpoint.")
    config = {name: value for name, value in source.weights.config.items() if value is not None or source.weights.path.is_dir()}
    return {"architectures": [KINDS[config["model_type"]]], **config} if config["model_type"] in KINDS else config


def _own_config(settings):
    """The `config.json` of a network of our own, and the `Form` in which it is written: with the scale of the embeddings in them, and so a head apart."""
    scale = settings.plain().form.embedding_scale
    form = settings.form if scale == 1.0 else replace(settings.form, embedding_scale=1.0, tied=False)
    return config_for(settings._replace(form=form)), form


def _stored(weights):
    """How a checkpoint stores its matrices; float32 where it is quantised."""
    kinds = {weights.dtype(name) for name in weights.names() if len(weights.shape(name)) > 1}
    known = {"float32": "float32", "float16": "float16", "bfloat16": "bfloat16", "F16": "float16", "BF16": "bfloat16"}
    return known.get(kinds.pop(), "float32") if len(kinds) == 1 else "float32"


def _write_folder(policy, config, form, files, place, dtype):
    """Hugging Face's format: the config, the tokenizer's files, and the weights."""
    generation = json.loads(files.get("generation_config.json", b"{}"))
    ids = {name: generation[name] for name in ("bos_token_id", "eos_token_id", "pad_token_id") if name in generation and name not in config}
    named = "dtype" if "dtype" in config else "torch_dtype"  # as this transformers and older ones call it
    _write_json(place / "config.json", config | ids | {named: dtype})
    for name, content in files.items():
        (place / name).write_bytes(content)
    write_safetensors(place, ((name, in_dtype(name, array, dtype)) for name, array in tensors_of(policy, config["model_type"], form)))


def _write_adapters(policy, model_type, base, place, dtype):
    """PEFT's format."""
    tensors = {name: in_dtype(name, array, dtype) for name, array in peft.peft_tensors(policy, model_type)}
    _write_json(place / peft.CONFIG, peft.peft_config(policy, model_type, base))
    _save(tensors, place / peft.WEIGHTS)


def write_safetensors(folder, tensors, most=SHARD_BYTES):
    """Writes tensors, (name, array) one after another, into `model.safetensors`, or into several files with their index where they take more than `most` bytes."""
    shards, held, total = [], {}, 0

    def flush():
        path = folder / f"part-{len(shards)}.safetensors"
        _save(held, path)
        shards.append((path, list(held)))
        held.clear()

    for name, array in tensors:
        if held and sum(one.nbytes for one in held.values()) + array.nbytes > most:
            flush()
        held[name], total = array, total + array.nbytes
    flush()
    if len(shards) == 1:
        shards[0][0].rename(folder / "model.safetensors")
        return
    homes = {}
    for i, (path, names) in enumerate(shards, start=1):
        home = f"model-{i:05d}-of-{len(shards):05d}.safetensors"
        path.rename(folder / home)
        homes |= dict.fromkeys(names, home)
    _write_json(folder / INDEX, {"metadata": {"total_size": total}, "weight_map": homes})


def _save(tensors, path):
    """One safetensors file, of the kind that transformers reads."""
    library = needed("safetensors")
    path.touch()
    readable = path.stat().st_mode  # as other files are: the library's own is for its owner alone
    try:
        needed("safetensors.numpy").save_file({name: np.ascontiguousarray(array) for name, array in tensors.items()}, path, metadata={"format": "pt"})
    except library.SafetensorError as error:
        raise InputError(f"cannot write {path.name} ({line_of(error)}). Is the disk full?") from error
    path.chmod(readable)


def _whole(folder, write):
    """Lets a function write into a folder beside, and renames it when it is whole; where that fails, nothing is left."""
    folder = Path(folder).expanduser().resolve()
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)  # of an export that was killed
    created = [parent for parent in part.parents if not parent.exists()]
    try:
        part.mkdir(parents=True)
        write(part)
        if folder.exists():  # empty
            folder.rmdir()
        part.rename(folder)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        for parent in created:
            if parent.exists():
                parent.rmdir()
        raise


def _write_json(path, content):
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
