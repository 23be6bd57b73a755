"""The GGUF format: what a file says of itself, and where its tensors lie in it.

`gguf.GGUFReader` reads the same. It takes 3 s and 100 MB for the 150,000 strings of a tokenizer, and behind the end of a file that was
cut off it goes on with nothing, at worst for ever. Format: github.com/ggml-org/ggml, docs/gguf.md.
"""

import math
import struct
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ppo_keras.errors import InputError, require
from ppo_keras.pretrained.files import AGAIN, needed, one_line

SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}  # kind of a value: its code in `struct`
TEXT, ARRAY = 8, 9

AT_ONCE = 1 << 20  # values of a tensor that are read at a time


class Tensor(NamedTuple):
    """One tensor in a GGUF file."""

    name: str
    kind: int  # a `gguf.GGMLQuantizationType`
    shape: tuple  # in NumPy's order, which is the reverse of the file's
    row: int  # bytes of a row
    path: Path
    place: int  # in the file

    def values(self, rows=slice(None)):
        """Its values, float32 of its shape, or some rows of them. Some rows are read at a time, so that little more memory is needed than they take; they are not mapped,
        for what was read of a mapped file counts as this process's memory."""
        from gguf import quants

        every, width = math.prod(self.shape[:-1]), self.shape[-1]
        first, end, _ = rows.indices(every)
        values, at_once = np.empty([end - first, width], np.float32), max(1, AT_ONCE // width)
        for begin in range(0, end - first, at_once):
            count = min(at_once, end - first - begin)
            data = np.fromfile(self.path, np.uint8, count * self.row, offset=self.place + (first + begin) * self.row)
            require(data.size == count * self.row, f"{self.path} has become shorter since it was opened. {AGAIN}")
            values[begin : begin + count] = quants.dequantize(data.reshape(count, self.row), self.kind)
        return values.reshape(self.shape if len(values) == every else values.shape)


def read_gguf(path):
    """Metadata, a dict, and tensors, {name: `Tensor`}, of a GGUF file. No weights are read.

    Raises:
        InputError: the file is none, or was cut off or altered so that something lies beyond its end or over another.
    """
    gguf = needed("gguf")
    require(path.is_file(), f"there is no file {path}. Give a .gguf file, or a folder in Hugging Face's format.")
    try:
        data = np.memmap(path, np.uint8, "r")  # of which the header is read
        header = _Header(memoryview(data))
        magic, version = header.numbers("4s", "I")
        _check(magic == b"GGUF", "it does not begin with GGUF")
        require(version % 2**16, f"{path} is big-endian. Use one in the usual order of bytes, or convert it: gguf-convert-endian.")
        _check(version in (2, 3), f"its version is {version}; 2 and 3 are known")
        tensors, pairs = header.numbers("Q", "Q")
        metadata = {header.text(): header.value(header.number("I")) for _ in range(pairs)}
        entries = [header.tensor() for _ in range(tensors)]
        alignment = metadata.get("general.alignment", 32)
        _check(alignment in [2**i for i in range(20)], f"its alignment is {alignment!r}")
        begin = -(-header.place // alignment) * alignment
        return metadata, _locate(path, len(data), begin, entries, gguf)
    except InputError:
        raise
    except (struct.error, ValueError, TypeError, KeyError, RecursionError, OSError) as error:
        raise InputError(f"{path} is no whole GGUF file ({one_line(error)}). {AGAIN}") from error


class _Header:
    """Reads what a GGUF file says, one value after another. What would lie beyond its end raises `struct.error` or `ValueError`."""

    def __init__(self, view):
        self.view, self.place = view, 0

    def numbers(self, *codes):
        return [self.number(code) for code in codes]

    def number(self, code):
        code = f"<{code}"
        (value,) = struct.unpack_from(code, self.view, self.place)
        self.place += struct.calcsize(code)
        return value

    def text(self):
        return str(self.bytes(self.number("Q")), "utf-8")

    def bytes(self, length):
        end = self.place + length
        _check(end <= len(self.view), f"byte {end} is needed, and it ends at {len(self.view)}")
        taken, self.place = self.view[self.place : end], end
        return taken

    def value(self, kind):
        if kind == TEXT:
            return self.text()
        if kind == ARRAY:
            inner, count = self.numbers("I", "Q")
            if inner in SCALARS:
                dtype = np.dtype(SCALARS[inner]).newbyteorder("<")
                return np.frombuffer(self.bytes(count * dtype.itemsize), dtype).tolist()
            return [self.value(inner) for _ in range(count)]
        _check(kind in SCALARS, f"before byte {self.place} it announces a value of kind {kind}")
        return self.number(SCALARS[kind])

    def tensor(self):
        """Its name, shape, kind and place behind the header."""
        name = self.text()
        shape = [self.number("Q") for _ in range(self.number("I"))]
        return (name, tuple(reversed(shape)), *self.numbers("I", "Q"))


def _locate(path, length, begin, entries, gguf):
    """{name: `Tensor`} of the entries of a header; `length` of the file in bytes, and `begin`, the byte from which places count."""
    tensors, end = {}, begin
    for name, shape, kind, place in sorted(entries, key=lambda entry: entry[3]):
        kind = gguf.GGMLQuantizationType(kind)
        block, size = gguf.GGML_QUANT_SIZES[kind]
        _check(shape and all(shape) and shape[-1] % block == 0, f"{name} of shape {shape} is not made of blocks of {block}")
        row, start = shape[-1] // block * size, begin + place
        _check(name not in tensors, f"{name} is there twice")
        _check(start >= end, f"{name} overlaps the tensor before it")
        end = start + math.prod(shape[:-1]) * row
        _check(end <= length, f"{name} ends at byte {end}, and the file at {length}")
        tensors[name] = Tensor(name, kind, shape, row, path, start)
    return tensors


def _check(condition, message):
    if not condition:
        raise ValueError(message)
