"""A list of images as CSV, ``path,label``, parsed into arrays.

Lists have millions of lines, so pyarrow reads them where it is installed; the standard library, several times slower,
elsewhere.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from proxylesskd.errors import UserError, nearest

Ints = npt.NDArray[np.int64]
PATHS, LABELS = ("path", "image"), ("label", "identity")
MAX_BYTES = 4 << 30
MAX_HEADER = 1 << 16
MAX_FIELD = 1 << 16
MAX_NAME = 1000


@dataclass(frozen=True)
class Table:
    """The rows of a list.

    Attributes:
        text: all paths in UTF-8, one behind the other; apart they would take several times the memory.
        edges: ``[N + 1] int64``, where each path begins in ``text``, and where the last one ends.
        labels: ``[N] int64``, places in ``names``.
        names: labels as text, in the order in which they appear.
    """

    text: bytes
    edges: Ints
    labels: Ints
    names: list[str]

    def path(self, index: int) -> str:
        """Return the path in row ``index``."""
        return self.text[self.edges[index] : self.edges[index + 1]].decode()


@dataclass(frozen=True)
class _Header:
    """The names of the columns, which of them are meant, and what stands between them."""

    columns: list[str]
    path: int
    label: int
    delimiter: str


def _header(path: Path) -> _Header:
    with path.open("rb") as file:
        line = file.readline(MAX_HEADER).decode("utf-8-sig").rstrip("\r\n")
    delimiter = "\t" if "\t" in line else ","
    columns = [word.strip() for word in next(csv.reader([line], delimiter=delimiter), [])]
    path_at = [place for place, word in enumerate(columns) if word in PATHS]
    label_at = [place for place, word in enumerate(columns) if word in LABELS]
    if len(path_at) != 1 or len(label_at) != 1 or len(set(columns)) != len(columns):
        hint = "".join(nearest(word, PATHS + LABELS) for word in columns[:1] if word not in PATHS)
        raise UserError(
            f"expected a header with {' or '.join(PATHS)} and {' or '.join(LABELS)} once each in '{path}', found "
            f"{line[:80]!r}{hint}"
        )
    return _Header(columns, path_at[0], label_at[0], delimiter)


def _by_arrow(path: Path, header: _Header) -> Table:
    import pyarrow as pa
    import pyarrow.csv as arrow_csv

    wanted = [header.columns[header.path], header.columns[header.label]]
    table = arrow_csv.read_csv(
        path,
        arrow_csv.ReadOptions(use_threads=False, column_names=header.columns, skip_rows=1),
        arrow_csv.ParseOptions(delimiter=header.delimiter, newlines_in_values=True),
        arrow_csv.ConvertOptions(include_columns=wanted, column_types=dict.fromkeys(wanted, pa.large_string())),
    )
    paths = table.column(0).combine_chunks()
    labels = table.column(1).combine_chunks().dictionary_encode()
    if not len(paths):
        return Table(b"", np.zeros(1, np.int64), np.zeros(0, np.int64), [])
    _, edges, text = paths.buffers()
    edges = np.frombuffer(edges, np.int64)[paths.offset : paths.offset + len(paths) + 1]
    start = int(edges[0])
    used = bytes(memoryview(text)[start : int(edges[-1])]) if text is not None else b""
    return Table(used, edges - start, labels.indices.to_numpy().astype(np.int64), labels.dictionary.to_pylist())


def _rows(path: Path, header: _Header) -> Iterator[tuple[str, str]]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        next(file)
        for number, row in enumerate(csv.reader(file, delimiter=header.delimiter), start=1):
            if row and len(row) != len(header.columns):
                raise ValueError(f"{len(row)} columns in row {number}, {len(header.columns)} in the header")
            if row:
                yield row[header.path], row[header.label]


def _by_standard_library(path: Path, header: _Header) -> Table:
    text, ends, labels = bytearray(), [0], []
    names: dict[str, int] = {}
    for where, label in _rows(path, header):
        text += where.encode()
        ends.append(len(text))
        labels.append(names.setdefault(label, len(names)))
    return Table(bytes(text), np.array(ends, np.int64), np.array(labels, np.int64), list(names))


def _parse(path: Path) -> Table:
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"more than {MAX_BYTES >> 30} GiB")
    header = _header(path)
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        return _by_standard_library(path, header)
    return _by_arrow(path, header)


def read_table(path: Path) -> Table:
    """Read a list of images.

    UTF-8 with or without a byte-order mark, commas or tabs between the columns, quotes as in RFC 4180, empty lines
    passed over, further columns ignored.

    Raises:
        UserError: not readable, no such header, rows of another length, no rows, or an empty path or label.
    """
    try:
        table = _parse(path)
    except UnicodeDecodeError as error:
        raise UserError(f"expected a list in UTF-8 at '{path}', found byte {error.object[error.start]:#x}") from error
    except OSError as error:
        raise UserError(f"expected a readable list at '{path}', found: {error.strerror or error}") from error
    except (ValueError, csv.Error, MemoryError) as error:  # pyarrow's errors are ValueErrors too
        raise UserError(f"expected a list 'path,label' at '{path}', found {_brief(error)}") from error
    _check(table, path)
    return table


def _brief(error: Exception) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__


def _check(table: Table, path: Path) -> None:
    lengths = np.diff(table.edges)
    if not len(lengths):
        raise UserError(f"expected images in '{path}', found a header alone")
    if not lengths.all() or lengths.max() > MAX_FIELD:
        row = int(np.flatnonzero((lengths == 0) | (lengths > MAX_FIELD))[0])
        raise UserError(f"expected a path in each row of '{path}', found {lengths[row]} bytes in row {row + 1}")
    if b"\0" in table.text:
        raise UserError(f"expected paths in '{path}', found a zero byte in one")
    wrong = [name for name in table.names if not name or len(name) > MAX_NAME]
    if wrong:
        row = int(np.flatnonzero(table.labels == table.names.index(wrong[0]))[0])
        raise UserError(f"expected a label in each row of '{path}', found {wrong[0][:40]!r} in row {row + 1}")


def leading_out(table: Table, root: str) -> Iterator[tuple[int, str]]:
    """Yield the rows, and their paths, that lead out of ``root``, by ``..`` or by being absolute."""
    first = np.frombuffer(table.text, np.uint8)[table.edges[:-1]]
    suspects = set(np.flatnonzero(first == ord("/")).tolist())
    if b".." in table.text:
        suspects |= {row for row in range(len(first)) if ".." in table.path(row)}
    top = os.path.abspath(root)  # noqa: PTH100 - Path.resolve would follow links, which only the user can have made
    for row in sorted(suspects):
        path = table.path(row)
        whole = os.path.abspath(os.path.join(top, path))  # noqa: PTH100, PTH118
        if os.path.commonpath([top, whole]) != top:
            yield row, path
