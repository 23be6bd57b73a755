"""The mistakes in the code of the article (sections 3.2 and 5.2): each is reproduced beside the package, which has it right.

What is quoted is the article's own code; each docstring names one mistake. `tutorials/*/10_references_and_errata.py` lists them all.
"""

import ast
import configparser
import re
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf

from helpers import END, PAD, assert_close, fit_iterations, random_table, random_trajectory, state_of, tiny_agent, tiny_learner, tiny_policy
from ppo_keras import GridWorld, LanguagePPO, LSTMActorCritic, OptimizerConfig, PPOConfig, play
from ppo_keras.advantages import generalized_advantages
from ppo_keras.distributions import Categorical
from ppo_keras.losses import clipped_policy_loss, clipped_value_loss, log_probability
from ppo_keras.networks.lstm import LSTMTrunk
from ppo_keras.ppo import Experience

ROOT = Path(__file__).parents[1]

FIRST = """
policy_net = PolicyNetwork()
value_net = ValueNetwork()
optimizer = torch.optim.Adam(policy_net.parameters(), lr=alpha)
alpha = 0.001
gamma = 0.99
"""

LOOP = """
for t in range(total_steps):
    action = policy_net.select_action(state)
    reward = reward_function(action)
    next_state = next_state
    value_estimate = value_net(value_state)
    advantage = reward + gamma * value_estimate - value_estimate
    policy_loss = -torch.log(policy_net.log_prob(action)) * advantage
    value_loss = F.smooth_l1_loss(value_estimate, advantage)
    total_loss = policy_loss + value_loss
    optimizer.zero_grad()
    total_loss.backward()
    optimizer.step()
"""

NETWORKS = """
def create_policy_network(input_shape):
    model = Sequential()
    model.add(LSTM(128, activation='relu', input_shape=input_shape))
    model.add(Dense(1, activation='sigmoid'))
    return model
"""

PPO = """
def ppo(policy_net, value_net, states, actions, rewards, next_states, alpha, gamma):
    advantages = []
    for i in range(len(states) - 1, -1, -1):
        if i == len(states) - 1:
            td_target = rewards[i] + gamma * value_net.predict(next_states[i])[0]
        else:
            td_target = rewards[i] + gamma * value_net.predict(states[i + 1])[0]
        advantage = td_target - value_net.predict(states[i])[0]
        advantages.insert(0, advantage)

    advantages = np.array(advantages)
    advantages_mean = np.mean(advantages)
    advantages_std = np.std(advantages)
    advantages_norm = (advantages - advantages_mean) / (advantages_std + 1e-8)

    with tf.GradientTape() as tape:
        policy_loss = 0
        for i in range(len(states)):
            action_probs = policy_net.predict(states[i])
            old_action_probs = action_probs
            action = actions[i]
            advantage = advantages_norm[i]
            policy_loss += -tf.reduce_sum(action * tf.math.log(action_probs) * advantage)
        policy_loss /= len(states)
        policy_loss += 0.5 * tf.reduce_mean(tf.square(value_net.predict(states) - rewards))

    with tf.GradientTape() as tape:
        value_loss = 0
        for i in range(len(states)):
            value_loss += tf.reduce_mean(tf.square(value_net.predict(states[i]) - rewards))

    total_loss = policy_loss + value_loss

    gradients = tape.gradient(total_loss, [policy_net, value_net])
    optimizer.apply_gradients(zip(gradients, [policy_net, value_net]))

    return policy_loss, value_loss
"""

END_OF_SCRIPT = """
def test_model(policy_net, test_states):
    actions = policy_net.predict(test_states)
    print("Predicted Actions:", actions)

train_states = np.random.rand(100, 10)
train_actions = np.random.randint(0, 2, size=(100,))
train_rewards = np.random.rand(100,)
test_states = np.random.rand(10, 10)
train_model(policy_net, value_net, train_states, train_actions, train_rewards, train_states, 0.001, 0.99, 100)
test_model(policy_net, test_states)
"""


# Section 3.2: PyTorch in fragments ------------------------------------------------------------------------------------


def learner_of_a_table(**config):
    """A learner whose experience the tests make up."""
    return LanguagePPO(random_table(), lambda prompts, responses: None, END, PAD, 5, PPOConfig(discount=1.0, **config), name="learner")


