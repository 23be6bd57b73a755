"""Python modules of the user's own, by name: a reward, the registration of an environment."""

import importlib
import os
import sys

from ppo_keras.errors import InputError


def import_own(name, asked, package=None):
    """The module of this name; modules are found in the current folder too, also by the console script, which does not look there.

    Args:
        name: of the module, such as `my_rewards` or `package.my_rewards`.
        asked: what asked for it, for the message of an error.
        package: what pip calls the package that has it, where that is known.

    Raises:
        InputError: there is no such module, or it cannot be imported.
    """
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)
    importlib.invalidate_caches()  # of a folder that was looked at before the file was there
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:  # somebody else's code may raise anything, and a script may end itself
        missing = getattr(error, "name", None) or ""
        if isinstance(error, ModuleNotFoundError) and f"{name}.".startswith(f"{missing}."):
            own = f"Is {missing.removesuffix('.py')}.py in this folder ({here})? Name it without .py; what is not your own must be installed."
            advice = f"Install it with: pip install {package}." if package else own
        else:
            advice = f"See what python -c 'import {name}' says in this folder ({here})."
        raise InputError(f"{asked}: importing {name} failed with {type(error).__name__}: {error}. {advice}") from error
