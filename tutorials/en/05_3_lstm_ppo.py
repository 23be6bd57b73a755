# %% [markdown]
# # 5.3 PPO with an LSTM
#
# [Overview](../README.md) · before: [5.2 The article's program, corrected](05_2_the_article_corrected.ipynb) · next: [5.4 PPO with a decoder Transformer](05_4_transformer_ppo.ipynb) · [中文](../zh/05_3_lstm_ppo.ipynb)
#
# **You will learn** to build an actor-critic on an LSTM from Keras layers, to make sure that acting step by step and
# reading a whole sequence give the same numbers, also where a new text begins in the middle, and to train it as a writer: a
# little by example, then by PPO. Minutes: about 1.
#
# ## The article's passage
#
# > `model.add(LSTM(128, activation='relu', input_shape=input_shape))` … 使用LSTM层进行序列建模。
# > 策略网络输出动作概率，价值网络输出状态价值。
#
# (*"LSTM layers model the sequence. The policy network outputs action probabilities, the value network state values."*)
# What is wrong with it:
#
# - One output comes out for a whole sequence. PPO needs a distribution and a value *at every step*.
# - Nothing carries the memory from one step to the next. To write the next token, the article's network would read
#   everything again.
# - Nothing resets the memory where a new text begins, and nothing handles prompts of different length.
# - `activation='relu'` leaves the memory without a bound (see 5.2).
#
# ## The idea
#
# A policy with memory is used in two ways. **Acting**, it reads one token, keeps its memory, and gives one distribution.
# **Learning**, it reads whole sequences at once. If the two do not give the same numbers, the ratio $\pi/\pi_{old}$ is not
# 1 before the first update, and PPO learns from the difference. So we write both, and test that they agree.
#
# ## The equation
#
# An LSTM cell keeps a memory $c$ and shows $h$ of it (Hochreiter and Schmidhuber 1997; Gers et al. 2000 for $f$):
#
# $$(i,f,g,o)=xW+hU+b,\qquad c'=\sigma(f)\,c+\sigma(i)\tanh(g),\qquad h'=\sigma(o)\tanh(c')$$
#
# Where a text starts, $h$ and $c$ are set to 0 before the step. In NumPy, and by Keras's cell:

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
# ## The actor-critic, from Keras layers
#
# One embedding, one cell, a layer normalization, and two heads: logits (the embedding used backwards) and a value. `embed`
# multiplies by $\sqrt D$ (as Vaswani et al. 2017 do, section 3.4), because the weights begin small. `step` acts; `call`
# reads sequences; both use `advance`. `call` embeds and scores all steps at once; only the recurrence is a loop. `LSTM` of
# Keras would hide that loop, and cannot reset one sequence of a batch in the middle.
#
# `has_memory` tells the learner that its minibatches must be whole sequences: the memory at a step comes from the steps
# before it, and a step torn out of its sequence would be read with another memory than the one it was taken with.
#
# What `LanguagePPO` asks of a policy is all here, so we can train this class with it below.


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
# ## `step` is `call`, with a reset in the middle
#
# Two sequences of ten tokens; in the first, a second text begins at step 6. Three checks: stepping equals reading; after
# the reset the past is forgotten, so the second text gives what it gives alone; and where nothing is reset, `advance` is
# what Keras's own `RNN` layer computes.

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
# The package's `LSTMActorCritic` is the same network (its recurrence is a `tf.scan`, so that XLA compiles it once for any
# length). With our weights it gives our numbers:


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
# ## A writer: a little supervised training
#
# The bundled everyday sentences, cut into tokens. Minimising the cross-entropy of each next token teaches the writer to
# write like them (not well, in so few steps: see the texts below).

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
# The score: 1 if a sentence speaks of food or drink, else 0. Any Python function of prompt and response will do. Prompts
# are the first one to three tokens of sentences, padded on the left; `episode_starts` marks where each begins, so the
# memory is empty there and padding changes nothing. A KL penalty keeps the writer near what it was. The settings are those
# of a short run; for it XLA is off, because compiling takes time that only long runs win back (5.5 measures it).

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
# Every line above shows a prompt, what was written before PPO, and what after. Look at the language, too: the score asks for
# one word, and only the KL penalty speaks for good sentences. 6.1 goes on from there.
#
# The assertion on `policy/first_ratio_gap` is the test of `step` = `call` inside the training: before the first update of
# each iteration, the ratio is 1.
#
# ## The package's policy beside it
#
# The same weights in an `LSTMActorCritic`, the same seed: the first iteration has the same entropy and the same scores.
# Later, rounding can turn one token into another, and the curves part a little.

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
# ## Summary
#
# - An LSTM policy gives a distribution and a value at every step; its memory is two vectors, of constant size.
# - `step` (acting) and `call` (learning) must agree, resets and left padding included; `policy/first_ratio_gap` watches
#   that during training.
# - A reset is a multiplication of the memory by 0, at the step where a text begins. Minibatches are whole sequences.
# - `LanguagePPO` trains any model that has `initial_state`, `step`, `read`, `call`, `copy`, `has_memory` and
#   `distribution`.
#
# ## Exercises
#
# 1. How many weights has an LSTM cell of width 3 that reads 2 numbers? (Four gates; each has $W$, $U$ and $b$.)
# 2. All weights and biases of a cell are 0, its memory is $c=2$. What is $h'$?
# 3. A row of six tokens: one of padding, a text of three, then a text of two. Write `starts`.
#
# The solutions are in `tutorials/solutions/05_3_lstm_ppo.py`.


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
