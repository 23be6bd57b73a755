"""`ppo_keras.own_modules`: modules of the current folder, and one-line errors for those that cannot be imported."""

import sys

import pytest

from ppo_keras.errors import InputError
from ppo_keras.own_modules import import_own


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The current folder, which Python does not look into by itself: the console script is not `python -m`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    return tmp_path


def test_a_module_of_the_current_folder_is_found(folder):
    """Catches: `ppo-keras`, whose first place to look is its own `bin`; a file written after the folder was looked at."""
    with pytest.raises(InputError):
        import_own("late_module_of_a_test", "--reward")
    (folder / "late_module_of_a_test.py").write_text("number = 7")
    assert import_own("late_module_of_a_test", "--reward").number == 7


@pytest.mark.parametrize(
    "name, content, words",
    [
        ("absent_of_a_test", None, ["ModuleNotFoundError", "Is absent_of_a_test.py in this folder", "must be installed"]),
        ("present_of_a_test.py", "", ["Is present_of_a_test.py in this folder", "Name it without .py"]),
        ("package_of_a_test.part", None, ["Is package_of_a_test.py in this folder"]),
        ("needy_of_a_test", "import absent_of_a_test", ["No module named 'absent_of_a_test'", "python -c 'import needy_of_a_test'"]),
        ("crooked_of_a_test", "def f(:", ["SyntaxError", "python -c 'import crooked_of_a_test'"]),
        ("script_of_a_test", "import sys\nsys.exit('usage: script')", ["SystemExit: usage: script"]),
        (".relative", None, ["TypeError"]),
    ],
)
def test_what_cannot_be_imported_is_said(folder, name, content, words):
    """Catches: a traceback; a script that ends the process without a word; "is it in this folder?" of a module that is, and lacks another one."""
    if content is not None:
        (folder / f"{name.removesuffix('.py')}.py").write_text(content)
    with pytest.raises(InputError, match=f"^--reward x: importing {name} failed with ") as error:
        import_own(name, "--reward x")
    assert all(word in str(error.value) for word in words), str(error.value)


def test_a_known_package_is_named():
    """Catches: advice to look into this folder for a package that pip has."""
    with pytest.raises(InputError, match="Install it with: pip install absent-of-a-test.$"):
        import_own("absent_of_a_test", "gym:absent_of_a_test:World-v0", "absent-of-a-test")
