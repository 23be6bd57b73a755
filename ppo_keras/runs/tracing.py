"""TensorBoard's tools for the inside of a run: the graph of a step, the profiler, the debugger. All are off unless asked for."""

import contextlib
import importlib.util
from dataclasses import replace

import keras
import tensorflow as tf
from tqdm import tqdm

DEBUG_NOTE = (
    "--debug-dump writes down every tensor: that needs graphs without XLA, so --no-jit is set. See it with tensorboard --logdir of this run's own folder."
)
PROFILE_NOTE = 'To see the profile, TensorBoard needs xprof: pip install -e ".[profile]"'


def without_jit(config):
    """The settings, with `jit` off (and a line that says so) where the debugger is to see every tensor."""
    if not config.logging.debug_dump or not config.jit:
        return config
    print(DEBUG_NOTE)
    return replace(config, jit=False)


def observers(logging, run):
    """The callbacks that a `LoggingConfig` asks for, by name."""
    profile = {"profile": Profile(run, *logging.profiled())} if logging.profile else {}
    return profile | ({"debug_dump": DebugDump(run)} if logging.debug_dump else {})


class Graph:
    """A view: the graph of one iteration, in the Graphs tab; of an iteration that runs in parts, of `improve`.

    Args:
        data_spec: `TensorSpec`s of what `fit` passes on.
    """

    def __init__(self, data_spec):
        self.data_spec = data_spec

    def __call__(self, learner):
        function, spec = learner.train_step, self.data_spec
        if not learner.compiles_whole:
            trajectory = learner.shelf.content.trajectory
            function, spec = learner.improve, tf.nest.map_structure(lambda x: tf.TensorSpec(x.shape, x.dtype), trajectory)
        traced = tf.function(function, autograph=False).get_concrete_function(spec)  # traced, not run
        tf.summary.graph(traced.graph)


class Profile(keras.callbacks.Callback):
    """Profiles the iterations from `first` to `last`, for the Profile tab.

    Args:
        run: a `Run`.
        first, last: iterations, counted from 1.
    """

    def __init__(self, run, first, last):
        super().__init__()
        self.run, self.first, self.last, self.step = run, first, last, None

    def on_train_begin(self, logs=None):
        if importlib.util.find_spec("xprof") is None:
            tqdm.write(PROFILE_NOTE)

    def on_train_batch_begin(self, batch, logs=None):
        nearest = int(self.model.iteration.numpy()) + 1
        calls_at_once = getattr(self.model, "iterations_per_call", 1)
        if self.step is None and nearest <= self.last and nearest + calls_at_once > self.first:
            tf.profiler.experimental.start(str(self.run.folder))
            self.step = contextlib.ExitStack()
        if self.step is not None:  # the profiler counts in steps that are marked
            self.step.enter_context(tf.profiler.experimental.Trace("train", step_num=nearest, _r=1))

    def on_train_batch_end(self, batch, logs=None):
        if self.step is not None:
            self.step.close()
            if int(self.model.iteration.numpy()) >= self.last:
                self.close()

    def on_train_end(self, logs=None):
        self.close()

    def close(self):
        """Ends the profile."""
        if self.step is not None:
            self.step.close()
            tf.profiler.experimental.stop()
        self.step = None


class DebugDump(keras.callbacks.Callback):
    """Writes a summary of every tensor of PPO for the Debugger V2 tab: shapes, and how many NaN and infinities it held.

    Args:
        run: a `Run`.
    """

    def __init__(self, run):
        super().__init__()
        self.run, self.dump = run, None

    def on_train_begin(self, logs=None):
        for older in self.run.folder.glob("tfdbg_events.*"):  # of a run that goes on: the debugger reads one dump alone
            older.unlink()
        self.dump = tf.debugging.experimental.enable_dump_debug_info(str(self.run.folder), tensor_debug_mode="FULL_HEALTH", circular_buffer_size=-1)
        self.model.trace_again()  # what was traced before writes nothing

    def on_train_batch_end(self, batch, logs=None):
        self.dump.FlushNonExecutionFiles()
        self.dump.FlushExecutionFiles()

    def on_train_end(self, logs=None):
        self.close()

    def close(self):
        """Ends the dump."""
        if self.dump is not None:
            tf.debugging.experimental.disable_dump_debug_info()
            self.model.trace_again()
        self.dump = None
