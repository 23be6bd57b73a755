"""`ppo_keras.environments.bridge`: spaces, faults, and rollouts that must be those of a loop around Gymnasium itself."""

import functools
import itertools
import sys
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from test_environment_ppo import LENGTHS, NETWORKS, ONE_STEP, REMEMBERING, SGD, Scripted, collect, everything, fit, read, replay

from helpers import assert_all_close, assert_close, tiny_agent, weights_of
from ppo_keras import PPOConfig
from ppo_keras.checkpoints import from_json, of_json
from ppo_keras.commands.parser import parse
from ppo_keras.commands.train import resumed
from ppo_keras.distributions import DiagonalGaussian
from ppo_keras.environments.bridge import GymnasiumEnvironment
from ppo_keras.environments.cartpole import CartPole
from ppo_keras.environments.config import settings_for
from ppo_keras.environments.evaluation import Player, play
from ppo_keras.environments.ppo import EnvironmentPPO
from ppo_keras.errors import EnvironmentFault, InputError, ResumeWarning
from ppo_keras.networks.actor_critic import new_policy
from ppo_keras.runs.folder import Run
from ppo_keras.tasks.opening import make_job, task_of

gymnasium = pytest.importorskip("gymnasium")
spaces = gymnasium.spaces
every_network = pytest.mark.parametrize("network", NETWORKS)
SEED = tf.constant([3, 4])


class Told(gymnasium.Env):
    """Does as it is told: shows what `show` says, keeps the actions it is given, and never ends."""

    def __init__(self, action_space=spaces.Discrete(2), observation_space=spaces.Box(-1, 1, (2,)), show=None):
        self.action_space, self.observation_space = action_space, observation_space
        self.show, self.given = show or (lambda step: np.zeros(observation_space.shape, observation_space.dtype)), []

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        return self.show(0), {}

    def step(self, action):
        self.given.append(action)
        return self.show(len(self.given)), 1.0, False, False, {}


def given(action_space, *actions):
    """What a single environment with this action space is given for these actions of a policy."""
    environment = GymnasiumEnvironment(lambda: Told(action_space))
    environment.reset(1, SEED)
    for action in actions:
        environment.step(np.array([action]))
    found = environment.vector.envs[0].unwrapped.given
    assert all(action_space.contains(action) for action in found), found
    return found


# Spaces


@pytest.mark.parametrize("start", [0, 5, -1])
def test_discrete_actions(start):
    """Catches: an action space that does not begin at 0, whose first actions are never taken and whose last ones do not exist."""
    space = spaces.Discrete(3, start=start)
    assert GymnasiumEnvironment(lambda: Told(space)).actions == 3
    assert given(space, 0, 1, 2) == [start, start + 1, start + 2]


def test_several_choices():
    """Catches: counts as shapes, choices exchanged, or starts that are forgotten."""
    space = spaces.MultiDiscrete([3, 2], start=[10, 20])
    assert GymnasiumEnvironment(lambda: Told(space)).actions == [3, 2]
    np.testing.assert_array_equal(given(space, [0, 1], [2, 0]), [[10, 21], [12, 20]])


@pytest.mark.parametrize("shape", [(3,), (3, 1)])
def test_bounded_real_numbers(shape):
    """Catches: actions that are not mapped from [-1, 1] to the bounds, not limited to them, or squeezed into the wrong shape or type."""
    low, high = np.array([0.0, -2.0, 5.0], np.float32), np.array([1.0, 2.0, 7.0], np.float32)
    space = spaces.Box(low.reshape(shape), high.reshape(shape))
    actions = GymnasiumEnvironment(lambda: Told(space)).actions
    assert isinstance(actions, DiagonalGaussian) and actions.action_shape == (3,)
    found = given(space, [-1.0, 0.0, 1.0], [0.5, 0.5, 0.5], [9.0, -9.0, -1.5])
    assert found[0].shape == shape and found[0].dtype == np.float32
    assert_close(np.reshape(found, [3, 3]), [[0, 0, 7], [0.75, 1, 6.5], [1, -2, 5]])


def test_whole_numbers_are_rounded():
    """Catches: a Box of integers whose actions are cut off towards 0, so that the middle one is twice as likely."""
    np.testing.assert_array_equal(given(spaces.Box(-2, 2, (3,), np.int32), [-0.8, 0.3, 0.7]), [[-2, 1, 1]])


