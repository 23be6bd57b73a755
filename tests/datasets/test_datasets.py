"""Tests of `ppo_keras.datasets`. The comment or the name of each test says which mistake it catches."""

import collections
import csv
import importlib.resources
import json
import re
import socket
import subprocess
import sys
import threading
import time
import types

import numpy as np
import pytest

from ppo_keras.datasets import prepared
from ppo_keras.datasets.labels import number_labels
from ppo_keras.datasets.loader import load_pairs, load_texts
from ppo_keras.datasets.sources import Raw
from ppo_keras.errors import DataWarning, InputError

SPLITS = ("train", "validation", "test")


def write(folder, name, content):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return path


def labelled_rows(count, separator):
    """`count` rows "text<separator>label", the labels alternating."""
    return "".join(f"text number {i}{separator}{i % 2}\n" for i in range(count))


def error_of(*args, **kwargs):
    """The message of the InputError that `load_texts` raises; it must be one line of a readable length."""
    with pytest.raises(InputError) as caught:
        load_texts(*args, **kwargs)
    message = str(caught.value)
    assert "\n" not in message and len(message) < 500, message
    return message


def all_texts(corpus):
    return [text for name in SPLITS for text in getattr(corpus, name).texts]


# The bundled film reviews.


@pytest.fixture(scope="module", params=["en", "zh"])
def reviews(request, tmp_path_factory):
    return request.param, load_texts(language=request.param, data_dir=tmp_path_factory.mktemp("tfds"))


def test_bundled_corpus_is_large_enough_and_balanced(reviews):
    language, corpus = reviews
    assert corpus.name == f"film_reviews/{language}" and corpus.label_names == ("negative", "positive")
    assert len(all_texts(corpus)) >= {"en": 1200, "zh": 300}[language]
    for name in SPLITS:
        split = getattr(corpus, name)
        assert split.labels.dtype == np.int32 and split.labels.sum() * 2 == len(split.labels) == len(split.texts)
        # Sorted by label, a minibatch of neighbours would hold one class only.
        assert 0.3 < np.mean(split.labels[1:] == split.labels[:-1]) < 0.7
    share = len(corpus.train.texts) / len(all_texts(corpus))
    assert 0.78 < share < 0.82


def test_bundled_labels_are_not_swapped(reviews):
    language, corpus = reviews
    word = {"en": "boring", "zh": "难受"}[language]
    labels = [y for name in SPLITS for x, y in zip(getattr(corpus, name).texts, getattr(corpus, name).labels) if word in x]
    assert len(labels) >= 3 and np.mean(labels) < 0.2


def test_bundled_corpus_has_no_duplicates_and_no_overlap(reviews):
    keys = [re.sub(r"[\W_]+", "", text.lower()) for text in all_texts(reviews[1])]
    assert len(set(keys)) == len(keys)


def test_bundled_splits_share_no_long_wording(reviews):
    # A near-duplicate in test measures what train has memorised.
    language, corpus = reviews
    owner = {}
    for name in SPLITS:
        for text in getattr(corpus, name).texts:
            words = re.findall(r"[\w']+", text.lower()) if language == "en" else re.sub(r"[\W_]+", "", text)
            length = {"en": 6, "zh": 9}[language]
            for i in range(len(words) - length + 1):
                assert owner.setdefault(tuple(words[i : i + length]), name) == name, text


def test_bundled_corpus_is_no_template_with_filled_slots(reviews):
    language, corpus = reviews
    texts = all_texts(corpus)
    openings = collections.Counter(tuple(text.lower().split()[:2]) if language == "en" else text[:2] for text in texts)
    assert openings.most_common(1)[0][1] < 0.06 * len(texts)


def test_builder_reads_every_row_of_its_file_once(reviews):
    language, corpus = reviews
    table = importlib.resources.files("ppo_keras.datasets") / "data" / f"film_reviews_{language}.tsv"
    header, *rows = table.read_text(encoding="utf-8").splitlines()
    assert header == "split\tlabel\ttext"
    loaded = {(name, str(y), x) for name in SPLITS for x, y in zip(getattr(corpus, name).texts, getattr(corpus, name).labels)}
    assert loaded == {tuple(row.split("\t")) for row in rows}


def test_home_and_data_dir_that_cannot_be_written(tmp_path, monkeypatch):
    blocked = write(tmp_path, "file", "") / "inside_a_file"  # unlike a read-only folder this stops root too
    monkeypatch.delenv("TFDS_DATA_DIR", raising=False)
    monkeypatch.setenv("HOME", str(blocked))
    monkeypatch.setattr(prepared.tempfile, "tempdir", str(tmp_path))
    assert len(load_texts(language="zh").train.texts) == 384
    monkeypatch.setenv("TFDS_DATA_DIR", str(blocked))
    assert len(load_texts(language="zh").train.texts) == 384
    assert "film_reviews/zh cannot be prepared in" in error_of(language="zh", data_dir=blocked)


