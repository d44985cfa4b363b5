"""Random access to the byte strings of a Parquet column, a page at a time.

Libraries decode a row group at once, which for one image reads hundreds and, where a file is one large row group, all
of them. Here a page is decoded alone: plain or dictionary-coded byte strings, some of which may be null. Of pages that
are not compressed only the places of the images are kept, and an image is read straight from the file.
"""

from __future__ import annotations

import struct as structs
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from proxylesskd.data.formats.byte_cache import ByteCache
from proxylesskd.data.formats.folder import MAX_IMAGE_BYTES
from proxylesskd.data.formats.parquet_pages import CODECS, DATA_V2, DICTIONARY, Chunk, Page, Walked, damaged, take, walk
from proxylesskd.data.formats.thrift import CutOff, Damaged, varint
from proxylesskd.errors import CorruptImageError

Ints = npt.NDArray[np.int64]
PLAIN, PLAIN_DICTIONARY, RLE_DICTIONARY = 0, 2, 8
CACHE_BYTES = 256 << 20
NULL = -1
LENGTH = structs.Struct("<I")


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


def hybrid(data: bytes, width: int, count: int) -> Ints:
    """Decode Parquet's mixture of runs and bit-packed numbers.

    Args:
        data: the encoded bytes.
        width: bits of a number, 0 to 32.
        count: how many numbers to decode.

    Returns:
        ``[count] int64``.

    Raises:
        Damaged, CutOff: the bytes hold something else, or fewer.
    """
    if width > 32:
        raise Damaged(f"numbers of {width} bits")
    out = np.empty(count, np.int64)
    at = done = 0
    while done < count:
        head, at = varint(data, at)
        if not head >> 1:
            raise Damaged("a run of nothing")
        take_run = _packed if head & 1 else _run
        numbers, at = take_run(data, at, width, head >> 1, count - done)
        out[done : done + len(numbers)] = numbers
        done += len(numbers)
    return out


def _run(data: bytes, at: int, width: int, size: int, wanted: int) -> tuple[Ints, int]:
    end = at + (width + 7) // 8
    if end > len(data):
        raise CutOff
    return np.full(min(size, wanted), int.from_bytes(data[at:end], "little"), np.int64), end


def _packed(data: bytes, at: int, width: int, groups: int, wanted: int) -> tuple[Ints, int]:
    count, end = min(8 * groups, wanted), at + groups * width
    bits = np.unpackbits(np.frombuffer(data[at:end], np.uint8), bitorder="little")[: count * width]
    if len(bits) < count * width:
        raise CutOff
    return bits.reshape(count, width).astype(np.int64) @ (1 << np.arange(width, dtype=np.int64)), end


def plain(data: bytes, at: int, count: int) -> tuple[Ints, Ints]:
    """Find ``count`` byte strings from byte ``at`` on, each behind its length.

    Returns:
        ``[count] int64`` where each begins, ``[count] int64`` how long it is.

    Raises:
        CutOff: there are fewer.
    """
    starts, lengths, end = [], [], len(data)
    for _ in range(count):
        if at + 4 > end:
            raise CutOff
        (length,) = LENGTH.unpack_from(data, at)
        at += 4
        if length > end - at:
            raise CutOff
        starts.append(at)
        lengths.append(length)
        at += length
    return np.array(starts, np.int64), np.array(lengths, np.int64)


def _decompress(codec: str, data: bytes, size: int) -> bytes:
    import pyarrow as pa

    # A codec of one's own, as some of them keep state that threads must not share.
    return bytes(pa.Codec(CODECS[codec]).decompress(data, size, asbytes=True)) if size else b""


def _unpacked(chunk: Chunk, page: Page) -> tuple[bytes, bytes, int | None]:
    """Return the definition levels and the values of a page, and the byte of the file where these begin, if any."""
    raw = take(chunk.path, page.start, page.stored)
    if len(raw) < page.stored:
        raise CutOff
    ahead = page.levels_bytes if page.kind == DATA_V2 else 0
    levels, data, base = raw[:ahead], raw[ahead:], page.start + ahead
    compressed = page.compressed and CODECS[chunk.codec] != ""
    if compressed:
        data = _decompress(chunk.codec, data, page.size - ahead)
    if page.kind != DATA_V2 and page.kind != DICTIONARY and chunk.levels:
        end = 4 + LENGTH.unpack_from(data)[0]
        levels, data, base = data[4:end], data[end:], base + end
    return levels, data, None if compressed else base


def _decode(chunk: Chunk, page: Page, dictionary: Values | None) -> Values:
    levels, data, base = _unpacked(chunk, page)
    count, present = page.values, None
    if chunk.levels and page.kind != DICTIONARY:
        present = hybrid(levels, chunk.levels.bit_length(), page.values) == chunk.levels
        count = int(present.sum())
    if page.encoding == PLAIN or page.kind == DICTIONARY:
        starts, lengths = plain(data, 0, count)
        values = Values(starts + (base or 0), lengths, data if base is None else None)
    elif page.encoding in (PLAIN_DICTIONARY, RLE_DICTIONARY):
        values = _looked_up(data, count, dictionary)
    else:
        raise Damaged(f"the encoding {page.encoding}")
    return values if present is None else _spread(values, present)


def _looked_up(data: bytes, count: int, dictionary: Values | None) -> Values:
    if dictionary is None:
        raise Damaged("no dictionary where one is used")
    places = hybrid(data[1:], data[0], count) if count else np.zeros(0, np.int64)
    if (places >= len(dictionary.starts)).any():
        raise Damaged("a place outside the dictionary")
    return Values(dictionary.starts[places], dictionary.lengths[places], dictionary.data)


def _spread(values: Values, present: npt.NDArray[np.bool_]) -> Values:
    starts, lengths = np.zeros(len(present), np.int64), np.full(len(present), NULL, np.int64)
    starts[present], lengths[present] = values.starts, values.lengths
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
        needed = page.encoding in (PLAIN_DICTIONARY, RLE_DICTIONARY) and walked.dictionary is not None
        dictionary = self._pages.get((group, NULL), lambda: self._dictionary(chunk, walked)) if needed else None
        return _checked(chunk, page, dictionary)

    def _dictionary(self, chunk: Chunk, walked: Walked) -> Values:
        assert walked.dictionary is not None
        return _checked(chunk, walked.dictionary, None)


def _checked(chunk: Chunk, page: Page, dictionary: Values | None) -> Values:
    try:
        return _decode(chunk, page, dictionary)
    except CutOff:
        raise damaged(chunk.path, page.start, "fewer bytes than it should have") from None
    except Damaged as found:
        raise damaged(chunk.path, page.start, str(found)) from None
    # What the codecs raise on bytes that are none of theirs, and short bytes.
    except (ValueError, OSError, IndexError, structs.error, MemoryError) as error:
        raise damaged(chunk.path, page.start, f"bytes that cannot be decompressed ({str(error)[:80]})") from error
