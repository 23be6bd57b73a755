"""A pre-norm, decoder-only Transformer whose keys and values of earlier steps are its memory; its form is that of many families."""

import dataclasses
import math

import keras
import tensorflow as tf

from ppo_keras.errors import require, shown
from ppo_keras.networks.adapters import Linear, as_now
from ppo_keras.networks.products import product
from ppo_keras.randomness import Dropout


@dataclasses.dataclass(frozen=True)
class Form:
    """In what families of decoders differ; the defaults are those of a network of our own.

    | field | meaning |
    |---|---|
    | `key_heads` | heads of keys and values, each shared by `heads / key_heads` queries (Ainslie et al. 2023); None: as many as `heads` |
    | `head_size` | `d`; None: `width / heads` |
    | `mlp_width` | of the hidden layer; None: 4 `width` |
    | `gated`, `activation` | "gelu" (its tanh approximation) or "silu" between two layers; gated: times a third one (Shazeer 2020) |
    | `norm`, `epsilon` | "layer" or "rms" (Zhang and Sennrich 2019), and what is added to the variance |
    | `sandwich` | attention and MLP are normed behind, too, before they are added |
    | `normalize_heads` | queries and keys are normed head by head, before they turn (Henry et al. 2020) |
    | `query_key_value_bias`, `output_bias`, `mlp_bias` | which layers add a bias |
    | `positions` | "rotary", or "learned" ones, of which there are `most_positions` |
    | `rotary_bases` | a base for each layer, or one for all |
    | `rotary_scaling` | () or (factor, low, high, original): Llama 3's for contexts longer than the original; (factor,): all slower |
    | `query_scale` | of the products of queries and keys; None: `d ** -0.5` |
    | `embedding_scale` | of the embedded tokens; None: `width ** 0.5`, as in Vaswani et al. (2017) |
    | `tied` | the logits are products with the embeddings; else the head has weights of its own |
    """

    key_heads: int | None = None
    head_size: int | None = None
    mlp_width: int | None = None
    gated: bool = False
    activation: str = "gelu"
    norm: str = "layer"
    epsilon: float = 1e-5
    sandwich: bool = False
    normalize_heads: bool = False
    query_key_value_bias: bool = True
    output_bias: bool = True
    mlp_bias: bool = True
    positions: str = "rotary"
    most_positions: int | None = None
    rotary_bases: tuple = (10_000.0,)
    rotary_scaling: tuple = ()
    query_scale: float | None = None
    embedding_scale: float | None = None
    tied: bool = True

    def __post_init__(self):
        for name, known in (("activation", ("gelu", "silu")), ("norm", ("layer", "rms")), ("positions", ("rotary", "learned"))):
            value = getattr(self, name)
            require(value in known, f"{name}={shown(value)} is unknown. Use {known[0]} or {known[1]}.")
        require(self.positions == "rotary" or self.most_positions, "positions='learned' needs most_positions. Give how many there are, such as 1024.")
        require(
            self.positions == "learned" or not (self.head_size or 0) % 2,
            f"head_size={self.head_size} is odd, but rotary positions turn pairs. Use an even one.",
        )
        require(len(self.rotary_scaling) in (0, 1, 4), f"rotary_scaling={self.rotary_scaling} is none of (), (factor,), (factor, low, high, original).")

    @classmethod
    def of(cls, settings):
        """A `Form` from None, a `Form` or the dictionary of one."""
        if isinstance(settings, cls):
            return settings
        frozen = {name: tuple(value) if isinstance(value, list) else value for name, value in (settings or {}).items()}
        return cls(**frozen)

    def settings(self):
        """What differs from the defaults: a dictionary."""
        return {field.name: value for field in dataclasses.fields(self) if (value := getattr(self, field.name)) != field.default}

    def new_norm(self, name, dtype):
        """A norm over the last axis, in float32 also where the rest has 16 bits."""
        dtype = exact(dtype)
        kind = keras.layers.RMSNormalization if self.norm == "rms" else keras.layers.LayerNormalization
        return kind(epsilon=self.epsilon, name=name, dtype=dtype)


def exact(policy):
    """The dtype in which a network of a policy adds up its residuals and norms them: float32 in the place of 16 bits."""
    return "float32" if tf.as_dtype(policy.compute_dtype).size == 2 else policy.compute_dtype


