"""What a reward function in Python reads (texts, one or lists of them, and columns of the data by name) and where it is found.

Nothing here loads TensorFlow: a reward runs in processes of its own too.
"""

import copy
import inspect
from typing import NamedTuple

from ppo_keras.datasets.sources import Wanted
from ppo_keras.errors import InputError, require
from ppo_keras.own_modules import import_own

LISTS = {"prompts": 0, "responses": 1, "completions": 1}  # names of parameters that are lists of texts
NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


class Call(NamedTuple):
    """One call of a reward function: what it is given by position, and by name."""

    texts: tuple
    named: dict


class CallFailed(Exception):
    """A call gave no value.

    Attributes:
        number: of the call.
        what: it did instead, such as "raised KeyError: 'stars'".
    """

    def __init__(self, number, what):
        super().__init__(number, what)
        self.number, self.what = number, what


class RewardFunction:
    """A function with what its signature says of it.

    The first two parameters are the prompt and the response, whatever they are called; every further one is a column of the data,
    which need not be there where it has a default. `**columns` stands for all columns. Where one of the first two is called
    `prompts`, `responses` or `completions` (as in TRL), the function takes lists: these by their names, in any order, and lists
    of the values of the columns.

    Args:
        function: the function.
        name: what messages call it.
        batched: whether it takes lists; None: as the names say.

    Raises:
        InputError: a column can only be given by position.
    """

    def __init__(self, function, name, batched=None):
        self.function, self.name = function, name
        try:
            parameters = list(inspect.signature(function).parameters.values())
        except (TypeError, ValueError):  # some functions in C do not say what they take
            parameters = []
        positional = [p for p in parameters if p.kind in (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)]
        by_name = any(p.name in LISTS for p in positional[:2])
        self.batched = by_name if batched is None else batched
        self.by_name = [p.name for p in parameters if p.name in LISTS and p.kind in NAMED] if by_name and self.batched else []
        self.texts = self.by_name or [p.name for p in positional[:2]]
        further = [p for p in parameters if p.name not in self.texts]
        for p in further:
            require(
                p.kind is not inspect.Parameter.POSITIONAL_ONLY,
                f"reward {name} takes {p.name!r} by position only, but columns are given by name. Leave out the / in its signature.",
            )
        names = [p for p in further if p.kind in NAMED]
        self.columns = Wanted(
            needed=tuple(p.name for p in names if p.default is inspect.Parameter.empty),
            optional=tuple(p.name for p in names if p.default is not inspect.Parameter.empty),
            every=any(p.kind is inspect.Parameter.VAR_KEYWORD for p in further),
            by=f"reward {name}",
        )

    def calls(self, prompts, responses, rows, shares=1):
        """What the function is called with.

        Args:
            prompts, responses: lists of B str.
            rows: list of B dicts, {column: value}, which are copied: somebody else's code may change what it is given.
            shares: into how many calls a function of lists has its batch split.

        Returns:
            A list of `Call`: B of a function of single texts, up to `shares` of one that takes lists.
        """
        if not self.batched:
            return [Call((prompt, response), self._named(row)) for prompt, response, row in zip(prompts, responses, rows)]
        bounds = [len(prompts) * i // shares for i in range(shares + 1)]
        return [self._lists(prompts[i:j], responses[i:j], rows[i:j]) for i, j in zip(bounds, bounds[1:]) if i < j]

    def _lists(self, prompts, responses, rows):
        columns = [self._named(row) for row in rows]
        named, texts = {name: [row[name] for row in columns] for name in columns[0]}, (list(prompts), list(responses))
        if self.by_name:
            return Call((), {name: texts[LISTS[name]] for name in self.by_name} | named)
        return Call(texts, named)

    def _named(self, row):
        wanted = self.columns
        names = [name for name in row if name in wanted.needed + wanted.optional or (wanted.every and name not in self.texts)]
        return copy.deepcopy({name: row[name] for name in names})


def call_here(function, calls):
    """The values of the calls, in this process. Raises `CallFailed` at the first that raises."""
    values = []
    for number, call in enumerate(calls):
        try:
            values.append(function(*call.texts, **call.named))
        except (Exception, SystemExit) as error:  # somebody else's code may raise anything
            raise CallFailed(number, f"raised {type(error).__name__}: {error}") from error
    return values


def load_function(name):
    """The Python function that `module:function` names; modules are found in the current folder too.

    Raises:
        InputError: there is no such module or function, or the module cannot be imported.
    """
    module_name, colon, function_name = name.partition(":")
    if not (module_name and colon and function_name):
        raise InputError(f"--reward {name!r} is not of the form module:function, such as my_rewards:mentions_an_animal.")
    module = import_own(module_name, f"--reward {name}")
    function = getattr(module, function_name, None)
    if not callable(function):
        known = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise InputError(f"--reward {name}: {module_name} has no function {function_name!r}; it has {', '.join(known) or 'none'}.")
    return function
