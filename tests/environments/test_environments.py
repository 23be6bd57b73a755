"""`ppo_keras.environments`: CartPole and Acrobot against Gymnasium, memory tasks by script, and what all of them keep to."""

import math

import numpy as np
import pytest
import tensorflow as tf

from helpers import assert_all_close, assert_close
from ppo_keras.environments.acrobot import Acrobot
from ppo_keras.environments.cartpole import CartPole, CartPoleNoVelocity
from ppo_keras.environments.environment import Environment, where_each
from ppo_keras.environments.gridworld import GridWorld
from ppo_keras.environments.memory import RepeatFirst, TMaze
from ppo_keras.errors import InputError

SEED = tf.constant([3, 4])
BATCH = 12
MAKERS = {
    "cartpole": CartPole,
    "cartpole-no-velocity": CartPoleNoVelocity,
    "acrobot": Acrobot,
    "gridworld": lambda: GridWorld(["..G", "S#X", "..S"], mask_walls=True),
    "repeat-first": lambda: RepeatFirst(4, 3),
    "t-maze": lambda: TMaze(3),
}
everywhere = pytest.mark.parametrize("name", MAKERS)


def rollout(environment, steps=6, seed=SEED, jit_compile=None):
    """First observation and state, and the steps after them, under random actions that are the same in every mode."""
    actions = np.random.default_rng(0).integers(0, environment.actions, [steps, BATCH]).astype(np.int32)
    reset, step = (lambda seed: environment.reset(BATCH, seed)), environment.step
    if jit_compile is not None:
        reset, step = tf.function(reset, jit_compile=jit_compile), tf.function(step, jit_compile=jit_compile)
    state, observation = reset(seed)
    outcomes = [(state, observation)]
    for i in range(steps):
        outcomes.append(step(outcomes[-1].state if i else state, tf.constant(actions[i]), seed + i + 1))
    return outcomes


# --- what every environment keeps to ---


@everywhere
def test_eager_graph_and_xla_agree(name):
    """Catches: draws or branches that differ between the modes, and operations that XLA cannot compile."""
    eager, graph, compiled = (rollout(MAKERS[name](), jit_compile=mode) for mode in (None, False, True))
    assert_all_close(graph, eager, rtol=1e-5, atol=1e-5)
    assert_all_close(compiled, eager, rtol=1e-5, atol=1e-5)


@everywhere
def test_shapes_and_types(name):
    """Catches: int observations as floats, rewards in float64, shapes that a compiled rollout does not know beforehand."""
    environment = MAKERS[name]()
    assert environment.name == name
    is_index = isinstance(environment.observation, int)
    shape, dtype = ([BATCH], tf.int32) if is_index else ([BATCH, *environment.observation], tf.float32)

    @tf.function
    def trace(actions, seed):
        state, observation = environment.reset(BATCH, seed)
        step = environment.step(state, actions, seed)
        for seen in (observation, step.observation):
            assert seen.shape == shape and seen.dtype == dtype
        assert (step.reward.shape, step.reward.dtype) == ([BATCH], tf.float32)
        for flag in (step.terminated, step.truncated):
            assert (flag.shape, flag.dtype) == ([BATCH], tf.bool)
        for before, after in zip(tf.nest.flatten(state), tf.nest.flatten(step.state)):
            assert before.shape == after.shape and before.dtype == after.dtype
        return step

    trace(tf.zeros([BATCH], tf.int32), SEED)
    if is_index:
        seen = np.stack([outcome[1] for outcome in rollout(environment)])
        assert seen.min() >= 0 and seen.max() < environment.observation


@everywhere
def test_a_seed_names_its_episodes(name):
    """Catches: resets that ignore their seed, that draw anew at each call, or that begin every copy alike."""
    environment = MAKERS[name]()
    first, again, other = (environment.reset(64, tf.constant(seed)) for seed in ([3, 4], [3, 4], [3, 5]))
    assert_all_close(first, again, rtol=0, atol=0)
    assert np.any(first[1] != other[1])
    assert len(np.unique(first[1], axis=0)) > 1


@everywhere
def test_copies_do_not_touch_each_other(name):
    """Catches: a reduction or a gather over the batch: permuting the copies must permute what happens to them."""
    environment, order = MAKERS[name](), np.random.default_rng(1).permutation(BATCH)
    for before, after in zip(rollout(environment)[1:-1], rollout(environment)[2:]):
        actions = np.random.default_rng(2).integers(0, environment.actions, BATCH).astype(np.int32)
        permuted = tf.nest.map_structure(lambda x: tf.gather(x, order), before.state)
        expected = environment.step(before.state, tf.constant(actions), SEED)
        actual = environment.step(permuted, tf.constant(actions[order]), SEED)
        if name == "repeat-first":  # what is shown is drawn by place, not by copy
            expected, actual = expected._replace(observation=()), actual._replace(observation=())
        assert_all_close(actual, tf.nest.map_structure(lambda x: tf.gather(x, order), expected))


