"""Actor-critics: inputs in, the parameters of an action distribution (logits) and a value of the state out."""

from numbers import Integral

import keras
import tensorflow as tf

from ppo_keras.distributions import distribution_of
from ppo_keras.errors import InputError, check_count, require, shown
from ppo_keras.networks.adapters import RoleEncoder, adapter_settings, add_adapters, frozen_variables
from ppo_keras.networks.encoder import (
    ObservationEncoder,
    TextEncoder,
    TokenEncoder,
    small_normal,
)
from ppo_keras.networks.normalization import RunningNormalization
from ppo_keras.networks.transformer import Form


class ActorCritic(keras.Model):
    """A policy and a value function over sequences; use `MLPActorCritic`, `LSTMActorCritic` or `TransformerActorCritic`.

    `step` acts, one input at a time; `call` reads whole sequences. Unrolling `step` gives the numbers of one `call`.
    Without `actions` it is a language model: its inputs are tokens, and so are its actions.

    Args:
        inputs: what is read: the size of a vocabulary; for an agent the number of states, or the shape of an observation.
        actions: of an agent: a count `A`, a list of counts (several choices at once), or a distribution such as
            `DiagonalGaussian(3)`. None for a language model, whose logits reuse the embedding.
        shared: one encoder for policy and value, or one each, as in the article.
        detached: with a shared encoder, the gradient of the values stops at it: only the policy's moves it.
        normalize: float observations are normalised by their running mean and variance.
        vocabulary_size: `V` where each observation is a whole text, int32 of shape `inputs`, filled up with `NO_TOKEN`.
        encoder: settings of the encoders: `network`, `width`, `layers`, ...
    """

    def __init__(self, inputs, actions=None, shared=True, normalize=False, vocabulary_size=None, encoder=None, detached=False, **kwargs):
        check_sizes(inputs, actions, encoder)
        super().__init__(autocast=False, **kwargs)
        inputs = int(inputs) if isinstance(inputs, Integral) else tuple(inputs)
        actions = int(actions) if isinstance(actions, Integral) else actions
        if normalize and (vocabulary_size or isinstance(inputs, int)):
            raise ValueError("normalize=True needs float observations, but inputs are states or tokens. Leave it out.")
        if detached and not shared:
            raise ValueError("detached=True stops the gradient of the values at the policy's encoder, but the critic has one of its own. Leave out one.")
        self.vocabulary_size, self.detached, self.critic_adapters = vocabulary_size, detached, None
        self.inputs_read, self.actions, self.shared, self.normalize, self.encoder_config = (
            inputs,
            actions,
            shared,
            normalize,
            encoder,
        )
        self.distribution = distribution_of(inputs if actions is None else actions)
        self.normalization = RunningNormalization(inputs, name="normalization") if normalize else None
        self.encoder = self.new_encoder(name="encoder")
        self.value_encoder = self.encoder if shared else self.new_encoder(name="value_encoder")
        self.policy_head = None if actions is None else self._head(self.distribution.size, 0.01, "policy_head")
        self.value_head = self._head(1, 1.0, "value_head")
        self.free_parameters = None
        if self.distribution.free:
            self.free_parameters = self.add_weight((self.distribution.free,), "zeros", name="free_parameters", dtype="float32", autocast=False)
        for layer in (self.encoder, self.value_encoder):
            if not layer.built:
                layer.build()
        for layer in filter(None, (self.policy_head, self.value_head)):
            layer.build((None, self.encoder.width))
        self.built = True

    def _head(self, size, gain, name):
        """A linear layer: GPT-2's initialisation in a language model, an orthogonal one in an agent."""
        kernel = small_normal() if self.actions is None else keras.initializers.Orthogonal(gain)
        dtype = "float32" if self.variable_dtype == "bfloat16" else self.dtype_policy  # small steps would be rounded away
        return keras.layers.Dense(size, kernel_initializer=kernel, name=name, dtype=dtype)

    def new_encoder(self, **kwargs):
        """An untrained encoder of this architecture (a reward model begins with one)."""
        kwargs |= self.encoder_config | {"dtype": self.dtype_policy}
        if self.vocabulary_size:
            return TextEncoder(self.vocabulary_size, **kwargs)
        return (TokenEncoder if self.actions is None else ObservationEncoder)(self.inputs_read, **kwargs)

    @property
    def width(self):
        """`D`, of the hidden states."""
        return self.encoder.width

    @property
    def has_memory(self):
        """False where every input is read for itself."""
        return self.encoder_config["network"] != "mlp" and not self.vocabulary_size

    def initial_state(self, batch):
        """The empty memory of `batch` sequences: that of the policy and, with two networks, that of the critic."""
        return tuple(encoder.initial_state(batch) for encoder in self._encoders)

    def step(self, inputs, state, starts=None):
        """Reads one input of each sequence.

        Args:
            inputs: `(B, ...)`, int32 tokens or states, or float32 observations.
            state: from `initial_state`, `step` or `read`.
            starts: float32 `(B,)`, 1 where this input begins an episode; None for nowhere.

        Returns:
            logits float32 `(B, A)`, values float32 `(B,)`, the new state.
        """
        inputs = self._normalized(inputs)
        hidden, state = zip(*[encoder.step(inputs, s, starts) for encoder, s in zip(self._encoders, state)])
        return self.logits(hidden[0]), self._values(hidden), state

    def read(self, inputs, initial_state=(), starts=None):
        """The state after reading `(B, T, ...)` inputs (a prompt), and nothing else."""
        inputs = self._normalized(inputs)
        states = initial_state or [None] * len(self._encoders)
        return tuple(encoder(inputs, state=s, starts=starts)[1] for encoder, s in zip(self._encoders, states))

    def call(self, inputs, initial_state=(), starts=None, context=0, training=None):
        """Reads whole sequences.

        Args:
            inputs: `(B, C + T, ...)`.
            initial_state: the memory before the first input; () for none.
            starts: float32 `(B, C + T)`, 1 where an input begins an episode; None for nowhere.
            context: `C`, how many inputs come before the first output.
            training: True switches dropout on.

        Returns:
            logits float32 `(B, T, A)`, values float32 `(B, T)`.
        """
        hidden, values = self.hidden(inputs, initial_state, starts, context, training)
        return self.logits(hidden), values

    def hidden(self, inputs, initial_state=(), starts=None, context=0, training=None):
        """What `call` makes its logits of, and the values: hidden states `(B, T, D)`, float32 `(B, T)`. Args: see `call`."""
        inputs = self._normalized(inputs)
        states = initial_state or [None] * len(self._encoders)
        read = dict(starts=starts, context=context, training=training)
        hidden = [encoder(inputs, state=s, **read)[0] for encoder, s in zip(self._encoders, states)]
        return hidden[0], self._values(hidden)

    def start_value_from_policy(self):
        """A critic for a policy that can read already: the policy's encoder, and V = 0 everywhere.

        A head as it was drawn gives values that differ more from state to state than most rewards of text do, and the
        first updates would learn from those differences.
        """
        if self.critic_adapters is not None:
            self.critic_adapters.begin()
        elif not self.shared:
            self.value_encoder.set_weights(self.encoder.get_weights())
        self.value_head.set_weights([tf.zeros_like(weight) for weight in self.value_head.weights])

    def start_value_from_reward(self, model):
        """A critic that begins with what a reward model knows: V of a text so far is the score that the text would have, were it over.

        Args:
            model: a `RewardModel` of one output that shares the trunk of this policy's reference, whose scores PPO then pays.

        Raises:
            InputError: it has an encoder of its own, several outputs, or another width.
        """
        fits = getattr(model, "scaling", None) is not None and model.outputs == 1 and model.width == self.width
        require(
            fits, f"a critic begins with a reward model of one output on the trunk of its policy ({self.width} wide). Use RewardModel(reference_of(policy))."
        )
        self.start_value_from_policy()
        scale = 1.0 / tf.maximum(tf.sqrt(model.scaling.variance[0]), keras.config.epsilon())
        kernel = scale[:, tf.newaxis] * model.head.kernel
        self.value_head.set_weights([kernel, model.head.bias - tf.linalg.matvec(kernel, model.scaling.mean[0], transpose_a=True)])

    def take_critic_adapters(self, adapters):
        """The critic reads with `RoleAdapters` of its own from now on (see `add_adapters`)."""
        self.critic_adapters = adapters
        self.value_encoder = RoleEncoder(self.encoder, adapters)

    def copy(self, name=None):
        """A second model with the same weights and no shared variable (a reference must never follow the policy)."""
        twin = type(self).from_config(self.get_config() | ({"name": name} if name else {}))
        twin.set_weights(self.get_weights())
        return twin

    @property
    def frozen_variables(self):
        """See `adapters.frozen_variables`."""
        return frozen_variables(self)

    @property
    def critic_variables(self):
        """The trainable variables that only the values depend on: of the head, and of an encoder or adapters of its own."""
        own = [self.critic_adapters] if self.critic_adapters is not None else [] if self.shared else [self.value_encoder]
        return [variable for layer in [*own, self.value_head] for variable in layer.trainable_variables]

    @property
    def _encoders(self):
        return [self.encoder] if self.value_encoder is self.encoder else [self.encoder, self.value_encoder]

    def _normalized(self, inputs):
        return inputs if self.normalization is None else self.normalization(inputs)

    def _values(self, hidden):
        """Values from the hidden states of each encoder, float32 also under mixed precision."""
        read = tf.stop_gradient(hidden[-1]) if self.detached else hidden[-1]
        return tf.cast(tf.squeeze(self.value_head(read), axis=-1), tf.float32)

    def logits(self, hidden):
        """Parameters of the action distribution, float32 `(..., A)`, from hidden states of the policy's encoder `(..., D)`."""
        if self.policy_head is None:
            return tf.cast(self.encoder.embedding(hidden, reverse=True), tf.float32)
        logits = tf.cast(self.policy_head(hidden), tf.float32)
        if self.free_parameters is None:
            return logits
        free = tf.broadcast_to(self.free_parameters, [*logits.shape[:-1], self.distribution.free])
        return tf.concat([logits, free], axis=-1)

    def get_config(self):
        actions = self.actions
        if not (actions is None or isinstance(actions, (int, list, tuple))):
            actions = keras.saving.serialize_keras_object(actions)
        own = {key: value for key, value in self.encoder_config.items() if key != "network"}
        config = {"name": self.name, "dtype": self.dtype_policy.name, "inputs": self.inputs_read, "actions": actions}
        shared = {"shared": self.shared, "normalize": self.normalize} | ({"detached": True} if self.detached else {})
        adapters = {"adapters": settings} if (settings := adapter_settings(self)) else {}
        return config | shared | ({"vocabulary_size": self.vocabulary_size} if self.vocabulary_size else {}) | own | adapters

    @classmethod
    def from_config(cls, config):
        if isinstance(config["actions"], dict):
            config = config | {"actions": keras.saving.deserialize_keras_object(config["actions"])}
        adapters = config.get("adapters")
        policy = cls(**{name: value for name, value in config.items() if name != "adapters"})
        if adapters:
            add_adapters(policy, **adapters)
        return policy


