# %% [markdown]
# # 6.4 Translation: a metric of sentences as the reward
#
# [Overview](../README.md) · before: [6.3 Question answering: a reward that can be checked](06_3_question_answering.ipynb) · next: [6.5 A large language model: adapters, and a reference for nothing](06_5_large_language_model.ipynb) · [中文](../zh/06_4_translation.ipynb)
#
# **You will learn** to compute chrF by hand and to use it as the reward of single sentences, to find a hole in it before the
# policy does, why training begins with a warm start, and why sampled translations gain more than greedy ones. Minutes: about 1.
# (Needs `pip install -e ".[translation]"` in the clone, for sacrebleu.)
#
# ## The article's passage
#
# > PPO算法可以用于优化大语言模型在机器翻译任务中的翻译策略。通过PPO算法，我们可以使模型在翻译文本时更加准确。
#
# (PPO can optimise the translation strategy of a language model and make its translations more accurate.)
#
# What is wrong with it:
#
# - It is nearly the same sentence for the fourth time. State, action, reward, baseline and metric are missing.
# - "Accurate" has to become a number for *each* sentence. BLEU, the best known metric, is one of whole test sets; for a
#   single sentence without smoothing it is 0 as soon as no four words in a row are those of the reference.
# - An untrained policy gives PPO hardly anything to begin with: what it writes earns next to nothing (computed below). The
#   article knows no warm start by supervised training.
#
# ## The task, completely
#
# | part | here |
# |---|---|
# | state | an English phrase, and the Chinese tokens so far |
# | action | the next token |
# | episode | one translation, up to its end token |
# | reward | after the last token: the chrF of the sentence, less a penalty for shortness |
# | baseline | the policy after supervised training on three quarters of the phrases |
# | measures | mean chrF on phrases held out, greedy and sampled |

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
# chrF (Popović 2015) compares the character $n$-grams of a translation and a reference, for $n=1$ to 6, white space left out.
# Precision $P$ is the share of the translation's $n$-grams that the reference has, recall $R$ the share of the reference's that
# the translation has; each is averaged over $n$. Recall counts twice as much ($\beta=2$):
#
# $$\mathrm{chrF}=\frac{(1+\beta^2)\,P\,R}{\beta^2 P+R}$$
#
# (An $n$-gram is $n$ neighbours: "abc" has the 2-grams "ab" and "bc".) An $n$ for which one of the texts is too short is left out
# of the averages. Ours is compared with sacrebleu's:


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
# Look at the last lines. A full stop alone has a precision of 1 and is excused from all $n$ above 1; a fluent sentence with
# other words earns less. This is a hole, and we have found it before the policy does. How large is it? Answer every phrase of
# the test split with nothing but its end mark:

# %%
lazy = ["？" if text.endswith("?") else "。" for text in test.texts]
lazy_score = np.mean([chrf(response, references[0]) for response, references in zip(lazy, test.references)])
print(chapter.text("mean chrF of the end mark alone:", "只写句末标点的平均chrF:"), f"{100 * lazy_score:.1f}")

# %% [markdown]
# The learner's `short_penalty` works against it: a response pays in proportion to what it lacks of the usual length (see 6.1).
#
# ## A warm start
#
# A translation of ten tokens out of a thousand different ones is not found by chance. Supervised training comes first, with the
# translations of three quarters of the phrases.

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
# The end mark alone earns more than a sampled translation of this small policy. Without the penalty it would be tempting
# (exercise 1 computes what the penalty does to it).
#
# ## PPO on all phrases
#
# PPO translates all phrases of the training split, eight times each whenever one comes up, and is told only what each
# translation scores. The baseline of a score is the mean of the other seven (see 6.3). The score of a single sentence is noisy,
# so the batch is large and is gone through once.

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
# ## Why sampled translations gain more
#
# PPO maximises the score of what it *samples*; greedy translation takes the most probable token everywhere:
#
# $$\text{sampled: }\;\mathbb{E}_{y\sim\pi}\big[s(y)\big]\qquad\qquad\text{greedy: }\;s\big(\arg\max\pi\big)$$
#
# ($\arg\max\pi$ stands for the translation that takes the most probable token everywhere.) The curve above is drawn on the
# validation split; the test split is looked at only before and after.
#
# Every bit of probability that moves from a worse token to a better one raises the first. The second changes only where the
# most probable token becomes another one. A small policy samples many poor tokens, and PPO first of all makes that rarer:
# the entropy falls, and with it the price of sampling, the distance between the two numbers.

# %%
price = [measured["greedy"] - measured["sampled"] for measured in (before, after)]
print(chapter.text("price of sampling, before -> after:", "采样的代价,之前 -> 之后:"), f"{price[0]:.1f} -> {price[1]:.1f}")
assert price[1] < price[0]

scores = np.array([0.5, 0.2])  # of two translations of one phrase
probabilities = {chapter.text("before:", "之前:"): np.array([0.6, 0.4]), chapter.text("after: ", "之后:"): np.array([0.9, 0.1])}
for stage, pi in probabilities.items():
    print(stage, chapter.text("sampled", "采样"), (pi @ scores).round(3), chapter.text("greedy", "贪心"), scores[pi.argmax()])

# %% [markdown]
# To be fair to the baseline: a lower *temperature* does the same, without any training. The supervised policy sampled at 0.5 is
# well above itself sampled at 1, and the greedy translation is its limit; compare the number at 0.5, printed above, with
# PPO's. So a gain in sampled chrF alone is no proof of a better translator. A greedy gain, larger than chance, would be. Here it is
# the smaller one and may have either sign: the policy is small, its phrases are few, and the score of one sentence is a noisy
# teacher. The translations printed above are no good ones, before or after.
#
# ## Summary
#
# - State: the phrase and the translation so far. Reward: chrF of the sentence. Baseline: supervised training, which is also
#   the warm start.
# - A metric made for comparing translation systems has holes when it becomes a reward: chrF excuses a short text from long $n$-grams.
# - PPO improves what is sampled. Report greedy, sampled, and sampled at a lower temperature, or sharpening passes for learning.
#
# ## Exercises
#
# 1. The end mark alone scores 0.12 and has 2 tokens with the end token; the usual length is 12 and `short_penalty` is 0.3. What
#    is left of the score?
# 2. What is the chrF of "ab" with the reference "abc", from 0 to 1?
# 3. Two translations of a phrase score 0.2 and 0.6. PPO moves their probabilities from [0.7, 0.3] to [0.4, 0.6]. By how much do
#    the sampled and the greedy score rise?
#
# The solutions are in `tutorials/solutions/06_4_translation.py`.


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
