"""A run that was trained, opened again: the job that trained it, with the models that it saved.

Every job that is opened has

| attribute | meaning |
|---|---|
| `earned`, `units` | what it earns, "return" or "reward", and in what: "episodes", "prompts" or "texts" |
| `sample(count, seed)` | the `Sample` of `count` units, of text those of the test split |
| `answer(other, count, seed, greedy)` | prompts, responses and scores, by the measure of `other`, an opened run of the same task and data |
"""

from dataclasses import replace

from ppo_keras.environments.config import TASKS as AGENT_TASKS
from ppo_keras.environments.config import kind_of
from ppo_keras.errors import InputError, check_seed, require
from ppo_keras.runs.elsewhere import find_files
from ppo_keras.tasks.answering import AnsweringJob
from ppo_keras.tasks.classification import ClassificationJob
from ppo_keras.tasks.config import TASKS as TEXT_TASKS
from ppo_keras.tasks.config import TextConfig
from ppo_keras.tasks.environment import AgentJob
from ppo_keras.tasks.generation import GenerationJob
from ppo_keras.tasks.question_answering import QuestionAnswering
from ppo_keras.tasks.training import plain_errors
from ppo_keras.tasks.translation import Translation


def open_job(run, stage, temperature=None, chat_memory=None):
    """The job of a run of one seed.

    Args:
        run: a `Run`.
        stage: "before", "after" or "best".
        temperature: instead of the one it was trained at.
        chat_memory: how many tokens a chat may have, where it is a run with `--chat`: more than in training, up to what the checkpoint knows.

    Raises:
        InputError: its task is none of the command line's, it has no such weights, a file is damaged, or the data changed.
    """
    run.check_one_seed()
    task = task_of(run)
    config = find_files(run, run.load_settings(TEXT_TASKS[task][0] if task in TEXT_TASKS else kind_of(task)))
    if temperature is not None:
        config = replace(config, ppo=replace(config.ppo, temperature=temperature))
    with plain_errors():
        job = make_job(task, config, run)
        memory = chat_memory if isinstance(config, TextConfig) and config.checkpoint.chat else None
        job.open(stage, **({"memory": memory} if memory else {}))
    return job


def task_of(run):
    """The task of a run. Raises `InputError` where it is none of the command line's."""
    task = str(run.load_json("config.json").get("task"))
    if task not in (*TEXT_TASKS, *AGENT_TASKS) and not task.startswith("gym:"):
        known = ", ".join((*TEXT_TASKS, *AGENT_TASKS, "gym:ID"))
        raise InputError(f"{run.folder} is a run of the task {task!r}. Expected one of: {known}. With a task of your own, ppo-keras generate works.")
    return task


def make_job(task, config, run):
    """The job of a task, without models yet."""
    if task == "generation":
        return GenerationJob(config, run)
    if task == "classification":
        return ClassificationJob(config, run)
    if task == "question-answering":
        return AnsweringJob(config, QuestionAnswering(config), run)
    if task == "translation":
        return AnsweringJob(config, Translation(config), run)
    return AgentJob(task, config, run)


def check_numbers(options):
    """Raises `InputError` where `--samples` or `--seed` is out of range."""
    require(options.count is None or options.count >= 1, f"--samples {options.count} is less than 1. Use a number such as 100.")
    check_seed(options.seed, "--seed")


def check_temperature(temperature):
    """Raises `InputError` unless `--temperature`, None where it is not given, divides logits."""
    require(temperature is None or 0 < temperature < float("inf"), f"--temperature {temperature} is not positive. Use --greedy for no randomness.")
