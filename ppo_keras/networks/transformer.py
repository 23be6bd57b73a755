"""A pre-norm, decoder-only Transformer with rotary positions, whose keys and values of earlier steps are its memory."""

import math

import keras
import tensorflow as tf

from ppo_keras.randomness import Dropout


def rotate(x, times):
    """Rotary position embedding (Su et al. 2021, "RoFormer", eq. 34): the pair (x_i, x_{i+d/2}) turns by t * 10000^(-2i/d).

    Products of rotated queries and keys depend on the difference of their times only, so left padding shifts nothing.
    Angles are counted in 2^-32 of a turn: an unsigned integer that overflows has made whole turns, so an agent's clock
    may run into the billions without a loss of precision.

    Shapes: `(..., T, d)`, int32 `(T,)` -> `(..., T, d)`.
    """
    half = x.shape[-1] // 2
    turn = 2 * math.pi / 2**32
    frequencies = [round(10_000.0 ** (-i / half) / turn) for i in range(half)]
    angles = tf.cast(times, tf.uint32)[:, tf.newaxis] * tf.constant(frequencies, tf.uint32)  # (T, d/2)
    angles = tf.cast(tf.bitcast(angles, tf.int32), tf.float32) * turn  # in [-pi, pi)
    cos, sin = tf.cast(tf.cos(angles), x.dtype), tf.cast(tf.sin(angles), x.dtype)
    first, second = x[..., :half], x[..., half:]
    return tf.concat([first * cos - second * sin, second * cos + first * sin], axis=-1)