def test_tfds_data_dir_is_used(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "mine"))
    load_texts(language="zh")
    assert (tmp_path / "mine" / "film_reviews" / "zh" / "1.0.0").is_dir()


def test_another_process_prepared_it_first(tmp_path, monkeypatch):
    load_texts(language="zh", data_dir=tmp_path)
    builder = prepared.find_builder("film_reviews/zh", tmp_path)
    monkeypatch.setattr(type(builder), "download_and_prepare", lambda self: (_ for _ in ()).throw(FileExistsError("there")))
    prepared.prepare(builder, "film_reviews/zh")
    assert builder.info.splits["train"].num_examples == 384


def test_nothing_is_printed(tmp_path, capfd):
    # Progress bars and log lines of TFDS would bury the one line that matters.
    load_texts(language="zh", data_dir=tmp_path)
    assert capfd.readouterr().out == ""


def test_import_is_fast_without_tfds():
    code = "import sys, ppo_keras.datasets.loader; sys.exit('tensorflow_datasets' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# Files: what is read.


@pytest.mark.parametrize("extension, separator", [("csv", ","), ("tsv", "\t"), ("CSV", ",")])
def test_labelled_table(tmp_path, extension, separator):
    path = write(tmp_path, f"reviews.{extension}", f"text{separator}label\n" + labelled_rows(200, separator))
    corpus = load_texts(path)
    assert [len(getattr(corpus, name).texts) for name in SPLITS] == [160, 20, 20]
    assert sorted(all_texts(corpus)) == sorted(f"text number {i}" for i in range(200))
    for name in SPLITS:
        split = getattr(corpus, name)
        assert split.labels.sum() * 2 == len(split.labels)  # each class alike
        # A label that leaves its text in the shuffle would be caught here.
        assert [int(text.split()[-1]) % 2 for text in split.texts] == split.labels.tolist()
        assert split.rejected is None
    assert corpus.label_names == ("negative", "positive")


def test_split_is_stratified_for_a_rare_class(tmp_path):
    rows = "".join(f"text number {i},{int(i % 20 == 0)}\n" for i in range(400))
    corpus = load_texts(write(tmp_path, "a.csv", "text,label\n" + rows))
    assert [int(getattr(corpus, name).labels.sum()) for name in SPLITS] == [16, 2, 2]


def test_seed_fixes_the_split_and_another_seed_changes_it(tmp_path):
    path = write(tmp_path, "a.csv", "text,label\n" + labelled_rows(200, ","))
    first, again, other = (load_texts(path, seed=seed) for seed in (1, 1, 2))
    assert first.train.texts == again.train.texts and first.test.texts == again.test.texts
    assert set(first.test.texts) != set(other.test.texts)
    assert first.train.texts != sorted(first.train.texts)


def test_txt_skips_empty_lines_and_repeated_texts(tmp_path):
    content = "\ufeff\r\n" + "".join(f"line   {i}\r\n\r\n" for i in range(100)) + "line 7\u3000\r\n"
    corpus = load_texts(write(tmp_path, "a.txt", content))
    assert sorted(all_texts(corpus)) == sorted(f"line {i}" for i in range(100))
    assert corpus.train.labels is None and corpus.label_names is None


def test_txt_keeps_unicode_line_separators_inside_a_text(tmp_path):
    # str.splitlines would make two texts of this one.
    content = "".join(f"one\u2028two\x0bthree {i}\n" for i in range(100))
    assert sorted(all_texts(load_texts(write(tmp_path, "a.txt", content))))[0] == "one two three 0"


def test_csv_quoting_and_tsv_without(tmp_path):
    rows = "".join(f'"a ""fine"" film,\nno {i}",{i % 2}\n' for i in range(100))
    assert 'a "fine" film, no 5' in all_texts(load_texts(write(tmp_path, "a.csv", "text,label\n" + rows)))
    rows = "".join(f'"open quote {i}\t{i % 2}\n' for i in range(100))
    assert '"open quote 5' in all_texts(load_texts(write(tmp_path, "a.tsv", "text\tlabel\n" + rows)))


def test_jsonl_with_booleans_and_named_columns(tmp_path):
    rows = "".join(json.dumps({"body": f"电影 {i}", "liked": i % 2 == 0}) + "\n" for i in range(100))
    corpus = load_texts(write(tmp_path, "a.jsonl", rows), text_column="body", label_column="liked")
    assert "电影 5" in all_texts(corpus)
    assert [int(text.split()[1]) % 2 == 0 for text in corpus.test.texts] == corpus.test.labels.astype(bool).tolist()


