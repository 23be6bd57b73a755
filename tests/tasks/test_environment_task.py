"""`ppo_keras.tasks.environment` and `play`: whole trainings of agents, as small as they get, through the command line."""

import dataclasses
import json
import math
import shutil
import statistics
import types

import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from helpers import TEXT_METRICS, assert_close, tags_of

gymnasium = pytest.importorskip("gymnasium")

from ppo_keras.commands.parser import parse
from ppo_keras.environments import evaluation
from ppo_keras.environments.ppo import EnvironmentPPO
from ppo_keras.reports import pictures
from ppo_keras.runs import tensorboard
from ppo_keras.runs.folder import Run
from ppo_keras.runs.glossary import METRIC_NAMES
from ppo_keras.runs.models import load_policy
from ppo_keras.tasks import environment, play
from runs_of_agents import (
    HOOKED,
    MAP,
    TINY,
    command,
    contents,
    equal,
    error_line,
    metrics_of,
    old_run,
    timeless,
    trained,
    weights_in,
)

MEMORY = "--environments 4 --minibatches 2 --epochs 1 --steps 8 --width 16 --heads 2 --memory 4 --length 3 --environment-steps 640".split()
OPTIONS = {  # of the runs that all tests share
    "grid": ["gridworld", *TINY, "--environment-steps", "2048"],
    "cartpole": ["cartpole", *TINY, "--environment-steps", "2560", "--normalize-observations", "--normalize-rewards"],
    "lstm": ["repeat-first", *TINY, "--model", "lstm", *MEMORY],
    "transformer": ["t-maze", *TINY, "--model", "transformer", *MEMORY],
    "pendulum": ["gym:Pendulum-v1", *TINY, "--environment-steps", "1024", "--minibatches", "2", "--epochs", "2", "--evaluation-episodes", "2"],
}
KEYS = "task model seed environment_steps episode_return episode_length evaluation_return steps_per_second seconds".split()
OF_TEXTS = ("objective", "response", "writer", "reward", "judge")
AGENT_METRICS = [name for name in METRIC_NAMES if name.split("/")[0] not in OF_TEXTS and name not in ("time/episodes", "time/tokens_per_second")]


def pixels(content):
    return tf.io.decode_png(content, channels=4).numpy()


# Whole runs.


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def shared(folder):
    """A function: a run of `OPTIONS`, made at its first use."""
    made = {}

    def get(name):
        if name not in made:
            made[name] = trained(folder, name, *OPTIONS[name])
        return made[name]

    return get


@pytest.fixture(params=[pytest.param(name, marks=pytest.mark.full) if name == "transformer" else name for name in OPTIONS])
def done(request, shared):
    return shared(request.param)


@pytest.fixture(scope="module")
def seeds(folder):
    """The run "cartpole" with the seeds 3, 4 and 5, with what was traced and drawn."""
    with pytest.MonkeyPatch.context() as patch:
        traces, plays, drawn = [], [], []
        collect, play_compiled, learning_curve = EnvironmentPPO.collect, evaluation.Player._compiled_round, pictures.learning_curve
        patch.setattr(EnvironmentPPO, "collect", lambda self, data: traces.append(1) or collect(self, data))
        patch.setattr(evaluation.Player, "_compiled_round", lambda *rest: plays.append(1) or play_compiled(*rest))
        patch.setattr(pictures, "learning_curve", lambda curves, *rest: drawn.append(curves) or learning_curve(curves, *rest))
        done = trained(folder, "seeds", *OPTIONS["cartpole"], "--seed", "3", "--seeds", "3")
    done.traces, done.plays, done.drawn = len(traces), len(plays), drawn
    return done


def test_a_run_leaves_every_file_of_the_table(done):
    """Catches: a file that `Run` promises and no step writes, a picture left out, temporary files that stay."""
    files = set(contents(done.run.folder))
    events = {name for name in files if name.startswith("events.out.tfevents.")}
    training = {name for name in files if name.startswith("checkpoints/training-")}
    assert events and 1 <= len(training) <= 2 and all(name.endswith(".npz") for name in training)
    expected = {"config.json", "metrics.csv", "summary.json", "learning_curve.png", "checkpoints/best.keras", "checkpoints/policy.keras"}
    assert files - events - training == expected | ({"grid.png"} if done.options[0] == "gridworld" else set())


