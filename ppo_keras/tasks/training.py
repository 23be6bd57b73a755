"""What every task does with a learner: fit it under a progress bar, keep records and checkpoints, and lose nothing."""

import contextlib
import errno
import os

import tensorflow as tf

from ppo_keras import callbacks
from ppo_keras.errors import InputError, NonFiniteError
from ppo_keras.runs import Run


def run_job(config, make_job):
    """The frame of every task: checks first, then a run folder, then the job's `prepare(run, interrupt)` and `improve(run, interrupt)`.

    Args:
        config: with `runs_folder`, `run` and `overwrite`.
        make_job: checks everything that can be checked and builds the job; where it raises, nothing is written.

    Returns:
        What `improve` returns. A run whose `prepare` does not end holds nothing of use, and is removed.
    """
    with plain_errors():
        Run.check_new(config.runs_folder, config.run, config.overwrite)
        job = make_job()
        run = Run.create(config.runs_folder, config.run, config.overwrite)
        with callbacks.interruptible() as interrupt:
            try:
                job.prepare(run, interrupt)
                run.keep()
            except BaseException:
                run.discard()
                raise
            return job.improve(run, interrupt)


def fit_and_save(learner, run, name, interrupt, recorder, shown, checkpoint_every, data=(), further=(), **fit):
    """Fits a `PPO`. Whatever stops it, the policy is saved as it then is.

    Args:
        learner: a compiled `PPO`.
        run: the `Run` that takes its records, checkpoints and policy.
        name: of the saved policy.
        interrupt: an `Interrupt`.
        recorder: a callback that writes the metrics.
        shown: metrics of the progress bar, see `callbacks.Progress`.
        checkpoint_every: iterations between two checkpoints.
        further: more callbacks.
        data, fit: arguments of `learner.fit`.

    Raises:
        NonFiniteError: a metric became NaN; the policy of the last checkpoint is saved.
        KeyboardInterrupt: Ctrl-C, after the iteration under way.
    """
    checkpoint = callbacks.Checkpoint(run.path("checkpoints"), checkpoint_every)
    try:
        with callbacks.Progress("PPO", shown) as progress:
            observers = [
                progress,
                callbacks.StopOnNonFinite("The last good state is saved. Try a smaller --learning-rate or --max-gradient-norm."),
                recorder,
                *further,
                checkpoint,
                callbacks.StopOnInterrupt(interrupt),
            ]
            learner.fit(*data, callbacks=observers, verbose=0, **fit)
    except NonFiniteError:
        checkpoint.restore_last()
        raise
    finally:
        run.save_model(learner.policy, name)
    interrupt.check()


@contextlib.contextmanager
def plain_errors():
    """Raises TensorFlow's own errors of a full disk, a forbidden file or too little memory as Python's and ours."""
    try:
        yield
    except tf.errors.PermissionDeniedError as error:
        raise OSError(error.message) from error
    except tf.errors.ResourceExhaustedError as error:
        if "No space left" in error.message:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
        raise InputError(
            f"out of memory: {error.message[:200]}. Use a smaller --width, smaller batches (--batch-size, --environments) or more --accumulation-steps."
        ) from error
