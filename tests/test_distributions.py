"""`ppo_keras.distributions` against NumPy in float64: densities, draws, temperatures and masks."""

import itertools
import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from helpers import assert_all_close, assert_close
from ppo_keras.distributions import Categorical, DiagonalGaussian, MultiCategorical, distribution_of
from ppo_keras.randomness import invert_cumulative, uniform

SEED = tf.constant([3, 4])
COUNTS = [3, 2, 4]
ALL = [Categorical(5), MultiCategorical(COUNTS), DiagonalGaussian(3)]
MODES = ["eager", "graph", "jit"]
every_distribution = pytest.mark.parametrize("distribution", ALL, ids=lambda distribution: type(distribution).__name__)
every_mode = pytest.mark.parametrize("mode", MODES)


def compiled(function, mode):
    """The function as it is, as a graph, or compiled by XLA."""
    return function if mode == "eager" else tf.function(function, jit_compile=mode == "jit")


def parameters_of(distribution, shape=(2, 3), seed=0, scale=1.5):
    """Random float32 parameters `(*shape, size + free)`."""
    return np.random.default_rng(seed).normal(0, scale, [*shape, distribution.size + distribution.free]).astype(np.float32)


def log_softmax(logits):
    """In float64; -inf stays -inf."""
    logits = np.asarray(logits, np.float64)
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def joint_log_probs(logits, counts):
    """log p of every combination of choices, `(..., product of counts)` in float64; the combinations, in the same order."""
    each = [log_softmax(part) for part in np.split(np.asarray(logits), np.cumsum(counts)[:-1], -1)]
    combinations = list(itertools.product(*map(range, counts)))
    return np.stack([sum(log_probs[..., i] for log_probs, i in zip(each, chosen)) for chosen in combinations], -1), combinations


def test_categorical_equals_numpy():
    """Catches: logits that are not normalised, bits for nats, or the least probable action as the mode."""
    distribution = ALL[0]
    logits = parameters_of(distribution)
    exact = log_softmax(logits)
    for action in range(5):
        assert_close(distribution.log_probability(logits, tf.fill([2, 3], action)), exact[..., action])
    assert_close(distribution.entropy(logits), -np.sum(np.exp(exact) * exact, -1))
    np.testing.assert_array_equal(distribution.mode(logits), exact.argmax(-1))


def test_multi_categorical_equals_its_joint_distribution():
    """Catches: a softmax over all logits at once, logits that are split elsewhere, a choice left out, a mean for the sum."""
    distribution = ALL[1]
    logits = parameters_of(distribution)
    exact, combinations = joint_log_probs(logits, COUNTS)
    for i, chosen in enumerate(combinations):
        actions = np.broadcast_to(np.array(chosen, np.int32), [2, 3, 3])
        assert_close(distribution.log_probability(logits, tf.constant(actions)), exact[..., i])
    assert_close(distribution.entropy(logits), -np.sum(np.exp(exact) * exact, -1))
    np.testing.assert_array_equal(distribution.mode(logits), np.array(combinations)[exact.argmax(-1)])


def test_gaussian_equals_numpy():
    """Catches: the variance for the standard deviation, a lost log sigma or 2 pi, a mean over the dimensions."""
    distribution, actions = ALL[2], np.random.default_rng(1).normal(0, 2, [2, 3, 3]).astype(np.float32)
    parameters = parameters_of(distribution, scale=0.7)
    mean, sigma = parameters[..., :3].astype(np.float64), np.exp(parameters[..., 3:].astype(np.float64))
    density = np.prod(np.exp(-((actions - mean) ** 2) / (2 * sigma**2)) / np.sqrt(2 * np.pi * sigma**2), -1)
    assert_close(distribution.log_probability(parameters, actions), np.log(density))
    assert_close(distribution.entropy(parameters), np.sum(0.5 * np.log(2 * np.pi * np.e * sigma**2), -1))
    assert_close(distribution.mode(parameters), mean, rtol=0, atol=0)


