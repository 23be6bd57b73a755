# %% [markdown]
# # 3. 从策略梯度到PPO
#
# [目录](../README.md) · 上一章：[2. 语言模型与PPO](02_language_models_and_ppo.ipynb) · 下一章：[4. 数学](04_mathematics.ipynb) · [English](../en/03_policy_gradient_to_ppo.ipynb)
#
# **本章要学会**：推导REINFORCE、基线、演员-评论家、概率比和裁剪，每一样都用几行代码写出来，并测量它学到了什么；最后看到，这些代码合起来就是本软件包的更新。需要约1分钟。
#
# ## 原文的段落
#
# > 3.1 ……PPO算法的核心思想是利用近端策略优化技术，使得策略更新更加稳定和高效。
# >
# > 3.2.1 ……`optimizer = torch.optim.Adam(policy_net.parameters(), lr=alpha)` …… `alpha = 0.001`
# >
# > 3.2.2 对于每个时间步t……计算优势函数估计值Rt = VθValue(st+1) - VθValue(st)……
#
# 3.1节用PPO自己的名字解释PPO：什么是“近端”，靠什么做到，都没有说。本章要说的正是这个：概率比和它的裁剪。再逐行看3.2节的代码，错在哪里：
#
# | 原文的代码 | 问题 | 改正 |
# |---|---|---|
# | `policy_net = PolicyNetwork()` | 两个类都没有定义 | 两个变量：`z`（logit）和`V` |
# | `Adam(policy_net.parameters(), lr=alpha)` | 没有导入`torch`，`alpha`在后面才赋值，漏掉了价值网络 | 先设`alpha`，两个变量都要优化 |
# | `policy_net.select_action(state)` | `state`还没有值；动作的概率没有留下，而PPO需要它 | `a`从`softmax(z[s])`采样，并保留其对数概率 |
# | `reward_function(action)` | 奖励与状态无关 | `world.rewards[s, a]` |
# | `next_state = next_state` | 什么也没有动：每一步都是第一步 | `world.next_cells[s, a]`，末尾再加`s = s2` |
# | `value_net(value_state)` | `value_state`没有定义 | `V[s]`和`V[s2]`，是两个不同的数 |
# | `reward + gamma * value_estimate - value_estimate` | 两个状态用了同一个价值；不考虑回合结束 | `r + gamma * (1 - end) * V[s2] - V[s]` |
# | `-torch.log(policy_net.log_prob(action)) * advantage` | 对数的对数是NaN；没有状态；梯度流过了优势 | `-log_prob * stop_gradient(advantage)` |
# | `F.smooth_l1_loss(value_estimate, advantage)` | 没有导入`F`；让价值去拟合优势 | 拟合`r + gamma * (1 - end) * V[s2]`，且目标不传梯度 |
# | `policy_loss + value_loss` | 价值损失没有权重，也没有熵 | `policy_loss + c_v * value_loss - c_e * entropy` |
# | 每个时间步`optimizer.step()` | 一次更新只有一个样本，只用一次；没有概率比和裁剪，这不是PPO | 先收集许多步，再做几轮小批量更新 |
# | `evaluate_model(model, test_data)` | 两者都没有定义；准确率不是策略的度量 | 回合的回报 |
#
# 旁边的文字又说$R_t=V(s_{t+1})-V(s_t)$：既没有奖励也没有折扣，而且$R$通常表示回报。
#
# 其中两行可以马上试一试。所用的世界见4.3：四个状态排成方形，动作是上、下、左、右；进入状态4得到奖励1，回合结束，其余每一步奖励为0。

# %%
import sys
from pathlib import Path

sys.path.append(str(Path(globals().get("__file__", "notebook")).resolve().parents[1]))  # the folder of chapter.py

import keras
import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure

from ppo_keras import GridWorld, MLPActorCritic, PPOConfig, Trajectory
from ppo_keras.ppo import PPO
from ppo_keras.randomness import fold_in, permutation

from chapter import Chapter

ITERATIONS = 12  # of PPO in the grid world; 60 for the real thing

chapter = Chapter("03_policy_gradient_to_ppo")
keras.utils.set_random_seed(0)
random = np.random.default_rng(0)
world, discount = GridWorld.article(), 0.99

log_prob = np.log(0.25)
with np.errstate(invalid="ignore"):
    print("log(log_prob) =", np.log(log_prob))
    assert np.isnan(np.log(log_prob))
