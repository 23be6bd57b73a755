"""`ppo_keras.datasets.cleaning`: every text that enters is spelled alike."""

import json

import pytest

from ppo_keras.datasets.cleaning import clean
from ppo_keras.datasets.loader import load_pairs, load_texts
from ppo_keras.errors import InputError
from ppo_keras.language.tokenizer import Tokenizer


@pytest.mark.parametrize(
    "text, expected",
    [
        (" The film\twas \r\n", "The film was"),
        ("\ufeffa\u200bgood\u3000film\ufeff", "a good film"),  # marks that cannot be seen
        ("a\u2581film", "a film"),  # SentencePiece would write it as a space anyway
        ("cafe\u0301", "caf\u00e9"),
        ("\u4e00\u500b\u597d\u96fb\u5f71\uff01\uff21", "\u4e00\u500b\u597d\u96fb\u5f71\uff01\uff21"),  # full width is no fault: NFKC would change it
        ("\U0001f469\u200d\U0001f680 \u0645\u06cc\u200c\u062e", "\U0001f469\u200d\U0001f680 \u0645\u06cc\u200c\u062e"),  # joiners mean something
        ("\u200b \ufeff", ""),
    ],
)
def test_what_is_changed_and_what_stays(text, expected):
    """Catches: marks that nobody sees in a text, NFKC for NFC, a joiner that is lost; cleaning that is not done after one time."""
    assert clean(text, "x") == expected == clean(expected, "x")


@pytest.mark.parametrize(
    "text, words",
    [
        ("a\ud800b", r"x holds U\+D800, half of a character"),
        ("caf\udce9", "x holds the byte 0xe9, not UTF-8"),
        ("a\0b", r"x holds a NUL character \(U\+0000\)"),
    ],
)
def test_what_is_no_text_is_named(text, words):
    """Catches: half of a character that ends in a traceback of the tokenizer, a NUL that SentencePiece leaves out without a word."""
    with pytest.raises(InputError, match=f"^{words}, which is no text. Correct it, or leave it out.$"):
        clean(text, "x")


def test_clean_texts_survive_the_tokenizer():
    """Catches: a cleaning that leaves what the tokenizer writes otherwise."""
    tokenizer = Tokenizer.train(["a fine film", "a dull film"] * 5, vocabulary_size=280)
    for text in ("a\u2581fine \u200b film \ufeff", "cafe\u0301 \u3000\u96fb\u5f71"):
        assert tokenizer.decode(tokenizer.encode(clean(text, "x"))) == clean(text, "x")


def test_texts_partners_and_labels_of_a_file_are_cleaned(tmp_path):
    """Catches: a column that is not cleaned, a lone surrogate or NUL in one that is read; one that is not read may hold anything."""
    path = tmp_path / "a.jsonl"
    rows = [{"text": f" good\ufeff  {i}", "rejected": f"cafe\u0301 {i} ", "label": f" {'ab'[i % 2]}\u200b", "x": "\ud800"} for i in range(20)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    corpus = load_texts(path, minimum=2)
    assert corpus.label_names == ("a", "b") and "good 3" in corpus.train.texts + corpus.validation.texts + corpus.test.texts
    pairs = load_texts(path, chosen_column="text", rejected_column="rejected", minimum=2)
    assert all(better.replace("good", "caf\u00e9") == worse for better, worse in zip(pairs.train.texts, pairs.train.rejected))
    asked = load_pairs(path, prompt_column="text", reference_column="rejected", minimum=2)
    assert all(text.replace("good", "caf\u00e9") == one for text, (one,) in zip(asked.train.texts, asked.train.references))
    for column, value in (("text", "\ud800"), ("label", "\udc00"), ("text", "a\0")):
        path.write_text("".join(json.dumps(row) + "\n" for row in [*rows, rows[0] | {column: value}]))
        with pytest.raises(InputError, match=f"a.jsonl, line 21: '{column}' holds "):
            load_texts(path, minimum=2)
