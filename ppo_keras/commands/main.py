"""The command `ppo-keras`: runs what the parser finds, and says what goes wrong in one line."""

import contextlib
import sys
import warnings

from tqdm import tqdm

from ppo_keras.commands.parser import parse
from ppo_keras.commands.streams import BROKEN_PIPE, is_lost, usable_streams
from ppo_keras.datasets.cleaning import clean
from ppo_keras.errors import DataWarning, HealthWarning, InputError, LockWarning, NonFiniteError, ResumeWarning

OURS = (DataWarning, HealthWarning, LockWarning, ResumeWarning)


def main(arguments=None):
    """Runs a command.

    Returns:
        Its exit code: 0; 2 for anything the user can mend (said in one line); 130 for Ctrl-C; 141 where nobody reads what
        it prints (`| head -1`), quietly.
    """
    with usable_streams():
        try:
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
            finally:
                sys.stdout.flush()  # what cannot be written is noticed here, not when Python ends
        except (InputError, NonFiniteError) as error:
            return _fail(str(error))
        except OSError as error:
            lost = [is_lost(stream) for stream in (sys.stdout, sys.stderr)]
            if isinstance(error, BrokenPipeError) and any(lost):
                return BROKEN_PIPE
            place = f" ({error.filename})" if error.filename else ""
            return _fail(f"{error.strerror or error}{place}. Is the disk full, or the folder read-only?")
        except KeyboardInterrupt:
            _say("Stopped.")
            return 130


def _warn(message, *_):
    """A warning of ours in one line, without the line of code that gave it, above a progress bar."""
    tqdm.write(f"ppo-keras: warning: {message}", file=sys.stderr)


def _fail(message):
    _say("ppo-keras: error: " + " ".join(message.split()))
    return 2


def _say(line):
    """The last line of a command; the exit code says it too, where stderr cannot be written."""
    with contextlib.suppress(OSError):
        print(line, file=sys.stderr)
