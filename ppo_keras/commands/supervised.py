"""`ppo-keras bench supervised`: how fast the stages before PPO are, a writer's and those of reward models."""

import json
import time
from dataclasses import replace
from functools import partial

import keras
import numpy as np

from ppo_keras.commands.measuring import matrix_weights, peak_flops, steady_peak
from ppo_keras.errors import require
from ppo_keras.language.rewards import RewardModel
from ppo_keras.language.supervised import train_classifier, train_language_model
from ppo_keras.networks.actor_critic import new_policy
from ppo_keras.networks.encoder import TokenEncoder
from ppo_keras.tasks.config import GenerationConfig

TEXTS, VALIDATION, LENGTH = 1600, 200, 29  # texts, and the length to which they are padded, of the bundled reviews


class Epochs(keras.callbacks.Callback):
    """The seconds of each epoch: of its steps, and of measuring the validation texts."""

    def __init__(self):
        super().__init__()
        self.steps, self.validation = [], []

    def on_epoch_begin(self, epoch, logs=None):
        self.began = time.perf_counter()

    def on_test_begin(self, logs=None):
        self.model.optimizer.iterations.numpy()  # a device may still be at work on the last steps
        self.steps.append(time.perf_counter() - self.began)

    def on_epoch_end(self, epoch, logs=None):
        self.validation.append(time.perf_counter() - self.began - self.steps[-1])


def bench_supervised(model="transformer", epochs=5, jit_compile=True):
    """Trains a writer, a reward model of the same network and a bag of words; prints their times and, last, JSON, which it returns.

    Sizes and settings are those of `train generation` on the bundled reviews, by Keras's `fit` as there; the texts are random
    tokens of full length.

    Args:
        model: "transformer" or "lstm".
        epochs: timed ones, after a first in which the step is compiled; their median counts.
        jit_compile: compile with XLA.
    """
    require(epochs >= 1, f"--epochs {epochs} is less than 1. Use a number such as 5.")
    config = GenerationConfig(model=model)
    network, size = config.network, config.supervised.supervised_batch_size
    before, found = peak_flops(jit_compile), {}
    for name, stage in (("writer", writer), (f"reward ({model})", partial(reward, model)), ("reward (bag)", partial(reward, "bag"))):
        keras.utils.set_random_seed(0)
        seen = Epochs()
        count, length, weights = stage(config, dict(supervised_epochs=epochs + 1, patience=epochs + 1), callbacks=[seen], jit_compile=jit_compile)
        step = float(np.median(seen.steps[1:])) / (count // size)
        found[name] = {
            "step_seconds": step,
            "tokens_per_second": size * length / step,
            "validation_seconds": float(np.median(seen.validation[1:])),
            "first_epoch_seconds": seen.steps[0] + seen.validation[0],
            "operations_per_second": 6 * weights * size * length / step,  # 2 a weight and token forwards, twice that backwards; attention's own are left out
        }
    print(
        f"{'XLA' if jit_compile else 'graphs'}, {network.layers} layers x {network.width}, {config.vocabulary_size:,} pieces, steps of {size} texts of {LENGTH} tokens"
    )
    peak = steady_peak(before, peak_flops(jit_compile))
    for name, one in found.items():
        operations = one.pop("operations_per_second")
        one |= {"peak_share": operations / peak} if operations else {}  # a bag of words has no matrix products
        print(
            f"{name:22} {one['step_seconds'] * 1e3:7.2f} ms a step {one['tokens_per_second']:11,.0f} tokens/s"
            + (f", {one['peak_share']:.1%} of the peak" if operations else "")
            + f"; validation {one['validation_seconds']:.2f} s, the first epoch, which compiles, {one['first_epoch_seconds']:.1f} s"
        )
    result = found | {"peak_gigaflops": peak / 1e9}
    print(json.dumps(result))
    return result


def writer(config, changes, **training):
    """Trains a writer. Returns how many texts it learned from, of how many tokens each, and its weights in matrix products."""
    network = config.network
    policy = new_policy(
        config.model, config.vocabulary_size, width=network.width, layers=network.layers, heads=network.heads, memory=LENGTH, shared=True,
        dropout=network.dropout,
    )  # fmt: skip
    train, validation = random_texts(config, TEXTS, 0), random_texts(config, VALIDATION, 1)
    train_language_model(policy, train, validation, LENGTH - 1, 0, config=replace(config.supervised, **changes), **training)
    return TEXTS, LENGTH - 1, matrix_weights(policy.encoder) + config.vocabulary_size * network.width


def reward(kind, config, changes, **training):
    """The same of a reward model, which learns from half of the texts, as the other half is the judge's."""
    network = config.network
    encoder = TokenEncoder(config.vocabulary_size, kind, network.width, network.layers, network.dropout, heads=network.heads, memory=LENGTH)
    splits = [(random_texts(config, count // 2, seed), np.arange(count // 2) % 2) for count, seed in ((TEXTS, 0), (VALIDATION, 1))]
    train_classifier(RewardModel(encoder, dropout=network.dropout), *splits, LENGTH, 0, config=replace(config.scoring, **changes), **training)
    return TEXTS // 2, LENGTH, matrix_weights(encoder)


def random_texts(config, count, seed):
    """Lists of token ids."""
    return np.random.default_rng(seed).integers(1, config.vocabulary_size, [count, LENGTH]).tolist()
