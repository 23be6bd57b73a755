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

# Tests press Ctrl-C and close terminals: whoever started them in the background of a script may have had these ignored.
for name, handler in {"SIGINT": signal.default_int_handler, "SIGTERM": signal.SIG_DFL, "SIGHUP": signal.SIG_DFL}.items():
    if hasattr(signal, name):  # Windows has no SIGHUP
        signal.signal(getattr(signal, name), handler)


@pytest.fixture(autouse=True)
def one_seed():
    """Weights that a test draws are the same in every run, and a dtype policy that a test sets ends with it."""
    keras.utils.set_random_seed(0)
    yield
    keras.config.set_dtype_policy("float32")
