"""What every test starts from: the TensorFlow backend, one seed, float32."""

import os

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import keras
import pytest


@pytest.fixture(autouse=True)
def one_seed():
    """Weights that a test draws are the same in every run, and a dtype policy that a test sets ends with it."""
    keras.utils.set_random_seed(0)
    yield
    keras.config.set_dtype_policy("float32")