best = world.solve(discount)  # exact values of the best policy: the best move is then as good as expected, advantage 0
for s in range(3):
    a = best.action_values[s].argmax()
    r, s2 = world.rewards[s, a], world.next_cells[s, a]
    right = r + discount * best.values[s2] - best.values[s]  # V is 0 in the goal
    articles = r + discount * best.values[s] - best.values[s]
    print(
        chapter.text(f"state {s + 1}, best move: advantage", f"状态{s + 1},最优动作:优势"),
        f"{right:+.4f},",
        chapter.text("by the article's line", "按原文的代码"),
        f"{articles:+.4f}",
    )
    assert abs(right) < 1e-12 < 0.005 < abs(articles)

# %% [markdown]
# ## REINFORCE：不对奖励求导的梯度
#
# 先看最小的问题：多臂老虎机。有三个动作，没有状态；动作$a$得到均值为$\mu_a$的随机奖励。策略是三个logit的softmax，$\pi(a)=e^{z_a}/\sum_b e^{z_b}$，要提高的是$J=\sum_a\pi(a)\mu_a$。$\mu$是看不到的，只能看到样本。但是
#
# $$\nabla J=\sum_a\nabla\pi(a)\,\mu_a=\sum_a\pi(a)\,\nabla\log\pi(a)\,\mu_a=\mathbb{E}_{a\sim\pi}\big[R\,\nabla\log\pi(a)\big]$$
#
# 因为$\nabla\pi=\pi\nabla\log\pi$（Williams，1992）。右边是策略自身样本的均值。对softmax有
#
# $$\frac{\partial\log\pi(a)}{\partial z_b}=\mathbb{1}[b=a]-\pi(b)$$
#
# 有了状态也是如此：整个回合的对数概率是一个和，其中环境的转移与策略无关，所以每个$\nabla\log\pi(a_t|s_t)$都乘以整个回合的回报；其中$a_t$之前的奖励与$a_t$无关，可以去掉（均值为什么不变，见下一节），剩下的就是此后的回报。
#
# 这里$\mu$是已知的，所以可以把精确的梯度$\pi(b)(\mu_b-J)$与样本的均值放在一起比较。

# %%
mu, noise = np.array([10.0, 11.0, 12.0]), 1.0


def softmax(z):
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def pull(pi):
    """One action and its reward from each row of probabilities `(N, 3)`."""
    a = (random.random((len(pi), 1)) > np.cumsum(pi, axis=1)).sum(axis=1).clip(max=2)
    return a, mu[a] + noise * random.normal(size=len(pi))


def gradients_of(a, R, pi, baseline=0.0):
    """(R - baseline) * gradient of log pi(a), for each sample: `(N, 3)`."""
    return (R - baseline)[:, np.newaxis] * (np.eye(3)[a] - pi)


pi, N = softmax(np.array([0.5, 0.0, -0.5])), 100_000
a, R = pull(np.tile(pi, (N, 1)))
exact = pi * (mu - pi @ mu)
samples = gradients_of(a, R, pi)
error = samples.std(axis=0) / N**0.5
print(chapter.text("exact gradient: ", "精确的梯度:"), exact.round(4))
print(chapter.text("mean of samples:", "样本的均值:"), samples.mean(axis=0).round(4), "+-", error.round(4))
assert (np.abs(samples.mean(axis=0) - exact) < 5 * error).all()

# %% [markdown]
# ## 基线：均值不变，噪声小得多
#
# 减去任何一个与动作无关的数$b$，均值不变，因为
#
# $$\mathbb{E}_{a\sim\pi}[b\,\nabla\log\pi(a)]=b\sum_a\nabla\pi(a)=b\,\nabla 1=0$$
#
# 方差却变了。这里所有奖励都在同一个大数附近，没有基线时，凡是试过的动作都显得好。取$b=J$即平均奖励，$R-b$就说明一个动作比平常好还是差。
# 这个差就是*优势*。

# %%
J = pi @ mu
with_baseline = gradients_of(a, R, pi, baseline=J)
print(chapter.text("mean with baseline:", "有基线时的均值:"), with_baseline.mean(axis=0).round(4))
variances = samples.var(axis=0).sum(), with_baseline.var(axis=0).sum()
print(chapter.text("variance without and with baseline:", "无基线与有基线的方差:"), f"{variances[0]:.2f}, {variances[1]:.2f}")
assert (np.abs(with_baseline.mean(axis=0) - exact) < 5 * with_baseline.std(axis=0) / N**0.5).all()
assert variances[0] > 20 * variances[1]


