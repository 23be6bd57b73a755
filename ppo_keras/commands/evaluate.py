"""The command `evaluate`: the numbers of one run or several, each with its confidence interval."""

from contextlib import closing

from ppo_keras.reports.measures import measure, measure_training, over_seeds
from ppo_keras.reports.statistics import CONFIDENCE
from ppo_keras.reports.tables import print_measures
from ppo_keras.runs.folder import Run
from ppo_keras.tasks.opening import check_numbers, open_job, task_of


def evaluate(options):
    """Measures runs, prints a table, and leaves `evaluation.json` and `evaluation.png` in the folder of each.

    Args:
        options: a namespace with the options of `ppo-keras evaluate`.

    Returns:
        What `evaluation.json` holds, a dict for each run.

    Raises:
        InputError: a run cannot be measured, or an option is out of range; nothing is written.
    """
    check_numbers(options)
    runs = [Run.open(name, options.runs_folder) for name in options.run]
    results = [evaluate_run(run, options) for run in runs]

    from ppo_keras.reports import pictures  # matplotlib takes a second to load

    picture = pictures.png(pictures.measure_bars(results))
    for run, result in zip(runs, results):
        run.save_json("evaluation.json", result)
        run.save_bytes("evaluation.png", picture)
    print_measures(results)
    return results


def evaluate_run(run, options):
    """What `evaluation.json` holds of one run; of several seeds, the means over them, and each."""
    task, seeds = task_of(run), run.seeds()
    measured = [evaluate_seed(part, options) for part in seeds or [run]]
    count, units, measures = measured[0]
    result = {"run": str(run.folder), "task": task, "stage": options.stage, "seed": options.seed, "count": count, "units": units}
    reward_is = (seeds or [run])[0].load_json("config.json").get("reward_is")
    result |= {"reward_is": reward_is} if reward_is else {}
    plain = lambda measures: {name: interval._asdict() for name, interval in measures.items()}
    if seeds:
        result |= {"seeds": {part.folder.name: plain(measures) for part, (*_, measures) in zip(seeds, measured)}}
        measures = over_seeds([measures for *_, measures in measured])
    return result | {"confidence": CONFIDENCE, "measures": plain(measures)}


def evaluate_seed(run, options):
    """How many units were measured, what they are, and {name: `Interval`}."""
    with closing(open_job(run, options.stage)) as job:
        sample = job.sample(options.count, options.seed)
    return len(sample.rewards), job.units, measure(sample, job.earned) | measure_training(run)
