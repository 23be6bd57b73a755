"""`ppo_keras.language.supervised`: writers, reward models and preferences learn; padding counts nowhere."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from helpers import assert_all_close, assert_close, tiny_policy, tiny_reader, weights_of
from ppo_keras import RewardModel
from ppo_keras.config import SupervisedConfig
from ppo_keras.errors import InputError
from ppo_keras.language import supervised
from ppo_keras.language.supervised import (
    batches,
    differing,
    pad_texts,
    train_answers,
    train_classifier,
    train_labels,
    train_language_model,
    train_preferences,
)
from ppo_keras.networks.encoder import NO_TOKEN, TokenEncoder

one_network = pytest.mark.parametrize("network", ["transformer", pytest.param("lstm", marks=pytest.mark.full)])
PAD, BEGIN, END, WORD, VOCABULARY = 0, 2, 3, 9, 12


def bag():
    """A small reward model on a bag of words."""
    return RewardModel(TokenEncoder(VOCABULARY, "bag", 8, 1), name="reward")


def writer(network="lstm"):
    return tiny_policy(network, vocabulary_size=VOCABULARY, spread=0.1)


def sentences(count, seed, with_word=False):
    """Texts of 3 to 6 random tokens, `WORD` in each or in none."""
    random = np.random.default_rng(seed)
    texts = [[BEGIN, *random.integers(4, WORD, random.integers(2, 6)), END] for _ in range(count)]
    for text in texts if with_word else []:
        text.insert(random.integers(1, len(text)), WORD)
    return texts


def counting(count, step=1):
    """Texts that count in a circle of six tokens, upwards by `step`."""
    return [[BEGIN, *(4 + (start + step * i) % 6 for i in range(5)), END] for start in range(6)] * (count // 6)


def text_losses(policy, texts):
    """Cross-entropy of each next token, text by text, without any padding. float64 lists."""
    losses = []
    for text in texts:
        logits = policy(tf.constant([text[:-1]]))[0][0].numpy().astype(np.float64)
        log_probs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        losses.append(-log_probs[np.arange(len(text) - 1), text[1:]])
    return losses


def label_losses(model, texts, labels):
    """Binary cross-entropy of each text, without any padding; and whether its sign is right."""
    scores = np.array([model((tf.constant([text]), tf.ones([1, len(text)])))[0] for text in texts], np.float64)
    return np.log1p(np.exp(-scores * np.where(labels, 1, -1))), (scores > 0) == np.array(labels, bool)


def test_texts_are_padded_on_the_right_and_cut():
    """Catches: padding on the left, a mask over padding, a text longer than the length."""
    tokens, mask = pad_texts([[5, 6], [5, 6, 7, 8], []], 3, PAD)
    assert tokens.tolist() == [[5, 6, 0], [5, 6, 7], [0, 0, 0]] and tokens.dtype == np.int32
    assert mask.tolist() == [[1, 1, 0], [1, 1, 1], [0, 0, 0]] and mask.dtype == np.float32


def test_training_batches_are_full_and_shuffled_anew():
    """Catches: a short last batch (a second compilation), the same texts left out in every epoch, rows torn apart."""
    arrays = (np.arange(10), np.arange(10) * 2), np.arange(10.0)
    stream = [(x.numpy(), double.numpy(), y.numpy()) for (x, double), y in batches(arrays, 4, shuffle_seed=0).take(8)]
    epochs = [stream[i : i + 2] for i in range(0, 8, 2)]
    assert all(len(epoch) == 2 and all(len(x) == 4 for x, _, _ in epoch) for epoch in epochs)
    seen = [tuple(int(i) for x, _, _ in epoch for i in x) for epoch in epochs]
    assert len(set(seen)) == 4 and all(len(set(order)) == 8 for order in seen) and set().union(*seen) == set(range(10))
    assert all(np.array_equal(2 * x, double) and np.array_equal(x, y) for epoch in epochs for x, double, y in epoch)
    later = [x.numpy() for (x, _), _ in batches(arrays, 4, shuffle_seed=0, skip=6).take(2)]  # of a training that goes on
    assert tuple(np.concatenate(later)) == seen[3]


def test_fewer_texts_than_a_batch_are_one_batch():
    """Catches: a training data set without a single batch."""
    ((x, y),) = batches((np.arange(3), np.ones(3)), 8, shuffle_seed=1).take(1)
    assert sorted(x.numpy()) == [0, 1, 2]


@pytest.mark.parametrize("count, size", [(10, 4), (8, 4), (3, 4)])
def test_measuring_batches_are_filled_up_with_weight_0(count, size):
    """Catches: texts of the validation split left out, counted twice or reordered."""
    first, *rest = batches((np.arange(1, count + 1), np.ones([count, 2])), size)
    x, weight = (np.concatenate(column) for column in zip(first, *rest))
    assert len(x) == -(-count // size) * size and all(len(batch[0]) == size for batch in (first, *rest))
    assert x[:count].tolist() == list(range(1, count + 1))
    assert weight[:count].min() == 1 and weight[count:].sum() == 0


@pytest.mark.parametrize("size", [8, 2, *(pytest.param(size, marks=pytest.mark.full) for size in (5, 4))])
def test_validation_figures_of_a_classifier_by_hand(size):
    """Catches: rows of weight 0 that change a validation figure: 5 texts are measured in batches of 5, 8, 4 and 2."""
    model, labels = bag(), [1, 0, 1, 1, 0]
    model.set_weights([np.random.default_rng(1).normal(0, 1, w.shape) for w in model.weights])
    texts = sentences(5, seed=1)
    losses, right = label_losses(model, texts, labels)
    assert 0 < right.mean() < 1
    config = SupervisedConfig(supervised_epochs=1, supervised_learning_rate=1e-12, supervised_batch_size=size)
    history = train_classifier(model, (texts, labels), (texts, labels), 8, PAD, config, jit_compile=False).history
    assert_close(history["val_accuracy"][0], right.mean())
    assert_close(history["val_cross_entropy"][0], losses.mean(), rtol=1e-5)


@pytest.mark.parametrize("size, length", [(8, 11), (3, 8), pytest.param(4, 8, marks=pytest.mark.full)])
def test_validation_cross_entropy_of_a_writer_by_hand(size, length):
    """Catches: padding tokens or filling rows in the figure, batches weighed alike, targets not shifted by one (4 texts of 5 to 8 tokens)."""
    policy, texts = writer(), [text for text in sentences(20, seed=2) if len(text) > 4][:4]
    by_hand = np.concatenate(text_losses(policy, texts)).mean()
    config = SupervisedConfig(supervised_epochs=1, supervised_learning_rate=1e-12, supervised_batch_size=size)
    history = train_language_model(policy, texts, texts, length, PAD, config, jit_compile=False).history
    assert_close(history["val_cross_entropy"][0], by_hand, rtol=1e-5)


@one_network
def test_a_writer_learns_what_follows_what(network):
    """Catches: a training that does not learn (counting texts have one uncertain token of six, the first)."""
    policy = writer(network)
    config = SupervisedConfig(supervised_epochs=12, supervised_batch_size=8, supervised_learning_rate=0.02)
    history = train_language_model(policy, counting(48), counting(12), 8, PAD, config, jit_compile=False).history
    assert history["val_cross_entropy"][0] > history["val_cross_entropy"][-1] and history["loss"][0] > 1.5
    best = np.log(6) / 6
    assert best - 1e-3 < min(history["val_cross_entropy"]) < best + 0.3
    logits = policy(tf.constant([[BEGIN, 5, 6, 7]]))[0][0].numpy()
    assert logits[1:].argmax(-1).tolist() == [6, 7, 8]


@pytest.mark.parametrize("patience", [pytest.param(3, id="patience ends", marks=pytest.mark.full), pytest.param(50, id="epochs end")])
def test_the_best_weights_come_back(patience):
    """Catches: the weights of the last epoch kept (validation texts count in steps of two, so learning makes it worse)."""
    policy = writer("transformer")
    config = SupervisedConfig(supervised_epochs=8, supervised_batch_size=8, supervised_learning_rate=0.002, patience=patience)
    history = train_language_model(policy, counting(192), counting(24, step=2), 8, PAD, config, jit_compile=False).history
    losses = history["val_cross_entropy"]
    best = int(np.argmin(losses))
    assert 0 < best < 4 and len(losses) == min(8, best + 1 + patience) and losses[-1] > min(losses) + 0.1
    assert_close(np.concatenate(text_losses(policy, counting(6, step=2))).mean(), min(losses), rtol=1e-4)


@pytest.mark.parametrize("size", [8, 2, *(pytest.param(size, marks=pytest.mark.full) for size in (5, 4))])
def test_validation_figures_of_preferences_by_hand(size):
    """Catches: rows of weight 0 that count as pairs (both scores equal: a wrong pair of loss log 2), or batches weighed alike."""
    model = bag()
    model.set_weights([np.random.default_rng(1).normal(0, 1, w.shape) for w in model.weights])
    pairs = sentences(5, seed=1), sentences(5, seed=2)
    chosen, rejected = (np.array([model((tf.constant([text]), tf.ones([1, len(text)])))[0] for text in side], np.float64) for side in pairs)
    assert 0 < (chosen > rejected).mean() < 1
    config = SupervisedConfig(supervised_epochs=1, supervised_learning_rate=1e-12, supervised_batch_size=size)
    history = train_preferences(model, pairs, pairs, 8, PAD, config, jit_compile=False).history
    assert_close(history["val_accuracy"][0], (chosen > rejected).mean())
    assert_close(history["val_cross_entropy"][0], np.log1p(np.exp(rejected - chosen)).mean(), rtol=1e-5)


def test_early_stopping_watches_the_exact_figure(monkeypatch):
    """Catches: training stopped by Keras's `val_loss`, the mean of batch means (here it falls for ever), or by one that should rise."""
    stopping, best = keras.callbacks.EarlyStopping.on_epoch_end, []

    def planned(self, epoch, logs=None):
        exact = [0.9, 0.5, 0.7, 0.8, 0.6, 0.4][epoch]
        stopping(self, epoch, logs | {"val_loss": -float(epoch), "val_cross_entropy": exact, "val_accuracy": float(epoch)})
        best.append(self.best_epoch)

    monkeypatch.setattr(keras.callbacks.EarlyStopping, "on_epoch_end", planned)
    config = SupervisedConfig(supervised_epochs=6, patience=3)
    train_classifier(bag(), (sentences(4, 1), [0, 1] * 2), (sentences(4, 2), [0, 1] * 2), 8, PAD, config, jit_compile=False)
    assert best == [0, 1, 1, 1, 1]