def test_the_summary_holds_every_key(done):
    """Catches: a key of the issue left out, a value that is missing or no number, the settings of another run."""
    summary, config = done.run.load_json("summary.json"), parse(["train", *done.options]).config
    assert set(KEYS) <= set(summary)
    assert (summary["task"], summary["model"], summary["seed"]) == (done.options[0], config.model, 4)
    assert all(math.isfinite(value) for name, value in summary.items() if name not in ("task", "model"))
    assert summary["environment_steps"] == metrics_of(done.run)[-1]["time/environment_steps"] >= config.environment_steps
    assert summary["environment_steps"] < config.environment_steps + config.environments * config.steps


def test_the_config_file_holds_the_options(done):
    """Catches: a run that cannot be repeated from its folder, or one whose task cannot be told."""
    config = json.loads(json.dumps(dataclasses.asdict(parse(["train", *done.options]).config)))
    saved = done.run.load_json("config.json")
    assert {name: saved[name] for name in config} == config
    assert saved["task"] == done.options[0] and set(saved["versions"]) == {"ppo_keras", "keras", "tensorflow"}
    assert saved.get("rows") == (["SG", "SS"] if done.options[0] == "gridworld" else None)


def test_metrics_have_a_row_a_call_and_the_names_of_the_glossary(done):
    """Catches: a metric that is not in the glossary, an entry that nothing writes, a call left out, steps counted wrongly."""
    config, rows = parse(["train", *done.options]).config, metrics_of(done.run)
    assert [row["iteration"] for row in rows] == [i + 1 for i in range(config.iterations)]
    assert sorted(rows[0]) == sorted(["iteration", *AGENT_METRICS])
    unknown = {(name, row["episode/count"]) for row in rows for name, value in row.items() if value is None}  # before the first end
    assert unknown == ({("episode/return", 0), ("episode/length", 0)} if "gym:Pendulum-v1" in done.options else set())
    assert all(math.isfinite(value) for row in rows for value in row.values() if value is not None)
    per_iteration = config.environments * config.steps
    for row in rows:
        assert row["time/environment_steps"] == row["iteration"] * per_iteration
        assert row["time/steps_per_second"] * row["time/iteration_seconds"] == pytest.approx(per_iteration)
        assert row["optimizer/steps"] == config.ppo.epochs * config.ppo.minibatches
    rate = lambda row: config.optimizer.learning_rate * (1 - (row["iteration"] - 1) / len(rows))
    assert [row["optimizer/learning_rate"] for row in rows] == pytest.approx([rate(row) for row in rows], rel=1e-4)


def test_tensorboard_shows_the_same_and_the_pictures(done):
    """Catches: a tag that TensorBoard lacks or names differently, a picture that is not the one in the folder."""
    events = EventAccumulator(str(done.run.folder), size_guidance={"tensors": 0})
    events.Reload()
    names = ["learning_curve", "grid"] if done.options[0] == "gridworld" else ["learning_curve"]
    scalars = set(tags_of(events, "scalars"))
    assert {tag for tag in scalars if not tag.startswith(("final/", tensorboard.OVERVIEW))} == set(AGENT_METRICS)
    assert {tag for tag in tags_of(events, "images") if tag.startswith("pictures/")} == {f"pictures/{name}" for name in names}
    assert not set(AGENT_METRICS) - set(METRIC_NAMES) and set(TEXT_METRICS) & set(AGENT_METRICS)
    for tag in AGENT_METRICS:
        values = [(event.step, float(tf.make_ndarray(event.tensor_proto))) for event in events.Tensors(tag)]
        assert values == [(row["time/environment_steps"], pytest.approx(row[tag], rel=1e-5)) for row in metrics_of(done.run) if row[tag] is not None]
    for name in names:
        (event,) = events.Tensors(f"pictures/{name}")
        content = (done.run.folder / f"{name}.png").read_bytes()
        assert content.startswith(b"\x89PNG\r\n\x1a\n") and min(pixels(content).shape[:2]) >= 200
        np.testing.assert_array_equal(pixels(tf.make_ndarray(event.tensor_proto)[2]), pixels(content))
        assert event.step == metrics_of(done.run)[-1]["time/environment_steps"]


