# %% [markdown]
# # 7. Tools: TensorBoard, the debugger, the profiler
#
# [Overview](../README.md) · before: [6.5 A large language model: adapters, and a reference for nothing](06_5_large_language_model.ipynb) · next: [8. Outlook: small experiments instead of claims](08_outlook.ipynb) · [中文](../zh/07_tools.ipynb)
#
# **You will learn** what each tab of TensorBoard holds and how to tell a healthy run from an ill one; to find the line in which an
# infinity begins; and to see where the time of an iteration goes. Minutes: about 1. With `ITERATIONS = 60` the curves are those of a
# real run.
#
# ## The article's passage
#
# > TensorFlow Debugger（TFDB）：TensorFlow官方的调试工具，支持变量监控、梯度计算、数据流图可视化等功能。
# > TensorBoard：TensorFlow官方的性能分析工具，支持日志记录、可视化、性能监控等功能。
#
# ("TFDB" watches variables, computes gradients, draws graphs; TensorBoard is a tool for measuring performance, with logs, plots and
# monitoring.) What is wrong with it:
#
# - There is no TFDB. The debugger was tfdbg; today it is `tf.debugging.experimental.enable_dump_debug_info`, whose files the tab
#   *Debugger V2* shows. It computes no gradients.
# - TensorBoard is for looking at runs: numbers, texts, pictures, distributions, settings. Profiling is one tab, and needs a package of its
#   own (`pip install -e ".[profile]"`).
# - Neither is used anywhere in the article: its program prints two losses an epoch and keeps nothing.
#
# ## The idea
#
# Two real runs of a small task, by the package's own recipe: the answer to a prompt is its first word. A fifth of the
# answers is shown in supervised training, PPO is to learn the rest from reward. The first run has a sensible learning rate, the second
# one that is 25 times as large; attention, weights, the graph and the profile are kept of the first only. What they leave on the disk is what TensorBoard reads. This chapter reads it as well, so that you see
# what is behind each tab; then start
# `tensorboard --logdir` on the folder that is printed, and look.

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
# ## What lies on the disk
#
# A run folder holds files `events.out.tfevents.*`. Each is a row of records: the length (8 bytes), a checksum (4), an `Event`, a checksum
# (4). From scratch, in a few lines; then TensorBoard's own reader; then the package's `metrics.csv`. All three must say the same.


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
# Each tag carries a note which plugin, that is, which tab shows it.

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
# | tab | what it holds here | how to read it |
# |---|---|---|
# | Custom Scalars | the layout of nine charts, the same for every run | start here: reward up, KL level, clip fraction below 0.3, entropy falling slowly |
# | Scalars | every metric, with its meaning; `final/*` at the end | the glossary in README has the healthy range of each |
# | Text | `responses/held_out`: prompts, responses before and now | read them! A rising score with worse texts is a gamed reward |
# | Images | `responses/tokens_*`: KL, advantage and value, token by token; `attention/policy` | where the policy moved, and what was praised |
# | Histograms | `batch/ratio`, `batch/advantages`, ..., weights and gradients | ratios close to 1; gradients neither 0 nor huge |
# | HParams | settings and final numbers of all runs | sort by a final number; which setting did it? |
# | Graphs | the graph of the update | scopes: what runs inside the compiled step |
# | Profile | time of the iterations named by `profile` | see the last section |
# | Debugger V2 | written on request (`debug_dump`) | see the section on the planted bug |
#
# The Text tab, as it was written:

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
# ## Healthy against ill
#
# Means over the first half of each run, beside the healthy range of the package's glossary: there the ill run shows. Later it may have
# settled on one answer, right or wrong; its entropy is then near 0 and nothing moves any more. `objective/kl` is the distance from the
# reference model, that is, from the policy before PPO; `policy/approx_kl` is how far one iteration moved. In the figure two of the
# ranges are grey bands. They are rules of thumb: a healthy run may touch their edge, an ill one is far outside.

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
# The loss is not among these curves: PPO's loss has no trend to expect. The same can be seen in one histogram, the ratio of every token
# after the first iteration that wrote one (new probability over old; the grey band is the clip): in the healthy run most of them
# stay near 1, inside the clip; in the ill run most have left it.

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
# ## A planted bug, and the debugger
#
# The article takes the logarithm of a sigmoid. Planted in a learner: one action has become very improbable (its bias is -200), the sigmoid of
# that is 0, its logarithm is $-\infty$. What you notice is this:


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
# One metric is not finite, and it is the last in the chain: the cause lies many operations earlier. The dump holds, for every tensor of
# the step, in order: type, shape, and how many of its elements were $-\infty$, $\infty$ and NaN (`FULL_HEALTH`). The first bad one names its
# operation, and that one the lines of Python that made it.


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
# The command line writes the same with `--debug-dump`, and `tensorboard --logdir` of that one run shows it in the tab Debugger V2: alerts on the
# left, the operation in the middle, its source below. It is slow: every tensor is summarised. For a first look there is a cheaper way,
# which stops at the first infinity and says in which line it arose:


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
# ## Where the time goes
#
# Iterations 6 and 7 of the healthy run were profiled. The file holds events with a name, a beginning and a length, in picoseconds; the tab
# Profile draws them. Of an iteration with a reward in Python three parts are compiled, each under its name (see `LanguagePPO`):

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
# The update reads every token `epochs` times forwards and backwards. That is why, with responses as short as these, it is the largest
# of the compiled parts; with long ones the writing can be. The rest is Python: the reward, and Keras itself. Begin with the part that
# costs most. For the update that means fewer epochs, a larger minibatch, XLA. `ppo-keras bench text` prints the same split for a larger
# model, with the share of the machine's peak.
#
# ## Summary
#
# - TensorBoard shows what a run wrote; each tag belongs to a tab. Look first at reward, KL, clip fraction, entropy; then read the texts.
# - An ill run shows in its ratios, KL and clip fraction; where that lasts, the package says so.
# - A NaN is found where it begins, not where it is noticed: dump, first bad tensor, its line.
# - Measure before you optimise: the profile names the part that costs.
#
# ## Exercises
#
# 1. How many bytes does an `Event` of 100 bytes take in a file?
# 2. Which three numbers (of $-\infty$, $\infty$, NaN) does `FULL_HEALTH` report of the tensor `log([0, 1]) * [0, 1]`?
# 3. The log-probability of a token rises from -2.0 to -1.7. What is its ratio? (With a clip of 0.2: is it outside?)
#
# The solutions are in `tutorials/solutions/07_tools.py`.


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
