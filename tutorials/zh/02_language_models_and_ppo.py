# %% [markdown]
# # 2. 语言模型与PPO
#
# [目录](../README.md) · 上一章：[1. 引言](01_introduction.ipynb) · 下一章：[3. 从策略梯度到PPO](03_policy_gradient_to_ppo.ipynb) · [English](../en/02_language_models_and_ppo.ipynb)
#
# **本章要学会**：把一段文本读成一个回合，说出PPO的四个模型各做什么，并逐个词元地算出学习器所得到的记录的每一个字段。需要约1分钟。
#
# ## 原文的段落
#
# > 2.1 大语言模型的核心是深度神经网络，特别是循环神经网络（RNN）及其变体……
# >
# > 2.3 通过PPO算法，我们可以根据模型的预测误差来更新模型参数……评估模型性能……避免模型出现过度拟合现象。
# >
# > 2.4 `A[输入文本] --> B{使用大语言模型}` …… `A -->|计算奖励| D{PPO算法}` ……计算生成的文本与目标文本之间的奖励。
#
# 问题在于：
#
# - 今天的语言模型是只有解码器的Transformer（Vaswani等，2017）。LSTM也可以用，本软件包两种都有。
# - 预测误差是*有监督训练*所要降低的。PPO要提高的是奖励，根本没有目标文本。
# - 奖励由提示*和*回复共同决定。若箭头只从输入出发，同一输入的每个回复，奖励就都一样。
# - PPO不做评估，也不防止过拟合：针对一个学出来的奖励去训练策略，策略会找到奖励的漏洞（奖励过度优化）。对此有用的是KL惩罚，以及一个没有参与奖励的度量。
# - 四个模型缺了三个：参考模型、奖励模型和价值。
# - 2.2节的话适用于任何演员-评论家方法。使它成为PPO的概率比和裁剪，见第3章。
#
# ## 语言模型就是策略
#
# 文本是*词元*的序列，词元是词的片段。语言模型根据前面所有的词元，给出下一个词元的分布。所以一段文本的概率是一个乘积，
#
# $$p(x_1,\dots,x_n)=\prod_t \pi(x_t\,|\,x_1,\dots,x_{t-1})$$
#
# 写作就是行动：
#
# | 强化学习 | 文本 |
# |---|---|
# | 状态$s_t$ | 提示以及已经写出的词元 |
# | 动作$a_t$ | 下一个词元 |
# | 策略$\pi(a_t\mid s_t)$ | 语言模型 |
# | 环境的转移 | 接上这个词元：没有随机，也没有未知 |
# | 回合 | 一个回复，到结束词元或长度上限为止 |
# | 奖励$r_t$ | 在最后一个词元处给整个回复一个分数；在每个词元处为离开参考模型付出代价 |
# | 折扣$\gamma$ | 1：回复很短 |
#
# 先要有一个可以观察的小语言模型：一个分词器和一个Transformer，用自带的影评训练几秒钟。（影评是英文的，两种语言的教程用同样的代码和数据。）

# %%
import sys
from pathlib import Path

sys.path.append(str(Path(globals().get("__file__", "notebook")).resolve().parents[1]))  # the folder of chapter.py

import keras
import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from ppo_keras import (
    KLConfig,
    LanguagePPO,
    LSTMActorCritic,
    PPOConfig,
    Prompts,
    PythonReward,
    Tokenizer,
    TransformerActorCritic,
    generate,
    load_texts,
)
from ppo_keras.config import SupervisedConfig
from ppo_keras.language.generation import pad_prompts
from ppo_keras.language.supervised import train_language_model
from ppo_keras.reports.pictures import token_heat_map

from chapter import Chapter

EPOCHS = 3  # of supervised training; 15 and a width of 128 for the real thing
WIDTH = 64

chapter = Chapter("02_language_models_and_ppo")
keras.utils.set_random_seed(0)
corpus = load_texts()
tokenizer = Tokenizer.train(corpus.train.texts, vocabulary_size=1000)
encode = lambda split: [tokenizer.encode(text, begin=True, end=True) for text in split.texts]
example = corpus.test.texts[0]
print(example)
print(tokenizer.pieces(tokenizer.encode(example, begin=True, end=True)))

