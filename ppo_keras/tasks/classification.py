"""The task `classification`: a text is the state, its label the one action, and the reward what the choice costs.

As an episode of one step this is a contextual bandit: PPO is told the cost of the label it chose and not which one is right.
The baseline is told: it is the same network, trained with cross-entropy.
"""

import collections
import warnings

import numpy as np
import tensorflow as tf

from ppo_keras.datasets.labels import warn_of_guess
from ppo_keras.datasets.loader import load_texts
from ppo_keras.datasets.subsets import check_classes
from ppo_keras.environments.ppo import EnvironmentPPO
from ppo_keras.environments.texts import TextClassification, check_costs
from ppo_keras.errors import DataWarning, InputError
from ppo_keras.language.evaluation import label_measures
from ppo_keras.language.supervised import pad_texts, train_labels
from ppo_keras.networks.adapters import reference_of
from ppo_keras.networks.encoder import NO_TOKEN
from ppo_keras.reports.measures import Sample
from ppo_keras.reports.tables import print_labels
from ppo_keras.runs import callbacks, tracing
from ppo_keras.runs.health import Health
from ppo_keras.runs.models import load_policy, load_reference, save_policy
from ppo_keras.runs.recording import EnvironmentRecorder
from ppo_keras.runs.views import HeldOutLabels, RolloutAttention
from ppo_keras.tasks.seeds import each_seed
from ppo_keras.tasks.text import HELD_OUT, TextJob
from ppo_keras.tasks.training import fit_and_save, run_job


def train(config, resume=False):
    """Runs the whole task.

    Args:
        config: a `ClassificationConfig`.
        resume: go on with the run of this name, which was stopped.

    Returns:
        The summary, a dict, as in `summary.json`.

    Raises:
        InputError: the data or a setting cannot be used; nothing is written.
        NonFiniteError: a metric became NaN; the last good classifier is saved.
        KeyboardInterrupt: Ctrl-C; the classifier is saved as it then is. A run that has no state to go on from is removed.
    """
    return run_job(config, each_seed(config, ClassificationJob), resume)


