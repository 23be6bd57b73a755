"""What every test starts from: the TensorFlow backend, one seed, float32."""

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


FIRST = (  # files of many seconds a test: one left to the end would run alone
    "test_tutorials", "test_resume", "test_generation_task", "test_evaluate", "test_pretrained_tasks", "test_environment_task",
)  # fmt: skip


def pytest_collection_modifyitems(items):
    """Long files first, so that the workers of `--dist loadfile` end together."""
    items.sort(key=lambda item: FIRST.index(item.path.stem) if item.path.stem in FIRST else len(FIRST))


@pytest.fixture(autouse=True)
def one_seed():
    """Weights that a test draws are the same in every run, and a dtype policy that a test sets ends with it."""
    keras.utils.set_random_seed(0)
    yield
    keras.config.set_dtype_policy("float32")
