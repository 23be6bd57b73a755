"""Solutions of 3, from the policy gradient to PPO."""

import numpy as np


def slope_of_the_clipped_objective(ratio, advantage, clip_ratio):
    # where the ratio went too far in the direction that the advantage asks for, the objective is flat; else it is r A
    too_far = np.where(advantage > 0, ratio > 1 + clip_ratio, ratio < 1 - clip_ratio)
    return np.where(too_far, 0.0, advantage)


def best_baseline(pi, mu):
    # |grad log pi(a)|^2 = (1 - pi(a))^2 + sum of the other pi(b)^2 = 1 - 2 pi(a) + sum_b pi(b)^2
    squares = 1 - 2 * pi + (pi**2).sum()
    return (pi * mu) @ squares / (pi @ squares)


def samples_worth(ratios):
    return ratios.sum() ** 2 / (ratios**2).sum()
