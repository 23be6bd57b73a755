"""A checkpoint of Hugging Face's hub, kept in `huggingface_hub`'s own cache.

Of a model safetensors and JSON are fetched, and its chat template, which is rendered in a sandbox: no pickle, no code.
"""

import os
from fnmatch import fnmatch
from pathlib import Path

from ppo_keras.datasets.files import shorten_list
from ppo_keras.datasets.prepared import check_reachable
from ppo_keras.errors import InputError, require
from ppo_keras.pretrained.files import advice_on_other_weights, check_folder, check_space, needed, no_room, one_line

WANTED = ["model*.safetensors", "*.json", "chat_template.jinja"]
UNWANTED = ["*/*"]  # the same weights for other programs lie in folders
CONNECT_SECONDS, ANSWER_SECONDS = 3, 5  # 10 together with what Python takes
OTHERWISE = "give a folder or a .gguf file of yours, or smollm2, which comes by pip"


def from_hub(repository, revision, progress):
    """The folder of a model on the hub, in the hub's cache; fetched where it is not there, or not the newest, and the hub can be reached.

    Args:
        repository: "owner/model".
        revision: a branch, tag or commit; None for the newest.
        progress: called with bytes done and bytes in all.

    Raises:
        InputError: there is no such model, none in safetensors, no room, or neither a network nor the model in the cache.
    """
    hub = needed("huggingface_hub")
    from huggingface_hub import constants

    endpoint = (os.environ.get("HF_ENDPOINT") or constants.ENDPOINT).rstrip("/")
    where = {"repo_id": repository, "revision": revision, "allow_patterns": WANTED, "ignore_patterns": UNWANTED, "endpoint": endpoint}
    why = "HF_HUB_OFFLINE is set"  # it cannot be asked
    try:
        try:
            found = None if constants.HF_HUB_OFFLINE else _ask(hub, endpoint, repository, revision)
        except Unreachable as error:
            found, why = None, one_line(error)
        if found is None:
            folder = hub.snapshot_download(**where, local_files_only=True)
        else:
            folder = hub.snapshot_download(**where, etag_timeout=ANSWER_SECONDS, tqdm_class=_bars(progress, _check_listing(repository, found)))
    except InputError:
        raise
    except Exception as error:  # of the hub, or of httpx in the middle of a file
        raise InputError(_explain(error, repository, revision, endpoint, why)) from error
    return check_folder(Path(folder))


def config_from_hub(repository, revision):
    """The `config.json` of a model on the hub, in the hub's cache; fetched where it is not there, or not the newest, and the hub can be reached.

    Args, Raises: see `from_hub`.
    """
    hub = needed("huggingface_hub")
    from huggingface_hub import constants

    endpoint, why = (os.environ.get("HF_ENDPOINT") or constants.ENDPOINT).rstrip("/"), "HF_HUB_OFFLINE is set"
    try:
        try:
            found = None if constants.HF_HUB_OFFLINE else _ask(hub, endpoint, repository, revision)
        except Unreachable as error:
            found, why = None, one_line(error)
        listed = found is None or any(file.rfilename == "config.json" for file in found.siblings or [])
        require(listed, f"{repository} on the hub has no config.json. Take another model.")
        where = dict(revision=revision, endpoint=endpoint, etag_timeout=ANSWER_SECONDS, local_files_only=found is None)
        return Path(hub.hf_hub_download(repository, "config.json", **where))
    except InputError:
        raise
    except Exception as error:  # of the hub, or of httpx in the middle of a file
        raise InputError(_explain(error, repository, revision, endpoint, why)) from error


class Unreachable(Exception):
    """The hub gives no answer that can be used: the cache is all there is."""


def _ask(hub, endpoint, repository, revision):
    """The hub's `ModelInfo`, with sizes; or `Unreachable` within seconds."""
    from huggingface_hub import errors

    try:
        check_reachable(endpoint, CONNECT_SECONDS)
        return hub.HfApi(endpoint=endpoint).model_info(repository, revision=revision, files_metadata=True, timeout=ANSWER_SECONDS)
    except (errors.HFValidationError, errors.RepositoryNotFoundError, errors.RevisionNotFoundError):  # an answer
        raise
    except Exception as error:  # of requests, of httpx, of a server in trouble
        raise Unreachable(one_line(error)) from error


def _explain(error, repository, revision, endpoint, why):
    """What an error of `huggingface_hub` means, and what to do."""
    from huggingface_hub import constants, errors

    if isinstance(error, errors.HFValidationError):
        return f"{repository!r} is no name on the hub ({one_line(error)}). Give one such as HuggingFaceTB/SmolLM2-135M-Instruct."
    if isinstance(error, errors.GatedRepoError):
        return f"{repository} is for those only who accept its terms. Accept them at {endpoint}/{repository}, then run: hf auth login."
    if isinstance(error, errors.RepositoryNotFoundError):
        return f"{endpoint} has no model {repository!r}, or it is private. Check the name, or run: hf auth login."
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{repository} has no revision {revision!r}. Leave it out for the newest."
    if isinstance(error, errors.LocalEntryNotFoundError):
        advice = "Unset HF_HUB_OFFLINE where there is a network" if constants.HF_HUB_OFFLINE else "Set HF_ENDPOINT to a mirror that can be reached"
        return f"{repository} is not whole in the cache, and {endpoint} cannot be asked ({why}). {advice}, or {OTHERWISE}."
    if isinstance(error, OSError) and error.errno:
        return no_room(constants.HF_HUB_CACHE, error)
    return f"{repository} cannot be fetched ({one_line(error)}). Run it again: what came stays in the cache."


def _check_listing(repository, found):
    """Refuses, before anything is fetched, a model on the hub without safetensors, and one for which there is no room. Returns the bytes to fetch.

    Args:
        repository: its name.
        found: the hub's `ModelInfo`, with sizes.
    """
    from huggingface_hub import constants, try_to_load_from_cache

    sizes = {file.rfilename: file.size or 0 for file in found.siblings or []}
    plain = sorted(name for name in sizes if "/" not in name)
    if "config.json" not in plain or not any(fnmatch(name, WANTED[0]) for name in plain):
        lacking = "weights in safetensors" if "config.json" in plain else "config.json"
        advice = advice_on_other_weights(plain) or f"It has {shorten_list(plain, 6) or 'nothing'}. Take another model."
        raise InputError(f"{repository} on the hub has no {lacking}. {advice}")
    wanted = [name for name in plain if any(fnmatch(name, pattern) for pattern in WANTED)]
    lacking = [name for name in wanted if not isinstance(try_to_load_from_cache(repository, name, revision=found.sha), str)]
    total = sum(sizes[name] for name in lacking)
    check_space(constants.HF_HUB_CACHE, total)
    return total


def _bars(progress, total):
    """A class of progress bars for `huggingface_hub`, which draws nothing and calls `progress` with the bytes that are written."""
    from tqdm import tqdm

    most = 0  # of the bars: one counts what is received, another what is written

    class Bar(tqdm):
        def __init__(self, *args, **options):
            options.pop("name", None)
            self.of_bytes, self.done = options.get("unit") == "B", 0
            super().__init__(*args, **options | {"disable": True})

        def update(self, n=1):
            nonlocal most
            self.done += n or 0
            if self.of_bytes and most < self.done <= total:
                most = self.done
                progress(most, total)

    return Bar
