"""Rewards: a learned model, or any Python function of (prompt, response)."""

import numbers
import re
import unicodedata

import keras
import numpy as np
import tensorflow as tf

from ppo_keras.datasets.files import nearest, shorten_list
from ppo_keras.errors import InputError, RewardError, check_role, shown
from ppo_keras.networks.encoder import TokenEncoder, small_normal
from ppo_keras.own_modules import import_own
from ppo_keras.randomness import Dropout


@keras.saving.register_keras_serializable("ppo_keras")
class RewardModel(keras.Model):
    """A network that reads a whole text and gives one number: the score, or the log-odds of the label 1.

    The head reads the mean of the hidden states over the real tokens.

    Args:
        encoder: a `TokenEncoder` of its own (`policy.new_encoder()`), or its serialised config.
        dropout: before the head, in training only.
        outputs: 1, or the number of labels, whose logits it then gives.
    """

    def __init__(self, encoder, dropout=0.0, outputs=1, **kwargs):
        super().__init__(**kwargs)
        self.encoder = encoder if isinstance(encoder, TokenEncoder) else keras.saving.deserialize_keras_object(encoder)
        self.dropout = Dropout(dropout, name="dropout", dtype=self.dtype_policy)
        self.outputs = outputs
        self.head = keras.layers.Dense(outputs, kernel_initializer=small_normal(), name="head", dtype=self.dtype_policy)
        if not self.encoder.built:
            self.encoder.build()
        self.head.build((None, self.encoder.width))
        self.built = True

    def call(self, inputs, training=None):
        """Scores of texts.

        Args:
            inputs: `(tokens, mask)`, int32 and float32 `(B, L)`, padded on either side; begin tokens included.

        Returns:
            float32 `(B,)`, or with several outputs `(B, outputs)`.
        """
        tokens, mask = inputs
        pooled = self.encoder.read_texts(tokens, mask, training=training)  # (B, D)
        outputs = tf.cast(self.head(self.dropout(pooled, training=training)), tf.float32)
        return outputs[:, 0] if self.outputs == 1 else outputs

    def get_config(self):
        return {
            "name": self.name,
            "dtype": self.dtype_policy.name,
            "encoder": keras.saving.serialize_keras_object(self.encoder),
            "dropout": self.dropout.rate,
            "outputs": self.outputs,
        }


def score_responses(model, prompts, responses):
    """Scores float32 `(B,)` (or logits `(B, K)`) of prompt plus response under a `RewardModel`."""
    tokens = tf.concat([prompts.tokens, responses.tokens], axis=1)
    mask = tf.concat([prompts.mask, responses.mask], axis=1)
    return model((tokens, mask), training=False)


class ControlCodes:
    """Labels that a prompt can ask for (Keskar et al. 2019): the piece "positive:" at its beginning asks for a positive text.

    Args:
        ids: the token id of each label's code, in the order of the labels.
        neutral: the id that stands for every code where a text is judged: the judge must not read what was asked.
    """

    def __init__(self, ids, neutral):
        self.ids, self.neutral = list(ids), neutral

    def asked(self, tokens):
        """The label that each prompt asks for: int32 `(B, P)` token ids -> int32 `(B,)`; -1 where it holds no code."""
        here = tf.cast(tokens[:, :, tf.newaxis] == tf.constant(self.ids), tf.int32)  # (B, P, K)
        first = tf.argmax(tf.reduce_max(here, axis=2), axis=1)  # a text may hold what looks like a code further on
        label = tf.argmax(tf.gather(here, first, batch_dims=1), axis=1, output_type=tf.int32)
        return tf.where(tf.reduce_any(here > 0, axis=[1, 2]), label, -1)

    def hide(self, tokens):
        """The tokens with `neutral` for every code."""
        is_code = tf.reduce_any(tokens[..., tf.newaxis] == tf.constant(self.ids), axis=-1)
        return tf.where(is_code, self.neutral, tokens)

    def log_odds(self, model, prompts, responses):
        """Log-odds, by a `RewardModel` of all labels, that each text has the label that was asked for; NaN where none was. float32 `(B,)`."""
        hidden = [part._replace(tokens=self.hide(part.tokens)) for part in (prompts, responses)]
        logits = score_responses(model, *hidden)  # (B, K)
        label = self.asked(prompts.tokens)
        asked = tf.one_hot(label, len(self.ids))
        others = tf.reduce_logsumexp(tf.where(asked > 0, float("-inf"), logits), axis=1)
        return tf.where(label < 0, float("nan"), tf.reduce_sum(asked * logits, axis=1) - others)