def test_a_table_and_a_bar_are_shown(done):
    """Catches: a measure that the table lacks, a run without a progress bar, a folder that is not named."""
    summary = done.run.load_json("summary.json")
    for words in (
        "Compiling",
        "last training episodes",
        "greedy",
        "sampled",
        "steps a second",
        f"{summary['evaluation_return']:.3f}",
        str(done.run.folder),
        "tensorboard",
    ):
        assert words in done.out, words
    assert ("optimal" in done.out) == (done.options[0] == "gridworld")
    assert "PPO:" in done.err and "return=" in done.err and "entropy=" in done.err


def test_the_summary_is_that_of_the_last_tenth_of_training(shared):
    """Catches: a return over the whole of training, one of the last call only, calls weighted alike whatever ended in them."""
    run = shared("lstm").run
    *_, one, other = metrics_of(run)  # of 20; episodes of 3 steps end 2 or 3 times in 8
    weights = one["episode/count"], other["episode/count"]
    assert weights[0] != weights[1] and min(weights) > 0 and one["episode/return"] != other["episode/return"]
    summary = run.load_json("summary.json")
    for name in ("return", "length"):
        expected = (one[f"episode/{name}"] * weights[0] + other[f"episode/{name}"] * weights[1]) / sum(weights)
        assert summary[f"episode_{name}"] == pytest.approx(expected, rel=1e-5)
    seconds = statistics.median(row["time/iteration_seconds"] for row in metrics_of(run))
    assert summary["steps_per_second"] == pytest.approx(4 * 8 / seconds, rel=1e-6)


def test_nothing_is_said_of_episodes_before_one_ended(shared):
    """Catches: a return of 0, better than the best possible, before the first episode ended, or averaged in: all end at their 200th step, in the seventh call."""
    run = shared("pendulum").run
    summary, (*before, first, last) = run.load_json("summary.json"), metrics_of(run)
    assert [(row["episode/return"], row["episode/length"], row["episode/count"]) for row in before] == [(None, None, 0)] * 6
    assert first["episode/count"] == 4 and -2000 < first["episode/return"] < -400 and first["episode/length"] == 200
    assert last["episode/count"] == 0 and (last["episode/return"], last["episode/length"]) == (first["episode/return"], 200)
    assert (summary["episode_return"], summary["episode_length"]) == (first["episode/return"], 200)


def test_a_run_in_which_no_episode_ended(folder, monkeypatch):
    """Catches: a return made up, a mean of nothing that warns or ends in NaN (which is no JSON), a picture that cannot be drawn; the settings
    of the greatest seed, the second of two, refused once the first is trained."""
    drawn, learning_curve = [], pictures.learning_curve
    monkeypatch.setattr(pictures, "learning_curve", lambda curves, *rest: drawn.extend(curves) or learning_curve(curves, *rest))
    monkeypatch.setattr(environment, "new_player", lambda *_: lambda *_: types.SimpleNamespace(returns=np.ones(2)))
    done = trained(folder, "none-ended", *HOOKED, "--steps", "2", "--environment-steps", "8", "--seed", str(2**31 - 2), "--seeds", "2")
    for run in (done.run, Run(done.run.folder / f"seed-{2**31 - 1}")):
        summary = json.loads((run.folder / "summary.json").read_text(), parse_constant=pytest.fail)
        assert summary["episode_return"] is summary["episode_length"] is None and summary["evaluation_return"] == 1
    assert len(drawn) == 4 and all(np.isnan(curve[:, 1]).all() for curve in drawn) and done.warnings == []
    assert "last training episodes" not in done.out