def rotary_frequencies(half, base, scaling=()):
    """How far each pair of a head turns a step, in radians: a list of `half` floats.

    f_i = base^(-i / half). A scaling makes all of them slower by its factor; Llama 3's only those that turn less than once in
    `original / low` steps, and leaves those alone that turn once in fewer than `original / high` (Dubey et al. 2024, and its
    published code).
    """
    frequencies = [base ** (-i / half) for i in range(half)]
    if len(scaling) == 1:
        return [frequency / scaling[0] for frequency in frequencies]
    if not scaling:
        return frequencies
    factor, low, high, original = scaling
    scaled = []
    for frequency in frequencies:
        turns = original * frequency / (2 * math.pi)  # in the original context
        kept = min(1.0, max(0.0, (turns - low) / (high - low)))
        scaled.append(kept * frequency + (1 - kept) * frequency / factor)
    return scaled


def rotate(x, times, base=10_000.0, scaling=()):
    """Rotary position embedding (Su et al. 2021, "RoFormer", eq. 34): the pair (x_i, x_{i+d/2}) turns by t * base^(-2i/d).

    Products of rotated queries and keys depend on the difference of their times only, so left padding shifts nothing.
    Angles are counted in 2^-32 of a turn: an unsigned integer that overflows has made whole turns, so an agent's clock
    may run into the billions without a loss of precision.

    Shapes: `(..., T, d)`, int32 `(T,)` -> `(..., T, d)`.
    """
    return turn(x, *rotations(times, x.shape[-1] // 2, base, scaling, x.dtype))


def rotations(times, half, base, scaling, dtype):
    """Cosines and sines of the angles by which the pairs of a head turn: int32 `(T,)` -> `(T, d/2)` twice."""
    unit = 2 * math.pi / 2**32
    frequencies = [round(frequency / unit) for frequency in rotary_frequencies(half, base, scaling)]
    angles = tf.cast(times, tf.uint32)[:, tf.newaxis] * tf.constant(frequencies, tf.uint32)
    angles = tf.cast(tf.bitcast(angles, tf.int32), tf.float32) * unit  # in [-pi, pi)
    return tf.cast(tf.cos(angles), dtype), tf.cast(tf.sin(angles), dtype)


def turn(x, cos, sin):
    """What `rotate` returns, where the rotations are known: `(..., T, d)`, `(T, d/2)` twice -> `(..., T, d)`."""
    first, second = tf.split(x, 2, axis=-1)
    return tf.concat([first * cos - second * sin, second * cos + first * sin], axis=-1)


@keras.saving.register_keras_serializable("ppo_keras")
class TransformerTrunk(keras.layers.Layer):
    """Decoder blocks: x + attention(norm(x)), then x + mlp(norm(x)); a last norm at the end.

    The memory (`state`) is a ring of the last `memory` steps: `keys` and `values` of each layer `(B, K, M, d)`, the
    clock `time` `()`, and `episode` `(B,)`, the time at which the current episode began. A step sees the steps of its
    own episode that are at most M - 1 back.

    Args:
        width: size of the input and the output, `D`.
        layers: number of blocks.
        heads: attention heads; divides `width`, where the form has no `head_size`.
        memory: `M`, how many steps (this one included) attention reaches back.
        dropout: on the output of attention and MLP, in training only.
        form: a `Form`, or the dictionary of one; None for the default.
        recompute: blocks are computed once more backwards, so that of each only its input is kept (Chen et al. 2016).
    """

    def __init__(self, width, layers, heads, memory, dropout=0.0, form=None, recompute=False, **kwargs):
        super().__init__(**kwargs)
        self.recompute = recompute
        self.form = form = Form.of(form)
        if form.head_size is None and width % (2 * heads):
            raise ValueError(f"width={width} is not a multiple of 2 * heads={2 * heads}. Use a width such as {2 * heads * 16}.")
        self.width, self.layers, self.heads, self.memory, self.dropout = width, layers, heads, memory, dropout
        self.key_heads, self.head_size = form.key_heads or heads, form.head_size or width // heads
        if heads % self.key_heads:
            raise ValueError(f"heads={heads} is not a multiple of key_heads={self.key_heads}. Use a divisor of {heads}.")
        if form.positions == "learned" and memory > form.most_positions:
            raise ValueError(f"memory={memory} is longer than the {form.most_positions} positions that were learned. Use {form.most_positions} or less.")
        bases = form.rotary_bases * (layers if len(form.rotary_bases) == 1 else 1)
        require(len(bases) == layers, f"rotary_bases are {len(bases)}, but there are {layers} layers. Give one for each, or one for all.")
        self.blocks = [Block(width, heads, dropout, form, base, dtype=self.dtype_policy, name=f"block_{i}") for i, base in enumerate(bases)]
        for block in self.blocks:
            setattr(self, block.name, block)  # tf.train.Checkpoint does not look into Keras's lists
        self.norm = form.new_norm("norm", self.dtype_policy)
        self.positions = None
        if form.positions == "learned":
            self.positions = keras.layers.Embedding(form.most_positions, width, name="positions", dtype=self.dtype_policy)

    def build(self, input_shape):
        for block in self.blocks:
            block.build((None, None, self.width))
        self.norm.build((None, None, self.width))
        if self.positions is not None:
            self.positions.build()

    def place(self, x, times, began):
        """Adds learned positions, counted from the beginning of the episode: `(B, T, D)`, `(T,)`, `(B, T)` -> `(B, T, D)`."""
        if self.positions is None:
            return x
        return x + tf.cast(self.positions(tf.clip_by_value(times - began, 0, self.form.most_positions - 1)), x.dtype)

    def turns(self, times):
        """{base: what `rotations` gives for it}, computed once for all blocks: int32 `(T,)` -> `(T, d/2)` twice."""
        if self.form.positions != "rotary":
            return {}
        return {base: rotations(times, self.head_size // 2, base, self.form.rotary_scaling, self.compute_dtype) for base in set(self.form.rotary_bases)}

    def initial_state(self, batch):
        """An empty memory for `batch` sequences."""
        cache = lambda: [tf.zeros([batch, self.key_heads, self.memory, self.head_size], self.compute_dtype) for _ in self.blocks]
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
        x = tf.cast(x, exact(self.dtype_policy))
        times, keys, values = time[tf.newaxis], [], []
        x, turns = self.place(x[:, tf.newaxis, :], times, episode[:, tf.newaxis]), self.turns(times)  # (B, 1, D)
        for block, old_keys, old_values in zip(self.blocks, state["keys"], state["values"]):
            query, key, value = block.project(x, times, turns)  # (B, H, 1, d), (B, K, 1, d) twice
            keys.append(put(old_keys, slot, key))
            values.append(put(old_values, slot, value))
            x = block.finish(x, attend(query, keys[-1], values[-1], visible, self.form.query_scale)[0])
        state = {"keys": keys, "values": values, "time": time + 1, "episode": episode}
        return self.norm(x)[:, 0], state

    def call(self, x, state=None, starts=None, context=0, training=None):
        """A sequence: `(B, T, D)`, state, `(B, T)` -> `(B, T - context, D)`, state after the last step.

        The first `context` steps are read, but nothing is put out for them: the last block leaves out their queries.
        """
        hidden, after, _ = self.read(x, state, starts, context, training, self.recompute)
        return hidden, after

    def attention(self, x, state=None, starts=None):
        """What each step of a sequence attends to, to look at: `(B, T, D)` -> a list of `(B, H, T, M + T)`, one of each block.

        Without a state the M steps of the memory are left out.
        """
        return self.read(x, state, starts)[2]

    def read(self, x, state=None, starts=None, context=0, training=None, recompute=False):
        """What `call` returns, and what `attention` does (nothing, where blocks are to be recomputed)."""
        x = tf.cast(x, exact(self.dtype_policy))
        batch, length = tf.shape(x)[0], x.shape[1]
        starts = tf.zeros([batch, length]) if starts is None else starts
        begin = tf.constant(0) if state is None else state["time"]
        times = begin + tf.range(length)  # (T,)
        starts_at = tf.where(starts > 0, times, -1)  # (B, T)
        episode = tf.zeros([batch], tf.int32) if state is None else state["episode"]
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
        if self.positions is not None:
            began = tf.where(ages >= 0, starts_at[:, tf.newaxis, :], -1)  # of the steps up to each: (B, T, T)
            x = self.place(x, times, tf.maximum(tf.reduce_max(began, axis=2), episode[:, tf.newaxis]))
        visible = visible[:, tf.newaxis]  # (B, 1, T, M + T)
        turns, new_keys, new_values, attention = self.turns(times), [], [], []
        for i, block in enumerate(self.blocks):
            skip = context if block is self.blocks[-1] else 0
            before = () if state is None else (state["keys"][i], state["values"][i])
            seeds = [block.dropout.draw_seed() for _ in range(2)] if training and self.dropout else [None, None]

            def compute(x, *before, block=block, skip=skip, seeds=seeds):
                query, key, value = block.project(x, times, turns)  # (B, H, T, d), (B, K, T, d) twice
                keys, values, seen = key, value, visible
                if before:
                    keys, values = (tf.concat([old, new], axis=2) for old, new in zip(before, (key, value)))  # (B, K, M + T, d)
                if skip:
                    x, query, seen = x[:, skip:], query[:, :, skip:], visible[:, :, skip:]
                read, weights = attend(query, keys, values, seen, self.form.query_scale)
                return block.finish(x, read, training, seeds), key, value, *([] if recompute else [weights])

            run = keras.remat(as_now(compute, block.linear)) if recompute else compute
            x, key, value, *weights = run(x, *before)
            new_keys.append(key)
            new_values.append(value)
            attention += weights
        slot_steps = length - 1 - (begin + length - 1 - tf.range(self.memory)) % self.memory  # the step that each slot holds after these, (M,)
        is_new, slot_steps = (slot_steps >= 0)[:, tf.newaxis], tf.maximum(slot_steps, 0)
        remember = lambda memory, new: tf.where(is_new, tf.gather(new, slot_steps, axis=2), memory)  # (B, K, M, d)
        nothing = [tf.zeros([], self.compute_dtype)] * len(self.blocks)
        after = {
            "keys": list(map(remember, nothing if state is None else state["keys"], new_keys)),
            "values": list(map(remember, nothing if state is None else state["values"], new_values)),
            "time": begin + length,
            "episode": tf.maximum(episode, tf.reduce_max(starts_at, axis=1)),
        }
        return self.norm(x), after, attention

    def get_config(self):
        return super().get_config() | {
            "width": self.width, "layers": self.layers, "heads": self.heads, "memory": self.memory, "dropout": self.dropout,
            "form": self.form.settings(), "recompute": self.recompute,
        }  # fmt: skip


class Block(keras.layers.Layer):
    """One pre-norm decoder block, cut where attention needs the keys of other steps: `project`, then `finish`."""

    def __init__(self, width, heads, dropout, form=Form(), rotary_base=10_000.0, **kwargs):
        super().__init__(**kwargs)
        self.width, self.heads, self.form, self.rotary_base = width, heads, form, rotary_base
        self.key_heads, self.head_size = form.key_heads or heads, form.head_size or width // heads
        precision = dict(dtype=self.dtype_policy)
        norm = lambda name, wanted=True: form.new_norm(name, self.dtype_policy) if wanted else None
        rows, self.hidden_width = (heads + 2 * self.key_heads) * self.head_size, form.mlp_width or 4 * width
        self.attention_norm = norm("attention_norm")
        self.query_key_value = Linear(rows, use_bias=form.query_key_value_bias, name="query_key_value", **precision)
        self.query_norm, self.key_norm = norm("query_norm", form.normalize_heads), norm("key_norm", form.normalize_heads)
        self.output_projection = Linear(width, use_bias=form.output_bias, name="output_projection", **precision)
        self.attended_norm = norm("attended_norm", form.sandwich)
        self.mlp_norm = norm("mlp_norm")
        self.expand = Linear(self.hidden_width * (1 + form.gated), use_bias=form.mlp_bias, name="expand", **precision)
        self.contract = Linear(width, use_bias=form.mlp_bias, name="contract", **precision)
        self.contracted_norm = norm("contracted_norm", form.sandwich)
        self.dropout = Dropout(dropout, name="dropout", **precision)

    @property
    def linear(self):
        """Its linear layers, which can have adapters."""
        return [self.query_key_value, self.output_projection, self.expand, self.contract]

    def build(self, input_shape):
        inside = [self.attention_norm, self.query_key_value, self.mlp_norm, self.expand, self.attended_norm, self.contracted_norm]
        for layer in filter(None, inside):
            layer.build((None, None, self.width))
        for layer in filter(None, (self.query_norm, self.key_norm)):
            layer.build((None, None, self.head_size))
        self.output_projection.build((None, None, self.heads * self.head_size))
        self.contract.build((None, None, self.hidden_width))

    def project(self, x, times, turns=None):
        """Rotated queries, rotated keys, values: `(B, T, D)`, `(T,)` -> `(B, H, T, d)`, and twice `(B, K, T, d)`.

        `turns` are what the trunk has computed for all its blocks; without them that is computed here.
        """
        heads = [self.heads, self.key_heads]
        projected = self.query_key_value(self.attention_norm(x))  # (B, T, (H + 2 K) d)
        projected = tf.reshape(projected, [-1, x.shape[1], sum(heads) + self.key_heads, self.head_size])
        turning, value = tf.split(tf.transpose(projected, [0, 2, 1, 3]), [sum(heads), self.key_heads], axis=1)
        if self.form.normalize_heads:
            query, key = tf.split(turning, heads, axis=1)
            turning = tf.cast(tf.concat([self.query_norm(query), self.key_norm(key)], axis=1), self.compute_dtype)
        if turns:
            turning = turn(turning, *turns[self.rotary_base])
        elif self.form.positions == "rotary":
            turning = rotate(turning, times, self.rotary_base, self.form.rotary_scaling)
        return *tf.split(turning, heads, axis=1), value

    def finish(self, x, attended, training=None, seeds=(None, None)):
        """Residual attention output and MLP: `(B, T, D)`, `(B, H, T, d)` -> `(B, T, D)`. `seeds` are of the two dropouts."""
        attended = tf.transpose(attended, [0, 2, 1, 3])
        attended = self.output_projection(tf.reshape(attended, [-1, x.shape[1], self.heads * self.head_size]))
        attended = self.dropout(attended if self.attended_norm is None else self.attended_norm(attended), training=training, seed=seeds[0])
        x += tf.cast(attended, x.dtype)
        hidden = self.expand(self.mlp_norm(x))
        hidden, gate = tf.split(hidden, 2, axis=-1) if self.form.gated else (None, hidden)
        gate = keras.activations.silu(gate) if self.form.activation == "silu" else keras.activations.gelu(gate, approximate=True)
        contracted = self.contract(gate if hidden is None else gate * hidden)
        contracted = self.dropout(contracted if self.contracted_norm is None else self.contracted_norm(contracted), training=training, seed=seeds[1])
        return x + tf.cast(contracted, x.dtype)


def put(memory, slot, new):
    """The memory with another slot: `(B, K, M, d)`, `()`, `(B, K, 1, d)` -> `(B, K, M, d)`.

    As integers, where the numbers have 16 bits: of those XLA would turn the whole memory into float32 and back, for processors without their arithmetic.
    """
    stored, bits = memory.dtype, tf.uint16 if memory.dtype.size == 2 else memory.dtype
    return tf.bitcast(keras.ops.slice_update(tf.bitcast(memory, bits), [0, 0, slot, 0], tf.bitcast(new, bits)), stored)


def attend(query, key, value, visible, scale=None):
    """softmax(q k^T / sqrt(d)) v over the visible keys (Vaswani et al. 2017, eq. 1), the softmax in float32.

    Shapes: `(B, H, T, d)`, `(B, K, S, d)`, `(B, K, S, d)`, bool `(B, 1, T, S)` -> `(B, H, T, d)`, and the weights, float32
    `(B, H, T, S)`. With fewer heads of keys, K, neighbouring heads of queries share one.
    """
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    heads, length, key_heads = query.shape[1], query.shape[2], key.shape[1]
    shared = heads != key_heads
    if shared:  # the queries of one key, below each other
        query = tf.reshape(query, [-1, key_heads, heads // key_heads * length, query.shape[3]])
    scores = tf.cast(product(query, key, turned=True) * scale, tf.float32)
    if shared:
        scores = tf.reshape(scores, [-1, heads, length, key.shape[2]])
    weights = tf.nn.softmax(tf.where(visible, scores, float("-inf")))  # a step always sees itself: no empty row
    read = tf.cast(weights, value.dtype)
    if shared:
        read = tf.reshape(read, [-1, key_heads, heads // key_heads * length, key.shape[2]])
    read = tf.cast(product(read, value), value.dtype)
    return tf.reshape(read, [-1, heads, length, value.shape[3]]) if shared else read, weights
