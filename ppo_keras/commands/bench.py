"""`ppo-keras bench`: how fast one PPO iteration of a language model is, part by part, what memory it takes, how fast an agent learns, what logging costs.

The setting of `bench text` is one in which other implementations were measured: GPT-2 of 4 layers x 128, vocabulary 512, batch 64,
prompt 16, response 48, 4 epochs x 4 minibatches, with a reference and a reward model of the same size. With `--pretrained` it is
a checkpoint with adapters of rank 8, batch 16, prompt 32, response 32, one epoch x 4 minibatches, and a reward model on its trunk. `bench memory` estimates the memory of the same.
"""

import dataclasses
import json
import tempfile
import time
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from ppo_keras.commands.measuring import iteration_flops, peak_flops, steady_peak, threads, time_of
from ppo_keras.config import KLConfig, OptimizerConfig, PPOConfig
from ppo_keras.environments.bridge import GymnasiumEnvironment
from ppo_keras.environments.cartpole import CartPole
from ppo_keras.environments.config import split
from ppo_keras.environments.ppo import EnvironmentPPO
from ppo_keras.errors import check_count, require
from ppo_keras.language.generation import Prompts
from ppo_keras.language.ppo import LanguagePPO
from ppo_keras.language.rewards import RewardModel
from ppo_keras.language.tokenizer import Tokenizer
from ppo_keras.networks.actor_critic import new_policy
from ppo_keras.networks.adapters import reference_of
from ppo_keras.networks.transformer import Form
from ppo_keras.optimizer import FusedAdam
from ppo_keras.pretrained.config import check_loading
from ppo_keras.pretrained.families import Settings, settings_of
from ppo_keras.pretrained.loading import load_pretrained, parameters
from ppo_keras.pretrained.machine import check_work_fits, forget_peak, memory_here, peak_memory
from ppo_keras.pretrained.memory import CARDS, Work, estimate, largest_batch
from ppo_keras.pretrained.sources import find_config
from ppo_keras.reports.tables import print_memory
from ppo_keras.runs.folder import Run
from ppo_keras.runs.recording import Board, Cadence, Recorder
from ppo_keras.runs.views import BatchHistograms, HeldOutResponses
from ppo_keras.tasks.config import GenerationConfig
from ppo_keras.tasks.text import HELD_OUT

VOCABULARY, BATCH, PROMPT, RESPONSE = 512, 64, 16, 48  # of `bench text`, and of `bench logging`
PRETRAINED_BATCH, PRETRAINED_LENGTH, PRETRAINED_RANK = 16, 32, 8


class Sizes(NamedTuple):
    """What `bench text` and `bench memory` can be told of the work; None for what suits the model."""

    pretrained: str | None = None  # a checkpoint, see `load_pretrained`, in the place of a network of our own
    batch: int | None = None
    prompt: int | None = None
    response: int | None = None
    minibatches: int = 4
    accumulation_steps: int = 1
    lora_rank: int | None = None
    lora_layers: str = "attention"
    critic: str = "shared"  # of a checkpoint, see `PretrainedConfig`
    weights: str = "float32"
    reward: str | None = None  # of a reward model: "trunk" of its own, "head" on the reference's trunk, or "none"
    recompute: bool = False  # see `TransformerActorCritic`

    @classmethod
    def of(cls, options):
        """From the command line."""
        lengths = options.batch_size, options.prompt_length, options.response_length, options.minibatches, options.accumulation_steps
        adapters = options.lora_rank, options.lora_layers, options.critic
        return cls(options.pretrained, *lengths, *adapters, options.weights, options.reward_model, options.recompute)

    def work(self, shared=True):
        """The `Settings` of the model and the `Work`. Raises `InputError` where a size is out of range or the checkpoint is not there."""
        own = self.pretrained is None
        of_checkpoint = (self.lora_rank, self.lora_layers, self.critic, self.weights) == (None, "attention", "shared", "float32")
        require(not own or of_checkpoint, "--lora-rank, --lora-layers, --critic and --weights are of a checkpoint. Add --pretrained smollm2.")
        usual = (BATCH, PROMPT, RESPONSE) if own else (PRETRAINED_BATCH, PRETRAINED_LENGTH, PRETRAINED_LENGTH)
        batch, prompt, response = (value if given is None else given for given, value in zip(self[1:4], usual))
        for name, value in (("--batch-size", batch), ("--prompt-length", prompt), ("--response-length", response), ("--minibatches", self.minibatches)):
            check_count(name, value, example=16)
        PPOConfig(minibatches=self.minibatches, accumulation_steps=self.accumulation_steps).check_batch(batch)
        rank = 0 if own else PRETRAINED_RANK if self.lora_rank is None else self.lora_rank
        if own:
            settings = Settings(VOCABULARY, 128, 4, 4, prompt + response, Form())
        else:
            check_loading(rank, None, self.lora_layers, self.weights, critic=self.critic)
            settings = settings_of(find_config(self.pretrained))
            most, steps = settings.most_steps, prompt + response
            require(
                steps <= most,
                f"prompts and responses of {steps} tokens are longer than the context of {most} that {self.pretrained} knows. Use {most} or less.",
            )
        reward = {"trunk": settings, "head": "head", "none": None}[self.reward or ("head" if rank else "trunk")]
        critic = "network" if not shared else "adapters" if self.critic == "adapters" else "shared"
        return settings, Work(
            batch, prompt, response, self.minibatches, self.accumulation_steps, rank, self.lora_layers, self.weights, critic, reward, self.recompute
        )


