"""Adapters (Hu et al. 2022, "LoRA"): a frozen network, to whose layers small products A B are added and trained; and it without them."""

import contextlib

import keras
import numpy as np
import tensorflow as tf

from ppo_keras.errors import require
from ppo_keras.networks.adapter_settings import LAYERS, check_adapters
from ppo_keras.networks.products import axes, product


class Linear(keras.layers.Dense):
    """Keras's `Dense` without an activation, whose adapter acts on what goes in: x W + alpha / rank * (x A) B.

    Keras adds A B to W first, also at every step of a generated text, and then differentiates by all of W. A file keeps W, A and B
    apart: Keras would write their sum, and begin with A = B = 0, from which no gradient leads away.
    """

    borrowed = None  # a function, to the A and B of another role, while that is traced: Keras would take the variables themselves for its own

    def call(self, inputs, training=None):
        """`(..., inputs)` -> `(..., outputs)`."""
        rows = tf.reshape(inputs, [-1, inputs.shape[-1]])  # two-dimensional, for all its products
        outputs = product(rows, tf.convert_to_tensor(self._kernel))
        if self.bias is not None:
            outputs += tf.cast(self.bias, outputs.dtype)
        if self.lora_enabled:
            adapter = self.borrowed() if self.borrowed else (self.lora_kernel_a, self.lora_kernel_b)
            a, b = (tf.cast(variable, tf.float32) for variable in adapter)  # mixed precision reads them in 16 bits
            added = product(product(tf.cast(rows, tf.float32), a), b)
            outputs += tf.cast(self.lora_alpha / self.lora_rank * added, outputs.dtype)
        return tf.reshape(tf.cast(outputs, self.compute_dtype), [*axes(inputs)[:-1], outputs.shape[-1]])

    def save_own_variables(self, store):
        """See `keras.Layer`."""
        if not self.lora_rank:
            return super().save_own_variables(store)
        for name, variable in self._parts().items():
            store[name] = variable

    def load_own_variables(self, store):
        """See `keras.Layer`."""
        if not self.lora_rank:
            return super().load_own_variables(store)
        for name, variable in self._parts().items():
            variable.assign(store[name])

    def _parts(self):
        parts = {"0": self._kernel, "1": self.bias, "lora_kernel_a": self.lora_kernel_a, "lora_kernel_b": self.lora_kernel_b}
        return {name: variable for name, variable in parts.items() if variable is not None}


def add_adapters(policy, rank, alpha=None, layers="attention", critic=False):
    """Freezes the encoder of a language model, and gives its linear layers adapters of a rank: kernel + alpha / rank * A B.

    B is zero at first: the policy is still what it was. The value head stays trainable.

    Args:
        policy: a `TransformerActorCritic` without adapters, shared.
        rank: columns of A.
        alpha: None for twice the rank.
        layers: "attention" (queries, keys, values), "all", or {layer of a block: a rank of its own}, whose alpha is in the same proportion.
        critic: it gets adapters of its own on the same layers, so that values and policy do not pull at the same weights; it then reads by
            itself, which takes as long again as the policy's reading.

    Raises:
        InputError: an argument out of range, or a policy that has adapters.
    """
    check_adapters(rank, alpha, layers)
    alpha = 2 * rank if alpha is None else alpha
    blocks = getattr(getattr(policy.encoder, "trunk", None), "blocks", None)
    require(
        blocks and isinstance(blocks[0].query_key_value, Linear), f"the policy is a {type(policy).__name__}, but adapters are for a TransformerActorCritic."
    )
    require(not adapted(policy), "the policy has adapters already. Load it again.")
    require(policy.shared, "the policy has a critic of its own, which would stay without adapters. Use shared=True.")
    require(
        not (critic and policy.detached),
        "critic=True gives the critic adapters of its own, but the policy is detached: no gradient of the values reaches them. Leave out one.",
    )
    for variable in policy.encoder.variables:
        variable.trainable = False
    ranks = layers if isinstance(layers, dict) else dict.fromkeys(LAYERS[layers], rank)
    for block in blocks:
        for name, own in ranks.items():
            getattr(block, name).enable_lora(own, lora_alpha=alpha if own == rank else alpha / rank * own)
    if critic:
        policy.take_critic_adapters(RoleAdapters(adapted(policy), name="critic_adapters"))