def reinforce(use_baseline, runs=200, updates=150, batch=8, rate=0.1):
    """Mean probability of the best action after each update, over many runs side by side."""
    z, b, curve = np.zeros((runs, 3)), np.full(runs, 11.0 if use_baseline else 0.0), []
    for _ in range(updates):
        pi, gradient, rewards = softmax(z), np.zeros((runs, 3)), np.zeros(runs)
        for _ in range(batch):
            a, R = pull(pi)
            gradient += gradients_of(a, R, pi, b) / batch
            rewards += R / batch
        z += rate * gradient
        if use_baseline:
            b += 0.2 * (rewards - b)  # a running mean
        curve.append(softmax(z)[:, 2].mean())
    return curve


curves = {False: reinforce(False), True: reinforce(True)}
print(
    chapter.text("probability of the best action at the end, without and with baseline:", "最终选中最优动作的概率,无基线与有基线:"),
    f"{curves[False][-1]:.3f}, {curves[True][-1]:.3f}",
)
assert curves[True][-1] > curves[False][-1] + 0.1

figure = Figure(figsize=(9, 3.2), layout="constrained")
left, right = figure.subplots(1, 2)
for values, style, label in ((samples, "-", chapter.label("without baseline", "无基线")), (with_baseline, "--", chapter.label("with baseline", "有基线"))):
    left.hist(values[:, 2], bins=80, histtype="step", density=True, linestyle=style, label=label)
left.axvline(exact[2], color="black", linestyle=":", label=chapter.label("exact", "精确值"))
left.set(xlabel=chapter.label("gradient of the third logit, one sample", "第三个logit的单样本梯度"), ylabel=chapter.label("density", "密度"))
for use, style, label in ((False, "-", chapter.label("without baseline", "无基线")), (True, "--", chapter.label("with baseline", "有基线"))):
    right.plot(curves[use], linestyle=style, label=label)
right.set(xlabel=chapter.label("update", "更新次数"), ylabel=chapter.label("probability of the best action", "最优动作的概率"), ylim=(0, 1))
for axes in (left, right):
    axes.legend()
    axes.grid(alpha=0.3)
chapter.show(figure, "baseline")

# %% [markdown]
# ## 演员-评论家：改正后的原文循环
#
# 有了状态，基线就是状态的价值$V(s)$，与策略一起学习，称为*评论家*。不必等到后面的回报，用$r+\gamma V(s')$代替它。剩下的就是TD误差，它是优势的一个估计：
#
# $$\delta=r+\gamma(1-\text{end})V(s')-V(s)$$
#
# 策略（*演员*）沿$\delta\,\nabla\log\pi(a|s)$前进，评论家把$V(s)$移向$r+\gamma V(s')$。两者的梯度都不能流过引导它的那个数，所以要用`stop_gradient`。
#
# 下面就是原文的循环，表中每一行都已改正。世界是四个状态的网格（见4.3），网络是两张表。

# %%
alpha = 0.2
z, V = tf.Variable(tf.zeros([4, 4])), tf.Variable(tf.zeros([4]))  # policy and critic, one row a state


@tf.function
def learn(s, a, r, s2, end):
    with tf.GradientTape() as tape:
        log_prob = tf.nn.log_softmax(z[s])[a]
        target = tf.stop_gradient(r + discount * (1.0 - end) * V[s2])
        delta = target - V[s]
        policy_loss = -log_prob * tf.stop_gradient(delta)
        value_loss = 0.5 * tf.square(delta)
        loss = policy_loss + value_loss
    for variable, gradient in zip((z, V), tape.gradient(loss, (z, V))):
        variable.assign_sub(alpha * gradient)


def sample_move(s):
    return random.choice(4, p=softmax(z[s].numpy().astype(np.float64)))


def exact_values(probabilities):
    """V of states 1, 2, 3 under a policy `(4, 4)`, from the linear equations of chapter 4.3."""
    P, r = np.zeros((3, 3)), np.zeros(3)
    for s in range(3):
        for a in range(4):
            r[s] += probabilities[s, a] * world.rewards[s, a]
            if not world.terminal[world.next_cells[s, a]]:
                P[s, world.next_cells[s, a]] += probabilities[s, a]
    return np.linalg.solve(np.eye(3) - discount * P, r)


