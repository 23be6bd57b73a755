"""Solutions of 2, language models and PPO."""

import numpy as np


def rewards_of(log_probs, reference_log_probs, score, beta):
    rewards = -beta * (log_probs - reference_log_probs)
    rewards[-1] += score
    return rewards


def next_values_of(values):
    return np.append(values[1:], 0.0)  # behind the last token there is nothing


def perplexities(log_probs, mask):
    return np.exp(-(log_probs * mask).sum(axis=1) / mask.sum(axis=1))
