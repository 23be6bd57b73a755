# %% [markdown]
# # 6.1 Text generation, and how a reward is gamed
#
# [Overview](../README.md) · before: [5.5 Compiled loops](05_5_compiled_loops.ipynb) · next: [6.2 Text classification: a bandit](06_2_text_classification.ipynb) · [中文](../zh/06_1_text_generation.ipynb)
#
# **You will learn** to write down text generation as a reinforcement learning task, to train all its parts on film reviews, to
# measure what PPO changes with a judge that took no part in it, and to watch the reward being gamed when the KL penalty is
# switched off. Minutes: about 1.
#
# ## The article's passage
#
# > PPO算法可以用于优化大语言模型的生成策略，提高文本生成质量。通过PPO算法，我们可以使模型在生成文本时更加准确和连贯。
#
# (PPO can optimise the generation strategy of a language model and raise the quality of the text, which becomes more accurate
# and coherent.)
#
# What is wrong with it:
#
# - State, action, reward, baseline and metric are not named; the sections on classification, questions and translation say
#   nearly the same sentence again.
# - A review that is made up cannot be "accurate": no text is the right one. There is only a reward, and PPO raises *that*.
# - The reward is a model of what is wanted, with mistakes of its own. Pushed hard enough, a policy finds the mistakes. The
#   article has neither a penalty against it nor a measure that would show it.
#
# ## The task, completely
#
# | part | here |
# |---|---|
# | state | the prompt (the beginning of a review) and the tokens written so far |
# | action | the next token |
# | episode | one response, up to its end token |
# | reward | after the last token: the probability of "positive" that a reward model gives to the whole text, less penalties (below) |
# | baseline | the same writer before PPO |
# | measures | the reward; the share that an independent judge calls positive; KL; distinct-2; perplexity under the reference |
#
# Reward model and judge are trained on two halves of the labels and share no text.

# %%
import sys
from pathlib import Path

sys.path.append(str(Path(globals().get("__file__", "notebook")).resolve().parents[1]))  # the folder of chapter.py

import keras
import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure

from ppo_keras import KLConfig, LanguagePPO, PPOConfig, Prompts, RewardModel, Tokenizer, TransformerActorCritic, load_texts
from ppo_keras.config import SupervisedConfig
from ppo_keras.datasets.subsets import halves
from ppo_keras.language.evaluation import Evaluator, distinct
from ppo_keras.language.generation import Responses, pad_prompts
from ppo_keras.language.rewards import score_responses
from ppo_keras.language.supervised import train_classifier, train_language_model
from ppo_keras.networks.encoder import TokenEncoder

from chapter import Chapter

ITERATIONS = 30  # 120 for the real thing, and WIDTH = 128: or `ppo-keras train generation`
WIDTH, VOCABULARY, PROMPT, BATCH = 64, 2000, 5, 64

chapter = Chapter("06_1_text_generation")
keras.utils.set_random_seed(0)
corpus = load_texts(language="en")
tokenizer = Tokenizer.train(corpus.train.texts, VOCABULARY)


def encode(texts):
    """Token ids with begin and end tokens."""
    return [tokenizer.encode(text, begin=True, end=True) for text in texts]


lengths = [len(ids) for ids in encode(corpus.train.texts)]
RESPONSE = int(np.percentile(lengths, 95)) - 1  # most tokens of a response
context = PROMPT + RESPONSE
print(len(corpus.train.texts), chapter.text("reviews to learn from, such as", "条评论用于训练,例如"), repr(corpus.train.texts[0]))
print(chapter.text("pieces:", "词元种类:"), tokenizer.vocabulary_size, chapter.text("most tokens of a response:", "回复最多的词元数:"), RESPONSE)

# %% [markdown]
# ## The reward of each token
#
# The score $s$ comes once, at the last token $T$ of the response. Each token also pays for leaving the reference, a frozen copy
# of the writer, at the price $\beta$ (Ziegler et al. 2019, eq. 2, spread over the tokens):
#
# $$r_t=-\beta\,\big(\log\pi(a_t|s_t)-\log\pi_{ref}(a_t|s_t)\big)+\mathbb{1}[t=T]\cdot s$$
#
# The score itself is reduced where a response does not end, or is shorter than usual: both are cheap ways to please. From
# scratch, for two responses of made-up numbers. The second has no end token (its id is 3); both are a token shorter than usual:

# %%
beta, missing_end, short, usual = 0.1, 0.5, 0.2, 4.0
tokens = np.array([[7, 8, 3], [7, 8, 9]])
mask = np.ones([2, 3], np.float32)
log_probs = np.array([[-1.0, -2.0, -0.5], [-1.0, -0.2, -0.1]], np.float32)
reference_log_probs = np.array([[-1.5, -2.0, -0.4], [-1.5, -3.0, -4.0]], np.float32)
scores = np.array([0.8, 0.9], np.float32)

