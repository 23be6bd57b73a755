"""CartPole-v1, as Gymnasium has it (Barto, Sutton and Anderson 1983), and the same with the velocities hidden."""

import math

import tensorflow as tf

from ppo_keras import randomness
from ppo_keras.environments.environment import Environment, Step

GRAVITY, CART_MASS, POLE_MASS, HALF_LENGTH = 9.8, 1.0, 0.1, 0.5  # m/s^2, kg, kg, m
FORCE, SECONDS = 10.0, 0.02  # N, s a step
POSITION_LIMIT, ANGLE_LIMIT = 2.4, 12 * 2 * math.pi / 360  # m, rad


class CartPole(Environment):
    """A pole on a cart that is pushed left (0) or right (1) at each step; reward 1 for each step until it falls.

    The observation is (position m, velocity m/s, angle rad, angular velocity rad/s), float32 `(4,)`.
    """

    name, observation, actions, time_limit = "cartpole", (4,), 2, 500

    def reset(self, batch, seed):
        """See `Environment.reset`. All four numbers are uniform in (-0.05, 0.05)."""
        physics = (randomness.uniform([batch, 4], seed) - 0.5) * 0.1
        return (physics, tf.zeros([batch], tf.int32)), self.observe(physics)

    def observe(self, physics):
        """What the agent sees of the four numbers."""
        return physics

    def step(self, state, actions, seed):
        """See `Environment.step`. Euler's method, the velocities updated after the positions."""
        physics, elapsed = state
        position, velocity, angle, spin = tf.unstack(physics, axis=-1)
        force = tf.where(actions == 1, FORCE, -FORCE)
        cos, sin = tf.cos(angle), tf.sin(angle)
        mass = CART_MASS + POLE_MASS
        push = (force + POLE_MASS * HALF_LENGTH * tf.square(spin) * sin) / mass
        spin_up = (GRAVITY * sin - cos * push) / (HALF_LENGTH * (4.0 / 3.0 - POLE_MASS * tf.square(cos) / mass))
        acceleration = push - POLE_MASS * HALF_LENGTH * spin_up * cos / mass
        position, velocity = position + SECONDS * velocity, velocity + SECONDS * acceleration
        angle, spin = angle + SECONDS * spin, spin + SECONDS * spin_up
        physics, elapsed = tf.stack([position, velocity, angle, spin], axis=-1), elapsed + 1
        terminated = (tf.abs(position) > POSITION_LIMIT) | (tf.abs(angle) > ANGLE_LIMIT)
        reward = tf.ones_like(position)
        return Step((physics, elapsed), self.observe(physics), reward, terminated, elapsed >= self.time_limit)


class CartPoleNoVelocity(CartPole):
    """CartPole whose agent sees position and angle only: how fast they change must be remembered."""

    name, observation = "cartpole-no-velocity", (2,)

    def observe(self, physics):
        """Position and angle."""
        return tf.gather(physics, [0, 2], axis=-1)
