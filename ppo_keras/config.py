"""The settings of the learner, as plain dataclasses (no TensorFlow here: the command line reads them to answer --help)."""

from __future__ import annotations

import functools
import typing
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Optional

from simple_parsing import field, flag

from ppo_keras.errors import InputError, check_seed, require, shown


def optional(default):
    """A field that is a number or None; on the command line None is written `none`."""
    return field(default=default, type=number_or_none, metavar="float|none")


def number_or_none(text):
    """`none` or a number, from the command line."""
    return None if text.lower() == "none" else float(text)


def switch(default):
    """A yes-or-no field: `--name`, `--no-name`."""
    return flag(default, negative_prefix="--no-")


def check_heads(width: int, heads: int):
    """Raises `InputError` unless a Transformer's heads split the width."""
    pairs = 2 * heads
    require(width % pairs == 0, f"width={width} is not a multiple of 2 * heads={pairs}. Use a width such as {16 * pairs}.")


def check_seeds(seed: int, seeds: int):
    """Raises `InputError` unless `seed`, `seed + 1`, ... are seeds."""
    check_seed(seed)
    require(seeds >= 1, f"seeds={seeds} is less than 1. Use a whole number of 1 or more.")
    require(seed + seeds <= 2**31, f"seeds={seeds} from seed={seed} on go beyond 2^31. Use a smaller seed.")


KINDS = {int: (Integral, "a whole number"), float: (Real, "a number"), bool: (bool, "True or False"), str: (str, "a word")}


@functools.cache
def _kinds(config_class):
    """{field: (what it may hold, in words, whether None is allowed)} of the fields that hold numbers, words or switches."""
    hints = {name: (hint, typing.get_args(hint)) for name, hint in typing.get_type_hints(config_class).items()}
    plain = {name: (next(iter(inner), hint), type(None) in inner) for name, (hint, inner) in hints.items()}
    return {name: (*KINDS[hint], optional) for name, (hint, optional) in plain.items() if hint in KINDS}


def check_kinds(config):
    """Raises `InputError` where a field of a dataclass holds something else than its annotation says."""
    for name, (kind, called, optional) in _kinds(type(config)).items():
        value = getattr(config, name)
        right = isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
        require(right or (optional and value is None), f"{name}={shown(value)} is not {called}{' or None' * optional}. Give one, or leave it out.")


def check_divides(name: str, parts: int, called: str, whole: int):
    """Raises `InputError` unless `parts` (a setting called `name`, 1 or more) divides `whole`; names divisors near it."""
    if whole % parts:
        divisors = [d for d in range(1, whole + 1) if whole % d == 0]
        close = sorted(sorted(divisors, key=lambda d: abs(d - parts))[:3])
        raise InputError(f"{name}={parts} does not divide {called}={whole}. Use a divisor such as {', '.join(map(str, close))}.")


@dataclass(frozen=True)
class PPOConfig:
    """Settings of proximal policy optimization (Schulman et al. 2017).

    Raises:
        InputError: a value is outside its range; the message names the field.
    """

    discount: float = 0.99  # gamma: how much a reward one step later counts (text: 1, a response is short)
    gae_lambda: float = 0.95  # lambda of generalized advantage estimation: 0 is TD(0), 1 Monte Carlo
    clip_ratio: float = 0.2  # epsilon: how far the probability ratio may move before its gradient is cut
    dual_clip: Optional[float] = optional(None)  # c > 1 bounds the loss at negative advantages (Ye et al. 2020); off by default
    value_clip: Optional[float] = optional(0.2)  # how far a value may move from its old one in the loss; None: no clipping
    value_coefficient: float = 0.5  # weight of the value loss
    entropy_coefficient: float = 0.0  # weight of the entropy bonus
    epochs: int = 4  # passes over the collected experience in one iteration
    minibatches: int = 4  # optimizer steps in one pass; divides the number of sequences
    accumulation_steps: int = 1  # micro-batches a minibatch is split into, to save memory; the gradient is the same
    critic_warmup: int = 0  # iterations at the beginning in which the critic learns alone, and the policy stays as it is
    target_kl: Optional[float] = optional(None)  # no further epoch once the mean approximate KL of one exceeds this
    max_gradient_norm: Optional[float] = optional(0.5)  # global norm to which gradients are scaled down; None: never
    whiten_advantages: bool = switch(True)  # advantages to mean 0, standard deviation 1 (Bessel) over all real steps
    whiten_rewards: bool = switch(False)  # rewards to standard deviation 1, their mean kept
    temperature: float = 1.0  # divides the logits: in acting, updating and reference log-probabilities alike

    def __post_init__(self):
        check_kinds(self)
        for name in ("discount", "gae_lambda"):
            value = getattr(self, name)
            require(0 <= value <= 1, f"{name}={value} is outside [0, 1]. Use a value such as 0.95.")
        for name in ("clip_ratio", "temperature"):
            value = getattr(self, name)
            require(value > 0, f"{name}={value} is not positive. Use a value such as 0.2 for clip_ratio, 1 for temperature.")
        for name in ("value_clip", "target_kl", "max_gradient_norm"):
            value = getattr(self, name)
            require(value is None or value > 0, f"{name}={value} is not positive. Use a positive number, or None to switch it off.")
        for name in ("value_coefficient", "entropy_coefficient"):
            value = getattr(self, name)
            require(value >= 0, f"{name}={value} is negative. Use 0 to switch it off.")
        for name in ("epochs", "minibatches", "accumulation_steps"):
            value = getattr(self, name)
            require(value >= 1, f"{name}={value} is less than 1. Use a whole number of 1 or more.")
        require(self.critic_warmup >= 0, f"critic_warmup={self.critic_warmup} is negative. Use 0 for none, or a few iterations such as 5.")
        require(
            self.dual_clip is None or self.dual_clip > 1,
            f"dual_clip={self.dual_clip} must be above 1. Use a value such as 3, or None.",
        )

    def check_warmup(self, iterations: int):
        """Raises `InputError` where the critic learns alone until the end."""
        require(
            self.critic_warmup < iterations,
            f"critic_warmup={self.critic_warmup} leaves none of the {iterations} iterations to the policy. Use fewer, or more iterations.",
        )

    def check_batch(self, batch_size: int, called: str = "batch_size", devices: int = 1):
        """Raises `InputError` unless minibatches, micro-batches and devices split `batch_size` sequences evenly."""
        for name, parts in (
            ("minibatches", self.minibatches),
            ("minibatches * accumulation_steps", self.minibatches * self.accumulation_steps),
            ("minibatches * accumulation_steps * devices", self.minibatches * self.accumulation_steps * devices),
        ):
            check_divides(name, parts, called, batch_size)


