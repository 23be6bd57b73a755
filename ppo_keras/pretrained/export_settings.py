"""What an export can be told (no TensorFlow here: it is checked before anything is loaded)."""

import os
from pathlib import Path

from ppo_keras.errors import require, shown

DTYPES = ("float32", "bfloat16", "float16")
GGUF_DTYPES = ("float16", "float32")  # the first is the default
LAYOUTS = ("merged", "adapters", "gguf")


def check_export(folder, layout="merged", dtype=None):
    """Raises `InputError` where `export_pretrained` could not write so, or there."""
    require(layout in LAYOUTS, f"layout={shown(layout)} is unknown. Use {', '.join(LAYOUTS)}.")
    require(dtype is None or dtype in DTYPES, f"dtype={shown(dtype)} is unknown. Use {', '.join(DTYPES)}.")
    require(layout != "gguf" or dtype in (None, *GGUF_DTYPES), f"a GGUF file is written in {' or '.join(GGUF_DTYPES)}, not in {dtype}. Use one of them.")
    require(isinstance(folder, str | os.PathLike) and str(folder), f"folder={shown(folder)} is no path. Name a new folder, such as exported.")
    path = Path(folder).expanduser()
    require(not path.exists() or path.is_dir(), f"{path} is a file. Name a new folder.")
    require(not path.exists() or not any(path.iterdir()), f"{path} is not empty, and nothing is written over. Name a new folder.")
    parent = next(one for one in path.absolute().parents if one.exists())
    require(parent.is_dir(), f"{parent} is a file, so no folder {path.name} can be in it. Choose another place.")
    require(os.access(parent, os.W_OK), f"cannot write to {parent}. Choose another place.")
