"""A run opened from another folder than the one where it began: its files and its Python modules are found all the same."""

import os
import sys
from dataclasses import replace
from pathlib import Path

from ppo_keras.errors import InputError
from ppo_keras.runs.folder import FILES


def find_files(run, config):
    """The settings of a run, with those of its files that are not here found where it began.

    Its modules (of a `--reward` or an environment) are found there too, behind all that Python finds by itself. Nothing inside a
    run folder is ever executed, whatever its `config.json` says of where it began.

    Args:
        run: a `Run`.
        config: as `run.load_settings` returns it.

    Raises:
        InputError: a module of that name was imported for another run.
    """
    saved = run.load_json("config.json")
    began = Path(str(saved.get("working_folder", "")))
    whole = run.folder.resolve()
    if whole.name.startswith("seed-") and (whole.parent / "config.json").exists():
        whole = whole.parent  # a seed is part of its run
    if not began.is_absolute() or began.resolve().is_relative_to(whole):
        return config
    if str(began) not in sys.path:
        sys.path.append(str(began))
    for name in (str(saved.get("reward")), str(saved.get("task")).removeprefix("gym:")):
        module, colon, _ = name.partition(":")
        if colon:
            _check_module(run, module, began)
    moved = {name: found_from(saved, path) for name in FILES if (path := getattr(config, name, None))}
    checkpoint = getattr(config, "checkpoint", None)  # of agents there is none
    if checkpoint and checkpoint.pretrained:
        found = {name: checkpoint_from(saved, place) for name in ("pretrained", "adapters") if (place := getattr(checkpoint, name))}
        moved["checkpoint"] = replace(checkpoint, **found)
    return replace(config, **moved)


def found_from(saved, path):
    """A path as the `config.json` of a run has it; where it is not here but was where the run began, that one."""
    began = Path(str(saved.get("working_folder", ""))) / path
    return str(began) if began.is_absolute() and not os.path.exists(path) and began.exists() else path


def checkpoint_from(saved, name):
    """The checkpoint of a run: a folder or file of that name where the run began rather than one of the same name here."""
    began = Path(str(saved.get("working_folder", ""))) / name
    if not began.is_absolute() or not began.exists() or (os.path.exists(name) and os.path.samefile(name, began)):
        return name
    return str(began)


def _check_module(run, module, began):
    """Raises `InputError` where the module of a run would be another one of the same name, which is imported already."""
    file = Path(*module.split(".")).with_suffix(".py")
    loaded = getattr(sys.modules.get(module), "__file__", None)
    if loaded and not file.exists() and (began / file).exists() and not os.path.samefile(loaded, began / file):
        raise InputError(f"{run.folder} needs {began / file}, but {loaded} is imported under the same name. Open these runs with a command each.")
