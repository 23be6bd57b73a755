# %% [markdown]
# # 5.1 环境搭建
#
# [目录](../README.md) · 上一章：[4.3 四个状态的网格世界](04_3_gridworld.ipynb) · 下一章：[5.2 改正原文的程序](05_2_the_article_corrected.ipynb) · [English](../en/05_1_setup.ipynb)
#
# **本章要学会**：安装什么，怎样检查：版本、后端、GPU（没有也行）、XLA；一次训练怎样进入TensorBoard；以及这个仓库里各种东西在哪里。需要不到1分钟。
#
# ## 原文的段落
#
# > 在开始项目之前，需要确保Python和TensorFlow环境已搭建好。以下是安装步骤：1. 安装Python 3.6或更高版本；2. 安装TensorFlow：`pip install tensorflow`
#
# 问题在于：
#
# - Python 3.6自2021年底起不再更新，今天的TensorFlow和Keras没有它的安装包。“或更高版本”也不对：最新的Python对TensorFlow来说往往太新。
# - 没有写任何版本。Keras的版本与作者的不同，原文的程序就可能在别的地方出错。
# - 没有虚拟环境，没有提GPU，也没有TensorBoard；原文第7节推荐了它，而TensorFlow已不再附带安装。
# - 原文第3节用的是PyTorch（`torch`），却没有任何地方安装它。
#
# ## 安装
#
# 在本仓库的一份克隆里，用`setup.cfg`允许的Python：
#
# ```bash
# python3 -m venv .venv && source .venv/bin/activate   # Windows上:.venv\Scripts\activate
# pip install -e .                                     # 有NVIDIA GPU时:pip install -e ".[gpu]"
# ```
#
# 以下只做检查。需要什么写在`setup.cfg`里，我们就从那里读。

# %%
import sys
from pathlib import Path

sys.path.append(str(Path(globals().get("__file__", "notebook")).resolve().parents[1]))  # the folder of chapter.py

import ast
import configparser
import os
import re
import shutil
import subprocess
from importlib.metadata import version

import keras
import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure
from packaging.specifiers import SpecifierSet
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ppo_keras import EnvironmentPPO, GridWorld, MLPActorCritic, PPOConfig
from ppo_keras.runs.recording import EnvironmentRecorder
from ppo_keras.runs.folder import Run

from chapter import Chapter

ITERATIONS = 5  # 50 for a policy that has learned
chapter = Chapter("05_1_setup")
keras.utils.set_random_seed(0)
setup = configparser.ConfigParser()
assert setup.read(chapter.root / "setup.cfg", encoding="utf-8")

# %% [markdown]
# ## 比较版本
#
# 版本号不是文本：当作文本，3.6比3.11*大*，因为字符6大于1。版本号是一列数。先从零实现，再与pip自己所用的`packaging`对照：


# %%
def parts(text):
    """The numbers of a version: "3.11.7" -> (3, 11, 7)."""
    return tuple(int(number) for number in re.findall(r"\d+", text)[:3])


def allowed(found, needed):
    """Whether a version fulfils conditions such as ">=3.11,<3.14"."""
    for condition in needed.split(","):
        sign, bound = re.fullmatch(r"(>=|<)([\d.]+)", condition.strip()).groups()
        if not (parts(found) >= parts(bound) if sign == ">=" else parts(found) < parts(bound)):
            return False
    return True


assert "3.6" > "3.11" and parts("3.6") < parts("3.11")
pythons = setup["options"]["python_requires"]
for candidate in ("3.6", "3.9", "3.11", "3.11.7", "3.13", "3.14"):
    assert allowed(candidate, pythons) == (candidate in SpecifierSet(pythons))
    print(f"  Python {candidate:7s} {pythons}: {allowed(candidate, pythons)}")
here = ".".join(map(str, sys.version_info[:3]))
print(chapter.text("this Python:", "现在的Python:"), here)
assert allowed(here, pythons) and not allowed("3.6", pythons)  # the article's is too old

# %% [markdown]
# 对`setup.cfg`列出的每个软件包都这样检查：

# %%
print(chapter.text("package, needed, found:", "软件包,需要,找到:"))
for requirement in setup["options"]["install_requires"].split():
    name, needed = re.fullmatch(r"([\w-]+)(.*)", requirement).groups()
    found = version(name)
    print(f"  {name:22s} {needed:10s} {found}")
    assert allowed(found, needed), f"{name} {found} is too old: pip install -e . again"

