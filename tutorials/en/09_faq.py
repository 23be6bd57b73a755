# %% [markdown]
# # 9. Questions and answers, each an experiment
#
# [Overview](../README.md) · before: [8. Outlook: small experiments instead of claims](08_outlook.ipynb) · next: [10. References and errata](10_references_and_errata.ipynb) · [中文](../zh/09_faq.ipynb)
#
# **You will learn** what batching, the cache of keys and values, compilation, epochs of minibatches and clipping bring, each
# measured on your machine; where PPO fails; and how to say how good an algorithm is when every seed gives another number.
# Minutes: about 1. For smoother numbers raise `SEEDS` and `ITERATIONS`.
#
# ## The article's passage
#
# > 并行计算……剪枝技术……数据预处理……梯度裁剪：对梯度进行裁剪，防止梯度爆炸和消失……如策略较为稀疏或状态空间较大，其他算法可能更合适……
# > 策略优势：计算策略优势函数，用于评估策略的改进程度
#
# (Parallel computing, pruning, augmentation, gradient clipping against exploding and vanishing gradients; "sparse policies" and
# large state spaces; the policy advantage as a measure.) What is wrong with it:
#
# - More devices do help. Pruning and augmentation are not what makes PPO fast; on one device four other things are, and none is named.
# - Limiting a gradient bounds an explosion. It cures no vanishing, and it is not PPO's clip, which acts on the ratio.
# - It is the *reward* that may be sparse. Large state spaces are fine: with 1,000 tokens to choose from there are $10^{150}$ texts of 50
#   tokens, each of them a state.
# - The mean advantage is about 0 for every policy (chapter 10 computes it): it measures nothing.
#
# ## Question 1: what makes PPO fast?
#
# ### Batches, and the cache
#
# A language model writes one token at a time. *Cached*, each step reads one token and looks up the keys and values of those
# before it. Without the cache each token costs a pass through all of them. Plainly, first:

# %%
import sys
from pathlib import Path

sys.path.append(str(Path(globals().get("__file__", "notebook")).resolve().parents[1]))  # the folder of chapter.py

import time

import keras
import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure

from ppo_keras import EnvironmentPPO, GridWorld, MLPActorCritic, PPOConfig, Prompts, TransformerActorCritic, generate
from ppo_keras.masking import episode_starts
from ppo_keras.tasks.seeds import spread

from chapter import Chapter

SEEDS = 4  # 10 for the real thing
ITERATIONS = 20  # of PPO, in each run on the grid with pits; 40 for the real thing
chapter = Chapter("09_faq")
keras.utils.set_random_seed(0)
VOCABULARY, PROMPT, LENGTH, BATCH = 64, 8, 48, 32
writer = TransformerActorCritic(VOCABULARY, width=64, layers=2, heads=4, memory=PROMPT + LENGTH)
NO_END = VOCABULARY  # an end that is never written: the work is always the same


def prompts_of(batch):
    tokens = np.random.default_rng(0).integers(4, VOCABULARY, [batch, PROMPT])
    return Prompts(tf.constant(tokens, tf.int32), tf.ones([batch, PROMPT]))


def write_cached(prompts):
    return generate(writer, prompts, LENGTH, NO_END, 0, tf.constant([0, 0]), greedy=True).tokens


def write_plainly(prompts):
    """The same without a cache: all tokens are read again for each new one."""
    starts = tf.pad(episode_starts(prompts.mask), [[0, 0], [0, LENGTH]])

    def step(t, tokens):
        logits, _ = writer(tokens, starts=starts)  # (B, P + T, V); what lies behind t does not reach back
        new = tf.argmax(logits[:, PROMPT - 1 + t], axis=-1, output_type=tf.int32)
        return t + 1, tf.transpose(tf.tensor_scatter_nd_update(tf.transpose(tokens), [[PROMPT + t]], [new]))

    _, tokens = tf.while_loop(lambda t, _: t < LENGTH, step, (tf.constant(0), tf.pad(prompts.tokens, [[0, 0], [0, LENGTH]])))
    return tokens[:, PROMPT:]


def seconds(function, *arguments, repeats=3):
    """The least time of a call, after one that compiles."""
    function(*arguments)
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        np.asarray(function(*arguments))
        times.append(time.perf_counter() - began)
    return min(times)


