# %% [markdown]
# # 4. The mathematics
#
# [Overview](../README.md) · before: [3. From the policy gradient to PPO](03_policy_gradient_to_ppo.ipynb) · next: [4.3 The grid world of four states](04_3_gridworld.ipynb) · [中文](../zh/04_mathematics.ipynb)
#
# **You will learn** to read every formula that PPO needs, to correct those of the article, and to check each with numbers:
# policy, value, advantage, TD error, GAE, ratio and clipped objective, KL divergence, entropy. Minutes: about 1.
#
# ## The article's passage
#
# Sections 4.1 and 4.2 have five formulas and a claim:
#
# > $πθPolicy(a|s)=\frac{exp(θPolicy(s,a)}{∫exp(θPolicy(s,a'))da'}$
# >
# > $VθValue(s)=E[∑rt+1+γrt+2+γ^2rt+3+...∣st=s]$
# >
# > $At=VθValue(st+1)−VθValue(st)$
# >
# > $θPolicy^*=\arg\max_θPolicy E[∑rt+1+γrt+2+γ^2rt+3+...∣st=s]$
# >
# > $θValue^*=\arg\min_θValue E[(VθValue(st)−∑rt+1+γrt+2+γ^2rt+3+...)^2∣st=s]$
# >
# > 通过优化策略网络和价值网络，我们可以使优势函数At最大化。("...we can maximise the advantage")
#
# All of them need a correction, and what makes PPO PPO is missing: the ratio, the clipped objective, KL and entropy. The
# sections below take them one by one.
#
# ## The policy: a softmax over the vocabulary
#
# What is wrong with the first formula: a bracket is missing; an integral stands where there are finitely many actions (the tokens
# of a vocabulary $\mathcal{V}$); and $\theta$ is at once the parameters and the logit. A network with parameters $\theta$ puts out
# a logit $z_\theta(s,a)$ for each action, and
#
# $$\pi_\theta(a|s)=\frac{\exp z_\theta(s,a)}{\sum_{a'\in\mathcal{V}}\exp z_\theta(s,a')},\qquad
# \log\pi_\theta(a|s)=z_\theta(s,a)-\log\sum_{a'}\exp z_\theta(s,a')$$
#
# Only differences of logits count. So the largest logit may be subtracted from all before anything is raised to a power of $e$: without
# that both forms overflow. The logarithm is then computed by the second form, because a very small probability would round to 0.

# %%
import sys
from pathlib import Path

sys.path.append(str(Path(globals().get("__file__", "notebook")).resolve().parents[1]))  # the folder of chapter.py

import keras
import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure

from ppo_keras import GridWorld
from ppo_keras.advantages import generalized_advantages
from ppo_keras.kl import estimate_kl
from ppo_keras.losses import clipped_policy_loss, clipped_value_loss, entropy, log_probability

from chapter import Chapter

EPISODES = 20_000  # of the Monte Carlo checks; 1_000_000 for seven times less noise

chapter = Chapter("04_mathematics")
keras.utils.set_random_seed(0)
random = np.random.default_rng(0)


def softmax(z):
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


z = random.normal(size=1000) * 2  # logits of one state, vocabulary of 1000 tokens
log_pi = z - np.log(np.exp(z).sum())
token = int(z.argmax())
np.testing.assert_allclose(np.exp(log_pi).sum(), 1.0)
np.testing.assert_allclose(softmax(z + 100.0), softmax(z), rtol=1e-9)
package = log_probability(tf.constant([z], tf.float32), tf.constant([token]))
np.testing.assert_allclose(package, [log_pi[token]], rtol=1e-5)
print(
    chapter.text("log-probability of the likeliest token, by hand and by the package:", "最可能词元的对数概率,手算与软件包:"),
    f"{log_pi[token]:.5f}, {package[0]:.5f}",
)

large = z.astype(np.float32) + 100
with np.errstate(over="ignore", invalid="ignore"):
    naive = np.exp(large) / np.exp(large).sum()
    naive_log = large - np.log(np.exp(large).sum())
