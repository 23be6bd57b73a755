"""`ppo_keras.ppo`, the learner: on trajectories that are given, mostly with a policy of two tables."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from helpers import NETWORKS, TablePolicy, assert_all_close, assert_close, observations, random_table, random_trajectory, tiny_agent, tiny_policy, weights_of
from ppo_keras import PPO, PPOConfig
from ppo_keras.distributions import DiagonalGaussian
from ppo_keras.errors import InputError
from ppo_keras.networks.actor_critic import MLPActorCritic
from ppo_keras.ppo import FIRST_GAP, UPDATE_METRICS
from test_advantages import plain_advantages

SGD = keras.optimizers.SGD


class Given(PPO):
    """PPO on the trajectory that `fit` gives it; it counts how often Python runs through the step and what it saw."""

    traces = 0

    def collect(self, data):
        self.traces += 1
        return data, {}


class Recorder(Given):
    """Remembers the metrics of every minibatch (run it eagerly)."""

    def step_optimizer(self, experience):
        metrics = super().step_optimizer(experience)
        self.minibatches = getattr(self, "minibatches", []) + [{name: float(value) for name, value in metrics.items()}]
        return metrics


def learner(config=None, policy=None, optimizer=None, kind=Given, mode="eager", **kwargs):
    """A compiled `PPO` on a random table."""
    ppo = kind(policy or random_table(), config or PPOConfig(), **kwargs)
    ppo.compile(optimizer or SGD(0.1), jit_compile=mode == "jit", run_eagerly=mode == "eager")
    return ppo


def numpy_loss(policy, trajectory, config):
    """The PPO loss of a `TablePolicy` on a whole trajectory, in float64, one step at a time."""
    table, critic = (np.asarray(w, np.float64) for w in (policy.table, policy.critic))
    old, mask = np.asarray(trajectory.log_probs, np.float64), trajectory.mask.numpy()
    advantages, returns = plain_advantages(
        *(x.numpy() for x in (trajectory.rewards, trajectory.values, trajectory.next_values, trajectory.ended)), mask, config.discount, config.gae_lambda
    )
    if config.whiten_advantages:
        real = advantages[mask > 0]
        advantages = (advantages - real.mean()) / np.sqrt(real.var(ddof=1) + 1e-8)
    total = 0.0
    for b, t in np.argwhere(mask > 0):
        logits = table[trajectory.inputs[b, t]] / config.temperature
        log_probs = logits - np.log(np.exp(logits).sum())
        ratio = np.exp(log_probs[trajectory.actions[b, t]] - old[b, t])
        a, v, v_old, r = advantages[b, t], critic[trajectory.inputs[b, t]], float(trajectory.values[b, t]), returns[b, t]
        objective = min(ratio * a, np.clip(ratio, 1 - config.clip_ratio, 1 + config.clip_ratio) * a)
        if config.dual_clip is not None and a < 0:
            objective = max(objective, config.dual_clip * a)
        near = v if config.value_clip is None else v_old + np.clip(v - v_old, -config.value_clip, config.value_clip)
        value_loss = 0.5 * max((v - r) ** 2, (near - r) ** 2)
        total += -objective + config.value_coefficient * value_loss + config.entropy_coefficient * np.sum(np.exp(log_probs) * log_probs)
    return total / mask.sum()


CONFIGS = [
    PPOConfig(),
    PPOConfig(temperature=0.7, entropy_coefficient=0.3, value_coefficient=0.1, discount=1.0),
    PPOConfig(value_clip=None, dual_clip=1.5, whiten_advantages=False, clip_ratio=0.05, gae_lambda=0.5),
]


@pytest.mark.parametrize("config", CONFIGS, ids=["default", "entropy and temperature", "dual clip"])
def test_loss_and_gradients_equal_numpy(config):
    """Catches: a wrong sign, weight, mean or temperature in the loss: its value and its slopes against float64 NumPy."""
    ppo, trajectory = learner(config), random_trajectory()
    experience = ppo.estimate(trajectory)
    gradients, metrics = ppo.gradients(experience, tf.reduce_sum(trajectory.mask))
    assert_close(metrics["loss/total"], numpy_loss(ppo.policy, trajectory, config), atol=1e-5)
    for variable, gradient in zip((ppo.policy.table, ppo.policy.critic), gradients):
        for index in [(1,) * len(variable.shape), (4,) * len(variable.shape), (0, 3)[: len(variable.shape)]]:
            losses = []
            for change in (1e-3, -1e-3):
                moved = ppo.policy.copy()
                changed = getattr(moved, variable.name).numpy()
                changed[index] += change
                getattr(moved, variable.name).assign(changed)
                losses.append(numpy_loss(moved, trajectory, config))
            slope = (losses[0] - losses[1]) / 2e-3
            assert_close(tf.convert_to_tensor(gradient)[index], slope, rtol=2e-3, atol=2e-4)  # a finite difference, of float32 weights


def test_advantages_are_computed_once_and_whitened():
    """Catches: returns formed from whitened advantages, or advantages that change with the policy between epochs."""
    trajectory = random_trajectory()
    plain = learner(PPOConfig(whiten_advantages=False)).estimate(trajectory)
    white = learner(PPOConfig()).estimate(trajectory)
    real = plain.advantages.numpy()[trajectory.mask > 0].astype(np.float64)
    assert_close(white.returns, plain.returns, rtol=0, atol=0)
    assert_close(white.advantages[trajectory.mask > 0], (real - real.mean()) / real.std(ddof=1), rtol=1e-4, atol=1e-5)
    assert not np.any(white.advantages[trajectory.mask == 0])


@pytest.mark.parametrize("network, shared", [("table", None), ("transformer", True), ("transformer", False), ("lstm", False)])
def test_micro_batches_change_neither_loss_nor_gradient(network, shared):
    """Text 12. Catches: a mean of micro-batch means, which weighs the tokens of ragged micro-batches differently."""
    trajectory = random_trajectory(batch=8, lengths=[5, 1, 1, 1, 2, 5, 1, 3])
    results = []
    for parts in (1, 2, 8):
        policy = random_table() if network == "table" else tiny_policy(network, shared, vocabulary_size=6)
        ppo = learner(PPOConfig(minibatches=1, epochs=1, accumulation_steps=parts, max_gradient_norm=None), policy, SGD(1.0))
        metrics = ppo.step_optimizer(ppo.estimate(trajectory))
        results.append((weights_of(policy), {name: float(value) for name, value in metrics.items()}))
    for weights, metrics in results[1:]:
        assert_all_close(weights, results[0][0], atol=2e-6)
        assert_all_close(metrics, results[0][1], rtol=2e-5)


@pytest.mark.parametrize("accumulation_steps", [1, 2])
def test_the_optimizer_steps_as_often_as_configured(accumulation_steps):
    """Text 13. Catches: an optimizer step for each micro-batch, or a last one that is skipped."""
    ppo = learner(PPOConfig(epochs=3, minibatches=2, accumulation_steps=accumulation_steps))
    metrics = ppo.improve(random_trajectory())
    assert int(ppo.optimizer.iterations) == 6 == metrics["optimizer/steps"]


def test_each_sequence_is_used_once_an_epoch_in_a_fresh_order():
    """Catches: minibatches drawn with replacement, one order for all epochs or iterations, or a cut sequence."""
    ppo = learner(PPOConfig(epochs=3, minibatches=4))
    names = random_trajectory(batch=8)._replace(starts=tf.tile(tf.range(8.0)[:, tf.newaxis], [1, 5]))  # a tag for each sequence
    orders = []
    original = ppo.step_optimizer
    ppo.step_optimizer = lambda e: (orders.append(e.trajectory.starts[:, 0].numpy().tolist()), original(e))[1]
    for _ in range(2):
        ppo.train_step(names)
    epochs = [tuple(np.concatenate(orders[i : i + 4]).astype(int)) for i in range(0, 24, 4)]
    assert len(orders) == 24 and all(len(order) == 2 for order in orders)
    assert all(sorted(epoch) == list(range(8)) for epoch in epochs)
    assert len(set(epochs)) == 6


def test_metrics_are_means_over_the_minibatches():
    """Text 14. Catches: the metrics of the last minibatch, or sums, reported for the iteration."""
    ppo = learner(PPOConfig(epochs=2, minibatches=4), kind=Recorder)
    metrics = ppo.improve(random_trajectory())
    assert len(ppo.minibatches) == 8
    for name in UPDATE_METRICS:
        values = [seen[name] for seen in ppo.minibatches]
        assert_close(metrics[name], values[0] if name == FIRST_GAP else np.mean(values))


def test_epochs_stop_at_the_target_kl_and_means_cover_what_was_used():
    """Text 14. Catches: epochs that go on above target_kl, one that stops in its middle, or means over steps never taken."""
    config = PPOConfig(epochs=6, minibatches=2, max_gradient_norm=None)
    trajectory, free = random_trajectory(), learner(config, kind=Recorder)
    free.improve(trajectory)
    kls = np.array([seen["policy/approx_kl"] for seen in free.minibatches]).reshape(6, 2).mean(1)
    stop = next(i for i in range(1, 6) if kls[i] > kls[:i].max())  # the first epoch worse than all before it
    limit = (kls[stop] + kls[:stop].max()) / 2
    ppo = learner(dataclasses.replace(config, target_kl=float(limit)), kind=Recorder)
    metrics = ppo.improve(trajectory)
    assert stop + 1 < 6 and metrics["optimizer/steps"] == len(ppo.minibatches) == int(ppo.optimizer.iterations) == 2 * (stop + 1)
    for name in UPDATE_METRICS:
        values = [seen[name] for seen in ppo.minibatches]
        assert_close(metrics[name], values[0] if name == FIRST_GAP else np.mean(values))


@pytest.mark.parametrize("limit", [1e-1, 1e6, None])
@pytest.mark.parametrize("network, shared", [("table", None), ("lstm", True), ("lstm", False)])
def test_the_gradient_norm_limit_is_honoured(network, shared, limit):
    """Text 15. Catches: a limit never applied, applied to each variable alone, or a norm of `IndexedSlices` whose rows were not added up."""
    config = PPOConfig(epochs=1, minibatches=1, max_gradient_norm=limit)
    policy = random_table() if network == "table" else tiny_policy(network, shared, vocabulary_size=6)
    trajectory, ppo = random_trajectory(), learner(config, policy, SGD(1.0))
    before = weights_of(ppo.policy)
    gradients, _ = ppo.gradients(ppo.estimate(trajectory), tf.reduce_sum(trajectory.mask))
    metrics = ppo.improve(trajectory)
    moved = np.sqrt(sum(np.sum((new.astype(np.float64) - old) ** 2) for new, old in zip(weights_of(ppo.policy), before)))
    norm = float(tf.linalg.global_norm([tf.convert_to_tensor(gradient) for gradient in gradients]))
    assert_close(metrics["optimizer/gradient_norm"], norm)  # before it is limited
    assert_close(moved, norm if limit is None else min(norm, limit), rtol=2e-4)  # differences of float32 weights near 1


def test_the_limit_is_one_norm_of_all_micro_batches():
    """Text 15. Catches: micro-batches limited one by one before they are added up."""
    moved = []
    for parts in (1, 4):
        ppo = learner(PPOConfig(epochs=1, minibatches=1, accumulation_steps=parts, max_gradient_norm=0.05), optimizer=SGD(1.0))
        ppo.improve(random_trajectory())
        moved.append(weights_of(ppo.policy))
    assert_all_close(moved[0], moved[1], atol=1e-6)


@pytest.mark.parametrize("network", NETWORKS)
def test_learning_rate_zero_changes_no_weight(network):
    """Catches: a weight that moves by anything but the optimizer."""
    policy = tiny_policy(network, vocabulary_size=6)
    before = weights_of(policy)
    metrics = learner(PPOConfig(epochs=1, minibatches=2), policy, keras.optimizers.Adam(0.0)).improve(random_trajectory())
    assert_all_close(weights_of(policy), before, rtol=0, atol=0)
    assert metrics["optimizer/learning_rate"] == 0 and metrics["optimizer/gradient_norm"] > 0


def test_one_trace_serves_a_whole_fit():
    """Catches: a step that is traced again in each epoch (a Python number, or a shape, that changes)."""
    ppo = learner(PPOConfig(epochs=2, minibatches=2), mode="graph")
    data = tf.data.Dataset.from_tensors(random_trajectory()).repeat(3)
    history = ppo.fit(data, epochs=3, verbose=0).history
    assert ppo.traces == 1 and int(ppo.iteration) == 9 and int(ppo.optimizer.iterations) == 36
    assert len(history["loss/total"]) == 3


@pytest.mark.parametrize(
    "settings, said",
    [
        (dict(loss="mse"), "compile was given loss='mse', but PPO has its own objective"),
        (dict(metrics=["accuracy"]), r"compile was given metrics=\['accuracy'\], but PPO has its own objective"),
        (dict(weighted_metrics=["mae"], loss_weights=[1.0]), r"given loss_weights=\[1.0\], weighted_metrics="),
        (dict(jit_compile="mse"), "jit_compile='mse'. Use True"),  # compile("adam", "mse"), as elsewhere in Keras
        (dict(optimizer=None), "optimizer=None"),
    ],
)
def test_what_compile_would_ignore_is_refused(settings, said):
    """Catches: a loss or a metric that is taken without a word and never computed; a loss taken for a yes to XLA; a traceback about None."""
    with pytest.raises(InputError, match=said):
        Given(random_table(), PPOConfig()).compile(**settings)
    Given(random_table(), PPOConfig()).compile(loss=None, metrics=None, steps_per_execution=2)


@pytest.mark.parametrize(
    "settings, said",
    [
        (dict(validation_data=3), "fit was given validation_data=3, but PPO learns from what its policy does"),
        (dict(validation_split=0.1, class_weight={0: 2.0}), "given validation_split=0.1, class_weight="),
        (dict(y=np.zeros(2)), r"given y=array\(\[0., 0.\]\)"),
        (dict(batch_size=4), "given batch_size=4"),
        (dict(sample_weight=[1.0]), "given sample_weight="),
        (dict(epochs=0), "epochs=0 is no whole number of 1 or more. Use one such as 10"),
        (dict(epochs=2.5), "epochs=2.5 is no"),
        (dict(epochs=True), "epochs=True is no"),
        (dict(steps_per_epoch=0), "steps_per_epoch=0 is no"),
        (dict(steps_per_epoch=-1), "steps_per_epoch=-1 is no"),
    ],
)
def test_what_fit_would_ignore_is_refused(settings, said):
    """Catches: validation, targets or weights that are taken and never looked at; a `fit` that ends at once, without a step and without a word."""
    ppo = learner()
    with pytest.raises(InputError, match=said) as error:
        ppo.fit(tf.data.Dataset.from_tensors(random_trajectory()), **settings)
    assert "\n" not in str(error.value) and len(str(error.value)) < 400 and int(ppo.iteration) == 0


@pytest.mark.parametrize("mode", ["graph", "jit"])
def test_the_update_is_the_same_in_every_mode(mode):
    """Catches: an order of minibatches, a stop or a step that XLA or the graph does otherwise than plain Python."""
    config, trajectory = PPOConfig(epochs=3, minibatches=2, accumulation_steps=2, target_kl=0.01), random_trajectory()
    eager, other = (learner(config, optimizer=keras.optimizers.Adam(0.01), mode=m) for m in ("eager", mode))
    for ppo in (eager, other):
        ppo.fit(tf.data.Dataset.from_tensors(trajectory), epochs=2, verbose=0)
    assert_all_close(weights_of(other.policy), weights_of(eager.policy), atol=1e-6)


CHANGES = dict(
    discount=0.5, gae_lambda=0.1, clip_ratio=0.01, dual_clip=1.05, value_clip=5.0, value_coefficient=2.0, entropy_coefficient=0.5,
    epochs=3, minibatches=4, accumulation_steps=2, target_kl=1e-6, max_gradient_norm=1e-3, whiten_advantages=False,
    whiten_rewards=True, temperature=2.0, critic_warmup=1,
)  # fmt: skip


def test_every_field_is_changed_below():
    """Catches: a new setting that no test changes."""
    assert set(CHANGES) == {field.name for field in dataclasses.fields(PPOConfig)}


@pytest.mark.parametrize("field", CHANGES)
def test_every_setting_changes_something(field):
    """Catches: a setting that is declared and never read. (accumulation_steps changes memory only: it is seen in the calls.)"""
    base = PPOConfig(epochs=2, minibatches=2, max_gradient_norm=None)
    results = []
    for config in (base, dataclasses.replace(base, **{field: CHANGES[field]})):
        ppo, calls = learner(config), []
        original = ppo.gradients
        ppo.gradients = lambda *args: (calls.append(1), original(*args))[1]
        metrics = ppo.improve(random_trajectory())
        results.append((np.concatenate([w.ravel() for w in weights_of(ppo.policy)]), len(calls), float(metrics["optimizer/steps"])))
    (weights, calls, steps), (other_weights, other_calls, other_steps) = results
    if field == "accumulation_steps":
        assert other_calls == 2 * calls and other_steps == steps
        assert_close(other_weights, weights, atol=1e-5)
    else:
        assert np.abs(weights - other_weights).max() > 1e-5
        assert (calls, steps) == (4, 4)


@pytest.mark.parametrize("shared", [True, False])
def test_the_critic_learns_alone_at_first(shared):
    """Catches: a policy that moves while its critic warms up, through a trunk of both too; a critic that does not learn, or alone for good; one iteration more."""
    policy, trajectory = tiny_policy("lstm", shared=shared, vocabulary_size=6), random_trajectory()
    ppo = learner(PPOConfig(epochs=1, minibatches=2, critic_warmup=2), policy, keras.optimizers.Adam(0.01), mode="graph")
    critic = {id(variable) for variable in (*policy.value_head.weights, *(() if shared else policy.value_encoder.weights))}
    moved, before = [], weights_of(policy)
    for _ in range(3):
        ppo.fit(tf.data.Dataset.from_tensors(trajectory), verbose=0)
        after = weights_of(policy)
        moved.append([bool((one != other).any()) for one, other in zip(before, after)])
        before = after
    of_critic = [id(variable) in critic for variable in policy.weights]
    assert sum(of_critic) == len(critic) and moved[0] == moved[1] == of_critic and all(moved[2])


def test_the_norm_while_the_critic_warms_up_is_its_own():
    """Catches: gradients that are clipped by the norm of what is thrown away."""
    trajectory, ppo = random_trajectory(), learner(PPOConfig(critic_warmup=1, epochs=1, minibatches=1, max_gradient_norm=None))
    gradients, _ = ppo.gradients(ppo.estimate(trajectory), tf.reduce_sum(trajectory.mask))
    of_table, of_critic = [float(tf.norm(gradient)) for gradient in gradients]
    assert_close(ppo.improve(trajectory)["optimizer/gradient_norm"], of_critic, rtol=1e-5)
    assert of_table > 0.1 * of_critic > 0


def test_a_critic_that_nobody_knows_cannot_warm_up():
    """Catches: a policy of one's own that is held as a whole, or a traceback in the first iteration."""

    class Own(TablePolicy):
        critic_variables = property()  # it has none

    PPO(Own())
    with pytest.raises(InputError, match="critic_warmup=3 needs a policy that says what its critic_variables are"):
        PPO(Own(), PPOConfig(critic_warmup=3))


