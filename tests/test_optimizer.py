"""`FusedAdam`: the numbers of Adam as its authors wrote it, in a sixth of Keras's operations."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from helpers import assert_all_close, assert_close
from ppo_keras import FusedAdam
from ppo_keras.config import OptimizerConfig

STEPS = 12
SHAPES = ((4, 3), (3,), ())


def start():
    """Weights of three shapes."""
    rng = np.random.default_rng(0)
    return [keras.Variable(rng.normal(size=shape).astype(np.float32)) for shape in SHAPES]


def gradients_of(step):
    """Gradients of very different sizes, float32."""
    rng = np.random.default_rng(100 + step)
    return [tf.constant(rng.normal(size=shape) * 10.0 ** rng.integers(-4, 2), tf.float32) for shape in SHAPES]


def by_hand(rates, epsilon, weight_decay=0.0, limit=np.inf):
    """Adam in float64 (Kingma and Ba 2015): both moments, their bias corrections, a step.  (epsilon as in their efficient form)"""
    weights = [variable.numpy().astype(np.float64) for variable in start()]
    first, second = ([np.zeros(shape) for shape in SHAPES] for _ in range(2))
    for t, rate in enumerate(rates, start=1):
        gradients = [gradient.numpy().astype(np.float64) for gradient in gradients_of(t)]
        norm = np.sqrt(sum(np.sum(gradient**2) for gradient in gradients))
        for i, gradient in enumerate(gradients):
            gradient = gradient * min(1.0, limit / norm)
            weights[i] = weights[i] * (1 - weight_decay * rate)
            first[i] = 0.9 * first[i] + 0.1 * gradient
            second[i] = 0.999 * second[i] + 0.001 * gradient**2
            alpha = rate * np.sqrt(1 - 0.999**t) / (1 - 0.9**t)
            weights[i] = weights[i] - alpha * first[i] / (np.sqrt(second[i]) + epsilon)
    return weights


def taken(optimizer, mode="graph", steps=STEPS, variables=None):
    """The weights after some steps."""
    variables = variables or start()
    optimizer.build(variables)

    def step(gradients):
        optimizer.apply(gradients, variables)

    if mode != "eager":
        step = tf.function(step, jit_compile=mode == "jit")
    for t in range(1, steps + 1):
        step(gradients_of(t))
    return variables


@pytest.mark.parametrize("mode", ["eager", "graph", "jit"])
def test_the_steps_are_adam_s(mode):
    """Catches: a bias correction one step late, betas or moments exchanged, epsilon inside the root."""
    assert_all_close(taken(FusedAdam(0.05, epsilon=1e-3), mode), by_hand([0.05] * STEPS, 1e-3), 1e-5)


def test_a_schedule_weight_decay_and_a_limited_norm_are_kept():
    """Catches: the learning rate of the first step for ever, weight decay coupled with the moments, a norm that is not limited."""
    schedule = keras.optimizers.schedules.PolynomialDecay(0.1, STEPS, end_learning_rate=0.0)
    rates = [0.1 * (1 - t / STEPS) for t in range(STEPS)]
    fused = taken(FusedAdam(schedule, epsilon=1e-3, weight_decay=0.2, global_clipnorm=1.0))
    assert_all_close(fused, by_hand(rates, 1e-3, 0.2, limit=1.0), 1e-5)


@pytest.mark.parametrize(
    "arguments", [{}, {"weight_decay": 0.1, "global_clipnorm": 0.5}, {"gradient_accumulation_steps": 3}, {"use_ema": True}, {"amsgrad": True}]
)
def test_every_argument_means_what_it_means_in_keras(arguments):
    """Catches: an argument of Keras's that is accepted and ignored."""
    ours, keras_own = (taken(kind(0.05, epsilon=1e-3, **arguments)) for kind in (FusedAdam, keras.optimizers.Adam))
    assert_all_close(ours, [variable.numpy() for variable in keras_own], 1e-5)


