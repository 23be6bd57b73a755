# %% [markdown]
# # 4. 数学
#
# [目录](../README.md) · 上一章：[3. 从策略梯度到PPO](03_policy_gradient_to_ppo.ipynb) · 下一章：[4.3 四个状态的网格世界](04_3_gridworld.ipynb) · [English](../en/04_mathematics.ipynb)
#
# **本章要学会**：读懂PPO所需的每一个公式，改正原文的公式，并用数字逐一验证：策略、价值、优势、TD误差、GAE、概率比与裁剪目标、KL散度、熵。
# 需要约1分钟。
#
# ## 原文的段落
#
# 4.1和4.2节有五个公式和一个断言：
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
# > 通过优化策略网络和价值网络，我们可以使优势函数At最大化。
#
# 每一个都需要改正；而使PPO成为PPO的东西一样也没有：概率比、裁剪目标、KL散度和熵。下面各节逐一来看。
#
# ## 策略：词表上的softmax
#
# 第一个公式的问题：少一个括号；动作只有有限个（词表$\mathcal{V}$中的词元），却写成积分；$\theta$既是参数又是logit。参数为$\theta$的网络对每个动作输出一个logit $z_\theta(s,a)$，于是
#
# $$\pi_\theta(a|s)=\frac{\exp z_\theta(s,a)}{\sum_{a'\in\mathcal{V}}\exp z_\theta(s,a')},\qquad
# \log\pi_\theta(a|s)=z_\theta(s,a)-\log\sum_{a'}\exp z_\theta(s,a')$$
#
# 只有logit之间的差起作用，所以求指数之前可以先把所有logit减去其中最大的一个；不这样做，两种写法都会溢出。然后按第二种写法计算对数，因为很小的概率会舍入成0。

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
# ## 价值：一个期望
#
# 第二个公式既有求和号，又把级数展开写了一遍，还混淆了两样东西：由期望定义的、*策略的*价值，和要去学习它的网络。前者取决于$\pi$，后者取决于参数$\phi$：
#
# $$V^\pi(s)=\mathbb{E}_\pi\Big[\sum_{k\ge 0}\gamma^k r_{t+k}\,\Big|\,s_t=s\Big],\qquad V_\phi(s)\approx V^\pi(s)$$
#
# 这里$r_t$是动作$a_t$的奖励（有的书写作$r_{t+1}$，原文两种都用），$\gamma$是折扣。世界很小时，期望可以精确算出：$V^\pi=r_\pi+\gamma P_\pi V^\pi$是线性方程组，其中$r_\pi$是各状态的平均奖励，$P_\pi$是状态之间转移的概率。我们取4.3的网格世界（状态1到4排成方形，进入4得到奖励1，回合结束）和一个随机的策略，解出方程，再与真正走出来的回合的均值比较。

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
# ## 评论家最小化什么
#
# $$\phi^*=\arg\min_\phi\mathbb{E}\Big[\tfrac12\Big(V_\phi(s_t)-\sum_{k\ge0}\gamma^k r_{t+k}\Big)^2\Big]$$
#
# 原文少了括号：$V-r_{t+1}+\gamma r_{t+2}+\dots$只减去第一个奖励，其余的反而加上。平方误差在被减数的均值处最小，所以可以说出两种写法各会学到什么。
# 正确的写法学到$V^\pi$。（期望是对策略所经过的状态取的，原文却固定了一个$s$。）

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
# 所有奖励都是0或1，价值却是负的。
#
# ## 优势
#
# 第三个公式$V(s_{t+1})-V(s_t)$没有奖励，也没有折扣。动作价值$Q^\pi(s,a)$是在$s$采取$a$、此后按$\pi$行动的期望回报。优势把它与平均的动作相比：
#
# $$A^\pi(s,a)=Q^\pi(s,a)-V^\pi(s),\qquad \sum_a\pi(a|s)A^\pi(s,a)=0$$
#
# 均值为0，是因为$V^\pi(s)=\sum_a\pi(a|s)Q^\pi(s,a)$。所以“使优势最大化”没有意义：在*任何*策略下，包括最优策略，它的均值都是0。
# 它说的是往哪个方向改。

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
# 按原文的公式，进入终点的一步是所有动作中*最差*的：终止之后的价值是0，而奖励被漏掉了。
#
# ## 策略最大化什么
#
# 第四个公式以某一个状态$s$为条件，谈的是它的“最优动作”。真正的目标是整个回合的期望回报，包括回合从哪里开始以及之后的一切：
#
# $$J(\theta)=\mathbb{E}_{\tau\sim\pi_\theta}\Big[\sum_{t\ge0}\gamma^t r_t\Big]=\sum_{s_0}p_0(s_0)V^{\pi_\theta}(s_0)$$
#
# 其中$\tau$是轨迹（一个回合的记录），$p_0(s_0)$是回合从$s_0$开始的概率。参数共享时，两者是有区别的：对一个状态最好的，对另一个状态可能很差。优势正是在它的梯度里出现。若logit是一张表$z(s,a)$，则有策略梯度定理（Sutton等，2000）：
#
# $$\frac{\partial J}{\partial z(s,a)}=d(s)\,\pi(a|s)\,A^\pi(s,a),\qquad d(s)=\mathbb{E}\Big[\sum_t\gamma^t\mathbb{1}[s_t=s]\Big]$$
#
# 实践中略去$d(s)$里的权重$\gamma^t$：经过的每个状态权重都相同，第3章和本软件包也是这样。验证的办法：把每个logit改动一点点，重新求解。


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
# ## TD误差：一步得到的优势
#
# $$\delta_t=r_t+\gamma V(s_{t+1})-V(s_t),\qquad \mathbb{E}[\delta_t\,|\,s_t,a_t]=A^\pi(s_t,a_t)\ \text{若}\ V=V^\pi$$
#
# 终止之后$V(s_{t+1})=0$。评论家错了，$\delta$也就错了。另一个极端是等到全部回报，只减去$V(s_t)$：不管评论家怎样看待后面的状态，平均都是对的，但噪声大。
#
# ## GAE：两者之间
#
# 广义优势估计（Schulman等，2016）把以后所有的TD误差加起来，每往后一步，权重乘以$\gamma\lambda$：
#
# $$A_t=\sum_{l\ge0}(\gamma\lambda)^l\delta_{t+l}=\delta_t+\gamma\lambda(1-\text{end}_t)A_{t+1}$$
#
# 其中$\text{end}_t$在回合的最后一步为1，其余为0；求和到此为止。手算三步，其中最后一步结束回合。

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
# $\lambda$有什么用，在网格世界里看得出来。智能体在状态1，向上走。评论家对状态1的估计是对的，对其余状态是错的。对每个$\lambda$，我们用每一个回合估计一次$A(1,\text{上})$：均值与精确值的距离是偏差，散布的程度是噪声。（$\lambda=0$时这里没有噪声，因为同一个动作总是到达同一个地方。）

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
# ## 裁剪目标
#
# 以下内容原文全都没有。设概率比$r=\pi_\theta(a|s)/\pi_{old}(a|s)$，PPO要提高的是（Schulman等，2017，式7）
#
# $$L^{CLIP}=\min\big(rA,\ \mathrm{clip}(r,1-\epsilon,1+\epsilon)A\big)$$
#
# $A>0$时，它在$1+\epsilon$以上是平的：够了。$A<0$时，它在$1-\epsilon$以下是平的：够了。另外两侧则没有尽头：概率比若走错了方向，不论走了多远都会被拉回来。
# 软件包的`clipped_policy_loss`就是$-L^{CLIP}$。

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
# 评论家的损失$L^V$有它自己的裁剪：取$(V-R)^2$与$(\mathrm{clip}(V,V_{old}\pm\epsilon)-R)^2$中较大者的一半，其中$R$是价值的目标$A_t+V_{old}(s_t)$。论文里没有这个裁剪，它来自OpenAI的代码。加上熵$S$（见下）和两个权重，PPO最小化的是
#
# $$-L^{CLIP}+c_v L^V-c_e S$$
#
# ## 用样本估计KL散度
#
# 策略$p$离参考模型$q$有多远？
#
# $$\mathrm{KL}(p\,\|\,q)=\sum_a p(a)\log\frac{p(a)}{q(a)}\ \ge 0$$
#
# 语言模型在每个位置上有成千上万个词元，而整个回复的KL散度要对所有文本求和，所以只能用采样到的词元来估计。记$\log\rho=\log q(a)-\log p(a)$，有三种估计（Schulman，2020）：
#
# $$k_1=-\log\rho,\qquad k_2=\tfrac12(\log\rho)^2,\qquad k_3=\rho-1-\log\rho$$
#
# $k_1$的均值就是KL散度，但单个数可能为负。$k_3$加上了均值为0的$\rho-1$，永远不为负。$k_2$也不为负，但有偏：只在$p$与$q$接近时才准。

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
# 离参考模型近时，$k_3$的噪声比$k_1$小得多；离得远时反而更大，因为偶尔会出现很大的$\rho$。
#
# ## 熵
#
# $$S(\pi)=-\sum_a\pi(a|s)\log\pi(a|s)$$
#
# 总是做同一件事的策略，熵为0；做每件事都一样频繁的策略，熵为$\log|\mathcal{V}|$；$e^S$是同样不确定的等概率选项的个数。PPO在损失中减去$c_e S$，使策略不会过早停止探索。
# 采样时logit除以温度$T$：温度低，熵就小。

