"""`ppo_keras.environments.rollout` and `.ppo`: acting where every number is known by hand, and whole iterations of training."""

import functools
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf

from helpers import assert_all_close, assert_close, tiny_agent, weights_of
from ppo_keras import PPOConfig
from ppo_keras.distributions import DiagonalGaussian
from ppo_keras.environments.cartpole import CartPole
from ppo_keras.environments.environment import Environment, Step
from ppo_keras.environments.gridworld import GridWorld
from ppo_keras.environments.ppo import EnvironmentPPO
from ppo_keras.environments.rollout import Record, batch_first
from ppo_keras.errors import InputError
from ppo_keras.networks.actor_critic import new_policy
from ppo_keras.trajectory import take_sequences
from test_advantages import ENDED, REWARDS, VALUES

NETWORKS, REMEMBERING = ("mlp", "lstm", "transformer"), ("lstm", "transformer")
every_network = pytest.mark.parametrize("network", NETWORKS)
with_memory = pytest.mark.parametrize("network", REMEMBERING)
LENGTHS = np.array([3, 4, 5])  # of the episodes of three copies
STEPS = 6  # of a rollout: copy 0 ends in its last step too, the others go on beyond it
CONFIG = PPOConfig(epochs=2, minibatches=3, temperature=2.0)
ONE_STEP = PPOConfig(epochs=1, minibatches=1, temperature=2.0)  # one optimizer step: what is logged was measured before it
SGD = keras.optimizers.SGD


class Scripted(Environment):
    """Episodes of fixed length, whose observations and rewards name the copy, the step and the actions so far.

    Copy 0 ends by its own rules, copy 1 by a time limit, copy 2 by both at once. All rewards are exact in float32.
    """

    name, observation, actions, time_limit = "scripted", (3,), 3, 5

    def __init__(self, copies=(0, 1, 2), pays=0.0):
        self.copies, self.pays = np.array(copies, np.int32), pays

    def observe(self, state):
        return tf.stack([tf.cast(x, tf.float32) / 4 for x in state], axis=-1)

    def reset(self, batch, seed):
        zeros = tf.zeros([batch], tf.int32)
        state = tf.constant(self.copies), zeros, zeros
        return state, self.observe(state)

    def step(self, state, actions, seed):
        copy, elapsed, total = state
        reward = tf.cast(copy * 64 + elapsed * 8 + actions, tf.float32) / 64 + self.pays
        state = copy, elapsed + 1, total + actions
        over = state[1] == tf.gather(tf.constant(LENGTHS, tf.int32), copy)
        return Step(state, self.observe(state), reward, over & (copy != 1), over & (copy != 0))


def replay(actions, copies=(0, 1, 2)):
    """What must have happened under these actions `(B, T)`, from the first step on: a plain loop, arrays `(B, T, ...)`."""
    happened = SimpleNamespace(
        observations=np.zeros([*actions.shape, 3]), finals=np.zeros([*actions.shape, 3]), starts=np.zeros(actions.shape),
        rewards=np.zeros(actions.shape), terminated=np.zeros(actions.shape, bool), truncated=np.zeros(actions.shape, bool),
        returns=np.full(actions.shape, np.nan), lengths=np.full(actions.shape, np.nan),
    )  # fmt: skip
    for b, copy in enumerate(copies):
        elapsed, total, earned = 0, 0, 0.0
        for t, action in enumerate(actions[b]):
            happened.observations[b, t] = copy / 4, elapsed / 4, total / 4
            happened.starts[b, t] = elapsed == 0
            happened.rewards[b, t] = copy + elapsed / 8 + action / 64
            earned += happened.rewards[b, t]
            elapsed, total = elapsed + 1, total + action
            happened.finals[b, t] = copy / 4, elapsed / 4, total / 4
            if elapsed == LENGTHS[copy]:
                happened.terminated[b, t], happened.truncated[b, t] = copy != 1, copy == 1
                happened.returns[b, t], happened.lengths[b, t] = earned, elapsed
                elapsed, total, earned = 0, 0, 0.0
    happened.ended = happened.terminated | happened.truncated
    return happened


class Watched(EnvironmentPPO):
    """Logs its trajectories too, and counts how often Python runs through an iteration."""

    traces = 0

    def collect(self, data):
        self.traces += 1
        self.trajectory, metrics = super().collect(data)
        return self.trajectory, metrics

    def train_step(self, data):
        metrics = super().train_step(data)
        return metrics | {"actions": self.trajectory.actions, "values": self.trajectory.values}


