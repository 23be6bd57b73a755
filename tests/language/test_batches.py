"""`ppo_keras.language.batches`: widths that leave the least padding, and batches that lose no prompt."""

import collections
import doctest
import itertools

import keras
import numpy as np
import pytest

from helpers import END, PAD, random_table, state_of
from ppo_keras import KLConfig, LanguagePPO, PPOConfig, PythonReward
from ppo_keras.errors import InputError
from ppo_keras.language import batches
from ppo_keras.language.batches import batches_of_like_length, choose_widths, padded_share
from ppo_keras.language.generation import NumberedPrompts, Prompts, pad_prompts
from ppo_keras.tasks.config import GenerationConfig, QuestionAnsweringConfig


class Words:
    """A tokenizer for the tests: the text of ids is the ids."""

    def decode_pairs(self, prompts, responses):
        return [[" ".join(str(int(t)) for t, m in zip(*pair) if m > 0) for pair in zip(part.tokens, part.mask)] for part in (prompts, responses)]


def test_the_examples_are_true():
    """Catches: a docstring that promises other widths."""
    tried = doctest.testmod(batches)
    assert tried.failed == 0 and tried.attempted == 2


@pytest.mark.parametrize("seed", range(30))
def test_no_other_widths_leave_less_padding(seed):
    """Catches: a step of the search that takes the wrong half, a width for less than a batch. All sets of widths are tried."""
    random = np.random.default_rng(seed)
    lengths, most, least = random.integers(1, 12, random.integers(3, 25)), int(random.integers(1, 5)), int(random.integers(1, 6))

    def tokens(widths):
        bucket = np.searchsorted(widths, lengths)
        enough = len(widths) == 1 or np.bincount(bucket, minlength=len(widths)).min() >= least
        return np.asarray(widths)[bucket].sum() if enough else np.inf

    values = np.unique(lengths)
    sets = [[*some, values[-1]] for count in range(most) for some in itertools.combinations(values[:-1], count)]
    found = choose_widths(lengths, most, least)
    assert len(found) <= most and found == sorted(found) and tokens(found) == min(map(tokens, sets))
    assert padded_share(lengths, found) == pytest.approx(1 - lengths.sum() / tokens(found))


def numbered(lengths):
    """Prompts of these lengths, whose tokens are the number of their row, 10 and up."""
    prompts = pad_prompts([[row] * length for row, length in enumerate(lengths, 10)], max(lengths), 0)
    return Prompts(*prompts).numbered(first=10)


LENGTHS = [1, 2, 2, 5, 4, 5, 1, 2, 4, 9, 9, 8, 7, 2, 1]


def taken(count, prompts=None, size=3, widths=(2, 5, 9), seed=0, skip=0):
    return list(batches_of_like_length(numbered(LENGTHS) if prompts is None else prompts, size, list(widths), seed).skip(skip).take(count).as_numpy_iterator())


def test_batches_hold_whole_prompts_of_their_width():
    """Catches: a prompt that is cut, padded to another width than the least that holds it, or parted from its row; the mask of another one."""
    for batch in taken(40):
        assert isinstance(batch, NumberedPrompts) and batch.tokens.shape == batch.mask.shape and batch.rows.shape == (3,)
        width = batch.tokens.shape[1]
        for tokens, mask, row in zip(*batch):
            length = LENGTHS[row - 10]
            assert mask.tolist() == [0.0] * (width - length) + [1.0] * length and tokens[mask > 0].tolist() == [row] * length
            assert width == min(w for w in (2, 5, 9) if w >= length)
    assert {batch.tokens.shape[1] for batch in taken(40)} == {2, 5, 9}


def test_every_prompt_is_used_as_often_as_any_other():
    """Catches: prompts lost where a width has no whole number of batches, one order for every pass."""
    some = taken(50)
    counts = collections.Counter(row for batch in some for row in batch.rows)
    assert set(counts) == set(range(10, 25)) and max(counts.values()) - min(counts.values()) <= 2
    assert len({tuple(batch.rows) for batch in some}) > 25


def test_the_same_seed_goes_on_where_it_stopped():
    """Catches: a resumed run that practises other prompts."""
    whole, rest = taken(12), taken(5, skip=7)
    for one, other in zip(whole[7:], rest):
        assert all(np.array_equal(a, b) for a, b in zip(one, other))
    assert any(not np.array_equal(one.rows, other.rows) for one, other in zip(whole, taken(12, seed=1)))


def test_prompts_without_rows_and_too_narrow_widths():
    """Catches: `Prompts` that become something else, a longest prompt that is cut."""
    plain = Prompts(*numbered(LENGTHS)[:2])
    assert type(taken(1, plain)[0]) is Prompts
    with pytest.raises(InputError, match="the longest prompt has 9 tokens, but the widest batch 8"):
        taken(1, widths=(2, 8))


def test_settings_of_widths():
    """Catches: a setting without effect, or one for which nobody would wait."""
    assert QuestionAnsweringConfig(prompt_widths=4).prompt_widths == 4
    for widths in (0, 17):
        with pytest.raises(InputError, match=rf"prompt_widths={widths} is outside \[1, 16\]"):
            QuestionAnsweringConfig(prompt_widths=widths)
    with pytest.raises(InputError, match="prompt_widths=2 is for prompts of varied length, but these are beginnings of up to 5 tokens"):
        GenerationConfig(prompt_widths=2)


def test_a_learner_fits_batches_of_several_widths_and_goes_on():
    """Catches: a step that is compiled for one width only or anew for each batch, rows that are lost, other batches or draws after a stop."""
    prompts = pad_prompts([[4] * (row % 3 * 2 + 1) + [5] for row in range(24)], 6, 0).numbered()
    scored = []

    def learner():
        note = lambda prompt, response, row: scored.append((len(prompt.split()), row)) or float(len(response) + row % 2)
        reward = PythonReward(note, Words(), rows=[{"row": row} for row in range(24)])
        one = LanguagePPO(random_table(), reward, END, PAD, 3, PPOConfig(discount=1.0, epochs=1, minibatches=2), KLConfig(), seed=2, name="learner")
        one.compile(keras.optimizers.Adam(0.05), jit_compile=False)
        return one

    batches = batches_of_like_length(prompts, 4, [2, 6], seed=1)
    whole, half = learner(), learner()
    traced = []
    improve = whole.improve
    whole.improve = lambda trajectory: traced.append(trajectory.context) or improve(trajectory)
    whole.trace_again()
    shelved = []
    look = keras.callbacks.LambdaCallback(on_train_batch_end=lambda *_, **__: shelved.append(whole.shelf.content.trajectory.context))
    whole.fit(batches, steps_per_epoch=8, callbacks=[look], verbose=0)
    assert sorted(traced) == [1, 5] and shelved == [batch.tokens.shape[1] - 1 for batch in batches.take(8)]
    assert len(scored) == 32 and all(length == row % 3 * 2 + 2 for length, row in scored)
    half.fit(batches, steps_per_epoch=3, verbose=0)
    rest = learner()
    rest.restore(half.state())
    rest.fit(batches.skip(3), steps_per_epoch=5, verbose=0)
    for name, value in state_of(whole).items():
        assert np.array_equal(value, state_of(rest)[name]), name
