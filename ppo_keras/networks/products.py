"""Matrix products of bfloat16: what is multiplied has 16 bits, what is added up has 32."""

import tensorflow as tf
from tensorflow.compiler.tf2xla.python.xla import dot_general
from tensorflow.compiler.xla.xla_data_pb2 import DotDimensionNumbers
from tensorflow.python.ops.control_flow_util import GraphOrParentsInXlaContext


def product(x, y, turned=False, exact=False):
    """x y, or x y^T.

    On CPUs XLA multiplies bfloat16 fast where it may put out float32, three times as fast as float32 and ten times as fast as with sums that
    are rounded; TensorFlow's own kernels are fast where they round. So the result of bfloat16 is float32 under XLA, and bfloat16 in graphs,
    unless it must be `exact`: a logit of 20 that is rounded moves by up to .06.

    Args:
        x: `(..., N, A)`.
        y: `(A, M)`, or `(..., A, M)` with the same first axes; turned: `(M, A)`, `(..., M, A)`.
        turned: multiply by y transposed.
        exact: float32, also in graphs.

    Returns:
        `(..., N, M)`, in the dtype of x and y where that is not bfloat16.
    """
    if x.dtype == y.dtype == tf.bfloat16 and (exact or GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph())):
        return _sums_in_float32(turned)(x, y)
    if x.shape.rank == y.shape.rank:
        return tf.matmul(x, y, transpose_b=turned)
    rows = tf.matmul(tf.reshape(x, [-1, x.shape[-1]]), y, transpose_b=turned)  # one large product, and few operations to trace
    return tf.reshape(rows, [*axes(x)[:-1], rows.shape[-1]])


def axes(x):
    """The shape of a tensor as a list that `tf.reshape` takes: integers, and -1 or scalar tensors for what is known only later."""
    known = x.shape.as_list()
    inferred = known.count(None) < 2 and 0 not in known
    later = [-1] * len(known) if inferred else tf.unstack(tf.shape(x))
    return [unknown if size is None else size for size, unknown in zip(known, later)]


def _sums_in_float32(turned):
    @tf.custom_gradient
    def multiply(x, y):
        batch = list(range(y.shape.rank - 2))  # axes that both have
        rows, last = list(range(len(batch), x.shape.rank - 1)), y.shape.rank - 1
        inner, outer = (last, last - 1) if turned else (last - 1, last)  # axes of y: A, M

        def gradient(upstream):
            upstream = tf.cast(upstream, tf.bfloat16)
            of_x = _dot(upstream, y, [x.shape.rank - 1], [outer], batch)
            of_y = _dot(upstream, x, rows, rows, batch) if turned else _dot(x, upstream, rows, rows, batch)
            return tf.cast(of_x, tf.bfloat16), tf.cast(of_y, tf.bfloat16)

        return _dot(x, y, [x.shape.rank - 1], [inner], batch), gradient

    return multiply


def _dot(x, y, axes_of_x, axes_of_y, batch):
    numbers = DotDimensionNumbers(
        lhs_contracting_dimensions=axes_of_x, rhs_contracting_dimensions=axes_of_y, lhs_batch_dimensions=batch, rhs_batch_dimensions=batch
    )
    return dot_general(x, y, numbers, preferred_element_type=tf.float32)