def test_table_without_labels_and_labels_left_out(tmp_path):
    path = write(tmp_path, "a.csv", "text,stars\n" + "".join(f"text {i},{i % 5}\n" for i in range(100)))
    corpus = load_texts(path)  # a user's reward function needs no labels
    assert corpus.train.labels is None and len(corpus.train.texts) == 80
    path = write(tmp_path, "b.csv", "text,label\n" + "".join(f"text {i},{i % 5}\n" for i in range(100)))
    assert load_texts(path, label_column="").train.labels is None


def test_preference_pairs_stay_together(tmp_path):
    rows = "".join(f"good {i},bad {i}\n" for i in range(100)) + "same,same\nalone,\n,alone\n"
    path = write(tmp_path, "a.csv", "better,worse\n" + rows)
    corpus = load_texts(path, chosen_column="better", rejected_column="worse")
    assert len(all_texts(corpus)) == 100
    for name in SPLITS:
        split = getattr(corpus, name)
        assert split.labels is None and [x.replace("good", "bad") for x in split.texts] == split.rejected


@pytest.mark.parametrize(
    "values, expected, names",
    [
        (["1", "0", " 1 "], [1, 0, 1], ("negative", "positive")),
        (["1.0", "0.0"], [1, 0], ("negative", "positive")),
        (["Pos", "NEG", "pos"], [1, 0, 1], ("negative", "positive")),
        (["good", "bad"], [1, 0], ("negative", "positive")),
        (["no", "Yes"], [0, 1], ("negative", "positive")),
        (["spam", "ham"], [1, 0], ("ham", "spam")),
        (["Spam", "spam", "ham"], [1, 1, 0], ("ham", "Spam")),
        (["10", "9"], [1, 0], ("9", "10")),  # as words, "10" would come before "9"
        (["2", "1"], [1, 0], ("1", "2")),
        (["-1", "1"], [0, 1], ("-1", "1")),
        (["good", "poor"], [1, 0], ("poor", "good")),  # by the alphabet alone, "good" would be the negative class
    ],
)
def test_labels(values, expected, names):
    splits, found = number_labels({"train": Raw(values, values)}, "a.csv", "label")
    labels = splits["train"].labels
    assert labels.dtype == np.int32 and labels.tolist() == expected and found == names


# Files: what is wrong with them.


def test_both_sources_or_an_unknown_language(tmp_path):
    assert "Give one of them" in error_of(tmp_path / "a.txt", "imdb_reviews")
    assert "Use 'en' or 'zh'" in error_of(language="fr")


def test_missing_file_names_the_nearest(tmp_path):
    write(tmp_path, "reviews.csv", "x")
    assert "Did you mean 'reviews.csv'?" in error_of(tmp_path / "review.csv")
    assert "Look into" in error_of(tmp_path / "zzz.csv")
    assert "no folder" in error_of(tmp_path / "nowhere" / "a.csv")
    assert "is a folder" in error_of(tmp_path)


