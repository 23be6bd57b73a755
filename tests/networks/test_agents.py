"""`ppo_keras.networks`, of agents: policies that read observations, with and without a memory."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from helpers import assert_all_close, assert_close, observations, tiny_agent, weights_of
from ppo_keras import LSTMActorCritic, TransformerActorCritic
from ppo_keras.distributions import Categorical, DiagonalGaussian, MultiCategorical
from ppo_keras.networks.actor_critic import MLPActorCritic, new_policy
from ppo_keras.networks.encoder import ObservationEncoder
from unrolling import BATCH, STARTS, STEPS, unroll

AGENTS = ("mlp", "lstm", "transformer")
every_agent = pytest.mark.parametrize("network", AGENTS)
every_observation = pytest.mark.parametrize("observation", [(4,), (2, 3), 7], ids=["vector", "matrix", "states"])


@every_observation
@every_agent
def test_unrolling_step_of_an_agent_equals_one_call(network, observation):
    """Environments 22. Catches: observations that `step` and `call` flatten or reset differently; a start in mid-sequence, a state between two calls."""
    shared = observation == (2, 3)
    agent, x = tiny_agent(network, observation, shared=shared, layers=2, memory=5), observations(observation, BATCH, STEPS)
    whole = agent(x, starts=STARTS)
    assert whole[0].shape == (BATCH, STEPS, 3) and whole[1].shape == (BATCH, STEPS)
    assert_all_close(unroll(agent, x, STARTS)[0], whole, atol=1e-5)
    state = unroll(agent, x[:, :6], STARTS[:, :6])[1]
    for carried in (state, agent.read(x[:, :6], starts=STARTS[:, :6])):
        assert_all_close(agent(x[:, 6:], initial_state=carried, starts=STARTS[:, 6:]), tuple(y[:, 6:] for y in whole), atol=1e-5)
    assert_all_close(agent(x, starts=STARTS, context=3), tuple(y[:, 3:] for y in whole), atol=1e-5)


@every_observation
def test_an_agent_without_memory_reads_every_step_for_itself(observation):
    """Catches: starts, an order of steps, or sequences that make a difference to an MLP."""
    agent, x = tiny_agent("mlp", observation, layers=2), observations(observation, BATCH, STEPS)
    whole = agent(x)
    assert np.ptp(whole[0], axis=1).min() > 0.1
    assert_all_close(agent(x, starts=STARTS), whole, rtol=0, atol=0)
    assert_all_close(agent(x[::-1, ::-1]), tuple(y[::-1, ::-1] for y in whole), atol=1e-6)
    *one, state = agent.step(x[:, 4], agent.initial_state(BATCH), STARTS[:, 4])
    assert_all_close(one, [y[:, 4] for y in whole], atol=1e-6)
    assert tf.nest.flatten(state) == tf.nest.flatten(agent.initial_state(BATCH)) == []


@every_agent
def test_has_memory(network):
    """Catches: steps of an agent with a memory that are shuffled one by one (environments 26), or of an MLP that are not."""
    assert tiny_agent(network).has_memory == (network != "mlp")


def orthogonal_with_gain(kernel, gain):
    """Whether the shorter side of a kernel holds orthogonal vectors of length `gain`."""
    kernel = np.asarray(kernel, np.float64) / gain
    product = kernel @ kernel.T if kernel.shape[0] < kernel.shape[1] else kernel.T @ kernel
    assert_close(product, np.eye(len(product)), atol=1e-5)


@every_agent
def test_agents_begin_with_orthogonal_kernels(network):
    """Catches: another gain: sqrt(2) before tanh, 0.01 in the policy head (a nearly uniform policy), 1 in the value head; or one draw used twice."""
    agent = new_policy(network, (4,), 3, width=16, layers=2, heads=2, memory=8, shared=False)
    for encoder in (agent.encoder, agent.value_encoder):
        orthogonal_with_gain(encoder.projection.kernel, 2**0.5)
        for layer in encoder.trunk.hidden if network == "mlp" else ():
            orthogonal_with_gain(layer.kernel, 2**0.5)
    orthogonal_with_gain(agent.policy_head.kernel, 0.01)
    orthogonal_with_gain(agent.value_head.kernel, 1.0)
    assert not any(np.any(w) for w in agent.weights if w.path.endswith("bias") and "cell" not in w.path)
    assert np.abs(agent.encoder.projection.kernel - agent.value_encoder.projection.kernel).max() > 0.1


def test_a_language_model_begins_as_gpt2():
    """Catches: an agent's initialisation in a language model: N(0, 0.02) in its value head, and no policy head."""
    model = new_policy("lstm", 30, width=256, layers=1, heads=2, memory=8)
    assert model.policy_head is None and 0.015 < np.std(model.value_head.kernel) < 0.025


