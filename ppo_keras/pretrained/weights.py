"""The weights of a checkpoint, read one tensor at a time, so that loading takes little more memory than they do. Pickle is never read.

What is not here: what the tensors mean to a network; quantised safetensors (GPTQ, AWQ, 8 bits), which are refused by name.
"""

import hashlib
from pathlib import Path

import ml_dtypes
import numpy as np

from ppo_keras.datasets.files import nearest, shorten_list
from ppo_keras.errors import InputError, require
from ppo_keras.pretrained.files import AGAIN, INDEX, needed, one_line, read_json, weight_files

DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}  # of safetensors; F8, integers: quantised


def open_weights(path):
    """Opens the weights of a checkpoint; no tensor is read yet.

    Args:
        path: a folder in Hugging Face's format, or a .gguf file; see `sources.find_checkpoint`.

    Returns:
        `Weights`.

    Raises:
        InputError: a file is missing, cut off or altered, or of an architecture that is not known.

    Example:
        weights = open_weights(smollm2())
        weights.config["hidden_size"]                        # 576
        weights.read("model.norm.weight").shape              # (576,)
    """
    path = Path(path)
    if path.is_dir():
        return SafetensorsWeights(path)
    from ppo_keras.pretrained.gguf_weights import GGUFWeights  # it builds on this file

    return GGUFWeights(path)


class Weights:
    """The tensors of a checkpoint by Hugging Face's names, such as `model.layers.0.self_attn.q_proj.weight` `(out, in)`.

    | attribute | what |
    |---|---|
    | `path` | the folder or the file |
    | `files` | the files that hold the weights |
    | `config` | what `config.json` says, a dict; of a GGUF file, the same in its terms |
    | `metadata` | of a GGUF file, all that it says, with its tokenizer; else {} |
    """

    def __init__(self, path, files, config, metadata=None):
        self.path, self.files, self.config, self.metadata = Path(path), list(files), config, metadata or {}
        self._shapes = {}  # name: shape; filled by those that inherit

    def names(self):
        """The names of all tensors, sorted."""
        return sorted(self._shapes)

    def __contains__(self, name):
        return name in self._shapes

    def __len__(self):
        return len(self._shapes)

    def shape(self, name):
        """The shape of a tensor, without reading it."""
        self._check(name)
        return self._shapes[name]

    def dtype(self, name):
        """How a tensor is stored, such as "bfloat16", or "Q4_1" in a GGUF file."""
        raise NotImplementedError

    def read(self, name, dtype=np.float32, rows=slice(None)):
        """Reads one tensor.

        Args:
            name: one of `names()`.
            dtype: what it is converted to: NumPy's, or "bfloat16".
            rows: which part of its first axis, a slice without a step.

        Returns:
            An array of its own, `shape(name)` where all rows are read.

        Raises:
            InputError: there is no such tensor, or it is damaged, or quantised in a way that is not known.
        """
        self._check(name)
        array = self._read(name, rows if rows == slice(None) else slice(*rows.indices(self._shapes[name][0])))  # safetensors wants an end that is there
        if np.dtype(array.dtype) != _numpy_dtype(dtype):
            with np.errstate(over="ignore"):  # said below
                array = array.astype(_numpy_dtype(dtype))
        require(np.isfinite(array).all(), f"{self._place(name)}: {name} has values that are not finite as {np.dtype(array.dtype).name}. {AGAIN}")
        return array

    def checksum(self):
        """The sha256 of the weight files' bytes, one after another, in hexadecimal: the same wherever the checkpoint lies."""
        digest = hashlib.sha256()
        for path in self.files:
            with open(path, "rb") as file:
                while block := file.read(1 << 20):
                    digest.update(block)
        return digest.hexdigest()

    def _read(self, name, rows):
        """Rows of the tensor as an array of their own, of any floating dtype."""
        raise NotImplementedError

    def _place(self, name):
        """The file that a tensor lies in, for the messages."""
        return self.path

    def _check(self, name):
        if name not in self._shapes:
            hint = nearest(name, self._shapes) or f" It has: {shorten_list(self.names(), 4)}."
            raise InputError(f"{self.path} has no tensor {name!r}.{hint}")


class SafetensorsWeights(Weights):
    """Those of a folder in Hugging Face's format: `model.safetensors`, or several files with their index."""

    def __init__(self, folder):
        super().__init__(folder, weight_files(folder), read_json(Path(folder) / "config.json"))
        self._home, self._stored = {}, {}  # name: the file that holds it, and how
        index = read_json(self.path / INDEX)["weight_map"] if (self.path / INDEX).exists() else None
        for path in self.files:
            with _open_safetensors(path) as file:
                held = set(file.keys())
                expected = held if index is None else {name for name, home in index.items() if home == path.name}
                lost = sorted(expected - held)
                require(not lost, f"{self.path / INDEX} puts {shorten_list(lost, 3)} into {path.name}, which does not hold it. {AGAIN}")
                for name in expected:
                    entry = file.get_slice(name)
                    self._home[name], self._stored[name], self._shapes[name] = path, entry.get_dtype(), tuple(entry.get_shape())

    def dtype(self, name):
        self._check(name)
        stored = self._stored[name]
        require(
            stored in DTYPES,
            f"{self._home[name]}: {name} is stored as {stored}; read are {', '.join(DTYPES)}. Use the checkpoint that is not quantised, such as one in BF16.",
        )
        return DTYPES[stored]

    def _read(self, name, rows):
        self.dtype(name)  # refuses what is quantised
        with _open_safetensors(self._home[name]) as file:  # closed again: what was read of a mapped file counts as this process's memory
            return file.get_tensor(name) if rows == slice(None) else file.get_slice(name)[rows]

    def _place(self, name):
        return self._home[name]


def _open_safetensors(path):
    """The open, memory-mapped file. The library checks its header: lengths, offsets, gaps and overlaps."""
    safetensors = needed("safetensors")
    try:
        with open(path, "rb") as file:
            pointer = file.read(40).startswith(b"version https://git-lfs")
        require(not pointer, f"{path} is a pointer of Git LFS, not the weights. Run git lfs pull in its folder.")
        return safetensors.safe_open(path, framework="np")
    except (safetensors.SafetensorError, OSError) as error:
        raise InputError(f"{path} is no whole safetensors file ({one_line(error)}). {AGAIN}") from error


def _numpy_dtype(dtype):
    return np.dtype(ml_dtypes.bfloat16 if isinstance(dtype, str) and dtype == "bfloat16" else dtype)
