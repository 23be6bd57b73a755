"""Labels in any usual spelling, as numbers."""

import numpy as np

from ppo_keras.datasets.files import shorten_list
from ppo_keras.errors import InputError

NEGATIVE = {"0", "0.0", "negative", "neg", "no", "false", "bad"}
POSITIVE = {"1", "1.0", "positive", "pos", "yes", "true", "good"}


def number_labels(splits, source, column, classes=None, two=True):
    """Numbers for the labels of all splits; a label that training never shows is a mistake.

    Args:
        splits: {split: a tuple with `labels`: a list of strings, in any case, or None}. Of two labels, 0 and 1 or names such
            as "neg" and "pos", the negative one becomes 0; else numbers are sorted by size and names by the alphabet.
        source: the file or dataset, for the messages.
        column: the column of the labels, for the messages.
        classes: the names of all classes in their order, where the source knows them.
        two: whether more than two labels are a mistake.

    Returns:
        The splits with labels as int32 `(N,)`, and the names; or the splits as they were, and None, without labels.

    Raises:
        InputError: there is one label only, more than two, or one of another split is not in train.
    """
    values = {split: rows.labels for split, rows in splits.items()}
    unlabelled = [split for split, labels in values.items() if labels is None]
    if values["train"] is not None and unlabelled:
        raise InputError(f"the {unlabelled[0]} split of {source} has no column {column!r}, but training has. Give all splits the same columns.")
    if values["train"] is None:
        return {split: rows._replace(labels=None) for split, rows in splits.items()}, None
    values = {split: [value.strip() for value in labels] for split, labels in values.items()}
    names, number = label_names(values["train"], source, column, two) if classes is None else (classes, None)
    number = number or {name.casefold(): i for i, name in enumerate(names)}
    seen = {number[value.casefold()] for value in values["train"]}
    for split, labels in values.items():
        strange = [value for value in labels if number.get(value.casefold()) not in seen]
        if strange:
            raise InputError(
                f"the {split} split of {source} has the label {show(strange[0])} ({len(strange)} texts), which no training text has. "
                f"Correct it, or remove these lines. Labels in training: {shorten_list([names[i] for i in sorted(seen)])}."
            )
    if len(seen) == 1:
        raise InputError(f"every label in {source} is {show(values['train'][0])}. Texts of both classes are needed in column {column!r}.")
    numbered = {split: np.array([number[value.casefold()] for value in labels], np.int32) for split, labels in values.items()}
    return {split: rows._replace(labels=numbered[split]) for split, rows in splits.items()}, names


def label_names(values, source, column, two=True):
    """The names of labels in their order, and {label in lower case: number}; see `number_labels`."""
    spellings = {value.casefold(): value for value in reversed(values)}  # the first spelling of each label
    if spellings.keys() <= NEGATIVE | POSITIVE:
        return ("negative", "positive"), dict.fromkeys(NEGATIVE, 0) | dict.fromkeys(POSITIVE, 1)
    ordered = sorted(spellings, key=_order)
    names = tuple(spellings[key] for key in ordered)
    if two and len(ordered) > 2:
        raise InputError(too_many_labels(source, column, len(ordered), names))
    return names, {key: i for i, key in enumerate(ordered)}


def _order(value):
    """Sorts numbers by size and names by the alphabet, but a known name to its side: "good" comes after "poor"."""
    try:
        return (0, float(value), value)
    except ValueError:
        return ((value in POSITIVE) - (value in NEGATIVE), 0.0, value)


def too_many_labels(source, column, count, names=()):
    """The message about a column of more than two labels."""
    shown = f" ({shorten_list(names, 5)})" if names else ""
    return (
        f"the column {column!r} of {source} has {count} different labels{shown}, but there must be two, such as 0 and 1. "
        "Name another label_column, or give an empty one (--label-column '') to load the texts without labels."
    )


def show(value):
    """A value as it is quoted in a message: one line, not long."""
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