writer = TransformerActorCritic(tokenizer.vocabulary_size, width=WIDTH, layers=1, heads=2, memory=48)
history = train_language_model(
    writer, encode(corpus.train), encode(corpus.validation), length=28, pad_id=tokenizer.pad_id,
    config=SupervisedConfig(supervised_epochs=EPOCHS, supervised_learning_rate=5e-3),
).history  # fmt: skip
losses = history["val_cross_entropy"]
print(
    chapter.text("validation cross-entropy, nats a token:", "验证集交叉熵,每个词元,奈特:"),
    np.round(losses, 3),
    chapter.text("uniform:", "均匀分布:"),
    round(np.log(tokenizer.vocabulary_size), 3),
)
assert losses[-1] < losses[0] < np.log(tokenizer.vocabulary_size)

# %% [markdown]
# 状态里只有过去：改动一个词元，它之前的一切都不变。“只有解码器”说的就是这个（注意力只往回看），LSTM也是如此。

# %%
ids = tf.constant([tokenizer.encode(example, begin=True)[:10]])
changed = tf.concat([ids[:, :6], [[tokenizer.encode("dull")[0]]], ids[:, 7:]], axis=1)
for model in (writer, LSTMActorCritic(tokenizer.vocabulary_size, width=32)):
    one, other = model(ids)[0], model(changed)[0]  # logits (1, 10, V)
    np.testing.assert_allclose(one[:, :6], other[:, :6], atol=1e-5)
    assert np.abs(one[:, 6:] - other[:, 6:]).max() > 1e-3
    print(type(model).__name__, one.shape, chapter.text("the past does not see the future", "过去看不到未来"))

# %% [markdown]
# ## 谁做什么：改正后的流程图
#
# - **策略**$\pi_\theta$写作。要训练的只有它和价值。
# - **参考模型**$\pi_{ref}$是策略在起点的一份冻结的副本，它说出每个词元当初的概率。
# - **奖励**是给提示和回复的一个数：由训练好并冻结的模型给出，或由任何一个函数给出。
# - **价值**$V_\phi$（评论家）在每个词元之前预测后面还会得到多少。
#
# 这里策略和价值是一个网络的两个输出头，一次调用同时给出logit和价值（`shared=False`则为两个网络）。

# %%
figure = Figure(figsize=(9, 4.6), layout="constrained")
axes = figure.add_subplot(xlim=(0, 10.2), ylim=(-0.3, 5.1))
axes.set_axis_off()
boxes = {  # name: (x, y, text, trained)
    "prompt": (0.9, 2.6, chapter.label("prompt x", "提示x"), None),
    "policy": (3.0, 2.6, chapter.label("policy\n$\\pi_\\theta$\n(trained)", "策略\n$\\pi_\\theta$\n(训练)"), True),
    "response": (5.3, 2.6, chapter.label("response y\ntoken by token", "回复y\n逐个词元"), None),
    "reward": (7.3, 4.4, chapter.label("reward R(x, y)\n(frozen)", "奖励R(x, y)\n(冻结)"), False),
    "reference": (7.3, 2.6, chapter.label("reference\n$\\pi_{ref}$\n(frozen)", "参考模型\n$\\pi_{ref}$\n(冻结)"), False),
    "value": (7.3, 0.8, chapter.label("value\n$V_\\phi$\n(trained)", "价值\n$V_\\phi$\n(训练)"), True),
    "ppo": (9.3, 2.6, chapter.label("PPO:\nadvantages,\nratio, clip", "PPO:\n优势、\n概率比、裁剪"), None),
}
for x, y, text, trained in boxes.values():
    style = {None: dict(facecolor="white"), True: dict(facecolor="#ffd9b0"), False: dict(facecolor="0.88", linestyle="--")}[trained]
    axes.add_patch(FancyBboxPatch((x - 0.68, y - 0.45), 1.36, 0.9, boxstyle="round,pad=0.05", edgecolor="black", **style))
    axes.text(x, y, text, ha="center", va="center", fontsize=9)


def arrow(*points, text="", at=(0, 0), color="black", line="-"):
    """Straight lines through the points, with a head at the last, and a word somewhere."""
    axes.plot(*zip(*points), color=color, linestyle=line, linewidth=1.3)
    axes.annotate("", points[-1], points[-2], arrowprops=dict(arrowstyle="->", color=color, linestyle=line, linewidth=1.3))
    axes.text(*at, text, ha="center", va="center", fontsize=8, color=color)