before = exact_values(np.full((4, 4), 0.25)).mean()
s = random.integers(3)
for _ in range(1500):
    a = sample_move(s)
    r, s2 = world.rewards[s, a], world.next_cells[s, a]
    end = world.terminal[s2]
    learn(*map(tf.constant, (s, a)), tf.constant(r, tf.float32), tf.constant(s2), tf.constant(end, tf.float32))
    s = random.integers(3) if end else s2

after = exact_values(softmax(z.numpy().astype(np.float64))).mean()
print(chapter.text("expected return, before, after, best:", "期望回报,训练前、训练后、最优:"), f"{before:.3f}, {after:.3f}, {best.values[:3].mean():.3f}")
greedy = best.optimal_actions[np.arange(4), z.numpy().argmax(axis=1)]
assert greedy.all() and after > before + 0.02 and after > 0.97

# %% [markdown]
# 它学会了。但是环境的每一步只用一次就丢掉，而且一次只用一步。这两点都可以改进。
#
# ## 概率比：样本的再次使用
#
# 更新一次之后，样本就来自另一个策略$\pi_{old}$，而不是现在的策略。它们仍然可用，只要按动作的概率变化了多少来加权（重要性采样）：
#
# $$\mathbb{E}_{a\sim\pi}[f(a)]=\sum_a\pi_{old}(a)\frac{\pi(a)}{\pi_{old}(a)}f(a)=\mathbb{E}_{a\sim\pi_{old}}[r\,f(a)],\qquad r=\frac{\pi(a)}{\pi_{old}(a)}$$
#
# （与论文一样，从这里起字母$r$表示概率比；第4章里带时间步下标的$r_t$又表示奖励。）
# 所以$\mathbb{E}_{old}[rA]$这个目标可以用同一批样本连续提高几步；在$r=1$处它的梯度就是策略梯度，因为$\nabla r=r\,\nabla\log\pi$。代价是：策略走得越远，结果就越由少数很大的概率比决定。若概率比的方差是$v$，$N$个样本大约只相当于$N/(1+v)$个。
# 有状态时还有一层代价：概率比只给动作加权，状态却仍是旧策略所经过的。这两点都要求新策略不要走远。

# %%
old = np.full(3, 1 / 3)
a, R = pull(np.tile(old, (N, 1)))
naive = R.mean()
shares = []
for step in (0.0, 0.5, 1.0, 2.0, 4.0):
    new = softmax(step * np.array([1.0, 0.0, -1.0]))
    ratio = new[a] / old[a]
    estimate, truth = (ratio * R).mean(), new @ mu
    shares.append(1 / (1 + ratio.var()))
    print(
        chapter.text(
            f"logits moved by {step}: true J {truth:.3f}, with ratio {estimate:.3f}, without {naive:.3f}, samples worth {shares[-1]:.0%}",
            f"logit移动{step}:真实的J为{truth:.3f},用概率比估计为{estimate:.3f},不用则为{naive:.3f},样本的有效比例{shares[-1]:.0%}",
        )
    )
    assert abs(estimate - truth) < 5 * (ratio * R).std() / N**0.5
assert all(np.diff(shares) < 0)

# %% [markdown]
# ## 裁剪：概率比变化够了就停
#
# 用*少量*样本提高$\mathbb{E}_{old}[rA]$是没有止境的：在样本中碰巧走运的动作会得到全部概率，而概率为0的动作再也不会被尝试。一旦某个样本的概率比朝优势所要求的方向离开了$1\pm\epsilon$，PPO就不再给它梯度（Schulman等，2017，式7）：
#
# $$L^{CLIP}=\mathbb{E}_{old}\Big[\min\big(rA,\ \mathrm{clip}(r,1-\epsilon,1+\epsilon)A\big)\Big]$$
#
# 下面的老虎机噪声更大：每一轮拉16次，用这些样本走50步，分别裁剪与不裁剪。一个样本的梯度，未被裁剪时是$rA(\mathbb{1}[b=a]-\pi(b))$，被裁剪时是0。


