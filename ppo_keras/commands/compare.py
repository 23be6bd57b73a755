"""The command `compare`: two runs, or two stages of one, on the same prompts or the same episodes."""

from contextlib import ExitStack, closing
from dataclasses import fields

import numpy as np

from ppo_keras.environments.config import EnvironmentConfig
from ppo_keras.errors import InputError, require
from ppo_keras.reports import statistics
from ppo_keras.reports.tables import print_comparison
from ppo_keras.runs.folder import STAGES, Run
from ppo_keras.tasks.opening import check_numbers, open_job, task_of


def compare(options):
    """Prints responses side by side with the share of prompts on which the second wins; leaves `comparison.json` in the folder of the first.

    Both are scored by the reward of the first run.

    Args:
        options: a namespace with the options of `ppo-keras compare`.

    Returns:
        What `comparison.json` holds, a dict.

    Raises:
        InputError: the runs are not of the same task and data, or one cannot be opened; nothing is written.
    """
    check_numbers(options)
    require(options.show >= 0, f"--show {options.show} is negative. Use a number of rows such as 10.")
    (first, stage), (second, other_stage) = (split_stage(name) for name in (options.first, options.second))
    runs = [Run.open(name, options.runs_folder) for name in (first, second)]
    check_alike(*runs)
    with ExitStack() as stack:
        jobs = [stack.enter_context(closing(open_job(run, stage))) for run, stage in zip(runs, (stage, other_stage))]
        answers = [job.answer(jobs[0], options.count, options.seed, options.greedy) for job in jobs]
    result = compare_answers(*answers)
    names = [f"{run.folder}:{stage}" for run, stage in zip(runs, (stage, other_stage))]
    reward_is = runs[0].load_json("config.json").get("reward_is")
    result |= {"reward_is": reward_is} if reward_is else {}
    result = {"first": names[0], "second": names[1], "seed": options.seed, "greedy": options.greedy, "units": jobs[0].units} | result
    runs[0].save_json("comparison.json", result)
    print_comparison(result, options.show, runs[0].path("comparison.json"))
    return result


def split_stage(name):
    """A run and its stage: "reviews:best" is the best of reviews, "reviews" what PPO made of it."""
    run, _, stage = name.rpartition(":")
    return (run, stage) if run and stage in STAGES else (name, "after")


def check_alike(first, second):
    """Raises `InputError` where two runs are not of the same task and data (of agents, of the same environment)."""
    tasks, settings = [task_of(run) for run in (first, second)], [run.load_json("config.json") for run in (first, second)]
    facts = {"task": tasks, "texts": [one.get("texts") for one in settings]}
    if "texts" not in settings[0]:  # agents: what shapes the environment is what their class adds, and the map
        common = {field.name for field in fields(EnvironmentConfig)}
        of_world = [name for name in settings[0] if name not in common | {"versions", "map", "task", "working_folder"}]
        facts |= {name: [one.get(name) for one in settings] for name in of_world}
    for name, (one, other) in facts.items():
        if one != other:
            raise InputError(
                f"{first.folder} and {second.folder} cannot be compared: {name} is {one} in the first and {other} in the second. "
                "Compare runs of the same task and data."
            )


def compare_answers(first, second):
    """What `comparison.json` says of two lists of answers, each as (prompts, responses, scores).

    A prompt on which both score the same counts half for the second.
    """
    (prompts, responses, scores), (_, others, other_scores) = first, second
    scores, other_scores = (np.asarray(each, np.float64) for each in (scores, other_scores))
    wins = np.where(other_scores > scores, 1.0, np.where(other_scores == scores, 0.5, 0.0))
    columns = ("prompt", "first", "first_score", "second", "second_score")
    return {
        "second_wins": statistics.mean(wins)._asdict(),
        "difference": statistics.mean(other_scores - scores)._asdict(),
        "ties": float(np.mean(other_scores == scores)),
        "first_mean": statistics.mean(scores)._asdict(),
        "second_mean": statistics.mean(other_scores)._asdict(),
        "rows": [dict(zip(columns, row)) for row in zip(prompts, responses, scores.tolist(), others, other_scores.tolist())],
    }
