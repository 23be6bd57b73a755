"""`ppo_keras.networks`: acting step by step and reading whole sequences give the same numbers."""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from helpers import NETWORKS, VOCABULARY, assert_all_close, assert_close, observations, tiny_agent, tiny_policy, tiny_reader, weights_of
from ppo_keras import LSTMActorCritic, TransformerActorCritic
from ppo_keras.distributions import Categorical, DiagonalGaussian, MultiCategorical
from ppo_keras.errors import InputError
from ppo_keras.networks.actor_critic import MLPActorCritic, new_policy
from ppo_keras.networks.adapters import add_adapters
from ppo_keras.networks.encoder import NO_TOKEN, Encoder, ObservationEncoder, TextEncoder, TokenEncoder
from ppo_keras.networks.transformer import TransformerTrunk, attend, rotate

BATCH, STEPS = 3, 8
TOKENS = tf.constant(np.random.default_rng(1).integers(0, VOCABULARY, [BATCH, STEPS]), tf.int32)
STARTS = tf.constant([[1, 0, 0, 0, 0, 0, 0, 0], [0, 0, 1, 0, 0, 1, 0, 0], [0, 0, 0, 0, 1, 1, 0, 0]], tf.float32)  # padding, resets in the middle
PARTS = [pytest.param(network, shared, id=f"{network}-{'shared' if shared else 'separate'}") for network in NETWORKS for shared in (True, False)]
every_policy = pytest.mark.parametrize("network, shared", PARTS)
every_network = pytest.mark.parametrize("network", NETWORKS)


def unroll(policy, tokens, starts=None, state=None):
    """Logits `(B, T, V)`, values `(B, T)` and the last state, by `step` after `step`."""
    state = policy.initial_state(tokens.shape[0]) if state is None else state
    logits, values = [], []
    for t in range(tokens.shape[1]):
        step_logits, step_values, state = policy.step(tokens[:, t], state, None if starts is None else starts[:, t])
        logits.append(step_logits)
        values.append(step_values)
    return (tf.stack(logits, 1), tf.stack(values, 1)), state


@every_policy
@pytest.mark.parametrize("starts", [None, STARTS], ids=["no resets", "resets"])
def test_unrolling_step_equals_one_call(network, shared, starts):
    """Text 1. Catches: a reset off by one, a critic without memory, or a mask that differs between acting and training."""
    policy = tiny_policy(network, shared, layers=2)
    assert_all_close(unroll(policy, TOKENS, starts)[0], policy(TOKENS, starts=starts), atol=1e-5)


@every_policy
@pytest.mark.parametrize("cut", [1, 3, 6])
def test_the_state_of_an_earlier_segment_carries_over(network, shared, cut):
    """Catches: a carry that is dropped, stale or taken after a reset: step or read, then call or step, equal one call."""
    policy = tiny_policy(network, shared, layers=2, memory=5)  # cut 6 lies beyond the ring's wrap
    whole = policy(TOKENS, starts=STARTS)
    expected = [output[:, cut:] for output in whole]
    first, second = (TOKENS[:, :cut], STARTS[:, :cut]), (TOKENS[:, cut:], STARTS[:, cut:])
    _, stepped = unroll(policy, *first)
    read = policy.read(first[0], starts=first[1])
    for state in (stepped, read):
        assert_all_close(policy(second[0], initial_state=state, starts=second[1]), tuple(expected), atol=1e-5)
        assert_all_close(unroll(policy, *second, state=state)[0], tuple(expected), atol=1e-5)
    assert_all_close(stepped, read, atol=1e-5)


@every_network
def test_reading_in_two_parts_equals_reading_at_once(network):
    """Catches: `read` with an earlier state that forgets what was remembered or writes to the wrong slots."""
    policy = tiny_policy(network, layers=2, memory=5)
    for cut in (2, 6):
        begun = policy.read(TOKENS[:, :cut], starts=STARTS[:, :cut])
        assert_all_close(policy.read(TOKENS[:, cut:], begun, STARTS[:, cut:]), policy.read(TOKENS, starts=STARTS), atol=1e-5)


@every_policy
def test_context_leaves_out_the_first_outputs(network, shared):
    """Catches: `context` off by one, or inputs before it that are not read."""
    policy = tiny_policy(network, shared)
    assert_all_close(policy(TOKENS, starts=STARTS, context=3), tuple(x[:, 3:] for x in policy(TOKENS, starts=STARTS)))


@every_policy
def test_left_padding_changes_no_number(network, shared):
    """Text 2. Catches: padding that is attended to, shifts positions, or leaves a trace in the LSTM (whatever ids it holds)."""
    policy = tiny_policy(network, shared, layers=2)
    bare = policy(TOKENS, starts=tf.one_hot([0] * BATCH, STEPS))
    for amount, garbage in ((1, 0), (5, 3), (5, 17)):
        padded = tf.pad(TOKENS, [[0, 0], [amount, 0]], constant_values=garbage)
        starts = tf.one_hot([amount] * BATCH, STEPS + amount)
        assert_all_close(policy(padded, starts=starts, context=amount), bare, atol=2e-5)
        after = tuple(x[:, amount:] for x in unroll(policy, padded, starts)[0])
        assert_all_close(after, bare, atol=2e-5)


@every_policy
def test_an_episode_equals_a_fresh_start(network, shared):
    """Catches: memory of the episode before a reset that leaks into the one after it."""
    policy = tiny_policy(network, shared, layers=2)
    logits, values = policy(TOKENS, starts=STARTS)
    fresh_logits, fresh_values = policy(TOKENS[1:2, 5:])
    assert_close(logits[1:2, 5:], fresh_logits, atol=1e-5)
    assert_close(values[1:2, 5:], fresh_values, atol=1e-5)
    assert np.abs(logits[1:2, 5:] - policy(TOKENS)[0][1:2, 5:]).max() > 1e-3


