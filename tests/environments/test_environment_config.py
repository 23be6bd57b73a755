"""`ppo_keras.environments.config`: the settings of every task are valid, have an option, and each one changes something."""

import dataclasses
import functools
import json
import types

import numpy as np
import pytest
import tensorflow as tf

from ppo_keras.commands.parser import parse
from ppo_keras.config import LoggingConfig, OptimizerConfig, PPOConfig
from ppo_keras.environments.config import TASKS, AgentConfig, EnvironmentConfig, GridConfig, MemoryConfig, settings_for
from ppo_keras.errors import InputError
from ppo_keras.runs.folder import Run
from ppo_keras.tasks import environment

MODELS = ("mlp", "lstm", "transformer")
KINDS = {
    "gridworld": GridConfig, "cartpole": EnvironmentConfig, "cartpole-no-velocity": EnvironmentConfig, "acrobot": EnvironmentConfig,
    "repeat-first": MemoryConfig, "t-maze": MemoryConfig, "gym:Acrobot-v1": EnvironmentConfig,
}  # fmt: skip
NESTED = {"network": AgentConfig, "ppo": PPOConfig, "optimizer": OptimizerConfig, "logging": LoggingConfig}
CHOICES = {
    "run": "second", "runs_folder": "elsewhere", "map": "map.txt", "schedule": "cosine", "seed": 7, "iterations_per_call": 3,
    "step_reward": -0.5, "dual_clip": 3.0, "value_clip": 0.5, "target_kl": 0.5, "profile": "2:3", "critic_warmup": 3,
}  # fmt: skip


def fields_of(kind, nested=True):
    """(group or None, field) of every setting but the model, on which other defaults depend."""
    flat = [(None, field.name) for field in dataclasses.fields(kind) if field.name not in (*NESTED, "model", "sharing")]  # see test_cluster.py
    return flat + [(group, field.name) for group, part in NESTED.items() for field in dataclasses.fields(part)] * nested


def own_fields(kind):
    return [(None, field.name) for field in dataclasses.fields(kind) if field not in dataclasses.fields(EnvironmentConfig)]


def changed(config, group, name, value):
    """The same settings with one of them changed."""
    if group:
        return dataclasses.replace(config, **{group: dataclasses.replace(getattr(config, group), **{name: value})})
    return dataclasses.replace(config, **{name: value})


# What suits each task.


def test_every_task_is_here():
    """Catches: a task that these tests do not know, or one that the command line lists without a word about it."""
    assert [*TASKS, "gym:Acrobot-v1"] == list(KINDS) and {name: kind for name, (kind, _) in TASKS.items()} | {"gym:Acrobot-v1": EnvironmentConfig} == KINDS
    assert all(len(purpose) > 10 for _, purpose in TASKS.values())


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("task", KINDS)
def test_settings_suit_the_task(task, model):
    """Catches: defaults that their own checks refuse, of another task or model; minibatches that cut environments of a memory in two."""
    settings = settings_for(task, model)
    assert type(settings) is KINDS[task] and settings.model == model
    assert settings.run == ("acrobot-v1" if task.startswith("gym:") else task)
    assert dataclasses.replace(settings) == settings  # its checks pass
    assert settings.environments % settings.ppo.minibatches == 0 or model == "mlp"
    assert parse(["train", task, "--model", model]).config == settings
    assert settings.normalize_observations == settings.normalize_rewards == task.startswith("gym:")


def test_settings_of_the_issue():
    """Catches: CartPole with other than CleanRL's 4 environments x 128 steps and 4 epochs x 4 minibatches; goals in other numbers of steps."""
    cartpole = settings_for("cartpole")
    assert (cartpole.environments, cartpole.steps, cartpole.ppo.epochs, cartpole.ppo.minibatches) == (4, 128, 4, 4)
    steps = {task: settings_for(task).environment_steps for task in KINDS}
    assert steps == dict.fromkeys(KINDS, 100_000) | {"gridworld": 12_000, "t-maze": 200_000, "acrobot": 500_000, "gym:Acrobot-v1": 400_000}
    assert settings_for("cartpole-no-velocity", "lstm").environment_steps == 100_000
    assert settings_for("repeat-first").length == settings_for("t-maze", "lstm").length == 10


