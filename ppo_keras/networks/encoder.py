"""From inputs to hidden states: something that reads one input, then a trunk. Policies, critics and reward models begin with one."""

import keras
import tensorflow as tf

from ppo_keras.masking import episode_starts
from ppo_keras.networks.lstm import LSTMTrunk
from ppo_keras.networks.mlp import MLPTrunk, hidden_layer
from ppo_keras.networks.products import product
from ppo_keras.networks.transformer import Form, TransformerTrunk
from ppo_keras.randomness import Dropout

NO_TOKEN = -1  # fills up the observation of a text; no tokenizer has it, so that every id of one can be real


def small_normal():
    """A fresh N(0, 0.02) initialiser, as GPT-2 has it."""
    return keras.initializers.RandomNormal(stddev=0.02)


class Embedding(keras.layers.ReversibleEmbedding):
    """Keras's, with token ids that are never negative, and logits that are sums in float32 where embeddings and hidden states are bfloat16."""

    def call(self, inputs, reverse=False):
        """int `(...)` -> `(..., D)`; reversed `(..., D)` -> `(..., V)`."""
        if not reverse:
            inputs = tf.convert_to_tensor(inputs)
            inputs = inputs if inputs.dtype in (tf.int32, tf.int64) else tf.cast(inputs, tf.int32)
            return tf.cast(tf.gather(self.embeddings, inputs), self.compute_dtype)
        inputs, kernel = (tf.cast(x, self.compute_dtype) for x in (inputs, self.embeddings if self.tie_weights else self.reverse_embeddings))
        return product(inputs, kernel, turned=self.tie_weights, exact=True)


class Encoder(keras.layers.Layer):
    """A trunk over embedded inputs; a subclass says in `embed` how one input is read.

    Args:
        network: one of the subclass's `networks`.
        width: `D`.
        layers: depth of the trunk.
        dropout: in training only.
        heads: attention heads of a Transformer.
        memory: how many steps a Transformer's attention reaches back.
        form: of a Transformer of another family: a `Form`, or the dictionary of one.
        recompute: a Transformer's blocks are computed once more backwards instead of kept, which takes less memory and more time.
    """

    networks = ()

    def __init__(self, network, width, layers, dropout=0.0, heads=4, memory=128, form=None, recompute=False, **kwargs):
        super().__init__(**kwargs)
        if network not in self.networks:
            raise ValueError(f"network={network!r} is unknown. Use {', '.join(self.networks[:-1])} or {self.networks[-1]}.")
        self.config = dict(network=network, width=width, layers=layers, dropout=dropout, heads=heads, memory=memory)
        self.form = Form.of(form)
        if self.form != Form():
            self.config["form"] = self.form.settings()
        if recompute:
            self.config["recompute"] = True
        self.width = width
        precision = dict(name="trunk", dtype=self.dtype_policy)
        if network == "transformer":
            self.trunk = TransformerTrunk(width, layers, heads, memory, dropout, self.form, recompute, **precision)
        elif network == "lstm":
            self.trunk = LSTMTrunk(width, layers, dropout, **precision)
        else:
            self.trunk = MLPTrunk(width, layers, **precision) if network == "mlp" else None

    def build(self, input_shape=None):
        if self.trunk is not None:
            self.trunk.build((None, None, self.width))

    def embed(self, inputs, training=None):
        """`(...)` inputs -> `(..., D)`."""
        raise NotImplementedError(f"{type(self).__name__} must define embed(inputs, training).")

    def initial_state(self, batch):
        """The empty memory of `batch` sequences."""
        return self.trunk.initial_state(batch)

    def step(self, inputs, state, starts=None):
        """One input each: `(B, ...)`, state, optional `(B,)` -> `(B, D)`, new state."""
        return self.trunk.step(self.embed(inputs), state, starts)

    def call(self, inputs, state=None, starts=None, context=0, training=None):
        """Sequences: `(B, T, ...)`, state, `(B, T)` -> `(B, T - context, D)`, state after the last step."""
        embedded = self.embed(inputs, training)
        if self.trunk is None:
            return embedded[:, context:], state
        return self.trunk(embedded, state=state, starts=starts, context=context, training=training)

    def get_config(self):
        return super().get_config() | self.config


