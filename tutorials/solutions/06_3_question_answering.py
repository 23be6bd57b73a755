"""Solutions of 6.3, question answering."""


def three_scores():
    return [1 - 0, 0 - 1 / 2, 0 - 1 / 2]  # the others of the first are 0 and 0, those of the second 1 and 0


def chance_of_a_signal():
    return [1 - 0.9**4 - 0.1**4, 1 - 0.9**16 - 0.1**16]


def four_rewards():
    return [1, 0, 1, 0]  # articles, case and punctuation do not count; another word does