def test_minibatches_must_divide_the_batch():
    """Catches: sequences dropped without a word."""
    with pytest.raises(InputError, match="minibatches=3 does not divide batch_size=8"):
        learner(PPOConfig(minibatches=3)).improve(random_trajectory(batch=8))


def test_padding_enters_neither_update_nor_metric():
    """Text 10. Catches: garbage on padding (inputs, actions, log-probs, values, rewards) in a weight or a metric."""
    clean = random_trajectory()
    real = clean.mask > 0
    garbage = lambda x: tf.where(real, x, -1e3 if x.dtype == tf.float32 else 5)  # an old log-prob of -1000 overflows the ratio
    dirty = clean._replace(**{name: garbage(getattr(clean, name)) for name in ("inputs", "actions", "log_probs", "values", "rewards", "next_values")})
    results = []
    for trajectory in (clean, dirty):
        ppo = learner(PPOConfig(epochs=2, minibatches=2, whiten_rewards=True, entropy_coefficient=0.1))
        metrics = ppo.improve(trajectory)
        results.append((weights_of(ppo.policy), {name: float(value) for name, value in metrics.items()}))
    assert_all_close(results[0], results[1], rtol=0, atol=0)


@pytest.mark.parametrize("lengths, paid", [([0, 3, 0, 2], 1.0), ([5, 3, 4, 2], 0.0)], ids=["minibatches of padding", "nothing to explain"])
def test_nothing_divides_by_nothing(lengths, paid):
    """Catches: NaN, which ends a run, where a minibatch holds padding only, or where every value target is the same."""
    trajectory = random_trajectory(batch=4, lengths=lengths)
    nothing = {name: getattr(trajectory, name) * paid for name in ("rewards", "values", "next_values")}
    ppo = learner(PPOConfig(epochs=1, minibatches=4))
    metrics = ppo.improve(trajectory._replace(**nothing))
    assert all(np.isfinite(value) for value in metrics.values()) and all(np.all(np.isfinite(w)) for w in weights_of(ppo.policy))


