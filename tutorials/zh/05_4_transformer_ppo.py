# %% [markdown]
# # 5.4 用解码器Transformer做PPO
#
# [目录](../README.md) · 上一章：[5.3 用LSTM做PPO](05_3_lstm_ppo.ipynb) · 下一章：[5.5 编译的循环](05_5_compiled_loops.ipynb) · [English](../en/05_4_transformer_ppo.ipynb)
#
# **本章要学会**：用Keras的层搭建带策略头和价值头的解码器Transformer：因果掩码、旋转位置编码，以及写作时用的键值缓存；证明带缓存逐个词元地写等于整段读入，左填充不改变任何结果；用PPO把它训练成写作模型；并看到它在注意什么。需要约1分钟。
#
# ## 原文的段落
#
# > 大语言模型的核心是深度神经网络，特别是循环神经网络（RNN）及其变体，如长短期记忆网络（LSTM）和门控循环单元（GRU）。
#
# 使PPO广为人知的那些语言模型（InstructGPT及其后来者）都是只有解码器的Transformer。原文2.1节没有提到它，程序里也没有。
#
# ## 思路
#
# Transformer没有随时间传递的状态。每一步都回看之前的所有步：发出一个查询（query），取回键（key）与之匹配的那些步的值（value）。所以有两件事必须做对：一步看不到比自己更晚的内容（**因果掩码**），而且知道其他步离自己多远（**位置**）。
#
# ## 公式
#
# 注意力（Vaswani等，2017，式1），不许看的地方是$-\infty$：
#
# $$\mathrm{softmax}\Big(\frac{QK^\top}{\sqrt d}+M\Big)V,\qquad
# M_{ij}=\begin{cases}0&j\le i\text{且同属一段文本}\\-\infty&\text{否则}\end{cases}$$
#
# 若干个这样的注意力并排进行，每个有自己的查询、键和值，占宽度的一份：这就是**头**（head）。
#
# 旋转位置编码（Su等，2021，式34）把查询和键中的每一对数旋转一个与时间$t$成正比的角度（哪两个数成对只是约定，这里是$x_i$与$x_{i+d/2}$）。
# 于是两者的乘积只依赖时间之差：左边的填充把所有时间一起后移，什么也不改变。

# %%
import sys
from pathlib import Path

sys.path.append(str(Path(globals().get("__file__", "notebook")).resolve().parents[1]))  # the folder of chapter.py

import keras
import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure

from ppo_keras import KLConfig, LanguagePPO, PPOConfig, Prompts, PythonReward, Tokenizer, TransformerActorCritic
from ppo_keras.datasets.loader import load_pairs
from ppo_keras.distributions import Categorical
from ppo_keras.language.generation import generate, pad_prompts
from ppo_keras.language.supervised import pad_texts
from ppo_keras.losses import log_probability
from ppo_keras.masking import masked_mean
from ppo_keras.networks.transformer import rotate
from ppo_keras.reports.pictures import attention_map

from chapter import Chapter

SUPERVISED_STEPS, ITERATIONS = 250, 15  # 2000 and 200 for the real thing
chapter = Chapter("05_4_transformer_ppo")
keras.utils.set_random_seed(0)


def rotated(x, times):
    """Turns the pairs (x_i, x_{i+d/2}) by t * 10000^(-2i/d): `(B, H, T, d)`, `(T,)` -> `(B, H, T, d)`."""
    half = x.shape[-1] // 2
    angles = tf.cast(times, tf.float32)[:, tf.newaxis] * 10_000.0 ** (-tf.range(half, dtype=tf.float32) / half)  # (T, d/2)
    first, second = x[..., :half], x[..., half:]
    cos, sin = tf.cos(angles), tf.sin(angles)
    return tf.concat([first * cos - second * sin, second * cos + first * sin], axis=-1)


query, key = tf.random.stateless_normal([2, 1, 1, 1, 8], [0, 0])
product = lambda t, s: float(tf.reduce_sum(rotated(query, tf.constant([t])) * rotated(key, tf.constant([s]))))
three = [f"{product(*at):.4f}" for at in ((5, 3), (105, 103), (5, 4))]
print(chapter.text("query at 5, key at 3; at 105 and 103; at 5 and 4:", "查询在5,键在3;在105与103;在5与4:"), *three)
assert abs(product(5, 3) - product(105, 103)) < 1e-3 < abs(product(5, 3) - product(5, 4))
np.testing.assert_allclose(rotated(query, tf.constant([17])), rotate(query, tf.constant([17])), atol=1e-4)

