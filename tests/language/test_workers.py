"""`ppo_keras.language.workers`: a reward in processes of its own, where it may be slow, hang or die."""

import os
import subprocess
import sys
import time

import pytest

from ppo_keras.errors import InputError
from ppo_keras.language.reward_function import Call, CallFailed
from ppo_keras.language.workers import Workers

REWARDS = """
import os, pathlib, signal, subprocess, sys, time

class Odd:
    def __reduce__(self):
        return len, (1,)

def act(prompt, response):
    if response == "die":
        os._exit(7)
    if response == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if response == "hang":
        pathlib.Path("hangs").write_text(str(os.getpid()))
        time.sleep(600)
    if response == "raise":
        raise KeyError("stars")
    if response == "exit":
        sys.exit(5)
    if response == "odd":
        return Odd()
    if response == "leave":
        pathlib.Path("left").write_text(str(subprocess.Popen(["sleep", "600"]).pid))
        os._exit(7)
    if response == "strange":
        return lambda: 0
    if response == "who":
        return os.getpid()
    if response == "meet":  # two processes wait for each other
        place = pathlib.Path("here")
        place.mkdir(exist_ok=True)
        (place / prompt).touch()
        while len(list(place.iterdir())) < 2:
            time.sleep(0.01)
    print("a line that is no answer")
    return float(len(response)), "tensorflow" in sys.modules, sys.stdin.read()
"""


@pytest.fixture
def workers(tmp_path, monkeypatch):
    """A function that makes `Workers` of the module above."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "worked_rewards.py").write_text(REWARDS)
    made = []
    yield lambda processes=1, timeout=None, name="worked_rewards:act": made.append(Workers(name, processes, timeout)) or made[-1]
    for one in made:
        one.close()


def call(*responses):
    return [Call((str(number), response), {}) for number, response in enumerate(responses)]


def gone(pid):
    """Whether a process has ended, within a while."""
    for _ in range(500):
        try:
            os.kill(pid, 0)
            state = open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[0] if os.path.exists(f"/proc/{pid}/stat") else "?"
            if state == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.02)
    return False


def test_values_come_in_order_from_processes_without_tensorflow(workers, capfd):
    """Catches: values in the order in which they were ready, TensorFlow loaded in each process, a line that a function prints taken for a value."""
    values = workers(2)(call("aaa", "", "aaaaa", "a"))
    assert values == [(3.0, False, ""), (0.0, False, ""), (5.0, False, ""), (1.0, False, "")]
    out, err = capfd.readouterr()
    assert out == "" and err.count("a line that is no answer") == 4  # of two processes: their ends of lines may come later


def test_processes_work_side_by_side_and_stay(workers):
    """Catches: one call after the other, processes begun anew for each batch, some left when they are closed."""
    two = workers(2)
    two(call("meet", "meet"))  # returns only if both run
    pids = {two(call("who"))[0] for _ in range(3)} | set(two(call("who", "who", "who", "who")))
    assert os.getpid() not in pids and pids <= {worker.process.pid for worker in two.running}
    mine = [worker.process.pid for worker in two.running]
    two.close()
    assert not two.running and all(map(gone, mine))
    assert two(call("a"))[0][0] == 1.0  # and begins again


@pytest.mark.parametrize(
    "response, what",
    [
        ("raise", "raised KeyError: 'stars'"),
        ("exit", "raised SystemExit: 5"),
        ("die", "ended its process with exit code 7"),
        ("crash", "was ended by SIGSEGV"),
        ("strange", "raised "),  # cannot be sent
        ("odd", "returned what cannot be read outside its process (object of type 'int'"),  # is sent, but cannot be made again
    ],
)
def test_what_goes_wrong_in_a_process(workers, response, what):
    """Catches: a call that waits for ever for a process that is gone, the wrong call blamed, processes left behind."""
    two = workers(2)
    two.start()
    mine = [worker.process.pid for worker in two.running]
    with pytest.raises(CallFailed) as caught:
        two(call("a", "a", response, "a", "a", "a"))
    assert caught.value.number == 2 and caught.value.what.startswith(what)
    assert not two.running and all(map(gone, mine))
    assert two(call("aa"))[0][0] == 2.0


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="groups of processes")
def test_what_a_dead_process_began_is_ended(workers, tmp_path):
    """Catches: programs of a reward that go on when it ended its own process."""
    with pytest.raises(CallFailed, match="exit code 7"):
        workers(1)(call("leave"))
    assert gone(int((tmp_path / "left").read_text()))


def test_a_call_that_takes_too_long(workers):
    """Catches: a limit that is not kept, or that leaves the process running."""
    two = workers(2, timeout=2.0)  # the calls before it have this long on a busy machine
    two.start()
    mine = [worker.process.pid for worker in two.running]
    with pytest.raises(CallFailed) as caught:
        two(call("a", "hang", "a"))
    assert (caught.value.number, caught.value.what) == (1, "took longer than 2 seconds") and all(map(gone, mine))


def test_ctrl_c_ends_the_processes(workers, monkeypatch):
    """Catches: a second Ctrl-C that waits for a function that hangs."""
    one = workers(1)
    one.start()
    (pid,) = [worker.process.pid for worker in one.running]

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("concurrent.futures.wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        one(call("hang"))
    assert gone(pid) and not one.running


def test_a_function_that_is_not_there(workers, tmp_path):
    """Catches: a process that waits for the message of another one that could not begin."""
    with pytest.raises(InputError, match="has no function 'nothing'"):
        workers(2, name="worked_rewards:nothing")(call("a"))
    (tmp_path / "ends.py").write_text("import os\nos._exit(4)\n")
    with pytest.raises(InputError, match="a process of the reward ended its process with exit code 4 before it had imported"):
        workers(1, name="ends:now")(call("a"))


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="signals of Unix")
def test_nothing_is_left_where_the_parent_is_killed(workers, tmp_path):
    """Catches: processes that go on computing when nobody waits for them."""
    code = "from ppo_keras.language.workers import Workers; from ppo_keras.language.reward_function import Call; "
    code += "Workers('worked_rewards:act', 2)([Call(('', 'hang'), {})])"
    parent = subprocess.Popen([sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))})
    while not ((tmp_path / "hangs").exists() and (tmp_path / "hangs").read_text()):
        assert parent.poll() is None
        time.sleep(0.02)
    parent.kill()
    parent.wait()
    assert gone(int((tmp_path / "hangs").read_text()))


def test_nothing_is_left_at_the_end_of_python(workers):
    """Catches: processes that only `close` ends."""
    code = "from ppo_keras.language.workers import Workers; w = Workers('worked_rewards:act', 1); w.start(); print(w.running[0].process.pid)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    )
    assert done.returncode == 0 and done.stderr == "" and gone(int(done.stdout))
