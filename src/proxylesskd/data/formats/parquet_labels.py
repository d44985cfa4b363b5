"""The labels of a Parquet column, all of them at once: whole numbers, or names as text."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from proxylesskd.data.formats.parquet_decode import contents, decoding, plain, pointers, present
from proxylesskd.data.formats.parquet_footer import INT32
from proxylesskd.data.formats.parquet_pages import DICTIONARY, PLAIN, POINTERS, Chunk, Page, walk
from proxylesskd.data.formats.thrift import CutOff, Damaged
from proxylesskd.errors import UserError

Ints = npt.NDArray[np.int64]
MAX_NAME_BYTES = 4000


def _pages(chunk: Chunk) -> Iterator[tuple[Page, bytes, int]]:
    """Yield the pages of a chunk, its dictionary first, with their values and the number of these."""
    walked = walk(chunk)
    for page in [walked.dictionary, *walked.pages] if walked.dictionary else walked.pages:
        with decoding(chunk, page):
            levels, data, _ = contents(chunk, page)
            there = present(chunk, page, levels)
        if not there.all():
            raise UserError(
                f"expected a label in every row of '{chunk.path}', found {int((~there).sum())} rows without one"
            )
        yield page, data, len(there)


def read_numbers(chunk: Chunk) -> Ints:
    """Return ``[rows] int64``.

    Raises:
        UserError: a row has none, or a page is damaged.
    """
    kind = np.dtype("<i4" if chunk.stored == INT32 else "<i8")
    words, found = np.zeros(0, np.int64), [np.zeros(0, np.int64)]
    for page, data, count in _pages(chunk):
        with decoding(chunk, page):
            if page.kind == DICTIONARY:
                words = _numbers(data, count, kind)
            elif page.encoding == PLAIN:
                found.append(_numbers(data, count, kind))
            else:
                found.append(words[_places(page, data, count, len(words))])
    return np.concatenate(found)


def _numbers(data: bytes, count: int, kind: np.dtype[np.signedinteger]) -> Ints:
    if len(data) < count * kind.itemsize:
        raise CutOff
    return np.frombuffer(data, kind, count).astype(np.int64)


def _places(page: Page, data: bytes, count: int, words: int) -> Ints:
    if page.encoding not in POINTERS:
        raise Damaged(f"the encoding {page.encoding}")
    return pointers(data, count, words)


def read_names(chunk: Chunk, known: dict[str, int]) -> Ints:
    """Return ``[rows] int64``, the numbers of the rows' names in ``known``; new names get the next numbers.

    Raises:
        UserError: a row has none, it is empty or endless, or a page is damaged.
    """
    words, found = np.zeros(0, np.int64), [np.zeros(0, np.int64)]
    for page, data, count in _pages(chunk):
        with decoding(chunk, page):
            if page.kind == DICTIONARY:
                words = _numbered(data, count, known, chunk.path)
            elif page.encoding == PLAIN:
                found.append(_numbered(data, count, known, chunk.path))
            else:
                found.append(words[_places(page, data, count, len(words))])
    return np.concatenate(found)


def _numbered(data: bytes, count: int, known: dict[str, int], path: Path) -> Ints:
    starts, lengths = (places.tolist() for places in plain(data, 0, count))
    numbers = np.empty(count, np.int64)
    for row, (start, length) in enumerate(zip(starts, lengths, strict=True)):
        if not 0 < length <= MAX_NAME_BYTES:
            raise UserError(f"expected names as labels in '{path}', found one of {length} bytes")
        numbers[row] = known.setdefault(data[start : start + length].decode(), len(known))
    return numbers
