# %% [markdown]
# # 5.3 用LSTM做PPO
#
# [目录](../README.md) · 上一章：[5.2 改正原文的程序](05_2_the_article_corrected.ipynb) · 下一章：[5.4 用解码器Transformer做PPO](05_4_transformer_ppo.ipynb) · [English](../en/05_3_lstm_ppo.ipynb)
#
# **本章要学会**：用Keras的层搭建一个LSTM的演员-评论家（actor-critic）；确认逐步行动与整段读入得到同样的数，即使中途开始了新的文本；再把它训练成一个写作模型：先学少量例句，再用PPO。需要约1分钟。
#
# ## 原文的段落
#
# > `model.add(LSTM(128, activation='relu', input_shape=input_shape))` … 使用LSTM层进行序列建模。
# > 策略网络输出动作概率，价值网络输出状态价值。
#
# 问题在于：
#
# - 整个序列只有一个输出。PPO在*每一步*都需要一个分布和一个价值。
# - 记忆没有从一步传到下一步。要写下一个词元，原文的网络就得把全部内容重读一遍。
# - 新文本开始时没有清空记忆，也没有处理长短不一的提示。
# - `activation='relu'`使记忆无界（见5.2）。
#
# ## 思路
#
# 带记忆的策略有两种用法。**行动**时，它读一个词元，保留记忆，给出一个分布。**学习**时，它一次读入整个序列。如果两者的数不一致，第一次更新之前概率比$\pi/\pi_{old}$就不是1，PPO就会从这个差别中学习。所以两种都要写，并测试它们一致。
#
# ## 公式
#
# LSTM单元保有记忆$c$，并展示其中的$h$（Hochreiter与Schmidhuber，1997；$f$见Gers等，2000）：
#
# $$(i,f,g,o)=xW+hU+b,\qquad c'=\sigma(f)\,c+\sigma(i)\tanh(g),\qquad h'=\sigma(o)\tanh(c')$$
#
# 文本开始时，先把$h$和$c$置为0再走这一步。先用NumPy算，再与Keras的单元比较：

# %%
import sys
from pathlib import Path

sys.path.append(str(Path(globals().get("__file__", "notebook")).resolve().parents[1]))  # the folder of chapter.py

import re

import keras
import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure

from ppo_keras import KLConfig, LanguagePPO, LSTMActorCritic, PPOConfig, Prompts, PythonReward, Tokenizer
from ppo_keras.datasets.loader import load_pairs
from ppo_keras.distributions import Categorical
from ppo_keras.language.generation import generate, pad_prompts
from ppo_keras.language.supervised import pad_texts
from ppo_keras.losses import log_probability
from ppo_keras.masking import episode_starts, masked_mean

from chapter import Chapter

SUPERVISED_STEPS, ITERATIONS = 200, 20  # 2000 and 200 for the real thing
chapter = Chapter("05_3_lstm_ppo")
keras.utils.set_random_seed(0)

sigmoid = lambda x: 1 / (1 + np.exp(-x))


def lstm_by_hand(x, h, c, W, U, b):
    """`(B, D)` each -> h, c."""
    i, f, g, o = np.split(x @ W + h @ U + b, 4, axis=1)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


cell = keras.layers.LSTMCell(5)
x, h, c = np.random.default_rng(0).normal(size=(3, 2, 5)).astype("float32")
shown, (_, kept) = cell(x, [h, c])
by_hand = lstm_by_hand(x, h, c, *cell.get_weights())
np.testing.assert_allclose(shown, by_hand[0], rtol=1e-4, atol=1e-6)
np.testing.assert_allclose(kept, by_hand[1], rtol=1e-4, atol=1e-6)
print(chapter.text("by hand and by Keras: the same h and c", "手算与Keras:h和c相同"))

