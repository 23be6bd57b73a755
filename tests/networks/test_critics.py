"""Whose gradient moves what, and whose adapters are read: critics on the policy's trunk (`networks.actor_critic`, `networks.adapters`)."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from helpers import assert_close, tiny_policy
from ppo_keras import RewardModel, TransformerActorCritic
from ppo_keras.errors import InputError
from ppo_keras.networks.adapters import adapter_settings, adapter_variables, add_adapters, reference_of

TOKENS = tf.constant([[5, 9, 7, 11], [4, 20, 6, 8]])


def spread(variables, seed=0):
    """Gives variables values that differ from any that they had."""
    for i, variable in enumerate(variables):
        variable.assign(tf.random.stateless_normal(variable.shape, [seed, i], stddev=0.4))


def policy_with(critic):
    """A policy with adapters that have learned something, and a critic of this kind."""
    policy = tiny_policy(layers=2, memory=24)
    if critic == "detached":
        policy = TransformerActorCritic.from_config(policy.get_config() | {"detached": True})
        policy.set_weights(tiny_policy(layers=2, memory=24).get_weights())
    add_adapters(policy, 2, 3.0, critic=critic == "adapters")
    spread(adapter_variables(policy))
    return policy


def test_the_critic_reads_with_its_own_adapters():
    """Catches: adapters exchanged between the roles, those of one block for another's, a role that stays switched on after it was traced."""
    policy, twin = policy_with("adapters"), policy_with("shared")
    spread(policy.critic_adapters.trainable_variables, seed=1)
    twin.value_head.set_weights(policy.value_head.get_weights())
    logits, values = policy(TOKENS)
    assert_close(logits, twin(TOKENS)[0])
    spread(adapter_variables(twin), seed=1)  # in the same order: A and B of each block
    assert_close(values, twin(TOKENS)[1])
    assert np.abs(values - policy_with("shared")(TOKENS)[1]).max() > 0.01
    assert_close(policy(TOKENS)[0], logits, 0, 0)


def test_step_is_call_with_adapters_of_the_critic():
    """Catches: a memory that the roles share, a critic that steps with the policy's adapters."""
    policy = policy_with("adapters")
    spread(policy.critic_adapters.trainable_variables, seed=1)
    logits, values = policy(TOKENS)
    state = policy.initial_state(2)
    for t in range(TOKENS.shape[1]):
        one_logits, one_value, state = policy.step(TOKENS[:, t], state)
        assert_close(one_logits, logits[:, t], 1e-4, 1e-5)
        assert_close(one_value, values[:, t], 1e-4, 1e-5)


@pytest.mark.parametrize("critic, moved", [("shared", {"policy"}), ("detached", set()), ("adapters", {"critic"})])
def test_the_gradient_of_the_values_moves(critic, moved):
    """Catches: a detached critic whose gradient reaches the trunk, a critic with adapters that pulls at the policy's, a head without a gradient."""
    policy = policy_with(critic)
    groups = {"policy": adapter_variables(policy), "critic": policy.critic_adapters.trainable_variables if critic == "adapters" else []}
    spread(groups["critic"], seed=1)
    with tf.GradientTape(persistent=True) as tape:
        logits, values = policy(TOKENS)
        of_values, of_logits = tf.reduce_sum(values**2), tf.reduce_sum(logits**2)
    has = lambda target, variables: {bool(np.any(g)) if g is not None else False for g in tape.gradient(target, [v.value for v in variables])}
    for name, variables in groups.items():
        assert not variables or has(of_values, variables) == {name in moved}
    assert has(of_logits, groups["policy"]) == {True} and (not groups["critic"] or has(of_logits, groups["critic"]) == {False})
    assert has(of_values, policy.value_head.trainable_variables) == {True}
    critics = {id(variable) for variable in policy.critic_variables}
    assert critics == {id(variable) for variable in [*groups["critic"], *policy.value_head.trainable_variables]}


@pytest.mark.parametrize("jit", [pytest.param(False, marks=pytest.mark.full), True])
def test_recomputed_blocks_keep_the_adapters_of_their_role(jit):
    """Catches: a block that is computed once more, backwards, with the policy's adapters, because the critic's are no longer switched on by then."""
    plain = policy_with("adapters")
    spread(plain.critic_adapters.trainable_variables, seed=1)
    policy = type(plain).from_config(plain.get_config() | {"recompute": True})
    policy.set_weights(plain.get_weights())

    def gradients(one):
        with tf.GradientTape() as tape:
            logits, values = one(TOKENS)
            loss = tf.reduce_sum(logits**2) + tf.reduce_sum(values**2)
        return tape.gradient(loss, [v.value for v in one.trainable_variables])

    expected, found = (tf.function(lambda one=one: gradients(one), jit_compile=jit, autograph=False)() for one in (plain, policy))
    for one, other in zip(expected, found):
        assert_close(other, one, 1e-4, 1e-5 * np.abs(one).max())


@pytest.mark.parametrize("critic", ["detached", "adapters"])
def test_a_critic_is_saved_and_copied(critic, tmp_path):
    """Catches: a loaded or copied policy whose critic is another kind, or begins anew."""
    policy = policy_with(critic)
    if critic == "adapters":
        spread(policy.critic_adapters.trainable_variables, seed=1)
    policy.save(tmp_path / "policy.keras")
    for twin in (policy.copy(), keras.models.load_model(tmp_path / "policy.keras")):
        assert twin.detached == policy.detached and adapter_settings(twin) == adapter_settings(policy)
        assert len(twin.trainable_variables) == len(policy.trainable_variables)
        for mine, theirs in zip(twin(TOKENS), policy(TOKENS)):
            assert_close(mine, theirs)


def test_a_critic_begins_with_the_adapters_of_the_policy():
    """Catches: a critic that reads with the checkpoint's features after the policy's supervised training, or V other than 0."""
    policy = policy_with("adapters")
    policy.start_value_from_policy()
    for mine, theirs in zip(policy.critic_adapters.trainable_variables, adapter_variables(policy)):
        assert_close(mine, theirs, 0, 0)
    assert not np.any(policy(TOKENS)[1])


@pytest.mark.parametrize("critic", ["shared", "adapters"])
def test_a_critic_begins_with_the_reward_model(critic):
    """Catches: a scaling that is left out or applied twice, a bias lost: V of each beginning must be the score that it would have as a whole text."""
    policy = policy_with(critic)
    model, random = RewardModel(reference_of(policy)), np.random.default_rng(0)
    model.scaling.adapt(random.normal(1, 3, [50, 16]).astype(np.float32))
    model.head.set_weights([random.normal(0, 1, [16, 1]), np.array([0.7])])
    policy.start_value_from_reward(model)
    scores = [model((TOKENS[:, : t + 1], tf.ones([2, t + 1]))) for t in range(TOKENS.shape[1])]
    assert_close(policy(TOKENS)[1], np.stack(scores, 1), 1e-4, 1e-4)


def test_critics_that_cannot_be_are_refused():
    """Catches: a critic that would never learn, a reward model whose head reads something else."""
    with pytest.raises(ValueError, match="the critic has one of its own"):
        TransformerActorCritic(inputs=12, width=16, heads=2, shared=False, detached=True)
    with pytest.raises(InputError, match="the policy is detached"):
        add_adapters(TransformerActorCritic(inputs=12, width=16, heads=2, detached=True), 2, critic=True)
    policy = policy_with("shared")
    for model in (None, RewardModel(policy.new_encoder()), RewardModel(reference_of(policy), outputs=2)):
        with pytest.raises(InputError, match="a reward model of one output on the trunk"):
            policy.start_value_from_reward(model)