def test_weights_are_judged_by_episodes_of_their_own_time(monkeypatch):
    """Catches: weights called the best by the return of episodes that ended before they were there: where none ended, the last return is shown again."""
    job, given = environment.AgentJob("gridworld", parse(["train", "gridworld", "--no-jit"]).config), {}

    class Enough(Exception):
        pass

    def look(*args, score, **kwargs):
        given["score"] = score
        raise Enough

    monkeypatch.setattr(environment, "fit_and_save", look)
    with pytest.raises(Enough):
        job.train_seed(0, None, None)
    assert given["score"]({"episode/return": 9.0, "episode/count": 2.0}) == 9.0
    assert given["score"]({"episode/return": 9.0, "episode/count": 0.0}) is None


def test_the_grid_is_solved_and_compared_with_the_exact_solution(shared):
    """Catches: values or actions of other cells, the goal's own value compared, an optimum that is not the map's."""
    run = shared("grid").run
    summary, policy = run.load_json("summary.json"), load_policy(run, "policy")
    assert summary["optimal_return"] == 1 and summary["optimal_policy"] is True
    assert summary["evaluation_return"] == summary["evaluation_return_sampled"] == 1
    logits, values, _ = policy.step(tf.range(4), policy.initial_state(4), tf.ones([4]))
    assert logits.numpy().argmax(-1)[1] == 3 and logits.numpy().argmax(-1)[2] == 0 and logits.numpy().argmax(-1)[0] in (0, 3)
    error = np.abs(values.numpy() - [0.99, 1, 1, 0])[:3].max()  # of the four, the last is the goal
    assert error < 0.1 and summary["largest_value_error"] == pytest.approx(error, rel=1e-4)


def test_a_policy_that_is_not_optimal_is_not_called_so(tmp_path):
    """Catches: one wrong greedy action overlooked; the goal or a cell that no episode comes to counted; masks left out of what is greedy."""
    (tmp_path / "map.txt").write_text("S.G.#..")
    config = parse(["train", "gridworld", "--no-jit", "--map", str(tmp_path / "map.txt"), "--mask-walls"]).config
    job = environment.AgentJob("gridworld", config)
    logits = np.array([[9, 9, 0, 1], [9, 9, 0, 1], *[[0, 0, 0, 9]] * 4], np.float32)  # up and down bump; from 3, the goal is on the left
    values = np.array([0.99, 1.25, 7, 7, 7, 7], np.float32)
    job.policy.step = lambda cells, *_: (tf.gather(logits, cells), tf.gather(values, cells), ())  # of 0 (S), 1, 2 (G), 3, 4, 5
    assert job.against_the_best() == {"optimal_return": 1.0, "optimal_policy": True, "largest_value_error": pytest.approx(0.25)}
    logits[1] = [0, 0, 2, 1]
    assert job.against_the_best()["optimal_policy"] is False
    for changes in ({"normalize_rewards": True}, {"ppo": dataclasses.replace(config.ppo, whiten_rewards=True)}):
        job.config = dataclasses.replace(config, **changes)
        assert set(job.against_the_best()) == {"optimal_return", "optimal_policy"}  # the critic counts in other units


@pytest.mark.full  # test_resume compares two runs of the same seed too
def test_one_seed_is_one_run(shared, folder):
    """Catches: randomness without a seed (initial weights, episodes, actions, minibatches)."""
    old_run(folder, "again")  # which is replaced: no line of its metrics stays
    again = trained(folder, "again", *OPTIONS["grid"], "--overwrite")
    assert equal(weights_in(again.run), weights_in(shared("grid").run)) and timeless(again.run) == timeless(shared("grid").run)
    assert not (folder / ".again.replaced").exists()


def test_the_call_that_compiles_is_forgotten(shared, folder, monkeypatch):
    """Catches: weights, statistics, episodes or counters that the first call leaves to the training proper."""
    prepare = environment.AgentJob.prepare

    def twice(self, run, interrupt):
        prepare(self, run, interrupt)
        self.learner.fit(steps_per_epoch=2, verbose=0)

    monkeypatch.setattr(environment.AgentJob, "prepare", twice)
    again = trained(folder, "twice", *OPTIONS["cartpole"])
    assert equal(weights_in(again.run), weights_in(shared("cartpole").run)) and timeless(again.run) == timeless(shared("cartpole").run)


