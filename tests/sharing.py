"""What `test_devices` runs in a process of its own, for TensorFlow divides a processor only before it computes: the same training on one device and on two.

Prints a JSON object, {scenario: {what: [number, ...]}} for one device, then another for two.
"""

import contextlib
import json
import sys

import keras
import numpy as np
import tensorflow as tf

from helpers import END, PAD, ragged_prompts, tiny_agent, tiny_policy, tiny_reward
from ppo_keras import CartPole, EnvironmentPPO, KLConfig, LanguagePPO, PPOConfig, PythonReward
from ppo_keras.config import SupervisedConfig
from ppo_keras.language.rewards import ModelScore
from ppo_keras.language.supervised import train_language_model, train_preferences
from ppo_keras.networks.adapters import add_adapters
from ppo_keras.optimizer import FusedAdam

ITERATIONS = 5
LENGTHS = (5, 1, 3, 2, 4, 4, 2, 5)  # of the prompts
RANDOM = np.random.default_rng(0)
TEXTS = [RANDOM.integers(4, 24, RANDOM.integers(3, 9)).tolist() for _ in range(30)]


class Words:
    """A tokenizer whose pieces are numbers."""

    def decode_pairs(self, prompts, responses):
        told = lambda part: [" ".join(str(i) for i in row) for row in np.asarray(part.tokens)]
        return told(prompts), told(responses)


def iterate(learner, optimizer, *data, **compile_settings):
    """The metrics and the state of a few iterations."""
    learner.compile(optimizer, **compile_settings)
    rows = []
    note = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: rows.append({name: float(value) for name, value in logs.items()}))
    learner.fit(*data, steps_per_epoch=ITERATIONS, verbose=0, callbacks=[note])
    found = {name: [row[name] for row in rows] for name in rows[0]}
    return found | {f"state {name}": np.ravel(value).astype(float).tolist() for name, value in learner.state().items() if value.dtype.kind in "fi"}


def texts(network, scope, config=None, reward=None, policy=tiny_policy, jit=False, **settings):
    """PPO of a writer."""
    with scope():
        writer = policy(network, shared=network == "transformer")
        scorer = ModelScore(tiny_reward(network), probability=True) if reward is None else reward
        learner = LanguagePPO(
            writer, scorer, END, PAD, 6, PPOConfig(discount=1.0, **config or {}), KLConfig(0.1, kl_target=0.5), 0.5, judge=ModelScore(tiny_reward(network)),
            seed=3, **settings,
        )  # fmt: skip
        optimizer = FusedAdam(3e-3, epsilon=1e-5)
    size = 8 // learner.responses_per_prompt
    return iterate(learner, optimizer, tf.data.Dataset.from_tensor_slices(ragged_prompts(LENGTHS)).repeat().batch(size, drop_remainder=True), jit_compile=jit)


def adapted(network, shared):
    """A policy that learns by adapters."""
    policy = tiny_policy(network, shared)
    add_adapters(policy, 2)
    return policy


def agent(network, scope, jit=False, **settings):
    """PPO of an agent."""
    with scope():
        policy = tiny_agent(network, (4,), 2, normalize=True)
        config = PPOConfig(minibatches=2)
        learner = EnvironmentPPO(policy, CartPole(), config, environments=4, steps=16, normalize_rewards=True, seed=3, **settings)
        optimizer = FusedAdam(3e-3, epsilon=1e-5)
    return iterate(learner, optimizer, jit_compile=jit)


def supervised(network, scope, kind, jit=False):
    """Supervised training with dropout; the batch of 10 is divided, and the last one of the validation filled up."""
    config = SupervisedConfig(supervised_epochs=2, supervised_batch_size=10)
    with scope():
        model = tiny_policy(network, dropout=0.3) if kind == "writer" else tiny_reward(network, dropout=0.3)
    if kind == "writer":
        training = train_language_model(model, TEXTS, TEXTS[:13], 8, PAD, config, jit_compile=jit)
    else:
        training = train_preferences(model, (TEXTS[:20], TEXTS[10:]), (TEXTS[:13], TEXTS[13:26]), 8, PAD, config, jit_compile=jit)
    weights = {f"state {i}": np.ravel(weight).tolist() for i, weight in enumerate(model.get_weights())}
    return training.history | weights


SCENARIOS = {
    "a transformer": lambda scope: texts(
        "transformer", scope, dict(accumulation_steps=2, minibatches=2, max_gradient_norm=0.1), responses_per_prompt=4, jit=True
    ),
    "an lstm": lambda scope: texts("lstm", scope, dict(target_kl=0.02, minibatches=2, critic_warmup=1)),
    "adapters": lambda scope: texts("transformer", scope, dict(minibatches=2), policy=adapted),
    "a Python reward": lambda scope: texts(
        "transformer",
        scope,
        dict(minibatches=2),
        reward=PythonReward(lambda prompt, response: {"fours": response.count("4"), "short": -len(response)}, Words()),
    ),
    "an mlp agent": lambda scope: agent("mlp", scope, jit=True, iterations_per_call=2),
    "an lstm agent": lambda scope: agent("lstm", scope),
    "a transformer agent": lambda scope: agent("transformer", scope),
    "a writer": lambda scope: supervised("transformer", scope, "writer", jit=True),
    "an lstm writer": lambda scope: supervised("lstm", scope, "writer"),
    "preferences": lambda scope: supervised("lstm", scope, "preferences"),
}

if __name__ == "__main__":
    processor, *_ = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(processor, [tf.config.LogicalDeviceConfiguration()] * 2)
    two = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    chosen = sys.argv[1:] or SCENARIOS
    for scope in (contextlib.nullcontext, two.scope):
        found = {}
        for name in chosen:
            keras.utils.set_random_seed(5)
            found[name] = SCENARIOS[name](scope)
        print(json.dumps(found))
