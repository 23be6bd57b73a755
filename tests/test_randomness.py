"""`ppo_keras.randomness`: explicit seeds, and the same numbers eager, in a graph and under XLA."""

import numpy as np
import pytest
import tensorflow as tf

from ppo_keras import randomness
from ppo_keras.randomness import Dropout, categorical, fold_in, permutation, philox, uniform

SEED = tf.constant([3, 4])


def in_every_mode(function, *inputs):
    """The result eager, as a graph, and compiled by XLA."""
    return [np.asarray(f(*inputs)) for f in (function, tf.function(function), tf.function(function, jit_compile=True))]


@pytest.mark.parametrize(
    "draw",
    [
        lambda seed: uniform([7, 5], seed),
        lambda seed: categorical(tf.reshape(tf.range(35, dtype=tf.float32), [7, 5]) % 3, seed),
        lambda seed: permutation(16, seed),
        lambda seed: fold_in(seed, 5),
    ],
    ids=["uniform", "categorical", "permutation", "fold_in"],
)
def test_draws_are_equal_in_every_mode(draw):
    """Catches: floats of `tf.random.stateless_uniform`, which differ between XLA and the other modes."""
    eager, graph, compiled = in_every_mode(draw, SEED)
    np.testing.assert_array_equal(eager, graph)
    np.testing.assert_array_equal(eager, compiled)


@pytest.mark.parametrize("dtype", [tf.int32, tf.uint32])
@pytest.mark.parametrize("seed", [(0, 0), (3, 4), (-1, 2**31 - 1)])
def test_bits_are_those_of_tensorflow(seed, dtype):
    """Catches: a seed that is scrambled otherwise, so that neighbouring seeds would share a stream, or another run would have been drawn."""
    for shape in ([], [5], [2, 3]):
        expected = tf.random.stateless_uniform(shape, seed, minval=None, maxval=None, dtype=dtype, alg="philox")
        for drawn in in_every_mode(lambda seed, shape=shape: philox(shape, seed, dtype), tf.constant(seed)):
            np.testing.assert_array_equal(drawn, expected)
    np.testing.assert_array_equal(fold_in(tf.constant(seed), 9), tf.random.fold_in(seed, 9, alg="philox"))


def test_uniform_lies_inside_the_open_interval():
    """Catches: draws outside (0, 1), or not evenly spread (mean 1/2, variance 1/12)."""
    draws = uniform([20_000], SEED).numpy().astype(np.float64)
    assert 0 < draws.min() and draws.max() < 1
    assert abs(draws.mean() - 0.5) < 4 / np.sqrt(12 * 20_000)
    assert abs(draws.var() - 1 / 12) < 0.002


@pytest.mark.parametrize("bits", [0, 2**32 - 1])
def test_the_extreme_uniforms_are_neither_0_nor_1(monkeypatch, bits):
    """Catches: rounding of the smallest bits to 0 or of the largest to 1 (16777215.5 is no float32), against the docstring."""
    monkeypatch.setattr(randomness, "philox", lambda shape, *_: tf.fill(shape, tf.constant(bits, tf.uint32)))
    draw = uniform([1], SEED)
    assert 0 < draw[0] < 1


@pytest.mark.parametrize("bits", [0, 2**32 - 1])
def test_the_extreme_draws_are_possible_tokens(monkeypatch, bits):
    """Catches: a first or last token of probability 0 (or an index beyond the last) drawn at the ends of the interval."""
    monkeypatch.setattr(randomness, "philox", lambda shape, *_: tf.fill(shape, tf.constant(bits, tf.uint32)))
    logits = tf.constant([[-np.inf, 0.0, 1.0, -np.inf], [0.3, -np.inf, -np.inf, 0.1]])
    drawn = categorical(logits, SEED)
    assert np.all((drawn >= 0) & (drawn < 4)) and np.all(np.isfinite(tf.gather(logits, drawn, batch_dims=1)))


def test_counters_and_seeds_name_different_draws():
    """Catches: `fold_in` that ignores its counter or half of its seed, so that steps repeat the same noise."""
    seeds = {tuple(fold_in(tf.constant(seed), counter).numpy()) for seed in ([3, 4], [3, 5], [4, 4]) for counter in range(20)}
    assert len(seeds) == 60
    np.testing.assert_array_equal(fold_in(SEED, 7), fold_in(SEED, tf.constant(7)))


