"""TensorFlow imported without the notes of its C++ code."""

import contextlib
import os
import sys


@contextlib.contextmanager
def quiet_start():
    """Keeps the notes that TensorFlow's C++ code prints while it is imported off the screen (not Python's errors)."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
        sys.modules["tensorflow"].config.list_logical_devices()  # looking for GPUs prints notes too
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