def test_unbounded_real_numbers():
    """Catches: numbers that are scaled (to infinity, or NaN) where there is no bound, and half a bound that is ignored."""
    inf = np.inf
    space = spaces.Box(np.array([-inf, 0.0, -inf], np.float32), np.array([inf, inf, 1.0], np.float32))
    assert_close(given(space, [30.0, 30.0, 30.0], [-30.0, -30.0, -30.0], [0.25, 0.25, 0.25]), [[30, 30, 1], [-30, 0, -30], [0.25] * 3])


@pytest.mark.parametrize("start", [0, 2])
def test_discrete_observations(start):
    """Catches: states that do not begin at 0 and fall outside the policy's one-hot code, in the first and in later observations."""
    environment = GymnasiumEnvironment(lambda: Told(observation_space=spaces.Discrete(4, start=start), show=lambda step: start + step))
    assert environment.observation == 4
    _, observation = environment.reset(2, SEED)
    found = [observation] + [environment.step(np.array([0, 0])) for _ in range(3)]
    for t, one in enumerate([(None, found[0]), *found[1:]]):
        assert one[1].dtype == np.int32 and np.all(one[1] == t)
        assert one[0] is None or np.all(one[0].observation == t)


@pytest.mark.parametrize(
    "space, value", [(spaces.Box(-9, 9, (2, 3)), 0.5), (spaces.Box(0, 255, (2, 2, 1), np.uint8), 200), (spaces.Box(-1, 1, (), np.float64), 0.25)]
)
def test_box_observations(space, value):
    """Catches: observations in float64 or bytes, or of another shape than the space says."""
    environment = GymnasiumEnvironment(lambda: Told(observation_space=space, show=lambda step: np.full(space.shape, value, space.dtype)))
    assert environment.observation == space.shape
    _, observation = environment.reset(2, SEED)
    step, following = environment.step(np.array([0, 0]))
    for one in (observation, step.observation, following):
        assert one.dtype == np.float32
        np.testing.assert_array_equal(one, np.full([2, *space.shape], value, np.float32))
    assert step.reward.dtype == np.float32


@pytest.mark.parametrize(
    "settings, kind",
    [
        (dict(action_space=spaces.MultiBinary(3)), "actions of kind MultiBinary"),
        (dict(action_space=spaces.MultiDiscrete([[2, 2], [2, 2]])), "actions of kind MultiDiscrete"),
        (dict(action_space=spaces.Dict(a=spaces.Discrete(2))), "actions of kind Dict"),
        (dict(observation_space=spaces.Dict(a=spaces.Discrete(2))), "observations of kind Dict"),
        (dict(observation_space=spaces.MultiBinary(2)), "observations of kind MultiBinary"),
    ],
)
def test_unsupported_spaces(settings, kind):
    """Catches: a space that is accepted and fails later, or an error of several lines."""
    with pytest.raises(InputError, match=f"^gym has {kind}. Supported are Box|^gym has {kind}. Supported are Discrete") as error:
        GymnasiumEnvironment(lambda: Told(**settings))
    assert "\n" not in str(error.value)


# Errors


@pytest.mark.parametrize("wrong", ["CartPole-v99", "Cartpole-v1", "cart-pole-v1"])
def test_an_unknown_id_names_the_nearest(wrong):
    """Catches: Gymnasium's own traceback, or advice that does not help."""
    with pytest.raises(InputError, match=f"no environment '{wrong}'. Did you mean .*CartPole-v1") as error:
        GymnasiumEnvironment(wrong)
    assert "\n" not in str(error.value)


def test_an_id_like_no_other():
    """Catches: a question with nothing in it."""
    with pytest.raises(InputError, match="no environment 'Qqqqqqqqqq'. gymnasium.pprint_registry"):
        GymnasiumEnvironment("Qqqqqqqqqq")


def test_gymnasium_may_be_missing(monkeypatch):
    """Catches: an ImportError in place of the name of the extra."""
    monkeypatch.setitem(sys.modules, "gymnasium", None)
    with pytest.raises(InputError, match=r"pip install 'ppo_keras\[gym\]'"):
        GymnasiumEnvironment("CartPole-v1")


