"""Solutions of 6.1, text generation."""

import math


def two_rewards():
    return [-0.2 * (-1 - -2), -0.2 * (-2 - -2) + 0.5]  # -beta (log p - log p_ref), and the score at the last token


def diversity():
    return 2 / 4  # of four pairs three are (good, good), one is (good, film)


def probability_of_b():
    a, b = 0.9 * math.exp(0 / 0.5), 0.1 * math.exp(1 / 0.5)  # pi_ref e^(s / beta), not yet normalised
    return b / (a + b)
