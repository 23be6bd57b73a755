"""`ppo_keras.language.control_codes`: the label that a prompt asks for."""

import numpy as np
import pytest
import tensorflow as tf

from helpers import NETWORKS, assert_close, tiny_reward
from ppo_keras.errors import InputError
from ppo_keras.language.control_codes import ControlCodes, with_code
from ppo_keras.language.generation import Prompts, Responses
from ppo_keras.language.rewards import score_responses

RESPONSES = Responses(tf.constant([[8, 3, 0], [9, 9, 9]]), tf.constant([[1.0, 1, 0], [1, 1, 1]]), None, None)
CODES = ControlCodes([21, 7, 14], neutral=1)


def coded_prompts(*codes):
    """Left-padded prompts that are alike but for their codes."""
    tokens = [[0, 2, code, 5, 6] for code in codes]
    return Prompts(tf.constant(tokens), tf.constant([[0.0, 1, 1, 1, 1]] * len(codes)))


def test_the_label_that_a_prompt_asks_for():
    """Catches: labels in the order of their ids (7, 14, 21), the code looked for at one place only, text taken for a code."""
    prompts = tf.constant([[2, 21, 5, 6], [0, 2, 7, 5], [2, 14, 14, 4], [0, 0, 2, 21], [2, 8, 15, 7]])
    asked = CODES.asked(prompts)
    assert asked.numpy().tolist() == [0, 1, 2, 0, 1] and asked.dtype == tf.int32
    assert CODES.asked(prompts.numpy()).numpy().tolist() == [0, 1, 2, 0, 1]


def test_a_prompt_without_a_code_asks_for_nothing():
    """Catches: the first label, taken for what a prompt asks for that holds no code, and a score of it that looks like any other."""
    assert CODES.asked(tf.constant([[2, 5, 6], [2, 7, 6], [0, 0, 2]])).numpy().tolist() == [-1, 1, -1]
    log_odds = CODES.log_odds(tiny_reward(outputs=3), coded_prompts(5, 7), RESPONSES).numpy()
    assert np.isnan(log_odds[0]) and np.isfinite(log_odds[1])


NAMES = ["negative", "正面", "very good", "a", "a: b", "好评", "Ａ级"]


@pytest.mark.parametrize(
    "typed, prompt",
    [
        ("negative: The end", "negative: The end"),
        ("negative:The  end ", "negative: The end"),
        (" Negative :\tThe end: a film", "negative: The end: a film"),
        ("NEGATIVE：the end", "negative: the end"),
        ("ｎｅｇａｔｉｖｅ：the ｅｎｄ", "negative: the ｅｎｄ"),
        ("正面：这部电影", "正面: 这部电影"),
        ("正面 ： 这部电影", "正面: 这部电影"),
        ("\u3000正面：", "正面:"),
        ("Very  Good: it", "very good: it"),
        ("A ： B：c", "a: b: c"),  # the longer of two labels
        ("a: c", "a: c"),
        ("a级：好", "Ａ级: 好"),
    ],
)
def test_a_typed_control_code_is_understood(typed, prompt):
    """Catches: a full-width colon, capitals or a blank that hide the code from the writer and the judge; a text behind it that is changed."""
    assert with_code(typed, NAMES) == prompt


@pytest.mark.parametrize("typed", ["The end", "", "The end: negative", "negativ: x", "negative The end", "the negative: x", ": x", "正面"])
def test_a_prompt_without_a_code_is_refused(typed):
    """Catches: a prompt that asks for nothing and is continued all the same; a code somewhere else; a message without the codes."""
    with pytest.raises(InputError) as caught:
        with_code(typed, NAMES)
    assert "negative:, 正面:, very good:, a:, a: b:, 好评:, Ａ级: (as in 'negative: " in str(caught.value)
    assert ("Did you mean 'negative'?" in str(caught.value)) == (typed in ("negativ: x", "negative The end", "the negative: x"))


def test_hidden_codes_leave_the_text_as_it_is():
    """Catches: a code that stays readable, another token that is hidden, another neutral id for each label."""
    hidden = CODES.hide(tf.constant([[2, 21, 5, 1], [0, 2, 7, 20], [14, 14, 13, 22]]))
    assert hidden.numpy().tolist() == [[2, 1, 5, 1], [0, 2, 1, 20], [1, 1, 13, 22]] and hidden.dtype == tf.int32


def test_log_odds_by_hand():
    """Catches: log p for log-odds, the asked label among the others, their mean or maximum for their sum, rows mixed up, a code that is read."""
    model, prompts = tiny_reward(outputs=3), coded_prompts(7, 14)
    log_odds = CODES.log_odds(model, prompts, RESPONSES)
    for i, asked in enumerate((1, 2)):
        text = [2, 1, 5, 6, *RESPONSES.tokens[i].numpy()[RESPONSES.mask[i] > 0]]  # without code and padding
        logits = model((tf.constant([text]), tf.ones([1, len(text)])))[0].numpy().astype(np.float64)
        p = np.exp(logits) / np.exp(logits).sum()
        assert_close(log_odds[i], np.log(p[asked]) - np.log(np.delete(p, asked).sum()), atol=2e-5)
    assert log_odds.shape == (2,) and log_odds.dtype == tf.float32


def test_a_code_that_is_written_asks_for_nothing_and_is_not_read():
    """Catches: the last code of a prompt for the first, and a writer that is paid for writing the code of the label that it was asked for."""
    model, prompts = tiny_reward(outputs=3), coded_prompts(7, 14)
    with_code = lambda code: RESPONSES._replace(tokens=tf.concat([tf.fill([2, 1], code), RESPONSES.tokens[:, 1:]], axis=1))
    expected = CODES.log_odds(model, prompts, with_code(1))  # 1 stands for every code
    for code in CODES.ids:
        assert_close(CODES.log_odds(model, prompts, with_code(code)), expected, rtol=0, atol=0)
    assert CODES.asked(tf.constant([[2, 21, 7, 14], [0, 14, 5, 21]])).numpy().tolist() == [0, 2]


@pytest.mark.parametrize("network", NETWORKS)
def test_a_code_changes_only_which_label_is_asked_for(network):
    """Catches: a judge that reads the code: the probabilities, by three codes of one text, that it is as asked must sum to 1."""
    model = tiny_reward(network, outputs=3)
    response = Responses(*[tf.repeat(x[:1], 3, axis=0) for x in RESPONSES[:2]], None, None)
    probabilities = tf.sigmoid(CODES.log_odds(model, coded_prompts(21, 7, 14), response)).numpy()
    assert_close(probabilities.sum(), 1.0)
    assert np.ptp(probabilities) > 0.05
    seen = score_responses(model, coded_prompts(21, 7, 14), response).numpy()
    assert np.ptp(seen, axis=0).min() > 1e-2  # a code that is not hidden would have been read


def test_log_odds_of_two_labels_are_a_difference_of_logits():
    """Catches: infinities that make NaN of a log-odds where one other label is all there is."""
    model, codes = tiny_reward(outputs=2), ControlCodes([21, 7], neutral=1)
    log_odds = codes.log_odds(model, coded_prompts(21, 7), RESPONSES)
    logits = score_responses(model, coded_prompts(1, 1), RESPONSES)
    assert_close(log_odds, [logits[0, 0] - logits[0, 1], logits[1, 1] - logits[1, 0]], atol=1e-5)
    compiled = tf.function(lambda prompts: codes.log_odds(model, prompts, RESPONSES), jit_compile=True)
    assert_close(compiled(coded_prompts(21, 7)), log_odds, atol=1e-5)
