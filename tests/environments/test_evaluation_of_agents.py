"""`ppo_keras.environments.evaluation`: whole episodes whose returns and lengths are known by hand."""

import numpy as np
import pytest
import tensorflow as tf
from test_environment_ppo import LENGTHS, NETWORKS, Scripted

from helpers import assert_close, tiny_agent
from ppo_keras.environments.environment import Environment, Step
from ppo_keras.environments.evaluation import Player, play
from ppo_keras.environments.gridworld import GridWorld
from ppo_keras.errors import InputError
from ppo_keras.networks.actor_critic import MLPActorCritic

every_network = pytest.mark.parametrize("network", NETWORKS)


def by_hand(policy, starts=lambda elapsed: elapsed == 0):
    """Greedy returns of the first episode of each scripted copy, in a plain loop: reward copy + step / 8 + action / 64."""
    memory, elapsed, total, returns = policy.initial_state(3), 0, np.zeros(3), np.zeros(3)
    while elapsed < max(LENGTHS):
        observation = np.stack([np.arange(3), np.full(3, elapsed), total], axis=-1) / 4
        logits, _, memory = policy.step(tf.constant(observation, tf.float32), memory, tf.fill([3], float(starts(elapsed))))
        actions = logits.numpy().argmax(-1)
        returns += np.where(elapsed < LENGTHS, np.arange(3) + elapsed / 8 + actions / 64, 0)
        elapsed, total = elapsed + 1, total + actions
    return returns


def prefers(*logits):
    """A policy that has these logits everywhere."""
    policy = tiny_agent("mlp", 3, len(logits))
    policy.set_weights([0 * w for w in policy.get_weights()])
    policy.policy_head.bias.assign(np.array(logits, np.float32))
    return policy


@pytest.mark.parametrize(
    "network, mode",
    [
        pytest.param(network, mode, marks=pytest.mark.full if mode == "jit" and network != "mlp" else ())
        for network in NETWORKS
        for mode in ("graph", "eager", "jit")
    ],
)
def test_greedy_episodes_by_hand(network, mode):
    """27. Catches: steps after the end that are counted, ends of one copy that end the others, a memory that is not carried on or is
    reset in mid-episode, actions that are drawn, numbers that differ between the modes."""
    policy = tiny_agent(network, (3,), 3, layers=2, memory=3)
    tf.config.run_functions_eagerly(mode == "eager")
    try:
        played = play(policy, Scripted(), 3, jit_compile=mode == "jit")
    finally:
        tf.config.run_functions_eagerly(False)
    np.testing.assert_array_equal(played.lengths, LENGTHS)
    assert_close(played.returns, by_hand(policy))


def test_memory_is_carried_through_an_episode():
    """27. Catches: memory that is reset at each step, which the greedy actions of most untrained policies do not show."""
    policy = tiny_agent("lstm", (3,), 3, layers=2, spread=1.0)
    expected = by_hand(policy)
    assert np.all(by_hand(policy, starts=lambda elapsed: True) != expected)
    assert_close(play(policy, Scripted(), 3, jit_compile=False).returns, expected)


@every_network
def test_a_later_round_equals_a_fresh_start(network):
    """27. Catches: memory, returns or flags of one round of episodes that reach the next: the script repeats exactly."""
    policy = tiny_agent(network, (3,), 3, layers=2, memory=16)
    once, thrice = (play(policy, Scripted(), episodes, at_once=3, jit_compile=False) for episodes in (3, 9))
    for one, three in zip(once, thrice):
        np.testing.assert_array_equal(three, np.tile(one, 3))


def test_a_player_sees_what_the_policy_has_become():
    """Catches: weights, seed or greediness that are compiled into a player."""
    policy, other = (tiny_agent("lstm", (3,), 3, layers=2, spread=1.0, seed=seed) for seed in (9, 0))
    player = Player(policy, Scripted(), 1.0, False, 3)
    drawn = [player(9, False, seed).returns for seed in (0, 1)]
    assert np.any(drawn[0] != drawn[1])
    assert_close(player(3, True, 0).returns, by_hand(policy))
    assert np.any(by_hand(other) != by_hand(policy))
    policy.set_weights(other.get_weights())
    assert_close(player(3, True, 0).returns, by_hand(other))
    np.testing.assert_array_equal(player(9, False, 1).returns, play(other, Scripted(), 9, False, 1, jit_compile=False, at_once=3).returns)


@pytest.mark.parametrize("episodes, lengths", [(3, [3, 4, 5]), (5, [3, 4, 5, 3, 4]), (7, [3, 4, 5, 3, 4, 5, 3])])
def test_each_episode_counts_once(episodes, lengths):
    """Catches: more episodes of short-lived copies than of long-lived ones, a last round that is lost or counted in full."""
    played = play(tiny_agent("mlp", (3,), 3), Scripted(), episodes, at_once=3, jit_compile=False)
    np.testing.assert_array_equal(played.lengths, lengths)
    assert played.returns.shape == (episodes,)