def undefined(code, **names):
    """The name at which this code stops."""
    with pytest.raises(NameError) as error:
        exec(code, names)
    return error.value.name


def test_the_first_block_uses_what_nothing_defines():
    """3.2.1: the networks have no class, torch is not imported, and alpha is set after it was used."""
    nets = dict(PolicyNetwork=lambda: SimpleNamespace(parameters=lambda: ["policy"]), ValueNetwork=lambda: None)
    torch = SimpleNamespace(optim=SimpleNamespace(Adam=lambda parameters, lr: None))
    assert [undefined(FIRST), undefined(FIRST, **nets), undefined(FIRST, **nets, torch=torch)] == ["PolicyNetwork", "torch", "alpha"]
    assert_close(OptimizerConfig(learning_rate=0.001, schedule="constant").build(1).learning_rate, 0.001)


def test_the_optimizer_forgets_the_critic():
    """3.2.1: only the policy's parameters are given to the optimizer, so that the values never change."""
    given = []
    nets = dict(PolicyNetwork=lambda: SimpleNamespace(parameters=lambda: ["policy"]), ValueNetwork=lambda: SimpleNamespace(parameters=lambda: ["value"]))
    torch = SimpleNamespace(optim=SimpleNamespace(Adam=lambda parameters, lr: given.extend(parameters)))
    exec(FIRST, dict(nets, torch=torch, alpha=0.001))
    assert given == ["policy"]
    learner = learner_of_a_table(epochs=1, minibatches=1)
    learner.compile(keras.optimizers.SGD(0.1), run_eagerly=True)
    before = learner.policy.critic.numpy()
    learner.improve(random_trajectory())
    assert np.abs(learner.policy.critic.numpy() - before).max() > 1e-3


def stubs(reward=1.0, log_prob=0.7):
    """What the loop needs to run at all, and a list of (function, arguments) of what it called."""
    calls, note = [], lambda name, result: lambda *arguments: calls.append((name, arguments)) or result
    value_loss = lambda *arguments: calls.append(("value_loss", arguments)) or _Sum()
    names = dict(
        total_steps=3, state="the first state", next_state="the next state", value_state="some state", gamma=0.99, reward_function=note("reward", reward),
        policy_net=SimpleNamespace(select_action=note("select", 1), log_prob=note("log_prob", log_prob)), value_net=lambda state: 0.5,
        torch=SimpleNamespace(log=np.log), F=SimpleNamespace(smooth_l1_loss=value_loss), optimizer=SimpleNamespace(zero_grad=lambda: None, step=note("step", None)),
    )  # fmt: skip
    return names, calls


class _Sum:
    """A value loss to which a policy loss can be added."""

    def __radd__(self, policy_loss):
        return self

    def backward(self):
        pass


def test_the_loop_reads_names_that_nothing_defines():
    """3.2.2: state, next_state, value_state and F are read and never set."""
    names, _ = stubs()
    for missing in ("state", "next_state", "value_state", "F"):
        assert undefined(LOOP, **{name: value for name, value in names.items() if name != missing}) == missing


def test_the_state_never_advances():
    """3.2.2: `next_state = next_state`, and nothing sets the state: each step acts in the first state."""
    names, calls = stubs()
    exec(LOOP, names)
    assert {arguments for name, arguments in calls if name == "select"} == {("the first state",)}
    world, right = GridWorld(["S..G"]), tf.constant([3])
    state, cell = world.reset(1, tf.constant([0, 0]))
    cells = [int(cell[0])]
    for _ in range(3):
        state, cell, *_ = world.step(state, right, tf.constant([0, 0]))
        cells.append(int(cell[0]))
    assert cells == [0, 1, 2, 3]


def test_the_reward_ignores_the_state():
    """3.2.2: `reward_function(action)`: no function of the action alone can pay for entering a goal."""
    names, calls = stubs()
    exec(LOOP, names)
    assert {arguments for name, arguments in calls if name == "reward"} == {(1,)}
    of_up = GridWorld.article().rewards[:3, 0]  # in the states 1, 2 and 3
    assert_close(of_up, [0.0, 0.0, 1.0])