def test_data_is_read_in_its_order():
    """Catches: arrays that Keras shuffles by a random number that no state of the learner holds."""
    ppo, seen = learner(), []
    ppo.train_step = lambda data: (seen.extend(data.numpy().tolist()), {"loss/total": 0.0})[1]
    ppo.fit(np.arange(96), verbose=0)
    assert seen == list(range(96))


def test_metrics_by_hand():
    """Catches: a metric over padding, or with another formula than the glossary's (ratio, k3, clip fractions, explained variance)."""
    config = PPOConfig(epochs=1, minibatches=1)
    ppo, trajectory = learner(config), random_trajectory()
    experience, real = ppo.estimate(trajectory), trajectory.mask.numpy() > 0
    logits, values = (x.numpy().astype(np.float64)[real] for x in ppo.policy(trajectory.inputs))
    log_probs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    old, old_values, returns = (x.numpy().astype(np.float64)[real] for x in (trajectory.log_probs, trajectory.values, experience.returns))
    log_ratio = log_probs[np.arange(len(old)), trajectory.actions.numpy()[real]] - old
    metrics = ppo.improve(trajectory)
    expected = {
        "policy/ratio": np.exp(log_ratio).mean(),
        "policy/approx_kl": np.mean(np.exp(log_ratio) - 1 - log_ratio),
        "policy/first_ratio_gap": np.mean(np.abs(np.exp(log_ratio) - 1)),
        "policy/clip_fraction": np.mean(np.abs(np.exp(log_ratio) - 1) > 0.2),
        "policy/entropy": -np.mean(np.sum(np.exp(log_probs) * log_probs, -1)),
        "value/clip_fraction": np.mean(np.abs(values - old_values) > 0.2),
        "value/mean": old_values.mean(),
        "value/return_mean": returns.mean(),
        "value/explained_variance": 1 - np.var(returns - old_values) / np.var(returns),
        "optimizer/learning_rate": 0.1,
    }
    for name, value in expected.items():
        assert_close(metrics[name], value, atol=2e-6)
    assert metrics["policy/entropy"] > 0 and 0 < metrics["policy/clip_fraction"] < 1


