"""`ppo_keras.language.verifiable`: each reward on responses that are right, and on those that only look so."""

import doctest
import subprocess
import sys
from fractions import Fraction

import pytest

from ppo_keras.errors import InputError
from ppo_keras.language import verifiable
from ppo_keras.language.verifiable import chosen_letter, exact_number, json_fits, language, last_number, length, matches, multiple_choice


def test_the_examples_are_true():
    """Catches: a docstring that promises another value."""
    tried = doctest.testmod(verifiable)
    assert tried.failed == 0 and tried.attempted >= 8


def test_nothing_loads_tensorflow():
    """Catches: a second for each process of a reward, and memory of a GPU."""
    code = "import sys; import ppo_keras.language.verifiable, ppo_keras.language.workers; print([m for m in ('tensorflow', 'keras') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


@pytest.mark.parametrize(
    "text, number",
    [
        ("42", 42), ("so it is 42.", 42), ("42 apples and 7 pears", 7), ("1,200.50 km", Fraction(2401, 2)), ("1,2,3", 3), ("12,34", 34),
        (".5", Fraction(1, 2)), ("Rs.500", 500), ("$1,000", 1000), ("50%", 50), ("1e3", 1000), ("2.5E-1", Fraction(1, 4)), ("3/4", Fraction(3, 4)),
        ("-3/4", Fraction(-3, 4)), ("3/0", 3), ("5 m2 of H2O", 5), ("x=-5", -5), ("is -5", -5), ("-$5", -5), ("$-5", -5), ("= - 5", -5), ("−7", -7),
        ("5-3", 3), ("5 - 3", 3), ("(2)-1", 1), ("20%-30%", 30), ("- 5", 5), ("+5", 5), ("１，２００元", 1200), ("－０．５", Fraction(-1, 2)), ("答案是42。", 42),
        ("3万", 30000), ("2.5亿元", 250_000_000), ("none", None), ("-", None), ("", None), ("9" * 5000, None), ("1e99999999", 1), ("0.1", Fraction(1, 10)),
    ],
)  # fmt: skip
def test_the_last_number(text, number):
    """Catches: the first number, a comma that ends one, a minus between two, a unit's digit, full-width digits that are none, a response that takes for ever."""
    assert last_number(text) == number


@pytest.mark.parametrize(
    "response, answer, reward",
    [
        ("2 + 2 = 4", "4", 1.0), ("4.0", 4, 1.0), ("4", 4.0, 1.0), ("0.1", 0.1, 1.0), ("4 or 5", "4", 0.0), ("-4", "4", 0.0), ("four", "4", 0.0),
        ("1200", "#### 1,200", 1.0), ("1e-05", 1e-05, 1.0), ("三万", "30000", 0.0),
    ],
)  # fmt: skip
def test_an_exact_number(response, answer, reward):
    """Catches: text compared in place of values, a float of JSON that equals nothing."""
    assert exact_number("What is 7?", response, answer) == reward


def test_an_answer_without_a_number():
    """Catches: a column that is the wrong one, and rewards every response without a number."""
    with pytest.raises(ValueError, match="the answer 'four' holds no number"):
        exact_number("", "no number", "four")