def test_a_classifier_finds_the_planted_word():
    """Catches: labels exchanged or shuffled against their texts."""
    model = bag()
    train = sentences(60, 1) + sentences(60, 2, with_word=True), [0] * 60 + [1] * 60
    validation = sentences(8, 3) + sentences(8, 4, with_word=True), np.array([0] * 8 + [1] * 8)
    config = SupervisedConfig(supervised_epochs=15, supervised_batch_size=16, supervised_learning_rate=0.05)
    history = train_classifier(model, train, validation, 8, PAD, config, jit_compile=False).history
    assert history["loss"][-1] < 0.3 < history["loss"][0]
    assert max(history["val_accuracy"]) == 1.0
    assert label_losses(model, *validation)[1].all()


def test_preferences_rank_the_planted_word_first():
    """Catches: chosen and rejected exchanged, or pairs torn apart (texts with the word are better, and a pair differs in it)."""
    model = bag()
    pairs = lambda count, seed: (sentences(count, seed, with_word=True), sentences(count, seed + 1))
    config = SupervisedConfig(supervised_epochs=15, supervised_batch_size=16, supervised_learning_rate=0.05)
    history = train_preferences(model, pairs(120, 1), pairs(16, 3), 8, PAD, config, jit_compile=False).history
    assert history["loss"][-1] < 0.3 < history["loss"][0] and max(history["val_accuracy"]) == 1.0
    scores = [[float(model((tf.constant([text]), tf.ones([1, len(text)])))[0]) for text in side] for side in pairs(20, 7)]
    assert np.all(np.array(scores[0]) > np.array(scores[1]))