@every_policy
def test_the_future_and_other_sequences_are_not_seen(network, shared):
    """Catches: attention without its causal mask, and (T, B) confused with (B, T)."""
    policy = tiny_policy(network, shared, layers=2)
    logits, values = policy(TOKENS)
    changed = tf.concat([TOKENS[:, :5], (TOKENS[:, 5:] + 1) % VOCABULARY], axis=1)
    other = policy(changed)
    assert_all_close((logits[:, :5], values[:, :5]), (other[0][:, :5], other[1][:, :5]), atol=1e-6)
    assert np.abs(logits[:, 5:] - other[0][:, 5:]).max() > 1e-2
    turned = policy(TOKENS[::-1])
    assert_all_close((turned[0][::-1], turned[1][::-1]), (logits, values), atol=1e-6)


@pytest.mark.parametrize("memory", [1, 3, 4])
def test_a_memory_shorter_than_the_sequence_is_a_window(memory):
    """Catches: a window off by one, and a ring whose slots are read in the wrong order once it has wrapped (11 steps, then more)."""
    policy = tiny_policy("transformer", memory=memory)
    tokens = tf.constant(np.random.default_rng(2).integers(0, VOCABULARY, [2, 11]), tf.int32)
    (logits, _), state = unroll(policy, tokens)
    assert_close(logits, policy(tokens)[0], atol=1e-5)
    seen = policy(tokens[:, -memory:])[0][:, -1]  # one layer: the last output knows the last `memory` tokens and no other
    assert_close(logits[:, -1], seen, atol=1e-5)
    beyond = tokens.numpy()
    beyond[:, : 11 - memory] = (beyond[:, : 11 - memory] + 5) % VOCABULARY
    assert_close(policy(tf.constant(beyond))[0][:, -1], seen, atol=1e-5)
    beyond[:, 11 - memory] = (beyond[:, 11 - memory] + 5) % VOCABULARY
    assert np.abs(policy(tf.constant(beyond))[0][:, -1] - seen).max() > 1e-3
    more = policy(tokens, initial_state=state)[0]
    assert_close(more, policy(tf.concat([tokens, tokens], 1))[0][:, 11:], atol=2e-5)
    assert_close(more, unroll(policy, tokens, state=state)[0][0], atol=2e-5)


def test_the_lstm_equals_keras():
    """Catches: a gate order, bias or recurrence that is not that of `keras.layers.LSTM`."""
    policy = tiny_policy("lstm", layers=2)
    encoder = policy.encoder
    hidden = encoder.embedding(TOKENS) * 4.0
    for cell in encoder.trunk.cells:
        layer = keras.layers.LSTM(16, return_sequences=True)
        layer.build(hidden.shape)
        layer.set_weights(cell.get_weights())
        hidden = layer(hidden)
    assert_close(encoder(TOKENS)[0], encoder.trunk.norm(hidden), atol=1e-5)


def test_the_transformer_equals_numpy():
    """Catches: a post-norm, a missing residual, another scale, mask, GELU or rotation: one block written out in float64."""
    policy = tiny_policy("transformer")
    weights = {w.path.split("encoder/", 1)[-1]: np.asarray(w, np.float64) for w in policy.encoder.weights}
    block = {name.split("block_0/")[1]: w for name, w in weights.items() if "block_0/" in name}
    norm = lambda x, w, name: (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5) * w[f"{name}/gamma"] + w[f"{name}/beta"]
    dense = lambda x, name: x @ block[f"{name}/kernel"] + block[f"{name}/bias"]
    embedding = next(w for name, w in weights.items() if "embedding" in name)

    def turned(x):  # (T, d): the pair (x_i, x_{i + d/2}) as a complex number, times e^{i t theta}
        t, half = np.arange(len(x))[:, None], x.shape[1] // 2
        z = (x[:, :half] + 1j * x[:, half:]) * np.exp(1j * t * 10_000.0 ** (-np.arange(half) / half))
        return np.concatenate([z.real, z.imag], 1)

    x = embedding[TOKENS[0].numpy()] * 4.0
    query, key, value = (part.reshape(STEPS, 2, 8) for part in np.split(dense(norm(x, block, "attention_norm"), "query_key_value"), 3, -1))
    heads = []
    for h in range(2):
        scores = turned(query[:, h]) @ turned(key[:, h]).T / np.sqrt(8)
        scores = np.exp(scores - scores.max(-1, keepdims=True)) * np.tri(STEPS)
        heads.append(scores / scores.sum(-1, keepdims=True) @ value[:, h])
    x = x + dense(np.concatenate(heads, -1), "output_projection")
    hidden = dense(norm(x, block, "mlp_norm"), "expand")
    hidden = 0.5 * hidden * (1 + np.tanh(np.sqrt(2 / np.pi) * (hidden + 0.044715 * hidden**3)))
    x = x + dense(hidden, "contract")
    trunk = {name.split("trunk/")[1]: w for name, w in weights.items() if "trunk/" in name}
    x = norm(x, trunk, "norm")
    logits, values = policy(TOKENS[:1])
    assert_close(logits[0], x @ embedding.T, rtol=1e-4, atol=1e-5)  # float32 sums of 64 products against float64
    kernel, bias = (np.asarray(w, np.float64) for w in policy.value_head.get_weights())
    assert_close(values[0], (x @ kernel + bias)[:, 0], rtol=1e-4, atol=1e-5)


def test_rotation_by_hand():
    """Catches: angles in degrees, a wrong pair or a wrong direction: (1, 0) turned by one radian is (cos 1, sin 1)."""
    x = tf.constant([1.0, 0.0], shape=[1, 1, 1, 2])
    assert_close(rotate(x, tf.constant([1]))[0, 0, 0], [np.cos(1), np.sin(1)])
    assert_close(rotate(x, tf.constant([0])), x)