def test_where_each_chooses_whole_copies():
    """Catches: a condition that broadcasts along the wrong axis, or exchanged branches."""
    x, y = (tf.ones([2, 2]), tf.constant([1, 2])), (tf.zeros([2, 2]), tf.constant([3, 4]))
    chosen = where_each(tf.constant([True, False]), x, y)
    assert_all_close(chosen, (tf.constant([[1.0, 1.0], [0.0, 0.0]]), tf.constant([1, 4])))


def test_what_a_subclass_must_define():
    """Catches: an environment without `reset` or `step` that goes on with None."""
    environment = Environment()
    with pytest.raises(NotImplementedError, match="Environment must define reset"):
        environment.reset(1, SEED)
    with pytest.raises(NotImplementedError, match="Environment must define step"):
        environment.step((), tf.constant([0]), SEED)
    assert environment.action_masks(()) == ()


# --- CartPole and Acrobot ---


def follow(gym_id, steps=1000, act=None, place=None):
    """What Gymnasium does: its state before each step, and what came of it.

    `act(state)` chooses the actions (at random without it); `place(random)` puts the environment into a state before each step.
    """
    gymnasium = pytest.importorskip("gymnasium")
    environment, random = gymnasium.make(gym_id), np.random.default_rng(0)
    environment.reset(seed=1)
    rows, elapsed = [], 0
    for _ in range(steps):
        if place is not None:
            environment.unwrapped.state = place(random)
        state = np.array(environment.unwrapped.state)
        action = int(random.integers(environment.action_space.n)) if act is None else act(state)
        observation, reward, terminated, truncated, _ = environment.step(action)
        rows.append((state, elapsed, action, observation, reward, terminated, truncated))
        elapsed += 1
        if terminated or truncated:
            environment.reset()
            elapsed = 0
    return (np.array(column) for column in zip(*rows))


def assert_follows(environment, gym_id, **options):
    """Every step of `follow` is taken from Gymnasium's state, all side by side. Returns observations, and how many ended how."""
    states, elapsed, actions, observations, rewards, terminated, truncated = follow(gym_id, **options)
    state = tf.constant(states, tf.float32), tf.constant(elapsed, tf.int32)
    step = environment.step(state, tf.constant(actions, tf.int32), SEED)
    assert_close(step.observation, observations, rtol=1e-5, atol=1e-5)
    assert_close(step.reward, rewards, rtol=0, atol=0)
    np.testing.assert_array_equal(step.terminated, terminated)
    np.testing.assert_array_equal(step.truncated, truncated)
    return step.observation.numpy(), terminated.sum(), truncated.sum()


def test_cartpole_is_gymnasiums():
    """Catches: any wrong constant or sign, velocities updated first, a limit in degrees, an episode of 499 or 501 steps."""
    assert assert_follows(CartPole(), "CartPole-v1")[1] > 20
    _, terminated, truncated = assert_follows(CartPole(), "CartPole-v1", place=lambda random: np.zeros(4))
    assert (terminated, truncated) == (0, 2)


def test_cartpole_falls_over_every_edge():
    """Catches: a limit missing on one side: position 2.4 m and angle 12 degrees, left and right; inside them nothing ends."""
    angle = math.radians(12)
    physics = [[2.41, 0, 0, 0], [-2.41, 0, 0, 0], [0, 0, angle + 1e-3, 0], [0, 0, -angle - 1e-3, 0], [2.39, 0, angle - 1e-3, 0]]
    step = CartPole().step((tf.constant(physics, tf.float32), tf.zeros([5], tf.int32)), tf.zeros([5], tf.int32), SEED)
    np.testing.assert_array_equal(step.terminated, [True, True, True, True, False])
    assert_close(step.reward, np.ones(5))


def test_cartpole_without_velocities_is_the_same_cartpole():
    """Catches: hidden velocities that are lost from the state, or the wrong two numbers shown."""
    for hidden, seen in zip(rollout(CartPoleNoVelocity()), rollout(CartPole())):
        assert_all_close(hidden[0], seen[0], rtol=0, atol=0)
        assert_close(hidden[1], np.asarray(seen[1])[:, [0, 2]], rtol=0, atol=0)