def test_the_critic_is_not_trained_by_the_text():
    """Catches: weight decay or a gradient on a value network that supervised training has no target for."""
    policy = tiny_policy("lstm", shared=False, vocabulary_size=VOCABULARY)
    before = weights_of(policy.value_encoder)
    train_language_model(policy, counting(12), counting(6), 8, PAD, SupervisedConfig(supervised_epochs=1), jit_compile=False)
    for old, new in zip(before, weights_of(policy.value_encoder)):
        assert_close(new, old, rtol=1e-2)  # decoupled weight decay alone: 1e-5 a step


def test_settings_reach_the_optimizer_and_callbacks_are_called():
    """Catches: a learning rate, weight decay, batch size or callback that is taken and not used."""
    config = SupervisedConfig(supervised_epochs=2, supervised_batch_size=4, supervised_learning_rate=0.003, weight_decay=0.07)
    rates = []

    class Look(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            rates.append(float(self.model.optimizer.learning_rate))
            self.weight_decay = self.model.optimizer.weight_decay

    look = Look()
    train_classifier(bag(), (sentences(12, 1), [0, 1] * 6), (sentences(4, 2), [0, 1] * 2), 8, PAD, config, callbacks=[look], jit_compile=False)
    assert look.weight_decay == 0.07
    assert_close(rates, 0.003 * (1 + np.cos(np.pi * np.arange(6) / 6)) / 2)  # 3 batches an epoch, down to 0


def questions(count, seed):
    """Pairs (prompt, answer) of random tokens: 1 to 4 between two begin tokens, 1 to 3 before the end token."""
    random = np.random.default_rng(seed)
    tokens = lambda most: random.integers(4, VOCABULARY, random.integers(1, most + 1)).tolist()
    return [([BEGIN, *tokens(4), BEGIN], [*tokens(3), END]) for _ in range(count)]


MEASURE = dict(supervised_epochs=1, supervised_learning_rate=1e-12)


@pytest.mark.parametrize("size, length", [(2, 9), (8, 12)])
def test_validation_cross_entropy_of_answers_by_hand(size, length):
    """Catches: tokens of the prompt in the figure, the end token or the first answer token not in it, padding, answers weighed alike."""
    policy, pairs = writer(), questions(5, seed=2)
    losses = text_losses(policy, [prompt + answer for prompt, answer in pairs])
    by_hand = np.concatenate([loss[-len(answer) :] for loss, (_, answer) in zip(losses, pairs)])
    assert len({len(prompt) for prompt, _ in pairs}) > 1 and len({len(answer) for _, answer in pairs}) > 1
    history = train_answers(policy, pairs, pairs, length, PAD, SupervisedConfig(supervised_batch_size=size, **MEASURE), jit_compile=False).history
    assert_close(history["val_cross_entropy"][0], by_hand.mean(), rtol=1e-5)
    assert abs(by_hand.mean() - np.concatenate(losses).mean()) > 1e-3


def test_an_answer_that_is_cut_counts_as_far_as_it_goes():
    """Catches: tokens beyond the length in the mask of the answers, so that other tokens are learned in their place."""
    policy, pairs = writer(), [([BEGIN, 5, 6, BEGIN], [7, 8, 9, END]), ([BEGIN, 5, BEGIN], [8, END])]
    losses = text_losses(policy, [prompt + answer for prompt, answer in pairs])
    by_hand = np.concatenate([losses[0][3:5], losses[1][2:4]])  # six tokens of a text are read and predicted at the most
    history = train_answers(policy, pairs, pairs, 5, PAD, SupervisedConfig(supervised_batch_size=2, **MEASURE), jit_compile=False).history
    assert_close(history["val_cross_entropy"][0], by_hand.mean(), rtol=1e-5)


def test_prompts_are_read_and_not_learned():
    """Catches: a loss on tokens of the prompt. The policy sees one token back only, so that others of the prompt must not matter to the loss."""
    histories, weights = [], []
    for middle in ([4, 5, 6], [9, 10, 9]):
        policy = tiny_policy("transformer", vocabulary_size=VOCABULARY, memory=1, spread=0.1)
        pairs = [([BEGIN, *middle, BEGIN], [token, END]) for token in (4, 5, 8, 8)]
        config = SupervisedConfig(supervised_epochs=1, supervised_batch_size=4, supervised_learning_rate=0.01)
        histories.append(train_answers(policy, pairs, pairs, 8, PAD, config, jit_compile=False).history)
        weights.append(weights_of(policy.encoder))
    one, other = histories
    assert_close(one["loss"], other["loss"])
    assert_close(one["val_cross_entropy"], other["val_cross_entropy"])
    assert one["val_cross_entropy"] < one["loss"]  # it learned
    assert_all_close(*weights, atol=1e-5)


@one_network
def test_answers_are_learned(network):
    """Catches: targets not shifted by one (the answer to a token is the next one of a circle of six, then the end)."""
    policy = writer(network)
    pairs = [([BEGIN, 4 + i, BEGIN], [4 + (i + 1) % 6, END]) for i in range(6)]
    config = SupervisedConfig(supervised_epochs=25, supervised_batch_size=6, supervised_learning_rate=0.05)
    history = train_answers(policy, pairs * 4, pairs, 8, PAD, config, jit_compile=False).history
    assert min(history["val_cross_entropy"]) < 0.1
    for prompt, answer in pairs:
        assert policy(tf.constant([prompt + answer[:1]]))[0][0, -2:].numpy().argmax(-1).tolist() == answer


def labelled(count, seed):
    """Texts int32 `(3 * count, 6)` filled up with `NO_TOKEN`, of the labels 0 (nothing planted), 1 (`WORD`) and 2 (`WORD + 1`)."""
    random, texts, labels = np.random.default_rng(seed), np.full([3 * count, 6], NO_TOKEN, np.int32), np.tile([0, 1, 2], count)
    for text, label in zip(texts, labels):
        length = random.integers(2, 7)
        text[:length] = random.integers(4, WORD, length)
        if label:
            text[random.integers(length)] = WORD + label - 1
    return texts, labels


def reader(network="lstm", **kwargs):
    return tiny_reader(network, length=6, **kwargs)


@pytest.mark.parametrize("shared", [True, False])
def test_supervised_training_changes_encoder_and_policy_head_only(shared):
    """Catches: a policy head that Keras does not find and leaves as it was, or a critic that is changed without a target."""
    policy, (texts, labels) = reader(shared=shared), labelled(2, seed=1)
    parts = (policy.encoder, policy.policy_head, policy.value_head) + (() if shared else (policy.value_encoder,))
    before = [weights_of(part) for part in parts]
    config = SupervisedConfig(supervised_epochs=1, supervised_learning_rate=0.01, weight_decay=0.5)
    train_labels(policy, (texts, labels), (texts, labels), config, jit_compile=False)
    change = [max(np.abs(new - old).max() for new, old in zip(weights_of(part), weights)) for part, weights in zip(parts, before)]
    assert min(change[:2]) > 1e-3 and max(change[2:]) == 0


@pytest.mark.parametrize("size", [8, 4])
def test_validation_figures_of_labels_by_hand(size):
    """Catches: rows of weight 0 in a figure, labels of other texts: 6 texts are measured in batches of 8 and 4."""
    policy, (texts, labels) = reader(), labelled(2, seed=1)
    logits = np.concatenate([policy(tf.constant(text[text != NO_TOKEN])[tf.newaxis, tf.newaxis])[0][:, 0] for text in texts]).astype(np.float64)
    losses = np.log(np.exp(logits).sum(-1)) - logits[range(6), labels]
    right = (logits.argmax(-1) == labels).mean()
    assert 0 < right < 1
    config = SupervisedConfig(supervised_batch_size=size, **MEASURE)
    history = train_labels(policy, (texts, labels), (texts, labels), config, jit_compile=False).history
    assert_close(history["val_cross_entropy"][0], losses.mean(), rtol=1e-5)
    assert_close(history["val_accuracy"][0], right)


@one_network
def test_labels_learn_the_planted_words(network):
    """Catches: labels exchanged or shuffled against their texts, a copy trained in the policy's place, a critic that is trained too."""
    policy = reader(network, shared=False, spread=0.1)
    critic = weights_of(policy.value_encoder)
    config = SupervisedConfig(supervised_epochs=12, supervised_batch_size=15, supervised_learning_rate=0.02, patience=12)
    history = train_labels(policy, labelled(60, 1), labelled(10, 2), config, jit_compile=False).history
    assert max(history["val_accuracy"]) > 0.95 and history["loss"][-1] < 0.3 < history["loss"][0]
    texts, labels = labelled(10, 3)
    assert (policy(tf.constant(texts[:, np.newaxis]))[0][:, 0].numpy().argmax(-1) == labels).mean() > 0.9
    for old, new in zip(critic, weights_of(policy.value_encoder)):
        assert_close(new, old, rtol=1e-2)


def test_settings_reach_the_training_of_labels():
    """Catches: epochs, a batch size, a learning rate or a callback that `train_labels` takes and does not pass on."""
    rates = []

    class Look(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            rates.append(float(self.model.optimizer.learning_rate))

    config = SupervisedConfig(supervised_epochs=3, supervised_batch_size=2, supervised_learning_rate=0.004, patience=9)
    history = train_labels(reader(), labelled(2, 1), labelled(1, 2), config, callbacks=[Look()], jit_compile=False).history
    assert len(history["val_cross_entropy"]) == 3
    assert_close(rates, 0.004 * (1 + np.cos(np.pi * np.arange(9) / 9)) / 2)  # 3 batches an epoch, down to 0


def three_labels(count, seed):
    """Token lists and labels 0, 1, 2, as `labelled` plants them."""
    texts, labels = labelled(count, seed)
    return [[BEGIN, *text[text != NO_TOKEN].tolist()] for text in texts], labels


@pytest.mark.parametrize("size", [8, 4])
def test_validation_figures_of_a_classifier_of_three_labels_by_hand(size):
    """Catches: binary cross-entropy where there are three labels, a softmax over the batch, rows of weight 0 that count."""
    model = RewardModel(TokenEncoder(VOCABULARY, "bag", 8, 1), outputs=3)
    model.set_weights([np.random.default_rng(11).normal(0, 1, w.shape) for w in model.weights])
    texts, labels = split = three_labels(2, seed=1)
    logits = np.concatenate([model((tf.constant([text]), tf.ones([1, len(text)]))) for text in texts]).astype(np.float64)
    losses = np.log(np.exp(logits).sum(-1)) - logits[range(6), labels]
    right = (logits.argmax(-1) == labels).mean()
    assert 0 < right < 1
    history = train_classifier(model, split, split, 8, PAD, SupervisedConfig(supervised_batch_size=size, **MEASURE), jit_compile=False).history
    assert_close(history["val_cross_entropy"][0], losses.mean(), rtol=1e-5)
    assert_close(history["val_accuracy"][0], right)


def test_a_classifier_of_three_labels_finds_the_planted_words():
    """Catches: labels taken for 0 and 1, exchanged, or shuffled against their texts."""
    model = RewardModel(TokenEncoder(VOCABULARY, "bag", 8, 1), outputs=3)
    config = SupervisedConfig(supervised_epochs=15, supervised_batch_size=15, supervised_learning_rate=0.05, patience=15)
    history = train_classifier(model, three_labels(60, 1), three_labels(10, 2), 8, PAD, config, jit_compile=False).history
    assert max(history["val_accuracy"]) == 1.0 and history["loss"][-1] < 0.3 < history["loss"][0]
    texts, labels = three_labels(10, 3)
    assert [int(np.argmax(model((tf.constant([text]), tf.ones([1, len(text)])))[0])) for text in texts] == labels.tolist()


def test_pairs_that_do_not_differ_are_left_out(monkeypatch):
    """Catches: pairs that are equal once cut, of which a loss of log 2 remains whatever is learned, and an accuracy that counts them as wrong."""
    chosen, rejected = (
        [[1, 2, 3, 4], [1, 2, 5], [1, 2, 3], [1, 2]],
        [[1, 2, 3, 5], [1, 2, 6], [1, 2, 3, 4], [1, 2, 3]],
    )  # with 3 tokens the first and the third are alike
    assert differing(chosen, rejected, 3) == [([1, 2, 5], [1, 2, 6]), ([1, 2], [1, 2, 3])]
    assert len(differing(chosen, rejected, 4)) == 4
    with pytest.raises(InputError, match="no pair differs within its first 2 tokens"):
        train_preferences(bag(), (chosen[:3], rejected[:3]), (chosen, rejected), 2, 0)
    fitted = []
    monkeypatch.setattr(supervised, "_fit_binary", lambda model, train, validation, config: fitted.append(train))
    train_preferences(bag(), (chosen, rejected), (chosen[1:2], rejected[1:2]), 3, 0)
    (better, _, worse, _), targets, weights = fitted[0]
    assert better.tolist() == [[1, 2, 5], [1, 2, 0]] and worse.tolist() == [[1, 2, 6], [1, 2, 3]] and len(targets) == len(weights) == 2


def test_no_epochs_change_nothing():
    """Catches: an error at 0 epochs, or a step that is taken all the same."""
    policy = tiny_policy("transformer")
    before = policy.get_weights()
    ended = train_language_model(policy, counting(12), counting(6), 8, PAD, SupervisedConfig(supervised_epochs=0), jit_compile=False)
    assert ended.history == {} and all(np.array_equal(old, new) for old, new in zip(before, policy.get_weights()))


@pytest.mark.parametrize("blocked", [False, True])
def test_texts_are_learned_without_whole_logits(monkeypatch, blocked):
    """Catches: logits of all positions at once, in training or in validation; blocks whose gradient is another."""
    policy, widest = writer(), []
    whole = [weight.numpy() for weight in policy.weights]
    if blocked:
        monkeypatch.setattr("ppo_keras.blocks.NUMBERS", 3 * VOCABULARY)  # three positions in a block
    logits = policy.logits
    policy.logits = lambda hidden: widest.append(hidden.shape[:-1].num_elements()) or logits(hidden)
    texts, config = sentences(8, seed=1), SupervisedConfig(supervised_epochs=2, supervised_batch_size=4, supervised_learning_rate=0.01)
    train_language_model(policy, texts, texts[:3], 8, PAD, config, jit_compile=False)
    assert max(widest) == (3 if blocked else 32)
    learned, again = [weight.numpy() for weight in policy.weights], writer()
    again.set_weights(whole)
    monkeypatch.undo()
    train_language_model(again, texts, texts[:3], 8, PAD, config, jit_compile=False)
    for one, other, old in zip(learned, again.weights, whole):
        assert_close(one, other, 1e-3, 1e-5)
    assert any(np.any(one != old) for one, old in zip(learned, whole))
