"""`ppo_keras.trajectory`: parts of a nest of sequences are rows of each tensor in it."""

import numpy as np
import pytest
import tensorflow as tf

from helpers import assert_all_close, random_trajectory
from ppo_keras.trajectory import (
    Shelf,
    single_steps,
    slice_sequences,
    take_sequences,
)


def nest():
    """A trajectory with a memory that has a clock, rows of two more axes, and masks of actions."""
    state = ({"keys": tf.reshape(tf.range(48.0), [8, 3, 2]), "time": tf.constant(7), "episode": tf.range(8)},)
    masks = tf.constant(np.random.default_rng(0).random([8, 5, 6]) < 0.5)
    return random_trajectory()._replace(initial_state=state, action_masks=masks)


def rows(nest, indices):
    """What is expected: NumPy rows of everything but scalars."""
    return tf.nest.map_structure(lambda x: x.numpy() if x.shape.rank == 0 else x.numpy()[indices], nest)


@pytest.mark.parametrize("indices", [[5], [7, 0, 3], [2, 2]])
def test_taken_sequences_are_rows(indices):
    """Catches: a field (the memory, the masks of actions) that is not taken along, another axis, or a clock that is indexed."""
    assert_all_close(take_sequences(nest(), tf.constant(indices)), rows(nest(), indices), rtol=0, atol=0)


@pytest.mark.parametrize("first, count", [(0, 8), (0, 1), (3, 2), (6, 2)])
@pytest.mark.parametrize("jit_compile", [None, False, True], ids=["eager", "graph", "jit"])
def test_a_slice_is_consecutive_rows(first, count, jit_compile):
    """Catches: `first` that is taken for a number of slices, the end for the count, or a slice that is fixed when a loop is traced."""
    cut = lambda nest, first: slice_sequences(nest, first, count)
    cut = cut if jit_compile is None else tf.function(cut, jit_compile=jit_compile)
    assert_all_close(cut(nest(), tf.constant(first)), rows(nest(), slice(first, first + count)), rtol=0, atol=0)


def test_single_steps_are_sequences_of_one_step():
    """Catches: time before batch in the order of steps, or an axis of a step (observation, choices, masks) that is flattened too."""
    batch, steps = 3, 4
    tag = tf.reshape(tf.range(12.0), [batch, steps])  # 4 b + t
    trajectory = random_trajectory(batch, steps)._replace(
        inputs=tag[:, :, tf.newaxis, tf.newaxis] + tf.reshape(tf.range(6.0), [2, 3]) / 10, actions=tf.stack([tag, -tag], -1), starts=tag, initial_state=((), ())
    )
    single = single_steps(trajectory)
    assert single.context == 0 and single.initial_state == ((), ()) and single.action_masks == ()
    assert single.inputs.shape == (12, 1, 2, 3) and single.actions.shape == (12, 1, 2) and single.rewards.shape == (12, 1)
    for b in range(batch):
        for t in range(steps):
            own = tf.nest.map_structure(lambda x: x[steps * b + t, 0], single)
            assert_all_close(own, tf.nest.map_structure(lambda x: x[b, t], trajectory), rtol=0, atol=0)


@pytest.mark.parametrize("context", [0, 3])
def test_context_is_what_was_read_before_the_first_action(context):
    """Catches: a context counted from axes of the observation or of the actions."""
    trajectory = random_trajectory()._replace(inputs=tf.zeros([8, context + 5, 4]), actions=tf.zeros([8, 5, 2]))
    assert trajectory.context == context


@pytest.mark.parametrize("jit", [False, True])
def test_a_shelf_holds_what_was_put_last(jit):
    """Catches: what was put first, a second trace for the variables, a batch of another shape that cannot be put or breaks the first."""
    shelf, traces = Shelf(), []

    def put(x):
        traces.append(1)
        shelf.put((x + 1.0, ()))

    compiled = tf.function(put, jit_compile=jit, autograph=False)
    for value in (1.0, 2.0):
        compiled(tf.fill([3], value))
        np.testing.assert_array_equal(shelf.content[0], [value + 1.0] * 3)
    assert len(traces) == 1
    compiled(tf.zeros([2]))
    np.testing.assert_array_equal(shelf.content[0], [1.0, 1.0])
    compiled(tf.zeros([3]))  # not traced again: it still finds its variables


def test_a_shelf_keeps_types_apart():
    """Catches: a batch of the same shapes and other types that cannot be put, or becomes the first one's type."""
    shelf = Shelf()
    for dtype in (tf.float32, tf.int32):
        shelf.put((tf.ones([2], dtype),))
        assert shelf.content[0].dtype == dtype


def test_a_shelf_turns_to_the_batch_that_was_put_last():
    """Catches: histograms of an older batch of another width, where a step that was traced already is called again."""
    shelf = Shelf()
    put = tf.function(lambda x, y: shelf.put((x, y)), autograph=False)
    for width, value in ((3, 1.0), (2, 2.0), (3, 4.0)):
        put(tf.fill([width], value), tf.zeros([]))
        shelf.turn_to((tf.zeros([width]),))
        np.testing.assert_array_equal(shelf.content[0], [value] * width)
    before = shelf.content
    shelf.turn_to((tf.zeros([7]),))
    assert shelf.content is before
