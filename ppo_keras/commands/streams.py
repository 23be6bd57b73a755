"""What a command reads from and writes to, whatever it was started with: a pipe that ends, ASCII, a stream that is closed."""

import contextlib
import io
import os
import select
import sys

BROKEN_PIPE = 141  # 128 + SIGPIPE: how a shell names the end of a program whose output nobody reads any more


@contextlib.contextmanager
def usable_streams():
    """Opens the streams that were closed (`2>&-`) on nothing, and lets stdout write what its encoding lacks as `\\u597d`.

    What is opened takes the free descriptor. Else the next file would, such as one of the run, and TensorFlow's notes
    would be written into it.
    """
    with contextlib.ExitStack() as stack:
        for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
            if getattr(sys, name) is None:
                setattr(sys, name, stack.enter_context(open(os.devnull, mode, encoding="utf-8")))
                stack.callback(setattr, sys, name, None)
        if hasattr(sys.stdout, "reconfigure"):  # not what a notebook or a test has in its place
            stack.callback(sys.stdout.reconfigure, errors=sys.stdout.errors)
            sys.stdout.reconfigure(errors="backslashreplace")
        yield


def is_lost(stream):
    """Whether a stream takes nothing more: its reader is gone, or its disk is full. The rest then goes nowhere, else Python tries when it ends."""
    try:
        stream.flush()
        lost = _is_unread(stream.fileno())
    except io.UnsupportedOperation:  # no file: what a notebook or a test has in its place
        return False
    except OSError:
        lost = True
    if lost:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
    return lost


def _is_unread(number):
    """Whether nobody reads a pipe any more: what failed once to reach it is not tried again by `flush`."""
    if not hasattr(select, "poll"):  # Windows
        return False
    pipe = select.poll()
    pipe.register(number, 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in pipe.poll(0))
