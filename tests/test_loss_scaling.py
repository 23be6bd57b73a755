"""`ppo_keras.ppo` with losses that are scaled for float16, and with what Keras's optimizers do of their own."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from helpers import assert_all_close, assert_close, observations, random_table, random_trajectory, tiny_agent, weights_of
from ppo_keras import PPOConfig
from test_ppo import Given

LossScaleOptimizer, SGD = keras.optimizers.LossScaleOptimizer, keras.optimizers.SGD


def learner(optimizer, config=None, policy=None):
    """A `PPO` that runs eagerly, on a table of random numbers."""
    ppo = Given(policy or random_table(), config or PPOConfig(epochs=1, minibatches=2, max_gradient_norm=None))
    ppo.compile(optimizer, run_eagerly=True)
    return ppo


def one_step(optimizer, config, mode="eager"):
    """Weights and metrics after one step of a table of random numbers."""
    ppo = learner(optimizer, config)
    step = ppo.step_optimizer if mode == "eager" else tf.function(ppo.step_optimizer, jit_compile=mode == "jit", autograph=False)
    metrics = step(ppo.estimate(random_trajectory()))
    return weights_of(ppo.policy), {name: float(value) for name, value in metrics.items()}


@pytest.mark.parametrize("mode, accumulation_steps, limit", [
    ("eager", 1, None), ("eager", 2, None), ("eager", 1, 0.05), ("eager", 2, 0.05), ("graph", 2, 0.05), ("jit", 1, 0.05),
])  # fmt: skip
def test_a_scaled_loss_gives_the_step_of_the_loss(mode, accumulation_steps, limit):
    """Catches: a step 32,768 times too small (`apply` divides by a scale that the loss never had) or too large, and a norm of scaled gradients."""
    config = PPOConfig(accumulation_steps=accumulation_steps, max_gradient_norm=limit)
    expected = one_step(SGD(0.1), config)
    assert expected[1]["optimizer/gradient_norm"] > 0.1
    assert_all_close(one_step(LossScaleOptimizer(SGD(0.1)), config, mode), expected)
    if mode == "eager":
        assert_all_close(one_step(SGD(0.1, loss_scale_factor=1000.0), config), expected)


def test_gradients_that_are_looked_at_are_those_of_the_loss():
    """Catches: histograms of gradients, in TensorBoard, that are 32,768 times too large."""
    plain, scaled = (learner(optimizer) for optimizer in (SGD(0.1), LossScaleOptimizer(SGD(0.1))))
    one, other = (ppo.gradients(ppo.estimate(random_trajectory()), tf.constant(24.0))[0] for ppo in (plain, scaled))
    assert_all_close(other, one)


def half_agent(dtype="mixed_float16"):
    """An agent of its own precision; the global one is float32 again."""
    keras.config.set_dtype_policy(dtype)
    agent = tiny_agent("mlp", spread=0.3)
    keras.config.set_dtype_policy("float32")
    return agent


def own_trajectory(agent, small=1.0):
    """What an agent did itself, with advantages (at discount 1 and lambda 0) and errors of its values as small as wished."""
    trajectory, x = random_trajectory(4, 6, vocabulary_size=3, lengths=[6] * 4), observations((4,), 4, 6)
    logits, values = agent(x)
    log_probs = agent.distribution.log_probability(logits, trajectory.actions)
    return trajectory._replace(inputs=x, log_probs=log_probs, values=values, next_values=values, rewards=trajectory.rewards * small)


PLAIN = PPOConfig(discount=1.0, gae_lambda=0.0, epochs=1, minibatches=1, whiten_advantages=False, value_clip=None, max_gradient_norm=None)


@pytest.mark.parametrize("small", [1.0, 1e-6])
def test_an_agent_in_float16_takes_the_step_of_one_in_float32(small):
    """Catches: a policy of its own precision whose loss is not scaled, as the learner's is float32: small gradients are 0 in float16."""
    changes = []
    for dtype in ("float32", "mixed_float16"):
        agent = half_agent(dtype)
        before, ppo = weights_of(agent), learner(SGD(1.0 / small), PLAIN, agent)
        assert isinstance(ppo.optimizer, LossScaleOptimizer) is (dtype == "mixed_float16")
        assert ppo.improve(own_trajectory(agent, small))["optimizer/steps"] == 1
        changes.append(np.concatenate([(new - old).ravel() for new, old in zip(weights_of(agent), before)]))
    assert np.linalg.norm(changes[1] - changes[0]) < 0.02 * np.linalg.norm(changes[0])


