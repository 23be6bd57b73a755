"""The rooms of `ppo_keras`: imports point one way, and every public name is where `__init__.py` says."""

import ast
from pathlib import Path

import pytest

import ppo_keras

PACKAGE = Path(ppo_keras.__file__).parent
# a room may import from itself and from those after it; the files of the algorithm lie at the top
ORDER = ("commands", "tasks", "runs", "reports", "environments", "pretrained", "language", "datasets", "networks", "algorithm")
FILES = sorted(path for path in PACKAGE.rglob("*.py") if path.name not in ("__init__.py", "__main__.py"))


def room_of(module):
    """The room of a module of the package, such as "language.ppo"."""
    first = module.split(".")[0]
    return first if first in ORDER else "algorithm"


def imports_of(path):
    """The modules of the package that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ppo_keras."):
            yield node.module.removeprefix("ppo_keras.")
        elif isinstance(node, ast.Import):
            yield from (alias.name.removeprefix("ppo_keras.") for alias in node.names if alias.name.startswith("ppo_keras."))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_imports_point_one_way(path):
    """Catches: TensorBoard's writer that imports the tasks, a network that knows of PPO, a collector that reads a report."""
    room = room_of(path.relative_to(PACKAGE).with_suffix("").as_posix().replace("/", "."))
    for module in imports_of(path):
        assert ORDER.index(room_of(module)) >= ORDER.index(room), f"{path.name} of {room} imports {module}"
        if room == "networks":
            assert module.split(".")[0] in ("networks", "distributions", "errors", "randomness", "masking"), module


def test_the_algorithm_imports_no_room():
    """Catches: one of the files that a newcomer reads first, which cannot be read without the wings."""
    for path in PACKAGE.glob("*.py"):
        if path.name not in ("__init__.py", "__main__.py"):
            assert {room_of(module) for module in imports_of(path)} <= {"algorithm"}, path.name


@pytest.mark.parametrize("name", ppo_keras.__all__)
def test_public_names_are_there(name):
    """Catches: a public name whose file was moved."""
    assert getattr(ppo_keras, name).__name__ == name


def test_tests_mirror_the_rooms():
    """Catches: a room without tests where one looks for them."""
    rooms = {path.parent.name for path in FILES if path.parent != PACKAGE}
    assert rooms == {path.name for path in Path(__file__).parent.iterdir() if path.is_dir() and any(path.glob("test_*.py"))}
