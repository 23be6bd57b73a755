"""Texts for training: what ships with the package, any TFDS dataset, or a user's files, in train, validation and test."""

import hashlib
import json
import os
from typing import NamedTuple

import numpy as np

from ppo_keras.datasets.distinct import keep_distinct
from ppo_keras.datasets.labels import number_labels, warn_of_guess
from ppo_keras.datasets.sources import SPLITS, Columns, Wanted, read_files, read_tfds
from ppo_keras.datasets.subsets import carve, check_classes, take
from ppo_keras.errors import InputError, check_count, check_seed, require, shown


class Split(NamedTuple):
    """Texts, each with its label, its rejected counterpart or its references.

    Attributes:
        texts: list of N strings, without line breaks; of preference pairs the chosen ones; prompts of references.
        labels: int32 `(N,)`, or None.
        rejected: list of N strings, or None where the texts are not preference pairs.
        references: list of N lists of strings, the right answers (or translations) of each text, or None.
        rows: list of N dicts, {column: value}: what else was wanted of each row, as the data have it; or None. Of rows that
            were put together (a prompt with several references), that of the first.
    """

    texts: list[str]
    labels: np.ndarray | None = None
    rejected: list[str] | None = None
    references: list[list[str]] | None = None
    rows: list[dict] | None = None

    @property
    def kind(self):
        """What its rows are called."""
        return "pairs" if self.rejected is not None else "prompts" if self.references is not None else "texts"


class Corpus(NamedTuple):
    """The three splits of a dataset; no text is in two of them.

    Attributes:
        name: the dataset or file that they come from.
        train: the `Split` to learn from.
        validation: the `Split` to choose settings by.
        test: the `Split` to report on.
        label_names: the names of the labels 0, 1, ...; of two, the positive one last; None where there are no labels.
    """

    name: str
    train: Split
    validation: Split
    test: Split
    label_names: tuple[str, ...] | None = None

    @property
    def fingerprint(self):
        """A checksum of all texts, labels and references: a run goes on only with the data that began it."""
        splits = [[part.tolist() if isinstance(part, np.ndarray) else part for part in split[:4]] for split in self[1:4]]
        return _checksum([splits, self.label_names])

    @property
    def column_fingerprints(self):
        """[[column, checksum], ...] of what else was wanted of the rows; see `fingerprint`."""
        rows = [split.rows or [] for split in self[1:4]]
        names = sorted({name for part in rows for row in part for name in row})
        return [[name, _checksum([[row.get(name) for row in part] for part in rows])] for name in names]

    def numbered_rows(self):
        """All rows, of train, then validation, then test; and {split: the number of its first}."""
        every, first = [], {}
        for name in SPLITS:
            split = getattr(self, name)
            first[name] = len(every)
            every += split.rows or [{}] * len(split.texts)
        return every, first


def _checksum(content):
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def load_texts(
    data=None, dataset=None, language="en", text_column=None, label_column=None, chosen_column=None, rejected_column=None,
    data_dir=None, seed=0, minimum=64, validation_data=None, test_data=None, two_labels=True, positive_label=None,
    columns=(),
):  # fmt: skip
    """Loads texts from one of three places: the bundled film reviews (the default), a TFDS dataset, or a file.

    A file is shuffled and split 80/10/10, each class alike. A TFDS dataset keeps its splits; those that it lacks, or that
    have no labels, are taken out of train. Texts are cleaned (see `cleaning.clean`: single spaces, composed letters). What is
    empty is left out, what repeats another row (as a pair, where there are pairs), texts under two labels, and texts, chosen
    or rejected, that a split held out has as well: each with a warning that says how many of how many.

    Args:
        data: path of a .txt (one text a line), .csv, .tsv or .jsonl file.
        dataset: TFDS name, such as "imdb_reviews" or "glue/sst2".
        language: of the bundled film reviews, "en" or "zh".
        text_column: default "text"; in a TFDS dataset without it, the only column of strings.
        label_column: default "label", where there is one; "" loads the texts without labels. Of two labels the positive one
            becomes 1: of 0 and 1, "neg" and "pos", "rotten" and "fresh", "差评" and "好评" and the like it is known which
            that is; of others the larger or the one behind in the alphabet is taken, with a `DataWarning`.
        chosen_column: with `rejected_column`, the better text of each preference pair.
        rejected_column: the worse text of each preference pair.
        data_dir: folder of prepared TFDS datasets. Default: TFDS_DATA_DIR, else `~/tensorflow_datasets`.
        seed: int, of the shuffle and of the splits that are made here.
        minimum: the least number of training texts that is accepted.
        validation_data, test_data: files of splits of their own; what is not given is taken out of `data`.
        two_labels: whether more than two labels are a mistake.
        positive_label: which of two labels is the positive one, as it is written in the data.
        columns: names of further columns to keep, or `Wanted`: they are the `rows` of each split.

    Returns:
        A `Corpus`.

    Raises:
        InputError: anything that cannot be read, with what to do about it in one line.

    Example:
        >>> corpus = load_texts(language="zh")
        >>> corpus.name, len(corpus.train.texts), corpus.label_names
        ('film_reviews/zh', 384, ('negative', 'positive'))
    """
    columns = _columns(text_column, label_column, chosen_column, rejected_column)._replace(wanted=_wanted(columns))
    if data is None and dataset is None and language not in ("en", "zh"):
        raise InputError(f"no film reviews in language={language!r}. Use 'en' or 'zh', or give a file or a dataset.")
    name, raw, classes = _read(data, validation_data, test_data, dataset, f"film_reviews/{language}", columns, data_dir, two_labels)
    raw, names = number_labels(raw, name, columns.label, classes, two_labels, positive_label)
    if names and two_labels and positive_label is None:
        warn_of_guess(names, name)
    splits = {split: Split(rows.texts, rows.labels, rows.partners, rows=rows.rows) for split, rows in raw.items()}
    return _corpus(name, splits, names, seed, minimum, {"validation": validation_data, "test": test_data})