def with_code(prompt, label_names):
    """A typed prompt with its control code as the writer learned it, the text behind it with single spaces.

    The colon may be full-width and have blanks around it; upper case, and letters of another width, make no difference.

    Args:
        prompt: str.
        label_names: of the labels that a prompt can ask for.

    Raises:
        InputError: it does not begin with a label and a colon; the codes are named.

    Example:
        >>> with_code("正面 ：这部电影", ["负面", "正面"])
        '正面: 这部电影'
    """
    plain = lambda text: re.sub(r"\s*:\s*", ":", " ".join(unicodedata.normalize("NFKC", text).casefold().split()))
    known = {plain(name): name for name in label_names} | {name: name for name in label_names}
    for colon in reversed(list(re.finditer("[:\uff1a]", prompt))):  # a label may hold a colon too: the longest one is meant
        head = prompt[: colon.start()]
        name = known.get(head.strip()) or known.get(plain(head))
        if name:
            return " ".join([f"{name}:", *prompt[colon.end() :].split()])
    typed = re.split("[:\uff1a]", prompt)[0].strip()
    raise InputError(
        f"the prompt {prompt!r} does not say which label its text is to have.{nearest(typed, label_names)} Begin it with one of the control codes "
        f"of this run: {shorten_list([f'{name}:' for name in label_names])} (as in '{label_names[0]}: {prompt.strip()}')."
    )


class LabelModel(keras.Model):
    """Trains a `RewardModel` on labels: its outputs, `(B, 1)` log-odds of the label 1 or `(B, 1, K)` logits, for Keras's losses."""

    def __init__(self, reward_model, **kwargs):
        super().__init__(**{"dtype": reward_model.dtype_policy} | kwargs)  # by it Keras knows that a loss must be scaled
        self.reward_model = reward_model

    def call(self, inputs, training=None):
        """`(tokens, mask)`, `(B, L)` each -> float32 `(B, 1)` or `(B, 1, K)`."""
        return self.reward_model(inputs, training=training)[:, tf.newaxis]


class PreferenceModel(LabelModel):
    """Trains a `RewardModel` on pairs: P(chosen beats rejected) = sigmoid(r_chosen - r_rejected) (Bradley and Terry 1952).

    Its output is the difference of the scores, so Keras's `BinaryCrossentropy(from_logits=True)` on targets of 1 is
    the loss of Ouyang et al. (2022, eq. 1).
    """

    def call(self, inputs, training=None):
        """`(chosen tokens, chosen mask, rejected tokens, rejected mask)`, `(B, L)` each -> float32 `(B, 1)`."""
        score = lambda tokens, mask: self.reward_model((tokens, mask), training=training)[:, tf.newaxis]
        return score(*inputs[:2]) - score(*inputs[2:])


