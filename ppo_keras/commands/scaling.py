"""`ppo-keras bench scaling`: how the time of a PPO iteration grows with its sizes, one size at a time."""

import json
import os
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from ppo_keras.commands.measuring import iteration_flops, peak_flops, steady_peak, time_of
from ppo_keras.commands.sizes import SIZES, USUAL
from ppo_keras.config import KLConfig, PPOConfig
from ppo_keras.environments.cartpole import CartPole
from ppo_keras.environments.ppo import EnvironmentPPO
from ppo_keras.errors import require
from ppo_keras.language.generation import Prompts
from ppo_keras.language.ppo import LanguagePPO
from ppo_keras.networks.actor_critic import MLPActorCritic, new_policy
from ppo_keras.optimizer import FusedAdam
from ppo_keras.reports.pictures import growth, png
from ppo_keras.reports.tables import print_growth

PROMPT, STEPS = 16, 128  # tokens of a prompt; steps of an agent in an iteration


class Growth(NamedTuple):
    """How time grows with one size."""

    sizes: list
    seconds: list  # of an iteration
    operations: list  # of the matrix products of an iteration; of agents, the steps that they take

    @property
    def exponent(self):
        """k of seconds ~ size^k, by least squares of the logarithms."""
        return slope(self.sizes, self.seconds)

    @property
    def expected(self):
        """k of operations ~ size^k."""
        return slope(self.sizes, self.operations)


def slope(sizes, values):
    """k of values ~ sizes^k, by least squares of the logarithms."""
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def bench_scaling(sizes=tuple(SIZES), model="transformer", iterations=3, jit_compile=True, picture=None):
    """Prints times, fitted exponents and those of the operations, draws a picture, and prints JSON as the last line. Returns what the JSON holds.

    The programs of one size are compiled first and then timed in turn, so that a machine that becomes slower does so for all of them.

    Args:
        sizes: names of `SIZES`.
        model: "transformer" or "lstm".
        iterations: timed ones of each size; their median counts.
        jit_compile: compile with XLA.
        picture: a path for a PNG file, or None.
    """
    require(iterations >= 1, f"--iterations {iterations} is less than 1. Use a number such as 3.")
    if picture is not None:
        path = Path(picture)
        require(path.suffix == ".png" and not path.is_dir(), f"--picture {picture} is no name of a PNG file. Use one such as scaling.png.")
        require(path.parent.is_dir(), f"--picture {picture}: there is no folder {path.parent}. Make it, or name another.")
        require(os.access(path.parent, os.W_OK), f"--picture {picture}: the folder {path.parent} cannot be written to. Name another.")
    before, found = peak_flops(jit_compile), {}
    names = list(dict.fromkeys(sizes))
    with tqdm(total=sum(len(SIZES[name]) for name in names), unit="size") as bar:
        for name in names:
            programs = []
            for size in SIZES[name]:
                bar.set_description(f"{name} {size:,}")
                programs.append(agent(size, jit_compile) if name == "environments" else writer(model, jit_compile, **USUAL | {name: size}))
                bar.update()
            times = [[time_of(run, 1)[0] for run, _ in programs] for _ in range(iterations)]
            found[name] = Growth(list(SIZES[name]), np.median(times, axis=0).tolist(), [operations for _, operations in programs])
    print_growth(found)
    steady_peak(before, peak_flops(jit_compile))
    if picture is not None:
        Path(picture).write_bytes(png(growth(found)))
        print(f"drawn: {picture}")
    result = {name: one._asdict() | {"exponent": one.exponent, "operations_exponent": one.expected} for name, one in found.items()}
    print(json.dumps(result))
    return result


def writer(model, jit_compile, batch, response, width, layers, vocabulary):
    """A compiled iteration of PPO on texts, run once, and the operations of its matrix products."""
    keras.utils.set_random_seed(0)
    policy = new_policy(model, vocabulary, width=width, layers=layers, heads=4, memory=PROMPT + response, shared=True)
    length = lambda prompts, responses: tf.reduce_sum(responses.mask, axis=1)
    config = PPOConfig(discount=1.0)
    learner = LanguagePPO(policy, length, vocabulary, 0, response, config, KLConfig())  # no token ends a response: all are as long
    learner.compile(FusedAdam(1e-5), jit_compile=jit_compile)
    tokens = np.random.default_rng(0).integers(1, vocabulary, [batch, PROMPT])
    prompts = Prompts(tf.constant(tokens, tf.int32), tf.ones([batch, PROMPT]))
    step = tf.function(learner.train_step, jit_compile=jit_compile, autograph=False)
    time_of(lambda: step(prompts), 1)
    return lambda: step(prompts), iteration_flops(policy, None, config.epochs, batch, PROMPT, response)


def agent(environments, jit_compile):
    """A compiled iteration of PPO on CartPole, run once, and the steps in it."""
    keras.utils.set_random_seed(0)
    environment = CartPole()
    policy = MLPActorCritic(environment.observation, environment.actions, width=64)
    learner = EnvironmentPPO(policy, environment, PPOConfig(entropy_coefficient=0.01), environments, STEPS)
    learner.compile(FusedAdam(2.5e-4), jit_compile=jit_compile)
    step = tf.function(lambda: learner.train_step(None), jit_compile=jit_compile, autograph=False)
    time_of(step, 1)
    return step, environments * STEPS