# %%
def rounds(clip_ratio, runs=300, count=25, batch=16, steps=50, rate=0.5, noise=2.0):
    """Means over many runs: expected reward and KL(old, new) of each round; and the share of runs lost to a wrong arm."""
    rewards, kls, z = [], [], np.zeros((runs, 3))
    for _ in range(count):
        old = softmax(z)
        a = (random.random((runs, batch, 1)) > np.cumsum(old, axis=1)[:, np.newaxis]).sum(axis=2).clip(max=2)  # (runs, batch)
        R = mu[a] + noise * random.normal(size=a.shape)
        A = R - R.mean(axis=1, keepdims=True)
        A /= A.std(axis=1, keepdims=True)
        for _ in range(steps):
            pi = softmax(z)
            ratio = np.take_along_axis(pi, a, axis=1) / np.take_along_axis(old, a, axis=1)
            gone = np.where(A > 0, ratio > 1 + clip_ratio, ratio < 1 - clip_ratio)
            weight = np.where(gone, 0.0, ratio * A)
            z = z + rate * (weight[..., np.newaxis] * (np.eye(3)[a] - pi[:, np.newaxis])).mean(axis=1)
        pi = softmax(z)
        kls.append((old * (np.log(old) - np.log(pi))).sum(axis=1).mean())
        rewards.append((pi @ mu).mean())
    return np.array(rewards), np.array(kls), (pi[:, 2] < 0.1).mean()


results = {None: rounds(np.inf), 0.2: rounds(0.2)}
names = {None: chapter.label("no clipping", "不裁剪"), 0.2: chapter.label("clipped at 0.2", "裁剪0.2")}
print(
    chapter.text("expected reward at the end, without and with clipping, best:", "最终的期望奖励,不裁剪、裁剪、最优:"),
    f"{results[None][0][-1]:.3f}, {results[0.2][0][-1]:.3f}, {mu.max():.3f}",
)
print(chapter.text("KL of the first round, without and with clipping:", "第一轮的KL散度,不裁剪与裁剪:"), f"{results[None][1][0]:.3f}, {results[0.2][1][0]:.3f}")
print(
    chapter.text("runs that hardly choose the best arm any more, without and with clipping:", "几乎不再选最优臂的运行,不裁剪与裁剪:"),
    f"{results[None][2]:.1%}, {results[0.2][2]:.1%}",
)
assert results[0.2][0][-1] > results[None][0][-1] + 0.1 and results[None][0][0] > results[0.2][0][0]
assert results[None][1][0] > 5 * results[0.2][1][0] and results[None][2] > results[0.2][2] + 0.05

figure = Figure(figsize=(9, 3.2), layout="constrained")
left, right = figure.subplots(1, 2)
for (key, (rewards, kls, _)), style in zip(results.items(), ("-", "--")):
    left.plot(range(1, 26), rewards, linestyle=style, label=names[key])
    right.plot(range(1, 26), kls, linestyle=style, label=names[key])
left.axhline(mu.max(), color="black", linestyle=":", label=chapter.label("best", "最优"))
left.set(xlabel=chapter.label("round", "轮次"), ylabel=chapter.label("expected reward", "期望奖励"))
right.set(xlabel=chapter.label("round", "轮次"), ylabel=chapter.label("KL(old, new), nats", "KL(旧,新),奈特"), yscale="log")
for axes in (left, right):
    axes.legend()
    axes.grid(alpha=0.3)
chapter.show(figure, "clipping")

# %% [markdown]
# 不裁剪时，第一轮进步更大，因为步子大。但有些运行把全部概率压在错误的臂上，再也出不来。裁剪之后，每一轮只走一小步，后来的样本可以纠正先前的运气。
#
# ## 合在一起：PPO
#
# PPO的一次迭代（Schulman等，2017，算法1）：
#
# 1. 用当前的策略在$B$个并行的世界里走$T$步，留下状态、动作、对数概率、价值和奖励。
# 2. 计算一次优势。GAE混合以后各步的TD误差，$A_t=\delta_t+\gamma\lambda(1-\text{end}_t)A_{t+1}$（第4章详述）；价值的目标是$A_t+V(s_t)$。
# 3. 做几轮，每轮打乱全部步并分成小批量，降低
#
# $$-L^{CLIP}+c_v\tfrac12(V-R)^2-c_e\,S$$
#
# 其中$R=A_t+V(s_t)$是第2步的价值目标，不再变动；$S$是策略的熵，它不该过早变成0；$c_v$和$c_e$是权重。还有三个常见的细节：优势化为均值0、标准差1；价值也裁剪（取两个平方误差中较大的：新价值的误差，以及把新价值限制在旧价值$\pm\epsilon$之内时的误差）；梯度的范数有上限。
# 这里的策略是本软件包的一个网络。

