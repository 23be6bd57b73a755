"""`ppo_keras.language.rewards`: a learned score, and any Python function."""

import os
import sys
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf

from helpers import NETWORKS, VOCABULARY, assert_close, ragged_prompts, tiny_policy, tiny_reward, weights_of
from ppo_keras import PythonReward, ReferenceReward, RewardModel, Tokenizer
from ppo_keras.errors import InputError, RewardError
from ppo_keras.language.generation import NumberedPrompts, Prompts, Responses
from ppo_keras.language.reward_function import load_function
from ppo_keras.language.rewards import LabelModel, PreferenceModel, score_responses

every_network = pytest.mark.parametrize("network", NETWORKS)


class Words:
    """A tokenizer for the tests: the text of ids is the ids."""

    def decode_batch(self, tokens, mask):
        return [" ".join(str(int(t)) for t, m in zip(row, real) if m > 0) for row, real in zip(tokens, mask)]

    def decode_pairs(self, prompts, responses):
        return self.decode_batch(prompts.tokens, prompts.mask), self.decode_batch(responses.tokens, responses.mask)


PROMPTS = Prompts(tf.constant([[0, 5], [6, 7]]), tf.constant([[0.0, 1], [1, 1]]))
RESPONSES = Responses(tf.constant([[8, 3, 0], [9, 9, 9]]), tf.constant([[1.0, 1, 0], [1, 1, 1]]), None, None)


@every_network
def test_the_score_is_the_head_of_the_mean_hidden_state(network):
    """Catches: a mean over padding, or a head on another state."""
    model = tiny_reward(network)
    tokens, mask = ragged_prompts((3, 5), 5)
    kernel, bias = model.head.get_weights()
    for i, length in enumerate((3, 5)):
        hidden = model.encoder(tokens[i : i + 1, 5 - length :])[0][0].numpy().astype(np.float64)
        assert_close(model((tokens, mask))[i], (hidden.mean(0) @ kernel + bias)[0], atol=1e-5)


@every_network
@pytest.mark.parametrize("side", ["left", "right", "both"])
def test_padding_changes_no_score(network, side):
    """Text 2, 10. Catches: a score that depends on the side, the width or the ids of the padding."""
    model = tiny_reward(network, layers=2)
    tokens, mask = ragged_prompts((4, 4), 4)
    amount = [(side != "right") * 3, (side != "left") * 2]
    padded = tf.pad(tokens, [[0, 0], amount], constant_values=11), tf.pad(mask, [[0, 0], amount])
    assert_close(model(padded), model((tokens, mask)), atol=1e-5)


@every_network
def test_a_response_is_scored_behind_its_prompt(network):
    """Catches: the response alone scored, or its padding, or the gap of a left-padded prompt seen by the network."""
    model = tiny_reward(network)
    alone = [model((tf.constant([text]), tf.ones([1, len(text)])))[0] for text in ([5, 8, 3], [6, 7, 9, 9, 9])]
    assert_close(score_responses(model, PROMPTS, RESPONSES), alone, atol=1e-5)


@every_network
def test_dropout_is_off_when_scoring(network):
    """Text 4. Catches: a reward with dropout noise."""
    model = tiny_reward(network, dropout=0.5)  # in the encoder and before the head
    scores = score_responses(model, PROMPTS, RESPONSES)
    assert_close(score_responses(model, PROMPTS, RESPONSES), scores, rtol=0, atol=0)
    assert_close(scores, score_responses(tiny_reward(network), PROMPTS, RESPONSES), rtol=0, atol=0)
    texts = tf.concat([PROMPTS.tokens, RESPONSES.tokens], 1), tf.concat([PROMPTS.mask, RESPONSES.mask], 1)
    assert np.abs(model(texts, training=True) - scores).max() > 1e-4


@every_network
def test_reward_model_file_round_trip(network, tmp_path):
    """Text 21. Catches: a weight or setting of a reward model that its `.keras` file does not hold."""
    model = tiny_reward(network, dropout=0.25)
    model.save(tmp_path / "reward.keras")
    loaded = keras.models.load_model(tmp_path / "reward.keras")
    assert type(loaded) is RewardModel and loaded.dropout.rate == 0.25 and loaded.name == "reward"
    assert_close(score_responses(loaded, PROMPTS, RESPONSES), score_responses(model, PROMPTS, RESPONSES), rtol=0, atol=0)


