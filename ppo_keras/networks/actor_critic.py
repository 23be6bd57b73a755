"""Actor-critics: tokens in, action logits and a value of the state out."""

import keras
import tensorflow as tf

from ppo_keras.networks.encoder import TokenEncoder, small_normal


class ActorCritic(keras.Model):
    """A policy and a value function over sequences of tokens; use `TransformerActorCritic` or `LSTMActorCritic`.

    `step` acts, one input at a time; `call` reads whole sequences. Unrolling `step` gives the numbers of one `call`.

    Args:
        encoder: settings of the `TokenEncoder`s.
        actions: `A`. By default the vocabulary (a language model), whose logits reuse the embedding.
        shared: one encoder for policy and value, or one each, as in the article.
    """

    def __init__(self, encoder, actions=None, shared=True, **kwargs):
        super().__init__(**kwargs)
        self.encoder_config, self.actions, self.shared = encoder, actions, shared
        self.encoder = self.new_encoder(name="encoder")
        head = lambda size, name: keras.layers.Dense(size, kernel_initializer=small_normal(), name=name, dtype=self.dtype_policy)
        self.policy_head = None if actions is None else head(actions, "policy_head")
        self.value_encoder = self.encoder if shared else self.new_encoder(name="value_encoder")
        self.value_head = head(1, "value_head")
        for layer in (self.encoder, self.value_encoder):
            if not layer.built:
                layer.build()
        for head in filter(None, (self.policy_head, self.value_head)):
            head.build((None, self.encoder.width))
        self.built = True

    def new_encoder(self, **kwargs):
        """An untrained `TokenEncoder` of this architecture (a reward model begins with one)."""
        return TokenEncoder(**self.encoder_config, dtype=self.dtype_policy, **kwargs)

    def initial_state(self, batch):
        """The empty memory of `batch` sequences: that of the policy and, with two networks, that of the critic."""
        return tuple(encoder.initial_state(batch) for encoder in self._encoders)

    def step(self, inputs, state, starts=None):
        """Reads one token of each sequence.

        Args:
            inputs: int32 `(B,)`.
            state: from `initial_state`, `step` or `read`.
            starts: float32 `(B,)`, 1 where this token begins an episode; None for nowhere.

        Returns:
            logits float32 `(B, A)`, values float32 `(B,)`, the new state.
        """
        hidden, state = zip(*[encoder.step(inputs, s, starts) for encoder, s in zip(self._encoders, state)])
        return *self._heads(hidden), state

    def read(self, inputs, initial_state=(), starts=None):
        """The state after reading int32 `(B, T)` tokens (a prompt), and nothing else."""
        states = initial_state or [None] * len(self._encoders)
        return tuple(encoder(inputs, state=s, starts=starts)[1] for encoder, s in zip(self._encoders, states))

    def call(self, inputs, initial_state=(), starts=None, context=0, training=None):
        """Reads whole sequences.

        Args:
            inputs: int32 `(B, C + T)`.
            initial_state: the memory before the first input; () for none.
            starts: float32 `(B, C + T)`, 1 where an input begins an episode; None for nowhere.
            context: `C`, how many inputs come before the first output.
            training: True switches dropout on.

        Returns:
            logits float32 `(B, T, A)`, values float32 `(B, T)`.
        """
        states = initial_state or [None] * len(self._encoders)
        read = dict(starts=starts, context=context, training=training)
        return self._heads([encoder(inputs, state=s, **read)[0] for encoder, s in zip(self._encoders, states)])

    def start_value_from_policy(self):
        """Copies the policy's encoder into the critic's, which is better than a critic that has not read anything."""
        if not self.shared:
            self.value_encoder.set_weights(self.encoder.get_weights())

    def copy(self, name=None):
        """A second model with the same weights and no shared variable (a reference must never follow the policy)."""
        twin = type(self).from_config(self.get_config() | ({"name": name} if name else {}))
        twin.set_weights(self.get_weights())
        return twin

    @property
    def _encoders(self):
        return [self.encoder] if self.shared else [self.encoder, self.value_encoder]

    def _heads(self, hidden):
        """Logits and values from the hidden states, in float32 also under mixed precision."""
        values = tf.squeeze(self.value_head(hidden[-1]), axis=-1)
        return self.logits(hidden[0]), tf.cast(values, tf.float32)

    def logits(self, hidden):
        """Action logits float32 `(..., A)` from hidden states of the policy's encoder `(..., D)`."""
        if self.policy_head is None:
            return tf.cast(self.encoder.embedding(hidden, reverse=True), tf.float32)
        return tf.cast(self.policy_head(hidden), tf.float32)

    def get_config(self):
        own = {key: value for key, value in self.encoder_config.items() if key != "network"}
        return {"name": self.name, "dtype": self.dtype_policy.name, "actions": self.actions, "shared": self.shared} | own

    @classmethod
    def from_config(cls, config):
        return cls(**config)


