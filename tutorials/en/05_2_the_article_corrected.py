# %% [markdown]
# # 5.2 The article's program, corrected
#
# [Overview](../README.md) · before: [5.1 Setting up](05_1_setup.ipynb) · next: [5.3 PPO with an LSTM](05_3_lstm_ppo.ipynb) · [中文](../zh/05_2_the_article_corrected.ipynb)
#
# **You will learn** what happens when the article's program is run, which of its mistakes raise an error and which only
# spoil the numbers, and how the same five functions look when they are right, so that they learn. Minutes: about 1.
#
# ## The article's passage
#
# > 以下是项目的源代码和详细解读……`def create_policy_network` … `def create_value_network` … `def ppo` …
# > `def train_model` … `def test_model` … 输出结果将显示策略网络预测的动作概率。
#
# (*"Here is the source code of the project … the output will show the action probabilities that the policy network
# predicts."*) No output is shown. With the versions of this repository there is none: the program stops at its first
# network. Below, the article's own lines are run, in order. Where they raise, the message is printed; where they run, a
# number shows what is wrong. After each group comes the corrected function.
#
# The article's data are random floats. They hold nothing to learn, as the first cell shows: the actions were not chosen by
# a policy, and the rewards do not depend on them.

# %%
import sys
from pathlib import Path

sys.path.append(str(Path(globals().get("__file__", "notebook")).resolve().parents[1]))  # the folder of chapter.py

import keras
import numpy as np
import tensorflow as tf
from keras import Sequential
from keras.layers import LSTM, Dense, Embedding, Reshape
from keras.optimizers import Adam
from matplotlib.figure import Figure

from ppo_keras.advantages import generalized_advantages
from ppo_keras.losses import clipped_policy_loss, clipped_value_loss, log_probability

from chapter import Chapter

ITERATIONS = 25  # 100 for the real thing
chapter = Chapter("05_2_the_article_corrected")
keras.utils.set_random_seed(0)
keras.config.disable_interactive_logging()


def fails(lines, error):
    """Runs lines of the article, which must raise `error`; prints the message."""
    try:
        lines()
    except error as caught:
        print(f"  {type(caught).__name__}: {' '.join(str(caught).split())[:128]}")
    else:
        raise AssertionError("these lines ran")


train_actions, train_rewards = np.random.randint(0, 2, size=(100_000,)), np.random.rand(100_000)
gap = train_rewards[train_actions == 1].mean() - train_rewards[train_actions == 0].mean()
assert abs(gap) < 0.02
print(chapter.text("mean reward of action 1 less that of action 0, 100,000 samples of the article's data:",
                   "原文的数据,10万个样本,动作1与动作0的平均奖励之差:"), f"{gap:+.4f}")  # fmt: skip

# %% [markdown]
# ## The networks
#
# Some lines of the article, and what they do:
#
# - `LSTM(128, input_shape=(10,))`: an LSTM reads (sequence, step, feature); `(10,)` has no features.
# - `Dense(1, activation='sigmoid')` gives one probability for a whole sequence: one choice of two. A language model needs
#   one logit a token of the vocabulary, at every step.
# - `predict(states[i])` drops the batch axis. Keras does not complain: it reads one state of ten steps as ten states.
# - `activation='relu'` leaves the memory unbounded (and rules out cuDNN's fast kernel). With large recurrent weights (below,
#   four times an orthogonal matrix) it explodes; with `tanh` no output exceeds 1.


# %%
def article_network(input_shape):
    model = Sequential()
    model.add(LSTM(128, activation="relu", input_shape=input_shape))
    model.add(Dense(1, activation="sigmoid"))
    return model


print(chapter.text("input_shape=(10,):", "input_shape=(10,):"))
fails(lambda: article_network((10,)), ValueError)

states = np.random.rand(8, 10, 1)  # repaired: one feature a step
wrong_net = article_network((10, 1))
ten = wrong_net.predict(states[0])
assert ten.shape == (10, 1)
print(chapter.text(f"predict(states[0]), one state, gives {len(ten)} probabilities", f"predict(states[0])只有一个状态,却给出{len(ten)}个概率"))

largest = {}
for activation in ("relu", "tanh"):
    layer = LSTM(128, activation=activation, recurrent_initializer=keras.initializers.Orthogonal(4.0, seed=1))
    largest[activation] = float(tf.reduce_max(tf.abs(layer(tf.ones([1, 100, 1])))))
    said = chapter.text("largest hidden number after 100 steps, ", "100步之后隐状态中的最大数,")
    print(f"{said}{activation}: {largest[activation]:.3g}")
