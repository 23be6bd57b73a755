# %% [markdown]
# # 6.2 文本分类：一个多臂老虎机
#
# [目录](../README.md) · 上一章：[6.1 文本生成，以及奖励怎样被钻空子](06_1_text_generation.ipynb) · 下一章：[6.3 问答：可以验证的奖励](06_3_question_answering.ipynb) · [English](../en/06_2_text_classification.ipynb)
#
# **本章要学会**：把分类看成只有一步的强化学习任务，明白它的梯度为什么比交叉熵弱，看看当一种错误的代价是另一种的五倍时会发生什么，以及PPO在这里何时值得用、何时不值得。需要不到1分钟。
#
# ## 原文的段落
#
# > PPO算法可以用于优化大语言模型在文本分类任务中的决策过程。通过PPO算法，我们可以使模型在分类文本时更加准确。
#
# 问题在于：
#
# - 没有说明状态、动作和奖励。
# - 没有基线。只要知道正确标签，交叉熵就直接告诉模型答案；PPO只告诉它自己的猜测有多好。要说“更加准确”，必须把两者放在一起比较。
# - 没有说PPO究竟能用在*哪里*：不同的错误代价不同，或者只有反馈、没有正确标签。
#
# ## 完整的任务
#
# | 部分 | 在本章中 |
# |---|---|
# | 状态 | 提示：一条影评 |
# | 动作 | 它的标签，0（负面）或1（正面） |
# | 回合 | 只有这一步：*上下文老虎机* |
# | 奖励 | 所作选择的代价，取负 |
# | 基线 | 同一个网络，用交叉熵训练 |
# | 度量 | 在留出文本上的准确率和平均代价 |
#
# 我们给一部分影评标签。其余的只有反馈：所选的标签付出了多少代价。

# %%
import sys
from pathlib import Path

sys.path.append(str(Path(globals().get("__file__", "notebook")).resolve().parents[1]))  # the folder of chapter.py

import keras
import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure

from ppo_keras import EnvironmentPPO, PPOConfig, TextClassification, Tokenizer, load_texts
from ppo_keras.advantages import generalized_advantages
from ppo_keras.config import SupervisedConfig
from ppo_keras.language.evaluation import label_measures
from ppo_keras.language.supervised import pad_texts, train_labels
from ppo_keras.networks.actor_critic import ActorCritic
from ppo_keras.networks.encoder import NO_TOKEN

from chapter import Chapter

ITERATIONS, SEEDS = 12, 3  # 60 and 5 for the real thing; or `ppo-keras train classification --costs "0 1; 5 0"`
TEXTS, LABELLED, WIDTH = 512, 400, 64  # texts in an iteration, training reviews whose labels are known

chapter = Chapter("06_2_text_classification")
keras.utils.set_random_seed(0)
corpus = load_texts(language="en")
tokenizer = Tokenizer.train(corpus.train.texts, 2000)
splits = {name: getattr(corpus, name) for name in ("train", "validation", "test")}
token_lists = {name: [tokenizer.encode(text, begin=True) for text in split.texts] for name, split in splits.items()}
length = int(np.percentile([len(ids) for ids in token_lists["train"]], 99))
texts = {name: pad_texts(lists, length, NO_TOKEN)[0] for name, lists in token_lists.items()}
labels = {name: split.labels for name, split in splits.items()}
costs = np.array([[0.0, 1.0], [5.0, 0.0]])  # a row a true label: calling a good film bad costs five
equal_costs = 1.0 - np.eye(2)
print(chapter.text("reviews:", "影评:"), {name: len(rows) for name, rows in texts.items()})
print(chapter.text("labels:", "标签:"), corpus.label_names)

# %% [markdown]
# ## 只有一步
#
# 动作之后什么也没有，所以回报就是奖励，折扣和$\lambda$都没有用武之地：
#
# $$A=r-V(s)$$

# %%
true, chosen, V = np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1]), -0.6
by_hand = np.array([0.0 - costs[label, choice] for label, choice in zip(true, chosen)])
world = TextClassification(texts["train"][:4], true, costs)
step = world.step(tf.range(4), tf.constant(chosen, tf.int32), None)
np.testing.assert_allclose(step.reward, by_hand)

