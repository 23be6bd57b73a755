# %% [markdown]
# # 7. 工具：TensorBoard、调试器、性能分析器
#
# [目录](../README.md) · 上一章：[6.5 大语言模型：适配器，以及不花钱的参考模型](06_5_large_language_model.ipynb) · 下一章：[8. 展望：用小实验代替断言](08_outlook.ipynb) · [English](../en/07_tools.ipynb)
#
# **本章要学会**：TensorBoard的每一页里有什么，怎样分辨健康的与生病的运行；怎样找到无穷大从哪一行开始；以及一次迭代的时间花在哪里。
# 需要约1分钟。设`ITERATIONS = 60`，曲线就是真正运行的样子。
#
# ## 原文的段落
#
# > TensorFlow Debugger（TFDB）：TensorFlow官方的调试工具，支持变量监控、梯度计算、数据流图可视化等功能。
# > TensorBoard：TensorFlow官方的性能分析工具，支持日志记录、可视化、性能监控等功能。
#
# 问题在于：
#
# - 没有TFDB这个东西。调试器叫tfdbg；如今是`tf.debugging.experimental.enable_dump_debug_info`，它写的文件由*Debugger V2*页显示。它不计算梯度。
# - TensorBoard用来查看运行：数字、文本、图片、分布、设置。性能分析只是其中一页，还要另装一个包（`pip install -e ".[profile]"`）。
# - 原文哪里也没有用到它们：它的程序每轮打印两个损失，什么也不保存。
#
# ## 思路
#
# 用软件包自己的流程把一个小任务真正训练两次：提示的答案是它的第一个词。五分之一的答案用于有监督训练，其余由PPO从奖励中学习。第一次运行的学习率合理，第二次大25倍；注意力、权重、计算图和性能记录只在第一次运行中保留。TensorBoard读的就是它们留在磁盘上的东西。本章也来读，让你看到每一页背后是什么；然后对打印出的文件夹启动`tensorboard --logdir`，自己去看。

# %%
import sys
from pathlib import Path

sys.path.append(str(Path(globals().get("__file__", "notebook")).resolve().parents[1]))  # the folder of chapter.py

import collections
import contextlib
import csv
import io
import re
import struct
import warnings

import keras
import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.plugins.hparams import plugin_data_pb2
from tensorflow.python.debug.lib.debug_events_reader import DebugDataReader
from tensorflow.tsl.profiler.protobuf import xplane_pb2

from ppo_keras import EnvironmentPPO, GridWorld, MLPActorCritic, PPOConfig, load_pairs
from ppo_keras.config import KLConfig, LoggingConfig, NetworkConfig, OptimizerConfig, SupervisedConfig
from ppo_keras.runs.glossary import GLOSSARY
from ppo_keras.runs.folder import Run
from ppo_keras.tasks import answering
from ppo_keras.tasks.config import AnsweringConfig
from ppo_keras.runs.tracing import DebugDump

from chapter import Chapter

ITERATIONS = 16  # 60 for the real thing
chapter = Chapter("07_tools")
table = chapter.folder / "first_word.csv"
words = "red blue green black white gold".split()
with open(table, "w", newline="", encoding="utf-8") as file:
    csv.writer(file).writerows([("prompt", "answer"), *[(f"{a} {b} {c}", a) for a in words for b in words for c in words]])


class FirstWord:
    """A task of one's own: data, a reward of one response, measures of many."""

    name = "first-word"

    def load(self, minimum):
        return load_pairs(str(table), prompt_column="prompt", reference_column="answer", minimum=minimum)

    def reward(self, response, references):
        return float(response == references[0])

    def measures(self, responses, references):
        return {"right": sum(map(self.reward, responses, references)) / len(responses)}


