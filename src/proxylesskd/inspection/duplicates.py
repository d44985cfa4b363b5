"""The same picture under two names: equal bytes, or embeddings of a teacher that are nearly one."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from proxylesskd.errors import UserError

Ints = npt.NDArray[np.int64]
BLOCK = 1 << 11  # embeddings at a time: 16 MB of cosines
SHOWN = 1000


@dataclass(frozen=True)
class Twins:
    """Two images of two identities that are nearly one picture.

    Attributes:
        first: index of the image.
        second: of the other one.
        cosine: between the teacher's embeddings; None where the encoded bytes are equal.
    """

    first: int
    second: int
    cosine: float | None = None


def equal_twins(digests: Mapping[int, bytes], labels: Ints) -> list[Twins]:
    """Return images with equal bytes under different labels, each with the first one that has them.

    Args:
        digests: index -> hash of the encoded image.
        labels: ``[N] int64`` of the source.
    """
    first = dict[bytes, int]()
    found = list[Twins]()
    for index, digest in sorted(digests.items()):
        known = first.setdefault(digest, index)
        if labels[known] != labels[index]:
            found.append(Twins(known, index))
    return found


def near_twins(
    embeddings: npt.NDArray[np.float32], indices: Sequence[int], labels: Ints, threshold: float
) -> tuple[list[Twins], int]:
    """Find pairs of images of two identities whose cosine reaches a threshold, in blocks of bounded memory.

    Args:
        embeddings: ``[n, D] float32`` of unit length.
        indices: ``[n]`` of the images in the source.
        labels: ``[n] int64``.
        threshold: cosine in (0, 1].

    Returns:
        The 1,000 pairs of the highest cosine, highest first, and how many there are.

    Raises:
        UserError: the threshold is out of range.
    """
    if not 0 < threshold <= 1:
        raise UserError(f"expected a threshold in (0, 1] for near duplicates, found {threshold}")
    best, total = list[tuple[float, int, int]](), 0
    for values, rows, columns in _hits(embeddings, labels, threshold):
        total += len(values)
        strongest = np.argsort(-values, kind="stable")[:SHOWN]
        pairs = zip(values[strongest].tolist(), rows[strongest].tolist(), columns[strongest].tolist(), strict=True)
        best = heapq.nlargest(SHOWN, [*best, *pairs])
    return [Twins(indices[a], indices[b], cosine) for cosine, a, b in best], total


def _hits(
    embeddings: npt.NDArray[np.float32], labels: Ints, threshold: float
) -> Iterator[tuple[npt.NDArray[np.float32], Ints, Ints]]:
    """Yield cosines and positions of pairs that reach the threshold, each pair once."""
    for top in range(0, len(embeddings), BLOCK):
        for left in range(top, len(embeddings), BLOCK):
            rows, columns = slice(top, top + BLOCK), slice(left, left + BLOCK)
            cosine = embeddings[rows] @ embeddings[columns].T  # [b, b']
            hit = (cosine >= threshold) & (labels[rows, None] != labels[None, columns])
            if top == left:
                hit = np.triu(hit, 1)
            i, j = np.nonzero(hit)
            yield cosine[i, j], i + top, j + left
