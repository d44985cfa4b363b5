"""RecordIO, the container of MXNet: records read by their offset and packed, in plain Python.

A record is ``magic, word, payload, padding to 4 bytes``; the word's upper 3 bits say whether the record is whole (0)
or the first (1), a middle (2) or the last (3) part of one that was cut wherever the payload held the magic itself at a
multiple of 4 bytes (readers put it back); its lower 29 bits are the length. The payload begins with ``IRHeader``:
flag, label (float), id, id2; a flag above 0 says that so many float labels follow; the rest is the image.
"""

from __future__ import annotations

import os
import struct
import weakref
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from proxylesskd.data.formats.folder import MAX_IMAGE_BYTES
from proxylesskd.errors import CorruptImageError

Ints = npt.NDArray[np.int64]
MAGIC = 0xCED7230A
MAGIC_BYTES = struct.pack("<I", MAGIC)
WORD = struct.Struct("<II")
HEADER = struct.Struct("<IfQQ")
WHOLE = struct.Struct("<IIIfQQ")  # both in one
LENGTH_BITS = 29
MAX_LENGTH = (1 << LENGTH_BITS) - 1
MAX_LABELS = 1024
CHUNK = 1 << 16
# An aligned face takes 3 to 8 kB: one call of the system brings most records whole.
AT_ONCE = 8 << 10
# As far as the second of a record's labels: the two words, the header, two floats.
HEAD_BYTES = WORD.size + HEADER.size + 8
LABEL_BYTES = [*range(12, 16), *range(32, 40)]


class Record(NamedTuple):
    """One record: its labels and its encoded image, empty where there is none."""

    labels: tuple[float, ...]
    image: bytes


@dataclass(frozen=True)
class Heads:
    """What the heads of N records say.

    Attributes:
        first: ``[N] float64``, first label.
        second: ``[N] float64``, second label, 0 where there is none.
        image: ``[N] bool``, whether an image follows.
    """

    first: npt.NDArray[np.float64]
    second: npt.NDArray[np.float64]
    image: npt.NDArray[np.bool_]