assert largest["tanh"] <= 1 < largest["relu"]

# %% [markdown]
# Corrected: tokens in, a logit for each symbol out, at every step. Two separate networks, as in the article. The task needs
# memory: the prompt is one of six symbols; the policy writes five tokens; the reward comes with the last one and is the
# share of tokens that equal the prompt. A state is what has been written so far, an action is the next token: a language
# model, of the smallest kind.

# %%
SYMBOLS, LENGTH, WIDTH = 6, 5, 64


def create_policy_network(input_shape):
    """Tokens `(B, T)` -> logits of the next token `(B, T, SYMBOLS)`."""
    return Sequential([
        keras.Input(input_shape, dtype="int32"),
        Embedding(SYMBOLS, WIDTH),
        LSTM(WIDTH, return_sequences=True),  # tanh, and an output at every step
        Dense(SYMBOLS, kernel_initializer=keras.initializers.Orthogonal(0.01)),  # logits: nearly uniform at first
    ])  # fmt: skip


def create_value_network(input_shape):
    """Tokens `(B, T)` -> the value of each state `(B, T)`."""
    return Sequential([
        keras.Input(input_shape, dtype="int32"),
        Embedding(SYMBOLS, WIDTH),
        LSTM(WIDTH, return_sequences=True),
        Dense(1),
        Reshape((-1,)),  # (B, T, 1) -> (B, T), so that nothing broadcasts
    ])  # fmt: skip


policy_net, value_net = create_policy_network((None,)), create_value_network((None,))
assert policy_net(tf.zeros([3, 7], tf.int32)).shape == (3, 7, SYMBOLS) and value_net(tf.zeros([3, 7], tf.int32)).shape == (3, 7)

# %% [markdown]
# ## The experience
#
# The article draws actions beforehand, calls `predict` four times a sample (twice for the advantage, once in each loss) and
# never keeps the probability with which an action was taken. PPO needs exactly that probability: it must be stored *when
# the action is taken*. One function collects a batch: states, actions, their log-probabilities, values, rewards.


# %%
@tf.function
def collect(policy_net, value_net, prompts, seed):
    """Writes a response to each prompt int32 `(B,)`. Returns states, actions, log-probabilities, values, rewards `(B, T)`."""
    states, actions, log_probs = prompts[:, tf.newaxis], [], []
    for t in range(LENGTH):
        logits = policy_net(states)[:, -1]  # (B, SYMBOLS), after all that was written
        action = tf.random.stateless_categorical(logits, 1, seed + [0, t], dtype=tf.int32)[:, 0]
        log_probs.append(tf.gather(tf.nn.log_softmax(logits), action, batch_dims=1))
        actions.append(action)
        states = tf.concat([states, action[:, tf.newaxis]], axis=1)
    states, actions, log_probs = states[:, :-1], tf.stack(actions, axis=1), tf.stack(log_probs, axis=1)
    share = tf.reduce_mean(tf.cast(actions == prompts[:, tf.newaxis], tf.float32), axis=1)
    rewards = share[:, tf.newaxis] * tf.one_hot([LENGTH - 1], LENGTH)  # with the last token
    return states, actions, log_probs, value_net(states), rewards


prompts = tf.random.stateless_uniform([64], [0, 0], 0, SYMBOLS, tf.int32)
states, actions, old_log_probs, values, rewards = collect(policy_net, value_net, prompts, tf.constant([0, 0]))
print(chapter.text("share of right tokens before training:", "训练前正确词元的比例:"), f"{tf.reduce_mean(rewards[:, -1]):.3f}")

# %% [markdown]
# ## The advantages
#
# The article walks backwards through the samples, but carries nothing along: each advantage is $\delta_t=r_t+\gamma
# V(s_{t+1})-V(s_t)$, or TD(0). It has no mark for the end of an episode, so the value of the next episode leaks in. And its
# critic is fitted to the *immediate* reward. Corrected, this is generalized advantage estimation (Schulman et al. 2016, eq.
# 16):
#
# $$A_t=\delta_t+\gamma\lambda(1-d_t)A_{t+1},\qquad \delta_t=r_t+\gamma(1-d_t)V(s_{t+1})-V(s_t),\qquad R_t=A_t+V(s_t)$$
#
# with $d_t=1$ at the end of an episode; $R_t$ is what the critic learns. See both on one response whose tokens were all
# right, with a critic that knows nothing yet:


