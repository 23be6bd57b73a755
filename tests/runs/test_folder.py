"""`ppo_keras.runs.folder`: where each thing of a run is written."""

import csv
import dataclasses
import json
import os
import pickle
import shutil
import subprocess
import types
import zipfile
from pathlib import Path

import keras
import pytest
import tensorflow as tf
from tensorboard.compat.proto.event_pb2 import Event

from ppo_keras import checkpoints
from ppo_keras.errors import InputError, ResumeError
from ppo_keras.language.tokenizer import Tokenizer
from ppo_keras.networks.actor_critic import MLPActorCritic
from ppo_keras.runs.folder import Run
from ppo_keras.runs.models import load_policy
from ppo_keras.tasks.config import GenerationConfig


def old_run(runs_folder):
    """A run named first, with a config and a line of metrics."""
    run = Run.create(runs_folder, "first")
    run.save_json("config.json", {"seed": 1})
    run.append_metrics({"iteration": 1})
    return run


def contents(folder):
    """The bytes of every file below a folder, hidden ones too."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_new_run_is_an_empty_folder_with_a_place_for_checkpoints(tmp_path):
    """Catches: a runs folder that must exist already."""
    run = Run.create(tmp_path / "deep" / "runs", "first")
    assert run.folder == tmp_path / "deep" / "runs" / "first"
    assert [p.relative_to(run.folder).as_posix() for p in run.folder.rglob("*")] == ["checkpoints"]
    assert run.checkpoint("after") == str(run.folder / "checkpoints" / "after.keras")
    assert run.path("tokenizer.model") == str(run.folder / "tokenizer.model")


def test_checking_creates_nothing(tmp_path):
    """Catches: a folder left behind by a command that fails later."""
    Run.check_new(tmp_path / "runs", "first", overwrite=False)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_run_is_never_touched_without_overwrite(tmp_path):
    """Catches: a second training that mixes its files with the first one's or deletes them."""
    run = Run.create(tmp_path, "first")
    run.save_json("summary.json", {"kl": 1})
    for attempt in (Run.check_new, Run.create):
        with pytest.raises(InputError, match="first exists already.*--run.*--overwrite"):
            attempt(tmp_path, "first", overwrite=False)
    assert run.load_json("summary.json") == {"kl": 1}


def test_overwrite_begins_from_nothing(tmp_path):
    """Catches: metrics of the old run in front of the new one's, or a check that deletes already."""
    run = old_run(tmp_path)
    Run.check_new(tmp_path, "first", overwrite=True)
    assert (run.folder / "metrics.csv").exists()
    assert [p.name for p in Run.create(tmp_path, "first", overwrite=True).folder.iterdir()] == ["checkpoints"]


def test_a_replaced_run_is_deleted_once_the_new_one_is_kept(tmp_path):
    """Catches: a hidden copy that fills the disk, or one deleted before the new run is of any use."""
    before = contents(old_run(tmp_path).folder)
    new = Run.create(tmp_path, "first", overwrite=True)
    assert sorted(contents(tmp_path).values()) == sorted(before.values())  # set aside
    new.save_json("config.json", {"seed": 2})
    for _ in range(2):
        new.keep()
        assert [path.name for path in tmp_path.iterdir()] == ["first"] and new.load_json("config.json") == {"seed": 2}


def test_a_replaced_run_comes_back_when_the_new_one_is_discarded(tmp_path):
    """Catches: a run lost to one that failed, or mixed with its files."""
    before = contents(old_run(tmp_path).folder)
    for _ in range(2):
        new = Run.create(tmp_path, "first", overwrite=True)
        new.save_json("summary.json", {})
        new.discard()
        assert contents(tmp_path / "first") == before and [path.name for path in tmp_path.iterdir()] == ["first"]


def test_a_discarded_run_that_replaced_none_leaves_nothing(tmp_path):
    """Catches: an empty folder left behind, or an error where there is nothing to put back."""
    for overwrite in (False, True):
        Run.create(tmp_path, "first", overwrite).discard()
        assert list(tmp_path.iterdir()) == []
    Run.create(tmp_path, "first").keep()
    assert [path.name for path in tmp_path.iterdir()] == ["first"]