@dataclass(frozen=True)
class KLConfig:
    """How a response pays for leaving the reference (Ziegler et al. 2019, section 2.2)."""

    kl_coefficient: float = 0.05  # beta: reward subtracted for each nat of KL divergence from the reference
    kl_target: Optional[float] = optional(None)  # nats a response: beta adapts to hold the KL there; None: beta is fixed
    kl_horizon: int = 10_000  # responses over which an adaptive beta moves
    kl_estimator: str = "k1"  # k1 (unbiased, may be negative), k2 or k3 (never negative); see kl.py

    def __post_init__(self):
        check_kinds(self)
        require(self.kl_coefficient >= 0, f"kl_coefficient={self.kl_coefficient} is negative. Use 0 to switch the penalty off.")
        require(
            self.kl_target is None or self.kl_coefficient > 0,
            "kl_coefficient=0 cannot adapt to kl_target. Use a small number such as 0.01, or kl_target none.",
        )
        require(
            self.kl_target is None or self.kl_target > 0,
            f"kl_target={self.kl_target} is not positive. Use a number of nats such as 6, or None.",
        )
        require(self.kl_horizon > 0, f"kl_horizon={self.kl_horizon} is not positive. Use a number of responses such as 10000.")
        require(self.kl_estimator in ("k1", "k2", "k3"), f"kl_estimator={self.kl_estimator!r} is unknown. Use k1, k2 or k3.")


@dataclass(frozen=True)
class OptimizerConfig:
    """Adam and its learning rate."""

    learning_rate: float = 3e-4  # Adam's step size at the start
    schedule: str = "linear"  # constant, linear (down to 0) or cosine (down to 0), over all planned steps
    adam_epsilon: float = 1e-5  # PPO practice: larger than Keras's 1e-7

    def __post_init__(self):
        check_kinds(self)
        require(self.learning_rate >= 0, f"learning_rate={self.learning_rate} is negative. Use a value such as 3e-4.")
        require(
            self.schedule in ("constant", "linear", "cosine"),
            f"schedule={self.schedule!r} is unknown. Use constant, linear or cosine.",
        )
        require(self.adam_epsilon > 0, f"adam_epsilon={self.adam_epsilon} is not positive. Use a value such as 1e-5.")

    def build(self, total_steps: int):
        """A `FusedAdam` whose schedule spans `total_steps` optimizer steps."""
        import keras

        from ppo_keras.optimizer import FusedAdam

        rate = self.learning_rate
        if self.schedule == "linear":
            rate = keras.optimizers.schedules.PolynomialDecay(rate, total_steps, end_learning_rate=0.0)
        elif self.schedule == "cosine":
            rate = keras.optimizers.schedules.CosineDecay(rate, total_steps)
        return FusedAdam(rate, epsilon=self.adam_epsilon)


