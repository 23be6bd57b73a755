"""`ppo_keras.language.early_stopping`: a supervised stage that is stopped goes on as if it had not been stopped."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from helpers import assert_all_close, tiny_policy, weights_of
from ppo_keras import RewardModel
from ppo_keras.checkpoints import StateFiles
from ppo_keras.config import SupervisedConfig
from ppo_keras.language.early_stopping import EarlyStopping
from ppo_keras.language.rewards import LabelModel, PreferenceModel
from ppo_keras.language.supervised import LogitsModel, train_classifier
from ppo_keras.networks.encoder import TokenEncoder

TEXTS, LABELS = [[2, 4 + i % 5, 4 + i % 3, 3] for i in range(12)], [0, 1, 1] * 4


def reader():
    """A small reward model whose dropout draws random numbers."""
    keras.utils.set_random_seed(1)
    return RewardModel(TokenEncoder(12, "bag", 8, 1, dropout=0.3), dropout=0.5, name="reward")


def trained(model, files=None, epochs=3, callbacks=()):
    """Three batches an epoch, in another order each time. Returns the `EarlyStopping`."""
    config = SupervisedConfig(supervised_epochs=epochs, supervised_batch_size=4, supervised_learning_rate=0.1, patience=9)
    return train_classifier(model, (TEXTS, LABELS), (TEXTS, LABELS), 4, 0, config, callbacks=callbacks, jit_compile=False, files=files)


class Stop(keras.callbacks.Callback):
    """Tells `fit` to stop within an epoch, as Ctrl-C does; counts the batches."""

    def __init__(self, epoch=None, batch=None):
        super().__init__()
        self.at, self.batches = (epoch, batch), 0

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        self.batches += 1
        if (self.epoch, batch) == self.at:
            self.model.stop_training = True


@pytest.fixture
def files(tmp_path):
    return StateFiles(tmp_path, "reward")


@pytest.fixture(autouse=True)
def untraced():
    """So few steps are faster than the graph of one."""
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


def test_a_stage_that_is_stopped_goes_on_bit_by_bit(files):
    """Catches: an epoch that was cut short and counts as done, one left out or done twice, batches in another order, moments or random counters lost."""
    whole, model, rest = reader(), reader(), Stop()
    history = trained(whole).history
    stopped = trained(model, files, callbacks=[Stop(epoch=1, batch=1)])
    assert stopped.epochs == 1 and files.numbers() == [1] and len(stopped.history["loss"]) == 1
    model, again = reader(), reader()
    assert trained(model, files, callbacks=[rest]).history == history
    assert rest.batches == 2 * 3 and files.numbers()[0] == 3
    assert_all_close(weights_of(model), weights_of(whole), rtol=0, atol=0)
    # a stage that ended is not done again: the run was stopped after it
    assert trained(again, files, callbacks=[rest]).history == history and rest.batches == 2 * 3
    assert_all_close(weights_of(again), weights_of(model), rtol=0, atol=0)


def test_patience_is_not_forgotten(files):
    """Catches: a best figure, its weights or the epochs since it that begin anew, and a stage that ended by patience and is begun again."""

    def stopping(epoch):
        """An `EarlyStopping` of a model whose one weight is the number of epochs done, put back to the newest state."""
        model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
        model.compile("sgd", "mse")
        model.set_weights([np.full([1, 1], epoch)])
        callback = EarlyStopping(3, files)
        callback.set_params({"steps": 1})
        callback.restore_last(model)
        return callback

    for epoch, figure in enumerate([2.0, 1.0, 1.5, 1.5, 1.5]):  # the process ends after every epoch
        callback = stopping(epoch)
        assert callback.epochs == epoch and not callback.ended(9)
        callback.on_train_begin()
        callback.model.set_weights([np.full([1, 1], epoch + 1.0)])
        callback.on_epoch_begin(epoch)
        callback.on_train_batch_end(0)
        callback.on_epoch_end(epoch, {"val_cross_entropy": figure})
    assert callback.model.stop_training
    callback = stopping(0)
    assert callback.ended(9) and callback.history == {"val_cross_entropy": [2.0, 1.0, 1.5, 1.5, 1.5]}
    assert callback.model.get_weights()[0] == 2.0


def test_losses_in_float16_are_scaled():
    """Catches: a model of its own precision whose small gradients vanish, as Keras looks at that of what it trains."""
    keras.config.set_dtype_policy("mixed_float16")
    policy, model = tiny_policy("lstm"), reader()
    keras.config.set_dtype_policy("float32")
    for trained_model in (LogitsModel(policy), LabelModel(model), PreferenceModel(model)):
        trained_model.compile("sgd")
        assert isinstance(trained_model.optimizer, keras.optimizers.LossScaleOptimizer)


def test_a_stage_in_float16_goes_on(files):
    """Catches: a state without the scale of the loss, which is then refused, or begins anew, where the stage goes on."""
    keras.config.set_dtype_policy("mixed_float16")

    class Scale(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            self.model.optimizer.dynamic_scale.assign(64.0)

    trained(reader(), files, epochs=1, callbacks=[Scale()])
    assert float(trained(reader(), files, epochs=1).model.optimizer.dynamic_scale) == 64.0
