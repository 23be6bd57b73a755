"""Positions in blocks: what is as wide as a vocabulary exists for some positions at a time, forwards and backwards.

The logits of a batch are its largest tensor: 64 responses of 128 tokens and a vocabulary of 128,000 make 4 GB in float32, and a softmax, its
logarithm and their gradients are as large again. What the loss needs of them is a number or two for each position.
"""

import math

import tensorflow as tf

NUMBERS = 2**24  # in a block, 64 MB in float32: large enough for matrix products at full speed; whatever fits is computed at once


def in_blocks(function, width, *arrays):
    """What a function makes of each position, computed some positions at a time.

    The result and its gradients are those of `function(*arrays)`. Backwards each block is computed once more (Chen et al. 2016,
    "Training deep nets with sublinear memory cost"), so that nothing of it is kept; variables that the function reads get their gradients.

    Args:
        function: of the arrays, to a tuple of float32 arrays of one number for each position. It treats every position alike.
        width: how many numbers the function computes for a position, such as the size of the vocabulary.
        arrays: `(B, T, ...)` each, of static shape where there is more than one block; those of floats are differentiated.

    Returns:
        A tuple of float32 `(B, T)`.

    Example:
        >>> log_probs, = in_blocks(lambda hidden, tokens: (log_probability(policy.logits(hidden), tokens),), 50_000, hidden, tokens)
    """
    shape = arrays[0].shape[:2]
    count = shape.num_elements()
    if count is None or count * width <= NUMBERS:
        return function(*arrays)
    blocks = math.ceil(count / max(1, NUMBERS // width))
    size = math.ceil(count / blocks)  # of a block: the last one is filled up with zeros
    filled = [tf.pad(tf.reshape(a, [count, *a.shape[2:]]), [[0, blocks * size - count]] + [[0, 0]] * (a.shape.rank - 2)) for a in arrays]
    rows = [tf.reshape(a, [blocks, size, *a.shape[1:]]) for a in filled]
    return tuple(tf.reshape(tf.reshape(result, [-1])[:count], shape) for result in _looped(function, blocks, size, rows))


def from_logits(policy, function, arrays, inputs, **read):
    """What a function makes of a policy's logits, which never exist as a whole where they are large.

    Args:
        policy: an actor-critic; one of your own may lack the methods `hidden` and `logits`, or have another `call` than theirs, and then puts out all
            logits at once.
        function: of logits `(..., A)` and the arrays, to a tuple of float32 arrays `(...)`.
        arrays: a list, `(B, T, ...)` each, such as the actions that were chosen.
        inputs, read: see `ActorCritic.call`.

    Returns:
        A tuple of float32 `(B, T)`, and the values, float32 `(B, T)`.
    """
    if _apart(type(getattr(policy, "policy", policy))):  # a frozen policy reads as the one that it froze
        (hidden, values), head = policy.hidden(inputs, **read), policy.logits
    else:
        (hidden, values), head = policy(inputs, **read), lambda logits: logits
    return in_blocks(lambda hidden, *arrays: function(head(hidden), *arrays), policy.distribution.size, hidden, *arrays), values


def _apart(kind):
    """Whether policies of a class have hidden states and logits apart: by methods (not layers that are called so), with no newer `call` than `hidden`."""
    home = {name: i for i, one in reversed(list(enumerate(kind.__mro__))) for name in vars(one)}  # in which class each name is defined last
    return {"hidden", "logits"} <= home.keys() and home["hidden"] <= home.get("call", math.inf)


def _looped(function, blocks, size, rows):
    """The function of each row of blocks, one after the other: arrays `(blocks, size, ...)` -> a list of float32 `(blocks, size)`."""
    is_float = [array.dtype.is_floating for array in rows]
    part = lambda i: [array[i] for array in rows]
    put = lambda arrays, i, news: [tf.tensor_scatter_nd_update(array, [[i]], [new]) for array, new in zip(arrays, news)]
    loop = lambda body, begin: tf.while_loop(lambda i, *_: i < blocks, body, (tf.constant(0), *begin), parallel_iterations=1)[1:]
    results = len(function(*[tf.zeros_like(array[0]) for array in rows]))  # how many: nothing reads the numbers, so that nothing computes them

    @tf.custom_gradient
    def compute(*floats):
        outputs = loop(lambda i, *done: (i + 1, *put(done, i, function(*part(i)))), [tf.zeros([blocks, size])] * results)

        def gradient(*upstream, variables=()):
            def body(i, *so_far):
                block = part(i)
                inputs = [array for array, differentiated in zip(block, is_float) if differentiated]
                with tf.GradientTape() as tape:
                    tape.watch(inputs)
                    again = function(*block)
                news = tape.gradient(list(again), [*inputs, *variables], [array[i] for array in upstream], unconnected_gradients="zero")
                news = list(map(tf.convert_to_tensor, news))
                of_inputs, of_variables = so_far[: len(inputs)], so_far[len(inputs) :]
                return i + 1, *put(of_inputs, i, news[: len(inputs)]), *[total + new for total, new in zip(of_variables, news[len(inputs) :])]

            nothing = [tf.zeros_like(array) for array in floats] + [tf.zeros(variable.shape, variable.dtype) for variable in variables]
            gradients = loop(body, nothing)
            return list(gradients[: len(floats)]), list(gradients[len(floats) :])

        return outputs, gradient

    return compute(*[array for array, differentiated in zip(rows, is_float) if differentiated])