@dataclass(frozen=True)
class SupervisedConfig:
    """Supervised training: of the writer before PPO, of the reward model and of the judge."""

    supervised_epochs: int = 15  # at most; training stops when the validation loss has not improved for `patience`; 0: none
    supervised_batch_size: int = 32  # texts a step
    supervised_learning_rate: float = 2e-3  # of AdamW, falling to 0 by a cosine
    weight_decay: float = 0.01  # of AdamW
    patience: int = 3  # epochs without a better validation loss before training stops
    shuffle_seed: int = 0  # of the order of the texts

    def __post_init__(self):
        check_kinds(self)
        require(self.supervised_epochs >= 0, f"supervised_epochs={self.supervised_epochs} is negative. Use 0 for no supervised training.")
        for name in ("supervised_batch_size", "patience"):
            require(getattr(self, name) >= 1, f"{name}={getattr(self, name)} is less than 1. Use a whole number of 1 or more.")
        require(
            self.supervised_learning_rate > 0,
            f"supervised_learning_rate={self.supervised_learning_rate} is not positive. Use a value such as 2e-3.",
        )
        require(self.weight_decay >= 0, f"weight_decay={self.weight_decay} is negative. Use 0 to switch it off.")


@dataclass(frozen=True)
class NetworkConfig:
    """Size of the writer; with `shared_trunk` off, policy and value are two networks of this size."""

    layers: int = 2  # depth of the trunk
    width: int = 128  # size of embeddings and hidden states
    heads: int = 4  # attention heads (transformer)
    dropout: float = 0.3  # in supervised training; PPO trains without
    shared_trunk: bool = switch(True)  # one trunk for policy and value, or a network each
    recompute: bool = switch(False)  # a transformer's blocks are computed once more backwards instead of kept: less memory, more time

    def __post_init__(self):
        check_kinds(self)
        for name in ("layers", "width", "heads"):
            require(getattr(self, name) >= 1, f"{name}={getattr(self, name)} is less than 1. Use a whole number of 1 or more.")
        require(0 <= self.dropout < 1, f"dropout={self.dropout} is outside [0, 1). Use a value such as 0.1.")


@dataclass(frozen=True)
class DeviceConfig:
    """Which devices share the work (`tf.distribute`); it may be another choice when a run is resumed."""

    devices: str = "1"  # of this machine: a number of GPUs; auto, all of them; or cpu:2, the processor in two parts
    workers: Optional[str] = None  # addresses of all processes that train together, host:port,host:port; the first is the chief, which writes the run
    worker_index: Optional[int] = None  # which of the workers this process is, from 0
    worker_timeout: float = 50.0  # seconds to wait for the other workers at the beginning

    def __post_init__(self):
        check_kinds(self)
        number = self.devices.removeprefix("cpu:")
        good = self.devices == "auto" or (number.isascii() and number.isdecimal() and int(number) >= 1)
        require(good, f"devices={self.devices!r} names no devices. Use a number of GPUs such as 2, auto, or cpu:2.")
        require(self.workers is not None or self.worker_index is None, f"worker_index={self.worker_index} goes with --workers, which say where the others are.")
        require(0 < self.worker_timeout <= 86_400, f"worker_timeout={self.worker_timeout} is outside (0, 86400]. Use a number of seconds such as 50.")


@dataclass(frozen=True)
class LoggingConfig:
    """What TensorBoard shows beside the scalars of every iteration."""

    log_every: int = 20  # iterations between two tables of held-out texts, pictures and histograms; also after the last; 0: none
    attention_maps: bool = switch(False)  # pictures of what a transformer attends to
    weight_histograms: bool = switch(False)  # histograms of weights and gradients
    graph: bool = switch(False)  # the graph of a training step
    profile: Optional[str] = None  # iterations whose time and memory are profiled, such as 5:8 (5 to 8)
    debug_dump: bool = switch(False)  # every tensor of PPO for the debugger, to find where a NaN begins; slow, as --no-jit

    def __post_init__(self):
        check_kinds(self)
        require(self.log_every >= 0, f"log_every={self.log_every} is negative. Use a number of iterations such as 20, or 0 for never.")
        self.profiled()

    def profiled(self):
        """First and last profiled iteration, or None; raises `InputError` where `profile` holds something else."""
        if self.profile is None:
            return None
        first, _, last = self.profile.partition(":")
        good = first.isdecimal() and last.isdecimal() and 1 <= int(first) <= int(last)
        require(good, f"profile={self.profile!r} does not name iterations. Write the first and the last one, counted from 1, such as 5:8.")
        return int(first), int(last)

    def check(self, model: str):
        """Raises `InputError` where a network of this name cannot show what was asked for."""
        require(
            model == "transformer" or not self.attention_maps,
            f"attention_maps needs attention, but model={model!r} has none. Use --model transformer, or leave it out.",
        )