class PythonReward:
    """A reward that needs no TensorFlow: any function of a prompt and a response, both `str`, to one number.

    It runs between the compiled halves of an iteration.

    Args:
        function: `(prompt, response) -> float`; prompt + response is the whole text.
        tokenizer: turns token ids into text.
        name: what error messages call it.

    Raises:
        InputError: there is no function to call, or no tokenizer.
        RewardError: on a call, if the function raises or does not return one finite number; names the prompt.

    Example:
        >>> shorter = PythonReward(lambda prompt, response: -len(response), tokenizer)
    """

    def __init__(self, function, tokenizer, name=None):
        if not callable(function):
            raise InputError(f"a reward was given {shown(function)}, expected a function of (prompt, response), both str, to one number.")
        check_role("the tokenizer of a reward", tokenizer, ("decode_pairs",), "Give the function first, then the tokenizer of the texts.")
        self.function, self.tokenizer = function, tokenizer
        self.name = name or getattr(function, "__name__", "reward")

    def __call__(self, prompts, responses):
        """Scores float32 `(B,)` of `Prompts` and `Responses`."""
        return tf.constant([self.score(*pair) for pair in zip(*self.tokenizer.decode_pairs(prompts, responses))], tf.float32)

    def score(self, prompt, response):
        """The checked score of one pair."""
        return self.checked((prompt, response), prompt, response)

    def checked(self, arguments, prompt, response):
        """What the function says of these arguments; `prompt` and `response` are for the messages."""
        try:
            score = self.function(*arguments)
        except Exception as error:
            raise RewardError(f"reward {self.name} raised {type(error).__name__}: {error} (prompt {prompt!r}, response {response!r}).") from error
        if hasattr(score, "item") and getattr(score, "size", 1) == 1:
            score = score.item()  # a NumPy number
        if isinstance(score, numbers.Real) and abs(score) <= float(tf.float32.max):  # False of NaN
            return float(score)
        raise RewardError(f"reward {self.name} returned {score!r} for the prompt {prompt!r}. It must return one finite number.")


class ReferenceReward(PythonReward):
    """A `PythonReward` that compares each response with the references of its prompt: right answers, translations.

    They are found by the row of the prompt, so two prompts of the same text each have their own.

    Args:
        function: `(response, references) -> float`, of a str without white space around it and a list of str.
        references: lists of str; the `rows` of the `NumberedPrompts` count in it.
        tokenizer, name: see `PythonReward`.

    Raises:
        InputError: on a call with prompts without rows, or with rows that are not there.
        RewardError: see `PythonReward`.

    Example:
        >>> right = ReferenceReward(lambda response, references: response in references, corpus.train.references, tokenizer)
        >>> prompts = pad_prompts(questions, 16, tokenizer.pad_id).numbered()
    """

    def __init__(self, function, references, tokenizer, name=None):
        super().__init__(function, tokenizer, name)
        self.references = references

    def __call__(self, prompts, responses):
        """Scores float32 `(B,)` of `NumberedPrompts` and `Responses`."""
        if not hasattr(prompts, "rows"):
            raise InputError(f"reward {self.name} finds references by row, but the prompts have none. Use Prompts.numbered().")
        rows = np.asarray(prompts.rows)
        if rows.min() < 0 or rows.max() >= len(self.references):
            raise InputError(f"the prompts have rows from {rows.min()} to {rows.max()}, but there are references for 0 to {len(self.references) - 1}.")
        triples = zip(*self.tokenizer.decode_pairs(prompts, responses), rows)
        return tf.constant([self.score(*triple) for triple in triples], tf.float32)

    def score(self, prompt, response, row):
        """The checked score of one response to the prompt of a row; the text of the prompt is for the messages."""
        return self.checked((response.strip(), self.references[row]), prompt, response)


def load_function(name):
    """The Python function that `module:function` names; modules are found in the current folder too.

    Raises:
        InputError: there is no such module or function, or the module cannot be imported.
    """
    module_name, colon, function_name = name.partition(":")
    if not (module_name and colon and function_name):
        raise InputError(f"--reward {name!r} is not of the form module:function, such as my_rewards:mentions_an_animal.")
    module = import_own(module_name, f"--reward {name}")
    function = getattr(module, function_name, None)
    if not callable(function):
        known = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise InputError(f"--reward {name}: {module_name} has no function {function_name!r}; it has {', '.join(known) or 'none'}.")
    return function
