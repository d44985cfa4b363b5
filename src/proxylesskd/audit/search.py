"""Nearest rows among very many, in blocks: memory stays bounded however many rows there are."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

QUERIES = 1024  # rows at a time on one side …
CANDIDATES = 32768  # … and on the other: [1024, 32768] float32 cosines are 128 MiB
TIE = 1e-5  # cosines that differ by less are equal up to rounding: nobody wins
SPREAD_SAMPLE = 4096  # rows behind an estimate of the spread


def nearest_rows(queries: Tensor, rows: Tensor, exclude: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Find the nearest row of every query.

    Args:
        queries: ``[n, D] float32`` unit vectors.
        rows: ``[R, D] float32`` unit vectors.
        exclude: ``[n] int64``, a row that each query must not choose, or None.

    Returns:
        ``[n] float32`` cosines in [-1, 1] and ``[n] int64`` rows; -1 where every row is excluded.
    """
    found = [
        _nearest_of(queries[at : at + QUERIES], rows, None if exclude is None else exclude[at : at + QUERIES])
        for at in range(0, len(queries), QUERIES)
    ]
    if not found:
        return queries.new_empty(0), torch.empty(0, dtype=torch.int64, device=queries.device)
    return torch.cat([similarity for similarity, _ in found]), torch.cat([where for _, where in found])


def _nearest_of(queries: Tensor, rows: Tensor, exclude: Tensor | None) -> tuple[Tensor, Tensor]:
    best = queries.new_full((len(queries),), -math.inf)
    where = torch.full((len(queries),), -1, dtype=torch.int64, device=queries.device)
    for start in range(0, len(rows), CANDIDATES):
        cosine = queries @ rows[start : start + CANDIDATES].T  # [n, candidates]
        if exclude is not None:
            here = ((exclude >= start) & (exclude < start + cosine.shape[1])).nonzero().flatten()
            cosine[here, exclude[here] - start] = -math.inf
        similarity, column = cosine.max(dim=1)
        better = similarity > best
        best = torch.where(better, similarity, best)
        where = torch.where(better, column + start, where)
    return best, where


@dataclass(frozen=True)
class ClosePairs:
    """Rows that are nearly the same.

    Attributes:
        pairs: ``[k, 2] int64`` rows, the most similar pair first.
        similarity: ``[k] float32`` their cosines.
        strongest: ``[C] float32``, the similarity of each row's closest pair, also of one that is not among the k;
            -2 where a row stands in none.
        compared: how many rows were compared with all others.
    """

    pairs: Tensor
    similarity: Tensor
    strongest: Tensor
    compared: int


def close_pairs(rows: Tensor, threshold: float, *, keep: int = 50, anchors: Tensor | None = None) -> ClosePairs:
    """Find pairs of rows whose cosine reaches ``threshold``.

    Args:
        rows: ``[C, D] float32`` unit vectors.
        threshold: cosine in [-1, 1].
        keep: how many pairs are returned, the most similar ones.
        anchors: ``[a] int64``, the rows that are compared with all; None for every row.
    """
    chosen = torch.arange(len(rows), device=rows.device) if anchors is None else anchors.to(rows.device)
    strongest = rows.new_full((len(rows),), -2.0)
    rank = torch.full((len(rows),), len(chosen), dtype=torch.int64, device=rows.device)
    rank[chosen] = torch.arange(len(chosen), device=rows.device)
    pairs, similarity = chosen.new_empty(0, 2), rows.new_empty(0)
    for at in range(0, len(chosen), QUERIES):
        left = chosen[at : at + QUERIES]
        for start in range(0, len(rows), CANDIDATES):
            right = torch.arange(start, min(start + CANDIDATES, len(rows)), device=rows.device)
            cosine = rows[left] @ rows[right].T  # [a, candidates]
            # Each pair once: an anchor meets a later anchor, or a row that is none.
            cosine.masked_fill_((cosine < threshold) | (rank[left][:, None] >= rank[right]), -2.0)
            hits = int((cosine > -2.0).sum())
            if not hits:
                continue
            strongest[left] = torch.maximum(strongest[left], cosine.amax(dim=1))
            strongest[right] = torch.maximum(strongest[right], cosine.amax(dim=0))
            values, flat = cosine.flatten().topk(min(keep, hits))
            new = torch.stack([left[flat // len(right)], right[flat % len(right)]], dim=1)
            similarity, order = torch.cat([similarity, values]).sort(descending=True, stable=True)
            pairs = torch.cat([pairs, new])[order][:keep]
            similarity = similarity[:keep]
    return ClosePairs(pairs, similarity, strongest, len(chosen))


def rms_cosine(rows: Tensor, seed: int = 0) -> float:
    """Return the root mean square cosine between different rows, of a seeded sample where there are many.

    Independent directions in D dimensions give ``1 / sqrt(D)``; rows on one line give 1.

    Args:
        rows: ``[C >= 2, D] float32`` unit vectors.
        seed: of the sample.
    """
    chosen = rows
    if len(rows) > SPREAD_SAMPLE:
        generator = torch.Generator().manual_seed(seed)
        chosen = rows[torch.randperm(len(rows), generator=generator)[:SPREAD_SAMPLE].to(rows.device)]
    gram = chosen.T.double() @ chosen.double()  # [D, D]; its squared norm is the sum of all squared cosines
    count = len(chosen)
    total = float(gram.square().sum()) - float(chosen.double().square().sum(dim=1).square().sum())
    return math.sqrt(max(total, 0.0) / (count * (count - 1)))


def chance_similarity(count: int, spread: float, expected: float = 0.001) -> float:
    """Return the cosine that independent rows reach with ``expected`` pairs, by chance alone.

    The share of pairs with a cosine above t is at most ``(1 - t^2)^((d - 1) / 2) / 2`` in d dimensions.

    Args:
        count: number of rows.
        spread: their :func:`rms_cosine`, which says in how many dimensions they effectively lie.
        expected: pairs above the returned cosine.
    """
    dimensions = max(1.0 / max(spread, 1e-6) ** 2, 2.0)
    share = min(4.0 * expected / max(count, 2) ** 2, 1.0)
    return math.sqrt(1.0 - share ** (2.0 / (dimensions - 1.0)))


def unit(vectors: Tensor) -> Tensor:
    """Normalise ``[n, D]``; zero vectors stay zero."""
    return F.normalize(vectors.float(), dim=1)
