# %% [markdown]
# # 4.3 四个状态的网格世界
#
# [目录](../README.md) · 上一章：[4. 数学](04_mathematics.ipynb) · 下一章：[5.1 环境搭建](05_1_setup.ipynb) · [English](../en/04_3_gridworld.ipynb)
#
# **本章要学会**：把一个小世界完整地写下来，用手算出它的价值，用铅笔走一步PPO，再看本软件包走出同样的一步并找到最优策略。
# 需要约1分钟。
#
# ## 原文的段落
#
# > 环境是一个有四个状态的网格世界。……奖励rt为1，当智能体到达终点状态时。
# >
# > 初始化策略网络和价值网络参数：……`θPolicy=[0.5, 0.5]` …… `θValue=[0.5]`
# >
# > 状态s=1，选择动作a=1（向上移动），执行动作后到达状态s=2；……计算奖励rt=1，……计算优势函数At=1-0.5=0.5。
# >
# > `θPolicy'=[0.5+α*0.5*0.5]= [0.5, 0.75]` …… `θValue'=[0.5+α*0.5*0.5]= [0.75]`
#
# 问题在于：
#
# - 世界没有写清楚：四个状态怎样排列，撞墙会怎样，哪个状态结束一个回合。
# - 四个状态、每个状态四个动作，用表来存需要16个logit和4个价值；原文只有2个和1个。
# - 第一步就得到奖励1，而状态2并不是终点：原文还要继续“直到智能体到达终点状态”。
# - `A = 1 - 0.5`漏掉了下一状态的折扣价值。若按原文自己的定义$V(s_{t+1})-V(s_t)$，各处$V=0.5$，它应当是0。
# - `[0.5 + α·0.5·0.5] = [0.5, 0.75]`左边长度为1，右边为2，要求$\alpha=1$；若看作概率，其和为1.25。softmax的梯度会移动同一状态的*全部*logit。
# - 价值的更新里，第二个0.5没有来由：对平方误差的一半走一步，加上的是$\alpha A$。
# - 只有一个样本，没有概率比，这不是PPO。
#
# ## 完整的世界
#
# 状态1在左下，2在左上，3在右下，4在右上。状态4是终点：进入它得到奖励1，回合结束。其余每一步的奖励都是0。朝边界移动则停在原地。
# 回合从状态1、2或3开始。

# %%
import sys
from pathlib import Path

sys.path.append(str(Path(globals().get("__file__", "notebook")).resolve().parents[1]))  # the folder of chapter.py

import keras
import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure

from ppo_keras import EnvironmentPPO, GridWorld, MLPActorCritic, PPOConfig
from ppo_keras.advantages import generalized_advantages
from ppo_keras.losses import clipped_policy_loss
from ppo_keras.reports.pictures import grid_values

from chapter import Chapter

chapter = Chapter("04_3_gridworld")
keras.utils.set_random_seed(0)
world, discount = GridWorld.article(), 0.99
moves = {(s, a): int(world.next_cells[s, a]) + 1 for s in range(4) for a in range(4)}
for state in (1, 2, 3):
    ends = [moves[state - 1, action] for action in range(4)]
    print(chapter.text(f"state {state}: up, down, left, right lead to", f"状态{state}:上、下、左、右分别到达"), ends)

# %% [markdown]
# ## 手算价值
#
# 状态在策略$\pi$下的价值，是折扣回报的期望（$r_t$是在$s_t$所走一步的奖励）：
#
# $$V^\pi(s)=\mathbb{E}_\pi\Big[\sum_{k\ge 0}\gamma^k r_{t+k}\,\Big|\,s_t=s\Big]$$
#
# 最优策略从2和3一步进入终点，从1要两步。所以$V^*(2)=V^*(3)=1$，$V^*(1)=0+\gamma\cdot 1=\gamma$。如果策略以各¼的概率选择四个方向，$V$就是一个线性方程组的解。例如从2出发，一个方向进入终点，一个方向到1，两个方向留在原地：
#
# $$V(2)=\tfrac14\cdot 1+\tfrac14\gamma V(1)+\tfrac24\gamma V(2)$$

