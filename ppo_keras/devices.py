"""Where a learner computes: on one device, or on several that share each batch by `tf.distribute`, here or on many machines.

Every device holds all variables. What belongs to each row of a batch (writing, acting, scoring, gradients) is computed on the device
whose share it is; what belongs to the whole batch (whitened advantages, the KL for the controller, metrics, the norm of the gradient,
the optimizer's step) is computed of the whole. So the numbers are those of one device, and a state that was saved on some number of
devices goes on on any other.
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from ppo_keras.errors import require
from ppo_keras.trajectory import slice_sequences

PACK = 2**24  # numbers that are added up over devices in one message, where no single array has more


class Share(NamedTuple):
    """Which rows of each batch are computed here: part `index` (an int or an int32 scalar) of `count` equal ones."""

    index: int
    count: int

    def of(self, nest):
        """These rows of a nest of batch-first tensors; scalars belong to all rows and stay."""
        if self.count == 1:
            return nest
        size = next(x.shape[0] for x in tf.nest.flatten(nest) if x.shape.rank) // self.count
        return slice_sequences(nest, self.index * size, size)


WHOLE = Share(0, 1)


class Devices:
    """The devices of the `tf.distribute` strategy in whose scope it is made; outside of any, the one that TensorFlow chooses.

    Keras would have a model's `distribute_strategy` share each batch out and run each step. This stands there in its place: batches come
    whole, and a step itself says what its devices share.
    """

    def __init__(self):
        self.strategy = tf.distribute.get_strategy() if tf.distribute.has_strategy() else None
        self.count = self.strategy.num_replicas_in_sync if self.strategy else 1

    def experimental_distribute_dataset(self, dataset):
        """Keras's wish for the data of `fit`: as they are."""
        return dataset

    def run(self, step, args):
        """Keras's wish for a step: as it is."""
        return step(*args)

    def scope(self):
        """The strategy's: what is built in it, variables and optimizers, is on every device."""
        return (self.strategy or tf.distribute.get_strategy()).scope()

    def check_outside(self):
        """Raises `InputError` in the scope of a strategy, where no optimizer steps."""
        require(not tf.distribute.has_strategy(), "fit was called inside strategy.scope(). Build and compile there, and call fit after the with block.")

    def gathered(self, function, wrap):
        """A function of whole batches that computes `function(share, *nests)` on every device.

        Args:
            function: returns a nest of its rows: batch-first tensors, scalars that are the same on all devices, or None.
            wrap: compiles a function for one device; the identity: nothing is compiled.

        Returns:
            A function of `nests` that returns that nest for all rows, in their order.
        """
        if self.count == 1:
            return wrap(lambda *nests: function(WHOLE, *nests))
        structure = []

        def part(index, *nests):
            rows = function(Share(index, self.count), *nests)
            structure[:] = [rows]
            return pack(rows)

        on_each = self._on_each(wrap(part))
        return self.in_graph(lambda *nests: unpack(self.strategy.gather(on_each(*nests), axis=0), structure[0]), wrap)

    def summed(self, function, wrap):
        """A function of whole batches: the sum over devices of what `function(share, *nests)` gives, a nest of float32 tensors.

        Args: see `gathered`.
        """
        if self.count == 1:
            return lambda *nests: function(WHOLE, *nests)
        structure = []

        def part(index, *nests):
            terms = function(Share(index, self.count), *nests)
            structure[:] = [terms]
            return join_numbers(tf.nest.flatten(terms))

        on_each = self._on_each(wrap(part))

        def total(*nests):
            packs = [self.strategy.reduce("SUM", numbers, axis=None) for numbers in on_each(*nests)]
            return tf.nest.pack_sequence_as(structure[0], split_numbers(packs, tf.nest.flatten(structure[0])))

        return self.in_graph(total, wrap)

    def of_workers(self, values):
        """Puts together what each machine has computed of its share of a batch: NumPy float32 `(B / machines, ...)` -> `(B, ...)`."""
        if self.machines.count == 1:
            return values
        here = self.strategy.extended._num_replicas_in_sync // self.machines.count
        parts = np.split(values, here)
        local = self.strategy.experimental_distribute_values_from_function(lambda context: parts[context.replica_id_in_sync_group % here])
        return self.strategy.gather(local, axis=0).numpy()

    @property
    def machines(self):
        """The `Share` of this machine, where a strategy has several."""
        resolver = getattr(self.strategy, "cluster_resolver", None)
        spec = resolver.cluster_spec().as_dict() if resolver else {}
        count = sum(map(len, spec.values()))
        return Share(resolver.task_id or 0, count) if count > 1 else WHOLE

    def _on_each(self, part):
        """Runs a function of (index of the device, nests) on every device. Returns what `tf.distribute` calls a distributed value."""

        def run(*nests):
            here = lambda: tf.distribute.get_replica_context().replica_id_in_sync_group
            return self.strategy.run(lambda *nests: part(here(), *nests), args=nests)

        return run

    def in_graph(self, function, wrap):
        """A function of whole batches that uses several devices, or changes variables of all, which XLA cannot: a graph, in which they compute at once.

        On one device `wrap(function)`; as it is where nothing is compiled.
        """
        compiled = wrap(function)
        return compiled if self.count == 1 or compiled is function else tf.function(function, autograph=False)


