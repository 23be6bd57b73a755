"""Tiny policies and batches that the tests share; nothing here is a test."""

import keras
import numpy as np
import tensorflow as tf

from ppo_keras import (
    KLConfig,
    LanguagePPO,
    LSTMActorCritic,
    PPOConfig,
    Prompts,
    RewardModel,
    Trajectory,
    TransformerActorCritic,
)
from ppo_keras.distributions import Categorical
from ppo_keras.language.generation import join
from ppo_keras.networks.actor_critic import new_policy
from ppo_keras.runs.glossary import METRIC_NAMES

NETWORKS = ("transformer", "lstm")
VOCABULARY, PAD, END = 24, 0, 3
AGENT_METRICS = [name for name in METRIC_NAMES if name.startswith("episode/")] + ["time/environment_steps", "time/steps_per_second"]
TEXT_METRICS = [name for name in METRIC_NAMES if name not in AGENT_METRICS]
ITERATION_METRICS = [name for name in TEXT_METRICS if name.split("/")[0] not in ("writer", "reward", "judge")]


def tiny_policy(network="transformer", shared=True, layers=1, memory=16, actions=None, dropout=0.0, vocabulary_size=VOCABULARY, seed=0, spread=0.25):
    """A policy of width 16 whose weights, biases too, are spread so far that a wrong input shows in its numbers."""
    common = dict(inputs=vocabulary_size, actions=actions, width=16, layers=layers, dropout=dropout, shared=shared, name="policy")
    policy = LSTMActorCritic(**common) if network == "lstm" else TransformerActorCritic(heads=2, memory=memory, **common)
    random = np.random.default_rng(seed)
    policy.set_weights([random.normal(1.0 if w.path.endswith("gamma") else 0.0, spread, w.shape) for w in policy.weights])
    return policy


def tiny_reward(network="transformer", dropout=0.0, outputs=1, **kwargs):
    """A `RewardModel` whose weights are spread out."""
    model = RewardModel(tiny_policy(network, dropout=dropout, **kwargs).new_encoder(), dropout=dropout, outputs=outputs, name="reward")
    random = np.random.default_rng(3)
    model.set_weights([random.normal(1.0 if w.path.endswith("gamma") else 0.0, 0.3, w.shape) for w in model.weights])
    return model


def response_outputs(policy, prompts, responses):
    """Logits `(B, T, V)` and values `(B, T)` before each response token, all at once."""
    tokens, starts = join(prompts, responses)
    return policy(tokens, starts=starts, context=prompts.tokens.shape[1] - 1, training=False)


def tiny_agent(network="mlp", observation=(4,), actions=3, shared=False, layers=1, memory=16, normalize=False, seed=0, spread=0.5):
    """A policy of an agent, of width 8, its weights spread as in `tiny_policy`; its statistics of observations are not those of a fresh one."""
    sizes = dict(width=8, layers=layers, heads=2, memory=memory, shared=shared, normalize=normalize)
    agent = new_policy(network, observation, actions, **sizes)
    random = np.random.default_rng(seed)
    shift = lambda w: 1.0 if w.path.endswith(("gamma", "count")) else 0.0
    weights = [random.normal(shift(w), spread, w.shape) for w in agent.weights]
    agent.set_weights([np.abs(x) + 0.1 if w.path.endswith("variance") else x for w, x in zip(agent.weights, weights)])
    return agent


def tiny_reader(network="transformer", shared=True, actions=3, length=6, layers=1, dropout=0.0, seed=0, spread=0.25):
    """A policy of width 16 that reads a text of up to `length` tokens as one observation; its weights are spread as in `tiny_policy`."""
    sizes = dict(width=16, layers=layers, heads=2, memory=length, shared=shared, dropout=dropout, vocabulary_size=VOCABULARY)
    reader = new_policy(network, (length,), actions, **sizes)
    random = np.random.default_rng(seed)
    reader.set_weights([random.normal(1.0 if w.path.endswith("gamma") else 0.0, spread, w.shape) for w in reader.weights])
    return reader


def observations(observation, batch, steps, seed=0):
    """What an agent of this `observation` reads: float32 `(B, T, ...)`, or int32 states `(B, T)`."""
    random = np.random.default_rng(seed)
    if isinstance(observation, int):
        return tf.constant(random.integers(0, observation, [batch, steps]), tf.int32)
    return tf.constant(random.normal(0, 1, [batch, steps, *observation]), tf.float32)


def ragged_prompts(lengths=(5, 1, 3, 2), width=5, garbage=PAD, vocabulary_size=VOCABULARY, seed=0):
    """Prompts of these lengths, padded on the left to `width`; `garbage` (an id, or an array of ids) fills the padding."""
    random = np.random.default_rng(seed)
    tokens = np.zeros([len(lengths), width], np.int32) + np.asarray(garbage, np.int32)
    mask = np.zeros([len(lengths), width], np.float32)
    for i, length in enumerate(lengths):
        tokens[i, width - length :] = random.integers(4, vocabulary_size, length)
        mask[i, width - length :] = 1
    return Prompts(tf.constant(tokens), tf.constant(mask))


def mask_of(lengths, steps):
    """float32 `(B, T)` with 1 at the first `lengths[i]` steps."""
    return (np.arange(steps) < np.asarray(lengths)[:, None]).astype(np.float32)