@keras.saving.register_keras_serializable("ppo_keras")
class MLPActorCritic(ActorCritic):
    """An actor-critic without memory, for agents: what is best to do must show in each observation.

    Args:
        inputs, actions, shared, normalize: see `ActorCritic`.
        width, layers: size of the network; a first layer that reads the observation is not counted.

    Example:
        >>> policy = MLPActorCritic(inputs=(4,), actions=2)
        >>> logits, values, _ = policy.step(tf.zeros([8, 4]), policy.initial_state(8))
        >>> logits.shape, values.shape
        (TensorShape([8, 2]), TensorShape([8]))
    """

    def __init__(self, inputs, actions, width=64, layers=1, shared=False, **kwargs):
        super().__init__(inputs, actions, shared, encoder=dict(network="mlp", width=width, layers=layers), **kwargs)


@keras.saving.register_keras_serializable("ppo_keras")
class TransformerActorCritic(ActorCritic):
    """An actor-critic on a pre-norm decoder-only Transformer.

    Args:
        inputs, actions, shared, normalize, vocabulary_size: see `ActorCritic`.
        width, layers, heads: size of the network; `width` is a multiple of 2 * `heads`.
        memory: how many steps attention reaches back; for text at least prompt plus response.
        dropout: in supervised training only.
        form: in what another family of Transformers differs: a `Form`, or the dictionary of one.
        recompute: blocks are computed once more backwards instead of kept, which takes less memory and more time.

    Example:
        >>> policy = TransformerActorCritic(inputs=100, width=32, layers=2, heads=2, memory=16)
        >>> logits, values = policy(tf.zeros([4, 10], tf.int32))
        >>> logits.shape, values.shape
        (TensorShape([4, 10, 100]), TensorShape([4, 10]))
    """

    def __init__(self, inputs, actions=None, width=128, layers=4, heads=4, memory=128, dropout=0.0, form=None, recompute=False, **kwargs):
        encoder = dict(network="transformer", width=width, layers=layers, heads=heads, memory=memory, dropout=dropout)
        if settings := Form.of(form).settings():
            encoder["form"] = settings
        if recompute:
            encoder["recompute"] = True
        super().__init__(inputs, actions, encoder=encoder, **kwargs)


