"""`ppo_keras.reports.tables`: what is printed is what was given, whole, in a terminal and in a pipe."""

import io
import re
import sys
import types

import numpy as np
import pytest

from ppo_keras.datasets.loader import Split
from ppo_keras.reports import tables
from ppo_keras.reports.measures import MEASURES

NAME = "[red]a[/] :smile: [x] [/nothing] \\[b]"
LONG = "runs/" + "reviews-with-a-long-name-" * 4


class Folder:
    """A path whose name and parent are hard to print."""

    parent = NAME

    def __format__(self, spec):
        return NAME


def evaluation(text):
    return types.SimpleNamespace(prompts=[text], responses=[text], reward=1.0, positive=None, kl=1.0, distinct_1=1.0, distinct_2=1.0, length=1.0, ended=1.0,
                                 perplexity=1.0)  # fmt: skip


def measured(name):
    interval = dict(estimate=1.0, low=0.5, high=1.5)
    return {"run": name, "stage": "after", "count": 3, "units": "episodes", "reward_is": name, "measures": {next(iter(MEASURES)): interval}}


def comparison(name):
    interval = dict(estimate=1.0, low=0.5, high=1.5)
    rows = [{"prompt": name, "first": name, "first_score": 1.0, "second": name, "second_score": 1.0}]
    return {"units": "prompts", "first": name, "second": name, "rows": rows, "reward_is": name} | dict.fromkeys(
        ("first_mean", "second_mean", "difference", "second_wins"), interval
    )  # fmt: skip


AGENT = {"task": f"gym:{NAME}", "model": "mlp", "environment_steps": 8, "episode_return": 1.0, "seconds": 1.0}
PRINTED = {  # what prints a name, and how many times
    "evaluations": (lambda: tables.print_evaluations(evaluation(NAME), evaluation(NAME), AGENT, Folder(), reward_is="r", judged=NAME), 5),
    "answers": (lambda: tables.print_answers(Split([NAME], references=[[NAME]]), [NAME], [NAME], {"f_before": 1, "f_after": 1}, AGENT, Folder()), 6),
    "labels": (lambda: tables.print_labels({"ppo": {"accuracy": 1.0, "f1": 1.0, "cost": 0.0}}, AGENT | {"test_texts": 1}, Folder()), 2),
    "place": (lambda: tables.print_place(AGENT, Folder()), 2),
    "agent": (lambda: tables.print_agent(AGENT, Folder()), 3),
    "seeds": (lambda: tables.print_seeds(AGENT | {"seeds": [], NAME: None}, [NAME], Folder()), 4),
    "measures": (lambda: tables.print_measures([measured(NAME)]), 4),
    "comparison": (lambda: tables.print_comparison(comparison(NAME), 1, NAME), 9),
    "tokens": (lambda: tables.print_tokens(NAME, NAME, {"token": [NAME], "log-probability": [0.0], "KL": [0.0]}, True, None), 3),
    "labels of": (lambda: tables.print_labels_of(NAME, [NAME], np.ones(1), np.ones(1), 0.0), 2),
}


@pytest.mark.parametrize("kind", PRINTED)
def test_names_are_printed_as_they_are(kind, capsys):
    """Catches: a run, a label, a prompt or a response whose `[x]` is taken for markup and vanishes, or raises; `:smile:` drawn."""
    show, times = PRINTED[kind]
    show()
    assert capsys.readouterr().out.count(NAME) == times


def test_a_pipe_has_no_width(capsys, monkeypatch):
    """Catches: two runs that look alike because a file or a pipe is taken for a terminal of 80 columns (or of COLUMNS)."""
    monkeypatch.setenv("COLUMNS", "60")
    tables.print_measures([measured(LONG + "a"), measured(LONG + "b")])
    shown = capsys.readouterr().out
    assert shown.count(LONG + "a") == shown.count(LONG + "b") == 4 and "…" not in shown
    assert max(map(len, shown.splitlines())) < 600


@pytest.mark.parametrize("width", [40, 60])
def test_a_terminal_wraps_and_cuts_nothing(monkeypatch, width):
    """Catches: a name or a number cut with an ellipsis in a narrow terminal."""

    class Terminal(io.StringIO):
        isatty = lambda self: True

    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stdout", Terminal())
    tables.print_measures([measured(LONG + "a"), measured(LONG + "b")])
    shown = re.sub(r"\x1b\[[\d;]*m", "", sys.stdout.getvalue()).split("The reward")[0]
    assert "…" not in shown and max(map(len, shown.splitlines())) <= width
    cells = [line.split("┃")[2:4] for line in shown.splitlines() if line.count("┃") == 4]
    columns = ["".join(part.strip() for part in column) for column in zip(*cells)]
    assert [re.sub(r"after,.*", "", column) for column in columns] == [LONG + "a", LONG + "b"]


def test_a_notebook_has_a_width(capsys, monkeypatch):
    """Catches: tables as wide as their longest response in the page of a notebook."""
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    tables.print_measures([measured(LONG + "a")])
    assert max(map(len, capsys.readouterr().out.split("The reward")[0].splitlines())) <= 80