# %%
by_hand = np.array([discount, 1.0, 1.0, 0.0])
np.testing.assert_allclose(world.solve(discount).values, by_hand, rtol=1e-12)

uniform = np.linalg.solve(  # states 1, 2, 3
    np.eye(3) - discount / 4 * np.array([[2, 1, 1], [1, 2, 0], [1, 0, 2]]), [0.0, 0.25, 0.25]
)
print(chapter.text("values under the best policy:  ", "最优策略下的价值:"), np.round(by_hand[:3], 4))
print(chapter.text("values under the uniform policy:", "均匀策略下的价值:"), np.round(uniform, 4))

# %% [markdown]
# ## 改正原文的第一步
#
# 假设评论家（价值网络）认为各处$V=0.5$，智能体从1向上走到2。单步优势是
#
# $$\delta=r+\gamma V(s')-V(s)$$
#
# 其中$r$是奖励（再往下，$r$与论文一样表示概率比）。奖励是0（在状态2什么也没发生）还是1（如原文所说），回合是否在此结束，决定了一切。`generalized_advantages`算出同样的三个数：当$\lambda=0$时，它就是$\delta$。

# %%
V, cases = 0.5, {"r=0": (0.0, 0.0), "r=1": (1.0, 0.0), "r=1, end": (1.0, 1.0)}
deltas = {name: r + discount * V * (1 - end) - V for name, (r, end) in cases.items()}
column = lambda values: tf.constant(values, tf.float32)[:, tf.newaxis]  # three sequences of one step
rewards, ended = map(column, zip(*cases.values()))
advantages, _ = generalized_advantages(rewards, 0 * rewards + V, V * (1 - ended), ended, tf.ones_like(rewards), discount, gae_lambda=0.0)
np.testing.assert_allclose(advantages[:, 0], list(deltas.values()), rtol=1e-6)
for name, delta in deltas.items():
    print(f"{name:9s} delta = {delta:+.3f}")

# %% [markdown]
# 原文的0.5只在最后一种情形成立：回合在此结束。
#
# ## 用铅笔走一步PPO
#
# 一个状态的每个动作有一个logit $z_a$，$\pi(a)=e^{z_a}/\sum_b e^{z_b}$。PPO最大化（Schulman等，2017，式7）
#
# $$L^{CLIP}=\min\big(r A,\ \mathrm{clip}(r,1-\epsilon,1+\epsilon)A\big),\qquad r=\frac{\pi(a)}{\pi_{old}(a)}$$
#
# 第一次更新之前$r=1$，两项相等，梯度就是策略梯度：
#
# $$\frac{\partial L}{\partial z_b}=A\,\big(\mathbb{1}[b=a]-\pi(b)\big)$$
#
# 四个logit相等，$A=0.5$，动作是“上”：“上”的分量是$0.5\cdot(1-¼)=0.375$，其余三个各为$-0.5\cdot ¼=-0.125$。它们的和是0：概率只是被搬动，不会凭空产生。

# %%
logits, action, advantage = tf.Variable(tf.zeros([4])), 0, 0.5
old_log_prob = tf.nn.log_softmax(logits)[action]
with tf.GradientTape() as tape:
    ratio = tf.exp(tf.nn.log_softmax(logits)[action] - old_log_prob)
    loss = clipped_policy_loss(ratio, advantage, clip_ratio=0.2)
gradient = -tape.gradient(loss, logits)  # of the objective, which is to rise
pi = tf.nn.softmax(logits).numpy()
by_pencil = advantage * (np.eye(4)[action] - pi)
np.testing.assert_allclose(gradient, by_pencil, rtol=1e-6)
logits.assign_add(1.0 * gradient)  # learning rate 1, as in the article
print(chapter.text("gradient:", "梯度:"), gradient.numpy())
print(chapter.text("probabilities before:", "更新前的概率:"), pi)
print(chapter.text("probabilities after: ", "更新后的概率:"), tf.nn.softmax(logits).numpy().round(4))

