"""Compiled sampling of responses, and the one place that says which logits predict which tokens."""

from numbers import Real
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from ppo_keras import randomness
from ppo_keras.blocks import from_logits, in_blocks
from ppo_keras.devices import WHOLE
from ppo_keras.errors import InputError, check_count, check_role, require, shown
from ppo_keras.losses import log_probability
from ppo_keras.masking import episode_starts


class Prompts(NamedTuple):
    """Prompts of one length, padded on the left. Padding is known by the mask, never by an id (pad may equal end).

    | field | shape |
    |---|---|
    | `tokens` | int32 `(B, P)` |
    | `mask` | float32 `(B, P)`, 1 where real; the last is always real |
    """

    tokens: tf.Tensor
    mask: tf.Tensor

    def numbered(self, first=0):
        """`NumberedPrompts` with the rows `first`, `first + 1`, ..."""
        return NumberedPrompts(self.tokens, self.mask, np.arange(first, first + len(self.tokens), dtype=np.int32))


class NumberedPrompts(NamedTuple):
    """`Prompts` that know their rows in a table: what else belongs to a prompt, such as its right answers, is found by
    row. The text of a prompt does not tell: two may be equal, above all once they are cut.

    | field | shape |
    |---|---|
    | `tokens`, `mask` | as in `Prompts` |
    | `rows` | int32 `(B,)` |
    """

    tokens: tf.Tensor
    mask: tf.Tensor
    rows: tf.Tensor


def map_prompts(function, prompts):
    """A function of each array of `Prompts`, or of `NumberedPrompts`, which stay what they are.

    Example:
        >>> first_two = map_prompts(lambda part: part[:2], prompts)
    """
    return (Prompts if len(prompts) == 2 else NumberedPrompts)(*map(function, prompts))


class Responses(NamedTuple):
    """What a policy wrote after its prompts.

    | field | shape | meaning |
    |---|---|---|
    | `tokens` | int32 `(B, T)` | sampled ids up to and including the first end token, then padding |
    | `mask` | float32 `(B, T)` | 1 where a token was sampled |
    | `log_probs` | float32 `(B, T)` | of the tokens, at the sampling temperature; 0 on padding |
    | `values` | float32 `(B, T)` | of the state before each token; 0 on padding |
    """

    tokens: tf.Tensor
    mask: tf.Tensor
    log_probs: tf.Tensor
    values: tf.Tensor

    @property
    def last(self):
        """1 at the last real token of each response, float32 `(B, T)`."""
        return self.mask - tf.pad(self.mask[:, 1:], [[0, 0], [0, 1]])


def pad_prompts(token_lists, length, pad_id) -> Prompts:
    """Left-pads lists of token ids to `(B, length)` NumPy arrays.

    Raises:
        InputError: a prompt is empty or longer than `length`.
    """
    tokens = np.full([len(token_lists), length], pad_id, np.int32)
    mask = np.zeros([len(token_lists), length], np.float32)
    for i, ids in enumerate(token_lists):
        if not 0 < len(ids) <= length:
            raise InputError(f"prompt {i} has {len(ids)} tokens, but prompts have 1 to {length}. Shorten it, or train with a larger --prompt-length.")
        tokens[i, length - len(ids) :] = ids
        mask[i, length - len(ids) :] = 1
    return Prompts(tokens, mask)


def join(prompts, responses):
    """The inputs of a policy that reads prompt and response: `tokens[:, :-1]` and `starts`, `(B, P + T - 1)` each.

    Of the outputs, those from position P - 1 on predict the response: `logits[:, P-1:]` predicts `tokens[:, P:]`,
    which is `context = P - 1` in a policy's `call`.
    """
    tokens = tf.concat([prompts.tokens, responses.tokens[:, :-1]], axis=1)
    starts = tf.pad(episode_starts(prompts.mask), [[0, 0], [0, responses.tokens.shape[1] - 1]])
    return tokens, starts


