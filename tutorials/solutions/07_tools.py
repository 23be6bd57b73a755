"""Solutions of 7, tools."""

import math


def bytes_of_a_record():
    return 8 + 4 + 100 + 4  # length, its checksum, the event, its checksum


def health_of_the_product():
    return [0, 0, 1]  # -inf * 0 is NaN, 0 * 1 is 0


def ratio_of_a_token():
    return math.exp(0.3)  # about 1.35: outside
