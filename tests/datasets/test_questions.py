"""The bundled questions and phrases: right answers, nothing of a held-out split in another one."""

import re

import numpy as np
import pytest
import tensorflow_datasets as tfds

from ppo_keras.datasets import questions
from ppo_keras.datasets.loader import load_pairs
from ppo_keras.datasets.phrases import Phrases
from ppo_keras.datasets.questions import (
    Questions,
    arithmetic,
    number_in_words,
    stories,
)

SPLITS = ("train", "validation", "test")
WORDS = {number_in_words(n): n for n in range(50)}


def numbers_of(question):
    """The two numbers of a question, in its order, and whether it is written in words."""
    digits = [int(n) for n in re.findall(r"\d+", question)]
    words = [WORDS[w] for w in re.findall(r"[a-z]+(?:-[a-z]+)?", question.lower()) if w in WORDS]
    return digits or words, not digits


def test_every_sum_and_difference_is_right():
    """Catches: an answer that belongs to another question, digits answered in words."""
    for pairs in arithmetic().values():
        for question, answer in pairs:
            (a, b), in_words = numbers_of(question)
            minus = any(sign in question for sign in (" - ", "minus", "without"))
            value = WORDS[answer] if in_words else int(answer)
            assert value == (a - b if minus else a + b) and value >= 0, question


def test_no_two_numbers_are_in_two_splits():
    """Catches: 3 + 5 in training and 5 + 3 (or "five plus three") in the test split."""
    pairs = {split: {frozenset(numbers_of(question)[0]) for question, _ in asked} for split, asked in arithmetic().items()}
    assert all(len(pairs[split]) > 20 for split in SPLITS)
    assert not (pairs["train"] & pairs["test"] or pairs["train"] & pairs["validation"] or pairs["validation"] & pairs["test"])
    assert sum(map(len, pairs.values())) == 21 * 22 // 2


def the_end_of(story):
    """Who is where and holds what, read sentence by sentence."""
    places, holds = {}, {}
    for sentence in story.split(". "):
        words = sentence.rstrip(".").split()
        if "took" in words or "found" in words:
            holds[words[0]] = words[-1]
        elif words[0] != "Where" and words[0] != "What":
            places[words[0]] = words[-1]
    return places, holds


def test_every_story_is_answered_by_its_end():
    """Catches: an answer that was true before somebody moved on, a thing that is not where its holder is."""
    kinds = set()
    for told in stories().values():
        for text, answer in told:
            question, story = re.fullmatch(r"([^.]*\?) (.*\.)", text).groups()
            places, holds = the_end_of(story)
            if question.startswith("What"):
                expected = holds[question.split()[2]]
            elif question.startswith("Where is the"):
                expected = places[next(name for name, thing in holds.items() if thing == question.split()[3].rstrip("?"))]
            else:
                expected = places[question.split()[2].rstrip("?")]
            assert answer == expected, text
            kinds.add(question.split()[1] + question.split()[2][:3])
    assert len(kinds) > 5


def test_no_story_is_in_two_splits():
    """Catches: a story told in training, in other words or with another question, in the test split."""
    facts = lambda text: tuple((s.split()[0], s.split()[-1].rstrip(".")) for s in text.split("? ")[1].split(". "))
    told = {split: {facts(text) for text, _ in pairs} for split, pairs in stories().items()}
    assert {split: len(texts) for split, texts in told.items()} == {"train": 2400, "validation": 300, "test": 300}
    assert not told["train"] & told["test"] and not told["validation"] & (told["train"] | told["test"])


def test_the_splits_of_the_stories_are_alike(monkeypatch):
    """Catches: splits filled one after the other, so that the first uses up the short stories (seen where many are told)."""
    monkeypatch.setattr(questions, "STORIES", {"train": 10_000, "validation": 2000, "test": 2000})
    short = {split: np.mean([text.count(".") == 2 for text, _ in told]) for split, told in stories().items()}
    assert abs(short["test"] - short["train"]) < 0.05 and abs(short["validation"] - short["train"]) < 0.05


def test_the_grammar_asks_the_same_today_and_tomorrow():
    """Catches: a set or a hash in the grammar, whose order changes from process to process, so that splits leak between runs."""
    assert arithmetic() == arithmetic() and stories() == stories()
    assert arithmetic()["test"][0] == ("How much is 13 without 4?", "9")
    assert stories()["test"][0][1] == "apple"


@pytest.mark.parametrize("name, train", [("all", 5095), ("arithmetic", 2695), ("stories", 2400)])
def test_the_builder_serves_every_configuration(tmp_path, name, train):
    """Catches: a configuration that is empty, holds the other's questions, or begins with all of one kind, of which a sample then is."""
    corpus = load_pairs(bundled=f"questions/{name}", data_dir=tmp_path)
    assert len(corpus.train.texts) == train and corpus.name == f"questions/{name}"
    for split in SPLITS:
        told = np.mean(["." in text for text in getattr(corpus, split).texts[:60]])
        assert told == {"arithmetic": 0, "stories": 1}.get(name, told) and (name != "all" or 0.3 < told < 0.7), (split, told)


def test_numbers_in_words():
    """Catches: "forty-zero", "twenty one"."""
    assert [number_in_words(n) for n in (0, 13, 20, 21, 40, 45)] == ["zero", "thirteen", "twenty", "twenty-one", "forty", "forty-five"]


# Phrases.


@pytest.fixture(scope="module")
def phrases(tmp_path_factory):
    return load_pairs(bundled="phrases", data_dir=tmp_path_factory.mktemp("tfds"))


def test_there_are_enough_phrases_and_none_twice(phrases):
    """Catches: a sentence of either language in two splits, a translation that stands beside two sentences."""
    plain = lambda text: re.sub(r"\W", "", text.lower())
    english = [plain(text) for split in SPLITS for text in getattr(phrases, split).texts]
    chinese = [plain(text) for split in SPLITS for (text,) in getattr(phrases, split).references]
    assert len(english) >= 1500 and len(set(english)) == len(english) and len(set(chinese)) == len(chinese)
    assert [len(getattr(phrases, split).texts) for split in SPLITS] == [1549, 193, 193]


def test_the_vocabulary_is_closed(phrases):
    """Catches: a test sentence with a word that nobody taught."""
    words = lambda split: [set(re.findall(r"[a-z']+", text.lower())) for text in getattr(phrases, split).texts]
    taught = set().union(*words("train"))
    assert len(taught) < 700
    assert sum(bool(found - taught) for found in words("test")) / len(phrases.test.texts) < 0.05


def test_each_language_is_in_its_column(phrases):
    """Catches: swapped columns, half-width punctuation or traditional characters in the Chinese."""
    for split in SPLITS:
        for english, (chinese,) in zip(getattr(phrases, split).texts, getattr(phrases, split).references):
            assert english.isascii() and english[-1] in ".?!", english
            assert chinese[-1] in "。？！" and not re.search(r"[,.?!]|[們嗎這個說來時間書國學]", chinese), chinese
            assert (english[-1] == "?") == (chinese[-1] == "？") or english[-1] != "?", (english, chinese)


def test_the_builders_read_every_row_once(tmp_path):
    """Catches: a header that is read as a phrase, rows lost to a quote."""
    for builder, total in ((Phrases(data_dir=tmp_path), 1935), (Questions(data_dir=tmp_path, config="all"), 6360)):
        builder.download_and_prepare()
        assert sum(builder.info.splits[split].num_examples for split in SPLITS) == total
        assert isinstance(builder.info.features, tfds.features.FeaturesDict)
