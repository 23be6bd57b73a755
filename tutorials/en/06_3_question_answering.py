# %% [markdown]
# # 6.3 Question answering: a reward that can be checked
#
# [Overview](../README.md) · before: [6.2 Text classification: a bandit](06_2_text_classification.ipynb) · next: [6.4 Translation: a metric of sentences as the reward](06_4_translation.ipynb) · [中文](../zh/06_3_question_answering.ipynb)
#
# **You will learn** to train on a reward that needs no reward model, because an answer is right or wrong; to use several
# answers to one question as each other's baseline; and to improve a policy by questions whose answers it is never shown.
# Minutes: about 1.
#
# ## The article's passage
#
# > PPO算法可以用于优化大语言模型在问答系统中的回答生成。通过PPO算法，我们可以使模型在生成回答时更加准确和合理。
#
# (PPO can optimise how a language model generates answers, and make them more accurate and reasonable.)
#
# What is wrong with it:
#
# - It is nearly the sentence of 6.1 and 6.2 again, with another noun. State, action, reward, baseline and metric are missing.
# - "Accurate" and "reasonable" are two rewards, not one. The first can be checked by a program. The second needs a model of
#   what people find reasonable, with all that chapter 6.1 has shown about such models.
# - Where answers are known, supervised training comes first. The article does not say what PPO adds.
#
# ## The task, completely
#
# | part | here |
# |---|---|
# | state | a question with a short story, and the tokens of the answer so far |
# | action | the next token |
# | episode | one answer, up to its end token |
# | reward | after the last token: 1 for the right answer, 0 for any other (*verifiable*) |
# | baseline | to compare with: the policy after supervised training on a share of the answers; inside PPO: the other answers to the same question |
# | measures | exact match on questions held out, greedy and sampled |
#
# Supervised training is shown the answers of a tenth of the questions. PPO practises on the others and is told only "right" or
# "wrong".

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
# ## The reward
#
# The reward is a program, so we can write it down: both texts in lower case, without punctuation and articles, must be equal
# (Rajpurkar et al. 2016).


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
# The last two lines are a warning. A program can have holes too, and a policy that earns a reward through one will use it. A
# reward that can be checked is harder to game than a learned one; it is not safe by itself.
#
# ## Each other's baseline
#
# Some questions are easier than others. A right answer to an easy one is no news. So the policy answers each question $K$
# times, and the score $s_i$ of an answer counts from the mean score of the *other* answers (leave one out; Kool et al. 2019):
#
# $$\hat s_i=s_i-\frac1{K-1}\sum_{j\ne i}s_j=\frac K{K-1}\,(s_i-\bar s)$$
#
# ($\bar s$ is the mean of all $K$.) The baseline of an answer does not depend on that answer, so the gradient stays unbiased.
# Where all $K$ answers are right, or all are wrong, nothing is left to be learned from.


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
# The right answer to the hard question counts three times as much as one to the easy question.
#
# ## Supervised training on a share
#
# Only the tokens of the answer are learned, not those of the question.

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
# ## PPO on the others
#
# A `ReferenceReward` is any function of a response and the right answers to its prompt. It finds them by the prompt's row in the
# data, for which the prompts are numbered: their texts need not differ. Ours also keeps every score in a list for us.
# There is no KL penalty: a right answer is right, however far from the supervised policy.

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
# The policy answers more *new* questions right, though PPO was never shown an answer: it drew answers, and was told which were
# right.
#
# Sampled answers gain more than greedy ones. A policy that samples pays for its doubts, and PPO takes the doubts away: the
# answers that it draws become ever more probable (on the right in the picture below). Only the greedy gain says that the most
# probable answer itself became a better one.
#
# The curve is drawn on the validation split; the test split is looked at only before and after.
#
# The scores that we kept show two more things. Much of their variance is only that some questions are easier than others; the
# baseline removes it. And fewer and fewer questions have answers that are neither all right nor all wrong; only these teach
# anything.

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
# As the policy becomes sure, the answers to one question agree, and the signal dries up. The entropy bonus is there to slow
# this down. Larger groups help: with more answers to a question it happens less often that all agree (exercise 2).
#
# A fair word: here the program that checks holds the answers, so one could have trained on them. In earnest a verifiable reward
# is for cases in which checking is easier than answering: tests that a program must pass, an equation into which a solution is
# put.
#
# ## Summary
#
# - A right answer can be rewarded without a reward model. Look for holes in the check all the same.
# - First supervised training, so that some answers are right by chance; then PPO on questions without answers.
# - Several answers to a question are each other's baseline; questions whose answers all agree teach nothing.
# - Report greedy and sampled measures: a policy that only becomes surer improves mostly the second.
#
# ## Exercises
#
# 1. Three answers to a question score 1, 0 and 0. What are the three scores, each less the mean of the others?
# 2. An answer is right with probability 0.9. With which probability are four independent answers neither all right nor all
#    wrong? And sixteen?
# 3. The reference is "garden". Which of the responses "The garden.", "garden kitchen", "GARDEN" and "" score 1, which 0?
#
# The solutions are in `tutorials/solutions/06_3_question_answering.py`.


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