def bench_text(model="transformer", shared=True, jit_compile=True, iterations=10, sizes=Sizes()):
    """Prints a table of times and of memory and, as the last line, JSON. Returns what the JSON holds.

    Args:
        model, shared: of a network of our own.
        jit_compile: compile with XLA.
        iterations: timed ones.
        sizes: `Sizes`.
    """
    require(iterations >= 1, f"--iterations {iterations} is less than 1. Use a number such as 10.")
    keras.utils.set_random_seed(0)
    pretrained = sizes.pretrained
    require(pretrained is None or (model, shared) == ("transformer", True), "--pretrained brings its own network. Leave out --model and --no-shared-trunk.")
    require(model == "transformer" or not sizes.recompute, f"--recompute is for a transformer's blocks, but --model is {model}. Leave it out.")
    settings, work = sizes.work(shared)
    name, batch, prompt, response = pretrained or model, work.batch, work.prompt, work.response
    if model == "transformer" and jit_compile:
        check_work_fits(settings, work, name)
    before = peak_flops(jit_compile)
    forget_peak()
    if pretrained is None:
        config = PPOConfig(discount=1.0, minibatches=work.minibatches, accumulation_steps=work.accumulation_steps)
        policy = new_policy(model, VOCABULARY, width=128, layers=4, heads=4, memory=prompt + response, shared=shared, recompute=work.recompute)
        what = f"{model}, 4 layers x 128, {'shared trunk' if shared else 'separate networks'}"
    else:
        config = PPOConfig(discount=1.0, epochs=1, minibatches=work.minibatches, accumulation_steps=work.accumulation_steps)
        policy, _ = load_pretrained(
            pretrained, work.lora_rank, lora_layers=work.lora_layers, memory=prompt + response, weights=work.weights, critic=sizes.critic,
            recompute=work.recompute,
        )  # fmt: skip
        every, trained = parameters(policy)
        learns = f"adapters of rank {work.lora_rank} on {work.lora_layers}" if work.lora_rank else "without adapters"
        what = f"{pretrained}, {every:,} parameters, {learns}, {sizes.critic} critic, {trained:,} trained"
    reward, reference, vocabulary = lambda prompts, responses: tf.reduce_sum(responses.mask, axis=1), reference_of(policy), policy.distribution.count
    if work.reward:
        reward = RewardModel(reference if work.reward == "head" else policy.new_encoder())
    no_end = vocabulary  # never sampled: every response has full length, so that the work is always the same
    learner = LanguagePPO(policy, reward, no_end, 0, response, config, KLConfig(), reference=reference)
    learner.compile(FusedAdam(1e-5), jit_compile=jit_compile)
    tokens = np.random.default_rng(0).integers(1, vocabulary, [batch, prompt])
    prompts = Prompts(tf.constant(tokens, tf.int32), tf.ones([batch, prompt]))

    compiled = lambda function: tf.function(function, jit_compile=jit_compile, autograph=False)
    step = compiled(learner.train_step)
    compile_seconds, _ = time_of(lambda: step(prompts), 1)
    iteration_seconds, _ = time_of(lambda: step(prompts), iterations)
    most = peak_memory()  # before its parts are compiled once more, each by itself
    memory = {} if most is None else {"peak_gigabytes": most / 1e9}
    if estimated := model == "transformer" and jit_compile:
        expected = estimate(settings, work, card=memory_here()[1])
        memory["estimated_gigabytes"] = expected.peak / 1e9

    generate = compiled(lambda: learner.rollout(prompts)[0])
    responses = generate()

    def read(responses):
        reference_log_probs, features = learner.read_reference(prompts, responses)
        return learner.score(prompts, responses, features), reference_log_probs

    score = compiled(read)
    scores, reference_log_probs = score(responses)
    trajectory, _ = learner.assemble(prompts, responses, reference_log_probs, scores)
    improve = compiled(learner.improve)
    seconds = {}
    for name, function in (
        ("generation", generate), ("score", lambda: score(responses)), ("update", lambda: improve(trajectory)),
    ):  # fmt: skip
        function()
        seconds[name], _ = time_of(function, iterations)

    written = batch * response
    print(f"{what}, {'XLA' if jit_compile else 'graphs'}, {batch} responses of {response} tokens")
    peak = steady_peak(before, peak_flops(jit_compile))
    share = iteration_flops(policy, getattr(reward, "encoder", None), config.epochs, batch, prompt, response) / iteration_seconds / peak
    for name in seconds:
        print(f"{name:12} {seconds[name]:8.3f} s {written / seconds[name]:10,.0f} response tokens/s")
    print(f"{'iteration':12} {iteration_seconds:8.3f} s {written / iteration_seconds:10,.0f} response tokens/s")
    print(f"compilation  {compile_seconds:8.1f} s; of the peak of matrix products the iteration used {share:.1%}")
    result = {"iteration_seconds": iteration_seconds} | {f"{name}_tokens_per_second": written / s for name, s in seconds.items()}
    beside = f", estimated {memory['estimated_gigabytes']:.2f} GB ({expected.peak_phase})" if estimated else ""
    print("most memory   unknown" if most is None else f"most memory  {most / 1e9:8.2f} GB", beside, sep="")
    result |= {"compile_seconds": compile_seconds, "peak_share": share, "peak_gigaflops": peak / 1e9} | memory
    print(json.dumps({name: round(value, 4) for name, value in result.items()}))
    return result


