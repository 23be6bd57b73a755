# %% [markdown]
# # 5.5 Compiled loops
#
# [Overview](../README.md) · before: [5.4 PPO with a decoder Transformer](05_4_transformer_ppo.ipynb) · next: [6.1 Text generation, and how a reward is gamed](06_1_text_generation.ipynb) · [中文](../zh/05_5_compiled_loops.ipynb)
#
# **You will learn** what eager execution, `tf.function` and XLA do with the same learner, and how long each takes on your
# machine; why several iterations in one call help; and the traps: retracing, Python and NumPy inside a traced function,
# half precision in the wrong place. Minutes: about 1.
#
# ## The article's passage
#
# > `for i in range(len(states)): action_probs = policy_net.predict(states[i])` …
# > 以下是一些优化PPO算法训练效率的方法：1. 并行计算……2. 剪枝技术……3. 数据预处理……4. 梯度裁剪……
#
# (*"Some ways to make PPO train efficiently: parallel computation, pruning, preprocessing, gradient clipping."*) What is
# wrong with it:
#
# - The program calls `predict` several times for every single sample. `predict` sets up a data pipeline and progress
#   reports for each call; it is made for large arrays.
# - The first way is right, but the program has none of it. Pruning (of weights), preprocessing and gradient clipping do not
#   make PPO's loop fast; clipping bounds a gradient. What does: batches of environments or texts, a compiled loop, a cache in
#   generation, minibatches of whole arrays.
#
# ## The idea
#
# TensorFlow runs the same Python in three ways. **Eager**: each operation as Python meets it. **Graph** (`tf.function`):
# Python runs *once*, to write the operations down; afterwards the graph runs without Python. **XLA** (`jit_compile=True`):
# the graph becomes machine code in which neighbouring operations are fused. The numbers are the same up to rounding; the
# time is not.
#
# First one small loop, the recursion of the advantages,
#
# $$A_t=\delta_t+\gamma\lambda A_{t+1}$$
#
# as a Python loop (from scratch), as a `tf.scan` (which is a `tf.while_loop` inside), and as the package has it, in $\log_2
# T$ rounds. The table shows the operations in the graph, the time of the first call, which traces and compiles, and of a
# later one. Times are of the machine on which this runs; none is asserted.

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
# A Python loop inside `tf.function` is written out: each of its rounds becomes operations of the graph, for which the first
# call pays, and the more the longer the loop is. `tf.while_loop` and `tf.scan` are one operation, however many rounds they
# make.
#
# ## The learner, five ways
#
# Now all of PPO: acting in CartPole, advantages, epochs of minibatches. `compile` decides how it runs:
#
# | call | what happens |
# |---|---|
# | `compile(run_eagerly=True)` | Python, line by line: for debugging |
# | `compile(jit_compile=False)` | one graph an iteration |
# | `compile(jit_compile=False, steps_per_execution=20)` | one graph that `fit` enters once for twenty iterations |
# | `compile(jit_compile=True)` | one XLA program an iteration |
# | `EnvironmentPPO(..., iterations_per_call=20)` | twenty iterations in one XLA program |
#
# Twenty iterations a call spare what Keras does between two calls: callbacks, metrics, fetching data. Keras's
# `steps_per_execution` does it for any model; with XLA its loop stays outside of XLA, and the metrics that `fit` reports are
# those of the last iteration. `iterations_per_call` is the package's: the loop is inside, and the metrics are means. Where
# `fit` sees every iteration, the first must give the same loss, whichever way.


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
# The last line says what to choose: graphs for a run that is shorter, XLA for one that is longer. Eager execution is for
# looking inside.
#
# ## Trap 1: retracing
#
# `tf.function` traces once for every new kind of arguments. Tensors of one shape and dtype are one kind; every Python
# number is a kind of its own. The list below grows only while Python runs, so it counts traces.

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
# The remedies: pass tensors; pad to one length (the package pads prompts and responses); give a step counter as a variable,
# as `PPO.iteration` is. Under XLA each new kind is a new compilation.
#
# ## Trap 2: Python inside a traced function
#
# Python runs while tracing, never again. A `print` prints once; a Python random number is drawn once and is frozen into the
# graph; a list gets one symbolic tensor, which is of no use outside.


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
# A policy that samples with NumPy inside `tf.function` would repeat the same "random" actions for ever. The package draws
# from stateless TensorFlow numbers with explicit seeds.
#
# ## Trap 3: NumPy, and Python's `if`
#
# NumPy cannot compute with a tensor that has no number yet; Python's `if` cannot either (Keras's `train_step` and the
# package run without AutoGraph, which would rewrite it). The remedies are TensorFlow's functions and `tf.where`.