@keras.saving.register_keras_serializable("ppo_keras")
class TransformerTrunk(keras.layers.Layer):
    """Decoder blocks: x + attention(norm(x)), then x + mlp(norm(x)); a last norm at the end.

    The memory (`state`) is a ring of the last `memory` steps: `keys` and `values` of each layer `(B, H, M, d)`, the
    clock `time` `()`, and `episode` `(B,)`, the time at which the current episode began. A step sees the steps of its
    own episode that are at most M - 1 back.

    Args:
        width: size of the input and the output, `D`.
        layers: number of blocks.
        heads: attention heads; divides `width`.
        memory: `M`, how many steps (this one included) attention reaches back.
        dropout: on the output of attention and MLP, in training only.
    """

    def __init__(self, width, layers, heads, memory, dropout=0.0, **kwargs):
        super().__init__(**kwargs)
        if width % (2 * heads):
            raise ValueError(f"width={width} is not a multiple of 2 * heads={2 * heads}. Use a width such as {2 * heads * 16}.")
        self.width, self.layers, self.heads, self.memory, self.dropout = width, layers, heads, memory, dropout
        self.blocks = [Block(width, heads, dropout, dtype=self.dtype_policy, name=f"block_{i}") for i in range(layers)]
        for block in self.blocks:
            setattr(self, block.name, block)  # tf.train.Checkpoint does not look into Keras's lists
        self.norm = keras.layers.LayerNormalization(epsilon=1e-5, dtype=self.dtype_policy, name="norm")

    def build(self, input_shape):
        for block in self.blocks:
            block.build((None, None, self.width))
        self.norm.build((None, None, self.width))

    def initial_state(self, batch):
        """An empty memory for `batch` sequences."""
        cache = lambda: [tf.zeros([batch, self.heads, self.memory, self.width // self.heads], self.compute_dtype) for _ in self.blocks]
        return {"keys": cache(), "values": cache(), "time": tf.constant(0), "episode": tf.zeros([batch], tf.int32)}

    def step(self, x, state, starts=None):
        """One step: `(B, D)`, state, optional `(B,)` -> `(B, D)`, new state."""
        time, episode = state["time"], state["episode"]
        if starts is not None:
            episode = tf.where(starts > 0, time, episode)
        slot = time % self.memory
        slot_times = time - (slot - tf.range(self.memory)) % self.memory  # the step that each slot holds, (M,)
        visible = slot_times >= tf.maximum(episode, 0)[:, tf.newaxis]  # (B, M)
        visible = visible[:, tf.newaxis, tf.newaxis, :]  # (B, 1, 1, M)
        x, keys, values = x[:, tf.newaxis, :], [], []  # (B, 1, D)
        for block, old_keys, old_values in zip(self.blocks, state["keys"], state["values"]):
            query, key, value = block.project(x, time[tf.newaxis])  # (B, H, 1, d) each
            keys.append(keras.ops.slice_update(old_keys, [0, 0, slot, 0], key))
            values.append(keras.ops.slice_update(old_values, [0, 0, slot, 0], value))
            x = block.finish(x, attend(query, keys[-1], values[-1], visible)[0])
        state = {"keys": keys, "values": values, "time": time + 1, "episode": episode}
        return self.norm(x)[:, 0], state

    def call(self, x, state=None, starts=None, context=0, training=None):
        """A sequence: `(B, T, D)`, state, `(B, T)` -> `(B, T - context, D)`, state after the last step.

        The first `context` steps are read, but nothing is put out for them: the last block leaves out their queries.
        """
        hidden, after, _ = self.read(x, state, starts, context, training)
        return hidden, after

    def attention(self, x, state=None, starts=None):
        """What each step of a sequence attends to, to look at: `(B, T, D)` -> a list of `(B, H, T, M + T)`, one of each block.

        Without a state the M steps of the memory are left out.
        """
        return self.read(x, state, starts)[2]

    def read(self, x, state=None, starts=None, context=0, training=None):
        """What `call` returns, and what `attention` does."""
        batch, length = tf.shape(x)[0], x.shape[1]
        starts = tf.zeros([batch, length]) if starts is None else starts
        begin = tf.constant(0) if state is None else state["time"]
        times = begin + tf.range(length)  # (T,)
        starts_at = tf.where(starts > 0, times, -1)  # (B, T)
        segments = tf.cumsum(tf.cast(starts > 0, tf.int32), axis=1)  # which episode a step belongs to, (B, T)
        visible = segments[:, :, tf.newaxis] == segments[:, tf.newaxis, :]  # (B, T, T)
        ages = times[:, tf.newaxis] - times[tf.newaxis, :]  # (T, T)
        visible &= (ages >= 0) & (ages < self.memory)
        if state is not None:  # the memory lies before the new steps; its slots belong to the episode under way
            last = begin - 1
            slot_times = last - (last - tf.range(self.memory)) % self.memory  # (M,)
            remembered = slot_times >= tf.maximum(state["episode"], 0)[:, tf.newaxis]  # (B, M)
            near = times[:, tf.newaxis] - slot_times[tf.newaxis, :] < self.memory  # (T, M)
            before = remembered[:, tf.newaxis, :] & near & (segments == 0)[:, :, tf.newaxis]  # (B, T, M)
            visible = tf.concat([before, visible], axis=2)  # (B, T, M + T)
        visible = visible[:, tf.newaxis]  # (B, 1, T, M + T)
        new_keys, new_values, attention = [], [], []
        for i, block in enumerate(self.blocks):
            query, key, value = block.project(x, times)  # (B, H, T, d) each
            new_keys.append(key)
            new_values.append(value)
            if state is not None:
                key = tf.concat([state["keys"][i], key], axis=2)  # (B, H, M + T, d)
                value = tf.concat([state["values"][i], value], axis=2)
            if block is self.blocks[-1]:
                x, query, visible = x[:, context:], query[:, :, context:], visible[:, :, context:]
            read, weights = attend(query, key, value, visible)
            attention.append(weights)
            x = block.finish(x, read, training=training)
        old = self.initial_state(batch) if state is None else state
        slot_steps = length - 1 - (begin + length - 1 - tf.range(self.memory)) % self.memory  # the step that each slot holds after these, (M,)
        is_new, slot_steps = (slot_steps >= 0)[:, tf.newaxis], tf.maximum(slot_steps, 0)
        remember = lambda memory, new: tf.where(is_new, tf.gather(new, slot_steps, axis=2), memory)  # (B, H, M, d)
        after = {
            "keys": list(map(remember, old["keys"], new_keys)),
            "values": list(map(remember, old["values"], new_values)),
            "time": begin + length,
            "episode": tf.maximum(old["episode"], tf.reduce_max(starts_at, axis=1)),
        }
        return self.norm(x), after, attention

    def get_config(self):
        return super().get_config() | {
            "width": self.width, "layers": self.layers, "heads": self.heads, "memory": self.memory, "dropout": self.dropout,
        }  # fmt: skip


class Block(keras.layers.Layer):
    """One pre-norm decoder block, cut where attention needs the keys of other steps: `project`, then `finish`."""

    def __init__(self, width, heads, dropout, **kwargs):
        super().__init__(**kwargs)
        self.width, self.heads = width, heads
        precision = dict(dtype=self.dtype_policy)
        self.attention_norm = keras.layers.LayerNormalization(epsilon=1e-5, name="attention_norm", **precision)
        self.query_key_value = keras.layers.Dense(3 * width, name="query_key_value", **precision)
        self.output_projection = keras.layers.Dense(width, name="output_projection", **precision)
        self.mlp_norm = keras.layers.LayerNormalization(epsilon=1e-5, name="mlp_norm", **precision)
        self.expand = keras.layers.Dense(4 * width, name="expand", **precision)
        self.contract = keras.layers.Dense(width, name="contract", **precision)
        self.dropout = Dropout(dropout, name="dropout", **precision)

    def build(self, input_shape):
        for layer in (self.attention_norm, self.query_key_value, self.output_projection, self.mlp_norm, self.expand):
            layer.build((None, None, self.width))
        self.contract.build((None, None, 4 * self.width))

    def project(self, x, times):
        """Rotated queries, rotated keys, values: `(B, T, D)`, `(T,)` -> three of `(B, H, T, d)`."""
        batch, length = tf.shape(x)[0], x.shape[1]
        projected = self.query_key_value(self.attention_norm(x))  # (B, T, 3D)
        projected = tf.reshape(projected, [batch, length, 3, self.heads, self.width // self.heads])
        projected = tf.transpose(projected, [2, 0, 3, 1, 4])  # (3, B, H, T, d)
        query, key = tf.unstack(rotate(projected[:2], times))
        return query, key, projected[2]

    def finish(self, x, attended, training=None):
        """Residual attention output and MLP: `(B, T, D)`, `(B, H, T, d)` -> `(B, T, D)`."""
        attended = tf.reshape(tf.transpose(attended, [0, 2, 1, 3]), tf.shape(x))
        x += self.dropout(self.output_projection(attended), training=training)
        hidden = keras.activations.gelu(self.expand(self.mlp_norm(x)), approximate=True)
        return x + self.dropout(self.contract(hidden), training=training)


def attend(query, key, value, visible):
    """softmax(q k^T / sqrt(d)) v over the visible keys (Vaswani et al. 2017, eq. 1), the softmax in float32.

    Shapes: `(B, H, T, d)`, `(B, H, S, d)`, `(B, H, S, d)`, bool `(B, 1, T, S)` -> `(B, H, T, d)`, and the weights, float32
    `(B, H, T, S)`.
    """
    scores = tf.matmul(query, key, transpose_b=True) * (query.shape[-1] ** -0.5)
    scores = tf.where(visible, tf.cast(scores, tf.float32), float("-inf"))  # a step always sees itself: no empty row
    weights = tf.nn.softmax(scores)
    return tf.matmul(tf.cast(weights, value.dtype), value), weights
