"""`ppo_keras.runs.views`: what is shown is what the learner did, and looking changes nothing."""

import types

import keras
import numpy as np
import pytest
import tensorflow as tf
from matplotlib.figure import Figure
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from helpers import (
    assert_close,
    fit_iterations,
    ragged_prompts,
    state_of,
    tags_of,
    tiny_learner,
    tiny_policy,
)
from ppo_keras import EnvironmentPPO, GridWorld, LanguagePPO, PPOConfig, RewardModel
from ppo_keras.config import OptimizerConfig
from ppo_keras.environments.config import EnvironmentConfig
from ppo_keras.language.generation import Prompts, generate
from ppo_keras.networks.actor_critic import new_policy
from ppo_keras.networks.adapters import add_adapters, reference_of
from ppo_keras.runs import views
from ppo_keras.runs.folder import Run
from ppo_keras.runs.recording import Board, Cadence, EnvironmentRecorder, Recorder
from ppo_keras.tasks.config import TextConfig


class Letters:
    """A tokenizer of letters."""

    def pieces(self, ids):
        return [chr(97 + int(i)) for i in ids]

    def decode_pairs(self, *both):
        return [["".join(self.pieces(np.asarray(t)[np.asarray(m) > 0])) for t, m in zip(part.tokens, part.mask)] for part in both]


HELD_OUT = Prompts(*[part.numpy() for part in ragged_prompts((2, 1), 2, vocabulary_size=6)])


def board(*shown, every=1, last=3):
    return Board("generation", TextConfig(), Cadence(every, last), shown)


def events_of(run):
    events = EventAccumulator(str(run.folder), size_guidance={"tensors": 0})
    events.Reload()
    return events


def histogram(events, tag, at=-1):
    """Least and greatest edge, and how many values there are."""
    buckets = tf.make_ndarray(events.Tensors(tag)[at].tensor_proto)
    return buckets[0, 0], buckets[-1, 1], buckets[:, 2].sum()


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """Three iterations of a learner with all views, its events, and its trajectory of the last one."""
    keras.utils.set_random_seed(0)
    run, learner = Run.create(tmp_path_factory.mktemp("runs"), "run"), tiny_learner()
    fit_iterations(learner, 3, [Recorder(run, 4, board(views.BatchHistograms(True), views.HeldOutResponses(HELD_OUT, Letters(), 7)))])
    experience = tf.nest.map_structure(lambda x: x.numpy(), learner.shelf.content)
    return types.SimpleNamespace(learner=learner, events=events_of(run), experience=experience)


def test_looking_changes_no_bit(shown):
    """Catches: a view that draws of the learner's random numbers, moves its KL coefficient, its counters or its weights."""
    blind = tiny_learner()
    fit_iterations(blind, 3)
    one, other = state_of(blind), state_of(shown.learner)
    assert [name for name in one if one[name].tobytes() != other[name].tobytes()] == []


def test_an_agent_that_is_looked_at_learns_the_same(tmp_path):
    """Catches: a step of several iterations whose numbers depend on what is shown of them."""

    policy = new_policy("transformer", 4, 4, width=8, layers=1, heads=2, memory=4, shared=True)
    agent = EnvironmentPPO(policy, GridWorld.article(), PPOConfig(epochs=1, minibatches=2), 4, 8, iterations_per_call=2, seed=3)
    agent.compile(OptimizerConfig(0.01).build(100), jit_compile=False)
    run, weights = Run.create(tmp_path, "run"), []
    look = Board("gridworld", EnvironmentConfig(), Cadence(4, 6), (views.BatchHistograms(True), views.RolloutAttention()))
    for callbacks in ([], [EnvironmentRecorder(run, look)]):
        agent.restart(3)
        agent.fit(steps_per_epoch=3, callbacks=callbacks, verbose=0)
        weights.append(agent.get_weights())
    assert all(np.array_equal(*pair) for pair in zip(*weights))
    events = events_of(run)
    assert [event.step for event in events.Tensors("batch/ratio")] == [4 * 32, 6 * 32]  # calls end at iterations 2, 4 and 6
    assert histogram(events, "batch/ratio")[2] == 32 and "attention/policy" in tags_of(events, "images")