def learner(
    network="lstm",
    environment=None,
    mode="eager",
    config=CONFIG,
    policy=None,
    optimizer=None,
    steps=STEPS,
    layers=1,
    normalize=False,
    kind=EnvironmentPPO,
    environments=3,
    **kwargs,
):
    """A compiled learner: one layer, three environments, a Transformer whose memory (4) is shorter than the rollout (6)."""
    environment = environment or Scripted()
    policy = policy or tiny_agent(network, environment.observation, environment.actions, layers=layers, memory=4, normalize=normalize)
    ppo = kind(policy, environment, config, environments, steps, **kwargs)
    ppo.compile(optimizer or SGD(0.05), jit_compile=mode == "jit", run_eagerly=mode == "eager")
    return ppo


@functools.cache
def untrained():
    """A learner that is only looked at."""
    return learner("mlp")


def fit(ppo, iterations=1):
    """Trains; returns the history, a list of numbers (or arrays) for each metric."""
    history = [ppo.fit(verbose=0).history for _ in range(iterations)]
    return {name: [one[name][0] for one in history] for name in history[0]}


def collect(ppo, rollouts=1, jit_compile=None):
    """Rollouts one after another, with no update between them. Returns their trajectories and their metrics."""
    act = ppo.collect if jit_compile is None else tf.function(ppo.collect, jit_compile=jit_compile, autograph=False)
    found = []
    for _ in range(rollouts):
        ppo.finished.assign([0.0, 0.0, 0.0])
        trajectory, _ = act(0)
        found.append((trajectory, {name: value.numpy() for name, value in ppo._episodes().items()}))
        ppo.iteration.assign_add(1)
    return zip(*found)


@functools.cache
def three_rollouts(network, shared=False):
    """A learner that did not learn, its three trajectories, and their fields side by side, `(3, 18, ...)`."""
    ppo = learner(policy=tiny_agent(network, (3,), 3, shared=shared, layers=1, memory=4))
    trajectories, _ = collect(ppo, 3)
    fields = [name for name in trajectories[0]._fields if name not in ("initial_state", "action_masks")]
    whole = {name: np.concatenate([getattr(trajectory, name) for trajectory in trajectories], axis=1) for name in fields}
    return ppo, trajectories, SimpleNamespace(**whole)


def read(ppo, trajectory, **changes):
    """Log-probabilities of the trajectory's actions and values, by one `call`: what the update computes."""
    trajectory = trajectory._replace(**changes)
    logits, values = ppo.policy(trajectory.inputs, initial_state=trajectory.initial_state, starts=trajectory.starts)
    logits = ppo.behaviour(logits, trajectory.action_masks)
    return ppo.policy.distribution.log_probability(logits, trajectory.actions).numpy(), values.numpy()


# The trajectory


@every_network
def test_everything_is_where_it_belongs(network):
    """22, 23. Catches: time and environments exchanged, rewards or flags shifted by a step, a start that is lost between rollouts."""
    _, trajectories, whole = three_rollouts(network)
    happened = replay(whole.actions)
    assert whole.actions.shape == (3, 18) and len(np.unique(whole.actions)) == 3
    np.testing.assert_array_equal(whole.inputs, happened.observations)
    np.testing.assert_array_equal(whole.starts, happened.starts)
    np.testing.assert_array_equal(whole.rewards, happened.rewards)
    np.testing.assert_array_equal(whole.ended, happened.ended)
    np.testing.assert_array_equal(whole.mask, np.ones([3, 18]))
    np.testing.assert_array_equal(trajectories[0].starts[:, 0], [1, 1, 1])
    np.testing.assert_array_equal(trajectories[1].starts[:, 0], [1, 0, 0])  # copy 0 ended in the step before
    assert trajectories[0].context == 0 and trajectories[0].action_masks == ()
    assert happened.ended.sum() == 6 + 4 + 3


@pytest.mark.parametrize("network, shared", [("mlp", False), ("lstm", False), ("lstm", True), ("transformer", False)])
def test_acting_and_reading_agree(network, shared):
    """22, 25. Catches: a reset one step early or late in acting or updating, in the first rollout or in a later one."""
    ppo, trajectories, _ = three_rollouts(network, shared)
    for trajectory in trajectories:
        log_probs, values = read(ppo, trajectory)
        assert_close(trajectory.log_probs, log_probs, atol=1e-5)
        assert_close(trajectory.values, values, atol=1e-5)


@with_memory
def test_a_reset_one_step_off_would_be_seen(network):
    """22. Catches: a policy of these tests whose numbers do not depend on the starts, so that nothing above could fail."""
    ppo, trajectories, _ = three_rollouts(network)
    for trajectory in trajectories:
        for shift in (-1, 1):
            log_probs, values = read(ppo, trajectory, starts=tf.roll(trajectory.starts, shift, axis=1))
            assert np.abs(log_probs - trajectory.log_probs).max() > 1e-2 and np.abs(values - trajectory.values).max() > 1e-2


