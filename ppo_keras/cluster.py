"""The processes and devices of a run: found, started, watched. What they compute together is said in `devices`."""

import contextlib
import faulthandler
import hashlib
import json
import os
import re
import socket
import sys
import time
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from ppo_keras.devices import WHOLE, Share
from ppo_keras.errors import InputError, line_of, require

EVERY = 5  # seconds between two words about those that are waited for
FORMING = 60  # most seconds in which TensorFlow connects workers that are all there
LOST = (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError, tf.errors.DeadlineExceededError, tf.errors.InternalError)
_started = {}  # the strategy of this process, once it is made: TensorFlow can make no other


class Cluster(NamedTuple):
    """The processes that train one run together: their addresses `host:port`, the chief's first, and which of them this is."""

    addresses: tuple = ()
    index: int = 0

    @property
    def several(self):
        """Whether there is more than one process."""
        return len(self.addresses) > 1

    @property
    def is_chief(self):
        """Whether this process writes the run folder."""
        return self.index == 0

    @property
    def share(self):
        """The `Share` of this process."""
        return Share(self.index, len(self.addresses)) if self.several else WHOLE

    def called(self, index):
        """A worker in words."""
        return f"worker {index}{' (the chief)' * (index == 0)} at {self.addresses[index]}"


def find_cluster(config):
    """The `Cluster` that the settings, `TF_CONFIG` or Slurm's variables describe; one process where none does.

    Args:
        config: a `DeviceConfig`.

    Raises:
        InputError: what they say is no cluster, or not which of its workers this process is.
    """
    if config.workers is not None:
        addresses = [address.strip() for address in config.workers.split(",")]
        given, index = "--workers", config.worker_index
        require(index is not None, "--workers was given without --worker-index. Say which of them this process is, from 0: the first is the chief.")
    elif "TF_CONFIG" in os.environ:
        given, (addresses, index) = "TF_CONFIG", _of_tf_config()
        if not addresses:
            return Cluster()
    elif os.environ.get("SLURM_STEP_NUM_TASKS", "1") != "1":
        given, (addresses, index) = "Slurm", _of_slurm()
    else:
        return Cluster()
    for address in addresses:
        host, _, port = address.rpartition(":")
        require(host and port.isdecimal() and 0 < int(port) < 2**16, f"{given} names {address!r}, which is no address. Write host:port, such as 10.0.0.1:2222.")
        require(addresses.count(address) == 1, f"{given} names {address} twice. Give each worker a port of its own.")
    require(0 <= index < len(addresses), f"{given} names {len(addresses)} workers, but this is to be number {index}. Count from 0 to {len(addresses) - 1}.")
    return Cluster(tuple(addresses), index)


def _of_tf_config():
    example = '{"cluster": {"worker": ["a:2222", "b:2222"]}, "task": {"type": "worker", "index": 0}}'
    try:
        content = json.loads(os.environ["TF_CONFIG"] or "{}")
        jobs = {job: [str(address) for address in addresses] for job, addresses in content.get("cluster", {}).items()}
        kind, index = content["task"]["type"] if jobs else "worker", int(content["task"]["index"]) if jobs else 0
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(f"TF_CONFIG cannot be read ({line_of(error)}). Write it such as {example}, or unset it.") from error
    others = [job for job in jobs if job not in ("chief", "worker")]
    require(not others, f"TF_CONFIG has tasks of the kind {', '.join(others)}, but a run has workers, which are all alike, and a chief. Leave them out.")
    chiefs = jobs.get("chief", [])
    require(len(chiefs) < 2, f"TF_CONFIG names {len(chiefs)} chiefs, but one process writes the run. Name one; the others are workers.")
    require(not jobs or kind in jobs, f"TF_CONFIG says that this is of the kind {kind!r}, of which it names none. Write it such as {example}.")
    of_kind = len(jobs.get(kind, [None]))
    require(0 <= index < of_kind, f"TF_CONFIG names {of_kind} of the kind {kind!r}, but this is to be number {index}. Count from 0 to {of_kind - 1}.")
    return chiefs + jobs.get("worker", []), index + (len(chiefs) if kind == "worker" else 0)