# %% [markdown]
# ## 用Keras的层搭建演员-评论家
#
# 一个嵌入层，一个单元，一个层归一化，两个头：logit（把嵌入反过来用）和价值。`embed`乘以$\sqrt D$（与Vaswani等2017第3.4节一样），因为初始权重很小。`step`用于行动，`call`读入序列，两者都用`advance`。`call`一次完成所有步的嵌入和输出，只有递推是循环。
# Keras的`LSTM`把循环藏了起来，也不能在中途重置一批中的某一个序列。
#
# `has_memory`告诉学习器：小批量必须由整条序列组成。某一步的记忆来自它之前的各步；从序列中单独抽出一步，读它时的记忆就不是当初行动时的记忆了。
#
# `LanguagePPO`对策略的要求都在这里，所以下面可以直接用它训练这个类。


# %%
class Writer(keras.Model):
    """Tokens in, logits of the next token and a value out."""

    has_memory = True  # minibatches are whole sequences

    def __init__(self, vocabulary, width, **kwargs):
        super().__init__(**kwargs)
        self.vocabulary, self.width, self.distribution = vocabulary, width, Categorical(vocabulary)
        small = keras.initializers.RandomNormal(stddev=0.02)
        self.embedding = keras.layers.ReversibleEmbedding(vocabulary, width, embeddings_initializer=small)
        self.cell = keras.layers.LSTMCell(width)
        self.norm = keras.layers.LayerNormalization(epsilon=1e-5)
        self.value_head = keras.layers.Dense(1, kernel_initializer="zeros")  # V = 0 at first
        self.embedding.build()
        for layer in (self.cell, self.norm, self.value_head):
            layer.build((None, width))
        self.built = True

    def initial_state(self, batch):
        return [tf.zeros([batch, self.width])] * 2  # h and c

    def embed(self, tokens):
        return self.embedding(tokens) * self.width**0.5

    def advance(self, x, state, starts):
        """One step of the cell: `(B, D)`, [h, c], `(B,)`; memory is forgotten where `starts` is 1."""
        kept = 1.0 - starts[:, tf.newaxis]
        return self.cell(x, [part * kept for part in state])

    def heads(self, hidden):
        hidden = self.norm(hidden)
        return self.embedding(hidden, reverse=True), self.value_head(hidden)[..., 0]  # (..., V), (...)

    def step(self, tokens, state, starts=None):
        """Acting: `(B,)`, state -> `(B, V)`, `(B,)`, state."""
        starts = tf.zeros(tokens.shape) if starts is None else starts
        hidden, state = self.advance(self.embed(tokens), state, starts)
        return *self.heads(hidden), state

    def unroll(self, tokens, state, starts):
        x, hidden = self.embed(tokens), []
        state = list(state) or self.initial_state(tokens.shape[0])
        starts = tf.zeros(tokens.shape) if starts is None else starts
        for t in range(tokens.shape[1]):
            h, state = self.advance(x[:, t], state, starts[:, t])
            hidden.append(h)
        return tf.stack(hidden, axis=1), state

    def read(self, tokens, initial_state=(), starts=None):
        """The memory after `(B, T)` tokens."""
        return self.unroll(tokens, initial_state, starts)[1]

    def call(self, tokens, initial_state=(), starts=None, context=0, training=None):
        """Learning: `(B, C + T)` -> `(B, T, V)`, `(B, T)`; the first `context` steps put nothing out."""
        return self.heads(self.unroll(tokens, initial_state, starts)[0][:, context:])

    def copy(self, name=None):
        twin = Writer(self.vocabulary, self.width, name=name)
        twin.set_weights(self.get_weights())
        return twin


# %% [markdown]
# ## `step`等于`call`，中途重置也不例外
#
# 两个各有十个词元的序列，第一个序列在第6步开始第二段文本。检查三点：逐步走等于整段读；重置之后过去被忘掉，第二段文本的结果与单独读它时相同；没有重置时，`advance`与Keras自己的`RNN`层算的一样。

# %%
small = Writer(vocabulary=20, width=16)
tokens = tf.constant(np.random.default_rng(1).integers(0, 20, [2, 10]), tf.int32)
starts = np.zeros([2, 10], np.float32)
starts[0, 6] = 1
whole_logits, whole_values = small(tokens, starts=starts)