def test_histograms_are_of_the_real_steps(shown):
    """Catches: padding counted, another iteration's numbers, rewards for values, a ratio of the policy that acted to itself."""
    trajectory, real = shown.experience.trajectory, shown.experience.trajectory.mask > 0
    assert 0 < real.sum() < real.size
    for name, values in (("advantages", shown.experience.advantages), ("values", trajectory.values), ("rewards", trajectory.rewards)):
        assert_close(histogram(shown.events, f"batch/{name}"), (values[real].min(), values[real].max(), real.sum()))
    lengths = real.sum(axis=1)
    assert_close(histogram(shown.events, "batch/response_lengths"), (lengths.min(), lengths.max(), 4), atol=0.51)
    table = shown.learner.policy.table.numpy()  # as it is after the iteration
    inputs = trajectory.inputs[:, trajectory.context :]
    log_probs = np.take_along_axis(tf.nn.log_softmax(table[inputs]).numpy(), trajectory.actions[..., None], 2)[..., 0]
    ratio = np.exp(log_probs - trajectory.log_probs)[real]
    assert_close(histogram(shown.events, "batch/ratio"), (ratio.min(), ratio.max(), real.sum()))
    assert abs(ratio - 1).max() > 1e-3


@pytest.mark.parametrize("width", [3.5, 4.6, 3.7])
def test_a_picture_is_scaled_by_a_whole_number(monkeypatch, width):
    """Catches: a picture of 542 pixels that TensorBoard squeezes into its card of 350, row by row as they come: type loses its strokes."""
    kept = []
    monkeypatch.setattr(tf.summary, "image", lambda tag, image, description: kept.append(image.shape))
    views.show_picture("a", Figure(figsize=(width, 2)), "a picture")
    assert kept[0][2] == 2 * 350


def test_weights_and_gradients_are_shown(shown):
    """Catches: weights before the update, gradients of another variable or none."""
    for variable in shown.learner.policy.trainable_variables:
        values = variable.numpy()
        assert_close(histogram(shown.events, f"weights/{variable.path}"), (values.min(), values.max(), values.size))
        least, greatest, count = histogram(shown.events, f"gradients/{variable.path}")
        assert count == values.size and (least < 0 or greatest > 0)


def test_the_table_by_hand(shown):
    """Catches: another draw in each table, the score of another response, KL of one token, the policy for the reference."""
    tables = [tf.make_ndarray(event.tensor_proto).astype(str) for event in shown.events.Tensors("responses/held_out")]
    assert len(tables) == 3 and tables[0].shape == (3, 6)
    letters, learner = Letters(), shown.learner
    written = generate(learner.reference, Prompts(*map(tf.constant, HELD_OUT)), 4, learner.end_id, learner.pad_id, tf.constant([7, 3]))
    assert tables[0][1:, 1].tolist() == tables[2][1:, 1].tolist() == letters.decode_pairs(HELD_OUT, written)[1]
    assert tables[2][1:, 1].tolist() != tables[2][1:, 3].tolist()
    for first, last, prompt in zip(tables[0][1:], tables[2][1:], letters.decode_pairs(HELD_OUT)[0]):
        assert first[0] == last[0] == prompt and first[1] == last[1] and first[2] == last[2]
        assert float(last[2]) == len(last[1]) and float(last[4]) == len(last[3])  # the reward is the length
        read = [ord(letter) - 97 for letter in prompt[-1] + last[3]]
        now, before = (tf.nn.log_softmax(p.table).numpy() for p in (learner.policy, learner.reference))
        assert_close(float(last[5]), sum(now[a, b] - before[a, b] for a, b in zip(read, read[1:])), atol=6e-4)
    assert {tag for tag in tags_of(shown.events, "images")} == {"responses/tokens_1", "responses/tokens_2"}


def test_the_numbers_of_a_drawn_response(monkeypatch):
    """Catches: tokens of the prompt or the padding, whitened advantages, values of the next state, KL of another response."""
    learner, drawn = tiny_learner(), []
    monkeypatch.setattr(views, "show_picture", lambda tag, figure, meaning: None)
    monkeypatch.setattr("ppo_keras.reports.pictures.token_heat_map", lambda *arguments: drawn.append(arguments))
    learner.reference.table.assign(np.random.default_rng(3).normal(size=[6, 6]))
    view = views.HeldOutResponses(HELD_OUT, Letters(), 7)
    with tf.summary.record_if(False):
        view(learner)
    for (tokens, rows, title), prompt in zip(drawn, Letters().decode_pairs(HELD_OUT)[0]):
        read = [ord(letter) - 97 for letter in prompt[-1] + "".join(tokens)]
        now, before = (tf.nn.log_softmax(p.table).numpy() for p in (learner.policy, learner.reference))
        kl = np.array([now[a, b] - before[a, b] for a, b in zip(read, read[1:])])
        values = learner.policy.critic.numpy()[read[:-1]]
        rewards = -0.1 * kl
        rewards[-1] += len(tokens)  # the score
        deltas = rewards + np.append(values[1:], 0) - values
        advantages = [sum(0.95**i * d for i, d in enumerate(deltas[t:])) for t in range(len(tokens))]
        assert title == f"{prompt} ... (score {len(tokens):.2f})"
        assert_close(rows["KL"], kl)
        assert_close(rows["value"], values)
        assert_close(rows["advantage"], advantages, rtol=1e-4)