# %%
for temperature in (0.1, 0.5, 1.0, 2.0, 100.0):
    p = softmax(z / temperature)
    by_hand = -(p * np.log(p)).sum()
    package = entropy(tf.constant([z / temperature], tf.float32))[0]
    np.testing.assert_allclose(package, by_hand, rtol=1e-4, atol=1e-5)
    print(f"T = {temperature:5.1f}: S = {by_hand:.3f}, exp(S) = {np.exp(by_hand):.1f}", chapter.text(f"of {len(z)} tokens", f"(共{len(z)}个词元)"))
np.testing.assert_allclose(by_hand, np.log(len(z)), rtol=1e-3)

# %% [markdown]
# ## 小结
#
# | | 原文 | 正确的 | 在软件包中 |
# |---|---|---|---|
# | 策略 | 积分，括号没有闭合 | $e^{z_\theta(s,a)}/\sum_{a'}e^{z_\theta(s,a')}$ | `losses.log_probability` |
# | 价值 | 求和号加级数 | $\mathbb{E}_\pi[\sum_k\gamma^k r_{t+k}\mid s_t=s]$ | 演员-评论家网络的`values` |
# | 优势 | $V(s')-V(s)$ | $Q-V$；用$\delta$和GAE估计 | `advantages.generalized_advantages` |
# | 目标 | 给定一个状态的价值 | 整个回合上的$J(\theta)$；$L^{CLIP}$ | `losses.clipped_policy_loss` |
# | 评论家 | 少了括号 | $\tfrac12(V-\text{回报})^2$ | `losses.clipped_value_loss` |
# | KL散度、熵 | 没有 | $k_1,k_2,k_3$；$S$ | `kl.estimate_kl`、`losses.entropy` |
#
# ## 练习
#
# 1. 对单个序列写出GAE，输入是NumPy数组`(T,)`，中间可能有回合结束（那里的`next_values`已经是0）。最后一步没有结束回合，它之后只知道`next_values`。
# 2. 两个概率向量的$\mathrm{KL}(p\|q)$的精确值是多少？
# 3. $k_2$在$p$下的期望是多少（这样不用样本就能算出它的偏差）？
#
# 答案在`tutorials/solutions/04_mathematics.py`。


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
