"""A small checkpoint in Hugging Face's format; nothing here is a test."""

import json
import shutil
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

GOLDEN = Path(__file__).parent / "pretrained" / "golden"
VOCABULARY = 600  # its tokenizer fills fewer


def write_checkpoint(place):
    """Writes a Llama of width 24 with a byte-level tokenizer into a folder. Returns the folder."""
    tensors = load_file(GOLDEN / "llama" / "model.safetensors")
    tensors["model.embed_tokens.weight"] = np.random.default_rng(0).normal(0, 0.3, [VOCABULARY, 24]).astype(np.float32)
    save_file(tensors, place / "model.safetensors")
    config = json.loads((GOLDEN / "llama" / "config.json").read_text())
    (place / "config.json").write_text(json.dumps(config | {"vocab_size": VOCABULARY}))
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        shutil.copy(GOLDEN / "byte_level" / name, place)
    return place