def test_gaussian_is_a_density():
    """Catches: what does not integrate to 1, or an entropy that is not the integral of -p log p (sums of 1e-3 steps)."""
    distribution, parameters = DiagonalGaussian(1), tf.constant([0.4, -0.5])
    actions = np.arange(-8, 8, 1e-3)[:, np.newaxis].astype(np.float32)
    log_probs = distribution.log_probability(tf.tile(parameters[tf.newaxis], [len(actions), 1]), actions).numpy().astype(np.float64)
    assert_close(np.sum(np.exp(log_probs)) * 1e-3, 1.0)
    assert_close(distribution.entropy(parameters), -np.sum(np.exp(log_probs) * log_probs) * 1e-3)


def test_gaussian_gradients_by_hand():
    """Catches: a density whose slopes are not (a - mu) / sigma^2 and ((a - mu) / sigma)^2 - 1, or an entropy whose slope in log sigma is not 1."""
    parameters, actions = tf.constant([[0.5, -1.0, math.log(2.0), math.log(0.5)]]), tf.constant([[1.5, -0.5]])
    distribution = DiagonalGaussian(2)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(parameters)
        log_prob, entropy = distribution.log_probability(parameters, actions), distribution.entropy(parameters)
    assert_close(tape.gradient(log_prob, parameters), [[0.25, 2.0, -0.75, 0.0]])
    assert_close(tape.gradient(entropy, parameters), [[0.0, 0.0, 1.0, 1.0]])


def chi_square(observed, probabilities):
    """Pearson's statistic less its mean, in standard deviations (under the distribution itself)."""
    expected = observed.sum() * probabilities
    freedom = np.sum(probabilities > 0) - 1
    return (np.sum((observed - expected) ** 2 / expected) - freedom) / np.sqrt(2 * freedom)


def test_choices_are_drawn_with_their_joint_probabilities():
    """Catches: one random number for all choices of an action (they would depend on each other), or noise in another order."""
    distribution, count = MultiCategorical([3, 2]), 30_000
    logits = np.array([1.0, 0.0, -0.5, 0.3, -0.4], np.float32)
    actions = distribution.sample(np.tile(logits, [count, 1]), distribution.noise([count], SEED)).numpy()
    exact, _ = joint_log_probs(logits, [3, 2])
    assert actions.shape == (count, 2) and actions.dtype == np.int32
    assert chi_square(np.bincount(actions @ [2, 1], minlength=6), np.exp(exact)) < 4


def test_categorical_draws_follow_the_probabilities():
    """Catches: noise that is one number for a whole row of steps, or frequencies that are not those of softmax."""
    distribution, shape = Categorical(4), [100, 200]
    logits = np.array([1.0, 0.0, -1.0, 2.0], np.float32)
    actions = distribution.sample(np.tile(logits, [*shape, 1]), distribution.noise(shape, SEED)).numpy()
    assert actions.shape == tuple(shape) and actions.dtype == np.int32
    assert chi_square(np.bincount(actions.ravel(), minlength=4), np.exp(log_softmax(logits))) < 4


def test_gaussian_draws_follow_the_density():
    """Catches: a scale that is not exp(log sigma), tails that are cut or uniform, dimensions that share their noise."""
    distribution, count = DiagonalGaussian(2), 20_000
    parameters = tf.tile(tf.constant([[1.0, -2.0, math.log(0.5), math.log(3.0)]]), [count, 1])
    actions = distribution.sample(parameters, distribution.noise([count], SEED)).numpy().astype(np.float64)
    standard = (actions - [1.0, -2.0]) / [0.5, 3.0]
    edges = np.array([-np.inf, -3, -2, -1.5, -1, -0.5, 0, 0.5, 1, 1.5, 2, 3, np.inf])
    probabilities = np.diff([0.5 * (1 + math.erf(x / 2**0.5)) for x in edges])
    for k in range(2):
        assert chi_square(np.histogram(standard[:, k], edges)[0], probabilities) < 4
    assert abs(np.mean(standard[:, 0] * standard[:, 1])) < 4 / np.sqrt(count)


