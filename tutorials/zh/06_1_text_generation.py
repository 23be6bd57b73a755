# %% [markdown]
# # 6.1 文本生成，以及奖励怎样被钻空子
#
# [目录](../README.md) · 上一章：[5.5 编译的循环](05_5_compiled_loops.ipynb) · 下一章：[6.2 文本分类：一个多臂老虎机](06_2_text_classification.ipynb) · [English](../en/06_1_text_generation.ipynb)
#
# **本章要学会**：把文本生成完整地写成一个强化学习任务，用影评训练它的全部部件，用一个没有参与训练的裁判来衡量PPO改变了什么，再关掉KL惩罚，看奖励怎样被钻空子。需要约1分钟。
#
# ## 原文的段落
#
# > PPO算法可以用于优化大语言模型的生成策略，提高文本生成质量。通过PPO算法，我们可以使模型在生成文本时更加准确和连贯。
#
# 问题在于：
#
# - 没有说明状态、动作、奖励、基线和度量；分类、问答、翻译各节说的几乎是同一句话。
# - 凭空写一条影评，谈不上“准确”：没有哪一条是正确答案。有的只是奖励，PPO提高的也只是*奖励*。
# - 奖励本身是一个模型，它描述我们想要什么，也有自己的错误。用力过猛，策略就会找到这些错误。原文既没有防止它的惩罚，也没有能发现它的度量。
#
# ## 完整的任务
#
# | 部分 | 在本章中 |
# |---|---|
# | 状态 | 提示（一条影评的开头）和已经写出的词元 |
# | 动作 | 下一个词元 |
# | 回合 | 一条回复，直到它的结束词元 |
# | 奖励 | 在最后一个词元之后给出：奖励模型认为整条文本为“正面”的概率，再减去惩罚（见下文） |
# | 基线 | PPO之前的同一个写作模型 |
# | 度量 | 奖励；独立裁判判为正面的比例；KL；distinct-2；参考模型下的困惑度 |
#
# 奖励模型和裁判各用一半标签训练，没有共同的文本。

# %%
import sys
from pathlib import Path

sys.path.append(str(Path(globals().get("__file__", "notebook")).resolve().parents[1]))  # the folder of chapter.py

import keras
import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure

from ppo_keras import KLConfig, LanguagePPO, PPOConfig, Prompts, RewardModel, Tokenizer, TransformerActorCritic, load_texts
from ppo_keras.config import SupervisedConfig
from ppo_keras.datasets.subsets import halves
from ppo_keras.language.evaluation import Evaluator, distinct
from ppo_keras.language.generation import Responses, pad_prompts
from ppo_keras.language.rewards import score_responses
from ppo_keras.language.supervised import train_classifier, train_language_model
from ppo_keras.networks.encoder import TokenEncoder

from chapter import Chapter

ITERATIONS = 30  # 120 for the real thing, and WIDTH = 128: or `ppo-keras train generation`
WIDTH, VOCABULARY, PROMPT, BATCH = 64, 2000, 5, 64

chapter = Chapter("06_1_text_generation")
keras.utils.set_random_seed(0)
corpus = load_texts(language="en")
tokenizer = Tokenizer.train(corpus.train.texts, VOCABULARY)


def encode(texts):
    """Token ids with begin and end tokens."""
    return [tokenizer.encode(text, begin=True, end=True) for text in texts]


lengths = [len(ids) for ids in encode(corpus.train.texts)]
RESPONSE = int(np.percentile(lengths, 95)) - 1  # most tokens of a response
context = PROMPT + RESPONSE
print(len(corpus.train.texts), chapter.text("reviews to learn from, such as", "条评论用于训练,例如"), repr(corpus.train.texts[0]))
print(chapter.text("pieces:", "词元种类:"), tokenizer.vocabulary_size, chapter.text("most tokens of a response:", "回复最多的词元数:"), RESPONSE)

# %% [markdown]
# ## 每个词元的奖励
#
# 得分$s$只在回复的最后一个词元$T$给出一次。每个词元还要为偏离参考模型（写作模型的一份冻结副本）付出代价，单价是$\beta$（Ziegler等，2019，式2，这里分摊到各个词元）：
#
# $$r_t=-\beta\,\big(\log\pi(a_t|s_t)-\log\pi_{ref}(a_t|s_t)\big)+\mathbb{1}[t=T]\cdot s$$
#
# 回复如果没有结束，或者比通常的短，得分会被扣减：这两种都是讨好奖励的廉价办法。下面从零算起，两条回复，数字是编的。第二条没有结束词元（它的编号是3）；两条都比通常的少一个词元：

