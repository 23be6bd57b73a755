"""Solutions of 1, the introduction."""


def share_of_praise(words, praise):
    return sum(word in praise for word in words) / len(words) if words else 0.0


def objective(scores, kls, beta):
    return scores.mean() - beta * kls.mean()


def variety(token_lists):
    pairs = [pair for ids in token_lists for pair in zip(ids, ids[1:])]
    return len(set(pairs)) / len(pairs)
