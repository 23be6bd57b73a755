# %% [markdown]
# # 6.4 机器翻译：以句子的评分作奖励
#
# [目录](../README.md) · 上一章：[6.3 问答：可以验证的奖励](06_3_question_answering.ipynb) · 下一章：[6.5 大语言模型：适配器，以及不花钱的参考模型](06_5_large_language_model.ipynb) · [English](../en/06_4_translation.ipynb)
#
# **本章要学会**：手算chrF，并把它用作单个句子的奖励；在策略之前先找到它的一个漏洞；明白为什么要热启动，以及为什么采样的译文比贪心的译文提高得更多。
# 需要约1分钟。（需要在克隆的仓库中`pip install -e ".[translation]"`，以安装sacrebleu。）
#
# ## 原文的段落
#
# > PPO算法可以用于优化大语言模型在机器翻译任务中的翻译策略。通过PPO算法，我们可以使模型在翻译文本时更加准确。
#
# 问题在于：
#
# - 几乎同样的一句话，这是第四遍了。状态、动作、奖励、基线和度量都没有。
# - “准确”必须变成*每个*句子的一个数。最有名的度量BLEU是针对整个测试集的；不作平滑时，只要一个句子与参考译文没有连续四个词相同，它就是0。
# - 未经训练的策略，让PPO几乎无从下手：它写的东西几乎得不到分（下面会计算）。原文没有提到用有监督训练作热启动。
#
# ## 完整的任务
#
# | 部分 | 在本章中 |
# |---|---|
# | 状态 | 一个英文短语，以及已经写出的中文词元 |
# | 动作 | 下一个词元 |
# | 回合 | 一条译文，直到它的结束词元 |
# | 奖励 | 在最后一个词元之后给出：句子的chrF，减去对过短的惩罚 |
# | 基线 | 用四分之三的短语做有监督训练之后的策略 |
# | 度量 | 留出短语上的平均chrF，贪心与采样 |

# %%
import sys
from pathlib import Path

sys.path.append(str(Path(globals().get("__file__", "notebook")).resolve().parents[1]))  # the folder of chapter.py

from collections import Counter

import keras
import numpy as np
import sacrebleu
import tensorflow as tf
from matplotlib.figure import Figure

from ppo_keras import KLConfig, LanguagePPO, PPOConfig, ReferenceReward, Tokenizer, TransformerActorCritic, load_pairs
from ppo_keras.config import SupervisedConfig
from ppo_keras.language.evaluation import Responder
from ppo_keras.language.generation import pad_prompts
from ppo_keras.language.supervised import train_answers

from chapter import Chapter

ITERATIONS, EVERY = 30, 10  # 300 for the real thing, and WIDTH = 128: or `ppo-keras train translation`
BATCH, GROUP = 512, 8  # translations in an iteration, translations of each phrase
WIDTH, SHARE = 64, 0.75

chapter = Chapter("06_4_translation")
keras.utils.set_random_seed(0)
names = {"greedy": chapter.text("greedy", "贪心"), "sampled": chapter.text("sampled", "采样")}
corpus = load_pairs(bundled="phrases", defaults=("source", "target"))
train, test = corpus.train, corpus.test
known = round(SHARE * len(train.texts))
print(len(train.texts), chapter.text("phrases, with a translation:", "个短语,其中给出译文的:"), known)
print(chapter.text("phrases held out:", "留出的短语:"), len(test.texts))
for text, references in zip(train.texts[:3], train.references):
    print(f"   {text} -> {references[0]}")

# %% [markdown]
# ## chrF
#
# chrF（Popović，2015）比较译文和参考译文的字符$n$元组，$n$从1到6，不计空白。精确率$P$是译文的$n$元组中参考译文也有的比例，召回率$R$是参考译文的$n$元组中译文也有的比例；两者都对$n$取平均。召回率的分量加倍（$\beta=2$）：
#
# $$\mathrm{chrF}=\frac{(1+\beta^2)\,P\,R}{\beta^2 P+R}$$
#
# （$n$元组是相邻的$n$个字符：“abc”的二元组是“ab”和“bc”。）如果对某个$n$，其中一段文本太短，这个$n$就不计入平均。我们自己写的与sacrebleu的对照：