# %%
beta, missing_end, short, usual = 0.1, 0.5, 0.2, 4.0
tokens = np.array([[7, 8, 3], [7, 8, 9]])
mask = np.ones([2, 3], np.float32)
log_probs = np.array([[-1.0, -2.0, -0.5], [-1.0, -0.2, -0.1]], np.float32)
reference_log_probs = np.array([[-1.5, -2.0, -0.4], [-1.5, -3.0, -4.0]], np.float32)
scores = np.array([0.8, 0.9], np.float32)

rewards = -beta * (log_probs - reference_log_probs)
lacking = np.maximum(0.0, 1.0 - mask.sum(axis=1) / usual)  # share of the usual length
rewards[:, -1] += scores - missing_end * ~(tokens == 3).any(axis=1) - short * lacking
print(rewards.round(3))
assert scores[1] > scores[0] and rewards[1].sum() < rewards[0].sum()

tiny = TransformerActorCritic(10, width=8, layers=1, heads=2, memory=4)
penalties = dict(missing_end_penalty=missing_end, short_penalty=short, usual_length=usual)
small = LanguagePPO(tiny, lambda *_: 0.0, end_id=3, pad_id=0, response_length=3, kl=KLConfig(beta), **penalties)
prompts = Prompts(tf.constant([[1], [1]]), tf.ones([2, 1]))
responses = Responses(*map(tf.constant, (tokens.astype(np.int32), mask, log_probs)), tf.zeros([2, 3]))
trajectory, _ = small.assemble(prompts, responses, tf.constant(reference_log_probs), tf.constant(scores))
np.testing.assert_allclose(trajectory.rewards, rewards, rtol=1e-6, atol=1e-6)

# %% [markdown]
# 第二条得分更高，挣到的却更少：它要为参考模型认为不大可能的词元付出代价，也要为没有结束付出代价。把一条回复各词元的KL项加起来，其期望就是写作模型相对于参考模型的KL散度。
#
# 多样性用distinct-2衡量：不同的相邻词元对占全部词元对的比例（Li等，2016）。对谁都说同样的话，这个数就小。文本越多，它也越小，所以只能在文本数量相同时比较。一条文本对参考模型来说有多陌生，用困惑度衡量：$-\log\pi_{ref}$对词元取平均，再取$e$的幂。


# %%
def distinct_2(token_lists):
    """Different pairs over all pairs."""
    pairs = [pair for ids in token_lists for pair in zip(ids[:-1], ids[1:])]
    return len(set(pairs)) / len(pairs)


np.testing.assert_allclose(distinct_2(tokens.tolist()), distinct(tokens.tolist(), 2))
print(chapter.text("distinct-2 of the two responses:", "两条回复的distinct-2:"), distinct_2(tokens.tolist()))

# %% [markdown]
# ## 部件：写作模型、奖励模型、裁判
#
# 写作模型用极大似然学习影评的语言，好评差评都学。奖励模型和裁判是小分类器（取词嵌入的平均，再由它得到一个数），各用自己的那一半来训练。

# %%
writer = TransformerActorCritic(tokenizer.vocabulary_size, width=WIDTH, layers=1, heads=2, memory=context, dropout=0.1)
settings = dict(length=context, pad_id=tokenizer.pad_id)
learning = SupervisedConfig(supervised_epochs=8, supervised_learning_rate=5e-3)
texts = {name: encode(getattr(corpus, name).texts) for name in ("train", "validation", "test")}
history = train_language_model(writer, texts["train"], texts["validation"], config=learning, **settings).history
writer.start_value_from_policy()
print(chapter.text("writer, nats a token on the validation split:", "写作模型,验证集上每词元的奈特数:"), np.round(history["val_cross_entropy"], 2))


def train_scorer(half, name):
    """A `RewardModel` from one half of the labels; `name` is printed."""
    model = RewardModel(TokenEncoder(tokenizer.vocabulary_size, "bag", WIDTH, 1, dropout=0.3), dropout=0.3)
    dealt = [halves(getattr(corpus, split), seed=0)[half] for split in ("train", "validation")]
    splits = [(encode(split.texts), split.labels) for split in dealt]
    accuracy = train_classifier(model, *splits, config=learning, **settings).history["val_accuracy"]
    print(name, chapter.text("accuracy on the validation split:", "验证集上的准确率:"), round(max(accuracy), 2))
    assert max(accuracy) > 0.7
    return model


reward_model = train_scorer(0, chapter.text("reward model,", "奖励模型,"))
judge = train_scorer(1, chapter.text("judge,", "裁判,"))

# %% [markdown]
# ## 有KL惩罚的PPO
#
# 一个学习器，以及它在第一步之前的状态，这样可以从完全相同的起点重来。一本日记记下每次迭代的指标，以及当次所写文本的distinct-2。