def test_drawn_actions_follow_temperature_and_seed():
    """Catches: `greedy` or `temperature` that is not read, one draw for all steps, copies or rounds, a seed that names nothing."""
    policy = tiny_agent("mlp", (3,), 3)
    run = lambda **settings: play(policy, Scripted(), 30, at_once=3, jit_compile=False, **settings).returns
    greedy, drawn = run(), run(greedy=False)
    assert len(set(greedy)) == 3 and np.any(drawn != greedy)
    assert min(len(set(drawn[copy::3])) for copy in range(3)) > 1
    np.testing.assert_array_equal(run(greedy=False), drawn)
    assert np.any(run(greedy=False, seed=1) != drawn)
    np.testing.assert_array_equal(run(greedy=False, temperature=1e-4), greedy)
    np.testing.assert_array_equal(run(temperature=5.0, seed=3), greedy)


def test_drawn_actions_have_their_probabilities():
    """Catches: draws at another temperature than the given one: the share of action 1 is sigmoid(1 / temperature) = 0.8808 at 0.5;
    one draw that serves all steps, or all copies."""

    class Paying(Forever):
        """Pays the action, for 200 steps."""

        time_limit = 200

        def step(self, state, actions, seed):
            return super().step(state, actions, seed)._replace(reward=tf.cast(actions, tf.float32))

    played = play(prefers(0.0, 1.0), Paying(), 50, greedy=False, temperature=0.5, jit_compile=False)
    variance = 200 * 0.8808 * 0.1192  # of a return, whose steps are drawn one by one
    assert abs(played.returns.mean() - 200 * 0.8808) < 4 * (variance / 50) ** 0.5
    assert 0.5 * variance < played.returns.var() < 2 * variance


@pytest.mark.parametrize("greedy", [True, False])
def test_masks_are_kept_to(greedy):
    """Catches: a policy that plays other rules than it learned: this one would run against the wall above until the time limit."""
    up, right = prefers(50.0, 0.0, -50.0, 0.0), prefers(50.0, 0.0, -50.0, 20.0)
    for policy in (up, right):
        played = play(policy, GridWorld(["S.G"], mask_walls=True, step_reward=-0.25), 4, greedy, jit_compile=False)
        np.testing.assert_array_equal(played.lengths, [2, 2, 2, 2])
        np.testing.assert_array_equal(played.returns, [0.75] * 4)
    played = play(right, GridWorld(["S.G"], step_reward=-0.25), 4, greedy, jit_compile=False)
    np.testing.assert_array_equal(played.lengths, [20] * 4)
    np.testing.assert_array_equal(played.returns, [-5.0] * 4)


class Forever(Environment):
    """Never ends by itself; each step pays 0.5."""

    name, observation, actions, time_limit = "forever", 3, 2, 7

    def reset(self, batch, seed):
        zeros = tf.zeros([batch], tf.int32)
        return (), zeros

    def step(self, state, actions, seed):
        never = tf.zeros_like(actions, tf.bool)
        return Step((), tf.zeros_like(actions), tf.fill(actions.shape, 0.5), never, never)


@pytest.mark.parametrize("greedy", [True, False])
def test_masks_of_several_choices_are_kept_to(greedy):
    """Catches: masks that reach only a single choice; those of one choice, or of one step, taken for another's."""

    class TwoChoices(Forever):
        """The first choice has one action in step t, t % 2, the second all but t % 3; what is forbidden costs 1."""

        actions = [2, 3]

        def reset(self, batch, seed):
            zeros = tf.zeros([batch], tf.int32)
            return zeros, zeros

        def action_masks(self, state):
            return tf.concat([tf.one_hot(state % 2, 2, True, False), tf.one_hot(state % 3, 3, False, True)], axis=1)

        def step(self, state, actions, seed):
            forbidden = (actions[:, 0] != state % 2) | (actions[:, 1] == state % 3)
            step = super().step(state, actions[:, 0], seed)
            return step._replace(state=state + 1, reward=-tf.cast(forbidden, tf.float32))

    played = play(tiny_agent("mlp", 3, [2, 3]), TwoChoices(), 4, greedy, jit_compile=False)
    assert played.returns.tolist() == [0.0] * 4 and played.lengths.tolist() == [7] * 4


@pytest.mark.parametrize("time_limit, steps", [(7, 7), (None, 10_000)])
def test_an_endless_episode_is_cut_off(time_limit, steps):
    """Catches: an evaluation that never returns, or that is cut off one step early or late."""
    environment = Forever()
    environment.time_limit = time_limit
    played = play(prefers(0.0, 1.0), environment, 2, jit_compile=False)
    np.testing.assert_array_equal(played.lengths, [steps] * 2)
    np.testing.assert_array_equal(played.returns, [steps / 2] * 2)


