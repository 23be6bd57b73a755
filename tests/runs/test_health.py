"""`ppo_keras.runs.health`: each sign is said once, when it lasts, with what to try; a healthy run is left in peace."""

import types
import warnings

import pytest
import tensorflow as tf

from ppo_keras.errors import HealthWarning
from ppo_keras.runs.health import Health

HEALTHY = {
    "objective/scores": 0.5, "objective/judged": 0.5, "response/token_kl": 0.2, "response/ended_share": 0.9, "policy/entropy": 1.0,
    "policy/clip_fraction": 0.1, "policy/first_ratio_gap": 1e-6, "value/explained_variance": 0.3, "response/length": 12.0,
}  # fmt: skip


def said(changes, iterations=12, patience=4, resumed=None, **settings):
    """The warnings of a run; `changes`: {metric: a function of the iteration}, the others are healthy; `resumed`: after this iteration."""
    health = Health("objective/scores", patience=patience, **settings)
    health.set_model(types.SimpleNamespace(iteration=tf.Variable(0)))
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        for iteration in range(iterations):
            if iteration == resumed:
                state, model = health.state(), health.model
                health = Health("objective/scores", patience=patience, **settings)
                health.restore(state)
                health.set_model(model)
            health.model.iteration.assign_add(1)
            health.on_train_batch_end(iteration, HEALTHY | {name: value(iteration) for name, value in changes.items()})
    assert all(warning.category is HealthWarning for warning in shown)
    return [str(warning.message) for warning in shown]


SIGNS = {
    "kl": ({"response/token_kl": lambda i: 2.5}, "2.50 nats a token", "--kl-coefficient"),
    "ratio": ({"policy/first_ratio_gap": lambda i: 0.05}, "off 1 by 0.050 before any update", "dropout and precision"),
    "entropy": ({"policy/entropy": lambda i: 1.0 if i < 4 else 0.01}, "collapsed to 0.0100 nats", "--entropy-coefficient"),
    "clip": ({"policy/clip_fraction": lambda i: 0.75}, "75% of the ratios are clipped", "--learning-rate"),
    "value": ({"value/explained_variance": lambda i: -0.5}, "explained variance -0.50", "--value-coefficient"),
    "endless": ({"response/ended_share": lambda i: 0.02}, "only 2% of the responses end", "--missing-end-penalty"),
    "short": ({"objective/scores": lambda i: 0.1 * i, "response/length": lambda i: 12.0 if i < 4 else 4.5}, "shrink to 4.5 tokens", "--short-penalty"),
    "hacking": ({"objective/scores": lambda i: 0.1 * i, "objective/judged": lambda i: 0.9 - 0.05 * i}, "gamed", "a better reward"),
}


@pytest.mark.parametrize("resumed", [None, 3, 12])
@pytest.mark.parametrize("sign", SIGNS)
def test_each_sign_is_said_once_with_advice(sign, resumed):
    """Catches: a sign that is missed or said at every iteration (or again by a run that goes on), a figure or an advice of another
    one, a start that is forgotten when a run goes on."""
    changes, *words = SIGNS[sign]
    (message,) = said(changes, iterations=20, resumed=resumed)
    assert all(word in message for word in words) and "said once" in message


def test_a_healthy_run_is_left_in_peace():
    """Catches: a false alarm, also where a metric is not there (an agent has no responses), where entropy falls because reward rose,
    and where nothing is known yet."""
    assert said({}) == []
    assert said({"policy/entropy": lambda i: 0.8**i if i < 4 else 0.001, "objective/scores": lambda i: 0.1 * i}) == []
    assert said({"response/length": lambda i: 12.0 if i < 4 else 4.5}) == []  # and no more reward
    assert said({"objective/scores": lambda i: 0.1 * i, "response/length": lambda i: 12.0 if i < 4 else 6.5}) == []
    health = Health("episode/return", patience=1)
    health.set_model(types.SimpleNamespace(iteration=tf.Variable(1)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        health.on_train_batch_end(0, {"episode/return": 1.0, "policy/entropy": 0.0})
        health = Health("episode/return", patience=1)
        health.set_model(types.SimpleNamespace(iteration=tf.Variable(1)))
        for count, value, entropy in ((0, 0.0, 1.0), (1, -900.0, 1.0), (1, -500.0, 0.01), (1, -200.0, 0.01)):  # 0: no episode has ended
            health.on_train_batch_end(0, {"episode/return": value, "episode/count": count, "policy/entropy": entropy})


@pytest.mark.parametrize("lasts, count", [(3, 0), (4, 1)])
def test_a_sign_must_last(lasts, count):
    """Catches: a warning for a single noisy iteration, or one that comes an iteration late; iterations counted that did not follow each other."""
    found = said({"policy/clip_fraction": lambda i: 0.9 if i % (lasts + 1) < lasts else 0.1})
    assert len(found) == count and (not found or "(iteration 4;" in found[0])


def test_what_does_not_count_is_not_watched():
    """Catches: a warning about KL where it is free, or about a critic that has nothing to explain."""
    both = {"response/token_kl": lambda i: 9.0, "value/explained_variance": lambda i: -1.0}
    assert len(said(both)) == 2 and said(both, watch_kl=False, watch_value=False) == []
