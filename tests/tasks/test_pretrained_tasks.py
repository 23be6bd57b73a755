"""Tasks that begin with a checkpoint: whole trainings of its adapters, as small as they get, and all that is done with such a run."""

import hashlib
import io
import json
import re
import shutil
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from safetensors.numpy import load_file, save_file

from ppo_keras.commands.parser import parse
from ppo_keras.config import SupervisedConfig
from ppo_keras.devices import Devices
from ppo_keras.errors import InputError, ResumeError
from ppo_keras.language import generation
from ppo_keras.networks.adapters import adapter_settings, adapter_variables
from ppo_keras.pretrained.chat import ChatTemplate
from ppo_keras.pretrained.config import PretrainedConfig
from ppo_keras.pretrained.export import export_pretrained
from ppo_keras.pretrained.loading import Checkpoint, load_pretrained
from ppo_keras.pretrained.tokenizer import PretrainedTokenizer, load_tokenizer
from ppo_keras.runs.folder import Run
from ppo_keras.runs.models import load_policy, load_reference, save_policy
from ppo_keras.tasks.answering import AnsweringJob
from ppo_keras.tasks.config import TASKS, GenerationConfig, settings_for
from ppo_keras.tasks.generation import GenerationJob
from ppo_keras.tasks.opening import open_job
from ppo_keras.tasks.question_answering import QuestionAnswering
from ppo_keras.tasks.text import TextJob
from runs_of_texts import QUESTIONS, REVIEWS, run
from small_checkpoint import VOCABULARY, write_checkpoint