def test_a_finished_episode_stands_still():
    """Catches: numbers of an episode that is over (NaN, in a world that divides by what is left) that reach its return."""

    class Fragile(Forever):
        """Copy 0 ends after 2 steps and pays infinity if it is stepped beyond; copy 1 ends after 5."""

        def reset(self, batch, seed):
            return tf.zeros([2]), tf.zeros([2], tf.int32)

        def step(self, state, actions, seed):
            state += 1.0
            return Step(state, tf.zeros_like(actions), 1.0 / tf.maximum(3.0 - state, [0.0, 1.0]), state == [2.0, 5.0], state == 9.0)

    played = play(prefers(0.0, 1.0), Fragile(), 2, jit_compile=False)
    np.testing.assert_array_equal(played.lengths, [2, 5])
    assert_close(played.returns, [0.5 + 1.0, 0.5 + 1.0 + 3.0])


@pytest.mark.parametrize("python", [False, True])
def test_recorded_steps_against_a_loop(python):
    """Catches: values of the next step, steps of another episode, a value behind a true end, V of a cut-off episode left out,
    what lies behind an end that counts; a round that was shorter than another."""

    class Ending(Forever):
        """Copy i terminates after i + 2 steps, but is cut off at 4; pays 1 + its step. What is observed is the step."""

        observation, actions, time_limit = 6, 3, 9

        def reset(self, batch, seed):
            return (tf.range(batch), tf.zeros([batch], tf.int32)), tf.zeros([batch], tf.int32)

        def step(self, state, actions, seed):
            copy, t = state[0], state[1] + 1
            return Step((copy, t), t, tf.cast(t, tf.float32), t >= copy + 2, t >= 4)

    class InPython:
        """The same as an environment that does not compile."""

        name, compiles, observation, actions, time_limit = "in-python", False, 6, 3, 9
        copy = lambda self: InPython()
        close = lambda self: None
        action_masks = lambda self, state: ()

        def reset(self, batch, seed):
            self.inner = Ending()
            self.state, observation = self.inner.reset(batch, seed)
            return self.state, observation

        def step(self, actions):
            step = self.inner.step(self.state, actions, None)
            self.state = step.state
            return step._replace(reward=step.reward.numpy(), terminated=step.terminated.numpy(), truncated=step.truncated.numpy()), step.observation

    policy = tiny_agent("mlp", 6, 3)
    player = Player(policy, InPython() if python else Ending(), 1.0, False, 4, record=True)
    played = player(6, True, 0)
    values, logits = (policy.step(tf.range(6), policy.initial_state(6), tf.ones([6]))[i].numpy() for i in (1, 0))
    exact = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    np.testing.assert_array_equal(played.lengths, [2, 3, 4, 4, 2, 3])
    for i, length in enumerate((2, 3, 4, 4, 2, 3)):
        rows = [column[i, :length] for column in played.steps]
        # copy 2 terminates at the time limit: it has ended; copy 3 is cut off
        later = [values[t + 1] if t + 1 < length or i == 3 else 0.0 for t in range(length)]
        expected = range(1, length + 1), values[:length], later, -np.sum(np.exp(exact) * exact, axis=1)[:length], [0] * (length - 1) + [1], [1] * length
        for row, wanted in zip(rows, expected):
            assert_close(row, wanted)
        assert not any(column[i, length:].any() for column in played.steps)
    assert_close(played.returns, played.steps.rewards.sum(axis=1))


def test_the_value_behind_a_cut_off_episode_is_recorded():
    """Catches: a bootstrap value of 0 at a time limit, or that of the observation before."""
    policy = tiny_agent("mlp", 3, 2)
    value = float(policy.step(tf.constant([0]), policy.initial_state(1), tf.ones([1]))[1][0])
    steps = Player(policy, Forever(), 1.0, False, 2, record=True)(3, False, 0).steps
    assert_close(steps.next_values, np.full([3, 7], value))
    assert steps.ended.sum() == 3 and steps.mask.sum() == 21


@pytest.mark.parametrize(
    "settings, said",
    [
        (dict(episodes=0), "episodes=0 is no whole number of 1 or more. Use one such as 100"),
        (dict(episodes=-3), "episodes=-3 is no"),
        (dict(episodes=2.5), "episodes=2.5 is no"),
        (dict(episodes="2"), "episodes='2' is no"),
        (dict(at_once=0), "at_once=0 is no whole number"),
        (dict(temperature=0), "temperature=0 is not positive. Use greedy=True"),
        (dict(temperature=None), "temperature=None is not positive"),
        (dict(seed=-1), "seed=-1 is outside"),
        (dict(policy=Forever()), "policy is <.*Forever object.*, which has no initial_state, distribution, has_memory. Use one such as MLPActorCritic"),
        (dict(policy=MLPActorCritic), r"policy is the class MLPActorCritic, expected an object of it. Write MLPActorCritic\(...\)"),
        (dict(environment="CartPole-v1"), "environment is 'CartPole-v1', which has no reset, .*GymnasiumEnvironment\\('CartPole-v1'\\)"),
        (dict(environment=GridWorld), "environment is the class GridWorld"),
        (dict(seed=2**31), "seed=2147483648 is outside"),
    ],
)
def test_what_cannot_be_played_is_said(settings, said):
    """Catches: `need at least one array to concatenate`, a division by 0, a seed that TensorFlow cannot hold."""
    with pytest.raises(InputError, match=said):
        play(**dict(policy=prefers(0, 0), environment=Forever(), episodes=2) | settings)