def one_step(reward, value, next_value, ended=0.0, discount=0.99):
    """delta, by the package."""
    column = lambda x: tf.constant([[x]], tf.float32)
    return float(generalized_advantages(column(reward), column(value), column(next_value), column(ended), column(1.0), discount, 0.0)[0][0, 0])


def test_a_difference_of_values_is_no_advantage():
    """3.2.2, 4.1.3: R = V(s') - V(s) leaves out reward and discount: it punishes the step that reaches the goal."""
    reward, value, behind_the_end = 1.0, 0.5, 0.0
    assert behind_the_end - value == -0.5
    assert_close(one_step(reward, value, behind_the_end, ended=1.0), 0.5)


def test_one_value_stands_for_two_states():
    """3.2.2: the same estimate is V(s) and V(s'): a step from a bad state (0.1) to a good one (0.9) seems worth nothing."""
    names, _ = stubs(reward=0.0)
    exec(LOOP, names)
    assert_close(names["advantage"], -0.005)
    assert_close(one_step(0.0, 0.1, 0.9), 0.791)


def test_nothing_ends_an_episode():
    """3.2.2: no mask at the end: the last step counts the value of a state that does not exist."""
    names, _ = stubs()
    exec(LOOP, names)
    assert_close(names["advantage"], 0.995)
    assert_close(one_step(1.0, 0.5, 0.0, ended=1.0), 0.5)


def test_one_step_sees_no_later_reward():
    """3.2.2: without GAE a reward at the end reaches no earlier step while the values are still 0."""
    zero, rewards = tf.zeros([1, 4]), tf.constant([[0.0, 0.0, 0.0, 1.0]])
    ended, ones = rewards, tf.ones([1, 4])
    assert_close(rewards + 0.99 * zero - zero, [[0, 0, 0, 1]])
    assert_close(generalized_advantages(rewards, zero, zero, ended, ones, 0.99, 0.95)[0], [[0.9405**3, 0.9405**2, 0.9405, 1]])


@pytest.mark.filterwarnings("ignore:invalid value")
def test_the_log_of_a_log_probability_is_nan():
    """3.2.2: `torch.log(log_prob)`: the logarithm of a negative number."""
    probability = 0.25
    names, _ = stubs(log_prob=np.log(probability))
    exec(LOOP, names)
    assert np.isnan(names["policy_loss"])
    assert_close(log_probability(tf.zeros([1, 4]), tf.constant([2])), [np.log(probability)])


def test_a_log_probability_without_a_state():
    """3.2.2: `log_prob(action)`: a policy depends on the state."""
    names, calls = stubs()
    exec(LOOP, names)
    assert {arguments for name, arguments in calls if name == "log_prob"} == {(1,)}
    logits, _ = tiny_agent()(tf.constant([[[1.0, 0, 0, 0], [0, 0, 0, 1.0]]]))  # (1, 2, 3): two states
    first, second = log_probability(logits, tf.constant([[1, 1]]))[0].numpy()
    assert abs(first - second) > 0.01


def test_the_advantage_is_not_detached():
    """3.2.2: the policy loss has a gradient into the critic, which lowers the loss by lying about the value."""
    value, reward, gamma, log_prob = tf.Variable(0.5), 1.0, 0.9, -0.7
    with tf.GradientTape(persistent=True) as tape:
        advantage = reward + gamma * value - value
        articles, ours = -log_prob * advantage, clipped_policy_loss(tf.constant(1.0), advantage, 0.2)
    assert_close(tape.gradient(articles, value), 0.7 * (gamma - 1))
    assert tape.gradient(ours, value) is None


def test_the_value_learns_the_advantage():
    """3.2.2: `smooth_l1_loss(value, advantage)` rests where V = r + gamma V - V; for an endless reward of 1 that is 0.909 and not 10."""
    reward, gamma = 1.0, 0.9
    at_rest, truth = reward / (2 - gamma), reward / (1 - gamma)
    huber = keras.losses.Huber()

    def slope(value, loss):
        value = tf.constant([[value]])
        with tf.GradientTape() as tape:
            tape.watch(value)
            result = loss(value)
        return tape.gradient(result, value)

    articles = lambda value: huber(value, reward + gamma * value - value)
    assert_close(slope(at_rest, articles), [[0.0]])
    assert abs(slope(truth, articles)) > 1
    _, returns = generalized_advantages(*[tf.constant([[x]]) for x in (reward, truth, truth, 0.0, 1.0)], gamma, 0.95)
    assert_close(slope(truth, lambda value: clipped_value_loss(value, value, returns)), [[0.0]], atol=1e-5)