# %%
def chrf(response, reference, orders=6, beta=2.0):
    """chrF of one sentence, 0 to 1."""
    texts = ["".join(text.split()) for text in (response, reference)]
    precisions, recalls = [], []
    for n in range(1, orders + 1):
        pair = [Counter(text[i : i + n] for i in range(len(text) - n + 1)) for text in texts]
        found, wanted = map(Counter.total, pair)
        if found and wanted:
            common = (pair[0] & pair[1]).total()
            precisions.append(common / found)
            recalls.append(common / wanted)
    if not precisions:
        return 0.0
    P, R = np.mean(precisions), np.mean(recalls)
    return (1 + beta**2) * P * R / (beta**2 * P + R) if P + R > 0 else 0.0


metric = sacrebleu.metrics.CHRF()
wanted = "因为下雪，飞机不能起飞。"
for response in (wanted, "下雪了，飞机不能飞。", "飞机不能起飞", "今天天气很好。", "。", ""):
    np.testing.assert_allclose(chrf(response, wanted), metric.sentence_score(response, [wanted]).score / 100, atol=1e-9)
    print(f"{chrf(response, wanted):.3f}  {response!r}")
assert chrf("。", wanted) > chrf("今天天气很好。", wanted)

# %% [markdown]
# 看最后几行。单独一个句号的精确率是1，而且免于所有大于1的$n$；一个通顺但用词不同的句子反而得分更低。这是一个漏洞，我们赶在策略之前找到了它。
# 它有多大？对测试集的每个短语，只回答它的句末标点：

# %%
lazy = ["？" if text.endswith("?") else "。" for text in test.texts]
lazy_score = np.mean([chrf(response, references[0]) for response, references in zip(lazy, test.references)])
print(chapter.text("mean chrF of the end mark alone:", "只写句末标点的平均chrF:"), f"{100 * lazy_score:.1f}")

# %% [markdown]
# 学习器的`short_penalty`用来对付它：回复比通常的长度短多少，就按比例扣多少（见6.1）。
#
# ## 热启动
#
# 要从上千种词元中挑出十个组成译文，靠碰运气是找不到的。所以先做有监督训练，使用四分之三短语的译文。

# %%
splits = {name: getattr(corpus, name) for name in ("train", "validation", "test")}
tokenizer = Tokenizer.train(train.texts + [several[0] for several in train.references[:known]], vocabulary_size=1200)
sources = {name: [tokenizer.encode_question(text) for text in split.texts] for name, split in splits.items()}
targets = {name: [tokenizer.encode(several[0], end=True) for several in split.references] for name, split in splits.items()}
PROMPT = max(len(ids) for token_lists in sources.values() for ids in token_lists)
RESPONSE, usual_length = max(map(len, targets["train"][:known])), float(np.mean([len(ids) for ids in targets["train"][:known]]))
prompts = {name: pad_prompts(token_lists, PROMPT, tokenizer.pad_id) for name, token_lists in sources.items()}

policy = TransformerActorCritic(tokenizer.vocabulary_size, width=WIDTH, layers=1, heads=4, memory=PROMPT + RESPONSE, dropout=0.2)
respond = Responder(policy, tokenizer, RESPONSE, temperature=1.0, batch_size=len(test.texts))
respond_colder = Responder(policy, tokenizer, RESPONSE, temperature=0.5, batch_size=len(test.texts))


def mean_chrf(responses, split="test"):
    """0 to 100, as it is usually written."""
    return 100 * float(np.mean([chrf(response, references[0]) for response, references in zip(responses, splits[split].references)]))


def sample_chrf(sampler, split="test"):
    """Mean chrF of three sampled translations of each phrase of a split."""
    return float(np.mean([mean_chrf(sampler(prompts[split], False, seed), split) for seed in range(3)]))


def measure(split="test"):
    """Mean chrF on a split."""
    return {"greedy": mean_chrf(respond(prompts[split], True, 0), split), "sampled": sample_chrf(respond, split)}


