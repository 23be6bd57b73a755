"""The files of a checkpoint in Hugging Face's format: which there must be, what to do where others are there, and room for them."""

import errno
import importlib
import json
import shutil
from pathlib import Path

from ppo_keras.datasets.files import shorten_list
from ppo_keras.errors import InputError, require, shown

INDEX = "model.safetensors.index.json"
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
AGAIN = "Fetch the checkpoint again."


def check_folder(folder):
    """The folder, if it holds `config.json` and whole sets of weights by their names; raises `InputError` with what is missing otherwise."""
    if not (folder / "config.json").is_file():
        held = sorted(path.name for path in folder.iterdir())
        advice = advice_on_other_weights([name for name in held if name.endswith(".gguf")])
        expected = f"Expected config.json, tokenizer.json and *.safetensors; it holds {shorten_list(held, 6) or 'nothing'}."
        raise InputError(f"{folder} holds no config.json: it is no checkpoint in Hugging Face's format. {advice or expected}")
    read_json(folder / "config.json")
    weight_files(folder)
    return folder


def weight_files(folder):
    """The safetensors files of a folder in Hugging Face's format, sorted: those that its index names, or the one that there is.

    Raises:
        InputError: there are none, or one that the index names is missing; the message says what the folder holds instead.
    """
    folder = Path(folder)
    if (folder / INDEX).exists():
        index = read_json(folder / INDEX).get("weight_map")
        whole = isinstance(index, dict) and index and all(isinstance(home, str) and _is_plain(home) for home in index.values())
        require(whole, f"{folder / INDEX} has no weight_map from names of tensors to safetensors files beside it. {AGAIN}")
        files = [folder / name for name in sorted(set(index.values()))]
        missing = [path.name for path in files if not path.is_file()]
        require(not missing, f"{folder} lacks {shorten_list(missing, 3)}, which {INDEX} names: it is not whole. {AGAIN}")
        return files
    if (folder / "model.safetensors").is_file():
        return [folder / "model.safetensors"]
    held = sorted(path.name for path in folder.iterdir() if path.is_file())
    tensors = [name for name in held if name.endswith(".safetensors") and not name.startswith("adapter")]
    if len(tensors) == 1:
        return [folder / tensors[0]]
    if tensors:
        raise InputError(f"{folder} holds {shorten_list(tensors, 3)} and no {INDEX}, which says what lies where. {AGAIN}")
    expected = f"Expected model.safetensors; it holds {shorten_list(held, 6)}."
    raise InputError(f"{folder} holds no weights. {advice_on_other_weights(held) or expected}")


def advice_on_other_weights(files):
    """What to do about weights in another format than safetensors, by the names of files; an empty string where there are none."""
    pickles = [name for name in files if name.endswith(PICKLES) and not name.startswith("training_args")]
    if pickles:
        return (
            f"It has them only as {shorten_list(pickles, 3)}, a pickle, which can execute code and is never read. Take a checkpoint with "
            "safetensors, or convert it where you trust it: AutoModelForCausalLM.from_pretrained(...).save_pretrained(FOLDER)."
        )
    ggufs = [name for name in files if name.endswith(".gguf")]
    return f"It has {shorten_list(ggufs, 3)}: give the path of the .gguf file itself." if ggufs else ""


def read_json(path):
    """The table in a JSON file of a checkpoint.

    Raises:
        InputError: it is missing, damaged, or no table.
    """
    path = Path(path)
    require(path.is_file(), f"{path.parent} holds no {path.name}. Give a folder in Hugging Face's format, which has one.")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError, OSError) as error:
        raise InputError(f"{path} cannot be read ({one_line(error)}). {AGAIN}") from error
    require(isinstance(content, dict), f"{path} holds {shown(content, 60)}, expected a table of names. {AGAIN}")
    return content


def check_space(folder, needed_bytes):
    """Raises `InputError` where the disk of a folder, which need not exist yet, has less room than is needed."""
    folder = Path(folder).absolute()
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if free < needed_bytes:
        raise InputError(
            f"{needed_bytes / 1e6:.0f} MB are needed in {folder}, and {free / 1e6:.0f} MB are free. Free some, or choose another place "
            "(PPO_KERAS_CACHE, for the hub HF_HOME)."
        )


def no_room(folder, error):
    """What to say of an `OSError` in the cache."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk of {folder} is full. Free some room, or choose another place (PPO_KERAS_CACHE, for the hub HF_HOME)."
    return f"cannot write to {folder} ({one_line(error)}). Choose another place (PPO_KERAS_CACHE, for the hub HF_HOME)."


def needed(module):
    """A module of the extra `pretrained`, imported.

    Raises:
        InputError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise InputError(f"checkpoints need the package {module}. Install it with: pip install 'ppo_keras[pretrained]'.") from error


def _is_plain(name):
    """Whether a name is that of a safetensors file in the same folder: an index must not point elsewhere."""
    return name.endswith(".safetensors") and Path(name).name == name and "\\" not in name


def one_line(error):
    """The message of an error on one line."""
    return " ".join(str(error).split())[:200].rstrip(".") or type(error).__name__
