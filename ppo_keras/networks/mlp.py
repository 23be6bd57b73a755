"""A trunk without memory: fully connected layers."""

import keras


@keras.saving.register_keras_serializable("ppo_keras")
class MLPTrunk(keras.layers.Layer):
    """tanh layers, each input for itself; `step` and `call` agree because there is nothing to remember.

    Args:
        width: size of the input, of each layer and of the output.
        layers: how many.
    """

    def __init__(self, width, layers, **kwargs):
        super().__init__(**kwargs)
        self.width, self.layers = width, layers
        self.hidden = [hidden_layer(width, f"hidden_{i}", self.dtype_policy) for i in range(layers)]
        for layer in self.hidden:
            setattr(self, layer.name, layer)  # tf.train.Checkpoint does not look into Keras's lists

    def build(self, input_shape):
        for layer in self.hidden:
            layer.build((None, self.width))

    def initial_state(self, batch):
        """Nothing."""
        return ()

    def step(self, x, state, starts=None):
        """One step: `(B, D)` -> `(B, D)`, nothing."""
        return self(x)[0], ()

    def call(self, x, state=None, starts=None, context=0, training=None):
        """Each input for itself: `(B, T, D)` -> `(B, T - context, D)`, nothing."""
        x = x[:, context:] if context else x
        for layer in self.hidden:
            x = layer(x)
        return x, ()

    def get_config(self):
        return super().get_config() | {"width": self.width, "layers": self.layers}


def hidden_layer(width, name, dtype):
    """A tanh layer with an orthogonal kernel of gain sqrt(2), as PPO's implementations have it."""
    kernel = keras.initializers.Orthogonal(gain=2**0.5)
    return keras.layers.Dense(width, activation="tanh", kernel_initializer=kernel, name=name, dtype=dtype)
