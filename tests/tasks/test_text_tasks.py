"""The tasks classification, question-answering and translation, and control codes: whole trainings, as small as they get."""

import contextlib
import io
import json
import types
import warnings
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from helpers import random_table
from ppo_keras.config import LoggingConfig
from ppo_keras.datasets.loader import load_pairs
from ppo_keras.errors import DataWarning
from ppo_keras.language.evaluation import in_batches
from ppo_keras.language.generation import Responses, map_prompts, pad_prompts
from ppo_keras.language.supervised import pad_texts
from ppo_keras.runs.folder import Run
from ppo_keras.runs.models import load_policy
from ppo_keras.tasks import answering, classification, generation
from ppo_keras.tasks.config import AnsweringConfig, ClassificationConfig, QuestionAnsweringConfig
from ppo_keras.tasks.question_answering import QuestionAnswering
from ppo_keras.tasks.text import TextJob
from runs_of_texts import NEWS, PHRASES, QUESTIONS, REVIEWS, TINY, run


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with the data, in which commands run."""
    monkeypatch.chdir(tmp_path)
    for name, content in (("questions", QUESTIONS), ("phrases", PHRASES), ("reviews", REVIEWS), ("news", NEWS)):
        (tmp_path / f"{name}.tsv").write_text(content, encoding="utf-8")
    return tmp_path


def trained(task, *options):
    """A finished run of a task: its folder, summary, samples and what it printed."""
    done = run("train", task, *TINY, *options)
    assert done.code == 0, done.err
    folder = Run("runs/" + (options[options.index("--run") + 1] if "--run" in options else task))
    samples = [json.loads(line) for line in (folder.folder / "samples.jsonl").read_text(encoding="utf-8").splitlines()]
    return types.SimpleNamespace(run=folder, summary=folder.load_json("summary.json"), samples=samples, out=done.out, err=done.err)


def refused_line(done):
    """The one line of a command that could not be carried out."""
    assert done.code == 2 and "Traceback" not in done.err
    lines = [line for line in done.err.splitlines() if "error" in line]
    assert len(lines) == 1, done.err
    return lines[0]


def refused(*arguments):
    """The one line of a command that cannot be carried out; nothing is written."""
    line = refused_line(run(*arguments))
    assert not Run("runs/x").folder.parent.exists()
    return line


def test_short_answers_can_be_made_to_pay(place):
    """Catches: an option that reaches no learner, a usual length of prompts or of answers without their end token."""
    config = QuestionAnsweringConfig(data="questions.tsv", supervised_share=1.0, short_penalty=0.5, vocabulary_size=400)
    job = answering.AnsweringJob(config, QuestionAnswering(config))
    job.policy = job.new_policy()
    learner = job.make_learner()
    lengths = [len(job.tokenizer.encode(reference)) + 1 for several in job.corpus.train.references for reference in several]
    assert learner.short_penalty == 0.5 and learner.usual_length == pytest.approx(np.mean(lengths))


@pytest.mark.parametrize("share, known", [(0.25, 40), (1.0, 160)])
def test_prompts_whose_answers_were_shown_are_not_practised(place, share, known):
    """Catches: PPO on prompts whose answers supervised training has seen (it would be paid for what it knows by heart), or on those held out."""
    config = QuestionAnsweringConfig(data="questions.tsv", supervised_share=share, vocabulary_size=400)
    job, seen = answering.AnsweringJob(config, QuestionAnswering(config)), []
    job.practise = lambda run, interrupt, prompts, *rest: seen.extend(prompts)
    job.before, job.evaluate, job.report = None, lambda: None, lambda *_: None
    job.improve(None, None)
    decode = lambda prompts: set(job.tokenizer.decode_batch(*prompts[:2]))
    practised, texts = decode(seen), lambda token_lists: decode(job.pad(token_lists))
    shown, every = texts([prompt for prompt, _ in job.known]), texts(map(job.tokenizer.encode_question, job.corpus.train.texts))
    assert (len(shown), len(every)) == (known, 160) and shown <= every
    assert practised == (every - shown if known < 160 else every) and len(practised) == len(seen[0])


def test_translations_are_scored_by_sacrebleu(place):
    """Catches: references of other sentences, a scale of 0 to 1 for one measure and 0 to 100 for another."""
    sacrebleu = pytest.importorskip("sacrebleu")
    done = trained("translation", "--data", "phrases.tsv", "--reward", "bleu")
    for stage in ("before", "after"):
        samples = [s for s in done.samples if s["stage"] == stage]
        for kind, key in (("response", ""), ("sampled", "_sampled")):
            texts, references = [s[kind] for s in samples], [[s["references"][0] for s in samples]]
            assert done.summary[f"chrf{key}_{stage}"] == pytest.approx(sacrebleu.corpus_chrf(texts, references).score)
            assert done.summary[f"bleu{key}_{stage}"] == pytest.approx(sacrebleu.corpus_bleu(texts, references).score)


def test_the_classifier_that_measured_best_is_kept(place, monkeypatch):
    """Catches: the last weights of PPO reported and saved, where those of an earlier iteration cost less on the validation split."""
    config = ClassificationConfig(data="reviews.tsv", vocabulary_size=300, jit=False, logging=LoggingConfig(log_every=0))
    job = classification.ClassificationJob(config)
    job.policy = job.baseline = job.new_policy(labels=len(job.names))
    job.learner = types.SimpleNamespace(policy=job.policy)

    def two_iterations(learner, *args, further, finish, **kwargs):
        best = further["best"]
        best.set_model(types.SimpleNamespace(iteration=tf.Variable(config.validate_every)))
        best.set_params({"steps": 2})
        best.measure = iter([0.0, 2.0, 1.0]).__next__
        best.on_train_begin()
        for batch in range(2):
            learner.policy.set_weights([np.full(w.shape, batch + 1.0) for w in learner.policy.get_weights()])
            best.on_train_batch_end(batch)
        finish()

    monkeypatch.setattr(classification, "fit_and_save", two_iterations)
    job.report = lambda run: [float(np.mean(w)) for w in job.policy.get_weights()]
    assert set(job.improve(None, None)) == {1.0}


def test_costs_of_labels_whose_order_is_a_guess_are_told(place):
    """Catches: a table of costs read by an order that only the alphabet tells, without a word; a word where there is no table, or the order was given."""
    (place / "mail.tsv").write_text("text\tlabel\n" + "".join(f"mail {i}\t{('ham', 'spam')[i % 2]}\n" for i in range(100)))
    config = ClassificationConfig(data="mail.tsv", costs="0 1; 5 0", vocabulary_size=300)
    with pytest.warns(DataWarning, match="^nothing says which label of mail.tsv is the positive one: 'spam' is taken.*--positive-label 'ham'.$"):
        classification.ClassificationJob(config)
    with warnings.catch_warnings():
        warnings.simplefilter("error", DataWarning)
        classification.ClassificationJob(replace(config, costs=None))
        assert classification.ClassificationJob(replace(config, positive_label="ham")).names == ("spam", "ham")


def test_texts_of_several_labels_that_are_equal_once_cut_are_told(place):
    """Catches: texts that nothing tells apart, trained on without a word; a word where they are read whole; a length that is too small as well."""
    config = ClassificationConfig(data="news.tsv", text_length=2, vocabulary_size=400)
    with pytest.warns(DataWarning, match=r"^120 texts of news.tsv \(of 120 in all\) equal another one with another label once they are cut to 2 ") as said:
        job = classification.ClassificationJob(config)
    longest = max(len(job.tokenizer.encode(line.split("\t")[0], begin=True)) for line in NEWS.splitlines()[1:])
    assert len(said) == 1 and str(said[0].message).endswith(f" tokens. Use --text-length {longest} to read them whole.")
    usual = [
        ClassificationConfig(),
        ClassificationConfig(language="zh"),
        *[replace(config, data=f"{name}.tsv", text_length=None) for name in ("news", "reviews")],
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error", DataWarning)
        for one in (replace(config, text_length=longest), *usual):
            classification.ClassificationJob(one)


def test_which_texts_are_equal_once_cut():
    """Catches: texts counted that have one label, or that are equal whole; those of two splits left out; the length that others need asked for."""
    train = [[1, 5, 6], [1, 5, 7, 8], [1, 5, 7], [1, 4, 4], [1, 9, 1], [1, 9, 2], [1, 6], [1, 6], [1, 7, 7, 7, 7, 7]], np.array([0, 1, 1, 0, 2, 2, 0, 1, 0])
    test = [[1, 4, 5], [1, 2, 3]], np.array([1, 0])
    with pytest.warns(DataWarning, match=r"^5 texts of a.csv \(of 11 in all\) .* cut to 2 tokens. Use --text-length 4 to read them whole.$"):
        classification.warn_of_equal_texts([train, test], 2, "a.csv")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        classification.warn_of_equal_texts([train, test], 3, "a.csv")


@pytest.mark.full  # so are those of the labels in test_resume
def test_several_seeds_are_runs_of_their_own(place):
    """Catches: one seed trained twice, a seed that differs from what it is alone, a spread with N instead of N - 1, a folder that `generate` takes for a run."""
    together = run("train", "classification", *TINY, "--data", "reviews.tsv", "--seed", "3", "--seeds", "2", "--run", "both")
    assert together.code == 0, together.err
    alone = trained("classification", "--data", "reviews.tsv", "--seed", "4", "--run", "alone")
    summary, parts = Run("runs/both").load_json("summary.json"), [Run(f"runs/both/seed-{seed}") for seed in (3, 4)]
    seeds = [part.load_json("summary.json") for part in parts]
    timeless = lambda summary: {name: value for name, value in summary.items() if name != "seconds"}
    assert timeless(seeds[1]) == timeless(alone.summary) and [one["seed"] for one in seeds] == [3, 4]
    weights = [load_policy(part, "after").get_weights() for part in (*parts, alone.run)]
    assert all(map(np.array_equal, weights[1], weights[2])) and not all(map(np.array_equal, weights[0], weights[1]))
    low, high = sorted(one["cost_ppo"] for one in seeds)
    found = [summary[name] for name in ("cost_ppo", "cost_ppo_std", "cost_ppo_min", "cost_ppo_max")]
    assert found == pytest.approx([(low + high) / 2, (high - low) / 2**0.5, low, high]) and summary["seeds"] == seeds
    assert summary["test_texts"] == alone.summary["test_texts"] and "2 seeds" in together.out and "cost ppo" in together.out
    assert "runs/both/seed-3" in refused_line(run("generate", "both", "--prompt", "a good film"))
    assert run("generate", "both/seed-4", "--prompt", "a good film").code == 0


@pytest.mark.parametrize("job", [answering.AnsweringJob, generation.GenerationJob])
def test_every_end_token_of_the_tokenizer_reaches_the_learner(job):
    """Catches: a task that trains a checkpoint, and knows only the first of its end tokens."""
    config = types.SimpleNamespace(ppo=None, kl=None, missing_end_penalty=0.0, short_penalty=0.0, responses_per_prompt=1, seed=0)
    facts = dict(policy=random_table(), reward=len, own_reward=len, response_length=4, usual_length=4.0, known=[("a", "b")], reference=None, judge=None)
    tokenizer = types.SimpleNamespace(end_id=3, end_ids=(3, 5), pad_id=0, decode_pairs=None)
    learner = job.make_learner(types.SimpleNamespace(config=config, tokenizer=tokenizer, **facts))
    assert learner.end_id == (3, 5)


def test_the_reward_of_a_prompt_is_for_its_own_references(place):
    """Catches: rewards by the references of another prompt in the batch, rewards that nobody asked for."""
    seen = []

    class Echo:
        name = "echo"

        def load(self, minimum):
            return load_pairs("questions.tsv", minimum=minimum)

        def reward(self, response, references):
            seen.append(references)
            return float(len(response))

        def measures(self, responses, references):
            return {"length": sum(map(len, responses)) / len(responses)}

    tiny = QuestionAnsweringConfig(data="questions.tsv")
    config = AnsweringConfig(
        run="echo", jit=False, iterations=2, batch_size=16, vocabulary_size=300, network=replace(tiny.network, layers=1, width=16, heads=2),
        supervised=replace(tiny.supervised, supervised_epochs=1), ppo=replace(tiny.ppo, epochs=1, minibatches=1),
        logging=LoggingConfig(log_every=0),
    )  # fmt: skip
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        summary = answering.train(config, Echo())
    corpus = load_pairs("questions.tsv")
    assert summary["length_sampled_after"] >= 0
    trained_on, tested_on = seen[1:33], seen[33:]
    assert {tuple(r) for r in trained_on} <= {tuple(r) for r in corpus.train.references}
    assert len({tuple(r) for r in trained_on[:16]}) == 4 and all(r == trained_on[i - i % 4] for i, r in enumerate(trained_on))  # 4 a prompt
    assert [tuple(r) for r in tested_on] == [tuple(r) for r in corpus.test.references] * 2


def test_prompts_that_are_equal_once_cut_keep_their_own_answers(place, monkeypatch):
    """Catches: answers looked up by the text of a prompt, so that prompts equal once cut share one; a slice, a batch or a comparison that loses the rows."""
    rows = "".join(f"{i} is the number that I mean. What comes next?\t{i + 1}\n" for i in range(100))
    (place / "long.tsv").write_text("question\tanswer\n" + rows)
    config = QuestionAnsweringConfig(data="long.tsv", prompt_length=6, supervised_share=1.0, vocabulary_size=300, batch_size=16)
    with pytest.warns(
        DataWarning, match=r"^100 prompts of long.tsv \(of 100 in all\) equal another one once they are cut to 6 tokens, .* Use --prompt-length \d+ "
    ):
        job = answering.AnsweringJob(config, QuestionAnswering(config))
    assert len({row.tobytes() for row in job.prompts["train"].tokens}) == 1
    length = max(len(job.tokenizer.encode(f"{i}", end=True)) for i in range(101))

    def answered(prompts, split, first=0):
        """Rewards of the right answers of a split, from a row on."""
        references = getattr(job.corpus, split).references[first : first + len(prompts.tokens)]
        tokens, mask = pad_texts([job.tokenizer.encode(answer, end=True) for (answer,) in references], length, job.tokenizer.pad_id)
        return reward(prompts, Responses(tokens, mask, None, None)).numpy()

    for reward in (job.reward, job.score_as(job)):
        for split in ("train", "validation", "test"):
            assert answered(job.prompts[split], split).tolist() == [1.0] * len(job.prompts[split].tokens)
        assert answered(job.test_prompts(3), "test").tolist() == [1.0] * 3
        some = map_prompts(lambda part: part[5:9], job.prompts["train"])
        assert answered(some, "train", first=5).tolist() == [1.0] * 4 and answered(some, "train", first=6).max() == 0.0
    batches = []
    in_batches(lambda batch, draw: batches.append(batch) or [batch.rows], job.prompts["test"], 4, seed=0)
    assert np.concatenate([batch.rows for batch in batches])[:10].tolist() == list(range(90, 100))


def test_prompts_of_full_length_are_told_nothing(place, recwarn):
    """Catches: a warning about prompts that differ."""
    config = QuestionAnsweringConfig(data="questions.tsv", supervised_share=1.0, vocabulary_size=400)
    answering.AnsweringJob(config, QuestionAnswering(config))
    assert not [one for one in recwarn if one.category is DataWarning]


def test_prompts_are_cut_only_when_asked_to(place):
    """Catches: a prompt far longer than the others that is cut without a word, a test prompt longer than those of training, cut ones not counted."""
    rows = "".join(f"What comes after {i}?{' Please tell me.' * 9 * (i == 7)}\t{i + 1}\n" for i in range(100))
    (place / "one_long.tsv").write_text("question\tanswer\n" + rows)
    config = QuestionAnsweringConfig(data="one_long.tsv", supervised_share=1.0, vocabulary_size=300, batch_size=16)
    with pytest.warns(DataWarning, match="the longest prompt of one_long.tsv has 107 tokens, and 95 in 100 have 9 or less") as said:
        whole = answering.AnsweringJob(config, QuestionAnswering(config))
    lengths = np.concatenate([prompts.mask.sum(axis=1) for prompts in whole.prompts.values()])
    assert len(said) == 1 and whole.cut == 0 and whole.prompt_length == lengths.max() > 2 * np.median(lengths)
    for length in (int(lengths.max()), int(np.median(lengths)) + 2):
        config = replace(config, prompt_length=length)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            job = answering.AnsweringJob(config, QuestionAnswering(config))
        said = (
            f"1 prompts of one_long.tsv (of 100 in all) are longer than --prompt-length {length}, up to {int(lengths.max())} tokens; of these the end is read."
        )
        assert (job.cut, [str(one.message) for one in told]) == ((0, []) if length == lengths.max() else (1, [said]))
        assert job.prompt_length == length == max(int(prompts.mask.sum(axis=1).max()) for prompts in job.prompts.values())


@pytest.mark.parametrize("longest, given, widths, told", [(41, None, 1, True), (40, None, 1, False), (41, 60, 1, False), (41, None, 2, False)])
def test_a_prompt_that_makes_all_batches_wide_is_told(longest, given, widths, told):
    """Catches: one prompt of thousands of tokens that slows every batch without a word; a word where widths were asked for."""
    config = types.SimpleNamespace(prompt_length=given, prompt_widths=widths)
    job = types.SimpleNamespace(config=config, corpus=types.SimpleNamespace(name="my.tsv"), asking=types.SimpleNamespace(frames=False))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        assert answering.AnsweringJob.length_of_prompts(job, [[1] * 10] * 99 + [[1] * longest]) == (given or longest)
    expected = "the longest prompt of my.tsv has 41 tokens, and 95 in 100 have 10 or less: every batch is as wide as the longest. "
    assert [str(one.message).startswith(expected) for one in said] == [True] * told


def test_batches_of_like_length_where_they_are_asked_for(capsys):
    """Catches: a setting without effect, widths of fewer prompts than a batch, the prompts of today in another order where nothing was asked for."""
    prompts = pad_prompts([[row] * (1 + row % 5) for row in range(40)], 9, 0).numbered()
    for widths in (1, 2):
        job = types.SimpleNamespace(config=types.SimpleNamespace(prompt_widths=widths, seed=3), prompt_length=9)
        some = list(TextJob.batches(job, prompts, 4).take(12).as_numpy_iterator())
        assert {batch.tokens.shape for batch in some} == ({(4, 9)} if widths == 1 else {(4, 2), (4, 5)})
        assert all((batch.tokens[:, -1] == batch.rows).all() for batch in some)
        said = capsys.readouterr().out
        expected = "Batches of prompts of like length, padded to 2, 5 tokens: 21% of them is padding (67% at one width).\n"
        assert said == ("" if widths == 1 else expected)


class Spoiling:
    """A task that empties every list that it is given."""

    name, load = "spoiling", None

    def reward(self, response, references):
        return float(references.pop() == response)

    def measures(self, responses, references):
        return {"right": float(responses.pop() == references.pop().pop())}


def test_a_task_cannot_spoil_the_references():
    """Catches: lists of references, or of responses, that somebody else's code sorts or empties, and that the next call is given."""
    task, references, responses = answering.OwnReferences(Spoiling()), [["a"], ["b"]], ["a", "b"]
    assert [task.reward("b", references[1]) for _ in range(2)] == [1.0, 1.0]
    assert [task.measures(responses, references) for _ in range(2)] == [{"right": 1.0}] * 2
    assert references == [["a"], ["b"]] and responses == ["a", "b"]


