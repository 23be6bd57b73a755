"""Do a policy and an environment belong together? Asked before any work, because most that do not would learn nonsense without a word."""

from numbers import Integral

from ppo_keras.distributions import Categorical, DiagonalGaussian, MultiCategorical, distribution_of
from ppo_keras.errors import InputError


def check_match(policy, environment):
    """Raises `InputError` unless the policy reads what the environment shows, and does what it takes; names both sides.

    Args:
        policy: an actor-critic; of one of your own that does not say what it reads (`inputs_read`) only the actions are compared.
        environment: an `Environment` or a `GymnasiumEnvironment`.
    """
    differences, taken = [], distribution_of(environment.actions)
    if hasattr(policy, "inputs_read") and not _reads(policy, environment):
        reads, shows = _observations(policy.inputs_read, _vocabulary(policy)), _observations(environment.observation, _vocabulary(environment))
        differences.append(f"the policy reads {reads}, the environment shows {shows}")
    if type(policy.distribution) is not type(taken) or policy.distribution.get_config() != taken.get_config():
        differences.append(f"the policy chooses {_actions(policy.distribution)}, the environment takes {_actions(taken)}")
    if differences:
        raise InputError(
            f"policy and environment {environment.name} do not fit: {'; '.join(differences)}. Make the policy with environment.observation and environment.actions."
        )


def _reads(policy, environment):
    of_policy, of_environment = _vocabulary(policy), _vocabulary(environment)
    if (of_policy is None) != (of_environment is None) or _plain(policy.inputs_read) != _plain(environment.observation):
        return False
    return of_policy is None or of_policy >= of_environment


def _vocabulary(one):
    return getattr(one, "vocabulary_size", None)


def _plain(observation):
    return int(observation) if isinstance(observation, Integral) else tuple(observation)


def _observations(observation, vocabulary):
    if vocabulary is not None:
        return f"texts of {observation[0]} token ids below {vocabulary}"
    return f"one of {observation} states" if isinstance(observation, Integral) else f"real numbers of shape {tuple(observation)}"


def _actions(distribution):
    if isinstance(distribution, Categorical):
        return f"one of {distribution.count} actions"
    if isinstance(distribution, MultiCategorical):
        return f"{len(distribution.counts)} actions at once, out of {', '.join(map(str, distribution.counts))}"
    return f"{distribution.dimensions} real numbers" if isinstance(distribution, DiagonalGaussian) else type(distribution).__name__
