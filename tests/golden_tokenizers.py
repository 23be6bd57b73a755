"""Small tokenizers of checkpoints and what transformers makes of them, see `pretrained/golden/make_tokenizers.py`; nothing here is a test."""

import functools
import json
from pathlib import Path

import pytest

from ppo_keras.errors import InputError
from ppo_keras.pretrained import sources
from ppo_keras.pretrained.tokenizer import PretrainedTokenizer

FOLDER = Path(__file__).parent / "pretrained" / "golden"
GOLDEN = json.loads((FOLDER / "tokenizers.json").read_text(encoding="utf-8"))
KINDS = ("byte_level", "sentence_piece")
TOKENIZERS = {kind: PretrainedTokenizer.from_folder(FOLDER / kind) for kind in KINDS}
BYTES = TOKENIZERS["byte_level"]


def content_of(kind="byte_level", **changes):
    """The text of a golden tokenizer.json, with changes."""
    return json.dumps(json.loads((FOLDER / kind / "tokenizer.json").read_text(encoding="utf-8")) | changes)


def settings_of(kind="byte_level", **changes):
    return json.loads((FOLDER / kind / "tokenizer_config.json").read_text(encoding="utf-8")) | changes


@functools.cache
def smollm2():
    """The tokenizer in SmolLM2's GGUF file; skips where that cannot be had."""
    gguf = pytest.importorskip("gguf")
    try:
        path = sources.smollm2()
    except InputError as error:
        pytest.skip(str(error))
    fields = gguf.GGUFReader(str(path)).fields
    return PretrainedTokenizer.from_gguf_metadata({name: field.contents() for name, field in fields.items() if name.startswith("tokenizer.")})
