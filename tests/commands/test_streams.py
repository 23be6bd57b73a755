"""What a command is started with and stopped by: pipes that end, letters that are lacking, streams that are closed, an early Ctrl-C."""

import configparser
import contextlib
import io
import logging
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from rich.table import Table

from ppo_keras.__main__ import run
from ppo_keras.commands import main as command_line
from ppo_keras.commands.main import main
from ppo_keras.commands.quiet import quiet_start, remembered_interrupt
from ppo_keras.commands.streams import BROKEN_PIPE
from ppo_keras.errors import InputError
from ppo_keras.reports.tables import new_console


@pytest.fixture
def command(monkeypatch):
    """A function: runs `ppo-keras train generation`, which does nothing but what it is given; its exit code."""

    def start(action):
        monkeypatch.setattr("ppo_keras.commands.parser.train", lambda *_: action())
        return main(["train", "generation"])

    return start


@contextlib.contextmanager
def unread(monkeypatch):
    """stdout as a pipe whose reader has gone."""
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w", encoding="utf-8") as stream, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        yield
        stream.flush()  # as Python does when it ends


def table():
    rows = Table("a")
    rows.add_row("b")
    new_console().print(rows)


def fail():
    print("before it")
    raise OSError(28, "No space left on device", "runs/x")


@pytest.mark.parametrize(
    "action",
    [lambda: print("a line", flush=True), lambda: print("a line"), table, lambda: print("a line\n" * 100_000)],
    ids=["flushed", "left to the end", "a table", "more than a pipe holds"],
)
def test_a_pipe_that_ends_is_no_error(command, monkeypatch, capsys, action):
    """Catches: `| head -1` that says "disk full", Rich's exit code 1, an error of Python's own when it ends."""
    with unread(monkeypatch):
        assert command(action) == BROKEN_PIPE == 141
    assert capsys.readouterr().err == ""


def test_help_into_a_pipe_that_ends(monkeypatch, capsys):
    """Catches: `ppo-keras --help | head -1` that ends with "Exception ignored ... BrokenPipeError"."""
    with unread(monkeypatch):
        assert main(["--help"]) == BROKEN_PIPE
    assert capsys.readouterr().err == ""


def test_other_pipes_that_break_are_said(command, capsys):
    """Catches: a worker of an environment that died, and the command ends without a word because stdout is a pipe, too."""

    def broken():
        raise BrokenPipeError(32, "Broken pipe")

    assert command(broken) == 2 and "Broken pipe" in capsys.readouterr().err


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_an_output_that_is_full_is_said(command, monkeypatch, capsys):
    """Catches: exit code 0, or 120 with an error of Python's own, where the file that takes the output has no room."""
    with open("/dev/full", "w", encoding="utf-8") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert command(lambda: print("a line")) == 2
    assert capsys.readouterr().err.startswith("ppo-keras: error: No space left on device")


def test_what_was_printed_before_an_error_is_kept(command, capfd):
    """Catches: lines thrown away because another file could not be written."""
    assert command(fail) == 2
    shown = capfd.readouterr()
    assert shown.out == "before it\n" and shown.err == "ppo-keras: error: No space left on device (runs/x). Is the disk full, or the folder read-only?\n"


@pytest.mark.parametrize("encoding, shown", [("ascii", "\\u597d \\xe9"), ("cp1252", "\\u597d é"), ("utf-8", "好 é")])
def test_letters_that_stdout_lacks_are_written_as_numbers(command, monkeypatch, encoding, shown):
    """Catches: a traceback under `PYTHONIOENCODING=ascii`, or in a pipe of Windows, for a label, a table, a run's name."""
    written = io.BytesIO()
    stream = io.TextIOWrapper(written, encoding=encoding)
    monkeypatch.setattr(sys, "stdout", stream)

    def show():
        print("好 é")
        rows = Table("好 é")
        new_console().print(rows)

    assert command(show) == 0
    lines = written.getvalue().decode(encoding)
    assert lines.startswith(shown) and lines.count(shown) == 2 and stream.errors == "strict"


