"""Solutions of 4, the mathematics."""

import numpy as np


def gae(rewards, values, next_values, ended, discount, gae_lambda):
    advantages, later = np.zeros_like(rewards), 0.0
    for t in reversed(range(len(rewards))):
        delta = rewards[t] + discount * next_values[t] - values[t]
        later = delta + discount * gae_lambda * (1 - ended[t]) * later
        advantages[t] = later
    return advantages


def exact_kl(p, q):
    return np.sum(p * np.log(p / q))


def mean_of_k2(p, q):
    return np.sum(p * np.log(q / p) ** 2 / 2)