def test_an_id_with_a_name_space_names_a_folder():
    """Catches: a run named after an environment whose id holds a slash, which is no name of a folder."""
    assert settings_for("gym:phys2d/CartPole-v1").run == "phys2d-cartpole-v1"


@pytest.mark.parametrize("steps, environments, length, expected", [(100_000, 4, 128, 196), (2048, 4, 32, 16), (2049, 4, 32, 17), (1, 4, 32, 1)])
def test_iterations_reach_the_steps(steps, environments, length, expected):
    """Catches: an iteration too few where the steps are no multiple, or one too many where they are."""
    assert EnvironmentConfig(environment_steps=steps, environments=environments, steps=length).iterations == expected


# The command line.


@pytest.mark.parametrize(
    "task, group, name",
    [("cartpole", *field) for field in fields_of(EnvironmentConfig)] + [(task, *field) for task, kind in (("gridworld", GridConfig), ("t-maze", MemoryConfig)) for field in own_fields(kind)],
)  # fmt: skip
@pytest.mark.parametrize("model", ["mlp", "lstm"])
def test_every_setting_has_an_option_that_reaches_it(task, group, name, model):
    """Catches: a field that the command line does not offer, that another of the same name takes, or that resets what suits the task."""
    model = "transformer" if name == "attention_maps" else model  # which no other has
    settings = settings_for(task, model)
    default = getattr(getattr(settings, group) if group else settings, name)
    flag = "--" + name.replace("_", "-")
    if isinstance(default, bool):
        value, options = not default, [flag if not default else f"--no-{flag[2:]}"]
    else:
        value = CHOICES.get(name, default * 2 if isinstance(default, int) else default / 2 if isinstance(default, float) else None)
        options = [flag, str(value)]
    assert value is not None and value != default
    config = parse(["train", task, *options, "--model", model]).config
    found = getattr(getattr(config, group) if group else config, name)
    assert found == value and type(found) is type(value)
    assert changed(config, group, name, default) == settings  # and nothing else changed


