"""`ppo_keras.language.generation`: sampling, and which logits predict which tokens."""

import numpy as np
import pytest
import tensorflow as tf

from helpers import (
    END,
    NETWORKS,
    PAD,
    VOCABULARY,
    TablePolicy,
    assert_all_close,
    assert_close,
    mask_of,
    ragged_prompts,
    random_table,
    response_outputs,
    tiny_policy,
)
from ppo_keras import Prompts, generate
from ppo_keras.errors import InputError
from ppo_keras.language.generation import Responses, _restrict, is_end, join, pad_prompts, response_log_probs
from ppo_keras.masking import episode_starts

SEED = tf.constant([5, 6])
every_network = pytest.mark.parametrize("network", NETWORKS)
PARTS = [pytest.param(network, shared, id=f"{network}-{'shared' if shared else 'separate'}") for network in NETWORKS for shared in (True, False)]


def write(policy, prompts, length=8, end_id=END, pad_id=PAD, seed=SEED, **kwargs):
    return generate(policy, prompts, length, end_id, pad_id, seed, **kwargs)


def ends_soon(policy, end_id=END):
    """Raises the odds of the end token until responses are ragged: an end embedding that lies along the mean hidden state."""
    embedding = policy.encoder.embedding.embeddings
    tokens = tf.random.stateless_uniform([8, 6], [1, 1], 4, VOCABULARY, tf.int32)
    hidden = tf.reduce_mean(policy.encoder(tokens)[0], [0, 1])
    embedding.assign(tf.tensor_scatter_nd_update(embedding.value, [[end_id]], [2.5 * hidden / tf.reduce_sum(hidden**2)]))
    return policy


def chain(successors, vocabulary_size=6):
    """A policy that writes `successors[token]` after each token, for certain; the value of a token is its id."""
    table = np.zeros([vocabulary_size] * 2)
    for token, following in successors.items():
        table[token, following] = 200.0
    return TablePolicy(vocabulary_size, table, np.arange(vocabulary_size))


def test_prompts_are_padded_on_the_left():
    """Catches: padding on the right, or a mask found from ids (a prompt may hold the pad id)."""
    prompts = pad_prompts([[7], [0, 8, 0]], 3, pad_id=0)
    np.testing.assert_array_equal(prompts.tokens, [[0, 0, 7], [0, 8, 0]])
    np.testing.assert_array_equal(prompts.mask, [[0, 0, 1], [1, 1, 1]])
    assert prompts.tokens.dtype == np.int32 and prompts.mask.dtype == np.float32


@pytest.mark.parametrize("tokens", [[], [1, 2, 3, 4]])
def test_a_prompt_of_the_wrong_length_is_named(tokens):
    """Catches: a prompt cut or left empty without a word."""
    with pytest.raises(InputError, match=f"prompt 1 has {len(tokens)} tokens"):
        pad_prompts([[1], tokens], 3, 0)


def test_an_episode_starts_at_the_first_real_token():
    """Catches: a start off by one, or none where nothing is padded."""
    np.testing.assert_array_equal(episode_starts(tf.constant([[0.0, 0, 1, 1], [1, 1, 1, 1], [0, 0, 0, 1]])), [[0, 0, 1, 0], [1, 0, 0, 0], [0, 0, 0, 1]])


def test_join_aligns_inputs_and_predictions():
    """Catches: logits read one position too early or late: position P - 1 (the prompt's last token) predicts the first of the response."""
    prompts = Prompts(tf.constant([[0, 4]]), tf.constant([[0.0, 1.0]]))
    responses = Responses(tf.constant([[5, 3, 0]]), tf.constant([[1.0, 1, 0]]), None, None)
    tokens, starts = join(prompts, responses)
    np.testing.assert_array_equal(tokens, [[0, 4, 5, 3]])
    np.testing.assert_array_equal(starts, [[0, 1, 0, 0]])
    table = random_table()
    logits, values = response_outputs(table, prompts, responses)
    assert_close(logits[0], table.table.numpy()[[4, 5, 3]])
    assert_close(values[0], table.critic.numpy()[[4, 5, 3]])
    assert_close(response_log_probs(table, prompts, responses)[0, 2], 0.0, rtol=0, atol=0)