@keras.saving.register_keras_serializable("ppo_keras")
class LSTMActorCritic(ActorCritic):
    """An actor-critic on a stack of LSTM cells.

    Args:
        inputs, actions, shared, normalize, vocabulary_size: see `ActorCritic`.
        width, layers: size of the network.
        dropout: in supervised training only.

    Example:
        >>> policy = LSTMActorCritic(inputs=100, width=32, layers=1)
        >>> state = policy.initial_state(4)
        >>> logits, values, state = policy.step(tf.zeros([4], tf.int32), state)
        >>> logits.shape, values.shape
        (TensorShape([4, 100]), TensorShape([4]))
    """

    def __init__(self, inputs, actions=None, width=256, layers=1, dropout=0.0, **kwargs):
        encoder = dict(network="lstm", width=width, layers=layers, dropout=dropout)
        super().__init__(inputs, actions, encoder=encoder, **kwargs)


def check_sizes(inputs, actions, encoder):
    """Raises `InputError` where an `ActorCritic` cannot have these inputs, actions or sizes."""
    for name, example in (("width", 64), ("layers", 1), ("heads", 4), ("memory", 32)):
        if name in encoder:
            check_count(name, encoder[name], example=example)
    whole = lambda value: isinstance(value, Integral) and not isinstance(value, bool) and value > 0
    several = lambda value: hasattr(value, "__iter__") and all(map(whole, value))
    if actions is None and not whole(inputs):
        raise InputError(f"inputs={shown(inputs)} is no size of a vocabulary. Use tokenizer.vocabulary_size; an agent's policy needs actions, too.")
    if actions is None and encoder["network"] == "mlp":
        raise InputError("an MLP is no language model. Give the actions of an agent, or use TransformerActorCritic or LSTMActorCritic.")
    if not whole(inputs) and not several(inputs):
        raise InputError(f"inputs={shown(inputs)} is neither a number of states nor the shape of an observation. Use environment.observation.")
    if not (actions is None or whole(actions) or (several(actions) and len(actions)) or hasattr(actions, "log_probability")):
        raise InputError(f"actions={shown(actions)} is no count, list of counts or distribution. Use environment.actions.")


def new_policy(network, inputs, actions=None, *, width, layers, heads, memory, recompute=False, **settings):
    """An untrained actor-critic by the name of its network: "mlp", "lstm" or "transformer" (which alone knows `heads`, `memory` and `recompute`)."""
    common = dict(inputs=inputs, actions=actions, width=width, layers=layers, name="policy", **settings)
    if network == "transformer":
        return TransformerActorCritic(heads=heads, memory=memory, recompute=recompute, **common)
    if recompute:
        raise ValueError(f"recompute=True is for a transformer's blocks, but network={network!r}. Leave it out.")
    if network == "lstm":
        return LSTMActorCritic(**common)
    if network == "mlp":
        return MLPActorCritic(**common)
    raise ValueError(f"network={network!r} is unknown. Use mlp, lstm or transformer.")
