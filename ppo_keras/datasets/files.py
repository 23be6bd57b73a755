"""Reads a user's file of texts into a table. What a mistake in the file is called, and in which line it is, is said here."""

import collections
import csv
import difflib
import io
import json
import os
import re
from typing import NamedTuple

from ppo_keras.errors import InputError

SEPARATORS = (  # sign, name, what to do where a file's own is another
    ("\t", "tabs", "name the file {}.tsv"),
    (",", "commas", "name the file {}.csv"),
    (";", "semicolons", "save it with commas"),
)
NO_TEXT_FILES = {  # how they begin
    b"PK\x03\x04": "a zip archive or an Excel workbook",
    b"\x1f\x8b": "a gzip archive",
    b"PAR1": "a Parquet file",
}


class Table(NamedTuple):
    """The rows of a file.

    Attributes:
        columns: the names of the columns.
        rows: a list of values for each row, in the order of `columns`. None stands for a value that JSON left out.
        lines: the line of the file in which each row ends, counted from 1.
    """

    columns: list[str]
    rows: list[list]
    lines: list[int]


def read_table(path):
    """Reads a .txt (one text a line, column "text"), .csv (quoted as in RFC 4180), .tsv (never quoted) or .jsonl file.

    Args:
        path: a file in UTF-8, with or without a byte order mark. Empty lines are skipped.

    Returns:
        A `Table` of at least one row.

    Raises:
        InputError: the file is missing, of an unknown kind, not UTF-8, empty, or one of its lines cannot be read.
    """
    path = os.fspath(path)
    extension = os.path.splitext(path)[1].lower()
    if os.path.isdir(path):
        raise InputError(f"{path} is a folder. Give one file: .txt (one text a line), .csv, .tsv or .jsonl.")
    if not os.path.exists(path):
        raise InputError(f"no file {path}. {_hint_for_missing_file(path)}")
    if extension not in _READERS:
        raise InputError(f"{path} ends in {extension or 'no extension'!r}. Use .txt (one text a line), .csv, .tsv or .jsonl.")
    try:
        with open(path, "rb") as file:
            content = file.read()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}.") from error
    if not content:
        raise InputError(f"{path} is empty. Put one text on each line.")
    text = _without_marks(_decode(content, path))
    if not text.strip():
        raise InputError(f"{path} holds only empty lines. Put one text on each line.")
    table = _READERS[extension](text, path)
    if not table.rows:
        raise InputError(f"{path} has a header but no rows below it. Put one text on each line below.")
    return table


def nearest(name, names, lead=" Did you mean {}?"):
    """A hint at the known name closest to a misspelt one, or an empty string where none is close."""
    by_folded = {known.casefold(): known for known in names}
    close = difflib.get_close_matches(name.casefold(), by_folded, n=1, cutoff=0.6)
    return lead.format(repr(by_folded[close[0]])) if close else ""


def shorten_list(names, limit=12):
    """The names joined by commas, cut after `limit`; a name is cut after 40 characters."""
    shown = ", ".join(name if len(name) <= 40 else name[:37] + "..." for name in names[:limit])
    return shown + (f" and {len(names) - limit} more" if len(names) > limit else "")


def _hint_for_missing_file(path):
    folder, name = os.path.split(os.path.abspath(path))
    if not os.path.isdir(folder):
        return f"There is no folder {folder} either."
    return nearest(name, os.listdir(folder)).strip() or f"Look into {folder}, or give the full path."


def separator_hint(columns, path):
    """What to do where a header is one name with another separator in it than the file's; else an empty string."""
    if len(columns) == 1:
        for sign, names, remedy in SEPARATORS:
            if sign in columns[0]:
                return f" Its header is separated by {names}: {remedy.format(os.path.splitext(path)[0])}."
    return ""


