"""What a writer writes, measured: reward, judged share, divergence, diversity, length, perplexity."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from ppo_keras.language.generation import (
    Prompts,
    Responses,
    generate,
    response_log_probs,
)
from ppo_keras.language.rewards import score_responses


class Evaluation(NamedTuple):
    """Responses of a writer to a list of prompts, and their measures: means over responses, but for distinct-n and perplexity."""

    prompts: list
    responses: list
    scores: np.ndarray  # (N,)
    reward: float
    positive: float | None  # share that the judge calls positive; None without a judge
    kl: float  # nats a response, against the reference, at the sampling temperature
    distinct_1: float
    distinct_2: float
    length: float  # tokens, the end token included
    perplexity: float  # of the responses under the reference, at temperature 1
    ended: float  # share of responses that end by themselves


def distinct(token_lists, n):
    """Distinct n-grams over all n-grams of a set of responses (Li et al. 2016); 0 where there are none.

    Example:
        >>> distinct([[1, 2, 1, 2]], 2)  # (1, 2) twice, (2, 1) once
        0.6666666666666666
    """
    grams = [tuple(ids[i : i + n]) for ids in token_lists for i in range(len(ids) - n + 1)]
    return len(set(grams)) / len(grams) if grams else 0.0


def evaluate_writer(policy, reference, score, judge, prompts, tokenizer, length, temperature, batch_size, seed, jit_compile=True):
    """Lets a policy answer every prompt once, and measures.

    Args:
        policy, reference: actor-critics.
        score: function of (`Prompts`, `Responses`) to float32 `(B,)`: the reward.
        judge: a `RewardModel` whose score above 0 means positive; or None.
        prompts: `Prompts` of NumPy arrays, `(N, P)`.
        tokenizer: of the texts.
        length: `T`.
        temperature: of sampling.
        batch_size: prompts at a time; the last batch is filled up with the first prompts, which then do not count.
        seed: int.
        jit_compile: whether XLA compiles.

    Returns:
        An `Evaluation`.
    """

    @tf.function(jit_compile=jit_compile)
    def respond(batch, draw):
        responses = generate(policy, batch, length, tokenizer.end_id, tokenizer.pad_id, draw, temperature)
        at_temperature = response_log_probs(reference, batch, responses, temperature)
        plain = response_log_probs(reference, batch, responses)
        judged = tf.zeros_like(responses.mask[:, 0]) if judge is None else score_responses(judge, batch, responses)
        return responses, at_temperature, plain, judged

    count = len(prompts.tokens)
    collected = []
    for start in range(0, count, batch_size):
        rows = np.arange(start, start + batch_size) % count
        batch = Prompts(tf.constant(prompts.tokens[rows]), tf.constant(prompts.mask[rows]))
        responses, *measures = respond(batch, tf.constant([seed, start], tf.int32))
        scores = score(batch, responses)
        collected.append([np.asarray(x) for x in (*responses[:3], *measures, scores)])
    tokens, mask, log_probs, at_temperature, plain, judged, scores = (np.concatenate(x)[:count] for x in zip(*collected))
    token_lists = [list(ids[real > 0]) for ids, real in zip(tokens, mask)]
    prompt_texts, response_texts = tokenizer.decode_pairs(prompts, Responses(tokens, mask, log_probs, None))
    return Evaluation(
        prompts=prompt_texts,
        responses=response_texts,
        scores=scores,
        reward=float(scores.mean()),
        positive=None if judge is None else float((judged > 0).mean()),
        kl=float((log_probs - at_temperature).sum(axis=1).mean()),
        distinct_1=distinct(token_lists, 1),
        distinct_2=distinct(token_lists, 2),
        length=float(mask.sum(axis=1).mean()),
        perplexity=float(np.exp(-plain.sum() / mask.sum())),
        ended=float(np.mean([ids[-1] == tokenizer.end_id for ids in token_lists])),
    )