def test_gaussian_draws_by_hand():
    """Catches: noise that is added to the mean unscaled, or multiplied with log sigma."""
    distribution = DiagonalGaussian(2)
    drawn = distribution.sample(tf.constant([[1.0, -2.0, math.log(0.5), math.log(3.0)]]), tf.constant([[2.0, -1.0]]))
    assert_close(drawn, [[2.0, -5.0]])
    assert_close(distribution.noise([1000, 7], SEED), tf.math.ndtri(uniform([1000, 7, 2], SEED)), rtol=0, atol=0)
    assert np.all(np.isfinite(tf.math.ndtri(tf.constant([2.0**-24, 1 - 2.0**-24]))))  # the least and the greatest uniform


@every_distribution
def test_draws_are_equal_in_every_mode(distribution):
    """Catches: noise or draws that XLA makes otherwise than plain Python: the same seed must give the same episode."""

    def draw(parameters):
        return distribution.sample(parameters, distribution.noise([40, 6], SEED))

    parameters = tf.constant(parameters_of(distribution, (40, 6)))
    eager, graph, jit = (compiled(draw, mode)(parameters) for mode in MODES)
    rtol = 1e-5 if distribution.free else 0
    assert eager.shape == (40, 6, *distribution.action_shape) and eager.dtype == distribution.action_type
    for other in (graph, jit):
        assert_close(other, eager, rtol=rtol, atol=rtol)


@every_distribution
@every_mode
def test_numbers_are_equal_in_every_mode(distribution, mode):
    """Catches: a density, an entropy, a mode or a temperature that is traced into something else."""

    def numbers(parameters, actions):
        tempered = distribution.temper(parameters, 0.6)
        return distribution.log_probability(tempered, actions), distribution.entropy(tempered), distribution.mode(parameters)

    parameters = tf.constant(parameters_of(distribution))
    actions = distribution.sample(parameters, distribution.noise([2, 3], SEED))
    assert_all_close(compiled(numbers, mode)(parameters, actions), numbers(parameters, actions))


@every_distribution
@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
def test_a_temperature_raises_the_density_to_a_power(distribution, temperature):
    """Text 3. Catches: logits multiplied for divided, or a standard deviation in place of the variance: log p_T(a) - log p_T(b) = (log p(a) - log p(b)) / T."""
    parameters = tf.constant(parameters_of(distribution, scale=0.7))
    actions = [distribution.sample(parameters, distribution.noise([2, 3], SEED + i)) for i in range(2)]
    difference = lambda p: np.subtract(*[distribution.log_probability(p, a).numpy().astype(np.float64) for a in actions])
    tempered = distribution.temper(parameters, temperature)
    assert_close(difference(tempered), difference(parameters) / temperature, atol=1e-5)
    assert_close(distribution.mode(tempered), distribution.mode(parameters), rtol=0, atol=0)


def test_temperatures_by_hand():
    """Catches: p^(1/T) that is not normalised; a mean that the temperature moves; a variance that is not multiplied by T."""
    logits = parameters_of(Categorical(5), ())
    power = np.exp(log_softmax(logits)) ** (1 / 0.4)
    tempered = Categorical(5).temper(tf.constant(logits), 0.4)
    assert_close([Categorical(5).log_probability(tempered, i) for i in range(5)], np.log(power / power.sum()))
    mean, log_std = np.split(DiagonalGaussian(2).temper(tf.constant([0.3, -7.0, math.log(2.0), 0.0]), 9.0).numpy(), 2)
    assert_close(mean, [0.3, -7.0])
    assert_close(np.exp(2 * log_std), [9.0 * 4.0, 9.0])


