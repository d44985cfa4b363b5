"""Thrift's compact protocol, as far as Parquet uses it: structs of numbers, flags, bytes, structs and lists of them."""

from __future__ import annotations

from typing import Any

MAX_DEPTH = 12
MAX_VARINT_BITS = 70
# Fields and elements of one struct: what it takes in memory is many times what it takes in the file.
MAX_OBJECTS = 1 << 20
TRUE, FALSE, BYTE, I16, I32, I64, DOUBLE, BINARY, LIST, SET, STRUCT = 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12
DOUBLE_BYTES = 8

Struct = dict[int, Any]


class Damaged(Exception):
    """What was found in place of a struct."""


class CutOff(Exception):
    """The bytes end within the struct: with more of them it may be whole."""


def varint(data: bytes, at: int) -> tuple[int, int]:
    """Return the unsigned number that begins at byte ``at`` and where it ends.

    Raises:
        CutOff: the bytes end within it.
        Damaged: it is longer than 64 bits.
    """
    value = shift = 0
    try:
        while True:
            byte = data[at]
            at += 1
            if byte < 0x80:
                return value | byte << shift, at
            value |= (byte & 0x7F) << shift
            shift += 7
            if shift == MAX_VARINT_BITS:
                raise Damaged("a number longer than 64 bits")
    except IndexError:
        raise CutOff from None


class Reader:
    """Reads values one after the other.

    Attributes:
        data: the bytes.
        at: the next byte to read.
        left: how many fields and elements may still be read.
    """

    def __init__(self, data: bytes, at: int = 0) -> None:
        self.data, self.at, self.left = data, at, MAX_OBJECTS

    def _byte(self) -> int:
        if self.at >= len(self.data):
            raise CutOff
        self.at += 1
        return self.data[self.at - 1]

    def signed(self) -> int:
        """Return the signed number that begins here."""
        value, self.at = varint(self.data, self.at)
        return (value >> 1) ^ -(value & 1)

    def raw(self, length: int) -> bytes:
        """Return the next ``length`` bytes."""
        end = self.at + length
        if end > len(self.data):
            raise CutOff
        self.at, start = end, self.at
        return self.data[start:end]

    def field(self, last: int) -> tuple[int, int] | None:
        """Return number and kind of the next field of a struct, or None at its end.

        Args:
            last: number of the field before it, 0 for the first.
        """
        head = self._byte()
        if not head:
            return None
        return (last + (head >> 4) if head >> 4 else self.signed()), head & 0x0F

    def elements(self) -> tuple[int, int]:
        """Return how many elements the list that begins here has, and their kind."""
        head = self._byte()
        count = head >> 4
        if count == 15:
            count, self.at = varint(self.data, self.at)
        return count, head & 0x0F

    def value(self, kind: int, depth: int = 0) -> Any:
        """Return the value of a field that begins here.

        Raises:
            CutOff: the bytes end within it.
            Damaged: it is of a kind that Parquet does not use, or it is too deep or too much.
        """
        self.left -= 1
        if depth > MAX_DEPTH or self.left < 0:
            raise Damaged("values in values without end")
        if kind in (I32, I64, I16):
            return self.signed()
        if kind == BINARY:
            length, self.at = varint(self.data, self.at)
            return self.raw(length)
        if kind in (TRUE, FALSE):
            return kind == TRUE
        return self._compound(kind, depth)

    def _compound(self, kind: int, depth: int) -> Any:
        if kind == STRUCT:
            return self.struct(depth + 1)
        if kind in (LIST, SET):
            count, inner = self.elements()
            if inner in (TRUE, FALSE):  # within lists a flag takes a byte
                inner = BYTE
            return [self.value(inner, depth + 1) for _ in range(min(count, self.left + 1))]
        if kind in (BYTE, DOUBLE):
            return self.raw(1 if kind == BYTE else DOUBLE_BYTES)
        raise Damaged(f"a value of kind {kind}")

    def struct(self, depth: int = 0) -> Struct:
        """Return the struct that begins here, field number -> value; raises as :meth:`value`."""
        fields: Struct = {}
        number = 0
        while (found := self.field(number)) is not None:
            number, kind = found
            fields[number] = self.value(kind, depth)
        return fields


def struct(data: bytes, at: int = 0) -> tuple[Struct, int]:
    """Return the struct that begins at byte ``at`` of ``data``, field number -> value, and where it ends.

    Raises:
        CutOff: the bytes end within it.
        Damaged: it holds what no Parquet file holds.
    """
    reader = Reader(data, at)
    return reader.struct(), reader.at
