"""The frame of every task whose prompts have references: questions with answers, sources with translations, your own.

A policy learns some of the references by supervised training. PPO then answers the other prompts of the training split and
is told only a number for each answer. Both are measured on prompts held out.
"""

import collections
import warnings

import numpy as np

from ppo_keras.datasets.cleaning import clean
from ppo_keras.errors import DataWarning, InputError
from ppo_keras.language.evaluation import Responder
from ppo_keras.language.generation import map_prompts, pad_prompts
from ppo_keras.language.ppo import LanguagePPO
from ppo_keras.language.rewards import ReferenceReward
from ppo_keras.language.supervised import train_answers
from ppo_keras.reports.tables import print_answers
from ppo_keras.runs.models import save_policy
from ppo_keras.tasks.seeds import each_seed
from ppo_keras.tasks.training import run_job
from ppo_keras.tasks.writing import WriterJob

OUTLIER = 4  # times as long as 95 in 100 prompts: worth a word


def train(config, task, resume=False):
    """Trains a policy to answer.

    Args:
        config: an `AnsweringConfig`.
        task: says what is asked and what is a good answer. It has

            | attribute | meaning |
            |---|---|
            | `name` | of the task, in `summary.json` |
            | `load(minimum)` | a `Corpus` with `references` |
            | `reward(response, references)` | a number: how good one response (str) to a prompt with these references is |
            | `measures(responses, references)` | {name: number} of all responses (a list of str) to a split |
        resume: go on with the run of this name, which was stopped.

    Returns:
        The summary, a dict, as in `summary.json`.

    Raises:
        InputError: the data, the reward or a setting cannot be used. Found before work begins, nothing is written; found
            in mid-run, the policy is saved as far as it came.
        NonFiniteError: a metric became NaN; the last good policy is saved.
        KeyboardInterrupt: Ctrl-C; the policy is saved as it then is. A run that has no state to go on from is removed.
    """
    return run_job(config, each_seed(config, lambda one: AnsweringJob(one, task)), resume)