@pytest.mark.parametrize("name", ["stdout", "stderr", "stdin"])
def test_a_stream_that_is_closed(command, monkeypatch, name):
    """Catches: `None` that is written to or read from: `2>&-`, `>&-`, `<&-`, a program without a console."""
    seen = []

    def use():
        with quiet_start():
            print("a line")
            print("a line", file=sys.stderr)
            seen.append(sys.stdin.readline() if name == "stdin" else None)

    monkeypatch.setattr(sys, name, None)
    assert command(use) == 0 and seen in ([""], [None]) and getattr(sys, name) is None
    assert command(fail) == 2


@pytest.mark.skipif(os.name != "posix", reason="needs a shell")
def test_no_file_takes_the_place_of_a_closed_stream(tmp_path):
    """Catches: TensorFlow's notes, or a traceback, in a file of the run, which was given the number of the closed stderr."""
    code = "import os; from ppo_keras.commands.streams import usable_streams\nwith usable_streams(): print(os.open('file', os.O_CREAT | os.O_WRONLY) > 2)"
    done = subprocess.run(["sh", "-c", '"$0" -c "$1" 2>&- <&-', sys.executable, code], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    assert done.stdout == "True\n"


# Ctrl-C.


def test_ctrl_c_while_the_command_itself_is_imported(monkeypatch, capsys):
    """Catches: a traceback in the first half second; a script `ppo-keras` that begins behind the guard."""

    def press(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(command_line, "main", press)
    assert run() == 130 and capsys.readouterr().err == "Stopped.\n"
    setup = configparser.ConfigParser()
    setup.read(Path(__file__).parents[2] / "setup.cfg")
    assert "ppo-keras = ppo_keras.__main__:run" in setup["options.entry_points"]["console_scripts"]


def swallowed():
    try:
        signal.raise_signal(signal.SIGINT)
    except BaseException:
        pass


def made_another():
    try:
        signal.raise_signal(signal.SIGINT)
    except BaseException as error:
        raise ImportError("cannot import name") from error


@pytest.mark.parametrize("others_code", [swallowed, made_another, lambda: signal.raise_signal(signal.SIGINT)])
def test_ctrl_c_is_not_lost_while_others_are_imported(command, capsys, others_code):
    """Catches: a Ctrl-C in the first seconds that a library catches: the command goes on, or calls it an import that failed."""
    reached = []

    def start():
        with quiet_start():
            others_code()
        reached.append(True)

    assert command(start) == 130 and not reached and capsys.readouterr().err == "Stopped.\n"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_import_that_fails_says_so():
    """Catches: every error of the first seconds taken for Ctrl-C; another handler than Python's replaced; a thread refused."""
    with pytest.raises(InputError, match="gone"), remembered_interrupt():
        raise InputError("gone")
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with remembered_interrupt():
            assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, handler)
    found = []

    def work():
        with remembered_interrupt():
            found.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [True]


def test_programs_of_several_seeds_are_not_remarked_on():
    """Catches: a remark of TensorFlow's that functions are traced too often, between the bars of whoever trains five seeds; other warnings hidden with it."""
    import tensorflow as tf

    logger, shown = tf.get_logger(), []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: shown.append(record.getMessage())
    kept, logger.filters = logger.filters, []
    logger.addHandler(handler)
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        for quiet in (False, True):
            for _ in range(2 if quiet else 0):
                with quiet_start():
                    pass
            for _ in range(8):
                tf.function((lambda x: x) if quiet else (lambda x: -x), autograph=False)(tf.constant(1.0))
            assert any("retracing" in message for message in shown) != quiet
            shown.clear()
        logger.warning("something else")
        assert shown == ["something else"] and len(logger.filters) == 1
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.filters = kept
