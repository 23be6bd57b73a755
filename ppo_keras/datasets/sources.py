"""Where texts come from: a user's files or a TFDS dataset, read into columns, with what a mistake in them is called."""

import os
from typing import NamedTuple

import numpy as np

from ppo_keras.datasets.cleaning import clean
from ppo_keras.datasets.files import nearest, read_table, separator_hint, shorten_list
from ppo_keras.datasets.labels import plain_labels, too_many_labels
from ppo_keras.datasets.left_out import warn_left_out
from ppo_keras.datasets.prepared import find_builder, prepare
from ppo_keras.errors import InputError, shown

SPLITS = ("train", "validation", "test")
EMPTY = "have an empty text"


class Wanted(NamedTuple):
    """Further columns, whose values are kept as the data have them, row by row: whatever a reward reads of a prompt.

    Attributes:
        needed: names of columns that must be there.
        optional: of those that are kept where they are there.
        every: whether all that are there are kept.
        by: who wants them, for the message where one is missing; "" is whoever reads the data.
    """

    needed: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    every: bool = False
    by: str = ""

    def among(self, available, source):
        """Those of the columns `available` that are kept, or None where nothing is wanted. Raises `InputError` where a needed one is missing."""
        for column in self.needed:
            if column not in available:
                whose = f"{self.by} reads the column {column!r}, which {source} does not have" if self.by else f"{source} has no column {column!r}"
                has = shorten_list([name for name in available if name])
                raise InputError(f"{whose}. It has: {has}.{nearest(column, available) + separator_hint(available, source)}")
        kept = [name for name in available if name and (self.every or name in (*self.needed, *self.optional))]
        return kept if self != Wanted(by=self.by) else None


class Columns(NamedTuple):
    """The columns to read.

    Attributes:
        text: of the texts (prompts, questions, sources).
        label: of the labels, or None.
        partner: of a second text beside each: the rejected one, the answer, the translation; or None.
        asked: whether the user named `text`; a default may give way to the only column of strings.
        label_asked: whether the user named `label`; a default may be absent.
        partner_needed: whether an empty partner is a mistake.
        options: of the command line, that name the columns.
        wanted: further columns.
    """

    text: str
    label: str | None = None
    partner: str | None = None
    asked: bool = False
    label_asked: bool = False
    partner_needed: bool = False
    options: str = "--text-column"
    wanted: Wanted = Wanted()


class Raw(NamedTuple):
    """One split as it was read: lists of N strings, the texts clean and not empty; None where there is no such column.

    `rows` is a list of N dicts, {column: value}, of what is wanted beside them.
    """

    texts: list[str]
    labels: list[str] | None = None
    partners: list[str] | None = None
    rows: list[dict] | None = None


def read_files(paths, columns):
    """Reads the file of each split.

    Args:
        paths: {split: path}.
        columns: `Columns`.

    Returns:
        {split: `Raw`}.

    Raises:
        InputError: a file or a line of it cannot be used.
    """
    return {split: _read_file(os.fspath(path), columns) for split, path in paths.items()}


def _read_file(path, columns):
    table = read_table(path)
    columns = _resolve(columns, table.columns, path)
    kept = columns.wanted.among(table.columns, path)
    texts, labels, partners, rows, places, empty = [], [], [], [], [], 0
    for line, row in zip(table.lines, table.rows):
        values, place = dict(zip(table.columns, row)), f"{path}, line {line}"
        cleaned = []
        for column in (columns.text, columns.partner):
            if column is not None and not isinstance(values[column], str):
                raise InputError(f"{place}: {column!r} is {shown(values[column], 60)}, not a text. Write it in quotes.")
            cleaned.append("" if column is None else clean(values[column], f"{place}: {column!r}"))
        text, partner = cleaned
        if text and columns.partner_needed and not partner:
            raise InputError(f"{place}: {columns.partner!r} is empty. Fill it in, or remove this line.")
        if not text or columns.partner is not None and not partner:
            empty += 1
            continue
        texts.append(text)
        partners.append(partner)
        labels.append(values.get(columns.label))
        rows.append({name: values[name] for name in kept or ()})
        places.append(place)
    warn_left_out(empty, len(table.rows), "rows", path, EMPTY)
    named = plain_labels(labels, places, columns.label, path) if columns.label else None
    return Raw(texts, named, partners if columns.partner else None, None if kept is None else rows)


def _resolve(columns, available, source, texts=None):
    """The columns with the default label dropped where it is absent. `texts`: the columns that can hold a text."""
    for column in (columns.text, columns.partner, columns.label if columns.label_asked else None):
        if column is not None and column not in available:
            advice = "" if columns.asked else f" Name the right one with {columns.options}."
            advice = nearest(column, available) + (separator_hint(available, source) or advice)
            raise InputError(f"{source} has no column {column!r}. It has: {shorten_list([name for name in available if name])}.{advice}")
    for column in (columns.text, columns.partner) if texts is not None else ():
        if column is not None and column not in texts:
            raise InputError(f"the column {column!r} of {source} holds no text. These do: {shorten_list(texts) or 'none'}.")
    return columns._replace(label=columns.label if columns.label in available else None)


