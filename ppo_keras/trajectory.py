"""`Trajectory`: the one record of what happened, which every collector hands to the learner."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import tensorflow as tf


class Trajectory(NamedTuple):
    """`B` sequences of `T` steps, batch first.

    | field | shape | meaning |
    |---|---|---|
    | `inputs` | `(B, C + T, ...)` | what the policy read: `C` steps of context (a prompt but for its last token; 0 for environments), then the input of each step |
    | `starts` | float32 `(B, C + T)` | 1 where an input begins an episode: memory is reset before it. Left padding is what lies before the first start |
    | `actions` | int32 `(B, T)` | what the policy chose (an action, or the next token id); `(B, T, K)` for several choices, float32 for real numbers |
    | `log_probs` | float32 `(B, T)` | log-probability of the action under the policy that acted, at the temperature it acted with |
    | `values` | float32 `(B, T)` | value of the state before the action, by the critic that acted |
    | `rewards` | float32 `(B, T)` | for text: the score at its position plus the per-token KL penalty |
    | `next_values` | float32 `(B, T)` | value of the state after the step: 0 after termination, V(final observation) after truncation |
    | `ended` | float32 `(B, T)` | 1 where the episode ended at this step, for either reason |
    | `mask` | float32 `(B, T)` | 1 where the step counts: response tokens up to and including the first end token |
    | `initial_state` | nest | the memory before the first input, as it was when the policy acted; () for none |
    | `action_masks` | bool `(B, T, A)` | False where an action was not allowed; () where all are |
    """

    inputs: tf.Tensor
    starts: tf.Tensor
    actions: tf.Tensor
    log_probs: tf.Tensor
    values: tf.Tensor
    rewards: tf.Tensor
    next_values: tf.Tensor
    ended: tf.Tensor
    mask: tf.Tensor
    initial_state: Any = ()
    action_masks: Any = ()

    @property
    def context(self) -> int:
        """`C`: how many inputs are read before the first action."""
        return self.inputs.shape[1] - self.actions.shape[1]


def take_sequences(nest, indices):
    """The given sequences of any nest of batch-first tensors; scalars (a clock) belong to all sequences and stay."""
    return tf.nest.map_structure(lambda x: x if x.shape.rank == 0 else tf.gather(x, indices), nest)


def slice_sequences(nest, first, count):
    """`count` sequences from the `first` on, as `take_sequences` takes any."""
    return tf.nest.map_structure(lambda x: x if x.shape.rank == 0 else tf.slice(x, [first, *[0] * (x.shape.rank - 1)], [count, *x.shape[1:]]), nest)


class Shelf:
    """Where a compiled step leaves tensors to be looked at after it: inside XLA nothing can be written to a file.

    They lie in variables of their own, which are no part of the learner's state: no checkpoint holds them, nothing that is
    learned depends on them.
    """

    def __init__(self):
        self._variables, self.content = {}, None  # a step that was traced for another batch goes on writing to its own

    def put(self, nest):
        """Leaves a nest of tensors of static shape; `content` is then a nest of variables that hold it."""
        key = _shapes(nest)
        if key not in self._variables:
            new = lambda x: tf.Variable(tf.zeros(x.shape, x.dtype), trainable=False)
            with ThreadPoolExecutor(1) as elsewhere:  # even in `tf.init_scope`, a `tf.function` that makes a variable is traced twice
                self._variables[key] = elsewhere.submit(tf.nest.map_structure, new, nest).result()
        self.content = self._variables[key]
        tf.nest.map_structure(lambda variable, x: variable.assign(x), self.content, nest)

    def turn_to(self, part):
        """Makes `content` what was put last and begins with tensors of the shapes of `part`: a compiled step that is called again, and
        not traced, cannot say which of several batches it put."""
        key = _shapes(part)
        self.content = next((content for shapes, content in self._variables.items() if shapes[: len(key)] == key), self.content)


def _shapes(nest):
    return tuple((tuple(x.shape), x.dtype) for x in tf.nest.flatten(nest))


def single_steps(nest):
    """Every step as a sequence of its own: `(B, T, ...)` -> `(B * T, 1, ...)`. For policies without memory or context."""
    return tf.nest.map_structure(lambda x: tf.reshape(x, [x.shape[0] * x.shape[1], 1, *x.shape[2:]]), nest)