def test_scores_depend_on_differences_of_time_only():
    """Text 2. Catches: absolute positions in the rotated products; angles that lose their precision in a long run."""
    query, key = tf.random.stateless_normal([2, 1, 2, 4, 8], [1, 2])
    scores = lambda shift: tf.matmul(rotate(query, tf.range(4) + shift), rotate(key, tf.range(4) + shift), transpose_b=True)
    for shift in (37, 1_000_003, 2**31 - 5):
        assert_close(scores(0), scores(shift), atol=1e-5)


def test_attention_by_hand():
    """Catches: attention to keys that are not visible, or a softmax over the wrong axis."""
    query, key = tf.zeros([1, 1, 1, 2]), tf.ones([1, 1, 3, 2])
    value = tf.constant([[1.0, 2.0], [3.0, 4.0], [50.0, 50.0]], shape=[1, 1, 3, 2])
    assert_close(attend(query, key, value, tf.constant([True, True, False], shape=[1, 1, 1, 3]))[0][0, 0, 0], [2.0, 3.0])


@every_policy
def test_the_parameter_sets_are_shared_or_separate(network, shared):
    """Catches: a critic that reads the policy's encoder where it should have its own, or the reverse."""
    policy = tiny_policy(network, shared)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(policy(TOKENS)[1] ** 2)
    gradients = tape.gradient(loss, [v.value for v in policy.encoder.trainable_variables])
    assert all(g is not None for g in gradients) if shared else all(g is None for g in gradients)
    own = sum(v.shape.num_elements() for v in policy.encoder.trainable_variables)
    assert policy.count_params() == own * (1 if shared else 2) + 17
    assert len({id(v) for v in policy.trainable_variables}) == len(policy.trainable_variables)


@every_network
def test_the_critic_can_start_from_the_policy(network):
    """Catches: `start_value_from_policy` that copies nothing, or ties the two encoders together."""
    policy = tiny_policy(network, shared=False)
    before = policy(TOKENS)
    policy.start_value_from_policy()
    assert_all_close(weights_of(policy.value_encoder), weights_of(policy.encoder), rtol=0, atol=0)
    assert_close(policy(TOKENS)[0], before[0], rtol=0, atol=0)
    policy.value_encoder.set_weights([0 * w for w in weights_of(policy.value_encoder)])
    assert_close(policy(TOKENS)[0], before[0], rtol=0, atol=0)


@every_policy
def test_the_critic_starts_at_zero(network, shared):
    """Catches: a value head left as it was drawn (its values vary more than the rewards of text), a bias kept, logits that change."""
    policy = tiny_policy(network, shared)
    logits, values = policy(TOKENS)
    assert np.abs(values).max() > 1e-3
    policy.start_value_from_policy()
    np.testing.assert_array_equal(policy(TOKENS)[1], np.zeros(TOKENS.shape))
    assert_close(policy(TOKENS)[0], logits, rtol=0, atol=0)


@every_policy
def test_a_copy_shares_no_variable(network, shared):
    """Text 18. Catches: a copy that aliases a variable, drops a setting, or has other weights."""
    policy = tiny_policy(network, shared, actions=5, memory=7, dropout=0.1)
    twin = policy.copy(name="twin")
    assert twin.name == "twin" and not {id(v) for v in twin.variables} & {id(v) for v in policy.variables}
    assert_all_close(twin(TOKENS), policy(TOKENS), rtol=0, atol=0)
    before = twin(TOKENS)
    for variable in policy.trainable_variables:
        variable.assign_add(tf.ones(variable.shape))
    assert_all_close(twin(TOKENS), before, rtol=0, atol=0)


@every_policy
def test_settings_and_file_round_trip(network, shared, tmp_path):
    """Text 21. Catches: a setting that `get_config` leaves out, or a weight that a `.keras` file does not hold."""
    policy = tiny_policy(network, shared, layers=2, memory=3, actions=5, dropout=0.1)
    policy.save(tmp_path / "policy.keras")
    loaded = keras.models.load_model(tmp_path / "policy.keras")
    assert type(loaded) is type(policy) and loaded.get_config() == policy.get_config()
    assert_all_close(weights_of(loaded), weights_of(policy), rtol=0, atol=0)
    assert_all_close(loaded(TOKENS, starts=STARTS), policy(TOKENS, starts=STARTS), rtol=0, atol=0)
    assert_all_close(unroll(loaded, TOKENS, STARTS)[0], unroll(policy, TOKENS, STARTS)[0], rtol=0, atol=0)


@every_network
def test_a_checkpoint_holds_every_weight(network, tmp_path):
    """Text 21. Catches: layers in a Python list, which `tf.train.Checkpoint` does not follow (cells, blocks)."""
    policy, other = (tiny_policy(network, shared=False, layers=2, seed=seed) for seed in (0, 1))
    path = tf.train.Checkpoint(model=policy).save(str(tmp_path / "checkpoint"))
    tf.train.Checkpoint(model=other).restore(path)
    assert_all_close(weights_of(other), weights_of(policy), rtol=0, atol=0)


@every_network
def test_actions_need_not_be_the_vocabulary(network):
    """Catches: logits over the vocabulary where there are fewer actions."""
    logits, values = tiny_policy(network, actions=5)(TOKENS)
    assert logits.shape == (BATCH, STEPS, 5) and values.shape == (BATCH, STEPS)


