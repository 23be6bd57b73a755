"""`ppo_keras.runs.lock`: one process at a time trains a run."""

import contextlib
import errno
import json
import os
import re
import signal
import subprocess
import sys
import threading

import pytest

from ppo_keras.errors import InputError, LockWarning
from ppo_keras.runs import lock
from ppo_keras.runs.folder import Run

HOLD = "import sys, time; from ppo_keras.runs import lock\nwith lock.held(sys.argv[1]): {}"
posix = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def is_held(folder):
    try:
        lock.check_free(folder)
    except InputError:
        return True
    return False


@contextlib.contextmanager
def elsewhere(folder, action):
    """A process that holds the lock and then does something; yields it and the line that it printed."""
    process = subprocess.Popen([sys.executable, "-c", HOLD.format(action), str(folder)], stdout=subprocess.PIPE, text=True)
    try:
        yield process, process.stdout.readline()
    finally:
        process.kill()
        process.wait()


def test_a_killed_process_holds_nothing(tmp_path):
    """Catches: a second process let in, a message that does not say which one holds the run and since when, a lock that outlives `kill -9`."""
    folder = tmp_path / "run"
    with elsewhere(folder, "print(flush=True); time.sleep(60)") as (process, _):
        with pytest.raises(InputError, match=rf"run is in use: process {process.pid} on \S+, since \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d, trains it\."):
            with lock.held(folder):
                pytest.fail("two hold it")
        assert is_held(folder)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert lock.lock_file(folder).exists() and not is_held(folder)
    with lock.held(folder):
        assert is_held(folder)
    assert list(tmp_path.iterdir()) == []


@posix
def test_a_forked_child_does_not_keep_the_lock(tmp_path):
    """Catches: workers of an environment that outlive their killed parent, and nobody can resume the run."""
    action = "import os; os.fork() or print(os.getpid(), flush=True); time.sleep(60)"  # the child says it: by then it has let go
    with elsewhere(tmp_path / "run", action) as (process, child):
        process.kill()
        process.wait()
        try:
            os.kill(int(child), 0)  # it lives
            assert not is_held(tmp_path / "run")
        finally:
            os.kill(int(child), signal.SIGKILL)


def test_another_thread_is_refused_as_well(tmp_path):
    """Catches: two trainings of one run in one program (a lock that belongs to the process)."""
    found = []
    with lock.held(tmp_path / "run"):
        thread = threading.Thread(target=lambda: found.append(is_held(tmp_path / "run")))
        thread.start()
        thread.join()
    assert found == [True] and not is_held(tmp_path / "run")


def test_the_lock_is_let_go_whatever_ends_the_run(tmp_path):
    """Catches: a run that failed in a notebook and is in use for as long as the notebook lives."""
    with pytest.raises(KeyboardInterrupt), lock.held(tmp_path / "run"):
        raise KeyboardInterrupt
    assert not is_held(tmp_path / "run") and list(tmp_path.iterdir()) == []


def test_the_lock_outlives_the_renames_of_overwrite(tmp_path):
    """Catches: a lock that goes aside with the run that is replaced, or is deleted with the one that is discarded."""
    folder = Run.create(tmp_path, "run").folder
    (folder / "config.json").write_text("{}")
    with lock.held(folder):
        run = Run.create(tmp_path, "run", overwrite=True)
        assert is_held(folder)
        run.discard()
        assert is_held(folder)
        Run.create(tmp_path, "run", overwrite=True).keep()
        assert is_held(folder)


def test_seeds_and_links_lead_to_one_lock(tmp_path, monkeypatch):
    """Catches: a seed resumed while its run trains it, a link or a relative path as a way in, runs that share a lock in a folder with a `config.json`."""
    (tmp_path / "config.json").write_text("{}")  # of something else
    run = Run.create(tmp_path, "run")
    run.save_json("config.json", {})
    seed = run.part("seed-3")
    (tmp_path / "link").symlink_to("run")
    monkeypatch.chdir(run.folder)
    with lock.held(run.folder):
        assert all(map(is_held, (run.folder, seed.folder, tmp_path / "link", tmp_path / "link" / "seed-3", "seed-3", ".")))
        assert not is_held(tmp_path / "other")
        with lock.held(tmp_path / "other"):
            assert not is_held(tmp_path / "third")
    with lock.held(seed.folder):
        assert is_held(run.folder) and is_held("seed-4")


def test_a_lock_that_was_deleted_meanwhile_is_not_held(tmp_path, monkeypatch):
    """Catches: a process that locks the file which its holder has just deleted, while a third one makes a new file."""
    real, calls = lock._lock, []

    def slowly(file):
        if not calls:
            lock.lock_file(tmp_path / "run").unlink()
        calls.append(os.fstat(file).st_ino)
        real(file)

    monkeypatch.setattr(lock, "_lock", slowly)
    with lock.held(tmp_path / "run"):
        assert len(calls) == 2 and lock.lock_file(tmp_path / "run").stat().st_ino == calls[1]


@pytest.mark.parametrize("content", ["", "{", '{"process": 1}', "[]", "7"])
def test_a_holder_that_is_not_known(tmp_path, content):
    """Catches: a traceback where the holder has not written yet who it is."""
    with lock.held(tmp_path / "run"):
        facts = json.loads(lock.lock_file(tmp_path / "run").read_text())
        assert facts["process"] == os.getpid() and facts["host"] and re.match(r"\d{4}-", facts["since"])
        lock.lock_file(tmp_path / "run").write_text(content)
        with pytest.raises(InputError, match="run is in use: another process trains it"):
            lock.check_free(tmp_path / "run")


def test_a_file_system_without_locks_is_said(tmp_path, monkeypatch):
    """Catches: a file system on which nothing can be trained any more, or two processes that are let in without a word."""

    def none(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(lock, "_lock", none)
    ran = []
    with pytest.warns(LockWarning, match="has no locks.*nothing else trains"), lock.held(tmp_path / "run"):
        ran.append(True)
    lock.check_free(tmp_path / "run")
    assert ran and list(tmp_path.iterdir()) == []


def test_looking_creates_nothing(tmp_path):
    """Catches: a folder or a file of a command that is then refused."""
    lock.check_free(tmp_path / "runs" / "run")
    assert list(tmp_path.iterdir()) == []
