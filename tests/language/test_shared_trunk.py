"""A reward model on the trunk of the reference (`language.rewards.RewardModel`), and the one reading that serves all roles."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from helpers import PAD, VOCABULARY, assert_close, ragged_prompts, tiny_policy
from ppo_keras import KLConfig, LanguagePPO, PPOConfig, RewardModel
from ppo_keras.config import SupervisedConfig
from ppo_keras.devices import WHOLE
from ppo_keras.errors import InputError
from ppo_keras.language.rewards import LabelModel, ModelScore, score_responses
from ppo_keras.language.supervised import pad_texts, train_classifier, train_preferences
from ppo_keras.networks.adapters import Frozen, adapter_variables, add_adapters, reference_of

END, LENGTH = 3, 6
PROMPTS = ragged_prompts()


def adapted_policy(moved=False):
    """A policy with adapters, which have learned something where it is `moved`."""
    policy = tiny_policy(layers=2, memory=24)
    add_adapters(policy, 2)
    if moved:
        move(policy)
    return policy


def move(policy, by=0.3):
    """Lets a policy learn something."""
    for i, variable in enumerate(policy.trainable_variables):
        variable.assign_add(tf.random.stateless_normal(variable.shape, [i, 1], stddev=by))


def spread(model):
    """The model with a head and a scaling that are not those of a fresh one."""
    random = np.random.default_rng(1)
    model.set_weights([np.abs(random.normal(0, 1, w.shape)) + 0.1 if w.path.endswith("variance") else random.normal(0, 1, w.shape) for w in model.weights])
    model.scaling.finalize_state()
    return model


def learner(policy, reward, **settings):
    """A `LanguagePPO` that is compiled to run eagerly."""
    ppo = LanguagePPO(policy, reward, END, PAD, LENGTH, PPOConfig(discount=1.0, epochs=1, minibatches=1), KLConfig(), **settings)
    ppo.compile(keras.optimizers.Adam(0.05), run_eagerly=True)
    return ppo


def texts(count, seed, length=8):
    """Lists of token ids, and whether they hold the token 5."""
    random = np.random.default_rng(seed)
    lists = [list(map(int, random.integers(4, 8, random.integers(2, length)))) for _ in range(count)]
    return lists, [int(5 in ids) for ids in lists]


@pytest.mark.parametrize("moved", [False, True], ids=["new", "moved"])
def test_the_head_reads_the_last_token_scaled(moved):
    """Catches: the state of a padding token, padding that is attended to, a mean over the text, no scaling, adapters that the trunk does not have."""
    policy = adapted_policy(moved)
    model = spread(RewardModel(reference_of(policy), outputs=2))
    mean, variance, _, kernel, bias = (np.asarray(w, np.float64) for w in model.weights)
    expected = []
    for ids in ([7, 9, 4], [5, 6, 8, 10, 11]):
        hidden = np.asarray(policy.hidden(tf.constant([ids]))[0], np.float64)[0, -1]
        expected.append((hidden - mean) / np.sqrt(variance) @ kernel + bias)
    move(policy)  # the trunk stays as it was
    right = model((tf.constant([[7, 9, 4, 1, 2], [5, 6, 8, 10, 11]]), tf.constant([[1.0, 1, 1, 0, 0], [1, 1, 1, 1, 1]])))
    left = model((tf.constant([[2, 1, 7, 9, 4], [5, 6, 8, 10, 11]]), tf.constant([[0.0, 0, 1, 1, 1], [1, 1, 1, 1, 1]])))
    assert_close(right, expected, 1e-4, 1e-5)
    assert_close(left, expected, 1e-4, 1e-5)


def test_it_has_no_weights_but_the_heads(tmp_path):
    """Catches: the policy taken for a part of the model: its weights saved, or trained, with the head's; a loaded head that scores otherwise."""
    reference = reference_of(adapted_policy(moved=True))
    model = spread(RewardModel(reference, name="reward"))
    assert [weight.path for weight in model.weights] == ["scaling/mean", "scaling/variance", "scaling/count", "head/kernel", "head/bias"]
    model.save(tmp_path / "reward.keras")
    loaded = keras.models.load_model(tmp_path / "reward.keras")
    assert loaded.trunk is None and loaded.vocabulary_size is None
    loaded.read_with(reference)
    assert loaded.vocabulary_size == VOCABULARY
    padded = pad_texts(texts(4, 0)[0], 8, PAD)
    assert_close(loaded(padded), model(padded), 0, 0)


