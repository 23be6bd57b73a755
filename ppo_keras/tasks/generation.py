"""The task `generation`: a writer learns by PPO to write what a reward asks for.

The steps are those of Ziegler et al. (2019) and Ouyang et al. (2022): a language model by supervised training, a
reward model from labels or preferences, then PPO against a frozen reference; and a judge that took part in none of it.
With control codes (Keskar et al. 2019) each prompt says which label its text is to have.
"""

import numpy as np
import tensorflow as tf

from ppo_keras.datasets.files import shorten_list
from ppo_keras.datasets.left_out import warn_left_out
from ppo_keras.datasets.loader import load_texts
from ppo_keras.datasets.subsets import check_classes, halves
from ppo_keras.errors import InputError, require
from ppo_keras.language.control_codes import ControlCodes, with_code
from ppo_keras.language.evaluation import Evaluator
from ppo_keras.language.generation import NumberedPrompts, map_prompts, pad_prompts
from ppo_keras.language.ppo import LanguagePPO
from ppo_keras.language.reward_function import RewardFunction, load_function
from ppo_keras.language.rewards import ModelScore, PythonReward, RewardModel
from ppo_keras.language.supervised import (
    differing,
    train_classifier,
    train_language_model,
    train_preferences,
)
from ppo_keras.language.tokenizer import UNKNOWN
from ppo_keras.networks.adapters import reference_of
from ppo_keras.networks.encoder import TokenEncoder
from ppo_keras.reports.tables import print_evaluations
from ppo_keras.runs.models import load_reward_model, save_policy
from ppo_keras.tasks.config import settings_for
from ppo_keras.tasks.seeds import each_seed
from ppo_keras.tasks.text import HELD_OUT
from ppo_keras.tasks.training import run_job
from ppo_keras.tasks.writing import WriterJob


def train(config, resume=False):
    """Runs the whole task.

    Args:
        config: a `GenerationConfig`.
        resume: go on with the run of this name, which was stopped.

    Returns:
        The summary, a dict, as in `summary.json`.

    Raises:
        InputError: the data, the reward function or a setting cannot be used. Found before work begins, nothing is
            written; found in mid-run (a reward that raises), the writer is saved as far as it came.
        NonFiniteError: a metric became NaN; the last good writer is saved.
        KeyboardInterrupt: Ctrl-C; the writer is saved as it then is. A run that has no state to go on from is removed.
    """
    return run_job(config, each_seed(config, GenerationJob), resume)