# %%
def advantages_and_returns(rewards, values, gamma, gae_lambda):
    """GAE of whole episodes: `(B, T)` each; the last step ends the episode."""
    advantages, later = [], tf.zeros_like(rewards[:, 0])
    for t in reversed(range(LENGTH)):
        next_values = values[:, t + 1] if t + 1 < LENGTH else tf.zeros_like(later)  # behind the end there is no value
        delta = rewards[:, t] + gamma * next_values - values[:, t]
        later = delta + gamma * gae_lambda * later  # the recursion that the article lacks
        advantages.insert(0, later)
    advantages = tf.stack(advantages, axis=1)
    return advantages, advantages + values


def article_advantages(rewards, values, gamma):
    """The article's loop, with `value_net.predict` replaced by its result."""
    advantages = []
    for i in range(len(rewards) - 1, -1, -1):
        if i == len(rewards) - 1:
            td_target = rewards[i] + gamma * values[i]  # the article passes states as next_states
        else:
            td_target = rewards[i] + gamma * values[i + 1]
        advantages.insert(0, td_target - values[i])
    return np.array(advantages)


all_right, knows_nothing = np.float32([0, 0, 0, 0, 1]), np.zeros(5, np.float32)
print("TD(0):", article_advantages(all_right, knows_nothing, 0.99))
print("GAE:  ", advantages_and_returns(all_right[np.newaxis], knows_nothing[np.newaxis], 0.99, 0.95)[0][0].numpy().round(3))
two_episodes = article_advantages(np.float32([0, 1, 0, 1]), np.float32([0, 0, 9, 9]), 0.99)  # the second has large values
assert two_episodes[1] > 5
print(chapter.text("an episode that ended with reward 1, before one of value 9: the article's advantage is",
                   "一个以奖励1结束的回合,后面的回合价值为9:原文的优势是"), f"{two_episodes[1]:.2f}")  # fmt: skip

advantages, returns = advantages_and_returns(rewards, values, 0.99, 0.95)
ended = tf.one_hot([LENGTH - 1] * 64, LENGTH)
next_values = tf.pad(values[:, 1:], [[0, 0], [0, 1]])
packaged = generalized_advantages(rewards, values, next_values, ended, tf.ones_like(rewards), 0.99, 0.95)
np.testing.assert_allclose(advantages, packaged[0], rtol=1e-5, atol=1e-6)
np.testing.assert_allclose(returns, packaged[1], rtol=1e-5, atol=1e-6)

# %% [markdown]
# With TD(0) and a critic that knows nothing, only the last token is told that something went well.
#
# ## The losses: the lines that raise
#
# Some lines of `ppo`, each run for itself, with what it needs repaired before it.
#
# - `predict` returns NumPy, and the rewards of `np.random.rand` are float64: the sum with a float32 tensor fails.
# - `tape.gradient` wants variables; the article hands it models.
# - With variables, the gradients are `None`: `predict` has left the tape, and `total_loss` is formed behind both tapes. The
#   second `with ... as tape` has also overwritten the first.

# %%
wrong_net = article_network((10, 1))
wrong_states, wrong_rewards = np.random.rand(8, 10, 1), np.random.rand(8)
action_probs, action, advantage = wrong_net.predict(wrong_states), 1, np.ones([1])
policy_loss = -tf.reduce_sum(action * tf.math.log(action_probs) * advantage)

print("policy_loss += 0.5 * tf.reduce_mean(tf.square(value_net.predict(states) - rewards))")
squares = tf.square(wrong_net.predict(wrong_states) - wrong_rewards)
fails(lambda: policy_loss + 0.5 * tf.reduce_mean(squares), tf.errors.InvalidArgumentError)

with tf.GradientTape() as tape:
    policy_loss = -tf.reduce_mean(tf.math.log(wrong_net.predict(wrong_states)))
print("tape.gradient(total_loss, [policy_net, value_net])")
fails(lambda: tape.gradient(policy_loss, [wrong_net, wrong_net]), AttributeError)

after_predict = tape.gradient(policy_loss, wrong_net.trainable_variables)
print(chapter.text("gradients through predict:", "通过predict的梯度:"), after_predict)
print("optimizer.apply_gradients(...)")
fails(lambda: Adam().apply_gradients(zip(after_predict, wrong_net.trainable_variables)), ValueError)

