"""`ppo_keras.networks`, of classifiers: policies that read a whole text as one observation."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from helpers import VOCABULARY, assert_all_close, assert_close, tiny_policy, tiny_reader, weights_of
from ppo_keras.networks.actor_critic import new_policy
from ppo_keras.networks.encoder import NO_TOKEN, Encoder, TextEncoder
from unrolling import built_once, every_network, every_policy, unroll

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
    reader, texts = built_once(tiny_reader, network, shared, layers=2, length=5), some_texts()
    outputs = reader(texts)
    for place in np.ndindex(3, 4):
        tokens = texts[place][tf.newaxis, : TEXT_LENGTHS[place]]
        for encoder, head, output in ((reader.encoder, reader.policy_head, outputs[0]), (reader.value_encoder, reader.value_head, outputs[1])):
            hidden = Encoder.call(encoder, tokens)[0][0].numpy().astype(np.float64)  # (length, D), no padding anywhere
            kernel, bias = (np.asarray(w, np.float64) for w in head.get_weights())
            assert_close(np.ravel(output[place]), hidden.mean(0) @ kernel + bias, atol=2e-5)


@every_policy
@pytest.mark.parametrize("left, right", [(3, 0), (0, 4), pytest.param(2, 3, marks=pytest.mark.full)])
def test_padding_of_a_text_changes_no_number(network, shared, left, right):
    """Text 2. Catches: padding that is attended to, that shifts positions, or that counts in the mean, on either side of a text."""
    reader = built_once(tiny_reader, network, shared, layers=2, length=5)  # the memory of a Transformer is 5: padding must not use it up
    assert_all_close(reader(some_texts(left, right)), reader(some_texts()), atol=2e-5)


@every_policy
def test_each_step_of_a_reader_equals_one_call(network, shared):
    """Text 1. Catches: (B, T) read as (T, B) when texts are laid side by side, a state or a start that matters, `context` ignored."""
    reader, texts = built_once(tiny_reader, network, shared, layers=2, length=5), some_texts()
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
    reader, texts = built_once(tiny_reader, network, shared, layers=2, length=5), some_texts()
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
    reader, texts = built_once(tiny_reader, network, True, layers=2, length=5), some_texts()
    assert_all_close(tf.function(reader, jit_compile=True)(texts), reader(texts), atol=1e-5)


@every_network
def test_tokens_are_not_normalised(network):
    """Catches: token ids with their mean subtracted, which read as other tokens."""
    sizes = dict(width=16, layers=1, heads=2, memory=8, normalize=True)
    with pytest.raises(ValueError, match="normalize=True needs float observations, but inputs are states or tokens"):
        new_policy(network, (6,), 3, vocabulary_size=VOCABULARY, **sizes)
    with pytest.raises(ValueError, match="normalize=True needs float observations"):
        new_policy(network, 7, 3, **sizes)
