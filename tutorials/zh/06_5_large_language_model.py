# %% [markdown]
# # 6.5 大语言模型：适配器，以及不花钱的参考模型
#
# [目录](../README.md) · 上一章：[6.4 机器翻译：以句子的评分作奖励](06_4_translation.ipynb) · 下一章：[7. 工具：TensorBoard、调试器、性能分析器](07_tools.ipynb) · [English](../en/06_5_large_language_model.ipynb)
#
# **本章要学会**：载入别人训练好的语言模型；弄清什么是对话模板，什么是特殊词元；手写一个低秩适配器，并与软件包的逐数核对；明白为什么这样一来参考模型不再占额外内存；再用PPO和一个由程序检验的奖励来训练它。需要约3分钟。（需要在克隆的仓库中`pip install -e ".[pretrained]"`；模型有92 MB，首次运行时由pip下载。下载不到时，本章会说明原因并正常结束。）
#
# ## 原文的段落
#
# > PPO算法可以用于优化大语言模型的生成策略，提高文本生成质量。
#
# 原文的程序里没有语言模型，只有几百个权重的小网络，因此大模型带来的问题一个也没有碰到：权重来自别处；权重太多，无法全部训练；更无法存上四份。
#
# ## 载入了什么
#
# SmolLM2-135M-Instruct（Ben Allal等，2025）在同类中算小的，但比5.3至6.4的模型大得多。它的网络就是5.4的Transformer，只是设置不同：归一化用均方根而不用层归一化，MLP带门控，九个查询头共用三个键值头，没有偏置。下面打印出与5.4的网络不同的各项设置。

# %%
import sys
from pathlib import Path

sys.path.append(str(Path(globals().get("__file__", "notebook")).resolve().parents[1]))  # the folder of chapter.py

import re

import keras
import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure

from ppo_keras import KLConfig, LanguagePPO, PPOConfig, PythonReward, load_pretrained
from ppo_keras.errors import InputError
from ppo_keras.language.generation import generate, map_prompts, pad_prompts
from ppo_keras.networks.adapters import Linear, adapters_off
from ppo_keras.networks.transformer import Form
from ppo_keras.pretrained.chat import ChatTemplate
from ppo_keras.pretrained.loading import parameters

from chapter import Chapter

ITERATIONS, RESPONSE = 8, 6
RANK, ALPHA = 8, 16

chapter = Chapter("06_5_large_language_model")
keras.utils.set_random_seed(0)
try:
    writer, tokenizer = load_pretrained("smollm2", lora_rank=RANK, lora_alpha=ALPHA, memory=32, report=lambda done, total: None)
except InputError as error:  # no network, or the extra is not installed
    print(chapter.text("SmolLM2 cannot be had, so the chapter ends here:", "无法取得SmolLM2，本章到此结束："), error)
    raise SystemExit(0) from None

every, trained = parameters(writer)
print(chapter.text("parameters, and of them trained:", "参数总数，其中要训练的："), f"{every:,} {trained:,} ({trained / every:.2%})")
print({name: value for name, value in vars(writer.encoder.form).items() if value != getattr(Form(), name)})

# %% [markdown]
# 训练之前，它写出的文本是这样的：


# %%
@tf.function(autograph=False)
def respond(prompts, length, temperature):
    return generate(writer, prompts, length, tokenizer.end_ids, tokenizer.pad_id, tf.constant([7, 7]), temperature)


def write(texts, length, temperature=1.0):
    """A sampled continuation of each text; the same draw in every call."""
    token_lists = [tokenizer.encode(text, begin=True) for text in texts]
    prompts = map_prompts(tf.constant, pad_prompts(token_lists, max(map(len, token_lists)), tokenizer.pad_id))
    return tokenizer.decode_pairs(prompts, respond(prompts, length, temperature))[1]


for response in write(["The film was"] * 3, 16, temperature=0.8):
    print("The film was |" + response.replace("\n", " "))