graph = lambda function: tf.function(function, autograph=False)
xla = lambda function: tf.function(function, autograph=False, jit_compile=True)
prompts, one = prompts_of(BATCH), prompts_of(1)
cached, plain = graph(write_cached), graph(write_plainly)
np.testing.assert_array_equal(cached(prompts), plain(prompts))  # the same texts
times = {
    "one": BATCH * seconds(cached, one),  # as many texts, one after another
    "plain": seconds(plain, prompts),
    "eager": seconds(write_cached, prompts, repeats=1),
    "graph": seconds(cached, prompts),
    "xla": seconds(xla(write_cached), prompts),
}
names = {
    "one": chapter.text("one text at a time", "逐条生成"),
    "plain": chapter.text("without a cache", "没有缓存"),
    "eager": chapter.text("without compilation (eager)", "不编译(即时执行)"),
    "graph": chapter.text("batch, cache, graph", "批量、缓存、计算图"),
    "xla": chapter.text("batch, cache, XLA", "批量、缓存、XLA"),
}
speeds = {name: BATCH * LENGTH / duration for name, duration in times.items()}
for name, speed in speeds.items():
    print(f"{speed:10,.0f} {chapter.text('tokens/s', '词元/秒')}  {names[name]}")
assert speeds["graph"] > 1.5 * max(speeds["one"], speeds["plain"], speeds["eager"])

# %% [markdown]
# The gap between the second line and the fourth should grow with the length of the text: the plain way needs $O(T^2)$ token
# passes for $T$ tokens, the cached one $O(T)$. XLA's gain depends on the machine; it is largest where many small operations follow
# each other, as in the environments of chapter 5.5.

# %%
figure = Figure(figsize=(7, 2.6), layout="constrained")
axes = figure.add_subplot(xscale="log", xlabel=chapter.label("tokens a second", "每秒词元数"))
labels = dict(zip(names, ("one text at a time", "no cache", "eager", "batch + cache + graph", "batch + cache + XLA")))
chinese = dict(zip(names, ("逐条生成", "没有缓存", "即时执行", "批量+缓存+计算图", "批量+缓存+XLA")))
axes.barh([chapter.label(labels[name], chinese[name]) for name in speeds], list(speeds.values()), color="C0")
axes.invert_yaxis()
axes.set_xlim(left=min(speeds.values()) / 3)
axes.grid(axis="x", alpha=0.3)
chapter.show(figure, "speed")

# %% [markdown]
# ### Several devices
#
# More devices share a batch: each writes, scores and differentiates its rows, and the gradients are added up before the optimizer steps (in the
# package by `tf.distribute`, with `--devices` and `--workers`). Two things are easily got wrong. The loss is a mean over *all* real tokens, and shares have
# different numbers of them, so the mean of the devices' means is another number. And what belongs to the whole batch (whitening, the KL that the
# controller sees, the norm that is limited) has to be computed of the whole. Below four shares are computed one after the other.
#
# The gain ends where devices wait for each other. A ring of $N$ devices that adds up $b$ bytes sends $2\frac{N-1}{N}b$ over each wire in $2(N-1)$ messages
# (Patarasuk and Yuan 2009), whatever the batch. The table says how long that takes and which share of a step is left for computing, from sizes of models and
# wires alone; `python tutorials/cluster/exchange.py` measures the exchange on your machine.

# %%
import runpy

from ppo_keras import LanguagePPO
from ppo_keras.devices import WHOLE, Share

learner = LanguagePPO(writer, lambda prompts, responses: tf.reduce_sum(responses.mask, axis=1), 1, 0, LENGTH, PPOConfig(discount=1.0))
learner.compile("adam", jit_compile=False)
trajectory, _ = tf.function(learner.collect, autograph=False)(prompts)
experience, DEVICES = learner.estimate(trajectory), 4
shares = [Share(i, DEVICES) for i in range(DEVICES)]


def gradient(share, count):
    """Of the loss of a share of the batch, as its part of `count` real tokens."""
    return learner.share_of_gradients(share, experience, count)[1][0]


def added(gradients):
    return [sum(parts) for parts in zip(*gradients)]


count = tf.reduce_sum(trajectory.mask)
whole = gradient(WHOLE, count)
right = added([gradient(share, count) for share in shares])
wrong = added([gradient(share, DEVICES * tf.reduce_sum(share.of(trajectory.mask))) for share in shares])
error = lambda found: max(float(tf.reduce_max(tf.abs(a - b))) for a, b in zip(found, whole)) / max(float(tf.reduce_max(tf.abs(b))) for b in whole)
print(chapter.text("real tokens of each device:", "各设备的有效词元数："), [int(tf.reduce_sum(share.of(trajectory.mask))) for share in shares])
print(f"{chapter.text('error of the sum, each share divided by the tokens of all:', '各份除以总词元数再求和，误差：')} {error(right):.0e}")
print(f"{chapter.text('error of the mean of the devices, each by its own tokens:', '各份除以自己的词元数再平均，误差：')} {error(wrong):.0e}")
assert error(right) < 1e-4 < error(wrong)

