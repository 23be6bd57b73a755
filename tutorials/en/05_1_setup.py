# %% [markdown]
# # 5.1 Setting up
#
# [Overview](../README.md) · before: [4.3 The grid world of four states](04_3_gridworld.ipynb) · next: [5.2 The article's program, corrected](05_2_the_article_corrected.ipynb) · [中文](../zh/05_1_setup.ipynb)
#
# **You will learn** what to install and how to check it: versions, the backend, the GPU (none is needed), XLA; how a run
# gets into TensorBoard; and where things are in this repository. Minutes: less than 1.
#
# ## The article's passage
#
# > 在开始项目之前，需要确保Python和TensorFlow环境已搭建好。以下是安装步骤：1. 安装Python 3.6或更高版本；2. 安装TensorFlow：`pip install tensorflow`
#
# (*"Before the project begins, set up Python and TensorFlow: 1. install Python 3.6 or newer; 2. install TensorFlow."*) What
# is wrong with it:
#
# - Python 3.6 has had no updates since the end of 2021, and today's TensorFlow and Keras have no packages for it. "Or
#   newer" is not right either: the newest Python is often too new for TensorFlow.
# - No version is named. With another Keras than the one that the author had, the article's program may fail in other
#   places.
# - No virtual environment, nothing about a GPU, and no TensorBoard, which the article recommends in section 7: TensorFlow
#   no longer installs it.
# - The article's section 3 uses PyTorch (`torch`), which is installed nowhere.
#
# ## Installing
#
# In a clone of this repository, with a Python that `setup.cfg` allows:
#
# ```bash
# python3 -m venv .venv && source .venv/bin/activate   # Windows: .venv\Scripts\activate
# pip install -e .                                     # with an NVIDIA GPU: pip install -e ".[gpu]"
# ```
#
# Everything below only checks. What is needed stands in `setup.cfg`; we read it there.

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
# ## Comparing versions
#
# Versions are not text: as text, 3.6 is *greater* than 3.11, because the character 6 is greater than 1. They are lists of
# numbers. From scratch, beside `packaging`, which pip itself uses:


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
# The same for every package that `setup.cfg` names:

# %%
print(chapter.text("package, needed, found:", "软件包,需要,找到:"))
for requirement in setup["options"]["install_requires"].split():
    name, needed = re.fullmatch(r"([\w-]+)(.*)", requirement).groups()
    found = version(name)
    print(f"  {name:22s} {needed:10s} {found}")
    assert allowed(found, needed), f"{name} {found} is too old: pip install -e . again"

# %% [markdown]
# ## The backend
#
# Keras 3 runs on TensorFlow, JAX or PyTorch; this package needs TensorFlow. The environment variable `KERAS_BACKEND`
# decides, before Keras is imported. `import ppo_keras` sets it, and says so where another was asked for:

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
# ## The processor, the GPU, XLA
#
# No GPU is needed: every chapter runs on two CPU cores. If there is one, TensorFlow uses it without being asked. XLA, the
# compiler behind `jit_compile=True`, works on both; one small product shows that it gives the same number.

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
# If a GPU is in the machine but not in the list: `pip install -e ".[gpu]"` brings CUDA's libraries (Linux, and WSL2 on
# Windows); the driver comes from NVIDIA. TensorFlow takes all of the GPU's memory unless
# `tf.config.experimental.set_memory_growth` is called first.
#
# ## A first run, and TensorBoard
#
# TensorBoard reads *event files*: anything that `tf.summary` writes into a folder. A callback that does it, from scratch,
# beside the package's `EnvironmentRecorder`; both watch one run of PPO in the article's grid world. After each iteration
# `logs` holds the metrics; they are written outside of the compiled step, because XLA cannot write files.


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
# What TensorBoard will draw, drawn here from the same files:

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
# ## Where things are
#
# The package is read in the order of the algorithm. The first line of each file says what it holds:

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
# ## Summary
#
# - Name the versions, of Python with a lower *and* an upper bound, and compare them as numbers.
# - TensorFlow, Keras and TensorBoard are three packages with versions of their own; PyTorch is not needed.
# - No GPU is needed; with one, the speed changes, and the last digits.
# - TensorBoard shows what `tf.summary` wrote into a folder: check that the files are there before you look for a mistake
#   elsewhere.
#
# ## Exercises
#
# 1. Which of Python 3.6, 3.10, 3.12, 3.14 does `setup.cfg` allow? Answer with four numbers, 1 for yes and 0 for no.
# 2. How many scalars did our callback write in all? (From two of the numbers printed above.)
# 3. The policy is two separate networks, one for the actions and one for the value. Each has three dense layers with
#    biases: from the state (4 numbers, one of them 1) to 16 numbers, from 16 to 16, and from 16 to its outputs (4 logits, or
#    1 value). All are float32, 4 bytes each. How many bytes are the weights?
#
# The solutions are in `tutorials/solutions/05_1_setup.py`.


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
