"""Where a model computes: on one device, or on several that share each batch by `tf.distribute`, here or on many machines.

Every device holds all variables. What belongs to a row of a batch (writing, acting, scoring, gradients) is computed on the device
whose share it is; what belongs to the whole batch (whitened advantages, the KL for the controller, metrics, the norm of the gradient,
the optimizer's step) is computed of the whole. So the numbers are those of one device, and a state that was saved on some number of
devices goes on on any other.
"""

from typing import NamedTuple

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
    """The devices of a `tf.distribute` strategy, by default that in whose scope it is made; without one that which TensorFlow chooses.

    Keras would have a model's `distribute_strategy` share each batch out and run each step. This stands there in its place: batches come
    whole, and a step itself says what its devices share.
    """

    def __init__(self, strategy=None):
        self.strategy = strategy or (tf.distribute.get_strategy() if tf.distribute.has_strategy() else None)
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

    def check_owns(self, policy):
        """Raises `InputError` where a policy was built in another scope."""
        require(
            _strategy_of(policy) is self.strategy,
            "the policy and its learner were built in different scopes of tf.distribute. Build both inside the same strategy.scope().",
        )

    def check_outside(self):
        """Raises `InputError` in the scope of a strategy, where no optimizer steps."""
        require(not tf.distribute.has_strategy(), "fit was called inside strategy.scope(). Build and compile there, and call fit after the with block.")

    def check_batch(self, size, called):
        """Raises `InputError` where a number of rows is not to be shared equally."""
        require(
            size % self.count == 0,
            f"{called}={size} is not to be shared by {self.count} devices. Use a multiple of {self.count}, such as {-(-size // self.count) * self.count}.",
        )

    def on_shares(self, function, wrap):
        """A function of whole batches that is computed on every device, of its rows.

        Args:
            function: of (share, nests), to (rows, terms). Rows are a nest of batch-first tensors (or scalars that are the same on all
                devices, or None), those of all devices are put together in their order; terms a nest of float32 tensors, which are
                added up. Either may be ().
            wrap: compiles a function for one device; the identity compiles nothing.

        Returns:
            A function of the nests that returns (rows, terms) of the whole batches.
        """
        if self.count == 1:

            def whole(*nests):
                return function(WHOLE, *nests)

            whole.__name__ = function.__name__.removeprefix("share_of_")  # what the profiler calls it
            return wrap(whole)
        structure = []

        def part(index, *nests):
            rows, terms = structure[:] = function(Share(index, self.count), *nests)
            return pack(rows), join_numbers(tf.nest.flatten(terms))

        compiled = wrap(part)

        def on_each(*nests):
            here = lambda *nests: compiled(tf.distribute.get_replica_context().replica_id_in_sync_group, *nests)
            rows, terms = self.strategy.run(here, args=nests)
            rows = () if isinstance(rows, tuple) else unpack(self.strategy.gather(rows, axis=0), structure[0], self.count)
            totals = split_numbers([self.strategy.reduce("SUM", numbers, axis=None) for numbers in terms], tf.nest.flatten(structure[1]))
            return rows, tf.nest.pack_sequence_as(structure[1], totals)

        return self.in_graph(on_each, wrap)

    def in_graph(self, function, wrap):
        """A function of whole batches that uses several devices, or changes variables of all, which XLA cannot: a graph, in which they compute at once.

        On one device `wrap(function)`; as it is where nothing is compiled.
        """
        compiled = wrap(function)
        return compiled if self.count == 1 or compiled is function else tf.function(function, autograph=False)


def devices_of(model):
    """The `Devices` that hold the variables of a model."""
    return Devices(_strategy_of(model))


def _strategy_of(model):
    values = [variable.value for variable in model.variables[:1]]
    return next((value.distribute_strategy for value in values if isinstance(value, tf.distribute.DistributedValues)), None)


def pack(rows):
    """A nest of batch-first tensors as one int32 matrix, so that one message carries it: `(B, ...)` each -> `(B, K)`. Bits are kept; of nothing ()."""
    leaves = [x for x in tf.nest.flatten(rows) if x is not None]
    if not leaves:
        return ()
    count = next(x.shape[0] for x in leaves if x.shape.rank)
    return tf.concat([tf.reshape(_bits(x if x.shape.rank else tf.repeat(x, count)), [count, -1]) for x in leaves], axis=1)


def unpack(matrix, structure, devices):
    """What `pack` took on several devices, their matrices below each other; `structure` is a nest like that of one device."""
    leaves, first = [], 0
    for like in tf.nest.flatten(structure):
        if like is None:
            leaves.append(None)
            continue
        shape = like.shape[1:] if like.shape.rank else tf.TensorShape([])
        numbers = _numbers(matrix[:, first : first + shape.num_elements()], like.dtype)
        first += shape.num_elements()
        leaves.append(tf.reshape(numbers, [like.shape[0] * devices, *shape]) if like.shape.rank else numbers[0, 0])
    return tf.nest.pack_sequence_as(structure, leaves)


def _bits(x):
    if x.dtype == tf.float32:
        return tf.bitcast(x, tf.int32)
    return _bits(tf.cast(x, tf.float32)) if x.dtype.is_floating else tf.cast(x, tf.int32)


def _numbers(bits, dtype):
    return tf.cast(tf.bitcast(bits, tf.float32), dtype) if dtype.is_floating else tf.cast(bits, dtype)


def join_numbers(arrays):
    """float32 arrays as a list of vectors, of at most `PACK` numbers each where no single array has more."""
    packs, size = [], PACK
    for array in arrays:
        count = array.shape.num_elements()
        if size + count > PACK:
            packs, size = [*packs, []], 0
        packs[-1].append(tf.reshape(array, [-1]))
        size += count
    return [tf.concat(some, axis=0) for some in packs]


def split_numbers(vectors, like):
    """What `join_numbers` took; `like` are arrays of the same shapes."""
    arrays, vectors, first = [], list(vectors), 0
    for one in like:
        count = one.shape.num_elements()
        if first == vectors[0].shape[0]:
            vectors, first = vectors[1:], 0
        arrays.append(tf.reshape(vectors[0][first : first + count], one.shape))
        first += count
    return arrays
