# %% [markdown]
# # 2. Language models and PPO
#
# [Overview](../README.md) · before: [1. Introduction](01_introduction.ipynb) · next: [3. From the policy gradient to PPO](03_policy_gradient_to_ppo.ipynb) · [中文](../zh/02_language_models_and_ppo.ipynb)
#
# **You will learn** to read a text as an episode, to say what each of the four models of PPO does, and to compute
# every field of the record that the learner gets, token by token. Minutes: about 1.
#
# ## The article's passage
#
# > 2.1 大语言模型的核心是深度神经网络，特别是循环神经网络（RNN）及其变体……
# >
# > 2.3 通过PPO算法，我们可以根据模型的预测误差来更新模型参数……评估模型性能……避免模型出现过度拟合现象。
# >
# > 2.4 `A[输入文本] --> B{使用大语言模型}` …… `A -->|计算奖励| D{PPO算法}` ……计算生成的文本与目标文本之间的奖励。
#
# ("The core is deep neural networks, especially the RNN and its variants"; "PPO updates the parameters by the prediction error,
# evaluates the model, avoids overfitting"; in the diagram the reward is computed from the input text, in the prose from the
# generated and a target text.)
#
# What is wrong with it:
#
# - Today's language models are decoder-only Transformers (Vaswani et al. 2017). An LSTM also works; the package has both.
# - A prediction error is what *supervised* training lowers. PPO raises a reward; there is no target text at all.
# - The reward comes from prompt *and* response. An arrow from the input alone would pay the same for every response to it.
# - PPO does not evaluate, and does not prevent overfitting: a policy that is trained against a learned reward finds the mistakes
#   of that reward (reward over-optimisation). Against that help a KL penalty and a measure that took no part in the reward.
# - Three of the four models are missing: the reference, the reward model and the value.
# - Section 2.2 fits any actor-critic method. What makes it PPO, ratio and clipping, is in chapter 3.
#
# ## A language model is a policy
#
# A text is a sequence of *tokens*, pieces of words. A language model gives a distribution over the next token, given all
# earlier ones. So the probability of a text is a product,
#
# $$p(x_1,\dots,x_n)=\prod_t \pi(x_t\,|\,x_1,\dots,x_{t-1})$$
#
# and writing is acting:
#
# | in reinforcement learning | in a text |
# |---|---|
# | state $s_t$ | the prompt and the tokens written so far |
# | action $a_t$ | the next token |
# | policy $\pi(a_t\mid s_t)$ | the language model |
# | the world's move | append the token: nothing is random, nothing is unknown |
# | episode | one response, to its end token or to the length limit |
# | reward $r_t$ | a score for the whole response, at its last token; at each token a price for leaving the reference |
# | discount $\gamma$ | 1: responses are short |
#
# First a small language model, so that there is something to look at: a tokenizer and a Transformer, trained for some seconds on the
# bundled film reviews.

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
# A state holds only what is past: changing a token changes nothing before it. That is what "decoder-only" means (the attention looks
# back only), and it holds for the LSTM too.

# %%
ids = tf.constant([tokenizer.encode(example, begin=True)[:10]])
changed = tf.concat([ids[:, :6], [[tokenizer.encode("dull")[0]]], ids[:, 7:]], axis=1)
for model in (writer, LSTMActorCritic(tokenizer.vocabulary_size, width=32)):
    one, other = model(ids)[0], model(changed)[0]  # logits (1, 10, V)
    np.testing.assert_allclose(one[:, :6], other[:, :6], atol=1e-5)
    assert np.abs(one[:, 6:] - other[:, 6:]).max() > 1e-3
    print(type(model).__name__, one.shape, chapter.text("the past does not see the future", "过去看不到未来"))

# %% [markdown]
# ## Who does what: the diagram, put right
#
# - The **policy** $\pi_\theta$ writes. It alone is trained, with the value.
# - The **reference** $\pi_{ref}$ is a frozen copy of the policy at the start. It says how probable each token was then.
# - The **reward** is a number for prompt and response: a trained model, frozen, or any function.
# - The **value** $V_\phi$ (critic) predicts, before each token, what is still to come.
#
# Here policy and value are one network with two heads, and a call gives logits and values (`shared=False` makes two networks).

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
# Dashed boxes never change. The gradient (dashed arrows) reaches the policy and the value only.
#
# ## Responses
#
# Prompts have different lengths; they are padded on the left, so that all responses begin at the same place. A response is
# sampled until its end token, or until the limit of `T` tokens; what follows is padding. Masks say what is real.

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
# `log_probs` and `values` come from the very pass that sampled. Here they are computed anew and plainly: for each token one
# reading of everything before it, without any padding.


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
# ## The reward of each token
#
# The score of a response is one number. It is given at its last token, $t=L$. To stay near the reference costs nothing; to leave it
# costs $\beta$ for each nat (Ziegler et al. 2019, eq. 2):
#
# $$r_t=-\beta\big(\log\pi_\theta(a_t|s_t)-\log\pi_{ref}(a_t|s_t)\big)+\mathbb{1}[t=L]\,R(x,y)$$
#
# The bracket is the estimator $k_1$ of chapter 4: it may be negative at a token, and its mean is the KL divergence. A response that is
# cut off by the limit pays a penalty on its score. The sum over a response is what PPO maximises:
# $R(x,y)-\beta\sum_t k_{1,t}$.
#
# In training the policy moves away from its reference step by step. Here we move it at once, at random, so that there is a KL to see.
# The score is something that can be checked by eye: how often the letter "e" is in the response, divided by ten.

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
# ## The `Trajectory`, field by field
#
# This is what every collector of the package hands to the learner. For each response:

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
# From here on nothing knows that it was text. The learner computes advantages (chapter 4) and makes its clipped steps
# (chapter 3). Before the first step the ratio of every token must be 1: acting and learning compute the same.

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
# Each row of the picture has its own scale: its largest number has the strongest colour, dark red above 0 or light blue below. The numbers
# of the first three rows follow from the table above (a power of ten beside a name belongs to its whole row). The advantages are already brought to mean
# 0 and standard deviation 1 over all tokens (chapter 3).
#
# ## Summary
#
# - A response is an episode: the state is the text so far, an action is a token, the world only appends.
# - Four models: policy and value are trained, reference and reward are frozen. The reward reads prompt and response.
# - The score lies at the last real token, the KL penalty at every token; together they are what PPO maximises.
# - Behind the last token the value is 0; padding enters nothing.
#
# ## Exercises
#
# 1. The rewards of one response that pays no penalty, from its log-probabilities, those of the reference, its score and beta.
# 2. `next_values` of one response, from its values.
# 3. The perplexity of a response is $\exp(-\frac1n\sum_t\log\pi(a_t|s_t))$ over its real tokens. Compute that of each row.
#
# The solutions are in `tutorials/solutions/02_language_models_and_ppo.py`.


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
