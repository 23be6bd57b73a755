"""The command `train`: a task is trained, or a run that was stopped goes on."""

import importlib
from dataclasses import asdict, replace

from ppo_keras.commands.quiet import quiet_start
from ppo_keras.errors import InputError
from ppo_keras.runs.elsewhere import find_files
from ppo_keras.runs.folder import PLACE, SHARING, Run, flat
from ppo_keras.tasks.config import TASKS as TEXT_TASKS


def train(task, parsed, arguments):
    """Trains a task.

    Args:
        task: its name on the command line.
        parsed: the namespace: `config`, its settings, and `resume`, a run to go on with or None.
        arguments: the words of the command line, which say what was given and what is a default.
    """
    config, resume = resumed(parsed, arguments)
    of_text = task in TEXT_TASKS
    with quiet_start() as started:
        module = importlib.import_module(f"ppo_keras.tasks.{task.replace('-', '_') if of_text else 'environment'}")
        if not of_text:
            started.one_thread = config.one_thread(module.shape_of_observations(task))
        started.sharing = config.sharing
    module.train(config, resume) if of_text else module.train(task, config, resume)


def resumed(parsed, arguments):
    """The settings to train with, and whether a run goes on with them: then they are the run's own.

    Raises:
        InputError: there is no such run, it is of another task, or an option is given that differs from its settings.
    """
    if parsed.resume is None:
        return parsed.config, False
    run, task = Run.open(parsed.resume, parsed.config.runs_folder), arguments[1]
    config, trained = run.load_settings(type(parsed.config)), run.load_json("config.json").get("task")
    if trained != task:
        raise InputError(f"{run.folder} is a run of the task {trained!r}, not of {task!r}. Use: ppo-keras train {trained} --resume {run.folder}")
    given, saved = dict(flat(asdict(parsed.config))), dict(flat(asdict(config)))
    for name, value in given.items():
        options = {f"--{name.replace('_', '-')}", f"--no-{name.replace('_', '-')}"}
        named = options & {argument.split("=")[0].replace("_", "-") for argument in arguments}
        if named and value != saved[name] and name not in (*PLACE, *SHARING):
            raise InputError(f"{run.folder} was begun with {name}={saved[name]}, but {named.pop()} now says {value}. Leave the option out, or begin a new run.")
    folder = run.folder if run.folder.name not in ("", "..") else run.folder.resolve()
    return replace(find_files(run, config), run=folder.name, runs_folder=str(folder.parent), sharing=parsed.config.sharing), True
