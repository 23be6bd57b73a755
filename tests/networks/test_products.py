"""`ppo_keras.networks.products`: bfloat16 against float64 NumPy, in every mode."""

import numpy as np
import pytest
import tensorflow as tf

from helpers import assert_close
from ppo_keras.networks.products import product


def numbers(shape, seed):
    """Numbers that bfloat16 holds exactly: the tensor, and the same as float64."""
    tensor = tf.cast(tf.random.stateless_normal(shape, [seed, 0]), tf.bfloat16)
    return tensor, tf.cast(tensor, tf.float64).numpy()


@pytest.mark.parametrize("mode", ["eager", "graph", "xla"])
@pytest.mark.parametrize(
    "x_shape, y_shape, turned",
    [((5, 70), (70, 3), False), ((2, 5, 70), (3, 70), True), ((2, 3, 5, 70), (2, 3, 70, 4), False), ((2, 3, 5, 70), (2, 3, 4, 70), True)],
)
def test_products_of_bfloat16_are_added_up_in_float32(x_shape, y_shape, turned, mode):
    """Catches: a sum that is rounded to 8 bits, axes of a gradient that are swapped, a batch axis that is added up."""
    (x, exact_x), (y, exact_y) = numbers(x_shape, 1), numbers(y_shape, 2)
    upstream, exact_upstream = numbers((*x_shape[:-1], y_shape[-2 if turned else -1]), 3)

    def compute():
        with tf.GradientTape() as tape:
            tape.watch([x, y])
            result = product(x, y, turned, exact=True)
        return result, *tape.gradient(result, [x, y], tf.cast(upstream, tf.float32))

    run = compute if mode == "eager" else tf.function(compute, jit_compile=mode == "xla", autograph=False)
    result, of_x, of_y = run()
    assert result.dtype == tf.float32 and of_x.dtype == of_y.dtype == tf.bfloat16
    transposed = np.swapaxes(exact_y, -1, -2)
    assert_close(result, exact_x @ (transposed if turned else exact_y), rtol=1e-5, atol=1e-5)
    assert_close(tf.cast(of_x, tf.float32), exact_upstream @ (exact_y if turned else transposed), rtol=2**-8, atol=1e-5)
    flat = (lambda a: a.reshape(-1, a.shape[-1])) if len(y_shape) == 2 else (lambda a: a)
    one, other = (flat(exact_upstream), flat(exact_x)) if turned else (flat(exact_x), flat(exact_upstream))
    assert_close(tf.cast(of_y, tf.float32), np.swapaxes(one, -1, -2) @ other, rtol=2**-8, atol=1e-5)


def test_what_is_compiled_is_told_from_a_graph():
    """Catches: the slow kernel of each: rounded sums under XLA, and a compilation for each product of a graph."""
    x, y = numbers((4, 8), 1)[0], numbers((8, 2), 2)[0]
    dtypes = [tf.function(lambda: product(x, y), jit_compile=jit, autograph=False)().dtype for jit in (True, False)]
    assert dtypes == [tf.float32, tf.bfloat16] and product(x, y).dtype == tf.bfloat16
    whole = tf.cast(x, tf.float32), tf.cast(y, tf.float32)
    assert product(*whole, exact=True).dtype == tf.float32


@pytest.mark.parametrize("unknown", [(), (0,), (0, 1)])
@pytest.mark.parametrize("turned", [False, True])
def test_a_product_of_many_rows_keeps_their_axes(unknown, turned):
    """Catches: rows of a batch of unknown size put out as one long list, or in another order."""
    x, y = tf.random.stateless_normal([2, 3, 4], [1, 0]), tf.random.stateless_normal([5, 4] if turned else [4, 5], [2, 0])
    given = tf.TensorSpec([None if axis in unknown else size for axis, size in enumerate(x.shape)])
    compiled = tf.function(lambda x: product(x, y, turned), input_signature=[given], autograph=False)
    result = compiled(x)
    assert compiled.get_concrete_function().output_shapes.as_list() == [*given.shape.as_list()[:2], 5]
    assert_close(result, np.einsum("bta,ma->btm" if turned else "bta,am->btm", x.numpy().astype(np.float64), y.numpy()))


def test_a_product_of_nothing_keeps_its_axes():
    """Catches: the size of a batch lost beside an axis of no steps."""
    compiled = tf.function(lambda x: product(x, tf.ones([4, 5])), input_signature=[tf.TensorSpec([None, 0, 4])], autograph=False)
    assert compiled(tf.ones([2, 0, 4])).shape == (2, 0, 5)
