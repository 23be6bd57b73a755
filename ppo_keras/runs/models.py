"""The models of a run, saved and loaded again."""

import keras
import numpy as np

from ppo_keras.checkpoints import changing
from ppo_keras.errors import InputError, line_of, require
from ppo_keras.language.rewards import RewardModel
from ppo_keras.networks.actor_critic import ActorCritic
from ppo_keras.networks.adapters import Frozen, adapted
from ppo_keras.pretrained.config import PretrainedConfig
from ppo_keras.pretrained.files import needed
from ppo_keras.pretrained.loading import Checkpoint
from ppo_keras.runs.elsewhere import checkpoint_from


def save_policy(run, policy, name):
    """Saves a policy whole; of one with adapters only what is learned, for its frozen weights are those of the checkpoint."""
    if not adapted(policy):
        return run.save_model(policy, name)
    arrays = {key: np.asarray(weight) for key, weight in _learned(policy).items()}
    return run.save_bytes(run.adapters(name), needed("safetensors.numpy").save(arrays))


def load_policy(run, name, memory=None):
    """A saved policy of a run; its checkpoint, where it began with one, is found and loaded again.

    Args:
        run: a `Run`.
        name: before, after or best; policy, of an agent.
        memory: of a checkpoint, steps that attention reaches back instead of those of the training; at most as many as it knows.

    Raises:
        InputError: there is no such policy, a file is damaged, or the checkpoint is not the one that the run began with.
    """
    if run.has_whole(name) or not run.has_learned():
        return load_model(run, name, ActorCritic, "a policy")
    policy = _untrained(run, memory)
    take_learned(run, policy, name)
    return policy


def load_reference(run, policy):
    """The policy of a run before PPO; where it and the given one, of the same run, have adapters, both share the frozen weights."""
    if not adapted(policy):
        policy = load_policy(run, "before")
        policy.trainable = False
        return policy
    now = {key: np.asarray(weight) for key, weight in _learned(policy).items()}
    take_learned(run, policy, "before")
    reference = Frozen(policy)
    for key, weight in _learned(policy).items():
        weight.assign(now[key])
    return reference


def take_learned(run, policy, name):
    """Gives a policy of the run's checkpoint what was learned. Raises `InputError` where it does not fit."""
    path, learned = run.path(run.adapters(name)), _learned(policy)
    require(run.has(name), f"{path} is missing. Put it back, or train the run again.")
    try:
        arrays = needed("safetensors.numpy").load_file(path)
    except Exception as error:  # a missing, damaged or altered file fails in many ways
        raise InputError(f"cannot load {path}: {line_of(error)}. Train the run again.") from error
    shapes = lambda weights: {key: tuple(weight.shape) for key, weight in weights.items()}
    require(
        shapes(arrays) == shapes(learned),
        f"{path} holds {len(arrays)} arrays that do not fit the adapters of {run.path('config.json')}. One of them was changed: train the run again.",
    )
    for key, weight in learned.items():
        weight.assign(arrays[key])


def load_settings(run):
    """The `PretrainedConfig` of a run: of one without a checkpoint the plain one."""
    try:
        return PretrainedConfig(**run.load_json("config.json").get("checkpoint", {}))
    except (TypeError, ValueError) as error:
        raise InputError(f"{run.path('config.json')} holds a checkpoint that is none ({line_of(error)}). Train the run again.") from error


def _untrained(run, memory):
    """The policy that a run began with."""
    settings, saved = load_settings(run), run.load_json("config.json")
    checksum, trained, labels = saved.get("checkpoint_sha256"), saved.get("memory"), saved.get("labels")
    count = lambda value: isinstance(value, int) and not isinstance(value, bool) and value > 0
    known = settings.pretrained and isinstance(checksum, str) and count(trained) and (labels is None or count(labels))
    require(known, f"{run.path('config.json')} does not say which checkpoint the run began with. Train the run again.")
    checkpoint = Checkpoint(checkpoint_from(saved, settings.pretrained))
    require(
        checkpoint.checksum == checksum,
        f"{run.folder} began with another checkpoint than {checkpoint.name} now is (sha256 {checksum[:12]}..., found {checkpoint.checksum[:12]}...). "
        "Put its weights back as they were, or train the run again.",
    )
    memory = min(max(memory or 0, trained), checkpoint.most_steps)
    given = dict(rank=settings.lora_rank, alpha=settings.lora_alpha, layers=settings.lora_layers)
    if settings.adapters and isinstance(kept := saved.get("adapter_settings"), dict):  # their folder is not needed any more
        given |= kept
    return checkpoint.policy(memory, given["rank"], given["alpha"], given["layers"], settings.weights, labels=labels, critic=settings.critic)


def _learned(policy):
    """{path: variable} of what is learned of a policy with adapters."""
    return {weight.path: weight for weight in changing(policy, policy.weights)}


def load_reward_model(run, name, reference):
    """The reward model or the judge of a run, which may share the trunk of its reference."""
    model = load_model(run, name, RewardModel, "a reward model")
    if model.encoder is None:
        model.read_with(reference)
    return model


def load_model(run, name, kind, called):
    """A saved model of a run, of this class. Nothing in the file is executed: Keras's `safe_mode` is on."""
    path = run.checkpoint(name)
    if not run.has_whole(name):
        known = sorted(found.stem for found in run.folder.glob("checkpoints/*") if found.suffix in (".keras", ".safetensors"))
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
