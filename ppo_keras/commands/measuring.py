"""What the benchmarks have in common: times, the operations of an iteration, and how fast the machine was meanwhile."""

import os
import time

import numpy as np
import tensorflow as tf

STEADY = 0.1  # by how much a machine's peak may change while something is measured


def time_of(function, repeats):
    """Median seconds of a call, waited for, and its last result."""
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        result = function()
        tf.nest.map_structure(np.asarray, tf.nest.flatten(result)[-1:])
        times.append(time.perf_counter() - began)
    return float(np.median(times)), result


def peak_flops(jit_compile, size=2048, repeats=8):
    """float32 operations a second of a large matrix product, which nothing on this machine exceeds."""
    a = tf.random.stateless_normal([size, size], [1, 2])
    product = tf.function(lambda x: tf.matmul(x, a), jit_compile=jit_compile, autograph=False)
    product(a)
    return max(2 * size**3 / time_of(lambda: product(a), 1)[0] for _ in range(repeats))


def threads():
    """How many TensorFlow computes with: as it was told, by itself or by its variable, or one a core."""
    given = os.environ.get("TF_NUM_INTRAOP_THREADS", "")  # TensorFlow overlooks what is no number
    return tf.config.threading.get_intra_op_parallelism_threads() or int(given if given.isdecimal() else 0) or os.cpu_count()


def matrix_weights(layer):
    """How many weights of a layer are in matrices that multiply; embeddings are looked up."""
    return sum(int(np.prod(v.shape)) for v in layer.variables if len(v.shape) == 2 and "embeddings" not in v.path)


def iteration_flops(policy, reader, epochs, batch, prompt, response):
    """Operations of the matrix products in an iteration: 2 a weight and token forwards, three times that with backwards.

    Attention's own products (about 5 % here) and the embedding look-ups are left out. With adapters the backward pass has no products for
    the gradients of frozen weights: twice the forward pass instead of three times. `reader` is the encoder of a reward model that has one of its own, or None.
    """
    inputs, responses = batch * (prompt + response - 1), batch * response  # the last block's saving on the prompt is left out
    trunk = len(policy._encoders) * matrix_weights(policy.encoder)  # a critic of its own, or with its own adapters, is as large
    head = policy.encoder.embedding.embeddings.shape[0] * policy.encoder.width
    policy_pass = 2 * (trunk * inputs + head * responses)
    reference_pass = 2 * (matrix_weights(policy.encoder) * inputs + head * responses)
    reward_pass = 2 * matrix_weights(reader) * batch * (prompt + response) if reader else 0
    update_passes = 2 if policy.frozen_variables else 3
    return policy_pass * (1 + update_passes * epochs) + reference_pass + reward_pass


def steady_peak(before, after):
    """The mean of two `peak_flops`, and a line that says both; one more where the machine was not the same throughout."""
    print(f"peak of matrix products: {before / 1e9:,.0f} GFLOP/s before, {after / 1e9:,.0f} after")
    change = after / before - 1
    if abs(change) > STEADY:
        way = "faster" if change > 0 else "slower"
        print(f"The machine became {abs(change):.0%} {way} meanwhile: the times are uncertain. Close what else is running, and measure again.")
    return (before + after) / 2
