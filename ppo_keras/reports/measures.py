"""What `ppo-keras evaluate` says of a run: the numbers of a sample of episodes or responses, each with its interval."""

import csv
from typing import NamedTuple

import numpy as np

from ppo_keras.errors import InputError
from ppo_keras.reports import statistics

MEASURES = {  # name: what a table calls it, and how it is written
    "return": ("return of an episode, sampled", ".3f"),
    "return_greedy": ("return of an episode, greedy", ".3f"),
    "reward": ("reward of a response, sampled", ".3f"),
    "reward_greedy": ("reward of a response, greedy", ".3f"),
    "advantage_mean": ("advantage: mean", ".3f"),
    "advantage_std": ("advantage: standard deviation", ".3f"),
    "kl": ("KL from the reference, nats a response", ".3f"),
    "update_kl": ("KL of the last updates, nats a step", ".4f"),
    "entropy": ("entropy, nats a step (token)", ".3f"),
    "seconds": ("run time, s", ",.1f"),
    "tokens_per_second": ("tokens a second", ",.0f"),
    "steps_per_second": ("steps a second", ",.0f"),
}


class Sample(NamedTuple):
    """What N units (episodes, or prompts with their responses) were like; a step of a response is a token.

    | field | shape | meaning |
    |---|---|---|
    | `rewards` | float `(N,)` | return of the episode; mean score of the prompt's responses |
    | `greedy_rewards` | float `(N,)` | the same of the most probable actions |
    | `advantages` | float `(N, T)` or None | of every step, before whitening; None where the critic's units are not known |
    | `entropies` | float `(N, T)` | of the policy before every step, nats |
    | `mask` | float `(N, T)` | 1 where a step was made |
    | `kl` | float `(N,)` or None | divergence from the reference, nats a response; None where there is no reference |
    """

    rewards: np.ndarray
    greedy_rewards: np.ndarray
    advantages: np.ndarray | None
    entropies: np.ndarray
    mask: np.ndarray
    kl: np.ndarray | None


def measure(sample, earned):
    """{name: `Interval`} of a `Sample`; `earned`: what its rewards are called, "return" or "reward"."""
    real = sample.mask > 0
    total = lambda values: np.sum(np.where(real, values, 0.0), axis=1)  # (N,)
    found = {earned: statistics.mean(sample.rewards), f"{earned}_greedy": statistics.mean(sample.greedy_rewards)}
    if sample.advantages is not None:
        found["advantage_mean"] = statistics.ratio(total(sample.advantages), real.sum(axis=1))
        found["advantage_std"] = statistics.standard_deviation(sample.advantages, sample.mask)
    if sample.kl is not None:
        found["kl"] = statistics.mean(sample.kl)
    return found | {"entropy": statistics.ratio(total(sample.entropies), real.sum(axis=1))}


def measure_training(run):
    """{name: `Interval`} of what a run wrote down itself: its time, its pace, and how far the last tenth of its updates went.

    Iterations are the units. The first line of `metrics.csv` says nothing of the pace where there are others: it compiles.
    """
    try:
        seconds = [float(run.load_json("summary.json")["seconds"])] if run.ended else []
        return measure_time(seconds, read_metrics(run))
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"summary.json or metrics.csv in {run.folder} is damaged ({type(error).__name__}: {error}). Train the run again.") from error


def measure_time(seconds, rows):
    """See `measure_training`.

    Args:
        seconds: of the whole run, a list of one number or none.
        rows: the lines of `metrics.csv`.
    """
    found = {"seconds": statistics.mean(seconds)} if seconds else {}
    if rows:
        last = rows[-max(1, len(rows) // 10) :]
        found["update_kl"] = statistics.mean([float(row["policy/approx_kl"]) for row in last])
    for name in ("tokens_per_second", "steps_per_second"):
        paces = [(float(row[f"time/{name}"]), float(row["time/iteration_seconds"])) for row in rows if row.get(f"time/{name}")]
        if paces:
            pace, seconds = np.array(paces[1:] or paces).T
            found[name] = statistics.ratio(pace * seconds, seconds)
    return found


def read_metrics(run):
    """The lines of `metrics.csv`, a list of {name: str}; empty where a run stopped before its first."""
    path = run.folder / "metrics.csv"
    if not path.exists():
        return []
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def over_seeds(measures):
    """{name: `Interval`} of the means of several seeds, which are then the units. Of two or three, an interval says little.

    Args:
        measures: for each seed {name: `Interval`}.
    """
    shared = [name for name in measures[0] if all(name in one for one in measures)]
    return {name: statistics.mean([one[name].estimate for one in measures]) for name in shared}
