"""The errors that a user can mend, and checks of arguments that raise them. The command line prints them as one line and exits with code 2."""

from numbers import Integral


class InputError(ValueError):
    """Something given from outside (a file, an option, a setting) cannot be used; the message says what to do."""


class RewardError(InputError):
    """A reward function raised, or did not return one finite number."""


class EnvironmentFault(InputError):
    """An environment raised, or returned what it must not: a number that is not finite, another shape than it declares, no action to take."""


class ResumeError(InputError):
    """A run cannot go on: its version, its settings or its data are not those that began it."""


class NonFiniteError(ArithmeticError):
    """A metric became NaN or infinite during training."""


class DataWarning(UserWarning):
    """Something in the data is not as it should be, and was put right."""


class ResumeWarning(UserWarning):
    """A run does not go on exactly where it stopped: a file was cut off or altered, or an environment does not repeat itself."""


class LockWarning(UserWarning):
    """Nothing keeps a second process from training the same run."""


class HealthWarning(UserWarning):
    """A metric shows that training goes wrong."""


def require(condition, message):
    """Raises `InputError(message)` unless `condition` holds."""
    if not condition:
        raise InputError(message)


def shown(value, longest=120):
    """What was given, short enough for an error of one line."""
    text = " ".join(repr(value).split())
    return text if len(text) <= longest else f"{text[: longest - 20]} ... ({type(value).__name__})"


def line_of(error, longest=300):
    """What an error of another library says, with its kind, on one line."""
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return text if len(text) <= longest else f"{text[: longest - 4]} ..."


def check_count(name, value, least=1, example=100):
    """Raises `InputError` unless `value`, an argument called `name`, is a whole number of `least` or more."""
    if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
        raise InputError(f"{name}={shown(value)} is no whole number of {least} or more. Use one such as {example}.")


def check_seed(seed, name="seed"):
    """Raises `InputError` unless TensorFlow can hold it: a whole number from 0 to 2^31 - 1."""
    if not isinstance(seed, Integral) or isinstance(seed, bool) or not 0 <= seed < 2**31:
        raise InputError(f"{name}={shown(seed)} is outside [0, 2^31). Use a number such as 1.")


def check_role(name, given, needed, advice):
    """Raises `InputError` unless `given`, an argument called `name`, can do what is `needed` (names of attributes)."""
    if isinstance(given, type):
        raise InputError(f"{name} is the class {given.__name__}, expected an object of it. Write {given.__name__}(...).")
    lacking = [attribute for attribute in needed if not hasattr(given, attribute)]
    if lacking:
        raise InputError(f"{name} is {shown(given)}, which has no {', '.join(lacking)}. {advice}")


def check_instance(name, given, kind):
    """Raises `InputError` unless `given`, an argument called `name`, is None or an instance of the class `kind`."""
    if given is not None and not isinstance(given, kind):
        raise InputError(f"{name} is {shown(given)}, expected a {kind.__name__}. Write {kind.__name__}(...), or leave it out.")
