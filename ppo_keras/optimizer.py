"""Keras's Adam in far fewer operations, so that a program that updates hundreds of variables is traced and compiled sooner."""

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable(package="ppo_keras")
class FusedAdam(keras.optimizers.Adam):
    """`keras.optimizers.Adam` with the same arguments, variables and numbers, in which one operation updates a variable.

    Keras writes every update out: some 40 operations, more than 60 with weight decay and a schedule, as each variable has
    its own bias corrections and learning rate computed. Here a step computes them once, and TensorFlow's own kernel does the
    rest, by the same formulas: Kingma and Ba (2015), the efficient form at the end of their section 2; weight decay decoupled
    as by Loshchilov and Hutter (2019). Results differ by rounding, and where a gradient names a row of an embedding twice:
    both parts are added up before they are squared. `amsgrad` and variables of other types than float32 take Keras's way.
    """

    _of_step = None  # what all variables share while a step is taken: learning rate, powers of both betas, betas and epsilon

    @property
    def learning_rate(self):
        """As in Keras; while a step is taken, the value that all its variables share."""
        return super().learning_rate if self._of_step is None else self._of_step[0]

    @learning_rate.setter
    def learning_rate(self, value):
        keras.optimizers.Adam.learning_rate.fset(self, value)

    def apply(self, grads, trainable_variables=None):
        """As in Keras."""
        step = tf.cast(self.iterations + 1, tf.float32)
        beta_1, beta_2, epsilon = (tf.constant(value, tf.float32) for value in (self.beta_1, self.beta_2, self.epsilon))
        self._of_step = tf.cast(self.learning_rate, tf.float32), beta_1**step, beta_2**step, beta_1, beta_2, epsilon
        try:
            super().apply(grads, trainable_variables)
        finally:
            self._of_step = None  # tensors of this graph mean nothing to another

    def update_step(self, gradient, variable, learning_rate):
        """As in Keras, within `apply`."""
        if self.amsgrad or variable.dtype != tf.float32:
            return super().update_step(gradient, variable, learning_rate)
        place = self._get_variable_index(variable)
        rate, power_1, power_2, beta_1, beta_2, epsilon = self._of_step
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[place].value.handle,
            v=self._velocities[place].value.handle,
            beta1_power=power_1,
            beta2_power=power_2,
            lr=rate,
            beta1=beta_1,
            beta2=beta_2,
            epsilon=epsilon,
            grad=tf.cast(tf.convert_to_tensor(gradient), tf.float32),  # an embedding's gradient comes as slices
        )
