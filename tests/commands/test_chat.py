"""What `ppo_keras.commands.chat` reads; its answers are tested in `test_evaluate.py`, on runs of every task."""

import io
import sys
import types

import numpy as np
import pytest

from ppo_keras.commands import chat
from ppo_keras.language.generation import Responses
from ppo_keras.reports.examination import Examined


@pytest.fixture
def prompts(monkeypatch):
    """The prompts that reach a model, of a run that answers nothing."""
    found = []
    monkeypatch.setattr(chat.Run, "open", lambda *_: None)
    monkeypatch.setattr(chat, "open_job", lambda *_: types.SimpleNamespace(asking=types.SimpleNamespace(template=None), close=lambda: None))
    monkeypatch.setattr(chat, "respond", lambda job, prompt, seed, greedy, turns=(): found.append(prompt))
    return found


def talk():
    chat.chat(types.SimpleNamespace(run="x", runs_folder="runs", stage="after", temperature=None, seed=0, greedy=False))


def test_a_line_that_is_no_text_ends_nothing(monkeypatch, capsys, prompts):
    """Catches: a traceback at a piped line that is not UTF-8, lines after it that are lost, a line that is not cleaned as training texts are."""
    piped = b" The \xe2\x80\x8b film  was \ncaf\xe9\none\0two\n\xef\xbb\xbfcaf" + "e\u0301".encode() + b"\nquit\nnever read\n"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(piped), encoding="utf-8"))
    talk()
    assert prompts == ["The film was", "caf\u00e9"]
    assert capsys.readouterr().err.splitlines() == [
        "ppo-keras: error: the line holds the byte 0xe9, not UTF-8, which is no text. Correct it, or leave it out.",
        "ppo-keras: error: the line holds a NUL character (U+0000), which is no text. Correct it, or leave it out.",
    ]


def test_a_second_chat_reads_the_same_input(monkeypatch, prompts):
    """Catches: an error because the way of reading is set again after something was read, or where it cannot be set at all."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"one\nquit\ntwo\n"), encoding="utf-8"))
    talk()
    talk()
    started = io.TextIOWrapper(io.BytesIO(b"read before\nthree\n"), encoding="utf-8")
    started.readline()
    for stdin in (started, io.StringIO("four\n")):
        monkeypatch.setattr(sys, "stdin", stdin)
        talk()
    assert prompts == ["one", "two", "three", "four"]


@pytest.mark.parametrize("last, ended", [(3, True), (5, True), (4, False)])
def test_any_end_token_ends_a_response(capsys, last, ended):
    """Catches: a response called cut off that ended by the second end token of a checkpoint; padding looked at for the last token."""
    tokens, mask, zeros = np.array([[4, last, 0]]), np.array([[1.0, 1, 0]]), np.zeros([1, 3])
    tokenizer = types.SimpleNamespace(end_id=3, end_ids=(3, 5), pieces=lambda ids: [str(i) for i in ids], decode=str)
    examined = Examined(Responses(tokens, mask, zeros, zeros), zeros, zeros, None)
    learner = types.SimpleNamespace(reads_rows=True)
    chat.respond(types.SimpleNamespace(tokenizer=tokenizer, learner=learner, reply=lambda *_: examined), "4", 0, False)
    assert f"tokens: 2, {'ended by itself' if ended else 'cut off'};" in capsys.readouterr().out
