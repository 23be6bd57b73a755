"""`ppo_keras.language.ppo`: from prompts to trajectories, and whole iterations of training."""

import functools
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf
from test_generation import ends_soon
from test_rewards import Words

from helpers import (
    END,
    NETWORKS,
    PAD,
    TablePolicy,
    assert_all_close,
    assert_close,
    mask_of,
    ragged_prompts,
    random_table,
    response_outputs,
    tiny_agent,
    tiny_learner,
    tiny_policy,
    tiny_reward,
    weights_of,
)
from ppo_keras import KLConfig, LanguagePPO, PPOConfig, Prompts, PythonReward
from ppo_keras.errors import InputError
from ppo_keras.language.generation import Responses
from ppo_keras.language.ppo import check_prompts
from test_advantages import plain_advantages

every_network = pytest.mark.parametrize("network", NETWORKS)
full = pytest.mark.full  # a sister that stays checks the same with another network or mode
PARTS = [pytest.param(network, shared, id=f"{network}-{'shared' if shared else 'separate'}") for network in NETWORKS for shared in (True, False)]
SGD = keras.optimizers.SGD
PROMPTS = ragged_prompts((5, 1, 3, 2, 4, 4, 1, 5))
SHORT = ragged_prompts((3, 1, 2, 3, 1, 2, 3, 2), width=3)  # for XLA, which compiles an LSTM step by step
CONFIG = PPOConfig(discount=1.0, epochs=1, minibatches=2, temperature=0.8)


def small_tokens(prompts, responses):
    """A reward in TensorFlow, of integers: how many tokens of the response are below 10, less the first prompt token's parity."""
    return tf.reduce_sum(tf.cast((responses.tokens < 10) & (responses.mask > 0), tf.int32), axis=1) - prompts.tokens[:, -1] % 2


def small_words(prompt, response):
    """The same reward in plain Python."""
    return sum(int(word) < 10 for word in response.split()) - int(prompt.split()[-1]) % 2


class Counting(LanguagePPO):
    """Counts how often Python runs through the parts."""

    traces = rollouts = 0

    def train_step(self, data):
        self.traces += 1
        return super().train_step(data)

    def rollout(self, prompts, *share):
        self.rollouts += 1
        return super().rollout(prompts, *share)


def learner(
    network="transformer",
    shared=True,
    mode="eager",
    reward=small_tokens,
    config=CONFIG,
    optimizer=None,
    policy=None,
    length=6,
    end_id=END,
    pad_id=PAD,
    **kwargs,
):
    """A compiled `LanguagePPO` on a tiny policy that ends its responses now and then."""
    policy = policy or ends_soon(tiny_policy(network, shared))
    ppo = Counting(policy, reward, end_id, pad_id, length, config=config, **kwargs)
    ppo.compile(optimizer or SGD(0.05), jit_compile=mode == "jit", run_eagerly=mode == "eager")
    return ppo


def fit(ppo, iterations=1, prompts=PROMPTS):
    """Trains; returns the history."""
    return ppo.fit(tf.data.Dataset.from_tensors(prompts), epochs=iterations, verbose=0).history


# The trajectory


RAGGED = Responses(
    tokens=tf.constant([[5, 3, 0], [5, 4, 5], [3, 0, 0]]),
    mask=tf.constant(mask_of([2, 3, 1], 3)),
    log_probs=tf.constant([[-1.0, -2.0, 0], [-0.5, -1.5, -1.0], [-3.0, 0, 0]]),
    values=tf.constant([[0.1, 0.2, 0], [0.3, 0.4, 0.5], [0.6, 0, 0]]),
)
REFERENCE = tf.constant([[-1.5, -1.0, 0], [-0.5, -2.5, -1.0], [-1.0, 0, 0]])
TWO_TOKENS = Prompts(tf.constant([[0, 4], [4, 5], [3, 3]]), tf.constant([[0.0, 1], [1, 1], [1, 1]]))
SCORES = tf.constant([1.0, 2.0, 4.0])


def assembled(scores=SCORES, responses=RAGGED, prompts=TWO_TOKENS, reference=REFERENCE, judged=None, **kwargs):
    ppo = learner(policy=random_table(), length=3, kl=kwargs.pop("kl", KLConfig(0.1)), **kwargs)
    trajectory, metrics = ppo.assemble(prompts, responses, reference, scores, judged)
    return ppo, trajectory, {name: float(value) for name, value in metrics.items()}


def test_rewards_by_hand():
    """Text 5, 16. Catches: a score off the last real token or on padding, or a KL that is rewarded: r = -0.1 k1 + score - 0.5 (no end)."""
    _, trajectory, _ = assembled(missing_end_penalty=0.5)
    assert_close(trajectory.rewards, [[-0.05, 0.1 + 1.0, 0], [0, -0.1, 0 + 2.0 - 0.5], [0.2 + 4.0, 0, 0]])


