"""A stack of LSTM layers that can forget in mid-sequence, where an episode starts."""

import keras
import tensorflow as tf

from ppo_keras.networks.products import product
from ppo_keras.randomness import Dropout


@keras.saving.register_keras_serializable("ppo_keras")
class LSTMTrunk(keras.layers.Layer):
    """Keras `LSTMCell`s unrolled over time, the state reset to zero wherever `starts` is 1, and a norm at the end.

    `keras.layers.LSTM` cannot reset one sequence of a batch in the middle, so the cells are scanned here; the input
    projection of all steps is one matrix product outside the loop.

    Args:
        width: size of the input, the hidden state and the output.
        layers: how many cells are stacked.
        dropout: on the input of each layer, in training only.
    """

    def __init__(self, width, layers, dropout=0.0, **kwargs):
        super().__init__(**kwargs)
        self.width, self.layers, self.dropout = width, layers, dropout
        self.cells = [keras.layers.LSTMCell(width, dtype=self.dtype_policy, name=f"cell_{i}") for i in range(layers)]
        self.dropouts = [Dropout(dropout, dtype=self.dtype_policy, name=f"dropout_{i}") for i in range(layers)]
        for layer in self.cells + self.dropouts:
            setattr(self, layer.name, layer)  # tf.train.Checkpoint does not look into Keras's lists
        self.norm = keras.layers.LayerNormalization(epsilon=1e-5, dtype=self.dtype_policy, name="norm")

    def build(self, input_shape):
        for cell in self.cells:
            cell.build((None, self.width))
        self.norm.build((None, None, self.width))

    def initial_state(self, batch):
        """Zeros: a pair (hidden, cell) of `(batch, width)` for each layer."""
        return [(tf.zeros([batch, self.width], self.compute_dtype),) * 2 for _ in range(self.layers)]

    def step(self, x, state, starts=None):
        """One step: `(B, D)`, state, optional `(B,)` -> `(B, D)`, new state."""
        new_state = []
        for cell, (hidden, memory) in zip(self.cells, state):
            if starts is not None:
                kept = tf.cast(1.0 - starts, hidden.dtype)[:, tf.newaxis]
                hidden, memory = hidden * kept, memory * kept
            x, (hidden, memory) = cell(x, [hidden, memory])
            new_state.append((hidden, memory))
        return self.norm(x), new_state

    def call(self, x, state=None, starts=None, context=0, training=None):
        """A sequence: `(B, T, D)`, state, `(B, T)` -> `(B, T - context, D)`, state after the last step.

        The first `context` steps are read, but nothing is put out for them.
        """
        state = self.initial_state(tf.shape(x)[0]) if state is None else state
        kept = tf.ones_like(x[:, :, :1]) if starts is None else tf.cast(1.0 - starts, x.dtype)[:, :, tf.newaxis]
        kept = tf.transpose(kept, [1, 0, 2])  # (T, B, 1)
        x = tf.transpose(x, [1, 0, 2])  # (T, B, D)
        new_state = []
        for cell, dropout, (hidden, memory) in zip(self.cells, self.dropouts, state):
            x = dropout(x, training=training, batch_axis=1)
            projected = tf.cast(product(x, tf.convert_to_tensor(cell.kernel)), x.dtype) + cell.bias  # (T, B, 4D)
            x, memories = tf.scan(_lstm_step(cell), (projected, kept), (hidden, memory))
            new_state.append((x[-1], memories[-1]))
        return self.norm(tf.transpose(x[context:], [1, 0, 2])), new_state

    def get_config(self):
        return super().get_config() | {"width": self.width, "layers": self.layers, "dropout": self.dropout}


def _lstm_step(cell):
    """The recurrence of a `keras.layers.LSTMCell` whose input was projected already (gate order of Keras: i, f, c, o)."""
    recurrent_kernel = tf.convert_to_tensor(cell.recurrent_kernel)

    def step(state, inputs):
        hidden, memory = state
        projected, kept = inputs
        gates = projected + tf.matmul(hidden * kept, recurrent_kernel)
        i, f, c, o = tf.split(gates, 4, axis=-1)
        memory = tf.sigmoid(f) * memory * kept + tf.sigmoid(i) * tf.tanh(c)
        return tf.sigmoid(o) * tf.tanh(memory), memory

    return step
