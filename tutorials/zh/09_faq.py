# %% [markdown]
# # 9. 常见问题，每个答案都是一个实验
#
# [目录](../README.md) · 上一章：[8. 展望：用小实验代替断言](08_outlook.ipynb) · 下一章：[10. 参考文献与勘误](10_references_and_errata.ipynb) · [English](../en/09_faq.ipynb)
#
# **本章要学会**：批量、KV缓存、编译、多轮小批量、裁剪各带来什么（都在你的机器上实测）；PPO在哪里失败；以及当每个随机种子都给出不同的数时，怎样说明一个算法有多好。需要约1分钟。想要更平稳的数字，可加大`SEEDS`和`ITERATIONS`。
#
# ## 原文的段落
#
# > 并行计算……剪枝技术……数据预处理……梯度裁剪：对梯度进行裁剪，防止梯度爆炸和消失……如策略较为稀疏或状态空间较大，其他算法可能更合适……
# > 策略优势：计算策略优势函数，用于评估策略的改进程度
#
# 问题在于：
#
# - 增加设备确实有用。但让PPO变快的不是剪枝和数据增强；在单个设备上是另外四件事，原文一件也没有提。
# - 限制梯度只能防爆炸，治不了消失；它也不是PPO的裁剪，后者作用于概率比。
# - 可能稀疏的是*奖励*。状态空间大并无妨碍：若有1000个词元可选，50个词元的文本就有$10^{150}$种，每一种都是一个状态。
# - 任何策略的平均优势都约为0（第10章有验算），它什么也衡量不了。
#
# ## 问题1：什么让PPO变快？
#
# ### 批量与缓存
#
# 语言模型每次写一个词元。有*缓存*时，每一步只读一个词元，前面各词元的键和值从缓存中查得；没有缓存，每写一个词元就要把全文再读一遍。
# 先写朴素的版本：

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
# 第二行与第四行的差距应随文本长度而增大：写$T$个词元，朴素做法要读$O(T^2)$个词元，有缓存只要读$O(T)$个。XLA的收益因机器而异；小运算一个接一个时最大，例如5.5章的环境。

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
# ### 多个设备
#
# 设备多了，就分担同一个批次：每个设备为自己的那几行生成、打分、求梯度，梯度求和之后优化器才更新（软件包用`tf.distribute`实现，见`--devices`和`--workers`）。有两处容易写错。损失是对*全部*有效词元的平均，而各份的有效词元数不同，所以“先在各设备内平均、再对设备平均”得到的是另一个数。属于整个批次的量（优势的白化、控制器看到的KL、被裁剪的梯度范数）也必须用整个批次来算。下面依次计算四份。
#
# 设备开始互相等待时，加速就到头了。$N$个设备组成环，对$b$字节求和，每条线路要用$2(N-1)$条消息传送$2\frac{N-1}{N}b$字节（Patarasuk和Yuan，2009），与批次大小无关。下表只根据模型与线路的规模，给出这需要多久，以及一步之中还有多大比例用于计算；`python tutorials/cluster/exchange.py`在你的机器上测量这种交换。

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
# 在高速总线上，交换全部权重没有问题。在机器之间，适配器的好处是双重的：梯度只有几百万个数，而不是几亿个，交换只需几毫秒。让每个设备分到更大的批次也有帮助，因为交换量不变。

# %% [markdown]
# ### 多轮小批量与裁剪
#
# 样本昂贵，所以PPO把每个样本用好几次。这只在产生样本的策略附近才成立，而对概率比的裁剪正是让新策略留在附近的手段（最大化的是它的期望；$r$是新旧概率之比，$A$是优势）：
#
# $$L^{CLIP}=\min\big(r A,\ \mathrm{clip}(r,1-\epsilon,1+\epsilon)A\big)$$
#
# 一个有三个陷阱的网格（掉进去扣1，到终点得1），三个学习器，与世界交互的步数相同：每次迭代只更新一次；十轮、每轮四个小批量，带裁剪；同样十轮，不裁剪（$\epsilon$大得碰不到）。图中是策略的*精确*平均回报，不是估计：网格够小，算得出来。

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
# 不裁剪的学习器并没有爆炸，而是*定死*了：几个碰巧好或坏的样本被用了十次，策略变得确信（第一次查看时熵就已经很小），而确信的策略不再探索。
# 回报为0，说明它躲开陷阱，停在不赔也不赚的地方。带裁剪的学习器最后也变得确信，但要晚些，那时它已经找到终点。
#
# 限制*梯度*是另一回事，它的作用名副其实：长的缩短，短的还是短。