untrained = measure()
learning = SupervisedConfig(supervised_epochs=18, supervised_learning_rate=4e-3, patience=4)
pairs = {name: list(zip(sources[name], targets[name])) for name in ("train", "validation")}
train_answers(policy, pairs["train"][:known], pairs["validation"], PROMPT + RESPONSE, tokenizer.pad_id, learning)
policy.start_value_from_policy()
before, colder = measure(), {split: sample_chrf(respond_colder, split) for split in ("test", "validation")}
greedy_before = respond(prompts["test"], True, 0)
theirs = [metric.sentence_score(*pair).score for pair in zip(greedy_before, test.references)]
np.testing.assert_allclose(mean_chrf(greedy_before), np.mean(theirs))
print(chapter.text("untrained:", "未经训练:"), {names[kind]: round(value, 1) for kind, value in untrained.items()})
print(chapter.text("after supervised training:", "有监督训练之后:"), {names[kind]: round(value, 1) for kind, value in before.items()})
assert before["sampled"] > 3 * untrained["sampled"] and 100 * lazy_score > before["sampled"]

# %% [markdown]
# 单独一个句末标点的得分，比这个小策略采样的译文还高。没有惩罚，它就很有诱惑力（练习1计算惩罚对它的作用）。
#
# ## 在全部短语上用PPO
#
# PPO翻译训练集的全部短语，每个短语轮到时各译八次，只被告知每条译文的得分。一个得分的基线是另外七个的平均（见6.3）。单个句子的得分噪声很大，所以批量很大，而且只用一遍。