@with_memory
def test_the_first_ratio_is_one(network):
    """22. Catches: the same in whole iterations, where the carry was written by older weights than those that read it."""
    ppo = learner(network, config=ONE_STEP, layers=1)
    before = weights_of(ppo.policy)
    history = fit(ppo, 2)
    assert_close(history["policy/ratio"], np.ones(2))
    assert_close(history["policy/approx_kl"], np.zeros(2))
    assert history["policy/clip_fraction"] == history["value/clip_fraction"] == [0, 0]
    assert max(np.abs(new - old).max() for new, old in zip(weights_of(ppo.policy), before)) > 1e-3


@every_network
def test_permuted_environments_have_permuted_trajectories(network, monkeypatch):
    """23. Catches: `(T, B)` taken for `(B, T)`, memory or noise of one environment used for another."""
    ppo, trajectories, _ = three_rollouts(network)
    order = [2, 0, 1]
    other = learner(environment=Scripted(copies=order), policy=ppo.policy)
    noise = ppo.policy.distribution.noise
    monkeypatch.setattr(ppo.policy.distribution, "noise", lambda shape, seed: tf.gather(noise(shape, seed), order, axis=1))
    permuted, _ = collect(other, 2)
    for one, trajectory in zip(permuted, trajectories):
        assert_all_close(one, take_sequences(trajectory, order))


@with_memory
def test_the_carry_is_the_one_that_training_reads(network):
    """24. Catches: the memory after the rollout (or an empty one) stored with a trajectory, or one that the update ignores."""
    ppo = learner(network, layers=2)  # so that a Transformer knows of more steps than its memory holds
    before = tf.nest.map_structure(lambda x: x.numpy(), ppo.carry.memory)
    (first,), _ = collect(ppo)
    after = tf.nest.map_structure(lambda x: x.numpy(), ppo.carry.memory)
    (second,), _ = collect(ppo)
    for stored, memory in ((first.initial_state, before), (second.initial_state, after)):
        for one, other in zip(tf.nest.flatten(stored), tf.nest.flatten(memory)):
            np.testing.assert_array_equal(one, other)
    changed = tf.nest.map_structure(lambda x: x * 0.5 if x.dtype.is_floating else x, second.initial_state)
    _, values = read(ppo, second, initial_state=changed)
    difference = np.abs(values - second.values)
    carried = np.cumsum(second.starts, axis=1) == 0  # steps of episodes that began in the rollout before
    np.testing.assert_array_equal(carried.sum(axis=1), [0, 2, 4])
    assert difference[carried].min() > 1e-4 and difference[~carried].max() < 1e-5


@pytest.mark.parametrize("network, shared", [("mlp", False), ("lstm", False), ("lstm", True), ("transformer", False)])
def test_next_values_by_hand(network, shared):
    """28, 29, 30. Catches: a bootstrap from the first observation of the next episode, with a memory that was reset, after a
    termination, or of a wrong step at the end of a rollout; an end for both reasons that is bootstrapped."""
    ppo, _, whole = three_rollouts(network, shared)
    happened, policy = replay(whole.actions), ppo.policy
    memory, zeros = policy.initial_state(3), tf.zeros([3])
    values, finals = [], []
    for t in range(18):
        logits, value, memory = policy.step(tf.constant(happened.observations[:, t], tf.float32), memory, tf.constant(happened.starts[:, t], tf.float32))
        values.append(value)
        finals.append(policy.step(tf.constant(happened.finals[:, t], tf.float32), memory, zeros)[1])
    values, finals = np.stack(values, axis=1), np.stack(finals, axis=1)
    assert_close(whole.values, values, atol=1e-5)
    expected = np.where(happened.truncated, finals, np.roll(values, -1, axis=1))
    expected[happened.terminated] = 0.0
    assert_close(whole.next_values[:, :-1], expected[:, :-1], atol=1e-5)
    assert happened.truncated.sum() == 4 and np.abs(finals - np.roll(values, -1, axis=1))[happened.truncated].min() > 1e-2
    np.testing.assert_array_equal(whole.next_values[[0, 2]][happened.ended[[0, 2]]], 0)


@every_network
def test_the_tail_is_the_value_of_the_next_rollout(network):
    """29, 30. Catches: a tail of 0, the last value of this rollout, or one read with an old memory."""
    _, trajectories, _ = three_rollouts(network)
    for one, following in zip(trajectories, trajectories[1:]):
        goes_on = (one.ended[:, -1] == 0).numpy()
        assert goes_on.any()
        assert_close(one.next_values[:, -1][goes_on], following.values[:, 0][goes_on])


