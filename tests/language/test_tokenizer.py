"""`ppo_keras.language.tokenizer`: any text survives."""

import numpy as np
import pytest
import sentencepiece
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ppo_keras import Prompts, Tokenizer
from ppo_keras.errors import InputError
from ppo_keras.language.generation import Responses

TEXTS = ["a fine film about the sea", "a dull film about a fine day", "the sea is fine", "一部好电影", "这部电影不好看"] * 4
TOKENIZER = Tokenizer.train(TEXTS, vocabulary_size=300)


@settings(derandomize=True, deadline=None, max_examples=50)
@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\u2581"), max_size=20))
@example("a fine 电影")
@example(" two  spaces ")
@example("line\nbreak\ttab")
@example("é\u0301 ﬁ Ａ 🎬")
@example("")
def test_any_text_survives(text):
    """Catches: normalisation, lost spaces, or characters beyond the vocabulary that become <unk>. (U+2581 is SentencePiece's own space.)"""
    ids = TOKENIZER.encode(text)
    assert TOKENIZER.decode(ids) == text
    assert all(3 < i < TOKENIZER.vocabulary_size for i in ids)


def test_special_tokens_are_added_on_request_and_left_out_of_texts():
    """Catches: begin or end by default, exchanged, or spelled out in the decoded text."""
    plain = TOKENIZER.encode("a film")
    assert TOKENIZER.encode("a film", begin=True, end=True) == [2, *plain, TOKENIZER.end_id]
    assert TOKENIZER.decode([2, *plain, 3, 0, 0]) == "a film"
    assert (TOKENIZER.pad_id, TOKENIZER.end_id, TOKENIZER.end_ids) == (0, 3, (3,))
    processor = TOKENIZER.processor
    assert (processor.pad_id(), processor.unk_id(), processor.bos_id(), processor.eos_id()) == (0, 1, 2, 3)


def test_the_mask_says_what_is_decoded():
    """Text 7. Catches: padding found by its id, on either side."""
    ids = TOKENIZER.encode("fine")
    row = np.array([[9, 9, *ids, 8]])
    mask = np.array([[0, 0, *[1] * len(ids), 0]])
    assert TOKENIZER.decode_batch(row, mask) == ["fine"]


def test_prompt_and_response_make_the_whole_text():
    """Catches: a response that loses the space it begins with, or padding in either text."""
    ids, cut = TOKENIZER.encode("a fine film about the sea"), 3
    prompt, response = np.array([[0, *ids[:cut]]]), np.array([[*ids[cut:], TOKENIZER.end_id, 0]])
    prompts = Prompts(prompt, (prompt > 0).astype(np.float32))
    responses = Responses(response, (response > 0).astype(np.float32), None, None)
    (prompt_text,), (response_text,) = TOKENIZER.decode_pairs(prompts, responses)
    assert prompt_text + response_text == "a fine film about the sea"
    assert prompt_text == TOKENIZER.decode(ids[:cut])


def test_pieces_are_learned():
    """Catches: a vocabulary of bytes only, by which every text is as long as its bytes."""
    assert len(TOKENIZER.encode("a fine film")) < 8


def test_training_is_repeatable():
    """Catches: pieces that depend on threads or on the order of a set."""
    assert Tokenizer.train(TEXTS, vocabulary_size=300).model == TOKENIZER.model


def test_save_and_load(tmp_path):
    """Text 21. Catches: a file that does not hold the whole tokenizer, or that plain SentencePiece cannot read."""
    path = str(tmp_path / "tokenizer.model")
    TOKENIZER.save(path)
    loaded = Tokenizer.load(path)
    assert loaded.encode("the sea 海") == TOKENIZER.encode("the sea 海") and loaded.vocabulary_size == TOKENIZER.vocabulary_size
    assert sentencepiece.SentencePieceProcessor(model_file=path).encode("the sea") == TOKENIZER.encode("the sea")


def test_a_missing_file_is_named(tmp_path):
    """Catches: a traceback of SentencePiece where a run folder is incomplete."""
    with pytest.raises(InputError, match="missing.model"):
        Tokenizer.load(str(tmp_path / "missing.model"))


def test_a_vocabulary_smaller_than_the_bytes_is_refused():
    """Catches: an error of SentencePiece that does not say what to do."""
    with pytest.raises(InputError, match="vocabulary_size=200.*300"):
        Tokenizer.train(TEXTS, vocabulary_size=200)


