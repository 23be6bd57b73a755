"""`EnvironmentPPO`: the collector for environments. It acts for some steps in several copies and remembers where it stopped."""

import hashlib
import numbers
import warnings

import keras
import numpy as np
import tensorflow as tf

from ppo_keras.checkpoints import from_json, of_json
from ppo_keras.config import PPOConfig
from ppo_keras.environments.border import Stuck
from ppo_keras.environments.environment import check_agent
from ppo_keras.environments.matching import check_match
from ppo_keras.environments.rollout import batch_first, begin, python_rollout, rollout
from ppo_keras.errors import EnvironmentFault, InputError, ResumeWarning, check_count, check_instance, check_seed, require, shown
from ppo_keras.networks.normalization import RunningNormalization
from ppo_keras.ppo import ITERATION_METRICS, PPO
from ppo_keras.trajectory import Trajectory


class EnvironmentPPO(PPO):
    """PPO for an agent in an environment (Schulman et al. 2017, algorithm 1).

    `fit` needs no data: `fit(steps_per_epoch=100)`.

    Args:
        policy: an actor-critic for the environment's `observation` and `actions`.
        environment: an `Environment`, or a `GymnasiumEnvironment`, which runs between the compiled parts. The learner plays in
            a copy of its own.
        config: a `PPOConfig`.
        environments: `B`, copies that are acted in side by side.
        steps: `T`, steps in each copy between two updates.
        iterations_per_call: whole iterations inside one compiled call, that is, in one step of `fit`; its metrics are
            their means. An environment in Python allows 1 only.
        normalize_rewards: rewards are divided by the running standard deviation of the discounted return.
        seed: of all randomness.

    Raises:
        InputError: policy and environment do not fit; minibatches do not divide the sequences (or, for a policy without
            memory, the steps); an argument is of another kind, or out of range; an `EnvironmentFault`, here or in `fit`: the
            environment raised, or returned what it must not.
    """

    def __init__(
        self, policy, environment, config=None, environments=4, steps=128, iterations_per_call=1, normalize_rewards=False,
        seed=0, **kwargs,
    ):  # fmt: skip
        check_agent(policy, environment)
        check_instance("config", config, PPOConfig)
        for name, value, example in (("environments", environments, 4), ("steps", steps, 128), ("iterations_per_call", iterations_per_call, 1)):
            check_count(name, value, example=example)
        check_seed(seed)
        super().__init__(policy, config, seed, **kwargs)
        check_match(policy, environment)
        # two learners (or a learner and a player) in the same episodes would each see the other's half
        self.environment = environment if environment.compiles else environment.copy()
        self.environments, self.steps, self.stuck = environments, steps, Stuck()
        self.iterations_per_call = iterations_per_call if self.compiles_whole else 1
        devices = self.devices.count
        require(
            self.compiles_whole or devices == 1,
            f"{environment.name} runs in Python, in one process, so that {devices} devices cannot share it. Use one, or an Environment in TensorFlow.",
        )
        self.devices.check_batch(environments, "environments")
        if policy.has_memory:
            self.config.check_batch(environments, "environments", devices)
        else:
            self.config.check_batch(environments * steps, "environments * steps", devices)
        self.return_statistics = RunningNormalization((), name="return_statistics") if normalize_rewards else None
        self.finished = self.add_weight((3,), "zeros", "float32", trainable=False, name="finished")
        self.last_episodes = self.add_weight((2,), "zeros", "float32", trainable=False, name="last_episodes")
        self.carry = tf.nest.map_structure(self._keep, self._begin())
        self._stands = self._digest()

    def _begin(self):
        return begin(self.environment, self.policy, self.environments, self.draw_seed(purpose=2))

    def _keep(self, tensor):
        """A variable for one tensor of the carry; as an attribute, because checkpoints do not look into nests."""
        name = f"carry_{len(self.non_trainable_variables)}"
        tensor = tf.convert_to_tensor(tensor)
        weight = self.add_weight(tensor.shape, "zeros", tensor.dtype.name, trainable=False, name=name)
        weight.assign(tensor)
        setattr(self, name, weight)
        return weight

    def _assign_carry(self, values):
        tf.nest.map_structure(lambda variable, value: variable.assign(value), self.carry, values)
        self._stands = self._digest()

    def _digest(self):
        """Names the content of the carry: where the episodes of an environment in Python stood when it was written."""
        if not self.compiles_whole:
            return hashlib.sha256(b"".join(np.asarray(part).tobytes() for part in tf.nest.flatten(self.carry))).digest()

    def restart(self, seed):
        """Forgets all that was learned: new weights, new episodes, another seed. What was compiled stays compiled.

        `compile` comes first: the optimizer is set back to what it was then.
        """
        require(self.compiled, "restart sets the optimizer back, but there is none yet. Call compile first.")
        check_seed(seed)
        keras.utils.set_random_seed(seed)
        self.policy.set_weights(self.policy.from_config(self.policy.get_config()).get_weights())
        for variable, value in zip(self.optimizer.variables, self._optimizer_at_start):
            variable.assign(value)
        self.seed.assign(seed)
        self.iteration.assign(0)
        self.finished.assign([0.0, 0.0, 0.0])
        self.last_episodes.assign([0.0, 0.0])
        if self.return_statistics is not None:
            self.return_statistics.set_weights(RunningNormalization(()).get_weights())
        self._assign_carry(self._begin())

    def state(self):
        """See `PPO.state`; the episodes of an environment in Python are part of it."""
        return super().state() | self._episodes_under_way()

    def restore(self, state):
        """See `PPO.restore`. Where an environment in Python does not repeat itself, new episodes begin, with a warning."""
        state = dict(state)
        episodes = state.pop("episodes", None)
        super().restore(state)
        self._play_again(episodes)

    def save_own_variables(self, store):
        """Keras's, for `save_weights`, `BackupAndRestore`: as with `state`, the episodes of an environment in Python are part of it."""
        super().save_own_variables(store)
        for name, episodes in self._episodes_under_way().items():
            store[name] = episodes

    def load_own_variables(self, store):
        """Keras's, for `load_weights`, `BackupAndRestore`; see `restore`."""
        arrays = {name: store[name] for name in store.keys()}
        episodes = arrays.pop("episodes", None)
        super().load_own_variables(arrays)
        self._play_again(episodes)

    def _episodes_under_way(self):
        """Of an environment in Python, where they stand, by name; nothing where they are not those of the carry."""
        if self.compiles_whole or self._stands != self._digest():
            return {}
        return {"episodes": of_json(self.environment.state())}

    def _play_again(self, episodes):
        """Brings an environment in Python to where the carry stands, which was just restored; else new episodes will begin."""
        if episodes is None:
            return
        try:
            self.environment.replay(from_json(np.asarray(episodes)))
        except EnvironmentFault:
            self._begin_anew(f"{self.environment.name} does not repeat itself from its own random state")
        else:
            self._stands = self._digest()

    def _begin_anew(self, reason):
        warnings.warn(f"{reason}, so new episodes begin: the rest of the run is not that of one that was never stopped.", ResumeWarning, stacklevel=2)
        self._assign_carry(self._begin())

    @property
    def compiles_whole(self):
        """False with an environment in Python, which runs between the compiled parts."""
        return self.environment.compiles

    def compile(self, *args, **kwargs):
        """See `PPO.compile`."""
        super().compile(*args, **kwargs)
        self._optimizer_at_start = [variable.numpy() for variable in self.optimizer.variables]

    def make_train_function(self, force=False):
        """Keras's; after each call it is asked whether the environment left an action to take, which a compiled call cannot say."""
        if self.train_function is None or force:
            super().make_train_function(force)
            train = self.train_function

            def train_and_check(iterator):
                logs = train(iterator)
                self.stuck.check(self.environment)
                return logs

            self.train_function = train_and_check

    def compile_parts(self, wrap):
        """See `PPO.compile_parts`."""
        super().compile_parts(wrap)
        assemble = self.assemble if self.compiles_whole else lambda before, after, record: self.assemble(before, after, batch_first(record))
        self._rollout, self._assemble = self.devices.on_shares(self.share_of_rollout, wrap), self.devices.in_graph(assemble, wrap)
        self._act, self._value = wrap(self.act), wrap(self.value)
        self._noise = wrap(lambda: self.policy.distribution.noise([self.steps, self.environments], self.draw_seed(purpose=0)))

    def fit(self, steps_per_epoch=1, epochs=1, **kwargs):
        """Keras's `fit`; there is no data, only a number of calls.

        With `compile(steps_per_execution=k)` let k divide `steps_per_epoch`: Keras rounds it up to whole executions.

        Raises:
            InputError: see `PPO.fit`; data.
        """
        x = kwargs.pop("x", None)
        data = x if isinstance(steps_per_epoch, (numbers.Number, str, type(None))) else steps_per_epoch
        if data is not None:
            raise InputError(f"fit was given {shown(data)}, but an agent learns from its environment, not from data. Say how long: fit(steps_per_epoch=100).")
        check_count("steps_per_epoch", steps_per_epoch)  # None would be without end
        nothing = tf.data.Dataset.from_tensors(0).repeat()
        return super().fit(nothing, steps_per_epoch=steps_per_epoch, epochs=epochs, **kwargs)

    def train_step(self, data):
        """`iterations_per_call` iterations. Returns the means of their metrics, and those of all episodes that ended."""
        self.finished.assign([0.0, 0.0, 0.0])
        iterate = super().train_step
        if self.iterations_per_call == 1:
            return iterate(data) | self._episodes()

        def iteration(i, totals):
            metrics = iterate(data)
            return i + 1, {name: totals[name] + metrics[name] for name in totals}

        nothing = {name: tf.zeros([]) for name in ITERATION_METRICS}
        _, totals = tf.while_loop(lambda i, _: i < self.iterations_per_call, iteration, (tf.constant(0), nothing))
        return {name: total / self.iterations_per_call for name, total in totals.items()} | self._episodes()

    def _episodes(self):
        """Return and length of the episodes that ended in this call; where none did, those of the last ones that did."""
        sums, count = self.finished[:2], self.finished[2]
        self.last_episodes.assign(tf.where(count > 0, sums / tf.maximum(count, 1.0), self.last_episodes))
        episode_return, episode_length = tf.unstack(tf.convert_to_tensor(self.last_episodes))
        return {"episode/return": episode_return, "episode/length": episode_length, "episode/count": count}

    def improve(self, trajectory):
        """See `PPO.improve`; afterwards the policy's running statistics move on, with what was observed."""
        metrics = super().improve(trajectory)
        if self.policy.normalization is not None:
            self.policy.normalization.update(trajectory.inputs, trajectory.mask)
        return metrics

    def collect(self, data):
        """Acts for `T` steps in every environment, from where the last rollout stopped."""
        if not self.compiles_whole and self._stands != self._digest():  # the variables came from elsewhere (`set_weights`, `tf.train.Checkpoint`)
            self._begin_anew(f"the restored variables do not say where the episodes of {self.environment.name} stood")
        before = tf.nest.map_structure(tf.convert_to_tensor, self.carry)
        if self.compiles_whole:
            (after, record), _ = self._rollout(before)
        else:
            after, record = python_rollout(self.environment, self._act, self._value, self.config.discount, before, self._noise())
        trajectory, metrics = self._assemble(before, after, record)
        self._assign_carry(after)
        return trajectory, metrics

    def share_of_rollout(self, share, before):
        """A share of the copies acts for `T` steps: the `Carry` after them, and the `Record`, `(B, T, ...)`."""
        seed, before = self.draw_seed(purpose=0), share.of(before)
        after, record = rollout(self.environment, self.policy, self.behaviour, self.config.discount, before, self.steps, seed, share)
        return (after, batch_first(record)), ()

    def act(self, observation, memory, starts, noise, action_masks):
        """One step of the policy: logits, values, memory, actions."""
        logits, values, memory = self.policy.step(observation, memory, starts)
        logits = self.behaviour(logits, action_masks)
        return logits, values, memory, self.policy.distribution.sample(logits, noise)

    def value(self, observation, memory):
        """V of an observation that goes on with an episode, float32 `(B,)`."""
        return self.policy.step(observation, memory, tf.zeros([self.environments]))[1]

    def assemble(self, before, after, record):
        """The `Trajectory` of a rollout, and no metrics: what its episodes earned is added to the totals of this call.

        The value after a step is 0 where the episode terminated, V(final observation) where it was cut off, and else
        the value of the next step; after the last step that of the observation with which the next rollout begins.
        """
        policy = self.policy
        if not isinstance(record.action_masks, tuple):
            self.stuck.note(policy.distribution, record.action_masks)
        bootstrap = policy.step(after.observation, after.memory, after.starts)[1]
        next_values = tf.concat([record.value[:, 1:], bootstrap[:, tf.newaxis]], axis=1)
        next_values = tf.where(record.truncated, record.final_value, next_values)
        next_values = tf.where(record.terminated, 0.0, next_values)
        ended = tf.cast(record.terminated | record.truncated, tf.float32)
        trajectory = Trajectory(
            inputs=record.observation,
            starts=record.starts,
            actions=record.action,
            log_probs=policy.distribution.log_probability(record.logits, record.action),
            values=record.value,
            rewards=self._scaled(record),
            next_values=next_values,
            ended=ended,
            mask=tf.ones_like(ended),
            initial_state=before.memory,
            action_masks=record.action_masks,
        )
        sums = [tf.reduce_sum(x * ended) for x in (record.episode_return, record.episode_length)]
        self.finished.assign_add(tf.stack([*sums, tf.reduce_sum(ended)]))
        return trajectory, {}

    def _scaled(self, record):
        """The rewards; or, normalised, divided by the running standard deviation of the discounted return, within +-10."""
        if self.return_statistics is None:
            return record.reward
        statistics = self.return_statistics
        statistics.update(record.discounted_return, tf.ones_like(record.reward))
        scaled = record.reward * tf.math.rsqrt(tf.convert_to_tensor(statistics.variance) + 1e-8)
        return tf.clip_by_value(scaled, -statistics.limit, statistics.limit)