@pytest.mark.parametrize(
    "name, content, expected",
    [
        ("a.docx", "x", "'.docx'"),
        ("a", "x", "no extension"),
        ("a.txt", "", "a.txt is empty"),
        ("a.csv", "\n \n\n", "only empty lines"),
        ("a.csv", "text,label\n", "no rows below"),
        ("a.csv", "text,label\n\n\n", "no rows below"),
        ("a.txt", "fine\nnaïve".encode("latin-1"), "byte 0xef in line 2 (byte 8 of the file)"),
        ("a.txt", b"\xef\xbb\xbfok\n\xff", "byte 0xff in line 2 (byte 7 of the file)"),
        ("a.txt", "fine".encode("utf-16"), "iconv -f UTF-16"),
        ("a.csv", "text,label\nfine\n", "line 2: 1 fields, but the header names 2"),
        ("a.csv", "text,label\nfine,1\nfine, really,1\n", "line 3: 3 fields"),
        ("a.csv", 'text,label\nfine,1\n"never closed,1\n', "Check the double quotes"),
        ("a.tsv", "text\tlabel\n\nfine\n", "line 3: 1 fields"),
        ("a.jsonl", '{"text": "a"}\n{"text": "b"\n', "line 2: not JSON"),
        ("a.jsonl", '{"text": "a"}\n\n["b"]\n', "line 3: a JSON list"),
        ("a.jsonl", '{"text": "a"}\n{"txt": "b"}\n', "line 2: 'text' is None"),
        ("a.jsonl", '{"text": 5}\n', "line 1: 'text' is 5"),
        ("a.jsonl", '{"text": "a", "label": 1}\n{"text": "b"}\n', "line 2: 'label' is empty"),
        ("a.csv", "text,label\nfine,1\ndull,\n", "line 3: 'label' is empty"),
        ("a.csv", "text,label\nfine,1\ngreat,1\n", "every label in"),
        ("a.csv", "text,label\na,1\nb,2\nc,3\n", "has 3 different labels (1, 2, 3), but there must be two"),
        ("a.csv", "txt,label\nfine,1\n", "no column 'text'. It has: txt, label. Did you mean 'txt'?"),
        ("a.csv", "A fine film,1\nA dull film,0\n", "It has: A fine film, 1. Name the right one with --text-column"),  # no header
        ("a.txt", "one\ntwo\nthree\n", "1 different training texts, but 64 are needed"),
        ("a.txt", "same\n" * 1000, "gives 1 different training texts"),  # repeated texts do not count
        # values that are taken for what they are not
        ("a.jsonl", '{"text": "a", "label": 1}\n{"text": "b", "label": NaN}\n', "line 2: 'label' is nan, which is no label"),
        ("a.jsonl", '{"text": "a", "label": 1}\n{"text": "b", "label": -Infinity}\n', "line 2: 'label' is -inf, which is no label"),
        ("a.jsonl", '{"text": "a", "label": [1]}\n', "line 1: 'label' is [1], a list and no label"),
        ("a.jsonl", '{"text": "a", "label": {"x": 1}}\n', "line 1: 'label' is {'x': 1}, a dict and no label"),
        ("a.jsonl", '{"text": "a", "label": null}\n', "line 1: 'label' is empty"),
        ("a.jsonl", '{"text": "a", "text": "b", "label": 1}\n', "line 1: the name 'text' comes twice"),
        ("a.jsonl", '{"text": "a", "label": ' + "1" * 5000 + "}\n", "line 1: Exceeds the limit"),
        ("a.jsonl", '{"text": ' + "[" * 100_000 + "}\n", "line 1: maximum recursion depth"),
        ("a.csv", "text,label\na,1\nb,NaN\n", "line 3: 'label' is NaN, which is no label"),
        ("a.csv", "text,label\na,1\nb,null\n", "line 3: 'label' is null, which is no label"),
        *[
            (f"a.{kind}", f"text{mark}label\na{mark}1\nb{mark}{label}\n", f"line 3: 'label' is {label}, which is no label")
            for kind, mark, labels in (("csv", ",", ("inf", "-Inf", "+INF")), ("tsv", "\t", ("-inf", "-NaN", "+nan")))
            for label in labels
        ],
        ("a.csv", "text,label,text\na,1,b\n", "the header names 'text' 2 times"),
        ("a.tsv", "text\tlabel\tlabel \na\t1\t0\n", "the header names 'label' 2 times"),
        ("a.csv", "text,label\na,1\n\ufefftext,label\nb,0\n", "line 3: the header once more"),
        ("a.csv", "text,label\nfine,1\n".encode("utf-16-le"), "iconv -f UTF-16LE"),
        ("a.csv", "text,label\nfine,1\n".encode("utf-16-be"), "iconv -f UTF-16BE"),
        ("a.tsv", "text\tlabel\nfine\t1\n\0\t0\n", "a NUL byte in line 3 (byte 19 of the file). Write it as plain text"),
        ("a.txt", b"one\rtwo\r\xff", "byte 0xff in line 3"),
        ("a.csv", b"PK\x03\x04\0\0", "is a zip archive or an Excel workbook"),
        ("a.csv", b"\x1f\x8b\0\0", "is a gzip archive"),
        ("a.tsv", "text,label\nfine,1\n", "separated by commas: name the file "),
        ("a.csv", "text\tlabel\nfine\t1\n", "separated by tabs: name the file "),
        ("a.csv", "text;label\nfine;1\n", "separated by semicolons: save it with commas"),
    ],
)
def test_bad_file(tmp_path, name, content, expected):
    assert expected in error_of(write(tmp_path, name, content))


@pytest.mark.parametrize(
    "values, names",
    [
        ("2 2.0 3", ("2", "3")),
        ("2 true 1", ("1", "2")),  # beside numbers, true is 1
        ('true "maybe" false', ("false", "maybe", "true")),
        ('7 "7" 7.0', None),
        ("0 1.5 1", ("0", "1", "1.5")),
        ("12345678901234567890123 12345678901234567890124 1", ("1", "12345678901234567890123", "12345678901234567890124")),
    ],
)
def test_one_label_however_it_is_written(tmp_path, values, names):
    """Catches: 1, 1.0 and true as several labels; labels that are rounded to one."""
    rows = "".join(f'{{"text": "text {i}", "label": {values.split()[i % 3]}}}\n' for i in range(90))
    path = write(tmp_path, "a.jsonl", rows)
    if names is None:
        assert "every label in" in error_of(path, two_labels=False)
    else:
        assert load_texts(path, two_labels=False).label_names == names


