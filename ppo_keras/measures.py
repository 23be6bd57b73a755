"""What `ppo-keras evaluate` says of a run: the numbers of a sample of episodes or responses, each with its interval."""

import csv
from typing import NamedTuple

import numpy as np

from ppo_keras import statistics
from ppo_keras.advantages import generalized_advantages
from ppo_keras.masking import whiten

LABELS = {  # measure: what a table calls it, and how it writes it
    "return": ("return of an episode", ".3f"),
    "return_greedy": ("return of an episode, greedy", ".3f"),
    "reward": ("reward of a response", ".3f"),
    "reward_greedy": ("reward of a response, greedy", ".3f"),
    "advantage_size": ("advantage: mean absolute", ".3f"),
    "advantage_std": ("advantage: standard deviation", ".3f"),
    "kl": ("KL from the reference (nats a response)", ".3f"),
    "entropy": ("entropy (nats a token or step)", ".3f"),
    "seconds": ("run time (s)", ",.1f"),
    "steps_per_second": ("steps a second", ",.0f"),
    "tokens_per_second": ("tokens a second", ",.0f"),
}


class Sample(NamedTuple):
    """What N units (episodes, or prompts with their responses) were like.

    | field | shape | meaning |
    |---|---|---|
    | `rewards` | float `(N,)` | return of the episode; mean score of the prompt's responses |
    | `greedy_rewards` | float `(N,)` or None | the same of the most probable actions |
    | `advantages` | float `(N, T)` or None | of every step, before whitening; None where the critic's units are not known |
    | `entropies` | float `(N, T)` | of the policy before every step, nats |
    | `weights` | float `(N, T)` | 1 where a step was made; a probability where every action is counted |
    | `kl` | float `(N,)` or None | divergence from the reference, nats a response |
    """

    rewards: np.ndarray
    greedy_rewards: np.ndarray | None
    advantages: np.ndarray | None
    entropies: np.ndarray
    weights: np.ndarray
    kl: np.ndarray | None


def raw_advantages(trajectory, config):
    """Advantages before they are whitened, as `PPO.estimate` has them. float32 `(B, T)`.

    Args:
        trajectory: has `rewards`, `values`, `next_values`, `ended` and `mask`, `(B, T)` each.
        config: a `PPOConfig`.
    """
    rewards, mask = trajectory.rewards, trajectory.mask
    if config.whiten_rewards:
        rewards = whiten(rewards, mask, shift_mean=False)
    parts = trajectory.values, trajectory.next_values, trajectory.ended, mask
    return generalized_advantages(rewards, *parts, config.discount, config.gae_lambda)[0].numpy()


def measure(sample, earned):
    """{name: `Interval`} of a `Sample`; `earned`: what its rewards are called, "return" or "reward"."""
    total = lambda values: np.sum(np.where(sample.weights > 0, values, 0.0) * sample.weights, axis=1)  # (N,)
    steps = sample.weights.sum(axis=1)
    found = {earned: statistics.mean(sample.rewards)}
    if sample.greedy_rewards is not None:
        found[f"{earned}_greedy"] = statistics.mean(sample.greedy_rewards)
    if sample.advantages is not None:
        found["advantage_size"] = statistics.ratio(total(np.abs(sample.advantages)), steps)
        found["advantage_std"] = statistics.standard_deviation(sample.advantages, sample.weights)
    if sample.kl is not None:
        found["kl"] = statistics.mean(sample.kl)
    return found | {"entropy": statistics.ratio(total(sample.entropies), steps)}


def measure_speed(run):
    """{name: `Interval`} of the time that a run took, where it has ended, and of what it did in a second.

    The iterations are the units of the second. The first line of `metrics.csv` is left out where there are others: it compiles.
    """
    found = {}
    if (run.folder / "summary.json").exists():
        found["seconds"] = statistics.Interval(run.load_json("summary.json")["seconds"], None, None)
    rows = read_metrics(run)
    for name in ("steps_per_second", "tokens_per_second"):
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
    """{name: `Interval`} of the means of several seeds, which are then the units.

    Args:
        measures: for each seed {name: `Interval`}.
    """
    shared = [name for name in measures[0] if all(name in one for one in measures)]
    return {name: statistics.mean([one[name].estimate for one in measures]) for name in shared}
