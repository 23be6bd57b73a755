"""`ppo_keras.environments.matching`: policies and environments that are not made for each other."""

import numpy as np
import pytest

from helpers import random_table, tiny_agent, tiny_reader
from ppo_keras import PPOConfig
from ppo_keras.distributions import DiagonalGaussian
from ppo_keras.environments.environment import Environment
from ppo_keras.environments.evaluation import Player, play
from ppo_keras.environments.matching import check_match
from ppo_keras.environments.ppo import EnvironmentPPO
from ppo_keras.environments.texts import TextClassification
from ppo_keras.errors import InputError


def world(observation, actions, name="world"):
    """An environment that is only looked at."""
    environment = Environment()
    environment.observation, environment.actions, environment.name = observation, actions, name
    return environment


@pytest.mark.parametrize(
    "policy, environment, message",
    [
        (((4,), 3), ((2,), 3), r"the policy reads real numbers of shape \(4,\), the environment shows real numbers of shape \(2,\)\. Make"),
        (((2, 2), 3), ((4,), 3), r"reads real numbers of shape \(2, 2\), the environment shows real numbers of shape \(4,\)"),
        ((5, 3), ((5,), 3), r"reads one of 5 states, the environment shows real numbers of shape \(5,\)"),
        ((5, 3), (4, 3), "reads one of 5 states, the environment shows one of 4 states"),
        (((4,), 3), ((4,), 2), r"the policy chooses one of 3 actions, the environment takes one of 2 actions\. Make"),
        (((4,), [3]), ((4,), 3), "chooses 1 actions at once, out of 3, the environment takes one of 3 actions"),
        (((4,), [3, 2]), ((4,), [2, 3]), "chooses 2 actions at once, out of 3, 2, the environment takes 2 actions at once, out of 2, 3"),
        (((4,), 2), ((4,), DiagonalGaussian(2)), "chooses one of 2 actions, the environment takes 2 real numbers"),
        (((4,), DiagonalGaussian(1)), ((4,), DiagonalGaussian(2)), "chooses 1 real numbers, the environment takes 2 real numbers"),
        (
            ((4,), 2),
            (3, DiagonalGaussian(1)),
            r"reads real numbers of shape \(4,\), .* one of 3 states; the policy chooses one of 2 actions, .* 1 real numbers",
        ),
    ],
)
def test_both_sides_are_named(policy, environment, message):
    """Catches: an error of a matrix product, or nonsense that is learned without a word: a discrete policy in a continuous world, states
    beyond the one-hot code, actions that are never taken."""
    policy, environment = tiny_agent("mlp", *policy), world(*environment)
    for use in (check_match, lambda *both: EnvironmentPPO(*both, PPOConfig()), lambda *both: Player(*both, 1.0, False, 2), lambda *both: play(*both, 2)):
        with pytest.raises(InputError, match=f"^policy and environment world do not fit: .*{message}") as error:
            use(policy, environment)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("observation, actions", [((4,), 3), ((2, 2), [3, 2]), (5, DiagonalGaussian(2)), (np.int64(5), np.int64(2)), ([4], (3, 2))])
def test_what_fits_is_taken(observation, actions):
    """Catches: a pair refused for a list in place of a tuple, or a NumPy integer."""
    check_match(tiny_agent("mlp", observation, actions), world(observation, actions))


def texts(largest, length):
    """Texts of this length, whose largest token id is `largest`."""
    return TextClassification(np.full([2, length], largest, np.int32), [0, 1], 1 - np.eye(2))


def test_texts_that_a_policy_cannot_read_are_refused():
    """Catches: token ids beyond the embedding, which XLA clamps; numbers taken for token ids, or the other way round."""
    reader = tiny_reader(actions=2, length=6)  # of 24 tokens
    check_match(reader, texts(23, 6))
    with pytest.raises(InputError, match="reads texts of 6 token ids below 24, the environment shows texts of 6 token ids below 25"):
        check_match(reader, texts(24, 6))
    with pytest.raises(InputError, match="reads texts of 6 token ids below 24, the environment shows texts of 5 token ids"):
        check_match(reader, texts(5, 5))
    with pytest.raises(InputError, match=r"reads texts of 6 .*, the environment shows real numbers of shape \(6,\)"):
        check_match(reader, world((6,), 2))
    with pytest.raises(InputError, match=r"reads real numbers of shape \(6,\), the environment shows texts of 6 token ids below 6"):
        check_match(tiny_agent("mlp", (6,), 2), texts(5, 6))


def test_a_policy_of_ones_own_need_not_say_what_it_reads():
    """Catches: a policy refused because it is none of ours."""
    check_match(random_table(4), world((3,), 4))
    with pytest.raises(InputError, match="chooses one of 4 actions, the environment takes one of 5 actions"):
        check_match(random_table(4), world((3,), 5))