@every_network
def test_dropout_only_in_training(network):
    """Text 4. Catches: dropout in `step`, `read` or in `call` without `training=True`; and dropout that is never on."""
    policy, plain = tiny_policy(network, layers=2, dropout=0.5), tiny_policy(network, layers=2, dropout=0.0)
    expected = plain(TOKENS)
    assert_all_close(policy(TOKENS, training=False), expected, rtol=0, atol=0)
    assert_all_close(policy(TOKENS), expected, rtol=0, atol=0)
    assert_all_close(unroll(policy, TOKENS)[0], expected, atol=1e-5)
    assert_all_close(policy.read(TOKENS), plain.read(TOKENS), rtol=0, atol=0)
    assert np.abs(policy(TOKENS, training=True)[0] - expected[0]).max() > 1e-2


@every_policy
def test_mixed_precision_gives_float32_outputs(network, shared):
    """Catches: bfloat16 logits, whose log-softmax is too coarse; and a `step` or a memory of another dtype than `call`'s."""
    exact = tiny_policy(network, shared)
    keras.config.set_dtype_policy("mixed_bfloat16")
    policy = tiny_policy(network, shared)
    outputs = policy(TOKENS, starts=STARTS)
    stepped, state = unroll(policy, TOKENS, STARTS)
    assert {x.dtype for x in (*outputs, *stepped)} == {tf.float32}
    assert {x.dtype for x in tf.nest.flatten(state) if x.dtype.is_floating} == {tf.bfloat16}
    assert {v.dtype for v in policy.trainable_variables} == {"float32"}
    assert 1e-4 < np.abs(outputs[0] - exact(TOKENS, starts=STARTS)[0]).mean() < 0.1  # computed in 8 bits, yet the same function
    assert np.abs(stepped[0] - outputs[0]).mean() < 0.05


@every_network
def test_a_policy_keeps_its_own_precision(network):
    """Catches: `dtype` that `get_config` writes and nobody reads: a copy made under another global policy must compute alike."""
    keras.config.set_dtype_policy("mixed_bfloat16")
    policy = tiny_policy(network)
    expected = policy(TOKENS)[0]
    keras.config.set_dtype_policy("float32")
    twin = policy.copy()
    assert twin.dtype_policy.name == "mixed_bfloat16"
    assert_close(twin(TOKENS)[0], expected, rtol=0, atol=0)


@pytest.mark.parametrize("jit, dropout, adapters", [(False, 0.5, False), (False, 0.0, True), (True, 0.5, True)])
def test_recomputed_blocks_have_the_same_gradients(jit, dropout, adapters):
    """Catches: dropout that drops other numbers the second time, adapters without gradients, a context or memory left out, a setting that is lost in a copy."""
    sizes = dict(inputs=30, width=16, layers=2, heads=2, memory=9, dropout=dropout)
    plain = TransformerActorCritic(**sizes)
    if adapters:
        add_adapters(plain, 2, layers="all")
        for variable in plain.trainable_variables:
            variable.assign(tf.random.stateless_normal(variable.shape, [len(variable.shape), 1]))
    policy = type(plain).from_config(plain.get_config() | {"recompute": True})
    policy.set_weights(plain.get_weights())
    assert policy.copy().encoder.trunk.recompute and not plain.encoder.trunk.recompute
    weights = tf.random.stateless_normal([*TOKENS.shape[:1], TOKENS.shape[1] - 1, 30], [1, 2])
    memory = plain.read(TOKENS[:, :3])

    def gradients(model):
        def compute():
            for variable in model.non_trainable_variables:
                if "seed" in variable.path:
                    variable.assign(tf.ones_like(variable))
            with tf.GradientTape() as tape:
                logits, values = model(TOKENS, initial_state=memory, starts=STARTS, context=1, training=True)
                loss = tf.reduce_sum(weights * logits) + tf.reduce_sum(values)
            return logits, *tape.gradient(loss, [variable.value for variable in model.trainable_variables], unconnected_gradients="zero")

        return tf.function(compute, jit_compile=jit, autograph=False)

    one, other = gradients(plain), gradients(policy)
    for expected, found in zip(one(), other()):
        expected, found = tf.convert_to_tensor(expected), tf.convert_to_tensor(found)
        assert_close(found, expected, rtol=1e-5, atol=1e-6 * np.abs(expected).max())
    products = [
        sum("BatchMatMul" in node.op for part in (graph.node, *(f.node_def for f in graph.library.function)) for node in part)
        for graph in (run.get_concrete_function().graph.as_graph_def() for run in (one, other))
    ]
    assert products[1] > products[0]  # it was computed twice


def test_bad_sizes_are_refused():
    """Catches: heads that do not divide the width, or an unknown network, found only deep inside a matrix product."""
    with pytest.raises(ValueError, match="width=20.*heads"):
        TransformerTrunk(width=20, layers=1, heads=4, memory=4)
    with pytest.raises(ValueError, match="rnn"):
        TokenEncoder(10, "rnn", 16, 1)


def test_new_policy_builds_the_network_that_was_asked_for():
    """Catches: an argument that the factory drops."""
    sizes = dict(inputs=30, width=16, layers=2, heads=2, memory=9, dropout=0.1, shared=False)
    transformer, lstm = (new_policy(network, **sizes) for network in NETWORKS)
    assert type(transformer) is TransformerActorCritic and type(lstm) is LSTMActorCritic
    for model, names in ((transformer, sizes), (lstm, sizes.keys() - {"heads", "memory"})):
        config = model.get_config()
        assert {name: config[name] for name in names} == {name: sizes[name] for name in names}


AGENTS = ("mlp", "lstm", "transformer")
every_agent = pytest.mark.parametrize("network", AGENTS)
every_observation = pytest.mark.parametrize("observation", [(4,), (2, 3), 7], ids=["vector", "matrix", "states"])
every_action = pytest.mark.parametrize("actions", [DiagonalGaussian(3), [3, 2], 4], ids=["gaussian", "multi", "categorical"])


