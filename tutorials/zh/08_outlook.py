# %% [markdown]
# # 8. 展望：用小实验代替断言
#
# [目录](../README.md) · 上一章：[7. 工具：TensorBoard、调试器、性能分析器](07_tools.ipynb) · 下一章：[9. 常见问题，每个答案都是一个实验](09_faq.ipynb) · [English](../en/08_outlook.ipynb)
#
# **本章要学会**：看进一个小语言模型的内部，并检验自己看到的是否属实；测量它对没练习过的提示的泛化；把RLOO、GRPO的优势与GAE的并列写出；以及测量隐私限制和行为限制的代价。需要约1分钟。`ITERATIONS`决定每次训练的长短。
#
# ## 原文的段落
#
# > **可解释性**：……未来研究将关注如何在大语言模型中引入可解释性机制…… **泛化能力**：提升大语言模型的泛化能力…… **数据隐私**……**模型安全**……
#
# 问题在于：没有出处，没有方法，没有数字；PPO之后的方法一个也没提：DPO（直接偏好优化，从成对的回复中学习，不需要采样）、RLOO（REINFORCE留一法）、GRPO（组相对策略优化），以及可验证的奖励。这里把每个词变成一个几秒钟的实验。它们都是玩具：演示怎样提问，不说明大模型的真相。
#
# ## 一个任务贯穿全章
#
# 给出三个符号，模型要照样说一遍。奖励是说对的比例，谁都能核对（*可验证*的奖励）。模型是一层的Transformer，只凭这个数来学习。

# %%
import sys
from pathlib import Path

sys.path.append(str(Path(globals().get("__file__", "notebook")).resolve().parents[1]))  # the folder of chapter.py

import keras
import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure

from ppo_keras import KLConfig, LanguagePPO, PPOConfig, Prompts, TransformerActorCritic, generate, load_texts
from ppo_keras.reports import pictures
from ppo_keras.language.ppo import less_the_others
from ppo_keras.runs.views import attention_of

from chapter import Chapter

ITERATIONS = 50  # of PPO in each run; 200 for the real thing
chapter = Chapter("08_outlook")
keras.utils.set_random_seed(0)
BEGIN, SYMBOLS, LENGTH, BATCH = 1, "ABCDEF", 3, 128
VOCABULARY = 2 + len(SYMBOLS)  # 0 is padding; the end token is one that is never written
everything = np.stack(np.meshgrid(*[np.arange(len(SYMBOLS))] * LENGTH, indexing="ij"), axis=-1).reshape(-1, LENGTH) + 2
np.random.default_rng(0).shuffle(everything)
practised, unseen = everything[:160], everything[160:]
names = lambda ids: [("_^" + SYMBOLS)[i] for i in ids]


def prompts_of(rows):
    tokens = np.concatenate([np.full([len(rows), 1], BEGIN), rows], axis=1).astype(np.int32)
    return Prompts(tokens, np.ones(tokens.shape, np.float32))


