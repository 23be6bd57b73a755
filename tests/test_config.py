"""`ppo_keras.config`: bad values are refused by name."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest

from helpers import assert_close
from ppo_keras import KLConfig, OptimizerConfig, PPOConfig
from ppo_keras.environments.config import GridConfig
from ppo_keras.errors import InputError
from ppo_keras.tasks.config import GenerationConfig

BAD = [
    (PPOConfig, "discount", -0.1), (PPOConfig, "discount", 1.01), (PPOConfig, "gae_lambda", -0.1), (PPOConfig, "gae_lambda", 1.5),
    (PPOConfig, "clip_ratio", 0.0), (PPOConfig, "temperature", 0.0), (PPOConfig, "temperature", -1.0), (PPOConfig, "value_clip", 0.0),
    (PPOConfig, "target_kl", 0.0), (PPOConfig, "max_gradient_norm", -1.0), (PPOConfig, "value_coefficient", -0.1),
    (PPOConfig, "entropy_coefficient", -0.1), (PPOConfig, "epochs", 0), (PPOConfig, "minibatches", 0),
    (PPOConfig, "accumulation_steps", 0), (PPOConfig, "critic_warmup", -1), (PPOConfig, "dual_clip", 1.0), (PPOConfig, "discount", float("nan")),
    (PPOConfig, "clip_ratio", float("nan")), (KLConfig, "kl_coefficient", -0.1), (KLConfig, "kl_target", 0.0),
    (KLConfig, "kl_horizon", 0), (KLConfig, "kl_estimator", "k4"), (OptimizerConfig, "learning_rate", -1e-4),
    (OptimizerConfig, "schedule", "step"), (OptimizerConfig, "adam_epsilon", 0.0),
]  # fmt: skip


@pytest.mark.parametrize("kind, field, value", BAD)
def test_a_bad_value_is_named(kind, field, value):
    """Catches: a setting outside its range (NaN too) that is accepted, or an error that names another field."""
    with pytest.raises(InputError, match=f"^{field}="):
        kind(**{field: value})


@pytest.mark.parametrize(
    "kind, field, value, said",
    [
        (PPOConfig, "discount", "0.9", "'0.9' is not a number. Give one"),
        (PPOConfig, "clip_ratio", None, "None is not a number"),
        (PPOConfig, "value_clip", "0.2", "'0.2' is not a number or None"),
        (PPOConfig, "epochs", 2.5, "2.5 is not a whole number"),
        (PPOConfig, "epochs", True, "True is not a whole number"),
        (PPOConfig, "discount", True, "True is not a number"),
        (PPOConfig, "whiten_advantages", None, "None is not True or False"),
        (KLConfig, "kl_coefficient", [0.1], r"\[0.1\] is not a number"),
        (OptimizerConfig, "schedule", None, "None is not a word"),
    ],
)
def test_a_value_of_another_kind_is_named(kind, field, value, said):
    """Catches: `'<=' not supported between 'int' and 'str'`; half an epoch that fails in the first iteration; None for False."""
    with pytest.raises(InputError, match=f"^{field}={said}"):
        kind(**{field: value})
    kind(**{field: {"schedule": "cosine", "whiten_advantages": False}.get(field, np.float32(1) if kind is KLConfig else np.int64(1))})


@pytest.mark.parametrize(
    "kind, field, value",
    [(PPOConfig, "discount", 1.0), (PPOConfig, "gae_lambda", 0.0), (PPOConfig, "value_clip", None), (PPOConfig, "target_kl", None),
     (PPOConfig, "max_gradient_norm", None), (PPOConfig, "dual_clip", 3.0), (PPOConfig, "entropy_coefficient", 0.0),
     (KLConfig, "kl_coefficient", 0.0), (KLConfig, "kl_estimator", "k3"), (OptimizerConfig, "learning_rate", 0.0)],
)  # fmt: skip
def test_the_edges_of_the_ranges_are_allowed(kind, field, value):
    """Catches: < for <= at a limit, and None refused where it switches something off."""
    assert getattr(kind(**{field: value}), field) == value


@pytest.mark.parametrize("kind", [PPOConfig, KLConfig, OptimizerConfig])
def test_settings_cannot_change_after_they_were_checked(kind):
    """Catches: a mutable config, whose later values nobody checks and a compiled step never sees."""
    config = kind()
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(config, dataclasses.fields(config)[0].name, 1)


def test_every_bad_value_has_a_field():
    """Catches: a new field without a check of its range."""
    unchecked = {"whiten_advantages", "whiten_rewards"}  # bool
    for kind in (PPOConfig, KLConfig, OptimizerConfig):
        assert {f.name for f in dataclasses.fields(kind)} - unchecked == {field for k, field, _ in BAD if k is kind}


def test_a_batch_must_split_evenly():
    """Catches: sequences silently dropped by a minibatch or micro-batch that does not divide the batch."""
    PPOConfig(minibatches=4, accumulation_steps=2).check_batch(16)
    with pytest.raises(InputError, match=r"minibatches=4 does not divide batch_size=10\. Use a divisor such as (\d+, )+\d+\."):
        PPOConfig(minibatches=4).check_batch(10)
    with pytest.raises(InputError, match="accumulation_steps=8 does not divide batch_size=12"):
        PPOConfig(minibatches=4, accumulation_steps=2).check_batch(12)


@pytest.mark.parametrize("kind, settings", [(GenerationConfig, dict(iterations=3)), (GridConfig, dict(environment_steps=3 * 64, environments=8, steps=8))])
def test_a_critic_must_leave_iterations_to_the_policy(kind, settings):
    """Catches: a run whose policy never learns, without a word."""
    kind(**settings, ppo=PPOConfig(critic_warmup=2))
    with pytest.raises(InputError, match="critic_warmup=3 leaves none of the 3 iterations"):
        kind(**settings, ppo=PPOConfig(critic_warmup=3))


@pytest.mark.parametrize("schedule, middle, end", [("constant", 1.0, 1.0), ("linear", 0.5, 0.0), ("cosine", 0.5, 0.0)])
def test_the_schedule_spans_the_training(schedule, middle, end):
    """Catches: a learning rate that does not start, halve or end where its schedule says (100 steps)."""
    optimizer = OptimizerConfig(2e-3, schedule, adam_epsilon=1e-4).build(total_steps=100)
    assert optimizer.epsilon == 1e-4
    for step, share in ((0, 1.0), (50, middle), (100, end)):
        optimizer.iterations.assign(step)
        assert_close(float(optimizer.learning_rate), 2e-3 * share, atol=1e-9)


def test_settings_load_without_tensorflow():
    """Catches: an import of TensorFlow that makes `ppo-keras --help` take seconds."""
    code = "import sys, ppo_keras; ppo_keras.PPOConfig(); sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
