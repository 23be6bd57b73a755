"""`ppo_keras.tasks.translation`: rewards and measures are the numbers of sacrebleu, and of a calculation by hand."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from helpers import assert_close
from ppo_keras.errors import InputError
from ppo_keras.tasks import translation
from ppo_keras.tasks.config import TranslationConfig
from ppo_keras.tasks.translation import Translation, import_sacrebleu, is_chinese

sacrebleu = pytest.importorskip("sacrebleu")
ENGLISH, CHINESE = [["the cat sat on the mat"], ["a dog"]], [["猫坐在垫子上", "一只猫"], ["一只狗"]]


def loaded(monkeypatch, references=ENGLISH, **settings):
    """The task after `load`, with these references of the training split."""
    corpus = SimpleNamespace(train=SimpleNamespace(references=references))
    monkeypatch.setattr(translation, "load_pairs", lambda *args, **kwargs: corpus)
    task = Translation(TranslationConfig(**settings))
    assert task.load(minimum=8) is corpus
    return task


@pytest.mark.parametrize(
    "reward, references, response, reference, expected",
    [
        ("chrf", ENGLISH, "ab", "ac", 0.25),  # letters: 1 of 2; pairs: 0 of 1; precision and recall 1/4
        ("chrf", ENGLISH, "a dog", "a dog", 1.0),
        ("bleu", ENGLISH, "a b c d", "a b c d e", np.exp(1 - 5 / 4)),  # every n-gram is right; a fifth too short
        ("bleu", ENGLISH, "a dog", "a dog", 1.0),  # has no 4-grams
        ("bleu", CHINESE, "我喜欢你", "我喜欢猫", (3 / 4 * 2 / 3 * 1 / 2 * 1 / 2) ** (1 / 4)),  # 4-grams: 0 of 1, smoothed to 1/2
    ],
)
def test_rewards_by_hand(monkeypatch, reward, references, response, reference, expected):
    """Catches: 0 to 100 for 0 to 1, chrF for BLEU, short sentences worth nothing, a Chinese sentence read as one word."""
    task = loaded(monkeypatch, references, reward=reward)
    assert_close(task.reward(response, [reference]), expected)


SENTENCES = [
    ("the cat sat on a mat", ["a cat was on the mat", "the cat sat on the mat"]),
    ("it rains", ["it is raining", "it rains", "rain falls"]),
    ("a dog barked loudly at us", ["the dog barked at us"]),
    ("", ["nobody knows"]),
]


@pytest.mark.parametrize("reward", ["chrf", "bleu"])
def test_rewards_are_scores_of_sacrebleu(monkeypatch, reward):
    """Catches: one of several references only, response and references exchanged, another setting of the score."""
    task = loaded(monkeypatch, reward=reward)
    score = sacrebleu.sentence_chrf if reward == "chrf" else sacrebleu.sentence_bleu
    expected = [score(response, references).score / 100 for response, references in SENTENCES]
    assert_close([task.reward(*sentence) for sentence in SENTENCES], expected)
    assert np.ptp(expected) > 0.5 and expected[3] == 0
    assert task.reward(*SENTENCES[0]) > task.reward(SENTENCES[0][0], SENTENCES[0][1][:1]) + 0.05


@pytest.mark.parametrize("reward", ["chrf", "bleu"])
def test_measures_are_corpus_scores_of_sacrebleu(monkeypatch, reward):
    """Catches: references by sentence where sacrebleu wants streams, further references lost, a mean of sentences for the corpus' score.

    A reference that comes twice changes neither score, so that three streams without gaps are filled up by hand.
    """
    task = loaded(monkeypatch, reward=reward)
    responses, references = zip(*SENTENCES)
    streams = [[several[min(i, len(several) - 1)] for several in references] for i in range(3)]
    measures = task.measures(list(responses), list(references))
    assert set(measures) == {"bleu", "chrf"}
    assert_close(measures["bleu"], sacrebleu.corpus_bleu(responses, streams).score)
    assert_close(measures["chrf"], sacrebleu.corpus_chrf(responses, streams).score)
    first = task.measures(list(responses), [several[:1] for several in references])
    assert measures["bleu"] > first["bleu"] + 5 and measures["chrf"] > first["chrf"] + 2


def test_chinese_is_measured_by_characters(monkeypatch):
    """Catches: the words of Western scripts in the measures, where the reward counts characters."""
    responses, references = ["猫坐在地毯上。", "我喜欢你"], [["猫坐在垫子上。"], ["我喜欢你", "我爱你"]]
    measures = loaded(monkeypatch, CHINESE).measures(responses, references)
    streams = [["猫坐在垫子上。", "我喜欢你"], ["猫坐在垫子上。", "我爱你"]]
    assert_close(measures["bleu"], sacrebleu.corpus_bleu(responses, streams, tokenize="zh").score)
    assert_close(measures["chrf"], sacrebleu.corpus_chrf(responses, streams).score)
    right = [(5 + 4) / (7 + 4), (3 + 3) / (6 + 3), (1 + 2) / (5 + 2), (0 + 1) / (4 + 1)]  # characters, pairs, triples, fours
    assert_close(measures["bleu"], 100 * np.prod(right) ** (1 / 4))


@pytest.mark.parametrize(
    "references, expected",
    [(CHINESE, True), (ENGLISH, False), ([["他在 2008 年用 Python"]], False), ([["用 C 语言写 10000 行"]], True), ([["1, 2!"]], False),
     ([["a dog", "一只大黄狗"]], False), ([["ねこ"]], False), ([["a"]] + [["一只狗"]] * 3, True)],
)  # fmt: skip
def test_what_counts_as_chinese(references, expected):
    """Catches: one Chinese character among Latin letters that decides, digits and spaces counted as letters, 0 / 0."""
    assert is_chinese(references) == expected


def test_a_missing_sacrebleu_names_the_extra(monkeypatch):
    """Catches: a traceback of an import in mid-run where `pip install` of the extra is all that is missing."""
    monkeypatch.setitem(sys.modules, "sacrebleu", None)
    for use in (import_sacrebleu, lambda: Translation(TranslationConfig())):
        with pytest.raises(InputError, match=r"sacrebleu. Install it with: pip install 'ppo_keras\[translation\]'") as error:
            use()
        assert isinstance(error.value.__cause__, ImportError)
