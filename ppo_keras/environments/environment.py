"""What an environment is: batched, functional and in TensorFlow, so that it compiles into the rollout."""

from typing import Any, NamedTuple

import tensorflow as tf

from ppo_keras.errors import check_role


class Step(NamedTuple):
    """What follows an action, for `B` copies of an environment.

    | field | shape | meaning |
    |---|---|---|
    | `state` | nest of `(B, ...)` | everything that the environment needs to go on |
    | `observation` | float32 `(B, ...)`, int32 | what the agent sees of it; of an episode that ended, the last observation |
    | `reward` | float32 `(B,)` | |
    | `terminated` | bool `(B,)` | the episode ended by its own rules: nothing can be earned any more |
    | `truncated` | bool `(B,)` | the episode was cut off by a time limit: more could have been earned |
    """

    state: Any
    observation: tf.Tensor
    reward: tf.Tensor
    terminated: tf.Tensor
    truncated: tf.Tensor


class Environment:
    """`B` copies of one environment side by side, as pure functions. A subclass defines `reset` and `step`.

    They are traced as they stand, without AutoGraph: choose with `tf.where`, loop with `tf.while_loop`.

    | attribute | meaning |
    |---|---|
    | `observation` | shape of the float32 observations, or the number of states that an int32 observation names |
    | `actions` | a count, a list of counts, or a distribution (see `ActorCritic`) |
    | `time_limit` | steps after which an episode is cut off |
    | `vocabulary_size` | where an observation is a text, int32 token ids: they are below it; else None |
    """

    name, compiles = "environment", True
    observation: Any = ()
    actions: Any = 2
    time_limit = 500
    vocabulary_size = None

    def reset(self, batch, seed):
        """Begins `batch` episodes. Returns their states and first observations.

        Args:
            batch: `B`.
            seed: int32 `(2,)`: the same seed begins the same episodes.
        """
        raise NotImplementedError(f"{type(self).__name__} must define reset(batch, seed) -> state, observation.")

    def step(self, state, actions, seed):
        """Takes an action in each copy. Returns a `Step`; the collector resets what ended.

        Args:
            state: from `reset` or `step`.
            actions: int32 `(B,)`, or what `actions` says.
            seed: int32 `(2,)`, for environments with chance.
        """
        raise NotImplementedError(f"{type(self).__name__} must define step(state, actions, seed) -> Step.")

    def action_masks(self, state):
        """bool `(B, A)`, False where an action is not allowed, of several choices all side by side; () where all are.

        Each state that is not the end of an episode must allow something (of each choice).
        """
        return ()


def check_agent(policy, environment):
    """Raises `InputError` unless the one can act and the other is an environment of ours."""
    advice = "Use one such as MLPActorCritic(environment.observation, environment.actions)."
    check_role("policy", policy, ("initial_state", "step", "distribution", "has_memory"), advice)
    advice = "Use one such as GridWorld(...), a subclass of Environment, or for Gymnasium's GymnasiumEnvironment('CartPole-v1')."
    check_role("environment", environment, ("reset", "step", "observation", "actions", "compiles"), advice)


def where_each(condition, x, y):
    """`tf.where` of two nests by one condition `(B,)`."""

    def choose(a, b):
        return tf.where(tf.reshape(condition, [-1, *[1] * (a.shape.rank - 1)]), a, b)

    return tf.nest.map_structure(choose, x, y)