def test_golden_advantages_of_a_rollout():
    """28, 29. Catches: anything between the record of a rollout and its advantages that CleanRL and Stable-Baselines3 do otherwise."""
    policy = tiny_agent("mlp", (3,), 3)
    policy.set_weights([w * 0 for w in weights_of(policy)])
    policy.value_head.bias.assign([0.7])  # V of everything, so of what follows the last step
    ppo = learner(
        policy=policy,
        environments=2,
        steps=5,
        environment=Scripted((0, 1)),
        config=PPOConfig(minibatches=2, discount=0.99, gae_lambda=0.95, whiten_advantages=False),
    )
    twice = lambda x: np.repeat(np.asarray(x, np.float32).T, 2, axis=1)  # (T, B)
    zeros = np.zeros([5, 2], np.float32)
    record = Record(
        observation=np.zeros([5, 2, 3], np.float32), starts=zeros, action=zeros.astype(np.int32), logits=np.zeros([5, 2, 3], np.float32),
        value=twice(VALUES), action_masks=(), reward=twice(REWARDS), terminated=twice(ENDED) * [1, 0] > 0, truncated=twice(ENDED) * [0, 1] > 0,
        final_value=zeros + 0.6, episode_return=zeros, episode_length=zeros, discounted_return=zeros,
    )  # fmt: skip
    trajectory, _ = ppo.assemble(ppo.carry, ppo.carry, batch_first(tf.nest.map_structure(tf.constant, record)))
    assert_close(trajectory.next_values, [[0.4, 0, 0.2, 0.1, 0.7], [0.4, 0.6, 0.2, 0.1, 0.7]])
    experience = ppo.estimate(trajectory)
    after = [1.829312, -0.073033, 1.093]
    assert_close(experience.advantages, [[0.5198, -0.4, *after], [1.078457, 0.194, *after]])
    assert_close(experience.returns[0], [1.0198, 0, 2.129312, 0.126967, 1.193])
    assert_close(trajectory.log_probs, np.full([2, 5], np.log(1 / 3)))


def test_episodes_by_hand():
    """Catches: episodes under way that are counted, returns that start anew in each rollout, a last value that is lost where none ended."""
    ppo = learner("mlp", steps=1, config=PPOConfig(minibatches=1), normalize_rewards=True)
    trajectories, metrics = collect(ppo, 12)
    happened = replay(np.concatenate([trajectory.actions for trajectory in trajectories], axis=1))
    expected = 0.0, 0.0
    for t, found in enumerate(metrics):
        ended = happened.ended[:, t]
        if ended.any():
            expected = happened.returns[ended, t].mean(), happened.lengths[ended, t].mean()
        assert (found["episode/return"], found["episode/length"], found["episode/count"]) == (*expected, ended.sum())
    np.testing.assert_array_equal(happened.ended.sum(axis=0), [0, 0, 1, 1, 1, 1, 0, 1, 1, 1, 0, 2])  # t = 6: kept


# Minibatches


class Spying(EnvironmentPPO):
    """Keeps what each optimizer step was shown."""

    def gradients(self, experience, count):
        self.seen.append(experience)
        return super().gradients(experience, count)


def steps_of(experience):
    """Each step as a list of its observation and the numbers that belong to it."""
    trajectory = experience.trajectory
    parts = trajectory.actions, trajectory.log_probs, trajectory.values, experience.advantages, experience.returns
    numbers = np.concatenate([trajectory.inputs, np.stack([np.asarray(x, np.float32) for x in parts], axis=-1)], axis=-1)
    return numbers.reshape(-1, 8).tolist()


@every_network
def test_minibatches_keep_what_belongs_together(network):
    """26. Catches: sequences cut or mixed up for a policy with memory (advantages and carry too), or whole ones for one without."""
    ppo = learner(network, kind=Spying)
    (trajectory,), _ = collect(ppo)
    ppo.seen = []
    ppo.improve(trajectory)
    expected = ppo.estimate(trajectory)
    assert len(ppo.seen) == 6  # 2 epochs of 3
    for epoch in (ppo.seen[:3], ppo.seen[3:]):
        if network == "mlp":
            assert all(part.trajectory.inputs.shape == (6, 1, 3) for part in epoch)
            assert all(len(set(part.trajectory.inputs[:, 0, 0].numpy())) > 1 for part in epoch)  # the copies are mixed
            np.testing.assert_array_equal(sorted(sum(map(steps_of, epoch), [])), sorted(steps_of(expected)))
        else:
            copies = [int(part.trajectory.inputs[0, 0, 0] * 4) for part in epoch]
            assert sorted(copies) == [0, 1, 2]
            for part, copy in zip(epoch, copies):
                assert_all_close(part, take_sequences(expected, [copy]), rtol=0, atol=0)