def test_gymnasium_may_be_too_old(monkeypatch):
    """Catches: an AttributeError where Gymnasium 1.0 has no mode without phantom transitions."""
    monkeypatch.delattr(gymnasium.vector, "AutoresetMode")
    with pytest.raises(InputError, match=r"is too old. Install 1.1 or newer"):
        GymnasiumEnvironment("CartPole-v1")


class Faulty(Told):
    """Fails in its third step, in one of several ways."""

    def __init__(self, fault):
        super().__init__()
        self.fault = fault

    def step(self, action):
        observation, reward, *rest = super().step(action)
        if len(self.given) == 3:
            if self.fault == "raises":
                raise RuntimeError("the robot\nfell over")
            if self.fault == "observation":
                observation = np.array([0.0, np.nan], np.float32)
            if self.fault == "reward":
                reward = float("inf")
        return observation, reward, *rest


@pytest.mark.parametrize(
    "fault, said", [("raises", "raised RuntimeError: the robot"), ("observation", "returned nan as observation"), ("reward", "returned inf as reward")]
)
def test_a_fault_in_mid_run_names_the_environment(fault, said):
    """Catches: NaN that reaches the weights, or an exception that does not say whose fault it is."""
    ppo = learner(GymnasiumEnvironment(lambda: Faulty(fault)), "mlp", "eager", steps=2, layers=1)
    fit(ppo)
    weights = weights_of(ppo.policy)
    with pytest.raises(EnvironmentFault, match=f"^the environment gym {said}"):
        fit(ppo)
    assert_all_close(weights_of(ppo.policy), weights, rtol=0, atol=0)


def test_a_fault_at_the_beginning():
    """Catches: an environment that raises in `reset` and is not named."""

    class Stuck(Told):
        def reset(self, seed=None, options=None):
            raise OSError("no device")

    with pytest.raises(EnvironmentFault, match="the environment gym raised OSError: no device"):
        learner(GymnasiumEnvironment(Stuck), "mlp")


class Old(Told):
    """Draws from the random numbers that environments had before Gymnasium, and ends after two steps."""

    np_random = np.random.RandomState(0)

    def reset(self, seed=None, options=None):
        return self.np_random.uniform(size=2).astype(np.float32), {}

    def step(self, action):
        observation, reward, *_ = super().step(action)
        return observation, reward, len(self.given) % 2 == 0, False, {}


def test_an_environment_with_old_random_numbers_goes_on():
    """Catches: `'RandomState' object has no attribute 'bit_generator'` when its first episode ends. Only `--resume` needs the state: it is told
    that the episode does not come back, and begins new ones."""
    environment = GymnasiumEnvironment(Old)
    environment.reset(2, SEED)
    for _ in range(5):
        environment.step(np.array([0, 1]))
    with pytest.raises(EnvironmentFault, match="np_random"):
        environment.copy().replay(from_json(of_json(environment.state())))


# What makes an environment


@pytest.mark.parametrize(
    "make, words",
    [
        (Told(), ["an environment (<Told", "lambda: gymnasium.make('CartPole-v1')"]),
        (None, ["None", "an id such as 'CartPole-v1'"]),
        (["CartPole-v1"], ["['CartPole-v1']", "an id such as"]),
        (lambda: None, ["the function that makes gym returned None, expected a gymnasium.Env"]),
        (lambda: 1 / 0, ["gym could not be made: ZeroDivisionError"]),
        (lambda: gymnasium.make("CartPol-v1"), ["gym could not be made: NameNotFound"]),
        (functools.cache(Told), ["the function that makes gym returned the same environment twice", "a new one at every call"]),
    ],
    ids=lambda value: "",
)
def test_what_makes_no_environment(make, words):
    """Catches: `TypeError: 'TimeLimit' object is not callable`; copies that are one and the same environment, whose episodes are mixed."""
    with pytest.raises(InputError) as error:
        GymnasiumEnvironment(make).reset(2, SEED)
    assert all(word in str(error.value) for word in words) and "\n" not in str(error.value), str(error.value)


