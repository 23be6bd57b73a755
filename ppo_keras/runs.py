"""The layout of a run folder: where each thing of a run is written, and read again."""

import csv
import json
import os
import shutil
from dataclasses import asdict
from pathlib import Path

from ppo_keras.errors import InputError


class Run:
    """One folder under `runs/`.

    | file | what |
    |---|---|
    | `config.json` | every setting, and the versions of the libraries |
    | `tokenizer.model` | the SentencePiece model |
    | `checkpoints/before.keras`, `after.keras` | the writer before and after PPO |
    | `checkpoints/policy.keras` | the agent |
    | `checkpoints/reward.keras`, `judge.keras` | the reward model and the judge, where there are any |
    | `checkpoints/training-*` | the last states of the learner, with optimizer and counters |
    | `events.out.tfevents.*` | TensorBoard |
    | `metrics.csv` | the scalars of PPO, a line an iteration |
    | `samples.jsonl` | responses before and after |
    | `learning_curve.png`, `grid.png` | pictures of an agent's run |
    | `seed-*/` | of several seeds, each in a folder such as this one |
    | `summary.json` | the result |
    """

    def __init__(self, folder, replaced=None):
        self.folder, self.replaced = Path(folder), replaced

    @staticmethod
    def check_new(runs_folder, name, overwrite):
        """Raises `InputError` if the run exists (unless `overwrite`) or its place cannot be written; creates nothing."""
        folder = Path(runs_folder) / name
        if name in ("", ".", "..") or Path(name).name != name:
            raise InputError(f"--run {name!r} is not the name of a folder. Use a plain name such as reviews-1.")
        if folder.exists() and not folder.is_dir():
            raise InputError(f"{folder} is a file, but a run is a folder. Choose another --run name.")
        if folder.exists() and any(folder.iterdir()) and not overwrite:
            raise InputError(f"the run {folder} exists already. Choose another --run name, or replace it with --overwrite.")
        if folder.exists() and any(folder.iterdir()) and not (folder / "config.json").exists():
            raise InputError(f"{folder} is not the folder of a run, so it is not replaced. Choose another --run name.")
        parent = next(p for p in (folder, *folder.absolute().parents) if p.exists())
        if not os.access(parent, os.W_OK):
            raise InputError(f"cannot write to {parent}. Choose another place with --runs-folder.")

    @classmethod
    def create(cls, runs_folder, name, overwrite=False):
        """A new, empty run folder. A run that it replaces is set aside until `keep` or `discard` is called."""
        cls.check_new(runs_folder, name, overwrite)
        folder = Path(runs_folder) / name
        replaced = folder.with_name(f".{name}.replaced")
        if replaced.exists():  # a training was killed before it had anything: the older run is the good one
            shutil.rmtree(folder, ignore_errors=True)
        elif folder.exists():
            folder.rename(replaced)
        run = cls(folder, replaced if replaced.exists() else None)
        try:
            (folder / "checkpoints").mkdir(parents=True)
        except OSError:
            run.discard()
            raise
        return run

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

    @classmethod
    def open(cls, run, runs_folder="runs"):
        """An existing run, by its folder or by its name under `runs_folder`."""
        for folder in (Path(run), Path(runs_folder) / run):
            if (folder / "config.json").exists():
                return cls(folder)
        known = sorted(p.parent.name for p in Path(runs_folder).glob("[!.]*/config.json"))
        raise InputError(
            f"there is no run {run!r}. " + (f"Known runs: {', '.join(known)}." if known else f"{runs_folder}/ holds no runs yet.")
        )

    def part(self, name):
        """A run inside this one, such as one seed of several."""
        (self.folder / name / "checkpoints").mkdir(parents=True)
        return Run(self.folder / name)

    def has(self, name):
        """Whether the model of this name was saved."""
        return Path(self.checkpoint(name)).exists()

    def checkpoint(self, name):
        """Path of a saved model: before, after, reward or judge; policy, of an agent."""
        return str(self.folder / "checkpoints" / f"{name}.keras")

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
        """Writes `config.json`: a dataclass and further facts about the run."""
        import keras
        import tensorflow

        from ppo_keras import __version__

        versions = {"ppo_keras": __version__, "keras": keras.__version__, "tensorflow": tensorflow.__version__}
        self.save_json("config.json", {"versions": versions, **asdict(config), **more})

    def save_json(self, name, content):
        """Writes a JSON file whole: a reader never sees half of it."""
        self._write(name, (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode())

    def _write(self, name, content):
        temporary = self.folder / (name + ".part")
        try:
            temporary.write_bytes(content)
            temporary.replace(self.folder / name)
        finally:
            temporary.unlink(missing_ok=True)

    def load_json(self, name):
        """Reads a JSON file of the run."""
        path = self.folder / name
        if not path.exists():
            raise InputError(f"{path} is missing. Was the run stopped before it ended?")
        return json.loads(path.read_text(encoding="utf-8"))

    def append_samples(self, samples):
        """Adds dicts to `samples.jsonl`, a line each."""
        with open(self.folder / "samples.jsonl", "a", encoding="utf-8") as file:
            file.writelines(json.dumps(sample, ensure_ascii=False) + "\n" for sample in samples)

    def append_metrics(self, row):
        """Adds a dict of numbers to `metrics.csv`; the first row writes the header."""
        path = self.folder / "metrics.csv"
        new = not path.exists()
        with open(path, "a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fieldnames=list(row))
            if new:
                writer.writeheader()
            writer.writerow(row)

    def save_pictures(self, pictures, step):
        """Writes PNG files, given as bytes by name, and shows them in TensorBoard."""
        import tensorflow as tf

        writer = tf.summary.create_file_writer(str(self.folder))
        with writer.as_default(step=step):
            for name, content in pictures.items():
                self._write(f"{name}.png", content)
                tf.summary.image(f"pictures/{name}", tf.io.decode_png(content, channels=4)[tf.newaxis])
        writer.close()


def load_policy(run, name):
    """A saved policy of a run. Nothing in the file is executed: Keras's `safe_mode` is on."""
    import keras

    from ppo_keras.networks.actor_critic import ActorCritic

    path = run.checkpoint(name)
    try:
        model = keras.models.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # a damaged or altered file fails in many ways
        raise InputError(f"cannot load {path}: {error}") from error
    if not isinstance(model, ActorCritic):
        raise InputError(f"{path} holds a {type(model).__name__}, not a policy of ppo_keras.")
    return model