column = lambda values: tf.constant(values, tf.float32)[:, tf.newaxis]  # four episodes of one step
values, nothing, ended, mask = column([V] * 4), column([0.0] * 4), column([1.0] * 4), column([1.0] * 4)
advantages, _ = generalized_advantages(column(by_hand), values, nothing, ended, mask, discount=0.99, gae_lambda=0.95)
np.testing.assert_allclose(advantages[:, 0], by_hand - V, rtol=1e-6)
for label, choice, reward, advantage in zip(true, chosen, by_hand, advantages[:, 0].numpy()):
    en, zh = f"true {label}, chosen {choice}: reward {reward:.0f}", f"真实{label},选择{choice}:奖励{reward:.0f}"
    print(chapter.text(en, zh), chapter.text("advantage", "优势"), f"{advantage:+.1f}")

# %% [markdown]
# ## 两种梯度
#
# 记正确标签$y$的logit为$z_y$。交叉熵知道$y$，对这个logit的推力是
#
# $$\frac{\partial \log\pi(y)}{\partial z_y}=1-\pi(y)$$
#
# 若正确标签的奖励为1，其他为0，策略梯度就是期望奖励的梯度，而期望奖励正是$\pi(y)$本身：
#
# $$\frac{\partial \pi(y)}{\partial z_y}=\pi(y)\,\big(1-\pi(y)\big)$$
#
# 这是同样的推力，再乘以正确标签被试到的概率。

# %%
print(chapter.text("pi(y)   cross-entropy   policy gradient", "pi(y)   交叉熵          策略梯度"))
for probability in (0.5, 0.1, 0.01):
    logits = tf.Variable([np.log(probability / (1 - probability)), 0.0], dtype=tf.float32)
    with tf.GradientTape(persistent=True) as tape:
        log_pi = tf.nn.log_softmax(logits)
        log_likelihood = log_pi[0]
        expected = tf.reduce_sum(tf.stop_gradient(tf.exp(log_pi)) * log_pi * [1.0, 0.0])  # E[log pi(a) * reward(a)]
    supervised, bandit = tape.gradient(log_likelihood, logits)[0], tape.gradient(expected, logits)[0]
    np.testing.assert_allclose(supervised, 1 - probability, rtol=1e-4)
    np.testing.assert_allclose(bandit, probability * (1 - probability), rtol=1e-4)
    print(f"{probability:5.2f}   {supervised:13.4f}   {bandit:15.4f}")

# %% [markdown]
# 一个对错误标签深信不疑的策略，几乎听不到它错了。所以PPO从有监督训练得到的策略开始，并加上熵奖励，使它不至于过分自信。
#
# ## 基线
#
# 网络是词嵌入的平均。用交叉熵训练两次：一次用有标签的影评，另一次用全部影评，以作比较。代价怎么办？交叉熵给出概率，有了概率就可以选*期望代价最小*的标签，完全不需要强化学习：
#
# $$\arg\min_a \sum_y p(y|x)\,C_{y,a}$$


# %%
def new_classifier():
    """An untrained policy whose observation is a whole text."""
    bag = dict(network="bag", width=WIDTH, layers=1, dropout=0.5)
    return ActorCritic((length,), actions=2, vocabulary_size=tokenizer.vocabulary_size, encoder=bag)


def train_supervised(count):
    """Cross-entropy on the first `count` training reviews."""
    model, data = new_classifier(), (texts["train"][:count], labels["train"][:count])
    learning = SupervisedConfig(supervised_epochs=15, supervised_learning_rate=2e-3)
    train_labels(model, data, (texts["validation"], labels["validation"]), learning, jit_compile=False)
    return model


@tf.function(autograph=False)
def read(model, rows):
    """Probabilities `(N, 2)`."""
    return tf.nn.softmax(model(rows[:, tf.newaxis], training=False)[0][:, 0])