rewards = -beta * (log_probs - reference_log_probs)
lacking = np.maximum(0.0, 1.0 - mask.sum(axis=1) / usual)  # share of the usual length
rewards[:, -1] += scores - missing_end * ~(tokens == 3).any(axis=1) - short * lacking
print(rewards.round(3))
assert scores[1] > scores[0] and rewards[1].sum() < rewards[0].sum()

tiny = TransformerActorCritic(10, width=8, layers=1, heads=2, memory=4)
penalties = dict(missing_end_penalty=missing_end, short_penalty=short, usual_length=usual)
small = LanguagePPO(tiny, lambda *_: 0.0, end_id=3, pad_id=0, response_length=3, kl=KLConfig(beta), **penalties)
prompts = Prompts(tf.constant([[1], [1]]), tf.ones([2, 1]))
responses = Responses(*map(tf.constant, (tokens.astype(np.int32), mask, log_probs)), tf.zeros([2, 3]))
trajectory, _ = small.assemble(prompts, responses, tf.constant(reference_log_probs), tf.constant(scores))
np.testing.assert_allclose(trajectory.rewards, rewards, rtol=1e-6, atol=1e-6)

# %% [markdown]
# The second response scores higher and earns less: it pays for tokens that the reference finds improbable, and for its missing
# end. The sum of the KL terms over a response is, on average, the KL divergence of the writer from the reference.
#
# Diversity is measured by distinct-2: different pairs of neighbouring tokens over all pairs (Li et al. 2016). A writer that
# says the same to everyone has little of it. It falls as texts are added, so compare equal numbers of texts only. How strange a
# text is to the reference is its perplexity: $e$ to the mean of $-\log\pi_{ref}$ over the tokens.


# %%
def distinct_2(token_lists):
    """Different pairs over all pairs."""
    pairs = [pair for ids in token_lists for pair in zip(ids[:-1], ids[1:])]
    return len(set(pairs)) / len(pairs)


np.testing.assert_allclose(distinct_2(tokens.tolist()), distinct(tokens.tolist(), 2))
print(chapter.text("distinct-2 of the two responses:", "两条回复的distinct-2:"), distinct_2(tokens.tolist()))

# %% [markdown]
# ## The parts: writer, reward model, judge
#
# The writer learns the language of reviews, good and bad, by maximum likelihood. Reward model and judge are small classifiers
# (the mean of word embeddings, and one number from it), each trained on its own half.

# %%
writer = TransformerActorCritic(tokenizer.vocabulary_size, width=WIDTH, layers=1, heads=2, memory=context, dropout=0.1)
settings = dict(length=context, pad_id=tokenizer.pad_id)
learning = SupervisedConfig(supervised_epochs=8, supervised_learning_rate=5e-3)
texts = {name: encode(getattr(corpus, name).texts) for name in ("train", "validation", "test")}
history = train_language_model(writer, texts["train"], texts["validation"], config=learning, **settings).history
writer.start_value_from_policy()
print(chapter.text("writer, nats a token on the validation split:", "写作模型,验证集上每词元的奈特数:"), np.round(history["val_cross_entropy"], 2))


def train_scorer(half, name):
    """A `RewardModel` from one half of the labels; `name` is printed."""
    model = RewardModel(TokenEncoder(tokenizer.vocabulary_size, "bag", WIDTH, 1, dropout=0.3), dropout=0.3)
    dealt = [halves(getattr(corpus, split), seed=0)[half] for split in ("train", "validation")]
    splits = [(encode(split.texts), split.labels) for split in dealt]
    accuracy = train_classifier(model, *splits, config=learning, **settings).history["val_accuracy"]
    print(name, chapter.text("accuracy on the validation split:", "验证集上的准确率:"), round(max(accuracy), 2))
    assert max(accuracy) > 0.7
    return model


reward_model = train_scorer(0, chapter.text("reward model,", "奖励模型,"))
judge = train_scorer(1, chapter.text("judge,", "裁判,"))

# %% [markdown]
# ## PPO with the KL penalty
#
# One learner, and its state before the first step, so that we can begin again from the very same point. A diary keeps the
# metrics of each iteration, and distinct-2 of what was written in it.


# %%
def make_prompts(split, count, seed):
    """Beginnings of reviews, of 2 to `PROMPT` tokens."""
    sizes = np.random.default_rng(seed).integers(2, PROMPT, size=count, endpoint=True)
    chosen = [texts[split][i % len(texts[split])][:-1][:size] for i, size in enumerate(sizes)]
    return pad_prompts(chosen, PROMPT, tokenizer.pad_id)


