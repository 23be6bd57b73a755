"""Do the parts that read the same tokens have the same vocabulary? An id beyond it is clamped or read as zeros by XLA, without a word."""

from numbers import Integral

import numpy as np
import tensorflow as tf

from ppo_keras.errors import require


def check_vocabulary(policy, others, ids):
    """Raises `InputError` unless all that read what a policy writes know the same tokens; names both sides.

    Args:
        policy: an actor-critic over tokens.
        others: {what it is: a policy, a `RewardModel`, a `Tokenizer`, ...}; what does not say how many tokens it knows is left alone.
        ids: {what they are for: token ids, a tuple}. An `end_id` of the vocabulary's size is a token that is never written: every response has full length.
    """
    size = policy.distribution.count
    for name, other in others.items():
        known = _tokens_known(other)
        require(known in (None, size), f"the policy writes {size} tokens, but the {name} knows {known}. Use parts made for one tokenizer.")
    for name, token in ((name, token) for name, tokens in ids.items() for token in tokens):
        known = 0 <= token < size or (name == "end_id" and token == size)
        require(known, f"{name}={token} is not one of the {size} tokens of the policy, 0..{size - 1}. Use the tokenizer's {name}.")


def check_tokens(model, *splits):
    """Raises `InputError` unless a model in supervised training knows every token (and label) of its data.

    Args:
        model: a `LogitsModel`, or a `LabelModel`.
        splits: (inputs, targets, ...) as NumPy arrays each.
    """
    reader = getattr(model, "reward_model", model)
    known, outputs = _tokens_known(reader), _outputs(model)
    if known is None:
        return
    for inputs, targets, *_ in splits:
        tokens = [part for part in tf.nest.flatten(inputs) if np.issubdtype(part.dtype, np.integer)]
        largest = max((int(part.max(initial=0)) for part in tokens), default=0)
        require(
            largest < known, f"the data hold the token {largest}, but the model knows {known} tokens, 0..{known - 1}. Use the tokenizer that it was made for."
        )
        lowest, highest = int(np.min(targets, initial=0)), int(np.max(targets, initial=0))
        label = lowest if lowest < 0 else highest
        require(0 <= label < outputs, f"the data hold the label {label}, but the model has {outputs} outputs. Make it with one for each label.")


def _tokens_known(one):
    """How many tokens a policy, an encoder's model or a tokenizer knows; None where it does not say."""
    config = getattr(getattr(one, "encoder", None), "config", {})
    size = (config if isinstance(config, dict) else {}).get("vocabulary_size", getattr(one, "vocabulary_size", None))
    return int(size) if isinstance(size, Integral) else None


def _outputs(model):
    """How many labels there are outputs for."""
    if hasattr(model, "reward_model"):
        return max(2, model.reward_model.outputs)
    return model.policy_head.units if model.policy_head is not None else _tokens_known(model)