def test_a_look_reads_with_the_shared_trunk_once(monkeypatch):
    """Catches: a look that reads the trunk again for the score, and for the judge, op by op."""
    policy, calls = tiny_policy(vocabulary_size=6), []
    add_adapters(policy, 2)
    reference = reference_of(policy)
    learner = LanguagePPO(policy, RewardModel(reference), 6, 5, 4, reference=reference, judge=RewardModel(reference))
    hidden = reference.hidden
    reference.hidden = lambda *args, **kwargs: calls.append(tf.executing_eagerly()) or hidden(*args, **kwargs)
    monkeypatch.setattr(views, "show_picture", lambda tag, figure, meaning: None)
    view = views.HeldOutResponses(HELD_OUT, Letters(), 7)
    with tf.summary.record_if(False):
        view(learner)
    assert calls == [False, False]  # traced for the reference, and for the policy


def test_labels_of_held_out_texts(tmp_path):
    """Catches: before for now, the right label for the chosen one, the probability of another label."""
    probabilities = {"before": np.array([[0.9, 0.1], [0.2, 0.8]]), "now": np.array([[0.25, 0.75], [0.375, 0.625]])}
    view = views.HeldOutLabels(["a text", "a # text"], ["no", "yes"], ["no", "yes"], probabilities.get)
    run = Run.create(tmp_path, "run")
    writer = tf.summary.create_file_writer(str(run.folder))
    with writer.as_default(step=4):
        view(None)
    writer.close()
    (event,) = events_of(run).Tensors("labels/held_out")
    table = tf.make_ndarray(event.tensor_proto).astype(str).tolist()
    assert table[1:] == [["a text", "no", "yes", "no", "0.750"], ["a \\# text", "yes", "yes", "yes", "0.625"]]


def test_a_reward_in_python_does_not_disturb_others():
    """Catches: a reward with `random` in it, whose looks at held-out prompts change the numbers of training."""
    import random

    random.seed(1)
    np.random.seed(1)
    expected = random.random(), np.random.random()
    random.seed(1)
    np.random.seed(1)
    with views.undisturbed():
        random.random(), np.random.random()
    assert (random.random(), np.random.random()) == expected


def test_attention_is_what_the_network_does():
    """Catches: attention of another layer, to what comes later or to another episode, rows that do not sum to 1."""
    policy = tiny_policy("transformer", layers=2)
    tokens, starts = tf.constant([[5, 6, 7, 8, 9]]), tf.constant([[1.0, 0, 0, 1, 0]])
    weights = views.attention_of(policy.encoder, tokens, starts)
    assert weights.shape == (2, 2, 5, 5)
    assert_close(weights.sum(-1), np.ones([2, 2, 5]))
    allowed = np.tril(np.ones([5, 5])) * np.array([[1, 1, 1, 0, 0]] * 3 + [[0, 0, 0, 1, 1]] * 2)
    assert np.all((weights > 0) == (allowed > 0))
    block, x = policy.encoder.trunk.blocks[0], policy.encoder.embed(tokens)
    query, key, _ = block.project(x, tf.range(5))
    scores = (query @ tf.transpose(key, [0, 1, 3, 2])).numpy()[0, 1] / np.sqrt(8)
    row = np.exp(scores[2, :3])
    assert_close(weights[0, 1, 2, :3], row / row.sum())


def test_when_views_are_due():
    """Catches: a cadence that counts calls, that misses a call which passes a multiple, or the last iteration."""
    cadence = Cadence(20, 50)
    assert [i + 1 for i in range(60) if cadence.due(i, i + 1)] == [20, 40, 50, 60]
    assert [i + 7 for i in range(0, 56, 7) if cadence.due(i, i + 7)] == [21, 42, 56]
    assert not any(Cadence(0, 50).due(i, i + 1) for i in range(60))


def test_nothing_of_the_shelf_is_saved(tmp_path):
    """Catches: checkpoints that grow by a batch, and that a learner of another batch cannot read."""
    learner = tiny_learner()
    fit_iterations(learner, 1)
    path = tf.train.Checkpoint(learner=learner).save(str(tmp_path / "x"))
    assert learner.shelf.content and not [name for name, _ in tf.train.list_variables(path) if "shelf" in name]