def train(name, learning_rate, **more):
    """Runs the recipe quietly, with `more` of the settings of logging. Returns the summary and what the package's health checks said."""
    config = AnsweringConfig(
        run=name, runs_folder=str(chapter.folder / "runs"), overwrite=True, jit=False, iterations=ITERATIONS, batch_size=64,
        vocabulary_size=300, supervised_share=0.2, network=NetworkConfig(width=32, layers=1, heads=2, dropout=0.0),
        supervised=SupervisedConfig(supervised_epochs=15, supervised_batch_size=16, supervised_learning_rate=1e-2),
        optimizer=OptimizerConfig(learning_rate, schedule="constant"), kl=KLConfig(kl_coefficient=0.02),
        logging=LoggingConfig(log_every=4, **more),
    )  # fmt: skip
    with warnings.catch_warnings(record=True) as said, contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("always")
        summary = answering.train(config, FirstWord())
    return summary, [str(one.message) for one in said if "said once" in str(one.message)]


summaries, advice = {}, {}
everything = dict(attention_maps=True, weight_histograms=True, graph=True, profile="6:7")
for name, rate, more in (("healthy", 2e-3, everything), ("ill", 5e-2, {})):
    summaries[name], advice[name] = train(name, rate, **more)
    right = [round(summaries[name][f"right_{stage}"], 2) for stage in ("before", "after")]
    print(f"{name:8s}", chapter.text("right before and after PPO:", "PPO之前和之后的正确率:"), *right)
print("tensorboard --logdir", (chapter.folder / "runs").relative_to(chapter.root))
assert summaries["healthy"]["right_after"] > summaries["healthy"]["right_before"] + 0.2 > summaries["ill"]["right_after"]

# %% [markdown]
# ## 磁盘上有什么
#
# 运行文件夹里有若干`events.out.tfevents.*`文件。每个文件是一串记录：长度（8字节）、校验和（4字节）、一个`Event`、校验和（4字节）。先用几行代码从零读出，再用TensorBoard自己的读取器，最后读软件包的`metrics.csv`。三者必须一致。


# %%
def events_in(folder):
    """Every `Event` of a folder, in the order of the files."""
    for path in sorted(folder.glob("events.out.tfevents.*")):
        content, at = path.read_bytes(), 0
        while at < len(content):
            (length,) = struct.unpack_from("<Q", content, at)
            yield Event.FromString(content[at + 12 : at + 12 + length])
            at += 12 + length + 4


def reader_of(name):
    reader = EventAccumulator(str(chapter.folder / "runs" / name), size_guidance={"tensors": 0})  # 0: keep all
    return reader.Reload()


readers = {name: reader_of(name) for name in summaries}
curve = lambda name, tag: np.array([float(tf.make_ndarray(one.tensor_proto)) for one in readers[name].Tensors(tag)])
tag = "objective/scores"
plain = [float(tf.make_ndarray(v.tensor)) for e in events_in(chapter.folder / "runs" / "healthy") for v in e.summary.value if v.tag == tag]
with open(chapter.folder / "runs" / "healthy" / "metrics.csv", encoding="utf-8") as file:
    listed = [float(row[tag]) for row in csv.DictReader(file)]
np.testing.assert_allclose(plain, curve("healthy", tag), rtol=0)
np.testing.assert_allclose(plain, listed, rtol=1e-6)
print(tag, chapter.text("read in three ways:", "用三种方式读出:"), np.round(plain, 2))

# %% [markdown]
# 每个标签（tag）都注明由哪个插件、也就是哪一页来显示。

# %%
reader, tabs = readers["healthy"], collections.defaultdict(list)
for tag in reader.Tags()["tensors"]:
    tabs[reader.SummaryMetadata(tag).plugin_data.plugin_name].append(tag)
for tab in sorted(tabs):
    print(f"{tab:15s} {len(tabs[tab]):3d} {chapter.text('tags, such as', '个标签,例如')} {', '.join(sorted(tabs[tab])[:3])}")
print("graphs         ", chapter.text("nodes:", "节点数:"), len(reader.Graph().node))
profiles = list((chapter.folder / "runs" / "healthy" / "plugins" / "profile").glob("*/*.xplane.pb"))
print("profile        ", [path.name.split(".", 1)[1] for path in profiles])
assert {"scalars", "custom_scalars", "text", "images", "histograms", "hparams"} <= set(tabs) and len(profiles) == 1

