"""Thrift's compact protocol, as far as Parquet's page headers use it: structs of numbers, flags, bytes and structs."""

from __future__ import annotations

from typing import Any

MAX_DEPTH = 8
MAX_VARINT = 10
TRUE, FALSE, BYTE, I16, I32, I64, DOUBLE, BINARY, STRUCT = 1, 2, 3, 4, 5, 6, 7, 8, 12
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
    value = 0
    for shift in range(0, 7 * MAX_VARINT, 7):
        if at >= len(data):
            raise CutOff
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise Damaged("a number longer than 64 bits")


def _signed(data: bytes, at: int) -> tuple[int, int]:
    value, at = varint(data, at)
    return (value >> 1) ^ -(value & 1), at


def _value(data: bytes, at: int, kind: int, depth: int) -> tuple[Any, int]:
    if kind in (TRUE, FALSE):
        return kind == TRUE, at
    if kind in (I16, I32, I64):
        return _signed(data, at)
    if kind == STRUCT:
        return struct(data, at, depth + 1)
    if kind == BINARY:
        length, at = varint(data, at)
    elif kind in (BYTE, DOUBLE):
        length = 1 if kind == BYTE else DOUBLE_BYTES
    else:
        raise Damaged(f"a field of kind {kind}")
    if at + length > len(data):
        raise CutOff
    return data[at : at + length], at + length


def struct(data: bytes, at: int, depth: int = 0) -> tuple[Struct, int]:
    """Return the struct that begins at byte ``at`` of ``data``, field number -> value, and where it ends.

    Raises:
        CutOff: the bytes end within it.
        Damaged: it holds what no page header holds.
    """
    if depth > MAX_DEPTH:
        raise Damaged("structs in structs without end")
    fields: Struct = {}
    number = 0
    while True:
        if at >= len(data):
            raise CutOff
        head = data[at]
        at += 1
        if not head:
            return fields, at
        if head >> 4:
            number += head >> 4
        else:
            number, at = _signed(data, at)
        fields[number], at = _value(data, at, head & 0x0F, depth)
