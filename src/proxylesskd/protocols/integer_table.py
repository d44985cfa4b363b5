"""Long tables of whole numbers as text, parsed by whole blocks of bytes: 15.7 million lines in seconds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from proxylesskd.errors import UserError

Bytes = npt.NDArray[np.uint8]
BLOCK = 1 << 24
MAX_BYTES = 4 << 30
MAX_DIGITS = 9  # so that every number fits 32 bits
SPACES = np.isin(np.arange(256), list(b" \t\r\n"))  # [256]


def read_integers(path: Path, columns: int, form: str) -> npt.NDArray[np.int32]:
    """Read lines of ``columns`` whole numbers below 10^9 that spaces or tabs separate; blank lines are skipped.

    Args:
        path: the file, at most 4 GiB.
        columns: numbers in every line.
        form: how a person would write a line, for messages.

    Returns:
        ``[L, columns] int32``.

    Raises:
        UserError: no such file, too large, or a line of another form, with its number.
    """
    parts = [np.empty((0, columns), np.int32)]
    lines = 0
    for block in _blocks(path, form):
        data = np.frombuffer(block, np.uint8)
        parts.append(_parse(data, columns, path, form, lines))
        lines += int(np.count_nonzero(data == 10))
    return np.concatenate(parts)


def _blocks(path: Path, form: str) -> Iterator[bytes]:
    """Yield the file in blocks of whole lines."""
    try:
        if (size := path.stat().st_size) > MAX_BYTES:
            raise UserError(f"expected a list of at most {MAX_BYTES >> 30} GiB, found {size / 2**30:.1f} in '{path}'")
        with path.open("rb") as file:
            rest = b""
            while block := file.read(BLOCK):
                whole, newline, after = block.rpartition(b"\n")
                if not newline and len(rest) + len(block) > BLOCK:
                    raise UserError(f"expected lines like '{form}' in '{path}', found one of more than 16 MiB")
                if newline:
                    yield rest + whole + newline
                rest = after if newline else rest + block
            if rest:
                yield rest + b"\n"
    except OSError as error:
        raise UserError(f"expected a list of lines like '{form}', found {error}; is the set complete?") from error


def _parse(data: Bytes, columns: int, path: Path, form: str, before: int) -> npt.NDArray[np.int32]:
    """Parse whole lines ``[B]`` that follow ``before`` others."""
    digits = data - np.uint8(48) < 10  # [B], unsigned: what is below '0' wraps around
    edges = np.flatnonzero(np.diff(digits, prepend=False)).reshape(-1, 2)  # the last byte is a newline
    starts, ends = edges[:, 0], edges[:, 1]
    newlines = np.flatnonzero(data == 10)
    counts = np.diff(np.searchsorted(starts, newlines), prepend=0)  # [L] numbers in each line
    wrong = (counts != columns) & (counts != 0)
    bad = newlines[wrong]
    bad = np.append(bad, starts[ends - starts > MAX_DIGITS])
    bad = np.append(bad, np.flatnonzero(~digits & ~SPACES[data]))
    if len(bad):
        _refuse(data, int(np.searchsorted(newlines, bad.min())), newlines, path, form, before)
    values = np.zeros(len(starts), np.int32)
    lengths = ends - starts
    for place in range(int(lengths.max(initial=0))):
        longer = np.flatnonzero(lengths > place) if place else slice(None)
        values[longer] += (data[ends[longer] - 1 - place] - np.uint8(48)).astype(np.int32) * 10**place
    return values.reshape(-1, columns)


def _refuse(data: Bytes, line: int, newlines: npt.NDArray[np.int64], path: Path, form: str, before: int) -> None:
    start = int(newlines[line - 1]) + 1 if line else 0
    text = bytes(data[start : int(newlines[line])][:80]).decode("utf-8", "replace")
    raise UserError(f"expected '{form}' in line {before + line + 1} of '{path}', found {text!r}; fetch the list again")