# %%
for length in (1e3, 1e-6):
    (limited,), _ = tf.clip_by_global_norm([tf.constant([length])], 0.5)
    print(f"{length:g} -> {float(limited[0]):g}")
assert float(limited[0]) == np.float32(1e-6)  # nothing vanished less

# %% [markdown]
# ## 问题2：PPO在哪里失败？
#
# ### 稀疏奖励
#
# PPO只能从自己的策略碰到过的奖励中学习。两排陷阱夹着一条走廊：向上或向下走，回合就结束；向右走$n-1$步到终点（每向左一步就要多走一步向右），得1；其余一律得0。随机走多久才成功一次？


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
# 同样的算法，同样的步数，区别只在于有没有见过第一个奖励。这里试了两种办法。*石子*（stones）：走进途中一格得0.1；学习器发现，在石子之间来回走比往前走更划算，可见被最大化的是写下来的奖励，不是心里想的奖励。*起点*（starts）：回合可以从任何一格开始，有的离终点很近；这样就行了，正如有监督训练的热启动也行（6.4章）。只要没见过奖励，所有回报都一样是0，学习率、裁剪、轮数怎样设置都找不出通往终点的方向。
#
# ### 样本的代价
#
# 规则已知时什么都不必采样：`solve`只凭地图就能算出走廊的最优策略。PPO是为规则*未知*的情形准备的。它在这里的代价是：

# %%
steps_used = 5 * 16 * 32 * (1 + int(np.argmax(np.array(lines["n = 5"]) > 0.9)))
best = tries["n = 5"].solve(0.99).optimal_actions
print(chapter.text("samples that PPO needed for n = 5, at most:", "n = 5时PPO用的样本数,至多:"), steps_used, chapter.text(" planning:", " 规划:"), 0)
assert best[1, 3] and steps_used > 1000  # right, from the start

# %% [markdown]
# ### 其他策略的数据
#
# 能用别的策略$\mu$的日志吗？重要性采样说可以，权重是$w=\prod_t \pi(a_t|s_t)/\mu(a_t|s_t)$。但它的方差随长度指数增长，$N$个回合只相当于
#
# $$N_{\text{eff}}=\frac{(\sum w)^2}{\sum w^2}\approx N\Big(\sum_a \frac{\pi(a)^2}{\mu(a)}\Big)^{-T}$$
#
# 下面有四个动作，$\mu$是均匀的，$\pi$只稍有不同；模拟与公式并列。

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
# 这就是PPO用过几轮就扔掉数据的原因，也是`policy/clip_fraction`值得一看的原因：它是概率比已超出裁剪范围的数据所占的比例。失效的数据至多这么多（实际更少，因为只有概率比朝优势所指的方向走得太远时才被裁剪）。
#
# ## 问题3：多个种子下，它有多好？
#
# 一次运行只是一次抽样。要报告的是多个种子最终回报的均值、离散程度，以及均值的区间。自助法（bootstrap，Efron 1979）不假设分布的形状：有放回地抽取同样多的种子，求均值；重复一万次；这些均值中间的95%就是区间。均值和标准差与软件包的`spread`相同（`--seeds N`报告的就是它）。


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
# 这样的区间可信到什么程度？从均值已知的分布中抽样，数一数区间包含真值的次数。理想情况是100次中95次。

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
# 只有三个种子时，区间太窄；本章的种子很少，区间也仍然偏窄：上面的差别之所以可信，是因为它比区间的宽度大得多。要下结论，至少要五到十个种子；比较两个算法时要用相同的种子，如上所示。
#
# ## 小结
#
# - 要快：批量生成，用缓存，编译；带裁剪地把每个样本用几轮。
# - 裁剪限制概率比，保住探索；限制梯度是另一回事。
# - 没见过奖励、样本太贵、数据来自别的策略：这些是PPO失败的地方。
# - 一个种子只是孤例：要给出均值、离散程度、区间和种子数。
#
# ## 练习
#
# 1. 没有缓存，提示$P=8$个词元，新写$T=48$个词元，每个新词元恰好读一遍它前面的词元：共读多少个词元？（写成求和。）
# 2. $\pi=(0.7, 0.3)$，$\mu=(0.5, 0.5)$：按公式，$T=10$时有效回合占多大比例？
# 3. 回报0、1、1的均值和标准差（除以$n-1$，同上）。
#
# 答案在`tutorials/solutions/09_faq.py`。


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