@pytest.mark.parametrize(
    "text, letter",
    [
        ("B", "B"), ("b", "B"), ("(B)", "B"), ("B.", "B"), ("**B**", "B"), ("A. dog", "A"), ("The answer is B", "B"), ("answer: (b)", "B"),
        ("The answer is A because it is red.", "A"), ("The correct option is C. A and B are wrong.", "C"), ("The correct answer is option D", "D"),
        ("The answer is **(C)** cat", "C"), ("So (C)", "C"), ("I choose C", "C"), ("\\boxed{B}", "B"), ("$\\boxed{\\text{C}}$", "C"),
        ("答案是B", "B"), ("答案：Ｂ。", "B"), ("答案为 (B)。", "B"), ("选B", "B"), ("正确答案应该是Ｃ", "C"), ("选项A不对，选项B不对，答案是D", "D"),
        ("The answer is A. No, the answer is B.", "B"), ("A or B", None), ("the answer is A or B", None), ("the answer is A, B or C", None),
        ("答案是A或B", None), ("A, B, C, D", None), ("A dog", None), ("The answer is a dog", None), ("I am sure", None), ("Because it's a cat", None), ("", None),
        ("Option A is wrong, so B", None), ("It is not A", None), ("It isn't (A)", None), ("不是A", None), ("not A but B", "B"), ("Not option A. It is C", "C"),
    ],
)  # fmt: skip
def test_the_choice_of_a_response(text, letter):
    """Catches: an article taken for A, a list of all letters that is paid, the first of two statements, full-width letters that are none."""
    assert chosen_letter(text) == letter


@pytest.mark.parametrize("answer", ["B", "b", "(B)", " B.", 1, "1", "Ｂ"])
def test_every_spelling_of_a_choice(answer):
    """Catches: a number of a data set counted from 1, a letter in parentheses that equals nothing."""
    assert multiple_choice("", "The answer is (B).", answer) == 1.0 and multiple_choice("", "The answer is (C).", answer) == 0.0


@pytest.mark.parametrize("answer", ["", "Paris", 8, "AB", None])
def test_an_answer_that_is_no_choice(answer):
    """Catches: the wrong column, with which no response is ever right."""
    with pytest.raises(ValueError, match="no letter from A to H"):
        multiple_choice("", "B", answer)


def test_a_long_run_of_blanks_takes_no_longer():
    """Catches: an expression that tries all ways to divide them, for hours."""
    assert chosen_letter("answer is" + " " * 20_000 + "*" * 20_000) is None
    assert chosen_letter("answer is" + " " * 20_000 + "*" * 20_000 + "B") == "B"
    assert json_fits("", "```" + "\n" * 20_000) == 0.0 and json_fits("", "```JSON \r\n" + "\n" * 20_000 + "{}```") == 1.0


def test_patterns():
    """Catches: a match at the beginning alone, white space around a response that counts."""
    assert matches("", " see page 7 ", r"page \d") == 1.0 and matches("", "see page x", r"page \d") == 0.0
    assert matches("", "\n12\n", "^12$") == 1.0 and matches("", "123", "^12$") == 0.0


SCHEMA = '{"type": "object", "properties": {"age": {"type": "integer", "minimum": 0}}, "required": ["age"], "additionalProperties": false}'


@pytest.mark.parametrize(
    "response, fits, parses",
    [
        ('{"age": 7}', 1.0, 1.0), (' {"age": 7}\n', 1.0, 1.0), ('```json\n{"age": 7}\n```', 1.0, 1.0), ('```\n{"age": 7}\n```', 1.0, 1.0),
        ('{"age": "7"}', 0.0, 1.0), ('{"age": -1}', 0.0, 1.0), ('{"age": 7, "name": "x"}', 0.0, 1.0), ("{}", 0.0, 1.0), ("7", 0.0, 1.0),
        ("{'age': 7}", 0.0, 0.0), ('{"age": 7', 0.0, 0.0), ('Here it is: {"age": 7}', 0.0, 0.0), ('{"age": 7} {}', 0.0, 0.0), ('{"age": NaN}', 0.0, 0.0),
        ("", 0.0, 0.0), ("[" * 100_000, 0.0, 0.0),
    ],
)  # fmt: skip
def test_json(response, fits, parses):
    """Catches: text around the JSON that is paid, NaN taken for JSON, a schema that is not looked at, a response that ends the training."""
    pytest.importorskip("jsonschema")
    assert json_fits("", response) == parses
    assert json_fits("", response, SCHEMA) == fits