@keras.saving.register_keras_serializable("tests")
class TablePolicy(keras.Model):
    """The smallest policy: logits and value are rows of two tables, by the token just read. Gradients can be worked out by hand."""

    def __init__(self, vocabulary_size=6, logits=None, values=None, **kwargs):
        super().__init__(**kwargs)
        self.vocabulary_size, self.has_memory, self.distribution = vocabulary_size, True, Categorical(vocabulary_size)
        self.table = self.add_weight((vocabulary_size, vocabulary_size), "zeros", name="table")
        self.critic = self.add_weight((vocabulary_size,), "zeros", name="critic")
        self.table.assign(np.zeros(self.table.shape) if logits is None else logits)
        self.critic.assign(np.zeros(self.critic.shape) if values is None else values)
        self.built = True

    @property
    def critic_variables(self):
        return [self.critic]

    def initial_state(self, batch):
        return ()

    def read(self, inputs, initial_state=(), starts=None):
        return ()

    def step(self, inputs, state, starts=None):
        return tf.gather(self.table, inputs), tf.gather(self.critic, inputs), state

    def call(self, inputs, initial_state=(), starts=None, context=0, training=None):
        inputs = inputs[:, context:]
        return tf.gather(self.table, inputs), tf.gather(self.critic, inputs)

    def copy(self, name=None):
        return TablePolicy(self.vocabulary_size, self.table.numpy(), self.critic.numpy(), name=name)


def random_table(vocabulary_size=6, seed=0, scale=1.0):
    """A `TablePolicy` with random rows."""
    random = np.random.default_rng(seed)
    return TablePolicy(vocabulary_size, random.normal(0, scale, [vocabulary_size] * 2), random.normal(0, 0.5, [vocabulary_size]), name="policy")


def random_trajectory(batch=8, steps=5, vocabulary_size=6, seed=0, lengths=None):
    """A ragged trajectory with old log-probabilities and values that no policy in particular had."""
    random = np.random.default_rng(seed)
    lengths = random.integers(1, steps + 1, batch) if lengths is None else np.asarray(lengths)
    mask = mask_of(lengths, steps)
    last = mask_of(lengths, steps) - mask_of(lengths - 1, steps)
    real = lambda scale, shift=0.0: tf.constant((random.normal(shift, scale, [batch, steps]) * mask).astype(np.float32))
    values = real(0.5)
    return Trajectory(
        inputs=tf.constant(random.integers(0, vocabulary_size, [batch, steps]), tf.int32),
        starts=tf.constant(np.eye(1, steps).repeat(batch, 0), tf.float32),
        actions=tf.constant(random.integers(0, vocabulary_size, [batch, steps]), tf.int32),
        log_probs=real(0.2, -1.8),
        values=values,
        rewards=real(1.0),
        next_values=tf.pad(values[:, 1:], [[0, 0], [0, 1]]),
        ended=tf.constant(last),
        mask=tf.constant(mask),
    )


def assert_close(actual, expected, rtol=1e-5, atol=1e-6):
    """`np.testing.assert_allclose` of two arrays."""
    np.testing.assert_allclose(np.asarray(actual), np.asarray(expected), rtol=rtol, atol=atol)


def assert_all_close(actual, expected, rtol=1e-5, atol=1e-6):
    """`assert_close` of two nests of the same structure, leaf by leaf."""
    tf.nest.assert_same_structure(actual, expected)
    for pair in zip(tf.nest.flatten(actual), tf.nest.flatten(expected)):
        assert_close(*pair, rtol=rtol, atol=atol)


def weights_of(model):
    """Copies of all weights, as NumPy arrays."""
    return [np.array(w) for w in model.get_weights()]


def tiny_learner():
    """A learner that changes everything it can: policy, reference apart; adaptive KL coefficient; Adam with a schedule."""
    reward = lambda prompts, responses: tf.reduce_sum(responses.mask, axis=1)
    config = PPOConfig(discount=1.0, epochs=1, minibatches=2)
    kl = KLConfig(kl_coefficient=0.1, kl_target=0.01, kl_horizon=20)
    judge = lambda prompts, responses: responses.log_probs[:, 0] + 1.0
    learner = LanguagePPO(random_table(), reward, END, PAD, 4, config, kl, judge=judge, name="learner")
    learner.compile(keras.optimizers.Adam(keras.optimizers.schedules.PolynomialDecay(0.05, 40)), jit_compile=False)
    return learner


def fit_iterations(learner, iterations, callbacks=()):
    data = tf.data.Dataset.from_tensors(ragged_prompts((2, 1, 2, 1), 2, vocabulary_size=6)).repeat()
    learner.fit(data, steps_per_epoch=iterations, callbacks=list(callbacks), shuffle=False, verbose=0)


def state_of(learner):
    """Everything that a learner must find again, by name."""
    optimizer = {f"optimizer {i}": np.array(v) for i, v in enumerate(learner.optimizer.variables)}
    policy = {f"policy {i}": w for i, w in enumerate(weights_of(learner.policy))}
    return optimizer | policy | {"kl_coefficient": np.array(learner.kl_coefficient), "iteration": np.array(learner.iteration)}


def tags_of(events, plugin):
    """The tags that one tab of TensorBoard shows, of a loaded `EventAccumulator`."""
    return [tag for tag in events.Tags()["tensors"] if events.SummaryMetadata(tag).plugin_data.plugin_name == plugin]
