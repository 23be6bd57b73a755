"""Solutions of 9, questions and answers."""


def token_passes():
    return 48 * 8 + 48 * 47 // 2  # the first new token reads 8, the last 8 + 47


def effective_share():
    return (0.49 / 0.5 + 0.09 / 0.5) ** -10


def mean_and_deviation():
    mean = 2 / 3
    variance = (mean**2 + 2 * (1 - mean) ** 2) / 2  # n - 1 = 2
    return [mean, variance**0.5]
