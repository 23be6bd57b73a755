"""Acrobot-v1, as Gymnasium has it: two links hang from a fixed joint and must swing up (Sutton 1996)."""

import math

import tensorflow as tf

from ppo_keras import randomness
from ppo_keras.environments.environment import Environment, Step

GRAVITY, SECONDS = 9.8, 0.2  # m/s^2, s a step
MASS, LENGTH, CENTER, INERTIA = 1.0, 1.0, 0.5, 1.0  # of each link: kg, m, m from its joint to its centre of mass, kg m^2
SPEED_LIMITS = (4 * math.pi, 9 * math.pi)  # rad/s


class Acrobot(Environment):
    """The joint of two links is turned by -1 (0), 0 (1) or 1 N m (2); reward -1 a step until the tip is 1 m above the fixed one.

    The observation is the cosine and sine of the first link's angle from hanging down, those of the second link's angle
    from the first link, and both angular velocities in rad/s, float32 `(6,)`.
    """

    name, observation, actions, time_limit = "acrobot", (6,), 3, 500

    def reset(self, batch, seed):
        """See `Environment.reset`. Angles and velocities are uniform in (-0.1, 0.1)."""
        physics = (randomness.uniform([batch, 4], seed) - 0.5) * 0.2
        return (physics, tf.zeros([batch], tf.int32)), observe(physics)

    def step(self, state, actions, seed):
        """See `Environment.step`. One step of the Runge-Kutta method of fourth order; the seed is not used."""
        physics, elapsed = state
        torque = tf.cast(actions, tf.float32) - 1.0
        slope1 = derivatives(physics, torque)
        slope2 = derivatives(physics + SECONDS / 2 * slope1, torque)
        slope3 = derivatives(physics + SECONDS / 2 * slope2, torque)
        slope4 = derivatives(physics + SECONDS * slope3, torque)
        physics += SECONDS / 6 * (slope1 + 2.0 * slope2 + 2.0 * slope3 + slope4)
        angle1, angle2, speed1, speed2 = tf.unstack(physics, axis=-1)
        angle1, angle2 = wrap(angle1), wrap(angle2)
        speed1 = tf.clip_by_value(speed1, -SPEED_LIMITS[0], SPEED_LIMITS[0])
        speed2 = tf.clip_by_value(speed2, -SPEED_LIMITS[1], SPEED_LIMITS[1])
        physics, elapsed = tf.stack([angle1, angle2, speed1, speed2], axis=-1), elapsed + 1
        terminated = -tf.cos(angle1) - tf.cos(angle1 + angle2) > 1.0  # the height of the tip over the fixed joint
        reward = tf.where(terminated, 0.0, -1.0)
        return Step((physics, elapsed), observe(physics), reward, terminated, elapsed >= self.time_limit)


def observe(physics):
    """What the agent sees of angles and velocities: `(B, 4)` -> `(B, 6)`."""
    angle1, angle2, speed1, speed2 = tf.unstack(physics, axis=-1)
    return tf.stack([tf.cos(angle1), tf.sin(angle1), tf.cos(angle2), tf.sin(angle2), speed1, speed2], axis=-1)


def derivatives(physics, torque):
    """The velocities and accelerations `(B, 4)` of the links (Sutton and Barto 1998, section 11.3)."""
    angle1, angle2, speed1, speed2 = tf.unstack(physics, axis=-1)
    cos, sin = tf.cos(angle2), tf.sin(angle2)
    coupling = MASS * LENGTH * CENTER
    d1 = MASS * CENTER**2 + MASS * (LENGTH**2 + CENTER**2) + 2.0 * coupling * cos + 2.0 * INERTIA
    d2 = MASS * CENTER**2 + coupling * cos + INERTIA
    phi2 = MASS * CENTER * GRAVITY * tf.sin(angle1 + angle2)
    phi1 = -coupling * sin * speed2 * (speed2 + 2.0 * speed1) + MASS * (CENTER + LENGTH) * GRAVITY * tf.sin(angle1) + phi2
    acceleration2 = torque + d2 / d1 * phi1 - coupling * tf.square(speed1) * sin - phi2
    acceleration2 /= MASS * CENTER**2 + INERTIA - tf.square(d2) / d1
    acceleration1 = -(d2 * acceleration2 + phi1) / d1
    return tf.stack([speed1, speed2, acceleration1, acceleration2], axis=-1)


def wrap(angle):
    """The same angle in [-pi, pi]."""
    return angle - 2 * math.pi * tf.floor((angle + math.pi) / (2 * math.pi))