def bench_memory(shared=True, devices=1, sizes=Sizes()):
    """Prints what memory an iteration takes by an estimate, for this machine and for cards that are named, and as the last line JSON, which it returns.

    No weight is read: of a checkpoint, its `config.json` is enough.

    Args:
        shared: of a network of our own: one trunk for policy and value.
        devices: how many such as each that is named share the batch.
        sizes: `Sizes`.
    """
    require(shared or sizes.pretrained is None, "--pretrained brings its own network. Leave out --no-shared-trunk.")
    check_count("--devices", devices, example=8)
    settings, work = sizes.work(shared)
    PPOConfig(minibatches=work.minibatches, accumulation_steps=work.accumulation_steps).check_batch(work.batch, devices=devices)
    work = dataclasses.replace(work, devices=devices)
    available, card = memory_here()
    here = estimate(settings, work, card)
    places = [("this machine", available, card)] if available else []
    rows = [
        (name, memory, estimate(settings, work, on_card).peak, largest_batch(settings, work, memory, on_card))
        for name, memory, on_card in places + [(name, gigabytes * 1e9, True) for name, gigabytes in CARDS.items()]
    ]
    learns = f"adapters of rank {work.lora_rank} on {work.lora_layers}" if work.lora_rank else "every weight trained"
    what = f"{sizes.pretrained or 'transformer, 4 layers x 128'}, {work.weights}, {learns}, {work.batch} responses of {work.response} tokens to prompts of {work.prompt}"
    what += f", each of {devices} devices" * (devices > 1)
    print_memory(what, here.phases, here.totals, rows)
    result = {"phase": here.peak_phase, "peak_bytes": here.peak, "phases": here.totals, "parts": here.phases[here.peak_phase]}
    result |= {"fits": {name: bool(needed <= memory) for name, memory, needed, _ in rows}, "largest_batch": {name: batch for name, *_, batch in rows}}
    print(json.dumps(result))
    return result


