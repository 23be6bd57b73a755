"""Solutions of 10, references and errata."""


def articles_mean_square():
    # (4, 1) - (4,) is (4, 4): differences 0 (four times), 1 (six), 2 (four), 3 (two)
    return (4 * 0 + 6 * 1 + 4 * 4 + 2 * 9) / 16


def two_advantages():
    value = 0.25 * 2 + 0.75 * 1  # V is the mean of Q under the policy
    return [2 - value, 1 - value]


def three_steps_earlier():
    return (0.99 * 0.95) ** 3  # delta is 0 but for the last step, which counts (gamma lambda)^3