def test_a_finished_run_outlives_a_killed_process_and_a_second_attempt(tmp_path):
    """Catches: the run that was set aside deleted in favour of the half one of a process that was killed before `keep`."""
    before = contents(old_run(tmp_path).folder)
    Run.create(tmp_path, "first", overwrite=True).save_json("config.json", {"seed": 2})  # killed here
    Run.create(tmp_path, "first", overwrite=True).discard()
    assert contents(tmp_path / "first") == before and [path.name for path in tmp_path.iterdir()] == ["first"]


def test_a_run_that_was_killed_before_it_had_settings_blocks_no_name(tmp_path):
    """Catches: a folder that can neither be resumed nor replaced, or an older run behind it that is replaced without being asked."""
    Run.create(tmp_path, "bare")  # killed here
    Run.create(tmp_path, "bare").save_json("config.json", {})
    Run.create(tmp_path, "bare", overwrite=True)  # killed here again: the run before is set aside
    with pytest.raises(InputError, match="exists already"):
        Run.create(tmp_path, "bare")
    Run.create(tmp_path, "bare", overwrite=True).discard()
    assert (tmp_path / "bare" / "config.json").exists()


def test_a_run_comes_back_where_the_new_folder_cannot_be_made(tmp_path, monkeypatch):
    """Catches: a full disk between setting the old run aside and making the new one."""
    before = contents(old_run(tmp_path).folder)

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "mkdir", full)
    with pytest.raises(OSError, match="No space left"):
        Run.create(tmp_path, "first", overwrite=True)
    assert contents(tmp_path / "first") == before and [path.name for path in tmp_path.iterdir()] == ["first"]


@pytest.fixture(params=["runs of this disk", "runs of another disk"])
def linked(tmp_path, request):
    """A link `runs/first` to a run of another name, that lies beside it or elsewhere."""
    home = tmp_path / ("runs" if request.param == "runs of this disk" else "disk") / "home"
    (tmp_path / "runs").mkdir()
    Run.create(home.parent, "home").save_json("config.json", {"seed": 1})
    (tmp_path / "runs" / "first").symlink_to(home)
    return tmp_path / "runs" / "first"


def test_a_run_behind_a_link_is_replaced_where_it_lies(linked):
    """Catches: a link that is renamed and cannot be deleted, a run that moves to another disk, the linked one left as it was."""
    home = linked.resolve()
    run = Run.create(linked.parent, "first", overwrite=True)
    assert linked.is_symlink() and list(linked.iterdir()) == [linked / "checkpoints"]
    run.discard()
    assert json.loads((linked / "config.json").read_text()) == {"seed": 1}
    run = Run.create(linked.parent, "first", overwrite=True)
    run.save_json("config.json", {"seed": 2})
    run.keep()
    assert linked.resolve() == home and json.loads((home / "config.json").read_text()) == {"seed": 2}
    assert [path.name for path in home.parent.iterdir() if path != linked] == ["home"]


def test_a_killed_overwrite_behind_a_link_goes_on(linked):
    """Catches: the run that waits beside the real folder looked for beside the link; a link to nothing that blocks its name."""
    Run.create(linked.parent, "first", overwrite=True).save_json("config.json", {"seed": 2})  # killed here
    run = Run.resume(linked.parent, "first")
    assert run.load_json("config.json") == {"seed": 2} and run.replaced.exists()
    run.discard()
    assert json.loads((linked / "config.json").read_text()) == {"seed": 1}
    shutil.rmtree(linked.resolve())
    Run.create(linked.parent, "first").save_json("config.json", {"seed": 3})
    assert linked.is_symlink() and Run.resume(linked.parent, "first").load_json("config.json") == {"seed": 3}


def test_the_states_of_linked_seeds_are_seen(tmp_path):
    """Catches: a stopped run of several seeds that is deleted because one of them lies on another disk."""
    run = Run.create(tmp_path / "runs", "first")
    run.part("seed-0").states("training").write(1, {})
    (run.folder / "seed-0").rename(tmp_path / "seed-0")
    assert not run.can_resume
    (run.folder / "seed-0").symlink_to(tmp_path / "seed-0")
    assert run.can_resume


