"""Keras's supervised `fit` for batches of texts that several devices share."""

from types import SimpleNamespace

import keras
import tensorflow as tf

from ppo_keras import randomness
from ppo_keras.devices import Devices


class DividedModel(keras.Model):
    """A model that Keras's `fit` trains on batches (inputs, targets, weights); in the scope of a `tf.distribute` strategy its devices share each.

    Keras's own way there takes the mean of the devices' losses, whatever the weights of their rows, compiles nothing with XLA, and ends in an
    error on several machines. Here the numbers are those of one device, dropout's too.
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.devices, self._drawn = Devices(), SimpleNamespace(variables=())  # of which Keras keeps no list
        self._distribute_strategy = None  # with it, Keras would not look at a first batch, and so shuffle the others otherwise

    @property
    def distribute_strategy(self):
        """Keras's, which would share out batches by it: they are shared out later, by `devices`."""
        return self.devices

    def compile(self, *args, jit_compile=True, **kwargs):
        """Keras's, with a loss whose reduction is "mean_with_sample_weight"."""
        several = self.devices.count > 1
        super().compile(*args, jit_compile=jit_compile and not several, run_eagerly=several, **kwargs)
        if several:
            wrap = lambda f: tf.function(f, jit_compile=jit_compile, autograph=False)
            self._differentiate, self._compute = (self.devices.on_shares(part, wrap) for part in (self.share_of_gradients, self.share_of_outputs))
            self._learn, self._measure = (self.devices.in_graph(step, wrap) for step in (self.learn, self.measure))

    def fit(self, *args, **kwargs):
        """Keras's. Raises `InputError` inside the scope of a strategy."""
        self.devices.check_outside()
        return super().fit(*args, **kwargs)

    def train_step(self, data):
        """Keras's."""
        return super().train_step(data) if self.devices.count == 1 else self._learn(*data)

    def test_step(self, data):
        """Keras's."""
        return super().test_step(data) if self.devices.count == 1 else self._measure(*data)

    def learn(self, inputs, targets, weights):
        """An optimizer step on a whole batch, of which each device has a share. Returns the metrics."""
        (outputs, draws), (gradients, loss) = self._differentiate(inputs, targets, weights)
        self.optimizer.apply(gradients, self.trainable_variables)
        for variable, draw in zip(self._drawn.variables, draws):
            variable.assign(tf.cast(tf.stack(draw), variable.dtype))
        return self._metrics_of(inputs, targets, outputs, weights, loss)

    def measure(self, inputs, targets, weights):
        """The metrics of a whole batch, of which each device has a share."""
        outputs, loss = self._compute(inputs, targets, weights)
        return self._metrics_of(inputs, targets, outputs, weights, loss)

    def share_of_gradients(self, share, inputs, targets, weights):
        """Of a share of a batch the outputs, with the seeds that follow those of this step; and its part of gradients and loss. See `Devices.on_shares`."""
        variables = [variable.value for variable in self.trainable_variables]
        with randomness.drawing_for(share), keras.StatelessScope() as drawn, tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(variables)
            outputs, loss = self.share_of_outputs(share, inputs, targets, weights, training=True)
            scaled = self.optimizer.scale_loss(loss)
        gradients = tape.gradient(scaled, variables, unconnected_gradients="zero")
        self._drawn.variables = [variable for variable in self.non_trainable_variables if drawn.get_current_value(variable) is not None]
        draws = [tf.unstack(drawn.get_current_value(variable)) for variable in self._drawn.variables]
        return (outputs, draws), ([tf.cast(tf.convert_to_tensor(gradient), tf.float32) for gradient in gradients], loss)

    def share_of_outputs(self, share, inputs, targets, weights, training=False):
        """The outputs of a share of a batch, and its part of the loss: the mean over the weights of the whole. See `Devices.on_shares`."""
        whole = tf.reduce_sum(weights)
        inputs, targets, weights = share.of((inputs, targets, weights))
        outputs = self(inputs, training=training)
        losses = self.loss.call(targets, outputs)
        return outputs, tf.math.divide_no_nan(tf.reduce_sum(losses * tf.reshape(weights, losses.shape)), whole)

    def _metrics_of(self, inputs, targets, outputs, weights, loss):
        self.metrics[0].update_state(loss, sample_weight=tf.cast(outputs.shape[0], tf.float32))  # Keras's tracker of the loss
        return self.compute_metrics(inputs, targets, outputs, sample_weight=weights)
