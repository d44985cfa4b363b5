"""Files made wrong: bits, numbers, pieces and ends of valid ones, changed by a seed."""

from __future__ import annotations

import random
import re
from collections.abc import Callable

NUMBERS = (0, 1, 2, 3, 7, 8, 127, 128, 255, 256, 511, 512, 4095, 4096, 65535, 65536, 2**24, 2**29 - 1, 2**31 - 1)
HUGE = (2**31, 2**32 - 1, 2**32 - 8, 2**40, 2**62, 2**63 - 1, 2**63, 2**64 - 1)
TEXTS = (
    b"0",
    b"-1",
    b"9" * 30,
    b"1e309",
    b"nan",
    b"\0",
    b"\n",
    b"\r",
    b"\t",
    b",",
    b'"',
    b"/",
    b"..",
    b"../",
    b"{",
    b"[",
)
DIGITS = re.compile(rb"[0-9]+")


def _place(data: bytearray, chance: random.Random) -> int:
    """Choose a byte: anywhere, or where formats keep what matters, near either end."""
    kind, size = chance.random(), len(data)
    if kind < 0.3:
        return chance.randrange(min(size, 300))
    if kind < 0.6:
        return size - 1 - chance.randrange(min(size, 1200))
    return chance.randrange(size)


def _flip(data: bytearray, chance: random.Random) -> None:
    data[_place(data, chance)] ^= 1 << chance.randrange(8)


def _byte(data: bytearray, chance: random.Random) -> None:
    data[_place(data, chance)] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)))


def _number(data: bytearray, chance: random.Random) -> None:
    """Overwrite 1 to 8 bytes by a number that sizes and offsets should not have, or a small step from what it was."""
    width, at = chance.choice((1, 2, 4, 4, 8)), _place(data, chance)
    order = chance.choice(("little", "little", "big"))
    old = int.from_bytes(data[at : at + width], order)
    value = chance.choice((*NUMBERS, *HUGE, len(data), len(data) - at, old + 1, old - 1, old * 2, old + 4096))
    data[at : at + width] = (value % 256**width).to_bytes(width, order)


def _digits(data: bytearray, chance: random.Random) -> None:
    """Replace a number that is written out in digits."""
    found = list(DIGITS.finditer(data))[:2000]
    if found:
        where = chance.choice(found)
        value = chance.choice((0, 1, len(data), *HUGE, int(where[0][:18]) + chance.choice((1, -1, 512))))
        text = b"%d" % value
        data[where.start() : where.end()] = text.zfill(len(where[0])) if chance.random() < 0.7 else text


def _cut(data: bytearray, chance: random.Random) -> None:
    del data[_place(data, chance) :]


def _remove(data: bytearray, chance: random.Random) -> None:
    at = _place(data, chance)
    del data[at : at + chance.choice((1, 2, 4, 8, 100, 512, 4096))]


def _repeat(data: bytearray, chance: random.Random) -> None:
    at, size = _place(data, chance), chance.choice((1, 4, 20, 512, 4096))
    data[at:at] = data[at : at + size] * chance.choice((1, 1, 2, 20))


def _move(data: bytearray, chance: random.Random) -> None:
    at, to, size = _place(data, chance), _place(data, chance), chance.choice((4, 8, 64, 512, 4096))
    data[to : to + size] = data[at : at + size]


def _text(data: bytearray, chance: random.Random) -> None:
    at = _place(data, chance)
    data[at : at + chance.choice((0, 0, 1, 4))] = chance.choice(TEXTS) * chance.choice((1, 1, 1, 3, 500))


def _noise(data: bytearray, chance: random.Random) -> None:
    at, size = _place(data, chance), chance.choice((1, 2, 8, 64, 512))
    data[at : at + size] = chance.randbytes(size)


STEPS: tuple[Callable[[bytearray, random.Random], None], ...] = (
    *(_flip,) * 4, *(_byte,) * 3, *(_number,) * 5, *(_digits,) * 2, _cut, _remove, _repeat, _move, _text, _noise,
)  # fmt: skip


def mutate(data: bytes, chance: random.Random, others: list[bytes]) -> bytes:
    """Return a changed copy.

    Args:
        data: a valid file.
        chance: decides; the same state gives the same copy.
        others: byte strings to splice in: other valid files, or what must not be executed.
    """
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 3, 6, 20))):
        if not changed:
            changed = bytearray(chance.randbytes(chance.randrange(1, 100)))
        if others and chance.random() < 0.06:
            other, at = chance.choice(others), _place(changed, chance)
            start = chance.randrange(len(other) + 1)
            changed[at : at + chance.choice((0, 0, len(other)))] = other[
                start : start + chance.choice((16, 512, 10**6))
            ]
        else:
            chance.choice(STEPS)(changed, chance)
    return bytes(changed[: 1 << 20])
