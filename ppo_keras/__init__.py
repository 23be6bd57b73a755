"""PPO for language models and agents in Keras and TensorFlow.

The names below are imported when they are first used, so that `import ppo_keras` and `ppo-keras --help` stay fast:
TensorFlow takes seconds to load.
"""

import importlib
import os

__version__ = "0.1.0"

if os.environ.setdefault("KERAS_BACKEND", "tensorflow") != "tensorflow":
    raise ImportError(
        f"ppo_keras runs on the TensorFlow backend of Keras, but KERAS_BACKEND={os.environ['KERAS_BACKEND']!r}. "
        "Unset KERAS_BACKEND, or set KERAS_BACKEND=tensorflow."
    )
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

_HOME = {  # public name: the module that defines it
    "PPO": "ppo",
    "PPOConfig": "config",
    "KLConfig": "config",
    "OptimizerConfig": "config",
    "FusedAdam": "optimizer",
    "Trajectory": "trajectory",
    "MLPActorCritic": "networks.actor_critic",
    "LSTMActorCritic": "networks.actor_critic",
    "TransformerActorCritic": "networks.actor_critic",
    "Categorical": "distributions",
    "MultiCategorical": "distributions",
    "DiagonalGaussian": "distributions",
    "LanguagePPO": "language.ppo",
    "EnvironmentPPO": "environments.ppo",
    "Environment": "environments.environment",
    "Step": "environments.environment",
    "GridWorld": "environments.gridworld",
    "CartPole": "environments.cartpole",
    "CartPoleNoVelocity": "environments.cartpole",
    "Acrobot": "environments.acrobot",
    "RepeatFirst": "environments.memory",
    "TMaze": "environments.memory",
    "TextClassification": "environments.texts",
    "GymnasiumEnvironment": "environments.bridge",
    "play": "environments.evaluation",
    "PythonReward": "language.rewards",
    "ReferenceReward": "language.rewards",
    "RewardModel": "language.rewards",
    "Tokenizer": "language.tokenizer",
    "Prompts": "language.generation",
    "generate": "language.generation",
    "export_pretrained": "pretrained.export",
    "load_pairs": "datasets.loader",
    "load_pretrained": "pretrained.loading",
    "load_texts": "datasets.loader",
}
__all__ = sorted(_HOME)


def __getattr__(name):
    if name not in _HOME:
        raise AttributeError(f"module 'ppo_keras' has no attribute {name!r}")
    return getattr(importlib.import_module(f"ppo_keras.{_HOME[name]}"), name)