def _of_slurm():
    try:
        tasks = os.environ.get("SLURM_STEP_NUM_TASKS")
        resolver = tf.distribute.cluster_resolver.SlurmClusterResolver(gpus_per_node=int(tasks), gpus_per_task=1, auto_set_gpu=False)
        addresses = resolver.cluster_spec().as_dict()["worker"]  # Slurm itself says which GPUs a task sees
    except (RuntimeError, ValueError, KeyError, OSError) as error:
        raise InputError(f"Slurm's variables describe no cluster ({line_of(error)}). Start one task with srun, or give --workers.") from error
    return addresses, resolver.task_id


def start(config, stderr=2):
    """The `tf.distribute` strategy of a run; None for one device. It waits until every worker is there.

    It comes before TensorFlow computes anything. Called again with the same settings it gives the same.

    Args:
        config: a `DeviceConfig`.
        stderr: a file descriptor to complain to.

    Raises:
        InputError: there are fewer devices than asked for; the settings describe no cluster; TensorFlow has begun otherwise.
    """
    cluster = find_cluster(config)
    wanted = (config.devices, cluster)
    if wanted == _started.get("wanted"):
        return _started["strategy"]
    require(
        "wanted" not in _started or (_started["strategy"] is None),
        f"this process has begun with other devices or workers than devices={config.devices}, {len(cluster.addresses) or 'no'} workers. Begin a new one.",
    )
    try:
        strategy = _of_workers(config, cluster, stderr) if cluster.several else _of_devices(config.devices)
    except RuntimeError as error:  # "Virtual devices cannot be modified after being initialized", and its kin
        raise InputError(f"TensorFlow has begun to compute, so its devices can no longer be chosen ({line_of(error)}). Choose them first.") from error
    _started.update(wanted=wanted, strategy=strategy, cluster=cluster)
    return strategy


def this_cluster():
    """The `Cluster` that was started."""
    return _started.get("cluster", Cluster())


def _of_devices(devices):
    if devices.startswith("cpu:"):
        count = int(devices.removeprefix("cpu:"))
        processor, *_ = tf.config.list_physical_devices("CPU")
        parts = tf.config.get_logical_device_configuration(processor)
        if count > 1 and len(parts or ()) != count:
            tf.config.set_logical_device_configuration(processor, [tf.config.LogicalDeviceConfiguration()] * count)
        return tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(count)]) if count > 1 else None
    cards = tf.config.list_physical_devices("GPU")
    count = len(cards) if devices == "auto" else int(devices)
    require(
        count <= max(1, len(cards)),
        f"devices={devices}, but TensorFlow finds {len(cards) or 'no'} GPU{'s' * (len(cards) != 1)} here. "
        f"Use {'auto' if cards else '1'}, or cpu:{devices} for parts of the processor.",
    )
    return tf.distribute.MirroredStrategy([f"GPU:{i}" for i in range(count)]) if count > 1 else None


def _of_workers(config, cluster, stderr):
    require(not config.devices.startswith("cpu:"), f"devices={config.devices} is of one process, but there are several workers. Start more of them instead.")
    cards = tf.config.list_physical_devices("GPU")
    if config.devices != "auto":
        require(int(config.devices) <= max(1, len(cards)), f"devices={config.devices}, but worker {cluster.index} finds {len(cards) or 'no'} GPUs. Use auto.")
        tf.config.set_visible_devices(cards[: int(config.devices)], "GPU")
    _share_processor(cluster)
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        tf.train.ClusterSpec({"worker": list(cluster.addresses)}), task_type="worker", task_id=cluster.index, rpc_layer="grpc"
    )
    _meet(cluster, config.worker_timeout, stderr)
    faulthandler.dump_traceback_later(FORMING, exit=True, file=stderr)  # TensorFlow waits for an hour, deaf to Ctrl-C and to Python, for one that dies just now
    try:
        return tf.distribute.MultiWorkerMirroredStrategy(resolver)
    except tf.errors.OpError as error:
        raise InputError(f"{cluster.called(cluster.index)} cannot begin: {line_of(error)}. Is its port in use?") from error
    finally:
        faulthandler.cancel_dump_traceback_later()