def test_infinity_may_be_the_name_of_a_class(tmp_path):
    """Catches: a class refused because Python reads its name as a number."""
    path = write(tmp_path, "a.csv", "text,label\n" + "".join(f"text {i},{('Infinity', 'Zero')[i % 2]}\n" for i in range(100)))
    assert set(load_texts(path, two_labels=False).label_names) == {"Infinity", "Zero"}


def test_a_label_that_may_stand_for_none_is_told(tmp_path):
    """Catches: "None", written where there was no label, trained on without a word."""
    path = write(tmp_path, "a.csv", "text,label\n" + "".join(f"text {i},{('None', 'mild')[i % 2]}\n" for i in range(100)))
    with pytest.warns(DataWarning, match=r"^50 rows of .*a.csv \(of 100 in all\) have the label 'None', which is taken for a name"):
        assert load_texts(path).label_names == ("mild", "None")


def test_a_text_may_be_longer_than_csv_allows(tmp_path):
    """Catches: a field beyond csv's limit that is blamed on quotes; a limit that stays changed for other readers of CSV."""
    before = csv.field_size_limit()
    path = write(tmp_path, "a.csv", "text,label\n" + labelled_rows(100, ",") + "x" * 200_000 + ",1\n")
    assert max(map(len, all_texts(load_texts(path)))) == 200_000
    write(tmp_path, "b.csv", 'text,label\nfine,1\n"' + "x" * 200_000 + "\n")
    assert "Check the double quotes" in error_of(tmp_path / "b.csv")
    assert csv.field_size_limit() == before


def test_columns_without_a_name_are_left_alone(tmp_path):
    """Catches: the index that pandas writes, or a comma at the end of each line, refused as a name that comes twice."""
    rows = "".join(f"{i},text {i},{i % 2},\n" for i in range(100))
    path = write(tmp_path, "a.csv", ",text,label,\n" + rows)
    assert len(load_texts(path).train.texts) == 80
    assert "It has: text, label." in error_of(path, text_column="review")


def test_marks_and_line_ends_of_other_systems(tmp_path):
    """Catches: a byte order mark where files were put together, or lines that end in CR alone, taken for text."""
    path = write(tmp_path, "a.csv", "text,label\r" + "".join(f"\ufefftext {i},\ufeff{i % 2}\r" for i in range(100)))
    corpus = load_texts(path)
    assert sorted(all_texts(corpus)) == sorted(f"text {i}" for i in range(100)) and corpus.label_names == ("negative", "positive")


def test_misspelt_columns_and_half_pairs(tmp_path):
    path = write(tmp_path, "a.csv", "text,label\n" + labelled_rows(100, ","))
    # Only a label column that was left at its default may be absent.
    assert "no column 'lable'. It has: text, label. Did you mean 'label'?" in error_of(path, label_column="lable")
    assert "no column 'texts'" in error_of(path, text_column="texts")
    assert "without rejected_column" in error_of(path, chosen_column="text")
    assert "without chosen_column" in error_of(path, rejected_column="text")
    assert "no column 'worse'" in error_of(path, chosen_column="text", rejected_column="worse")
    assert "have no text_column" in error_of(path, chosen_column="text", rejected_column="label", label_column="label")
    assert "no column 'label'" in error_of(write(tmp_path, "a.txt", "x\n" * 9), label_column="label")


def test_minimum_can_be_lowered(tmp_path):
    assert len(load_texts(write(tmp_path, "a.txt", "a\nb\nc\nd\n"), minimum=2).train.texts) == 2


# TFDS.


@pytest.fixture
def mocked(monkeypatch):
    """`mocked(examples)`: within it TFDS answers with these: {split: [example, ...]}, whatever the name."""
    import tensorflow as tf
    import tensorflow_datasets as tfds

    contexts = []

    def start(examples):
        def as_dataset(self, split, **options):
            dtypes = {key: tf.string if isinstance(value, str) else tf.int64 for key, value in examples[split][0].items()}
            spec = {key: tf.TensorSpec((), dtype) for key, dtype in dtypes.items()}
            return tf.data.Dataset.from_generator(lambda: iter(examples[split]), output_signature=spec)

        # mock_data knows no splits; the sizes in bytes only decide whether TFDS caches.
        splits = {name: types.SimpleNamespace(num_bytes=0) for name in examples}
        monkeypatch.setattr(tfds.core.DatasetInfo, "splits", property(lambda self: splits))
        contexts.append(tfds.testing.mock_data(as_dataset_fn=as_dataset))
        contexts[-1].__enter__()

    yield start
    for context in contexts:
        context.__exit__(None, None, None)


