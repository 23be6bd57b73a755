"""Solutions of 5.4, PPO with a decoder Transformer."""

import math


def numbers_in_the_cache():
    return 2 * 2 * 20 * 64  # keys and values, layers, slots, width: the heads share the width


def two_by_two_weights():
    return [[1.0, 0.0], [1 / 4, 3 / 4]]  # the first sees itself only; e^0 : e^(ln 3) = 1 : 3


def product_of_the_rotated():
    return math.cos(3 - 1)  # the first pair turns by 1 a step; the product is the cosine of the angle between the two
