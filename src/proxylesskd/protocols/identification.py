"""Search of probes in a gallery: exact ranks and scores without holding a similarity for every probe and entry.

Similarities are float64 products of float32 embeddings. Blocks of them are found in float32 first; only what float32
cannot tell from the score that decides is computed again, so the result does not depend on blocks or threads.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from proxylesskd.errors import UserError
from proxylesskd.evaluation.roc import Floats

Embeddings = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
EPSILON = 2.0**-23  # twice the unit roundoff of float32
PAIRS = 1 << 14  # float64 products at a time


@dataclass(frozen=True)
class Ranked:
    """What one search of each probe found; an identity of the gallery scores as its most similar entry does.

    Attributes:
        best: ``[P] float64`` highest similarity to any identity but the probe's own, -inf where the gallery has no
            other. Of a probe without mate this is the score of the search.
        mate: ``[P] float64`` similarity to the probe's own identity, nan where the gallery does not have it.
        rank: ``[P] int64`` 1 + the number of other identities that score at least as high as the mate, which loses
            every tie; 0 where there is no mate.
    """

    best: Floats
    mate: Floats
    rank: Ints

    def __len__(self) -> int:
        """Return the number of probes P."""
        return len(self.rank)

    @property
    def mated(self) -> Bools:
        """``[P]`` whether the gallery has the probe's identity."""
        return self.rank > 0


