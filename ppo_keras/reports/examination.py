"""Responses that nothing is learned from, with all that PPO would make of them: rewards, advantages, entropies, divergence."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from ppo_keras.language.evaluation import in_batches
from ppo_keras.language.generation import (
    Responses,
    generate,
    map_prompts,
    of_responses,
)
from ppo_keras.losses import entropy
from ppo_keras.ppo import raw_advantages
from ppo_keras.reports.measures import Sample


class Examined(NamedTuple):
    """Responses to `B` prompts, NumPy arrays."""

    responses: Responses  # (B, T)
    reference_log_probs: np.ndarray  # (B, T), of their tokens, at the temperature of the policy; 0 on padding
    entropies: np.ndarray  # (B, T), of the policy before each token, nats; 0 on padding
    scores: np.ndarray | None  # (B,); None where nothing scores them


def examine(learner, prompts, length, batch_size, seed, score, greedy=False, jit_compile=True):
    """Lets the policy of a `LanguagePPO` answer every prompt once, by the draws of `Evaluator`.

    Args:
        learner: a `LanguagePPO`; it need not be compiled, and nothing of it changes.
        prompts: `Prompts` of NumPy arrays, `(B, P)`.
        length: `T`, most tokens of a response.
        batch_size: prompts at a time.
        seed: int.
        score: a function of (`Prompts`, `Responses`) to float32 `(B,)`, such as `learner.score`; or None.
        greedy: always the most probable token; else one response is sampled.
        jit_compile: whether XLA compiles.

    Returns:
        `Examined`.
    """
    temperature = learner.config.temperature

    @tf.function(jit_compile=jit_compile, autograph=False)
    def respond(batch, draw):
        responses = generate(learner.policy, batch, length, learner.end_id, learner.pad_id, draw, temperature, greedy)
        (entropies,) = of_responses(learner.policy, batch, responses, lambda logits, _: (entropy(logits / temperature),))
        return responses, learner.reference_log_probs(batch, responses), entropies

    def measure(batch, draw):
        responses, *others = respond(batch, draw)
        return (*responses, *others, *([score(batch, responses)] if score else []))

    columns = in_batches(measure, prompts, batch_size, seed)
    return Examined(Responses(*columns[:4]), *columns[4:6], columns[6] if score else None)


def sample_responses(learner, prompts, batch_size, seed, jit_compile=True):
    """The `Sample` of a policy: its units are the prompts, each answered as often as in an iteration of PPO.

    Args:
        learner, prompts, batch_size, seed, jit_compile: see `examine`.

    Returns:
        A `Sample`.
    """
    count, length = len(prompts.tokens), learner.response_length
    repeated = map_prompts(lambda part: np.repeat(part, learner.responses_per_prompt, axis=0), prompts)
    examined = examine(learner, repeated, length, batch_size, seed, learner.score, jit_compile=jit_compile)
    responses = examined.responses
    parts = repeated, responses, examined.reference_log_probs, examined.scores
    trajectory, _ = learner.assemble(*tf.nest.map_structure(tf.constant, parts))
    of_prompt = lambda x: np.reshape(x, [count, -1])  # what belongs to a prompt, in a row
    greedy = examine(learner, prompts, length, batch_size, seed, learner.score, True, jit_compile)
    return Sample(
        rewards=of_prompt(examined.scores).mean(axis=1),
        greedy_rewards=greedy.scores,
        advantages=of_prompt(raw_advantages(trajectory, learner.config)[0]),
        entropies=of_prompt(examined.entropies),
        mask=of_prompt(responses.mask),
        kl=of_prompt((responses.log_probs - examined.reference_log_probs).sum(axis=1)).mean(axis=1),
    )