def of_responses(policy, prompts, responses, function):
    """What a function makes of the logits that predict each response token, 0 on padding.

    Args:
        policy: an actor-critic.
        prompts, responses: `Prompts`, `Responses`.
        function: of logits `(..., V)` and tokens `(...)`, to a tuple of float32 arrays `(...)`.

    Returns:
        A tuple of float32 `(B, T)`.
    """
    tokens, starts = join(prompts, responses)
    found, _ = from_logits(policy, function, [responses.tokens], tokens, starts=starts, context=prompts.tokens.shape[1] - 1, training=False)
    return tuple(tf.where(responses.mask > 0, numbers, 0.0) for numbers in found)


def of_responses_and_ends(policy, prompts, responses, function):
    """What `of_responses` returns, and the hidden state of the last token of each response, `(B, D)`: of one reading.

    Args: see `of_responses`; the policy has the methods `hidden` and `logits`.
    """
    tokens = tf.concat([prompts.tokens, responses.tokens], axis=1)
    starts = tf.pad(episode_starts(prompts.mask), [[0, 0], [0, responses.tokens.shape[1]]])
    hidden, _ = policy.hidden(tokens, starts=starts, context=prompts.tokens.shape[1] - 1, training=False)  # (B, 1 + T, D)
    of_logits = lambda hidden, tokens: function(policy.logits(hidden), tokens)
    found = in_blocks(of_logits, policy.distribution.size, hidden[:, :-1], responses.tokens)
    last = tf.gather(hidden, tf.cast(tf.reduce_sum(responses.mask, axis=1), tf.int32), batch_dims=1)
    return tuple(tf.where(responses.mask > 0, numbers, 0.0) for numbers in found), last


def response_log_probs(policy, prompts, responses, temperature=1.0):
    """Log-probability of each response token under `policy`, float32 `(B, T)`; 0 on padding."""
    return of_responses(policy, prompts, responses, lambda logits, tokens: (log_probability(logits / temperature, tokens),))[0]


def is_end(tokens, end_id):
    """Which tokens end a response.

    Args:
        tokens: int, of any shape.
        end_id: the token that ends a response, or a list or tuple of several, each of which does.

    Returns:
        bool, of the shape of `tokens`.

    Example:
        >>> is_end([5, 3, 4], (3, 4)).numpy()
        array([False,  True,  True])
    """
    tokens = tf.convert_to_tensor(tokens)
    if isinstance(end_id, (list, tuple)):
        return tf.reduce_any(tokens[..., tf.newaxis] == tf.cast(end_id, tokens.dtype), axis=-1)
    return tokens == end_id


def check_ends(end_id):
    """The tokens that end a response as a tuple, also where it is one. Raises `InputError` unless there is one, and each is a whole number of 0 or more."""
    if not isinstance(end_id, (list, tuple)):
        check_count("end_id", end_id, 0, "3, or a list of several")
        return (end_id,)
    require(end_id, f"end_id={shown(end_id)} holds no token. Give the token that ends a response, such as 3, or a list of several.")
    for i, token in enumerate(end_id):
        check_count(f"end_id[{i}]", token, 0, 3)
    return tuple(end_id)