# %% [markdown]
# | 页 | 这里存了什么 | 怎么读 |
# |---|---|---|
# | Custom Scalars | 九张图的布局，每次运行都相同 | 从这里看起：奖励上升，KL平稳，裁剪比例低于0.3，熵缓慢下降 |
# | Scalars | 全部指标，各附含义；最后是`final/*` | README的术语表给出每个指标的健康范围 |
# | Text | `responses/held_out`：提示、PPO之前与现在的回复 | 一定要读！得分上升而文本变差，就是奖励被钻了空子 |
# | Images | `responses/tokens_*`：逐词元的KL、优势、价值；`attention/policy` | 策略在哪里变了，什么受了表扬 |
# | Histograms | `batch/ratio`、`batch/advantages`等，以及权重和梯度 | 概率比应接近1；梯度既不为0也不巨大 |
# | HParams | 所有运行的设置与最终数字 | 按最终数字排序：是哪个设置起了作用？ |
# | Graphs | 更新步骤的计算图 | 按作用域看：编译的步骤里有什么 |
# | Profile | `profile`指定的那几次迭代的时间 | 见最后一节 |
# | Debugger V2 | 要求时才写（`debug_dump`） | 见“埋下的错误”一节 |
#
# Text页里写下的内容：

# %%
(held_out,) = tabs["text"]
cells = tf.make_ndarray(readers["healthy"].Tensors(held_out)[-1].tensor_proto)  # (rows, columns) of Markdown
for row in cells[:4]:
    print(" | ".join(cell.decode().replace("\\", "").replace("*", "") for cell in row))

start = next(tag for tag in tabs["hparams"] if "session_start" in tag)
content = plugin_data_pb2.HParamsPluginData.FromString(reader.SummaryMetadata(start).plugin_data.content)
settings = {name: value.number_value or value.string_value for name, value in content.session_start_info.hparams.items()}
print("HParams:", {name: settings[name] for name in ("task", "model", "optimizer.learning_rate", "ppo.clip_ratio")})
assert np.isclose(settings["optimizer.learning_rate"], 2e-3)

figure = Figure(figsize=(9, 3), layout="constrained")
for axes, tag in zip(figure.subplots(1, 2), ("responses/tokens_1", "attention/policy")):
    width, height, png = tf.make_ndarray(reader.Tensors(tag)[-1].tensor_proto)[:3]
    axes.imshow(tf.io.decode_png(png).numpy())
    axes.set(title=tag, xticks=[], yticks=[])
chapter.show(figure, "images_tab")

# %% [markdown]
# ## 健康与生病
#
# 下面是两次运行前半程的均值，旁边是软件包术语表给出的健康范围：病态要在前半程看。到了后半程，它可能已经只会给出一个答案（不论对错），熵接近0，什么都不再变化。
# `objective/kl`是与参考模型（即PPO之前的策略）的距离，`policy/approx_kl`是一次迭代走了多远。图中有两个范围画成灰带。它们只是经验之谈：健康的运行也可能碰到边缘，生病的则远在其外。