class Diary(keras.callbacks.Callback):
    """Metrics of each iteration."""

    def __init__(self):
        super().__init__()
        self.rows = []

    def on_train_batch_end(self, batch, logs=None):
        written = self.model.shelf.content.trajectory
        token_lists = [list(ids[real > 0]) for ids, real in zip(written.actions.numpy(), written.mask.numpy())]
        self.rows.append({name: float(value) for name, value in logs.items()} | {"distinct_2": distinct_2(token_lists)})

    def curve(self, name):
        """The metric of all iterations."""
        return np.array([row[name] for row in self.rows])


agent = LanguagePPO(
    writer,
    lambda prompts, responses: tf.sigmoid(score_responses(reward_model, prompts, responses)),
    tokenizer.end_id,
    tokenizer.pad_id,
    RESPONSE,
    PPOConfig(discount=1.0, value_coefficient=0.1, max_gradient_norm=1.0, temperature=0.8),
    KLConfig(kl_coefficient=0.1),
    missing_end_penalty=0.5,
    short_penalty=0.7,
    usual_length=np.mean(lengths) - PROMPT,
    judge=lambda prompts, responses: score_responses(judge, prompts, responses),
)
# XLA would compile for longer than these few iterations take
agent.compile(keras.optimizers.Adam(1e-3, epsilon=1e-5), jit_compile=False)
held_out = make_prompts("test", 256, seed=1)
score = tf.function(agent.score, autograph=False)
sampling = dict(length=RESPONSE, temperature=agent.config.temperature, batch_size=BATCH, jit_compile=False)
evaluator = Evaluator(writer, agent.reference, score, agent.judge, tokenizer, **sampling)


def evaluate():
    """An `Evaluation` of the writer as it is, on prompts from the test split."""
    return evaluator(held_out, seed=0)


def practise(kl_coefficient):
    """PPO from the supervised writer on. Returns a `Diary` and an `Evaluation`."""
    agent.restore(start)
    agent.kl_coefficient.assign(kl_coefficient)
    data = tf.data.Dataset.from_tensor_slices(make_prompts("train", len(texts["train"]), seed=0))
    data = data.shuffle(len(texts["train"]), seed=0).repeat().batch(BATCH, drop_remainder=True)
    diary = Diary()
    agent.fit(data, steps_per_epoch=ITERATIONS, callbacks=[diary], verbose=0)
    return diary, evaluate()


start = agent.state()
before = evaluate()
with_penalty, after = practise(kl_coefficient=0.1)


def table(columns):
    """Prints `Evaluation`s side by side."""
    named = {
        "reward": ("reward", "奖励"),
        "positive": ("judged positive", "裁判判为正面"),
        "kl": ("KL, nats a response", "KL,每条回复的奈特数"),
        "distinct_2": ("distinct-2", "distinct-2"),
        "perplexity": ("perplexity under the reference", "参考模型下的困惑度"),
        "length": ("length, tokens", "长度,词元"),
    }
    print("; ".join(columns))
    for key, names in named.items():
        print(*[f"{getattr(column, key):8.2f}" for column in columns.values()], chapter.text(*names), sep="  ")


table({chapter.text("before PPO", "PPO之前"): before, chapter.text("after PPO", "PPO之后"): after})
assert after.reward > before.reward + 0.1
assert after.positive > before.positive + 0.1
assert after.kl < 15 and after.perplexity < 1.5 * before.perplexity
assert after.distinct_2 < before.distinct_2

# %% [markdown]
# The reward rises, and the judge, which took no part in it, agrees. The KL stays at a few nats a response, and to the reference
# the texts look hardly stranger than its own. Two things are less pleasant:
#
# - Diversity falls already: there are fewer positive reviews than reviews, and a policy gradient prefers what it happened to
#   find first.
# - Coherence is that of the small writer. PPO chooses among what it can write; it does not teach it grammar.
#
# ## PPO without it
#
# The same start, the same prompts, the same seeds; only $\beta=0$.

# %%
without_penalty, hacked = practise(kl_coefficient=0.0)
columns = {
    chapter.text("before PPO", "PPO之前"): before,
    chapter.text("with the penalty", "有惩罚"): after,
    chapter.text("without it", "无惩罚"): hacked,
}
table(columns)
for name, column in columns.items():
    print(name)
    for prompt, response in zip(column.prompts[:4], column.responses[:4]):
        print(f"   {prompt} |{response}")