def load_pairs(
    data=None, dataset=None, bundled="questions/all", prompt_column=None, reference_column=None, defaults=("question", "answer"),
    data_dir=None, seed=0, minimum=64, validation_data=None, test_data=None, columns=(),
):  # fmt: skip
    """Loads prompts with their references (questions and answers, sources and translations).

    Splits are made as by `load_texts`. A prompt that comes several times is one prompt with several references.

    Args:
        data, dataset, data_dir, seed, minimum, validation_data, test_data, columns: see `load_texts`.
        bundled: the dataset that is loaded where neither `data` nor `dataset` is given.
        prompt_column, reference_column: given together, or else `defaults`; a TFDS dataset that names its input and
            its target (`supervised_keys`) means these.
        defaults: names of the two columns.

    Returns:
        A `Corpus` whose splits have `references`.

    Raises:
        InputError: anything that cannot be read, or an empty reference.

    Example:
        >>> corpus = load_pairs(bundled="questions/arithmetic")
        >>> corpus.test.texts[0], corpus.test.references[0]
        ('How much is 13 without 4?', ['9'])
    """
    if (prompt_column is None) != (reference_column is None):
        raise InputError(f"--{defaults[0]}-column and --{defaults[1]}-column are given together or not at all.")
    names = (prompt_column, reference_column) if prompt_column else defaults
    options = f"--{defaults[0]}-column and --{defaults[1]}-column"
    columns = Columns(names[0], None, names[1], asked=prompt_column is not None, partner_needed=True, options=options, wanted=_wanted(columns))
    name, raw, _ = _read(data, validation_data, test_data, dataset, bundled, columns, data_dir)
    splits = {split: Split(rows.texts, references=[[text] for text in rows.partners], rows=rows.rows) for split, rows in raw.items()}
    return _corpus(name, splits, None, seed, minimum, {"validation": validation_data, "test": test_data})


def _wanted(columns):
    if isinstance(columns, Wanted):
        return columns
    require(isinstance(columns, (list, tuple)), f"columns is {shown(columns)}, expected a list of names. Use columns=['answer'].")
    return Wanted(tuple(columns))


def _columns(text, label, chosen, rejected):
    if (chosen is None) != (rejected is None):
        given, missing = ("chosen", "rejected") if rejected is None else ("rejected", "chosen")
        raise InputError(f"{given}_column is given without {missing}_column. Preference pairs need both.")
    if chosen is None:
        return Columns(text or "text", "label" if label is None else label or None, None, bool(text), bool(label))
    if text or label:
        raise InputError("preference pairs have no text_column or label_column. Leave them out, or leave out chosen_column.")
    return Columns(chosen, None, rejected, True, False)


def _read(data, validation_data, test_data, dataset, bundled, columns, data_dir, two_labels=True):
    """The name of a source, {split: `Raw`}, and the names of its classes or None."""
    for kind, path in {"data": data, "validation_data": validation_data, "test_data": test_data}.items():
        if path is not None and not isinstance(path, (str, os.PathLike)):
            raise InputError(f"{kind} is {shown(path)}, expected the path of a file. Write the texts into one: .txt (one text a line), .csv, .tsv or .jsonl.")
    if dataset is not None and not isinstance(dataset, str):
        raise InputError(f"dataset is {shown(dataset)}, expected the name of a TFDS dataset, such as 'imdb_reviews'. A file goes into data=.")
    if data is not None and dataset is not None:
        raise InputError(f"both a file ({data}) and a dataset ({dataset}) are given. Give one of them.")
    if data is None and (validation_data or test_data):
        raise InputError("--validation-data and --test-data go with --data, the file to train on.")
    if data is None:
        return dataset or bundled, *read_tfds(dataset or bundled, columns, data_dir, two_labels)
    paths = {"train": data, "validation": validation_data, "test": test_data}
    return os.fspath(data), read_files({split: path for split, path in paths.items() if path}, columns), None


def _corpus(name, splits, label_names, seed, minimum, files):
    """Clean, distinct texts in all three splits; `files`: {split: its own file, or None}."""
    check_seed(seed)
    check_count("minimum", minimum, least=0, example=64)
    splits = keep_distinct(name, splits)
    for split, path in files.items():
        if path and not splits[split].texts:
            raise InputError(f"{path} holds no text of its own for the {split} split. Give another file, or leave it out.")
        if path:  # often sorted by label; in one order for every seed, whose runs are compared on them
            splits[split] = take(splits[split], np.random.default_rng(0).permutation(len(splits[split].texts)))
    missing = [split for split in SPLITS[1:] if split not in splits or not splits[split].texts]
    splits |= carve(splits["train"], missing, seed, name)
    count = len(splits["train"].texts)
    if count < minimum:
        raise InputError(
            f"{name} gives {count} different training {splits['train'].kind}, but {minimum} are needed. Add texts, or lower minimum "
            "(on the command line: --batch-size and --supervised-batch-size)."
        )
    for split in SPLITS[1:]:
        check_classes(splits[split], None, f"the {split} split of {name}", "Add texts: a tenth of them goes there.")
    remedy = "Texts that are empty or repeat another one were left out: add texts with this label that stand under no other, or remove it."
    check_classes(splits["train"], label_names, f"the train split of {name}", remedy)
    return Corpus(name, *[splits[split] for split in SPLITS], label_names)