# %% [markdown]
# ## 对话
#
# 名字带*Instruct*的模型是在固定格式的对话上微调过的，这个格式就是**对话模板**：检查点（checkpoint，即别人训练好的权重连同其设置）里的一小段程序，把各条消息拼成一段文本。每一轮从哪里开始、到哪里结束，由**特殊词元**标明，一个特殊词元只占一个编号。用户也可以键入同样的字符，但绝不能变成同样的编号，否则谁都可以自行结束这一轮，再冒充系统说话。在这里，键入的只是普通文本（拼成文本之后两者看上去一样，编号却不同）：

# %%
template = ChatTemplate.of(tokenizer)
messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Is <|im_end|> a word?"}]
print(template.render(messages))
ids = template.ids(tokenizer, messages)
print(ids)
print(*tokenizer.pieces(ids))
typed = tokenizer.encode("<|im_end|>")
print(chapter.text("typed:", "用户键入的："), typed, chapter.text(" meant:", " 真正的特殊词元："), tokenizer.end_id)
assert tokenizer.end_id not in typed and ids.count(tokenizer.end_id) == len(messages)  # each turn ends once

# %% [markdown]
# ## 手写一个低秩适配器
#
# 用Adam训练时，每个权重还要存一个梯度和两个矩。Hu等（2022）把$n$行$m$列的$W$冻结，另加两个细长矩阵的乘积，$A$有$r$列，$B$有$r$行（LoRA）：
#
# $$y=xW+\frac\alpha r\,(xA)B$$
#
# $A$随机初始化，$B$初始化为零，所以策略起初与原来一模一样，一个比特也不差。要训练的只有$r\,(n+m)$个数。软件包给每一层计算查询、键、值的矩阵都配上这样的适配器；价值头也要训练，因为语言模型本来没有价值头。

# %%
tokens = tf.constant([tokenizer.encode("The film was a great success")])
with adapters_off(writer):
    checkpoints_logits = writer(tokens)[0].numpy()
np.testing.assert_array_equal(writer(tokens)[0], checkpoints_logits)  # B = 0

layers = [block.query_key_value for block in writer.encoder.trunk.blocks]
layer, draw = layers[0], np.random.default_rng(0)
with adapters_off(writer):
    W = keras.ops.convert_to_numpy(layer.kernel).astype(np.float64)  # otherwise Keras hands out W + alpha / r A B
A = layer.lora_kernel_a.numpy().astype(np.float64)
B = draw.normal(0, 0.02, layer.lora_kernel_b.shape)
x = draw.normal(size=(5, W.shape[0]))
layer.lora_kernel_b.assign(B)  # as if it had been trained
np.testing.assert_allclose(layer(tf.constant(x, tf.float32)), x @ W + ALPHA / RANK * (x @ A) @ B, rtol=1e-4, atol=1e-4)
assert np.abs(writer(tokens)[0] - checkpoints_logits).max() > 1e-3
layer.lora_kernel_b.assign(np.zeros_like(B))

by_hand = sum(RANK * sum(W.shape) for _ in layers) + W.shape[0] + 1  # and the value head, with its bias
print(chapter.text("W, A, B of a layer:", "一层的W、A、B："), W.shape, A.shape, B.shape)
print(chapter.text("trained numbers:", "要训练的数："), f"{len(layers)} * {RANK} * ({W.shape[0]} + {W.shape[1]}) + {W.shape[0] + 1} = {by_hand:,}")
assert by_hand == trained

# %% [markdown]
# ## 不花钱的参考模型
#
# KL惩罚需要训练之前的策略（6.1），此前的做法是把全部权重复制一份。有了适配器，原来的策略就在现在的策略里面：关掉适配器，检查点就回来了。`Frozen`这个类在计算参考模型时正是这样做的；它只保存价值头的副本，别的什么也不存。（如果先做过有监督训练，参考模型就是*带着*当时那些适配器的策略，这时还要保存适配器的副本。）
#
# ## 任务
#
# | 部分 | 在本章中 |
# |---|---|
# | 状态 | 一个问题，以及已经写出的回答词元 |
# | 动作 | 下一个词元 |
# | 回合 | 回答的前几个词元 |
# | 奖励 | 第一个词若是“yes”与“no”中正确的那个，得1，否则得0 |
# | 基线 | 用来比较的：检查点；在PPO内部的：同一问题的其他回答（6.3） |
# | 度量 | 每次迭代的平均得分，以及形式合乎要求的回答所占比例；用同一组随机数抽取的样本 |
#
# 奖励从不说明回答错在哪里。我们另外记下*形式*对不对，只是为了看清先学会的是什么。

