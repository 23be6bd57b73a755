"""What can be looked at while a run learns: each view is a function of the learner that writes summaries and changes nothing.

`Recorder` calls them between iterations, at its writer and step. They are functions of the learner's state alone.
"""

import contextlib
import random

import numpy as np
import tensorflow as tf

from ppo_keras.advantages import generalized_advantages
from ppo_keras.kl import estimate_kl
from ppo_keras.language.generation import generate, map_prompts
from ppo_keras.masking import episode_starts
from ppo_keras.runs import tensorboard
from ppo_keras.trajectory import single_steps, slice_sequences

DRAWN = 2  # responses that are drawn token by token
CARD, DPI = 350, 80  # pixels across a card of the Images tab, to whose width it scales every picture; least pixels an inch


class BatchHistograms:
    """Histograms of the iteration's experience: `batch/ratio`, `batch/advantages`, ...; masked steps do not enter.

    The ratio is that of the policy after the iteration to the policy that acted.

    Args:
        of_weights: histograms of every weight, and of its gradient on one micro-batch, too.
    """

    def __init__(self, of_weights=False):
        self.of_weights, self._ratios, self._gradients = of_weights, None, None

    def __call__(self, learner):
        experience = tf.nest.map_structure(tf.convert_to_tensor, learner.shelf.content)
        trajectory = experience.trajectory
        if self._ratios is None:
            self._ratios = tf.function(lambda trajectory: tf.exp(learner.read(trajectory)[2]), autograph=False)
            self._gradients = tf.function(lambda some, count: learner.gradients(some, count)[0], autograph=False)
        real = trajectory.mask.numpy() > 0
        write = lambda name, values, meaning: tf.summary.histogram(f"batch/{name}", values, description=meaning)
        write(
            "ratio", self._ratios(trajectory).numpy()[real], "probability of each action after the iteration over that before; clipped outside 1 +- clip_ratio"
        )
        write("advantages", experience.advantages.numpy()[real], "how much better each action was than expected, as the loss reads it")
        write("values", trajectory.values.numpy()[real], "value of each state, before the iteration")
        write("rewards", trajectory.rewards.numpy()[real], "reward of each step")
        if trajectory.context:
            write("response_lengths", real.sum(axis=1), "tokens of each response")
        if self.of_weights:
            self._write_weights(learner, experience)

    def _write_weights(self, learner, experience):
        variables = learner.policy.trainable_variables
        some = experience if learner.policy.has_memory else single_steps(experience)
        parts = learner.config.minibatches * learner.config.accumulation_steps
        some = slice_sequences(some, 0, some.advantages.shape[0] // parts)
        gradients = self._gradients(some, tf.maximum(tf.reduce_sum(some.trajectory.mask), 1.0))
        for variable, gradient in zip(variables, gradients):
            tf.summary.histogram(f"weights/{variable.path}", variable.numpy())
            tf.summary.histogram(f"gradients/{variable.path}", gradient)


class HeldOutResponses:
    """A table of prompts that are not practised on, with the responses before PPO and now; some of them drawn token by token.

    Args:
        prompts: NumPy `Prompts`.
        tokenizer: of the texts.
        seed: of the draw: the same at every look, so that only the policy makes a difference.
        attention: a picture of what the policy attends to in the first response, too.
    """

    header = ("prompt", "before PPO", "score", "now", "score", "KL")

    def __init__(self, prompts, tokenizer, seed, attention=False):
        self.prompts, self.tokenizer, self.attention = prompts, tokenizer, attention
        self.draw, self._write, self._before = tf.constant([seed, 3], tf.int32), None, None

    def __call__(self, learner):
        every = learner.responses_per_prompt  # several answer each prompt, for the advantages; the first is shown
        prompts = map_prompts(lambda part: tf.repeat(part, every, axis=0), self.prompts)
        if self._write is None:
            self._write = tf.function(lambda policy: self._respond(learner, policy, prompts), autograph=False)
        if self._before is None:
            responses, _, features = self._write(learner.reference)
            self._before = self._texts(learner, prompts, responses, features)
        responses, reference_log_probs, features = self._write(learner.policy)
        asked, answers, scores = self._texts(learner, prompts, responses, features)
        kl = tf.where(responses.mask > 0, estimate_kl(responses.log_probs, reference_log_probs, learner.kl_estimator), 0.0)
        rows = zip(asked, *self._before[1:], answers, scores, tf.reduce_sum(kl, axis=1).numpy())
        meaning = "Prompts of the validation split, at the same draw in every table. KL: nats from the reference, of the whole response."
        tensorboard.write_table("responses/held_out", self.header, list(rows)[::every], meaning)
        advantages = self._advantages(learner, prompts, responses, reference_log_probs, scores)
        measures = {"KL": kl.numpy(), "advantage": advantages.numpy(), "value": responses.values.numpy()}
        for i in range(0, min(DRAWN, len(self.prompts.tokens)) * every, every):
            self._draw_tokens(i // every, f"{asked[i]} ... (score {scores[i]:.2f})", responses, measures, i)
        if self.attention:
            self._draw_attention(learner.policy, prompts, responses)

    def _respond(self, learner, policy, prompts):
        responses = generate(policy, prompts, learner.response_length, learner.end_id, learner.pad_id, self.draw, learner.config.temperature)
        return responses, *learner.read_reference(prompts, responses)

    def _texts(self, learner, prompts, responses, features):
        """Texts of the prompts, texts of the responses, scores."""
        with undisturbed():
            scores = learner.score(prompts, responses, features).numpy()
        return *self.tokenizer.decode_pairs(prompts, responses), scores

    def _advantages(self, learner, prompts, responses, reference_log_probs, scores):
        """Before they are whitened: that is a matter of the whole batch."""
        t, _ = learner.assemble(prompts, responses, reference_log_probs, tf.constant(scores))
        config = learner.config
        return generalized_advantages(t.rewards, t.values, t.next_values, t.ended, t.mask, config.discount, config.gae_lambda)[0]

    def _draw_tokens(self, number, title, responses, measures, row):
        from ppo_keras.reports import pictures  # matplotlib takes a second to load

        length = int(responses.mask[row].numpy().sum())
        pieces = self.tokenizer.pieces(responses.tokens[row, :length].numpy())
        figure = pictures.token_heat_map(pieces, {name: values[row, :length] for name, values in measures.items()}, title)
        meaning = (
            "KL from the reference (nats), advantage (before whitening) and value of every token of a held-out response: dark red above 0, light blue below"
        )
        show_picture(f"responses/tokens_{number + 1}", figure, meaning)

    def _draw_attention(self, policy, prompts, responses):
        from ppo_keras.reports import pictures

        real = np.concatenate([prompts.mask[0], responses.mask[0]]) > 0
        ids = np.concatenate([prompts.tokens[0], responses.tokens[0]])[real]
        weights = attention_of(policy.encoder, tf.constant(ids[np.newaxis]), tf.constant(np.eye(1, len(ids), dtype=np.float32)))
        figure = pictures.attention_map(self.tokenizer.pieces(ids), weights, "attention of the policy, a row a token")
        show_picture("attention/policy", figure, "what the policy attends to in the first held-out prompt and its response")


class HeldOutLabels:
    """A table of texts that are not practised on, with their labels before PPO and now.

    Args:
        texts: list of `N` strings.
        labels: list of `N` strings, the right ones.
        names: of the labels.
        probabilities: a function of a stage, "before" or "now": `(N, K)`.
    """

    header = ("text", "before PPO", "now", "right", "probability")

    def __init__(self, texts, labels, names, probabilities):
        self.texts, self.labels, self.names, self.probabilities = texts, labels, names, probabilities

    def __call__(self, learner):
        before, now = (self.probabilities(stage) for stage in ("before", "now"))
        chosen = [[self.names[i] for i in p.argmax(axis=1)] for p in (before, now)]
        rows = zip(self.texts, *chosen, self.labels, now.max(axis=1))
        tensorboard.write_table("labels/held_out", self.header, rows, "Texts of the validation split. Probability: of the label now.")


class GridPicture:
    """Values and policy of a grid world.

    Args:
        grid: a `GridWorld`.
        look: a function without arguments: values `(cells,)`, probabilities `(cells, 4)`.
    """

    def __init__(self, grid, look):
        self.grid, self.look = grid, look

    def __call__(self, learner):
        from ppo_keras.reports import pictures

        show_picture("grid/values_and_policy", pictures.grid_values(self.grid, *self.look()), "values as colours, the policy as arrows")


class RolloutAttention:
    """What an agent's policy attends to: the last rollout of the first environment, its memory before it left out.

    A policy that reads whole texts attends to their tokens: then the first text that was labelled.

    Args:
        tokenizer: of the texts; None for an agent.
    """

    def __init__(self, tokenizer=None):
        self.tokenizer = tokenizer

    def __call__(self, learner):
        from ppo_keras.reports import pictures

        trajectory = tf.nest.map_structure(tf.convert_to_tensor, learner.shelf.content).trajectory
        inputs, starts = trajectory.inputs[:1], trajectory.starts[:1]
        labels = [f"{t + 1}" for t in range(inputs.shape[1])]
        if self.tokenizer:
            ids = inputs[0, 0].numpy()
            ids = ids[ids >= 0]  # filled up with NO_TOKEN
            inputs, labels = tf.constant(ids[np.newaxis]), self.tokenizer.pieces(ids)
            starts = episode_starts(tf.ones([1, len(ids)]))
        elif learner.policy.normalization is not None:
            inputs = learner.policy.normalization(inputs)
        weights = attention_of(learner.policy.encoder, inputs, starts)
        show_picture("attention/policy", pictures.attention_map(labels, weights, "attention of the policy, a row a step"), "what the policy attends to")


def attention_of(encoder, inputs, starts):
    """Attention weights of one sequence, `(1, T, ...)`, through every block of an encoder: NumPy `(L, H, T, T)`."""
    return np.stack([weights[0].numpy() for weights in encoder.trunk.attention(encoder.embed(inputs), starts=starts)])


def show_picture(tag, figure, meaning):
    """A figure in the Images tab."""
    from ppo_keras.reports import pictures

    sharp = (2 * CARD + 0.5) / figure.get_figwidth()  # exactly two pixels for one of the card, which leaves out every other one
    image = tf.io.decode_png(pictures.png(figure, max(DPI, sharp)), channels=3)
    tf.summary.image(tag, image[tf.newaxis], description=meaning)


@contextlib.contextmanager
def undisturbed():
    """Keeps the random numbers of Python and NumPy as they are: a reward in Python may draw some."""
    states = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