def test_the_first_gap_is_of_the_first_minibatch_alone():
    """Catches: a gap averaged over the updates, which grows as the policy learns and so cries wolf, or one of later minibatches."""
    trajectory = random_trajectory()
    ppo = learner(PPOConfig(epochs=3, minibatches=2))
    log_probs = tf.nn.log_softmax(ppo.policy(trajectory.inputs)[0])
    own_trajectory = trajectory._replace(log_probs=tf.gather(log_probs, trajectory.actions, batch_dims=2) * trajectory.mask)
    metrics = ppo.improve(own_trajectory)
    assert_close(metrics["policy/first_ratio_gap"], 0.0, atol=1e-6)
    assert metrics["policy/approx_kl"] > 1e-5  # the others moved
    off = own_trajectory._replace(log_probs=own_trajectory.log_probs - np.log(1.5) * trajectory.mask)
    assert_close(learner(PPOConfig(epochs=3, minibatches=2)).improve(off)["policy/first_ratio_gap"], 0.5, atol=1e-5)


def test_the_old_policy_has_ratio_one():
    """Text 1. Catches: old log-probabilities at another temperature than the new ones."""
    ppo, trajectory = learner(PPOConfig(temperature=0.6, epochs=1, minibatches=1)), random_trajectory()
    log_probs = tf.nn.log_softmax(ppo.policy(trajectory.inputs)[0] / 0.6)
    own = tf.gather(log_probs, trajectory.actions, batch_dims=2) * trajectory.mask
    metrics = ppo.improve(trajectory._replace(log_probs=own))
    assert_close(metrics["policy/ratio"], 1.0)
    assert_close(metrics["policy/approx_kl"], 0.0)
    assert metrics["policy/clip_fraction"] == 0


