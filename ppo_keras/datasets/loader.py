"""Texts for training: the bundled film reviews, any TFDS dataset, or a user's file, split into train, validation and test."""

import os
from typing import NamedTuple

import numpy as np

from ppo_keras.datasets.files import nearest, read_table
from ppo_keras.datasets.labels import binary_labels, show, too_many_labels
from ppo_keras.datasets.prepared import find_builder, prepare, shorten_list
from ppo_keras.errors import InputError

SPLITS = ("train", "validation", "test")


class Split(NamedTuple):
    """Texts, each with its label or its rejected counterpart.

    Attributes:
        texts: list of N strings, without line breaks; of preference pairs the chosen ones.
        labels: int32 `(N,)`, 0 negative and 1 positive, or None.
        rejected: list of N strings, or None where the texts are not preference pairs.
    """

    texts: list[str]
    labels: np.ndarray | None = None
    rejected: list[str] | None = None


class Corpus(NamedTuple):
    """The three splits of a dataset; no text is in two of them.

    Attributes:
        name: the dataset or file that they come from.
        train: the `Split` to learn from.
        validation: the `Split` to choose settings by.
        test: the `Split` to report on.
        label_names: the names of the labels 0 and 1, negative first, or None where there are no labels.
    """

    name: str
    train: Split
    validation: Split
    test: Split
    label_names: tuple[str, str] | None


class Columns(NamedTuple):
    """The columns to read; `label_asked` tells a label column that was named from the default, which may be absent."""

    text: str
    label: str | None
    rejected: str | None
    text_asked: bool
    label_asked: bool


def load_texts(
    data=None, dataset=None, language="en", text_column=None, label_column=None, chosen_column=None, rejected_column=None,
    data_dir=None, seed=0, minimum=64,
):  # fmt: skip
    """Loads texts from one of three places: the bundled film reviews (the default), a TFDS dataset, or a file.

    A file is shuffled and split 80/10/10, each class alike. A TFDS dataset keeps its splits; those that it lacks, or that
    have no labels, are taken out of train. White space in a text, line breaks too, becomes single spaces; empty texts are
    left out, and of identical texts all but one, across the splits as well.

    Args:
        data: path of a .txt (one text a line), .csv, .tsv or .jsonl file.
        dataset: TFDS name, such as "imdb_reviews" or "glue/sst2".
        language: of the bundled film reviews, "en" or "zh".
        text_column: default "text"; in a TFDS dataset without it, the only column of strings.
        label_column: default "label", where there is one; "" loads the texts without labels. There must be two labels:
            0 and 1, or names such as "neg" and "pos"; of other names the second in sorted order is the positive one.
        chosen_column: with `rejected_column`, the better text of each preference pair.
        rejected_column: the worse text of each preference pair.
        data_dir: folder of prepared TFDS datasets. Default: TFDS_DATA_DIR, else `~/tensorflow_datasets`.
        seed: int, of the shuffle and of the splits that are made here.
        minimum: the least number of training texts that is accepted.

    Returns:
        A `Corpus`.

    Raises:
        InputError: anything that cannot be read, with what to do about it in one line.

    Example:
        >>> corpus = load_texts(language="zh")
        >>> corpus.name, len(corpus.train.texts), corpus.label_names
        ('film_reviews/zh', 384, ('negative', 'positive'))
    """
    if data is not None and dataset is not None:
        raise InputError(f"both a file ({data}) and a dataset ({dataset}) are given. Give one of them.")
    columns = _columns(text_column, label_column, chosen_column, rejected_column)
    if data is not None:
        name = os.fspath(data)
        splits, label_names = _from_file(name, columns, seed)
    else:
        if dataset is None and language not in ("en", "zh"):
            raise InputError(f"no film reviews in language={language!r}. Use 'en' or 'zh', or give a file or a dataset.")
        name = f"film_reviews/{language}" if dataset is None else dataset
        splits, label_names = _from_tfds(name, columns, data_dir, seed)
    count = len(splits["train"].texts)
    if count < minimum:
        raise InputError(
            f"{name} gives {count} different training texts, but {minimum} are needed. Add texts, or lower minimum "
            "(on the command line: --batch-size and --supervised-batch-size)."
        )
    return Corpus(name, splits["train"], splits["validation"], splits["test"], label_names)


def _columns(text, label, chosen, rejected):
    if (chosen is None) != (rejected is None):
        given, missing = ("chosen", "rejected") if rejected is None else ("rejected", "chosen")
        raise InputError(f"{given}_column is given without {missing}_column. Preference pairs need both.")
    if chosen is None:
        return Columns(text or "text", "label" if label is None else label or None, None, bool(text), bool(label))
    if text or label:
        raise InputError("preference pairs have no text_column or label_column. Leave them out, or leave out chosen_column.")
    return Columns(chosen, None, rejected, True, False)


def _resolve(columns, available, source, texts=None):
    """The columns with the default label dropped where it is absent. `texts`: the columns that can hold a text."""
    for column in (columns.text, columns.rejected, columns.label if columns.label_asked else None):
        if column is not None and column not in available:
            advice = "" if columns.text_asked else " Name the one that holds the texts by text_column."
            hint = nearest(column, available) or advice
            raise InputError(f"{source} has no column {column!r}. It has: {shorten_list(available)}.{hint}")
    for column in (columns.text, columns.rejected) if texts is not None else ():
        if column is not None and column not in texts:
            raise InputError(f"the column {column!r} of {source} holds no text. These do: {shorten_list(texts) or 'none'}.")
    return columns._replace(label=columns.label if columns.label in available else None)