def read_tfds(name, columns, data_dir, two_labels=True):
    """Reads the splits of a TFDS dataset; downloads it where it is not prepared.

    Args:
        name: of the dataset.
        columns: `Columns`. Of a dataset that names its input and target, these stand for columns that were not asked for.
        data_dir: folder of prepared datasets, or None.
        two_labels: whether a column of more than two classes is a mistake.

    Returns:
        {split: `Raw`} for those of `SPLITS` that it has; and the names of its classes, or None where it does not say.

    Raises:
        InputError: there is no such dataset, no such column, no train split, or no way to download it.
    """
    import tensorflow_datasets as tfds

    builder = find_builder(name, data_dir)
    features = builder.info.features
    if not hasattr(features, "keys"):
        raise InputError(f"the TFDS dataset {name} has no named columns. Choose one with texts, such as imdb_reviews.")
    available = list(features.keys())
    texts = [key for key in available if features[key].shape == () and features[key].np_dtype == np.object_]
    named = builder.info.supervised_keys
    if columns.partner_needed and not columns.asked and named and set(named[:2]) <= set(texts):
        columns = columns._replace(text=named[0], partner=named[1])
    elif named and not columns.asked and not columns.partner and columns.text not in available and named[0] in texts:
        columns = columns._replace(text=named[0])
    if not columns.asked and columns.text not in available and len(texts) == 1:
        columns = columns._replace(text=texts[0])
    columns = _resolve(columns, available, name, texts)
    kept = _single(columns.wanted, columns.wanted.among(available, name), features, name)
    label = features[columns.label] if columns.label else None
    classes = tuple(label.names) if isinstance(label, tfds.features.ClassLabel) else None
    if two_labels and classes is not None and len(classes) != 2:  # said before a download
        raise InputError(too_many_labels(name, columns.label, len(classes)))
    prepare(builder, name)
    if "train" not in builder.info.splits:
        raise InputError(f"the TFDS dataset {name} has no train split. It has: {shorten_list(list(builder.info.splits))}.")
    splits = {split: _read_split(builder, name, split, columns, classes, kept) for split in SPLITS if split in builder.info.splits}
    return splits, classes


def _single(wanted, kept, features, name):
    """The columns of TFDS that are kept, without those that hold several values a row; raises `InputError` where one of them is needed."""
    several = [key for key in kept or () if features[key].shape != ()]
    for key in several:
        if key in wanted.needed:
            raise InputError(f"the column {key!r} of {name} holds several values a row. Choose a column of texts or numbers.")
    return kept and [key for key in kept if key not in several]


def _read_split(builder, name, split, columns, classes, kept):
    """One split of TFDS, the labels as strings: of classes, their names."""
    keys = [key for key in (columns.text, columns.label, columns.partner) if key]
    read, further = {key: [] for key in keys}, {key: [] for key in kept or ()}
    dataset = builder.as_dataset(split=split, shuffle_files=False)
    for batch in dataset.map(lambda example: {key: example[key] for key in {*keys, *further}}).batch(1024).as_numpy_iterator():
        for key in read:
            read[key].extend(value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value) for value in batch[key])
        for key in further:
            further[key].extend(_plain(value, builder.info.features[key]) for value in batch[key])
    place, total = f"the {split} split of {name}", len(read[columns.text])
    of_text = [key for key in keys if key != columns.label]
    for key in of_text:
        read[key] = [clean(text, f"a text of {place}") for text in read[key]]
    if columns.partner_needed and "" in read[columns.partner]:
        empty = read[columns.partner].count("")
        raise InputError(f"{empty} texts in the column {columns.partner!r} of {name} are empty. Choose another column.")
    whole = [i for i in range(total) if all(read[key][i] for key in of_text)]
    # -1 stands for "not labelled": so are all the tests of glue.
    keep = [i for i in whole if classes is None or read[columns.label][i] != "-1"]
    warn_left_out(total - len(whole), total, "rows", place, EMPTY)
    warn_left_out(len(whole) - len(keep), total, "rows", place, "have no label")
    texts, labels, partners = ([read[key][i] for i in keep] if key else None for key in (columns.text, columns.label, columns.partner))
    if labels is not None:
        labels = [classes[int(value)] for value in labels] if classes else plain_labels(labels, [place] * len(labels), columns.label, place)
    rows = None if kept is None else [{key: further[key][i] for key in kept} for i in keep]
    return Raw(texts, labels, partners, rows)


def _plain(value, feature):
    """A value of TFDS as Python has it: of a class, its name, and None where there is none."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if hasattr(feature, "int2str"):
        return feature.int2str(int(value)) if value >= 0 else None
    return value.item()
