"""Several seeds of one task: each a run of its own inside the run's folder, and their means and spread."""

import time
from dataclasses import replace

import numpy as np

from ppo_keras.reports.tables import print_seeds


def each_seed(config, make_job):
    """What `run_job` calls to make the job: that of one seed, or `SeveralSeeds`.

    Args:
        config: with `seed` and `seeds`.
        make_job: a function of the settings of one seed.
    """
    return lambda: make_job(config) if config.seeds == 1 else SeveralSeeds(config, make_job)


class SeveralSeeds:
    """Trains with one seed after the other. Each is the run that it would be alone; of one that goes on, those that ended are kept.

    Args:
        config, make_job: see `each_seed`.
    """

    def __init__(self, config, make_job):
        self.config, self.make_job, self.began = config, make_job, time.perf_counter()
        self.job = self.make(config.seed)

    def make(self, seed):
        """The job of one seed."""
        return self.make_job(replace(self.config, seeds=1, seed=seed))

    @property
    def data(self):
        """See `TextJob`."""
        return self.job.data

    def close(self):
        """Closes the job that is there."""
        if self.job is not None:
            self.job.close()

    def prepare(self, run, interrupt):
        """Writes the settings and prepares the first seed."""
        run.save_config(self.config, task=self.job.task_name)
        part = run.part(f"seed-{self.config.seed}")
        if not part.ended:
            self.job.prepare(part, interrupt)

    def improve(self, run, interrupt):
        """Trains all seeds. Returns one summary of all."""
        summaries = []
        for seed in range(self.config.seed, self.config.seed + self.config.seeds):
            part = run.part(f"seed-{seed}")
            if part.ended:
                summaries.append(part.load_json("summary.json"))
                continue
            if seed != self.config.seed:
                self.close()
                self.job = self.make(seed)
                self.job.prepare(part, interrupt)
            summaries.append(self.job.improve(part, interrupt))
            self.close()
            self.job = None  # its models make room
        facts = {name: value for name, value in summaries[0].items() if not isinstance(value, float)}
        measures = [name for name in summaries[0] if name not in facts and name != "seconds"]
        summary = facts | spread(summaries, measures) | {"seconds": time.perf_counter() - self.began, "seeds": summaries}
        run.save_json("summary.json", summary)
        print_seeds(summary, measures, run.folder)
        return summary


def spread(summaries, names):
    """Mean, standard deviation (Bessel), least and most of numbers of several summaries; None where one of them is None.

    Example:
        >>> spread([{"kl": 1.0}, {"kl": 3.0}], ["kl"])
        {'kl': 2.0, 'kl_std': 1.4142135623730951, 'kl_min': 1.0, 'kl_max': 3.0}
    """
    found = {}
    for name in names:
        values = [summary[name] for summary in summaries]
        if None in values:
            found[name] = None
            continue
        found |= {name: float(np.mean(values)), f"{name}_std": float(np.std(values, ddof=1)), f"{name}_min": min(values), f"{name}_max": max(values)}
    return found