# %% [markdown]
# ## 完整的训练
#
# 现在让软件包用许多样本、许多步来做这件事：16个并行的世界，每次64步，每次迭代做四轮小批量更新。我们在第1次、第5次和最后一次迭代之后看价值和策略。
# 这里无需再加长：世界这么小，30次迭代已经足够。

# %%
policy = MLPActorCritic(world.observation, world.actions, width=32)
agent = EnvironmentPPO(policy, world, PPOConfig(discount=discount, entropy_coefficient=0.01), environments=16, steps=64, seed=1)
agent.compile(keras.optimizers.Adam(5e-3), jit_compile=True)


def look():
    """Values `(4,)` and probabilities `(4, 4)` of the policy as it is."""
    cells = tf.range(4)
    logits, values, _ = policy.step(cells, policy.initial_state(4), tf.ones([4]))
    return values.numpy(), tf.nn.softmax(logits).numpy()


words = [chapter.label(*both) for both in (("values and policy", "价值与策略"), ("value of a state", "状态的价值"), ("goal", "终点"), ("pit", "陷阱"))]
errors = []
for iteration in range(1, 31):
    agent.fit(steps_per_epoch=1, verbose=0)
    values, probabilities = look()
    errors.append(np.abs(values - by_hand)[:3].max())
    if iteration in (1, 5, 30):
        chapter.show(grid_values(world, values, probabilities, words), f"iteration_{iteration}")
print(chapter.text("largest error of a value:", "价值的最大误差:"), f"{errors[0]:.1e} -> {errors[-1]:.1e}")

# %% [markdown]
# 这里的误差是与*最优*策略的价值之差。它会下降，因为两者都在学习：策略接近最优策略，评论家接近策略的价值。状态2和3的箭头转向终点。
# （每张图的颜色刻度不同，可以比较的是格子里的数字。）

# %%
figure = Figure(figsize=(6, 3), layout="constrained")
axes = figure.add_subplot(xlabel=chapter.label("iteration", "迭代"), ylabel=chapter.label("largest error of a value", "价值的最大误差"))
axes.semilogy(range(1, 31), errors)
axes.grid(alpha=0.3)
chapter.show(figure, "errors")

values, probabilities = look()
best = world.solve(discount).optimal_actions[np.arange(4), probabilities.argmax(axis=1)]
assert best.all(), probabilities
assert errors[-1] < 0.1 and errors[-1] < 0.2 * errors[0], errors
print(chapter.text("every greedy move is optimal", "每个贪心动作都是最优的"))

# %% [markdown]
# ## 小结
#
# - 一个世界由状态、移动、奖励和终止共同定义；定义完整，才谈得上价值。
# - 优势比较的是“发生的”与“预期的”：$\delta=r+\gamma V(s')-V(s)$，只有回合结束之后才有$V(s')=0$。
# - softmax的梯度移动同一状态的全部logit，其和为0。
#
# ## 练习
#
# 1. 评论家认为$V(2)=0.8$，智能体从2进入终点。$\delta$是多少？
# 2. 一个状态有两个动作，两个logit都是0。采取了动作0，它的$A=0.5$。以学习率1走一步之后，两个logit各是多少？
# 3. 当$\gamma=0.5$时，均匀策略下的$V(1)$是多少？
#
# 答案在`tutorials/solutions/04_3_gridworld.py`。


# %%
@chapter.exercise
def delta_at_the_goal():
    return None  # your number


@chapter.exercise
def two_logits():
    return None  # your two numbers, such as [0.0, 0.0]


@chapter.exercise
def uniform_value_of_state_1():
    return None  # your number


chapter.check(delta_at_the_goal(), 1.0 - 0.8)
chapter.check(two_logits(), [0.5 * 0.5, -0.5 * 0.5])
half = np.linalg.solve(np.eye(3) - 0.5 / 4 * np.array([[2, 1, 1], [1, 2, 0], [1, 0, 2]]), [0.0, 0.25, 0.25])
chapter.check(uniform_value_of_state_1(), half[0])