def test_scores_are_float32_under_mixed_precision():
    """Text 19. Catches: a bfloat16 score."""
    keras.config.set_dtype_policy("mixed_bfloat16")
    assert score_responses(tiny_reward(), PROMPTS, RESPONSES).dtype == tf.float32


def test_preferences_are_differences_of_scores_and_can_be_learned():
    """Catches: chosen and rejected exchanged (the loss of 60 steps must fall, and the chosen text end ahead)."""
    reward = tiny_reward("lstm")
    model = PreferenceModel(reward)
    chosen, rejected = ragged_prompts((4, 2), 4, seed=1), ragged_prompts((3, 4), 4, seed=2)
    assert_close(model((*chosen, *rejected)), (reward(tuple(chosen)) - reward(tuple(rejected)))[:, tf.newaxis])
    model.compile(keras.optimizers.Adam(0.02), keras.losses.BinaryCrossentropy(from_logits=True), jit_compile=False)
    history = model.fit((*chosen, *rejected), np.ones([2, 1]), batch_size=2, epochs=30, verbose=0).history["loss"]
    assert history[-1] < 0.1 * max(history[0], 0.5)
    assert np.all(model((*chosen, *rejected)) > 1)


@pytest.mark.full  # test_supervised learns labels too
def test_labels_are_learned_by_the_score_itself():
    """Catches: a column `(B,)` that Keras's losses take for one text, labels exchanged, or a copy trained in the model's place."""
    reward, texts = tiny_reward("lstm"), ragged_prompts((4, 2), 4, seed=1)
    model = LabelModel(reward)
    assert model(tuple(texts)).shape == (2, 1)
    assert_close(model(tuple(texts))[:, 0], reward(tuple(texts)))
    model.compile(keras.optimizers.Adam(0.02), keras.losses.BinaryCrossentropy(from_logits=True), jit_compile=False)
    model.fit(tuple(texts), np.array([[0.0], [1.0]]), batch_size=2, epochs=30, verbose=0)
    low, high = reward(tuple(texts))
    assert low < -1 and high > 1


@every_network
def test_several_outputs_are_the_logits_of_the_labels(network):
    """Catches: the first output alone, outputs summed, or (B, K) confused with (K, B)."""
    model, (tokens, mask) = tiny_reward(network, outputs=3), ragged_prompts((3, 5), 5)
    kernel, bias = (np.asarray(w, np.float64) for w in model.head.get_weights())
    logits = model((tokens, mask))
    assert logits.shape == (2, 3) and logits.dtype == tf.float32
    for i, length in enumerate((3, 5)):
        hidden = model.encoder(tokens[i : i + 1, 5 - length :])[0][0].numpy().astype(np.float64)
        assert_close(logits[i], hidden.mean(0) @ kernel + bias, atol=1e-5)
    assert score_responses(model, PROMPTS, RESPONSES).shape == (2, 3)
    assert_close(LabelModel(model)((tokens, mask)), logits[:, tf.newaxis], rtol=0, atol=0)


def test_settings_and_file_of_several_outputs(tmp_path):
    """Text 21. Catches: `outputs` that `get_config` leaves out, so that a file no longer fits its head."""
    model = tiny_reward(outputs=3, dropout=0.25)
    model.save(tmp_path / "reward.keras")
    rebuilt = RewardModel.from_config(model.get_config())
    rebuilt.set_weights(model.get_weights())
    for twin in (keras.models.load_model(tmp_path / "reward.keras"), rebuilt):
        assert twin.outputs == 3 and twin.get_config() == model.get_config()
        assert_close(score_responses(twin, PROMPTS, RESPONSES), score_responses(model, PROMPTS, RESPONSES), rtol=0, atol=0)


@pytest.mark.parametrize("convert", [int, float, np.float32, np.int64, np.array, lambda x: np.array([x]), bool])
def test_any_number_becomes_float32(convert):
    """Text 19. Catches: integer rewards, and numbers of NumPy that are refused."""
    scores = PythonReward(lambda prompt, response: convert(len(response)), Words())(PROMPTS, RESPONSES)
    assert scores.dtype == tf.float32
    assert_close(scores, np.array([3.0, 5.0]) if convert is not bool else [1.0, 1.0])


