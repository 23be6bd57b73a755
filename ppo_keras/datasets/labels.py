"""Labels in any usual spelling, as numbers; and which of two labels is the positive one, that a reward pays for."""

import collections
import math
import re
import unicodedata
import warnings

import numpy as np

from ppo_keras.datasets.cleaning import clean
from ppo_keras.datasets.files import nearest, shorten_list
from ppo_keras.errors import DataWarning, InputError, shown

NEGATIVE = {"0", "0.0", "negative", "neg", "no", "false", "bad"}  # spellings of one label
POSITIVE = {"1", "1.0", "positive", "pos", "yes", "true", "good"}
WORSE = set(  # each a label of its own, and the worse of two
    "worse worst poor terrible awful rotten unsafe dislike disliked hate toxic harmful wrong incorrect unacceptable unhelpful irrelevant "
    "sad unhappy fail failed rejected rude impolite offensive invalid thumbsdown dissatisfied "
    "负面 負面 消极 消極 反面 负 差评 差評 恶评 坏 壞 差 不好 否 错 錯 错误 假 不安全 有害 有毒 不喜欢 讨厌 贬义 踩 不推荐 不满意 不合格 失败".split()
)
BETTER = set(
    "better best great excellent fresh safe like liked love nontoxic nottoxic harmless right correct acceptable helpful relevant "
    "happy pass passed chosen accepted polite inoffensive valid thumbsup satisfied "
    "正面 积极 積極 正 好评 好評 好 是 对 對 正确 真 安全 无害 无毒 喜欢 褒义 赞 推荐 满意 合格 成功".split()
)
MISSING = {"nan", "-nan", "+nan", "null", "<na>", "#n/a"}  # what a table writes where there is no value
INFINITE = {"inf", "-inf", "+inf"}  # what it writes of a number without end; "Infinity" may be the name of a class
DOUBTFUL = {"none", "na", "n/a"}  # that too, but each may be the name of a class
WHOLE = re.compile(r"^([+-]?\d+)\.0*$")  # a whole number, written as a fraction


def number_labels(splits, source, column, classes=None, two=True, positive=None):
    """Numbers for the labels of all splits; a label that training never shows is a mistake.

    Args:
        splits: {split: a tuple with `labels`: a list of strings, in any case, or None}.
        source: the file or dataset, for the messages.
        column: the column of the labels, for the messages.
        classes: the names of all classes in their order, where the source knows them; those without a training text are left out.
        two: whether more than two labels are a mistake.
        positive: which of two labels is the positive one, number 1; by default see `label_names`.

    Returns:
        The splits with labels as int32 `(N,)`, and the names; or the splits as they were, and None, without labels.

    Raises:
        InputError: there is one label only, more than two, one of another split is not in train, or none is `positive`.
    """
    values = {split: rows.labels for split, rows in splits.items()}
    unlabelled = [split for split, labels in values.items() if labels is None]
    if values["train"] is not None and unlabelled:
        raise InputError(f"the {unlabelled[0]} split of {source} has no column {column!r}, but training has. Give all splits the same columns.")
    if values["train"] is None:
        if positive is not None:
            raise InputError(f"{source} is read without labels, so none is {positive!r}. Leave out --positive-label, or name the column with --label-column.")
        return {split: rows._replace(labels=None) for split, rows in splits.items()}, None
    values = {split: [value.strip() for value in labels] for split, labels in values.items()}
    names, number = label_names(values["train"], source, column, two, classes, positive)
    for split, labels in values.items():
        strange = [value for value in labels if value.casefold() not in number]
        if strange:
            raise InputError(
                f"the {split} split of {source} has the label {shown(strange[0], 60)} ({len(strange)} texts), which no training text has. "
                f"Correct it, or remove these lines. Labels in training: {shorten_list(names)}."
            )
    if len(names) == 1:
        raise InputError(f"every label in {source} is {shown(values['train'][0], 60)}. Texts of both classes are needed in column {column!r}.")
    numbered = {split: np.array([number[value.casefold()] for value in labels], np.int32) for split, labels in values.items()}
    return {split: rows._replace(labels=numbered[split]) for split, rows in splits.items()}, names


def label_names(values, source, column, two=True, classes=None, positive=None):
    """The names of labels in their order, and {label in lower case: number}; see `number_labels`.

    0 and 1, "neg" and "pos", "no" and "yes" and their like are called "negative" and "positive". Of two other labels the better one
    comes last: the one that is asked for, else the one that words say (`order_is_known`), else that of the larger number or behind
    the other in the alphabet (of classes, in their order). More labels are in the order of their classes, of numbers or of the alphabet,
    words for what is worse before the others and words for what is better behind them.
    """
    spellings = {value.casefold(): value for value in reversed(values)}  # the first spelling of each label
    if classes is not None:
        groups = [(name, {name.casefold()}) for name in classes if name.casefold() in spellings]
        if len(groups) == 2 and order_is_known([groups[1][0], groups[0][0]]):
            groups.reverse()
    elif spellings.keys() <= NEGATIVE | POSITIVE:
        groups = [(name, alike) for name, alike in (("negative", NEGATIVE), ("positive", POSITIVE)) if spellings.keys() & alike]
    else:
        groups = [(spellings[key], {key}) for key in sorted(spellings, key=_order)]
        if two and len(groups) > 2:
            raise InputError(too_many_labels(source, column, len(groups), [name for name, _ in groups]))
    if positive is not None:
        groups = _with_last(groups, positive, spellings, source)
    return tuple(name for name, _ in groups), {key: number for number, (_, alike) in enumerate(groups) for key in alike}


