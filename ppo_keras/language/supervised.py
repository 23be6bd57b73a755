"""Supervised training with Keras's own `fit`: the writer before PPO (supervised fine-tuning), reward models and judges."""

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from ppo_keras.blocks import in_blocks
from ppo_keras.config import SupervisedConfig
from ppo_keras.devices import devices_of
from ppo_keras.errors import InputError
from ppo_keras.language.divided import DividedModel
from ppo_keras.language.early_stopping import EarlyStopping
from ppo_keras.language.rewards import LabelModel, PreferenceModel
from ppo_keras.language.vocabulary import check_tokens
from ppo_keras.losses import log_probability
from ppo_keras.networks.adapters import frozen_variables
from ppo_keras.optimizer import FusedAdam

READ = 32  # texts at a time, by a trunk that is shared


class LogitsModel(DividedModel):
    """The policy network of an actor-critic alone: inputs in, logits of the next token (or of the label) out."""

    def __init__(self, policy, **kwargs):
        super().__init__(**{"dtype": policy.dtype_policy} | kwargs)  # by it Keras knows that a loss must be scaled
        # the head by name too: Keras trains the layers that it finds among the attributes, and a method hides its own
        self.encoder, self.policy_head, self.to_logits = policy.encoder, policy.policy_head, policy.logits

    @property
    def frozen_variables(self):
        """See `ActorCritic`."""
        return frozen_variables(self)

    def call(self, inputs, training=None):
        """int32 `(B, L)` -> float32 `(B, L, V)`; of whole texts, `(B, T, L)` -> `(B, T, K)`."""
        return self.to_logits(self.encoder(inputs, training=training)[0])


class TextModel(LogitsModel):
    """The same for texts: tokens and those that follow them in, the cross-entropy of each out. Large logits exist in blocks only (see `blocks`)."""

    def call(self, inputs, training=None):
        """`(tokens, next tokens)`, int32 `(B, L)` each -> nats, float32 `(B, L)`."""
        tokens, following = inputs
        hidden, _ = self.encoder(tokens, training=training)
        surprise = lambda hidden, following: (-log_probability(self.to_logits(hidden), following),)
        return in_blocks(surprise, self.encoder.config["vocabulary_size"], hidden, following)[0]


class Surprise(keras.losses.Loss):
    """The loss of a `TextModel`: what it puts out."""

    def call(self, y_true, y_pred):
        """`y_pred`; the targets are among the model's inputs."""
        return y_pred


def pad_texts(token_lists, length, pad_id):
    """Right-pads (and cuts) lists of token ids: int32 and float32 `(N, length)`, the second 1 where real."""
    tokens = np.full([len(token_lists), length], pad_id, np.int32)
    mask = np.zeros([len(token_lists), length], np.float32)
    for row, real, ids in zip(tokens, mask, token_lists):
        ids = ids[:length]
        row[: len(ids)] = ids
        real[: len(ids)] = 1
    return tokens, mask


def train_language_model(policy, train, validation, length, pad_id, config=None, **training):
    """Teaches a policy to write texts: cross-entropy of each next token (maximum likelihood).

    Args:
        policy: an actor-critic over tokens; its policy network is trained.
        train, validation: lists of token id lists, with begin and end tokens.
        length: of the padded texts; longer ones are cut.
        pad_id: a token id; padding counts nowhere.
        config: a `SupervisedConfig`.
        training: `callbacks` of Keras; `jit_compile`, whether XLA compiles the step; `files`, a `StateFiles`, from whose newest
            state training goes on.

    Returns:
        An `EarlyStopping` with a `history` like Keras's, {} where no epoch was asked for; the weights are those of the epoch with the lowest
        `val_cross_entropy`.
    """

    def arrays(token_lists):
        tokens, mask = pad_texts(token_lists, length + 1, pad_id)
        return _next_tokens(tokens, mask[:, 1:])

    return _fit_texts(policy, arrays(train), arrays(validation), config, **training)


def train_answers(policy, train, validation, length, pad_id, config=None, **training):
    """Teaches a policy to answer: as `train_language_model`, but only the tokens of the answers are learned.

    Args:
        train, validation: lists of pairs (prompt token ids, answer token ids with the end token).
        policy, length, pad_id, config, training: as in `train_language_model`.

    Returns:
        As `train_language_model`.
    """

    def arrays(pairs):
        tokens, mask = pad_texts([prompt + answer for prompt, answer in pairs], length + 1, pad_id)
        of_prompt = pad_texts([prompt for prompt, _ in pairs], length + 1, pad_id)[1]
        return _next_tokens(tokens, (mask - of_prompt)[:, 1:])

    return _fit_texts(policy, arrays(train), arrays(validation), config, **training)


