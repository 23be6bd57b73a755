"""Chapters of the tutorial, each run in a process of its own that has imported TensorFlow already; nothing here is a test."""

import contextlib
import io
import multiprocessing
import os
import sys
import traceback
from pathlib import Path

import keras
import tensorflow as tf

from chapter import SOLVED

ROOT = Path(__file__).parents[1]
PRELOADED = ["chapters", "ppo_keras.tasks.generation", "ppo_keras.tasks.classification", "ppo_keras.tasks.environment", "jupytext"]
QUICK = {  # chapter: what is put in place of what; its assertions still hold
    "05_4_transformer_ppo": {
        "SUPERVISED_STEPS, ITERATIONS = 250, 15": "SUPERVISED_STEPS, ITERATIONS = 150, 8",
        "writer = Writer(tokenizer.vocabulary_size, width=64, layers=2": "writer = Writer(tokenizer.vocabulary_size, width=64, layers=1",
    },
    "05_5_compiled_loops": {"ITERATIONS = 40": "ITERATIONS = 20"},
    "06_1_text_generation": {
        "ITERATIONS = 30": "ITERATIONS = 16",
        "Adam(1e-3, epsilon": "Adam(1.5e-3, epsilon",
        "VOCABULARY, PROMPT, BATCH = 64, 2000": "VOCABULARY, PROMPT, BATCH = 64, 1000",
        "supervised_epochs=8": "supervised_epochs=7",
        'make_prompts("test", 256, seed=1)': 'make_prompts("test", 128, seed=1)',
    },
    "06_4_translation": {
        "ITERATIONS, EVERY = 30, 10": "ITERATIONS, EVERY = 20, 10",
        "BATCH, GROUP = 512, 8": "BATCH, GROUP = 256, 8",
        "supervised_epochs=18": "supervised_epochs=12",
    },
    "06_5_large_language_model": {
        "ITERATIONS, RESPONSE = 8, 6": "ITERATIONS, RESPONSE = 3, 3",
        "] * 3, 16, temperature": "] * 2, 8, temperature",
        "@tf.function(autograph=False)\n": "",  # a few tokens are written sooner than thirty blocks are traced
    },
    "08_outlook": {"ITERATIONS = 50": "ITERATIONS = 30"},
    "09_faq": {"SEEDS = 4": "SEEDS = 2"},
}
# With XLA: the chapter whose subject it is, and those that run for longer than they compile. The others give the same numbers
# without it (test_training_is_the_same_in_every_mode), sooner.
LONG_WITH_XLA = ("06_4_translation",)
WITH_XLA = ("05_5_compiled_loops", *LONG_WITH_XLA)


def run_chapter(name, full=False, environment=None):
    """Runs the English script with the solutions of its exercises.

    Args:
        name: of the chapter.
        full: as it is published; else with XLA only where it is the subject, and smaller.
        environment: variables of its process.

    Returns:
        What it printed, and the traceback of its end or "". An early end by `SystemExit(0)` is none.
    """
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(PRELOADED)
    told, tell = processes.Pipe(duplex=False)
    process = processes.Process(target=_child, args=(name, full, environment or {}, tell))
    process.start()
    tell.close()
    try:
        return told.recv()
    except EOFError:
        return "", f"{name} ended without a word"
    finally:
        process.join()


def _child(name, full, environment, told):
    path = ROOT / "tutorials" / "en" / f"{name}.py"
    code = path.read_text(encoding="utf-8")
    os.environ.update(environment | {SOLVED: "1"})
    if full or name in LONG_WITH_XLA:
        os.environ.pop("XLA_FLAGS", None)  # conftest's compile fast and run slowly
    if not full:
        tf.config.threading.set_intra_op_parallelism_threads(1)  # the other core has other tests to run
        for published, quick in QUICK.get(name, {}).items():
            assert published in code, f"{name} has no {published!r} any more"
            code = code.replace(published, quick)
        if name not in WITH_XLA:
            _without_xla()
    os.chdir(ROOT)
    sys.modules["__main__"].__file__ = str(path)
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            exec(compile(code, str(path), "exec"), {"__name__": "__main__", "__file__": str(path)})
        told.send((printed.getvalue(), ""))
    except BaseException as error:
        well = isinstance(error, SystemExit) and not error.code
        told.send((printed.getvalue(), "" if well else traceback.format_exc()))
    os._exit(0)


def _without_xla():
    """Whatever asks for XLA gets a graph."""
    function, compile_model = tf.function, keras.Model.compile
    tf.function = lambda *args, jit_compile=None, **kwargs: function(*args, **kwargs)
    keras.Model.compile = lambda *args, **kwargs: compile_model(*args, **{**kwargs, "jit_compile": False})