def test_the_end_of_a_response_is_terminal_by_hand():
    """Text 6, 17. Catches: a bootstrap beyond the last real token, values shifted by one, or an end that is not marked."""
    _, trajectory, _ = assembled()
    np.testing.assert_array_equal(trajectory.next_values, np.array([[0.2, 0, 0], [0.4, 0.5, 0], [0, 0, 0]], np.float32))
    np.testing.assert_array_equal(trajectory.ended, [[0, 1, 0], [0, 0, 1], [1, 0, 0]])
    np.testing.assert_array_equal(trajectory.mask, RAGGED.mask)
    np.testing.assert_array_equal(trajectory.inputs, [[0, 4, 5, 3], [4, 5, 5, 4], [3, 3, 3, 0]])
    np.testing.assert_array_equal(trajectory.starts, [[0, 1, 0, 0], [1, 0, 0, 0], [1, 0, 0, 0]])
    assert trajectory.context == 1
    for name in ("tokens", "log_probs", "values"):
        np.testing.assert_array_equal(getattr(trajectory, {"tokens": "actions"}.get(name, name)), getattr(RAGGED, name))


def test_metrics_by_hand():
    """Text 10, 14. Catches: a metric over padding or another mean than over responses (the entropy must be positive)."""
    _, _, metrics = assembled(missing_end_penalty=0.5)
    kl = [0.5 - 1.0, 1.0, -2.0]  # k1 of each response: negative ones stay negative
    expected = {
        "objective/kl": np.mean(kl),
        "objective/kl_coefficient": 0.1,
        "objective/entropy": np.mean([3.0, 3.0, 3.0]),
        "objective/non_score_reward": -0.1 * np.mean(kl),
        "objective/scores": np.mean([1.0, 2.0, 4.0]),
        "objective/rlhf_reward": np.mean([1.0, 1.5, 4.0]) - 0.1 * np.mean(kl),
        "response/length": 2.0,
        "response/ended_share": 2 / 3,
        "response/token_kl": np.sum(kl) / 6,
    }
    assert set(metrics) == set(expected)
    for name, value in expected.items():
        assert_close(metrics[name], value)


def test_the_judge_is_reported_and_not_rewarded():
    """Catches: a judge's opinion in the reward, another threshold than log-odds 0, or a metric without a judge."""
    _, alone, without = assembled()
    _, trajectory, metrics = assembled(judged=tf.constant([0.1, -3.0, 0.0]))
    assert_close(metrics.pop("objective/judged"), 1 / 3)
    assert metrics == without
    np.testing.assert_array_equal(trajectory.rewards, alone.rewards)


@pytest.mark.parametrize("garbage", [np.nan, 1e3])
def test_padding_of_the_reference_enters_nothing(garbage):
    """Text 10. Catches: the reference's log-probs of padding in a reward or a metric."""
    dirty = tf.where(RAGGED.mask > 0, REFERENCE, garbage)
    _, clean_trajectory, clean = assembled()
    _, trajectory, metrics = assembled(reference=dirty)
    assert metrics == clean
    np.testing.assert_array_equal(trajectory.rewards, clean_trajectory.rewards)


@pytest.mark.parametrize("pad_id", [PAD, END])
def test_pad_equal_to_end_changes_no_reward(pad_id):
    """Text 7. Catches: padding that counts as an end token, or an end token taken for padding."""
    filled = RAGGED._replace(tokens=tf.where(RAGGED.mask > 0, RAGGED.tokens, pad_id))
    _, trajectory, metrics = assembled(responses=filled, pad_id=pad_id, missing_end_penalty=0.5)
    assert_close(tf.reduce_sum(trajectory.rewards, 1), [1.05, 1.4, 4.2])
    assert_close(metrics["response/ended_share"], 2 / 3)


@pytest.mark.parametrize(
    "end_id, penalised",
    [(3, [0, 1, 0]), (4, [1, 0, 1]), (5, [0, 0, 1]), (0, [1, 1, 1]), ((3,), [0, 1, 0]), ((3, 5), [0, 0, 0]), ([4, 0], [1, 0, 1]), ((0, 2), [1, 1, 1])],
)
def test_the_missing_end_penalty_looks_at_the_response_only(end_id, penalised):
    """Text 8. Catches: an end token of the prompt (3 and 4 occur there) or of the padding (0), another id than the configured, or only the first of several."""
    _, with_penalty, _ = assembled(end_id=end_id, missing_end_penalty=0.5)
    _, without, _ = assembled(end_id=end_id)
    assert_close(tf.reduce_sum(without.rewards - with_penalty.rewards, 1), 0.5 * np.array(penalised))


@pytest.mark.parametrize("ends", [(END, 1), [1, END]], ids=str)
def test_any_of_several_end_tokens_ends_a_response_by_hand(ends):
    """Catches: only the first of several end tokens that ends a response, a penalty where another one did, a score on padding: 4 -> 5 -> 1, 0 -> 3, 2 -> 2 -> 2."""
    table = np.zeros([6, 6])
    for token, following in {4: 5, 5: 1, 1: 1, 0: 3, 2: 2}.items():
        table[token, following] = 200.0
    ppo = learner(policy=TablePolicy(6, table), length=3, end_id=ends, kl=KLConfig(0.1), missing_end_penalty=0.5)
    prompts = Prompts(tf.constant([[4], [0], [2]]), tf.ones([3, 1]))
    responses, reference, _ = ppo.rollout(prompts)
    np.testing.assert_array_equal(responses.tokens, [[5, 1, 0], [3, 0, 0], [2, 2, 2]])
    np.testing.assert_array_equal(responses.mask, mask_of([2, 1, 3], 3))
    trajectory, metrics = ppo.assemble(prompts, responses, reference, SCORES)
    assert_close(trajectory.rewards, [[0, 1.0, 0], [2.0, 0, 0], [0, 0, 4.0 - 0.5]])  # the KL from the own copy is 0
    np.testing.assert_array_equal(trajectory.ended, [[0, 1, 0], [1, 0, 0], [0, 0, 1]])
    assert_close(metrics["response/ended_share"], 2 / 3)