state = small.initial_state(2)
for t in range(10):
    logits, values, state = small.step(tokens[:, t], state, tf.constant(starts[:, t]))
    np.testing.assert_allclose(logits, whole_logits[:, t], atol=1e-5)
    np.testing.assert_allclose(values, whole_values[:, t], atol=1e-5)

alone = small(tokens[:1, 6:])[0]
without_reset = small(tokens[:1])[0]
np.testing.assert_allclose(whole_logits[:1, 6:], alone, atol=1e-5)
leak = np.abs(without_reset[0, 6:] - alone[0]).max(axis=1)
assert leak.max() > 1e-3
error = np.abs(whole_logits[0, 6:] - alone[0]).max()
print(chapter.text("largest error of a logit of the second text, with the reset:", "第二段文本logit的最大误差,有重置:"), f"{error:.1e}")
print(chapter.text("without it, step by step:", "没有重置,逐步:"), leak.round(4))

keras_rnn = keras.layers.RNN(small.cell, return_sequences=True)
np.testing.assert_allclose(small.unroll(tokens, (), None)[0], keras_rnn(small.embed(tokens)), atol=1e-5)

# %% [markdown]
# 软件包的`LSTMActorCritic`是同一个网络（它的递推用`tf.scan`写成，无论多长，XLA只编译一次）。放进我们的权重，就得到我们的数：


# %%
def packaged(writer):
    """An `LSTMActorCritic` with the weights of a `Writer`."""
    policy = LSTMActorCritic(writer.vocabulary, width=writer.width)
    mine = writer.embedding, writer.cell, writer.norm, writer.value_head
    trunk = policy.encoder.trunk
    for mine, theirs in zip(mine, (policy.encoder.embedding, trunk.cell_0, trunk.norm, policy.value_head)):
        theirs.set_weights(mine.get_weights())
    return policy


small.value_head.set_weights([np.ones([16, 1]), np.zeros([1])])
for mine, theirs in zip(small(tokens, starts=starts), packaged(small)(tokens, starts=tf.constant(starts))):
    np.testing.assert_allclose(mine, theirs, atol=1e-5)
print(chapter.text("the package's LSTMActorCritic gives the same numbers", "软件包的LSTMActorCritic给出同样的数"))

# %% [markdown]
# ## 写作模型：少量有监督训练
#
# 数据是软件包自带的日常句子，切成词元。最小化每个下一词元的交叉熵，写作模型就学着模仿它们（步数这么少，写得并不好：见下面的文本）。

# %%
corpus = load_pairs(bundled="phrases", defaults=("english", "chinese"))
sentences = chapter.text(corpus.train.texts, [references[0] for references in corpus.train.references])
tokenizer = Tokenizer.train(sentences, vocabulary_size=chapter.text(600, 1200))
token_lists = [tokenizer.encode(sentence, begin=True, end=True) for sentence in sentences]
texts, text_masks = pad_texts(token_lists, 20, tokenizer.pad_id)
sizes = len(sentences), tokenizer.vocabulary_size, int(np.median([len(ids) for ids in token_lists]))
print(chapter.text("sentences, vocabulary, median length:", "句子数,词表大小,长度中位数:"), *sizes)

writer = Writer(tokenizer.vocabulary_size, width=64)
optimizer = keras.optimizers.Adam(5e-3, global_clipnorm=1.0)
optimizer.build(writer.trainable_variables)


@tf.function
def imitate(tokens, mask):
    """One step of maximum likelihood. Returns the cross-entropy, nats a token."""
    with tf.GradientTape() as tape:
        logits, _ = writer(tokens[:, :-1])
        loss = masked_mean(-log_probability(logits, tokens[:, 1:]), mask[:, 1:])
    variables = [v.value for v in writer.trainable_variables]
    optimizer.apply(tape.gradient(loss, variables, unconnected_gradients="zero"), writer.trainable_variables)
    return loss


