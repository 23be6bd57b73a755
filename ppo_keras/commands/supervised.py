"""`ppo-keras bench supervised`: how fast the stages before PPO are, a writer's and those of reward models."""

import json
import time

import keras
import numpy as np

from ppo_keras.commands.measuring import matrix_weights, peak_flops, steady_peak
from ppo_keras.config import SupervisedConfig
from ppo_keras.errors import require
from ppo_keras.language.rewards import RewardModel
from ppo_keras.language.supervised import train_classifier, train_language_model
from ppo_keras.networks.actor_critic import new_policy
from ppo_keras.networks.encoder import TokenEncoder
from ppo_keras.tasks.config import GenerationConfig

TEXTS, LENGTH = 1600, 25  # about as many texts, and tokens in each, as the bundled reviews have


class Epochs(keras.callbacks.Callback):
    """The seconds of each epoch: of its steps, and of measuring the validation texts."""

    def __init__(self):
        super().__init__()
        self.steps, self.validation = [], []

    def on_epoch_begin(self, epoch, logs=None):
        self.began = time.perf_counter()

    def on_test_begin(self, logs=None):
        self.steps.append(time.perf_counter() - self.began)

    def on_epoch_end(self, epoch, logs=None):
        self.validation.append(time.perf_counter() - self.began - self.steps[-1])


def bench_supervised(model="transformer", epochs=5, jit_compile=True):
    """Trains a writer, a reward model of the same network and a bag of words; prints their times and, last, JSON, which it returns.

    Sizes and settings are those of `train generation`, by Keras's `fit` as there; the texts are random tokens of full length.

    Args:
        model: "transformer" or "lstm".
        epochs: timed ones, after a first in which the step is compiled; their median counts.
        jit_compile: compile with XLA.
    """
    require(epochs >= 1, f"--epochs {epochs} is less than 1. Use a number such as 5.")
    config = GenerationConfig(model=model)
    network, vocabulary, size = config.network, config.vocabulary_size, config.supervised.supervised_batch_size
    settings = SupervisedConfig(supervised_epochs=epochs + 1, supervised_batch_size=size, patience=epochs + 1)
    random = np.random.default_rng(0)
    texts = random.integers(1, vocabulary, [TEXTS + TEXTS // 10, LENGTH]).tolist()
    labels = random.integers(0, 2, len(texts))
    train, validation = (texts[:TEXTS], labels[:TEXTS]), (texts[TEXTS:], labels[TEXTS:])

    def of_writer(**training):
        policy = new_policy(
            model, vocabulary, width=network.width, layers=network.layers, heads=network.heads, memory=LENGTH, shared=True, dropout=network.dropout
        )
        train_language_model(policy, train[0], validation[0], LENGTH - 1, 0, **training)
        return LENGTH - 1, matrix_weights(policy.encoder) + vocabulary * network.width

    def of_reward(kind, **training):
        encoder = TokenEncoder(vocabulary, kind, network.width, network.layers, network.dropout, heads=network.heads, memory=LENGTH)
        reward = RewardModel(encoder, dropout=network.dropout)
        train_classifier(reward, train, validation, LENGTH, 0, **training)
        return LENGTH, matrix_weights(encoder)

    before, found = peak_flops(jit_compile), {}
    for name, stage in (("writer", of_writer), (f"reward ({model})", lambda **t: of_reward(model, **t)), ("reward (bag)", lambda **t: of_reward("bag", **t))):
        keras.utils.set_random_seed(0)
        seen = Epochs()
        length, weights = stage(config=settings, callbacks=[seen], jit_compile=jit_compile)
        step = float(np.median(seen.steps[1:])) / (TEXTS // size)
        found[name] = {
            "step_seconds": step,
            "tokens_per_second": size * length / step,
            "operations": 6 * weights * size * length,  # 2 a weight and token forwards, twice that backwards
            "validation_seconds": float(np.median(seen.validation[1:])),
            "first_epoch_seconds": seen.steps[0] + seen.validation[0],
        }
    print(f"{'XLA' if jit_compile else 'graphs'}, {network.layers} layers x {network.width}, {vocabulary:,} pieces, steps of {size} texts of {LENGTH} tokens")
    peak = steady_peak(before, peak_flops(jit_compile))
    for name, one in found.items():
        one["peak_share"] = one.pop("operations") / one["step_seconds"] / peak
        print(
            f"{name:22} {one['step_seconds'] * 1e3:7.2f} ms a step {one['tokens_per_second']:11,.0f} tokens/s, {one['peak_share']:5.1%} of the peak; "
            f"validation {one['validation_seconds']:.2f} s, the first epoch, which compiles, {one['first_epoch_seconds']:.1f} s"
        )
    result = found | {"peak_gigaflops": peak / 1e9}
    print(json.dumps(result))
    return result