def _from_file(path, columns, seed):
    table = read_table(path)
    columns = _resolve(columns, table.columns, path)
    texts, labels, rejected = [], [], []
    for line, row in zip(table.lines, table.rows):
        values = dict(zip(table.columns, row))
        for column in (columns.text, columns.rejected):
            if column is not None and not isinstance(values[column], str):
                raise InputError(f"{path}, line {line}: {column!r} is {show(values[column])}, not a text. Write it in quotes.")
        if not values[columns.text].strip():
            continue
        texts.append(values[columns.text])
        if columns.rejected is not None:
            rejected.append(values[columns.rejected])
        if columns.label is not None:
            label = values[columns.label]
            if label is None or not str(label).strip():
                raise InputError(f"{path}, line {line}: {columns.label!r} is empty. Label every text, or remove this line.")
            labels.append(str(label))
    names = None
    if columns.label is not None:
        labels, names = binary_labels(labels, path, columns.label)
    everything = Split(texts, labels if names else None, rejected if columns.rejected else None)
    return _carve(_distinct(everything, set()), SPLITS[1:], seed), names


def _from_tfds(name, columns, data_dir, seed):
    import tensorflow_datasets as tfds

    builder = find_builder(name, data_dir)
    features = builder.info.features
    if not hasattr(features, "keys"):
        raise InputError(f"the TFDS dataset {name} has no named columns. Choose one with texts, such as imdb_reviews.")
    available = list(features.keys())
    texts = [key for key in available if features[key].shape == () and features[key].np_dtype == np.object_]
    if not columns.text_asked and columns.text not in available and len(texts) == 1:
        columns = columns._replace(text=texts[0])
    columns = _resolve(columns, available, name, texts)
    label = features[columns.label] if columns.label else None
    classes = label.num_classes if isinstance(label, tfds.features.ClassLabel) else None
    if classes is not None and classes != 2:  # said before a download
        raise InputError(too_many_labels(name, columns.label, classes))
    prepare(builder, name)
    if "train" not in builder.info.splits:
        raise InputError(f"the TFDS dataset {name} has no train split. It has: {shorten_list(list(builder.info.splits))}.")
    splits = {split: _read_split(builder, split, columns) for split in SPLITS if split in builder.info.splits}
    names = None
    if columns.label:
        values, names = binary_labels([value for rows in splits.values() for value in rows.labels], name, columns.label)
        pieces = np.split(values, np.cumsum([len(rows.texts) for rows in splits.values()])[:-1])
        splits = {split: rows._replace(labels=piece) for (split, rows), piece in zip(splits.items(), pieces)}
        names = tuple(label.names) if classes else names
    seen = set()  # test first: a text that is in two splits is dropped from train
    splits = {split: _distinct(splits[split], seen) for split in reversed(SPLITS) if split in splits}
    missing = [split for split in SPLITS[1:] if split not in splits or not splits[split].texts]
    return splits | _carve(splits["train"], missing, seed), names


def _read_split(builder, split, columns):
    """One split as it stands in TFDS, with the labels still as strings."""
    import tensorflow_datasets as tfds

    keys = [key for key in (columns.text, columns.label, columns.rejected) if key]
    read = {key: [] for key in keys}
    dataset = builder.as_dataset(split=split, shuffle_files=False)
    for batch in dataset.map(lambda example: {key: example[key] for key in keys}).batch(1024).as_numpy_iterator():
        for key, values in batch.items():
            read[key].extend(value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value) for value in values)
    rows = Split(read[columns.text], read.get(columns.label), read.get(columns.rejected))
    if columns.label and isinstance(builder.info.features[columns.label], tfds.features.ClassLabel):
        # -1 stands for "not labelled": so are all the tests of glue.
        rows = _take(rows, [i for i, value in enumerate(rows.labels) if value != "-1"])
    return rows


def _distinct(split, seen):
    """A split with clean texts, without empty ones and without those in `seen`, to which its texts are added."""
    texts = [" ".join(text.split()) for text in split.texts]
    rejected = None if split.rejected is None else [" ".join(text.split()) for text in split.rejected]
    keep = []
    for i, text in enumerate(texts):
        # A pair of two equal texts prefers nothing.
        if text and text not in seen and (rejected is None or rejected[i] not in ("", text)):
            seen.add(text)
            keep.append(i)
    return _take(Split(texts, split.labels, rejected), keep)


def _carve(split, names, seed):
    """{"train": ..., name: ...}: a tenth of each class for each name, the rest shuffled for train."""
    classes = np.zeros(len(split.texts), np.int32) if split.labels is None else split.labels
    if not names:
        return {"train": split}
    random = np.random.default_rng(seed)
    chosen = {name: [] for name in ("train", *names)}
    for value in np.unique(classes):
        members = random.permutation(np.flatnonzero(classes == value))
        size = max(len(members) // 10, 1 if len(members) > len(names) else 0)
        for i, name in enumerate(names):
            chosen[name].extend(members[i * size : (i + 1) * size])
        chosen["train"].extend(members[len(names) * size :])
    return {name: _take(split, random.permutation(np.array(indices, int))) for name, indices in chosen.items()}


def _take(split, indices):
    def pick(values):
        return None if values is None else [values[i] for i in indices]

    labels = split.labels[indices] if isinstance(split.labels, np.ndarray) else pick(split.labels)
    return Split(pick(split.texts), labels, pick(split.rejected))
