"""Finds a TFDS dataset on disk or prepares it, quietly, and fails within seconds where there is no network."""

import contextlib
import io
import os
import socket
import tempfile
import threading
import urllib.parse

from ppo_keras.datasets.files import nearest, shorten_list
from ppo_keras.errors import InputError

CONNECT_SECONDS = 6


def find_builder(name, data_dir=None):
    """The TFDS builder of a dataset, on the folder in which it is prepared or is to be prepared. Nothing is downloaded.

    Args:
        name: a TFDS name such as "imdb_reviews" or "glue/sst2", or "film_reviews/en".
        data_dir: the folder of prepared datasets. Default: the environment variable TFDS_DATA_DIR, else
            `~/tensorflow_datasets`, else, where neither can be written, a temporary folder.

    Returns:
        A `tfds.core.DatasetBuilder`.

    Raises:
        InputError: no such dataset, or no such configuration of it.
    """
    import tensorflow_datasets as tfds

    import ppo_keras.datasets.film_reviews
    import ppo_keras.datasets.phrases
    import ppo_keras.datasets.questions  # noqa: F401

    folders = _folders(data_dir)
    try:
        with _quiet():
            builders = [tfds.builder(name, data_dir=folder) for folder in folders]
    except tfds.core.registered.DatasetNotFoundError as error:
        # Community datasets are left out: their list would be fetched from the network.
        hint = nearest(name.split("/")[0], tfds.list_builders(with_community_datasets=False))
        raise InputError(f"TFDS has no dataset {name!r}.{hint} See https://www.tensorflow.org/datasets/catalog.") from error
    except Exception as error:  # whatever the code of one of 445 datasets raises
        raise InputError(_describe_failure(name, error)) from error
    with _quiet():
        prepared = [builder for builder in builders if builder.is_prepared()]
    if prepared:
        return prepared[0]
    return next((builder for builder, folder in zip(builders, folders) if _can_write(folder)), builders[0])


def prepare(builder, name):
    """Downloads and prepares a dataset unless it is prepared.

    Args:
        builder: from `find_builder`.
        name: the dataset as the user called it, for the messages.

    Raises:
        InputError: it cannot be downloaded (within seconds, where TFDS itself retries for minutes) or prepared.
    """
    import requests
    import tensorflow_datasets as tfds

    try:
        with _quiet(), _failing_quickly():
            builder.download_and_prepare()
    except (requests.exceptions.RequestException, tfds.download.DownloadError) as error:
        raise InputError(
            f"{name} is not in {builder.data_dir_root} and cannot be downloaded ({_first_line(error, 100)}). Where there is a "
            f"network, run: python -c \"import tensorflow_datasets as tfds; tfds.load('{name}')\", and copy the folder "
            "~/tensorflow_datasets to TFDS_DATA_DIR here; or give a file of your own with --data."
        ) from error
    except Exception as error:  # whatever the code of one of 445 datasets raises
        with _quiet():
            if builder.is_prepared():  # another process prepared it at the same time, and came first
                builder.info.read_from_directory(builder.data_dir)
                return
        raise InputError(f"{name} cannot be prepared in {builder.data_dir_root}: {_first_line(error, 200)}.") from error


def _folders(data_dir):
    """The folders to look into, the first choice first."""
    if data_dir is not None:
        return [os.path.expanduser(os.fspath(data_dir))]
    home = os.path.expanduser("~")
    chosen = os.environ.get("TFDS_DATA_DIR") or os.path.join(home, "tensorflow_datasets")
    # The user's name keeps apart the users of one machine: a folder of another user could not be written.
    temporary = os.path.join(tempfile.gettempdir(), f"tensorflow_datasets_{os.path.basename(home)}")
    ours = not hasattr(os, "getuid") or not os.path.exists(temporary) or os.stat(temporary).st_uid == os.getuid()  # no one else's data
    return [os.path.expanduser(chosen)] + [temporary] * ours


def _can_write(folder):
    """Whether a folder can be made and written. Tried, as permissions say nothing about a read-only file system."""
    try:
        os.makedirs(folder, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _describe_failure(name, error):
    import tensorflow_datasets as tfds

    dataset, _, config = name.partition("/")
    with contextlib.suppress(Exception):
        configs = list(tfds.builder_cls(dataset).builder_configs)
        if config and configs and config.split(":")[0] not in configs:
            hint = nearest(config, configs)
            return f"the dataset {dataset} has no configuration {config!r}.{hint} It has: {shorten_list(configs)}."
    return f"TFDS cannot open {name!r}: {_first_line(error, 200)}."


def _first_line(error, length):
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
    return text.rstrip(".") if len(text) <= length else text[: length - 3] + "..."


@contextlib.contextmanager
def _quiet():
    """Without the progress bars, printed lines and warnings of TFDS: they would bury ours."""
    import absl.logging
    import tensorflow_datasets as tfds

    verbosity, bars = absl.logging.get_verbosity(), tfds.core.utils.tqdm_utils._active
    absl.logging.set_verbosity(absl.logging.ERROR)
    tfds.display_progress_bar(False)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        tfds.display_progress_bar(bars)
        absl.logging.set_verbosity(verbosity)


@contextlib.contextmanager
def _failing_quickly():
    """TFDS with 2 retries instead of 10, and a host that does not answer given up after `CONNECT_SECONDS`."""
    from tensorflow_datasets.core.download import downloader

    retries, open_url = downloader.MAX_RETRIES, downloader._open_url

    def open_if_reachable(url, **options):
        if not url.startswith("ftp"):
            check_reachable(url)
        return open_url(url, timeout=60, **options)  # seconds of silence in mid-download

    downloader.MAX_RETRIES, downloader._open_url = 2, open_if_reachable
    try:
        yield
    finally:
        downloader.MAX_RETRIES, downloader._open_url = retries, open_url


def check_reachable(url, seconds=CONNECT_SECONDS):
    """Raises `requests.exceptions.ConnectionError` unless the host of a URL, or the proxy to it, accepts a connection within seconds.

    In a thread: looking up a name has no time limit of its own, and a host with many addresses gets the limit for each.
    """
    import requests

    proxy = requests.utils.select_proxy(url, requests.utils.get_environ_proxies(url))
    parts = urllib.parse.urlsplit(proxy or url)
    failures = [f"{parts.hostname} does not answer"]

    def connect():
        try:
            port = parts.port or (443 if parts.scheme == "https" else 80)
            socket.create_connection((parts.hostname, port), timeout=seconds).close()
            failures.clear()
        except OSError as error:
            failures[:] = [f"{parts.hostname}: {error.strerror or error}"]

    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(seconds)
    if failures:
        raise requests.exceptions.ConnectionError(failures[0])