def generate(policy, prompts, length, end_id, pad_id, seed, temperature=1.0, greedy=False, top_k=None, top_p=None, share=WHOLE) -> Responses:
    """Samples up to `length` tokens after each prompt, until its own end token.

    The shapes are fixed, so it compiles once; the loop ends early when every response has ended.

    Args:
        policy: an actor-critic.
        prompts: `Prompts`, `(B, P)`.
        length: `T`.
        end_id: the token that ends a response, or a list or tuple of several, each of which does; the one that was written is
            kept as the last real token.
        pad_id: what follows the end.
        seed: int32 `(2,)`.
        temperature: divides the logits.
        greedy: the most probable token instead of a sample.
        top_k: sample among the k most probable tokens only.
        top_p: sample among the fewest most probable tokens that hold this probability (Holtzman et al. 2020).
        share: a `devices.Share`: the prompts are these rows of a larger batch, and get the tokens that they would get in it.

    Returns:
        `Responses`. `log_probs` are those of the whole distribution at the temperature, before top_k and top_p.

    Raises:
        InputError: an argument is of another kind, or out of range.
    """
    seed = tf.convert_to_tensor(seed)
    _check(policy, prompts, length, end_id, pad_id, seed, temperature, top_k, top_p)
    batch = prompts.tokens.shape[0]
    tokens, mask = tf.convert_to_tensor(prompts.tokens), tf.convert_to_tensor(prompts.mask)
    starts = episode_starts(mask)
    if tokens.shape[1] > 1:
        state = policy.read(tokens[:, :-1], starts=starts[:, :-1])
    else:
        state = policy.initial_state(batch)

    def step(t, token, start, alive, state, written):
        logits, values, state = policy.step(token, state, start)  # (B, V), (B,)
        logits = logits / temperature
        if greedy:
            token = tf.argmax(logits, axis=-1, output_type=tf.int32)
        else:
            draws = share.of(randomness.uniform([batch * share.count], randomness.fold_in(seed, t)))
            token = randomness.invert_cumulative(_restrict(logits, top_k, top_p), draws)
        real = tf.cast(alive, tf.float32)
        new = (
            tf.where(alive, token, pad_id),
            real,
            tf.where(alive, log_probability(logits, token), 0.0),
            tf.where(alive, values, 0.0),
        )
        written = [tf.tensor_scatter_nd_update(old, [[t]], [column]) for old, column in zip(written, new)]
        return t + 1, token, tf.zeros_like(start), alive & ~is_end(token, end_id), state, written

    nothing = [tf.fill([length, batch], pad_id)] + [tf.zeros([length, batch])] * 3
    begin = (tf.constant(0), tokens[:, -1], starts[:, -1], tf.ones([batch], tf.bool), state, nothing)
    *_, written = tf.while_loop(lambda t, token, start, alive, *_: (t < length) & tf.reduce_any(alive), step, begin)
    return Responses(*[tf.transpose(column) for column in written])


def _check(policy, prompts, length, end_id, pad_id, seed, temperature, top_k, top_p):
    """Raises `InputError` where `generate` cannot use an argument."""
    check_role("policy", policy, ("initial_state", "step", "read"), "Use a language model such as TransformerActorCritic(tokenizer.vocabulary_size).")
    advice = "Make them with pad_prompts([tokenizer.encode(text, begin=True) for text in texts], length, tokenizer.pad_id)."
    check_role("prompts", prompts, ("tokens", "mask"), advice)
    shapes = [tf.convert_to_tensor(part).shape for part in (prompts.tokens, prompts.mask)]
    if shapes[0].rank != 2 or shapes[1].rank != 2 or 0 in shapes[0].as_list():
        raise InputError(f"the prompts have tokens of shape {shapes[0]} and a mask of shape {shapes[1]}, expected (B, P) of both. {advice}")
    for name, value, least, example in (("length", length, 1, 32), ("pad_id", pad_id, 0, 0)):
        check_count(name, value, least, example)
    check_ends(end_id)
    if seed.shape != (2,):
        raise InputError(f"the seed has shape {seed.shape}, expected two whole numbers. Use tf.constant([0, 1]).")
    if not (isinstance(temperature, Real) and temperature > 0):
        raise InputError(f"temperature={shown(temperature)} is not positive. Use greedy=True for no randomness.")
    if top_k is not None:
        check_count("top_k", top_k, example=40)
    if top_p is not None and not (isinstance(top_p, Real) and 0 < top_p <= 1):
        raise InputError(f"top_p={shown(top_p)} is outside (0, 1]. Use a number such as 0.9, or None.")


def _restrict(logits, top_k, top_p):
    """-inf for the tokens that top_k or top_p exclude. Ties with the last token kept stay in. `(B, V)`."""
    if top_k is not None:
        smallest = tf.math.top_k(logits, k=min(top_k, logits.shape[-1])).values[:, -1:]
        logits = tf.where(logits >= smallest, logits, float("-inf"))
    if top_p is not None:
        ordered = tf.sort(logits, axis=-1, direction="DESCENDING")
        probabilities = tf.nn.softmax(ordered)
        before = tf.cumsum(probabilities, axis=-1, exclusive=True)  # probability of all more likely tokens
        smallest = tf.reduce_min(tf.where(before < top_p, ordered, float("inf")), axis=-1, keepdims=True)
        logits = tf.where(logits >= smallest, logits, float("-inf"))
    return logits