def test_a_seed_of_several_is_a_run_of_its_own(shared, seeds):
    """Catches: a seed that goes on from the one before: weights, moments of Adam, statistics, environments or counters."""
    alone, one = shared("cartpole").run, Run(seeds.run.folder / "seed-4")
    assert equal(weights_in(one), weights_in(alone)) and timeless(one) == timeless(alone)
    ours, theirs = (run.load_json("summary.json") for run in (one, alone))
    assert {name: ours[name] for name in ours if "second" not in name} == {name: theirs[name] for name in theirs if "second" not in name}
    assert set(contents(one.folder)) >= {name for name in contents(alone.folder) if "events" not in name}
    assert not equal(weights_in(one), weights_in(Run(seeds.run.folder / "seed-5")))


def test_means_and_spread_over_seeds_by_hand(seeds):
    """Catches: the deviation of a population, a minimum of another measure, a seed left out."""
    summaries = [Run(seeds.run.folder / f"seed-{seed}").load_json("summary.json") for seed in (3, 4, 5)]
    summary = seeds.run.load_json("summary.json")
    assert [one["seed"] for one in summaries] == [3, 4, 5] and summary["seeds"] == summaries and summary["seed"] == 3
    for name in ("episode_return", "episode_length", "evaluation_return", "evaluation_return_sampled", "steps_per_second"):
        values = [one[name] for one in summaries]
        assert len(set(values)) > 1 and summary[name] == pytest.approx(statistics.mean(values))
        assert summary[f"{name}_std"] == pytest.approx(statistics.stdev(values)) and summary[f"{name}_min"] == min(values)
    assert set(KEYS) <= set(summary) and summary["environment_steps"] == 2560
    assert summary["seconds"] > sum(one["seconds"] for one in summaries)


def test_the_grids_of_several_seeds_together(tmp_path):
    """Catches: one seed that found the best policy taken for all, the least of the errors in place of the largest, one seed's grid shown as that of all."""
    job = environment.AgentJob("gridworld", parse(["train", "gridworld", "--no-jit"]).config)
    numbers = dict.fromkeys([*KEYS, "evaluation_return_sampled"], 1.0)
    summary = job.together(
        [numbers | {"optimal_return": 1.0, "optimal_policy": good, "largest_value_error": error} for good, error in ((True, 0.1), (False, 0.3), (True, 0.2))]
    )
    assert (summary["optimal_return"], summary["optimal_policy"], summary["largest_value_error"]) == (1.0, False, 0.3)
    job.draw(Run(tmp_path), [np.array([[128, 0.5, 2, 3], [256, 1, 2, 3]])] * 2)
    assert [path.name for path in tmp_path.glob("*.png")] == ["learning_curve.png"]


def test_the_folder_of_several_seeds(seeds):
    """Catches: files of a seed in the folder of all, a picture of one seed only."""
    own = {name for name in contents(seeds.run.folder) if "/" not in name and "events" not in name}
    assert own == {"config.json", "summary.json", "learning_curve.png"}
    assert {path.name for path in seeds.run.folder.iterdir() if path.is_dir()} == {"checkpoints", "seed-3", "seed-4", "seed-5"}
    assert (seeds.run.load_json("config.json")["seed"], seeds.run.load_json("config.json")["seeds"]) == (3, 3)
    config = Run(seeds.run.folder / "seed-4").load_json("config.json")  # of a run of its own
    assert {name: config[name] for name in ("seed", "seeds")} == {"seed": 4, "seeds": 1}
    assert [len(curves) for curves in seeds.drawn] == [1, 1, 1, 3]
    for seed, alone, together in zip((3, 4, 5), seeds.drawn[:3], seeds.drawn[3]):
        rows = metrics_of(Run(seeds.run.folder / f"seed-{seed}"))
        assert_close(alone[0], [[row["time/environment_steps"], row["episode/return"]] for row in rows])
        assert_close(together, alone[0], rtol=0)
    for words in ("mean", "standard", "least"):
        assert words in seeds.out, words