# %% [markdown]
# ## 用Keras的层搭建演员-评论家
#
# 一个函数`extend`完成一切：它把$T$个新的步写进有$M$个槽的缓存，并让它们的查询去看这些槽。`call`用整个序列扩展空缓存，`step`用一个词元扩展。
# `starts`标出文本的开头；`begins`给出每一步所属文本的开始时间。一个槽可见，当且仅当它不晚于这一步，也不早于文本的开始。


# %%
def remember(cache, new, times):
    """The cache `(B, H, M, d)` with the new steps `(B, H, T, d)` in the slots of their times; gradients pass through."""
    slots = tf.range(cache.shape[2])
    from_new = (slots >= times[0]) & (slots <= times[-1])  # (M,)
    aligned = tf.gather(new, tf.clip_by_value(slots - times[0], 0, new.shape[2] - 1), axis=2)  # (B, H, M, d)
    return tf.where(from_new[:, tf.newaxis], aligned, cache)


class Block(keras.layers.Layer):
    """x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, width, heads, **kwargs):
        super().__init__(**kwargs)
        self.heads, norm = heads, lambda: keras.layers.LayerNormalization(epsilon=1e-5)
        self.attention_norm, self.query_key_value = norm(), keras.layers.Dense(3 * width)
        self.output_projection = keras.layers.Dense(width)
        self.mlp_norm, self.expand, self.contract = norm(), keras.layers.Dense(4 * width), keras.layers.Dense(width)
        for layer in (self.attention_norm, self.query_key_value, self.output_projection, self.mlp_norm, self.expand):
            layer.build((None, None, width))
        self.contract.build((None, None, 4 * width))
        self.built = True

    def call(self, x, keys, values, times, visible):
        """`(B, T, D)`, cache `(B, H, M, d)` twice, `(T,)`, `(B, T, M)` -> x, the new cache, weights `(B, H, T, M)`."""
        batch, length, width = x.shape
        split = tf.reshape(self.query_key_value(self.attention_norm(x)), [batch, length, 3, self.heads, width // self.heads])
        query, key, value = tf.unstack(tf.transpose(split, [2, 0, 3, 1, 4]))  # (B, H, T, d) each
        keys, values = remember(keys, rotated(key, times), times), remember(values, value, times)
        scores = tf.matmul(rotated(query, times), keys, transpose_b=True) / (width // self.heads) ** 0.5  # (B, H, T, M)
        weights = tf.nn.softmax(tf.where(visible[:, tf.newaxis], scores, float("-inf")))
        attended = tf.transpose(tf.matmul(weights, values), [0, 2, 1, 3])  # (B, T, H, d)
        x += self.output_projection(tf.reshape(attended, x.shape))
        x += self.contract(keras.activations.gelu(self.expand(self.mlp_norm(x)), approximate=True))
        return x, keys, values, weights


class Writer(keras.Model):
    """Tokens in, logits of the next token and a value out."""

    has_memory = True

    def __init__(self, vocabulary, width, layers, heads, memory, **kwargs):
        super().__init__(**kwargs)
        self.sizes, self.distribution = (vocabulary, width, layers, heads, memory), Categorical(vocabulary)
        small = keras.initializers.RandomNormal(stddev=0.02)
        self.embedding = keras.layers.ReversibleEmbedding(vocabulary, width, embeddings_initializer=small)
        self.blocks = [Block(width, heads) for _ in range(layers)]
        self.norm = keras.layers.LayerNormalization(epsilon=1e-5)
        self.value_head = keras.layers.Dense(1, kernel_initializer="zeros")  # V = 0 at first
        self.embedding.build()
        for layer in (self.norm, self.value_head):
            layer.build((None, width))
        self.built = True

    def initial_state(self, batch):
        """An empty cache, the clock, and the time at which each text began."""
        _, width, layers, heads, memory = self.sizes
        cache = [tf.zeros([batch, heads, memory, width // heads])] * layers
        return {"keys": cache, "values": cache, "time": tf.constant(0), "begin": tf.zeros([batch], tf.int32)}

    def extend(self, tokens, state, starts):
        """`(B, T)`, state, `(B, T)` -> hidden states `(B, T, D)`, the new state, weights of each block."""
        times = state["time"] + tf.range(tokens.shape[1])  # (T,)
        slots = tf.range(self.sizes[-1])  # (M,): slot m holds the step of time m
        started = (starts > 0)[:, tf.newaxis, :] & (times[tf.newaxis, :] <= times[:, tf.newaxis])  # (B, T, T)
        begins = tf.reduce_max(tf.where(started, times, state["begin"][:, tf.newaxis, tf.newaxis]), axis=2)  # (B, T)
        visible = (slots <= times[:, tf.newaxis]) & (slots >= begins[:, :, tf.newaxis])  # (B, T, M)
        x, keys, values, attention = self.embedding(tokens) * self.sizes[1] ** 0.5, [], [], []
        for block, old_keys, old_values in zip(self.blocks, state["keys"], state["values"]):
            x, new_keys, new_values, weights = block(x, keys=old_keys, values=old_values, times=times, visible=visible)
            keys.append(new_keys)
            values.append(new_values)
            attention.append(weights)
        after = {"keys": keys, "values": values, "time": state["time"] + tokens.shape[1], "begin": begins[:, -1]}
        return self.norm(x), after, attention

    def heads(self, hidden):
        return self.embedding(hidden, reverse=True), self.value_head(hidden)[..., 0]  # (..., V), (...)

    def step(self, tokens, state, starts=None):
        """Acting: `(B,)`, state -> `(B, V)`, `(B,)`, state."""
        starts = tf.zeros(tokens.shape) if starts is None else starts
        hidden, state, _ = self.extend(tokens[:, tf.newaxis], state, starts[:, tf.newaxis])
        return *self.heads(hidden[:, 0]), state

    def read(self, tokens, initial_state=(), starts=None):
        """The cache after `(B, T)` tokens."""
        starts = tf.zeros(tokens.shape) if starts is None else starts
        return self.extend(tokens, initial_state or self.initial_state(tokens.shape[0]), starts)[1]

    def call(self, tokens, initial_state=(), starts=None, context=0, training=None):
        """Learning: `(B, C + T)` -> `(B, T, V)`, `(B, T)`; the first `context` steps put nothing out."""
        starts = tf.zeros(tokens.shape) if starts is None else starts
        hidden = self.extend(tokens, initial_state or self.initial_state(tokens.shape[0]), starts)[0]
        return self.heads(hidden[:, context:])

    def copy(self, name=None):
        twin = Writer(*self.sizes, name=name)
        twin.set_weights(self.get_weights())
        return twin


# %% [markdown]
# ## 三个性质
#
# 1. 带缓存的`step`等于`call`，中途开始第二段文本也一样。
# 2. 掩码是因果的：换掉最后一个词元，之前的结果都不变。
# 3. 左填充不改变任何结果：同一段文本前面加三个填充词元，logit相同。如果没有`starts`，填充就会被当成文本来读。

# %%
small = Writer(vocabulary=20, width=16, layers=2, heads=2, memory=12)
small.value_head.set_weights([np.ones([16, 1]), np.zeros([1])])
tokens = tf.constant(np.random.default_rng(1).integers(0, 20, [2, 10]), tf.int32)
starts = np.zeros([2, 10], np.float32)
starts[0, 6] = 1
whole_logits, whole_values = small(tokens, starts=tf.constant(starts))

state = small.initial_state(2)
for t in range(10):
    logits, values, state = small.step(tokens[:, t], state, tf.constant(starts[:, t]))
    np.testing.assert_allclose(logits, whole_logits[:, t], atol=1e-5)
    np.testing.assert_allclose(values, whole_values[:, t], atol=1e-5)
np.testing.assert_allclose(whole_logits[:1, 6:], small(tokens[:1, 6:])[0], atol=1e-5)  # the second text, alone
passes = {chapter.text("with the cache", "有缓存"): 10, chapter.text("without", "没有缓存"): sum(range(1, 11))}
print(chapter.text("positions computed to write 10 tokens:", "写10个词元要计算的位置数:"), passes)

changed = tf.concat([tokens[:, :-1], (tokens[:, -1:] + 1) % 20], axis=1)
np.testing.assert_allclose(small(changed)[0][:, :-1], small(tokens)[0][:, :-1], atol=1e-6)

text, padding = tokens[1:, :7], tf.zeros([1, 3], tf.int32)
padded, begin = tf.concat([padding, text], axis=1), tf.one_hot([3], 10)
with_starts = np.abs(small(padded, starts=begin)[0][:, 3:] - small(text)[0]).max()
without = np.abs(small(padded)[0][:, 3:] - small(text)[0]).max()
print(chapter.text("largest change of a logit by left padding:", "左填充使logit改变的最大值:"), f"{with_starts:.1e}")
print(chapter.text("without starts:", "没有starts时:"), f"{without:.3f}")
assert with_starts < 1e-5 and without > 1e-3

# %% [markdown]
# 软件包的`TransformerActorCritic`是同一个网络。它的缓存是环形的，所以智能体的回合可以比记忆更长；最后一个块不计算提示部分的查询。放进我们的权重，就得到我们的数：


# %%
def packaged(writer):
    """A `TransformerActorCritic` with the weights of a `Writer`."""
    vocabulary, width, layers, heads, memory = writer.sizes
    policy = TransformerActorCritic(vocabulary, width=width, layers=layers, heads=heads, memory=memory)
    trunk = policy.encoder.trunk
    pairs = [(writer.embedding, policy.encoder.embedding), (writer.norm, trunk.norm), (writer.value_head, policy.value_head)]
    for mine, theirs in zip(writer.blocks, trunk.blocks):
        for name in ("attention_norm", "query_key_value", "output_projection", "mlp_norm", "expand", "contract"):
            pairs.append((getattr(mine, name), getattr(theirs, name)))
    for mine, theirs in pairs:
        theirs.set_weights(mine.get_weights())
    return policy


for mine, theirs in zip(small(padded, starts=begin), packaged(small)(padded, starts=begin)):
    np.testing.assert_allclose(mine[:, 3:], theirs[:, 3:], atol=1e-5)
print(chapter.text("the package's TransformerActorCritic gives the same numbers", "软件包的TransformerActorCritic给出同样的数"))

# %% [markdown]
# ## 写作模型：少量有监督训练
#
# 与5.3一样：软件包自带的日常句子，最小化每个下一词元的交叉熵。

# %%
corpus = load_pairs(bundled="phrases", defaults=("english", "chinese"))
sentences = chapter.text(corpus.train.texts, [references[0] for references in corpus.train.references])
tokenizer = Tokenizer.train(sentences, vocabulary_size=chapter.text(600, 1200))
token_lists = [tokenizer.encode(sentence, begin=True, end=True) for sentence in sentences]
texts, text_masks = pad_texts(token_lists, 20, tokenizer.pad_id)

writer = Writer(tokenizer.vocabulary_size, width=64, layers=2, heads=2, memory=20)
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
# 得分：写出的是问句，即以问号结尾，得1分，否则0分。提示是句子开头的一到三个词元，在左边填充。

# %%
asks = lambda prompt, response: float((prompt + response).strip().endswith(("?", "？")))
share = np.mean([asks("", sentence) for sentence in sentences])
print(chapter.text("share of questions among the sentences:", "句子中问句的比例:"), f"{share:.3f}")

cuts = np.random.default_rng(2).integers(2, 5, len(token_lists))
prompts = Prompts(*pad_prompts([ids[:cut] for ids, cut in zip(token_lists, cuts)], 4, tokenizer.pad_id))
held_out = Prompts(*[part[:200] for part in prompts])
respond = tf.function(lambda policy: generate(policy, held_out, 14, tokenizer.end_id, tokenizer.pad_id, tf.constant([7, 7])), autograph=False)


def look(policy):
    """The mean score of 200 sampled responses, and the first texts."""
    pairs = list(zip(*tokenizer.decode_pairs(held_out, respond(policy))))
    return np.mean([asks(*pair) for pair in pairs]), pairs[:8]


def practise(policy):
    """PPO from the policy as it is; its metrics in each iteration."""
    agent = LanguagePPO(
        policy, PythonReward(asks, tokenizer), tokenizer.end_id, tokenizer.pad_id, response_length=14,
        config=PPOConfig(discount=1.0), kl=KLConfig(kl_coefficient=0.03), seed=1,
    )  # fmt: skip
    agent.compile(keras.optimizers.Adam(4e-4), jit_compile=False)  # a run of this length is over before XLA has compiled it
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
assert max(history["policy/first_ratio_gap"]) < 1e-3  # the cache and the whole text gave the same numbers, every time

# %% [markdown]
# 每一行依次是提示、PPO之前写的、PPO之后写的。（显示不出的符号是一个汉字的一部分：词表里没有的字按字节切分。）得分只看最后一个符号；学会的也只是这一点，句子并没有因此变好（6.1从这里继续）。
# 软件包的策略，从同样的权重和随机种子出发：

# %%
history_beside = practise(beside)
for name in ("objective/entropy", "objective/scores"):
    np.testing.assert_allclose(history[name][0], history_beside[name][0], rtol=0.05, atol=0.02)

figure = Figure(figsize=(7, 3.2), layout="constrained")
labels = {"objective/scores": chapter.label("score", "得分"), "objective/kl": chapter.label("KL, nats a response", "KL,每个回复,奈特")}
for place, (name, label) in enumerate(labels.items(), start=1):
    axes = figure.add_subplot(1, 2, place, xlabel=chapter.label("iteration", "迭代"), ylabel=label)
    axes.plot(range(1, ITERATIONS + 1), history[name], label=chapter.label("from scratch", "从零搭建"))
    axes.plot(range(1, ITERATIONS + 1), history_beside[name], linestyle="--", label="TransformerActorCritic")
    axes.grid(alpha=0.3)
    axes.set_ylim(bottom=0)
    axes.xaxis.get_major_locator().set_params(integer=True)
figure.legend(handles=axes.lines, loc="outside upper center", ncols=2)
chapter.show(figure, "scores")
ends = [np.mean(one["objective/scores"][-5:]) for one in (history, history_beside)]
print(chapter.text("score of the last five iterations, ours and the package's:", "最后五次迭代的得分,我们的与软件包的:"), np.round(ends, 3))
assert min(ends) > before + 0.2

# %% [markdown]
# ## 它在注意什么
#
# 一行是一步，一列是它所看的位置，颜色越深注意越多。对角线以上什么也没有：这就是因果掩码。每行之和为1。

# %%
fitting = [sentence.endswith(("?", "？")) and len(sentence) > chapter.text(25, 9) for sentence in sentences]
ids = token_lists[int(np.argmax(fitting))]  # the first question of some length
attention = writer.extend(tf.constant([ids]), writer.initial_state(1), tf.zeros([1, len(ids)]))[2]
weights = np.stack([one[0, :, :, : len(ids)] for one in attention])  # (L, H, T, T)
np.testing.assert_allclose(weights.sum(axis=-1), 1, rtol=1e-5)
assert np.triu(weights, 1).max() == 0
panel = chapter.label("layer {}, head {}", "第{}层,第{}头")
chapter.show(attention_map(tokenizer.pieces(ids), weights, tokenizer.decode(ids), panel=panel), "attention")

# %% [markdown]
# ## 小结
#
# - 一个解码器块由对过去的注意力和一个MLP（两个全连接层）组成，各自的输出加回到输入上。
# - 有了缓存，写一个词元只需计算一个位置；`step`等于`call`，缓存就是对的。
# - 旋转位置编码加上按文本划分的掩码，使左填充无害。
# - 对PPO来说什么也没变：Transformer与5.3的LSTM一样，是一个有`step`和`call`的策略。
#
# ## 练习
#
# 1. 2层、2个头、宽度64、20个槽时，一段文本的缓存（键和值）有多少个数？
# 2. 两步；第二步对第一步的（缩放后的）得分是0，对自己是$\ln 3$。写出因果掩码下2 x 2的注意力权重矩阵，每步一行。
# 3. 查询和键都是$(1, 0)$（$d=2$），时间分别是3和1。旋转之后两者的乘积是多少？
#
# 答案在`tutorials/solutions/05_4_transformer_ppo.py`。


# %%
@chapter.exercise
def numbers_in_the_cache():
    return None  # your number


@chapter.exercise
def two_by_two_weights():
    return None  # such as [[0.0, 0.0], [0.0, 0.0]]


@chapter.exercise
def product_of_the_rotated():
    return None  # your number


cache = Writer(8, width=64, layers=2, heads=2, memory=20).initial_state(1)
chapter.check(numbers_in_the_cache(), sum(int(tf.size(part)) for part in cache["keys"] + cache["values"]))
masked = tf.where([[True, False], [True, True]], [[0.0, 9.0], [0.0, np.log(3.0)]], float("-inf"))
chapter.check(two_by_two_weights(), tf.nn.softmax(tf.cast(masked, tf.float32)))
pair = tf.constant([[[[1.0, 0.0]]]])
chapter.check(product_of_the_rotated(), tf.reduce_sum(rotate(pair, tf.constant([3])) * rotate(pair, tf.constant([1]))))
