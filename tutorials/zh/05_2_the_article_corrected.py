# %% [markdown]
# # 5.2 改正原文的程序
#
# [目录](../README.md) · 上一章：[5.1 环境搭建](05_1_setup.ipynb) · 下一章：[5.3 用LSTM做PPO](05_3_lstm_ppo.ipynb) · [English](../en/05_2_the_article_corrected.ipynb)
#
# **本章要学会**：运行原文的程序会发生什么，哪些错误会报错，哪些只是悄悄算错；以及同样的五个函数改正之后的样子：真的能学会。
# 需要约1分钟。
#
# ## 原文的段落
#
# > 以下是项目的源代码和详细解读……`def create_policy_network` … `def create_value_network` … `def ppo` …
# > `def train_model` … `def test_model` … 输出结果将显示策略网络预测的动作概率。
#
# 原文没有给出任何输出。用本仓库的版本运行，也不可能有：程序停在第一个网络上。下面按顺序运行原文自己的代码行。报错的，打印出错误信息；不报错的，用一个数字说明错在哪里。每一组之后给出改正的函数。
#
# 原文的数据是随机浮点数，没有东西可学，第一个代码单元就说明了这一点：动作不是由策略选出来的，奖励也与动作无关。

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
# ## 网络
#
# 原文的几行代码，以及它们的后果：
#
# - `LSTM(128, input_shape=(10,))`：LSTM读入的是（序列，时间步，特征），而`(10,)`没有特征这一维。
# - `Dense(1, activation='sigmoid')`给整个序列一个概率，也就是一次二选一。语言模型在每一步都要为词表中的每个词元给出一个logit。
# - `predict(states[i])`丢掉了批这一维。Keras并不抱怨：它把一个十步的状态读成了十个状态。
# - `activation='relu'`使记忆无界（也用不上cuDNN的快速实现）。循环权重较大时（下面用正交矩阵的四倍）输出会爆炸；用`tanh`时，输出不超过1。


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
# 改正之后：读入词元，在每一步为每个符号输出一个logit。策略网络与价值网络分开，与原文一样。任务需要记忆：提示是六个符号之一，策略写五个词元；奖励随最后一个词元到来，等于与提示相同的词元所占的比例。状态是到目前为止写下的内容，动作是下一个词元：这就是一个最小的语言模型。

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
# ## 经验
#
# 原文事先抽好动作，每个样本调用四次`predict`（优势两次，两个损失各一次），却从不保存动作被选中时的概率。PPO恰恰需要这个概率：它必须*在采取动作时*存下来。下面一个函数收集一批经验：状态、动作、动作的对数概率、价值和奖励。


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
# ## 优势
#
# 原文倒着遍历样本，却没有把任何东西往前带：每个优势都是$\delta_t=r_t+\gamma V(s_{t+1})-V(s_t)$，即TD(0)。回合结束没有标记，下一回合的价值会漏进来。而且它的价值网络拟合的是*即时*奖励。改正之后就是广义优势估计（Schulman等，2016，式16）：
#
# $$A_t=\delta_t+\gamma\lambda(1-d_t)A_{t+1},\qquad \delta_t=r_t+\gamma(1-d_t)V(s_{t+1})-V(s_t),\qquad R_t=A_t+V(s_t)$$
#
# 回合结束处$d_t=1$；$R_t$是价值网络要学的目标。拿一个词元全对的回复来比较，此时价值网络还什么都不知道：


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
# 用TD(0)，而价值网络又什么都不知道时，只有最后一个词元得知结果是好的。
#
# ## 损失：会报错的几行
#
# 取出`ppo`的几行分别运行，每次先修好它之前的问题。
#
# - `predict`返回NumPy数组，而`np.random.rand`产生的奖励是float64：与float32张量相加时报错。
# - `tape.gradient`要的是变量，原文给的是模型。
# - 给了变量之后，梯度全是`None`：`predict`已经离开了梯度带（tape），而`total_loss`又是在两个梯度带之外相加的。第二个`with ... as tape`还覆盖了第一个。

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
# ## 损失：能运行却算错的几行
#
# 这些更糟，因为没有任何提示。
#
# - `action * tf.math.log(action_probs)`：动作为0时乘积是0，梯度也是0。一半的经验什么也没教。
# - 对sigmoid取`tf.math.log`：网络认定动作0时，动作1的概率在float32中恰好是0，对数是$-\infty$，梯度不是数（NaN）。
#   对logit用`log_softmax`则始终有限。
# - `value_net.predict(states) - rewards`的形状是`(N, 1)`和`(N,)`：NumPy把它们扩展成`(N, N)`。完美的价值网络也会有损失。
# - `old_action_probs = action_probs`：新旧概率是同一组数，概率比永远是1，从来不会裁剪。（原文甚至没有用到它。）
# - 价值损失已经在`policy_loss`里，随后又加了一次。


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
# 改正之后：在梯度带内调用模型，每个损失有自己的梯度带和优化器，概率比是现在的策略与当时行动的策略之比。目标是Schulman等（2017，式7），写成损失：
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
# ## 训练与测试
#
# `train_model`重复以下过程：收集经验，计算一次优势，分小批量更新几轮。`alpha`交给Adam；原文把它传来传去，却从未使用。
# `test_model`给出的是动作；原文的`actions = policy_net.predict(test_states)`是sigmoid的输出，也就是概率。


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
# ## 放回两个错误
#
# 两个不报错的错误，代价有多大？同一个程序，只换回原文的优势（TD(0)）和价值网络的目标（即时奖励）。最后一个词元通过$r$得知奖励，倒数第二个通过$V$得知。更早的状态，价值网络的目标都是0，所以再往前的词元什么也得不到。

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
# ## 小结
#
# - 报错是好事：原文程序的形状、数据类型和梯度缺失，一运行就会发现。
# - 不报错的错误要靠数字发现：完美的价值网络不该有的损失，等于0的梯度，永远是1的概率比。
# - PPO就是：行动并*存下*对数概率；优势只算一次，要有递推，要认得回合结束；用裁剪的损失更新几轮，在梯度带内调用模型。
# - 这个任务既不需要熵奖励，也不需要对偏离参考模型的惩罚。真正的语言模型至少需要后者：见6.1。
# - 在软件包里，同样的步骤是`LanguagePPO.collect`、`PPO.estimate`和`PPO.gradients`。
#
# ## 练习
#
# 1. 一个三步的回合，奖励依次为0、0、1；价值网络给出0.2、0.4、0.6。当$\gamma=\lambda=1$时，三个优势各是多少？
# 2. 价值网络输出`[[0.], [1.], [2.]]`，目标是`[0., 1., 2.]`。原文那一行得到的均方误差是多少？
# 3. 概率比为1.5，$\epsilon=0.2$。裁剪损失（即上面要最小化的$L$）对概率比的导数，在$A=1$和$A=-1$时各是多少？
#
# 答案在`tutorials/solutions/05_2_the_article_corrected.py`。


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
