"""`ppo_keras.reports.examination`: responses and their numbers against direct evaluation in float64 NumPy."""

import numpy as np
import pytest
import tensorflow as tf

from helpers import END, PAD, assert_close, ragged_prompts, random_table
from ppo_keras import KLConfig, LanguagePPO, PPOConfig, Prompts
from ppo_keras.reports.examination import examine, sample_responses
from ppo_keras.reports.measures import measure

TEMPERATURE, BETA, DISCOUNT, LAMBDA = 0.7, 0.3, 0.9, 0.8
PROMPTS = Prompts(*[part.numpy() for part in ragged_prompts((3, 1, 2, 3, 2), 3, vocabulary_size=6)])


def learner(group=1, **settings):
    reward = lambda prompts, responses: tf.reduce_sum(tf.cast(responses.tokens, tf.float32) * responses.mask, axis=1)
    config = PPOConfig(discount=DISCOUNT, gae_lambda=LAMBDA, temperature=TEMPERATURE, **settings)
    return LanguagePPO(
        random_table(seed=1), reward, END, PAD, 5, config, KLConfig(kl_coefficient=BETA, kl_target=0.01), missing_end_penalty=0.5,
        responses_per_prompt=group, reference=random_table(seed=2), name="learner",
    )  # fmt: skip


def log_softmax(logits):
    return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))


def directly(one, examined, prompts, row):
    """Log-probabilities, those of the reference, entropies, values of one response, token by token, in float64."""
    previous, found = int(prompts.tokens[row, -1]), []
    for token in examined.responses.tokens[row, : int(examined.responses.mask[row].sum())]:
        rows = [log_softmax(policy.table.numpy().astype(np.float64)[previous] / TEMPERATURE) for policy in (one.policy, one.reference)]
        found.append((rows[0][token], rows[1][token], -np.sum(np.exp(rows[0]) * rows[0]), one.policy.critic.numpy()[previous]))
        previous = token
    return np.array(found).T


@pytest.mark.parametrize("greedy", [False, True])
def test_every_token_against_numpy(greedy):
    """Catches: log-probabilities at temperature 1, those of the token before or after, entropy of the reference, padding that is not 0."""
    one = learner()
    examined = examine(one, PROMPTS, 5, 2, 0, one.score, greedy, jit_compile=False)
    assert greedy or len({int(n) for n in examined.responses.mask.sum(axis=1)}) > 1  # ragged
    for row in range(5):
        length = int(examined.responses.mask[row].sum())
        expected = directly(one, examined, PROMPTS, row)
        actual = examined.responses.log_probs, examined.reference_log_probs, examined.entropies, examined.responses.values
        for array, wanted in zip(actual, expected):
            assert_close(array[row, :length], wanted)
            assert not array[row, length:].any()
        assert examined.scores[row] == examined.responses.tokens[row, :length].sum()
        if greedy:
            before = [PROMPTS.tokens[row, -1], *examined.responses.tokens[row, : length - 1]]
            np.testing.assert_array_equal(examined.responses.tokens[row, :length], one.policy.table.numpy()[before].argmax(axis=1))


@pytest.mark.parametrize("group", [1, 2])
def test_the_measures_of_a_sample_against_numpy(group):
    """Catches: advantages that are whitened, without the KL penalty, without the missing end, of other responses than the rewards;
    responses to one prompt that are ascribed to another, a KL of a token instead of a response; a learner that is changed."""
    one = learner(group)
    before = [np.array(variable) for variable in one.variables]
    sample = sample_responses(one, PROMPTS, 2, seed=3, jit_compile=False)
    assert all(map(np.array_equal, before, one.variables))
    repeated = Prompts(*[np.repeat(part, group, axis=0) for part in PROMPTS])
    examined = examine(one, repeated, 5, 2, 3, one.score, jit_compile=False)
    scores, advantages, entropies, kl = np.array(examined.scores, np.float64), [], [], []
    ended = [END in tokens[: int(mask.sum())] for tokens, mask in zip(examined.responses.tokens, examined.responses.mask)]
    earned = scores - 0.5 * ~np.array(ended)
    for row in range(5 * group):
        log_probs, reference, entropy, values = directly(one, examined, repeated, row)
        rewards = -BETA * (log_probs - reference)
        rewards[-1] += earned[row] - (earned[row ^ 1] if group == 2 else 0.0)  # of two, each is compared with the other
        advantage, of_row = 0.0, []
        for t in reversed(range(len(rewards))):
            later = values[t + 1] if t + 1 < len(rewards) else 0.0
            advantage = rewards[t] + DISCOUNT * later - values[t] + DISCOUNT * LAMBDA * advantage
            of_row.append(advantage)
        advantages += of_row
        entropies += list(entropy)
        kl.append(np.sum(log_probs - reference))
    found = measure(sample, "reward")
    assert_close(sample.rewards, scores.reshape(5, group).mean(axis=1))
    assert found["reward"].estimate == pytest.approx(scores.mean(), rel=1e-5)
    assert found["advantage_mean"].estimate == pytest.approx(np.mean(advantages), rel=1e-5)
    assert found["advantage_std"].estimate == pytest.approx(np.std(advantages, ddof=1), rel=1e-5)
    assert found["entropy"].estimate == pytest.approx(np.mean(entropies), rel=1e-5)
    assert found["kl"].estimate == pytest.approx(np.mean(kl), rel=1e-5)
    greedy = examine(one, PROMPTS, 5, 2, 0, one.score, True, jit_compile=False)
    assert_close(sample.greedy_rewards, greedy.scores)


def test_without_a_score_there_is_none():
    """Catches: a reward that is asked where no reference is known."""
    assert examine(learner(), PROMPTS, 4, 5, 0, None, jit_compile=False).scores is None
