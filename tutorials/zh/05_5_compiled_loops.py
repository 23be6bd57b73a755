# %% [markdown]
# # 5.5 编译的循环
#
# [目录](../README.md) · 上一章：[5.4 用解码器Transformer做PPO](05_4_transformer_ppo.ipynb) · 下一章：[6.1 文本生成，以及奖励怎样被钻空子](06_1_text_generation.ipynb) · [English](../en/05_5_compiled_loops.ipynb)
#
# **本章要学会**：同一个学习器在即时执行（eager）、`tf.function`和XLA下各做了什么，在你的机器上各需多久；为什么一次调用做多次迭代有帮助；以及各种陷阱：重复追踪，被追踪函数里的Python和NumPy，用错地方的半精度。需要约1分钟。
#
# ## 原文的段落
#
# > `for i in range(len(states)): action_probs = policy_net.predict(states[i])` …
# > 以下是一些优化PPO算法训练效率的方法：1. 并行计算……2. 剪枝技术……3. 数据预处理……4. 梯度裁剪……
#
# 问题在于：
#
# - 程序对每一个样本都调用好几次`predict`。`predict`每次都要搭建数据管道和进度报告，它是为大数组准备的。
# - 第一条是对的，程序里却没有做。（权重的）剪枝、预处理和梯度裁剪并不能使PPO的循环变快；梯度裁剪只是限制梯度的大小。
#   真正有用的是：成批的环境或文本、编译的循环、生成时的缓存、整块数组的小批量。
#
# ## 思路
#
# TensorFlow可以用三种方式运行同一段Python。**即时执行**：Python遇到一个运算就执行一个。**图**（`tf.function`）：Python只运行*一次*，把运算记下来，以后只运行图，不再经过Python。**XLA**（`jit_compile=True`）：图被编译成机器码，相邻的运算融合在一起。三者的数值在舍入误差内相同，时间却不同。
#
# 先看一个小循环，即优势的递推
#
# $$A_t=\delta_t+\gamma\lambda A_{t+1}$$
#
# 分别写成Python循环（从零实现），`tf.scan`（内部就是`tf.while_loop`），以及软件包的写法，即$\log_2 T$轮。表中列出图里的运算个数，第一次调用的时间（包括追踪和编译），以及之后一次调用的时间。时间取决于运行本章的机器，不作断言。

# %%
import sys
from pathlib import Path

sys.path.append(str(Path(globals().get("__file__", "notebook")).resolve().parents[1]))  # the folder of chapter.py

import random
import time

import keras
import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure

from ppo_keras import EnvironmentPPO, MLPActorCritic, PPOConfig
from ppo_keras.advantages import generalized_advantages
from ppo_keras.environments.cartpole import CartPole

from chapter import Chapter

ITERATIONS = 40  # timed ones; 400 for steadier times
chapter = Chapter("05_5_compiled_loops")
keras.utils.set_random_seed(0)


def seconds(function):
    """How long a call takes, its result waited for; and the result."""
    began = time.perf_counter()
    result = function()
    tf.nest.map_structure(np.asarray, result)
    return time.perf_counter() - began, result


B, T, discount, gae_lambda = 32, 128, 0.99, 0.95
rewards, values = tf.random.stateless_normal([2, B, T], [0, 0])
next_values, ended = tf.pad(values[:, 1:], [[0, 0], [0, 1]]), tf.zeros([B, T])
deltas = rewards + discount * next_values - values


def python_loop(deltas):
    """From scratch: a Python loop, one step after another."""
    advantages, later = [], tf.zeros_like(deltas[:, 0])
    for t in reversed(range(T)):
        later = deltas[:, t] + discount * gae_lambda * later
        advantages.insert(0, later)
    return tf.stack(advantages, axis=1)


def while_loop(deltas):
    """The same loop as an operation of the graph: Python sees one round only."""
    steps = tf.reverse(tf.transpose(deltas), [0])  # (T, B), the last first
    advantages = tf.scan(lambda later, delta: delta + discount * gae_lambda * later, steps, tf.zeros([B]))
    return tf.transpose(tf.reverse(advantages, [0]))


rounds = lambda deltas: generalized_advantages(rewards, values, next_values, ended, ended + 1, discount, gae_lambda)[0]
ways = {
    "Python, eager": (python_loop, None), "Python, tf.function": (python_loop, False), "tf.scan, tf.function": (while_loop, False),
    "tf.scan, XLA": (while_loop, True), "log2(T) rounds, XLA": (rounds, True),
}  # fmt: skip
expected, operations = python_loop(deltas), {}
np.testing.assert_allclose(expected, rounds(deltas), rtol=1e-4, atol=1e-5)  # the package's
print(chapter.text("way, operations in the graph, first call and later call in milliseconds:", "方式,图中运算数,第一次与之后调用的毫秒数:"))
for name, (function, jit) in ways.items():
    if jit is not None:
        function = tf.function(function, jit_compile=jit, autograph=False)
    (first, result), later = seconds(lambda: function(deltas)), min(seconds(lambda: function(deltas))[0] for _ in range(5))
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-5)
    if jit is not None:
        operations[name] = len(function.get_concrete_function(deltas).graph.get_operations())
    print(f"  {name:22s} {operations.get(name, '-'):>6} {1000 * first:9.1f} {1000 * later:9.2f}")
