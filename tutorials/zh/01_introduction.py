# %% [markdown]
# # 1. 引言
#
# [目录](../README.md) · 下一章：[2. 语言模型与PPO](02_language_models_and_ppo.ipynb) · [English](../en/01_introduction.ipynb)
#
# **本章要学会**：PPO为语言模型做什么，本教程使用哪些术语；并且跑一次训练：一个写影评的小模型学会称赞。需要约1分钟。
#
# ## 原文的段落
#
# > 摘要：……本文展示了如何将PPO算法应用于大语言模型训练中……
# >
# > 1.4.1 PPO算法：一种基于策略梯度的强化学习算法，用于优化大语言模型的参数；强化学习：……通过不断试错和反馈来优化决策过程
# >
# > 1.4.2 梯度下降：……通过不断调整模型参数，使损失函数达到最小。
#
# 问题在于：
#
# - 承诺没有兑现：原文里没有文本，没有分词器，也没有语言模型，所写的算法也不是PPO（见第3章）。
# - PPO是通用的。它最初用于游戏和机器人（Schulman等，2017），语言模型只是用途之一。
# - 把强化学习说成“不断试错和反馈”，没有一连串的决策，也没有回报，这算不上定义。
# - 梯度下降的定义没有错，但只说了一半：PPO要*提高*一个目标。程序里写成符号相反的损失，但并不是在降低某种误差。
# - 术语和缩略词缺了这里真正要用的：KL、GAE、TD、RLHF、Transformer。
#
# ## 思路
#
# 用文本训练出来的语言模型是在模仿文本，好的坏的都模仿。很多时候，我们能评判一段文本，却写不出标准答案：要友善，要正确，要讲到某种动物。
# 这样的评判就是*奖励*。PPO改变模型，使它的回复得到更多奖励：
#
# 1. **预训练和有监督训练。** 模型通过模仿，逐个词元地学会写作。
# 2. **奖励。** 由函数，或者由用标签、偏好训练出来的网络，给提示和回复打分。
# 3. **PPO。** 反复进行：模型写出回复，回复得到分数，比预期好的就变得更可能一点。“一点”由裁剪来保证；离开*参考模型*（即原来的模型）要付出代价，这使它仍是一个语言模型。
#
# 要提高的是
#
# $$\mathbb{E}_{y\sim\pi_\theta}\big[R(x,y)\big]-\beta\,\mathrm{KL}\big(\pi_\theta\,\|\,\pi_{ref}\big)$$
#
# 其中$x$是提示，$y$是回复，$R$是奖励；$\pi_\theta$是参数为$\theta$的模型，$\pi_{ref}$是参考模型。KL散度衡量前者离后者有多远，$\beta$是它的价格。$\mathbb{E}_{y\sim\pi_\theta}$是对模型写出的回复取均值。
#
# ## 术语
#
# 原文1.4节的术语，经过改正（星号表示原文的定义有误或过窄）和补充。
#
# | English | 中文 | what it is | 是什么 |
# |---|---|---|---|
# | language model (LM) * | 语言模型 | gives the probability of the next token after a text; large (LLM) when it has billions of parameters | 给出一段文本之后下一个词元的概率；参数以十亿计的称为大语言模型（LLM） |
# | writer | 写作模型 | a small language model that writes texts; the policy that PPO trains here | 写文本的小语言模型；本教程中PPO训练的策略 |
# | token | 词元 | a piece of a word; what a model reads and writes | 词的片段；模型读写的单位 |
# | tokenizer, BPE | 分词器、字节对编码 | splits texts into tokens; byte-pair encoding learns the pieces | 把文本切成词元；字节对编码用来学出这些片段 |
# | prompt, response | 提示、回复 | what the model is given; what it writes | 给模型的文本；模型写出的文本 |
# | reinforcement learning (RL) * | 强化学习 | learning from rewards, in a sequence of decisions, to act for the largest expected return | 在一连串决策中从奖励学习，使期望回报最大 |
# | agent, environment | 智能体、环境 | who acts; what answers with a state and a reward | 行动者；以状态和奖励作答的一方 |
# | state, action | 状态、动作 | in a text: what is written so far; the next token | 在文本中：已写出的内容；下一个词元 |
# | bandit | 多臂老虎机 | the decision problem with a single step: an action, its reward, the end | 只有一步的决策问题：一个动作，它的奖励，然后结束 |
# | reward | 奖励 | a number for one step | 一步所得的数 |
# | return | 回报 | the (discounted) sum of the rewards that follow | 此后奖励的（折扣）总和 |
# | discount $\gamma$ | 折扣 | how much a reward counts one step later | 晚一步的奖励打多少折扣 |
# | episode, trajectory, rollout | 回合、轨迹、展开 | from start to end; its record; acting to get one | 从开始到终止；对它的记录；为得到记录而行动 |
# | policy $\pi$ | 策略 | the probabilities of actions in a state; here the language model | 状态下各动作的概率；这里就是语言模型 |
# | value $V$, critic | 价值、评论家（价值网络） | the expected return from a state on, under the policy; the network that estimates it | 从某状态起、按策略行动的期望回报；估计它的网络 |
# | advantage $A$ | 优势 | how much better an action is than the policy's average: $Q-V$ | 动作比策略的平均好多少：$Q-V$ |
# | baseline | 基线 | a number subtracted from returns; it takes noise from the policy gradient and leaves its mean | 从回报中减去的数；减小策略梯度的噪声，不改变其均值 |
# | actor-critic | 演员-评论家 | a policy and a value that learn side by side | 同时学习的策略与价值 |
# | policy gradient, REINFORCE | 策略梯度 | the gradient of the expected return with respect to the policy's parameters, from samples | 期望回报对策略参数的梯度，由样本估计 |
# | TD error $\delta$ | 时序差分误差 | $r+\gamma V(s')-V(s)$ (temporal difference) | $r+\gamma V(s')-V(s)$ |
# | GAE | 广义优势估计 | generalized advantage estimation: a decaying sum of TD errors | TD误差的衰减和 |
# | importance sampling, ratio | 重要性采样、概率比 | $\pi/\pi_{old}$ weights samples of an older policy | 用$\pi/\pi_{old}$给旧策略的样本加权 |
# | clipping | 裁剪 | no gradient once the ratio has left $1\pm\epsilon$ in the direction that the advantage asks for | 概率比按优势的方向离开$1\pm\epsilon$后不再有梯度 |
# | PPO * | 近端策略优化 | proximal policy optimization: policy gradient with that clipping, for any decision problem | 带有这种裁剪的策略梯度，适用于任何决策问题 |
# | entropy | 熵 | how undecided a policy is, in nats | 策略有多不确定，单位是奈特 |
# | KL divergence | KL散度 | how far one distribution is from another (Kullback and Leibler); not the same in both directions | 一个分布离另一个有多远；两个方向的值不同 |
# | reference model | 参考模型 | a frozen copy of the policy before PPO | PPO之前策略的冻结副本 |
# | reward model | 奖励模型 | a network trained on labels or preferences to score responses | 用标签或偏好训练、给回复打分的网络 |
# | RLHF | 基于人类反馈的强化学习 | RL from human feedback: the reward model learned from people's preferences | 奖励模型由人的偏好学来的强化学习 |
# | reward over-optimisation | 奖励过度优化 | the reward rises, what it stood for does not | 奖励上升了，它所代表的却没有 |
# | supervised training, SFT | 有监督训练、监督微调 | learning from given answers; before PPO (fine-tuning) | 从给定的答案学习；在PPO之前进行 |
# | pre-training | 预训练 | learning to predict the next token of very many texts | 在大量文本上学习预测下一个词元 |
# | cross-entropy, perplexity | 交叉熵、困惑度 | mean $-\log p$ of the right token; its exponential | 正确词元$-\log p$的均值；它的指数 |
# | gradient descent, ascent * | 梯度下降、梯度上升 | steps that lower a loss; that raise an objective, as in PPO (written as a loss of opposite sign) | 降低损失的步；提高目标的步，PPO属于后者（写成符号相反的损失） |
# | epoch, minibatch | 轮、小批量 | one pass over the data; the part used by one optimizer step | 把数据过一遍；优化器一步所用的部分 |
# | greedy, sampling, temperature | 贪心、采样、温度 | the likeliest token; a random one, by its probability; what divides the logits | 取最可能的词元；按概率随机抽取；logit要除以的数 |
# | left padding, mask | 左填充、掩码 | filling up prompts at the left; what says which tokens are real | 在提示左边补齐；说明哪些词元是真的 |
# | random seed | 随机种子 | where random numbers start; the same seed, the same run | 随机数的起点；种子相同，运行就相同 |
# | NLP, ML, DL | 自然语言处理、机器学习、深度学习 | natural language processing, machine learning, deep learning | 见左 |
# | RNN, LSTM, GRU | 循环神经网络、长短期记忆网络、门控循环单元 | networks that read step by step with a memory | 带着记忆逐步读取的网络 |
# | Transformer | Transformer | a network that looks at all earlier tokens at once by attention | 用注意力同时看前面所有词元的网络 |
# | CPU, GPU | 中央处理器、图形处理器 | processors; the second does many things at once | 处理器；后者可同时做许多事 |
# | XLA | XLA | TensorFlow's compiler; an iteration becomes one program | TensorFlow的编译器；一次迭代成为一个程序 |
#
# ## 第一次训练
#
# 数据随软件包附带：英文的短影评（两种语言的教程用同样的代码和数据）。第一步：一个分词器和一个小Transformer学习写影评。只给它几秒钟，所以写得还不通顺。