def measure(choices):
    """Accuracy, mean cost 5:1 and share called positive, on the test split."""
    return label_measures(labels["test"], choices, costs) | {"positive": np.mean(choices)}


few, all_labels = train_supervised(LABELLED), train_supervised(len(texts["train"]))
results = {chapter.text("always positive", "一律判为正面"): measure(np.ones_like(labels["test"]))}
for model, name in (
    (few, chapter.text(f"cross-entropy, {LABELLED} labels", f"交叉熵,{LABELLED}个标签")),
    (all_labels, chapter.text(f"cross-entropy, all {len(texts['train'])}", f"交叉熵,全部{len(texts['train'])}个")),
):
    probabilities = read(model, texts["test"]).numpy()
    results[name] = measure(probabilities.argmax(axis=1))
    results[name + chapter.text(", least expected cost", ",期望代价最小")] = measure((probabilities @ costs).argmin(axis=1))
_, few_plain, few_rule, all_plain, all_rule = results.values()
assert few_rule["cost"] < few_plain["cost"] - 0.1 and all_plain["accuracy"] > few_plain["accuracy"] + 0.05

# %% [markdown]
# ## 只靠反馈的PPO
#
# 两次训练都从只见过少量标签的策略开始，在*没有*标签的影评上练习，只被告知每个选择的代价：第一次任何错误都是1，第二次把好片判为坏片是5。

# %%
few.start_value_from_policy()
start = few.get_weights()


def practise(table, seed):
    """PPO from the supervised policy on. Returns the measures on the test split after each iteration."""
    few.set_weights(start)
    world = TextClassification(texts["train"][LABELLED:], labels["train"][LABELLED:], table)
    config = PPOConfig(discount=1.0, entropy_coefficient=0.6)
    agent = EnvironmentPPO(few, world, config, environments=TEXTS, steps=1, seed=seed)
    agent.compile(keras.optimizers.Adam(1e-3, epsilon=1e-5), jit_compile=False)
    measured = []
    for _ in range(ITERATIONS):
        agent.fit(steps_per_epoch=1, verbose=0)
        measured.append(measure(read(few, texts["test"]).numpy().argmax(axis=1)))
    return measured


def curves(runs, name):
    """One measure of several runs, `(SEEDS, ITERATIONS)`."""
    return np.array([[measured[name] for measured in run] for run in runs])


equal_runs, unequal_runs = [[practise(table, seed) for seed in range(SEEDS)] for table in (equal_costs, costs)]
equal, unequal = [{name: curves(runs, name)[:, -1].mean() for name in few_plain} for runs in (equal_runs, unequal_runs)]
results[chapter.text("PPO on feedback, costs 1:1, mean of the seeds", "PPO,只有反馈,代价1:1,各随机种子的平均")] = equal
results[chapter.text("PPO on feedback, costs 5:1, mean of the seeds", "PPO,只有反馈,代价5:1,各随机种子的平均")] = unequal
print(chapter.text("accuracy, cost 5:1, share called positive", "准确率,代价5:1,判为正面的比例"))
for name, measured in results.items():
    print(f"{measured['accuracy']:.2f}  {measured['cost']:.2f}  {measured['positive']:.2f}  {name}")
visits = ITERATIONS * TEXTS / (len(texts["train"]) - LABELLED)
print(chapter.text(f"guesses that PPO made about each review: {visits:.1f}", f"PPO对每条影评平均猜了{visits:.1f}次"))

assert equal["accuracy"] > few_plain["accuracy"] + 0.03
assert unequal["cost"] < few_plain["cost"] - 0.2 and unequal["cost"] < few_rule["cost"] - 0.02
assert unequal["cost"] < equal["cost"] - 0.03 and unequal["positive"] > equal["positive"] + 0.03
assert unequal["accuracy"] < equal["accuracy"]
assert all_plain["accuracy"] > equal["accuracy"] - 0.03 and all_rule["cost"] < unequal["cost"] + 0.03  # labels: simpler, no worse