# %%
reward = ReferenceReward(lambda response, references: chrf(response, references[0]), train.references, tokenizer)
config = PPOConfig(discount=1.0, value_coefficient=0.1, epochs=1, minibatches=4, max_gradient_norm=1.0)
agent = LanguagePPO(
    policy, reward, tokenizer.end_id, tokenizer.pad_id, RESPONSE, config, KLConfig(kl_coefficient=0.005),
    short_penalty=0.3, usual_length=usual_length, responses_per_prompt=GROUP,
)  # fmt: skip
agent.compile(keras.optimizers.Adam(1.5e-3, epsilon=1e-5), jit_compile=True)
data = tf.data.Dataset.from_tensor_slices(prompts["train"].numbered()).shuffle(len(train.texts), seed=0).repeat()
data = data.batch(BATCH // GROUP, drop_remainder=True)
curve, entropy, lengths = [measure("validation")], [], []


class Look(keras.callbacks.Callback):
    """Translates the validation split every few iterations."""

    def on_train_batch_end(self, batch, logs=None):
        entropy.append(float(logs["policy/entropy"]))
        lengths.append(float(logs["response/length"]))

    def on_epoch_end(self, epoch, logs=None):
        curve.append(measure("validation"))


agent.fit(data, steps_per_epoch=EVERY, epochs=ITERATIONS // EVERY, callbacks=[Look()], verbose=0)
after, greedy_after = measure(), respond(prompts["test"], True, 0)
print(chapter.text("mean chrF on phrases held out, before -> after:", "留出短语上的平均chrF,之前 -> 之后:"))
for kind in before:
    print(f"   {names[kind]:8} {before[kind]:.1f} -> {after[kind]:.1f}  ({after[kind] - before[kind]:+.1f})")
print(chapter.text("sampled before PPO at temperature 0.5:", "PPO之前,温度0.5下采样:"), f"{colder['test']:.1f}")
first, last = np.mean(entropy[:5]), np.mean(entropy[-5:])
print(chapter.text("entropy, nats a token, first and last five iterations:", "熵,每词元的奈特数,最初和最后五次迭代:"), f"{first:.2f} {last:.2f}")
for i in range(4):
    print(f"   {test.texts[i]}  {greedy_before[i]} -> {greedy_after[i]}")
assert after["sampled"] > before["sampled"] + 0.8 and abs(after["greedy"] - before["greedy"]) < 2.5
assert after["sampled"] - before["sampled"] > after["greedy"] - before["greedy"]
assert last < first - 0.1 and np.mean(lengths[-5:]) > 0.8 * usual_length
assert colder["test"] > before["sampled"] + 1.0

figure = Figure(figsize=(8, 3.2), layout="constrained")
iterations = chapter.label("iteration", "迭代")
axes = figure.add_subplot(1, 2, 1, xlabel=iterations, ylabel=chapter.label("mean chrF, validation split", "平均chrF,验证集"))
for kind, style, name in (("greedy", "-o", chapter.label("greedy", "贪心")), ("sampled", "--s", chapter.label("sampled", "采样"))):
    axes.plot(np.arange(len(curve)) * EVERY, [measured[kind] for measured in curve], style, label=name)
axes.axhline(colder["validation"], color="black", linestyle=":", label=chapter.label("sampled before PPO, temperature 0.5", "PPO之前采样,温度0.5"))
axes.set_ylim(bottom=0)
axes.grid(alpha=0.3)
axes.legend(fontsize=8, loc="lower right")
axes = figure.add_subplot(1, 2, 2, xlabel=iterations, ylabel=chapter.label("entropy, nats a token", "熵,每词元的奈特数"))
axes.plot(range(1, ITERATIONS + 1), entropy)
axes.set_ylim(bottom=0)
axes.grid(alpha=0.3)
chapter.show(figure, "chrf_and_entropy")

# %% [markdown]
# ## 为什么采样的译文提高得更多
#
# PPO最大化的是它*采样*出来的译文的得分；贪心翻译则处处取概率最大的词元：
#
# $$\text{采样:}\;\mathbb{E}_{y\sim\pi}\big[s(y)\big]\qquad\qquad\text{贪心:}\;s\big(\arg\max\pi\big)$$
#
# （$\arg\max\pi$在这里指处处取概率最大词元的那条译文。）上图的曲线画在验证集上；测试集只在训练前后各看一次。
#
# 概率只要有一点从较差的词元移到较好的词元，前者就会上升。后者只有在概率最大的词元换成另一个时才会改变。小策略会采样到许多差的词元，PPO首先使这种情形变少：熵下降，采样的代价（两个数之间的距离）随之缩小。

# %%
price = [measured["greedy"] - measured["sampled"] for measured in (before, after)]
print(chapter.text("price of sampling, before -> after:", "采样的代价,之前 -> 之后:"), f"{price[0]:.1f} -> {price[1]:.1f}")
assert price[1] < price[0]

scores = np.array([0.5, 0.2])  # of two translations of one phrase
probabilities = {chapter.text("before:", "之前:"): np.array([0.6, 0.4]), chapter.text("after: ", "之后:"): np.array([0.9, 0.1])}
for stage, pi in probabilities.items():
    print(stage, chapter.text("sampled", "采样"), (pi @ scores).round(3), chapter.text("greedy", "贪心"), scores[pi.argmax()])

# %% [markdown]
# 对基线也要公平：降低*温度*也有同样的效果，而且不需要训练。有监督训练的策略在温度0.5下采样，明显好于在温度1下采样，而贪心译文是它的极限；请把上面打印的温度0.5的结果与PPO的对照。所以仅凭采样chrF的提高，不能证明翻译得更好了；超出偶然的贪心提高才能证明。在这里，贪心的变化较小，可正可负：策略小，短语少，单个句子的得分又是一位充满噪声的老师。上面打印的译文，之前和之后都算不上好。
#
# ## 小结
#
# - 状态：短语和已有的译文。奖励：句子的chrF。基线：有监督训练，它也是热启动。
# - 为比较翻译系统而设计的度量，一旦成为奖励就会露出漏洞：chrF对短文本免去了长$n$元组的考核。
# - PPO改进的是采样的结果。要报告贪心、采样，以及较低温度下的采样，否则会把分布变尖锐误认为学会了翻译。
#
# ## 练习
#
# 1. 单独一个句末标点得0.12分，连同结束词元共2个词元；通常的长度是12，`short_penalty`是0.3。得分还剩多少？
# 2. 参考译文是“abc”，“ab”的chrF是多少（0到1）？
# 3. 一个短语的两条译文得分为0.2和0.6。PPO把它们的概率从[0.7, 0.3]移到[0.4, 0.6]。采样得分和贪心得分各提高多少？
#
# 答案在`tutorials/solutions/06_4_translation.py`。


# %%
@chapter.exercise
def penalised():
    return None  # your number


@chapter.exercise
def chrf_of_ab():
    return None  # your number


@chapter.exercise
def two_gains():
    return None  # your two numbers, sampled and greedy


chapter.check(penalised(), 0.12 - 0.3 * (1 - 2 / 12))
chapter.check(chrf_of_ab(), metric.sentence_score("ab", ["abc"]).score / 100)
old, new, of_each = np.array([0.7, 0.3]), np.array([0.4, 0.6]), np.array([0.2, 0.6])
chapter.check(two_gains(), [(new - old) @ of_each, of_each[new.argmax()] - of_each[old.argmax()]])