def train_labels(policy, train, validation, config=None, **training):
    """Teaches a policy that reads whole texts their labels, its actions, by cross-entropy.

    Args:
        policy: an actor-critic with a `vocabulary_size`.
        train, validation: pairs (texts int32 `(N, L)` filled up with `NO_TOKEN`, labels int32 `(N,)`).
        config, training: as in `train_language_model`.

    Returns:
        As `train_language_model`; `history` has `val_accuracy` too.
    """

    def arrays(split):
        texts, labels = split
        return texts[:, np.newaxis], labels[:, np.newaxis], np.ones([len(labels), 1], np.float32)

    with devices_of(policy).scope():
        model = LogitsModel(policy)
    return _fit_labels(model, arrays(train), arrays(validation), config, **training)


def train_classifier(model, train, validation, length, pad_id, config=None, **training):
    """Trains a `RewardModel` on labels: its score becomes the log-odds of the label 1, several outputs the logits of the labels.

    Args:
        model: a `RewardModel`.
        train, validation: pairs (list of token id lists, labels 0, 1, ... of shape `(N,)`).
        length, pad_id, config, training: as in `train_language_model`.

    Returns:
        As `train_language_model`; `history` has `val_accuracy` too.
    """

    def arrays(split):
        token_lists, labels = split
        labels = np.asarray(labels, np.float32)[:, np.newaxis]
        return pad_texts(token_lists, length, pad_id), labels, np.ones_like(labels)

    fit = _fit_binary if model.outputs == 1 else _fit_labels
    with devices_of(model).scope():
        trained = LabelModel(model)
    return fit(trained, *_read_once(trained, arrays(train), arrays(validation), training), config, **training)


def train_preferences(model, train, validation, length, pad_id, config=None, **training):
    """Trains a `RewardModel` on preference pairs by the Bradley-Terry model (see `PreferenceModel`).

    Args:
        model: a `RewardModel`.
        train, validation: pairs (chosen token id lists, rejected token id lists) of equal length. Those that do not differ
            within `length` are left out (see `differing`).
        length, pad_id, config, training: as in `train_language_model`.

    Returns:
        As `train_language_model`; `history` has `val_accuracy` too: how often the chosen text scores higher.
    """

    def arrays(split):
        pairs = differing(*split, length)
        if not pairs:
            raise InputError(f"no pair differs within its first {length} tokens, so there is nothing to prefer. Use longer texts.")
        chosen, rejected = zip(*pairs)
        ones = np.ones([len(chosen), 1], np.float32)
        return (*pad_texts(chosen, length, pad_id), *pad_texts(rejected, length, pad_id)), ones, ones

    with devices_of(model).scope():
        trained = PreferenceModel(model)
    return _fit_binary(trained, *_read_once(trained, arrays(train), arrays(validation), training), config, **training)


def _read_once(trained, train, validation, training):
    """The arrays of both splits as they are trained with: on a shared trunk, which never changes, with what the head reads of each text in its place.

    The head's inputs are scaled by the mean and variance of the training texts.
    """
    model = trained.reward_model
    model.check_reader()
    if model.trunk is None:
        return train, validation
    check_tokens(trained, train, validation)
    read = tf.function(model.features, jit_compile=training.get("jit_compile", True), autograph=False)
    count = sum(len(mask) for texts, *_ in (train, validation) for mask in texts[1::2])

    def of_texts(tokens, mask):
        found = []
        for batch in batches((tokens, mask), READ):
            found.append(read(*batch).numpy())
            progress.update(min(READ, count - progress.n))
        return np.concatenate(found)[: len(tokens)]

    def of_split(arrays):
        texts, *others = arrays
        sides = [of_texts(*side) for side in zip(texts[::2], texts[1::2])]
        return sides[0] if len(sides) == 1 else tuple(sides), *others

    with tqdm(desc="reading texts", total=count, leave=False) as progress:
        train, validation = of_split(train), of_split(validation)
    model.scaling.adapt(np.concatenate(tf.nest.flatten(train[0])))
    return train, validation


def differing(chosen, rejected, length):
    """The pairs of token id lists whose first `length` tokens differ: of the others a model that reads no more can learn nothing."""
    return [(better, worse) for better, worse in zip(chosen, rejected) if better[:length] != worse[:length]]