LOGITS = np.array([[30.0, 0.5, -1.0, 40.0, 0.2], [0.1, 2.0, 0.3, -0.7, 90.0], [1.0, 2.0, 3.0, 4.0, 5.0]], np.float32)
ALLOWED = np.array([[0, 1, 1, 0, 1], [1, 1, 0, 1, 0], [0, 0, 1, 0, 0]], bool)  # the greatest logits are forbidden; a row with one action left
GRID = np.concatenate([[2.0**-24], np.linspace(0.001, 0.999, 400), [1 - 2.0**-24]]).astype(np.float32)  # from the least to the greatest uniform


def objective(distribution, allowed, actions):
    """A function of the logits: log-probability and entropy of the masked distribution, and the gradient of each."""

    def numbers(logits):
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(logits)
            masked = distribution.mask(logits, allowed)
            log_prob, entropy = distribution.log_probability(masked, actions), distribution.entropy(masked)
        return log_prob, entropy, tape.gradient(log_prob, logits), tape.gradient(entropy, logits)

    return numbers


@every_mode
def test_a_mask_leaves_the_smaller_distribution(mode):
    """Catches: NaN (0 * -inf) in a value or a gradient, probability left on a forbidden action, a gradient into its logit."""
    actions = np.array([2, 0, 2], np.int32)
    numbers = compiled(objective(Categorical(5), tf.constant(ALLOWED), tf.constant(actions)), mode)(tf.constant(LOGITS))
    log_prob, entropy, log_prob_gradient, entropy_gradient = (x.numpy() for x in numbers)
    for row in range(3):
        exact = log_softmax(LOGITS[row][ALLOWED[row]])
        probs, chosen = np.exp(exact), np.flatnonzero(ALLOWED[row]).tolist().index(actions[row])
        assert_close(log_prob[row], exact[chosen])
        assert_close(entropy[row], -np.sum(probs * exact))
        assert_close(log_prob_gradient[row][ALLOWED[row]], np.eye(len(probs))[chosen] - probs)
        assert_close(entropy_gradient[row][ALLOWED[row]], -probs * (exact - np.sum(probs * exact)))
        assert not np.any(log_prob_gradient[row][~ALLOWED[row]]) and not np.any(entropy_gradient[row][~ALLOWED[row]])


@every_mode
def test_masked_choices_leave_the_smaller_distributions(mode):
    """Catches: a mask that is split elsewhere than the logits, or that reaches into another choice of the action."""
    distribution = MultiCategorical([2, 3])
    actions = np.array([[1, 2], [0, 1], [1, 0]], np.int32)
    allowed = np.array([[0, 1, 1, 0, 1], [1, 1, 0, 1, 0], [0, 1, 1, 1, 1]], bool)
    numbers = compiled(objective(distribution, tf.constant(allowed), tf.constant(actions)), mode)(tf.constant(LOGITS))
    log_prob, entropy, *gradients = (x.numpy() for x in numbers)
    for row in range(3):
        total, nats = 0.0, 0.0
        for k, part in enumerate((slice(0, 2), slice(2, 5))):
            exact = log_softmax(LOGITS[row, part][allowed[row, part]])
            total += exact[np.flatnonzero(allowed[row, part]).tolist().index(actions[row, k])]
            nats -= np.sum(np.exp(exact) * exact)
        assert_close(log_prob[row], total)
        assert_close(entropy[row], nats)
        for gradient in gradients:
            assert np.all(np.isfinite(gradient[row])) and not np.any(gradient[row][~allowed[row]])


