"""Lists of images as CSV with a header."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

from proxylesskd.errors import UserError, nearest

MAX_BYTES = 256 << 20
MAX_LINES = 4_000_000
Row = tuple[str, ...]


def read_header(path: Path) -> tuple[str, ...]:
    """Return the names of the columns.

    Raises:
        UserError: no such file, not UTF-8 text, or no header.
    """
    if not path.is_file():
        raise UserError(f"expected a CSV, found no file '{path}'")
    with path.open("rb") as file:
        line = file.readline(1 << 16)
    try:
        return tuple(name.strip() for name in next(csv.reader([line.decode("utf-8-sig")]), ()))
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"expected a CSV with a header in '{path}', found: {error}") from error


def read_rows(path: Path, columns: Sequence[str], filled: Sequence[str] | None = None) -> list[Row]:
    """Read a list.

    Args:
        path: the CSV.
        columns: wanted; others are passed over.
        filled: of these, those that may not be empty in any line; all unless given.

    Returns:
        The wanted values of each line, in the order of ``columns``, without spaces around them.

    Raises:
        UserError: no such file, larger than 256 MiB or four million lines, a column is missing, a line is of another
            length or lacks a value, or there is no line.
    """
    found = read_header(path)
    missing = [name for name in columns if name not in found]
    if missing:
        raise UserError(f"expected the columns {','.join(columns)} in '{path}', found {','.join(found)[:80]}")
    if path.stat().st_size > MAX_BYTES:
        raise UserError(f"expected a list in '{path}', found more than {MAX_BYTES >> 20} MiB")
    wanted = [(found.index(name), name in (filled or columns)) for name in columns]
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(islice(_rows(path, file, len(found), wanted, found), MAX_LINES + 1))
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"expected comma-separated lines of UTF-8 text in '{path}', found: {error}") from error
    if not 0 < len(rows) <= MAX_LINES:
        told = "none" if not rows else "more"
        raise UserError(f"expected lines below the header of '{path}', {MAX_LINES:,} at most, found {told}")
    return rows


def _rows(
    path: Path, file: Iterable[str], width: int, wanted: Sequence[tuple[int, bool]], names: Sequence[str]
) -> Iterator[Row]:
    reader = csv.reader(file)
    next(reader)
    for values in filter(None, reader):
        if len(values) != width:
            raise UserError(f"expected {width} values in line {reader.line_num} of '{path}', found {len(values)}")
        # Interned, for a few identities and roles stand in millions of lines.
        row = tuple(sys.intern(values[column].strip()) for column, _ in wanted)
        if not all(value or not needed for value, (_, needed) in zip(row, wanted, strict=True)):
            empty = next(names[column] for column, needed in wanted if needed and not values[column].strip())
            raise UserError(f"expected a value for {empty} in line {reader.line_num} of '{path}', found none")
        yield row


def one_of(value: str, known: Sequence[str], column: str, path: Path) -> int:
    """Return the position of a value in a column that has few.

    Raises:
        UserError: it is another.
    """
    if value not in known:
        wanted = " or ".join(known)
        raise UserError(f"expected {column} {wanted} in '{path}', found '{value[:80]}'{nearest(value[:80], known)}")
    return known.index(value)
