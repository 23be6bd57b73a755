"""States that a stopped run goes on from: files of plain numbers, written whole, checked when they are read."""

import contextlib
import json
import os
import re
import time
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ppo_keras.errors import InputError, ResumeWarning

TIME = "saved at"  # of the array that says when, in seconds since 1970


class State(NamedTuple):
    """What a file holds: how far training was, and arrays by name."""

    number: int  # iterations or epochs done
    arrays: dict
    time: float = 0.0  # when it was saved, seconds since 1970


class StateFiles:
    """The files `<name>-<number>.npz` of one stage of a run.

    A file is written beside its place, forced onto the disk and then renamed, so that a kill leaves the older ones and
    never half of a new one. Zip's checksums show whether a file was cut off or changed since. Arrays are never
    unpickled: nothing in a file is executed.

    Args:
        folder: where.
        name: of the stage.
        keep: how many are kept.
    """

    def __init__(self, folder, name, keep=2):
        self.folder, self.name, self.keep = Path(folder), name, keep

    def numbers(self):
        """Of the files there are, the newest first."""
        found = (re.fullmatch(rf"{re.escape(self.name)}-(\d+)\.npz", path.name) for path in self.folder.glob("*.npz"))
        return sorted((int(match[1]) for match in found if match), reverse=True)

    def path(self, number):
        """Where the state of this number is."""
        return self.folder / f"{self.name}-{number}.npz"

    def write(self, number, arrays):
        """Saves a state, and removes all but the last `keep`; those of a higher number too, which were damaged or given up.

        Args:
            number: iterations or epochs done.
            arrays: {name: NumPy array}.
        """
        temporary = self.path(number).with_suffix(".part")
        try:
            with open(temporary, "wb") as file:
                np.savez(file, **arrays, **{TIME: time.time()})
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self.path(number))
        finally:
            temporary.unlink(missing_ok=True)
        later = [other for other in self.numbers() if other > number]
        for old in later + self.numbers()[len(later) + self.keep :]:
            self.path(old).unlink()

    def read(self, warn=True):
        """The newest state that is whole, or None. Warns once of damaged ones, and of none that is whole, unless told not to."""
        damaged, state = [], None
        for number in self.numbers():
            try:
                with open(self.path(number), "rb") as opened, np.load(opened, allow_pickle=False) as file:
                    arrays = {name: file[name] for name in file.files}
                state = State(number, arrays, float(arrays.pop(TIME)))
                break
            except Exception as error:  # a cut or altered file fails in many ways
                damaged.append(f"{self.path(number)} ({type(error).__name__}: {error})")
        if damaged and warn:
            instead = f"Going on from {self.path(state.number).name}." if state else f"Beginning the stage {self.name!r} anew."
            warnings.warn(f"damaged: {'; '.join(damaged)}. {instead}", ResumeWarning, stacklevel=2)
        return state


def pack(parts):
    """{part/name: array} of several parts, {part: {name: array}}."""
    return {f"{part}/{name}": np.asarray(value) for part, values in parts.items() for name, value in values.items()}


def unpack(arrays, part):
    """The {name: array} of one part of `pack`."""
    return {name.removeprefix(f"{part}/"): value for name, value in arrays.items() if name.startswith(f"{part}/")}


def changing(model, variables):
    """Those of the variables that training changes: not the weights of a model that stay as they are because adapters are trained in their place."""
    frozen = {id(variable) for variable in getattr(model, "frozen_variables", ())}
    return [variable for variable in variables if id(variable) not in frozen]


def learned_weights(model):
    """Copies of the weights of a model that training changes, a list of NumPy arrays."""
    return [np.array(weight) for weight in changing(model, model.weights)]


def set_learned_weights(model, weights):
    """Assigns what `learned_weights` gave. Raises `ValueError` where there are more or fewer."""
    for weight, value in zip(changing(model, model.weights), weights, strict=True):
        weight.assign(value)


def of_variables(variables):
    """{place in the list: array} of variables. (Keras numbers unnamed layers through, so that paths differ from process to process.)"""
    return {str(i): variable.numpy() for i, variable in enumerate(variables)}


def into_variables(variables, arrays):
    """Assigns what `of_variables` gave.

    Raises:
        InputError: the variables are others, or have other shapes or types: another version or another setting wrote the file.
    """
    advice = "Resume with the version and the settings that began the run."
    if arrays.keys() != {str(i) for i in range(len(variables))}:
        raise InputError(f"the saved state holds {len(arrays)} arrays, this training has {len(variables)}. {advice}")
    for i, variable in enumerate(variables):
        found, expected = ((x.shape, str(x.dtype)) for x in (arrays[str(i)], variable.numpy()))
        if found != expected:
            raise InputError(f"the saved state of {variable.path} has shape and type {found}, this training has {expected}. {advice}")
    for i, variable in enumerate(variables):
        variable.assign(arrays[str(i)])


def of_json(content):
    """Plain Python numbers, strings, lists and dicts as an array."""
    return np.frombuffer(json.dumps(content).encode(), np.uint8)


def from_json(array):
    """What `of_json` took."""
    return json.loads(array.tobytes().decode())


@contextlib.contextmanager
def readable(files, number):
    """Raises `InputError` where a whole file does not hold what it should: another version, or another hand, wrote it."""
    try:
        yield
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{files.path(number)} does not hold what this training saves ({type(error).__name__}: {error}). "
            "Resume with the version and the settings that began the run."
        ) from error