class RecordFile:
    """Random access to the records of one file; threads may share it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.descriptor = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self.descriptor)
        self.size = os.fstat(self.descriptor).st_size

    def __reduce__(self) -> tuple[type[RecordFile], tuple[Path]]:
        """Open the file anew in whatever process unpickles it: descriptors belong to one process."""
        return RecordFile, (self.path,)

    def damaged(self, offset: int, found: str) -> CorruptImageError:
        """Return the error that says what stands at byte ``offset`` in place of a record."""
        return CorruptImageError(
            f"expected a record in '{self.path}' at byte {offset}, found {found}; copy or fetch the file again"
        )

    def _part(self, offset: int, at: int) -> tuple[int, bytes]:
        """Return the continuation flag and the payload of the part at byte ``at``."""
        read = os.pread(self.descriptor, AT_ONCE, at)
        if len(read) < WORD.size:
            raise self.damaged(offset, f"the end of the file at byte {self.size}")
        magic, word = WORD.unpack_from(read)
        length, end = word & MAX_LENGTH, WORD.size + (word & MAX_LENGTH)
        if magic != MAGIC:
            raise self.damaged(offset, f"no RecordIO magic at byte {at}")
        if length > MAX_IMAGE_BYTES:
            raise self.damaged(offset, f"a length of {length} bytes")
        if end > len(read) == AT_ONCE:
            read += os.pread(self.descriptor, end - AT_ONCE, at + AT_ONCE)
        if end > len(read):
            raise self.damaged(offset, f"the end of the file at byte {self.size}")
        return word >> LENGTH_BITS, read[WORD.size : end]

    def payload(self, offset: int) -> bytes:
        """Return the payload of the record at ``offset``, its parts joined."""
        if not 0 <= offset < self.size:  # an index may say anything
            raise self.damaged(offset, f"a file of {self.size} bytes")
        flag, data = self._part(offset, offset)
        if flag == 0:
            return data
        parts, at, total = [data], offset, len(data)
        expected_flags = (1,)
        while flag != 3:
            if flag not in expected_flags or total > MAX_IMAGE_BYTES:
                raise self.damaged(offset, f"a part of kind {flag} at byte {at} or no end of its parts")
            at += WORD.size + (len(parts[-1]) + 3) // 4 * 4
            flag, data = self._part(offset, at)
            expected_flags = (2,)
            total += len(data) + len(MAGIC_BYTES)
            parts.append(data)
        return MAGIC_BYTES.join(parts)

    def record(self, offset: int) -> Record:
        """Return labels and image of the record at ``offset``."""
        return self._usual(offset) or self._any(offset)

    def _usual(self, offset: int) -> Record | None:
        """Return a whole record with one label that one call of the system brings; None where it is another."""
        read = os.pread(self.descriptor, AT_ONCE, offset) if 0 <= offset < self.size else b""
        if len(read) < WHOLE.size:
            return None
        magic, length, labels, label, _, _ = WHOLE.unpack_from(read)  # of a part, the length is above all others
        end = WORD.size + length
        if magic != MAGIC or labels or not WHOLE.size <= end <= len(read):
            return None
        return Record((label,), read[WHOLE.size : end])

    def _any(self, offset: int) -> Record:
        data = self.payload(offset)
        if len(data) < HEADER.size:
            raise self.damaged(offset, f"{len(data)} bytes, too few for its header")
        flag, label, _, _ = HEADER.unpack_from(data)
        start = HEADER.size + 4 * flag
        if flag > MAX_LABELS or start > len(data):
            raise self.damaged(offset, f"a header that counts {flag} labels")
        labels = struct.unpack_from(f"<{flag}f", data, HEADER.size) if flag else (label,)
        return Record(labels, data[start:])

    def scan(self) -> Ints:
        """Return ``[N] int64``, the offset of every record, by hopping from one to the next.

        Raises:
            CorruptImageError: something else stands between the records, or the last one is cut off.
        """
        offsets, at, inside = array("q"), 0, False
        descriptor, size, pread, unpack = self.descriptor, self.size, os.pread, WORD.unpack
        while at < size:
            head = pread(descriptor, WORD.size, at)
            if len(head) < WORD.size:
                raise self.damaged(at, f"the end of the file at byte {size}")
            magic, word = unpack(head)
            kind = word >> LENGTH_BITS
            if magic != MAGIC or kind > 3 or inside != (kind > 1):
                raise self.damaged(at, "no RecordIO magic" if magic != MAGIC else f"a part of kind {kind}")
            if not inside:
                offsets.append(at)
            inside = kind in (1, 2)
            at += WORD.size + (word & MAX_LENGTH)
            if at > size:
                raise self.damaged(offsets[-1], f"the end of the file at byte {size}")
            at += -at % 4
        if inside:
            raise self.damaged(offsets[-1], f"the end of the file at byte {size} before its last part")
        return np.frombuffer(offsets, dtype=np.int64) if offsets else np.zeros(0, dtype=np.int64)

    def heads(self, offsets: Ints) -> Heads:
        """Read the labels of many records, and whether an image follows, without reading images.

        Args:
            offsets: ``[N] int64`` bytes.

        Raises:
            CorruptImageError: an offset lies outside the file or no record stands there.
        """
        mapped = np.memmap(self.path, dtype=np.uint8, mode="r") if self.size else np.zeros(0, dtype=np.uint8)
        parts = [self._heads(mapped, offsets[i : i + CHUNK]) for i in range(0, max(len(offsets), 1), CHUNK)]
        return Heads(
            first=np.concatenate([p.first for p in parts]),
            second=np.concatenate([p.second for p in parts]),
            image=np.concatenate([p.image for p in parts]),
        )

    def _heads(self, mapped: npt.NDArray[np.uint8], offsets: Ints) -> Heads:
        outside = (offsets < 0) | (offsets > self.size - WORD.size - HEADER.size)
        if outside.any():
            raise self.damaged(int(offsets[outside][0]), f"the end of the file at byte {self.size}")
        positions = offsets[:, None] + np.arange(HEAD_BYTES)
        # Clipped are only labels of a file's last record that do not exist and are not used.
        head = mapped[np.minimum(positions, self.size - 1)]  # [N, HEAD_BYTES]
        words = head[:, :12].copy().view("<u4").astype(np.int64)  # [N, 3] magic, word, flag
        if (wrong := words[:, 0] != MAGIC).any():
            raise self.damaged(int(offsets[wrong][0]), "no RecordIO magic")
        length, count = words[:, 1] & MAX_LENGTH, words[:, 2]
        labels = (
            np.ascontiguousarray(head[:, LABEL_BYTES]).view("<f4").astype(np.float64)
        )  # [N, 3] of the header, first, second
        heads = Heads(
            first=np.where(count > 0, labels[:, 1], labels[:, 0]),
            second=np.where(count > 1, labels[:, 2], 0.0),
            image=length > HEADER.size + 4 * count,
        )
        self._reread_cut(offsets, np.flatnonzero(words[:, 1] >> LENGTH_BITS), heads)
        return heads

    def _reread_cut(self, offsets: Ints, cut: Ints, heads: Heads) -> None:
        for row in cut.tolist():  # rare: an image that holds the magic
            record = self.record(int(offsets[row]))
            heads.first[row], heads.second[row] = (*record.labels, 0.0)[:2]
            heads.image[row] = bool(record.image)


def pack(labels: Sequence[float], key: int, image: bytes) -> bytes:
    """Return a record's bytes: labels (one goes into the header, more follow it), its key, its image."""
    if len(labels) == 1:
        payload = HEADER.pack(0, labels[0], key, 0) + image
    else:
        payload = HEADER.pack(len(labels), 0.0, key, 0) + struct.pack(f"<{len(labels)}f", *labels) + image
    parts = _cut(payload)
    last = len(parts) - 1
    kinds = [0] if not last else [1, *[2] * (last - 1), 3]
    return b"".join(_pack_part(kind, part) for kind, part in zip(kinds, parts, strict=True))


def _pack_part(kind: int, part: bytes) -> bytes:
    return WORD.pack(MAGIC, kind << LENGTH_BITS | len(part)) + part + bytes(-len(part) % 4)


def _cut(payload: bytes) -> list[bytes]:
    """Cut at each magic that stands at a multiple of 4 bytes, where a reader could take it for a record."""
    parts, start, at = [], 0, payload.find(MAGIC_BYTES)
    while at >= 0:
        if at % 4 == 0:
            parts.append(payload[start:at])
            start = at + len(MAGIC_BYTES)
        at = payload.find(MAGIC_BYTES, start if at % 4 == 0 else at + 1)
    return [*parts, payload[start:]]