def test_nothing_holds_the_policy_near_the_old_one():
    """3.2.2: no old log-probability is kept, so that there is no ratio and no clip: one sample, used again, takes over the policy."""

    def final_ratio(loss):
        logits, action = tf.Variable(tf.zeros([1, 10])), tf.constant([3])
        old = log_probability(logits, action)
        for _ in range(100):
            with tf.GradientTape() as tape:
                log_prob = log_probability(logits, action)
                total = tf.reduce_sum(loss(log_prob, tf.exp(log_prob - old)))
            logits.assign_sub(0.1 * tape.gradient(total, logits))
        return float(tf.exp(log_probability(logits, action) - old)[0])

    assert final_ratio(lambda log_prob, ratio: -log_prob) > 8  # of at most 10
    assert 1.2 < final_ratio(lambda log_prob, ratio: clipped_policy_loss(ratio, tf.ones_like(ratio), 0.2)) < 1.4


def test_the_loss_lacks_two_weights():
    """3.2.2: the losses are added as they are: no value coefficient, and no entropy that keeps the policy from settling too soon."""
    learner = learner_of_a_table(value_coefficient=0.5, entropy_coefficient=0.01)
    experience = learner.estimate(random_trajectory())
    _, m = learner.gradients(experience, tf.reduce_sum(experience.trajectory.mask))
    articles = m["loss/policy"] + m["loss/value"]
    assert_close(m["loss/total"], m["loss/policy"] + 0.5 * m["loss/value"] - 0.01 * m["policy/entropy"], atol=1e-5)
    assert abs(m["loss/total"] - articles) > 0.01


@pytest.mark.parametrize("limit", [0.5, None])
def test_nothing_limits_a_gradient(limit):
    """3.2.2, 5.2: one wild advantage moves the weights as far as it likes."""
    learner = learner_of_a_table(max_gradient_norm=limit)
    learner.compile(keras.optimizers.SGD(1.0), jit_compile=False)
    trajectory = random_trajectory()
    before = [v.numpy() for v in learner.policy.trainable_variables]
    learner.step_optimizer(Experience(trajectory, 1e4 * trajectory.mask, trajectory.values))
    moved = np.sqrt(sum(np.sum((v.numpy() - old) ** 2) for v, old in zip(learner.policy.trainable_variables, before)))
    assert moved > 1000 if limit is None else moved <= limit * 1.0001


def test_every_step_is_an_update():
    """3.2.2: one sample, one update, thrown away; PPO collects a batch and uses it for several epochs of minibatches."""
    names, calls = stubs()
    exec(LOOP, names)
    assert len([1 for name, _ in calls if name == "step"]) == names["total_steps"] == len([1 for name, _ in calls if name == "select"])
    learner, epochs, minibatches = learner_of_a_table(epochs=3, minibatches=2), 3, 2
    learner.compile(keras.optimizers.SGD(0.01), jit_compile=False)
    trajectory, used = random_trajectory(), []
    step = learner.step_optimizer
    learner.step_optimizer = lambda experience: used.append(float(tf.reduce_sum(experience.trajectory.mask))) or step(experience)
    learner.improve(trajectory)
    assert len(used) == epochs * minibatches and sum(used) == epochs * float(tf.reduce_sum(trajectory.mask))


def test_the_evaluation_is_undefined():
    """3.2.3: `evaluate_model`, `model` and `test_data` do not exist, and accuracy measures no agent."""
    assert undefined("test_accuracy = evaluate_model(model, test_data)") == "evaluate_model"
    world = GridWorld.article()
    assert play(tiny_agent(observation=world.observation, actions=4), world, episodes=5).returns.shape == (5,)


# Section 5.2: Keras, the whole program --------------------------------------------------------------------------------


class Table:
    """A network of the article's interface: `predict` looks numbers up by state (an int) and returns NumPy, `(1,)` or `(N, 1)`."""

    def __init__(self, numbers):
        self.numbers, self.calls = np.asarray(numbers, np.float32), 0

    def predict(self, states):
        self.calls += 1
        return self.numbers[np.asarray(states)][..., np.newaxis]


