"""Intervals of verification rates by drawing identities, for lists of tens of millions of pairs.

A replicate is that of :mod:`proxylesskd.evaluation.resample`: identities are drawn with replacement, and a pair of two
that were drawn ``a`` and ``b`` times counts ``a b`` times, one within an identity ``a`` times. To weigh 15.7 million
pairs a thousand times one by one takes minutes; but only few of them decide. So impostors are ranked once and cut into
blocks; the weight of a block in all replicates is one sparse product (sum over pairs of ``w_a w_b``), and only the
block in which a replicate's threshold falls is weighed pair by pair. TAR at a FAR is exact that way, to the last tie.
The area under the ROC takes the impostors of a block to weigh the same where a genuine pair falls among them: it is off
by less than such a block's share, which is a twentieth of the impostors that rank higher, and 65,536 pairs at most.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from proxylesskd.evaluation.roc import Bools, Floats, impostors_allowed
from proxylesskd.protocols.ijb_meta import Ints, TemplatePairs

GROWTH, MOST = 1.05, 1 << 16  # of blocks of ranked impostors
TOGETHER = 1024  # replicates at a time


def identities_of(pairs: TemplatePairs, subjects: Ints | None, count: int) -> Ints:
    """Return ``[T]`` an identity for each of ``count`` templates.

    Args:
        pairs: the comparisons.
        subjects: ``[T]`` who a template shows, -1 where that is unknown; used if it is known of all that are compared.
        count: number of templates T.

    Returns:
        The subjects; or, where some are unknown, the smallest position among the templates that genuine pairs join,
        directly or by way of others. Templates of one subject that no chain of genuine pairs joins count as two.
    """
    if subjects is not None and (subjects[pairs.first] >= 0).all() and (subjects[pairs.second] >= 0).all():
        return subjects
    first, second = pairs.first[pairs.same], pairs.second[pairs.same]
    joined = np.arange(count)
    while True:
        before = joined.copy()
        np.minimum.at(joined, first, before[second])
        np.minimum.at(joined, second, before[first])
        joined = joined[joined]  # whoever stands for another is stood for himself
        if (joined == before).all():
            return joined


@dataclass(frozen=True)
class _Kind:
    """The pairs of one kind, highest score first: ``scores [K]`` and the two units of each, ``[K] int32``."""

    scores: Floats
    first: npt.NDArray[np.int32]
    second: npt.NDArray[np.int32]

    def weights(self, drawn: Floats, part: slice = slice(None)) -> Floats:
        """Return how much some pairs weigh ``[…, K]`` where units were drawn ``[…, units + 1]`` times."""
        weights: Floats = drawn[..., self.first[part]] * drawn[..., self.second[part]]
        return weights


def bootstrap_verification(
    scores: Floats,
    pairs: TemplatePairs,
    identities: Ints,
    fars: Sequence[float],
    *,
    replicates: int = 1000,
    seed: int = 0,
) -> dict[str, Floats]:
    """Return ``[replicates]`` values of ``auc`` and of ``tar@far=…``.

    Args:
        scores: ``[P]`` similarities.
        pairs: the comparisons.
        identities: ``[T]`` of every template; only those that are compared are drawn.
        fars: false accept rates.
        replicates: drawn; one that happens to lack genuine or impostor pairs is not a number.
        seed: of the draws.
    """
    both, unit = np.unique(identities[np.flatnonzero(_compared(pairs, len(identities)))], return_inverse=True)
    of_template = np.full(len(identities), -1, np.int32)
    of_template[_compared(pairs, len(identities))] = unit
    genuine, impostor = (_ranked(scores, pairs, of_template, len(both), kind) for kind in (pairs.same, ~pairs.same))
    random = np.random.default_rng(seed)
    edges = _edges(len(impostor.scores))
    parts: list[dict[str, Floats]] = []
    for start in range(0, replicates, TOGETHER):
        drawn = _draw(random, len(both), min(TOGETHER, replicates - start))
        parts.append(_evaluate(genuine, impostor, edges, drawn, fars))
    return {name: np.concatenate([part[name] for part in parts]) for name in (parts[0] if parts else {})}


def _compared(pairs: TemplatePairs, count: int) -> Bools:
    present: Bools = (np.bincount(pairs.first, minlength=count) + np.bincount(pairs.second, minlength=count)) > 0
    return present


def _ranked(scores: Floats, pairs: TemplatePairs, unit: npt.NDArray[np.int32], units: int, kind: Bools) -> _Kind:
    """Rank the pairs of a kind; within one identity the second unit is one that is always there once."""
    chosen = np.flatnonzero(kind)
    chosen = chosen[np.argsort(-scores[chosen], kind="stable")]
    first, second = unit[pairs.first[chosen]], unit[pairs.second[chosen]]
    return _Kind(scores[chosen], first, np.where(first == second, np.int32(units), second))


def _draw(random: np.random.Generator, units: int, replicates: int) -> Floats:
    """Return ``[R, units + 1]`` how often each unit is drawn, and at last always 1."""
    rows = [np.bincount(random.integers(units, size=units), minlength=units + 1) for _ in range(replicates)]
    drawn = np.array(rows, dtype=np.float64)
    drawn[:, -1] = 1.0
    return drawn


def _edges(count: int) -> Ints:
    """Return where blocks of ranked impostors begin and the last ends: ever larger ones."""
    edges = [0]
    while edges[-1] < count:
        edges.append(min(count, edges[-1] + min(MOST, max(1, int(edges[-1] * (GROWTH - 1))))))
    return np.array(edges)


def _evaluate(genuine: _Kind, impostor: _Kind, edges: Ints, drawn: Floats, fars: Sequence[float]) -> dict[str, Floats]:
    """Return ``[R]`` values of every rate."""
    sums = np.zeros((len(edges), len(drawn)))  # [K + 1, R] weight of the impostors above each edge
    np.cumsum(_block_weights(impostor, edges, drawn), axis=0, out=sums[1:])
    chosen = [_first_refused(impostor, edges, sums, drawn, far) for far in fars]
    accepted = [_genuine_above(genuine, impostor, refused) for refused in chosen]
    places = _places(genuine, impostor)
    values = {name: np.full(len(drawn), np.nan) for name in ("auc", *(f"tar@far={float(far)!r}" for far in fars))}
    for row, times in enumerate(drawn):
        weights = genuine.weights(times)
        above = np.append(0.0, np.cumsum(weights))
        if above[-1] > 0 and sums[-1, row] > 0:
            lost = weights @ np.interp(places, edges, sums[:, row]).mean(axis=0)
            values["auc"][row] = 1.0 - lost / (above[-1] * sums[-1, row])
            for far, counts in zip(fars, accepted, strict=True):
                values[f"tar@far={float(far)!r}"][row] = above[counts[row]] / above[-1]
    return values


def _block_weights(impostor: _Kind, edges: Ints, drawn: Floats) -> Floats:
    """Return ``[K, R]`` the weight of every block: for each first unit, the seconds' draws are added, then weighed.

    Sums of draws are whole numbers far below 2^24, so float32 holds them exactly; their products are added in float64.
    """
    table = torch.from_numpy(np.ascontiguousarray(drawn.T, dtype=np.float32))  # [units + 1, R]
    sums = np.empty((len(edges) - 1, len(drawn)))
    for block, (start, end) in enumerate(pairwise(edges.tolist())):
        first = impostor.first[start:end]
        order = np.argsort(first, kind="stable")
        grouped = first[order]
        starts = np.flatnonzero(np.diff(grouped, prepend=-1))
        seconds = torch.from_numpy(impostor.second[start:end][order].astype(np.int64))
        added = F.embedding_bag(seconds, table, torch.from_numpy(starts), mode="sum").numpy()  # [S, R]
        sums[block] = np.einsum("sr,sr->r", added, table.numpy()[grouped[starts]], dtype=np.float64)
    return sums


def _first_refused(impostor: _Kind, edges: Ints, sums: Floats, drawn: Floats, far: float) -> Ints:
    """Return ``[R]`` the first impostor, by rank, whose weight exceeds what the rate allows; their number if none."""
    with np.errstate(invalid="ignore", divide="ignore"):
        most = np.nan_to_num(impostors_allowed(far, sums[-1]))
    refused = np.full(len(drawn), len(impostor.scores))
    blocks = (sums <= most).sum(axis=0) - 1
    for row in np.flatnonzero(blocks < len(edges) - 1):
        start, end = edges[blocks[row]], edges[blocks[row] + 1]
        upto = sums[blocks[row], row] + np.cumsum(impostor.weights(drawn[row], slice(start, end)))
        refused[row] = start + np.searchsorted(upto, most[row], side="right")
    return refused


def _genuine_above(genuine: _Kind, impostor: _Kind, refused: Ints) -> Ints:
    """Return how many genuine pairs score higher than each refused impostor: all where none is refused."""
    limits = np.append(impostor.scores, -np.inf)[refused]
    counts: Ints = np.searchsorted(-genuine.scores, -limits, side="left")
    return counts


def _places(genuine: _Kind, impostor: _Kind) -> Ints:
    """Return ``[2, G]`` how many impostor pairs score higher than each genuine pair, and how many as high or higher."""
    falling = -impostor.scores
    return np.stack([np.searchsorted(falling, -genuine.scores, side=side) for side in ("left", "right")])
