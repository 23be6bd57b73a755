"""Batches of prompts of like length: each is padded to one of a few widths, so that short prompts do not pay for the longest."""

import numpy as np
import tensorflow as tf

from ppo_keras.errors import check_count, require
from ppo_keras.language.generation import map_prompts


def choose_widths(lengths, most, least):
    """The widths that leave the least padding.

    Args:
        lengths: int `(N,)`, tokens of each prompt.
        most: how many widths there may be: one program is compiled for each.
        least: prompts that each must have, such as a batch; where that cannot be, there are fewer widths.

    Returns:
        A list of ints, rising; the last is the length of the longest prompt.

    Example:
        >>> choose_widths([3, 3, 4, 9, 9, 20], most=2, least=1)
        [9, 20]
        >>> choose_widths([3, 3, 4, 9, 9, 20], most=2, least=3)
        [4, 20]
    """
    check_count("most", most, example=4)
    values, counts = np.unique(np.asarray(lengths), return_counts=True)
    below = np.concatenate([[0], np.cumsum(counts)])  # prompts shorter than each value
    cost, came_from = np.full(len(below), np.inf), []
    cost[0] = 0.0
    found, cheapest = [int(values[-1])], float(values[-1]) * below[-1]
    for used in range(1, most + 1):
        # cost[j]: least tokens of the prompts shorter than values[j], in `used` widths
        step = cost[:, np.newaxis] + np.concatenate([[0], values])[np.newaxis] * (below[np.newaxis] - below[:, np.newaxis])
        step[below[np.newaxis] - below[:, np.newaxis] < least] = np.inf
        came_from.append(step.argmin(axis=0))
        cost = step.min(axis=0)
        if cost[-1] < cheapest:
            cheapest, ends = cost[-1], [len(values)]
            for origin in reversed(came_from[1:]):
                ends.append(int(origin[ends[-1]]))
            found = [int(values[end - 1]) for end in reversed(ends)]
    return found


def padded_share(lengths, widths):
    """What share of all tokens is padding where each prompt is padded to the next of the widths."""
    padded = np.asarray(widths)[np.searchsorted(widths, lengths)]
    return float(1.0 - np.sum(lengths) / np.sum(padded))


def batches_of_like_length(prompts, size, widths, seed):
    """An endless data set of batches, in each of which the prompts have one of the widths.

    The prompts come in a fresh order each time, and each as often as any other; a batch is given when `size` of its width came.
    The same seed gives the same batches, so that `skip(n)` goes on where a run was stopped.

    Args:
        prompts: NumPy `Prompts` or `NumberedPrompts`, `(N, P)`.
        size: prompts in a batch.
        widths: list of ints, rising; the last is at least that of the longest prompt.
        seed: int.

    Returns:
        A `tf.data.Dataset` of `Prompts` (or `NumberedPrompts`) `(size, width)`, a width that only the batch tells: it is for a
        learner that collects in Python (`compiles_whole` is False).
    """
    lengths = prompts.mask.sum(axis=1).astype(int)
    require(lengths.max() <= widths[-1], f"the longest prompt has {lengths.max()} tokens, but the widest batch {widths[-1]}. Give a width of {lengths.max()}.")
    bucket = np.searchsorted(widths, lengths)

    def draw():
        random, waiting = np.random.default_rng(seed), [[] for _ in widths]
        while True:
            for row in random.permutation(len(lengths)):
                rows = waiting[bucket[row]]
                rows.append(row)
                if len(rows) == size:
                    width = min(widths[bucket[row]], prompts.tokens.shape[1])
                    yield map_prompts(lambda part: part[rows] if part.ndim == 1 else part[rows, -width:], prompts)
                    rows.clear()

    spec = map_prompts(lambda part: tf.TensorSpec([size, *[None] * (part.ndim - 1)], part.dtype), prompts)
    return tf.data.Dataset.from_generator(draw, output_signature=spec)
