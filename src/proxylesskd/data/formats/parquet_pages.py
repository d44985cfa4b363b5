"""Where the pages of a Parquet column lie: one walk along their headers finds the page of every row.

A column chunk, which is what a row group holds of one column, is a chain of pages, each behind a header in Thrift's
compact protocol that says how long it is and how many values it holds.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from proxylesskd.data.formats import thrift
from proxylesskd.errors import CorruptImageError

Ints = npt.NDArray[np.int64]
MAX_PAGE_BYTES = 128 << 20
MAX_WORDS = 1 << 22
# What one Page takes in memory, its numbers and its place in a list counted.
PAGE_OBJECT_BYTES = 400
HEADER_BYTES, MAX_HEADER_BYTES = 512, 16 << 20
DATA, INDEX, DICTIONARY, DATA_V2 = range(4)
MAX_ENCODING = 9
PLAIN, POINTERS = 0, (2, 8)
CODECS = {
    "UNCOMPRESSED": "",
    "SNAPPY": "snappy",
    "GZIP": "gzip",
    "BROTLI": "brotli",
    "ZSTD": "zstd",
    "LZ4_RAW": "lz4_raw",
}


@dataclass(frozen=True)
class Chunk:
    """A column of one row group.

    Attributes:
        path: file.
        start: byte of its first page.
        size: bytes of all its pages with their headers.
        rows: number of rows.
        codec: key of ``CODECS``.
        levels: largest definition level: 0 where no value can be null.
        stored: Parquet's type of its values.
    """

    path: Path
    start: int
    size: int
    rows: int
    codec: str
    levels: int
    stored: int


@dataclass(frozen=True)
class Page:
    """Where a page lies and what its header says.

    Attributes:
        kind: ``DATA``, ``INDEX``, ``DICTIONARY`` or ``DATA_V2``.
        start: byte of the file behind the header.
        stored: bytes in the file.
        size: bytes when decompressed.
        values: how many values, nulls among them.
        encoding: of the values.
        levels_bytes: of a ``DATA_V2`` page, what the definition levels take.
        compressed: of a ``DATA_V2`` page, whether its values are.
    """

    kind: int
    start: int
    stored: int
    size: int
    values: int
    encoding: int
    levels_bytes: int
    compressed: bool


@dataclass(frozen=True)
class Walked:
    """The pages of a chunk.

    Attributes:
        dictionary: the page of values that others point to.
        pages: P pages of values.
        first: ``[P] int64``, the first row of each page.
    """

    dictionary: Page | None
    pages: list[Page]
    first: Ints

    @property
    def nbytes(self) -> int:
        """Return about the bytes it takes."""
        return PAGE_OBJECT_BYTES * len(self.pages)


def take(path: Path, start: int, count: int) -> bytes:
    """Return ``count`` bytes of a file from byte ``start``, fewer where it ends; raises CorruptImageError."""
    try:
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - a third faster than Path, and per image
            file.seek(start)
            return file.read(count) or b""
    except OSError as error:
        raise CorruptImageError(f"expected a readable '{path}', found: {error.strerror or error}") from error


def damaged(path: Path, at: int, found: str) -> CorruptImageError:
    """Return the error that says what stands at byte ``at`` in place of a page."""
    return CorruptImageError(
        f"expected a page of values in '{path}' at byte {at}, found {found}; copy or fetch the file again"
    )


def _header(chunk: Chunk, at: int) -> tuple[thrift.Struct, int]:
    """Return the page header at byte ``at`` and its length; headers with statistics can be long."""
    count, end = HEADER_BYTES, chunk.start + chunk.size
    while True:
        data = take(chunk.path, at, min(count, end - at))
        try:
            return thrift.struct(data, 0)
        except thrift.Damaged as found:
            raise damaged(chunk.path, at, str(found)) from None
        except thrift.CutOff:
            if len(data) < count or count > MAX_HEADER_BYTES:
                raise damaged(chunk.path, at, "a header without end") from None
            count *= 16


def _whole(fields: thrift.Struct, number: int, limit: int) -> int:
    value = fields.get(number)
    if type(value) is not int or not 0 <= value <= limit:
        raise thrift.Damaged(f"a page header whose field {number} is {str(value)[:20]} (limit {limit})")
    return value


def _page(fields: thrift.Struct, start: int, rows: int) -> Page:
    kind, size, stored = (
        _whole(fields, 1, DATA_V2),
        _whole(fields, 2, MAX_PAGE_BYTES),
        _whole(fields, 3, MAX_PAGE_BYTES),
    )
    if kind == INDEX:
        return Page(kind, start, stored, size, 0, 0, 0, True)
    inner = fields.get({DATA: 5, DICTIONARY: 7, DATA_V2: 8}[kind])
    if not isinstance(inner, dict):
        raise thrift.Damaged("a page header without its second half")
    values = _whole(inner, 1, MAX_WORDS if kind == DICTIONARY else rows)
    if kind != DATA_V2:
        return Page(kind, start, stored, size, values, _whole(inner, 2, MAX_ENCODING), 0, True)
    levels = _whole(inner, 5, stored)
    if inner.get(6, 0) != 0:
        raise thrift.Damaged("a list of values in a row")
    return Page(
        kind, start, stored, size, values, _whole(inner, 4, MAX_ENCODING), levels, inner.get(7, True) is not False
    )


def walk(chunk: Chunk) -> Walked:
    """Follow the page headers of a chunk.

    Raises:
        CorruptImageError: a header is damaged or claims a page beyond any limit, or the pages end early.
    """
    at, end, rows = chunk.start, chunk.start + chunk.size, 0
    dictionary, pages, first = None, [], []
    while rows < chunk.rows:
        if at >= end:
            raise damaged(chunk.path, at, f"the end of its pages after {rows} of {chunk.rows} rows")
        fields, length = _header(chunk, at)
        try:
            page = _page(fields, at + length, chunk.rows - rows)
        except thrift.Damaged as found:
            raise damaged(chunk.path, at, str(found)) from None
        at = page.start + page.stored
        if page.kind == DICTIONARY:
            dictionary = page
        elif page.kind != INDEX:
            pages.append(page)
            first.append(rows)
            rows += page.values
    return Walked(dictionary, pages, np.array(first, np.int64))