def test_one_end_token_in_a_tuple_changes_no_number():
    """Catches: an iteration that is another one where the one end token comes in a tuple or a list."""
    one, *others = ((fit(ppo), weights_of(ppo.policy)) for ppo in (learner("lstm", end_id=end_id) for end_id in (END, (END,), [END])))
    for history, weights in others:
        assert history == one[0]
        assert_all_close(weights, one[1], rtol=0, atol=0)


def test_the_short_penalty_by_hand():
    """Catches: a bonus for length, a penalty on other tokens than the last, or one that shows as a lower score (lengths 2, 3, 1; usual 2.5)."""
    _, trajectory, metrics = assembled(short_penalty=0.5, usual_length=2.5)
    lack = 0.5 * np.array([0.2, 0.0, 0.6])  # relu(1 - length / 2.5)
    assert_close(trajectory.rewards, [[-0.05, 0.1 + 1.0 - lack[0], 0], [0, -0.1, 0 + 2.0], [0.2 + 4.0 - lack[2], 0, 0]])
    _, _, without = assembled()
    assert_close(metrics["objective/scores"], np.mean(SCORES))
    assert_close(without["objective/rlhf_reward"] - metrics["objective/rlhf_reward"], lack.mean())
    assert {name for name in metrics if metrics[name] != without[name]} == {"objective/rlhf_reward"}
    _, both, _ = assembled(short_penalty=0.5, usual_length=2.5, missing_end_penalty=0.25)
    assert_close(both.rewards - trajectory.rewards, [[0, 0, 0], [0, 0, -0.25], [0, 0, 0]])


def test_scores_count_from_the_other_responses_by_hand():
    """Catches: a mean that holds the response itself, groups across prompts, or a baseline that the printed score loses: 1, 2, 6, 5 in pairs."""
    four = [tf.concat([x, x[:1]], 0) for x in RAGGED]
    prompts = Prompts(*[tf.concat([x, x[:1]], 0) for x in TWO_TOKENS])
    scores = tf.constant([1.0, 2.0, 6.0, 5.0])
    _, trajectory, metrics = assembled(scores, Responses(*four), prompts, four[2], kl=KLConfig(0.0), responses_per_prompt=2)
    assert_close(tf.reduce_sum(trajectory.rewards, axis=1), [1 - 2, 2 - 1, 6 - 5, 5 - 6])
    assert metrics["objective/scores"] == metrics["objective/rlhf_reward"] == 3.5
    _, trajectory, _ = assembled(SCORES, kl=KLConfig(0.0), reference=RAGGED.log_probs, responses_per_prompt=3)
    assert_close(tf.reduce_sum(trajectory.rewards, axis=1), [1 - 3, 2 - 2.5, 4 - 1.5])


@pytest.mark.parametrize("count", [0, -1, 2.5])
def test_a_count_of_responses_is_checked(count):
    """Catches: a setting that fails inside TensorFlow in the middle of `fit`, or an empty batch."""
    with pytest.raises(InputError, match="responses_per_prompt="):
        learner(responses_per_prompt=count)


def test_every_prompt_is_answered_as_often_as_asked():
    """Catches: prompts that are tiled (neighbours would be of different prompts), or a batch that does not grow."""
    ppo = learner(responses_per_prompt=3)
    trajectory, _ = ppo.collect(Prompts(PROMPTS.tokens[:4], PROMPTS.mask[:4]))
    length = PROMPTS.tokens.shape[1]
    np.testing.assert_array_equal(trajectory.inputs[:, :length], np.repeat(PROMPTS.tokens[:4], 3, axis=0))
    actions = np.reshape(trajectory.actions, [4, 3, -1])
    assert any(not np.array_equal(group[0], group[1]) for group in actions)  # drawn one by one


def test_rewards_are_float():
    """Text 19. Catches: an integer reward that truncates the KL penalty, or fails to add up."""
    ppo = learner(reward=lambda prompts, responses: tf.reduce_sum(responses.tokens, axis=1), policy=random_table())
    scores = ppo.score(TWO_TOKENS, RAGGED)
    assert scores.dtype == tf.float32
    assert_close(scores, [8.0, 14.0, 3.0])


def test_the_coefficient_adapts_by_hand():
    """Catches: a KL mean over tokens, n other than the responses of the batch, or an update before this iteration's rewards."""
    ppo, trajectory, metrics = assembled(kl=KLConfig(0.1, kl_target=0.5, kl_horizon=30, kl_estimator="k2"))
    kl = np.mean([0.125 + 0.5, 0.5, 2.0])  # 1.04167: twice the target, so e = 0.2
    assert_close(metrics["objective/kl"], kl)
    assert_close(ppo.kl_coefficient, 0.1)  # who only looks changes nothing
    ppo.adapt(metrics["objective/kl"], 3)
    assert_close(ppo.kl_coefficient, 0.1 * (1 + 0.2 * 3 / 30))
    assert_close(metrics["objective/kl_coefficient"], 0.1)
    assert_close(trajectory.rewards[0, 0], -0.1 * 0.125)