def article(code, start="", end="", result=""):
    """The article's `ppo`, up to a line that begins with `end`; it returns `result`."""
    body = code.partition(f"    {end}")[0] + f"    return {result}\n" if end else code
    names = dict(np=np, tf=tf)
    exec(body, names)
    return names["ppo"]


LOSSES = article(PPO, end="total_loss", result="policy_loss, value_loss")
ADVANTAGES = article(PPO, end="advantages_mean", result="np.array(advantages)")
REWARDS = np.array([1, 0, 2, -1, 0.5], np.float32)
VALUES = np.array([0.5, 0.4, 0.3, 0.2, 0.1, 0.7], np.float32)  # the last is that of the state after the fifth step
ENDED = np.array([0, 1, 0, 0, 0], np.float32)


def articles_advantages(next_states=(1, 2, 3, 4, 5), values=VALUES):
    return ADVANTAGES(None, Table(values), [0, 1, 2, 3, 4], None, REWARDS, next_states, None, 0.99)


def advantages_of(gae_lambda, ended=0 * ENDED):
    """By the package, of the same steps."""
    row = lambda x: tf.constant(np.asarray(x, np.float32)[np.newaxis])
    return generalized_advantages(row(REWARDS), row(VALUES[:5]), row(VALUES[1:] * (1 - ended)), row(ended), tf.ones([1, 5]), 0.99, gae_lambda)[0][0]


def test_an_lstm_reads_sequences():
    """5.2: `LSTM(input_shape=(10,))` has no axis of time: the program stops before anything is learned."""
    names = dict(Sequential=keras.Sequential, LSTM=keras.layers.LSTM, Dense=keras.layers.Dense)
    exec(NETWORKS, names)
    with pytest.raises(ValueError, match="expected ndim=3, found ndim=2"):
        names["create_policy_network"]((10,))
    logits, values = LSTMActorCritic(inputs=(10,), actions=2, width=8)(tf.zeros([3, 7, 10]))
    assert logits.shape == (3, 7, 2) and values.shape == (3, 7)


def test_one_number_is_no_policy_over_tokens():
    """5.2: `Dense(1, sigmoid)` behind the last step only: one yes-or-no for a whole sequence, and one value, not one at each step."""
    names = dict(Sequential=keras.Sequential, LSTM=keras.layers.LSTM, Dense=keras.layers.Dense)
    exec(NETWORKS, names)
    assert names["create_policy_network"]((7, 10))(tf.zeros([3, 7, 10])).shape == (3, 1)
    logits, values = tiny_policy("lstm")(tf.ones([3, 7], tf.int32))
    assert_close(tf.reduce_sum(tf.nn.softmax(logits), axis=-1), np.ones([3, 7]))
    assert values.shape == (3, 7)


def test_a_relu_lstm_explodes():
    """5.2: `activation="relu"` bounds nothing: the state grows at every step; tanh keeps it within 1."""
    lstm, x = keras.layers.LSTM(4, activation="relu"), tf.ones([1, 60, 4])
    trunk = LSTMTrunk(4, 1)
    trunk.build((None, None, 4))
    lstm.build(x.shape)
    for layer in (lstm, trunk.cells[0]):
        layer.set_weights([np.ones(w.shape) for w in layer.get_weights()])
    assert not np.all(np.abs(lstm(x)) < 1e6)
    _, state = trunk(x)
    assert np.all(np.abs(state[0][0]) <= 1)


@pytest.fixture
def small():
    """The article's networks with an axis of time, and two of its samples."""
    make = lambda last: keras.Sequential([keras.Input((10, 1)), keras.layers.LSTM(4), keras.layers.Dense(1, activation=last)])
    random = np.random.default_rng(0)
    return make("sigmoid"), make(None), random.random([2, 10, 1]), random.integers(0, 2, 2), random.random(2)


def run_ppo(code, policy_net, value_net, states, actions, rewards):
    """The article's `ppo` as it stands in `code`."""
    names = dict(np=np, tf=tf, optimizer=keras.optimizers.Adam(0.001))
    exec(code, names)
    names["ppo"](policy_net, value_net, states, actions, rewards, states, 0.001, 0.99)