@every_mode
def test_a_masked_action_is_never_drawn_and_never_the_mode(mode):
    """Catches: a forbidden first or last action drawn at the ends of the interval, or probabilities other than those of the actions left."""
    distribution = Categorical(5)
    for logits, allowed in zip(LOGITS, ALLOWED):
        masked = distribution.mask(tf.constant(logits), tf.constant(allowed))
        noise = tf.constant(GRID)
        draw = compiled(lambda masked, noise: distribution.sample(tf.tile(masked[tf.newaxis], [len(GRID), 1]), noise), mode)
        left = np.flatnonzero(allowed)
        expected = left[np.searchsorted(np.cumsum(np.exp(log_softmax(logits[allowed])))[:-1], GRID)]
        np.testing.assert_array_equal(draw(masked, noise), expected)
        assert distribution.mode(masked) == left[logits[allowed].argmax()]
        assert np.all(np.exp([distribution.log_probability(masked, i) for i in np.flatnonzero(~allowed)]) == 0)


@every_mode
def test_masked_choices_are_never_drawn_and_never_the_mode(mode):
    """Catches: a mask that is applied to one choice of the action only."""
    distribution = MultiCategorical([2, 3])
    allowed = tf.constant([[False, True, True, False, True]])
    masked = distribution.mask(tf.constant(LOGITS[:1]), allowed)
    draw = compiled(lambda masked, noise: distribution.sample(tf.tile(masked, [len(GRID), 1]), noise), mode)
    actions = draw(masked, tf.stack([GRID, GRID[::-1]], -1)).numpy()
    assert set(actions[:, 0]) == {1} and set(actions[:, 1]) == {0, 2}
    np.testing.assert_array_equal(distribution.mode(masked), [[1, 2]])


def test_a_masked_action_among_many_is_never_drawn():
    """Catches: sums whose rounding gives an excluded action a share, under XLA: noise at the edges of every excluded action."""
    logits, allowed = np.random.default_rng(0).normal(0, 1, 512).astype(np.float32), np.random.default_rng(1).random(512) < 0.5
    masked = np.where(allowed, logits, -np.inf)
    weights = np.exp(masked - masked.max())
    edges = tf.function(lambda x: tf.cumsum(x, axis=-1), jit_compile=True)(weights[np.newaxis]).numpy()[0]
    steps = np.floor(edges[~allowed] / edges[-1] * 2**23)[:, np.newaxis] + np.arange(-4, 5)  # all 23-bit noise near the edges
    noise = ((np.clip(steps.ravel(), 0, 2**23 - 1) + 0.5) * 2.0**-23).astype(np.float32)
    drawn = tf.function(invert_cumulative, jit_compile=True)(np.tile(masked, [len(noise), 1]), noise).numpy()
    assert np.all(allowed[drawn])


def test_real_numbers_cannot_be_masked():
    """Catches: masks of a continuous action that are ignored without a word."""
    with pytest.raises(ValueError, match="action_masks"):
        ALL[2].mask(tf.zeros([1, 6]), tf.ones([1, 3], tf.bool))


@every_distribution
def test_settings_round_trip(distribution):
    """Text 21. Catches: a distribution that a `.keras` file cannot hold, or that comes back with another size."""
    for twin in (
        type(distribution).from_config(distribution.get_config()),
        keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(distribution)),
    ):
        assert type(twin) is type(distribution) and vars(twin) == vars(distribution)


def test_sizes():
    """Catches: a network built for too few parameters, or a rollout that writes actions of another shape."""
    sizes = [(d.size, d.free, d.action_shape, d.action_type) for d in ALL]
    assert sizes == [(5, 0, (), tf.int32), (9, 0, (3,), tf.int32), (3, 3, (3,), tf.float32)]


def test_the_distribution_of_an_action_space():
    """Catches: a list of counts taken for one choice, or a distribution that is wrapped again."""
    assert type(distribution_of(4)) is Categorical and distribution_of(4).count == 4
    for counts in ([3, 2], (3, 2)):
        assert type(distribution_of(counts)) is MultiCategorical and distribution_of(counts).counts == [3, 2]
    assert distribution_of(ALL[2]) is ALL[2]