print(chapter.text("the first form at logits near 100, float32:", "logit在100附近时的第一种写法,float32:"), naive[token])
small = large - large.max()
stable = small - np.log(np.exp(small).sum())
print(
    chapter.text("the second form there, plainly and with the largest subtracted:", "此时的第二种写法,直接计算与先减去最大值:"),
    naive_log[token],
    f"{stable[token]:.5f}",
)
assert np.isnan(naive[token]) and np.isinf(naive_log[token])
np.testing.assert_allclose(stable[token], log_pi[token], atol=1e-3)

# %% [markdown]
# ## The value: an expectation
#
# The second formula has a sum sign and the sum written out, and mixes two things: the value *of a policy*, which is defined by an
# expectation, and the network that is to learn it. The first depends on $\pi$, the second on parameters $\phi$:
#
# $$V^\pi(s)=\mathbb{E}_\pi\Big[\sum_{k\ge 0}\gamma^k r_{t+k}\,\Big|\,s_t=s\Big],\qquad V_\phi(s)\approx V^\pi(s)$$
#
# Here $r_t$ is the reward of the action $a_t$ (some books call it $r_{t+1}$; the article uses both), and $\gamma$ the discount.
# For a small world the expectation is exact: $V^\pi=r_\pi+\gamma P_\pi V^\pi$ are linear equations, where $r_\pi$ is the mean reward in each
# state and $P_\pi$ holds the probabilities of moving from state to state. We take the grid world of chapter 4.3 (states 1 to 4 in a
# square; entering 4 pays 1 and ends the episode) and a policy at random, solve them, and compare with the mean over episodes that
# are really played.

# %%
world, discount = GridWorld.article(), 0.9
pi = softmax(random.normal(size=(3, 4)))  # states 1, 2, 3; in state 4 the episode is over


def solve(pi):
    """V, Q and the expected discounted visits of each state, of a policy `(3, 4)`; episodes begin in 1, 2 or 3."""
    P, r = np.zeros((3, 3)), (pi * world.rewards[:3]).sum(axis=1)
    for s in range(3):
        for a in range(4):
            if not world.terminal[world.next_cells[s, a]]:
                P[s, world.next_cells[s, a]] += pi[s, a]
    V = np.linalg.solve(np.eye(3) - discount * P, r)
    behind = np.append(V, 0.0)[world.next_cells[:3]]  # V(s') of each state and action; 0 in the goal
    Q = world.rewards[:3] + discount * behind
    visits = np.linalg.solve(np.eye(3) - discount * P.T, np.full(3, 1 / 3))
    return V, Q, visits


def play(s, first_action=None, steps=150):
    """`EPISODES` episodes from state `s`: states `(N, T + 1)`, actions, rewards `(N, T)`; in the goal nothing happens any more."""
    states, actions, rewards = [np.full(EPISODES, s)], [], []
    for t in range(steps):
        s = states[-1]
        chances = np.vstack([pi, np.full(4, 0.25)])[s]
        a = (random.random((EPISODES, 1)) > np.cumsum(chances, axis=1)).sum(axis=1).clip(max=3)
        if t == 0 and first_action is not None:
            a[:] = first_action
        states.append(world.next_cells[s, a])
        actions.append(a)
        rewards.append(world.rewards[s, a])
        if world.terminal[states[-1]].all():
            break
    return np.stack(states, axis=1), np.stack(actions, axis=1), np.stack(rewards, axis=1)


V, Q, visits = solve(pi)
for s in range(3):
    _, _, rewards = play(s)
    returns = rewards @ discount ** np.arange(rewards.shape[1])
    error = returns.std() / EPISODES**0.5
    print(
        chapter.text(
            f"V({s + 1}): exact {V[s]:.4f}, mean of episodes {returns.mean():.4f} +- {error:.4f}",
            f"V({s + 1}):精确值{V[s]:.4f},回合的均值{returns.mean():.4f} +- {error:.4f}",
        )
    )
    assert abs(returns.mean() - V[s]) < 5 * error