def test_a_run_goes_on_with_files_that_were_moved(tmp_path, monkeypatch):
    """Catches: a run that does not go on from another folder, though its texts are the same; texts that are others."""
    begun, config = Run.create(tmp_path, "first"), GenerationConfig(run="first", data="texts.csv")
    begun.save_config(config, corpus="texts.csv", texts="1234")
    monkeypatch.chdir(tmp_path)
    run, moved = Run.resume(tmp_path, "first"), dataclasses.replace(config, data="/data/texts.csv")
    run.save_config(moved, corpus="/data/texts.csv", texts="1234")
    with pytest.raises(InputError, match="texts was 1234 .* is 4321 now"):
        run.save_config(moved, corpus="/data/texts.csv", texts="4321")


def test_a_folder_that_is_no_run_is_never_replaced(tmp_path):
    """Catches: `--runs-folder ~ --run documents --overwrite`, which would delete what no run wrote."""
    (tmp_path / "documents").mkdir()
    (tmp_path / "documents" / "thesis.txt").write_text("x")
    for attempt in (Run.check_new, Run.create):
        with pytest.raises(InputError, match="documents is not the folder of a run.*--run"):
            attempt(tmp_path, "documents", overwrite=True)
    assert contents(tmp_path) == {"documents/thesis.txt": b"x"}
    (tmp_path / "empty").mkdir()
    for overwrite in (False, True):
        Run.check_new(tmp_path, "empty", overwrite)
    assert Run.create(tmp_path, "empty").folder.is_dir()


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../other", "/tmp/other", "a/"])
def test_a_name_that_leaves_the_runs_folder_is_refused(tmp_path, name):
    """Catches: `--run .. --overwrite`, which would delete the folder that holds the runs."""
    (tmp_path / "runs").mkdir()
    (tmp_path / "precious.txt").write_text("x")
    with pytest.raises(InputError, match="not the name of a folder"):
        Run.check_new(tmp_path / "runs", name, overwrite=True)


def test_a_file_where_the_run_should_be(tmp_path):
    """Catches: a file deleted or crashed into because it has the name of the run."""
    (tmp_path / "first").write_text("x")
    with pytest.raises(InputError, match="first is a file"):
        Run.check_new(tmp_path, "first", overwrite=True)


def test_a_read_only_place_is_found_before_the_work(tmp_path):
    """Catches: a training that finds out at its end that it cannot write."""
    place = tmp_path / "disk"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "ro,size=64k", "tmpfs", place], capture_output=True).returncode:
        pytest.skip("a read-only file system needs the right to mount one (root ignores read-only folders)")
    try:
        with pytest.raises(InputError, match="cannot write to .*disk.*--runs-folder"):
            Run.check_new(place / "runs", "first", overwrite=False)
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def test_a_run_opens_by_name_and_by_folder(tmp_path):
    """Catches: `generate` that knows only one of the two."""
    Run.create(tmp_path, "first").save_json("config.json", {"context": 7})
    assert Run.open("first", tmp_path).load_json("config.json") == {"context": 7}
    assert Run.open(str(tmp_path / "first"), "elsewhere").load_json("config.json") == {"context": 7}


def test_an_unknown_run_names_the_known_ones(tmp_path):
    """Catches: a folder that is no run offered as one, and a message that does not help."""
    for name in ("second", "first"):
        Run.create(tmp_path, name).save_json("config.json", {})
    Run.create(tmp_path, "stopped")
    with pytest.raises(InputError, match=r"no run 'frist'. Known runs: first, second\.$"):
        Run.open("frist", tmp_path)
    with pytest.raises(InputError, match="holds no runs yet"):
        Run.open("first", tmp_path / "nowhere")
    with pytest.raises(InputError, match="summary.json is missing"):
        Run.open("first", tmp_path).load_json("summary.json")


def test_json_is_written_whole_or_not_at_all(tmp_path):
    """Catches: half a summary after a failure, and a temporary file that stays."""
    run = Run.create(tmp_path, "first")
    run.save_json("summary.json", {"text": "好"})
    assert "好" in (run.folder / "summary.json").read_text(encoding="utf-8")
    with pytest.raises(TypeError):
        run.save_json("summary.json", {"kl": 1, "bad": object()})
    assert run.load_json("summary.json") == {"text": "好"}
    assert sorted(p.name for p in run.folder.iterdir()) == ["checkpoints", "summary.json"]


