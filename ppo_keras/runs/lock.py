"""The lock of a run: one process at a time trains it.

The lock of `runs/NAME` is the file `runs/.NAME.lock`, locked by the operating system for as long as its process lives: one
that was killed holds nothing any more, though the file may be left. It lies beside the folder, not inside, because
`--overwrite` renames the folder and may put it back. In it stands who holds it, as JSON.

The process number is shown and never looked up: on another host, or after a while, it means another process or none.
Between hosts the lock is as good as the file system: NFS keeps it where its lock service runs (not when mounted `nolock`).
Where a file system has no locks, a `LockWarning` says so, and the run goes on without.
"""

import contextlib
import datetime
import errno
import json
import os
import socket
import warnings
from pathlib import Path

from ppo_keras.errors import InputError, LockWarning

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP)  # what a file system answers that has none
_open = set()  # descriptors of the locks that this process holds


@contextlib.contextmanager
def held(folder):
    """Holds the lock of a run. The folder that the run lies in must exist.

    Args:
        folder: of the run, or of one of its seeds: all seeds have the lock of their run.

    Raises:
        InputError: another process (or thread) holds it; says which.
    """
    path = lock_file(folder)
    file = _acquire(path, folder)
    if file is None:
        warnings.warn(f"the file system of {path.parent} has no locks: see to it that nothing else trains {folder}.", LockWarning, stacklevel=3)
        yield
        return
    _open.add(file)
    try:
        holder = {"process": os.getpid(), "host": socket.gethostname(), "since": f"{datetime.datetime.now():%Y-%m-%d %H:%M:%S}"}
        os.ftruncate(file, 0)
        os.write(file, json.dumps(holder).encode())
        yield
    finally:
        _open.discard(file)
        _release(file, path)


def check_free(folder):
    """Raises `InputError` where the lock of a run is held. Creates nothing."""
    path = lock_file(folder)
    with contextlib.suppress(FileNotFoundError):  # nobody ever held it, or it was let go just now
        file = _acquire(path, folder, flags=os.O_RDWR)
        if file is not None:
            _release(file, path)


def lock_file(folder):
    """Where the lock of a run lies: one file, whatever links and names lead to the run."""
    folder = Path(os.path.realpath(folder))
    if folder.name.startswith("seed-") and (folder.parent / "config.json").exists():
        folder = folder.parent
    return folder.with_name(f".{folder.name}.lock")


def _acquire(path, folder, flags=os.O_RDWR | os.O_CREAT):
    """The file, open and locked; None where the file system has no locks. Raises `InputError` where another has it."""
    while True:
        file = os.open(path, flags, 0o666)
        try:
            _lock(file)
            if _lies_at(file, path):
                return file
        except BlockingIOError as error:
            message = f"{folder} is in use: {_holder(file)} trains it. Wait for its end or stop it; beside it, train under another --run name."
            os.close(file)
            raise InputError(message) from error
        except OSError as error:
            if error.errno not in NO_LOCKS:
                os.close(file)
                raise
            _release(file, path)
            return None
        os.close(file)  # its holder deleted it after we had opened it: it would keep out nobody


def _lock(file):
    """Locks an open file, or raises `BlockingIOError` at once."""
    if fcntl:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return
    import msvcrt

    os.lseek(file, 1 << 30, os.SEEK_SET)  # Windows keeps others from reading what is locked: a byte far behind the text
    try:
        msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
    except PermissionError as error:
        raise BlockingIOError(*error.args) from error
    finally:
        os.lseek(file, 0, os.SEEK_SET)


def _lies_at(file, path):
    """Whether an open file is the one that now lies at a path."""
    try:
        return os.path.samestat(os.fstat(file), os.stat(path))
    except FileNotFoundError:
        return False


def _holder(file):
    """Who holds the lock of an open file, in words."""
    try:
        holder = json.loads(os.read(file, 4096))
        return f"process {holder['process']} on {holder['host']}, since {holder['since']},"
    except (OSError, ValueError, KeyError, TypeError):  # it is being written, or somebody changed it
        return "another process"


def _release(file, path):
    """Deletes the file, then lets go: who opened it meanwhile finds that it lies there no more."""
    with contextlib.suppress(OSError):  # Windows deletes no file that is open: it stays, and does no harm
        path.unlink()
    os.close(file)


def _forget():
    """In a forked child: the lock is its parent's alone, and ends with it however long the child lives."""
    for file in _open:
        os.close(file)
    _open.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