arrow((1.65, 2.6), (2.25, 2.6))
arrow((3.75, 2.6), (4.55, 2.6), text=chapter.label("samples", "采样"), at=(4.15, 2.8))
arrow((6.05, 2.6), (6.55, 2.6))
arrow((6.05, 2.9), (6.55, 4.1))
arrow((6.05, 2.3), (6.55, 1.1))
arrow((8.05, 4.2), (9.0, 3.15), text=chapter.label("score", "分数"), at=(8.9, 3.85))
arrow((8.05, 2.6), (8.55, 2.6), text="KL", at=(8.3, 2.8))
arrow((8.05, 1.0), (9.0, 2.05), text="$V(s_t)$", at=(8.8, 1.4))
arrow((0.9, 3.1), (0.9, 4.4), (6.55, 4.4), text=chapter.label("the reward reads the prompt too", "奖励也要读提示"), at=(3.6, 4.6))
red = dict(color="#a03000", line="--")
arrow((9.7, 2.1), (9.7, -0.1), (3.0, -0.1), (3.0, 2.1), text=chapter.label("gradient, in every minibatch", "梯度,每个小批量"), at=(5.0, 0.1), **red)
arrow((7.3, -0.1), (7.3, 0.3), **red)
chapter.show(figure, "diagram")

# %% [markdown]
# 虚线框永远不变。梯度（虚线箭头）只到达策略和价值。
#
# ## 回复
#
# 提示长短不一，所以在左边填充，使所有回复从同一个位置开始。回复一直采样到它的结束词元，或到`T`个词元的上限为止；再往后是填充。哪些是真的，由掩码说明。

# %%
T, TEMPERATURE = 20, 1.0
beginnings = ["The ending", "I", "The acting is", "A"]
prompts = Prompts(*map(tf.constant, pad_prompts([tokenizer.encode(text, begin=True) for text in beginnings], 5, tokenizer.pad_id)))
responses = generate(writer, prompts, T, tokenizer.end_id, tokenizer.pad_id, seed=tf.constant([0, 3]), temperature=TEMPERATURE)
for prompt, response, mask in zip(*tokenizer.decode_pairs(prompts, responses), responses.mask.numpy()):
    print(f"{prompt!r} -> {response!r}", chapter.text(f"({mask.sum():.0f} tokens)", f"({mask.sum():.0f}个词元)"))
lengths = responses.mask.numpy().sum(axis=1).astype(int)
print(chapter.text("mask of the prompts:", "提示的掩码:"))
print(prompts.mask.numpy().astype(int))

# %% [markdown]
# `log_probs`和`values`就来自采样时的那一次计算。这里用最朴素的办法重新算：对每个词元，把它之前的一切读一遍，不用任何填充。


# %%
def by_reading(model, i):
    """Log-probabilities and values of response `i`, one reading of the whole state for each token."""
    state = [token for token, real in zip(prompts.tokens[i].numpy(), prompts.mask[i].numpy()) if real]
    log_probs, values = [], []
    for token in responses.tokens[i, : lengths[i]].numpy():
        logits, value = model(tf.constant([state]))  # (1, n, V), (1, n)
        log_probs.append(tf.nn.log_softmax(logits[0, -1] / TEMPERATURE)[token].numpy())
        values.append(value[0, -1].numpy())
        state.append(token)
    return np.array(log_probs), np.array(values)


shortest = int(lengths.argmin())
log_probs, values = by_reading(writer, shortest)
np.testing.assert_allclose(responses.log_probs[shortest, : lengths[shortest]], log_probs, atol=1e-4)
np.testing.assert_allclose(responses.values[shortest, : lengths[shortest]], values, atol=1e-4)
assert not responses.log_probs[shortest, lengths[shortest] :].numpy().any()
print(chapter.text("log-probability of the whole response:", "整个回复的对数概率:"), f"{log_probs.sum():.3f}")