@every_observation
@every_agent
def test_unrolling_step_of_an_agent_equals_one_call(network, observation):
    """Environments 22. Catches: observations that `step` and `call` flatten or reset differently; a start in mid-sequence, a state between two calls."""
    shared = observation == (2, 3)
    agent, x = tiny_agent(network, observation, shared=shared, layers=2, memory=5), observations(observation, BATCH, STEPS)
    whole = agent(x, starts=STARTS)
    assert whole[0].shape == (BATCH, STEPS, 3) and whole[1].shape == (BATCH, STEPS)
    assert_all_close(unroll(agent, x, STARTS)[0], whole, atol=1e-5)
    state = unroll(agent, x[:, :6], STARTS[:, :6])[1]
    for carried in (state, agent.read(x[:, :6], starts=STARTS[:, :6])):
        assert_all_close(agent(x[:, 6:], initial_state=carried, starts=STARTS[:, 6:]), tuple(y[:, 6:] for y in whole), atol=1e-5)
    assert_all_close(agent(x, starts=STARTS, context=3), tuple(y[:, 3:] for y in whole), atol=1e-5)


@every_observation
def test_an_agent_without_memory_reads_every_step_for_itself(observation):
    """Catches: starts, an order of steps, or sequences that make a difference to an MLP."""
    agent, x = tiny_agent("mlp", observation, layers=2), observations(observation, BATCH, STEPS)
    whole = agent(x)
    assert np.ptp(whole[0], axis=1).min() > 0.1
    assert_all_close(agent(x, starts=STARTS), whole, rtol=0, atol=0)
    assert_all_close(agent(x[::-1, ::-1]), tuple(y[::-1, ::-1] for y in whole), atol=1e-6)
    *one, state = agent.step(x[:, 4], agent.initial_state(BATCH), STARTS[:, 4])
    assert_all_close(one, [y[:, 4] for y in whole], atol=1e-6)
    assert tf.nest.flatten(state) == tf.nest.flatten(agent.initial_state(BATCH)) == []


@every_agent
def test_has_memory(network):
    """Catches: steps of an agent with a memory that are shuffled one by one (environments 26), or of an MLP that are not."""
    assert tiny_agent(network).has_memory == (network != "mlp")


def test_the_mlp_equals_numpy():
    """Catches: another activation, a layer left out or shared with the critic, states or a matrix that are read in another order."""
    for observation in ((2, 3), 7):
        agent, x = tiny_agent("mlp", observation, layers=2), observations(observation, BATCH, STEPS)
        inputs = np.eye(7)[x] if observation == 7 else x.numpy().astype(np.float64).reshape(BATCH, STEPS, 6)
        weights = {w.path: w.numpy().astype(np.float64) for w in agent.weights}
        dense = lambda x, name: x @ weights[f"{name}/kernel"] + weights[f"{name}/bias"]

        def hidden(name):
            h = np.tanh(dense(inputs, f"{name}/projection"))
            return np.tanh(dense(np.tanh(dense(h, f"{name}/trunk/hidden_0")), f"{name}/trunk/hidden_1"))

        expected = dense(hidden("encoder"), "policy_head"), dense(hidden("value_encoder"), "value_head")[..., 0]
        assert_all_close(agent(x), expected)


def orthogonal_with_gain(kernel, gain):
    """Whether the shorter side of a kernel holds orthogonal vectors of length `gain`."""
    kernel = np.asarray(kernel, np.float64) / gain
    product = kernel @ kernel.T if kernel.shape[0] < kernel.shape[1] else kernel.T @ kernel
    assert_close(product, np.eye(len(product)), atol=1e-5)


@every_agent
def test_agents_begin_with_orthogonal_kernels(network):
    """Catches: another gain: sqrt(2) before tanh, 0.01 in the policy head (a nearly uniform policy), 1 in the value head; or one draw used twice."""
    agent = new_policy(network, (4,), 3, width=16, layers=2, heads=2, memory=8, shared=False)
    for encoder in (agent.encoder, agent.value_encoder):
        orthogonal_with_gain(encoder.projection.kernel, 2**0.5)
        for layer in encoder.trunk.hidden if network == "mlp" else ():
            orthogonal_with_gain(layer.kernel, 2**0.5)
    orthogonal_with_gain(agent.policy_head.kernel, 0.01)
    orthogonal_with_gain(agent.value_head.kernel, 1.0)
    assert not any(np.any(w) for w in agent.weights if w.path.endswith("bias") and "cell" not in w.path)
    assert np.abs(agent.encoder.projection.kernel - agent.value_encoder.projection.kernel).max() > 0.1


def test_a_language_model_begins_as_gpt2():
    """Catches: an agent's initialisation in a language model: N(0, 0.02) in its value head, and no policy head."""
    model = new_policy("lstm", 30, width=256, layers=1, heads=2, memory=8)
    assert model.policy_head is None and 0.015 < np.std(model.value_head.kernel) < 0.025


@every_agent
def test_a_gaussian_policy_puts_out_means_and_free_log_deviations(network):
    """Catches: log deviations that depend on the state, are left out in `step`, come before the means, or are not trained."""
    agent, x = tiny_agent(network, actions=DiagonalGaussian(3)), observations((4,), BATCH, STEPS)
    parameters, _ = agent(x)
    assert parameters.shape == (BATCH, STEPS, 6) and agent.step(x[:, 0], agent.initial_state(BATCH))[0].shape == (BATCH, 6)
    assert_all_close(unroll(agent, x)[0][0], parameters, atol=1e-5)
    assert_close(parameters[..., 3:], np.broadcast_to(agent.free_parameters, [BATCH, STEPS, 3]), rtol=0, atol=0)
    assert np.ptp(parameters[..., :3], axis=1).min() > 0.1
    assert any(v is agent.free_parameters for v in agent.trainable_variables)
    actions = x[..., :3]
    with tf.GradientTape() as tape:
        log_prob = tf.reduce_sum(agent.distribution.log_probability(agent(x)[0], actions))
    squares = np.square((actions - parameters[..., :3]) / np.exp(parameters[..., 3:]), dtype=np.float64)
    assert_close(tape.gradient(log_prob, agent.free_parameters.value), np.sum(squares - 1, (0, 1)))  # d log p / d log sigma