# %%
truth = {
    "Is ice cold?": "yes", "Is fire cold?": "no", "Can a fish swim?": "yes", "Can a stone swim?": "no",
    "Is snow white?": "yes", "Is snow black?": "no", "Is sugar sweet?": "yes", "Can a horse fly?": "no",
}  # fmt: skip
questions = [f"Question: {question} Answer:" for question in truth]
rights, forms = dict(zip(questions, truth.values())), []


def is_right(prompt, response):
    """1.0 where the first word is the right one; its form is kept."""
    first_word = re.match("[a-z]*", response.lower().strip())[0]
    forms.append(first_word in ("yes", "no"))
    return float(first_word == rights[prompt.strip()])


for response in (" Yes, it is", " no.", " It is, yes", ""):
    print(f"{response!r:15} {is_right(questions[0], response)}")
forms.clear()
token_lists = [tokenizer.encode(question, begin=True) for question in questions]
prompts = pad_prompts(token_lists, max(map(len, token_lists)), tokenizer.pad_id)
agent = LanguagePPO(
    writer, PythonReward(is_right, tokenizer), tokenizer.end_ids, tokenizer.pad_id, RESPONSE,
    PPOConfig(discount=1.0, gae_lambda=1.0, epochs=2, max_gradient_norm=1.0), KLConfig(kl_coefficient=0.02), responses_per_prompt=4, seed=1,
)  # fmt: skip
agent.compile(keras.optimizers.Adam(1e-3), jit_compile=False)  # XLA would compile for longer than these iterations take

# %%
size = lambda variables: sum(variable.numpy().nbytes for variable in variables)
print(chapter.text("the reference:", "参考模型："), type(agent.reference).__name__)
print(
    chapter.text("bytes of the policy, and of the reference:", "策略的字节数，参考模型的字节数："),
    f"{size(writer.variables):,} {size(agent.reference.variables):,}",
)
assert size(agent.reference.variables) == 4 * (W.shape[0] + 1)  # the value head
texts_before = write(questions, RESPONSE)
history = agent.fit(tf.data.Dataset.from_tensors(prompts).repeat(), steps_per_epoch=1, epochs=ITERATIONS, verbose=0).history
texts_after = write(questions, RESPONSE)

# %% [markdown]
# ## 学到了什么
#
# 第一次迭代时策略就是参考模型，所以KL散度为零。优化器走第一步之前，新旧概率相等，所以每次迭代中概率比与1的最初差距都是零。（如果不是零，就说明带缓存逐个词元地写与整段读入算出的数不同。）

# %%
scores, kl = history["objective/scores"], history["objective/kl"]
first, last = scores[0], np.mean(scores[-2:])
print(chapter.text("score of each iteration:", "每次迭代的得分："), np.round(scores, 2))
form = np.reshape(forms, [ITERATIONS, -1]).mean(axis=1)
print(chapter.text("share of the right form:", "形式正确的比例："), form.round(2))
print(chapter.text("KL, nats a response:", "KL，每个回复，奈特："), np.round(kl, 2))
print(chapter.text("score, first iteration -> last two:", "得分，首次迭代 -> 最后两次："), f"{first:.2f} -> {last:.2f}")
for question, old, new in zip(truth, texts_before, texts_after):
    print(f"   {question} |{old} |{new}".replace("\n", " "))
assert last > first + 0.1 and form[-1] > form[0] + 0.2 and np.all(form >= scores)
assert abs(kl[0]) < 1e-3 and max(history["policy/first_ratio_gap"]) < 1e-3

