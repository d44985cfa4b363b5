"""Tables of sums that never round: whole numbers of steps, so that adding has no order.

Two tables give the same numbers. :class:`FloatSums` is plain float64. :class:`SplitSums` is for tables beyond the
caches, where every embedding costs a row read and a row written: its rows are half as wide, int32, and what would
overflow them is carried into a second table that is seldom touched.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from functools import cache
from typing import Any, Protocol, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

# Embeddings are rounded to multiples of 2^-28, the distance of float32 numbers around 0.04. Float64 adds such
# numbers without rounding up to 2^25 of them.
STEPS = 2.0**28

LONGEST = np.float32(1.01)  # squared; unit embeddings exceed 1 by rounding only
SPLIT_FROM = 2**26  # bytes of float64 sums from which the compiled table is worth its compilation
ROWS_AT_ONCE = 512  # [512, 512] float64 is 2 MiB, which the caches hold

Floats = npt.NDArray[np.float64]
Kernel = Callable[..., int]


class ExactSums(Protocol):
    """``[C, D]`` sums, counted in steps of 2^-28."""

    def add(self, embeddings: Tensor, labels: Tensor) -> bool:
        """Add ``[n, D] float32`` to the rows ``[n] int64``; return whether all had at most unit length."""
        ...

    def at(self, where: slice | npt.NDArray[np.int64]) -> Floats:
        """Return ``[n, D]`` rows in steps; whole numbers."""
        ...

    def put(self, where: slice, rows: Floats) -> None:
        """Replace rows by others, in steps."""
        ...

    def memory(self) -> npt.NDArray[np.float32]:
        """Return ``[C, D]`` over the memory of the sums, where row k may be written when rows 0 to k were read."""
        ...


def exact_sums(count: int, dim: int) -> ExactSums:
    """Return the table that is faster for ``[count, dim]`` sums: numba compiles the one for large tables."""
    if count * dim * 8 >= SPLIT_FROM and importlib.util.find_spec("numba") is not None:
        return SplitSums(count, dim)
    return FloatSums(count, dim)


class FloatSums:
    """Sums in float64; see :class:`ExactSums`."""

    def __init__(self, count: int, dim: int) -> None:
        # Filled by numpy, not zeroed by the system: large pages come quickly so, and rows are met in no order.
        self._sums = np.full((count, dim), 0.0)

    def add(self, embeddings: Tensor, labels: Tensor) -> bool:
        """Add embeddings to their rows; see :class:`ExactSums`."""
        sums, whole = torch.from_numpy(self._sums), True
        for part, rows in zip(torch.split(embeddings, ROWS_AT_ONCE), torch.split(labels, ROWS_AT_ONCE), strict=True):
            # Scaling by a power of two is exact: the rounding is that of each number alone.
            steps = part.mul(STEPS).round_().double()  # [n, D]
            sums.scatter_add_(0, rows[:, None].expand_as(steps), steps)
            whole &= bool((part.square().sum(dim=1) < float(LONGEST)).all())
        return whole

    def at(self, where: slice | npt.NDArray[np.int64]) -> Floats:
        """Return rows; see :class:`ExactSums`."""
        return self._sums[where]

    def put(self, where: slice, rows: Floats) -> None:
        """Replace rows; see :class:`ExactSums`."""
        self._sums[where] = rows

    def memory(self) -> npt.NDArray[np.float32]:
        """Return the first half of the memory; see :class:`ExactSums`."""
        return self._sums.reshape(-1).view(np.float32)[: self._sums.size].reshape(self._sums.shape)


class SplitSums:
    """Sums as ``low + 2^24 high``, both int32; see :class:`ExactSums`."""

    def __init__(self, count: int, dim: int) -> None:
        # Filled at once, not when met: large pages come quickly so, and rows are met in no order.
        self._low = np.full((count, dim), 0, np.int32)
        self._high = np.zeros((count, dim), np.int32)  # takes no memory until it is written
        self._held = np.zeros(count, np.int8)  # components of `low` are at most this many ones
        self._carried = np.zeros(count, np.bool_)  # rows of `high` that are in use
        self._add = _compiled()

    def add(self, embeddings: Tensor, labels: Tensor) -> bool:
        """Add embeddings to their rows; see :class:`ExactSums`."""
        embedded = embeddings.contiguous().numpy()
        return self._add(self._low, self._high, self._held, self._carried, embedded, labels.numpy()) == 0

    def at(self, where: slice | npt.NDArray[np.int64]) -> Floats:
        """Return rows; see :class:`ExactSums`."""
        rows = self._low[where].astype(np.float64)
        if self._carried[where].any():  # reading takes time, and memory on some systems
            rows += 2.0**24 * self._high[where]
        return rows

    def put(self, where: slice, rows: Floats) -> None:
        """Replace rows; see :class:`ExactSums`."""
        high = np.floor(rows / 2.0**24)
        self._high[where] = high
        self._low[where] = rows - high * 2.0**24
        self._held[where] = 1
        self._carried[where] = True

    def memory(self) -> npt.NDArray[np.float32]:
        """Return the memory of the lower parts; see :class:`ExactSums`."""
        return self._low.view(np.float32)


@cache
def _compiled() -> Kernel:
    import numba

    # Reordering serves the check of the norm alone; the sums themselves are of whole numbers.
    options = {"nogil": True, "fastmath": {"reassoc", "contract"}}
    try:
        return cast(Kernel, numba.njit(cache=True, **options)(_add_rows))
    except RuntimeError:  # a read-only installation without a home folder: compile in every process instead
        return cast(Kernel, numba.njit(**options)(_add_rows))


def _add_rows(low: Any, high: Any, held: Any, carried: Any, embeddings: Any, labels: Any) -> int:
    """Add the embeddings to the rows of their labels; return how many are longer than unit ones can be."""
    scale, dim, wrong = np.float32(2**28), low.shape[1], 0
    for i in range(len(labels)):
        row = labels[i]
        if held[row] == 7:  # eight ones might overflow: look, and carry if need be
            most = 0
            for d in range(dim):
                most = max(most, abs(low[row, d]))
            held[row] = (most >> 28) + 1
            if held[row] > 5:
                held[row], carried[row] = 1, True
                for d in range(dim):
                    high[row, d] += low[row, d] >> 24
                    low[row, d] &= 0xFFFFFF
        held[row] += 1
        square = np.float32(0)
        for d in range(dim):
            value = embeddings[i, d]
            square += value * value
            low[row, d] += np.int32(np.rint(value * scale))
        if not square < LONGEST:
            wrong += 1
    return wrong