def _with_last(groups, positive, spellings, source):
    """Two groups of spellings of a label, that of `positive` last. Raises `InputError` where it is in none, or there are more."""
    names, asked = [name for name, _ in groups], WHOLE.sub(r"\1", positive.strip().casefold())
    if len(groups) > 2:
        raise InputError(f"{source} has {len(groups)} labels ({shorten_list(names, 5)}), but only of two can one be the positive. Leave out --positive-label.")
    number = next((i for i, (name, alike) in enumerate(groups) if asked == name.casefold() or asked in alike & spellings.keys()), None)
    if number is None:
        others = sorted(name for name in spellings.values() if name.casefold() not in map(str.casefold, names))
        raise InputError(
            f"--positive-label {shown(positive, 60)} is no label of {source}. It has: {shorten_list([*names, *others], 5)}.{nearest(positive, names)}"
        )
    if number == 0:  # "positive" would be the name of the other one: both are called as they are written
        written = lambda name, alike: (spellings[next(key for key in spellings if key in alike)], alike)
        groups = [written(*group) for group in reversed(groups)]
    return groups


def order_is_known(names):
    """Whether words or signs say that the second of two labels is the better one.

    Example:
        >>> order_is_known(["rotten", "fresh"]), order_is_known(["-1", "1"]), order_is_known(["ham", "spam"])
        (True, True, False)
    """
    worse, better = map(_side, names)
    return worse < 0 < better


def warn_of_guess(names, source):
    """Says which of two labels is taken for the positive one, where nothing but their order tells."""
    if not order_is_known(names):
        warnings.warn(
            f"nothing says which label of {source} is the positive one: {names[1]!r} is taken, because it comes behind {names[0]!r} in their order. "
            f"If that is wrong, give --positive-label {names[0]!r}.",
            DataWarning,
            stacklevel=3,
        )


def _side(name):
    """-1 for what is worse, 1 for what is better, 0 for what says neither."""
    number = _number(name)
    if number is not None:
        return (number > 0) - (number <= 0)
    plain = re.sub(r"[\W_]+", "", unicodedata.normalize("NFKC", name).casefold())  # "non-toxic", "Non toxic"
    return (plain in POSITIVE | BETTER) - (plain in NEGATIVE | WORSE)


def _order(value):
    """Sorts numbers by size and names by the alphabet, but a known name to its side: "good" comes after "poor"."""
    number = _number(value)
    return (_side(value), 0.0, value) if number is None else (0, number, value)


def _number(value):
    try:
        return float(value)
    except ValueError:
        return None


def too_many_labels(source, column, count, names=()):
    """The message about a column of more than two labels."""
    examples = f" ({shorten_list(names, 5)})" if names else ""
    return (
        f"the column {column!r} of {source} has {count} different labels{examples}, but there must be two, such as 0 and 1. "
        "Name another label_column, or give an empty one (--label-column '') to load the texts without labels."
    )


def plain_labels(values, places, column, source):
    """Labels as they were read, as strings: 1, 1.0 and true (beside numbers) are one label.

    Args:
        values: list of str, numbers, booleans or None, as CSV and JSON give them.
        places: where each stands, for the messages.
        column, source: of the labels, for the messages.

    Returns:
        list of str.

    Raises:
        InputError: one is missing (also as "nan" or "null"), not finite (also as "inf"), a list or an object.
    """
    numbers = any(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values)
    labels = [_plain_label(value, numbers, place, column) for value, place in zip(values, places)]
    doubtful = collections.Counter(label for label in labels if label.casefold() in DOUBTFUL)
    for label, count in doubtful.items():
        warnings.warn(
            f"{count} rows of {source} (of {len(labels)} in all) have the label {label!r}, which is taken for a name like the others. "
            "Where it stands for no label, remove these rows.",
            DataWarning,
            stacklevel=3,
        )
    return labels


def _plain_label(value, beside_numbers, place, column):
    if isinstance(value, bool):
        value = int(value) if beside_numbers else str(value).lower()
    if not isinstance(value, (str, int, float, type(None))):
        raise InputError(f"{place}: {column!r} is {shown(value, 60)}, a {type(value).__name__} and no label. Write one word or number.")
    label = "" if value is None else clean(str(value), f"{place}: {column!r}")
    if not label:
        raise InputError(f"{place}: {column!r} is empty. Label every text, or remove this line.")
    if label.casefold() in MISSING | INFINITE or isinstance(value, float) and not math.isfinite(value):
        raise InputError(f"{place}: {column!r} is {label}, which is no label. Label every text, or remove this line.")
    return WHOLE.sub(r"\1", label)