def test_the_function_sees_prompt_and_response_without_padding():
    """Catches: padding in the texts, prompt and response exchanged, or pairs mixed up between rows."""
    seen = []
    PythonReward(lambda *pair: seen.append(pair) or 0.0, Words())(PROMPTS, RESPONSES)
    assert seen == [("5", "8 3"), ("6 7", "9 9 9")]


@pytest.mark.parametrize("bad", [None, "good", float("nan"), float("inf"), [1.0, 2.0], np.array([1.0, 2.0]), 1j])
def test_what_is_not_one_finite_number_is_an_error(bad):
    """Catches: NaN, None or a list that reaches the loss; the message names the reward and the prompt."""
    with pytest.raises(RewardError, match="politeness.*'5'"):
        PythonReward(lambda *_: bad, Words(), name="politeness")(PROMPTS, RESPONSES)


def test_an_exception_names_its_prompt():
    """Catches: a bare traceback that does not say for which text the user's function failed."""

    def fails(prompt, response):
        return 1 / 0

    with pytest.raises(RewardError, match="fails raised ZeroDivisionError.*prompt '5'.*'8 3'") as error:
        PythonReward(fails, Words())(PROMPTS, RESPONSES)
    assert isinstance(error.value.__cause__, ZeroDivisionError)


def test_references_are_found_by_row_not_by_text():
    """Catches: two prompts of one text that share the references of the last, rows taken for places in the batch."""
    seen = []
    reward = ReferenceReward(lambda *pair: seen.append(pair) or float(len(pair[1])), [["a"], ["b", "c"], ["d"]], Words(), "likeness")
    same = Prompts(tf.constant([[6, 7], [6, 7]]), tf.ones([2, 2]))
    scores = reward(NumberedPrompts(*same, tf.constant([2, 1])), RESPONSES)
    assert seen == [("8 3", ["d"]), ("9 9 9", ["b", "c"])] and scores.dtype == tf.float32
    assert_close(scores, [1.0, 2.0])
    with pytest.raises(InputError, match="likeness finds references by row, but the prompts have none. Use Prompts.numbered()"):
        reward(same, RESPONSES)
    for rows in ([0, 3], [-1, 0]):
        with pytest.raises(InputError, match=r"the prompts have rows from .* but reward likeness knows those from 0 to 2"):
            reward(NumberedPrompts(*same, tf.constant(rows)), RESPONSES)
    with pytest.raises(RewardError, match="likeness raised ZeroDivisionError.*prompt 'where', response ' x'"):
        ReferenceReward(lambda *_: 1 / 0, [["a"]], Words(), "likeness").score("where", " x", 0)


def test_a_reward_encoder_is_its_own():
    """Text 18. Catches: a reward model that shares its encoder with the policy, and so is trained with it."""
    policy = tiny_policy()
    model = RewardModel(policy.new_encoder())
    assert not {id(v) for v in model.variables} & {id(v) for v in policy.variables}
    assert [w.shape for w in weights_of(model.encoder)] == [w.shape for w in weights_of(policy.encoder)]
    assert model.encoder.embedding.input_dim == VOCABULARY


