"""The memory of this machine: how much there is, how much was taken at most, and whether what is about to begin can fit."""

import sys
from pathlib import Path

import tensorflow as tf
from tensorflow.python.client import device_lib

from ppo_keras.errors import InputError
from ppo_keras.pretrained.memory import CONTEXT, TOLERANCE, Work, count_weights, estimate, largest_batch

try:
    import resource
except ImportError:  # Windows
    resource = None

LIMITS = "/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"  # of a container: control groups 2 and 1


def free_memory():
    """Bytes that this process can have without swapping, those that it has included, as Linux says, or a container's limit; None elsewhere."""
    try:
        free = 1024 * (_kilobytes("/proc/meminfo", "MemAvailable:") + _kilobytes("/proc/self/status", "VmRSS:"))
    except (OSError, StopIteration, ValueError):
        return None
    return min([free, *filter(None, map(_limit, LIMITS))])


def _limit(path):
    """The bytes that a file names; None where there is no such file, or it says "max"."""
    try:
        return int(Path(path).read_text())
    except (OSError, ValueError):
        return None


def card_memory():
    """Bytes of the first GPU that TensorFlow uses, with what its libraries take; None without one."""
    if not tf.config.list_physical_devices("GPU"):
        return None
    return next(int(device.memory_limit + CONTEXT) for device in device_lib.list_local_devices() if device.device_type == "GPU")


def memory_here():
    """(bytes, whether they are a GPU's): where a model is trained on this machine; (None, False) where nothing says how much there is."""
    card = card_memory()
    return (free_memory(), False) if card is None else (card, True)


def forget_peak():
    """Makes `peak_memory` count from now on, where the system lets it: elsewhere it counts from when the process began."""
    if tf.config.list_physical_devices("GPU"):
        tf.config.experimental.reset_memory_stats("GPU:0")
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:  # another system than Linux, or one that does not allow it
        pass


def peak_memory():
    """Most bytes that were taken at a time: of the first GPU by TensorFlow (with what its libraries take), without one by this process; None where nothing says."""
    if tf.config.list_physical_devices("GPU"):
        return int(tf.config.experimental.get_memory_info("GPU:0")["peak"] + CONTEXT)
    try:
        return 1024 * _kilobytes("/proc/self/status", "VmHWM:")
    except (OSError, StopIteration, ValueError):
        return resource and resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _kilobytes(path, name):
    return next(int(line.split()[1]) for line in Path(path).read_text().splitlines() if line.startswith(name))


def check_weights_fit(settings, weights, name):
    """Raises `InputError`, with what would fit, where a checkpoint cannot even be read; nothing is checked where the system does not say what is free.

    Args:
        settings: its `Settings`.
        weights: "float32" or "bfloat16".
        name: of the checkpoint.
    """
    available, card = memory_here()
    need = lambda kind: estimate(settings, Work(1, 1, 1, weights=kind), card).totals["loading"]
    if available is None or need(weights) <= TOLERANCE * available:
        return
    halved = weights == "float32" and need("bfloat16") <= available
    advice = f'bfloat16 needs {gigabytes(need("bfloat16"))}: use weights="bfloat16"' if halved else "Free some"
    most = count_weights(settings) * available / need(weights)
    raise InputError(
        f"{name} needs {gigabytes(need(weights))} of memory in {weights}, and {gigabytes(available)} are free. {advice}, "
        f"or take a checkpoint of less than {most / 1e9:.2g} billion parameters."
    )


def check_work_fits(settings, work, name, multiple=1):
    """Raises `InputError`, with what would fit, where an iteration of PPO cannot; an estimate, so that what may fit is let through.

    Args:
        settings, work: see `estimate`.
        name: of what is trained.
        multiple: of which a batch must be one, such as the responses to a prompt.
    """
    available, card = memory_here()
    found = estimate(settings, work, card)
    if available is None or found.peak <= TOLERANCE * available:
        return
    batch = largest_batch(settings, work, available, card, multiple)
    helping = [f"--batch-size {batch}"] if batch else []
    helping += [option for option, other in work.savings.items() if estimate(settings, other, card).peak <= available]
    raise InputError(
        f"{name} with a batch of {work.batch}, prompts of {work.prompt} and responses of {work.response} tokens needs about {gigabytes(found.peak)} of memory "
        f"({found.peak_phase}), and {gigabytes(available)} are free. Use {' or '.join(helping) or 'a smaller checkpoint'}."
    )


def gigabytes(count):
    """Bytes in words, of two or three digits.

    Example:
        >>> gigabytes(2.34e9)
        '2.3 GB'
    """
    return f"{count / 1e9:.2g} GB" if count < 9.95e9 else f"{count / 1e9:.0f} GB"
