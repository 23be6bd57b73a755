"""The command `ppo-keras`: runs what the parser finds, and says what goes wrong in one line."""

import sys
import warnings

from tqdm import tqdm

from ppo_keras.commands.parser import parse
from ppo_keras.datasets.cleaning import clean
from ppo_keras.errors import DataWarning, HealthWarning, InputError, NonFiniteError, ResumeWarning

OURS = (DataWarning, HealthWarning, ResumeWarning)


def main(arguments=None):
    """Runs a command. Returns its exit code: 0, 2 for anything the user can mend (said in one line), 130 for Ctrl-C."""
    try:
        arguments = list(sys.argv[1:] if arguments is None else arguments)
        for argument in arguments:
            clean(argument, f"the argument {argument!r}")  # one that is not UTF-8
        parsed = parse(arguments)
        with warnings.catch_warnings():
            others = warnings.showwarning
            warnings.showwarning = lambda message, category, *place: (_warn if category in OURS else others)(message, category, *place)
            parsed.command(parsed)
        return 0
    except (InputError, NonFiniteError) as error:
        return _fail(str(error))
    except OSError as error:
        place = f" ({error.filename})" if error.filename else ""
        return _fail(f"{error.strerror or error}{place}. Is the disk full, or the folder read-only?")
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        return 130


def _warn(message, *_):
    """A warning of ours in one line, without the line of code that gave it, above a progress bar."""
    tqdm.write(f"ppo-keras: warning: {message}", file=sys.stderr)


def _fail(message):
    print("ppo-keras: error: " + " ".join(message.split()), file=sys.stderr)
    return 2
