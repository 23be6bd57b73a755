"""`ppo_keras.blocks`: logits some positions at a time, with the numbers and the gradients of the whole."""

import types

import numpy as np
import pytest
import tensorflow as tf

from ppo_keras import blocks
from ppo_keras.blocks import from_logits, in_blocks
from ppo_keras.config import PPOConfig
from ppo_keras.language.generation import Prompts, response_log_probs
from ppo_keras.language.ppo import LanguagePPO
from ppo_keras.losses import entropy, log_probability
from ppo_keras.networks.actor_critic import LSTMActorCritic, TransformerActorCritic
from ppo_keras.networks.adapters import add_adapters, reference_of

B, T, D, V = 3, 5, 4, 30
MODES = {"eager": lambda f: f, "graph": lambda f: tf.function(f, autograph=False), "xla": lambda f: tf.function(f, jit_compile=True, autograph=False)}


def float64_numbers(hidden, tokens, kernel, bias):
    """Log-probabilities, entropies and, of sum(sin(log p) H), the gradients by hidden states, kernel and bias: by NumPy, in float64."""
    logits = hidden @ kernel + bias
    log_probs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    p, chosen = np.exp(log_probs), np.take_along_axis(log_probs, tokens[..., None], -1)[..., 0]
    entropies = -(p * log_probs).sum(-1)
    of_chosen, of_entropy = np.cos(chosen) * entropies, np.sin(chosen)
    by_logits = of_chosen[..., None] * (np.eye(logits.shape[-1])[tokens] - p) - of_entropy[..., None] * p * (log_probs + entropies[..., None])
    return chosen, entropies, by_logits @ kernel.T, np.einsum("btd,btv->dv", hidden, by_logits), by_logits.sum((0, 1))


@pytest.mark.parametrize("positions", [1, 4, 7, 15])  # in a block: the last of them is full, nearly empty, half full; all at once
@pytest.mark.parametrize("mode", MODES)
def test_numbers_and_gradients_are_those_of_the_whole(mode, positions, monkeypatch):
    """Catches: a block left out or used twice, the filling of the last block in a gradient, variables without a gradient, a frozen one with one."""
    monkeypatch.setattr(blocks, "NUMBERS", positions * V)
    rng = np.random.default_rng(0)
    hidden, kernel, bias = rng.normal(size=[B, T, D]), rng.normal(size=[D, V]), rng.normal(size=V)
    tokens = rng.integers(0, V, [B, T])
    kernel_variable, bias_variable = tf.Variable(kernel, dtype=tf.float32), tf.Variable(bias, dtype=tf.float32)
    frozen = tf.Variable(tf.zeros([V]), trainable=False)

    def measure(hidden, tokens):
        logits = tf.einsum("...d,dv->...v", hidden, kernel_variable) + bias_variable + frozen
        return log_probability(logits, tokens), entropy(logits)

    def run(hidden, tokens):
        with tf.GradientTape() as tape:
            tape.watch(hidden)
            log_probs, entropies = in_blocks(measure, V, hidden, tokens)
            loss = tf.reduce_sum(tf.sin(log_probs) * entropies)
        return [log_probs, entropies, *tape.gradient(loss, [hidden, kernel_variable, bias_variable])]

    found = MODES[mode](run)(tf.constant(hidden, tf.float32), tf.constant(tokens, tf.int32))
    for ours, theirs in zip(found, float64_numbers(hidden, tokens, kernel, bias)):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=2e-5)


def learner_of(kind):
    """A learner of a few weights, and prompts for it."""
    tf.random.set_seed(0)
    if kind == "lstm":
        policy = LSTMActorCritic(V, width=8)
    else:
        policy = TransformerActorCritic(V, width=8, layers=1, heads=2, memory=16, form=dict(tied=kind == "adapters"))
    if kind == "adapters":
        add_adapters(policy, rank=2)
        for block in policy.encoder.trunk.blocks:
            block.query_key_value.lora_kernel_b.assign(tf.ones_like(block.query_key_value.lora_kernel_b) * 0.1)
    config = PPOConfig(discount=1.0, minibatches=2, accumulation_steps=2, entropy_coefficient=0.1)
    learner = LanguagePPO(policy, lambda prompts, responses: tf.reduce_sum(responses.mask, axis=1), 1, 0, 6, config)
    learner.compile("sgd", jit_compile=False)
    prompts = Prompts(tf.constant(np.random.default_rng(1).integers(2, V, [8, 3]), tf.int32), tf.constant([[0.0, 1, 1]] * 4 + [[1.0, 1, 1]] * 4))
    return learner, prompts


