"""What belongs to a text beside it (an answer, a level) stays with it, whatever the loader does with the rows."""

import json
import warnings

import pytest

from ppo_keras.datasets.loader import load_pairs, load_texts
from ppo_keras.datasets.sources import Wanted
from ppo_keras.datasets.subsets import halves
from ppo_keras.errors import DataWarning, InputError

SPLITS = ("train", "validation", "test")


def number_of(text):
    return int(text.split()[1])


def write(path, lines):
    """A .jsonl file of dicts."""
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return str(path)


def lines_of(numbers, **more):
    return [{"text": f"text {i}  is\ttold", "label": "yes" if i % 3 else "no", "answer": i, "note": f" kept \n as {i}"} | more for i in numbers]


def assert_rows_fit(corpus, columns=("answer", "note")):
    for name in SPLITS:
        split = getattr(corpus, name)
        assert len(split.rows) == len(split.texts) > 0
        for text, row in zip(split.texts, split.rows):
            assert row == {"answer": number_of(text), "note": f" kept \n as {number_of(text)}"} and tuple(row) == columns


@pytest.mark.parametrize("seed", [0, 5])
def test_rows_follow_their_texts(tmp_path, seed):
    """Catches: rows that are not shuffled, split or left out with their texts; values that are cleaned like texts."""
    lines = lines_of(range(60))
    odd = [{"text": "  ", "label": "yes", "answer": -1, "note": "empty"}, *lines_of([7], answer=-2, note="repeated"), *lines_of([9], label="yes")]
    odd += lines_of([9], label="no")  # a text under two labels, left out with every row of it
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        corpus = load_texts(write(tmp_path / "a.jsonl", [*odd[:1], *lines, *odd[1:]]), minimum=10, seed=seed, columns=["answer", "note"])
    assert_rows_fit(corpus)
    numbers = [row["answer"] for name in SPLITS for row in getattr(corpus, name).rows]
    assert sorted(numbers) == [i for i in range(60) if i != 9] and numbers != sorted(numbers)
    for half in halves(corpus.train, seed):
        assert [row["answer"] for row in half.rows] == list(map(number_of, half.texts))


def test_rows_of_files_of_their_own(tmp_path):
    """Catches: the rows of a file that is brought into another order left behind, those of train given to test."""
    paths = {name: write(tmp_path / f"{name}.jsonl", lines_of(numbers)) for name, numbers in zip(SPLITS, (range(30), range(30, 42), range(42, 54)))}
    given = dict(validation_data=paths["validation"], test_data=paths["test"])
    corpus = load_texts(paths["train"], **given, minimum=10, columns=["answer", "note"])
    assert_rows_fit(corpus)
    every, first = corpus.numbered_rows()
    assert first == {"train": 0, "validation": 30, "test": 42} and len(every) == 54
    assert [every[first["test"] + i]["answer"] for i in range(12)] == list(map(number_of, corpus.test.texts))
    write(tmp_path / "test.jsonl", [{"text": f"text {i}", "label": "yes"} for i in range(50, 60)])
    with pytest.raises(InputError, match="reward a:b reads the column 'answer', which .*test.jsonl does not have. It has: text, label."):
        load_texts(paths["train"], **given, minimum=10, columns=Wanted(("answer",), by="reward a:b"))
    optional = load_texts(paths["train"], **given | {"test_data": None}, minimum=10, columns=Wanted(optional=("answer", "level")))
    assert {tuple(row) for row in optional.train.rows} == {("answer",)}


def test_rows_of_pairs_and_prompts(tmp_path):
    """Catches: rows that do not go with preference pairs; of a prompt with two references, the row of the second."""
    pairs = [{"a": f"good {i}", "b": f"bad {i}", "answer": i} for i in range(60)]
    corpus = load_texts(write(tmp_path / "p.jsonl", pairs), chosen_column="a", rejected_column="b", minimum=10, columns=["answer"])
    for name in SPLITS:
        assert [row["answer"] for row in getattr(corpus, name).rows] == list(map(number_of, getattr(corpus, name).texts))
    asked = [{"question": f"what {i % 40}", "answer": f"{i}", "level": i} for i in range(80)]
    prompts = load_pairs(write(tmp_path / "q.jsonl", asked), minimum=10, columns=["level"])
    for name in SPLITS:
        split = getattr(prompts, name)
        assert [row["level"] for row in split.rows] == list(map(number_of, split.texts))
        assert split.references == [[f"{row['level']}", f"{row['level'] + 40}"] for row in split.rows]


def test_rows_of_the_bundled_sets(tmp_path):
    """Catches: a column of a set of TFDS that is not read, a class that is a number, rows in another order."""
    corpus = load_texts(language="zh", columns=Wanted(every=True), data_dir=tmp_path)
    assert all(row["text"] == text and row["label"] == corpus.label_names[label] for text, label, row in zip(*corpus.test[:2], corpus.test.rows))
    questions = load_texts(dataset="questions/arithmetic", text_column="question", label_column="", columns=["answer"], data_dir=tmp_path)
    paired = load_pairs(bundled="questions/arithmetic", data_dir=tmp_path)
    assert [[row["answer"]] for row in questions.test.rows] == paired.test.references and questions.test.texts == paired.test.texts
    with pytest.raises(InputError, match=r"^reward a:b reads the column 'anser', which film_reviews/en does not have. It has: text, label.$"):
        load_texts(columns=Wanted(("anser",), by="reward a:b"), data_dir=tmp_path)


def test_columns_of_tfds_that_hold_several_values(tmp_path, monkeypatch):
    """Catches: a traceback of TensorFlow about a batch; a list of answers found out after a download."""
    monkeypatch.setattr("ppo_keras.datasets.sources.prepare", lambda *_: pytest.fail("a download"))
    with pytest.raises(InputError, match="the column 'answers' of squad/v1.1 holds several values a row"):
        load_texts(dataset="squad/v1.1", text_column="question", columns=["answers"], data_dir=tmp_path)


def test_the_checksum_of_the_texts_stays_what_it_was(tmp_path):
    """Catches: runs of an earlier day that no longer open because their reward reads a column; a changed column that nothing tells."""
    path = write(tmp_path / "a.jsonl", lines_of(range(40)))
    plain, more = load_texts(path, minimum=10), load_texts(path, minimum=10, columns=["answer", "note"])
    assert plain.fingerprint == more.fingerprint and plain.column_fingerprints == [] and plain.train.rows is None
    assert [name for name, _ in more.column_fingerprints] == ["answer", "note"]
    write(tmp_path / "a.jsonl", lines_of(range(39)) + lines_of([39], answer=0))
    other = load_texts(path, minimum=10, columns=["answer", "note"])
    assert other.fingerprint == plain.fingerprint
    assert [one == two for one, two in zip(other.column_fingerprints, more.column_fingerprints)] == [False, True]
    every, first = plain.numbered_rows()
    assert every == [{}] * 40 and first["test"] == 36


def test_columns_of_another_kind():
    """Catches: a name that is taken for a list of letters."""
    with pytest.raises(InputError, match=r"columns is 'answer', expected a list of names"):
        load_texts(columns="answer")