def batches(arrays, batch_size, shuffle_seed=None, skip=0):
    """A `tf.data.Dataset` of full batches, so that one shape compiles once.

    With a `shuffle_seed` (training) it has no end: a fresh order every epoch, the remainder left for another one, and the
    first `skip` batches left out. Without (measuring), the last batch is filled up with rows of weight 0. The last array
    is the sample weight.
    """
    count = len(arrays[-1])
    if shuffle_seed is not None:
        dataset = tf.data.Dataset.from_tensor_slices(arrays).shuffle(count, seed=shuffle_seed)
        return dataset.batch(min(batch_size, count), drop_remainder=True).repeat().skip(skip).prefetch(1)
    missing = -count % batch_size  # none in the end, and so the size of every batch is known
    filled = tf.nest.map_structure(lambda x: np.concatenate([x, np.zeros([missing, *x.shape[1:]], x.dtype)]), arrays)
    return tf.data.Dataset.from_tensor_slices(filled).batch(batch_size, drop_remainder=True)


def _next_tokens(tokens, weights):
    """What a `TextModel` is trained on: `(B, L + 1)` tokens and `(B, L)` weights -> inputs, targets (which are among the inputs), weights."""
    return (tokens[:, :-1], tokens[:, 1:]), tokens[:, 1:], weights


def _fit_texts(policy, train, validation, config, **training):
    """`_fit` of a policy to texts: its `TextModel` puts out what is to be small."""
    loss, exact = Surprise(reduction="mean_with_sample_weight"), keras.metrics.MeanMetricWrapper(Surprise().call, name="cross_entropy")
    with devices_of(policy).scope():
        model = TextModel(policy)
    return _fit(model, train, validation, loss, [exact], config, **training)


def _fit_categories(model, train, validation, config, metrics=(), **training):
    """`_fit` of logits `(..., K)` to targets int32 `(...)`."""
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="mean_with_sample_weight")
    exact = keras.metrics.SparseCategoricalCrossentropy(from_logits=True, name="cross_entropy")
    return _fit(model, train, validation, loss, [exact, *metrics], config, **training)


def _fit_labels(model, train, validation, config, **training):
    """`_fit_categories`, with the accuracy."""
    accuracy = keras.metrics.SparseCategoricalAccuracy(name="accuracy")
    return _fit_categories(model, train, validation, config, [accuracy], **training)


def _fit_binary(model, train, validation, config, **training):
    """`_fit` of logits `(B, 1)` to targets 0 or 1."""
    loss = keras.losses.BinaryCrossentropy(from_logits=True, reduction="mean_with_sample_weight")
    exact = keras.metrics.BinaryCrossentropy(from_logits=True, name="cross_entropy")
    accuracy = keras.metrics.BinaryAccuracy(threshold=0.0, name="accuracy")
    return _fit(model, train, validation, loss, [exact, accuracy], config, **training)


def _fit(model, train, validation, loss, metrics, config, callbacks=(), jit_compile=True, files=None):
    """Keras's `compile` and `fit` with early stopping at the best validation cross-entropy.

    That is a weighted metric, because Keras averages `val_loss` over batches, however much padding each of them has.
    """
    check_tokens(model, train, validation)
    config = config or SupervisedConfig()
    count, size = len(train[-1]), config.supervised_batch_size
    epochs, steps = config.supervised_epochs, max(1, count // size)
    if epochs == 0:
        return EarlyStopping(config.patience)
    model.devices.check_batch(size, "supervised_batch_size")
    rate = keras.optimizers.schedules.CosineDecay(config.supervised_learning_rate, epochs * steps)
    with model.devices.scope():
        optimizer = FusedAdam(rate, weight_decay=config.weight_decay, global_clipnorm=1.0)
        model.compile(optimizer, loss=loss, weighted_metrics=metrics, jit_compile=jit_compile)
        model.optimizer.build(model.trainable_variables)  # in `mixed_float16` it is a `LossScaleOptimizer` around ours
    stopping = EarlyStopping(config.patience, files)
    stopping.restore_last(model)
    if not stopping.ended(epochs):
        model.fit(
            batches(train, size, config.shuffle_seed, skip=stopping.epochs * steps),
            validation_data=batches(validation, size),
            initial_epoch=stopping.epochs,
            epochs=epochs,
            steps_per_epoch=steps,
            callbacks=[*callbacks, stopping],  # it saves what the others have written down
            shuffle=False,
            verbose=0,
        )
    return stopping