def reviews_of(prefix, count, key="text"):
    return [{key: f"{prefix} {i}", "label": i % 2} for i in range(count)]


def test_tfds_validation_is_carved_out_of_train(mocked, tmp_path):
    unlabelled = [{"text": f"free {i}", "label": -1} for i in range(10)]
    mocked({"train": reviews_of("train", 100), "test": reviews_of("test", 40), "unsupervised": unlabelled})
    corpus = load_texts(dataset="imdb_reviews", data_dir=tmp_path)
    assert [len(getattr(corpus, name).texts) for name in SPLITS] == [90, 10, 40]
    assert corpus.name == "imdb_reviews" and corpus.label_names == ("neg", "pos")
    assert all(text.startswith("train") for text in corpus.validation.texts) and corpus.validation.labels.sum() == 5
    assert corpus.test.labels.tolist() == [0, 1] * 20
    assert len(set(all_texts(corpus))) == 140


def test_tfds_unlabelled_test_and_another_text_column(mocked, tmp_path):
    # The test labels of glue are -1: as they stand, every accuracy on them would be 0.
    test = [{"sentence": f"test {i}", "label": -1, "idx": i} for i in range(40)]
    train, validation = reviews_of("train", 100, "sentence"), reviews_of("validation", 20, "sentence")
    mocked({"train": train, "validation": validation, "test": test})
    corpus = load_texts(dataset="glue/sst2", data_dir=tmp_path)
    assert [len(getattr(corpus, name).texts) for name in SPLITS] == [90, 20, 10]
    assert set(corpus.test.labels.tolist()) == {0, 1} and corpus.label_names == ("negative", "positive")


def test_tfds_texts_in_two_splits_are_dropped_from_train(mocked, tmp_path):
    mocked({"train": reviews_of("a", 100), "test": reviews_of("a", 20), "validation": reviews_of("b", 20)})
    with pytest.warns(DataWarning, match="20 texts of the train split of imdb_reviews are in a split held out"):
        corpus = load_texts(dataset="imdb_reviews", data_dir=tmp_path)
    assert [len(getattr(corpus, name).texts) for name in SPLITS] == [80, 20, 20]


def test_tfds_mistakes_are_found_before_a_download(tmp_path, monkeypatch):
    monkeypatch.setattr("ppo_keras.datasets.sources.prepare", lambda *_: pytest.fail("downloaded first"))
    assert "Did you mean 'imdb_reviews'?" in error_of(dataset="imdb_revews", data_dir=tmp_path)
    assert "no configuration 'sst22'. Did you mean 'sst2'?" in error_of(dataset="glue/sst22", data_dir=tmp_path)
    assert "4 different labels" in error_of(dataset="ag_news_subset", data_dir=tmp_path)  # its input is "description"
    assert "It has: label, title, description" in error_of(dataset="ag_news_subset", text_column="titel", data_dir=tmp_path)
    assert "4 different labels" in error_of(dataset="ag_news_subset", text_column="title", data_dir=tmp_path)
    assert "no column 'lable'" in error_of(dataset="imdb_reviews", label_column="lable", data_dir=tmp_path)
    assert "'label' of imdb_reviews holds no text" in error_of(dataset="imdb_reviews", text_column="label", data_dir=tmp_path)
    assert "image, label" in error_of(dataset="mnist", data_dir=tmp_path)


def assert_offline_message(tmp_path):
    from tensorflow_datasets.core.download import downloader

    before = downloader.MAX_RETRIES, downloader._open_url
    start = time.monotonic()
    message = error_of(dataset="imdb_reviews", data_dir=tmp_path)
    assert time.monotonic() - start < 10  # TFDS alone retries for 204 s
    assert "cannot be downloaded" in message and "tfds.load('imdb_reviews')" in message
    assert "TFDS_DATA_DIR" in message and "--data" in message
    assert (downloader.MAX_RETRIES, downloader._open_url) == before


