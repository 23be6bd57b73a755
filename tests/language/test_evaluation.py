"""`ppo_keras.language.evaluation`: the measures of the table, each against a few lines of NumPy."""

import numpy as np
import pytest
import tensorflow as tf

from helpers import END, PAD, TablePolicy, assert_close, random_table
from ppo_keras.language.evaluation import Evaluator, Responder, distinct, in_batches, label_measures
from ppo_keras.language.generation import Prompts

VOCABULARY = 6
UNIFORM = TablePolicy(VOCABULARY)


class Numbers:
    """A tokenizer for the tests: the text of ids is the ids."""

    end_id, pad_id = END, PAD

    def decode_batch(self, tokens, mask):
        return [" ".join(str(int(t)) for t, m in zip(row, real) if m > 0) for row, real in zip(np.asarray(tokens), np.asarray(mask))]

    def decode_pairs(self, prompts, responses):
        return self.decode_batch(prompts.tokens, prompts.mask), self.decode_batch(responses.tokens, responses.mask)


class TwoEnds(Numbers):
    """Like that of a checkpoint which knows a second end token."""

    end_ids = (END, 1)


def prompts_of(count):
    """`count` prompts of two tokens, the first of them padded to one."""
    tokens = np.array([[4, 1 + i % 5] for i in range(count)], np.int32)
    mask = np.ones([count, 2], np.float32)
    mask[0, 0] = 0
    return Prompts(tokens, mask)


def last_token(prompts, responses):
    """A score that names the row: the last token of its prompt."""
    return tf.cast(prompts.tokens[:, -1], tf.float32)


def evaluate(policy, reference=None, score=last_token, judge=None, count=40, length=7, temperature=0.7, batch_size=8, seed=0, tokenizer=None):
    prompts = prompts_of(count)
    return Evaluator(policy, reference or policy, score, judge, tokenizer or Numbers(), length, temperature, batch_size, jit_compile=False)(prompts, seed)


def token_log_probs(policy, prompts, responses, temperature):
    """float64 lists: the log-probability of each response token, from the table of the policy."""
    logits = policy.table.numpy().astype(np.float64) / temperature
    table = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    result = []
    for prompt, response in zip(prompts, responses):
        ids = [int(prompt.split()[-1]), *map(int, response.split())]
        result.append(table[ids[:-1], ids[1:]])
    return result


@pytest.mark.parametrize(
    "token_lists, n, expected",
    [([[1, 2, 1, 2]], 2, 2 / 3), ([[1, 2], [2, 1], [1, 2]], 1, 2 / 6), ([[1, 2], [2, 1], [1, 2]], 2, 2 / 3), ([[5, 5, 5, 5]], 2, 1 / 3),
     ([[1], [2]], 2, 0.0), ([], 1, 0.0), ([[1, 2, 3]], 3, 1.0)],
)  # fmt: skip
def test_distinct_by_hand(token_lists, n, expected):
    """Catches: n-grams across two responses, the last n-gram left out, a division by 0."""
    assert distinct(token_lists, n) == pytest.approx(expected)


def test_perplexity_of_a_uniform_reference_is_the_vocabulary():
    """Catches: padding counted in the perplexity, or a mean over responses instead of tokens."""
    result = evaluate(random_table(VOCABULARY), UNIFORM)
    assert 1 < result.length < 7  # so that there is padding
    assert_close(result.perplexity, VOCABULARY)


def test_a_writer_that_is_its_reference_has_kl_0():
    """Catches: two temperatures, or two networks, in one divergence."""
    result = evaluate(random_table(VOCABULARY, scale=2.0), temperature=0.5)
    assert_close(result.kl, 0.0, atol=1e-5)


def test_kl_and_perplexity_by_hand():
    """Catches: KL a token for KL a response, KL at temperature 1 or perplexity at the sampling temperature."""
    policy, reference = random_table(VOCABULARY, seed=1), random_table(VOCABULARY, seed=2)
    result = evaluate(policy, reference)
    pairs = result.prompts, result.responses
    ratios = [p.sum() - q.sum() for p, q in zip(token_log_probs(policy, *pairs, 0.7), token_log_probs(reference, *pairs, 0.7))]
    assert_close(result.kl, np.mean(ratios), rtol=1e-4)
    assert_close(result.perplexity, np.exp(-np.concatenate(token_log_probs(reference, *pairs, 1.0)).mean()), rtol=1e-4)