def test_a_fresh_gaussian_policy_is_standard_normal():
    """Catches: log deviations that do not begin at 0."""
    agent = MLPActorCritic((4,), DiagonalGaussian(3))
    assert_close(agent(observations((4,), BATCH, STEPS))[0], np.zeros([BATCH, STEPS, 6]), atol=0.05)


@every_agent
def test_several_choices_are_logits_side_by_side(network):
    """Catches: a head for one of the choices only, or for every combination of them."""
    for actions in ([3, 2], MultiCategorical([3, 2])):
        agent, x = tiny_agent(network, actions=actions), observations((4,), BATCH, STEPS)
        assert agent(x)[0].shape == (BATCH, STEPS, 5) and agent.free_parameters is None
        assert agent.distribution.mode(agent(x)[0]).shape == (BATCH, STEPS, 2)


@every_action
@pytest.mark.parametrize("network, shared", [("mlp", False), ("lstm", True), ("transformer", False)])
def test_settings_and_file_of_an_agent(network, shared, actions, tmp_path):
    """Text 21. Catches: a setting, a distribution, a free parameter or a statistic that a `.keras` file or a copy does not hold."""
    agent, x = tiny_agent(network, (2, 3), actions, shared, layers=2, normalize=True), observations((2, 3), BATCH, STEPS)
    agent.save(tmp_path / "agent.keras")
    loaded = keras.models.load_model(tmp_path / "agent.keras")
    for twin in (loaded, agent.copy()):
        assert type(twin) is type(agent) and twin.get_config() == agent.get_config()
        assert type(twin.distribution) is type(agent.distribution) and twin.distribution.get_config() == agent.distribution.get_config()
        assert_all_close(weights_of(twin), weights_of(agent), rtol=0, atol=0)
        assert_all_close(twin(x, starts=STARTS), agent(x, starts=STARTS), rtol=0, atol=0)
        assert not {id(v) for v in twin.variables} & {id(v) for v in agent.variables}
    before = loaded(x)
    for variable in agent.variables:
        variable.assign_add(tf.ones(variable.shape))
    assert_all_close(loaded(x), before, rtol=0, atol=0)


@every_agent
def test_a_checkpoint_holds_every_weight_of_an_agent(network, tmp_path):
    """Text 21. Catches: layers in a Python list, free parameters or statistics that `tf.train.Checkpoint` does not follow."""
    agent, other = (tiny_agent(network, actions=DiagonalGaussian(2), layers=2, normalize=True, seed=seed) for seed in (0, 1))
    assert not any(np.array_equal(*pair) for pair in zip(weights_of(other), weights_of(agent)))
    path = tf.train.Checkpoint(model=agent).save(str(tmp_path / "checkpoint"))
    tf.train.Checkpoint(model=other).restore(path)
    assert_all_close(weights_of(other), weights_of(agent), rtol=0, atol=0)


@every_agent
def test_an_agent_acts_alike_under_xla(network):
    """Catches: a step that XLA computes otherwise than plain Python."""
    agent, x = tiny_agent(network, actions=DiagonalGaussian(3), normalize=True), observations((4,), BATCH, STEPS)
    state = agent.read(x)
    step = tf.function(agent.step, jit_compile=True)
    assert_all_close(step(x[:, 0], state, STARTS[:, 0]), agent.step(x[:, 0], state, STARTS[:, 0]), atol=1e-5)


REAL = pytest.param(DiagonalGaussian(2), id="gaussian")


@pytest.mark.parametrize("actions", [pytest.param(3, id="categorical"), REAL])
@every_agent
def test_mixed_precision_of_an_agent(network, actions):
    """Catches: bfloat16 parameters of a distribution, or log deviations of another dtype than the means; a `step` unlike `call`."""
    x = observations((4,), BATCH, STEPS)
    exact = tiny_agent(network, actions=actions)(x)
    keras.config.set_dtype_policy("mixed_bfloat16")
    agent = tiny_agent(network, actions=actions)
    outputs, stepped = agent(x), unroll(agent, x)[0]
    assert {y.dtype for y in (*outputs, *stepped)} == {tf.float32}
    assert 1e-4 < np.abs(outputs[0] - exact[0]).mean() < 0.1
    assert np.abs(outputs[0] - stepped[0]).mean() < 0.05


def test_new_policy_builds_agents():
    """Catches: an argument that the factory drops, or a network by another name."""
    sizes = dict(inputs=(4,), actions=Categorical(3), width=16, layers=2, heads=4, memory=9, shared=False, normalize=True)
    mlp, lstm, transformer = (new_policy(network, **sizes) for network in AGENTS)
    assert (type(mlp), type(lstm), type(transformer)) == (MLPActorCritic, LSTMActorCritic, TransformerActorCritic)
    for model in (mlp, lstm, transformer):
        names = ["inputs", "width", "layers", "shared", "normalize"] + (["heads", "memory"] if model is transformer else [])
        config = model.get_config()
        assert {name: config[name] for name in names} == {name: sizes[name] for name in names}
        assert model.distribution is sizes["actions"] and model.name == "policy"
    assert [len(mlp.encoder.trunk.hidden), len(lstm.encoder.trunk.cells), len(transformer.encoder.trunk.blocks)] == [2, 2, 2]