@pytest.mark.parametrize("network, shared", PARTS)
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_the_ratio_is_one_before_any_update(network, shared, temperature):
    """Text 1, 3. Catches: old log-probs or values that differ from the learner's (ragged lengths, left padding, temperature)."""
    policy = ends_soon(tiny_policy(network, shared))
    prompts = ragged_prompts(garbage=9)
    responses = write(policy, prompts, temperature=temperature)
    lengths = responses.mask.numpy().sum(1)
    assert len(set(lengths)) > 1 and lengths.min() < 8, lengths
    log_probs = response_log_probs(policy, prompts, responses, temperature)
    assert_close(log_probs, responses.log_probs, atol=1e-5)
    values = tf.where(responses.mask > 0, response_outputs(policy, prompts, responses)[1], 0.0)
    assert_close(values, responses.values, atol=1e-5)
    if temperature != 1:
        assert np.abs(response_log_probs(policy, prompts, responses) - log_probs).max() > 1e-2


@pytest.mark.parametrize("network, shared", PARTS)
def test_left_padding_and_its_garbage_change_no_sample(network, shared):
    """Text 2. Catches: padding that changes a logit, log-prob, value or sample, whatever its width and ids."""
    policy = tiny_policy(network, shared)
    bare = write(policy, ragged_prompts((3, 3), 3))
    for width, garbage in ((3, 0), (5, PAD), (7, END), (7, np.arange(7) + 5)):
        padded = write(policy, ragged_prompts((3, 3), width, garbage))
        np.testing.assert_array_equal(padded.tokens, bare.tokens)
        assert_all_close(padded, bare, atol=2e-5)


@pytest.mark.parametrize("network", ["transformer", pytest.param("lstm", marks=pytest.mark.full)])
def test_samples_are_equal_in_every_mode(network):
    """Catches: samples, lengths or numbers that XLA or a graph makes otherwise than plain Python."""
    policy = ends_soon(tiny_policy(network))
    prompts = ragged_prompts()
    run = lambda tokens, mask: write(policy, Prompts(tokens, mask), temperature=0.9, top_k=12, top_p=0.95)
    eager = run(*prompts)
    for compiled in (tf.function(run), tf.function(run, jit_compile=True)):
        responses = compiled(*prompts)
        np.testing.assert_array_equal(responses.tokens, eager.tokens)
        assert_all_close(responses, eager, atol=1e-5)


@every_network
def test_dropout_is_off_in_a_rollout(network):
    """Text 4. Catches: dropout while sampling or scoring."""
    plain, dropping = (tiny_policy(network, dropout=dropout) for dropout in (0.0, 0.5))
    responses = write(plain, ragged_prompts())
    assert_all_close(write(dropping, ragged_prompts()), responses, rtol=0, atol=0)
    log_probs = response_log_probs(plain, ragged_prompts(), responses)
    assert_close(response_log_probs(dropping, ragged_prompts(), responses), log_probs, rtol=0, atol=0)


def test_a_response_by_hand():
    """Text 6, 9, 20. Catches: an end token cut off or written over, tokens or values after the end, or values one step off."""
    policy = chain({4: 5, 5: 1, 1: 3, 3: 4, 2: 2})  # 4 -> 5 -> 1 -> 3 (end); 2 -> 2 -> ... never ends
    responses = write(policy, Prompts(tf.constant([[4], [1], [2]]), tf.ones([3, 1])), length=5)
    np.testing.assert_array_equal(responses.tokens, [[5, 1, 3, 0, 0], [3, 0, 0, 0, 0], [2, 2, 2, 2, 2]])
    np.testing.assert_array_equal(responses.mask, mask_of([3, 1, 5], 5))
    np.testing.assert_array_equal(responses.values, [[4, 5, 1, 0, 0], [1, 0, 0, 0, 0], [2, 2, 2, 2, 2]])
    np.testing.assert_array_equal(responses.last, [[0, 0, 1, 0, 0], [1, 0, 0, 0, 0], [0, 0, 0, 0, 1]])
    assert_close(responses.log_probs, np.zeros([3, 5]), atol=1e-6)