WORLD = """
import gymnasium
import numpy as np


class World(gymnasium.Env):
    observation_space, action_space = gymnasium.spaces.Box(-1, 1, (2,)), gymnasium.spaces.Discrete(2)

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        return self.np_random.uniform(-1, 1, 2).astype(np.float32), {}

    def step(self, action):
        return self.np_random.uniform(-1, 1, 2).astype(np.float32), float(action), False, False, {}


gymnasium.register("WorldOfATest-v0", World, max_episode_steps=5)
"""


@pytest.fixture
def own_world(tmp_path, monkeypatch):
    """A current folder with a module that registers an environment, as the console script sees it: not on `sys.path`. Returns a function
    that forgets the module, as another process would."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    (tmp_path / "world_of_a_test.py").write_text(WORLD)

    def forget():
        sys.modules.pop("world_of_a_test", None)
        gymnasium.registry.pop("WorldOfATest-v0", None)

    yield forget
    forget()


def test_a_module_of_the_current_folder_registers_an_environment(own_world):
    """Catches: `gym:module:ID` that only `python -m ppo_keras` finds; a time limit or a name lost on the way."""
    environment = GymnasiumEnvironment("world_of_a_test:WorldOfATest-v0")
    assert (environment.name, environment.time_limit, environment.actions) == ("gym:world_of_a_test:WorldOfATest-v0", 5, 2)
    environment.reset(2, SEED)
    with pytest.raises(InputError, match="no environment 'WorldOfATest-v1'. The module world_of_a_test registers WorldOfATest-v0. Register it there"):
        GymnasiumEnvironment("world_of_a_test:WorldOfATest-v1")


def test_a_run_of_an_own_environment_is_opened_again(own_world):
    """Catches: a colon in the task that no run folder, `--resume` or `evaluate` can take; a module that is not imported where the run goes on."""
    task = "gym:world_of_a_test:WorldOfATest-v0"
    arguments = ["train", task, "--resume", "world_of_a_test-worldofatest-v0"]
    config = settings_for(task)
    Run.create(config.runs_folder, config.run).save_config(config, task=task)
    taken, resume = resumed(parse(arguments), arguments)
    assert resume and (taken.run, taken.runs_folder) == ("world_of_a_test-worldofatest-v0", "runs")
    run = Run.open("world_of_a_test-worldofatest-v0")
    assert make_job(task_of(run), taken, run).environment.name == task


# Rollouts


class ScriptedGym(gymnasium.Env):
    """`Scripted` as a Gymnasium environment, whose time limits are those of the wrapper `TimeLimit`. Copies count from 0, by their making."""

    action_space, observation_space = spaces.Discrete(3, start=1), spaces.Box(-99, 99, (3,))

    def __init__(self, copy):
        self.copy = copy

    def observe(self):
        return np.array([self.copy, self.elapsed, self.total], np.float32) / 4

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        self.elapsed, self.total = 0, 0
        return self.observe(), {}

    def step(self, action):
        action = int(action) - 1
        reward = self.copy + self.elapsed / 8 + action / 64
        self.elapsed, self.total = self.elapsed + 1, self.total + action
        assert self.elapsed <= LENGTHS[self.copy]  # a phantom step would go beyond the end
        over = self.elapsed == LENGTHS[self.copy]
        return self.observe(), reward, bool(over and self.copy != 1), False, {}


def limited(copy, kind=ScriptedGym):
    """One scripted environment; all but copy 0 have a time limit."""
    return gymnasium.wrappers.TimeLimit(kind(copy), int(LENGTHS[copy])) if copy > 0 else kind(copy)


def scripted(kind=ScriptedGym):
    """A bridge to three scripted environments; the first that is made is only looked at."""
    numbers = itertools.chain([0], itertools.cycle(range(3)))
    return GymnasiumEnvironment(lambda: limited(next(numbers), kind))


def learner(
    environment, network="lstm", mode="graph", config=ONE_STEP, steps=6, layers=2, kind=EnvironmentPPO, environments=3, optimizer=None, policy=None, **kwargs
):
    """A compiled learner around an environment in Python."""
    policy = policy or tiny_agent(network, environment.observation, environment.actions, layers=layers, memory=4, spread=0.4)
    ppo = kind(policy, environment, config, environments, steps, **kwargs)
    ppo.compile(optimizer or SGD(0.05), jit_compile=mode == "jit", run_eagerly=mode == "eager")
    return ppo


def hand_run(environments, actions):
    """A loop around each environment alone, reset when it ends. Lists of (observation, reward, starts, terminated, truncated, last observation)."""
    columns = []
    for b, environment in enumerate(environments):
        (observation, _), starts, column = environment.reset(), True, []
        for action in actions[b]:
            following, reward, terminated, truncated, _ = environment.step(action)
            column.append((observation, reward, starts, terminated, truncated, following))
            starts = terminated or truncated
            observation = environment.reset()[0] if starts else following
        columns.append([np.array(x) for x in zip(*column)])
    return [np.stack(x) for x in zip(*columns)]


@every_network
def test_every_transition_is_one_of_a_loop_by_hand(network):
    """28, 31. Catches: the phantom step after an end, whose action does nothing; the first observation of the next episode in place
    of the last one where V is bootstrapped; flags, rewards or observations a step late; a transition lost between rollouts."""
    ppo = learner(scripted(), network, layers=1)
    trajectories, metrics = collect(ppo, 3)
    join = lambda name: np.concatenate([getattr(trajectory, name) for trajectory in trajectories], axis=1)
    run = hand_run([limited(copy) for copy in range(3)], join("actions") + 1)
    observations, rewards, starts, terminated, truncated, finals = run
    np.testing.assert_array_equal(join("inputs"), observations)
    np.testing.assert_array_equal(join("rewards"), rewards)
    np.testing.assert_array_equal(join("starts"), starts)
    np.testing.assert_array_equal(join("ended"), terminated | truncated)
    policy, memory, following, behind = ppo.policy, ppo.policy.initial_state(3), [], []
    for t in range(18):
        _, value, memory = policy.step(tf.constant(observations[:, t]), memory, tf.constant(starts[:, t], tf.float32))
        following.append(value)
        behind.append(policy.step(tf.constant(finals[:, t]), memory, tf.zeros([3]))[1])
    expected = np.where(truncated, np.stack(behind, 1), np.roll(np.stack(following, 1), -1, axis=1))
    expected[terminated] = 0
    assert_close(join("next_values")[:, :-1], expected[:, :-1], atol=1e-5)
    np.testing.assert_array_equal([(terminated & truncated).sum(1), terminated.sum(1), truncated.sum(1)], [[0, 0, 3], [6, 0, 3], [0, 4, 3]])
    happened = replay(join("actions"))
    assert_close(sum(float(one["episode/return"] * one["episode/count"]) for one in metrics), np.nansum(happened.returns))


@every_network
def test_the_bridge_equals_the_compiled_rollout(network):
    """Catches: anything that the rollout in Python does otherwise than the compiled one, under the same actions."""
    ppo = learner(scripted(), network, layers=1)
    compiled = learner(Scripted(), network, mode="eager", policy=ppo.policy)
    noise = ppo.policy.distribution.noise([6, 3], SEED)
    ppo._noise = lambda: noise
    compiled.policy.distribution.noise = lambda shape, seed: noise
    (trajectories, _), (expected, _) = collect(ppo, 2), collect(compiled, 2)
    for one, other in zip(trajectories, expected):
        np.testing.assert_array_equal(one.actions, other.actions)
        assert_all_close(one, other, atol=1e-5)
    for name in ppo.carry._fields[1:]:
        assert_all_close(getattr(ppo.carry, name), getattr(compiled.carry, name), atol=1e-5)


@pytest.mark.parametrize("network", ["transformer", pytest.param("lstm", marks=pytest.mark.full)])
def test_memory_is_kept(network):
    """22, 24. Catches: memory lost or kept across steps, ends and rollouts otherwise in acting than in updating."""
    ppo = learner(scripted(), network, layers=1)
    history = fit(ppo, 2)
    assert_close(history["policy/ratio"], np.ones(2))
    assert_close(history["policy/approx_kl"], np.zeros(2))
    (trajectory,), _ = collect(ppo)
    _, values = read(ppo, trajectory, initial_state=tf.nest.map_structure(lambda x: x * 0, trajectory.initial_state))
    assert np.abs(values - trajectory.values).max() > 1e-3  # the policy does remember


@functools.cache
def trained(mode):
    """A learner after two iterations and its history."""
    ppo = learner(scripted(), "mlp", mode, config=PPOConfig(minibatches=3, epochs=1), layers=1)
    return ppo, fit(ppo, 2)


@pytest.mark.parametrize("mode", ["jit", "eager"])
def test_training_is_the_same_in_every_mode(mode):
    """Catches: parts that XLA computes otherwise than a graph, or that plain Python cannot run."""
    (one, history), (other, expected) = trained(mode), trained("graph")
    assert_all_close(everything(one), everything(other))
    assert_all_close(history, expected)


def test_each_part_is_traced_once():
    """Catches: a part that is traced again at every step or iteration, which is slower than no compilation."""
    ppo, _ = trained("graph")
    parts = ppo._act, ppo._value, ppo._improve, ppo._assemble, ppo._noise
    assert [part.experimental_get_tracing_count() for part in parts] == [1] * 5


def test_cartpole_through_the_bridge_is_the_one_in_tensorflow():
    """31. Catches: transitions of a real environment that are not exactly its own: each one is taken again from its observation."""
    environment = GymnasiumEnvironment("CartPole-v1")
    assert (environment.name, environment.observation, environment.actions, environment.time_limit) == ("gym:CartPole-v1", (4,), 2, 500)
    ppo = learner(environment, "lstm", steps=40)
    trajectories, _ = collect(ppo, 2)
    assert_close(read(ppo, trajectories[1])[0], trajectories[1].log_probs, atol=1e-5)
    inputs, actions, ended = (np.concatenate([getattr(one, name) for one in trajectories], axis=1) for name in ("inputs", "actions", "ended"))
    assert ended.sum() >= 3
    state = inputs.reshape(-1, 4), np.zeros(240, np.int32)
    step = CartPole().step(state, actions.reshape(-1), SEED)
    np.testing.assert_array_equal(step.terminated, ended.reshape(-1) > 0)
    goes_on = ended[:, :-1] == 0
    assert_close(step.observation.numpy().reshape(3, 80, 4)[:, :-1][goes_on], inputs[:, 1:][goes_on], atol=1e-5)
    begun = inputs[:, 1:][~goes_on]
    assert np.all(np.abs(begun) <= 0.05) and len(np.unique(begun, axis=0)) == len(begun)


@pytest.mark.full  # whose every transition is compared by hand above
def test_cartpole_is_learned_through_the_bridge():
    """Catches: any sign error on the way: after 20 iterations the pole stands twice as long as at random (about 22 steps)."""
    environment = GymnasiumEnvironment("CartPole-v1")
    config = PPOConfig(epochs=6, minibatches=4)
    policy = new_policy("mlp", (4,), 2, width=32, layers=1, heads=2, memory=4, shared=False)
    ppo = learner(environment, policy=policy, environments=4, steps=64, config=config, optimizer=keras.optimizers.Adam(0.01))
    ppo.fit(20, verbose=0)
    assert play(ppo.policy, GymnasiumEnvironment("CartPole-v1"), 8, greedy=False, jit_compile=False).lengths.mean() > 50


def test_a_seed_names_a_run():
    """Catches: environments that are seeded by the clock, or all copies alike."""
    runs = []
    for seed in (5, 5, 6):
        ppo = learner(GymnasiumEnvironment("CartPole-v1"), "mlp", steps=30, seed=seed)
        trajectories, _ = collect(ppo, 2)
        runs.append([trajectory.inputs.numpy() for trajectory in trajectories])
    assert_all_close(runs[0], runs[1], rtol=0, atol=0)
    assert np.all(runs[0][0][:, 0] != runs[2][0][:, 0])
    assert len(np.unique(runs[0][0][:, 0], axis=0)) == 3


@pytest.mark.parametrize("mode", ["eager", "graph"])
def test_every_rollout_draws_anew(mode):
    """Catches: rollouts around Python that draw the same noise in every iteration, or whatever the seed is."""
    learners = [learner(GymnasiumEnvironment(Told), "mlp", mode, steps=8, layers=1, seed=seed) for seed in (0, 1)]
    noise = []
    for ppo in learners:
        for iteration in (0, 1):
            ppo.iteration.assign(iteration)
            noise.append(ppo._noise().numpy())
    assert len({array.tobytes() for array in noise}) == 4
    if mode == "eager":  # what is always observed is the same: only noise makes a difference
        actions = [trajectory.actions.numpy().tobytes() for ppo in learners for trajectory in next(collect(ppo, 2))]
        assert len(set(actions)) == 4


def test_restarting_begins_anew():
    """Catches: episodes of the old run, or an environment that is not seeded again."""
    ppo = learner(GymnasiumEnvironment("CartPole-v1"), "mlp", steps=30, optimizer=keras.optimizers.Adam(0.01))
    ppo.restart(7)
    first, history = everything(ppo), fit(ppo)
    ppo.restart(3)
    fit(ppo)
    ppo.restart(7)
    assert_all_close(everything(ppo), first, rtol=0, atol=0)
    assert_all_close(fit(ppo), history, rtol=0, atol=0)


class Masked(ScriptedGym):
    """Forbids one action in each step: that of the step's number."""

    def info(self):
        return {"action_mask": (np.arange(3) != self.elapsed % 3).astype(np.int8)}

    def reset(self, seed=None, options=None):
        return super().reset(seed=seed)[0], self.info()

    def step(self, action):
        assert int(action) - 1 != self.elapsed % 3
        *result, _ = super().step(action)
        return *result, self.info()