@pytest.mark.parametrize("schema", ["{", '{"type": "nothing"}', "7"])
def test_a_schema_that_is_none(schema):
    """Catches: a column of something else, which every response fits or none."""
    pytest.importorskip("jsonschema")
    with pytest.raises(ValueError, match="is no JSON Schema"):
        json_fits("", "{}", schema)


def test_a_response_that_is_too_deep():
    """Catches: a response that ends the training where the schema refers to itself."""
    pytest.importorskip("jsonschema")
    schema = {"type": "array", "items": {"$ref": "#"}}
    assert json_fits("", "[[]]", schema) == 1.0 and json_fits("", "[" * 400 + "]" * 400, schema) == 0.0


def test_an_empty_cell_asks_nothing():
    """Catches: a row of a .csv file without a bound or a schema of its own, which ends the training."""
    assert length("", "a b", least_words="", most_words="2") == 1.0 and length("", "a b", least_words="3", most_words="") == 0.0
    assert length("", "a b c", most_words="") == 1.0  # there is such a column
    assert json_fits("", "{}", "") == 1.0 and json_fits("", "{", "") == 0.0


def test_a_schema_fetches_nothing():
    """Catches: a data set that has the training load pages from the network."""
    pytest.importorskip("jsonschema")
    with pytest.raises(ValueError, match="refers to what is not in it: .*127.0.0.1"):
        json_fits("", "{}", {"$ref": "http://127.0.0.1:9/schema.json"})


def test_without_jsonschema(monkeypatch):
    """Catches: an ImportError without the name of the extra; one where no schema is."""
    monkeypatch.setitem(sys.modules, "jsonschema", None)
    with pytest.raises(InputError, match=r"pip install 'ppo_keras\[verifiable\]'"):
        json_fits("", "{}", "{}")
    assert json_fits("", "{}") == 1.0


@pytest.mark.parametrize(
    "text, words", [("", 0), (" a short film. ", 3), ("well-made", 1), ("it's 3.5 km!", 3), ("好电影", 3), ("这是 film 2", 4), ("- a -", 1), ("…", 0)]
)
def test_words(text, words):
    """Catches: Chinese text of one word, punctuation that counts."""
    assert length("", text, least_words=words, most_words=str(words)) == 1.0
    assert length("", text, least_words=words + 1) == 0.0
    assert words == 0 or length("", text, most_words=words - 1) == 0.0


def test_characters():
    """Catches: white space around a response that counts, a bound that is left out of the range, words for characters."""
    assert length("", " 好电影 ", least_characters=3, most_characters=3) == 1.0
    assert length("", "abcd", least_characters="5") == length("", "abcd", most_characters=3.9) == 0.0
    assert length("", "a b", least_words=2, most_characters=2) == 0.0
    with pytest.raises(ValueError, match="there is no column least_words"):
        length("", "abc")


@pytest.mark.parametrize(
    "text, code, share",
    [
        ("The film, 7!", "en", 1.0), ("café", "en", 0.75), ("фильм", "en", 0.0), ("这部电影很好。", "zh", 1.0), ("这 is", "zh", 1 / 3), ("これは本です", "ja", 1.0),
        ("電影", "ja", 0.0), ("これは本です", "zh", 1 / 6), ("ラーメン", "ja", 1.0), ("영화", "ko", 1.0), ("Фильм", "ru", 1.0), ("ταινία", "el", 1.0), ("فيلم", "ar", 1.0),
        ("סרט", "he", 1.0), ("ＡＢ", "en", 0.0), ("123 !?", "en", 0.0), ("", "zh", 0.0),
    ],
)  # fmt: skip
def test_the_share_of_a_language(text, code, share):
    """Catches: digits and signs that count, Chinese taken for Japanese or the other way round, an empty response that is right."""
    assert language("", text, code) == pytest.approx(share)


def test_a_language_whose_letters_tell_nothing():
    """Catches: French that is paid for being English."""
    with pytest.raises(ValueError, match="the letters of the language 'fr' are not known, only those of en, zh"):
        language("", "le film", "fr")
