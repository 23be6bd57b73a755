"""Small checkpoints in Hugging Face's format; nothing here is a test."""

import json
import shutil
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

GOLDEN = Path(__file__).parent / "pretrained" / "golden"
VOCABULARY = 600  # its tokenizer fills fewer


def write_checkpoint(place, family="llama", dtype=np.float32, blocks=2):
    """Writes a checkpoint of width 24 with a byte-level tokenizer into a folder, one of the golden ones with a larger vocabulary. Returns the folder.

    One block is what whole runs need, which trace it in every program; two show which weights belong to which.
    """
    tensors, random = load_file(GOLDEN / family / "model.safetensors"), np.random.default_rng(0)
    for name in ("model.embed_tokens.weight", "transformer.wte.weight", "lm_head.weight", "gpt_neox.embed_in.weight", "embed_out.weight"):
        if name in tensors:
            tensors[name] = random.normal(0, 0.3, [VOCABULARY, 24])
    config = json.loads((GOLDEN / family / "config.json").read_text())
    if blocks == 1:  # of Llama's family
        config["num_hidden_layers"] = 1
        tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith("model.layers.1.")}
    save_file({name: tensor.astype(dtype) for name, tensor in tensors.items()}, place / "model.safetensors", metadata={"format": "pt"})
    (place / "config.json").write_text(json.dumps(config | {"vocab_size": VOCABULARY, "dtype": np.dtype(dtype).name}))
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        shutil.copy(GOLDEN / "byte_level" / name, place)
    return place