def test_a_sample_is_no_batch(small):
    """5.2: with sequences as inputs, the next stop: `predict(states[i])` is given one sample without a batch axis."""
    with pytest.raises(ValueError, match="calling Sequential.call"):
        run_ppo(PPO, *small)


def test_what_stops_the_program_next(small):
    """5.2: float32 and float64 are added; a gradient is asked of models instead of variables; then there is no gradient at all."""
    steps = [
        (tf.errors.InvalidArgumentError, "double", {"predict(states[i])": "predict(states[i:i+1])", "(states[i + 1])": "(states[i+1:i+2])", "(next_states[i])": "(next_states[i:i+1])"}),
        (AttributeError, "_id", {"- rewards)": "- rewards.astype('float32'))"}),
        (ValueError, "No gradients provided", {"[policy_net, value_net]": "policy_net.trainable_variables + value_net.trainable_variables"}),
        (ValueError, "No gradients provided", {".predict(": "("}),  # the loss is formed outside of the tape
    ]  # fmt: skip
    code = PPO
    for error, words, repair in steps:
        for old, new in repair.items():
            assert old in code
            code = code.replace(old, new)
        with pytest.raises(error, match=words):
            run_ppo(code, *small)


def test_predict_has_no_gradient(small):
    """5.2: `predict` returns NumPy, of which the tape knows nothing; a network is called inside the tape."""
    policy_net, _, states, *_ = small
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.math.log(policy_net.predict(states, verbose=0)))
    assert tape.gradient(loss, policy_net.trainable_weights[0].value) is None
    learner = learner_of_a_table()
    experience = learner.estimate(random_trajectory())
    gradients, _ = learner.gradients(experience, tf.reduce_sum(experience.trajectory.mask))
    assert all(np.abs(gradient).max() > 0 for gradient in gradients)


def test_a_loss_formed_outside_of_its_tape_has_no_gradient():
    """5.2: the second tape takes the name of the first, and `total_loss` is summed outside of both."""
    v = tf.Variable(2.0)
    with tf.GradientTape() as tape:
        policy_loss = v**2
    with tf.GradientTape() as tape:
        value_loss = 3 * v
    assert tape.gradient(policy_loss + value_loss, v) is None
    with tf.GradientTape() as tape:
        loss = v**2 + 3 * v
    assert_close(tape.gradient(loss, v), 7.0)


def names_read(code):
    """The names that a function reads."""
    return {node.id for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}


def test_the_learning_rate_is_never_used():
    """5.2: `alpha` is passed through and never read, and the optimizer is a global that is defined later."""
    assert "alpha" not in names_read(PPO) and "optimizer" in names_read(PPO)
    rates = [float(OptimizerConfig(learning_rate=rate, schedule="constant").build(10).learning_rate) for rate in (0.001, 0.01)]
    assert_close(rates, [0.001, 0.01])


def test_the_reverse_loop_has_no_recursion():
    """5.2: the loop runs backwards as GAE's does, but carries nothing: it is TD(0)."""
    assert_close(articles_advantages(), advantages_of(gae_lambda=0.0), atol=1e-6)
    assert np.abs(articles_advantages() - advantages_of(gae_lambda=0.95)).max() > 0.5


def test_episodes_run_into_each_other():
    """5.2: no mark of an episode's end: its last step counts the first state of the next episode."""
    right = advantages_of(gae_lambda=0.0, ended=ENDED).numpy()
    assert_close(articles_advantages()[1] - right[1], 0.99 * VALUES[2])
    assert_close(right[1], -0.4)


def test_next_states_are_ignored():
    """5.2: of `next_states` only the last is read; a value behind a time limit cannot be given."""
    assert_close(articles_advantages(next_states=(0, 0, 0, 0, 5)), articles_advantages())
    row = lambda *x: tf.constant([x], tf.float32)
    behind_the_limit = generalized_advantages(row(0, 0), row(0.5, 0.4), row(0.6, 0.7), row(1, 0), row(1, 1), 0.99, 0.95)[0]
    assert_close(behind_the_limit[0, 0], 0.99 * 0.6 - 0.5)