# %% [markdown]
# 无论一行是按哪张代价表训练的，代价一律按5:1的表计算。只凭反馈，PPO就胜过它出发时的策略：被告知1:1时胜在准确率，被告知5:1时胜在代价，后者连出发时的策略加上期望代价最小的规则也胜过了。两次训练的差别只在于被告知的代价：当把好片判为坏片要付五倍时，策略把更多影片判为好片。它付出的代价更小，答对的次数也更少。本该如此：我们要求的并不是准确率。

# %%
figure = Figure(figsize=(8, 3.5), layout="constrained")
for number, (measure_name, label, lines) in enumerate(
    (
        ("accuracy", chapter.label("accuracy, test split", "准确率,测试集"), (few_plain, all_plain)),
        ("cost", chapter.label("mean cost 5:1, test split", "平均代价5:1,测试集"), (few_rule, all_rule)),
    ),
    start=1,
):
    axes = figure.add_subplot(1, 2, number, xlabel=chapter.label("iteration", "迭代"), ylabel=label)
    for runs, style, name in ((equal_runs, "-o", "PPO, 1:1"), (unequal_runs, "--s", "PPO, 5:1")):
        every = curves(runs, measure_name)
        line = axes.plot(range(1, ITERATIONS + 1), every.mean(axis=0), style, label=name, markersize=3)[0]
        axes.fill_between(range(1, ITERATIONS + 1), every.min(axis=0), every.max(axis=0), color=line.get_color(), alpha=0.15)
    few_name, all_name = chapter.label("cross-entropy, few labels", "交叉熵,少量标签"), chapter.label("cross-entropy, all", "交叉熵,全部标签")
    axes.axhline(lines[0][measure_name], color="black", linestyle=":", label=few_name)
    axes.axhline(lines[1][measure_name], color="black", linestyle="-.", label=all_name)
    axes.grid(alpha=0.3)
figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8)
chapter.show(figure, "accuracy_and_cost")

# %% [markdown]
# 曲线是各随机种子的平均，色带从最小到最大。水平线是交叉熵，右图中再加上期望代价最小的规则。不要用这些曲线来选择何时停止：那要画在验证集上。
#
# ## PPO何时值得用？
#
# *不值得*：正确标签和代价都已知的时候。在上表中，用全部标签做交叉熵，再加上期望代价最小的规则，只要两行代码，结果并不比PPO差。它的概率适用于任何代价表，不必重新训练；PPO的策略只适用于训练时的那一张。
#
# *值得*：只有反馈的时候，例如一次点击、一次投诉、一张账单，没有人说出正确的应该是什么。还有奖励不属于单个标签（例如对整个批量的度量），因而写不出期望代价的时候。
#
# 对本章也要说句公道话：只有*两个*标签时，代价就泄露了正确标签。本可以把反馈换算成标签，再用交叉熵。标签一多，一次错误的代价就只排除了所选的那一个。
#
# ## 小结
#
# - 分类是只有一步的回合，$A=r-V(s)$。基线：交叉熵。
# - 策略梯度等于交叉熵的梯度乘以$\pi(y)$。要从有监督训练的策略开始，并保持它的熵。
# - 标签和代价已知，用交叉熵和最小期望代价；只有反馈，用PPO。
#
# ## 练习
#
# 1. 把好片判为坏片的代价是5，另一种错误的代价是1。“正面”的概率从多大起，“正面”就是期望代价最小的标签？
# 2. 在两个标签中，策略给正确标签的概率是0.02。策略梯度对它的logit的推力有多大（正确标签奖励1，另一个0）？
# 3. 评论家认为$V=-0.6$。一部好片被判为坏片，代价是5，$\gamma=0.99$，$\lambda=0.95$。优势是多少？
#
# 答案在`tutorials/solutions/06_2_text_classification.py`。


# %%
@chapter.exercise
def threshold():
    return None  # your number


@chapter.exercise
def push():
    return None  # your number


@chapter.exercise
def advantage_of_a_mistake():
    return None  # your number


chapter.check(threshold(), costs[0, 1] / (costs[0, 1] + costs[1, 0]))
chapter.check(push(), 0.02 * (1 - 0.02))
chapter.check(advantage_of_a_mistake(), -costs[1, 0] - (-0.6))
