"""What TensorFlow and Keras offer today for a model that is larger than a device: one matrix cut in two, on two parts of the processor.

python tutorials/cluster/sharding.py
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
from tensorflow.experimental import dtensor


def of_keras():
    """The device of a kernel that `keras.distribution.ModelParallel` was told to cut, and its shape there."""
    mesh = keras.distribution.DeviceMesh((1, 2), ("batch", "model"), devices=["cpu:0", "cpu:1"])
    layouts = keras.distribution.LayoutMap(mesh)
    layouts["dense.*kernel"] = (None, "model")
    with keras.distribution.ModelParallel(layout_map=layouts, batch_dim_name="batch").scope():
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8, name="dense")])
    value = model.layers[0].kernel.value
    return f"a {type(value).__name__} of shape {tuple(value.shape)} on {value.device.rpartition('/')[2]}"


def of_dtensor():
    """Shapes of the parts of a kernel that DTensor cuts, and whether product and gradient are those of the whole."""
    mesh = dtensor.create_mesh([("model", 2)], devices=["CPU:0", "CPU:1"])
    halves, whole = dtensor.Layout([dtensor.UNSHARDED, "model"], mesh), dtensor.Layout.replicated(mesh, rank=2)
    random = np.random.default_rng(0)
    x, w = random.normal(size=(2, 4)).astype("float32"), random.normal(size=(4, 8)).astype("float32")
    kernel = dtensor.DVariable(dtensor.relayout(dtensor.copy_to_mesh(w, whole), halves))
    inputs = dtensor.copy_to_mesh(x, whole)
    with dtensor.default_mesh(mesh):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.nn.tanh(tf.matmul(inputs, kernel)))
        gradient = tape.gradient(loss, kernel)
    expected = x.T @ (1 - np.tanh(x @ w) ** 2)
    same = np.allclose(np.concatenate(dtensor.unpack(dtensor.relayout(gradient, halves)), axis=1), expected, atol=1e-5)
    return [tuple(part.shape) for part in dtensor.unpack(kernel.read_value())], same


def keras_on_dtensor():
    """What a Keras layer says to a kernel of DTensor."""
    mesh = dtensor.create_mesh([("model", 2)], devices=["CPU:0", "CPU:1"])
    whole = dtensor.Layout.replicated(mesh, rank=2)
    layer = keras.layers.Dense(8)
    layer.build((None, 4))
    layer.kernel._value = dtensor.DVariable(dtensor.copy_to_mesh(np.ones([4, 8], np.float32), whole))
    try:
        return f"computes {layer(dtensor.copy_to_mesh(np.ones([2, 4], np.float32), whole)).shape}"
    except Exception as error:  # of whatever kind
        return f"{type(error).__name__}: {str(error).splitlines()[0][:100]}"


def main():
    """Prints what works."""
    processor, *_ = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(processor, [tf.config.LogicalDeviceConfiguration()] * 2)
    print("keras.distribution, told to cut a kernel (4, 8) in two:", of_keras())
    print("DTensor: parts of shape {}, gradient that of the whole: {}".format(*of_dtensor()))
    print("A Keras layer whose kernel is DTensor's:", keras_on_dtensor())


if __name__ == "__main__":
    main()
