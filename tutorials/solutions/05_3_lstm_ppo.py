"""Solutions of 5.3, PPO with an LSTM."""

import math


def weights_of_a_cell():
    return 4 * (2 * 3 + 3 * 3 + 3)  # W, U and b of each gate


def shown_by_a_zero_cell():
    # each sigmoid is 1/2, each tanh of 0 is 0: c' = 1/2 * 2 + 1/2 * 0 = 1
    return 0.5 * math.tanh(1.0)


def starts_of_two_texts():
    return [0, 1, 0, 0, 1, 0]
