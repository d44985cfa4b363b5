"""Who of a gallery is most like a probe: exact search, by numpy in blocks or by faiss.

The similarity of an identity is that of its photo most like the probe.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from proxylesskd.errors import UserError, nearest, require_extra

Embeddings = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
BLOCK = 1 << 15  # rows at a time: 64 MiB of 512 dimensions
ROUNDING = 1e-5  # by which two ways of summing a product of unit vectors differ at most
ENGINES = ("numpy", "faiss")


@dataclass(frozen=True)
class Entries:
    """All that is enrolled, grouped by identity.

    Attributes:
        identities: I names, sorted.
        photos: N names, those of one identity beside each other.
        starts: ``[I + 1]`` where each identity's photos begin, and N.
        embeddings: ``[N, D] float32`` of unit length.
    """

    identities: Sequence[str]
    photos: Sequence[str]
    starts: Ints
    embeddings: Embeddings
    index: list[Any] = field(default_factory=list, repr=False, compare=False)

    def __len__(self) -> int:
        """Return the number of photos N."""
        return len(self.photos)


@dataclass(frozen=True)
class Match:
    """An identity and its photo that is most like the probe.

    Attributes:
        identity: its number.
        photo: the photo's number.
        score: cosine in [-1, 1], but for rounding.
    """

    identity: int
    photo: int
    score: float


def search(entries: Entries, probe: Embeddings, k: int, *, engine: str = "numpy") -> list[Match]:
    """Return the k identities most like a probe, the most like first; of equals the first by name.

    Args:
        entries: what is enrolled.
        probe: ``[D] float32`` of unit length.
        k: at least 1; fewer are returned where fewer are enrolled.
        engine: ``"numpy"``, or ``"faiss"``, which finds the same and takes as long for one probe.

    Raises:
        UserError: k or the engine is none, or faiss is not installed.
    """
    if k < 1:
        raise UserError(f"expected to be asked for at least one identity, found {k}")
    if engine not in ENGINES:
        raise UserError(f"expected an engine out of {', '.join(ENGINES)}, found '{engine}'{nearest(engine, ENGINES)}")
    if not len(entries):
        return []
    likely = _by_faiss(entries, probe, k) if engine == "faiss" else _by_numpy(entries, probe, k)
    matches = sorted((_match(entries, probe, number) for number in likely), key=lambda m: (-m.score, m.identity))
    return matches[:k]


def best_scores(entries: Entries, probe: Embeddings) -> Embeddings:
    """Return ``[I] float32``, the similarity of every identity to a probe ``[D]``, in blocks of rows."""
    best = np.full(len(entries.identities), -np.inf, dtype=np.float32)
    owner = np.repeat(np.arange(len(best)), np.diff(entries.starts))
    for start in range(0, len(entries), BLOCK):
        scores = entries.embeddings[start : start + BLOCK] @ probe
        mine = owner[start : start + BLOCK]
        first = np.flatnonzero(np.diff(mine, prepend=-1))  # photos of one identity are neighbours
        best[mine[first]] = np.maximum(best[mine[first]], np.maximum.reduceat(scores, first))
    return best


def _by_numpy(entries: Entries, probe: Embeddings, k: int) -> list[int]:
    """Return the k identities most like the probe, and those that rounding may have put behind them."""
    best = best_scores(entries, probe)
    least = np.partition(best, -k)[-k] if k < len(best) else -np.inf
    return [int(number) for number in np.flatnonzero(best >= least - ROUNDING)]


def _by_faiss(entries: Entries, probe: Embeddings, k: int) -> list[int]:
    """Return at least the k identities most like the probe, asking for more photos until no other can be among them."""
    index = _index(entries)
    owner = np.searchsorted(entries.starts, np.arange(len(entries)), side="right") - 1
    wanted = min(len(entries), max(4 * k, 64))
    while True:
        scores, photos = index.search(probe[None], wanted)
        found = list(dict.fromkeys(owner[photos[0]].tolist()))  # in the order of their best photos
        if wanted == len(entries):
            return found
        if len(found) > k and scores[0, -1] < scores[0, _first(owner[photos[0]], found[k - 1])] - ROUNDING:
            return found
        wanted = min(len(entries), 4 * wanted)


def _first(owners: Ints, identity: int) -> int:
    return int(np.argmax(owners == identity))


def _index(entries: Entries) -> Any:
    """Make the index once for all probes of the same entries."""
    if not entries.index:
        made = _faiss().IndexFlatIP(entries.embeddings.shape[1])
        made.add(np.ascontiguousarray(entries.embeddings))
        entries.index.append(made)
    return entries.index[0]


def _match(entries: Entries, probe: Embeddings, identity: int) -> Match:
    first, stop = int(entries.starts[identity]), int(entries.starts[identity + 1])
    scores = entries.embeddings[first:stop].astype(np.float64) @ probe.astype(np.float64)
    best = int(scores.argmax())
    return Match(identity, first + best, float(scores[best]))


def _faiss() -> Any:
    try:
        import faiss
    except ImportError as error:
        raise require_extra("faiss-cpu", "faiss", "searching with faiss") from error
    return faiss