@pytest.mark.parametrize("ends", [(3, 1), [1, 3]], ids=str)
def test_several_end_tokens_by_hand(ends):
    """Catches: only the first of several that ends a response, only all of them together, or another one written than was sampled: 4 -> 5 -> 1 ends at 1."""
    policy = chain({4: 5, 5: 1, 1: 3, 0: 3, 3: 4, 2: 2})
    responses = write(policy, Prompts(tf.constant([[4], [0], [2], [1]]), tf.ones([4, 1])), length=4, end_id=ends, pad_id=0)
    np.testing.assert_array_equal(responses.tokens, [[5, 1, 0, 0], [3, 0, 0, 0], [2, 2, 2, 2], [3, 0, 0, 0]])
    np.testing.assert_array_equal(responses.mask, mask_of([2, 1, 4, 1], 4))
    np.testing.assert_array_equal(responses.values, [[4, 5, 0, 0], [0, 0, 0, 0], [2, 2, 2, 2], [1, 0, 0, 0]])
    np.testing.assert_array_equal(responses.last, [[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1], [1, 0, 0, 0]])


@pytest.mark.parametrize("compiled", [False, True])
def test_one_end_token_in_a_tuple_changes_no_number(compiled):
    """Catches: another draw, or a later end, where the one end token comes in a tuple."""
    policy, prompts = ends_soon(tiny_policy("lstm")), ragged_prompts()
    run = lambda end_id: tf.function(lambda tokens, mask: write(policy, Prompts(tokens, mask), end_id=end_id), jit_compile=compiled)(*prompts)
    one, several = run(END), run((END,))
    assert one.mask.numpy().min() == 0
    for plain, in_tuple in zip(one, several):
        np.testing.assert_array_equal(in_tuple, plain)


def test_is_end_by_hand():
    """Catches: ids compared place by place (two tokens, two ends), a shape that is not that of the tokens, a type of integer that is not compared."""
    ends = {3: [[0, 1], [0, 0]], (3,): [[0, 1], [0, 0]], (4, 3): [[0, 1], [1, 0]], (0, 1, 2): [[0, 0], [0, 1]]}
    for tokens in (np.array([[5, 3], [4, 2]], np.int32), np.array([[5, 3], [4, 2]], np.int64), tf.constant([[5, 3], [4, 2]])):
        for end_id, expected in ends.items():
            found = is_end(tokens, end_id)
            assert found.dtype == tf.bool
            np.testing.assert_array_equal(found, np.array(expected, bool))
    assert is_end(np.int32(4), [3, 4]).shape == () and bool(is_end(np.int32(4), [3, np.int64(4)])) and not is_end(np.int32(5), [3, 4])


def test_pad_equal_to_end_does_not_hide_the_real_end():
    """Text 7. Catches: the mask found from ids, by which the end token looks like padding."""
    responses = write(chain({4: 5, 5: 3, 3: 4}), Prompts(tf.constant([[3, 4]]), tf.ones([1, 2])), length=4, pad_id=3)
    np.testing.assert_array_equal(responses.tokens, [[5, 3, 3, 3]])
    np.testing.assert_array_equal(responses.mask, [[1, 1, 0, 0]])
    np.testing.assert_array_equal(responses.last, [[0, 1, 0, 0]])


def test_a_pad_token_that_was_sampled_is_real():
    """Text 7, 9. Catches: a sampled pad id in mid-response that ends it or loses its log-prob."""
    policy = random_table()
    policy.table.assign(np.where(np.arange(6) == PAD, 3.0, 0.0) * np.ones([6, 1]))  # mostly pad, and no end but by chance
    responses = write(policy, Prompts(tf.constant([[4]] * 4), tf.ones([4, 1])), length=4, end_id=77)
    assert np.sum(responses.tokens.numpy() == PAD) > 4 and np.all(responses.mask == 1)
    assert np.all(responses.log_probs < 0)


