# %% [markdown]
# # 6.2 Text classification: a bandit
#
# [Overview](../README.md) · before: [6.1 Text generation, and how a reward is gamed](06_1_text_generation.ipynb) · next: [6.3 Question answering: a reward that can be checked](06_3_question_answering.ipynb) · [中文](../zh/06_2_text_classification.ipynb)
#
# **You will learn** to see classification as a reinforcement learning task of one step, why its gradient is weaker than that of
# cross-entropy, what changes when one mistake costs five times as much as the other, and when PPO is worth it here and when it
# is not. Minutes: under 1.
#
# ## The article's passage
#
# > PPO算法可以用于优化大语言模型在文本分类任务中的决策过程。通过PPO算法，我们可以使模型在分类文本时更加准确。
#
# (PPO can optimise the decisions of a language model in text classification and make it classify more accurately.)
#
# What is wrong with it:
#
# - It names no state, no action and no reward.
# - It leaves out the baseline. Where the right labels are known, cross-entropy tells the model the answer; PPO only tells it
#   how good its own guess was. To claim "more accurate" one has to compare the two.
# - It does not say what PPO could be *for*: mistakes of different cost, or feedback that names no right label.
#
# ## The task, completely
#
# | part | here |
# |---|---|
# | state | the prompt: one film review |
# | action | its label, 0 (negative) or 1 (positive) |
# | episode | this one step: a *contextual bandit* |
# | reward | minus what the choice costs |
# | baseline | the same network, trained with cross-entropy |
# | measures | accuracy and mean cost on texts held out |
#
# We give some reviews labels. For the others there is only feedback: what the chosen label cost.

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
# ## One step
#
# Nothing comes after the action, so the return is the reward, and discount and $\lambda$ have nothing to act on:
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
# ## Two gradients
#
# Let $z_y$ be the logit of the right label $y$. Cross-entropy knows $y$ and pushes its logit by
#
# $$\frac{\partial \log\pi(y)}{\partial z_y}=1-\pi(y)$$
#
# With a reward of 1 for the right label and 0 for another, the policy gradient is that of the expected reward, which is
# $\pi(y)$ itself:
#
# $$\frac{\partial \pi(y)}{\partial z_y}=\pi(y)\,\big(1-\pi(y)\big)$$
#
# This is the same push, times the probability that the right label is tried at all.

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
# A policy that is sure of the wrong label hardly ever hears that it is wrong. Therefore PPO begins with a supervised policy,
# and gets an entropy bonus that keeps it from becoming sure.
#
# ## The baselines
#
# The network is the mean of word embeddings. It is trained twice with cross-entropy: on the reviews that have labels, and, for
# comparison, on all of them. And the costs? Cross-entropy gives probabilities, and with them one can choose the label of *least
# expected cost*, with no reinforcement learning at all:
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
# ## PPO on feedback
#
# Both runs begin with the policy that has seen few labels. They practise on the reviews *without* labels and are told only what
# each choice cost: in the first run every mistake costs 1, in the second calling a good film bad costs 5.

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
# The cost is always that of the table 5:1, whatever a row was trained for. With nothing but feedback PPO beats the policy that
# it began with: told 1:1 in accuracy, told 5:1 in cost, even where that policy uses the rule of least expected cost. The two
# runs differ only in what they were told that a mistake costs: where a good film called bad costs five, the policy calls more
# films good. It pays less, and is right less often. That is as it should be: accuracy was not asked for.

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
# Lines are means over the seeds, bands go from the least to the most. The horizontal lines are cross-entropy; on the right with
# the rule of least expected cost. They are no means to choose when to stop: for that, draw them on the validation split.
#
# ## When is PPO worth it?
#
# *It is not* where the right labels and the costs are known. Cross-entropy on all labels with the rule of least expected cost,
# two lines of code, is no worse in the table above. Its probabilities serve any table of costs without training again; PPO's
# policy serves the one that it was trained for.
#
# *It is* where there is only feedback: a click, a complaint, a bill; nobody says what would have been right. And where the
# reward does not belong to single labels (a measure of the whole batch, say), so that no expected cost can be written down.
#
# A fair word about this chapter: with *two* labels, a cost gives the right label away. One could have turned the feedback into
# labels and used cross-entropy. With many labels, the cost of a mistake only rules out the label that was chosen.
#
# ## Summary
#
# - Classification is an episode of one step, $A=r-V(s)$. Baseline: cross-entropy.
# - The policy gradient is that of cross-entropy times $\pi(y)$. Begin with a supervised policy, and keep its entropy.
# - With labels and costs known, use cross-entropy and the least expected cost. With feedback only, use PPO.
#
# ## Exercises
#
# 1. From which probability of "positive" on is "positive" the label of least expected cost, when calling a good film bad costs
#    5 and the other mistake costs 1?
# 2. A policy gives the right one of two labels the probability 0.02. How large is the push of the policy gradient on its logit
#    (reward 1 for the right label, 0 for the other)?
# 3. The critic believes $V=-0.6$. A good film is called bad, at a cost of 5, and $\gamma=0.99$, $\lambda=0.95$. What is the
#    advantage?
#
# The solutions are in `tutorials/solutions/06_2_text_classification.py`.


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