def test_acrobot_is_gymnasiums():
    """Catches: any wrong constant or sign, another integrator, the paper's equations in place of the book's, the time limit."""
    _, terminated, truncated = assert_follows(Acrobot(), "Acrobot-v1")
    assert (terminated, truncated) == (0, 2)
    _, terminated, _ = assert_follows(Acrobot(), "Acrobot-v1", act=lambda state: 2 if state[3] > 0 else 0)
    assert terminated > 5  # turning the way the joint turns already swings it up


def test_a_fast_acrobot_is_gymnasiums_too():
    """Catches: velocities that are not bounded, or bounded alike, and angles that are bounded or not wrapped."""
    limits = np.array([np.pi, np.pi, 0.6 * 4 * np.pi, 0.6 * 9 * np.pi])  # any faster, and float32 is not exact enough
    place = lambda random: random.uniform(-limits, limits).astype(np.float32).astype(np.float64)
    observations, terminated, _ = assert_follows(Acrobot(), "Acrobot-v1", place=place)
    assert terminated > 50 and np.sum(np.abs(observations[:, 4]) > 12.566) > 5
    physics = tf.constant([[0.1, 0.2, 0.0, 40.0], [0.1, 0.2, 0.0, -40.0], [3.1, -3.1, 2.0, -2.0]])
    (after, _), *_ = Acrobot().step((physics, tf.zeros([3], tf.int32)), tf.constant([1, 1, 1]), SEED)
    assert_close(np.abs(after[:2, 3]), [9 * np.pi] * 2)
    assert np.all(np.abs(after[:, :2]) <= np.pi) and after[2, 0] < 0 < after[2, 1]


@pytest.mark.parametrize("bounds, low, high", [(CartPole, -0.05, 0.05), (Acrobot, -0.1, 0.1)])
def test_physics_begin_near_rest(bounds, low, high):
    """Catches: a start interval that is shifted or of the wrong width, and four numbers drawn as one."""
    (physics, elapsed), _ = bounds().reset(2000, SEED)
    physics = physics.numpy()
    assert np.all((physics > low) & (physics < high))
    assert np.all(physics.min(axis=0) < 0.98 * low) and np.all(physics.max(axis=0) > 0.98 * high)
    assert np.all(np.abs(np.corrcoef(physics.T) - np.eye(4)) < 0.1)
    assert not np.any(elapsed)


def test_acrobot_observes_cosines_and_sines():
    """Catches: sine and cosine, or the two angles, exchanged."""
    (physics, _), observation = Acrobot().reset(5, SEED)
    first, second, *speeds = physics.numpy().T
    assert_close(observation, np.stack([np.cos(first), np.sin(first), np.cos(second), np.sin(second), *speeds], axis=-1))


# --- memory ---


def play(environment, policy, batch=64, seed=SEED):
    """Episodes under `policy(observations so far) -> actions`. Returns observations, returns, lengths, truncations."""
    state, observation = environment.reset(batch, seed)
    seen, returns, alive = [observation.numpy()], np.zeros(batch), np.ones(batch, bool)
    lengths, truncated = np.zeros(batch, int), np.zeros(batch, bool)
    while alive.any():
        step = environment.step(state, tf.constant(policy(seen), tf.int32), tf.constant([5, len(seen)]))
        returns += step.reward.numpy() * alive
        lengths += alive
        truncated |= step.truncated.numpy() & alive
        alive &= ~(step.terminated | step.truncated).numpy()
        state = step.state
        seen.append(step.observation.numpy())
        assert len(seen) < 200
    return np.stack(seen), returns, lengths, truncated


@pytest.mark.parametrize("length, symbols", [(10, 4), (2, 2), (5, 7)])
def test_repeating_the_first_symbol_earns_1(length, symbols):
    """Catches: pay for the first step, a divisor of `length`, an episode of another length, a time limit that cuts it off."""
    seen, returns, lengths, truncated = play(RepeatFirst(length, symbols), lambda seen: seen[0] - symbols)
    assert_close(returns, np.ones(64))
    assert np.all(lengths == length) and not truncated.any()
    assert len(seen) == length + 1 and RepeatFirst(length, symbols).time_limit == length


def test_only_the_first_symbol_is_flagged():
    """Catches: a flag that stays, or symbols that are not all shown, before and after the first step."""
    seen = play(RepeatFirst(6, 3), lambda seen: seen[0] * 0, batch=400)[0]
    np.testing.assert_array_equal(np.unique(seen[0]), [3, 4, 5])
    np.testing.assert_array_equal(np.unique(seen[1:]), [0, 1, 2])
    frequencies = np.stack([np.bincount(row, minlength=6)[:3] for row in seen[1:]]) / 400
    assert np.all(np.abs(frequencies - 1 / 3) < 4 * np.sqrt(2 / 9 / 400))
    assert np.all(np.abs(np.corrcoef(seen) - np.eye(7)) < 0.25)  # what is shown later tells nothing of the first