@pytest.mark.parametrize("network", ["mlp", pytest.param("lstm", marks=pytest.mark.full)])
def test_action_masks_are_honoured(network):
    """Catches: a mask of the step before, or of the episode before, or one that the update does not know."""
    environment = scripted(Masked)
    ppo = learner(environment, network)
    history = fit(ppo, 2)
    assert_close([history["policy/ratio"], history["policy/approx_kl"]], [[1, 1], [0, 0]])
    (trajectory,), _ = collect(ppo)
    steps = np.round(trajectory.inputs[:, :, 1] * 4).astype(int)
    np.testing.assert_array_equal(trajectory.action_masks, np.arange(3) != steps[..., np.newaxis] % 3)
    assert_close(read(ppo, trajectory)[0], trajectory.log_probs, atol=1e-5)
    play(ppo.policy, environment, 3, greedy=False, jit_compile=False)  # the environment asserts that it is honoured


def test_a_mask_that_is_left_out_is_named():
    """Catches: a mask of an earlier step that is used again where the environment gives none."""

    class Forgetful(Masked):
        def info(self):
            return super().info() if self.elapsed < 2 else {}

    with pytest.raises(EnvironmentFault, match="the environment gym left out action_mask"):
        collect(learner(scripted(Forgetful), "mlp"))


