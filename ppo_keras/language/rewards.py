"""Rewards: a learned model, or any Python function of (prompt, response)."""

import numbers
import re

import keras
import numpy as np
import tensorflow as tf

from ppo_keras.datasets.files import nearest
from ppo_keras.errors import InputError, RewardError, check_count, check_role, require, shown
from ppo_keras.language.divided import DividedModel
from ppo_keras.language.reward_function import CallFailed, RewardFunction, call_here, load_function
from ppo_keras.language.workers import Workers
from ppo_keras.masking import episode_starts
from ppo_keras.networks.encoder import TokenEncoder, small_normal
from ppo_keras.optimizer import FusedAdam  # noqa: F401  a saved model that was trained names it: who loads it imports this module
from ppo_keras.randomness import Dropout

PART = re.compile(r"\w[\w .-]*")  # the name of a part of a reward
OF_TRAINING = ("loss", "accuracy", "validation_cross_entropy", "validation_accuracy")  # figures of a reward model, which the name of a part would hide


@keras.saving.register_keras_serializable("ppo_keras")
class RewardModel(keras.Model):
    """A network that reads a whole text and gives one number: the score, or the log-odds of the label 1.

    With an encoder of its own its head reads the mean of the hidden states over the real tokens. On the trunk of a frozen policy, which it shares, it
    has no weights but the head's, and reads the policy's hidden state of the last token (Ziegler et al. 2019), scaled as in its training: what
    the policy was pretrained on tells it more than a small network learns from a thousand labels, and no second network is in memory.

    Args:
        encoder: a `TokenEncoder` of its own (`policy.new_encoder()`), or its serialised config; or a policy that never changes, such as
            `reference_of(policy)`; None for a trunk that comes later, by `read_with`.
        dropout: before the head, in training only.
        outputs: 1, or the number of labels, whose logits it then gives.
        width: of the hidden states, where the encoder is None.

    Raises:
        InputError: the policy is no frozen one with hidden states; on a call, there is no trunk yet.

    Example:
        >>> reference = reference_of(policy)
        >>> model = RewardModel(reference)
        >>> agent = LanguagePPO(policy, model, end_id, pad_id, 32, reference=reference)  # one reading by the reference serves both
    """

    def __init__(self, encoder=None, dropout=0.0, outputs=1, width=None, **kwargs):
        super().__init__(**kwargs)
        if isinstance(encoder, dict):
            encoder = keras.saving.deserialize_keras_object(encoder)
        self.encoder = encoder if isinstance(encoder, TokenEncoder) else None
        self.scaling, self._trunk = None, ()
        if self.encoder is None:
            if encoder is not None:
                width = self.read_with(encoder).width
            check_count("width", width, example=576)
            self.scaling = keras.layers.Normalization(name="scaling", dtype="float32")
            self.scaling.build((None, width))
            self.scaling.adapt_variance.assign(tf.ones([width]))  # Keras's 0 would divide by nothing
            self.scaling.finalize_state()
        elif not self.encoder.built:
            self.encoder.build()
        self.width = width if self.encoder is None else self.encoder.width
        precision = self.dtype_policy if self.scaling is None else "float32"
        self.dropout, self.outputs = Dropout(dropout, name="dropout", dtype=precision), outputs
        self.head = keras.layers.Dense(outputs, kernel_initializer=small_normal(), name="head", dtype=precision)
        self.head.build((None, self.width))
        self.built = True

    @property
    def trunk(self):
        """The frozen policy whose trunk it shares; None where it has an encoder of its own, or no trunk yet."""
        return self._trunk[0]() if self._trunk else None

    @property
    def vocabulary_size(self):
        """How many tokens it knows; None without a trunk."""
        if self.encoder is not None:
            return self.encoder.config["vocabulary_size"]
        return None if self.trunk is None else self.trunk.distribution.count

    def read_with(self, trunk):
        """Shares the trunk of a policy that never changes. Returns that policy."""
        require(
            self.encoder is None,
            "the reward model has an encoder of its own, so it reads with no other trunk. Make one with RewardModel(reference_of(policy)).",
        )
        check_role(
            "the trunk of a reward model",
            trunk,
            ("hidden", "logits", "width", "trainable"),
            "Use reference_of(policy), or a TokenEncoder such as policy.new_encoder().",
        )
        require(
            not trunk.trainable,
            "the trunk of a reward model is a policy that learns, so the score of a text would move with it. Use reference_of(policy).",
        )
        width = getattr(self, "width", trunk.width)
        require(trunk.width == width, f"the reward model reads hidden states of width {width}, but the trunk has {trunk.width}. Use the one it was trained on.")
        self._trunk = (lambda: trunk,)  # Keras would take the policy for a part of this model, and save it
        return trunk

    def check_reader(self):
        """Raises `InputError` where it can read nothing, for want of a trunk."""
        ready = self.encoder is not None or self.trunk is not None
        require(ready, "the reward model has no trunk to read with. Give it one: model.read_with(reference_of(policy)).")

    def call(self, inputs, training=None):
        """Scores of texts.

        Args:
            inputs: `(tokens, mask)`, int32 and float32 `(B, L)`, padded on either side; begin tokens included.

        Returns:
            float32 `(B,)`, or with several outputs `(B, outputs)`.
        """
        return self.of_features(self.features(*inputs, training=training), training)

    def features(self, tokens, mask, training=None):
        """What the head reads of texts `(B, L)`: `(B, D)`."""
        if self.encoder is not None:
            return self.encoder.read_texts(tokens, mask, training=training)
        self.check_reader()
        mask = tf.cast(mask, tf.float32)
        hidden, _ = self.trunk.hidden(tokens, starts=episode_starts(mask), training=False)  # (B, L, D)
        last = tf.shape(mask)[1] - 1 - tf.argmax(tf.reverse(mask, [1]), axis=1, output_type=tf.int32)
        return tf.gather(hidden, last, batch_dims=1)

    def of_features(self, features, training=None):
        """Scores as `call` returns them, of what the head reads, `(B, D)`."""
        if self.scaling is not None:
            features = self.scaling(tf.cast(features, tf.float32))
        outputs = tf.cast(self.head(self.dropout(features, training=training)), tf.float32)
        return outputs[:, 0] if self.outputs == 1 else outputs

    def get_config(self):
        encoder = {"width": self.width} if self.encoder is None else {"encoder": keras.saving.serialize_keras_object(self.encoder)}
        return {"name": self.name, "dtype": self.dtype_policy.name, "dropout": self.dropout.rate, "outputs": self.outputs} | encoder


