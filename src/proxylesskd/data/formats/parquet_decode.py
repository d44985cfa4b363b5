"""What a page of a Parquet column holds, decompressed and decoded: runs, bit-packed numbers, byte strings."""

from __future__ import annotations

import struct as structs
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt

from proxylesskd.data.formats.parquet_pages import CODECS, DATA_V2, DICTIONARY, Chunk, Page, damaged, take
from proxylesskd.data.formats.thrift import CutOff, Damaged, varint
from proxylesskd.errors import require_extra

Ints = npt.NDArray[np.int64]
LENGTH = structs.Struct("<I")
GZIP_OR_ZLIB = 32 + zlib.MAX_WBITS


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


def _gunzip(data: bytes, size: int) -> bytes:
    return zlib.decompressobj(GZIP_OR_ZLIB).decompress(data, size)


def _decompress(codec: str, data: bytes, size: int) -> bytes:
    if codec == "GZIP" or not size:
        found = _gunzip(data, size) if size else b""
    else:
        try:
            import pyarrow as pa
        except ImportError as error:
            raise require_extra("pyarrow", "parquet", f"reading Parquet compressed by {codec.lower()}") from error
        # A codec of one's own, as some of them keep state that threads must not share.
        found = bytes(pa.Codec(CODECS[codec]).decompress(data, size, asbytes=True))
    if len(found) != size:
        raise CutOff
    return found


def contents(chunk: Chunk, page: Page) -> tuple[bytes, bytes, int | None]:
    """Return the definition levels and the values of a page, and the byte of the file where these begin.

    That byte is None where they are compressed.

    Raises:
        CutOff, Damaged, ValueError, OSError, struct.error: see :func:`decoding`.
    """
    raw = take(chunk.path, page.start, page.stored)
    if len(raw) < page.stored:
        raise CutOff
    ahead = page.levels_bytes if page.kind == DATA_V2 else 0
    levels, data, base = raw[:ahead], raw[ahead:], page.start + ahead
    compressed = page.compressed and CODECS[chunk.codec] != ""
    if compressed:
        data = _decompress(chunk.codec, data, page.size - ahead)
    if page.kind not in (DATA_V2, DICTIONARY) and chunk.levels:
        end = LENGTH.size + LENGTH.unpack_from(data)[0]
        levels, data, base = data[LENGTH.size : end], data[end:], base + end
    return levels, data, None if compressed else base


def present(chunk: Chunk, page: Page, levels: bytes) -> npt.NDArray[np.bool_]:
    """Return ``[n] bool``, which of the values of a page are not null; raises as :func:`hybrid`."""
    if not chunk.levels or page.kind == DICTIONARY:
        return np.ones(page.values, np.bool_)
    return np.asarray(hybrid(levels, chunk.levels.bit_length(), page.values) == chunk.levels)


def pointers(data: bytes, count: int, words: int) -> Ints:
    """Return ``[count] int64``, the places in a dictionary of so many words that a page points to.

    Raises:
        CutOff, Damaged: there are fewer, or one points elsewhere.
    """
    if not count:
        return np.zeros(0, np.int64)
    if not data:
        raise CutOff
    places = hybrid(data[1:], data[0], count)
    if places.max() >= words:
        raise Damaged("a place outside the dictionary")
    return places


@contextmanager
def decoding(chunk: Chunk, page: Page) -> Iterator[None]:
    """Say of a page that cannot be decoded where it lies; raises CorruptImageError."""
    try:
        yield
    except CutOff:
        raise damaged(chunk.path, page.start, "fewer bytes than it should have") from None
    except Damaged as found:
        raise damaged(chunk.path, page.start, str(found)) from None
    # What codecs raise on bytes that are none of theirs, and bytes that end early.
    except (ValueError, OSError, structs.error, MemoryError, zlib.error) as error:
        raise damaged(chunk.path, page.start, f"bytes that cannot be decompressed ({str(error)[:80]})") from error