# %%
LOOK = ("objective/scores", "objective/kl", "policy/approx_kl", "policy/clip_fraction", "policy/entropy", "optimizer/gradient_norm")
meaning = {metric.name: metric.healthy for metric in GLOSSARY}
for tag in LOOK:
    early = {name: curve(name, tag)[: ITERATIONS // 2].mean() for name in readers}
    print(f"{tag:24s} healthy {early['healthy']:7.3f}  ill {early['ill']:7.3f}   {chapter.text('should be', '应当')}: {meaning[tag]}")
for name, lines in advice.items():
    print(name, chapter.text("- the package said:", "- 软件包的提醒:"), lines or "-")
early = lambda name, tag: curve(name, tag)[: ITERATIONS // 2].mean()
late = lambda name, tag: curve(name, tag)[ITERATIONS // 2 :].mean()
assert early("ill", "policy/clip_fraction") > 0.45 > early("healthy", "policy/clip_fraction")
assert early("ill", "policy/approx_kl") > 3 * early("healthy", "policy/approx_kl")
assert late("healthy", "objective/scores") > late("ill", "objective/scores") + 0.2

SHOWN = {"healthy": chapter.label("healthy", "健康"), "ill": chapter.label("ill", "生病")}
figure = Figure(figsize=(9, 4.6), layout="constrained")
for axes, tag in zip(figure.subplots(2, 3).flat, LOOK):
    for name, style in (("healthy", "o-"), ("ill", "x--")):
        axes.plot(range(1, ITERATIONS + 1), curve(name, tag), style, markersize=3, label=SHOWN[name])
    axes.set_title(tag, fontsize=9)
    axes.grid(alpha=0.3)
    if tag == "policy/clip_fraction":
        axes.axhspan(0.02, 0.3, color="0.9", zorder=0)  # the healthy range of the glossary
    if tag == "policy/approx_kl":
        axes.axhspan(0.001, 0.05, color="0.9", zorder=0)
        axes.set_yscale("log")
for axes in figure.axes[3:]:
    axes.set_xlabel(chapter.label("iteration", "迭代"))
figure.axes[0].legend()
chapter.show(figure, "healthy_and_ill")

# %% [markdown]
# 这些曲线里没有损失：PPO的损失没有可期待的趋势。一张直方图也能看出同样的事，即第一次写直方图的那次迭代之后，每个词元的概率比（新概率除以旧概率，灰带是裁剪范围）：健康的运行里大多留在1附近、裁剪范围之内，生病的运行里大多跑了出去。

# %%
figure = Figure(figsize=(8, 2.8), layout="constrained")
outside = {}
for axes, name in zip(figure.subplots(1, 2, sharey=True), readers):
    buckets = tf.make_ndarray(readers[name].Tensors("batch/ratio")[0].tensor_proto)  # left, right, count
    left, right, counts = buckets.T
    middle = (left + right) / 2
    outside[name] = counts[(middle < 0.8) | (middle > 1.2)].sum() / counts.sum()
    axes.hist(np.log10(np.clip(middle, 1e-2, 1e2)), weights=counts / counts.sum(), bins=np.linspace(-2.1, 2.1, 43), color="C0")
    axes.axvspan(np.log10(0.8), np.log10(1.2), color="0.85", zorder=0)
    axes.set(title=SHOWN[name], xlabel=chapter.label("log10 of the ratio", "概率比的log10"))
figure.axes[0].set_ylabel(chapter.label("share of tokens", "词元比例"))
chapter.show(figure, "ratio")
print(
    chapter.text("tokens outside the clip, by the histogram:", "由直方图估计的裁剪范围之外的词元比例:"),
    {name: f"{share:.0%}" for name, share in outside.items()},
)
assert outside["ill"] > max(0.5, outside["healthy"] + 0.2)

# %% [markdown]
# ## 埋下的错误与调试器
#
# 原文对sigmoid取对数。把它埋进一个学习器：某个动作变得极不可能（偏置为-200），其sigmoid为0，对数为$-\infty$。你看到的现象是：


# %%
class Planted(EnvironmentPPO):
    def behaviour(self, logits, action_masks=()):
        return tf.math.log(tf.sigmoid(super().behaviour(logits, action_masks)))  # the bug


def one_iteration(kind, name):
    """One iteration of a learner under the debugger. Returns its metrics."""
    keras.utils.set_random_seed(0)
    world = GridWorld.article()
    policy = MLPActorCritic(world.observation, world.actions, width=8)
    policy.policy_head.bias.assign([0.0, 0.0, 0.0, -200.0])
    learner = kind(policy, world, PPOConfig(epochs=1, minibatches=1), environments=2, steps=4)
    learner.compile(keras.optimizers.Adam(1e-3), jit_compile=False)  # XLA would fuse away what we look for
    folder = chapter.folder / "debugger" / name
    for old in folder.glob("tfdbg_events*"):
        old.unlink()
    metrics = learner.fit(verbose=0, callbacks=[DebugDump(Run(folder))]).history
    return {tag: float(values[-1]) for tag, values in metrics.items()}


metrics = one_iteration(Planted, "planted")
print(chapter.text("metrics that are not finite:", "非有限的指标:"), [tag for tag, value in metrics.items() if not np.isfinite(value)])
assert not np.isfinite(metrics["optimizer/gradient_norm"])

# %% [markdown]
# 有一个指标不是有限的数，而它在链条的末端：原因在许多个运算之前。转储按顺序记下这一步的每个张量：类型、形状，以及其中有多少个$-\infty$、$\infty$和NaN（`FULL_HEALTH`）。第一个坏张量指出它的运算，运算又指出创建它的Python代码行。


# %%
def first_bad(name):
    """(number of bad tensors, number of all, operation, [-inf, inf, NaN], functions that led to it) of a dump."""
    with DebugDataReader(str(chapter.folder / "debugger" / name)) as reader:
        reader.update()
        traces = reader.graph_execution_traces()
        bad = [trace for trace in traces if trace.debug_tensor_value and sum(trace.debug_tensor_value[5:8])]
        if not bad:
            return 0, len(traces), None, None, None
        made = reader.graph_by_id(bad[0].graph_id).get_op_creation_digest(bad[0].op_name)
        _, frames = reader.read_graph_op_creation_stack_trace(made)
        functions = [function for file, line, function, *_ in frames if "site-packages" not in file]
        return len(bad), len(traces), bad[0].op_type, [int(x) for x in bad[0].debug_tensor_value[5:8]], functions


count, of_all, operation, health, functions = first_bad("planted")
print(chapter.text("bad tensors:", "坏张量:"), count, chapter.text("of", "/"), of_all)
print(chapter.text("the first:", "第一个:"), operation, "[-inf, inf, NaN] =", health)
print(" > ".join(functions[-6:]))
assert operation == "Log" and functions[-1] == "behaviour" and health[0] > 0

one_iteration(EnvironmentPPO, "right")  # the same policy, without the bug
count = first_bad("right")[0]
print(chapter.text("without the bug:", "没有这个错误:"), count, chapter.text("bad tensors", "个坏张量"))
assert count == 0

# %% [markdown]
# 命令行用`--debug-dump`写出同样的东西，对那一次运行启动`tensorboard --logdir`，Debugger V2页就会显示：左边是警报，中间是运算，下面是源代码。
# 它很慢，因为每个张量都要统计。初步检查有个更便宜的办法：遇到第一个无穷大就停下，并说出它出现在哪一行：


# %%
def articles_log_probability(x):
    return tf.math.log(tf.sigmoid(x))


tf.debugging.enable_check_numerics()
try:
    tf.function(articles_log_probability, autograph=False)(tf.constant([0.0, -200.0]))
    message = ""
except tf.errors.InvalidArgumentError as error:
    message = error.message
tf.debugging.disable_check_numerics()
detected = next(line.strip() for line in message.splitlines() if "Infinity" in line)
of_user = re.findall(r"\(L(\d+)\) (\w+)\n ->", message)  # marked as the user's own code: line, function
print(detected, of_user[-1])
assert '"Log"' in detected and of_user[-1][1] == "articles_log_probability"

# %% [markdown]
# ## 时间花在哪里
#
# 健康的那次运行，第6和第7次迭代做了性能记录。文件里是一个个事件：名称、开始、长度，以皮秒计；Profile页把它们画出来。奖励用Python写时，一次迭代有三个部分是编译的，各有名称（见`LanguagePPO`）：

# %%
space = xplane_pb2.XSpace.FromString(profiles[0].read_bytes())
plane = next(plane for plane in space.planes if plane.name == "/host:CPU")
durations, kinds = collections.defaultdict(list), collections.Counter()
for line in plane.lines:
    for event in line.events:
        name, milliseconds = plane.event_metadata[event.metadata_id].name, event.duration_ps / 1e9
        durations[name].append(milliseconds)
        if line.name != "python" and "/" in name and ":" in name:  # operations inside a graph are called path:Kind
            kinds[name.rsplit(":", 1)[1].removeprefix("_Mkl")] += milliseconds
steps = durations["train"]  # the marked iterations
parts = {part: sum(durations[part]) / len(steps) for part in ("rollout", "assemble", "improve")}
parts["rest"] = sum(steps) / len(steps) - sum(parts.values())  # the reward in Python, and Keras's own work
for part, milliseconds in parts.items():
    print(f"{part:9s} {milliseconds:8.1f} ms {milliseconds / (sum(steps) / len(steps)):5.0%}")
print(chapter.text("the operations that take longest (ms):", "最费时的运算(毫秒):"), {kind: round(total, 1) for kind, total in kinds.most_common(5)})
assert len(steps) == 2 and parts["improve"] > parts["rollout"] > 0 and parts["assemble"] > 0

figure = Figure(figsize=(7, 2.2), layout="constrained")
axes = figure.add_subplot(xlabel=chapter.label("ms of an iteration", "每次迭代的毫秒数"), yticks=[])
labels = {
    "rollout": chapter.label("write responses", "生成回复"),
    "assemble": chapter.label("rewards, KL", "奖励与KL"),
    "improve": chapter.label("epochs of updates", "多轮更新"),
    "rest": "Python",
}
begin = 0.0
for (part, milliseconds), hatch in zip(parts.items(), ("", "///", "...", "xx")):
    axes.barh(0, milliseconds, left=begin, label=f"{part}: {labels[part]}", hatch=hatch, edgecolor="white")
    begin += milliseconds
axes.legend(ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1.0))
chapter.show(figure, "time")

# %% [markdown]
# 更新要把每个词元正向和反向读`epochs`遍。回复像这里这样短时，它因此是编译的部分里最费时的；回复很长时，生成可能更费时。其余是Python：奖励函数和Keras本身。要从最费时的部分入手；对更新来说就是减少轮数，加大小批量，用XLA。`ppo-keras bench text`对更大的模型打印同样的划分，并给出占机器峰值的比例。
#
# ## 小结
#
# - TensorBoard显示运行写下的东西，每个标签属于一页。先看奖励、KL、裁剪比例、熵，然后读文本。
# - 病态会显现在概率比、KL和裁剪比例里；若一直如此，软件包会提醒。
# - NaN要在它开始的地方找，而不是在被发现的地方：转储，第一个坏张量，它的代码行。
# - 先测量再优化：性能记录指出费时的部分。
#
# ## 练习
#
# 1. 一个100字节的`Event`在文件里占多少字节？
# 2. 对张量`log([0, 1]) * [0, 1]`，`FULL_HEALTH`报告的三个数（$-\infty$、$\infty$、NaN的个数）是多少？
# 3. 一个词元的对数概率从-2.0升到-1.7，概率比是多少？（裁剪为0.2时，它在范围之外吗？）
#
# 答案在`tutorials/solutions/07_tools.py`。


# %%
@chapter.exercise
def bytes_of_a_record():
    return None  # your number


@chapter.exercise
def health_of_the_product():
    return None  # your three numbers, such as [0, 0, 0]


@chapter.exercise
def ratio_of_a_token():
    return None  # your number


chapter.check(bytes_of_a_record(), len(struct.pack("<QI", 100, 0)) + 100 + len(struct.pack("<I", 0)))
with np.errstate(all="ignore"):
    product = np.log([0.0, 1.0]) * [0.0, 1.0]
chapter.check(health_of_the_product(), [np.isneginf(product).sum(), np.isposinf(product).sum(), np.isnan(product).sum()])
chapter.check(ratio_of_a_token(), np.exp(-1.7 - -2.0))