def test_one_trace_serves_every_seed(seeds):
    """Catches: a learner that is built and compiled anew for each seed, or traced again by each `fit`."""
    assert seeds.traces == 1


def test_no_warning_is_shown(done):
    """Catches: a warning between the progress bars that the user can do nothing about."""
    assert done.warnings == []


def test_one_trace_serves_the_evaluation_of_every_seed(seeds):
    """Catches: evaluation that is traced (and compiled) anew for each seed, which TensorFlow remarks on at length on the screen."""
    assert seeds.plays == 1  # greedy and sampled alike


@pytest.mark.full  # whose parts are tested alone
def test_iterations_in_one_call_make_one_line(folder, tmp_path):
    """Catches: a line an iteration, a pace of one iteration where a call makes four, a map that is read again after training."""
    path = tmp_path / "map.txt"
    path.write_text(MAP)
    options = "--environment-steps 2048 --iterations-per-call 5 --step-reward -0.05 --mask-walls --checkpoint-every 1".split()
    run = trained(folder, "map", "gridworld", *TINY, *options, "--map", str(path)).run
    path.unlink()
    rows, summary = metrics_of(run), run.load_json("summary.json")
    assert [row["iteration"] for row in rows] == [4, 8, 12, 16]  # 5 would make 20
    assert [row["time/environment_steps"] for row in rows] == [512, 1024, 1536, 2048] and summary["environment_steps"] == 2048
    for row in rows:
        assert row["time/steps_per_second"] * row["time/iteration_seconds"] == pytest.approx(128)
    seconds = statistics.median(row["time/iteration_seconds"] for row in rows)
    assert summary["steps_per_second"] == pytest.approx(128 / seconds, rel=1e-6)
    assert run.states("training").numbers()[0] == 16
    assert run.load_json("config.json")["rows"] == MAP.split() and summary["optimal_return"] == pytest.approx(1 - 2 * 0.05)
    _, result = evaluated(run, "--episodes", "12", "--seed", "4")
    assert result["return_greedy"] == pytest.approx(summary["evaluation_return"])  # of a map whose file is gone
    assert result["return"] == pytest.approx(summary["evaluation_return_sampled"])


def test_the_articles_own_numbers(shared, tmp_path):
    """Catches: `--article-numbers` dropped in training or in evaluation: to and fro for 20 steps earns 10, the goal 1 or 2."""
    job = environment.AgentJob("gridworld", parse(["train", "gridworld", "--no-jit", "--article-numbers"]).config)
    assert job.against_the_best()["optimal_return"] == pytest.approx(10)
    run = Run(shutil.copytree(shared("grid").run.folder, tmp_path / "article"))
    run.save_json("config.json", run.load_json("config.json") | {"article_numbers": True})
    policy = load_policy(run, "policy")
    policy.policy_head.set_weights([w * 0 for w in policy.policy_head.get_weights()])  # wherever it is, it goes anywhere
    policy.save(run.checkpoint("policy"))
    _, result = evaluated(run, "--episodes", "12", "--seed", "4")
    assert result["return"] > 1


def test_a_run_through_the_bridge_compiles_each_part_once(folder, monkeypatch):
    """Catches: a step traced again because NumPy and TensorFlow alternate; an id that does not reach Gymnasium."""
    traces = {name: [] for name in ("act", "value", "assemble", "improve")}

    def counted(name, method):
        return lambda self, *args: traces[name].append(1) or method(self, *args)

    for name in traces:
        monkeypatch.setattr(EnvironmentPPO, name, counted(name, getattr(EnvironmentPPO, name)))
    options = "--environments 2 --steps 32 --environment-steps 192 --minibatches 2 --epochs 1 --no-jit --evaluation-episodes 2".split()
    done = trained(folder, "gym", "gym:CartPole-v1", *options)
    assert {name: len(calls) for name, calls in traces.items()} == {"act": 1, "value": 0, "assemble": 1, "improve": 1}
    summary = done.run.load_json("summary.json")
    assert summary["task"] == "gym:CartPole-v1" and summary["episode_return"] == summary["episode_length"] > 5
    assert "gym:CartPole-v1" in done.out