@pytest.mark.parametrize("network, minibatches", [("lstm", 2), ("lstm", 6), ("mlp", 4)])
def test_minibatches_must_divide(network, minibatches):
    """26. Catches: experience dropped without a word: 3 sequences, or 18 steps of a policy without memory."""
    with pytest.raises(InputError, match=f"minibatches={minibatches} does not divide environments"):
        learner(network, config=PPOConfig(minibatches=minibatches))


# Whole iterations


@functools.cache
def trained(network, mode):
    """A learner after two iterations, with its history; compiled once for all tests that look at it."""
    policy = tiny_agent(network, (3,), 3, shared=True, layers=1, memory=4)
    ppo = learner(mode=mode, policy=policy, config=PPOConfig(epochs=1, minibatches=3), kind=Watched)
    return ppo, fit(ppo, 2)


def everything(ppo):
    """All that a learner knows: policy, carry, counters, statistics, and the optimizer's state."""
    return [np.array(w) for w in ppo.get_weights() + ppo.optimizer.variables]


def assert_same_training(one, other, **tolerance):
    """The same state and metrics; the same actions to the last bit."""
    np.testing.assert_array_equal(one[1].pop("actions", 0), other[1].pop("actions", 0))
    assert_all_close(everything(one[0]), everything(other[0]), **tolerance)
    assert_all_close(one[1], other[1], **tolerance)


@pytest.mark.parametrize(
    "network, mode", [("lstm", "jit"), pytest.param("mlp", "graph", marks=pytest.mark.full), pytest.param("transformer", "jit", marks=pytest.mark.full)]
)
def test_training_is_the_same_in_every_mode(network, mode):
    """Catches: rollouts or updates that a graph or XLA makes otherwise than plain Python."""
    (one, one_history), (other, other_history) = trained(network, "eager"), trained(network, mode)
    assert_same_training((one, dict(one_history)), (other, dict(other_history)))


@pytest.mark.parametrize("iterations", [1, 3])
def test_one_trace_serves_a_whole_fit(iterations):
    """Catches: an iteration that is traced again, in the same fit or in the next."""

    class Counting(EnvironmentPPO):
        traces = 0

        def collect(self, data):
            self.traces += 1
            return super().collect(data)

    ppo = learner("mlp", mode="graph", kind=Counting, iterations_per_call=iterations)
    ppo.fit(3, verbose=0)
    traces = ppo.traces
    ppo.fit(2, verbose=0)
    assert traces == ppo.traces == 1 and int(ppo.iteration) == 5 * iterations


@pytest.mark.parametrize(
    "settings, said",
    [
        (dict(steps_per_epoch=tf.data.Dataset.range(3)), "fit was given <.*, but an agent learns from its environment"),  # fit(data)
        (dict(steps_per_epoch=np.zeros([2, 2])), r"fit was given array\(.*, but an agent learns from its environment.*fit\(steps_per_epoch=100\)"),
        (dict(x=[1, 2]), r"fit was given \[1, 2\], but an agent"),
        (dict(y=[1, 2]), r"fit was given y=\[1, 2\], but PPO learns"),
        (dict(validation_data=3), "fit was given validation_data=3"),
        (dict(steps_per_epoch=0), "steps_per_epoch=0 is no whole number"),
        (dict(steps_per_epoch=None), "steps_per_epoch=None is no whole number"),
        (dict(epochs=0), "epochs=0 is no whole number"),
    ],
)
def test_what_fit_cannot_use_is_said(settings, said):
    """Catches: data taken for a number of steps (a traceback of Keras's), a fit without a step or without an end."""
    with pytest.raises(InputError, match=said):
        untrained().fit(**settings)
    assert int(untrained().iteration) == 0


@pytest.mark.parametrize(
    "settings, said",
    [
        (dict(policy=Scripted(), environment=tiny_agent()), "policy is <.*Scripted object"),  # exchanged
        (dict(policy="mlp"), "policy is 'mlp', which has no initial_state"),
        (dict(environment=GridWorld), r"environment is the class GridWorld, expected an object of it. Write GridWorld\(...\)"),
        (dict(environment="CartPole-v1"), r"environment is 'CartPole-v1', which has no reset.*GymnasiumEnvironment\('CartPole-v1'\)"),
        (dict(config={"epochs": 3}), r"config is \{'epochs': 3\}, expected a PPOConfig. Write PPOConfig\(...\)"),
        (dict(config=PPOConfig), "config is <class 'ppo_keras.config.PPOConfig'>, expected a PPOConfig"),
        (dict(environments=0), "environments=0 is no whole number"),
        (dict(steps=-4), "steps=-4 is no whole number"),
        (dict(steps=2.5), "steps=2.5 is no whole number"),
        (dict(iterations_per_call=0), "iterations_per_call=0 is no whole number"),
        (dict(seed=2**31), "seed=2147483648 is outside"),  # TensorFlow would make another of it
        (dict(seed=-1), "seed=-1 is outside"),
        (dict(seed=None), "seed=None is outside"),
    ],
)
def test_what_makes_no_agent(settings, said):
    """Catches: `'str' object has no attribute 'compiles'`; an agent of no environments, or of a seed that is another's, that trains without a word."""
    with pytest.raises(InputError, match=said) as error:
        EnvironmentPPO(**dict(policy=untrained().policy, environment=untrained().environment) | settings)
    assert "\n" not in str(error.value)


