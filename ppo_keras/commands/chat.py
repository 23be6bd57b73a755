"""The command `chat`: a prompt is typed, and the model of a run responds, token by token with its numbers."""

import contextlib
import io
import sys

import numpy as np
import tensorflow as tf

from ppo_keras.datasets.cleaning import clean
from ppo_keras.errors import InputError, check_seed
from ppo_keras.language.generation import is_end
from ppo_keras.reports.tables import print_labels_of, print_tokens
from ppo_keras.runs.folder import Run
from ppo_keras.tasks.classification import ClassificationJob
from ppo_keras.tasks.environment import AgentJob
from ppo_keras.tasks.opening import check_temperature, open_job

QUIT, NEW = ("quit", "exit"), "new"
CHAT_TOKENS = 2048  # of a whole chat


def chat(options):
    """Reads prompts, a line each, and responds until the input ends, with Ctrl-C or "quit". A run with `--chat` remembers the turns until "new".

    Args:
        options: a namespace with the options of `ppo-keras chat`.

    Raises:
        InputError: no such run, an agent's, or an option that is out of range. A prompt that cannot be used ends nothing.
    """
    check_temperature(options.temperature)
    check_seed(options.seed, "--seed")
    run = Run.open(options.run, options.runs_folder)
    with contextlib.closing(open_job(run, options.stage, options.temperature, CHAT_TOKENS)) as job:
        if isinstance(job, AgentJob):
            raise InputError(f"{run.folder} is a run of {job.task_name}, an agent, which reads no text. Use ppo-keras evaluate {run.folder}.")
        try:
            converse(job, options)
        except KeyboardInterrupt:
            print()


def converse(job, options):
    """Responds to each line that is typed."""
    turns = []  # of the chat so far
    for number, line in enumerate(read_lines()):
        seed = (options.seed + number) % 2**31  # int32 ends there
        if line == NEW and job.asking.template:
            turns = []
            continue
        try:
            prompt = clean(line, "the line")
            if isinstance(job, ClassificationJob):
                label(job, prompt)
                continue
            answer = respond(job, prompt, seed, options.greedy, turns)
            if job.asking.template:
                turns += [{"role": "user", "content": job.asking.written(prompt)}, {"role": "assistant", "content": answer}]
        except InputError as error:
            print(f"ppo-keras: error: {error}", file=sys.stderr)


def read_lines():
    """The lines that are typed, without empty ones, up to "quit" or the end; somebody who types is shown a sign."""
    if getattr(sys.stdin, "errors", None) == "strict":
        with contextlib.suppress(io.UnsupportedOperation):  # somebody has read from it before
            sys.stdin.reconfigure(errors="surrogateescape")  # a line that is not UTF-8 is refused alone, and the next one is read
    while True:
        if sys.stdin.isatty():
            print("> ", end="", flush=True)
        line = sys.stdin.readline()
        if not line or line.strip() in QUIT:
            return
        if line.strip():
            yield line.strip()


def respond(job, prompt, seed, greedy, turns=()):
    """Prints the response of a writer, and a table of its tokens; it has no score where the reward reads what the data know of a prompt. Returns its text.

    Args:
        job: a `WriterJob`.
        prompt, seed, greedy: str, int, bool.
        turns: of the chat before the prompt, dicts with "role" and "content".
    """
    score = None if job.learner.reads_rows else job.learner.score
    examined = job.reply(prompt, seed, greedy, score, turns)
    length = int(examined.responses.mask[0].sum())
    ids, log_probs, values = (part[0, :length] for part in (examined.responses.tokens, examined.responses.log_probs, examined.responses.values))
    columns = {
        "token": job.tokenizer.pieces(ids),
        "log-probability": log_probs,
        "KL": log_probs - examined.reference_log_probs[0, :length],
        "entropy": examined.entropies[0, :length],
        "value": values,
    }
    ended = bool(is_end(ids[-1], job.tokenizer.end_ids))
    text = job.tokenizer.decode(ids)
    scored = () if score is None else (float(examined.scores[0]), job.reward_is)
    print_tokens(prompt, text, columns, ended, *scored)
    return text


def label(job, prompt):
    """Prints the probability of every label, before PPO and of the stage that was chosen, and the label of the latter."""
    text = job.pad([prompt])
    logits, values = job.outputs(job.policy, text)
    before = job.outputs(job.baseline, text)[0]
    shares = [tf.nn.softmax(each[0]).numpy() for each in (before, logits)]
    print_labels_of(job.names[int(np.argmax(logits[0]))], job.names, *shares, float(values[0]))
