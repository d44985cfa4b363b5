"""Thrift's compact protocol, against bytes spelt out from its description."""

from __future__ import annotations

import pytest

from proxylesskd.data.formats.thrift import CutOff, Damaged, struct, varint


def zigzag(value: int) -> bytes:
    value = value << 1 if value >= 0 else (-value << 1) - 1
    out = b""
    while value >= 0x80:
        out, value = out + bytes([value & 0x7F | 0x80]), value >> 7
    return out + bytes([value])


WHOLE = (
    b"\x15" + zigzag(-3)  # field 1, i32
    + b"\x11"  # field 2, true
    + b"\x12"  # field 3, false
    + b"\x06" + zigzag(40) + zigzag(2**40)  # field 40 by its full number, i64
    + b"\x18\x03abc"  # field 41, binary
    + b"\x17" + bytes(8)  # field 42, double
    + b"\x13\x7f"  # field 43, byte
    + b"\x1c" + b"\x14" + zigzag(300) + b"\x00"  # field 44, struct of an i16
    + b"\x19\x35" + zigzag(7) + zigzag(-7) + zigzag(9)  # field 45, list of three i32
    + b"\x19\xf1\x10" + b"\x01\x02" * 8  # field 46, list of sixteen flags
    + b"\x1a\x1c" + b"\x11\x00"  # field 47, set of one struct
    + b"\x00"
)  # fmt: skip


def test_reads_every_kind_of_field() -> None:
    fields, end = struct(b"ahead" + WHOLE + b"behind", 5)
    assert end == 5 + len(WHOLE)
    want = {1: -3, 2: True, 3: False, 40: 2**40, 41: b"abc", 42: bytes(8), 43: b"\x7f", 44: {1: 300}}
    want |= {45: [7, -7, 9], 46: [b"\x01", b"\x02"] * 8, 47: [{1: True}]}
    assert fields == want


def test_says_wherever_the_bytes_end_early() -> None:
    for end in range(len(WHOLE)):
        with pytest.raises(CutOff):
            struct(WHOLE[:end], 0)


@pytest.mark.parametrize("data", [b"\x19\x10", b"\x1b\x00", b"\x1f", b"\x15" + b"\xff" * 11, b"\x1c" * 20])
def test_refuses_maps_endless_numbers_and_endless_depth(data: bytes) -> None:
    with pytest.raises(Damaged):
        struct(data, 0)


def test_a_number_of_64_bits() -> None:
    assert varint(b"\xff" * 9 + b"\x01", 0) == (2**64 - 1, 10)


def test_refuses_more_values_than_memory_should_hold() -> None:
    flags = b"\x19\xf3" + b"\x80\x80\x80\x08" + bytes(1 << 24)  # a list of 2^24 bytes
    with pytest.raises(Damaged, match="without end"):
        struct(flags, 0)