# Playing


@every_network
def test_playing_equals_playing_in_tensorflow(network):
    """27. Catches: steps of the next episode that are counted, memory or actions otherwise than in the compiled loop."""
    policy = tiny_agent(network, (3,), 3, layers=2, memory=3)
    expected = play(policy, Scripted(), 6, at_once=3, jit_compile=False)
    for mode in (False, True) if network == "mlp" else (False,):
        played = play(policy, scripted(), 6, at_once=3, jit_compile=mode)
        np.testing.assert_array_equal(played.lengths, expected.lengths)
        assert_close(played.returns, expected.returns)


@pytest.fixture
def eagerly():
    """Functions run as plain Python: nothing here is about compilation."""
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.mark.parametrize("network", REMEMBERING)
def test_a_player_begins_with_an_empty_memory(network, eagerly):
    """Catches: memory, or its start flag, of one round of episodes in the next, or of one call in the next."""
    policy = tiny_agent(network, (3,), 3, memory=4, spread=1.0)
    player, seen = Player(policy, scripted(), 1.0, False, 3), []
    choose = player.function

    def look(observation, memory, starts, masks, seed, t, greedy):
        if t == 0:
            seen.append((memory, starts))
        return choose(observation, memory, starts, masks, seed, t, greedy)

    player.function = look
    first, second = player(6, True, 0), player(6, True, 0)
    assert len(seen) == 4
    for begun in seen:
        assert_all_close(begun, (policy.initial_state(3), np.ones(3, np.float32)), rtol=0, atol=0)
    np.testing.assert_array_equal(first.returns, second.returns)
    np.testing.assert_array_equal(first.returns[:3], first.returns[3:])