exchange = runpy.run_path(str(Path(sys.modules["chapter"].__file__).parent / "cluster" / "exchange.py"))
ring = exchange["ring"]
print()
for model, (numbers, operations) in exchange["MODELS"].items():
    computing = operations * exchange["TOKENS"] / (exchange["PEAK"] * exchange["USED"])
    for wires, (devices, bandwidth, latency) in exchange["WIRES"].items():
        waiting = ring(devices, 4 * numbers, bandwidth, latency)
        print(f"{model:26} {wires:28} {1e3 * waiting:9.2f} ms  {computing / (computing + waiting):5.0%}")

# %% [markdown]
# Over a fast bus all weights may be exchanged. Between machines adapters pay twice: a gradient of a few million numbers instead of hundreds of
# millions takes milliseconds. Larger batches for each device help too, for the exchange is the same.

# %% [markdown]
# ### Epochs of minibatches, and the clip
#
# Samples are dear, so PPO uses each several times. That is allowed only near the policy that drew them, and the clip of the ratio
# is what keeps it near (its expectation is maximised; $r$ is the ratio of new to old probability, $A$ the advantage):
#
# $$L^{CLIP}=\min\big(r A,\ \mathrm{clip}(r,1-\epsilon,1+\epsilon)A\big)$$
#
# A grid with three pits (each costs 1; the goal pays 1), three learners, the same number of steps in the world: one update an
# iteration; ten epochs of four minibatches with the clip; the same without (an $\epsilon$ that nothing reaches). What is plotted is
# the *exact* mean return of the policy, not an estimate: the grid is small enough.

# %%
pits = GridWorld(["S...", "...X", ".X..", "X..G"], time_limit=20)
SETTINGS = {
    "one update": dict(epochs=1, minibatches=1),
    "ten epochs": dict(epochs=10),
    "no clip": dict(epochs=10, clip_ratio=1e9),
}


def new_learner(world, learning_rate=3e-3, environments=8, iterations_per_call=5, **config):
    policy = MLPActorCritic(world.observation, world.actions, width=32)
    config = PPOConfig(**dict(value_clip=None, max_gradient_norm=None) | config)
    learner = EnvironmentPPO(policy, world, config, environments, 32, iterations_per_call)
    learner.compile(keras.optimizers.Adam(learning_rate), jit_compile=False)
    return learner


def probabilities_of(learner):
    cells = tf.range(learner.environment.observation)
    logits, *_ = learner.policy.step(cells, learner.policy.initial_state(len(cells)), tf.ones([len(cells)]))
    return tf.nn.softmax(logits).numpy()