@every_agent
def test_a_gaussian_policy_puts_out_means_and_free_log_deviations(network):
    """Catches: log deviations that depend on the state, are left out in `step`, come before the means, or are not trained."""
    agent, x = tiny_agent(network, actions=DiagonalGaussian(3)), observations((4,), BATCH, STEPS)
    parameters, _ = agent(x)
    assert parameters.shape == (BATCH, STEPS, 6) and agent.step(x[:, 0], agent.initial_state(BATCH))[0].shape == (BATCH, 6)
    assert_all_close(unroll(agent, x)[0][0], parameters, atol=1e-5)
    assert_close(parameters[..., 3:], np.broadcast_to(agent.free_parameters, [BATCH, STEPS, 3]), rtol=0, atol=0)
    assert np.ptp(parameters[..., :3], axis=1).min() > 0.1
    assert any(v is agent.free_parameters for v in agent.trainable_variables)
    actions = x[..., :3]
    with tf.GradientTape() as tape:
        log_prob = tf.reduce_sum(agent.distribution.log_probability(agent(x)[0], actions))
    squares = np.square((actions - parameters[..., :3]) / np.exp(parameters[..., 3:]), dtype=np.float64)
    assert_close(tape.gradient(log_prob, agent.free_parameters.value), np.sum(squares - 1, (0, 1)))  # d log p / d log sigma


def test_a_fresh_gaussian_policy_is_standard_normal():
    """Catches: log deviations that do not begin at 0."""
    agent = MLPActorCritic((4,), DiagonalGaussian(3))
    assert_close(agent(observations((4,), BATCH, STEPS))[0], np.zeros([BATCH, STEPS, 6]), atol=0.05)


@every_agent
def test_several_choices_are_logits_side_by_side(network):
    """Catches: a head for one of the choices only, or for every combination of them."""
    for actions in ([3, 2], MultiCategorical([3, 2])):
        agent, x = tiny_agent(network, actions=actions), observations((4,), BATCH, STEPS)
        assert agent(x)[0].shape == (BATCH, STEPS, 5) and agent.free_parameters is None
        assert agent.distribution.mode(agent(x)[0]).shape == (BATCH, STEPS, 2)


@pytest.mark.parametrize(  # each network and each kind of action once; every pair in the full run
    "network, actions",
    [
        pytest.param(network, actions, id=f"{network}-{name}", marks=() if network in kept else pytest.mark.full)
        for name, actions, *kept in (("gaussian", DiagonalGaussian(3), "mlp"), ("multi", [3, 2], "lstm"), ("categorical", 4, "transformer"))
        for network in AGENTS
    ],
)
def test_settings_and_file_of_an_agent(network, actions, tmp_path):
    """Text 21. Catches: a setting, a distribution, a free parameter or a statistic that a `.keras` file or a copy does not hold."""
    agent, x = tiny_agent(network, (2, 3), actions, network == "lstm", layers=2, normalize=True), observations((2, 3), BATCH, STEPS)
    agent.save(tmp_path / "agent.keras")
    loaded = keras.models.load_model(tmp_path / "agent.keras")
    for twin in (loaded, agent.copy()):
        assert type(twin) is type(agent) and twin.get_config() == agent.get_config()
        assert type(twin.distribution) is type(agent.distribution) and twin.distribution.get_config() == agent.distribution.get_config()
        assert_all_close(weights_of(twin), weights_of(agent), rtol=0, atol=0)
        assert_all_close(twin(x, starts=STARTS), agent(x, starts=STARTS), rtol=0, atol=0)
        assert not {id(v) for v in twin.variables} & {id(v) for v in agent.variables}
    before = loaded(x)
    for variable in agent.variables:
        variable.assign_add(tf.ones(variable.shape))
    assert_all_close(loaded(x), before, rtol=0, atol=0)