with adapters_off(writer):
    np.testing.assert_array_equal(writer(tokens)[0], checkpoints_logits)
np.testing.assert_array_equal(agent.reference(tokens)[0], checkpoints_logits)  # the reference has not moved
moved = np.abs(writer(tokens)[0] - checkpoints_logits).max()
print(chapter.text("largest change of a logit, of the reference and of the policy:", "logit的最大变化，参考模型与策略："), 0, moved.round(2))
assert moved > 0.1

figure = Figure(figsize=(7, 3), layout="constrained")
right, shape, nats = chapter.label("right", "正确"), chapter.label("yes or no", "是yes或no"), chapter.label("KL, nats a response", "KL，每个回复，奈特")
for place, (label, curves) in enumerate({chapter.label("share", "比例"): {right: scores, shape: form}, nats: {nats: kl}}.items(), start=1):
    axes = figure.add_subplot(1, 2, place, xlabel=chapter.label("iteration", "迭代"), ylabel=label)
    for (name, curve), style in zip(curves.items(), ("-o", "--s")):
        axes.plot(range(1, ITERATIONS + 1), curve, style, label=name)
    if place == 1:
        axes.legend()
    axes.grid(alpha=0.3)
    axes.set_ylim(bottom=0)
    axes.xaxis.get_major_locator().set_params(integer=True)
chapter.show(figure, "score_and_kl")

# %% [markdown]
# 每行依次是问题、训练前的回答、训练后的回答，抽样用的是同一组随机数。先学会的是形式：原来少见的一个词变得常见了。形式对了，靠猜也能对一半；所以先比较两条曲线，再下结论说它学到了更多。何况八个问题是可以背下来的，模型*知道*什么，要由留出的问题来检验（6.3）。
#
# ## 一次完整的训练
#
# 命令行做的是同样的事，只是换成软件包自带的任务，从头做到尾：
#
# ```bash
# ppo-keras train generation --pretrained smollm2 --run smollm2
# ```
#
# 依次是：找到检查点（首次由pip下载）和它的分词器；用影评训练奖励模型和裁判；用极大似然在影评上训练适配器（`--supervised-epochs 0`可跳过这一步）；把此时的策略冻结为参考模型；运行PPO；最后在留出的提示上比较前后的文本。运行文件夹只保存学到的部分，即适配器和各个头，从不保存检查点的权重：`config.json`记下检查点的名字和权重的sha256，以后打开这次运行的任何命令都会重新找到它，如果不是同一个就拒绝。
#
# ## 小结
#
# - 检查点就是换了设置的5.4的Transformer，再加一个分词器和一个对话模板。用户键入的特殊词元只是文本。
# - 适配器给冻结的层加上$\frac\alpha r(xA)B$；$B=0$时什么也不改变。
# - 关掉适配器，策略就是自己的参考模型，不需要第二份权重。
# - 对PPO来说什么也没有变：概率比、裁剪、KL惩罚和基线，都与前面各章相同。
#
# ## 练习
#
# 1. 秩为4的适配器，在这个模型计算查询、键、值的各层中一共要训练多少个数？价值头不算。
# 2. $x=(1,2)$，$W$是单位矩阵，$A=\binom11$，$B=(0.5,-1)$，$\alpha=2$，$r=1$。$y$是多少？
#
# 答案在`tutorials/solutions/06_5_large_language_model.py`。


# %%
@chapter.exercise
def numbers_of_rank_4():
    return None  # your number


@chapter.exercise
def two_outputs():
    return None  # your two numbers, such as [0.0, 0.0]


chapter.check(numbers_of_rank_4(), sum(4 * sum(W.shape) for _ in layers))
adapted = Linear(2, use_bias=False)
adapted.build((None, 2))
adapted.enable_lora(1, lora_alpha=2)
for part, value in zip((adapted._kernel, adapted.lora_kernel_a, adapted.lora_kernel_b), (np.eye(2), [[1], [1]], [[0.5, -1]])):
    part.assign(value)
chapter.check(two_outputs(), adapted(tf.constant([[1.0, 2.0]]))[0])
