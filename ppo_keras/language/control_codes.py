"""Control codes (Keskar et al. 2019): labels that a prompt can ask for."""

import re
import unicodedata

import tensorflow as tf

from ppo_keras.datasets.files import nearest, shorten_list
from ppo_keras.errors import InputError
from ppo_keras.language.rewards import score_responses


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