SMALL = (
    "--supervised-epochs 1 --supervised-batch-size 8 --iterations 2 --batch-size 16 --minibatches 2 --epochs 1 --checkpoint-every 1 --no-jit "
    "--pretrained checkpoint --lora-rank 2"
).split()
ALL = "--lora-alpha 3 --lora-layers all".split()
GENERATION = ["generation", "--data", "reviews.tsv", "--reward-epochs", "1", "--evaluation-samples", "8", "--response-length", "6"]
ANSWERS = ["question-answering", "--critic", "adapters", "--data", "questions.tsv", "--responses-per-prompt", "2", "--chat", "--prompt-format", "Count: {}"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with data and a checkpoint, and a finished run of each task."""
    folder = tmp_path_factory.mktemp("pretrained")
    (folder / "checkpoint").mkdir()
    write_checkpoint(folder / "checkpoint", blocks=1)
    for name, content in (("questions", QUESTIONS), ("reviews", REVIEWS)):
        (folder / f"{name}.tsv").write_text(content, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for arguments in ([*GENERATION, *ALL], ANSWERS, ["classification", "--data", "reviews.tsv", "--weights", "bfloat16", "--critic", "detached"]):
            done = run("train", *arguments, *SMALL)
            assert done.code == 0, done.err
    return folder


@pytest.fixture(autouse=True)
def there(place, monkeypatch):
    """Commands run in that folder."""
    monkeypatch.chdir(place)


def refused(*arguments):
    """The one line of a command that cannot be carried out."""
    done = run(*arguments)
    lines = [line for line in done.err.splitlines() if "error" in line]
    assert done.code == 2 and len(lines) == 1 and "Traceback" not in done.err, done.err
    return lines[0]


def weights_of(name, stage):
    return load_file(f"runs/{name}/checkpoints/{stage}.safetensors")


@pytest.mark.parametrize("name, heads", [("generation", 1), ("question-answering", 1), ("classification", 2)])
def test_a_run_keeps_what_was_learned_and_nothing_else(place, name, heads):
    """Catches: base weights in a run folder or in a state, adapters that did not learn, supervised training that passes them by."""
    before, after = weights_of(name, "before"), weights_of(name, "after")
    layers = 4 if name == "generation" else 1  # of one block: four linear layers, or one
    roles = 1 + (name == "question-answering")  # whose critic has adapters of its own
    assert len(before) == 2 * layers * roles + 2 * heads  # A and B of each layer, kernel and bias of each head
    adapters = [key for key in before if "lora_kernel" in key]
    assert len(adapters) == 2 * layers and all(np.any(before[key]) for key in adapters)  # B is 0 until supervised training
    assert name != "generation" or all(not np.array_equal(before[key], after[key]) for key in after)  # the answers earned nothing
    most = max(path.stat().st_size for path in (place / "runs" / name / "checkpoints").glob("[wt]r*.npz"))
    assert most < (place / "checkpoint" / "model.safetensors").stat().st_size
    assert not list((place / "runs" / name / "checkpoints").glob("after.keras"))


def test_a_run_names_its_checkpoint(place):
    """Catches: a checksum of the name instead of the weights, a tokenizer of our own beside the checkpoint."""
    config = json.loads((place / "runs/generation/config.json").read_text())
    policy, tokenizer = load_pretrained("checkpoint", lora_rank=2, memory=16)
    assert config["checkpoint"]["pretrained"] == "checkpoint"
    assert config["checkpoint_sha256"] == hashlib.sha256((place / "checkpoint/model.safetensors").read_bytes()).hexdigest()
    saved = load_tokenizer("runs/generation/tokenizer.model")
    assert isinstance(saved, PretrainedTokenizer) and saved.encode("a fine film") == tokenizer.encode("a fine film") and saved.end_ids == tokenizer.end_ids


def test_what_is_loaded_is_what_was_trained(place):
    """Catches: adapters put into other layers, a reference that is the checkpoint although PPO began with trained adapters, heads that stay new."""
    opened, base = Run("runs/generation"), load_pretrained("checkpoint", 2, 3.0, "all", memory=64)[0]
    tokens = tf.constant([[5, 9, 100, 7]])
    plain = base(tokens)[0].numpy()
    for stage in ("before", "after"):
        for variable, value in zip(base.trainable_variables, load_policy(opened, stage).trainable_variables):
            variable.assign(value)
        np.testing.assert_allclose(load_policy(opened, stage)(tokens)[0], base(tokens)[0], atol=1e-5)
    policy = load_policy(opened, "after")
    reference = load_reference(opened, policy)
    np.testing.assert_allclose(reference(tokens)[0], load_policy(opened, "before")(tokens)[0], atol=1e-5)
    np.testing.assert_allclose(policy(tokens)[0], load_policy(opened, "after")(tokens)[0], atol=1e-5)
    assert np.abs(reference(tokens)[0] - plain).max() > 1e-3  # the supervised adapters
    assert len(reference.variables) == len(policy.trainable_variables)


def test_a_policy_is_loaded_as_it_was_set(place):
    """Catches: alpha, layers or the kind of the weights left out where a run is opened."""
    for name, alpha, layers, kind in (
        ("generation", 3.0, "all", "float32"),
        ("question-answering", 4, "attention", "float32"),
        ("classification", 4, "attention", "bfloat16"),
    ):
        policy = load_policy(Run(f"runs/{name}"), "after")
        critic = {"critic": True} if name == "question-answering" else {}
        assert adapter_settings(policy) == dict(rank=2, alpha=alpha, layers=layers) | critic
        assert policy.detached == (name == "classification")
        assert policy.encoder.embedding.embeddings.dtype == kind and policy.value_head.kernel.dtype == "float32"


def test_the_best_weights_are_not_the_last(place):
    """Catches: `best` saved with the weights of the end, or of the start, whatever earned most."""
    scores = [float(line.split(",")[10]) for line in (place / "runs/generation/metrics.csv").read_text().splitlines()[1:]]
    assert (place / "runs/generation/metrics.csv").read_text().split(",")[10] == "objective/scores"
    opened, expected = (
        Run("runs/generation"),
        "before" if scores[0] >= scores[1] else None,
    )  # weights wait for the next score: two iterations score the first two
    best, before, after = (weights_of("generation", stage) for stage in ("best", "before", "after"))
    assert any(not np.array_equal(best[key], after[key]) for key in best)
    assert (expected == "before") == all(np.array_equal(best[key], before[key]) for key in best)
    with np.load(opened.folder / "checkpoints/training-2.npz") as state:
        kept = [state[f"best_weights/{i}"] for i in range(len(best))]
    assert sorted(weight.tobytes() for weight in kept) == sorted(weight.tobytes() for weight in best.values())


def test_the_baseline_of_labels_never_follows(place):
    """Catches: a baseline that is the policy itself, or shares its head or its adapters; labels before PPO that are not the baseline's."""
    rows = [json.loads(line) for line in (place / "runs/classification/samples.jsonl").read_text().splitlines()]
    job = open_job(Run("runs/classification"), "after")
    before, policy = job.probabilities(job.baseline, "test"), job.probabilities(job.policy, "test")
    for stage, found in (("before", before), ("after", policy)):
        assert [row["response"] for row in rows if row["stage"] == stage] == [job.names[i] for i in found.argmax(axis=1)]
    for i, variable in enumerate(job.policy.trainable_variables):
        variable.assign_add(tf.random.stateless_normal(variable.shape, [i, 1]))
    assert np.abs(job.probabilities(job.policy, "test") - policy).max() > 0.01
    np.testing.assert_array_equal(job.probabilities(job.baseline, "test"), before)


def test_the_policy_starts_as_the_reference_and_the_samples_are_its_own(place):
    """Catches: a KL that is not 0 before PPO, samples of `before` that the loaded policy does not write."""
    rows = [json.loads(line) for line in (place / "runs/generation/samples.jsonl").read_text().splitlines()]
    first = (place / "runs/generation/metrics.csv").read_text().splitlines()
    metrics = dict(zip(first[0].split(","), first[1].split(",")))
    assert abs(float(metrics["objective/kl"])) < 1e-4 and float(metrics["policy/first_ratio_gap"]) < 1e-3
    for stage in ("before", "after"):
        job = open_job(Run("runs/generation"), stage)
        prompts, responses, _ = job.answer(job, None, job.config.seed, False)
        mine = [row for row in rows if row["stage"] == stage]
        assert [row["prompt"] for row in mine] == prompts and [row["response"] for row in mine] == responses


@pytest.mark.parametrize(
    "arguments",
    [
        ["generate", "generation", "--prompt", "good", "--count", "2"],
        ["generate", "question-answering", "--prompt", "What comes after 3?", "--greedy"],
        ["generate", "classification", "--prompt", "a fine film"],
        ["evaluate", "generation", "question-answering", "--samples", "4"],
        ["evaluate", "classification"],
        ["compare", "generation:before", "generation", "--samples", "4"],
        ["compare", "classification:before", "classification", "--samples", "4"],
    ],
    ids=lambda arguments: "-".join(arguments[:2]),
)
def test_every_command_reads_such_a_run(arguments):
    """Catches: a command that looks for whole weights, or for a tokenizer of our own."""
    done = run(*arguments)
    assert done.code == 0 and done.out.strip(), done.err


def test_a_question_is_asked_by_the_chat_template(place, monkeypatch):
    """Catches: the prompt format left out, the template left out, or applied twice."""
    job = open_job(Run("runs/question-answering"), "after")
    template = ChatTemplate.of(job.tokenizer)
    expected = template.ids(job.tokenizer, [{"role": "user", "content": "Count: What comes after 3?"}])
    assert job.encode_prompt("What comes after 3?") == expected
    row = job.corpus.test.texts[0]
    asked = template.ids(job.tokenizer, [{"role": "user", "content": f"Count: {row}"}])
    assert list(job.prompts["test"].tokens[0][job.prompts["test"].mask[0] > 0]) == asked
    known = job.corpus.train.texts[int(np.random.default_rng(0).permutation(len(job.corpus.train.texts))[0])]
    assert job.known[0][0] == template.ids(job.tokenizer, [{"role": "user", "content": f"Count: {known}"}])  # what supervised training saw
    assert job.learner.end_id == job.tokenizer.end_ids
    read = []
    write = generation.generate
    monkeypatch.setattr(generation, "generate", lambda policy, prompts, *more: read.append(prompts.tokens.numpy()) or write(policy, prompts, *more))
    assert run("generate", "question-answering", "--prompt", "What comes after 3?").code == 0
    assert read[0][0].tolist() == expected


def test_what_is_written_around_a_prompt_is_never_cut(place):
    """Catches: a prompt whose front is cut, and with it the instruction or the user's turn."""
    said = refused("train", *ANSWERS, *SMALL, "--run", "x", "--prompt-length", "16")
    assert "--prompt-length 16 cuts 200 prompts, and of them what the format or the chat template writes. Use " in said
    assert not (place / "runs/x").exists()


def test_a_chat_has_more_room_than_its_training(place):
    """Catches: a chat that ends after its first turn, because training needed no more."""
    job = open_job(Run("runs/question-answering"), "after", chat_memory=2048)
    trained = job.run.load_json("config.json")["memory"]
    assert trained < job.context == 128 == job.policy.encoder.config["memory"]  # all that the checkpoint knows
    assert open_job(Run("runs/question-answering"), "after").policy.encoder.config["memory"] == trained


def test_missing_adapters_are_named(place, tmp_path, monkeypatch):
    """Catches: a message that names a file which such a run never had, or a traceback."""
    shutil.copytree(place / "runs/generation", tmp_path / "runs/generation")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs/generation/checkpoints/before.safetensors").unlink()
    for arguments in (["generate", "generation", "--prompt", "good", "--stage", "before"], ["evaluate", "generation", "--samples", "4"]):
        assert "before.safetensors is missing" in refused(*arguments)


@pytest.mark.parametrize("name, value", [("checkpoint_sha256", 5), ("memory", "a"), ("memory", True), ("labels", "two"), ("checkpoint", None)])
def test_a_config_that_was_changed_is_one_line(place, tmp_path, monkeypatch, name, value):
    """Catches: a traceback where a fact about the checkpoint is of another kind."""
    shutil.copytree(place / "runs/generation", tmp_path / "runs/generation")
    monkeypatch.chdir(tmp_path)
    config = json.loads((tmp_path / "runs/generation/config.json").read_text())
    (tmp_path / "runs/generation/config.json").write_text(json.dumps(config | {name: value}))
    assert "config.json" in refused("generate", "generation", "--prompt", "good")


@pytest.mark.parametrize(
    "option, value",
    [
        ("--lora-rank", 3),
        ("--lora-alpha", 5.0),
        ("--lora-layers", "all"),
        ("--weights", "bfloat16"),
        ("--chat", True),
        ("--prompt-format", "Say: {}"),
        ("--adapters", "folder"),
    ],
)
def test_an_option_of_a_checkpoint_reaches_it(option, value):
    """Catches: a field of `PretrainedConfig` that the command line does not offer, or that changes another."""
    given = [option] if value is True else [option, str(value)]
    config = parse(["train", "question-answering", "--pretrained", "smollm2", *given]).config
    field = option[2:].replace("-", "_")
    assert config.checkpoint == PretrainedConfig(pretrained="smollm2", **{field: value})


@pytest.mark.parametrize("options", [[], ["--pretrained", "checkpoint", "--lora-rank", "2"]])
def test_recomputing_reaches_the_policy(place, options):
    """Catches: `--recompute` that is dropped on the way to a model from nothing, or to a checkpoint's; a network without blocks that takes it."""
    for given, expected in (([], False), (["--recompute"], True)):
        config = parse(["train", "question-answering", *options, *given]).config
        checkpoint = Checkpoint("checkpoint") if options else None
        task = SimpleNamespace(config=config, checkpoint=checkpoint, tokenizer=SimpleNamespace(vocabulary_size=VOCABULARY), memory=8, devices=Devices())
        task._new_policy = lambda labels, task=task: TextJob._new_policy(task, labels)
        assert TextJob.new_policy(task).encoder.trunk.recompute is expected
    assert "--recompute is for a transformer's blocks" in refused("train", "generation", "--model", "lstm", "--recompute")


def test_a_classifier_reads_no_chat(place):
    """Catches: `--chat` that is dropped without a word."""
    for options in (["--chat"], ["--prompt-format", "Label: {}"]):
        assert "a classifier reads a text as it is" in refused("train", "classification", "--data", "reviews.tsv", *SMALL, "--run", "x", *options)


def test_without_supervised_training_ppo_sees_every_prompt(place):
    """Catches: prompts that are kept for a supervised training which is not made."""
    config = parse(["train", *ANSWERS, *SMALL, "--supervised-epochs", "0"]).config
    taught = replace(config, supervised=replace(config.supervised, supervised_epochs=1))
    count = lambda one: len(AnsweringJob(one, QuestionAnswering(one)).practice)
    assert (count(config), count(taught)) == (160, 144)


def test_a_chat_remembers_its_turns(monkeypatch):
    """Catches: a prompt that is read alone, turns after `new`, an answer that is not in the next prompt."""
    asked = []
    ids = ChatTemplate.ids
    monkeypatch.setattr(ChatTemplate, "ids", lambda self, tokenizer, messages, *more: asked.append(list(messages)) or ids(self, tokenizer, messages, *more))
    monkeypatch.setattr(sys, "stdin", io.StringIO("one\ntwo\nnew\nthree\n"))
    done = run("chat", "question-answering", "--greedy")
    assert done.code == 0, done.err
    typed = [messages for messages in asked if messages[-1]["content"] in ("Count: one", "Count: two", "Count: three")]
    assert [len(messages) for messages in typed] == [1, 3, 1]
    assert [one["role"] for one in typed[1]] == ["user", "assistant", "user"] and typed[1][0]["content"] == "Count: one"
    assert typed[1][1]["content"] in done.out


def test_a_chat_in_generation_answers_whole_texts(place):
    """Catches: beginnings of texts as prompts, labels that would teach a reward, supervised training on the users' texts."""
    (place / "short.py").write_text("def short(prompt, response):\n    return -len(response)\n")
    arguments = [
        *SMALL,
        "--iterations",
        "1",
        "--chat",
        "--supervised-epochs",
        "0",
        "--response-length",
        "5",
        "--reward",
        "short:short",
        "--evaluation-samples",
        "8",
        "--run",
        "chats",
    ]
    done = run("train", "generation", "--data", "reviews.tsv", *arguments)
    assert done.code == 0, done.err
    assert not (place / "runs/chats/checkpoints/judge.keras").exists()
    before, adapters = weights_of("chats", "before"), [key for key in weights_of("chats", "before") if key.endswith("lora_kernel_b")]
    assert adapters and not any(np.any(before[key]) for key in adapters)  # nothing was supervised
    job = open_job(Run("runs/chats"), "after")
    assert isinstance(job, GenerationJob)
    tokens, mask = job.prompts
    asked = [ChatTemplate.of(job.tokenizer).ids(job.tokenizer, [{"role": "user", "content": text}]) for text in job.corpus.test.texts[:8]]
    assert [list(row[real > 0]) for row, real in zip(tokens, mask)] == asked


@pytest.mark.parametrize(
    "options, words",
    [
        (["--pretrained", "nowhere"], "there is no folder or .gguf file 'nowhere'"),
        (["--model", "lstm"], "brings a transformer, but --model is lstm"),
        (["--vocabulary-size", "400"], "--vocabulary-size 400 has no use"),
        (["--no-shared-trunk"], "Leave out --no-shared-trunk"),
        (["--control-codes"], "--control-codes are pieces of a tokenizer of their own"),
        (["--lora-layers", "heads"], "lora_layers='heads' is unknown"),
        (["--lora-rank", "-1"], "lora_rank=-1"),
        (["--lora-rank", "0", "--weights", "bfloat16"], "cannot be trained whole"),
        (["--prompt-format", "no place"], "has no single {}"),
        (["--adapters", "checkpoint"], "lora_rank=2 has no use: adapters='checkpoint' bring their own"),
        (["--adapters", "checkpoint", "--lora-rank", "16"], "checkpoint holds no adapter_config.json"),
        (["--prompt-format", "Write: {}"], "goes on with the beginnings of texts"),
        (["--chat"], "labels of theirs teach no reward"),
        (["--chat", "--reward", "short:short", "--response-length", "5"], "Give --supervised-epochs 0"),
        (["--response-length", "5000"], "tokens, but checkpoint knows a context of 128. Use a smaller --prompt-length or --response-length"),
    ],
)
def test_what_cannot_be_is_one_line(place, options, words):
    """Catches: a setting that a checkpoint makes useless and that is dropped without a word; a run folder before the checks."""
    done = refused("train", "generation", "--data", "reviews.tsv", *SMALL, "--run", "x", *options)
    assert words in done and not (place / "runs/x").exists()


def test_sizes_are_those_of_a_network_from_nothing():
    """Catches: sizes that are dropped without a word where reward model and judge share the checkpoint's trunk, or refused where they are networks of their own."""
    given = ["train", "generation", "--pretrained", "checkpoint", "--layers", "3"]
    assert "--layers 3 has no use" in refused(*given)
    assert parse([*given, "--reward-network", "bag"]).config.network.layers == 3
    assert parse([*given[:4], "--dropout", "0.1"]).config.network.dropout == 0.1  # of their heads


def test_settings_of_a_checkpoint_need_one(place):
    """Catches: `--chat` or `--weights` of a model from nothing, which would change nothing."""
    for options in (["--chat"], ["--weights", "bfloat16"], ["--prompt-format", "Say: {}"], ["--adapters", "checkpoint"]):
        assert "is of a checkpoint" in refused("train", "generation", "--data", "reviews.tsv", *options)


@pytest.mark.parametrize("task", list(TASKS))
def test_a_checkpoint_has_defaults_of_its_own(task):
    """Catches: a checkpoint trained for the many epochs of a network from nothing, defaults that replace what was given, supervised training of a chat."""
    plain, suited = settings_for(task), parse(["train", task, "--pretrained", "smollm2", "--epochs", "3"]).config
    assert plain == type(plain)() == parse(["train", task]).config and plain.checkpoint.pretrained is None
    assert suited.checkpoint.pretrained == "smollm2" and suited.ppo.epochs == 3 and suited.ppo.minibatches == settings_for(task, "smollm2").ppo.minibatches
    assert suited.supervised.supervised_epochs < plain.supervised.supervised_epochs and suited.batch_size <= 64
    chats = settings_for(task, "smollm2", chat=True).supervised.supervised_epochs
    assert chats == (0 if task == "generation" else suited.supervised.supervised_epochs)


def test_the_reward_model_keeps_its_epochs():
    """Catches: a reward model that learns for the one epoch of the writer, or for none."""
    for epochs, reward_epochs, expected in ((1, 7, 7), (4, None, 4), (0, None, 15)):
        config = GenerationConfig(supervised=SupervisedConfig(supervised_epochs=epochs), reward_epochs=reward_epochs, reward_learning_rate=0.5)
        assert config.scoring.supervised_epochs == expected and config.scoring.supervised_learning_rate == 0.5
    assert GenerationConfig().scoring == GenerationConfig().supervised


def changed(place, file):
    """Weights with one number changed."""
    tensors = load_file(file)
    tensors["model.norm.weight"] = tensors["model.norm.weight"] + 1.0
    save_file(tensors, file)


def test_another_checkpoint_is_refused(place, tmp_path, monkeypatch):
    """Catches: adapters put on other weights without a word; a run that goes on with them."""
    shutil.copytree(place, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    config = json.loads((tmp_path / "copy/runs/generation/config.json").read_text())
    (tmp_path / "copy/runs/generation/config.json").write_text(json.dumps(config | {"working_folder": "/nowhere"}))
    changed(place, "checkpoint/model.safetensors")
    assert "began with another checkpoint than" in refused("generate", "generation", "--prompt", "good")
    (tmp_path / "copy/runs/generation/summary.json").unlink()
    assert "checkpoint_sha256 was" in refused("train", "generation", "--resume", "generation")
    shutil.rmtree("checkpoint")
    assert "there is no folder or .gguf file 'checkpoint'" in refused("generate", "generation", "--prompt", "good")


def test_a_checkpoint_that_lies_elsewhere_is_found(place, tmp_path, monkeypatch):
    """Catches: a path that is taken from the folder where one happens to be, where another checkpoint may have the same name."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(place / "checkpoint", "checkpoint")
    changed(place, "checkpoint/model.safetensors")
    done = run("generate", str(place / "runs/generation"), "--prompt", "good")
    assert done.code == 0, done.err


@pytest.mark.parametrize("damage", ["cut", "of another rank"])
def test_damaged_adapters_are_one_line(place, tmp_path, monkeypatch, damage):
    """Catches: half of a file that is read as if it were whole, adapters of another rank."""
    shutil.copytree(place / "runs", tmp_path / "runs")
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "runs/generation/checkpoints/after.safetensors"
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-20])
    else:
        tensors = load_file(path)
        save_file({key: np.concatenate([value, value]) for key, value in tensors.items()}, path)
    assert str(path.name) in refused("generate", "generation", "--prompt", "good")


def test_what_cannot_fit_is_said_before_it_is_tried(monkeypatch):
    """Catches: weights that are read, or a run folder begun, for a batch that the system will kill; a task that does not look, or advises a batch that it refuses."""
    monkeypatch.setattr("ppo_keras.pretrained.machine.memory_here", lambda: (0.9e9, False))  # enough for the weights alone
    monkeypatch.setattr("ppo_keras.pretrained.loading.read_into", lambda *_: pytest.fail("weights were read"))
    compiled = [option for option in SMALL if option != "--no-jit"]
    for task, prompt in ((GENERATION, 5), (ANSWERS, r"\d+")):
        said = refused("train", *task, *compiled, "--run", "large")
        assert re.search(rf"checkpoint with a batch of 16, prompts of {prompt} and responses of \d+ tokens needs about 1.[45] GB of memory", said), said
        assert said.endswith("and 0.9 GB are free. Use a smaller checkpoint.")
    multiples = []
    monkeypatch.setattr("ppo_keras.pretrained.machine.largest_batch", lambda *args: multiples.append(args[-1]) or 0)
    refused("train", *ANSWERS, *compiled, "--responses-per-prompt", "8", "--run", "large")
    assert multiples == [8] and not Run("runs/large").folder.exists()


def test_every_weight_can_be_trained(place):
    """Catches: rank 0 that freezes the weights, or a run of it that is loaded as the checkpoint."""
    done = run("train", *GENERATION, *SMALL, "--iterations", "1", "--lora-rank", "0", "--run", "whole")
    assert done.code == 0, done.err
    policy, base = load_policy(Run("runs/whole"), "after"), load_pretrained("checkpoint", lora_rank=0, memory=16)[0]
    assert all(not np.array_equal(a, b) for a, b in zip(policy.encoder.get_weights(), base.encoder.get_weights()))
    assert (place / "runs/whole/checkpoints/after.keras").exists()


@pytest.mark.parametrize("stage", ["before", "after"])
def test_a_run_is_exported(place, tmp_path, stage):
    """Catches: weights of another stage, adapters of the run that are left out, the name of the checkpoint lost."""
    done = run("export", "generation", str(tmp_path / "merged"), "--stage", stage)
    assert done.code == 0 and "merged holds a llama: 0.1 MB in float32. The value head is left out." in done.out, done.err
    assert run("export", "generation", str(tmp_path / "adapters"), "--stage", stage, "--adapters-only").code == 0
    tokens = tf.constant([[5, 9, 100, 7]])
    expected = load_policy(Run("runs/generation"), stage)(tokens)[0]
    np.testing.assert_allclose(load_pretrained(tmp_path / "merged", lora_rank=0, memory=16)[0](tokens)[0], expected, atol=1e-4)
    np.testing.assert_allclose(load_pretrained("checkpoint", adapters=tmp_path / "adapters", memory=16)[0](tokens)[0], expected, atol=1e-6)
    assert json.loads((tmp_path / "adapters/adapter_config.json").read_text())["base_model_name_or_path"] == "checkpoint"


def test_a_classifier_is_not_exported(tmp_path):
    """Catches: a trunk without its head, passed off as a model."""
    assert "whose policy writes no text" in refused("export", "classification", str(tmp_path / "exported"))
    assert not list(tmp_path.iterdir())


def test_a_run_begins_with_adapters(place, tmp_path, monkeypatch):
    """Catches: adapters that are new although a folder was named, a run that cannot be opened without it, one that goes on with other adapters."""
    shutil.copytree(place / "checkpoint", tmp_path / "checkpoint")
    shutil.copy(place / "questions.tsv", tmp_path)
    monkeypatch.chdir(tmp_path)
    policy, tokenizer = load_pretrained("checkpoint", lora_rank=3, lora_alpha=4.0, lora_layers="all", memory=16)
    for i, variable in enumerate(adapter_variables(policy)):
        variable.assign(0.1 * tf.random.stateless_normal(variable.shape, [i, 3]))
    export_pretrained(policy, tokenizer, "given", checkpoint="checkpoint", layout="adapters")
    options = " ".join(SMALL).replace("--lora-rank 2", "--adapters given --supervised-epochs 0").split()
    config = parse(["train", *ANSWERS, *options]).config
    begin = lambda: AnsweringJob(config, QuestionAnswering(config))
    job, opened = begin(), Run.create("runs", "further")
    job.save_settings(opened)
    save_policy(opened, job.new_policy(), "before")
    moved = load_file("given/adapter_model.safetensors")
    save_file({name: tensor + 1 for name, tensor in moved.items()}, "given/adapter_model.safetensors")
    with pytest.raises(ResumeError, match="adapters_sha256 was"):
        begin().save_settings(Run.resume("runs", "further"))
    shutil.rmtree("given")
    before = load_policy(opened, "before")
    assert adapter_settings(before) == dict(rank=3, alpha=4.0, layers="all", critic=True)
    assert all(np.array_equal(one, other) for one, other in zip(adapter_variables(before), adapter_variables(policy)))
    saved = opened.load_json("config.json")
    opened.save_json("config.json", saved | {"adapter_settings": {"rank": "x"}})
    with pytest.raises(InputError, match="lora_rank='x'"):
        load_policy(opened, "before")
