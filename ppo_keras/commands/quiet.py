"""TensorFlow imported without the notes of its C++ code, with the threads that suit the work."""

import contextlib
import importlib
import os
import signal
import sys
import threading
import types


@contextlib.contextmanager
def quiet_start():
    """Keeps the notes that TensorFlow's C++ code prints while it is imported off the screen (not Python's errors), and later its remarks on tracing.

    Yields an object. Its `one_thread` may be set to True: TensorFlow then computes on one thread, unless the user has set its
    TF_NUM_INTRAOP_THREADS, or it has begun already (an earlier command of the same process). Its `sharing` may be a `DeviceConfig`,
    whose devices then begin.
    """
    started = types.SimpleNamespace(one_thread=False, sharing=None)
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        with remembered_interrupt():
            yield started
            if started.one_thread and "TF_NUM_INTRAOP_THREADS" not in os.environ:
                with contextlib.suppress(RuntimeError):
                    sys.modules["tensorflow"].config.threading.set_intra_op_parallelism_threads(1)
            if started.sharing is not None:
                importlib.import_module("ppo_keras.cluster").start(started.sharing, kept)
            sys.modules["tensorflow"].config.list_logical_devices()  # looking for GPUs prints notes too
            sys.modules["tensorflow"].get_logger().addFilter(_worth_saying)
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _worth_saying(record):
    """Not that a function is traced often: each seed of a command has its own, and its user can do nothing about it."""
    return "triggered tf.function retracing" not in record.getMessage()


@contextlib.contextmanager
def remembered_interrupt():
    """Raises `KeyboardInterrupt` for Ctrl-C at the latest when the block ends, though code of others swallowed it or made it another error."""
    pressed = []

    def press(number, frame):
        pressed.append(number)
        raise KeyboardInterrupt

    ours = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if ours:
        signal.signal(signal.SIGINT, press)
    try:
        yield
    except Exception as error:
        if pressed:
            raise KeyboardInterrupt from error
        raise
    finally:
        if ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)
    if pressed:
        raise KeyboardInterrupt