# %% [markdown]
# ## What the critic minimises
#
# $$\phi^*=\arg\min_\phi\mathbb{E}\Big[\tfrac12\Big(V_\phi(s_t)-\sum_{k\ge0}\gamma^k r_{t+k}\Big)^2\Big]$$
#
# The article's version lacks brackets: $V-r_{t+1}+\gamma r_{t+2}+\dots$ subtracts only the first reward and adds the others. A
# squared error is smallest at the mean of what is subtracted, so we can say what each version would learn. With the correct one it is
# $V^\pi$. (The expectation is over the states that the policy visits; the article fixes a single $s$.)

# %%
_, _, rewards = play(0)
weights = discount ** np.arange(rewards.shape[1])
article_weights = np.where(np.arange(rewards.shape[1]) == 0, 1.0, -weights)  # V - (r1 - g r2 - g^2 r3 - ...)
print(
    chapter.text("V(1): exact, learned with the brackets, without them:", "V(1):精确值,有括号时学到的,没有括号时学到的:"),
    f"{V[0]:.3f}, {(rewards @ weights).mean():.3f}, {(rewards @ article_weights).mean():.3f}",
)
assert (rewards @ article_weights).mean() < 0 < V[0]

# %% [markdown]
# A negative value where every reward is 0 or 1.
#
# ## The advantage
#
# The third formula, $V(s_{t+1})-V(s_t)$, lacks the reward and the discount. The action value $Q^\pi(s,a)$ is the expected return
# after taking $a$ in $s$ and following $\pi$ from then on. The advantage compares it with the average action:
#
# $$A^\pi(s,a)=Q^\pi(s,a)-V^\pi(s),\qquad \sum_a\pi(a|s)A^\pi(s,a)=0$$
#
# The mean is 0 because $V^\pi(s)=\sum_a\pi(a|s)Q^\pi(s,a)$. So "maximising the advantage" means nothing: under *every* policy, the
# best one too, its mean is 0. It says in which direction to change.

# %%
A = Q - V[:, np.newaxis]
behind = np.append(V, 0.0)[world.next_cells[:3]]
article_A = behind - V[:, np.newaxis]
print(chapter.text("mean advantage under the policy, states 1 to 3:", "策略下优势的均值,状态1到3:"), (pi * A).sum(axis=1).round(12) + 0.0)
print(chapter.text("the same of the article's formula:", "按原文公式:"), (pi * article_A).sum(axis=1).round(4))
np.testing.assert_allclose((pi * A).sum(axis=1), 0.0, atol=1e-12)
goal = [(1, 3), (2, 0)]  # state 2 moves right, state 3 up: into the goal
for s, a in goal:
    print(
        chapter.text(
            f"state {s + 1}, into the goal: A = {A[s, a]:+.3f}, the article's {article_A[s, a]:+.3f}",
            f"状态{s + 1},进入终点:A = {A[s, a]:+.3f},原文的公式{article_A[s, a]:+.3f}",
        )
    )
    assert A[s, a] > 0 > article_A[s, a] == article_A[s].min()

# %% [markdown]
# By the article's formula the step into the goal is the *worst* of all: the value behind the end is 0, and the reward is left out.
#
# ## What the policy maximises
#
# The fourth formula conditions on one state $s$ and speaks of its best action. The objective is the expected return of whole
# episodes, over the states in which they begin and all that follows:
#
# $$J(\theta)=\mathbb{E}_{\tau\sim\pi_\theta}\Big[\sum_{t\ge0}\gamma^t r_t\Big]=\sum_{s_0}p_0(s_0)V^{\pi_\theta}(s_0)$$
#
# Here $\tau$ is a trajectory (the record of an episode) and $p_0(s_0)$ the probability that it begins in $s_0$.
# With shared parameters it makes a difference: what is best in one state may be bad in another. And its gradient is where the
# advantage comes in. For a table of logits $z(s,a)$ (policy gradient theorem; Sutton et al. 2000)
#
# $$\frac{\partial J}{\partial z(s,a)}=d(s)\,\pi(a|s)\,A^\pi(s,a),\qquad d(s)=\mathbb{E}\Big[\sum_t\gamma^t\mathbb{1}[s_t=s]\Big]$$
#
# In practice the weight $\gamma^t$ in $d(s)$ is left out: every visited state counts fully, in chapter 3 and in the package too.
# The check: change each logit by a little, and solve the world anew.


