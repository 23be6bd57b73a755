"""Responses that nothing is learned from, with all that PPO would make of them: rewards, advantages, entropies, divergence."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from ppo_keras.language.evaluation import in_batches
from ppo_keras.language.generation import (
    Prompts,
    Responses,
    generate,
    response_outputs,
)
from ppo_keras.losses import entropy
from ppo_keras.measures import Sample, raw_advantages


class Examined(NamedTuple):
    """Responses to `B` prompts, NumPy arrays."""

    responses: Responses  # (B, T)
    reference_log_probs: np.ndarray  # (B, T), at the sampling temperature
    entropies: np.ndarray  # (B, T), of the policy before each token, nats; 0 on padding
    scores: np.ndarray  # (B,)


def examine(learner, prompts, batch_size, seed, jit_compile=True):
    """Lets the policy of a `LanguagePPO` answer every prompt once, by the draws of `evaluate_writer`.

    Args:
        learner: a `LanguagePPO`; it need not be compiled, and nothing of it changes.
        prompts: `Prompts` of NumPy arrays, `(B, P)`.
        batch_size: prompts at a time.
        seed: int.
        jit_compile: whether XLA compiles.

    Returns:
        `Examined`.
    """
    temperature = learner.config.temperature
    wrap = lambda function: tf.function(function, jit_compile=jit_compile, autograph=False)

    @wrap
    def respond(batch, draw):
        responses = generate(
            learner.policy, batch, learner.response_length, learner.end_id, learner.pad_id, draw, temperature
        )  # fmt: skip
        logits, _ = response_outputs(learner.policy, batch, responses)  # (B, T, V)
        entropies = tf.where(responses.mask > 0, entropy(logits / temperature), 0.0)
        return responses, learner.reference_log_probs(batch, responses), entropies

    score = wrap(learner.score) if learner.compiles_whole else learner.score

    def measure(batch, draw):
        responses, *others = respond(batch, draw)
        return (*responses, *others, score(batch, responses))

    columns = in_batches(measure, prompts, batch_size, seed)
    return Examined(Responses(*columns[:4]), *columns[4:])


def sample_responses(learner, prompts, batch_size, seed, jit_compile=True):
    """The `Sample` of a policy: its units are the prompts, each answered as often as in an iteration of PPO.

    The first response to each prompt is that of `examine` with the same seed.

    Args:
        learner, prompts, batch_size, seed, jit_compile: see `examine`.

    Returns:
        A `Sample` without `greedy_rewards`.
    """
    count, group = len(prompts.tokens), learner.responses_per_prompt
    rounds = Prompts(*[np.tile(part, (group, 1)) for part in prompts])
    examined = examine(learner, rounds, batch_size, seed, jit_compile)
    neighbours = np.arange(group * count).reshape(group, count).T.ravel()  # the responses to a prompt side by side
    prompts, responses, reference_log_probs, entropies, scores = tf.nest.map_structure(lambda x: x[neighbours], (rounds, *examined))
    beta = learner.kl_coefficient.numpy()
    trajectory, _ = learner.assemble(*tf.nest.map_structure(tf.constant, (prompts, responses, reference_log_probs, scores)))
    learner.kl_coefficient.assign(beta)  # an adaptive one moved
    of_prompt = lambda x: x.reshape(count, -1)
    return Sample(
        rewards=of_prompt(scores).mean(axis=1),
        greedy_rewards=None,
        advantages=of_prompt(raw_advantages(trajectory, learner.config)),
        entropies=of_prompt(entropies),
        weights=of_prompt(responses.mask),
        kl=of_prompt((responses.log_probs - reference_log_probs).sum(axis=1)).mean(axis=1),
    )