def test_offline_no_route(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr(socket, "create_connection", refuse)
    assert_offline_message(tmp_path)


def test_offline_without_an_answer(tmp_path, monkeypatch):
    # A firewall that drops packets: neither an answer nor a refusal.
    released = threading.Event()

    def hang(*args, **kwargs):
        released.wait(12)
        raise OSError("timed out")

    monkeypatch.setattr(prepared, "CONNECT_SECONDS", 0.2)
    monkeypatch.setattr(socket, "create_connection", hang)
    assert_offline_message(tmp_path)
    released.set()


def test_connection_lost_in_the_download(tmp_path, monkeypatch):
    import requests
    from tensorflow_datasets.core.download import downloader

    def lose(*args, **kwargs):
        assert downloader.MAX_RETRIES == 2
        raise requests.exceptions.ConnectionError("lost")

    monkeypatch.setattr(prepared, "check_reachable", lambda url: None)
    monkeypatch.setattr(downloader, "_open_with_requests", lose)
    assert_offline_message(tmp_path)


# Splits in files of their own, more than two labels, prompts with references.


def test_splits_in_files_of_their_own(tmp_path):
    """Catches: a test file that is mixed into training, a validation split that is carved out of it."""
    files = {
        split: write(tmp_path, f"{split}.tsv", "text\tlabel\n" + labelled_rows(count, "\t").replace("text", split))
        for split, count in (("train", 100), ("validation", 20), ("test", 30))
    }
    corpus = load_texts(files["train"], validation_data=files["validation"], test_data=files["test"])
    assert [len(getattr(corpus, split).texts) for split in SPLITS] == [100, 20, 30]
    assert all(text.startswith(split) for split in SPLITS for text in getattr(corpus, split).texts)
    assert all(label == int(text.split()[-1]) % 2 for text, label in zip(corpus.test.texts, corpus.test.labels))
    carved = load_texts(files["train"], test_data=files["test"])
    assert [len(getattr(carved, split).texts) for split in SPLITS] == [90, 10, 30]
    assert "go with --data" in error_of(test_data=files["test"])


def test_a_test_file_that_overlaps_is_told_with_the_count(tmp_path):
    """Catches: leakage that nobody hears of, or that costs test texts instead of training texts."""
    train = write(tmp_path, "train.tsv", "text\tlabel\n" + labelled_rows(100, "\t"))
    test = write(tmp_path, "test.tsv", "text\tlabel\n" + labelled_rows(12, "\t") + "new\t1\n")
    with pytest.warns(DataWarning, match="^12 texts of the train split of .*; they are left out of train.$"):
        corpus = load_texts(train, test_data=test, validation_data=write(tmp_path, "v.tsv", "text\tlabel\nother\t0\n"))
    assert len(corpus.test.texts) == 13 and len(corpus.train.texts) == 88


def test_held_out_files_that_give_nothing(tmp_path):
    """Catches: an empty test split that is quietly carved out of train, labels of train lost because a test file has none."""
    train = write(tmp_path, "train.tsv", "text\tlabel\n" + labelled_rows(100, "\t"))
    same, plain = write(tmp_path, "v.tsv", "text\tlabel\nother\t0\n"), write(tmp_path, "t.tsv", "text\nnew\n")
    with pytest.warns(DataWarning, match="1 texts of the validation split"):
        assert "v.tsv holds no text of its own for the validation split" in error_of(train, validation_data=same, test_data=same)
    assert "the test split of" in error_of(train, test_data=plain) and "no column 'label'" in error_of(train, test_data=plain)


def test_a_label_that_training_never_shows(tmp_path):
    """Catches: an unknown label that becomes 0, or a crash in the middle of the test."""
    train = write(tmp_path, "train.tsv", "text\tlabel\n" + "".join(f"text {i}\t{'abc'[i % 3]}\n" for i in range(90)))
    test = write(tmp_path, "test.tsv", "text\tlabel\none\ta\ntwo\td\nthree\td\n")
    with pytest.raises(
        InputError,
        match=r"the test split of .* has the label 'd' \(2 texts\), which no training text has. Correct it, or remove these lines. Labels in training: a, b, c.",
    ):
        load_texts(train, test_data=test, two_labels=False)


def test_more_than_two_labels(tmp_path):
    """Catches: classes in the order of the file, numbers sorted as words."""
    rows = "".join(f"text {i}\t{('sport', 'Politics', 'art')[i % 3]}\n" for i in range(120))
    corpus = load_texts(write(tmp_path, "a.tsv", "text\tlabel\n" + rows), two_labels=False)
    assert corpus.label_names == ("art", "Politics", "sport")
    for text, label in zip(corpus.train.texts, corpus.train.labels):
        assert label == (2, 1, 0)[int(text.split()[1]) % 3]
    stars = "".join(f"text {i}\t{i % 11}\n" for i in range(220))
    assert load_texts(write(tmp_path, "b.tsv", "text\tlabel\n" + stars), two_labels=False).label_names == tuple(map(str, range(11)))
    assert "3 different labels" in error_of(tmp_path / "a.tsv")


def test_tfds_classes_keep_their_order(mocked, tmp_path):
    """Catches: classes of a TFDS dataset sorted by the alphabet, so that 0 is another class than TFDS says."""
    news = [{"title": f"news {i}", "description": "", "label": i % 4} for i in range(200)]
    mocked({"train": news[:160], "test": news[160:]})
    corpus = load_texts(dataset="ag_news_subset", text_column="title", data_dir=tmp_path, two_labels=False)
    assert corpus.label_names == ("World", "Sports", "Business", "Sci/Tech")
    assert corpus.test.labels.tolist() == [int(text.split()[1]) % 4 for text in corpus.test.texts]


def test_a_prompt_with_several_references_is_one_prompt(tmp_path):
    """Catches: the second translation of a sentence counted as another sentence, which could then be in another split."""
    rows = "".join(f"{i % 50} is\t{i} translated\n" for i in range(100))
    corpus = load_pairs(write(tmp_path, "a.tsv", "source\ttarget\n" + rows), defaults=("source", "target"), minimum=10)
    assert [len(getattr(corpus, split).texts) for split in SPLITS] == [40, 5, 5]
    for split in SPLITS:
        for prompt, references in zip(getattr(corpus, split).texts, getattr(corpus, split).references):
            number = int(prompt.split()[0])
            assert references == [f"{number} translated", f"{number + 50} translated"]


@pytest.mark.parametrize("name, keys, columns", [
    ("gsm8k", ("question", "answer"), {}),
    ("gsm8k", ("question", "short_answer"), dict(prompt_column="question", reference_column="short_answer")),
    ("ted_hrlr_translate/pt_to_en", ("pt", "en"), dict(defaults=("source", "target"))),
])  # fmt: skip
def test_tfds_pairs(mocked, tmp_path, name, keys, columns):
    """Catches: the languages of a translation dataset not found, or the wrong way round."""
    others = [key for key in ("question", "answer", "annotation", "short_answer") if name == "gsm8k" and key not in keys]
    rows = [{keys[0]: f"ask {i}", keys[1]: f"say {i}"} | dict.fromkeys(others, "x") for i in range(120)]
    mocked({"train": rows[:100], "test": rows[100:]})
    corpus = load_pairs(dataset=name, data_dir=tmp_path, **columns)
    assert [len(getattr(corpus, split).texts) for split in SPLITS] == [90, 10, 20]
    assert corpus.test.references[0] == [corpus.test.texts[0].replace("ask", "say")]


def test_pairs_that_cannot_be_used(mocked, tmp_path):
    """Catches: an empty answer that is learned, one column of a pair given alone, a misspelt one."""
    path = write(tmp_path, "a.csv", "question,answer\nOne?,1\nTwo?, \n")
    with pytest.raises(InputError, match="a.csv, line 3: 'answer' is empty"):
        load_pairs(path)
    with pytest.raises(InputError, match="--question-column and --answer-column are given together"):
        load_pairs(path, prompt_column="question")
    with pytest.raises(InputError, match="no column 'answr'. It has: question, answer. Did you mean 'answer'"):
        load_pairs(path, prompt_column="question", reference_column="answr")
    with pytest.raises(InputError, match="Name the right one with --source-column and --target-column"):
        load_pairs(path, defaults=("source", "target"))
    mocked({"train": [{"question": f"{i}", "answer": "", "annotation": "", "short_answer": ""} for i in range(9)]})
    with pytest.raises(InputError, match="9 texts in the column 'answer' of gsm8k are empty"):
        load_pairs(dataset="gsm8k", data_dir=tmp_path)


@pytest.mark.parametrize(
    "settings, said",
    [
        (dict(data=["a film"]), r"data is \['a film'\], expected the path of a file. Write the texts into one"),
        (dict(data=3), "data is 3, expected the path"),
        (dict(data="x.txt", test_data=["a"]), r"test_data is \['a'\], expected the path"),
        (dict(dataset=3), "dataset is 3, expected the name of a TFDS dataset"),
        (dict(seed=-1), "seed=-1 is outside"),
        (dict(seed="1"), "seed='1' is outside"),
        (dict(minimum=None), "minimum=None is no whole number"),
    ],
)
@pytest.mark.parametrize("load", [load_texts, load_pairs])
def test_arguments_of_another_kind(load, settings, said):
    """Catches: `expected str, bytes or os.PathLike object, not list`; NumPy's error about entropy for a seed."""
    with pytest.raises(InputError, match=said):
        load(**settings)