# %%
def J(z):
    return solve(softmax(z))[0].mean()  # states 1, 2, 3 begin equally often


logits, tiny = np.log(pi), 1e-5
by_theorem = visits[:, np.newaxis] * pi * A
by_difference = np.zeros((3, 4))
for s in range(3):
    for a in range(4):
        change = np.zeros((3, 4))
        change[s, a] = tiny
        by_difference[s, a] = (J(logits + change) - J(logits - change)) / (2 * tiny)
print(
    chapter.text("largest entry of the gradient, largest error:", "梯度的最大分量,最大误差:"),
    f"{np.abs(by_theorem).max():.4f}, {np.abs(by_theorem - by_difference).max():.1e}",
)
np.testing.assert_allclose(by_theorem, by_difference, atol=1e-8)

always = lambda a: np.tile(np.eye(4)[a] * 0.997 + 0.00075, (3, 1))  # one move for all states, as if they shared their logits
for name, a in ((chapter.text("right", "右"), 3), (chapter.text("up", "上"), 0)):
    values = solve(always(a))[0]
    print(
        chapter.text(f"nearly always {name}: V(2) = {values[1]:.3f}, V(3) = {values[2]:.3f}", f"几乎总是向{name}:V(2) = {values[1]:.3f},V(3) = {values[2]:.3f}")
    )
    assert (values[1] > 0.9 > 0.1 > values[2]) if a == 3 else (values[2] > 0.9 > 0.1 > values[1])

# %% [markdown]
# ## The TD error: an advantage from one step
#
# $$\delta_t=r_t+\gamma V(s_{t+1})-V(s_t),\qquad \mathbb{E}[\delta_t\,|\,s_t,a_t]=A^\pi(s_t,a_t)\ \text{ if }V=V^\pi$$
#
# Behind the end, $V(s_{t+1})=0$. With a critic that is wrong, so is $\delta$. The other extreme waits for the whole return and
# subtracts only $V(s_t)$: right on average whatever the critic thinks of later states, but noisy.
#
# ## GAE: between the two
#
# Generalized advantage estimation (Schulman et al. 2016) takes all later TD errors, each counting $\gamma\lambda$ times the one before:
#
# $$A_t=\sum_{l\ge0}(\gamma\lambda)^l\delta_{t+l}=\delta_t+\gamma\lambda(1-\text{end}_t)A_{t+1}$$
#
# where $\text{end}_t$ is 1 at the last step of an episode and 0 elsewhere; the sum stops there. Three steps by hand, the last of which
# ends the episode.

# %%
r, v, lam = [0.0, -0.1, 1.0], [0.5, 0.6, 0.8], 0.8
delta_0 = r[0] + discount * v[1] - v[0]
delta_1 = r[1] + discount * v[2] - v[1]
delta_2 = r[2] + discount * 0.0 - v[2]  # the end
A_2 = delta_2
A_1 = delta_1 + discount * lam * A_2
A_0 = delta_0 + discount * lam * A_1
row = lambda values: tf.constant([values], tf.float32)  # one sequence
advantages, returns = generalized_advantages(row(r), row(v), row([v[1], v[2], 0.0]), row([0.0, 0.0, 1.0]), row([1.0] * 3), discount, lam)
print(
    "delta:",
    np.round([delta_0, delta_1, delta_2], 4),
    "  A:",
    np.round([A_0, A_1, A_2], 4),
    "  ",
    chapter.text("package:", "软件包:"),
    advantages.numpy().round(4),
)
np.testing.assert_allclose(advantages, [[A_0, A_1, A_2]], rtol=1e-5)
np.testing.assert_allclose(returns, advantages + row(v), rtol=1e-6)

G = [r[0] + discount * (r[1] + discount * r[2]), r[1] + discount * r[2], r[2]]  # the returns that followed
for extreme, expected in ((0.0, [delta_0, delta_1, delta_2]), (1.0, np.array(G) - v)):
    found, _ = generalized_advantages(row(r), row(v), row([v[1], v[2], 0.0]), row([0.0, 0.0, 1.0]), row([1.0] * 3), discount, extreme)
    np.testing.assert_allclose(found[0], expected, rtol=1e-4)