with tf.GradientTape() as tape:
    policy_loss = tf.reduce_mean(wrong_net(wrong_states))  # repaired: the model is called, so the tape sees it
with tf.GradientTape() as tape:
    value_loss = tf.reduce_mean(tf.square(wrong_net(wrong_states)))
total_loss = policy_loss + value_loss  # outside both, as in the article
outside = tape.gradient(total_loss, wrong_net.trainable_variables)
print(chapter.text("gradients of a sum formed outside the tapes:", "在梯度带之外求和的梯度:"), outside)
assert all(gradient is None for gradient in after_predict + outside)

# %% [markdown]
# ## The losses: the lines that run and are wrong
#
# These are worse, because no message tells you.
#
# - `action * tf.math.log(action_probs)`: for action 0 the product is 0, and so is its gradient. Half of the experience
#   teaches nothing.
# - `tf.math.log` of a sigmoid: a network that is sure of action 0 gives action 1 a probability of exactly 0 in float32. Its
#   logarithm is $-\infty$, the gradient not a number. `log_softmax` of the logits stays finite.
# - `value_net.predict(states) - rewards` has the shapes `(N, 1)` and `(N,)`: NumPy makes `(N, N)` of them. A perfect critic
#   gets a loss.
# - `old_action_probs = action_probs`: old and new are the same numbers, so the ratio is 1 for ever and nothing is ever
#   clipped. (The article does not even use it.)
# - The critic's loss is part of `policy_loss`, and is then added again.


# %%
def gradient(function, x):
    x = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = function(x)
    return float(y), float(tape.gradient(y, x))


wrong = lambda action: lambda z: action * tf.math.log(tf.sigmoid(z))
right = lambda action: lambda z: tf.nn.log_softmax([0.0, z])[action]  # of two logits, 0 and z
for action in (0, 1):
    both = [f"{gradient(log_probability_of(action), 0.3)[1]:+.3f}" for log_probability_of in (wrong, right)]
    print(chapter.text(f"action {action}: gradient of its log-probability, wrong and right:", f"动作{action}:对数概率的梯度,错的与对的:"), *both)
assert gradient(wrong(0), 0.3)[1] == 0 != gradient(right(0), 0.3)[1]
far_wrong, far_right = gradient(wrong(1), -200.0), gradient(right(1), -200.0)
said = chapter.text("logit -200, action 1: log-probability and gradient, wrong and right:", "logit为-200,动作1:对数概率与梯度,错的与对的:")
print(said, far_wrong, far_right)
assert np.isinf(far_wrong[0]) and np.isfinite(far_right).all()

perfect = np.arange(4.0)
spread = perfect[:, np.newaxis] - perfect  # (N, 1) - (N,)
assert spread.shape == (4, 4) and np.mean(spread**2) > 1
print(chapter.text("mean squared error of a perfect critic:", "完美价值网络的均方误差:"), np.mean(spread**2), spread.shape)

action_probs = old_action_probs = wrong_net.predict(wrong_states)
assert (action_probs / old_action_probs == 1).all()
print(chapter.text("the article's ratios:", "原文的概率比:"), np.unique(action_probs / old_action_probs))

# %% [markdown]
# Corrected: the model is called inside the tape, each loss has its own tape and its own optimizer, and the ratio compares
# the policy now with the policy that acted. The objective is that of Schulman et al. (2017, eq. 7), as a loss:
#
# $$r=\exp(\log\pi(a|s)-\log\pi_{old}(a|s)),\qquad L=\max\big(-rA,\ -\mathrm{clip}(r,1-\epsilon,1+\epsilon)A\big)$$


# %%
def clipped_loss(ratio, advantages, epsilon=0.2):
    clipped = tf.clip_by_value(ratio, 1 - epsilon, 1 + epsilon)
    return tf.reduce_mean(tf.maximum(-ratio * advantages, -clipped * advantages))