@pytest.mark.parametrize("make", [Scripted, scripted])
@pytest.mark.parametrize("network", REMEMBERING)
def test_the_value_behind_a_cut_off_episode_remembers_it(network, make, eagerly):
    """28. Catches: V(final observation) that a player reads with a start flag of 1, or with the memory before the last step."""
    policy = tiny_agent(network, (3,), 3, memory=4, spread=1.0)
    memory, total, values, behind = policy.initial_state(3), np.zeros(3), [], []
    observe = lambda t: tf.constant(np.stack([np.arange(3), np.full(3, t), total], axis=-1) / 4, tf.float32)
    for t in range(5):
        logits, value, memory = policy.step(observe(t), memory, tf.fill([3], float(t == 0)))
        total = total + logits.numpy().argmax(axis=-1)
        values.append(value)
        behind.append([policy.step(observe(t + 1), memory, tf.fill([3], flag))[1] for flag in (0.0, 1.0)])
    played = Player(policy, make(), 1.0, False, 3, record=True)(3, True, 0)
    values, (right, wrong) = np.stack(values, axis=1), np.moveaxis(np.array(behind), 0, -1)  # (B, T) each
    expected = np.where(np.arange(1, 6) < LENGTHS[:, np.newaxis], np.roll(values, -1, axis=1), 0.0)
    expected[1, 3] = right[1, 3]  # only copy 1 is cut off, by its time limit
    assert_close(played.steps.next_values, expected, atol=1e-5)
    assert abs(right - wrong)[1, 3] > 1e-2  # this policy does remember