@pytest.mark.parametrize("kind", ["lstm", "untied", "adapters"])
def test_the_learner_learns_the_same(kind, monkeypatch):
    """Catches: log-probabilities, a reference or gradients of the learner that depend on the blocks; adapters or a head that get no gradient in blocks."""
    learner, prompts = learner_of(kind)
    trajectory, _ = learner.collect(prompts)

    def numbers():
        gradients, metrics = tf.function(lambda e: learner.gradients(e, 4.0), autograph=False)(learner.estimate(trajectory))
        responses = types.SimpleNamespace(tokens=trajectory.actions, mask=trajectory.mask)  # what is read of `Responses`
        reference = response_log_probs(learner.reference, prompts, responses, 0.7)
        return [*gradients, *metrics.values(), reference]

    whole = numbers()
    monkeypatch.setattr(blocks, "NUMBERS", 5 * V)
    assert max(float(tf.reduce_max(tf.abs(gradient))) for gradient in whole[: len(learner.policy.trainable_variables)]) > 1e-3
    for one, other in zip(whole, numbers(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def largest(graph):
    """The most numbers that a tensor of a graph, or of a function that it calls, holds."""
    graphs = [graph, *[function.graph for function in getattr(graph, "_functions", {}).values() if hasattr(function, "graph")]]
    library = [tensor.shape for graph in graphs for operation in graph.get_operations() for tensor in operation.outputs]
    return max(shape.num_elements() or 0 for shape in library if shape.rank is not None)


@pytest.mark.parametrize("tied", [True, False])
def test_no_tensor_holds_all_logits(tied, monkeypatch):
    """Catches: logits of the whole batch, forwards or kept for the backward pass."""
    monkeypatch.setattr(blocks, "NUMBERS", 8 * 1000)
    policy = TransformerActorCritic(1000, width=4, layers=1, heads=2, memory=16, form=dict(tied=tied))

    def run(tokens):
        with tf.GradientTape() as tape:
            measure = lambda logits, actions: (log_probability(logits, actions), entropy(logits))
            (log_probs, entropies), _ = from_logits(policy, measure, [tokens], tokens)
            loss = tf.reduce_sum(log_probs + entropies)
        return tape.gradient(loss, [variable.value for variable in policy.trainable_variables], unconnected_gradients="zero")

    graph = tf.function(run, autograph=False).get_concrete_function(tf.TensorSpec([8, 10], tf.int32)).graph
    assert largest(graph) == 8 * 1000  # of one block
    monkeypatch.setattr(blocks, "NUMBERS", 2**24)
    graph = tf.function(run, autograph=False).get_concrete_function(tf.TensorSpec([8, 10], tf.int32)).graph
    assert largest(graph) == 80 * 1000


def test_a_policy_without_hidden_states_puts_out_logits():
    """Catches: a policy of one's own, which has `call` alone, that is refused or whose logits go through a second head; layers of it taken for the methods."""

    class Own:
        distribution = LSTMActorCritic(V, width=4).distribution

        def __init__(self):
            self.hidden = self.logits = lambda *_, **__: 1 / 0

        def __call__(self, inputs, **read):
            return tf.one_hot(inputs, V) * 3.0, tf.ones(inputs.shape) * read["scale"]

    tokens = tf.constant([[1, 2], [3, 4]])
    (log_probs,), values = from_logits(Own(), lambda logits, actions: (log_probability(logits, actions),), [tokens], tokens, scale=2.0)
    np.testing.assert_allclose(log_probs, np.full([2, 2], 3 - np.log(np.exp(3) + V - 1)), rtol=1e-6)
    np.testing.assert_allclose(values, np.full([2, 2], 2.0))


@pytest.mark.parametrize("frozen", [False, True])
def test_a_policy_with_another_call_is_asked_by_it(frozen):
    """Catches: a `call` of a subclass that acts by other logits than those that the update, or the reference that it became, reads."""

    class Flat(TransformerActorCritic):
        def call(self, *inputs, **read):
            logits, values = super().call(*inputs, **read)
            return logits * 0.0, values

    tokens, policy = tf.constant([[1, 2, 3]]), Flat(V, width=4, heads=1, layers=1, memory=4)
    if frozen:
        add_adapters(policy, 1)
        policy = reference_of(policy)
    (log_probs,), _ = from_logits(policy, lambda logits, actions: (log_probability(logits, actions),), [tokens], tokens)
    np.testing.assert_allclose(log_probs, np.full([1, 3], -np.log(V)), rtol=1e-6)