# %%
print("np.exp(x)")
fails(lambda: tf.function(lambda x: np.exp(x), autograph=False)(one), NotImplementedError)
print("if x > 0")
fails(lambda: tf.function(lambda x: x if x > 0 else -x, autograph=False)(one), TypeError)
works = tf.function(lambda x: (tf.exp(x), tf.where(x > 0, x, -x)), jit_compile=True)
np.testing.assert_allclose(works(tf.constant(-2.0)), [np.exp(-2), 2], rtol=1e-5)
print("tf.exp, tf.where:", *[f"{number:.4f}" for number in works(tf.constant(-2.0))])

# %% [markdown]
# ## Mixed precision
#
# bfloat16 has the range of float32 with 8 bits of precision; matrix products in it are faster on GPUs and TPUs that support
# it. With `dtype="mixed_bfloat16"` weights stay float32, layers compute in bfloat16, and the actor-critic returns float32
# logits and values. No scaling of the loss is needed. float16 needs it: with `dtype="mixed_float16"` `compile` wraps the
# optimizer in Keras's `LossScaleOptimizer`, and the learner scales the loss for it.
#
# The trap is the log-probability. PPO looks at ratios $\exp(\log\pi-\log\pi_{old})$ a few hundredths from 1. Below, the
# same logits: log-softmax in bfloat16 against float32, and the error of the ratio that follows. Therefore: logits to
# float32, *then* `log_softmax`.

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
# The error in bfloat16 is of the order of the clip range (0.2): PPO would learn from rounding, and clip it.
#
# ## On a GPU
#
# - Keep `jit_compile=True`: one XLA program an iteration also means no waiting for Python between small kernels.
# - A GPU wants large batches: more `environments`, more responses an iteration. A small MLP on CartPole may well be faster on
#   a CPU: run this chapter on both.
# - `dtype="mixed_bfloat16"` from Ampere (2020) on. float32 products use TF32 there by default; to compare numbers with a
#   CPU, switch it off with `tf.config.experimental.enable_tensor_float_32_execution(False)`.
# - TensorFlow takes all of the memory unless `tf.config.experimental.set_memory_growth(gpu, True)` comes first.
# - cuDNN's fast LSTM needs the default activations and right-padded masks; the package scans its own cells, which XLA
#   compiles anywhere.
# - Rewards in Python run between the compiled parts; a reward in TensorFlow is compiled with the rest.

# %%
gpus = tf.config.list_physical_devices("GPU")
print(chapter.text(f"GPUs that TensorFlow sees: {len(gpus)}", f"TensorFlow看到的GPU数:{len(gpus)}"))

# %% [markdown]
# ## Summary
#
# - Python runs while tracing, once for every new kind of arguments; what must happen each time must be a TensorFlow
#   operation.
# - Loops that are long belong in `tf.while_loop` or `tf.scan`; several iterations in one call spare Python's share.
# - Eager, graph and XLA give the same numbers: debug eagerly, run compiled.
# - Half precision for matrix products; float32 for log-probabilities.
#
# ## Exercises
#
# 1. A fresh `tf.function` of one argument is called with 1, 2, 2, `tf.constant(1)`, `tf.constant(2)`. How often is it
#    traced?
# 2. `scale = 2.0; f = tf.function(lambda x: scale * x)`. It is called with `tf.constant(1.0)`; then `scale = 5.0`; then it
#    is called with `tf.constant(3.0)`. What does the second call give?
# 3. What is 1.003 in bfloat16 (near 1: a 1 and seven binary digits after the point, rounded to the nearest)?
#
# The solutions are in `tutorials/solutions/05_5_compiled_loops.py`.


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
