"""`ppo_keras.environments.texts`: a text is an episode, its label an action, and the table says what a choice costs."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from helpers import NETWORKS, assert_close, tiny_reader
from ppo_keras import PPOConfig
from ppo_keras.environments.ppo import EnvironmentPPO
from ppo_keras.environments.texts import TextClassification, check_costs
from ppo_keras.errors import InputError
from ppo_keras.networks.encoder import NO_TOKEN

TOKENS = np.array([[5, 6, NO_TOKEN], [7, NO_TOKEN, NO_TOKEN], [8, 9, 10], [0, 5, NO_TOKEN], [6, 6, 6]], np.int32)
LABELS = np.array([0, 2, 1, 0, 2])
COSTS = [[0, 1, 2], [10, 0.5, 30], [-400, 500, 0]]
SEED = tf.constant([3, 4])
every_network = pytest.mark.parametrize("network", NETWORKS)


def environment():
    return TextClassification(TOKENS, LABELS, COSTS)


def test_the_reward_is_minus_what_the_choice_costs():
    """Catches: the table transposed, costs as rewards, or the label of another row (every text with every label)."""
    rows, chosen = (x.ravel() for x in np.meshgrid(range(5), range(3)))
    step = environment().step(tf.constant(rows, tf.int32), tf.constant(chosen, tf.int32), SEED)
    assert_close(step.reward, [-COSTS[LABELS[row]][choice] for row, choice in zip(rows, chosen)], rtol=0, atol=0)
    assert step.reward.dtype == tf.float32


def test_an_episode_is_one_step():
    """Catches: a second text in the same episode, or one that counts as cut off, so that its value is bootstrapped."""
    step = environment().step(tf.constant([4, 1]), tf.constant([0, 2]), SEED)
    assert step.terminated.numpy().tolist() == [True, True] and step.truncated.numpy().tolist() == [False, False]
    assert environment().time_limit == 1
    assert step.observation.numpy().tolist() == TOKENS[[4, 1]].tolist()


def test_an_observation_is_the_text_of_the_row():
    """Catches: a label or a text of another row in the observation, padding that becomes a token, a shape of another length."""
    rows, observation = environment().reset(64, SEED)
    assert observation.dtype == tf.int32 and observation.numpy().tolist() == TOKENS[rows.numpy()].tolist()
    assert environment().observation == (3,) and environment().actions == 3


def test_every_text_is_drawn_and_equally_often():
    """Catches: the first or last text never drawn, a row beyond the last (20,000 draws: 4,000 of each, standard deviation 57)."""
    rows = environment().reset(20_000, SEED)[0].numpy()
    assert set(rows) == set(range(5))
    assert np.abs(np.bincount(rows) - 4_000).max() < 5 * 57


@pytest.mark.parametrize("count", [1, 3, 5, 1000, 4097])
def test_the_extremes_of_a_draw_are_rows(count, monkeypatch):
    """Catches: an index of -1 or N where the uniform number is the smallest or the largest that there is."""
    extremes = tf.constant([2.0**-24, 1 - 2.0**-24])
    monkeypatch.setattr("ppo_keras.randomness.uniform", lambda shape, seed: extremes)
    texts = TextClassification(np.zeros([count, 2], np.int32), np.zeros([count], np.int32), [[0]])
    assert texts.reset(2, SEED)[0].numpy().tolist() == [0, count - 1]


def test_the_seed_decides_what_is_drawn():
    """Catches: draws of a global generator, the same draws for every seed, or others under XLA."""
    draw = lambda seed: environment().reset(32, tf.constant(seed))[0].numpy().tolist()
    assert draw([3, 4]) == draw([3, 4]) != draw([3, 5])
    compiled = tf.function(lambda seed: environment().reset(32, seed)[0], jit_compile=True)
    assert compiled(tf.constant([3, 4])).numpy().tolist() == draw([3, 4])


@pytest.mark.parametrize(
    "costs, message",
    [
        ([[0, 1], [1, 0]], r"costs is 2 x 2, but there are 3 labels \(bad, fine, good\)\. Give 3 rows of 3 numbers: a row a true label"),
        ([[0, 1, 2], [3, 0, 4]], "costs is 2 x 3, but there are 3 labels"),
        ([[0, 1], [1, 0], [1, 1]], "costs is 3 x 2, but there are 3 labels"),
        ([[0, 1, 2], [3, 0], [1, 1, 0]], "costs is 3 x 2 or 3, but"),
        (np.ones([4, 4]), "costs is 4 x 4, but"),
        ([[0, 1, 2], [3, 0, float("nan")], [1, 1, 0]], "holds nan. Every cost must be a finite number"),
        ([[0, 1, 2], [3, 0, 1], [1, float("inf"), 0]], "holds inf. Every cost must be a finite number"),
        ([[0, 1, 2], [3, 0, 1], [1, 1e39, 0]], "holds inf. Every"),
    ],
    ids=["small", "a row too few", "a column too few", "ragged", "large", "nan", "inf", "inf in float32"],
)
@pytest.mark.filterwarnings("ignore:overflow")
def test_tables_that_cannot_be_used_are_refused(costs, message):
    """Catches: a table that is read beyond its end (a cost of 0), or NaN in every reward; the message names the labels."""
    with pytest.raises(InputError, match=message):
        check_costs(costs, ["bad", "fine", "good"])


def test_a_good_table_is_kept():
    """Catches: numbers rounded to integers or transposed, negative costs (rewards) refused."""
    table = check_costs(COSTS, "abc")
    assert table.dtype == np.float32 and table.tolist() == COSTS


def test_a_table_without_a_row_for_a_label_is_refused():
    """Catches: a label beyond the table, whose cost `gather_nd` reads as 0 or as an error in mid-run."""
    with pytest.raises(InputError, match=r"2 x 2, but there are 3 labels \(0, 1, 2\)"):
        TextClassification(TOKENS, LABELS, [[0, 1], [1, 0]])


def learned(network, tokens, labels, costs, iterations):
    """A policy that learned from rewards alone what to choose; and the mean reward of its last iterations."""
    policy = tiny_reader(network, actions=len(costs), length=tokens.shape[1], spread=0.1)
    texts = TextClassification(tokens, labels, costs)
    config = PPOConfig(discount=1.0, epochs=4, minibatches=2)
    learner = EnvironmentPPO(policy, texts, config, environments=64, steps=1, iterations_per_call=10, seed=1)
    learner.compile(keras.optimizers.Adam(0.02), jit_compile=False)
    return policy, learner.fit(iterations // 10, verbose=0)


@pytest.mark.parametrize("network", ["lstm", pytest.param("transformer", marks=pytest.mark.full)])
def test_ppo_learns_the_labels_from_reward_alone(network):
    """Catches: rewards of other texts, an action that is not the label, a text policy whose gradient does not reach the tokens."""
    tokens = np.array([[4, 5, NO_TOKEN], [6, NO_TOKEN, NO_TOKEN], [7, 8, 9], [10, 11, NO_TOKEN]], np.int32)
    policy, history = learned(network, tokens, [0, 1, 1, 0], [[0, 1], [1, 0]], 40)
    probabilities = tf.nn.softmax(policy(tf.constant(tokens[:, np.newaxis]))[0][:, 0]).numpy()
    assert probabilities[range(4), [0, 1, 1, 0]].min() > 0.8
    assert history.history["episode/length"] == [1.0] and history.history["episode/count"][0] == 640


@pytest.mark.full  # test_ppo_learns_the_labels_from_reward_alone stays
def test_ppo_prefers_the_cheaper_mistake():
    """Catches: the most frequent label learned (0, in 7 of 10) where it costs 0.3 * 5 = 1.5, and label 1 only 0.7 * 1."""
    tokens, labels = np.full([10, 2], 5, np.int32), [0] * 7 + [1] * 3
    policy, _ = learned("lstm", tokens, labels, [[0, 1], [5, 0]], 30)
    logits, value = policy(tf.constant(tokens[:1, np.newaxis]))
    assert tf.nn.softmax(logits[0, 0]).numpy()[1] > 0.9
    assert -1.1 < value[0, 0] < -0.4  # what it earns: -0.7
