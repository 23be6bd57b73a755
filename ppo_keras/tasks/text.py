"""What the tasks of language have in common: observers of a supervised stage, and how a policy is made."""

import contextlib
import time

import keras
import tensorflow as tf

from ppo_keras.cluster import start
from ppo_keras.devices import Devices
from ppo_keras.errors import InputError, require
from ppo_keras.language.batches import batches_of_like_length, choose_widths, padded_share
from ppo_keras.language.generation import map_prompts
from ppo_keras.language.tokenizer import Tokenizer
from ppo_keras.networks.actor_critic import new_policy
from ppo_keras.pretrained.asking import Asking
from ppo_keras.pretrained.loading import Checkpoint
from ppo_keras.pretrained.tokenizer import load_tokenizer
from ppo_keras.runs import callbacks, tensorboard, tracing
from ppo_keras.runs.health import Health
from ppo_keras.runs.recording import Board, Cadence, Recorder, SupervisedRecorder
from ppo_keras.runs.views import BatchHistograms, HeldOutResponses
from ppo_keras.tasks.training import fit_and_save, settings_of_every_task

HELD_OUT = 8  # prompts or texts in a table of TensorBoard


class TextJob:
    """The parts of one run of a task of language. A subclass loads its data, then defines `prepare` and `improve` (see `run_job`).

    Args:
        config: a `TextConfig`.
        task_name: as on the command line.
        run: a `Run` to open instead of training: `open(stage)` then takes its models.
    """

    def __init__(self, config, task_name, run=None):
        self.config, self.task_name, self.run, self.began = tracing.without_jit(config), task_name, run, time.perf_counter()
        keras.utils.set_random_seed(config.seed)

        self.devices = Devices(None if run else start(config.sharing))
        self.config.ppo.check_batch(self.config.batch_size, devices=self.devices.count)
        self.devices.check_batch(self.config.supervised.supervised_batch_size, "supervised_batch_size")

    @property
    def data(self):
        """What names the data and the checkpoint that it trains on."""
        parts = (self.checkpoint, self.checkpoint.adapters) if self.checkpoint else ()
        return [self.corpus.fingerprint, self.corpus.column_fingerprints, *[part and part.checksum for part in parts]]

    def close(self):
        """Ends what runs beside this process."""

    def take_corpus(self, corpus):
        """Sets `self.corpus`. Raises `InputError` where a run that is opened was trained on another."""
        self.corpus = corpus
        saved = corpus.fingerprint if self.run is None else self.run.load_json("config.json").get("texts")
        if saved != corpus.fingerprint:
            raise InputError(
                f"{self.run.folder} was trained on other texts (checksum {saved}) than {corpus.name} now holds ({corpus.fingerprint}). "
                "Put the data back as they were, or train the run again."
            )
        columns = dict(self.run.load_json("config.json").get("columns") or []) if self.run else {}
        changed = [name for name, checksum in corpus.column_fingerprints if columns.get(name, checksum) != checksum]
        require(
            not changed, f"the column {', '.join(changed)} of {corpus.name} is another than when this run was trained. Put it back, or train the run again."
        )

    def take_tokenizer(self, texts, symbols=(), answers=False):
        """Sets `self.tokenizer`: of a run that is opened its own, of a checkpoint that one's, else one that is trained on the texts; and `self.asking`.

        Args:
            texts, symbols: see `Tokenizer.train`.
            answers: see `Asking`.
        """
        settings, self.checkpoint = self.config.checkpoint, None
        if self.run is not None:
            self.tokenizer = load_tokenizer(self.run.path("tokenizer.model"))
        elif settings.pretrained:
            self.checkpoint = Checkpoint(settings.pretrained, adapters=settings.adapters)
            self.tokenizer = self.checkpoint.tokenizer
        else:
            self.tokenizer = Tokenizer.train(texts, self.config.vocabulary_size, symbols)
        self.asking = Asking(self.tokenizer, settings, answers)

    def take_memory(self, steps, advice="Use a smaller --prompt-length or --response-length"):
        """Sets `self.memory`, how far a policy looks back. Raises `InputError` where it is more than a checkpoint knows, or its weights do not fit."""
        self.memory = steps
        if self.checkpoint:
            most, name = self.checkpoint.most_steps, self.checkpoint.name
            require(steps <= most, f"the policy would read up to {steps} tokens, but {name} knows a context of {most}. {advice}.")
            self.checkpoint.check(steps, self.config.checkpoint.weights)

    def save_settings(self, run, **facts):
        """Writes `config.json` and the tokenizer."""
        if self.checkpoint:
            facts |= {"checkpoint_sha256": self.checkpoint.checksum, "memory": self.memory}
            if adapters := self.checkpoint.adapters:
                facts |= {"adapters_sha256": adapters.checksum, "adapter_settings": adapters.settings}
        run.save_config(self.config, task=self.task_name, corpus=self.corpus.name, texts=self.corpus.fingerprint, **facts)
        run.save_tokenizer(self.tokenizer)

    def new_policy(self, labels=None):
        """The policy at the start, a checkpoint's or an untrained one: a language model, or one that chooses a label of texts of `self.memory` tokens."""
        with self.devices.scope():
            return self._new_policy(labels)

    def _new_policy(self, labels):
        network, settings, vocabulary = self.config.network, self.config.checkpoint, self.tokenizer.vocabulary_size
        if self.checkpoint:
            given = (settings.lora_rank, settings.lora_alpha, settings.lora_layers, settings.weights)
            return self.checkpoint.policy(self.memory, *given, labels=labels, critic=settings.critic, recompute=network.recompute)
        read = dict(inputs=vocabulary) if labels is None else dict(inputs=(self.memory,), actions=labels, vocabulary_size=vocabulary)
        return new_policy(
            self.config.model, **read, width=network.width, layers=network.layers, heads=network.heads, memory=self.memory,
            dropout=network.dropout, shared=network.shared_trunk, recompute=network.recompute,
        )  # fmt: skip

    @contextlib.contextmanager
    def observers(self, run, interrupt, stage, title, shown):
        """The callbacks of a supervised stage; afterwards Ctrl-C is heeded."""
        with callbacks.Progress(title, shown) as progress:
            yield [
                progress,
                callbacks.StopOnNonFinite("Try a smaller --supervised-learning-rate."),
                callbacks.StopOnInterrupt(interrupt),
                SupervisedRecorder(run, stage),
            ]
        interrupt.check()

    def practise(self, run, interrupt, prompts, held_out, shown):
        """PPO of `self.learner` on NumPy `Prompts`, in a fresh order each time; the responses to the `held_out` ones are shown.

        Args:
            shown: metrics of the progress bar.
        """
        config = self.config
        batches = self.batches(prompts, config.batch_size // self.learner.responses_per_prompt)
        held_out = map_prompts(lambda part: part[:HELD_OUT], held_out)
        view = HeldOutResponses(held_out, self.tokenizer, config.seed, config.logging.attention_maps)
        recorder = Recorder(run, config.batch_size, self.board(view, data_spec=batches.element_spec))
        health = Health("objective/scores", config.kl.kl_coefficient > 0, self.learner.responses_per_prompt == 1)
        fit_and_save(
            self.learner, run, "after", interrupt, recorder, shown, config.checkpoint_every, config.iterations,
            lambda done: batches.skip(done).prefetch(1), further={"health": health} | tracing.observers(config.logging, run),
            score=lambda metrics: metrics["objective/scores"],
        )  # fmt: skip

    def batches(self, prompts, size):
        """An endless `tf.data.Dataset` of batches of prompts; with several `prompt_widths`, each of prompts of like length."""
        config = self.config
        if config.prompt_widths == 1:
            return tf.data.Dataset.from_tensor_slices(prompts).shuffle(len(prompts.tokens), seed=config.seed).repeat().batch(size, drop_remainder=True)
        lengths = prompts.mask.sum(axis=1).astype(int)
        widths = choose_widths(lengths, config.prompt_widths, size)
        padded = [f"{padded_share(lengths, some):.0%}" for some in (widths, [self.prompt_length])]
        print(f"Batches of prompts of like length, padded to {', '.join(map(str, widths))} tokens: {padded[0]} of them is padding ({padded[1]} at one width).")
        return batches_of_like_length(prompts, size, widths, config.seed)

    def board(self, *views, data_spec):
        """What TensorBoard shows of PPO: histograms, and the views of the task."""
        logging = self.config.logging
        opening = (tracing.Graph(data_spec),) if logging.graph else ()
        histograms = BatchHistograms(logging.weight_histograms)
        return Board(self.task_name, self.config, Cadence(logging.log_every, self.config.iterations), (histograms, *views), opening, settings_of_every_task())

    def updates(self):
        """Optimizer steps of the whole of PPO."""
        return self.config.iterations * self.config.ppo.epochs * self.config.ppo.minibatches

    def finish(self, run, **measures):
        """Writes and returns the summary."""
        summary = {
            "task": self.task_name,
            "model": self.config.checkpoint.pretrained or self.config.model,
            "seed": self.config.seed,
            "corpus": self.corpus.name,
        }
        summary |= measures | {"seconds": time.perf_counter() - self.began}
        tensorboard.write_final(run, summary, self.config.iterations)
        run.save_json("summary.json", summary)  # last: it says that the run has ended
        return summary
