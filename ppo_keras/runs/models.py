"""The models that a run saved, loaded again."""

import keras

from ppo_keras.errors import InputError
from ppo_keras.language.rewards import RewardModel
from ppo_keras.networks.actor_critic import ActorCritic


def load_policy(run, name):
    """A saved policy of a run."""
    return load_model(run, name, ActorCritic, "a policy")


def load_reward_model(run, name):
    """The reward model or the judge of a run."""
    return load_model(run, name, RewardModel, "a reward model")


def load_model(run, name, kind, called):
    """A saved model of a run, of this class. Nothing in the file is executed: Keras's `safe_mode` is on."""
    path = run.checkpoint(name)
    if not run.has(name):
        known = sorted(found.stem for found in run.folder.glob("checkpoints/*.keras"))
        raise InputError(
            f"{path} is missing. " + (f"There are: {', '.join(known)}." if known else "Was the run stopped before it saved any weights? Train it again.")
        )
    try:
        model = keras.models.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # a damaged or altered file fails in many ways
        raise InputError(f"cannot load {path}: {error}") from error
    if not isinstance(model, kind):
        raise InputError(f"{path} holds a {type(model).__name__}, not {called} of ppo_keras.")
    return model