@pytest.mark.parametrize(
    "arguments, words",
    [
        ("classification --data reviews.tsv --costs 0,1,2;5,0,1", "the table of costs is 2 x 3, but there are 2 labels (negative, positive)"),
        ("classification --data reviews.tsv --costs 0,1;5,nan", "the table of costs holds nan"),
        ("classification --data reviews.tsv --seed 2147483647 --seeds 2", "seeds=2 from seed=2147483647 on go beyond 2^31"),
        ("classification --data reviews.tsv --costs 0,x", "could not convert string to float: 'x'"),
        ("classification --data phrases.tsv --text-column source", "has no labels. Name their column with --label-column"),
        ("classification --data news.tsv --test-data reviews.tsv", "has the label 'yes'"),
        ("question-answering --data empty.tsv", "'answer' is empty"),
        ("question-answering --data questions.tsv --supervised-share 0.01", "Use a larger share, or a --supervised-batch-size of at most 2"),
        ("question-answering --data questions.tsv --responses-per-prompt 3", "responses_per_prompt=3 does not divide batch_size=16"),
        ("question-answering --data questions.tsv --answer-column answer", "--question-column and --answer-column are given together"),
        ("question-answering --questions poems", "Use stories, arithmetic or all"),
        ("question-answering --partial-credit 1", "outside [0, 1)"),
        ("translation --short-penalty -1", "short_penalty=-1.0 is negative. Use 0 to switch it off"),
        ("question-answering --data questions.tsv --batch-size 2000 --minibatches 2", "500 are needed"),
        ("question-answering --test-data questions.tsv", "go with --data"),
        ("translation --data questions.tsv", "has no column 'source'. It has: question, answer. Name the right one"),
        ("translation --data nothing.tsv", "no file nothing.tsv"),
        ("translation --reward rouge", "Use chrf or bleu"),
        ("generation --data phrases.tsv --text-column source --control-codes", "has no labels to learn a reward from. Name their column with --label-column"),
        ("generation --data reviews.tsv --control-codes --reward a:b", "leave out --reward"),
        (
            "generation --data reviews.tsv --validation-data one.tsv",
            "one half of the validation split of reviews.tsv holds no text with the label 'negative'. The reward model learns",
        ),
        ("generation --data reviews.tsv --validation-data one.tsv", "Add some to one.tsv, or leave out --validation-data."),
        ("generation --data reviews.tsv --validation-data fine.tsv", "the validation split of reviews.tsv holds no text with the label 'negative'"),
        (
            "generation --data rare.tsv --control-codes",
            "split of rare.tsv holds no text with the label 'rare'. The reward model learns from one half and the judge",
        ),
        ("generation --data pairs.tsv --validation-data pair.tsv --chosen-column a --rejected-column b", "so the split needs two pairs or more"),
        ("classification --data news.tsv --test-data art.tsv", "the test split of art.tsv holds no text with the label 'sport', 'trade'"),
        ("classification --data news.tsv --validation-data art.tsv", "the validation split of art.tsv holds no text with the label 'sport', 'trade'"),
        ("generation --data reviews.tsv --positive-label god", "--positive-label 'god' is no label of reviews.tsv. It has: negative, positive, no, yes."),
        ("generation --data reviews.tsv --control-codes --positive-label yes", "With --control-codes each prompt asks for its own, and pairs have none: leave"),
        ("generation --data pairs.tsv --chosen-column a --rejected-column b --positive-label yes", "pairs have none: leave it out"),
        ("generation --data phrases.tsv --text-column source --reward a:b --positive-label yes", "phrases.tsv is read without labels, so none is 'yes'"),
        ("classification --data news.tsv --positive-label art", "news.tsv has 3 labels (art, sport, trade), but only of two can one be the positive"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(place, arguments, words):
    """Catches: a traceback, a half-written run, a message that names no remedy."""
    (place / "empty.tsv").write_text("question\tanswer\nOne?\t \n")
    (place / "a.py").write_text("def b(prompt, response):\n    return 0.0\n")
    (place / "one.tsv").write_text("text\tlabel\nA film.\tyes\n")
    (place / "fine.tsv").write_text("text\tlabel\nA film.\tyes\nThe film.\tyes\n")
    (place / "art.tsv").write_text("text\tlabel\nArt.\tart\nMore art.\tart\n")
    (place / "rare.tsv").write_text("text\tlabel\n" + "".join(f"text {i}\t{'rare' if i < 3 else 'often'}\n" for i in range(99)))
    (place / "pairs.tsv").write_text("a\tb\n" + "".join(f"good {i}\tbad {i}\n" for i in range(60)))
    (place / "pair.tsv").write_text("a\tb\nbetter\tworse\n")
    task, *options = arguments.split()
    assert words in refused("train", task, *TINY, *options, "--run", "x")


def test_a_missing_sacrebleu_names_the_extra(place, monkeypatch):
    """Catches: a traceback, or a package that cannot be installed under the name that the message gives."""
    monkeypatch.setitem(__import__("sys").modules, "sacrebleu", None)
    assert "pip install 'ppo_keras[translation]'" in refused("train", "translation", "--run", "x")


def test_an_overlap_is_one_line_on_the_screen(place):
    """Catches: a warning with file name and source line, or none."""
    done = run("train", "classification", "--data", "reviews.tsv", "--test-data", "reviews.tsv", "--run", "x")
    assert "ppo-keras: warning: 100 texts of the train split of reviews.tsv are in a split held out as well" in done.err
    assert done.code == 2  # nothing is left to learn from
