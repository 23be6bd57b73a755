"""`ppo_keras.networks.adapters`: what is frozen, what is trained, and the policy without them."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from helpers import assert_all_close, assert_close, ragged_prompts, tiny_policy
from ppo_keras.config import PPOConfig
from ppo_keras.errors import InputError
from ppo_keras.language.generation import generate
from ppo_keras.language.ppo import LanguagePPO
from ppo_keras.networks.adapter_settings import LAYERS
from ppo_keras.networks.adapters import Frozen, Linear, adapted, adapter_settings, adapter_variables, adapters_off, add_adapters

TOKENS = np.arange(10, dtype=np.int32).reshape(2, 5) % 7


def adapted_policy(rank=2, moved=True, **settings):
    """A small Transformer with adapters that change what it says."""
    policy = tiny_policy("transformer")
    add_adapters(policy, rank, **settings)
    if moved:
        for i, variable in enumerate(adapter_variables(policy)):
            variable.assign(tf.random.stateless_normal(variable.shape, [i, 5]))
    return policy


def test_new_adapters_change_nothing():
    """Catches: a B that is not zero at first, so that the reference and the policy begin apart."""
    plain = tiny_policy("transformer")
    expected = plain(TOKENS)[0]
    policy = plain.copy()
    add_adapters(policy, 2)
    assert_close(policy(TOKENS)[0], expected, rtol=0, atol=0)


def test_an_adapted_layer_by_hand():
    """Catches: alpha or rank left out of the factor, A and B exchanged."""
    policy = adapted_policy(rank=2, alpha=3.0)
    layer, x = adapted(policy)[0], tf.random.stateless_normal([4, policy.encoder.width], [1, 2])
    a, b = (v.numpy().astype(np.float64) for v in (layer.lora_kernel_a, layer.lora_kernel_b))
    expected = x.numpy() @ (layer._kernel.numpy() + 3.0 / 2.0 * a @ b) + layer.bias.numpy()
    assert_close(layer(x), expected, atol=1e-4)


@pytest.mark.parametrize("policy, tolerance", [("float32", 1e-6), ("mixed_float16", 2**-9), ("mixed_bfloat16", 2**-6), ("bfloat16", 2**-6)])
def test_an_adapted_layer_in_every_precision(policy, tolerance):
    """Catches: A and B in 16 bits beside what goes in in 32, which is refused or multiplied by a kernel that few devices have."""
    layer = Linear(3, dtype=policy)
    layer.build((None, 8))
    layer.enable_lora(2)
    x = tf.random.stateless_normal([2, 5, 8], [1, 0])
    layer.lora_kernel_b.assign(tf.random.stateless_normal([2, 3], [2, 0]))
    kernel, a, b = (np.asarray(tf.cast(v.value, tf.float64)) for v in (layer._kernel, layer.lora_kernel_a, layer.lora_kernel_b))
    expected = x.numpy().astype(np.float64) @ (kernel + layer.lora_alpha / layer.lora_rank * a @ b)
    compiled = tf.function(layer, autograph=False)
    assert_close(tf.cast(compiled(x), tf.float64), expected, rtol=0, atol=tolerance * np.abs(expected).max())
    assert "SparseMatMul" not in {operation.type for operation in compiled.get_concrete_function(x).graph.get_operations()}


def test_layers_may_have_ranks_of_their_own():
    """Catches: a rank for all layers, a factor that is not the same for all, adapters where none were asked for, a copy that has others."""
    policy = adapted_policy(rank=2, alpha=3.0, layers={"query_key_value": 6, "contract": 2})
    block = policy.encoder.trunk.blocks[0]
    assert [layer.lora_rank for layer in adapted(policy)] == [6, 2] and block.expand.lora_rank is None
    assert {layer.lora_alpha / layer.lora_rank for layer in adapted(policy)} == {1.5}
    twin = policy.copy()
    assert adapter_settings(twin) == adapter_settings(policy) == dict(rank=6, alpha=9.0, layers={"query_key_value": 6, "contract": 2})
    assert_close(twin(TOKENS)[0], policy(TOKENS)[0], rtol=0, atol=0)
    for layers in ({}, {"embedding": 2}, {"contract": 0}):
        with pytest.raises(InputError, match="lora_layers"):
            add_adapters(tiny_policy(), 2, layers=layers)


@pytest.mark.parametrize("layers", list(LAYERS))
def test_what_is_trained(layers):
    """Catches: biases, norms or embeddings that are trained beside the adapters, or a value head that is not."""
    policy = adapted_policy(layers=layers)
    trained = {id(v) for v in policy.trainable_variables}
    assert trained == {id(v) for v in (*adapter_variables(policy), *policy.value_head.trainable_variables)}
    assert len(adapter_variables(policy)) == 2 * len(LAYERS[layers]) * policy.encoder.config["layers"]
    assert {id(v) for v in policy.frozen_variables} == {id(v) for v in policy.encoder.variables} - trained


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "jit"])
def test_off_is_the_network_before(compiled):
    """Catches: adapters that stay in a compiled reference, or that are off for ever."""
    plain = tiny_policy("transformer")
    policy = plain.copy()
    add_adapters(policy, 2)
    for i, variable in enumerate(adapter_variables(policy)):
        variable.assign(tf.random.stateless_normal(variable.shape, [i, 5]))
    on = lambda x: policy(x)[0]

    def off(x):
        with adapters_off(policy):
            return policy(x)[0]

    if compiled:
        on, off = tf.function(on, jit_compile=True), tf.function(off, jit_compile=True)
    before = on(TOKENS)
    assert_close(off(TOKENS), plain(TOKENS)[0], atol=1e-6)
    assert np.abs(before - off(TOKENS)).max() > 0.1
    assert_close(on(TOKENS), before, rtol=0, atol=0)
    with pytest.raises(RuntimeError), adapters_off(policy):
        raise RuntimeError
    assert_close(policy(TOKENS)[0], before, atol=1e-5)


@pytest.mark.parametrize("layers", list(LAYERS))
def test_a_copy_has_the_same_adapters(layers):
    """Catches: a copy without adapters, or one whose adapters follow the original."""
    policy = adapted_policy(rank=3, alpha=5.0, layers=layers)
    twin, expected = policy.copy(name="twin"), policy(TOKENS)[0].numpy()
    assert adapter_settings(twin) == adapter_settings(policy) == dict(rank=3, alpha=5.0, layers=layers)
    for variable in adapter_variables(policy):
        variable.assign(variable + 1.0)
    assert_close(twin(TOKENS)[0], expected, rtol=0, atol=0)
    assert [v.shape for v in twin.trainable_variables] == [v.shape for v in policy.trainable_variables]


def test_a_saved_policy_holds_what_was_learned(tmp_path):
    """Catches: a file without the adapters: the policy as it was before it learned."""
    policy = adapted_policy()
    policy.save(tmp_path / "policy.keras")
    loaded = keras.models.load_model(tmp_path / "policy.keras", compile=False)
    assert_close(loaded(TOKENS)[0], policy(TOKENS)[0], rtol=0, atol=0)
    with adapters_off(loaded), adapters_off(policy):
        assert_close(loaded(TOKENS)[0], policy(TOKENS)[0], rtol=0, atol=0)
    assert adapter_settings(loaded) == adapter_settings(policy) and len(loaded.trainable_variables) == len(policy.trainable_variables)


def test_saved_weights_bring_the_adapters_back(tmp_path):
    """Catches: W + A B written for W, and A = B = 0 read back, from which no gradient leads away."""
    policy, other = adapted_policy(), adapted_policy(moved=False)
    policy.save_weights(tmp_path / "policy.weights.h5")
    other.load_weights(tmp_path / "policy.weights.h5")
    assert_close(other(TOKENS)[0], policy(TOKENS)[0], rtol=0, atol=0)
    with adapters_off(other), adapters_off(policy):
        assert_close(other(TOKENS)[0], policy(TOKENS)[0], rtol=0, atol=0)


@pytest.mark.parametrize("moved", [False, True], ids=["new", "warm"])
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "jit"])
def test_a_frozen_twin_never_follows(moved, compiled):
    """Catches: a reference that is the base network although the adapters were trained before PPO, one that follows them or the heads, one that stays
    in force after its call, a second copy of the frozen weights."""
    policy = adapted_policy(moved=moved)
    wrap = (lambda function: tf.function(function, jit_compile=True)) if compiled else lambda function: function
    expected = tuple(part.numpy() for part in wrap(lambda x: policy(x))(TOKENS))
    twin = Frozen(policy)
    for variable in policy.trainable_variables:
        variable.assign(variable + tf.random.stateless_normal(variable.shape, [1, 2]))
    read = wrap(lambda x: twin(x))
    assert_all_close(read(TOKENS), expected, atol=1e-5)
    assert np.abs(policy(TOKENS)[0] - expected[0]).max() > 0.1
    for variable in policy.trainable_variables:
        variable.assign(variable - 1.0)
    assert_all_close(read(TOKENS), expected, atol=1e-5)
    learned = policy.trainable_variables if moved else policy.value_head.trainable_variables
    assert [tuple(v.shape) for v in twin.variables] == [tuple(v.shape) for v in learned]


@pytest.mark.parametrize("moved", [False, True], ids=["new", "warm"])
def test_a_frozen_twin_knows_whether_the_policy_still_writes_alike(moved):
    """Catches: adapters that were new when it was made and have learned since, a critic that begins with a reward model taken for another writer."""
    policy = adapted_policy(moved=moved, critic=True)
    twin, layer = Frozen(policy), adapted(policy)[-1]
    for variable in policy.critic_variables:
        variable.assign(variable + 1.0)
    assert twin.is_still(policy) and not twin.is_still(policy.copy())
    layer.lora_kernel_b.assign(layer.lora_kernel_b + 1.0)
    assert not twin.is_still(policy)


def test_a_frozen_twin_keeps_a_critic_that_learned_first():
    """Catches: a critic's adapters switched off with the policy's, which are still new."""
    policy = adapted_policy(moved=False, critic=True)
    for variable in policy.critic_adapters.trainable_variables:
        variable.assign(tf.random.stateless_normal(variable.shape, [1, 2]))
    assert_all_close(Frozen(policy)(TOKENS), policy(TOKENS), rtol=0, atol=0)


@pytest.mark.parametrize("moved", [False, True], ids=["new", "warm"])
def test_a_frozen_twin_can_write(moved):
    """Catches: a twin that reads as it was and writes as the policy is now; adapters that are on again inside another look without them."""
    policy, prompts = adapted_policy(moved=moved), ragged_prompts()
    write = lambda one: generate(one, prompts, 5, 3, 0, tf.constant([0, 1]), greedy=True)
    expected, plain = write(policy), Frozen(policy)
    for variable in adapter_variables(policy):
        variable.assign(variable + tf.random.stateless_normal(variable.shape, [1, 2]))
    assert_all_close(write(plain), expected, rtol=0, atol=0)
    assert not np.array_equal(write(policy).log_probs, expected.log_probs)
    if not moved:
        with adapters_off(policy):
            assert_all_close(write(plain), expected, rtol=0, atol=0)
            assert_all_close(write(policy), expected, rtol=0, atol=0)


def test_ppo_moves_the_adapters_and_never_the_reference():
    """Catches: a reference that follows the policy, a second copy of the weights, frozen weights in every state, a ratio that is not 1."""
    policy = adapted_policy(moved=False)
    reward = lambda prompts, responses: tf.reduce_mean(tf.cast(responses.tokens, tf.float32), axis=1)
    ppo = LanguagePPO(policy, reward, end_id=3, pad_id=0, response_length=4, config=PPOConfig(epochs=1, minibatches=2))
    assert isinstance(ppo.reference, Frozen) and len(ppo.reference.variables) == len(policy.value_head.variables)
    ppo.compile(keras.optimizers.Adam(0.05), jit_compile=False)
    prompts = ragged_prompts()
    frozen, before = [v.numpy() for v in policy.frozen_variables], [v.numpy() for v in adapter_variables(policy)]
    expected = ppo.reference(TOKENS)[0].numpy()
    data = tf.data.Dataset.from_tensors(prompts).repeat()
    history = ppo.fit(data, steps_per_epoch=1, epochs=3, verbose=0).history
    assert history["policy/first_ratio_gap"][0] < 1e-4 and abs(history["objective/kl"][0]) < 1e-5
    assert all(np.array_equal(old, v.numpy()) for old, v in zip(frozen, policy.frozen_variables))
    assert all(not np.array_equal(old, v.numpy()) for old, v in zip(before, adapter_variables(policy)))
    assert_close(ppo.reference(TOKENS)[0], expected, rtol=0, atol=0)
    assert history["objective/kl"][2] != 0
    kept = {id(v) for v in ppo.changing}
    assert not kept & {id(v) for v in policy.frozen_variables} and {id(v) for v in adapter_variables(policy)} <= kept


def test_frozen_weights_have_no_gradient():
    """Catches: a gradient of the frozen weights that is written down in every program, and compiled or at least pruned."""
    ppo = LanguagePPO(adapted_policy(), lambda prompts, responses: tf.ones([4]), end_id=3, pad_id=0, response_length=5)
    ppo.compile(keras.optimizers.Adam(0.05), jit_compile=False)
    experience = ppo.estimate(ppo.collect(ragged_prompts())[0])
    graph = tf.function(lambda: ppo.gradients(experience, 1.0), autograph=False).get_concrete_function().graph
    shapes = [tuple(operation.outputs[0].shape) for operation in graph.get_operations() if operation.type == "MatMul"]
    frozen = {tuple(variable.shape) for variable in ppo.policy.frozen_variables if len(variable.shape) == 2}
    assert shapes and not frozen & set(shapes)


@pytest.mark.parametrize(
    "settings, words",
    [(dict(rank=0), "lora_rank=0"), (dict(layers="mlp"), "lora_layers='mlp' is unknown"), (dict(alpha=-1.0), "lora_alpha=-1.0 is not positive")],
)
def test_arguments_out_of_range(settings, words):
    """Catches: adapters of no rank, or a factor that turns them round."""
    with pytest.raises(InputError, match=words):
        adapted_policy(**settings)


def test_adapters_once():
    """Catches: adapters on adapters; a reference without adapters of a policy that is trained whole."""
    policy = adapted_policy()
    with pytest.raises(InputError, match="has adapters already"):
        add_adapters(policy, 2)
    with pytest.raises(InputError, match="but adapters are for a TransformerActorCritic"):
        add_adapters(tiny_policy("lstm"), 2)
    with pytest.raises(InputError, match="a critic of its own"):
        add_adapters(tiny_policy("transformer", shared=False), 2)
    with pytest.raises(InputError, match="no adapters"):
        Frozen(tiny_policy("transformer"))