# %%
def make_prompts(split, count, seed):
    """Beginnings of reviews, of 2 to `PROMPT` tokens."""
    sizes = np.random.default_rng(seed).integers(2, PROMPT, size=count, endpoint=True)
    chosen = [texts[split][i % len(texts[split])][:-1][:size] for i, size in enumerate(sizes)]
    return pad_prompts(chosen, PROMPT, tokenizer.pad_id)


class Diary(keras.callbacks.Callback):
    """Metrics of each iteration."""

    def __init__(self):
        super().__init__()
        self.rows = []

    def on_train_batch_end(self, batch, logs=None):
        written = self.model.shelf.content.trajectory
        token_lists = [list(ids[real > 0]) for ids, real in zip(written.actions.numpy(), written.mask.numpy())]
        self.rows.append({name: float(value) for name, value in logs.items()} | {"distinct_2": distinct_2(token_lists)})

    def curve(self, name):
        """The metric of all iterations."""
        return np.array([row[name] for row in self.rows])


agent = LanguagePPO(
    writer,
    lambda prompts, responses: tf.sigmoid(score_responses(reward_model, prompts, responses)),
    tokenizer.end_id,
    tokenizer.pad_id,
    RESPONSE,
    PPOConfig(discount=1.0, value_coefficient=0.1, max_gradient_norm=1.0, temperature=0.8),
    KLConfig(kl_coefficient=0.1),
    missing_end_penalty=0.5,
    short_penalty=0.7,
    usual_length=np.mean(lengths) - PROMPT,
    judge=lambda prompts, responses: score_responses(judge, prompts, responses),
)
# XLA would compile for longer than these few iterations take
agent.compile(keras.optimizers.Adam(1e-3, epsilon=1e-5), jit_compile=False)
held_out = make_prompts("test", 256, seed=1)
score = tf.function(agent.score, autograph=False)
sampling = dict(length=RESPONSE, temperature=agent.config.temperature, batch_size=BATCH, jit_compile=False)
evaluator = Evaluator(writer, agent.reference, score, agent.judge, tokenizer, **sampling)


def evaluate():
    """An `Evaluation` of the writer as it is, on prompts from the test split."""
    return evaluator(held_out, seed=0)


def practise(kl_coefficient):
    """PPO from the supervised writer on. Returns a `Diary` and an `Evaluation`."""
    agent.restore(start)
    agent.kl_coefficient.assign(kl_coefficient)
    data = tf.data.Dataset.from_tensor_slices(make_prompts("train", len(texts["train"]), seed=0))
    data = data.shuffle(len(texts["train"]), seed=0).repeat().batch(BATCH, drop_remainder=True)
    diary = Diary()
    agent.fit(data, steps_per_epoch=ITERATIONS, callbacks=[diary], verbose=0)
    return diary, evaluate()


start = agent.state()
before = evaluate()
with_penalty, after = practise(kl_coefficient=0.1)


def table(columns):
    """Prints `Evaluation`s side by side."""
    named = {
        "reward": ("reward", "奖励"),
        "positive": ("judged positive", "裁判判为正面"),
        "kl": ("KL, nats a response", "KL,每条回复的奈特数"),
        "distinct_2": ("distinct-2", "distinct-2"),
        "perplexity": ("perplexity under the reference", "参考模型下的困惑度"),
        "length": ("length, tokens", "长度,词元"),
    }
    print("; ".join(columns))
    for key, names in named.items():
        print(*[f"{getattr(column, key):8.2f}" for column in columns.values()], chapter.text(*names), sep="  ")


table({chapter.text("before PPO", "PPO之前"): before, chapter.text("after PPO", "PPO之后"): after})
assert after.reward > before.reward + 0.1
assert after.positive > before.positive + 0.1
assert after.kl < 15 and after.perplexity < 1.5 * before.perplexity
assert after.distinct_2 < before.distinct_2

# %% [markdown]
# 奖励上升了，没有参与训练的裁判也同意。KL停在每条回复几奈特，在参考模型看来，这些文本并不比它自己写的更陌生多少。但有两点不那么令人高兴：
#
# - 多样性已经下降：正面影评只是全部影评的一部分，而且策略梯度偏爱它碰巧先找到的写法。
# - 连贯程度仍是这个小写作模型的水平。PPO在它写得出的文本中挑选，并不教它语法。
#
# ## 没有KL惩罚的PPO
#
# 同样的起点，同样的提示，同样的随机种子，只是$\beta=0$。

# %%
without_penalty, hacked = practise(kl_coefficient=0.0)
columns = {
    chapter.text("before PPO", "PPO之前"): before,
    chapter.text("with the penalty", "有惩罚"): after,
    chapter.text("without it", "无惩罚"): hacked,
}
table(columns)
for name, column in columns.items():
    print(name)
    for prompt, response in zip(column.prompts[:4], column.responses[:4]):
        print(f"   {prompt} |{response}")

