"""`ppo_keras.checkpoints`: what is written comes back bit by bit; what is damaged is noticed, and nothing in a file is executed."""

import os
import time
import warnings

import keras
import numpy as np
import pytest

from ppo_keras.checkpoints import (
    StateFiles,
    from_json,
    into_variables,
    of_json,
    of_variables,
    pack,
    readable,
    unpack,
)
from ppo_keras.errors import InputError, ResumeWarning

ARRAYS = {
    "float": np.array([0.1, -0.0, 1e-45], np.float32),
    "nothing": np.zeros([0, 3]),
    "counter": np.int64(2**40),
    "bits": np.arange(6, dtype=np.uint32).reshape(2, 3),
    "flag": np.array(True),
}


@pytest.fixture
def files(tmp_path):
    return StateFiles(tmp_path, "training")


def names(files):
    return sorted(path.name for path in files.folder.iterdir())


def test_every_bit_comes_back(files):
    """Catches: a dtype that widens, a scalar that becomes an array, the sign of a zero or a denormal number lost."""
    files.write(7, ARRAYS)
    state = files.read()
    assert state.number == 7 and state.arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        found = state.arrays[name]
        assert (found.dtype, found.shape, found.tobytes()) == (np.asarray(array).dtype, np.shape(array), np.asarray(array).tobytes())


def test_a_state_knows_when_it_was_saved(files, monkeypatch):
    """Catches: the time at which it is read: a run that goes on would keep what TensorBoard was told since."""
    monkeypatch.setattr(time, "time", lambda: 1234.5)
    files.write(7, ARRAYS)
    monkeypatch.undo()
    assert files.read().time == 1234.5


def test_the_last_ones_are_kept_by_number(files):
    """Catches: 10 sorted before 9, files of another stage deleted or read, the newest one deleted."""
    for other in ("training-of-another", "re-training"):
        StateFiles(files.folder, other).write(99, ARRAYS)
    for number in (8, 9, 10):
        files.write(number, {"x": np.array(number)})
    assert names(files) == ["re-training-99.npz", "training-10.npz", "training-9.npz", "training-of-another-99.npz"]
    assert files.read().arrays["x"] == 10 and files.numbers() == [10, 9]


def test_nothing_saved_is_none(files):
    """Catches: an error, or a warning, where a run simply begins."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert files.read() is None and StateFiles(files.folder / "absent", "training").read() is None


def cut(path):
    path.write_bytes(path.read_bytes()[:-200])


def empty(path):
    path.write_bytes(b"")


def alter(path):
    content = bytearray(path.read_bytes())
    content[content.index(b"NUMPY") + 130] ^= 1  # one bit of the first array's numbers
    path.write_bytes(content)


class Hostile:
    """Unpickled, it makes a folder."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.mkdir, (self.target,)


def poison(path):
    np.savez(path, x=np.array([Hostile(str(path.parent / "executed"))], object))


@pytest.mark.parametrize("damage", [cut, empty, alter, poison])
def test_a_damaged_file_falls_back_to_the_one_before(files, damage):
    """Catches: half a state taken for a whole one, a traceback, a warning for every array, and code of the file that runs."""
    for number in (1, 2):
        files.write(number, {"x": np.full([100], number), "y": np.array(number)})
    damage(files.path(2))
    with pytest.warns(ResumeWarning) as shown:
        state = files.read()
    assert len(shown) == 1 and "training-2.npz" in str(shown[0].message) and "Going on from training-1.npz" in str(shown[0].message)
    assert state.number == 1 and (state.arrays["x"] == 1).all() and not (files.folder / "executed").exists()
    damage(files.path(1))
    with pytest.warns(ResumeWarning, match="Beginning the stage 'training' anew") as shown:
        assert files.read() is None
    assert len(shown) == 1


def test_states_behind_damaged_ones_are_kept(files):
    """Catches: a stage that begins anew and whose states are deleted as the older ones: until it is past the damaged ones, a kill loses all."""
    for number in (90, 100):
        files.write(number, ARRAYS)
        cut(files.path(number))
    for number in (0, 10, 20):
        files.write(number, ARRAYS)
        assert files.read().number == number
    assert names(files) == ["training-10.npz", "training-20.npz"]


def test_a_file_of_another_hand_is_one_line(files):
    """Catches: a traceback for a whole file that does not hold what the training saves."""
    files.write(3, {"x": np.array("text")})
    for odd in (lambda: {}["0"], lambda: float("a"), lambda: [][0], lambda: None + 1):
        with pytest.raises(InputError, match="training-3.npz does not hold what this training saves"), readable(files, 3):
            odd()
    with pytest.raises(InputError, match="^as it is$"), readable(files, 3):
        raise InputError("as it is")


def test_a_write_that_fails_leaves_the_older_states(files, monkeypatch):
    """Catches: a file under its final name before it is whole, a temporary file that stays, older states removed first."""
    for number in (1, 2):
        files.write(number, ARRAYS)

    def full(file, **arrays):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError):
        files.write(3, ARRAYS)
    assert names(files) == ["training-1.npz", "training-2.npz"] and files.read().number == 2


def test_parts_are_kept_apart():
    """Catches: a part that takes another's arrays because one name begins like another."""
    packed = pack({"learner": {"0": 1}, "learner2": {"0": 2, "a/b": 3}})
    assert unpack(packed, "learner") == {"0": 1} and unpack(packed, "learner2") == {"0": 2, "a/b": 3}


def test_json_comes_back():
    """Catches: a large whole number (a random state) rounded, text that is not ASCII lost."""
    content = {"state": 2**127 - 1, "text": "电影", "list": [0.1, None, True]}
    assert from_json(of_json(content)) == content


def test_variables_of_another_learner_are_refused():
    """Catches: weights assigned to whatever has their place, or some of them before the mistake is noticed."""
    make = lambda *shapes: [keras.Variable(np.full(shape, float(i)), name=f"v{i}") for i, shape in enumerate(shapes)]
    saved, fresh = of_variables(make((2,), (3,))), make((2,), (3,))
    for variable in fresh:
        variable.assign(variable + 5)
    into_variables(fresh, saved)
    assert [variable.numpy().tolist() for variable in fresh] == [[0, 0], [1, 1, 1]]
    other = make((2,), (4,))
    other[0].assign([7, 7])
    with pytest.raises(InputError, match=r"v1 has shape and type \(\(3,\), 'float64'\), this training has \(\(4,\), 'float64'\)"):
        into_variables(other, saved)
    assert other[0].numpy().tolist() == [7, 7]
    with pytest.raises(InputError, match="holds 2 arrays, this training has 1"):
        into_variables(make((2,)), saved)
    for odd in ({"0": saved["0"], "a": saved["1"]}, {"0": saved["0"], "1": np.array(["a"] * 3)}):
        with pytest.raises(InputError, match="Resume with the version"):
            into_variables(fresh, odd)
