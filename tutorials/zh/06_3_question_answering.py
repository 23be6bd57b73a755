# %% [markdown]
# # 6.3 问答：可以验证的奖励
#
# [目录](../README.md) · 上一章：[6.2 文本分类：一个多臂老虎机](06_2_text_classification.ipynb) · 下一章：[6.4 机器翻译：以句子的评分作奖励](06_4_translation.ipynb) · [English](../en/06_3_question_answering.ipynb)
#
# **本章要学会**：用一个不需要奖励模型的奖励来训练，因为答案非对即错；让同一个问题的几个回答互为基线；并借助从未看过答案的问题来改进策略。
# 需要约1分钟。
#
# ## 原文的段落
#
# > PPO算法可以用于优化大语言模型在问答系统中的回答生成。通过PPO算法，我们可以使模型在生成回答时更加准确和合理。
#
# 问题在于：
#
# - 这几乎又是6.1和6.2的那句话，只换了名词。状态、动作、奖励、基线和度量都没有。
# - “准确”与“合理”是两种奖励，不是一种。前者可以由程序检验；后者需要一个模型来描述人们认为什么合理，而这种模型的毛病，6.1已经展示过了。
# - 凡是知道答案的地方，先做有监督训练。原文没有说PPO还能增添什么。
#
# ## 完整的任务
#
# | 部分 | 在本章中 |
# |---|---|
# | 状态 | 一个问题，带一个小故事，以及已经写出的回答词元 |
# | 动作 | 下一个词元 |
# | 回合 | 一个回答，直到它的结束词元 |
# | 奖励 | 在最后一个词元之后给出：答案正确为1，否则为0（*可验证*） |
# | 基线 | 用来比较的：用一部分答案做有监督训练之后的策略；在PPO内部的：同一问题的其他回答 |
# | 度量 | 留出问题上的精确匹配，贪心与采样 |
#
# 有监督训练只看十分之一问题的答案。PPO在其余问题上练习，只被告知“对”或“错”。

# %%
import sys
from pathlib import Path

sys.path.append(str(Path(globals().get("__file__", "notebook")).resolve().parents[1]))  # the folder of chapter.py

import re

import keras
import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure

from ppo_keras import KLConfig, LanguagePPO, PPOConfig, ReferenceReward, Tokenizer, TransformerActorCritic, load_pairs
from ppo_keras.config import SupervisedConfig
from ppo_keras.language.evaluation import Responder
from ppo_keras.language.generation import map_prompts, pad_prompts
from ppo_keras.language.ppo import less_the_others
from ppo_keras.language.supervised import train_answers
from ppo_keras.tasks.question_answering import exact_match

from chapter import Chapter

ITERATIONS, EVERY = 80, 10  # 240 for the real thing, and WIDTH = 128, BATCH = 512: or `ppo-keras train question-answering`
BATCH, GROUP = 256, 4  # answers in an iteration, answers to each question
WIDTH, SHARE = 64, 0.1

chapter = Chapter("06_3_question_answering")
keras.utils.set_random_seed(0)
names = {"greedy": chapter.text("greedy", "贪心"), "sampled": chapter.text("sampled", "采样")}
corpus = load_pairs(bundled="questions/stories")
train = corpus.train
known = round(SHARE * len(train.texts))  # questions whose answers are shown
print(len(train.texts), chapter.text("questions, of which with an answer:", "个问题,其中给出答案的:"), known)
for text, references in zip(train.texts[:3], train.references):
    print(f"   {text} -> {references[0]}")

# %% [markdown]
# ## 奖励
#
# 奖励是一段程序，所以可以写下来：两段文本都转为小写，去掉标点和冠词，然后必须相等（Rajpurkar等，2016）。


# %%
def simple_match(response, references):
    """1.0 where the response is one of the references."""

    def plain(text):
        words = re.sub(r"[^\w\s]", " ", text.lower()).split()
        return [word for word in words if word not in ("a", "an", "the")]

    return float(plain(response) in [plain(reference) for reference in references])