def curve(learner, seed):
    """Exact mean return, and mean entropy over the cells, before training and after every five iterations."""
    learner.restart(seed)
    looks = []
    for look in range(ITERATIONS // 5 + 1):
        if look:
            learner.fit(verbose=0)
        p = probabilities_of(learner)
        entropy = -(p * np.log(p + 1e-30)).sum(axis=1)[pits.reachable].mean()
        looks.append((learner.environment.policy_return(p), entropy))
    return looks


shown = {
    "one update": chapter.label("one update an iteration", "每次迭代更新一次"),
    "ten epochs": chapter.label("ten epochs, clipped", "十轮,裁剪"),
    "no clip": chapter.label("ten epochs, not clipped", "十轮,不裁剪"),
}
curves, entropies = {}, {}
for name, config in SETTINGS.items():
    learner = new_learner(pits, **config)
    curves[name], entropies[name] = np.moveaxis([curve(learner, seed) for seed in range(SEEDS)], -1, 0)  # (seeds, looks) each
    if name == "ten epochs":
        trained = probabilities_of(learner)
    print(f"{shown[name]:24s}", chapter.text("return at the end, seed by seed:", "各种子最后的回报:"), curves[name][:, -1].round(2))
    print(f"{'':24s}", chapter.text("mean entropy at each look:", "每次查看时的平均熵:"), entropies[name].mean(axis=0).round(2))
print(chapter.text("the best possible:", "最优:"), round(pits.optimal_return(0.99), 2))
finals = {name: values[:, -1] for name, values in curves.items()}
assert finals["ten epochs"].mean() > finals["one update"].mean() + 0.3
assert finals["ten epochs"].mean() > finals["no clip"].mean() + 0.3
assert np.abs(finals["no clip"]).min() < 0.1  # neither pit nor goal
assert entropies["no clip"][:, 1].mean() < 0.5 * entropies["ten epochs"][:, 1].mean()  # certain after five iterations

# %%
figure = Figure(figsize=(7, 3.6), layout="constrained")
axes = figure.add_subplot(xlabel=chapter.label("steps in the world", "环境步数"), ylabel=chapter.label("exact mean return", "精确的平均回报"))
steps = np.arange(ITERATIONS // 5 + 1) * 5 * 8 * 32
for (name, values), style, marker in zip(curves.items(), ("--", "-", ":"), "sox"):
    axes.plot(steps, values.mean(axis=0), style, marker=marker, label=shown[name])
    axes.fill_between(steps, values.min(axis=0), values.max(axis=0), alpha=0.15)
axes.axhline(pits.optimal_return(0.99), color="black", linewidth=0.8, label=chapter.label("the best possible", "最优"))
axes.legend(loc="center right", bbox_to_anchor=(1, 0.65))
axes.grid(alpha=0.3)
chapter.show(figure, "epochs_and_clip")

# %% [markdown]
# The unclipped learner does not explode. It *settles*: a few lucky or unlucky samples, used ten times, make the policy certain (its
# entropy is small at the first look already), and a certain policy explores no more. A return of 0 means that it hides from the pits
# where nothing is lost and nothing won. The clipped learner becomes certain as well, but later, when it has found the goal.
#
# Limiting the *gradient* is another matter, and does what it says: a long one is shortened, a short one stays short.

# %%
for length in (1e3, 1e-6):
    (limited,), _ = tf.clip_by_global_norm([tf.constant([length])], 0.5)
    print(f"{length:g} -> {float(limited[0]):g}")
assert float(limited[0]) == np.float32(1e-6)  # nothing vanished less

# %% [markdown]
# ## Question 2: where does PPO fail?
#
# ### Sparse rewards
#
# PPO learns from rewards that its own policy has come across. A corridor between two walls of pits: a move up or down ends the episode,
# $n-1$ moves to the right lead to the goal (each move to the left costs one more), which pays 1; everything else pays 0. How often does
# chance find it?


# %%
def corridor(n, middle=".", **settings):
    return GridWorld(["X" * n, "S" + middle * (n - 2) + "G", "X" * n], pit_reward=0.0, time_limit=2 * n, **settings)


for n in (4, 8, 12, 16):
    world = corridor(n)
    found = world.policy_return(np.full([world.observation, 4], 0.25))  # exact
    print(f"n = {n:2d}:", chapter.text("found by chance once in", "随机走平均每"), f"{1 / found:14,.0f}", chapter.text("episodes", "个回合成功一次"))

stones = {3 * column + 1: 0.1 for column in range(1, 11)}  # the cells on the way: 0.1 for entering one
tries = {"n = 5": corridor(5), "n = 12": corridor(12), "n = 12, stones": corridor(12, entry_rewards=stones), "n = 12, starts": corridor(12, "S")}
lines = {}
for name, world in tries.items():
    learner = new_learner(world, learning_rate=5e-3, environments=16, entropy_coefficient=0.01)
    learner.restart(0)
    lines[name], only_the_goal = [], corridor(len(world.rows[0]))
    for _ in range(5):
        learner.fit(verbose=0)
        lines[name].append(only_the_goal.policy_return(probabilities_of(learner)))
    print(f"{name:15s}", chapter.text("probability of reaching the goal from the left end:", "从左端到达终点的概率:"), np.round(lines[name], 3))
    if name == "n = 12, stones":
        hacked = world.policy_return(probabilities_of(learner))
print(chapter.text("what the learner with stones earns:", "有石子的学习器得到的回报:"), round(hacked, 2))
print(chapter.text("what it would earn on the straight way to the goal:", "直奔终点能得到的回报:"), round(sum(stones.values()) + 1, 2))
assert hacked > sum(stones.values()) + 1
assert lines["n = 5"][-1] > 0.9 and lines["n = 12"][-1] < 0.1 and lines["n = 12, starts"][-1] > 0.9
assert lines["n = 12, stones"][-1] < 0.5

# %% [markdown]
# The same algorithm, the same number of steps: what differs is whether a first reward is ever seen. Two remedies were tried. *Stones*
# pay 0.1 for entering a cell on the way; the learner found that going to and fro between stones pays more than walking on: a
# reward is maximised as it is written, not as it is meant. *Starts* let episodes begin in every cell, some of them near the goal: that
# works, as a warm start by supervised training does (chapter 6.4). As long as no reward is seen all returns are the same, 0, and no
# learning rate, clip or number of epochs finds the way to the goal in that.
#
# ### The price of samples
#
# Where the rules are known, nothing need be sampled: `solve` computes the best policy of the corridor from the map alone. PPO is for
# rules that are *not* known. Its price here:

# %%
steps_used = 5 * 16 * 32 * (1 + int(np.argmax(np.array(lines["n = 5"]) > 0.9)))
best = tries["n = 5"].solve(0.99).optimal_actions
print(chapter.text("samples that PPO needed for n = 5, at most:", "n = 5时PPO用的样本数,至多:"), steps_used, chapter.text(" planning:", " 规划:"), 0)
assert best[1, 3] and steps_used > 1000  # right, from the start

# %% [markdown]
# ### Data of another policy
#
# Can logs of some other policy $\mu$ be used? Importance sampling says yes, with weights $w=\prod_t \pi(a_t|s_t)/\mu(a_t|s_t)$. But
# their variance grows exponentially with the length: of $N$ episodes there remain
#
# $$N_{\text{eff}}=\frac{(\sum w)^2}{\sum w^2}\approx N\Big(\sum_a \frac{\pi(a)^2}{\mu(a)}\Big)^{-T}$$
#
# Below: four actions, $\mu$ uniform, $\pi$ only slightly different; simulated beside the formula.

# %%
N, pi, mu = 20_000, np.array([0.4, 0.2, 0.2, 0.2]), np.full(4, 0.25)
weights = np.cumprod((pi / mu)[np.random.default_rng(0).integers(0, 4, [N, 60])], axis=1)  # (N, T)
effective = weights.sum(axis=0) ** 2 / (weights**2).sum(axis=0)
formula = N * (pi**2 / mu).sum() ** -np.arange(1.0, 61)
for T in (1, 10, 60):
    print(f"T = {T:2d}:", chapter.text("effective episodes", "有效回合数"), f"{effective[T - 1]:9,.0f}", chapter.text("of", "/"), f"{N:,}")
np.testing.assert_allclose(effective[:10], formula[:10], rtol=0.2)
assert effective[-1] < 0.05 * N

gone = np.abs(trained[pits.reachable] / 0.25 - 1) > 0.2  # a trained policy, on actions that a uniform one chose
said = chapter.text("ratios of the trained policy outside 1 +- 0.2, on data of a uniform one:", "用均匀策略的数据,训练后策略的概率比落在1±0.2之外的比例:")
print(said, f"{gone.mean():.0%}")
assert gone.mean() > 0.5

# %%
figure = Figure(figsize=(8, 3.2), layout="constrained")
left, right = figure.subplots(1, 2)
for (name, values), style, marker in zip(lines.items(), ("-", ":", "-.", "--"), "oxvs"):
    label = name.replace("stones", chapter.label("stones", "石子")).replace("starts", chapter.label("starts", "起点"))
    left.plot(5 * 16 * 32 * np.arange(1, 6), values, style, marker=marker, label=label)
left.set(xlabel=chapter.label("steps in the world", "环境步数"), ylabel=chapter.label("P(goal)", "到达终点的概率"))
right.semilogy(range(1, 61), effective, label=chapter.label("simulated", "模拟"))
right.semilogy(range(1, 61), formula, ":", color="black", label=chapter.label("formula", "公式"))
right.set(xlabel=chapter.label("length of an episode T", "回合长度T"), ylabel=chapter.label(f"effective episodes of {N:,}", f"有效回合数(共{N:,})"))
for axes in (left, right):
    axes.legend()
    axes.grid(alpha=0.3)
chapter.show(figure, "failures")

# %% [markdown]
# That is why PPO throws its data away after a few epochs, and why `policy/clip_fraction` is worth a look: it is the share of the data
# whose ratio has left the clip. No more than that is out of use (and less, because the clip cuts only where the ratio went too far in
# the direction of its advantage).
#
# ## Question 3: how good is it, over seeds?
#
# One run is one draw. What is reported is the mean of the final return over seeds, its spread, and an interval for the mean. The
# bootstrap (Efron 1979) assumes no shape of the distribution: draw as many seeds as there are, with replacement, and take the mean; do so
# ten thousand times; the middle 95 in 100 of these means are the interval. Mean and standard deviation are those of the package's
# `spread`, which `--seeds N` reports.


# %%
def bootstrap(values, draws=10_000, seed=0):
    """A 95 % interval of the mean, by the percentiles of resampled means."""
    drawn = np.random.default_rng(seed).choice(values, [draws, len(values)])
    return np.percentile(drawn.mean(axis=1), [2.5, 97.5])


for name, values in finals.items():
    mean, deviation, (low, high) = values.mean(), values.std(ddof=1), bootstrap(values)
    print(f"{shown[name]:24s} {mean:5.2f} +- {deviation:.2f}  [{low:5.2f}, {high:5.2f}]")
    package = spread([{"return": float(value)} for value in values], ["return"])
    np.testing.assert_allclose([package["return"], package["return_std"]], [mean, deviation], rtol=1e-12)
difference = finals["ten epochs"] - finals["no clip"]  # the same seeds: in pairs
low, high = bootstrap(difference)
print(chapter.text("what the clip brings:", "裁剪带来的提高:"), f"{difference.mean():.2f} [{low:.2f}, {high:.2f}]")
assert low > 0  # zero is outside

# %% [markdown]
# How far can such an interval be trusted? Draw from a distribution whose mean is known, and count how often the interval holds it. It
# should be 95 in 100.

# %%
random, coverage = np.random.default_rng(1), {}
for seeds in (3, 5, 10, 30):
    intervals = [bootstrap(random.normal(size=seeds), draws=500, seed=i) for i in range(300)]
    coverage[seeds] = np.mean([low <= 0 <= high for low, high in intervals])
    print(f"{seeds:2d}", chapter.text("seeds: the interval holds the truth in", "个种子:区间包含真值的比例"), f"{coverage[seeds]:.0%}")
assert coverage[3] < 0.85 < coverage[30]

figure = Figure(figsize=(7, 2.6), layout="constrained")
axes = figure.add_subplot(xlabel=chapter.label("final return: seeds, mean and 95 % interval", "最终回报:各种子、均值与95%区间"))
for row, (name, values) in enumerate(finals.items()):
    low, high = bootstrap(values)
    axes.plot(values, np.full(len(values), row), "o", alpha=0.4, color="C0")
    axes.errorbar(values.mean(), row + 0.2, xerr=[[max(0, values.mean() - low)], [max(0, high - values.mean())]], fmt="D", capsize=4, color="C1")
axes.set_yticks(range(3), [shown[name] for name in finals])
axes.set_ylim(-0.5, 2.7)
axes.grid(axis="x", alpha=0.3)
chapter.show(figure, "seeds")

# %% [markdown]
# With three seeds the interval is much too narrow, and with the few seeds of this chapter it still is: the difference above is believed
# because it is so much larger than its interval is wide. Five to ten seeds are the least for a claim; and compare two algorithms on the same
# seeds, as above.
#
# ## Summary
#
# - Fast: write in batches, with a cache, compiled; use each sample for several epochs, with the clip.
# - The clip bounds the ratio and keeps exploration alive; a limit of the gradient is another thing.
# - PPO fails where no reward is ever seen, where samples cost too much, and on data of other policies.
# - One seed is an anecdote: give mean, spread and an interval, and the number of seeds.
#
# ## Exercises
#
# 1. Without a cache, how many token passes does a text of $P=8$ prompt tokens and $T=48$ new ones cost, if each new token reads exactly
#    the tokens before it? (A token pass: one token read once. Write it as a sum.)
# 2. $\pi=(0.7, 0.3)$, $\mu=(0.5, 0.5)$: what share of the episodes is effective at $T=10$, by the formula?
# 3. The mean and the standard deviation (with $n-1$, as above) of the returns 0, 1 and 1.
#
# The solutions are in `tutorials/solutions/09_faq.py`.


# %%
@chapter.exercise
def token_passes():
    return None  # your number


@chapter.exercise
def effective_share():
    return None  # your number


@chapter.exercise
def mean_and_deviation():
    return None  # your two numbers, such as [0.0, 0.0]


chapter.check(token_passes(), sum(range(PROMPT, PROMPT + LENGTH)))
chapter.check(effective_share(), (np.array([0.7, 0.3]) ** 2 / 0.5).sum() ** -10)
three = spread([{"return": value} for value in (0.0, 1.0, 1.0)], ["return"])
chapter.check(mean_and_deviation(), [three["return"], three["return_std"]])