@pytest.mark.parametrize("episodes", [2, 3])
def test_playing_disturbs_no_learner(episodes):
    """31. Catches: evaluation in the learner's own copies: its next transition would begin where another episode is."""
    environment = scripted()
    ppo = learner(environment, "mlp", steps=4)
    (before,), _ = collect(ppo)
    play(ppo.policy, environment, episodes, jit_compile=False)
    (after,), _ = collect(ppo)
    happened = replay(np.concatenate([before.actions, after.actions], axis=1))
    np.testing.assert_array_equal(np.concatenate([before.inputs, after.inputs], axis=1), happened.observations)


def test_playing_is_cut_off_at_the_limit():
    """Catches: an environment without an end, whose evaluation never returns."""
    environment = GymnasiumEnvironment(lambda: Told())
    environment.time_limit = 9
    played = play(tiny_agent("mlp", (2,), 2), environment, 3, at_once=2, jit_compile=False)
    np.testing.assert_array_equal([played.returns, played.lengths], [[9] * 3, [9] * 3])


def test_drawn_episodes_through_the_bridge():
    """Catches: draws that are the same in each step or that no seed names."""
    policy = tiny_agent("mlp", (3,), 3)
    run = lambda **settings: play(policy, scripted(), 12, at_once=3, jit_compile=False, **settings).returns
    drawn = run(greedy=False)
    np.testing.assert_array_equal(run(greedy=False), drawn)
    assert np.any(run(greedy=False, seed=1) != drawn) and np.any(run() != drawn)
    assert min(len(set(drawn[copy::3])) for copy in range(3)) > 1


class Hidden(Told):
    """Draws a reward from NumPy's own random numbers, which belong to nobody's episode; its observations show nothing of it."""

    def step(self, action):
        observation, _, *rest = super().step(action)
        return observation, float(np.random.random()), *rest


@pytest.mark.parametrize("make, same", [(Told, True), (Hidden, False), (lambda: Faulty("raises"), False)])
def test_an_episode_that_is_not_the_same_again_is_said(make, same):
    """Catches: chance from elsewhere that shows only in a reward, or an episode whose replay fails, taken for the episode that was stopped."""
    begun, resumed = (learner(GymnasiumEnvironment(make), "mlp", "eager", steps=2, layers=1) for _ in range(2))
    fit(begun)
    state = begun.state()
    if make not in (Told, Hidden):  # one step more, in which it fails
        episodes = from_json(state["episodes"])
        for episode in episodes:
            episode["actions"] += [0]
        state["episodes"] = of_json(episodes)
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        resumed.restore(state)
    assert [warning.category for warning in shown] == [ResumeWarning] * (not same)
    assert ("does not repeat itself" in str(shown[0].message)) if shown else same
    if same:
        fit(resumed)