for response in ("kitchen", "The  Kitchen!", "the kitchen garden", "", "in the kitchen"):
    assert simple_match(response, ["kitchen"]) == exact_match(response, ["kitchen"])
    print(f"{response!r:22} {exact_match(response, ['kitchen'])}")
print(chapter.text("is -5 the right answer where 5 is? simple:", "正确答案是5时,-5算对吗?简单版:"), simple_match("-5", ["5"]))
print(chapter.text("the package's:", "软件包:"), exact_match("-5", ["5"]))
assert simple_match("-5", ["5"]) != exact_match("-5", ["5"])

# %% [markdown]
# 最后两行是一个警告。程序也会有漏洞，策略若能借漏洞得到奖励，就会去用它。可验证的奖励比学出来的奖励更难钻空子，但并非因此就安全。
#
# ## 互为基线
#
# 有些问题比别的容易。答对一个容易的问题，说明不了什么。所以策略对每个问题回答$K$次，每个回答的得分$s_i$都减去*其他*回答的平均得分（留一法；Kool等，2019）：
#
# $$\hat s_i=s_i-\frac1{K-1}\sum_{j\ne i}s_j=\frac K{K-1}\,(s_i-\bar s)$$
#
# （$\bar s$是全部$K$个得分的平均。）一个回答的基线与它自己无关，所以梯度仍是无偏的。如果$K$个回答全对或者全错，就没有什么可学的了。


# %%
def leave_one_out(scores, group):
    """Each score less the mean of the others of its group."""
    result = []
    for start in range(0, len(scores), group):
        members = scores[start : start + group]
        result += [score - (sum(members) - score) / (group - 1) for score in members]
    return np.array(result)


easy, hard, known_well = [1.0, 1.0, 0.0, 1.0], [0.0, 0.0, 1.0, 0.0], [1.0, 1.0, 1.0, 1.0]
by_hand = leave_one_out(easy + hard + known_well, 4)
np.testing.assert_allclose(less_the_others(tf.constant(easy + hard + known_well), 4), by_hand, rtol=1e-6, atol=1e-6)
print(by_hand.reshape(3, 4).round(3))

# %% [markdown]
# 答对一次难题，分量是答对容易问题的三倍。
#
# ## 用一部分答案做有监督训练
#
# 只学习回答的词元，不学习问题的词元。

# %%
tokenizer = Tokenizer.train(train.texts + [references[0] for references in train.references[:known]], vocabulary_size=600)
splits = {name: getattr(corpus, name) for name in ("train", "validation", "test")}
questions = {name: [tokenizer.encode_question(text) for text in split.texts] for name, split in splits.items()}
answers = {name: [tokenizer.encode(several[0], end=True) for several in split.references] for name, split in splits.items()}
PROMPT, RESPONSE = max(map(len, questions["train"])), max(map(len, answers["train"][:known]))
prompts = {name: pad_prompts(token_lists, PROMPT, tokenizer.pad_id) for name, token_lists in questions.items()}

policy = TransformerActorCritic(tokenizer.vocabulary_size, width=WIDTH, layers=2, heads=4, memory=PROMPT + RESPONSE, dropout=0.1)
learning = SupervisedConfig(supervised_epochs=25, supervised_batch_size=16, patience=5)
shown = list(zip(questions["train"], answers["train"]))[:known]
train_answers(policy, shown, list(zip(questions["validation"], answers["validation"])), PROMPT + RESPONSE, tokenizer.pad_id, learning)
policy.start_value_from_policy()
respond = Responder(policy, tokenizer, RESPONSE, temperature=1.0, batch_size=100)


def answer(split):
    """Greedy and sampled answers to the questions of a split, and the exact match of each kind."""
    responses = {kind: respond(prompts[split], kind == "greedy", seed=0) for kind in ("greedy", "sampled")}
    return responses, {kind: float(np.mean([*map(exact_match, texts, splits[split].references)])) for kind, texts in responses.items()}