def _decode(content, path):
    for begin, kind in NO_TEXT_FILES.items():
        if content.startswith(begin):
            raise InputError(f"{path} is {kind}, not a file of texts. Save what is in it as .csv, .tsv or .jsonl, in UTF-8.")
    if b"\0" in content and content[:2] not in (b"\xff\xfe", b"\xfe\xff"):
        start = content.index(b"\0")
        nearly_half = content.count(b"\0") > len(content) // 5
        guess = "UTF-16LE" if start % 2 else "UTF-16BE"
        remedy = f"It looks like {guess}: {_convert(guess, path)}" if nearly_half else "Write it as plain text in UTF-8, without NUL bytes."
        raise InputError(f"{path} is no plain text: a NUL byte in line {_line_of(content, start)} (byte {start + 1} of the file). {remedy}")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # "utf-8-sig" counts from behind the byte order mark.
        start = error.start + (3 if content.startswith(b"\xef\xbb\xbf") else 0)
        guess = "UTF-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "WINDOWS-1252"
        raise InputError(
            f"{path} is not UTF-8: byte 0x{content[start]:02x} in line {_line_of(content, start)} (byte {start + 1} of the file). "
            f"Convert it, for example: {_convert(guess, path)} (Chinese text is often GB18030)."
        ) from error


def _convert(encoding, path):
    return f"iconv -f {encoding} -t UTF-8 {path} > utf8_{os.path.basename(path)}"


def _line_of(content, start):
    return len(re.findall(rb"\r\n|\r|\n", content[:start])) + 1


def _without_marks(text):
    """The text without byte order marks where a line begins: files that were put together keep those of their parts."""
    return re.sub("(^|[\r\n])\ufeff+", r"\1", text)


def _numbered_lines(text):
    """The lines that are not empty, with their numbers. `str.splitlines` would also break at U+2028 inside a text."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return [(number, line) for number, line in enumerate(lines, 1) if line.strip()]


def _read_txt(text, path):
    del path  # no line of a .txt file can be wrong
    numbers, lines = zip(*_numbered_lines(text))
    return Table(["text"], [[line] for line in lines], list(numbers))


def _read_tsv(text, path):
    records = [(number, line.split("\t")) for number, line in _numbered_lines(text)]
    return _with_header(records, path, "A tab inside a text must become a space.")


def _read_csv(text, path):
    # strict: a quote that is never closed is an error, and does not swallow the rest of the file.
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    records, limit = [], csv.field_size_limit(min(len(text) + 1, 2**31 - 1))  # a text may be longer than csv's 131,072 characters
    try:
        for record in reader:
            if any(field.strip() for field in record):
                records.append((reader.line_num, record))
    except csv.Error as error:
        raise InputError(f"{path}, line {reader.line_num}: {error}. Check the double quotes: one inside a quoted text is written twice.") from error
    finally:
        csv.field_size_limit(limit)
    return _with_header(records, path, "A text with a comma in it must stand in double quotes.")


def _with_header(records, path, advice):
    (_, columns), *records = records
    columns = [name.strip() for name in columns]
    for name, count in collections.Counter(columns).items():
        if name and count > 1:
            raise InputError(f"{path}: the header names {name!r} {count} times. Give each column a name of its own.")
    for number, record in records:
        if len(record) != len(columns):
            raise InputError(f"{path}, line {number}: {len(record)} fields, but the header names {len(columns)}. {advice}")
        if len(columns) > 1 and [field.strip() for field in record] == columns:
            raise InputError(f"{path}, line {number}: the header once more, as where two files were put together. Remove this line.")
    return Table(columns, [record for _, record in records], [number for number, _ in records])


def _read_jsonl(text, path):
    objects, numbers = [], []
    for number, line in _numbered_lines(text):
        try:
            value = json.loads(line, object_pairs_hook=_object)
        except json.JSONDecodeError as error:
            raise InputError(f"{path}, line {number}: not JSON ({error.msg}). Write one object a line.") from error
        except (ValueError, RecursionError) as error:  # a name that comes twice, thousands of digits, thousands of brackets
            raise InputError(f"{path}, line {number}: {error}. Correct this line, or remove it.") from error
        if not isinstance(value, dict):
            kind = type(value).__name__
            raise InputError(f'{path}, line {number}: a JSON {kind}. Write one object a line, like {{"text": "..."}}.')
        objects.append(value)
        numbers.append(number)
    columns = list(dict.fromkeys(name for value in objects for name in value))
    return Table(columns, [[value.get(name) for name in columns] for value in objects], numbers)


def _object(pairs):
    """A JSON object as a dict. Of a name that comes twice, JSON itself would silently take the last value."""
    names = collections.Counter(name for name, _ in pairs)
    if len(names) < len(pairs):
        raise ValueError(f"the name {names.most_common(1)[0][0]!r} comes twice in one object")
    return dict(pairs)


_READERS = {".txt": _read_txt, ".tsv": _read_tsv, ".csv": _read_csv, ".jsonl": _read_jsonl}