class AnsweringJob(WriterJob):
    """The parts of one run: checked when it is made, supervised in `prepare`, improved by PPO in `improve`."""

    def __init__(self, config, task, run=None):
        task = OwnReferences(task)
        super().__init__(config, task.name, run)
        self.task, self.reference = task, None
        self.take_corpus(task.load(minimum=config.batch_size // config.responses_per_prompt))
        train = self.corpus.train
        count = max(1, round(config.supervised_share * len(train.texts)))
        if config.supervised.supervised_epochs and count < config.supervised.supervised_batch_size:
            raise InputError(
                f"supervised_share={config.supervised_share} of {len(train.texts)} prompts is {count}, less than a batch. "
                f"Use a larger share, or a --supervised-batch-size of at most {count}."
            )
        rows = np.random.default_rng(config.seed).permutation(len(train.texts))
        known, taught = rows[:count], config.supervised.supervised_epochs > 0
        self.practice = rows[count:] if taught and count < len(rows) else rows
        self.take_tokenizer(train.texts + [reference for i in known for reference in train.references[i]], answers=True)
        self.known = self.pairs(train, known)
        self.response_length = config.response_length or usual_length([answer for _, answer in self.known])
        questions = {name: [self.asking.ids(text) for text in getattr(self.corpus, name).texts] for name in ("train", "validation", "test")}
        self.prompt_length = self.length_of_prompts([ids for lists in questions.values() for ids in lists])
        self.context = self.prompt_length + self.response_length
        self.take_memory(self.context)
        self.check_memory(config.responses_per_prompt)
        self.prompts, self.references = {}, []  # of all splits, found by row; those of prompts held out are only looked at
        for name, lists in questions.items():
            self.prompts[name] = self.pad(lists).numbered(first=len(self.references))
            self.references += getattr(self.corpus, name).references
        warn_of_equal_prompts(self.prompts.values(), self.corpus.name, max(map(len, sum(questions.values(), []))))
        self.reward = self.score_as(self)
        self.reward.score(train.texts[0], train.references[0][0], row=0)  # a mistake in it shows before the work begins

    def length_of_prompts(self, token_lists):
        """Most tokens of a prompt: as many as the longest has, or `--prompt-length`. Says how many prompts that cuts, or that few make all batches wide.

        Raises:
            InputError: it would cut what is written around a prompt.
        """
        longest, given = max(map(len, token_lists)), self.config.prompt_length
        self.cut = sum(len(ids) > (given or longest) for ids in token_lists)
        if self.cut and self.asking.frames:
            what = "of them what the format or the chat template writes"
            raise InputError(f"--prompt-length {given} cuts {self.cut} prompts, and {what}. Use {longest} or more.")
        if self.cut:
            warnings.warn(
                f"{self.cut} prompts of {self.corpus.name} (of {len(token_lists)} in all) are longer than --prompt-length {given}, up to {longest} tokens; "
                "of these the end is read.",
                DataWarning,
                stacklevel=3,
            )
        usual = int(np.percentile([len(ids) for ids in token_lists], 95))
        if not given and self.config.prompt_widths == 1 and longest > OUTLIER * usual:
            warnings.warn(
                f"the longest prompt of {self.corpus.name} has {longest} tokens, and 95 in 100 have {usual} or less: every batch is as wide as the longest. "
                f"Use --prompt-widths 4 for several widths, or --prompt-length {2 * usual} to cut the longest.",
                DataWarning,
                stacklevel=3,
            )
        return given or longest

    def pairs(self, split, rows=None):
        """(prompt ids, answer ids) for every reference of a split, or of some rows of it."""
        rows = range(len(split.texts)) if rows is None else rows
        return [(self.asking.ids(split.texts[i]), self.tokenizer.encode(reference, end=True)) for i in rows for reference in split.references[i]]

    def pad(self, token_lists):
        """NumPy `Prompts`; of one that is too long, the end."""
        cut = [ids if len(ids) <= self.prompt_length else ids[-self.prompt_length :] for ids in token_lists]
        return pad_prompts(cut, self.prompt_length, self.tokenizer.pad_id)

    def prepare(self, run, interrupt):
        """Supervised training on the references that are known."""
        config = self.config
        self.save_settings(run, context=self.context, response_tokens=self.response_length, answers=True)
        print(
            f"{self.corpus.name}: {len(self.corpus.train.texts)} training prompts, {len(self.known)} references known to supervised "
            f"training, {self.tokenizer.vocabulary_size} pieces, responses of up to {self.response_length} tokens. Run folder: {run.folder}"
        )
        self.policy = self.new_policy()
        shown = {"loss": "loss", "val_cross_entropy": "validation"}
        with self.observers(run, interrupt, "writer", "supervised", shown) as observers:
            train_answers(
                self.policy, self.known, self.pairs(self.corpus.validation), self.context, self.tokenizer.pad_id,
                config.supervised, callbacks=observers, jit_compile=config.jit, files=run.states("writer"),
            )  # fmt: skip
        self.policy.start_value_from_policy()
        save_policy(run, self.policy, "before")
        with self.devices.scope():
            self.learner = self.make_learner()
            self.learner.compile(config.optimizer.build(self.updates()), jit_compile=config.jit)
        self.respond = Responder(self.policy, self.tokenizer, self.response_length, config.ppo.temperature, config.batch_size, config.jit)
        self.before = self.evaluate()
        self.measure(self.before)  # a mistake in it costs no training

    def make_learner(self):
        """The `LanguagePPO` of this run."""
        config = self.config
        return LanguagePPO(
            self.policy, self.reward, self.tokenizer.end_ids, self.tokenizer.pad_id, self.response_length, config.ppo, config.kl,
            short_penalty=config.short_penalty, usual_length=float(np.mean([len(answer) for _, answer in self.known])),
            responses_per_prompt=config.responses_per_prompt, reference=self.reference, seed=config.seed, name="learner",
        )  # fmt: skip

    def test_prompts(self, count=None):
        """See `WriterJob`."""
        return map_prompts(lambda part: part[:count], self.prompts["test"])

    def encode_prompt(self, text, before=()):
        """See `WriterJob`."""
        return self.asking.ids(clean(text, "the prompt"), before)

    def score_as(self, other):
        """See `WriterJob`."""
        return ReferenceReward(other.task.reward, self.references, self.tokenizer, self.task.name)

    def improve(self, run, interrupt):
        """PPO on the training prompts whose references are not known (on all where all are), then the measures again. Returns the summary."""
        prompts = map_prompts(lambda part: part[self.practice], self.prompts["train"])
        shown = {"objective/scores": "score", "objective/kl": "kl", "policy/entropy": "entropy"}
        self.practise(run, interrupt, prompts, self.prompts["validation"], shown)
        return self.report(run, self.before, self.evaluate())

    def evaluate(self):
        """Greedy and sampled responses to the test prompts: {"greedy": list of str, "sampled": list of str}."""
        prompts, seed = self.prompts["test"], self.config.seed
        return {"greedy": self.respond(prompts, True, seed), "sampled": self.respond(prompts, False, seed)}

    def measure(self, responses):
        """{name: float} of the test split, with `_sampled` behind the names of what was drawn. Raises `InputError`."""
        measures = {}
        for kind, texts in responses.items():
            try:
                found = {name: float(value) for name, value in self.task.measures(texts, self.corpus.test.references).items()}
            except Exception as error:  # somebody else's code may raise anything
                raise InputError(f"the measures of the task {self.task.name} raised {type(error).__name__}: {error}") from error
            measures |= {name + ("" if kind == "greedy" else "_sampled"): value for name, value in found.items()}
        return measures

    def report(self, run, before, after):
        """Writes samples and summary, prints the table. Returns the summary."""
        test, measures, samples = self.corpus.test, {}, []
        rows = self.prompts["test"].rows
        for stage, responses in (("before", before), ("after", after)):
            samples += [
                {"stage": stage, "prompt": prompt, "response": greedy, "sampled": sampled, "references": references,
                 "score": self.reward.score(prompt, greedy, row)}
                for prompt, greedy, sampled, references, row in zip(test.texts, responses["greedy"], responses["sampled"], test.references, rows)
            ]  # fmt: skip
            measures |= {f"{name}_{stage}": value for name, value in self.measure(responses).items()}
        run.save_samples(samples)
        sizes = {"training_prompts": len(self.corpus.train.texts), "known_references": len(self.known), "test_prompts": len(test.texts)}
        sizes |= {"cut_prompts": self.cut} if self.cut else {}
        summary = self.finish(run, **measures, **sizes)
        print_answers(test, before["greedy"], after["greedy"], measures, summary, run.folder)
        return summary


def warn_of_equal_prompts(splits, name, longest):
    """Says how many prompts of all splits the policy cannot tell apart because they are cut; each keeps its own references.

    Args:
        splits: `Prompts` of NumPy arrays.
        name: of the data.
        longest: tokens of the longest prompt.
    """
    seen = collections.Counter(ids[real > 0].tobytes() for prompts in splits for ids, real in zip(prompts.tokens, prompts.mask))
    equal, length = sum(count for count in seen.values() if count > 1), next(iter(splits)).tokens.shape[1]
    if equal:
        warnings.warn(
            f"{equal} prompts of {name} (of {sum(seen.values())} in all) equal another one once they are cut to {length} tokens, so nothing tells "
            f"what their answer is. Use --prompt-length {longest} to read them whole.",
            DataWarning,
            stacklevel=3,
        )


class OwnReferences:
    """A task that is given copies of the references: somebody else's code may sort, change or empty the lists that it gets."""

    def __init__(self, task):
        self.task, self.name, self.load = task, task.name, task.load

    def reward(self, response, references):
        """See `train`."""
        return self.task.reward(response, list(references))

    def measures(self, responses, references):
        """See `train`."""
        return self.task.measures(list(responses), [list(several) for several in references])


def usual_length(token_lists):
    """Tokens of the longest list; but of outliers no more than twice what 95 in 100 lists need."""
    lengths = [len(ids) for ids in token_lists]
    return int(min(max(lengths), 2 * np.percentile(lengths, 95)))
