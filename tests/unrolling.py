"""What the tests of networks share: tokens with resets, and acting step by step; nothing here is a test."""

import functools

import numpy as np
import pytest
import tensorflow as tf

from helpers import NETWORKS, VOCABULARY

BATCH, STEPS = 3, 8
TOKENS = tf.constant(np.random.default_rng(1).integers(0, VOCABULARY, [BATCH, STEPS]), tf.int32)
STARTS = tf.constant([[1, 0, 0, 0, 0, 0, 0, 0], [0, 0, 1, 0, 0, 1, 0, 0], [0, 0, 0, 0, 1, 1, 0, 0]], tf.float32)  # padding, resets in the middle
PARTS = [pytest.param(network, shared, id=f"{network}-{'shared' if shared else 'separate'}") for network in NETWORKS for shared in (True, False)]
every_policy = pytest.mark.parametrize("network, shared", PARTS)
every_network = pytest.mark.parametrize("network", NETWORKS)


GRAPHS = {}  # of the steps of policies that several tests look at


@functools.cache
def built_once(make, *args, **settings):
    """What `tiny_policy` or another maker makes, for tests that only look at it."""
    policy = make(*args, **settings)
    GRAPHS[id(policy)] = tf.function(policy.step, autograph=False)
    return policy


def unroll(policy, tokens, starts=None, state=None):
    """Logits `(B, T, V)`, values `(B, T)` and the last state, by `step` after `step`."""
    step = GRAPHS.get(id(policy), policy.step)
    state = policy.initial_state(tokens.shape[0]) if state is None else state
    logits, values = [], []
    for t in range(tokens.shape[1]):
        step_logits, step_values, state = step(tokens[:, t], state, None if starts is None else starts[:, t])
        logits.append(step_logits)
        values.append(step_values)
    return (tf.stack(logits, 1), tf.stack(values, 1)), state
