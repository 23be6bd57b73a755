"""`ppo_keras.tasks.question_answering`: which answers count as right, and what is paid for those that are not."""

import pytest

from helpers import assert_close
from ppo_keras.tasks.config import QuestionAnsweringConfig
from ppo_keras.tasks.question_answering import QuestionAnswering, exact_match, normalise, word_f1


@pytest.mark.parametrize(
    "text, expected",
    [
        ("The  Kitchen!", "kitchen"), ("a cat, an owl and the THEATRE", "cat owl and theatre"), ("\tAnn\nBanana ", "ann banana"),
        ("-5", "-5"), ("(-5)", "-5"), ("is -5.", "is -5"), ("- 5", "5"), ("7 - 5", "7 5"), ("7-5", "7-5"), ("well -", "well"), ("-x", "x"),
        ("Twenty-One.", "twenty-one"), ("1,000", "1,000"), ("3.5", "3.5"), ("3.5.", "3.5"), ("1,234,567.89!", "1,234,567.89"),
        ("5, 6.", "5 6"), ("1.2.3-4", "1.2.3-4"), ("end.Begin", "end begin"), ("No.5", "no 5"), ("$5 (50%)", "5 50%"), ("-.5", "-.5"), ("\u22125", "-5"), ("\0007\0", "\0007\0"), ("hepatitis-A", "hepatitis-a"), ("\u201cYes\u201d，他说。", "yes 他说"),
        ("it\u2019s", "it s"), ("it's", "it s"), ("", ""), ("?!", "?!"), ("The", "the"), ("A", "a"),
    ],
)  # fmt: skip
def test_normalised_answers_by_hand(text, expected):
    """Catches: an article cut out of a word, a sign, a hyphen or a decimal point lost, punctuation or capitals kept, spaces not made one."""
    assert normalise(text) == expected


@pytest.mark.parametrize(
    "response, references, expected",
    [
        ("the Kitchen.", ["kitchen"], 1), ("kitchen", ["The kitchen!"], 1), ("in the kitchen", ["kitchen"], 0), ("kitchens", ["kitchen"], 0),
        ("-5", ["5"], 0), ("5", ["-5"], 0), ("twenty one", ["twenty-one"], 0), ("1000", ["1,000"], 0), ("35", ["3.5"], 0), ("3.5.", ["3.5"], 1),
        ("bath", ["kitchen", "Bath", "hall"], 1), ("kitchen bath", ["kitchen", "bath"], 0), ("", ["kitchen"], 0), ("红色。", ["红色"], 1),
    ],
)  # fmt: skip
def test_exact_matches_by_hand(response, references, expected):
    """Catches: the reference not normalised, part of an answer that counts, the first reference only, another number called right."""
    assert exact_match(response, references) == expected and type(exact_match(response, references)) is float


@pytest.mark.parametrize(
    "response, references, expected",
    [
        ("the old red hat", ["red hat"], 0.8),  # 2 of 3 words, 2 of 2
        ("red", ["the old red hat"], 0.5),  # 1 of 1, 1 of 3
        ("red red hat", ["red hat hat"], 2 / 3),  # red once, hat once
        ("red red red", ["red"], 0.5),  # 1 of 3, 1 of 1
        ("red red hat", ["red red shoe"], 2 / 3),  # red twice
        ("hat red", ["red hat"], 1.0),
        ("blue shoe", ["red hat"], 0.0),
        ("-5", ["5"], 0.0),
        ("twenty one", ["twenty-one"], 0.0),
        ("red hat", ["old red cap", "a red hat too", "blue hat"], 0.8),  # 0.4, 2 of 2 and 2 of 3, 0.5
        ("我喜欢猫", ["我喜欢你"], 0.75),
        ("他在 2008 年", ["2008年"], 2 / 3),  # 2 of 4 (他, 在, 2008, 年), 2 of 2
        ("", ["red hat"], 0.0),
        ("?", ["red hat"], 0.0),
        ("", ["!"], 0.0),
        ("!", ["!"], 1.0),
        ("red", ["!"], 0.0),
    ],
)
def test_f1_of_words_by_hand(response, references, expected):
    """Catches: sets for counts, precision or recall alone, the mean or first of several references, a Chinese sentence as one word, 0 / 0."""
    assert_close(word_f1(response, references), expected)


@pytest.mark.parametrize("credit", [0.0, 0.2])
def test_the_reward_by_hand(credit):
    """Catches: partial credit added to a right answer, paid where it is off, or words in a wrong order called right."""
    task = QuestionAnswering(QuestionAnsweringConfig(partial_credit=credit))
    given = [task.reward(response, ["red hat", "cap"]) for response in ("The red hat.", "old red hat", "hat red", "shoe", "")]
    assert_close(given, [1.0, 0.8 * credit, credit, 0.0, 0.0])


def test_the_measures_are_means_over_responses():
    """Catches: references of another question, partial credit in the measures, one measure under the name of the other."""
    task = QuestionAnswering(QuestionAnsweringConfig(partial_credit=0.2))
    measures = task.measures(["old red hat", "cap", "5", "x"], [["red hat"], ["hat", "Cap!"], ["-5"], ["y"]])
    assert measures == {"exact_match": pytest.approx(1 / 4), "f1": pytest.approx(1.8 / 4)}
