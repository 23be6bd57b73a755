"""The commands `evaluate`, `compare` and `chat` on runs of every task, as small as they get."""

import io
import json
import re
import shutil
import types
import warnings

import numpy as np
import pytest
import tensorflow as tf

from ppo_keras.commands.compare import compare_answers, split_stage
from ppo_keras.commands.main import main
from ppo_keras.language.tokenizer import Tokenizer
from ppo_keras.runs.folder import Run
from ppo_keras.runs.models import load_policy, load_reward_model
from runs_of_texts import NEWS, QUESTIONS, TINY, run

TASKS = {
    "writer": ["generation", *TINY, "--data", "news.tsv", "--control-codes", "--evaluation-samples", "20", "--response-length", "5"],
    "answers": ["question-answering", *TINY, "--data", "questions.tsv", "--supervised-share", "0.25"],
    "labels": ["classification", *TINY, "--data", "news.tsv", "--costs", "0 1 2; 3 0 4; 5 6 0", "--seed", "3", "--model", "lstm"],
    "walker": ["gridworld", "--environments", "4", "--steps", "32", "--environment-steps", "256", "--evaluation-episodes", "6", "--width", "8", "--no-jit"],
}
SISTERS = {"answers-lstm": [*TASKS["answers"], "--model", "lstm"], "labels-transformer": [*TASKS["labels"], "--model", "transformer"]}  # of the full run


