"""Solutions of 4.3, the grid world of four states."""

import numpy as np


def delta_at_the_goal():
    return 1.0 + 0.0 - 0.8  # r + gamma V(s') - V(s); behind the end there is no value


def two_logits():
    step = 0.5 * (np.array([1.0, 0.0]) - 0.5)  # A (1[b = a] - pi(b))
    return 1.0 * step


def uniform_value_of_state_1():
    # V1 = g/4 (2 V1 + V2 + V3), V2 = V3 = 1/4 + g/4 (V1 + 2 V2), g = 1/2: V1 = V2/3 and V2 = 1/4 + V1/8 + V2/4
    v2 = 0.25 / (1 - 0.25 - 1 / 24)
    return v2 / 3