@every_agent
def test_a_checkpoint_holds_every_weight_of_an_agent(network, tmp_path):
    """Text 21. Catches: layers in a Python list, free parameters or statistics that `tf.train.Checkpoint` does not follow."""
    agent, other = (tiny_agent(network, actions=DiagonalGaussian(2), layers=2, normalize=True, seed=seed) for seed in (0, 1))
    assert not any(np.array_equal(*pair) for pair in zip(weights_of(other), weights_of(agent)))
    path = tf.train.Checkpoint(model=agent).save(str(tmp_path / "checkpoint"))
    tf.train.Checkpoint(model=other).restore(path)
    assert_all_close(weights_of(other), weights_of(agent), rtol=0, atol=0)


@every_agent
def test_an_agent_acts_alike_under_xla(network):
    """Catches: a step that XLA computes otherwise than plain Python."""
    agent, x = tiny_agent(network, actions=DiagonalGaussian(3), normalize=True), observations((4,), BATCH, STEPS)
    state = agent.read(x)
    step = tf.function(agent.step, jit_compile=True)
    assert_all_close(step(x[:, 0], state, STARTS[:, 0]), agent.step(x[:, 0], state, STARTS[:, 0]), atol=1e-5)


REAL = pytest.param(DiagonalGaussian(2), id="gaussian")


@pytest.mark.parametrize("actions", [pytest.param(3, id="categorical"), REAL])
@every_agent
def test_mixed_precision_of_an_agent(network, actions):
    """Catches: bfloat16 parameters of a distribution, or log deviations of another dtype than the means; a `step` unlike `call`."""
    x = observations((4,), BATCH, STEPS)
    exact = tiny_agent(network, actions=actions)(x)
    keras.config.set_dtype_policy("mixed_bfloat16")
    agent = tiny_agent(network, actions=actions)
    outputs, stepped = agent(x), unroll(agent, x)[0]
    assert {y.dtype for y in (*outputs, *stepped)} == {tf.float32}
    assert 1e-4 < np.abs(outputs[0] - exact[0]).mean() < 0.1
    assert np.abs(outputs[0] - stepped[0]).mean() < 0.05


def test_mixed_precision_of_an_lstm_is_compiled():
    """Catches: products that XLA puts out in float32 added to what has 16 bits."""
    keras.config.set_dtype_policy("mixed_bfloat16")
    agent = tiny_agent("lstm")
    x = observations((4,), BATCH, STEPS)
    assert_all_close(tf.function(agent, jit_compile=True)(x), agent(x), rtol=0.05, atol=0.05)


def test_new_policy_builds_agents():
    """Catches: an argument that the factory drops, or a network by another name."""
    sizes = dict(inputs=(4,), actions=Categorical(3), width=16, layers=2, heads=4, memory=9, shared=False, normalize=True)
    mlp, lstm, transformer = (new_policy(network, **sizes) for network in AGENTS)
    assert (type(mlp), type(lstm), type(transformer)) == (MLPActorCritic, LSTMActorCritic, TransformerActorCritic)
    for model in (mlp, lstm, transformer):
        names = ["inputs", "width", "layers", "shared", "normalize"] + (["heads", "memory"] if model is transformer else [])
        config = model.get_config()
        assert {name: config[name] for name in names} == {name: sizes[name] for name in names}
        assert model.distribution is sizes["actions"] and model.name == "policy"
    assert [len(mlp.encoder.trunk.hidden), len(lstm.encoder.trunk.cells), len(transformer.encoder.trunk.blocks)] == [2, 2, 2]


def test_unknown_networks_are_refused():
    """Catches: a misspelt network that becomes some default; a network that cannot act, or cannot read tokens."""
    sizes = dict(width=16, layers=1, heads=2, memory=8)
    with pytest.raises(ValueError, match="'gru' is unknown. Use mlp, lstm or transformer"):
        new_policy("gru", (4,), 2, **sizes)
    with pytest.raises(ValueError, match="'bag' is unknown. Use mlp, lstm or transformer"):
        ObservationEncoder((4,), "bag", 16, 1)
    with pytest.raises(ValueError, match="an MLP is no language model. Give the actions"):
        new_policy("mlp", 30, **sizes)