# %% [markdown]
# ## 每个词元的奖励
#
# 一个回复的分数是一个数，在它的最后一个词元$t=L$处给出。留在参考模型附近不花代价，离开它则每奈特付出$\beta$（Ziegler等，2019，式2）：
#
# $$r_t=-\beta\big(\log\pi_\theta(a_t|s_t)-\log\pi_{ref}(a_t|s_t)\big)+\mathbb{1}[t=L]\,R(x,y)$$
#
# 括号里是第4章的估计量$k_1$：在单个词元上可以为负，其均值是KL散度。被长度上限截断的回复，分数要扣一个惩罚。整个回复的奖励之和就是PPO要最大化的：$R(x,y)-\beta\sum_t k_{1,t}$。
#
# 训练时策略一步一步地离开参考模型。这里我们随机地把它推开一下，好让KL散度看得见。分数选用一眼就能核对的量：回复中字母“e”的个数除以十。

# %%
reference = writer.copy(name="reference")
random = np.random.default_rng(0)
writer.set_weights([w + 0.02 * random.normal(size=w.shape) for w in writer.get_weights()])

BETA, PENALTY = 0.1, 0.5
learner = LanguagePPO(
    writer, PythonReward(lambda prompt, response: response.count("e") / 10, tokenizer), tokenizer.end_id, tokenizer.pad_id, T,
    PPOConfig(discount=1.0, gae_lambda=0.95, temperature=TEMPERATURE), KLConfig(kl_coefficient=BETA),
    missing_end_penalty=PENALTY, reference=reference, seed=4,
)  # fmt: skip
responses, reference_log_probs, _ = learner.rollout(prompts)
scores = learner.score(prompts, responses)
trajectory, metrics = learner.assemble(prompts, responses, reference_log_probs, scores)
lengths = responses.mask.numpy().sum(axis=1).astype(int)
texts = tokenizer.decode_pairs(prompts, responses)[1]
np.testing.assert_allclose(scores, [text.count("e") / 10 for text in texts], rtol=1e-6)
for text, score, length in zip(texts, scores.numpy(), lengths):
    print(f"{score:.1f} {length:3d} {text!r}")

# %% [markdown]
# ## 逐个字段看`Trajectory`
#
# 本软件包的每个收集器都把它交给学习器。对每个回复：

# %%
B, P = prompts.tokens.shape
plain = {name: np.zeros([B, T]) for name in ("actions", "log_probs", "values", "rewards", "next_values", "ended", "mask")}
plain["actions"] += tokenizer.pad_id
starts = np.zeros([B, P + T - 1])
for i in range(B):
    n = lengths[i]
    own_log_probs, own_values = by_reading(writer, i)
    reference_own = by_reading(reference, i)[0]
    has_end = responses.tokens[i, n - 1].numpy() == tokenizer.end_id
    rewards = -BETA * (own_log_probs - reference_own)
    rewards[-1] += scores[i].numpy() - (0.0 if has_end else PENALTY)
    plain["actions"][i, :n] = responses.tokens[i, :n]
    plain["log_probs"][i, :n] = own_log_probs
    plain["values"][i, :n] = own_values
    plain["rewards"][i, :n] = rewards
    plain["next_values"][i, : n - 1] = own_values[1:]  # behind the last token there is nothing: 0
    plain["ended"][i, n - 1] = 1
    plain["mask"][i, :n] = 1
    starts[i, P - int(prompts.mask[i].numpy().sum())] = 1  # the first real token of the prompt begins the episode
for name, expected in plain.items():
    np.testing.assert_allclose(getattr(trajectory, name), expected, atol=2e-4, err_msg=name)
inputs = np.concatenate([prompts.tokens, plain["actions"]], axis=1)[:, :-1]  # the last token is written, but never read
np.testing.assert_array_equal(trajectory.inputs, inputs)
np.testing.assert_array_equal(trajectory.starts, starts)
print(chapter.text("plain fields equal those of LanguagePPO.assemble:", "手算的各字段与LanguagePPO.assemble相等:"), ", ".join([*plain, "inputs", "starts"]))

shown = int(lengths.argmin())
n = lengths[shown]
pieces = tokenizer.pieces(responses.tokens[shown, :n].numpy())
print(f"{'token':>10s} {'log_prob':>9s} {'ref':>9s} {'value':>8s} {'reward':>8s} {'next':>8s} ended")
for t, piece in enumerate(pieces):
    numbers = [x[shown, t] for x in (trajectory.log_probs, reference_log_probs, trajectory.values, trajectory.rewards, trajectory.next_values)]
    print(f"{piece:>10s} {numbers[0]:9.3f} {numbers[1]:9.3f} {numbers[2]:8.3f} {numbers[3]:8.3f} {numbers[4]:8.3f} {trajectory.ended[shown, t]:5.0f}")