print(chapter.text("lambda 0 gives the TD errors, lambda 1 the returns less V", "lambda为0得到TD误差,为1得到回报减V"))

# %% [markdown]
# What $\lambda$ buys shows in the grid world. The agent is in state 1 and moves up. The critic is right about state 1 and wrong
# about the others. For each $\lambda$ we estimate $A(1,\text{up})$ from every episode: the distance of the mean from the exact
# value is the bias, and the spread is the noise. (At $\lambda=0$ there is no noise here, because a move always leads to the same place.)

# %%
states, _, rewards = play(0, first_action=0)
wrong = np.append(V + [0.0, 0.3, -0.2], 0.0)  # 0 in the goal
deltas = rewards + discount * wrong[states[:, 1:]] - wrong[states[:, :-1]]
lambdas, bias, spread = np.linspace(0, 1, 11), [], []
for lam in lambdas:
    estimates = deltas @ (discount * lam) ** np.arange(deltas.shape[1])
    bias.append(abs(estimates.mean() - A[0, 0]))
    spread.append(estimates.std())
print(
    chapter.text("bias at lambda 0 and 1:", "lambda为0和1时的偏差:"),
    f"{bias[0]:.3f}, {bias[-1]:.3f};",
    chapter.text("spread:", "标准差:"),
    f"{spread[0]:.3f}, {spread[-1]:.3f}",
)
assert bias[-1] < 0.1 * bias[0] and spread[-1] > spread[0] + 0.1

figure = Figure(figsize=(6, 3.2), layout="constrained")
axes = figure.add_subplot(xlabel="λ", ylabel=chapter.label("error of an estimate of A(1, up)", "A(1,上)的估计误差"))
axes.plot(lambdas, bias, "-o", label=chapter.label("bias", "偏差"))
axes.plot(lambdas, spread, "--s", label=chapter.label("standard deviation", "标准差"))
axes.set_ylim(bottom=0)
axes.grid(alpha=0.3)
axes.legend()
chapter.show(figure, "lambda")

# %% [markdown]
# ## The clipped objective
#
# The article has none of what follows. With the ratio $r=\pi_\theta(a|s)/\pi_{old}(a|s)$, PPO raises (Schulman et al. 2017, eq. 7)
#
# $$L^{CLIP}=\min\big(rA,\ \mathrm{clip}(r,1-\epsilon,1+\epsilon)A\big)$$
#
# Where $A>0$ it is flat above $1+\epsilon$: enough. Where $A<0$ it is flat below $1-\epsilon$: enough. On the other sides it goes on: a
# ratio that went the wrong way is called back, however far it went. The package's `clipped_policy_loss` is $-L^{CLIP}$.