def test_advantages_move_with_the_critic():
    """5.2: each epoch computes its advantages anew with a critic that the last one changed; PPO estimates once for all epochs."""
    assert np.abs(articles_advantages(values=VALUES + np.arange(6)) - articles_advantages()).max() > 0.5
    learner, counts = learner_of_a_table(epochs=3, minibatches=2), dict.fromkeys(("estimate", "step_optimizer"), 0)
    learner.compile(keras.optimizers.SGD(0.01), jit_compile=False)

    def counted(name, function):
        def count(*arguments):
            counts[name] += 1
            return function(*arguments)

        return count

    for name in counts:
        setattr(learner, name, counted(name, getattr(learner, name)))
    learner.improve(random_trajectory())
    assert counts == {"estimate": 1, "step_optimizer": 6}


def test_the_old_policy_is_the_new_one():
    """5.2: `old_action_probs = action_probs`, and it is never read: there is no ratio, and nothing to clip."""
    assert "old_action_probs" not in names_read(PPO)
    learner, trajectory = learner_of_a_table(), random_trajectory()
    _, _, log_ratio = learner.read(trajectory)
    old = trajectory._replace(log_probs=trajectory.log_probs + log_ratio)  # what this policy itself would have written down
    assert_close(learner.read(old)[2], np.zeros([8, 5]), atol=1e-5)
    learner.policy.table.assign_add(np.random.default_rng(0).normal(size=[6, 6]))
    assert np.abs(learner.read(old)[2]).max() > 0.1


def test_action_0_has_no_gradient():
    """5.2: `action * log p`: the action 0 multiplies its log-probability by 0."""
    logits = tf.Variable([[0.3, -0.2]])
    with tf.GradientTape(persistent=True) as tape:
        articles = -tf.reduce_sum(0.0 * tf.math.log(tf.sigmoid(logits[0, 1] - logits[0, 0])) * 1.5)
        ours = -tf.reduce_sum(log_probability(logits, tf.constant([0])) * 1.5)
    assert_close(tape.gradient(articles, logits), [[0, 0]])
    assert np.all(np.abs(tape.gradient(ours, logits)) > 0.5)


def test_the_log_of_a_sigmoid_can_be_minus_infinity():
    """5.2: `log(sigmoid(x))`: the sigmoid of a large negative number is 0."""
    x = tf.constant(-200.0)
    assert np.isneginf(tf.math.log(tf.sigmoid(x)))
    assert_close(log_probability(tf.stack([0.0, x])[tf.newaxis], tf.constant([1])), [-200.0])


def test_a_perfect_critic_is_punished_by_broadcasting():
    """5.2: `(N, 1) - (N,)` is `(N, N)`: every value is compared with every reward; and the single loop does the same on purpose."""
    perfect = Table(REWARDS)
    policy_loss, value_loss = LOSSES(Table(np.ones(6)), perfect, [0, 1, 2, 3, 4], np.ones(5, np.float32), REWARDS, [0] * 5, None, 0.0)
    assert (perfect.predict(range(5)) - REWARDS).shape == (5, 5)
    assert_close([policy_loss, value_loss], [REWARDS.var(), 10 * REWARDS.var()])
    assert_close(clipped_value_loss(REWARDS, REWARDS, REWARDS), np.zeros(5))


def test_the_value_loss_is_counted_twice():
    """5.2: half of it is already inside the policy loss (here all of it: the probabilities are 1), and a sum of it, not a mean, is added again."""
    values = Table([2.0] * 6)
    policy_loss, value_loss = LOSSES(Table(np.ones(6)), values, [0, 1, 2, 3, 4], np.ones(5, np.float32), REWARDS, [0] * 5, None, 0.99)
    mean_square = np.mean((2.0 - REWARDS) ** 2)
    assert_close([policy_loss, value_loss], [0.5 * mean_square, 5 * mean_square])
    assert_close(tf.reduce_mean(clipped_value_loss(tf.fill([5], 2.0), 0.0, REWARDS)), 0.5 * mean_square)


def test_the_value_learns_the_immediate_reward():
    """5.2: the target of the value is the reward of one step, not the return: before the goal there is nothing to look forward to."""
    rewards, zeros = tf.constant([[0.0, 0.0, 1.0]]), tf.zeros([1, 3])
    _, returns = generalized_advantages(rewards, zeros, zeros, rewards, tf.ones([1, 3]), 0.9, 1.0)
    assert_close(returns, [[0.81, 0.9, 1.0]])
    assert np.abs(returns - rewards).max() > 0.8