# %% [markdown]
# ## 后端
#
# Keras 3可以运行在TensorFlow、JAX或PyTorch上；本软件包需要TensorFlow。由环境变量`KERAS_BACKEND`决定，而且要在导入Keras之前。`import ppo_keras`会设置它；如果要求的是别的后端，它会说明：

# %%
print(chapter.text("backend:", "后端:"), keras.backend.backend())
assert keras.backend.backend() == "tensorflow"
other = subprocess.run(
    [sys.executable, "-c", "import ppo_keras"], env=os.environ | {"KERAS_BACKEND": "jax"}, cwd=chapter.root, capture_output=True, text=True
)  # fmt: skip
message = other.stderr.strip().splitlines()[-1]
print(" ", message)
assert other.returncode != 0 and "KERAS_BACKEND" in message

# %% [markdown]
# ## 处理器、GPU、XLA
#
# 不需要GPU：每一章都能在两个CPU核上运行。如果有GPU，TensorFlow会自动使用它。`jit_compile=True`背后的编译器XLA在两者上都能用；下面用一个小乘法说明它给出同样的数。

# %%
print(chapter.text("CPU cores:", "CPU核数:"), os.cpu_count())
gpus = tf.config.list_physical_devices("GPU")
for gpu in gpus:
    print(chapter.text("GPU:", "GPU:"), tf.config.experimental.get_device_details(gpu).get("device_name", gpu.name))
if not gpus:
    built = tf.test.is_built_with_cuda()
    print(chapter.text(f"no GPU found; TensorFlow was built with CUDA: {built}", f"没有找到GPU;TensorFlow是否带CUDA:{built}"))

a, b = np.random.default_rng(0).normal(size=(2, 64, 64)).astype("float32")
product = tf.function(lambda a, b: tf.reduce_sum(tf.tanh(a @ b)), jit_compile=True)
np.testing.assert_allclose(product(tf.constant(a), tf.constant(b)), np.tanh(a @ b).sum(), rtol=1e-2, atol=1e-1)  # a GPU may use TF32
print(chapter.text("XLA works", "XLA可用"))

# %% [markdown]
# 如果机器里有GPU而列表里没有：`pip install -e ".[gpu]"`会装上CUDA的库（Linux，以及Windows的WSL2）；驱动程序来自NVIDIA。除非先调用`tf.config.experimental.set_memory_growth`，TensorFlow会占满显存。
#
# ## 第一次训练与TensorBoard
#
# TensorBoard读取*事件文件*，即`tf.summary`写进文件夹的一切。下面从零写一个回调函数，与软件包的`EnvironmentRecorder`并排；两者观察同一次训练：在原文的网格世界里做PPO。
# 每次迭代之后，`logs`里是各项指标；它们在编译的步骤之外写出，因为XLA不能写文件。


# %%
class Scalars(keras.callbacks.Callback):
    """Writes every metric of every iteration for TensorBoard."""

    def __init__(self, folder):
        super().__init__()
        self.writer = tf.summary.create_file_writer(str(folder))

    def on_train_batch_end(self, batch, logs=None):
        with self.writer.as_default(step=batch + 1):
            for name, value in logs.items():
                tf.summary.scalar(name, float(value))

    def on_train_end(self, logs=None):
        self.writer.close()


folders = {name: chapter.folder / name for name in ("from_scratch", "package")}
for folder in folders.values():
    shutil.rmtree(folder, ignore_errors=True)  # of an earlier run
    folder.mkdir(parents=True)

world = GridWorld.article()
policy = MLPActorCritic(world.observation, world.actions, width=16)
agent = EnvironmentPPO(policy, world, PPOConfig(entropy_coefficient=0.01), environments=16, steps=32, seed=1)
agent.compile(keras.optimizers.Adam(5e-3), jit_compile=False)
recorders = [Scalars(folders["from_scratch"]), EnvironmentRecorder(Run(folders["package"]))]
history = agent.fit(steps_per_epoch=ITERATIONS, callbacks=recorders, verbose=0).history


def read(folder):
    """{tag: values in order} of the event files in a folder."""
    events = EventAccumulator(str(folder), size_guidance={"tensors": 0}).Reload()
    return {tag: [float(tf.make_ndarray(event.tensor_proto)) for event in events.Tensors(tag)] for tag in events.Tags()["tensors"]}