def test_a_restart_before_compilation_is_said():
    """Catches: `'EnvironmentPPO' object has no attribute 'optimizer'`."""
    with pytest.raises(InputError, match="Call compile first"):
        EnvironmentPPO(untrained().policy, untrained().environment, CONFIG, 3, STEPS).restart(1)


def test_iterations_in_one_call_are_the_same():
    """Catches: one seed for all iterations of a call, a carry that moves once a call only, sums or last values for means."""
    config = PPOConfig(epochs=1, minibatches=3)
    separate, together = (learner("mlp", mode="graph", layers=1, config=config, iterations_per_call=n) for n in (1, 3))
    histories = fit(separate, 3), fit(together)
    for state in (lambda ppo: ppo.policy.get_weights(), lambda ppo: tf.nest.flatten(ppo.carry), lambda ppo: ppo.optimizer.variables):
        assert_all_close([np.array(x) for x in state(together)], [np.array(x) for x in state(separate)])
    assert set(histories[0]) == set(histories[1])
    counts = np.array(histories[0]["episode/count"])
    assert len(set(counts)) > 1 and histories[1]["episode/count"][0] == counts.sum()
    for name, values in histories[0].items():
        if name in ("episode/return", "episode/length"):  # of all episodes alike, however many ended in which iteration
            assert_close(histories[1][name][0], np.average(values, weights=counts))
        elif name != "episode/count":
            assert_close(histories[1][name][0], np.mean(values))
    assert len(set(histories[0]["loss/total"])) == 3


def test_a_seed_names_a_run():
    """Catches: draws that are not named by the seed (weights differ in the last bit), or not by seed and iteration."""
    runs = []
    for seed in (5, 5, 6):
        ppo = learner("mlp", CartPole(), layers=1, steps=3, seed=seed, kind=Watched)
        history = fit(ppo, 2)
        runs.append((everything(ppo), history))
    assert_all_close(runs[0], runs[1], rtol=0, atol=0)
    actions = [history["actions"] for _, history in runs]
    assert np.any(actions[0][0] != actions[2][0]) and np.any(actions[0][0] != actions[0][1])


def test_episodes_begin_differently():
    """Catches: resets that draw the same beginnings again, for every step, copy, rollout or seed."""
    begun = []
    for seed in (0, 1):
        ppo = learner("mlp", CartPole(), layers=1, steps=40, config=PPOConfig(minibatches=1), seed=seed)
        trajectories, _ = collect(ppo, 2, jit_compile=False)
        for trajectory in trajectories:
            begun.extend(trajectory.inputs.numpy()[trajectory.starts.numpy() > 0].tolist())
    assert len(begun) > 12 and len(np.unique(np.array(begun), axis=0)) == len(begun)


def fresh(seed, network):
    """A learner as a user makes it, with statistics of observations and of rewards."""
    keras.utils.set_random_seed(seed)
    shared = network == "transformer"
    policy = new_policy(network, (4,), 2, width=8, layers=1, heads=2, memory=4, shared=shared, normalize=True)
    optimizer = keras.optimizers.Adam(0.01)
    return learner(environment=CartPole(), policy=policy, config=ONE_STEP, optimizer=optimizer, steps=3, seed=seed, normalize_rewards=True)


def test_restarting_equals_a_new_learner():
    """Catches: weights, statistics, carry, counters or the optimizer's moments that survive a restart, or the old seed."""
    ppo = fresh(7, "lstm")
    first, history, last = everything(ppo), fit(ppo), everything(ppo)
    ppo.restart(3)
    assert_all_close(everything(ppo), everything(fresh(3, "lstm")), rtol=0, atol=0)
    fit(ppo)
    ppo.restart(7)
    assert_all_close(everything(ppo), first, rtol=0, atol=0)
    assert_all_close(fit(ppo), history, rtol=0, atol=0)
    assert_all_close(everything(ppo), last, rtol=0, atol=0)


