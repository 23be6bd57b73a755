"""Subsets of a split: the splits that a file lacks, two halves without a common text, and whether a subset still holds every class.

Whoever forms one looks at it last, when texts were left out and rows were drawn: a model of one class is always right about it.
"""

import numpy as np

from ppo_keras.datasets.files import shorten_list
from ppo_keras.datasets.pairs import carve_pairs, deal_pairs
from ppo_keras.errors import InputError


def take(split, rows):
    """The rows of a `Split`, an int array or list, in their order."""
    pick = lambda values: values[rows] if isinstance(values, np.ndarray) else None if values is None else [values[i] for i in rows]
    return type(split)(*map(pick, split))


def carve(split, names, seed, source="the data"):
    """{"train": ..., name: ...}: a tenth of each class for each name, the rest shuffled for train.

    A class of few texts gives two of them, so that halves can be made, and one where two are too many. No two of these splits
    share a text, also of preference pairs (see `carve_pairs`); `source` is the name of the data, for messages.
    """
    if not names:
        return {"train": split}
    random = np.random.default_rng(seed)
    if split.rejected is not None:
        chosen = carve_pairs(list(zip(split.texts, split.rejected)), names, random.permutation(len(split.texts)).tolist(), source)
        return {name: take(split, random.permutation(np.array(rows, int))) for name, rows in chosen.items()}
    chosen = {name: [] for name in ("train", *names)}
    for members in _members(split):
        members = random.permutation(members)
        size = max(len(members) // 10, min(2, len(members) // (len(names) + 1)))
        for i, name in enumerate(names):
            chosen[name].extend(members[i * size : (i + 1) * size])
        chosen["train"].extend(members[len(names) * size :])
    return {name: take(split, random.permutation(np.array(rows, int))) for name, rows in chosen.items()}


def halves(split, seed):
    """Two `Split`s that share no row: each class (without labels, the whole) is shuffled, and dealt to both in turn.

    Nor do they share a text: preference pairs that do are dealt together, unless more than half of all are linked.
    """
    random = np.random.default_rng(seed)
    if split.rejected is not None:
        dealt = deal_pairs(list(zip(split.texts, split.rejected)), random.permutation(len(split.texts)).tolist())
        return tuple(take(split, np.sort(np.array(rows, int))) for rows in dealt)
    dealt = np.concatenate([random.permutation(members) for members in _members(split)] or [np.zeros([0], int)])
    return take(split, np.sort(dealt[::2])), take(split, np.sort(dealt[1::2]))


def check_classes(subset, label_names, place, remedy):
    """Looks whether a subset can be learned from, or measured on.

    Args:
        subset: a `Split`.
        label_names: of all classes that it must hold; None without labels.
        place: what it is called in the message.
        remedy: what the user can do, whole sentences.

    Raises:
        InputError: it is empty, or a class has no text in it.
    """
    if not subset.texts:
        raise InputError(f"{place} holds no text. {remedy}")
    missing = [name for label, name in enumerate(label_names or ()) if label not in subset.labels]
    if missing:
        raise InputError(f"{place} holds no text with the label {shorten_list([repr(name) for name in missing], 3)}. {remedy}")


def _members(split):
    """The rows of each class, int arrays; one of all rows where there are no labels."""
    classes = np.zeros(len(split.texts), np.int32) if split.labels is None else split.labels
    return [np.flatnonzero(classes == value) for value in np.unique(classes)]
