"""The errors that a user can mend. The command line prints them as one line and exits with code 2."""


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