def test_the_coefficient_counts_responses():
    """Catches: prompts counted where each has several responses, so that beta moves K times too slowly."""
    kl = KLConfig(0.1, kl_target=1e-6, kl_horizon=30, kl_estimator="k3")
    ppo = learner(policy=random_table(), reference=random_table(seed=1), length=3, kl=kl, responses_per_prompt=3)
    ppo.collect(TWO_TOKENS)  # 3 prompts, 9 responses
    assert_close(ppo.kl_coefficient, 0.1 * (1 + 0.2 * 9 / 30))


def test_each_purpose_has_its_own_randomness():
    """Catches: minibatches in an order that the same numbers chose as the tokens, which then say what is learned together."""
    ppo, purposes = learner(policy=random_table(), length=3), []
    original = ppo.draw_seed
    ppo.draw_seed = lambda purpose: (purposes.append(purpose), original(purpose))[1]
    ppo.train_step(TWO_TOKENS._replace(tokens=TWO_TOKENS.tokens[:2], mask=TWO_TOKENS.mask[:2]))
    assert len(purposes) == len(set(purposes)) == 2


def test_a_state_holds_what_changes():
    """Catches: the reference and a reward model in every state, which are written already, or a policy, moment or counter left out."""
    ppo = learner(policy=tiny_policy("lstm"), reward=tiny_reward("lstm"), optimizer=keras.optimizers.Adam())
    kept = [*ppo.policy.variables, ppo.seed, ppo.iteration, ppo.kl_coefficient, *ppo.optimizer.variables]
    assert len(ppo.state()) == len(kept) and {id(v) for v in ppo.changing} == {id(v) for v in kept}


@pytest.mark.parametrize("shape", [[3, 1], [], [3, 3]])
def test_a_reward_of_another_shape_is_refused(shape):
    """Catches: scores that are broadcast, so that every response is paid for all."""
    with pytest.raises(InputError, match=r"the reward returned shape .*, expected \(3,\). Return one score a response"):
        learner(policy=random_table(), reward=lambda *_: tf.zeros(shape)).score(TWO_TOKENS, RAGGED)


# Against TRL


def trl_loss(logits, values, reference_logits, old_logits, old_values, responses, scores, config, beta, estimator):
    """TRL's PPO loss in float64 NumPy, from logits and values; the score stands at the last real token."""
    tokens, mask = responses.tokens.numpy(), responses.mask.numpy().astype(bool)

    def log_softmax(x):
        x = np.asarray(x, np.float64) / config.temperature
        x = x - x.max(-1, keepdims=True)
        return np.take_along_axis(x - np.log(np.exp(x).sum(-1, keepdims=True)), tokens[..., None], -1)[..., 0]

    new, old, reference = log_softmax(logits), log_softmax(old_logits), log_softmax(reference_logits)
    values, old_values = (np.where(mask, np.asarray(x, np.float64), 0) for x in (values, old_values))
    log_ratio = reference - old
    kl = -log_ratio if estimator == "k1" else np.exp(log_ratio) - 1 - log_ratio
    rewards = np.where(mask, -beta * kl, 0)
    for b, length in enumerate(mask.sum(1)):
        rewards[b, length - 1] += scores[b]
    batch, steps = tokens.shape
    advantages = np.zeros([batch, steps])
    following = np.zeros(batch)
    for t in reversed(range(steps)):
        next_values = old_values[:, t + 1] if t + 1 < steps else 0.0
        following = rewards[:, t] + config.discount * next_values - old_values[:, t] + config.discount * config.gae_lambda * following
        advantages[:, t] = following
    returns = advantages + old_values
    real = advantages[mask]
    advantages = (advantages - real.mean()) / np.sqrt(real.var(ddof=1) + 1e-8)
    ratio = np.exp(new - old)
    policy_loss = np.maximum(-advantages * ratio, -advantages * np.clip(ratio, 1 - config.clip_ratio, 1 + config.clip_ratio))[mask].mean()
    clipped = np.clip(values, old_values - config.value_clip, old_values + config.value_clip)
    value_loss = 0.5 * np.maximum((values - returns) ** 2, (clipped - returns) ** 2)[mask].mean()
    return policy_loss, value_loss, policy_loss + config.value_coefficient * value_loss


@pytest.mark.parametrize("network, shared", PARTS)
@pytest.mark.parametrize("estimator", ["k1", "k3"])
def test_the_loss_equals_trl(network, shared, estimator):
    """Text 3, 5, 6, 16. Catches: any step from rollout to loss that is not TRL's (temperature, KL, score, GAE, whitening, clips, weights)."""
    config = PPOConfig(discount=1.0, gae_lambda=0.95, temperature=0.7, value_coefficient=0.1)
    policy = ends_soon(tiny_policy(network, shared))
    reference = tiny_policy(network, shared, seed=1)
    ppo = learner(policy=policy, reference=reference, config=config, kl=KLConfig(0.05, kl_estimator=estimator))
    responses, reference_log_probs, _ = ppo.rollout(PROMPTS)
    assert len(set(responses.mask.numpy().sum(1))) > 1
    scores = ppo.score(PROMPTS, responses)
    trajectory, _ = ppo.assemble(PROMPTS, responses, reference_log_probs, scores)
    old_logits, old_values = response_outputs(policy, PROMPTS, responses)
    random = np.random.default_rng(4)
    policy.set_weights([w + random.normal(0, 0.02, w.shape) for w in weights_of(policy)])  # so that the ratio is not 1
    logits, values = response_outputs(policy, PROMPTS, responses)
    _, metrics = ppo.gradients(ppo.estimate(trajectory), tf.reduce_sum(trajectory.mask))
    reference_logits, _ = response_outputs(reference, PROMPTS, responses)
    expected = trl_loss(logits, values, reference_logits, old_logits, old_values, responses, scores.numpy(), config, 0.05, estimator)
    assert 0.02 < metrics["policy/clip_fraction"] < 0.9
    # float32: old log-probs and values come from unrolling, which agrees with the call to 1e-6 of sums of order 1
    assert_close([metrics["loss/policy"], metrics["loss/value"], metrics["loss/total"]], expected, atol=1e-5)