def bench_logging(iterations=5, jit_compile=True):
    """Prints what TensorBoard costs at the default settings, in the setting of `bench text`; the last line is JSON.

    Scalars are written after every iteration, the views (a table, pictures, histograms) once in `log_every`: the share of
    logging is what both cost together, over the iterations in between. What happens only once, such as loading fonts,
    is in `first_seconds`.

    Args:
        iterations: timed iterations, and as many timed looks at the views.
        jit_compile: compile with XLA.
    """
    require(iterations >= 1, f"--iterations {iterations} is less than 1. Use a number such as 5.")
    keras.utils.set_random_seed(0)
    before = peak_flops(jit_compile)
    tokenizer = Tokenizer.train([" ".join(map(str, range(10_000)))], VOCABULARY)
    vocabulary = tokenizer.vocabulary_size
    policy = new_policy("transformer", vocabulary, width=128, layers=4, heads=4, memory=PROMPT + RESPONSE, shared=True)
    length = lambda prompts, responses: tf.reduce_sum(responses.mask, axis=1)
    learner = LanguagePPO(policy, length, vocabulary, 0, RESPONSE, PPOConfig(discount=1.0), KLConfig())
    learner.compile(FusedAdam(1e-5), jit_compile=jit_compile)
    tokens = np.random.default_rng(0).integers(4, vocabulary, [BATCH, PROMPT]).astype(np.int32)
    prompts = Prompts(tokens, np.ones([BATCH, PROMPT], np.float32))
    config, data = GenerationConfig(), tf.data.Dataset.from_tensors(prompts).repeat()
    views = BatchHistograms(), HeldOutResponses(Prompts(*[part[:HELD_OUT] for part in prompts]), tokenizer, seed=0)
    with tempfile.TemporaryDirectory() as folder:
        scalars = Timed(Recorder(Run(folder), BATCH, Board("bench", config, Cadence(0, 0))))
        learner.fit(data, steps_per_epoch=iterations + 1, callbacks=[scalars], verbose=0)
        writer = tf.summary.create_file_writer(folder)
        with writer.as_default(step=0):
            look = lambda: [view(learner) for view in views]
            first_seconds, _ = time_of(look, 1)
            view_seconds, _ = time_of(look, iterations)
    result = {"iteration_seconds": float(np.median(scalars.iterations[1:]))}
    result |= {"scalars_seconds": float(np.median(scalars.records[1:])), "views_seconds": view_seconds, "first_seconds": first_seconds}
    steady_peak(before, peak_flops(jit_compile))
    a_iteration = result["scalars_seconds"] + view_seconds / config.logging.log_every
    result["share"] = a_iteration / (a_iteration + result["iteration_seconds"])
    print(
        f"an iteration {result['iteration_seconds']:.3f} s, its scalars {result['scalars_seconds']:.4f} s, the views {view_seconds:.3f} s "
        f"every {config.logging.log_every} iterations (the first time {first_seconds:.1f} s): logging is {result['share']:.1%} of the time"
    )
    print(json.dumps({name: round(value, 4) for name, value in result.items()}))
    return result


class Timed(keras.callbacks.Callback):
    """A recorder whose time is taken, apart from that of the iterations."""

    def __init__(self, recorder):
        super().__init__()
        self.recorder, self.iterations, self.records = recorder, [], []

    def set_model(self, model):
        self.recorder.set_model(model)

    def on_train_begin(self, logs=None):
        self.recorder.on_train_begin(logs)

    def on_train_batch_begin(self, batch, logs=None):
        self.recorder.on_train_batch_begin(batch, logs)
        self.began = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        self.iterations.append(time.perf_counter() - self.began)
        seconds, _ = time_of(lambda: self.recorder.on_train_batch_end(batch, logs), 1)
        self.records.append(seconds)

    def on_train_end(self, logs=None):
        self.recorder.on_train_end(logs)


def bench_cartpole(model="mlp", environments=4, steps=500_000, gym=False, jit_compile=True):
    """Trains on CartPole with CleanRL's settings; prints the steps a second after compilation and, last, JSON.

    Args:
        model: "mlp", "lstm" or "transformer".
        environments: copies acted in side by side, 128 steps each between two updates of 4 epochs x 4 minibatches.
        steps: environment steps to train for.
        gym: Gymnasium's environment through the bridge.
        jit_compile: compile with XLA.
    """
    for name, value in (("environments", environments), ("steps", steps)):
        require(value >= 1, f"--{name} {value} is less than 1. Use a number such as {4 if name == 'environments' else 500_000}.")
    keras.utils.set_random_seed(0)
    environment = GymnasiumEnvironment("CartPole-v1") if gym else CartPole()
    policy = new_policy(model, environment.observation, 2, width=64, layers=1, heads=4, memory=32, shared=False)
    per_iteration = environments * 128
    iterations = -(-steps // per_iteration)
    calls, per_call = split(iterations, 1 if gym else -(-iterations // 5))
    learner = EnvironmentPPO(policy, environment, PPOConfig(entropy_coefficient=0.01), environments, iterations_per_call=per_call)
    learner.compile(OptimizerConfig(2.5e-4).build(calls * per_call * 16), jit_compile=jit_compile)
    began = time.perf_counter()
    learner.fit(verbose=0)
    compile_seconds = time.perf_counter() - began
    learner.restart(0)
    before = peak_flops(jit_compile)
    began = time.perf_counter()
    history = learner.fit(steps_per_epoch=calls, verbose=0).history
    seconds = time.perf_counter() - began
    steady_peak(before, peak_flops(jit_compile))
    done = calls * per_call * per_iteration
    print(
        f"CartPole-v1{' of Gymnasium' if gym else ''}, {model}, {'XLA' if jit_compile else 'graphs'}, "
        f"threads: {threads()}, {environments} environments x 128 steps, {per_call} iterations a call, {done:,} steps in {seconds:.2f} s; "
        f"the first call, which compiles, took {compile_seconds:.1f} s"
    )
    result = {"steps_per_second": done / seconds, "compile_seconds": compile_seconds}
    result["episode_return"] = history["episode/return"][-1]
    print(json.dumps({name: round(float(value), 4) for name, value in result.items()}))
    return result
