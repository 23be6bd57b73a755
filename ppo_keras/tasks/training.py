"""What every task does with a learner: fit it under a progress bar, keep records and checkpoints, and lose nothing."""

import contextlib
import errno
import os
import shutil
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

import tensorflow as tf

from ppo_keras import cluster
from ppo_keras.checkpoints import learned_weights, set_learned_weights
from ppo_keras.environments.config import TASKS as AGENT_TASKS
from ppo_keras.errors import InputError, NonFiniteError, ResumeError
from ppo_keras.runs import callbacks, lock
from ppo_keras.runs.folder import FILES, PLACE, SHARING, Run, flat, versions
from ppo_keras.runs.models import save_policy
from ppo_keras.tasks.config import TASKS as TEXT_TASKS


def run_job(config, make_job, resume=False):
    """The frame of every task: checks first, then a run folder, then the job's `prepare(run, interrupt)` and `improve(run, interrupt)`.

    A job that goes on takes the same steps as one that begins: each stage finds its states in the run folder.

    Args:
        config: with `runs_folder`, `run` and `overwrite`.
        make_job: checks everything that can be checked and builds the job; where it raises, nothing is written.
        resume: go on with the run of this name.

    Returns:
        What `improve` returns. A run that is stopped before it saved a state holds nothing of use, and is removed.
    """
    with plain_errors(), contextlib.ExitStack() as stack:
        cluster.start(config.sharing)
        stack.enter_context(cluster.plain_losses())
        stack.enter_context(cluster.worker_voice())
        runs_folder = stack.enter_context(own_place(config, resume))
        folder = Path(runs_folder) / config.run
        if resume:
            Run.open(str(folder), runs_folder)  # else there is nothing to lock
            stack.enter_context(lock.held(folder))
            run = Run.resume(runs_folder, config.run)
        else:
            lock.check_free(folder)
            Run.check_new(runs_folder, config.run, config.overwrite)
        job = make_job()
        stack.callback(job.close)
        cluster.check_alike({"the task": type(config).__name__} | {f"the version of {name}": version for name, version in versions().items()})
        cluster.check_alike(settings_of(config) | {"the data or the environment": job.data})
        interrupt = stack.enter_context(callbacks.interruptible())
        if not resume:
            folder.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(lock.held(folder))
            run = Run.create(runs_folder, config.run, config.overwrite)
        try:
            job.prepare(run, interrupt)
            run.keep()
            summary = job.improve(run, interrupt)
            cluster.exchange([0])  # nobody leaves while another still computes
            return summary
        except BaseException as error:
            if run.can_resume:
                run.keep()
                if not run.ended and not isinstance(error, (ResumeError, NonFiniteError)):
                    print(f"The run can go on: --resume {run.folder}", file=sys.stderr)
            elif not resume:
                run.discard()
            raise


@contextlib.contextmanager
def own_place(config, resume):
    """The folder of runs that this process writes to: a worker that is not the chief has one of its own for as long as it lives.

    To go on with a run it reads the chief's, which must lie where every worker sees it.
    """
    if cluster.this_cluster().is_chief:
        yield config.runs_folder
        return
    with tempfile.TemporaryDirectory(prefix="ppo_keras-worker-") as place:
        if resume:
            source = Run.open(str(Path(config.runs_folder) / config.run), config.runs_folder).folder
            shutil.copytree(source, Path(place) / config.run, ignore=shutil.ignore_patterns("events.*", "tfdbg_events.*"))
        yield place


def settings_of(config):
    """{name: setting} of what must be the same in every worker."""
    return {name: value for name, value in flat(asdict(config)) if name not in (*PLACE, *SHARING, *FILES)}


def fit_and_save(
    learner, run, name, interrupt, recorder, shown, checkpoint_every, steps, data=None, further=None, score=None,
    finish=lambda: None,
):  # fmt: skip
    """Fits a `PPO`, from its last saved state on. Whatever stops it, the policy is saved as it then is.

    Args:
        learner: a compiled `PPO`.
        run: the `Run` that takes its records, states and policy.
        name: of the saved policy.
        interrupt: an `Interrupt`.
        recorder: a callback that writes the metrics.
        shown: metrics of the progress bar, see `callbacks.Progress`.
        checkpoint_every: iterations between two states.
        steps: of `fit`, all in all.
        data: a function of the number of steps that were made already: the data of the others; None for an agent.
        further: {name: more callbacks}, saved where they have a `state`.
        score: see `callbacks.Checkpoint`; the best policy is saved too, where one was scored.
        finish: called before the policy is saved.

    Raises:
        NonFiniteError: a metric became NaN; the policy of the last state is saved.
        KeyboardInterrupt: Ctrl-C, after the iteration under way.
    """
    further = {"recorder": recorder} | (further or {})
    parts = {key: part for key, part in further.items() if hasattr(part, "state")}
    checkpoint = callbacks.Checkpoint(run.states("training"), checkpoint_every, parts, score)
    iterations = checkpoint.restore_last(learner) or 0
    cluster.check_alike({"the state to go on from": iterations})
    run.forget_metrics(after=iterations)
    done = iterations // getattr(learner, "iterations_per_call", 1)
    try:
        with callbacks.Progress("PPO", shown, done) as progress:
            observers = [
                progress,
                callbacks.StopOnNonFinite("The last good state is saved. Try a smaller --learning-rate or --max-gradient-norm."),
                callbacks.StopOnInterrupt(interrupt),
                *further.values(),
                checkpoint,
            ]
            if done < steps:
                learner.fit(*([data(done)] if data else []), steps_per_epoch=steps - done, callbacks=observers, verbose=0)
    except NonFiniteError:
        checkpoint.restore_last(learner)
        raise
    finally:
        for observer in further.values():
            getattr(observer, "close", lambda: None)()  # Keras ends no callback where `fit` raises
        finish()
        if checkpoint.best_weights:
            last = learned_weights(learner.policy)
            set_learned_weights(learner.policy, checkpoint.best_weights)
            save_policy(run, learner.policy, "best")
            set_learned_weights(learner.policy, last)
        save_policy(run, learner.policy, name)
    interrupt.check()


def settings_of_every_task():
    """The classes of settings of all tasks: their runs share one HParams table, so each must name all columns."""
    return tuple(dict.fromkeys(kind for kind, _ in (*TEXT_TASKS.values(), *AGENT_TASKS.values())))


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
