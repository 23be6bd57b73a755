"""Solutions of 5.2, the article's program, corrected."""

import numpy as np


def three_advantages():
    return 1.0 - np.array([0.2, 0.4, 0.6])  # with gamma = lambda = 1 it is the return less the value


def broadcast_error():
    differences = [0, 1, 2, -1, 0, 1, -2, -1, 0]  # all nine pairs, not three
    return sum(d * d for d in differences) / 9


def derivatives_by_the_ratio():
    # A = 1: max(-r, -1.2) is -1.2 beyond 1.2: the good move went far enough. A = -1: max(r, 1.2) is r: the bad move is still pulled back.
    return [0.0, 1.0]