order, cross_entropies = np.random.default_rng(0), []
for step in range(SUPERVISED_STEPS):
    rows = order.integers(0, len(texts), 64)
    cross_entropies.append(float(imitate(tf.constant(texts[rows]), tf.constant(text_masks[rows]))))
print(chapter.text("cross-entropy:", "交叉熵:"), f"{cross_entropies[0]:.2f} -> {np.mean(cross_entropies[-10:]):.2f}")
assert np.mean(cross_entropies[-10:]) < cross_entropies[0] - 2

# %% [markdown]
# ## PPO
#
# 得分：句子提到吃的或喝的，得1分，否则0分。任何以提示和回复为参数的Python函数都可以。提示是句子开头的一到三个词元，在左边填充；`episode_starts`标出各自的开头，那里的记忆是空的，所以填充不改变任何结果。KL惩罚使写作模型不远离原来的样子。这里是短训练的设置；没有用XLA，因为编译花的时间只有长训练才赚得回来（5.5会测量）。

# %%
FOOD = chapter.text(
    r"\b(eat|drink|tea|coffee|rice|fish|bread|lunch|dinner|breakfast|cake|apples?|milk|eggs?|soup|food|meat)\b",
    "吃|喝|茶|咖啡|饭|鱼|面包|蛋糕|苹果|牛奶|鸡蛋|汤|菜",
)
speaks_of_food = lambda prompt, response: float(re.search(FOOD, prompt + response) is not None)
share = np.mean([speaks_of_food("", sentence) for sentence in sentences])
print(chapter.text("share of the sentences that speak of food:", "提到吃喝的句子的比例:"), f"{share:.3f}")

cuts = np.random.default_rng(2).integers(2, 5, len(token_lists))
prompts = Prompts(*pad_prompts([ids[:cut] for ids, cut in zip(token_lists, cuts)], 4, tokenizer.pad_id))
padded = np.flatnonzero(prompts.mask[:, 0] == 0)[0]
where = episode_starts(tf.constant(prompts.mask))[padded].numpy()
print(chapter.text("a prompt, its mask, where it starts:", "一个提示,它的掩码,它的开头:"), prompts.tokens[padded], prompts.mask[padded], where)

held_out = Prompts(*[part[:200] for part in prompts])
respond = tf.function(lambda policy: generate(policy, held_out, 14, tokenizer.end_id, tokenizer.pad_id, tf.constant([7, 7])), autograph=False)


def look(policy):
    """The mean score of 200 sampled responses, and the first texts."""
    pairs = list(zip(*tokenizer.decode_pairs(held_out, respond(policy))))
    return np.mean([speaks_of_food(*pair) for pair in pairs]), pairs[:8]


def practise(policy):
    """PPO from the policy as it is; its scores in each iteration."""
    agent = LanguagePPO(
        policy, PythonReward(speaks_of_food, tokenizer), tokenizer.end_id, tokenizer.pad_id, response_length=14,
        config=PPOConfig(discount=1.0), kl=KLConfig(kl_coefficient=0.03), seed=1,
    )  # fmt: skip
    agent.compile(keras.optimizers.Adam(1e-3), jit_compile=False)
    data = tf.data.Dataset.from_tensor_slices(prompts).shuffle(len(token_lists), seed=0).repeat().batch(64)
    return agent.fit(data, epochs=ITERATIONS, steps_per_epoch=1, verbose=0).history


beside = packaged(writer)  # before PPO changes the weights
before, texts_before = look(writer)
history = practise(writer)
after, texts_after = look(writer)
print(chapter.text("score before and after PPO:", "PPO前后的得分:"), f"{before:.3f} -> {after:.3f}")
for (prompt, old), (_, new) in zip(texts_before, texts_after):
    print(f"  {prompt} | {old} | {new}")
assert after > before + 0.3, (before, after)
assert max(history["policy/first_ratio_gap"]) < 1e-3  # acting and learning computed the same, every time

