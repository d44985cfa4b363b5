"""Random access to the byte strings of a Parquet column, a page at a time.

Libraries decode a row group at once, which for one image reads hundreds and, where a file is one large row group, all
of them. Here a page is decoded alone: plain or dictionary-coded byte strings, some of which may be null. Of pages that
are not compressed only the places of the images are kept, and an image is read straight from the file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from proxylesskd.data.formats.byte_cache import ByteCache
from proxylesskd.data.formats.folder import MAX_IMAGE_BYTES
from proxylesskd.data.formats.parquet_decode import contents, decoding, plain, pointers, present
from proxylesskd.data.formats.parquet_pages import DICTIONARY, PLAIN, POINTERS, Chunk, Page, Walked, take, walk
from proxylesskd.data.formats.thrift import Damaged
from proxylesskd.errors import CorruptImageError

Ints = npt.NDArray[np.int64]
CACHE_BYTES = 256 << 20
NULL = -1


@dataclass(frozen=True)
class Values:
    """Byte strings of a page.

    Attributes:
        starts: ``[n] int64``, where each begins in ``data``, or in the file where that is None.
        lengths: ``[n] int64``, -1 where it is null.
        data: the decompressed page.
    """

    starts: Ints
    lengths: Ints
    data: bytes | None

    @property
    def nbytes(self) -> int:
        """Return the bytes it takes."""
        return self.starts.nbytes + self.lengths.nbytes + len(self.data or b"")


def decode_bytes(chunk: Chunk, page: Page, dictionary: Values | None) -> Values:
    """Decode a page of byte strings, or their dictionary.

    Raises:
        CorruptImageError: it is damaged.
    """
    with decoding(chunk, page):
        levels, data, base = contents(chunk, page)
        there = present(chunk, page, levels)
        count = int(there.sum())
        if page.encoding == PLAIN or page.kind == DICTIONARY:
            starts, lengths = plain(data, 0, count)
            return _spread(Values(starts + (base or 0), lengths, data if base is None else None), there)
        if page.encoding not in POINTERS or dictionary is None:
            raise Damaged(f"the encoding {page.encoding}, or no dictionary for it")
        places = pointers(data, count, len(dictionary.starts))
        return _spread(Values(dictionary.starts[places], dictionary.lengths[places], dictionary.data), there)


def _spread(values: Values, there: npt.NDArray[np.bool_]) -> Values:
    """Put nulls between the values."""
    if there.all():
        return values
    starts, lengths = np.zeros(len(there), np.int64), np.full(len(there), NULL, np.int64)
    starts[there], lengths[there] = values.starts, values.lengths
    return Values(starts, lengths, values.data)


class BytesColumn:
    """The byte strings of a column; threads may share it.

    Args:
        chunks: one per row group.
        cache: bytes that pages and places may take.
    """

    def __init__(self, chunks: Sequence[Chunk], cache: int = CACHE_BYTES) -> None:
        self._chunks = chunks
        self._walks: ByteCache[Walked] = ByteCache(cache // 4)
        self._pages: ByteCache[Values] = ByteCache(cache // 4 * 3)

    def read(self, group: int, row: int) -> bytes | None:
        """Return the byte string in ``row`` of row group ``group``; None where it is null.

        Raises:
            CorruptImageError: the page is damaged, or the value is larger than any face (64 MiB).
        """
        chunk = self._chunks[group]
        walked = self._walks.get(group, lambda: walk(chunk))
        number = int(np.searchsorted(walked.first, row, side="right")) - 1
        values = self._pages.get((group, number), lambda: self._page(group, walked, number))
        place = row - int(walked.first[number])
        start, length = int(values.starts[place]), int(values.lengths[place])
        if length > MAX_IMAGE_BYTES:
            raise CorruptImageError(f"expected an image below {MAX_IMAGE_BYTES >> 20} MiB, found {length} bytes")
        if length == NULL:
            return None
        return take(chunk.path, start, length) if values.data is None else values.data[start : start + length]

    def _page(self, group: int, walked: Walked, number: int) -> Values:
        chunk, page = self._chunks[group], walked.pages[number]
        first = walked.dictionary
        if page.encoding not in POINTERS or first is None:
            return decode_bytes(chunk, page, None)
        dictionary = self._pages.get((group, NULL), lambda: decode_bytes(chunk, first, None))
        return decode_bytes(chunk, page, dictionary)