# %%
config = PPOConfig(discount=discount, gae_lambda=0.95, clip_ratio=0.2, value_clip=0.2, value_coefficient=0.5,
                   entropy_coefficient=0.01, epochs=4, minibatches=4, max_gradient_norm=0.5)  # fmt: skip
B, T = 16, 32


@tf.function
def act(policy, cells):
    return policy.step(cells, policy.initial_state(B), tf.ones([B]))[:2]


def collect(policy, cells):
    """`T` steps of `B` agents that stand in `cells`: the fields of a `Trajectory`, `(B, T)` each, and where they stand then."""
    columns = []
    for _ in range(T):
        logits, values = act(policy, tf.constant(cells, tf.int32))
        pi = softmax(logits.numpy().astype(np.float64))
        a = (random.random((B, 1)) > np.cumsum(pi, axis=1)).sum(axis=1).clip(max=3)
        log_probs = np.log(pi[np.arange(B), a])
        rewards, next_cells = world.rewards[cells, a], world.next_cells[cells, a]
        ended = world.terminal[next_cells].astype(float)
        columns.append((cells, a, log_probs, values.numpy(), rewards, ended))
        cells = np.where(ended > 0, random.integers(3, size=B), next_cells)
    states, actions, log_probs, values, rewards, ended = (np.stack(column, axis=1) for column in zip(*columns))
    behind = act(policy, tf.constant(cells, tf.int32))[1].numpy()[:, np.newaxis]
    next_values = np.concatenate([values[:, 1:], behind], axis=1) * (1 - ended)  # behind an end there is no value
    return (states, actions, log_probs, values, rewards, next_values, ended), cells


def gae(rewards, values, next_values, ended):
    """Backwards, from the last step."""
    deltas = rewards + config.discount * next_values - values
    advantages, later = np.zeros_like(rewards), 0.0
    for t in reversed(range(rewards.shape[1])):
        later = deltas[:, t] + config.discount * config.gae_lambda * (1 - ended[:, t]) * later
        advantages[:, t] = later
    return advantages, advantages + values


@tf.function
def step_optimizer(policy, optimizer, s, a, old_log_prob, old_value, advantage, target):
    """One optimizer step on a minibatch of steps, `(M,)` each. Returns policy loss and value loss."""
    variables = policy.trainable_variables
    with tf.GradientTape() as tape:
        logits, values = (x[:, 0] for x in policy(s[:, tf.newaxis]))
        log_pi = tf.nn.log_softmax(logits)
        ratio = tf.exp(tf.gather(log_pi, a, batch_dims=1) - old_log_prob)
        clipped = tf.clip_by_value(ratio, 1 - config.clip_ratio, 1 + config.clip_ratio)
        policy_loss = -tf.reduce_mean(tf.minimum(ratio * advantage, clipped * advantage))
        near = old_value + tf.clip_by_value(values - old_value, -config.value_clip, config.value_clip)
        value_loss = 0.5 * tf.reduce_mean(tf.maximum(tf.square(values - target), tf.square(near - target)))
        entropy = -tf.reduce_mean(tf.reduce_sum(tf.exp(log_pi) * log_pi, axis=-1))
        loss = policy_loss + config.value_coefficient * value_loss - config.entropy_coefficient * entropy
    gradients = [tf.convert_to_tensor(g) for g in tape.gradient(loss, [v.value for v in variables])]
    optimizer.apply(tf.clip_by_global_norm(gradients, config.max_gradient_norm)[0], variables)
    return policy_loss, value_loss