curves = {name: read(folder) for name, folder in folders.items()}
for folder in folders.values():
    files = sorted(folder.glob("events.out.tfevents.*"))
    assert files and files[0].stat().st_size > 0, folder
    print(chapter.text("event files:", "事件文件:"), len(files), chapter.text("in", "在"), folder.relative_to(chapter.root).as_posix())
for tag, written in curves["from_scratch"].items():
    np.testing.assert_allclose(written, curves["package"][tag], rtol=1e-6)
    assert len(written) == ITERATIONS
added = sorted(set(curves["package"]) - set(curves["from_scratch"]))
print(chapter.text("metrics, and those that the package adds:", "指标数,以及软件包另加的:"), len(curves["from_scratch"]), added)
print(chapter.text("iterations:", "迭代次数:"), ITERATIONS)
print(chapter.text("To see them, in another terminal:", "要查看它们,在另一个终端里:"))
print("  tensorboard --logdir", chapter.folder.relative_to(chapter.root).as_posix())
print(chapter.text("and open http://localhost:6006 in a browser.", "然后在浏览器里打开http://localhost:6006。"))

# %% [markdown]
# TensorBoard将画出的曲线，用同样的文件画在这里：

# %%
figure = Figure(figsize=(7, 2.8), layout="constrained")
tags = {"episode/length": chapter.label("steps of an episode", "回合的步数"), "policy/entropy": chapter.label("entropy, nats", "熵,奈特")}
for place, (tag, label) in enumerate(tags.items(), start=1):
    axes = figure.add_subplot(1, 2, place, xlabel=chapter.label("iteration", "迭代"), ylabel=label)
    axes.plot(range(1, ITERATIONS + 1), curves["from_scratch"][tag], marker="o")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(alpha=0.3)
chapter.show(figure, "curves")

# %% [markdown]
# ## 各种东西在哪里
#
# 按算法的顺序读软件包。每个文件的第一行说明它的内容：

# %%
package = chapter.root / "ppo_keras"
order = ("trajectory", "masking", "advantages", "losses", "kl", "ppo", "networks/actor_critic", "environments/ppo", "language/ppo")
for name in order:
    docstring = ast.get_docstring(ast.parse((package / f"{name}.py").read_text(encoding="utf-8")))
    print(f"  ppo_keras/{name}.py: {docstring.splitlines()[0]}")
data = sorted((package / "datasets" / "data").iterdir())
assert data
print(chapter.text("bundled data:", "自带的数据:"), *[path.name for path in data])
print(chapter.text("runs and TensorBoard:", "训练结果与TensorBoard:"), "runs/")
print(chapter.text("chapters and solutions:", "各章与答案:"), "tutorials/en, tutorials/zh, tutorials/solutions")
print(chapter.text("all commands:", "所有命令:"), "ppo-keras --help")

# %% [markdown]
# ## 小结
#
# - 写明版本，对Python既写下界*也*写上界，并按数字比较。
# - TensorFlow、Keras和TensorBoard是三个软件包，各有各的版本；不需要PyTorch。
# - 不需要GPU；有GPU时，变的是速度和末尾几位数字。
# - TensorBoard显示的是`tf.summary`写进文件夹的内容：先确认文件在那里，再去别处找错。
#
# ## 练习
#
# 1. Python 3.6、3.10、3.12、3.14之中，`setup.cfg`允许哪些？用四个数回答，1为允许，0为不允许。
# 2. 我们的回调函数一共写了多少个标量？（由上面打印的两个数得出。）
# 3. 策略由两个独立的网络组成，一个给出动作，一个给出价值。各有三个带偏置的全连接层：从状态（4个数，其中一个是1）到16个数，从16到16，再从16到输出（4个logit，或1个价值）。全部是float32，每个占4字节。权重一共占多少字节？
#
# 答案在`tutorials/solutions/05_1_setup.py`。


# %%
@chapter.exercise
def which_pythons():
    return None  # your four numbers


@chapter.exercise
def scalars_written():
    return None  # your number


@chapter.exercise
def bytes_of_the_policy():
    return None  # your number


chapter.check(which_pythons(), [candidate in SpecifierSet(pythons) for candidate in ("3.6", "3.10", "3.12", "3.14")])
chapter.check(scalars_written(), sum(len(written) for written in curves["from_scratch"].values()))
chapter.check(bytes_of_the_policy(), sum(weight.numpy().nbytes for weight in policy.trainable_weights))
