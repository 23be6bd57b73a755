"""`ppo_keras.devices`: what several devices compute together is what one computes."""

import json
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from helpers import END, PAD, tiny_agent, tiny_policy
from ppo_keras import CartPole, EnvironmentPPO, GymnasiumEnvironment, LanguagePPO, PPOConfig, randomness
from ppo_keras.commands.main import main
from ppo_keras.config import SupervisedConfig
from ppo_keras.devices import PACK, WHOLE, Devices, Share, devices_of, join_numbers, pack, split_numbers, unpack
from ppo_keras.environments.memory import RepeatFirst
from ppo_keras.environments.rollout import begin, rollout
from ppo_keras.errors import InputError
from ppo_keras.language.supervised import train_language_model
from ppo_keras.randomness import Dropout
from sharing import SCENARIOS


@pytest.fixture(scope="module")
def both():
    """What `sharing` prints: the numbers of one device, and those of two."""
    command = [sys.executable, str(Path(__file__).with_name("sharing.py"))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_two_devices_give_the_numbers_of_one(both, scenario):
    """Catches: a mean over a share taken for that of the whole (advantages, loss, KL, metrics, norm, statistics of observations), gradients added
    twice or averaged, a draw that each device makes for itself, a copy of a variable that stays behind, rows in another order."""
    one, two = (side[scenario] for side in both)
    assert one.keys() == two.keys()
    tolerance = 2e-4 if scenario == "preferences" else 1e-5  # where a gradient is almost nothing, supervised training's Adam divides by almost nothing
    for name in one:
        np.testing.assert_allclose(two[name], one[name], rtol=tolerance, atol=tolerance, err_msg=name)
    assert any(np.ptp(one[name]) > 1e-3 for name in one if not name.startswith("state"))  # it learned something


@pytest.fixture
def strategy():
    """One device, but by a strategy."""
    return tf.distribute.MirroredStrategy(["CPU:0"])


def test_a_strategy_of_one_device_is_one_device(strategy):
    """Catches: a step that is taken apart where nothing is to be shared."""
    with strategy.scope():
        policy = tiny_agent("mlp", (4,), 2)
        ppo = EnvironmentPPO(policy, CartPole(), environments=4, steps=8)
        ppo.compile(keras.optimizers.Adam(1e-3))
    plain = EnvironmentPPO(tiny_agent("mlp", (4,), 2), CartPole(), environments=4, steps=8)
    plain.compile(keras.optimizers.Adam(1e-3))
    for learner in (ppo, plain):
        learner.fit(2, verbose=0)
    assert devices_of(policy).strategy is strategy and not ppo.run_eagerly
    for one, other in zip(ppo.policy.get_weights(), plain.policy.get_weights()):
        np.testing.assert_array_equal(one, other)


def test_a_share_is_its_rows():
    """Catches: rows that overlap or are left out, a scalar that is cut."""
    nest = {"rows": tf.range(6), "clock": tf.constant(7)}
    shares = [Share(i, 3).of(nest) for i in range(3)]
    assert [share["rows"].numpy().tolist() for share in shares] == [[0, 1], [2, 3], [4, 5]]
    assert all(int(share["clock"]) == 7 for share in shares)
    assert WHOLE.of(nest) is nest


def test_rows_come_through_one_message_as_they_were():
    """Catches: bits lost on the way (a float taken for an integer, 16 bits, a bool), rows of two devices mixed, None or a scalar that is lost."""

    def rows(first):
        floats = tf.constant([[first, -0.0], [np.nan, 1e-42]])
        return {
            "x": floats,
            "flag": tf.constant([True, False]),
            "half": tf.cast(floats, tf.bfloat16),
            "id": tf.constant([2**31 - 1, -5]),
            "t": tf.constant(4),
            "none": None,
        }

    parts = [rows(1.5), rows(2.5)]
    whole = unpack(tf.concat([pack(part) for part in parts], axis=0), parts[0], 2)
    assert whole["none"] is None and int(whole["t"]) == 4
    for name in ("x", "flag", "half", "id"):
        expected = np.concatenate([part[name].numpy() for part in parts])
        assert whole[name].numpy().tobytes() == expected.tobytes() and whole[name].dtype == parts[0][name].dtype, name


def test_numbers_are_joined_and_split_again():
    """Catches: arrays that change places, a pack over the limit, an array that is larger than a pack left out."""
    arrays = [tf.fill([2, 3], 1.0), tf.fill([PACK - 6], 2.0), tf.fill([PACK + 1], 3.0), tf.constant(4.0), tf.fill([0], 5.0), tf.fill([5], 6.0)]
    vectors = join_numbers(arrays)
    assert [vector.shape[0] for vector in vectors] == [PACK, PACK + 1, 6]
    for array, again in zip(arrays, split_numbers(vectors, arrays), strict=True):
        np.testing.assert_array_equal(array, again)


@pytest.mark.parametrize("shape, axis", [((4, 3, 8), 0), ((3, 5), 0), ((5, 4, 6), 1)])
@pytest.mark.parametrize("jit", [False, True])
def test_dropout_drops_of_a_share_what_it_drops_of_the_whole(shape, axis, jit):
    """Catches: a sequence that begins at another block, the same rows for every share, a batch along another axis, a context that stays."""
    layer, count = Dropout(0.5, seed=1), 2
    ones = tf.ones([size * (count if i == axis else 1) for i, size in enumerate(shape)])
    seed = tf.constant([3, 4])
    whole = layer(ones, training=True, seed=seed, batch_axis=axis)

    @tf.function(jit_compile=jit, autograph=False)
    def part(index):
        with randomness.drawing_for(Share(index, count)):
            return layer(tf.ones(shape), training=True, seed=seed, batch_axis=axis)

    parts = [part(tf.constant(i)) for i in range(count)]
    np.testing.assert_array_equal(np.concatenate(parts, axis=axis), whole)
    np.testing.assert_array_equal(layer(ones, training=True, seed=seed, batch_axis=axis), whole)


def test_what_cannot_be_shared_is_named(strategy):
    """Catches: an error from the inside of TensorFlow, or copies that learn apart."""
    policy = tiny_policy()
    with pytest.raises(InputError, match="different scopes"), strategy.scope():
        LanguagePPO(policy, lambda prompts, responses: None, END, PAD, 4)
    with strategy.scope():
        shared = tiny_agent("mlp", (4,), 2)
        ppo = EnvironmentPPO(shared, CartPole(), environments=4, steps=8)
        ppo.compile("adam")
        with pytest.raises(InputError, match="fit was called inside strategy.scope"):
            ppo.fit(1, verbose=0)
        writer = tiny_policy()
        with pytest.raises(InputError, match="fit was called inside strategy.scope"):
            train_language_model(writer, [[1, 2, 3]] * 4, [[1, 2, 3]], 3, PAD, SupervisedConfig(supervised_epochs=1, supervised_batch_size=2))


def test_shares_draw_for_themselves_what_an_environment_draws_in_a_step():
    """Catches: copies of an environment on two devices that meet the same chance; beginnings and actions that are not those of the whole."""
    environment, batch, steps, seed = RepeatFirst(length=4), 4, 6, tf.constant([1, 2])
    policy = tiny_agent("mlp", environment.observation, environment.actions)
    carry = begin(environment, policy, batch, seed)
    roll = lambda share: rollout(environment, policy, lambda logits, masks: logits, 0.9, share.of(carry), steps, seed, share)[1]
    whole, parts = roll(WHOLE), [roll(Share(i, 2)) for i in range(2)]
    beginnings = lambda record: np.where(np.asarray(record.starts) > 0, np.asarray(record.observation), -1)
    np.testing.assert_array_equal(np.concatenate([beginnings(part) for part in parts], axis=1), beginnings(whole))
    np.testing.assert_array_equal(np.concatenate([part.action[0] for part in parts]), whole.action[0])
    drawn = [np.asarray(part.observation)[np.asarray(part.starts) == 0] for part in parts]
    assert len(drawn[0]) > 6 and np.any(drawn[0] != drawn[1])


@pytest.mark.parametrize(
    "options, said",
    [
        ([], "minibatches * accumulation_steps * devices=12 does not divide batch_size=64"),
        (["--batch-size", "48"], "supervised_batch_size=32 is not to be shared by 3 devices"),
    ],
)
def test_a_task_of_texts_is_refused_before_it_begins(monkeypatch, capsys, tmp_path, options, said):
    """Catches: batches that are found indivisible after the writer was trained."""
    monkeypatch.setattr("ppo_keras.tasks.text.Devices", Three)
    assert main(["train", "generation", "--runs-folder", str(tmp_path), *options]) == 2
    assert said in capsys.readouterr().err and not list(tmp_path.iterdir())


class Three(Devices):
    """Says that it is three devices."""

    def __init__(self, strategy=None):
        super().__init__(strategy)
        self.count = 3


@pytest.mark.parametrize(
    "environment, settings, said",
    [
        (CartPole, dict(environments=4, steps=6), "environments=4 is not to be shared by 3 devices. Use a multiple of 3, such as 6"),
        (CartPole, dict(environments=3, steps=4, config=PPOConfig(minibatches=3)), r"minibatches \* accumulation_steps \* devices=9 does not divide"),
        (lambda: GymnasiumEnvironment("CartPole-v1"), dict(environments=6), "runs in Python, in one process, so that 3 devices cannot share it"),
    ],
)
def test_work_that_devices_cannot_share(monkeypatch, environment, settings, said):
    """Catches: rows that no device computes."""
    monkeypatch.setattr("ppo_keras.ppo.Devices", Three)
    with pytest.raises(InputError, match=said):
        EnvironmentPPO(tiny_agent("mlp", (4,), 2), environment(), **settings)