class ClassificationJob(TextJob):
    """The parts of one run: checked when it is made, supervised in `prepare`, improved by PPO in `improve`."""

    earned, units = "reward", "texts"

    def __init__(self, config, run=None):
        super().__init__(config, "classification", run)
        corpus = load_texts(
            config.data, config.dataset, config.language, config.text_column, config.label_column, seed=config.seed,
            minimum=config.supervised.supervised_batch_size, validation_data=config.validation_data, test_data=config.test_data,
            two_labels=False, positive_label=config.positive_label,
        )  # fmt: skip
        self.take_corpus(corpus)
        train, self.names = self.corpus.train, self.corpus.label_names
        if train.labels is None:
            raise InputError(f"{self.corpus.name} has no labels. Name their column with --label-column.")
        for name, path in (("validation", config.validation_data), ("test", config.test_data)):
            remedy = "The others would be measured as if they were all. Add such texts to it, or remove the label from training."
            check_classes(getattr(self.corpus, name), self.names, f"the {name} split of {path or self.corpus.name}", remedy)
        count, table = len(self.names), config.cost_table()
        if count == 2 and table is not None and config.positive_label is None:  # the rows of the costs go by their order
            warn_of_guess(self.names, self.corpus.name)
        self.costs = check_costs(1.0 - np.eye(count) if table is None else table, self.names)
        self.take_tokenizer(train.texts)
        token_lists = {name: self.encode(getattr(self.corpus, name).texts) for name in ("train", "validation", "test")}
        self.text_length = config.text_length or int(np.percentile([len(ids) for ids in token_lists["train"]], 99))
        self.take_memory(self.text_length, "Use a smaller --text-length")
        self.texts = {name: pad_texts(lists, self.text_length, NO_TOKEN)[0] for name, lists in token_lists.items()}
        self.labels = {name: getattr(self.corpus, name).labels for name in self.texts}
        warn_of_equal_texts([(token_lists[name], self.labels[name]) for name in self.texts], self.text_length, self.corpus.name)
        read = lambda model, texts: [part[:, 0] for part in model(texts[:, tf.newaxis], training=False)]  # logits (B, K), values (B,)
        self.read = tf.function(read, jit_compile=config.jit, autograph=False)

    def encode(self, texts):
        """Token ids of texts."""
        return [self.tokenizer.encode(text, begin=True) for text in texts]

    def pad(self, texts):
        """int32 `(N, L)`, filled up with `NO_TOKEN`; what is longer is cut."""
        return pad_texts(self.encode(texts), self.text_length, NO_TOKEN)[0]

    def prepare(self, run, interrupt):
        """The baseline by supervised training; PPO begins with a copy of it."""
        config = self.config
        self.save_settings(run, text_length=self.text_length, label_names=list(self.names), labels=len(self.names))
        print(
            f"{self.corpus.name}: {len(self.corpus.train.texts)} training texts, labels {', '.join(self.names)} (the order of the costs), "
            f"{self.tokenizer.vocabulary_size} pieces, up to {self.text_length} of each text. Run folder: {run.folder}"
        )
        self.policy = self.new_policy(labels=len(self.names))
        data = [(self.texts[name], self.labels[name]) for name in ("train", "validation")]
        shown = {"loss": "loss", "val_accuracy": "validation accuracy"}
        with self.observers(run, interrupt, "writer", "supervised", shown) as observers:
            train_labels(self.policy, *data, config.supervised, callbacks=observers, jit_compile=config.jit, files=run.states("writer"))
        self.policy.start_value_from_policy()
        with self.devices.scope():
            self.baseline = reference_of(self.policy)
            self.learner = EnvironmentPPO(
                self.policy, TextClassification(self.texts["train"], self.labels["train"], self.costs), config.ppo, config.batch_size, 1,
                seed=config.seed, name="learner",
            )  # fmt: skip
            self.learner.compile(config.optimizer.build(self.updates()), jit_compile=config.jit)
        save_policy(run, self.policy, "before")

    def improve(self, run, interrupt):
        """PPO against the costs; the policy that cost least on the validation split is kept. Returns the summary."""
        config = self.config
        best = callbacks.KeepBest(self.policy, self.validation_reward, config.validate_every)
        shown = {"episode/return": "reward", "policy/entropy": "entropy"}
        views = [self.held_out()] + ([RolloutAttention(self.tokenizer)] if config.logging.attention_maps else [])
        recorder = EnvironmentRecorder(run, self.board(*views, data_spec=tf.TensorSpec([], tf.int32)))
        further = {"best": best, "health": Health("episode/return")} | tracing.observers(config.logging, run)
        fit_and_save(
            self.learner, run, "after", interrupt, recorder, shown, config.checkpoint_every, config.iterations, further=further, finish=best.put_back
        )  # fmt: skip
        return self.report(run)

    def held_out(self):
        """The table of validation texts that TensorBoard shows."""
        models = {"before": self.baseline, "now": self.policy}
        look = lambda stage: self.probabilities(models[stage], "validation")[:HELD_OUT]  # compiled already, for `validation_reward`
        labels = [self.names[label] for label in self.labels["validation"][:HELD_OUT]]
        return HeldOutLabels(self.corpus.validation.texts[:HELD_OUT], labels, self.names, look)

    def report(self, run):
        """Writes samples and summary, prints the table. Returns the summary."""
        labels, costs = self.labels["test"], self.costs
        baseline, policy = (self.probabilities(model, "test") for model in (self.baseline, self.policy))
        cheapest = np.argmin(costs[self.labels["train"]].sum(axis=0))  # the one label that costs least for the training texts
        chosen = {
            "supervised": baseline.argmax(axis=1),
            "supervised_with_costs": (baseline @ costs).argmin(axis=1),  # least expected cost, if one trusts its probabilities
            "ppo": policy.argmax(axis=1),
            "majority": np.full_like(labels, np.bincount(self.labels["train"]).argmax()),
            "one_label": np.full_like(labels, cheapest),
        }
        measures = {kind: label_measures(labels, choices, costs) for kind, choices in chosen.items()}
        run.save_samples(
            {"stage": stage, "prompt": text, "response": self.names[choice], "label": self.names[label],
             "score": -float(costs[label, choice])}
            for stage, kind in (("before", "supervised"), ("after", "ppo"))
            for text, choice, label in zip(self.corpus.test.texts, chosen[kind], labels)
        )  # fmt: skip
        flat = {f"{name}_{kind}": value for kind, values in measures.items() for name, value in values.items()}
        sizes = {"label_names": list(self.names), "training_texts": len(self.labels["train"]), "test_texts": len(labels)}
        summary = self.finish(run, **flat, **sizes)
        print_labels(measures, summary, run.folder)
        return summary

    def probabilities(self, model, split):
        """float32 `(N, K)` of the labels of the texts of a split, `N` of them."""
        return tf.nn.softmax(self.outputs(model, self.texts[split])[0]).numpy()

    def outputs(self, model, texts):
        """Logits `(N, K)` and values `(N,)` of texts `(N, L)`, NumPy arrays."""
        size = self.config.batch_size
        filled = np.concatenate([texts, np.repeat(texts[:1], -len(texts) % size, axis=0)])  # full batches compile once
        outputs = [self.read(model, tf.constant(batch)) for batch in np.split(filled, len(filled) // size)]
        return [np.concatenate(parts)[: len(texts)] for parts in zip(*outputs)]

    def open(self, stage):
        """Takes the classifier of a stage of the run ("before", "after" or "best"), and the one before PPO."""
        self.policy = load_policy(self.run, stage)
        self.baseline = load_reference(self.run, self.policy)

    def choose(self, count, seed):
        """What `evaluate` and `compare` look at: labels (the most probable and sampled ones), log-probabilities and values.

        Args:
            count: texts, the first of the test split; None: all.
            seed: of the sampled labels.

        Returns:
            ints `(N,)` twice, float32 `(N, K)` and `(N,)`.
        """
        logits, values = self.outputs(self.policy, self.texts["test"][:count])
        log_probs = tf.nn.log_softmax(logits / self.config.ppo.temperature).numpy()
        noise = np.random.default_rng(seed).gumbel(size=log_probs.shape)
        return log_probs.argmax(axis=1), (log_probs + noise).argmax(axis=1), log_probs, values

    def sample(self, count, seed):
        """The `Sample` of `evaluate`: a text is an episode of one step. Divergence and entropy are exact."""
        best, drawn, log_probs, values = self.choose(count, seed)
        before = self.outputs(self.baseline, self.texts["test"][:count])[0] / self.config.ppo.temperature
        probabilities, before = np.exp(log_probs), tf.nn.log_softmax(before).numpy()
        earned = lambda chosen: -self.costs[self.labels["test"][:count], chosen]
        advantages = (earned(drawn) - values)[:, np.newaxis]
        entropies = -np.sum(probabilities * log_probs, axis=1, keepdims=True)
        kl = np.sum(probabilities * (log_probs - before), axis=1)
        return Sample(earned(drawn), earned(best), advantages, entropies, np.ones_like(entropies), kl)

    def answer(self, other, count, seed, greedy):
        """Texts, labels (lists of strings) and rewards `(N,)`, by the costs of an opened run of the same task and data."""
        best, drawn, *_ = self.choose(count, seed)
        chosen = best if greedy else drawn
        return self.corpus.test.texts[:count], [self.names[i] for i in chosen], -other.costs[self.labels["test"][:count], chosen]

    def validation_reward(self):
        """The mean reward of the most probable labels of the validation split."""
        chosen = self.probabilities(self.policy, "validation").argmax(axis=1)
        return -label_measures(self.labels["validation"], chosen, self.costs)["cost"]


def warn_of_equal_texts(splits, length, name):
    """Says how many texts of all splits equal one of another label because they are cut: no classifier can tell these apart.

    Args:
        splits: (lists of token ids, labels `(N,)`) of each.
        length: tokens that are read of a text.
        name: of the data.
    """
    alike = collections.defaultdict(list)  # what is read of a text: (tokens of the whole, label) of all that begin with it
    for token_lists, labels in splits:
        for ids, label in zip(token_lists, labels):
            alike[tuple(ids[:length])].append((len(ids), label))
    equal = [text for texts in alike.values() if len({label for _, label in texts}) > 1 and max(texts)[0] > length for text in texts]
    if equal:
        warnings.warn(
            f"{len(equal)} texts of {name} (of {sum(map(len, alike.values()))} in all) equal another one with another label once they are cut to "
            f"{length} tokens. Use --text-length {max(equal)[0]} to read them whole.",
            DataWarning,
            stacklevel=3,
        )
