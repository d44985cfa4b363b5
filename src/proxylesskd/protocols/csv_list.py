"""Lists of images as CSV with a header."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from proxylesskd.errors import UserError

MAX_BYTES = 256 << 20
Row = dict[str, str]


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
        columns: that it must have; others are passed over.
        filled: of these, those that may not be empty in any line; all unless given.

    Returns:
        One dictionary a line, with all its columns, without spaces around values.

    Raises:
        UserError: no such file, larger than 256 MiB, a column is missing, a line is of another length or lacks a value,
            or there is no line.
    """
    found = read_header(path)
    missing = [name for name in columns if name not in found]
    if missing:
        raise UserError(f"expected the columns {','.join(columns)} in '{path}', found {','.join(found)[:80]}")
    if path.stat().st_size > MAX_BYTES:
        raise UserError(f"expected a list in '{path}', found more than {MAX_BYTES >> 20} MiB")
    try:
        reader = csv.reader(io.StringIO(path.read_text(encoding="utf-8-sig"), newline=""))
        next(reader)
        rows = [_row(path, reader.line_num, found, values, filled or columns) for values in reader if values]
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"expected comma-separated lines of UTF-8 text in '{path}', found: {error}") from error
    if not rows:
        raise UserError(f"expected lines below the header of '{path}', found none")
    return rows


def _row(path: Path, line: int, columns: Sequence[str], values: Sequence[str], filled: Sequence[str]) -> Row:
    if len(values) != len(columns):
        raise UserError(f"expected {len(columns)} values in line {line} of '{path}', found {len(values)}")
    row = {name: value.strip() for name, value in zip(columns, values, strict=True)}
    empty = [name for name in filled if not row[name]]
    if empty:
        raise UserError(f"expected a value for {empty[0]} in line {line} of '{path}', found none")
    return row


def one_of(row: Row, column: str, known: Sequence[str], path: Path) -> str:
    """Return the value of a column that has few.

    Raises:
        UserError: it is another.
    """
    if row[column] not in known:
        raise UserError(f"expected {column} {', '.join(known)} in '{path}', found '{row[column]}' for '{row['path']}'")
    return row[column]