def data_of(rows, responses_per_prompt=1):
    prompts = tf.data.Dataset.from_tensor_slices(prompts_of(rows)).shuffle(len(everything), seed=0)
    return prompts.repeat().batch(BATCH // responses_per_prompt, drop_remainder=True)


def share_right(prompts, responses):
    return tf.reduce_mean(tf.cast(prompts.tokens[:, 1:] == responses.tokens, tf.float32), axis=1)


def new_learner(reward=share_right, responses_per_prompt=1, **config):
    keras.utils.set_random_seed(0)
    writer = TransformerActorCritic(VOCABULARY, width=32, layers=1, heads=2, memory=16)
    writer.start_value_from_policy()  # V = 0
    config = PPOConfig(**dict(discount=1.0, minibatches=2, entropy_coefficient=0.01) | config)
    learner = LanguagePPO(writer, reward, VOCABULARY, 0, LENGTH, config, KLConfig(kl_coefficient=0.0), responses_per_prompt=responses_per_prompt)
    learner.compile(keras.optimizers.Adam(3e-3), jit_compile=False)
    return learner


def train(learner, rows, iterations=ITERATIONS):
    """Mean score of every iteration, smoothed over five."""
    history = learner.fit(data_of(rows, learner.responses_per_prompt), steps_per_epoch=5, epochs=iterations // 5, verbose=0).history
    return np.array(history["objective/scores"])


def right_on(learner, rows):
    """Share of symbols that the greedy writer gets right."""
    prompts = prompts_of(rows)
    responses = generate(learner.policy, prompts, LENGTH, VOCABULARY, 0, tf.constant([0, 0]), greedy=True)
    return float(tf.reduce_mean(share_right(prompts, responses)))


learner = new_learner()
start = learner.state()  # a learner can be put back to it: nothing is compiled twice
with_critic = train(learner, practised)
finished = learner.state()
print(chapter.text("score, every five iterations:", "得分,每五次迭代:"), with_critic.round(2))
print(chapter.text("right on practised prompts:", "练习过的提示上的正确率:"), round(right_on(learner, practised), 3))
assert right_on(learner, practised) > 0.8

# %% [markdown]
# ## 可解释性
#
# ### 它在看哪里
#
# 注意力是对可见词元取$\mathrm{softmax}(qk^\top/\sqrt d)$。先用这一层的查询与键从零算出，再与软件包的`attention_of`比较：


# %%
def text_of(rows):
    """Prompt and the right response but for its last token: what is read when the three are written. `(N, 6)`."""
    return np.concatenate([np.full([len(rows), 1], BEGIN), rows, rows[:, :-1]], axis=1).astype(np.int32)


encoder, ids = learner.policy.encoder, text_of(unseen)
starts = np.eye(1, ids.shape[1], dtype=np.float32)
query, key, _ = (x.numpy() for x in encoder.trunk.blocks[0].project(encoder.embed(tf.constant(ids[:1])), tf.range(ids.shape[1])))
scores = query[0] @ key[0].transpose(0, 2, 1) / np.sqrt(query.shape[-1])  # (heads, T, T)
scores[:, ~np.tri(ids.shape[1], dtype=bool)] = -np.inf  # nobody sees the future
plain = np.exp(scores - scores.max(axis=-1, keepdims=True))
plain /= plain.sum(axis=-1, keepdims=True)
attention = attention_of(encoder, tf.constant(ids[:1]), tf.constant(starts))  # (layers, heads, T, T)
np.testing.assert_allclose(attention[0], plain, atol=1e-5)

every = np.mean([attention_of(encoder, tf.constant(ids[i : i + 1]), tf.constant(starts))[0] for i in range(16)], axis=0)  # (heads, T, T)
looked = every.mean(axis=0)[LENGTH:, 1 : LENGTH + 1]  # from each response position to each symbol of the prompt
print(chapter.text("attention to the symbols 1, 2, 3 when symbol 1, 2, 3 is written:", "写第1、2、3个符号时对提示第1、2、3个符号的注意力:"))
print(looked.round(2))
title, panel = chapter.label("attention", "注意力"), chapter.label("layer {}, head {}", "第{}层,第{}头")
chapter.show(pictures.attention_map(names(ids[0]), attention, f"{title}: {''.join(names(unseen[0]))}", panel=panel), "attention")

# %% [markdown]
# ### 它依赖什么
#
# 注意力图只是对因果的猜测。用*干预*来检验：改动提示里的一个符号，看每个正确答案的概率下降多少。


# %%
def right_probabilities(ids, answers):
    logits, _ = learner.policy(tf.constant(ids), starts=tf.constant(np.repeat(starts, len(ids), axis=0)), context=LENGTH)
    return np.take_along_axis(tf.nn.softmax(logits).numpy(), answers[..., np.newaxis], axis=-1)[..., 0]  # (N, 3)


before = right_probabilities(ids, unseen)
effect = np.zeros([LENGTH, LENGTH])  # (response position, prompt position)
for position in range(LENGTH):
    changed = ids.copy()
    changed[:, 1 + position] = 2 + (changed[:, 1 + position] - 2 + 1) % len(SYMBOLS)  # the next symbol
    effect[:, position] = (before - right_probabilities(changed, unseen)).mean(axis=0)
print(chapter.text("fall of the probability of the answer (row) when a symbol (column) is changed:", "改动某个符号(列)后,各答案(行)概率的下降:"))
print(effect.round(2))
assert (effect.argmax(axis=1) == np.arange(LENGTH)).all()  # each answer depends on its own symbol
agree = (looked.argmax(axis=1) == effect.argmax(axis=1)).mean()
print(chapter.text("answers whose most attended symbol is the one that matters:", "注意力最大的符号恰是起作用的符号的比例:"), f"{agree:.0%}")

# %% [markdown]
# 两个矩阵不一致时，相信第二个：注意力头可以看着一个词元，却不用在那里读到的东西；而在更深的层里，一个词元还带着它从别处读来的内容。
#
# ### 每个词元因何受到表扬
#
# 每个词元的优势，就是PPO乘在其梯度上的数。先用朴素的循环计算，再与学习器的`estimate`比较；这批回复由只训练了几次迭代的模型写出，所以还会出错：

# %%
learner.restore(start)
train(learner, practised, 15)
rows = practised[:BATCH]
trajectory, _ = learner.collect(Prompts(*map(tf.constant, prompts_of(rows))))
rewards, values = trajectory.rewards.numpy(), trajectory.values.numpy()
gae = np.zeros_like(values)
for t in reversed(range(LENGTH)):
    next_value, later = (values[:, t + 1], gae[:, t + 1]) if t + 1 < LENGTH else (0.0, 0.0)
    gae[:, t] = rewards[:, t] + next_value - values[:, t] + learner.config.gae_lambda * later  # gamma = 1
whitened = (gae - gae.mean()) / np.sqrt(gae.var(ddof=1) + 1e-8)
np.testing.assert_allclose(learner.estimate(trajectory).advantages, whitened, atol=1e-4)

hits = trajectory.actions.numpy() == rows
print(chapter.text("mean advantage of right symbols:", "说对的符号的平均优势:"), round(gae[hits].mean(), 3))
print(chapter.text("mean advantage of wrong symbols:", "说错的符号的平均优势:"), round(gae[~hits].mean(), 3))
assert gae[hits].mean() > gae[~hits].mean() + 0.05
one_wrong = np.flatnonzero(hits.sum(axis=1) == LENGTH - 1)
blamed = gae[one_wrong].argmin(axis=1) == hits[one_wrong].argmin(axis=1)  # the wrong symbol has the lowest advantage
print(chapter.text("responses with one mistake:", "恰有一个错误的回复:"), len(one_wrong))
print(chapter.text("the mistake has the lowest advantage in", "错误处优势最低的比例"), f"{blamed.mean():.0%}", chapter.text("(by chance 33%)", "(随机则为33%)"))
some = one_wrong[np.argmax(blamed)]
title = f"{''.join(names(rows[some]))} -> {''.join(names(trajectory.actions.numpy()[some]))}"
measures = {
    chapter.label("advantage", "优势"): gae[some],
    chapter.label("value", "价值"): values[some],
    chapter.label("reward", "奖励"): rewards[some],
}
chapter.show(pictures.token_heat_map(names(trajectory.actions.numpy()[some]), measures, title), "tokens")

# %% [markdown]
# 奖励只落在最后一个词元上，要靠评论家把它分派回去：它学会在说错之后降低期望，责备才会落在该负责的词元上。平均而言的确如此，见上面两个均值；但就单个回复而言往往不是，见上面的比例：优势是估计值，出自还在学习的评论家。所以这样的图要看很多张，不要只看一张。
#
# ## 对没练习过的提示的泛化
#
# 同一个学习器，同样的起点，同样的迭代次数，只改变不同提示的个数。

# %%
counts, seen_share, unseen_share = (6, 24, 160), [], []
for count in counts:
    if count == 160:
        learner.restore(finished)  # trained above
    else:
        learner.restore(start)
        train(learner, practised[:count])
    seen_share.append(right_on(learner, practised[:count]))
    unseen_share.append(right_on(learner, unseen))
    print(f"{count:4d}", chapter.text("prompts: right on them", "个提示:其上的正确率"), f"{seen_share[-1]:.2f}", end=" ")
    print(chapter.text("on unseen ones", "没练习过的"), f"{unseen_share[-1]:.2f}")
assert seen_share[0] > 0.7 and seen_share[0] - unseen_share[0] > 0.2 and seen_share[-1] - unseen_share[-1] < 0.1 and unseen_share[-1] > 0.8

figure = Figure(figsize=(6, 3), layout="constrained")
axes = figure.add_subplot(xscale="log", xlabel=chapter.label("prompts practised", "练习的提示数"), ylabel=chapter.label("share right", "正确率"))
axes.plot(counts, seen_share, "o-", label=chapter.label("practised", "练习过的"))
axes.plot(counts, unseen_share, "s--", label=chapter.label("unseen", "没练习过的"))
axes.axhline(1 / len(SYMBOLS), color="black", linestyle=":", linewidth=0.8, label=chapter.label("chance", "随机"))
axes.legend()
axes.grid(alpha=0.3)
chapter.show(figure, "generalisation")

# %% [markdown]
# 只看练习过的提示，提示最少的那次运行几乎与其他的一样好；只有留出的提示才显出差距：这就是软件包的任务在测试集上评估的原因。
#
# ## PPO之后：没有评论家的优势
#
# 每个提示有$K$个回复时，其余的回复可以代替评论家。设同一提示的得分为$s_1,\dots,s_K$：
#
# $$\text{RLOO: } A_i=s_i-\frac1{K-1}\sum_{j\ne i}s_j,\qquad \text{GRPO: } A_i=\frac{s_i-\bar s}{\mathrm{std}(s)+\epsilon}$$
#
# （Ahmadian等，2024；Shao等，2024），$\bar s$与$\mathrm{std}(s)$是$K$个得分的均值与标准差。回复$i$的每个词元都用同一个优势；GAE则给每个词元各自的优势。软件包的`responses_per_prompt`是留一法（Kool等，2019），即前者。先按朴素公式计算，再用一个没有评论家的学习器，它的优势恰好就是RLOO的：


# %%
def rloo(scores):
    """`(G, K)` -> `(G, K)`."""
    return np.stack([scores[:, i] - np.delete(scores, i, axis=1).mean(axis=1) for i in range(scores.shape[1])], axis=1)


def grpo(scores, epsilon=1e-4):
    return (scores - scores.mean(axis=1, keepdims=True)) / (scores.std(axis=1, ddof=1, keepdims=True) + epsilon)


K = 4
scores = rewards.sum(axis=1).reshape(-1, K)
np.testing.assert_allclose(less_the_others(scores.ravel(), K), rloo(scores).ravel(), atol=1e-6)
np.testing.assert_allclose(rloo(scores), K / (K - 1) * (scores - scores.mean(axis=1, keepdims=True)), atol=1e-6)

critic_free = new_learner(responses_per_prompt=K, gae_lambda=1.0, value_coefficient=0.0, whiten_advantages=False)
t, _ = critic_free.collect(Prompts(*map(tf.constant, prompts_of(practised[: BATCH // K]))))
asked = np.repeat(practised[: BATCH // K], K, axis=0)  # (B, 3)
by_hand = rloo((t.actions.numpy() == asked).mean(axis=1).reshape(-1, K))
np.testing.assert_allclose(critic_free.estimate(t).advantages, np.repeat(by_hand.ravel()[:, np.newaxis], LENGTH, axis=1), atol=1e-5)
print(chapter.text("a prompt whose responses scored", "某个提示的回复得分"), [0.0, 0.0, 1.0, 1.0])
print("RLOO:", rloo(np.array([[0.0, 0.0, 1.0, 1.0]])).round(3), " GRPO:", grpo(np.array([[0.0, 0.0, 1.0, 1.0]])).round(3))
print(chapter.text("and one that hardly differ:", "得分几乎相同的:"), [0.5, 0.5, 0.5, 0.51])
close = np.array([[0.5, 0.5, 0.5, 0.51]])
print("RLOO:", rloo(close).round(3), " GRPO:", grpo(close).round(3))
assert np.abs(grpo(close)).max() > 50 * np.abs(rloo(close)).max()
assert np.abs(grpo(close)).max() > np.abs(grpo(np.array([[0.0, 0.0, 1.0, 1.0]]))).max()

# %% [markdown]
# GRPO的除法让0.01分的差别与整整1分的差别一样响：得分几乎相同的提示与其他提示同等重要。
#
# 哪一个对梯度估计得更好？在概率已知的多臂老虎机里可以算出真实梯度：有些提示怎么做都得分高（这个水平不是谁的功劳），各臂之间差别不大。下面是用64个样本估计时的均方误差，各自先乘上最佳的公共系数（相当于各自调好学习率）：

# %%
random = np.random.default_rng(0)
arms, levels = np.array([0.0, 0.1, 0.2, 0.6]), np.linspace(-2, 2, 16)  # merit of an arm, level of a prompt
policy = np.full(4, 0.25)
true = policy * (arms - policy @ arms)  # gradient of the mean reward in the logits
groups, draws = 16, 2000
chosen = random.integers(0, 4, [draws, groups, K])
reward = levels[random.integers(0, 16, [draws, groups, 1])] + arms[chosen]
one_each = levels[random.integers(0, 16, [draws, groups, K])] + arms[chosen]  # 64 prompts, one response each
noise = lambda scores: scores + 0.3 * random.normal(size=scores.shape)
reward, single = noise(reward), noise(one_each)
estimates = {
    "none": single,
    "batch": single - single.mean(axis=(1, 2), keepdims=True),
    "critic": single - (one_each - arms[chosen]) - policy @ arms,  # V of each prompt, exactly: the best a critic can be
    "RLOO": np.stack([rloo(one) for one in reward]),
    "GRPO": np.stack([grpo(one) for one in reward]),
}
errors = {}
shown = {
    "none": chapter.label("none", "无基线"),
    "batch": chapter.label("batch", "全批均值"),
    "critic": chapter.label("critic", "评论家"),
    "RLOO": "RLOO",
    "GRPO": "GRPO",
}
for name, advantages in estimates.items():
    gradients = np.einsum("dgk,dgka->da", advantages, np.eye(4)[chosen] - policy) / (groups * K)  # (draws, 4)
    factor = (gradients @ true).mean() / np.square(gradients).sum(axis=1).mean()
    errors[name] = np.square(factor * gradients - true).sum(axis=1).mean() / np.square(true).sum()
    print(f"{shown[name]:7s}", chapter.text("relative squared error", "相对均方误差"), f"{errors[name]:.3f}")
assert errors["critic"] < errors["RLOO"] < 2 * errors["critic"]
assert 3 * errors["RLOO"] < errors["batch"] < errors["none"] + 0.05
assert abs(errors["GRPO"] / errors["RLOO"] - 1) < 0.2

# %% [markdown]
# 留一法接近完美的评论家，却不需要评论家。两者都远胜于全批基线，因为各提示的水平不同。这里各提示的得分离散程度相同，所以GRPO与RLOO接近。再看复制任务上的训练，回复总数相同：

# %%
without_critic = train(critic_free, practised)
figure = Figure(figsize=(8, 3), layout="constrained")
left, right = figure.subplots(1, 2, width_ratios=[1, 1.2])
left.bar([shown[name] for name in errors], list(errors.values()), color="C0")
left.set(ylabel=chapter.label("relative squared error", "相对均方误差"))
left.tick_params(axis="x", rotation=30)
x = 5 * np.arange(1, len(with_critic) + 1)
right.plot(x, with_critic, "o-", label=chapter.label("GAE, critic, K = 1", "GAE,评论家,K = 1"))
right.plot(x, without_critic, "s--", label=f"RLOO, K = {K}")
right.set(xlabel=chapter.label("iteration", "迭代"), ylabel=chapter.label("score", "得分"), ylim=(0, 1.05))
right.legend(loc="lower right")
for axes in (left, right):
    axes.grid(axis="y", alpha=0.3)
chapter.show(figure, "without_a_critic")
print(chapter.text("score at the end: GAE with a critic", "最后的得分:GAE与评论家"), with_critic[-1].round(2), " RLOO", without_critic[-1].round(2))
assert with_critic[-1] > 0.8 and without_critic[-1] > 0.5
assert with_critic.mean() > without_critic.mean()  # faster

# %% [markdown]
# 这里GAE更快。可能的原因是每个词元可以单独评判，而评论家学得会。但这没有得到证明：两次运行在每批有多少个不同的提示、优势是否白化上也不同。
# 若得分只说整个答案对或错，可分派的就少了，而评论家是要多训练的一个网络。
#
# ## 隐私的代价
#
# 模型可能记住训练文本。差分隐私限制任何一条文本能改变结果的程度：每个样本的梯度范数截到不超过$C$，求和后加噪声$\mathcal N(0,\sigma^2C^2)$（Abadi等，2016）。若$T$步中每步都用全部$N$个样本（不抽样），增减一个样本最多使总和移动$C$，各步合起来满足$\rho$-zCDP（零集中差分隐私），$\rho=T/(2\sigma^2)$，从而
#
# $$(\varepsilon,\delta)\text{-DP},\quad \varepsilon=\rho+2\sqrt{\rho\ln(1/\delta)}$$
#
# （Bun与Steinke，2016）。$\varepsilon$越小，隐私越强；$\delta$是这个界限可能不成立的概率。小任务是：用“含有哪些词”做逻辑回归，判断影评是好评还是差评。（词表视为公开的。）

# %%
reviews = load_texts()
words_of = lambda text: set("".join(c if c.isalpha() else " " for c in text.lower()).split())
counted = {}
for text in reviews.train.texts:
    for word in words_of(text):
        counted[word] = counted.get(word, 0) + 1
words = {word: i for i, word in enumerate(sorted(counted, key=lambda word: (-counted[word], word))[:300])}


def features(texts):
    """`(N, 300)`, rows of norm 1."""
    x = np.zeros([len(texts), len(words)])
    for row, text in zip(x, texts):
        row[[words[word] for word in words_of(text) if word in words]] = 1
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1)


x, y = features(reviews.train.texts), np.asarray(reviews.train.labels)
row_norms = np.linalg.norm(x, axis=1)
x_test, y_test = features(reviews.test.texts), np.asarray(reviews.test.labels)
STEPS, CLIP, DELTA = 60, 0.25, 1e-5


def private_fit(sigma, seed):
    """Weights of a logistic regression; with sigma=None, without a limit and without noise."""
    random, weights = np.random.default_rng(seed), np.zeros(x.shape[1])
    for _ in range(STEPS):
        residuals = 1 / (1 + np.exp(-x @ weights)) - y  # (N,): the gradient of an example is its residual times its row of x
        if sigma is not None:
            residuals *= np.minimum(1, CLIP / np.maximum(np.abs(residuals) * row_norms, 1e-12))
        total = residuals @ x
        if sigma is not None:
            total += sigma * CLIP * random.normal(size=total.shape)
        weights -= (20.0 if sigma is None else 40.0) * total / len(x)
    return weights


accuracy = lambda weights: np.mean((x_test @ weights > 0) == y_test)
open_accuracy, private = accuracy(private_fit(None, 0)), {}
print(f"{chapter.text('without privacy: accuracy', '无隐私:准确率')} {open_accuracy:.3f}  ({len(x):,} {chapter.text('reviews', '条影评')})")
for sigma in (3.0, 10.0, 30.0, 100.0):
    rho = STEPS / (2 * sigma**2)
    epsilon = rho + 2 * np.sqrt(rho * np.log(1 / DELTA))
    private[epsilon] = [accuracy(private_fit(sigma, seed)) for seed in range(5)]
    print(
        f"sigma {sigma:5.0f}  epsilon {epsilon:5.2f}  {chapter.text('accuracy', '准确率')} {np.mean(private[epsilon]):.3f} +- {np.std(private[epsilon], ddof=1):.3f}"
    )
by_epsilon = [np.mean(values) for values in private.values()]  # from weak privacy to strong
assert open_accuracy > 0.7 and by_epsilon[0] > by_epsilon[-1] + 0.05

# %% [markdown]
# ## 规则的代价
#
# 假设符号F不许说出口，哪怕它是对的：这是一条安全规则。给每个F扣$\lambda$，就是带约束的奖励。守规矩至少要付出什么代价？六个符号里有一个是F，每个符号值三分之一分：守规矩的最优模型损失1/6的得分，仅此而已。它何时守规矩？惩罚超过一个F的所得，即1/3时。

# %%
penalty = tf.Variable(0.0)  # a variable: one compiled learner serves every price
F = 2 + SYMBOLS.index("F")


def with_rule(prompts, responses):
    said = tf.reduce_sum(tf.cast(responses.tokens == F, tf.float32), axis=1)
    return share_right(prompts, responses) - penalty * said


ruled = new_learner(reward=with_rule)
prices, kept, broken = (0.0, 0.2, 0.6, 1.0), [], []
for price in prices:
    ruled.restore(finished)  # the writer that was trained above, without the rule
    penalty.assign(price)
    train(ruled, practised, 30)
    prompts = prompts_of(everything)
    responses = generate(ruled.policy, prompts, LENGTH, VOCABULARY, 0, tf.constant([1, 0]))
    kept.append(float(tf.reduce_mean(share_right(prompts, responses))))
    broken.append(float(tf.reduce_mean(tf.cast(responses.tokens == F, tf.float32))))
    print(f"lambda {price:.1f}", chapter.text("score", "得分"), f"{kept[-1]:.3f}", chapter.text("share of F", "F的比例"), f"{broken[-1]:.3f}")
least = 1 - 1 / len(SYMBOLS)
print(chapter.text("score of the best writer that obeys:", "守规矩的最优得分:"), round(least, 3))
assert min(broken[:2]) > 0.1 and max(broken[2:]) < 0.05 and max(kept[:2]) > max(kept[2:]) + 0.08  # a price of 1/3 is between

# %%
figure = Figure(figsize=(8, 3), layout="constrained")
left, right = figure.subplots(1, 2)
left.errorbar(
    list(private), by_epsilon, yerr=[np.std(values, ddof=1) for values in private.values()], marker="o", capsize=3, label=chapter.label("with noise", "加噪声")
)
left.axhline(open_accuracy, color="black", linestyle=":", label=chapter.label("without privacy", "无隐私"))
left.set(xscale="log", xlabel=chapter.label("epsilon (left: more privacy)", "ε(越靠左隐私越强)"), ylabel=chapter.label("accuracy", "准确率"))
right.plot(prices, kept, "o-", label=chapter.label("score", "得分"))
right.plot(prices, broken, "s--", label=chapter.label("share of F", "F的比例"))
right.axhline(least, color="black", linestyle=":", label=chapter.label("best that obeys", "守规矩的最优"))
right.set(xlabel=chapter.label("penalty for an F", "每个F的惩罚"), ylim=(0, 1.05))
for axes, place in ((left, "lower right"), (right, "center right")):
    axes.legend(loc=place)
    axes.grid(alpha=0.3)
chapter.show(figure, "prices")

# %% [markdown]
# 限制有可以测量的代价，有时还能事先知道。写成*价格*的规则，在违反更划算时就会被违反；必须遵守的规则，应当做成动作掩码（环境的`action_masks`），而不是惩罚。
#
# ## 小结
#
# - 注意力只是提示，干预才是检验。优势说明哪个词元因何受表扬。
# - 训练得分说明不了新提示上的表现。
# - RLOO和GRPO用同一提示的其他回复代替评论家；GRPO的除法会放大微小的差别。
# - 隐私要付出准确率，规则要付出得分：付出多少，靠实验。
#
# ## 练习
#
# 1. 一个提示的得分是1、0、0、0：RLOO的四个优势是多少？
# 2. 得分由$s_i$变为$c\,s_i+d$，其中$c=10$，$d=3$：RLOO的优势变为几倍？GRPO的呢（$\epsilon=0$）？
# 3. $\sigma=10$，$T=60$，$\delta=10^{-5}$：如果只走一半的步数，$\varepsilon$是多少？
#
# 答案在`tutorials/solutions/08_outlook.py`。


# %%
@chapter.exercise
def rloo_of_one_success():
    return None  # your four numbers


@chapter.exercise
def factors():
    return None  # your two numbers, such as [1.0, 1.0]


@chapter.exercise
def epsilon_of_half_the_steps():
    return None  # your number


chapter.check(rloo_of_one_success(), rloo(np.array([[1.0, 0.0, 0.0, 0.0]]))[0])
s = np.array([[0.1, 0.4, 0.9, 0.2]])
chapter.check(factors(), [rloo(10 * s + 3)[0, 0] / rloo(s)[0, 0], grpo(10 * s + 3, 0)[0, 0] / grpo(s, 0)[0, 0]])
rho = STEPS / 2 / (2 * 10.0**2)
chapter.check(epsilon_of_half_the_steps(), rho + 2 * np.sqrt(rho * np.log(1 / DELTA)))