def test_the_config_file_holds_every_setting_and_the_versions(tmp_path):
    """Catches: a setting that a finished run does not tell any more."""
    run, config = Run.create(tmp_path, "first"), GenerationConfig(seed=5)
    run.save_config(config, context=11)
    saved = run.load_json("config.json")
    assert set(saved.pop("versions")) == {"ppo_keras", "keras", "tensorflow"} and saved.pop("working_folder") == os.getcwd()
    assert saved == {"context": 11, **dataclasses.asdict(config)}


def test_samples_and_metrics_are_lines(tmp_path):
    """Catches: lines that overwrite each other, a header before every row, Chinese text escaped, samples of an earlier evaluation that stay."""
    run = Run.create(tmp_path, "first")
    samples = [{"stage": "before", "response": "很好\n看", "score": 0.5}, {"stage": "after", "response": "b", "score": 1.0}]
    run.save_samples(samples[:1])
    run.save_samples(samples)
    lines = (run.folder / "samples.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == samples and "很好" in lines[0]
    rows = [{"iteration": 1, "loss/total": 0.1}, {"iteration": 2, "loss/total": 1e-9}]
    for row in rows:
        run.append_metrics(row)
    with open(run.folder / "metrics.csv", newline="", encoding="utf-8") as file:
        assert [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)] == rows


def test_lines_behind_an_iteration_are_forgotten(tmp_path):
    """Catches: an iteration written twice by a run that goes on, a line that a kill cut off, a header without lines that stays."""
    run = Run.create(tmp_path, "first")
    run.forget_metrics(after=0)
    for iteration in (2, 4, 10):
        run.append_metrics({"iteration": iteration, "loss/total": 0.5})
    path = run.folder / "metrics.csv"
    with open(path, "a") as file:
        file.write("3,0")
    run.forget_metrics(after=4)
    assert path.read_text().split() == ["iteration,loss/total", "2,0.5", "4,0.5"]
    run.forget_metrics(after=1)
    assert not path.exists()
    path.write_bytes(b"")  # killed, or the disk was full, before the header was written
    run.forget_metrics(after=1)
    run.append_metrics({"iteration": 1})
    assert path.read_text().split() == ["iteration", "1"]


def test_a_run_that_goes_on_has_the_settings_that_began_it(tmp_path):
    """Catches: a setting, however deep, or a fact that differs unnoticed; a run that cannot be moved or is written over."""
    begun, config = Run.create(tmp_path, "first"), GenerationConfig(run="first", seed=5)
    begun.save_config(config, context=11)
    begun.save_tokenizer(types.SimpleNamespace(model=b"pieces"))
    run = Run.resume(tmp_path, "first")
    assert run.load_settings(GenerationConfig) == config and (run.folder / "tokenizer.model").read_bytes() == b"pieces"
    before = (run.folder / "config.json").read_bytes()
    run.save_config(dataclasses.replace(config, run="moved", runs_folder="elsewhere"), context=11)
    other = dataclasses.replace(config, network=dataclasses.replace(config.network, width=64))
    with pytest.raises(InputError, match="width was 128 when the run began and is 64 now"):
        run.save_config(other, context=11)
    with pytest.raises(InputError, match="context was 11 .* is 12 now"):
        run.save_config(config, context=12)
    with pytest.raises(InputError, match="context was 11 .* is not there now"):
        run.save_config(config)
    assert (run.folder / "config.json").read_bytes() == before


def test_events_behind_the_last_state_are_forgotten(tmp_path, monkeypatch):
    """Catches: curves that a run that goes on draws twice (also behind a damaged state, and in a copy with newer file times),
    events of before that are lost, a record that a kill cut off."""
    run = Run.create(tmp_path, "first")
    run.save_config(GenerationConfig())
    for number, saved in ((1, 20.5), (2, 40.0)):
        monkeypatch.setattr(checkpoints.time, "time", lambda: saved)
        run.states("training").write(number, {})
    run.states("training").path(2).write_bytes(b"damaged")
    for number in range(2):
        with tf.io.TFRecordWriter(str(run.folder / f"events.out.tfevents.{number}")) as file:
            for time in (10.0, 20.0, 30.0):
                file.write(Event(wall_time=time + number, step=int(time)).SerializeToString())
    with open(run.folder / "events.out.tfevents.1", "ab") as file:
        file.write(b"half a record")
    times = lambda: sorted(
        Event.FromString(record).wall_time for path in run.folder.glob("events.*") for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator()
    )
    Run.resume(tmp_path, "first").save_config(GenerationConfig())
    assert times() == [10.0, 11.0, 20.0]
    (run.folder / "checkpoints" / "training-1.npz").unlink()
    Run.resume(tmp_path, "first").save_config(GenerationConfig())
    assert times() == [] and not list(run.folder.glob("events.*"))  # it begins anew