# %% [markdown]
# 现在奖励几乎满分，文本却成了词语的堆砌：奖励模型喜爱的几个词，哪里有空就撒到哪里。策略找到了词袋模型看不见的东西，也就是词以外的一切。
#
# 我们的度量中，哪些察觉了？
#
# - 参考模型下的困惑度，远高于以前；还有KL。
# - distinct-2：更低了。
# - 裁判：*毫无察觉*。它用别的影评训练，但也是词袋模型，有同样的盲点。独立的裁判不仅要有别的数据，还要有*另一种看法*。

# %%
assert hacked.reward > max(0.9, after.reward + 0.02)
assert hacked.kl > 2.5 * after.kl
assert hacked.perplexity > 1.5 * max(before.perplexity, after.perplexity)
assert hacked.distinct_2 < min(before.distinct_2 - 0.1, after.distinct_2)
assert hacked.positive > max(before.positive + 0.1, after.positive - 0.1)  # the judge applauds

figure = Figure(figsize=(8, 5), layout="constrained")
panels = {
    "objective/scores": chapter.label("reward", "奖励"),
    "objective/judged": chapter.label("share judged positive", "裁判判为正面的比例"),
    "objective/kl": chapter.label("KL, nats a response", "KL,每条回复的奈特数"),
    "distinct_2": "distinct-2",
}
for number, (metric, label) in enumerate(panels.items(), start=1):
    axes = figure.add_subplot(2, 2, number, xlabel=chapter.label("iteration", "迭代"), ylabel=label)
    for diary, style, name in (
        (with_penalty, "-o", chapter.label("with the KL penalty", "有KL惩罚")),
        (without_penalty, "--s", chapter.label("without it", "无KL惩罚")),
    ):
        axes.plot(range(1, ITERATIONS + 1), diary.curve(metric), style, label=name, markersize=3)
    axes.grid(alpha=0.3)
figure.axes[2].legend()
chapter.show(figure, "with_and_without_the_kl_penalty")

# %% [markdown]
# 只看上面两幅图，没有惩罚的那次训练似乎更好。只有下面两幅说明它走到别处去了。
#
# 为什么KL惩罚有用：$\mathbb{E}[s]-\beta\,\mathrm{KL}(\pi\|\pi_{ref})$的最优策略是已知的（对同一提示的整条回复$y$而言；Rafailov等，2023，式4）：
#
# $$\pi^*(y)\propto\pi_{ref}(y)\,e^{s(y)/\beta}$$
#
# 参考模型越不可能写的回复，就要得分越高才写得出来；参考模型绝不会写的，最优策略也不会写。当$\beta\to 0$时，只剩下得分最高的那一条，而它可能正是奖励模型最严重的错误，下面三条编造的文本就是这样：

# %%
reference, scored = np.array([0.6, 0.399, 0.001]), np.array([0.3, 0.8, 1.0])  # a dull text, a good one, a word salad
for coefficient in (1.0, 0.1, 0.01):
    best = reference * np.exp(scored / coefficient)
    print(f"beta = {coefficient:<4}", chapter.text("best policy:", "最优策略:"), (best / best.sum()).round(3))

# %% [markdown]
# ## 小结
#
# - 状态：提示和已写的文本。动作：一个词元。奖励：结尾的得分，减去$\beta$乘以KL。基线：PPO之前的写作模型。
# - PPO提高的是奖励，不是“质量”。两者是否一致，要由没有参与训练的裁判来说，而且只在它看得见的范围之内。
# - 没有KL惩罚，奖励就会被钻空子。要看多样性，看参考模型下的困惑度，还要看文本本身。
#
# ## 练习
#
# 1. 一条两个词元的回复，对数概率是$-1$和$-2$，在参考模型下是$-2$和$-2$；它正常结束，得分0.5，$\beta=0.2$。两个奖励是多少？
# 2. 两条回复“good good good good”和“good film”，每个词一个词元，distinct-2是多少？
# 3. 参考模型以概率0.9写A，以0.1写B；A得0分，B得1分。当$\beta=0.5$时，最优策略以多大概率写B？
#
# 答案在`tutorials/solutions/06_1_text_generation.py`。


# %%
@chapter.exercise
def two_rewards():
    return None  # your two numbers, such as [0.0, 0.0]


@chapter.exercise
def diversity():
    return None  # your number


@chapter.exercise
def probability_of_b():
    return None  # your number


chapter.check(two_rewards(), -0.2 * (np.array([-1.0, -2.0]) - np.array([-2.0, -2.0])) + np.array([0.0, 0.5]))
chapter.check(diversity(), distinct_2([["good"] * 4, ["good", "film"]]))
weights = np.array([0.9, 0.1]) * np.exp(np.array([0.0, 1.0]) / 0.5)
chapter.check(probability_of_b(), weights[1] / weights.sum())