def test_seeds_name_the_draws():
    """Text 21. Catches: randomness that does not depend on seed, purpose or the saved iteration counter."""
    ppo, other = learner(seed=1), learner(seed=2)
    draws = [ppo.draw_seed(0), ppo.draw_seed(1), other.draw_seed(0)]
    ppo.iteration.assign_add(1)
    draws += [ppo.draw_seed(0), ppo.draw_seed(1)]
    assert len({tuple(draw.numpy()) for draw in draws}) == 5
    ppo.iteration.assign(0)
    assert_close(ppo.draw_seed(0), draws[0], rtol=0, atol=0)


def test_collect_must_be_defined():
    """Catches: a learner without experience that trains on nothing."""
    with pytest.raises(NotImplementedError, match="collect"):
        learner(kind=PPO).train_step(None)


ALLOWED = np.array([[1, 1, 0, 1, 1, 0], [0, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1], [0, 0, 1, 0, 0, 1], [0, 0, 0, 1, 0, 0], [1, 0, 1, 0, 1, 0]], bool)  # by input


def masked_trajectory(**kwargs):
    """A `random_trajectory` whose actions are allowed by `ALLOWED`, and its masks `(B, T, A)`; input 4 leaves one action."""
    trajectory, random = random_trajectory(**kwargs), np.random.default_rng(7)
    masks = ALLOWED[trajectory.inputs]
    actions = np.array([[random.choice(np.flatnonzero(step)) for step in row] for row in masks], np.int32)
    return trajectory._replace(actions=tf.constant(actions), action_masks=tf.constant(masks))