responses_before, before = answer("test")
print(chapter.text("exact match on the test split:", "测试集上的精确匹配:"), {names[kind]: round(value, 3) for kind, value in before.items()})

# %% [markdown]
# ## 在其余问题上用PPO
#
# `ReferenceReward`里可以放任何以回复和正确答案为参数的函数。它按提示在数据中的行号查找答案，为此提示都编了号，所以文字相同的提示也不会混淆。我们的函数还把每个得分留在一个列表里。没有KL惩罚：答案对就是对，无论离有监督训练所得的策略有多远。

# %%
scores = []


def is_right(response, references):
    """The reward, also kept."""
    scores.append(exact_match(response, references))
    return scores[-1]


config = PPOConfig(discount=1.0, value_coefficient=0.1, entropy_coefficient=0.03, epochs=2, max_gradient_norm=1.0)
agent = LanguagePPO(
    policy, ReferenceReward(is_right, train.references, tokenizer), tokenizer.end_id, tokenizer.pad_id, RESPONSE,
    config, KLConfig(kl_coefficient=0.0), responses_per_prompt=GROUP,
)  # fmt: skip
agent.compile(keras.optimizers.Adam(1e-3, epsilon=1e-5), jit_compile=False)
practice = map_prompts(lambda part: part[known:], prompts["train"].numbered())
data = tf.data.Dataset.from_tensor_slices(practice).shuffle(len(practice.tokens), seed=0).repeat()
data = data.batch(BATCH // GROUP, drop_remainder=True)

curve, sureness = [answer("validation")[1]], []


class Look(keras.callbacks.Callback):
    """Answers the validation questions every few iterations."""

    def on_train_batch_end(self, batch, logs=None):
        drawn = self.model.shelf.content.trajectory
        sureness.append(np.exp((drawn.log_probs * drawn.mask).numpy().sum(axis=1)).mean())  # of the whole answer

    def on_epoch_end(self, epoch, logs=None):
        curve.append(answer("validation")[1])


agent.fit(data, steps_per_epoch=EVERY, epochs=ITERATIONS // EVERY, callbacks=[Look()], verbose=0)
responses_after, after = answer("test")
print(chapter.text("exact match, before -> after:", "精确匹配,之前 -> 之后:"))
for kind in before:
    print(f"   {names[kind]:8} {before[kind]:.3f} -> {after[kind]:.3f}")
assert after["greedy"] > before["greedy"] + 0.03
assert after["sampled"] > before["sampled"] + 0.08
assert after["sampled"] - before["sampled"] > after["greedy"] - before["greedy"]

gained = [i for i, references in enumerate(corpus.test.references) if exact_match(responses_after["greedy"][i], references)]
for i in [i for i in gained if not exact_match(responses_before["greedy"][i], corpus.test.references[i])][:4]:
    print(f"   {corpus.test.texts[i]}  {responses_before['greedy'][i]} -> {responses_after['greedy'][i]}")

# %% [markdown]
# 策略答对了更多*新的*问题，尽管PPO从未看过一个答案：它自己抽取回答，然后被告知哪些是对的。
#
# 采样的提高大于贪心。采样的策略要为自己的犹豫付出代价，而PPO消除犹豫：它抽到的回答，概率越来越高（见下图右）。只有贪心的提高才说明，最可能的那个答案本身变好了。
#
# 曲线画在验证集上；测试集只在训练前后各看一次。
#
# 留下的得分还说明两件事。得分的方差中，有不少只是因为有的问题比别的容易；基线把这部分去掉了。而且，答案有对有错的问题越来越少；只有这样的问题才能教会它什么。

# %%
groups = np.array(scores).reshape(ITERATIONS, BATCH // GROUP, GROUP)
right = groups.mean(axis=2)
mixed = ((right > 0) & (right < 1)).mean(axis=1)
print(chapter.text("variance of the score in the first iteration:", "首次迭代中得分的方差:"), groups[0].var().round(3))
within = groups[0].var(axis=1, ddof=1).mean()
print(chapter.text("of it between the answers to one question:", "其中同一问题的各个答案之间的部分:"), within.round(3))
first, last = mixed[:10].mean(), mixed[-10:].mean()
print(chapter.text("questions with mixed answers, first and last ten iterations:", "答案有对有错的问题,最初和最后十次迭代:"), f"{first:.2f} {last:.2f}")
assert last < first - 0.1 and np.mean(sureness[-10:]) > np.mean(sureness[:10]) + 0.05 and within < 0.7 * groups[0].var()

figure = Figure(figsize=(8, 3.2), layout="constrained")
iterations = chapter.label("iteration", "迭代")
axes = figure.add_subplot(1, 2, 1, xlabel=iterations, ylabel=chapter.label("exact match, validation split", "精确匹配,验证集"))
for kind, style, name in (("greedy", "-o", chapter.label("greedy", "贪心")), ("sampled", "--s", chapter.label("sampled", "采样"))):
    axes.plot(np.arange(len(curve)) * EVERY, [measured[kind] for measured in curve], style, label=name)
axes.grid(alpha=0.3)
axes.legend()
axes = figure.add_subplot(1, 2, 2, xlabel=iterations, ylabel=chapter.label("share, or probability", "比例或概率"))
axes.plot(range(1, ITERATIONS + 1), mixed, "-", label=chapter.label("share of questions with mixed answers", "答案有对有错的问题所占比例"))
axes.plot(range(1, ITERATIONS + 1), sureness, "--", label=chapter.label("probability of the answer that was drawn", "所抽取答案的概率"))
axes.set_ylim(0, 1.3)
axes.grid(alpha=0.3)
axes.legend(fontsize=8, loc="upper left")
chapter.show(figure, "exact_match_and_signal")

# %% [markdown]
# 策略越来越有把握，同一问题的各个回答趋于一致，信号就枯竭了。熵奖励正是为了延缓这一点。更大的组也有帮助：对一个问题的回答越多，全部一致的情形就越少（练习2）。
#
# 说句公道话：这里负责检验的程序握有答案，所以本可以直接用这些答案来训练。可验证的奖励真正的用处，在于检验比回答容易的场合：程序必须通过的测试，可以把解代进去的方程。
#
# ## 小结
#
# - 正确的答案不需要奖励模型就能得到奖励。但仍要检查检验程序有没有漏洞。
# - 先做有监督训练，使一部分回答碰巧是对的；再在没有答案的问题上用PPO。
# - 同一问题的几个回答互为基线；回答全都一致的问题教不了什么。
# - 贪心和采样的度量都要报告：策略如果只是更有把握，提高的主要是后者。
#
# ## 练习
#
# 1. 一个问题的三个回答得分是1、0、0。各减去其他回答的平均之后，三个得分是多少？
# 2. 回答正确的概率是0.9。四个独立的回答既非全对也非全错的概率是多少？十六个呢？
# 3. 参考答案是“garden”。回复“The garden.”、“garden kitchen”、“GARDEN”和“”（空）之中，哪些得1，哪些得0？
#
# 答案在`tutorials/solutions/06_3_question_answering.py`。


# %%
@chapter.exercise
def three_scores():
    return None  # your three numbers, such as [0.0, 0.0, 0.0]


@chapter.exercise
def chance_of_a_signal():
    return None  # your two numbers, for four answers and for sixteen


@chapter.exercise
def four_rewards():
    return None  # your four numbers, each 0 or 1


chapter.check(three_scores(), leave_one_out([1.0, 0.0, 0.0], 3))
chapter.check(chance_of_a_signal(), [1 - 0.9**k - 0.1**k for k in (4, 16)])
chapter.check(four_rewards(), [exact_match(response, ["garden"]) for response in ("The garden.", "garden kitchen", "GARDEN", "")])