def _share_processor(cluster):
    """Gives each of the workers of one host its part of the cores: threads of several that wait for the same core slow all down."""
    host = lambda address: address.rpartition(":")[0]
    here = sum(host(address) == host(cluster.addresses[cluster.index]) for address in cluster.addresses)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    most, chosen = max(1, cores // here), tf.config.threading.get_intra_op_parallelism_threads()
    if here > 1 and "TF_NUM_INTRAOP_THREADS" not in os.environ and not 0 < chosen <= most:
        tf.config.threading.set_intra_op_parallelism_threads(most)


def _meet(cluster, timeout, stderr):
    """Waits until every worker answers at its address. Raises `InputError` where one does not come."""
    port = int(cluster.addresses[cluster.index].rpartition(":")[2])
    try:
        here = socket.create_server(("", port))  # until TensorFlow listens there
    except OSError as error:
        raise InputError(f"{cluster.called(cluster.index)} cannot listen at its port: {error.strerror}. Give it another one.") from error
    with here:
        began = told = time.monotonic()
        missing = [index for index in range(len(cluster.addresses)) if index != cluster.index]
        while missing := [index for index in missing if not _answers(cluster.addresses[index])]:
            waited, names = time.monotonic() - began, ", ".join(map(cluster.called, missing))
            require(waited < timeout, f"{names} did not come within {timeout:g} seconds. Start every worker, or wait longer with --worker-timeout.")
            if time.monotonic() - told > EVERY:
                told = time.monotonic()
                os.write(stderr, f"[worker {cluster.index}] waiting for {names} ({waited:.0f} of {timeout:g} seconds)\n".encode())
            time.sleep(0.2)


def _answers(address):
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=1).close()
        return True
    except OSError:
        return False


def exchange(values):
    """What each process says: int32 `(L,)` -> `(processes, L)`, NumPy."""
    cluster, values = this_cluster(), np.asarray(values, np.int32)
    if not cluster.several:
        return values[np.newaxis]
    strategy = _started["strategy"]
    mine = strategy.experimental_distribute_values_from_function(lambda context: tf.constant(values[np.newaxis]))
    here = strategy.num_replicas_in_sync // len(cluster.addresses)
    return _gather(strategy)(mine).numpy()[::here]


def _gather(strategy):
    return _started.setdefault("gather", tf.function(lambda values: strategy.gather(values, axis=0), autograph=False))


def any_process(flag):
    """Whether the flag is set in any process."""
    return bool(exchange([flag]).any())


def check_alike(facts):
    """Raises `InputError` in every process where one of them has other facts than the chief.

    Args:
        facts: {what: anything that can be written as JSON}, such as {"discount": 0.99}.
    """
    cluster = this_cluster()
    if not cluster.several:
        return
    digest = lambda fact: np.frombuffer(hashlib.sha256(json.dumps(fact, sort_keys=True, default=str).encode()).digest(), np.int32)
    said = exchange(np.concatenate([digest(fact) for fact in facts.values()])).reshape([len(cluster.addresses), len(facts), -1])
    for index, what in np.argwhere((said != said[:1]).any(axis=-1)).tolist():
        raise InputError(f"{cluster.called(index)} differs from the chief in {list(facts)[what]}. Start all workers with the same.")


@contextlib.contextmanager
def plain_losses():
    """Raises TensorFlow's errors of a worker that is gone as `InputError`."""
    try:
        yield
    except LOST as error:
        cluster = this_cluster()
        if not cluster.several or (isinstance(error, tf.errors.InternalError) and "/job:worker" not in str(error)):
            raise
        sys.unraisablehook = lambda *_: None  # as Python ends, TensorFlow's pools complain of the connections that are gone
        found = re.search(r"/job:worker/(?:replica:0/)?task:(\d+)", str(error))
        others = [index for index in range(len(cluster.addresses)) if index != cluster.index]
        named = [int(found[1])] if found and int(found[1]) in others else others
        who = cluster.called(named[0]) if len(named) == 1 else "another worker"
        raise InputError(f"{who} is gone: it was stopped, or ended with an error, which it says itself. Start all workers again, with --resume.") from error


@contextlib.contextmanager
def worker_voice():
    """Of a worker that is not the chief, nothing is printed but when it begins and ends: the chief says the same."""
    cluster = this_cluster()
    if cluster.is_chief:
        yield
        return
    out = sys.stdout
    say = lambda line: print(f"[worker {cluster.index}] {line}", file=out, flush=True)
    say(f"begins with {cluster.called(0)}")
    with open(os.devnull, "w", encoding="utf-8") as nowhere, contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
        yield
    say("has ended")