# %% [markdown]
# The reward is now nearly perfect, and the texts are word salad: a few words that the reward model loves, strewn in wherever
# there is room. The policy has found what a bag of words cannot see, which is everything but the words.
#
# Which of our measures noticed?
#
# - The perplexity under the reference, which is far above what it was before; and the KL.
# - distinct-2: lower still.
# - The judge: *not at all*. It learned from other reviews, but it is a bag of words too and has the same blind spot. An
#   independent judge needs other data *and* another way of looking.

# %%
assert hacked.reward > max(0.9, after.reward + 0.02)
assert hacked.kl > 2.5 * after.kl
assert hacked.perplexity > 1.5 * max(before.perplexity, after.perplexity)
assert hacked.distinct_2 < min(before.distinct_2 - 0.1, after.distinct_2)
assert hacked.positive > max(before.positive + 0.1, after.positive - 0.1)  # the judge applauds

figure = Figure(figsize=(8, 5), layout="constrained")
panels = {
    "objective/scores": chapter.label("reward", "奖励"),
    "objective/judged": chapter.label("share judged positive", "裁判判为正面的比例"),
    "objective/kl": chapter.label("KL, nats a response", "KL,每条回复的奈特数"),
    "distinct_2": "distinct-2",
}
for number, (metric, label) in enumerate(panels.items(), start=1):
    axes = figure.add_subplot(2, 2, number, xlabel=chapter.label("iteration", "迭代"), ylabel=label)
    for diary, style, name in (
        (with_penalty, "-o", chapter.label("with the KL penalty", "有KL惩罚")),
        (without_penalty, "--s", chapter.label("without it", "无KL惩罚")),
    ):
        axes.plot(range(1, ITERATIONS + 1), diary.curve(metric), style, label=name, markersize=3)
    axes.grid(alpha=0.3)
figure.axes[2].legend()
chapter.show(figure, "with_and_without_the_kl_penalty")

# %% [markdown]
# In the first two panels the run without the penalty looks like the better one. Only the lower two tell that it went elsewhere.
#
# Why a penalty on the KL helps: the best policy for $\mathbb{E}[s]-\beta\,\mathrm{KL}(\pi\|\pi_{ref})$ is known (for whole
# responses $y$ to one prompt; Rafailov et al. 2023, eq. 4):
#
# $$\pi^*(y)\propto\pi_{ref}(y)\,e^{s(y)/\beta}$$
#
# The less probable a response is to the reference, the more it has to score; one that the reference would never write is never
# written. With $\beta\to 0$ only the response of the highest score is left, and that may be the reward model's worst mistake, as
# with these three made-up texts:

# %%
reference, scored = np.array([0.6, 0.399, 0.001]), np.array([0.3, 0.8, 1.0])  # a dull text, a good one, a word salad
for coefficient in (1.0, 0.1, 0.01):
    best = reference * np.exp(scored / coefficient)
    print(f"beta = {coefficient:<4}", chapter.text("best policy:", "最优策略:"), (best / best.sum()).round(3))

# %% [markdown]
# ## Summary
#
# - State: prompt and text so far. Action: a token. Reward: a score at the end, less $\beta$ times the KL. Baseline: the writer
#   before PPO.
# - PPO raises the reward, not "quality". A judge that had no part in it says whether the two are the same, as far as it can
#   see.
# - Without a KL penalty the reward is gamed. Look at diversity, at the perplexity under the reference, and at the texts.
#
# ## Exercises
#
# 1. A response of two tokens has log-probabilities $-1$ and $-2$, under the reference $-2$ and $-2$; it ends, its score is 0.5
#    and $\beta=0.2$. What are the two rewards?
# 2. What is distinct-2 of the responses "good good good good" and "good film", a token a word?
# 3. The reference writes A with probability 0.9 and B with 0.1; A scores 0, B scores 1. With which probability does the best
#    policy write B at $\beta=0.5$?
#
# The solutions are in `tutorials/solutions/06_1_text_generation.py`.


# %%
@chapter.exercise
def two_rewards():
    return None  # your two numbers, such as [0.0, 0.0]


@chapter.exercise
def diversity():
    return None  # your number


@chapter.exercise
def probability_of_b():
    return None  # your number


chapter.check(two_rewards(), -0.2 * (np.array([-1.0, -2.0]) - np.array([-2.0, -2.0])) + np.array([0.0, 0.5]))
chapter.check(diversity(), distinct_2([["good"] * 4, ["good", "film"]]))
weights = np.array([0.9, 0.1]) * np.exp(np.array([0.0, 1.0]) / 0.5)
chapter.check(probability_of_b(), weights[1] / weights.sum())