# %%
import sys
from pathlib import Path

sys.path.append(str(Path(globals().get("__file__", "notebook")).resolve().parents[1]))  # the folder of chapter.py

import re
import time

import keras
import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure

from ppo_keras import (
    KLConfig,
    LanguagePPO,
    PPOConfig,
    Prompts,
    PythonReward,
    Tokenizer,
    TransformerActorCritic,
    load_texts,
)
from ppo_keras.config import SupervisedConfig
from ppo_keras.language.evaluation import Evaluator, distinct
from ppo_keras.language.generation import pad_prompts
from ppo_keras.language.supervised import train_language_model

from chapter import Chapter

ITERATIONS = 14  # of PPO; 60 and a width of 128 for the real thing
WIDTH = 64
T = 22  # most tokens of a response

chapter = Chapter("01_introduction")
keras.utils.set_random_seed(0)
begun = time.perf_counter()
corpus = load_texts()
tokenizer = Tokenizer.train(corpus.train.texts, vocabulary_size=1500)
encode = lambda split: [tokenizer.encode(text, begin=True, end=True) for text in split.texts]
writer = TransformerActorCritic(tokenizer.vocabulary_size, width=WIDTH, layers=1, heads=2, memory=40)
losses = train_language_model(
    writer, encode(corpus.train), encode(corpus.validation), length=26, pad_id=tokenizer.pad_id,
    config=SupervisedConfig(supervised_epochs=4, supervised_learning_rate=5e-3),
).history["val_cross_entropy"]  # fmt: skip
writer.start_value_from_policy()  # the critic begins at V = 0
print(chapter.text(f"{len(corpus.train.texts)} texts; validation cross-entropy", f"{len(corpus.train.texts)}条文本;验证集交叉熵"), np.round(losses, 2))
assert losses[-1] < losses[0]

