# %% [markdown]
# # 5.1 Setting up
#
# **You will learn** to install the package, to see what the machine offers, to make a first run and to find it in TensorBoard.
# Minutes: about 1, after the installation.
#
# ## The article's passage
#
# > 1. 安装Python 3.6或更高版本;2. 安装TensorFlow:`pip install tensorflow`
#
# (Install Python 3.6 or later; install TensorFlow.) Python 3.6 has had no support since 2021, and today's TensorFlow does not
# install on it. The article names no versions, so that nobody can repeat what it did; it has no word about the GPU, and none
# about the difference between the Keras that comes with TensorFlow and the Keras of today, which is a package of its own.
#
# ## Installing
#
# With Python 3.11 to 3.13, in a clone of the repository:
#
# ```bash
# python3 -m venv .venv && source .venv/bin/activate
# pip install -e .                   # everything that training needs
# pip install -e ".[gpu]"            # on a machine with an NVIDIA GPU: TensorFlow with its CUDA libraries
# pip install -e ".[tutorials]"      # to build the notebooks, and for chapter 6.4
# ```
#
# The lower bounds stand in `setup.cfg`. The next cell says what you have; a later version is welcome, an older one is named.

# %%
import importlib.metadata
import sys

import keras
import numpy as np
import tensorflow as tf

from ppo_keras import LanguagePPO, KLConfig, PPOConfig, Prompts, Tokenizer, TransformerActorCritic
from ppo_keras.language.generation import pad_prompts
from ppo_keras.recording import Recorder
from ppo_keras.runs import Run
from ppo_keras.tutorials import Chapter

chapter = Chapter("05_1_setup")
keras.utils.set_random_seed(0)
number = lambda version: tuple(int(part) for part in version.split(".")[:2])
required = [line.split(";")[0] for line in importlib.metadata.requires("ppo_keras") if "extra" not in line]
print("Python", sys.version.split()[0])
assert sys.version_info >= (3, 11), chapter.text("Python 3.11 or later is needed", "需要Python 3.11或更高版本")
for line in required:
    name, _, least = line.partition(">=")
    found = importlib.metadata.version(name.strip())
    enough = number(found) >= number(least)
    print(f"{name.strip():22s} {found:12s}", chapter.text("needed", "需要"), f">= {least.strip()}", "" if enough else "<---")
    assert enough, name
print("Keras:", keras.backend.backend())

# %% [markdown]
# ## The GPU
#
# TensorFlow lists the devices that it can use. Without a GPU everything in this tutorial still runs: its networks are small.
# The same code then runs on the CPU, because no line of the package names a device.

# %%
gpus = tf.config.list_physical_devices("GPU")
print(chapter.text("GPUs:", "GPU:"), [tf.config.experimental.get_device_details(gpu).get("device_name", gpu.name) for gpu in gpus] or chapter.text("none, the CPU is used", "无,使用CPU"))
for gpu in gpus:
    tf.config.experimental.set_memory_growth(gpu, True)  # take memory as it is needed, not all of it at once

# %% [markdown]
# ## XLA
#
# PPO's iteration is compiled by XLA (chapter 5.5). A function that is compiled gives the same numbers, up to rounding.

# %%
def softmax(logits):
    exponentials = tf.exp(logits - tf.reduce_max(logits, axis=-1, keepdims=True))
    return exponentials / tf.reduce_sum(exponentials, axis=-1, keepdims=True)


logits = tf.random.stateless_normal([64, 1000], seed=[1, 2])
compiled = tf.function(softmax, jit_compile=True)
np.testing.assert_allclose(compiled(logits), softmax(logits), rtol=1e-5)
print(chapter.text("XLA works", "XLA可用"))

# %% [markdown]
# ## A first run
#
# A run is a folder. Here an untrained writer is rewarded for the letter "o": eight iterations, far too few for good text,
# enough to see a curve. `Recorder` is a Keras callback; it writes `metrics.csv` and the event files that TensorBoard reads.

# %%
tokenizer = Tokenizer.train(["the film is good", "a good story", "so cool"] * 20, vocabulary_size=300)
writer = TransformerActorCritic(tokenizer.vocabulary_size, width=32, layers=1, heads=2, memory=16)
has_o = tf.constant(["o" in tokenizer.processor.id_to_piece(i) for i in range(tokenizer.vocabulary_size)])
share_of_o = lambda prompts, responses: tf.reduce_mean(tf.cast(tf.gather(has_o, responses.tokens), tf.float32), axis=1)
agent = LanguagePPO(
    writer, share_of_o, tokenizer.end_id, tokenizer.pad_id, response_length=8, config=PPOConfig(discount=1.0), kl=KLConfig(kl_coefficient=0.0)
)
agent.compile(keras.optimizers.Adam(3e-3), jit_compile=True)
prompts = Prompts(*pad_prompts([tokenizer.encode("the", begin=True)] * 64, 4, tokenizer.pad_id))
data = tf.data.Dataset.from_tensor_slices(prompts).repeat().batch(64, drop_remainder=True)

run = Run.create(chapter.folder, "first", overwrite=True)
run.save_json("config.json", {"chapter": chapter.name})
run.keep()
history = agent.fit(data, steps_per_epoch=1, epochs=8, callbacks=[Recorder(run, episodes_per_iteration=64)], verbose=0).history
scores = history["objective/scores"]
print(chapter.text("score of each iteration:", "每次迭代的得分:"), np.round(scores, 3))
assert scores[-1] > scores[0]
files = sorted(path.name for path in run.folder.iterdir())
assert "metrics.csv" in files and any(name.startswith("events.out.tfevents") for name in files)
print(chapter.text("see it with:", "查看方法:"), f"tensorboard --logdir {chapter.folder.relative_to(chapter.root).as_posix()}")

# %% [markdown]
# Type the command above in a second terminal and open the address that it prints. The page begins with curves; chapter 7 reads
# every tab. The commands of the package put their runs under `runs/`, so there it is `tensorboard --logdir runs`.
#
# ## Summary
#
# - Python 3.11 to 3.13, `pip install -e .`; the extra `gpu` brings CUDA.
# - The same code runs on CPU and GPU, compiled and not, and gives the same numbers up to rounding.
# - A run is a folder; TensorBoard reads the event files in it.
#
# ## Exercises
#
# 1. How many numbers has one layer's query projection of a Transformer of width 32, with a bias?
# 2. The writer above answers 64 prompts in an iteration, with up to 8 tokens each. How many log-probabilities does one
#    iteration's trajectory hold, padding included?
#
# The solutions are in `tutorials/solutions/05_1_setup.py`.

# %%
@chapter.exercise
def numbers_of_a_projection():
    return None  # your number


@chapter.exercise
def log_probabilities_of_an_iteration():
    return None  # your number


layer = keras.layers.Dense(32)
layer.build((None, 32))
chapter.check(numbers_of_a_projection(), layer.count_params())
chapter.check(log_probabilities_of_an_iteration(), agent.shelf.content.trajectory.log_probs.shape.num_elements())