class RoleAdapters(keras.layers.Layer):
    """Adapters of another role (the critic) on the layers of a policy, whose own they are in place of while that role is traced.

    Args:
        layers: the `Linear` layers of a policy that have adapters. The new ones begin as copies of theirs.
    """

    def __init__(self, layers, **kwargs):
        super().__init__(**kwargs)
        pairs = {}
        for i, layer in enumerate(layers):
            theirs = {"a": layer.lora_kernel_a, "b": layer.lora_kernel_b}
            pairs[layer] = [self.add_weight(value.shape, "zeros", name=f"{name}_{i}", dtype="float32", autocast=False) for name, value in theirs.items()]
        self.pairs = lambda: pairs  # Keras would take the layers for parts of this one
        self.begin()

    def begin(self):
        """Makes them those of the policy as it is now."""
        for layer, pair in self.pairs().items():
            for variable, value in zip(pair, (layer.lora_kernel_a, layer.lora_kernel_b)):
                variable.assign(value)

    @contextlib.contextmanager
    def on(self):
        """Inside, and in whatever is traced inside, they are the adapters of the layers."""
        with _reading([(layer, lambda pair=pair: pair, layer.lora_enabled) for layer, pair in self.pairs().items()]):
            yield


class RoleEncoder:
    """An encoder as another role reads with it: with the adapters of that role.

    Args:
        encoder: an `Encoder`.
        adapters: `RoleAdapters` on its layers.
    """

    def __init__(self, encoder, adapters):
        self.encoder, self.adapters = encoder, adapters

    def initial_state(self, batch):
        """See `Encoder`."""
        return self.encoder.initial_state(batch)

    def step(self, *args, **kwargs):
        """See `Encoder`."""
        with self.adapters.on():
            return self.encoder.step(*args, **kwargs)

    def __call__(self, *args, **kwargs):
        """See `Encoder.call`."""
        with self.adapters.on():
            return self.encoder(*args, **kwargs)


def adapted(policy):
    """The linear layers of a policy that have adapters, a list of `keras.layers.Dense`."""
    trunk = getattr(getattr(policy, "encoder", None), "trunk", None)  # a policy of one's own may have neither
    layers = [getattr(block, name, None) for block in getattr(trunk, "blocks", ()) for name in LAYERS["all"]]
    return [layer for layer in layers if getattr(layer, "lora_rank", None)]


def adapter_settings(policy):
    """What `add_adapters` was given: {} without adapters."""
    layers = adapted(policy)
    if not layers:
        return {}
    first, rank = policy.encoder.trunk.blocks[0], layers[0].lora_rank
    ranks = {name: own for name in LAYERS["all"] if (own := getattr(first, name).lora_rank)}
    kind = next((kind for kind, names in LAYERS.items() if ranks == dict.fromkeys(names, rank)), ranks)
    critic = {"critic": True} if policy.critic_adapters is not None else {}
    return dict(rank=rank, alpha=layers[0].lora_alpha, layers=kind) | critic


def adapter_variables(policy):
    """What adapters add to a policy: [A, B, A, B, ...], each a `keras.Variable`."""
    return [variable for layer in adapted(policy) for variable in (layer.lora_kernel_a, layer.lora_kernel_b)]


@contextlib.contextmanager
def adapters_off(policy):
    """Inside, and in whatever is traced inside, the policy is what it was before it had adapters."""
    with _reading([(layer, layer.borrowed, False) for layer in adapted(policy)]):
        yield


def as_now(function, layers):
    """A function that reads with the adapters that linear layers have now, whenever it is called: what is computed once more backwards, when its role is over."""
    roles = _roles(layers)

    def call(*args):
        with _reading(roles):
            return function(*args)

    return call