@pytest.mark.parametrize("mode", ["eager", "graph", "jit"])
def test_forbidden_actions_enter_neither_loss_nor_gradient(mode):
    """Catches: masks that acting has and the update has not; NaN from 0 * -inf; a gradient into the logit of a forbidden action."""
    config, trajectory = CONFIGS[1], masked_trajectory()
    ppo = learner(config)
    gradients = lambda trajectory: ppo.gradients(ppo.estimate(trajectory), tf.reduce_sum(trajectory.mask))
    gradients = gradients if mode == "eager" else tf.function(gradients, jit_compile=mode == "jit", autograph=False)
    (table, critic), metrics = gradients(trajectory)
    hindered = ppo.policy.copy()  # a table in which forbidden actions have no probability, for NumPy
    hindered.table.assign(np.where(ALLOWED, ppo.policy.table, -1e9))
    assert_close(metrics["loss/total"], numpy_loss(hindered, trajectory, config), atol=1e-5)
    assert np.all(np.isfinite(table)) and np.all(np.isfinite(critic)) and all(np.isfinite(x) for x in metrics.values())
    assert not np.any(table.numpy()[~ALLOWED])
    several = np.isin(np.arange(6), trajectory.inputs[trajectory.mask > 0]) & (ALLOWED.sum(1) > 1)
    assert np.all(np.abs(table.numpy()[several][ALLOWED[several]]) > 1e-7)
    unmasked = gradients(trajectory._replace(action_masks=()))[0][0]
    assert np.abs(unmasked.numpy()[~ALLOWED]).max() > 1e-3


def test_masks_stay_with_their_steps():
    """Catches: minibatches or micro-batches whose masks belong to other sequences."""
    ppo, seen = learner(PPOConfig(epochs=2, minibatches=2, accumulation_steps=2)), []
    original = ppo.gradients
    ppo.gradients = lambda experience, count: (seen.append(experience.trajectory), original(experience, count))[1]
    ppo.improve(masked_trajectory())
    assert len(seen) == 8 and all(np.array_equal(ALLOWED[part.inputs], part.action_masks) for part in seen)


