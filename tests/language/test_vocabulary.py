"""`ppo_keras.language.vocabulary`: parts whose tokens are not the same."""

import numpy as np
import pytest

from helpers import random_table, tiny_agent, tiny_policy, tiny_reader
from ppo_keras.distributions import DiagonalGaussian
from ppo_keras.errors import InputError
from ppo_keras.language.ppo import LanguagePPO
from ppo_keras.language.rewards import PythonReward, RewardModel
from ppo_keras.language.supervised import train_answers, train_classifier, train_labels, train_language_model, train_preferences

NOTHING = lambda prompts, responses: 0.0


class Letters:
    """A tokenizer that only says how many pieces it has."""

    def __init__(self, vocabulary_size):
        self.vocabulary_size = vocabulary_size

    def decode_pairs(self, prompts, responses):
        return [""], [""]


def reward_model(vocabulary_size):
    return RewardModel(tiny_policy("lstm", vocabulary_size=vocabulary_size).new_encoder(name="encoder"))


@pytest.mark.parametrize(
    "settings, message",
    [
        (dict(reference=random_table(7)), "the policy writes 6 tokens, but the reference knows 7"),
        (dict(reward=lambda: reward_model(5)), "the policy writes 6 tokens, but the reward model knows 5"),
        (dict(reward=lambda: PythonReward(len, Letters(9))), "the policy writes 6 tokens, but the tokenizer of the reward knows 9"),
        (dict(end_id=7), r"end_id=7 is not one of the 6 tokens of the policy, 0\.\.5"),
        (dict(end_id=(3, 7)), r"end_id=7 is not one of the 6 tokens of the policy, 0\.\.5"),
        (dict(end_id=[9, 3]), r"end_id=9 is not one of the 6 tokens of the policy, 0\.\.5"),
        (dict(pad_id=6), "pad_id=6 is not one of the 6 tokens"),
        (dict(policy=tiny_agent("mlp", (4,), 3)), r"policy is an agent's: it chooses by Categorical\(3\)"),
        (dict(policy=tiny_agent("mlp", (4,), DiagonalGaussian(2))), r"chooses by DiagonalGaussian\(2\)\. Use a language model"),
    ],
)
def test_parts_of_other_vocabularies_are_refused(settings, message):
    """Catches: a reward model, reference or tokenizer of another run, whose ids XLA clamps: it reads other texts than were written."""
    reward = settings.pop("reward", lambda: NOTHING)()
    arguments = dict(policy=random_table(6), reward=reward, end_id=3, pad_id=0, response_length=4) | settings
    with pytest.raises(InputError, match=message):
        LanguagePPO(**arguments)


def test_parts_of_one_vocabulary_are_taken():
    """Catches: parts that do not say what they know, or say the same, refused."""
    for reward in (NOTHING, PythonReward(len, Letters(None)), PythonReward(len, Letters(6)), reward_model(6)):
        LanguagePPO(random_table(6), reward, 5, 0, 4)
    LanguagePPO(random_table(6), NOTHING, (5, 2), 0, 4)
    LanguagePPO(random_table(6), NOTHING, 6, 0, 4)  # a token that is never written: responses have full length


POLICY, MODEL = (lambda: tiny_policy("lstm", vocabulary_size=6)), (lambda: reward_model(6))
BAD, GOOD, OTHER = [[1, 2, 6]], [[1, 2, 5]], [[1, 2, 4]]


@pytest.mark.parametrize(
    "train, model, bad, good",
    [
        (train_language_model, POLICY, BAD, GOOD),
        (train_answers, POLICY, [([1], [6])], [([1], [5])]),
        (train_classifier, MODEL, (BAD, [1]), (GOOD, [0])),
        (train_preferences, MODEL, (GOOD, BAD), (GOOD, OTHER)),
    ],
)
def test_supervised_training_knows_all_tokens(train, model, bad, good):
    """Catches: tokens of another tokenizer in training or in validation, which are read as zeros or as the last token."""
    for data in ((bad, good), (good, bad)):
        with pytest.raises(InputError, match=r"the data hold the token 6, but the model knows 6 tokens, 0\.\.5"):
            train(model(), *data, 4, 0)


def test_supervised_training_knows_all_labels():
    """Catches: a label without an output, whose cross-entropy is NaN, or one below 0, which is learned as if it were something."""
    texts = np.zeros([2, 3], np.int32)
    with pytest.raises(InputError, match="the data hold the label -1, but the model has 2 outputs"):
        train_classifier(reward_model(6), (GOOD * 2, [0, 1]), (GOOD * 2, [-1, 1]), 4, 0)
    with pytest.raises(InputError, match="the data hold the label 2, but the model has 2 outputs"):
        train_labels(tiny_reader(actions=2, length=3), (texts, np.array([0, 2])), (texts, np.array([0, 1])))
    with pytest.raises(InputError, match="the data hold the token 24, but the model knows 24 tokens"):
        train_labels(tiny_reader(actions=2, length=3), (texts + 24, np.array([0, 1])), (texts, np.array([0, 1])))
