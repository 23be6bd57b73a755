"""Solutions of 8, outlook."""

import math


def rloo_of_one_success():
    return [1.0, -1 / 3, -1 / 3, -1 / 3]  # the others of the success scored 0, those of a failure 1/3 on average


def factors():
    return [10.0, 1.0]  # d drops out of both; GRPO divides c away as well


def epsilon_of_half_the_steps():
    rho = 30 / (2 * 10**2)
    return rho + 2 * math.sqrt(rho * math.log(1e5))
