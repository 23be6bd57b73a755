"""`ppo_keras.datasets.distinct` and `pairs`: which rows stay, and what is said of the others."""

import warnings

import numpy as np
import pytest

from ppo_keras.datasets.distinct import keep_distinct
from ppo_keras.datasets.loader import SPLITS, Split, load_pairs, load_texts
from ppo_keras.datasets.pairs import carve_pairs, groups_of
from ppo_keras.errors import DataWarning, InputError


def loaded(load, *arguments, **options):
    """A corpus, and what was said of it."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        corpus = load(*arguments, **options)
    return corpus, [str(one.message) for one in caught if one.category is DataWarning]


def write(path, header, rows):
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


def sides(split):
    """Every text of a split, chosen or rejected."""
    return {*split.texts, *(split.rejected or ())}


def assert_apart(corpus):
    """No text is in two splits."""
    for one, other in (("train", "validation"), ("train", "test"), ("validation", "test")):
        assert not sides(getattr(corpus, one)) & sides(getattr(corpus, other))


def test_pairs_are_distinct_as_pairs(tmp_path):
    """Catches: 200 preference pairs that become 20, because ten rejected texts share a chosen one; a text on both sides of a split."""
    path = write(tmp_path / "a.tsv", "better\tworse", [f"good {i // 10}\tbad {i}" for i in range(200)])
    corpus, said = loaded(load_texts, path, chosen_column="better", rejected_column="worse")
    assert [len(getattr(corpus, split).texts) for split in SPLITS] == [160, 20, 20] and not said
    assert_apart(corpus)


def test_pairs_that_all_hang_together(tmp_path):
    """Catches: held-out pairs whose texts were trained on where every text is compared with every other; links that go without a word."""
    path = write(tmp_path / "a.tsv", "better\tworse", [f"good {i // 10}\tbad {i % 10}" for i in range(200)])
    corpus, said = loaded(load_texts, path, chosen_column="better", rejected_column="worse")
    assert_apart(corpus)
    sizes = [len(getattr(corpus, split).texts) for split in SPLITS]
    lost = [int(one.split()[0]) for one in said]
    assert sizes[0] >= 120 and min(sizes) >= 1 and sum(sizes) + sum(lost) == 200 and len(said) == 2
    assert f"{lost[0]} pairs of {path} share a text with a split held out (of 200 in all); they are left out (validation)." == said[0]


def test_a_text_that_is_in_every_pair_cannot_be_held_out(tmp_path):
    """Catches: an empty test split, or a crash, where one text is in all pairs."""
    path = write(tmp_path / "a.tsv", "better\tworse", [f"the best\tbad {i}" for i in range(200)])
    with pytest.raises(InputError, match="share so many texts that no validation split can be taken out. Give --validation-data and --test-data."):
        load_texts(path, chosen_column="better", rejected_column="worse")


def test_groups_of_pairs():
    """Catches: a chain of shared texts that is cut, groups that a text on the other side does not link."""
    assert groups_of([("a", "b"), ("c", "d"), ("e", "b"), ("d", "x"), ("f", "g"), ("x", "e")]) == [0, 0, 0, 0, 1, 0]
    assert groups_of([("a", "b"), ("c", "d"), ("b", "e")]) == [0, 1, 0]


@pytest.mark.parametrize("seed", range(5))
def test_carved_pairs_against_brute_force(seed):
    """Catches: a row in two splits, one that vanishes uncounted, a text in two splits, more lost than was allowed."""
    random = np.random.default_rng(seed)
    texts = int(random.integers(30, 300))
    pairs = [(f"{a}", f"{b}") for a, b in random.integers(0, texts, [200, 2]) if a != b]
    order = random.permutation(len(pairs)).tolist()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        rows = carve_pairs(pairs, ["validation", "test"], order, "x")
    used = [row for part in rows.values() for row in part]
    assert len(set(used)) == len(used) and len(used) + sum(int(str(one.message).split()[0]) for one in caught) == len(pairs)
    parts = [{text for row in part for text in pairs[row]} for part in rows.values()]
    assert not parts[0] & parts[1] and not parts[0] & parts[2] and not parts[1] & parts[2]
    assert all(1 <= len(rows[name]) <= len(pairs) // 10 for name in ("validation", "test"))
    assert len(pairs) - len(used) <= 2 * (2 * (len(pairs) // 10))


def test_every_row_left_out_is_counted_with_its_reason(tmp_path):
    """Catches: rows that vanish without a word, a reason that swallows another's, numbers of another split."""
    rows = [f"text {i}\t{i % 2}" for i in range(100)] + ["text 3\t1", "text 3\t1", "\t1", "text 5\t0", "text 5\t0"]
    path = write(tmp_path / "a.tsv", "text\tlabel", rows)
    corpus, said = loaded(load_texts, path)
    assert said == [
        f"1 rows of {path} have an empty text (of 105 in all); they are left out.",
        f"3 texts of {path} have other labels in other rows, and nothing tells which is right (of 104 in all); they are left out.",
        f"2 texts of {path} repeat an earlier one (of 104 in all); they are left out.",
    ]
    everything = [text for split in SPLITS for text in getattr(corpus, split).texts]
    assert sorted(everything) == sorted(f"text {i}" for i in range(100) if i != 5)