def test_categorical_follows_softmax():
    """Catches: an inverted or shifted distribution (frequencies off by more than four standard errors)."""
    logits = np.array([1.0, 0.0, -1.0, 2.0, -np.inf], np.float32)
    count = 40_000
    draws = categorical(tf.constant(np.tile(logits, [count, 1])), SEED).numpy()
    probabilities = np.exp(logits) / np.exp(logits).sum()
    frequencies = np.bincount(draws, minlength=5) / count
    assert np.all(np.abs(frequencies - probabilities) <= 4 * np.sqrt(probabilities * (1 - probabilities) / count))
    assert draws.dtype == np.int32


def test_rows_are_independent():
    """Catches: one draw of noise broadcast over the batch."""
    draws = categorical(tf.zeros([500, 10]), SEED).numpy()
    assert np.all(np.bincount(draws, minlength=10) > 20)


def test_permutation_holds_each_index_once():
    """Catches: sampling with replacement, and an order that does not depend on the seed."""
    orders = {tuple(permutation(16, fold_in(SEED, i)).numpy()) for i in range(10)}
    assert len(orders) == 10 and all(sorted(order) == list(range(16)) for order in orders)


@pytest.mark.parametrize("rate", [0.25, 0.1])
def test_dropout_keeps_the_mean(rate):
    """Catches: kept entries that are not scaled by 1 / (1 - rate), the rate exchanged with its complement, or dropout at inference."""
    layer, ones = Dropout(rate, seed=1), tf.ones([200, 100])
    dropped = layer(ones, training=True).numpy()
    exact = round(rate * 2**16) / 2**16
    np.testing.assert_allclose(np.unique(dropped), [0, 1 / (1 - exact)], rtol=1e-6)
    assert abs(exact - rate) < 2**-16 and abs(np.mean(dropped == 0) - rate) < 4 * np.sqrt(rate * (1 - rate) / ones.shape.num_elements())
    np.testing.assert_array_equal(layer(ones), ones)
    assert np.any(layer(ones, training=True) != dropped)


def test_both_halves_of_a_draw_drop_alone():
    """Catches: two numbers that share a draw and are kept or dropped together, a half that is not random."""
    dropped = Dropout(0.5)(tf.ones([2000, 2]), training=True, seed=SEED).numpy() == 0
    assert np.all(np.abs(dropped.mean(axis=0) - 0.5) < 4 * 0.5 / np.sqrt(2000))
    assert abs(np.mean(dropped[:, 0] == dropped[:, 1]) - 0.5) < 4 * 0.5 / np.sqrt(2000)


@pytest.mark.parametrize("shape", [[6, 4], [3, 2, 5], [7], [2, 1]])
def test_dropout_is_the_same_in_every_mode(shape):
    """Catches: a width that is odd, of which a number is left out or drawn with its neighbour; draws of XLA that are others."""
    layer, inputs = Dropout(0.3), tf.random.stateless_normal(shape, SEED)
    eager, graph, compiled = in_every_mode(lambda x: layer(x, training=True, seed=SEED), inputs)
    assert list(eager.shape) == shape
    np.testing.assert_array_equal(eager, graph)
    np.testing.assert_array_equal(eager, compiled)


def test_a_dropped_number_is_not_read():
    """Catches: a product with 0, which leaves NaN where an infinity was dropped; a rate so near 1 that the limit overflows."""
    dropped = Dropout(0.999999)(tf.fill([50, 4], np.inf), training=True, seed=SEED).numpy()
    assert set(np.unique(dropped)) <= {0.0, np.inf} and np.mean(dropped == 0) > 0.95


@pytest.mark.parametrize("shape", [None, [None], []])
def test_dropout_needs_a_known_width(shape):
    """Catches: a TypeError of Python's that does not say what was expected."""
    function = tf.function(lambda x: Dropout(0.5)(x, training=True), input_signature=[tf.TensorSpec(shape)])
    with pytest.raises(ValueError, match="Let the size of their last axis be known"):
        function(tf.ones([] if shape == [] else [3]))
