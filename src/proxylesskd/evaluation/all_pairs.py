"""Every comparison of labelled embeddings, block by block: 20,000 x 20,000 similarities are never held.

A similarity is the float32 product that BLAS gives for its block. Blocks are cut the same way on every pass, so a pair
has the same score each time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from proxylesskd.errors import UserError

Embeddings = npt.NDArray[np.float32]
Scores = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

BLOCK = 1024


@dataclass(frozen=True)
class Chosen:
    """Some comparisons.

    Attributes:
        scores: ``[M] float32``.
        first: ``[M]`` label of the first image, that of the gallery.
        second: ``[M]`` label of the other.
    """

    scores: Scores
    first: Ints
    second: Ints


@dataclass(frozen=True)
class AllPairs:
    """All pairs of different images: each once, or in both orders where the gallery is of another model.

    Attributes:
        probes: ``[N, D] float32``, in the order of the labels.
        labels: ``[N]`` ascending, in [0, identities).
        gallery: ``[N, D] float32`` of the same images by the gallery's model, or None.
        block: images on each side of a block.
    """

    probes: Embeddings
    labels: Ints
    gallery: Embeddings | None = None
    block: int = BLOCK

    @classmethod
    def of(cls, probes: Embeddings, ids: Ints, gallery: Embeddings | None = None, *, block: int = BLOCK) -> AllPairs:
        """Take images in any order.

        Args:
            probes: ``[N, D] float32``.
            ids: ``[N]`` identities.
            gallery: ``[N, D] float32`` of the same images by the gallery's model.
            block: images on each side of a block.

        Raises:
            UserError: shapes differ, an embedding is not finite, or there are no genuine or no impostor pairs.
        """
        _check(probes, ids, gallery)
        order = np.argsort(ids, kind="stable")
        labels = np.unique(ids[order], return_inverse=True)[1].astype(np.int64)
        pairs = cls(probes[order], labels, None if gallery is None else gallery[order], block)
        for kind, count in (("genuine", pairs.genuine_count), ("impostor", pairs.impostor_count)):
            if not count:
                raise UserError(f"expected genuine and impostor pairs, found no {kind} pair among {len(ids)} images")
        return pairs

    @property
    def genuine_count(self) -> int:
        """How many comparisons are of one identity."""
        sizes = np.bincount(self.labels)
        return int((sizes * (sizes - 1)).sum()) // (2 if self.gallery is None else 1)

    @property
    def impostor_count(self) -> int:
        """How many comparisons are of two identities."""
        sizes = np.bincount(self.labels)
        return (len(self.labels) ** 2 - int((sizes**2).sum())) // (2 if self.gallery is None else 1)

    def impostors(self) -> Iterator[Scores]:
        """Yield the scores of all impostor pairs; an array holds until the next one is asked for."""
        for rows, columns, scores in self._blocks():
            yield scores[self._different(rows, columns)] if self._meets(rows, columns) else scores.reshape(-1)

    def impostors_above(self, floor: float) -> Chosen:
        """Return the impostor pairs that score higher than a floor."""
        parts = []
        for rows, columns, scores in self._blocks():
            chosen = scores > floor
            if self._meets(rows, columns):
                chosen &= self._different(rows, columns)
            parts.append(self._chosen(rows, columns, scores, chosen))
        return _joined(parts)

    def genuine(self) -> Chosen:
        """Return all genuine pairs."""
        parts = []
        for rows, columns, scores in self._blocks(meeting=True):
            same = self.labels[rows, None] == self.labels[None, columns]
            same &= _apart(rows, columns) if self.gallery is not None else _later(rows, columns)
            parts.append(self._chosen(rows, columns, scores, same))
        return _joined(parts)

    def _blocks(self, *, meeting: bool = False) -> Iterator[tuple[slice, slice, Scores]]:
        """Yield images, images and their scores; with ``meeting`` only the blocks that hold genuine pairs."""
        count, room = len(self.labels), np.empty(self.block**2, dtype=np.float32)
        first = self.probes if self.gallery is None else self.gallery
        for start in range(0, count, self.block):
            rows = slice(start, min(start + self.block, count))
            for other in range(start if self.gallery is None else 0, count, self.block):
                columns = slice(other, min(other + self.block, count))
                if meeting and not self._meets(rows, columns):
                    continue
                shape = rows.stop - rows.start, columns.stop - columns.start
                scores = room[: shape[0] * shape[1]].reshape(shape)
                yield rows, columns, np.matmul(first[rows], self.probes[columns].T, out=scores)

    def _meets(self, rows: slice, columns: slice) -> bool:
        """Say whether a block holds images of one identity."""
        mine, other = self.labels[rows], self.labels[columns]
        return bool(mine[0] <= other[-1] and other[0] <= mine[-1])

    def _different(self, rows: slice, columns: slice) -> Bools:
        different: Bools = self.labels[rows, None] != self.labels[None, columns]
        return different & _later(rows, columns) if self.gallery is None else different

    def _chosen(self, rows: slice, columns: slice, scores: Scores, chosen: Bools) -> Chosen:
        at, other = np.nonzero(chosen)
        return Chosen(scores[at, other], self.labels[rows][at], self.labels[columns][other])


def _later(rows: slice, columns: slice) -> Bools:
    """Return which cells have a column after the row: each pair once."""
    later: Bools = np.arange(rows.start, rows.stop)[:, None] < np.arange(columns.start, columns.stop)
    return later


def _apart(rows: slice, columns: slice) -> Bools:
    apart: Bools = np.arange(rows.start, rows.stop)[:, None] != np.arange(columns.start, columns.stop)
    return apart


def _joined(parts: list[Chosen]) -> Chosen:
    return Chosen(
        np.concatenate([part.scores for part in parts]),
        np.concatenate([part.first for part in parts]),
        np.concatenate([part.second for part in parts]),
    )


def _check(probes: Embeddings, ids: Ints, gallery: Embeddings | None) -> None:
    if probes.ndim != 2 or ids.shape != probes.shape[:1]:
        raise UserError(f"expected embeddings [N, D] and an identity for each, found {probes.shape} and {ids.shape}")
    if gallery is not None and gallery.shape != probes.shape:
        raise UserError(
            f"expected gallery and probe embeddings of one shape, found {gallery.shape} and {probes.shape}; "
            "project the gallery to the dimension of the probes"
        )
    if not all(np.isfinite(each).all() for each in (probes, gallery) if each is not None):
        raise UserError("expected finite embeddings, found others; is the model sound?")
