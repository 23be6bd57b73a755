"""Small data and a small run of each task of language, which tests of several rooms share; nothing here is a test."""

import contextlib
import io
import types

import tensorflow as tf

from ppo_keras.commands.main import main

TINY = (
    "--layers 1 --width 16 --heads 2 --vocabulary-size 400 --supervised-epochs 1 --supervised-batch-size 8 --iterations 2 "
    "--batch-size 16 --minibatches 2 --epochs 1 --checkpoint-every 1 --no-jit"
).split()
QUESTIONS = "question\tanswer\n" + "".join(f"What comes after {i}?\t{i + 1}\n" for i in range(200))
PHRASES = "source\ttarget\n" + "".join(
    f"{who} {what}.\t{wer} {was}.\n"
    for who, wer in zip(
        ("I", "You", "We", "They", "The dog", "A cat", "My son", "His wife"), ("Ich", "Du", "Wir", "Sie", "Der Hund", "Eine Katze", "Mein Sohn", "Seine Frau")
    )
    for what, was in zip(("sleep", "eat", "sing", "go", "read", "dance"), ("schlafen", "essen", "singen", "gehen", "lesen", "tanzen"))
)
REVIEWS = "text\tlabel\n" + "".join(f"{a} {b} film {i}\t{label}\n" for i, (a, b, label) in enumerate([("good", "fine", "yes"), ("bad", "dull", "no")] * 50))
NEWS = "text\tlabel\n" + "".join(f"news of {topic} {i}\t{topic}\n" for i, topic in enumerate(("art", "sport", "trade") * 40))


def run(*arguments):
    """A command: exit code, stdout, stderr."""
    tf.get_logger().setLevel("ERROR")
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        code = main(list(arguments))
    return types.SimpleNamespace(code=code, out=out.getvalue(), err=err.getvalue())
