"""Solutions of 5.1, setting up."""

from ppo_keras.ppo import ITERATION_METRICS


def which_pythons():
    return [0, 0, 1, 0]  # 3.11 to 3.13


def scalars_written():
    metrics = len(ITERATION_METRICS) + 3  # and three of the episodes: the number printed above
    return metrics * 5  # ITERATIONS of the chapter


def bytes_of_the_policy():
    trunk = (4 * 16 + 16) + (16 * 16 + 16)  # a layer that reads the state, and a hidden one
    heads = (16 * 4 + 4) + (16 + 1)
    return 4 * (2 * trunk + heads)
