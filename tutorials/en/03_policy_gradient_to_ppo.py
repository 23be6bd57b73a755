# %% [markdown]
# # 3. From the policy gradient to PPO
#
# [Overview](../README.md) · before: [2. Language models and PPO](02_language_models_and_ppo.ipynb) · next: [4. The mathematics](04_mathematics.ipynb) · [中文](../zh/03_policy_gradient_to_ppo.ipynb)
#
# **You will learn** to derive REINFORCE, the baseline, the actor-critic, the probability ratio and its clipping, to write each
# in a few lines that learn something you can measure, and to see that the sum of these lines is the update of the package.
# Minutes: about 1.
#
# ## The article's passage
#
# > 3.1 ……PPO算法的核心思想是利用近端策略优化技术，使得策略更新更加稳定和高效。
# >
# > 3.2.1 ……`optimizer = torch.optim.Adam(policy_net.parameters(), lr=alpha)` …… `alpha = 0.001`
# >
# > 3.2.2 对于每个时间步t……计算优势函数估计值Rt = VθValue(st+1) - VθValue(st)……
#
# (Section 3.1: "the core idea of PPO is to use proximal policy optimisation, which makes updates more stable and efficient".
# Section 3.2: "for every time step, choose an action, take it, compute the advantage, update both networks", with code.)
#
# The sentence of 3.1 explains PPO by its own name: what is proximal, and by which means, is not said. This chapter says it: the ratio
# and its clipping. Then the code of 3.2, line by line, and what breaks:
#
# | the article's line | what is wrong | put right |
# |---|---|---|
# | `policy_net = PolicyNetwork()` | neither class is defined | two variables: `z` (logits) and `V` |
# | `Adam(policy_net.parameters(), lr=alpha)` | `torch` is not imported, `alpha` is set only afterwards, the value network is left out | both variables, `alpha` first |
# | `policy_net.select_action(state)` | `state` has no value yet; the probability of the action is forgotten, but PPO needs it | `a` is sampled from `softmax(z[s])`; its log-probability is kept |
# | `reward_function(action)` | the reward does not depend on the state | `world.rewards[s, a]` |
# | `next_state = next_state` | nothing moves: every step is the first | `world.next_cells[s, a]`, and `s = s2` at the end |
# | `value_net(value_state)` | `value_state` is not defined | `V[s]` and `V[s2]`, two different numbers |
# | `reward + gamma * value_estimate - value_estimate` | one value stands for both states; no end of an episode | `r + gamma * (1 - end) * V[s2] - V[s]` |
# | `-torch.log(policy_net.log_prob(action)) * advantage` | the logarithm of a logarithm is NaN; no state; the gradient runs through the advantage | `-log_prob * stop_gradient(advantage)` |
# | `F.smooth_l1_loss(value_estimate, advantage)` | `F` is not imported; a value is fitted to an advantage | fitted to `r + gamma * (1 - end) * V[s2]`, held fixed |
# | `policy_loss + value_loss` | no weight for the value loss, no entropy | `policy_loss + c_v * value_loss - c_e * entropy` |
# | `optimizer.step()` in every time step | one sample an update, used once; no ratio, no clipping: this is not PPO | collect many steps, then several epochs of minibatches |
# | `evaluate_model(model, test_data)` | neither is defined; accuracy is no measure of a policy | the return of episodes |
#
# The prose beside it says $R_t=V(s_{t+1})-V(s_t)$: without a reward and a discount, and $R$ usually is a return.
#
# Two of these lines can be tried at once. The world is that of chapter 4.3: four states in a square, moves up, down, left and right;
# entering state 4 pays 1 and ends the episode, and every other step pays 0.

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
# ## REINFORCE: a gradient without the derivative of the reward
#
# Begin with the smallest problem: a bandit. There are three actions and no states; action $a$ pays a random reward of mean
# $\mu_a$. The policy is a softmax of three logits, $\pi(a)=e^{z_a}/\sum_b e^{z_b}$, and what we want to raise is
# $J=\sum_a\pi(a)\mu_a$. We cannot see $\mu$, only samples. But
#
# $$\nabla J=\sum_a\nabla\pi(a)\,\mu_a=\sum_a\pi(a)\,\nabla\log\pi(a)\,\mu_a=\mathbb{E}_{a\sim\pi}\big[R\,\nabla\log\pi(a)\big]$$
#
# because $\nabla\pi=\pi\nabla\log\pi$ (Williams 1992). The right side is a mean over samples of the policy. For the softmax
#
# $$\frac{\partial\log\pi(a)}{\partial z_b}=\mathbb{1}[b=a]-\pi(b)$$
#
# With states nothing changes: the log-probability of a whole episode is a sum, in which the moves of the world do not depend on
# the policy. So each $\nabla\log\pi(a_t|s_t)$ is multiplied by the return of the episode; of it the rewards before $a_t$ can be left
# out, for they do not depend on $a_t$ (the next section shows why that leaves the mean). What remains is the return that follows.
#
# Here $\mu$ is known, so that the exact gradient, $\pi(b)(\mu_b-J)$, can be set beside the mean of the samples.

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
# ## The baseline: the same mean, far less noise
#
# Subtract any number $b$ that does not depend on the action. The mean does not change, because
#
# $$\mathbb{E}_{a\sim\pi}[b\,\nabla\log\pi(a)]=b\sum_a\nabla\pi(a)=b\,\nabla 1=0$$
#
# The variance does. All rewards here are near the same large number; without a baseline every action that was tried looks good.
# With $b=J$, the mean reward, $R-b$ says whether an action did better than usual. That difference is the *advantage*.

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
# ## Actor-critic: the article's loop, put right
#
# With states, the baseline is the value of the state, $V(s)$, learned beside the policy: the *critic*. The return that follows
# need not be waited for; $r+\gamma V(s')$ stands for it. What is left is the TD error, an estimate of the advantage:
#
# $$\delta=r+\gamma(1-\text{end})V(s')-V(s)$$
#
# The policy (the *actor*) follows $\delta\,\nabla\log\pi(a|s)$; the critic moves $V(s)$ towards $r+\gamma V(s')$. Neither
# gradient may run through the number it is led by: hence `stop_gradient`.
#
# This is the article's loop, with every line of the table put right. Its world is the grid of four states (chapter 4.3), its
# networks are two tables.

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
# It learns. But every step of the world is used once and then thrown away, and one at a time. Both can be helped.
#
# ## The probability ratio: using a sample again
#
# After one update the samples come from another policy than the present one: $\pi_{old}$. They can still be used, if each is
# weighted by how much more probable its action has become (importance sampling):
#
# $$\mathbb{E}_{a\sim\pi}[f(a)]=\sum_a\pi_{old}(a)\frac{\pi(a)}{\pi_{old}(a)}f(a)=\mathbb{E}_{a\sim\pi_{old}}[r\,f(a)],\qquad r=\frac{\pi(a)}{\pi_{old}(a)}$$
#
# (As in the paper, the letter $r$ is the ratio from here on; in chapter 4 $r_t$ is a reward again, where it bears the index of a step.)
# So $\mathbb{E}_{old}[rA]$ is an objective that can be raised over several steps with the same samples, and at $r=1$ its gradient
# is the policy gradient, since $\nabla r=r\,\nabla\log\pi$. The price: the farther the policy moves, the more a few
# large ratios decide. With ratios of variance $v$, $N$ samples are worth about $N/(1+v)$. With states there is one price more: the
# ratio weights the action, but the states are still those that the old policy visits. Both are reasons to stay near.

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
# ## Clipping: stop when the ratio has moved enough
#
# Raising $\mathbb{E}_{old}[rA]$ on a *few* samples has no limit: the action that was lucky in them gets all the probability, and an
# action of probability 0 is never tried again. PPO takes the gradient away from a sample once its ratio has left $1\pm\epsilon$
# in the direction that the advantage asks for (Schulman et al. 2017, eq. 7):
#
# $$L^{CLIP}=\mathbb{E}_{old}\Big[\min\big(rA,\ \mathrm{clip}(r,1-\epsilon,1+\epsilon)A\big)\Big]$$
#
# Below, a noisier bandit: every round pulls 16 arms and makes 50 steps on these samples, with and without the clipping.
# The gradient of a sample is $rA(\mathbb{1}[b=a]-\pi(b))$ where it is not clipped, and 0 where it is.


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
# Without clipping the first round gains more: it jumps. But some runs have put everything on a wrong arm and stay there.
# Clipped, every round moves a little, and later samples can correct earlier luck.
#
# ## All of it: PPO
#
# One iteration of PPO (Schulman et al. 2017, algorithm 1):
#
# 1. Act for $T$ steps in $B$ copies of the world with the policy as it is; keep states, actions, log-probabilities, values, rewards.
# 2. Compute advantages once. GAE mixes the TD errors of all later steps, $A_t=\delta_t+\gamma\lambda(1-\text{end}_t)A_{t+1}$
#    (chapter 4 works it out); the value target is $A_t+V(s_t)$.
# 3. For several epochs, in minibatches of shuffled steps, lower
#
# $$-L^{CLIP}+c_v\tfrac12(V-R)^2-c_e\,S$$
#
# where $R=A_t+V(s_t)$ is the value target of step 2, held fixed, and $S$ the entropy of the policy, which is to stay above 0 for a
# while; $c_v$ and $c_e$ are weights. Three common details complete it: the advantages are brought to mean 0 and standard deviation 1;
# the value is clipped too (the larger of two squared errors counts: that of the new value, and that of the new value held within
# $\epsilon$ of the old one); and the norm of the gradient is limited. The policy is now a network of the package.

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
# Both had equally many steps of the world. Used in four epochs of small updates they teach more than in a single one.
#
# ## The same in the package
#
# `PPO` is the learner of the package; where experience comes from is left to its subclasses (`EnvironmentPPO`,
# `LanguagePPO`). Given the same `Trajectory`, its method `improve` does what `update` above does. We give both the same
# weights, the same experience and the same orders of steps, and compare the losses and then every weight after the last epoch.

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
# What the package adds: padding that counts nowhere (text), memory (LSTM, Transformer), compilation, an early stop by
# `target_kl`. Read `ppo_keras/ppo.py` from `train_step` on; you know its steps now.
#
# ## Summary
#
# - REINFORCE: $\nabla J=\mathbb{E}[R\,\nabla\log\pi]$; a baseline keeps the mean and takes away noise.
# - Actor-critic: the baseline is $V(s)$, the advantage is estimated by $\delta=r+\gamma(1-\text{end})V(s')-V(s)$.
# - The ratio $\pi/\pi_{old}$ allows several steps on the same samples; clipping says when to stop.
# - PPO is: collect, advantages once, epochs of minibatches on the clipped objective.
#
# ## Exercises
#
# 1. The derivative of $\min(rA,\mathrm{clip}(r,1-\epsilon,1+\epsilon)A)$ with respect to $r$, for arrays $r$ and $A$.
# 2. The constant baseline with the least variance is not $J$ but $b^*=\mathbb{E}[R\,\|\nabla\log\pi\|^2]/\mathbb{E}[\|\nabla\log\pi\|^2]$.
#    (gradients with respect to the logits). Compute it for a softmax policy `pi` and mean rewards `mu`, exactly.
# 3. How many samples are $n$ samples with the given ratios worth? Compute $(\sum r)^2/\sum r^2$ (with mean 1 it is $n/(1+v)$).
#
# The solutions are in `tutorials/solutions/03_policy_gradient_to_ppo.py`.


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
