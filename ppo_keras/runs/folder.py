"""The layout of a run folder: where each thing of a run is written, and read again."""

import contextlib
import csv
import json
import os
import shutil
from dataclasses import asdict, fields
from pathlib import Path

from ppo_keras.checkpoints import StateFiles
from ppo_keras.errors import InputError, ResumeError

STAGES = ("before", "after", "best")  # of the weights that a run keeps
PLACE = ("run", "runs_folder", "overwrite")  # settings that say where a run lies, which may change
SHARING = ("devices", "workers", "worker_index", "worker_timeout")  # settings that say which devices share the work, which may change
FILES = ("data", "validation_data", "test_data", "map", "pretrained", "adapters")  # settings that name a file, which may be moved: its content is compared


class Run:
    """One folder under `runs/`.

    | file | what |
    |---|---|
    | `config.json` | every setting, the versions of the libraries, and the working folder, from which files are named |
    | `tokenizer.model` | the SentencePiece model |
    | `checkpoints/before.keras`, `after.keras` | the writer before and after PPO |
    | `checkpoints/before.safetensors`, ... | of a checkpoint with adapters, the same: what is learned of it, without its frozen weights |
    | `checkpoints/policy.keras` | the agent |
    | `checkpoints/reward.keras`, `judge.keras` | the reward model and the judge, where there are any |
    | `checkpoints/best.keras` | the policy that was rewarded most in the iteration that it acted in, see `callbacks.Checkpoint` |
    | `checkpoints/training-*.npz` | the last states of the learner, with optimizer and counters, from which `--resume` goes on |
    | `checkpoints/writer-*.npz`, `reward-*`, `judge-*` | the same of the supervised stages |
    | `events.out.tfevents.*` | TensorBoard |
    | `metrics.csv` | the scalars of PPO, a line an iteration |
    | `samples.jsonl` | responses before and after |
    | `learning_curve.png`, `grid.png` | pictures of an agent's run |
    | `seed-*/` | of several seeds, each in a folder such as this one |
    | `summary.json` | the result |
    | `evaluation.json`, `evaluation.png` | what `ppo-keras evaluate` measured |
    | `comparison.json` | what `ppo-keras compare` saw |
    """

    def __init__(self, folder, replaced=None, resumed=False):
        self.folder, self.replaced, self.resumed = Path(folder), replaced, resumed

    @staticmethod
    def check_new(runs_folder, name, overwrite):
        """Raises `InputError` if the run exists (unless `overwrite`) or its place cannot be written; creates nothing."""
        if name in ("", ".", "..") or Path(name).name != name:
            raise InputError(f"--run {name!r} is not the name of a folder. Use a plain name such as reviews-1.")
        folder = _place(runs_folder, name)
        if folder.exists() and not folder.is_dir():
            raise InputError(f"{folder} is a file, but a run is a folder. Choose another --run name.")
        used = _is_used(folder)
        if (used or _aside(folder).exists()) and not overwrite:
            raise InputError(f"the run {folder} exists already. Choose another --run name, or replace it with --overwrite.")
        if used and not (folder / "config.json").exists():
            raise InputError(f"{folder} is not the folder of a run, so it is not replaced. Choose another --run name.")
        parent = next(p for p in (folder, *folder.absolute().parents) if p.exists())
        if not os.access(parent, os.W_OK):
            raise InputError(f"cannot write to {parent}. Choose another place with --runs-folder.")

    @classmethod
    def create(cls, runs_folder, name, overwrite=False):
        """A new, empty run folder. A run that it replaces is set aside until `keep` or `discard` is called."""
        cls.check_new(runs_folder, name, overwrite)
        folder = _place(runs_folder, name)
        replaced = _aside(folder)
        if replaced.exists():  # a training was killed before it had anything: the older run is the good one
            shutil.rmtree(folder, ignore_errors=True)
        elif _is_used(folder):
            folder.rename(replaced)
        run = cls(folder, replaced if replaced.exists() else None)
        try:
            (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
        except OSError:
            run.discard()
            raise
        return run

    @classmethod
    def resume(cls, runs_folder, name):
        """A run that was stopped, to go on with."""
        run = cls.open(str(_place(runs_folder, name)), runs_folder)
        if run.ended:
            raise InputError(f"{run.folder} has ended: there is nothing to resume. Train it anew with --overwrite, or choose another --run name.")
        replaced = _aside(run.folder)
        return cls(run.folder, replaced if replaced.exists() else None, resumed=True)

    def keep(self):
        """This run is worth keeping: deletes the one that it replaces."""
        if self.replaced:
            shutil.rmtree(self.replaced)
            self.replaced = None

    def discard(self):
        """Deletes this run and puts back the one that it was to replace."""
        shutil.rmtree(self.folder, ignore_errors=True)
        if self.replaced:
            self.replaced.rename(self.folder)

    def states(self, stage):
        """The `StateFiles` of a stage."""
        return StateFiles(self.folder / "checkpoints", stage)

    @property
    def ended(self):
        """Whether its result is written."""
        return (self.folder / "summary.json").exists()

    @property
    def can_resume(self):
        """Whether a state was saved, in it or in a run inside it."""
        return any(path for place in ("checkpoints/*.npz", "seed-*/checkpoints/*.npz") for path in self.folder.glob(place))

    @classmethod
    def open(cls, run, runs_folder="runs"):
        """An existing run, by its folder or by its name under `runs_folder`."""
        for folder in (Path(run), Path(runs_folder) / run):
            if (folder / "config.json").exists():
                return cls(folder)
        known = sorted(p.parent.name for p in Path(runs_folder).glob("[!.]*/config.json"))
        raise InputError(f"there is no run {run!r}. " + (f"Known runs: {', '.join(known)}." if known else f"{runs_folder}/ holds no runs yet."))

    def seeds(self):
        """The runs of its seeds, in their order; empty where it is of one seed."""
        folders = [path.parent for path in self.folder.glob("seed-*/config.json")]
        return [Run(folder) for folder in sorted(folders, key=lambda folder: (len(folder.name), folder.name))]

    def check_one_seed(self):
        """Raises `InputError` if the run holds several seeds: one of them is meant then."""
        if self.load_json("config.json").get("seeds", 1) not in (1, None):
            seeds = sorted(path.as_posix() for path in self.folder.glob("seed-*"))
            raise InputError(f"{self.folder} holds several seeds. Name one of them, such as {seeds[0] if seeds else 'a run of one seed'}.")

    def part(self, name):
        """A run inside this one, such as one seed of several; where this one goes on, so may that one."""
        folder = self.folder / name
        begun = folder.exists()
        (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
        return Run(folder, resumed=begun and (folder / "config.json").exists())

    def has(self, name):
        """Whether the model of this name was saved."""
        return self.has_whole(name) or os.path.exists(self.path(self.adapters(name)))

    def has_whole(self, name):
        """Whether it was saved with all its weights."""
        return os.path.exists(self.checkpoint(name))

    def has_learned(self):
        """Whether of its policies only what they learned is saved, without the frozen weights of a checkpoint."""
        return any(self.folder.glob(self.adapters("*")))

    def checkpoint(self, name):
        """Path of a saved model: before, after, reward or judge; policy, of an agent."""
        return str(self.folder / "checkpoints" / f"{name}.keras")

    def adapters(self, name):
        """Name of the file that holds what was learned of a policy with adapters: before, after or best."""
        return f"checkpoints/{name}.safetensors"

    def save_model(self, model, name):
        """Saves a Keras model whole: where the disk is full, no half of it is left."""
        temporary = self.folder / "checkpoints" / f"{name}.part.keras"
        try:
            model.save(temporary)
            temporary.replace(self.checkpoint(name))
        finally:
            temporary.unlink(missing_ok=True)

    def path(self, name):
        """Path of another file of the run."""
        return str(self.folder / name)

    def save_config(self, config, **more):
        """Writes `config.json`: a dataclass and further facts about the run. A run that goes on must have them already; it
        forgets the events behind its last state.

        Raises:
            ResumeError: it has others; the first one is named.
        """
        content = {"versions": versions(), **asdict(config), **more, "working_folder": os.getcwd()}
        if not self.resumed:
            self.save_json("config.json", content)
            return
        saved = self.load_json("config.json")
        free = (*PLACE, *SHARING, *FILES, "corpus", "working_folder")
        old, new = ({k: v for k, v in flat(settings) if k not in free} for settings in (saved, json.loads(json.dumps(content))))
        for name in [*old, *new]:
            if old.get(name) != new.get(name):
                raise ResumeError(
                    f"{self.folder} cannot be resumed: {name} was {old.get(name, 'not there')} when the run began and is {new.get(name, 'not there')} now. "
                    "Resume with the version, the settings and the data that began it."
                )
        self.forget_events()

    def save_tokenizer(self, tokenizer):
        """Writes `tokenizer.model`."""
        self.save_bytes("tokenizer.model", tokenizer.model)

    def save_json(self, name, content):
        """Writes a JSON file whole: a reader never sees half of it."""
        self.save_bytes(name, (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode())

    def save_bytes(self, name, content):
        """Writes a file whole."""
        temporary = self.folder / (name + ".part")
        try:
            temporary.write_bytes(content)
            temporary.replace(self.folder / name)
        finally:
            temporary.unlink(missing_ok=True)

    def load_json(self, name):
        """Reads a JSON file of the run, a dict."""
        path = self.folder / name
        if not path.exists():
            raise InputError(f"{path} is missing. Was the run stopped before it ended?")
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path} is damaged: {error}. Train the run again.") from error
        if not isinstance(content, dict):
            raise InputError(f"{path} holds a {type(content).__name__}, expected a table of names. Train the run again.")
        return content

    def save_samples(self, samples):
        """Writes dicts to `samples.jsonl`, a line each."""
        self.save_bytes("samples.jsonl", "".join(json.dumps(sample, ensure_ascii=False) + "\n" for sample in samples).encode())

    def load_settings(self, kind):
        """The settings in `config.json`, an instance of the dataclass `kind`."""
        from simple_parsing.helpers.serialization import from_dict

        saved = self.load_json("config.json")
        try:
            return from_dict(kind, {field.name: saved[field.name] for field in fields(kind) if field.name in saved})
        except InputError:  # a setting out of range says so itself
            raise
        except Exception as error:  # a value of another type fails in many ways
            raise InputError(
                f"{self.path('config.json')} holds a setting of another kind ({error}): it was changed by hand, or by another version. Train the run again."
            ) from error

    def append_metrics(self, row):
        """Adds a dict of numbers to `metrics.csv`; the first row writes the header.

        Raises:
            ResumeError: the header has other columns: a reward that returns other parts than when the run began.
        """
        path = self.folder / "metrics.csv"
        new = not path.exists()
        if not new:
            with open(path, newline="", encoding="utf-8") as file:
                header = next(csv.reader(file), [])
            other = [name for name in (*header, *row) if (name in header) != (name in row)]
            if other:
                raise ResumeError(f"{path} cannot go on: {other[0]} is {'no longer' if other[0] in header else 'only now'} measured. Train the run anew.")
        with open(path, "a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fieldnames=list(row) if new else header)
            if new:
                writer.writeheader()
            writer.writerow(row)

    def forget_metrics(self, after):
        """Drops the lines of `metrics.csv` behind an iteration, and one that was cut off: a run that goes on writes them again."""
        path = self.folder / "metrics.csv"
        if not path.exists():
            return
        header, *lines = path.read_bytes().splitlines(keepends=True) or [b""]
        kept = [line for line in lines if line.endswith(b"\n") and int(line.split(b",")[0]) <= after]
        if kept:
            self.save_bytes("metrics.csv", b"".join([header, *kept]))
        else:
            path.unlink()

    def forget_events(self):
        """Drops what TensorBoard's files say of the time since the last state was saved: a run that goes on says it again."""
        import tensorflow as tf
        from tensorboard.compat.proto.event_pb2 import Event

        stages = {path.stem.rpartition("-")[0] for path in self.folder.glob("checkpoints/*.npz")}
        states = [self.states(stage).read(warn=False) for stage in stages]
        last = max((state.time for state in states if state), default=0.0)
        for path in self.folder.glob("events.out.tfevents.*"):
            kept = []
            with contextlib.suppress(tf.errors.DataLossError):  # the last record was cut off
                for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
                    if Event.FromString(record).wall_time <= last:
                        kept.append(record)
            temporary = path.with_name("events.part")
            with tf.io.TFRecordWriter(str(temporary)) as writer:
                for record in kept:
                    writer.write(record)
            temporary.replace(path)
            if not kept:
                path.unlink()

    def save_pictures(self, pictures, step):
        """Writes PNG files, given as bytes by name, and shows them in TensorBoard."""
        import tensorflow as tf

        writer = tf.summary.create_file_writer(str(self.folder))
        with writer.as_default(step=step):
            for name, content in pictures.items():
                self.save_bytes(f"{name}.png", content)
                tf.summary.image(f"pictures/{name}", tf.io.decode_png(content, channels=4)[tf.newaxis])
        writer.close()


def versions():
    """{name: version} of the package and of what its numbers depend on."""
    import keras
    import tensorflow

    from ppo_keras import __version__

    return {"ppo_keras": __version__, "keras": keras.__version__, "tensorflow": tensorflow.__version__}


def _place(runs_folder, name):
    """The folder of a run. Of a link, what it points to: that is where a run is begun, set aside and put back."""
    folder = Path(runs_folder) / name
    return Path(os.path.realpath(folder)) if folder.is_symlink() else folder


def _aside(folder):
    """Where the run that is replaced waits until the new one is worth keeping."""
    return folder.with_name(f".{folder.name}.replaced")


def _is_used(folder):
    """Whether anything is in a folder, but what a run leaves that was killed before it had settings: a place for checkpoints."""
    return folder.exists() and [path.name for path in folder.rglob("*")] not in ([], ["checkpoints"])


def flat(settings, prefix=""):
    """(name, value) of nested settings; the name of an inner one is its own, as on the command line, but of versions."""
    for name, value in settings.items():
        if isinstance(value, dict):
            yield from flat(value, "version of " if name == "versions" else "")
        else:
            yield prefix + name, value