kl = ((trajectory.log_probs - reference_log_probs) * trajectory.mask).numpy().sum(axis=1)
missing = np.array([0.0 if (responses.tokens[i].numpy() == tokenizer.end_id).any() else PENALTY for i in range(B)])
np.testing.assert_allclose(trajectory.rewards.numpy().sum(axis=1), scores - missing - BETA * kl, atol=1e-4)
np.testing.assert_allclose(metrics["objective/kl"], kl.mean(), atol=1e-4)
print(chapter.text("sum of rewards = score - penalty - beta * KL, for every response", "每个回复:奖励之和 = 分数 - 惩罚 - beta * KL"))

# %% [markdown]
# 从这里开始，算法不再关心它原来是不是文本。学习器计算优势（第4章），再做带裁剪的更新（第3章）。第一次更新之前，每个词元的概率比必须是1：采样时与学习时算出的对数概率应当相同。

# %%
_, _, log_ratio = learner.read(trajectory)
print(chapter.text("largest distance of a ratio from 1, before any update:", "更新之前概率比离1的最大距离:"), f"{np.abs(np.exp(log_ratio) - 1).max():.1e}")
assert np.abs(np.exp(log_ratio) - 1).max() < 1e-3
experience = learner.estimate(trajectory)
assert not experience.advantages[shown, n:].numpy().any()  # padding has no advantage
tokens = experience.advantages.numpy()[trajectory.mask.numpy() > 0]
np.testing.assert_allclose([tokens.mean(), tokens.std(ddof=1)], [0.0, 1.0], atol=1e-3)
rows = {
    "KL": (trajectory.log_probs - reference_log_probs)[shown, :n].numpy(),
    chapter.label("reward", "奖励"): trajectory.rewards[shown, :n].numpy(),
    chapter.label("value", "价值"): trajectory.values[shown, :n].numpy(),
    chapter.label("advantage", "优势"): experience.advantages[shown, :n].numpy(),
}
chapter.show(token_heat_map(pieces, rows, chapter.label("one response: red above 0, blue below", "一个回复:红色大于0,蓝色小于0")), "response")

# %% [markdown]
# 图中每一行有自己的刻度：绝对值最大的数颜色最重，深红大于0，浅蓝小于0。前三行的数可以由上面的表得到（行名旁若有10的幂，则该行各数都要乘以它）。优势已经在全部词元上化为均值0、标准差1（见第3章）。
#
# ## 小结
#
# - 一个回复是一个回合：状态是到目前为止的文本，动作是词元，环境只是把词元接上。
# - 四个模型：训练的是策略和价值，参考模型和奖励是冻结的。奖励读提示和回复。
# - 分数在最后一个真实的词元处，KL惩罚在每个词元处，合起来就是PPO要最大化的。
# - 最后一个词元之后价值是0；填充不进入任何计算。
#
# ## 练习
#
# 1. 一个回复没有受到惩罚。由它的对数概率、参考模型的对数概率、分数和beta，求它各词元的奖励。
# 2. 由一个回复的价值，求`next_values`。
# 3. 回复的困惑度是其真实词元上的$\exp(-\frac1n\sum_t\log\pi(a_t|s_t))$。求每一行的困惑度。
#
# 答案在`tutorials/solutions/02_language_models_and_ppo.py`。


# %%
@chapter.exercise
def rewards_of(log_probs, reference_log_probs, score, beta):
    return None  # an array like log_probs, (n,)


@chapter.exercise
def next_values_of(values):
    return None  # an array like values, (n,)


@chapter.exercise
def perplexities(log_probs, mask):
    return None  # one number a row, (B,), from two arrays (B, T)


part = slice(0, n)
without_penalty = trajectory.rewards[shown, part].numpy() + np.eye(n)[n - 1] * missing[shown]
chapter.check(rewards_of(trajectory.log_probs[shown, part].numpy(), reference_log_probs[shown, part].numpy(), float(scores[shown]), BETA), without_penalty)
chapter.check(next_values_of(trajectory.values[shown, part].numpy()), trajectory.next_values[shown, part])
expected = [np.exp(-trajectory.log_probs[i, : lengths[i]].numpy().mean()) for i in range(B)]
chapter.check(perplexities(trajectory.log_probs.numpy(), trajectory.mask.numpy()), expected)