@every_network
def test_resuming_continues_exactly(network, tmp_path):
    """21, 24. Catches: a checkpoint without the carry, running statistics, last episodes, iteration or the optimizer's moments."""
    ppo = fresh(3, network)
    fit(ppo)
    path = tf.train.Checkpoint(learner=ppo).save(str(tmp_path / "checkpoint"))
    saved, expected = everything(ppo), fit(ppo)
    resumed = fresh(8, network)  # other weights, another carry: whatever the checkpoint does not hold stays wrong
    tf.train.Checkpoint(learner=resumed).restore(path).assert_consumed()
    assert_all_close(everything(resumed), saved, rtol=0, atol=0)
    assert_all_close(fit(resumed), expected, rtol=0, atol=0)
    assert_all_close(everything(resumed), everything(ppo), rtol=0, atol=0)


# Running statistics


class Statistics(EnvironmentPPO):
    """Keeps the policy's statistics as each part of an iteration sees them."""

    def note(self):
        self.seen.append([w.numpy() for w in self.policy.normalization.weights])

    def assemble(self, *args):
        self.note()
        return super().assemble(*args)

    def gradients(self, experience, count):
        self.note()
        return super().gradients(experience, count)


def test_observations_are_normalised(tmp_path):
    """Catches: statistics that move within an iteration (the ratio is not 1), not at all, or that a saved policy lacks."""
    policy = new_policy("lstm", (3,), 3, width=8, layers=1, heads=2, memory=4, normalize=True)
    ppo = learner(policy=policy, config=ONE_STEP, kind=Statistics)
    ppo.seen, inputs, collect = [], [], ppo.collect
    ppo.collect = lambda data: inputs.append((result := collect(data))[0].inputs.numpy().reshape(-1, 3)) or result
    expected = [np.zeros(3), np.ones(3), 0]
    for _ in range(3):
        ppo.seen.clear()
        history = fit(ppo)
        assert_close([history["policy/ratio"], history["policy/approx_kl"]], [[1], [0]])
        assert len(ppo.seen) == 2
        for seen in ppo.seen:
            assert_all_close(seen, expected, atol=1e-5)
        shown = np.concatenate(inputs).astype(np.float64)
        expected = [shown.mean(axis=0), shown.var(axis=0), len(shown)]
        assert_all_close([w.numpy() for w in policy.normalization.weights], expected, atol=1e-5)
    policy.save(tmp_path / "policy.keras")
    loaded = keras.models.load_model(tmp_path / "policy.keras")
    assert_all_close(weights_of(loaded.normalization), weights_of(policy.normalization), rtol=0, atol=0)
    seen = inputs[-1].reshape(3, 6, 3)
    assert_all_close(loaded(seen), policy(seen))


@pytest.mark.parametrize("pays, discount", [(0.0, 0.9), (1000.0, 0.0), (-1000.0, 0.0)])
def test_rewards_are_normalised(pays, discount):
    """Catches: a standard deviation of rewards instead of returns, returns that run through an end, a mean that is subtracted,
    a limit that is missing (rewards of +-1000), or logged returns that are normalised too."""
    ppo = learner("mlp", Scripted(pays=pays), config=PPOConfig(minibatches=3, discount=discount), normalize_rewards=True)
    trajectories, metrics = collect(ppo, 3)
    happened = replay(np.concatenate([trajectory.actions for trajectory in trajectories], axis=1))
    rewards, returns = happened.rewards + pays, np.zeros([3, 18])
    for b in range(3):
        running = 0.0
        for t in range(18):
            running = (0.0 if happened.starts[b, t] else discount * running) + rewards[b, t]
            returns[b, t] = running
    for i, trajectory in enumerate(trajectories):
        now, so_far = slice(6 * i, 6 * i + 6), slice(0, 6 * i + 6)
        expected = np.clip(rewards[:, now] / np.sqrt(returns[:, so_far].var() + 1e-8), -10, 10)
        assert_close(trajectory.rewards, expected)
        ended = happened.ended[:, now]
        assert_close(metrics[i]["episode/return"], (happened.returns + pays * happened.lengths)[:, now][ended].mean())
    assert np.all(np.abs(trajectories[2].rewards) == 10) if pays else np.abs(trajectories[2].rewards).max() < 5


# Other actions