PRINTED = {}  # what the trainings said


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a trained run of each task, in which commands are run."""
    folder = tmp_path_factory.mktemp("place")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name, content in (("questions", QUESTIONS), ("news", NEWS)):
            (folder / f"{name}.tsv").write_text(content, encoding="utf-8")
        for name, arguments in TASKS.items():
            done = run("train", *arguments, "--log-every", "0", "--run", name)
            assert done.code == 0, done.err
            PRINTED[name] = done
        yield folder


@pytest.fixture
def copied(place):
    """A function: a copy of a run under another name, which is removed after the test."""
    made = []

    def copy(name, new="copy"):
        made.append(Run(shutil.copytree(place / "runs" / name, place / "runs" / new)))
        return made[-1]

    yield copy
    for one in made:
        shutil.rmtree(one.folder)


def summary_of(name):
    return Run(f"runs/{name}").load_json("summary.json")


def samples_of(name, stage):
    lines = (Run(f"runs/{name}").folder / "samples.jsonl").read_text(encoding="utf-8").splitlines()
    return [sample for sample in map(json.loads, lines) if sample["stage"] == stage]


def evaluated(name, *options):
    """{measure: estimate} that `evaluate` writes."""
    done = run("evaluate", name, *options)
    assert done.code == 0, done.err
    return {measure: interval["estimate"] for measure, interval in Run(f"runs/{name}").load_json("evaluation.json")["measures"].items()}


def compared(*arguments):
    done = run("compare", *arguments)
    assert done.code == 0, done.err
    return Run(f"runs/{arguments[0].split(':')[0]}").load_json("comparison.json"), done.out


# What training says


def said_of(name):
    """The summary of a run and its samples before and after."""
    if name in SISTERS:
        PRINTED[name] = run("train", *SISTERS[name], "--log-every", "0", "--run", name)
    return summary_of(name), samples_of(name, "before"), samples_of(name, "after")


@pytest.mark.parametrize("name", ["answers", pytest.param("answers-lstm", marks=pytest.mark.full)])
def test_questions_are_answered(place, name):
    """Catches: a measure of the training split, samples that are not those of the summary, a key that is missing."""
    summary, before, after = said_of(name)
    assert summary["training_prompts"] == 160 and summary["known_references"] == 40 and summary["test_prompts"] == len(after) == 20
    for stage, samples in (("before", before), ("after", after)):
        for kind, key in (("response", ""), ("sampled", "_sampled")):
            right = np.mean([s[kind].strip().lower() in s["references"] for s in samples])
            assert summary[f"exact_match{key}_{stage}"] == pytest.approx(right)
            assert 0 <= summary[f"f1{key}_{stage}"] <= 1
    known = {line.split("\t")[0] for line in QUESTIONS.splitlines()[1:]}
    assert {s["prompt"] for s in after} < known and all(s["prompt"] == b["prompt"] for s, b in zip(after, before))
    assert "exact match" in PRINTED[name].out and "PPO" in PRINTED[name].err
    said = run("generate", name, "--prompt", after[0]["prompt"], "--greedy")
    assert said.code == 0 and said.out.strip() == after[0]["response"]


@pytest.mark.parametrize("name", ["labels", pytest.param("labels-transformer", marks=pytest.mark.full)])
def test_labels_are_chosen(place, name):
    """Catches: a cost table that is transposed or not used, measures of another split, a prompt that is read as it was typed."""
    summary, *both = said_of(name)
    costs, names = [[0, 1, 2], [3, 0, 4], [5, 6, 0]], ["art", "sport", "trade"]
    assert summary["label_names"] == names and summary["test_texts"] == 12
    for samples, kind in zip(both, ("supervised", "ppo")):
        assert summary[f"accuracy_{kind}"] == pytest.approx(np.mean([s["label"] == s["response"] for s in samples]))
        paid = [costs[names.index(s["label"])][names.index(s["response"])] for s in samples]
        assert summary[f"cost_{kind}"] == pytest.approx(np.mean(paid)) == pytest.approx(-np.mean([s["score"] for s in samples]))
        assert all(s["prompt"].split()[2] == s["label"] for s in samples)
    assert summary["accuracy_majority"] == pytest.approx(1 / 3)
    assert summary["cost_one_label"] == pytest.approx((2 + 4) / 3)  # always "trade"
    said = run("generate", name, "--prompt", both[1][-1]["prompt"])
    assert said.out.split()[0] == both[1][-1]["response"] and all(label in said.out for label in names)
    exact, *typed = (run("generate", name, "--prompt", prompt).out for prompt in ("news of art", "news of art ", "\ufeff news\u200b of  art"))
    assert typed == [exact] * 2 and exact != ""
    done = run("generate", name, "--prompt", "x", "--top-k", "3", "--greedy")  # a classifier draws nothing
    assert done.code == 2 and "--top-k, --greedy" in done.err


def test_control_codes_ask_for_labels(place):
    """Catches: prompts that always ask for the label of their text, a code that the judge reads, codes split into pieces."""
    summary, _, after = said_of("writer")
    asked = [s["prompt"].split(":")[0] for s in after]
    assert set(asked) == {"art", "sport", "trade"} and 0 <= summary["matched_after"] <= 1
    assert any(code not in s["prompt"].split(":")[1] for code, s in zip(asked, after)) and "positive_after" not in summary
    said = run("generate", "writer", "--prompt", "sport: news")
    assert said.code == 0 and said.out.startswith("sport: news")


# evaluate


def test_a_writer_is_measured_as_after_its_training(place):
    """Catches: another reward, other prompts, another temperature or weights than those of training; a stage that is not read."""
    summary = summary_of("writer")
    for stage, kl in (("before", 0.0), ("after", summary["kl"])):
        found = evaluated("writer", "--stage", stage)
        assert found["reward"] == pytest.approx(summary[f"reward_{stage}"], rel=1e-5)
        assert found["kl"] == pytest.approx(kl, rel=1e-4, abs=1e-6)
    assert found["seconds"] == summary["seconds"] and 0 < found["entropy"] <= np.log(400)


def test_answers_are_measured_on_the_test_split(place):
    """Catches: rewards by the references of another split or prompt; sampled called greedy."""
    summary = summary_of("answers")
    found = evaluated("answers")
    assert found["reward_greedy"] == pytest.approx(summary["exact_match_after"]) and Run("runs/answers").load_json("evaluation.json")["count"] == 20


def test_labels_against_direct_evaluation(place, copied):
    """Catches: probabilities where logits are meant, a KL the other way round or to uniform, costs of the wrong sign."""
    job_run = copied("labels")
    policy, random = load_policy(job_run, "after"), np.random.default_rng(0)
    policy.set_weights([weight + random.normal(0, 0.8, weight.shape) for weight in policy.get_weights()])  # far from the one before
    policy.save(job_run.checkpoint("after"))
    tokenizer, settings = Tokenizer.load(job_run.path("tokenizer.model")), job_run.load_json("config.json")
    samples, names = samples_of("labels", "after"), settings["label_names"]
    texts = np.full([len(samples), settings["text_length"]], -1, np.int32)
    for row, sample in zip(texts, samples):
        ids = tokenizer.encode(sample["prompt"], begin=True)[: len(row)]
        row[: len(ids)] = ids
    logs, values = {}, {}
    for stage in ("before", "after"):
        logits, value = load_policy(job_run, stage)(tf.constant(texts)[:, tf.newaxis], training=False)
        logits, values[stage] = logits.numpy()[:, 0].astype(np.float64), value.numpy()[:, 0]
        logs[stage] = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    found, shares = evaluated("copy"), np.exp(logs["after"])
    assert found["kl"] == pytest.approx(np.mean(np.sum(shares * (logs["after"] - logs["before"]), axis=1)), rel=1e-4) and found["kl"] > 0.05
    assert found["entropy"] == pytest.approx(-np.mean(np.sum(shares * logs["after"], axis=1)), rel=1e-5)
    assert found["reward"] - found["advantage_mean"] == pytest.approx(values["after"].mean(), rel=1e-4)  # A = r - V
    rewards = -np.array([[0, 1, 2], [3, 0, 4], [5, 6, 0]])[[names.index(sample["label"]) for sample in samples]]
    assert found["reward_greedy"] == pytest.approx(np.mean(rewards[np.arange(len(samples)), shares.argmax(axis=1)]))
    assert abs(found["reward"] - np.mean(np.sum(shares * rewards, axis=1))) < 4 * np.std(rewards) / len(samples) ** 0.5
    assert evaluated("labels")["reward_greedy"] == pytest.approx(-summary_of("labels")["cost_ppo"])


def contents(place):
    """Every file of every run, but for those that the commands are to write."""
    return {p: p.read_bytes() for p in (place / "runs").rglob("*") if p.is_file() and not p.name.startswith(("evaluation", "comparison"))}


def test_several_runs_stand_side_by_side(place):
    """Catches: a run that is left out, a table or file with the numbers of another run, a picture that is none; events, weights or
    left-overs that a look at a run writes."""
    before, names = contents(place), ["labels", "walker"]
    done = run("evaluate", *names, "--samples", "5")
    assert done.code == 0 and contents(place) == before, done.err
    assert all(f"runs/{name}" in done.out for name in names)
    results = {name: Run(f"runs/{name}").load_json("evaluation.json") for name in names}
    assert [result["units"] for result in results.values()] == ["texts", "episodes"]
    pictures = {(place / "runs" / name / "evaluation.png").read_bytes() for name in names}
    assert len(pictures) == 1 and pictures.pop().startswith(b"\x89PNG")
    for name, result in results.items():
        assert result["run"] == f"runs/{name}" and result["task"] == TASKS[name][0] and result["count"] == 5 and result["stage"] == "after"
        assert "return" in result["measures"] if name == "walker" else "reward" in result["measures"]
        for interval in result["measures"].values():
            assert interval["low"] is None or interval["low"] <= interval["estimate"] <= interval["high"]


# compare


def test_the_same_prompts_of_two_stages(place):
    """Catches: stages in the wrong order, prompts that differ, scores of the other side, draws of another seed than in training."""
    before = contents(place)
    result, out = compared("writer:before", "writer")
    assert contents(place) == before
    for stage, column in (("before", "first"), ("after", "second")):
        samples = samples_of("writer", stage)
        assert [row["prompt"] for row in result["rows"]] == [sample["prompt"] for sample in samples]
        assert [row[column] for row in result["rows"]] == [sample["response"] for sample in samples]
        assert [row[f"{column}_score"] for row in result["rows"]] == pytest.approx([sample["score"] for sample in samples], rel=1e-5)
    won = [1.0 if row["second_score"] > row["first_score"] else 0.5 if row["second_score"] == row["first_score"] else 0.0 for row in result["rows"]]
    assert result["second_wins"]["estimate"] == pytest.approx(np.mean(won)) and f"{np.mean(won):.1%}" in out
    assert len(result["rows"]) == 20 and "runs/writer:before" in " ".join(out.split())


@pytest.mark.parametrize("name", ["labels", "walker"])
def test_a_run_against_itself_is_a_draw(place, name):
    """Catches: a task that cannot be compared, draws that differ between the two, ties that count for one of them."""
    result, _ = compared(name, name, "--samples", "4")
    assert result["second_wins"] == {"estimate": 0.5, "low": 0.5, "high": 0.5} and result["ties"] == 1.0 and len(result["rows"]) == 4
    assert result["difference"]["estimate"] == 0 and all(row["first"] == row["second"] for row in result["rows"])


def test_greedy_answers_are_those_of_training(place):
    """Catches: `--greedy` that is dropped, references of the wrong prompts, rows printed that nobody asked for."""
    result, out = compared("answers:before", "answers:after", "--greedy", "--show", "0")
    for stage, column in (("before", "first"), ("after", "second")):
        samples = samples_of("answers", stage)
        assert [(row["prompt"], row[column].strip()) for row in result["rows"]] == [(s["prompt"], s["response"]) for s in samples]
        assert [row[f"{column}_score"] for row in result["rows"]] == [s["score"] for s in samples]
    assert "What comes" not in out
    result, _ = compared("labels:before", "labels", "--greedy")
    assert [row["second_score"] for row in result["rows"]] == [s["score"] for s in samples_of("labels", "after")]


def test_what_the_numbers_measure_is_said(place, copied):
    """Catches: a reward or a score of which neither the file nor the screen says what it is, or says it of another run."""
    other, said = copied("writer"), Run("runs/writer").load_json("config.json")["reward_is"]
    other.save_json("config.json", other.load_json("config.json") | {"reward_is": "that of the copy"})
    assert said == "the probability of the label that the prompt asks for: art, sport, trade"
    done = run("evaluate", "writer", "copy", "--samples", "4")
    assert done.code == 0, done.err
    for name, words in (("writer", said), ("copy", "that of the copy")):
        assert Run(f"runs/{name}").load_json("evaluation.json")["reward_is"] == words
        assert f"The reward of runs/{name} is {words}." in " ".join(done.out.split())
    result, out = compared("writer", "copy", "--samples", "4")
    assert result["reward_is"] == Run("runs/writer").load_json("comparison.json")["reward_is"] == said
    assert f"The score is {said}." in " ".join(out.split())


def test_ties_count_half():
    """Catches: a tie that is a loss or a win, a share for the first, an interval of other units than prompts."""
    result = compare_answers((["a", "b", "c", "d"], ["w", "x", "y", "z"], [1.0, 2.0, 3.0, 4.0]), (["a", "b", "c", "d"], list("stuv"), [1.0, 3.0, 5.0, 0.0]))
    assert result["second_wins"]["estimate"] == (0.5 + 1 + 1 + 0) / 4 and result["ties"] == 0.25 and result["difference"]["estimate"] == -0.25
    assert result["second_wins"]["low"] < 0.5 < result["second_wins"]["high"] and (result["first_mean"]["estimate"], result["second_mean"]["estimate"]) == (
        2.5,
        2.25,
    )
    assert result["rows"][1] == {"prompt": "b", "first": "x", "first_score": 2.0, "second": "t", "second_score": 3.0}


@pytest.mark.parametrize(
    "text, expected",
    [("a", ("a", "after")), ("a:best", ("a", "best")), ("runs/a:before", ("runs/a", "before")), ("a:b", ("a:b", "after")), ("best", ("best", "after"))],
)
def test_a_stage_is_split_off(text, expected):
    """Catches: a run called "best", or with a colon in its name, that cannot be named."""
    assert split_stage(text) == expected


def test_the_first_reward_scores_both(place, copied):
    """Catches: each run scored by its own reward, which compares two scales."""
    other = copied("labels")
    settings = other.load_json("config.json")
    other.save_json("config.json", settings | {"costs": "0 9 9; 9 0 9; 9 9 0"})
    result, _ = compared("labels", "copy", "--greedy")
    assert result["second_wins"]["estimate"] == 0.5 and result["ties"] == 1.0
    result, _ = compared("copy", "labels", "--greedy")
    assert {row["first_score"] for row in result["rows"]} | {row["second_score"] for row in result["rows"]} <= {0.0, -9.0}


def test_runs_are_opened_from_another_folder(place, tmp_path, monkeypatch):
    """Catches: `evaluate` and `compare` that look for the data only where they are started; agents begun elsewhere called another world."""
    monkeypatch.chdir(tmp_path)
    for name in ("labels", "walker"):
        done = run("evaluate", name, "--runs-folder", str(place / "runs"), "--episodes", "4")
        assert done.code == 0, done.err
    elsewhere = Run(shutil.copytree(place / "runs" / "walker", tmp_path / "runs" / "walker"))
    elsewhere.save_json("config.json", elsewhere.load_json("config.json") | {"working_folder": str(tmp_path)})
    done = run("compare", "walker", str(place / "runs" / "walker"), "--episodes", "4")
    assert done.code == 0, done.err


# chat


def say(monkeypatch, lines, *arguments):
    """What `chat` prints to these lines of input."""
    monkeypatch.setattr("sys.stdin", io.StringIO(lines))
    return run("chat", *arguments)


def test_a_response_with_its_tokens(place, monkeypatch):
    """Catches: another continuation than `generate` gives, numbers of other tokens, a score of the response without its prompt."""
    done = say(monkeypatch, "sport: news\n\nart: news of art 3\n", "writer", "--greedy")
    assert done.code == 0 and done.out.count("score") == 2, done.err
    continued = run("generate", "writer", "--prompt", "sport: news", "--greedy").out.strip()
    first = done.out.split("log-probability")[0].splitlines()[0]
    assert first.replace(" … ", " ").split() == continued.replace("news", "news ", 1).split()
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in done.out.splitlines() if line.startswith("│")]
    numbers = np.array([row[1:] for row in rows], float)
    totals = [float(x) for x in re.findall(r"log-probability (-?[\d.]+)", done.out)]
    kl = [float(x) for x in re.findall(r"KL from the reference (-?[\d.]+)", done.out)]
    assert numbers[:, 0].sum() == pytest.approx(sum(totals), abs=0.01) and numbers[:, 1].sum() == pytest.approx(sum(kl), abs=0.01)
    assert (numbers[:, 0] <= 0).all() and (numbers[:, 2] > 0).all()  # log-probabilities and entropies


def test_a_prompt_without_a_control_code_is_told_the_codes(place, monkeypatch):
    """Catches: a prompt that asks for no label, scored as if it asked for the first; a full-width colon that is not understood."""
    done = say(monkeypatch, "news of art\nArt ：news\nart: news\n", "writer", "--greedy")
    (line,) = done.err.splitlines()
    assert "ppo-keras: error: the prompt 'news of art' does not say which label" in line and "art:, sport:, trade:" in line and done.code == 0
    scores = re.findall(r"score ([\d.]+), the probability of the label that the prompt asks for: art, sport, trade", done.out)
    assert len(scores) == 2 and scores[0] == scores[1]
    refused = run("generate", "writer", "--prompt", "art: news", "--prompt", "news of art")
    assert refused.code == 2 and refused.out == "" and "the prompt 'news of art'" in refused.err and "art:, sport:, trade:" in refused.err
    typed, exact = (run("generate", "writer", "--greedy", "--prompt", prompt).out for prompt in ("ART：news ", "art: news"))
    assert typed == exact != ""


def test_the_score_is_the_reward_models(place, monkeypatch):
    """Catches: log-odds for a probability, a reward that reads the control code, another label than the one asked for."""
    (score,) = re.findall(r"score ([\d.]+)", say(monkeypatch, "trade: news\n", "writer", "--greedy").out)
    one = Run("runs/writer")
    tokenizer, model = Tokenizer.load(one.path("tokenizer.model")), load_reward_model(one, "reward", None)
    text = run("generate", "writer", "--prompt", "trade: news", "--greedy").out.strip("\n")
    ids = tokenizer.encode(text, begin=True)
    ids = [1 if i == tokenizer.id_of("trade:") else i for i in ids]  # 1: unknown
    candidates = []
    for ending in ([], [tokenizer.end_id]):
        tokens = tf.constant([ids + ending])
        logits = model((tokens, tf.ones(tokens.shape)), training=False).numpy()[0].astype(np.float64)
        candidates.append(np.exp(logits[2]) / np.exp(logits).sum())  # art, sport, trade
    assert min(abs(float(score) - candidate) for candidate in candidates) < 2e-3


def test_labels_and_answers_in_a_chat(place, monkeypatch):
    """Catches: probabilities of another stage, a score for an answer whose reference nobody knows."""
    done = say(monkeypatch, "news of art 5\nquit\nnever read\n", "labels")
    generated = run("generate", "labels", "--prompt", "news of art 5").out
    shares = {line.split("│")[1].strip(): line.split("│")[3].strip() for line in done.out.splitlines() if line.startswith("│")}
    assert all(f"{name} {share}" in generated for name, share in shares.items()) and len(shares) == 3
    assert done.out.splitlines()[0] == generated.split()[0]
    done = say(monkeypatch, "What comes after 3?\n", "answers", "--greedy")
    assert "score" not in done.out and "What comes after 3?" in done.out and done.code == 0


def test_a_chat_goes_on_and_ends_kindly(place, monkeypatch):
    """Catches: a long prompt, or Ctrl-C, that ends a chat with a traceback; samples that are the same every time; a temperature that is not read;
    a seed that TensorFlow would make another of, as int32 ends before it."""
    done = say(monkeypatch, "art: " + "news " * 60 + "\nart: news\nart: news\n", "writer", "--temperature", "5", "--seed", "8")
    totals = [float(total) for total in re.findall(r"log-probability (-?[\d.]+)", done.out)]
    assert done.code == 0 and "Shorten it" in done.err and len(totals) == len(set(totals)) == 2
    with monkeypatch.context() as patch:
        seeds = []
        patch.setattr("ppo_keras.commands.chat.respond", lambda job, prompt, seed, greedy, turns=(): seeds.append(seed))
        say(patch, "art: news\n" * 3, "writer", "--seed", str(2**31 - 2))
        assert seeds == [2**31 - 2, 2**31 - 1, 0]
    cold = say(monkeypatch, "art: news\n", "writer", "--temperature", "0.001", "--stage", "before").out
    assert float(re.findall(r"log-probability (-?[\d.]+)", cold)[0]) == pytest.approx(0.0, abs=0.1) and "reference 0.000" in cold

    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr("sys.stdin", types.SimpleNamespace(isatty=lambda: True, readline=interrupted))
    done = run("chat", "labels")
    assert done.code == 0 and done.out == "> \n" and done.err == ""


# Bad input


@pytest.mark.parametrize(
    "arguments, words",
    [
        ("evaluate walkr", "there is no run 'walkr'. Known runs: "),
        ("evaluate walker walkr", "there is no run 'walkr'"),
        ("evaluate walker --stage before", "has no stage before PPO. Use after or best"),
        ("evaluate walker --episodes 0", "--samples 0 is less than 1"),
        ("evaluate walker --seed -1", "--seed=-1 is outside"),
        ("compare writer answers", "task is generation in the first and question-answering in the second"),
        ("compare writer writer:last", "there is no run 'writer:last'"),
        ("compare writer writer --show -1", "--show -1 is negative"),
        ("chat walker", "an agent, which reads no text. Use ppo-keras evaluate"),
        ("chat writer --temperature 0", "--temperature 0.0 is not positive"),
        ("chat writer --seed -3", "--seed=-3 is outside"),
        ("chat nobody", "there is no run 'nobody'"),
    ],
)
def test_what_cannot_be_done_is_one_line(place, arguments, words):
    """Catches: a traceback, a message without a remedy, a file of a command that failed."""
    assert words in refused(place, *arguments.split())


def refused(place, *arguments):
    """The one line of a command that cannot be carried out; it writes nothing."""
    times = lambda: {path: path.stat().st_mtime_ns for path in place.rglob("*") if path.is_file()}
    before = times()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        done = run(*arguments)
    (line,) = done.err.splitlines()
    assert done.code == 2 and done.out == "" and line.startswith("ppo-keras: error: ") and len(line) < 700
    assert times() == before
    return line


def without(name):
    return lambda one: (one.folder / "checkpoints" / f"{name}.keras").unlink()


def setting(**changed):
    return lambda one: one.save_json("config.json", {k: v for k, v in (one.load_json("config.json") | changed).items() if v != "gone"})


def damaged(name):
    return lambda one: (one.folder / name).write_bytes(b"half a file")


@pytest.mark.parametrize(
    "command, name, harm, words",
    [
        ("evaluate copy", "walker", without("policy"), "policy.keras is missing. There are: best"),
        ("evaluate copy --stage best", "writer", without("best"), "best.keras is missing. There are: after, before, judge, reward"),
        ("evaluate copy", "writer", without("reward"), "reward.keras is missing"),
        ("chat copy", "answers", without("before"), "before.keras is missing"),
        ("evaluate copy", "labels", damaged("checkpoints/after.keras"), "cannot load runs/copy/checkpoints/after.keras"),
        ("evaluate copy", "labels", damaged("config.json"), "config.json is damaged"),
        ("evaluate copy", "walker", damaged("summary.json"), "summary.json is damaged"),
        ("chat copy", "answers", damaged("tokenizer.model"), "tokenizer.model"),
        ("evaluate copy", "labels", setting(texts="0123"), "was trained on other texts"),
        ("evaluate copy", "labels", setting(data="gone.tsv"), "no file gone.tsv"),
        ("chat copy", "writer", setting(task="gone"), "is a run of the task 'None'"),
        ("evaluate copy", "labels", setting(ppo=7), "config.json"),
        ("evaluate copy", "labels", setting(batch_size="many"), "config.json"),
        ("evaluate copy", "writer", setting(network={"width": 30, "heads": 4}), "width=30"),
        ("compare labels copy", "labels", setting(texts="0123"), "texts is"),
        ("compare walker copy", "walker", setting(step_reward=-0.5), "step_reward is"),
        ("compare walker copy", "walker", setting(rows=["S.G"]), "rows is"),
        ("compare copy labels", "labels", setting(seeds=2), "holds several seeds"),
    ],
)
def test_a_run_that_cannot_be_opened_is_one_line(place, copied, command, name, harm, words):
    """Catches: a traceback for damaged or missing files, other data, another version; runs compared that are not alike."""
    harm(copied(name))
    assert words in refused(place, *command.split())


def test_two_tokenizers_have_no_common_reward(place, copied):
    """Catches: token ids of one run scored by the reward model of another that reads them as other words."""
    Tokenizer.train([line.split("\t")[0] for line in NEWS.splitlines()], 330, ["art:", "sport:", "trade:"]).save(copied("writer").path("tokenizer.model"))
    assert "tokenizers of runs/writer and runs/copy differ" in refused(place, "compare", "writer", "copy")


@pytest.mark.parametrize("command", ["evaluate", "compare", "chat"])
def test_every_command_has_help_with_an_example(command, capsys):
    """Catches: a command without help, or without an example that names it."""
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    text = capsys.readouterr().out
    assert stop.value.code == 0 and f"examples:\n  ppo-keras {command} " in text and "--runs-folder" in text