@keras.saving.register_keras_serializable("ppo_keras")
class TokenEncoder(Encoder):
    """Reads token ids: an embedding, scaled by sqrt(D) as in Vaswani et al. (2017, section 3.4), and a trunk.

    Args:
        vocabulary_size: `V`.
        network: "transformer", "lstm", or "bag": embeddings alone, whose mean is the bag of words of Joulin et al.
            (2017, "Bag of tricks for efficient text classification"). A bag reads but cannot act; for reward models.
        sizes: see `Encoder`; `memory` is at least the length of prompt plus response.
    """

    networks = ("transformer", "lstm", "bag")

    def __init__(self, vocabulary_size, network, width, layers, dropout=0.0, **sizes):
        super().__init__(network, width, layers, dropout, **sizes)
        self.config["vocabulary_size"] = vocabulary_size
        self.embedding = Embedding(vocabulary_size, width, self.form.tied, small_normal(), name="embedding", dtype=self.dtype_policy)
        self.embedding_dropout = Dropout(dropout, name="embedding_dropout", dtype=self.dtype_policy)

    def build(self, input_shape=None):
        self.embedding.build()
        super().build(input_shape)

    def embed(self, inputs, training=None):
        """int32 `(...)` token ids -> `(..., D)`."""
        scale = self.width**0.5 if self.form.embedding_scale is None else self.form.embedding_scale
        return self.embedding_dropout(self.embedding(inputs) * scale, training=training)

    def read_texts(self, tokens, mask, training=None):
        """The mean hidden state over the real tokens of whole texts.

        Args:
            tokens, mask: int32 and float32 or bool `(B, L)`, padded on either side.
            training: True switches dropout on.

        Returns:
            `(B, D)`.
        """
        mask = tf.cast(mask, tf.float32)
        hidden, _ = Encoder.call(self, tokens, starts=episode_starts(mask), training=training)  # (B, L, D)
        weights = mask / tf.maximum(tf.reduce_sum(mask, axis=1, keepdims=True), 1.0)
        return tf.einsum("bl,bld->bd", tf.cast(weights, hidden.dtype), hidden)


@keras.saving.register_keras_serializable("ppo_keras")
class TextEncoder(TokenEncoder):
    """Reads a whole text as one observation: the mean of a `TokenEncoder`'s hidden states over the real tokens. No memory.

    Args: see `TokenEncoder`.
    """

    def initial_state(self, batch):
        """Nothing is remembered."""
        return ()

    def step(self, inputs, state, starts=None):
        """int32 `(B, L)` token ids, `NO_TOKEN` where the text is over -> `(B, D)`, state."""
        return self.read_texts(tf.maximum(inputs, 0), inputs != NO_TOKEN), state

    def call(self, inputs, state=None, starts=None, context=0, training=None):
        """int32 `(B, T, L)` -> `(B, T - context, D)`, state."""
        texts = inputs[:, context:]
        flat = tf.reshape(texts, [-1, texts.shape[2]])  # (B * T, L)
        pooled = self.read_texts(tf.maximum(flat, 0), flat != NO_TOKEN, training)
        return tf.reshape(pooled, [-1, texts.shape[1], self.width]), state


@keras.saving.register_keras_serializable("ppo_keras")
class ObservationEncoder(Encoder):
    """Reads what an agent observes: a tanh layer, and a trunk.

    Args:
        observation: the shape of float observations; or a number of states, of which an int32 names one.
        network: "mlp" (no memory), "lstm" or "transformer".
        sizes: see `Encoder`.
    """

    networks = ("mlp", "lstm", "transformer")

    def __init__(self, observation, network, width, layers, dropout=0.0, **sizes):
        super().__init__(network, width, layers, dropout, **sizes)
        self.config["observation"] = observation
        self.states = observation if isinstance(observation, int) else None
        self.rank = 0 if self.states else len(observation)
        self.features = self.states or int(tf.TensorShape(observation).num_elements())
        self.projection = hidden_layer(width, "projection", self.dtype_policy)

    def build(self, input_shape=None):
        self.projection.build((None, self.features))
        super().build(input_shape)

    def embed(self, inputs, training=None):
        """float32 `(..., *observation)`, or int32 `(...)` -> `(..., D)`."""
        inputs = tf.convert_to_tensor(inputs)
        if self.states:
            return self.projection(tf.one_hot(inputs, self.states, dtype=self.compute_dtype))
        batch_shape = inputs.shape[: inputs.shape.rank - self.rank]
        return self.projection(tf.reshape(inputs, [*batch_shape, self.features]))