# Whole iterations


@pytest.mark.parametrize("network, shared", PARTS)
def test_the_first_ratio_is_one(network, shared):
    """Text 1, 3. Catches: rollout and update that disagree, in padding, temperature, memory or precision."""
    ppo = learner(network, shared, config=PPOConfig(epochs=1, minibatches=1, temperature=0.7))
    history = fit(ppo)
    assert_close(history["policy/ratio"], [1.0], atol=1e-5)
    assert_close(history["policy/approx_kl"], [0.0], atol=1e-6)
    assert history["policy/clip_fraction"] == history["value/clip_fraction"] == [0.0]
    assert_close(history["objective/kl"], [0.0], atol=1e-5)  # the reference is a copy, read at the same temperature


@every_network
def test_garbage_in_the_padding_changes_no_update(network):
    """Text 2, 10. Catches: padding of the prompts that reaches a sample, a metric or a gradient."""
    results = []
    for garbage in (PAD, np.arange(5) + 4, END):
        ppo = learner(network, reward=lambda _, responses: tf.reduce_sum(responses.mask, 1))
        results.append((fit(ppo, prompts=ragged_prompts((5, 1, 3, 2, 4, 4, 1, 5), garbage=garbage)), weights_of(ppo.policy)))
    for result in results[1:]:
        assert_all_close(result, results[0], atol=1e-5)


@every_network
def test_dropout_is_off_in_rollout_and_update(network):
    """Text 4. Catches: dropout anywhere in an iteration: a policy with dropout trains exactly as one without."""
    results = []
    for dropout in (0.0, 0.5):
        ppo = learner(policy=tiny_policy(network, dropout=dropout), reward=tiny_reward(network, dropout=dropout))
        results.append((fit(ppo), weights_of(ppo.policy)))
    assert_all_close(*results, rtol=0, atol=0)


@pytest.mark.parametrize("network, shared", PARTS)
def test_the_reference_and_the_reward_never_follow(network, shared):
    """Text 18. Catches: a reference (or reward model) that shares variables with the policy, or is trained with it."""
    reward = tiny_reward(network)
    ppo = learner(network, shared, reward=reward)
    frozen, start = (weights_of(ppo.reference), weights_of(reward)), weights_of(ppo.policy)
    assert_all_close(frozen[0], start, rtol=0, atol=0)
    history = fit(ppo, 2)
    assert_all_close((weights_of(ppo.reference), weights_of(reward)), frozen, rtol=0, atol=0)
    assert max(np.abs(new - old).max() for new, old in zip(weights_of(ppo.policy), start)) > 1e-3
    assert abs(history["objective/kl"][1]) > 1e-5  # the policy has left it
    assert {id(v) for v in ppo.trainable_variables} == {id(v) for v in ppo.policy.trainable_variables}


def test_a_reference_that_shares_variables_is_refused():
    """Text 18. Catches: `reference=policy`, by which the KL is 0 for ever."""
    policy = tiny_policy()
    with pytest.raises(ValueError, match="reference shares variables"):
        learner(policy=policy, reference=policy)


def test_a_given_reference_is_used():
    """Catches: a reference that is replaced by a copy of the policy."""
    reference = tiny_policy(seed=5)
    ppo = learner(reference=reference)
    assert ppo.reference is reference
    assert abs(fit(ppo)["objective/kl"][0]) > 0.1


@functools.cache
def trained(network, mode, python_reward=False):
    """A learner after two iterations, with its history; compiled once for all tests that look at it."""
    reward = PythonReward(small_words, Words()) if python_reward else small_tokens
    kl = KLConfig(0.05, kl_target=0.5, kl_horizon=20)
    config, several = PPOConfig(epochs=1, minibatches=2, accumulation_steps=2), 2 if network == "lstm" else 1
    ppo = learner(network, network == "transformer", mode, reward, kl=kl, config=config, length=4, responses_per_prompt=several)
    return ppo, fit(ppo, 2, SHORT)


def assert_same_training(one, other):
    """The same weights, metrics and next samples."""
    assert_all_close(weights_of(other[0].policy), weights_of(one[0].policy), atol=1e-6)
    assert_all_close(other[1], one[1], rtol=1e-4, atol=2e-5)  # metrics such as a KL near 0 are differences of sums
    samples, others = (ppo.rollout(SHORT)[0].tokens.numpy() for ppo, _ in (one, other))
    np.testing.assert_array_equal(samples, others)


@pytest.mark.parametrize(
    "network, mode",
    [
        ("lstm", "jit"),
        pytest.param("transformer", "graph", marks=full),
        pytest.param("lstm", "graph", marks=full),
        pytest.param("transformer", "jit", marks=full),
    ],
)
def test_training_is_the_same_in_every_mode(network, mode):
    """Catches: samples, rewards or updates that a graph or XLA makes otherwise than plain Python."""
    assert_same_training(trained(network, "eager"), trained(network, mode))