def update(policy, optimizer, record, orders, minibatches):
    """An epoch for each of `orders` (permutations of all steps). Returns the mean loss of policy and critic."""
    states, actions, old_log_probs, old_values, rewards, next_values, ended = record
    A, returns = gae(rewards, old_values, next_values, ended)  # once, before the first step
    A = (A - A.mean()) / np.sqrt(A.var(ddof=1) + 1e-8)
    whole = [tf.constant(x.reshape(-1), tf.int32) for x in (states, actions)]
    real = [tf.constant(x.reshape(-1), tf.float32) for x in (old_log_probs, old_values, A, returns)]
    losses = []
    for order in orders:
        for chosen in np.split(order, minibatches):
            minibatch = [tf.gather(x, chosen) for x in (*whole, *real)]
            losses.append([loss.numpy() for loss in step_optimizer(policy, optimizer, *minibatch)])
    return np.mean(losses, axis=0)


def new_learner():
    keras.utils.set_random_seed(1)
    policy, optimizer = MLPActorCritic(world.observation, world.actions, width=32), keras.optimizers.Adam(5e-3, epsilon=1e-5)
    optimizer.build(policy.trainable_variables)
    return policy, optimizer


def expected_return(policy):
    logits = policy(tf.range(4)[:, tf.newaxis])[0][:, 0]
    return exact_values(softmax(logits.numpy().astype(np.float64))).mean()


curves = {}
for name, epochs, minibatches in (("actor-critic", 1, 1), ("PPO", config.epochs, config.minibatches)):
    policy, optimizer = new_learner()
    cells, curves[name] = random.integers(3, size=B), [expected_return(policy)]
    for _ in range(ITERATIONS):
        record, cells = collect(policy, cells)
        update(policy, optimizer, record, [random.permutation(B * T) for _ in range(epochs)], minibatches)
        curves[name].append(expected_return(policy))
    print(
        chapter.text(
            f"{name}, one update a batch:" if epochs == 1 else f"{name}, four epochs of four minibatches:",
            f"{name},每批一次更新:" if epochs == 1 else f"{name},四轮,每轮四个小批量:",
        ),
        f"{curves[name][0]:.3f} -> {curves[name][-1]:.3f}",
    )
assert curves["PPO"][-1] > curves["actor-critic"][-1] + 0.005 and curves["PPO"][-1] > 0.97

figure = Figure(figsize=(6, 3.2), layout="constrained")
axes = figure.add_subplot(
    xlabel=chapter.label("iteration (the same number of steps each)", "迭代(步数相同)"), ylabel=chapter.label("exact expected return", "精确的期望回报")
)
for (name, curve), style in zip(curves.items(), ("-o", "--s")):
    axes.plot(curve, style, markersize=3, label=chapter.label(name, name.replace("actor-critic", "演员-评论家")))
axes.axhline(best.values[:3].mean(), color="black", linestyle=":", label=chapter.label("best", "最优"))
axes.legend()
axes.grid(alpha=0.3)
chapter.show(figure, "ppo")

# %% [markdown]
# 两者在环境中走的步数相同。同样的步，分四轮做许多小更新，比只做一次更新学到的更多。
#
# ## 软件包里的同一件事
#
# `PPO`是本软件包的学习器，经验从哪里来由子类决定（`EnvironmentPPO`、`LanguagePPO`）。给它同样的`Trajectory`，它的方法`improve`做的就是上面`update`做的事。我们给两者同样的权重、同样的经验、同样的打乱次序，比较损失，再比较最后一轮之后的每一个权重。

# %%
policy, _ = new_learner()
record, _ = collect(policy, random.integers(3, size=B))
states, actions, log_probs, values, rewards, next_values, ended = record
real, whole = (lambda x: tf.constant(x, tf.float32)), (lambda x: tf.constant(x, tf.int32))
trajectory = Trajectory(
    inputs=whole(states), starts=tf.ones([B, T]), actions=whole(actions), log_probs=real(log_probs), values=real(values),
    rewards=real(rewards), next_values=real(next_values), ended=real(ended), mask=tf.ones([B, T]), initial_state=policy.initial_state(B),
)  # fmt: skip
learner = PPO(policy.copy(), config, seed=7)
learner.compile(keras.optimizers.Adam(5e-3, epsilon=1e-5), run_eagerly=True)

advantages, returns = gae(rewards, values, next_values, ended)
experience = learner.estimate(trajectory)
np.testing.assert_allclose(experience.returns, returns, rtol=1e-4, atol=1e-5)
np.testing.assert_allclose(experience.advantages, (advantages - advantages.mean()) / advantages.std(ddof=1), rtol=1e-3, atol=1e-4)

