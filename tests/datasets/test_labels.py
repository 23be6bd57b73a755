"""`ppo_keras.datasets.labels`: which of two labels is the positive one."""

import warnings

import pytest

from ppo_keras.datasets.labels import label_names, number_labels, order_is_known, warn_of_guess
from ppo_keras.datasets.loader import load_texts
from ppo_keras.datasets.sources import Raw
from ppo_keras.errors import DataWarning, InputError

PAIRS = (
    "negative positive, neg pos, bad good, no yes, false true, rotten fresh, unsafe safe, dislike like, toxic non-toxic, Toxic Non_Toxic, harmful harmless, "
    "0 1, -1 1, 0 4, poor excellent, rejected chosen, wrong right, 负面 正面, 差评 好评, 消极 积极, 坏 好, 差 好, 否 是, 错 对, 不安全 安全, 負面 正面"
).split(", ")


@pytest.mark.parametrize("pair", PAIRS)
def test_known_pairs(pair):
    """Catches: the alphabet (or the number of a character) that rewards "rotten", "unsafe", 差评 and 负面; a known pair called a guess."""
    worse, better = pair.split()
    for values in ([worse, better], [better, worse]):
        names, number = label_names(values, "a.csv", "label")
        assert (number[worse.casefold()], number[better.casefold()]) == (0, 1) and order_is_known(names)
        names, _ = label_names(values, "a.csv", "label", classes=values)
        assert names == (worse, better)  # also where a TFDS dataset has them the other way round


@pytest.mark.parametrize("values", [["spam", "ham"], ["2", "1"], ["like", "love"], ["体育", "娱乐"], ["good", "maybe"], ["nan", "1"]])
def test_a_guess_is_said(values):
    """Catches: an order that nothing but the alphabet (or size) tells, taken without a word; a remedy that names the label that is rewarded already."""
    names, _ = label_names(values, "a.csv", "label")
    with pytest.warns(
        DataWarning, match=f"^nothing says which label of a.csv is the positive one: '{names[1]}' is taken.*give --positive-label '{names[0]}'.$"
    ):
        warn_of_guess(names, "a.csv")


@pytest.mark.parametrize(
    "values, positive, names",
    [
        (["spam", "ham"], "ham", ("spam", "ham")),
        (["spam", "ham"], " SPAM ", ("ham", "spam")),
        (["fresh", "rotten"], "rotten", ("fresh", "rotten")),
        (["0", "1"], "1", ("negative", "positive")),
        (["0", "1"], "positive", ("negative", "positive")),
        (["0", "1"], "0", ("1", "0")),  # "positive" would be the name of what is not rewarded
        (["Yes", "no"], "no", ("Yes", "no")),
        (["-1", "1"], "-1.0", ("1", "-1")),
        (["positive", "negative"], "negative", ("positive", "negative")),
    ],
)
def test_the_positive_label_can_be_named(values, positive, names):
    """Catches: an option that is not read, that needs another spelling than the file has, or that leaves the wrong name on the rewarded label."""
    splits, found = number_labels({"train": Raw(values, values)}, "a.csv", "label", positive=positive)
    assert found == names
    rewarded = [value.casefold() == positive.strip().casefold().removesuffix(".0") or value == "1" and positive == "positive" for value in values]
    assert splits["train"].labels.tolist() == list(map(int, rewarded))


@pytest.mark.parametrize(
    "values, positive, words",
    [
        (["spam", "ham"], "hem", "--positive-label 'hem' is no label of a.csv. It has: ham, spam. Did you mean 'ham'?"),
        (["0", "1"], "2", "It has: negative, positive, 0, 1."),
        (["0", "1"], "good", "--positive-label 'good' is no label of a.csv"),  # a spelling that is known, but not there
        (["a", "b", "c"], "a", "a.csv has 3 labels (a, b, c), but only of two can one be the positive. Leave out --positive-label."),
        (None, "a", "a.csv is read without labels, so none is 'a'. Leave out --positive-label, or name the column with --label-column."),
    ],
)
def test_a_positive_label_that_cannot_be(values, positive, words):
    """Catches: a name that is no label and rewards the other one, or one label out of three."""
    with pytest.raises(InputError) as caught:
        number_labels({"train": Raw(["x"] * 3, values)}, "a.csv", "label", two=False, positive=positive)
    assert words in str(caught.value)


def test_classes_that_no_text_has_are_left_out():
    """Catches: a class of a TFDS dataset that is never seen, and yet asked for by prompts and expected in every half."""
    rows = Raw(["x"] * 4, ["sport", "art", "art", "sport"])
    splits, names = number_labels({"train": rows}, "news", "label", classes=("world", "sport", "art"), two=False)
    assert names == ("sport", "art") and splits["train"].labels.tolist() == [0, 1, 1, 0]


def test_texts_are_loaded_with_a_word_about_a_guess(tmp_path):
    """Catches: a guess said where nothing depends on it, where it was answered, or not at all."""
    path = tmp_path / "mail.tsv"
    path.write_text("text\tlabel\n" + "".join(f"mail {i}\t{('ham', 'spam')[i % 2]}\n" for i in range(100)))
    with pytest.warns(DataWarning, match="--positive-label 'ham'"):
        assert load_texts(path).label_names == ("ham", "spam")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_texts(path, positive_label="ham").label_names == ("spam", "ham")
        assert load_texts(path, two_labels=False).label_names == ("ham", "spam")
        path.write_text("text\tlabel\n" + "".join(f"电影{i}\t{('好评', '差评')[i % 2]}\n" for i in range(100)), encoding="utf-8")
        corpus = load_texts(path)
    assert corpus.label_names == ("差评", "好评") and all(int(text[2:]) % 2 != label for text, label in zip(corpus.train.texts, corpus.train.labels))