@pytest.mark.parametrize("network, mode", [pytest.param("lstm", "jit", marks=full), ("transformer", "graph")])
def test_a_python_reward_gives_the_numbers_of_tensorflow(network, mode):
    """Catches: a run in parts that draws, scores or updates otherwise than one compiled whole."""
    in_parts, whole = trained(network, mode, python_reward=True), trained(network, mode)
    assert not in_parts[0].compiles_whole and whole[0].compiles_whole
    assert_same_training(whole, in_parts)


def test_rows_stay_with_their_prompts():
    """Catches: rows that are not shuffled or repeated with their prompts, a batch that has lost them on its way to the reward."""
    seen = []

    tokens = np.array([[4], [5], [4], [3], [5], [4]], np.int32)  # of the rows 2 to 7; most have the text of another
    prompts = Prompts(tokens, np.ones([6, 1], np.float32)).numbered(first=2)
    note = lambda prompt, response, row: seen.append((prompt, row)) or float(row)
    reward = PythonReward(note, Words(), rows=[{"row": i, "text": "?"} for i in range(8)])
    ppo = learner(policy=random_table(), reward=reward, length=2, responses_per_prompt=2)
    data = tf.data.Dataset.from_tensor_slices(prompts).shuffle(6, seed=1).batch(3, drop_remainder=True)
    check_prompts(data)  # `fit` takes them
    scores = [float(ppo.collect(batch)[1]["objective/scores"]) for batch in data]
    assert sorted(seen[::2]) == sorted((str(text), row) for row, text in enumerate(tokens[:, 0], 2))
    assert seen[::2] == seen[1::2] and [row for _, row in seen[::2]] != [2, 3, 4, 5, 6, 7]  # two responses to each, in a fresh order
    assert_close(scores, [np.mean([row for _, row in part]) for part in (seen[:6], seen[6:])])


@pytest.mark.parametrize("network", ["transformer", pytest.param("lstm", marks=full)])
def test_one_trace_serves_a_whole_fit(network):
    """Catches: a step, or a part of one, that is traced again in each iteration."""
    ppo, _ = trained(network, "graph")
    before = ppo.traces, ppo.rollouts
    assert before[0] == 1
    fit(ppo, 3, SHORT)
    assert ppo.traces == 1
    in_parts, _ = trained("transformer", "graph", python_reward=True)
    rollouts = in_parts.rollouts
    fit(in_parts, 2, SHORT)
    assert in_parts.rollouts == rollouts


def test_iterations_draw_different_responses():
    """Text 21. Catches: one seed for every iteration, or samples that ignore the seed of the run."""
    ppo, other = learner(), learner(seed=1)
    first = ppo.rollout(PROMPTS)[0].tokens.numpy()
    assert np.any(first != other.rollout(PROMPTS)[0].tokens.numpy())
    ppo.iteration.assign_add(1)
    assert np.any(first != ppo.rollout(PROMPTS)[0].tokens.numpy())


@pytest.mark.parametrize("network", ["lstm", pytest.param("transformer", marks=full)])
def test_resuming_continues_exactly(network, tmp_path):
    """Text 21. Catches: a checkpoint without critic, reference, KL coefficient, iteration or the optimizer's moments."""

    def fresh(seed):
        kl = KLConfig(0.05, kl_target=0.1, kl_horizon=20)
        return learner(policy=tiny_policy(network, shared=False, seed=seed), length=3, kl=kl, optimizer=keras.optimizers.Adam(0.01), seed=3)

    ppo = fresh(seed=0)
    fit(ppo)
    path = tf.train.Checkpoint(model=ppo).save(str(tmp_path / "checkpoint"))
    saved = float(ppo.kl_coefficient)
    expected = fit(ppo)
    resumed = fresh(seed=7)  # other weights: whatever the checkpoint does not hold stays wrong
    tf.train.Checkpoint(model=resumed).restore(path).assert_consumed()
    assert int(resumed.iteration) == 1 and int(resumed.optimizer.iterations) == 2
    assert float(resumed.kl_coefficient) == saved != 0.05
    assert_all_close(weights_of(resumed.reference), weights_of(ppo.reference), rtol=0, atol=0)
    assert_all_close(fit(resumed), expected, rtol=0, atol=0)
    for part in ("policy", "reference"):
        assert_all_close(weights_of(getattr(resumed, part)), weights_of(getattr(ppo, part)), rtol=0, atol=0)
    assert_all_close([v.numpy() for v in resumed.optimizer.variables], [v.numpy() for v in ppo.optimizer.variables], rtol=0, atol=0)
    assert float(resumed.kl_coefficient) == float(ppo.kl_coefficient)


CHANGES = [
    ("kl", KLConfig(0.5)), ("kl", KLConfig(0.05, kl_estimator="k2")), ("kl", KLConfig(0.05, kl_estimator="k3")),
    ("kl", KLConfig(0.05, kl_target=0.01, kl_horizon=100)), ("missing_end_penalty", 2.0), ("short_penalty", 2.0), ("usual_length", 3.0), ("config", PPOConfig(discount=1.0, epochs=1, minibatches=2)),
    ("seed", 9), ("length", 4), ("end_id", 5), ("pad_id", 4),
]  # fmt: skip


@functools.cache
def base_run():
    return run_with()


