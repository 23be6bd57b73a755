# %% [markdown]
# # 5.1 环境搭建
#
# **本章要学会**:安装本软件包,了解机器有什么可用,做第一次训练,并在TensorBoard里找到它。安装之后需要约1分钟。
#
# ## 原文的段落
#
# > 1. 安装Python 3.6或更高版本;2. 安装TensorFlow:`pip install tensorflow`
#
# Python 3.6自2021年起已停止维护,今天的TensorFlow在它上面装不上。原文没有写任何版本号,所以没有人能重复它做过的事;它也没有提到GPU,
# 没有提到随TensorFlow附带的Keras与今天独立的Keras软件包之间的差别。
#
# ## 安装
#
# 用Python 3.11到3.13,在克隆下来的仓库里:
#
# ```bash
# python3 -m venv .venv && source .venv/bin/activate
# pip install -e .                   # 训练所需的一切
# pip install -e ".[gpu]"            # 有NVIDIA GPU的机器:带CUDA库的TensorFlow
# pip install -e ".[tutorials]"      # 用来生成笔记本,6.4也要用
# ```
#
# 版本下限写在`setup.cfg`里。下一个单元说出你装的是什么;更新的版本没有问题,过旧的会被指出。

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
# ## GPU
#
# TensorFlow会列出它能用的设备。没有GPU,本教程的一切照样能运行:这里的网络都很小。代码不用改,因为软件包里没有一行写死了设备。

# %%
gpus = tf.config.list_physical_devices("GPU")
print(chapter.text("GPUs:", "GPU:"), [tf.config.experimental.get_device_details(gpu).get("device_name", gpu.name) for gpu in gpus] or chapter.text("none, the CPU is used", "无,使用CPU"))
for gpu in gpus:
    tf.config.experimental.set_memory_growth(gpu, True)  # take memory as it is needed, not all of it at once

# %% [markdown]
# ## XLA
#
# PPO的一次迭代由XLA编译(见5.5)。编译后的函数给出同样的数,只差舍入误差。

# %%
def softmax(logits):
    exponentials = tf.exp(logits - tf.reduce_max(logits, axis=-1, keepdims=True))
    return exponentials / tf.reduce_sum(exponentials, axis=-1, keepdims=True)


logits = tf.random.stateless_normal([64, 1000], seed=[1, 2])
compiled = tf.function(softmax, jit_compile=True)
np.testing.assert_allclose(compiled(logits), softmax(logits), rtol=1e-5)
print(chapter.text("XLA works", "XLA可用"))

# %% [markdown]
# ## 第一次训练
#
# 一次训练就是一个文件夹。这里让一个未经训练的写作模型因字母“o”而得到奖励:只有八次迭代,写不出好文字,但足以看到一条曲线。
# `Recorder`是一个Keras回调,它写下`metrics.csv`和TensorBoard读取的事件文件。

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
# 在另一个终端里输入上面的命令,打开它给出的地址。页面一开始就是曲线;第7章会读懂每一个标签页。软件包的命令把训练放在`runs/`之下,
# 那时用`tensorboard --logdir runs`。
#
# ## 小结
#
# - Python 3.11到3.13,`pip install -e .`;附加项`gpu`带来CUDA。
# - 同样的代码在CPU和GPU上、编译与不编译都能运行,给出同样的数,只差舍入误差。
# - 一次训练是一个文件夹;TensorBoard读其中的事件文件。
#
# ## 练习
#
# 1. 宽度为32的Transformer,一层的查询投影(带偏置)有多少个参数?
# 2. 上面的写作模型每次迭代回复64个提示,每个回复最多8个词元。一次迭代的轨迹里有多少个对数概率(包括填充)?
#
# 答案在`tutorials/solutions/05_1_setup.py`。

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