def test_lengths_ends_and_diversity_are_those_of_the_responses():
    """Catches: padding counted as tokens, the end token not counted, a response that used its whole length called unended."""
    result = evaluate(random_table(VOCABULARY))
    ids = [list(map(int, response.split())) for response in result.responses]
    assert_close(result.length, np.mean([len(row) for row in ids]))
    assert 0 < result.ended < 1
    assert_close(result.ended, np.mean([row[-1] == END for row in ids]))
    assert all(len(row) == 7 for row in ids if row[-1] != END) and all(END not in row[:-1] for row in ids)
    assert (result.distinct_1, result.distinct_2) == (distinct(ids, 1), distinct(ids, 2))


def test_any_of_several_end_tokens_ends_a_response():
    """Catches: responses that go on after the second end token of a tokenizer, or that end there and are not counted: the last tokens of the prompts are
    1, 2, 3, 4, 5, and 1 -> 4 -> 1 (end), 2 -> 3 (end), 3 -> 2 -> 3 (end), 4 -> 1 (end), 5 -> 5 -> ... never ends."""
    table = np.zeros([VOCABULARY] * 2)
    for token, following in {1: 4, 2: 3, 3: 2, 4: 1, 5: 5}.items():
        table[token, following] = 200.0
    policy = TablePolicy(VOCABULARY, table)
    result = evaluate(policy, count=5, length=3, tokenizer=TwoEnds())
    assert result.responses == ["4 1", "3", "2 3", "1", "5 5 5"] == Responder(policy, TwoEnds(), 3, 0.7, 8, jit_compile=False)(prompts_of(5), False, 0)
    assert_close([result.ended, result.length], [4 / 5, 9 / 5])
    alone = evaluate(policy, count=5, length=3)  # of a tokenizer that knows `end_id` only
    assert alone.responses == ["4 1 4", "3", "2 3", "1 4 1", "5 5 5"]
    assert_close(alone.ended, 2 / 5)


@pytest.mark.parametrize("count, batch_size", [(5, 4), (3, 8), (8, 4)])
def test_every_prompt_counts_once(count, batch_size):
    """Catches: the rows that fill up the last batch measured too, prompts left out, or rows of two batches mixed up."""
    result = evaluate(random_table(VOCABULARY), count=count, batch_size=batch_size)
    expected = [1 + i % 5 for i in range(count)]
    assert_close(result.scores, expected)
    assert_close(result.reward, np.mean(expected))
    assert [int(prompt.split()[-1]) for prompt in result.prompts] == expected
    assert result.prompts[0] == "1" and len(result.responses) == count
    ids = [response.split() for response in result.responses]
    assert_close(result.length, np.mean([len(row) for row in ids]))


def test_the_share_judged_positive():
    """Catches: a threshold other than 0 (log-odds), or filling rows judged too; and without a judge there is no share."""
    judge = lambda prompts, responses: last_token(prompts, responses) - 2.0  # -1, 0, 1, 2, 3
    assert_close(evaluate(UNIFORM, judge=judge, count=5, batch_size=4).positive, 3 / 5)
    assert evaluate(UNIFORM, judge=None).positive is None


def test_the_seed_decides_and_batches_differ():
    """Catches: the same draws in every batch, or a seed that is not used."""
    one, same, other = (evaluate(UNIFORM, seed=seed, count=16, batch_size=8).responses for seed in (3, 3, 4))
    assert one == same != other
    assert one[:8] != one[8:]


def test_evaluation_compiles_once():
    """Catches: a second trace for the last, smaller batch."""
    traces = []

    def judge(prompts, responses):
        traces.append((prompts.tokens.shape, responses.tokens.shape))
        return tf.zeros_like(responses.mask[:, 0])

    evaluate(UNIFORM, judge=judge, count=19, batch_size=8)
    assert traces == [((8, 2), (8, 7))]


def test_an_evaluator_follows_its_policy_without_a_new_trace():
    """Catches: the writer measured as it was before its training, or one compilation for every evaluation."""
    policy, other = random_table(VOCABULARY, seed=1), random_table(VOCABULARY, seed=2)
    evaluator = Evaluator(policy, UNIFORM, last_token, None, Numbers(), 7, 0.7, 8, jit_compile=False)
    before = evaluator(prompts_of(5), 0)
    policy.table.assign(other.table)
    after, expected = evaluator(prompts_of(5), 0), evaluate(other, UNIFORM, count=5)
    assert after.responses == expected.responses != before.responses and after.kl == expected.kl
    assert evaluator.respond.experimental_get_tracing_count() == 1


