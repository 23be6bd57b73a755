"""From token ids to hidden states: an embedding and a trunk. Policies, critics and reward models all begin with one."""

import keras

from ppo_keras.networks.lstm import LSTMTrunk
from ppo_keras.networks.transformer import TransformerTrunk
from ppo_keras.randomness import Dropout


def small_normal():
    """A fresh N(0, 0.02) initialiser, as GPT-2 has it."""
    return keras.initializers.RandomNormal(stddev=0.02)


@keras.saving.register_keras_serializable("ppo_keras")
class TokenEncoder(keras.layers.Layer):
    """An embedding, scaled by sqrt(D) as in Vaswani et al. (2017, section 3.4), and a Transformer or LSTM trunk.

    Args:
        vocabulary_size: `V`.
        network: "transformer", "lstm", or "bag": embeddings alone, whose mean is the bag of words of Joulin et al.
            (2017, "Bag of tricks for efficient text classification"). A bag reads but cannot act; for reward models.
        width: `D`.
        layers: depth of the trunk.
        dropout: in training only.
        heads: attention heads of a Transformer.
        memory: how many steps a Transformer's attention reaches back; at least the length of prompt plus response.
    """

    def __init__(self, vocabulary_size, network, width, layers, dropout=0.0, heads=4, memory=128, **kwargs):
        super().__init__(**kwargs)
        self.config = dict(
            vocabulary_size=vocabulary_size,
            network=network,
            width=width,
            layers=layers,
            dropout=dropout,
            heads=heads,
            memory=memory,
        )
        self.width = width
        precision = dict(dtype=self.dtype_policy)
        self.embedding = keras.layers.ReversibleEmbedding(
            vocabulary_size, width, embeddings_initializer=small_normal(), name="embedding", **precision
        )
        self.embedding_dropout = Dropout(dropout, name="embedding_dropout", **precision)
        if network == "transformer":
            self.trunk = TransformerTrunk(width, layers, heads, memory, dropout, name="trunk", **precision)
        elif network == "lstm":
            self.trunk = LSTMTrunk(width, layers, dropout, name="trunk", **precision)
        elif network == "bag":
            self.trunk = None
        else:
            raise ValueError(f"network={network!r} is unknown. Use transformer, lstm or bag.")

    def build(self, input_shape=None):
        self.embedding.build()
        if self.trunk is not None:
            self.trunk.build((None, None, self.width))

    def initial_state(self, batch):
        """The empty memory of `batch` sequences."""
        return self.trunk.initial_state(batch)

    def step(self, tokens, state, starts=None):
        """One token each: int32 `(B,)`, state, optional `(B,)` -> `(B, D)`, new state."""
        return self.trunk.step(self.embedding(tokens) * self.width**0.5, state, starts)

    def call(self, tokens, state=None, starts=None, context=0, training=None):
        """Sequences: int32 `(B, T)`, state, `(B, T)` -> `(B, T - context, D)`, state after the last step."""
        embedded = self.embedding_dropout(self.embedding(tokens) * self.width**0.5, training=training)
        if self.trunk is None:
            return embedded[:, context:], state
        return self.trunk(embedded, state=state, starts=starts, context=context, training=training)

    def get_config(self):
        return super().get_config() | self.config