assert operations["Python, tf.function"] > 5 * operations["tf.scan, tf.function"]

# %% [markdown]
# 在`tf.function`里，Python循环会被展开：每一轮都变成图中的运算，代价由第一次调用承担，循环越长代价越大。
# `tf.while_loop`和`tf.scan`无论循环多少轮都只是一个运算。
#
# ## 同一个学习器，五种方式
#
# 现在看整个PPO：在CartPole中行动，计算优势，几轮小批量更新。怎样运行由`compile`决定：
#
# | 调用 | 含义 |
# |---|---|
# | `compile(run_eagerly=True)` | 逐行运行Python：用于调试 |
# | `compile(jit_compile=False)` | 每次迭代一个图 |
# | `compile(jit_compile=False, steps_per_execution=20)` | 一个图，`fit`每进入一次做二十次迭代 |
# | `compile(jit_compile=True)` | 每次迭代一个XLA程序 |
# | `EnvironmentPPO(..., iterations_per_call=20)` | 一个XLA程序里做二十次迭代 |
#
# 一次调用做二十次迭代，省去了Keras在两次调用之间做的事：回调、指标、取数据。Keras的`steps_per_execution`对任何模型都能做到；与XLA合用时，它的循环在XLA之外，`fit`报告的是最后一次迭代的指标。`iterations_per_call`是软件包的：循环在XLA之内，指标是各次迭代的平均。
# 凡是`fit`能看到每一次迭代的方式，第一次迭代的损失必须相同。


# %%
def learner(iterations_per_call=1, **settings):
    keras.utils.set_random_seed(0)
    policy = MLPActorCritic(CartPole.observation, CartPole.actions, width=32)
    agent = EnvironmentPPO(
        policy, CartPole(), PPOConfig(epochs=2, minibatches=2), environments=8, steps=16, iterations_per_call=iterations_per_call, seed=0
    )  # fmt: skip
    agent.compile(keras.optimizers.Adam(1e-3), **settings)
    return agent


settings = {"eager": dict(run_eagerly=True), "tf.function": dict(jit_compile=False)}
settings["tf.function, 20 a call"] = dict(jit_compile=False, steps_per_execution=20)
settings["XLA"] = dict(jit_compile=True)
settings["XLA, 20 a call"] = dict(jit_compile=True, iterations_per_call=20)
first_seconds, iteration_seconds, losses = {}, {}, {}
print(chapter.text("way, first call in seconds, iteration in milliseconds:", "方式,第一次调用的秒数,一次迭代的毫秒数:"))
for name, how in settings.items():
    agent, a_call = learner(**how), how.get("iterations_per_call", 1)
    first = how.get("steps_per_execution", 1)
    first_seconds[name], history = seconds(lambda: agent.fit(steps_per_epoch=first, verbose=0).history)
    losses[name] = history["loss/total"][0]
    calls = 1 if name == "eager" else ITERATIONS // a_call
    fit = lambda: seconds(lambda: agent.fit(steps_per_epoch=calls, verbose=0).history)[0]
    iteration_seconds[name] = min(fit() for _ in range(1 if name == "eager" else 4)) / (calls * a_call)
    print(f"  {name:22s} {first_seconds[name]:8.2f} {1000 * iteration_seconds[name]:9.2f}")
for name in ("tf.function", "XLA"):
    np.testing.assert_allclose(losses[name], losses["eager"], rtol=1e-3)

figure = Figure(figsize=(6.5, 3.0), layout="constrained")
axes = figure.add_subplot(xlabel=chapter.label("milliseconds an iteration (logarithmic)", "一次迭代的毫秒数(对数坐标)"), xscale="log")
names = [chapter.label("eager", "即时执行"), "tf.function", chapter.label("tf.function, 20 a call", "tf.function,每次20轮")]
names += ["XLA", chapter.label("XLA, 20 a call", "XLA,每次20轮")]
bars = axes.barh(names, [1000 * s for s in iteration_seconds.values()], color="C0", hatch="//", edgecolor="white")
axes.bar_label(bars, fmt="{:,.1f}", padding=3)
axes.invert_yaxis()
axes.margins(x=0.25)
chapter.show(figure, "iteration_seconds")
graph, xla = "tf.function, 20 a call", "XLA, 20 a call"
saved = iteration_seconds[graph] - iteration_seconds[xla]
if saved > 0:
    worth = max(0, round((first_seconds[xla] - first_seconds[graph]) / saved))
    said = chapter.text("20 a call, XLA's longer compilation pays after this many iterations:", "每次20轮时,XLA较长的编译经过这么多次迭代才划算:")
    print(said, worth)