@tf.function
def ppo(policy_net, value_net, policy_optimizer, value_optimizer, states, actions, old_log_probs, advantages, returns):
    """One step of both networks on one minibatch. Returns policy loss, value loss, and the share of clipped ratios."""
    with tf.GradientTape() as policy_tape:
        log_probs = tf.gather(tf.nn.log_softmax(policy_net(states)), actions, batch_dims=2)  # (B, T), of every action
        ratio = tf.exp(log_probs - old_log_probs)
        policy_loss = clipped_loss(ratio, advantages)
    with tf.GradientTape() as value_tape:
        value_loss = 0.5 * tf.reduce_mean(tf.square(value_net(states) - returns))  # (B, T) - (B, T)
    for tape, loss, net, optimizer in (
        (policy_tape, policy_loss, policy_net, policy_optimizer), (value_tape, value_loss, value_net, value_optimizer)
    ):  # fmt: skip
        optimizer.apply(tape.gradient(loss, net.trainable_variables), net.trainable_variables)
    return policy_loss, value_loss, tf.reduce_mean(tf.cast(tf.abs(ratio - 1) > 0.2, tf.float32))


log_probs = log_probability(policy_net(states), actions)
np.testing.assert_allclose(log_probs, old_log_probs, atol=1e-5)  # acting and learning compute the same: the ratio begins at 1
ratio = tf.exp(log_probs + tf.random.stateless_normal(log_probs.shape, [1, 2], stddev=0.3) - old_log_probs)
np.testing.assert_allclose(clipped_loss(ratio, advantages), tf.reduce_mean(clipped_policy_loss(ratio, advantages, 0.2)), rtol=1e-5)
value_loss = 0.5 * np.mean(np.square(values - returns))
np.testing.assert_allclose(value_loss, tf.reduce_mean(clipped_value_loss(values, values, returns)), rtol=1e-5)
print(chapter.text("the losses equal the package's", "损失与软件包的一致"))

# %% [markdown]
# ## Training and testing
#
# `train_model` repeats: collect, estimate the advantages once, several passes in minibatches. `alpha` goes to Adam; the
# article passes it on and never reads it. `test_model` gives actions; the article's `actions =
# policy_net.predict(test_states)` are outputs of a sigmoid, that is, probabilities.


# %%
def train_model(policy_net, value_net, alpha, gamma, num_epochs, gae_lambda=0.95, batch=128, passes=4, minibatches=4, seed=0):
    """PPO from the beginning to the end. Returns the share of right tokens in each iteration."""
    policy_optimizer, value_optimizer = Adam(alpha, global_clipnorm=0.5), Adam(alpha, global_clipnorm=0.5)
    policy_optimizer.build(policy_net.trainable_variables)
    value_optimizer.build(value_net.trainable_variables)
    step = tf.function(ppo.python_function)  # traced anew: these are new variables
    order, shares = np.random.default_rng(seed), []
    for epoch in range(num_epochs):
        prompts = tf.constant(order.integers(0, SYMBOLS, batch), tf.int32)
        states, actions, log_probs, values, rewards = collect(policy_net, value_net, prompts, tf.constant([seed, 100 * epoch]))
        advantages, returns = advantages_and_returns(rewards, values, gamma, gae_lambda)
        advantages = (advantages - tf.reduce_mean(advantages)) / (tf.math.reduce_std(advantages) + 1e-8)
        for _ in range(passes):
            for rows in np.split(order.permutation(batch), minibatches):
                some = [tf.gather(x, rows) for x in (states, actions, log_probs, advantages, returns)]
                policy_loss, value_loss, clipped = step(policy_net, value_net, policy_optimizer, value_optimizer, *some)
        shares.append(float(tf.reduce_mean(rewards[:, -1])))
        if (epoch + 1) % 5 == 0:
            names = chapter.text("share, policy loss, value loss, clipped:", "比例,策略损失,价值损失,裁剪比例:")
            print(f"{epoch + 1}/{num_epochs} {names} {shares[-1]:.3f} {policy_loss:+.4f} {value_loss:.4f} {clipped:.2f}")
    return shares


def test_model(policy_net, test_prompts):
    """The most probable response to each prompt, int32 `(B, T)`."""
    states = tf.constant(test_prompts, tf.int32)[:, tf.newaxis]
    for _ in range(LENGTH):
        action = tf.argmax(policy_net(states)[:, -1], axis=-1, output_type=tf.int32)
        states = tf.concat([states, action[:, tf.newaxis]], axis=1)
    return states[:, 1:].numpy()


shares = train_model(policy_net, value_net, alpha=0.005, gamma=1.0, num_epochs=ITERATIONS)
written = test_model(policy_net, range(SYMBOLS))
for prompt, response in enumerate(written):
    print(chapter.text("prompt", "提示"), prompt, "->", response)
right = np.mean(written == np.arange(SYMBOLS)[:, np.newaxis])
print(chapter.text("share of right tokens, greedy:", "贪心回复中正确词元的比例:"), right)
assert shares[0] < 0.3 and np.mean(shares[-5:]) > 0.8 and right > 0.9, (shares, right)