EVIL = """
open("owned", "w").close()


def shell(x):
    open("owned", "w").close()
"""
HOSTILE = {  # name: a function of the honest `config.json` of a saved policy, that makes it another's
    "a lambda": lambda config: _lambda_layer(),
    "a class of another module": lambda config: config | {"module": "evil", "class_name": "Evil", "registered_name": "Evil"},
    "a function of another module": lambda config: {"module": "builtins", "class_name": "function", "config": "shell", "registered_name": "evil>shell"},
    "a command": lambda config: {"module": "os", "class_name": "system", "config": {"command": "touch owned"}, "registered_name": "system"},
    "a class inside": lambda config: config | {"config": config["config"] | {"dtype": {"module": "evil", "class_name": "Evil", "config": {}, "registered_name": "Evil"}}},
}  # fmt: skip


def _lambda_layer():
    """Python byte code that a Lambda layer runs when it is called."""
    model = keras.Sequential([keras.Input((3,)), keras.layers.Lambda(lambda x: (open("owned", "w").close(), x)[1])])
    return keras.saving.serialize_keras_object(model)


@pytest.mark.parametrize("kind", HOSTILE)
def test_loading_a_run_runs_nothing_that_is_inside_it(tmp_path, monkeypatch, kind):
    """Catches: `safe_mode=False`, a class or function found by the name that a file gives, unpickling."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "evil.py").write_text(EVIL)
    run = Run.create("runs", "hostile")
    run.save_model(MLPActorCritic((3,), 2, width=4), "policy")
    with zipfile.ZipFile(run.checkpoint("policy")) as honest, zipfile.ZipFile(run.checkpoint("other"), "w") as hostile:
        for name in honest.namelist():
            content = honest.read(name)
            hostile.writestr(name, json.dumps(HOSTILE[kind](json.loads(content))) if name == "config.json" else content)
    (tmp_path / "owned").unlink(missing_ok=True)
    with pytest.raises(InputError, match="other.keras"):
        load_policy(run, "other")
    assert not (tmp_path / "owned").exists()
    assert isinstance(load_policy(run, "policy"), MLPActorCritic)


def test_a_hostile_tokenizer_is_refused(tmp_path):
    """Catches: a traceback for a file that SentencePiece cannot read."""
    path = tmp_path / "tokenizer.model"
    path.write_bytes(pickle.dumps(print))
    with pytest.raises(InputError, match="tokenizer.model"):
        Tokenizer.load(str(path))


@pytest.mark.parametrize("content", ['{"seed": ', "[1, 2]", "\udc80", "[" * 100_000, '{"seed": "abc"}', '{"network": 5}', '{"ppo": {"epochs": []}}'])
def test_a_damaged_config_is_named(tmp_path, content):
    """Catches: a traceback for a file that is cut off, holds something else (however deep), or is no UTF-8."""
    (tmp_path / "config.json").write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(InputError, match="config.json"):
        Run(tmp_path).load_settings(GenerationConfig)


def test_other_metrics_than_the_header_has(tmp_path):
    """Catches: a reward that returns other parts after `--resume`, whose numbers then stand in the columns of others."""
    run = Run.create(tmp_path, "first")
    run.append_metrics({"iteration": 1, "reward/a": 0.5, "reward/b": 0.25})
    run.append_metrics({"iteration": 2, "reward/b": 1.0, "reward/a": 0.0})
    assert (run.folder / "metrics.csv").read_text().splitlines() == ["iteration,reward/a,reward/b", "1,0.5,0.25", "2,0.0,1.0"]
    before = (run.folder / "metrics.csv").read_bytes()
    for row, said in (
        ({"reward/a": 0.5}, "reward/b is no longer measured"),
        ({"reward/a": 0.5, "reward/b": 1.0, "reward/c": 1.0}, "reward/c is only now measured"),
    ):
        with pytest.raises(ResumeError, match=said):
            run.append_metrics({"iteration": 3} | row)
    assert (run.folder / "metrics.csv").read_bytes() == before
