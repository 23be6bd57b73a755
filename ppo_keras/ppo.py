"""Proximal policy optimization as a `keras.Model`: `train_step` is one iteration, `fit` repeats it.

Read `train_step`, then `improve`, then `gradients`: this is Algorithm 1 of Schulman et al. (2017).
"""

from typing import NamedTuple

import keras
import tensorflow as tf

from ppo_keras import randomness
from ppo_keras.advantages import generalized_advantages
from ppo_keras.blocks import from_logits
from ppo_keras.checkpoints import changing, into_variables, of_variables
from ppo_keras.config import PPOConfig
from ppo_keras.devices import Devices
from ppo_keras.distributions import acting
from ppo_keras.errors import check_count, require, shown
from ppo_keras.losses import clipped_policy_loss, clipped_value_loss
from ppo_keras.masking import masked_mean, masked_sum, masked_variance, whiten
from ppo_keras.trajectory import (
    Shelf,
    Trajectory,
    single_steps,
    slice_sequences,
    take_sequences,
)


class Experience(NamedTuple):
    """What the update reads: a trajectory with its advantages and value targets, float32 `(B, T)` each."""

    trajectory: Trajectory
    advantages: tf.Tensor
    returns: tf.Tensor


class PPO(keras.Model):
    """The learner. A subclass says in `collect` where experience comes from (`LanguagePPO`, for one).

    `compile`, `fit` and callbacks are Keras's; `runs.callbacks.Checkpoint` saves the `state`. One batch of `fit` is one iteration: collect, estimate
    advantages, several epochs of minibatches. With `compile(jit_compile=True)` it is one XLA program. Built in the scope of a `tf.distribute`
    strategy, its devices share the work (see `devices`), and it is several programs.

    Args:
        policy: an actor-critic with `initial_state`, `step` and `call`.
        config: a `PPOConfig`.
        seed: of all randomness; with the iteration counter, which is saved, it names every draw.
    """

    frozen = ()  # models inside that training does not change

    def __init__(self, policy, config=None, seed=0, **kwargs):
        super().__init__(**{"dtype": policy.dtype_policy} | kwargs)  # by it Keras knows in `compile` that a loss must be scaled
        self.policy = policy
        self.config = config or PPOConfig()
        require(
            not self.config.critic_warmup or hasattr(policy, "critic_variables"),
            f"critic_warmup={self.config.critic_warmup} needs a policy that says what its critic_variables are, as an ActorCritic does. Define them, or use critic_warmup=0.",
        )
        self.seed = self.add_weight((), keras.initializers.Constant(seed), "int32", trainable=False, name="seed")
        self.iteration = self.add_weight((), "zeros", "int32", trainable=False, name="iteration")
        self.shelf = Shelf()  # the last iteration's `Experience`, for histograms
        self.devices = Devices()
        self.devices.check_owns(policy)
        self._distribute_strategy = None  # with it, Keras would not look at a first batch, and so shuffle the others otherwise
        self.built = True
        self._wrap = lambda f: f
        PPO.compile_parts(self, self._wrap)

    def collect(self, data):
        """Acts. Returns a `Trajectory` and a dict of metrics (scalars)."""
        raise NotImplementedError(f"{type(self).__name__} must define collect(data) -> Trajectory, metrics.")

    @property
    def compiles_whole(self):
        """False where `collect` calls plain Python: then its parts and `improve` compile one by one."""
        return True

    @property
    def distribute_strategy(self):
        """Keras's, which would share out batches by it: they are shared out later, by `devices`."""
        return self.devices

    def compile(self, optimizer="adam", jit_compile=True, run_eagerly=False, **kwargs):
        """Keras's `compile`, without a loss: the objective is PPO's own.

        Args:
            optimizer: a Keras optimizer; it updates the policy and the value function together. Where the policy computes in
                `mixed_float16`, Keras wraps it in a `LossScaleOptimizer`.
            jit_compile: True compiles with XLA; False only builds graphs. The numbers are the same.
            run_eagerly: True runs Python line by line, to debug.

        Raises:
            InputError: a loss, metrics or another argument of Keras's that would change nothing.
        """
        unused = [f"{name}={shown(kwargs[name])}" for name in UNUSED_BY_COMPILE if kwargs.get(name) is not None]
        require(
            not unused,
            f"compile was given {', '.join(unused)}, but PPO has its own objective and reports the metrics of ppo_keras/runs/glossary.py. "
            "Leave it out, and give an optimizer, such as compile(keras.optimizers.Adam(3e-4)).",
        )
        require(isinstance(jit_compile, bool), f"compile was given jit_compile={shown(jit_compile)}. Use True (with XLA) or False; PPO takes no loss.")
        require(optimizer is not None, "compile was given optimizer=None, but PPO learns with one. Use compile(keras.optimizers.Adam(3e-4)).")
        in_parts = not run_eagerly and (not self.compiles_whole or self.devices.count > 1)
        with self.devices.scope():
            super().compile(optimizer, jit_compile=jit_compile and not (run_eagerly or in_parts), run_eagerly=run_eagerly or in_parts, **kwargs)
            self.optimizer.build(self.policy.trainable_variables)
        self._wrap = (lambda f: tf.function(f, jit_compile=jit_compile, autograph=False)) if in_parts else (lambda f: f)
        self.compile_parts(self._wrap)

    def fit(self, x=None, y=None, *, epochs=1, steps_per_epoch=None, shuffle=False, **kwargs):
        """Keras's `fit`; `shuffle` is off by default, because a `tf.data.Dataset` shuffles itself.

        Raises:
            InputError: nothing would be learned, or an argument of Keras's that would change nothing, such as `validation_data`.
        """
        unused = [f"{name}={shown(value)}" for name, value in (kwargs | {"y": y}).items() if name in UNUSED_BY_FIT and value is not None]
        require(
            not unused,
            f"fit was given {', '.join(unused)}, but PPO learns from what its policy does, without targets, weights of samples or validation. "
            "Leave it out; ppo_keras.play measures an agent, a callback whatever else.",
        )
        self.devices.check_outside()
        check_count("epochs", epochs, example=10)
        if steps_per_epoch is not None:
            check_count("steps_per_epoch", steps_per_epoch)
        return super().fit(x, epochs=epochs, steps_per_epoch=steps_per_epoch, shuffle=shuffle, **kwargs)

    def compile_parts(self, wrap):
        """Applies `wrap` to each function that is compiled alone where the whole cannot be."""
        self._gradients = self.devices.on_shares(self.share_of_gradients, wrap if self.devices.count > 1 else lambda f: f)
        self._prepare, self._learn, self._improve = self.prepare, self.learn, wrap(self.improve)
        if self.devices.count > 1:  # no loop may hold an exchange between devices: the loops of `update` are Python's
            self._prepare, self._learn, self._improve = wrap(self.prepare), self.devices.in_graph(self.learn, wrap), self.improve

    def trace_again(self):
        """Forgets what was traced: the next iteration is traced, and compiled, anew."""
        self.compile_parts(self._wrap)
        self.make_train_function(force=True)

    def train_step(self, data):
        """One iteration of PPO. Returns the metrics of the glossary, as scalars."""
        with tf.name_scope("collect"):
            trajectory, metrics = self.collect(data)
        with tf.name_scope("improve"):
            metrics = metrics | self._improve(trajectory)
            self.shelf.turn_to(trajectory)
        self.iteration.assign_add(1)
        return metrics

    @property
    def frozen_variables(self):
        """Every variable that stays as it is: of the frozen models, and of the policy what adapters are trained in place of."""
        return [variable for model in self.frozen for variable in model.variables] + getattr(self.policy, "frozen_variables", [])

    @property
    def changing(self):
        """Every variable that training changes, the optimizer's too."""
        return changing(self, (*self.variables, *self.optimizer.variables))

    def state(self):
        """{name: array} of all that a stopped training needs to go on as if it had not been stopped."""
        return of_variables(self.changing)

    def restore(self, state):
        """Takes what `state` gave. Raises `InputError` where it is another learner's."""
        into_variables(self.changing, state)

    def draw_seed(self, purpose):
        """The seed of one purpose (a small int) in this iteration, int32 `(2,)`."""
        base = tf.stack([tf.convert_to_tensor(self.seed), tf.constant(purpose, tf.int32)])
        return randomness.fold_in(base, tf.convert_to_tensor(self.iteration))

    def behaviour(self, logits, action_masks=()):
        """The parameters of the distribution that acts: at the configured temperature, without forbidden actions."""
        return acting(self.policy.distribution, logits, self.config.temperature, action_masks)

    def improve(self, trajectory):
        """Advantages once, then `epochs` x `minibatches` optimizer steps. Returns metrics."""
        experience, metrics = self._prepare(trajectory)
        return metrics | self.update(experience)

    def prepare(self, trajectory):
        """What is computed once: the `Experience` that minibatches are taken of, and metrics of the critic."""
        experience = self.estimate(trajectory)
        self.shelf.put(experience)
        mask, returns, values = trajectory.mask, experience.returns, trajectory.values
        rate = self.optimizer.learning_rate
        metrics = {
            "value/explained_variance": 1.0 - masked_variance(returns - values, mask) / tf.maximum(masked_variance(returns, mask), 1e-8),
            "value/mean": masked_mean(values, mask),
            "value/return_mean": masked_mean(returns, mask),
            "optimizer/learning_rate": tf.cast(tf.convert_to_tensor(rate), tf.float32),
        }
        if not self.policy.has_memory:  # each step can be learned from alone: minibatches then mix all of them
            experience = single_steps(experience)
        return experience, metrics

    def estimate(self, trajectory):
        """Advantages (whitened if so configured) and value targets, computed once and outside every tape."""
        advantages, returns = raw_advantages(trajectory, self.config)
        if self.config.whiten_advantages:
            advantages = whiten(advantages, trajectory.mask)
        return Experience(trajectory, tf.stop_gradient(advantages), tf.stop_gradient(returns))

    def update(self, experience):
        """Several epochs of minibatches of whole sequences (of steps, for a policy without memory), each sequence once an epoch, in a fresh order.

        Stops before the next epoch once the mean approximate KL of one exceeds `target_kl`. Returns metrics averaged
        over the minibatches that were used; `policy/first_ratio_gap` is that of the first. A step that a `LossScaleOptimizer`
        leaves out, because its gradients overflowed, counts in neither `optimizer/steps` nor the mean norm.
        """
        config = self.config
        batch = experience.trajectory.actions.shape[0]
        config.check_batch(batch, devices=self.devices.count)
        size, seed = batch // config.minibatches, self.draw_seed(purpose=1)
        names = (*UPDATE_METRICS, STEPS)  # the order of the metrics in one vector, which one operation adds up

        def epoch(i, going, sums):
            shuffled = take_sequences(experience, randomness.permutation(batch, randomness.fold_in(seed, i)))

            def minibatch(j, sums):
                metrics = self._learn(shuffled, j * size)
                metrics = metrics | {FIRST_GAP: tf.where(tf.equal(i + j, 0), metrics[FIRST_GAP], 0.0)}  # later ones are what learning does
                return j + 1, sums + tf.stack([metrics[name] for name in names])

            before = sums
            _, sums = tf.while_loop(lambda j, _: j < config.minibatches, minibatch, (tf.constant(0), sums))
            if config.target_kl is not None:
                going = (sums - before)[names.index("policy/approx_kl")] / config.minibatches <= config.target_kl
            return i + 1, going, sums

        nothing = tf.zeros([len(names)])
        epochs, _, sums = tf.while_loop(lambda i, going, _: going & (i < config.epochs), epoch, (tf.constant(0), tf.constant(True), nothing))
        means = dict(zip(names, tf.unstack(sums / tf.cast(epochs * config.minibatches, tf.float32))))
        sums = dict(zip(names, tf.unstack(sums)))
        return means | {FIRST_GAP: sums[FIRST_GAP], NORM: sums[NORM] / tf.maximum(sums[STEPS], 1.0), STEPS: sums[STEPS]}

    def learn(self, shuffled, first):
        """One optimizer step on the minibatch that begins with the sequence `first`. Returns metrics."""
        return self.step_optimizer(slice_sequences(shuffled, first, shuffled.advantages.shape[0] // self.config.minibatches))

    def step_optimizer(self, experience):
        """One optimizer step on one minibatch, its gradient added up over devices. Returns metrics."""
        config = self.config
        variables = self.policy.trainable_variables
        count = tf.maximum(tf.reduce_sum(experience.trajectory.mask), 1.0)
        _, (gradients, metrics) = self._gradients(experience, count)
        if config.critic_warmup:
            warm, critic = tf.convert_to_tensor(self.iteration) < config.critic_warmup, {id(variable) for variable in self.policy.critic_variables}
            gradients = [g if id(v) in critic else tf.where(warm, 0.0, g) for g, v in zip(gradients, variables)]
        norm = tf.linalg.global_norm(gradients)
        if config.max_gradient_norm is not None:
            scale = tf.minimum(1.0, config.max_gradient_norm / tf.maximum(norm, 1e-12))
            gradients = [gradient * scale for gradient in gradients]
        loss_scale = self.loss_scale
        gradients = [gradient * loss_scale for gradient in gradients]  # `apply` divides by it again
        taken = self.optimizer.check_finite(gradients) if isinstance(self.optimizer, keras.optimizers.LossScaleOptimizer) else tf.constant(True)
        self.optimizer.apply(gradients, variables)  # which takes no step where a scaled loss has overflowed
        return metrics | {NORM: tf.where(taken, norm, 0.0), STEPS: tf.cast(taken, tf.float32)}

    @property
    def loss_scale(self):
        """By what the loss is multiplied before it is differentiated, so that small gradients do not vanish in float16: 1 for most optimizers."""
        optimizer = getattr(self, "optimizer", None)  # none before `compile`: gradients can be looked at without one
        return tf.constant(1.0) if optimizer is None else tf.cast(optimizer.scale_loss(1.0), tf.float32)

    def read(self, trajectory):
        """The policy as it is now, on what it did: entropies, values and log-ratios to the policy that acted, float32 `(B, T)` each."""
        distribution, masks = self.policy.distribution, trajectory.action_masks

        def measure(logits, actions, *allowed):
            logits = self.behaviour(logits, *allowed)
            return distribution.log_probability(logits, actions), distribution.entropy(logits)

        arrays = [trajectory.actions] if isinstance(masks, tuple) else [trajectory.actions, masks]
        past = dict(initial_state=trajectory.initial_state, starts=trajectory.starts, context=trajectory.context)
        (log_probs, entropy), values = from_logits(self.policy, measure, arrays, trajectory.inputs, **past, training=False)
        return entropy, values, tf.where(trajectory.mask > 0, log_probs - trajectory.log_probs, 0.0)

    def share_of_gradients(self, share, experience, count):
        """What `gradients` returns for a share of a minibatch of `count` real steps, added up over micro-batches; see `Devices.on_shares`."""
        experience, parts = share.of(experience), self.config.accumulation_steps
        if parts == 1:
            return (), self.gradients(experience, count)
        size = experience.advantages.shape[0] // parts

        def micro_batch(i, gradients, metrics):
            part, part_metrics = self.gradients(slice_sequences(experience, i * size, size), count)
            added = [total + new for total, new in zip(gradients, part)]
            return i + 1, added, {name: metrics[name] + part_metrics[name] for name in metrics}

        nothing = [tf.zeros(v.shape) for v in self.policy.trainable_variables], {name: tf.zeros([]) for name in UPDATE_METRICS[:-1]}
        return (), tf.while_loop(lambda i, *_: i < parts, micro_batch, (tf.constant(0), *nothing))[1:]

    def gradients(self, experience, count):
        """Gradients of the PPO loss of some sequences, as their share of a minibatch of `count` real steps.

        loss = -L^CLIP + c_v L^V - c_e S   (Schulman et al. 2017, eq. 9, to be minimised)

        They are float32 and those of the loss itself: of a scaled loss (see `loss_scale`) its scale is taken out again.
        """
        config, (trajectory, advantages, returns) = self.config, experience
        mask = trajectory.mask
        variables, loss_scale = [v.value for v in self.policy.trainable_variables], self.loss_scale
        with tf.GradientTape(watch_accessed_variables=False) as tape:  # frozen weights have no gradient to compute
            tape.watch(variables)
            entropy, values, log_ratio = self.read(trajectory)
            ratio = tf.exp(log_ratio)  # r = pi(a|s) / pi_old(a|s)
            policy_loss = clipped_policy_loss(ratio, advantages, config.clip_ratio, config.dual_clip)
            value_loss = clipped_value_loss(values, trajectory.values, returns, config.value_clip)
            losses = policy_loss + config.value_coefficient * value_loss - config.entropy_coefficient * entropy  # (B, T)
            loss = masked_sum(losses, mask) / count * loss_scale
        gradients = tape.gradient(loss, variables, unconnected_gradients="zero")
        moved = tf.abs(values - trajectory.values) > (config.value_clip or tf.float32.max)  # finite: the debugger would report an infinity
        of_each_step = {
            "loss/total": losses,
            "loss/policy": policy_loss,
            "loss/value": value_loss,
            "policy/entropy": entropy,
            "policy/ratio": ratio,
            "policy/approx_kl": ratio - 1.0 - log_ratio,  # k3 of old and new policy
            FIRST_GAP: tf.abs(ratio - 1.0),
            "policy/clip_fraction": tf.cast(tf.abs(ratio - 1.0) > config.clip_ratio, tf.float32),
            "value/clip_fraction": tf.cast(moved, tf.float32),
        }
        means = tf.reduce_sum(tf.where(mask > 0, tf.stack(list(of_each_step.values())), 0.0), axis=[1, 2]) / count
        # an embedding's gradient comes as slices, whose repeated rows a norm would not add up
        gradients = [tf.cast(tf.convert_to_tensor(gradient), tf.float32) / loss_scale for gradient in gradients]
        return gradients, dict(zip(of_each_step, tf.unstack(means)))


def raw_advantages(trajectory, config):
    """Advantages before they are whitened, and value targets, float32 `(B, T)` each.

    Args:
        trajectory: a `Trajectory`, or what else has `rewards`, `values`, `next_values`, `ended` and `mask`, `(B, T)` each.
        config: a `PPOConfig`.
    """
    rewards, mask = trajectory.rewards, trajectory.mask
    if config.whiten_rewards:
        rewards = whiten(rewards, mask, shift_mean=False)
    parts = trajectory.values, trajectory.next_values, trajectory.ended, mask
    return generalized_advantages(rewards, *parts, config.discount, config.gae_lambda)


FIRST_GAP, NORM, STEPS = "policy/first_ratio_gap", "optimizer/gradient_norm", "optimizer/steps"
UPDATE_METRICS = (
    "loss/total", "loss/policy", "loss/value", "policy/entropy", "policy/ratio", "policy/approx_kl", FIRST_GAP,
    "policy/clip_fraction", "value/clip_fraction", NORM,
)  # fmt: skip
ITERATION_METRICS = UPDATE_METRICS + (
    "value/explained_variance", "value/mean", "value/return_mean", "optimizer/learning_rate", STEPS,
)  # fmt: skip
UNUSED_BY_COMPILE = ("loss", "loss_weights", "metrics", "weighted_metrics")
UNUSED_BY_FIT = (
    "y", "batch_size", "class_weight", "sample_weight", "validation_data", "validation_split", "validation_steps", "validation_batch_size", "validation_freq",
)  # fmt: skip