@contextlib.contextmanager
def _reading(roles):
    """Inside, layers have these adapters: `roles` are (layer, what it has borrowed, whether its adapters are on)."""
    before = _roles([layer for layer, *_ in roles])
    _switch(roles)
    try:
        yield
    finally:
        _switch(before)


def _roles(layers):
    return [(layer, layer.borrowed, layer.lora_enabled) for layer in layers]


def _switch(roles):
    for layer, borrowed, enabled in roles:
        layer.borrowed, layer.lora_enabled = borrowed, enabled


def frozen_variables(model):
    """The weights of a model's encoder that stay as they are because adapters are trained in their place; [] without adapters."""
    return [variable for variable in model.encoder.variables if not variable.trainable] if adapted(model) else []


def reference_of(policy):
    """A frozen twin that never follows a policy: of one with adapters without a second copy of its weights."""
    if adapted(policy):
        return Frozen(policy)
    twin = policy.copy(name="reference")
    twin.trainable = False
    return twin


class Frozen:
    """A policy with adapters as it is now, whatever it learns: it keeps a copy of its heads and adapters, and shares the weights that never change.

    While it is traced, Keras takes the copies for the policy's own variables (`StatelessScope`). Adapters that have learned nothing yet are switched
    off instead: that needs no copy, and saves their products.
    """

    trainable = False

    def __init__(self, policy):
        require(adapted(policy), "the policy has no adapters, so it shares no frozen weights. Use policy.copy().")
        self.policy = policy
        critics = [] if policy.critic_adapters is None else policy.critic_adapters.trainable_variables
        self.new = not any(np.any(b.numpy()) for b in (adapter_variables(policy) + critics)[1::2])
        self.switch = adapters_off if self.new else lambda policy: contextlib.nullcontext()
        left_out = {id(variable) for variable in adapter_variables(policy) + critics} if self.new else ()
        self.learned = [variable for variable in policy.trainable_variables if id(variable) not in left_out]
        self.variables = [keras.Variable(variable.numpy(), trainable=False, dtype=variable.dtype, name=variable.name) for variable in self.learned]

    def is_still(self, policy):
        """Whether a policy writes as it did when this was made of it, whatever its critic has learned."""
        if policy is not self.policy or (self.new and any(np.any(b.numpy()) for b in adapter_variables(policy)[1::2])):
            return False
        critic = {id(variable) for variable in policy.critic_variables}
        return all(np.array_equal(now.numpy(), kept.numpy()) for now, kept in zip(self.learned, self.variables) if id(now) not in critic)

    @property
    def distribution(self):
        """That of the policy."""
        return self.policy.distribution

    @property
    def width(self):
        """That of the policy."""
        return self.policy.width

    @property
    def has_memory(self):
        """That of the policy."""
        return self.policy.has_memory

    def initial_state(self, batch):
        """See `ActorCritic`."""
        return self.policy.initial_state(batch)

    def __call__(self, *args, **kwargs):
        """See `ActorCritic.call`."""
        with self._as_it_was():
            return self.policy(*args, **kwargs)

    def hidden(self, *args, **kwargs):
        """See `ActorCritic`."""
        with self._as_it_was():
            return self.policy.hidden(*args, **kwargs)

    def logits(self, hidden):
        """See `ActorCritic`."""
        with self._as_it_was():
            return self.policy.logits(hidden)

    def step(self, *args, **kwargs):
        """See `ActorCritic`."""
        with self._as_it_was():
            return self.policy.step(*args, **kwargs)

    def read(self, *args, **kwargs):
        """See `ActorCritic`."""
        with self._as_it_was():
            return self.policy.read(*args, **kwargs)

    @contextlib.contextmanager
    def _as_it_was(self):
        values = [(variable, kept.value) for variable, kept in zip(self.learned, self.variables)]
        with self.switch(self.policy), keras.StatelessScope(state_mapping=values):
            yield
