"""Exact order statistics of more scores than memory holds, from a few passes over them.

The first pass counts the scores on an even grid. It tells in which bin every wanted score lies; a further pass counts
each different value of those bins alone (two further ones for bins around zero, where float32 is finest). Nothing is
interpolated: the results are those of sorting all scores.

The scores come as a *stream*: a callable that yields arrays of float32, the same scores on every call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Scores = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Stream = Callable[[], Iterator[Scores]]

BINS = 1 << 16  # of the grid over [-1, 1]; what lies beyond falls into the outermost
WIDEST = 1 << 17  # counts held at a time for one interval
LARGEST = 2.0**64  # no product of embeddings is as large
_HALF = np.float32(BINS // 2)


class Place(NamedTuple):
    """A score, how many scores are higher, and how many are at least as high."""

    score: float
    higher: int
    reaching: int


@dataclass(frozen=True)
class Steps:
    """The different scores of an interval.

    Attributes:
        values: ``[M] float32`` different scores, highest first.
        counts: ``[M]`` how many scores are equal to each.
        above: how many scores are higher than the first.
    """

    values: Scores
    counts: Ints
    above: int

    def covers(self, rank: int) -> bool:
        """Say whether the score at a rank is one of these."""
        return self.above <= rank < self.above + int(self.counts.sum())

    def at(self, rank: int) -> Place:
        """Return what stands at a rank that these steps cover."""
        reaching = self.above + np.cumsum(self.counts)
        step = int(np.searchsorted(reaching, rank, side="right"))
        return Place(float(self.values[step]), int(reaching[step] - self.counts[step]), int(reaching[step]))


def bins_of(scores: Scores) -> Ints:
    """Return ``[N]`` bins of the grid: they never fall where scores rise, which is all that exactness needs."""
    scaled = scores * _HALF
    scaled += _HALF
    np.clip(scaled, 0, BINS - 1, out=scaled)
    return scaled.astype(np.int64)


def edges() -> npt.NDArray[np.float64]:
    """Return ``[BINS + 1]`` edges of the grid."""
    return np.linspace(-1.0, 1.0, BINS + 1)


def count_on_grid(stream: Stream) -> Ints:
    """Return ``[BINS]`` numbers of scores."""
    counts = np.zeros(BINS, dtype=np.int64)
    for scores in stream():
        counts += np.bincount(bins_of(scores), minlength=BINS)
    return counts


class SortedScores:
    """Scores as if they stood sorted in memory, highest first; what one pass found is kept for later questions.

    Args:
        stream: the scores.

    Attributes:
        grid: ``[BINS]`` their numbers on the grid.
    """

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self.grid = count_on_grid(stream)
        self._known: list[Steps] = []

    def __len__(self) -> int:
        """Return the number of scores."""
        return int(self.grid.sum())

    def prepare(self, ranks: Iterable[int]) -> None:
        """Find all these ranks together, which takes one pass or two."""
        wanted = [rank for rank in ranks if not any(steps.covers(rank) for steps in self._known)]
        if wanted:
            self._known += steps_at(self._stream, self.grid, wanted)

    def at(self, rank: int) -> Place:
        """Return what stands at a rank."""
        self.prepare([rank])
        return next(steps for steps in self._known if steps.covers(rank)).at(rank)


def steps_at(stream: Stream, grid: Ints, ranks: Sequence[int]) -> list[Steps]:
    """Return the different scores around each of some ranks."""
    begun = {rank: _bin_at(grid, rank) for rank in ranks}
    found: dict[_Interval, Steps] = {}
    while begun:
        intervals = sorted(set(begun.values()), key=lambda interval: interval.low)
        counted = dict(zip(intervals, _count_within(stream, intervals), strict=True))
        found |= {interval: interval.steps(counts) for interval, counts in counted.items() if interval.step == 1}
        begun = {rank: i.narrowed(counted[i], rank) for rank, i in begun.items() if i.step > 1}
    return list(found.values())


@dataclass(frozen=True)
class _Interval:
    """Scores between two keys.

    Attributes:
        low: lowest key.
        high: highest key.
        above: number of scores with higher keys.
    """

    low: int
    high: int
    above: int

    @property
    def step(self) -> int:
        """How many keys are counted together."""
        return -(-(self.high - self.low + 1) // WIDEST)

    def steps(self, counts: Ints) -> Steps:
        """Return the scores of which there are some, counted key by key."""
        present = np.flatnonzero(counts)[::-1]
        return Steps(_scores_of(self.low + present), counts[present], self.above)

    def narrowed(self, counts: Ints, rank: int) -> _Interval:
        """Return the part that holds the score at a rank."""
        reached = self.above + np.cumsum(counts[::-1])
        place = int(np.searchsorted(reached, rank, side="right"))
        part = len(counts) - 1 - place
        low = self.low + part * self.step
        return _Interval(low, min(low + self.step - 1, self.high), int(reached[place] - counts[part]))


def _bin_at(grid: Ints, rank: int) -> _Interval:
    reached = np.cumsum(grid[::-1])
    place = int(np.searchsorted(reached, rank, side="right"))
    number = BINS - 1 - place
    return _Interval(_first_key(number), _first_key(number + 1) - 1, int(reached[place] - grid[number]))


def _first_key(number: int) -> int:
    """Return the lowest key whose score lies in this bin or a higher one."""
    low, high = (int(key) for key in _keys(np.array([-LARGEST, LARGEST], dtype=np.float32)))
    while low < high:
        middle = (low + high) // 2
        if int(bins_of(_scores_of(np.array([middle])))[0]) >= number:
            high = middle
        else:
            low = middle + 1
    return low


def _count_within(stream: Stream, intervals: Sequence[_Interval]) -> list[Ints]:
    """Return for each interval how many scores are in each of its parts."""
    counts = [np.zeros(-(-(i.high - i.low + 1) // i.step), dtype=np.int64) for i in intervals]
    bounds = [_scores_of(np.array([i.low, i.high])) for i in intervals]
    floor = min(low for low, _ in bounds)
    for scores in stream():
        reaching = scores[np.flatnonzero(scores >= floor)]
        for interval, (low, high), count in zip(intervals, bounds, counts, strict=True):
            inside = reaching[np.flatnonzero((reaching >= low) & (reaching <= high))]
            np.add.at(count, (_keys(inside) - interval.low) // interval.step, 1)
    return counts


def _keys(scores: Scores) -> Ints:
    """Return ``[N]`` whole numbers in the order of the scores, consecutive for neighbours; 0 for both zeros."""
    bits = scores.view(np.int32).astype(np.int64)
    return np.where(bits < 0, -(bits & 0x7FFFFFFF), bits)


def _scores_of(keys: Ints) -> Scores:
    bits = np.where(keys < 0, -keys | 0x80000000, keys)
    return bits.astype(np.uint32).view(np.float32)
