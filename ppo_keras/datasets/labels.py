"""Two labels in any usual spelling, as 0 and 1."""

import numpy as np

from ppo_keras.datasets.files import shorten_list
from ppo_keras.errors import InputError

NEGATIVE = {"0", "0.0", "negative", "neg", "no", "false", "bad"}
POSITIVE = {"1", "1.0", "positive", "pos", "yes", "true", "good"}


def binary_labels(values, source, column):
    """Turns labels as they are written into 0 and 1.

    Args:
        values: list of N strings, in any case: 0 and 1, names such as "neg" and "pos", or two others. Of these the second
            in sorted order becomes 1, unless one of them is a known name.
        source: the file or dataset, for the messages.
        column: the column of the labels, for the messages.

    Returns:
        The labels as int32 `(N,)`, and their two names, negative first.

    Raises:
        InputError: there is one label only, or there are more than two.
    """
    values = [value.strip() for value in values]
    spellings = {value.casefold(): value for value in reversed(values)}  # the first spelling of each label
    if spellings.keys() <= NEGATIVE | POSITIVE:
        ones, names = spellings.keys() & POSITIVE, ("negative", "positive")
    else:
        ordered = sorted(spellings, key=_order)
        ones, names = set(ordered[1:]), tuple(spellings[key] for key in ordered)
        if len(ordered) > 2:
            raise InputError(too_many_labels(source, column, len(ordered), names))
    labels = np.array([value.casefold() in ones for value in values], np.int32)
    if labels.size and labels.min() == labels.max():
        raise InputError(f"every label in {source} is {show(values[0])}. Texts of both classes are needed in column {column!r}.")
    return labels, names


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
