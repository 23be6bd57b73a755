"""`EnvironmentPPO` whose variables Keras restores, not we: the episodes of an environment in Python must come with them, or begin anew."""

import warnings

import keras
import numpy as np
import pytest

pytest.importorskip("gymnasium")

import tensorflow as tf
from test_bridge import Hidden, collect, learner
from test_environment_ppo import everything, fit

from helpers import assert_all_close
from ppo_keras.environments.bridge import GymnasiumEnvironment
from ppo_keras.environments.cartpole import CartPole
from ppo_keras.errors import ResumeWarning


def agent(seed, make="CartPole-v1"):
    """A learner as small as it gets, whose episodes go on from rollout to rollout."""
    keras.utils.set_random_seed(seed)
    return learner(GymnasiumEnvironment(make), "mlp", "eager", steps=7, seed=seed, layers=1, optimizer=keras.optimizers.Adam(0.01))


def is_cartpole(trajectory):
    """Whether each transition is CartPole's own."""
    inputs, actions, ended = (np.asarray(part) for part in (trajectory.inputs, trajectory.actions, trajectory.ended))
    step = CartPole().step((inputs.reshape(-1, 4), np.zeros(inputs.size // 4, np.int32)), actions.reshape(-1), None)
    same = np.isclose(step.observation.numpy().reshape(inputs.shape)[:, :-1], inputs[:, 1:], atol=1e-5).all(axis=-1)
    return same[ended[:, :-1] == 0].all()


def test_loaded_weights_bring_their_episodes(tmp_path):
    """Catches: `load_weights` that restores what was observed last, but not the episode: its first action answers an observation that
    is not there, and the rest is not that of the run that was saved."""
    saved, loaded = agent(1), agent(2)
    fit(saved)
    saved.save_weights(tmp_path / "agent.weights.h5")
    fit(loaded)
    loaded.load_weights(tmp_path / "agent.weights.h5")
    assert_all_close(everything(loaded), everything(saved), rtol=0, atol=0)
    (expected,), (found,) = (next(collect(ppo)) for ppo in (saved, loaded))
    assert_all_close(found, expected, rtol=0, atol=0)
    assert is_cartpole(found) and not found.starts[:, 0].numpy().all()


def test_a_backup_brings_its_episodes(tmp_path):
    """Catches: the same in Keras's `BackupAndRestore`: a training that was stopped in its second epoch must end as one that was not."""
    undisturbed, stopped, resumed = agent(1), agent(1), agent(3)
    undisturbed.fit(epochs=3, verbose=0)

    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 1:
                raise KeyboardInterrupt

    backup = lambda: keras.callbacks.BackupAndRestore(str(tmp_path / "backup"))
    with pytest.raises(KeyboardInterrupt):
        stopped.fit(epochs=3, callbacks=[Stop(), backup()], verbose=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResumeWarning)
        resumed.fit(epochs=3, callbacks=[backup()], verbose=0)
    assert int(resumed.iteration) == 3
    assert_all_close(everything(resumed), everything(undisturbed), rtol=0, atol=0)


@pytest.mark.parametrize("way", ["set_weights", "checkpoint"])
def test_variables_alone_begin_new_episodes(way, tmp_path):
    """Catches: a carry from elsewhere that is believed: the episode of this environment stands somewhere else."""
    saved, other = agent(1), agent(2)
    fit(saved), fit(other)
    if way == "set_weights":
        other.set_weights(saved.get_weights())
    else:
        tf.train.Checkpoint(learner=other).restore(tf.train.Checkpoint(learner=saved).save(str(tmp_path / "checkpoint"))).assert_consumed()
    assert "episodes" not in other.state()  # they are not those of the carry
    with pytest.warns(ResumeWarning, match="do not say where the episodes of gym:CartPole-v1 stood, so new episodes begin"):
        (trajectory,) = next(collect(other))
    assert is_cartpole(trajectory)
    np.testing.assert_array_equal(trajectory.starts[:, 0], [1, 1, 1])
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResumeWarning)
        (trajectory,) = next(collect(other))  # and go on
    assert not trajectory.starts[:, 0].numpy().all()


def test_a_learner_that_is_set_back_says_so():
    """Catches: an earlier state of the same learner taken for the present one; its own present state taken for another."""
    ppo = agent(1)
    fit(ppo)
    before = ppo.get_weights()
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResumeWarning)
        ppo.set_weights(before)
        (first,) = next(collect(ppo))
    assert is_cartpole(first)
    ppo.set_weights(before)
    with pytest.warns(ResumeWarning, match="new episodes begin"):
        (trajectory,) = next(collect(ppo))
    assert is_cartpole(trajectory)


def test_an_episode_that_cannot_be_played_again_begins_anew(tmp_path):
    """Catches: `load_weights` that believes a replay which shows something else."""
    saved, loaded = agent(1, Hidden), agent(2, Hidden)
    fit(saved)
    saved.save_weights(tmp_path / "agent.weights.h5")
    with pytest.warns(ResumeWarning, match="gym does not repeat itself from its own random state, so new episodes begin"):
        loaded.load_weights(tmp_path / "agent.weights.h5")
    np.testing.assert_array_equal(loaded.carry.starts, [1, 1, 1])
    (trajectory,) = next(collect(loaded))
    np.testing.assert_array_equal(trajectory.starts[:, 0], [1, 1, 1])


def test_weights_of_an_environment_in_tensorflow_are_as_they_were(tmp_path):
    """Catches: a file of weights that a learner without an environment in Python cannot read."""
    saved, loaded = (learner(CartPole(), "mlp", "eager", steps=7, layers=1, seed=seed) for seed in (1, 2))
    fit(saved)
    saved.save_weights(tmp_path / "agent.weights.h5")
    loaded.load_weights(tmp_path / "agent.weights.h5")
    assert_all_close(everything(loaded), everything(saved), rtol=0, atol=0)
    assert_all_close(list(next(collect(loaded))), list(next(collect(saved))), rtol=0, atol=0)