def test_a_step_that_overflows_is_left_out():
    """Catches: NaN in weights, a norm of infinity that ends the training, steps counted that were not taken, a scale that never falls."""
    agent = half_agent()
    optimizer = LossScaleOptimizer(SGD(1e-3), initial_scale=2.0**22)
    ppo, seen = learner(optimizer, PPOConfig(epochs=5, minibatches=2), agent), []
    original = ppo.step_optimizer
    ppo.step_optimizer = lambda experience: (seen.append(original(experience)), seen[-1])[1]
    metrics = ppo.improve(own_trajectory(agent))
    taken = [found for found in seen if found["optimizer/steps"] == 1]
    assert len(seen) == 10 and seen[0]["optimizer/steps"] == 0 and 2 <= len(taken) <= 8
    assert float(optimizer.dynamic_scale) == 2.0 ** (22 - 10 + len(taken))
    assert metrics["optimizer/steps"] == int(optimizer.iterations) == len(taken)
    assert_close(metrics["optimizer/gradient_norm"], np.mean([found["optimizer/gradient_norm"] for found in taken]))
    assert all(np.isfinite(value) for value in metrics.values()) and all(np.all(np.isfinite(w)) for w in weights_of(agent))


def test_an_overflow_of_a_loss_that_is_not_scaled_shows():
    """Catches: a norm that is not finite and passes for a step left out, where nothing leaves it out."""
    ppo = learner(SGD(0.1))
    trajectory = random_trajectory()
    metrics = ppo.improve(trajectory._replace(rewards=trajectory.rewards * float("inf")))
    assert not np.isfinite(metrics["optimizer/gradient_norm"])


def test_the_scale_is_part_of_the_state():
    """Catches: a scale that begins anew where a training goes on, and steps until it grows that are counted anew."""
    make = lambda: learner(LossScaleOptimizer(SGD(0.1), initial_scale=8.0, dynamic_growth_steps=3))
    ppo, other = make(), make()
    for _ in range(2):
        ppo.improve(random_trajectory())
    assert (float(ppo.optimizer.dynamic_scale), int(ppo.optimizer.step_counter)) == (16.0, 1)
    other.restore(ppo.state())
    assert (float(other.optimizer.dynamic_scale), int(other.optimizer.step_counter)) == (16.0, 1)


@pytest.mark.parametrize("option", [
    {"global_clipnorm": 0.05}, {"gradient_accumulation_steps": 2}, {"use_ema": True, "ema_momentum": 0.5, "ema_overwrite_frequency": 2},
])  # fmt: skip
def test_keras_own_options_of_an_optimizer_hold(option):
    """Catches: options of a Keras optimizer that are dropped, or that read scaled gradients."""
    tables = []
    for optimizer in (SGD(0.1), SGD(0.1, **option), LossScaleOptimizer(SGD(0.1, **option))):
        ppo = learner(optimizer)
        experience = ppo.estimate(random_trajectory())
        for _ in range(2):
            ppo.step_optimizer(experience)
        tables.append(weights_of(ppo.policy)[0])
    assert_close(tables[2], tables[1])
    moved, plain = (np.linalg.norm(table - random_table().table.numpy()) for table in (tables[1], tables[0]))
    if "global_clipnorm" in option:
        assert 0 < moved < 2 * 0.1 * 0.05
    else:  # one step, of the mean of two gradients; the mean of the weights after each of two steps
        least, most = (0.4, 0.6) if "gradient_accumulation_steps" in option else (0.6, 0.9)
        assert least < moved / plain < most
