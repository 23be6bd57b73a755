"""Rewards: a learned model, or any Python function of (prompt, response)."""

import numbers
import re
import unicodedata

import keras
import numpy as np
import tensorflow as tf

from ppo_keras.datasets.files import nearest, shorten_list
from ppo_keras.errors import InputError, RewardError, check_count, check_role, require, shown
from ppo_keras.language.reward_function import CallFailed, RewardFunction, call_here, load_function
from ppo_keras.language.workers import Workers
from ppo_keras.networks.encoder import TokenEncoder, small_normal
from ppo_keras.randomness import Dropout

PART = re.compile(r"\w[\w .-]*")  # the name of a part of a reward


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
    """A reward that needs no TensorFlow: any function of a prompt and a response, both `str`, to one number or to parts by name.

    It runs between the compiled halves of an iteration. Further parameters of the function are columns of the data, which it is
    given by the rows of `NumberedPrompts`; it may take lists; see `RewardFunction`. Of parts, {"correct": 1.0, "format": 0.2}, the
    weighted sum is the reward, and the mean of each is a metric, "reward/correct".

    Args:
        function: `(prompt, response) -> float`; prompt + response is the whole text. Or its name, `module:function`.
        tokenizer: turns token ids into text.
        name: what error messages call it.
        rows: list of dicts, {column: value}, in which the `rows` of the prompts count, such as the `rows` of a `Split`; needed where
            the function reads columns.
        batched: whether the function takes lists of texts and returns a list with a value for each; None: where its parameters
            are called `prompts`, `responses` or `completions`.
        weights: {part: its weight in the sum}; 1 for a part that is not named.
        processes: how many processes call a function that is given by its name, each a share of the batch; 0 is this one.
        timeout: most seconds that one call may take (of a function of lists, with its whole share); needs a process.

    Attributes:
        parts: {metric: mean of a part} of the last call; empty where the function returns numbers.

    Raises:
        InputError: there is no function to call, or no tokenizer; on a call, prompts without rows, with rows that are not there, or
            weights of parts that the function does not return.
        RewardError: on a call, if the function raises, takes too long, ends its process, or does not return one finite number (or
            always the same parts) for each response; names the prompt.

    Example:
        >>> shorter = PythonReward(lambda prompt, response: -len(response), tokenizer)
        >>> right = PythonReward(lambda prompt, response, answer: float(answer in response), tokenizer, rows=[{"answer": "4"}])
    """

    def __init__(self, function, tokenizer, name=None, rows=None, batched=None, weights=None, processes=0, timeout=None):
        found = function
        if isinstance(function, str) and ":" in function:
            found, name = load_function(function), name or function
        if not callable(found):
            raise InputError(f"a reward was given {shown(found)}, expected a function of (prompt, response), both str, to one number.")
        check_role("the tokenizer of a reward", tokenizer, ("decode_pairs",), "Give the function first, then the tokenizer of the texts.")
        self.tokenizer, self.rows, self.weights, self.parts = tokenizer, rows, dict(weights or {}), {}
        self.name = name or getattr(found, "__name__", "reward")
        self.function = RewardFunction(found, self.name, batched)
        check_count("processes", processes, 0, 4)
        require(timeout is None or timeout > 0, f"timeout={shown(timeout)} is not positive. Give a number of seconds such as 5, or None.")
        alone = not processes and timeout is None
        require(
            alone or isinstance(function, str),
            f"reward {self.name} is to run in processes of its own, which find it by its name only. Put it into a file, and give 'module:function'.",
        )
        self.shares = max(1, processes)
        self.run = (lambda calls: call_here(found, calls)) if alone else Workers(function, self.shares, timeout)
        self._names = None  # of the parts, once they are known; () of one number

    @property
    def needs_rows(self):
        """Whether it reads columns that must be there, so that it cannot score prompts without rows."""
        return bool(self.function.columns.needed)

    @property
    def reads_rows(self):
        """Whether it reads columns that must be there, or that are there: what somebody types has none, and no score that compares."""
        columns, there = self.function.columns, set(self.rows[0]) if self.rows else set()
        return self.needs_rows or bool(there if columns.every else there.intersection(columns.optional))

    def close(self):
        """Ends its processes, where it has any; the next call begins others."""
        getattr(self.run, "close", lambda: None)()

    def __call__(self, prompts, responses):
        """Scores float32 `(B,)` of `Prompts` (or `NumberedPrompts`) and `Responses`."""
        scores, parts = self.values(*self.tokenizer.decode_pairs(prompts, responses), self.rows_of(prompts))
        self.parts = {f"reward/{name}": float(np.mean([one[name] for one in parts])) for name in self._names}
        return tf.constant(scores, tf.float32)

    def rows_of(self, prompts):
        """The rows of a batch of prompts, a list of dicts: empty ones where nothing is read of them."""
        if not hasattr(prompts, "rows"):
            if self.needs_rows:
                columns = ", ".join(self.function.columns.needed)
                raise InputError(f"reward {self.name} finds {columns} by row, but the prompts have none. Use Prompts.numbered().")
            return [{}] * len(prompts.tokens)
        return self.table(np.asarray(prompts.rows))

    def table(self, numbers):
        """The rows of these numbers."""
        if self.rows is None:
            if self.needs_rows:
                raise InputError(f"reward {self.name} reads {', '.join(self.function.columns.needed)} of the data. Give PythonReward(..., rows=split.rows).")
            return [{}] * len(numbers)
        if min(numbers) < 0 or max(numbers) >= len(self.rows):
            raise InputError(f"the prompts have rows from {min(numbers)} to {max(numbers)}, but reward {self.name} knows those from 0 to {len(self.rows) - 1}.")
        return [self.rows[number] for number in numbers]

    def score(self, prompt, response, row=None):
        """The checked score of one pair; `row` is the number of the row of its prompt."""
        return self.values([prompt], [response], [{}] if row is None else self.table([row]))[0][0]

    def values(self, prompts, responses, rows):
        """The checked scores and parts of B pairs of texts with their rows: a list of floats, and one of {part: float}."""
        calls = self.function.calls(prompts, responses, rows, self.shares)
        pair = lambda number: f"prompt {shown(prompts[number])}, response {shown(responses[number])}"
        try:
            values = self.run(calls)
        except CallFailed as failed:
            what = f"reward {self.name} {failed.what}"
            if self.function.batched:
                raise RewardError(f"{what} (a batch of {len(prompts)} responses).") from failed.__cause__
            raise RewardError(f"{what} ({pair(failed.number)}).") from failed.__cause__
        if self.function.batched:
            values = self._unpacked(calls, values)
        parts = [self._checked(value, f"for the prompt {shown(prompt)}") for value, prompt in zip(values, prompts)]
        weights = [self.weights.get(name, 1.0) for name in self._names]
        scores = [sum(weight * one[name] for weight, name in zip(weights, self._names)) if self._names else one for one in parts]
        for score, prompt in zip(scores, prompts):
            self._number(score, f"a weighted sum of {score!r} for the prompt {shown(prompt)}")
        return scores, parts

    def _unpacked(self, calls, values):
        """The values of a function of lists, one after the other."""
        sizes = [len(next(part for part in (*call.texts, *call.named.values()))) for call in calls]
        for size, value in zip(sizes, values):
            listed = isinstance(value, (list, tuple)) or (isinstance(value, np.ndarray) and value.ndim > 0)
            if not listed or len(value) != size:
                got = f"{len(value)} value{'s' * (len(value) != 1)}" if listed else shown(value)
                raise RewardError(f"reward {self.name} returned {got} for {size} responses. A function of lists must return a list with one value for each.")
        return [one for value in values for one in value]

    def _checked(self, value, place):
        """One value: a float, or {part: float} in the order of the names."""
        names = ()
        if isinstance(value, dict) and value:
            bad = next((name for name in value if not isinstance(name, str) or not PART.fullmatch(name)), None)
            if bad is not None:
                raise RewardError(f"reward {self.name} returned a part called {bad!r} {place}. Name it in letters, digits, blanks, '.', '_' or '-'.")
            value = {name: self._number(value[name], f"{value[name]!r} as the part {name!r} {place}") for name in sorted(value)}
            names = tuple(value)
        else:
            value = self._number(value, f"{value!r} {place}")
        if self._names is None:
            self._check_weights(names)
            self._names = names
        if names != self._names:
            called = lambda names: f"the parts {', '.join(names)}" if names else "one number"
            raise RewardError(f"reward {self.name} returned {called(names)} {place}, but {called(self._names)} before. It must always return the same.")
        return value

    def _number(self, value, returned):
        if hasattr(value, "item") and getattr(value, "size", 1) == 1:
            value = value.item()  # a NumPy number
        if isinstance(value, numbers.Real) and abs(value) <= float(tf.float32.max):  # False of NaN
            return float(value)
        raise RewardError(f"reward {self.name} returned {returned}. It must return one finite number, or parts by name such as {{'correct': 1.0}}.")

    def _check_weights(self, names):
        unknown = [name for name in self.weights if name not in names]
        if unknown:
            has = f"has the parts {', '.join(names)}" if names else "returns one number, without parts"
            hint = "".join(nearest(name, names) for name in unknown[:1])
            raise InputError(f"there is a weight of {', '.join(unknown)}, but reward {self.name} {has}.{hint} Correct --reward-weights, or leave it out.")


class ReferenceReward(PythonReward):
    """A `PythonReward` that compares each response with the references of its prompt: right answers, translations.

    They are a column like any other, found by the row of the prompt, so two prompts of the same text each have their own.

    Args:
        function: `(response, references) -> float`, of a str without white space around it and a list of str.
        references: lists of str; the `rows` of the `NumberedPrompts` count in it.
        tokenizer, name: see `PythonReward`.

    Raises:
        InputError, RewardError: see `PythonReward`.

    Example:
        >>> right = ReferenceReward(lambda response, references: response in references, corpus.train.references, tokenizer)
        >>> prompts = pad_prompts(questions, 16, tokenizer.pad_id).numbered()
    """

    def __init__(self, function, references, tokenizer, name=None):
        compare = lambda prompt, response, references: function(response.strip(), references)
        rows = [{"references": one} for one in references]
        super().__init__(compare, tokenizer, name or getattr(function, "__name__", "reward"), rows)