def test_unknown_networks_are_refused():
    """Catches: a misspelt network that becomes some default; a network that cannot act, or cannot read tokens."""
    sizes = dict(width=16, layers=1, heads=2, memory=8)
    with pytest.raises(ValueError, match="'gru' is unknown. Use mlp, lstm or transformer"):
        new_policy("gru", (4,), 2, **sizes)
    with pytest.raises(ValueError, match="'bag' is unknown. Use mlp, lstm or transformer"):
        ObservationEncoder((4,), "bag", 16, 1)
    with pytest.raises(ValueError, match="an MLP is no language model. Give the actions"):
        new_policy("mlp", 30, **sizes)


TEXT_LENGTHS = np.array([[3, 1, 5, 2], [5, 5, 1, 4], [2, 4, 3, 1]])  # of B texts a step, T steps


def some_texts(left=0, right=0, seed=4):
    """int32 `(3, 4, 5 + left + right)`: texts of `TEXT_LENGTHS` tokens, id 0 among them; what is short is filled up on the right."""
    random = np.random.default_rng(seed)
    texts = np.full([3, 4, 5 + left + right], NO_TOKEN, np.int32)
    for place in np.ndindex(3, 4):
        length = TEXT_LENGTHS[place]
        texts[place][left : left + length] = random.integers(0, VOCABULARY, length)
    texts[0, 0, left], texts[1, 1, left + 4] = 0, 0
    return tf.constant(texts)


@every_policy
def test_a_text_is_read_as_the_mean_of_its_hidden_states(network, shared):
    """Catches: the last hidden state, a sum, a mean over padding, `NO_TOKEN` for id 0, or the policy's encoder for the critic's."""
    reader, texts = tiny_reader(network, shared, length=5), some_texts()
    outputs = reader(texts)
    for place in np.ndindex(3, 4):
        tokens = texts[place][tf.newaxis, : TEXT_LENGTHS[place]]
        for encoder, head, output in ((reader.encoder, reader.policy_head, outputs[0]), (reader.value_encoder, reader.value_head, outputs[1])):
            hidden = Encoder.call(encoder, tokens)[0][0].numpy().astype(np.float64)  # (length, D), no padding anywhere
            kernel, bias = (np.asarray(w, np.float64) for w in head.get_weights())
            assert_close(np.ravel(output[place]), hidden.mean(0) @ kernel + bias, atol=2e-5)


@every_policy
@pytest.mark.parametrize("left, right", [(3, 0), (0, 4), (2, 3)])
def test_padding_of_a_text_changes_no_number(network, shared, left, right):
    """Text 2. Catches: padding that is attended to, that shifts positions, or that counts in the mean, on either side of a text."""
    reader = tiny_reader(network, shared, layers=2, length=5)  # the memory of a Transformer is 5: padding must not use it up
    assert_all_close(reader(some_texts(left, right)), reader(some_texts()), atol=2e-5)


@every_policy
def test_each_step_of_a_reader_equals_one_call(network, shared):
    """Text 1. Catches: (B, T) read as (T, B) when texts are laid side by side, a state or a start that matters, `context` ignored."""
    reader, texts = tiny_reader(network, shared, layers=2), some_texts()
    whole = reader(texts)
    assert whole[0].shape == (3, 4, 3) and whole[1].shape == (3, 4)
    assert np.ptp(whole[0], axis=1).min() > 1e-2
    starts = tf.constant([[0, 1, 0, 1]] * 3, tf.float32)
    assert_all_close(unroll(reader, texts)[0], whole, atol=1e-5)
    assert_all_close(unroll(reader, texts, starts)[0], whole, atol=1e-5)
    assert_all_close(reader(texts, starts=starts, context=1), tuple(x[:, 1:] for x in whole), atol=1e-5)
    assert tf.nest.flatten(reader.initial_state(3)) == tf.nest.flatten(unroll(reader, texts)[1]) == []


@every_policy
def test_texts_do_not_influence_each_other(network, shared):
    """Catches: a memory that runs on from one text to the next, of the same sequence or of the batch."""
    reader, texts = tiny_reader(network, shared, layers=2), some_texts()
    changed = texts.numpy()
    changed[1, 1, :2] = (changed[1, 1, :2] + 5) % VOCABULARY
    for before, after in zip(reader(texts), reader(tf.constant(changed))):
        difference = np.abs(after - before).reshape(3, 4, -1).max(-1)
        assert difference[1, 1] > 1e-3
        difference[1, 1] = 0
        assert difference.max() < 1e-6


@every_network
def test_a_reader_of_texts_has_no_memory(network):
    """Catches: steps of one-step episodes that are not shuffled one by one."""
    assert not tiny_reader(network).has_memory and tiny_policy(network).has_memory


@every_policy
def test_settings_and_file_of_a_reader(network, shared, tmp_path):
    """Text 21. Catches: a `vocabulary_size` that `get_config` leaves out, another encoder in a copy, a weight that a file does not hold."""
    reader, texts = tiny_reader(network, shared, layers=2, dropout=0.1), some_texts()
    reader.save(tmp_path / "reader.keras")
    loaded = keras.models.load_model(tmp_path / "reader.keras")
    rebuilt = type(reader).from_config(reader.get_config())
    rebuilt.set_weights(reader.get_weights())
    for twin in (loaded, rebuilt, reader.copy()):
        assert type(twin) is type(reader) and type(twin.encoder) is TextEncoder and not twin.has_memory
        assert twin.get_config() == reader.get_config() and twin.vocabulary_size == VOCABULARY and twin.inputs_read == (6,)
        assert_all_close(weights_of(twin), weights_of(reader), rtol=0, atol=0)
        assert_all_close(twin(texts), reader(texts), rtol=0, atol=0)
        assert not {id(v) for v in twin.variables} & {id(v) for v in reader.variables}


