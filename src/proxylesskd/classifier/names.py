"""Names of millions of identities: one text and where each name ends in it, instead of an object a name."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import overload

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from proxylesskd.errors import UserError

FEW = 1 << 18  # names that are kept as an ordinary list: some 20 MB
_BLOCK = 1 << 16
# File systems allow names that are no text, which Python spells with lone surrogates.
_ERRORS = "surrogatepass"


class Names(Sequence[str]):
    """A frozen list of names that are decoded when they are asked for.

    Args:
        text: ``[bytes] uint8``, all names in UTF-8, one after the other; possibly a view on a file.
        ends: ``[C] int64``, where each name ends.

    Raises:
        UserError: the ends do not cut the text into names.
    """

    def __init__(self, text: Tensor, ends: Tensor) -> None:
        whole = text.dtype == torch.uint8 and ends.dtype == torch.int64 and text.ndim == ends.ndim == 1
        if not whole or not _cuts(ends.numpy(), len(text)):
            raise UserError("expected names and where each of them ends, found numbers that do not fit; make it anew")
        self.text, self.ends = text, ends
        self._data = text.numpy().data

    @classmethod
    def pack(cls, names: Sequence[str]) -> Names:
        """Put names one after the other; those that are packed stay as they are."""
        if isinstance(names, Names):
            return names
        data, lengths = bytearray(), np.empty(len(names), dtype=np.int64)
        for place, name in enumerate(names):
            raw = name.encode("utf-8", _ERRORS)
            lengths[place] = len(raw)
            data += raw
        return cls(torch.from_numpy(np.frombuffer(data, dtype=np.uint8)), torch.from_numpy(np.cumsum(lengths)))

    def __len__(self) -> int:
        return len(self.ends)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            return list(self._between(start, stop)) if step == 1 else [self[i] for i in range(start, stop, step)]
        place = range(len(self))[index]
        begin = int(self.ends[place - 1]) if place else 0
        return str(self._data[begin : int(self.ends[place])], "utf-8", _ERRORS)

    def __iter__(self) -> Iterator[str]:
        return self._between(0, len(self))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or isinstance(other, str) or len(other) != len(self):
            return False
        return all(mine == theirs for mine, theirs in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Names({len(self)}: {', '.join(map(repr, self[:3]))}{', …' if len(self) > 3 else ''})"

    def _between(self, start: int, stop: int) -> Iterator[str]:
        for first in range(start, max(start, stop), _BLOCK):
            last = min(first + _BLOCK, stop)
            begin = int(self.ends[first - 1]) if first else 0
            cuts: list[int] = [0, *(self.ends[first:last] - begin).tolist()]
            raw = bytes(self._data[begin : begin + cuts[-1]])
            for a, b in pairwise(cuts):
                yield raw[a:b].decode("utf-8", _ERRORS)


def names_from(text: Tensor, ends: Tensor | None) -> Sequence[str]:
    """Return the names that a file holds; few of them as an ordinary list.

    Args:
        text: ``[bytes] uint8``; without ``ends`` a list in JSON, as older files have it.
        ends: ``[C] int64`` or None.

    Raises:
        UserError: they are no names.
    """
    if ends is not None:
        names = Names(text, ends)
        try:
            return list(names) if len(names) <= FEW else names
        except UnicodeDecodeError as error:
            raise UserError(f"expected names in UTF-8, found {error}; make the classifier anew") from error
    try:
        found = json.loads(bytes(text.numpy()))
    except (ValueError, RecursionError) as error:
        raise UserError(f"expected a list of names in JSON, found {error}; make the classifier anew") from error
    if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
        raise UserError("expected a list of names, found something else; make the classifier anew")
    return found


def twice(names: Sequence[str]) -> str | None:
    """Return a name that stands more than once, or None; takes 16 bytes a name.

    Raises:
        UserError: a name is not text.
    """
    try:
        # Python's hash is keyed anew in every process: nobody can prepare names that collide.
        hashes = np.fromiter((hash(name) for name in names), dtype=np.int64, count=len(names))
    except UnicodeDecodeError as error:
        raise UserError(f"expected names in UTF-8, found {error}; make the classifier anew") from error
    ordered = np.sort(hashes)
    suspects = set(ordered[1:][ordered[1:] == ordered[:-1]].tolist())
    seen: set[str] = set()
    for place in np.flatnonzero(np.isin(hashes, list(suspects))).tolist() if suspects else ():
        if names[place] in seen:
            return names[place]
        seen.add(names[place])
    return None


def json_of(names: Sequence[str]) -> Iterator[bytes]:
    """Yield pieces of ``json.dumps(list(names))``, for a hash of all names without a list of all."""
    yield b"["
    for start in range(0, len(names), _BLOCK):
        piece = json.dumps(list(names[start : start + _BLOCK]))[1:-1]
        yield (", " if start else "").encode() + piece.encode()
    yield b"]"


def _cuts(ends: npt.NDArray[np.int64], length: int) -> bool:
    """Say whether places go up from 0 or more to ``length``."""
    if len(ends) == 0:
        return length == 0
    return bool(ends[0] >= 0 and ends[-1] == length and (ends[1:] >= ends[:-1]).all())