def test_generation_stops_early_when_every_response_has_ended():
    """Text 20. Catches: a loop that runs to the full length whatever was written."""
    policy = chain({4: 5, 5: 3, 1: 3, 3: 3})
    calls, step = [], policy.step
    policy.step = lambda *args, **kwargs: (calls.append(1), step(*args, **kwargs))[1]
    write(policy, Prompts(tf.constant([[4], [1]]), tf.ones([2, 1])), length=50)
    assert len(calls) == 2


@every_network
def test_a_prompt_of_one_token(network):
    """Catches: an empty prefix that `read` cannot take, or a lost start."""
    policy = tiny_policy(network)
    prompts = ragged_prompts((1, 1), 1)
    responses = write(policy, prompts)
    assert_close(response_log_probs(policy, prompts, responses), responses.log_probs, atol=1e-5)


@every_network
def test_greedy_takes_the_most_probable_token(network):
    """Catches: noise in greedy decoding."""
    policy, prompts = tiny_policy(network), ragged_prompts()
    responses = write(policy, prompts, greedy=True)
    best = tf.argmax(response_outputs(policy, prompts, responses)[0], -1, output_type=tf.int32)
    np.testing.assert_array_equal(tf.where(responses.mask > 0, best, PAD), responses.tokens)
    assert_all_close(write(policy, prompts, greedy=True, seed=SEED + 1), responses, rtol=0, atol=0)


PROBABILITIES = np.array([0.05, 0.1, 0.4, 0.25, 0.2])


def frequencies(**kwargs):
    """How often each token follows, in 4000 responses of one token, and their log-probs."""
    policy = TablePolicy(5, np.tile(np.log(PROBABILITIES), [5, 1]))
    count = 4000
    responses = write(policy, Prompts(tf.zeros([count, 1], tf.int32), tf.ones([count, 1])), length=1, end_id=77, **kwargs)
    tokens = responses.tokens.numpy()[:, 0]
    return np.bincount(tokens, minlength=5) / count, tokens, responses.log_probs.numpy()[:, 0]


@pytest.mark.parametrize(
    "settings, kept, temperature",
    [({}, [0, 1, 2, 3, 4], 1.0), ({"temperature": 0.5}, [0, 1, 2, 3, 4], 0.5), ({"top_k": 2}, [2, 3], 1.0), ({"top_k": 99}, [0, 1, 2, 3, 4], 1.0),
     ({"top_p": 0.6}, [2, 3], 1.0), ({"top_p": 0.7}, [2, 3, 4], 1.0), ({"top_p": 1e-6}, [2], 1.0), ({"top_k": 3, "top_p": 0.7}, [2, 3], 1.0),
     ({"temperature": 0.5, "top_p": 0.6}, [2, 3], 0.5)],
)  # fmt: skip
def test_the_sampled_distribution(settings, kept, temperature):
    """Text 3. Catches: temperature multiplied for divided, top_k or top_p off by one, and log-probs of the cut distribution."""
    observed, tokens, log_probs = frequencies(**settings)
    whole = PROBABILITIES ** (1 / temperature)
    whole /= whole.sum()
    cut = np.where(np.isin(np.arange(5), kept), whole, 0)
    cut /= cut.sum()
    assert np.all(np.abs(observed - cut) <= 4 * np.sqrt(cut * (1 - cut) / 4000))
    assert_close(log_probs, np.log(whole)[tokens])