# The command `evaluate`.


def evaluated(run, *options):
    """What `evaluate` prints of a `Run`, and the estimates that it writes."""
    done = command("evaluate", str(run.folder), *options)
    assert done.code == 0, done.err
    return done.out, {name: interval["estimate"] for name, interval in run.load_json("evaluation.json")["measures"].items()}


def test_the_saved_policy_earns_what_the_trained_one_did(done):
    """Catches: statistics of observations, weights or a temperature that the file does not hold, a memory that outlives its episode."""
    summary = done.run.load_json("summary.json")
    table, result = evaluated(done.run, "--seed", "4", "--episodes", "2" if "pendulum" in str(done.run.folder) else "12")
    assert result["return_greedy"] == pytest.approx(summary["evaluation_return"], rel=1e-6)
    assert result["return"] == pytest.approx(summary["evaluation_return_sampled"], rel=1e-6)
    assert done.run.load_json("evaluation.json")["task"] == summary["task"]
    assert "greedy" in table and "sampled" in table and f"{result['return']:.3f}" in table
    assert ("advantage_std" in result) == (not done.run.load_json("config.json")["normalize_rewards"])  # whose units are lost


def test_statistics_of_observations_are_those_of_training(shared):
    """Catches: statistics that are not saved, or that evaluation moves; they count every step and they matter."""
    for name, steps in (("cartpole", 2560), ("pendulum", 1024)):
        policy = load_policy(shared(name).run, "policy")
        assert float(policy.normalization.count) == steps
        assert not np.allclose(policy.normalization.mean, 0) and not np.allclose(policy.normalization.variance, 1)
    config = parse(["train", *shared("pendulum").options]).config
    world = play.make_environment("gym:Pendulum-v1", config)
    returns = lambda: play.new_player(policy, world, config, 2)(2, True, 4).returns
    before = returns()
    assert before.mean() == pytest.approx(shared("pendulum").run.load_json("summary.json")["evaluation_return"], rel=1e-6)
    policy.normalization.mean.assign_add(tf.ones([3]))
    assert not np.allclose(returns(), before)


def test_greedy_episodes_by_hand(shared, monkeypatch):
    """Catches: sampled actions called greedy, actions not scaled to the bounds of the Box, observations not normalised (Pendulum)."""
    given, reset = [], gymnasium.vector.SyncVectorEnv.reset
    monkeypatch.setattr(gymnasium.vector.SyncVectorEnv, "reset", lambda self, seed: given.extend(seed) or reset(self, seed=seed))
    run = shared("pendulum").run
    _, result = evaluated(run, "--episodes", "2", "--seed", "7")
    policy, returns = load_policy(run, "policy"), []
    mean, variance = policy.normalization.mean.numpy(), policy.normalization.variance.numpy()
    for seed in given[:2]:
        world = gymnasium.make("Pendulum-v1")
        (observation, _), total, over = world.reset(seed=seed), 0.0, False
        while not over:
            normal = np.clip((observation - mean) / np.sqrt(variance + 1e-8), -10, 10)
            hidden = tf.constant(normal[np.newaxis], tf.float32)
            for layer in (policy.encoder.projection, *policy.encoder.trunk.hidden):
                hidden = layer(hidden)
            action = 2 * float(policy.policy_head(hidden)[0, 0])  # from [-1, 1] to [-2, 2]
            observation, reward, terminated, over, _ = world.step(np.clip([action], -2, 2).astype(np.float32))
            total += float(reward)
        returns.append(total)
    assert result["return_greedy"] == pytest.approx(np.mean(returns), rel=1e-3)
    greedy = run.load_json("evaluation.json")["measures"]["return_greedy"]
    assert (greedy["low"], greedy["high"]) == pytest.approx((min(returns), max(returns)), rel=1e-3)  # each is drawn twice in a quarter of the resamples


