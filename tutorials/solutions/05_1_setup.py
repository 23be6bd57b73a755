"""Solutions of 5.1, setting up."""


def numbers_of_a_projection():
    return 32 * 32 + 32  # a matrix and a bias


def log_probabilities_of_an_iteration():
    return 64 * 8  # (B, T)