# %% [markdown]
# 上面每一行依次是提示、PPO之前写的、PPO之后写的。（显示不出的符号是一个汉字的一部分：词表里没有的字按字节切分。）
# 也看看语言本身：得分只要求一个词，只有KL惩罚在维护句子的质量。6.1从这里继续。
#
# 对`policy/first_ratio_gap`的断言，就是训练过程中对“`step`等于`call`”的检验：每次迭代的第一次更新之前，概率比都是1。
#
# ## 与软件包的策略并排
#
# 把同样的权重放进`LSTMActorCritic`，用同样的随机种子：第一次迭代的熵和得分相同。之后舍入误差可能使某个词元变成另一个，两条曲线便稍稍分开。

# %%
history_beside = practise(beside)
for name in ("objective/entropy", "objective/scores"):
    np.testing.assert_allclose(history[name][0], history_beside[name][0], rtol=0.05, atol=0.02)

figure = Figure(figsize=(7, 3.2), layout="constrained")
labels = {"objective/scores": chapter.label("score", "得分"), "objective/kl": chapter.label("KL, nats a response", "KL,每个回复,奈特")}
for place, (name, label) in enumerate(labels.items(), start=1):
    axes = figure.add_subplot(1, 2, place, xlabel=chapter.label("iteration", "迭代"), ylabel=label)
    axes.plot(range(1, ITERATIONS + 1), history[name], label=chapter.label("from scratch", "从零搭建"))
    axes.plot(range(1, ITERATIONS + 1), history_beside[name], linestyle="--", label="LSTMActorCritic")
    axes.grid(alpha=0.3)
    axes.set_ylim(bottom=0)
    axes.xaxis.get_major_locator().set_params(integer=True)
figure.legend(handles=axes.lines, loc="outside upper center", ncols=2)
chapter.show(figure, "scores")
ends = [np.mean(one["objective/scores"][-5:]) for one in (history, history_beside)]
print(chapter.text("score of the last five iterations, ours and the package's:", "最后五次迭代的得分,我们的与软件包的:"), np.round(ends, 3))
assert min(ends) > before + 0.2

# %% [markdown]
# ## 小结
#
# - LSTM策略在每一步都给出一个分布和一个价值；它的记忆是两个向量，大小不变。
# - `step`（行动）与`call`（学习）必须一致，包括重置和左填充；训练时由`policy/first_ratio_gap`监视。
# - 重置就是在文本开始的那一步，把记忆乘以0。小批量由整条序列组成。
# - 任何具有`initial_state`、`step`、`read`、`call`、`copy`、`has_memory`和`distribution`的模型，`LanguagePPO`都能训练。
#
# ## 练习
#
# 1. 一个宽度为3、读入2个数的LSTM单元有多少个权重？（四个门，每个门有$W$、$U$和$b$。）
# 2. 一个单元的权重和偏置全为0，记忆$c=2$。$h'$是多少？
# 3. 一行六个词元：先是一个填充，然后是三个词元的文本，再是两个词元的文本。写出`starts`。
#
# 答案在`tutorials/solutions/05_3_lstm_ppo.py`。


# %%
@chapter.exercise
def weights_of_a_cell():
    return None  # your number


@chapter.exercise
def shown_by_a_zero_cell():
    return None  # your number


@chapter.exercise
def starts_of_two_texts():
    return None  # your six numbers


cell = keras.layers.LSTMCell(3)
cell.build((None, 2))
chapter.check(weights_of_a_cell(), cell.count_params())
zero_cell = keras.layers.LSTMCell(1, kernel_initializer="zeros", recurrent_initializer="zeros", unit_forget_bias=False)
chapter.check(shown_by_a_zero_cell(), zero_cell(tf.ones([1, 1]), [tf.zeros([1, 1]), tf.constant([[2.0]])])[0][0, 0])
texts_in_the_row = [tf.constant([[0.0, 1, 1, 1]]), tf.constant([[1.0, 1]])]  # masks
chapter.check(starts_of_two_texts(), tf.concat([episode_starts(mask) for mask in texts_in_the_row], axis=1)[0])