@pytest.mark.parametrize("judged", [False, True])
def test_one_reading_serves_all_roles(judged):
    """Catches: a second pass through the trunk for the reward or the judge; the state of another token than the response's last; a probability
    that is log-odds."""
    policy = adapted_policy()
    reference = reference_of(policy)
    model, judge = spread(RewardModel(reference)), spread(RewardModel(reference))
    reward = ModelScore(model, probability=True) if judged else model
    ppo = learner(policy, reward, reference=reference, judge=ModelScore(judge) if judged else None)
    calls, hidden = [], reference.hidden
    reference.hidden = lambda *args, **kwargs: calls.append(args[0].shape) or hidden(*args, **kwargs)
    (responses, log_probs, scores, judgement), _ = ppo.share_of_rollout(WHOLE, PROMPTS)
    _, metrics = ppo.assemble(PROMPTS, responses, log_probs, scores, judgement)
    assert calls == [(4, 5 + LENGTH)]
    assert 0 < float(tf.reduce_sum(responses.mask)) < 4 * LENGTH  # some ended before the others
    assert_close(log_probs, ppo.reference_log_probs(PROMPTS, responses))
    tokens, mask = (np.concatenate(pair, 1) for pair in ((PROMPTS.tokens, responses.tokens), (PROMPTS.mask, responses.mask)))
    alone = np.array([float(model((row[None, real > 0], np.ones([1, int(real.sum())], np.float32)))[0]) for row, real in zip(tokens, mask)])
    assert_close(scores, 1 / (1 + np.exp(-alone)) if judged else alone, 1e-4, 1e-5)
    if judged:
        assert_close(metrics["objective/judged"], np.mean(np.asarray(judge((tokens, mask))) > 0))


def test_the_trunk_of_the_reward_becomes_the_reference():
    """Catches: a second frozen copy for the reference; the copy of another moment taken for the policy at the start."""
    policy = adapted_policy(moved=True)
    model = RewardModel(reference_of(policy))
    assert learner(policy, model).reference is model.trunk
    move(policy)
    later = learner(policy, model).reference
    assert isinstance(later, Frozen) and later is not model.trunk


def test_the_reward_never_follows_the_policy():
    """Catches: a trunk whose adapters are those that learn."""
    policy = adapted_policy(moved=True)
    model = spread(RewardModel(reference_of(policy)))
    ppo, padded = learner(policy, model), pad_texts(texts(4, 0)[0], 8, PAD)
    before, learned = model(padded).numpy(), [variable.numpy() for variable in adapter_variables(policy)]
    ppo.train_step(PROMPTS)
    assert all(np.any(old != new.numpy()) for old, new in zip(learned, adapter_variables(policy)))
    assert_close(model(padded), before, 0, 0)


def test_a_head_learns_of_features_that_are_computed_once():
    """Catches: a trunk read in every epoch, rows that fill up a batch among the features, a scaling that is not that of the training texts."""
    reference = reference_of(adapted_policy())
    model, read = RewardModel(reference), []
    hidden = reference.hidden
    reference.hidden = lambda tokens, **kwargs: read.append(tokens.shape) or hidden(tokens, **kwargs)
    train, validation = texts(40, 1), texts(24, 2)
    config = SupervisedConfig(supervised_epochs=30, supervised_batch_size=8, supervised_learning_rate=0.05)
    history = train_classifier(model, train, validation, 8, PAD, config, jit_compile=False).history
    assert read == [(32, 8)]  # traced once, whatever is computed with it
    of_train = np.concatenate([model.features(*pad_texts([ids], 8, PAD)).numpy() for ids in train[0]])
    mean, variance = (weight.numpy() for weight in model.weights[:2])
    assert_close(mean, of_train.mean(0), 1e-4, 1e-5)
    assert_close(variance, of_train.var(0), 1e-3, 1e-5)
    right = np.mean((model(pad_texts(validation[0], 8, PAD)).numpy() > 0) == np.array(validation[1]))
    assert right == pytest.approx(history["val_accuracy"][int(np.argmin(history["val_cross_entropy"]))]) and right > 0.75