@pytest.mark.parametrize("network", ["lstm", "transformer"])
def test_memory_stays_with_its_sequences(network):
    """Catches: minibatches or micro-batches that all begin with the memory of the first sequences. (In a first rollout every memory is zero.)"""
    agent = tiny_agent(network)
    numbered = lambda x: x if x.shape.rank == 0 else tf.cast(tf.reshape(tf.range(1, 5), [4, *[1] * (x.shape.rank - 1)]), x.dtype) + tf.zeros_like(x)
    trajectory = agent_trajectory(agent)
    trajectory = trajectory._replace(inputs=numbered(trajectory.inputs), initial_state=tf.nest.map_structure(numbered, trajectory.initial_state))
    ppo, seen = learner(PPOConfig(epochs=1, minibatches=2, accumulation_steps=2), agent), []
    original = ppo.gradients
    ppo.gradients = lambda experience, count: (seen.append(experience.trajectory), original(experience, count))[1]
    ppo.improve(trajectory)
    owners = [part.inputs[:, 0, 0].numpy() for part in seen]
    assert len(owners) == 4 and sorted(np.concatenate(owners)) == [1, 2, 3, 4]
    for owner, part in zip(owners, seen):
        for memory in tf.nest.flatten(part.initial_state):
            assert memory.shape.rank == 0 or np.all(memory == owner.reshape([1, *[1] * (memory.shape.rank - 1)]))


def test_behaviour_is_the_distribution_that_acts():
    """Text 3. Catches: a temperature that is left out where there are masks, or masks that are."""
    ppo, logits = learner(PPOConfig(temperature=0.5)), tf.constant([[1.0, 2.0, 3.0]])
    assert_close(ppo.behaviour(logits), [[2.0, 4.0, 6.0]])
    assert_close(ppo.behaviour(logits, tf.constant([[True, False, True]])), [[2.0, -np.inf, 6.0]])


def agent_trajectory(agent, batch=4, steps=6, seed=0):
    """Observations and actions of an agent, every step real; log-probabilities, values and rewards that no policy in particular had."""
    trajectory, shape = random_trajectory(batch, steps, lengths=[steps] * batch, seed=seed), [batch, steps]
    x = observations(agent.inputs_read, batch, steps)
    actions = agent.distribution.sample(agent(x)[0], agent.distribution.noise(shape, tf.constant([1, 2])))
    old = agent.distribution.log_probability(agent(x)[0], actions) + 0.2 * np.random.default_rng(seed).normal(0, 1, shape).astype(np.float32)
    return trajectory._replace(inputs=x, actions=actions, log_probs=old, initial_state=agent.initial_state(batch))