class GenerationJob(WriterJob):
    """The parts of one run: checked when it is made, supervised in `prepare`, improved by PPO in `improve`."""

    def __init__(self, config, run=None):
        super().__init__(config, "generation", run)
        reads = RewardFunction(load_function(config.reward), config.reward).columns if config.reward else ()
        corpus = load_texts(
            config.data, config.dataset, config.language, config.text_column, "" if config.checkpoint.chat else config.label_column, config.chosen_column,
            config.rejected_column, seed=config.seed, minimum=max(config.batch_size, config.supervised.supervised_batch_size),
            validation_data=config.validation_data, test_data=config.test_data, two_labels=not config.control_codes,
            positive_label=config.positive_label, columns=reads,
        )  # fmt: skip
        self.take_corpus(corpus)
        train = self.corpus.train
        if config.reward is None and train.labels is None and train.rejected is None:
            raise InputError(
                f"{self.corpus.name} has no labels to learn a reward from. Name their column with --label-column, or give --reward module:function."
            )
        if run is None and train.labels is None and train.rejected is None:
            self.check_no_scorer()
        self.halves = self.make_halves()
        self.codes, self.code_texts = None, [""]
        if config.control_codes:
            self.code_texts = [f"{name}:" for name in self.corpus.label_names]
        self.take_tokenizer(all_texts(train), [code for code in self.code_texts if code])
        if config.control_codes:
            self.codes = ControlCodes(map(self.tokenizer.id_of, self.code_texts), UNKNOWN)
        self.code_length = max(len(self.tokenizer.encode(code)) for code in self.code_texts)
        self.take_lengths()
        chat = "Use a smaller --response-length, or shorten the longest text of the data"
        self.take_memory(self.text_length, *([chat] if config.checkpoint.chat else []))
        self.check_memory()
        if train.rejected is not None:
            self.check_pairs_differ()
        self.rows, self.first_row = self.corpus.numbered_rows()
        self.prompts = self.make_prompts("test", config.evaluation_samples, seed=config.seed + 1)
        self.reference = self.judge = self.reward_model = self.own_reward = None
        if config.reward:
            self.own_reward = PythonReward(
                config.reward, self.tokenizer, rows=self.rows, weights=config.part_weights(), processes=config.reward_processes, timeout=config.reward_timeout
            )
            if run is None:  # one that is opened may score nothing
                self.try_reward()

    def check_no_scorer(self):
        """Raises `InputError` where settings of the reward model and the judge were given, but there will be neither."""
        usual = settings_for("generation", self.config.checkpoint.pretrained, self.config.checkpoint.chat)
        for name in ("reward_network", "reward_epochs", "reward_learning_rate"):
            given = getattr(self.config, name)
            require(
                given == getattr(usual, name),
                f"{name}={given!r} is of the reward model and the judge, but the reward is a function, and {self.corpus.name} has no labels for a judge. "
                "Leave it out, or name the column of labels with --label-column.",
            )

    def try_reward(self):
        """Calls a reward of the user's own once (of lists, with two responses): a mistake in it shows before the work begins."""
        some = map_prompts(lambda part: part[: 2 if self.own_reward.function.batched else 1], self.prompts)
        prompts = self.tokenizer.decode_batch(some.tokens, some.mask)
        responses = [text.removeprefix(prompt) for prompt, text in zip(prompts, self.corpus.test.texts * 2)]
        try:
            self.own_reward.values(prompts, responses, self.own_reward.rows_of(some))
        except BaseException:
            self.close()
            raise

    def close(self):
        """Ends the processes of a reward of the user's own."""
        if self.own_reward is not None:
            self.own_reward.close()

    def take_lengths(self):
        """Sets the lengths of prompts, responses and texts, in tokens; of a chat a prompt is a whole text, and a response the answer to it."""
        config, texts = self.config, self.encode(all_texts(self.corpus.train))
        lengths = [len(ids) for ids in texts]
        longest = int(np.percentile(lengths, 95))
        if config.checkpoint.chat:
            every = [text for name in ("train", "validation", "test") for text in getattr(self.corpus, name).texts]
            self.prompt_length = max(len(self.asking.ids(text)) for text in every)
            self.response_length = self.usual_length = config.response_length
        else:
            self.prompt_length = config.prompt_length + self.code_length
            self.response_length = config.response_length or max(4, longest - 1)
            self.usual_length = min(self.response_length, max(1.0, np.mean(lengths) - config.prompt_length))
        self.context = self.prompt_length + self.response_length
        longest = min(longest + self.code_length, self.checkpoint.most_steps if self.checkpoint else longest + self.code_length)
        self.text_length = max(self.context, longest)

    def make_halves(self):
        """Of train and validation, the halves of the reward model and of the judge, `(Split, Split)` each; none without labels or pairs.

        Raises:
            InputError: a half lacks a label, or a pair.
        """
        corpus, made = self.corpus, {}
        if corpus.train.labels is None and corpus.train.rejected is None:
            return made
        what = "texts of each label" if corpus.train.rejected is None else "pairs"
        for name, path in (("train", None), ("validation", self.config.validation_data)):
            made[name] = halves(getattr(corpus, name), self.config.seed)
            for half in made[name]:
                check_classes(
                    half, corpus.label_names, f"one half of the {name} split of {corpus.name}",
                    f"The reward model learns from one half and the judge from the other, so the split needs two {what} or more. "
                    + (f"Add some to {path}, or leave out --validation-data" if path else "Add some (of six in a file, two go to each split)")
                    + (", or do without a judge: --label-column ''." if self.config.reward else "."),
                )  # fmt: skip
        return made

    @property
    def positive_label(self):
        """The label that the reward pays for, of two; None where each prompt asks for its own, and without labels."""
        return None if self.codes or self.corpus.label_names is None else self.corpus.label_names[1]

    @property
    def judged(self):
        """What the judge finds good texts to be."""
        return "as asked" if self.codes else "like the chosen texts" if self.positive_label is None else self.positive_label

    @property
    def reward_is(self):
        """What a score is, in words."""
        if self.config.reward:
            weights = f" with the weights {self.config.reward_weights}" if self.config.reward_weights else ""
            return f"that of {self.config.reward}{weights}" + (f"; the judge tells {self.judged!r} from other texts" if self.halves else "")
        if self.codes:
            return f"the probability of the label that the prompt asks for: {shorten_list(self.corpus.label_names)}"
        if self.positive_label is None:
            return "between 0 and 1, learned from the preference pairs"
        return f"the probability of the label {self.positive_label!r} (and not {self.corpus.label_names[0]!r})"

    def check_pairs_differ(self):
        """Says how many preference pairs are equal once they are cut; raises `InputError` where all of a half are."""
        for name in ("train", "validation"):
            split = getattr(self.corpus, name)
            pairs = self.encode(split.texts), self.encode(split.rejected)
            count, total = len(differing(*pairs, self.text_length)), len(split.texts)
            needed = f"Use --response-length {max(map(len, sum(pairs, []))) - self.prompt_length} to read them whole"
            place = f"the {name} split of {self.corpus.name}"
            for half in self.halves[name]:
                if not differing(self.encode(half.texts), self.encode(half.rejected), self.text_length):
                    which = (
                        f"all {len(half.texts)} pairs of one half of {place} (the reward model's or the judge's)" if count else f"all {total} pairs of {place}"
                    )
                    raise InputError(f"{which} are equal once they are cut to {self.text_length} tokens. {needed}.")
            warn_left_out(total - count, total, "pairs", place, f"are equal once they are cut to {self.text_length} tokens", f" of the reward. {needed}")

    def encode(self, texts, labels=None):
        """Token ids of whole texts, begin and end tokens included, with the control codes of `labels` before them."""
        codes = [""] * len(texts) if labels is None else [f"{self.code_texts[label]} " for label in labels]
        return [self.tokenizer.encode(code + text, begin=True, end=True) for code, text in zip(codes, texts)]

    def encode_for_writer(self, split):
        """What the writer learns to write: all texts, with control codes where there are any."""
        return self.encode(all_texts(split), split.labels if self.codes else None)

    def make_prompts(self, name, count, seed):
        """`count` prompts of a split: beginnings of texts, each of random length up to `prompt_length` tokens. NumPy `Prompts`.

        With control codes each asks for a random label, whatever that of its text is. Of a chat the prompts are whole texts. For a
        reward that reads columns they are `NumberedPrompts`.
        """
        texts = getattr(self.corpus, name).texts
        rows = np.arange(count) % len(texts)
        texts = [texts[row] for row in rows]
        if self.config.checkpoint.chat:
            chosen = [self.asking.ids(text) for text in texts]
        else:
            random = np.random.default_rng(seed)
            lengths = random.integers(2, self.config.prompt_length, size=count, endpoint=True) + self.code_length
            token_lists = self.encode(texts, random.integers(0, len(self.code_texts), count) if self.codes else None)
            chosen = [ids[:-1][:length] for ids, length in zip(token_lists, lengths)]
        prompts = pad_prompts(chosen, self.prompt_length, self.tokenizer.pad_id)
        return prompts if self.corpus.train.rows is None else NumberedPrompts(*prompts, np.int32(self.first_row[name] + rows))

    def prepare(self, run, interrupt):
        """Supervised training of the writer, the reward model and the judge."""
        config, train = self.config, self.corpus.train
        facts = {"label_names": list(self.corpus.label_names)} if self.codes else {}
        columns = self.corpus.column_fingerprints
        facts |= {"columns": columns} if columns else {}
        self.save_settings(run, context=self.context, response_tokens=self.response_length, reward_is=self.reward_is, **facts)
        print(
            f"{self.corpus.name}: {len(train.texts)} training texts, {self.tokenizer.vocabulary_size} pieces, "
            f"responses of up to {self.response_length} tokens. Run folder: {run.folder}\nThe reward is {self.reward_is}."
        )
        self.policy = self.new_policy()
        settings = dict(length=self.text_length, pad_id=self.tokenizer.pad_id, jit_compile=config.jit)
        with self.observers(run, interrupt, "writer", "writer", {"loss": "loss", "val_cross_entropy": "validation"}) as observers:
            history = train_language_model(
                self.policy,
                self.encode_for_writer(train),
                self.encode_for_writer(self.corpus.validation),
                config=config.supervised,
                callbacks=observers,
                files=run.states("writer"),
                **settings,
            ).history
        self.summary = {"writer_validation_cross_entropy": min(history["val_cross_entropy"])} if history else {}
        self.policy.start_value_from_policy()
        save_policy(run, self.policy, "before")
        with self.devices.scope():
            self.reference = reference_of(self.policy)
        shown = {"loss": "loss", "val_accuracy": "validation accuracy"}
        if self.own_reward is None:
            with self.observers(run, interrupt, "reward", "reward model", shown) as observers:
                self.reward_model = self.train_scorer("reward", 0, settings | dict(callbacks=observers, files=run.states("reward")))
            run.save_model(self.reward_model, "reward")
        if train.labels is not None or train.rejected is not None:
            with self.observers(run, interrupt, "judge", "judge", shown) as observers:
                self.judge = self.train_scorer("judge", 1, settings | dict(callbacks=observers, files=run.states("judge")))
            run.save_model(self.judge, "judge")
        with self.devices.scope():
            self.learner = self.make_learner()
            self.learner.compile(config.optimizer.build(self.updates()), jit_compile=config.jit)
        self.evaluator = self.make_evaluator()
        self.before = self.evaluate()

    def train_scorer(self, name, half, settings):
        """A `RewardModel` trained (and stopped) on one half of the labels: the reward model and the judge share no text."""
        with self.devices.scope():
            model = self.new_scorer(name)
        splits = [self.halves[split][half] for split in ("train", "validation")]
        texts = [self.encode_for_judge(split.texts) for split in splits]
        if self.corpus.train.rejected is None:
            fit, arrays = train_classifier, [(t, split.labels) for t, split in zip(texts, splits)]
        else:
            rejected = [self.encode(split.rejected) for split in splits]
            fit, arrays = train_preferences, list(zip(texts, rejected))
            if name == "judge":  # a classifier also where the reward was learned from pairs
                fit, arrays = train_classifier, [(c + r, [1] * len(c) + [0] * len(r)) for c, r in arrays]
        history = fit(model, *arrays, config=self.config.scoring, **settings).history
        if history:  # there is none where Ctrl-C cut the first epoch short
            self.summary[f"{name}_validation_accuracy"] = history["val_accuracy"][int(np.argmin(history["val_cross_entropy"]))]
        return model

    def new_scorer(self, name):
        """An untrained `RewardModel`."""
        network = self.config.network
        encoder = self.reference
        if self.config.reward_network != "trunk":
            encoder = TokenEncoder(
                self.tokenizer.vocabulary_size, self.config.reward_network, network.width, network.layers, network.dropout,
                heads=network.heads, memory=self.text_length, recompute=network.recompute,
            )  # fmt: skip
        outputs = len(self.code_texts) if self.codes else 1
        return RewardModel(encoder, dropout=network.dropout, outputs=outputs, name=name)

    def encode_for_judge(self, texts):
        """Texts as the reward model and the judge read them: with control codes that do not tell the label."""
        if self.codes is None:
            return self.encode(texts)
        coded = self.encode(texts, [0] * len(texts))
        return [[UNKNOWN if i in self.codes.ids else i for i in ids] for ids in coded]

    def as_asked(self, model, probability=False):
        """A function of (`Prompts`, `Responses`): log-odds that texts are positive or, with control codes, as asked; or the probability."""
        if not self.codes:
            return ModelScore(model, probability)
        squash = tf.sigmoid if probability else tf.identity
        return lambda prompts, responses: squash(self.codes.log_odds(model, prompts, responses))

    def make_learner(self):
        """The `LanguagePPO` of this run."""
        config = self.config
        reward = self.own_reward
        if reward is None:
            reward = self.as_asked(self.reward_model, probability=True)
        return LanguagePPO(
            self.policy, reward, self.tokenizer.end_ids, self.tokenizer.pad_id, self.response_length, config.ppo, config.kl,
            config.missing_end_penalty, config.short_penalty, self.usual_length, reference=self.reference,
            judge=self.judge and self.as_asked(self.judge), seed=config.seed, name="learner",
        )  # fmt: skip

    def make_evaluator(self):
        """The `Evaluator` of the writer."""
        config, score = self.config, self.learner.score
        if self.own_reward is None:
            score = tf.function(score, jit_compile=config.jit, autograph=False)
        return Evaluator(
            self.policy, self.learner.reference, score, self.learner.judge, self.tokenizer, self.response_length, config.ppo.temperature,
            config.batch_size, config.jit,
        )  # fmt: skip

    def open_reward(self):
        """See `WriterJob`."""
        if self.own_reward is None:
            self.reward_model = load_reward_model(self.run, "reward", self.reference)

    def test_prompts(self, count=None):
        """See `WriterJob`."""
        return self.prompts if count is None else self.make_prompts("test", count, seed=self.config.seed + 1)

    def encode_prompt(self, text, before=()):
        """See `WriterJob`. Raises `InputError` where a control code is missing."""
        if self.codes:
            text = with_code(text, self.corpus.label_names)
        return self.asking.ids(text, before)

    def score_as(self, other):
        """See `WriterJob`."""
        if other.tokenizer.model != self.tokenizer.model:
            raise InputError(
                f"the tokenizers of {other.run.folder} and {self.run.folder} differ, so no reward reads both. "
                "Train both with the same --vocabulary-size, with or without --control-codes."
            )
        return other.learner.score

    def prompts_as(self, other, count):
        """See `WriterJob`."""
        return other.test_prompts(count)

    def improve(self, run, interrupt):
        """PPO, then the same measures as before it. Returns the summary."""
        config = self.config
        prompts = self.make_prompts("train", len(self.corpus.train.texts), seed=config.seed)
        shown = {"objective/scores": "score", "objective/kl": "kl", "response/length": "length", "policy/entropy": "entropy"}
        held_out = self.make_prompts("validation", HELD_OUT, seed=config.seed + 2)
        self.practise(run, interrupt, prompts, held_out, shown)
        return self.report(run, self.before, self.evaluate())

    def evaluate(self):
        """An `Evaluation` of the writer as it is now, on the prompts of the test split."""
        return self.evaluator(self.prompts, self.config.seed)

    def report(self, run, before, after):
        """Writes samples and summary, prints the table. Returns the summary."""
        run.save_samples(
            {"stage": stage, "prompt": prompt, "response": response, "score": float(score)}
            for stage, evaluation in (("before", before), ("after", after))
            for prompt, response, score in zip(evaluation.prompts, evaluation.responses, evaluation.scores)
        )
        measures = {}
        for name in ("reward", "positive", "distinct_1", "distinct_2", "length", "perplexity", "ended"):
            key = "matched" if name == "positive" and self.codes else name
            measures |= {f"{key}_before": getattr(before, name), f"{key}_after": getattr(after, name)}
        named = {} if self.positive_label is None else {"positive_label": self.positive_label}
        summary = self.finish(run, **measures, kl=after.kl, **self.summary, **named)
        print_evaluations(before, after, summary, run.folder, self.reward_is, f"judged {self.judged}")
        return summary


def all_texts(split):
    """Every text of a split once, of both sides where it holds pairs."""
    return list(dict.fromkeys(split.texts + (split.rejected or [])))