def identify(
    probes: Embeddings, gallery: Embeddings, probe_ids: Ints, gallery_ids: Ints, *, block: int = 1 << 22
) -> Ranked:
    """Search every probe in the whole gallery.

    Args:
        probes: ``[P, D] float32``.
        gallery: ``[G, D] float32``; several entries may be of one identity.
        probe_ids: ``[P]`` identities.
        gallery_ids: ``[G]`` identities.
        block: similarities held at a time, which bounds memory; at least one probe against one identity.

    Raises:
        UserError: the gallery or the probes are empty, shapes do not fit, or an embedding is not finite.
    """
    _check(probes, gallery, probe_ids, gallery_ids)
    enrolled = _Gallery.of(gallery, gallery_ids)
    mates = enrolled.mates_of(probe_ids)
    mate = _mate_scores(probes, enrolled, mates)
    best, higher = np.full(len(probes), -np.inf), np.zeros(len(probes), dtype=np.int64)
    error = _error_bound(probes, gallery)
    wide = max(1, min(len(gallery), int(block**0.5) * 4))
    tall = max(1, block // wide)
    for part in enrolled.parts(wide):
        for start in range(0, len(probes), tall):
            rows = slice(start, start + tall)
            found = _search(probes[rows], enrolled, part, mates[rows], mate[rows], best[rows], error)
            best[rows], higher[rows] = found[0], higher[rows] + found[1]
    return Ranked(best, mate, np.where(np.isnan(mate), 0, higher + 1))


@dataclass(frozen=True)
class _Gallery:
    """A gallery in the order of its identities.

    Attributes:
        entries: ``[G, D]``.
        identities: ``[I]``, ascending.
        starts: ``[I + 1]`` where the entries of each identity begin.
    """

    entries: Embeddings
    identities: Ints
    starts: Ints

    @classmethod
    def of(cls, gallery: Embeddings, ids: Ints) -> _Gallery:
        order = np.argsort(ids, kind="stable")
        ordered = bool((order[1:] > order[:-1]).all())
        identities, starts = np.unique(ids[order], return_index=True)
        return cls(gallery if ordered else gallery[order], identities, np.append(starts, len(ids)))

    def mates_of(self, probe_ids: Ints) -> Ints:
        """Return ``[P, 2]`` first entry of each probe's identity and the one after its last; equal without mate."""
        at = np.searchsorted(self.identities, probe_ids)
        near = np.minimum(at, len(self.identities) - 1)
        known = self.identities[near] == probe_ids
        return np.stack([self.starts[near], np.where(known, self.starts[near + 1], self.starts[near])], axis=1)

    def parts(self, wide: int) -> Iterator[tuple[int, int]]:
        """Yield ranges of identities that have about ``wide`` entries, and at least one identity, each."""
        first, count = 0, len(self.identities)
        while first < count:
            last = int(np.searchsorted(self.starts, self.starts[first] + wide, side="right")) - 1
            last = min(max(last, first + 1), count)
            yield first, last
            first = last


def _search(
    probes: Embeddings, gallery: _Gallery, part: tuple[int, int], mates: Ints, mate: Floats, best: Floats, error: float
) -> tuple[Floats, Ints]:
    """Return the best scores after some identities too, and how many of these beat each probe's mate."""
    starts = gallery.starts[part[0] : part[1]]
    begin, end = int(starts[0]), int(gallery.starts[part[1]])
    entries = gallery.entries[begin:end]
    near = probes @ entries.T  # [B, K], off by at most `error`
    rows, columns = _spread(np.clip(mates, begin, end) - begin)
    near[rows, columns] = -np.inf
    top = near.max(axis=1).astype(np.float64)
    better = _better(probes, entries, near, np.where(np.isinf(top), np.inf, np.maximum(top, best - error) - 2 * error))
    sure, unsure = np.nan_to_num(mate + error, nan=np.inf), np.nan_to_num(mate - error, nan=np.inf)
    beats = near >= sure[:, None]
    rows, columns = np.nonzero((near >= unsure[:, None]) & ~beats)
    beats[rows, columns] = _products(probes, entries, rows, columns) >= mate[rows]
    if len(starts) < end - begin:
        beats = np.logical_or.reduceat(beats, starts - begin, axis=1)
    return np.maximum(best, better), np.count_nonzero(beats, axis=1)


def _better(probes: Embeddings, entries: Embeddings, near: Embeddings, floor: Floats) -> Floats:
    """Return ``[B]`` the highest exact score among the entries whose near score reaches the floor, else -inf."""
    rows, columns = np.nonzero(near >= floor[:, None])
    better = np.full(len(probes), -np.inf)
    np.maximum.at(better, rows, _products(probes, entries, rows, columns))
    return better


def _mate_scores(probes: Embeddings, gallery: _Gallery, mates: Ints) -> Floats:
    rows, entries = _spread(mates)
    highest = np.full(len(probes), -np.inf)
    np.maximum.at(highest, rows, _products(probes, gallery.entries, rows, entries))
    return np.where(mates[:, 0] < mates[:, 1], highest, np.nan)


def _spread(ranges: Ints) -> tuple[Ints, Ints]:
    """Return ``[M]`` rows and ``[M]`` columns of all cells within the range ``[B, 2]`` of each row."""
    counts = ranges[:, 1] - ranges[:, 0]
    rows = np.repeat(np.arange(len(ranges)), counts)
    within = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    return rows, ranges[rows, 0] + within


def _products(left: Embeddings, right: Embeddings, rows: Ints, columns: Ints) -> Floats:
    """Return ``[M] float64`` products of chosen rows, each summed in the same order wherever it stands."""
    found = np.empty(len(rows))
    for start in range(0, len(rows), PAIRS):
        part = slice(start, start + PAIRS)
        first, second = left[rows[part]].astype(np.float64), right[columns[part]].astype(np.float64)
        found[part] = np.einsum("md,md->m", first, second)
    return found


def _error_bound(probes: Embeddings, gallery: Embeddings) -> float:
    """Return how far a float32 product may be from the exact one, in whatever order it was summed, and some room.

    Higham, Accuracy and Stability of Numerical Algorithms (2002), eq. 3.5, with Cauchy and Schwarz.
    """
    return (int(probes.shape[1]) + 4) * EPSILON * max(1.0, _longest(probes) * _longest(gallery))


def _longest(embeddings: Embeddings) -> float:
    return math.sqrt(np.einsum("nd,nd->n", embeddings, embeddings).max())


def _check(probes: Embeddings, gallery: Embeddings, probe_ids: Ints, gallery_ids: Ints) -> None:
    for name, embeddings, ids in (("probe", probes, probe_ids), ("gallery", gallery, gallery_ids)):
        if embeddings.ndim != 2 or not len(embeddings) or ids.shape != embeddings.shape[:1]:
            raise UserError(
                f"expected {name} embeddings [N, D] and an identity for each, found {embeddings.shape} and {ids.shape}"
            )
        if not np.isfinite(embeddings).all():
            raise UserError(f"expected finite {name} embeddings, found others; is the model sound?")
    if probes.shape[1] != gallery.shape[1]:
        raise UserError(
            f"expected gallery and probe embeddings of one dimension, found {gallery.shape[1]} and {probes.shape[1]}; "
            "project the gallery to the dimension of the probes"
        )