else:
    print(chapter.text("20 a call, XLA is not faster than a graph here", "每次20轮时,XLA在这里不比图快"))

# %% [markdown]
# 怎样选择，看最后一行：训练比它短就用图，比它长就用XLA。即时执行是用来查看内部的。
#
# ## 陷阱一：重复追踪
#
# 每遇到一种新的参数，`tf.function`就追踪一次。形状和类型相同的张量算一种；每个Python数字都自成一种。下面的列表只在Python运行时变长，所以它数的是追踪次数。

# %%
traces = []


@tf.function
def discounted(reward, steps):
    traces.append((reward, steps))
    return reward * 0.99 ** tf.cast(steps, tf.float32)


def count(calls):
    traces.clear()
    for arguments in calls:
        discounted(*arguments)
    return len(traces)


one = tf.constant(1.0)
with_numbers = count([(one, steps) for steps in range(5)])
with_tensors = count([(one, tf.constant(steps)) for steps in range(5)])
with_shapes = count([(tf.ones([length]), tf.constant(1)) for length in range(1, 6)])
said = chapter.text("traces of five calls, with Python numbers, tensors, five lengths:", "五次调用的追踪次数,Python数字,张量,五种长度:")
print(said, with_numbers, with_tensors, with_shapes)
assert (with_numbers, with_tensors) == (5, 1) and with_shapes > 1

# %% [markdown]
# 对策：传张量；填充到同一长度（软件包对提示和回复都这样做）；步数计数器用变量，如`PPO.iteration`。在XLA下，每一种新参数都要重新编译。
#
# ## 陷阱二：被追踪函数里的Python
#
# Python只在追踪时运行，之后不再运行。`print`只打印一次；Python随机数只抽一次，然后固定在图里；列表里只得到一个符号张量，在外面毫无用处。


# %%
def fails(lines, error):
    """Runs lines that must raise `error`; prints the message."""
    try:
        lines()
    except error as caught:
        print(f"  {type(caught).__name__}: {' '.join(str(caught).split())[:80]}")
    else:
        raise AssertionError("these lines ran")


kept = []


@tf.function
def noisy(x):
    print(chapter.text("  Python is here", "  Python运行到这里"))
    kept.append(x)
    return x + random.random(), x + np.random.rand(), x + tf.random.uniform([])


results = [noisy(tf.constant(0.0)) for _ in range(3)]
for name, numbers in zip(("random.random", "np.random.rand", "tf.random.uniform"), zip(*results)):
    print(f"  {name:18s}", *[f"{number:.4f}" for number in numbers])
assert len({float(python) for python, _, _ in results}) == 1 and len({float(tensor) for _, _, tensor in results}) == 3
print(chapter.text("using what was kept in a list:", "使用列表里留下的张量:"))
fails(lambda: kept[0] + 1, TypeError)

# %% [markdown]
# 如果在`tf.function`里用NumPy采样，策略就会永远重复同样的“随机”动作。软件包用带明确种子的TensorFlow无状态随机数。
#
# ## 陷阱三：NumPy与Python的`if`
#
# NumPy无法计算一个还没有数值的张量；Python的`if`也不行（Keras的`train_step`和软件包都不使用会改写它的AutoGraph）。对策是TensorFlow的函数和`tf.where`。

# %%
print("np.exp(x)")
fails(lambda: tf.function(lambda x: np.exp(x), autograph=False)(one), NotImplementedError)
print("if x > 0")
fails(lambda: tf.function(lambda x: x if x > 0 else -x, autograph=False)(one), TypeError)
works = tf.function(lambda x: (tf.exp(x), tf.where(x > 0, x, -x)), jit_compile=True)
np.testing.assert_allclose(works(tf.constant(-2.0)), [np.exp(-2), 2], rtol=1e-5)
print("tf.exp, tf.where:", *[f"{number:.4f}" for number in works(tf.constant(-2.0))])

# %% [markdown]
# ## 混合精度
#
# bfloat16的范围与float32相同，精度只有8位；在支持它的GPU和TPU上，矩阵乘法更快。设`dtype="mixed_bfloat16"`时，权重仍是float32，各层用bfloat16计算，演员-评论家返回float32的logit和价值。
# 不需要缩放损失。float16才需要：设`dtype="mixed_float16"`时，`compile`会把优化器包进Keras的`LossScaleOptimizer`，学习器则相应地缩放损失。
#
# 陷阱在对数概率。PPO看的是概率比$\exp(\log\pi-\log\pi_{old})$，它离1只有百分之几。下面对同样的logit分别用bfloat16和float32做log-softmax，看概率比因此有多大误差。
# 所以：先把logit转成float32，*再*做`log_softmax`。