def test_options_reach_the_player(shared, folder, monkeypatch, tmp_path):
    """Catches: an option that is parsed and dropped, another temperature than that of training, XLA after `--no-jit`."""
    calls = []

    def spy(policy, environment, temperature, jit_compile, batch, record):
        return lambda episodes, greedy, seed: played(environment.name, episodes, greedy, seed, temperature, jit_compile)

    def played(*call):
        calls.append(call)
        steps = evaluation.Steps(*[np.eye(2, dtype=np.float32)] * 4, *[np.ones([2, 2], np.float32)] * 2)
        return evaluation.Episodes(np.array([1.0, 4.0], np.float32), np.array([2.0, 2.0], np.float32), steps)

    monkeypatch.setattr(play, "Player", spy)
    run = Run(tmp_path / "warm")
    (run.folder / "checkpoints").mkdir(parents=True)
    (run.folder / "checkpoints" / "policy.keras").write_bytes((shared("grid").run.folder / "checkpoints" / "policy.keras").read_bytes())
    settings = shared("grid").run.load_json("config.json")
    run.save_json("config.json", settings | {"jit": True, "ppo": settings["ppo"] | {"temperature": 0.5}})
    _, result = evaluated(run)
    assert command("evaluate", "warm", "--runs-folder", str(tmp_path), "--episodes", "7", "--seed", "9").code == 0
    evaluated(shared("grid").run)
    name = "gridworld"
    assert calls[:2] == [(name, 12, False, 0, 0.5, True), (name, 12, True, 0, 0.5, True)]
    assert calls[2:] == [(name, 7, False, 9, 0.5, True), (name, 7, True, 9, 0.5, True), (name, 12, False, 0, 1.0, False), (name, 12, True, 0, 1.0, False)]
    assert result["return"] == result["return_greedy"] == 2.5 and result["entropy"] == 0.5


def test_one_seed_of_several_is_played(seeds, folder):
    """Catches: `RUN/seed-4` not found, or its settings taken for those of several seeds."""
    assert command("evaluate", "seeds/seed-4", "--runs-folder", str(folder), "--episodes", "12", "--seed", "4").code == 0
    run = Run(seeds.run.folder / "seed-4")
    greedy = run.load_json("evaluation.json")["measures"]["return_greedy"]["estimate"]
    assert greedy == pytest.approx(run.load_json("summary.json")["evaluation_return"], rel=1e-6)


def test_seeds_are_the_units_of_several(seeds):
    """Catches: episodes of all seeds thrown together, seeds that are all the first, a mean of something else."""
    _, together = evaluated(seeds.run, "--episodes", "12", "--seed", "4")
    result = seeds.run.load_json("evaluation.json")
    assert list(result["seeds"]) == ["seed-3", "seed-4", "seed-5"]
    for name in ("return", "entropy", "seconds"):
        each = [one[name]["estimate"] for one in result["seeds"].values()]
        assert together[name] == pytest.approx(np.mean(each)) and len(set(each)) == 3
        assert min(each) <= result["measures"][name]["low"] < together[name] < result["measures"][name]["high"] <= max(each)


def test_evaluate_refuses_in_one_line(shared, folder, tmp_path):
    """Catches: a traceback for a task of somebody's own, a run that is not there, that was stopped or is damaged, or a number out of range."""
    shared("grid")

    def line(run, *options, folder=folder):
        done = command("evaluate", run, *options, "--runs-folder", str(folder))
        assert done.err.count("\n") == 1 and done.out == ""
        return error_line(done)

    assert "there is no run 'gird'" in (said := line("gird")) and "grid" in said.split("Known runs:")[1]
    assert "--samples 0" in line("grid", "--episodes", "0") and "--seed=-1" in line("grid", "--seed", "-1")
    own, stopped = (Run.create(tmp_path, name) for name in ("own", "stopped"))
    own.save_config(parse(["train", "generation"]).config, task="reverse")
    assert "the task 'reverse'" in (said := line("own", folder=tmp_path)) and "ppo-keras generate" in said
    stopped.save_config(parse(["train", "cartpole"]).config, task="cartpole")
    assert "policy.keras" in line("stopped", folder=tmp_path)
    (stopped.folder / "checkpoints" / "policy.keras").write_bytes(b"half a file")
    assert "policy.keras" in line("stopped", folder=tmp_path)
