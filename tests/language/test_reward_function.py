"""`ppo_keras.language.reward_function`: what a signature says, and what the function is then given."""

import functools

import pytest

from ppo_keras.datasets.sources import Wanted
from ppo_keras.errors import InputError
from ppo_keras.language.reward_function import Call, CallFailed, RewardFunction, call_here

ROWS = [{"answer": "4", "level": 1, "text": "a"}, {"answer": "9", "level": 2, "text": "b"}]


def wants(function, **more):
    one = RewardFunction(function, "mine", **more)
    return one.batched, one.columns.needed, one.columns.optional, one.columns.every


@pytest.mark.parametrize(
    "function, expected",
    [
        (lambda prompt, response: 0, (False, (), (), False)),
        (lambda a, b: 0, (False, (), (), False)),
        (lambda *pair: 0, (False, (), (), False)),
        (lambda prompt, response, answer: 0, (False, ("answer",), (), False)),
        (lambda prompt, response, answer, level=1: 0, (False, ("answer",), ("level",), False)),
        (lambda prompt, response, *, answer, level=1: 0, (False, ("answer",), ("level",), False)),
        (lambda prompt, response, answer, **columns: 0, (False, ("answer",), (), True)),
        (lambda prompt, response, responses: 0, (False, ("responses",), (), False)),  # a column of this name
        (lambda prompts, responses: 0, (True, (), (), False)),
        (lambda prompts, completions, answer: 0, (True, ("answer",), (), False)),
        (lambda completions, answer=None, **kwargs: 0, (True, (), ("answer",), True)),
        (lambda answer, completions: 0, (True, ("answer",), (), False)),
        (functools.partial(lambda prompt, response, word: 0, word="x"), (False, (), ("word",), False)),
        (len, (False, (), (), False)),
    ],
)
def test_what_a_signature_says(function, expected):
    """Catches: a prompt taken for a column, a default that makes a column needed, the lists of TRL taken for single texts."""
    assert wants(function) == expected


def test_lists_can_be_asked_for_and_refused():
    """Catches: names that overrule what was said."""
    assert wants(lambda asked, said, answer: 0, batched=True) == (True, ("answer",), (), False)
    assert wants(lambda prompts, responses: 0, batched=False) == (False, (), (), False)


def test_a_column_that_has_no_name():
    """Catches: a TypeError in the first call."""

    def hidden(prompt, response, answer, /):
        return 0

    with pytest.raises(InputError, match="reward mine takes 'answer' by position only, but columns are given by name"):
        RewardFunction(hidden, "mine")


def calls(function, shares=1, **more):
    return RewardFunction(function, "mine", **more).calls(["p", "q"], ["r", "s"], ROWS, shares)


def test_what_single_texts_are_given():
    """Catches: columns of another row, columns nobody named, a default overruled by a column that is not there, prompt and response exchanged."""
    assert calls(lambda prompt, response: 0) == [Call(("p", "r"), {}), Call(("q", "s"), {})]
    assert calls(lambda prompt, response, answer, other=3: 0) == [Call(("p", "r"), {"answer": "4"}), Call(("q", "s"), {"answer": "9"})]
    assert calls(lambda prompt, response, **columns: 0)[1] == Call(("q", "s"), ROWS[1])
    assert calls(lambda text, response, **columns: 0)[1] == Call(("q", "s"), {"answer": "9", "level": 2})  # `text` is the prompt here


def test_what_lists_are_given():
    """Catches: rows for columns, lists by position where their order is another, a batch that is cut unevenly or in another order."""
    assert calls(lambda a, b, level: 0, batched=True) == [Call((["p", "q"], ["r", "s"]), {"level": [1, 2]})]
    assert calls(lambda completions, prompts: 0) == [Call((), {"completions": ["r", "s"], "prompts": ["p", "q"]})]
    assert calls(lambda completions, answer: 0, shares=2) == [
        Call((), {"completions": ["r"], "answer": ["4"]}),
        Call((), {"completions": ["s"], "answer": ["9"]}),
    ]
    assert len(calls(lambda completions: 0, shares=5)) == 2  # no share is empty
    five = RewardFunction(lambda completions: 0, "mine").calls(list("abcde"), list("vwxyz"), [{}] * 5, 3)
    assert ["".join(call.named["completions"]) for call in five] == ["v", "wx", "yz"]


def test_a_function_cannot_spoil_the_data():
    """Catches: a list in a column that somebody's code empties, and that the next call is given."""
    rows = [{"tests": ["a", "b"]}]
    one = RewardFunction(lambda prompt, response, tests: tests.clear() or 0, "mine")
    assert call_here(one.function, one.calls(["p"], ["r"], rows)) == [0] and rows == [{"tests": ["a", "b"]}]


@pytest.mark.parametrize("error", [KeyError("stars"), SystemExit(3)])
def test_a_call_that_raises_is_named(error):
    """Catches: a training that a reward ends without a word, the wrong call named."""

    def fails(prompt, response):
        if prompt == "q":
            raise error
        return 1

    with pytest.raises(CallFailed) as caught:
        call_here(fails, calls(fails))
    assert caught.value.number == 1 and caught.value.what == f"raised {type(error).__name__}: {error}"


def test_the_columns_that_are_kept():
    """Catches: a needed column that is missed too late, an optional one that is asked for, a misspelt name without a hint."""
    available = ["text", "answer", ""]
    assert Wanted().among(available, "x.csv") is None and Wanted(by="reward a").among(available, "x.csv") is None
    assert Wanted(("answer",)).among(available, "x.csv") == ["answer"]
    assert Wanted(optional=("answer", "level")).among(available, "x.csv") == ["answer"]
    assert Wanted(every=True).among(available, "x.csv") == ["text", "answer"]
    assert Wanted(optional=("level",)).among(available, "x.csv") == []
    with pytest.raises(InputError, match=r"^reward a:b reads the column 'answr', which x.csv does not have. It has: text, answer. Did you mean 'answer'\?$"):
        Wanted(("answr",), by="reward a:b").among(available, "x.csv")
    with pytest.raises(InputError, match=r"^x.csv has no column 'level'. It has: text, answer.$"):
        Wanted(("level",)).among(available, "x.csv")