def test_a_function_is_found_by_its_name(tmp_path, monkeypatch):
    """Catches: a module of the current folder that is not found, or a misspelt name that ends in a traceback."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "rewards_of_a_test.py").write_text("def brevity(prompt, response):\n    return -len(response)\n")
    (tmp_path / "broken_rewards_of_a_test.py").write_text("1 / 0\n")
    assert load_function("rewards_of_a_test:brevity")("a", "bcd") == -3
    for name, message in [
        ("rewards_of_a_test", "module:function"),
        (":brevity", "module:function"),
        ("rewards_of_a_test:levity", "no function 'levity'; it has brevity"),
        ("no_such_rewards:brevity", "ModuleNotFoundError"),
        ("broken_rewards_of_a_test:brevity", "ZeroDivisionError"),
    ]:
        with pytest.raises(InputError, match=message):
            load_function(name)


@pytest.mark.parametrize(
    "function, tokenizer, said",
    [
        (None, Tokenizer, "a reward was given None, expected a function"),
        ("len", Tokenizer, "a reward was given 'len', expected a function"),
        (len, None, "the tokenizer of a reward is None, which has no decode_pairs"),
        (len, Tokenizer, "the tokenizer of a reward is the class Tokenizer"),
        (len, len, "the tokenizer of a reward is <built-in function len>.*Give the function first"),
    ],
)
def test_what_makes_no_python_reward(function, tokenizer, said):
    """Catches: function and tokenizer exchanged, or one of them missing, found in the first iteration."""
    with pytest.raises(InputError, match=said):
        PythonReward(function, tokenizer)


@pytest.mark.parametrize("score", [1e39, -1e39, 10**400, float("inf"), float("nan")])
def test_a_score_that_float32_cannot_hold(score):
    """Catches: a finite number that is infinite in float32, and trains to NaN."""
    with pytest.raises(RewardError, match="It must return one finite number"):
        PythonReward(lambda prompt, response: score, SimpleNamespace(decode_pairs=None)).score("a", "b")


# Columns, lists, parts, processes.


ROWS = [{"answer": "8"}, {"answer": "9"}, {"answer": "3"}]


def numbered(*rows):
    """`PROMPTS` with these rows."""
    return NumberedPrompts(*PROMPTS, tf.constant(rows))


def test_columns_are_found_by_row():
    """Catches: rows taken for places in the batch, scores of another response, a row that is not there."""
    holds = PythonReward(lambda prompt, response, answer: float(answer in response.split()), Words(), "holds", rows=ROWS)
    assert holds.needs_rows
    assert holds(numbered(0, 1), RESPONSES).numpy().tolist() == [1.0, 1.0]  # "8 3" and "9 9 9"
    assert holds(numbered(1, 2), RESPONSES).numpy().tolist() == [0.0, 0.0]
    assert holds(numbered(2, 0), RESPONSES).numpy().tolist() == [1.0, 0.0]
    assert holds.score("6 7", "9 9", row=1) == 1.0 and holds.parts == {}
    with pytest.raises(InputError, match="reward holds finds answer by row, but the prompts have none"):
        holds(PROMPTS, RESPONSES)
    with pytest.raises(InputError, match="rows from 0 to 3, but reward holds knows those from 0 to 2"):
        holds(numbered(0, 3), RESPONSES)
    with pytest.raises(InputError, match="reward f reads answer of the data. Give PythonReward"):
        PythonReward(lambda prompt, response, answer: 0.0, Words(), "f")(numbered(0, 1), RESPONSES)


def test_columns_with_defaults_need_no_rows():
    """Catches: a prompt that somebody types and that has no score, though the reward can do without a row."""
    reward = PythonReward(lambda prompt, response, answer="9": float(answer in response), Words(), rows=ROWS)
    assert not reward.needs_rows
    assert reward(PROMPTS, RESPONSES).numpy().tolist() == [0.0, 1.0]
    assert reward(numbered(0, 2), RESPONSES).numpy().tolist() == [1.0, 0.0]


@pytest.mark.parametrize(
    "function, reads",
    [
        (lambda prompt, response: 0.0, False),
        (lambda prompt, response, answer: 0.0, True),
        (lambda prompt, response, answer="9": 0.0, True),
        (lambda prompt, response, most_words=9: 0.0, False),
        (lambda prompt, response, **columns: 0.0, True),
    ],
)
def test_what_is_typed_has_a_score_where_no_column_is_read(function, reads):
    """Catches: `chat` that ends each response in an error, or scores it without the schema that the data have, where a column has a default."""
    assert PythonReward(function, Words(), rows=ROWS).reads_rows is reads


def test_lists_in_one_call():
    """Catches: a function of lists that is called once a response, columns in another order than the responses."""
    seen = []

    def lengths(prompts, completions, answer):
        seen.append((prompts, completions, answer))
        return [float(len(text)) for text in completions]

    reward = PythonReward(lengths, Words(), rows=ROWS)
    assert reward(numbered(2, 0), RESPONSES).numpy().tolist() == [3.0, 5.0]
    assert seen == [(["5", "6 7"], ["8 3", "9 9 9"], ["3", "8"])]
    assert reward.score("x", "four", row=1) == 4.0
    array = PythonReward(lambda a, b: np.arange(len(a)), Words(), batched=True)
    assert array(PROMPTS, RESPONSES).numpy().tolist() == [0.0, 1.0]


@pytest.mark.parametrize(
    "returned, said",
    [
        ([1.0], "returned 1 value for 2 responses"),
        ([1.0, 2.0, 3.0], "returned 3 values for 2 responses"),
        (np.zeros(3), "returned 3 values for 2 responses"),
        (1.0, "returned 1.0 for 2 responses"),
        (np.float32(1.0), "for 2 responses"),
        ([[1.0, 2.0], [3.0]], r"returned \[1.0, 2.0\] for the prompt"),
        ({"a": [1.0, 2.0]}, r"returned \{'a': \[1.0, 2.0\]\} for 2 responses"),
        (None, "returned None for 2 responses"),
        ([1.0, None], "returned None for the prompt '6 7'"),
        ([1.0, float("nan")], "returned nan for the prompt '6 7'"),
        ([1.0, {"a": 1.0}], "returned the parts a for the prompt '6 7', but one number before"),
    ],
    ids=str,
)
def test_a_wrong_number_of_values(returned, said):
    """Catches: scores given to other responses than theirs."""
    with pytest.raises(RewardError, match=f"^reward many .*{said}"):
        PythonReward(lambda prompts, responses: returned, Words(), "many")(PROMPTS, RESPONSES)


def test_a_batch_that_raises_is_named():
    """Catches: the first prompt blamed for what a whole batch did."""
    with pytest.raises(RewardError, match=r"^reward many raised ZeroDivisionError: .* \(a batch of 2 responses\)"):
        PythonReward(lambda prompts, responses: 1 / 0, Words(), "many")(PROMPTS, RESPONSES)


def parts_of(prompt, response):
    return {"short": float(len(response) < 4), "count": response.count("9")}


def test_parts_and_their_weighted_sum_by_hand():
    """Catches: a weight that is not used or given to another part, a mean of one response, the parts of an earlier call."""
    reward = PythonReward(parts_of, Words(), weights={"count": 0.5})
    assert reward(PROMPTS, RESPONSES).numpy().tolist() == [1.0, 1.5]  # 1 + .5 * 0, 0 + .5 * 3
    assert reward.parts == {"reward/count": 1.5, "reward/short": 0.5}
    reward.score("a", "b")
    assert reward.parts == {"reward/count": 1.5, "reward/short": 0.5}  # a single look is no batch
    reward(PROMPTS, Responses(RESPONSES.tokens[:, :1], RESPONSES.mask[:, :1], None, None))
    assert reward.parts == {"reward/count": 0.5, "reward/short": 1.0}
    plain = PythonReward(parts_of, Words())
    assert plain(PROMPTS, RESPONSES).numpy().tolist() == [1.0, 3.0]
    lists = PythonReward(lambda prompts, responses: list(map(parts_of, prompts, responses)), Words(), weights={"short": -1, "count": 0.5})
    assert lists(PROMPTS, RESPONSES).numpy().tolist() == [-1.0, 1.5]


@pytest.mark.parametrize(
    "function, said",
    [
        (lambda prompt, response: {"a": 1.0} if prompt == "5" else {"b": 1.0}, "returned the parts b for the prompt '6 7', but the parts a before"),
        (lambda prompt, response: {"a": 1.0} if prompt == "5" else {"a": 1.0, "b": 1.0}, "returned the parts a, b for the prompt '6 7'"),
        (lambda prompt, response: {"a": 1.0} if prompt == "5" else 1.0, "returned one number for the prompt '6 7', but the parts a before"),
        (lambda prompt, response: {"a": "good"}, "returned 'good' as the part 'a' for the prompt '5'"),
        (lambda prompt, response: {"a": float("inf")}, "returned inf as the part 'a'"),
        (lambda prompt, response: {"a": 2e38, "b": 2e38}, "returned a weighted sum of 4e\\+38"),
        (lambda prompt, response: {}, r"returned \{\} for the prompt"),
        (lambda prompt, response: {1: 1.0}, "returned a part called 1 for"),
        (lambda prompt, response: {"a=b": 1.0}, "returned a part called 'a=b' for"),
        (lambda prompt, response: {"loss": 1.0}, "returned a part called 'loss', which is a figure of a reward model's training"),
    ],
)
def test_parts_that_cannot_be_used(function, said):
    """Catches: parts that are unlike, whose sums then mean different things; a part that is no number."""
    with pytest.raises(RewardError, match=f"^reward mixed {said}"):
        PythonReward(function, Words(), "mixed")(PROMPTS, RESPONSES)


def test_weights_of_parts_that_are_not_there():
    """Catches: a misspelt weight that changes nothing."""
    with pytest.raises(InputError, match="there is a weight of shrt, but reward parts_of has the parts count, short. Did you mean 'short'"):
        PythonReward(parts_of, Words(), weights={"shrt": 2.0})(PROMPTS, RESPONSES)
    with pytest.raises(InputError, match="there is a weight of a, but reward one returns one number, without parts"):
        PythonReward(lambda *_: 1.0, Words(), "one", weights={"a": 2.0}).score("a", "b")


@pytest.fixture
def slow_rewards(tmp_path, monkeypatch):
    """A module of rewards in the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    body = "import os, time\n"
    body += "def parts(prompt, response, answer): return {'right': float(answer in response), 'process': float(os.getpid())}\n"
    body += "def lists(prompts, responses, answer): return [float(len(prompts))] * len(prompts)\n"
    body += "def hangs(prompt, response): time.sleep(600 * (prompt == '6 7')); return 0.0\n"
    body += "def dies(prompt, response): os._exit(3)\n"
    body += "def hangs_on_lists(prompts, responses): time.sleep(600)\n"
    (tmp_path / "slow_rewards_of_a_test.py").write_text(body)
    made = []
    yield lambda name, **more: made.append(PythonReward(f"slow_rewards_of_a_test:{name}", Words(), **more)) or made[-1]
    for reward in made:
        reward.close()
        assert not getattr(reward.run, "running", [])
    sys.modules.pop("slow_rewards_of_a_test", None)


