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
# Chapter: what is put in place of what where CI runs it. A training is an iteration or a few there, or an epoch, sometimes without
# compilation or without a repetition; assertions about what a long training learns are left out, by their text. Those about mathematics,
# shapes, equality, errors and files hold, and so do the exercises. `pytest -m full` runs the chapters as published, with every assertion.
QUICK = {
    "01_introduction": {
        "ITERATIONS = 14": "ITERATIONS = 2",
        "supervised_epochs=4": "supervised_epochs=1",
        "assert losses[-1] < losses[0]\n": "",
        "assert after.reward > max(before.reward + 0.3, 0.6)\n": "",
        "assert abs(before.kl) < 1e-3 < 1 < after.kl and after.distinct_2 < before.distinct_2": "assert abs(before.kl) < 1e-3 < after.kl",
    },
    "02_language_models_and_ppo": {
        "EPOCHS = 3": "EPOCHS = 1",
        "assert losses[-1] < losses[0] < np.log": "assert losses[0] < np.log",
    },
    "05_2_the_article_corrected": {
        "ITERATIONS = 25": "ITERATIONS = 1",
        "assert shares[0] < 0.3 and np.mean(shares[-5:]) > 0.8 and right > 0.9, (shares, right)": "assert shares[0] < 0.3",
        "assert np.mean(shares[-5:]) > np.mean(spoiled[-5:]) + 0.15\n": "",
    },
    "05_3_lstm_ppo": {
        "SUPERVISED_STEPS, ITERATIONS = 200, 20": "SUPERVISED_STEPS, ITERATIONS = 10, 1",
        "assert np.mean(cross_entropies[-10:]) < cross_entropies[0] - 2\n": "",
        "assert after > before + 0.3, (before, after)\n": "",
        "assert min(ends) > before + 0.2\n": "",
    },
    "05_4_transformer_ppo": {
        "SUPERVISED_STEPS, ITERATIONS = 250, 15": "SUPERVISED_STEPS, ITERATIONS = 10, 1",
        "writer = Writer(tokenizer.vocabulary_size, width=64, layers=2": "writer = Writer(tokenizer.vocabulary_size, width=64, layers=1",
        "assert np.mean(cross_entropies[-10:]) < cross_entropies[0] - 2\n": "",
        "assert after > before + 0.3, (before, after)\n": "",
        "assert min(ends) > before + 0.2\n": "",
    },
    "05_5_compiled_loops": {
        "ITERATIONS = 40": "ITERATIONS = 2",
        "steps_per_execution=20": "steps_per_execution=2",
        "jit_compile=True, iterations_per_call=20": "jit_compile=False, iterations_per_call=2",
        '1 if name == "eager" else 4)': "1)",
    },
    "06_1_text_generation": {
        "ITERATIONS = 30": "ITERATIONS = 1",
        "VOCABULARY, PROMPT, BATCH = 64, 2000": "VOCABULARY, PROMPT, BATCH = 64, 1000",
        "supervised_epochs=8": "supervised_epochs=1",
        "    assert max(accuracy) > 0.7\n": "",
        'make_prompts("test", 256, seed=1)': 'make_prompts("test", 64, seed=1)',
        "assert after.reward > before.reward + 0.1\n": "",
        "assert after.positive > before.positive + 0.1\n": "",
        "assert after.kl < 15 and after.perplexity < 1.5 * before.perplexity\n": "",
        "assert after.distinct_2 < before.distinct_2\n": "",
        "assert hacked.reward > max(0.9, after.reward + 0.02)\n": "",
        "assert hacked.kl > 2.5 * after.kl\n": "",
        "assert hacked.perplexity > 1.5 * max(before.perplexity, after.perplexity)\n": "",
        "assert hacked.distinct_2 < min(before.distinct_2 - 0.1, after.distinct_2)\n": "",
        "assert hacked.positive > max(before.positive + 0.1, after.positive - 0.1)": "",
    },
    "06_2_text_classification": {
        "ITERATIONS, SEEDS = 12, 3": "ITERATIONS, SEEDS = 1, 1",
        "supervised_epochs=15": "supervised_epochs=1",
        'assert few_rule["cost"] < few_plain["cost"] - 0.1 and all_plain["accuracy"] > few_plain["accuracy"] + 0.05\n': "",
        'assert equal["accuracy"] > few_plain["accuracy"] + 0.03\n': "",
        'assert unequal["cost"] < few_plain["cost"] - 0.2 and unequal["cost"] < few_rule["cost"] - 0.02\n': "",
        'assert unequal["cost"] < equal["cost"] - 0.03 and unequal["positive"] > equal["positive"] + 0.03\n': "",
        'assert unequal["accuracy"] < equal["accuracy"]\n': "",
        'assert all_plain["accuracy"] > equal["accuracy"] - 0.03 and all_rule["cost"] < unequal["cost"] + 0.03  # labels': "# labels",
    },
    "06_3_question_answering": {
        "ITERATIONS, EVERY = 80, 10": "ITERATIONS, EVERY = 2, 2",
        "BATCH, GROUP = 256, 4": "BATCH, GROUP = 32, 4",
        "layers=2, heads=4": "layers=1, heads=4",
        "supervised_epochs=25": "supervised_epochs=2",
        'assert after["greedy"] > before["greedy"] + 0.03\n': "",
        'assert after["sampled"] > before["sampled"] + 0.08\n': "",
        'assert after["sampled"] - before["sampled"] > after["greedy"] - before["greedy"]\n': "",
        "assert last < first - 0.1 and np.mean(sureness[-10:]) > np.mean(sureness[:10]) + 0.05 and within < 0.7 * groups[0].var()\n": "",
    },
    "06_4_translation": {
        "ITERATIONS, EVERY = 30, 10": "ITERATIONS, EVERY = 2, 2",
        "BATCH, GROUP = 512, 8": "BATCH, GROUP = 64, 8",
        "supervised_epochs=18": "supervised_epochs=1",
        'assert before["sampled"] > 3 * untrained["sampled"] and 100 * lazy_score > before["sampled"]\n': "",
        'assert after["sampled"] > before["sampled"] + 0.8 and abs(after["greedy"] - before["greedy"]) < 2.5\n': "",
        'assert after["sampled"] - before["sampled"] > after["greedy"] - before["greedy"]\n': "",
        "assert last < first - 0.1 and np.mean(lengths[-5:]) > 0.8 * usual_length\n": "",
        'assert colder["test"] > before["sampled"] + 1.0\n': "",
        "assert price[1] < price[0]\n": "",
    },
    "06_5_large_language_model": {
        "ITERATIONS, RESPONSE = 8, 6": "ITERATIONS, RESPONSE = 1, 2",
        "] * 3, 16, temperature": "] * 2, 2, temperature",
        "@tf.function(autograph=False)\n": "",  # a few tokens are written sooner than thirty blocks are traced
        "jit_compile=False)  # XLA": "run_eagerly=True)  # XLA",
        "epochs=2, max_gradient_norm": "epochs=1, minibatches=1, entropy_coefficient=0.1, max_gradient_norm",
        "responses_per_prompt=4": "responses_per_prompt=2",
        "texts_before = write(questions,": "texts_before = write(questions[:1],",
        "texts_after = write(questions,": "texts_after = write(questions[:1],",
        "assert last > first + 0.1 and form[-1] > form[0] + 0.2 and np.all(form >= scores)": "assert np.all(form >= scores)",
        "assert moved > 0.1": "assert moved > 1e-3",
    },
    "07_tools": {
        "ITERATIONS = 16": "ITERATIONS = 4",
        'profile="6:7"': 'profile="3:4"',
        "supervised_epochs=15": "supervised_epochs=1",
        'assert early("ill", "policy/clip_fraction") > 0.45 > early("healthy", "policy/clip_fraction")\n': "",
        'assert early("ill", "policy/approx_kl") > 3 * early("healthy", "policy/approx_kl")\n': "",
        'assert summaries["healthy"]["right_after"] > summaries["healthy"]["right_before"] + 0.2 > summaries["ill"]["right_after"]\n': "",
        'assert late("healthy", "objective/scores") > late("ill", "objective/scores") + 0.2\n': "",
        'assert outside["ill"] > max(0.5, outside["healthy"] + 0.2)\n': "",
    },
    "08_outlook": {
        "ITERATIONS = 50": "ITERATIONS = 5",
        "train(learner, practised, 15)": "train(learner, practised, 5)",
        "train(ruled, practised, 30)": "train(ruled, practised, 5)",
        "(3.0, 10.0, 30.0, 100.0)": "(3.0, 100.0)",
        "seed)) for seed in range(5)": "seed)) for seed in range(2)",
        "assert right_on(learner, practised) > 0.8\n": "",
        "assert (effect.argmax(axis=1) == np.arange(LENGTH)).all()  #": "#",
        "assert gae[hits].mean() > gae[~hits].mean() + 0.05\n": "",
        "assert seen_share[0] > 0.7 and seen_share[0] - unseen_share[0] > 0.2 and seen_share[-1] - unseen_share[-1] < 0.1 and unseen_share[-1] > 0.8\n": "",
        "assert with_critic[-1] > 0.8 and without_critic[-1] > 0.5\n": "",
        "assert with_critic.mean() > without_critic.mean()  #": "#",
        "assert min(broken[:2]) > 0.1 and max(broken[2:]) < 0.05 and max(kept[:2]) > max(kept[2:]) + 0.08  #": "#",
    },
    "09_faq": {
        "SEEDS = 4": "SEEDS = 2",
        "ITERATIONS = 20": "ITERATIONS = 5",
        "width=64, layers=2": "width=64, layers=1",
        "repeats=3": "repeats=1",
        "seconds(xla(write_cached), prompts)": "seconds(cached, prompts)",
        "iterations_per_call=5, **": "iterations_per_call=1, **",
        "dict(epochs=10": "dict(epochs=2",
        "environments, 32, iterations": "environments, 8, iterations",
        '"n = 12": corridor(12), ': "",
        ', "n = 12, starts": corridor(12, "S")': "",
        "jit_compile=False)\n": "run_eagerly=True)\n",
        "environments=16, entropy_coefficient=0.01": "environments=16, entropy_coefficient=0.01, epochs=1, minibatches=1",
        'assert finals["ten epochs"].mean() > finals["one update"].mean() + 0.3\n': "",
        'assert finals["ten epochs"].mean() > finals["no clip"].mean() + 0.3\n': "",
        'assert np.abs(finals["no clip"]).min() < 0.1  #': "#",
        'assert entropies["no clip"][:, 1].mean() < 0.5 * entropies["ten epochs"][:, 1].mean()  #': "#",
        "assert hacked > sum(stones.values()) + 1\n": "",
        'assert lines["n = 5"][-1] > 0.9 and lines["n = 12"][-1] < 0.1 and lines["n = 12, starts"][-1] > 0.9\n': "",
        "assert gone.mean() > 0.5\n": "",
        "assert low > 0  #": "#",
    },
}
# With XLA, the chapter whose subject it is. The others give the same numbers without it (test_training_is_the_same_in_every_mode), sooner.
WITH_XLA = ("05_5_compiled_loops",)


def run_chapter(name, full=False, environment=None):
    """Runs the English script with the solutions of its exercises.

    Args:
        name: of the chapter.
        full: as it is published; else as CI runs it: in the form of `QUICK`, with XLA only where it is the subject.
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
    if full:
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