@pytest.mark.parametrize("count, size, sizes", [(5, 4, 2), (3, 8, 1), (8, 4, 2), (1, 1, 1), (9, 2, 5)])
def test_in_batches_gives_every_row_once_and_in_order(count, size, sizes):
    """Catches: a smaller last batch (a second trace), rows that fill it up kept, the last batch first, a mask of other rows."""
    prompts, seen = prompts_of(count)._replace(tokens=np.arange(2 * count, dtype=np.int32).reshape(count, 2)), []

    def look(batch, draw):
        seen.append((batch.tokens.shape, batch.mask.shape, tuple(draw.numpy())))
        return tf.reduce_sum(batch.tokens, axis=1), batch.mask

    total, mask = in_batches(look, prompts, size, seed=7)
    assert total.tolist() == [4 * i + 1 for i in range(count)] and mask.tolist() == prompts.mask.tolist()
    assert len(seen) == sizes and all(shapes == [(size, 2), (size, 2)] for *shapes, _ in seen)
    assert len({draw for *_, draw in seen}) == sizes and all(draw[0] == 7 for *_, draw in seen)  # batches draw differently


class Spaced(Numbers):
    """The text of a response begins with a space and ends in a line feed."""

    def decode_pairs(self, prompts, responses):
        first, second = super().decode_pairs(prompts, responses)
        return first, [f" {text}\n" for text in second]


def argmax_unroll(policy, prompts, length=7):
    """The greedy response to each prompt by a plain loop over the table."""
    best, texts = policy.table.numpy().argmax(-1), []
    for token in np.asarray(prompts.tokens)[:, -1]:
        ids = []
        while len(ids) < length and END not in ids:
            token = best[token]
            ids.append(int(token))
        texts.append(" ".join(map(str, ids)))
    return texts


@pytest.mark.parametrize("count, batch_size", [(5, 4), (3, 8), (8, 4)])
def test_greedy_responses_are_an_argmax_unroll(count, batch_size):
    """Catches: a sample for the argmax, responses to the filling rows, two batches exchanged, the prompt in the text, spaces around it."""
    policy = random_table(VOCABULARY, seed=38)
    expected = argmax_unroll(policy, prompts_of(count))
    assert len(set(expected)) > 2
    responder = Responder(policy, Spaced(), 7, 0.7, batch_size, jit_compile=False)
    assert responder(prompts_of(count), True, 0) == expected == responder(prompts_of(count), True, 1)


def test_a_responder_follows_its_policy_without_a_new_trace():
    """Catches: weights that are frozen into the compiled function, or one compilation for every evaluation."""
    policy, prompts = random_table(VOCABULARY, seed=38), prompts_of(5)
    responder = Responder(policy, Numbers(), 7, 0.7, 4, jit_compile=True)
    before = responder(prompts, True, 0), responder(prompts, False, 0)
    traces = responder.respond.experimental_get_tracing_count()
    policy.table.assign(random_table(VOCABULARY, seed=55).table)
    after = responder(prompts, True, 3), responder(prompts, False, 0)
    assert after[0] == argmax_unroll(policy, prompts) != before[0] and after[1] != before[1]
    assert responder.respond.experimental_get_tracing_count() == traces == 2  # greedy, sampled


def test_sampled_responses_depend_on_the_seed_and_the_temperature():
    """Catches: `greedy` that is always on, a seed or a temperature that is not used (at 0.001 a sample is the argmax)."""
    policy, prompts = random_table(VOCABULARY, seed=38), prompts_of(16)
    respond = lambda seed, temperature=1.0: Responder(policy, Numbers(), 7, temperature, 8, jit_compile=False)(prompts, False, seed)
    assert respond(1) == respond(1) != respond(2)
    assert respond(1, temperature=0.001) == argmax_unroll(policy, prompts) != respond(1)


def test_label_measures_by_hand():
    """Catches: costs transposed, F1 weighed by how often a label is, or a label that is never chosen left out (its F1 is 0)."""
    labels, chosen = [0, 0, 0, 1, 1, 2], [0, 0, 1, 1, 0, 0]
    costs = [[0, 1, 7], [10, 0, 9], [100, 6, 0]]
    measures = label_measures(labels, np.array(chosen), costs)
    # label 0: 2 right, 4 chosen, 3 real; label 1: 1 right, 2 chosen, 2 real; label 2: never chosen
    assert measures == {
        "accuracy": pytest.approx(3 / 6), "macro_f1": pytest.approx((4 / 7 + 2 / 4 + 0) / 3), "cost": pytest.approx((1 + 10 + 100) / 6)
    }  # fmt: skip


def test_label_measures_of_extremes():
    """Catches: 0 / 0 for a label that is nowhere, and best values that are not 1, 1, 0."""
    costs = 1.0 - np.eye(3)
    assert label_measures([0, 1, 2], [0, 1, 2], costs) == {"accuracy": 1.0, "macro_f1": 1.0, "cost": 0.0}
    assert label_measures([0, 1], [0, 1], costs) == {"accuracy": 1.0, "macro_f1": pytest.approx(2 / 3), "cost": 0.0}
    assert label_measures([0, 1], [1, 0], costs) == {"accuracy": 0.0, "macro_f1": 0.0, "cost": 1.0}