# %%
full, mixed = [MLPActorCritic((4,), 2, width=32, dtype=dtype) for dtype in ("float32", "mixed_bfloat16")]
mixed.set_weights(full.get_weights())
observations = tf.random.stateless_normal([8, 5, 4], [3, 3])
logits, values = mixed(observations)
print(chapter.text("weights, computation, logits:", "权重,计算,logit:"), mixed.weights[0].dtype, mixed.encoder.compute_dtype, logits.dtype.name)
difference = np.abs(values - full(observations)[1]).max()
print(chapter.text("largest difference of a value from float32:", "价值与float32的最大差别:"), f"{difference:.4f}")

many = tf.cast(2 * tf.random.stateless_normal([256, 1000], [4, 4]), tf.bfloat16)  # logits of a vocabulary of 1000
exact = tf.nn.log_softmax(tf.cast(many, tf.float64))
errors = {
    name: float(tf.reduce_max(tf.abs(tf.exp(tf.cast(tf.nn.log_softmax(tf.cast(many, name)), tf.float64) - exact) - 1))) for name in ("bfloat16", "float32")
}
for name, error in errors.items():
    print(chapter.text("largest error of a ratio, log-softmax in", "概率比的最大误差,log-softmax用"), f"{name}: {error:.1e}")
assert errors["bfloat16"] > 0.01 and errors["float32"] < 1e-4

# %% [markdown]
# bfloat16的误差与裁剪范围（0.2）同一数量级：PPO会从舍入误差中学习，并去裁剪它。
#
# ## 在GPU上
#
# - 保持`jit_compile=True`：每次迭代一个XLA程序，也意味着小内核之间不必等待Python。
# - GPU需要大批量：更多的`environments`，每次迭代更多的回复。CartPole上的小MLP很可能在CPU上更快：在两者上各运行一次本章就知道。
# - 从Ampere（2020年）起可用`dtype="mixed_bfloat16"`。在那里float32乘法默认用TF32；要与CPU比较数值，用`tf.config.experimental.enable_tensor_float_32_execution(False)`关掉它。
# - TensorFlow会占满显存，除非先调用`tf.config.experimental.set_memory_growth(gpu, True)`。
# - cuDNN的快速LSTM要求默认的激活函数和右填充的掩码；软件包用`tf.scan`逐步执行自己的单元，在任何设备上都能用XLA编译。
# - Python写的奖励在编译的各部分之间运行；TensorFlow写的奖励与其余部分一起编译。

# %%
gpus = tf.config.list_physical_devices("GPU")
print(chapter.text(f"GPUs that TensorFlow sees: {len(gpus)}", f"TensorFlow看到的GPU数:{len(gpus)}"))

# %% [markdown]
# ## 小结
#
# - Python只在追踪时运行，每种新参数一次；每次都要发生的事，必须是TensorFlow的运算。
# - 长循环应写成`tf.while_loop`或`tf.scan`；一次调用做多次迭代，可以省去Python的那一份时间。
# - 即时执行、图和XLA的数值相同：调试时即时执行，运行时编译。
# - 矩阵乘法用半精度；对数概率用float32。
#
# ## 练习
#
# 1. 一个新的单参数`tf.function`依次以1、2、2、`tf.constant(1)`、`tf.constant(2)`调用。一共追踪几次？
# 2. `scale = 2.0; f = tf.function(lambda x: scale * x)`。先以`tf.constant(1.0)`调用；然后`scale = 5.0`；再以`tf.constant(3.0)`调用。第二次调用的结果是多少？
# 3. 1.003在bfloat16中是多少？（在1附近：一个1加小数点后七位二进制，舍入到最近的数。）
#
# 答案在`tutorials/solutions/05_5_compiled_loops.py`。


# %%
@chapter.exercise
def number_of_traces():
    return None  # your number


@chapter.exercise
def second_call():
    return None  # your number


@chapter.exercise
def in_bfloat16():
    return None  # your number


traced = []
f = tf.function(lambda x: traced.append(x) or tf.cast(x, tf.float32))
for argument in (1, 2, 2, tf.constant(1), tf.constant(2)):
    f(argument)
chapter.check(number_of_traces(), len(traced))
scale = 2.0
f = tf.function(lambda x: scale * x)
f(tf.constant(1.0))
scale = 5.0
chapter.check(second_call(), f(tf.constant(3.0)))
chapter.check(in_bfloat16(), tf.cast(tf.cast(1.003, tf.bfloat16), tf.float32))
