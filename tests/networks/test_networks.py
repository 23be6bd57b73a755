"""`ppo_keras.networks`, of language models: acting step by step and reading whole sequences give the same numbers."""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from helpers import NETWORKS, VOCABULARY, assert_all_close, assert_close, observations, tiny_agent, tiny_policy, weights_of
from ppo_keras import LSTMActorCritic, TransformerActorCritic
from ppo_keras.errors import InputError
from ppo_keras.networks.actor_critic import MLPActorCritic, new_policy
from ppo_keras.networks.adapters import add_adapters
from ppo_keras.networks.encoder import TokenEncoder
from ppo_keras.networks.transformer import TransformerTrunk, attend, rotate
from unrolling import BATCH, STARTS, STEPS, TOKENS, built_once, every_network, every_policy, unroll


@every_policy
@pytest.mark.parametrize("starts", [None, STARTS], ids=["no resets", "resets"])
def test_unrolling_step_equals_one_call(network, shared, starts):
    """Text 1. Catches: a reset off by one, a critic without memory, or a mask that differs between acting and training."""
    policy = built_once(tiny_policy, network, shared, layers=2)
    assert_all_close(unroll(policy, TOKENS, starts)[0], policy(TOKENS, starts=starts), atol=1e-5)


@every_policy
@pytest.mark.parametrize("cut", [1, 6, pytest.param(3, marks=pytest.mark.full)])
def test_the_state_of_an_earlier_segment_carries_over(network, shared, cut):
    """Catches: a carry that is dropped, stale or taken after a reset: step or read, then call or step, equal one call."""
    policy = built_once(tiny_policy, network, shared, layers=2, memory=5)  # cut 6 lies beyond the ring's wrap
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
    policy = built_once(tiny_policy, network, True, layers=2, memory=5)
    for cut in (2, 6):
        begun = policy.read(TOKENS[:, :cut], starts=STARTS[:, :cut])
        assert_all_close(policy.read(TOKENS[:, cut:], begun, STARTS[:, cut:]), policy.read(TOKENS, starts=STARTS), atol=1e-5)


@every_policy
def test_context_leaves_out_the_first_outputs(network, shared):
    """Catches: `context` off by one, or inputs before it that are not read."""
    policy = built_once(tiny_policy, network, shared, layers=2)
    assert_all_close(policy(TOKENS, starts=STARTS, context=3), tuple(x[:, 3:] for x in policy(TOKENS, starts=STARTS)))


@every_policy
def test_left_padding_changes_no_number(network, shared):
    """Text 2. Catches: padding that is attended to, shifts positions, or leaves a trace in the LSTM (whatever ids it holds)."""
    policy = built_once(tiny_policy, network, shared, layers=2)
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
    policy = built_once(tiny_policy, network, shared, layers=2)
    logits, values = policy(TOKENS, starts=STARTS)
    fresh_logits, fresh_values = policy(TOKENS[1:2, 5:])
    assert_close(logits[1:2, 5:], fresh_logits, atol=1e-5)
    assert_close(values[1:2, 5:], fresh_values, atol=1e-5)
    assert np.abs(logits[1:2, 5:] - policy(TOKENS)[0][1:2, 5:]).max() > 1e-3


@every_policy
def test_the_future_and_other_sequences_are_not_seen(network, shared):
    """Catches: attention without its causal mask, and (T, B) confused with (B, T)."""
    policy = built_once(tiny_policy, network, shared, layers=2)
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


@pytest.mark.parametrize("jit, dropout, adapters", [pytest.param(False, 0.5, False, marks=pytest.mark.full), (False, 0.0, True), (True, 0.5, True)])
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


@pytest.mark.parametrize("network", ["lstm", "mlp"])
def test_only_a_transformer_recomputes(network):
    """Catches: a setting that is dropped without a word."""
    with pytest.raises(ValueError, match=f"recompute=True is for a transformer's blocks, but network='{network}'"):
        new_policy(network, 4, 2, width=8, layers=1, heads=2, memory=4, recompute=True)