def test_a_vocabulary_larger_than_the_texts_can_fill_shrinks():
    """Catches: a crash where a small corpus meets the default vocabulary."""
    tokenizer = Tokenizer.train(["a fine film", "a dull film"], vocabulary_size=5000)
    assert 270 < tokenizer.vocabulary_size < 400
    assert tokenizer.decode(tokenizer.encode("a fine 电影")) == "a fine 电影"


def test_each_symbol_is_one_piece():
    """Catches: a control code that is spelled out in pieces, or learned together with the letters beside it; and one that changes the text."""
    symbols = ["positive:", "好评:", "<x>"]
    tokenizer = Tokenizer.train(TEXTS, vocabulary_size=300, symbols=symbols)
    ids = [tokenizer.processor.piece_to_id(symbol) for symbol in symbols]
    assert len(set(ids)) == 3 and min(ids) > 3
    for symbol, i in zip(symbols, ids):
        for text in (f"{symbol} a fine film", f"{symbol}a fine film", f"the{symbol}sea {symbol}", symbol):
            encoded = tokenizer.encode(text)
            assert encoded.count(i) == text.count(symbol) and not set(ids) - {i} & set(encoded)
            assert tokenizer.decode(encoded) == text
    assert not set(ids) & set(tokenizer.encode("positive 好评 x"))


def test_digits_are_pieces_of_their_own():
    """Catches: numbers that are seen so often that they become one piece (12 + 12 would then tell nothing about 1 and 2)."""
    tokenizer = Tokenizer.train(["12 and 2026 are 12 and 2026", "the 12 of 2026"] * 20, vocabulary_size=300)
    for text in ("12", "2026", "12 and 2026", "the12"):
        pieces = [tokenizer.processor.id_to_piece(i) for i in tokenizer.encode(text)]
        digits = [piece for piece in pieces if any(c.isdigit() for c in piece)]
        assert digits == [c for c in text if c.isdigit()] and tokenizer.decode(tokenizer.encode(text)) == text
    assert len(tokenizer.encode("and")) < 3  # words are still joined


def test_a_question_stands_between_two_begin_tokens():
    """Catches: no token after the question (the answer would begin in its last word), an end token, the question altered."""
    ids = TOKENIZER.encode_question("a fine film")
    assert ids == [2, *TOKENIZER.encode("a fine film"), 2]
    assert TOKENIZER.decode(ids) == "a fine film" and TOKENIZER.encode_question("") == [2, 2]


@pytest.mark.parametrize(
    "texts, settings, said",
    [
        ("the film is good", {}, "texts is 'the film is good', expected a list of strings"),
        ("reviews.txt", {}, "texts is 'reviews.txt', expected a list of strings"),
        (None, {}, "texts is None, expected a list of strings"),
        (["the film", None], {}, r"texts\[1\] is None, expected a string"),
        ([b"the film"], {}, r"texts\[0\] is b'the film', expected a string"),
        ([], {}, "there is no text to learn pieces from: 0 were given"),
        (["", " "], {}, "there is no text to learn pieces from: 2 were given, all of them empty"),
        (TEXTS, dict(vocabulary_size="300"), "vocabulary_size='300' is no whole number"),
        (TEXTS, dict(symbols="good:"), "symbols is 'good:', expected a list"),
    ],
)
def test_what_is_no_text_to_learn_from(texts, settings, said):
    """Catches: a tokenizer of single letters, learned from one string or from the name of a file; errors of SentencePiece's source code."""
    with pytest.raises(InputError, match=said):
        Tokenizer.train(texts, **dict(vocabulary_size=300) | settings)


def test_texts_may_come_one_by_one():
    """Catches: a generator that is used up before SentencePiece reads it."""
    assert Tokenizer.train((text for text in TEXTS), 300).model == TOKENIZER.model


def test_what_is_no_model_is_said(tmp_path):
    """Catches: the signature of a C++ function for somebody who gives a path to the wrong name; a folder taken for a file."""
    with pytest.raises(InputError, match="given 'tokenizer.model', expected the bytes.*Use Tokenizer.load"):
        Tokenizer("tokenizer.model")
    with pytest.raises(InputError, match="no tokenizer at .*Is it the file tokenizer.model"):
        Tokenizer.load(tmp_path)