# %% [markdown]
# ## Two mistakes put back
#
# What do two of the silent mistakes cost? The same program, but with the article's advantage, TD(0), and its target for the
# critic, the immediate reward. The last token hears of the reward through $r$, the one before it through $V$. The critic's
# target in all earlier states is 0, so the tokens before these two hear nothing.

# %%
correct_advantages = advantages_and_returns
advantages_and_returns = lambda rewards, values, gamma, gae_lambda: (correct_advantages(rewards, values, gamma, 0.0)[0], rewards)
keras.utils.set_random_seed(0)
print(chapter.text("with the article's advantage and target:", "换回原文的优势与目标:"))
spoiled_nets = create_policy_network((None,)), create_value_network((None,))
spoiled = train_model(*spoiled_nets, alpha=0.005, gamma=1.0, num_epochs=ITERATIONS)
advantages_and_returns = correct_advantages

figure = Figure(figsize=(6.5, 3.2), layout="constrained")
axes = figure.add_subplot(xlabel=chapter.label("iteration", "迭代"), ylabel=chapter.label("share of right tokens", "正确词元的比例"))
axes.plot(range(1, ITERATIONS + 1), shares, label=chapter.label("corrected", "改正后"))
spoiled_label = chapter.label("with the article's advantage and target", "换回原文的优势与目标")
axes.plot(range(1, ITERATIONS + 1), spoiled, linestyle="--", label=spoiled_label)
axes.axhline(1 / SYMBOLS, color="black", linestyle=":", label=chapter.label("chance", "随机水平"))
axes.set_ylim(0, 1.02)
axes.grid(alpha=0.3)
figure.legend(loc="outside upper center", ncols=3)
chapter.show(figure, "shares")
ends = f"{np.mean(shares[-5:]):.3f}, {np.mean(spoiled[-5:]):.3f}"
print(chapter.text("share at the end, corrected and spoiled:", "最后的比例,改正后与放回错误:"), ends)
assert np.mean(shares[-5:]) > np.mean(spoiled[-5:]) + 0.15

# %% [markdown]
# ## Summary
#
# - An error message is the good case: shapes, dtypes and missing gradients of the article's program are found by running
#   it.
# - The silent mistakes need numbers: a loss that a perfect critic should not have, a gradient that is 0, a ratio that never
#   leaves 1.
# - PPO is: act and *store* the log-probability; advantages once, with the recursion and the ends; several passes of the
#   clipped loss, the model called inside the tape.
# - This task needs neither a bonus for entropy nor a penalty for the distance from a reference model. A real language model
#   needs at least the latter: see 6.1.
# - In the package the same steps are `LanguagePPO.collect`, `PPO.estimate` and `PPO.gradients`.
#
# ## Exercises
#
# 1. An episode of three steps pays 0, 0, 1; the critic says 0.2, 0.4, 0.6. What are the three advantages for
#    $\gamma=\lambda=1$?
# 2. The critic's outputs are `[[0.], [1.], [2.]]`, the targets `[0., 1., 2.]`. What mean squared error does the article's
#    line give?
# 3. The ratio is 1.5 and $\epsilon=0.2$. What is the derivative of the clipped loss by the ratio for $A=1$, and for $A=-1$?
#    (The loss is $L$ above, to be minimised.)
#
# The solutions are in `tutorials/solutions/05_2_the_article_corrected.py`.


# %%
@chapter.exercise
def three_advantages():
    return None  # your three numbers


@chapter.exercise
def broadcast_error():
    return None  # your number


@chapter.exercise
def derivatives_by_the_ratio():
    return None  # your two numbers


row = lambda *numbers: tf.constant([numbers], tf.float32)
three, _ = generalized_advantages(row(0, 0, 1), row(0.2, 0.4, 0.6), row(0.4, 0.6, 0), row(0, 0, 1), row(1, 1, 1), 1.0, 1.0)
chapter.check(three_advantages(), three[0])
outputs, targets = np.arange(3.0)[:, np.newaxis], np.arange(3.0)
chapter.check(broadcast_error(), np.mean(np.square(outputs - targets)))
derivatives = [gradient(lambda r: clipped_policy_loss(r, advantage, 0.2), 1.5)[1] for advantage in (1.0, -1.0)]
chapter.check(derivatives_by_the_ratio(), derivatives)
