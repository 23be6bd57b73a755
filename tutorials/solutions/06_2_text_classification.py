"""Solutions of 6.2, text classification."""


def threshold():
    return 1 / 6  # "positive" costs (1 - p) * 1, "negative" costs p * 5: equal at p = 1/6


def push():
    return 0.02 * 0.98  # pi (1 - pi)


def advantage_of_a_mistake():
    return -5 - (-0.6)  # r - V(s); nothing follows, so neither gamma nor lambda counts