@every_network
def test_forbidden_actions_are_never_taken(network):
    """Catches: a mask that acting ignores, that the update does not know (ratio), or that belongs to the cell behind the step."""
    world = GridWorld(["..G", "S#X", "..S"], mask_walls=True)
    ppo = learner(network, world, steps=12, layers=1, config=ONE_STEP, kind=Watched)
    history = fit(ppo)
    assert_close([history["policy/ratio"], history["policy/approx_kl"]], [[1], [0]])
    (trajectory,), _ = collect(ppo)
    np.testing.assert_array_equal(trajectory.action_masks, world.allowed[trajectory.inputs])
    assert np.all(world.allowed[trajectory.inputs, trajectory.actions])
    free = tf.nn.softmax(ppo.policy(trajectory.inputs, trajectory.initial_state, trajectory.starts)[0] / 2.0)
    share = np.where(world.allowed[trajectory.inputs], free, 0).sum(-1)
    assert share.mean() < 0.8  # without masks many actions would have been forbidden ones
    chosen = np.take_along_axis(free.numpy(), trajectory.actions.numpy()[..., None], -1)[..., 0]
    assert_close(trajectory.log_probs, np.log(chosen / share), atol=1e-5)


class Target(Environment):
    """Episodes of four steps that show a flag, 0 or 1; each step pays the more, the nearer the action is to what the flag asks for."""

    name, observation, time_limit = "target", (1,), 4

    def __init__(self, actions, pay):
        self.actions, self.pay = actions, pay

    def reset(self, batch, seed):
        flag = tf.cast(tf.range(batch) % 2, tf.float32)
        return (flag, tf.zeros([batch], tf.int32)), flag[:, tf.newaxis]

    def step(self, state, actions, seed):
        flag, elapsed = state
        assert actions.shape[1:] == (2,)
        elapsed += 1
        over = elapsed == 4
        return Step((flag, elapsed), flag[:, tf.newaxis], self.pay(flag, actions), tf.zeros_like(over), over)


def near(flag, actions):
    """The first number must be the flag less 0.5, the second 0.5."""
    return -tf.square(actions[:, 0] - (flag - 0.5)) - tf.square(actions[:, 1] - 0.5)


def hits(flag, actions):
    """1 for the choice 2 * flag of three, 1 for the choice 0 of two."""
    return tf.cast(actions[:, 0] == 2 * tf.cast(flag, tf.int32), tf.float32) + tf.cast(actions[:, 1] == 0, tf.float32)


def learned(actions, pay, network):
    """The parameters of the actions that a policy takes after training, for the flags 0 and 1; its first rollout is checked too."""
    config = PPOConfig(epochs=4, minibatches=2, discount=0.0)
    policy = new_policy(network, (1,), actions, width=8, layers=1, heads=2, memory=4)
    ppo = learner(environment=Target(actions, pay), policy=policy, environments=32, steps=8, mode="graph", config=config, optimizer=keras.optimizers.Adam(0.02))
    (trajectory,), _ = collect(ppo)
    assert trajectory.actions.shape == (32, 8, 2) and trajectory.log_probs.shape == (32, 8)
    assert_close(read(ppo, trajectory)[0], trajectory.log_probs, atol=1e-5)
    ppo.fit(30, verbose=0)
    return policy(tf.constant([[[0.0]], [[1.0]]]), starts=tf.ones([2, 1]))[0][:, 0].numpy()


@pytest.mark.full  # test_several_choices_are_learned_at_once stays; test_distributions has the numbers
def test_real_numbers_move_to_what_is_paid():
    """Catches: a Gaussian whose mean runs away from what is rewarded, whose dimensions are exchanged, or whose spread does not shrink."""
    parameters = learned(DiagonalGaussian(2), near, "mlp")
    assert_close(parameters[:, :2], [[-0.5, 0.5], [0.5, 0.5]], atol=0.15)
    assert np.all(parameters[:, 2:] < -0.3)


def test_several_choices_are_learned_at_once():
    """Catches: choices that are exchanged, or credited with each other's log-probabilities."""
    logits = learned([3, 2], hits, "mlp")
    choices = tf.nn.softmax(logits[:, :3]).numpy(), tf.nn.softmax(logits[:, 3:]).numpy()
    assert min(choices[0][0, 0], choices[0][1, 2], choices[1][0, 0], choices[1][1, 0]) > 0.9


def test_the_articles_grid_world_is_solved():
    """Catches: any sign error between an environment's reward and the update: the exact solution is known."""
    world = GridWorld.article()
    policy = new_policy("mlp", world.observation, world.actions, width=16, layers=1, heads=2, memory=4)
    ppo = learner(
        environment=world,
        policy=policy,
        environments=8,
        steps=16,
        mode="graph",
        config=PPOConfig(minibatches=4, discount=0.9),
        optimizer=keras.optimizers.Adam(0.01),
    )
    ppo.fit(30, verbose=0)
    solution = world.solve(0.9)
    logits, values = policy(tf.range(3)[:, tf.newaxis])
    assert np.all(solution.optimal_actions[np.arange(3), logits[:, 0].numpy().argmax(-1)])
    assert_close(values[:, 0], solution.values[:3], atol=0.15)