def test_it_takes_fewer_operations():
    """Catches: an update that is written out for each variable again."""

    def operations(optimizer, count):
        variables = [keras.Variable(np.ones(3, np.float32)) for _ in range(count)]
        optimizer.build(variables)
        step = tf.function(lambda gradients: optimizer.apply(gradients, variables))
        return len(step.get_concrete_function([tf.ones(3)] * count).graph.get_operations())

    schedule = keras.optimizers.schedules.CosineDecay(0.1, 10)
    ours, keras_own = (
        (operations(kind(schedule, weight_decay=0.1), 11) - operations(kind(schedule, weight_decay=0.1), 1)) / 10
        for kind in (FusedAdam, keras.optimizers.AdamW)
    )
    assert ours < 0.2 * keras_own


def test_rows_of_an_embedding_are_added_up():
    """Catches: a row that two tokens read getting the gradient of the last alone."""
    table = keras.Variable(np.ones((4, 2), np.float32))
    slices = tf.IndexedSlices(tf.ones([3, 2]), tf.constant([1, 1, 3]), tf.constant([4, 2]))
    optimizer = FusedAdam(0.1, epsilon=1.0)
    optimizer.apply([slices], [table])
    alpha = 0.1 * np.sqrt(0.001) / 0.1
    expected = [1.0] + [1 - alpha * 0.1 * g / (np.sqrt(0.001) * g + 1.0) for g in (2.0, 0.0, 1.0)]
    assert_close(table[:, 0], expected, 1e-6)


def test_a_learning_rate_can_be_read_and_set():
    """Catches: a property that hides Keras's: callbacks change the learning rate in the middle of a run."""
    optimizer, variables = FusedAdam(0.1), start()
    optimizer.build(variables)
    step = tf.function(lambda gradients: optimizer.apply(gradients, variables))
    step(gradients_of(1))
    moved = [variable.numpy() for variable in variables]
    optimizer.learning_rate = 0.0
    step(gradients_of(2))
    assert_all_close(variables, moved, 0.0)
    assert float(optimizer.learning_rate) == 0.0 and int(optimizer.iterations) == 2
    assert "_of_step" not in optimizer._trackable_children()


def test_a_scaled_loss_is_unscaled():
    """Catches: gradients of `mixed_float16` taken as they come."""
    variables = start()
    optimizer = keras.optimizers.LossScaleOptimizer(FusedAdam(0.05, epsilon=1e-3), initial_scale=64.0)
    optimizer.build(variables)
    for t in range(1, STEPS + 1):
        optimizer.apply([gradient * 64.0 for gradient in gradients_of(t)], variables)
    assert_all_close(variables, by_hand([0.05] * STEPS, 1e-3), 1e-5)


def test_weights_of_half_precision_are_stepped_as_in_keras():
    """Catches: float32 constants given to a kernel of another type."""
    ours, keras_own = (keras.Variable(np.ones(3, np.float32), dtype="float16") for _ in range(2))
    for kind, variable in ((FusedAdam, ours), (keras.optimizers.Adam, keras_own)):
        kind(0.25, epsilon=1e-3).apply([tf.ones(3, tf.float16)], [variable])
    assert np.all(ours.numpy() < 0.8) and np.array_equal(ours.numpy(), keras_own.numpy())


def test_it_is_saved_and_loaded(tmp_path):
    """Catches: an optimizer that a file brings back as another, without its moments or its schedule."""
    model = keras.Sequential([keras.Input([2]), keras.layers.Dense(1)])
    model.compile(OptimizerConfig(learning_rate=0.5, schedule="cosine").build(10), loss="mse")
    x, y = np.ones((4, 2), np.float32), np.ones((4, 1), np.float32)
    model.fit(x, y, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert type(loaded.optimizer) is FusedAdam and loaded.optimizer.get_config() == model.optimizer.get_config()
    for each in (model, loaded):
        each.fit(x, y, verbose=0)
    assert_all_close(loaded.weights, [weight.numpy() for weight in model.weights], 0.0)
