"""What a writer writes, measured: reward, judged share, divergence, diversity, length, perplexity."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from ppo_keras.language.generation import (
    Responses,
    generate,
    is_end,
    map_prompts,
    of_responses,
)
from ppo_keras.losses import log_probability


class Evaluation(NamedTuple):
    """Responses of a writer to a list of prompts, and their measures: means over responses, but for distinct-n and perplexity."""

    prompts: list
    responses: list
    scores: np.ndarray  # (N,)
    reward: float
    positive: float | None  # share that the judge calls positive (with control codes: as asked); None without a judge
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


class Evaluator:
    """Lets a policy answer every prompt once, and measures; compiled once for whatever the policy becomes.

    Args:
        policy, reference: actor-critics.
        score: function of (`Prompts`, `Responses`) to float32 `(B,)`: the reward.
        judge: function of (`Prompts`, `Responses`) to float32 `(B,)`, above 0 where a text is positive, or as asked; or None.
        tokenizer: of the texts.
        length: `T`.
        temperature: of sampling.
        batch_size: prompts at a time; the last batch is filled up with the first prompts, which then do not count.
        jit_compile: whether XLA compiles.
    """

    def __init__(self, policy, reference, score, judge, tokenizer, length, temperature, batch_size, jit_compile=True):
        def respond(batch, draw):
            responses = generate(policy, batch, length, ends_of(tokenizer), tokenizer.pad_id, draw, temperature)
            at_both = lambda logits, tokens: [log_probability(logits / by, tokens) for by in (temperature, 1.0)]
            at_temperature, plain = of_responses(reference, batch, responses, at_both)
            judged = tf.zeros_like(responses.mask[:, 0]) if judge is None else judge(batch, responses)
            return responses, at_temperature, plain, judged

        self.score, self.judge, self.tokenizer, self.batch_size = score, judge, tokenizer, batch_size
        self.respond = tf.function(respond, jit_compile=jit_compile, autograph=False)

    def __call__(self, prompts, seed):
        """Measures the policy as it is now.

        Args:
            prompts: `Prompts` of NumPy arrays, `(N, P)`.
            seed: int.

        Returns:
            An `Evaluation`.
        """
        tokens, mask, log_probs, at_temperature, plain, judged, scores = in_batches(self._measure, prompts, self.batch_size, seed)
        token_lists = [list(ids[real > 0]) for ids, real in zip(tokens, mask)]
        prompt_texts, response_texts = self.tokenizer.decode_pairs(prompts, Responses(tokens, mask, log_probs, None))
        return Evaluation(
            prompts=prompt_texts,
            responses=response_texts,
            scores=scores,
            reward=float(scores.mean()),
            positive=None if self.judge is None else float((judged > 0).mean()),
            kl=float((log_probs - at_temperature).sum(axis=1).mean()),
            distinct_1=distinct(token_lists, 1),
            distinct_2=distinct(token_lists, 2),
            length=float(mask.sum(axis=1).mean()),
            perplexity=float(np.exp(-plain.sum() / mask.sum())),
            ended=float(is_end([ids[-1] for ids in token_lists], ends_of(self.tokenizer)).numpy().mean()),
        )

    def _measure(self, batch, draw):
        responses, *measures = self.respond(batch, draw)
        return (*responses[:3], *measures, self.score(batch, responses))


class Responder:
    """Lets a policy respond to prompts, as text; compiled once for whatever the policy becomes.

    Args:
        policy, tokenizer, length, temperature, batch_size, jit_compile: see `Evaluator`.
    """

    def __init__(self, policy, tokenizer, length, temperature, batch_size, jit_compile=True):
        def respond(batch, draw, greedy):
            return generate(policy, batch, length, ends_of(tokenizer), tokenizer.pad_id, draw, temperature, greedy)[:3]

        self.tokenizer, self.batch_size = tokenizer, batch_size
        self.respond = tf.function(respond, jit_compile=jit_compile, autograph=False)

    def __call__(self, prompts, greedy, seed):
        """The responses to `Prompts` of NumPy arrays `(N, P)`: a list of N strings without white space around them.

        Args:
            prompts: see above.
            greedy: always the most probable token; else one response is sampled.
            seed: int.
        """
        return [text.strip() for text in self.tokenizer.decode_pairs(prompts, self.tokens(prompts, greedy, seed))[1]]

    def tokens(self, prompts, greedy, seed):
        """The same as `Responses` of NumPy arrays `(N, T)`, without values."""
        respond = lambda batch, draw: self.respond(batch, draw, greedy)
        return Responses(*in_batches(respond, prompts, self.batch_size, seed), None)


def ends_of(tokenizer):
    """The tokens that end a response: a tokenizer of one's own may know only its `end_id`."""
    return getattr(tokenizer, "end_ids", None) or tokenizer.end_id


def in_batches(function, prompts, batch_size, seed):
    """What `function(Prompts, draw)` gives for all prompts, as NumPy arrays `(N, ...)`; every batch has the same size.

    The last batch is filled up with the first prompts, which then do not count; `draw` is a seed, int32 `(2,)`.
    """
    count, collected = len(prompts.tokens), []
    for start in range(0, count, batch_size):
        rows = np.arange(start, start + batch_size) % count
        batch = map_prompts(lambda part: tf.constant(part[rows]), prompts)
        collected.append([np.asarray(x) for x in function(batch, tf.constant([seed, start], tf.int32))])
    return [np.concatenate(parts)[:count] for parts in zip(*collected)]


def label_measures(labels, chosen, costs):
    """How good labels are that were chosen.

    Args:
        labels: int `(N,)`, the right ones.
        chosen: int `(N,)`.
        costs: `(K, K)`: of a true label (row) and a chosen one (column).

    Returns:
        {"accuracy", "macro_f1" (the mean F1 of the K labels; of one that is nowhere, 0), "cost" (mean)}.

    Example:
        >>> label_measures(np.array([0, 1]), np.array([0, 0]), [[0, 1], [5, 0]])["cost"]
        2.5
    """
    labels, chosen, costs = np.asarray(labels), np.asarray(chosen), np.asarray(costs)
    f1 = []
    for label in range(len(costs)):
        found, real = chosen == label, labels == label
        f1.append(2.0 * np.sum(found & real) / max(1, np.sum(found) + np.sum(real)))
    return {
        "accuracy": float(np.mean(labels == chosen)),
        "macro_f1": float(np.mean(f1)),
        "cost": float(np.mean(costs[labels, chosen])),
    }