@every_network
def test_the_encoders_of_a_reader_are_shared_or_separate(network):
    """Catches: a critic that is trained through the policy's encoder, or one tied to it after `start_value_from_policy`."""
    for shared in (True, False):
        reader = tiny_reader(network, shared)
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(reader(some_texts())[1] ** 2)
        gradients = tape.gradient(loss, [v.value for v in reader.encoder.trainable_variables])
        assert all((g is not None) == shared for g in gradients)
        assert (reader.value_encoder is reader.encoder) == shared
    reader.start_value_from_policy()
    assert_all_close(weights_of(reader.value_encoder), weights_of(reader.encoder), rtol=0, atol=0)


@every_network
def test_a_reader_has_dropout_in_training_only(network):
    """Text 4. Catches: dropout in `step` or in `call` without `training=True`; and `training` that does not reach the encoder."""
    reader, plain, texts = tiny_reader(network, dropout=0.5), tiny_reader(network), some_texts()
    assert_all_close(reader(texts), plain(texts), rtol=0, atol=0)
    assert_all_close(unroll(reader, texts)[0], plain(texts), atol=1e-5)
    assert np.abs(reader(texts, training=True)[0] - plain(texts)[0]).max() > 1e-2


@every_network
def test_mixed_precision_of_a_reader(network):
    """Text 19. Catches: bfloat16 logits, or a mean whose weights and hidden states are of two dtypes."""
    exact = tiny_reader(network)(some_texts())
    keras.config.set_dtype_policy("mixed_bfloat16")
    reader = tiny_reader(network)
    outputs, stepped = reader(some_texts()), unroll(reader, some_texts())[0]
    assert {y.dtype for y in (*outputs, *stepped)} == {tf.float32}
    assert 1e-4 < np.abs(outputs[0] - exact[0]).mean() < 0.1
    assert np.abs(outputs[0] - stepped[0]).mean() < 0.05


@every_network
def test_a_reader_acts_alike_under_xla(network):
    """Catches: a reader that XLA computes otherwise than plain Python."""
    reader, texts = tiny_reader(network, layers=2), some_texts()
    assert_all_close(tf.function(reader, jit_compile=True)(texts), reader(texts), atol=1e-5)


@every_network
def test_tokens_are_not_normalised(network):
    """Catches: token ids with their mean subtracted, which read as other tokens."""
    sizes = dict(width=16, layers=1, heads=2, memory=8, normalize=True)
    with pytest.raises(ValueError, match="normalize=True needs float observations, but inputs are states or tokens"):
        new_policy(network, (6,), 3, vocabulary_size=VOCABULARY, **sizes)
    with pytest.raises(ValueError, match="normalize=True needs float observations"):
        new_policy(network, 7, 3, **sizes)


@pytest.mark.parametrize(
    "kind, settings, said",
    [
        (TransformerActorCritic, dict(width=0), "width=0 is no whole number of 1 or more"),
        (TransformerActorCritic, dict(width="64"), "width='64' is no whole number"),
        (TransformerActorCritic, dict(heads=0), "heads=0 is no whole number"),
        (TransformerActorCritic, dict(memory=0), "memory=0 is no whole number"),
        (LSTMActorCritic, dict(layers=0), "layers=0 is no whole number"),
        (TransformerActorCritic, dict(inputs=None), "inputs=None is no size of a vocabulary. Use tokenizer.vocabulary_size"),
        (TransformerActorCritic, dict(inputs="20"), "inputs='20' is no size of a vocabulary"),
        (LSTMActorCritic, dict(inputs=(4,)), r"inputs=\(4,\) is no size of a vocabulary.*an agent's policy needs actions, too"),
        (MLPActorCritic, dict(actions=None), "an MLP is no language model. Give the actions"),
        (MLPActorCritic, dict(inputs="box", actions=2), "inputs='box' is neither a number of states nor the shape of an observation"),
        (MLPActorCritic, dict(inputs=(4, None), actions=2), r"inputs=\(4, None\) is neither"),
        (MLPActorCritic, dict(actions=0), "actions=0 is no count, list of counts or distribution"),
        (MLPActorCritic, dict(actions="2"), "actions='2' is no count"),
        (MLPActorCritic, dict(actions=[]), r"actions=\[\] is no count"),
        (MLPActorCritic, dict(actions=2.0), "actions=2.0 is no count"),
    ],
)
def test_what_makes_no_network(kind, settings, said):
    """Catches: `modulo by zero`, `'float' object is not iterable`, an LSTM without a layer, "2" taken for a list of digits."""
    with pytest.raises(InputError, match=said):
        kind(**dict(inputs=4, width=8, layers=1) | settings)


def test_sizes_may_be_numbers_of_numpy():
    """Catches: a count out of an array, such as a space of Gymnasium has, that is refused."""
    policy = MLPActorCritic(np.array([3]), np.array([2, 3]), width=8)
    assert policy.distribution.counts == [2, 3] and policy.inputs_read == (3,)


@pytest.mark.parametrize(
    "settings, words",
    [
        (dict(activation="relu"), "activation='relu' is unknown. Use gelu or silu"),
        (dict(norm="batch"), "norm='batch' is unknown"),
        (dict(positions="alibi"), "positions='alibi' is unknown"),
        (dict(positions="learned"), "needs most_positions"),
        (dict(head_size=5), "head_size=5 is odd"),
        (dict(rotary_scaling=(1.0, 2.0)), "rotary_scaling="),
        (dict(rotary_bases=(1e4, 1e4, 1e4)), "rotary_bases are 3, but there are 1 layers"),
    ],
)
def test_a_form_that_is_not_here_is_refused(settings, words):
    """Catches: a setting that is ignored, so that the network is another one than was asked for."""
    with pytest.raises(InputError, match=re.escape(words)):
        TransformerActorCritic(10, width=8, layers=1, heads=2, memory=4, form=settings)
