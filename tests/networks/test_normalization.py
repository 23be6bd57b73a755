"""`ppo_keras.networks.normalization`: running statistics against NumPy in float64, and where a policy uses and keeps them."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from helpers import assert_all_close, assert_close, observations, tiny_agent, weights_of
from ppo_keras import LSTMActorCritic
from ppo_keras.networks.normalization import RunningNormalization

NETWORKS = ("mlp", "lstm", "transformer")
every_network = pytest.mark.parametrize("network", NETWORKS)


def batches(shape=(3,), seed=0):
    """Three batches `(B, T, *shape)` of different sizes, means and scales, with ragged masks `(B, T)`; NaN where the mask is 0."""
    random = np.random.default_rng(seed)
    for batch, steps, mean, scale in ((4, 5, 5.0, 0.5), (2, 7, -1.0, 3.0), (6, 1, 20.0, 0.1)):
        mask = (random.random([batch, steps]) < 0.7).astype(np.float32)
        x = random.normal(mean, scale, [batch, steps, *shape]).astype(np.float32)
        x[mask == 0] = np.nan
        yield tf.constant(x), tf.constant(mask)


def updated(shape=(3,), data=None, **settings):
    """A layer that was shown all `batches`, and everything real in them as float64 `(N, *shape)`."""
    layer, data = RunningNormalization(shape, **settings), list(batches(shape)) if data is None else data
    for x, mask in data:
        layer.update(x, mask)
    return layer, np.concatenate([x.numpy()[mask.numpy() > 0] for x, mask in data]).astype(np.float64)


@pytest.mark.parametrize("shape", [(), (3,), (2, 3)])
def test_several_updates_equal_one_look_at_all_data(shape):
    """Catches: a mean of means, a variance without what lies between the means, Bessel's correction, padding (NaN) that is counted."""
    layer, seen = updated(shape)
    assert_close(layer.count, len(seen))
    assert_close(layer.mean, seen.mean(0))
    assert_close(layer.variance, seen.var(0))
    x = np.random.default_rng(5).normal(5, 3, [4, 2, *shape]).astype(np.float32)
    assert_close(layer(x), (x - seen.mean(0)) / np.sqrt(seen.var(0)), atol=1e-5)


def test_the_first_update_by_hand():
    """Catches: the mean 0 and the variance 1 of a fresh layer that are counted as data."""
    layer = RunningNormalization((2,))
    layer.update(tf.constant([[[1.0, 10.0], [3.0, 10.0]], [[5.0, 40.0], [np.inf, np.nan]]]), tf.constant([[1.0, 1.0], [1.0, 0.0]]))
    assert_all_close([w.numpy() for w in layer.weights], [np.array([3.0, 20.0]), np.array([8 / 3, 200.0]), np.array(3.0)])
    assert_close(layer(tf.constant([[3.0, 20.0 + 200.0**0.5]])), [[0.0, 1.0]])


def test_two_updates_by_hand():
    """Catches: the difference of the means taken after one of them was moved: {0, 2} and {6, 8} have mean 4 and variance 10."""
    layer = RunningNormalization(())
    for x in ([[0.0, 2.0]], [[6.0], [8.0]]):
        layer.update(tf.constant(x), tf.ones_like(x))
    assert_all_close([float(w) for w in layer.weights], [4.0, 10.0, 4.0])


def test_a_large_mean_leaves_the_variance_exact():
    """Catches: E[x^2] - E[x]^2, which at mean 1000 has no digit of a variance of 0.01 left in float32."""
    random = np.random.default_rng(0)
    data = [(tf.constant(random.normal(1000, 0.1, [4, 50]), tf.float32), tf.ones([4, 50])) for _ in range(3)]
    layer, seen = updated((), data)
    assert_close(layer.mean, seen.mean(), rtol=1e-6)
    assert_close(layer.variance, seen.var(), rtol=1e-3)  # differences of float32 means near 1000


def test_before_any_update_nothing_changes():
    """Catches: a fresh layer that is not the identity, and an update without a real step that is not one of nothing (0 / 0)."""
    layer, x = RunningNormalization((3,)), observations((3,), 2, 4)
    assert_close(layer(x), x)
    layer.update(tf.fill([2, 4, 3], np.nan), tf.zeros([2, 4]))
    assert_close(layer(x), x)
    layer, seen = updated()
    layer.update(tf.fill([2, 4, 3], np.nan), tf.zeros([2, 4]))
    assert_all_close([layer.mean.numpy(), layer.variance.numpy(), layer.count.numpy()], [seen.mean(0), seen.var(0), float(len(seen))])


def test_a_single_element_is_finite():
    """Catches: a first variance of 0, which throws every later observation against the limit."""
    layer = RunningNormalization((2,))
    layer.update(tf.constant([[[3.0, -4.0]]]), tf.ones([1, 1]))
    assert_close(layer(tf.constant([[3.0, -4.0], [3.5, -4.0]])), [[0.0, 0.0], [0.5, 0.0]])


def test_a_single_first_element_counts_as_itself():
    """Catches: {3} then {5} with a variance of 1.5 for 1: the variance 1 that stands for "not known" is no data."""
    layer = RunningNormalization(())
    for x in (3.0, 5.0):
        layer.update(tf.fill([1, 1], x), tf.ones([1, 1]))
    assert_all_close([float(w) for w in layer.weights], [4.0, 1.0, 2.0])