# %%
ratio = np.linspace(0.4, 1.6, 241)
figure = Figure(figsize=(9, 3.4), layout="constrained")
for axes, advantage in zip(figure.subplots(1, 2), (1.0, -1.0)):
    by_hand = np.minimum(ratio * advantage, np.clip(ratio, 0.8, 1.2) * advantage)
    x = tf.constant(ratio, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(x)
        objective = -clipped_policy_loss(x, tf.fill(x.shape, advantage), clip_ratio=0.2)
    slope = tape.gradient(objective, x).numpy()
    np.testing.assert_allclose(objective, by_hand, rtol=1e-5)
    flat = ratio > 1.2 if advantage > 0 else ratio < 0.8
    edge = np.minimum(abs(ratio - 0.8), abs(ratio - 1.2)) < 1e-3  # the corner has no slope
    np.testing.assert_allclose(slope[~edge], np.where(flat, 0.0, advantage)[~edge])
    axes.plot(ratio, by_hand, label="$L^{CLIP}$")
    axes.plot(ratio[~edge], slope[~edge], "--", label=chapter.label("its slope", "其斜率"))
    axes.plot(ratio, ratio * advantage, ":", color="0.5", label="$rA$")
    axes.axvline(1.0, color="black", linewidth=0.7)
    axes.set(title=f"A = {advantage:+.0f}", xlabel=chapter.label("ratio r", "概率比r"), ylabel=chapter.label("objective, or slope", "目标或斜率"))
    axes.grid(alpha=0.3)
    axes.legend()
chapter.show(figure, "clipped_objective")

v_loss = clipped_value_loss(tf.constant([1.0]), tf.constant([0.5]), tf.constant([2.0]), value_clip=0.2)
np.testing.assert_allclose(v_loss, [0.5 * max((1.0 - 2.0) ** 2, (0.5 + 0.2 - 2.0) ** 2)], rtol=1e-6)
print(chapter.text("value loss of V = 1, old 0.5, target 2, clipped at 0.2:", "V = 1、旧值0.5、目标2、裁剪0.2时的价值损失:"), f"{v_loss[0]:.3f}")

# %% [markdown]
# The critic's loss $L^V$ has a clip of its own: half the larger of $(V-R)^2$ and $(\mathrm{clip}(V,V_{old}\pm\epsilon)-R)^2$, where $R$ is
# the value target, $A_t+V_{old}(s_t)$. The paper does not have this clip; it came with OpenAI's code. With the entropy $S$ (below) and two
# weights, what PPO minimises is
#
# $$-L^{CLIP}+c_v L^V-c_e S$$
#
# ## KL divergence, from samples
#
# How far is the policy $p$ from the reference $q$?
#
# $$\mathrm{KL}(p\,\|\,q)=\sum_a p(a)\log\frac{p(a)}{q(a)}\ \ge 0$$
#
# A language model has thousands of tokens at each position, and the KL of whole responses is a sum over all texts. It is
# estimated from the tokens that were sampled. With $\log\rho=\log q(a)-\log p(a)$ there are three estimators (Schulman 2020):
#
# $$k_1=-\log\rho,\qquad k_2=\tfrac12(\log\rho)^2,\qquad k_3=\rho-1-\log\rho$$
#
# The mean of $k_1$ is the KL, but single numbers may be negative. $k_3$ adds $\rho-1$, whose mean is 0, and is never negative.
# $k_2$ is never negative either, and biased: it agrees only where $p$ and $q$ are near each other.

# %%
q_logits, direction = random.normal(size=50), random.normal(size=50)
q = softmax(q_logits)
distances, table = np.array([0.1, 0.3, 0.6, 1.0, 1.5]), {"k1": [], "k2": [], "k3": []}
kls = []
for distance in distances:
    p = softmax(q_logits + distance * direction)
    exact = (p * np.log(p / q)).sum()
    kls.append(exact)
    sample = random.choice(50, size=EPISODES, p=p)
    log_p, log_q = (tf.constant(np.log(x)[sample], tf.float32) for x in (p, q))
    rho = np.exp(log_q - log_p)
    by_hand = {"k1": -np.log(rho), "k2": 0.5 * np.log(rho) ** 2, "k3": rho - 1 - np.log(rho)}
    line = []
    for name, k in by_hand.items():
        np.testing.assert_allclose(estimate_kl(log_p, log_q, name), k, rtol=1e-3, atol=1e-5)
        table[name].append((k.mean(), k.std()))
        line.append(f"{name} {k.mean():.4f} (+- {k.std():.3f})")
        if name != "k2":
            assert abs(k.mean() - exact) < 5 * k.std() / EPISODES**0.5, name
    print(f"KL {exact:.4f}:", ", ".join(line))
    expected_k2 = (p * 0.5 * np.log(p / q) ** 2).sum()
assert (by_hand["k1"] < 0).mean() > 0.05 and (by_hand["k3"] > -1e-6).all()
assert table["k3"][0][1] < 0.5 * table["k1"][0][1] and table["k3"][-1][1] > table["k1"][-1][1]
assert abs(expected_k2 / exact - 1) > 0.1  # the bias of k2 at the largest distance, exactly

figure = Figure(figsize=(9, 3.2), layout="constrained")
left, right = figure.subplots(1, 2)
for (name, numbers), style in zip(table.items(), ("-o", "--s", ":^")):
    means, deviations = np.array(numbers).T
    left.plot(kls, means / kls, style, label=name)
    right.plot(kls, deviations, style, label=name)
left.axhline(1.0, color="black", linewidth=0.7)
left.set(xscale="log", xlabel=chapter.label("exact KL, nats", "精确的KL,奈特"), ylabel=chapter.label("mean of estimates / KL", "估计的均值/KL"))
right.set(
    xscale="log", yscale="log", xlabel=chapter.label("exact KL, nats", "精确的KL,奈特"), ylabel=chapter.label("standard deviation of one", "单个估计的标准差")
)
for axes in (left, right):
    axes.grid(alpha=0.3)
    axes.legend()
chapter.show(figure, "kl")

# %% [markdown]
# Near the reference $k_3$ is far less noisy than $k_1$; far away it is noisier, because a rare $\rho$ is very large.
#
# ## Entropy
#
# $$S(\pi)=-\sum_a\pi(a|s)\log\pi(a|s)$$
#
# The entropy is 0 for a policy that always does the same and $\log|\mathcal{V}|$ for one that does everything equally often; $e^S$ is the number
# of equally likely choices that would be as uncertain. PPO subtracts $c_e S$ from its loss, so that a policy does not stop exploring
# too early. A temperature $T$ divides the logits: a small one lowers the entropy.

# %%
for temperature in (0.1, 0.5, 1.0, 2.0, 100.0):
    p = softmax(z / temperature)
    by_hand = -(p * np.log(p)).sum()
    package = entropy(tf.constant([z / temperature], tf.float32))[0]
    np.testing.assert_allclose(package, by_hand, rtol=1e-4, atol=1e-5)
    print(f"T = {temperature:5.1f}: S = {by_hand:.3f}, exp(S) = {np.exp(by_hand):.1f}", chapter.text(f"of {len(z)} tokens", f"(共{len(z)}个词元)"))
np.testing.assert_allclose(by_hand, np.log(len(z)), rtol=1e-3)

# %% [markdown]
# ## Summary
#
# | | the article | correct | in the package |
# |---|---|---|---|
# | policy | integral, open bracket | $e^{z_\theta(s,a)}/\sum_{a'}e^{z_\theta(s,a')}$ | `losses.log_probability` |
# | value | sum sign and series | $\mathbb{E}_\pi[\sum_k\gamma^k r_{t+k}\mid s_t=s]$ | `values` of an actor-critic |
# | advantage | $V(s')-V(s)$ | $Q-V$; estimated by $\delta$ and GAE | `advantages.generalized_advantages` |
# | objective | a value given one state | $J(\theta)$ over whole episodes; $L^{CLIP}$ | `losses.clipped_policy_loss` |
# | critic | brackets missing | $\tfrac12(V-\text{return})^2$ | `losses.clipped_value_loss` |
# | KL, entropy | absent | $k_1,k_2,k_3$; $S$ | `kl.estimate_kl`, `losses.entropy` |
#
# ## Exercises
#
# 1. Write GAE for one sequence, NumPy arrays `(T,)`, with ends in the middle (there `next_values` is 0 already). Behind the last
#    step, which ends no episode, only `next_values` is known.
# 2. What is the exact $\mathrm{KL}(p\|q)$ of two probability vectors?
# 3. What is the expectation of $k_2$ under $p$ (so that its bias can be computed without samples)?
#
# The solutions are in `tutorials/solutions/04_mathematics.py`.


# %%
@chapter.exercise
def gae(rewards, values, next_values, ended, discount, gae_lambda):
    return None  # an array like rewards, (T,)


@chapter.exercise
def exact_kl(p, q):
    return None  # a number, in nats, from two arrays (50,)


@chapter.exercise
def mean_of_k2(p, q):
    return None  # a number


steps = [random.normal(size=6) for _ in range(3)] + [np.array([0, 0, 1, 0, 0, 0.0])]
steps[2] *= 1 - steps[3]  # no value behind an end
expected, _ = generalized_advantages(*[row(x) for x in steps], row([1.0] * 6), 0.99, 0.95)
chapter.check(gae(*steps, 0.99, 0.95), expected[0], tolerance=1e-4)
p = softmax(q_logits + direction)
chapter.check(exact_kl(p, q), p @ (np.log(p) - np.log(q)))
chapter.check(mean_of_k2(p, q), p @ (np.log(p) - np.log(q)) ** 2 / 2)
