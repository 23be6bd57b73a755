"""Solutions of 6.5, a large language model."""


def numbers_of_rank_4():
    return 30 * 4 * (576 + 960)  # 30 layers; A is 576 x 4, B is 4 x 960 (9 queries, 3 keys, 3 values, of 64 numbers each)


def two_outputs():
    return [1 + 2 * 3 * 0.5, 2 + 2 * 3 * -1]  # x A = 1 + 2 = 3