def test_without_memory_every_step_is_used_once_an_epoch():
    """Environments 26. Catches: whole sequences for an MLP, which would correlate its minibatches; steps left out or used twice."""
    agent = tiny_agent("mlp")
    ppo, orders = learner(PPOConfig(epochs=3, minibatches=4), agent), []
    trajectory = agent_trajectory(agent)._replace(starts=tf.reshape(tf.range(24.0), [4, 6]))  # a tag for each step
    original = ppo.step_optimizer

    def step_optimizer(experience):
        part = experience.trajectory
        assert part.inputs.shape == (6, 1, 4) and part.actions.shape == experience.advantages.shape == experience.returns.shape == (6, 1)
        tags = part.starts[:, 0].numpy().astype(int)
        for name in ("inputs", "actions", "log_probs", "values", "rewards"):  # everything of a step stays together
            assert_close(getattr(part, name)[:, 0], getattr(trajectory, name).numpy().reshape(24, *getattr(trajectory, name).shape[2:])[tags], rtol=0, atol=0)
        orders.append(tags.tolist())
        return original(experience)

    ppo.step_optimizer = step_optimizer
    ppo.train_step(trajectory)
    epochs = [tuple(np.concatenate(orders[i : i + 4])) for i in range(0, 12, 4)]
    assert len(orders) == 12 and all(sorted(epoch) == list(range(24)) for epoch in epochs)
    assert len(set(epochs)) == 3
    assert any(len({tag // 6 for tag in order}) > 1 for order in orders)  # a minibatch mixes sequences


@pytest.mark.parametrize("network", ["lstm", "transformer"])
def test_with_memory_sequences_stay_whole(network):
    """Environments 26. Catches: steps of an agent with a memory that are torn from what came before them."""
    agent = tiny_agent(network)
    ppo, seen = learner(PPOConfig(epochs=1, minibatches=2), agent), []
    trajectory, original = agent_trajectory(agent), ppo.step_optimizer
    ppo.step_optimizer = lambda experience: (seen.append(experience.trajectory), original(experience))[1]
    ppo.improve(trajectory)
    assert [part.inputs.shape for part in seen] == [(2, 6, 4)] * 2
    rows = [next(b for b in range(4) if np.array_equal(x, trajectory.inputs[b])) for part in seen for x in part.inputs]
    assert sorted(rows) == [0, 1, 2, 3]


def test_advantages_know_the_sequences_before_they_are_torn(monkeypatch):
    """Catches: generalized advantages of single steps: one minibatch of steps must give the step that one of whole sequences gives."""
    results = []
    for has_memory in (False, True):
        monkeypatch.setattr(MLPActorCritic, "has_memory", has_memory)
        agent = tiny_agent("mlp", actions=[3, 2])
        ppo = learner(PPOConfig(epochs=1, minibatches=1, entropy_coefficient=0.1, max_gradient_norm=None), agent, SGD(1.0))
        metrics = ppo.improve(agent_trajectory(agent))
        results.append((weights_of(agent), {name: float(value) for name, value in metrics.items()}))
    assert_all_close(results[0], results[1], atol=2e-6)


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_the_loss_of_real_valued_actions_equals_numpy(temperature):
    """Catches: another density, entropy or temperature in the loss of an agent with Gaussian actions: an MLP and its loss in float64, and its slopes."""
    agent = tiny_agent("mlp", (2, 3), DiagonalGaussian(2))
    config = PPOConfig(epochs=1, minibatches=1, entropy_coefficient=0.1, temperature=temperature)
    ppo, trajectory = learner(config, agent), agent_trajectory(agent)
    experience = ppo.estimate(trajectory)
    gradients, metrics = ppo.gradients(experience, tf.constant(24.0))
    x, actions, old, old_values, a, r = (
        np.asarray(part, np.float64)
        for part in (
            tf.reshape(trajectory.inputs, [4, 6, 6]),
            trajectory.actions,
            trajectory.log_probs,
            trajectory.values,
            experience.advantages,
            experience.returns,
        )
    )
    paths = [v.path.split("policy/")[-1] for v in agent.trainable_variables]

    def loss(weights):
        w = dict(zip(paths, weights))
        dense = lambda x, name: x @ w[f"{name}/kernel"] + w[f"{name}/bias"]
        hidden = lambda name: np.tanh(dense(np.tanh(dense(x, f"{name}/projection")), f"{name}/trunk/hidden_0"))
        mean, values = dense(hidden("encoder"), "policy_head"), dense(hidden("value_encoder"), "value_head")[..., 0]
        variance = np.exp(2 * w["free_parameters"]) * temperature
        log_probs = np.sum(-((actions - mean) ** 2) / (2 * variance) - np.log(2 * np.pi * variance) / 2, -1)
        ratio = np.exp(log_probs - old)
        objective = np.minimum(ratio * a, np.clip(ratio, 0.8, 1.2) * a)
        near = old_values + np.clip(values - old_values, -0.2, 0.2)
        value_loss = 0.5 * np.maximum((values - r) ** 2, (near - r) ** 2)
        return np.mean(-objective + 0.5 * value_loss) - 0.1 * np.sum(np.log(2 * np.pi * np.e * variance) / 2)

    weights = [v.numpy().astype(np.float64) for v in agent.trainable_variables]
    assert_close(metrics["loss/total"], loss(weights))
    for i, gradient in enumerate(gradients):
        for index in [(0,) * weights[i].ndim, (-1,) * weights[i].ndim]:
            losses = []
            for change in (1e-6, -1e-6):
                moved = [w.copy() for w in weights]
                moved[i][index] += change
                losses.append(loss(moved))
            assert_close(gradient.numpy()[index], (losses[0] - losses[1]) / 2e-6, rtol=1e-4, atol=1e-6)  # differences of float64


def test_the_update_of_single_steps_is_the_same_in_every_mode():
    """Catches: steps or masks that XLA or the graph takes in another order than plain Python."""
    results = []
    for mode in ("eager", "graph", "jit"):
        agent = tiny_agent("mlp", actions=[3, 2], shared=True)
        masks = np.random.default_rng(3).random([4, 6, 5]) < 0.5
        trajectory = agent_trajectory(agent)
        masks |= tf.concat([tf.one_hot(trajectory.actions[..., 0], 3), tf.one_hot(trajectory.actions[..., 1], 2)], -1).numpy() > 0
        ppo = learner(PPOConfig(epochs=1, minibatches=3, entropy_coefficient=0.1), agent, mode=mode)
        ppo.fit(tf.data.Dataset.from_tensors(trajectory._replace(action_masks=tf.constant(masks))), verbose=0)
        results.append(weights_of(agent))
    for other in results[1:]:
        assert_all_close(other, results[0], atol=1e-5)


def test_minibatches_must_divide_the_steps():
    """Catches: single steps dropped without a word; a number of minibatches that divides the steps, not the sequences, is fine."""
    agent = tiny_agent("mlp")
    with pytest.raises(InputError, match="minibatches=5 does not divide batch_size=24"):
        learner(PPOConfig(minibatches=5), agent).improve(agent_trajectory(agent))
    assert learner(PPOConfig(minibatches=8, epochs=1), agent).improve(agent_trajectory(agent))["optimizer/steps"] == 8