def test_steps_and_seeds_draw_different_noise():
    """Catches: one noise for every step, or samples that ignore the seed."""
    policy = TablePolicy(64)  # uniform
    prompts = Prompts(tf.zeros([3, 1], tf.int32), tf.ones([3, 1]))
    tokens = write(policy, prompts, end_id=77).tokens.numpy()
    assert all(len(set(row)) > 3 for row in tokens) and len({tuple(row) for row in tokens}) == 3
    np.testing.assert_array_equal(write(policy, prompts, end_id=77).tokens, tokens)
    assert np.any(write(policy, prompts, end_id=77, seed=SEED + 1).tokens != tokens)


def test_the_fewest_tokens_that_hold_a_probability():
    """Catches: one token more where those before it hold exactly `top_p`, or all tokens that tie with none that is needed."""
    logits = tf.constant([[2.0, 1.0, 0.0, -1.0]])
    first = float(tf.nn.softmax(logits)[0, 0])
    for top_p, kept in ((first, 1), (first + 1e-3, 2), (1e-3, 1), (1.0, 4)):
        assert np.isfinite(_restrict(logits, None, top_p)[0]).sum() == kept


@pytest.mark.parametrize("limits", [dict(greedy=True), dict(top_k=2), dict(top_p=0.5)], ids=str)
def test_log_probabilities_are_those_of_the_whole_distribution(limits):
    """Catches: log-probabilities at another temperature than the one of acting, or among the tokens that were left, of a token that was not simply drawn."""
    policy, prompts = random_table(), ragged_prompts((2, 1, 2), 2, vocabulary_size=6)
    responses = generate(policy, prompts, 4, END, PAD, tf.constant([1, 2]), temperature=0.5, **limits)
    assert_close(responses.log_probs, response_log_probs(policy, prompts, responses, temperature=0.5))


@pytest.mark.parametrize(
    "settings, said",
    [
        (dict(policy="lstm"), "policy is 'lstm', which has no initial_state"),
        (dict(prompts=["the film"]), r"prompts is \['the film'\], which has no tokens, mask. Make them with pad_prompts"),
        (dict(prompts=Prompts(tf.constant([1, 2]), tf.ones([2]))), r"tokens of shape \(2,\) and a mask of shape \(2,\), expected \(B, P\)"),
        (dict(prompts=Prompts(tf.zeros([0, 2], tf.int32), tf.ones([0, 2]))), r"tokens of shape \(0, 2\)"),
        (dict(length=0), "length=0 is no whole number of 1 or more"),
        (dict(length=2.5), "length=2.5 is no whole number"),
        (dict(end_id=None), "end_id=None is no whole number of 0 or more. Use one such as 3, or a list of several"),
        (dict(end_id=[]), r"end_id=\[\] holds no token. Give the token that ends a response, such as 3"),
        (dict(end_id=[-1]), r"end_id\[0\]=-1 is no whole number of 0 or more"),
        (dict(end_id=(3, "a")), r"end_id\[1\]='a' is no whole number of 0 or more"),
        (dict(seed=0), r"the seed has shape \(\), expected two whole numbers. Use tf.constant\(\[0, 1\]\)"),
        (dict(temperature=0.0), "temperature=0.0 is not positive. Use greedy=True"),
        (dict(temperature=-1), "temperature=-1 is not positive"),
        (dict(top_k=0), "top_k=0 is no whole number of 1 or more"),
        (dict(top_p=0.0), r"top_p=0.0 is outside \(0, 1\]"),
        (dict(top_p=1.5), r"top_p=1.5 is outside \(0, 1\]"),
    ],
)
def test_what_cannot_be_generated_is_said(settings, said):
    """Catches: TensorFlow's errors about shapes and counters; texts written at a temperature of 0 or -1 without a word."""
    given = dict(policy=random_table(), prompts=Prompts(tf.constant([[1, 2]]), tf.ones([1, 2])), length=3, end_id=END, pad_id=PAD, seed=SEED)
    with pytest.raises(InputError, match=said) as error:
        generate(**given | settings)
    assert "\n" not in str(error.value)
    assert generate(**given | dict(seed=[5, 6], prompts=Prompts(np.array([[1, 2]], np.int32), np.ones([1, 2])))).tokens.shape == (1, 3)
