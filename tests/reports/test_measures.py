"""`ppo_keras.reports.measures`: what is said of a sample and of the files of a run, against plain loops."""

import numpy as np
import pytest

from ppo_keras.errors import InputError
from ppo_keras.reports.measures import MEASURES, Sample, measure, measure_training, over_seeds
from ppo_keras.reports.statistics import Interval
from ppo_keras.runs.folder import Run

LENGTHS = (3, 1, 2)


@pytest.fixture
def sample():
    random = np.random.default_rng(1)
    mask = (np.arange(3) < np.array(LENGTHS)[:, np.newaxis]).astype(float)
    padded = lambda: np.where(mask > 0, random.normal(size=[3, 3]), np.nan)
    return Sample(np.array([1.0, 2.0, 6.0]), np.array([2.0, 2.0, 3.0]), padded(), padded(), mask, np.array([0.5, 0.25, 0.0]))


def test_a_sample_against_loops(sample):
    """Catches: padding that counts, a mean of episodes' means for one over steps, greedy and sampled mixed up."""
    found = measure(sample, "reward")
    steps = [(i, t) for i, length in enumerate(LENGTHS) for t in range(length)]
    advantages = [sample.advantages[step] for step in steps]
    average = sum(advantages) / 6
    assert found["reward"].estimate == 3.0 and found["reward_greedy"].estimate == pytest.approx(7 / 3) and found["kl"].estimate == 0.25
    assert found["advantage_mean"].estimate == pytest.approx(average)
    assert found["advantage_std"].estimate == pytest.approx((sum((a - average) ** 2 for a in advantages) / 5) ** 0.5)
    assert found["entropy"].estimate == pytest.approx(sum(sample.entropies[step] for step in steps) / 6)
    assert all(np.isfinite(interval).all() and interval.low <= interval.estimate <= interval.high for interval in found.values())


def test_what_is_not_known_is_left_out(sample):
    """Catches: advantages in unknown units, a KL of 0 where there is no reference; a measure that no table has a label for."""
    found = measure(sample._replace(advantages=None, kl=None), "return")
    assert set(found) == {"return", "return_greedy", "entropy"} and set(found) | set(measure(sample, "reward")) <= set(MEASURES)


def written_run(folder, rows, seconds=None):
    run = Run.create(folder, "a")
    for i, (pace, time, kl) in enumerate(rows):
        run.append_metrics({"iteration": i + 1, "policy/approx_kl": kl, "time/tokens_per_second": pace, "time/iteration_seconds": time})
    if seconds:
        run.save_json("summary.json", {"seconds": seconds})
    return run


def test_time_and_pace_of_a_run(tmp_path):
    """Catches: the iteration that compiles counted in, a mean of paces for tokens over seconds, the KL of all updates for the last."""
    rows = [(1.0, 100.0, 9.0), (600.0, 1.0, 9.0), (200.0, 3.0, 9.0), *[(400.0, 1.0, 9.0)] * 15, (400.0, 1.0, 0.2), (400.0, 1.0, 0.4)]
    found = measure_training(written_run(tmp_path, rows, 12.5))
    assert found["seconds"] == (12.5, None, None)
    assert found["tokens_per_second"].estimate == pytest.approx((600 + 600 + 17 * 400) / (1 + 3 + 17))
    assert found["update_kl"].estimate == pytest.approx(0.3) and "steps_per_second" not in found


def test_a_run_that_was_stopped_has_no_time(tmp_path):
    """Catches: a traceback, or the time of another run, where there is no summary or no line of metrics."""
    assert measure_training(written_run(tmp_path, [])) == {}
    run = Run.create(tmp_path, "b")
    run.append_metrics({"iteration": 1, "policy/approx_kl": 0.5, "time/steps_per_second": 50.0, "time/iteration_seconds": 2.0})
    assert measure_training(run) == {"update_kl": (0.5, None, None), "steps_per_second": (50.0, None, None)}


@pytest.mark.parametrize("summary, metrics", [('{"seconds": "long"}', None), ("{}", None), (None, "iteration\n1\n"), (None, "policy/approx_kl\nx\n")])
def test_damaged_records_are_named(tmp_path, summary, metrics):
    """Catches: a traceback that names neither run nor file."""
    run = Run.create(tmp_path, "a")
    for name, content in (("summary.json", summary), ("metrics.csv", metrics)):
        if content:
            (run.folder / name).write_text(content)
    with pytest.raises(InputError, match="summary.json or metrics.csv in .*a is damaged"):
        measure_training(run)


def test_seeds_are_units():
    """Catches: a measure that one seed lacks, averaged over the others."""
    measures = [{"return": Interval(1.0, 0.0, 2.0), "seconds": Interval(5.0, None, None)}, {"return": Interval(3.0, 3.0, 3.0)}]
    assert over_seeds(measures) == {"return": (2.0, 1.0, 3.0)}