def test_pairs_left_out_are_counted_with_their_reason(tmp_path):
    """Catches: pairs of equal texts, both ways round or empty on one side that go without a word, or that stay."""
    rows = [f"good {i}\tbad {i}" for i in range(100)] + ["same\tsame", "good 1\tbad 1", "bad 2\tgood 2", "alone\t", "\talone"]
    path = write(tmp_path / "a.tsv", "better\tworse", rows)
    corpus, said = loaded(load_texts, path, chosen_column="better", rejected_column="worse")
    assert said == [
        f"2 rows of {path} have an empty text (of 105 in all); they are left out.",
        f"2 pairs of {path} stand there the other way round as well, and nothing tells which is right (of 103 in all); they are left out.",
        f"1 pairs of {path} have the same text on both sides, which prefers nothing (of 103 in all); they are left out.",
        f"1 pairs of {path} repeat an earlier one (of 103 in all); they are left out.",
    ]
    assert sum(len(getattr(corpus, split).texts) for split in SPLITS) == 99


@pytest.mark.parametrize("shared", ["good 7\tnew", "new\tbad 7", "bad 7\tnew", "new\tgood 7"])
def test_no_text_of_a_test_file_is_trained_on(tmp_path, shared):
    """Catches: a test text that is in training on the other side of a pair: only the chosen ones were compared."""
    train = write(tmp_path / "train.tsv", "better\tworse", [f"good {i}\tbad {i}" for i in range(100)])
    test = write(tmp_path / "test.tsv", "better\tworse", [shared])
    corpus, said = loaded(load_texts, train, test_data=test, chosen_column="better", rejected_column="worse")
    assert said == [f"1 pairs of the train split of {train} share a text with a split held out (of 100 in all); they are left out of train."]
    assert_apart(corpus)
    assert len(corpus.test.texts) == 1


def test_a_contradiction_in_the_test_file_costs_no_training_text():
    """Catches: a text that is in no test split, because it contradicts itself there, left out of train as well."""
    train, test = Split(["a", "b"], np.array([0, 1])), Split(["b", "b", "c"], np.array([0, 1, 1]))
    with pytest.warns(DataWarning, match="^2 texts of the test split of x have other labels"):
        kept = keep_distinct("x", {"train": train, "test": test})
    assert kept["train"].texts == ["a", "b"] and kept["train"].labels.tolist() == [0, 1] and kept["test"].texts == ["c"]


def test_references_are_gathered_and_only_repetitions_are_told(tmp_path):
    """Catches: a second right answer that is said to be lost, one that is repeated and counts twice."""
    rows = [f"ask {i}\tsay {i}" for i in range(100)] + ["ask 3\tor this", "ask 3\tsay 3"]
    path = write(tmp_path / "a.tsv", "question\tanswer", rows)
    corpus, said = loaded(load_pairs, path)
    assert said == [f"1 prompts of {path} repeat an earlier one (of 102 in all); they are left out."]
    found = {text: several for split in SPLITS for text, several in zip(getattr(corpus, split).texts, getattr(corpus, split).references)}
    assert len(found) == 100 and found["ask 3"] == ["say 3", "or this"]


def test_bundled_data_lose_nothing():
    """Catches: a warning about data that a newcomer did not write."""
    assert loaded(load_texts, language="zh")[1] == []
    assert loaded(load_pairs, bundled="phrases")[1] == []
