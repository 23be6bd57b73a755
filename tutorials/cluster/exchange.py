"""What the exchange of gradients costs, measured between processes of this machine, and what follows for many devices.

    python tutorials/cluster/exchange.py

The first table is measured: the time in which two processes add up vectors, by TensorFlow's collective operations over TCP, and the line
(a + b * bytes) through it. The second computes from sizes alone how long an exchange takes where the wires are those named below: a ring of
N devices sends 2 (N - 1) / N of the bytes over each wire in 2 (N - 1) messages (Patarasuk and Yuan 2009). An efficiency is the share of a step
that is not waiting, where nothing is exchanged while another part still computes, as in this package.
"""

import json
import os
import subprocess
import sys
import time

import numpy as np

SIZES = (1_000, 10_000, 100_000, 1_000_000, 4_000_000)  # numbers of 4 bytes
REPETITIONS = 15
WIRES = {"8 GPUs, NVLink (300 GB/s)": (8, 300e9, 5e-6), "64 workers, 100 Gbit/s": (64, 12.5e9, 2e-5), "64 workers, 10 Gbit/s": (64, 1.25e9, 5e-5)}


def adapters(layers, width, keys, rank=8):
    """Numbers of adapters on the attention of a Transformer whose keys and values are `keys` wide."""
    return rank * layers * (4 * width + 2 * (width + keys))


MODELS = {  # numbers that are exchanged in a step, and multiplications and additions of a step for each device
    "135M, all weights": (134.5e6, 6 * 134.5e6),
    "135M, adapters of rank 8": (adapters(30, 576, 192), 4 * 134.5e6),
    "1B, all weights": (1.24e9, 6 * 1.24e9),
    "1B, adapters of rank 8": (adapters(16, 2048, 512), 4 * 1.24e9),
}
TOKENS, PEAK, USED = 64 * 192, 400e12, 0.4  # of a minibatch of one device; a card's bfloat16 operations a second, and what share an update uses


def worker(index, ports):
    """Measures as one of two processes; the first prints seconds by size."""
    cluster = {"worker": [f"127.0.0.1:{port}" for port in ports]}
    os.environ["TF_CONFIG"] = json.dumps({"cluster": cluster, "task": {"type": "worker", "index": index}})
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    add = tf.function(lambda numbers: strategy.reduce("SUM", numbers, axis=None), autograph=False)
    found = {}
    for size in SIZES:
        numbers, seconds = tf.ones([size]), []
        for _ in range(REPETITIONS):
            began = time.perf_counter()
            total = add(numbers)
            seconds.append(time.perf_counter() - began)
        assert float(total[0]) == 2.0
        found[size] = float(np.median(seconds))
    if index == 0:
        print(json.dumps(found))


def measure():
    """{numbers: seconds} between two processes."""
    import socket

    with socket.socket() as one, socket.socket() as other:
        ports = [end.bind(("127.0.0.1", 0)) or end.getsockname()[1] for end in (one, other)]
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}
    start = lambda index: subprocess.Popen([sys.executable, __file__, str(index), *map(str, ports)], stdout=subprocess.PIPE, env=environment, text=True)
    processes = [start(index) for index in range(2)]
    printed = [process.communicate()[0] for process in processes]
    return {int(size): seconds for size, seconds in json.loads(printed[0].splitlines()[-1]).items()}


def line_through(seconds):
    """Latency in seconds and bytes a second: least squares of relative errors."""
    size, time_of = np.array(list(seconds), float) * 4, np.array(list(seconds.values()))
    (latency, per_byte), *_ = np.linalg.lstsq(np.stack([np.ones_like(size), size], axis=1) / time_of[:, np.newaxis], np.ones_like(size), rcond=None)
    return max(latency, 0.0), 1 / per_byte


def ring(devices, size, bandwidth, latency):
    """Seconds in which a ring adds up vectors of `size` bytes."""
    return 2 * (devices - 1) * (latency + size / devices / bandwidth)


def main():
    """Prints both tables."""
    seconds = measure()
    latency, bandwidth = line_through(seconds)
    print("numbers    milliseconds (median)    of the line")
    for size, found in seconds.items():
        print(f"{size:9,d} {1e3 * found:16.2f} {1e3 * (latency + 4 * size / bandwidth):16.2f}")
    print(f"between two processes here: {1e3 * latency:.2f} ms and {bandwidth / 1e9:.2f} GB/s\n")
    print(f"{'model':26} {'devices and wires':28} {'exchange, ms':>12} {'computing, ms':>14} {'efficiency':>11}")
    for model, (numbers, operations) in MODELS.items():
        computing = operations * TOKENS / (PEAK * USED)
        for name, (devices, wire, delay) in WIRES.items():
            exchange = ring(devices, 4 * numbers, wire, delay)
            print(f"{model:26} {name:28} {1e3 * exchange:12.2f} {1e3 * computing:14.1f} {computing / (computing + exchange):11.0%}")


if __name__ == "__main__":
    worker(int(sys.argv[1]), sys.argv[2:]) if len(sys.argv) > 1 else main()