def score_responses(model, prompts, responses):
    """Scores float32 `(B,)` (or logits `(B, K)`) of prompt plus response under a `RewardModel`."""
    tokens = tf.concat([prompts.tokens, responses.tokens], axis=1)
    mask = tf.concat([prompts.mask, responses.mask], axis=1)
    return model((tokens, mask), training=False)


class ModelScore:
    """What a `RewardModel` of one output says of a response: a reward, or a judge, for `LanguagePPO`.

    Args:
        model: a `RewardModel`.
        probability: that of the label 1 instead of its log-odds: it is bounded, so that one word of praise more does not pay for ever.

    Raises:
        InputError: it is no `RewardModel`, or has several outputs.
    """

    def __init__(self, model, probability=False):
        require(isinstance(model, RewardModel), f"a score was to be of {shown(model)}, expected a RewardModel. Train one with train_classifier.")
        require(
            model.outputs == 1, f"a score was to be of a reward model of {model.outputs} outputs. Use one of a single output, or your own function of them."
        )
        self.model, self.squash = model, tf.sigmoid if probability else tf.identity

    @property
    def trunk(self):
        """See `RewardModel`."""
        return self.model.trunk

    def __call__(self, prompts, responses):
        """float32 `(B,)` of `Prompts` and `Responses`."""
        return self.squash(score_responses(self.model, prompts, responses))

    def of_features(self, features):
        """The same of what the model's head reads, `(B, D)`."""
        return self.squash(self.model.of_features(features))


class LabelModel(DividedModel):
    """Trains a `RewardModel` on labels: its outputs, `(B, 1)` log-odds of the label 1 or `(B, 1, K)` logits, for Keras's losses.

    Of a model on a shared trunk, which never changes, only the head is computed: the inputs are what it reads, `(B, D)` in place of `(tokens, mask)`.
    """

    def __init__(self, reward_model, **kwargs):
        super().__init__(**{"dtype": reward_model.head.dtype_policy} | kwargs)  # by it Keras knows that a loss must be scaled
        self.reward_model = reward_model

    def call(self, inputs, training=None):
        """`(tokens, mask)`, `(B, L)` each -> float32 `(B, 1)` or `(B, 1, K)`."""
        read = self.reward_model if self.reward_model.trunk is None else self.reward_model.of_features
        return read(inputs, training=training)[:, tf.newaxis]


class PreferenceModel(LabelModel):
    """Trains a `RewardModel` on pairs: P(chosen beats rejected) = sigmoid(r_chosen - r_rejected) (Bradley and Terry 1952).

    Its output is the difference of the scores, so Keras's `BinaryCrossentropy(from_logits=True)` on targets of 1 is
    the loss of Ouyang et al. (2022, eq. 1).
    """

    def call(self, inputs, training=None):
        """`(chosen tokens, chosen mask, rejected tokens, rejected mask)`, `(B, L)` each -> float32 `(B, 1)`."""
        sides = inputs if len(inputs) == 2 else (inputs[:2], inputs[2:])
        chosen, rejected = [LabelModel.call(self, side, training) for side in sides]
        return chosen - rejected


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
            taken = next((name for name in value if name in OF_TRAINING), None)
            if taken:
                raise RewardError(
                    f"reward {self.name} returned a part called {taken!r}, which is a figure of a reward model's training. Call it something else."
                )
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