# %% [markdown]
# 第二步：奖励。任何以提示和回复为参数的Python函数都可以。这里的函数很简单：回复中至少有一个称赞的词，就给1。提示是影评开头的几个词元，测试集的影评在训练中从未出现过。

# %%
PRAISE = set("good great best fine lovely wonderful beautiful clever funny charming delight perfect superb brilliant love loved enjoy enjoyed warm fun".split())


def praises(prompt, response):
    return float(any(word in PRAISE for word in re.findall(r"[a-z]+", response.lower())))


def prompts_of(split, count):
    beginnings = [tokenizer.encode(split.texts[i % len(split.texts)], begin=True)[: 3 + i % 2] for i in range(count)]
    return Prompts(*pad_prompts(beginnings, 4, tokenizer.pad_id))


reward = PythonReward(praises, tokenizer)
reference = writer.copy(name="reference")  # stays as it is
evaluator = Evaluator(writer, reference, reward, None, tokenizer, T, temperature=1.0, batch_size=64, jit_compile=False)


def measure():
    """Lets the writer answer 128 prompts of the test split, once each, and measures."""
    return evaluator(prompts_of(corpus.test, 128), seed=1)


def look(evaluation):
    for prompt, response, score in list(zip(evaluation.prompts, evaluation.responses, evaluation.scores))[:6]:
        print(f"{score:.0f} {prompt}|{response}")