def test_repeat_first_pays_nothing_without_memory():
    """Catches: pay for the symbol that is shown now. One action for ever earns 1 for one first symbol in four, else 0."""
    first = np.arange(4)
    state, returns = (tf.constant(first, tf.int32), tf.zeros([4], tf.int32)), np.zeros(4)
    rewards = []
    for i in range(10):
        step = RepeatFirst(10, 4).step(state, tf.fill([4], 2), tf.constant([9, i]))
        state, returns = step.state, returns + step.reward.numpy()
        rewards.append(step.reward.numpy())
    assert_close(returns, [0, 0, 1, 0])
    assert_close(rewards[0], np.zeros(4))
    assert_close(rewards[1], [0, 0, 1 / 9, 0])
    seen, earned, *_ = play(RepeatFirst(10, 4), lambda seen: seen[-1] % 4, batch=2000)  # names what is shown now
    assert abs(earned.mean() - 0.25) < 4 * np.sqrt(0.25 * 0.75 / 9 / 2000)


def test_the_way_through_the_t_maze():
    """Catches: a corridor one cell too long or short, a cue seen too long, or sides exchanged."""
    forward_and_turn = lambda seen: np.where(seen[-1] == 3, 1 + seen[0], 0)
    seen, returns, lengths, truncated = play(TMaze(4), forward_and_turn)
    assert_close(returns, np.ones(64))
    assert np.all(lengths == 5) and not truncated.any()
    np.testing.assert_array_equal(np.unique(seen[0]), [0, 1])
    np.testing.assert_array_equal(seen[1:], np.repeat([[2], [2], [2], [3], [3]], 64, axis=1))
    assert_close(play(TMaze(4), lambda seen: np.where(seen[-1] == 3, 2 - seen[0], 0))[1], np.zeros(64))


@pytest.mark.parametrize("turn", [1, 2])
def test_without_memory_the_t_maze_pays_one_of_two_sides(turn):
    """Catches: pay for any turn, or for none. With both cues side by side the mean is exactly 1/2."""
    state, returns = (tf.constant([0, 1]), tf.zeros([2], tf.int32), tf.zeros([2], tf.int32)), np.zeros(2)
    for action in (0, 0, 0, turn):
        step = TMaze(3).step(state, tf.constant([action, action]), SEED)
        state, returns = step.state, returns + step.reward.numpy()
    assert_close(returns, [turn == 1, turn == 2])
    np.testing.assert_array_equal(step.terminated, [True, True])


def test_turning_in_the_corridor_and_waiting_at_the_junction_do_nothing():
    """Catches: an episode that ends in the corridor, a cue that vanishes with time, or a way through the wall."""
    state = tf.constant([1]), tf.constant([0]), tf.constant([0])
    seen, rewards, ends = [], [], []
    for action in (1, 2, 0, 2, 1, 0, 0, 0, 0, 2):
        step = TMaze(2).step(state, tf.constant([action]), SEED)
        state = step.state
        seen.append(int(step.observation[0]))
        rewards.append(float(step.reward[0]))
        ends.append((bool(step.terminated[0]), bool(step.truncated[0])))
    assert seen == [1, 1, 2, 2, 2, 3, 3, 3, 3, 3]
    assert rewards == [0.0] * 9 + [1.0]
    assert ends == [(False, False)] * 9 + [(True, True)]  # the tenth step is the last in any case: 5 * length


def test_a_t_maze_without_turns_is_cut_off():
    """Catches: an episode that never ends, or that terminates where it is only cut off."""
    _, returns, lengths, truncated = play(TMaze(3), lambda seen: seen[0] * 0)
    assert np.all(lengths == 15) and truncated.all() and not returns.any()


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: RepeatFirst(length=1), r"length=1 is less than 2, .*Use a number of steps"),
        (lambda: RepeatFirst(symbols=1), r"symbols=1 is less than 2, .*Use a number"),
        (lambda: TMaze(length=1), r"length=1 is less than 2, .*Use a number of cells"),
    ],
)
def test_tasks_that_need_no_memory_are_refused(make, message):
    """Catches: a division by zero, or a task that tests nothing."""
    with pytest.raises(InputError, match=message):
        make()