@keras.saving.register_keras_serializable("ppo_keras")
class TransformerActorCritic(ActorCritic):
    """An actor-critic on a pre-norm decoder-only Transformer.

    Args:
        vocabulary_size: `V`.
        actions: `A`; None for a language model.
        width, layers, heads: size of the network; `width` is a multiple of 2 * `heads`.
        memory: how many steps attention reaches back; for text at least prompt plus response.
        dropout: in supervised training only.
        shared: one network with two heads, or a policy and a value network.

    Example:
        >>> policy = TransformerActorCritic(vocabulary_size=100, width=32, layers=2, heads=2, memory=16)
        >>> logits, values = policy(tf.zeros([4, 10], tf.int32))
        >>> logits.shape, values.shape
        (TensorShape([4, 10, 100]), TensorShape([4, 10]))
    """

    def __init__(
        self, vocabulary_size, actions=None, width=128, layers=4, heads=4, memory=128, dropout=0.0, shared=True, **kwargs
    ):
        encoder = dict(
            vocabulary_size=vocabulary_size,
            network="transformer",
            width=width,
            layers=layers,
            heads=heads,
            memory=memory,
            dropout=dropout,
        )
        super().__init__(encoder, actions, shared, **kwargs)


@keras.saving.register_keras_serializable("ppo_keras")
class LSTMActorCritic(ActorCritic):
    """An actor-critic on a stack of LSTM cells.

    Args:
        vocabulary_size: `V`.
        actions: `A`; None for a language model.
        width, layers: size of the network.
        dropout: in supervised training only.
        shared: one network with two heads, or a policy and a value network.

    Example:
        >>> policy = LSTMActorCritic(vocabulary_size=100, width=32, layers=1)
        >>> state = policy.initial_state(4)
        >>> logits, values, state = policy.step(tf.zeros([4], tf.int32), state)
        >>> logits.shape, values.shape
        (TensorShape([4, 100]), TensorShape([4]))
    """

    def __init__(self, vocabulary_size, actions=None, width=256, layers=1, dropout=0.0, shared=True, **kwargs):
        encoder = dict(vocabulary_size=vocabulary_size, network="lstm", width=width, layers=layers, dropout=dropout)
        super().__init__(encoder, actions, shared, **kwargs)


def language_model(network, vocabulary_size, width, layers, heads, memory, dropout, shared):
    """An untrained writer: a `TransformerActorCritic` or an `LSTMActorCritic`, by the name "transformer" or "lstm"."""
    common = dict(vocabulary_size=vocabulary_size, width=width, layers=layers, dropout=dropout, shared=shared, name="policy")
    if network == "lstm":
        return LSTMActorCritic(**common)
    if network == "transformer":
        return TransformerActorCritic(heads=heads, memory=memory, **common)
    raise ValueError(f"network={network!r} is unknown. Use transformer or lstm.")