def run_with(**changes):
    """Weights, metrics, coefficient and the padding of the responses, of one iteration with changed settings."""
    ppo = learner(
        policy=random_table(seed=1),
        **{"kl": KLConfig(0.05), "reference": random_table(seed=5), "short_penalty": 0.3, "usual_length": 5.0} | changes,
    )
    prompts = ragged_prompts((5, 1, 3, 2, 4, 4, 1, 5), vocabulary_size=6)
    responses, *_ = ppo.rollout(prompts)
    history = fit(ppo, prompts=prompts)
    assert history["response/length"][0] < 6  # some responses end early, some do not
    return weights_of(ppo.policy), history, float(ppo.kl_coefficient), responses.tokens.numpy()[responses.mask.numpy() == 0]


@pytest.mark.parametrize("name, value", CHANGES, ids=lambda x: str(x)[:40])
def test_every_setting_changes_something(name, value):
    """Catches: a setting of the language learner, or a field of `KLConfig`, that is never read."""
    weights, _, coefficient, padding = base_run()
    other_weights, _, other_coefficient, other_padding = run_with(**{name: value})
    moved = max(np.abs(a - b).max() for a, b in zip(weights, other_weights))
    if name == "pad_id":  # the id of the padding is seen in the padding, and nowhere else
        assert moved < 1e-6 and set(padding) == {PAD} and set(other_padding) == {value} and len(padding) == len(other_padding)
    else:
        assert moved > 1e-6 or coefficient != other_coefficient


def test_the_horizon_slows_the_coefficient():
    """Catches: `kl_horizon` that is never read."""
    for horizon in (100, 1000):
        kl = KLConfig(0.05, kl_target=1e-6, kl_horizon=horizon, kl_estimator="k3")
        ppo = learner(policy=random_table(), reference=random_table(seed=1), length=3, kl=kl)
        ppo.collect(TWO_TOKENS)
        assert_close(ppo.kl_coefficient, 0.05 * (1 + 0.2 * 3 / horizon))


def test_minibatches_must_divide_the_batch():
    """Catches: prompts dropped without a word."""
    with pytest.raises(InputError, match="minibatches=3 does not divide batch_size=8"):
        fit(learner(config=PPOConfig(minibatches=3)))


def train_bandit(policy, beta, optimizer, iterations=40, **config):
    """The probability of arm 1 after training: a response is one token, arm 1 pays 1 and arm 0 nothing."""
    settings = PPOConfig(**dict(discount=1.0, epochs=4, minibatches=1, value_clip=None) | config)
    reward = lambda _, responses: tf.cast(responses.tokens[:, 0] == 1, tf.float32)
    ppo = LanguagePPO(policy, reward, end_id=1, pad_id=0, response_length=1, config=settings, kl=KLConfig(beta))
    ppo.compile(optimizer, jit_compile=False)
    prompts = Prompts(tf.zeros([256, 1], tf.int32), tf.ones([256, 1]))
    ppo.fit(tf.data.Dataset.from_tensors(prompts).repeat(iterations), verbose=0)
    logits, _ = policy(tf.zeros([1, 1], tf.int32))
    return float(tf.nn.softmax(logits)[0, 0, 1])


@pytest.mark.parametrize("network", ["lstm", pytest.param("transformer", marks=full)])
def test_a_bandit_finds_the_better_arm(network):
    """Catches: any sign error between reward and update: the better arm of two must be chosen with probability > .95."""
    policy = tiny_policy(network, vocabulary_size=2, spread=0.1)
    assert tf.nn.softmax(policy(tf.zeros([1, 1], tf.int32))[0])[0, 0, 1] < 0.9
    assert train_bandit(policy, 0.0, keras.optimizers.Adam(0.02)) > 0.95


@pytest.mark.parametrize("prior", [0.5, 0.2])
def test_the_penalty_leads_to_the_known_optimum(prior):
    """Text 16. Catches: a KL penalty of the wrong sign or size: the optimum is pi(a) ~ reference(a) exp(reward(a) / beta)."""
    policy = TablePolicy(2, [[0.0, np.log(prior / (1 - prior))]] * 2, name="policy")
    optimum = prior * np.e / (prior * np.e + 1 - prior)  # beta = 1
    found = train_bandit(policy, 1.0, SGD(0.5), iterations=60, whiten_advantages=False, max_gradient_norm=None)
    assert abs(found - optimum) < 0.01  # at the optimum both arms have the same advantage, so the noise dies out


def test_plain_advantages_agree():
    """Text 5, 17. Catches: advantages of a ragged batch that see beyond the response, or discount the score at the last token."""
    ppo, trajectory, _ = assembled(config=PPOConfig(discount=0.9, gae_lambda=0.8, whiten_advantages=False))
    experience = ppo.estimate(trajectory)
    parts = [x.numpy() for x in (trajectory.rewards, trajectory.values, trajectory.next_values, trajectory.ended, trajectory.mask)]
    advantages, returns = plain_advantages(*parts, 0.9, 0.8)
    assert_close(experience.advantages, advantages)
    assert_close(experience.returns, returns)
    assert_close(experience.returns[2], [4.2, 0, 0])  # one token: its return is its reward