def pack(rows):
    """A nest of batch-first tensors as one int32 matrix, so that one message carries it: `(B, ...)` each -> `(B, K)`. Bits are kept."""
    leaves = [x for x in tf.nest.flatten(rows) if x is not None]
    count = next(x.shape[0] for x in leaves if x.shape.rank)
    return tf.concat([tf.reshape(_bits(x if x.shape.rank else tf.repeat(x, count)), [count, -1]) for x in leaves], axis=1)


def unpack(matrix, structure):
    """What `pack` took, for as many rows as the matrix has; `structure` is a nest like it, of any number of rows."""
    leaves, first = [], 0
    for like in tf.nest.flatten(structure):
        if like is None:
            leaves.append(None)
            continue
        shape = like.shape[1:] if like.shape.rank else []
        width = int(np.prod(shape, dtype=int))
        numbers = _numbers(matrix[:, first : first + width], like.dtype)
        leaves.append(tf.reshape(numbers, [-1, *shape]) if like.shape.rank else numbers[0, 0])
        first += width
    rows = matrix.shape[0]
    return tf.nest.pack_sequence_as(structure, [x if x is None or not x.shape.rank else tf.ensure_shape(x, [rows, *x.shape[1:]]) for x in leaves])


def _bits(x):
    if x.dtype == tf.float32:
        return tf.bitcast(x, tf.int32)
    return _bits(tf.cast(x, tf.float32)) if x.dtype.is_floating else tf.cast(x, tf.int32)


def _numbers(bits, dtype):
    return tf.cast(tf.bitcast(bits, tf.float32), dtype) if dtype.is_floating else tf.cast(bits, dtype)


def join_numbers(arrays):
    """float32 arrays as a list of vectors of `PACK` numbers or a little more each."""
    packs, size = [[]], 0
    for array in arrays:
        count = array.shape.num_elements()
        if packs[-1] and size + count > PACK:
            packs.append([])
            size = 0
        packs[-1].append(tf.reshape(array, [-1]))
        size += count
    return [tf.concat(some, axis=0) for some in packs]


def split_numbers(packs, like):
    """What `join_numbers` took."""
    counts, arrays, packs = [x.shape.num_elements() for x in like], [], list(packs)
    for vector in packs:
        first = 0
        while len(arrays) < len(like) and first < vector.shape[0]:
            count = counts[len(arrays)]
            arrays.append(tf.reshape(vector[first : first + count], like[len(arrays)].shape))
            first += count
    return arrays