def test_processes_give_the_same_scores(slow_rewards):
    """Catches: columns, parts or weights that get lost on the way to a process, a list that each process is given whole."""
    reward = slow_rewards("parts", rows=ROWS, processes=2, weights={"process": 0.0})
    assert reward(numbered(0, 2), RESPONSES).numpy().tolist() == [1.0, 0.0]
    assert reward.parts["reward/right"] == 0.5 and reward.parts["reward/process"] != os.getpid()
    assert slow_rewards("parts", rows=ROWS, weights={"process": 0.0})(numbered(0, 2), RESPONSES).numpy().tolist() == [1.0, 0.0]
    lists = slow_rewards("lists", rows=ROWS, processes=2)
    assert lists(numbered(0, 2), RESPONSES).numpy().tolist() == [1.0, 1.0] and lists.name == "slow_rewards_of_a_test:lists"
    assert slow_rewards("lists", rows=ROWS)(numbered(0, 2), RESPONSES).numpy().tolist() == [2.0, 2.0]


def test_a_reward_that_hangs_or_dies_is_one_error(slow_rewards):
    """Catches: a limit without a process that is not kept, an error that is none of those that save the run, another prompt named."""
    with pytest.raises(RewardError, match=r"^reward \S+:hangs took longer than 2 seconds \(prompt '6 7', response '9 9 9'\)\.$"):
        slow_rewards("hangs", timeout=2.0)(PROMPTS, RESPONSES)
    with pytest.raises(RewardError, match=r"^reward \S+:dies ended its process with exit code 3 \(prompt '5', response '8 3'\)\.$"):
        slow_rewards("dies", processes=1)(PROMPTS, RESPONSES)
    with pytest.raises(RewardError, match=r"took longer than 0.1 seconds \(a batch of 2 responses\)"):
        slow_rewards("hangs_on_lists", timeout=0.1)(PROMPTS, RESPONSES)


def test_what_cannot_run_in_a_process():
    """Catches: a function that a process cannot find, and that would run in this one without its limit."""
    for more in (dict(processes=2), dict(timeout=1.0)):
        with pytest.raises(InputError, match="find it by its name only. Put it into a file, and give 'module:function'"):
            PythonReward(parts_of, Words(), **more)
    with pytest.raises(InputError, match="timeout=0 is not positive"):
        PythonReward(parts_of, Words(), timeout=0)
    with pytest.raises(InputError, match="processes=-1 is no whole number"):
        PythonReward(parts_of, Words(), processes=-1)