def test_features_keep_their_precision():
    """Catches: what the head reads rounded to 16 bits in its training, and not in PPO, where the model was made under mixed precision."""
    reference = reference_of(adapted_policy())
    keras.config.set_dtype_policy("mixed_float16")
    model = spread(RewardModel(reference))
    features = np.full([1, 16], 1e5, np.float32)  # beyond float16
    assert_close(LabelModel(model)(features)[:, 0], model.of_features(features), 0, 0)


def test_a_head_learns_of_pairs():
    """Catches: chosen and rejected features exchanged, or taken from one side."""
    model = RewardModel(reference_of(adapted_policy()))
    pair = lambda seed, count: ([ids + [5] for ids in texts(count, seed)[0]], [ids + [6] for ids in texts(count, seed)[0]])
    config = SupervisedConfig(supervised_epochs=15, supervised_batch_size=8, supervised_learning_rate=0.05)
    train_preferences(model, pair(1, 40), pair(2, 8), 9, PAD, config, jit_compile=False)
    chosen, rejected = (model(pad_texts(side, 9, PAD)).numpy() for side in pair(3, 8))
    assert np.mean(chosen > rejected) > 0.9


def test_a_judge_is_no_part_of_what_learns():
    """Catches: a model that judges saved with every state of PPO; one that is given the prompts for texts and the responses for `training`."""
    policy = adapted_policy()
    judge = RewardModel(policy.new_encoder())
    ppo = learner(policy, NOTHING, judge=judge)
    assert not {id(weight) for weight in judge.weights} & {id(variable) for variable in ppo.changing}
    responses, *_ = ppo.rollout(PROMPTS)
    assert_close(ppo.judge(PROMPTS, responses), score_responses(judge, PROMPTS, responses), 0, 0)


NOTHING = lambda prompts, responses: tf.zeros(len(responses.tokens))


def of_twelve():
    """A reward model that knows 12 tokens."""
    return RewardModel(reference_of(tiny_policy(vocabulary_size=12)))


def frozen_of_twelve():
    """The frozen twin of a policy with adapters that knows 12 tokens."""
    policy = tiny_policy(vocabulary_size=12)
    add_adapters(policy, 2)
    return reference_of(policy)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RewardModel(adapted_policy()), "a policy that learns.* Use reference_of"),
        (lambda: RewardModel("smollm2"), "the trunk of a reward model is 'smollm2'"),
        (lambda: RewardModel(), "width=None"),
        (lambda: RewardModel(width=24).read_with(reference_of(adapted_policy())), "width 24, but the trunk has 16"),
        (lambda: RewardModel(adapted_policy().new_encoder()).read_with(reference_of(adapted_policy())), "has an encoder of its own"),
        (lambda: learner(adapted_policy(), RewardModel(width=16)), "has no trunk to read with"),
        (lambda: train_classifier(RewardModel(width=16), texts(8, 1), texts(8, 2), 8, PAD), "^the reward model has no trunk to read with"),
        (lambda: ModelScore(None), "a score was to be of None"),
        (lambda: ModelScore(RewardModel(reference_of(adapted_policy()), outputs=2)), "a reward model of 2 outputs"),
        (
            lambda: learner(adapted_policy(), RewardModel(reference_of(tiny_policy(vocabulary_size=12)))),
            "the policy writes 24 tokens, but the reward model knows 12",
        ),
        (lambda: learner(adapted_policy(), ModelScore(of_twelve())), "the policy writes 24 tokens, but the reward model knows 12"),
        (lambda: learner(adapted_policy(), NOTHING, judge=of_twelve()), "the policy writes 24 tokens, but the judge knows 12"),
        (lambda: learner(adapted_policy(), NOTHING, reference=frozen_of_twelve()), "the policy writes 24 tokens, but the reference knows 12"),
    ],
)
def test_trunks_that_do_not_fit_are_named(make, message):
    """Catches: a reward that moves with the policy, a head on another trunk than its own, a model without a trunk, found in mid-run."""
    with pytest.raises(InputError, match=message):
        make()