@pytest.mark.parametrize(
    "settings, said",
    [
        (dict(policy=small_tokens), "policy is <function.*, which has no initial_state, step, read"),
        (dict(policy=tiny_agent()), "policy is an agent's: it chooses by Categorical.3.. Use a language model such as TransformerActorCritic"),
        (dict(policy=TablePolicy), "policy is the class TablePolicy, expected an object"),
        (dict(reward=None), r"reward is None. Give a RewardModel, PythonReward\(function, tokenizer\), or a TensorFlow function"),
        (dict(reward="good"), "reward is 'good'. Give"),
        (dict(judge=PythonReward(len, SimpleNamespace(decode_pairs=None))), "judge is a PythonReward"),
        (dict(end_id=SimpleNamespace()), r"end_id=namespace\(\) is no whole number of 0 or more"),
        (dict(end_id=[]), r"end_id=\[\] holds no token. Give the token that ends a response, such as 3"),
        (dict(end_id=[-1]), r"end_id\[0\]=-1 is no whole number of 0 or more"),
        (dict(end_id=["a"]), r"end_id\[0\]='a' is no whole number of 0 or more"),
        (dict(end_id=(3, True)), r"end_id\[1\]=True is no whole number of 0 or more"),
        (dict(end_id=(3, 7)), r"end_id=7 is not one of the 6 tokens of the policy, 0\.\.5"),
        (dict(pad_id=None), "pad_id=None is no whole number of 0 or more"),
        (dict(response_length=0), "response_length=0 is no whole number of 1 or more"),
        (dict(response_length=2.5), "response_length=2.5 is no whole number"),
        (dict(responses_per_prompt="2"), "responses_per_prompt='2' is no whole number"),
        (dict(kl=0.1), r"kl is 0.1, expected a KLConfig. Write KLConfig\(...\)"),
        (dict(config=KLConfig()), r"config is KLConfig\(.*, expected a PPOConfig"),
        (dict(seed=2**40), "seed=1099511627776 is outside"),
    ],
)
def test_what_makes_no_learner(settings, said):
    """Catches: `'float' object has no attribute 'kl_estimator'`; a learner that is made, and fails deep in the first generation."""
    given = dict(policy=random_table(), reward=small_tokens, end_id=END, pad_id=PAD, response_length=4)
    with pytest.raises(InputError, match=said) as error:
        LanguagePPO(**given | settings)
    assert "\n" not in str(error.value)


def test_a_plain_function_that_is_no_reward_is_told_where_to_go():
    """Catches: "return one score a response" to somebody who wrote a function of two strings."""
    with pytest.raises(InputError, match=r"returned shape \(\), expected \(8,\).*goes into PythonReward\(function, tokenizer\)"):
        learner(reward=lambda prompt, response: 1.0).collect(PROMPTS)


def data_of(change=lambda prompts: prompts):
    return tf.data.Dataset.from_tensors(change(PROMPTS))


@pytest.mark.parametrize(
    "data, said",
    [
        (None, "fit was given no data, expected a tf.data.Dataset of Prompts"),
        (PROMPTS, r"fit was given Prompts\(tokens=.*, expected a tf.data.Dataset of Prompts. Use tf.data.Dataset.from_tensor_slices\(prompts\)"),
        (["the film"], r"fit was given \['the film'\], expected"),
        (data_of(lambda prompts: prompts.tokens), r"the data set gives int32 \(8, 5\), expected batches of Prompts: tokens int32"),
        (data_of(lambda prompts: prompts._replace(tokens=tf.cast(prompts.tokens, tf.int64))), "the data set gives .*int64"),
        (data_of(lambda prompts: prompts._replace(mask=prompts.mask > 0)), "the data set gives .*bool"),
        (data_of(lambda prompts: "the film"), "the data set gives .*string"),
        (data_of(lambda prompts: (*prompts, tf.zeros([8]))), r"the data set gives .*float32 \(8,\), expected batches"),  # no rows
        (tf.data.Dataset.from_tensor_slices(PROMPTS), r"the data set gives int32 \(5,\), float32 \(5,\), expected batches"),
        (tf.data.Dataset.from_tensor_slices(PROMPTS).batch(64, drop_remainder=True), "holds no batch. Where there are fewer prompts than a batch has, repeat"),
        (data_of().repeat(), r"has no end.*Use fit\(prompts, steps_per_epoch=20\)"),
    ],
    ids=["none", "prompts", "texts", "tokens", "int64", "bool", "strings", "scores", "single", "empty", "endless"],
)
def test_what_is_no_data_set_of_prompts(data, said):
    """Catches: Keras's traceback about `data[0]` or dtypes deep in the generation; a fit without one step; a first epoch that never ends."""
    ppo = tiny_learner()
    with pytest.raises(InputError, match=said) as error:
        ppo.fit(data, verbose=0)
    assert "\n" not in str(error.value) and len(str(error.value)) < 500 and int(ppo.iteration) == 0


@pytest.mark.parametrize("run_eagerly", [False, True])
def test_prompts_without_a_static_shape_are_refused(run_eagerly):
    """Catches: TensorFlow's error deep in the generation for a batch whose size is not known; eagerly every size is."""
    ppo = tiny_learner()
    ppo.compile(keras.optimizers.Adam(), jit_compile=False, run_eagerly=run_eagerly)
    data = tf.data.Dataset.from_tensor_slices(ragged_prompts((2, 1, 2, 1), 2, vocabulary_size=6)).repeat().batch(4)
    if run_eagerly:
        ppo.fit(data, steps_per_epoch=1, verbose=0)
    else:
        with pytest.raises(InputError, match=r"shape \(None, 2\), expected sizes that are known. Use batch\(..., drop_remainder=True\)"):
            ppo.fit(data, steps_per_epoch=1, verbose=0)