def test_the_limit():
    """Catches: a limit on one side only, one in units of the data, or a setting that is not read."""
    x = tf.constant([[-1e6, -9.0, 0.0, 9.0, 1e6]])
    for limit, expected in ((10.0, [[-10.0, -9.0, 0.0, 9.0, 10.0]]), (2.0, [[-2.0, -2.0, 0.0, 2.0, 2.0]])):
        assert_close(RunningNormalization((5,), limit=limit)(x), expected)
    layer, _ = updated()
    assert_close(layer(tf.fill([3], 1e9)), [10.0] * 3)


def test_what_never_changes_is_0():
    """Catches: NaN from a variance of 0: a constant feature is 0, and at the limit the first time that it differs."""
    layer = RunningNormalization(())
    for _ in range(2):
        layer.update(tf.fill([2, 3], 7.0), tf.ones([2, 3]))
    assert_close(layer(tf.constant([7.0, 7.5, 6.0])), [0.0, 10.0, -10.0])


@pytest.mark.parametrize("jit_compile", [False, True], ids=["graph", "jit"])
def test_an_update_is_the_same_in_every_mode(jit_compile):
    """Catches: statistics that are read after they were assigned, or that a graph fixes when it is traced."""
    expected, _ = updated()
    layer = RunningNormalization((3,))
    update = tf.function(layer.update, jit_compile=jit_compile)
    for x, mask in batches():
        update(x, mask)
    assert_all_close(weights_of(layer), weights_of(expected), atol=1e-5)
    x = observations((3,), 2, 4)
    assert_close(tf.function(layer, jit_compile=jit_compile)(x), expected(x), atol=1e-5)


def test_statistics_are_no_parameters():
    """Catches: a mean or a variance that the optimizer trains."""
    layer, policy = RunningNormalization((3,)), tiny_agent(normalize=True)
    assert layer.trainable_variables == [] and len(layer.weights) == 3
    assert len(policy.trainable_variables) == len(tiny_agent(normalize=False).trainable_variables)


def test_settings_round_trip():
    """Text 21. Catches: a setting that `get_config` leaves out."""
    layer = RunningNormalization((2, 3), limit=5.0, name="statistics")
    twin = RunningNormalization.from_config(layer.get_config())
    assert twin.get_config() == layer.get_config() and (twin.shape, twin.limit, twin.name) == ((2, 3), 5.0, "statistics")


@every_network
@pytest.mark.parametrize("observation", [(4,), (2, 3)], ids=["vector", "matrix"])
def test_step_call_and_read_normalise_alike(network, observation):
    """Catches: raw observations in one of them, or in the critic: all equal a policy without statistics that reads normal observations."""
    policy, plain = (tiny_agent(network, observation, normalize=normalize) for normalize in (True, False))
    plain.set_weights([w.numpy() for w in policy.weights if "normalization" not in w.path])
    x = observations(observation, 3, 5)
    mean, variance = policy.normalization.mean.numpy(), policy.normalization.variance.numpy()
    normal = tf.constant(np.clip((x - mean) / np.sqrt(variance), -10, 10), tf.float32)
    assert np.abs(x - normal).max() > 0.5
    assert_all_close(policy(x), plain(normal), atol=1e-5)
    read, expected = policy.read(x[:, :3]), plain.read(normal[:, :3])
    assert_all_close(read, expected, atol=1e-5)
    assert_all_close(policy.step(x[:, 3], read), plain.step(normal[:, 3], expected), atol=1e-5)
    assert_all_close(policy(x[:, 3:], initial_state=read), plain(normal[:, 3:], initial_state=expected), atol=1e-5)


@every_network
def test_a_file_a_copy_and_a_checkpoint_hold_the_statistics(network, tmp_path):
    """Text 21. Catches: an agent that resumes, or is evaluated, with a fresh mean and variance."""
    policy, other = (tiny_agent(network, normalize=True, seed=seed) for seed in (0, 1))
    x = observations((4,), 3, 5)
    policy.normalization.update(2 * x + 1, tf.ones([3, 5]))
    policy.save(tmp_path / "policy.keras")
    loaded = keras.models.load_model(tmp_path / "policy.keras")
    tf.train.Checkpoint(model=other).restore(tf.train.Checkpoint(model=policy).save(str(tmp_path / "checkpoint"))).assert_consumed()
    for twin in (loaded, policy.copy(), other):
        assert_all_close(weights_of(twin.normalization), weights_of(policy.normalization), rtol=0, atol=0)
        assert_all_close(twin(x), policy(x), rtol=0, atol=0)
        assert not {id(w) for w in twin.normalization.weights} & {id(w) for w in policy.normalization.weights}


def test_mixed_precision_normalises_in_float32():
    """Catches: an observation of 1000 +- 1 that is rounded to 8 bits before its mean is subtracted: nothing of it is left."""
    keras.config.set_dtype_policy("mixed_bfloat16")
    policy = LSTMActorCritic((4,), 2, width=8, normalize=True)
    x = 1000 + observations((4,), 3, 5)
    policy.normalization.update(x, tf.ones([3, 5]))
    seen = x.numpy().reshape(-1, 4).astype(np.float64)
    normal = policy.normalization(x)
    assert_close(tf.cast(normal, tf.float32), (x - seen.mean(0)) / seen.std(0), rtol=0.01, atol=0.01)
    stepped = tf.stack([policy.step(x[:, t], policy.initial_state(3))[1] for t in range(5)], 1)
    called = tf.stack([policy(x[:, t : t + 1])[1][:, 0] for t in range(5)], 1)
    assert_close(called, stepped, rtol=0, atol=0.02)  # values of about 1: a model, too, casts what it is called with
    keras.config.set_dtype_policy("float32")
    assert_close(policy.copy().normalization(x), normal, rtol=0, atol=0)
