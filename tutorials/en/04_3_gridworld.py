# %% [markdown]
# # 4.3 The grid world of four states
#
# [Overview](../README.md) · before: [4. The mathematics](04_mathematics.ipynb) · next: [5.1 Setting up](05_1_setup.ipynb) · [中文](../zh/04_3_gridworld.ipynb)
#
# **You will learn** to write a small world down completely, to compute its values by hand, to take one PPO step with a
# pencil, and to see the package take the same step and then find the best policy. Minutes: about 1.
#
# ## The article's passage
#
# > 环境是一个有四个状态的网格世界。……奖励rt为1，当智能体到达终点状态时。
# >
# > 初始化策略网络和价值网络参数：……`θPolicy=[0.5, 0.5]` …… `θValue=[0.5]`
# >
# > 状态s=1，选择动作a=1（向上移动），执行动作后到达状态s=2；……计算奖励rt=1，……计算优势函数At=1-0.5=0.5。
# >
# > `θPolicy'=[0.5+α*0.5*0.5]= [0.5, 0.75]` …… `θValue'=[0.5+α*0.5*0.5]= [0.75]`
#
# (A grid world of four states, with a reward of 1 on arrival at the goal. The agent moves up from state 1 to state 2, gets the reward 1,
# and the advantage is 1 - 0.5. Both networks are then updated with it.)
#
# What is wrong with it:
#
# - The world is not written down: where the four states lie, what a wall does, which state ends the episode.
# - Four states with four actions need a table of 16 logits and 4 values; the article has 2 and 1.
# - The first step pays 1 already, although state 2 is not the goal: the article goes on "until the goal is reached".
# - `A = 1 - 0.5` leaves out the discounted value of the next state. By the article's own definition, $V(s_{t+1})-V(s_t)$ with
#   $V=0.5$ everywhere, it would be 0.
# - `[0.5 + α·0.5·0.5] = [0.5, 0.75]` has length 1 on the left and 2 on the right, needs $\alpha=1$, and as probabilities
#   sums to 1.25. The gradient of a softmax moves *all* logits of a state.
# - In the update of the value the second 0.5 has no reason: a step on half the squared error adds $\alpha A$.
# - There is one sample and no ratio: it is not PPO.
#
# ## The world, completely
#
# States 1 (bottom left), 2 (top left), 3 (bottom right), 4 (top right). State 4 is the goal: entering it pays 1 and ends the
# episode. Every other step pays 0. A move against the border stays where it is. An episode begins in 1, 2 or 3.

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
# ## The values, by hand
#
# The value of a state under a policy $\pi$ is the expected discounted return ($r_t$ is the reward of the step taken in $s_t$):
#
# $$V^\pi(s)=\mathbb{E}_\pi\Big[\sum_{k\ge 0}\gamma^k r_{t+k}\,\Big|\,s_t=s\Big]$$
#
# The best policy enters the goal in one step from 2 and 3, and in two from 1. So $V^*(2)=V^*(3)=1$ and
# $V^*(1)=0+\gamma\cdot 1=\gamma$. For the policy that chooses all four moves with probability ¼, $V$ solves linear equations:
# from 2, one move enters the goal, one goes to 1 and two stay:
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
# ## The article's first step, put right
#
# Say the critic believes $V=0.5$ everywhere, and the agent moves up from 1 to 2. The one-step advantage is
#
# $$\delta=r+\gamma V(s')-V(s)$$
#
# where $r$ is the reward (further below $r$ is the probability ratio, as in the paper). Whether the reward is 0 (nothing happens in
# state 2) or 1 (as the article has it) and whether the episode ends there decides everything.
# `generalized_advantages` gets the same three numbers: with $\lambda=0$ it is $\delta$.

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
# The article's 0.5 is right only for the last case: the episode ends there.
#
# ## One PPO step with a pencil
#
# A state has one logit $z_a$ an action, and $\pi(a)=e^{z_a}/\sum_b e^{z_b}$. PPO maximises (Schulman et al. 2017, eq. 7)
#
# $$L^{CLIP}=\min\big(r A,\ \mathrm{clip}(r,1-\epsilon,1+\epsilon)A\big),\qquad r=\frac{\pi(a)}{\pi_{old}(a)}$$
#
# Before the first update $r=1$, both terms are equal, and the gradient is that of the policy gradient:
#
# $$\frac{\partial L}{\partial z_b}=A\,\big(\mathbb{1}[b=a]-\pi(b)\big)$$
#
# With four equal logits, $A=0.5$ and the action "up", the four parts are $0.5\cdot(1-¼)=0.375$ for "up" and
# $-0.5\cdot ¼=-0.125$ for each other move. They sum to 0: probability is moved, not made.

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
# ## The whole of it
#
# Now let the package do this with many samples and many steps: 16 copies of the world, 64 steps each, four epochs of minibatches an
# iteration. We look at the values and the policy after the first iteration, the fifth and the last. This is already the real thing:
# 30 iterations are enough for so small a world.

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
# The error is the distance from the values of the *best* policy. It falls because both learn: the policy nears the best one, and the
# critic the values of the policy. The arrows of states 2 and 3 turn to the goal. (Each picture has a colour scale of
# its own; the numbers in the cells can be compared.)

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
# ## Summary
#
# - A world is defined by states, moves, rewards and ends; only then has it values.
# - An advantage compares what happened with what was expected: $\delta=r+\gamma V(s')-V(s)$, and $V(s')=0$ only after the end.
# - A softmax gradient moves all logits of a state, and sums to 0.
#
# ## Exercises
#
# 1. The critic believes $V(2)=0.8$. The agent enters the goal from 2. What is $\delta$?
# 2. A state has two actions; both logits are 0. Action 0 was taken and has $A=0.5$. Which logits has it after one step of learning
#    rate 1?
# 3. What is $V(1)$ under the uniform policy with $\gamma=0.5$?
#
# The solutions are in `tutorials/solutions/04_3_gridworld.py`.


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