before = measure()
plain = np.mean([any(word in PRAISE for word in re.findall("[a-z]+", text.lower())) for text in before.responses])
np.testing.assert_allclose(before.reward, plain)
print(chapter.text("share of responses that praise, before PPO:", "PPO之前,称赞的回复所占比例:"), f"{before.reward:.3f}")
look(before)

# %% [markdown]
# 第三步：PPO。`LanguagePPO`是一个`keras.Model`：先`compile`，再`fit`。`fit`的每一步是一次迭代：64个回复，它们的分数，以及四轮、每轮四个小批量的更新。
# 没有结束或明显短于平常的回复要扣分，否则讨好奖励的最省事的办法就是只写一个词。

# %%
agent = LanguagePPO(
    writer, reward, tokenizer.end_id, tokenizer.pad_id, T, PPOConfig(discount=1.0), KLConfig(kl_coefficient=0.03),
    missing_end_penalty=0.3, short_penalty=1.0, usual_length=16, reference=reference,
)  # fmt: skip
agent.compile(keras.optimizers.Adam(2e-3, epsilon=1e-5))
prompts = tf.data.Dataset.from_tensor_slices(prompts_of(corpus.train, len(corpus.train.texts))).repeat().batch(64)
history = agent.fit(prompts, steps_per_epoch=1, epochs=ITERATIONS, verbose=0).history
scores, kls = history["objective/scores"], history["objective/kl"]
for i in range(0, ITERATIONS, 3):
    print(
        chapter.text(
            f"iteration {i + 1:2d}: score {scores[i]:.2f}, KL {kls[i]:.1f} nats a response",
            f"第{i + 1:2d}次迭代:分数{scores[i]:.2f},每个回复的KL散度{kls[i]:.1f}奈特",
        )
    )

# %% [markdown]
# 现在再次使用测试集的那些提示。

# %%
after = measure()
print(chapter.text("share of responses that praise, before and after:", "称赞的回复所占比例,之前与之后:"), f"{before.reward:.3f} -> {after.reward:.3f}")
look(after)
assert after.reward > max(before.reward + 0.3, 0.6)
print(chapter.text(f"seconds since the beginning: {time.perf_counter() - begun:.0f}", f"从开始到现在的秒数:{time.perf_counter() - begun:.0f}"))

# %% [markdown]
# ## 代价是什么
#
# 分数不是全部。另一些度量说明还有什么变了：离参考模型多远，参考模型对这些回复有多意外（困惑度；反复使用简单的词时，它甚至会下降），以及回复有多少变化（相邻词元对中不同者的比例）。KL散度很容易手算：它是$\sum_t(\log\pi_\theta-\log\pi_{ref})$对回复的均值。

# %%
for name, en, zh in (("reward", "score", "分数"), ("kl", "KL, nats a response", "每个回复的KL散度,奈特"), ("length", "tokens", "词元数"),
                     ("perplexity", "perplexity", "困惑度"), ("distinct_2", "different pairs", "不同的词元对的比例")):  # fmt: skip
    print(f"{chapter.text(en, zh)}: {getattr(before, name):.3f} -> {getattr(after, name):.3f}")
assert abs(before.kl) < 1e-3 < 1 < after.kl and after.distinct_2 < before.distinct_2

some = Prompts(*map(tf.constant, prompts_of(corpus.test, 64)))
responses, reference_log_probs, _ = agent.rollout(some)
by_hand = (responses.log_probs - reference_log_probs).numpy().sum(axis=1).mean()
_, metrics = agent.assemble(some, responses, reference_log_probs, agent.score(some, responses))
np.testing.assert_allclose(metrics["objective/kl"], by_hand, rtol=1e-4)
print(chapter.text("KL by hand and by the package:", "KL散度,手算与软件包:"), f"{by_hand:.3f}, {metrics['objective/kl']:.3f}")