plain = policy.copy()
optimizer = keras.optimizers.Adam(5e-3, epsilon=1e-5)
optimizer.build(plain.trainable_variables)
orders = [permutation(B * T, fold_in(learner.draw_seed(purpose=1), epoch)).numpy() for epoch in range(config.epochs)]
losses = update(plain, optimizer, record, orders, config.minibatches)
metrics = learner.improve(trajectory)  # moves learner.policy

print(chapter.text("policy loss, value loss, plain:  ", "策略损失、价值损失,手写:  "), losses)
print(chapter.text("policy loss, value loss, package:", "策略损失、价值损失,软件包:"), np.array([metrics["loss/policy"], metrics["loss/value"]]))
np.testing.assert_allclose([metrics["loss/policy"], metrics["loss/value"]], losses, rtol=1e-2, atol=1e-5)
moved = max(np.abs(new - old).max() for new, old in zip(plain.get_weights(), policy.get_weights()))
apart = max(np.abs(one - other).max() for one, other in zip(plain.get_weights(), learner.policy.get_weights()))
print(chapter.text("largest change of a weight, largest difference of the two:", "权重的最大变化,两者的最大差别:"), f"{moved:.1e}, {apart:.1e}")
for one, other in zip(plain.get_weights(), learner.policy.get_weights()):
    np.testing.assert_allclose(one, other, rtol=1e-3, atol=2e-4)
assert moved > 20 * apart

# %% [markdown]
# 软件包还多出这些：不计入任何统计的填充（文本）、记忆（LSTM、Transformer）、编译，以及由`target_kl`提前停止。请从`train_step`开始读`ppo_keras/ppo.py`，其中的每个步骤你都已经认识。
#
# ## 小结
#
# - REINFORCE：$\nabla J=\mathbb{E}[R\,\nabla\log\pi]$；基线保持均值，去掉噪声。
# - 演员-评论家：基线是$V(s)$，优势用$\delta=r+\gamma(1-\text{end})V(s')-V(s)$估计。
# - 概率比$\pi/\pi_{old}$使同一批样本可以用上几步；裁剪说明何时该停。
# - PPO就是：收集，计算一次优势，在裁剪的目标上做几轮小批量更新。
#
# ## 练习
#
# 1. 对数组$r$和$A$，求$\min(rA,\mathrm{clip}(r,1-\epsilon,1+\epsilon)A)$对$r$的导数。
# 2. 方差最小的常数基线不是$J$，而是$b^*=\mathbb{E}[R\,\|\nabla\log\pi\|^2]/\mathbb{E}[\|\nabla\log\pi\|^2]$（梯度对logit求）。
#    对softmax策略`pi`和平均奖励`mu`精确地算出它。
# 3. 已知$n$个样本的概率比，它们相当于多少个样本？请计算$(\sum r)^2/\sum r^2$（均值为1时就是$n/(1+v)$）。
#
# 答案在`tutorials/solutions/03_policy_gradient_to_ppo.py`。


# %%
@chapter.exercise
def slope_of_the_clipped_objective(ratio, advantage, clip_ratio):
    return None  # an array like ratio, (n,)


@chapter.exercise
def best_baseline(pi, mu):
    return None  # a number, from two arrays (3,)


@chapter.exercise
def samples_worth(ratios):
    return None  # a number, from an array (n,)


ratio, advantage = tf.constant([1.3, 0.7, 1.3, 0.7, 1.1]), tf.constant([1.0, 1.0, -1.0, -1.0, 2.0])
with tf.GradientTape() as tape:
    tape.watch(ratio)
    objective = tf.minimum(ratio * advantage, tf.clip_by_value(ratio, 0.8, 1.2) * advantage)
chapter.check(slope_of_the_clipped_objective(ratio.numpy(), advantage.numpy(), 0.2), tape.gradient(objective, ratio))

pi = softmax(np.array([1.0, 0.0, 0.3]))
squares = ((np.eye(3) - pi) ** 2).sum(axis=1)  # of the gradient of log pi(a), for each a
expected = (pi * mu * squares).sum() / (pi * squares).sum()
assert min(abs(expected - pi @ mu), abs(expected - mu.mean())) > 0.05  # neither J nor the plain mean
chapter.check(best_baseline(pi, mu), expected)
chapter.check(samples_worth(np.array([0.5, 1.0, 2.0, 0.5])), 4.0**2 / (0.25 + 1.0 + 4.0 + 0.25))
