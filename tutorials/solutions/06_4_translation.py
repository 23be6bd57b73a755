"""Solutions of 6.4, translation."""


def penalised():
    return 0.12 - 0.3 * (1 - 2 / 12)  # below 0: silence does not pay


def chrf_of_ab():
    precision = (1 + 1) / 2  # a and b; ab. Longer n-grams do not count: "ab" has none
    recall = (2 / 3 + 1 / 2) / 2  # a and b of a, b, c; ab of ab, bc
    return 5 * precision * recall / (4 * precision + recall)


def two_gains():
    sampled = (0.4 * 0.2 + 0.6 * 0.6) - (0.7 * 0.2 + 0.3 * 0.6)
    return [sampled, 0.6 - 0.2]  # here the most probable translation became another one, so greedy gains more