count = lambda evaluation: {word: np.mean([word in re.findall("[a-z]+", text.lower()) for text in evaluation.responses]) for word in sorted(PRAISE)}
shares = count(before), count(after)
words = sorted(sorted(PRAISE), key=shares[1].get)[-8:]
figure = Figure(figsize=(9, 3.4), layout="constrained")
left, right = figure.subplots(1, 2)
left.plot(range(1, ITERATIONS + 1), scores, "-o", markersize=4, label=chapter.label("score", "分数"))
left.set(xlabel=chapter.label("iteration", "迭代"), ylabel=chapter.label("mean score", "平均分数"), ylim=(0, 1.02))
second = left.twinx()
second.plot(range(1, ITERATIONS + 1), kls, "--s", markersize=4, color="C1", label="KL")
second.set(ylabel=chapter.label("KL, nats a response", "KL,奈特/回复"), ylim=(0, None))
left.legend(handles=[*left.lines, *second.lines], loc="lower right")
left.grid(alpha=0.3)
for shift, share, hatch, label in ((-0.2, shares[0], "//", chapter.label("before", "之前")), (0.2, shares[1], "", chapter.label("after", "之后"))):
    right.barh(np.arange(len(words)) + shift, [share[word] for word in words], 0.4, hatch=hatch, edgecolor="black", label=label)
right.set_yticks(range(len(words)), words)
right.set(xlabel=chapter.label("share of responses with the word", "含有该词的回复比例"))
right.legend(loc="lower right")
right.grid(alpha=0.3, axis="x")
chapter.show(figure, "training")

# %% [markdown]
# 模型做到了奖励所要求的，仅此而已：它找到了讨好的词，大多数回复都用上了，写法却少了变化。影评是否通顺，并不在奖励之中。难的是把想要的说清楚；PPO随后会找到办法，也会找到捷径。
#
# ## 接下来读什么
#
# | | |
# |---|---|
# | `02_language_models_and_ppo` | 把文本看作回合；谁做什么；学习器得到的记录 |
# | `03_policy_gradient_to_ppo` | PPO是怎样一步步得来的，每步几行代码 |
# | `04_mathematics` | 每一个公式，都配上数字 |
# | `04_3_gridworld` | 一个完整的四状态世界 |
#
# 后面各章以这四章为基础。若愿意训练几分钟，写得更好，并使用学出来的奖励模型和裁判，请运行`ppo-keras train generation`（见README）。
#
# ## 小结
#
# - 有监督训练是模仿；PPO在参考模型附近提高奖励。
# - 奖励可以是提示和回复的任何函数。
# - 不要只看奖励：还要看KL散度、长度、变化，以及文本本身。
#
# ## 练习
#
# 1. 写一个奖励：回复的词中称赞的词所占的比例（没有词则为0）。
# 2. PPO所提高的量：由一些回复的分数和KL散度，求平均分数减去$\beta$乘以平均KL散度。
# 3. 一组词元序列的变化程度：不同的相邻对的个数与全部相邻对的个数之比，所有序列合在一起数（相邻对不跨序列）。
#
# 答案在`tutorials/solutions/01_introduction.py`。


# %%
@chapter.exercise
def share_of_praise(words, praise):
    return None  # a number, from a list of words and a set of words


@chapter.exercise
def objective(scores, kls, beta):
    return None  # a number, from two arrays


@chapter.exercise
def variety(token_lists):
    return None  # a number, from a list of lists of ids


sentence = "a warm and funny film with a good ending".split()
chapter.check(share_of_praise(sentence, PRAISE), np.mean([word in PRAISE for word in sentence]))
own_scores, own_kls = agent.score(some, responses).numpy(), (responses.log_probs - reference_log_probs).numpy().sum(axis=1)
chapter.check(objective(own_scores, own_kls, 0.03), own_scores.mean() + float(metrics["objective/non_score_reward"]), tolerance=1e-4)
lists = [tokenizer.encode(text) for text in after.responses]
chapter.check(variety(lists), distinct(lists, 2))