@pytest.mark.parametrize("name", ["value_clip", "max_gradient_norm", "dual_clip", "target_kl"])
def test_none_switches_off(name):
    """Catches: an option that can be set but not switched off."""
    assert getattr(parse(["train", "cartpole", "--" + name.replace("_", "-"), "none"]).config.ppo, name) is None


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: EnvironmentConfig(model="gpt"), r"model='gpt' is unknown\. Use mlp, lstm or transformer\."),
        (lambda: EnvironmentConfig(seed=-1), r"seed=-1 is outside \[0, 2\^31\)"),
        (lambda: EnvironmentConfig(seed=2**31), r"seed=2147483648 is outside"),
        (lambda: EnvironmentConfig(seed=2**31 - 1, seeds=2), r"seeds=2 from seed=2147483647 on go beyond 2\^31\. Use a smaller seed\."),
        *[(lambda name=name: EnvironmentConfig(**{name: 0}), f"{name}=0 is less than 1") for name in ("seeds", "environment_steps", "environments", "steps", "iterations_per_call", "evaluation_episodes", "checkpoint_every")],
        *[(lambda name=name: AgentConfig(**{name: 0}), f"{name}=0 is less than 1") for name in ("layers", "width", "heads", "memory")],
        (lambda: EnvironmentConfig(ppo=PPOConfig(minibatches=5)), r"minibatches=5 does not divide environments \* steps=512\. Use a divisor such as 2, 4, 8\."),
        (lambda: EnvironmentConfig(model="lstm", ppo=PPOConfig(minibatches=8)), r"minibatches=8 does not divide environments=4"),
        (lambda: EnvironmentConfig(ppo=PPOConfig(accumulation_steps=3)), r"minibatches \* accumulation_steps=12 does not divide environments \* steps=512"),
        (lambda: EnvironmentConfig(model="transformer", network=AgentConfig(width=60)), r"width=60 is not a multiple of 2 \* heads=8\. Use a width such as 128\."),
        (lambda: GridConfig(ppo=PPOConfig(discount=1.0)), r"discount=1\.0 .* Use a value below 1 such as 0\.99"),
        (lambda: GridConfig(map="a", article_numbers=True), r"--map and --article-numbers"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_named(make, message):
    """Catches: a setting that fails in mid-run, or a message that names another one or suggests nothing."""
    with pytest.raises(InputError, match=message):
        make()


def test_what_only_others_need_is_not_asked_for():
    """Catches: heads that must divide the width of an LSTM, a discount below 1 where nothing is solved, whole environments for an MLP."""
    EnvironmentConfig(model="lstm", network=AgentConfig(width=30))
    EnvironmentConfig(ppo=PPOConfig(discount=1.0, minibatches=256))


# Every setting is read somewhere.


def small(task, model):
    """Settings small enough to act and learn once without a graph."""
    ppo = dataclasses.replace(settings_for(task, model).ppo, epochs=1, minibatches=2)
    extra = {"map": "map.txt"} if task == "gridworld" else {"length": 4} if task == "t-maze" else {}
    network = AgentConfig(layers=1, width=8, heads=2, memory=4)
    return KINDS[task](model=model, jit=False, environment_steps=120, environments=4, steps=6, network=network, ppo=ppo, **extra)


class Seen:
    """What a job makes of its settings, worked out when it is asked for: its parts, one rollout, the weights after learning from it."""

    PARTS = ("call", "jit", "shapes", "memory", "outputs", "inputs", "rewards", "masks", "learned")  # the last one changes the policy

    def __init__(self, task, config):
        self.job = job = environment.AgentJob(task, config)
        self.call, self.jit = (job.calls, job.learner.iterations_per_call), job.learner.jit_compile
        self.shapes = [w.shape for w in job.policy.get_weights()]
        self.memory = [x.shape for x in tf.nest.flatten(job.policy.initial_state(1))]

    @functools.cached_property
    def outputs(self):
        states, policy = self.job.environment.observation, self.job.policy
        inputs = tf.range(8)[tf.newaxis] % states if isinstance(states, int) else tf.reshape(tf.range(8.0 * states[0]), [1, 8, *states]) / 10
        return [x.numpy() for x in policy(inputs, policy.initial_state(1))]

    @functools.cached_property
    def trajectory(self):
        return self.job.learner.collect(0)[0]

    inputs = property(lambda self: self.trajectory.inputs.numpy())
    rewards = property(lambda self: self.trajectory.rewards.numpy())
    masks = property(lambda self: np.asarray(self.trajectory.action_masks))

    @functools.cached_property
    def learned(self):
        self.job.learner.improve(self.trajectory)
        return [np.array(w) for w in self.job.policy.get_weights()]


def same(one, other):
    """Whether two of the parts of `Seen` are equal, to the last bit of every array."""
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return np.array_equal(one, other)


@pytest.fixture(scope="module")
def baseline():
    """A function: what the small settings of a task and a model make; the current folder must hold the map."""
    made = {}

    def get(task, model):
        if (task, model) not in made:
            made[task, model] = Seen(task, small(task, model))
        return made[task, model]

    return get


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A current folder with a map."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "map.txt").write_text("S...G\n.....")
    return tmp_path


CHANGES = [  # one setting, another value, and what it must change
    ("cartpole", "mlp", None, "model", "lstm", "shapes"),
    ("cartpole", "mlp", None, "seed", 1, "inputs"),
    ("cartpole", "mlp", None, "jit", True, "jit"),
    ("cartpole", "mlp", None, "environment_steps", 240, "call"),
    ("cartpole", "mlp", None, "environments", 8, "inputs"),
    ("cartpole", "mlp", None, "steps", 8, "inputs"),
    ("cartpole", "mlp", None, "iterations_per_call", 5, "call"),
    ("cartpole", "mlp", None, "normalize_observations", True, "shapes"),
    ("cartpole", "mlp", None, "normalize_rewards", True, "rewards"),
    ("cartpole", "mlp", "network", "layers", 2, "shapes"),
    ("cartpole", "mlp", "network", "width", 16, "shapes"),
    ("cartpole", "transformer", "network", "heads", 1, "outputs"),
    ("cartpole", "transformer", "network", "memory", 2, "memory outputs"),
    ("cartpole", "mlp", "network", "shared_trunk", True, "shapes"),
    ("cartpole", "mlp", "optimizer", "learning_rate", 1e-2, "learned"),
    ("cartpole", "mlp", "optimizer", "adam_epsilon", 1e-2, "learned"),
    ("cartpole", "mlp", "optimizer", "schedule", "cosine", "learned"),
    ("cartpole", "mlp", "ppo", "clip_ratio", 1e-5, "learned"),
    ("cartpole", "mlp", "ppo", "temperature", 0.25, "learned"),
    ("gridworld", "mlp", None, "map", None, "inputs"),
    ("gridworld", "mlp", None, "step_reward", -0.5, "rewards"),
    ("gridworld", "mlp", None, "mask_walls", True, "masks"),
    ("t-maze", "mlp", None, "length", 2, "inputs"),
]  # fmt: skip


@pytest.mark.parametrize("task, model, group, name, value, parts", CHANGES)
def test_every_setting_changes_something(baseline, place, task, model, group, name, value, parts):
    """Catches: a setting that is declared and never passed on (or passed on to another part)."""
    one, other = baseline(task, model), Seen(task, changed(small(task, model), group, name, value))
    for part in parts.split():
        assert not same(getattr(one, part), getattr(other, part)), part


@pytest.mark.parametrize("task, model", sorted({(task, model) for task, model, *_ in CHANGES}))
def test_the_same_settings_make_the_same(baseline, place, task, model):
    """Catches: something that no seed decides, which would make the test above pass whatever a setting does."""
    one, other = baseline(task, model), Seen(task, small(task, model))
    asked = {part for *names, parts in CHANGES if names[:2] == [task, model] for part in parts.split()}
    assert [part for part in Seen.PARTS if part in asked and not same(getattr(one, part), getattr(other, part))] == []


def test_no_setting_is_forgotten_here():
    """Catches: a new setting that no test changes."""
    below = {(None, name) for name in ("run", "runs_folder", "overwrite", "seeds", "evaluation_episodes", "checkpoint_every", "article_numbers", "ppo")}
    tested = {(group, name) for *_, group, name, _, _ in CHANGES} | below
    tested |= {("ppo", field.name) for field in dataclasses.fields(PPOConfig)}  # by test_ppo.py
    tested |= {("logging", field.name) for field in dataclasses.fields(LoggingConfig)}  # by test_tensorboard.py and test_views.py
    settings = {field for kind in (GridConfig, MemoryConfig) for field in fields_of(kind)} | {(None, "model"), (None, "ppo")}
    assert settings == tested


def test_the_articles_numbers_pay_for_state_2():
    """Catches: `article_numbers` without an effect."""
    worlds = [environment.AgentJob("gridworld", GridConfig(jit=False, article_numbers=own)).environment for own in (False, True)]
    assert [world.rewards[0, 0] for world in worlds] == [0, 1]  # up from state 1


def test_the_learner_is_given_the_settings_of_ppo():
    """Catches: settings of PPO left behind, so that the learner has its own defaults."""
    config = small("cartpole", "mlp")
    assert environment.AgentJob("cartpole", config).learner.config is config.ppo


@pytest.mark.parametrize(
    "steps, per_call, expected",
    [(120, None, (5, 1)), (120, 2, (3, 2)), (120, 4, (2, 3)), (120, 50, (1, 5)), (24 * 100, None, (50, 2)), (24 * 130, None, (44, 3)), (24 * 81, 40, (3, 27))],
)
def test_a_run_has_about_forty_calls(steps, per_call, expected):
    """Catches: calls that do not reach the steps asked for, or go far beyond them; a call longer than the run; thousands of lines in `metrics.csv`."""
    job = environment.AgentJob("cartpole", dataclasses.replace(small("cartpole", "mlp"), environment_steps=steps, iterations_per_call=per_call))
    assert (job.calls, job.learner.iterations_per_call) == expected


def test_calls_of_python_are_of_one_iteration():
    """Catches: iterations in one call of an environment that cannot be compiled, and calls that are therefore too few."""
    config = dataclasses.replace(small("cartpole", "mlp"), environment_steps=24 * 100, iterations_per_call=7)
    assert (config.calls(compiles=True), config.calls(compiles=False)) == ((15, 7), (100, 1))


def test_the_learning_rate_falls_to_0_at_the_end_of_training():
    """Catches: a schedule over the iterations asked for where whole calls make more, over calls, or over one epoch."""
    config = dataclasses.replace(small("cartpole", "mlp"), environment_steps=120, iterations_per_call=2, optimizer=OptimizerConfig(1e-3, "linear"))
    job = environment.AgentJob("cartpole", config)
    updates = 3 * 2 * 1 * 2  # calls, iterations, epochs, minibatches
    rate = job.learner.optimizer._learning_rate
    assert [float(rate(step)) for step in (0, updates // 2, updates - 1, updates)] == pytest.approx([1e-3, 5e-4, 1e-3 / updates, 0], abs=1e-9)


@pytest.fixture
def stages(tmp_path, monkeypatch):
    """A function: a run whose training and playing are only written down. Returns its calls of both."""
    monkeypatch.chdir(tmp_path)
    calls = {"fit": [], "play": []}

    def fit(learner, run, name, interrupt, recorder, shown, checkpoint_every, steps, **settings):
        recorder.curve, recorder.seconds = [(240, 1.0, 2.0, 3.0)], [0.5]
        calls["fit"].append((str(run.folder), name, int(learner.seed), checkpoint_every, steps))

    def play(episodes, greedy, seed):
        calls["play"].append((episodes, greedy, seed))
        return types.SimpleNamespace(returns=np.ones(episodes), lengths=np.ones(episodes))

    monkeypatch.setattr(environment, "fit_and_save", fit)
    monkeypatch.setattr(environment.EnvironmentPPO, "fit", lambda *_, **__: None)
    monkeypatch.setattr(environment, "new_player", lambda *_: play)
    monkeypatch.setattr(environment.AgentJob, "draw", lambda *_: None)

    def run(**changes):
        environment.train("cartpole", dataclasses.replace(small("cartpole", "mlp"), **changes))
        return types.SimpleNamespace(**calls)

    return run


def test_where_a_run_is_kept(stages):
    """Catches: `run` or `runs_folder` without an effect."""
    assert stages(run="second", runs_folder="elsewhere").fit[0][:2] == ("elsewhere/second", "policy")
    assert json.loads(open("elsewhere/second/config.json", encoding="utf-8").read())["run"] == "second"


def test_overwriting_is_a_choice(stages):
    """Catches: `overwrite` that is always on, or never."""
    stages()
    Run("runs/agent").save_json("notes.json", {})
    with pytest.raises(InputError, match="--overwrite"):
        stages()
    assert Run("runs/agent").load_json("notes.json") == {}
    stages(overwrite=True)
    assert not (Run("runs/agent").folder / "notes.json").exists()


def test_seeds_are_trained_one_after_another(stages):
    """Catches: one seed trained several times, folders of other seeds, episodes played with the first seed."""
    calls = stages(seed=5, seeds=2)
    assert [(folder, seed) for folder, _, seed, *_ in calls.fit] == [("runs/agent/seed-5", 5), ("runs/agent/seed-6", 6)]
    assert [seed for *_, seed in calls.play] == [5, 5, 6, 6]


@pytest.mark.parametrize("every, per_call, expected", [(50, 1, 50), (50, 4, 48), (2, 4, 4), (7, 5, 5)])
def test_checkpoints_fall_on_the_ends_of_calls(stages, every, per_call, expected):
    """Catches: a number of iterations at which no call ends, so that nothing is ever saved."""
    ((*_, checkpoint_every, calls),) = stages(checkpoint_every=every, iterations_per_call=per_call, environment_steps=24 * 20).fit
    assert checkpoint_every == expected and calls == 20 / per_call


def test_episodes_are_played_greedily_and_drawn(stages):
    """Catches: `evaluation_episodes` without an effect, one kind of play left out."""
    assert sorted(stages(evaluation_episodes=7).play) == [(7, False, 0), (7, True, 0)]