def test_the_program_is_slow_on_purpose():
    """5.2: `predict` is called 4 N + 1 times an epoch for N samples; PPO's Python runs once, when it is traced."""
    nets = Table(np.full(6, 0.5)), Table(VALUES)
    LOSSES(*nets, [0, 1, 2, 3, 4], np.ones(5, np.float32), REWARDS, [5] * 5, None, 0.99)
    assert sum(net.calls for net in nets) == 4 * 5 + 1
    learner, calls = tiny_learner(), []
    call = learner.policy.call
    learner.policy.call = lambda *arguments, **named: calls.append(1) or call(*arguments, **named)
    fit_iterations(learner, 1)
    traced = len(calls)
    fit_iterations(learner, 3)
    assert traced == len(calls) > 0


def test_nothing_is_repeatable():
    """5.2: no seed: weights and data differ in every run; a seed of ours names a run to the last bit."""
    names = dict(np=np, train_model=lambda *arguments: None, policy_net=Table(np.ones(1)), value_net=None, test_model=None)
    drawn = []
    for _ in range(2):
        exec(END_OF_SCRIPT.partition("train_model(")[0], names)
        drawn.append(names["train_states"])
    assert np.abs(drawn[0] - drawn[1]).max() > 0
    states = []
    for _ in range(2):
        learner = learner_of_a_table(epochs=1, minibatches=2)
        learner.compile(keras.optimizers.Adam(0.01), run_eagerly=True)
        learner.improve(random_trajectory())
        states.append(state_of(learner))
    assert all(np.array_equal(states[0][name], states[1][name]) for name in states[0])


def test_two_libraries_for_one_program():
    """3.2.1: PyTorch, while section 5 is Keras: what one part makes the other cannot read."""
    assert "torch" in FIRST and "Sequential" in NETWORKS
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "ppo_keras").rglob("*.py")]
    assert sources and not any(re.search(r"^\s*(import|from) torch", text, re.MULTILINE) for text in sources)


def test_no_version_is_named():
    """5.1: "Python 3.6", libraries without versions, nothing about GPUs."""
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg", encoding="utf-8")
    needed = settings["options"]["install_requires"].split()
    assert re.fullmatch(r">=3\.\d+,<3\.\d+", settings["options"]["python_requires"])
    assert needed and all(re.fullmatch(r"[\w-]+>=\d[\d.]*", one) for one in needed)
    assert settings["options.extras_require"]["gpu"].startswith("tensorflow[and-cuda]>=")


def test_nothing_can_be_learned_from_these_data():
    """5.2: actions that no policy chose, rewards that do not depend on them, next states that are the states: the policy gradient is noise around 0."""
    assert "train_rewards, train_states," in END_OF_SCRIPT and "train_model(policy_net, value_net, train_states," in END_OF_SCRIPT
    random, count = np.random.default_rng(0), 100_000
    actions, rewards = random.integers(0, 2, count), random.random(count)
    advantages = (rewards - rewards.mean()) / rewards.std()
    assert abs(np.mean(advantages * (actions - 0.5))) < 4 * 0.5 / np.sqrt(count)
    assert np.ptp(GridWorld.article().solve(0.99).action_values[1]) > 0.01  # here a choice makes a difference


def test_a_probability_is_no_action(capsys):
    """5.2: `test_model` prints probabilities as actions."""
    names = dict(np=np)
    exec(END_OF_SCRIPT.partition("train_states")[0], names)
    names["test_model"](Table([0.37]), [0])
    assert "0.37" in capsys.readouterr().out
    assert Categorical(2).mode(tf.math.log([[0.63, 0.37]])).numpy().tolist() == [0]


def test_importing_trains_and_training_runs_twice():
    """5.2, 5.4: without a main guard an import trains, and 5.4 trains again."""
    trained = []
    names = dict(__name__="imported", np=np, train_model=lambda *a: trained.append(1), policy_net=Table(np.ones(1)), value_net=None)
    exec(END_OF_SCRIPT.replace("test_model(policy_net, test_states)\n", "") + END_OF_SCRIPT.splitlines()[-2], names)
    assert len(trained) == 2
