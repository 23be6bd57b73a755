"""A reward function in processes of its own: several calls at a time, each with a time limit, and one that dies takes nothing with it.

They are plain processes that speak over pipes, not `multiprocessing`: that would import the script of the user once more in each, and
TensorFlow with it. Each leads a group of processes, which is ended as a whole, and ends by itself when its parent is gone.
"""

import concurrent.futures
import contextlib
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading

from ppo_keras.errors import InputError
from ppo_keras.language.reward_function import CallFailed, load_function

GROUPS = hasattr(os, "killpg")  # not on Windows


class Workers:
    """Calls a function in several processes, which begin with the first call, and end with `close`, or with this one: each hears its pipe closed.

    A function that draws random numbers draws others in each process, and after `--resume` others than before.

    Args:
        name: of the function, `module:function`.
        processes: how many.
        timeout: most seconds that a call may take; None: any number.
    """

    def __init__(self, name, processes, timeout=None):
        self.name, self.processes, self.timeout, self.running = name, processes, timeout, []

    def __call__(self, calls):
        """The values of `Call`s, in their order.

        Raises:
            InputError: the function cannot be imported there.
            CallFailed: a call raised, took too long, or ended its process; no process is left then.
        """
        try:
            self.start()
            free = queue.SimpleQueue()
            for worker in self.running:
                free.put(worker)

            def ask(number):
                worker = free.get()
                try:
                    return worker.ask(number, calls[number])
                finally:
                    free.put(worker)

            with concurrent.futures.ThreadPoolExecutor(self.processes) as threads:
                asked = [threads.submit(ask, number) for number in range(len(calls))]
                try:
                    concurrent.futures.wait(asked, return_when=concurrent.futures.FIRST_EXCEPTION)
                    failed = [one.exception() for one in asked if one.done() and one.exception()]
                    if failed:
                        raise failed[0]
                    return [one.result() for one in asked]
                except BaseException:
                    for one in asked:
                        one.cancel()
                    self.close()  # the threads end with what they wait for
                    raise
        except BaseException:
            self.close()
            raise

    def start(self):
        """Begins the processes, where there are none."""
        if not self.running:
            self.running.extend(_Worker(self.name, self.timeout) for _ in range(self.processes))
            for worker in self.running:
                worker.check()

    def close(self):
        """Ends the processes, whatever they are doing."""
        while self.running:
            self.running.pop().end()


class _Worker:
    """One process; the arguments are those of `Workers`."""

    def __init__(self, name, timeout):
        self.timeout, self.late = timeout, False
        code = f"import sys; sys.path[:] = {sys.path!r}; from {__name__} import serve; serve({name!r})"
        self.process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)

    def check(self):
        """Waits until the function is imported. Raises `InputError` where it cannot be."""
        try:
            problem = pickle.load(self.process.stdout)
        except (EOFError, OSError, pickle.UnpicklingError):
            problem = f"a process of the reward {self._how_it_ended()} before it had imported the function."
        if problem:
            raise InputError(problem)

    def ask(self, number, call):
        """The value of one call. Raises `CallFailed`."""
        timer = threading.Timer(self.timeout, self._stop) if self.timeout else None
        try:
            if timer:
                timer.daemon = True
                timer.start()
            pickle.dump(tuple(call), self.process.stdin)
            self.process.stdin.flush()
            raised, value = pickle.load(self.process.stdout)
        except (EOFError, OSError, ValueError, pickle.UnpicklingError):
            what = f"took longer than {self.timeout:g} seconds" if self.late else self._how_it_ended()
            raise CallFailed(number, what) from None
        except Exception as error:  # making a value of somebody else's kind may raise anything
            raise CallFailed(number, f"returned what cannot be read outside its process ({error})") from error
        finally:
            if timer:
                timer.cancel()
        if raised:
            raise CallFailed(number, f"raised {raised}")
        return value

    def _stop(self):
        self.late = True
        self._kill()

    def _kill(self):
        with contextlib.suppress(OSError):
            if GROUPS:
                os.killpg(self.process.pid, signal.SIGKILL)
            else:
                self.process.kill()

    def _how_it_ended(self):
        try:
            code = self.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            return "no longer answered"
        with contextlib.suppress(ValueError):
            if code < 0:
                return f"was ended by {signal.Signals(-code).name}"
        return f"ended its process with exit code {code}"

    def end(self):
        """Kills the process and those that it began, and waits for it."""
        self._kill()  # also where it has ended by itself: what it began is in its group
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            with contextlib.suppress(OSError):
                pipe.close()


def serve(name):
    """What a process does: it answers calls of the function that come over its standard input, until that is closed.

    What the function prints goes to standard error; where it reads, there is nothing.
    """
    calls, values = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    waiting = queue.SimpleQueue()

    def listen():  # also while the function computes: its parent may be gone
        with contextlib.suppress(Exception):
            while True:
                waiting.put(pickle.load(calls))
        if GROUPS and os.getpgrp() == os.getpid():
            os.killpg(0, signal.SIGKILL)
        os._exit(1)

    def send(answer):
        values.write(answer)
        values.flush()

    threading.Thread(target=listen, daemon=True).start()
    try:
        function = load_function(name)
    except InputError as error:
        return send(pickle.dumps(str(error)))
    send(pickle.dumps(None))
    while True:
        texts, named = waiting.get()
        try:
            answer = pickle.dumps((None, function(*texts, **named)))
        except (Exception, SystemExit) as error:
            answer = pickle.dumps((f"{type(error).__name__}: {error}", None))
        send(answer)
