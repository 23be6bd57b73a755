"""`ppo_keras.tasks.training`: the frame of every task, with jobs that do nothing."""

import signal
import threading
import types

import pytest

from ppo_keras.commands.main import main
from ppo_keras.environments.config import EnvironmentConfig
from ppo_keras.errors import InputError
from ppo_keras.runs import lock
from ppo_keras.runs.folder import Run
from ppo_keras.tasks.training import run_job
from runs_of_agents import command as run_command
from runs_of_agents import contents, error_line


class Job:
    """A job that calls what it is given."""

    def __init__(self, prepare=lambda run, interrupt: None, improve=lambda run, interrupt: None):
        self.prepare, self.improve, self.close, self.data = prepare, improve, lambda: None, []


def settings(folder, name="first", overwrite=False):
    return EnvironmentConfig(runs_folder=str(folder), run=name, overwrite=overwrite)


@pytest.fixture
def busy(tmp_path):
    """A run of two seeds that another process is training (its lock is held)."""
    run = Run.create(tmp_path, "busy")
    for one in (run, run.part("seed-0")):
        one.save_json("config.json", {"task": "cartpole", "seeds": 2})
    with lock.held(run.folder):
        yield run


@pytest.mark.parametrize("options", ["--run busy", "--run busy --overwrite", "--resume busy", "--resume busy/seed-0"])
def test_a_run_in_progress_is_left_alone(busy, tmp_path, options):
    """Catches: two processes that write into one run, or a run that is set aside while it is trained."""
    before = contents(tmp_path)
    line = error_line(run_command("train", "cartpole", *options.split(), "--runs-folder", str(tmp_path)))
    assert "is in use: process " in line and "since" in line and "--run" in line
    assert contents(tmp_path) == before and sorted(path.name for path in tmp_path.iterdir()) == [".busy.lock", "busy"]


def test_the_lock_is_held_from_the_first_file_to_the_last(tmp_path):
    """Catches: a lock that is taken after the run was made, let go before its end, or kept after it."""
    held = []

    def look(run, interrupt):
        with pytest.raises(InputError, match="in use"):
            lock.check_free(run.folder)
        held.append(run.folder.name)

    run_job(settings(tmp_path), lambda: Job(look, look))
    Run(tmp_path / "first").save_json("config.json", {})
    run_job(settings(tmp_path, overwrite=True), lambda: Job(look, look))
    Run(tmp_path / "first").save_json("config.json", {})
    run_job(settings(tmp_path), lambda: Job(look, look), resume=True)
    assert len(held) == 6 and [path.name for path in tmp_path.iterdir()] == ["first"]
    lock.check_free(tmp_path / "first")


def test_who_came_second_finds_the_run_of_the_first(tmp_path):
    """Catches: two trainings of one name that begin together: the slower one writes into the folder of the other."""

    def make_job():  # while it reads its data, another process begins and ends
        run = Run.create(tmp_path, "first")
        run.save_json("config.json", {"seed": 1})
        return Job()

    with pytest.raises(InputError, match="first exists already"):
        run_job(settings(tmp_path), make_job)
    assert contents(tmp_path) == {"first/config.json": b'{\n  "seed": 1\n}\n'}


def test_training_works_outside_the_main_thread(tmp_path):
    """Catches: an empty run folder and "signal only works in main thread", where a server or a GUI trains in a thread."""
    found, handler = [], signal.getsignal(signal.SIGINT)

    def work():
        try:
            found.append(run_job(settings(tmp_path), lambda: Job(improve=lambda run, interrupt: interrupt.pressed)))
        except BaseException as error:
            found.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [False] and signal.getsignal(signal.SIGINT) is handler


def test_ctrl_c_while_the_folder_is_made_leaves_none(tmp_path, monkeypatch):
    """Catches: a run folder that is left where Ctrl-C comes between making it and guarding it, or a run that is set aside and not put back."""
    Run.create(tmp_path, "first").save_json("config.json", {"seed": 1})
    before, create = contents(tmp_path), Run.create

    def press(*place):
        run = create(*place)
        signal.raise_signal(signal.SIGINT)
        return run

    monkeypatch.setattr(Run, "create", press)
    with pytest.raises(KeyboardInterrupt):
        run_job(settings(tmp_path, overwrite=True), lambda: Job(lambda run, interrupt: interrupt.check()))
    assert contents(tmp_path) == before and [path.name for path in tmp_path.iterdir()] == ["first"]


@pytest.mark.parametrize("ended", [False, True])
def test_what_has_ended_cannot_go_on(tmp_path, capsys, ended):
    """Catches: advice to resume a run whose last table could not be printed."""

    def fail(run, interrupt):
        run.states("training").write(1, {})
        if ended:
            run.save_json("summary.json", {})
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        run_job(settings(tmp_path), lambda: Job(improve=fail))
    assert ("--resume" in capsys.readouterr().err) != ended


@pytest.mark.parametrize("stage", ["reward", "judge"])
def test_ctrl_c_in_the_first_epoch_of_a_scorer(tmp_path, monkeypatch, capsys, stage):
    """Catches: a `KeyError` for the accuracy of an epoch that did not end, instead of "Stopped."."""
    from ppo_keras.tasks import generation

    def cut_short(model, *arrays, **training):
        if model.name == stage:
            signal.raise_signal(signal.SIGINT)
        return types.SimpleNamespace(history={} if model.name == stage else {"val_accuracy": [0.5], "val_cross_entropy": [1.0]})

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(generation, "train_language_model", lambda *_, **__: types.SimpleNamespace(history={"val_cross_entropy": [1.0]}))
    monkeypatch.setattr(generation, "train_classifier", cut_short)
    assert main(["train", "generation", *"--width 8 --heads 2 --layers 1 --no-jit --vocabulary-size 600".split()]) == 130
    assert capsys.readouterr().err.splitlines()[-1] == "Stopped." and list((tmp_path / "runs").iterdir()) == []
