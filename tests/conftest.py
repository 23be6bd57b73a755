"""What every test starts from: the TensorFlow backend, one seed, float32."""

import fnmatch
import os
import signal

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
# Tests compile much and run little: LLVM need not try hard. With XLA_FLAGS= (empty) they compile as users do, and take longer.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true")

import keras
import pytest
import tensorflow as tf

# Nor need TensorFlow rewrite graphs that run a few times. Programs that XLA compiles, chapters and commands in processes of their own are as users have them.
tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})

# Tests press Ctrl-C and close terminals: whoever started them in the background of a script may have had these ignored.
for name, handler in {"SIGINT": signal.default_int_handler, "SIGTERM": signal.SIG_DFL, "SIGHUP": signal.SIG_DFL}.items():
    if hasattr(signal, name):  # Windows has no SIGHUP
        signal.signal(getattr(signal, name), handler)


FIRST = ("test_tutorials", "test_resume", "test_generation_task")  # files of many seconds a test: one left to the end would run alone


SISTERS = (  # long tests of what a sister that stays in CI checks with another network, mode, task or moment: they are `full`
    "test_generation_task.py::*[[]transformer]",
    "test_generation_task.py::test_the_same_seed_writes_the_same_samples",  # of the same seed are the two runs that test_resume compares
    "test_generation_task.py::test_a_full_disk_is_one_line[[]before PPO]",
    "test_generation_task.py::test_a_full_disk_is_one_line[[]after PPO]",
    "test_environment_task.py::*[[]transformer]",
    "test_environment_task.py::test_iterations_in_one_call_make_one_line",
    "test_environment_failures.py::test_a_full_disk_is_one_line[[]in the evaluation]",
    "test_environment_failures.py::test_an_environment_that_fails_in_mid_run_saves_the_policy[[]observes NaN]",
    "test_environment_failures.py::test_an_environment_that_fails_in_mid_run_saves_the_policy[[]pays infinity]",
    "test_language_ppo.py::test_training_is_the_same_in_every_mode[[]jit-transformer]",
    "test_language_ppo.py::test_training_is_the_same_in_every_mode[[]graph-lstm]",
    "test_language_ppo.py::test_a_python_reward_gives_the_numbers_of_tensorflow[[]lstm-jit]",
    "test_language_ppo.py::test_resuming_continues_exactly[[]transformer]",
    "test_language_ppo.py::test_a_bandit_finds_the_better_arm[[]transformer]",
    "test_language_ppo.py::test_one_trace_serves_a_whole_fit[[]transformer]",
    "test_text_tasks.py::test_several_seeds_are_runs_of_their_own",  # so are those of the labels in test_resume
    "test_text_tasks.py::test_questions_are_answered[[]lstm]",
    "test_text_tasks.py::test_labels_are_chosen[[]transformer]",
    "test_environment_ppo.py::test_training_is_the_same_in_every_mode[[]transformer-jit]",
    "test_bridge.py::test_memory_is_kept[[]lstm]",
    "test_bridge.py::test_action_masks_are_honoured[[]lstm]",
    "test_supervised.py::*_learn*[[]lstm]",
    "test_bench.py::test_cartpole_ends_with_json_of_three_figures[[]gym]",
    "test_resume.py::*[[]answers-twice]",
    "test_resume.py::*[[]memory-twice]",
    "test_texts.py::test_ppo_learns_the_labels_from_reward_alone[[]transformer]",
)


@pytest.hookimpl(tryfirst=True)  # before pytest leaves out what is full
def pytest_collection_modifyitems(items):
    """Marks the sisters; long files first, so that the workers of `--dist loadfile` end together."""
    for item in items:
        if any(fnmatch.fnmatchcase(item.nodeid.rpartition("/")[2], pattern) for pattern in SISTERS):
            item.add_marker(pytest.mark.full)
    items.sort(key=lambda item: FIRST.index(item.path.stem) if item.path.stem in FIRST else len(FIRST))


@pytest.fixture(autouse=True)
def one_seed():
    """Weights that a test draws are the same in every run, and a dtype policy that a test sets ends with it."""
    keras.utils.set_random_seed(0)
    yield
    keras.config.set_dtype_policy("float32")
