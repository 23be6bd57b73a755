# %% [markdown]
# # 5.4 PPO with a decoder Transformer
#
# [Overview](../README.md) · before: [5.3 PPO with an LSTM](05_3_lstm_ppo.ipynb) · next: [5.5 Compiled loops](05_5_compiled_loops.ipynb) · [中文](../zh/05_4_transformer_ppo.ipynb)
#
# **You will learn** to build a decoder-only Transformer with a policy and a value head from Keras layers: the causal mask,
# rotary positions, and the cache of keys and values with which it writes; to show that writing with the cache equals
# reading the whole text, and that left padding changes nothing; to train it as a writer by PPO; and to see what it attends
# to. Minutes: about 1.
#
# ## The article's passage
#
# > 大语言模型的核心是深度神经网络，特别是循环神经网络（RNN）及其变体，如长短期记忆网络（LSTM）和门控循环单元（GRU）。
#
# (*"The core of large language models is the deep neural network, in particular the recurrent one and its variants LSTM and
# GRU."*) The language models that made PPO known (InstructGPT and what followed) are decoder-only Transformers. The
# article's section 2.1 does not name them, and its program has none.
#
# ## The idea
#
# A Transformer has no state that it carries along. Each step looks back at all earlier ones: it sends out a query, and
# takes the values of those steps whose keys fit. Two things must therefore be right: a step sees nothing later than itself
# (**causal mask**), and it knows how far back the others are (**positions**).
#
# ## The equations
#
# Attention (Vaswani et al. 2017, eq. 1), $-\infty$ where a step must not look:
#
# $$\mathrm{softmax}\Big(\frac{QK^\top}{\sqrt d}+M\Big)V,\qquad
# M_{ij}=\begin{cases}0&j\le i\text{ and of the same text}\\-\infty&\text{else}\end{cases}$$
#
# Several of these run side by side, each with its own queries, keys and values on a share of the width: the **heads**.
#
# Rotary positions (Su et al. 2021, eq. 34) turn each pair of numbers of a query or key by an angle proportional to its time
# $t$ (which numbers make a pair is a convention; here $x_i$ and $x_{i+d/2}$). A product of two of them then depends on the
# difference of their times only: padding on the left moves all times alike, and changes nothing.

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
# ## The actor-critic, from Keras layers
#
# One function, `extend`, does everything: it appends $T$ new steps to a cache of $M$ slots and lets their queries look at
# the slots. `call` extends an empty cache by a whole sequence; `step`, by one token. `starts` marks where a text begins;
# `begins` says of each step at which time its text began. A slot is visible if it is not later than the step and not earlier
# than the beginning of its text.


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
# ## Three properties
#
# 1. `step` with the cache equals `call`, also where a second text begins in the middle.
# 2. The mask is causal: another last token changes nothing before it.
# 3. Left padding changes nothing: the same text behind three padding tokens gives the same logits. Without `starts`, the
#    padding would be read as text.

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
# The package's `TransformerActorCritic` is the same network. Its cache is a ring, so that an agent's episode may be longer
# than the memory; and its last block leaves out the queries of the prompt. With our weights it gives our numbers:


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
# ## A writer: a little supervised training
#
# As in 5.3: the bundled everyday sentences; the cross-entropy of each next token is minimised.

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
# The score: 1 if the text is a question, that is, if it ends with a question mark. Prompts are the first one to three
# tokens of sentences, padded on the left.

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
# Every line shows a prompt, what was written before PPO, and what after. The score looks at the last sign only; that much
# is learned, and the sentences do not become better for it (6.1 goes on from there). The package's policy, from the same
# weights and seed:

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
# ## What it attends to
#
# A row is a step, a column what it looks at; dark is much. Nothing is above the diagonal: that is the causal mask. Rows sum
# to 1.

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
# ## Summary
#
# - A decoder block is attention over what came before, and an MLP (two dense layers); the output of each is added to its
#   input.
# - The cache makes writing a token cost one position; it is right if `step` equals `call`.
# - Rotary positions, and a mask that keeps texts apart, make left padding harmless.
# - For PPO nothing changes: a Transformer is a policy with `step` and `call`, as the LSTM of 5.3 is.
#
# ## Exercises
#
# 1. How many numbers does the cache of one text hold (keys and values), with 2 layers, 2 heads, width 64 and 20 slots?
# 2. Two steps; the scaled score of the second for the first is 0, for itself $\ln 3$. Write the 2 x 2 matrix of attention
#    weights, under the causal mask, a row a step.
# 3. A query and a key are both $(1, 0)$ ($d=2$), at times 3 and 1. What is the product of the rotated two?
#
# The solutions are in `tutorials/solutions/05_4_transformer_ppo.py`.


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
